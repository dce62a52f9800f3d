//! Text in characters: count, cut, turn, fill. A sequence of bytes that is not UTF-8 counts as one character and
//! stays as it is.

use std::borrow::Cow;
use std::ops::Range;

use flow_plan::Value;
use flow_plan::function::{CallContext, EvalError, Functions};

use super::args::{
    Answer, Text, check_bytes, collect, fail, int, narrow, part, size, take, text, unexpected,
};

pub fn add(functions: &mut Functions) {
    functions.add("len", len);
    functions.add("byte_len", byte_len);
    functions.add("slice", slice);
    functions.add("reverse", reverse);
    functions.add("chars", chars);
    functions.add("first", first);
    functions.add("last", last);
    functions.add("repeat", repeat);
    functions.add("stars", stars);
    functions.add("pad_start", pad_start);
    functions.add("pad_end", pad_end);
    functions.add("truncate", truncate);
    functions.add("truncate_bytes", truncate_bytes);
}

/// The characters of a text as its bytes; each broken sequence is one of them.
pub fn pieces(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.utf8_chunks().flat_map(|chunk| {
        let valid = chunk.valid();
        let chars = valid.char_indices().map(move |(at, c)| &valid.as_bytes()[at..at + c.len_utf8()]);
        let broken = Some(chunk.invalid()).filter(|bytes| !bytes.is_empty());
        chars.chain(broken)
    })
}

/// The number of characters.
pub fn count(text: &[u8]) -> usize {
    if text.is_ascii() {
        return text.len();
    }
    text.utf8_chunks()
        .map(|chunk| chunk.valid().chars().count() + usize::from(!chunk.invalid().is_empty()))
        .sum()
}

/// The position in bytes of a character by its number; the end when there are fewer.
pub fn position(text: &[u8], char: usize) -> usize {
    if text.is_ascii() {
        return char.min(text.len());
    }
    pieces(text).take(char).map(<[u8]>::len).sum()
}

/// The longest prefix of at most `max` bytes that ends between two characters.
pub fn prefix(text: &[u8], max: usize) -> usize {
    if text.len() <= max {
        return text.len();
    }
    // A character starts at most three bytes before a position inside it.
    let mut end = max;
    while end > 0 && max - end < 3 && is_continuation(text[end]) {
        end -= 1;
    }
    if is_continuation(text[end]) { max } else { end }
}

fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

fn len<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    let len = match &value {
        Value::Text(text) => count(text),
        Value::List(items) => items.len(),
        Value::Map(entries) => entries.len(),
        other => return Err(unexpected("a string, a list or a map", other)),
    };
    Ok(Value::Int(len as i64))
}

fn byte_len<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    Ok(Value::Int(text(value)?.len() as i64))
}

/// Where `from` and `to` lie among `len` things: negative ones from the end, others moved inside.
fn bounds(from: i64, to: Option<i64>, len: usize) -> (usize, usize) {
    let inside = |at: i64| {
        let at = if at < 0 { at.saturating_add(len as i64) } else { at };
        at.clamp(0, len as i64) as usize
    };
    let start = inside(from);
    let end = to.map_or(len, inside);
    (start, end.max(start))
}

/// The bytes of the characters from one number to before another one.
pub fn slice_range(text: &[u8], from: i64, to: Option<i64>) -> Range<usize> {
    let (start, end) = bounds(from, to, count(text));
    let start_byte = position(text, start);
    start_byte..start_byte + position(&text[start_byte..], end - start)
}

fn slice<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value, from, to] = take(args)?;
    let from = int(from)?;
    let to = match to {
        Value::Null => None,
        to => Some(int(to)?),
    };
    match value {
        Value::Text(text) => {
            let range = slice_range(&text, from, to);
            Ok(Value::Text(narrow(text, range)))
        }
        Value::List(mut items) => {
            let (start, end) = bounds(from, to, items.len());
            items.truncate(end);
            items.drain(..start);
            Ok(Value::List(items))
        }
        other => Err(unexpected("a string or a list", &other)),
    }
}

fn reverse<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    match value {
        Value::Text(text) => {
            let mut reversed = vec![0; text.len()];
            let mut end = text.len();
            for piece in pieces(&text) {
                reversed[end - piece.len()..end].copy_from_slice(piece);
                end -= piece.len();
            }
            Ok(Value::Text(Cow::Owned(reversed)))
        }
        Value::List(mut items) => {
            items.reverse();
            Ok(Value::List(items))
        }
        other => Err(unexpected("a string or a list", &other)),
    }
}

fn chars<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    let text = text(value)?;
    let mut start = 0;
    let chars = pieces(&text).map(|piece| {
        start += piece.len();
        Value::Text(part(&text, start - piece.len()..start))
    });
    collect(chars)
}

