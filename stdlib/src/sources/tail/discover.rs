//! Which files are to be followed: what the patterns find now, put together with what is followed already and
//! with the positions of earlier runs. Blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::file::{Tailed, end_of_lines, names_by_inode};
use super::identity::{Fingerprint, Inode};
use crate::sources::globs::Patterns;
use crate::sources::positions::StoredPath;
use crate::sources::rows::now_ms;

/// Positions of files that are not there (any more) are kept for this long, in milliseconds: a directory may be
/// away for a while.
const KEPT_MS: i64 = 7 * 24 * 3_600_000;

/// Positions of files that are not there, at most; the oldest go first.
const KEPT_MAX: usize = 20_000;

/// How often a file that looks like a copy of a followed one is left for the next look: the original is about
/// to be truncated (`copytruncate`), which shows that it is one.
const COPY_LOOKS: u32 = 3;

/// What is saved of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub path: StoredPath,
    #[serde(flatten)]
    pub inode: Inode,
    /// Bytes delivered.
    pub position: u64,
    pub fingerprint: Fingerprint,
    /// When it was last there.
    pub seen_ms: i64,
    /// Where it is now, when that is known.
    #[serde(skip)]
    pub at: Whereabouts,
}

/// Where a file that no pattern finds any more is. Not saved: the next run searches again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Whereabouts {
    #[default]
    Unknown,
    At(PathBuf),
    /// Not in its directory.
    Nowhere,
}

impl Position {
    pub fn of(file: &Tailed) -> Position {
        Position {
            path: StoredPath::of(&file.name),
            inode: file.inode,
            position: file.committed,
            fingerprint: file.fingerprint,
            seen_ms: now_ms(),
            at: Whereabouts::Unknown,
        }
    }
}

/// Positions of files that are not followed now.
#[derive(Debug, Default)]
pub struct Kept {
    entries: Vec<Position>,
}

impl Kept {
    pub fn new(entries: Vec<Position>) -> Kept {
        Kept { entries }
    }

    pub fn push(&mut self, position: Position) {
        self.entries.push(position);
    }

    /// Forgets what is too old or too much.
    pub fn trim(&mut self) {
        let oldest = now_ms() - KEPT_MS;
        self.entries.retain(|entry| entry.seen_ms >= oldest);
        if self.entries.len() > KEPT_MAX {
            self.entries.sort_by_key(|entry| entry.seen_ms);
            self.entries.drain(..self.entries.len() - KEPT_MAX);
        }
    }

    /// The saved position of a file that was found: the same inode with the same first bytes. The device number
    /// of a disk may change with a reboot, the path is then the witness.
    fn take(&mut self, inode: Inode, path: &Path, size: u64, file: &File) -> io::Result<Option<Position>> {
        for index in 0..self.entries.len() {
            let entry = &self.entries[index];
            let same = entry.inode == inode
                || (entry.inode.inode == inode.inode
                    && entry.fingerprint.length > 0
                    && entry.path == StoredPath::of(path));
            if same && size >= entry.position {
                let mut fingerprint = entry.fingerprint;
                if fingerprint.verify(file)? {
                    let mut entry = self.entries.swap_remove(index);
                    entry.fingerprint = fingerprint;
                    return Ok(Some(entry));
                }
            }
        }
        Ok(None)
    }

