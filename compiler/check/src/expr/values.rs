//! Literals, templates, lists, maps, `if` as a value, `else`, lambdas.

use std::collections::BTreeSet;

use flow_diag::{Code, Diagnostic, Span};
use flow_plan::ir::{self, Const};
use flow_plan::value::Value;
use flow_syntax::ast;

use super::{Frame, Mode, Typed};
use crate::regexes;
use crate::resolve::Resolver;
use crate::settings::check_time_format;
use crate::types::Type;

impl Resolver<'_> {
    pub(super) fn literal(&mut self, literal: &ast::Literal, want: Option<&Type>) -> Typed {
        let (value, ty) = match literal {
            ast::Literal::Null => (Const::Null, Type::Null),
            ast::Literal::Bool(value) => (Const::Bool(*value), Type::Bool),
            ast::Literal::Int(value) if want.is_some_and(|want| *want.present() == Type::Float) => {
                (Const::Float(*value as f64), Type::Float)
            }
            ast::Literal::Int(value) => (Const::Int(*value), Type::Int),
            ast::Literal::Float(value) => (Const::Float(*value), Type::Float),
            ast::Literal::Duration(value) => (Const::Duration(*value), Type::Duration),
            ast::Literal::Size(value) => (Const::Size(*value), Type::Size),
            ast::Literal::Time(value) => (Const::Time(*value), Type::Time),
            ast::Literal::String(value) => {
                let mut typed = Typed::constant(Const::Text(value.clone()), Type::String);
                typed.values = Some(BTreeSet::from([value.clone()]));
                return typed;
            }
        };
        Typed::constant(value, ty)
    }

    pub(super) fn regex_literal(&mut self, regex: &ast::Regex) -> Typed {
        match regexes::compile_regex(regex, &mut self.diagnostics) {
            Some(compiled) => Typed::constant(Const::Regex(compiled.setting), Type::Regex),
            None => Typed::poison(),
        }
    }

    /// `"… ${expr:format} …"`
    pub(crate) fn template(&mut self, frame: &mut Frame, parts: &[ast::TemplatePart]) -> Typed {
        let mut fails = false;
        let mut lowered = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                ast::TemplatePart::Text(text) => lowered.push(ir::TemplatePart::Text(text.clone())),
                ast::TemplatePart::Expr { span, value, format } => {
                    let typed = self.expr(frame, value, None);
                    fails |= typed.fails;
                    self.check_hole(&typed, value.span, format.as_ref(), *span);
                    lowered.push(ir::TemplatePart::Expr {
                        value: typed.expr,
                        format: format.as_ref().map(|format| format.text.clone()),
                    });
                }
            }
        }
        Typed::new(ir::Expr::Template(lowered), Type::String).fails(fails)
    }

    fn check_hole(&mut self, typed: &Typed, value: Span, format: Option<&ast::Format>, hole: Span) {
        let ty = typed.ty.present().clone();
        if let Some(format) = format {
            if ty == Type::Time || ty.is_dynamic() {
                check_time_format(&format.text, format.span, &mut self.diagnostics);
            } else {
                self.report(
                    Diagnostic::new(
                        Code::F0307,
                        format.span,
                        format!("a format is for times, this is {}", ty.with_article()),
                    )
                    .label("has no meaning here")
                    .also(value, ty.to_string())
                    .help("leave `:…` out"),
                );
            }
        }
        if matches!(ty, Type::Regex | Type::Function(..)) {
            self.report(
                Diagnostic::new(Code::F0201, hole, format!("text has no room for {}", ty.with_article()))
                    .label(ty.to_string()),
            );
        }
    }

    pub(super) fn list(&mut self, frame: &mut Frame, items: &[ast::Expr], want: Option<&Type>) -> Typed {
        let item_want = match want.map(Type::present) {
            // what a type variable stands for is found out from the elements
            Some(Type::List(item)) if !item.has_variables() => Some((**item).clone()),
            _ => None,
        };
        let mut fails = false;
        let mut ty: Option<Type> = None;
        let mut lowered = Vec::with_capacity(items.len());
        for item in items {
            let typed = self.expr(frame, item, item_want.as_ref());
            fails |= typed.fails;
            if let Some(want) = item_want.as_ref().filter(|want| !want.is_dynamic()) {
                self.expect_type(&typed, &want.clone().optional(), item, "each element");
            }
            ty = Some(match ty {
                None => typed.ty.clone(),
                Some(before) => before.join(&typed.ty).unwrap_or(Type::Json),
            });
            lowered.push(typed.expr);
        }
        let item = ty.or(item_want).unwrap_or(Type::Any);
        Typed::new(ir::Expr::List(lowered), Type::list(item)).fails(fails)
    }

    pub(super) fn map(&mut self, frame: &mut Frame, map: &ast::Settings, want: Option<&Type>) -> Typed {
        let mut fails = false;
        let mut fields: Vec<(String, Type)> = Vec::new();
        let mut lowered: Vec<(String, ir::Expr)> = Vec::new();
        for entry in &map.entries {
            let entry_want = match want.map(Type::present) {
                Some(Type::Map(item)) if !item.has_variables() => Some((**item).clone()),
                Some(Type::Record(record)) => record.field(&entry.key.text).cloned(),
                _ => None,
            };
            let typed = self.expr(frame, &entry.value, entry_want.as_ref());
            fails |= typed.fails;
            if let Some(first) = map
                .entries
                .iter()
                .find(|other| other.key.text == entry.key.text)
                .filter(|first| first.key.span != entry.key.span)
            {
                self.report_given_twice(&entry.key.text, first.key.span, entry.key.span);
                continue;
            }
            fields.push((entry.key.text.clone(), typed.ty));
            lowered.push((entry.key.text.clone(), typed.expr));
        }
        let record = std::rc::Rc::new(crate::types::Record { name: None, fields });
        Typed::new(ir::Expr::Map(lowered), Type::Record(record)).fails(fails)
    }

    pub(super) fn if_value(
        &mut self,
        frame: &mut Frame,
        span: Span,
        condition: &ast::Expr,
        then: &ast::Expr,
        otherwise: Option<&ast::Expr>,
        want: Option<&Type>,
    ) -> Typed {
        let test = self.condition(frame, condition);
        let known = frame.narrowed.clone();
        frame.learn(&test.expr, true, &self.model.slots);
        let then = self.expr(frame, then, want);
        frame.narrowed = known.clone();
        let Some(otherwise) = otherwise else {
            self.report(
                Diagnostic::new(Code::F0211, span, "an `if` used as a value needs `else`")
                    .label("no value when the condition is false")
                    .help("add `else { … }`"),
            );
            return Typed::poison();
        };
        frame.learn(&test.expr, false, &self.model.slots);
        let otherwise_typed = self.expr(frame, otherwise, want);
        frame.narrowed = known;
        let ty = match then.ty.join(&otherwise_typed.ty) {
            Some(ty) => ty,
            None => {
                self.report(
                    Diagnostic::new(
                        Code::F0201,
                        otherwise.span,
                        format!(
                            "the first branch gives {}, this one {}",
                            then.ty.with_article(),
                            otherwise_typed.ty.with_article()
                        ),
                    )
                    .label(otherwise_typed.ty.to_string())
                    .help("both branches must give the same type"),
                );
                Type::Poison
            }
        };
        let values = match (then.values, otherwise_typed.values) {
            (Some(mut a), Some(b)) => {
                a.extend(b);
                Some(a)
            }
            _ => None,
        };
        Typed {
            expr: ir::Expr::If {
                condition: Box::new(test.expr),
                then: Box::new(then.expr),
                otherwise: Box::new(otherwise_typed.expr),
            },
            ty,
            fails: test.fails || then.fails || otherwise_typed.fails,
            values,
            key: None,
        }
    }

    /// `value else drop`
    pub(super) fn or_else(
        &mut self,
        frame: &mut Frame,
        value: &ast::Expr,
        fallback: &ast::Fallback,
        want: Option<&Type>,
    ) -> Typed {
        frame.null_tolerant += 1;
        let before = self.diagnostics.len();
        let wanted = want.map(|want| want.clone().optional());
        let typed = self.expr(frame, value, wanted.as_ref().or(want));
        frame.null_tolerant -= 1;
        let typed = match want {
            Some(want) => self.decoded(typed, want, value.span),
            None => typed,
        };
        if self.strict {
            // what then is said here
            let told = self.diagnostics.split_off(before.min(self.diagnostics.len()));
            self.diagnostics.extend(told.into_iter().filter(|one| one.code != Code::F0213));
        }
        let mut ty = typed.ty.present().clone();
        let mut values = None;
        let mut fails = false;
        let fallback = match fallback {
            ast::Fallback::Drop(span) => {
                self.need_event(frame, "drop", *span);
                frame.drops = true;
                ir::Fallback::Drop
            }
            ast::Fallback::Pass(span) => {
                self.need_event(frame, "pass", *span);
                frame.exits.push(frame.state.clone());
                ir::Fallback::Pass
            }
            ast::Fallback::Fail(span, message) => {
                if let Mode::Constant(what) = &frame.mode {
                    let what = what.clone();
                    self.report_no_event(&what, "fail", *span);
                }
                fails = true;
                let message = message.as_ref().map(|message| {
                    let message = self.expr_of(frame, message, &Type::String, "the reason");
                    Box::new(message.expr)
                });
                ir::Fallback::Fail { message, origin: self.origin(*span) }
            }
            ast::Fallback::Value(other) => {
                let other_typed = self.expr(frame, other, want.or(Some(&ty)));
                fails |= other_typed.fails;
                match ty.join(&other_typed.ty) {
                    Some(joined) => ty = joined,
                    None => {
                        self.expect_type(&other_typed, &ty.clone(), other, "the value before `else`");
                    }
                }
                if let (Some(mut a), Some(b)) = (typed.values.clone(), other_typed.values) {
                    a.extend(b);
                    values = Some(a);
                }
                ir::Fallback::Value(Box::new(other_typed.expr))
            }
        };
        Typed { expr: ir::Expr::Else { value: Box::new(typed.expr), fallback }, ty, fails, values, key: None }
    }

    /// A lambda whose argument has a known type; gives its own type beside it.
    pub(super) fn lambda(
        &mut self,
        frame: &mut Frame,
        param: &ast::Name,
        body: &ast::Expr,
        argument: &Type,
    ) -> (Typed, Type) {
        let before = frame.vars.len();
        let local = frame.declare(param, argument.clone(), true);
        let body = self.expr(frame, body, None);
        frame.vars.truncate(before);
        let ty = Type::Function(vec![argument.clone()], Box::new(body.ty.clone()));
        let typed =
            Typed::new(ir::Expr::Lambda { param: local, body: Box::new(body.expr) }, ty).fails(body.fails);
        (typed, body.ty)
    }

    /// A condition: `bool`; null counts as an error.
    pub(crate) fn condition(&mut self, frame: &mut Frame, condition: &ast::Expr) -> Typed {
        let typed = self.expr(frame, condition, Some(&Type::Bool));
        self.expect_type(&typed, &Type::Bool, condition, "a condition");
        if let Some(value) = super::narrow::constant_condition(condition) {
            self.report(
                Diagnostic::new(Code::F0216, condition.span, format!("this condition is always {value}"))
                    .label(format!("always {value}")),
            );
        }
        typed
    }

    /// `drop`, `pass`, `emit` and the like stand only where there is an event.
    pub(super) fn need_event(&mut self, frame: &Frame, word: &str, span: Span) {
        match &frame.mode {
            Mode::Event => {}
            Mode::Function => self.report(
                Diagnostic::new(Code::F0005, span, format!("`{word}` cannot stand in a function"))
                    .label("a function has no event")
                    .help("use `fail \"why\"`, or let the interceptor that calls it decide"),
            ),
            Mode::Constant(what) => {
                let what = what.clone();
                self.report_no_event(&what, word, span);
            }
        }
    }

    pub(super) fn report_no_event(&mut self, what: &str, word: &str, span: Span) {
        self.report(
            Diagnostic::new(
                Code::F0201,
                span,
                format!("{what} is fixed when the flow starts, `{word}` needs an event"),
            )
            .label("there is no event here"),
        );
    }
}

