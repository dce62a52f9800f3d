//! The ways through a text: the fast one for text without mistakes, the piecewise one for the rest.

use flow_diag::{Code, Diagnostic, FileId};

use crate::Parsed;
use crate::ast::{Expr, File};
use crate::build::Builder;
use crate::grammar::{self, InputLocation, Rule, children};
use crate::source::Source;

pub(crate) fn parse_file(file: FileId, text: &str) -> Parsed<File> {
    let source = Source::new(file, text);
    let mut builder = Builder::new(&source);
    let mut value = File::empty(file);
    value.allows = source.allows();
    match grammar::parse(Rule::file, text) {
        Ok(node) => value.items = builder.items_of_file(&node),
        Err(error) => {
            let at = match error.location {
                InputLocation::Pos(at) => at,
                InputLocation::Span((start, _)) => start,
            };
            let span = source.span(at, at);
            builder.diagnostics.push(Diagnostic::new(
                Code::F0001,
                span,
                error.variant.message().into_owned(),
            ));
        }
    }
    Parsed { value, diagnostics: builder.diagnostics }
}

pub(crate) fn parse_expr(file: FileId, text: &str) -> Parsed<Option<Expr>> {
    let source = Source::new(file, text);
    let mut builder = Builder::new(&source);
    let value = match grammar::parse(Rule::one_expr, text) {
        Ok(node) => {
            children(&node).find(|child| child.as_rule() == Rule::expr).map(|expr| builder.expr(&expr))
        }
        Err(error) => {
            let span = source.span(0, text.len());
            builder.diagnostics.push(Diagnostic::new(
                Code::F0001,
                span,
                error.variant.message().into_owned(),
            ));
            None
        }
    };
    Parsed { value, diagnostics: builder.diagnostics }
}
