//! Code blocks of interceptors and functions.

use flow_diag::{Code, Diagnostic};

use super::{Body, Builder};
use crate::ast::{Access, AssignOp, Block, ElseBranch, LValue, MatchArm, Stmt, StmtKind};
use crate::grammar::{Node, Rule, children};

impl Builder<'_> {
    pub(super) fn block(&mut self, node: &Node<'_>) -> Block {
        let span = self.span(node);
        if let Some(Body::Stmts(stmts)) = self.body(node) {
            return Block { span, stmts };
        }
        let stmts = self.deeper(1, span, |this| {
            let mut stmts = Vec::new();
            for child in children(node) {
                match child.as_rule() {
                    Rule::stmt => stmts.push(this.stmt(&child)),
                    Rule::x_semicolon => this.semicolon(&child),
                    _ => {}
                }
            }
            stmts
        });
        Block { span, stmts: stmts.unwrap_or_default() }
    }

    /// `stmt`
    pub(crate) fn stmt(&mut self, node: &Node<'_>) -> Stmt {
        match children(node).next() {
            Some(inner) => self.stmt_kind(&inner),
            None => Stmt { span: self.span(node), kind: StmtKind::Broken },
        }
    }

    fn stmt_kind(&mut self, node: &Node<'_>) -> Stmt {
        let span = self.span(node);
        let kind = match node.as_rule() {
            Rule::let_stmt => self.let_stmt(node),
            Rule::if_stmt => return self.if_stmt(node),
            Rule::for_stmt => self.for_stmt(node),
            Rule::match_stmt => self.match_stmt(node),
            Rule::drop_stmt => StmtKind::Drop,
            Rule::pass_stmt => StmtKind::Pass,
            Rule::fail_stmt => StmtKind::Fail(self.expr_in(node)),
            Rule::return_stmt => StmtKind::Return(self.expr_in(node)),
            Rule::emit_stmt => self.expr_in(node).map_or(StmtKind::Broken, StmtKind::Emit),
            Rule::expr_stmt => self.expr_in(node).map_or(StmtKind::Broken, StmtKind::Expr),
            Rule::remove_stmt => match children(node).find(|child| child.as_rule() == Rule::lvalue) {
                Some(target) => StmtKind::Remove(self.lvalue(&target)),
                None => StmtKind::Broken,
            },
            Rule::assign => self.assign(node),
            _ => StmtKind::Broken,
        };
        Stmt { span, kind }
    }

    fn expr_in(&mut self, node: &Node<'_>) -> Option<crate::ast::Expr> {
        let expr = children(node).find(|child| matches!(child.as_rule(), Rule::expr | Rule::expr_nomap))?;
        Some(self.expr(&expr))
    }

    fn let_stmt(&mut self, node: &Node<'_>) -> StmtKind {
        let span = self.span(node);
        let (mut name, mut ty, mut value) = (self.no_name(span), None, self.broken_expr(span));
        for child in children(node) {
            match child.as_rule() {
                Rule::x_mut => {
                    let at = self.span(&child);
                    let with_blank = self.source.span(at.start as usize, at.end as usize + 1);
                    self.report(
                        Diagnostic::new(
                            Code::F0018,
                            at,
                            "`let mut` is not needed: every `let` can be assigned again",
                        )
                        .label("remove this")
                        .fix(with_blank, ""),
                    );
                }
                Rule::name => name = self.name(&child),
                Rule::type_expr => ty = Some(self.type_expr(&child)),
                Rule::expr => value = self.expr(&child),
                _ => {}
            }
        }
        StmtKind::Let { name, ty, value }
    }

    fn if_stmt(&mut self, node: &Node<'_>) -> Stmt {
        let span = self.span(node);
        let kind = self.deeper(1, span, |this| {
            let mut condition = this.broken_expr(span);
            let mut blocks = Vec::new();
            let mut otherwise = None;
            for child in children(node) {
                match child.as_rule() {
                    Rule::expr_nomap => condition = this.expr(&child),
                    Rule::block => blocks.push(this.block(&child)),
                    Rule::if_stmt => otherwise = Some(ElseBranch::If(Box::new(this.if_stmt(&child)))),
                    _ => {}
                }
            }
            let mut blocks = blocks.into_iter();
            let then = blocks.next().unwrap_or(Block { span: span.at_end(), stmts: Vec::new() });
            let otherwise = otherwise.or_else(|| blocks.next().map(ElseBranch::Block));
            StmtKind::If { condition, then, otherwise }
        });
        Stmt { span, kind: kind.unwrap_or(StmtKind::Broken) }
    }

    fn for_stmt(&mut self, node: &Node<'_>) -> StmtKind {
        let span = self.span(node);
        let mut names = Vec::new();
        let mut list = self.broken_expr(span);
        let mut body = Block { span: span.at_end(), stmts: Vec::new() };
        for child in children(node) {
            match child.as_rule() {
                Rule::name => names.push(self.name(&child)),
                Rule::expr_nomap => list = self.expr(&child),
                Rule::block => body = self.block(&child),
                _ => {}
            }
        }
        let mut names = names.into_iter();
        let item = names.next().unwrap_or_else(|| self.no_name(span));
        StmtKind::For { item, index: names.next(), list, body }
    }

    fn match_stmt(&mut self, node: &Node<'_>) -> StmtKind {
        let span = self.span(node);
        let mut subject = self.broken_expr(span);
        let mut arms = Vec::new();
        for child in children(node) {
            match child.as_rule() {
                Rule::expr_nomap => subject = self.expr(&child),
                Rule::match_arms => arms = self.match_arms(&child),
                _ => {}
            }
        }
        StmtKind::Match { subject, arms }
    }

    fn match_arms(&mut self, node: &Node<'_>) -> Vec<MatchArm> {
        if let Some(Body::MatchArms(arms)) = self.body(node) {
            return arms;
        }
        let mut arms = Vec::new();
        for child in children(node) {
            match child.as_rule() {
                Rule::match_arm => arms.push(self.match_arm(&child)),
                Rule::x_semicolon => self.semicolon(&child),
                _ => {}
            }
        }
        arms
    }

    pub(crate) fn match_arm(&mut self, node: &Node<'_>) -> MatchArm {
        let span = self.span(node);
        let test = self.arm_test(node);
        let mut body = Block { span: span.at_end(), stmts: Vec::new() };
        let built = self.deeper(1, span, |this| {
            for child in children(node) {
                match child.as_rule() {
                    Rule::x_bad_arrow => {
                        this.bad_arrow(&child);
                    }
                    Rule::block => body = this.block(&child),
                    Rule::stmt => {
                        let stmt = this.stmt(&child);
                        body = Block { span: stmt.span, stmts: vec![stmt] };
                    }
                    _ => {}
                }
            }
            body
        });
        MatchArm { span, test, body: built.unwrap_or(Block { span: span.at_end(), stmts: Vec::new() }) }
    }

    fn assign(&mut self, node: &Node<'_>) -> StmtKind {
        let span = self.span(node);
        let mut target = None;
        let mut op = AssignOp::Set;
        let mut value = self.broken_expr(span);
        for child in children(node) {
            match child.as_rule() {
                Rule::lvalue => target = Some(self.lvalue(&child)),
                Rule::assign_op => {
                    op = match child.as_str() {
                        "+=" => AssignOp::Add,
                        "-=" => AssignOp::Sub,
                        _ => AssignOp::Set,
                    };
                }
                Rule::expr => value = self.expr(&child),
                _ => {}
            }
        }
        match target {
            Some(target) => StmtKind::Assign { target, op, value },
            None => StmtKind::Broken,
        }
    }

    fn lvalue(&mut self, node: &Node<'_>) -> LValue {
        let span = self.span(node);
        let mut root = self.no_name(span);
        let mut path = Vec::new();
        for child in children(node) {
            match child.as_rule() {
                Rule::name => root = self.name(&child),
                Rule::member => path.push(Access::Member(self.member(&child))),
                Rule::index => {
                    if let Some(index) = self.expr_in(&child) {
                        path.push(Access::Index(index));
                    }
                }
                _ => {}
            }
        }
        LValue { span, root, path }
    }
}
