//! Numbers with units, and timestamps: units are applied, overflow is an error.

use flow_diag::{Code, Diagnostic, Span, suggest};

use super::Builder;
use crate::ast::Literal;
use crate::grammar::{Node, Rule, children};

const DURATIONS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
    ("w", 604_800_000_000_000),
];

const SIZES: [(&str, u64); 9] = [
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// What people write for a unit, and what it is called here.
const SYNONYMS: [(&str, &str); 25] = [
    ("sec", "s"),
    ("secs", "s"),
    ("second", "s"),
    ("seconds", "s"),
    ("minute", "min"),
    ("minutes", "min"),
    ("hour", "h"),
    ("hours", "h"),
    ("hr", "h"),
    ("hrs", "h"),
    ("day", "d"),
    ("days", "d"),
    ("week", "w"),
    ("weeks", "w"),
    ("millis", "ms"),
    ("msec", "ms"),
    ("µs", "us"),
    ("usec", "us"),
    ("bytes", "B"),
    ("b", "B"),
    ("K", "KB"),
    ("k", "KB"),
    ("M", "MB"),
    ("G", "GB"),
    ("T", "TB"),
];

const UNIT_TABLE: &str = "durations: ns us ms s min h d w   sizes: B KB MB GB TB KiB MiB GiB TiB";

/// A decimal number as written: digits before and after the point.
struct Decimal<'t> {
    whole: &'t str,
    fraction: &'t str,
}

impl Decimal<'_> {
    /// The number times `unit`, rounded down; `None` when it does not fit.
    fn times(&self, unit: u128) -> Option<u128> {
        let mut total = digits_value(self.whole)?.checked_mul(unit)?;
        let mut share = unit;
        for digit in self.fraction.bytes().filter(u8::is_ascii_digit) {
            share /= 10;
            total = total.checked_add(u128::from(digit - b'0').checked_mul(share)?)?;
        }
        Some(total)
    }

    fn float(&self) -> Option<f64> {
        let digits = |text: &str| text.replace('_', "");
        format!("{}.{}", digits(self.whole), digits(self.fraction))
            .parse()
            .ok()
            .filter(|f: &f64| f.is_finite())
    }
}

fn digits_value(digits: &str) -> Option<u128> {
    let mut value: u128 = 0;
    for digit in digits.bytes().filter(u8::is_ascii_digit) {
        value = value.checked_mul(10)?.checked_add(u128::from(digit - b'0'))?;
    }
    Some(value)
}

impl Builder<'_> {
    /// `42`, `0.5`, `80%`, `5min`, `1h30min`, `64MiB`
    pub(super) fn number(&mut self, node: &Node<'_>) -> Literal {
        let span = self.span(node);
        let mut digits = Vec::new();
        let mut units = Vec::new();
        let mut percent = false;
        for child in children(node) {
            match child.as_rule() {
                Rule::digits => digits.push(child.as_str()),
                Rule::unit => units.push(child),
                Rule::percent => percent = true,
                _ => {}
            }
        }
        // digits: whole [fraction] [more parts]; with units the parts after the first pair up with the units
        let has_fraction = digits.len() > units.len().max(1);
        let whole = digits.first().copied().unwrap_or("0");
        let fraction = if has_fraction { digits.get(1).copied().unwrap_or("") } else { "" };
        let decimal = Decimal { whole, fraction };
        if units.is_empty() {
            return self.plain_number(&decimal, has_fraction, percent, span);
        }
        let mut parts = vec![decimal];
        let rest = digits.iter().skip(if has_fraction { 2 } else { 1 });
        parts.extend(rest.map(|whole| Decimal { whole, fraction: "" }));
        self.with_units(&parts, &units, span)
    }

    fn plain_number(
        &mut self,
        decimal: &Decimal<'_>,
        has_fraction: bool,
        percent: bool,
        span: Span,
    ) -> Literal {
        let value = if percent {
            decimal.float().map(|value| Literal::Float(value / 100.0))
        } else if has_fraction {
            decimal.float().map(Literal::Float)
        } else {
            digits_value(decimal.whole).and_then(|value| i64::try_from(value).ok()).map(Literal::Int)
        };
        value.unwrap_or_else(|| {
            self.too_large(span, "number", "the largest is 9_223_372_036_854_775_807");
            Literal::Int(i64::MAX)
        })
    }

    fn with_units(&mut self, parts: &[Decimal<'_>], units: &[Node<'_>], span: Span) -> Literal {
        if let [unit] = units
            && let Some((_, bytes)) = SIZES.iter().find(|(name, _)| *name == unit.as_str())
        {
            let size = parts.first().and_then(|part| part.times(u128::from(*bytes)));
            return Literal::Size(size.and_then(|size| u64::try_from(size).ok()).unwrap_or_else(|| {
                self.too_large(span, "size", "the largest is 16_777_215TiB");
                u64::MAX
            }));
        }
        let mut total: u128 = 0;
        let mut known = true;
        for (part, unit) in parts.iter().zip(units) {
            match DURATIONS.iter().find(|(name, _)| *name == unit.as_str()) {
                Some((_, nanos)) => {
                    let sum = part.times(u128::from(nanos.unsigned_abs())).and_then(|n| total.checked_add(n));
                    total = sum.unwrap_or(u128::MAX);
                }
                None => {
                    self.unknown_unit(unit, units.len() > 1, span);
                    known = false;
                }
            }
        }
        if !known {
            return Literal::Duration(0);
        }
        Literal::Duration(i64::try_from(total).unwrap_or_else(|_| {
            self.too_large(span, "duration", "the largest is 106_751d");
            i64::MAX
        }))
    }

    fn unknown_unit(&mut self, node: &Node<'_>, compound: bool, number: Span) {
        let unit = node.as_str();
        let at = self.span(node);
        if unit == "m" {
            let digits = self.source.text.get(number.start as usize..at.start as usize).unwrap_or("5");
            let diagnostic =
                Diagnostic::new(Code::F0204, at, format!("`{digits}m`: minutes or milliseconds?"))
                    .label("`m` could be both")
                    .help(format!("write `{digits}min` or `{digits}ms`"));
            return self.report(diagnostic);
        }
        if compound && SIZES.iter().any(|(name, _)| *name == unit) {
            let diagnostic =
                Diagnostic::new(Code::F0203, at, format!("`{unit}` cannot be part of a sum of units"))
                    .label("only durations are written as a sum, such as `1h30min`")
                    .help("write a size with one unit: `1.5GiB`");
            return self.report(diagnostic);
        }
        let names = || DURATIONS.iter().map(|(name, _)| *name).chain(SIZES.iter().map(|(name, _)| *name));
        let same_letters = names().find(|name| name.eq_ignore_ascii_case(unit));
        let synonym = SYNONYMS
            .iter()
            .find(|(word, _)| *word == unit || word.eq_ignore_ascii_case(unit) && word.len() > 1);
        let meant = same_letters.or(synonym.map(|(_, name)| *name)).or_else(|| suggest(unit, names()));
        let mut diagnostic = Diagnostic::new(Code::F0203, at, format!("unknown unit `{unit}`"));
        if let Some(meant) = meant {
            diagnostic = diagnostic.label(format!("did you mean `{meant}`?")).fix(at, meant);
        }
        self.report(diagnostic.help(UNIT_TABLE));
    }

    fn too_large(&mut self, span: Span, what: &str, limit: &str) {
        self.report(
            Diagnostic::new(Code::F0206, span, format!("this {what} is too large"))
                .label("does not fit")
                .help(limit),
        );
    }

    /// `@2026-11-23T10:00:00Z`, without a zone in UTC: milliseconds since 1970.
    pub(super) fn timestamp(&mut self, node: &Node<'_>) -> Literal {
        let text = node.as_str();
        match timestamp_ms(text) {
            Ok(ms) => Literal::Time(ms),
            Err(wrong) => {
                let span = self.span(node);
                let date = text.get(1..11).unwrap_or(text);
                let diagnostic = match wrong {
                    Impossible::Date => {
                        Diagnostic::new(Code::F0219, span, format!("the date {date} does not exist"))
                            .label("no such day")
                    }
                    Impossible::Time => Diagnostic::new(Code::F0219, span, "this time of day does not exist")
                        .label("hours go to 23, minutes and seconds to 59"),
                };
                self.report(diagnostic);
                Literal::Time(0)
            }
        }
    }
}

