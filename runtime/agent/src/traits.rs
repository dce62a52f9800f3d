//! The seams between the host and the kinds: what a source, a channel and a sink must do, and what they may ask.

use std::any::Any;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use flow_plan::Batch;
use flow_plan::settings::{SecretSetting, Settings};
use tokio::sync::watch;
use tokio::time::Instant;

/// Where events enter.
#[async_trait]
pub trait Source: Send {
    /// Reads and sends until the input ends or `stop` fires, then returns; a source that returned `Ok` is
    /// finished. An error makes the supervisor start a new one after a back-off, unless it is fatal.
    async fn run(&mut self, output: SourceOutput, stop: Stop) -> Result<(), SourceError>;
}

/// A transactional buffer.
#[async_trait]
pub trait Channel: Send + Sync {
    /// Takes the batch as soon as there is room and then is responsible for it: a durable channel marks its
    /// acknowledgement done when the events are safe, a volatile one keeps it with the events. A batch larger
    /// than the channel is taken when the channel is empty.
    async fn put(&self, batch: Batch) -> Result<(), ChannelError>;

    /// Takes the batch if there is room now.
    fn try_put(&self, batch: Batch) -> Result<(), Rejected>;

    /// Rows that the channel can never take, with the reason of each (larger than it holds): they are kept as dead
    /// letters, and what is put is the rest.
    fn unfit(&self, _batch: &Batch) -> Vec<(u32, String)> {
        Vec::new()
    }

    /// The next events, at most `events_max` of them (one event is always given, whatever its size), waiting
    /// until there are some. `None`: closed and empty. Cancel safe: a wait that is given up takes nothing.
    async fn take(&self, events_max: usize) -> Result<Option<Box<dyn Transaction>>, ChannelError>;

    /// Resolves when at least `events` are there to be taken, when somebody waits for room, or when the channel is
    /// closed: then waiting for more makes no larger batch. A channel that cannot tell never resolves. One caller at
    /// a time; giving up the wait changes nothing.
    async fn filled(&self, _events: u64) {
        std::future::pending().await
    }

    /// No more puts; `take` empties what is there and then gives `None`.
    fn close(&self);

    /// Nobody will take any more: puts are refused and a volatile channel drops its events, so that their
    /// sources hear that they are lost. A durable channel keeps them for the next start.
    fn abandon(&self) {
        self.close();
    }

    /// For a channel that nobody drains: resolves when it was closed and everything put into it is safe. `warn` hears
    /// of faults that are tried again. An error is one that no further try can mend.
    async fn settle(&self, _warn: &(dyn for<'f> Fn(&'f Fault) + Send + Sync)) -> Result<(), Fault> {
        Ok(())
    }

    fn status(&self) -> ChannelStatus;
}

/// Something that parts of several agents share, started before them and shut down after them: a broker.
#[async_trait]
pub trait Service: Send + Sync {
    /// What parts get when they ask for the service by name ([`Context::service`]); kinds that belong to it know the
    /// type.
    fn handle(&self) -> Arc<dyn Any + Send + Sync>;

    /// Makes a topic, or brings one that is there in line with what is declared.
    async fn open_topic(&self, topic: &flow_plan::plan::Topic) -> Result<(), Fault>;

    /// Where it can be reached, for the terminal: `127.0.0.1:9092`.
    fn address(&self) -> String;

    /// How it is, in a word or two for the terminal, when there is something to say.
    fn condition(&self) -> Option<String> {
        None
    }

    /// Others use it, too, so a run goes on for it when its own events have ended.
    fn serves(&self) -> bool {
        true
    }

    /// Decides which of several processes work, when it can.
    fn elector(&self) -> Option<Arc<dyn Elector>> {
        None
    }

    /// The last call, when no part uses it any more.
    async fn shutdown(&self);
}

/// What processes decide together: which of them work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ballot {
    /// The same for all that stand for the same work.
    pub name: String,
    /// So many work, the others wait.
    pub active: u32,
    /// One that is silent for so long is replaced.
    pub session: std::time::Duration,
    /// Who stands, for the others to read: `web01 (pid 4711)`.
    pub who: String,
}

/// An ensemble that elects.
#[async_trait]
pub trait Elector: Send + Sync {
    /// Stands for the work until [`Candidate::resign`].
    async fn stand(&self, ballot: Ballot) -> Result<Box<dyn Candidate>, Fault>;
}

