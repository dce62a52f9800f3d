//! Times in texts of one fixed width, read by digit arithmetic: one pass tells whether every byte is what the layout
//! has there, then each part is read from its place. It knows only the usual way to write a part, with all its
//! digits; other ways, and what no calendar has, are somebody else's to judge.

/// Bytes of the longest text that a layout can have.
pub const WIDTH_MAX: usize = 40;
/// Bytes that are looked at together.
const WINDOW: usize = 16;

/// Where in a text the parts of a time stand.
#[derive(Clone, Debug)]
pub struct Layout {
    width: usize,
    /// By byte: the least one allowed, and how many more there are above it.
    low: [u8; WIDTH_MAX],
    span: [u8; WIDTH_MAX],
    year: Option<usize>,
    month: Option<usize>,
    month_by_name: bool,
    day: Option<usize>,
    hour: Option<usize>,
    minute: Option<usize>,
    second: Option<usize>,
    /// The first three digits of the fraction.
    ms: Option<usize>,
    /// Digits of the fraction.
    fraction_digits: usize,
    /// The sign, then the hours.
    offset: Option<usize>,
    offset_minute: usize,
}

/// A time as it was written, of the years 1 to 9998 and with parts that exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    pub year: i16,
    pub month: i8,
    pub day: i8,
    pub hour: i8,
    pub minute: i8,
    pub second: i8,
    pub ms: i16,
    pub offset_minutes: i16,
}

impl Layout {
    /// The layout of a strftime format; `None` when the width of its texts is not fixed, something other than
    /// date, time of day and offset is in it, or one of year, month and day is not.
    pub fn new(format: &[u8]) -> Option<Layout> {
        let mut layout = Layout {
            width: 0,
            low: [0; WIDTH_MAX],
            span: [0; WIDTH_MAX],
            year: None,
            month: None,
            month_by_name: false,
            day: None,
            hour: None,
            minute: None,
            second: None,
            ms: None,
            fraction_digits: 0,
            offset: None,
            offset_minute: 0,
        };
        layout.read(format)?;
        let complete = layout.year.is_some() && layout.month.is_some() && layout.day.is_some();
        // A part of the time of day stands for nothing without the larger ones.
        let nested = layout.hour.is_some() >= layout.minute.is_some()
            && layout.minute.is_some() >= layout.second.is_some()
            && layout.second.is_some() >= layout.ms.is_some();
        (complete && nested).then_some(layout)
    }

    fn read(&mut self, format: &[u8]) -> Option<()> {
        let mut rest = format;
        while let [byte, after @ ..] = rest {
            rest = after;
            if *byte != b'%' {
                if !byte.is_ascii() || (byte.is_ascii_whitespace() && *byte != b' ') {
                    return None;
                }
                self.put(*byte, 0)?;
                continue;
            }
            // Whatever takes as many digits as there are must not be followed by more.
            let digit_follows = |rest: &[u8]| match rest {
                [] => false,
                [b'%', next, ..] => !matches!(next, b'z' | b':'),
                [byte, ..] => byte.is_ascii_digit() || *byte == b':',
            };
            match rest {
                [b'F', after @ ..] => {
                    self.read(b"%Y-%m-%d")?;
                    rest = after;
                }
                [b'T', after @ ..] => {
                    self.read(b"%H:%M:%S")?;
                    rest = after;
                }
                [b'R', after @ ..] => {
                    self.read(b"%H:%M")?;
                    rest = after;
                }
                [b'z', after @ ..] if !digit_follows(after) => {
                    let at = self.offset_hours()?;
                    self.offset_minute = self.digits(2)?;
                    self.offset = Some(at);
                    rest = after;
                }
                [b':', b'z', after @ ..] if !digit_follows(after) => {
                    let at = self.offset_hours()?;
                    self.put(b':', 0)?;
                    self.offset_minute = self.digits(2)?;
                    self.offset = Some(at);
                    rest = after;
                }
                [b'.', digit @ (b'3' | b'6' | b'9'), b'f', after @ ..] if !digit_follows(after) => {
                    self.put(b'.', 0)?;
                    self.fraction(usize::from(digit - b'0'))?;
                    rest = after;
                }
                [b'.', b'f', after @ ..] if !digit_follows(after) => {
                    self.put(b'.', 0)?;
                    self.fraction(3)?;
                    rest = after;
                }
                [digit @ (b'3' | b'6' | b'9'), b'f', after @ ..] if !digit_follows(after) => {
                    self.fraction(usize::from(digit - b'0'))?;
                    rest = after;
                }
                [b'f', after @ ..] if !digit_follows(after) => {
                    self.fraction(3)?;
                    rest = after;
                }
                [part, after @ ..] => {
                    let part = *part;
                    if matches!(part, b'b' | b'h') {
                        let at = self.width;
                        for _ in 0..3 {
                            self.put(b'A', b'z' - b'A')?;
                        }
                        self.month_by_name = true;
                        once(&mut self.month, at)?;
                    } else {
                        let at = self.digits(if part == b'Y' { 4 } else { 2 })?;
                        let place = match part {
                            b'Y' => &mut self.year,
                            b'm' => &mut self.month,
                            b'd' => &mut self.day,
                            b'H' => &mut self.hour,
                            b'M' => &mut self.minute,
                            b'S' => &mut self.second,
                            _ => return None,
                        };
                        once(place, at)?;
                    }
                    rest = after;
                }
                [] => return None,
            }
        }
        Some(())
    }

