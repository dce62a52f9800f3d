//! `tail`: follows files through rotation and restarts.
//!
//! The loop here decides what happens next; looking for files, judging and reading one are steps in the modules
//! below it. A position is saved only when everything before it is delivered, so whatever happens between two
//! saves is repeated, never lost.

mod discover;
pub mod file;
pub mod identity;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration as StdDuration, Instant};

use async_trait::async_trait;
use flow_agent::{Context, Fault, Source, SourceError, SourceOutput, Stop, decode_settings};
use flow_plan::settings::{Duration, Settings};
use flow_plan::{Batch, Outcome};
use serde::Deserialize;
use tracing::info;

use self::discover::{Files, Fresh, Kept, Position};
use self::file::{ReadParams, Visit};
use super::globs::Patterns;
use super::ledger::Ledger;
use super::positions::{Loaded, load_positions, plain, save_positions};
use super::rows::{HeaderTarget, Stamp};
use super::steps::{blocking, sleep_until};

/// Batches read in one go, and reads; more would only wait.
const READ_AHEAD: usize = 8;

/// Batches of one file before the next file has its turn.
const TURN: usize = 16;

/// The longest wait after lost batches.
const LOST_WAIT_MAX: StdDuration = StdDuration::from_secs(5);

/// How long a source that was asked to stop waits to hear what became of its last batches.
const SETTLE_MAX: StdDuration = StdDuration::from_secs(60);

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TailSettings {
    path: Vec<String>,
    from: From,
    exclude: Vec<String>,
    follow: bool,
    batch: usize,
    read: usize,
    poll: Duration,
    refresh: Duration,
    line_max: usize,
    idle: Duration,
    open_max: usize,
    unconfirmed: usize,
    save: Duration,
    file_header: Option<String>,
    offset_header: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum From {
    Start,
    End,
    Saved,
}

struct Tail {
    settings: TailSettings,
    patterns: Patterns,
    params: Arc<ReadParams>,
    stamp: Stamp,
    positions: PathBuf,
}

/// Makes the source.
pub fn tail(settings: &Settings, context: &Context) -> Result<Box<dyn Source>, Fault> {
    let settings: TailSettings = decode_settings(settings)?;
    let patterns = Patterns::new(&settings.path, "path", &settings.exclude, "exclude")?;
    let params = Arc::new(ReadParams {
        rows_max: settings.batch.max(1),
        read: settings.read.max(1),
        line_max: settings.line_max.max(1),
        file_header: HeaderTarget::optional(&settings.file_header, context),
        offset_header: HeaderTarget::optional(&settings.offset_header, context),
    });
    let positions = context.state_dir.join("positions.json");
    Ok(Box::new(Tail { settings, patterns, params, stamp: Stamp::new(context), positions }))
}

#[async_trait]
impl Source for Tail {
    async fn run(&mut self, output: SourceOutput, stop: Stop) -> Result<(), SourceError> {
        let mut tailing = Tailing::start(self, output, stop).await?;
        let result = match tailing.run().await {
            Err(SourceError::Stopped) | Ok(()) => tailing.settle().await,
            Err(error) => Err(error),
        };
        // Also after an error: what is delivered need not be read again.
        let saved = tailing.save().await;
        result.and(saved)
    }
}

/// A running source.
struct Tailing<'a> {
    tail: &'a Tail,
    output: SourceOutput,
    stop: Stop,
    files: Files,
    ledger: Ledger<u64>,
    /// Files that may have something to read.
    ready: VecDeque<u64>,
    /// Files that were read to their end and get nothing more: rotated away, or `follow` is false.
    finished: BTreeSet<u64>,
    /// Positions have moved since they were saved.
    unsaved: bool,
    next_save: Instant,
    next_look: Instant,
    next_probe: Instant,
    /// Where new files are read from.
    fresh: Fresh,
    /// Files wait for a further look before they are read.
    waiting: bool,
    /// The first file that could not be read at the last look.
    unreadable: Option<Fault>,
    /// The first file that failed although it could be opened.
    failed: Option<Fault>,
    /// Zero unless batches were lost and nothing was delivered since.
    lost_wait: StdDuration,
    warned: BTreeMap<PathBuf, Instant>,
}

