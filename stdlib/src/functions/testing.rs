//! Calls functions in tests as the evaluator does: by name, with values.

use flow_plan::Value;
use flow_plan::function::{CallContext, EvalError, Functions};

/// 2026-11-23T10:00:00Z
pub const NOW_MS: i64 = 1_795_428_000_000;

/// What the lambda of a test does.
type Lambda<'f> = &'f dyn Fn(Value<'static>) -> Result<Value<'static>, EvalError>;

struct Context<'f> {
    lambda: Lambda<'f>,
}

impl CallContext for Context<'_> {
    fn call_lambda<'a>(&mut self, _: &Value<'a>, argument: Value<'a>) -> Result<Value<'a>, EvalError> {
        (self.lambda)(argument.into_owned())
    }

    fn now_ms(&self) -> i64 {
        NOW_MS
    }
}

/// Calls a function that must succeed and gives the result as [`show`] writes it.
pub fn call(name: &str, args: Vec<Value<'_>>) -> String {
    match try_call(name, args) {
        Ok(value) => value,
        Err(message) => panic!("`{name}` failed: {message}"),
    }
}

/// Calls a function that must fail and gives its message.
pub fn error(name: &str, args: Vec<Value<'_>>) -> String {
    match try_call(name, args) {
        Ok(value) => panic!("`{name}` gave {value}"),
        Err(message) => message,
    }
}

pub fn try_call(name: &str, args: Vec<Value<'_>>) -> Result<String, String> {
    call_with(name, args, &|_| Err(EvalError::new("no lambda")))
}

/// Calls a function with a lambda, given as [`lambda`] among the arguments.
pub fn call_with(name: &str, args: Vec<Value<'_>>, lambda: Lambda<'_>) -> Result<String, String> {
    let mut functions = Functions::new();
    super::add_all(&mut functions);
    let function = functions.get(name).unwrap_or_else(|| panic!("no function `{name}`"));
    match function(&mut Context { lambda }, args) {
        Ok(value) => Ok(show(&value)),
        Err(error) => Err(error.message),
    }
}

pub fn lambda() -> Value<'static> {
    Value::Lambda(0)
}

pub fn t(text: &str) -> Value<'_> {
    Value::text(text)
}

pub fn i(number: i64) -> Value<'static> {
    Value::Int(number)
}

pub fn f(number: f64) -> Value<'static> {
    Value::Float(number)
}

pub fn r(pattern: &str) -> Value<'static> {
    Value::Regex(std::sync::Arc::new(regex::bytes::Regex::new(pattern).expect("a regex")))
}

pub fn texts<'a>(items: &[&'a str]) -> Value<'a> {
    Value::List(items.iter().map(|item| t(item)).collect())
}

pub fn ints(items: &[i64]) -> Value<'static> {
    Value::List(items.iter().map(|item| i(*item)).collect())
}

/// A value in one line: text in quotes (with `\xNN` for what is not UTF-8), lists in brackets, maps in braces.
pub fn show(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => format!("{value:?}"),
        Value::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => format!("{text:?}"),
            Err(_) => format!("\"{}\"", text.escape_ascii()),
        },
        Value::Time(ms) => format!("@{ms}"),
        Value::Duration(ns) => format!("{ns}ns"),
        Value::Size(bytes) => format!("{bytes}B"),
        Value::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
        Value::Map(entries) => format!(
            "{{{}}}",
            entries
                .iter()
                .map(|(key, value)| format!("{key}: {}", show(value)))
                .collect::<Vec<_>>()
                .join(", ")
        ),
        Value::Regex(regex) => format!("/{}/", regex.as_str()),
        Value::Lambda(index) => format!("lambda {index}"),
    }
}
