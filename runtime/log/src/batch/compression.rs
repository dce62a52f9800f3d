//! The codecs of record batches: gzip, snappy (framed as the Java clients do, or raw), LZ4 frames, zstd.
//!
//! Decompression gives at most a bound that the caller names, and allocates only as bytes come out.

use std::io::{Read, Write};

use super::BatchError;

/// How the records of a batch are compressed; the numbers are those of the attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    #[default]
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

/// What stands before the blocks of snappy-java ("xerial") framing: its name, version 1, compatible with 1.
const XERIAL_HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// What of it is looked at; readers accept any version numbers.
const XERIAL_MAGIC_BYTES: usize = 8;
/// Uncompressed bytes in a block of snappy-java framing, as snappy-java writes it.
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;
/// Largest window of a zstd frame that is accepted whatever the bound of the records: 8 MiB, that of level 19.
const ZSTD_WINDOW_LOG_MIN: u32 = 23;
/// Largest window of a zstd frame at all: 128 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

impl Compression {
    pub fn from_code(code: i16) -> Option<Compression> {
        Some(match code {
            0 => Compression::None,
            1 => Compression::Gzip,
            2 => Compression::Snappy,
            3 => Compression::Lz4,
            4 => Compression::Zstd,
            _ => return None,
        })
    }

    /// Kafka's name, as in `compression.type`.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }

    /// From Kafka's name.
    pub fn from_name(name: &str) -> Option<Compression> {
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]
            .into_iter()
            .find(|one| one.name() == name)
    }

    /// Appends `plain` to `out`, compressed. `level` is the codec's own (gzip 1–9, zstd 1–22), clamped.
    pub(super) fn compress(self, plain: &[u8], level: Option<i32>, out: &mut Vec<u8>) {
        // Writing into memory cannot fail, and the levels are clamped: an error here would be a codec's own bug, and
        // the result would then not pass the check of whoever reads the batch.
        match self {
            Compression::None => out.extend_from_slice(plain),
            Compression::Gzip => {
                let level = level.map_or(flate2::Compression::default(), |level| {
                    flate2::Compression::new(level.clamp(1, 9) as u32)
                });
                let mut encoder = flate2::write::GzEncoder::new(out, level);
                let _ = encoder.write_all(plain);
                let _ = encoder.finish();
            }
            Compression::Snappy => {
                out.extend_from_slice(&XERIAL_HEADER);
                let mut encoder = snap::raw::Encoder::new();
                for block in plain.chunks(XERIAL_BLOCK_BYTES) {
                    let at = out.len();
                    out.resize(at + 4 + snap::raw::max_compress_len(block.len()), 0);
                    let size = encoder.compress(block, &mut out[at + 4..]).unwrap_or(0);
                    out[at..at + 4].copy_from_slice(&(size as u32).to_be_bytes());
                    out.truncate(at + 4 + size);
                }
            }
            Compression::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(out);
                let _ = encoder.write_all(plain);
                let _ = encoder.finish();
            }
            Compression::Zstd => {
                let level = level.map_or(zstd::DEFAULT_COMPRESSION_LEVEL, |level| level.clamp(-7, 22));
                // At once rather than as a stream: the frame then names its size, and its window is no larger.
                out.extend_from_slice(&zstd::bulk::compress(plain, level).unwrap_or_default());
            }
        }
    }

    /// Gives at most `bytes_max` bytes, else [`BatchError::TooLarge`].
    pub(super) fn decompress(self, packed: &[u8], bytes_max: usize) -> Result<Vec<u8>, BatchError> {
        match self {
            Compression::None => {
                if packed.len() > bytes_max {
                    return Err(BatchError::TooLarge { bytes_max });
                }
                Ok(packed.to_vec())
            }
            Compression::Gzip => drain(flate2::bufread::MultiGzDecoder::new(packed), bytes_max),
            Compression::Snappy => snappy(packed, bytes_max),
            Compression::Lz4 => drain(lz4_flex::frame::FrameDecoder::new(packed), bytes_max),
            Compression::Zstd => {
                let needed = usize::BITS - bytes_max.leading_zeros();
                let mut decoder = zstd::stream::read::Decoder::with_buffer(packed).map_err(broken)?;
                decoder
                    .window_log_max(needed.clamp(ZSTD_WINDOW_LOG_MIN, ZSTD_WINDOW_LOG_MAX))
                    .map_err(broken)?;
                drain(decoder, bytes_max)
            }
        }
    }
}

fn broken(error: impl ToString) -> BatchError {
    BatchError::Compressed(error.to_string())
}