    /// The position in a file of which this one is a copy: made under a longer name in the same directory,
    /// beginning with the same bytes, while the original was cut.
    fn take_copied(&mut self, path: &Path, size: u64, file: &File) -> io::Result<Option<Position>> {
        for index in 0..self.entries.len() {
            let entry = &self.entries[index];
            if entry.fingerprint.length == 0
                || size < entry.position
                || !is_rotation_name(path, &entry.path.path())
            {
                continue;
            }
            let mut fingerprint = entry.fingerprint;
            let replaced = || match fs::metadata(entry.path.path()) {
                Ok(meta) if Inode::of(&meta) == entry.inode => meta.len() < entry.position,
                _ => true,
            };
            if fingerprint.verify(file)? && replaced() {
                let mut entry = self.entries.swap_remove(index);
                entry.fingerprint = fingerprint;
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }
}

/// `access.log.1`, `access.log-20260101` for `access.log`.
fn is_rotation_name(path: &Path, of: &Path) -> bool {
    let (Some(name), Some(original)) = (path.file_name(), of.file_name()) else { return false };
    let (name, original) = (name.as_encoded_bytes(), original.as_encoded_bytes());
    path.parent() == of.parent() && name.len() > original.len() && name.starts_with(original)
}

/// Where a file is read from that has no saved position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fresh {
    Start,
    /// After the last line that is there now.
    End,
}

/// The files of a source.
pub struct Files {
    pub patterns: Patterns,
    /// By number, in the order of their discovery.
    pub live: BTreeMap<u64, Box<Tailed>>,
    pub kept: Kept,
    next: u64,
    /// How often a supposed copy was left for the next look.
    copies: BTreeMap<Inode, u32>,
}

/// What a look brought to light besides files.
#[derive(Debug, Default)]
pub struct Report {
    /// New files in `live`.
    pub added: usize,
    /// Files and directories that cannot be read now.
    pub unreadable: Vec<(PathBuf, io::Error)>,
    pub more: bool,
    /// Files that may be copies: looked at again next time.
    pub waiting: usize,
}

impl Files {
    pub fn new(patterns: Patterns, kept: Kept) -> Files {
        Files { patterns, live: BTreeMap::new(), kept, next: 0, copies: BTreeMap::new() }
    }

    /// Looks for files: those that the patterns find, and those that were followed before and have got more since,
    /// whatever they are called now.
    pub fn look(&mut self, fresh: Fresh) -> Report {
        let found = self.patterns.find();
        let mut report = Report { unreadable: found.unreadable, more: found.more, ..Report::default() };
        let by_inode: BTreeMap<Inode, u64> = self.live.iter().map(|(&key, file)| (file.inode, key)).collect();
        let mut present = BTreeSet::new();
        let mut new = Vec::new();
        for path in found.files {
            let meta = match fs::metadata(&path) {
                Ok(meta) if meta.is_file() => meta,
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    report.unreadable.push((path, error));
                    continue;
                }
            };
            let inode = Inode::of(&meta);
            if !present.insert(inode) {
                // Another name of the same file.
                continue;
            }
            match by_inode.get(&inode).and_then(|key| self.live.get_mut(key)) {
                Some(file) => {
                    if file.path != path
                        && fs::metadata(&file.path).map(|meta| Inode::of(&meta)).ok() != Some(inode)
                    {
                        file.path = path;
                    }
                    file.gone = false;
                }
                None => new.push((meta.modified().ok(), path, inode)),
            }
        }
        // The oldest first: a backlog is delivered in the order in which it was written.
        new.sort();
        for (_, path, inode) in new {
            match self.add(&path, inode, fresh) {
                Ok(true) => report.added += 1,
                Ok(false) => report.waiting += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => report.unreadable.push((path, error)),
            }
        }
        report.added += self.add_late();
        self.copies.retain(|inode, _| present.contains(inode));
        report
    }

    /// `false`: it may be a copy that is being made, and is left for the next look.
    fn add(&mut self, path: &Path, inode: Inode, fresh: Fresh) -> io::Result<bool> {
        let file = File::open(path)?;
        let meta = file.metadata()?;
        if Inode::of(&meta) != inode {
            return Ok(false);
        }
        let size = meta.len();
        if let Some(known) = self.kept.take(inode, path, size, &file)? {
            self.insert(path, inode, known.fingerprint, known.position, Some(known.path.path()));
            return Ok(true);
        }
        if let Some(known) = self.kept.take_copied(path, size, &file)? {
            self.copies.remove(&inode);
            self.insert(path, inode, known.fingerprint, known.position, None);
            return Ok(true);
        }
        if self.may_be_copy(path, &file)? {
            let looks = self.copies.entry(inode).or_default();
            *looks += 1;
            if *looks <= COPY_LOOKS {
                return Ok(false);
            }
        }
        self.copies.remove(&inode);
        let position = match fresh {
            Fresh::Start => 0,
            Fresh::End => end_of_lines(&file)?,
        };
        self.insert(path, inode, Fingerprint::of(&file)?, position, None);
        Ok(true)
    }

