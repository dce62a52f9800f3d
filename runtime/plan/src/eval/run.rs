//! Evaluating prepared expressions for one event. Values borrow from the batch and from the prepared code; the
//! batch is not written here.

use std::borrow::Cow;

use super::compare::{arith, negate, too_long, too_many_items};
pub(crate) use super::event::Event;
use super::node::{Extract, Fallback, Node, Part, Unit};
use super::pattern::Search;
use super::text::{into_text, strftime, type_name, value_to_text};
use super::{Changes, LIST_ITEMS_MAX, STEPS_MAX, TEXT_BYTES_MAX, VALUE_DEPTH_MAX, decode};
use crate::function::EvalError;
use crate::plan::OriginId;
use crate::value::Value;

/// Why an evaluation ended before its end.
#[derive(Debug)]
pub(crate) enum Stop {
    Fault(Box<Fault>),
    Drop,
    Pass,
}

#[derive(Debug)]
pub(crate) struct Fault {
    pub message: String,
    /// The expression, when it is known.
    pub origin: Option<OriginId>,
}

impl From<EvalError> for Stop {
    fn from(error: EvalError) -> Stop {
        Stop::Fault(Box::new(Fault { message: error.message, origin: None }))
    }
}

impl Stop {
    #[cold]
    pub fn fault(message: impl Into<String>) -> Stop {
        EvalError::new(message).into()
    }

    /// Names the place unless a closer one is known.
    #[cold]
    pub fn at(mut self, origin: OriginId) -> Stop {
        if let Stop::Fault(fault) = &mut self {
            fault.origin.get_or_insert(origin);
        }
        self
    }

    pub fn into_error(self) -> EvalError {
        match self {
            Stop::Fault(fault) => EvalError { message: fault.message },
            Stop::Drop => EvalError::new("`drop` works only in an interceptor"),
            Stop::Pass => EvalError::new("`pass` works only in an interceptor"),
        }
    }
}

pub(crate) type Run<T> = Result<T, Stop>;

/// Memory that evaluations of one unit use again.
#[derive(Default)]
pub(crate) struct Scratch {
    times: Vec<TimeText>,
    searches: Vec<Option<Box<Search>>>,
}

#[derive(Clone, Default)]
struct TimeText {
    /// The time divided by the granule of the format.
    granule: Option<i64>,
    text: Vec<u8>,
}

impl Scratch {
    pub fn new(unit: &Unit) -> Scratch {
        let mut searches = Vec::new();
        searches.resize_with(unit.caches, || None);
        Scratch { times: vec![TimeText::default(); unit.caches], searches }
    }

    /// The memory of the searches of an extraction, to be given back with [`Scratch::keep`].
    pub fn search(&mut self, extract: &Extract) -> Box<Search> {
        let kept = self.searches.get_mut(extract.cache).and_then(Option::take);
        kept.unwrap_or_else(|| {
            let last = extract.groups.iter().map(|group| group.number).max().unwrap_or(0);
            extract.pattern.search(last + 1)
        })
    }

    pub fn keep(&mut self, extract: &Extract, search: Box<Search>) {
        if let Some(kept) = self.searches.get_mut(extract.cache) {
            *kept = Some(search);
        }
    }
}

static NULL: Value<'static> = Value::Null;

/// One evaluation: the code, the event, the frame.
pub(crate) struct Env<'e, 's> {
    pub unit: &'e Unit,
    pub event: Option<Event<'e>>,
    pub now_ms: Option<i64>,
    pub scratch: &'s mut Scratch,
    pub changes: Changes<'e>,
    pub locals: Vec<Value<'e>>,
    /// Where the current frame begins in `locals`.
    pub(super) base: usize,
    steps: u64,
    pub(super) depth: u32,
    /// What ended a lambda, while a function gives up.
    pub(super) pending: Option<Stop>,
}

