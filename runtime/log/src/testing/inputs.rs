//! What must hold for arbitrary bytes: the fuzz targets and an ordinary test run the same checks.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Rng, SimStorage};
use crate::batch::{self, BatchError, Builder, BuilderOptions, Header, Records};
use crate::error::LogError;
use crate::log::{Append, Log, LogConfig};

/// Most decompressed bytes that are asked for.
const BYTES_MAX: usize = 64 * 1024;
/// Records of a batch that are looked at.
const RECORDS_MAX: usize = 10_000;

/// Reads arbitrary bytes as batches, every way there is. Nothing may panic, and what is found agrees with itself. Bytes
/// with the wrong checksum are also read with the right one, else nothing would come past it.
pub fn check_batches(data: &[u8]) {
    let mut whole = 0;
    for found in batch::batches(data) {
        let Ok((header, bytes)) = found else { break };
        assert_eq!(header.size(), bytes.len());
        assert!(data[whole..].starts_with(bytes));
        whole += bytes.len();
        check_batch(bytes);
    }
    let mut mended = data.to_vec();
    let Ok(header) = Header::parse(&mended) else { return };
    if header.size() <= mended.len() {
        mended.truncate(header.size());
        let crc = crc32c::crc32c(&mended[batch::CRC_START..]);
        mended[17..batch::CRC_START].copy_from_slice(&crc.to_be_bytes());
        assert!(batch::check_stored(&mended).is_ok());
        check_batch(&mended);
    }
}

fn check_batch(bytes: &[u8]) {
    let checked = batch::check(bytes);
    let summary = batch::check_records(bytes, BYTES_MAX);
    let _ = batch::control_type(bytes);
    let records = match Records::read(bytes, BYTES_MAX) {
        Ok(records) => records,
        Err(error) => {
            assert_eq!(summary.as_ref().err(), Some(&error));
            return;
        }
    };
    let header = *records.header();
    let mut count = 0;
    let mut next_offset = header.base_offset;
    let mut broken: Option<BatchError> = None;
    for record in records.iter() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                broken = Some(error);
                break;
            }
        };
        assert!((next_offset..=header.last_offset()).contains(&record.offset));
        next_offset = record.offset.saturating_add(1);
        assert_eq!(record.headers().count(), record.headers().len());
        count += 1;
        if count == RECORDS_MAX {
            return;
        }
    }
    match (summary, broken) {
        (Ok(summary), None) => assert_eq!(summary.records, count),
        (Err(error), Some(broken)) => assert_eq!(error, broken),
        (summary, broken) => panic!("{summary:?} and {broken:?} ({checked:?})"),
    }
}

/// The files that an input can fill.
const NAMES: [&str; 10] = [
    "00000000000000000000.log",
    "00000000000000000000.index",
    "00000000000000000000.timeindex",
    "00000000000000000004.log",
    "00000000000000000004.index",
    "00000000000000000004.timeindex",
    "flow-log-checkpoint",
    "leader-epoch-checkpoint",
    "00000000000000000000-00000000000000000009.swap",
    "flow-log-poisoned",
];
const DIR: &str = "/log";

/// Opens a log over arbitrary files: for each a byte that chooses its name, two for its length, and its content. Nothing
/// may panic; what opens can be read or says what is broken, takes an append, and opens again to the same.
pub fn check_recovery(mut data: &[u8]) {
    let storage = SimStorage::new(1);
    while let Some((&[name, high, low], rest)) = data.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([high, low])).min(rest.len());
        let (content, rest) = rest.split_at(length);
        let name = NAMES[usize::from(name) % NAMES.len()];
        storage.set_content(&Path::new(DIR).join(name), content);
        data = rest;
    }
    let Some(first) = open(&storage) else { return };
    let before = read(&first);
    let mut builder = Builder::new(BuilderOptions::default());
    builder.push(5, Some(b"key"), Some(b"value"), std::iter::empty());
    let how = Append { leader_epoch: 1, log_append_time_ms: None, assign_offsets: true };
    let Ok(appended) = first.append(&builder.finish(), how, 5) else { return };
    // Whatever is broken where the checkpoint vouches for it stays broken; the rest must last.
    if first.sync().is_err() || before.is_err() {
        return;
    }
    let (start, end) = (first.start_offset(), first.end_offset());
    assert_eq!(end, appended.next_offset);
    let after = read(&first).unwrap_or_default();
    drop(first);
    storage.crash();
    let Some(second) = open(&storage) else { panic!("what was open once opens again") };
    assert_eq!((second.start_offset(), second.end_offset()), (start, end));
    assert_eq!(read(&second).unwrap_or_default(), after);
    let _ = second.offset_at_time(5);
    let _ = second.max_timestamp();
}

