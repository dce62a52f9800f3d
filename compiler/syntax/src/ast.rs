//! The syntax tree: owned, with spans, close to the text.
//!
//! Nothing is resolved here: a name is a word and a place. Units are already applied to numbers (`5min` is a
//! [`Literal::Duration`]), regexes and templates are split but not compiled.

use flow_diag::{FileId, Span};
use std::collections::BTreeSet;

/// A word that names something, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    pub text: String,
    pub span: Span,
}

/// `a.b.c`: at least one name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    pub names: Vec<Name>,
    pub span: Span,
}

impl Path {
    pub fn first(&self) -> &Name {
        &self.names[0]
    }

    pub fn last(&self) -> &Name {
        &self.names[self.names.len() - 1]
    }

    /// The text with dots.
    pub fn text(&self) -> String {
        self.names.iter().map(|name| name.text.as_str()).collect::<Vec<_>>().join(".")
    }
}

/// A whole `.flow` file.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    pub id: FileId,
    pub items: Vec<Item>,
    /// `# flowc: allow F0405 "reason"` comments.
    pub allows: Vec<Allow>,
    /// Names seen in pieces that could not be read: nobody may complain that they are unknown or unused.
    pub poisoned: BTreeSet<String>,
}

impl File {
    pub fn empty(id: FileId) -> File {
        File { id, items: Vec::new(), allows: Vec::new(), poisoned: BTreeSet::new() }
    }
}

/// Silences one code for the statement that starts on the next line of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allow {
    /// As written; may be no known code.
    pub code: Name,
    /// The reason between quotes; an allow without one is not honoured.
    pub reason: Option<String>,
    /// The span of the comment.
    pub span: Span,
    /// What it covers: from the start of the next line to the end of the statement there.
    pub covers: Span,
}

/// A declaration, a claim, a test or a chain. `doc` fields hold the `##` lines above, without the marks.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    Import(Import),
    Param(Param),
    Secret(Secret),
    Type(TypeDecl),
    Fn(FnDecl),
    Interceptor(Interceptor),
    Component(Component),
    Topic(Topic),
    Agent(Agent),
    Flow(Flow),
    Template(Template),
    Runtime(Runtime),
    Deliver(Deliver),
    Test(Test),
    Chain(Chain),
    Extern(Extern),
}

/// `import "lib/scrub.flow" as scrub`
#[derive(Clone, Debug, PartialEq)]
pub struct Import {
    pub span: Span,
    pub path: String,
    pub path_span: Span,
    /// Without `as`: the file's stem.
    pub alias: Option<Name>,
}

/// `param env: string = "dev" where env in [..]`
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    pub span: Span,
    pub doc: Option<String>,
    pub name: Name,
    pub ty: Option<TypeExpr>,
    pub default: Option<Expr>,
    pub check: Option<Expr>,
}

/// `secret pw = file "/run/secrets/pw"`
#[derive(Clone, Debug, PartialEq)]
pub struct Secret {
    pub span: Span,
    pub doc: Option<String>,
    pub name: Name,
    pub from: Ctor,
}

/// `type Order = { id: string }`
#[derive(Clone, Debug, PartialEq)]
pub struct TypeDecl {
    pub span: Span,
    pub doc: Option<String>,
    pub name: Name,
    pub ty: TypeExpr,
}

/// `fn luhn(d: string) -> bool { … }`
#[derive(Clone, Debug, PartialEq)]
pub struct FnDecl {
    pub span: Span,
    pub doc: Option<String>,
    pub name: Name,
    pub params: Vec<ParamDecl>,
    pub result: Option<TypeExpr>,
    pub body: Block,
}

/// A parameter of a `fn`, `interceptor`, `template` or `extern`.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamDecl {
    pub name: Name,
    pub ty: Option<TypeExpr>,
    pub default: Option<Expr>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Interceptor {
    pub span: Span,
    pub doc: Option<String>,
    pub name: Name,
    pub params: Vec<ParamDecl>,
    pub body: InterceptorBody,
}

#[derive(Clone, Debug, PartialEq)]
pub enum InterceptorBody {
    /// `= a -> b { … } -> c`
    Pipeline(Vec<Step>),
    /// `{ … }`
    Code(Block),
}

