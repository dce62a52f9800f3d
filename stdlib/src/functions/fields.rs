//! Lines of fields: key=value, logfmt, CSV.

use std::borrow::Cow;

use flow_plan::Value;
use flow_plan::eval::into_text;
use flow_plan::function::{CallContext, EvalError, Functions};

use super::args::{Answer, Entries, Text, ascii, fail, list, shown, take, text};
use super::json;

pub fn add(functions: &mut Functions) {
    functions.add("parse_key_value", parse_key_value);
    functions.add("parse_logfmt", parse_logfmt);
    functions.add("parse_csv", parse_csv);
    functions.add("to_csv", to_csv);
}

fn parse_key_value<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value, field_separator, key_separator] = take(args)?;
    let (value, between, inside) = (text(value)?, text(field_separator)?, text(key_separator)?);
    Ok(Value::Map(read_fields(&value, &between, &inside, b"")?))
}

fn parse_logfmt<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    Ok(Value::Map(read_fields(&text(value)?, b" ", b"=", b"true")?))
}

/// Fields with `between` between them, and `inside` between key and value. Where a blank separates, several of
/// them do as one, and other white space does, too.
fn read_fields(
    line: &[u8],
    between: &[u8],
    inside: &[u8],
    alone: &'static [u8],
) -> Result<Entries<'static>, EvalError> {
    if between.is_empty() || inside.is_empty() {
        return fail("a separator cannot be empty");
    }
    let blank = between.trim_ascii().is_empty();
    let ends = |rest: &[u8]| {
        if blank { rest.first().is_some_and(u8::is_ascii_whitespace) } else { rest.starts_with(between) }
    };
    let mut entries = Entries::new();
    let mut rest = line.trim_ascii();
    while !rest.is_empty() {
        let key_end = (0..rest.len()).find(|&at| rest[at..].starts_with(inside) || ends(&rest[at..]));
        let key_end = key_end.unwrap_or(rest.len());
        let key = rest[..key_end].trim_ascii();
        rest = &rest[key_end..];
        let value: Text<'static> = match rest.strip_prefix(inside) {
            None => Cow::Borrowed(alone),
            Some(after) => {
                let (value, after) = read_value(after, ends)?;
                rest = after;
                value
            }
        };
        if key.is_empty() && !value.is_empty() && value != alone {
            return fail(format!("the value `{}` has no key", shown(&value)));
        }
        if !key.is_empty() {
            entries.push((Cow::Owned(String::from_utf8_lossy(key).into_owned()), Value::Text(value)));
        }
        rest = if blank { rest.trim_ascii_start() } else { rest.strip_prefix(between).unwrap_or(rest) };
    }
    Ok(json::last_wins(entries))
}

/// A value up to the next separator, or in double quotes; and what follows it.
fn read_value(rest: &[u8], ends: impl Fn(&[u8]) -> bool) -> Result<(Text<'static>, &[u8]), EvalError> {
    let Some(quoted) = rest.strip_prefix(b"\"") else {
        let end = (0..rest.len()).find(|&at| ends(&rest[at..])).unwrap_or(rest.len());
        return Ok((Cow::Owned(rest[..end].trim_ascii_end().to_vec()), &rest[end..]));
    };
    let mut value = Vec::new();
    let mut bytes = quoted.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => {
                let after = &quoted[at + 1..];
                if !after.is_empty() && !ends(after) {
                    return fail(format!("`{}` follows a closing quote", shown(after)));
                }
                return Ok((Cow::Owned(value), after));
            }
            b'\\' => match bytes.next() {
                Some((_, b'n')) => value.push(b'\n'),
                Some((_, b't')) => value.push(b'\t'),
                Some((_, b'r')) => value.push(b'\r'),
                Some((_, other @ (b'"' | b'\\'))) => value.push(*other),
                Some((_, other)) => value.extend_from_slice(&[b'\\', *other]),
                None => break,
            },
            other => value.push(*other),
        }
    }
    fail(format!("the quote before `{}` is never closed", shown(quoted)))
}

