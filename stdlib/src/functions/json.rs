//! JSON to values and back, as the evaluator does it; texts without escapes are borrowed from the event.

use std::borrow::Cow;
use std::collections::HashMap;

use flow_plan::Value;
use flow_plan::eval::{value_from_json, value_to_json};
use flow_plan::function::{CallContext, Functions};

use super::args::{Answer, Entries, check_bytes, read, take, text};

pub fn add(functions: &mut Functions) {
    functions.add("json", json);
    functions.add_json_reader("json");
    functions.add("to_json", to_json);
    functions.add("to_json_pretty", to_json_pretty);
}

fn json<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    read(text(value)?, value_from_json)
}

/// Of a repeated key the last value counts, at the place of the first.
pub fn last_wins(entries: Entries<'_>) -> Entries<'_> {
    /// Up to here comparing all keys with each other is cheaper than hashing them.
    const COMPARED_MAX: usize = 16;
    let mut unique: Entries<'_> = Vec::with_capacity(entries.len());
    if entries.len() <= COMPARED_MAX {
        for (key, value) in entries {
            match unique.iter_mut().find(|(known, _)| *known == key) {
                Some((_, known)) => *known = value,
                None => unique.push((key, value)),
            }
        }
        return unique;
    }
    let mut places: HashMap<Cow<'_, str>, usize> = HashMap::with_capacity(entries.len());
    for (key, value) in entries {
        match places.get(&key) {
            Some(&place) => unique[place].1 = value,
            None => {
                places.insert(key.clone(), unique.len());
                unique.push((key, value));
            }
        }
    }
    unique
}

fn to_json<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    let mut text = Vec::new();
    value_to_json(&value, &mut text);
    check_bytes(text.len())?;
    Ok(Value::Text(Cow::Owned(text)))
}

fn to_json_pretty<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    let mut text = Vec::new();
    value_to_json(&value, &mut text);
    let pretty = indent(&text);
    check_bytes(pretty.len())?;
    Ok(Value::Text(Cow::Owned(pretty)))
}

/// A JSON text without blanks, on several lines: two blanks for every level.
fn indent(text: &[u8]) -> Vec<u8> {
    let mut pretty = Vec::with_capacity(text.len() * 2);
    let mut depth = 0;
    let mut in_string = false;
    let mut escaped = false;
    let line = |pretty: &mut Vec<u8>, depth: usize| {
        pretty.push(b'\n');
        pretty.resize(pretty.len() + depth * 2, b' ');
    };
    for (at, &byte) in text.iter().enumerate() {
        if in_string {
            pretty.push(byte);
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'{' | b'[' => {
                pretty.push(byte);
                // An empty list or map stays together.
                if !matches!(text.get(at + 1), Some(b'}' | b']')) {
                    depth += 1;
                    line(&mut pretty, depth);
                }
            }
            b'}' | b']' => {
                if !matches!(text.get(at.wrapping_sub(1)), Some(b'{' | b'[')) {
                    depth -= 1;
                    line(&mut pretty, depth);
                }
                pretty.push(byte);
            }
            b',' => {
                pretty.push(byte);
                line(&mut pretty, depth);
            }
            b':' => pretty.extend_from_slice(b": "),
            other => {
                in_string = other == b'"';
                pretty.push(other);
            }
        }
    }
    pretty
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use flow_plan::Value;

    use super::last_wins;
    use crate::functions::testing::{call, call_with, error, i, t};

    #[test]
    fn every_shape_is_read() {
        let text = r#"{"a":[1,-2.5,"x",null,true],"b":{"c":"ñ\n"},"d":9223372036854775807}"#;
        assert_eq!(
            call("json", vec![t(text)]),
            r#"{a: [1, -2.5, "x", null, true], b: {c: "ñ\n"}, d: 9223372036854775807}"#
        );
        assert_eq!(call("json", vec![Value::string(text.into())]), call("json", vec![t(text)]));
    }

    #[test]
    fn hostile_texts_fail_with_a_place() {
        assert!(error("json", vec![t("{")]).starts_with("not JSON: found the end at byte 1"));
        for text in ["", "{} x", "nul", "[1,]", "{\"a\" 1}", "\"\u{1}\"", "01"] {
            error("json", vec![t(text)]);
        }
        assert!(error("json", vec![t(&"[".repeat(200_000))]).contains("nested"));
    }

    #[test]
    fn the_last_of_a_repeated_key_counts() {
        let many = (0..1000).map(|n| (Cow::Owned(format!("k{}", n % 100)), i(n))).collect();
        let unique = last_wins(many);
        assert_eq!(unique.len(), 100);
        assert!(matches!(unique[7], (Cow::Owned(ref key), Value::Int(907)) if key == "k7"));
    }

    #[test]
    fn several_lines_hold_the_same_value() {
        let text = r#"{"a":[1,{"b:,":"]\\\""}],"c":[],"d":{}}"#;
        let pretty = super::indent(text.as_bytes());
        assert_eq!(
            String::from_utf8_lossy(&pretty),
            "{\n  \"a\": [\n    1,\n    {\n      \"b:,\": \"]\\\\\\\"\"\n    }\n  ],\n  \"c\": [],\n  \"d\": {}\n}"
        );
        let back = call_with("json", vec![Value::Text(pretty.into())], &Ok);
        assert_eq!(back.as_deref(), Ok(call("json", vec![t(text)]).as_str()));
        assert_eq!(call("to_json_pretty", vec![Value::List(vec![i(1)])]), "\"[\\n  1\\n]\"");
    }
}
