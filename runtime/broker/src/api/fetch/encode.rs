//! The answer to a fetch as it goes over the wire, versions 4 to 16, written by hand: between its parts stand slices of
//! log files, which the connection sends without copying them.
//!
//! Layout: <https://kafka.apache.org/protocol#The_Messages_Fetch>.

use bytes::{BufMut, BytesMut};
use flow_log::Slice;
use uuid::Uuid;

use crate::api::Piece;
use crate::store::producers::Aborted;

/// The first version with each part of the answer.
const LOG_START: i16 = 5;
const SESSIONS: i16 = 7;
const PREFERRED_REPLICA: i16 = 11;
const FLEXIBLE: i16 = 12;
const TOPIC_IDS: i16 = 13;

/// Bytes of a partition's part without its records, about.
const PARTITION_BYTES: usize = 64;

/// The answer for one partition.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) error_code: i16,
    pub(super) high_watermark: i64,
    pub(super) last_stable_offset: i64,
    pub(super) log_start_offset: i64,
    /// None for readers that see everything.
    pub(super) aborted: Option<Vec<Aborted>>,
    /// Where the reader's log and this one part, as epoch and its end offset here (KIP-595).
    pub(super) diverging: Option<(i32, i64)>,
    pub(super) records: Option<Slice>,
}

/// One partition in the answer.
pub(super) struct Part<'a> {
    pub(super) topic: &'a str,
    pub(super) topic_id: Uuid,
    pub(super) index: i32,
    pub(super) answer: Answer,
}

/// The answer's body. Partitions of one topic stand together where they follow each other.
pub(super) fn encode_fetch(
    version: i16,
    error_code: i16,
    session_id: i32,
    parts: Vec<Part<'_>>,
) -> Vec<Piece> {
    let flexible = version >= FLEXIBLE;
    let mut pieces = Vec::new();
    let mut out = BytesMut::with_capacity(PARTITION_BYTES * (parts.len() + 1));
    out.put_i32(0);
    if version >= SESSIONS {
        out.put_i16(error_code);
        out.put_i32(session_id);
    }
    let runs: Vec<usize> =
        parts.chunk_by(|a, b| a.topic_id == b.topic_id && a.topic == b.topic).map(|run| run.len()).collect();
    put_count(&mut out, runs.len(), flexible);
    let mut parts = parts.into_iter();
    for run in runs {
        let mut run = parts.by_ref().take(run).peekable();
        let Some(first) = run.peek() else { break };
        match version {
            TOPIC_IDS.. => out.put_slice(first.topic_id.as_bytes()),
            FLEXIBLE.. => {
                put_varint(&mut out, first.topic.len() + 1);
                out.put_slice(first.topic.as_bytes());
            }
            _ => {
                // A topic's name has at most 249 bytes.
                out.put_i16(first.topic.len() as i16);
                out.put_slice(first.topic.as_bytes());
            }
        }
        put_count(&mut out, run.len(), flexible);
        for part in run {
            encode_part(&mut out, &mut pieces, version, part);
        }
        if flexible {
            put_varint(&mut out, 0);
        }
    }
    if flexible {
        put_varint(&mut out, 0);
    }
    pieces.push(Piece::Bytes(out.freeze()));
    pieces
}

fn encode_part(out: &mut BytesMut, pieces: &mut Vec<Piece>, version: i16, part: Part<'_>) {
    let flexible = version >= FLEXIBLE;
    let answer = part.answer;
    out.put_i32(part.index);
    out.put_i16(answer.error_code);
    out.put_i64(answer.high_watermark);
    out.put_i64(answer.last_stable_offset);
    if version >= LOG_START {
        out.put_i64(answer.log_start_offset);
    }
    match &answer.aborted {
        None if flexible => put_varint(out, 0),
        None => out.put_i32(-1),
        Some(aborted) => {
            put_count(out, aborted.len(), flexible);
            for aborted in aborted {
                out.put_i64(aborted.producer_id);
                out.put_i64(aborted.first_offset);
                if flexible {
                    put_varint(out, 0);
                }
            }
        }
    }
    if version >= PREFERRED_REPLICA {
        out.put_i32(-1);
    }
    let records = answer.records.filter(|records| !records.is_empty());
    let length = records.as_ref().map_or(0, Slice::len);
    // Never more than the fetch's own bound, which is an i32.
    put_count(out, length, flexible);
    if let Some(records) = records {
        pieces.push(Piece::Bytes(out.split().freeze()));
        pieces.push(Piece::Slice(records));
    }
    if flexible {
        match answer.diverging {
            None => put_varint(out, 0),
            Some((epoch, end_offset)) => {
                put_varint(out, 1);
                put_varint(out, 0);
                // Epoch, offset and no tags of its own.
                put_varint(out, 4 + 8 + 1);
                out.put_i32(epoch);
                out.put_i64(end_offset);
                put_varint(out, 0);
            }
        }
    }
}

/// The length of an array, or of bytes.
fn put_count(out: &mut BytesMut, count: usize, flexible: bool) {
    if flexible { put_varint(out, count + 1) } else { out.put_i32(count as i32) }
}

fn put_varint(out: &mut BytesMut, value: usize) {
    let mut value = value as u32;
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}
