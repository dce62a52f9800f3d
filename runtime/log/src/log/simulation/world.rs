//! A log, its disk, and what is done to both.

use std::path::Path;
use std::sync::Arc;

use super::model::{Model, Stored, last_rows};
use crate::batch::{self, Builder, BuilderOptions};
use crate::error::LogError;
use crate::log::{Append, CompactOptions, Log, LogConfig};
use crate::storage::Storage;
use crate::testing::{Rng, SimStorage};

const DIR: &str = "/log";
const NEVER: &dyn Fn(i64, i64) -> bool = &|_, _| false;

pub struct World {
    rng: Rng,
    storage: SimStorage,
    config: LogConfig,
    log: Log,
    model: Model,
    /// What was under way when the disk failed, if that may show.
    pending: Pending,
    epoch: i32,
    time_ms: i64,
    serial: u64,
    /// Whether this life compacts; otherwise it deletes and truncates.
    compacts: bool,
    trace: bool,
}

/// A change that may or may not have happened.
#[derive(Debug, Clone, PartialEq)]
enum Pending {
    Nothing,
    /// The log may hold these as well.
    Append(Vec<u8>),
    /// The end may be as low as this.
    Truncate(i64),
    /// The start may be as high as this.
    Start(i64),
    Compaction,
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let storage = SimStorage::new(rng.next_u64());
        storage.write_short(rng.once_in(2));
        let config = LogConfig {
            segment_bytes: 300 + rng.below(2_000),
            index_interval_bytes: 50 + rng.below(400),
            checkpoint_bytes: 200 + rng.below(3_000),
            retention_ms: None,
            retention_bytes: Some(rng.below(4_000)),
            ..LogConfig::default()
        };
        let log = open(&storage, config);
        World {
            compacts: rng.once_in(3),
            rng,
            storage,
            config,
            log,
            model: Model::default(),
            pending: Pending::Nothing,
            epoch: 0,
            time_ms: 1_000,
            serial: 0,
            trace: std::env::var("FLOW_LOG_SEED").is_ok(),
        }
    }

    fn say(&self, what: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("[{}..{} synced {}] {}", self.model.start, self.model.end, self.model.synced, what());
        }
    }

    pub fn step(&mut self) {
        match self.rng.below(100) {
            0..=39 => self.append(),
            40..=54 => self.sync(),
            55..=64 => self.read(),
            65..=67 => self.checkpoint(),
            68..=71 if self.compacts => self.compact(),
            68..=69 => self.truncate(),
            70..=71 => self.delete(),
            72..=74 => self.advance_start(),
            75..=77 => self.storage.fail_after(self.rng.below(40)),
            78..=79 => self.storage.fail_sync_after(self.rng.below(3)),
            80..=82 => self.run_full(),
            83..=85 => self.reopen_closed(),
            86..=89 => self.kill(),
            90..=94 => self.crash(),
            95 => self.lose_a_helper(),
            _ => self.look_up_time(),
        }
    }

    /// The life ends with everything in order.
    pub fn end(&mut self) {
        self.crash();
        self.append();
        self.sync();
        self.crash();
        assert_eq!(self.model.synced, self.model.end);
    }

    fn records(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..1 + self.rng.below(3) {
            let compression = match self.rng.below(4) {
                0 => crate::Compression::Lz4,
                _ => crate::Compression::None,
            };
            let mut builder = Builder::new(BuilderOptions { compression, ..BuilderOptions::default() });
            for _ in 0..1 + self.rng.below(4) {
                self.serial += 1;
                self.time_ms += self.rng.below(20) as i64 - 5;
                let key = [b'k', self.rng.below(12) as u8 + b'a'];
                let mut value = self.serial.to_string().into_bytes();
                value.resize(value.len() + self.rng.below(80) as usize, b'.');
                let value = (!self.rng.once_in(8)).then_some(&value[..]);
                builder.push(self.time_ms, Some(&key), value, std::iter::empty());
            }
            bytes.extend(builder.finish());
        }
        bytes
    }

    fn append(&mut self) {
        let bytes = self.records();
        self.epoch += i32::from(self.rng.once_in(20));
        let how = Append { leader_epoch: self.epoch, log_append_time_ms: None, assign_offsets: true };
        let result = self.log.append(&bytes, how, self.time_ms);
        self.say(|| format!("append: {result:?}"));
        match result {
            Ok(appended) => {
                assert_eq!(appended.base_offset, self.model.end);
                self.model.append(&bytes, self.epoch);
                assert_eq!(appended.next_offset, self.model.end);
            }
            Err(error) => {
                assert_eq!(self.log.end_offset(), self.model.end);
                let mut more = self.model.clone();
                more.append(&bytes, self.epoch);
                self.failed(error, Pending::Append(bytes));
            }
        }
    }

    fn sync(&mut self) {
        let end = self.model.end;
        let result = self.log.sync();
        self.say(|| format!("sync: {result:?}"));
        match result {
            Ok(synced) => {
                assert_eq!(synced, end);
                self.model.synced = end;
            }
            Err(error) => self.failed(error, Pending::Nothing),
        }
    }

    fn checkpoint(&mut self) {
        let result = self.log.checkpoint();
        self.say(|| format!("checkpoint: {result:?}"));
        self.model.synced = self.log.synced_offset().max(self.model.synced);
        result.unwrap_or_else(|error| self.failed(error, Pending::Nothing));
    }

    fn truncate(&mut self) {
        let (start, end) = (self.model.start, self.model.end);
        let offset = start + self.rng.below((end - start + 2) as u64) as i64;
        let result = self.log.truncate(offset);
        self.say(|| format!("truncate {offset}: {result:?}"));
        match result {
            Ok(()) => self.model.truncate(offset),
            Err(error) => {
                let mut after = self.model.clone();
                after.truncate(offset);
                self.failed(error, Pending::Truncate(after.end));
            }
        }
        self.epoch = self.epoch.max(self.log.latest_epoch());
    }

    fn advance_start(&mut self) {
        let (start, end) = (self.model.start, self.model.end);
        let offset = start + self.rng.below((end - start + 1) as u64) as i64;
        let result = self.log.advance_start(offset);
        self.say(|| format!("advance start to {offset}: {result:?}"));
        self.model.synced = self.log.synced_offset().max(self.model.synced);
        match result {
            Ok(()) => self.model.start = offset,
            Err(error) => self.failed(error, Pending::Start(offset)),
        }
    }

    fn delete(&mut self) {
        let result = self.log.delete_old(self.time_ms);
        self.say(|| format!("delete old: {result:?}"));
        self.model.synced = self.log.synced_offset().max(self.model.synced);
        match result {
            Ok(deleted) => {
                assert!((self.model.start..=self.model.end).contains(&deleted.start_offset));
                assert!(deleted.segments > 0 || deleted.start_offset == self.model.start);
                self.model.start = deleted.start_offset;
            }
            Err(error) => self.failed(error, Pending::Start(self.model.end)),
        }
    }

    fn compact(&mut self) {
        let options = CompactOptions {
            now_ms: self.time_ms,
            min_lag_ms: 0,
            delete_retention_ms: 40,
            before: self.model.end,
            is_aborted: NEVER,
        };
        let keys_max = 1 + self.rng.below(20) as usize;
        let result = self.log.compact_with(&options, keys_max);
        self.say(|| format!("compact with {keys_max} keys: {result:?}"));
        self.model.synced = self.log.synced_offset().max(self.model.synced);
        match result {
            Ok(_) => {
                assert_eq!(self.log.end_offset(), self.model.end);
                self.take_compacted();
            }
            Err(error) => self.failed(error, Pending::Compaction),
        }
    }

    /// What a compaction left must be a part of what was there, with the last record of every key.
    fn take_compacted(&mut self) {
        let left = match read_all(&self.log) {
            Ok(left) => left,
            // The fault that was ordered comes just now.
            Err(error) => return self.failed(error, Pending::Compaction),
        };
        assert_eq!(last_rows(&left), self.model.last_rows());
        let rows: Vec<_> = self.model.readable().iter().flat_map(Stored::rows).collect();
        let mut rows = rows.iter();
        for row in left.iter().flat_map(Stored::rows) {
            assert!(rows.any(|known| *known == row), "{row:?} was made up or is out of order");
        }
        self.model.batches = left;
    }

    /// Some calls with nearly no space: they fail or not, and afterwards all is well again.
    fn run_full(&mut self) {
        self.storage.set_space(Some(self.rng.below(500)));
        self.say(|| "nearly no space".to_owned());
        for _ in 0..self.rng.below(6) {
            match self.rng.below(6) {
                0..=3 => self.append(),
                4 => self.sync(),
                _ if self.compacts => self.compact(),
                _ => self.checkpoint(),
            }
        }
        self.storage.set_space(None);
        if !self.log.is_poisoned() {
            self.append();
        }
    }

    fn read(&mut self) {
        let (start, end) = (self.model.start, self.model.end);
        let from = start + self.rng.below((end - start + 1) as u64) as i64;
        let before = if self.rng.once_in(2) { i64::MAX } else { from + self.rng.below(20) as i64 };
        let bytes_max = self.rng.below(1_500) as usize;
        let first_whole = self.rng.once_in(2);
        let expected: Vec<_> = self
            .model
            .batches
            .iter()
            .filter(|one| one.header.last_offset() >= from && one.header.last_offset() < before)
            .collect();
        let slice = match self.log.read(from, bytes_max, before, first_whole) {
            Ok(slice) => slice,
            Err(error) => return self.failed(error, Pending::Nothing),
        };
        let bytes = match slice.bytes() {
            Ok(bytes) => bytes,
            Err(error) => return self.failed(error, Pending::Nothing),
        };
        let mut count = 0;
        for found in batch::batches(&bytes) {
            let stored = Stored::new(found.unwrap().1.to_vec());
            assert_eq!(&stored, expected[count], "reading from {from}");
            count += 1;
            assert!(slice.next_offset_hint() >= stored.header.next_offset());
        }
        assert!(bytes.len() <= bytes_max || count == 1 && first_whole);
        if count == 0 {
            let first = expected.first().map_or(0, |one| one.bytes.len());
            assert!(expected.is_empty() || !first_whole && first > bytes_max, "nothing from {from}");
        }
        if let Some(next) = expected.get(count).filter(|_| count > 0) {
            assert!(slice.next_offset_hint() <= next.header.base_offset);
        }
    }

    fn look_up_time(&mut self) {
        let timestamp = self.time_ms - self.rng.below(300) as i64;
        match self.log.offset_at_time(timestamp) {
            Ok(found) => assert_eq!(found, self.model.at_time(timestamp), "time {timestamp}"),
            Err(error) => self.failed(error, Pending::Nothing),
        }
    }

    /// An index is only a help, so losing one loses nothing.
    fn lose_a_helper(&mut self) {
        self.kill();
        let helpers: Vec<_> = self
            .storage
            .paths()
            .into_iter()
            .filter(|path| path.extension().is_some_and(|found| found == "index" || found == "timeindex"))
            .collect();
        if !helpers.is_empty() {
            let path = &helpers[self.rng.below(helpers.len() as u64) as usize];
            self.say(|| format!("lose {}", path.display()));
            self.storage.remove(path).unwrap();
            self.open();
        }
    }

    fn reopen_closed(&mut self) {
        let result = self.log.close();
        self.say(|| format!("close: {result:?}"));
        match result {
            Ok(()) => {
                self.model.synced = self.model.end;
                if self.rng.once_in(2) {
                    self.storage.kill();
                } else {
                    self.storage.crash();
                }
                let recovery = self.open();
                assert!(recovery.clean && recovery.checked_bytes == 0, "{recovery:?}");
            }
            Err(error) => {
                self.model.synced = self.log.synced_offset().max(self.model.synced);
                self.failed(error, Pending::Nothing);
                if self.pending == Pending::Nothing {
                    self.kill();
                }
            }
        }
    }

    fn kill(&mut self) {
        // A disk that fails a sync and then takes not even the note of it, and is well again for the next process, is more
        // than can be told apart.
        let noted = self.storage.content(&Path::new(DIR).join("flow-log-poisoned")).is_some();
        if self.log.is_poisoned() && !noted {
            return self.crash();
        }
        self.say(|| "kill".to_owned());
        self.storage.kill();
        self.open();
    }

    fn crash(&mut self) {
        self.say(|| "crash".to_owned());
        self.storage.crash();
        self.open();
    }

    /// After an error that is not just a full disk the log must go on as before, or the process ends.
    fn failed(&mut self, error: LogError, pending: Pending) {
        if matches!(error, LogError::Full(_)) && !self.log.is_poisoned() {
            if pending == Pending::Compaction {
                self.take_compacted();
            }
            if let Pending::Start(_) = pending {
                self.model.start = self.log.start_offset();
            }
            return;
        }
        assert!(
            matches!(error, LogError::Io(_) | LogError::Poisoned(_) | LogError::Full(_)),
            "nothing is corrupt: {error}"
        );
        self.pending = pending;
        if self.rng.once_in(3) { self.kill() } else { self.crash() }
    }

    /// Opens the log and compares it with the model, which then forgets what was lost.
    fn open(&mut self) -> crate::log::Recovery {
        let opened = loop {
            match Log::open(Arc::new(self.storage.clone()), Path::new(DIR), self.config) {
                Ok(opened) => break opened,
                // An ordered fault is met while opening.
                Err(LogError::Io(_) | LogError::Poisoned(_)) => self.storage.crash(),
                Err(error) => panic!("{error}"),
            }
        };
        let (log, recovery) = opened;
        self.log = log;
        self.say(|| format!("{recovery:?}"));
        self.say(|| format!("segments {:?}", self.log.segment_bases()));
        assert!(recovery.damage.iter().all(|damage| damage.kept.is_some()), "{recovery:?}");
        let pending = std::mem::replace(&mut self.pending, Pending::Nothing);
        self.say(|| format!("pending {pending:?}"));
        let start = self.log.start_offset();
        match pending {
            Pending::Start(offset) => {
                assert!((self.model.start..=offset.max(self.model.start)).contains(&start), "start {start}");
                self.model.start = start;
            }
            _ => assert_eq!(start, self.model.start),
        }
        let end = self.log.end_offset();
        let mut floor = self.model.synced;
        match &pending {
            Pending::Append(bytes) => self.model.append(bytes, self.epoch),
            Pending::Truncate(offset) => floor = floor.min(*offset),
            _ => {}
        }
        let ceiling = self.model.end;
        assert!((floor..=ceiling).contains(&end), "the end is {end}, not from {floor} to {ceiling}");
        // What was not synced may be gone, but only from the end.
        let whole = self.model.batches.partition_point(|one| one.header.next_offset() <= end);
        self.model.batches.truncate(whole);
        self.model.end = end;
        self.model.synced = self.log.synced_offset();
        assert_eq!(self.model.synced, end, "whatever is shown after opening is on disk");
        if pending == Pending::Compaction {
            self.take_compacted();
        } else {
            assert_eq!(read_all(&self.log).unwrap(), self.model.readable());
        }
        let (latest, _) = self.log.epoch_end(self.log.latest_epoch());
        self.epoch = self.epoch.max(latest);
        self.check_epochs();
        recovery
    }

    fn check_epochs(&self) {
        for one in self.model.readable().iter().filter(|one| one.header.base_offset >= self.model.start) {
            let (epoch, end) = self.log.epoch_end(one.header.leader_epoch);
            assert_eq!(epoch, one.header.leader_epoch, "{:?}", self.log.epochs());
            assert!(end >= one.header.next_offset());
        }
    }
}

fn open(storage: &SimStorage, config: LogConfig) -> Log {
    Log::open(Arc::new(storage.clone()), Path::new(DIR), config).unwrap().0
}

fn read_all(log: &Log) -> Result<Vec<Stored>, LogError> {
    let mut headers = log.headers(log.start_offset());
    let mut batches = Vec::new();
    while let Some(header) = headers.next() {
        let header = header?;
        let stored = Stored::new(headers.batch()?);
        assert_eq!(stored.header, header);
        batches.push(stored);
    }
    Ok(batches)
}
