//! Reading and writing the result files: errors name file, line and column; writes are atomic and durable.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use csv::{ByteRecord, DeserializeErrorKind, ErrorKind, Reader, ReaderBuilder, StringRecord, WriterBuilder};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The rows of a CSV file, and what a reader of the report must know about how they were read.
#[derive(Debug)]
pub struct Table<T> {
    /// Every complete row, in file order.
    pub rows: Vec<T>,
    /// Sentences, e.g. that a torn last line was left out.
    pub notes: Vec<String>,
}

/// Reads a whole CSV file. An empty file has no rows. See [`read_each`] for what is an error.
pub fn read_csv<T: DeserializeOwned>(path: &Path) -> Result<Table<T>> {
    let mut rows = Vec::new();
    let notes = read_each(path, |row| {
        rows.push(row);
        Ok(())
    })?;
    Ok(Table { rows, notes })
}

/// Streams a CSV file through `each`, and returns notes. A last line without its newline is a torn write: its values
/// may be cut short (0.95 read as 0.9), so it is left out with a note. Every other bad line is an error; so is what
/// `each` refuses.
pub fn read_each<T: DeserializeOwned>(path: &Path, each: impl FnMut(T) -> Result<(), String>) -> Result<Vec<String>> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    read_each_of(file, path, each)
}

/// As [`read_each`], from any source; `path` is for the errors.
pub fn read_each_of<T: DeserializeOwned>(
    file: impl Read + Seek,
    path: &Path,
    mut each: impl FnMut(T) -> Result<(), String>,
) -> Result<Vec<String>> {
    records(file, path, |headers, fields, line| {
        let row = parse(path, headers, fields, line)?;
        each(row).map_err(|problem| anyhow!("{}:{line}: {problem}", path.display()))
    })
}

/// Streams the complete lines of a CSV file through `each` as (header, fields, line number), and returns notes.
pub(crate) fn records(
    mut file: impl Read + Seek,
    path: &Path,
    mut each: impl FnMut(&StringRecord, &StringRecord, u64) -> Result<()>,
) -> Result<Vec<String>> {
    let shown = path.display();
    let torn = !ends_with_newline(&mut file).with_context(|| format!("reading {shown}"))?;
    let mut reader = ReaderBuilder::new().flexible(true).from_reader(LineIndex::new(file));
    let headers = reader.headers().map_err(|error| csv_error(path, error))?.clone();
    if torn && !headers.is_empty() && reader.is_done() {
        return Ok(vec![format!("{shown}: only a torn header; read as empty")]);
    }
    // One record of lookahead, undecoded: only the last one may be torn, even in the middle of a character.
    let (mut record, mut next) = ((ByteRecord::new(), 0), (ByteRecord::new(), 0));
    let mut more = read_numbered(&mut reader, &mut record).map_err(|error| csv_error(path, error))?;
    while more {
        more = read_numbered(&mut reader, &mut next).map_err(|error| csv_error(path, error))?;
        let (fields, line) = &record;
        if !more && torn {
            return Ok(vec![torn_note(path, *line)]);
        }
        each(&headers, &decode(path, fields, *line, &headers)?, *line)?;
        std::mem::swap(&mut record, &mut next);
    }
    Ok(Vec::new())
}

/// Reads a record and the number of the line on which it begins.
///
/// The reader's own line number is that of any blank lines above the record, and one too low after `\r\n`. So the
/// line is counted from where the record ends, less the newlines within its fields.
fn read_numbered(reader: &mut Reader<LineIndex<impl Read>>, record: &mut (ByteRecord, u64)) -> csv::Result<bool> {
    let more = reader.read_byte_record(&mut record.0)?;
    let within = record.0.as_slice().iter().filter(|&&byte| byte == b'\n').count() as u64;
    let end = reader.position().byte().saturating_sub(1);
    record.1 = reader.get_ref().line_of(end).saturating_sub(within);
    Ok(more)
}

/// Passes bytes on and remembers where the newlines were.
struct LineIndex<R> {
    inner: R,
    offset: u64,
    newlines: Vec<u64>,
}

impl<R: Read> LineIndex<R> {
    fn new(inner: R) -> Self {
        Self { inner, offset: 0, newlines: Vec::new() }
    }

    /// The line, from 1, of a byte that was already read.
    fn line_of(&self, byte: u64) -> u64 {
        1 + self.newlines.partition_point(|&newline| newline < byte) as u64
    }
}

impl<R: Read> Read for LineIndex<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(out)?;
        let places = out[..n].iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        self.newlines.extend(places.map(|(place, _)| self.offset + place as u64));
        self.offset += n as u64;
        Ok(n)
    }
}

fn torn_note(path: &Path, line: u64) -> String {
    format!(
        "{}:{line}: the last line is incomplete (a writer was stopped in the middle) and was left out; \
         run the suite's command again to rebuild the file, or end the line with a newline if it is whole",
        path.display()
    )
}

fn ends_with_newline(file: &mut (impl Read + Seek)) -> std::io::Result<bool> {
    let length = file.seek(SeekFrom::End(0))?;
    let mut last = [b'\n'];
    if length > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(last[0] == b'\n')
}

