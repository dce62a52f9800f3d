//! The forms of functions for machine code: no evaluator, no allocation but what the buffer grows by. Each calls the
//! code of its function wherever that takes plain values; `tests/plain.rs` holds every one to its function. What is
//! out of the ordinary (a value of another type, a wrong number of arguments) is left to the function.

mod convert;
mod encode;
mod layout;
mod numbers;
mod text;
mod time;

use flow_plan::Value;
use flow_plan::function::{Functions, Plain, PlainAnswer};

pub fn add(functions: &mut Functions) {
    convert::add(functions);
    encode::add(functions);
    numbers::add(functions);
    text::add(functions);
    time::add(functions);
}

/// The same value as the evaluator has it.
fn to_value(plain: Plain<'_>) -> Value<'_> {
    match plain {
        Plain::Null => Value::Null,
        Plain::Bool(value) => Value::Bool(value),
        Plain::Int(number) => Value::Int(number),
        Plain::Float(number) => Value::Float(number),
        Plain::Text(text) => Value::Text(text.into()),
        Plain::Time(ms) => Value::Time(ms),
        Plain::Duration(ns) => Value::Duration(ns),
        Plain::Size(bytes) => Value::Size(bytes),
    }
}

fn bool(value: bool) -> PlainAnswer<'static> {
    PlainAnswer::Value(Plain::Bool(value))
}

fn int(number: i64) -> PlainAnswer<'static> {
    PlainAnswer::Value(Plain::Int(number))
}

fn float(number: f64) -> PlainAnswer<'static> {
    PlainAnswer::Value(Plain::Float(number))
}

fn text(text: &[u8]) -> PlainAnswer<'_> {
    PlainAnswer::Value(Plain::Text(text))
}

/// A value, or the failure for which the function has a message.
fn or_fails<'a, T>(value: Option<T>, answer: impl FnOnce(T) -> PlainAnswer<'a>) -> PlainAnswer<'a> {
    value.map_or(PlainAnswer::Fails, answer)
}
