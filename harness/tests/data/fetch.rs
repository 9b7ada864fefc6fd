//! Fetching, against a local HTTP server with every fault a real one has.

use crate::{BATCHES, printed};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::data::DatasetName;
use harness::data::catalog::{Entry, parse};
use harness::data::commands::{FetchOptions, fetch_entry, verify_entry};
use harness::exit::{Code, code_of};
use md5::{Digest, Md5};
use sha2::Sha256;

/// How a request is answered.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    /// A few bytes at a time.
    Throttled,
    /// The connection ends after this many bytes of the body.
    CutAfter(usize),
    /// Says it is one byte longer.
    WrongLength,
    /// A web page, status 200.
    Html,
    /// A web page that does not say so in its header.
    UnlabelledHtml,
    /// One byte is another one.
    Flipped,
    /// Ignores `Range`.
    NoRanges,
    Status(u16),
}

/// Serves `body`; request i meets `faults[i]` (the last one for ever). Remembers the `Range` of each request.
struct Server {
    url: String,
    ranges: Arc<Mutex<Vec<Option<usize>>>>,
}

impl Server {
    fn new(body: Vec<u8>, faults: &'static [Fault]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/cifar-10-binary.tar.gz", listener.local_addr().unwrap());
        let ranges = Arc::new(Mutex::new(Vec::new()));
        let seen = ranges.clone();
        std::thread::spawn(move || {
            for (i, stream) in listener.incoming().enumerate() {
                let fault = faults.get(i).or(faults.last()).copied().unwrap_or(Fault::None);
                let _ = answer(stream.unwrap(), &body, fault, &seen);
            }
        });
        Self { url, ranges }
    }

    fn ranges(&self) -> Vec<Option<usize>> {
        self.ranges.lock().unwrap().clone()
    }
}

fn answer(mut stream: TcpStream, body: &[u8], fault: Fault, seen: &Mutex<Vec<Option<usize>>>) -> std::io::Result<()> {
    let mut range = None;
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(from) = line.strip_prefix("range: bytes=") {
            range = from.trim_end_matches('-').parse().ok();
        }
    }
    seen.lock().unwrap().push(range);
    let page = b"<!DOCTYPE html><html>please log in</html>";
    let start = if matches!(fault, Fault::NoRanges) { 0 } else { range.unwrap_or(0) };
    let status = if start > 0 {
        format!("206 Partial Content\r\nContent-Range: bytes {start}-{}/{}", body.len() - 1, body.len())
    } else {
        "200 OK".into()
    };
    let head = |status: &str, length: usize, kind: &str| {
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n")
    };
    let rest = &body[start..];
    let binary = "application/octet-stream";
    match fault {
        Fault::Status(code) => write!(stream, "{}", head(&format!("{code} No"), 0, binary)),
        Fault::Html => {
            stream.write_all(&[head("200 OK", page.len(), "text/html; charset=utf-8").as_bytes(), page].concat())
        }
        Fault::UnlabelledHtml => {
            // Without a length, as a chunk-less HTTP/1.0 server would: the sniffing must find it.
            write!(stream, "HTTP/1.0 200 OK\r\nContent-Type: {binary}\r\n\r\n")?;
            stream.write_all(page)
        }
        Fault::WrongLength => stream.write_all(&[head(&status, rest.len() + 1, binary).as_bytes(), rest].concat()),
        Fault::CutAfter(n) => {
            stream.write_all(&[head(&status, rest.len(), binary).as_bytes(), &rest[..n.min(rest.len())]].concat())
        }
        Fault::Throttled => {
            write!(stream, "{}", head(&status, rest.len(), binary))?;
            for bytes in rest.chunks(rest.len() / 20 + 1) {
                stream.write_all(bytes)?;
                stream.flush()?;
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        }
        Fault::Flipped => {
            let mut flipped = rest.to_vec();
            let last = flipped.len() - 1;
            flipped[last] ^= 1;
            stream.write_all(&[head(&status, flipped.len(), binary).as_bytes(), &flipped].concat())
        }
        Fault::None | Fault::NoRanges => {
            stream.write_all(&[head(&status, rest.len(), binary).as_bytes(), rest].concat())
        }
    }
}

