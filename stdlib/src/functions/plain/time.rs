//! Times: parts, reading and writing. A format that is a constant is taken apart once.

use std::sync::Arc;

use flow_plan::function::{Functions, Plain, PlainAnswer, PreparedPlain};
use jiff::civil::{Date, DateTime, Time};

use super::super::time::{self, civil, ms_of_seconds, parts, step_start, timestamp, to_seconds, zone};
use super::layout::{Layout, Parts};
use super::{float, int, or_fails};

pub fn add(functions: &mut Functions) {
    functions.add_prepared("parse_time", parse_time);
    functions.add_prepared("format_time", format_time);
    functions.add_plain("unix_ms", unix_ms);
    functions.add_plain("unix", unix);
    functions.add_plain("from_unix", from_unix);
    functions.add_plain("from_unix_ms", from_unix_ms);
    functions.add_plain("year", |args, _| part(args, parts::year));
    functions.add_plain("month", |args, _| part(args, parts::month));
    functions.add_plain("day", |args, _| part(args, parts::day));
    functions.add_plain("day_of_year", |args, _| part(args, parts::day_of_year));
    functions.add_plain("weekday", |args, _| part(args, parts::weekday));
    functions.add_plain("hour", |args, _| part(args, parts::hour));
    functions.add_plain("minute", |args, _| part(args, parts::minute));
    functions.add_plain("second", |args, _| part(args, parts::second));
    functions.add_plain("truncate_time", truncate_time);
    functions.add_plain("seconds", seconds);
    functions.add_plain("milliseconds", milliseconds);
}

fn at(ms: i64) -> PlainAnswer<'static> {
    PlainAnswer::Value(Plain::Time(ms))
}

