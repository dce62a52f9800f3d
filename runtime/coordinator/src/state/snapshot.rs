//! The state as bytes while it goes on changing: znodes are written by their numbers, a chunk at a time, and what
//! changes before its turn is kept as it was. So a snapshot is of one moment, and no write waits for more than a chunk.
//!
//! ```text
//!  file    magic, version (u32), frames
//!  frame   length (u32), CRC-32C of the payload (u32), payload: its kind (one byte), records
//!  kinds   head, access lists, sessions, znodes, end; fixed numbers are little-endian
//! ```

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use hashbrown::HashMap;

use super::State;
use super::bytes::{put_acl, put_bytes, put_data, put_i64, put_u64};
use super::nodes::{Kind, NONE, Nodes};

pub(super) const MAGIC: &[u8; 8] = b"flowtree";
pub(super) const VERSION: u32 = 1;
/// A frame is closed once it has so many bytes.
const FRAME_BYTES: usize = 128 * 1024;
/// Length and checksum before the payload.
pub(super) const FRAME_HEAD_BYTES: usize = 8;

pub(super) mod kind {
    pub const HEAD: u8 = 1;
    pub const ACLS: u8 = 2;
    pub const SESSIONS: u8 = 3;
    pub const NODES: u8 = 4;
    pub const END: u8 = 5;
}

/// A snapshot that was begun. Several may be at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotId(u64);

/// How far a running snapshot has come, and what changed ahead of it.
pub(super) struct Walk {
    id: SnapshotId,
    /// All but the znodes, as frames.
    head: Vec<u8>,
    head_written: AtomicUsize,
    /// The number that is written next; `end` and more: all are.
    cursor: AtomicU32,
    /// Numbers that were there at the begin.
    end: u32,
    /// Znodes as they were at the begin; `None`: the number was free.
    images: HashMap<u32, Option<Vec<u8>>>,
    /// Znodes and digest at the begin.
    nodes: usize,
    digest: u64,
}

impl Walk {
    /// Whether a change to this number must first be told.
    pub fn wants(&self, number: u32) -> bool {
        number < self.end
            && number >= self.cursor.load(Ordering::Relaxed)
            && !self.images.contains_key(&number)
    }

    pub fn keep(&mut self, number: u32, image: Option<Vec<u8>>) {
        self.images.insert(number, image);
    }
}

impl Nodes {
    /// The record of a znode in a snapshot.
    pub fn encode_node(&self, number: u32, out: &mut Vec<u8>) {
        let node = self.at(number);
        let kind = self.kind(number);
        put_u64(out, u64::from(number));
        put_u64(out, if node.parent == NONE { 0 } else { u64::from(node.parent) + 1 });
        put_bytes(out, self.name(number));
        put_data(out, self.data(number));
        put_u64(out, u64::from(node.acl));
        put_i64(out, node.czxid);
        put_i64(out, node.mzxid.wrapping_sub(node.czxid));
        put_i64(out, node.ctime);
        put_i64(out, node.mtime.wrapping_sub(node.ctime));
        put_i64(out, i64::from(node.version));
        // Most have nothing of this: one byte says so.
        let (pzxid, cversion, aversion) = (self.pzxid(number), self.cversion(number), self.aversion(number));
        let (tag, owner) = kind.parts();
        let plain = kind == Kind::Persistent && pzxid == node.czxid && cversion == 0 && aversion == 0;
        out.push(if plain { 0 } else { tag + 1 });
        if !plain {
            put_i64(out, owner);
            put_i64(out, pzxid.wrapping_sub(node.czxid));
            put_i64(out, i64::from(cversion));
            put_i64(out, i64::from(aversion));
        }
    }
}

impl State {
    /// Begins a snapshot of this moment, which costs as much as there are sessions and access lists. Until its end it
    /// keeps what changes before it is written, at most every znode once: whoever begins must end it.
    pub fn snapshot_begin(&mut self) -> SnapshotId {
        self.snapshots += 1;
        let id = SnapshotId(self.snapshots);
        let walk = Walk {
            id,
            head: self.encode_head(),
            head_written: AtomicUsize::new(0),
            cursor: AtomicU32::new(0),
            end: self.nodes.numbers(),
            images: HashMap::new(),
            nodes: self.nodes.len(),
            digest: self.digest,
        };
        self.nodes.walks.push(walk);
        id
    }

