//! Which partition an event belongs to: by its key, as clients of Kafka choose, so that both agree.

use flow_agent::{Context, Fault};
use flow_plan::eval::PreparedExpr;
use flow_plan::ir::Expr;
use flow_plan::value::Value;
use flow_plan::{Batch, Slot};

/// The `key` of a topic, ready to be asked for each event.
pub enum Key {
    None,
    Header(Slot),
    Expr(PreparedExpr),
}

impl Key {
    pub fn new(expr: Option<&Expr>, context: &Context) -> Result<Key, Fault> {
        match expr {
            None => Ok(Key::None),
            Some(Expr::Header(slot)) => Ok(Key::Header(*slot)),
            Some(expr) => PreparedExpr::new(expr, &context.functions)
                .map(Key::Expr)
                .map_err(|error| Fault::new(error.message).setting("key")),
        }
    }

    /// Hands the key of a row to `then`; an error says why it cannot be computed.
    pub fn with<T>(
        &self,
        batch: &Batch,
        row: u32,
        now_ms: i64,
        then: impl FnOnce(Option<&[u8]>) -> T,
    ) -> Result<T, String> {
        match self {
            Key::None => Ok(then(None)),
            Key::Header(slot) => Ok(then(batch.header(row, *slot))),
            Key::Expr(expr) => match expr.eval(batch, row, now_ms) {
                Ok(Value::Text(text)) => Ok(then(Some(&text))),
                Ok(Value::Null) => Ok(then(None)),
                Ok(_) => Err("the key is not text".to_owned()),
                Err(error) => Err(error.message),
            },
        }
    }
}

/// The partition of a key: murmur2 of its bytes, as the Java client computes it.
pub fn partition_of(key: &[u8], partitions: i32) -> i32 {
    ((murmur2(key) & 0x7fff_ffff) % partitions.max(1) as u32) as i32
}

/// MurmurHash2 by Austin Appleby, 32 bits, with the seed that Kafka uses.
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    let mut hash = SEED ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of Kafka's own test of its `Utils.murmur2`.
    #[test]
    fn keys_hash_as_in_the_java_client() {
        for (key, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }

    #[test]
    fn every_partition_is_one_of_the_topic() {
        for number in 0..1_000_u32 {
            let partition = partition_of(&number.to_le_bytes(), 7);
            assert!((0..7).contains(&partition));
        }
    }
}
