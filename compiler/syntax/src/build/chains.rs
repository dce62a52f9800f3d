//! Chains, fans, routes and constructors.

use flow_diag::{Code, Diagnostic};

use super::{Body, Builder};
use crate::ast::{
    Arm, ArmTest, ArrowStep, Branch, Chain, Ctor, Expr, ExprKind, Fan, Place, Route, Setting, SettingKey,
    Settings, Step,
};
use crate::grammar::{Node, Rule, children};

impl Builder<'_> {
    /// `from -> step …`
    pub(super) fn chain(&mut self, node: &Node<'_>) -> Chain {
        let span = self.span(node);
        let mut parts = self.steps(children(node));
        let from = match parts.first.take() {
            Some(step) => step,
            None => Step::Fan(Fan { span, branches: Vec::new() }),
        };
        Chain { span, doc: self.source.doc_above(span.start as usize), from, steps: parts.steps }
    }

    /// A first step, when the row starts with one, and the steps with their arrows.
    pub(super) fn steps<'t>(&mut self, nodes: impl Iterator<Item = Node<'t>>) -> Row {
        let mut row = Row { first: None, steps: Vec::new() };
        let mut arrow = None;
        for node in nodes {
            let step = match node.as_rule() {
                Rule::arrow => {
                    arrow = Some(self.arrow(&node));
                    continue;
                }
                Rule::x_bad_arrow => {
                    arrow = Some(self.bad_arrow(&node));
                    continue;
                }
                Rule::place => Step::Place(self.place(&node)),
                Rule::fan => Step::Fan(self.fan(&node)),
                Rule::route => Step::Route(self.route(&node)),
                _ => continue,
            };
            match arrow.take() {
                Some(arrow) => row.steps.push(ArrowStep { arrow, step }),
                None if row.first.is_none() && row.steps.is_empty() => row.first = Some(step),
                None => row.steps.push(ArrowStep { arrow: step.span().at_start(), step }),
            }
        }
        row
    }

    fn arrow(&mut self, node: &Node<'_>) -> flow_diag::Span {
        match children(node).next() {
            Some(mark) if mark.as_rule() == Rule::x_bad_arrow => self.bad_arrow(&mark),
            Some(mark) => self.span(&mark),
            None => self.span(node),
        }
    }

    pub(super) fn bad_arrow(&mut self, node: &Node<'_>) -> flow_diag::Span {
        let span = self.span(node);
        self.report(
            Diagnostic::new(Code::F0009, span, format!("`{}` is not the flow arrow", node.as_str()))
                .label("write `->`")
                .fix(span, "->"),
        );
        span
    }

    pub(super) fn place(&mut self, node: &Node<'_>) -> Place {
        let span = self.span(node);
        let mut place = Place { span, ctor: self.no_ctor(span), optional: None };
        for child in children(node) {
            match child.as_rule() {
                Rule::ctor | Rule::flow_place => place.ctor = self.ctor(&child),
                Rule::optional => place.optional = Some(self.span(&child)),
                _ => {}
            }
        }
        place
    }

    fn fan(&mut self, node: &Node<'_>) -> Fan {
        let span = self.span(node);
        let nodes: Vec<Node<'_>> = children(node).collect();
        let branches = self.deeper(1, span, |this| {
            let mut branches = Vec::new();
            for child in &nodes {
                match child.as_rule() {
                    Rule::branch => branches.extend(this.branch(child)),
                    Rule::x_semicolon => this.semicolon(child),
                    _ => {}
                }
            }
            branches
        });
        Fan { span, branches: branches.unwrap_or_default() }
    }

    fn branch(&mut self, node: &Node<'_>) -> Option<Branch> {
        let row = self.steps(children(node));
        match row.first {
            Some(Step::Place(first)) => Some(Branch { span: self.span(node), first, steps: row.steps }),
            _ => None,
        }
    }

    fn route(&mut self, node: &Node<'_>) -> Route {
        let span = self.span(node);
        let mut route = Route { span, head: span.at_start(), all: false, subject: None, arms: Vec::new() };
        let built = self.deeper(1, span, |this| {
            for child in children(node) {
                match child.as_rule() {
                    Rule::route_head => {
                        route.head = this.span(&child);
                        route.all = children(&child).any(|word| word.as_rule() == Rule::kw_all);
                    }
                    Rule::expr_nomap => route.subject = Some(this.expr(&child)),
                    Rule::arms => route.arms = this.arms(&child),
                    _ => {}
                }
            }
            route
        });
        built.unwrap_or(Route { span, head: span.at_start(), all: false, subject: None, arms: Vec::new() })
    }

    fn arms(&mut self, node: &Node<'_>) -> Vec<Arm> {
        if let Some(Body::Arms(arms)) = self.body(node) {
            return arms;
        }
        let mut arms = Vec::new();
        for child in children(node) {
            match child.as_rule() {
                Rule::arm => arms.push(self.arm(&child)),
                Rule::x_semicolon => self.semicolon(&child),
                _ => {}
            }
        }
        arms
    }

    pub(crate) fn arm(&mut self, node: &Node<'_>) -> Arm {
        let span = self.span(node);
        let test = self.arm_test(node);
        let row = self.steps(children(node));
        Arm { span, test, steps: row.steps }
    }

    /// What a case asks: `else`, `when …`, or patterns with an optional `when …`.
    pub(super) fn arm_test(&mut self, node: &Node<'_>) -> ArmTest {
        let mut patterns = None;
        let mut guard: Option<Expr> = None;
        for child in children(node) {
            match child.as_rule() {
                Rule::arm_else => return ArmTest::Else { span: self.span(&child) },
                Rule::patterns => {
                    let nodes = children(&child).filter(|n| n.as_rule() == Rule::pattern).collect::<Vec<_>>();
                    patterns = Some(nodes.iter().map(|pattern| self.pattern(pattern)).collect());
                }
                Rule::guard => {
                    guard = children(&child).find(|n| n.as_rule() == Rule::expr).map(|test| self.expr(&test));
                }
                _ => {}
            }
        }
        match (patterns, guard) {
            (None, Some(guard)) => ArmTest::When(guard),
            (patterns, guard) => ArmTest::Patterns { patterns: patterns.unwrap_or_default(), guard },
        }
    }

    fn no_ctor(&self, span: flow_diag::Span) -> Ctor {
        let name = self.no_name(span);
        let kind = crate::ast::Path { span: name.span, names: vec![name] };
        Ctor { span, kind, as_name: None, args: Vec::new(), settings: None }
    }

    /// `kind arg* { settings }`
    pub(super) fn ctor(&mut self, node: &Node<'_>) -> Ctor {
        let span = self.span(node);
        let mut ctor = self.no_ctor(span);
        for child in children(node) {
            match child.as_rule() {
                Rule::path => ctor.kind = self.path(&child),
                Rule::flow_kind => {
                    let name = self.word(&child);
                    ctor.kind = crate::ast::Path { span: name.span, names: vec![name] };
                }
                Rule::name => ctor.as_name = Some(self.name(&child)),
                Rule::arg => ctor.args.push(self.arg(&child)),
                Rule::map => ctor.settings = Some(self.settings(&child)),
                _ => {}
            }
        }
        ctor
    }

    fn arg(&mut self, node: &Node<'_>) -> Expr {
        let span = self.span(node);
        let Some(inner) = children(node).next() else { return self.broken_expr(span) };
        match inner.as_rule() {
            Rule::list => Expr { span, kind: ExprKind::List(self.list(&inner)) },
            Rule::literal => self.literal(&inner),
            Rule::paren => self.paren(&inner),
            Rule::arg_ref => self.operand(&inner),
            _ => self.broken_expr(span),
        }
    }

    /// `{ key: value … }`
    pub(super) fn settings(&mut self, node: &Node<'_>) -> Settings {
        let span = self.span(node);
        if let Some(Body::Settings(entries)) = self.body(node) {
            return Settings { span, entries };
        }
        let mut entries = Vec::new();
        for child in children(node) {
            match child.as_rule() {
                Rule::entry => entries.push(self.setting(&child)),
                Rule::x_semicolon => self.semicolon(&child),
                _ => {}
            }
        }
        Settings { span, entries }
    }

    pub(crate) fn setting(&mut self, node: &Node<'_>) -> Setting {
        let span = self.span(node);
        let mut key = SettingKey { text: String::new(), span: span.at_start(), quoted: false };
        let mut value = None;
        let mut missing = false;
        for child in children(node) {
            match child.as_rule() {
                Rule::key => key = self.setting_key(&child),
                Rule::x_eq_for_colon => {
                    let at = self.span(&child);
                    self.report(
                        Diagnostic::new(Code::F0006, at, "settings use `:`").label("write `:`").fix(at, ":"),
                    );
                }
                Rule::x_missing_colon => missing = true,
                Rule::expr => value = Some(self.expr(&child)),
                Rule::choice_word => value = Some(self.choice_word(&child)),
                _ => {}
            }
        }
        let value = value.unwrap_or_else(|| self.broken_expr(span));
        if missing {
            self.report(
                Diagnostic::new(Code::F0006, value.span, "missing `:` in a setting")
                    .label("expected `:` before this")
                    .help("settings are written `key: value`")
                    .fix(key.span.at_end(), ":"),
            );
        }
        Setting { key, value }
    }

    /// A bare choice that is called like a word of the language.
    pub(super) fn choice_word(&mut self, node: &Node<'_>) -> Expr {
        Expr { span: self.span(node), kind: ExprKind::Name(self.word(node)) }
    }

    fn setting_key(&mut self, node: &Node<'_>) -> SettingKey {
        let span = self.span(node);
        let Some(inner) = children(node).next() else {
            return SettingKey { text: String::new(), span, quoted: false };
        };
        match inner.as_rule() {
            Rule::string => {
                let text = match self.string(&inner) {
                    ExprKind::Literal(crate::ast::Literal::String(text)) => text,
                    _ => {
                        self.report(
                            Diagnostic::new(
                                Code::F0001,
                                span,
                                "a key is plain text: nothing can be interpolated in it",
                            )
                            .help("write the key out"),
                        );
                        String::new()
                    }
                };
                SettingKey { text, span, quoted: true }
            }
            Rule::raw_string => SettingKey { text: super::literals::raw_text(&inner), span, quoted: true },
            _ => SettingKey { text: inner.as_str().to_owned(), span, quoted: false },
        }
    }
}

/// A first step and those behind arrows.
pub(super) struct Row {
    pub first: Option<Step>,
    pub steps: Vec<ArrowStep>,
}
