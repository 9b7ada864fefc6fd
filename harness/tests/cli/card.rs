//! scripts/cuda_card.sh without a card: what it finds, refuses and prints, on a stand-in for the binary.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn program(path: &Path, text: &str) {
    fs::write(path, format!("#!/usr/bin/env bash\n{text}")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A machine: a folder of programs that come first, a stand-in for the binary, wheels.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new(driver: &str, binary: &str) -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        fs::create_dir(machine.path("bin")).unwrap();
        let smi = if driver.is_empty() { "exit 9".into() } else { format!("echo '{driver}, a \"card\" of tests'") };
        program(&machine.path("bin/nvidia-smi"), &smi);
        program(&machine.path("bin/nsys"), "exit 1");
        let wheels = machine.path("site/nvidia/cu13/lib");
        fs::create_dir_all(&wheels).unwrap();
        for library in ["libcublas.so.13", "libcublasLt.so.13", "libcurand.so.10"] {
            fs::write(wheels.join(library), "").unwrap();
        }
        program(&machine.path("harness"), binary);
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/cuda_card.sh");
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("bash");
        command.arg(script).arg(self.path("harness")).args(arguments).env("PATH", path);
        command.env("PYTHONPATH", self.path("site")).env_remove("LD_LIBRARY_PATH").env_remove("PEER");
        command.output().unwrap()
    }
}

/// Answers every command as the binary would; `$LD_LIBRARY_PATH` comes back in each step's line.
const BINARY: &str = r#"
case "$1 $2" in
  "bench "*) echo "{\"command\": \"$*\", \"gpu\":\"named\", \"path\": \"$LD_LIBRARY_PATH\"}" ;;
  "selftest "*) echo '{"name": "sgd", "passed": true}'; echo '{"name": "loss", "passed": true}' ;;
  suite\ *)
    while [ $# -gt 0 ]; do [ "$1" != --out ] || out=$2; shift; done
    mkdir "$out"
    printf 'cell_id,top1_last,loss_last,train_seconds\nx,0.5,1.25,3\n' >"$out/rows.csv" ;;
esac
"#;

#[test]
fn a_machine_that_cannot_run_is_refused_in_a_sentence() {
    let sentence = "echo 'harness: no usable CUDA driver on this machine (libcuda.so.1 was not found)' >&2; exit 2";
    for (driver, binary, expected) in [
        ("", sentence, "no usable CUDA driver on this machine"),
        ("570.86.15", BINARY, "the driver is 570.86.15; the kernels need 580 or later"),
    ] {
        let output = Machine::new(driver, binary).run(&[]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected) && output.stdout.is_empty(), "{said}");
    }
    let machine = Machine::new("580.1", BINARY);
    fs::remove_file(machine.path("harness")).unwrap();
    let output = machine.run(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("scripts/cuda_build.sh makes it"));
}

#[test]
fn every_figure_is_in_one_json_line_and_wheels_are_found() {
    let machine = Machine::new("580.95.05", BINARY);
    fs::create_dir(machine.path("peer")).unwrap();
    fs::write(machine.path("peer/bench.py"), "import sys; print('{\"modes\": \"%s\"}' % sys.argv[-1])").unwrap();
    fs::remove_file(machine.path("bin/nsys")).unwrap();
    let output = machine.run(&[machine.path("peer").to_str().unwrap()]);
    let (out, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{said}\n{out}");
    assert_eq!(out.lines().count(), 1, "{out}");
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&json["card"], &json["driver"]), (&"a card of tests".into(), &"580.95.05".into()));
    let wheels = machine.path("site/nvidia/cu13/lib");
    assert_eq!(json["libraries"]["libcurand.so.10"], wheels.join("libcurand.so.10").to_str().unwrap());
    assert!(json["step_f32_t4"]["path"].as_str().unwrap().contains(wheels.to_str().unwrap()), "{out}");
    if json["libraries"]["libcudnn.so.9"].is_null() {
        assert!(said.contains("not found: libcudnn.so.9; pip install"), "{said}");
    }
    assert_eq!(json["selftest"]["checks"].as_array().unwrap().len(), 2);
    for precision in ["f32", "tf32", "bf16"] {
        for t in [4, 6] {
            let command = json[format!("step_{precision}_t{t}")]["command"].as_str().unwrap().to_string();
            let expected = format!("--width 64 --batch 128 --precision {precision} --time-steps {t}");
            assert!(command.contains(&expected), "{command}");
        }
        let command = json[format!("imagenet_stem_{precision}")]["command"].as_str().unwrap();
        assert!(command.contains("--imagenet-stem --batch 64"), "{command}");
    }
    assert!(json["fdg"]["command"].as_str().unwrap().starts_with("bench fdg --device cuda"));
    assert!(json["kernels"]["command"].as_str().unwrap().starts_with("bench kernels"));
    for device in ["cell_cuda", "cell_cpu"] {
        assert_eq!(json[device], serde_json::json!({ "top1_last": 0.5, "loss_last": 1.25, "train_seconds": 3 }));
    }
    assert_eq!(json["peer_plain+cl+compile+amp"]["modes"], "plain+cl+compile+amp");
}

#[test]
fn what_fails_is_null_and_the_exit_code_says_so() {
    let wrong = format!(
        "[ \"$1 $2\" != 'bench fdg' ] || exit 1\n[ \"$1\" != selftest ] || {{ echo '{{}}'; exit 1; }}\n{BINARY}"
    );
    let output = Machine::new("580.95.05", &wrong).run(&[]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(json["fdg"].is_null() && json["trace"].is_null() && json["selftest"]["passed"] == false, "{json}");
    assert!(json["step_bf16_t6"].is_object());
}
