//! The reference evaluator: what the expression IR means. The JIT gives the same answers faster; functions come
//! in as a table. It knows no syntax tree and no component.
//!
//! # Meaning
//!
//! - **null** is the only absent value. Comparing it with `==` is allowed (null equals null), ordering it fails,
//!   matching it is false, `in` is false unless the list holds null, a member of it is null, `a ?? b` is `b`.
//! - **Equality** never fails. An int and a float are equal when they are the same number; `string` and `bytes`
//!   are the same type; other values of different types are unequal; NaN equals nothing.
//! - **Ordering** works inside a type and between int and float; anything else fails. With NaN it is false.
//! - **Conditions** must be bools; nothing else is true or false. `and` and `or` stop early.
//! - **Arithmetic** fails on overflow and on division by zero, for floats too.
//! - **`value else …`** is taken when `value` fails or is null. A `drop` or `pass` inside `value` is neither.
//! - **Lists**: an index out of range fails. **Maps**: an absent key is null. Members of other values fail.
//! - **Text of a value**: see [`value_to_text`].
//! - **Statements see their own writes**: a header set before is read after. A row that fails leaves its step as
//!   it came; its writes and emitted events are discarded. A dropped row keeps the events it emitted.
//! - **`event.id`** is a string of digits, `event.size` the size of the body.
//! - **Extract** that misses with `on_miss: pass` leaves the interceptor, as the statement `pass` does.
//! - **Writing null**: a header is removed; the body cannot be null.
//!
//! # Bounds
//!
//! One evaluation takes at most [`STEPS_MAX`] steps (iterations, calls, copied items); code nests at most
//! [`DEPTH_MAX`] deep and calls add up to [`CALL_DEPTH_MAX`]; values nest at most [`VALUE_DEPTH_MAX`] deep; lists have at most [`LIST_ITEMS_MAX`] items and
//! texts at most [`TEXT_BYTES_MAX`] bytes. Code that is not well typed fails; it never panics.

mod call;
mod compare;
mod condition;
mod decode;
mod event;
mod json;
mod json_view;
pub(crate) mod node;
pub(crate) mod pattern;
pub(crate) mod prepare;
pub(crate) mod run;
mod statement;
#[cfg(test)]
pub(crate) mod tests;
mod text;

pub use compare::{compare_values, values_equal};
pub use decode::decode;
pub use json::{JSON_DEPTH_MAX, value_from_json, value_to_json};
pub use json_view::{Found, JsonNode, JsonTape, Reading, TAPE_ENTRIES_MAX};
pub use prepare::{REGEX_BYTES_MAX, build_regex};
pub use text::{
    duration_from_text, duration_to_text, into_text, size_from_text, size_to_text, strftime, time_from_text,
    time_to_text, type_name, value_to_text,
};

pub(crate) use event::{Changes, EmittedEvent};

use std::sync::Arc;

use node::{Node, Part, Unit};
use prepare::Preparer;
use run::{Env, Event, Scratch, Stop};

use crate::batch::Batch;
use crate::function::{EvalError, Functions};
use crate::ir;
use crate::value::Value;

/// Iterations, calls and copied items of one evaluation.
pub const STEPS_MAX: u64 = 5_000_000;
/// Nesting of one piece of code.
pub const DEPTH_MAX: u32 = 100;
/// Nesting over all functions that are being called.
pub const CALL_DEPTH_MAX: u32 = 300;
/// Items of a list, members of a map.
pub const LIST_ITEMS_MAX: usize = 1_000_001;
/// Lists and maps inside each other, in a local.
pub const VALUE_DEPTH_MAX: u32 = 200;
/// Bytes of a text.
pub const TEXT_BYTES_MAX: usize = 64 << 20;

/// Evaluates an expression that depends on no event: parameters, settings, constant folding.
pub fn eval_const(
    expr: &ir::Expr,
    functions: &Functions,
    user: &[ir::Function],
) -> Result<Value<'static>, EvalError> {
    let mut preparer = Preparer::new(functions, user, Arc::from([]));
    let node = preparer.root(expr)?;
    let unit = preparer.finish()?;
    let mut scratch = Scratch::default();
    let mut env = Env::new(&unit, None, None, &mut scratch);
    env.frame(frame_of(expr));
    env.eval(&node).map(Value::into_owned).map_err(Stop::into_error)
}

/// An expression ready to be evaluated for many events.
pub struct PreparedExpr {
    unit: Unit,
    node: Node,
    locals: usize,
}

impl std::fmt::Debug for PreparedExpr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PreparedExpr")
    }
}

impl PreparedExpr {
    /// Fails when a function is missing or a regex cannot be built. User functions and header names are those of
    /// [`Functions::for_plan`].
    pub fn new(expr: &ir::Expr, functions: &Functions) -> Result<PreparedExpr, EvalError> {
        let mut preparer = Preparer::new(functions, functions.user(), functions.slots());
        let node = preparer.root(expr)?;
        Ok(PreparedExpr { unit: preparer.finish()?, node, locals: frame_of(expr) })
    }

