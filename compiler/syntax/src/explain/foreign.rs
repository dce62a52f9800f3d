//! Text of other languages that people paste: Logstash, Flume, YAML, TOML.

use flow_diag::{Code, Diagnostic};

use super::View;
use crate::lex::TokenKind;
use crate::words::is_reserved;

/// Text of other languages (F0030..F0032).
pub(super) fn foreign(view: &View<'_>) -> Option<Diagnostic> {
    let first = view.text(0);
    if matches!(first, "input" | "filter" | "output") && view.text(1) == "{" {
        return Some(
            Diagnostic::new(
                Code::F0030,
                view.span(0),
                format!("`{first} {{ … }}` is a Logstash section, not Flow"),
            )
            .label("Logstash syntax")
            .help("convert the whole file: flowc import pipeline.conf > pipeline.flow"),
        );
    }
    if matches!(first, "def" | "function" | "func") && view.is_word(1) && view.text(2) == "(" {
        return Some(crate::build::unknown_declaration(view.span(0), first, Some("fn")));
    }
    // agent.sources.r1.type = netcat
    if view.is_word(0) && view.text(1) == "." {
        let mut k = 1;
        while matches!(view.text(k), "." | "-")
            && matches!(view.kind(k + 1), Some(TokenKind::Word | TokenKind::Number))
        {
            k += 2;
        }
        if view.text(k) == "=" {
            let span = view.span(0).to(view.span(k - 1));
            return Some(
                Diagnostic::new(Code::F0031, span, "this is a Flume property, not Flow")
                    .label("Flume syntax")
                    .help("convert the whole file: flowc import flume.conf > flume.flow"),
            );
        }
    }
    let language = other_language(view)?;
    Some(
        Diagnostic::new(Code::F0032, view.span(0), format!("this looks like {language}, not Flow"))
            .label(format!("{language} syntax"))
            .help("convert a Vector configuration: flowc import vector.yaml > vector.flow"),
    )
}

fn other_language(view: &View<'_>) -> Option<&'static str> {
    let line_ends_after = |k: usize| match (view.token(k), view.tokens.get(k + 1)) {
        (_, None) => true,
        (Some(token), Some(&next)) => {
            view.source.text[token.end..view.source.tokens[next].start].contains('\n')
        }
        (None, _) => false,
    };
    match view.text(0) {
        "-" if !matches!(view.text(1), ">" | "-") => Some("YAML"),
        "--->" | "-->" | "---" => Some("YAML"),
        // [sources.web]
        "[" => {
            let mut k = 1;
            while view.text(k) == "[" {
                k += 1;
            }
            if !view.is_word(k) {
                return None;
            }
            while view.text(k + 1) == "." && view.is_word(k + 2) {
                k += 2;
            }
            let close = k + 1;
            (view.text(close) == "]" && (line_ends_after(close) || view.text(close + 1) == "]"))
                .then_some("TOML")
        }
        word if view.is_word(0) && !is_reserved(word) => match view.text(1) {
            ":" => Some("YAML"),
            // name = "text", but not `web = tail "x"`, where only the declaration word is missing
            "=" if !view.is_word(2) || matches!(view.text(2), "true" | "false") => Some("TOML"),
            _ => None,
        },
        _ => None,
    }
}
