//! Templates in settings: text with holes that are evaluated for each event. A hole is evaluated on its own, so
//! that whoever builds a path can judge each value before it becomes part of it.

use flow_agent::{Context, Fault};
use flow_plan::Batch;
use flow_plan::Slot;
use flow_plan::ir::{Const, Expr, TemplatePart};

/// A piece of a template.
pub enum Part {
    /// Written in the flow, or known when it was compiled.
    Text(String),
    /// A value of each event.
    Hole(Hole),
}

/// Takes a `template` setting apart.
pub fn parts(expr: &Expr, context: &Context, setting: &'static str) -> Result<Vec<Part>, Fault> {
    let mut parts = Vec::new();
    match expr {
        Expr::Const(Const::Text(text)) => push_text(&mut parts, text),
        Expr::Template(pieces) => {
            for piece in pieces {
                match piece {
                    TemplatePart::Text(text) => push_text(&mut parts, text),
                    TemplatePart::Expr { value: Expr::Const(Const::Text(text)), format: None } => {
                        push_text(&mut parts, text);
                    }
                    TemplatePart::Expr { value: Expr::Template(inner), format: None } => {
                        for part in self::parts(&Expr::Template(inner.clone()), context, setting)? {
                            match part {
                                Part::Text(text) => push_text(&mut parts, &text),
                                hole => parts.push(hole),
                            }
                        }
                    }
                    TemplatePart::Expr { value, format } => {
                        parts.push(Part::Hole(Hole::new(value, format.as_deref(), context, setting)?));
                    }
                }
            }
        }
        _ => {
            return Err(Fault::new(format!("`{setting}` must be a text, perhaps with `${{…}}` in it"))
                .setting(setting));
        }
    }
    Ok(parts)
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        Some(Part::Text(before)) => before.push_str(text),
        _ => parts.push(Part::Text(text.to_owned())),
    }
}

/// A value of each event, and what it was for the event before.
pub struct Hole {
    value: shim::Prepared,
    input: Input,
    /// What `text` was made from, when that is cheap to compare.
    seen: Option<Seen>,
    text: Vec<u8>,
    /// The format of a time: its `/` is the author's.
    format: Option<String>,
}

/// What a hole depends on.
enum Input {
    Header(Slot),
    /// The text is the same for all times within this many milliseconds.
    Time {
        unit_ms: i64,
    },
    Other,
}

#[derive(PartialEq)]
enum Seen {
    Header(Option<Vec<u8>>),
    Time(i64),
}

impl Hole {
    fn new(
        value: &Expr,
        format: Option<&str>,
        context: &Context,
        setting: &'static str,
    ) -> Result<Hole, Fault> {
        let input = match (value, format) {
            (Expr::Header(slot), None) => Input::Header(*slot),
            (Expr::Time, Some(format)) => Input::Time { unit_ms: finest_unit_ms(format) },
            _ => Input::Other,
        };
        let prepared = shim::prepare(value, format, context).map_err(|message| {
            Fault::new(format!("`{setting}` cannot be evaluated: {message}")).setting(setting)
        })?;
        let format = format.map(str::to_owned);
        Ok(Hole { value: prepared, input, seen: None, text: Vec::new(), format })
    }

    /// The strftime format, for a time.
    pub fn format(&self) -> Option<&str> {
        self.format.as_deref()
    }

    /// Evaluates the hole for an event and says whether its text may be another one than before. A failure is
    /// the sentence of the expression.
    pub fn update(&mut self, batch: &Batch, row: u32) -> Result<bool, String> {
        match self.input {
            Input::Header(slot) => {
                let value = batch.header(row, slot);
                if matches!(&self.seen, Some(Seen::Header(seen)) if seen.as_deref() == value) {
                    return Ok(false);
                }
                self.seen = Some(Seen::Header(value.map(<[u8]>::to_vec)));
                self.text.clear();
                self.text.extend_from_slice(value.unwrap_or_default());
                Ok(true)
            }
            Input::Time { unit_ms } => {
                let unit = Seen::Time(batch.time_ms(row).div_euclid(unit_ms));
                if self.seen.as_ref() == Some(&unit) {
                    return Ok(false);
                }
                self.text.clear();
                self.seen = None;
                self.value.evaluate(batch, row, &mut self.text)?;
                self.seen = Some(unit);
                Ok(true)
            }
            Input::Other => {
                self.text.clear();
                self.value.evaluate(batch, row, &mut self.text)?;
                Ok(true)
            }
        }
    }

