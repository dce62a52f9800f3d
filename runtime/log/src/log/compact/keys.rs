//! Which offset was the last of every key, in bounded memory.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use crate::batch::{BatchError, Records};

/// Largest batch, decompressed, that is compacted.
pub(super) const BATCH_BYTES_MAX: usize = 256 << 20;

/// Keys are kept as 128 bits of a keyed hash (twice SipHash with random keys): nobody can make two keys meet.
pub(super) struct Keys {
    last: HashMap<[u64; 2], i64>,
    hashers: [RandomState; 2],
    keys_max: usize,
    /// Every record from the place of the last compaction up to here was looked at.
    pub upto: i64,
}

impl Keys {
    pub fn new(keys_max: usize, upto: i64) -> Keys {
        Keys { last: HashMap::new(), hashers: [RandomState::new(), RandomState::new()], keys_max, upto }
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        [self.hashers[0].hash_one(key), self.hashers[1].hash_one(key)]
    }

    /// Remembers the keys of a batch. False, and nothing remembered, if there is no room; the first batch always has.
    pub fn remember(&mut self, batch: &[u8]) -> Result<bool, BatchError> {
        let records = Records::read(batch, BATCH_BYTES_MAX)?;
        let count = records.header().records_count as usize;
        if !self.last.is_empty() && self.last.len() + count > self.keys_max {
            return Ok(false);
        }
        for record in records.iter() {
            let record = record?;
            if let Some(key) = record.key {
                let hash = self.hash(key);
                self.last.insert(hash, record.offset);
            }
        }
        Ok(true)
    }

    /// Whether a later record has the same key.
    pub fn is_superseded(&self, key: &[u8], offset: i64) -> bool {
        self.last.get(&self.hash(key)).is_some_and(|last| *last > offset)
    }
}
