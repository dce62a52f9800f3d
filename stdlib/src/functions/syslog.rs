//! Lines of syslog: RFC 5424, and what goes by the name of RFC 3164, with or without its priority.

use std::borrow::Cow;

use flow_plan::Value;
use flow_plan::function::{CallContext, EvalError, Functions};
use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

use super::args::{Answer, Entries, fail, read, shown, take, text};
use super::{json, time};

pub fn add(functions: &mut Functions) {
    functions.add("parse_syslog", parse_syslog);
}

/// A message taken apart; parts that are absent or `-` are `None`.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Message<'a> {
    /// 1 for RFC 5424.
    pub version: Option<u8>,
    /// Facility times 8 plus severity.
    pub priority: Option<u8>,
    /// Milliseconds since 1970 UTC.
    pub time_ms: Option<i64>,
    pub host: Option<&'a [u8]>,
    pub app: Option<&'a [u8]>,
    pub pid: Option<&'a [u8]>,
    pub msg_id: Option<&'a [u8]>,
    /// Structured data by element; values without their escapes.
    pub data: Data<'a>,
    pub message: &'a [u8],
}

/// Elements, each with its parameters.
pub(crate) type Data<'a> = Vec<(&'a [u8], Vec<Param<'a>>)>;

/// A name with its value.
pub(crate) type Param<'a> = (&'a [u8], Cow<'a, [u8]>);

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];

const SEVERITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

const MONTHS: [&[u8]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

impl Message<'_> {
    pub fn facility(&self) -> Option<&'static str> {
        self.priority.and_then(|priority| FACILITIES.get(usize::from(priority / 8)).copied())
    }

    pub fn severity(&self) -> Option<&'static str> {
        self.priority.map(|priority| SEVERITIES[usize::from(priority % 8)])
    }
}

/// Takes a line apart. Fails for a line that has neither a priority nor a time.
pub(crate) fn parse(line: &[u8], now_ms: i64) -> Result<Message<'_>, EvalError> {
    let line = line.trim_ascii_end();
    let not_syslog = |why: &str| EvalError::new(format!("`{}` is not syslog: {why}", shown(line)));
    let (priority, rest) = match line.strip_prefix(b"<") {
        None => (None, line),
        Some(rest) => {
            let (priority, rest) =
                parse_priority(rest).ok_or_else(|| not_syslog("the priority is not 0 to 191"))?;
            (Some(priority), rest)
        }
    };
    match rest.strip_prefix(b"1 ") {
        Some(rest) if priority.is_some() => {
            parse_5424(rest, priority).map_err(|error| not_syslog(&error.message))
        }
        _ => {
            let message = parse_3164(rest, priority, now_ms);
            match (message.priority, message.time_ms) {
                (None, None) => Err(not_syslog("it has neither a priority nor a time")),
                _ => Ok(message),
            }
        }
    }
}

fn parse_priority(rest: &[u8]) -> Option<(u8, &[u8])> {
    let end = rest.iter().take(4).position(|byte| *byte == b'>')?;
    let priority = parse_number(&rest[..end])?;
    Some((u8::try_from(priority).ok().filter(|priority| *priority < 192)?, &rest[end + 1..]))
}

fn parse_number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 9 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0')))
}

/// The word up to the next blank, and what follows the blank.
fn word(rest: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b' ', rest) {
        Some(end) => (&rest[..end], &rest[end + 1..]),
        None => (rest, b""),
    }
}

/// A part, unless it is `-`.
fn known(word: &[u8]) -> Option<&[u8]> {
    Some(word).filter(|word| !matches!(*word, b"-" | b""))
}

fn parse_5424(rest: &[u8], priority: Option<u8>) -> Result<Message<'_>, EvalError> {
    let (at, rest) = word(rest);
    let (host, rest) = word(rest);
    let (app, rest) = word(rest);
    let (pid, rest) = word(rest);
    let (msg_id, rest) = word(rest);
    let time_ms = match known(at).map(parse_timestamp) {
        Some(None) => return fail(format!("`{}` is no time", shown(at))),
        time_ms => time_ms.flatten(),
    };
    let (data, rest) = parse_data(rest)?;
    let message = rest.strip_prefix(b" ").unwrap_or(rest);
    Ok(Message {
        version: Some(1),
        priority,
        time_ms,
        host: known(host),
        app: known(app),
        pid: known(pid),
        msg_id: known(msg_id),
        data,
        message: message.strip_prefix(b"\xef\xbb\xbf").unwrap_or(message),
    })
}

