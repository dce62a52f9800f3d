//! How an event becomes text: the formats that the sinks share. Pure; it knows no destination.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flow_plan::Batch;
use serde::Deserialize;

/// How an event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// The body.
    Text,
    /// `{"time": "2026-11-23T10:00:00.000Z", "headers": {…}, "body": "…"}`; a body that is no UTF-8 stands in
    /// `body_base64` instead.
    Json,
    /// `{name=value, name=value} body`, as Flume's header and text serializer.
    HeadersAndText,
}

/// Writes events one after the other into a buffer.
#[derive(Clone)]
pub struct Encoder {
    format: Format,
    /// Header names by slot.
    slots: Arc<Vec<String>>,
}

impl Encoder {
    pub fn new(format: Format, slots: Arc<Vec<String>>) -> Encoder {
        Encoder { format, slots }
    }

    /// Appends one event without a newline at its end.
    pub fn encode(&self, batch: &Batch, row: u32, out: &mut Vec<u8>) {
        match self.format {
            Format::Text => out.extend_from_slice(batch.body(row)),
            Format::Json => encode_json(batch, row, &self.slots, out),
            Format::HeadersAndText => {
                out.push(b'{');
                for (index, (name, value)) in batch.headers(row, &self.slots).enumerate() {
                    if index > 0 {
                        out.extend_from_slice(b", ");
                    }
                    out.extend_from_slice(name.as_bytes());
                    out.push(b'=');
                    // One event is one line, whatever its headers hold.
                    out.extend(value.iter().map(|&byte| if byte == b'\n' { b' ' } else { byte }));
                }
                out.extend_from_slice(b"} ");
                out.extend_from_slice(batch.body(row));
            }
        }
    }

    /// Appends rows of a batch, each with a newline. Calls `full` with the buffer whenever it holds
    /// `buffer_bytes_max` or more, and with pieces of the batch's own memory that are large enough to go out
    /// alone; rows that stand in it as they were read, one after the other, are one piece.
    pub fn encode_lines<E>(
        &self,
        batch: &Batch,
        rows: &[u32],
        buffer: &mut Vec<u8>,
        buffer_bytes_max: usize,
        mut full: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.format != Format::Text {
            for &row in rows {
                self.encode(batch, row, buffer);
                buffer.push(b'\n');
                if buffer.len() >= buffer_bytes_max {
                    full(buffer)?;
                    buffer.clear();
                }
            }
            return Ok(());
        }
        let arena = batch.columns.arena.bytes();
        let bodies = &batch.columns.bodies;
        let mut next = 0;
        while next < rows.len() {
            let first = body_range(bodies, rows[next], arena.len());
            let (start, mut end) = (first.start, first.end);
            next += 1;
            // A body that follows its predecessor with the newline between them belongs to the same piece.
            while next < rows.len() && arena.get(end) == Some(&b'\n') {
                let body = body_range(bodies, rows[next], arena.len());
                if body.start != end + 1 {
                    break;
                }
                end = body.end;
                next += 1;
            }
            let closed = arena.get(end) == Some(&b'\n');
            let piece = &arena[start..end + usize::from(closed)];
            if piece.len() >= buffer_bytes_max / 4 {
                if !buffer.is_empty() {
                    full(buffer)?;
                    buffer.clear();
                }
                full(piece)?;
            } else {
                buffer.extend_from_slice(piece);
            }
            if !closed {
                buffer.push(b'\n');
            }
            if buffer.len() >= buffer_bytes_max {
                full(buffer)?;
                buffer.clear();
            }
        }
        Ok(())
    }
}

/// Where a body stands; an absent or impossible one is empty.
fn body_range(bodies: &[flow_plan::Range], row: u32, arena_bytes: usize) -> std::ops::Range<usize> {
    match bodies.get(row as usize) {
        Some(body) if !body.is_absent() && body.range().end <= arena_bytes => body.range(),
        // Nothing lies behind the end of the arena, so the next body cannot look like its neighbour.
        _ => arena_bytes..arena_bytes,
    }
}

