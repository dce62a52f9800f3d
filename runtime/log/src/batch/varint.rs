//! Variable-length integers of record batches: zigzag, seven bits a byte, least significant first (as protobuf).

/// Appends `value`.
pub(super) fn write(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Writes `value` over `place`, which is as long as [`size`] says.
pub(super) fn put(place: &mut [u8], value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    let last = place.len().saturating_sub(1);
    for (index, byte) in place.iter_mut().enumerate() {
        *byte = (rest & 0x7f) as u8 | if index < last { 0x80 } else { 0 };
        rest >>= 7;
    }
}

/// How many bytes [`write`] appends.
pub(super) fn size(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    (64 - (zigzag | 1).leading_zeros() as usize).div_ceil(7)
}

/// Reads a 64-bit value from the front of `bytes`, which is moved on. `None` if it is cut or longer than ten bytes.
pub(super) fn read_long(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        // The tenth byte has room for one bit.
        if index == 9 && *byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *bytes = &bytes[index + 1..];
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

/// Reads a 32-bit value: `None` also if it does not fit.
pub(super) fn read_int(bytes: &mut &[u8]) -> Option<i32> {
    i32::try_from(read_long(bytes)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for value in [0, 1, -1, 63, 64, -64, -65, 8191, 8192, i64::from(i32::MAX), i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            write(&mut out, value);
            assert_eq!(out.len(), size(value), "{value}");
            let mut place = vec![0; size(value)];
            put(&mut place, value);
            assert_eq!(place, out, "{value}");
            let mut rest = &out[..];
            assert_eq!(read_long(&mut rest), Some(value));
            assert!(rest.is_empty());
            assert_eq!(read_long(&mut &out[..out.len() - 1]), None);
        }
        assert_eq!(read_long(&mut &[0xff; 12][..]), None);
        assert_eq!(read_int(&mut &[0xff, 0xff, 0xff, 0xff, 0x1f][..]), None);
    }
}
