//! The aborted transactions of a partition, and their form in a segment's `.txnindex` file, which is Kafka's.

use super::Producers;

/// An aborted transaction: readers of committed records skip what `producer_id` wrote in `first_offset..=last_offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Aborted {
    pub(crate) producer_id: i64,
    pub(crate) first_offset: i64,
    /// The offset of its marker.
    pub(crate) last_offset: i64,
    /// The last stable offset right after the marker.
    pub(crate) last_stable_offset: i64,
}

/// Why a `.txnindex` file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AbortedError {
    #[error("an entry is cut after {0} bytes")]
    Short(usize),
    #[error("version {0} is newer than 0, the last one known")]
    Newer(i16),
    #[error("the entry that ends at offset {0} is out of order or ends before it begins")]
    Order(i64),
}

/// Bytes of an entry: version, producer id, first offset, last offset, last stable offset.
const ENTRY_BYTES: usize = 2 + 8 + 8 + 8 + 8;

const VERSION: i16 = 0;

impl Aborted {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&VERSION.to_be_bytes());
        for field in [self.producer_id, self.first_offset, self.last_offset, self.last_stable_offset] {
            out.extend_from_slice(&field.to_be_bytes());
        }
    }

    fn decode(bytes: &[u8; ENTRY_BYTES]) -> Result<Aborted, AbortedError> {
        let version = i16::from_be_bytes([bytes[0], bytes[1]]);
        if version > VERSION {
            return Err(AbortedError::Newer(version));
        }
        let field = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            i64::from_be_bytes(word)
        };
        let (producer_id, first_offset, last_offset) = (field(2), field(10), field(18));
        if first_offset > last_offset || first_offset < 0 {
            return Err(AbortedError::Order(last_offset));
        }
        Ok(Aborted { producer_id, first_offset, last_offset, last_stable_offset: field(26) })
    }
}

impl Producers {
    /// The content of the `.txnindex` of a segment that holds the offsets `[from, to)`: every transaction whose abort
    /// marker lies there. Empty: no file is needed.
    pub(crate) fn encode_aborted(&self, from: i64, to: i64) -> Vec<u8> {
        let begin = self.aborted.partition_point(|aborted| aborted.last_offset < from);
        let mut out = Vec::new();
        for aborted in self.aborted[begin..].iter().take_while(|aborted| aborted.last_offset < to) {
            aborted.encode(&mut out);
        }
        out
    }

    /// Takes in one segment's `.txnindex`; segments come in the order of the log. What lies at or after
    /// [`Producers::end_offset`] is left out, because the replay of the log brings it again. On an error nothing of
    /// this file is taken.
    pub(crate) fn load_aborted(&mut self, bytes: &[u8]) -> Result<(), AbortedError> {
        let (entries, rest) = bytes.as_chunks::<ENTRY_BYTES>();
        let known = self.aborted.len();
        let mut last = self.aborted.last().map_or(-1, |aborted| aborted.last_offset);
        for bytes in entries {
            let taken = Aborted::decode(bytes).and_then(|aborted| {
                if aborted.last_offset <= last {
                    Err(AbortedError::Order(aborted.last_offset))
                } else {
                    Ok(aborted)
                }
            });
            match taken {
                Ok(aborted) => {
                    last = aborted.last_offset;
                    if last < self.end_offset {
                        self.aborted.push(aborted);
                    }
                }
                Err(error) => {
                    self.aborted.truncate(known);
                    return Err(error);
                }
            }
        }
        if rest.is_empty() {
            return Ok(());
        }
        self.aborted.truncate(known);
        Err(AbortedError::Short(rest.len()))
    }
}