/// Which word a component was declared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ComponentWord {
    Source,
    Channel,
    Sink,
    Group,
    Consumer,
    Cluster,
    Ensemble,
    Use,
}

/// `source web = tail "/x" { from: end }`
#[derive(Clone, Debug, PartialEq)]
pub struct Component {
    pub span: Span,
    pub doc: Option<String>,
    pub word: ComponentWord,
    pub name: Name,
    pub ctor: Ctor,
}

/// `kind arg* { settings }`; in a chain the same form is also a plain name or `name as group`.
#[derive(Clone, Debug, PartialEq)]
pub struct Ctor {
    pub span: Span,
    pub kind: Path,
    /// `orders as billing`
    pub as_name: Option<Name>,
    pub args: Vec<Expr>,
    pub settings: Option<Settings>,
}

/// `{ key: value … }`
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub span: Span,
    pub entries: Vec<Setting>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    pub key: SettingKey,
    pub value: Expr,
}

/// A setting's or map's key: a word, a dotted word or a string.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SettingKey {
    pub text: String,
    pub span: Span,
    pub quoted: bool,
}

/// `topic orders on events { … }`
#[derive(Clone, Debug, PartialEq)]
pub struct Topic {
    pub span: Span,
    pub doc: Option<String>,
    pub name: Name,
    pub cluster: Option<Path>,
    pub settings: Option<Settings>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Agent {
    pub span: Span,
    pub doc: Option<String>,
    pub name: Name,
    pub params: Vec<ParamDecl>,
    pub at: Option<Expr>,
    pub items: Vec<Item>,
}

/// `flow orders deliver at_least_once { … }`
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    pub span: Span,
    pub doc: Option<String>,
    pub name: Name,
    pub deliver: Option<Name>,
    pub items: Vec<Item>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    pub span: Span,
    pub doc: Option<String>,
    pub name: Name,
    pub params: Vec<ParamDecl>,
    pub items: Vec<Item>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Runtime {
    pub span: Span,
    pub settings: Settings,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Deliver {
    pub span: Span,
    pub guarantee: Name,
}

/// `from -> step -> step`
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    pub span: Span,
    pub doc: Option<String>,
    pub from: Step,
    /// At least one, except after an error.
    pub steps: Vec<ArrowStep>,
}

/// An arrow and what it points at.
#[derive(Clone, Debug, PartialEq)]
pub struct ArrowStep {
    pub arrow: Span,
    pub step: Step,
}

/// What stands between arrows.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Place(Place),
    Fan(Fan),
    Route(Route),
}

impl Step {
    pub fn span(&self) -> Span {
        match self {
            Step::Place(place) => place.span,
            Step::Fan(fan) => fan.span,
            Step::Route(route) => route.span,
        }
    }
}

/// A name or a kind written in place, perhaps optional (`c?`). Groups in place (`load_balance [a, b]`,
/// `failover collector.inbox { … }`) are constructors too: kind `load_balance`, the members as argument.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    pub span: Span,
    pub ctor: Ctor,
    /// The span of `?`.
    pub optional: Option<Span>,
}

