//! Text as a whole and in characters.

use std::sync::Arc;

use flow_plan::function::{Functions, Plain, PlainAnswer, PreparedPlain};
use memchr::memmem;

use super::super::chars::{count, end_range, prefix, slice_range, truncated};
use super::super::regexes::write_replaced;
use super::super::text::{all_blank, is_lower, is_upper, position_of, trimmed, write_lower, write_upper};
use super::{bool, int, text};

pub fn add(functions: &mut Functions) {
    functions.add_plain("lower", lower);
    functions.add_plain("upper", upper);
    functions.add_plain("trim", trim);
    functions.add_plain("trim_start", trim_start);
    functions.add_plain("trim_end", trim_end);
    functions.add_plain("strip_prefix", strip_prefix);
    functions.add_plain("strip_suffix", strip_suffix);
    functions.add_plain("is_blank", is_blank);
    functions.add_plain("starts_with", starts_with);
    functions.add_plain("ends_with", ends_with);
    functions.add_prepared("contains", contains);
    functions.add_plain("index_of", index_of);
    functions.add_plain("replace", replace);
    functions.add_plain("replace_all", replace_all);
    functions.add_plain("len", len);
    functions.add_plain("byte_len", byte_len);
    functions.add_plain("slice", slice);
    functions.add_plain("first", first);
    functions.add_plain("last", last);
    functions.add_plain("truncate", truncate);
    functions.add_plain("truncate_bytes", truncate_bytes);
}

fn lower<'a>(args: &[Plain<'a>], buffer: &mut Vec<u8>) -> PlainAnswer<'a> {
    changed(args, buffer, is_lower, write_lower)
}

fn upper<'a>(args: &[Plain<'a>], buffer: &mut Vec<u8>) -> PlainAnswer<'a> {
    changed(args, buffer, is_upper, write_upper)
}

fn changed<'a>(
    args: &[Plain<'a>],
    buffer: &mut Vec<u8>,
    is_done: fn(&[u8]) -> bool,
    write: fn(&[u8], &mut Vec<u8>),
) -> PlainAnswer<'a> {
    let [Plain::Text(value)] = args else { return PlainAnswer::Unsure };
    if is_done(value) {
        return text(value);
    }
    write(value, buffer);
    PlainAnswer::Written
}

fn trim<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    trim_sides(args, true, true)
}

fn trim_start<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    trim_sides(args, true, false)
}

fn trim_end<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    trim_sides(args, false, true)
}

fn trim_sides<'a>(args: &[Plain<'a>], at_start: bool, at_end: bool) -> PlainAnswer<'a> {
    match args {
        [Plain::Text(value)] => text(&value[trimmed(value, None, at_start, at_end)]),
        [Plain::Text(value), Plain::Text(chars)] => {
            text(&value[trimmed(value, Some(chars), at_start, at_end)])
        }
        _ => PlainAnswer::Unsure,
    }
}

fn strip_prefix<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    let [Plain::Text(value), Plain::Text(prefix)] = args else { return PlainAnswer::Unsure };
    text(value.strip_prefix(*prefix).unwrap_or(value))
}

fn strip_suffix<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    let [Plain::Text(value), Plain::Text(suffix)] = args else { return PlainAnswer::Unsure };
    text(value.strip_suffix(*suffix).unwrap_or(value))
}

fn is_blank<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    match args {
        [Plain::Null] => bool(true),
        [Plain::Text(value)] => bool(all_blank(value)),
        _ => PlainAnswer::Unsure,
    }
}

fn starts_with<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    let [Plain::Text(value), Plain::Text(prefix)] = args else { return PlainAnswer::Unsure };
    bool(value.starts_with(prefix))
}

fn ends_with<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    let [Plain::Text(value), Plain::Text(suffix)] = args else { return PlainAnswer::Unsure };
    bool(value.ends_with(suffix))
}

/// A searcher for a constant text is made once.
fn contains(constants: &[Option<Plain<'_>>]) -> Option<PreparedPlain> {
    let form: PreparedPlain = match constants {
        [_, Some(Plain::Text(what))] => {
            let finder = memmem::Finder::new(what).into_owned();
            Arc::new(move |args, _| match args {
                [Plain::Text(value), _] => bool(finder.find(value).is_some()),
                _ => PlainAnswer::Unsure,
            })
        }
        _ => Arc::new(|args, _| match args {
            [Plain::Text(value), Plain::Text(what)] => bool(memmem::find(value, what).is_some()),
            _ => PlainAnswer::Unsure,
        }),
    };
    Some(form)
}

fn index_of<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    let [Plain::Text(value), Plain::Text(what)] = args else { return PlainAnswer::Unsure };
    position_of(value, what).map_or(PlainAnswer::Value(Plain::Null), int)
}

fn replace<'a>(args: &[Plain<'a>], buffer: &mut Vec<u8>) -> PlainAnswer<'a> {
    replace_up_to(args, buffer, 1)
}

fn replace_all<'a>(args: &[Plain<'a>], buffer: &mut Vec<u8>) -> PlainAnswer<'a> {
    replace_up_to(args, buffer, usize::MAX)
}

fn replace_up_to<'a>(args: &[Plain<'a>], buffer: &mut Vec<u8>, limit: usize) -> PlainAnswer<'a> {
    let [Plain::Text(value), Plain::Text(what), Plain::Text(with)] = args else {
        return PlainAnswer::Unsure;
    };
    match write_replaced(value, what, with, limit, buffer) {
        Ok(true) => PlainAnswer::Written,
        Ok(false) => text(value),
        Err(_) => PlainAnswer::Fails,
    }
}

fn len<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    let [Plain::Text(value)] = args else { return PlainAnswer::Unsure };
    int(count(value) as i64)
}

fn byte_len<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    let [Plain::Text(value)] = args else { return PlainAnswer::Unsure };
    int(value.len() as i64)
}

fn slice<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    match args {
        [Plain::Text(value), Plain::Int(from), Plain::Null] => text(&value[slice_range(value, *from, None)]),
        [Plain::Text(value), Plain::Int(from), Plain::Int(to)] => {
            text(&value[slice_range(value, *from, Some(*to))])
        }
        _ => PlainAnswer::Unsure,
    }
}

fn first<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    let [Plain::Text(value), Plain::Int(wanted)] = args else { return PlainAnswer::Unsure };
    text(&value[end_range(value, *wanted, true)])
}

fn last<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    let [Plain::Text(value), Plain::Int(wanted)] = args else { return PlainAnswer::Unsure };
    text(&value[end_range(value, *wanted, false)])
}

fn truncate<'a>(args: &[Plain<'a>], buffer: &mut Vec<u8>) -> PlainAnswer<'a> {
    let [Plain::Text(value), Plain::Int(max), Plain::Text(suffix)] = args else {
        return PlainAnswer::Unsure;
    };
    let (end, room) = truncated(value, *max, suffix);
    if room == 0 {
        return text(&value[..end]);
    }
    buffer.extend_from_slice(&value[..end]);
    buffer.extend_from_slice(&suffix[..room]);
    PlainAnswer::Written
}

fn truncate_bytes<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    let [Plain::Text(value), Plain::Size(max)] = args else { return PlainAnswer::Unsure };
    text(&value[..prefix(value, usize::try_from(*max).unwrap_or(usize::MAX))])
}
