//! Lines of access logs, as Apache and nginx write them: the common and the combined format.

use std::borrow::Cow;

use flow_plan::Value;
use flow_plan::function::{CallContext, EvalError, Functions};
use jiff::civil::{Date, Time};
use jiff::tz::{Offset, TimeZone};

use super::args::{Answer, Entries, read, shown, take, text};

pub fn add(functions: &mut Functions) {
    functions.add("parse_common", parse_common);
    functions.add("parse_combined", parse_combined);
}

fn parse_common<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    read(text(value)?, |line| {
        let (entries, _) = common(line.trim_ascii_end()).ok_or_else(|| misfit(line, "common"))?;
        Ok(Value::Map(entries))
    })
}

fn parse_combined<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    read(text(value)?, |line| {
        let (mut entries, rest) = common(line.trim_ascii_end()).ok_or_else(|| misfit(line, "combined"))?;
        let (referrer, rest) = trailing(rest).ok_or_else(|| misfit(line, "combined"))?;
        let (agent, _) = trailing(rest).ok_or_else(|| misfit(line, "combined"))?;
        entries.push(("referrer".into(), referrer));
        entries.push(("agent".into(), agent));
        Ok(Value::Map(entries))
    })
}

fn misfit(line: &[u8], format: &str) -> EvalError {
    EvalError::new(format!("`{}` is not a line of an access log in the {format} format", shown(line)))
}

/// `ip ident user [time] "request" status bytes`, and what follows.
fn common(line: &[u8]) -> Option<(Entries<'_>, &[u8])> {
    let (ip, rest) = word(line)?;
    let (ident, rest) = word(rest)?;
    // A user name may have blanks; the time is what a bracket begins.
    let open = memchr::memmem::find(rest, b" [")?;
    let user = &rest[..open];
    let rest = &rest[open + 2..];
    let close = memchr::memchr(b']', rest)?;
    let time_ms = parse_time(&rest[..close])?;
    let rest = rest[close + 1..].strip_prefix(b" ")?;
    let (request, rest) = quoted(rest)?;
    let (status, rest) = word(rest.strip_prefix(b" ")?)?;
    let (bytes, rest) = word(rest)?;
    let bytes = match bytes {
        b"-" => Value::Null,
        digits => Value::Int(number(digits)?),
    };
    let mut words = request.split(|byte| *byte == b' ');
    // A request that is no HTTP (a TLS handshake sent to the plain port) has a text and nothing else.
    let (method, path, protocol) = match (words.next(), words.next(), words.next(), words.next()) {
        (Some(method), Some(path), protocol, None) if method.iter().all(u8::is_ascii_alphabetic) => {
            (optional(method), optional(path), protocol.map_or(Value::Null, optional))
        }
        _ => (Value::Null, Value::Null, Value::Null),
    };
    let entries = vec![
        ("ip".into(), Value::Text(Cow::Borrowed(ip))),
        ("ident".into(), optional(ident)),
        ("user".into(), optional(user)),
        ("time".into(), Value::Time(time_ms)),
        ("request".into(), Value::Text(Cow::Borrowed(request))),
        ("method".into(), method),
        ("path".into(), path),
        ("protocol".into(), protocol),
        ("status".into(), Value::Int(number(status)?)),
        ("bytes".into(), bytes),
    ];
    Some((entries, rest))
}

/// A word and what follows its blank; `None` when the line has ended.
fn word(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b' ', rest).unwrap_or(rest.len());
    let (word, rest) = rest.split_at(end);
    if word.is_empty() { None } else { Some((word, rest.strip_prefix(b" ").unwrap_or(rest))) }
}

/// A text in double quotes, as it stands (`\"` inside stays as it is), and what follows the closing one.
fn quoted(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = rest.strip_prefix(b"\"")?;
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', rest.get(at..)?)?;
        if rest[at] == b'"' {
            return Some((&rest[..at], &rest[at + 1..]));
        }
        at += 2;
    }
}

/// The next text in quotes, or null when the line has ended.
fn trailing(rest: &[u8]) -> Option<(Value<'_>, &[u8])> {
    match rest.trim_ascii_start() {
        [] => Some((Value::Null, b"")),
        rest => quoted(rest).map(|(text, rest)| (optional(text), rest)),
    }
}

