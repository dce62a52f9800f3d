//! One followed file: where reading and delivery stand, and the step that reads its next lines. Blocks; knows
//! nothing of other files.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use flow_plan::Range;
use flow_plan::batch::{ARENA_PADDING, Arena, Columns};

use super::identity::{Fingerprint, Inode, fill_at, read_at};
use crate::sources::lines::{Cut, columns_of, cut_lines};
use crate::sources::rows::{HeaderTarget, now_ms};

/// The least that is read at once, in bytes, however short the lines are.
const READ_BYTES_MIN: usize = 16 << 10;

/// How far back the start of the last line is looked for when a file is read from its end, in bytes.
const LAST_LINE_BYTES_MAX: u64 = 1 << 20;

/// A deleted file is closed when it has been quiet for so many times `idle`.
const DELETED_IDLES: u32 = 10;

/// What every read of a source has in common.
#[derive(Clone, Debug)]
pub struct ReadParams {
    pub rows_max: usize,
    /// Bytes.
    pub read: usize,
    pub line_max: usize,
    pub file_header: Option<HeaderTarget>,
    pub offset_header: Option<HeaderTarget>,
}

/// A batch that was sent and not confirmed yet.
#[derive(Debug)]
struct Pending {
    id: u64,
    end: u64,
    delivered: bool,
}

#[derive(Debug)]
pub struct Tailed {
    pub inode: Inode,
    /// Where it is now.
    pub path: PathBuf,
    /// The path under which it was found first: what events carry.
    pub name: PathBuf,
    pub fingerprint: Fingerprint,
    pub handle: Option<File>,
    /// The next byte to read.
    pub read: u64,
    /// Everything before is delivered.
    pub committed: u64,
    /// Bytes after `read` that were looked at and hold no line end.
    pub partial: u64,
    /// Its path leads to another file or to none.
    pub gone: bool,
    /// Size and time of change at the last visit; a file is visited again until there is nothing more.
    pub seen: Option<(u64, Option<SystemTime>)>,
    /// Since when nothing new has come.
    pub quiet_since: Instant,
    /// When it is looked at next.
    pub look_at: Instant,
    /// It is in the queue of files that may have news.
    pub queued: bool,
    pending: VecDeque<Pending>,
    /// Bytes to ask for: what `rows_max` lines of the usual length need.
    hint: usize,
}

/// What a visit found.
pub enum Visit {
    /// Lines; `end` is the position after them, `pieces` counts cut pieces of over-long lines.
    Lines {
        columns: Box<Columns>,
        end: u64,
        pieces: u64,
    },
    /// Nothing new, or not a whole line.
    Nothing,
    /// It was cut, or written anew: reading starts again at 0.
    Truncated,
    /// The file itself cannot be found any more.
    Vanished,
    Failed(io::Error),
}

impl Tailed {
    pub fn new(inode: Inode, path: PathBuf, fingerprint: Fingerprint, position: u64, now: Instant) -> Tailed {
        Tailed {
            inode,
            name: path.clone(),
            path,
            fingerprint,
            handle: None,
            read: position,
            committed: position,
            partial: 0,
            gone: false,
            seen: None,
            quiet_since: now,
            look_at: now,
            queued: false,
            pending: VecDeque::new(),
            hint: usize::MAX,
        }
    }

    /// A deleted file is kept open for a while after its last news: whoever has it open may still write to it, and
    /// nobody could open it again.
    pub fn lingers(&self, idle: Duration) -> bool {
        let deleted =
            |file: &File| file.metadata().is_ok_and(|meta| std::os::unix::fs::MetadataExt::nlink(&meta) == 0);
        self.gone
            && self.quiet_since.elapsed() < idle.saturating_mul(DELETED_IDLES)
            && self.handle.as_ref().is_some_and(deleted)
    }

