//! Expressions that are true or false, evaluated without making values where the operands are at hand.

use super::compare::{between, compare, values_equal};
use super::node::Node;
use super::prepare::build_regex;
use super::run::{Env, Run, Stop};
use super::text::type_name;
use crate::settings::RegexSetting;
use crate::value::Value;

impl<'e> Env<'e, '_> {
    /// The value of an expression that must be true or false.
    pub fn condition(&mut self, node: &'e Node) -> Run<bool> {
        match node {
            Node::Not(value) => Ok(!self.condition(value)?),
            Node::All(nodes) => {
                for node in nodes {
                    if !self.condition(node)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Node::Any(nodes) => {
                for node in nodes {
                    if self.condition(node)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Node::Compare(op, pair) => {
                if let Some(left) = self.place(&pair.0)
                    && let Some(right) = self.constant_or_place(&pair.1)
                {
                    return Ok(compare(*op, left, right)?);
                }
                let left = self.eval(&pair.0)?;
                if let Some(right) = self.constant_or_place(&pair.1) {
                    return Ok(compare(*op, &left, right)?);
                }
                let right = self.eval(&pair.1)?;
                Ok(compare(*op, &left, &right)?)
            }
            Node::Between(three) => {
                if let (Some(value), Some(low), Some(high)) = (
                    self.constant_or_place(&three.0),
                    self.constant_or_place(&three.1),
                    self.constant_or_place(&three.2),
                ) {
                    return Ok(between(value, low, high));
                }
                let value = self.eval(&three.0)?;
                let low = self.eval(&three.1)?;
                let high = self.eval(&three.2)?;
                Ok(between(&value, &low, &high))
            }
            Node::Matches(value, regex) => {
                if let Some(value) = self.place(value) {
                    return matches(value, |text| regex.is_match(text));
                }
                let value = self.eval(value)?;
                matches(&value, |text| regex.is_match(text))
            }
            Node::InTexts(value, texts) => {
                let value = self.eval(value)?;
                let Value::Text(text) = &value else { return Ok(false) };
                if texts.len() <= 8 {
                    return Ok(texts.iter().any(|known| known.as_slice() == text.as_ref()));
                }
                Ok(texts.binary_search_by(|known| known.as_slice().cmp(text)).is_ok())
            }
            Node::InRange(three) => {
                let value = self.eval(&three.0)?;
                let low = self.eval(&three.1)?;
                let high = self.eval(&three.2)?;
                match (&low, &high) {
                    (Value::Int(_), Value::Int(_)) => {
                        // Only whole numbers are in a range of integers.
                        let whole = !matches!(value, Value::Float(value) if value.fract() != 0.0);
                        Ok(whole && between(&value, &low, &high))
                    }
                    _ => Err(Stop::fault("a range goes from an int to an int")),
                }
            }
            Node::In(pair) => self.eval_in(&pair.0, &pair.1),
            Node::MatchesDynamic(pair, origin) => {
                self.matches_dynamic(&pair.0, &pair.1).map_err(|stop| stop.at(*origin))
            }
            other => match self.eval(other)? {
                Value::Bool(value) => Ok(value),
                other => Err(Stop::fault(format!("found {}, expected a bool", type_name(&other)))),
            },
        }
    }

    fn constant_or_place(&self, node: &'e Node) -> Option<&Value<'e>> {
        if let Node::Const(value) = node { Some(value) } else { self.place(node) }
    }

    #[inline(never)]
    fn eval_in(&mut self, value: &'e Node, list: &'e Node) -> Run<bool> {
        let value = self.eval(value)?;
        if let Some(list) = self.place(list) {
            return contains(list, &value);
        }
        let list = self.eval(list)?;
        contains(&list, &value)
    }

    #[inline(never)]
    fn matches_dynamic(&mut self, value: &'e Node, regex: &'e Node) -> Run<bool> {
        let value = self.eval(value)?;
        match self.eval(regex)? {
            Value::Regex(regex) => matches(&value, |text| regex.is_match(text)),
            Value::Text(pattern) => {
                let pattern = String::from_utf8_lossy(&pattern).into_owned();
                let regex = build_regex(&RegexSetting { pattern, flags: String::new() })?;
                self.charge(1_000)?;
                matches(&value, |text| regex.is_match(text))
            }
            other => Err(Stop::fault(format!("found {}, expected a regex", type_name(&other)))),
        }
    }
}

fn matches(value: &Value<'_>, is_match: impl FnOnce(&[u8]) -> bool) -> Run<bool> {
    match value {
        Value::Text(text) => Ok(is_match(text)),
        Value::Null => Ok(false),
        other => Err(Stop::fault(format!("found {}, expected a string to match", type_name(other)))),
    }
}

fn contains(list: &Value<'_>, value: &Value<'_>) -> Run<bool> {
    match list {
        Value::List(items) => Ok(items.iter().any(|item| values_equal(item, value))),
        Value::Map(entries) => match value {
            Value::Text(text) => Ok(entries.iter().any(|(key, _)| key.as_bytes() == text.as_ref())),
            _ => Ok(false),
        },
        Value::Null => Ok(false),
        other => Err(Stop::fault(format!("found {}, expected a list or a map", type_name(other)))),
    }
}
