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

/// A value without parts, as machine code holds it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Plain<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a [u8]),
    /// Milliseconds since 1970 UTC.
    Time(i64),
    /// Nanoseconds.
    Duration(i64),
    /// Bytes.
    Size(u64),
}

/// What the plain form of a function answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PlainAnswer<'a> {
    /// A text is a piece of an argument or of the function itself.
    Value(Plain<'a>),
    /// The text was written into the buffer.
    Written,
    /// The function fails for these arguments.
    Fails,
    /// Only the function itself can tell.
    Unsure,
}

/// Calls the plain form of a function with as many arguments as the call has. The buffer is empty before.
pub type PlainImpl = for<'a> fn(&[Plain<'a>], &mut Vec<u8>) -> PlainAnswer<'a>;

/// A plain form with what it has worked out from constant arguments (the steps of a time format).
pub type PreparedPlain = Arc<dyn for<'a> Fn(&[Plain<'a>], &mut Vec<u8>) -> PlainAnswer<'a> + Send + Sync>;

/// Makes a plain form for a call of which some arguments are constants; `None`: there is none for these.
pub type PreparePlain = fn(&[Option<Plain<'_>>]) -> Option<PreparedPlain>;

/// The form of a function for machine code: no allocation, no evaluator, the same answers where it answers.
#[derive(Clone)]
pub enum PlainForm {
    Direct(PlainImpl),
    Prepared(PreparedPlain),
}

impl PlainForm {
    #[inline]
    pub fn call<'a>(&self, args: &[Plain<'a>], buffer: &mut Vec<u8>) -> PlainAnswer<'a> {
        match self {
            PlainForm::Direct(call) => call(args, buffer),
            PlainForm::Prepared(call) => call(args, buffer),
        }
    }
}

#[derive(Clone, Copy)]
enum PlainMaker {
    Direct(PlainImpl),
    Prepared(PreparePlain),
}

/// All built-in functions by name, with what expressions of one plan refer to by number.
#[derive(Clone, Default)]
pub struct Functions {
    by_name: BTreeMap<&'static str, FunctionImpl>,
    varying: BTreeSet<&'static str>,
    plain: BTreeMap<&'static str, PlainMaker>,
    json_readers: BTreeSet<&'static str>,
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

    /// Adds the plain form of a function that is there.
    pub fn add_plain(&mut self, name: &'static str, call: PlainImpl) {
        assert!(self.by_name.contains_key(name), "function `{name}` is not registered");
        self.plain.insert(name, PlainMaker::Direct(call));
    }

    /// Adds the plain form of a function that is there, for calls with certain constants.
    pub fn add_prepared(&mut self, name: &'static str, prepare: PreparePlain) {
        assert!(self.by_name.contains_key(name), "function `{name}` is not registered");
        self.plain.insert(name, PlainMaker::Prepared(prepare));
    }

    /// The plain form of a call, given those of its arguments that are constants.
    pub fn plain(&self, name: &str, constants: &[Option<Plain<'_>>]) -> Option<PlainForm> {
        match self.plain.get(name)? {
            PlainMaker::Direct(call) => Some(PlainForm::Direct(*call)),
            PlainMaker::Prepared(prepare) => prepare(constants).map(PlainForm::Prepared),
        }
    }

    /// Says that a function of one text is [`crate::eval::value_from_json`] and fails for anything but text: what it
    /// gives need not be made when only parts of it are used.
    pub fn add_json_reader(&mut self, name: &'static str) {
        assert!(self.by_name.contains_key(name), "function `{name}` is not registered");
        self.json_readers.insert(name);
    }

    /// See [`Functions::add_json_reader`].
    pub fn reads_json(&self, name: &str) -> bool {
        self.json_readers.contains(name)
    }

    /// Functions with a plain form.
    pub fn plain_names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.plain.keys().copied()
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
            plain: self.plain.clone(),
            json_readers: self.json_readers.clone(),
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