impl<'e, 's> Env<'e, 's> {
    pub fn new(
        unit: &'e Unit,
        event: Option<Event<'e>>,
        now_ms: Option<i64>,
        scratch: &'s mut Scratch,
    ) -> Env<'e, 's> {
        Env {
            unit,
            event,
            now_ms,
            scratch,
            changes: Changes::default(),
            locals: Vec::new(),
            base: 0,
            steps: 0,
            depth: 0,
            pending: None,
        }
    }

    /// Starts over with a frame of nulls.
    pub fn frame(&mut self, locals: usize) {
        self.locals.clear();
        self.locals.resize(locals, Value::Null);
        self.base = 0;
        self.steps = 0;
        self.depth = 0;
        self.pending = None;
    }

    /// Counts work, so that no code runs for ever.
    pub fn charge(&mut self, steps: u64) -> Run<()> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > STEPS_MAX {
            Err(Stop::fault(format!("takes more than {STEPS_MAX} steps")))
        } else {
            Ok(())
        }
    }

    pub fn event(&self) -> Run<Event<'e>> {
        self.event.ok_or_else(|| Stop::fault("there is no event here"))
    }

    pub fn local(&self, local: u32) -> Run<&Value<'e>> {
        let value = self.locals.get(self.base + local as usize);
        value.ok_or_else(|| Stop::fault(format!("the frame has no local {local}")))
    }

    pub fn local_mut(&mut self, local: u32) -> Run<&mut Value<'e>> {
        let value = self.locals.get_mut(self.base + local as usize);
        value.ok_or_else(|| Stop::fault(format!("the frame has no local {local}")))
    }

    /// A local, or a member of one, without a copy; `None` for everything else and where reading it fails.
    pub fn place(&self, node: &'e Node) -> Option<&Value<'e>> {
        match node {
            Node::Local(local) => self.locals.get(self.base + *local as usize),
            Node::Member(object, name) => match self.place(object)? {
                Value::Map(entries) => {
                    let found = entries.iter().find(|(key, _)| key == name);
                    Some(found.map_or(&NULL, |(_, value)| value))
                }
                Value::Null => Some(&NULL),
                _ => None,
            },
            _ => None,
        }
    }

    /// A copy that counts as work what it copies.
    fn copy(&mut self, size: u64, copy: impl FnOnce(&Self) -> Value<'e>) -> Run<Value<'e>> {
        if size > 0 {
            self.charge(size)?;
        }
        Ok(copy(self))
    }

    pub fn eval(&mut self, node: &'e Node) -> Run<Value<'e>> {
        match node {
            Node::Const(value) => Ok(borrowed(value)),
            Node::Local(local) => self.eval_local(*local),
            Node::Header(slot) => self.eval_header(*slot),
            Node::Body => self.eval_body(),
            Node::Not(_)
            | Node::All(_)
            | Node::Any(_)
            | Node::Compare(..)
            | Node::Matches(..)
            | Node::MatchesDynamic(..)
            | Node::In(_)
            | Node::InTexts(..)
            | Node::InRange(_)
            | Node::Between(_) => Ok(Value::Bool(self.condition(node)?)),
            Node::Arith(first, rest) => self.eval_arith(first, rest),
            Node::Call(call, args, origin) => self.eval_call(*call, args, *origin),
            Node::CallUser(function, args, origin) => self.eval_call_user(*function, args, *origin),
            Node::Member(object, name) => self.eval_member(node, object, name),
            Node::Index(pair, origin) => self.eval_index(&pair.0, &pair.1).map_err(|stop| stop.at(*origin)),
            Node::Cond(cases, otherwise) => {
                for (condition, then) in cases {
                    if self.condition(condition)? {
                        return self.eval(then);
                    }
                }
                self.eval(otherwise)
            }
            Node::Coalesce(values) => self.eval_coalesce(values),
            Node::Else(value, fallback) => self.eval_else(value, fallback),
            Node::Template(parts) => self.eval_template(parts),
            other => self.eval_rare(other),
        }
    }

    #[inline(never)]
    fn eval_rare(&mut self, node: &'e Node) -> Run<Value<'e>> {
        match node {
            Node::Headers => {
                let event = self.event()?;
                let headers = event.headers(&self.changes.event, &self.unit.slots);
                let size = size_of(&headers)?;
                self.copy(size, |_| headers)
            }
            Node::Time => Ok(Value::Time(match self.changes.event.time {
                Some(time) => time,
                None => self.event()?.time(),
            })),
            Node::EventId => {
                let event = self.event()?;
                Ok(Value::string(event.columns.event_id(event.row as u32).to_string()))
            }
            Node::EventSource => Ok(Value::text(&self.event()?.columns.source)),
            Node::EventSize => match self.eval_body()? {
                Value::Text(body) => Ok(Value::Size(body.len() as u64)),
                _ => Ok(Value::Null),
            },
            Node::Now => match self.now_ms {
                Some(now_ms) => Ok(Value::Time(now_ms)),
                None => Err(Stop::fault("`now()` is not known before the flow runs")),
            },
            Node::Neg(value, origin) => {
                let value = self.eval(value)?;
                negate(value).map_err(|error| Stop::from(error).at(*origin))
            }
            Node::Lambda(index) => Ok(Value::Lambda(*index)),
            Node::List(nodes) => self.eval_list(nodes),
            Node::Map(nodes) => self.eval_map(nodes),
            Node::Range(pair, origin) => self.eval_range(&pair.0, &pair.1).map_err(|stop| stop.at(*origin)),
            Node::Decode(value, ty, origin) => {
                let value = self.eval(value)?;
                decode(value, ty).map_err(|error| Stop::from(error).at(*origin))
            }
            _ => Err(Stop::fault("this expression has no value")),
        }
    }

    fn eval_local(&mut self, local: u32) -> Run<Value<'e>> {
        let size = size_of(self.local(local)?)?;
        self.copy(size, |env| env.locals[env.base + local as usize].clone())
    }

    fn eval_header(&self, slot: crate::batch::Slot) -> Run<Value<'e>> {
        if !self.changes.event.headers.is_empty()
            && let Some(changed) = self.changes.event.header(slot)
        {
            return Ok(changed.clone().map_or(Value::Null, Value::Text));
        }
        Ok(match self.event()?.header(slot) {
            Some(text) => Value::Text(Cow::Borrowed(text)),
            None => Value::Null,
        })
    }

    fn eval_body(&self) -> Run<Value<'e>> {
        if let Some(body) = &self.changes.event.body {
            return Ok(Value::Text(body.clone()));
        }
        Ok(Value::Text(Cow::Borrowed(self.event()?.body())))
    }

    fn eval_arith(
        &mut self,
        first: &'e Node,
        rest: &'e [(crate::ir::ArithOp, Node, OriginId)],
    ) -> Run<Value<'e>> {
        let mut value = self.eval(first)?;
        for (op, right, origin) in rest {
            let right = self.eval(right)?;
            value = arith(*op, value, right).map_err(|error| Stop::from(error).at(*origin))?;
            if let Value::Text(Cow::Owned(text)) = &value {
                self.charge(text.len() as u64 / 64)?;
            }
        }
        Ok(value)
    }

    fn eval_member(&mut self, node: &'e Node, object: &'e Node, name: &'e str) -> Run<Value<'e>> {
        if let Some(value) = self.place(node) {
            let size = size_of(value)?;
            return self.copy(size, |env| env.place(node).unwrap_or(&NULL).clone());
        }
        match self.eval(object)? {
            Value::Map(entries) => {
                let found = entries.into_iter().find(|(key, _)| key == name);
                Ok(found.map_or(Value::Null, |(_, value)| value))
            }
            Value::Null => Ok(Value::Null),
            other => Err(Stop::fault(format!("{} has no member `{name}`", type_name(&other)))),
        }
    }

    #[inline(never)]
    fn eval_index(&mut self, object: &'e Node, index: &'e Node) -> Run<Value<'e>> {
        let index = self.eval(index)?;
        if let Some(object) = self.place(object) {
            let size = size_of(element(object, &index)?)?;
            let copy = element(object, &index).cloned()?;
            return self.copy(size, |_| copy);
        }
        let mut object = self.eval(object)?;
        Ok(match (&mut object, &index) {
            (Value::List(items), Value::Int(at)) if (0..items.len() as i64).contains(at) => {
                items.swap_remove(*at as usize)
            }
            _ => element(&object, &index).cloned()?,
        })
    }

    fn eval_coalesce(&mut self, values: &'e [Node]) -> Run<Value<'e>> {
        for value in values {
            let value = self.eval(value)?;
            if !matches!(value, Value::Null) {
                return Ok(value);
            }
        }
        Ok(Value::Null)
    }

    #[inline(never)]
    fn eval_else(&mut self, value: &'e Node, fallback: &'e Fallback) -> Run<Value<'e>> {
        let fault = match self.eval(value) {
            Ok(Value::Null) => None,
            Err(Stop::Fault(fault)) => Some(fault),
            decided => return decided,
        };
        match fallback {
            Fallback::Drop => Err(Stop::Drop),
            Fallback::Pass => Err(Stop::Pass),
            Fallback::Value(value) => self.eval(value),
            Fallback::Fail(None, origin) => Err(match fault {
                Some(fault) => Stop::Fault(fault).at(*origin),
                None => Stop::fault("the value is null").at(*origin),
            }),
            Fallback::Fail(Some(message), origin) => {
                let message = self.eval(message)?;
                Err(self.fail(message).at(*origin))
            }
        }
    }

    #[cold]
    pub fn fail(&self, message: Value<'e>) -> Stop {
        Stop::fault(String::from_utf8_lossy(&into_text(message)).into_owned())
    }

    #[inline(never)]
    fn eval_list(&mut self, nodes: &'e [Node]) -> Run<Value<'e>> {
        self.charge(nodes.len() as u64)?;
        let mut items = Vec::with_capacity(nodes.len());
        for node in nodes {
            items.push(self.eval(node)?);
        }
        Ok(Value::List(items))
    }

    #[inline(never)]
    fn eval_map(&mut self, nodes: &'e [(String, Node)]) -> Run<Value<'e>> {
        self.charge(nodes.len() as u64)?;
        let mut entries = Vec::with_capacity(nodes.len());
        for (key, node) in nodes {
            entries.push((Cow::Borrowed(key.as_str()), self.eval(node)?));
        }
        Ok(Value::Map(entries))
    }

    /// Both ends of a range, and how many integers it has.
    pub fn range(&mut self, low: &'e Node, high: &'e Node) -> Run<std::ops::RangeInclusive<i64>> {
        match (self.eval(low)?, self.eval(high)?) {
            (Value::Int(low), Value::Int(high)) => {
                let items = i128::from(high) - i128::from(low) + 1;
                if items >= LIST_ITEMS_MAX as i128 {
                    return Err(Stop::fault(format!(
                        "the range has {items} items, at most {} are allowed",
                        LIST_ITEMS_MAX - 1
                    )));
                }
                Ok(low..=high)
            }
            (low, high) => Err(Stop::fault(format!(
                "a range goes from an int to an int, found {} and {}",
                type_name(&low),
                type_name(&high)
            ))),
        }
    }

    #[inline(never)]
    fn eval_range(&mut self, low: &'e Node, high: &'e Node) -> Run<Value<'e>> {
        let range = self.range(low, high)?;
        let items = if range.is_empty() { 0 } else { range.end().abs_diff(*range.start()) + 1 };
        self.charge(items)?;
        Ok(Value::List(range.map(Value::Int).collect()))
    }

    #[inline(never)]
    fn eval_template(&mut self, parts: &'e [Part]) -> Run<Value<'e>> {
        let mut out = Vec::new();
        self.template(parts, &mut out)?;
        self.charge(out.len() as u64 / 64)?;
        Ok(Value::Text(Cow::Owned(out)))
    }

    pub fn template(&mut self, parts: &'e [Part], out: &mut Vec<u8>) -> Run<()> {
        let start = out.len();
        for part in parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Expr(node) => match self.place(node) {
                    Some(value) => value_to_text(value, out),
                    None => value_to_text(&self.eval(node)?, out),
                },
                Part::Time { value, format, granule_ms, cache } => match self.eval(value)? {
                    Value::Null => {}
                    Value::Time(ms) => self.time_text(ms, format, *granule_ms, *cache, out)?,
                    other => {
                        let found = type_name(&other);
                        return Err(Stop::fault(format!(
                            "the format `{format}` needs a time, found {found}"
                        )));
                    }
                },
            }
            if out.len() - start > TEXT_BYTES_MAX {
                return Err(too_long().into());
            }
        }
        Ok(())
    }

    fn time_text(
        &mut self,
        ms: i64,
        format: &str,
        granule_ms: i64,
        cache: usize,
        out: &mut Vec<u8>,
    ) -> Run<()> {
        let Some(cached) = self.scratch.times.get_mut(cache) else {
            return Ok(strftime(ms, format, out)?);
        };
        let granule = Some(ms.div_euclid(granule_ms));
        if cached.granule != granule {
            cached.granule = None;
            cached.text.clear();
            strftime(ms, format, &mut cached.text)?;
            cached.granule = granule;
        }
        out.extend_from_slice(&cached.text);
        Ok(())
    }
}