/// One process in an election.
#[async_trait]
pub trait Candidate: Send + Sync {
    /// How it stands, from now on.
    fn standing(&self) -> watch::Receiver<Standing>;

    /// Says until when it may work.
    fn fence(&self) -> Fence;

    /// Gives its place up, so that another takes over at once.
    async fn resign(&self);
}

/// How a candidate stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not in the election yet, and what is in the way.
    Joining(Option<String>),
    /// Others work; who, as far as it is known.
    Waiting(Vec<String>),
    Working,
    /// The ensemble has not answered for so long that another may soon be told to work: what works must stop before
    /// [`Fence::until`].
    Doubt(String),
}

/// Until when a process may work, by the clock that no one sets. Looked at before each write.
#[derive(Clone)]
pub struct Fence(Arc<dyn Fn() -> Option<Instant> + Send + Sync>);

impl Fence {
    /// `until` gives none while the process may not work at all.
    pub fn new(until: impl Fn() -> Option<Instant> + Send + Sync + 'static) -> Fence {
        Fence(Arc::new(until))
    }

    pub fn until(&self) -> Option<Instant> {
        (self.0)()
    }

    pub fn is_open(&self) -> bool {
        self.until().is_some_and(|until| Instant::now() < until)
    }
}

/// Events taken from a channel. `commit` forgets them; dropping gives them back, to be taken again in order.
#[async_trait]
pub trait Transaction: Send {
    /// The events, in order, as batches that share the channel's memory.
    fn batches(&self) -> &[Batch];

    /// The events are safe elsewhere. Marks their acknowledgements done.
    async fn commit(self: Box<Self>) -> Result<(), ChannelError>;
}

/// Where events leave.
#[async_trait]
pub trait Sink: Send {
    /// Writes all rows of the batches and returns when the destination has confirmed them (as far as it can).
    /// After an error nothing is assumed to be written: the same rows come again.
    ///
    /// A poll may block on files: the host hands its worker over. A write may be given up (dropped) when the
    /// limit for draining has passed; then the sink is dropped without `close`.
    async fn write(&mut self, batches: &[Batch]) -> Result<(), SinkError>;

    /// Called when nothing has come for a while and at least every second: rolls by time, closes idle files. Never
    /// while a write is under way. After `Retry` and `Refused` the next tick tries again.
    async fn tick(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    /// The last call: finishes files, closes connections.
    async fn close(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    /// How many events one `write` should get at most (the declared `batch` of the sink).
    fn batch_events_max(&self) -> usize {
        1_000
    }
}

/// Fill of a channel, for status lines and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ChannelStatus {
    pub events: u64,
    pub bytes: u64,
    pub events_max: u64,
    pub bytes_max: u64,
    /// Milliseconds that the oldest event has been waiting.
    pub oldest_ms: u64,
}

/// Why a source stopped.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Worth another try after a back-off (a directory is away for now).
    #[error("{0}")]
    Retry(Fault),
    /// Trying again cannot help (a spooled file was changed): the source stays stopped, the process goes on.
    #[error("{0}")]
    Fatal(Fault),
    /// The flow is shutting down; not an error for anybody.
    #[error("the flow is stopping")]
    Stopped,
}

/// Why a sink did not write.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The destination is away or busy: the same events are tried again after a back-off, for ever.
    #[error("{0}")]
    Retry(Fault),
    /// The destination refuses something in these events for its content. The host splits them until the bad
    /// event is alone, and sends that one to `sink.errors`.
    #[error("{0}")]
    Refused(Fault),
    /// Trying again cannot help; the flow stops with this fault.
    #[error("{0}")]
    Fatal(Fault),
    /// The reader has seen enough and went away (a closed pipe): the flow stops, and that is no failure.
    #[error("{0}")]
    Closed(Fault),
}

#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    #[error("the channel is closed")]
    Closed,
    #[error("{0}")]
    Fault(Fault),
}

/// A batch that did not fit, given back.
#[derive(Debug)]
pub struct Rejected {
    pub batch: Batch,
    /// The channel is closed, not only full.
    pub closed: bool,
}

/// What went wrong in the world, with the code of the catalogue where there is one and the setting it is about,
/// so that the message can point at the text.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Fault {
    /// `F0804`
    pub code: Option<&'static str>,
    /// One sentence in lower case without a full stop.
    pub message: String,
    /// Something to do.
    pub help: Option<String>,
    /// The declared setting the fault is about.
    pub setting: Option<&'static str>,
}

