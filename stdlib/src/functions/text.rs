//! Text as a whole: case, ends, search, parts. Results are borrowed from the argument where they can be.

use std::borrow::Cow;
use std::ops::Range;

use flow_plan::Value;
use flow_plan::eval::{LIST_ITEMS_MAX, value_to_text, values_equal};
use flow_plan::function::{CallContext, Functions};
use memchr::memmem;

use super::args::{Answer, Text, check_bytes, check_items, fail, list, narrow, part, take, text, unexpected};
use super::chars::{count, pieces};
use super::{args, regexes};

pub fn add(functions: &mut Functions) {
    functions.add("lower", lower);
    functions.add("upper", upper);
    functions.add("title", title);
    functions.add("trim", trim);
    functions.add("trim_start", trim_start);
    functions.add("trim_end", trim_end);
    functions.add("strip_prefix", strip_prefix);
    functions.add("strip_suffix", strip_suffix);
    functions.add("is_blank", is_blank);
    functions.add("split", split);
    functions.add("join", join);
    functions.add("starts_with", starts_with);
    functions.add("ends_with", ends_with);
    functions.add("contains", contains);
    functions.add("index_of", index_of);
    functions.add("lines", lines);
    functions.add("words", words);
    functions.add("strip_ansi", strip_ansi);
}

/// Appends the valid parts of a text changed, the rest as it is.
fn map_valid(text: &[u8], out: &mut Vec<u8>, mut change: impl FnMut(&str, &mut Vec<u8>)) {
    for chunk in text.utf8_chunks() {
        change(chunk.valid(), out);
        out.extend_from_slice(chunk.invalid());
    }
}

/// Whether a text has the other case already; only said of ASCII.
pub fn is_lower(text: &[u8]) -> bool {
    !text.iter().any(|byte| !byte.is_ascii() || byte.is_ascii_uppercase())
}

/// As [`is_lower`].
pub fn is_upper(text: &[u8]) -> bool {
    !text.iter().any(|byte| !byte.is_ascii() || byte.is_ascii_lowercase())
}

/// Appends a text in lower case; broken bytes stay.
pub fn write_lower(text: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    if text.is_ascii() {
        out.extend_from_slice(text);
        out[start..].make_ascii_lowercase();
    } else {
        map_valid(text, out, |valid, out| out.extend_from_slice(valid.to_lowercase().as_bytes()));
    }
}

/// Appends a text in upper case; broken bytes stay.
pub fn write_upper(text: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    if text.is_ascii() {
        out.extend_from_slice(text);
        out[start..].make_ascii_uppercase();
    } else {
        map_valid(text, out, |valid, out| out.extend_from_slice(valid.to_uppercase().as_bytes()));
    }
}

fn lower<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    changed(text(value)?, is_lower, write_lower)
}

fn upper<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    changed(text(value)?, is_upper, write_upper)
}

/// A text as it is when it needs no change.
fn changed<'a>(value: Text<'a>, is_done: fn(&[u8]) -> bool, write: fn(&[u8], &mut Vec<u8>)) -> Answer<'a> {
    if is_done(&value) {
        return Ok(Value::Text(value));
    }
    let mut result = Vec::with_capacity(value.len());
    write(&value, &mut result);
    Ok(Value::Text(Cow::Owned(result)))
}

fn title<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    let mut inside = false;
    let mut buffer = [0; 4];
    let mut titled = Vec::new();
    map_valid(&text(value)?, &mut titled, |valid, result| {
        for c in valid.chars() {
            let mut put = |c: char| result.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
            if inside {
                c.to_lowercase().for_each(&mut put);
            } else {
                c.to_uppercase().for_each(&mut put);
            }
            // An apostrophe belongs to its word: "don't" has one capital letter.
            inside = c.is_alphanumeric() || (inside && (c == '\'' || c == '’'));
        }
    });
    Ok(Value::Text(Cow::Owned(titled)))
}

fn trim<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    trim_sides(args, true, true)
}

fn trim_start<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    trim_sides(args, true, false)
}

fn trim_end<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    trim_sides(args, false, true)
}