/// The bytes of so many characters at one of the ends.
pub fn end_range(text: &[u8], wanted: i64, at_start: bool) -> Range<usize> {
    let wanted = usize::try_from(wanted).unwrap_or(0);
    if at_start {
        0..position(text, wanted)
    } else {
        position(text, count(text).saturating_sub(wanted))..text.len()
    }
}

/// One of the ends of a text or list: the item there when no count is given, else so many of them.
fn end_of(args: Vec<Value<'_>>, at_start: bool) -> Answer<'_> {
    let mut args = args.into_iter();
    match (args.next(), args.next(), args.next()) {
        (Some(Value::List(mut items)), None, None) => {
            let item = if at_start && !items.is_empty() { Some(items.swap_remove(0)) } else { items.pop() };
            Ok(item.unwrap_or(Value::Null))
        }
        (Some(Value::List(mut items)), Some(wanted), None) => {
            let wanted = usize::try_from(int(wanted)?).unwrap_or(0).min(items.len());
            if at_start {
                items.truncate(wanted);
            } else {
                items.drain(..items.len() - wanted);
            }
            Ok(Value::List(items))
        }
        (Some(Value::Text(text)), Some(wanted), None) => {
            let range = end_range(&text, int(wanted)?, at_start);
            Ok(Value::Text(narrow(text, range)))
        }
        (Some(other), _, None) => Err(unexpected("a list, or a string and a count", &other)),
        _ => fail("expected 1 or 2 arguments"),
    }
}

fn first<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    end_of(args, true)
}

fn last<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    end_of(args, false)
}

/// A text several times.
fn repeated(text: &[u8], count: i64) -> Result<Vec<u8>, EvalError> {
    let count = usize::try_from(count).unwrap_or(0);
    check_bytes(text.len().saturating_mul(count))?;
    Ok(text.repeat(count))
}

fn repeat<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value, count] = take(args)?;
    Ok(Value::Text(Cow::Owned(repeated(&text(value)?, int(count)?)?)))
}

fn stars<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [count] = take(args)?;
    Ok(Value::Text(Cow::Owned(repeated(b"*", int(count)?)?)))
}

/// What is missing to `width` characters, made of the characters of `with`.
fn filling(value: &[u8], width: i64, with: &[u8]) -> Result<Vec<u8>, EvalError> {
    if with.is_empty() {
        return fail("cannot fill with an empty string");
    }
    let missing = width.saturating_sub(count(value) as i64).max(0);
    let unit = count(with) as i64;
    let mut filling = repeated(with, missing / unit)?;
    filling.extend_from_slice(&with[..position(with, (missing % unit) as usize)]);
    Ok(filling)
}

fn pad_start<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value, width, with] = take(args)?;
    let value = text(value)?;
    let mut padded = filling(&value, int(width)?, &text(with)?)?;
    if padded.is_empty() {
        return Ok(Value::Text(value));
    }
    padded.extend_from_slice(&value);
    Ok(Value::Text(Cow::Owned(padded)))
}

fn pad_end<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value, width, with] = take(args)?;
    let mut value = text(value)?;
    let filling = filling(&value, int(width)?, &text(with)?)?;
    if !filling.is_empty() {
        value.to_mut().extend_from_slice(&filling);
    }
    Ok(Value::Text(value))
}

/// How many bytes of a text and how many of its suffix make at most `max` characters; nothing of the suffix when
/// nothing has to be cut.
pub fn truncated(value: &[u8], max: i64, suffix: &[u8]) -> (usize, usize) {
    let max = usize::try_from(max).unwrap_or(0);
    if position(value, max) == value.len() {
        return (value.len(), 0);
    }
    (position(value, max.saturating_sub(count(suffix))), position(suffix, max))
}

fn truncate<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value, max, suffix] = take(args)?;
    let (value, suffix) = (text(value)?, text(suffix)?);
    let (end, room) = truncated(&value, int(max)?, &suffix);
    Ok(Value::Text(with_suffix(value, end, &suffix[..room])))
}

fn truncate_bytes<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value, max] = take(args)?;
    let value = text(value)?;
    let end = prefix(&value, usize::try_from(size(max)?).unwrap_or(usize::MAX));
    Ok(Value::Text(narrow(value, 0..end)))
}

fn with_suffix<'a>(value: Text<'a>, end: usize, suffix: &[u8]) -> Text<'a> {
    let mut cut = narrow(value, 0..end);
    if !suffix.is_empty() {
        cut.to_mut().extend_from_slice(suffix);
    }
    cut
}

#[cfg(test)]
mod tests {
    use flow_plan::Value;

