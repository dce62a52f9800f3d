//! Running prepared statements for one event. Writes go to [`super::Changes`], not to the batch.

use std::borrow::Cow;

use super::EmittedEvent;
use super::node::{Extract, Node, PathStep, Statement};
use super::run::{Env, Run, Stop, check_items};
use super::text::{into_text, type_name};
use crate::batch::Slot;
use crate::ir::OnMiss;
use crate::value::Value;

/// Events that one event may emit in one step.
pub(crate) const EMITTED_MAX: usize = 100_000;

/// A step into a value, evaluated.
enum Key<'e> {
    Member(Cow<'e, str>),
    Item(i64),
}

impl<'e> Env<'e, '_> {
    /// Runs statements; `Some` when one of them returned.
    pub fn block(&mut self, statements: &'e [Statement]) -> Run<Option<Value<'e>>> {
        for statement in statements {
            if let Some(value) = self.statement(statement)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    fn statement(&mut self, statement: &'e Statement) -> Run<Option<Value<'e>>> {
        match statement {
            Statement::Set(local, value) => {
                let value = self.eval(value)?;
                *self.local_mut(*local)? = value;
            }
            Statement::SetHeader(slot, value) => {
                let value = self.eval(value)?;
                self.changes.event.set_header(*slot, text_or_null(value));
            }
            Statement::RemoveHeader(slot) => self.changes.event.set_header(*slot, None),
            Statement::SetBody(value) => self.set_body(value)?,
            Statement::SetTime(value) => self.set_time(value)?,
            Statement::Cond(cases, otherwise) => {
                for (condition, then) in cases {
                    if self.condition(condition)? {
                        return self.block(then);
                    }
                }
                return self.block(otherwise);
            }
            Statement::Extract(extract) => self.extract(extract)?,
            Statement::For { item, index, list, body, origin } => {
                return self.each(*item, *index, list, body).map_err(|stop| stop.at(*origin));
            }
            Statement::Drop => return Err(Stop::Drop),
            Statement::Pass => return Err(Stop::Pass),
            Statement::Fail(message, origin) => {
                let message = self.eval(message)?;
                return Err(self.fail(message).at(*origin));
            }
            Statement::Return(value) => {
                return Ok(Some(match value {
                    Some(value) => self.eval(value)?,
                    None => Value::Null,
                }));
            }
            Statement::Expr(value) => {
                self.eval(value)?;
            }
            Statement::SetPath { local, path, value, origin } => {
                self.set_path(*local, path, value).map_err(|stop| stop.at(*origin))?;
            }
            Statement::RemoveHeaders { slots, names, matching } => {
                self.remove_headers(slots, names, matching.as_ref())?;
            }
            Statement::Emit(event, origin) => self.emit(event).map_err(|stop| stop.at(*origin))?,
        }
        Ok(None)
    }

    #[inline(never)]
    fn set_body(&mut self, value: &'e Node) -> Run<()> {
        match self.eval(value)? {
            Value::Null => Err(Stop::fault("the body cannot be null")),
            value => {
                self.changes.event.body = Some(into_text(value));
                Ok(())
            }
        }
    }

    #[inline(never)]
    fn set_time(&mut self, value: &'e Node) -> Run<()> {
        self.changes.event.time = Some(as_time(self.eval(value)?)?);
        Ok(())
    }

    #[inline(never)]
    fn each(
        &mut self,
        item: u32,
        index: Option<u32>,
        list: &'e Node,
        body: &'e [Statement],
    ) -> Run<Option<Value<'e>>> {
        if let Node::Range(pair, _) = list {
            let range = self.range(&pair.0, &pair.1)?;
            return self.each_of(item, index, range.map(Value::Int), body);
        }
        match self.eval(list)? {
            Value::List(items) => self.each_of(item, index, items.into_iter(), body),
            other => Err(Stop::fault(format!("found {}, expected a list", type_name(&other)))),
        }
    }

    fn each_of(
        &mut self,
        item: u32,
        index: Option<u32>,
        values: impl Iterator<Item = Value<'e>>,
        body: &'e [Statement],
    ) -> Run<Option<Value<'e>>> {
        for (at, value) in values.enumerate() {
            self.charge(1)?;
            *self.local_mut(item)? = value;
            if let Some(index) = index {
                *self.local_mut(index)? = Value::Int(at as i64);
            }
            if let Some(value) = self.block(body)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    #[inline(never)]
    fn extract(&mut self, extract: &'e Extract) -> Run<()> {
        let subject = match self.eval(&extract.subject)? {
            Value::Text(text) => text,
            Value::Null => return self.missed(extract),
            other => {
                let message = format!("found {}, expected a string to search", type_name(&other));
                return Err(Stop::fault(message).at(extract.origin));
            }
        };
        let mut search = self.scratch.search(extract);
        let found = extract.pattern.find(&mut search, &subject);
        let mut result = if found { Ok(()) } else { self.missed(extract) };
        if result.is_ok() {
            for group in &extract.groups {
                let Some((start, end)) = search.group(group.number) else { continue };
                let text = match &subject {
                    Cow::Borrowed(subject) => Cow::Borrowed(&subject[start..end]),
                    Cow::Owned(subject) => Cow::Owned(subject[start..end].to_vec()),
                };
                let text = match &group.convert {
                    None => Ok(Some(text)),
                    Some(convert) => self.convert(group.value_local, text, convert),
                };
                match text {
                    Ok(text) => self.changes.event.set_header(group.slot, text),
                    Err(stop) => {
                        result = Err(stop.at(extract.origin));
                        break;
                    }
                }
            }
        }
        self.scratch.keep(extract, search);
        result
    }

    fn convert(&mut self, local: u32, text: Cow<'e, [u8]>, convert: &'e Node) -> Run<Option<Cow<'e, [u8]>>> {
        *self.local_mut(local)? = Value::Text(text);
        Ok(text_or_null(self.eval(convert)?))
    }

    fn missed(&self, extract: &Extract) -> Run<()> {
        Err(match extract.on_miss {
            OnMiss::Pass => Stop::Pass,
            OnMiss::Drop => Stop::Drop,
            OnMiss::Fail => extract.miss_fault(),
        })
    }

    #[inline(never)]
    fn remove_headers(
        &mut self,
        slots: &[Slot],
        names: &[String],
        matching: Option<&regex::bytes::Regex>,
    ) -> Run<()> {
        let event = self.event()?;
        for slot in slots {
            self.changes.event.set_header(*slot, None);
        }
        let none = event.columns.side.get(event.row).is_none_or(Vec::is_empty);
        if !none || self.changes.event.side.is_some() {
            self.changes.event.side_mut(event.columns, event.row).retain(|(name, _)| {
                !names.iter().any(|known| known == name.as_ref())
                    && !matching.is_some_and(|regex| regex.is_match(name.as_bytes()))
            });
        }
        Ok(())
    }

    #[inline(never)]
    fn set_path(&mut self, local: u32, path: &'e [PathStep], value: &'e Node) -> Run<()> {
        let mut keys = Vec::with_capacity(path.len());
        for step in path {
            keys.push(match step {
                PathStep::Member(name) => Key::Member(Cow::Borrowed(name.as_str())),
                PathStep::Index(index) => match self.eval(index)? {
                    Value::Int(at) => Key::Item(at),
                    Value::Text(name) => Key::Member(Cow::Owned(String::from_utf8_lossy(&name).into_owned())),
                    other => {
                        return Err(Stop::fault(format!(
                            "found {}, expected an int or a string as index",
                            type_name(&other)
                        )));
                    }
                },
            });
        }
        let value = self.eval(value)?;
        let mut place = self.local_mut(local)?;
        let last = keys.len();
        for (at, key) in keys.into_iter().enumerate() {
            place = match (place, key) {
                (Value::Map(entries), Key::Member(name)) => {
                    let known = entries.iter().position(|(known, _)| *known == name);
                    let index = match known {
                        Some(index) => index,
                        None if at + 1 == last => {
                            check_items(entries.len() + 1)?;
                            entries.push((name, Value::Null));
                            entries.len() - 1
                        }
                        None => {
                            return Err(Stop::fault(format!("there is no member `{name}` to store into")));
                        }
                    };
                    &mut entries[index].1
                }
                (Value::List(items), Key::Item(index)) => {
                    let count = items.len();
                    let item = usize::try_from(index).ok().and_then(|index| items.get_mut(index));
                    item.ok_or_else(|| {
                        Stop::fault(format!("index {index} is outside a list of {count} items"))
                    })?
                }
                (place, Key::Member(name)) => {
                    return Err(Stop::fault(format!("{} has no member `{name}`", type_name(place))));
                }
                (place, Key::Item(_)) => {
                    return Err(Stop::fault(format!("{} cannot be indexed by an int", type_name(place))));
                }
            };
        }
        *place = value;
        Ok(())
    }

    #[inline(never)]
    fn emit(&mut self, event: &'e Node) -> Run<()> {
        let here = self.event()?;
        let entries = match self.eval(event)? {
            Value::Map(entries) => entries,
            other => return Err(Stop::fault(format!("found {}, expected an event", type_name(&other)))),
        };
        if self.changes.emitted.len() >= EMITTED_MAX {
            return Err(Stop::fault(format!("one event emits more than {EMITTED_MAX} events")));
        }
        self.charge(16)?;
        let mut emitted: EmittedEvent<'e> = self.changes.event.clone();
        let slots = &self.unit.slots;
        let set = |emitted: &mut EmittedEvent<'e>, name: &str, value: Value<'e>| {
            let value = text_or_null(value);
            match slots.iter().position(|slot| slot == name) {
                Some(slot) => emitted.set_header(Slot(slot as u32), value),
                None => emitted.set_side(here.columns, here.row, name, value),
            }
        };
        for (key, value) in entries {
            match (key.as_ref(), value) {
                ("body" | "time" | "header", Value::Null) => {}
                ("body", value) => emitted.body = Some(into_text(value)),
                ("time", value) => emitted.time = Some(as_time(value)?),
                ("header", Value::Map(headers)) => {
                    for (name, value) in headers {
                        set(&mut emitted, &name, value);
                    }
                }
                ("header", other) => {
                    let found = type_name(&other);
                    return Err(Stop::fault(format!("`header` of an event is {found}, expected a map")));
                }
                (key, value) => match key.strip_prefix("header.") {
                    Some(name) => set(&mut emitted, name, value),
                    None => {
                        return Err(Stop::fault(format!(
                            "an event has no `{key}`, expected `body`, `time`, `header` or `header.name`"
                        )));
                    }
                },
            }
        }
        self.changes.emitted.push(emitted);
        Ok(())
    }
}

impl Extract {
    #[cold]
    pub fn miss_fault(&self) -> Stop {
        Stop::fault(format!("the text does not match `{}`", self.pattern.as_str())).at(self.origin)
    }
}

fn as_time(value: Value<'_>) -> Run<i64> {
    match value {
        Value::Time(ms) => Ok(ms),
        other => Err(Stop::fault(format!("found {}, expected a time", type_name(&other)))),
    }
}

fn text_or_null(value: Value<'_>) -> Option<Cow<'_, [u8]>> {
    if let Value::Null = value { None } else { Some(into_text(value)) }
}
