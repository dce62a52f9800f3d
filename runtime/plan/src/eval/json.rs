//! JSON to values and back, strict RFC 8259, bounded in depth. It must not know the IR.

use std::borrow::Cow;
use std::collections::HashMap;

use super::text::{duration_to_text, float_to_text, int_to_text, time_to_text};
use crate::function::{EvalError, Plain};
use crate::value::Value;

/// Lists and maps inside each other; deeper input is refused, deeper values are written as `null`.
pub const JSON_DEPTH_MAX: u32 = 128;

/// Objects with more members look their keys up in a table while they are read.
const LINEAR_KEYS_MAX: usize = 16;

/// Reads one JSON value. Strings without escapes borrow from the input and may hold bytes that are not UTF-8;
/// integers that do not fit 64 bits become floats; of equal keys the last one counts.
pub fn value_from_json(bytes: &[u8]) -> Result<Value<'_>, EvalError> {
    let mut reader = Reader { bytes, at: 0 };
    reader.space();
    let value = reader.value(0)?;
    reader.space();
    if reader.at < bytes.len() { Err(reader.unexpected("the end")) } else { Ok(value) }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    #[cold]
    fn unexpected(&self, expected: &str) -> EvalError {
        let found = match self.peek() {
            None => "the end".to_string(),
            Some(byte) if byte.is_ascii_graphic() => format!("`{}`", byte as char),
            Some(byte) => format!("byte 0x{byte:02x}"),
        };
        EvalError::new(format!("not JSON: found {found} at byte {}, expected {expected}", self.at))
    }

    fn value(&mut self, depth: u32) -> Result<Value<'a>, EvalError> {
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok(Value::Text(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true", Value::Bool(true)),
            Some(b'f') => self.word(b"false", Value::Bool(false)),
            Some(b'n') => self.word(b"null", Value::Null),
            _ => Err(self.unexpected("a value")),
        }
    }

    fn word(&mut self, word: &'static [u8], value: Value<'a>) -> Result<Value<'a>, EvalError> {
        if self.bytes[self.at..].starts_with(word) {
            self.at += word.len();
            Ok(value)
        } else {
            Err(self.unexpected("a value"))
        }
    }

    fn enter(&self, depth: u32) -> Result<u32, EvalError> {
        if depth >= JSON_DEPTH_MAX {
            return Err(EvalError::new(format!("the JSON is nested more than {JSON_DEPTH_MAX} deep")));
        }
        Ok(depth + 1)
    }

    fn array(&mut self, depth: u32) -> Result<Value<'a>, EvalError> {
        let depth = self.enter(depth)?;
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::List(items));
        }
        loop {
            self.space();
            items.push(self.value(depth)?);
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Value::List(items));
                }
                _ => return Err(self.unexpected("`,` or `]`")),
            }
        }
    }

    fn object(&mut self, depth: u32) -> Result<Value<'a>, EvalError> {
        let depth = self.enter(depth)?;
        self.at += 1;
        let mut entries: Vec<(Cow<'a, str>, Value<'a>)> = Vec::new();
        let mut table: HashMap<Cow<'a, str>, usize> = HashMap::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Map(entries));
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("a key"));
            }
            let key = lossy(self.string()?);
            self.space();
            if self.peek() != Some(b':') {
                return Err(self.unexpected("`:`"));
            }
            self.at += 1;
            self.space();
            let value = self.value(depth)?;
            if entries.len() == LINEAR_KEYS_MAX {
                table = entries.iter().enumerate().map(|(at, (key, _))| (key.clone(), at)).collect();
            }
            let known = if entries.len() < LINEAR_KEYS_MAX {
                entries.iter().position(|(known, _)| *known == key)
            } else {
                table.get(&key).copied()
            };
            match known {
                Some(at) => entries[at].1 = value,
                None => {
                    if entries.len() >= LINEAR_KEYS_MAX {
                        table.insert(key.clone(), entries.len());
                    }
                    entries.push((key, value));
                }
            }
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Value::Map(entries));
                }
                _ => return Err(self.unexpected("`,` or `}`")),
            }
        }
    }

    fn string(&mut self) -> Result<Cow<'a, [u8]>, EvalError> {
        self.at += 1;
        let start = self.at;
        loop {
            match self.peek() {
                Some(b'"') => {
                    let text = &self.bytes[start..self.at];
                    self.at += 1;
                    return Ok(Cow::Borrowed(text));
                }
                Some(b'\\') => break,
                Some(0..=0x1f) | None => return Err(self.unexpected("`\"`")),
                Some(_) => self.at += 1,
            }
        }
        let mut text = self.bytes[start..self.at].to_vec();
        self.rest_of_string(&mut text)?;
        Ok(Cow::Owned(text))
    }

    /// Appends what a string stands for, up to its closing quote.
    fn rest_of_string(&mut self, text: &mut Vec<u8>) -> Result<(), EvalError> {
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    self.escape(text)?;
                }
                Some(0..=0x1f) | None => return Err(self.unexpected("`\"`")),
                Some(byte) => {
                    text.push(byte);
                    self.at += 1;
                }
            }
        }
    }

    fn escape(&mut self, text: &mut Vec<u8>) -> Result<(), EvalError> {
        let byte = match self.peek() {
            Some(byte @ (b'"' | b'\\' | b'/')) => byte,
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                self.at += 1;
                let mut code = self.hex4()?;
                // A high surrogate with its low one is one character; a lone one becomes U+FFFD.
                if (0xd800..0xdc00).contains(&code) && self.bytes[self.at..].starts_with(b"\\u") {
                    let before = self.at;
                    self.at += 2;
                    let low = self.hex4()?;
                    if (0xdc00..0xe000).contains(&low) {
                        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                    } else {
                        self.at = before;
                    }
                }
                let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(self.unexpected("an escape")),
        };
        self.at += 1;
        text.push(byte);
        Ok(())
    }

    fn hex4(&mut self) -> Result<u32, EvalError> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| (byte as char).to_digit(16));
            code = code * 16 + digit.ok_or_else(|| self.unexpected("a hex digit"))?;
            self.at += 1;
        }
        Ok(code)
    }

    fn number(&mut self) -> Result<Value<'a>, EvalError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.unexpected("a digit")),
        }
        let mut integer = true;
        if self.peek() == Some(b'.') {
            integer = false;
            self.at += 1;
            if !matches!(self.peek(), Some(b'0'..=b'9')) {
                return Err(self.unexpected("a digit"));
            }
            self.digits();
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            integer = false;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if !matches!(self.peek(), Some(b'0'..=b'9')) {
                return Err(self.unexpected("a digit"));
            }
            self.digits();
        }
        // Only ASCII was accepted.
        let text = std::str::from_utf8(&self.bytes[start..self.at]).unwrap_or("");
        match number(text, integer) {
            Some(Plain::Int(value)) => Ok(Value::Int(value)),
            Some(Plain::Float(value)) => Ok(Value::Float(value)),
            _ => Err(EvalError::new(format!("not JSON: the number at byte {start} is out of range"))),
        }
    }

    fn digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }
}

