//! `test` items: the names in them exist, the expressions have the right types. They run elsewhere.

use flow_diag::{Code, Diagnostic, Span};
use flow_syntax::ast::{self, Expected, SendEvents, TestStmtKind};

use super::{EntityKind, Resolver, ScopeId};
use crate::expr::{Frame, State};
use crate::model::Word;
use crate::types::Type;

impl<'a> Resolver<'a> {
    pub(super) fn check_tests(&mut self) {
        for (scope, test) in std::mem::take(&mut self.tests) {
            for stmt in &test.stmts {
                self.check_test_stmt(scope, stmt);
            }
        }
    }

    fn check_test_stmt(&mut self, scope: ScopeId, stmt: &ast::TestStmt) {
        match &stmt.kind {
            TestStmtKind::Send { to, events, .. } => {
                self.test_target(scope, to, &[Word::Source, Word::Topic], "a test sends to sources");
                match events {
                    SendEvents::Line(line) => self.test_body(scope, line),
                    SendEvents::Event(event) => self.test_event(scope, event, false),
                    SendEvents::List(items) => {
                        items.iter().for_each(|item| self.test_event_or_line(scope, item))
                    }
                    SendEvents::Lines { .. } => {}
                }
            }
            TestStmtKind::Expect { at, what, .. } => {
                self.test_target(
                    scope,
                    at,
                    &[Word::Sink, Word::Topic, Word::Channel],
                    "a test expects at sinks",
                );
                match what {
                    Expected::Nothing => {}
                    Expected::Count(_, pattern) => {
                        if let Some(pattern) = pattern {
                            self.test_event(scope, pattern, true);
                        }
                    }
                    Expected::Pattern(pattern) => self.test_event(scope, pattern, true),
                    Expected::Exact(items) => {
                        items.iter().for_each(|item| self.test_event_or_line(scope, item))
                    }
                }
            }
            TestStmtKind::Fault { on, .. } => {
                if let Some(entity) = self.test_entity(scope, on) {
                    match self.entity_kind(entity) {
                        EntityKind::Component(_) | EntityKind::Agent(_) | EntityKind::Poison => {}
                        other => {
                            let title =
                                format!("`{}` is {}: nothing can happen to it", on.text(), other.in_words());
                            self.report(
                                Diagnostic::new(Code::F0201, on.span, title).label("not a part of the plant"),
                            );
                        }
                    }
                }
            }
            TestStmtKind::Set { name, value } => {
                let Some(entity) = self.test_entity(scope, name) else { return };
                match self.entity_kind(entity) {
                    EntityKind::Param(index) => {
                        let ty = self.param_value(index).ty;
                        self.constant(scope, value, &ty, &format!("`{}`", name.text()));
                    }
                    EntityKind::Poison => {}
                    other => {
                        let title =
                            format!("`{}` is {}: only parameters can be set", name.text(), other.in_words());
                        self.report(Diagnostic::new(Code::F0201, name.span, title).label("not a parameter"));
                    }
                }
            }
            TestStmtKind::Advance(_) => {}
            TestStmtKind::Broken => self.model.incomplete = true,
        }
    }

    fn test_entity(&mut self, scope: ScopeId, path: &ast::Path) -> Option<super::EntityId> {
        let found = self.path_entity(scope, path).or_else(|| match path.names.as_slice() {
            // a test stands outside: a name that only one agent or flow has is clear enough
            [name] => self.only_inside(scope, &name.text),
            _ => None,
        });
        match found {
            Some(entity) => {
                self.mark_used(entity);
                Some(entity)
            }
            None => {
                if !self.is_poisoned(&path.first().text) {
                    let candidates = self.visible(scope, |_| true);
                    let diagnostic = self.unknown(path.first(), &candidates);
                    self.report(diagnostic);
                }
                None
            }
        }
    }