fn parse_csv<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value, separator] = take(args)?;
    let separator = ascii(separator)?;
    let value = text(value)?;
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).delimiter(separator).from_reader(value.as_ref());
    let mut record = csv::ByteRecord::new();
    let read = reader.read_byte_record(&mut record);
    match read {
        Ok(true) => {}
        Ok(false) => return Ok(Value::List(vec![Value::Text(Cow::Borrowed(b"".as_slice()))])),
        Err(error) => return fail(format!("`{}` is not CSV: {error}", shown(&value))),
    }
    let fields = record.iter().map(|field| Value::Text(Cow::Owned(field.to_vec()))).collect();
    let mut rest = csv::ByteRecord::new();
    match reader.read_byte_record(&mut rest) {
        Ok(false) => Ok(Value::List(fields)),
        _ => fail(format!("`{}` is more than one line of CSV", shown(&value))),
    }
}

fn to_csv<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [items, separator] = take(args)?;
    let separator = ascii(separator)?;
    let items: Vec<Text<'_>> = list(items)?.into_iter().map(into_text).collect();
    let mut writer = csv::WriterBuilder::new().delimiter(separator).from_writer(Vec::new());
    if let Err(error) = writer.write_record(items.iter().map(AsRef::<[u8]>::as_ref)) {
        return fail(format!("cannot write CSV: {error}"));
    }
    match writer.into_inner() {
        Ok(mut line) => {
            line.pop_if(|byte| *byte == b'\n');
            Ok(Value::Text(Cow::Owned(line)))
        }
        Err(error) => fail(format!("cannot write CSV: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use flow_plan::Value;

    use crate::functions::testing::{call, error, i, t, texts};

    fn pairs(line: &str) -> String {
        call("parse_key_value", vec![t(line), t(" "), t("=")])
    }

    #[test]
    fn keys_and_values() {
        assert_eq!(pairs(r#"a=1  b="x \"y\" \\ \n" c d="#), r#"{a: "1", b: "x \"y\" \\ \n", c: "", d: ""}"#);
        assert_eq!(pairs("url=http://a/?b=c a=1 a=2"), r#"{url: "http://a/?b=c", a: "2"}"#);
        assert_eq!(pairs("  "), "{}");
        assert_eq!(
            call("parse_key_value", vec![t("a:1; b: 2;;c"), t(";"), t(":")]),
            r#"{a: "1", b: " 2", c: ""}"#
        );
        assert_eq!(call("parse_key_value", vec![t("a=>1||b=>2"), t("||"), t("=>")]), r#"{a: "1", b: "2"}"#);
    }

    #[test]
    fn logfmt_has_flags() {
        assert_eq!(
            call("parse_logfmt", vec![t(r#"level=info msg="it works" ok"#)]),
            r#"{level: "info", msg: "it works", ok: "true"}"#
        );
    }

    #[test]
    fn broken_fields_fail() {
        let parse = |line| error("parse_key_value", vec![t(line), t(" "), t("=")]);
        assert_eq!(parse(r#"a="b"#), "the quote before `b` is never closed");
        assert_eq!(parse(r#"a="b\"#), "the quote before `b\\` is never closed");
        assert_eq!(parse(r#"a="b"c"#), "`c` follows a closing quote");
        assert_eq!(parse("=x"), "the value `x` has no key");
        error("parse_key_value", vec![t("a=b"), t(""), t("=")]);
        error("parse_key_value", vec![t("a=b"), t(" "), t("")]);
    }

    #[test]
    fn csv_both_ways() {
        assert_eq!(
            call("parse_csv", vec![t("a,\"b,\"\"c\"\"\",,\n"), t(",")]),
            r#"["a", "b,\"c\"", "", ""]"#
        );
        assert_eq!(call("parse_csv", vec![t(""), t(",")]), r#"[""]"#);
        assert_eq!(call("parse_csv", vec![t("a|b"), t("|")]), r#"["a", "b"]"#);
        assert_eq!(call("to_csv", vec![texts(&["a", "b,c", "d\"e"]), t(",")]), r#""a,\"b,c\",\"d\"\"e\"""#);
        assert_eq!(call("to_csv", vec![Value::List(vec![i(1), Value::Null]), t(";")]), r#""1;""#);
        error("parse_csv", vec![t("a\nb"), t(",")]);
        error("parse_csv", vec![t("a"), t("ab")]);
        error("parse_csv", vec![t("a"), t("")]);
    }
}