impl Fault {
    pub fn new(message: impl Into<String>) -> Fault {
        Fault { code: None, message: message.into(), help: None, setting: None }
    }

    pub fn code(mut self, code: &'static str) -> Fault {
        self.code = Some(code);
        self
    }

    pub fn help(mut self, help: impl Into<String>) -> Fault {
        self.help = Some(help.into());
        self
    }

    pub fn setting(mut self, setting: &'static str) -> Fault {
        self.setting = Some(setting);
        self
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// Asks a part to stop. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stop {
    receiver: watch::Receiver<bool>,
}

impl Stop {
    pub fn new(receiver: watch::Receiver<bool>) -> Stop {
        Stop { receiver }
    }

    pub fn is_stopped(&self) -> bool {
        *self.receiver.borrow()
    }

    /// Resolves when stopping has been asked for.
    pub async fn stopped(&mut self) {
        if self.receiver.wait_for(|stop| *stop).await.is_err() {
            // The host is gone: that is a stop, too.
        }
    }
}

/// The way from a source into its program and on into the channels.
///
/// `send` runs the program and waits until every required channel has taken its part; `send_ahead` only until there
/// is room on the way: these waits are the back-pressure. A source gives it whole batches and keeps at most a bounded
/// number of receipts unresolved.
#[derive(Clone)]
pub struct SourceOutput {
    inner: Arc<dyn Accept>,
}

/// What stands behind a [`SourceOutput`]; the host implements it, tests bring a collecting one.
#[async_trait]
pub trait Accept: Send + Sync {
    /// Takes the batch, with its acknowledgement already opened by the source.
    async fn accept(&self, batch: Batch) -> Result<(), SourceError>;
    /// The same, but it may return before the channels have the batch; see [`SourceOutput::send_ahead`].
    async fn accept_ahead(&self, batch: Batch) -> Result<(), SourceError> {
        self.accept(batch).await
    }
    /// Rows the source itself could not turn into events (`source.errors`).
    async fn refuse(&self, batch: Batch, reason: &str) -> Result<(), SourceError>;
    /// Events that were lost before the flow could take them (UDP), or noteworthy counts, by a fixed name.
    fn count(&self, what: &'static str, events: u64);
    /// The source is waiting for input and has sent everything it has.
    fn idle(&self);
    /// Something the user should hear while the source goes on: a file that cannot be read, a saved position that
    /// makes no sense.
    fn warn(&self, fault: &Fault) {
        tracing::warn!(code = fault.code.unwrap_or_default(), "{fault}");
    }
}

impl SourceOutput {
    pub fn new(inner: Arc<dyn Accept>) -> SourceOutput {
        SourceOutput { inner }
    }

    /// Sends a batch whose `ack` the source opened (or `Ack::none()`), returns when the required channels have it.
    ///
    /// When the flow stops while it waits for room: a batch with an open acknowledgement is given up at once
    /// ([`SourceError::Stopped`]; it counts as lost, so the source repeats it at the next start); one that nobody
    /// would repeat goes on waiting while the channels drain.
    pub async fn send(&self, batch: Batch) -> Result<(), SourceError> {
        self.inner.accept(batch).await
    }

    /// Sends a batch of a stream and returns as soon as the flow has room for it: the source reads on while programs
    /// run, several batches at once where they allow it. The batches of one caller enter the channels in the order in
    /// which they were sent; a source has one caller of this at a time.
    ///
    /// A fault on the way is told with a later batch, or when the source has ended. What it had sent behind the lost
    /// batch is then lost, too, unless nobody would repeat it (see [`SourceOutput::send`]).
    pub async fn send_ahead(&self, batch: Batch) -> Result<(), SourceError> {
        self.inner.accept_ahead(batch).await
    }

    /// Sends a batch and gives the receipt that resolves when its events are delivered end to end.
    pub async fn send_with_receipt(&self, mut batch: Batch) -> Result<Receipt, SourceError> {
        let (ack, receipt) = receipt();
        batch.ack = ack;
        self.inner.accept(batch).await?;
        Ok(receipt)
    }

    /// Hands over input that could not become events.
    pub async fn refuse(&self, batch: Batch, reason: &str) -> Result<(), SourceError> {
        self.inner.refuse(batch, reason).await
    }

