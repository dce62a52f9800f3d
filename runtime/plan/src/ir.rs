//! The expression IR: what interceptors, functions, routes and templates mean, after names and types are
//! resolved. Plain data; [`crate::eval`] gives it its meaning and the JIT gives the same answers faster.

use serde::{Deserialize, Serialize};

use crate::batch::Slot;
use crate::plan::OriginId;
use crate::settings::{RegexSetting, Settings};

/// A user's `fn`: pure, not recursive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Function {
    pub name: String,
    /// Arguments are the first locals.
    pub params: u32,
    /// Number of locals including the arguments.
    pub locals: u32,
    pub body: Vec<Stmt>,
}

/// A program between two boundaries: steps over a batch, then where the rows go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Program {
    pub steps: Vec<Step>,
    pub end: End,
}

/// One interceptor in a program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The name that messages and metrics use (`mask`, `line_12.filter`).
    pub name: String,
    pub op: StepOp,
    pub origin: OriginId,
    /// Where rows go for which this step fails: an index into [`crate::plan::Program::errors`], or the
    /// dead-letter store.
    pub errors: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOp {
    /// An interceptor written in the language.
    Code(Code),
    /// An interceptor of the library, by kind; its factory lowers it to [`Code`] or gives a native one.
    Kind { kind: String, settings: Settings },
}

/// Statements with their frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Code {
    pub locals: u32,
    pub body: Vec<Stmt>,
}

/// Where the rows that are left go. Output numbers index [`crate::plan::Program::outputs`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    Output(u32),
    /// Thrown away on purpose.
    Discard,
    /// Every branch gets every row.
    Copy(Vec<Program>),
    Route(Route),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// `route all`: every arm that is true gets a copy; else the first one gets the row.
    pub all: bool,
    /// Evaluated once per row into this local.
    pub subject: Option<Expr>,
    /// Number of locals of the frame; local 0 is the subject.
    pub locals: u32,
    pub arms: Vec<Arm>,
    /// A row for which the subject or a condition fails, as [`Step::errors`].
    pub errors: Option<u32>,
    pub origin: OriginId,
    /// What messages call the route (`route at line 20`).
    pub name: String,
}

