//! Random programs and batches, and what came out in a form that can be compared.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{code, text};
use crate::batch::{ARENA_PADDING, Batch, Columns, Slot};
use crate::exec::Outputs;
use crate::ir::{self, Arm, Code, Expr, Program, Route, StepOp, Stmt};
use crate::plan::{self, Origin, OriginId, Output, Plan, Target};
use crate::settings::RegexSetting;

/// Body, time, and headers by name.
pub type Event = (Vec<u8>, i64, Vec<(String, Vec<u8>)>);

/// Body, time, and the headers `host` and `x`.
pub type Input = (Vec<u8>, i64, Option<Vec<u8>>);

/// What comes out, without order between batches: by output the events, and the dead letters with their reason.
pub type Found = (Vec<Vec<Event>>, Vec<(Event, String, String)>);

fn event(batch: &Batch, row: u32) -> Event {
    let plan = plan();
    let mut headers: Vec<(String, Vec<u8>)> =
        batch.headers(row, &plan.slots).map(|(name, value)| (name.to_string(), value.to_vec())).collect();
    headers.sort();
    (batch.body(row).to_vec(), batch.time_ms(row), headers)
}

fn check_invariants(batch: &Batch) {
    let columns = &batch.columns;
    let rows = columns.bodies.len();
    assert!(crate::exec::consistent(batch));
    assert!(batch.rows.is_sorted_by(|left, right| left < right));
    assert_eq!(columns.arena.padded().len(), columns.arena.len() + ARENA_PADDING);
    assert!(columns.arena.padded()[columns.arena.len()..].iter().all(|byte| *byte == 0));
    let ranges = columns.bodies.iter().chain(columns.headers.iter().flatten());
    for range in ranges.filter(|range| !range.is_absent()) {
        assert!(range.range().end <= columns.arena.len(), "{range:?} of {rows} rows");
    }
}

/// What a run gave, without order between batches.
pub fn result(outputs: &Outputs) -> Found {
    let mut batches = Vec::new();
    for output in &outputs.batches {
        output.iter().for_each(check_invariants);
        let mut events: Vec<Event> =
            output.iter().flat_map(|batch| batch.rows.iter().map(move |&row| event(batch, row))).collect();
        events.sort();
        batches.push(events);
    }
    let mut dead = Vec::new();
    for letter in &outputs.dead {
        check_invariants(&letter.batch);
        assert_eq!(letter.batch.len(), letter.reasons.len());
        for (&row, reason) in letter.batch.rows.iter().zip(&letter.reasons) {
            dead.push((event(&letter.batch, row), letter.step.to_string(), reason.message.clone()));
        }
    }
    dead.sort();
    (batches, dead)
}

