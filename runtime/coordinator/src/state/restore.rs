//! A state from the bytes of a snapshot. Whatever is wrong with them is an error with its place: checksums, the shape
//! of the tree and the digest are all held against what was written. Nothing is allocated by a length alone.

use std::io::{self, Read};

use hashbrown::HashMap;
use thiserror::Error;

use super::bytes::{DecodeError, Reader};
use super::digest::{ROOT_HASH, child_hash};
use super::nodes::{Kind, NAME_BYTES_MAX, NONE, ROOT, Saved};
use super::snapshot::{FRAME_HEAD_BYTES, MAGIC, VERSION, kind};
use super::{Limits, Serial, State};

/// Why a snapshot is not taken. `at` is the offset in the file of the frame, or of what is wrong.
#[derive(Debug, Error)]
pub enum RestoreError {
    #[error("the snapshot cannot be read at byte {at}: {source}")]
    Io { at: u64, source: io::Error },
    #[error("the file is no snapshot of a coordinator")]
    NoSnapshot,
    #[error("the snapshot has version {found}, known is {VERSION}")]
    Version { found: u32 },
    #[error("the snapshot is corrupt at byte {at}: {what}")]
    Corrupt { at: u64, what: &'static str },
}

fn corrupt<T>(at: u64, what: &'static str) -> Result<T, RestoreError> {
    Err(RestoreError::Corrupt { at, what })
}

/// The file, frame by frame.
struct Frames<'a> {
    reader: &'a mut dyn Read,
    at: u64,
    payload: Vec<u8>,
}

impl Frames<'_> {
    /// Fills `into` as far as the file goes.
    fn fill(&mut self, into: &mut [u8]) -> Result<usize, RestoreError> {
        let mut filled = 0;
        while filled < into.len() {
            match self.reader.read(&mut into[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(RestoreError::Io { at: self.at + filled as u64, source }),
            }
        }
        Ok(filled)
    }

    /// Reads the next frame and says where its payload begins.
    fn next(&mut self) -> Result<u64, RestoreError> {
        let start = self.at;
        let mut head = [0; FRAME_HEAD_BYTES];
        if self.fill(&mut head)? < head.len() {
            return corrupt(start, "it ends early");
        }
        let [a, b, c, d, sum @ ..] = head;
        let length = u64::from(u32::from_le_bytes([a, b, c, d]));
        self.payload.clear();
        let mut piece = (&mut *self.reader).take(length);
        // Grows with what is there, not with what is promised.
        piece.read_to_end(&mut self.payload).map_err(|source| RestoreError::Io { at: start, source })?;
        if (self.payload.len() as u64) < length {
            return corrupt(start, "it ends early");
        }
        if crc32c::crc32c(&self.payload) != u32::from_le_bytes(sum) {
            return corrupt(start, "a checksum does not match");
        }
        self.at = start + FRAME_HEAD_BYTES as u64 + length;
        Ok(start + FRAME_HEAD_BYTES as u64)
    }
}

/// What is known of the znodes before they are a tree.
#[derive(Default)]
struct Loaded {
    /// Numbers in the file, rising; the place in this list is the number in the new state.
    numbers: Vec<u32>,
    /// Of each the number of its parent in the file.
    parents: Vec<u32>,
    /// Numbers of access lists in the file and in the new state.
    acls: HashMap<u32, u32>,
}

impl State {
    /// The state that a snapshot holds, with the usual limits.
    ///
    /// # Errors
    /// If the file cannot be read, is of another version, ends early or is damaged.
    pub fn restore(reader: &mut dyn Read) -> Result<State, RestoreError> {
        State::restore_with_limits(Limits::default(), reader)
    }

    /// The same with other limits.
    ///
    /// # Errors
    /// As of [`State::restore`].
    pub fn restore_with_limits(limits: Limits, reader: &mut dyn Read) -> Result<State, RestoreError> {
        let mut frames = Frames { reader, at: 0, payload: Vec::new() };
        let mut start = [0; MAGIC.len() + 4];
        let filled = frames.fill(&mut start)?;
        let [magic @ .., a, b, c, d] = start;
        if filled < start.len() || magic != *MAGIC {
            return Err(RestoreError::NoSnapshot);
        }
        let found = u32::from_le_bytes([a, b, c, d]);
        if found != VERSION {
            return Err(RestoreError::Version { found });
        }
        frames.at = start.len() as u64;

        let mut state = State::empty(limits);
        let mut loaded = Loaded::default();
        let mut has_head = false;
        loop {
            let at = frames.next()?;
            let mut reader = Reader::new(&frames.payload);
            let end = state.load_frame(&mut reader, &mut loaded, &mut has_head);
            match end {
                Ok(None) => {}
                Ok(Some((count, digest))) => {
                    if !has_head || reader.left() > 0 {
                        return corrupt(at, "the end does not fit");
                    }
                    state.link(loaded, count, digest).map_err(|what| RestoreError::Corrupt { at, what })?;
                    return Ok(state);
                }
                Err(DecodeError { what, at: inner }) => return corrupt(at + inner as u64, what),
            }
        }
    }

