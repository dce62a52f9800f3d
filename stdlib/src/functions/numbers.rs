//! Arithmetic that operators do not have.

use std::cmp::Ordering;
use std::hash::{BuildHasher, Hasher};
use std::io::Write as _;

use flow_plan::Value;
use flow_plan::eval::compare_values;
use flow_plan::function::{CallContext, EvalError, Functions};

use super::args::{Answer, fail, float, int, shorten, string, take, unexpected};
use super::convert::whole;

/// More digits after the point than a float has say nothing.
const DIGITS_MAX: i64 = 15;

pub fn add(functions: &mut Functions) {
    functions.add("abs", abs);
    functions.add("floor", floor);
    functions.add("ceil", ceil);
    functions.add("round", round);
    functions.add("min", min);
    functions.add("max", max);
    functions.add("clamp", clamp);
    functions.add("to_hex", to_hex);
    functions.add("parse_hex", parse_hex);
    functions.add("format_number", format_number);
    functions.add_varying("random_int", random_int);
}

fn abs<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    match take(args)? {
        [Value::Int(number)] => match number.checked_abs() {
            Some(number) => Ok(Value::Int(number)),
            None => fail(format!("the absolute value of {number} does not fit into an int")),
        },
        [Value::Float(number)] => Ok(Value::Float(number.abs())),
        [other] => Err(unexpected("a number", &other)),
    }
}

/// A float without its fraction; an int is one already.
fn rounded<'a>(value: Value<'a>, round: fn(f64) -> f64) -> Answer<'a> {
    match value {
        Value::Int(number) => Ok(Value::Int(number)),
        value => Ok(Value::Int(whole(round(float(value)?))?)),
    }
}

fn floor<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    rounded(value, f64::floor)
}

fn ceil<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    rounded(value, f64::ceil)
}

fn round<'a>(_: &mut dyn CallContext, mut args: Vec<Value<'a>>) -> Answer<'a> {
    if args.len() == 2 {
        let digits = digits(args.pop().unwrap_or(Value::Null))?;
        let [value] = take(args)?;
        // Through decimal text, so that 2.345 is not 2.34499999 times a power of ten.
        let text = format!("{:.digits$}", float(value)?);
        return text
            .parse()
            .map(Value::Float)
            .map_err(|_| EvalError::new(format!("`{text}` is not a number")));
    }
    let [value] = take(args)?;
    rounded(value, f64::round)
}

fn digits(value: Value<'_>) -> Result<usize, EvalError> {
    let digits = int(value)?;
    places(digits)
        .map_or_else(|| fail(format!("digits must be between 0 and {DIGITS_MAX}, this is {digits}")), Ok)
}

/// A number of digits after the point.
pub fn places(digits: i64) -> Option<usize> {
    (0..=DIGITS_MAX).contains(&digits).then_some(digits as usize)
}

/// Which of two values comes first; NaN has no place.
pub fn compare(left: &Value<'_>, right: &Value<'_>) -> Result<Ordering, EvalError> {
    compare_values(left, right)?.ok_or_else(|| EvalError::new("NaN has no order"))
}

/// The item that every other one compares to as `wanted` or equal.
fn extreme<'a>(args: Vec<Value<'a>>, wanted: Ordering) -> Answer<'a> {
    let items = match <[Value<'a>; 1]>::try_from(args) {
        Ok([Value::List(items)]) => items,
        Ok([other]) => return Err(unexpected("a list or two values", &other)),
        Err(args) if args.len() == 2 => args,
        Err(args) => return fail(format!("expected 1 or 2 arguments, found {}", args.len())),
    };
    let mut items = items.into_iter();
    let Some(mut best) = items.next() else {
        return Ok(Value::Null);
    };
    for item in items {
        if compare(&item, &best)? == wanted {
            best = item;
        }
    }
    Ok(best)
}

fn min<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    extreme(args, Ordering::Less)
}

fn max<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    extreme(args, Ordering::Greater)
}

fn clamp<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value, low, high] = take(args)?;
    if compare(&low, &high)? == Ordering::Greater {
        return fail("the lower end is above the upper one");
    }
    Ok(if compare(&value, &low)? == Ordering::Less {
        low
    } else if compare(&value, &high)? == Ordering::Greater {
        high
    } else {
        value
    })
}

/// Appends a number in hexadecimal digits.
pub fn write_hex_number(number: i64, out: &mut Vec<u8>) {
    let sign = if number < 0 { "-" } else { "" };
    // Writing to a vector cannot fail.
    let _ = write!(out, "{sign}{:x}", number.unsigned_abs());
}