/// The value of a number that is written as JSON has it; `None` when it is out of range.
pub(super) fn number(text: &str, integer: bool) -> Option<Plain<'static>> {
    if integer && let Ok(value) = text.parse() {
        return Some(Plain::Int(value));
    }
    text.parse().ok().filter(|value: &f64| value.is_finite()).map(Plain::Float)
}

/// Appends what a string without its opening quote stands for. It was read before: what is wrong with it is no
/// matter here.
pub(super) fn unescape(string: &[u8], out: &mut Vec<u8>) {
    let mut reader = Reader { bytes: string, at: 0 };
    let _ = reader.rest_of_string(out);
}

fn lossy(text: Cow<'_, [u8]>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => String::from_utf8_lossy(text),
        Cow::Owned(text) => Cow::Owned(match String::from_utf8(text) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        }),
    }
}

/// Appends a value as JSON. Bytes that are not UTF-8 become U+FFFD; times and durations become strings, sizes
/// the number of bytes, NaN and infinities `null`, regexes their pattern.
pub fn value_to_json(value: &Value<'_>, out: &mut Vec<u8>) {
    write_value(value, 0, out);
}

fn write_value(value: &Value<'_>, depth: u32, out: &mut Vec<u8>) {
    match value {
        Value::Null | Value::Lambda(_) => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(value) => int_to_text(*value, out),
        Value::Float(value) if value.is_finite() => float_to_text(*value, out),
        Value::Float(_) => out.extend_from_slice(b"null"),
        Value::Text(text) => write_string(&String::from_utf8_lossy(text), out),
        Value::Time(ms) => quoted(out, |out| time_to_text(*ms, out)),
        Value::Duration(ns) => quoted(out, |out| duration_to_text(*ns, out)),
        // What is no `int` reads back as a float, so it is written as one: writing again must give the same.
        Value::Size(bytes) => match i64::try_from(*bytes) {
            Ok(bytes) => int_to_text(bytes, out),
            Err(_) => float_to_text(*bytes as f64, out),
        },
        Value::Regex(regex) => write_string(regex.as_str(), out),
        Value::List(_) | Value::Map(_) if depth >= JSON_DEPTH_MAX => out.extend_from_slice(b"null"),
        Value::List(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_value(item, depth + 1, out);
            }
            out.push(b']');
        }
        Value::Map(entries) => {
            out.push(b'{');
            for (index, (key, item)) in entries.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_string(key, out);
                out.push(b':');
                write_value(item, depth + 1, out);
            }
            out.push(b'}');
        }
    }
}

