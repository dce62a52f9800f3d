//! A resolved setting as text. The plan's values are plain JSON; with the declaration at hand a number gets its
//! unit back.

use flow_plan::ir::Expr;
use flow_syntax::ast::{TypeExpr, TypeKind};
use serde_json::Value;

use super::expr::{duration_text, expr_text, size_text};
use crate::graph::capacity::digits;

/// Longer values are cut.
const LENGTH_MAX: usize = 100;

pub(crate) fn setting_text(value: &Value, ty: Option<&TypeExpr>, slots: &[String]) -> String {
    let text = full_text(value, ty, slots);
    match text.char_indices().nth(LENGTH_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn full_text(value: &Value, ty: Option<&TypeExpr>, slots: &[String]) -> String {
    if let Some(secret) = secret_text(value) {
        return secret;
    }
    match ty.map(|ty| &ty.kind) {
        Some(TypeKind::Name(name)) => match (name.as_str(), value) {
            ("duration", Value::Number(_)) => return unit(value, duration_text),
            ("size", Value::Number(_)) => return unit(value, size_text),
            ("template", _) => {
                if let Ok(expr) = serde_json::from_value::<Expr>(value.clone()) {
                    return expr_text(&expr, slots);
                }
            }
            _ => {}
        },
        Some(TypeKind::Generic(word, inner)) => match (word.as_str(), value) {
            ("expr", _) if !value.is_null() => {
                if let Ok(expr) = serde_json::from_value::<Expr>(value.clone()) {
                    return expr_text(&expr, slots);
                }
            }
            ("list", Value::Array(list)) => {
                return list_text(list, |value| full_text(value, inner.first(), slots));
            }
            ("range", Value::Object(map)) => {
                if let (Some(from), Some(to)) = (map.get("from"), map.get("to")) {
                    let end = |value| full_text(value, inner.first(), slots);
                    return format!("{}..{}", end(from), end(to));
                }
            }
            _ => {}
        },
        _ => {}
    }
    plain_text(value, slots)
}

fn unit(value: &Value, write: impl Fn(u64) -> String) -> String {
    value.as_u64().map_or_else(|| value.to_string(), write)
}

fn list_text(list: &[Value], item: impl Fn(&Value) -> String) -> String {
    match list {
        [one] => item(one),
        list => format!("[{}]", list.iter().map(item).collect::<Vec<_>>().join(", ")),
    }
}

/// `‹secret pw›`, never the value.
fn secret_text(value: &Value) -> Option<String> {
    let map = value.as_object().filter(|map| map.len() == 1)?;
    match map.iter().next()? {
        (key, Value::String(name)) if key == "secret" => Some(format!("‹secret {name}›")),
        (key, _) if key == "literal" => Some("‹secret›".to_owned()),
        _ => None,
    }
}

fn plain_text(value: &Value, slots: &[String]) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.as_u64().map_or_else(|| number.to_string(), digits),
        Value::String(text) if is_word(text) => text.clone(),
        Value::String(text) => format!("\"{}\"", text.escape_debug()),
        Value::Array(list) => list_text(list, |value| full_text(value, None, slots)),
        Value::Object(map) => {
            if let Some(text) = limits_text(map).or_else(|| regex_text(map)) {
                return text;
            }
            let computed = map.len() == 1 && map.keys().all(|key| EXPR_KEYS.contains(&key.as_str()));
            if computed && let Ok(expr) = serde_json::from_value::<Expr>(value.clone()) {
                return expr_text(&expr, slots);
            }
            match (map.len(), map.iter().next()) {
                // `rename(".done")`
                (1, Some((choice, inner))) if is_word(choice) => {
                    format!("{choice}({})", full_text(inner, None, slots))
                }
                _ => {
                    let entries: Vec<String> = map
                        .iter()
                        .map(|(key, value)| format!("{key}: {}", full_text(value, None, slots)))
                        .collect();
                    format!("{{ {} }}", entries.join(", "))
                }
            }
        }
    }
}

/// What an expression looks like in JSON when its type is not known.
const EXPR_KEYS: [&str; 8] = ["template", "const", "header", "call", "coalesce", "compare", "member", "if"];

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !text.starts_with(|c: char| c.is_ascii_digit())
}

/// `1h or 128MiB or 10_000`
fn limits_text(map: &serde_json::Map<String, Value>) -> Option<String> {
    if map.len() != 3 || !["duration", "size", "events"].iter().all(|key| map.contains_key(*key)) {
        return None;
    }
    let part = |key: &str, write: &dyn Fn(u64) -> String| map.get(key).and_then(Value::as_u64).map(write);
    let parts: Vec<String> =
        [part("duration", &duration_text), part("size", &size_text), part("events", &digits)]
            .into_iter()
            .flatten()
            .collect();
    Some(parts.join(" or "))
}

fn regex_text(map: &serde_json::Map<String, Value>) -> Option<String> {
    match (map.len(), map.get("pattern")?.as_str()?, map.get("flags")?.as_str()?) {
        (2, pattern, flags) => Some(super::expr::regex_text(pattern, flags)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(value: Value) -> String {
        setting_text(&value, None, &["host".to_owned()])
    }

    #[test]
    fn values_look_as_they_are_written() {
        assert_eq!(text(json!(1_000_000)), "1_000_000");
        assert_eq!(text(json!("end")), "end");
        assert_eq!(text(json!("/var/log")), "\"/var/log\"");
        assert_eq!(text(json!(["/a"])), "\"/a\"");
        assert_eq!(text(json!({ "rename": ".done" })), "rename(\".done\")");
        assert_eq!(text(json!({ "pattern": "^a", "flags": "i" })), "/^a/i");
        assert_eq!(
            text(json!({ "duration": 3_600_000_000_000u64, "size": 134_217_728, "events": null })),
            "1h or 128MiB"
        );
        assert_eq!(
            text(
                json!({ "template": [{ "text": "/d/" }, { "expr": { "value": { "header": 0 }, "format": null } }] })
            ),
            "\"/d/${header.host}\""
        );
    }

    #[test]
    fn secrets_are_masked_everywhere() {
        assert_eq!(text(json!({ "secret": "pw" })), "‹secret pw›");
        assert_eq!(text(json!({ "literal": "hunter2" })), "‹secret›");
        assert_eq!(
            text(json!({ "users": { "ann": { "literal": "x" }, "bob": { "secret": "b" } } })),
            "users({ ann: ‹secret›, bob: ‹secret b› })"
        );
    }
}
