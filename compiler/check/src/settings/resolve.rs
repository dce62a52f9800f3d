//! The settings of one constructor against the declaration of its kind: every declared setting gets a value.

use std::collections::BTreeMap;

use flow_diag::{Code, Diagnostic, Span};
use flow_plan::ir;
use flow_plan::settings::Settings;
use flow_syntax::ast::{self, BinaryOp, ExprKind};
use serde_json::{Value as Json, json};

use super::SettingType;
use crate::expr::{Frame, HeaderRead, State};
use crate::library::Kind;
use crate::regexes;
use crate::resolve::{EntityKind, Resolver, ScopeId};
use crate::types::Type;

/// What the user wrote.
pub(crate) struct Given<'g> {
    pub args: &'g [ast::Expr],
    pub settings: Option<&'g ast::Settings>,
    pub kind_span: Span,
}

/// Where the settings stand.
pub(crate) struct SettingContext {
    pub scope: ScopeId,
    /// `channel kind`, `interceptor`: the sort, for messages.
    pub sort: String,
    /// What is known of the events that expressions see.
    pub state: State,
}

/// The settings, and what was learnt on the way.
#[derive(Default)]
pub(crate) struct Resolved {
    pub settings: Settings,
    /// Where each setting stands that the user wrote.
    pub spans: BTreeMap<String, Span>,
    /// An error was found.
    pub poisoned: bool,
    /// An expression among them can fail.
    pub fails: bool,
    /// Named groups of the regexes; `true` when the group is part of every match.
    pub groups: BTreeMap<String, bool>,
    /// Headers by settings of type `header`, with the setting's default.
    pub headers: Vec<NamedHeader>,
    /// Keys of rest settings, with what is known of their values.
    pub keys: Vec<(String, bool, Option<std::collections::BTreeSet<String>>)>,
    pub reads: Vec<HeaderRead>,
    /// Some choice is called so.
    pub choices: Vec<String>,
}

pub(crate) struct NamedHeader {
    pub value: Option<String>,
    pub default: Option<String>,
}

/// What the resolution of one value adds to [`Resolved`].
struct Work<'w> {
    scope: ScopeId,
    state: &'w State,
    resolved: &'w mut Resolved,
}

impl<'a> Resolver<'a> {
    /// Resolves settings against a declaration.
    pub(crate) fn settings(
        &mut self,
        context: &SettingContext,
        kind: &Kind<'a>,
        given: Given<'_>,
    ) -> Resolved {
        let mut resolved = Resolved::default();
        let mut values: BTreeMap<&str, &ast::Expr> = BTreeMap::new();
        let mut rest: Vec<&ast::Setting> = Vec::new();
        for (position, arg) in given.args.iter().enumerate() {
            match kind.settings.get(position).filter(|_| position < kind.arguments) {
                Some(setting) => {
                    values.insert(setting.name, arg);
                }
                None => {
                    resolved.poisoned = true;
                    let takes = crate::expr::count_arguments(kind.arguments);
                    let title = format!("`{}` takes {takes}, {} given", kind.name, given.args.len());
                    let mut diagnostic = Diagnostic::new(Code::F0210, arg.span, title).label("one too many");
                    diagnostic = match kind.settings.get(position) {
                        Some(next) => {
                            diagnostic.help(format!("further settings have names: `{{ {}: … }}`", next.name))
                        }
                        None => diagnostic,
                    };
                    self.report(diagnostic);
                    break;
                }
            }
        }
        for entry in given.settings.map_or(&[][..], |settings| &settings.entries) {
            let key = entry.key.text.as_str();
            match kind.setting(key) {
                Some(setting) => {
                    let name = kind
                        .settings
                        .iter()
                        .map(|own| own.name)
                        .find(|own| *own == setting.name)
                        .unwrap_or_default();
                    if let Some(first) = values.get(name) {
                        resolved.poisoned = true;
                        self.report_given_twice(key, first.span, entry.key.span);
                    } else {
                        values.insert(name, &entry.value);
                    }
                }
                None if kind.rest.is_some() => {
                    if let Some(first) = rest.iter().find(|other| other.key.text == key) {
                        resolved.poisoned = true;
                        self.report_given_twice(key, first.key.span, entry.key.span);
                    } else {
                        rest.push(entry);
                    }
                }
                None => {
                    resolved.poisoned = true;
                    self.report_unknown_setting(context, kind, &entry.key);
                    // what is written there can be wrong, too, but nothing says what it should be
                }
            }
        }
        for setting in &kind.settings {
            let value = match values.get(setting.name) {
                Some(value) => {
                    resolved.spans.insert(setting.name.to_owned(), value.span);
                    let mut work =
                        Work { scope: context.scope, state: &context.state, resolved: &mut resolved };
                    let value = self.setting(&mut work, setting.name, &setting.ty, value);
                    if value.is_none() {
                        resolved.poisoned = true;
                    }
                    value
                }
                None => match setting.default {
                    Some(default) => {
                        Some(self.default_setting(setting.name, &setting.ty, default, context, &mut resolved))
                    }
                    None if setting.ty.is_optional() => Some(Json::Null),
                    None => {
                        resolved.poisoned = true;
                        self.report_missing(kind, setting.name, &setting.ty, given.kind_span);
                        None
                    }
                },
            };
            let value = value.unwrap_or(Json::Null);
            if let SettingType::Header = setting.ty.bare() {
                let default = setting.default.and_then(header_word);
                let value = value.as_str().map(str::to_owned);
                resolved.headers.push(NamedHeader { value, default });
            }
            if let (SettingType::OneOf(_), Json::String(choice)) = (setting.ty.bare(), &value) {
                resolved.choices.push(choice.clone());
            }
            resolved.settings.insert(setting.name.to_owned(), value);
        }
        if let Some(ty) = &kind.rest {
            let mut map = serde_json::Map::new();
            for entry in rest {
                let mut work = Work { scope: context.scope, state: &context.state, resolved: &mut resolved };
                match self.setting(&mut work, &entry.key.text, ty, &entry.value) {
                    Some(value) => {
                        map.insert(entry.key.text.clone(), value);
                    }
                    None => resolved.poisoned = true,
                }
                resolved.spans.insert(entry.key.text.clone(), entry.value.span);
                if kind.can("sets_keys") {
                    self.slot(&entry.key.text);
                }
                let (sure, values) = match resolved.keys.last() {
                    Some((key, sure, values)) if *key == entry.key.text => (*sure, values.clone()),
                    _ => (false, None),
                };
                resolved.keys.retain(|(key, ..)| *key != entry.key.text);
                resolved.keys.push((entry.key.text.clone(), sure, values));
            }
            resolved.settings.insert("...".to_owned(), Json::Object(map));
        }
        if kind.can("sets_groups") {
            self.check_groups(kind, &values, &resolved);
            for group in resolved.groups.keys() {
                self.slot(group);
            }
        }
        for header in &kind.sets {
            self.slot(header);
        }
        resolved
    }

