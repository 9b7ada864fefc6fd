use std::path::PathBuf;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Row {
    name: String,
    value: Option<f64>,
}

fn file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.csv");
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn rows_of(bytes: &[u8]) -> (Vec<Row>, Vec<String>) {
    let (_folder, path) = file(bytes);
    let table = read_csv(&path).unwrap();
    (table.rows, table.notes)
}

fn error_of(bytes: &[u8]) -> String {
    let (_folder, path) = file(bytes);
    format!("{:#}", read_csv::<Row>(&path).unwrap_err())
}

#[test]
fn an_empty_field_is_none_and_an_empty_file_has_no_rows() {
    assert_eq!(rows_of(b"name,value\na,\n").0, [Row { name: "a".into(), value: None }]);
    assert_eq!(rows_of(b"").0, []);
    assert_eq!(rows_of(b"name,value\n").0, []);
}

#[test]
fn a_torn_last_line_is_left_out_with_a_note() {
    // Cut in a number, in a field separator, in a character, and in a quoted field.
    for torn in [&b"b,0.9"[..], b"b", b"b\xc3", b"\"b"] {
        let (rows, notes) = rows_of(&[b"name,value\na,0.5\n", torn].concat());
        assert_eq!(rows, [Row { name: "a".into(), value: Some(0.5) }], "{torn:?}");
        assert_eq!(notes.len(), 1, "{torn:?}");
        assert!(notes[0].contains("x.csv:3: the last line is incomplete"), "{}", notes[0]);
    }
    assert!(rows_of(b"name,val").0.is_empty());
}

#[test]
fn lines_are_counted_right_after_windows_line_ends_blank_lines_and_quoted_newlines() {
    let error = error_of(b"name,value\r\na,0.5\r\nb,97 %\r\nc,1\r\n");
    assert!(error.contains("x.csv:3: column `value`"), "{error}");
    let error = error_of(b"name,value\n\n\na,0.5\n\nb,97 %\nc,1\n");
    assert!(error.contains("x.csv:6: column `value`"), "{error}");
    let error = error_of(b"name,value\n\"a\nb\r\nc\",0.5\n\"d\ne\",97 %\nc,1\n");
    assert!(error.contains("x.csv:5: column `value`"), "{error}");
    // A byte-order mark, as spreadsheets write it, is no part of the first column's name.
    assert_eq!(rows_of(b"\xef\xbb\xbfname,value\r\na,1\r\n").0, [Row { name: "a".into(), value: Some(1.0) }]);
}

#[test]
fn errors_name_file_line_and_column() {
    let error = error_of(b"name,value\na,0.5\nb,97 %\nc,1\n");
    assert!(error.contains("x.csv:3: column `value`: \"97 %\": invalid float literal"), "{error}");
    let error = error_of(b"name,value\na\nb,1\n");
    assert!(error.contains("x.csv:2: 1 fields where the header has 2"), "{error}");
    let error = error_of(b"nome,value\na,1\n");
    assert!(error.contains("missing field `name`: the header line lacks this column"), "{error}");
    let error = error_of(b"name,value\n\xff,1\nb,1\n");
    assert!(error.contains("x.csv:2: column `name` is not UTF-8"), "{error}");
    assert!(format!("{:#}", read_csv::<Row>(Path::new("absent.csv")).unwrap_err()).contains("opening absent.csv"));
}

#[test]
fn what_the_caller_refuses_gets_file_and_line() {
    let (_folder, path) = file(b"name,value\na,1\nb,2\n");
    let error = read_each(&path, |row: Row| if row.name == "b" { Err("no b".into()) } else { Ok(()) }).unwrap_err();
    assert!(error.to_string().ends_with("x.csv:3: no b"), "{error}");
}

#[test]
fn text_that_starts_like_a_formula_is_defused_and_numbers_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/x.csv");
    let names = ["=1+1", "+cmd", "-x", "@sum", "\tx", "\rx", "'=1", "'x", "x=1", "-1"];
    let rows: Vec<Row> = names.iter().map(|name| Row { name: name.to_string(), value: Some(-0.5) }).collect();
    write_csv(&path, &rows).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("name,value\n'=1+1,-0.5\n'+cmd,-0.5\n'-x,-0.5\n'@sum,-0.5\n"), "{text}");
    assert_eq!(read_csv::<Row>(&path).unwrap().rows, rows);
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "a temporary file was left behind");
}

proptest! {
    #[test]
    fn what_is_written_is_read(names in prop::collection::vec("['=+@,\"\n\r\ta-]{0,6}|.{0,8}", 0..6), value in prop::option::of(-1e9..1e9f64)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        let rows: Vec<Row> = names.into_iter().map(|name| Row { name, value }).collect();
        write_csv(&path, &rows).unwrap();
        let table = read_csv::<Row>(&path).unwrap();
        prop_assert_eq!(&table.rows, &rows);
        prop_assert!(table.notes.is_empty());
        for line in csv::ReaderBuilder::new().from_path(&path).unwrap().records() {
            let line = line.unwrap();
            prop_assert!(!line[0].starts_with(['=', '@', '\t', '\r']));
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for bytes in [bytes.clone(), [b"name,value\n", bytes.as_slice()].concat()] {
            let (_folder, path) = file(&bytes);
            let _ = read_csv::<Row>(&path);
        }
    }
}
