//! The same work by hand, as somebody writes it who knows the shape of the rows: literals by `memmem`, separators by
//! `memchr`, digits one by one. No `unsafe`.

use aho_corasick::packed::Searcher;
use memchr::memmem::Finder;
use memchr::{memchr, memchr_iter};

use crate::rowwise::Span;

/// Whether one of some literals is in a row.
pub struct Literals(Vec<Finder<'static>>);

impl Literals {
    pub fn new(literals: &[&'static str]) -> Literals {
        Literals(literals.iter().map(|literal| Finder::new(*literal)).collect())
    }

    pub fn any(&self, row: &[u8]) -> bool {
        self.0.iter().any(|finder| finder.find(row).is_some())
    }
}

/// Where a row is read.
struct Cursor<'r> {
    row: &'r [u8],
    at: usize,
}

impl Cursor<'_> {
    /// The text before the next `end`, which is passed.
    fn until(&mut self, end: u8) -> Option<Span> {
        let len = memchr(end, &self.row[self.at..])?;
        let start = self.at;
        self.at += len + 1;
        Some((start as u32, (start + len) as u32))
    }

    /// Text without white space, and the blank behind it.
    fn word(&mut self) -> Option<Span> {
        let span = self.until(b' ')?;
        let word = &self.row[span.0 as usize..span.1 as usize];
        (!word.is_empty() && !word.iter().any(|byte| (9..=13).contains(byte))).then_some(span)
    }

    fn literal(&mut self, literal: &[u8]) -> Option<()> {
        let fits = self.row[self.at..].starts_with(literal);
        self.at += literal.len();
        fits.then_some(())
    }

    /// Digits, at least one.
    fn digits(&mut self) -> Option<Span> {
        let len = self.row[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let start = self.at;
        self.at += len;
        (len > 0).then_some((start as u32, self.at as u32))
    }
}

/// The ten fields of a line of a combined access log.
pub fn fields(row: &[u8]) -> Option<[Span; 10]> {
    let mut cursor = Cursor { row, at: 0 };
    let (ip, ident, user) = (cursor.word()?, cursor.word()?, cursor.word()?);
    cursor.literal(b"[")?;
    let when = cursor.until(b']')?;
    cursor.literal(b" \"")?;
    let method = cursor.word()?;
    let (start, quote) = cursor.until(b'"')?;
    let request = &row[start as usize..quote as usize];
    let version = request.iter().rev().take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
    let path = request[..request.len() - version].strip_suffix(b" HTTP/")?;
    let path = (start, start + path.len() as u32);
    cursor.literal(b" ")?;
    let status = cursor.digits()?;
    cursor.literal(b" ")?;
    let size = match row.get(cursor.at)? {
        b'-' => {
            cursor.at += 1;
            (cursor.at as u32 - 1, cursor.at as u32)
        }
        _ => cursor.digits()?,
    };
    cursor.literal(b" \"")?;
    let referrer = cursor.until(b'"')?;
    cursor.literal(b" \"")?;
    let agent = cursor.until(b'"')?;
    let whole = when.0 < when.1 && version > 0 && status.1 - status.0 == 3 && cursor.at == row.len();
    whole.then_some([ip, ident, user, when, method, path, status, size, referrer, agent])
}

const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// `23/Nov/2026:10:00:00 +0100` in milliseconds since 1970 UTC.
pub fn date_ms(text: &[u8]) -> Option<i64> {
    let text: &[u8; 26] = text.try_into().ok()?;
    let number = |start: usize, len: usize| {
        text[start..start + len].iter().try_fold(0i64, |number, byte| {
            let digit = byte.wrapping_sub(b'0');
            (digit < 10).then(|| number * 10 + i64::from(digit))
        })
    };
    let separators = [(2, b'/'), (6, b'/'), (11, b':'), (14, b':'), (17, b':'), (20, b' ')];
    if separators.iter().any(|&(at, byte)| text[at] != byte) {
        return None;
    }
    let (day, year) = (number(0, 2)?, number(7, 4)?);
    let month = MONTHS.iter().position(|name| name[..] == text[3..6])? as i64 + 1;
    let (hour, minute, second) = (number(12, 2)?, number(15, 2)?, number(18, 2)?);
    let zone_s = (number(22, 2)? * 60 + number(24, 2)?) * 60;
    let zone_s = match text[21] {
        b'+' => zone_s,
        b'-' => -zone_s,
        _ => return None,
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = [31, 28 + i64::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month as usize - 1];
    if !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", days_from_civil.
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    Some((days * 86_400 + hour * 3_600 + minute * 60 + second - zone_s) * 1_000)
}

/// Digits only.
pub fn number(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit < 10 { number.checked_mul(10)?.checked_add(u64::from(digit)) } else { None }
    })
}

/// The three fields of a JSON row that are wanted: text, text, number.
pub struct Json {
    level: Finder<'static>,
    service: Finder<'static>,
    status: Finder<'static>,
}

