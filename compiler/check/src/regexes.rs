//! Regexes are compiled while a file is checked, so that a wrong one is an error at its very place. Knows the
//! syntax of the `regex` crate and nothing of where the pattern is used.

use std::collections::{BTreeMap, BTreeSet};

use flow_diag::{Code, Diagnostic, Span};
use flow_plan::settings::RegexSetting;
use flow_syntax::ast;
use regex_syntax::hir::{Hir, HirKind};

/// The most memory a compiled regex may take, in bytes; beyond it F0310 and the regex is refused at run time.
pub(crate) const REGEX_BYTES_MAX: usize = 10 << 20;

/// A regex that compiles.
#[derive(Clone, Debug)]
pub(crate) struct Compiled {
    pub setting: RegexSetting,
    /// Named groups; `true` when the group takes part in every match.
    pub groups: BTreeMap<String, bool>,
}

/// Compiles the regex; without a result the diagnostics say why.
pub(crate) fn compile_regex(regex: &ast::Regex, diagnostics: &mut Vec<Diagnostic>) -> Option<Compiled> {
    compile(&regex.pattern, &regex.flags, regex.pattern_span, diagnostics)
}

/// Compiles a pattern that stands at `span` (without the slashes or quotes).
pub(crate) fn compile(
    pattern: &str,
    flags: &str,
    span: Span,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Compiled> {
    let mut parser = regex_syntax::ParserBuilder::new();
    parser.utf8(false).nest_limit(200);
    for flag in flags.chars() {
        match flag {
            'i' => parser.case_insensitive(true),
            'm' => parser.multi_line(true),
            's' => parser.dot_matches_new_line(true),
            'x' => parser.ignore_whitespace(true),
            'U' => parser.swap_greed(true),
            _ => &mut parser,
        };
    }
    let hir = match parser.build().parse(pattern) {
        Ok(hir) => hir,
        Err(error) => {
            diagnostics.push(syntax_error(pattern, span, &error));
            return None;
        }
    };
    let nfa = regex_automata::nfa::thompson::Compiler::new()
        .configure(
            regex_automata::nfa::thompson::Config::new().utf8(false).nfa_size_limit(Some(REGEX_BYTES_MAX)),
        )
        .build_from_hir(&hir);
    if let Err(error) = nfa {
        let size = error.size_limit().map_or_else(String::new, |limit| format!(" than {} MiB", limit >> 20));
        let mut diagnostic =
            Diagnostic::new(Code::F0310, span, format!("this regex needs more memory{size}"))
                .label("too large when compiled")
                .help("make the repetitions smaller: `\\w{1,1000}` is stored a thousand times");
        // it could not be run
        diagnostic.severity = flow_diag::Severity::Error;
        diagnostics.push(diagnostic);
        return None;
    }
    warn(pattern, span, &hir, diagnostics);
    let mut groups = BTreeMap::new();
    collect_groups(&hir, true, &mut groups);
    Some(Compiled {
        setting: RegexSetting { pattern: pattern.to_owned(), flags: sorted_flags(flags) },
        groups,
    })
}

fn sorted_flags(flags: &str) -> String {
    flags.chars().collect::<BTreeSet<_>>().into_iter().collect()
}

fn syntax_error(pattern: &str, span: Span, error: &regex_syntax::Error) -> Diagnostic {
    let (range, reason, unsupported) = match error {
        regex_syntax::Error::Parse(error) => {
            use regex_syntax::ast::ErrorKind;
            let unsupported = matches!(
                error.kind(),
                ErrorKind::UnsupportedLookAround | ErrorKind::UnsupportedBackreference
            );
            let range = error.span().start.offset..error.span().end.offset;
            (range, error.kind().to_string(), unsupported)
        }
        regex_syntax::Error::Translate(error) => {
            (error.span().start.offset..error.span().end.offset, error.kind().to_string(), false)
        }
        _ => (0..pattern.len(), "it cannot be read".to_owned(), false),
    };
    let reason = reason.trim_end_matches('.').to_owned();
    let at = inside(pattern, span, range);
    if unsupported {
        let what = if reason.contains("look") { "look-around" } else { "a back-reference" };
        let seen = pattern_slice(pattern, span, at);
        return Diagnostic::new(Code::F0302, at, format!("{what} is not supported: `{seen}`"))
            .label("this part")
            .help("regexes take time in proportion to the text, whatever they are; these would not: match more, then test the groups");
    }
    Diagnostic::new(Code::F0301, at, format!("this regex does not compile: {}", lower_first(&reason)))
        .label("here")
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// A range of the pattern as a place in the file. Each `\/` of the file is one character less in the pattern.
fn inside(pattern: &str, span: Span, range: std::ops::Range<usize>) -> Span {
    let written = (span.end - span.start) as usize;
    let escaped = written.saturating_sub(pattern.len());
    let shift = |position: usize| {
        if escaped == 0 {
            position
        } else {
            // every `/` before the position was written `\/`
            position + pattern.bytes().take(position).filter(|&byte| byte == b'/').count().min(escaped)
        }
    };
    let start = shift(range.start).min(written);
    let end = shift(range.end).min(written).max(start);
    let (start, end) = if start == end && end < written {
        (start, next_boundary(pattern, range.end, end).min(written))
    } else if start == end {
        // at the end of the pattern: the closing slash
        (end, end + 1)
    } else {
        (start, end)
    };
    Span { start: span.start + start as u32, end: span.start + end as u32, ..span }
}

fn next_boundary(pattern: &str, at: usize, shifted: usize) -> usize {
    shifted + pattern.get(at..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8)
}

fn pattern_slice(pattern: &str, span: Span, at: Span) -> String {
    let start = (at.start - span.start) as usize;
    let end = (at.end - span.start) as usize;
    pattern.get(start..end.min(pattern.len())).unwrap_or(pattern).to_owned()
}

fn warn(pattern: &str, span: Span, hir: &Hir, diagnostics: &mut Vec<Diagnostic>) {
    if matches!(hir.kind(), HirKind::Class(class) if class_is_empty(class)) {
        diagnostics.push(
            Diagnostic::new(Code::F0304, span, "this regex matches nothing").label("no text can match it"),
        );
    } else if matches!(pattern, "" | ".*" | "^.*$" | "^.*" | ".*$" | "(.*)" | "^") {
        diagnostics.push(
            Diagnostic::new(Code::F0304, span, "this regex matches everything")
                .label("every text matches it")
                .help("leave the test out, or say what the text must hold"),
        );
    }
    if let Some(dot) = dot_of_host_name(pattern) {
        let at = inside(pattern, span, dot..dot + 1);
        diagnostics.push(
            Diagnostic::new(Code::F0305, at, format!("`.` in `{pattern}` matches any character"))
                .label("any character")
                .help("write `\\.` for a dot")
                .fix(at, "\\."),
        );
    }
}

fn class_is_empty(class: &regex_syntax::hir::Class) -> bool {
    match class {
        regex_syntax::hir::Class::Unicode(class) => class.ranges().is_empty(),
        regex_syntax::hir::Class::Bytes(class) => class.ranges().is_empty(),
    }
}

/// The first bare dot of a pattern that is otherwise a host or file name: `example.com`, `^www.example.com$`.
fn dot_of_host_name(pattern: &str) -> Option<usize> {
    let plain = pattern.strip_prefix('^').unwrap_or(pattern);
    let plain = plain.strip_suffix('$').unwrap_or(plain);
    let labels = plain.split('.').collect::<Vec<_>>();
    let name_like = labels.len() >= 2
        && labels.iter().all(|label| {
            label.len() >= 2 && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        });
    if name_like { pattern.find('.') } else { None }
}

fn collect_groups(hir: &Hir, sure: bool, groups: &mut BTreeMap<String, bool>) {
    match hir.kind() {
        HirKind::Capture(capture) => {
            if let Some(name) = &capture.name {
                groups.insert(name.to_string(), sure);
            }
            collect_groups(&capture.sub, sure, groups);
        }
        HirKind::Repetition(repetition) => {
            collect_groups(&repetition.sub, sure && repetition.min > 0, groups);
        }
        HirKind::Concat(parts) => parts.iter().for_each(|part| collect_groups(part, sure, groups)),
        HirKind::Alternation(parts) => parts.iter().for_each(|part| collect_groups(part, false, groups)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use flow_diag::FileId;

    use super::*;

    fn compile_text(pattern: &str) -> (Option<Compiled>, Vec<Diagnostic>) {
        let mut diagnostics = Vec::new();
        let span = Span::new(FileId(0), 10, 10 + pattern.len());
        (compile(pattern, "", span, &mut diagnostics), diagnostics)
    }

    #[test]
    fn an_unclosed_group_is_pointed_at() {
        let (compiled, diagnostics) = compile_text(r"^(?<ip>\S+ (?<user");
        assert!(compiled.is_none());
        assert_eq!(diagnostics[0].code, Code::F0301);
        assert_eq!(diagnostics[0].title, "this regex does not compile: unclosed capture group name");
    }

    #[test]
    fn look_around_is_named() {
        let (_, diagnostics) = compile_text("a(?=b)");
        assert_eq!(diagnostics[0].code, Code::F0302);
        assert_eq!(diagnostics[0].primary.span.start, 11);
    }

    #[test]
    fn groups_know_whether_they_always_take_part() {
        let (compiled, diagnostics) = compile_text(r"(?<a>x)(?<b>y)?(?:(?<c>z)|w)");
        assert!(diagnostics.is_empty());
        let groups = compiled.expect("it compiles").groups;
        assert!(groups["a"]);
        assert!(!groups["b"]);
        assert!(!groups["c"]);
    }

    #[test]
    fn an_exploding_regex_is_refused() {
        let (compiled, diagnostics) = compile_text(r"(\w{1,1000}){1,1000}");
        assert!(compiled.is_none());
        assert_eq!(diagnostics[0].code, Code::F0310);
    }
}
