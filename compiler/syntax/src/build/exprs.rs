//! Expressions: a flat row of operands and operators becomes a tree by the strengths of the operators.

use flow_diag::{Code, Diagnostic, Span};

use super::Builder;
use crate::ast::{BinaryOp, CallArg, Expr, ExprKind, Fallback, Name, UnaryOp};
use crate::grammar::{Node, Rule, children};

/// A row of an expression, between which the tree is still to be found.
enum Piece {
    Prefix(UnaryOp, Span),
    Infix(BinaryOp, Span),
    Value(Expr),
}

impl Builder<'_> {
    /// `expr`, `expr_nomap`, `fallback_value`
    pub(crate) fn expr(&mut self, node: &Node<'_>) -> Expr {
        let span = self.span(node);
        let parts: Vec<Node<'_>> = children(node).collect();
        let operators =
            parts.iter().filter(|part| matches!(part.as_rule(), Rule::bin_op | Rule::un_op)).count();
        let built = self.deeper(1 + operators, span, |this| {
            let mut pieces = Vec::with_capacity(parts.len());
            let mut fallback = None;
            for part in &parts {
                match part.as_rule() {
                    Rule::un_op => pieces.push(this.un_op(part)),
                    Rule::bin_op => pieces.push(this.bin_op(part)),
                    Rule::operand | Rule::operand_nm => pieces.push(Piece::Value(this.operand(part))),
                    Rule::fallback => fallback = Some(this.fallback(part)),
                    _ => {}
                }
            }
            let mut row = Row { pieces: pieces.into_iter().peekable(), end: span.at_end() };
            let value = row.climb(0);
            match fallback {
                Some(fallback) => Expr { span, kind: ExprKind::Else { value: Box::new(value), fallback } },
                None => value,
            }
        });
        built.unwrap_or_else(|| self.broken_expr(span))
    }

    fn un_op(&mut self, node: &Node<'_>) -> Piece {
        let span = self.span(node);
        match children(node).next().map(|op| op.as_rule()) {
            Some(Rule::op_minus) => Piece::Prefix(UnaryOp::Neg, span),
            Some(Rule::x_bang) => {
                self.wrong_operator(span, "!", "not");
                Piece::Prefix(UnaryOp::Not, span)
            }
            _ => Piece::Prefix(UnaryOp::Not, span),
        }
    }

    fn bin_op(&mut self, node: &Node<'_>) -> Piece {
        let span = self.span(node);
        let op = match node.as_str().trim_end() {
            ".." => BinaryOp::Range,
            "??" => BinaryOp::Coalesce,
            "or" => BinaryOp::Or,
            "and" => BinaryOp::And,
            "||" => {
                self.wrong_operator(span, "||", "or");
                BinaryOp::Or
            }
            "&&" => {
                self.wrong_operator(span, "&&", "and");
                BinaryOp::And
            }
            "==" => BinaryOp::Eq,
            "!=" => BinaryOp::Ne,
            "<" => BinaryOp::Lt,
            "<=" => BinaryOp::Le,
            ">" => BinaryOp::Gt,
            ">=" => BinaryOp::Ge,
            "!~" => BinaryOp::NotMatches,
            "~" => BinaryOp::Matches,
            "in" => BinaryOp::In,
            "+" => BinaryOp::Add,
            "-" => BinaryOp::Sub,
            "*" => BinaryOp::Mul,
            "/" => BinaryOp::Div,
            _ => BinaryOp::Rem,
        };
        Piece::Infix(op, span)
    }

    fn wrong_operator(&mut self, span: Span, wrong: &str, right: &str) {
        // `!x` needs a blank that `a && b` has already
        let blank = if wrong == "!" { " " } else { "" };
        self.report(
            Diagnostic::new(Code::F0017, span, format!("`{wrong}` is written `{right}`"))
                .fix(span, format!("{right}{blank}")),
        );
    }

    /// `operand`, `arg_ref`: a first value and what follows it.
    pub(super) fn operand(&mut self, node: &Node<'_>) -> Expr {
        let span = self.span(node);
        let parts: Vec<Node<'_>> = children(node).collect();
        let Some((first, rest)) = parts.split_first() else { return self.broken_expr(span) };
        self.deeper(rest.len(), span, |this| {
            let first = this.primary(first);
            rest.iter().fold(first, |object, part| this.postfix(object, part))
        })
        .unwrap_or_else(|| self.broken_expr(span))
    }

    fn postfix(&mut self, object: Expr, node: &Node<'_>) -> Expr {
        let at = self.span(node);
        let span = object.span.to(at);
        let kind = match node.as_rule() {
            Rule::call => {
                let nodes =
                    children(node).filter(|child| child.as_rule() == Rule::call_arg).collect::<Vec<_>>();
                let args = nodes.iter().map(|arg| self.call_arg(arg)).collect();
                ExprKind::Call { function: Box::new(object), args, args_span: at }
            }
            Rule::index => {
                let index = match children(node).find(|child| child.as_rule() == Rule::expr) {
                    Some(index) => self.expr(&index),
                    None => self.broken_expr(at),
                };
                ExprKind::Index { object: Box::new(object), index: Box::new(index) }
            }
            _ => ExprKind::Member { object: Box::new(object), name: self.member(node) },
        };
        Expr { span, kind }
    }

    /// `.name`
    pub(super) fn member(&mut self, node: &Node<'_>) -> Name {
        match children(node).find(|child| child.as_rule() == Rule::word) {
            Some(word) => self.word(&word),
            None => self.no_name(self.span(node)),
        }
    }

    fn call_arg(&mut self, node: &Node<'_>) -> CallArg {
        let span = self.span(node);
        let mut arg = CallArg { name: None, value: self.broken_expr(span) };
        for child in children(node) {
            match child.as_rule() {
                Rule::arg_name => arg.name = children(&child).next().map(|name| self.name(&name)),
                Rule::expr => arg.value = self.expr(&child),
                _ => {}
            }
        }
        arg
    }

    fn primary(&mut self, node: &Node<'_>) -> Expr {
        let span = self.span(node);
        let kind = match node.as_rule() {
            Rule::literal => return self.literal(node),
            Rule::name_ref => return self.name_ref(node),
            Rule::agent_ref => ExprKind::Name(self.word(node)),
            Rule::paren => return self.paren(node),
            Rule::list => ExprKind::List(self.list(node)),
            Rule::map => ExprKind::Map(self.settings(node)),
            Rule::if_expr => return self.if_expr(node),
            Rule::lambda => {
                let mut param = self.no_name(span);
                let mut body = self.broken_expr(span);
                for child in children(node) {
                    match child.as_rule() {
                        Rule::name => param = self.name(&child),
                        Rule::expr => body = self.expr(&child),
                        _ => {}
                    }
                }
                ExprKind::Lambda { param, body: Box::new(body) }
            }
            _ => ExprKind::Broken,
        };
        Expr { span, kind }
    }

    pub(super) fn name_ref(&mut self, node: &Node<'_>) -> Expr {
        let span = self.span(node);
        match children(node).next() {
            Some(name) => Expr { span, kind: ExprKind::Name(self.name(&name)) },
            None => self.broken_expr(span),
        }
    }

    /// `( expr )`: the parentheses leave no node.
    pub(super) fn paren(&mut self, node: &Node<'_>) -> Expr {
        match children(node).find(|child| child.as_rule() == Rule::expr) {
            Some(inner) => self.expr(&inner),
            None => self.broken_expr(self.span(node)),
        }
    }

    pub(super) fn list(&mut self, node: &Node<'_>) -> Vec<Expr> {
        let mut values = Vec::new();
        for child in children(node) {
            match child.as_rule() {
                Rule::expr => values.push(self.expr(&child)),
                Rule::x_semicolon => self.semicolon(&child),
                _ => {}
            }
        }
        values
    }

    fn if_expr(&mut self, node: &Node<'_>) -> Expr {
        let span = self.span(node);
        self.deeper(1, span, |this| {
            let mut condition = this.broken_expr(span);
            let mut branches = Vec::new();
            for child in children(node) {
                match child.as_rule() {
                    Rule::expr_nomap => condition = this.expr(&child),
                    Rule::value_block => branches.push(this.paren(&child)),
                    Rule::if_expr => branches.push(this.if_expr(&child)),
                    _ => {}
                }
            }
            let mut branches = branches.into_iter();
            let then = branches.next().unwrap_or_else(|| this.broken_expr(span));
            let kind = ExprKind::If {
                condition: Box::new(condition),
                then: Box::new(then),
                otherwise: branches.next().map(Box::new),
            };
            Expr { span, kind }
        })
        .unwrap_or_else(|| self.broken_expr(span))
    }

    fn fallback(&mut self, node: &Node<'_>) -> Fallback {
        let span = self.span(node);
        for child in children(node) {
            let at = self.span(&child);
            match child.as_rule() {
                Rule::kw_drop => return Fallback::Drop(at),
                Rule::kw_pass => return Fallback::Pass(at),
                Rule::fail_stmt => {
                    let word = self.part(&child, 0, "fail".len());
                    let reason = children(&child).find(|child| child.as_rule() == Rule::expr);
                    return Fallback::Fail(word, reason.map(|reason| Box::new(self.expr(&reason))));
                }
                Rule::fallback_value => return Fallback::Value(Box::new(self.expr(&child))),
                _ => {}
            }
        }
        Fallback::Value(Box::new(self.broken_expr(span)))
    }
}

