//! The resolved program: every name bound, every setting typed and encoded, every expression lowered to IR,
//! templates and imports expanded. What is left to ask is the shape: does everything flow somewhere, can the
//! claims hold. Written by the first half of the checker ([`crate::resolve`]), read by the second
//! ([`crate::graph`]).

use std::collections::{BTreeMap, BTreeSet};

use flow_diag::Span;
use flow_plan::ir;
use flow_plan::settings::Settings;

pub use flow_syntax::ast::{ComponentWord, Literal};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ComponentId(pub u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentId(pub u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId(pub u32);

/// An interceptor that has a name, and so can have `name.errors`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterceptorId(pub u32);

/// IR positions: `ir` speaks of [`flow_plan::plan::OriginId`]; here each is an index into [`Model::origins`].
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Agent 0 is `main`: what stands at the top level of the file.
    pub agents: Vec<Agent>,
    pub flows: Vec<Flow>,
    pub components: Vec<Component>,
    pub interceptors: Vec<Interceptor>,
    pub chains: Vec<Chain>,
    pub claims: Vec<Claim>,
    /// Spans of the IR's origins; element 0 is the whole file.
    pub origins: Vec<Span>,
    /// Header names by slot.
    pub slots: Vec<String>,
    pub functions: Vec<ir::Function>,
    pub secrets: Vec<Secret>,
    pub runtime: Settings,
    /// Span of `runtime { … }`.
    pub runtime_span: Option<Span>,
    /// `active` and `elect` of the file or of agents.
    pub elections: Vec<Election>,
    /// Names in unreadable text: rules that say "nothing uses this" stay silent about them.
    pub poisoned: BTreeSet<String>,
    /// An error makes silence about consequences necessary: some chain or declaration could not be resolved.
    pub incomplete: bool,
    /// What is put in between a source and a sink when no channel is named; filled in by
    /// [`crate::graph::prepare`] unless it is there already.
    pub default_channel: Option<ImplicitChannel>,
    /// What is put in instead where a claim needs events to be kept, when the library has such a kind.
    pub durable_channel: Option<ImplicitChannel>,
    /// A reader of a topic that nobody declared (`orders as billing -> …`).
    pub reader: Option<KindDefaults>,
    /// The cluster of topics in a file that declares none.
    pub own_cluster: Option<KindDefaults>,
}

/// A kind with all settings at their defaults.
#[derive(Clone, Debug, Default)]
pub struct KindDefaults {
    pub kind: String,
    /// Encoded as [`Component::settings`].
    pub settings: Settings,
    pub abilities: Vec<String>,
}

/// A channel that nobody wrote.
#[derive(Clone, Debug, Default)]
pub struct ImplicitChannel {
    pub kind: String,
    /// Encoded as [`Component::settings`].
    pub settings: Settings,
    pub abilities: Vec<String>,
    /// The setting that gets a directory named after the channel, relative to the state directory.
    pub directory_setting: Option<String>,
    /// Where `runtime.default_channel` stands, when the user chose it.
    pub span: Option<Span>,
}

#[derive(Clone, Debug)]
pub struct Agent {
    pub name: String,
    pub span: Span,
    /// Expanded from `at`; empty: anywhere.
    pub hosts: Vec<String>,
}

/// `runtime { active: 1, elect: zk }`, of the file or of one agent.
#[derive(Clone, Debug)]
pub struct Election {
    /// Agent 0 stands for all that have none of their own.
    pub agent: AgentId,
    pub ensemble: ComponentId,
    pub active: u32,
    pub session_ns: u64,
    /// Where the session stands, or who decides.
    pub session_span: Span,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub struct Flow {
    pub name: String,
    pub span: Span,
    pub agent: AgentId,
}

/// A component instance: declared, expanded from a template, or written in place in a chain.
#[derive(Clone, Debug)]
pub struct Component {
    pub word: Word,
    /// As messages and metrics call it: `buf`, `paris.buf`, `line_12.tail`.
    pub name: String,
    pub kind: String,
    pub agent: AgentId,
    pub flow: Option<FlowId>,
    /// The name in the declaration, or the kind when written in place.
    pub span: Span,
    /// The kind word.
    pub kind_span: Span,
    /// Encoded as the plan wants them: every declared setting is present.
    pub settings: Settings,
    /// Where each setting that the user wrote stands (its value).
    pub setting_spans: BTreeMap<String, Span>,
    pub abilities: Vec<String>,
    /// Written in a chain.
    pub in_place: bool,
    /// Imported from another file (the importing file need not use it).
    pub imported: bool,
    /// Declared with a name that begins with `_`, or poisoned: unused is fine.
    pub unused_ok: bool,
    /// The declaration had an error: consequences are not reported.
    pub poisoned: bool,
    /// Another part has the same name: what the text says about the name may speak of the other one.
    pub declared_twice: bool,
    /// Groups: the members in order.
    pub members: Vec<Member>,
    /// Topics and consumers: the topic (for a consumer), the cluster (for a topic), when declared.
    pub on: Option<ComponentId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Word {
    Source,
    Channel,
    Sink,
    Group,
    Topic,
    Consumer,
    Cluster,
    Ensemble,
}

impl Word {
    /// The word as it is written.
    pub fn text(self) -> &'static str {
        match self {
            Word::Source => "source",
            Word::Channel => "channel",
            Word::Sink => "sink",
            Word::Group => "group",
            Word::Topic => "topic",
            Word::Consumer => "consumer",
            Word::Cluster => "cluster",
            Word::Ensemble => "ensemble",
        }
    }
}

/// A member of a group: a sink, another group, or a remote inbox (a source of another agent).
#[derive(Clone, Debug)]
pub struct Member {
    pub component: ComponentId,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub struct Interceptor {
    pub name: String,
    pub span: Span,
    pub imported: bool,
}

#[derive(Clone, Debug)]
pub struct Secret {
    pub name: String,
    pub kind: String,
    pub settings: Settings,
    pub span: Span,
}

/// `deliver …`
#[derive(Clone, Debug)]
pub struct Claim {
    /// `at_most_once`, `at_least_once`, `effectively_once`
    pub guarantee: String,
    pub span: Span,
    pub scope: Scope,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    File,
    Agent(AgentId),
    Flow(FlowId),
}

#[derive(Clone, Debug)]
pub struct Chain {
    pub agent: AgentId,
    pub flow: Option<FlowId>,
    pub span: Span,
    /// More than one for a fan-in `[a, b] -> …`; each may have its own steps first (`[a -> x, b] -> c`).
    pub from: Vec<Start>,
    /// At least one node unless something in the chain is unresolved.
    pub nodes: Vec<Node>,
}

#[derive(Clone, Debug)]
pub struct Start {
    pub span: Span,
    pub kind: StartKind,
    /// Steps inside the fan-in list.
    pub nodes: Vec<Node>,
}

#[derive(Clone, Debug)]
pub enum StartKind {
    /// A source, channel, topic or consumer; anything else is the graph check's to refuse (F0404, F0415).
    Component { id: ComponentId, as_group: Option<String> },
    /// `x.errors` of an interceptor.
    InterceptorErrors(InterceptorId),
    /// `x.errors` of a source or sink.
    ComponentErrors(ComponentId),
    /// An interceptor stands at the head: F0415.
    Interceptor(InterceptorId),
    /// Not resolved; a diagnostic was given.
    Poison,
}

/// A step of a chain.
#[derive(Clone, Debug)]
pub struct Node {
    pub span: Span,
    /// The arrow before it.
    pub arrow: Span,
    pub kind: NodeKind,
}

#[derive(Clone, Debug)]
pub enum NodeKind {
    /// One or, for a pipeline, several interceptors in a row.
    Steps(Vec<StepModel>),
    Place {
        id: ComponentId,
        /// `c?`
        optional: Option<Span>,
        /// `orders as billing`
        as_group: Option<String>,
    },
    Fan(Vec<Vec<Node>>),
    Route(RouteModel),
    Poison,
}

#[derive(Clone, Debug)]
pub struct StepModel {
    /// Its `errors` is filled in when the plan is made.
    pub step: ir::Step,
    /// Whose `errors` chain takes its failures, innermost first (`mask_cards`, then the pipeline `scrub`).
    pub owners: Vec<InterceptorId>,
    pub span: Span,
    /// The declared kind may drop rows (ability `drops`), or code contains `drop`.
    pub drops: bool,
    /// It can fail.
    pub fails: bool,
    /// It changes events (anything but a pure filter).
    pub changes: bool,
}

#[derive(Clone, Debug)]
pub struct RouteModel {
    /// The words `route`/`route all`.
    pub head: Span,
    pub all: bool,
    pub subject: Option<ir::Expr>,
    pub subject_span: Option<Span>,
    /// The static type of the subject, as text for messages (`int`, `string?`).
    pub subject_type: String,
    /// All values the subject can have, when the type says so (`bool`: "true" and "false").
    pub subject_values: Option<Vec<Literal>>,
    pub locals: u32,
    /// Something in it could not be read or resolved: how many cases there are is not known.
    pub broken: bool,
    pub arms: Vec<ArmModel>,
}

#[derive(Clone, Debug)]
pub struct ArmModel {
    pub span: Span,
    /// The test alone, without the arrow.
    pub test_span: Span,
    /// `None` is `else`.
    pub when: Option<ir::Expr>,
    /// For overlap checks; empty for a bare `when`.
    pub patterns: Vec<PatternModel>,
    pub guarded: bool,
    /// A bare `when` whose condition is this regex on the subject-free value, for overlap checks: the text of
    /// the tested expression and the regex.
    pub condition_text: Option<String>,
    pub nodes: Vec<Node>,
}

#[derive(Clone, Debug)]
pub struct PatternModel {
    pub span: Span,
    pub kind: PatternKindModel,
}

#[derive(Clone, Debug)]
pub enum PatternKindModel {
    Literal(Literal),
    Range(Literal, Literal),
    Regex { pattern: String, flags: String },
    Null,
}
