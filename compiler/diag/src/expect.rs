//! Expectations written into a case: comment lines under a line of text that mark a place and say what is
//! reported there. For tests of any language whose comments start with `#`.
//!
//! ```text
//! #! Why this case exists.
//! channel disk = file "/d" { sync: 5mins }
//! #                                ^^^^ error F0203: unknown unit `mins`
//! #  help: durations: ns us ms s min h d w
//! ```
//!
//! The carets stand under the text they speak of, on the nearest line above that is no expectation. Where the
//! text stands too far left for a `#`, a column is given: `# 1-2: error F0001: …`. Nothing is stripped: the
//! expectations are comments of the case itself. This module must not know the language.

use std::fmt::Write as _;

use crate::{Code, Diagnostic, Severity};

/// One expected diagnostic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expectation {
    /// The line that is spoken of, from 1.
    pub line: usize,
    /// Columns in characters, from 1; the end is exclusive. Places that end on a later line end with the line.
    pub columns: (usize, usize),
    pub severity: Severity,
    pub code: Code,
    pub title: String,
    /// Checked only when the case says it.
    pub help: Option<String>,
}

/// The expectations in a text, in order.
pub fn parse_expectations(text: &str) -> Vec<Expectation> {
    let mut out: Vec<Expectation> = Vec::new();
    let mut line = 0;
    for (index, content) in text.lines().enumerate() {
        match parse_line(content) {
            Some(Line::Expect { columns, severity, code, title }) => {
                out.push(Expectation { line, columns, severity, code, title, help: None });
            }
            Some(Line::Help(help)) => {
                if let Some(last) = out.last_mut() {
                    last.help = Some(help);
                }
            }
            None => line = index + 1,
        }
    }
    out
}

/// The text without its expectation lines.
pub fn without_expectations(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut after_expectation = false;
    for line in text.split_inclusive('\n') {
        match parse_line(line.trim_end_matches(['\n', '\r'])) {
            Some(Line::Expect { .. }) => after_expectation = true,
            Some(Line::Help(_)) if after_expectation => {}
            _ => {
                after_expectation = false;
                out.push_str(line);
            }
        }
    }
    out
}

/// The text with expectations that say exactly what was reported. `help` lines are kept where they were.
pub fn update_expectations(text: &str, diagnostics: &[Diagnostic]) -> String {
    let wanted = parse_expectations(text);
    let found = found(text, diagnostics);
    let mut out = String::with_capacity(text.len() + 80 * found.len());
    let mut after_expectation = false;
    for (index, line) in text.lines().enumerate() {
        match parse_line(line) {
            Some(Line::Expect { .. }) => {
                after_expectation = true;
                continue;
            }
            Some(Line::Help(_)) if after_expectation => continue,
            _ => after_expectation = false,
        }
        out.push_str(line);
        out.push('\n');
        for expectation in found.iter().filter(|expectation| expectation.line == index + 1) {
            let help = wanted.iter().any(|wanted| {
                wanted.help.is_some() && wanted.line == index + 1 && wanted.code == expectation.code
            });
            write_expectation(&mut out, expectation, help);
        }
    }
    out
}

/// What differs between the case and what was reported, one line each; empty when nothing does.
pub fn differences(text: &str, diagnostics: &[Diagnostic]) -> Vec<String> {
    let mut missing = parse_expectations(text);
    let mut out = Vec::new();
    for found in found(text, diagnostics) {
        let place = missing.iter().position(|wanted| {
            (wanted.line, wanted.columns, wanted.severity, wanted.code, &wanted.title)
                == (found.line, found.columns, found.severity, found.code, &found.title)
                && (wanted.help.is_none() || wanted.help == found.help)
        });
        match place {
            Some(place) => {
                missing.remove(place);
            }
            None => out.push(format!("not expected: {}", shown(&found))),
        }
    }
    out.extend(missing.iter().map(|wanted| format!("missing:      {}", shown(wanted))));
    out
}

/// Whether expectations are to be rewritten (`FLOW_UPDATE=1`) instead of compared.
pub fn updating() -> bool {
    std::env::var_os("FLOW_UPDATE").is_some_and(|value| value == "1")
}

enum Line {
    Expect { columns: (usize, usize), severity: Severity, code: Code, title: String },
    Help(String),
}

