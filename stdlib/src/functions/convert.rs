//! Conversions between types: nothing is converted without being asked, and what does not fit fails. Null stays
//! null, so that an absent header can be told from a wrong one.

use flow_plan::Value;
use flow_plan::eval::{duration_from_text, into_text, size_from_text};
use flow_plan::function::{CallContext, EvalError, Functions};

use super::args::{self, Answer, fail, shorten, shown, string, take, unexpected};

pub fn add(functions: &mut Functions) {
    functions.add("int", int);
    functions.add("float", float);
    functions.add("text", to_text);
    functions.add("bool", bool);
    functions.add("duration", duration);
    functions.add("size", size);
    functions.add("type_of", type_of);
    functions.add("coalesce", coalesce);
}

fn int<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    Ok(match value {
        Value::Null => Value::Null,
        Value::Int(number) => Value::Int(number),
        Value::Float(number) => Value::Int(whole(number.trunc())?),
        Value::Bool(value) => Value::Int(i64::from(value)),
        Value::Size(bytes) => match i64::try_from(bytes) {
            Ok(bytes) => Value::Int(bytes),
            Err(_) => return fail(format!("{bytes} bytes do not fit into an int")),
        },
        Value::Text(text) => match parse_int(&text) {
            Ok(number) => Value::Int(number),
            Err(NotInt::OutOfRange) => return fail(format!("`{}` does not fit into an int", shown(&text))),
            Err(NotInt::NoNumber) => return fail(format!("`{}` is not a whole number", shown(&text))),
        },
        other => return Err(unexpected("a string or a number", &other)),
    })
}

/// A float that has no fraction as an int.
pub fn whole(number: f64) -> Result<i64, EvalError> {
    whole_int(number).map_or_else(|| fail(format!("{number} does not fit into an int")), Ok)
}

/// As [`whole`], without a message.
pub fn whole_int(number: f64) -> Option<i64> {
    // 2^63 is exact as a float; everything in this half-open range fits.
    (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&number).then_some(number as i64)
}

/// Why a text is no int.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotInt {
    OutOfRange,
    NoNumber,
}

/// So many decimal digits always fit into an `i64`.
const SAFE_DIGITS_MAX: usize = 18;

/// Decimal digits with an optional sign, blanks around them ignored. Works on bytes: this stands in the path of
/// every event that is routed by a number.
pub fn parse_int(text: &[u8]) -> Result<i64, NotInt> {
    let (negative, digits) = match text.trim_ascii() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() {
        return Err(NotInt::NoNumber);
    }
    if digits.len() <= SAFE_DIGITS_MAX {
        let mut number = 0;
        for byte in digits {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return Err(NotInt::NoNumber);
            }
            number = number * 10 + i64::from(digit);
        }
        return Ok(if negative { -number } else { number });
    }
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(NotInt::NoNumber);
    }
    let sign = if negative { -1 } else { 1 };
    let number = digits
        .iter()
        .try_fold(0i64, |number, byte| number.checked_mul(10)?.checked_add(sign * i64::from(byte - b'0')));
    number.ok_or(NotInt::OutOfRange)
}

/// A float with so many digits or fewer is a whole number below 2^53 divided by an exact power of ten.
const EXACT_DIGITS_MAX: usize = 15;

/// A number as [`str::parse`] reads it, blanks around it ignored.
pub fn parse_float(text: &[u8]) -> Option<f64> {
    short_decimal(text).or_else(|| std::str::from_utf8(text).ok()?.trim().parse().ok())
}

/// `-12.50`: few digits, at most one point. Both parts are exact as floats, so that one division rounds correctly
/// (Clinger, "How to read floating point numbers accurately", 1990). `None`: any other text.
fn short_decimal(text: &[u8]) -> Option<f64> {
    const TENS: [f64; EXACT_DIGITS_MAX + 1] =
        [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    if digits.len() > EXACT_DIGITS_MAX + 1 {
        return None;
    }
    let mut mantissa = 0u64;
    let mut count = 0;
    let mut point = None;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            mantissa = mantissa * 10 + u64::from(digit);
            count += 1;
        } else if *byte == b'.' && point.is_none() {
            point = Some(count);
        } else {
            return None;
        }
    }
    if count == 0 || count > EXACT_DIGITS_MAX {
        return None;
    }
    let number = mantissa as f64 / TENS[count - point.unwrap_or(count)];
    Some(if negative { -number } else { number })
}

/// A truth value in words, in any case, blanks around it ignored.
pub fn parse_bool(text: &[u8]) -> Option<bool> {
    const YES: [&[u8]; 6] = [b"true", b"yes", b"on", b"1", b"t", b"y"];
    const NO: [&[u8]; 6] = [b"false", b"no", b"off", b"0", b"f", b"n"];
    let word = text.trim_ascii();
    let among = |words: [&[u8]; 6]| words.iter().any(|other| other.eq_ignore_ascii_case(word));
    if among(YES) {
        Some(true)
    } else if among(NO) {
        Some(false)
    } else {
        None
    }
}

