//! A bit flips somewhere in the files of a log that was killed: opening may report it, reading may fail, but what is
//! given with a good checksum was written.

use std::path::Path;
use std::sync::Arc;

use super::model::{Model, Stored};
use crate::batch::{self, Builder, BuilderOptions, CRC_START};
use crate::error::LogError;
use crate::log::{Append, Log, LogConfig};
use crate::testing::{Rng, SimStorage};

const DIR: &str = "/log";
const SEEDS: u64 = 400;
const APPENDS: u64 = 40;

#[test]
fn a_flipped_bit_is_found_or_harmless() {
    let config = LogConfig { segment_bytes: 1_500, index_interval_bytes: 150, ..LogConfig::default() };
    let open = |storage: &SimStorage| Log::open(Arc::new(storage.clone()), Path::new(DIR), config);
    for seed in 0..SEEDS {
        let mut rng = Rng::new(seed);
        let storage = SimStorage::new(seed);
        let (log, _) = open(&storage).unwrap();
        let mut model = Model::default();
        for number in 0..APPENDS {
            let mut builder = Builder::new(BuilderOptions::default());
            let value = vec![b'v'; rng.below(60) as usize];
            builder.push(number as i64, Some(&number.to_be_bytes()), Some(&value), std::iter::empty());
            let bytes = builder.finish();
            let how = Append { leader_epoch: 0, log_append_time_ms: None, assign_offsets: true };
            log.append(&bytes, how, 0).unwrap();
            model.append(&bytes, 0);
            if rng.once_in(10) {
                log.checkpoint().unwrap();
            }
        }
        drop(log);
        let paths = storage.paths();
        let path = &paths[rng.below(paths.len() as u64) as usize];
        let bits = storage.content(path).unwrap().len() as u64 * 8;
        storage.flip_bit(path, rng.below(bits));
        let in_batches = path.extension().is_some_and(|extension| extension == "log");
        let log = match open(&storage) {
            Ok((log, _)) => log,
            Err(LogError::Newer { .. }) => continue,
            Err(error) => panic!("seed {seed}: {error}"),
        };
        assert!(
            in_batches || log.end_offset() == model.end,
            "seed {seed}: {} is only a help",
            path.display()
        );
        // No checksum covers a batch's base offset, so the end may be far off.
        for offset in log.start_offset().min(model.end)..log.end_offset().min(model.end + 5) {
            let Ok(slice) = log.read(offset, 1, i64::MAX, true) else {
                assert!(in_batches, "seed {seed}: offset {offset} with {} flipped", path.display());
                continue;
            };
            let bytes = slice.bytes().unwrap();
            if batch::check_stored(&bytes).is_err() {
                assert!(in_batches, "seed {seed}: offset {offset} with {} flipped", path.display());
                continue;
            }
            let found = Stored::new(bytes);
            // The checksum covers all but the place in the log.
            let known = model.batches.iter().find(|one| one.bytes[CRC_START..] == found.bytes[CRC_START..]);
            assert!(known.is_some(), "seed {seed}: {found:?} was made up");
            assert!(
                in_batches || known.is_some_and(|known| known.header.base_offset == offset),
                "seed {seed}"
            );
        }
        let _ = log.offset_at_time(10);
        let _ = log.max_timestamp();
    }
}
