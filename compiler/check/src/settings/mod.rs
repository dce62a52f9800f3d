//! The types that settings are declared with, and how a user's values become the plain data that kinds decode
//! (see `flow_plan::settings`). Knows no kind by name.

mod encode;
mod resolve;
mod times;
mod values;

use std::fmt;

use flow_syntax::ast;

use crate::library::{builtin_type, library_type};
use crate::types::Type;

pub(crate) use resolve::{Given, NamedHeader, Resolved, SettingContext};
pub(crate) use times::{check_time_format, finer_than_a_minute};

/// What a setting takes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SettingType {
    /// `string`, or text with a meaning: `glob path address url`.
    Text,
    Int,
    Float,
    Bool,
    Duration,
    Size,
    Time,
    Regex,
    Json,
    Any,
    List(Box<SettingType>),
    Map(Box<SettingType>),
    Optional(Box<SettingType>),
    /// A choice, perhaps with a value.
    OneOf(Vec<(String, Option<SettingType>)>),
    Secret,
    /// Text with holes, evaluated per event.
    Template,
    /// An expression, evaluated per event.
    Expr(Type),
    /// The name of a header.
    Header,
    /// `1h or 128MiB or 10_000`
    Limits,
    /// `1s..30s`
    Range(Box<SettingType>),
    /// A declared ensemble, cluster, …
    Ref(Vec<String>),
    /// A declared record.
    Type,
    /// `int 1..100`
    Ranged(Box<SettingType>, ast::Literal, ast::Literal),
}

impl SettingType {
    /// As declared in the library.
    pub fn of(ty: &ast::TypeExpr) -> SettingType {
        let mut base = match &ty.kind {
            ast::TypeKind::Name(name) => match name.as_str() {
                "string" | "glob" | "path" | "address" | "url" | "bytes" => SettingType::Text,
                "int" => SettingType::Int,
                "float" => SettingType::Float,
                "bool" => SettingType::Bool,
                "duration" => SettingType::Duration,
                "size" => SettingType::Size,
                "time" => SettingType::Time,
                "regex" => SettingType::Regex,
                "json" => SettingType::Json,
                "secret" => SettingType::Secret,
                "template" => SettingType::Template,
                "header" => SettingType::Header,
                "limits" => SettingType::Limits,
                "type" => SettingType::Type,
                _ => SettingType::Any,
            },
            ast::TypeKind::Generic(word, args) => match (word.as_str(), args.as_slice()) {
                ("list", [item]) => SettingType::List(Box::new(SettingType::of(item))),
                ("map", [item]) => SettingType::Map(Box::new(SettingType::of(item))),
                ("expr", [inner]) => SettingType::Expr(library_type(inner)),
                ("range", [inner]) => SettingType::Range(Box::new(SettingType::of(inner))),
                ("secret", _) => SettingType::Secret,
                ("ref", words) => SettingType::Ref(words.iter().filter_map(word_of).collect()),
                _ => SettingType::Any,
            },
            ast::TypeKind::OneOf(choices) => SettingType::OneOf(
                choices
                    .iter()
                    .map(|choice| (choice.name.text.clone(), choice.value.as_ref().map(SettingType::of)))
                    .collect(),
            ),
            ast::TypeKind::Record(_) | ast::TypeKind::Function(..) | ast::TypeKind::Broken => {
                SettingType::Any
            }
        };
        if let Some((low, high)) = &ty.range
            && let (Some(low), Some(high)) = (literal(low), literal(high))
        {
            base = SettingType::Ranged(Box::new(base), low, high);
        }
        if ty.optional { SettingType::Optional(Box::new(base)) } else { base }
    }

