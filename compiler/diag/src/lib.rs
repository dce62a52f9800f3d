//! Diagnostics: what every phase of the compiler reports, and how it is shown.
//!
//! This crate knows files, spans, codes and rendering. It must not know the language, and it is the only user
//! of miette.

mod codes;
pub mod expect;
mod files;
mod render;
mod suggest;

pub use codes::{Code, CodeEntry, all_codes, code_entry};
pub use files::{FileId, Files, Location, Span};
pub use render::{Format, count_line, render};
pub use suggest::suggest;

use serde::Serialize;

/// How bad it is: only errors keep a plan from being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
    Advice,
}

/// A place and a few words about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Label {
    pub span: Span,
    pub text: String,
}

/// Replace the text at `span` by `text` (an empty span inserts).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Edit {
    pub span: Span,
    pub text: String,
}

/// One thing a user should know about their program: one mistake is one diagnostic.
///
/// `title` is a plain sentence in lower case without a full stop, names in back-ticks. `primary` says what is
/// wrong there; `secondary` says why; `help` is something to type or do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    pub code: Code,
    pub severity: Severity,
    pub title: String,
    pub primary: Label,
    pub secondary: Vec<Label>,
    pub help: Vec<String>,
    /// The one sensible edit, where there is exactly one.
    pub fix: Vec<Edit>,
}

impl Diagnostic {
    /// A diagnostic with the severity its code has in the table.
    pub fn new(code: Code, span: Span, title: impl Into<String>) -> Diagnostic {
        Diagnostic {
            code,
            severity: code_entry(code).severity,
            title: title.into(),
            primary: Label { span, text: String::new() },
            secondary: Vec::new(),
            help: Vec::new(),
            fix: Vec::new(),
        }
    }

    /// The words at the primary place.
    pub fn label(mut self, text: impl Into<String>) -> Diagnostic {
        self.primary.text = text.into();
        self
    }

    /// Another place that explains this one.
    pub fn also(mut self, span: Span, text: impl Into<String>) -> Diagnostic {
        self.secondary.push(Label { span, text: text.into() });
        self
    }

    /// Something to type or do.
    pub fn help(mut self, text: impl Into<String>) -> Diagnostic {
        self.help.push(text.into());
        self
    }

    /// An edit that mends it.
    pub fn fix(mut self, span: Span, text: impl Into<String>) -> Diagnostic {
        self.fix.push(Edit { span, text: text.into() });
        self
    }
}
