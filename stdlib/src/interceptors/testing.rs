//! Runs an interceptor in tests as a flow does: settings decoded by its factory, a batch through the executor.

use flow_plan::batch::{Batch, Columns};
use flow_plan::exec::{Executor, Outputs};
use flow_plan::function::Functions;
use flow_plan::interceptor::Interceptors;
use flow_plan::ir::{End, Program, Step, StepOp};
use flow_plan::plan::{self, Origin, OriginId, Output, Plan, Target};
use serde_json::{Value, json};

pub use crate::functions::testing::NOW_MS;

/// The headers that have slots; others ride along.
const SLOTS: [&str; 4] = ["host", "id", "level", "seen"];

/// An interceptor with the events it is to see.
pub struct Run {
    executor: Result<Executor, String>,
    columns: Columns,
    next_id: u64,
}

impl Run {
    /// `settings` as the checker resolves the defaults, with some of them changed.
    pub fn of(kind: &str, mut settings: Value, change: Value) -> Run {
        let change = change.as_object().cloned().unwrap_or_default();
        let settings = settings.as_object_mut().map(std::mem::take).unwrap_or_default();
        let settings = settings.into_iter().chain(change).collect();
        let op = StepOp::Kind { kind: kind.into(), settings };
        let step = Step { name: "step".into(), op, origin: OriginId(0), errors: None };
        let program = plan::Program {
            name: "test".into(),
            body: Program { steps: vec![step], end: End::Output(0) },
            outputs: vec![Output { to: Target::Channel(0), optional: false, origin: OriginId(0) }],
            errors: Vec::new(),
        };
        let mut functions = Functions::new();
        crate::functions::add_all(&mut functions);
        let mut interceptors = Interceptors::new();
        super::add_all(&mut interceptors);
        let executor = Executor::new(&empty_plan(), &program, &functions, &interceptors);
        let executor = executor.map_err(|error| match error.error.setting {
            Some(setting) => format!("{setting}: {}", error.error.message),
            None => error.error.message,
        });
        Run { executor, columns: Columns::default(), next_id: 0 }
    }

    /// One more event, at time 0.
    pub fn event(mut self, body: &str) -> Run {
        self.columns.push(body.as_bytes(), 0).expect("room");
        self
    }

    /// A header of the last event.
    pub fn with(mut self, name: &str, value: &str) -> Run {
        let row = self.columns.bodies.len() as u32 - 1;
        let slots = SLOTS.map(String::from);
        self.columns.set_header_named(row, name, value.as_bytes(), &slots).expect("room");
        self
    }

    /// What comes of the events, in order, then the failed ones.
    pub fn all(mut self) -> Vec<String> {
        let columns = std::mem::take(&mut self.columns);
        self.run(columns, NOW_MS)
    }

    /// What comes of a batch of bodies at a time; can be called again.
    pub fn batch(&mut self, now_ms: i64, bodies: &[&str]) -> Vec<String> {
        let first_id = self.next_id;
        self.next_id += bodies.len() as u64;
        self.batch_from(first_id, now_ms, bodies)
    }

    /// As [`Run::batch`], with the first event's number.
    pub fn batch_from(&mut self, first_id: u64, now_ms: i64, bodies: &[&str]) -> Vec<String> {
        self.batch_of("", first_id, now_ms, bodies)
    }

    /// As [`Run::batch_from`], with the name of the source.
    pub fn batch_of(&mut self, source: &str, first_id: u64, now_ms: i64, bodies: &[&str]) -> Vec<String> {
        let mut columns = Columns { source: source.into(), first_id, ..Columns::default() };
        for body in bodies {
            columns.push(body.as_bytes(), 0).expect("room");
        }
        self.run(columns, now_ms)
    }

    /// Why the settings are refused, after the setting at fault.
    pub fn error(self) -> String {
        match self.executor {
            Ok(_) => panic!("the settings were taken"),
            Err(message) => message,
        }
    }

    fn run(&mut self, columns: Columns, now_ms: i64) -> Vec<String> {
        let executor = self.executor.as_mut().unwrap_or_else(|error| panic!("{error}"));
        let mut outputs = Outputs::new();
        executor.run(Batch::new(columns), now_ms, &mut outputs);
        let mut shown = Vec::new();
        for batch in outputs.batches.iter().flatten() {
            shown.extend(batch.rows.iter().map(|&row| show(batch, row, now_ms)));
        }
        for dead in &outputs.dead {
            for (&row, reason) in dead.batch.rows.iter().zip(&dead.reasons) {
                let body = String::from_utf8_lossy(dead.batch.body(row));
                shown.push(format!("{body} failed: {}", reason.message));
            }
        }
        shown
    }
}

/// The body, the time, and the headers in order of their names.
fn show(batch: &Batch, row: u32, now_ms: i64) -> String {
    let slots = SLOTS.map(String::from);
    let time_ms = batch.time_ms(row);
    let time = if time_ms == now_ms { "now".into() } else { time_ms.to_string() };
    let mut headers: Vec<String> = batch
        .headers(row, &slots)
        .map(|(name, value)| format!(" {name}={}", String::from_utf8_lossy(value)))
        .collect();
    headers.sort();
    format!("{} @{time}{}", String::from_utf8_lossy(batch.body(row)), headers.concat())
}

fn empty_plan() -> Plan {
    Plan {
        version: plan::PLAN_VERSION,
        file: "test.flow".into(),
        slots: SLOTS.map(String::from).to_vec(),
        functions: Vec::new(),
        secrets: Vec::new(),
        services: Vec::new(),
        elections: Vec::new(),
        agents: Vec::new(),
        runtime: Default::default(),
        claims: Vec::new(),
        origins: vec![Origin { file: "test.flow".into(), line: 1, column: 1, start: 0, end: 0 }],
    }
}

/// A header as an expression in a setting.
pub fn header(name: &str) -> Value {
    let slot = SLOTS.iter().position(|slot| *slot == name).expect("a slot");
    json!({"header": slot})
}

/// A regex setting.
pub fn regex(pattern: &str) -> Value {
    json!({"pattern": pattern, "flags": ""})
}
