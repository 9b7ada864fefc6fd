#!/usr/bin/env node
// Opens a rendered report in headless Chromium and checks what a reader relies on: no console error, no network
// request, nothing wider than the window at 1280, 390 and 360 pixels, filters, sorting and links that work, legend entries
// that hide their lines, an address that keeps the filters, tables that download, and no finding of axe-core
// (contrast, names, roles) in light and dark.
//
//   npm install --prefix /tmp/browser puppeteer-core axe-core
//   NODE_PATH=/tmp/browser/node_modules node scripts/check_report.mjs results/<suite>/report/index.html [screenshots/]
//
// Needs Debian's `chromium` (or CHROMIUM=/path). Exits 1 and names each problem.
import { createRequire } from "node:module";
import { mkdirSync, mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const require = createRequire(join(process.env.NODE_PATH ?? ".", "x.js"));
const puppeteer = require("puppeteer-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const [file, shots] = process.argv.slice(2);
if (!file) {
  console.error("usage: check_report.mjs report/index.html [folder for screenshots]");
  process.exit(2);
}
const url = pathToFileURL(resolve(file)).href;
if (shots) mkdirSync(shots, { recursive: true });

const problems = [];
const expect = (right, problem) => right || problems.push(problem);

const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  userDataDir: mkdtempSync(join(tmpdir(), "report-")),
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
  ],
});

async function open(width, scheme, hash = "") {
  const page = await browser.newPage();
  page.on("console", (message) => message.type() === "error" && problems.push(`console: ${message.text()}`));
  page.on("pageerror", (error) => problems.push(`script: ${error.message}`));
  page.on("request", (request) => request.url().split("#")[0] === url || problems.push(`request: ${request.url()}`));
  await page.setViewport({ width, height: 900 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await page.goto(url + hash, { waitUntil: "load", timeout: 120_000 });
  return page;
}

for (const [width, scheme] of [[1280, "light"], [1280, "dark"], [390, "light"], [360, "dark"]]) {
  const view = `${width} px, ${scheme}`;
  const page = await open(width, scheme);
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  expect(overflow <= 0, `${view}: the page is ${overflow} px wider than the window`);
  // The report's own policy forbids foreign scripts; axe runs in an isolated evaluation, not in a script element.
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  for (const { id, help, nodes } of violations) {
    problems.push(`${view}: axe ${id}: ${help}, ${nodes.length} times, e.g. ${nodes[0].html.slice(0, 160)} ${nodes[0].any[0]?.message ?? ""}`);
  }
  if (shots) await page.screenshot({ path: join(shots, `${width}-${scheme}.png`), fullPage: true });
  await page.close();
}

const page = await open(1280, "light");
const state = () =>
  page.evaluate(() => ({
    rows: [...document.querySelectorAll("tr[data-dataset]")].filter((row) => row.style.display !== "none").length,
    figures: [...document.querySelectorAll("figure")].filter((figure) => figure.style.display !== "none").length,
    lines: [...document.querySelectorAll("svg g[data-method]")].filter((line) => line.style.display !== "none").length,
  }));
const before = await state();
for (const [key, part] of [["dataset", "rows"], ["method", "lines"]]) {
  const select = `select[data-filter=${key}]`;
  const last = await page.$eval(select, (node) => node.options[node.options.length - 1].value);
  await page.select(select, last);
  const filtered = await state();
  expect(filtered[part] > 0 && filtered[part] < before[part], `filter by ${key} ${last}: ${before[part]} → ${filtered[part]} ${part}`);
  await page.select(select, "");
  expect(JSON.stringify(await state()) === JSON.stringify(before), `filter by ${key}: "all" does not restore everything`);
}

const toggles = await page.evaluate(() => {
  const lost = [];
  for (const svg of document.querySelectorAll("figure svg")) {
    const keys = [...svg.querySelectorAll("g.key")];
    if (keys.length < 2) continue;
    const key = keys[keys.length - 1];
    const lines = () => [...svg.querySelectorAll(`g[data-series="${key.dataset.series}"]:not(.key)`)];
    const hidden = () => lines().length > 0 && lines().every((line) => getComputedStyle(line).display === "none");
    const press = (name) => key.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true }));
    key.dispatchEvent(new MouseEvent("click", { bubbles: true }));
    const clicked = hidden() && key.getAttribute("aria-pressed") === "false";
    press("Enter");
    const entered = !hidden() && key.getAttribute("aria-pressed") === "true";
    press(" ");
    const spaced = hidden();
    press(" ");
    const named = key.getAttribute("role") === "button" && key.getAttribute("tabindex") === "0";
    if (!(clicked && entered && spaced && named)) lost.push(svg.getAttribute("aria-label"));
  }
  return lost;
});
for (const label of toggles) problems.push(`a legend entry does not hide and show its line: ${label}`);

