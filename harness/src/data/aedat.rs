//! AEDAT 2.0 recordings of a DVS128, read and written.
//!
//! A header of lines that start with `#`, then records of 8 bytes: address and timestamp (microseconds), both
//! big-endian. Address bits: 15 special event, 14–8 y, 7–1 x, 0 polarity (0 = ON).

use anyhow::Result;
use serde::Serialize;

use crate::exit::data;

const RECORD: usize = 8;
const VERSION: &str = "#!AER-DAT";

/// One event, in SpikingJelly's orientation: `x = 127 − y bits`, `y = 127 − x bits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Timestamp as stored, in microseconds. It usually rises; nothing here trusts it to.
    pub t: u32,
    /// Column, 0..128.
    pub x: u8,
    /// Row, 0..128.
    pub y: u8,
    /// Brighter (ON), or darker (OFF).
    pub on: bool,
}

/// A recording, read whole.
#[derive(Clone, Debug)]
pub struct Recording {
    /// Every event that is not special, in the order of the file.
    pub events: Vec<Event>,
    /// Special events (bit 15: synchronisation inputs), skipped.
    pub special: usize,
    /// Bytes before the first record.
    pub header_bytes: usize,
    /// What was odd but readable, in sentences.
    pub warnings: Vec<String>,
}

/// What `data inspect` says of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Events that are not special.
    pub events: usize,
    /// Of these, ON.
    pub on: usize,
    /// Of these, OFF.
    pub off: usize,
    /// Special events (bit 15).
    pub special: usize,
    /// Timestamp of the first event, in microseconds.
    pub t_first: u32,
    /// Timestamp of the last event, in microseconds.
    pub t_last: u32,
    /// Bytes before the first record.
    pub header_bytes: usize,
}

impl Recording {
    /// Counts.
    pub fn summary(&self) -> Summary {
        let on = self.events.iter().filter(|event| event.on).count();
        Summary {
            events: self.events.len(),
            on,
            off: self.events.len() - on,
            special: self.special,
            t_first: self.events.first().map_or(0, |event| event.t),
            t_last: self.events.last().map_or(0, |event| event.t),
            header_bytes: self.header_bytes,
        }
    }
}

/// Reads a recording; `name` is for the errors (exit 3): another format, by its name; a part of a record at the end,
/// with its byte; no events.
pub fn read(bytes: &[u8], name: &str) -> Result<Recording> {
    let mut warnings = Vec::new();
    let header_bytes = header(bytes, name, &mut warnings)?;
    let records = &bytes[header_bytes..];
    let rest = records.len() % RECORD;
    if rest != 0 {
        return Err(data(format!(
            "{name} is cut off: {rest} bytes follow the last whole record, which ends at byte {}; fetch it again",
            bytes.len() - rest
        )));
    }
    let mut events = Vec::with_capacity(records.len() / RECORD);
    let mut special = 0;
    let mut falls = 0;
    let mut last = 0;
    for (i, record) in records.chunks_exact(RECORD).enumerate() {
        let word = u64::from_be_bytes(record.try_into().unwrap_or_default());
        let (address, t) = ((word >> 32) as u32, word as u32);
        if address & 0x8000 != 0 {
            special += 1;
            continue;
        }
        if address >> 16 != 0 {
            return Err(data(format!(
                "{name}: the address at byte {} is {address:#010x}, wider than the 16 bits of a DVS128; \
                 recordings of other cameras are not read",
                header_bytes + i * RECORD
            )));
        }
        falls += usize::from(t < last);
        last = t;
        events.push(Event {
            t,
            x: 127 - (address >> 8 & 0x7f) as u8,
            y: 127 - (address >> 1 & 0x7f) as u8,
            on: address & 1 == 0,
        });
    }
    if events.is_empty() {
        return Err(data(format!("{name} holds no events ({header_bytes} bytes of header, {special} special events)")));
    }
    if falls > 0 {
        warnings.push(format!("{name}: the time falls {falls} times; each fall is taken as no time passed"));
    }
    Ok(Recording { events, special, header_bytes, warnings })
}

