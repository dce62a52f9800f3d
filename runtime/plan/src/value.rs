//! Values of expressions while they are evaluated.
//!
//! Text and bytes are borrowed from the batch wherever possible; a value that outlives its event is made owned.

use std::borrow::Cow;
use std::sync::Arc;

/// A value. `string` and `bytes` are the same thing at run time: bytes that are usually UTF-8 (a log line need
/// not be), which functions read lossily where they need characters.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Cow<'a, [u8]>),
    /// Milliseconds since 1970 UTC.
    Time(i64),
    /// Nanoseconds.
    Duration(i64),
    /// Bytes.
    Size(u64),
    List(Vec<Value<'a>>),
    /// Maps, records and JSON objects: keys in order of insertion, unique.
    Map(Vec<(Cow<'a, str>, Value<'a>)>),
    Regex(Arc<regex::bytes::Regex>),
    /// A lambda, by its number in the prepared program; only functions see one.
    Lambda(u32),
}

impl<'a> Value<'a> {
    pub fn text(text: &'a str) -> Value<'a> {
        Value::Text(Cow::Borrowed(text.as_bytes()))
    }

    pub fn string(text: String) -> Value<'static> {
        Value::Text(Cow::Owned(text.into_bytes()))
    }

    /// The same value without borrows.
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Value::Null => Value::Null,
            Value::Bool(value) => Value::Bool(value),
            Value::Int(value) => Value::Int(value),
            Value::Float(value) => Value::Float(value),
            Value::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
            Value::Time(value) => Value::Time(value),
            Value::Duration(value) => Value::Duration(value),
            Value::Size(value) => Value::Size(value),
            Value::List(items) => Value::List(items.into_iter().map(Value::into_owned).collect()),
            Value::Map(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| (Cow::Owned(key.into_owned()), value.into_owned()))
                    .collect(),
            ),
            Value::Regex(regex) => Value::Regex(regex),
            Value::Lambda(index) => Value::Lambda(index),
        }
    }
}
