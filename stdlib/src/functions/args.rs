//! How functions take their arguments apart. The checker has proved count and types where it could; a dynamic
//! value may still have another shape, and then the call fails with what was expected and what was found.

use std::borrow::Cow;
use std::sync::Arc;

use flow_plan::Value;
use flow_plan::eval::{LIST_ITEMS_MAX, TEXT_BYTES_MAX, type_name};
use flow_plan::function::EvalError;
use regex::bytes::Regex;

/// What a function gives.
pub type Answer<'a> = Result<Value<'a>, EvalError>;

/// Text as it travels: bytes, borrowed from the event where possible.
pub type Text<'a> = Cow<'a, [u8]>;

/// A map as it travels.
pub type Entries<'a> = Vec<(Cow<'a, str>, Value<'a>)>;

/// The arguments of a function that takes exactly `N`.
pub fn take<'a, const N: usize>(args: Vec<Value<'a>>) -> Result<[Value<'a>; N], EvalError> {
    args.try_into().map_err(|args: Vec<Value<'a>>| {
        EvalError::new(format!("expected {N} arguments, found {}", args.len()))
    })
}

/// An error of a function for its content.
pub fn fail<T>(message: impl Into<String>) -> Result<T, EvalError> {
    Err(EvalError::new(message))
}

/// The error for a value of another shape.
pub fn unexpected(expected: &str, found: &Value<'_>) -> EvalError {
    EvalError::new(format!("expected {expected}, found {}", type_name(found)))
}

pub fn text<'a>(value: Value<'a>) -> Result<Text<'a>, EvalError> {
    match value {
        Value::Text(text) => Ok(text),
        other => Err(unexpected("a string", &other)),
    }
}

/// Text as characters, with U+FFFD for what is not UTF-8.
pub fn string<'a>(value: Value<'a>) -> Result<Cow<'a, str>, EvalError> {
    Ok(lossy(text(value)?))
}

/// Bytes as characters, with U+FFFD for what is not UTF-8.
pub fn lossy(text: Text<'_>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
        Cow::Owned(bytes) => Cow::Owned(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        }),
    }
}

pub fn int(value: Value<'_>) -> Result<i64, EvalError> {
    match value {
        Value::Int(number) => Ok(number),
        other => Err(unexpected("an int", &other)),
    }
}

/// A number; a whole one is taken, too.
pub fn float(value: Value<'_>) -> Result<f64, EvalError> {
    match value {
        Value::Float(number) => Ok(number),
        Value::Int(number) => Ok(number as f64),
        other => Err(unexpected("a float", &other)),
    }
}

/// Milliseconds since 1970 UTC.
pub fn time(value: Value<'_>) -> Result<i64, EvalError> {
    match value {
        Value::Time(ms) => Ok(ms),
        other => Err(unexpected("a time", &other)),
    }
}

/// Nanoseconds.
pub fn duration(value: Value<'_>) -> Result<i64, EvalError> {
    match value {
        Value::Duration(ns) => Ok(ns),
        other => Err(unexpected("a duration", &other)),
    }
}

/// Bytes.
pub fn size(value: Value<'_>) -> Result<u64, EvalError> {
    match value {
        Value::Size(bytes) => Ok(bytes),
        other => Err(unexpected("a size", &other)),
    }
}

pub fn list<'a>(value: Value<'a>) -> Result<Vec<Value<'a>>, EvalError> {
    match value {
        Value::List(items) => Ok(items),
        other => Err(unexpected("a list", &other)),
    }
}

pub fn map<'a>(value: Value<'a>) -> Result<Entries<'a>, EvalError> {
    match value {
        Value::Map(entries) => Ok(entries),
        other => Err(unexpected("a map", &other)),
    }
}

pub fn regex(value: Value<'_>) -> Result<Arc<Regex>, EvalError> {
    match value {
        Value::Regex(regex) => Ok(regex),
        other => Err(unexpected("a regex", &other)),
    }
}

/// The one byte of a separator.
pub fn ascii(value: Value<'_>) -> Result<u8, EvalError> {
    match text(value)?.as_ref() {
        [byte] if byte.is_ascii() => Ok(*byte),
        other => fail(format!(
            "a separator is one ASCII character, found `{}`",
            shorten(&String::from_utf8_lossy(other))
        )),
    }
}

/// A part of a text, borrowed when the whole is.
pub fn part<'a>(text: &Text<'a>, range: std::ops::Range<usize>) -> Text<'a> {
    match text {
        Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[range]),
        Cow::Owned(bytes) => Cow::Owned(bytes[range].to_vec()),
    }
}

/// Part of a text that is not needed any more: its allocation is kept.
pub fn narrow<'a>(text: Text<'a>, range: std::ops::Range<usize>) -> Text<'a> {
    match text {
        Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[range]),
        Cow::Owned(mut bytes) => {
            bytes.truncate(range.end);
            bytes.drain(..range.start);
            Cow::Owned(bytes)
        }
    }
}

/// Refuses a text that is longer than texts may be.
pub fn check_bytes(bytes: usize) -> Result<(), EvalError> {
    if bytes <= TEXT_BYTES_MAX {
        return Ok(());
    }
    fail(format!("the text would be longer than {} MiB", TEXT_BYTES_MAX >> 20))
}

/// Refuses a list that is longer than lists may be.
pub fn check_items(items: usize) -> Result<(), EvalError> {
    if items <= LIST_ITEMS_MAX {
        return Ok(());
    }
    fail(format!("the list would have more than {LIST_ITEMS_MAX} items"))
}

/// The items of a list, as many as lists may have.
pub fn collect<'a>(items: impl Iterator<Item = Value<'a>>) -> Answer<'a> {
    let items: Vec<Value<'a>> = items.take(LIST_ITEMS_MAX + 1).collect();
    check_items(items.len())?;
    Ok(Value::List(items))
}

/// Reads a text into a value that borrows from it, as far as the text itself is borrowed.
pub fn read<'a>(text: Text<'a>, read: impl for<'t> Fn(&'t [u8]) -> Answer<'t>) -> Answer<'a> {
    match text {
        Cow::Borrowed(bytes) => read(bytes),
        Cow::Owned(bytes) => read(&bytes).map(Value::into_owned),
    }
}

/// At most this many characters of the event's text are shown in a message.
const SHOWN_CHARS_MAX: usize = 60;

/// User text for a message, cut.
pub fn shorten(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// As [`shorten`], of bytes.
pub fn shown(text: &[u8]) -> String {
    // Four bytes per character at most: the rest cannot be shown and need not be decoded.
    let head = &text[..text.len().min(SHOWN_CHARS_MAX * 4 + 4)];
    shorten(&String::from_utf8_lossy(head)).into_owned()
}
