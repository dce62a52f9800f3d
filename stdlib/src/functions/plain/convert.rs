//! Conversions between types.

use flow_plan::eval::{duration_from_text, size_from_text, value_to_text};
use flow_plan::function::{Functions, Plain, PlainAnswer};

use super::super::convert::{parse_bool, parse_float, parse_int, whole_int};
use super::{bool, float, int, or_fails, text, to_value};

pub fn add(functions: &mut Functions) {
    functions.add_plain("int", to_int);
    functions.add_plain("float", to_float);
    functions.add_plain("text", to_text);
    functions.add_plain("bool", to_bool);
    functions.add_plain("duration", duration);
    functions.add_plain("size", size);
    functions.add_plain("type_of", type_of);
    functions.add_plain("coalesce", coalesce);
}

fn to_int<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    match args {
        [Plain::Text(text)] => or_fails(parse_int(text).ok(), int),
        [Plain::Int(number)] => int(*number),
        [Plain::Float(number)] => or_fails(whole_int(number.trunc()), int),
        [Plain::Bool(value)] => int(i64::from(*value)),
        [Plain::Size(bytes)] => or_fails(i64::try_from(*bytes).ok(), int),
        [Plain::Null] => PlainAnswer::Value(Plain::Null),
        _ => PlainAnswer::Unsure,
    }
}

fn to_float<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    match args {
        [Plain::Text(text)] => or_fails(parse_float(text), float),
        [Plain::Float(number)] => float(*number),
        [Plain::Int(number)] => float(*number as f64),
        [Plain::Null] => PlainAnswer::Value(Plain::Null),
        _ => PlainAnswer::Unsure,
    }
}

fn to_text<'a>(args: &[Plain<'a>], buffer: &mut Vec<u8>) -> PlainAnswer<'a> {
    match args {
        [Plain::Text(value)] => text(value),
        [Plain::Bool(true)] => text(b"true"),
        [Plain::Bool(false)] => text(b"false"),
        [Plain::Null] => PlainAnswer::Value(Plain::Null),
        [value] => {
            value_to_text(&to_value(*value), buffer);
            PlainAnswer::Written
        }
        _ => PlainAnswer::Unsure,
    }
}

fn to_bool<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    match args {
        [Plain::Text(text)] => or_fails(parse_bool(text), bool),
        [Plain::Bool(value)] => bool(*value),
        [Plain::Int(number)] => bool(*number != 0),
        [Plain::Null] => PlainAnswer::Value(Plain::Null),
        _ => PlainAnswer::Unsure,
    }
}

fn duration<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    let [Plain::Text(text)] = args else { return PlainAnswer::Unsure };
    let Ok(text) = str::from_utf8(text) else { return PlainAnswer::Unsure };
    or_fails(duration_from_text(text.trim()), |ns| PlainAnswer::Value(Plain::Duration(ns)))
}

fn size<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    let [Plain::Text(text)] = args else { return PlainAnswer::Unsure };
    let Ok(text) = str::from_utf8(text) else { return PlainAnswer::Unsure };
    or_fails(size_from_text(text.trim()), |bytes| PlainAnswer::Value(Plain::Size(bytes)))
}

fn type_of<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    let [value] = args else { return PlainAnswer::Unsure };
    text(super::super::convert::name_of(&to_value(*value)).as_bytes())
}

fn coalesce<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    let present = args.iter().find(|value| !matches!(value, Plain::Null));
    PlainAnswer::Value(present.copied().unwrap_or(Plain::Null))
}
