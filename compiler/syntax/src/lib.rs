//! Text to syntax tree: the grammar, the statement splitter, error recovery, and the formatter.
//!
//! This crate is the only user of pest, and nothing outside it sees a grammar rule. It does no IO and knows no
//! component. Every function gives a value *and* diagnostics, also for broken text.

pub mod ast;
pub mod lex;
pub mod split;
pub mod words;

mod brackets;
mod build;
mod decode;
mod explain;
mod format;
mod grammar;
mod meaning;
mod nouns;
mod read;
mod recover;
mod source;

pub use decode::{NotUtf8, decode_utf8};
pub use meaning::same_meaning;

use flow_diag::{Diagnostic, FileId};

/// A tree and what was wrong with the text.
pub struct Parsed<T> {
    pub value: T,
    pub diagnostics: Vec<Diagnostic>,
}

/// Parses a whole `.flow` file. Broken statements cost only themselves: what can be read is in the tree, names
/// that occur in unreadable pieces are in [`ast::File::poisoned`].
pub fn parse_file(file: FileId, text: &str) -> Parsed<ast::File> {
    read::parse_file(file, text)
}

/// Parses several files at the same time, each as [`parse_file`] does; in their order.
pub fn parse_files(texts: &[(FileId, &str)]) -> Vec<Parsed<ast::File>> {
    read::parse_files(texts)
}

/// Parses a single expression (command line `--set name=value`, the prompt).
pub fn parse_expr(file: FileId, text: &str) -> Parsed<Option<ast::Expr>> {
    read::parse_expr(file, text)
}

/// The one style of a file; `None` when the text does not parse without errors. Formatting twice changes
/// nothing, and comments are kept.
pub fn format(text: &str) -> Option<String> {
    format::format(text)
}
