//! Values as text, and text as times, durations and sizes. One spelling for templates, headers, JSON and
//! messages; it must not know the IR.
//!
//! - floats: the shortest text that reads back as the same number, always with a fraction or an exponent
//!   (`1.5`, `1.0`, `1e300`; `NaN`, `inf`)
//! - times: RFC 3339 in UTC with milliseconds (`2026-11-23T10:00:00.000Z`; years outside 0 to 9999 carry a sign)
//! - durations: `1h30min`, the units `d h min s ms us ns`, `0s` for nothing, a leading `-` for negative ones
//! - sizes: the largest unit that divides them, binary before decimal (`128MiB`, `5KB`, `17B`)
//! - null: nothing; lists and maps: JSON; regexes: their pattern

use std::borrow::Cow;
use std::io::Write as _;

use super::json::value_to_json;
use crate::function::EvalError;
use crate::value::Value;

/// Appends the text of a value. Never fails; null appends nothing.
pub fn value_to_text(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Null | Value::Lambda(_) => {}
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(value) => int_to_text(*value, out),
        Value::Float(value) => float_to_text(*value, out),
        Value::Text(text) => out.extend_from_slice(text),
        Value::Time(ms) => time_to_text(*ms, out),
        Value::Duration(ns) => duration_to_text(*ns, out),
        Value::Size(bytes) => size_to_text(*bytes, out),
        Value::List(_) | Value::Map(_) => value_to_json(value, out),
        Value::Regex(regex) => out.extend_from_slice(regex.as_str().as_bytes()),
    }
}

/// The text of a value, borrowed when it is text already.
pub fn into_text(value: Value<'_>) -> Cow<'_, [u8]> {
    match value {
        Value::Text(text) => text,
        Value::Bool(true) => Cow::Borrowed(b"true"),
        Value::Bool(false) => Cow::Borrowed(b"false"),
        other => {
            let mut out = Vec::new();
            value_to_text(&other, &mut out);
            Cow::Owned(out)
        }
    }
}

/// What messages call the type of a value.
pub fn type_name(value: &Value<'_>) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a bool",
        Value::Int(_) => "an int",
        Value::Float(_) => "a float",
        Value::Text(_) => "a string",
        Value::Time(_) => "a time",
        Value::Duration(_) => "a duration",
        Value::Size(_) => "a size",
        Value::List(_) => "a list",
        Value::Map(_) => "a map",
        Value::Regex(_) => "a regex",
        Value::Lambda(_) => "a function",
    }
}

pub(crate) fn int_to_text(value: i64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

/// Shortest text that reads back as the same float.
pub(crate) fn float_to_text(value: f64, out: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    let _ = write!(out, "{value:?}");
}

fn padded(value: u64, width: usize, out: &mut Vec<u8>) {
    let _ = write!(out, "{value:0width$}");
}

const MS_PER_DAY: i64 = 86_400_000;

/// RFC 3339 in UTC with milliseconds; any `i64` has a text.
pub fn time_to_text(ms: i64, out: &mut Vec<u8>) {
    let (year, month, day) = civil_from_days(ms.div_euclid(MS_PER_DAY));
    let in_day = ms.rem_euclid(MS_PER_DAY) as u64;
    if !(0..=9999).contains(&year) {
        out.push(if year < 0 { b'-' } else { b'+' });
    }
    let two = |value: u64| [b'0' + (value / 10) as u8, b'0' + (value % 10) as u8];
    padded(year.unsigned_abs(), 4, out);
    out.push(b'-');
    out.extend_from_slice(&two(month));
    out.push(b'-');
    out.extend_from_slice(&two(day));
    out.push(b'T');
    out.extend_from_slice(&two(in_day / 3_600_000));
    out.push(b':');
    out.extend_from_slice(&two(in_day / 60_000 % 60));
    out.push(b':');
    out.extend_from_slice(&two(in_day / 1_000 % 60));
    out.push(b'.');
    let ms = in_day % 1_000;
    out.push(b'0' + (ms / 100) as u8);
    out.extend_from_slice(&two(ms % 100));
    out.push(b'Z');
}

/// Year, month and day of a day counted from 1970-01-01 (Hinnant, "chrono-compatible low-level date algorithms").
fn civil_from_days(days: i64) -> (i64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as u64, day as u64)
}