    fn put(&mut self, low: u8, span: u8) -> Option<()> {
        if self.width == WIDTH_MAX {
            return None;
        }
        (self.low[self.width], self.span[self.width]) = (low, span);
        self.width += 1;
        Some(())
    }

    fn digits(&mut self, count: usize) -> Option<usize> {
        let at = self.width;
        for _ in 0..count {
            self.put(b'0', 9)?;
        }
        Some(at)
    }

    fn fraction(&mut self, digits: usize) -> Option<()> {
        let at = self.digits(digits)?;
        self.fraction_digits = digits;
        once(&mut self.ms, at)
    }

    fn offset_hours(&mut self) -> Option<usize> {
        if self.offset.is_some() {
            return None;
        }
        let at = self.width;
        // `+`, `,` and `-` follow each other; the one in the middle is found later.
        self.put(b'+', 2)?;
        self.digits(2)?;
        Some(at)
    }

    /// Bytes of every text of this layout.
    pub fn width(&self) -> usize {
        self.width
    }

    pub fn has_offset(&self) -> bool {
        self.offset.is_some()
    }

    /// Whether every byte of a text of this width is what the layout has there.
    #[inline]
    fn fits(&self, text: &[u8]) -> bool {
        let window = |at: usize| {
            let (Some(bytes), Some(low), Some(span)) = (
                text.get(at..).and_then(|rest| rest.first_chunk::<WINDOW>()),
                self.low[at..].first_chunk::<WINDOW>(),
                self.span[at..].first_chunk::<WINDOW>(),
            ) else {
                return false;
            };
            let mut wrong = 0;
            for at in 0..WINDOW {
                wrong |= u8::from(bytes[at].wrapping_sub(low[at]) > span[at]);
            }
            wrong == 0
        };
        if self.width < WINDOW {
            let allowed = self.low.iter().zip(&self.span);
            return text.iter().zip(allowed).all(|(byte, (low, span))| byte.wrapping_sub(*low) <= *span);
        }
        // The last window overlaps the one before.
        let last = window(self.width - WINDOW);
        window(0) & last & (self.width <= 2 * WINDOW || window(WINDOW))
    }

    /// Reads a text; `None` when it is not exactly of this layout, or not a time.
    #[inline]
    pub fn parse(&self, text: &[u8]) -> Option<Parts> {
        if text.len() != self.width {
            return None;
        }
        if !self.fits(text) {
            return None;
        }
        let digit = |at: usize| i32::from(text[at]) - i32::from(b'0');
        let two = |at: usize| digit(at) * 10 + digit(at + 1);
        let part = |place: Option<usize>| place.map_or(0, two);
        let year = self.year.map_or(0, |at| two(at) * 100 + two(at + 2));
        let month = match self.month {
            Some(at) if self.month_by_name => month_of([text[at], text[at + 1], text[at + 2]]),
            place => part(place),
        };
        let (day, hour, minute) = (part(self.day), part(self.hour), part(self.minute));
        let second = part(self.second);
        let ms = self.ms.map_or(0, |at| two(at) * 10 + digit(at + 2));
        let (sign, offset_hour, offset_minute) = match self.offset {
            Some(at) => (text[at], two(at + 1), two(self.offset_minute)),
            None => (b'+', 0, 0),
        };
        let exists = (1..=9998).contains(&year)
            & (1..=12).contains(&month)
            & (day >= 1)
            & (day <= month_days(year, month))
            & (hour < 24)
            & (minute < 60)
            & (second < 60)
            & (offset_hour < 24)
            & (offset_minute < 60)
            & (sign != b',');
        if !exists {
            return None;
        }
        let offset = offset_hour * 60 + offset_minute;
        let parts = Parts {
            year: year as i16,
            month: month as i8,
            day: day as i8,
            hour: hour as i8,
            minute: minute as i8,
            second: second as i8,
            ms: ms as i16,
            offset_minutes: if sign == b'-' { -offset as i16 } else { offset as i16 },
        };
        // Digits below the milliseconds are cut, which rounds up before 1970.
        (self.fraction_digits <= 3 || parts.utc_ms() >= 0).then_some(parts)
    }
}

