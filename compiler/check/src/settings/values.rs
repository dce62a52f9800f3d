//! One value of a setting, by the sort of its declared type.

use std::collections::BTreeMap;

use flow_diag::{Code, Diagnostic, Span};
use flow_syntax::ast::{self, BinaryOp, ExprKind};
use serde_json::{Value as Json, json};

use super::SettingType;
use super::resolve::Work;
use crate::expr::Frame;
use crate::resolve::{EntityKind, Resolver, ScopeId};
use crate::types::Type;

impl<'a> Resolver<'a> {
    /// A value that is known when the program is checked.
    pub(super) fn constant_setting(
        &mut self,
        work: &mut Work<'_>,
        name: &str,
        ty: &SettingType,
        value: &ast::Expr,
    ) -> Option<Json> {
        let want = ty.value_type();
        let what = format!("`{name}`");
        let mut frame = Frame::constant(work.scope, &what);
        let typed = self.expr(&mut frame, value, Some(&want));
        if typed.ty == Type::Poison {
            return None;
        }
        if !typed.ty.fits(&want) && !is_list_of(&want, &typed.ty) {
            if matches!(want.present(), Type::Duration | Type::Size)
                && typed.ty == Type::Int
                && super::literal(value).is_some()
            {
                self.report_unit(value.span, want.present());
            } else if typed.ty.may_be_null() && typed.ty.present().fits(&want) {
                self.report_null(&typed, value.span, &want);
            } else {
                let title = format!("{what} is {}, this is {}", ty.in_words(), typed.ty.with_article());
                let mut diagnostic =
                    Diagnostic::new(Code::F0201, value.span, title).label(typed.ty.to_string());
                if *want.present() == Type::String
                    && matches!(typed.ty, Type::Int | Type::Float | Type::Duration | Type::Size | Type::Bool)
                {
                    let text = self.files.slice(value.span);
                    diagnostic = diagnostic.help(format!("text is quoted: `\"{text}\"`"));
                }
                if let ExprKind::Literal(ast::Literal::String(text)) = &value.kind
                    && let Some(text) = crate::expr::unquoted(text, want.present())
                {
                    diagnostic = diagnostic.help(format!("without quotes: `{text}`")).fix(value.span, text);
                }
                self.report(diagnostic);
            }
            return None;
        }
        let constant = self.evaluate(&typed.expr, &what, value.span)?;
        self.encode(name, ty, &constant, value.span)
    }

    /// Text or an expression that is evaluated for every event.
    pub(super) fn per_event(
        &mut self,
        work: &mut Work<'_>,
        name: &str,
        want: &Type,
        value: &ast::Expr,
    ) -> Option<Json> {
        let mut frame = Frame::event(work.scope, work.state.clone());
        let typed = match want.present() {
            Type::Bool => self.condition(&mut frame, value),
            _ => self.expr(&mut frame, value, Some(want)),
        };
        if typed.ty == Type::Poison {
            return None;
        }
        // what may be null is the kind's to handle
        let fits =
            typed.ty.fits(want) || typed.ty.present().fits(want.present()) || *want.present() == Type::Any;
        if !fits && *want.present() != Type::Bool {
            self.expect_type(&typed, want, value, &format!("`{name}`"));
            return None;
        }
        work.resolved.fails |= typed.fails;
        work.resolved.reads.append(&mut frame.header_reads);
        work.resolved.keys.push((
            name.to_owned(),
            !typed.ty.may_be_null() && !typed.ty.is_dynamic(),
            typed.values,
        ));
        serde_json::to_value(&typed.expr).ok()
    }