    pub fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }

    pub fn is_pending(&self, id: u64) -> bool {
        self.pending.iter().any(|pending| pending.id == id)
    }

    /// A batch is on its way that ends before `end`.
    pub fn sent(&mut self, id: u64, end: u64) {
        self.pending.push_back(Pending { id, end, delivered: false });
    }

    /// A batch was delivered: the position moves over everything that is delivered without a gap. Gives whether
    /// it moved.
    pub fn delivered(&mut self, id: u64) -> bool {
        if let Some(pending) = self.pending.iter_mut().find(|pending| pending.id == id) {
            pending.delivered = true;
        }
        let before = self.committed;
        while self.pending.front().is_some_and(|pending| pending.delivered) {
            if let Some(pending) = self.pending.pop_front() {
                self.committed = pending.end;
            }
        }
        self.committed != before
    }

    /// A batch was lost: everything after the last confirmed position is read again. `false`: it belonged to
    /// content that is no longer there, or is being read again already.
    pub fn lost(&mut self, id: u64) -> bool {
        if !self.is_pending(id) {
            return false;
        }
        self.pending.clear();
        self.read = self.committed;
        self.partial = 0;
        self.seen = None;
        true
    }

    /// Starts again at 0 after a truncation.
    pub fn restart(&mut self) {
        self.pending.clear();
        self.read = 0;
        self.committed = 0;
        self.partial = 0;
        self.seen = None;
        self.fingerprint = Fingerprint::default();
    }

    /// Whether there may be something to read, judged without opening. Marks the file as gone when its path
    /// leads elsewhere.
    pub fn probe(&mut self) -> bool {
        let meta = match (self.gone, &self.handle) {
            (true, Some(handle)) => handle.metadata(),
            (true, None) => return self.seen.is_none(),
            (false, _) => fs::metadata(&self.path),
        };
        let meta = match meta {
            Ok(meta) if Inode::of(&meta) == self.inode => meta,
            _ => {
                // Rotated or deleted: what was written before that may still be unread.
                self.gone = true;
                return true;
            }
        };
        self.seen != Some((meta.len(), meta.modified().ok()))
    }

    /// Reads the next lines. `at_end`: what is left at the end of the file is a line.
    pub fn visit(&mut self, params: &ReadParams, at_end: bool) -> Visit {
        match self.try_visit(params, at_end) {
            Ok(visit) => visit,
            Err(error) => {
                self.handle = None;
                Visit::Failed(error)
            }
        }
    }

    /// Reads the file, of at most `size` bytes, as one event.
    pub fn visit_whole(&mut self, params: &ReadParams, size: u64) -> Visit {
        let Some(file) = &self.handle else { return Visit::Vanished };
        let read = || -> io::Result<Option<(Box<Columns>, u64)>> {
            if self.read > 0 {
                return Ok(None);
            }
            let bytes = read_at(file, 0, size as usize)?;
            let whole = Range::new(0, bytes.len());
            let mut lines =
                crate::sources::lines::Lines { bodies: vec![whole], consumed: bytes.len(), pieces: 0 };
            let name = self.name.as_os_str().as_bytes();
            let columns = columns_of(bytes, &mut lines, now_ms(), name.len() + ARENA_PADDING)
                .and_then(|columns| add_headers(columns, params, name, 0))
                .map_err(|_| io::Error::other("a batch is larger than 4 GiB"))?;
            Ok((size > 0).then(|| (Box::new(columns), size)))
        };
        match read() {
            Ok(Some((columns, end))) => Visit::Lines { columns, end, pieces: 0 },
            Ok(None) => Visit::Nothing,
            Err(error) => Visit::Failed(error),
        }
    }

    fn try_visit(&mut self, params: &ReadParams, at_end: bool) -> io::Result<Visit> {
        if self.handle.is_none() {
            match self.open()? {
                Some(file) => self.handle = Some(file),
                None => return Ok(Visit::Vanished),
            }
        }
        let Some(file) = &self.handle else { return Ok(Visit::Vanished) };
        // Size and identity come from the open file, so they belong together.
        let meta = file.metadata()?;
        let size = meta.len();
        let seen = (size, meta.modified().ok());
        if size < self.read + self.partial {
            return Ok(Visit::Truncated);
        }
        // After a pause the content may be another one of at least the same length. The first bytes are also
        // looked at until all of them are known.
        if self.seen.is_none_or(|known| known != seen) && !self.fingerprint.verify(file)? {
            return Ok(Visit::Truncated);
        }
        if size == self.read || (!at_end && self.partial > 0 && size == self.read + self.partial) {
            self.seen = Some(seen);
            return Ok(Visit::Nothing);
        }
        let mut want = self.hint.clamp(READ_BYTES_MIN.min(params.read), params.read);
        if self.partial as usize >= want {
            let rest = (size - self.read) as usize;
            match self.find_line_end(file, size, params)? {
                Some(position) => want = ((position - self.read) as usize).min(params.line_max) + 1,
                None if at_end || rest > params.line_max => want = rest.min(params.line_max) + 1,
                None => {
                    self.partial = rest as u64;
                    self.seen = Some(seen);
                    return Ok(Visit::Nothing);
                }
            }
        }
        // One byte more than there is shows where the file ends.
        want = want.min((size - self.read).min(usize::MAX as u64 - 1) as usize + 1);
        let name = self.name.as_os_str().as_bytes();
        let mut bytes = Arena::buffer(want, name.len() + ARENA_PADDING);
        let mut filled = 0;
        loop {
            bytes.resize(want, 0);
            filled = fill_at(file, self.read, &mut bytes, filled)?;
            let ended = filled < want;
            let cut = Cut {
                rows_max: params.rows_max,
                line_max: params.line_max,
                at_end: at_end && ended,
                crlf: false,
            };
            let mut lines = cut_lines(&bytes[..filled], cut);
            if lines.bodies.is_empty() {
                if ended {
                    self.partial = filled as u64;
                    self.seen = Some(seen);
                    return Ok(Visit::Nothing);
                }
                // A line longer than the buffer; `line_max` bounds how far this goes.
                want = want.saturating_mul(2).min(params.line_max.saturating_add(1)).max(want + 1);
                continue;
            }
            // With all rows taken there may be more line ends in what is left.
            let rest = filled - lines.consumed;
            self.partial = if ended && lines.bodies.len() < params.rows_max { rest as u64 } else { 0 };
            self.seen = Some(seen);
            // Not more: what is read beyond the last row is read again. A batch need not be full.
            self.hint = (lines.consumed / lines.bodies.len() + 1).saturating_mul(params.rows_max);
            let (start, end) = (self.read, self.read + lines.consumed as u64);
            let pieces = lines.pieces;
            let columns = columns_of(bytes, &mut lines, now_ms(), name.len() + ARENA_PADDING)
                .and_then(|columns| add_headers(columns, params, name, start))
                .map_err(|_| io::Error::other("a batch is larger than 4 GiB"))?;
            return Ok(Visit::Lines { columns: Box::new(columns), end, pieces });
        }
    }

    /// Looks for the end of a long line in the bytes that were not looked at yet.
    fn find_line_end(&self, file: &File, size: u64, params: &ReadParams) -> io::Result<Option<u64>> {
        let mut position = self.read + self.partial;
        while position < size {
            let bytes = read_at(file, position, params.read)?;
            if bytes.is_empty() {
                break;
            }
            if let Some(at) = memchr::memchr(b'\n', &bytes) {
                return Ok(Some(position + at as u64));
            }
            position += bytes.len() as u64;
        }
        Ok(None)
    }

    /// Opens the file by its path, or where it was moved to in the same directory.
    fn open(&mut self) -> io::Result<Option<File>> {
        match File::open(&self.path) {
            Ok(file) if Inode::of(&file.metadata()?) == self.inode => return Ok(Some(file)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.gone = true;
        let Some(path) = find_inode(&self.path, self.inode)? else { return Ok(None) };
        let file = File::open(&path)?;
        if Inode::of(&file.metadata()?) != self.inode {
            return Ok(None);
        }
        self.path = path;
        Ok(Some(file))
    }
}

fn add_headers(
    mut columns: Columns,
    params: &ReadParams,
    name: &[u8],
    start: u64,
) -> Result<Columns, flow_plan::batch::ArenaFull> {
    if let Some(header) = &params.file_header {
        let range = columns.arena.push(name)?;
        header.set_all(&mut columns, range);
    }
    if let Some(header) = &params.offset_header {
        for row in 0..columns.bodies.len() {
            let position = start + u64::from(columns.bodies[row].start);
            let range: Range = columns.arena.push(position.to_string().as_bytes())?;
            header.set(&mut columns, row as u32, range);
        }
    }
    Ok(columns)
}

/// A file in the directory of `path` with this inode number: rotation renames within a directory.
fn find_inode(path: &Path, inode: Inode) -> io::Result<Option<PathBuf>> {
    let wanted = BTreeSet::from([inode.inode]);
    let names = match names_by_inode(path.parent().unwrap_or(Path::new("")), &wanted) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        names => names?,
    };
    let is_it =
        |path: &&PathBuf| fs::metadata(path).is_ok_and(|meta| meta.is_file() && Inode::of(&meta) == inode);
    Ok(names.get(&inode.inode).filter(is_it).cloned())
}

/// The entries of a directory that have one of the wanted inode numbers.
pub fn names_by_inode(directory: &Path, wanted: &BTreeSet<u64>) -> io::Result<BTreeMap<u64, PathBuf>> {
    use std::os::unix::fs::DirEntryExt;
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let entries = fs::read_dir(directory)?.flatten().filter(|entry| wanted.contains(&entry.ino()));
    Ok(entries.map(|entry| (entry.ino(), entry.path())).collect())
}

/// The position after the last line end: a line that is being written is not cut in two.
pub fn end_of_lines(file: &File) -> io::Result<u64> {
    let size = file.metadata()?.len();
    let from = size.saturating_sub(LAST_LINE_BYTES_MAX);
    let bytes = read_at(file, from, (size - from) as usize)?;
    Ok(match memchr::memrchr(b'\n', &bytes) {
        Some(at) => from + at as u64 + 1,
        None if from == 0 => 0,
        None => size,
    })
}
