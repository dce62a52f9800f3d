//! A world of fakes for the host: sources that follow a script, sinks that follow a behaviour, and plans in a few
//! words. Factories are plain functions, so each test's world is found by the number in its settings.
#![allow(dead_code)] // each test binary uses a part of it

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use flow_agent::{
    Channel, Clock, Context, Fault, Host, HostOptions, MemoryQueue, QueueLimits, Receipt, Registry, Running,
    Sink, SinkError, Source, SourceError, SourceOutput, StartFault, Status, Stop,
};
use flow_plan::batch::Columns;
use flow_plan::ir::{self, End};
use flow_plan::plan::{self, Agent, Origin, OriginId, Output, PLAN_VERSION, Target};
use flow_plan::{Batch, Plan, Settings};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};

static WORLDS: Mutex<BTreeMap<u64, Arc<World>>> = Mutex::new(BTreeMap::new());
static NEXT_WORLD: AtomicU64 = AtomicU64::new(0);

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// What a scripted source does next.
pub enum Act {
    /// Sends a batch and keeps its receipt in the world.
    Send(Vec<String>),
    /// Sends a batch that nobody acknowledges.
    SendPlain(Vec<String>),
    Refuse(Vec<String>, &'static str),
    Retry,
    Fatal,
    Panic,
    Finish,
}

type Behaviour = Box<dyn FnMut(&[String]) -> Result<(), SinkError> + Send>;
type SourceRun = Arc<dyn Fn(SourceOutput, Stop) -> futures_box::Boxed + Send + Sync>;

pub mod futures_box {
    use super::SourceError;
    pub type Boxed = std::pin::Pin<Box<dyn Future<Output = Result<(), SourceError>> + Send>>;
}

pub struct World {
    pub id: u64,
    pub dir: tempfile::TempDir,
    scripts: Mutex<BTreeMap<String, Script>>,
    runs: Mutex<BTreeMap<String, SourceRun>>,
    sinks: Mutex<BTreeMap<String, Arc<SinkWorld>>>,
    pub receipts: Mutex<Vec<Receipt>>,
    /// Batches whose `send` has returned.
    pub sent: AtomicU64,
    pub source_starts: AtomicU64,
}

struct Script {
    sender: mpsc::UnboundedSender<Act>,
    receiver: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Act>>>,
}

pub struct SinkWorld {
    pub written: Mutex<Vec<String>>,
    pub writes: AtomicU64,
    pub ticks: AtomicU64,
    pub closed: AtomicU64,
    pub builds: AtomicU64,
    pub batch: Mutex<usize>,
    behaviour: Mutex<Behaviour>,
    /// Writes wait here; closed by default never.
    pub gate: Semaphore,
}

impl World {
    pub fn new() -> Arc<World> {
        let id = NEXT_WORLD.fetch_add(1, Ordering::Relaxed);
        let world = Arc::new(World {
            id,
            dir: tempfile::tempdir().unwrap(),
            scripts: Mutex::default(),
            runs: Mutex::default(),
            sinks: Mutex::default(),
            receipts: Mutex::default(),
            sent: AtomicU64::new(0),
            source_starts: AtomicU64::new(0),
        });
        lock(&WORLDS).insert(id, world.clone());
        world
    }

    pub fn act(&self, source: &str, act: Act) {
        let _ = self.script(source).0.send(act);
    }

    pub fn send(&self, source: &str, bodies: &[&str]) {
        self.act(source, Act::Send(bodies.iter().map(|body| body.to_string()).collect()));
    }

