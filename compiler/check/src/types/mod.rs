//! The types of the language: how they are written in messages, which value fits where, and how type variables
//! of the library's functions are bound. Knows nothing of names; they are resolved in [`crate::resolve`].

mod unify;

use std::fmt;
use std::rc::Rc;

use flow_plan::ir;

pub(crate) use unify::{Bindings, unify};

/// The type of an expression.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Type {
    /// An error was reported: silent, fits everywhere.
    Poison,
    /// Declared `any`: everything fits.
    Any,
    /// The type of `null` alone.
    Null,
    Bool,
    Int,
    Float,
    String,
    /// The same thing as `string` at run time; both fit each other.
    Bytes,
    Time,
    Duration,
    Size,
    Regex,
    /// Dynamic: fits everywhere, and is checked when it is used.
    Json,
    List(Box<Type>),
    Map(Box<Type>),
    Record(Rc<Record>),
    Optional(Box<Type>),
    Secret,
    Function(Vec<Type>, Box<Type>),
    /// `T` in a declaration of the library.
    Variable(String),
}

/// A record: `type Order = { … }` or a record type in place.
#[derive(Debug, PartialEq)]
pub(crate) struct Record {
    pub name: Option<String>,
    pub fields: Vec<(String, Type)>,
}

impl Record {
    pub fn field(&self, name: &str) -> Option<&Type> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, ty)| ty)
    }
}

impl Type {
    pub fn list(item: Type) -> Type {
        Type::List(Box::new(item))
    }

    pub fn map(item: Type) -> Type {
        Type::Map(Box::new(item))
    }

    /// `T?`; what may be null already stays as it is.
    pub fn optional(self) -> Type {
        match self {
            Type::Optional(_) | Type::Null | Type::Poison | Type::Any | Type::Json => self,
            other => Type::Optional(Box::new(other)),
        }
    }

    /// The type without `?`.
    pub fn present(&self) -> &Type {
        match self {
            Type::Optional(inner) => inner,
            other => other,
        }
    }

    pub fn may_be_null(&self) -> bool {
        matches!(self, Type::Optional(_) | Type::Null)
    }

    /// Nothing can be said about it.
    pub fn is_dynamic(&self) -> bool {
        matches!(self, Type::Poison | Type::Any | Type::Json | Type::Variable(_))
    }

    /// Whether a type variable occurs in it.
    pub fn has_variables(&self) -> bool {
        match self {
            Type::Variable(_) => true,
            Type::List(inner) | Type::Map(inner) | Type::Optional(inner) => inner.has_variables(),
            Type::Function(params, result) => {
                params.iter().any(Type::has_variables) || result.has_variables()
            }
            _ => false,
        }
    }

    pub fn is_text(&self) -> bool {
        matches!(self, Type::String | Type::Bytes)
    }

    pub fn is_number(&self) -> bool {
        matches!(self, Type::Int | Type::Float)
    }

    /// A value of this type can stand where `to` is wanted, without a conversion.
    pub fn fits(&self, to: &Type) -> bool {
        match (self, to) {
            (Type::Poison, _) | (_, Type::Poison) => true,
            (Type::Secret, other) | (other, Type::Secret) => matches!(other, Type::Secret),
            (Type::Any | Type::Json, _) | (_, Type::Any | Type::Json) => true,
            (Type::Variable(a), Type::Variable(b)) => a == b,
            (Type::Null, Type::Null | Type::Optional(_)) => true,
            (Type::Optional(from), Type::Optional(to)) => from.fits(to),
            (Type::Optional(_), _) => false,
            (from, Type::Optional(to)) => from.fits(to),
            (Type::String | Type::Bytes, Type::String | Type::Bytes) => true,
            (Type::List(from), Type::List(to)) | (Type::Map(from), Type::Map(to)) => from.fits(to),
            (Type::Record(from), Type::Map(to)) => from.fields.iter().all(|(_, ty)| ty.fits(to)),
            (Type::Record(from), Type::Record(to)) => {
                Rc::ptr_eq(from, to)
                    || to.fields.iter().all(|(name, ty)| match from.field(name) {
                        Some(field) => field.fits(ty),
                        None => ty.may_be_null(),
                    })
            }
            (Type::Function(from_args, from), Type::Function(to_args, to)) => {
                from_args.len() == to_args.len()
                    && from.fits(to)
                    && to_args.iter().zip(from_args).all(|(to, from)| to.fits(from))
            }
            (from, to) => from == to,
        }
    }