    /// The value for one row. `drop` and `pass` inside it fail.
    pub fn eval<'e>(&'e self, batch: &'e Batch, row: u32, now_ms: i64) -> Result<Value<'e>, EvalError> {
        let mut scratch = Scratch::default();
        let mut env = Env::new(&self.unit, Event::new(&batch.columns, row), Some(now_ms), &mut scratch);
        env.frame(self.locals);
        env.eval(&self.node).map_err(Stop::into_error)
    }

    /// The value when it depends on no event.
    pub fn constant(&self) -> Option<&Value<'static>> {
        if let Node::Const(value) = &self.node { Some(value) } else { None }
    }
}

/// A template (a string with `${…}`, or any expression) ready to be written for many events.
pub struct PreparedTemplate {
    unit: Unit,
    parts: Vec<Part>,
    locals: usize,
    scratch: Scratch,
}

impl std::fmt::Debug for PreparedTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PreparedTemplate")
    }
}

impl PreparedTemplate {
    /// As [`PreparedExpr::new`].
    pub fn new(expr: &ir::Expr, functions: &Functions) -> Result<PreparedTemplate, EvalError> {
        let mut preparer = Preparer::new(functions, functions.user(), functions.slots());
        let mut parts = match expr {
            ir::Expr::Template(parts) => preparer.parts(parts, 0)?,
            other => vec![Part::Expr(preparer.root(other)?)],
        };
        for part in &mut parts {
            if let Part::Expr(Node::Const(value)) = part {
                let mut text = Vec::new();
                value_to_text(value, &mut text);
                *part = Part::Text(text);
            }
        }
        let mut merged: Vec<Part> = Vec::with_capacity(parts.len());
        for part in parts {
            match (merged.last_mut(), part) {
                (Some(Part::Text(before)), Part::Text(text)) => before.extend_from_slice(&text),
                (_, part) => merged.push(part),
            }
        }
        let unit = preparer.finish()?;
        let scratch = Scratch::new(&unit);
        Ok(PreparedTemplate { unit, parts: merged, locals: frame_of(expr), scratch })
    }

    /// The text when it is the same for every event.
    pub fn constant(&self) -> Option<&[u8]> {
        match self.parts.as_slice() {
            [] => Some(&[]),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Appends the text for one row; what was appended before a failure stays.
    pub fn write(
        &mut self,
        batch: &Batch,
        row: u32,
        now_ms: i64,
        out: &mut Vec<u8>,
    ) -> Result<(), EvalError> {
        if let [Part::Text(text)] = self.parts.as_slice() {
            out.extend_from_slice(text);
            return Ok(());
        }
        let event = Event::new(&batch.columns, row);
        let mut env = Env::new(&self.unit, event, Some(now_ms), &mut self.scratch);
        env.frame(self.locals);
        env.template(&self.parts, out).map_err(Stop::into_error)
    }
}

/// Locals that a lone expression needs: those of its lambdas.
fn frame_of(expr: &ir::Expr) -> usize {
    let mut highest = 0;
    visit(expr, &mut |expr| {
        if let ir::Expr::Lambda { param, .. } | ir::Expr::Local(param) = expr {
            highest = highest.max((*param as usize).saturating_add(1));
        }
    });
    // A number beyond this is no local of any frame; evaluating it fails.
    highest.min(4_096)
}

/// Calls `see` for the expression and all inside it, however deep.
pub fn visit(expr: &ir::Expr, see: &mut impl FnMut(&ir::Expr)) {
    use ir::Expr::*;
    let mut waiting = vec![expr];
    while let Some(expr) = waiting.pop() {
        see(expr);
        match expr {
            Const(_) | Local(_) | Header(_) | Headers | Body | Time | EventId | EventSource | EventSize
            | Now => {}
            Not(value) | Neg { value, .. } | Matches { value, .. } | Decode { value, .. } => {
                waiting.push(value)
            }
            Lambda { body, .. } => waiting.push(body),
            Member { object, .. } => waiting.push(object),
            And(left, right) | Or(left, right) | Coalesce(left, right) => {
                waiting.extend([left, right].map(|e| &**e))
            }
            Compare { left, right, .. } | Arith { left, right, .. } => {
                waiting.extend([left, right].map(|e| &**e))
            }
            MatchesDynamic { value, regex, .. } => waiting.extend([value, regex].map(|e| &**e)),
            In { value, list } => waiting.extend([value, list].map(|e| &**e)),
            Index { object, index, .. } => waiting.extend([object, index].map(|e| &**e)),
            Range { low, high, .. } => waiting.extend([low, high].map(|e| &**e)),
            Between { value, low, high } => waiting.extend([value, low, high].map(|e| &**e)),
            If { condition, then, otherwise } => waiting.extend([condition, then, otherwise].map(|e| &**e)),
            Call { args, .. } | CallUser { args, .. } | List(args) => waiting.extend(args),
            Map(entries) => waiting.extend(entries.iter().map(|(_, value)| value)),
            Template(parts) => waiting.extend(parts.iter().filter_map(|part| match part {
                ir::TemplatePart::Expr { value, .. } => Some(value),
                ir::TemplatePart::Text(_) => None,
            })),
            Else { value, fallback } => {
                waiting.push(value);
                match fallback {
                    ir::Fallback::Value(value) => waiting.push(value),
                    ir::Fallback::Fail { message: Some(message), .. } => waiting.push(message),
                    _ => {}
                }
            }
        }
    }
}