    fn may_be_copy(&self, path: &Path, file: &File) -> io::Result<bool> {
        for live in self.live.values() {
            if live.read > 0 && live.fingerprint.length > 0 && is_rotation_name(path, &live.path) {
                let mut fingerprint = live.fingerprint;
                if fingerprint.verify(file)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn insert(
        &mut self,
        path: &Path,
        inode: Inode,
        fingerprint: Fingerprint,
        position: u64,
        name: Option<PathBuf>,
    ) {
        let mut file = Tailed::new(inode, path.to_owned(), fingerprint, position, Instant::now());
        if let Some(name) = name {
            file.name = name;
        }
        self.live.insert(self.next, Box::new(file));
        self.next += 1;
    }

    /// Files that were read before, have been renamed since to names that no pattern matches, and have lines that
    /// were not read: their writers did not notice the rename, or this process was not there.
    fn add_late(&mut self) -> usize {
        let live: BTreeSet<Inode> = self.live.values().map(|file| file.inode).collect();
        // Each directory is read at most once, and only when a file has moved in it.
        let mut directories: BTreeMap<PathBuf, Option<BTreeMap<u64, PathBuf>>> = BTreeMap::new();
        let wanted: BTreeSet<u64> = self.kept.entries.iter().map(|entry| entry.inode.inode).collect();
        let mut late = Vec::new();
        for (index, entry) in self.kept.entries.iter_mut().enumerate() {
            let name = entry.path.path();
            if entry.at == Whereabouts::Nowhere
                || live.contains(&entry.inode)
                || !self.patterns.matches(&name)
            {
                continue;
            }
            let inode = entry.inode;
            let found = |path: &Path| {
                fs::metadata(path).ok().filter(|meta| meta.is_file() && Inode::of(meta) == inode)
            };
            let mut known = match &entry.at {
                Whereabouts::At(path) => found(path).map(|meta| (path.clone(), meta)),
                _ => None,
            };
            if known.is_none() {
                let directory = name.parent().unwrap_or(Path::new("")).to_owned();
                let Some(names) = directories
                    .entry(directory)
                    .or_insert_with_key(|directory| names_by_inode(directory, &wanted).ok())
                else {
                    // The directory may come back.
                    continue;
                };
                known = names.get(&inode.inode).and_then(|path| Some((path.clone(), found(path)?)));
            }
            let Some((path, meta)) = known else {
                entry.at = Whereabouts::Nowhere;
                continue;
            };
            entry.seen_ms = now_ms();
            entry.at = Whereabouts::At(path.clone());
            // Under its own name it is found by the patterns.
            if path != name && meta.len() > entry.position {
                late.push((index, path, name));
            }
        }
        let mut added = 0;
        for (index, path, name) in late.into_iter().rev() {
            let entry = &self.kept.entries[index];
            let mut fingerprint = entry.fingerprint;
            match File::open(&path).and_then(|file| fingerprint.verify(&file)) {
                Ok(true) => {
                    let entry = self.kept.entries.swap_remove(index);
                    self.insert(&path, entry.inode, fingerprint, entry.position, Some(name));
                    added += 1;
                }
                // The inode belongs to another file now.
                Ok(false) => self.kept.entries[index].at = Whereabouts::Nowhere,
                Err(_) => {}
            }
        }
        added
    }

    /// Everything to be saved.
    pub fn positions(&self) -> Vec<Position> {
        self.live.values().map(|file| Position::of(file)).chain(self.kept.entries.iter().cloned()).collect()
    }
}
