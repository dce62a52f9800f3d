//! The IR made ready to run: functions resolved, regexes compiled once, chains flattened, nesting bounded. It
//! must not know batches.

use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};

use super::DEPTH_MAX;
use super::node::{
    Block, Extract, Fallback, Group, Lambda, Node, Part, PathStep, Statement, Unit, UserFunction,
};
use super::pattern::Pattern;
use crate::batch::Slot;
use crate::function::{EvalError, Functions};
use crate::ir;
use crate::plan::OriginId;
use crate::settings::RegexSetting;
use crate::value::Value;

/// Bytes that a compiled regex may take.
pub const REGEX_BYTES_MAX: usize = 10 << 20;

/// Locals of one frame.
const LOCALS_MAX: u32 = 65_536;

/// Builds a regex as the whole project does: on bytes, Unicode, flags out of `imsxu` (`u` is always on).
pub fn build_regex(setting: &RegexSetting) -> Result<Regex, EvalError> {
    let mut builder = RegexBuilder::new(&setting.pattern);
    for flag in setting.flags.chars() {
        match flag {
            'i' => builder.case_insensitive(true),
            'm' => builder.multi_line(true),
            's' => builder.dot_matches_new_line(true),
            'x' => builder.ignore_whitespace(true),
            'u' => builder.unicode(true),
            other => return Err(unknown_flag(other)),
        };
    }
    builder.size_limit(REGEX_BYTES_MAX);
    builder.build().map_err(|error| EvalError::new(format!("the regex cannot be used: {error}")))
}

pub(super) fn unknown_flag(flag: char) -> EvalError {
    EvalError::new(format!("unknown regex flag `{flag}`, expected some of `imsxu`"))
}

/// Prepares IR into one [`Unit`].
pub(crate) struct Preparer<'a> {
    builtins: &'a Functions,
    user: &'a [ir::Function],
    unit: Unit,
    /// User functions that were mentioned and are not prepared yet.
    wanted: Vec<u32>,
    /// The deepest nesting seen since it was last set to 0.
    deepest: u32,
}

type Prepared<T> = Result<T, EvalError>;

