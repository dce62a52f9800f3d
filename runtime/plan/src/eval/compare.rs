//! Equality, ordering and arithmetic of values. Total: every pair of values has an answer or an [`EvalError`].

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;

use super::text::type_name;
use super::{LIST_ITEMS_MAX, TEXT_BYTES_MAX};
use crate::function::EvalError;
use crate::ir::{ArithOp, CompareOp};
use crate::value::Value;

/// Equality. An int and a float are equal when they are the same number; other values of different types are
/// unequal. Maps are equal whatever the order of their keys. NaN equals nothing.
pub fn values_equal(left: &Value<'_>, right: &Value<'_>) -> bool {
    match (left, right) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(left), Value::Bool(right)) => left == right,
        (Value::Int(left), Value::Int(right)) => left == right,
        (Value::Float(left), Value::Float(right)) => left == right,
        (Value::Int(int), Value::Float(float)) | (Value::Float(float), Value::Int(int)) => {
            compare_int_float(*int, *float) == Some(Ordering::Equal)
        }
        (Value::Text(left), Value::Text(right)) => left == right,
        (Value::Time(left), Value::Time(right)) => left == right,
        (Value::Duration(left), Value::Duration(right)) => left == right,
        (Value::Size(left), Value::Size(right)) => left == right,
        (Value::List(left), Value::List(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| values_equal(left, right))
        }
        (Value::Map(left), Value::Map(right)) => left.len() == right.len() && maps_equal(left, right),
        (Value::Regex(left), Value::Regex(right)) => left.as_str() == right.as_str(),
        _ => false,
    }
}

/// Maps of the same size with more members than this look their keys up in a table.
const LINEAR_KEYS_MAX: usize = 16;

fn maps_equal(left: &[(Cow<'_, str>, Value<'_>)], right: &[(Cow<'_, str>, Value<'_>)]) -> bool {
    // Maps that were made the same way have their keys at the same places.
    if left.iter().zip(right).all(|(left, right)| left.0 == right.0) {
        return left.iter().zip(right).all(|(left, right)| values_equal(&left.1, &right.1));
    }
    if left.len() <= LINEAR_KEYS_MAX {
        return left.iter().all(|(key, value)| {
            let found = right.iter().find(|(other, _)| other == key);
            found.is_some_and(|(_, other)| values_equal(value, other))
        });
    }
    let table: HashMap<&str, &Value<'_>> = right.iter().map(|(key, value)| (key.as_ref(), value)).collect();
    left.iter().all(|(key, value)| table.get(key.as_ref()).is_some_and(|other| values_equal(value, other)))
}

/// Ordering. `None`: a NaN is involved, every comparison is false. Values of types that have no order, or of
/// different types (but int and float), fail.
pub fn compare_values(left: &Value<'_>, right: &Value<'_>) -> Result<Option<Ordering>, EvalError> {
    Ok(match (left, right) {
        (Value::Int(left), Value::Int(right)) => Some(left.cmp(right)),
        (Value::Float(left), Value::Float(right)) => left.partial_cmp(right),
        (Value::Int(left), Value::Float(right)) => compare_int_float(*left, *right),
        (Value::Float(left), Value::Int(right)) => compare_int_float(*right, *left).map(Ordering::reverse),
        (Value::Text(left), Value::Text(right)) => Some(left.as_ref().cmp(right.as_ref())),
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        (Value::Time(left), Value::Time(right)) => Some(left.cmp(right)),
        (Value::Duration(left), Value::Duration(right)) => Some(left.cmp(right)),
        (Value::Size(left), Value::Size(right)) => Some(left.cmp(right)),
        _ => {
            let (left, right) = (type_name(left), type_name(right));
            return Err(EvalError::new(format!("{left} and {right} have no order")));
        }
    })
}

/// Exact, where `as f64` would round large integers.
fn compare_int_float(int: i64, float: f64) -> Option<Ordering> {
    if float.is_nan() {
        return None;
    }
    // 2^63 is a float; every float at or above it is above every int, and the same below.
    if float >= 9_223_372_036_854_775_808.0 {
        return Some(Ordering::Less);
    }
    if float < -9_223_372_036_854_775_808.0 {
        return Some(Ordering::Greater);
    }
    let whole = float.trunc();
    let order = int.cmp(&(whole as i64));
    Some(order.then_with(|| 0.0f64.partial_cmp(&(float - whole)).unwrap_or(Ordering::Equal)))
}

