//! What regexes are for: search, groups, replacement. All are linear in the length of the text.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::LazyLock;

use flow_plan::Value;
use flow_plan::function::{CallContext, EvalError, Functions};
use memchr::memmem;
use regex::bytes::{Captures, Regex};

use super::args::{Answer, Text, check_bytes, collect, fail, part, regex, take, text, unexpected};

pub fn add(functions: &mut Functions) {
    functions.add("matches", matches);
    functions.add("find", find);
    functions.add("find_all", find_all);
    functions.add("extract", extract);
    functions.add("extract_all", extract_all);
    functions.add("replace", replace);
    functions.add("replace_all", replace_all);
}

/// The escape sequences of terminals: CSI, OSC and the short ones.
pub fn ansi() -> &'static Regex {
    static ANSI: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?-u)\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-Z\\^-~])")
            .expect("a fixed pattern")
    });
    &ANSI
}

fn matches<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value, pattern] = take(args)?;
    Ok(Value::Bool(regex(pattern)?.is_match(&text(value)?)))
}

fn find<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value, pattern] = take(args)?;
    let value = text(value)?;
    let found = regex(pattern)?.find(&value).map(|found| found.range());
    Ok(found.map_or(Value::Null, |range| Value::Text(part(&value, range))))
}

fn find_all<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value, pattern] = take(args)?;
    let (value, pattern) = (text(value)?, regex(pattern)?);
    let found = pattern.find_iter(&value).map(|found| Value::Text(part(&value, found.range())));
    collect(found)
}

/// The named groups that took part in a match.
fn groups<'a>(value: &Text<'a>, pattern: &Regex, captures: &Captures<'_>) -> Value<'a> {
    let named = pattern.capture_names().enumerate().filter_map(|(index, name)| {
        let range = captures.get(index)?.range();
        Some((Cow::Owned(name?.to_owned()), Value::Text(part(value, range))))
    });
    Value::Map(named.collect())
}

fn extract<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value, pattern] = take(args)?;
    let (value, pattern) = (text(value)?, regex(pattern)?);
    match pattern.captures(&value) {
        Some(captures) => Ok(groups(&value, &pattern, &captures)),
        None => fail("no match"),
    }
}

fn extract_all<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value, pattern] = take(args)?;
    let (value, pattern) = (text(value)?, regex(pattern)?);
    let found = pattern.captures_iter(&value).map(|captures| groups(&value, &pattern, &captures));
    collect(found)
}

fn replace<'a>(context: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    replace_up_to(context, args, 1)
}

fn replace_all<'a>(context: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    replace_up_to(context, args, usize::MAX)
}

fn replace_up_to<'a>(context: &mut dyn CallContext, args: Vec<Value<'a>>, limit: usize) -> Answer<'a> {
    let [value, what, with] = take(args)?;
    let value = text(value)?;
    let replaced = match (what, with) {
        (Value::Text(what), Value::Text(with)) => {
            let mut result = Vec::new();
            write_replaced(&value, &what, &with, limit, &mut result)?.then_some(result)
        }
        (Value::Regex(pattern), Value::Text(with)) if memchr::memchr(b'$', &with).is_none() => {
            let found = pattern.find_iter(&value).map(|found| found.range());
            substitute(&value, found.take(limit), |_, result| {
                result.extend_from_slice(&with);
                Ok(())
            })?
        }
        (Value::Regex(pattern), Value::Text(with)) => {
            // The replacement names groups: it is expanded anew for every match.
            let mut found = pattern.captures_iter(&value).take(limit).peekable();
            if found.peek().is_none() { None } else { Some(expand_groups(&value, found, &with)?) }
        }
        (Value::Regex(pattern), with @ Value::Lambda(_)) => {
            let found = pattern.find_iter(&value).map(|found| found.range());
            substitute(&value, found.take(limit), |range, result| {
                let found = Value::Text(part(&value, range));
                result.extend_from_slice(&text(context.call_lambda(&with, found)?)?);
                Ok(())
            })?
        }
        (Value::Text(_) | Value::Regex(_), other) => return Err(unexpected("a string or a lambda", &other)),
        (other, _) => return Err(unexpected("a string or a regex", &other)),
    };
    Ok(Value::Text(match replaced {
        Some(replaced) => Cow::Owned(replaced),
        None => value,
    }))
}

/// The text with something else at the given ranges; `None` when there are none.
fn substitute(
    value: &[u8],
    ranges: impl Iterator<Item = Range<usize>>,
    write: impl FnMut(Range<usize>, &mut Vec<u8>) -> Result<(), EvalError>,
) -> Result<Option<Vec<u8>>, EvalError> {
    let mut result = Vec::new();
    Ok(write_substituted(value, ranges, &mut result, write)?.then_some(result))
}