fn parse_line(line: &str) -> Option<Line> {
    let rest = line.strip_prefix('#')?;
    let trimmed = rest.trim_start();
    if let Some(help) = trimmed.strip_prefix("help: ") {
        return Some(Line::Help(help.to_owned()));
    }
    let blanks = rest.chars().count() - trimmed.chars().count();
    let (columns, message) = if trimmed.starts_with('^') {
        let carets = trimmed.chars().take_while(|c| *c == '^').count();
        let start = blanks + 2;
        ((start, start + carets), &trimmed[carets..])
    } else {
        let (place, message) = trimmed.split_once(": ")?;
        let (start, end) = place.split_once('-')?;
        ((start.parse().ok()?, end.parse().ok()?), message)
    };
    let (severity, message) = message.trim_start().split_once(' ')?;
    let (code, title) = message.split_once(": ")?;
    let severity = match severity {
        "error" => Severity::Error,
        "warning" => Severity::Warning,
        "advice" => Severity::Advice,
        _ => return None,
    };
    Some(Line::Expect { columns, severity, code: Code::parse(code)?, title: title.trim_end().to_owned() })
}

/// The diagnostics as expectations of the text.
fn found(text: &str, diagnostics: &[Diagnostic]) -> Vec<Expectation> {
    let mut out: Vec<Expectation> = diagnostics
        .iter()
        .map(|diagnostic| {
            let span = diagnostic.primary.span.range();
            let start = floor(text, span.start);
            let end = floor(text, span.end.max(span.start));
            let line = text[..start].matches('\n').count() + 1;
            let line_start = text[..start].rfind('\n').map_or(0, |k| k + 1);
            let line_end = text[start..].find('\n').map_or(text.len(), |k| start + k);
            let column = text[line_start..start].chars().count() + 1;
            let length = text[start..end.min(line_end)].chars().count().max(1);
            Expectation {
                line,
                columns: (column, column + length),
                severity: diagnostic.severity,
                code: diagnostic.code,
                title: diagnostic.title.clone(),
                help: diagnostic.help.first().cloned(),
            }
        })
        .collect();
    out.sort();
    out
}

fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn write_expectation(out: &mut String, expectation: &Expectation, help: bool) {
    let (start, end) = expectation.columns;
    // a caret cannot stand under the `#` of its own line
    if start >= 2 {
        let _ = write!(out, "#{}{}", " ".repeat(start - 2), "^".repeat(end - start));
    } else {
        let _ = write!(out, "# {start}-{end}:");
    }
    let _ = writeln!(out, " {} {}: {}", severity(expectation), expectation.code, expectation.title);
    if let Some(help) = expectation.help.as_ref().filter(|_| help) {
        let _ = writeln!(out, "#  help: {help}");
    }
}

fn shown(expectation: &Expectation) -> String {
    let (start, end) = expectation.columns;
    let mut text = format!(
        "{}:{start}-{end} {} {}: {}",
        expectation.line,
        severity(expectation),
        expectation.code,
        expectation.title
    );
    if let Some(help) = &expectation.help {
        let _ = write!(text, " (help: {help})");
    }
    text
}

fn severity(expectation: &Expectation) -> &'static str {
    match expectation.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Advice => "advice",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FileId, Span};

    const CASE: &str = "a 5mins\n#  ^^^^ error F0203: unknown unit `mins`\nb\n# 1-2: error F0001: c\n";

    #[test]
    fn places_are_under_the_text_or_given_as_columns() {
        let expectations = parse_expectations(CASE);
        let places: Vec<_> = expectations.iter().map(|e| (e.line, e.columns, e.title.as_str())).collect();
        assert_eq!(places, [(1, (4, 8), "unknown unit `mins`"), (3, (1, 2), "c")]);
        assert_eq!(without_expectations(CASE), "a 5mins\nb\n");
    }

    #[test]
    fn an_update_says_what_was_found() {
        let span = |start, end| Span::new(FileId(0), start, end);
        let text = "a 5mins\nb\n";
        let first = [
            Diagnostic::new(Code::F0203, span(3, 7), "unknown unit `mins`"),
            Diagnostic::new(Code::F0001, span(8, 9), "c"),
        ];
        assert_eq!(update_expectations(text, &first), CASE);
        assert_eq!(differences(text, &first).len(), 2);
        let shifted = [
            Diagnostic::new(Code::F0203, span(3, 7), "unknown unit `mins`"),
            Diagnostic::new(Code::F0001, span(49, 50), "c"),
        ];
        assert_eq!(differences(CASE, &shifted), Vec::<String>::new());
    }
}
