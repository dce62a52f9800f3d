//! VRL as a library: one event at a time, as Vector's `remap` and `filter` run it.

use vrl::compiler::runtime::Runtime;
use vrl::compiler::{Program, TargetValueRef, TimeZone};
use vrl::prelude::Bytes;
use vrl::value::{KeyString, ObjectMap, Secrets, Value};

use crate::answers::Answer;
use crate::measure::Contender;
use crate::patterns::ROUTES;
use crate::rows::Data;

/// The functions that the programs use, and no other: `vrl::stdlib::all` would bring a hundred libraries into the
/// program.
fn functions() -> Vec<Box<dyn vrl::compiler::Function>> {
    vec![
        Box::new(vrl::stdlib::Match),
        Box::new(vrl::stdlib::ParseJson),
        Box::new(vrl::stdlib::ParseRegex),
        Box::new(vrl::stdlib::ParseTimestamp),
        Box::new(vrl::stdlib::String),
        Box::new(vrl::stdlib::ToInt),
    ]
}

/// # Panics
///
/// When the text does not compile.
pub fn compile(text: &str) -> Program {
    match vrl::compiler::compile(text, &functions()) {
        Ok(compiled) => compiled.program,
        Err(errors) => panic!("{text}\n{errors:?}"),
    }
}

/// What the program's result says of its row. A program that ends with an error drops the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// `true` keeps it.
    Keep,
    /// The number of the place it goes to.
    Route,
    /// Nothing: the row is kept.
    Nothing,
}

/// A program with the fields that are answers.
pub struct Remap<'t> {
    pub text: &'t str,
    pub says: Says,
    pub fields: &'t [&'t str],
    /// The field with the time.
    pub time: Option<&'t str>,
}

impl Remap<'_> {
    pub fn contender<'d>(&self, data: &'d Data) -> Box<dyn Contender + 'd> {
        Box::new(Vrl {
            program: compile(self.text),
            says: self.says,
            fields: self.fields.iter().map(|&name| name.into()).collect(),
            time: self.time.map(KeyString::from),
            runtime: Runtime::default(),
            zone: TimeZone::default(),
            metadata: Value::Object(ObjectMap::new()),
            secrets: Secrets::default(),

            events: data.batches.iter().map(|_| Vec::new()).collect(),
            kept: data.batches.iter().map(|_| Kept::default()).collect(),
            data,
        })
    }
}

#[derive(Default)]
struct Kept {
    rows: Vec<u32>,
    routed: [Vec<u32>; ROUTES],
}

struct Vrl<'d> {
    program: Program,
    says: Says,
    fields: Vec<KeyString>,
    time: Option<KeyString>,
    runtime: Runtime,
    zone: TimeZone,
    /// No program writes to these two.
    metadata: Value,
    secrets: Secrets,
    data: &'d Data,
    /// By batch and row: the event before and after.
    events: Vec<Vec<Value>>,
    kept: Vec<Kept>,
}

impl Contender for Vrl<'_> {
    fn prepare(&mut self) {
        for (index, rows) in self.data.batches.iter().enumerate() {
            let text = Bytes::copy_from_slice(rows.text.as_bytes());
            let event = |&(start, end): &(u32, u32)| {
                let message = Value::Bytes(text.slice(start as usize..end as usize));
                Value::Object([(KeyString::from("message"), message)].into_iter().collect())
            };
            self.events[index].clear();
            self.events[index].extend(rows.spans.iter().map(event));
            self.kept[index].rows.clear();
            self.kept[index].routed.iter_mut().for_each(Vec::clear);
        }
    }

    fn run(&mut self) {
        for (events, kept) in self.events.iter_mut().zip(&mut self.kept) {
            for (row, event) in (0..).zip(events) {
                let mut target =
                    TargetValueRef { value: event, metadata: &mut self.metadata, secrets: &mut self.secrets };
                let result = self.runtime.resolve(&mut target, &self.program, &self.zone);
                self.runtime.clear();
                let Ok(result) = result else { continue };
                match (self.says, result) {
                    (Says::Keep, Value::Boolean(true)) | (Says::Nothing, _) => kept.rows.push(row),
                    (Says::Route, Value::Integer(route)) => kept.routed[route as usize].push(row),
                    (Says::Keep, Value::Boolean(false)) => {}
                    (says, result) => panic!("the program is to say {says:?} and said {result}"),
                }
            }
        }
    }

    fn answers(&self) -> Vec<Answer> {
        let mut answers = Vec::new();
        for (batch, (kept, events)) in self.kept.iter().zip(&self.events).enumerate() {
            let plain = kept.rows.iter().map(|row| (*row, 0));
            let routed = kept.routed.iter().enumerate();
            let routed = routed.flat_map(|(route, rows)| rows.iter().map(move |row| (*row, route)));
            let mut rows: Vec<(u32, usize)> = plain.chain(routed).collect();
            rows.sort_unstable();
            answers.extend(
                rows.into_iter().map(|(row, route)| self.answer(batch, row, route, &events[row as usize])),
            );
        }
        answers
    }
}

impl Vrl<'_> {
    fn answer(&self, batch: usize, row: u32, route: usize, event: &Value) -> Answer {
        let object = event.as_object().expect("an event is an object");
        let text = |name: &KeyString| match object.get(name) {
            Some(Value::Bytes(text)) => text.to_vec(),
            Some(Value::String(text)) => text.as_bytes().to_vec(),
            Some(Value::Integer(number)) => number.to_string().into_bytes(),
            other => panic!("the field `{name}` is {other:?}"),
        };
        let time_ms = self.time.as_ref().map(|name| match object.get(name) {
            Some(Value::Timestamp(time)) => time.timestamp_millis(),
            other => panic!("the field `{name}` is {other:?}"),
        });
        Answer { batch, row, route, time_ms, fields: self.fields.iter().map(text).collect() }
    }
}
