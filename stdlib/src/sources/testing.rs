//! What the tests of sources share: a flow that collects, holds or loses what it gets, and a running source.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use flow_agent::{Accept, Context, Fault, Source, SourceError, SourceFactory, SourceOutput, Stop};
use flow_plan::{Ack, Batch, Settings};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// Long enough for a busy machine; nothing waits for it when all is well.
const DEADLINE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub body: Vec<u8>,
    pub headers: BTreeMap<String, String>,
    pub time_ms: i64,
}

impl Row {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// What the collecting flow does with a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Deliver,
    /// Takes it and keeps its acknowledgement.
    Hold,
    /// Takes it and loses it.
    Lose,
    /// Never takes it.
    Full,
}

#[derive(Default)]
pub struct Seen {
    pub rows: Vec<Row>,
    /// Rows whose batch was lost on purpose.
    pub lost: Vec<Row>,
    pub held: Vec<Ack>,
    pub batch_rows_max: usize,
    pub counts: BTreeMap<&'static str, u64>,
    pub idle: usize,
    /// What the user was told.
    pub warned: Vec<Fault>,
    pub mode: Mode,
}

impl Seen {
    pub fn count(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    pub fn texts(&self) -> Vec<String> {
        self.rows.iter().map(Row::text).collect()
    }
}

/// A flow for tests.
pub struct Collector {
    slots: Vec<String>,
    seen: Mutex<Seen>,
    changed: Notify,
}

impl Collector {
    pub fn new(mode: Mode) -> Arc<Collector> {
        let seen = Mutex::new(Seen { mode, ..Seen::default() });
        Arc::new(Collector { slots: slots(), seen, changed: Notify::new() })
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    pub fn set_mode(&self, mode: Mode) {
        self.seen().mode = mode;
        self.changed.notify_waiters();
    }

    /// Waits until something is so.
    pub async fn until(&self, what: &str, condition: impl Fn(&Seen) -> bool) {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if condition(&self.seen()) {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(DEADLINE, waiting).await.is_err() {
            let seen = self.seen();
            panic!("never came: {what}; {} rows, counts {:?}", seen.rows.len(), seen.counts);
        }
    }

    pub async fn until_rows(&self, count: usize) {
        self.until(&format!("{count} rows"), |seen| seen.rows.len() >= count).await;
    }
}

#[async_trait]
impl Accept for Collector {
    async fn accept(&self, mut batch: Batch) -> Result<(), SourceError> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.seen().mode != Mode::Full {
                break;
            }
            changed.await;
        }
        let rows: Vec<Row> = batch
            .rows
            .iter()
            .map(|&row| Row {
                body: batch.body(row).to_vec(),
                headers: batch
                    .headers(row, &self.slots)
                    .map(|(name, value)| (name.to_owned(), String::from_utf8_lossy(value).into_owned()))
                    .collect(),
                time_ms: batch.time_ms(row),
            })
            .collect();
        let ack = std::mem::take(&mut batch.ack);
        let mut seen = self.seen();
        seen.batch_rows_max = seen.batch_rows_max.max(rows.len());
        match seen.mode {
            Mode::Deliver | Mode::Full => {
                seen.rows.extend(rows);
                drop(seen);
                ack.done();
            }
            Mode::Hold => {
                seen.rows.extend(rows);
                seen.held.push(ack);
            }
            Mode::Lose => {
                seen.lost.extend(rows);
                drop(seen);
                drop(ack);
            }
        }
        self.changed.notify_waiters();
        Ok(())
    }

    async fn refuse(&self, _batch: Batch, reason: &str) -> Result<(), SourceError> {
        panic!("nothing is refused by these sources: {reason}");
    }

    fn count(&self, what: &'static str, events: u64) {
        *self.seen().counts.entry(what).or_default() += events;
        self.changed.notify_waiters();
    }

    fn idle(&self) {
        self.seen().idle += 1;
        self.changed.notify_waiters();
    }

    fn warn(&self, fault: &Fault) {
        self.seen().warned.push(fault.clone());
        self.changed.notify_waiters();
    }
}

/// One header has a slot, all others ride along.
fn slots() -> Vec<String> {
    vec!["other".to_owned(), "file".to_owned()]
}

pub fn context(state_dir: &Path) -> Context {
    Context {
        name: "web".to_owned(),
        agent: "main".to_owned(),
        state_dir: state_dir.to_owned(),
        slots: Arc::new(slots()),
        functions: flow_plan::function::Functions::new(),
        secrets: Arc::new(BTreeMap::from([("token".to_owned(), "sesame".to_owned())])),
        host: "here".to_owned(),
        services: Default::default(),
    }
}

/// Declared defaults with some settings changed.
pub fn settings(defaults: Value, changes: Value) -> Settings {
    let (Value::Object(mut settings), Value::Object(changes)) = (defaults, changes) else {
        panic!("settings are objects")
    };
    for (name, value) in changes {
        assert!(settings.contains_key(&name), "unknown setting {name}");
        settings.insert(name, value);
    }
    settings
}

/// A source at work, in a runtime of its own: ending that ends everything the source has begun.
pub struct Running {
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<Result<(), SourceError>>>,
    runtime: Option<Runtime>,
}

impl Running {
    pub fn start(mut source: Box<dyn Source>, flow: &Arc<Collector>) -> Running {
        let (stop, receiver) = watch::channel(false);
        let output = SourceOutput::new(flow.clone());
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let task = runtime.spawn(async move { source.run(output, Stop::new(receiver)).await });
        Running { stop, task: Some(task), runtime: Some(runtime) }
    }

    pub fn of(factory: SourceFactory, settings: &Settings, state: &Path, flow: &Arc<Collector>) -> Running {
        Running::start(factory(settings, &context(state)).unwrap(), flow)
    }

    /// Asks it to stop and waits for that.
    pub async fn stop(self) -> Result<(), SourceError> {
        // It may have ended by itself.
        let _ = self.stop.send(true);
        self.ended().await
    }

    /// Waits until it ends by itself.
    pub async fn ended(mut self) -> Result<(), SourceError> {
        let task = self.task.take().unwrap();
        tokio::time::timeout(DEADLINE, task).await.expect("the source never ends").unwrap()
    }

    /// Ends it in the middle of whatever it does, without a word, as if its process had been killed.
    pub async fn kill(mut self) {
        let runtime = self.runtime.take().unwrap();
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(DEADLINE)).await.unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Random numbers that a seed repeats (xorshift).
pub struct Seeded(pub u64);

impl Seeded {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound.max(1)
    }
}

/// Raises the bound on open files of this process to what the system allows.
pub fn allow_many_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}
