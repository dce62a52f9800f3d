//! What is known about the files of the directory: how far they are delivered, which are done, which are left
//! alone. Blocks; knows nothing of batches.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use flow_agent::Fault;
use serde::{Deserialize, Serialize};

use super::super::positions::{StoredPath, plain, save_positions};
use super::super::tail::identity::Inode;
use super::mark::{is_half_renamed, rename_new};
use super::{Done, Order, Rules};

/// Files remembered, at most; those that are not there any more are forgotten at each look.
const TRACKED_MAX: usize = 1_000_000;

/// Files found in one look, at most; the others are found when these are done.
const FOUND_MAX: usize = 1_000_000;

/// Directories below each other, at most.
const DEPTH_MAX: usize = 64;

/// A file as it was when it was found; another size or time is another content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    #[serde(flatten)]
    pub inode: Inode,
    pub size: u64,
    /// Nanoseconds since 1970.
    pub modified_ns: u64,
}

impl Version {
    pub fn of(meta: &fs::Metadata) -> Version {
        let modified = meta.modified().ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        let modified_ns = modified.map_or(0, |since| since.as_nanos() as u64);
        Version { inode: Inode::of(meta), size: meta.len(), modified_ns }
    }
}

/// What is saved: how far a file is delivered, and whether it is completely.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Progress {
    pub path: StoredPath,
    #[serde(flatten)]
    pub version: Version,
    pub position: u64,
    pub done: bool,
}

#[derive(Debug, Default)]
pub struct Shelf {
    pub known: BTreeMap<PathBuf, Progress>,
    /// Files that are left alone, in the version that was refused.
    refused: BTreeMap<PathBuf, Version>,
    /// Paths that could not be looked at, said once.
    unreadable: BTreeSet<PathBuf>,
    pub unsaved: bool,
}

/// The result of one look.
#[derive(Debug, Default)]
pub struct Look {
    /// The files to read now, in order.
    pub ready: Vec<PathBuf>,
    /// There are some that are too young.
    pub unsettled: bool,
    /// What cannot be read, told for the first time.
    pub faults: Vec<Fault>,
}

#[derive(Default)]
struct Found {
    files: Vec<PathBuf>,
    unreadable: Vec<(PathBuf, io::Error)>,
}

impl Shelf {
    pub fn new(entries: Vec<Progress>) -> Shelf {
        let known = entries.into_iter().map(|entry| (entry.path.path(), entry)).collect();
        Shelf { known, ..Shelf::default() }
    }