impl<'a> Preparer<'a> {
    pub fn new(builtins: &'a Functions, user: &'a [ir::Function], slots: Arc<[String]>) -> Preparer<'a> {
        let functions = user.iter().map(|_| None).collect();
        let unit = Unit { slots, functions, ..Unit::default() };
        Preparer { builtins, user, unit, wanted: Vec::new(), deepest: 0 }
    }

    /// Call when every expression and block is prepared.
    pub fn finish(mut self) -> Prepared<Unit> {
        while let Some(index) = self.wanted.pop() {
            let at = index as usize;
            if self.unit.functions[at].is_some() {
                continue;
            }
            let function = &self.user[at];
            self.deepest = 0;
            check_locals(function.locals)?;
            if function.params > function.locals {
                return Err(EvalError::new(format!(
                    "function `{}` has more parameters than locals",
                    function.name
                )));
            }
            let body = self.block(&function.body, 0)?;
            self.unit.functions[at] = Some(UserFunction {
                name: function.name.clone(),
                params: function.params as usize,
                locals: function.locals as usize,
                body,
                depth: self.deepest,
            });
        }
        Ok(self.unit)
    }

    pub fn root(&mut self, expr: &ir::Expr) -> Prepared<Node> {
        self.expr(expr, 0)
    }

    pub fn code(&mut self, code: &ir::Code) -> Prepared<Block> {
        check_locals(code.locals)?;
        Ok(Block { locals: code.locals as usize, body: self.block(&code.body, 0)? })
    }

    pub fn parts(&mut self, parts: &[ir::TemplatePart], depth: u32) -> Prepared<Vec<Part>> {
        let mut prepared = Vec::with_capacity(parts.len());
        for part in parts {
            prepared.push(match part {
                ir::TemplatePart::Text(text) => Part::Text(text.clone().into_bytes()),
                ir::TemplatePart::Expr { value, format: None } => Part::Expr(self.expr(value, depth)?),
                ir::TemplatePart::Expr { value, format: Some(format) } => {
                    self.unit.caches += 1;
                    Part::Time {
                        value: self.expr(value, depth)?,
                        granule_ms: granule_ms(format),
                        format: format.clone(),
                        cache: self.unit.caches - 1,
                    }
                }
            });
        }
        Ok(prepared)
    }

    fn deeper(&mut self, depth: u32) -> Prepared<u32> {
        self.deepest = self.deepest.max(depth + 1);
        if depth >= DEPTH_MAX {
            return Err(EvalError::new(format!("the code is nested more than {DEPTH_MAX} deep")));
        }
        Ok(depth + 1)
    }

    fn boxed(&mut self, expr: &ir::Expr, depth: u32) -> Prepared<Box<Node>> {
        Ok(Box::new(self.expr(expr, depth)?))
    }

    fn pair(&mut self, left: &ir::Expr, right: &ir::Expr, depth: u32) -> Prepared<Box<(Node, Node)>> {
        Ok(Box::new((self.expr(left, depth)?, self.expr(right, depth)?)))
    }

    fn list(&mut self, exprs: &[ir::Expr], depth: u32) -> Prepared<Vec<Node>> {
        exprs.iter().map(|expr| self.expr(expr, depth)).collect()
    }

    /// `a and b and c`, however it is nested, as one list in order.
    fn flat<'e>(
        &mut self,
        expr: &'e ir::Expr,
        split: impl Fn(&'e ir::Expr) -> Option<(&'e ir::Expr, &'e ir::Expr)>,
        depth: u32,
    ) -> Prepared<Vec<Node>> {
        let mut waiting = vec![expr];
        let mut nodes = Vec::new();
        while let Some(expr) = waiting.pop() {
            match split(expr) {
                Some((left, right)) => waiting.extend([right, left]),
                None => nodes.push(self.expr(expr, depth)?),
            }
        }
        Ok(nodes)
    }

    fn expr(&mut self, expr: &ir::Expr, depth: u32) -> Prepared<Node> {
        let depth = self.deeper(depth)?;
        Ok(match expr {
            ir::Expr::Const(value) => Node::Const(constant(value)?),
            ir::Expr::Local(local) => Node::Local(*local),
            ir::Expr::Header(slot) => Node::Header(*slot),
            ir::Expr::Headers => Node::Headers,
            ir::Expr::Body => Node::Body,
            ir::Expr::Time => Node::Time,
            ir::Expr::EventId => Node::EventId,
            ir::Expr::EventSource => Node::EventSource,
            ir::Expr::EventSize => Node::EventSize,
            ir::Expr::Now => Node::Now,
            ir::Expr::Not(value) => Node::Not(self.boxed(value, depth)?),
            ir::Expr::Neg { value, origin } => Node::Neg(self.boxed(value, depth)?, *origin),
            ir::Expr::And(..) => Node::All(self.flat(
                expr,
                |expr| if let ir::Expr::And(left, right) = expr { Some((left, right)) } else { None },
                depth,
            )?),
            ir::Expr::Or(..) => Node::Any(self.flat(
                expr,
                |expr| if let ir::Expr::Or(left, right) = expr { Some((left, right)) } else { None },
                depth,
            )?),
            ir::Expr::Coalesce(..) => Node::Coalesce(self.flat(
                expr,
                |expr| if let ir::Expr::Coalesce(left, right) = expr { Some((left, right)) } else { None },
                depth,
            )?),
            ir::Expr::Compare { op, left, right } => Node::Compare(*op, self.pair(left, right, depth)?),
            ir::Expr::Arith { .. } => self.arith(expr, depth)?,
            ir::Expr::Matches { value, regex } => {
                Node::Matches(self.boxed(value, depth)?, Pattern::new(regex)?)
            }
            ir::Expr::MatchesDynamic { value, regex, origin } => match known_regex(regex) {
                Some(regex) => Node::Matches(self.boxed(value, depth)?, regex),
                None => Node::MatchesDynamic(self.pair(value, regex, depth)?, *origin),
            },
            ir::Expr::In { value, list } => self.contains(value, list, depth)?,
            ir::Expr::Between { value, low, high } => Node::Between(Box::new((
                self.expr(value, depth)?,
                self.expr(low, depth)?,
                self.expr(high, depth)?,
            ))),
            ir::Expr::If { .. } => self.cond(expr, depth)?,
            ir::Expr::Call { function, args, origin } => self.call(function, args, *origin, depth)?,
            ir::Expr::CallUser { function, args, origin } => {
                if *function as usize >= self.user.len() {
                    return Err(EvalError::new(format!("there is no function number {function}")));
                }
                self.wanted.push(*function);
                Node::CallUser(*function, self.list(args, depth)?, *origin)
            }
            ir::Expr::Lambda { .. } => {
                return Err(EvalError::new("a lambda can only be an argument of a function"));
            }
            ir::Expr::List(items) => Node::List(self.list(items, depth)?),
            ir::Expr::Map(entries) => {
                let mut nodes: Vec<(String, Node)> = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    let node = self.expr(value, depth)?;
                    match nodes.iter_mut().find(|(known, _)| known == key) {
                        Some((_, known)) => *known = node,
                        None => nodes.push((key.clone(), node)),
                    }
                }
                Node::Map(nodes)
            }
            ir::Expr::Member { object, name } => Node::Member(self.boxed(object, depth)?, name.clone()),
            ir::Expr::Index { object, index, origin } => {
                Node::Index(self.pair(object, index, depth)?, *origin)
            }
            ir::Expr::Range { low, high, origin } => Node::Range(self.pair(low, high, depth)?, *origin),
            ir::Expr::Template(parts) => Node::Template(self.parts(parts, depth)?),
            ir::Expr::Decode { value, ty, origin } => {
                Node::Decode(self.boxed(value, depth)?, ty.clone(), *origin)
            }
            ir::Expr::Else { value, fallback } => {
                let value = self.boxed(value, depth)?;
                let fallback = match fallback {
                    ir::Fallback::Drop => Fallback::Drop,
                    ir::Fallback::Pass => Fallback::Pass,
                    ir::Fallback::Fail { message: None, origin } => Fallback::Fail(None, *origin),
                    ir::Fallback::Fail { message: Some(message), origin } => {
                        Fallback::Fail(Some(self.boxed(message, depth)?), *origin)
                    }
                    ir::Fallback::Value(value) => Fallback::Value(self.boxed(value, depth)?),
                };
                Node::Else(value, fallback)
            }
        })
    }

    /// `a + b - c` leans to the left as deep as it is long: one list instead.
    fn arith(&mut self, expr: &ir::Expr, depth: u32) -> Prepared<Node> {
        let mut first = expr;
        let mut rest = Vec::new();
        while let ir::Expr::Arith { op, left, right, origin } = first {
            rest.push((*op, self.expr(right, depth)?, *origin));
            first = left;
        }
        rest.reverse();
        Ok(Node::Arith(self.boxed(first, depth)?, rest))
    }

    /// `if … else if …` as one list.
    fn cond(&mut self, expr: &ir::Expr, depth: u32) -> Prepared<Node> {
        let mut cases = Vec::new();
        let mut last = expr;
        while let ir::Expr::If { condition, then, otherwise } = last {
            cases.push((self.expr(condition, depth)?, self.expr(then, depth)?));
            last = otherwise;
        }
        Ok(Node::Cond(cases, self.boxed(last, depth)?))
    }

    fn contains(&mut self, value: &ir::Expr, list: &ir::Expr, depth: u32) -> Prepared<Node> {
        match list {
            ir::Expr::Range { low, high, .. } => {
                let low_and_high = self.pair(low, high, depth)?;
                Ok(Node::InRange(Box::new((self.expr(value, depth)?, low_and_high.0, low_and_high.1))))
            }
            ir::Expr::List(items) if !items.is_empty() => {
                let mut texts = Vec::new();
                for item in items {
                    match item {
                        ir::Expr::Const(ir::Const::Text(text)) => texts.push(text.clone().into_bytes()),
                        _ => return Ok(Node::In(self.pair(value, list, depth)?)),
                    }
                }
                texts.sort();
                texts.dedup();
                Ok(Node::InTexts(self.boxed(value, depth)?, texts))
            }
            _ => Ok(Node::In(self.pair(value, list, depth)?)),
        }
    }

    fn call(&mut self, name: &str, args: &[ir::Expr], origin: OriginId, depth: u32) -> Prepared<Node> {
        let call = self
            .builtins
            .get(name)
            .ok_or_else(|| EvalError::new(format!("there is no function `{name}`")))?;
        let mut nodes = Vec::with_capacity(args.len());
        for arg in args {
            nodes.push(match arg {
                ir::Expr::Lambda { param, body } => {
                    // Calling it counts its own depth again, on top of all that runs then.
                    let outside = std::mem::replace(&mut self.deepest, depth);
                    let body = self.expr(body, depth)?;
                    let depth = std::mem::replace(&mut self.deepest, outside) - depth;
                    self.unit.lambdas.push(Lambda { param: *param, body, depth });
                    Node::Lambda(self.unit.lambdas.len() as u32 - 1)
                }
                other => self.expr(other, depth)?,
            });
        }
        Ok(Node::Call(call, nodes, origin))
    }

    fn block(&mut self, statements: &[ir::Stmt], depth: u32) -> Prepared<Vec<Statement>> {
        statements.iter().map(|statement| self.statement(statement, depth)).collect()
    }

    fn statement(&mut self, statement: &ir::Stmt, depth: u32) -> Prepared<Statement> {
        let depth = self.deeper(depth)?;
        Ok(match statement {
            ir::Stmt::Set { local, value } => Statement::Set(*local, self.expr(value, depth)?),
            ir::Stmt::SetHeader { slot, value } => {
                check_slot(*slot)?;
                Statement::SetHeader(*slot, self.expr(value, depth)?)
            }
            ir::Stmt::RemoveHeader { slot } => Statement::RemoveHeader(*slot),
            ir::Stmt::RemoveHeaders { names, matching } => {
                let matching = matching.as_ref().map(build_regex).transpose()?;
                let hit = |name: &String| {
                    names.contains(name)
                        || matching.as_ref().is_some_and(|regex| regex.is_match(name.as_bytes()))
                };
                let slots = self.unit.slots.iter().enumerate();
                let slots = slots.filter(|(_, name)| hit(name)).map(|(slot, _)| Slot(slot as u32)).collect();
                Statement::RemoveHeaders { slots, names: names.clone(), matching }
            }
            ir::Stmt::SetBody { value } => Statement::SetBody(self.expr(value, depth)?),
            ir::Stmt::SetTime { value } => Statement::SetTime(self.expr(value, depth)?),
            ir::Stmt::SetPath { local, path, value, origin } => {
                let mut steps = Vec::with_capacity(path.len());
                for step in path {
                    steps.push(match step {
                        ir::PathStep::Member(name) => PathStep::Member(name.clone()),
                        ir::PathStep::Index(index) => PathStep::Index(self.expr(index, depth)?),
                    });
                }
                let value = self.expr(value, depth)?;
                Statement::SetPath { local: *local, path: steps, value, origin: *origin }
            }
            ir::Stmt::If { condition, then, otherwise } => {
                let mut cases = vec![(self.expr(condition, depth)?, self.block(then, depth)?)];
                let mut last = otherwise;
                while let [ir::Stmt::If { condition, then, otherwise }] = last.as_slice() {
                    cases.push((self.expr(condition, depth)?, self.block(then, depth)?));
                    last = otherwise;
                }
                Statement::Cond(cases, self.block(last, depth)?)
            }
            ir::Stmt::For { item, index, list, body, origin } => Statement::For {
                item: *item,
                index: *index,
                list: self.expr(list, depth)?,
                body: self.block(body, depth)?,
                origin: *origin,
            },
            ir::Stmt::Extract { subject, regex, groups, on_miss, origin } => {
                let pattern = Pattern::new(regex)?;
                let mut prepared = Vec::with_capacity(groups.len());
                for group in groups {
                    let number = pattern.group(&group.group).ok_or_else(|| {
                        EvalError::new(format!(
                            "the regex `{}` has no group `{}`",
                            pattern.as_str(),
                            group.group
                        ))
                    })?;
                    check_slot(group.slot)?;
                    let convert =
                        group.convert.as_ref().map(|convert| self.expr(convert, depth)).transpose()?;
                    prepared.push(Group {
                        number,
                        slot: group.slot,
                        convert,
                        value_local: group.value_local,
                    });
                }
                self.unit.caches += 1;
                Statement::Extract(Box::new(Extract {
                    cache: self.unit.caches - 1,
                    subject: self.expr(subject, depth)?,
                    pattern,
                    groups: prepared,
                    on_miss: *on_miss,
                    origin: *origin,
                }))
            }
            ir::Stmt::Drop => Statement::Drop,
            ir::Stmt::Pass => Statement::Pass,
            ir::Stmt::Fail { message, origin } => Statement::Fail(self.expr(message, depth)?, *origin),
            ir::Stmt::Emit { event, origin } => Statement::Emit(self.expr(event, depth)?, *origin),
            ir::Stmt::Return { value } => {
                Statement::Return(value.as_ref().map(|value| self.expr(value, depth)).transpose()?)
            }
            ir::Stmt::Expr { value } => Statement::Expr(self.expr(value, depth)?),
        })
    }
}