fn parse_time(constants: &[Option<Plain<'_>>]) -> Option<PreparedPlain> {
    match constants {
        [_] => {
            let known = Known::new()?;
            Some(Arc::new(move |args, _| match args {
                [Plain::Text(text)] => {
                    known.parse(text).map_or(PlainAnswer::Unsure, |parts| at(parts.utc_ms()))
                }
                _ => PlainAnswer::Unsure,
            }))
        }
        [_, Some(Plain::Text(format)), _] => {
            let layout = Layout::new(format)?;
            Some(Arc::new(move |args, _| match args {
                [Plain::Text(text), _, Plain::Text(in_zone)] => {
                    layout.parse(text).map_or(PlainAnswer::Unsure, |parts| {
                        if layout.has_offset() || *in_zone == b"UTC" {
                            at(parts.utc_ms())
                        } else {
                            in_named_zone(parts, in_zone).map_or(PlainAnswer::Unsure, at)
                        }
                    })
                }
                _ => PlainAnswer::Unsure,
            }))
        }
        _ => None,
    }
}

/// The time at which clocks of a zone show this.
fn in_named_zone(parts: Parts, in_zone: &[u8]) -> Option<i64> {
    let date = Date::new(parts.year, parts.month, parts.day).ok()?;
    let time = Time::new(parts.hour, parts.minute, parts.second, i32::from(parts.ms) * 1_000_000).ok()?;
    Some(zone(in_zone).ok()?.to_timestamp(date.to_datetime(time)).ok()?.as_millisecond())
}

/// Where RFC 3339 has its `T`.
const SEPARATOR_AT: usize = 10;

/// RFC 3339 with seconds, their thousandths, millionths or less; without an offset it is UTC.
struct Known {
    with_t: Vec<Layout>,
    with_blank: Vec<Layout>,
}

impl Known {
    fn new() -> Option<Known> {
        let layouts = |separator: &str| {
            let mut layouts = Vec::new();
            for offset in ["Z", "", "%:z"] {
                for fraction in ["", "%.3f", "%.6f", "%.9f"] {
                    layouts.push(Layout::new(format!("%F{separator}%T{fraction}{offset}").as_bytes())?);
                }
            }
            Some(layouts)
        };
        Some(Known { with_t: layouts("T")?, with_blank: layouts(" ")? })
    }

    #[inline]
    fn parse(&self, text: &[u8]) -> Option<Parts> {
        let layouts = match text.get(SEPARATOR_AT)? {
            b'T' => &self.with_t,
            b' ' => &self.with_blank,
            _ => return None,
        };
        // `.123+01:00` and `.123456789` have the same width.
        layouts.iter().filter(|layout| layout.width() == text.len()).find_map(|layout| layout.parse(text))
    }
}

/// What a format writes.
enum Piece {
    Literal(Box<[u8]>),
    Year,
    Number(fn(DateTime) -> i64, usize),
    Name(fn(DateTime) -> &'static str),
    /// Thousandths of a second.
    Ms,
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// The pieces of a format for times in UTC; `None` when something else is in it.
fn pieces(format: &[u8]) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut literal = Vec::new();
    let mut rest = str::from_utf8(format).ok()?.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte != b'%' {
            literal.push(*byte);
            continue;
        }
        let fraction = match rest {
            [b'.', b'3', b'f', after @ ..] => {
                literal.push(b'.');
                Some(after)
            }
            [b'3', b'f', after @ ..] => Some(after),
            _ => None,
        };
        if let Some(after) = fraction {
            flush(&mut literal, &mut pieces);
            pieces.push(Piece::Ms);
            rest = after;
            continue;
        }
        let (directive, after) = rest.split_first()?;
        rest = after;
        let expanded: &[u8] = match directive {
            b'%' => {
                literal.push(b'%');
                continue;
            }
            b'z' => {
                literal.extend_from_slice(b"+0000");
                continue;
            }
            b'Z' => {
                literal.extend_from_slice(b"UTC");
                continue;
            }
            b'F' => b"%Y-%m-%d",
            b'T' => b"%H:%M:%S",
            b'R' => b"%H:%M",
            _ => b"",
        };
        flush(&mut literal, &mut pieces);
        if !expanded.is_empty() {
            pieces.extend(self::pieces(expanded)?);
            continue;
        }
        pieces.push(match directive {
            b'Y' => Piece::Year,
            b'm' => Piece::Number(parts::month, 2),
            b'd' => Piece::Number(parts::day, 2),
            b'H' => Piece::Number(parts::hour, 2),
            b'M' => Piece::Number(parts::minute, 2),
            b'S' => Piece::Number(parts::second, 2),
            b'j' => Piece::Number(parts::day_of_year, 3),
            b'b' | b'h' => Piece::Name(|at| MONTHS[(parts::month(at) - 1).clamp(0, 11) as usize]),
            b'a' => Piece::Name(|at| DAYS[(parts::weekday(at) - 1).clamp(0, 6) as usize]),
            _ => return None,
        });
    }
    flush(&mut literal, &mut pieces);
    Some(pieces)
}

fn flush(literal: &mut Vec<u8>, pieces: &mut Vec<Piece>) {
    if !literal.is_empty() {
        pieces.push(Piece::Literal(std::mem::take(literal).into()));
    }
}

/// The last `width` digits of a number.
fn write_digits(number: i64, width: usize, out: &mut Vec<u8>) {
    let digit = |at: u32| b'0' + (number / 10i64.pow(at) % 10) as u8;
    match width {
        2 => out.extend_from_slice(&[digit(1), digit(0)]),
        3 => out.extend_from_slice(&[digit(2), digit(1), digit(0)]),
        _ => out.extend_from_slice(&[digit(3), digit(2), digit(1), digit(0)]),
    }
}

fn format_time(constants: &[Option<Plain<'_>>]) -> Option<PreparedPlain> {
    let pieces = match constants {
        [_, Some(Plain::Text(format)), _] => pieces(format),
        _ => None,
    };
    Some(Arc::new(move |args, buffer| {
        let [Plain::Time(ms), Plain::Text(format), Plain::Text(in_zone)] = args else {
            return PlainAnswer::Unsure;
        };
        if let Some(pieces) = &pieces
            && *in_zone == b"UTC"
            && let Ok(at) = civil(*ms, b"UTC")
            && (0..=9999).contains(&at.year())
        {
            write_pieces(pieces, at, ms.rem_euclid(1000), buffer);
            return PlainAnswer::Written;
        }
        match time::write_time(*ms, format, in_zone, buffer) {
            Ok(()) => PlainAnswer::Written,
            Err(_) => PlainAnswer::Fails,
        }
    }))
}

fn write_pieces(pieces: &[Piece], at: DateTime, ms: i64, out: &mut Vec<u8>) {
    for piece in pieces {
        match piece {
            Piece::Literal(text) => out.extend_from_slice(text),
            Piece::Year => write_digits(parts::year(at), 4, out),
            Piece::Number(of, width) => write_digits(of(at), *width, out),
            Piece::Name(of) => out.extend_from_slice(of(at).as_bytes()),
            Piece::Ms => write_digits(ms, 3, out),
        }
    }
}

fn unix_ms<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    let [Plain::Time(ms)] = args else { return PlainAnswer::Unsure };
    int(*ms)
}

fn unix<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    let [Plain::Time(ms)] = args else { return PlainAnswer::Unsure };
    int(ms.div_euclid(1000))
}

/// A time that text and parts can be made of.
fn checked(ms: i64) -> PlainAnswer<'static> {
    or_fails(timestamp(ms).ok(), |_| at(ms))
}

fn from_unix<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    match args {
        [Plain::Int(seconds)] => checked(seconds.saturating_mul(1000)),
        [Plain::Float(seconds)] if !seconds.is_nan() => checked(ms_of_seconds(*seconds)),
        _ => PlainAnswer::Unsure,
    }
}

fn from_unix_ms<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    let [Plain::Int(ms)] = args else { return PlainAnswer::Unsure };
    checked(*ms)
}

fn part<'a>(args: &[Plain<'a>], of: fn(DateTime) -> i64) -> PlainAnswer<'a> {
    let [Plain::Time(ms), Plain::Text(in_zone)] = args else { return PlainAnswer::Unsure };
    or_fails(civil(*ms, in_zone).ok(), |at| int(of(at)))
}

fn truncate_time<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    let [Plain::Time(ms), Plain::Duration(step_ns)] = args else { return PlainAnswer::Unsure };
    match step_ns / 1_000_000 {
        step_ms @ 1.. => checked(step_start(*ms, step_ms)),
        _ => PlainAnswer::Fails,
    }
}

fn seconds<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    let [Plain::Duration(ns)] = args else { return PlainAnswer::Unsure };
    float(to_seconds(*ns))
}

fn milliseconds<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    let [Plain::Duration(ns)] = args else { return PlainAnswer::Unsure };
    int(ns / 1_000_000)
}
