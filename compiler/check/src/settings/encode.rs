//! Constants as the plain data that kinds decode.

use flow_diag::{Code, Diagnostic, Span};
use flow_plan::value::Value;
use flow_syntax::ast::Literal;
use serde_json::{Value as Json, json};

use super::SettingType;
use crate::resolve::Resolver;
use crate::types::Type;

impl Resolver<'_> {
    /// Encodes a constant; reports what does not fit.
    pub(super) fn encode(
        &mut self,
        name: &str,
        ty: &SettingType,
        value: &Value<'_>,
        span: Span,
    ) -> Option<Json> {
        let encoded = match (ty, value) {
            (SettingType::Optional(_), Value::Null) => Json::Null,
            (SettingType::Optional(inner), value) => return self.encode(name, inner, value, span),
            (SettingType::Ranged(inner, low, high), value) => {
                if !within(value, low, high) {
                    self.report_range(name, value, low, high, span);
                    return None;
                }
                return self.encode(name, inner, value, span);
            }
            (SettingType::Text | SettingType::Header, Value::Text(text)) => {
                let text = String::from_utf8_lossy(text).into_owned();
                if *ty == SettingType::Header {
                    self.slot(&text);
                }
                Json::String(text)
            }
            (SettingType::Int, Value::Int(value)) => json!(value),
            (SettingType::Float, Value::Int(value)) => json!(*value as f64),
            (SettingType::Float, Value::Float(value)) => json!(value),
            (SettingType::Bool, Value::Bool(value)) => json!(value),
            (SettingType::Duration, Value::Duration(value)) => {
                if *value < 0 {
                    let title = format!("`{name}` cannot be negative");
                    self.report(Diagnostic::new(Code::F0206, span, title).label("negative"));
                    return None;
                }
                json!(value)
            }
            (SettingType::Size, Value::Size(value)) => json!(value),
            (SettingType::Time, Value::Time(value)) => json!(value),
            (SettingType::Regex, Value::Regex(regex)) => json!({ "pattern": regex.as_str(), "flags": "" }),
            (SettingType::Json | SettingType::Any, value) => plain(value),
            (SettingType::List(item), Value::List(values)) => {
                let mut list = Vec::with_capacity(values.len());
                for value in values {
                    list.push(self.encode(name, item, value, span)?);
                }
                Json::Array(list)
            }
            (SettingType::List(item), value) => Json::Array(vec![self.encode(name, item, value, span)?]),
            (SettingType::Map(item), Value::Map(entries)) => {
                let mut map = serde_json::Map::new();
                for (key, value) in entries {
                    map.insert(key.to_string(), self.encode(&format!("{name}.{key}"), item, value, span)?);
                }
                Json::Object(map)
            }
            (SettingType::OneOf(choices), Value::Text(text)) => {
                let text = String::from_utf8_lossy(text).into_owned();
                return self.choice(name, choices, &text, span);
            }
            (SettingType::OneOf(choices), Value::Bool(value)) => {
                return self.choice(name, choices, if *value { "true" } else { "false" }, span);
            }
            (SettingType::Secret, Value::Text(text)) => {
                json!({ "literal": String::from_utf8_lossy(text) })
            }
            (SettingType::Template, Value::Text(_)) | (SettingType::Expr(_), _) => {
                serde_json::to_value(crate::expr::constant_of(value)).unwrap_or(Json::Null)
            }
            (SettingType::Limits, Value::Duration(value)) => {
                json!({ "duration": value, "size": null, "events": null })
            }
            (SettingType::Limits, Value::Size(value)) => {
                json!({ "duration": null, "size": value, "events": null })
            }
            (SettingType::Limits, Value::Int(value)) => {
                json!({ "duration": null, "size": null, "events": value })
            }
            (ty, value) => {
                let given = type_of(value);
                let title = format!("`{name}` is {}, this is {}", ty.in_words(), given.with_article());
                self.report(Diagnostic::new(Code::F0201, span, title).label(given.to_string()));
                return None;
            }
        };
        Some(encoded)
    }

    /// A choice by its name; F0207 when there is none.
    pub(super) fn choice(
        &mut self,
        name: &str,
        choices: &[(String, Option<SettingType>)],
        word: &str,
        span: Span,
    ) -> Option<Json> {
        match choices.iter().find(|(choice, _)| choice == word) {
            Some((_, None)) => Some(Json::String(word.to_owned())),
            Some((_, Some(inner))) => {
                self.report(
                    Diagnostic::new(
                        Code::F0207,
                        span,
                        format!("`{word}` needs a value: {}", inner.in_words()),
                    )
                    .label("without a value")
                    .help(format!("`{word}({})`", example(inner))),
                );
                None
            }
            None => {
                self.report_choice(name, choices, word, span);
                None
            }
        }
    }

    pub(super) fn report_choice(
        &mut self,
        name: &str,
        choices: &[(String, Option<SettingType>)],
        word: &str,
        span: Span,
    ) {
        let list = choices.iter().map(|(choice, _)| format!("`{choice}`")).collect::<Vec<_>>().join(", ");
        let mut diagnostic =
            Diagnostic::new(Code::F0207, span, format!("`{name}: {word}`: not one of {list}"));
        if let Some(near) = flow_diag::suggest(word, choices.iter().map(|(choice, _)| choice.as_str())) {
            diagnostic = diagnostic.label(format!("did you mean `{near}`?")).fix(span, near);
        } else {
            diagnostic = diagnostic.label("no such choice");
        }
        self.report(diagnostic);
    }

    fn report_range(&mut self, name: &str, value: &Value<'_>, low: &Literal, high: &Literal, span: Span) {
        let given = match value {
            Value::Int(value) => number(*value),
            Value::Float(value) => value.to_string(),
            Value::Duration(value) => duration_text(*value),
            Value::Size(value) => size_text(*value),
            _ => self.files.slice(span).to_owned(),
        };
        let title = format!(
            "`{name}` must be between {} and {}, this is {given}",
            literal_text(low),
            literal_text(high)
        );
        self.report(Diagnostic::new(Code::F0206, span, title).label("out of range"));
    }
}