fn to_hex<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    let mut digits = Vec::new();
    write_hex_number(int(value)?, &mut digits);
    Ok(Value::Text(digits.into()))
}

/// A number in hexadecimal digits, with or without sign and `0x`.
pub fn parse_hex_number(text: &str) -> Option<i64> {
    let (negative, digits) = match text.trim().strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.trim()),
    };
    let digits = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")).unwrap_or(digits);
    // `from_str_radix` would take a sign.
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let number = i128::from(u64::from_str_radix(digits, 16).ok()?);
    i64::try_from(if negative { -number } else { number }).ok()
}

fn parse_hex<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    let text = string(value)?;
    match parse_hex_number(&text) {
        Some(number) => Ok(Value::Int(number)),
        None => fail(format!("`{}` is not a hexadecimal number that fits into an int", shorten(&text))),
    }
}

fn format_number<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value, places] = take(args)?;
    let places = digits(places)?;
    Ok(Value::string(format!("{:.places$}", float(value)?)))
}

fn random_int<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [low, high] = take(args)?;
    let (low, high) = (int(low)?, int(high)?);
    if low > high {
        return fail(format!("{low} is above {high}"));
    }
    // The width of the range less one, in 64 bits; taken as a fraction of 2^64 to keep all numbers equally likely.
    let width = u128::from(high.abs_diff(low)) + 1;
    let offset = (u128::from(random_bits()) * width) >> 64;
    Ok(Value::Int((i128::from(low) + offset as i128) as i64))
}

/// 64 bits by chance: the standard library's hash keys are random, and differ with each use. For sampling, not
/// for secrets.
fn random_bits() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use flow_plan::Value;

    use crate::functions::testing::{call, error, f, i, ints, t, try_call};

    #[test]
    fn rounding() {
        assert_eq!(call("floor", vec![f(-1.5)]), "-2");
        assert_eq!(call("ceil", vec![f(1.2)]), "2");
        assert_eq!(call("round", vec![f(2.5)]), "3");
        assert_eq!(call("round", vec![f(-2.5)]), "-3");
        assert_eq!(call("round", vec![f(2.345), i(2)]), "2.35");
        assert_eq!(call("round", vec![i(7)]), "7");
        for name in ["floor", "ceil", "round"] {
            error(name, vec![f(f64::NAN)]);
            error(name, vec![f(1e300)]);
        }
        assert_eq!(error("round", vec![f(1.0), i(99)]), "digits must be between 0 and 15, this is 99");
        assert_eq!(
            error("abs", vec![i(i64::MIN)]),
            "the absolute value of -9223372036854775808 does not fit into an int"
        );
    }

    #[test]
    fn extremes_and_their_refusals() {
        assert_eq!(call("min", vec![i(2), f(1.5)]), "1.5");
        assert_eq!(call("max", vec![ints(&[3, 9, 2])]), "9");
        assert_eq!(call("min", vec![ints(&[])]), "null");
        assert_eq!(error("min", vec![i(2), t("a")]), "a string and an int have no order");
        assert_eq!(error("max", vec![f(f64::NAN), i(1)]), "NaN has no order");
        assert_eq!(call("clamp", vec![i(12), i(0), i(10)]), "10");
        error("clamp", vec![i(1), i(5), i(2)]);
    }

    #[test]
    fn hexadecimal_both_ways() {
        for number in [0, 255, -16, i64::MAX, i64::MIN] {
            let text = call("to_hex", vec![i(number)]);
            assert_eq!(call("parse_hex", vec![t(text.trim_matches('"'))]), number.to_string());
        }
        assert_eq!(call("parse_hex", vec![t("0xFF")]), "255");
        for text in ["", "0x", "--1", "+-1", "xyz", "ffffffffffffffffff"] {
            error("parse_hex", vec![t(text)]);
        }
    }

    #[test]
    fn chance_stays_within_its_ends() {
        for _ in 0..200 {
            let number: i64 = call("random_int", vec![i(-1), i(1)]).parse().expect("a number");
            assert!((-1..=1).contains(&number));
        }
        call("random_int", vec![i(i64::MIN), i(i64::MAX)]);
        assert_eq!(error("random_int", vec![i(2), i(1)]), "2 is above 1");
        assert!(try_call("random_int", vec![Value::Null, i(1)]).is_err());
    }

    #[test]
    fn fixed_digits() {
        assert_eq!(call("format_number", vec![f(2.5), i(2)]), "\"2.50\"");
        assert_eq!(call("format_number", vec![i(2), i(0)]), "\"2\"");
    }
}