fn trim_sides(args: Vec<Value<'_>>, at_start: bool, at_end: bool) -> Answer<'_> {
    let mut args = args.into_iter();
    let (Some(value), chars, None) = (args.next(), args.next(), args.next()) else {
        return fail("expected 1 or 2 arguments");
    };
    let value = text(value)?;
    let chars = chars.map(text).transpose()?;
    let range = trimmed(&value, chars.as_deref(), at_start, at_end);
    Ok(Value::Text(narrow(value, range)))
}

/// What is left without the given characters (blanks when none are given) at one or both ends.
pub fn trimmed(value: &[u8], chars: Option<&[u8]>, at_start: bool, at_end: bool) -> Range<usize> {
    let cut = |piece: &[u8]| match chars {
        None => std::str::from_utf8(piece).is_ok_and(|c| c.chars().all(char::is_whitespace)),
        Some(chars) => pieces(chars).any(|other| other == piece),
    };
    // An ASCII byte is a character of its own wherever it stands, so that the usual ends need no decoding.
    let ascii_cut = |byte: u8| match chars {
        None => char::from(byte).is_whitespace(),
        Some(chars) => chars.contains(&byte),
    };
    let mut range = 0..value.len();
    if at_start {
        while let Some(byte) = value[range.clone()].first().filter(|byte| byte.is_ascii()) {
            if !ascii_cut(*byte) {
                break;
            }
            range.start += 1;
        }
        if value[range.clone()].first().is_some_and(|byte| !byte.is_ascii()) {
            let kept = pieces(&value[range.clone()]).skip_while(|piece| cut(piece));
            range.start = range.end - kept.map(<[u8]>::len).sum::<usize>();
        }
    }
    if at_end {
        while let Some(byte) = value[range.clone()].last().filter(|byte| byte.is_ascii()) {
            if !ascii_cut(*byte) {
                break;
            }
            range.end -= 1;
        }
        if value[range.clone()].last().is_some_and(|byte| !byte.is_ascii()) {
            let mut position = range.start;
            let mut end = range.start;
            for piece in pieces(&value[range.clone()]) {
                position += piece.len();
                if !cut(piece) {
                    end = position;
                }
            }
            range.end = end;
        }
    }
    range
}

fn strip_prefix<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value, prefix] = take(args)?;
    let (value, prefix) = (text(value)?, text(prefix)?);
    let start = if value.starts_with(&prefix) { prefix.len() } else { 0 };
    let end = value.len();
    Ok(Value::Text(narrow(value, start..end)))
}

fn strip_suffix<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value, suffix] = take(args)?;
    let (value, suffix) = (text(value)?, text(suffix)?);
    let end = value.len() - if value.ends_with(&suffix) { suffix.len() } else { 0 };
    Ok(Value::Text(narrow(value, 0..end)))
}

/// Whether there is nothing but blanks; a broken sequence is none.
pub fn all_blank(text: &[u8]) -> bool {
    text.utf8_chunks()
        .all(|chunk| chunk.invalid().is_empty() && chunk.valid().chars().all(char::is_whitespace))
}

fn is_blank<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    Ok(Value::Bool(match value {
        Value::Null => true,
        value => all_blank(&text(value)?),
    }))
}

fn split<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value, separator, limit] = take(args)?;
    let value = text(value)?;
    // A limit below 1 still gives the one part that the whole text is.
    let limit = usize::try_from(args::int(limit)?).unwrap_or(0).clamp(1, LIST_ITEMS_MAX);
    let ends: Vec<(usize, usize)> = match separator {
        Value::Text(separator) if separator.is_empty() => {
            let mut position = 0;
            let ends = pieces(&value).map(|piece| {
                position += piece.len();
                (position, position)
            });
            // Between the characters: the end of the last one is the end of the text.
            let inner = count(&value).saturating_sub(1);
            ends.take(inner.min(limit - 1)).collect()
        }
        Value::Text(separator) => memmem::find_iter(&value, separator.as_ref())
            .map(|at| (at, at + separator.len()))
            .take(limit - 1)
            .collect(),
        Value::Regex(regex) => {
            regex.find_iter(&value).map(|found| (found.start(), found.end())).take(limit - 1).collect()
        }
        other => return Err(unexpected("a string or a regex", &other)),
    };
    let mut parts = Vec::with_capacity(ends.len() + 1);
    let mut start = 0;
    for (end, next) in ends {
        parts.push(Value::Text(part(&value, start..end)));
        start = next;
    }
    let end = value.len();
    parts.push(Value::Text(narrow(value, start..end)));
    Ok(Value::List(parts))
}