    use crate::functions::testing::{call, error, i, ints, t};

    fn broken() -> Value<'static> {
        Value::Text(b"a\xff\xfe\xc3\xb1b".as_slice().into())
    }

    #[test]
    fn a_broken_sequence_is_one_character_and_stays() {
        assert_eq!(call("len", vec![broken()]), "5");
        assert_eq!(call("byte_len", vec![broken()]), "6");
        assert_eq!(call("slice", vec![broken(), i(1), i(2)]), "\"\\xff\"");
        assert_eq!(call("reverse", vec![broken()]), "\"b\\xc3\\xb1\\xfe\\xffa\"");
        assert_eq!(call("chars", vec![broken()]), r#"["a", "\xff", "\xfe", "ñ", "b"]"#);
    }

    #[test]
    fn slices_move_inside() {
        assert_eq!(call("slice", vec![t("añb"), i(-2), Value::Null]), "\"ñb\"");
        assert_eq!(call("slice", vec![t("añb"), i(1), i(99)]), "\"ñb\"");
        assert_eq!(call("slice", vec![t("añb"), i(2), i(1)]), "\"\"");
        assert_eq!(call("slice", vec![t("añb"), i(i64::MIN), i(i64::MAX)]), "\"añb\"");
        assert_eq!(call("slice", vec![ints(&[1, 2, 3]), i(-2), i(-1)]), "[2]");
        error("slice", vec![Value::Null, i(0), Value::Null]);
    }

    #[test]
    fn ends_of_text_and_lists() {
        assert_eq!(call("first", vec![t("añb"), i(2)]), "\"añ\"");
        assert_eq!(call("last", vec![t("añb"), i(2)]), "\"ñb\"");
        assert_eq!(call("last", vec![t("ab"), i(9)]), "\"ab\"");
        assert_eq!(call("first", vec![t("ab"), i(-1)]), "\"\"");
        assert_eq!(call("first", vec![ints(&[1, 2, 3])]), "1");
        assert_eq!(call("last", vec![ints(&[1, 2, 3])]), "3");
        assert_eq!(call("first", vec![ints(&[])]), "null");
        assert_eq!(call("last", vec![ints(&[1, 2, 3]), i(2)]), "[2, 3]");
        error("first", vec![t("text alone")]);
    }

    #[test]
    fn nothing_grows_beyond_its_bound() {
        assert_eq!(call("repeat", vec![t("ab"), i(3)]), "\"ababab\"");
        assert_eq!(call("repeat", vec![t("ab"), i(-3)]), "\"\"");
        assert_eq!(call("repeat", vec![t(""), i(i64::MAX)]), "\"\"");
        for (name, args) in [
            ("repeat", vec![t("ab"), i(i64::MAX)]),
            ("repeat", vec![t("ab"), i(1 << 26)]),
            ("stars", vec![i(i64::MAX)]),
            ("pad_start", vec![t("a"), i(i64::MAX), t(" ")]),
            ("pad_end", vec![t("a"), i(i64::MAX), t("ab")]),
        ] {
            assert!(error(name, args).contains("longer than 64 MiB"), "{name}");
        }
    }

    #[test]
    fn padding_counts_characters() {
        assert_eq!(call("pad_start", vec![t("ñ"), i(4), t("ab")]), "\"abañ\"");
        assert_eq!(call("pad_end", vec![t("ñ"), i(3), t("-")]), "\"ñ--\"");
        assert_eq!(call("pad_end", vec![t("long"), i(-3), t("-")]), "\"long\"");
        error("pad_end", vec![t("a"), i(3), t("")]);
    }

    #[test]
    fn truncation_counts_its_suffix() {
        assert_eq!(call("truncate", vec![t("abcdef"), i(4), t("…")]), "\"abc…\"");
        assert_eq!(call("truncate", vec![t("abcd"), i(4), t("…")]), "\"abcd\"");
        assert_eq!(call("truncate", vec![t("abcdef"), i(2), t("...")]), "\"..\"");
        assert_eq!(call("truncate", vec![t("abcdef"), i(-1), t("")]), "\"\"");
        assert_eq!(call("truncate_bytes", vec![t("añb"), Value::Size(2)]), "\"a\"");
        assert_eq!(call("truncate_bytes", vec![t("añb"), Value::Size(3)]), "\"añ\"");
        assert_eq!(call("truncate_bytes", vec![t("añb"), Value::Size(u64::MAX)]), "\"añb\"");
        let continuations = Value::Text([0x80; 9].as_slice().into());
        assert_eq!(call("len", vec![continuations.clone()]), "9");
        assert!(call("truncate_bytes", vec![continuations, Value::Size(5)]).len() > 5 * 4);
    }
}
