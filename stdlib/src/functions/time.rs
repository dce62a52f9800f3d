//! Times: milliseconds since 1970 UTC to and from text, parts of them, zones by their IANA names.

use flow_plan::Value;
use flow_plan::function::{CallContext, EvalError, Functions};
use jiff::Timestamp;
use jiff::civil::{DateTime, Time};
use jiff::fmt::strtime::BrokenDownTime;
use jiff::fmt::{StdIoWrite, rfc2822, strtime};
use jiff::tz::TimeZone;

use super::args::{self, Answer, fail, int, shorten, string, take, text, unexpected};

pub fn add(functions: &mut Functions) {
    functions.add("now", now);
    functions.add("parse_time", parse_time);
    functions.add("format_time", format_time);
    functions.add("unix_ms", unix_ms);
    functions.add("unix", unix);
    functions.add("from_unix", from_unix);
    functions.add("from_unix_ms", from_unix_ms);
    functions.add("year", year);
    functions.add("month", month);
    functions.add("day", day);
    functions.add("day_of_year", day_of_year);
    functions.add("weekday", weekday);
    functions.add("hour", hour);
    functions.add("minute", minute);
    functions.add("second", second);
    functions.add("truncate_time", truncate_time);
    functions.add("seconds", seconds);
    functions.add("milliseconds", milliseconds);
}

/// The time with the year that brings it nearest to now: for formats that leave the year out. `None` when
/// the date exists in none of the three years around now.
pub fn with_nearest_year(now_ms: i64, at: impl Fn(i16) -> Option<i64>) -> Option<i64> {
    let this_year = timestamp(now_ms).ok()?.to_zoned(TimeZone::UTC).year();
    let years = [this_year.checked_sub(1), Some(this_year), this_year.checked_add(1)];
    years.into_iter().flatten().filter_map(at).min_by_key(|ms| ms.abs_diff(now_ms))
}

pub fn timestamp(ms: i64) -> Result<Timestamp, EvalError> {
    Timestamp::from_millisecond(ms).map_err(|_| {
        EvalError::new(format!("{ms} milliseconds since 1970 is outside the years -9999 to 9999"))
    })
}

/// A zone by its IANA name.
pub fn zone(name: &[u8]) -> Result<TimeZone, EvalError> {
    if name == b"UTC" {
        return Ok(TimeZone::UTC);
    }
    let name = String::from_utf8_lossy(name);
    TimeZone::get(&name).map_err(|_| EvalError::new(format!("there is no time zone `{}`", shorten(&name))))
}

fn now<'a>(context: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [] = take(args)?;
    Ok(Value::Time(context.now_ms()))
}

fn parse_time<'a>(context: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    if args.len() == 1 {
        let [value] = take(args)?;
        return Ok(Value::Time(parse_known(&string(value)?)?));
    }
    let [value, format, in_zone] = take(args)?;
    let (value, format) = (string(value)?, string(format)?);
    Ok(Value::Time(parse_format(value.trim(), &format, in_zone, context.now_ms())?))
}

/// RFC 3339 and its relatives (a blank for the `T`, no offset means UTC), RFC 2822.
fn parse_known(value: &str) -> Result<i64, EvalError> {
    let trimmed = value.trim();
    let parsed = trimmed
        .parse::<Timestamp>()
        .ok()
        .or_else(|| trimmed.parse::<DateTime>().ok().and_then(in_utc))
        .or_else(|| rfc2822::parse(trimmed).ok().map(|zoned| zoned.timestamp()));
    match parsed {
        Some(timestamp) => Ok(timestamp.as_millisecond()),
        None => fail(format!("`{}` is not a time as in RFC 3339 or RFC 2822", shorten(value))),
    }
}

fn in_utc(civil: DateTime) -> Option<Timestamp> {
    TimeZone::UTC.to_timestamp(civil).ok()
}

fn parse_format(value: &str, format: &str, in_zone: Value<'_>, now_ms: i64) -> Result<i64, EvalError> {
    let broken = strtime::parse(format, value).map_err(|error| {
        EvalError::new(format!("`{}` does not fit the format `{}`: {error}", shorten(value), shorten(format)))
    })?;
    if let Ok(timestamp) = broken.to_timestamp() {
        return Ok(timestamp.as_millisecond());
    }
    let time = if broken.hour().is_some() {
        broken.to_time().map_err(|error| EvalError::new(format!("`{}`: {error}", shorten(value))))?
    } else {
        Time::midnight()
    };
    let zone = match broken.offset() {
        Some(offset) => TimeZone::fixed(offset),
        None => zone(&text(in_zone)?)?,
    };
    let at = |date: jiff::civil::Date| Some(zone.to_timestamp(date.to_datetime(time)).ok()?.as_millisecond());
    let found = match (broken.to_date(), broken.month(), broken.day()) {
        (Ok(date), _, _) => at(date),
        (Err(_), Some(month), Some(day)) if broken.year().is_none() => {
            with_nearest_year(now_ms, |year| at(jiff::civil::Date::new(year, month, day).ok()?))
        }
        _ => None,
    };
    match found {
        Some(ms) => Ok(ms),
        None => fail(format!("`{}` with the format `{}` gives no date", shorten(value), shorten(format))),
    }
}

