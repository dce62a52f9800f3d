//! Snapshots as files: written beside the running server, named by the entry they end with, complete or not there at all.
//! What is in them is the state's business; here are names, checksums and which ones are kept.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flow_log::{File, Storage};

use super::codec::{decode_meta, encode_meta};
use super::hard::write_whole;
use super::types::SnapshotMeta;
use crate::state::{Limits, State};

/// Newest version of the file that this program reads and the one that it writes.
pub(crate) const VERSION: u32 = 1;
const MAGIC: &[u8; 4] = b"FCSN";
/// Ends a file that is complete.
const END_MAGIC: &[u8; 4] = b"NSCF";
/// Magic, version, length and CRC-32C of the meta data.
const HEAD_BYTES: usize = 16;
/// Length and CRC-32C of the state, magic.
const TRAILER_BYTES: u64 = 16;
/// Most meta data: the members of the ensemble.
const META_BYTES_MAX: usize = 1 << 20;
/// How much is read at a time.
const READ_BYTES: usize = 256 << 10;
const DIR: &str = "snapshots";
const PREFIX: &str = "snapshot-";
/// A file that is not complete yet.
const UNFINISHED: &str = ".new";

/// Why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("cannot read `{}`: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("`{}` is corrupt: {what}", path.display())]
    Corrupt { path: PathBuf, what: String },
    #[error("`{}` has format version {found}, and this program reads versions up to {VERSION}", path.display())]
    Newer { path: PathBuf, found: u32 },
}

/// The directory of one server's snapshots.
#[derive(Clone)]
pub(crate) struct Snapshots {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    kept: usize,
    limits: Limits,
}

/// A complete snapshot.
pub(crate) struct SnapshotFile {
    pub path: PathBuf,
    pub meta: SnapshotMeta,
    /// Size of the file.
    pub bytes: u64,
    file: Arc<dyn File>,
}

/// What the consensus library hands around: a file, and what was in it if it was read already.
pub struct SnapshotData {
    pub(crate) file: Arc<SnapshotFile>,
    pub(crate) restored: Option<Box<State>>,
}

impl Snapshots {
    /// Opens the directory within `data`, and removes what was not finished.
    pub(crate) fn open(
        storage: Arc<dyn Storage>,
        data: &Path,
        kept: usize,
        limits: Limits,
    ) -> io::Result<Snapshots> {
        let dir = data.join(DIR);
        storage.create_dir(&dir)?;
        for name in storage.list(&dir)? {
            if name.ends_with(UNFINISHED) {
                storage.remove(&dir.join(name))?;
            }
        }
        Ok(Snapshots { storage, dir, kept: kept.max(2), limits })
    }

    /// Paths of complete snapshots, newest first.
    pub(crate) fn list(&self) -> io::Result<Vec<PathBuf>> {
        let mut found: Vec<(u64, String)> = self
            .storage
            .list(&self.dir)?
            .into_iter()
            .filter_map(|name| {
                let index = name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()?;
                (!name.ends_with(UNFINISHED)).then_some((index, name))
            })
            .collect();
        found.sort_unstable_by(|one, other| other.cmp(one));
        Ok(found.into_iter().map(|(_, name)| self.dir.join(name)).collect())
    }

    /// Opens a snapshot and checks all of it.
    pub(crate) fn load(&self, path: &Path) -> Result<(SnapshotFile, State), SnapshotError> {
        let file = self.storage.open(path);
        self.read(path, file.map_err(|error| SnapshotError::Io { path: path.to_owned(), error })?)
    }

    /// Checks and reads an open snapshot again.
    pub(crate) fn reread(&self, file: &SnapshotFile) -> Result<State, SnapshotError> {
        self.read(&file.path, file.file.clone()).map(|(_, state)| state)
    }

