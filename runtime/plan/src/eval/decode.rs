//! A dynamic value against a type: what `let o: Order = json(body)` does, once, so that its fields are typed
//! afterwards.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::text::{duration_from_text, size_from_text, time_from_text, type_name};
use crate::function::EvalError;
use crate::ir::Type;
use crate::value::Value;

/// Checks and converts. Unknown fields of records are left out; a missing field that is not optional, and a
/// value of another type, fail with their path (`items[2].sku`).
///
/// A float takes an int; an int takes a float without fraction; a time takes an RFC 3339 string or integer
/// milliseconds; a duration takes a string (`1h30min`); a size takes a string (`10KiB`) or a number of bytes.
pub fn decode<'a>(value: Value<'a>, ty: &Type) -> Result<Value<'a>, EvalError> {
    decode_at(value, ty, &mut Vec::new(), 0)
}

enum Step<'t> {
    Field(Cow<'t, str>),
    Item(usize),
}

/// Types inside each other; a type that is deeper is refused.
const TYPE_DEPTH_MAX: u32 = 64;

fn decode_at<'a, 't>(
    value: Value<'a>,
    ty: &'t Type,
    path: &mut Vec<Step<'t>>,
    depth: u32,
) -> Result<Value<'a>, EvalError> {
    if depth > TYPE_DEPTH_MAX {
        return Err(EvalError::new(format!("the type is nested more than {TYPE_DEPTH_MAX} deep")));
    }
    Ok(match (ty, value) {
        (Type::Any, value) => value,
        (Type::Optional(_), Value::Null) => Value::Null,
        (Type::Optional(inner), value) => decode_at(value, inner, path, depth + 1)?,
        (Type::Bool, value @ Value::Bool(_)) => value,
        (Type::Int, value @ Value::Int(_)) => value,
        // Up to 2^53 a float without fraction is one certain integer.
        (Type::Int, Value::Float(value))
            if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 =>
        {
            Value::Int(value as i64)
        }
        (Type::Float, value @ Value::Float(_)) => value,
        (Type::Float, Value::Int(value)) => Value::Float(value as f64),
        (Type::Text, value @ Value::Text(_)) => value,
        (Type::Time, value @ Value::Time(_)) => value,
        (Type::Time, Value::Int(ms)) => Value::Time(ms),
        (Type::Time, Value::Text(text)) => match utf8(&text).and_then(time_from_text) {
            Some(ms) => Value::Time(ms),
            None => return Err(misread(path, "an RFC 3339 time", &text)),
        },
        (Type::Duration, value @ Value::Duration(_)) => value,
        (Type::Duration, Value::Text(text)) => match utf8(&text).and_then(duration_from_text) {
            Some(ns) => Value::Duration(ns),
            None => return Err(misread(path, "a duration like `1h30min`", &text)),
        },
        (Type::Size, value @ Value::Size(_)) => value,
        (Type::Size, Value::Int(bytes)) if bytes >= 0 => Value::Size(bytes as u64),
        (Type::Size, Value::Text(text)) => match utf8(&text).and_then(size_from_text) {
            Some(bytes) => Value::Size(bytes),
            None => return Err(misread(path, "a size like `10KiB`", &text)),
        },
        (Type::List(inner), Value::List(mut items)) => {
            for (index, item) in items.iter_mut().enumerate() {
                path.push(Step::Item(index));
                *item = decode_at(std::mem::replace(item, Value::Null), inner, path, depth + 1)?;
                path.pop();
            }
            Value::List(items)
        }
        (Type::Map(inner), Value::Map(mut entries)) => {
            for (key, item) in &mut entries {
                path.push(Step::Field(Cow::Owned(key.to_string())));
                *item = decode_at(std::mem::replace(item, Value::Null), inner, path, depth + 1)?;
                path.pop();
            }
            Value::Map(entries)
        }
        (Type::Record { fields, .. }, Value::Map(mut entries)) => {
            let mut record = Vec::with_capacity(fields.len());
            for (name, ty) in fields {
                path.push(Step::Field(Cow::Borrowed(name)));
                let found = entries.iter_mut().find(|(key, _)| key == name);
                let value = match found {
                    Some((_, value)) => std::mem::replace(value, Value::Null),
                    None if matches!(ty, Type::Optional(_)) => Value::Null,
                    None => {
                        let message = format!("{} is missing, expected {}", place(path), type_text(ty));
                        return Err(EvalError::new(message));
                    }
                };
                record.push((Cow::Owned(name.clone()), decode_at(value, ty, path, depth + 1)?));
                path.pop();
            }
            Value::Map(record)
        }
        (ty, value) => {
            let message = format!("{} is {}, expected {}", place(path), type_name(&value), type_text(ty));
            return Err(EvalError::new(message));
        }
    })
}