/// The regex of a parameter whose value is known. One that cannot be built fails where it is used.
fn known_regex(expr: &ir::Expr) -> Option<Pattern> {
    match expr {
        ir::Expr::Const(ir::Const::Regex(regex)) => Pattern::new(regex).ok(),
        ir::Expr::Const(ir::Const::Text(pattern)) => {
            Pattern::new(&RegexSetting { pattern: pattern.clone(), flags: String::new() }).ok()
        }
        _ => None,
    }
}

/// Header slots of a plan.
const SLOTS_MAX: u32 = 65_536;

fn check_slot(slot: Slot) -> Prepared<()> {
    if slot.0 < SLOTS_MAX {
        Ok(())
    } else {
        Err(EvalError::new(format!("header slot {} is too large", slot.0)))
    }
}

fn check_locals(locals: u32) -> Prepared<()> {
    if locals <= LOCALS_MAX { Ok(()) } else { Err(EvalError::new(format!("{locals} locals are too many"))) }
}

fn constant(value: &ir::Const) -> Prepared<Value<'static>> {
    Ok(match value {
        ir::Const::Null => Value::Null,
        ir::Const::Bool(value) => Value::Bool(*value),
        ir::Const::Int(value) => Value::Int(*value),
        ir::Const::Float(value) => Value::Float(*value),
        ir::Const::Text(text) => Value::string(text.clone()),
        ir::Const::Time(ms) => Value::Time(*ms),
        ir::Const::Duration(ns) => Value::Duration(*ns),
        ir::Const::Size(bytes) => Value::Size(*bytes),
        ir::Const::Regex(regex) => Value::Regex(Arc::new(build_regex(regex)?)),
    })
}

/// How long the text of a strftime format stays the same: a second, unless it shows fractions of one.
fn granule_ms(format: &str) -> i64 {
    let mut bytes = format.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            continue;
        }
        // Flags, widths and colons stand between the sign and the letter.
        let letter = bytes.find(|byte| !matches!(byte, b'-' | b'_' | b'0'..=b'9' | b'^' | b'#' | b':'));
        if matches!(letter, Some(b'f' | b'N' | b'.' | b'Q' | b'c' | b'+' | b'L')) {
            return 1;
        }
    }
    1_000
}