/// The length of the header. Refuses other formats by name.
fn header(bytes: &[u8], name: &str, warnings: &mut Vec<String>) -> Result<usize> {
    let refuse = |what: &str| {
        Err(data(format!("{name} is {what}, not AEDAT 2.0; this harness reads CIFAR10-DVS's original AEDAT 2.0 files")))
    };
    match bytes {
        [] => return Err(data(format!("{name} is empty; fetch it again"))),
        [b'#', ..] => {}
        [b'%', ..] => return refuse("an ATIS/Prophesee .dat file (its header lines start with `%`)"),
        _ if name.ends_with(".bin") => return refuse("an N-MNIST/N-Caltech101 .bin file (5-byte records, no header)"),
        [b'P', b'K', ..] => return refuse("a zip archive"),
        [0x89, b'H', b'D', b'F', ..] => return refuse("an HDF5 file"),
        _ => return refuse(&format!("of an unknown format (its first byte is {:#04x}, not `#`)", bytes[0])),
    }
    if let Some(version) = bytes.strip_prefix(VERSION.as_bytes()) {
        let version: String = version.iter().take(3).map(|&byte| char::from(byte)).collect();
        if !version.starts_with("2.") {
            return refuse(&format!("AEDAT {}", version.escape_debug()));
        }
    } else {
        warnings.push(format!("{name} has no version line (`#!AER-DAT2.0`); it is read as AEDAT 2.0"));
    }
    let mut end = 0;
    while bytes.get(end) == Some(&b'#') {
        match bytes[end..].iter().position(|&byte| byte == b'\n') {
            Some(newline) => end += newline + 1,
            None => {
                return Err(data(format!("{name} is cut off in its header, at byte {}; fetch it again", bytes.len())));
            }
        }
    }
    Ok(end)
}

/// Writes events as AEDAT 2.0; `comments` become header lines after the version.
pub fn write(events: &[Event], comments: &[&str]) -> Vec<u8> {
    let mut bytes = format!("{VERSION}2.0\r\n").into_bytes();
    for comment in comments {
        bytes.extend(format!("# {}\r\n", comment.replace(['\r', '\n'], " ")).into_bytes());
    }
    bytes.reserve(events.len() * RECORD);
    for event in events {
        let address = u32::from(127 - event.x) << 8 | u32::from(127 - event.y) << 1 | u32::from(!event.on);
        bytes.extend((u64::from(address) << 32 | u64::from(event.t)).to_be_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::{Code, code_of};

    fn record(address: u32, t: u32) -> [u8; 8] {
        (u64::from(address) << 32 | u64::from(t)).to_be_bytes()
    }

    fn file(header: &str, records: &[[u8; 8]]) -> Vec<u8> {
        [header.as_bytes(), &records.concat()].concat()
    }

    #[test]
    fn address_bits_become_spikingjellys_x_y_and_polarity() {
        // The first record of MNIST-DVS's mnist_0_scale04_0001.aedat: address 0x4390, t = 0.
        let recording = read(&file("#!AER-DAT2.0\r\n", &[record(0x4390, 0), record(0x4391, 7)]), "a").unwrap();
        let first = Event { t: 0, x: 60, y: 55, on: true };
        assert_eq!(recording.events, [first, Event { t: 7, on: false, ..first }]);
        assert_eq!(recording.header_bytes, 14);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let events: Vec<Event> = (0..500u32)
            .map(|i| Event { t: i * i, x: (i * 7 % 128) as u8, y: (i * 11 % 128) as u8, on: i % 3 == 0 })
            .collect();
        let recording = read(&write(&events, &["two\nlines", "of comment"]), "a").unwrap();
        assert_eq!(recording.events, events);
        assert!(recording.warnings.is_empty());
    }

    #[test]
    fn special_events_are_skipped_and_counted_even_when_sign_extended() {
        let records = [record(0x8000, 1), record(0x0102, 2), record(0xffff_8001, 3)];
        let recording = read(&file("#!AER-DAT2.0\r\n", &records), "a").unwrap();
        assert_eq!((recording.events.len(), recording.special), (1, 2));
    }

    #[test]
    fn a_falling_time_is_read_with_a_warning() {
        let recording = read(&file("#!AER-DAT2.0\r\n", &[record(0, 9), record(0, 3)]), "a").unwrap();
        assert_eq!(recording.events.iter().map(|event| event.t).collect::<Vec<_>>(), [9, 3]);
        assert!(recording.warnings[0].contains("falls 1 times"));
    }

    #[test]
    fn unreadable_files_are_refused_by_what_is_wrong_with_them() {
        let good = record(0x10, 5);
        for (bytes, expected) in [
            (vec![], "is empty"),
            (file("#!AER-DAT3.1\r\n", &[good]), "is AEDAT 3.1,"),
            (file("#!AER-DAT4.0\r\n", &[good]), "is AEDAT 4.0,"),
            (file("% version 2\n", &[good]), "ATIS"),
            (file("PK\x03\x04", &[good]), "zip"),
            (file("#!AER-DAT2.0", &[]), "cut off in its header, at byte 12"),
            (file("#!AER-DAT2.0\r\n", &[]), "holds no events"),
            (file("#!AER-DAT2.0\r\n", &[record(0x8000, 1)]), "1 special"),
            (file("#!AER-DAT2.0\r\n", &[record(0x10000, 1)]), "address at byte 14 is 0x00010000"),
            (
                [file("#!AER-DAT2.0\r\n", &[good]), vec![0; 5]].concat(),
                "5 bytes follow the last whole record, which ends at byte 22",
            ),
        ] {
            let error = read(&bytes, "a.aedat").unwrap_err();
            assert_eq!(code_of(&error), Code::Data);
            assert!(error.to_string().contains(expected), "{error} lacks `{expected}`");
        }
    }
}
