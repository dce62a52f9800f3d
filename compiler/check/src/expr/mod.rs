//! Expressions and statements: typed and lowered to the IR in one walk. What a name means is asked of
//! [`crate::resolve`]; what an expression means at run time is said by `flow_plan::eval` alone.

mod calls;
mod functions;
mod names;
mod narrow;
mod ops;
mod state;
mod stmts;
mod values;

use std::collections::BTreeSet;

use flow_diag::{Code, Diagnostic, Span};
use flow_plan::ir;
use flow_syntax::ast::{self, ExprKind};

use crate::resolve::{Resolver, ScopeId};
use crate::types::Type;

pub(crate) use calls::count as count_arguments;
pub(crate) use functions::UserFn;
pub(crate) use narrow::Key;
pub(crate) use state::State;
pub(crate) use values::{constant_of, describe_literal};

/// Expressions nest at most so deep; the parser refuses deeper brackets, this bounds chains of operators.
const DEPTH_MAX: u32 = 200;

/// Where an expression stands: what it may use, and what is known there.
pub(crate) struct Frame {
    pub scope: ScopeId,
    pub mode: Mode,
    pub vars: Vec<Var>,
    next_local: u32,
    /// Number of locals needed so far.
    pub locals: u32,
    pub state: State,
    pub narrowed: BTreeSet<Key>,
    /// The declared result of a function.
    pub result: Option<Type>,
    /// What the `return`s gave so far.
    pub returned: Option<Type>,
    /// Knowledge at each `pass`.
    pub exits: Vec<State>,
    pub drops: bool,
    pub changes: bool,
    pub fails: bool,
    depth: u32,
    /// Headers read, for F0309.
    pub header_reads: Vec<HeaderRead>,
    /// Inside of `x ?? …`, a comparison or another place where null is expected.
    null_tolerant: u32,
    /// Names that were read, for F0112.
    used: BTreeSet<String>,
}

/// A header that an expression reads.
#[derive(Clone, Debug)]
pub(crate) struct HeaderRead {
    pub name: String,
    pub span: Span,
    /// Null does no harm there.
    pub tolerant: bool,
    /// Surely or possibly set where it is read.
    pub possible: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Mode {
    /// Evaluated when the program is checked; the words say what for.
    Constant(String),
    /// Evaluated per event.
    Event,
    /// The body of a `fn`: only its arguments.
    Function,
}

/// A local name.
#[derive(Clone, Debug)]
pub(crate) struct Var {
    pub name: String,
    pub span: Span,
    pub ty: Type,
    pub what: VarKind,
    /// A parameter cannot be assigned.
    pub parameter: bool,
    pub values: Option<BTreeSet<String>>,
}

#[derive(Clone, Debug)]
pub(crate) enum VarKind {
    Local(u32),
    /// Known when the program is checked.
    Constant(ir::Expr),
}

/// An expression with its type.
#[derive(Clone, Debug)]
pub(crate) struct Typed {
    pub expr: ir::Expr,
    pub ty: Type,
    /// Evaluation can fail.
    pub fails: bool,
    /// All texts it can be, when they are known.
    pub values: Option<BTreeSet<String>>,
    /// What it reads, so that a test for null can be remembered.
    pub key: Option<Key>,
}

impl Typed {
    pub fn new(expr: ir::Expr, ty: Type) -> Typed {
        Typed { expr, ty, fails: false, values: None, key: None }
    }

    pub fn constant(value: ir::Const, ty: Type) -> Typed {
        Typed::new(ir::Expr::Const(value), ty)
    }

    pub fn poison() -> Typed {
        Typed::constant(ir::Const::Null, Type::Poison)
    }

    fn fails(mut self, fails: bool) -> Typed {
        self.fails |= fails;
        self
    }
}

impl Frame {
    fn new(scope: ScopeId, mode: Mode, state: State) -> Frame {
        Frame {
            scope,
            mode,
            vars: Vec::new(),
            next_local: 0,
            locals: 0,
            state,
            narrowed: BTreeSet::new(),
            result: None,
            returned: None,
            exits: Vec::new(),
            drops: false,
            changes: false,
            fails: false,
            depth: 0,
            header_reads: Vec::new(),
            null_tolerant: 0,
            used: BTreeSet::new(),
        }
    }

    /// For values that are fixed when the flow starts; `what` is named in messages (`` `capacity` ``).
    pub fn constant(scope: ScopeId, what: &str) -> Frame {
        Frame::new(scope, Mode::Constant(what.to_owned()), State::empty())
    }

    /// For code that sees an event.
    pub fn event(scope: ScopeId, state: State) -> Frame {
        Frame::new(scope, Mode::Event, state)
    }