/// As [`substitute`], into a buffer that is empty; false, and the buffer stays empty, when there are no ranges.
fn write_substituted(
    value: &[u8],
    ranges: impl Iterator<Item = Range<usize>>,
    result: &mut Vec<u8>,
    mut write: impl FnMut(Range<usize>, &mut Vec<u8>) -> Result<(), EvalError>,
) -> Result<bool, EvalError> {
    let mut kept = None;
    for range in ranges {
        if kept.is_none() {
            result.reserve(value.len());
        }
        result.extend_from_slice(&value[kept.unwrap_or(0)..range.start]);
        kept = Some(range.end);
        write(range, result)?;
        check_bytes(result.len())?;
    }
    if let Some(kept) = kept {
        result.extend_from_slice(&value[kept..]);
    }
    Ok(kept.is_some())
}

/// Replaces up to `limit` occurrences of a text, into a buffer that is empty; false, and the buffer stays empty,
/// when there are none.
pub fn write_replaced(
    value: &[u8],
    what: &[u8],
    with: &[u8],
    limit: usize,
    result: &mut Vec<u8>,
) -> Result<bool, EvalError> {
    let found = memmem::find_iter(value, what).map(|at| at..at + what.len());
    write_substituted(value, found.take(limit), result, |_, result| {
        result.extend_from_slice(with);
        Ok(())
    })
}

/// The text with every match replaced by `with`, in which `$1`, `${name}` and `$$` are expanded.
fn expand_groups<'t>(
    value: &[u8],
    found: impl Iterator<Item = Captures<'t>>,
    with: &[u8],
) -> Result<Vec<u8>, EvalError> {
    let mut result = Vec::with_capacity(value.len());
    let mut kept = 0;
    for captures in found {
        // Group 0 is the match and always there.
        if let Some(whole) = captures.get(0) {
            result.extend_from_slice(&value[kept..whole.start()]);
            captures.expand(with, &mut result);
            kept = whole.end();
            check_bytes(result.len())?;
        }
    }
    result.extend_from_slice(&value[kept..]);
    Ok(result)
}

#[cfg(test)]
mod tests {
    use flow_plan::Value;
    use flow_plan::function::EvalError;

    use crate::functions::testing::{call, call_with, error, i, lambda, r, t};

    #[test]
    fn matches_are_found() {
        assert_eq!(call("matches", vec![t("abc"), r("b")]), "true");
        assert_eq!(call("find", vec![t("a1b22"), r(r"\d+")]), "\"1\"");
        assert_eq!(call("find", vec![t("abc"), r(r"\d+")]), "null");
        assert_eq!(call("find_all", vec![t("a1b22"), r(r"\d+")]), r#"["1", "22"]"#);
        assert_eq!(call("find_all", vec![t(""), r("x*")]), r#"[""]"#);
    }

    #[test]
    fn groups_that_took_part_are_given() {
        let pattern = r"(?<a>x)|(?<b>y)";
        assert_eq!(call("extract", vec![t("zy"), r(pattern)]), r#"{b: "y"}"#);
        assert_eq!(call("extract_all", vec![t("xy"), r(pattern)]), r#"[{a: "x"}, {b: "y"}]"#);
        assert_eq!(error("extract", vec![t("z"), r(pattern)]), "no match");
    }

    #[test]
    fn replacement_of_the_first_and_of_all() {
        assert_eq!(call("replace", vec![t("a.b.c"), t("."), t("$1")]), "\"a$1b.c\"");
        assert_eq!(call("replace_all", vec![t("a.b.c"), t("."), t("-")]), "\"a-b-c\"");
        assert_eq!(call("replace_all", vec![t("10 20"), r(r"(\d)0"), t("${1}$$")]), "\"1$ 2$\"");
        assert_eq!(call("replace", vec![t("ann bob"), r(r"(?<n>\w+)"), t("<$n>")]), "\"<ann> bob\"");
        assert_eq!(call("replace_all", vec![t("abc"), r("x"), t("$1")]), "\"abc\"");
        assert_eq!(call("replace_all", vec![t("ab"), t(""), t("-")]), "\"-a-b-\"");
        let broken = Value::Text(b"\xffa".as_slice().into());
        assert_eq!(call("replace_all", vec![broken, r("a"), t("b")]), "\"\\xffb\"");
    }

    #[test]
    fn a_lambda_makes_the_replacement_and_may_fail() {
        let double = |value: Value<'static>| match value {
            Value::Text(text) => Ok(Value::Text([text.as_ref(), text.as_ref()].concat().into())),
            _ => Err(EvalError::new("no text")),
        };
        assert_eq!(
            call_with("replace_all", vec![t("a1b2"), r(r"\d"), lambda()], &double),
            Ok("\"a11b22\"".into())
        );
        assert_eq!(
            call_with("replace", vec![t("a1b2"), r(r"\d"), lambda()], &double),
            Ok("\"a11b2\"".into())
        );
        let failing = |_| Err(EvalError::new("not a digit"));
        assert_eq!(
            call_with("replace", vec![t("a1"), r(r"\d"), lambda()], &failing),
            Err("not a digit".into())
        );
        assert_eq!(
            call_with("replace", vec![t("a1"), r(r"\d"), lambda()], &|_| Ok(i(1))),
            Err("expected a string, found an int".into())
        );
    }
}