fn join<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [items, separator] = take(args)?;
    let separator = text(separator)?;
    let mut joined = Vec::new();
    for (index, item) in list(items)?.into_iter().enumerate() {
        if index > 0 {
            joined.extend_from_slice(&separator);
        }
        value_to_text(&item, &mut joined);
        check_bytes(joined.len())?;
    }
    Ok(Value::Text(Cow::Owned(joined)))
}

fn starts_with<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value, prefix] = take(args)?;
    Ok(Value::Bool(text(value)?.starts_with(&text(prefix)?)))
}

fn ends_with<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value, suffix] = take(args)?;
    Ok(Value::Bool(text(value)?.ends_with(&text(suffix)?)))
}

fn contains<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value, what] = take(args)?;
    Ok(Value::Bool(match value {
        Value::Text(value) => memmem::find(&value, text(what)?.as_ref()).is_some(),
        Value::List(items) => items.iter().any(|item| values_equal(item, &what)),
        other => return Err(unexpected("a string or a list", &other)),
    }))
}

/// The position of the first occurrence in characters.
pub fn position_of(value: &[u8], what: &[u8]) -> Option<i64> {
    memmem::find(value, what).map(|at| count(&value[..at]) as i64)
}

fn index_of<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value, what] = take(args)?;
    let value = text(value)?;
    Ok(position_of(&value, &text(what)?).map_or(Value::Null, Value::Int))
}

fn lines<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    let value = text(value)?;
    let mut result = Vec::new();
    let mut start = 0;
    while start < value.len() {
        let newline = memchr::memchr(b'\n', &value[start..]).map(|at| start + at);
        let next = newline.map_or(value.len(), |at| at + 1);
        let mut end = newline.unwrap_or(value.len());
        if newline.is_some() && end > start && value[end - 1] == b'\r' {
            end -= 1;
        }
        result.push(Value::Text(part(&value, start..end)));
        check_items(result.len())?;
        start = next;
    }
    Ok(Value::List(result))
}

fn words<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    let value = text(value)?;
    let mut result = Vec::new();
    let mut start = None;
    let mut position = 0;
    for piece in pieces(&value) {
        let blank = std::str::from_utf8(piece).is_ok_and(|c| c.chars().all(char::is_whitespace));
        match (blank, start) {
            (true, Some(from)) => {
                result.push(Value::Text(part(&value, from..position)));
                check_items(result.len())?;
                start = None;
            }
            (false, None) => start = Some(position),
            _ => {}
        }
        position += piece.len();
    }
    if let Some(from) = start {
        result.push(Value::Text(part(&value, from..value.len())));
    }
    Ok(Value::List(result))
}

fn strip_ansi<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    let value = text(value)?;
    if memchr::memchr(0x1b, &value).is_none() {
        return Ok(Value::Text(value));
    }
    let stripped: Text<'a> = Cow::Owned(regexes::ansi().replace_all(&value, b"".as_slice()).into_owned());
    Ok(Value::Text(stripped))
}

#[cfg(test)]
mod tests {
    use flow_plan::Value;

    use crate::functions::testing::{call, error, i, r, t, texts};

    const BROKEN: &[u8] = b"A\xffB";

    #[test]
    fn case_is_unicode_aware_and_keeps_broken_bytes() {
        assert_eq!(call("lower", vec![t("ÄÖ STRASSE")]), "\"äö strasse\"");
        assert_eq!(call("upper", vec![t("straße")]), "\"STRASSE\"");
        assert_eq!(call("lower", vec![Value::Text(BROKEN.into())]), "\"a\\xffb\"");
        assert_eq!(call("title", vec![t("don't PANIC élan")]), "\"Don't Panic Élan\"");
    }

