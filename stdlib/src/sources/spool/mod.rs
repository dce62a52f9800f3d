//! `spool`: complete files of a directory. A file is marked as done when all its events are delivered; one that
//! changes while it is read is reported and left.
//!
//! The loop here decides what happens next; looking at the directory, marking and reading are steps that block and
//! run on threads of their own.

mod mark;
mod shelf;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration as StdDuration, Instant};

use async_trait::async_trait;
use flow_agent::{Context, Fault, Source, SourceError, SourceOutput, Stop, decode_settings};
use flow_plan::settings::{Duration, Settings};
use flow_plan::{Batch, Outcome};
use globset::GlobSet;
use serde::Deserialize;

use self::shelf::{Look, Progress, Shelf, Version};
use super::globs::glob_set;
use super::ledger::Ledger;
use super::positions::{Loaded, load_positions, plain};
use super::rows::{HeaderTarget, Stamp};
use super::steps::{blocking, sleep_until};
use super::tail::file::{ReadParams, Tailed, Visit};
use super::tail::identity::Fingerprint;

/// How often the positions are saved at most.
const SAVE_EVERY: StdDuration = StdDuration::from_secs(1);

/// The waits after lost batches: doubled with each loss, until something is delivered.
const LOST_WAIT: StdDuration = StdDuration::from_millis(20);
const LOST_WAIT_MAX: StdDuration = StdDuration::from_secs(5);

/// How long a source that was asked to stop waits to hear what became of its last batches.
const SETTLE_MAX: StdDuration = StdDuration::from_secs(60);

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpoolSettings {
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
pub enum Done {
    Rename(String),
    Delete,
    Tracker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    Lines,
    Blob,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    Oldest,
    Youngest,
    Name,
}

/// Which files are read, and what is done with them.
struct Rules {
    settings: SpoolSettings,
    include: GlobSet,
    exclude: GlobSet,
    positions: PathBuf,
}

impl Rules {
    /// Whether a file of this name is to be read.
    fn names(&self, path: &Path) -> bool {
        let Some(name) = path.file_name() else { return false };
        let done = matches!(&self.settings.done, Done::Rename(suffix)
            if name.as_encoded_bytes().ends_with(suffix.as_bytes()));
        let name = Path::new(name);
        !done && self.include.is_match(name) && !self.exclude.is_match(name)
    }
}

struct Spool {
    rules: Arc<Rules>,
    params: Arc<ReadParams>,
    basename_header: Option<HeaderTarget>,
    stamp: Stamp,
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
    let basename_header = HeaderTarget::optional(&settings.basename_header, context);
    let rules = Rules {
        include: glob_set(&settings.include, "include")?,
        exclude: glob_set(&settings.exclude, "exclude")?,
        positions: context.state_dir.join("spool.json"),
        settings,
    };
    Ok(Box::new(Spool { rules: Arc::new(rules), params, basename_header, stamp: Stamp::new(context) }))
}

/// A file that is being read or waits for its delivery.
struct Spooled {
    file: Box<Tailed>,
    version: Version,
    /// To its end.
    read: bool,
}

struct Spooling<'a> {
    spool: &'a Spool,
    output: SourceOutput,
    stop: Stop,
    shelf: Shelf,
    files: BTreeMap<u64, Spooled>,
    ledger: Ledger<u64>,
    next: u64,
    next_save: Instant,
    next_look: Instant,
    /// Zero unless batches were lost and nothing was delivered since.
    lost_wait: StdDuration,
    /// Nothing is read before, after a loss.
    not_before: Option<Instant>,
}

#[async_trait]
impl Source for Spool {
    async fn run(&mut self, output: SourceOutput, stop: Stop) -> Result<(), SourceError> {
        let path = self.rules.positions.clone();
        let loaded =
            blocking(move || load_positions::<Progress>(&path)).await?.map_err(SourceError::Fatal)?;
        let entries = match loaded {
            Loaded::Entries(entries) => entries,
            Loaded::First => Vec::new(),
            Loaded::Corrupt(aside) => {
                let aside = aside.display();
                let what = "the saved positions make no sense and were moved to";
                output.warn(&Fault::new(format!("{what} `{aside}`: what was not finished is read again")));
                Vec::new()
            }
        };
        let now = Instant::now();
        let mut spooling = Spooling {
            spool: self,
            output,
            stop,
            shelf: Shelf::new(entries),
            files: BTreeMap::new(),
            ledger: Ledger::new(self.rules.settings.unconfirmed.max(1)),
            next: 0,
            next_save: now,
            next_look: now,
            lost_wait: StdDuration::ZERO,
            not_before: None,
        };
        let result = match spooling.run().await {
            Err(SourceError::Stopped) => spooling.settle().await,
            other => other,
        };
        // Also after an error: what is delivered need not be read again.
        let saved = spooling.save().await;
        result.and(saved)
    }
}

