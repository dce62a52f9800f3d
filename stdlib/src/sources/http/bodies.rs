//! Bodies of requests: decompression within a bound, and the events in them. A JSON array is cut at its elements
//! without copying them.

use std::collections::BTreeMap;
use std::io::Read;

use flow_agent::Context;
use flow_plan::Range;
use flow_plan::batch::{Arena, Columns};
use serde::Deserialize;

use crate::sources::lines::{Cut, cut_lines};
use crate::sources::rows::{HeaderTarget, now_ms};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    Json,
    Lines,
    Raw,
}

/// Why a body could not be decompressed.
#[derive(Debug, PartialEq, Eq)]
pub enum Broken {
    TooLarge,
    Unknown(String),
    Bad(String),
    /// Other requests hold so much that there is no room for this one now.
    NoRoom,
}

/// Bytes that are decompressed between two questions whether there is room.
const STEP_BYTES: u64 = 256 << 10;

/// Undoes `Content-Encoding`; the result has at most `bytes_max` bytes. `room` is asked whether so many bytes may be
/// held, as they become more.
pub fn decompress(
    bytes: Vec<u8>,
    encoding: &[u8],
    bytes_max: usize,
    room: &mut dyn FnMut(usize) -> bool,
) -> Result<Vec<u8>, Broken> {
    let encoding = encoding.trim_ascii().to_ascii_lowercase();
    let mut reader: Box<dyn Read + '_> = match encoding.as_slice() {
        b"" | b"identity" => return Ok(bytes),
        b"gzip" | b"x-gzip" => Box::new(flate2::read::MultiGzDecoder::new(bytes.as_slice())),
        b"deflate" => Box::new(flate2::read::ZlibDecoder::new(bytes.as_slice())),
        b"zstd" => {
            let decoder = zstd::Decoder::new(bytes.as_slice());
            Box::new(decoder.map_err(|error| Broken::Bad(format!("the zstd body is broken: {error}")))?)
        }
        other => return Err(Broken::Unknown(String::from_utf8_lossy(other).into_owned())),
    };
    let mut plain = Vec::new();
    loop {
        let step = STEP_BYTES.min((bytes_max + 1 - plain.len()) as u64);
        let count = (&mut reader)
            .take(step)
            .read_to_end(&mut plain)
            .map_err(|error| Broken::Bad(format!("the compressed body is broken: {error}")))?;
        if plain.len() > bytes_max {
            return Err(Broken::TooLarge);
        }
        if !room(bytes.len() + plain.len()) {
            return Err(Broken::NoRoom);
        }
        if count == 0 {
            return Ok(plain);
        }
    }
}

/// The form in which Flume's handler takes events.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FlumeEvent {
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: String,
}

/// The events of a body, in batches of at most `rows_max` rows. The error is one sentence for the client.
pub fn decode_events(
    bytes: Vec<u8>,
    format: Format,
    rows_max: usize,
    context: &Context,
) -> Result<Vec<Columns>, String> {
    let ranges = match format {
        Format::Raw => std::iter::once(0..bytes.len()).collect(),
        Format::Lines => {
            let cut = Cut { rows_max: usize::MAX, line_max: usize::MAX, at_end: true, crlf: true };
            cut_lines(&bytes, cut).bodies.into_iter().map(Range::range).collect()
        }
        Format::Json => {
            serde_json::from_slice::<serde::de::IgnoredAny>(&bytes)
                .map_err(|error| format!("the body is not JSON: {error}"))?;
            if std::str::from_utf8(&bytes).is_err() {
                return Err("the body is not UTF-8".to_owned());
            }
            elements(&bytes)
        }
    };
    let now = now_ms();
    let too_large = |_| "the body is larger than 4 GiB".to_owned();
    if ranges.len() <= rows_max && format != Format::Json {
        let bodies: Vec<Range> =
            ranges.into_iter().map(|range| Range::new(range.start, range.len())).collect();
        let times = vec![now; bodies.len()];
        let arena = Arena::from_vec(bytes).map_err(too_large)?;
        let columns = Columns { arena, bodies, times, ..Columns::default() };
        return Ok(if columns.bodies.is_empty() { Vec::new() } else { vec![columns] });
    }
    let mut batches = Vec::new();
    for ranges in ranges.chunks(rows_max) {
        let mut columns = Columns::default();
        for range in ranges {
            let element = &bytes[range.clone()];
            let flume = if format == Format::Json && element.first() == Some(&b'{') {
                serde_json::from_slice::<FlumeEvent>(element).ok()
            } else {
                None
            };
            let Some(event) = flume else {
                columns.push(element, now).map_err(too_large)?;
                continue;
            };
            let row = columns.push(event.body.as_bytes(), now).map_err(too_large)?;
            for (name, value) in &event.headers {
                let value = columns.arena.push(value.as_bytes()).map_err(too_large)?;
                HeaderTarget::new(name, context).set(&mut columns, row, value);
            }
        }
        batches.push(columns);
    }
    Ok(batches)
}

