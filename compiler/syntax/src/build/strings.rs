//! Strings, templates and regexes: escapes applied, interpolations read, `"""` cut to its indentation.

use flow_diag::{Code, Diagnostic, Span};

use super::Builder;
use crate::ast::{Expr, ExprKind, Format, Literal, Regex, TemplatePart};
use crate::grammar::{Node, Rule, children};

impl Builder<'_> {
    /// A string with its parts: only text gives a literal, anything else a template.
    pub(super) fn string(&mut self, node: &Node<'_>) -> ExprKind {
        let block = node.as_str().starts_with("\"\"\"");
        let indent = if block { block_indent(node) } else { 0 };
        let mut parts: Vec<TemplatePart> = Vec::new();
        let mut line_start = false;
        let mut first = true;
        for child in children(node) {
            match child.as_rule() {
                Rule::text => {
                    self.bare_dollars(&child);
                    push_text(&mut parts, child.as_str());
                }
                Rule::block_text => {
                    self.bare_dollars(&child);
                    push_text(&mut parts, &cut_indent(child.as_str(), indent, first, &mut line_start));
                }
                Rule::esc => {
                    if let Some(c) = self.escape(&child) {
                        push_text(&mut parts, c.encode_utf8(&mut [0; 4]));
                    }
                    line_start = false;
                }
                Rule::interp => {
                    parts.push(self.interpolation(&child));
                    line_start = false;
                }
                Rule::x_empty_interp => {
                    let span = self.span(&child);
                    self.report(
                        Diagnostic::new(Code::F0021, span, "nothing between `${` and `}`")
                            .label("a value is missing")
                            .help(
                                "name what goes here: `${header.host}`, or write `\\${` for the characters",
                            ),
                    );
                    parts.push(TemplatePart::Expr { span, value: self.broken_expr(span), format: None });
                }
                _ => {}
            }
            first = false;
        }
        match parts.as_mut_slice() {
            [] => ExprKind::Literal(Literal::String(String::new())),
            [TemplatePart::Text(text)] => ExprKind::Literal(Literal::String(std::mem::take(text))),
            _ => ExprKind::Template(parts),
        }
    }

    fn interpolation(&mut self, node: &Node<'_>) -> TemplatePart {
        let span = self.span(node);
        let mut value = None;
        let mut format = None;
        for child in children(node) {
            match child.as_rule() {
                Rule::expr => value = Some(self.expr(&child)),
                Rule::format_spec => {
                    format = Some(Format {
                        text: child.as_str().strip_prefix(':').unwrap_or("").to_owned(),
                        span: self.part(&child, 1, child.as_str().len()),
                    });
                }
                _ => {}
            }
        }
        TemplatePart::Expr { span, value: value.unwrap_or_else(|| self.broken_expr(span)), format }
    }

    /// The character of an escape; reports an unknown one.
    fn escape(&mut self, node: &Node<'_>) -> Option<char> {
        let text = node.as_str();
        let span = self.part(node, 0, text.len());
        if let Some(hex) = text.strip_prefix("\\u{").and_then(|rest| rest.strip_suffix('}')) {
            let c = u32::from_str_radix(hex, 16).ok().filter(|_| hex.len() <= 6).and_then(char::from_u32);
            if c.is_none() {
                self.report(
                    Diagnostic::new(Code::F0019, span, format!("`{text}` is no character"))
                        .label("not a Unicode number")
                        .help("one to six hexadecimal digits: `\\u{e9}`"),
                );
            }
            return c;
        }
        match text.chars().nth(1) {
            Some('n') => Some('\n'),
            Some('t') => Some('\t'),
            Some('r') => Some('\r'),
            Some('0') => Some('\0'),
            Some(c @ ('"' | '\\' | '$' | '\'')) => Some(c),
            other => {
                let doubled = format!("\\{text}");
                self.report(
                    Diagnostic::new(Code::F0019, span, format!("unknown escape `{text}` in a string"))
                        .label("not one of `\\n` `\\t` `\\r` `\\0` `\\\"` `\\\\` `\\$` `\\u{…}`")
                        .help(format!(
                            "write `{doubled}` for a backslash, or a raw string '…' that has no escapes"
                        )),
                );
                other
            }
        }
    }

    /// `$name` in a text that means `${name}`.
    fn bare_dollars(&mut self, node: &Node<'_>) {
        let text = node.as_str();
        for (at, _) in text.match_indices('$') {
            let rest = &text[at + 1..];
            let length = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
            let name = &rest[..length];
            if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
                continue;
            }
            let span = self.part(node, at, at + 1 + length);
            self.report(
                Diagnostic::new(Code::F0020, span, format!("`${name}` is not interpolated"))
                    .label(format!("write `${{{name}}}`"))
                    .help("`\\$` is a dollar sign")
                    .fix(span, format!("${{{name}}}")),
            );
        }
    }

    /// The text of a string where only plain text makes sense (a path, a title).
    pub(super) fn plain_text(&mut self, node: &Node<'_>, what: &str) -> (String, Span) {
        let span = self.span(node);
        let Some(inner) = children(node).next() else { return (String::new(), span) };
        match self.literal_node(&inner) {
            ExprKind::Literal(Literal::String(text)) => (text, span),
            ExprKind::Template(_) => {
                self.report(
                    Diagnostic::new(
                        Code::F0001,
                        span,
                        format!("{what} is plain text: nothing can be interpolated in it"),
                    )
                    .help("write it out, or use a raw string '…'"),
                );
                (String::new(), span)
            }
            _ => (String::new(), span),
        }
    }

    /// `/pattern/flags`
    pub(super) fn regex(&mut self, node: &Node<'_>) -> Regex {
        let span = self.span(node);
        let (mut pattern, mut pattern_span, mut flags) = (String::new(), span, String::new());
        for child in children(node) {
            match child.as_rule() {
                Rule::regex_body => {
                    pattern = child.as_str().replace("\\/", "/");
                    pattern_span = self.part(&child, 0, child.as_str().len());
                }
                Rule::regex_flags => flags = self.regex_flags(&child, span),
                _ => {}
            }
        }
        Regex { pattern, pattern_span, flags, span }
    }

    fn regex_flags(&mut self, node: &Node<'_>, regex: Span) -> String {
        let mut flags = String::new();
        for (at, flag) in node.as_str().char_indices() {
            if "imsxu".contains(flag) {
                if !flags.contains(flag) {
                    flags.push(flag);
                }
                continue;
            }
            let span = self.part(node, at, at + flag.len_utf8());
            let written = self.source.text.get(regex.range()).unwrap_or("");
            self.report(
                Diagnostic::new(Code::F0301, span, format!("unknown regex flag `{flag}`"))
                    .label("not one of `i` `m` `s` `x` `u`")
                    .help(format!("if this is a path, quote it: \"{written}…\"")),
            );
            break;
        }
        flags
    }

    /// `“…”`: reads it as the string that was meant.
    pub(super) fn smart_quotes(&mut self, node: &Node<'_>) -> ExprKind {
        let text = node.as_str();
        let span = self.part(node, 0, text.len());
        let inner = text.trim_matches(['“', '”', '‘', '’', '"']);
        self.report(
            Diagnostic::new(Code::F0014, span, "typographic quotes")
                .label("write \"…\"")
                .help("this often comes from pasting out of a document or chat")
                .fix(span, format!("\"{inner}\"")),
        );
        ExprKind::Literal(Literal::String(inner.to_owned()))
    }

    pub(super) fn unclosed_regex(&mut self, node: &Node<'_>) -> ExprKind {
        let diagnostic = unclosed_regex(self.part(node, 0, 1), node.as_str());
        self.report(diagnostic);
        ExprKind::Broken
    }

    pub(super) fn unclosed_string(&mut self, node: &Node<'_>) -> Expr {
        let span = self.span(node);
        let diagnostic = unclosed_string(self.part(node, 0, 1));
        self.report(diagnostic);
        Expr { span, kind: ExprKind::Broken }
    }
}