    /// Keys of map settings of a kind that sets groups name groups: F0303.
    fn check_groups(&mut self, kind: &Kind<'a>, values: &BTreeMap<&str, &ast::Expr>, resolved: &Resolved) {
        let regex_known = kind.settings.iter().any(|setting| {
            *setting.ty.bare() == SettingType::Regex
                && resolved.settings.get(setting.name).is_some_and(|value| !value.is_null())
        });
        if !regex_known {
            return;
        }
        for setting in &kind.settings {
            if !matches!(setting.ty.bare(), SettingType::Map(_)) {
                continue;
            }
            let Some(ast::Expr { kind: ExprKind::Map(map), .. }) = values.get(setting.name) else { continue };
            for entry in &map.entries {
                if resolved.groups.contains_key(&entry.key.text) {
                    continue;
                }
                let mut diagnostic = Diagnostic::new(
                    Code::F0303,
                    entry.key.span,
                    format!("the pattern has no group `{}`", entry.key.text),
                );
                if let Some(near) =
                    flow_diag::suggest(&entry.key.text, resolved.groups.keys().map(String::as_str))
                {
                    diagnostic =
                        diagnostic.label(format!("did you mean `{near}`?")).fix(entry.key.span, near);
                }
                let groups = resolved.groups.keys().cloned().collect::<Vec<_>>();
                diagnostic = diagnostic.help(if groups.is_empty() {
                    "a group gets a name so: `(?<name>…)`".to_owned()
                } else {
                    format!("groups: {}", groups.join(", "))
                });
                for value in values.values() {
                    if let ExprKind::Regex(regex) = &value.kind {
                        diagnostic = diagnostic.also(regex.span, "the pattern");
                    }
                }
                self.report(diagnostic);
            }
        }
    }

    /// A default of the library: a mistake there is the library's, and its tests find it.
    fn default_setting(
        &mut self,
        name: &str,
        ty: &SettingType,
        default: &ast::Expr,
        context: &SettingContext,
        resolved: &mut Resolved,
    ) -> Json {
        let before = self.diagnostics.len();
        let poisoned = resolved.poisoned;
        let mut own = Resolved::default();
        let state = State::unknown();
        let scope = self.library_scope();
        let _ = context;
        let mut work = Work { scope, state: &state, resolved: &mut own };
        let value = self.setting(&mut work, name, ty, default);
        resolved.poisoned = poisoned;
        resolved.fails |= own.fails;
        if self.keep_library_problems {
            return value.unwrap_or(Json::Null);
        }
        self.diagnostics.truncate(before);
        value.unwrap_or(Json::Null)
    }

