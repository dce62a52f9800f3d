//! Compression that can stop at any commit: after [`Codec::flush`] everything so far can be decoded, and
//! [`Checkpoint::end`] closes a stream that was cut there. Knows bytes only.

use std::io::{Error, Result};

use flate2::{Compress, Compression, Crc, FlushCompress};
use serde::{Deserialize, Serialize};
use zstd::stream::raw::{CParameter, Encoder, InBuffer, Operation, OutBuffer};

/// The window of zstd, as a power of two: half a megabyte keeps many open files affordable.
const ZSTD_WINDOW_LOG: u32 = 19;

/// Room offered to a compressor at a time, in bytes.
const STEP_BYTES: usize = 32 << 10;

/// The `compress` setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compressed {
    None,
    Gzip,
    Zstd,
}

impl Compressed {
    pub fn extension(self) -> &'static str {
        match self {
            Compressed::None => "",
            Compressed::Gzip => ".gz",
            Compressed::Zstd => ".zst",
        }
    }
}

/// Where a stream stands after a flush: enough to close it without its compressor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// A stream is begun and not ended.
    pub open: bool,
    /// CRC-32 of the stream's input, for gzip.
    pub crc: u32,
    /// Bytes of input modulo 2^32, for gzip.
    pub input: u32,
}

impl Checkpoint {
    /// The bytes that end a stream cut at this point.
    pub fn end(&self, compressed: Compressed) -> Vec<u8> {
        match compressed {
            _ if !self.open => Vec::new(),
            Compressed::None => Vec::new(),
            // RFC 1951: a last, empty block with fixed codes. RFC 1952: CRC and length.
            Compressed::Gzip => [&[3, 0][..], &self.crc.to_le_bytes(), &self.input.to_le_bytes()].concat(),
            // RFC 8878: a last, empty raw block. Our frames have neither content size nor checksum.
            Compressed::Zstd => vec![1, 0, 0],
        }
    }
}

/// The compressor of one file. A stream begins with the first bytes.
pub enum Codec {
    None,
    Gzip { level: u32, stream: Option<Box<(Compress, Crc)>> },
    Zstd { level: i32, stream: Option<Box<Encoder<'static>>> },
}

impl Codec {
    pub fn new(compressed: Compressed, level: Option<u32>) -> Codec {
        match compressed {
            Compressed::None => Codec::None,
            Compressed::Gzip => Codec::Gzip { level: level.unwrap_or(6).clamp(1, 9), stream: None },
            Compressed::Zstd => Codec::Zstd { level: level.unwrap_or(3).clamp(1, 19) as i32, stream: None },
        }
    }

    /// Takes input and appends what is ready to `out`.
    pub fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<()> {
        match self {
            Codec::None => {
                out.extend_from_slice(input);
                Ok(())
            }
            Codec::Gzip { level, stream } => {
                let stream = stream.get_or_insert_with(|| {
                    // RFC 1952: deflate, no flags, no time, no extra flags, unknown system.
                    out.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
                    Box::new((Compress::new(Compression::new(*level), false), Crc::new()))
                });
                stream.1.update(input);
                deflate(&mut stream.0, input, FlushCompress::None, out)
            }
            Codec::Zstd { level, stream } => {
                let stream = match stream {
                    Some(stream) => stream,
                    None => {
                        let mut encoder = Encoder::new(*level)?;
                        encoder.set_parameter(CParameter::WindowLog(ZSTD_WINDOW_LOG))?;
                        stream.insert(Box::new(encoder))
                    }
                };
                let mut input = InBuffer::around(input);
                while input.pos() < input.src.len() {
                    step(out, |room| stream.run(&mut input, room))?;
                }
                Ok(())
            }
        }
    }

