//! How diagnostics look: the graphical form of miette, one line each, or for tools.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, Severity as MietteSeverity};
use serde_json::json;

use crate::{Diagnostic, Files, Severity, Span};

/// The ways to show diagnostics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// With the text around, for people.
    Graphical { colour: bool, width: usize },
    /// `file:line:column: F0101 title; help`, one line each.
    Short,
    /// A JSON array.
    Json,
    /// SARIF 2.1.0, for code scanners.
    Sarif,
    /// Workflow commands (`::error file=…`).
    Github,
}

/// Shows the diagnostics in the order given.
pub fn render(files: &Files, diagnostics: &[Diagnostic], format: Format) -> String {
    match format {
        Format::Graphical { colour, width } => {
            let mut out = String::new();
            for diagnostic in diagnostics {
                render_graphical(files, diagnostic, colour, width, &mut out);
            }
            out
        }
        Format::Short => diagnostics.iter().map(|diagnostic| short_line(files, diagnostic)).collect(),
        Format::Json => {
            let all: Vec<_> = diagnostics.iter().map(|diagnostic| json_of(files, diagnostic)).collect();
            format!("{:#}\n", serde_json::Value::Array(all))
        }
        Format::Sarif => format!("{:#}\n", sarif(files, diagnostics)),
        Format::Github => diagnostics.iter().map(|diagnostic| github_line(files, diagnostic)).collect(),
    }
}

/// `2 errors, 1 warning`; empty when there is nothing.
pub fn count_line(diagnostics: &[Diagnostic]) -> String {
    let count = |severity: Severity| diagnostics.iter().filter(|one| one.severity == severity).count();
    [
        (count(Severity::Error), "error", "errors"),
        (count(Severity::Warning), "warning", "warnings"),
        (count(Severity::Advice), "advice", "pieces of advice"),
    ]
    .into_iter()
    .filter(|(number, _, _)| *number > 0)
    .map(|(number, one, many)| format!("{number} {}", if number == 1 { one } else { many }))
    .collect::<Vec<_>>()
    .join(", ")
}

/// The labels that stand in one file; miette shows one text per report.
struct Report<'a> {
    diagnostic: &'a Diagnostic,
    source: NamedSource<Arc<str>>,
    labels: Vec<LabeledSpan>,
    related: Vec<Elsewhere>,
    help: Option<String>,
}

/// Labels of the same diagnostic in another file.
#[derive(Debug)]
struct Elsewhere {
    source: NamedSource<Arc<str>>,
    labels: Vec<LabeledSpan>,
}

impl fmt::Debug for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Report")
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.diagnostic.title)
    }
}

impl std::error::Error for Report<'_> {}

impl miette::Diagnostic for Report<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.diagnostic.code))
    }

    fn severity(&self) -> Option<MietteSeverity> {
        Some(match self.diagnostic.severity {
            Severity::Error => MietteSeverity::Error,
            Severity::Warning => MietteSeverity::Warning,
            Severity::Advice => MietteSeverity::Advice,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        if self.related.is_empty() {
            return None;
        }
        Some(Box::new(self.related.iter().map(|one| one as &dyn miette::Diagnostic)))
    }
}

impl fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("because of this")
    }
}

impl std::error::Error for Elsewhere {}

impl miette::Diagnostic for Elsewhere {
    fn severity(&self) -> Option<MietteSeverity> {
        Some(MietteSeverity::Advice)
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }
}

/// Lines longer than this are not drawn (a pasted certificate, a one-line JSON file): the short form stands in.
const LINE_DRAWN_MAX: usize = 2_000;