fn float<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    match value {
        Value::Null => Ok(Value::Null),
        Value::Text(text) => match parse_float(&text) {
            Some(number) => Ok(Value::Float(number)),
            None => fail(format!("`{}` is not a number", shown(&text))),
        },
        number @ (Value::Int(_) | Value::Float(_)) => Ok(Value::Float(args::float(number)?)),
        other => Err(unexpected("a string or a number", &other)),
    }
}

fn to_text<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    Ok(match value {
        Value::Null => Value::Null,
        value => Value::Text(into_text(value)),
    })
}

fn bool<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    Ok(match value {
        Value::Null => Value::Null,
        Value::Bool(value) => Value::Bool(value),
        Value::Int(number) => Value::Bool(number != 0),
        Value::Text(text) => match parse_bool(&text) {
            Some(value) => Value::Bool(value),
            None => return fail(format!("`{}` is neither true nor false", shown(&text))),
        },
        other => return Err(unexpected("a string, an int or a bool", &other)),
    })
}

fn duration<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    let text = string(value)?;
    match duration_from_text(text.trim()) {
        Some(ns) => Ok(Value::Duration(ns)),
        None => fail(format!("`{}` is not a duration like `1h30min`", shorten(&text))),
    }
}

fn size<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    let text = string(value)?;
    match size_from_text(text.trim()) {
        Some(bytes) => Ok(Value::Size(bytes)),
        None => fail(format!("`{}` is not a size like `64KiB`", shorten(&text))),
    }
}

fn type_of<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    Ok(Value::text(name_of(&value)))
}

/// What the language calls the type of a value.
pub fn name_of(value: &Value<'_>) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Float(_) => "float",
        Value::Text(_) => "string",
        Value::Time(_) => "time",
        Value::Duration(_) => "duration",
        Value::Size(_) => "size",
        Value::List(_) => "list",
        Value::Map(_) => "map",
        Value::Regex(_) => "regex",
        Value::Lambda(_) => "function",
    }
}

fn coalesce<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    Ok(args.into_iter().find(|value| !matches!(value, Value::Null)).unwrap_or(Value::Null))
}

#[cfg(test)]
mod tests {
    use flow_plan::Value;

    use crate::functions::testing::{call, error, f, i, ints, t};

    #[test]
    fn ints_are_read_to_their_last_digit() {
        assert_eq!(call("int", vec![t("9223372036854775807")]), "9223372036854775807");
        assert_eq!(call("int", vec![t("-9223372036854775808")]), "-9223372036854775808");
        assert_eq!(call("int", vec![t(" +007\n")]), "7");
        assert_eq!(
            error("int", vec![t("9223372036854775808")]),
            "`9223372036854775808` does not fit into an int"
        );
        assert_eq!(error("int", vec![t("-")]), "`-` is not a whole number");
        assert_eq!(error("int", vec![t("1 2")]), "`1 2` is not a whole number");
        assert_eq!(
            error("int", vec![Value::Text(b"\xff".as_slice().into())]),
            "`\u{fffd}` is not a whole number"
        );
    }

    #[test]
    fn null_stays_null() {
        for name in ["int", "float", "text", "bool"] {
            assert_eq!(call(name, vec![Value::Null]), "null");
        }
    }

    #[test]
    fn floats_that_do_not_fit_fail() {
        assert_eq!(call("int", vec![f(-2.9)]), "-2");
        for number in [f64::NAN, f64::INFINITY, 1e19, 9_223_372_036_854_775_808.0] {
            error("int", vec![f(number)]);
        }
        assert_eq!(call("float", vec![t("1e3")]), "1000.0");
        error("float", vec![t("")]);
    }

    #[test]
    fn every_value_has_a_text() {
        assert_eq!(call("text", vec![i(-5)]), "\"-5\"");
        assert_eq!(call("text", vec![f(2.5)]), "\"2.5\"");
        assert_eq!(call("text", vec![Value::Duration(5_400_000_000_000)]), "\"1h30min\"");
        assert_eq!(call("text", vec![Value::Size(65536)]), "\"64KiB\"");
        assert_eq!(call("text", vec![Value::Time(1_795_428_000_250)]), "\"2026-11-23T10:00:00.250Z\"");
        assert_eq!(call("text", vec![ints(&[1, 2])]), "\"[1,2]\"");
    }

    #[test]
    fn durations_and_sizes_need_units() {
        assert_eq!(call("duration", vec![t(" 1h30min ")]), "5400000000000ns");
        assert_eq!(call("size", vec![t("64KiB")]), "65536B");
        assert_eq!(error("duration", vec![t("5")]), "`5` is not a duration like `1h30min`");
        assert_eq!(error("size", vec![t("ten")]), "`ten` is not a size like `64KiB`");
    }

    #[test]
    fn long_text_is_cut_in_messages() {
        let long = "x".repeat(10_000);
        assert!(error("int", vec![t(&long)]).len() < 200);
    }

    #[test]
    fn the_number_of_arguments_is_checked() {
        assert_eq!(error("int", vec![]), "expected 1 arguments, found 0");
    }
}