fn borrowed<'e>(value: &'e Value<'static>) -> Value<'e> {
    match value {
        Value::Text(text) => Value::Text(Cow::Borrowed(text)),
        other => other.clone(),
    }
}

/// What copying a value costs, in steps. Values that nest too deeply are refused: every way to build one passes
/// here again and again.
pub(crate) fn size_of(value: &Value<'_>) -> Run<u64> {
    measure(value, VALUE_DEPTH_MAX)
        .ok_or_else(|| Stop::fault(format!("the value is nested more than {VALUE_DEPTH_MAX} deep")))
}

fn measure(value: &Value<'_>, depth: u32) -> Option<u64> {
    let mut size = 1;
    match value {
        Value::Text(Cow::Owned(text)) => return Some(text.len() as u64 / 64),
        Value::List(items) => {
            let depth = depth.checked_sub(1)?;
            for item in items {
                size += 1 + measure(item, depth)?;
            }
        }
        Value::Map(entries) => {
            let depth = depth.checked_sub(1)?;
            for (_, item) in entries {
                size += 2 + measure(item, depth)?;
            }
        }
        _ => return Some(0),
    }
    Some(size)
}

/// An element of a list or map.
fn element<'v, 'e>(object: &'v Value<'e>, index: &Value<'_>) -> Run<&'v Value<'e>> {
    match (object, index) {
        (Value::List(items), Value::Int(at)) => {
            let found = usize::try_from(*at).ok().and_then(|at| items.get(at));
            found.ok_or_else(|| Stop::fault(format!("index {at} is outside a list of {} items", items.len())))
        }
        (Value::Map(entries), Value::Text(name)) => {
            let found = entries.iter().find(|(key, _)| key.as_bytes() == name.as_ref());
            Ok(found.map_or(&NULL, |(_, value)| value))
        }
        (Value::Null, _) => Ok(&NULL),
        (object, index) => {
            Err(Stop::fault(format!("{} cannot be indexed by {}", type_name(object), type_name(index))))
        }
    }
}

/// Refuses lists and maps beyond their bound.
pub(crate) fn check_items(items: usize) -> Run<()> {
    if items > LIST_ITEMS_MAX { Err(too_many_items().into()) } else { Ok(()) }
}
