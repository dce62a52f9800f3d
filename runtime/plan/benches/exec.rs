//! Nanoseconds per event of the steps of a usual chain over combined access logs, beside the regex crate alone.
//! Run with `cargo bench -p flow-plan`; divide by the batch size, or read the item throughput.

use std::borrow::Cow;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use flow_plan::batch::Columns;
use flow_plan::exec::{Executor, Outputs};
use flow_plan::function::{EvalError, Functions};
use flow_plan::interceptor::Interceptors;
use flow_plan::ir::{self, Arm, Code, CompareOp, Const, End, Expr, ExtractGroup, OnMiss, StepOp, Stmt};
use flow_plan::plan::{self, OriginId, Output, Plan, Target};
use flow_plan::settings::RegexSetting;
use flow_plan::{Batch, Slot, Value};

fn main() {
    divan::main();
}

const ROWS: usize = 1_000;
const COMBINED: &str = r#"^(?P<host>\S+) (?P<ident>\S+) (?P<user>\S+) \[(?P<time>[^\]]+)\] "(?P<method>\S+) (?P<path>\S+) (?P<protocol>[^"]*)" (?P<status>\d+) (?P<size>\S+) "(?P<referrer>[^"]*)" "(?P<agent>[^"]*)"$"#;
const GROUPS: [&str; 10] =
    ["host", "ident", "user", "time", "method", "path", "protocol", "status", "size", "referrer"];
const HEALTH: &str = "GET /health|kube-probe";

fn lines() -> Vec<String> {
    (0..ROWS)
        .map(|n| {
            let status = [200, 200, 200, 304, 404, 500][n % 6];
            let path = if n % 4 == 0 { "/health".to_string() } else { format!("/catalogue/items/{n}?page={}", n % 17) };
            format!(
                "203.0.113.{} - frank [23/Nov/2026:10:{:02}:{:02} +0000] \"GET {path} HTTP/1.1\" {status} {} \
                 \"https://shop.example/start\" \"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\"",
                n % 250,
                n / 60 % 60,
                n % 60,
                1_000 + n,
            )
        })
        .collect()
}

fn batch() -> Batch {
    let mut columns = Columns::default();
    for line in lines() {
        columns.push(line.as_bytes(), 0).expect("room");
    }
    Batch::new(columns)
}

fn int<'a>(
    _: &mut dyn flow_plan::function::CallContext,
    args: Vec<Value<'a>>,
) -> Result<Value<'a>, EvalError> {
    match args.first() {
        Some(Value::Text(Cow::Borrowed(text))) => {
            let text = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
            text.map(Value::Int).ok_or_else(|| EvalError::new("not an int"))
        }
        _ => Err(EvalError::new("not a string")),
    }
}

fn executor(steps: Vec<Vec<Stmt>>, end: End) -> Executor {
    let mut functions = Functions::new();
    functions.add("int", int);
    let steps = steps
        .into_iter()
        .map(|body| ir::Step {
            name: "step".into(),
            op: StepOp::Code(Code { locals: 1, body }),
            origin: OriginId(0),
            errors: None,
        })
        .collect();
    let output = Output { to: Target::Channel(0), optional: false, origin: OriginId(0) };
    let program = plan::Program {
        name: "bench".into(),
        body: ir::Program { steps, end },
        outputs: vec![output.clone(), output.clone(), output],
        errors: vec![],
    };
    let plan = Plan {
        version: plan::PLAN_VERSION,
        file: String::new(),
        slots: GROUPS.iter().map(|name| name.to_string()).chain(["env".into()]).collect(),
        functions: vec![],
        secrets: vec![],
        services: Vec::new(),
        elections: Vec::new(),
        agents: vec![],
        runtime: Default::default(),
        claims: vec![],
        origins: vec![],
    };
    Executor::new(&plan, &program, &functions, &Interceptors::new()).expect("a program that runs")
}

fn regex(pattern: &str) -> RegexSetting {
    RegexSetting { pattern: pattern.into(), flags: String::new() }
}

fn filter() -> Vec<Stmt> {
    let condition = Expr::Matches { value: Box::new(Expr::Body), regex: regex(HEALTH) };
    vec![Stmt::If { condition, then: vec![Stmt::Drop], otherwise: vec![] }]
}