fn quoted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    write(out);
    out.push(b'"');
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let mut plain = 0;
    let bytes = text.as_bytes();
    for (at, &byte) in bytes.iter().enumerate() {
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0..=0x1f => 0,
            _ => continue,
        };
        out.extend_from_slice(&bytes[plain..at]);
        plain = at + 1;
        if short == 0 {
            let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&digits);
        } else {
            out.extend_from_slice(&[b'\\', short]);
        }
    }
    out.extend_from_slice(&bytes[plain..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::values_equal;

    fn again(text: &str) -> String {
        let mut out = Vec::new();
        value_to_json(&value_from_json(text.as_bytes()).unwrap(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn reads_and_writes() {
        let same = r#"{"a":[1,-2,1.5,true,false,null],"b":{"c":"d\"\\\n\u0001"},"e":[],"f":{}}"#;
        assert_eq!(again(same), same);
        assert_eq!(again(" [ 1 , 2 ] "), "[1,2]");
        assert_eq!(again(r#""\u00e9\ud83d\ude00\ud800x\/""#), "\"é😀\u{fffd}x/\"");
        assert_eq!(again(r#"{"a":1,"a":2}"#), r#"{"a":2}"#);
        assert_eq!(again("99999999999999999999"), "1e20");
        assert_eq!(again("-9223372036854775808"), "-9223372036854775808");
    }

    #[test]
    fn equal_keys_are_found_in_large_objects() {
        let members: Vec<String> = (0..100).map(|n| format!("\"k{}\":{n}", n % 40)).collect();
        let text = format!("{{{}}}", members.join(","));
        let Ok(Value::Map(entries)) = value_from_json(text.as_bytes()) else { panic!("a map") };
        assert_eq!(entries.len(), 40);
        assert!(values_equal(&entries[0].1, &Value::Int(80)));
        assert!(values_equal(&entries[39].1, &Value::Int(79)));
    }

    #[test]
    fn refuses_what_is_not_json() {
        for text in [
            "",
            " ",
            "{",
            "[1,]",
            "{\"a\"}",
            "{\"a\":}",
            "{a:1}",
            "01",
            "1.",
            "1e",
            "-",
            "+1",
            "nul",
            "\"\n\"",
            "\"\\x\"",
            "\"\\u12\"",
            "1 2",
            "'a'",
            "1e999",
            "\u{feff}1",
            "\"",
        ] {
            assert!(value_from_json(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(value_from_json(nested(128).as_bytes()).is_ok());
        assert!(value_from_json(nested(129).as_bytes()).is_err());
        assert!(value_from_json("[".repeat(1_000_000).as_bytes()).is_err());
    }

    #[test]
    fn invalid_utf8_is_replaced_on_output() {
        let mut out = Vec::new();
        value_to_json(&value_from_json(b"\"a\xffb\"").unwrap(), &mut out);
        assert_eq!(out, "\"a\u{fffd}b\"".as_bytes());
    }
}
