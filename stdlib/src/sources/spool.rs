//! `spool`: complete files of a directory. A file is marked as done when all its events are delivered; one that
//! changes while it is read is reported and left.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use async_trait::async_trait;
use flow_agent::{Context, Fault, Source, SourceError, SourceOutput, Stop, decode_settings};
use flow_plan::settings::{Duration, Settings};
use flow_plan::{Batch, Outcome};
use globset::GlobSet;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::globs::glob_set;
use super::ledger::Ledger;
use super::positions::{Loaded, StoredPath, load_positions, plain, save_positions};
use super::rows::{HeaderTarget, Stamp};
use super::tail::file::{ReadParams, Tailed, Visit};
use super::tail::identity::{Fingerprint, Inode};

/// Files that the tracker remembers, at most; those that are not there any more are forgotten at each look.
const TRACKED_MAX: usize = 1_000_000;

/// Directories below each other, at most.
const DEPTH_MAX: usize = 64;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SpoolSettings {
    dir: PathBuf,
    done: Done,
    include: Vec<String>,
    exclude: Vec<String>,
    format: Format,
    order: Order,
    recursive: bool,
    follow: bool,
    settle: Duration,
    poll: Duration,
    batch: usize,
    read: usize,
    line_max: usize,
    blob_max: u64,
    unconfirmed: usize,
    file_header: Option<String>,
    basename_header: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Done {
    Rename(String),
    Delete,
    Tracker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Format {
    Lines,
    Blob,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Order {
    Oldest,
    Youngest,
    Name,
}

struct Spool {
    settings: SpoolSettings,
    include: GlobSet,
    exclude: GlobSet,
    params: Arc<ReadParams>,
    basename_header: Option<HeaderTarget>,
    stamp: Stamp,
    positions: PathBuf,
}

/// Makes the source.
pub fn spool(settings: &Settings, context: &Context) -> Result<Box<dyn Source>, Fault> {
    let settings: SpoolSettings = decode_settings(settings)?;
    if let Done::Rename(suffix) = &settings.done
        && (suffix.is_empty() || suffix.contains('/'))
    {
        return Err(Fault::new("the suffix of `rename` is empty or has a `/`").setting("done"));
    }
    let blob = settings.format == Format::Blob;
    let params = Arc::new(ReadParams {
        rows_max: settings.batch.max(1),
        read: settings.read.max(1),
        line_max: if blob { usize::MAX >> 1 } else { settings.line_max.max(1) },
        file_header: HeaderTarget::optional(&settings.file_header, context),
        offset_header: None,
    });
    Ok(Box::new(Spool {
        include: glob_set(&settings.include, "include")?,
        exclude: glob_set(&settings.exclude, "exclude")?,
        params,
        basename_header: HeaderTarget::optional(&settings.basename_header, context),
        stamp: Stamp::new(context),
        positions: context.state_dir.join("spool.json"),
        settings,
    }))
}

/// A file as it was when it was found; another size or time is another content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Version {
    #[serde(flatten)]
    inode: Inode,
    size: u64,
    /// Nanoseconds since 1970.
    modified_ns: u64,
}

impl Version {
    fn of(meta: &fs::Metadata) -> Version {
        let modified = meta.modified().ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        let modified_ns = modified.map_or(0, |since| since.as_nanos() as u64);
        Version { inode: Inode::of(meta), size: meta.len(), modified_ns }
    }
}

/// What is saved: how far a file is delivered. Done is `position == size`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Progress {
    path: StoredPath,
    #[serde(flatten)]
    version: Version,
    position: u64,
    done: bool,
}

struct Spooled {
    file: Box<Tailed>,
    version: Version,
    read: bool,
}

struct Spooling<'a> {
    spool: &'a Spool,
    output: SourceOutput,
    files: BTreeMap<u64, Spooled>,
    ledger: Ledger<u64>,
    known: BTreeMap<PathBuf, Progress>,
    /// Files that are left alone, in the version that was refused.
    refused: BTreeMap<PathBuf, Version>,
    next: u64,
    unsaved: bool,
    next_save: Instant,
}

#[async_trait]
impl Source for Spool {
    async fn run(&mut self, output: SourceOutput, mut stop: Stop) -> Result<(), SourceError> {
        let known = match load_positions::<Progress>(&self.positions).map_err(SourceError::Fatal)? {
            Loaded::Entries(entries) => entries,
            Loaded::First => Vec::new(),
            Loaded::Corrupt(aside) => {
                let what = "the saved positions make no sense and were moved to";
                output.warn(&Fault::new(format!("{what} `{}`", aside.display())));
                Vec::new()
            }
        };
        let mut spooling = Spooling {
            spool: self,
            output,
            files: BTreeMap::new(),
            ledger: Ledger::new(self.settings.unconfirmed.max(1)),
            known: known.into_iter().map(|entry| (entry.path.path(), entry)).collect(),
            refused: BTreeMap::new(),
            next: 0,
            unsaved: false,
            next_save: Instant::now(),
        };
        let result = spooling.run(&mut stop).await;
        let saved = spooling.save();
        result.and(saved)
    }
}

