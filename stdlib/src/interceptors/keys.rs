//! Keys that native interceptors remember: 128 bits of hash instead of a text, so that memory is bounded whatever
//! the events hold.

use std::hash::{BuildHasher, RandomState};

use flow_plan::Batch;
use flow_plan::eval::{PreparedExpr, into_text};
use flow_plan::function::EvalError;
use flow_plan::interceptor::{LowerContext, LowerError};
use flow_plan::ir::Expr;
use flow_plan::value::Value;

use super::build::refuse;

/// A hash that nobody outside can aim at: its keys are random in each process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(u128);

/// Computes the key of each event.
pub struct KeyOf {
    by: PreparedExpr,
    hashers: [RandomState; 2],
}

impl KeyOf {
    pub fn new(setting: &str, by: &Expr, context: &LowerContext<'_>) -> Result<KeyOf, LowerError> {
        match PreparedExpr::new(by, context.functions) {
            Ok(by) => Ok(KeyOf { by, hashers: [RandomState::new(), RandomState::new()] }),
            Err(error) => refuse(setting, error.message),
        }
    }

    /// `None` for null.
    pub fn key(&self, batch: &Batch, row: u32, now_ms: i64) -> Result<Option<Key>, EvalError> {
        match self.by.eval(batch, row, now_ms)? {
            Value::Null => Ok(None),
            value => {
                let text = into_text(value);
                let [high, low] = &self.hashers;
                Ok(Some(Key((u128::from(high.hash_one(&*text)) << 64) | u128::from(low.hash_one(&*text)))))
            }
        }
    }
}