/// The elements of an array, or the whole value. The text is known to be JSON.
fn elements(json: &[u8]) -> Vec<std::ops::Range<usize>> {
    let start = json.len() - json.trim_ascii_start().len();
    let end = json.trim_ascii_end().len();
    if json.get(start) != Some(&b'[') {
        return std::iter::once(start..end).collect();
    }
    let mut found = Vec::new();
    let (mut depth, mut in_string, mut escaped, mut from) = (0usize, false, false, start + 1);
    for (at, &byte) in json.iter().enumerate().take(end).skip(start) {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    push_trimmed(&mut found, json, from, at);
                }
            }
            b',' if depth == 1 => {
                push_trimmed(&mut found, json, from, at);
                from = at + 1;
            }
            _ => {}
        }
    }
    found
}

fn push_trimmed(found: &mut Vec<std::ops::Range<usize>>, json: &[u8], from: usize, to: usize) {
    let piece = &json[from..to];
    let start = from + (piece.len() - piece.trim_ascii_start().len());
    let len = piece.trim_ascii().len();
    if len > 0 {
        found.push(start..start + len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn texts(json: &str) -> Vec<&str> {
        elements(json.as_bytes()).into_iter().map(|range| &json[range]).collect()
    }

    #[test]
    fn arrays_are_cut_at_their_elements() {
        assert_eq!(
            texts(r#" [1, "a,]\"", {"x":[1,2]} ,[3]] "#),
            ["1", r#""a,]\"""#, r#"{"x":[1,2]}"#, "[3]"]
        );
        assert_eq!(texts("[]"), [""; 0]);
        assert_eq!(texts(" {\"a\": [1]} "), ["{\"a\": [1]}"]);
    }

    #[test]
    fn compressed_bodies_are_bounded() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&vec![b'x'; 100_000]).unwrap();
        let gzip = gzip.finish().unwrap();
        let undo =
            |bytes: &[u8], encoding: &[u8], max| decompress(bytes.to_vec(), encoding, max, &mut |_| true);
        assert_eq!(undo(&gzip, b"gzip", 1000), Err(Broken::TooLarge));
        assert_eq!(undo(&gzip, b"gzip", 99_999), Err(Broken::TooLarge));
        assert_eq!(undo(&gzip, b" GZIP", 100_000).unwrap().len(), 100_000);
        assert!(matches!(undo(&gzip[..20], b"gzip", 100_000), Err(Broken::Bad(_))));
        assert_eq!(undo(&gzip, b"br", 10), Err(Broken::Unknown("br".to_owned())));
        let asked = &mut Vec::new();
        let mut room = |bytes| {
            asked.push(bytes);
            bytes < 500_000
        };
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        bomb.write_all(&vec![0; 50 << 20]).unwrap();
        assert_eq!(decompress(bomb.finish().unwrap(), b"gzip", 1 << 30, &mut room), Err(Broken::NoRoom));
        assert!(asked.last().is_some_and(|bytes| *bytes < 1 << 20), "it ends early: {asked:?}");
    }
}
