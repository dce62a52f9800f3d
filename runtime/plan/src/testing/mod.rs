//! Random programs over hostile values, for tests that hold two ways to run a program against each other, here and
//! in crates that run programs by other means.

pub mod code;
pub mod programs;

use std::borrow::Cow;

use crate::eval::value_from_json;
use crate::function::{EvalError, Functions};
use crate::ir::{Const, Expr};
use crate::plan::OriginId;
use crate::value::Value;

/// Where all random code stands.
pub const AT: OriginId = OriginId(1);

/// The functions that random code calls.
pub fn functions() -> Functions {
    let mut functions = Functions::new();
    functions.add("twice", |_, args| match args.first() {
        Some(Value::Int(value)) => Ok(Value::Int(value.wrapping_mul(2))),
        _ => Err(EvalError::new("not an int")),
    });
    functions.add("map", |context, args| {
        let mut args = args.into_iter();
        let (Some(Value::List(items)), Some(lambda)) = (args.next(), args.next()) else {
            return Err(EvalError::new("`map` takes a list and a function"));
        };
        let items = items.into_iter().map(|item| context.call_lambda(&lambda, item));
        Ok(Value::List(items.collect::<Result<_, _>>()?))
    });
    functions.add("first", |_, args| Ok(args.into_iter().next().unwrap_or(Value::Null)));
    functions.add("json", |_, args| match args.into_iter().next() {
        Some(Value::Text(Cow::Borrowed(text))) => value_from_json(text),
        Some(Value::Text(Cow::Owned(text))) => value_from_json(&text).map(Value::into_owned),
        _ => Err(EvalError::new("not a text")),
    });
    functions.add_json_reader("json");
    functions.add("clock", |context, _| Ok(Value::Time(context.now_ms())));
    functions
}

/// A text.
pub fn text(value: &str) -> Expr {
    Expr::Const(Const::Text(value.into()))
}

/// A number.
pub fn int(value: i64) -> Expr {
    Expr::Const(Const::Int(value))
}
