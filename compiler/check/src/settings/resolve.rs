//! The settings of one constructor against the declaration of its kind: every declared setting gets a value.

use std::collections::BTreeMap;

use flow_diag::{Code, Diagnostic, Span};
use flow_plan::ir;
use flow_plan::settings::Settings;
use flow_syntax::ast::{self, BinaryOp, ExprKind, ExternWord};
use serde_json::{Value as Json, json};

use super::SettingType;
use super::values::header_word;
use crate::expr::{Frame, HeaderRead, State};
use crate::library::Kind;
use crate::regexes;
use crate::resolve::{Resolver, ScopeId};
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
pub(super) struct Work<'w> {
    pub scope: ScopeId,
    pub state: &'w State,
    pub resolved: &'w mut Resolved,
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
                    if setting.absent {
                        self.report(
                            Diagnostic::new(
                                Code::F0116,
                                value.span,
                                format!("this build has no `{}` of `{}`", setting.name, kind.name),
                            )
                            .label("declared, but not built in"),
                        );
                    }
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
                if let Some(name) = &value {
                    self.slot(name);
                }
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
    pub(super) fn setting(
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

    fn report_unknown_setting(&mut self, context: &SettingContext, kind: &Kind<'a>, key: &ast::SettingKey) {
        if self.is_poisoned(&key.text) {
            return;
        }
        // `data` of an external cluster: the same word, another kind.
        let elsewhere = self.library.kinds.iter().find(|((word, name), other)| {
            matches!(word, ExternWord::Cluster | ExternWord::Ensemble)
                && self.library.kind(*word, kind.name).is_some_and(|own| std::ptr::eq(own, kind))
                && *name != kind.name
                && other.setting(&key.text).is_some()
        });
        if let Some(((word, other), _)) = elsewhere {
            let sort = if *word == ExternWord::Ensemble { "an ensemble" } else { "a cluster" };
            let title =
                format!("`{}` belongs to {sort} that is `{other}`; this one is `{}`", key.text, kind.name);
            let names = kind.settings.iter().map(|setting| setting.name).collect::<Vec<_>>().join(", ");
            let diagnostic = Diagnostic::new(Code::F0712, key.span, title)
                .label("nothing here would obey it")
                .help(format!("remove it; settings of `{}`: {names}", kind.name));
            self.report(diagnostic);
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
