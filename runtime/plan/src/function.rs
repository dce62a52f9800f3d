//! The table of built-in functions: a name and what it does. Signatures, docs and examples are declared in
//! `stdlib/*.flow`; the implementations live in the standard library and are handed in as a value.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::ir;
use crate::plan::Plan;
use crate::value::Value;

/// Why an expression failed for one event; the message is shown with the event in `x.errors`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvalError {
    pub message: String,
}

impl EvalError {
    pub fn new(message: impl Into<String>) -> EvalError {
        EvalError { message: message.into() }
    }
}

/// What a function may ask of the evaluator.
pub trait CallContext {
    /// Calls a lambda that was given as argument.
    fn call_lambda<'a>(&mut self, lambda: &Value<'a>, argument: Value<'a>) -> Result<Value<'a>, EvalError>;
    /// The time that `now()` gives: milliseconds since 1970 UTC, the same for a whole batch.
    fn now_ms(&self) -> i64;
}

/// The implementation of one function. The checker has proved count and types of the arguments (a `json`
/// argument may hold anything); an argument of another shape is an [`EvalError`], never a panic.
pub type FunctionImpl = for<'a> fn(&mut dyn CallContext, Vec<Value<'a>>) -> Result<Value<'a>, EvalError>;

/// All built-in functions by name, with what expressions of one plan refer to by number.
#[derive(Clone, Default)]
pub struct Functions {
    by_name: BTreeMap<&'static str, FunctionImpl>,
    varying: BTreeSet<&'static str>,
    user: Arc<[ir::Function]>,
    slots: Arc<[String]>,
}

impl Functions {
    pub fn new() -> Functions {
        Functions::default()
    }

    /// Adds a function that gives the same answer for the same arguments (and the same `now`): the answer for one
    /// event may be used for another one of the batch.
    pub fn add(&mut self, name: &'static str, call: FunctionImpl) {
        let before = self.by_name.insert(name, call);
        assert!(before.is_none(), "function `{name}` is registered twice");
    }

    /// Adds a function whose answers differ although its arguments do not.
    pub fn add_varying(&mut self, name: &'static str, call: FunctionImpl) {
        self.add(name, call);
        self.varying.insert(name);
    }

    /// The answers of this function may differ although its arguments do not.
    pub fn varies(&self, name: &str) -> bool {
        self.varying.contains(name)
    }

    /// The same functions with the user's functions and the header names of a plan, so that expressions in
    /// settings can call and name them.
    pub fn for_plan(&self, plan: &Plan) -> Functions {
        Functions {
            by_name: self.by_name.clone(),
            varying: self.varying.clone(),
            user: plan.functions.clone().into(),
            slots: plan.slots.clone().into(),
        }
    }

    /// The user's functions by number.
    pub fn user(&self) -> &[ir::Function] {
        &self.user
    }

    /// Header names by slot.
    pub fn slots(&self) -> Arc<[String]> {
        self.slots.clone()
    }

    pub fn get(&self, name: &str) -> Option<FunctionImpl> {
        self.by_name.get(name).copied()
    }

    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.by_name.keys().copied()
    }
}