    /// Looks at the directory. `open`: files that are being read.
    pub fn look(&mut self, rules: &Rules, open: &BTreeSet<PathBuf>) -> Result<Look, Fault> {
        let settings = &rules.settings;
        let mut found = Found::default();
        list(&settings.dir, settings.recursive, 0, &mut found).map_err(|error| {
            let fault = format!("cannot read `{}`: {}", settings.dir.display(), plain(&error));
            let fault = Fault::new(fault).code("F0804").setting("dir");
            match error.kind() {
                io::ErrorKind::NotFound => fault.help(format!("mkdir -p {}", settings.dir.display())),
                _ => fault,
            }
        })?;
        let present: BTreeSet<&PathBuf> = found.files.iter().collect();
        let before = self.known.len();
        self.known.retain(|path, _| present.contains(path));
        self.refused.retain(|path, _| present.contains(path));
        self.unsaved |= before != self.known.len();
        let mut look = Look::default();
        let mut ready = Vec::new();
        for path in &found.files {
            if open.contains(path) || !rules.names(path) {
                continue;
            }
            let meta = match fs::metadata(path) {
                Ok(meta) => meta,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    found.unreadable.push((path.clone(), error));
                    continue;
                }
            };
            let version = Version::of(&meta);
            if !meta.is_file() || self.refused.get(path) == Some(&version) && !self.is_done(path, version) {
                continue;
            }
            if self.is_done(path, version) || self.is_marked(rules, path, &meta) {
                // Delivered before, but the mark failed: perhaps it can be made now.
                if settings.done != Done::Tracker && mark(rules, path).is_ok() {
                    self.known.remove(path);
                    self.unsaved = true;
                }
                continue;
            }
            let age = meta.modified().ok().and_then(|time| SystemTime::now().duration_since(time).ok());
            if age.is_some_and(|age| age < settings.settle.std()) {
                look.unsettled = true;
                continue;
            }
            ready.push((version.modified_ns, path.clone()));
        }
        match settings.order {
            Order::Name => ready.sort_by(|one, other| one.1.cmp(&other.1)),
            Order::Oldest => ready.sort(),
            Order::Youngest => ready.sort_by(|one, other| other.0.cmp(&one.0).then(one.1.cmp(&other.1))),
        }
        look.ready = ready.into_iter().map(|(_, path)| path).collect();
        let unreadable: BTreeSet<PathBuf> = found.unreadable.iter().map(|(path, _)| path.clone()).collect();
        for (path, error) in found.unreadable {
            if !self.unreadable.contains(&path) {
                let fault = format!("cannot read `{}`: {}", path.display(), plain(&error));
                look.faults.push(Fault::new(fault).code("F0804").setting("dir"));
            }
        }
        self.unreadable = unreadable;
        Ok(look)
    }

    fn is_done(&self, path: &Path, version: Version) -> bool {
        self.known.get(path).is_some_and(|known| known.done && known.version == version)
    }

    /// It has both names: the second one is given only to what is delivered.
    fn is_marked(&self, rules: &Rules, path: &Path, meta: &fs::Metadata) -> bool {
        match &rules.settings.done {
            Done::Rename(suffix) => is_half_renamed(meta, path, &target(path, suffix)),
            _ => false,
        }
    }

    /// Leaves a file alone until it changes.
    pub fn refuse(&mut self, path: &Path, version: Version) {
        self.refused.insert(path.to_owned(), version);
    }

    /// A file is delivered up to a position.
    pub fn progress(&mut self, path: &Path, version: Version, position: u64) {
        let progress = Progress { path: StoredPath::of(path), version, position, done: false };
        self.remember(path, progress);
    }

    /// Marks a file that is read and delivered as done. The error is one sentence about it.
    pub fn finish(&mut self, rules: &Rules, path: &Path, version: Version) -> Result<(), String> {
        let now = fs::metadata(path).map(|meta| Version::of(&meta));
        if !now.as_ref().is_ok_and(|now| *now == version) {
            self.refuse(path, now.unwrap_or(version));
            return Err("has changed after it was read".to_owned());
        }
        let marked = mark(rules, path);
        if marked.is_ok() && rules.settings.done != Done::Tracker {
            self.known.remove(path);
            self.unsaved = true;
            return Ok(());
        }
        let progress = Progress { path: StoredPath::of(path), version, position: version.size, done: true };
        self.remember(path, progress);
        marked.map_err(|error| {
            let why = match (&rules.settings.done, error.kind()) {
                (Done::Rename(suffix), io::ErrorKind::AlreadyExists) => {
                    format!("`{}` exists", target(path, suffix).display())
                }
                _ => plain(&error),
            };
            format!("is delivered but cannot be marked as done ({why})")
        })
    }

    fn remember(&mut self, path: &Path, progress: Progress) {
        if self.known.len() < TRACKED_MAX || self.known.contains_key(path) {
            self.known.insert(path.to_owned(), progress);
            self.unsaved = true;
        }
    }

    pub fn save(&mut self, path: &Path) -> Result<(), Fault> {
        save_positions(path, self.known.values().collect())?;
        self.unsaved = false;
        Ok(())
    }
}

fn mark(rules: &Rules, path: &Path) -> io::Result<()> {
    match &rules.settings.done {
        Done::Tracker => Ok(()),
        Done::Delete => fs::remove_file(path),
        Done::Rename(suffix) => rename_new(path, &target(path, suffix)),
    }
}

fn target(path: &Path, suffix: &str) -> PathBuf {
    let mut target: OsString = path.as_os_str().to_owned();
    target.push(suffix);
    PathBuf::from(target)
}

/// The files of a directory, links to files included.
fn list(directory: &Path, recursive: bool, depth: usize, found: &mut Found) -> io::Result<()> {
    for entry in fs::read_dir(directory)?.flatten() {
        if found.files.len() >= FOUND_MAX {
            return Ok(());
        }
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !is_dir {
            found.files.push(entry.path());
        } else if recursive && depth < DEPTH_MAX {
            // One directory that cannot be read does not hide the others.
            if let Err(error) = list(&entry.path(), recursive, depth + 1, found) {
                found.unreadable.push((entry.path(), error));
            }
        }
    }
    Ok(())
}