/// The strengths, as the grammar's comment lists them: left and right.
fn strength(op: BinaryOp) -> (u8, u8) {
    match op {
        BinaryOp::Or => (1, 2),
        BinaryOp::And => (3, 4),
        BinaryOp::Eq
        | BinaryOp::Ne
        | BinaryOp::Lt
        | BinaryOp::Le
        | BinaryOp::Gt
        | BinaryOp::Ge
        | BinaryOp::Matches
        | BinaryOp::NotMatches
        | BinaryOp::In => (7, 8),
        BinaryOp::Coalesce => (10, 9),
        BinaryOp::Range => (11, 12),
        BinaryOp::Add | BinaryOp::Sub => (13, 14),
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Rem => (15, 16),
    }
}

fn prefix_strength(op: UnaryOp) -> u8 {
    match op {
        UnaryOp::Not => 5,
        UnaryOp::Neg => 17,
    }
}

struct Row {
    pieces: std::iter::Peekable<std::vec::IntoIter<Piece>>,
    end: Span,
}

impl Row {
    /// Reads as far as operators bind at least as strongly as `least`.
    fn climb(&mut self, least: u8) -> Expr {
        let mut left = match self.pieces.next() {
            Some(Piece::Value(value)) => value,
            Some(Piece::Prefix(op, op_span)) => {
                let value = self.climb(prefix_strength(op));
                Expr {
                    span: op_span.to(value.span),
                    kind: ExprKind::Unary { op, op_span, value: Box::new(value) },
                }
            }
            _ => Expr { span: self.end, kind: ExprKind::Broken },
        };
        while let Some(Piece::Infix(op, op_span)) = self.pieces.peek() {
            let (op, op_span) = (*op, *op_span);
            let (binds_left, binds_right) = strength(op);
            if binds_left < least {
                break;
            }
            self.pieces.next();
            let right = self.climb(binds_right);
            left = Expr {
                span: left.span.to(right.span),
                kind: ExprKind::Binary { op, op_span, left: Box::new(left), right: Box::new(right) },
            };
        }
        left
    }
}
