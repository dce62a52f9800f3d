//! Building blocks of lowered interceptors: settings decoded, expressions and statements put together.
//!
//! Expressions from settings number their locals from 0; a lowered interceptor leaves them [`SETTING_LOCALS`] and
//! puts its own behind.

use flow_plan::Settings;
use flow_plan::batch::Slot;
use flow_plan::interceptor::{LowerContext, LowerError, Lowered};
use flow_plan::ir::{ArithOp, Code, CompareOp, Const, Expr, Stmt};
use flow_plan::settings::RegexSetting;
use serde::de::DeserializeOwned;

/// Locals that an expression in a setting may use (each lambda in it takes one).
pub const SETTING_LOCALS: u32 = 16;

/// The settings as the struct of a kind.
pub fn decode<T: DeserializeOwned>(settings: &Settings) -> Result<T, LowerError> {
    serde_json::from_value(serde_json::Value::Object(settings.clone())).map_err(|error| LowerError {
        setting: None,
        message: format!("settings do not fit the declaration: {error}"),
    })
}

/// Settings that cannot be run together, by the one at fault.
pub fn refuse<T>(setting: &str, message: impl Into<String>) -> Result<T, LowerError> {
    Err(LowerError { setting: Some(setting.into()), message: message.into() })
}

/// A lowered interceptor without locals of its own.
pub fn code(body: Vec<Stmt>) -> Lowered {
    Lowered::Code(Code { locals: SETTING_LOCALS, body })
}

/// What a part of the event is set to, and where it is found.
#[derive(Clone, Copy)]
pub enum Place {
    Body,
    Header(Slot),
}

impl Place {
    /// The body, or the header that a setting names.
    pub fn of(header: Option<&str>, context: &LowerContext<'_>) -> Result<Place, LowerError> {
        match header {
            None => Ok(Place::Body),
            Some(name) => Ok(Place::Header(context.slot(name)?)),
        }
    }

    pub fn value(self) -> Expr {
        match self {
            Place::Body => Expr::Body,
            Place::Header(slot) => Expr::Header(slot),
        }
    }

    pub fn set(self, value: Expr) -> Stmt {
        match self {
            Place::Body => Stmt::SetBody { value },
            Place::Header(slot) => Stmt::SetHeader { slot, value },
        }
    }

    /// Statements for events that have the part; the body is always there.
    pub fn where_present(self, then: Vec<Stmt>) -> Vec<Stmt> {
        match self {
            Place::Body => then,
            Place::Header(slot) => vec![when(present(slot), then)],
        }
    }
}

/// A header is set, or only where it is absent.
pub fn set_header(slot: Slot, value: Expr, keep: bool) -> Stmt {
    let set = Stmt::SetHeader { slot, value };
    if keep { when(absent(slot), vec![set]) } else { set }
}

pub fn when(condition: Expr, then: Vec<Stmt>) -> Stmt {
    Stmt::If { condition, then, otherwise: Vec::new() }
}

pub fn present(slot: Slot) -> Expr {
    compare(CompareOp::Ne, Expr::Header(slot), Expr::Const(Const::Null))
}

pub fn absent(slot: Slot) -> Expr {
    compare(CompareOp::Eq, Expr::Header(slot), Expr::Const(Const::Null))
}

pub fn compare(op: CompareOp, left: Expr, right: Expr) -> Expr {
    Expr::Compare { op, left: Box::new(left), right: Box::new(right) }
}

pub fn join(left: Expr, right: Expr, context: &LowerContext<'_>) -> Expr {
    Expr::Arith { op: ArithOp::Add, left: Box::new(left), right: Box::new(right), origin: context.origin }
}

/// A call of a function of the library.
pub fn call(function: &str, args: Vec<Expr>, context: &LowerContext<'_>) -> Expr {
    Expr::Call { function: function.into(), args, origin: context.origin }
}

pub fn text(text: impl Into<String>) -> Expr {
    Expr::Const(Const::Text(text.into()))
}

pub fn int(number: i64) -> Expr {
    Expr::Const(Const::Int(number))
}

pub fn regex(regex: RegexSetting) -> Expr {
    Expr::Const(Const::Regex(regex))
}