fn parse_timestamp(word: &[u8]) -> Option<i64> {
    std::str::from_utf8(word).ok()?.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

/// `-`, or elements like `[id name="value"]` one after the other.
fn parse_data(mut rest: &[u8]) -> Result<(Data<'_>, &[u8]), EvalError> {
    let mut data = Data::new();
    if let Some(after) = rest.strip_prefix(b"-") {
        return Ok((data, after));
    }
    while let Some(after) = rest.strip_prefix(b"[") {
        let end = after.iter().position(|byte| matches!(byte, b' ' | b']'));
        let Some(end) = end else { return fail("`[` is never closed") };
        let id = &after[..end];
        let mut params = Vec::new();
        rest = &after[end..];
        loop {
            rest = rest.trim_ascii_start();
            if let Some(after) = rest.strip_prefix(b"]") {
                rest = after;
                break;
            }
            let Some(equals) = memchr::memmem::find(rest, b"=\"") else { return fail("`[` is never closed") };
            let (value, after) = parse_quoted(&rest[equals + 2..])?;
            params.push((&rest[..equals], value));
            rest = after;
        }
        data.push((id, params));
    }
    Ok((data, rest))
}

/// Up to the closing quote; `\"`, `\\` and `\]` stand for what follows the backslash.
fn parse_quoted(rest: &[u8]) -> Result<(Cow<'_, [u8]>, &[u8]), EvalError> {
    let mut value: Cow<'_, [u8]> = Cow::Borrowed(b"");
    let mut kept = 0;
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b'"', b'\\', &rest[at..]) {
        at += found;
        if rest[at] == b'"' {
            let last = &rest[kept..at];
            if kept == 0 {
                value = Cow::Borrowed(last);
            } else {
                value.to_mut().extend_from_slice(last);
            }
            return Ok((value, &rest[at + 1..]));
        }
        if matches!(rest.get(at + 1), Some(b'"' | b'\\' | b']')) {
            value.to_mut().extend_from_slice(&rest[kept..at]);
            kept = at + 1;
        }
        at = (at + 2).min(rest.len());
    }
    fail("a quote is never closed")
}

/// `Mmm dd hh:mm:ss host app[pid]: message`, and its relatives: RFC 3339 as time, no host, no time at all.
fn parse_3164(rest: &[u8], priority: Option<u8>, now_ms: i64) -> Message<'_> {
    let mut message = Message { priority, message: rest, ..Message::default() };
    let after_time = match parse_bsd_time(rest, now_ms) {
        Some((ms, after)) => {
            message.time_ms = Some(ms);
            after
        }
        None => {
            let (first, after) = word(rest);
            match parse_timestamp(first) {
                Some(ms) => {
                    message.time_ms = Some(ms);
                    after
                }
                // Without a time there is no telling what a host would be: everything but a tag is the message.
                None => {
                    take_tag(&mut message, rest);
                    return message;
                }
            }
        }
    };
    message.message = after_time;
    if !take_tag(&mut message, after_time) {
        let (host, after) = word(after_time);
        message.host = Some(host).filter(|host| !host.is_empty());
        message.message = after;
        take_tag(&mut message, after);
    }
    message
}

/// `app: `, `app[pid]: ` at the start of a text; whether there was one.
fn take_tag<'a>(message: &mut Message<'a>, rest: &'a [u8]) -> bool {
    let (tag, after) = word(rest);
    let Some(tag) = tag.strip_suffix(b":") else { return false };
    let (app, pid) = match tag.strip_suffix(b"]").and_then(|tag| Some((tag, memchr::memchr(b'[', tag)?))) {
        Some((tag, open)) => (&tag[..open], Some(&tag[open + 1..])),
        None => (tag, None),
    };
    if app.is_empty() {
        return false;
    }
    message.app = Some(app);
    message.pid = pid.filter(|pid| !pid.is_empty());
    message.message = after;
    true
}

/// `Oct 11 22:14:15 `, with the year that is nearest to now, in UTC.
fn parse_bsd_time(rest: &[u8], now_ms: i64) -> Option<(i64, &[u8])> {
    let (head, after) = rest.split_at_checked(15)?;
    let month = MONTHS.iter().position(|month| head.starts_with(month))? as i8 + 1;
    if head[3] != b' ' || head[6] != b' ' || head[9] != b':' || head[12] != b':' {
        return None;
    }
    let two = |at: usize| Some(parse_number(&head[at..at + 2])? as i8);
    let day = if head[4] == b' ' { parse_number(&head[5..6])? as i8 } else { two(4)? };
    let clock = Time::new(two(7)?, two(10)?, two(13)?.min(59), 0).ok()?;
    let after = match after {
        [] => after,
        [b' ', after @ ..] => after,
        // Cisco writes `Oct 11 22:14:15: `.
        [b':', b' ', after @ ..] => after,
        _ => return None,
    };
    let at = |year| {
        let civil = Date::new(year, month, day).ok()?.to_datetime(clock);
        Some(TimeZone::UTC.to_timestamp(civil).ok()?.as_millisecond())
    };
    Some((time::with_nearest_year(now_ms, at)?, after))
}

fn parse_syslog<'a>(context: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    let now_ms = context.now_ms();
    read(text(value)?, |line| parse(line, now_ms).map(|message| to_value(&message)))
}