    /// Appends about `bytes` bytes of the snapshot, one znode more at most; true while there is more. The pieces in
    /// their order are the file. Of a snapshot that was ended nothing is written: the file has no end, and
    /// [`State::restore`] refuses it.
    pub fn snapshot_chunk(&self, id: SnapshotId, bytes: usize, out: &mut Vec<u8>) -> bool {
        let Some(walk) = self.nodes.walks.iter().find(|walk| walk.id == id) else { return false };
        let limit = out.len().saturating_add(bytes.max(1));
        let written = walk.head_written.load(Ordering::Relaxed);
        if written < walk.head.len() {
            let end = walk.head.len().min(written.saturating_add(bytes.max(1)));
            out.extend_from_slice(&walk.head[written..end]);
            walk.head_written.store(end, Ordering::Relaxed);
            return true;
        }
        let mut number = walk.cursor.load(Ordering::Relaxed);
        while number < walk.end && out.len() < limit {
            let start = open_frame(out, kind::NODES);
            while number < walk.end && out.len() < limit && out.len() - start < FRAME_BYTES {
                match walk.images.get(&number) {
                    Some(Some(image)) => out.extend_from_slice(image),
                    Some(None) => {}
                    None if self.nodes.is_used(number) => self.nodes.encode_node(number, out),
                    None => {}
                }
                number += 1;
            }
            close_frame(out, start);
        }
        walk.cursor.store(number, Ordering::Relaxed);
        if number < walk.end {
            return true;
        }
        let start = open_frame(out, kind::END);
        put_u64(out, walk.nodes as u64);
        out.extend_from_slice(&walk.digest.to_le_bytes());
        close_frame(out, start);
        false
    }

    /// Ends the snapshot, written or not, and frees what was kept for it.
    pub fn snapshot_end(&mut self, id: SnapshotId) {
        self.nodes.walks.retain(|walk| walk.id != id);
    }

    fn encode_head(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());

        let start = open_frame(&mut out, kind::HEAD);
        put_i64(&mut out, self.last_zxid);
        put_i64(&mut out, self.time_ms);
        put_data(&mut out, self.secret.as_ref().map(|secret| secret.as_slice()));
        put_u64(&mut out, self.origins.len() as u64);
        for (&server, serial) in &self.origins {
            put_u64(&mut out, u64::from(server));
            put_u64(&mut out, serial.incarnation);
            put_u64(&mut out, serial.last);
        }
        close_frame(&mut out, start);

        encode_frames(&mut out, kind::ACLS, self.acls.iter(), |out, (number, list)| {
            put_u64(out, u64::from(number));
            put_acl(out, list);
        });
        encode_frames(&mut out, kind::SESSIONS, self.sessions.iter(), |out, (id, session)| {
            out.extend_from_slice(&id.to_be_bytes());
            put_i64(out, i64::from(session.timeout_ms));
            put_u64(out, session.owner);
        });
        out
    }
}

/// Records in as many frames as they need.
fn encode_frames<T>(
    out: &mut Vec<u8>,
    kind: u8,
    records: impl Iterator<Item = T>,
    encode: impl Fn(&mut Vec<u8>, T),
) {
    let mut start = None;
    for record in records {
        let at = *start.get_or_insert_with(|| open_frame(out, kind));
        encode(out, record);
        if out.len() - at >= FRAME_BYTES {
            close_frame(out, at);
            start = None;
        }
    }
    if let Some(at) = start {
        close_frame(out, at);
    }
}

fn open_frame(out: &mut Vec<u8>, kind: u8) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_HEAD_BYTES]);
    out.push(kind);
    start
}

fn close_frame(out: &mut [u8], start: usize) {
    let (head, payload) = out[start..].split_at_mut(FRAME_HEAD_BYTES);
    head[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    head[4..].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
}