    /// `from: end`, `done: rename(".done")`
    pub(super) fn one_of(
        &mut self,
        work: &mut Work<'_>,
        name: &str,
        choices: &[(String, Option<SettingType>)],
        value: &ast::Expr,
    ) -> Option<Json> {
        match &value.kind {
            ExprKind::Name(word) => {
                if choices.iter().any(|(choice, _)| *choice == word.text) {
                    if let Some(entity) = self.lookup(work.scope, &word.text)
                        && let EntityKind::Param(_) | EntityKind::Constant(..) = self.entity_kind(entity)
                    {
                        let declared = self.entity_span(entity);
                        self.mark_used(entity);
                        self.report(
                            Diagnostic::new(
                                Code::F0110,
                                value.span,
                                format!(
                                    "`{0}` means both the choice `{0}` of `{name}` and the parameter `{0}`",
                                    word.text
                                ),
                            )
                            .label("which one?")
                            .also(declared, "the parameter")
                            .help(format!(
                                "write `\"{}\"` for the choice, or rename the parameter",
                                word.text
                            )),
                        );
                        return None;
                    }
                    return self.choice(name, choices, &word.text, value.span);
                }
                match self.lookup(work.scope, &word.text) {
                    Some(entity)
                        if matches!(
                            self.entity_kind(entity),
                            EntityKind::Param(_) | EntityKind::Constant(..)
                        ) =>
                    {
                        self.mark_used(entity);
                        self.constant_setting(work, name, &SettingType::OneOf(choices.to_vec()), value)
                    }
                    _ => {
                        if !self.is_poisoned(&word.text) {
                            self.report_choice(name, choices, &word.text, value.span);
                        }
                        None
                    }
                }
            }
            ExprKind::Call { function, args, args_span } => {
                let ExprKind::Name(word) = &function.kind else {
                    return self.constant_setting(work, name, &SettingType::OneOf(choices.to_vec()), value);
                };
                match choices.iter().find(|(choice, _)| *choice == word.text) {
                    Some((_, Some(inner))) => {
                        let [arg] = args.as_slice() else {
                            let title = format!("`{}` takes 1 argument, {} given", word.text, args.len());
                            self.report(Diagnostic::new(Code::F0210, *args_span, title));
                            return None;
                        };
                        let value = self.setting(work, &word.text, inner, &arg.value)?;
                        let mut choice = serde_json::Map::new();
                        choice.insert(word.text.clone(), value);
                        Some(Json::Object(choice))
                    }
                    Some((_, None)) => {
                        self.report(
                            Diagnostic::new(
                                Code::F0210,
                                *args_span,
                                format!("`{}` takes no arguments, {} given", word.text, args.len()),
                            )
                            .help(format!("write `{name}: {}`", word.text)),
                        );
                        None
                    }
                    None if self.library.functions.contains_key(word.text.as_str())
                        || self.lookup(work.scope, &word.text).is_some() =>
                    {
                        self.constant_setting(work, name, &SettingType::OneOf(choices.to_vec()), value)
                    }
                    None => {
                        self.report_choice(name, choices, &word.text, function.span);
                        None
                    }
                }
            }
            _ => {
                let choices = SettingType::OneOf(choices.to_vec());
                self.constant_setting(work, name, &choices, value)
            }
        }
    }

    pub(super) fn secret(&mut self, work: &mut Work<'_>, name: &str, value: &ast::Expr) -> Option<Json> {
        if let Some(entity) = self.entity_of(work.scope, value)
            && let EntityKind::Secret(secret) = self.entity_kind(entity)
        {
            self.mark_used(entity);
            return Some(json!({ "secret": self.model.secrets[secret].name }));
        }
        let encoded = self.constant_setting_of(work, name, value)?;
        if matches!(&value.kind, ExprKind::Literal(_) | ExprKind::Template(_)) {
            self.report(
                Diagnostic::new(
                    Code::F0902,
                    value.span,
                    format!("`{name}` is secret and written in the file"),
                )
                .label("everyone who can read the file reads it")
                .help(format!("`secret {name} = file \"/run/secrets/{name}\"`, then `{name}: {name}`")),
            );
        }
        Some(encoded)
    }

    fn constant_setting_of(&mut self, work: &mut Work<'_>, name: &str, value: &ast::Expr) -> Option<Json> {
        let text = self.constant_setting(work, name, &SettingType::Text, value)?;
        Some(json!({ "literal": text }))
    }

    pub(super) fn header_setting(
        &mut self,
        work: &mut Work<'_>,
        name: &str,
        value: &ast::Expr,
    ) -> Option<Json> {
        if let Some(word) = header_word(value) {
            let constant = match &value.kind {
                ExprKind::Name(word) => self.lookup(work.scope, &word.text).filter(|entity| {
                    matches!(self.entity_kind(*entity), EntityKind::Param(_) | EntityKind::Constant(..))
                }),
                _ => None,
            };
            if constant.is_none() {
                self.slot(&word);
                return Some(Json::String(word));
            }
        }
        self.constant_setting(work, name, &SettingType::Header, value)
    }

    /// `1h or 128MiB or 10_000`
    pub(super) fn limits(&mut self, work: &mut Work<'_>, name: &str, value: &ast::Expr) -> Option<Json> {
        let mut parts = Vec::new();
        let mut rest = value;
        while let ExprKind::Binary { op: BinaryOp::Or, left, right, .. } = &rest.kind {
            parts.push(right.as_ref());
            rest = left;
        }
        parts.push(rest);
        let mut limits = serde_json::Map::new();
        for key in ["duration", "size", "events"] {
            limits.insert(key.to_owned(), Json::Null);
        }
        let mut spans: BTreeMap<&str, Span> = BTreeMap::new();
        for part in parts.into_iter().rev() {
            let what = format!("`{name}`");
            let mut frame = Frame::constant(work.scope, &what);
            let typed = self.expr(&mut frame, part, None);
            let key = match typed.ty {
                Type::Duration => "duration",
                Type::Size => "size",
                Type::Int => "events",
                Type::Poison => return None,
                ty => {
                    let title = format!(
                        "{what} is {}, this is {}",
                        SettingType::Limits.in_words(),
                        ty.with_article()
                    );
                    self.report(Diagnostic::new(Code::F0201, part.span, title).label(ty.to_string()));
                    return None;
                }
            };
            if let Some(first) = spans.insert(key, part.span) {
                self.report(
                    Diagnostic::new(
                        Code::F0114,
                        part.span,
                        format!("setting `{name}` has two limits of one sort"),
                    )
                    .label("again")
                    .also(first, "first")
                    .help("at most one duration, one size and one number of events"),
                );
                return None;
            }
            let constant = self.evaluate(&typed.expr, &what, part.span)?;
            let number = match constant {
                flow_plan::Value::Duration(value) | flow_plan::Value::Int(value) => json!(value),
                flow_plan::Value::Size(value) => json!(value),
                _ => Json::Null,
            };
            if number.as_i64().is_some_and(|number| number <= 0) {
                let title = format!("`{name}` must be more than nothing");
                self.report(Diagnostic::new(Code::F0206, part.span, title).label("out of range"));
                return None;
            }
            limits.insert(key.to_owned(), number);
        }
        Some(Json::Object(limits))
    }