fn extract() -> Vec<Stmt> {
    let group = |(slot, group): (usize, &&str)| ExtractGroup {
        group: group.to_string(),
        slot: Slot(slot as u32),
        convert: None,
        value_local: 0,
    };
    vec![Stmt::Extract {
        subject: Expr::Body,
        regex: regex(COMBINED),
        groups: GROUPS.iter().enumerate().map(group).collect(),
        on_miss: OnMiss::Fail,
        origin: OriginId(0),
    }]
}

fn set_header() -> Vec<Stmt> {
    vec![Stmt::SetHeader { slot: Slot(10), value: Expr::Const(Const::Text("production".into())) }]
}

fn code() -> Vec<Stmt> {
    let value = Expr::If {
        condition: Box::new(Expr::Compare {
            op: CompareOp::Eq,
            left: Box::new(Expr::Header(Slot(4))),
            right: Box::new(Expr::Const(Const::Text("GET".into()))),
        }),
        then: Box::new(Expr::Header(Slot(5))),
        otherwise: Box::new(Expr::Const(Const::Text("other".into()))),
    };
    vec![Stmt::SetHeader { slot: Slot(10), value }]
}

fn route() -> End {
    let status =
        Expr::Call { function: "int".into(), args: vec![Expr::Header(Slot(7))], origin: OriginId(0) };
    let between = |low, high| Expr::Between {
        value: Box::new(Expr::Local(0)),
        low: Box::new(Expr::Const(Const::Int(low))),
        high: Box::new(Expr::Const(Const::Int(high))),
    };
    let arm = |when, output| Arm {
        when,
        then: ir::Program { steps: vec![], end: End::Output(output) },
        origin: OriginId(0),
    };
    End::Route(ir::Route {
        all: false,
        subject: Some(status),
        locals: 1,
        arms: vec![arm(Some(between(500, 599)), 0), arm(Some(between(400, 499)), 1), arm(None, 2)],
        errors: None,
        origin: OriginId(0),
        name: "route".into(),
    })
}

fn run(bencher: Bencher<'_, '_>, steps: Vec<Vec<Stmt>>, end: End, prepared: Vec<Vec<Stmt>>) {
    let mut before = executor(prepared, End::Output(0));
    let mut executor = executor(steps, end);
    let mut outputs = Outputs::new();
    let fresh = move || {
        let mut outputs = Outputs::new();
        before.run(batch(), 0, &mut outputs);
        outputs.batches[0].pop().expect("a batch")
    };
    bencher.counter(ItemsCount::new(ROWS)).with_inputs(fresh).bench_local_values(|batch| {
        outputs.clear();
        executor.run(batch, 0, &mut outputs);
        black_box(outputs.batches.len())
    });
}

#[divan::bench]
fn a1_regex_crate_is_match(bencher: Bencher<'_, '_>) {
    let regex = regex::bytes::Regex::new(HEALTH).expect("a regex");
    bencher.counter(ItemsCount::new(ROWS)).with_inputs(batch).bench_local_values(|batch| {
        let hits = batch.rows.iter().filter(|row| regex.is_match(batch.body(**row))).count();
        (hits, batch)
    });
}

#[divan::bench]
fn a2_filter(bencher: Bencher<'_, '_>) {
    run(bencher, vec![filter()], End::Output(0), vec![]);
}

#[divan::bench]
fn b1_regex_crate_captures(bencher: Bencher<'_, '_>) {
    let regex = regex::bytes::Regex::new(COMBINED).expect("a regex");
    let mut captures = regex.capture_locations();
    bencher.counter(ItemsCount::new(ROWS)).with_inputs(batch).bench_local_values(|batch| {
        let found =
            batch.rows.iter().filter(|row| regex.captures_read(&mut captures, batch.body(**row)).is_some());
        (found.count(), batch)
    });
}

#[divan::bench]
fn b2_extract_ten_groups(bencher: Bencher<'_, '_>) {
    run(bencher, vec![extract()], End::Output(0), vec![]);
}

#[divan::bench]
fn c1_constant_header(bencher: Bencher<'_, '_>) {
    run(bencher, vec![set_header()], End::Output(0), vec![]);
}

#[divan::bench]
fn c2_code_with_a_condition(bencher: Bencher<'_, '_>) {
    run(bencher, vec![code()], End::Output(0), vec![extract()]);
}

#[divan::bench]
fn d1_route_on_int_of_header(bencher: Bencher<'_, '_>) {
    run(bencher, vec![], route(), vec![extract()]);
}

#[divan::bench]
fn e1_whole_chain(bencher: Bencher<'_, '_>) {
    run(bencher, vec![filter(), extract(), set_header()], route(), vec![]);
}