/// Reads to the end, but no further than one byte past the bound.
fn drain(reader: impl Read, bytes_max: usize) -> Result<Vec<u8>, BatchError> {
    let mut plain = Vec::new();
    reader.take(bytes_max as u64 + 1).read_to_end(&mut plain).map_err(broken)?;
    if plain.len() > bytes_max {
        return Err(BatchError::TooLarge { bytes_max });
    }
    Ok(plain)
}

fn snappy(packed: &[u8], bytes_max: usize) -> Result<Vec<u8>, BatchError> {
    let mut plain = Vec::new();
    if !packed.starts_with(&XERIAL_HEADER[..XERIAL_MAGIC_BYTES]) {
        snappy_block(packed, bytes_max, &mut plain)?;
        return Ok(plain);
    }
    let Some(mut rest) = packed.get(XERIAL_HEADER.len()..) else {
        return Err(broken("the snappy header is cut"));
    };
    while !rest.is_empty() {
        let Some((length, after)) = rest.split_first_chunk::<4>() else {
            return Err(broken("a snappy block's length is cut"));
        };
        let length = u32::from_be_bytes(*length) as usize;
        let Some((block, after)) = after.split_at_checked(length) else {
            return Err(broken("a snappy block is cut"));
        };
        snappy_block(block, bytes_max, &mut plain)?;
        rest = after;
    }
    Ok(plain)
}

/// The most that a byte of a snappy block can become: a three-byte copy gives 64.
const SNAPPY_RATIO_MAX: usize = 64;

fn snappy_block(block: &[u8], bytes_max: usize, plain: &mut Vec<u8>) -> Result<(), BatchError> {
    let size = snap::raw::decompress_len(block).map_err(broken)?;
    let at = plain.len();
    if size > bytes_max - at {
        return Err(BatchError::TooLarge { bytes_max });
    }
    // The length is the sender's word; nothing is allocated that the block's bytes could not give.
    if size > block.len().saturating_mul(SNAPPY_RATIO_MAX) {
        return Err(broken("a snappy block claims more than it can hold"));
    }
    plain.resize(at + size, 0);
    let got = snap::raw::Decoder::new().decompress(block, &mut plain[at..]).map_err(broken)?;
    plain.truncate(at + got);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    fn text(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|index| (index / 7 % 61) as u8 + b'0').collect()
    }

    #[test]
    fn every_codec_gives_back_what_it_took_and_keeps_the_bound() {
        for codec in ALL {
            for bytes in [0, 1, 100, XERIAL_BLOCK_BYTES, 200_000] {
                let plain = text(bytes);
                let mut packed = Vec::new();
                codec.compress(&plain, None, &mut packed);
                assert_eq!(codec.decompress(&packed, bytes).unwrap(), plain, "{codec:?} {bytes}");
                if bytes > 0 {
                    let refused = codec.decompress(&packed, bytes - 1);
                    assert_eq!(
                        refused,
                        Err(BatchError::TooLarge { bytes_max: bytes - 1 }),
                        "{codec:?} {bytes}"
                    );
                    // LZ4 ends with an empty block, which readers do not insist on.
                    let cut = codec.decompress(&packed[..packed.len() - 1], bytes);
                    assert!(codec == Compression::Lz4 || cut.as_ref() != Ok(&plain), "{codec:?} {bytes}");
                }
            }
        }
    }

    #[test]
    fn levels_out_of_range_are_clamped() {
        let plain = text(5_000);
        for codec in [Compression::Gzip, Compression::Zstd] {
            for level in [-1_000, 0, 1, 9, 1_000] {
                let mut packed = Vec::new();
                codec.compress(&plain, Some(level), &mut packed);
                assert_eq!(codec.decompress(&packed, 5_000).unwrap(), plain, "{codec:?} {level}");
            }
        }
    }

    #[test]
    fn snappy_without_the_framing_of_java_is_read() {
        let plain = text(100_000);
        let packed = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
        assert_eq!(Compression::Snappy.decompress(&packed, 100_000).unwrap(), plain);
    }

    #[test]
    fn a_snappy_block_that_lies_about_its_length_allocates_nothing() {
        // A varint of nearly 4 GiB, and nothing after it.
        let lie = [0xff, 0xff, 0xff, 0xff, 0x0f, 0];
        assert!(matches!(
            Compression::Snappy.decompress(&lie, usize::MAX / 2),
            Err(BatchError::Compressed(_))
        ));
    }

    #[test]
    fn a_name_leads_back_to_its_codec() {
        for codec in ALL {
            assert_eq!(Compression::from_name(codec.name()), Some(codec));
            assert_eq!(Compression::from_code(codec as i16), Some(codec));
        }
        assert_eq!(Compression::from_name("brotli"), None);
        assert_eq!(Compression::from_code(5), None);
    }
}