fn once(place: &mut Option<usize>, at: usize) -> Option<()> {
    place.replace(at).is_none().then_some(())
}

impl Parts {
    /// Milliseconds since 1970 UTC of this time with its offset.
    #[inline]
    pub fn utc_ms(self) -> i64 {
        let days =
            i64::from(days_from_civil(i32::from(self.year), i32::from(self.month), i32::from(self.day)));
        let minutes = i64::from(self.hour) * 60 + i64::from(self.minute) - i64::from(self.offset_minutes);
        (days * 86_400 + minutes * 60 + i64::from(self.second)) * 1_000 + i64::from(self.ms)
    }
}

/// Days of a year before each month, from 1; the rest is there so that no month of two digits needs a check.
const DAYS_BEFORE: [u16; 16] = [0, 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 0, 0, 0];
const MONTH_DAYS: [u8; 16] = [0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 0, 0, 0];

fn is_leap(year: i32) -> bool {
    // Every hundredth year is none but every four hundredth: a multiple of 25 and 16 is one of 400.
    let year = year as u32;
    if year.is_multiple_of(25) { year.is_multiple_of(16) } else { year.is_multiple_of(4) }
}

/// Days since 1970-01-01 of a date of a year from 1 on.
fn days_from_civil(year: i32, month: i32, day: i32) -> i32 {
    let before = (year - 1) as u32;
    let centuries = before / 100;
    let days = before * 365 + before / 4 - centuries + centuries / 4;
    let leap_day = month > 2 && is_leap(year);
    days as i32 + i32::from(DAYS_BEFORE[month as usize % 16]) + i32::from(leap_day) + day - 719_163
}

fn month_days(year: i32, month: i32) -> i32 {
    i32::from(MONTH_DAYS[month as usize % 16]) + i32::from(month == 2 && is_leap(year))
}

const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// Gives the names of the twelve months sixteen places of their own.
const MULTIPLIER: u32 = 0x0741_c7a9;

const fn slot(name: [u8; 3]) -> usize {
    (u32::from_le_bytes([name[0], name[1], name[2], 0]).wrapping_mul(MULTIPLIER) >> 28) as usize
}

/// Name and number by place; what no month has is never equal to a name.
const SLOTS: [([u8; 3], u8); 16] = {
    let mut slots = [([0; 3], 0); 16];
    let mut month = 0;
    while month < 12 {
        slots[slot(*MONTHS[month])] = (*MONTHS[month], month as u8 + 1);
        month += 1;
    }
    slots
};

/// The number of a month from 1, or 0.
fn month_of(name: [u8; 3]) -> i32 {
    let (found, number) = SLOTS[slot(name)];
    if found == name { i32::from(number) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_month_has_its_own_place() {
        for (index, month) in MONTHS.iter().enumerate() {
            assert_eq!(month_of(**month), index as i32 + 1);
        }
        for other in [b"jan", b"JAN", b"Jam", b"000"] {
            assert_eq!(month_of(*other), 0);
        }
    }

    #[test]
    fn layouts_are_of_fixed_width() {
        let width = |format: &str| Layout::new(format.as_bytes()).map(|layout| layout.width());
        assert_eq!(width("%d/%b/%Y:%H:%M:%S %z"), Some(26));
        assert_eq!(width("%FT%T%.3f%:z"), Some(29));
        assert_eq!(width("%Y%m%d"), Some(8));
        for other in [
            "",
            "%",
            "%H:%M",
            "%F %M",
            "%F %F",
            "%s",
            "%a, %F",
            "%F\t%T",
            "%e %b %Y",
            "%F%f%H:%M:%S",
            "%F %T%z9",
            "ñ%F",
            "%F %T %z %z",
            "%-d %b %Y",
            "%F -----------------------------------",
        ] {
            assert_eq!(width(other), None, "{other}");
        }
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        let mut date = jiff::civil::date(1, 1, 1);
        let epoch = jiff::civil::date(1970, 1, 1);
        // Over four hundred years every kind of year and century has come by.
        while date < jiff::civil::date(402, 1, 1) {
            let (year, month, day) = (i32::from(date.year()), i32::from(date.month()), i32::from(date.day()));
            assert_eq!(month_days(year, month), i32::from(date.days_in_month()), "{date}");
            let days = date.duration_since(epoch).as_hours() / 24;
            assert_eq!(i64::from(days_from_civil(year, month, day)), days, "{date}");
            date = date.tomorrow().expect("a day of the years 1 to 402");
        }
    }
}