    /// Resolves the defaults of a kind; mistakes stay in the diagnostics.
    pub(crate) fn check_defaults(&mut self, kind: &Kind<'a>) {
        let scope = self.library_scope();
        let context = SettingContext { scope, sort: "kind".to_owned(), state: State::unknown() };
        let mut resolved = Resolved::default();
        for setting in &kind.settings {
            if let Some(default) = setting.default {
                self.default_setting(setting.name, &setting.ty, default, &context, &mut resolved);
            }
        }
    }

    /// One value by its declared type.
    fn setting(
        &mut self,
        work: &mut Work<'_>,
        name: &str,
        ty: &SettingType,
        value: &ast::Expr,
    ) -> Option<Json> {
        if let ExprKind::Broken = value.kind {
            self.model.incomplete = true;
            return None;
        }
        match ty {
            SettingType::Optional(inner) => {
                if let ExprKind::Literal(ast::Literal::Null) = value.kind {
                    return Some(Json::Null);
                }
                match inner.as_ref() {
                    SettingType::Ranged(..)
                    | SettingType::Text
                    | SettingType::Int
                    | SettingType::Float
                    | SettingType::Bool
                    | SettingType::Duration
                    | SettingType::Size
                    | SettingType::Time => self.constant_setting(work, name, ty, value),
                    inner => self.setting(work, name, inner, value),
                }
            }
            SettingType::List(item) => match &value.kind {
                ExprKind::List(items) => {
                    let mut list = Vec::with_capacity(items.len());
                    let mut complete = true;
                    for item_value in items {
                        match self.setting(work, name, item, item_value) {
                            Some(value) => list.push(value),
                            None => complete = false,
                        }
                    }
                    complete.then_some(Json::Array(list))
                }
                _ if self.is_list(work.scope, value) => self.constant_setting(work, name, ty, value),
                _ => self.setting(work, name, item, value).map(|value| Json::Array(vec![value])),
            },
            SettingType::Map(item) => match &value.kind {
                ExprKind::Map(map) => {
                    let mut entries = serde_json::Map::new();
                    let mut complete = true;
                    for entry in &map.entries {
                        let path = format!("{name}.{}", entry.key.text);
                        match self.setting(work, &path, item, &entry.value) {
                            Some(value) => {
                                if entries.insert(entry.key.text.clone(), value).is_some() {
                                    let first =
                                        map.entries.iter().find(|other| other.key.text == entry.key.text);
                                    let first = first.map_or(entry.key.span, |first| first.key.span);
                                    self.report_given_twice(&entry.key.text, first, entry.key.span);
                                }
                            }
                            None => complete = false,
                        }
                    }
                    complete.then_some(Json::Object(entries))
                }
                _ => self.constant_setting(work, name, ty, value),
            },
            SettingType::OneOf(choices) => self.one_of(work, name, choices, value),
            SettingType::Secret => self.secret(work, name, value),
            SettingType::Template => self.per_event(work, name, &Type::String, value),
            SettingType::Expr(ty) => self.per_event(work, name, ty, value),
            SettingType::Header => self.header_setting(work, name, value),
            SettingType::Regex => match &value.kind {
                ExprKind::Regex(regex) => {
                    let compiled = regexes::compile_regex(regex, &mut self.diagnostics)?;
                    work.resolved.groups.extend(compiled.groups);
                    Some(json!({ "pattern": compiled.setting.pattern, "flags": compiled.setting.flags }))
                }
                _ => self.constant_setting(work, name, ty, value),
            },
            SettingType::Limits => self.limits(work, name, value),
            SettingType::Range(inner) => match &value.kind {
                ExprKind::Binary { op: BinaryOp::Range, left, right, .. } => {
                    let from = self.setting(work, name, inner, left)?;
                    let to = self.setting(work, name, inner, right)?;
                    if let (Some(low), Some(high)) = (from.as_f64(), to.as_f64())
                        && low > high
                    {
                        let title = format!("range `{}` is empty", self.files.slice(value.span));
                        self.report(
                            Diagnostic::new(Code::F0509, value.span, title)
                                .label("the end is below the start")
                                .help("swap the two"),
                        );
                        return None;
                    }
                    Some(json!({ "from": from, "to": to }))
                }
                _ => {
                    let single = self.setting(work, name, inner, value)?;
                    Some(json!({ "from": single, "to": single }))
                }
            },
            SettingType::Ref(words) => self.reference(work, name, words, value),
            SettingType::Type => self.type_setting(work, name, value),
            SettingType::Text
            | SettingType::Int
            | SettingType::Float
            | SettingType::Bool
            | SettingType::Duration
            | SettingType::Size
            | SettingType::Time
            | SettingType::Json
            | SettingType::Any
            | SettingType::Ranged(..) => self.constant_setting(work, name, ty, value),
        }
    }