/// The last arm with `when: None` is `else`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    pub when: Option<Expr>,
    pub then: Program,
    pub origin: OriginId,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stmt {
    Set {
        local: u32,
        value: Expr,
    },
    SetHeader {
        slot: Slot,
        value: Expr,
    },
    RemoveHeader {
        slot: Slot,
    },
    /// Removes every header whose name matches, or is in the list (also those without a slot).
    RemoveHeaders {
        names: Vec<String>,
        matching: Option<RegexSetting>,
    },
    SetBody {
        value: Expr,
    },
    SetTime {
        value: Expr,
    },
    /// Stores into a field or element of a local (`o.total = 1.0`, `m["k"] = v`).
    SetPath {
        local: u32,
        path: Vec<PathStep>,
        value: Expr,
        origin: OriginId,
    },
    If {
        condition: Expr,
        then: Vec<Stmt>,
        otherwise: Vec<Stmt>,
    },
    For {
        item: u32,
        index: Option<u32>,
        list: Expr,
        body: Vec<Stmt>,
        origin: OriginId,
    },
    /// Searches `subject` and sets one header per group that took part; others stay as they are. `on_miss` says
    /// what happens when the regex does not match.
    Extract {
        subject: Expr,
        regex: RegexSetting,
        groups: Vec<ExtractGroup>,
        on_miss: OnMiss,
        origin: OriginId,
    },
    Drop,
    /// Leaves the interceptor with the event as it is now.
    Pass,
    Fail {
        message: Expr,
        origin: OriginId,
    },
    /// A further event: a map with `body`, `time`, and headers under `header` (a map) or `header.NAME`; what it
    /// does not name is taken from the current event.
    Emit {
        event: Expr,
        origin: OriginId,
    },
    Return {
        value: Option<Expr>,
    },
    /// Evaluated for its failure only.
    Expr {
        value: Expr,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathStep {
    Member(String),
    Index(Expr),
}

/// A named group and the header it becomes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExtractGroup {
    pub group: String,
    pub slot: Slot,
    /// Applied to the text of the group (local `value_local`), for typed serializers; none keeps the range.
    pub convert: Option<Expr>,
    pub value_local: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnMiss {
    Pass,
    Drop,
    Fail,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expr {
    Const(Const),
    Local(u32),
    Header(Slot),
    /// All headers as a map.
    Headers,
    Body,
    Time,
    EventId,
    EventSource,
    EventSize,
    /// The time of the batch, as `now()` gives it.
    Now,
    Not(Box<Expr>),
    Neg {
        value: Box<Expr>,
        origin: OriginId,
    },
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    /// `a ?? b`
    Coalesce(Box<Expr>, Box<Expr>),
    Compare {
        op: CompareOp,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    /// Arithmetic; overflow and division by zero fail. `Add` also joins texts and lists.
    Arith {
        op: ArithOp,
        left: Box<Expr>,
        right: Box<Expr>,
        origin: OriginId,
    },
    Matches {
        value: Box<Expr>,
        regex: RegexSetting,
    },
    /// Regex given at run time (a parameter).
    MatchesDynamic {
        value: Box<Expr>,
        regex: Box<Expr>,
        origin: OriginId,
    },
    In {
        value: Box<Expr>,
        list: Box<Expr>,
    },
    /// `low <= value <= high`; false for null and for other types.
    Between {
        value: Box<Expr>,
        low: Box<Expr>,
        high: Box<Expr>,
    },
    If {
        condition: Box<Expr>,
        then: Box<Expr>,
        otherwise: Box<Expr>,
    },
    /// A built-in function.
    Call {
        function: String,
        args: Vec<Expr>,
        origin: OriginId,
    },
    /// A user's function, an index into [`crate::Plan::functions`].
    CallUser {
        function: u32,
        args: Vec<Expr>,
        origin: OriginId,
    },
    /// Only as an argument of [`Expr::Call`]. The argument is local `param` of the enclosing frame.
    Lambda {
        param: u32,
        body: Box<Expr>,
    },
    List(Vec<Expr>),
    Map(Vec<(String, Expr)>),
    /// A field of a record, map or JSON object; absent is null.
    Member {
        object: Box<Expr>,
        name: String,
    },
    /// An element of a list (fails when out of range) or of a map (absent is null).
    Index {
        object: Box<Expr>,
        index: Box<Expr>,
        origin: OriginId,
    },
    /// Integers from `low` to `high`, both included, at most a million.
    Range {
        low: Box<Expr>,
        high: Box<Expr>,
        origin: OriginId,
    },
    /// Text with holes; null gives nothing.
    Template(Vec<TemplatePart>),
    /// Checks a dynamic value against a type, once.
    Decode {
        value: Box<Expr>,
        ty: Type,
        origin: OriginId,
    },
    /// `value else …`: also taken when `value` is null and the type says that it may be.
    Else {
        value: Box<Expr>,
        fallback: Fallback,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    Drop,
    Pass,
    Fail { message: Option<Box<Expr>>, origin: OriginId },
    Value(Box<Expr>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplatePart {
    Text(String),
    /// `format` is strftime for times, and none otherwise.
    Expr {
        value: Expr,
        format: Option<String>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CompareOp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArithOp {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
}

/// A constant. Written so that JSON keeps every value exactly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Const {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    /// Milliseconds since 1970 UTC.
    Time(i64),
    /// Nanoseconds.
    Duration(i64),
    /// Bytes.
    Size(u64),
    Regex(RegexSetting),
}

/// A type as far as run time needs it: for decoding bodies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Type {
    Any,
    Bool,
    Int,
    Float,
    Text,
    Time,
    Duration,
    Size,
    List(Box<Type>),
    Map(Box<Type>),
    /// A record: unknown fields of the input are kept out, missing ones fail unless optional.
    Record {
        name: Option<String>,
        fields: Vec<(String, Type)>,
    },
    Optional(Box<Type>),
}
