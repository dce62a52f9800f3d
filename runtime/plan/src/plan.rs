//! The plan: what will run, as plain owned data. Nodes and edges by index, resolved settings, expression IR;
//! positions in the text are kept apart in [`Plan::origins`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ir;
use crate::settings::Settings;

/// Raised when the shape of the plan changes; a newer one is refused.
pub const PLAN_VERSION: u32 = 3;

/// An index into [`Plan::origins`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OriginId(pub u32);

/// A place in the user's text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Origin {
    pub file: String,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// Byte positions in the file, for whoever has its text.
    pub start: u32,
    pub end: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub version: u32,
    /// The file, as messages name it.
    pub file: String,
    /// Header names by slot.
    pub slots: Vec<String>,
    pub functions: Vec<ir::Function>,
    pub secrets: Vec<Secret>,
    /// What the agents share, started before them: brokers, coordinators.
    pub services: Vec<Service>,
    pub agents: Vec<Agent>,
    /// Agents of which only some of all processes run theirs at a time; the others always work.
    pub elections: Vec<Election>,
    /// Settings of `runtime { … }`, resolved against its declaration.
    pub runtime: Settings,
    pub claims: Vec<Claim>,
    /// Element 0 is the whole file.
    pub origins: Vec<Origin>,
}

/// A broker or a coordinator inside of the process; parts of the agents name it in their settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    pub word: ServiceWord,
    pub name: String,
    pub kind: String,
    pub settings: Settings,
    pub abilities: Vec<String>,
    pub origin: OriginId,
    pub setting_origins: BTreeMap<String, OriginId>,
    /// Put in by the compiler, for a file that declares none.
    pub implicit: bool,
    /// What it has to have before anything runs.
    pub topics: Vec<Topic>,
}

/// What a service is declared as: kinds are told apart by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceWord {
    Cluster,
    Ensemble,
}

impl ServiceWord {
    /// As it is written.
    pub fn text(self) -> &'static str {
        match self {
            ServiceWord::Cluster => "cluster",
            ServiceWord::Ensemble => "ensemble",
        }
    }
}

/// `runtime { active: 1, elect: zk }`: of all processes that run the file, so many work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Election {
    /// What the processes meet under: the same for all that run the file.
    pub name: String,
    /// Name of the ensemble among the services.
    pub ensemble: String,
    /// At least 1.
    pub active: u32,
    pub session_ns: u64,
    /// By name, those that work or wait together.
    pub agents: Vec<String>,
    pub origin: OriginId,
}

/// A topic on a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Topic {
    pub name: String,
    pub settings: Settings,
    pub origin: OriginId,
    pub setting_origins: BTreeMap<String, OriginId>,
}

/// A process: everything at the top level of a file belongs to the agent `main`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    pub name: String,
    /// Empty: anywhere.
    pub hosts: Vec<String>,
    pub sources: Vec<Source>,
    pub channels: Vec<Channel>,
    pub sinks: Vec<Sink>,
    pub programs: Vec<Program>,
    /// Interceptors with an `x.errors` chain share its name: (interceptor, program) pairs are already inlined
    /// in [`Program::errors`]; this lists the names for `flowc plan`.
    pub error_chains: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    pub name: String,
    pub kind: String,
    pub settings: Settings,
    pub abilities: Vec<String>,
    pub origin: OriginId,
    /// Where each setting stands in the text, for messages about the world.
    pub setting_origins: BTreeMap<String, OriginId>,
    /// The `flow` block it belongs to.
    pub flow: Option<String>,
    /// What happens to its events, an index into [`Agent::programs`]. A source at the head of several chains has
    /// one program that copies.
    pub program: u32,
    /// `source.errors -> …`
    pub errors: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Channel {
    pub name: String,
    pub kind: String,
    pub settings: Settings,
    pub abilities: Vec<String>,
    pub origin: OriginId,
    pub setting_origins: BTreeMap<String, OriginId>,
    /// Put in by the compiler between a source and a sink.
    pub implicit: bool,
    /// From the channel to its sinks, inside the transaction: an index into [`Agent::programs`]. `None`: it is only
    /// written to here (a topic), and whoever reads it is a source of its own.
    pub drain: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sink {
    pub name: String,
    pub kind: String,
    pub settings: Settings,
    pub abilities: Vec<String>,
    pub origin: OriginId,
    pub setting_origins: BTreeMap<String, OriginId>,
    /// `sink.errors -> …`: an index into [`Agent::programs`]; otherwise the dead-letter store.
    pub errors: Option<u32>,
}

/// A program with the places its rows can go to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// What `plan`, metrics and `tap` call it (`web`, `buf`, `mask.errors`).
    pub name: String,
    pub body: ir::Program,
    pub outputs: Vec<Output>,
    /// `x.errors -> …` chains used by steps of this program; their outputs are in `outputs` too.
    pub errors: Vec<ir::Program>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Output {
    pub to: Target,
    /// `c?`: a full or failing target never holds the others.
    pub optional: bool,
    pub origin: OriginId,
}

/// Indexes into the lists of the same [`Agent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    Channel(u32),
    /// Only in a program that drains a channel.
    Sink(u32),
}

/// A value that is fetched when the process starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Secret {
    pub name: String,
    pub kind: String,
    pub settings: Settings,
    pub origin: OriginId,
}

/// `deliver …` and its proof.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// `at_most_once`, `at_least_once`, `effectively_once`
    pub guarantee: String,
    /// What it covers: the file, an agent or a flow, in words.
    pub scope: String,
    pub origin: OriginId,
    /// One line per path: why it holds.
    pub proof: Vec<String>,
}