    fn read(&self, path: &Path, file: Arc<dyn File>) -> Result<(SnapshotFile, State), SnapshotError> {
        let failed = |error| SnapshotError::Io { path: path.to_owned(), error };
        let corrupt = |what: &str| SnapshotError::Corrupt { path: path.to_owned(), what: what.to_owned() };
        let bytes = file.len().map_err(failed)?;
        let mut reader = FileReader { file: file.as_ref(), position: 0, end: bytes, crc: 0 };
        let mut head = [0; HEAD_BYTES];
        reader.read_exact(&mut head).map_err(|_| corrupt("it is too short"))?;
        let number = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        if !head.starts_with(MAGIC) {
            return Err(corrupt("it does not begin as a snapshot does"));
        }
        if number(4) > VERSION {
            return Err(SnapshotError::Newer { path: path.to_owned(), found: number(4) });
        }
        let length = number(8) as usize;
        let body_at = (HEAD_BYTES + length) as u64;
        if length > META_BYTES_MAX || body_at + TRAILER_BYTES > bytes {
            return Err(corrupt("it is too short"));
        }
        let mut meta = vec![0; length];
        reader.read_exact(&mut meta).map_err(failed)?;
        if crc32c::crc32c(&meta) != number(12) {
            return Err(corrupt("the checksum of its meta data does not fit"));
        }
        let meta = decode_meta(&meta).map_err(|error| corrupt(&error.to_string()))?;
        let mut trailer = [0; TRAILER_BYTES as usize];
        let trailer_at = bytes - TRAILER_BYTES;
        let mut tail = FileReader { file: file.as_ref(), position: trailer_at, end: bytes, crc: 0 };
        tail.read_exact(&mut trailer).map_err(failed)?;
        let expected = u64::from_be_bytes(trailer[..8].try_into().unwrap_or_default());
        if &trailer[12..] != END_MAGIC || expected != trailer_at - body_at {
            return Err(corrupt("it is not complete"));
        }
        let body = FileReader { file: file.as_ref(), position: body_at, end: trailer_at, crc: 0 };
        let mut body = io::BufReader::with_capacity(READ_BYTES, body);
        let restored = State::restore_with_limits(self.limits.clone(), &mut body);
        let state = restored.map_err(|error| corrupt(&error.to_string()))?;
        // What the state left over counts for the checksum.
        io::copy(&mut body, &mut io::sink()).map_err(failed)?;
        if body.get_ref().crc.to_be_bytes() != trailer[8..12] {
            return Err(corrupt("its checksum does not fit"));
        }
        Ok((SnapshotFile { path: path.to_owned(), meta, bytes, file }, state))
    }

    /// Begins a snapshot file.
    pub(crate) fn begin(&self, meta: SnapshotMeta) -> io::Result<SnapshotWriter> {
        let text = encode_meta(&meta);
        let path = self.dir.join(name_of(&meta));
        let unfinished = PathBuf::from(format!("{}{UNFINISHED}", path.display()));
        let file = self.storage.create(&unfinished)?;
        let mut head = Vec::with_capacity(HEAD_BYTES + text.len());
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&VERSION.to_be_bytes());
        head.extend_from_slice(&(text.len() as u32).to_be_bytes());
        head.extend_from_slice(&crc32c::crc32c(&text).to_be_bytes());
        head.extend_from_slice(&text);
        write_whole(file.as_ref(), &head, 0)?;
        let position = head.len() as u64;
        Ok(SnapshotWriter {
            snapshots: self.clone(),
            file,
            unfinished,
            path,
            meta,
            position,
            body: 0,
            crc: 0,
            finished: false,
        })
    }

    /// Begins the file of a snapshot that comes from a leader, byte by byte as it is there.
    pub(crate) fn begin_copy(&self, number: u64) -> io::Result<SnapshotCopy> {
        let path = self.dir.join(format!("received-{number}{UNFINISHED}"));
        let file = self.storage.create(&path)?;
        Ok(SnapshotCopy { snapshots: self.clone(), file, path, position: 0, finished: false })
    }

    /// Removes all but the newest few, and says which entry the oldest of those ends with.
    pub(crate) fn remove_old(&self) -> io::Result<Option<u64>> {
        let found = self.list()?;
        for path in found.iter().skip(self.kept) {
            self.storage.remove(path)?;
        }
        Ok(found.get(1).and_then(|path| {
            let name = path.file_name()?.to_str()?;
            name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
        }))
    }
}