/// `[a, mask -> b, c?]`
#[derive(Clone, Debug, PartialEq)]
pub struct Fan {
    pub span: Span,
    pub branches: Vec<Branch>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Branch {
    pub span: Span,
    pub first: Place,
    pub steps: Vec<ArrowStep>,
}

/// `route [all] [subject] { arms }`
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    pub span: Span,
    /// The word `route` (and `all`).
    pub head: Span,
    pub all: bool,
    pub subject: Option<Expr>,
    pub arms: Vec<Arm>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Arm {
    pub span: Span,
    pub test: ArmTest,
    /// At least one, except after an error.
    pub steps: Vec<ArrowStep>,
}

/// What an arm of a route or of a `match` asks.
#[derive(Clone, Debug, PartialEq)]
pub enum ArmTest {
    Else {
        span: Span,
    },
    /// `when …`
    When(Expr),
    /// `"a" | 1..3 | /x/ [when …]`
    Patterns {
        patterns: Vec<Pattern>,
        guard: Option<Expr>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    pub span: Span,
    pub kind: PatternKind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum PatternKind {
    Literal(Literal),
    /// `200..399`: both ends belong to it.
    Range(Literal, Literal),
    Regex(Regex),
    Null,
}

// ── code ────────────────────────────────────────────────────────────────────

#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    pub span: Span,
    pub stmts: Vec<Stmt>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Stmt {
    pub span: Span,
    pub kind: StmtKind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum StmtKind {
    Let {
        name: Name,
        ty: Option<TypeExpr>,
        value: Expr,
    },
    Assign {
        target: LValue,
        op: AssignOp,
        value: Expr,
    },
    If {
        condition: Expr,
        then: Block,
        otherwise: Option<ElseBranch>,
    },
    For {
        item: Name,
        index: Option<Name>,
        list: Expr,
        body: Block,
    },
    Match {
        subject: Expr,
        arms: Vec<MatchArm>,
    },
    Drop,
    Pass,
    Fail(Option<Expr>),
    Emit(Expr),
    Return(Option<Expr>),
    Remove(LValue),
    Expr(Expr),
    /// A piece that could not be read; a diagnostic was given.
    Broken,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ElseBranch {
    If(Box<Stmt>),
    Block(Block),
}

#[derive(Clone, Debug, PartialEq)]
pub struct MatchArm {
    pub span: Span,
    /// `When` does not occur here without patterns in the grammar, but the checker treats it alike.
    pub test: ArmTest,
    pub body: Block,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssignOp {
    Set,
    Add,
    Sub,
}

/// `body`, `header.x`, `sum`, `o.field`, `m["k"]`
#[derive(Clone, Debug, PartialEq)]
pub struct LValue {
    pub span: Span,
    pub root: Name,
    pub path: Vec<Access>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Access {
    Member(Name),
    Index(Expr),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    pub span: Span,
    pub kind: ExprKind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    Literal(Literal),
    /// A string with at least one `${…}`.
    Template(Vec<TemplatePart>),
    Regex(Regex),
    List(Vec<Expr>),
    Map(Settings),
    Name(Name),
    Member {
        object: Box<Expr>,
        name: Name,
    },
    Index {
        object: Box<Expr>,
        index: Box<Expr>,
    },
    Call {
        function: Box<Expr>,
        args: Vec<CallArg>,
        args_span: Span,
    },
    Unary {
        op: UnaryOp,
        op_span: Span,
        value: Box<Expr>,
    },
    Binary {
        op: BinaryOp,
        op_span: Span,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    If {
        condition: Box<Expr>,
        then: Box<Expr>,
        otherwise: Option<Box<Expr>>,
    },
    Lambda {
        param: Name,
        body: Box<Expr>,
    },
    /// `value else drop`
    Else {
        value: Box<Expr>,
        fallback: Fallback,
    },
    /// A piece that could not be read; a diagnostic was given.
    Broken,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CallArg {
    pub name: Option<Name>,
    pub value: Expr,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Fallback {
    Drop(Span),
    Pass(Span),
    Fail(Span, Option<Box<Expr>>),
    Value(Box<Expr>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum TemplatePart {
    Text(String),
    /// `${expr}` or `${expr:format}`; `span` covers `${…}`.
    Expr {
        span: Span,
        value: Expr,
        format: Option<Format>,
    },
}

/// The text after `:` in `${time:%Y-%m-%d}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    pub text: String,
    pub span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    Neg,
    Not,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    Range,
    Coalesce,
    Or,
    And,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Matches,
    NotMatches,
    In,
    Add,
    Sub,
    Mul,
    Div,
    Rem,
}

/// A literal without interpolation.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// Nanoseconds.
    Duration(i64),
    /// Bytes.
    Size(u64),
    /// Milliseconds since 1970 UTC.
    Time(i64),
    /// Escapes applied.
    String(String),
}

/// `/pattern/flags`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regex {
    /// The pattern as written between the slashes, except that `\/` stands for `/`.
    pub pattern: String,
    /// Where the pattern stands, without the slashes.
    pub pattern_span: Span,
    /// A subset of `imsxu`.
    pub flags: String,
    pub span: Span,
}

// ── types ───────────────────────────────────────────────────────────────────

#[derive(Clone, Debug, PartialEq)]
pub struct TypeExpr {
    pub span: Span,
    pub kind: TypeKind,
    /// `T?`
    pub optional: bool,
    /// `int 1..100`, only in `extern` settings.
    pub range: Option<(Expr, Expr)>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum TypeKind {
    /// `string`, `int`, `Order`, `any`, `T`
    Name(String),
    /// `list<T>`, `map<T>`, `secret<T>`, `expr<T>`, `ref<ensemble>`, `range<duration>`: a word and its arguments.
    Generic(String, Vec<TypeExpr>),
    Record(Vec<Field>),
    /// `one_of<start, end, rename(string)>`: a choice, perhaps with a value.
    OneOf(Vec<Choice>),
    /// `fn(string) -> string`
    Function(Vec<TypeExpr>, Box<TypeExpr>),
    Broken,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub name: Name,
    pub ty: TypeExpr,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    pub name: Name,
    pub value: Option<TypeExpr>,
}

// ── tests ───────────────────────────────────────────────────────────────────

#[derive(Clone, Debug, PartialEq)]
pub struct Test {
    pub span: Span,
    pub title: String,
    pub title_span: Span,
    pub stmts: Vec<TestStmt>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TestStmt {
    pub span: Span,
    pub kind: TestStmtKind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum TestStmtKind {
    Send {
        to: Path,
        count: Option<u64>,
        events: SendEvents,
    },
    Expect {
        at: Path,
        what: Expected,
        within: Option<Literal>,
    },
    /// `stop x for 2h`, `kill events 2`
    Fault {
        action: Name,
        on: Path,
        count: Option<u64>,
        duration: Option<Literal>,
    },
    Advance(Literal),
    Set {
        name: Path,
        value: Expr,
    },
    Broken,
}

#[derive(Clone, Debug, PartialEq)]
pub enum SendEvents {
    Line(Expr),
    Event(Settings),
    List(Vec<Expr>),
    Lines { path: String, span: Span },
}

#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    Nothing,
    Count(u64, Option<Settings>),
    Pattern(Settings),
    Exact(Vec<Expr>),
}

// ── declarations of the library ─────────────────────────────────────────────

/// `extern source tail(path: glob) { from: one_of<…> = saved  ## doc } can replay sets header.file`
///
/// The form in which `stdlib/*.flow` declares what is implemented in Rust.
#[derive(Clone, Debug, PartialEq)]
pub struct Extern {
    pub span: Span,
    pub doc: Option<String>,
    pub word: ExternWord,
    pub name: Name,
    pub params: Vec<ParamDecl>,
    /// `-> T`, for functions.
    pub result: Option<TypeExpr>,
    pub settings: Vec<ExternSetting>,
    /// `...: expr<string>`: any other key is accepted with this type.
    pub rest: Option<TypeExpr>,
    /// `can replay, confirm`
    pub abilities: Vec<Name>,
    /// `can confirm unless confirm: none`
    pub unless: Vec<Unless>,
    /// `sets header.file, header.path` (the names without `header.`)
    pub sets: Vec<Name>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ExternWord {
    Source,
    Channel,
    Sink,
    Group,
    Interceptor,
    Cluster,
    Ensemble,
    Topic,
    Consumer,
    Secret,
    Runtime,
    Fn,
}

/// A choice of a setting that takes an ability away.
#[derive(Clone, Debug, PartialEq)]
pub struct Unless {
    pub ability: Name,
    pub setting: Name,
    pub choice: Name,
}

/// One line of an `extern` body; required when it has neither default nor `?`.
#[derive(Clone, Debug, PartialEq)]
pub struct ExternSetting {
    pub name: Name,
    pub ty: TypeExpr,
    pub default: Option<Expr>,
    /// Declared, and not built in yet: whoever writes it is told so.
    pub absent: bool,
    /// The `##` text on the same line or on the lines above.
    pub doc: Option<String>,
}