fn open(storage: &SimStorage) -> Option<Log> {
    let config = LogConfig { segment_bytes: 1 << 20, index_interval_bytes: 64, ..LogConfig::default() };
    Log::open(Arc::new(storage.clone()), Path::new(DIR), config).ok().map(|(log, _)| log)
}

fn read(log: &Log) -> Result<Vec<Vec<u8>>, LogError> {
    let mut headers = log.headers(log.start_offset());
    let mut batches = Vec::new();
    while let Some(header) = headers.next() {
        let header = header?;
        let slice = log.read(header.base_offset.max(log.start_offset()), 1, i64::MAX, true);
        if let Ok(slice) = slice {
            slice.bytes()?;
        }
        batches.push(headers.batch()?);
    }
    Ok(batches)
}

/// An input near `data`: some bytes changed, or a part of `other` put in.
pub fn neighbour(data: &[u8], other: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = data.to_vec();
    let at = |rng: &mut Rng, length: usize| rng.below(length as u64) as usize;
    for _ in 0..1 + rng.below(4) {
        let place = at(rng, bytes.len() + 1);
        match rng.below(6) {
            0 | 1 if place < bytes.len() => bytes[place] ^= 1 << rng.below(8),
            2 if place < bytes.len() => bytes[place] = [0, 1, 0x7f, 0x80, 0xff][at(rng, 5)],
            3 => bytes.truncate(place),
            4 => {
                let end = (place + at(rng, 40)).min(bytes.len());
                bytes.drain(place..end);
            }
            _ => {
                let from = at(rng, other.len() + 1);
                let part = &other[from..(from + at(rng, 100)).min(other.len())];
                bytes.splice(place..place, part.iter().copied());
            }
        }
    }
    bytes
}

/// The inputs in a folder, in the order of their names.
pub fn corpus(folder: &Path) -> io::Result<Vec<Vec<u8>>> {
    let mut paths: Vec<_> =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.sort();
    paths.iter().map(std::fs::read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Neighbours of every input.
    const NEIGHBOURS: u64 = 60;

    fn run(folder: &str, check: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpora").join(folder);
        let corpus = corpus(&folder).unwrap();
        assert!(corpus.len() >= 8, "{} inputs", corpus.len());
        let neighbours = std::env::var("FLOW_LOG_NEIGHBOURS")
            .ok()
            .and_then(|count| count.parse().ok())
            .unwrap_or(NEIGHBOURS);
        let mut rng = Rng::new(corpus.len() as u64);
        for data in &corpus {
            check(data);
            for _ in 0..neighbours {
                let other = &corpus[rng.below(corpus.len() as u64) as usize];
                let input = neighbour(data, other, &mut rng);
                if std::panic::catch_unwind(|| check(&input)).is_err() {
                    panic!("failed on {}", input.escape_ascii());
                }
            }
        }
    }

    #[test]
    fn batches_of_the_corpus_and_their_neighbours_are_read_or_refused() {
        run("batch", check_batches);
    }

    #[test]
    fn logs_of_the_corpus_and_their_neighbours_open_or_say_why() {
        run("log_recovery", check_recovery);
    }
}
