//! The table from parent and name to the number of a znode. Each slot has half of the hash beside the number, so that
//! neither growing nor a miss has to look at znodes. It knows no names: who asks says which number is meant.

use std::hash::{BuildHasher, Hasher};

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

/// The table is cut into this many, so that no single growth of one holds up a write for long.
const SHARDS: usize = 80;

#[derive(Clone, Copy)]
struct Slot {
    hash: u32,
    number: u32,
}

pub(super) struct Index {
    shards: Vec<HashTable<Slot>>,
    /// The seed differs between processes: nobody can choose names that fall together. Nothing that is answered or
    /// written depends on the order in the table.
    hasher: DefaultHashBuilder,
}

impl Index {
    pub fn new() -> Index {
        let shards = (0..SHARDS).map(|_| HashTable::new()).collect();
        Index { shards, hasher: DefaultHashBuilder::default() }
    }

    pub fn hash(&self, parent: u32, name: &[u8]) -> u32 {
        let mut state = self.hasher.build_hasher();
        state.write_u32(parent);
        state.write(name);
        (state.finish() >> 32) as u32
    }

    /// The number with this hash that `is` says is the one.
    pub fn find(&self, hash: u32, is: impl Fn(u32) -> bool) -> Option<u32> {
        let shard = &self.shards[shard_of(hash)];
        shard.find(spread(hash), |slot| slot.hash == hash && is(slot.number)).map(|slot| slot.number)
    }

    pub fn insert(&mut self, hash: u32, number: u32) {
        self.shards[shard_of(hash)]
            .insert_unique(spread(hash), Slot { hash, number }, |slot| spread(slot.hash));
    }

    /// The same unless there is one already, as `is` says; false then.
    pub fn insert_new(&mut self, hash: u32, number: u32, is: impl Fn(u32) -> bool) -> bool {
        let same = |slot: &Slot| slot.hash == hash && is(slot.number);
        match self.shards[shard_of(hash)].entry(spread(hash), same, |slot| spread(slot.hash)) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(Slot { hash, number });
                true
            }
        }
    }

    pub fn remove(&mut self, hash: u32, number: u32) {
        if let Ok(slot) = self.shards[shard_of(hash)].find_entry(spread(hash), |slot| slot.number == number) {
            slot.remove();
        }
    }

    /// Room for so many at once.
    pub fn reserve(&mut self, count: usize) {
        for shard in &mut self.shards {
            shard.reserve(count / SHARDS, |slot| spread(slot.hash));
        }
    }
}

/// The table takes its tag from the top bits and its place from the lowest.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// By the upper half: the place in a shard comes from the lower.
fn shard_of(hash: u32) -> usize {
    (hash >> 16) as usize % SHARDS
}