    pub fn count(&self, what: &'static str, events: u64) {
        self.inner.count(what, events);
    }

    pub fn idle(&self) {
        self.inner.idle();
    }

    /// Tells the user, with the place in the text; the source goes on. Whoever calls it says a thing once, not at
    /// every look.
    pub fn warn(&self, fault: &Fault) {
        self.inner.warn(fault);
    }
}

/// Resolves with the outcome of a batch.
pub type Receipt = tokio::sync::oneshot::Receiver<flow_plan::Outcome>;

/// An acknowledgement and the receipt that hears of it.
pub fn receipt() -> (flow_plan::Ack, Receipt) {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let sender = std::sync::Mutex::new(Some(sender));
    let ack = flow_plan::Ack::new(move |outcome| {
        let sender = sender.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        if let Some(sender) = sender {
            // Nobody may be waiting any more; that is fine.
            let _ = sender.send(outcome);
        }
    });
    (ack, receiver)
}

/// What a component may know of its surroundings.
#[derive(Clone)]
pub struct Context {
    /// Its name in the plan.
    pub name: String,
    /// Name of its agent.
    pub agent: String,
    /// A directory for the state of this component alone (`<data>/<agent>/<name>`); made on first use.
    pub state_dir: PathBuf,
    /// Header names by slot.
    pub slots: Arc<Vec<String>>,
    /// The functions, for templates and expressions in settings.
    pub functions: flow_plan::function::Functions,
    /// Secrets fetched at start, by name. Never printed.
    pub secrets: Arc<BTreeMap<String, String>>,
    /// Name of this host.
    pub host: String,
    /// What the services of the plan give to others, by name.
    pub services: Arc<Services>,
}

/// Handles of services by name.
pub type Services = BTreeMap<String, Arc<dyn Any + Send + Sync>>;

impl Context {
    /// What the service of that name gives to others.
    pub fn service<T: Any + Send + Sync>(&self, name: &str) -> Result<Arc<T>, Fault> {
        let unknown = || Fault::new(format!("the plan has no service `{name}` of that kind")).code("F1109");
        self.services.get(name).cloned().and_then(|handle| handle.downcast().ok()).ok_or_else(unknown)
    }

    /// The value of a secret setting.
    pub fn secret(&self, setting: &SecretSetting) -> Result<String, Fault> {
        match setting {
            SecretSetting::Literal(value) => Ok(value.clone()),
            SecretSetting::Secret(name) => self
                .secrets
                .get(name)
                .cloned()
                .ok_or_else(|| Fault::new(format!("secret `{name}` was not fetched")).code("F0901")),
        }
    }
}

pub type SourceFactory = fn(&Settings, &Context) -> Result<Box<dyn Source>, Fault>;
pub type ChannelFactory = fn(&Settings, &Context) -> Result<Arc<dyn Channel>, Fault>;
pub type SinkFactory = fn(&Settings, &Context) -> Result<Box<dyn Sink>, Fault>;
/// Runs on the runtime that the service will live on.
pub type ServiceFactory = fn(Settings, Context) -> StartingService;
/// A service on its way.
pub type StartingService = Pin<Box<dyn Future<Output = Result<Arc<dyn Service>, Fault>> + Send>>;

/// The kinds that this build has, by name.
#[derive(Clone, Default)]
pub struct Registry {
    pub sources: BTreeMap<&'static str, SourceFactory>,
    pub channels: BTreeMap<&'static str, ChannelFactory>,
    pub sinks: BTreeMap<&'static str, SinkFactory>,
    /// Clusters.
    pub services: BTreeMap<&'static str, ServiceFactory>,
    pub ensembles: BTreeMap<&'static str, ServiceFactory>,
    pub interceptors: flow_plan::interceptor::Interceptors,
    pub functions: flow_plan::function::Functions,
    /// Makes machine code of programs; without one the reference runs them.
    pub compiler: Option<Arc<dyn flow_plan::native::Compiler>>,
}

/// Decodes resolved settings into the struct of a kind. The checker has proved them, so a failure is a
/// disagreement between declaration and code, which the agreement test finds.
pub fn decode_settings<T: serde::de::DeserializeOwned>(settings: &Settings) -> Result<T, Fault> {
    serde_json::from_value(serde_json::Value::Object(settings.clone()))
        .map_err(|error| Fault::new(format!("settings do not fit the declaration: {error}")).code("F1109"))
}