fn example(ty: &SettingType) -> &'static str {
    match ty.bare() {
        SettingType::Duration => "1s",
        SettingType::Size => "1KiB",
        SettingType::Int => "1",
        SettingType::Time => "@2026-01-01",
        _ => "\"…\"",
    }
}

/// JSON without a declared type: numbers as they are, durations in nanoseconds, sizes in bytes.
fn plain(value: &Value<'_>) -> Json {
    match value {
        Value::Null | Value::Lambda(_) => Json::Null,
        Value::Bool(value) => json!(value),
        Value::Int(value) | Value::Time(value) | Value::Duration(value) => json!(value),
        Value::Float(value) => json!(value),
        Value::Text(text) => json!(String::from_utf8_lossy(text)),
        Value::Size(value) => json!(value),
        Value::Regex(regex) => json!({ "pattern": regex.as_str(), "flags": "" }),
        Value::List(items) => Json::Array(items.iter().map(plain).collect()),
        Value::Map(entries) => {
            Json::Object(entries.iter().map(|(key, value)| (key.to_string(), plain(value))).collect())
        }
    }
}

fn type_of(value: &Value<'_>) -> Type {
    match value {
        Value::Null => Type::Null,
        Value::Bool(_) => Type::Bool,
        Value::Int(_) => Type::Int,
        Value::Float(_) => Type::Float,
        Value::Text(_) => Type::String,
        Value::Time(_) => Type::Time,
        Value::Duration(_) => Type::Duration,
        Value::Size(_) => Type::Size,
        Value::List(_) => Type::list(Type::Any),
        Value::Map(_) => Type::map(Type::Any),
        Value::Regex(_) => Type::Regex,
        Value::Lambda(_) => Type::Any,
    }
}

fn within(value: &Value<'_>, low: &Literal, high: &Literal) -> bool {
    let number = match value {
        Value::Int(value) | Value::Duration(value) => *value as f64,
        Value::Float(value) => *value,
        Value::Size(value) => *value as f64,
        // another type: reported as such
        _ => return true,
    };
    let bound = |literal: &Literal| match literal {
        Literal::Int(value) | Literal::Duration(value) => Some(*value as f64),
        Literal::Float(value) => Some(*value),
        Literal::Size(value) => Some(*value as f64),
        _ => None,
    };
    bound(low).is_none_or(|low| number >= low) && bound(high).is_none_or(|high| number <= high)
}

fn literal_text(literal: &Literal) -> String {
    match literal {
        Literal::Int(value) => number(*value),
        Literal::Float(value) => value.to_string(),
        Literal::Duration(value) => duration_text(*value),
        Literal::Size(value) => size_text(*value),
        _ => String::new(),
    }
}

/// `100_000`
fn number(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut out = if value < 0 { "-".to_owned() } else { String::new() };
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) && digits.len() > 4 {
            out.push('_');
        }
        out.push(digit);
    }
    out
}

fn duration_text(value: i64) -> String {
    let mut out = Vec::new();
    flow_plan::eval::duration_to_text(value, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn size_text(value: u64) -> String {
    let mut out = Vec::new();
    flow_plan::eval::size_to_text(value, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}