    /// The smallest type that both fit; `None` when there is none but `json`.
    pub fn join(&self, other: &Type) -> Option<Type> {
        match (self, other) {
            (Type::Poison, _) | (_, Type::Poison) => Some(Type::Poison),
            (Type::Null, ty) | (ty, Type::Null) => Some(ty.clone().optional()),
            (Type::Json, _) | (_, Type::Json) => Some(Type::Json),
            (Type::Any, _) | (_, Type::Any) => Some(Type::Any),
            (Type::Optional(a), b) | (b, Type::Optional(a)) => a.join(b.present()).map(Type::optional),
            (Type::List(a), Type::List(b)) => Some(Type::list(a.join(b).unwrap_or(Type::Json))),
            (Type::Map(a), Type::Map(b)) => Some(Type::map(a.join(b).unwrap_or(Type::Json))),
            (a, b) if a.fits(b) => Some(b.clone()),
            (a, b) if b.fits(a) => Some(a.clone()),
            _ => None,
        }
    }

    /// `a string`, `an int`, `a list<string>`: for the middle of a sentence.
    pub fn with_article(&self) -> String {
        match self {
            Type::Null => "null".into(),
            Type::Json => "a json value".into(),
            Type::Bytes => "bytes".into(),
            Type::Int => "an int".into(),
            Type::Any => "anything".into(),
            Type::Secret => "a secret".into(),
            Type::Optional(inner) if matches!(**inner, Type::Int | Type::Any) => format!("an {self}"),
            other => format!("a {other}"),
        }
    }

    /// What run time needs of it.
    pub fn to_ir(&self) -> ir::Type {
        match self {
            Type::Bool => ir::Type::Bool,
            Type::Int => ir::Type::Int,
            Type::Float => ir::Type::Float,
            Type::String | Type::Bytes => ir::Type::Text,
            Type::Time => ir::Type::Time,
            Type::Duration => ir::Type::Duration,
            Type::Size => ir::Type::Size,
            Type::List(item) => ir::Type::List(Box::new(item.to_ir())),
            Type::Map(item) => ir::Type::Map(Box::new(item.to_ir())),
            Type::Record(record) => ir::Type::Record {
                name: record.name.clone(),
                fields: record.fields.iter().map(|(name, ty)| (name.clone(), ty.to_ir())).collect(),
            },
            Type::Optional(inner) => ir::Type::Optional(Box::new(inner.to_ir())),
            Type::Poison
            | Type::Any
            | Type::Null
            | Type::Regex
            | Type::Json
            | Type::Secret
            | Type::Function(..)
            | Type::Variable(_) => ir::Type::Any,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Poison | Type::Any => f.write_str("any"),
            Type::Null => f.write_str("null"),
            Type::Bool => f.write_str("bool"),
            Type::Int => f.write_str("int"),
            Type::Float => f.write_str("float"),
            Type::String => f.write_str("string"),
            Type::Bytes => f.write_str("bytes"),
            Type::Time => f.write_str("time"),
            Type::Duration => f.write_str("duration"),
            Type::Size => f.write_str("size"),
            Type::Regex => f.write_str("regex"),
            Type::Json => f.write_str("json"),
            Type::List(item) => write!(f, "list<{item}>"),
            Type::Map(item) => write!(f, "map<{item}>"),
            Type::Record(record) => match &record.name {
                Some(name) => f.write_str(name),
                None => {
                    let fields =
                        record.fields.iter().map(|(name, ty)| format!("{name}: {ty}")).collect::<Vec<_>>();
                    write!(f, "{{ {} }}", fields.join(", "))
                }
            },
            Type::Optional(inner) => write!(f, "{inner}?"),
            Type::Secret => f.write_str("secret<string>"),
            Type::Function(args, result) => {
                let args = args.iter().map(Type::to_string).collect::<Vec<_>>();
                write!(f, "fn({}) -> {result}", args.join(", "))
            }
            Type::Variable(name) => f.write_str(name),
        }
    }
}