impl Spooling<'_> {
    async fn run(&mut self) -> Result<(), SourceError> {
        loop {
            self.hear_all().await?;
            if Instant::now() >= self.next_look {
                let began = Instant::now();
                let look = self.look().await?;
                for path in &look.ready {
                    self.read(path).await?;
                }
                if !look.ready.is_empty() {
                    continue;
                }
                let follow = self.spool.rules.settings.follow;
                if !follow && !look.unsettled && self.files.is_empty() {
                    return Ok(());
                }
                // A look at a large directory may take a tenth of the time.
                let now = Instant::now();
                self.next_look = now + self.spool.rules.settings.poll.std().max((now - began) * 9);
            }
            self.output.idle();
            self.wait(Some(self.next_look)).await?;
        }
    }

    /// Runs a step that blocks on the disk.
    async fn step<T: Send + 'static>(
        &mut self,
        step: impl FnOnce(&mut Shelf, &Rules) -> T + Send + 'static,
    ) -> Result<T, SourceError> {
        let mut shelf = std::mem::take(&mut self.shelf);
        let rules = self.spool.rules.clone();
        let (shelf, result) = blocking(move || {
            let result = step(&mut shelf, &rules);
            (shelf, result)
        })
        .await?;
        self.shelf = shelf;
        Ok(result)
    }

    async fn look(&mut self) -> Result<Look, SourceError> {
        let open = self.files.values().map(|file| file.file.path.clone()).collect::<BTreeSet<_>>();
        let look = self.step(move |shelf, rules| shelf.look(rules, &open)).await?;
        let look = look.map_err(SourceError::Retry)?;
        for fault in &look.faults {
            self.report(fault);
        }
        Ok(look)
    }

    fn report(&self, fault: &Fault) {
        self.output.warn(fault);
        self.output.count("refused_files", 1);
    }

    /// Leaves a file alone until it changes.
    fn refuse(&mut self, path: &Path, version: Version, why: &str) {
        self.shelf.refuse(path, version);
        let text = format!("`{}` {why}: it is left where it is", path.display());
        self.report(&Fault::new(text).code("F0804").setting("dir"));
    }

    /// Reads a file to its end.
    async fn read(&mut self, path: &Path) -> Result<(), SourceError> {
        let Some(key) = self.open(path).await? else { return Ok(()) };
        let blob = self.spool.rules.settings.format == Format::Blob;
        loop {
            self.hear_all().await?;
            while self.ledger.room() == 0 || self.not_before.is_some_and(|moment| Instant::now() < moment) {
                let until = self.not_before.filter(|_| self.ledger.room() > 0);
                self.wait(until).await?;
            }
            // It may have been lost and put back, or refused, in the meantime.
            let Some(mut spooled) = self.files.remove(&key) else { return Ok(()) };
            let params = self.spool.params.clone();
            let size = spooled.version.size;
            let (mut spooled, visit, meta) = blocking(move || {
                let visit = if blob {
                    spooled.file.visit_whole(&params, size)
                } else {
                    spooled.file.visit(&params, true)
                };
                let meta = spooled.file.handle.as_ref().map(fs::File::metadata);
                (spooled, visit, meta)
            })
            .await?;
            let changed = match meta {
                Some(Ok(meta)) => Version::of(&meta) != spooled.version,
                _ => true,
            };
            if changed || matches!(visit, Visit::Truncated | Visit::Vanished | Visit::Failed(_)) {
                let at = path.to_owned();
                let now = blocking(move || fs::metadata(at).map(|meta| Version::of(&meta))).await?;
                self.refuse(path, now.unwrap_or(spooled.version), "has changed while it was read");
                return Ok(());
            }
            let Visit::Lines { mut columns, end, pieces } = visit else {
                spooled.read = true;
                spooled.file.handle = None;
                self.files.insert(key, spooled);
                return self.finish(key).await;
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
            self.output.clone().send_ahead(batch).await?;
        }
    }

    /// Opens a file where its delivery stands. `None`: it is gone, or refused.
    async fn open(&mut self, path: &Path) -> Result<Option<u64>, SourceError> {
        let at = path.to_owned();
        let opened = blocking(move || -> (io::Result<_>, Option<Version>) {
            let open = || {
                let file = fs::File::open(&at)?;
                Ok((Version::of(&file.metadata()?), Fingerprint::of(&file)?, file))
            };
            (open(), fs::metadata(&at).ok().map(|meta| Version::of(&meta)))
        })
        .await?;
        let (version, fingerprint, handle) = match opened {
            (Ok(opened), _) => opened,
            (Err(error), Some(version)) => {
                self.refuse(path, version, &format!("cannot be read ({})", plain(&error)));
                return Ok(None);
            }
            (Err(_), None) => return Ok(None),
        };
        let settings = &self.spool.rules.settings;
        let blob = settings.format == Format::Blob;
        if blob && version.size > settings.blob_max {
            self.refuse(path, version, "is larger than `blob_max`");
            return Ok(None);
        }
        let saved = self.shelf.known.get(path).filter(|known| known.version == version && !blob);
        let position = saved.map_or(0, |known| known.position);
        let mut file =
            Box::new(Tailed::new(version.inode, path.to_owned(), fingerprint, position, Instant::now()));
        file.handle = Some(handle);
        let key = self.next;
        self.next += 1;
        self.files.insert(key, Spooled { file, version, read: false });
        Ok(Some(key))
    }

    /// Hears of everything that is known already.
    async fn hear_all(&mut self) -> Result<(), SourceError> {
        while let Some((id, key, outcome)) = self.ledger.try_next() {
            self.judge(id, key, outcome);
            self.finish(key).await?;
        }
        if self.stop.is_stopped() {
            return Err(SourceError::Stopped);
        }
        self.save_in_time().await
    }

    /// Waits for an outcome, the stop, the next save, or a moment.
    async fn wait(&mut self, until: Option<Instant>) -> Result<(), SourceError> {
        let save = self.shelf.unsaved.then_some(self.next_save);
        let until = until.into_iter().chain(save).min();
        tokio::select! {
            (id, key, outcome) = self.ledger.next() => {
                self.judge(id, key, outcome);
                self.finish(key).await?;
            }
            () = sleep_until(until) => {}
            () = self.stop.stopped() => return Err(SourceError::Stopped),
        }
        self.save_in_time().await
    }

    /// What became of a batch.
    fn judge(&mut self, id: u64, key: u64, outcome: Outcome) {
        let Some(spooled) = self.files.get_mut(&key) else { return };
        match outcome {
            Outcome::Delivered => {
                if spooled.file.delivered(id) {
                    let position = spooled.file.committed;
                    self.shelf.progress(&spooled.file.path, spooled.version, position);
                }
                self.lost_wait = StdDuration::ZERO;
                self.not_before = None;
            }
            Outcome::Lost => {
                if !spooled.file.lost(id) {
                    return;
                }
                // It is read again from what is delivered: at once, or at the next look when it was closed.
                if spooled.read {
                    self.files.remove(&key);
                    self.next_look = Instant::now();
                }
                self.lost_wait = (self.lost_wait * 2).clamp(LOST_WAIT, LOST_WAIT_MAX);
                self.not_before = Some(Instant::now() + self.lost_wait);
            }
        }
    }

    /// Marks a file as done when it is read and delivered.
    async fn finish(&mut self, key: u64) -> Result<(), SourceError> {
        let is_ready = |spooled: &Spooled| spooled.read && spooled.file.is_settled();
        if !self.files.get(&key).is_some_and(is_ready) {
            return Ok(());
        }
        let Some(spooled) = self.files.remove(&key) else { return Ok(()) };
        let (path, version) = (spooled.file.path, spooled.version);
        let at = path.clone();
        let marked = self.step(move |shelf, rules| shelf.finish(rules, &at, version)).await?;
        if let Err(why) = marked {
            let text = format!("`{}` {why}: it is left where it is", path.display());
            self.report(&Fault::new(text).code("F0804").setting("done"));
        }
        if !self.spool.rules.settings.follow {
            self.next_look = Instant::now();
        }
        Ok(())
    }

    /// After a stop: hears what becomes of the batches that are still on their way.
    async fn settle(&mut self) -> Result<(), SourceError> {
        let until = Instant::now() + SETTLE_MAX;
        while !self.ledger.is_empty() && Instant::now() < until {
            tokio::select! {
                (id, key, outcome) = self.ledger.next() => {
                    self.judge(id, key, outcome);
                    self.finish(key).await?;
                }
                () = sleep_until(Some(until)) => {}
            }
            self.save_in_time().await?;
        }
        Ok(())
    }

    /// When the positions cannot be saved the flow goes on: the price is that more is repeated after a crash.
    async fn save_in_time(&mut self) -> Result<(), SourceError> {
        if self.shelf.unsaved && Instant::now() >= self.next_save {
            match self.save().await {
                Err(SourceError::Retry(fault)) => tracing::warn!("{fault}"),
                other => return other,
            }
        }
        Ok(())
    }

    async fn save(&mut self) -> Result<(), SourceError> {
        self.next_save = Instant::now() + SAVE_EVERY;
        if !self.shelf.unsaved {
            return Ok(());
        }
        self.step(|shelf, rules| shelf.save(&rules.positions)).await?.map_err(SourceError::Retry)
    }
}
