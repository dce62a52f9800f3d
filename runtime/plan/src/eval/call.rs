//! Calls: built-in functions, the user's functions, lambdas.

use super::node::Node;
use super::run::{Env, Run, Stop};
use crate::function::{CallContext, EvalError, FunctionImpl};
use crate::plan::OriginId;
use crate::value::Value;

use super::CALL_DEPTH_MAX;

impl<'e> Env<'e, '_> {
    pub(super) fn eval_call(
        &mut self,
        call: FunctionImpl,
        nodes: &'e [Node],
        origin: OriginId,
    ) -> Run<Value<'e>> {
        let mut args = Vec::with_capacity(nodes.len());
        for node in nodes {
            args.push(self.eval(node)?);
        }
        match call(self, args) {
            Ok(value) => {
                self.pending = None;
                Ok(value)
            }
            Err(error) => {
                let stop = self.pending.take().unwrap_or_else(|| error.into());
                Err(stop.at(origin))
            }
        }
    }

    #[inline(never)]
    pub(super) fn eval_call_user(
        &mut self,
        index: u32,
        args: &'e [Node],
        origin: OriginId,
    ) -> Run<Value<'e>> {
        let unit = self.unit;
        let Some(Some(function)) = unit.functions.get(index as usize) else {
            return Err(Stop::fault(format!("there is no function number {index}")).at(origin));
        };
        self.charge(1)?;
        if args.len() != function.params {
            let message =
                format!("`{}` takes {} arguments, found {}", function.name, function.params, args.len());
            return Err(Stop::fault(message).at(origin));
        }
        let start = self.locals.len();
        for arg in args {
            match self.eval(arg) {
                Ok(value) => self.locals.push(value),
                Err(stop) => {
                    self.locals.truncate(start);
                    return Err(stop);
                }
            }
        }
        self.locals.resize(start + function.locals.max(function.params), Value::Null);
        let base = std::mem::replace(&mut self.base, start);
        let result = self.deeper(function.depth, |env| env.block(&function.body));
        self.base = base;
        self.locals.truncate(start);
        Ok(result.map_err(|stop| stop.at(origin))?.unwrap_or(Value::Null))
    }

    /// Runs something that nests `depth` deep inside what runs already.
    fn deeper<T>(&mut self, depth: u32, run: impl FnOnce(&mut Self) -> Run<T>) -> Run<T> {
        if self.depth + depth > CALL_DEPTH_MAX {
            return Err(Stop::fault("functions call each other too deeply"));
        }
        self.depth += depth.max(1);
        let result = run(self);
        self.depth -= depth.max(1);
        result
    }
}

impl CallContext for Env<'_, '_> {
    fn call_lambda<'a>(&mut self, lambda: &Value<'a>, argument: Value<'a>) -> Result<Value<'a>, EvalError> {
        let unit = self.unit;
        let lambda = match lambda {
            Value::Lambda(index) => unit.lambdas.get(*index as usize),
            _ => None,
        };
        let Some(lambda) = lambda else { return Err(EvalError::new("expected a function")) };
        // The argument and the frame live differently long; what crosses between them is copied.
        let result = self.charge(1).and_then(|()| {
            *self.local_mut(lambda.param)? = argument.into_owned();
            self.deeper(lambda.depth, |env| env.eval(&lambda.body))
        });
        match result {
            Ok(value) => Ok(value.into_owned()),
            Err(stop) => {
                let message = match &stop {
                    Stop::Fault(fault) => fault.message.clone(),
                    Stop::Drop | Stop::Pass => "the event has left".to_string(),
                };
                self.pending = Some(stop);
                Err(EvalError { message })
            }
        }
    }

    fn now_ms(&self) -> i64 {
        self.now_ms.unwrap_or(0)
    }
}