/// Hostile events.
pub fn input() -> impl Strategy<Value = Vec<Input>> {
    let bytes = prop_oneof![
        Just(b"".to_vec()),
        Just(b"a".to_vec()),
        Just(b"abc12".to_vec()),
        Just(b"b x".to_vec()),
        Just(br#"{"a":1,"b":"x"}"#.to_vec()),
        Just(br#" {"b":"\n\u00e9", "a": 2.5, "a":"2026-11-23T10:00:00Z"}"#.to_vec()),
        Just("é\u{10ffff}".as_bytes().to_vec()),
        vec(any::<u8>(), 0..6),
    ];
    let time = prop_oneof![Just(0), Just(i64::MIN), Just(i64::MAX), Just(1_790_000_000_000)];
    vec((bytes.clone(), time, proptest::option::of(bytes)), 0..6)
}

/// Events as a batch.
pub fn batch_of(input: &[Input]) -> Batch {
    let slots = plan().slots;
    let mut columns = Columns { source: "web".into(), first_id: 5, ..Columns::default() };
    for (body, time, header) in input {
        let row = columns.push(body, *time).unwrap();
        if let Some(header) = header {
            columns.set_header_named(row, "host", header, &slots).unwrap();
            columns.set_header_named(row, "x", header, &slots).unwrap();
        }
    }
    Batch::new(columns)
}

fn steps() -> impl Strategy<Value = Vec<ir::Step>> {
    let code = prop_oneof![1 => code::code().boxed(), 4 => code::useful_code().boxed()];
    vec((code, proptest::option::of(Just(0))), 0..4).prop_map(|codes| {
        codes
            .into_iter()
            .enumerate()
            .map(|(index, (code, errors))| step(&format!("s{index}"), errors, code.locals, code.body))
            .collect()
    })
}

fn compare(left: Expr, right: &str) -> Expr {
    Expr::Compare { op: ir::CompareOp::Le, left: Box::new(left), right: Box::new(text(right)) }
}

/// A program of random steps, branches and routes.
pub fn some_program() -> impl Strategy<Value = plan::Program> {
    let leaf = prop_oneof![9 => (0..3u32).prop_map(ir::End::Output), 1 => Just(ir::End::Discard)];
    let end =
        leaf.prop_recursive(2, 6, 3, |inner| {
            let branch = (steps(), inner).prop_map(|(steps, end)| Program { steps, end }).boxed();
            let condition = prop_oneof![
                Just(Expr::Const(ir::Const::Bool(true))),
                Just(body_matches("a")),
                code::expr(),
                Just(compare(Expr::Local(0), "a")),
                Just(compare(Expr::Header(slot("host")), "abc12")),
            ];
            let subject = prop_oneof![code::expr(), Just(Expr::Header(slot("host")))];
            let arm = (proptest::option::weighted(0.8, condition), branch.clone())
                .prop_map(|(when, then)| Arm { when, then, origin: OriginId(0) });
            prop_oneof![
                vec(branch, 0..3).prop_map(ir::End::Copy),
                (any::<bool>(), proptest::option::of(subject), vec(arm, 0..3)).prop_map(
                    |(all, subject, arms)| {
                        ir::End::Route(Route {
                            all,
                            subject,
                            locals: code::LOCALS,
                            arms,
                            errors: None,
                            origin: OriginId(8),
                            name: "route".into(),
                        })
                    }
                ),
            ]
        });
    (steps(), end, steps()).prop_map(|(steps, end, errors)| {
        let errors = Program { steps: errors, end: ir::End::Output(2) };
        program(steps, end, &[false, true, false], vec![errors])
    })
}

/// Header names of the plan.
pub const SLOTS: [&str; 6] = ["host", "status", "error", "error_step", "error_at", "kind"];

/// A plan without agents.
pub fn plan() -> Plan {
    let origin = |line| Origin { file: "web.flow".into(), line, column: 3, start: 0, end: 0 };
    Plan {
        version: plan::PLAN_VERSION,
        file: "web.flow".into(),
        slots: SLOTS.map(String::from).to_vec(),
        functions: Vec::new(),
        secrets: Vec::new(),
        services: Vec::new(),
        elections: Vec::new(),
        agents: Vec::new(),
        runtime: Default::default(),
        claims: Vec::new(),
        origins: (1..10).map(origin).collect(),
    }
}

/// A header of the plan.
pub fn slot(name: &str) -> Slot {
    Slot(SLOTS.iter().position(|slot| *slot == name).unwrap() as u32)
}

/// A step with code.
pub fn step(name: &str, errors: Option<u32>, locals: u32, body: Vec<Stmt>) -> ir::Step {
    ir::Step { name: name.into(), op: StepOp::Code(Code { locals, body }), origin: OriginId(1), errors }
}

/// A program whose outputs are optional or not.
pub fn program(
    steps: Vec<ir::Step>,
    end: ir::End,
    optional: &[bool],
    errors: Vec<ir::Program>,
) -> plan::Program {
    let outputs = optional.iter().enumerate().map(|(index, &optional)| Output {
        to: Target::Channel(index as u32),
        optional,
        origin: OriginId(0),
    });
    plan::Program { name: "web".into(), body: ir::Program { steps, end }, outputs: outputs.collect(), errors }
}

/// Whether the body matches.
pub fn body_matches(pattern: &str) -> Expr {
    Expr::Matches { value: Box::new(Expr::Body), regex: regex(pattern) }
}

/// A regex without flags.
pub fn regex(pattern: &str) -> RegexSetting {
    RegexSetting { pattern: pattern.into(), flags: String::new() }
}