/// F0015 at an opening quote.
pub(crate) fn unclosed_string(quote: Span) -> Diagnostic {
    Diagnostic::new(Code::F0015, quote, "this string is not closed")
        .label("opened here")
        .help("strings end on their line; text of several lines stands between `\"\"\"`")
}

/// F0016 at the `/`; `rest` is the line from there.
pub(crate) fn unclosed_regex(slash: Span, rest: &str) -> Diagnostic {
    let path = rest.split([' ', '}', ')', ',']).next().unwrap_or("/path");
    Diagnostic::new(Code::F0016, slash, "this regex is not closed")
        .label("opened here; a `/` is missing")
        .help(format!("a string must be quoted: \"{path}\""))
}

fn push_text(parts: &mut Vec<TemplatePart>, text: &str) {
    match parts.last_mut() {
        Some(TemplatePart::Text(last)) => last.push_str(text),
        _ if text.is_empty() => {}
        _ => parts.push(TemplatePart::Text(text.to_owned())),
    }
}

/// The blanks that all lines of a `"""` text share; the line of the closing quotes counts.
fn block_indent(node: &Node<'_>) -> usize {
    let text = node.as_str();
    let inner = text.get(3..text.len().saturating_sub(3)).unwrap_or("");
    if !starts_with_line_end(inner) {
        return 0;
    }
    let lines: Vec<&str> = inner.split('\n').skip(1).collect();
    let last = lines.len().saturating_sub(1);
    let blanks = |line: &str| line.len() - line.trim_start_matches([' ', '\t']).len();
    let counts = lines.iter().enumerate().filter(|(k, line)| *k == last || !line.trim().is_empty());
    counts.map(|(_, line)| blanks(line)).min().unwrap_or(0)
}

fn starts_with_line_end(text: &str) -> bool {
    text.trim_start_matches([' ', '\t']).starts_with(['\n', '\r'])
}

/// Removes the line end after the opening quotes and `indent` blanks from every line start.
fn cut_indent(text: &str, indent: usize, first: bool, line_start: &mut bool) -> String {
    let mut rest = text;
    if first && starts_with_line_end(text) {
        rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
        *line_start = true;
    }
    let mut out = String::with_capacity(rest.len());
    for line in rest.split_inclusive('\n') {
        let blanks = line.len() - line.trim_start_matches([' ', '\t']).len();
        out.push_str(if *line_start { &line[blanks.min(indent)..] } else { line });
        *line_start = line.ends_with('\n');
    }
    out
}