pub(crate) fn compare(op: CompareOp, left: &Value<'_>, right: &Value<'_>) -> Result<bool, EvalError> {
    match op {
        CompareOp::Eq => Ok(values_equal(left, right)),
        CompareOp::Ne => Ok(!values_equal(left, right)),
        _ => {
            let Some(order) = compare_values(left, right)? else { return Ok(false) };
            Ok(match op {
                CompareOp::Lt => order.is_lt(),
                CompareOp::Le => order.is_le(),
                CompareOp::Gt => order.is_gt(),
                _ => order.is_ge(),
            })
        }
    }
}

/// `low <= value <= high`; false for null, and where one of the comparisons has no answer.
pub(crate) fn between(value: &Value<'_>, low: &Value<'_>, high: &Value<'_>) -> bool {
    let at_least = compare_values(value, low).ok().flatten().is_some_and(Ordering::is_ge);
    at_least && compare_values(value, high).ok().flatten().is_some_and(Ordering::is_le)
}

const NS_PER_MS: i64 = 1_000_000;

/// Arithmetic. Integers, durations, sizes and times fail on overflow; division by zero fails, for floats too.
///
/// | left | op | right | gives |
/// |---|---|---|---|
/// | int | any | int | int (division truncates) |
/// | float or int | any | float or int | float |
/// | string, list | + | the same | joined |
/// | time | + - | duration | time (to the millisecond) |
/// | time | - | time | duration |
/// | duration | + - % | duration | duration |
/// | duration | / | duration | float |
/// | duration | * / | int or float | duration |
/// | size | + - % | size | size |
/// | size | / | size | float |
/// | size | * / | int or float | size |
pub(crate) fn arith<'a>(op: ArithOp, left: Value<'a>, right: Value<'a>) -> Result<Value<'a>, EvalError> {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => int_arith(op, left, right).map(Value::Int),
        (Value::Float(left), Value::Float(right)) => float_arith(op, left, right),
        (Value::Int(left), Value::Float(right)) => float_arith(op, left as f64, right),
        (Value::Float(left), Value::Int(right)) => float_arith(op, left, right as f64),
        (Value::Text(left), Value::Text(right)) if op == ArithOp::Add => join_text(left, right),
        (Value::List(mut left), Value::List(right)) if op == ArithOp::Add => {
            if left.len() + right.len() > LIST_ITEMS_MAX {
                return Err(too_many_items());
            }
            left.extend(right);
            Ok(Value::List(left))
        }
        (Value::Time(time), Value::Duration(ns)) if op == ArithOp::Add => {
            time.checked_add(ns / NS_PER_MS).map(Value::Time).ok_or_else(overflow)
        }
        (Value::Duration(ns), Value::Time(time)) if op == ArithOp::Add => {
            time.checked_add(ns / NS_PER_MS).map(Value::Time).ok_or_else(overflow)
        }
        (Value::Time(time), Value::Duration(ns)) if op == ArithOp::Sub => {
            time.checked_sub(ns / NS_PER_MS).map(Value::Time).ok_or_else(overflow)
        }
        (Value::Time(left), Value::Time(right)) if op == ArithOp::Sub => {
            let ns = left.checked_sub(right).and_then(|ms| ms.checked_mul(NS_PER_MS));
            ns.map(Value::Duration).ok_or_else(overflow)
        }
        (Value::Duration(left), Value::Duration(right)) => match op {
            ArithOp::Add | ArithOp::Sub | ArithOp::Rem => int_arith(op, left, right).map(Value::Duration),
            ArithOp::Div => float_arith(op, left as f64, right as f64),
            ArithOp::Mul => Err(no_arith(op, "a duration", "a duration")),
        },
        (Value::Duration(ns), Value::Int(n)) if matches!(op, ArithOp::Mul | ArithOp::Div) => {
            int_arith(op, ns, n).map(Value::Duration)
        }
        (Value::Int(n), Value::Duration(ns)) if op == ArithOp::Mul => {
            int_arith(op, n, ns).map(Value::Duration)
        }
        (Value::Duration(ns), Value::Float(n)) if matches!(op, ArithOp::Mul | ArithOp::Div) => {
            scaled(op, ns as f64, n).map(|ns| Value::Duration(ns as i64))
        }
        (Value::Float(n), Value::Duration(ns)) if op == ArithOp::Mul => {
            scaled(op, ns as f64, n).map(|ns| Value::Duration(ns as i64))
        }
        (Value::Size(left), Value::Size(right)) => match op {
            ArithOp::Add => left.checked_add(right).map(Value::Size).ok_or_else(overflow),
            ArithOp::Sub => left.checked_sub(right).map(Value::Size).ok_or_else(overflow),
            ArithOp::Rem => left.checked_rem(right).map(Value::Size).ok_or_else(by_zero),
            ArithOp::Div => float_arith(op, left as f64, right as f64),
            ArithOp::Mul => Err(no_arith(op, "a size", "a size")),
        },
        (Value::Size(size), Value::Int(n)) | (Value::Int(n), Value::Size(size)) if op == ArithOp::Mul => {
            let n = u64::try_from(n).map_err(|_| overflow())?;
            size.checked_mul(n).map(Value::Size).ok_or_else(overflow)
        }
        (Value::Size(_), Value::Int(0)) if op == ArithOp::Div => Err(by_zero()),
        (Value::Size(size), Value::Int(n)) if op == ArithOp::Div => {
            Ok(Value::Size(size / u64::try_from(n).map_err(|_| overflow())?))
        }
        (Value::Size(size), Value::Float(n)) if matches!(op, ArithOp::Mul | ArithOp::Div) => {
            let size = scaled(op, size as f64, n)?;
            if size < 0.0 { Err(overflow()) } else { Ok(Value::Size(size as u64)) }
        }
        (Value::Float(n), Value::Size(size)) if op == ArithOp::Mul => {
            let size = scaled(op, size as f64, n)?;
            if size < 0.0 { Err(overflow()) } else { Ok(Value::Size(size as u64)) }
        }
        (left, right) => Err(no_arith(op, type_name(&left), type_name(&right))),
    }
}