fn utf8(text: &[u8]) -> Option<&str> {
    std::str::from_utf8(text).ok()
}

/// Characters of a value that a message shows.
const SHOWN_CHARS_MAX: usize = 40;

fn misread(path: &[Step<'_>], expected: &str, text: &[u8]) -> EvalError {
    let shown: String = String::from_utf8_lossy(text).chars().take(SHOWN_CHARS_MAX).collect();
    EvalError::new(format!("{} is `{shown}`, expected {expected}", place(path)))
}

fn place(path: &[Step<'_>]) -> String {
    if path.is_empty() {
        return "the value".to_string();
    }
    let mut text = String::from("`");
    for step in path {
        match step {
            Step::Field(name) if text.len() > 1 => {
                let _ = write!(text, ".{name}");
            }
            Step::Field(name) => text.push_str(name),
            Step::Item(index) => {
                let _ = write!(text, "[{index}]");
            }
        }
    }
    text.push('`');
    text
}

fn type_text(ty: &Type) -> String {
    match ty {
        Type::Any => "anything".to_string(),
        Type::Bool => "a bool".to_string(),
        Type::Int => "an int".to_string(),
        Type::Float => "a float".to_string(),
        Type::Text => "a string".to_string(),
        Type::Time => "a time".to_string(),
        Type::Duration => "a duration".to_string(),
        Type::Size => "a size".to_string(),
        Type::List(_) => "a list".to_string(),
        Type::Map(_) => "a map".to_string(),
        Type::Record { name: Some(name), .. } => format!("a record `{name}`"),
        Type::Record { name: None, .. } => "a record".to_string(),
        Type::Optional(inner) => format!("{} or null", type_text(inner)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::{value_from_json, value_to_json};

    fn order() -> Type {
        let item = Type::Record {
            name: Some("Item".into()),
            fields: vec![("sku".into(), Type::Text), ("count".into(), Type::Optional(Box::new(Type::Int)))],
        };
        Type::Record {
            name: Some("Order".into()),
            fields: vec![
                ("id".into(), Type::Text),
                ("total".into(), Type::Float),
                ("at".into(), Type::Optional(Box::new(Type::Time))),
                ("items".into(), Type::List(Box::new(item))),
            ],
        }
    }

    fn decoded(json: &str) -> Result<String, String> {
        let value = value_from_json(json.as_bytes()).map_err(|error| error.message)?;
        let value = decode(value, &order()).map_err(|error| error.message)?;
        let mut out = Vec::new();
        value_to_json(&value, &mut out);
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn unknown_fields_are_left_out_and_optional_ones_filled() {
        let json = r#"{"x":1,"total":2,"id":"a","items":[{"sku":"s","y":[]}],"at":"1970-01-01T00:00:01Z"}"#;
        let expected =
            r#"{"id":"a","total":2.0,"at":"1970-01-01T00:00:01.000Z","items":[{"sku":"s","count":null}]}"#;
        assert_eq!(decoded(json).unwrap(), expected);
    }

    #[test]
    fn errors_name_the_path() {
        let missing = decoded(r#"{"id":"a","total":1,"items":[{"sku":"a"},{"sku":"b"},{}]}"#);
        assert_eq!(missing.unwrap_err(), "`items[2].sku` is missing, expected a string");
        let wrong = decoded(r#"{"id":"a","total":"1","items":[]}"#);
        assert_eq!(wrong.unwrap_err(), "`total` is a string, expected a float");
        let fraction = decoded(r#"{"id":"a","total":1,"items":[{"sku":"a","count":1.5}]}"#);
        assert_eq!(fraction.unwrap_err(), "`items[0].count` is a float, expected an int");
        let time = decoded(r#"{"id":"a","total":1,"at":"noon","items":[]}"#);
        assert_eq!(time.unwrap_err(), "`at` is `noon`, expected an RFC 3339 time");
        assert_eq!(decoded("[]").unwrap_err(), "the value is a list, expected a record `Order`");
    }
}
