//! From everything that was found to what is shown: silenced ones out, sorted by place, each place once, at most
//! so many per file.

use std::collections::{BTreeMap, BTreeSet};

use flow_diag::{Code, Diagnostic, FileId, Files, Severity};
use flow_syntax::ast;

/// Diagnostics shown per file; the rest is counted.
const PER_FILE_MAX: usize = 50;

/// Applies the `allow` comments, then sorts, removes repetitions and cuts.
pub(crate) fn finish<'a>(
    diagnostics: Vec<Diagnostic>,
    trees: impl Iterator<Item = &'a ast::File>,
    files: &Files,
) -> Vec<Diagnostic> {
    let mut diagnostics = silence(diagnostics, trees);
    diagnostics
        .sort_by_key(|one| (one.primary.span.file, one.primary.span.start, one.code, one.primary.span.end));
    let mut seen = BTreeSet::new();
    diagnostics.retain(|one| seen.insert((one.code, one.primary.span)));
    cut(diagnostics, files)
}

fn silence<'a>(diagnostics: Vec<Diagnostic>, trees: impl Iterator<Item = &'a ast::File>) -> Vec<Diagnostic> {
    let allows = trees.flat_map(|tree| &tree.allows).collect::<Vec<_>>();
    let mut effective = vec![false; allows.len()];
    let mut kept = Vec::with_capacity(diagnostics.len());
    for diagnostic in diagnostics {
        let at = diagnostic.primary.span;
        let silencing = allows.iter().position(|allow| {
            allow.reason.as_ref().is_some_and(|reason| !reason.trim().is_empty())
                && Code::parse(&allow.code.text) == Some(diagnostic.code)
                && allow.covers.file == at.file
                && allow.covers.start <= at.start
                && at.start < allow.covers.end.max(allow.covers.start + 1)
        });
        match silencing {
            // what is an error stays one: a program cannot be allowed to be wrong
            Some(index) if diagnostic.severity != Severity::Error => effective[index] = true,
            _ => kept.push(diagnostic),
        }
    }
    for (allow, effective) in allows.iter().zip(effective) {
        if effective {
            continue;
        }
        let diagnostic = match (Code::parse(&allow.code.text), &allow.reason) {
            (None, _) => Diagnostic::new(
                Code::F1104,
                allow.code.span,
                format!("there is no code `{}`", allow.code.text),
            )
            .label("no such code")
            .help("`# flowc: allow F0405 \"why\"`"),
            (Some(code), None) => {
                Diagnostic::new(Code::F1104, allow.span, format!("this allow of `{code}` gives no reason"))
                    .label("not honoured")
                    .help(format!("`# flowc: allow {code} \"why\"`"))
            }
            (Some(code), Some(_)) if flow_diag::code_entry(code).severity == Severity::Error => {
                Diagnostic::new(
                    Code::F1104,
                    allow.span,
                    format!("`{code}` is an error and cannot be allowed"),
                )
                .label("not honoured")
                .help("only warnings and advice can be allowed")
            }
            (Some(code), Some(_)) => {
                Diagnostic::new(Code::F1104, allow.span, "this allow allows nothing".to_owned())
                    .label(format!("there is no `{code}` here"))
                    .help("remove it")
            }
        };
        kept.push(diagnostic);
    }
    kept
}

fn cut(diagnostics: Vec<Diagnostic>, files: &Files) -> Vec<Diagnostic> {
    let mut per_file: BTreeMap<FileId, usize> = BTreeMap::new();
    let mut hidden: BTreeMap<FileId, (usize, Diagnostic)> = BTreeMap::new();
    let mut kept = Vec::with_capacity(diagnostics.len());
    for diagnostic in diagnostics {
        let file = diagnostic.primary.span.file;
        let count = per_file.entry(file).or_default();
        *count += 1;
        if *count <= PER_FILE_MAX {
            kept.push(diagnostic);
            continue;
        }
        match hidden.get_mut(&file) {
            Some((more, first)) => {
                *more += 1;
                if diagnostic.severity < first.severity {
                    *first = diagnostic;
                }
            }
            None => {
                hidden.insert(file, (1, diagnostic));
            }
        }
    }
    for (file, (more, worst)) in hidden {
        let mut summary = Diagnostic::new(
            worst.code,
            worst.primary.span,
            format!("… and {more} more in `{}`", files.name(file)),
        )
        .label("among others here")
        .help("mend the ones above first");
        summary.severity = worst.severity;
        let at = kept.iter().rposition(|one| one.primary.span.file == file).map_or(kept.len(), |at| at + 1);
        kept.insert(at, summary);
    }
    kept
}