    /// A value that is known when the program is checked.
    fn constant_setting(
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
                self.report(diagnostic);
            }
            return None;
        }
        let constant = self.evaluate(&typed.expr, &what, value.span)?;
        self.encode(name, ty, &constant, value.span)
    }

    /// Text or an expression that is evaluated for every event.
    fn per_event(&mut self, work: &mut Work<'_>, name: &str, want: &Type, value: &ast::Expr) -> Option<Json> {
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
    fn one_of(
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

    fn secret(&mut self, work: &mut Work<'_>, name: &str, value: &ast::Expr) -> Option<Json> {
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

    fn header_setting(&mut self, work: &mut Work<'_>, name: &str, value: &ast::Expr) -> Option<Json> {
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
    fn limits(&mut self, work: &mut Work<'_>, name: &str, value: &ast::Expr) -> Option<Json> {
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

    fn reference(
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
                let word = word_text(component.word);
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

    fn type_setting(&mut self, work: &mut Work<'_>, name: &str, value: &ast::Expr) -> Option<Json> {
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
    fn is_list(&mut self, scope: ScopeId, value: &ast::Expr) -> bool {
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

    fn report_unknown_setting(&mut self, context: &SettingContext, kind: &Kind<'a>, key: &ast::SettingKey) {
        if self.is_poisoned(&key.text) {
            return;
        }
        let title = format!("unknown setting `{}` of {} `{}`", key.text, context.sort, kind.name);
        let mut diagnostic = Diagnostic::new(Code::F0113, key.span, title);
        let names = kind.settings.iter().map(|setting| setting.name).collect::<Vec<_>>();
        diagnostic = match flow_diag::suggest(&key.text, names.iter().copied()) {
            Some(near) => diagnostic.label(format!("did you mean `{near}`?")).fix(key.span, near),
            None => diagnostic.label("no such setting"),
        };
        diagnostic = diagnostic.help(if names.is_empty() {
            format!("`{}` has no settings", kind.name)
        } else {
            format!("settings: {}", names.join(", "))
        });
        self.report(diagnostic);
    }

    fn report_missing(&mut self, kind: &Kind<'a>, setting: &str, ty: &SettingType, span: Span) {
        let position = kind.settings.iter().position(|own| own.name == setting);
        let help = match position {
            Some(position) if position < kind.arguments => format!("`{} {}`", kind.name, written(ty)),
            _ => format!("add `{setting}: {}`", written(ty)),
        };
        self.report(
            Diagnostic::new(Code::F0115, span, format!("`{}` needs `{setting}`", kind.name))
                .label(format!("`{setting}` is {}", ty.in_words()))
                .help(help),
        );
    }

    /// F0114
    pub(crate) fn report_given_twice(&mut self, name: &str, first: Span, again: Span) {
        self.report(
            Diagnostic::new(Code::F0114, again, format!("setting `{name}` is given twice"))
                .label("again")
                .also(first, "first given here")
                .help("remove one of them"),
        );
    }

    /// A default of a library function's parameter, or the like.
    pub(crate) fn library_constant(&mut self, default: &ast::Expr, ty: &Type) -> ir::Expr {
        let before = self.diagnostics.len();
        let scope = self.library_scope();
        let mut frame = Frame::constant(scope, "the default");
        let typed = self.expr(&mut frame, default, Some(ty));
        self.diagnostics.truncate(before);
        typed.expr
    }
}

fn is_list_of(want: &Type, given: &Type) -> bool {
    matches!(want.present(), Type::List(item) if given.fits(item))
}

/// `host`, `"host"`, `header.host`
fn header_word(value: &ast::Expr) -> Option<String> {
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

fn written(ty: &SettingType) -> &'static str {
    match ty.bare() {
        SettingType::Int => "1",
        SettingType::Float => "0.5",
        SettingType::Bool => "true",
        SettingType::Duration => "1s",
        SettingType::Size => "1MiB",
        SettingType::Regex => "/…/",
        SettingType::Ref(_) | SettingType::Type | SettingType::OneOf(_) | SettingType::Header => "…",
        SettingType::List(item) => match item.bare() {
            SettingType::Text | SettingType::Template => "\"…\"",
            _ => "[…]",
        },
        _ => "\"…\"",
    }
}

fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

/// The word a component was declared with.
pub(crate) fn word_text(word: crate::model::Word) -> &'static str {
    use crate::model::Word;
    match word {
        Word::Source => "source",
        Word::Channel => "channel",
        Word::Sink => "sink",
        Word::Group => "group",
        Word::Topic => "topic",
        Word::Consumer => "consumer",
        Word::Cluster => "cluster",
        Word::Ensemble => "ensemble",
    }
}