fn render_graphical(files: &Files, diagnostic: &Diagnostic, colour: bool, width: usize, out: &mut String) {
    let home = diagnostic.primary.span.file;
    if longest_line_touched(files, diagnostic) > LINE_DRAWN_MAX {
        out.push_str(&short_line(files, diagnostic));
        return;
    }
    let labeled = |span: Span, text: &str, primary: bool| {
        let range = clamp(files, span);
        let text = (!text.is_empty()).then(|| text.to_owned());
        if primary {
            LabeledSpan::new_primary_with_span(text, range)
        } else {
            LabeledSpan::new_with_span(text, range)
        }
    };
    let mut labels = vec![labeled(diagnostic.primary.span, &diagnostic.primary.text, true)];
    let mut related: Vec<(crate::FileId, Vec<LabeledSpan>)> = Vec::new();
    for label in &diagnostic.secondary {
        let one = labeled(label.span, &label.text, false);
        if label.span.file == home {
            labels.push(one);
            continue;
        }
        match related.iter_mut().find(|(file, _)| *file == label.span.file) {
            Some((_, labels)) => labels.push(one),
            None => related.push((label.span.file, vec![one])),
        }
    }
    let report = Report {
        diagnostic,
        source: NamedSource::new(files.name(home), files.shared_text(home)),
        labels,
        related: related
            .into_iter()
            .map(|(file, labels)| Elsewhere {
                source: NamedSource::new(files.name(file), files.shared_text(file)),
                labels,
            })
            .collect(),
        help: (!diagnostic.help.is_empty()).then(|| diagnostic.help.join("\n")),
    };
    let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler =
        GraphicalReportHandler::new_themed(theme).with_width(width.clamp(40, 400)).with_links(false);
    if handler.render_report(out, &report).is_err() {
        // A label that the renderer cannot place must not hide the message.
        out.push_str(&short_line(files, diagnostic));
    }
    out.push('\n');
}

fn longest_line_touched(files: &Files, diagnostic: &Diagnostic) -> usize {
    std::iter::once(&diagnostic.primary)
        .chain(&diagnostic.secondary)
        .map(|label| {
            let text = files.text(label.span.file);
            let (start, len) = clamp(files, label.span);
            let before = text[..start].rfind('\n').map_or(0, |at| at + 1);
            let after = text[start + len..].find('\n').map_or(text.len(), |at| start + len + at);
            text[before..after].lines().map(str::len).max().unwrap_or(0)
        })
        .max()
        .unwrap_or(0)
}

/// Start and length inside the text, at character boundaries, whatever the span says.
fn clamp(files: &Files, span: Span) -> (usize, usize) {
    let text = files.text(span.file);
    let floor = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = floor(span.start as usize);
    let end = floor(span.end as usize).max(start);
    (start, end - start)
}

fn short_line(files: &Files, diagnostic: &Diagnostic) -> String {
    let span = diagnostic.primary.span;
    let at = files.location(span.file, span.start);
    let mut line = format!(
        "{}:{}:{}: {} {}",
        files.name(span.file),
        at.line,
        at.column,
        diagnostic.code,
        diagnostic.title
    );
    let more = [diagnostic.primary.text.as_str(), diagnostic.help.first().map_or("", String::as_str)];
    for text in more.into_iter().filter(|text| !text.is_empty()) {
        let _ = write!(line, "; {}", text.replace('\n', " "));
    }
    line.push('\n');
    line
}

fn json_of(files: &Files, diagnostic: &Diagnostic) -> serde_json::Value {
    let place = |span: Span| {
        let from = files.location(span.file, span.start);
        let to = files.location(span.file, span.end);
        json!({
            "file": files.name(span.file),
            "start": { "line": from.line, "column": from.column, "byte": span.start },
            "end": { "line": to.line, "column": to.column, "byte": span.end },
        })
    };
    json!({
        "code": diagnostic.code,
        "severity": diagnostic.severity,
        "title": diagnostic.title,
        "at": place(diagnostic.primary.span),
        "label": diagnostic.primary.text,
        "related": diagnostic.secondary.iter()
            .map(|label| json!({ "at": place(label.span), "label": label.text }))
            .collect::<Vec<_>>(),
        "help": diagnostic.help,
        "fix": diagnostic.fix.iter()
            .map(|edit| json!({ "at": place(edit.span), "text": edit.text }))
            .collect::<Vec<_>>(),
    })
}

