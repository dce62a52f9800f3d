//! Arithmetic that operators do not have.

use std::cmp::Ordering;
use std::io::Write as _;

use flow_plan::function::{Functions, Plain, PlainAnswer};

use super::super::convert::whole_int;
use super::super::numbers::{compare, parse_hex_number, places, write_hex_number};
use super::{float, int, or_fails, to_value};

pub fn add(functions: &mut Functions) {
    functions.add_plain("abs", abs);
    functions.add_plain("floor", floor);
    functions.add_plain("ceil", ceil);
    functions.add_plain("round", round);
    functions.add_plain("min", min);
    functions.add_plain("max", max);
    functions.add_plain("clamp", clamp);
    functions.add_plain("to_hex", to_hex);
    functions.add_plain("parse_hex", parse_hex);
    functions.add_plain("format_number", format_number);
}

fn abs<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    match args {
        [Plain::Int(number)] => or_fails(number.checked_abs(), int),
        [Plain::Float(number)] => float(number.abs()),
        _ => PlainAnswer::Unsure,
    }
}

fn rounded<'a>(args: &[Plain<'a>], round: fn(f64) -> f64) -> PlainAnswer<'a> {
    match args {
        [Plain::Int(number)] => int(*number),
        [Plain::Float(number)] => or_fails(whole_int(round(*number)), int),
        _ => PlainAnswer::Unsure,
    }
}

fn floor<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    rounded(args, f64::floor)
}

fn ceil<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    rounded(args, f64::ceil)
}

fn round<'a>(args: &[Plain<'a>], buffer: &mut Vec<u8>) -> PlainAnswer<'a> {
    let [Plain::Float(_) | Plain::Int(_), Plain::Int(_)] = args else { return rounded(args, f64::round) };
    // Through decimal text, as the function does it; the buffer is no part of the answer.
    if format_number(args, buffer) != PlainAnswer::Written {
        return PlainAnswer::Fails;
    }
    let number = str::from_utf8(buffer).ok().and_then(|text| text.parse().ok());
    buffer.clear();
    or_fails(number, float)
}

fn format_number<'a>(args: &[Plain<'a>], buffer: &mut Vec<u8>) -> PlainAnswer<'a> {
    let (number, digits) = match args {
        [Plain::Float(number), Plain::Int(digits)] => (*number, *digits),
        [Plain::Int(number), Plain::Int(digits)] => (*number as f64, *digits),
        _ => return PlainAnswer::Unsure,
    };
    or_fails(places(digits), |places| {
        // Writing to a vector cannot fail.
        let _ = write!(buffer, "{number:.places$}");
        PlainAnswer::Written
    })
}

/// How two values compare; `None`: not at all.
fn order(left: Plain<'_>, right: Plain<'_>) -> Option<Ordering> {
    match (left, right) {
        (Plain::Int(left), Plain::Int(right)) => Some(left.cmp(&right)),
        (left, right) => compare(&to_value(left), &to_value(right)).ok(),
    }
}

fn extreme<'a>(args: &[Plain<'a>], wanted: Ordering) -> PlainAnswer<'a> {
    let [first, second] = args else { return PlainAnswer::Unsure };
    or_fails(order(*second, *first), |order| {
        PlainAnswer::Value(if order == wanted { *second } else { *first })
    })
}

fn min<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    extreme(args, Ordering::Less)
}

fn max<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    extreme(args, Ordering::Greater)
}

fn clamp<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    let [value, low, high] = args else { return PlainAnswer::Unsure };
    let clamped = || {
        if order(*low, *high)? == Ordering::Greater {
            return None;
        }
        if order(*value, *low)? == Ordering::Less {
            return Some(*low);
        }
        Some(if order(*value, *high)? == Ordering::Greater { *high } else { *value })
    };
    or_fails(clamped(), PlainAnswer::Value)
}

fn to_hex<'a>(args: &[Plain<'a>], buffer: &mut Vec<u8>) -> PlainAnswer<'a> {
    let [Plain::Int(number)] = args else { return PlainAnswer::Unsure };
    write_hex_number(*number, buffer);
    PlainAnswer::Written
}

fn parse_hex<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    let [Plain::Text(text)] = args else { return PlainAnswer::Unsure };
    let Ok(text) = str::from_utf8(text) else { return PlainAnswer::Unsure };
    or_fails(parse_hex_number(text), int)
}