pub(crate) fn negate(value: Value<'_>) -> Result<Value<'_>, EvalError> {
    match value {
        Value::Int(value) => value.checked_neg().map(Value::Int).ok_or_else(overflow),
        Value::Float(value) => Ok(Value::Float(-value)),
        Value::Duration(value) => value.checked_neg().map(Value::Duration).ok_or_else(overflow),
        other => Err(EvalError::new(format!("{} has no negative", type_name(&other)))),
    }
}

fn int_arith(op: ArithOp, left: i64, right: i64) -> Result<i64, EvalError> {
    let result = match op {
        ArithOp::Add => left.checked_add(right),
        ArithOp::Sub => left.checked_sub(right),
        ArithOp::Mul => left.checked_mul(right),
        ArithOp::Div | ArithOp::Rem if right == 0 => return Err(by_zero()),
        ArithOp::Div => left.checked_div(right),
        ArithOp::Rem => left.checked_rem(right),
    };
    result.ok_or_else(overflow)
}

fn float_arith(op: ArithOp, left: f64, right: f64) -> Result<Value<'static>, EvalError> {
    Ok(Value::Float(match op {
        ArithOp::Add => left + right,
        ArithOp::Sub => left - right,
        ArithOp::Mul => left * right,
        ArithOp::Div | ArithOp::Rem if right == 0.0 => return Err(by_zero()),
        ArithOp::Div => left / right,
        ArithOp::Rem => left % right,
    }))
}

/// A duration or size times or divided by a number, refused where it leaves the range of `i64`.
fn scaled(op: ArithOp, value: f64, number: f64) -> Result<f64, EvalError> {
    if op == ArithOp::Div && number == 0.0 {
        return Err(by_zero());
    }
    let result = if op == ArithOp::Div { value / number } else { value * number }.round();
    if result.abs() < 9_223_372_036_854_775_808.0 { Ok(result) } else { Err(overflow()) }
}

fn join_text<'a>(left: Cow<'a, [u8]>, right: Cow<'a, [u8]>) -> Result<Value<'a>, EvalError> {
    if left.len() + right.len() > TEXT_BYTES_MAX {
        return Err(too_long());
    }
    if right.is_empty() {
        return Ok(Value::Text(left));
    }
    if left.is_empty() {
        return Ok(Value::Text(right));
    }
    let mut text = left.into_owned();
    text.extend_from_slice(&right);
    Ok(Value::Text(Cow::Owned(text)))
}