fn format_time<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value, format, in_zone] = take(args)?;
    let mut written = Vec::new();
    write_time(args::time(value)?, &text(format)?, &text(in_zone)?, &mut written)?;
    Ok(Value::Text(written.into()))
}

/// Appends a time in a strftime format; on failure a part of it may be there.
pub fn write_time(ms: i64, format: &[u8], in_zone: &[u8], out: &mut Vec<u8>) -> Result<(), EvalError> {
    let format = String::from_utf8_lossy(format);
    let zoned = timestamp(ms)?.to_zoned(zone(in_zone)?);
    BrokenDownTime::from(&zoned)
        .format(format.as_bytes(), StdIoWrite(out))
        .map_err(|error| EvalError::new(format!("time format `{}`: {error}", shorten(&format))))
}

fn unix_ms<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    Ok(Value::Int(args::time(value)?))
}

fn unix<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    Ok(Value::Int(args::time(value)?.div_euclid(1000)))
}

/// A time that text and parts can be made of.
pub fn checked(ms: i64) -> Answer<'static> {
    timestamp(ms)?;
    Ok(Value::Time(ms))
}

/// Seconds as the nearest millisecond, saturating.
pub fn ms_of_seconds(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

fn from_unix<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    match take(args)? {
        [Value::Int(seconds)] => checked(seconds.saturating_mul(1000)),
        // NaN must not become 1970.
        [Value::Float(seconds)] if !seconds.is_nan() => checked(ms_of_seconds(seconds)),
        [other] => Err(unexpected("a number of seconds", &other)),
    }
}

fn from_unix_ms<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [ms] = take(args)?;
    checked(int(ms)?)
}

/// Parts of a time, as one reads them off a calendar and a clock.
pub mod parts {
    use jiff::civil::DateTime;

    pub fn year(at: DateTime) -> i64 {
        i64::from(at.year())
    }

    pub fn month(at: DateTime) -> i64 {
        i64::from(at.month())
    }

    pub fn day(at: DateTime) -> i64 {
        i64::from(at.day())
    }

    pub fn day_of_year(at: DateTime) -> i64 {
        i64::from(at.date().day_of_year())
    }

    pub fn weekday(at: DateTime) -> i64 {
        i64::from(at.weekday().to_monday_one_offset())
    }

    pub fn hour(at: DateTime) -> i64 {
        i64::from(at.hour())
    }

    pub fn minute(at: DateTime) -> i64 {
        i64::from(at.minute())
    }

    pub fn second(at: DateTime) -> i64 {
        i64::from(at.second())
    }
}

/// What clocks and calendars of a zone show.
pub fn civil(ms: i64, zone_name: &[u8]) -> Result<DateTime, EvalError> {
    Ok(zone(zone_name)?.to_datetime(timestamp(ms)?))
}

fn field<'a>(args: Vec<Value<'a>>, of: fn(DateTime) -> i64) -> Answer<'a> {
    let [value, in_zone] = take(args)?;
    Ok(Value::Int(of(civil(args::time(value)?, &text(in_zone)?)?)))
}

fn year<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    field(args, parts::year)
}

fn month<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    field(args, parts::month)
}

fn day<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    field(args, parts::day)
}

fn day_of_year<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    field(args, parts::day_of_year)
}

fn weekday<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    field(args, parts::weekday)
}

fn hour<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    field(args, parts::hour)
}

fn minute<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    field(args, parts::minute)
}

fn second<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    field(args, parts::second)
}

fn truncate_time<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value, step] = take(args)?;
    let (ms, step_ms) = (args::time(value)?, args::duration(step)? / 1_000_000);
    if step_ms < 1 {
        return fail("the step must be at least 1ms");
    }
    checked(step_start(ms, step_ms))
}

/// The start of the step, of at least 1 ms, that a time lies in.
pub fn step_start(ms: i64, step_ms: i64) -> i64 {
    ms - ms.rem_euclid(step_ms).min(ms.saturating_sub(i64::MIN))
}

/// Nanoseconds in seconds.
pub fn to_seconds(ns: i64) -> f64 {
    ns as f64 / 1e9
}

fn seconds<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    Ok(Value::Float(to_seconds(args::duration(value)?)))
}

fn milliseconds<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    Ok(Value::Int(args::duration(value)? / 1_000_000))
}

#[cfg(test)]
mod tests {
    use flow_plan::Value;

    use crate::functions::testing::{NOW_MS, call, error, f, i, t};

