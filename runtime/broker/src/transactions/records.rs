//! The records of `__transaction_state` in Kafka's schemas `TransactionLogKey` 0 and `TransactionLogValue` 0 and 1, so
//! that Kafka's tools read the topic.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::transaction::{NO_PRODUCER, Producer, State, TopicPartition, Transaction};

/// Why a record cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("the record ends too early")]
    Short,
    #[error("version {0} is not known")]
    Version(i16),
    #[error("a text is not UTF-8")]
    Text,
    #[error("transaction state {0} is not known")]
    State(i8),
    #[error("a length of {0} is impossible")]
    Length(i64),
}

/// The longest transactional id: its length is written as 16 bits.
pub(crate) const TRANSACTIONAL_ID_BYTES_MAX: usize = i16::MAX as usize;

/// The key of a transactional id's records. The id must not be longer than [`TRANSACTIONAL_ID_BYTES_MAX`].
pub(crate) fn encode_key(transactional_id: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + transactional_id.len());
    out.extend_from_slice(&0i16.to_be_bytes());
    put_string(&mut out, transactional_id);
    out
}

/// The transactional id of a key; `None` for a key of a kind that is not known, which is passed over.
pub(crate) fn decode_key(bytes: &[u8]) -> Result<Option<Arc<str>>, RecordError> {
    let mut reader = Reader(bytes);
    if reader.int16()? != 0 {
        return Ok(None);
    }
    reader.string().map(|id| Some(Arc::from(id)))
}

/// The value of a transaction, in version 0, which every Kafka since 0.11 reads.
pub(crate) fn encode_value(transaction: &Transaction) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(&0i16.to_be_bytes());
    out.extend_from_slice(&transaction.producer.id.to_be_bytes());
    out.extend_from_slice(&transaction.producer.epoch.to_be_bytes());
    out.extend_from_slice(&transaction.timeout_ms.to_be_bytes());
    out.push(transaction.state as u8);
    if transaction.state == State::Empty {
        out.extend_from_slice(&(-1i32).to_be_bytes());
    } else {
        let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for at in &transaction.partitions {
            topics.entry(&at.topic).or_default().push(at.partition);
        }
        out.extend_from_slice(&(topics.len() as i32).to_be_bytes());
        for (topic, partitions) in topics {
            put_string(&mut out, topic);
            out.extend_from_slice(&(partitions.len() as i32).to_be_bytes());
            for partition in partitions {
                out.extend_from_slice(&partition.to_be_bytes());
            }
        }
    }
    out.extend_from_slice(&transaction.updated_ms.to_be_bytes());
    out.extend_from_slice(&transaction.start_ms.to_be_bytes());
    out
}

