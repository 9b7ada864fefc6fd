//! results/README.md names every column that the files have.
#![allow(clippy::unwrap_used)]

mod synthetic;

#[test]
fn the_dictionary_has_every_column() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../results/README.md")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    synthetic::Synthetic::new(&["dspike"], &[2], 1).write(dir.path());
    let mut columns = 0;
    for file in ["rows", "curves", "anytime", "fdg", "layers", "fidelity", "membrane"] {
        let section =
            text.split(&format!("\n## {file}.csv\n")).nth(1).unwrap_or_else(|| panic!("no section {file}.csv"));
        let section = section.split("\n## ").next().unwrap();
        let csv = std::fs::read_to_string(dir.path().join(format!("{file}.csv"))).unwrap();
        for column in csv.lines().next().unwrap().split(',') {
            assert!(section.contains(&format!("`{column}`")), "{file}.csv: `{column}` is not in the dictionary");
            columns += 1;
        }
    }
    assert!(columns > 90);
}
