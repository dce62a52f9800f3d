//! Digests and checksums of bytes.

use flow_plan::Value;
use flow_plan::function::{CallContext, Functions};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

use super::args::{Answer, fail, int, take, text};
use super::encode::write_hex;

pub fn add(functions: &mut Functions) {
    functions.add("md5", md5);
    functions.add("sha1", sha1);
    functions.add("sha256", sha256);
    functions.add("sha512", sha512);
    functions.add("hmac_sha256", hmac_sha256);
    functions.add("crc32", crc32);
    functions.add("bucket", bucket);
}

/// Appends a digest in hexadecimal digits.
pub fn write_digest<D: Digest>(text: &[u8], out: &mut Vec<u8>) {
    write_hex(&D::digest(text), out);
}

fn digest<'a, D: Digest>(args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    let mut digits = Vec::new();
    write_digest::<D>(&text(value)?, &mut digits);
    Ok(Value::Text(digits.into()))
}

fn md5<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    digest::<Md5>(args)
}

fn sha1<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    digest::<Sha1>(args)
}

fn sha256<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    digest::<Sha256>(args)
}

fn sha512<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    digest::<Sha512>(args)
}

/// Appends an HMAC in hexadecimal digits: RFC 2104, with the block length of SHA-256.
pub fn write_hmac_sha256(value: &[u8], key: &[u8], out: &mut Vec<u8>) {
    const BLOCK_BYTES: usize = 64;
    let mut block = [0; BLOCK_BYTES];
    if key.len() > BLOCK_BYTES {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(value).finalize();
    let outer = Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize();
    write_hex(&outer, out);
}

fn hmac_sha256<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value, key] = take(args)?;
    let mut digits = Vec::new();
    write_hmac_sha256(&text(value)?, &text(key)?, &mut digits);
    Ok(Value::Text(digits.into()))
}

/// CRC-32 as gzip has it.
pub fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

fn crc32<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    Ok(Value::Int(i64::from(checksum(&text(value)?))))
}

fn bucket<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value, count] = take(args)?;
    let count = int(count)?;
    if count < 1 {
        return fail(format!("the number of buckets must be at least 1, this is {count}"));
    }
    Ok(Value::Int(bucket_of(&text(value)?, count)))
}

/// The bucket of a text; `count` is at least 1.
pub fn bucket_of(text: &[u8], count: i64) -> i64 {
    // A CRC alone spreads short keys badly over few buckets; the multiplication carries its low bits up.
    let hash = u64::from(checksum(text)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((u128::from(hash) * count as u128) >> 64) as i64
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{call, error, i, t};

    #[test]
    fn digests_agree_with_their_standards() {
        assert_eq!(call("md5", vec![t("abc")]), "\"900150983cd24fb0d6963f7d28e17f72\"");
        assert_eq!(call("sha1", vec![t("abc")]), "\"a9993e364706816aba3e25717850c26c9cd0d89d\"");
        assert_eq!(
            call("sha256", vec![t("abc")]),
            "\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\""
        );
        assert!(call("sha512", vec![t("abc")]).starts_with("\"ddaf35a193617abacc417349ae204131"));
        assert_eq!(call("crc32", vec![t("123456789")]), "3421780262");
    }

    /// RFC 4231, test cases 2 and 6 (a key longer than a block).
    #[test]
    fn hmac_agrees_with_its_rfc() {
        assert_eq!(
            call("hmac_sha256", vec![t("what do ya want for nothing?"), t("Jefe")]),
            "\"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843\""
        );
        let key = flow_plan::Value::Text([0xaa; 131].as_slice().into());
        assert_eq!(
            call("hmac_sha256", vec![t("Test Using Larger Than Block-Size Key - Hash Key First"), key]),
            "\"60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54\""
        );
    }

    #[test]
    fn buckets_are_filled_evenly() {
        let mut counts = [0; 4];
        for key in 0..4000 {
            let bucket: usize = call("bucket", vec![t(&key.to_string()), i(4)]).parse().expect("a number");
            counts[bucket] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
        error("bucket", vec![t("a"), i(0)]);
    }
}