fn to_value<'a>(message: &Message<'a>) -> Value<'a> {
    let optional = |text: Option<&'a [u8]>| text.map_or(Value::Null, |text| Value::Text(Cow::Borrowed(text)));
    let named = |name: Option<&'static str>| name.map_or(Value::Null, Value::text);
    let data: Entries<'a> = message
        .data
        .iter()
        .map(|(id, params)| {
            let params = params
                .iter()
                .map(|(name, value)| (String::from_utf8_lossy(name), Value::Text(value.clone())));
            (String::from_utf8_lossy(id), Value::Map(json::last_wins(params.collect())))
        })
        .collect();
    Value::Map(vec![
        ("version".into(), message.version.map_or(Value::Null, |version| Value::Int(i64::from(version)))),
        ("priority".into(), message.priority.map_or(Value::Null, |priority| Value::Int(i64::from(priority)))),
        ("facility".into(), named(message.facility())),
        ("severity".into(), named(message.severity())),
        ("time".into(), message.time_ms.map_or(Value::Null, Value::Time)),
        ("host".into(), optional(message.host)),
        ("app".into(), optional(message.app)),
        ("pid".into(), optional(message.pid)),
        ("msg_id".into(), optional(message.msg_id)),
        ("data".into(), Value::Map(json::last_wins(data))),
        ("message".into(), Value::Text(Cow::Borrowed(message.message))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::testing::{NOW_MS, call, error, t};

    fn read(line: &str) -> Message<'_> {
        parse(line.as_bytes(), NOW_MS).unwrap_or_else(|error| panic!("{}", error.message))
    }

    #[test]
    fn rfc_5424_with_structured_data() {
        let line = "<165>1 2026-11-23T10:00:00.003Z host app 8710 ID47 \
                    [a@1 k=\"v\" q=\"x\\\"y\\]\\z\"][b@2] \u{feff}An event";
        let message = read(line);
        assert_eq!(
            (message.version, message.priority, message.time_ms),
            (Some(1), Some(165), Some(NOW_MS + 3))
        );
        assert_eq!((message.facility(), message.severity()), (Some("local4"), Some("notice")));
        assert_eq!((message.host, message.app), (Some(b"host".as_slice()), Some(b"app".as_slice())));
        assert_eq!((message.pid, message.msg_id), (Some(b"8710".as_slice()), Some(b"ID47".as_slice())));
        assert_eq!(message.data[0].1[1], (b"q".as_slice(), Cow::Borrowed(b"x\"y]\\z".as_slice())));
        assert_eq!(message.data[1], (b"b@2".as_slice(), vec![]));
        assert_eq!(message.message, b"An event");
    }

    #[test]
    fn rfc_5424_with_nothing() {
        let message = read("<0>1 - - - - - -");
        let wanted = Message { version: Some(1), priority: Some(0), ..Message::default() };
        assert_eq!(message, wanted);
    }

    #[test]
    fn rfc_3164_in_its_variants() {
        let message = read("<34>Oct 11 22:14:15 mymachine su[12]: 'su root' failed");
        assert_eq!((message.facility(), message.severity()), (Some("auth"), Some("crit")));
        assert_eq!((message.host, message.app), (Some(b"mymachine".as_slice()), Some(b"su".as_slice())));
        assert_eq!((message.pid, message.message), (Some(b"12".as_slice()), b"'su root' failed".as_slice()));
        assert_eq!(read("<13>Feb  5 17:32:18 10.0.0.99 Use the BFG!").message, b"Use the BFG!");
        assert_eq!(read("<13>Feb  5 17:32:18 cron: done").host, None);
        assert_eq!(read("<13>2026-11-23T10:00:00Z host app: x").time_ms, Some(NOW_MS));
        assert_eq!(read("<13>just text").message, b"just text");
        assert_eq!(read("Nov 23 10:00:00 host app: x").priority, None);
        assert_eq!(read("Nov 23 10:00:00 host app: x").time_ms, Some(NOW_MS));
    }

    #[test]
    fn hostile_lines_fail() {
        for line in [
            "",
            "no syslog",
            "<192>x",
            "<9999>x",
            "<>x",
            "<1",
            "<1>1 yesterday h a p m -",
            "<1>1 - - - - - [a",
            "<1>1 - - - - - [a b=\"c",
            "<1>1 - - - - - [a b=\"c\\",
            "<1>1 - - - - - [a b",
        ] {
            assert!(parse(line.as_bytes(), NOW_MS).is_err(), "{line}");
        }
    }

    #[test]
    fn no_cut_of_a_line_panics() {
        let line = b"<165>1 2026-11-23T10:00:00.003Z host app 8710 ID47 [a@1 k=\"v\" q=\"x\\\"\"] \xff\xfe";
        let old = b"<34>Oct 11 22:14:15 mymachine su[12]: \xff";
        for line in [line.as_slice(), old.as_slice()] {
            for end in 0..line.len() {
                let _ = parse(&line[..end], NOW_MS);
                let _ = parse(&line[end..], NOW_MS);
            }
        }
    }

    #[test]
    fn the_function_gives_a_record() {
        let shown = call("parse_syslog", vec![t("<34>1 - h - - - [a k=\"v\"] m")]);
        assert_eq!(
            shown,
            "{version: 1, priority: 34, facility: \"auth\", severity: \"crit\", time: null, host: \"h\", \
             app: null, pid: null, msg_id: null, data: {a: {k: \"v\"}}, message: \"m\"}"
        );
        assert!(error("parse_syslog", vec![t("x")]).contains("neither a priority nor a time"));
    }
}