enum Impossible {
    Date,
    Time,
}

/// `@YYYY-MM-DD[THH:MM[:SS[.fraction]][Z|±HH:MM]]` of the grammar's shape.
fn timestamp_ms(text: &str) -> Result<i64, Impossible> {
    let field =
        |at: usize, length: usize| text.get(at..at + length).and_then(|digits| digits.parse::<i64>().ok());
    let date = field(1, 4).zip(field(6, 2)).zip(field(9, 2));
    let Some(((year, month), day)) = date else { return Err(Impossible::Date) };
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return Err(Impossible::Date);
    }
    let mut ms = days_since_1970(year, month, day) * 86_400_000;
    if text.len() <= 11 {
        return Ok(ms);
    }
    let Some((hour, minute)) = field(12, 2).zip(field(15, 2)) else { return Err(Impossible::Time) };
    let mut rest = text.get(17..).unwrap_or("");
    let mut second = 0;
    if let Some(after) = rest.strip_prefix(':') {
        second = after.get(..2).and_then(|digits| digits.parse().ok()).ok_or(Impossible::Time)?;
        rest = after.get(2..).unwrap_or("");
        if let Some(after) = rest.strip_prefix('.') {
            let length = after.bytes().take_while(u8::is_ascii_digit).count();
            for (digit, worth) in after.bytes().take(length).zip([100, 10, 1]) {
                ms += i64::from(digit - b'0') * worth;
            }
            rest = after.get(length..).unwrap_or("");
        }
    }
    if hour > 23 || minute > 59 || second > 59 {
        return Err(Impossible::Time);
    }
    ms += hour * 3_600_000 + minute * 60_000 + second * 1_000;
    if rest.starts_with(['+', '-']) {
        let zone = |at: usize| rest.get(at..at + 2).and_then(|digits| digits.parse::<i64>().ok());
        let Some((hours, minutes)) = zone(1).zip(zone(4)) else { return Err(Impossible::Time) };
        if hours > 23 || minutes > 59 {
            return Err(Impossible::Time);
        }
        let ahead = hours * 3_600_000 + minutes * 60_000;
        ms -= if rest.starts_with('-') { -ahead } else { ahead };
    }
    Ok(ms)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar, counted in eras of 400 years that start in March.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn timestamps_are_milliseconds_since_1970() {
        assert_eq!(timestamp_ms("@1970-01-01").ok(), Some(0));
        assert_eq!(timestamp_ms("@2000-03-01T00:00:00Z").ok(), Some(951_868_800_000));
        assert_eq!(timestamp_ms("@2026-11-23T10:00:00.25+01:00").ok(), Some(1_795_424_400_250));
        assert_eq!(timestamp_ms("@0000-01-01").ok(), Some(-62_167_219_200_000));
        assert!(timestamp_ms("@2026-02-29").is_err());
        assert!(timestamp_ms("@2026-01-01T24:00").is_err());
    }
}
