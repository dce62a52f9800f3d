//! What texts a header can hold after some steps, where that is plain to see: the last step that sets it gives it
//! one of a few constants on every way through. Lets a route over such a header do without `else`.

use std::collections::BTreeSet;

use flow_plan::batch::Slot;
use flow_plan::ir::{Const, Expr, Fallback, StepOp, Stmt};
use serde_json::Value;

use crate::model::StepModel;

/// All texts the header can hold; `None` when it may hold anything, or nothing.
pub(crate) fn header_values(steps: &[&StepModel], slot: Slot) -> Option<BTreeSet<String>> {
    for step in steps.iter().rev() {
        match &step.step.op {
            // A kind of the library that changes nothing leaves the header alone.
            StepOp::Kind { .. } if !step.changes => {}
            StepOp::Kind { .. } => return None,
            StepOp::Code(code) => {
                if let Some(last) = code.body.iter().rposition(|stmt| touches(stmt, slot)) {
                    let Stmt::SetHeader { value, .. } = &code.body[last] else { return None };
                    // Who leaves the step before has the header as it was; further events have what they bring.
                    let leaves = code.body[..last].iter().any(may_leave) || may_leave_in(value);
                    let emits = code.body.iter().any(|stmt| mentions(stmt, &["emit"]));
                    return if leaves || emits { None } else { constants(value) };
                }
                if code.body.iter().any(|stmt| mentions(stmt, &["emit"])) {
                    return None;
                }
            }
        }
    }
    None
}

fn touches(stmt: &Stmt, slot: Slot) -> bool {
    match stmt {
        Stmt::SetHeader { slot: set, .. } | Stmt::RemoveHeader { slot: set } => *set == slot,
        Stmt::RemoveHeaders { .. } => true,
        Stmt::Extract { groups, .. } => groups.iter().any(|group| group.slot == slot),
        Stmt::If { then, otherwise, .. } => then.iter().chain(otherwise).any(|stmt| touches(stmt, slot)),
        Stmt::For { body, .. } => body.iter().any(|stmt| touches(stmt, slot)),
        _ => false,
    }
}

/// `pass` or `return`, also inside expressions (`… else pass`).
fn may_leave(stmt: &Stmt) -> bool {
    mentions(stmt, &["pass", "return"])
}

fn may_leave_in(value: &Expr) -> bool {
    serde_json::to_value(value).map_or(true, |value| has_word(&value, &["pass"]))
}

/// Looks for a word in the plain-data form, which reaches every corner of the IR; a constant text of that spelling
/// is taken for one, which only makes the answer more careful.
fn mentions(stmt: &Stmt, words: &[&str]) -> bool {
    serde_json::to_value(stmt).map_or(true, |value| has_word(&value, words))
}

fn has_word(value: &Value, words: &[&str]) -> bool {
    match value {
        Value::String(text) => words.contains(&text.as_str()),
        Value::Array(list) => list.iter().any(|value| has_word(value, words)),
        Value::Object(map) => {
            map.iter().any(|(key, value)| words.contains(&key.as_str()) || has_word(value, words))
        }
        _ => false,
    }
}

fn constants(value: &Expr) -> Option<BTreeSet<String>> {
    let both = |one: &Expr, two: &Expr| {
        let mut all = constants(one)?;
        all.extend(constants(two)?);
        Some(all)
    };
    match value {
        Expr::Const(Const::Text(text)) => Some(BTreeSet::from([text.clone()])),
        Expr::If { then, otherwise, .. } => both(then, otherwise),
        Expr::Else { value, fallback: Fallback::Value(other) } => both(value, other),
        Expr::Else { value, fallback: Fallback::Drop | Fallback::Fail { .. } } => constants(value),
        _ => None,
    }
}