    /// The type that a constant for it has, for inference; `None` where the text decides.
    pub fn value_type(&self) -> Type {
        match self {
            SettingType::Text | SettingType::Template | SettingType::Header => Type::String,
            SettingType::Int => Type::Int,
            SettingType::Float => Type::Float,
            SettingType::Bool => Type::Bool,
            SettingType::Duration => Type::Duration,
            SettingType::Size => Type::Size,
            SettingType::Time => Type::Time,
            SettingType::Regex => Type::Regex,
            SettingType::Json => Type::Json,
            SettingType::List(item) => Type::list(item.value_type()),
            SettingType::Map(item) => Type::map(item.value_type()),
            SettingType::Optional(inner) => match inner.value_type() {
                Type::Any => Type::Any,
                ty => ty.optional(),
            },
            SettingType::OneOf(_) => Type::String,
            SettingType::Ranged(inner, ..) => inner.value_type(),
            SettingType::Secret => Type::Secret,
            SettingType::Expr(ty) => ty.clone(),
            SettingType::Any
            | SettingType::Limits
            | SettingType::Range(_)
            | SettingType::Ref(_)
            | SettingType::Type => Type::Any,
        }
    }

    /// `a whole number`, `a duration`: for messages.
    pub fn in_words(&self) -> String {
        match self {
            SettingType::Text => "text".into(),
            SettingType::Int => "a whole number".into(),
            SettingType::Float => "a number".into(),
            SettingType::Bool => "`true` or `false`".into(),
            SettingType::Duration => "a duration".into(),
            SettingType::Size => "a size".into(),
            SettingType::Time => "a time".into(),
            SettingType::Regex => "a regex".into(),
            SettingType::Json | SettingType::Any => "a value".into(),
            SettingType::List(_) => "a list".into(),
            SettingType::Map(_) => "a map".into(),
            SettingType::Optional(inner) => inner.in_words(),
            SettingType::OneOf(_) => "a choice".into(),
            SettingType::Secret => "a secret".into(),
            SettingType::Template => "text".into(),
            SettingType::Expr(ty) => ty.with_article(),
            SettingType::Header => "the name of a header".into(),
            SettingType::Limits => "a limit (`1h or 128MiB or 10_000`)".into(),
            SettingType::Range(inner) => format!("a range of {}", inner.plural()),
            SettingType::Ref(words) => format!("the name of a declared {}", words.join(" or ")),
            SettingType::Type => "the name of a declared type".into(),
            SettingType::Ranged(inner, ..) => inner.in_words(),
        }
    }

    fn plural(&self) -> &'static str {
        match self {
            SettingType::Duration => "durations",
            SettingType::Size => "sizes",
            SettingType::Int => "whole numbers",
            _ => "values",
        }
    }

    /// The type without `?` and without its range.
    pub fn bare(&self) -> &SettingType {
        match self {
            SettingType::Optional(inner) | SettingType::Ranged(inner, ..) => inner.bare(),
            other => other,
        }
    }

    pub fn is_optional(&self) -> bool {
        matches!(self, SettingType::Optional(_))
    }
}

/// As it is written in a declaration.
impl fmt::Display for SettingType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingType::List(item) => write!(f, "list<{item}>"),
            SettingType::Map(item) => write!(f, "map<{item}>"),
            SettingType::Optional(inner) => write!(f, "{inner}?"),
            SettingType::OneOf(choices) => {
                let names = choices.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>();
                f.write_str(&names.join(" | "))
            }
            other => f.write_str(&other.in_words()),
        }
    }
}

fn word_of(ty: &ast::TypeExpr) -> Option<String> {
    match &ty.kind {
        ast::TypeKind::Name(name) => Some(name.clone()),
        _ => None,
    }
}

/// A literal, also a negative one.
pub(crate) fn literal(expr: &ast::Expr) -> Option<ast::Literal> {
    match &expr.kind {
        ast::ExprKind::Literal(literal) => Some(literal.clone()),
        ast::ExprKind::Unary { op: ast::UnaryOp::Neg, value, .. } => match literal(value)? {
            ast::Literal::Int(value) => value.checked_neg().map(ast::Literal::Int),
            ast::Literal::Float(value) => Some(ast::Literal::Float(-value)),
            ast::Literal::Duration(value) => value.checked_neg().map(ast::Literal::Duration),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a type name of the user's clashes with one of the language.
pub(crate) fn is_builtin_type(name: &str) -> bool {
    builtin_type(name).is_some() || matches!(name, "list" | "map")
}
