//! Prepared code: the IR with functions resolved, regexes compiled and chains flattened. Plain data for
//! [`super::run`]; made only by [`super::prepare`].

use std::sync::Arc;

use regex::bytes::Regex;

use super::pattern::Pattern;
use crate::batch::Slot;
use crate::function::FunctionImpl;
use crate::ir::{ArithOp, CompareOp, OnMiss, Type};
use crate::plan::OriginId;
use crate::value::Value;

pub(crate) enum Node {
    Const(Value<'static>),
    Local(u32),
    Header(Slot),
    Headers,
    Body,
    Time,
    EventId,
    EventSource,
    EventSize,
    Now,
    Not(Box<Node>),
    Neg(Box<Node>, OriginId),
    /// `and`
    All(Vec<Node>),
    /// `or`
    Any(Vec<Node>),
    Coalesce(Vec<Node>),
    Compare(CompareOp, Box<(Node, Node)>),
    Arith(Box<Node>, Vec<(ArithOp, Node, OriginId)>),
    Matches(Box<Node>, Pattern),
    MatchesDynamic(Box<(Node, Node)>, OriginId),
    In(Box<(Node, Node)>),
    /// A list of constant strings, sorted.
    InTexts(Box<Node>, Vec<Vec<u8>>),
    /// A range that need not become a list.
    InRange(Box<(Node, Node, Node)>),
    Between(Box<(Node, Node, Node)>),
    Cond(Vec<(Node, Node)>, Box<Node>),
    Call(FunctionImpl, Vec<Node>, OriginId),
    CallUser(u32, Vec<Node>, OriginId),
    Lambda(u32),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
    Member(Box<Node>, String),
    Index(Box<(Node, Node)>, OriginId),
    Range(Box<(Node, Node)>, OriginId),
    Template(Vec<Part>),
    Decode(Box<Node>, Type, OriginId),
    Else(Box<Node>, Fallback),
}

pub(crate) enum Fallback {
    Drop,
    Pass,
    Fail(Option<Box<Node>>, OriginId),
    Value(Box<Node>),
}

pub(crate) enum Part {
    Text(Vec<u8>),
    Expr(Node),
    /// A time by strftime. `cache` is its place in [`super::run::Scratch`].
    Time {
        value: Node,
        format: String,
        /// Milliseconds for which the text stays the same.
        granule_ms: i64,
        cache: usize,
    },
}

pub(crate) enum Statement {
    Set(u32, Node),
    SetHeader(Slot, Node),
    RemoveHeader(Slot),
    RemoveHeaders { slots: Vec<Slot>, names: Vec<String>, matching: Option<Regex> },
    SetBody(Node),
    SetTime(Node),
    SetPath { local: u32, path: Vec<PathStep>, value: Node, origin: OriginId },
    Cond(Vec<(Node, Vec<Statement>)>, Vec<Statement>),
    For { item: u32, index: Option<u32>, list: Node, body: Vec<Statement>, origin: OriginId },
    Extract(Box<Extract>),
    Drop,
    Pass,
    Fail(Node, OriginId),
    Emit(Node, OriginId),
    Return(Option<Node>),
    Expr(Node),
}

pub(crate) enum PathStep {
    Member(String),
    Index(Node),
}

pub(crate) struct Extract {
    pub subject: Node,
    pub pattern: Pattern,
    pub groups: Vec<Group>,
    pub on_miss: OnMiss,
    pub origin: OriginId,
    /// Where the memory of its searches is kept in [`super::run::Scratch`].
    pub cache: usize,
}

pub(crate) struct Group {
    /// Number of the group in the regex.
    pub number: usize,
    pub slot: Slot,
    pub convert: Option<Node>,
    pub value_local: u32,
}

/// Statements with their frame.
pub(crate) struct Block {
    pub locals: usize,
    pub body: Vec<Statement>,
}

pub(crate) struct UserFunction {
    pub name: String,
    pub params: usize,
    pub locals: usize,
    pub body: Vec<Statement>,
    /// How deep its body nests.
    pub depth: u32,
}

pub(crate) struct Lambda {
    pub param: u32,
    pub body: Node,
    pub depth: u32,
}

/// What prepared code refers to by number.
#[derive(Default)]
pub(crate) struct Unit {
    pub slots: Arc<[String]>,
    pub functions: Vec<Option<UserFunction>>,
    pub lambdas: Vec<Lambda>,
    /// How many caches templates and extractions want.
    pub caches: usize,
}