    /// Takes over a frame; of the last one it gives the number of znodes and the digest.
    fn load_frame(
        &mut self,
        reader: &mut Reader<'_>,
        loaded: &mut Loaded,
        has_head: &mut bool,
    ) -> Result<Option<(u64, u64)>, DecodeError> {
        match reader.u8()? {
            kind::HEAD if !*has_head => {
                *has_head = true;
                self.load_head(reader)?;
            }
            kind::ACLS => {
                while reader.left() > 0 {
                    let number = reader.u32()?;
                    let list = reader.acl()?;
                    // The use that this counts is given back at the end.
                    loaded.acls.insert(number, self.acls.take(&list));
                }
            }
            kind::SESSIONS => {
                while reader.left() > 0 {
                    let (id, timeout_ms, owner) = (reader.session()?, reader.i32()?, reader.u64()?);
                    if self.create_session(id, timeout_ms, owner).is_err() {
                        return Err(reader.error("a session that cannot be"));
                    }
                }
            }
            kind::NODES => {
                while reader.left() > 0 {
                    self.load_node(reader, loaded)?;
                }
            }
            kind::END => {
                let count = reader.u64()?;
                let digest =
                    reader.take(8)?.iter().rev().fold(0, |digest, &byte| digest << 8 | u64::from(byte));
                return Ok(Some((count, digest)));
            }
            _ => return Err(reader.error("an unknown or repeated frame")),
        }
        Ok(None)
    }

    fn load_head(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        self.last_zxid = reader.i64()?;
        self.time_ms = reader.i64()?;
        self.secret = match reader.data()? {
            None => None,
            Some(bytes) => match bytes.try_into() {
                Ok(secret) => Some(secret),
                Err(_) => return Err(reader.error("a secret of another length")),
            },
        };
        for _ in 0..reader.count(3)? {
            let (server, incarnation, last) = (reader.u32()?, reader.u64()?, reader.u64()?);
            self.origins.insert(server, Serial { incarnation, last });
        }
        Ok(())
    }

    fn load_node(&mut self, reader: &mut Reader<'_>, loaded: &mut Loaded) -> Result<(), DecodeError> {
        let number = reader.u32()?;
        if loaded.numbers.last().is_some_and(|&last| number <= last) {
            return Err(reader.error("znodes out of order"));
        }
        let parent = reader.u32()?.checked_sub(1).unwrap_or(NONE);
        let name = reader.bytes()?;
        let is_root = loaded.numbers.is_empty();
        if is_root != (parent == NONE) || is_root && (number != ROOT || !name.is_empty()) {
            return Err(reader.error("a root at the wrong place"));
        }
        if !is_root && !is_name(name) {
            return Err(reader.error("a name that cannot be"));
        }
        let data = reader.data()?;
        let acl = reader.u32()?;
        let Some(&acl) = loaded.acls.get(&acl) else {
            return Err(reader.error("an unknown access list"));
        };
        let czxid = reader.i64()?;
        let mzxid = czxid.wrapping_add(reader.i64()?);
        let ctime = reader.i64()?;
        let mtime = ctime.wrapping_add(reader.i64()?);
        let mut saved = Saved {
            acl,
            czxid,
            mzxid,
            pzxid: czxid,
            ctime,
            mtime,
            version: reader.i32()?,
            ..Saved::default()
        };
        let tag = reader.u8()?;
        if let Some(tag) = tag.checked_sub(1) {
            let owner = reader.i64()?;
            saved.kind = Kind::of_parts(tag, owner).ok_or(reader.error("an unknown kind of znode"))?;
            saved.pzxid = czxid.wrapping_add(reader.i64()?);
            saved.cversion = reader.i32()?;
            saved.aversion = reader.i32()?;
        }
        if let Kind::Ephemeral(session) = saved.kind
            && !self.sessions.contains_key(&session)
        {
            return Err(reader.error("an ephemeral znode without its session"));
        }
        self.acls.keep(acl);
        self.nodes.insert(NONE, name, data, &saved);
        loaded.numbers.push(number);
        loaded.parents.push(parent);
        Ok(())
    }

    /// Makes a tree of the znodes, and holds it against what the snapshot says of itself.
    fn link(&mut self, loaded: Loaded, count: u64, digest: u64) -> Result<(), &'static str> {
        let Loaded { numbers, mut parents, acls } = loaded;
        if numbers.len() as u64 != count || count == 0 {
            return Err("znodes are missing");
        }
        for parent in parents.iter_mut().skip(1) {
            // Numbers only differ where some were free, so the place is often the number itself.
            *parent = match numbers.get(*parent as usize) {
                Some(there) if there == parent => *parent,
                _ => numbers.binary_search(parent).map_err(|_| "a znode without its parent")? as u32,
            };
        }
        // Hash and bytes of each path; 0 bytes where they are not known yet.
        let mut paths = vec![(ROOT_HASH, 0u32); numbers.len()];
        paths[0].1 = 1;
        self.account_added(ROOT, ROOT_HASH, 1);
        self.nodes.reserve(numbers.len());
        let mut above = Vec::new();
        for number in 1..numbers.len() {
            if !self.nodes.adopt(number as u32, parents[number]) {
                return Err("two znodes of one name");
            }
            // A parent may have a higher number than its child, where numbers were used again.
            let mut at = number;
            while paths[at].1 == 0 {
                if above.len() > numbers.len() {
                    return Err("znodes that hang on themselves");
                }
                above.push(at);
                at = parents[at] as usize;
            }
            while let Some(at) = above.pop() {
                let (hash, bytes) = paths[parents[at] as usize];
                let name = self.nodes.name(at as u32);
                let before = if parents[at] == ROOT { 0 } else { bytes };
                let bytes = before.saturating_add(1 + name.len() as u32);
                let hash = child_hash(hash, name);
                paths[at] = (hash, bytes);
                self.account_added(at as u32, hash, bytes as usize);
            }
        }
        for number in 1..numbers.len() as u32 {
            self.refresh_due(number);
            if self.is_limits(number) {
                self.quota_node_added(&self.nodes.path(number));
            }
        }
        if self.digest != digest {
            return Err("the digest does not match");
        }
        acls.values().for_each(|&acl| self.acls.give(acl));
        Ok(())
    }
}

fn is_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && !name.contains(&b'/')
        && std::str::from_utf8(name).is_ok()
}
