//! `test` declarations.

use super::{Body, Builder};
use crate::ast::{Expected, ExprKind, Literal, SendEvents, Settings, Test, TestStmt, TestStmtKind};
use crate::grammar::{Node, Rule, children};

impl Builder<'_> {
    pub(super) fn test_decl(&mut self, node: &Node<'_>) -> Test {
        let span = self.span(node);
        let mut test = Test { span, title: String::new(), title_span: span.at_start(), stmts: Vec::new() };
        for child in children(node) {
            match child.as_rule() {
                Rule::text_lit => {
                    (test.title, test.title_span) = self.plain_text(&child, "the title of a test")
                }
                Rule::test_block => test.stmts = self.test_block(&child),
                _ => {}
            }
        }
        test
    }

    fn test_block(&mut self, node: &Node<'_>) -> Vec<TestStmt> {
        if let Some(Body::Tests(stmts)) = self.body(node) {
            return stmts;
        }
        let mut stmts = Vec::new();
        for child in children(node) {
            match child.as_rule() {
                Rule::test_stmt => stmts.push(self.test_stmt(&child)),
                Rule::x_semicolon => self.semicolon(&child),
                _ => {}
            }
        }
        stmts
    }

    pub(crate) fn test_stmt(&mut self, node: &Node<'_>) -> TestStmt {
        let span = self.span(node);
        let kind = match children(node).next() {
            Some(inner) => match inner.as_rule() {
                Rule::t_send => self.send(&inner),
                Rule::t_expect => self.expect(&inner),
                Rule::t_fault => self.fault(&inner),
                Rule::t_wait => match children(&inner).find(|child| child.as_rule() == Rule::number) {
                    Some(number) => TestStmtKind::Advance(self.number_literal(&number)),
                    None => TestStmtKind::Broken,
                },
                Rule::t_set => self.set(&inner),
                _ => TestStmtKind::Broken,
            },
            None => TestStmtKind::Broken,
        };
        TestStmt { span, kind }
    }

    fn send(&mut self, node: &Node<'_>) -> TestStmtKind {
        let (mut to, mut count, mut events) = (None, None, None);
        for child in children(node) {
            let span = self.span(&child);
            match child.as_rule() {
                Rule::path => to = Some(self.path(&child)),
                Rule::int => count = Some(self.count(&child)),
                Rule::map => events = Some(SendEvents::Event(self.settings(&child))),
                Rule::list => events = Some(SendEvents::List(self.list(&child))),
                Rule::string | Rule::raw_string | Rule::x_smart_quote => {
                    let kind = self.literal_node(&child);
                    events = Some(SendEvents::Line(crate::ast::Expr { span, kind }));
                }
                Rule::t_file => {
                    if let Some(text) = children(&child).find(|child| child.as_rule() == Rule::text_lit) {
                        let (path, span) = self.plain_text(&text, "the path of a file");
                        events = Some(SendEvents::Lines { path, span });
                    }
                }
                _ => {}
            }
        }
        match (to, events) {
            (Some(to), Some(events)) => TestStmtKind::Send { to, count, events },
            _ => TestStmtKind::Broken,
        }
    }

    fn expect(&mut self, node: &Node<'_>) -> TestStmtKind {
        let (mut at, mut what, mut within) = (None, None, None);
        for child in children(node) {
            match child.as_rule() {
                Rule::path => at = Some(self.path(&child)),
                Rule::t_none => what = Some(Expected::Nothing),
                Rule::t_count => what = Some(self.expected_count(&child)),
                Rule::list => what = Some(Expected::Exact(self.list(&child))),
                Rule::map => what = Some(Expected::Pattern(self.settings(&child))),
                Rule::within => within = self.number_in(&child),
                _ => {}
            }
        }
        match (at, what) {
            (Some(at), Some(what)) => TestStmtKind::Expect { at, what, within },
            _ => TestStmtKind::Broken,
        }
    }

    fn expected_count(&mut self, node: &Node<'_>) -> Expected {
        let mut count = 0;
        let mut pattern: Option<Settings> = None;
        for child in children(node) {
            match child.as_rule() {
                Rule::int => count = self.count(&child),
                Rule::map => pattern = Some(self.settings(&child)),
                _ => {}
            }
        }
        Expected::Count(count, pattern)
    }

    fn number_in(&mut self, node: &Node<'_>) -> Option<Literal> {
        let number = children(node).find(|child| child.as_rule() == Rule::number)?;
        Some(self.number_literal(&number))
    }

    fn fault(&mut self, node: &Node<'_>) -> TestStmtKind {
        let (mut action, mut on, mut count, mut duration) = (None, None, None, None);
        for child in children(node) {
            match child.as_rule() {
                Rule::fault_word => action = Some(self.word(&child)),
                Rule::path => on = Some(self.path(&child)),
                Rule::int => count = Some(self.count(&child)),
                Rule::number => duration = Some(self.number_literal(&child)),
                _ => {}
            }
        }
        match (action, on) {
            (Some(action), Some(on)) => TestStmtKind::Fault { action, on, count, duration },
            _ => TestStmtKind::Broken,
        }
    }

    fn set(&mut self, node: &Node<'_>) -> TestStmtKind {
        let span = self.span(node);
        let (mut name, mut value) = (None, crate::ast::Expr { span, kind: ExprKind::Broken });
        for child in children(node) {
            match child.as_rule() {
                Rule::path => name = Some(self.path(&child)),
                Rule::expr => value = self.expr(&child),
                _ => {}
            }
        }
        match name {
            Some(name) => TestStmtKind::Set { name, value },
            None => TestStmtKind::Broken,
        }
    }
}