    /// What the last [`Hole::update`] found.
    pub fn text(&self) -> &[u8] {
        &self.text
    }
}

/// How long a formatted time stays the same: a minute, unless the format shows seconds or less.
fn finest_unit_ms(format: &str) -> i64 {
    let known = "YmdHMyjBbeaAhpIuwUWVGgCFRklPnt%";
    let mut unit_ms = 60_000;
    let mut chars = format.chars();
    while let Some(char) = chars.next() {
        if char == '%' {
            // Flags and widths stand between `%` and the letter.
            let letter = chars.find(|next| !matches!(next, '-' | '_' | '^' | '#' | '0'..='9'));
            match letter {
                Some('S' | 'T' | 's' | 'X' | 'c' | 'r') => unit_ms = unit_ms.min(1_000),
                Some(letter) if known.contains(letter) => {}
                _ => return 1,
            }
        }
    }
    unit_ms
}

/// The part of the evaluator that templates need.
mod shim {
    use super::*;

    pub struct Prepared {
        value: Expr,
        format: Option<String>,
    }

    pub fn prepare(value: &Expr, format: Option<&str>, _: &Context) -> Result<Prepared, String> {
        supported(value)?;
        Ok(Prepared { value: value.clone(), format: format.map(str::to_owned) })
    }

    fn supported(value: &Expr) -> Result<(), String> {
        match value {
            Expr::Header(_) | Expr::Time | Expr::EventSource | Expr::EventId | Expr::Body => Ok(()),
            Expr::Const(Const::Text(_) | Const::Null | Const::Int(_)) => Ok(()),
            Expr::Coalesce(left, right) => supported(left).and_then(|()| supported(right)),
            _ => Err("expression is not supported here yet".to_owned()),
        }
    }

    impl Prepared {
        pub fn evaluate(&mut self, batch: &Batch, row: u32, out: &mut Vec<u8>) -> Result<(), String> {
            evaluate(&self.value, self.format.as_deref(), batch, row, out).map(|_| ())
        }
    }

    fn evaluate(
        value: &Expr,
        format: Option<&str>,
        batch: &Batch,
        row: u32,
        out: &mut Vec<u8>,
    ) -> Result<bool, String> {
        match value {
            Expr::Header(slot) => match batch.header(row, *slot) {
                Some(text) => out.extend_from_slice(text),
                None => return Ok(false),
            },
            Expr::Body => out.extend_from_slice(batch.body(row)),
            Expr::EventSource => out.extend_from_slice(batch.columns.source.as_bytes()),
            Expr::EventId => {
                out.extend_from_slice((batch.columns.first_id + u64::from(row)).to_string().as_bytes());
            }
            Expr::Const(Const::Text(text)) => out.extend_from_slice(text.as_bytes()),
            Expr::Const(Const::Int(value)) => out.extend_from_slice(value.to_string().as_bytes()),
            Expr::Coalesce(left, right) => {
                if !evaluate(left, None, batch, row, out)? {
                    return evaluate(right, None, batch, row, out);
                }
            }
            Expr::Time => {
                let time = jiff::Timestamp::from_millisecond(batch.time_ms(row))
                    .map_err(|_| "the time of the event is on no calendar".to_owned())?;
                let text = jiff::fmt::strtime::format(
                    format.unwrap_or("%Y-%m-%dT%H:%M:%S%.3fZ"),
                    &time.to_zoned(jiff::tz::TimeZone::UTC),
                )
                .map_err(|error| error.to_string())?;
                out.extend_from_slice(text.as_bytes());
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::finest_unit_ms;

    #[test]
    fn a_day_is_formatted_once_a_minute_and_a_second_once_a_second() {
        assert_eq!(finest_unit_ms("%Y-%m-%d/%H%%"), 60_000);
        assert_eq!(finest_unit_ms("%Y %-S"), 1_000);
        assert_eq!(finest_unit_ms("%H:%M:%S%.3f"), 1);
        assert_eq!(finest_unit_ms("%"), 1);
    }
}