#[cold]
fn overflow() -> EvalError {
    EvalError::new("the result is out of range")
}

#[cold]
fn by_zero() -> EvalError {
    EvalError::new("division by zero")
}

#[cold]
pub(super) fn too_long() -> EvalError {
    EvalError::new(format!("the text would be longer than {} MiB", TEXT_BYTES_MAX >> 20))
}

#[cold]
pub(super) fn too_many_items() -> EvalError {
    EvalError::new(format!("the list would have more than {LIST_ITEMS_MAX} items"))
}

#[cold]
fn no_arith(op: ArithOp, left: &str, right: &str) -> EvalError {
    let op = match op {
        ArithOp::Add => '+',
        ArithOp::Sub => '-',
        ArithOp::Mul => '*',
        ArithOp::Div => '/',
        ArithOp::Rem => '%',
    };
    EvalError::new(format!("`{op}` does not work on {left} and {right}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_exactly() {
        let big = (1i64 << 53) + 1;
        assert!(!values_equal(&Value::Int(big), &Value::Float(big as f64)));
        assert!(values_equal(&Value::Int(3), &Value::Float(3.0)));
        assert_eq!(compare_int_float(i64::MAX, 9.3e18), Some(Ordering::Less));
        assert_eq!(compare_int_float(i64::MIN, -9_223_372_036_854_775_808.0), Some(Ordering::Equal));
        assert_eq!(compare_int_float(-1, -1.5), Some(Ordering::Greater));
        assert_eq!(compare_int_float(1, 1.5), Some(Ordering::Less));
        assert_eq!(compare_int_float(0, f64::NAN), None);
    }

    #[test]
    fn maps_are_equal_whatever_their_order() {
        for size in [2, 40] {
            let map = |keys: &mut dyn Iterator<Item = i64>| {
                Value::Map(keys.map(|n| (Cow::Owned(format!("k{n}")), Value::Int(n))).collect())
            };
            let forwards = map(&mut (0..size));
            assert!(values_equal(&forwards, &map(&mut (0..size))));
            assert!(values_equal(&forwards, &map(&mut (0..size).rev())));
            assert!(!values_equal(&forwards, &map(&mut (1..=size))));
            assert!(!values_equal(&forwards, &map(&mut (0..size - 1))));
        }
    }

    #[test]
    fn mixed_types_are_unequal_and_have_no_order() {
        assert!(!values_equal(&Value::Int(1), &Value::text("1")));
        assert!(!values_equal(&Value::Null, &Value::Bool(false)));
        assert!(compare_values(&Value::Int(1), &Value::text("1")).is_err());
        assert!(compare_values(&Value::Null, &Value::Null).is_err());
        assert!(!between(&Value::Null, &Value::Int(0), &Value::Int(9)));
        assert!(between(&Value::Int(9), &Value::Int(0), &Value::Int(9)));
    }

    #[test]
    fn arithmetic_fails_instead_of_wrapping() {
        let run = |op, left, right| arith(op, left, right);
        assert!(run(ArithOp::Add, Value::Int(i64::MAX), Value::Int(1)).is_err());
        assert!(run(ArithOp::Div, Value::Int(i64::MIN), Value::Int(-1)).is_err());
        assert!(run(ArithOp::Rem, Value::Int(i64::MIN), Value::Int(-1)).is_err());
        assert!(run(ArithOp::Div, Value::Int(1), Value::Int(0)).is_err());
        assert!(run(ArithOp::Div, Value::Float(1.0), Value::Int(0)).is_err());
        assert!(run(ArithOp::Sub, Value::Size(1), Value::Size(2)).is_err());
        assert!(run(ArithOp::Mul, Value::Duration(1), Value::Float(f64::NAN)).is_err());
        assert!(run(ArithOp::Sub, Value::Time(i64::MIN), Value::Time(1)).is_err());
        assert!(run(ArithOp::Sub, Value::text("a"), Value::text("b")).is_err());
        assert!(negate(Value::Int(i64::MIN)).is_err());
        let sum = run(ArithOp::Add, Value::text("a"), Value::text("b")).unwrap();
        assert!(values_equal(&sum, &Value::text("ab")));
        let later = run(ArithOp::Add, Value::Time(5), Value::Duration(2_000_000)).unwrap();
        assert!(values_equal(&later, &Value::Time(7)));
    }
}