const DURATION_UNITS: [(u64, &str); 7] = [
    (86_400_000_000_000, "d"),
    (3_600_000_000_000, "h"),
    (60_000_000_000, "min"),
    (1_000_000_000, "s"),
    (1_000_000, "ms"),
    (1_000, "us"),
    (1, "ns"),
];

/// `1h30min`
pub fn duration_to_text(ns: i64, out: &mut Vec<u8>) {
    if ns == 0 {
        out.extend_from_slice(b"0s");
        return;
    }
    if ns < 0 {
        out.push(b'-');
    }
    let mut rest = ns.unsigned_abs();
    for (unit, name) in DURATION_UNITS {
        if rest >= unit {
            padded(rest / unit, 0, out);
            out.extend_from_slice(name.as_bytes());
            rest %= unit;
        }
    }
}

const SIZE_UNITS: [(u64, &str); 10] = [
    (1 << 50, "PiB"),
    (1_000_000_000_000_000, "PB"),
    (1 << 40, "TiB"),
    (1_000_000_000_000, "TB"),
    (1 << 30, "GiB"),
    (1_000_000_000, "GB"),
    (1 << 20, "MiB"),
    (1_000_000, "MB"),
    (1 << 10, "KiB"),
    (1_000, "KB"),
];

/// `128MiB`
pub fn size_to_text(bytes: u64, out: &mut Vec<u8>) {
    let exact = SIZE_UNITS.iter().find(|(unit, _)| bytes != 0 && bytes.is_multiple_of(*unit));
    let (unit, name) = exact.copied().unwrap_or((1, "B"));
    padded(bytes / unit, 0, out);
    out.extend_from_slice(name.as_bytes());
}

/// `1h30min`, `1.5s`, `-5min`: nanoseconds.
pub fn duration_from_text(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (value, unit, after) = number_and_unit(rest)?;
        let scale = match unit {
            "w" => 7 * DURATION_UNITS[0].0,
            other => DURATION_UNITS.iter().find(|(_, name)| *name == other)?.0,
        };
        total = total.checked_add(scaled(value, scale)?)?;
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// `128MiB`, `17`: bytes.
pub fn size_from_text(text: &str) -> Option<u64> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    let (value, unit, after) = number_and_unit(text)?;
    let scale = match unit {
        "B" => 1,
        other => SIZE_UNITS.iter().find(|(_, name)| *name == other)?.0,
    };
    if !after.is_empty() {
        return None;
    }
    u64::try_from(scaled(value, scale)?).ok()
}

/// (number, unit, what follows)
fn number_and_unit(text: &str) -> Option<(&str, &str, &str)> {
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, rest) = text.split_at(digits);
    let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
    let (unit, after) = rest.split_at(letters);
    if number.is_empty() || unit.is_empty() { None } else { Some((number, unit, after)) }
}

/// A decimal number times a unit, exact; `None` when it is not a number or out of range.
fn scaled(number: &str, unit: u64) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || fraction.len() > 18 || whole.is_empty() {
        return None;
    }
    let whole: i128 = whole.parse::<u64>().ok()?.into();
    let mut total = whole.checked_mul(unit.into())?;
    if !fraction.is_empty() {
        let digits: i128 = fraction.parse::<u64>().ok()?.into();
        total = total.checked_add(digits.checked_mul(unit.into())? / 10i128.pow(fraction.len() as u32))?;
    }
    Some(total)
}

/// An RFC 3339 time, or a date alone (midnight UTC): milliseconds since 1970.
pub fn time_from_text(text: &str) -> Option<i64> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(time.as_millisecond());
    }
    let date: jiff::civil::Date = text.parse().ok().filter(|_| text.len() == 10)?;
    Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