    /// Replaces the script of a source by code.
    pub fn source<F>(&self, source: &str, run: impl Fn(SourceOutput, Stop) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<(), SourceError>> + Send + 'static,
    {
        lock(&self.runs).insert(source.to_owned(), Arc::new(move |output, stop| Box::pin(run(output, stop))));
    }

    fn script(
        &self,
        source: &str,
    ) -> (mpsc::UnboundedSender<Act>, Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Act>>>) {
        let mut scripts = lock(&self.scripts);
        let script = scripts.entry(source.to_owned()).or_insert_with(|| {
            let (sender, receiver) = mpsc::unbounded_channel();
            Script { sender, receiver: Arc::new(tokio::sync::Mutex::new(receiver)) }
        });
        (script.sender.clone(), script.receiver.clone())
    }

    pub fn sink(&self, sink: &str) -> Arc<SinkWorld> {
        let mut sinks = lock(&self.sinks);
        sinks
            .entry(sink.to_owned())
            .or_insert_with(|| {
                Arc::new(SinkWorld {
                    written: Mutex::default(),
                    writes: AtomicU64::new(0),
                    ticks: AtomicU64::new(0),
                    closed: AtomicU64::new(0),
                    builds: AtomicU64::new(0),
                    batch: Mutex::new(1_000),
                    behaviour: Mutex::new(Box::new(|_| Ok(()))),
                    gate: Semaphore::new(Semaphore::MAX_PERMITS),
                })
            })
            .clone()
    }

    pub fn behave(
        &self,
        sink: &str,
        behaviour: impl FnMut(&[String]) -> Result<(), SinkError> + Send + 'static,
    ) {
        *lock(&self.sink(sink).behaviour) = Box::new(behaviour);
    }

    pub fn written(&self, sink: &str) -> Vec<String> {
        lock(&self.sink(sink).written).clone()
    }

    /// From now on writes of the sink wait.
    pub fn hold(&self, sink: &str) {
        self.sink(sink).gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub fn release(&self, sink: &str) {
        self.sink(sink).gate.add_permits(1 << 20);
    }

    pub fn dead(&self, step: &str) -> Vec<serde_json::Value> {
        let path = self.dir.path().join("main/dead").join(format!("{step}.jsonl"));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn start(&self, plan: &Plan) -> Result<Running, Vec<StartFault>> {
        self.start_with(plan, |_| {})
    }

    pub fn start_with(
        &self,
        plan: &Plan,
        change: impl FnOnce(&mut HostOptions),
    ) -> Result<Running, Vec<StartFault>> {
        self.start_in(plan, &registry(), change)
    }

    pub fn start_in(
        &self,
        plan: &Plan,
        registry: &Registry,
        change: impl FnOnce(&mut HostOptions),
    ) -> Result<Running, Vec<StartFault>> {
        let mut options = HostOptions::new(self.dir.path().to_owned());
        options.clock = Clock::new(|| 1_000);
        options.seed = 1;
        change(&mut options);
        Host::start(plan, &flow_agent::Agents::All, registry, options)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        lock(&WORLDS).remove(&self.id);
    }
}

fn world(settings: &Settings) -> Arc<World> {
    let id = settings["world"].as_u64().unwrap();
    lock(&WORLDS)[&id].clone()
}

/// The kinds `script` (source), `memory` (channel) and `record` (sink).
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.sources.insert("script", |settings, context| {
        if settings.get("broken").is_some() {
            return Err(Fault::new("cannot listen").code("F0802").setting("port"));
        }
        Ok(Box::new(ScriptSource { world: world(settings), name: context.name.clone() }))
    });
    registry.channels.insert("memory", |settings, _: &Context| {
        let events_max = settings["capacity"].as_u64().unwrap();
        let queue = MemoryQueue::new(QueueLimits { events_max, ..QueueLimits::default() });
        Ok(Arc::new(queue) as Arc<dyn Channel>)
    });
    registry.sinks.insert("record", |settings, context| {
        if settings.get("broken").is_some() {
            return Err(Fault::new("no such directory").code("F0806").setting("path"));
        }
        let sink = world(settings).sink(&context.name);
        sink.builds.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(RecordSink { world: sink }))
    });
    registry
}

struct ScriptSource {
    world: Arc<World>,
    name: String,
}

#[async_trait]
impl Source for ScriptSource {
    async fn run(&mut self, output: SourceOutput, mut stop: Stop) -> Result<(), SourceError> {
        self.world.source_starts.fetch_add(1, Ordering::Relaxed);
        let run = lock(&self.world.runs).get(&self.name).cloned();
        if let Some(run) = run {
            return run(output, stop).await;
        }
        let (_, script) = self.world.script(&self.name);
        let mut script = script.lock().await;
        loop {
            output.idle();
            let act = tokio::select! {
                biased;
                act = script.recv() => act,
                () = stop.stopped() => return Err(SourceError::Stopped),
            };
            match act {
                None | Some(Act::Finish) => return Ok(()),
                Some(Act::Send(bodies)) => {
                    let receipt = output.send_with_receipt(batch(&bodies)).await?;
                    lock(&self.world.receipts).push(receipt);
                }
                Some(Act::SendPlain(bodies)) => output.send(batch(&bodies)).await?,
                Some(Act::Refuse(bodies, reason)) => output.refuse(batch(&bodies), reason).await?,
                Some(Act::Retry) => return Err(SourceError::Retry(Fault::new("away"))),
                Some(Act::Fatal) => return Err(SourceError::Fatal(Fault::new("gone").setting("port"))),
                Some(Act::Panic) => panic!("a planned panic of a source"),
            }
            self.world.sent.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct RecordSink {
    world: Arc<SinkWorld>,
}

#[async_trait]
impl Sink for RecordSink {
    async fn write(&mut self, batches: &[Batch]) -> Result<(), SinkError> {
        let _permit = self.world.gate.acquire().await.unwrap();
        let bodies = bodies(batches);
        (lock(&self.world.behaviour))(&bodies)?;
        lock(&self.world.written).extend(bodies);
        self.world.writes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn tick(&mut self) -> Result<(), SinkError> {
        self.world.ticks.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn close(&mut self) -> Result<(), SinkError> {
        self.world.closed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn batch_events_max(&self) -> usize {
        *lock(&self.world.batch)
    }
}

pub fn batch(bodies: &[String]) -> Batch {
    let mut columns = Columns { source: Arc::from("test"), ..Columns::default() };
    for body in bodies {
        columns.push(body.as_bytes(), 5).unwrap();
    }
    Batch::new(columns)
}

pub fn bodies(batches: &[Batch]) -> Vec<String> {
    batches
        .iter()
        .flat_map(|batch| batch.rows.iter().map(|&row| String::from_utf8_lossy(batch.body(row)).into_owned()))
        .collect()
}

/// A plan of one agent, in a few words.
pub struct Draft {
    pub agent: Agent,
    world: u64,
}

impl Draft {
    pub fn new(world: &World) -> Draft {
        let agent = Agent {
            name: "main".into(),
            hosts: Vec::new(),
            sources: Vec::new(),
            channels: Vec::new(),
            sinks: Vec::new(),
            programs: Vec::new(),
            error_chains: Vec::new(),
        };
        Draft { agent, world: world.id }
    }

    /// The usual: one source, one channel, one sink.
    pub fn line(world: &World, capacity: u64) -> Draft {
        let mut draft = Draft::new(world);
        let sink = draft.sink("out");
        let channel = draft.channel("buf", capacity, vec![output(Target::Sink(sink))]);
        draft.source("in", vec![output(Target::Channel(channel))]);
        draft
    }

    pub fn source(&mut self, name: &str, outputs: Vec<Output>) {
        let program = self.copies(name, outputs);
        self.agent.sources.push(plan::Source {
            name: name.into(),
            kind: "script".into(),
            settings: self.settings(),
            abilities: Vec::new(),
            origin: OriginId(1),
            setting_origins: BTreeMap::from([("port".to_owned(), OriginId(2))]),
            flow: None,
            program,
            errors: None,
        });
    }

    pub fn channel(&mut self, name: &str, capacity: u64, outputs: Vec<Output>) -> u32 {
        let drain = self.copies(name, outputs);
        let mut settings = self.settings();
        settings.insert("capacity".into(), json!(capacity));
        self.agent.channels.push(plan::Channel {
            name: name.into(),
            kind: "memory".into(),
            settings,
            abilities: Vec::new(),
            origin: OriginId(3),
            setting_origins: BTreeMap::new(),
            implicit: false,
            drain: Some(drain),
        });
        self.agent.channels.len() as u32 - 1
    }

    pub fn sink(&mut self, name: &str) -> u32 {
        self.agent.sinks.push(plan::Sink {
            name: name.into(),
            kind: "record".into(),
            settings: self.settings(),
            abilities: Vec::new(),
            origin: OriginId(4),
            setting_origins: BTreeMap::from([("path".to_owned(), OriginId(5))]),
            errors: None,
        });
        self.agent.sinks.len() as u32 - 1
    }

    /// A program that copies every row to all outputs.
    pub fn copies(&mut self, name: &str, outputs: Vec<Output>) -> u32 {
        let to = |output: usize| ir::Program { steps: Vec::new(), end: End::Output(output as u32) };
        let end = match outputs.len() {
            1 => End::Output(0),
            count => End::Copy((0..count).map(to).collect()),
        };
        self.program(name, ir::Program { steps: Vec::new(), end }, outputs)
    }

    pub fn program(&mut self, name: &str, body: ir::Program, outputs: Vec<Output>) -> u32 {
        self.agent.programs.push(plan::Program { name: name.into(), body, outputs, errors: Vec::new() });
        self.agent.programs.len() as u32 - 1
    }

    fn settings(&self) -> Settings {
        let mut settings = Settings::new();
        settings.insert("world".into(), json!(self.world));
        settings
    }

    pub fn plan(&self) -> Plan {
        let origin = |line| Origin { file: "test.flow".into(), line, column: 1, start: 0, end: 1 };
        Plan {
            version: PLAN_VERSION,
            file: "test.flow".into(),
            slots: Vec::new(),
            functions: Vec::new(),
            secrets: Vec::new(),
            services: Vec::new(),
            elections: Vec::new(),
            agents: vec![self.agent.clone()],
            runtime: Settings::new(),
            claims: Vec::new(),
            origins: (1..=6).map(origin).collect(),
        }
    }
}

pub fn output(to: Target) -> Output {
    Output { to, optional: false, origin: OriginId(6) }
}

pub fn optional(to: Target) -> Output {
    Output { to, optional: true, origin: OriginId(6) }
}

/// Lets the others run until the condition holds; panics when it does not within a minute of (virtual) time.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "waited in vain: {what}");
        // With paused time this advances the clock only when nobody has anything to do.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Lets the others run for that long, in virtual time.
pub async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

pub fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

pub fn channel_events(status: &Status) -> u64 {
    status.agents[0].channels.iter().map(|channel| channel.fill.events).sum()
}