fn optional(text: &[u8]) -> Value<'_> {
    match text {
        b"-" | b"" => Value::Null,
        text => Value::Text(Cow::Borrowed(text)),
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    if digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')))
}

const MONTHS: [&[u8]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// `23/Nov/2026:10:00:01 +0000`. Written out, since it stands in the path of every line.
fn parse_time(text: &[u8]) -> Option<i64> {
    let text: &[u8; 26] = text.try_into().ok()?;
    let marks = [(2, b'/'), (6, b'/'), (11, b':'), (14, b':'), (17, b':'), (20, b' ')];
    if marks.iter().any(|&(at, mark)| text[at] != mark) {
        return None;
    }
    let two = |at: usize| Some(number(&text[at..at + 2])? as i8);
    let month = MONTHS.iter().position(|month| *month == &text[3..6])? as i8 + 1;
    let date = Date::new(number(&text[7..11])? as i16, month, two(0)?).ok()?;
    let time = Time::new(two(12)?, two(15)?, two(18)?.min(59), 0).ok()?;
    let minutes = i32::from(two(22)?) * 60 + i32::from(two(24)?);
    let offset = match text[21] {
        b'+' => minutes * 60,
        b'-' => -minutes * 60,
        _ => return None,
    };
    let zone = TimeZone::fixed(Offset::from_seconds(offset).ok()?);
    Some(zone.to_timestamp(date.to_datetime(time)).ok()?.as_millisecond())
}

#[cfg(test)]
mod tests {
    use flow_plan::Value;

    use super::*;
    use crate::functions::testing::{NOW_MS, call, error, t};

    const LINE: &str = r#"127.0.0.1 - ann lee [23/Nov/2026:11:00:00 +0100] "GET /a?b=1 HTTP/1.1" 200 612"#;

    #[test]
    fn the_common_format() {
        assert_eq!(
            call("parse_common", vec![t(LINE)]),
            format!(
                "{{ip: \"127.0.0.1\", ident: null, user: \"ann lee\", time: @{NOW_MS}, \
                 request: \"GET /a?b=1 HTTP/1.1\", method: \"GET\", path: \"/a?b=1\", protocol: \"HTTP/1.1\", \
                 status: 200, bytes: 612}}"
            )
        );
    }

    #[test]
    fn the_combined_format_and_its_absences() {
        let tail = |rest: &str| {
            let shown = call("parse_combined", vec![t(&format!("{LINE}{rest}"))]);
            shown[shown.find("bytes").expect("bytes")..].to_owned()
        };
        assert_eq!(
            tail(r#" "http://x/" "curl \"8\"""#),
            r#"bytes: 612, referrer: "http://x/", agent: "curl \\\"8\\\""}"#
        );
        assert_eq!(tail(r#" "-" "-""#), "bytes: 612, referrer: null, agent: null}");
        assert_eq!(tail(""), "bytes: 612, referrer: null, agent: null}");
        assert_eq!(tail(r#" "-" "x" 0.003 more"#), "bytes: 612, referrer: null, agent: \"x\"}");
    }

    #[test]
    fn requests_that_are_no_http() {
        let line = b"::1 - - [23/Nov/2026:10:00:00 +0000] \"\\x16\\x03\xff\" 400 -";
        let shown = call("parse_combined", vec![Value::Text(line.as_slice().into())]);
        assert!(
            shown.contains("method: null, path: null, protocol: null, status: 400, bytes: null"),
            "{shown}"
        );
    }

    #[test]
    fn other_lines_fail_and_no_cut_panics() {
        assert_eq!(
            error("parse_common", vec![t("garbage")]),
            "`garbage` is not a line of an access log in the common format"
        );
        let line = format!(r#"{LINE} "-" "curl""#);
        for end in 0..LINE.len() {
            let _ = common(&line.as_bytes()[..end]);
            let _ = common(&line.as_bytes()[end..]);
        }
        for time in ["31/Feb/2026:10:00:00 +0000", "23/Nov/2026:25:00:00 +0000", "23/Nov/2026:10:00:00 +9999"]
        {
            assert_eq!(parse_time(time.as_bytes()), None, "{time}");
        }
        error("parse_combined", vec![t(&format!("{LINE} \"unclosed"))]);
    }
}