impl Json {
    pub fn new() -> Json {
        Json {
            level: Finder::new("\"level\":\""),
            service: Finder::new("\"service\":\""),
            status: Finder::new("\"status\":"),
        }
    }

    pub fn read(&self, row: &[u8]) -> Option<(Span, Span, i64)> {
        let text = |finder: &Finder<'_>| {
            let start = finder.find(row)? + finder.needle().len();
            let len = memchr(b'"', &row[start..])?;
            Some((start as u32, (start + len) as u32))
        };
        let mut cursor = Cursor { row, at: self.status.find(row)? + self.status.needle().len() };
        let status = cursor.digits()?;
        let status = number(&row[status.0 as usize..status.1 as usize])?;
        let whole = row.last() == Some(&b'}');
        whole.then_some((text(&self.level)?, text(&self.service)?, i64::try_from(status).ok()?))
    }
}

/// The eight cases of the route. All their literals are searched for at once.
pub struct Cases(Searcher);

/// The literals of [`Cases`] and the case that each is of; the kinds of assets have more behind them.
const CASE_LITERALS: [(&str, usize); 9] = [
    ("/static/", 4),
    ("/assets/", 4),
    (".css", ASSET),
    (".js", ASSET),
    (".png", ASSET),
    (".jpg", ASSET),
    ("/login", 5),
    ("/logout", 5),
    ("/oauth/", 5),
];
const ASSET: usize = 9;

/// What a robot is called, in any case of its letters.
const ROBOTS: [&str; 3] = ["bot", "crawler", "spider"];
/// Letters of a robot's name that are searched for in all their cases.
const ROBOT_LETTERS: usize = 3;

impl Cases {
    pub fn new() -> Cases {
        let literals = CASE_LITERALS.iter().map(|(literal, _)| (*literal).to_owned());
        let robots = ROBOTS.iter().flat_map(|robot| {
            (0..1 << ROBOT_LETTERS).map(|upper: usize| {
                let letters = robot.chars().take(ROBOT_LETTERS).enumerate();
                letters
                    .map(
                        |(at, letter)| {
                            if upper >> at & 1 == 1 { letter.to_ascii_uppercase() } else { letter }
                        },
                    )
                    .collect::<String>()
            })
        });
        Cases(Searcher::new(literals.chain(robots)).expect("33 short literals"))
    }

    /// The number of the first case that a row fits, else 8.
    pub fn first(&self, row: &[u8]) -> usize {
        let mut first = 8;
        for quote in memchr_iter(b'"', row) {
            let case = match &row[quote + 1..] {
                [b' ', b'5', a, b, b' ', ..] if a.is_ascii_digit() && b.is_ascii_digit() => return 0,
                [b' ', b'4', a, b, b' ', ..] if a.is_ascii_digit() && b.is_ascii_digit() => 3,
                rest @ [b'G' | b'P', ..] if is_api(rest) => 2,
                rest @ [b'h', ..] if is_example(rest) => 7,
                _ => 8,
            };
            first = first.min(case);
        }
        if first > 6 && is_inside(row) {
            first = 6;
        }
        let mut start = 0;
        while let Some(found) = self.0.find_in(row, (start..row.len()).into()) {
            let rest = &row[found.start()..];
            let case = match CASE_LITERALS.get(found.pattern().as_usize()) {
                Some((literal, ASSET)) if matches!(rest[literal.len()..], [b'?' | b' ', ..]) => 4,
                Some((_, ASSET)) => 8,
                Some((_, case)) => *case,
                None => {
                    let is = |robot: &&str| {
                        rest.get(..robot.len())
                            .is_some_and(|text| text.eq_ignore_ascii_case(robot.as_bytes()))
                    };
                    if ROBOTS.iter().any(is) {
                        return 1;
                    }
                    8
                }
            };
            first = first.min(case);
            start = found.start() + 1;
        }
        first
    }
}

fn is_api(request: &[u8]) -> bool {
    let url = request.strip_prefix(b"GET ").or_else(|| request.strip_prefix(b"POST "));
    let version = url.and_then(|url| url.strip_prefix(b"/api/v"));
    matches!(version, Some([b'1' | b'2', b'/', ..]))
}

fn is_example(url: &[u8]) -> bool {
    let Some(rest) = url.strip_prefix(b"http") else { return false };
    let rest = rest.strip_prefix(b"s").unwrap_or(rest);
    let Some(host) = rest.strip_prefix(b"://") else { return false };
    let host = host.strip_prefix(b"www.").unwrap_or(host);
    host.starts_with(b"example.com/") || host.starts_with(b"example.org/")
}

fn is_inside(row: &[u8]) -> bool {
    let Some(end) = memchr(b' ', row) else { return false };
    let mut parts = row[..end].split(|byte| *byte == b'.');
    let digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    parts.next() == Some(b"10") && parts.clone().count() == 3 && parts.all(digits)
}