/// strftime in UTC.
pub fn strftime(ms: i64, format: &str, out: &mut Vec<u8>) -> Result<(), EvalError> {
    let time = jiff::Timestamp::from_millisecond(ms)
        .map_err(|_| EvalError::new(format!("the time {ms} ms is outside the years -9999 to 9999")))?;
    let text = jiff::fmt::strtime::format(format, &time.to_zoned(jiff::tz::TimeZone::UTC))
        .map_err(|error| EvalError::new(format!("the time format `{format}` cannot be used: {error}")))?;
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: Value<'_>) -> String {
        let mut out = Vec::new();
        value_to_text(&value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_value_has_a_text() {
        assert_eq!(text(Value::Null), "");
        assert_eq!(text(Value::Bool(true)), "true");
        assert_eq!(text(Value::Int(i64::MIN)), "-9223372036854775808");
        assert_eq!(text(Value::Int(0)), "0");
        assert_eq!(text(Value::Float(1.0)), "1.0");
        assert_eq!(text(Value::Float(1.5)), "1.5");
        assert_eq!(text(Value::Float(1e300)), "1e300");
        assert_eq!(text(Value::Float(f64::NAN)), "NaN");
        assert_eq!(text(Value::Time(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(text(Value::Time(-1)), "1969-12-31T23:59:59.999Z");
        assert_eq!(text(Value::Time(951_782_400_007)), "2000-02-29T00:00:00.007Z");
        assert!(text(Value::Time(i64::MAX)).starts_with("+292278994-08-17T"));
        assert!(text(Value::Time(i64::MIN)).starts_with("-292275055-05-16T"));
        assert_eq!(text(Value::Duration(5_400_000_000_000)), "1h30min");
        assert_eq!(text(Value::Duration(-1_500_000_000)), "-1s500ms");
        assert_eq!(text(Value::Duration(0)), "0s");
        assert!(text(Value::Duration(i64::MIN)).starts_with('-'));
        assert_eq!(text(Value::Size(128 << 20)), "128MiB");
        assert_eq!(text(Value::Size(5_000)), "5KB");
        assert_eq!(text(Value::Size(17)), "17B");
        assert_eq!(text(Value::Size(0)), "0B");
        assert_eq!(text(Value::List(vec![Value::Int(1), Value::text("a")])), r#"[1,"a"]"#);
    }

    #[test]
    fn times_agree_with_a_calendar() {
        for ms in (-62_000_000_000_000..200_000_000_000_000i64).step_by(3_333_333_333_331) {
            let expected = jiff::Timestamp::from_millisecond(ms).unwrap();
            let expected = expected.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
            assert_eq!(text(Value::Time(ms)), expected);
        }
    }

    #[test]
    fn durations_and_sizes_read_back() {
        for ns in [0, 1, 999, 1_500_000_000, 5_400_000_000_000, -7, i64::MAX, i64::MIN + 1] {
            assert_eq!(duration_from_text(&text(Value::Duration(ns))), Some(ns), "{ns}");
        }
        for bytes in [0, 1, 1000, 1024, 128 << 20, u64::MAX] {
            assert_eq!(size_from_text(&text(Value::Size(bytes))), Some(bytes), "{bytes}");
        }
        assert_eq!(duration_from_text("1.5s"), Some(1_500_000_000));
        assert_eq!(duration_from_text("5m"), None);
        assert_eq!(duration_from_text(""), None);
        assert_eq!(duration_from_text("999999999999999999d"), None);
        assert_eq!(size_from_text("1.5KiB"), Some(1536));
        assert_eq!(size_from_text("1KB2B"), None);
        assert_eq!(time_from_text("2026-11-23T10:00:00+01:00"), Some(1_795_424_400_000));
        assert_eq!(time_from_text("2026-11-23"), Some(1_795_392_000_000));
        assert_eq!(time_from_text("yesterday"), None);
    }
}