    fn at(ms: i64) -> Value<'static> {
        Value::Time(ms)
    }

    #[test]
    fn known_forms_are_read_without_a_format() {
        let wanted = format!("@{NOW_MS}");
        for text in [
            "2026-11-23T10:00:00Z",
            "2026-11-23 10:00:00Z",
            "2026-11-23T11:00:00+01:00",
            "2026-11-23T10:00:00",
            " 2026-11-23 10:00:00.000 ",
            "Mon, 23 Nov 2026 10:00:00 +0000",
        ] {
            assert_eq!(call("parse_time", vec![t(text)]), wanted, "{text}");
        }
        for text in ["", "yesterday", "2026-13-01T00:00:00Z", "10:00", "99999999999999999999"] {
            error("parse_time", vec![t(text)]);
        }
    }

    #[test]
    fn formats_may_leave_out_zone_time_and_year() {
        let parse = |text, format, zone| call("parse_time", vec![t(text), t(format), t(zone)]);
        assert_eq!(parse("23/Nov/2026:10:00:00 +0000", "%d/%b/%Y:%H:%M:%S %z", "UTC"), format!("@{NOW_MS}"));
        assert_eq!(parse("2026-11-23 11:00", "%Y-%m-%d %H:%M", "Europe/Paris"), format!("@{NOW_MS}"));
        assert_eq!(parse("2026-11-23", "%F", "UTC"), format!("@{}", NOW_MS - 36_000_000));
        assert_eq!(parse("Nov 23 10:00:00", "%b %d %H:%M:%S", "UTC"), format!("@{NOW_MS}"));
        assert_eq!(parse("1795428000", "%s", "UTC"), format!("@{NOW_MS}"));
        assert_eq!(parse("2026-11-23 10:00:00.250", "%F %H:%M:%S%.f", "UTC"), format!("@{}", NOW_MS + 250));
    }

    #[test]
    fn what_does_not_fit_a_format_fails() {
        for (text, format, zone) in [
            ("10:00", "%H:%M", "UTC"),
            ("2026-02-30", "%F", "UTC"),
            ("x", "%F", "UTC"),
            ("2026-11-23", "%F", "Mars/Olympus"),
            ("2026-11-23", "%!", "UTC"),
            ("2026-11-23", "%", "UTC"),
        ] {
            error("parse_time", vec![t(text), t(format), t(zone)]);
        }
    }

    #[test]
    fn the_missing_year_is_the_nearest() {
        // Read on the 2nd of January 2027: the last December is meant.
        let now = NOW_MS + 40 * 86_400_000;
        let december = |year: i16| {
            let date = jiff::civil::date(year, 12, 31).at(0, 0, 0, 0);
            Some(jiff::tz::TimeZone::UTC.to_timestamp(date).ok()?.as_millisecond())
        };
        assert_eq!(super::with_nearest_year(now, december), december(2026));
        assert_eq!(super::with_nearest_year(now, |_| None), None);
    }

    #[test]
    fn times_are_written() {
        let write = |format, zone| call("format_time", vec![at(NOW_MS + 7), t(format), t(zone)]);
        assert_eq!(write("%FT%T%.3fZ", "UTC"), "\"2026-11-23T10:00:00.007Z\"");
        assert_eq!(write("%H:%M %Z", "Europe/Paris"), "\"11:00 CET\"");
        error("format_time", vec![at(NOW_MS), t("%!"), t("UTC")]);
        error("format_time", vec![at(i64::MAX), t("%F"), t("UTC")]);
    }

    #[test]
    fn parts_and_steps() {
        let part = |name| call(name, vec![at(NOW_MS + 1_234_000), t("UTC")]);
        let names = ["year", "month", "day", "day_of_year", "weekday", "hour", "minute", "second"];
        assert_eq!(names.map(part), ["2026", "11", "23", "327", "1", "10", "20", "34"]);
        let hour = Value::Duration(3_600_000_000_000);
        assert_eq!(call("truncate_time", vec![at(NOW_MS + 1_234_567), hour.clone()]), format!("@{NOW_MS}"));
        assert_eq!(call("truncate_time", vec![at(-1), hour.clone()]), "@-3600000");
        error("truncate_time", vec![at(i64::MIN), hour]);
        error("truncate_time", vec![at(0), Value::Duration(5)]);
    }

    #[test]
    fn unix_time_both_ways() {
        assert_eq!(call("unix", vec![at(-1)]), "-1");
        assert_eq!(call("from_unix", vec![f(1.5)]), "@1500");
        assert_eq!(call("from_unix", vec![i(60)]), "@60000");
        error("from_unix", vec![f(f64::NAN)]);
        error("from_unix", vec![f(f64::INFINITY)]);
        error("from_unix", vec![i(i64::MAX)]);
        error("from_unix_ms", vec![i(i64::MIN)]);
    }
}