    /// Makes everything taken so far decodable.
    pub fn flush(&mut self, out: &mut Vec<u8>) -> Result<()> {
        match self {
            Codec::Gzip { stream: Some(stream), .. } => deflate(&mut stream.0, &[], FlushCompress::Sync, out),
            Codec::Zstd { stream: Some(stream), .. } => {
                while step(out, |room| stream.flush(room))? > 0 {}
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Where the stream stands; right only after [`Codec::flush`].
    pub fn checkpoint(&self) -> Checkpoint {
        match self {
            Codec::Gzip { stream: Some(stream), .. } => {
                Checkpoint { open: true, crc: stream.1.sum(), input: stream.1.amount() }
            }
            Codec::Zstd { stream: Some(_), .. } => Checkpoint { open: true, ..Checkpoint::default() },
            _ => Checkpoint::default(),
        }
    }

    /// Ends the stream; the next bytes begin another one.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.flush(out)?;
        let compressed = match self {
            Codec::None => Compressed::None,
            Codec::Gzip { .. } => Compressed::Gzip,
            Codec::Zstd { .. } => Compressed::Zstd,
        };
        out.extend_from_slice(&self.checkpoint().end(compressed));
        self.forget();
        Ok(())
    }

    /// Drops the stream as it is: what it gave was cut away or ended by other means.
    pub fn forget(&mut self) {
        match self {
            Codec::None => {}
            Codec::Gzip { stream, .. } => *stream = None,
            Codec::Zstd { stream, .. } => *stream = None,
        }
    }
}

/// Runs deflate until it has taken all input and given all output of the flush.
fn deflate(stream: &mut Compress, mut input: &[u8], flush: FlushCompress, out: &mut Vec<u8>) -> Result<()> {
    loop {
        out.reserve(STEP_BYTES);
        let (before_in, before_out, room) =
            (stream.total_in(), stream.total_out(), out.capacity() - out.len());
        stream.compress_vec(input, out, flush).map_err(Error::other)?;
        input = &input[(stream.total_in() - before_in) as usize..];
        let given = (stream.total_out() - before_out) as usize;
        if input.is_empty() && given < room {
            return Ok(());
        }
    }
}

/// One call of zstd with room at the end of `out`.
fn step(out: &mut Vec<u8>, run: impl FnOnce(&mut OutBuffer<'_, Vec<u8>>) -> Result<usize>) -> Result<usize> {
    let len = out.len();
    out.reserve(STEP_BYTES);
    let mut room = OutBuffer::around_pos(out, len);
    run(&mut room)
}

/// Decodes as much as there is: what a file that was cut anywhere still says.
pub fn decode_lossy(compressed: Compressed, bytes: &[u8]) -> Vec<u8> {
    use std::io::Read;
    let mut decoder: Box<dyn Read> = match compressed {
        Compressed::None => return bytes.to_vec(),
        Compressed::Gzip => Box::new(flate2::read::MultiGzDecoder::new(bytes)),
        Compressed::Zstd => match zstd::stream::read::Decoder::new(bytes) {
            Ok(decoder) => Box::new(decoder),
            Err(_) => return Vec::new(),
        },
    };
    let mut out = Vec::new();
    let mut piece = vec![0; STEP_BYTES];
    while let Ok(count @ 1..) = decoder.read(&mut piece) {
        out.extend_from_slice(&piece[..count]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn decode(compressed: Compressed, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match compressed {
            Compressed::None => out.extend_from_slice(bytes),
            Compressed::Gzip => {
                flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut out).unwrap();
            }
            Compressed::Zstd => {
                zstd::stream::read::Decoder::new(bytes).unwrap().read_to_end(&mut out).unwrap();
            }
        }
        out
    }

    #[test]
    fn a_stream_cut_at_any_flush_can_be_ended() {
        for compressed in [Compressed::Gzip, Compressed::Zstd] {
            let mut codec = Codec::new(compressed, None);
            let (mut out, mut text) = (Vec::new(), Vec::new());
            for round in 0..20_u32 {
                let line = format!("{round} {}\n", "abcdefgh".repeat((round as usize * 997) % 9000));
                text.extend_from_slice(line.as_bytes());
                codec.compress(line.as_bytes(), &mut out).unwrap();
                codec.flush(&mut out).unwrap();
                let mut cut = out.clone();
                cut.extend_from_slice(&codec.checkpoint().end(compressed));
                assert_eq!(decode(compressed, &cut), text, "{compressed:?} round {round}");
                // And another stream may follow.
                let mut second = Codec::new(compressed, Some(1));
                second.compress(b"more\n", &mut cut).unwrap();
                second.finish(&mut cut).unwrap();
                assert!(decode(compressed, &cut).ends_with(b"more\n"));
            }
            codec.finish(&mut out).unwrap();
            assert_eq!(decode(compressed, &out), text);
            assert!(!codec.checkpoint().open);
        }
    }

    #[test]
    fn what_is_left_of_a_file_is_decoded_as_far_as_it_goes() {
        for compressed in [Compressed::Gzip, Compressed::Zstd] {
            let mut codec = Codec::new(compressed, None);
            let mut out = Vec::new();
            codec.compress(b"one\n", &mut out).unwrap();
            codec.flush(&mut out).unwrap();
            assert_eq!(decode_lossy(compressed, &out), b"one\n", "{compressed:?}");
        }
        assert!(decode_lossy(Compressed::Zstd, b"garbage").is_empty());
    }
}