    /// F1001, F1002
    fn test_target(&mut self, scope: ScopeId, path: &ast::Path, words: &[Word], rule: &str) {
        let Some(entity) = self.test_entity(scope, path) else { return };
        let what = match self.entity_kind(entity) {
            EntityKind::Component(id) => {
                let word = self.model.components[id.0 as usize].word;
                if words.contains(&word) {
                    return;
                }
                word.text().to_owned()
            }
            EntityKind::Poison => return,
            other => other.in_words().trim_start_matches("a ").trim_start_matches("an ").to_owned(),
        };
        let sends = words.contains(&Word::Source);
        let (code, title) = if sends {
            (Code::F1001, format!("test sends to `{}`, which is not a source", path.text()))
        } else {
            (Code::F1002, format!("test expects at `{}`, which is not a sink", path.text()))
        };
        let declared = self.entity_span(entity);
        self.report(
            Diagnostic::new(code, path.span, title)
                .label(what)
                .also(declared, "declared here")
                .help(rule.to_owned()),
        );
    }

    fn test_event_or_line(&mut self, scope: ScopeId, item: &ast::Expr) {
        match &item.kind {
            ast::ExprKind::Map(event) => self.test_event(scope, event, true),
            ast::ExprKind::Regex(_) => {
                let mut frame = Frame::constant(scope, "an expected event");
                self.expr(&mut frame, item, None);
            }
            _ => self.test_body(scope, item),
        }
    }

    fn test_body(&mut self, scope: ScopeId, line: &ast::Expr) {
        let mut frame = Frame::constant(scope, "a line of a test");
        self.expr_of(&mut frame, line, &Type::String, "a line of a test");
    }

    fn test_event(&mut self, scope: ScopeId, event: &ast::Settings, pattern: bool) {
        for entry in &event.entries {
            let key = entry.key.text.as_str();
            if !matches!(key, "body" | "time" | "header") && !key.starts_with("header.") {
                self.report_event_field(key, entry.key.span);
                continue;
            }
            let mut frame = Frame::event(scope, State::unknown());
            let typed = self.expr(&mut frame, &entry.value, None);
            let want = if key == "time" { Type::Time } else { Type::String.optional() };
            let regex = pattern && matches!(typed.ty, Type::Regex | Type::List(_) | Type::Bool);
            if key != "header" && !regex {
                self.expect_type(&typed, &want, &entry.value, &format!("`{key}`"));
            }
        }
    }

    fn report_event_field(&mut self, key: &str, span: Span) {
        self.report(
            Diagnostic::new(Code::F0208, span, format!("an event has no field `{key}`"))
                .label("no such field")
                .help("fields: body, time, header.NAME"),
        );
    }

    /// F0108, F0112: what the root declares and nothing uses.
    pub(super) fn warn_unused(&mut self, root: ScopeId) {
        if self.model.incomplete {
            return;
        }
        // a file of shared parts is used by others
        let shared = self.model.chains.is_empty() && self.model.components.is_empty();
        for index in 0..self.entities.len() {
            let entity = &self.entities[index];
            if entity.used || entity.name.starts_with('_') || self.scope(entity.scope).imported {
                continue;
            }
            let (name, span) = (entity.name.clone(), entity.span);
            let word = match &entity.kind {
                EntityKind::Import(_) if entity.scope == root => {
                    self.report(
                        Diagnostic::new(Code::F0108, span, format!("import `{name}` is not used"))
                            .label("not used")
                            .help("remove the line"),
                    );
                    continue;
                }
                EntityKind::Param(_) => "parameter",
                EntityKind::Fn(_) => "function",
                EntityKind::Type(_) => "type",
                _ => continue,
            };
            if shared || self.is_poisoned(&name) {
                continue;
            }
            self.report(
                Diagnostic::new(Code::F0112, span, format!("{word} `{name}` is never used"))
                    .label("not used")
                    .help(format!("remove it, or call it `_{name}`")),
            );
        }
    }
}
