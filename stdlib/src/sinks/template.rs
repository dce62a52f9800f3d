//! Templates in settings: text with holes that are evaluated for each event. A hole is evaluated on its own, so
//! that whoever builds a path can judge each value before it becomes part of it.

use flow_agent::{Context, Fault};
use flow_plan::eval::PreparedTemplate;
use flow_plan::ir::{Const, Expr, TemplatePart};
use flow_plan::{Batch, Slot};

/// A piece of a template.
pub enum Part {
    /// Written in the flow, or known when it was compiled.
    Text(String),
    /// A value of each event.
    Hole(Box<Hole>),
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
                        match hole(value, format.as_deref(), context, setting)? {
                            Part::Text(text) => push_text(&mut parts, &text),
                            hole => parts.push(hole),
                        }
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

fn hole(value: &Expr, format: Option<&str>, context: &Context, setting: &'static str) -> Result<Part, Fault> {
    let format = format.map(str::to_owned);
    let alone = Expr::Template(vec![TemplatePart::Expr { value: value.clone(), format: format.clone() }]);
    let prepared = PreparedTemplate::new(&alone, &context.functions)
        .map_err(|error| Fault::new(format!("cannot be evaluated: {}", error.message)).setting(setting))?;
    if let Some(text) = prepared.constant() {
        return Ok(Part::Text(String::from_utf8_lossy(text).into_owned()));
    }
    let input = match (value, &format) {
        (Expr::Header(slot), None) => Input::Header(*slot),
        (Expr::Time, Some(format)) => Input::Time { unit_ms: finest_unit_ms(format) },
        _ => Input::Other,
    };
    Ok(Part::Hole(Box::new(Hole {
        value: prepared,
        input,
        seen: None,
        text: Vec::new(),
        next: Vec::new(),
        format,
    })))
}

/// A value of each event, and what it was for the event before.
pub struct Hole {
    value: PreparedTemplate,
    input: Input,
    /// What `text` was made from, when that is cheap to compare.
    seen: Option<Seen>,
    text: Vec<u8>,
    /// Where the text of the next event is put together.
    next: Vec<u8>,
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
                self.seen = None;
                let changed = self.evaluate(batch, row)?;
                self.seen = Some(unit);
                Ok(changed)
            }
            Input::Other => self.evaluate(batch, row),
        }
    }

    /// Evaluates and says whether the text is another one than before.
    fn evaluate(&mut self, batch: &Batch, row: u32) -> Result<bool, String> {
        let now_ms = jiff::Timestamp::now().as_millisecond();
        self.next.clear();
        self.value.write(batch, row, now_ms, &mut self.next).map_err(|error| error.message)?;
        if self.next == self.text {
            return Ok(false);
        }
        std::mem::swap(&mut self.next, &mut self.text);
        Ok(true)
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
