//! Binding the type variables of a library function to the types of its arguments.

use std::collections::BTreeMap;

use super::Type;

/// What each type variable stands for so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bindings {
    by_name: BTreeMap<String, Type>,
}

impl Bindings {
    /// The type with its variables replaced; unbound ones become `json`.
    pub fn apply(&self, ty: &Type) -> Type {
        match ty {
            Type::Variable(name) => self.by_name.get(name).cloned().unwrap_or(Type::Json),
            Type::List(item) => Type::list(self.apply(item)),
            Type::Map(item) => Type::map(self.apply(item)),
            Type::Optional(inner) => self.apply(inner).optional(),
            Type::Function(args, result) => {
                Type::Function(args.iter().map(|arg| self.apply(arg)).collect(), Box::new(self.apply(result)))
            }
            other => other.clone(),
        }
    }
}

/// Whether an argument of type `arg` fits the parameter type, binding variables on the way. `dynamic` says
/// whether a `json` argument may stand for a type it is not declared as.
pub(crate) fn unify(param: &Type, arg: &Type, bindings: &mut Bindings, dynamic: bool) -> bool {
    match (param, arg) {
        (_, Type::Poison) | (Type::Poison, _) => true,
        (_, Type::Secret) => matches!(param, Type::Secret),
        (Type::Any, _) => !arg.may_be_null() || dynamic,
        (Type::Variable(name), _) => match bindings.by_name.get(name).cloned() {
            None => {
                bindings.by_name.insert(name.clone(), arg.clone());
                true
            }
            Some(bound) if arg.fits(&bound) => true,
            Some(bound) => match bound.join(arg) {
                Some(joined) => {
                    bindings.by_name.insert(name.clone(), joined);
                    true
                }
                None => false,
            },
        },
        (Type::Optional(_), Type::Null) => true,
        (Type::Optional(param), Type::Optional(arg)) => match param.as_ref() {
            Type::Any => true,
            param => unify(param, arg, bindings, dynamic),
        },
        (Type::Optional(param), arg) => match (param.as_ref(), arg) {
            (Type::Any, _) => true,
            (param, arg) => unify(param, arg, bindings, dynamic),
        },
        (_, Type::Optional(_)) => false,
        (Type::Json, Type::Json) => true,
        (_, Type::Json) => dynamic,
        (Type::List(param), Type::List(arg)) => match param.as_ref() {
            // an element may be anything, also null
            Type::Optional(any) if **any == Type::Any => true,
            param => unify(param, arg, bindings, true),
        },
        (Type::Map(param), Type::Map(arg)) => unify(param, arg, bindings, true),
        (Type::Map(param), Type::Record(record)) => {
            record.fields.iter().all(|(_, ty)| unify(param, ty, bindings, true))
        }
        (Type::Function(params, result), Type::Function(args, arg_result)) => {
            params.len() == args.len()
                && params.iter().zip(args).all(|(param, arg)| unify(param, arg, bindings, true))
                && unify(result, arg_result, bindings, true)
        }
        (param, arg) => arg.fits(param),
    }
}