    #[test]
    fn trimming_keeps_what_is_inside() {
        assert_eq!(call("trim", vec![t("\u{a0} a b\t\n")]), "\"a b\"");
        assert_eq!(call("trim", vec![t("   ")]), "\"\"");
        assert_eq!(call("trim_start", vec![t("  a ")]), "\"a \"");
        assert_eq!(call("trim_end", vec![t(" a  ")]), "\" a\"");
        assert_eq!(call("trim", vec![t("[[a]b]"), t("[]")]), "\"a]b\"");
        assert_eq!(call("trim", vec![t("ñañ"), t("ñ")]), "\"a\"");
        assert_eq!(call("trim", vec![Value::Text(b" \xff ".as_slice().into())]), "\"\\xff\"");
    }

    #[test]
    fn affixes_are_taken_once() {
        assert_eq!(call("strip_prefix", vec![t("aab"), t("a")]), "\"ab\"");
        assert_eq!(call("strip_suffix", vec![t("a.log"), t(".log")]), "\"a\"");
        assert_eq!(call("strip_suffix", vec![t("a"), t("a.log")]), "\"a\"");
    }

    #[test]
    fn splitting_and_joining_are_each_others_reverse() {
        assert_eq!(call("split", vec![t("a,,b,"), t(","), i(100)]), r#"["a", "", "b", ""]"#);
        assert_eq!(call("split", vec![t("a,b,c"), t(","), i(2)]), r#"["a", "b,c"]"#);
        assert_eq!(call("split", vec![t("a,b"), t(","), i(-1)]), r#"["a,b"]"#);
        assert_eq!(call("split", vec![t("añb"), t(""), i(100)]), r#"["a", "ñ", "b"]"#);
        assert_eq!(call("split", vec![t("añb"), t(""), i(2)]), r#"["a", "ñb"]"#);
        assert_eq!(call("split", vec![t(""), t(","), i(100)]), r#"[""]"#);
        assert_eq!(call("split", vec![t(""), t(""), i(100)]), r#"[""]"#);
        assert_eq!(call("split", vec![t("a, b;c"), r("[,;] *"), i(100)]), r#"["a", "b", "c"]"#);
        assert_eq!(call("join", vec![texts(&["a", "", "b"]), t(",")]), "\"a,,b\"");
        assert_eq!(call("join", vec![Value::List(vec![i(1), Value::Null, t("x")]), t("-")]), "\"1--x\"");
        assert_eq!(error("split", vec![t("a"), i(1), i(1)]), "expected a string or a regex, found an int");
    }

    #[test]
    fn positions_are_in_characters() {
        assert_eq!(call("index_of", vec![t("añb"), t("b")]), "2");
        assert_eq!(call("index_of", vec![t("añb"), t("")]), "0");
        assert_eq!(call("index_of", vec![t("añb"), t("z")]), "null");
    }

    #[test]
    fn lines_end_in_either_way() {
        assert_eq!(call("lines", vec![t("a\r\nb\n\nc")]), r#"["a", "b", "", "c"]"#);
        assert_eq!(call("lines", vec![t("a\r")]), r#"["a\r"]"#);
        assert_eq!(call("lines", vec![t("")]), "[]");
        assert_eq!(call("words", vec![t(" a  ñb\t")]), r#"["a", "ñb"]"#);
    }

    #[test]
    fn terminal_sequences_are_taken_out() {
        assert_eq!(call("strip_ansi", vec![t("\u{1b}[1;31mred\u{1b}[0m \u{1b}]0;title\u{7}x")]), "\"red x\"");
        assert_eq!(call("strip_ansi", vec![t("plain")]), "\"plain\"");
    }

    #[test]
    fn blank_is_also_null() {
        assert_eq!(call("is_blank", vec![Value::Null]), "true");
        assert_eq!(call("is_blank", vec![t(" \t")]), "true");
        assert_eq!(call("is_blank", vec![t("-")]), "false");
    }

    #[test]
    fn lists_contain_values() {
        assert_eq!(call("contains", vec![texts(&["a", "b"]), t("b")]), "true");
        assert_eq!(call("contains", vec![t("abc"), t("")]), "true");
        assert_eq!(error("contains", vec![i(1), i(1)]), "expected a string or a list, found an int");
    }
}