    pub fn function(scope: ScopeId) -> Frame {
        Frame::new(scope, Mode::Function, State::empty())
    }

    /// A fresh local.
    pub fn local(&mut self) -> u32 {
        let local = self.next_local;
        self.next_local += 1;
        self.locals = self.locals.max(self.next_local);
        local
    }

    pub fn declare(&mut self, name: &ast::Name, ty: Type, parameter: bool) -> u32 {
        let local = self.local();
        self.vars.push(Var {
            name: name.text.clone(),
            span: name.span,
            ty,
            what: VarKind::Local(local),
            parameter,
            values: None,
        });
        local
    }

    pub fn var(&self, name: &str) -> Option<&Var> {
        self.vars.iter().rev().find(|var| var.name == name)
    }

    /// Whether a local name was read.
    pub fn was_used(&self, name: &str) -> bool {
        self.used.contains(name)
    }

    /// Whether there is an event.
    pub fn sees_event(&self) -> bool {
        self.mode == Mode::Event
    }
}

impl Resolver<'_> {
    /// Types and lowers an expression. `want` helps where the text alone does not say (an int literal as float,
    /// JSON decoded into a record); the caller still checks the type.
    pub fn expr(&mut self, frame: &mut Frame, expr: &ast::Expr, want: Option<&Type>) -> Typed {
        if frame.depth >= DEPTH_MAX {
            self.report(
                Diagnostic::new(Code::F0023, expr.span, "nesting deeper than 200")
                    .label("too deep")
                    .help("split it: give parts a name with `let`, or make a function"),
            );
            return Typed::poison();
        }
        frame.depth += 1;
        let typed = match &expr.kind {
            ExprKind::Literal(literal) => self.literal(literal, want),
            ExprKind::Template(parts) => self.template(frame, parts),
            ExprKind::Regex(regex) => self.regex_literal(regex),
            ExprKind::List(items) => self.list(frame, items, want),
            ExprKind::Map(settings) => self.map(frame, settings, want),
            ExprKind::Name(name) => self.name(frame, name),
            ExprKind::Member { object, name } => self.member(frame, expr, object, name),
            ExprKind::Index { object, index } => self.index(frame, object, index, expr.span),
            ExprKind::Call { function, args, args_span } => {
                self.call(frame, expr.span, function, args, *args_span, want)
            }
            ExprKind::Unary { op, op_span, value } => self.unary(frame, *op, *op_span, value),
            ExprKind::Binary { op, op_span, left, right } => {
                self.binary(frame, expr.span, *op, *op_span, left, right, want)
            }
            ExprKind::If { condition, then, otherwise } => {
                self.if_value(frame, expr.span, condition, then, otherwise.as_deref(), want)
            }
            ExprKind::Lambda { param, body } => self.lambda(frame, param, body, &Type::Json).0,
            ExprKind::Else { value, fallback } => self.or_else(frame, value, fallback, want),
            ExprKind::Broken => {
                self.model.incomplete = true;
                Typed::poison()
            }
        };
        frame.depth -= 1;
        typed
    }

    /// An expression whose value must have a type; reports F0201, F0205 or F0209 otherwise. `what` names the
    /// place (`` `keep` of `mask` ``).
    pub fn expr_of(&mut self, frame: &mut Frame, expr: &ast::Expr, want: &Type, what: &str) -> Typed {
        let typed = self.expr(frame, expr, Some(want));
        let typed = self.decoded(typed, want, expr.span);
        self.expect_type(&typed, want, expr, what);
        typed
    }

    /// JSON where a concrete structure is wanted is decoded, once.
    pub fn decoded(&mut self, typed: Typed, want: &Type, span: Span) -> Typed {
        let structured = matches!(want.present(), Type::Record(_) | Type::List(_) | Type::Map(_));
        if typed.ty != Type::Json || !structured || *want == Type::list(Type::Json) {
            return typed;
        }
        let origin = self.origin(span);
        Typed {
            expr: ir::Expr::Decode { value: Box::new(typed.expr), ty: want.to_ir(), origin },
            ty: want.clone(),
            fails: true,
            values: None,
            key: None,
        }
    }

