//! Literals as expressions and as patterns.

use flow_diag::{Code, Diagnostic};

use super::Builder;
use crate::ast::{Expr, ExprKind, Literal, Pattern, PatternKind, Regex};
use crate::grammar::{Node, Rule, children};

impl Builder<'_> {
    /// `literal`
    pub(super) fn literal(&mut self, node: &Node<'_>) -> Expr {
        let span = self.span(node);
        match children(node).next() {
            Some(inner) => Expr { span, kind: self.literal_node(&inner) },
            None => self.broken_expr(span),
        }
    }

    /// What stands inside `literal`.
    pub(super) fn literal_node(&mut self, node: &Node<'_>) -> ExprKind {
        match node.as_rule() {
            Rule::number => ExprKind::Literal(self.number(node)),
            Rule::timestamp => ExprKind::Literal(self.timestamp(node)),
            Rule::string => self.string(node),
            Rule::raw_string => ExprKind::Literal(Literal::String(raw_text(node))),
            Rule::regex => ExprKind::Regex(self.regex(node)),
            Rule::boolean => ExprKind::Literal(Literal::Bool(node.as_str().starts_with("true"))),
            Rule::null => ExprKind::Literal(Literal::Null),
            Rule::x_smart_quote => self.smart_quotes(node),
            Rule::x_unclosed_string => self.unclosed_string(node).kind,
            Rule::x_unclosed_regex => self.unclosed_regex(node),
            _ => ExprKind::Broken,
        }
    }

    /// `number` where only a number fits.
    pub(super) fn number_literal(&mut self, node: &Node<'_>) -> Literal {
        self.number(node)
    }

    /// A whole number without unit.
    pub(super) fn count(&mut self, node: &Node<'_>) -> u64 {
        let digits: String = node.as_str().chars().filter(char::is_ascii_digit).collect();
        digits.parse().unwrap_or_else(|_| {
            let span = self.span(node);
            self.report(Diagnostic::new(Code::F0206, span, "this number is too large").label("does not fit"));
            0
        })
    }

    /// `-5`, `-10s`
    pub(super) fn minus_number(&mut self, node: &Node<'_>) -> Literal {
        let number = children(node).find(|child| child.as_rule() == Rule::number);
        match number.map(|number| self.number(&number)) {
            Some(Literal::Int(value)) => Literal::Int(-value),
            Some(Literal::Float(value)) => Literal::Float(-value),
            Some(Literal::Duration(value)) => Literal::Duration(-value),
            other => {
                let span = self.span(node);
                self.report(Diagnostic::new(Code::F0201, span, "a size cannot be negative"));
                other.unwrap_or(Literal::Null)
            }
        }
    }

    /// A pattern of a case.
    pub(super) fn pattern(&mut self, node: &Node<'_>) -> Pattern {
        let span = self.span(node);
        let kind = match children(node).next() {
            Some(inner) if inner.as_rule() == Rule::range => {
                let mut ends =
                    children(&inner).map(|bound| self.bound(&bound)).collect::<Vec<_>>().into_iter();
                PatternKind::Range(ends.next().unwrap_or(Literal::Null), ends.next().unwrap_or(Literal::Null))
            }
            Some(inner) if inner.as_rule() == Rule::minus_number => {
                PatternKind::Literal(self.minus_number(&inner))
            }
            Some(inner) => match self.pattern_literal(&inner) {
                PatternLiteral::Regex(regex) => PatternKind::Regex(regex),
                PatternLiteral::Literal(Literal::Null) => PatternKind::Null,
                PatternLiteral::Literal(literal) => PatternKind::Literal(literal),
            },
            None => PatternKind::Null,
        };
        Pattern { span, kind }
    }

    /// One end of a range.
    pub(super) fn bound(&mut self, node: &Node<'_>) -> Literal {
        match children(node).next() {
            Some(inner) if inner.as_rule() == Rule::minus_number => self.minus_number(&inner),
            Some(inner) => match self.pattern_literal(&inner) {
                PatternLiteral::Literal(literal) => literal,
                PatternLiteral::Regex(regex) => {
                    self.report(
                        Diagnostic::new(
                            Code::F0001,
                            regex.span,
                            "a range goes from one value to another, this is a regex",
                        )
                        .help("write `200..399`, or the regex alone"),
                    );
                    Literal::Null
                }
            },
            None => Literal::Null,
        }
    }

    fn pattern_literal(&mut self, node: &Node<'_>) -> PatternLiteral {
        let span = self.span(node);
        match self.literal(node).kind {
            ExprKind::Literal(literal) => PatternLiteral::Literal(literal),
            ExprKind::Regex(regex) => PatternLiteral::Regex(regex),
            ExprKind::Template(_) => {
                self.report(
                    Diagnostic::new(
                        Code::F0001,
                        span,
                        "a case is plain text: nothing can be interpolated in it",
                    )
                    .help("compare instead: `when value == \"…\" -> …`"),
                );
                PatternLiteral::Literal(Literal::String(String::new()))
            }
            // reported where it was read
            _ => PatternLiteral::Literal(Literal::String(String::new())),
        }
    }
}

enum PatternLiteral {
    Literal(Literal),
    Regex(Regex),
}

/// The text between `'…'`.
pub(super) fn raw_text(node: &Node<'_>) -> String {
    let text = node.as_str();
    text.get(1..text.len().saturating_sub(1)).unwrap_or("").to_owned()
}