/// A value as an IR constant; regexes and lambdas are not made this way.
pub(crate) fn constant_of(value: &Value<'_>) -> ir::Expr {
    let constant = match value {
        Value::Null | Value::Lambda(_) => Const::Null,
        Value::Bool(value) => Const::Bool(*value),
        Value::Int(value) => Const::Int(*value),
        Value::Float(value) => Const::Float(*value),
        Value::Text(text) => Const::Text(String::from_utf8_lossy(text).into_owned()),
        Value::Time(value) => Const::Time(*value),
        Value::Duration(value) => Const::Duration(*value),
        Value::Size(value) => Const::Size(*value),
        Value::Regex(regex) => Const::Regex(flow_plan::settings::RegexSetting {
            pattern: regex.as_str().to_owned(),
            flags: String::new(),
        }),
        Value::List(items) => return ir::Expr::List(items.iter().map(constant_of).collect()),
        Value::Map(entries) => {
            return ir::Expr::Map(
                entries.iter().map(|(key, value)| (key.to_string(), constant_of(value))).collect(),
            );
        }
    };
    ir::Expr::Const(constant)
}

/// `text`, `a number`: how messages call a literal of a pattern.
pub(crate) fn describe_literal(literal: &ast::Literal) -> (&'static str, Type) {
    match literal {
        ast::Literal::Null => ("null", Type::Null),
        ast::Literal::Bool(_) => ("a truth value", Type::Bool),
        ast::Literal::Int(_) => ("a number", Type::Int),
        ast::Literal::Float(_) => ("a number", Type::Float),
        ast::Literal::Duration(_) => ("a duration", Type::Duration),
        ast::Literal::Size(_) => ("a size", Type::Size),
        ast::Literal::Time(_) => ("a time", Type::Time),
        ast::Literal::String(_) => ("text", Type::String),
    }
}