impl SnapshotFile {
    /// Reads a piece of the file.
    pub(crate) fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buffer, position)
    }
}

/// A snapshot that is being written. Dropping it unfinished removes it.
pub(crate) struct SnapshotWriter {
    snapshots: Snapshots,
    file: Arc<dyn File>,
    unfinished: PathBuf,
    path: PathBuf,
    meta: SnapshotMeta,
    position: u64,
    body: u64,
    crc: u32,
    finished: bool,
}

impl SnapshotWriter {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        write_whole(self.file.as_ref(), bytes, self.position)?;
        self.position += bytes.len() as u64;
        self.body += bytes.len() as u64;
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        Ok(())
    }

    /// Makes it complete. It lasts when the call returns.
    pub(crate) fn finish(mut self) -> io::Result<SnapshotFile> {
        let mut trailer = Vec::with_capacity(TRAILER_BYTES as usize);
        trailer.extend_from_slice(&self.body.to_be_bytes());
        trailer.extend_from_slice(&self.crc.to_be_bytes());
        trailer.extend_from_slice(END_MAGIC);
        write_whole(self.file.as_ref(), &trailer, self.position)?;
        self.file.sync()?;
        let storage = &self.snapshots.storage;
        storage.rename(&self.unfinished, &self.path)?;
        self.finished = true;
        storage.sync_dir(&self.snapshots.dir)?;
        Ok(SnapshotFile {
            path: self.path.clone(),
            meta: self.meta.clone(),
            bytes: self.position + TRAILER_BYTES,
            file: self.file.clone(),
        })
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        if !self.finished {
            // The next start removes it otherwise.
            let _ = self.snapshots.storage.remove(&self.unfinished);
        }
    }
}

/// A snapshot that is being received. Dropping it unfinished removes it.
pub(crate) struct SnapshotCopy {
    snapshots: Snapshots,
    file: Arc<dyn File>,
    path: PathBuf,
    position: u64,
    finished: bool,
}

impl SnapshotCopy {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        write_whole(self.file.as_ref(), bytes, self.position)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// How much has come.
    pub(crate) fn bytes(&self) -> u64 {
        self.position
    }

    /// Checks all of it, and gives it its name. It lasts when the call returns.
    pub(crate) fn finish(mut self) -> Result<(SnapshotFile, State), SnapshotError> {
        let failed = |error| SnapshotError::Io { path: self.path.clone(), error };
        self.file.sync().map_err(failed)?;
        let (mut file, state) = self.snapshots.load(&self.path)?;
        let path = self.snapshots.dir.join(name_of(&file.meta));
        let storage = &self.snapshots.storage;
        storage.rename(&self.path, &path).map_err(failed)?;
        storage.sync_dir(&self.snapshots.dir).map_err(failed)?;
        self.finished = true;
        file.path = path;
        Ok((file, state))
    }
}

impl Drop for SnapshotCopy {
    fn drop(&mut self) {
        if !self.finished {
            // The next start removes it otherwise.
            let _ = self.snapshots.storage.remove(&self.path);
        }
    }
}

/// Newer ones sort later.
fn name_of(meta: &SnapshotMeta) -> String {
    let (term, index) = meta.last_log_id.map_or((0, 0), |last| (last.committed_leader_id().term, last.index));
    format!("{PREFIX}{index:020}-{term}")
}

/// Reads a part of a file, and counts its checksum.
struct FileReader<'f> {
    file: &'f dyn File,
    position: u64,
    end: u64,
    crc: u32,
}

impl Read for FileReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.file.read_at(&mut buffer[..wanted], self.position)?;
        self.position += count as u64;
        self.crc = crc32c::crc32c_append(self.crc, &buffer[..count]);
        Ok(count)
    }
}