fn encode_json(batch: &Batch, row: u32, slots: &[String], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"time\":\"");
    encode_time(batch.time_ms(row), out);
    out.extend_from_slice(b"\",\"headers\":{");
    for (index, (name, value)) in batch.headers(row, slots).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        encode_json_text(name, out);
        out.push(b':');
        encode_json_text(&String::from_utf8_lossy(value), out);
    }
    out.extend_from_slice(b"},");
    let body = batch.body(row);
    match std::str::from_utf8(body) {
        Ok(text) => {
            out.extend_from_slice(b"\"body\":");
            encode_json_text(text, out);
        }
        Err(_) => {
            out.extend_from_slice(b"\"body_base64\":\"");
            out.extend_from_slice(STANDARD.encode(body).as_bytes());
            out.push(b'"');
        }
    }
    out.push(b'}');
}

fn encode_json_text(text: &str, out: &mut Vec<u8>) {
    // Writing text into memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}

/// `2026-11-23T10:00:00.000Z`; times that no calendar has are written as the nearest one that it has.
fn encode_time(time_ms: i64, out: &mut Vec<u8>) {
    let time = jiff::Timestamp::from_millisecond(time_ms).unwrap_or(if time_ms < 0 {
        jiff::Timestamp::MIN
    } else {
        jiff::Timestamp::MAX
    });
    out.extend_from_slice(format!("{time:.3}").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow_plan::batch::{Arena, Columns, Range};

    fn lines(text: &[u8], rows: &[u32], buffer_bytes_max: usize) -> (Vec<u8>, usize) {
        let mut columns = Columns { arena: Arena::from_vec(text.to_vec()).unwrap(), ..Columns::default() };
        let mut start = 0;
        for line in text.split(|&byte| byte == b'\n') {
            columns.push_range(Range::new(start, line.len()), 0);
            start += line.len() + 1;
        }
        let batch = Batch::new(columns);
        let encoder = Encoder::new(Format::Text, Arc::default());
        let (mut out, mut calls, mut buffer) = (Vec::new(), 0, Vec::new());
        let done: Result<(), ()> =
            encoder.encode_lines(&batch, rows, &mut buffer, buffer_bytes_max, |piece| {
                calls += 1;
                out.extend_from_slice(piece);
                Ok(())
            });
        done.unwrap();
        out.extend_from_slice(&buffer);
        (out, calls)
    }

    #[test]
    fn neighbouring_lines_leave_as_one_piece() {
        let (out, calls) = lines(b"one\ntwo\n\nfour\nfive", &[0, 1, 2, 3, 4], 16);
        assert_eq!(out, b"one\ntwo\n\nfour\nfive\n");
        assert_eq!(calls, 1);
    }

    #[test]
    fn rows_that_were_dropped_leave_no_trace() {
        let (out, _) = lines(b"one\ntwo\nthree\nfour\n", &[0, 2, 3], 1024);
        assert_eq!(out, b"one\nthree\nfour\n");
    }

    #[test]
    fn json_keeps_bytes_that_are_no_text() {
        let mut columns = Columns::default();
        columns.push(b"\xff\x00", 1_700_000_000_123).unwrap();
        columns.push("caf\u{e9} \"x\"\n".as_bytes(), i64::MAX).unwrap();
        columns.set_header_named(0, "ho\"st", b"a", &[]).unwrap();
        let batch = Batch::new(columns);
        let encoder = Encoder::new(Format::Json, Arc::default());
        let mut out = Vec::new();
        encoder.encode(&batch, 0, &mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            r#"{"time":"2023-11-14T22:13:20.123Z","headers":{"ho\"st":"a"},"body_base64":"/wA="}"#
        );
        out.clear();
        encoder.encode(&batch, 1, &mut out);
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["body"], "caf\u{e9} \"x\"\n");
    }
}