/// Reads version 0, and version 1 whose tagged fields say nothing that is needed here.
pub(crate) fn decode_value(bytes: &[u8]) -> Result<Transaction, RecordError> {
    let mut reader = Reader(bytes);
    let version = reader.int16()?;
    if !(0..=1).contains(&version) {
        return Err(RecordError::Version(version));
    }
    let flexible = version == 1;
    let producer = Producer { id: reader.int64()?, epoch: reader.int16()? };
    let timeout_ms = reader.int32()?;
    let state = reader.int8()?;
    let state = State::from_id(state).ok_or(RecordError::State(state))?;
    let mut partitions = BTreeSet::new();
    for _ in 0..reader.count(flexible)? {
        let topic: Arc<str> = Arc::from(if flexible { reader.compact_string()? } else { reader.string()? });
        for _ in 0..reader.count(flexible)? {
            partitions.insert(TopicPartition { topic: topic.clone(), partition: reader.int32()? });
        }
        reader.skip_tags(flexible)?;
    }
    let updated_ms = reader.int64()?;
    let start_ms = reader.int64()?;
    reader.skip_tags(flexible)?;
    Ok(Transaction {
        producer,
        last_producer: NO_PRODUCER,
        timeout_ms,
        state,
        partitions,
        start_ms,
        updated_ms,
    })
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as i16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (first, rest) = self.0.split_first_chunk().ok_or(RecordError::Short)?;
        self.0 = rest;
        Ok(*first)
    }

    fn int8(&mut self) -> Result<i8, RecordError> {
        self.fixed().map(i8::from_be_bytes)
    }

    fn int16(&mut self) -> Result<i16, RecordError> {
        self.fixed().map(i16::from_be_bytes)
    }

    fn int32(&mut self) -> Result<i32, RecordError> {
        self.fixed().map(i32::from_be_bytes)
    }

    fn int64(&mut self) -> Result<i64, RecordError> {
        self.fixed().map(i64::from_be_bytes)
    }

    fn varint(&mut self) -> Result<u32, RecordError> {
        let mut value = 0u64;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.fixed()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| RecordError::Length(value as i64));
            }
        }
        Err(RecordError::Length(value as i64))
    }

    fn bytes(&mut self, len: usize) -> Result<&'a [u8], RecordError> {
        let (first, rest) = self.0.split_at_checked(len).ok_or(RecordError::Short)?;
        self.0 = rest;
        Ok(first)
    }

    fn string(&mut self) -> Result<&'a str, RecordError> {
        let len = self.int16()?;
        let len = usize::try_from(len).map_err(|_| RecordError::Length(i64::from(len)))?;
        std::str::from_utf8(self.bytes(len)?).map_err(|_| RecordError::Text)
    }

    fn compact_string(&mut self) -> Result<&'a str, RecordError> {
        let len = self.varint()?.checked_sub(1).ok_or(RecordError::Length(-1))?;
        std::str::from_utf8(self.bytes(len as usize)?).map_err(|_| RecordError::Text)
    }

    /// Items of an array; a null one has none. More than there are bytes is impossible.
    fn count(&mut self, flexible: bool) -> Result<usize, RecordError> {
        let count = if flexible { i64::from(self.varint()?) - 1 } else { i64::from(self.int32()?) };
        match usize::try_from(count) {
            Ok(count) if count <= self.0.len() => Ok(count),
            Ok(_) => Err(RecordError::Length(count)),
            Err(_) if count == -1 => Ok(0),
            Err(_) => Err(RecordError::Length(count)),
        }
    }

    fn skip_tags(&mut self, flexible: bool) -> Result<(), RecordError> {
        if !flexible {
            return Ok(());
        }
        for _ in 0..self.varint()? {
            self.varint()?;
            let len = self.varint()?;
            self.bytes(len as usize)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Transaction {
        Transaction {
            producer: Producer { id: 4_000, epoch: 7 },
            last_producer: NO_PRODUCER,
            timeout_ms: 60_000,
            state: State::Ongoing,
            partitions: [
                TopicPartition::new("a", 1),
                TopicPartition::new("a", 0),
                TopicPartition::new("b", 9),
            ]
            .into(),
            start_ms: 11,
            updated_ms: 12,
        }
    }

    /// The bytes written down from Kafka's schema.
    #[test]
    fn records_have_kafkas_form() {
        assert_eq!(encode_key("id"), [0, 0, 0, 2, b'i', b'd']);
        let expected: Vec<u8> = [
            &[0, 0][..],
            &[0, 0, 0, 0, 0, 0, 0x0f, 0xa0],
            &[0, 7],
            &[0, 0, 0xea, 0x60],
            &[1],
            &[0, 0, 0, 2],
            &[0, 1, b'a', 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1],
            &[0, 1, b'b', 0, 0, 0, 1, 0, 0, 0, 9],
            &[0, 0, 0, 0, 0, 0, 0, 12],
            &[0, 0, 0, 0, 0, 0, 0, 11],
        ]
        .concat();
        assert_eq!(encode_value(&sample()), expected);
        assert_eq!(decode_value(&expected), Ok(sample()));
        let empty = Transaction { state: State::Empty, partitions: BTreeSet::new(), ..sample() };
        assert_eq!(decode_value(&encode_value(&empty)), Ok(empty.clone()));
        assert_eq!(decode_key(&encode_key("id")), Ok(Some(Arc::from("id"))));
        assert_eq!(decode_key(&[0, 9, 1]), Ok(None));
    }

    #[test]
    fn the_flexible_version_of_newer_brokers_is_read() {
        let bytes: Vec<u8> = [
            &[0, 1][..],
            &[0, 0, 0, 0, 0, 0, 0x0f, 0xa0],
            &[0, 7],
            &[0, 0, 0xea, 0x60],
            &[1],
            &[3],
            &[2, b'a', 3, 0, 0, 0, 0, 0, 0, 0, 1, 0],
            &[2, b'b', 2, 0, 0, 0, 9, 0],
            &[0, 0, 0, 0, 0, 0, 0, 12],
            &[0, 0, 0, 0, 0, 0, 0, 11],
            // One tagged field: tag 0 with eight bytes.
            &[1, 0, 8, 0, 0, 0, 0, 0, 0, 0, 5],
        ]
        .concat();
        assert_eq!(decode_value(&bytes), Ok(sample()));
        for cut in 0..bytes.len() {
            assert!(decode_value(&bytes[..cut]).is_err());
        }
        assert_eq!(decode_value(&[0, 2]), Err(RecordError::Version(2)));
    }

    proptest! {
        #[test]
        fn no_record_makes_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..120), version in 0..2u8) {
            let _ = decode_key(&bytes);
            let _ = decode_value(&bytes);
            let _ = decode_value(&[&[0, version][..], &bytes].concat());
        }
    }
}