/// A batch file of two records, which does not compress to nothing.
fn batch(seed: u32) -> Vec<u8> {
    let mut state = seed;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..2).flat_map(|i| std::iter::once(i).chain((0..3072).map(|_| byte()).collect::<Vec<_>>())).collect()
}

fn tar_gz(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let mut add = |name: &str, kind: tar::EntryType, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        // Written into the header as it is: `set_path` would refuse the paths that must be refused in reading.
        let short = &name.as_bytes()[..name.len().min(100)];
        header.as_old_mut().name[..short.len()].copy_from_slice(short);
        header.set_cksum();
        tar.append(&header, bytes).unwrap();
    };
    for (name, bytes) in files {
        if name.len() > 100 {
            add("././@LongLink", tar::EntryType::GNULongName, name.as_bytes());
        }
        add(name, tar::EntryType::Regular, bytes);
    }
    tar.into_inner().unwrap().finish().unwrap()
}

fn md5(bytes: &[u8]) -> String {
    Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn cifar_archive() -> Vec<u8> {
    let files: Vec<(String, Vec<u8>)> =
        (1..).zip(BATCHES).map(|(i, name)| (format!("cifar-10-batches-bin/{name}"), batch(i))).collect();
    tar_gz(&files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect::<Vec<_>>())
}

/// An entry for `archive`, with the members of [`cifar_archive`].
fn entry(archive: &[u8], urls: &[&str]) -> Entry {
    let mut text = format!(
        "[[dataset]]\nname = 'cifar10'\nbytes = 1\nterms = 'none'\nhome = 'here'\n[[dataset.archive]]\n\
         file = 'cifar-10-binary.tar.gz'\ninto = ''\nbytes = {}\nmd5 = '{}'\nurls = {urls:?}\n",
        archive.len(),
        md5(archive)
    );
    for (i, name) in (1..).zip(BATCHES) {
        text += &format!("[[dataset.member]]\nfile = '{name}'\nbytes = 6146\nmd5 = '{}'\n", md5(&batch(i)));
    }
    parse(&text).unwrap().remove(0)
}

struct Here {
    dir: tempfile::TempDir,
    options: FetchOptions,
}

impl Here {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().to_path_buf();
        Self { dir, options: FetchOptions { data_dir, from: None, offline: false, pause: Duration::from_millis(1) } }
    }

    fn fetch(&self, entry: &Entry) -> anyhow::Result<String> {
        let mut out = Vec::new();
        fetch_entry(entry, &self.options, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn refusal(&self, entry: &Entry) -> String {
        let error = self.fetch(entry).unwrap_err();
        assert_eq!(code_of(&error), Code::Data, "{error:#}");
        assert!(!self.folder().exists(), "nothing is unpacked of a bad archive");
        error.to_string()
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("cifar-10-batches-bin")
    }

    fn part(&self) -> PathBuf {
        self.dir.path().join("cifar-10-binary.tar.gz.part")
    }
}

#[test]
fn a_good_or_slow_server_gives_a_complete_folder_that_is_not_fetched_twice() {
    for faults in [&[Fault::None], &[Fault::Throttled]] {
        let (archive, here) = (cifar_archive(), Here::new());
        let server = Server::new(archive.clone(), faults);
        let entry = entry(&archive, &[&server.url]);
        assert!(here.fetch(&entry).unwrap().contains("cifar10 is complete in"));
        assert_eq!(std::fs::read(here.folder().join("data_batch_2.bin")).unwrap(), batch(2));
        let sums = std::fs::read_to_string(here.folder().join("SHA256SUMS")).unwrap();
        assert!(sums.lines().count() == 6 && sums.contains("  test_batch.bin"), "{sums}");
        assert!(here.fetch(&entry).unwrap().contains("is here already"));
        assert_eq!(server.ranges(), [None]);
        let mut left: Vec<_> = std::fs::read_dir(here.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".cifar-10-binary.tar.gz.unpacked", "cifar-10-batches-bin"]);
    }
}

#[test]
fn a_connection_cut_off_is_resumed_where_it_ended() {
    let (archive, here) = (cifar_archive(), Here::new());
    let server = Server::new(archive.clone(), &[Fault::CutAfter(1000), Fault::CutAfter(500), Fault::None]);
    here.fetch(&entry(&archive, &[&server.url])).unwrap();
    assert_eq!(server.ranges(), [None, Some(1000), Some(1500)]);
    assert_eq!(std::fs::read(here.folder().join("test_batch.bin")).unwrap(), batch(6));
}

#[test]
fn what_arrived_is_kept_for_the_next_run() {
    let (archive, here) = (cifar_archive(), Here::new());
    let dead = Server::new(archive.clone(), &[Fault::CutAfter(2000), Fault::CutAfter(0)]);
    let message = here.refusal(&entry(&archive, &[&dead.url]));
    assert!(message.contains("2000 bytes are kept; run this again to go on"), "{message}");
    let alive = Server::new(archive.clone(), &[Fault::None]);
    here.fetch(&entry(&archive, &[&alive.url])).unwrap();
    assert_eq!(alive.ranges(), [Some(2000)]);
}

#[test]
fn a_server_without_ranges_is_read_from_the_start() {
    let (archive, here) = (cifar_archive(), Here::new());
    std::fs::write(here.part(), &archive[..700]).unwrap();
    let server = Server::new(archive.clone(), &[Fault::NoRanges]);
    here.fetch(&entry(&archive, &[&server.url])).unwrap();
    assert_eq!(server.ranges(), [Some(700)]);
}

#[test]
fn a_wrong_part_is_found_out_and_fetched_anew() {
    let (archive, here) = (cifar_archive(), Here::new());
    std::fs::write(here.part(), vec![7; 700]).unwrap();
    let server = Server::new(archive.clone(), &[Fault::None]);
    here.fetch(&entry(&archive, &[&server.url])).unwrap();
    assert_eq!(server.ranges(), [Some(700), None]);
}

#[test]
fn a_bad_mirror_is_named_with_its_fault_and_the_next_one_is_taken() {
    let archive = cifar_archive();
    for (faults, expected) in [
        (&[Fault::WrongLength][..], "it offers"),
        (&[Fault::Html], "it gives a web page"),
        (&[Fault::UnlabelledHtml], "it gives a web page"),
        (&[Fault::Flipped], "the file it gives is not the official one: its MD5 is"),
        (&[Fault::Status(404)], "it answers 404"),
        (&[Fault::Status(503)], "it answers 503"),
    ] {
        let here = Here::new();
        let bad = Server::new(archive.clone(), faults);
        let message = here.refusal(&entry(&archive, &[&bad.url]));
        assert!(message.contains(&bad.url) && message.contains(expected), "{faults:?}: {message}");
        assert!(!here.part().exists(), "{faults:?}");
        let good = Server::new(archive.clone(), &[Fault::None]);
        here.fetch(&entry(&archive, &[&bad.url, &good.url])).unwrap();
    }
}

#[test]
fn a_copy_of_ones_own_is_checked_used_and_kept() {
    let archive = cifar_archive();
    let mut here = Here::new();
    let copies = tempfile::tempdir().unwrap();
    let copy = copies.path().join("cifar-10-binary.tar.gz");
    here.options.from = Some(copy.display().to_string());
    here.options.offline = true;
    let message = here.refusal(&entry(&archive, &[]));
    assert!(message.contains("there is no file") && message.contains("cifar-10-binary.tar.gz"), "{message}");
    std::fs::write(&copy, &archive[..50]).unwrap();
    let message = here.refusal(&entry(&archive, &[]));
    assert!(message.contains("is not the official cifar-10-binary.tar.gz: it has 50 bytes"), "{message}");
    std::fs::write(&copy, &archive).unwrap();
    here.fetch(&entry(&archive, &[])).unwrap();
    assert!(copy.exists() && here.folder().exists());
}

#[test]
fn offline_never_asks_a_server() {
    let archive = cifar_archive();
    let mut here = Here::new();
    here.options.offline = true;
    let server = Server::new(archive.clone(), &[Fault::None]);
    let entry = entry(&archive, &[&server.url]);
    assert!(here.refusal(&entry).contains("`--offline` forbids"));
    here.options.from = Some(server.url.clone());
    assert!(here.refusal(&entry).contains("`--offline` forbids"));
    assert!(server.ranges().is_empty());
}

#[test]
fn archives_that_lead_out_or_overflow_are_refused() {
    let bomb = vec![0; 80 << 20];
    let long_name = String::from_utf8(vec![b'n'; 80 << 20]).unwrap();
    for (files, expected) in [
        (vec![("../outside.bin", vec![1])], "leads out of its folder"),
        (vec![("/tmp/outside.bin", vec![1])], "leads out of its folder"),
        (vec![("cifar-10-batches-bin/a", bomb)], "much more comes out of it"),
        (vec![(long_name.as_str(), vec![1])], "much more comes out of it"),
        (vec![("a/b", vec![1]), ("a/b", vec![2])], "cannot be unpacked"),
        (vec![], "holds no files"),
    ] {
        let archive = tar_gz(&files);
        let mut here = Here::new();
        let copy = tempfile::NamedTempFile::with_suffix(".tar.gz").unwrap();
        std::fs::write(copy.path(), &archive).unwrap();
        here.options.from = Some(copy.path().display().to_string());
        let message = here.refusal(&entry(&archive, &[]));
        assert!(message.contains(expected), "{message}");
        let left: Vec<_> = std::fs::read_dir(here.dir.path()).unwrap().collect();
        assert!(left.is_empty() && !here.dir.path().join("../outside.bin").exists(), "{left:?}");
    }
}

#[test]
fn imagenet_and_embedded_sets_are_explained() {
    let here = Here::new();
    let compiled_in = parse(include_str!("../../../suites/mirrors.toml")).unwrap();
    let text = |name| here.fetch(compiled_in.iter().find(|entry| entry.name == name).unwrap()).unwrap();
    let imagenet = text(DatasetName::ImageNet);
    assert!(imagenet.contains("ILSVRC2012_img_train.tar") && imagenet.contains("non-commercial"), "{imagenet}");
    assert!(text(DatasetName::SignDigits).contains("nothing to fetch"));
}

#[test]
fn verify_finds_one_flipped_bit_by_its_checksum() {
    let (archive, here) = (cifar_archive(), Here::new());
    let entry = entry(&archive, &[]);
    std::fs::create_dir(here.folder()).unwrap();
    (1..).zip(BATCHES).for_each(|(i, name)| std::fs::write(here.folder().join(name), batch(i)).unwrap());
    let (out, error) = printed(|out| verify_entry(&entry, Some(&here.folder()), out));
    assert!(error.is_none() && out.contains("6 files are good"), "{out}");
    let mut flipped = batch(4);
    flipped[3000] ^= 4;
    std::fs::write(here.folder().join("data_batch_4.bin"), &flipped).unwrap();
    let (out, error) = printed(|out| verify_entry(&entry, Some(&here.folder()), out));
    assert_eq!(out.lines().count(), 1);
    assert!(out.contains("data_batch_4.bin: its MD5 is"), "{out}");
    assert_eq!(code_of(&error.unwrap()), Code::Data);

    // A list of sums above the folder, as collections of data sets have one, names the file too.
    let sum = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let listed = here.folder().strip_prefix(here.dir.path()).unwrap().join("data_batch_4.bin");
    let list = here.dir.path().join("SHA256SUMS");
    std::fs::write(&list, format!("{}  ./{}\n", sum(&batch(4)), listed.display())).unwrap();
    let (out, _) = printed(|out| verify_entry(&entry, Some(&here.folder()), out));
    assert!(out.contains(&format!("data_batch_4.bin: its SHA-256 is {}", sum(&flipped))), "{out}");
    std::fs::write(&list, "no sum\n").unwrap();
    let (_, error) = printed(|out| verify_entry(&entry, Some(&here.folder()), out));
    assert!(error.unwrap().to_string().contains("SHA256SUMS line 1: expected a SHA-256 and a path"));

    let archive = here.dir.path().join("cifar-10-binary.tar.gz");
    std::fs::write(&archive, &cifar_archive()[1..]).unwrap();
    let (out, error) = printed(|out| verify_entry(&entry, Some(&archive), out));
    assert!(error.is_some() && out.contains("cifar-10-binary.tar.gz: it has"), "{out}");
}