impl<'a> Tailing<'a> {
    async fn start(tail: &'a Tail, output: SourceOutput, stop: Stop) -> Result<Tailing<'a>, SourceError> {
        let path = tail.positions.clone();
        let loaded =
            blocking(move || load_positions::<Position>(&path)).await?.map_err(SourceError::Fatal)?;
        let (first, entries) = match loaded {
            Loaded::First => (true, Vec::new()),
            Loaded::Entries(entries) => (false, entries),
            Loaded::Corrupt(aside) => {
                let aside = aside.display();
                let what = "the saved positions make no sense and were moved to";
                output.warn(&Fault::new(format!("{what} `{aside}`: files are read again")));
                (false, Vec::new())
            }
        };
        let entries = if tail.settings.from == From::Start { Vec::new() } else { entries };
        let fresh = if first && tail.settings.from == From::End { Fresh::End } else { Fresh::Start };
        let now = Instant::now();
        let mut tailing = Tailing {
            tail,
            output,
            stop,
            files: Files::new(tail.patterns.clone(), Kept::new(entries)),
            ledger: Ledger::new(tail.settings.unconfirmed.max(1)),
            ready: VecDeque::new(),
            finished: BTreeSet::new(),
            unsaved: false,
            // The first progress is saved at once: a process that keeps dying early must come forward, too.
            next_save: now,
            next_look: now,
            next_probe: now,
            fresh,
            waiting: false,
            unreadable: None,
            failed: None,
            lost_wait: StdDuration::ZERO,
            warned: BTreeMap::new(),
        };
        tailing.look(true).await?;
        // What comes from now on must not be skipped by a second first run; and a state directory that cannot
        // be written is better known before anything is read.
        tailing.fresh = Fresh::Start;
        tailing.write_positions().await?.map_err(SourceError::Retry)?;
        if tailing.files.live.is_empty() && tailing.unreadable.is_none() && !tailing.waiting {
            let text = tail.patterns.text();
            if !tail.settings.follow {
                let fault = Fault::new(format!("`{text}` matches no file")).code("F0805").setting("path");
                return Err(SourceError::Fatal(fault));
            }
            let fault = Fault::new(format!("`{text}` matches no file now")).code("F0805").setting("path");
            tailing.output.warn(&fault.help("nothing, if it is to come: it is looked for"));
        }
        Ok(tailing)
    }

    async fn run(&mut self) -> Result<(), SourceError> {
        let mut turn = 0;
        loop {
            while let Some((id, key, outcome)) = self.ledger.try_next() {
                self.hear(id, key, outcome);
            }
            if self.stop.is_stopped() {
                return Err(SourceError::Stopped);
            }
            let now = Instant::now();
            if now >= self.next_look && (self.tail.settings.follow || self.waiting) {
                self.look(false).await?;
            }
            if self.unsaved && now >= self.next_save {
                self.save().await?;
            }
            if now >= self.next_probe {
                self.probe(now).await?;
            }
            if !self.lost_wait.is_zero() && !self.ready.is_empty() {
                self.wait(Some(Instant::now() + self.lost_wait)).await?;
            }
            if self.ledger.room() == 0 {
                self.wait(None).await?;
                continue;
            }
            if let Some(key) = self.ready.pop_front() {
                let batches = self.read(key, self.ledger.room().min(READ_AHEAD)).await?;
                turn += batches;
                self.enqueue_after(key, batches, &mut turn);
                continue;
            }
            if self.files.live.is_empty()
                && !self.waiting
                && self.ledger.is_empty()
                && let Some(fault) = self.unreadable.take()
            {
                let follow = self.tail.settings.follow;
                return Err(if follow { SourceError::Retry(fault) } else { SourceError::Fatal(fault) });
            }
            if !self.tail.settings.follow && !self.waiting && self.all_read() {
                if self.ledger.is_empty() {
                    let fault = self.unreadable.take().or(self.failed.take());
                    return fault.map_or(Ok(()), |fault| Err(SourceError::Fatal(fault)));
                }
                self.wait(None).await?;
                continue;
            }
            self.output.idle();
            self.wait(Some(self.next_probe.min(self.next_look))).await?;
        }
    }

    fn all_read(&self) -> bool {
        self.files.live.keys().all(|key| self.finished.contains(key))
    }

    fn enqueue(&mut self, key: u64) {
        if let Some(file) = self.files.live.get_mut(&key)
            && !file.queued
        {
            file.queued = true;
            self.ready.push_back(key);
        }
    }

    /// A file that gave something is read on, for a while at once, then after the others.
    fn enqueue_after(&mut self, key: u64, batches: usize, turn: &mut usize) {
        if batches == 0 || *turn >= TURN {
            *turn = 0;
        }
        if batches > 0
            && let Some(file) = self.files.live.get_mut(&key)
            && !file.queued
        {
            file.queued = true;
            if *turn > 0 { self.ready.push_front(key) } else { self.ready.push_back(key) }
        }
    }

    /// What became of a batch.
    fn hear(&mut self, id: u64, key: u64, outcome: Outcome) {
        let Some(file) = self.files.live.get_mut(&key) else { return };
        match outcome {
            Outcome::Delivered => {
                self.unsaved |= file.delivered(id);
                self.lost_wait = StdDuration::ZERO;
            }
            Outcome::Lost => {
                if file.lost(id) {
                    self.finished.remove(&key);
                    self.enqueue(key);
                    let wait = (self.lost_wait * 2).max(StdDuration::from_millis(20));
                    self.lost_wait = wait.min(LOST_WAIT_MAX);
                }
            }
        }
        self.retire(key);
    }

    /// Lets go of a file that is gone, read to its end and delivered.
    fn retire(&mut self, key: u64) {
        let Some(file) = self.files.live.get(&key) else { return };
        if !file.gone || !file.is_settled() || !self.finished.contains(&key) {
            return;
        }
        self.finished.remove(&key);
        if let Some(file) = self.files.live.remove(&key) {
            let links = file.handle.as_ref().and_then(|handle| handle.metadata().ok());
            // A deleted file cannot come back; any other may.
            if links.is_none_or(|meta| meta.nlink() > 0) {
                self.files.kept.push(Position::of(&file));
            }
            self.unsaved = true;
        }
    }

    /// Waits for an outcome, the stop, the next save, or a moment.
    async fn wait(&mut self, until: Option<Instant>) -> Result<(), SourceError> {
        let save = self.unsaved.then_some(self.next_save);
        let until = until.into_iter().chain(save).min();
        tokio::select! {
            (id, key, outcome) = self.ledger.next() => self.hear(id, key, outcome),
            () = sleep_until(until) => {}
            () = self.stop.stopped() => return Err(SourceError::Stopped),
        }
        if self.unsaved && Instant::now() >= self.next_save {
            self.save().await?;
        }
        Ok(())
    }

    /// After a stop: hears what becomes of the batches that are still on their way.
    async fn settle(&mut self) -> Result<(), SourceError> {
        let until = Instant::now() + SETTLE_MAX;
        while !self.ledger.is_empty() && Instant::now() < until {
            let save = self.unsaved.then_some(self.next_save);
            tokio::select! {
                (id, key, outcome) = self.ledger.next() => self.hear(id, key, outcome),
                () = sleep_until([until].into_iter().chain(save).min()) => {}
            }
            if self.unsaved && Instant::now() >= self.next_save {
                self.save().await?;
            }
        }
        Ok(())
    }

    /// Looks for new files.
    async fn look(&mut self, first: bool) -> Result<(), SourceError> {
        let (fresh, began) = (self.fresh, Instant::now());
        let empty = Files::new(self.tail.patterns.clone(), Kept::default());
        let mut files = std::mem::replace(&mut self.files, empty);
        let before = files.live.keys().next_back().map_or(0, |last| last + 1);
        let (files, report) = blocking(move || {
            let report = files.look(fresh);
            (files, report)
        })
        .await?;
        self.files = files;
        let added: Vec<u64> = self.files.live.range(before..).map(|(key, _)| *key).collect();
        for key in added {
            self.enqueue(key);
        }
        if report.added > 0 && !first {
            // A file that is known is found again after a rename, also by the next run.
            self.save().await?;
        }
        self.waiting = report.waiting > 0;
        self.unreadable = None;
        for (path, error) in &report.unreadable {
            let fault = unreadable(path, error);
            self.warn_once(path, &fault);
            self.unreadable.get_or_insert(fault);
        }
        if report.more {
            let most = super::globs::FILES_MAX;
            let text = self.tail.patterns.text();
            let what = format!("`{text}` matches more than {most} files; the others are not read");
            self.warn_once(Path::new(""), &Fault::new(what).setting("path"));
        }
        let every = if self.waiting { self.tail.settings.poll } else { self.tail.settings.refresh };
        self.next_look = after(began, every);
        Ok(())
    }

    /// Says once in ten minutes that a file cannot be read.
    fn warn_once(&mut self, path: &Path, fault: &Fault) {
        const AGAIN: StdDuration = StdDuration::from_secs(600);
        const PATHS_MAX: usize = 10_000;
        let now = Instant::now();
        if self.warned.get(path).is_some_and(|said| now.duration_since(*said) < AGAIN) {
            return;
        }
        if self.warned.len() >= PATHS_MAX {
            self.warned.clear();
        }
        self.warned.insert(path.to_owned(), now);
        self.output.count("unreadable_files", 1);
        self.output.warn(fault);
    }

    /// Finds out which quiet files have news.
    async fn probe(&mut self, now: Instant) -> Result<(), SourceError> {
        let settings = &self.tail.settings;
        self.next_probe = now + settings.poll.std();
        let began = Instant::now();
        let due: Vec<u64> = self
            .files
            .live
            .iter()
            .filter(|(key, file)| file.look_at <= now && !file.queued && !self.finished.contains(key))
            .map(|(key, _)| *key)
            .collect();
        let taken = due.into_iter().filter_map(|key| Some((key, self.files.live.remove(&key)?, false)));
        let mut probed: Vec<_> = taken.collect();
        if probed.is_empty() {
            return Ok(());
        }
        let probed = blocking(move || {
            for (_, file, news) in &mut probed {
                *news = file.probe();
            }
            probed
        })
        .await?;
        self.next_probe = after(began, settings.poll);
        let (poll, idle) = (settings.poll.std(), settings.idle.std());
        for (key, mut file, news) in probed {
            let quiet = now.duration_since(file.quiet_since);
            // The longer it has been quiet, the less often it is looked at, up to `refresh`.
            file.look_at = now + (quiet / 10).clamp(poll, settings.refresh.std().max(poll));
            if !file.gone && !news && quiet >= idle {
                file.handle = None;
            }
            if news && file.gone {
                // Another file may be in its place.
                self.next_look = now;
            }
            let ready = news || (file.gone && quiet >= idle);
            self.files.live.insert(key, file);
            if ready {
                self.enqueue(key);
            }
        }
        Ok(())
    }

    /// Reads a file and sends what it gives, at most `batches_max` batches. Gives how many there were.
    async fn read(&mut self, key: u64, batches_max: usize) -> Result<usize, SourceError> {
        let Some(mut file) = self.files.live.remove(&key) else { return Ok(0) };
        file.queued = false;
        let settings = &self.tail.settings;
        let at_end = !settings.follow || (file.gone && file.quiet_since.elapsed() >= settings.idle.std());
        let params = self.tail.params.clone();
        let known = file.seen;
        let (mut file, read, last) = blocking(move || {
            let mut read = Vec::with_capacity(batches_max);
            let mut last = None;
            // Lines as long as many reads leave one by one.
            let enough = file.read + (READ_AHEAD * params.read) as u64;
            while read.len() < batches_max && file.read < enough && last.is_none() {
                match file.visit(&params, at_end) {
                    Visit::Lines { columns, end, pieces } => {
                        file.read = end;
                        read.push((columns, end, pieces));
                    }
                    other => last = Some(other),
                }
            }
            (file, read, last)
        })
        .await?;
        if file.seen != known || !read.is_empty() {
            file.quiet_since = Instant::now();
            file.look_at = file.quiet_since + settings.poll.std();
        }
        let mut batches = Vec::with_capacity(read.len());
        for (mut columns, end, pieces) in read {
            if pieces > 0 {
                self.output.count("line_pieces", pieces);
            }
            self.tail.stamp.apply(&mut columns);
            let mut batch = Batch::new(*columns);
            let (id, ack) = self.ledger.open(key);
            batch.ack = ack;
            file.sent(id, end);
            batches.push((id, batch));
        }
        let (count, reached) = (batches.len(), file.read);
        self.files.live.insert(key, file);
        self.close_one(key);
        for (id, batch) in batches {
            // After a loss the rest is read again, too.
            if self.files.live.get(&key).is_some_and(|file| file.is_pending(id)) {
                self.send(batch).await?;
            }
        }
        let is_there = self.files.live.get(&key).is_some_and(|file| file.read == reached);
        if let (true, Some(last)) = (is_there, last) {
            self.visited(key, last, at_end);
        }
        self.retire(key);
        Ok(count)
    }

    /// What follows from a visit that gave no lines.
    fn visited(&mut self, key: u64, visit: Visit, at_end: bool) {
        let Some(file) = self.files.live.get_mut(&key) else { return };
        match visit {
            Visit::Lines { .. } => {}
            Visit::Nothing => {
                let idle = self.tail.settings.idle.std();
                if at_end && !(self.tail.settings.follow && file.lingers(idle)) {
                    self.finished.insert(key);
                }
            }
            Visit::Truncated => {
                info!("`{}` was truncated: it is read from its start", file.path.display());
                // A copy of the old content may be found: its rest is read there.
                if file.committed > 0 {
                    self.files.kept.push(Position::of(file));
                }
                file.restart();
                self.unsaved = true;
                self.enqueue(key);
            }
            Visit::Vanished => {
                file.gone = true;
                self.finished.insert(key);
            }
            Visit::Failed(error) => {
                let path = file.path.clone();
                let fault = unreadable(&path, &error);
                file.seen = None;
                file.look_at = Instant::now() + self.tail.settings.refresh.std();
                self.warn_once(&path, &fault);
                if !self.tail.settings.follow {
                    self.finished.insert(key);
                    self.failed.get_or_insert(fault);
                }
            }
        }
    }

    /// Keeps the number of open files within its bound: closes the one that has been quiet for longest.
    fn close_one(&mut self, except: u64) {
        let open = self.files.live.values().filter(|file| file.handle.is_some()).count();
        if open <= self.tail.settings.open_max {
            return;
        }
        let idle = self.tail.settings.idle.std();
        let quietest = self
            .files
            .live
            .iter_mut()
            // A file that is gone may not be found again by its name: it waits for lines that come late, if there
            // is room for that.
            .filter(|(key, file)| {
                let dispensable = !file.gone || (file.is_settled() && file.quiet_since.elapsed() >= idle);
                **key != except && file.handle.is_some() && dispensable
            })
            .min_by_key(|(_, file)| (file.gone, file.quiet_since));
        if let Some((_, file)) = quietest {
            file.handle = None;
        }
    }

    /// Sends a batch; hears outcomes and saves positions while the flow is full.
    async fn send(&mut self, batch: Batch) -> Result<(), SourceError> {
        let output = self.output.clone();
        let mut sending = std::pin::pin!(output.send_ahead(batch));
        loop {
            let save = self.unsaved.then_some(self.next_save);
            tokio::select! {
                biased;
                sent = &mut sending => return sent,
                (id, key, outcome) = self.ledger.next() => self.hear(id, key, outcome),
                () = sleep_until(save) => self.save().await?,
            }
        }
    }

    /// Saves the positions. When that fails the flow goes on: the price is that more is repeated after a crash.
    async fn save(&mut self) -> Result<(), SourceError> {
        if let Err(fault) = self.write_positions().await? {
            self.unsaved = true;
            let path = self.tail.positions.clone();
            self.warn_once(&path, &fault);
        }
        Ok(())
    }

    async fn write_positions(&mut self) -> Result<Result<(), Fault>, SourceError> {
        self.files.kept.trim();
        let (path, positions) = (self.tail.positions.clone(), self.files.positions());
        let saved = blocking(move || save_positions(&path, positions)).await?;
        self.unsaved = false;
        self.next_save = Instant::now() + self.tail.settings.save.std();
        Ok(saved)
    }
}

/// When something is due again that began at a moment and has ended now: it may take a tenth of the time.
fn after(began: Instant, every: Duration) -> Instant {
    let now = Instant::now();
    now + every.std().max(now.duration_since(began) * 9)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Fault {
    let place = path.display();
    let what = format!("cannot read `{place}`: {}", plain(error));
    if error.kind() != std::io::ErrorKind::PermissionDenied {
        return Fault::new(what).code("F0804").setting("path");
    }
    let user = rustix::process::geteuid();
    Fault::new(format!("{what} for the user {user}"))
        .code("F0804")
        .setting("path")
        .help(format!("`setfacl -m u:{user}:r {place}`, or a group that may read it"))
}
