//! AEDAT 2.0 recordings of a DVS128, read and written.
//!
//! A header of lines that start with `#`, then records of 8 bytes: address and timestamp (microseconds), both
//! big-endian. Address bits: 15 special event, 14–8 y, 7–1 x, 0 polarity (0 = ON).

use anyhow::Result;
use pulp::{Arch, WithSimd};
use serde::Serialize;

use crate::exit::data;

const RECORD: usize = 8;
/// Records checked at once for unusual addresses.
const BLOCK: usize = 256;
const VERSION: &str = "#!AER-DAT";

/// One event, in SpikingJelly's orientation: `x = 127 − y bits`, `y = 127 − x bits`.
///
/// Kept as its record with address bits 14–0 inverted, which is that orientation: reading is one exclusive or.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Event(u64);

/// Address bits 14–0 of a record.
const INVERTED: u64 = 0x7fff << 32;

impl Event {
    /// At `t` microseconds, in column `x` and row `y` (both taken modulo 128), brighter (`on`) or darker.
    pub fn new(t: u32, x: u8, y: u8, on: bool) -> Self {
        let address = u64::from(x & 127) << 8 | u64::from(y & 127) << 1 | u64::from(on);
        Self(address << 32 | u64::from(t))
    }

    /// Timestamp as stored, in microseconds. It usually rises; nothing here trusts it to.
    pub fn t(self) -> u32 {
        self.0 as u32
    }

    /// Column, 0..128.
    pub fn x(self) -> u8 {
        (self.0 >> 40 & 127) as u8
    }

    /// Row, 0..128.
    pub fn y(self) -> u8 {
        (self.0 >> 33 & 127) as u8
    }

    /// Brighter (ON), or darker (OFF).
    pub fn on(self) -> bool {
        self.0 >> 32 & 1 == 1
    }

    /// From a record whose address has no bit above 14.
    #[inline(always)]
    fn from_word(word: u64) -> Self {
        Self(word ^ INVERTED)
    }
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Event")
            .field("t", &self.t())
            .field("x", &self.x())
            .field("y", &self.y())
            .field("on", &self.on())
            .finish()
    }
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
        let on = self.events.iter().filter(|event| event.on()).count();
        Summary {
            events: self.events.len(),
            on,
            off: self.events.len() - on,
            special: self.special,
            t_first: self.events.first().map_or(0, |event| event.t()),
            t_last: self.events.last().map_or(0, |event| event.t()),
            header_bytes: self.header_bytes,
        }
    }
}

/// Reads a recording; `name` is for the errors (exit 3): another format, by its name; a part of a record at the end,
/// with its byte; no events.
pub fn read(bytes: &[u8], name: &str) -> Result<Recording> {
    let (simd, mut warnings) = (Arch::new(), Vec::new());
    let header_bytes = header(bytes, name, &mut warnings)?;
    let records = &bytes[header_bytes..];
    let rest = records.len() % RECORD;
    if rest != 0 {
        return Err(data(format!(
            "{name} is cut off: {rest} bytes follow the last whole record, which ends at byte {}; fetch it again",
            bytes.len() - rest
        )));
    }
    let (mut events, mut special) = (Vec::with_capacity(records.len() / RECORD), 0);
    for (i, block) in records.chunks(BLOCK * RECORD).enumerate() {
        if !simd.dispatch(ReadBlock { block, events: &mut events }) {
            special += read_odd_block(block, header_bytes + i * BLOCK * RECORD, name, &mut events)?;
        }
    }
    if events.is_empty() {
        return Err(data(format!("{name} holds no events ({header_bytes} bytes of header, {special} special events)")));
    }
    let falls = simd.dispatch(CountFalls(&events));
    if falls > 0 {
        warnings.push(format!("{name}: the time falls at {falls} events; each fall is taken as no time passed"));
    }
    Ok(Recording { events, special, header_bytes, warnings })
}

/// The records of a block as numbers: address above timestamp.
#[inline(always)]
fn words(block: &[u8]) -> impl Iterator<Item = u64> {
    block.as_chunks::<RECORD>().0.iter().map(|record| u64::from_be_bytes(*record))
}

/// Reads a block whose addresses have no bit above 14; false, and nothing read, where one has.
struct ReadBlock<'a> {
    block: &'a [u8],
    events: &'a mut Vec<Event>,
}

impl WithSimd for ReadBlock<'_> {
    type Output = bool;
    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> bool {
        let plain = words(self.block).fold(0, |all, word| all | word) >> 47 == 0;
        if plain {
            self.events.extend(words(self.block).map(Event::from_word));
        }
        plain
    }
}

/// How often the time falls from one event to the next.
struct CountFalls<'a>(&'a [Event]);

impl WithSimd for CountFalls<'_> {
    type Output = usize;
    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> usize {
        let after = self.0.get(1..).unwrap_or_default();
        self.0.iter().zip(after).map(|(before, after)| usize::from(after.t() < before.t())).sum()
    }
}

/// Reads records of which some have address bits above 14; `at` is the byte of the first. Returns the special ones.
fn read_odd_block(block: &[u8], at: usize, name: &str, events: &mut Vec<Event>) -> Result<usize> {
    let mut special = 0;
    for (i, word) in words(block).enumerate() {
        let address = (word >> 32) as u32;
        if address & 0x8000 != 0 {
            special += 1;
        } else if address >> 16 != 0 {
            return Err(data(format!(
                "{name}: the address at byte {} is {address:#010x}, wider than the 16 bits of a DVS128; \
                 recordings of other cameras are not read",
                at + i * RECORD
            )));
        } else {
            events.push(Event::from_word(word));
        }
    }
    Ok(special)
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
        _ if name.ends_with(".bin") && bytes.len().is_multiple_of(5) => {
            return refuse("an N-MNIST/N-Caltech101 .bin file (5-byte records, no header)");
        }
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
        bytes.extend((event.0 ^ INVERTED).to_be_bytes());
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
        assert_eq!(recording.events, [Event::new(0, 60, 55, true), Event::new(7, 60, 55, false)]);
        assert_eq!(recording.header_bytes, 14);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let events: Vec<Event> =
            (0..500u32).map(|i| Event::new(i * i, (i * 7 % 128) as u8, (i * 11 % 128) as u8, i % 3 == 0)).collect();
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
        assert_eq!(recording.events.iter().map(|event| event.t()).collect::<Vec<_>>(), [9, 3]);
        assert!(recording.warnings[0].contains("falls at 1 events"));
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