    pub(super) fn reference(
        &mut self,
        work: &mut Work<'_>,
        name: &str,
        words: &[String],
        value: &ast::Expr,
    ) -> Option<Json> {
        let wanted = words.join(" or ");
        let Some(entity) = self.entity_of(work.scope, value) else {
            if let ExprKind::Name(word) = &value.kind {
                if !self.is_poisoned(&word.text) {
                    let candidates = self.component_names(work.scope, words);
                    let diagnostic = self.unknown(word, &candidates);
                    self.report(diagnostic.help(format!("`{name}` is the name of a declared {wanted}")));
                }
            } else {
                let title = format!("`{name}` is the name of a declared {wanted}");
                self.report(Diagnostic::new(Code::F0201, value.span, title).label("not a name"));
            }
            return None;
        };
        self.mark_used(entity);
        match self.entity_kind(entity) {
            EntityKind::Component(id) => {
                let component = &self.model.components[id.0 as usize];
                let word = component.word.text();
                if words.iter().any(|wanted| wanted == word) {
                    self.referenced.insert(id);
                    return Some(Json::String(component.name.clone()));
                }
                let declared = component.span;
                let title =
                    format!("`{name}` is {} {wanted}, this is {} {word}", article(&wanted), article(word));
                self.report(
                    Diagnostic::new(Code::F0201, value.span, title)
                        .label(word)
                        .also(declared, "declared here"),
                );
                None
            }
            EntityKind::Poison => None,
            other => {
                let title =
                    format!("`{name}` is {} {wanted}, this is {}", article(&wanted), other.in_words());
                self.report(Diagnostic::new(Code::F0201, value.span, title));
                None
            }
        }
    }

    pub(super) fn type_setting(
        &mut self,
        work: &mut Work<'_>,
        name: &str,
        value: &ast::Expr,
    ) -> Option<Json> {
        if let Some(entity) = self.entity_of(work.scope, value)
            && let EntityKind::Type(index) = self.entity_kind(entity)
        {
            self.mark_used(entity);
            let ty = self.declared_type(index);
            return serde_json::to_value(ty.to_ir()).ok();
        }
        if let ExprKind::Name(word) = &value.kind {
            if !self.is_poisoned(&word.text) {
                let candidates = self.type_names(work.scope);
                let diagnostic = self.unknown(word, &candidates);
                self.report(diagnostic.help(format!("`{name}` is the name of a `type`")));
            }
        } else {
            let title = format!("`{name}` is the name of a declared type");
            self.report(Diagnostic::new(Code::F0201, value.span, title).label("not a name"));
        }
        None
    }

    /// Whether a value that is no list literal is a list: a parameter, a call.
    pub(super) fn is_list(&mut self, scope: ScopeId, value: &ast::Expr) -> bool {
        if !matches!(
            value.kind,
            ExprKind::Name(_)
                | ExprKind::Member { .. }
                | ExprKind::Call { .. }
                | ExprKind::If { .. }
                | ExprKind::Binary { .. }
        ) {
            return false;
        }
        let before = self.diagnostics.len();
        let mut frame = Frame::constant(scope, "");
        let typed = self.expr(&mut frame, value, None);
        self.diagnostics.truncate(before);
        matches!(typed.ty, Type::List(_))
    }
}

fn is_list_of(want: &Type, given: &Type) -> bool {
    matches!(want.present(), Type::List(item) if given.fits(item))
}

/// `host`, `"host"`, `header.host`
pub(super) fn header_word(value: &ast::Expr) -> Option<String> {
    match &value.kind {
        ExprKind::Name(word) => Some(word.text.clone()),
        ExprKind::Literal(ast::Literal::String(word)) => Some(word.clone()),
        ExprKind::Member { object, name } => match &object.kind {
            ExprKind::Name(root) if root.text == "header" => Some(name.text.clone()),
            _ => None,
        },
        _ => None,
    }
}

fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}
