//! The channels that nobody wrote: which kind stands between a source and a sink, with which settings.
//! No kind is named here except by the user's `runtime.default_channel`: the library's order decides.

use flow_plan::Settings;
use flow_syntax::ast::{ExprKind, Extern, ExternWord, Literal, TypeExpr, TypeKind};
use serde_json::{Value, json};

use crate::Library;
use crate::model::{ImplicitChannel, KindDefaults, Model};

/// Fills in [`Model::default_channel`] and [`Model::durable_channel`] where the resolver has not.
pub fn prepare(model: &mut Model, library: &Library) {
    if model.default_channel.is_none() {
        model.default_channel =
            chosen(model, library).or_else(|| first(library, |channel| channel.params.is_empty()));
    }
    if model.durable_channel.is_none() {
        model.durable_channel =
            first(library, |channel| channel.abilities.iter().any(|name| name.text == "durable"));
    }
    model.reader = defaults(library, ExternWord::Consumer);
    model.own_cluster = defaults(library, ExternWord::Cluster);
}

/// The first kind of a sort that this build has and that needs nothing written.
fn defaults(library: &Library, word: ExternWord) -> Option<KindDefaults> {
    let kind = library
        .externs
        .iter()
        .filter(|item| item.word == word && item.params.is_empty())
        .filter(|item| item.abilities.iter().all(|name| name.text != "absent"))
        .find_map(with_defaults)?;
    Some(KindDefaults { kind: kind.kind, settings: kind.settings, abilities: kind.abilities })
}

/// What `runtime { default_channel: { kind: …, … } }` says.
fn chosen(model: &Model, library: &Library) -> Option<ImplicitChannel> {
    let wanted = model.runtime.get("default_channel")?.as_object()?;
    let kind = wanted.get("kind")?.as_str()?;
    let mut channel = first(library, |channel| channel.name.text == kind)?;
    for (key, value) in wanted {
        if let Some(setting) = channel.settings.get_mut(key) {
            *setting = value.clone();
        }
    }
    channel.span = model.runtime_span;
    Some(channel)
}

fn first(library: &Library, fits: impl Fn(&Extern) -> bool) -> Option<ImplicitChannel> {
    library
        .externs
        .iter()
        .filter(|item| item.word == ExternWord::Channel)
        .filter(|item| item.abilities.iter().all(|name| name.text != "absent"))
        .filter(|item| fits(item))
        .find_map(with_defaults)
}

/// All settings at their defaults; `None` when there is one that somebody has to write.
fn with_defaults(item: &Extern) -> Option<ImplicitChannel> {
    let mut settings = Settings::new();
    let mut directory_setting = None;
    for param in &item.params {
        let value = match (&param.default, &param.ty) {
            (Some(default), _) => encode(&default.kind)?,
            (None, Some(ty)) if ty.optional => Value::Null,
            (None, Some(ty)) if is_path(ty) && directory_setting.is_none() => {
                directory_setting = Some(param.name.text.clone());
                // One is filled in per channel; an empty list is the channel's own in the state directory.
                if matches!(ty.kind, TypeKind::Generic(..)) { json!([]) } else { Value::Null }
            }
            (None, _) => return None,
        };
        settings.insert(param.name.text.clone(), value);
    }
    for setting in &item.settings {
        let value = match &setting.default {
            Some(default) => encode(&default.kind)?,
            None if setting.ty.optional => Value::Null,
            None => return None,
        };
        settings.insert(setting.name.text.clone(), value);
    }
    Some(ImplicitChannel {
        kind: item.name.text.clone(),
        settings,
        abilities: item.abilities.iter().map(|name| name.text.clone()).collect(),
        directory_setting,
        span: None,
    })
}

/// `path` or `list<path>`.
fn is_path(ty: &TypeExpr) -> bool {
    match &ty.kind {
        TypeKind::Name(name) => name == "path",
        TypeKind::Generic(word, inner) => word == "list" && inner.iter().all(is_path),
        _ => false,
    }
}

/// Defaults of channels are literals or choices; anything else is not for a channel that nobody wrote.
fn encode(default: &ExprKind) -> Option<Value> {
    Some(match default {
        ExprKind::Literal(literal) => match literal {
            Literal::Null => Value::Null,
            Literal::Bool(value) => json!(value),
            Literal::Int(value) => json!(value),
            Literal::Float(value) => json!(value),
            Literal::Duration(value) => json!(value),
            Literal::Size(value) => json!(value),
            Literal::Time(value) => json!(value),
            Literal::String(value) => json!(value),
        },
        ExprKind::Name(choice) => json!(choice.text),
        ExprKind::List(items) => {
            Value::Array(items.iter().map(|item| encode(&item.kind)).collect::<Option<Vec<_>>>()?)
        }
        ExprKind::Map(entries) if entries.entries.is_empty() => json!({}),
        _ => return None,
    })
}