fn sarif(files: &Files, diagnostics: &[Diagnostic]) -> serde_json::Value {
    let results: Vec<_> = diagnostics
        .iter()
        .map(|diagnostic| {
            let span = diagnostic.primary.span;
            let from = files.location(span.file, span.start);
            let to = files.location(span.file, span.end);
            json!({
                "ruleId": diagnostic.code,
                "level": match diagnostic.severity {
                    Severity::Error => "error",
                    Severity::Warning => "warning",
                    Severity::Advice => "note",
                },
                "message": { "text": diagnostic.title },
                "locations": [{ "physicalLocation": {
                    "artifactLocation": { "uri": files.name(span.file) },
                    "region": {
                        "startLine": from.line, "startColumn": from.column,
                        "endLine": to.line, "endColumn": to.column,
                    },
                } }],
            })
        })
        .collect();
    json!({
        "version": "2.1.0",
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "runs": [{ "tool": { "driver": { "name": "flowc", "rules": [] } }, "results": results }],
    })
}

fn github_line(files: &Files, diagnostic: &Diagnostic) -> String {
    let span = diagnostic.primary.span;
    let at = files.location(span.file, span.start);
    let level = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Advice => "notice",
    };
    // The command ends at the newline; these three characters are its escapes.
    let escape = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    format!(
        "::{level} file={},line={},col={},title={}::{}\n",
        escape(files.name(span.file)),
        at.line,
        at.column,
        diagnostic.code,
        escape(&diagnostic.title)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    fn one() -> (Files, Diagnostic) {
        let mut files = Files::new();
        let file = files.add("a.flow", "source web = tail \"x\"\nweb -> buff\n");
        let diagnostic = Diagnostic::new(Code::F0101, Span::new(file, 29, 33), "nothing is named `buff`")
            .label("did you mean `buf`?")
            .help("declare it");
        (files, diagnostic)
    }

    #[test]
    fn short_form_is_one_line_with_place_and_help() {
        let (files, diagnostic) = one();
        assert_eq!(
            render(&files, &[diagnostic], Format::Short),
            "a.flow:2:8: F0101 nothing is named `buff`; did you mean `buf`?; declare it\n"
        );
    }

    #[test]
    fn the_picture_shows_the_line_and_the_label() {
        let (files, diagnostic) = one();
        let picture = render(&files, &[diagnostic], Format::Graphical { colour: false, width: 100 });
        assert!(picture.contains("F0101"), "{picture}");
        assert!(picture.contains("a.flow:2:8"), "{picture}");
        assert!(picture.contains("did you mean `buf`?"), "{picture}");
    }

    /// A span past the end, or inside a character, must not hide the message or panic.
    #[test]
    fn a_span_that_does_not_fit_still_shows_the_title() {
        let mut files = Files::new();
        let file = files.add("a.flow", "“");
        for (start, end) in [(1, 2), (0, 900), (700, 900)] {
            let diagnostic = Diagnostic::new(Code::F0014, Span::new(file, start, end), "typographic quotes");
            let all = [diagnostic];
            for format in [
                Format::Graphical { colour: true, width: 0 },
                Format::Short,
                Format::Json,
                Format::Sarif,
                Format::Github,
            ] {
                assert!(render(&files, &all, format).contains("typographic quotes"));
            }
        }
    }

    #[test]
    fn a_line_of_a_megabyte_is_not_drawn() {
        let mut files = Files::new();
        let text = "x".repeat(1_000_000);
        let file = files.add("a.flow", text);
        let diagnostic = Diagnostic::new(Code::F0101, Span::new(file, 500, 501), "nothing is named `x`");
        let picture = render(&files, &[diagnostic], Format::Graphical { colour: false, width: 100 });
        assert!(picture.len() < 1_000, "{}", picture.len());
    }

    #[test]
    fn another_file_is_shown_too() {
        let mut files = Files::new();
        let first = files.add("a.flow", "web -> tidy\n");
        let second = files.add("lib.flow", "interceptor tidy = host\n");
        let diagnostic = Diagnostic::new(Code::F0101, Span::new(first, 7, 11), "nothing is named `tidy`")
            .also(Span::new(second, 12, 16), "it is declared here");
        let picture = render(&files, &[diagnostic], Format::Graphical { colour: false, width: 100 });
        assert!(picture.contains("a.flow:1:8") && picture.contains("lib.flow:1:13"), "{picture}");
    }

    #[test]
    fn counts_in_words() {
        let (_, diagnostic) = one();
        assert_eq!(count_line(&[diagnostic.clone(), diagnostic]), "2 errors");
        assert_eq!(count_line(&[]), "");
    }
}