    /// Reports when the value cannot stand where `want` is asked for. Gives whether it can.
    pub fn expect_type(&mut self, typed: &Typed, want: &Type, expr: &ast::Expr, what: &str) -> bool {
        if typed.ty.fits(want) {
            return true;
        }
        let span = expr.span;
        if typed.ty.may_be_null() && typed.ty.present().fits(want) {
            self.report_null(typed, span, want);
            return false;
        }
        if matches!(want.present(), Type::Duration | Type::Size)
            && typed.ty == Type::Int
            && matches!(crate::settings::literal(expr), Some(ast::Literal::Int(_)))
        {
            self.report_unit(span, want.present());
            return false;
        }
        let mut diagnostic = Diagnostic::new(
            Code::F0201,
            span,
            format!("{what} is {}, this is {}", want.present().with_article(), typed.ty.with_article()),
        )
        .label(typed.ty.to_string());
        let quoted = match &expr.kind {
            ExprKind::Literal(ast::Literal::String(text)) => unquoted(text, want.present()),
            _ => None,
        };
        if let Some(text) = quoted {
            diagnostic = diagnostic.help(format!("without quotes: `{text}`")).fix(span, text);
        } else if let Some(help) = conversion(&typed.ty, want, self.files.slice(span)) {
            diagnostic = diagnostic.help(help);
        }
        self.report(diagnostic);
        false
    }

    /// F0213, for those who asked for it: in a place where an event is, something can fail.
    pub fn advise_failure(&mut self, frame: &Frame, span: Span) {
        if !self.strict || !frame.sees_event() {
            return;
        }
        self.report(
            Diagnostic::new(Code::F0213, span, "this can fail and nothing says what then")
                .label("a failing event goes to `errors` of its interceptor")
                .help("say it: `… else drop`, `else pass`, `else fail \"why\"` or `else` and a value"),
        );
    }

    /// F0209
    pub fn report_null(&mut self, typed: &Typed, span: Span, want: &Type) {
        let text = self.files.slice(span).to_owned();
        let why = match &typed.key {
            Some(Key::Header(name)) => format!("header `{name}` may be absent"),
            _ if typed.ty == Type::Null => "null".to_owned(),
            _ => format!("this is {}", typed.ty.with_article()),
        };
        let otherwise = match want.present() {
            Type::Int => "0",
            Type::Float => "0.0",
            Type::Bool => "false",
            Type::Duration => "1s",
            Type::Time => "time",
            _ => "\"…\"",
        };
        let mut diagnostic = Diagnostic::new(Code::F0209, span, "this may be null").label(why);
        if text.len() <= 60 && !text.contains('\n') && !text.is_empty() {
            diagnostic = diagnostic.help(format!("say what then: `{text} ?? {otherwise}`, or `else drop`"));
        } else {
            diagnostic = diagnostic.help(format!("say what then: `?? {otherwise}`, or `else drop`"));
        }
        self.report(diagnostic);
    }

    /// F0205
    pub fn report_unit(&mut self, span: Span, want: &Type) {
        let number = self.files.slice(span).to_owned();
        let units = if *want == Type::Size { ["KB", "MiB"] } else { ["s", "ms"] };
        self.report(
            Diagnostic::new(Code::F0205, span, format!("`{number}` needs a unit here"))
                .label(format!("{} is expected", want.with_article()))
                .help(format!("write `{number}{}`, `{number}{}` …", units[0], units[1])),
        );
    }
}

/// The text of a string that is a number, a duration, … when the quotes are left out.
pub(crate) fn unquoted<'t>(text: &'t str, want: &Type) -> Option<&'t str> {
    let digits = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '_');
    let unit = !digits.is_empty() && digits.chars().all(char::is_alphanumeric);
    let number = text.starts_with(|c: char| c.is_ascii_digit());
    let fits = match want {
        Type::Int => number && digits.is_empty(),
        Type::Float => text.parse::<f64>().is_ok(),
        Type::Bool => matches!(text, "true" | "false"),
        Type::Duration | Type::Size => number && unit,
        _ => false,
    };
    fits.then_some(text)
}

/// How to turn one type into another.
fn conversion(from: &Type, to: &Type, text: &str) -> Option<String> {
    let text = if text.is_empty() || text.len() > 40 || text.contains('\n') { "…" } else { text };
    let function = match (from.present(), to.present()) {
        (Type::String | Type::Bytes, Type::Int) => "int",
        (Type::String | Type::Bytes | Type::Int, Type::Float) => "float",
        (Type::Float, Type::Int) => "int",
        (Type::String | Type::Bytes, Type::Bool) => "bool",
        (Type::String | Type::Bytes, Type::Time) => "parse_time",
        (Type::String | Type::Bytes, Type::Duration) => "duration",
        (
            Type::Int | Type::Float | Type::Bool | Type::Time | Type::Duration | Type::Size,
            Type::String | Type::Bytes,
        ) => "text",
        (Type::Record(_) | Type::Map(_) | Type::List(_), Type::String | Type::Bytes) => "to_json",
        _ => return None,
    };
    Some(format!("`{function}({text})`"))
}