{
  const dataset = await page.$eval("select[data-filter=dataset]", (node) => node.options[1].value);
  const method = await page.$eval("select[data-filter=method]", (node) => node.options[1].value);
  await page.select("select[data-filter=dataset]", dataset);
  await page.select("select[data-filter=method]", method);
  const address = page.url();
  const hash = new URLSearchParams(new URL(address).hash.slice(1));
  expect(hash.get("dataset") === dataset && hash.get("method") === method, `the address does not keep the filters: ${address}`);
  const filtered = await state();
  const other = await open(1280, "light", new URL(address).hash);
  const restored = await other.evaluate(() => [...document.querySelectorAll("select[data-filter]")].map((select) => select.value));
  expect(JSON.stringify(restored) === JSON.stringify([dataset, method]), `a permalink does not restore the filters: ${restored}`);
  const rows = await other.evaluate(() => [...document.querySelectorAll("tr[data-dataset]")].filter((row) => row.style.display !== "none").length);
  expect(rows === filtered.rows, `a permalink shows ${rows} rows, the filter ${filtered.rows}`);
  await other.evaluate(() => document.querySelector('nav a[href="#cost"]').click());
  await new Promise((done) => setTimeout(done, 200));
  const place = await other.evaluate(() => document.getElementById("cost").getBoundingClientRect().top);
  expect(Math.abs(place) < 200, `a section's link leaves the section at ${place} px`);
  expect(other.url().includes("#cost&") && other.url().includes("dataset="), `a section's link loses the filters: ${other.url()}`);
  await other.close();
  const both = await open(1280, "light", "#cells&dataset=" + encodeURIComponent(dataset));
  const top = await both.evaluate(() => document.getElementById("cells").getBoundingClientRect().top);
  expect(Math.abs(top) < 200, `an anchor beside a filter leaves its section at ${top} px`);
  await both.close();
  await page.select("select[data-filter=dataset]", "");
  await page.select("select[data-filter=method]", "");
}

const downloads = await page.evaluate(async () => {
  const blobs = [];
  URL.createObjectURL = (blob) => (blobs.push(blob), "blob:none");
  const click = HTMLAnchorElement.prototype.click;
  HTMLAnchorElement.prototype.click = () => {};
  const wrong = [];
  for (const button of document.querySelectorAll("button.csv")) {
    button.click();
    const text = await blobs.pop()?.text();
    const rows = button.parentNode.querySelectorAll("tbody tr").length;
    // No cell holds a line break, so lines are rows.
    if (text?.trim().split("\r\n").length !== rows + 1) wrong.push(button.dataset.file);
  }
  HTMLAnchorElement.prototype.click = click;
  return { wrong, count: document.querySelectorAll("button.csv").length, tables: document.querySelectorAll("table").length };
});
expect(downloads.wrong.length === 0, `tables that do not download whole: ${downloads.wrong}`);
expect(downloads.count === downloads.tables, `${downloads.count} download buttons for ${downloads.tables} tables`);

const sorted = await page.evaluate(() => {
  const table = document.querySelector("#accuracy table");
  const column = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent.startsWith("top-1"));
  const values = () => [...table.tBodies[0].rows].map((row) => Number(row.cells[column].dataset.sort));
  const ordered = (list, sign) => list.every((value, index) => index === 0 || sign * (value - list[index - 1]) >= 0);
  const button = table.tHead.rows[0].cells[column]?.querySelector("button");
  if (!button) return false;
  button.click();
  const up = ordered(values(), 1);
  button.click();
  return up && ordered(values(), -1);
});
expect(sorted, "a click on a column's head does not sort it up, then down");

const opened = await page.evaluate(async () => {
  const link = document.querySelector('#accuracy td a[href^="#cell-"]');
  link.click();
  await new Promise((done) => setTimeout(done, 200));
  const row = document.getElementById(decodeURIComponent(link.hash.slice(1)));
  return Boolean(row?.closest("details")?.open);
});
expect(opened, "a number's link does not open the row that it leads to");

const dead = await page.evaluate(() =>
  [...document.querySelectorAll('a[href^="#"]')].filter((link) => !document.getElementById(decodeURIComponent(link.hash.slice(1)))).length,
);
expect(dead === 0, `${dead} links lead nowhere`);
const unnamed = await page.evaluate(() => [...document.querySelectorAll("figure svg")].filter((svg) => !svg.getAttribute("aria-label")).length);
expect(unnamed === 0, `${unnamed} plots have no text for those who do not see them`);
if (shots) await page.pdf({ path: join(shots, "print.pdf"), format: "A4", timeout: 120_000 });
await browser.close();

console.log(JSON.stringify({ file, ...before, problems }));
for (const problem of problems) console.error(`PROBLEM ${problem}`);
process.exit(problems.length ? 1 : 0);