/// The fields as text, with the apostrophe of [`write_csv`] taken away.
fn decode(path: &Path, record: &ByteRecord, line: u64, headers: &StringRecord) -> Result<StringRecord> {
    let shown = path.display();
    if record.len() != headers.len() {
        return Err(anyhow!(
            "{shown}:{line}: {} fields where the header has {}; repair or delete the line, or rebuild the file with \
             the suite's command",
            record.len(),
            headers.len()
        ));
    }
    let mut fields = StringRecord::with_capacity(record.as_slice().len(), record.len());
    for (index, field) in record.iter().enumerate() {
        let text = std::str::from_utf8(field).map_err(|_| {
            let column = headers.get(index).unwrap_or("?");
            anyhow!("{shown}:{line}: column `{column}` is not UTF-8: the file is damaged or saved in another encoding")
        })?;
        let defused = text.starts_with('\'') && starts_like_a_formula(field);
        fields.push_field(if defused { &text[1..] } else { text });
    }
    Ok(fields)
}

/// A line's fields as a row; errors name the column and its value.
pub(crate) fn parse<T: DeserializeOwned>(
    path: &Path,
    headers: &StringRecord,
    fields: &StringRecord,
    line: u64,
) -> Result<T> {
    let shown = path.display();
    fields.deserialize(Some(headers)).map_err(|error| match error.kind() {
        ErrorKind::Deserialize { err, .. } => {
            let index = err.field().map(|index| index as usize);
            let column = index.and_then(|index| headers.get(index)).unwrap_or("?");
            let value = index.and_then(|index| fields.get(index)).unwrap_or("");
            match err.kind() {
                DeserializeErrorKind::Message(message) if index.is_none() => {
                    anyhow!("{shown}: {message}: the header line lacks this column; rebuild the file with this version")
                }
                kind => anyhow!(
                    "{shown}:{line}: column `{column}`: {value:?}: {kind}; correct the value, or rebuild the file with \
                     the suite's command"
                ),
            }
        }
        _ => csv_error(path, error),
    })
}

fn csv_error(path: &Path, error: csv::Error) -> anyhow::Error {
    anyhow::Error::new(error).context(format!("reading {}", path.display()))
}

/// Writes rows with their header, atomically (see [`write_atomic`]). No rows make an empty file. Text that a
/// spreadsheet would run as a formula (it starts with `=`, `+`, `-`, `@`, TAB or CR and is no number) gets a leading
/// apostrophe, which [`read_csv`] takes away again.
pub fn write_csv<T: Serialize>(path: &Path, rows: impl IntoIterator<Item = T>) -> Result<()> {
    let mut plain = WriterBuilder::new().from_writer(Vec::new());
    for row in rows {
        plain.serialize(row).with_context(|| format!("writing {}", path.display()))?;
    }
    let plain = plain.into_inner().map_err(|error| anyhow!("writing {}: {error}", path.display()))?;
    let mut reader = ReaderBuilder::new().has_headers(false).from_reader(plain.as_slice());
    let mut safe = WriterBuilder::new().from_writer(Vec::with_capacity(plain.len()));
    for record in reader.byte_records() {
        let record: ByteRecord = record?.iter().map(defuse).collect();
        safe.write_byte_record(&record)?;
    }
    let safe = safe.into_inner().map_err(|error| anyhow!("writing {}: {error}", path.display()))?;
    write_atomic(path, &safe)
}

/// Whether a field, behind any number of apostrophes, starts like a formula.
fn starts_like_a_formula(field: &[u8]) -> bool {
    let start = field.iter().position(|&byte| byte != b'\'').unwrap_or(field.len());
    matches!(field.get(start), Some(b'=' | b'+' | b'-' | b'@' | b'\t' | b'\r'))
}

fn defuse(field: &[u8]) -> Vec<u8> {
    let number = std::str::from_utf8(field).is_ok_and(|text| text.parse::<f64>().is_ok());
    match starts_like_a_formula(field) && !number {
        true => [b"'", field].concat(),
        false => field.to_vec(),
    }
}

/// Replaces a file so that a reader, and a machine that loses power, sees the old or the new bytes and nothing
/// between: temporary file in the same folder, fsync, rename, fsync of the folder. Makes the folder if it is absent.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes, Durable::Yes).with_context(|| {
        format!("writing {} ({} bytes); is the folder writable and the disk not full?", path.display(), bytes.len())
    })
}

/// As [`write_atomic`], without the two fsyncs: for what can be made again from other files, in hundreds.
pub(crate) fn write_derived(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes, Durable::No).with_context(|| format!("writing {}", path.display()))
}

#[derive(PartialEq)]
enum Durable {
    Yes,
    No,
}

fn replace(path: &Path, bytes: &[u8], durable: Durable) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new().prefix(".tmp-").permissions(readable()).tempfile_in(folder)?;
    file.write_all(bytes)?;
    if durable == Durable::Yes {
        file.as_file().sync_all()?;
    }
    file.persist(path).map_err(|error| error.error)?;
    if durable == Durable::Yes {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// What the umask leaves of 0666, as for any other new file (temporary files default to 0600).
#[cfg(unix)]
fn readable() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o666)
}

#[cfg(test)]
mod tests;