impl Spooling<'_> {
    async fn run(&mut self, stop: &mut Stop) -> Result<(), SourceError> {
        loop {
            let (found, unsettled) = self.look()?;
            let empty = found.is_empty();
            for path in found {
                self.read(&path, stop).await?;
                if stop.is_stopped() {
                    return self.wait(stop, true).await;
                }
            }
            if empty {
                self.wait(stop, true).await?;
                if !self.spool.settings.follow
                    && !unsettled
                    && self.files.is_empty()
                    && self.look()?.0.is_empty()
                {
                    return Ok(());
                }
                self.output.idle();
                tokio::select! {
                    () = tokio::time::sleep(self.spool.settings.poll.std()) => {}
                    () = stop.stopped() => return Ok(()),
                }
            }
        }
    }

    /// The files to read now, in order, and whether there are some that are too young.
    fn look(&mut self) -> Result<(Vec<PathBuf>, bool), SourceError> {
        let settings = &self.spool.settings;
        let mut found = Vec::new();
        list(&settings.dir, settings.recursive, 0, &mut found).map_err(|error| {
            let fault = format!("cannot read `{}`: {}", settings.dir.display(), plain(&error));
            SourceError::Retry(Fault::new(fault).code("F0804").setting("dir"))
        })?;
        let present: BTreeSet<&PathBuf> = found.iter().collect();
        let before = self.known.len();
        self.known.retain(|path, _| present.contains(path));
        self.refused.retain(|path, _| present.contains(path));
        self.unsaved |= before != self.known.len();
        let mut unsettled = false;
        let mut ready = Vec::new();
        for path in &found {
            let Some(name) = path.file_name() else { continue };
            let done = matches!(&settings.done, Done::Rename(suffix)
                if name.as_encoded_bytes().ends_with(suffix.as_bytes()));
            let name = Path::new(name);
            if done || !self.spool.include.is_match(name) || self.spool.exclude.is_match(name) {
                continue;
            }
            let Ok(meta) = fs::metadata(path) else { continue };
            let version = Version::of(&meta);
            let is_done = self.known.get(path).is_some_and(|known| known.done && known.version == version);
            let is_open = self.files.values().any(|file| file.file.path == *path);
            if !meta.is_file() || is_done || is_open || self.refused.get(path) == Some(&version) {
                continue;
            }
            let age = meta.modified().ok().and_then(|time| SystemTime::now().duration_since(time).ok());
            if age.is_some_and(|age| age < settings.settle.std()) {
                unsettled = true;
                continue;
            }
            ready.push((version.modified_ns, path.clone()));
        }
        match settings.order {
            Order::Name => ready.sort_by(|one, other| one.1.cmp(&other.1)),
            Order::Oldest => ready.sort(),
            Order::Youngest => ready.sort_by(|one, other| other.0.cmp(&one.0).then(one.1.cmp(&other.1))),
        }
        Ok((ready.into_iter().map(|(_, path)| path).collect(), unsettled))
    }

    /// Leaves a file alone until it changes.
    fn refuse(&mut self, path: &Path, version: Version, why: &str) {
        self.output.count("refused_files", 1);
        let what = format!("`{}` {why}: it is left where it is", path.display());
        self.output.warn(&Fault::new(what).code("F0804").setting("dir"));
        self.refused.insert(path.to_owned(), version);
    }

    /// Reads a file to its end.
    async fn read(&mut self, path: &Path, stop: &mut Stop) -> Result<(), SourceError> {
        let settings = &self.spool.settings;
        let opened =
            fs::File::open(path).and_then(|file| Ok((file.metadata()?, Fingerprint::of(&file)?, file)));
        let (meta, fingerprint, handle) = match opened {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                if let Ok(meta) = fs::metadata(path) {
                    self.refuse(path, Version::of(&meta), &format!("cannot be read ({})", plain(&error)));
                }
                return Ok(());
            }
        };
        let version = Version::of(&meta);
        let blob = settings.format == Format::Blob;
        if blob && version.size > settings.blob_max {
            self.refuse(path, version, "is larger than `blob_max`");
            return Ok(());
        }
        let saved = self.known.get(path).filter(|known| known.version == version && !blob);
        let position = saved.map_or(0, |known| known.position);
        let key = self.next;
        self.next += 1;
        let mut file =
            Box::new(Tailed::new(version.inode, path.to_owned(), fingerprint, position, Instant::now()));
        file.handle = Some(handle);
        self.files.insert(key, Spooled { file, version, read: false });
        loop {
            while self.ledger.room() == 0 {
                if stop.is_stopped() {
                    return Ok(());
                }
                tokio::select! {
                    (id, key, outcome) = self.ledger.next() => self.hear(id, key, outcome).await,
                    () = stop.stopped() => return Ok(()),
                }
            }
            while let Some((id, key, outcome)) = self.ledger.try_next() {
                self.hear(id, key, outcome).await;
            }
            let Some(mut spooled) = self.files.remove(&key) else { return Ok(()) };
            if stop.is_stopped() {
                self.files.insert(key, spooled);
                return Ok(());
            }
            let params = self.spool.params.clone();
            let (mut spooled, visit) = tokio::task::spawn_blocking(move || {
                let visit =
                    if blob { spooled.file.visit_whole(&params) } else { spooled.file.visit(&params, true) };
                (spooled, visit)
            })
            .await
            .map_err(|error| {
                SourceError::Retry(Fault::new(format!("a step of the source failed: {error}")))
            })?;
            let changed = match spooled.file.handle.as_ref().map(fs::File::metadata) {
                Some(Ok(meta)) => Version::of(&meta) != spooled.version,
                _ => true,
            };
            if changed || matches!(visit, Visit::Truncated | Visit::Vanished | Visit::Failed(_)) {
                let now = fs::metadata(path).map(|meta| Version::of(&meta));
                self.refuse(path, now.unwrap_or(spooled.version), "has changed while it was read");
                return Ok(());
            }
            let Visit::Lines { mut columns, end, pieces } = visit else {
                spooled.read = true;
                self.files.insert(key, spooled);
                self.finish(key).await;
                return Ok(());
            };
            if pieces > 0 {
                self.output.count("line_pieces", pieces);
            }
            if let (Some(header), Some(name)) = (&self.spool.basename_header, path.file_name())
                && let Ok(name) = columns.arena.push(name.as_encoded_bytes())
            {
                header.set_all(&mut columns, name);
            }
            self.spool.stamp.apply(&mut columns);
            let mut batch = Batch::new(*columns);
            let (id, ack) = self.ledger.open(key);
            batch.ack = ack;
            spooled.file.read = end;
            spooled.file.sent(id, end);
            self.files.insert(key, spooled);
            self.output.clone().send(batch).await?;
        }
    }

    async fn hear(&mut self, id: u64, key: u64, outcome: Outcome) {
        let Some(spooled) = self.files.get_mut(&key) else { return };
        match outcome {
            Outcome::Delivered => {
                if spooled.file.delivered(id) {
                    let path = spooled.file.path.clone();
                    let progress = Progress {
                        path: StoredPath::of(&path),
                        version: spooled.version,
                        position: spooled.file.committed,
                        done: false,
                    };
                    self.known.insert(path, progress);
                    self.unsaved = true;
                }
            }
            Outcome::Lost => {
                // It is read again from what is delivered, at the next look when it was read to its end.
                spooled.file.lost(id);
                if spooled.read {
                    self.files.remove(&key);
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
        self.finish(key).await;
        if self.unsaved && Instant::now() >= self.next_save && self.save().is_err() {
            let dir = self.spool.settings.dir.display();
            self.output.warn(&Fault::new(format!("cannot save the positions of `{dir}`")).code("F0806"));
        }
    }

    /// Marks a file as done when it is read and delivered.
    async fn finish(&mut self, key: u64) {
        let is_ready = |spooled: &Spooled| spooled.read && spooled.file.is_settled();
        if !self.files.get(&key).is_some_and(is_ready) {
            return;
        }
        let Some(spooled) = self.files.remove(&key) else { return };
        let path = spooled.file.path.clone();
        let unchanged = fs::metadata(&path).is_ok_and(|meta| Version::of(&meta) == spooled.version);
        if !unchanged {
            let now = fs::metadata(&path).map_or(spooled.version, |meta| Version::of(&meta));
            self.refuse(&path, now, "has changed after it was read");
            return;
        }
        let marked = match &self.spool.settings.done {
            Done::Tracker => Ok(()),
            Done::Delete => fs::remove_file(&path),
            Done::Rename(suffix) => {
                let mut target = path.as_os_str().to_owned();
                target.push(suffix);
                // A link fails when the target exists; a rename would overwrite it.
                fs::hard_link(&path, &target).and_then(|()| fs::remove_file(&path))
            }
        };
        match marked {
            Ok(()) if self.spool.settings.done != Done::Tracker => {
                self.known.remove(&path);
            }
            other => {
                if let Err(error) = other {
                    self.refuse(
                        &path,
                        spooled.version,
                        &format!("cannot be marked as done ({})", plain(&error)),
                    );
                }
                if self.known.len() < TRACKED_MAX {
                    let progress = Progress {
                        path: StoredPath::of(&path),
                        version: spooled.version,
                        position: spooled.version.size,
                        done: true,
                    };
                    self.known.insert(path, progress);
                }
            }
        }
        self.unsaved = true;
    }

    /// Hears what becomes of the batches on their way; `all`: of every one.
    async fn wait(&mut self, _stop: &mut Stop, all: bool) -> Result<(), SourceError> {
        let until = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
        while all && !self.ledger.is_empty() {
            tokio::select! {
                (id, key, outcome) = self.ledger.next() => self.hear(id, key, outcome).await,
                () = tokio::time::sleep_until(until) => break,
            }
        }
        if self.unsaved { self.save() } else { Ok(()) }
    }

    fn save(&mut self) -> Result<(), SourceError> {
        self.next_save = Instant::now() + std::time::Duration::from_secs(1);
        save_positions(&self.spool.positions, self.known.values().cloned().collect())
            .map_err(SourceError::Retry)?;
        self.unsaved = false;
        Ok(())
    }
}

/// The files of a directory, links to files included.
fn list(directory: &Path, recursive: bool, depth: usize, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)?.flatten() {
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !is_dir {
            found.push(entry.path());
        } else if recursive && depth < DEPTH_MAX {
            // One directory that cannot be read does not hide the others.
            if let Err(error) = list(&entry.path(), recursive, depth + 1, found) {
                warn!(code = "F0804", "cannot read `{}`: {}", entry.path().display(), plain(&error));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::testing::{Collector, Mode, Running, settings};
    use serde_json::{Value, json};

    fn run(root: &Path, flow: &Arc<Collector>, changes: Value) -> Running {
        let defaults = json!({"dir": root.join("in"), "done": {"rename": ".done"}, "include": ["*"],
            "exclude": [".*", "*.tmp"], "format": "lines", "order": "name", "recursive": false, "follow": false,
            "settle": 0, "poll": 1_000_000, "batch": 2, "read": 4096, "line_max": 1 << 20, "blob_max": 100,
            "unconfirmed": 4, "file_header": "file", "basename_header": "name"});
        Running::of(spool, &settings(defaults, changes), &root.join("state"), flow)
    }

    fn place() -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("in")).unwrap();
        fs::write(place.path().join("in/a"), "1\n2\n3\n").unwrap();
        fs::write(place.path().join("in/b"), "4\n\n5").unwrap();
        fs::write(place.path().join("in/c.tmp"), "not yet\n").unwrap();
        place
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn files_are_read_and_marked() {
        for done in [json!({"rename": ".done"}), json!("delete"), json!("tracker")] {
            let place = place();
            let flow = Collector::new(Mode::Deliver);
            for _ in 0..2 {
                run(place.path(), &flow, json!({"done": done})).ended().await.unwrap();
                assert_eq!(flow.seen().texts(), ["1", "2", "3", "4", "", "5"], "{done}");
            }
            assert_eq!(flow.seen().rows[0].header("name"), "a");
            assert_eq!(place.path().join("in/a.done").exists(), done.is_object());
            assert_eq!(place.path().join("in/a").exists(), done == json!("tracker"));
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_is_marked_before_it_is_delivered_and_a_target_is_never_overwritten() {
        let place = place();
        fs::write(place.path().join("in/b.done"), "mine").unwrap();
        let flow = Collector::new(Mode::Hold);
        let source = run(place.path(), &flow, json!({}));
        flow.until_rows(6).await;
        assert!(place.path().join("in/a").exists());
        source.kill().await;
        let flow = Collector::new(Mode::Deliver);
        run(place.path(), &flow, json!({})).ended().await.unwrap();
        assert_eq!(flow.seen().texts(), ["1", "2", "3", "4", "", "5"]);
        assert_eq!(fs::read(place.path().join("in/b.done")).unwrap(), b"mine");
        assert!(place.path().join("in/a.done").exists());
        assert_eq!(flow.seen().counts["refused_files"], 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_blob_is_one_event_within_its_bound() {
        let place = place();
        fs::write(place.path().join("in/large"), vec![b'x'; 101]).unwrap();
        let flow = Collector::new(Mode::Deliver);
        run(place.path(), &flow, json!({"format": "blob"})).ended().await.unwrap();
        assert_eq!(flow.seen().texts(), ["1\n2\n3\n", "4\n\n5"]);
        assert!(place.path().join("in/large").exists());
    }
}
