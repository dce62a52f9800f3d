//! One answer, two ways: random programs over hostile events, as machine code and by the reference evaluator. Most of
//! them are not well typed, so that every refusal is met.

use std::sync::atomic::{AtomicUsize, Ordering};

use flow_jit::JitCompiler;
use flow_plan::Batch;
use flow_plan::batch::Columns;
use flow_plan::exec::{Executor, Natives, Outputs};
use flow_plan::interceptor::Interceptors;
use flow_plan::native::Compiler;
use flow_plan::plan;
use flow_plan::testing::functions;
use flow_plan::testing::programs::{Input, batch_of, input, plan as empty_plan, result, some_program};
use proptest::prelude::*;

fn executor(program: &plan::Program, compiler: Option<&dyn Compiler>) -> Option<Executor> {
    let natives = Natives::new();
    let (functions, interceptors) = (functions(), Interceptors::new());
    Executor::with_natives(&empty_plan(), program, &functions, &interceptors, compiler, &natives, false).ok()
}

/// How a batch is given.
#[derive(Clone, Copy, Debug)]
struct Given {
    /// Somebody else holds the columns: they must stay as they are.
    shared: bool,
    /// Rows that are not selected, one bit each.
    gone: u8,
    /// Events that all columns have twice.
    doubled: bool,
}

fn given() -> impl Strategy<Value = Given> {
    (any::<bool>(), prop_oneof![Just(0), any::<u8>()], any::<bool>())
        .prop_map(|(shared, gone, doubled)| Given { shared, gone, doubled })
}

fn batch(rows: &[Input], given: Given) -> Batch {
    let mut all = rows.to_vec();
    if given.doubled {
        all.extend_from_slice(rows);
    }
    let mut batch = batch_of(&all);
    batch.rows.retain(|row| given.gone >> (row % 8) & 1 == 0);
    batch
}

/// Everything in the columns, also of rows that are not selected.
fn content(columns: &Columns) -> String {
    format!("{:?} {:?} {:?} {:?}", columns.arena.bytes(), columns.bodies, columns.times, columns.headers)
}

/// Steps and routes so far, and how many of them were machine code.
static PARTS: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];

/// `PROPTEST_CASES`, or a short run.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(256)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    fn random_programs(program in some_program(), input in input(), given in given()) {
        let compiler = JitCompiler::new();
        let (Some(mut reference), native) =
            (executor(&program, None), executor(&program, Some(&compiler))) else { return Ok(()) };
        let Some(mut native) = native else {
            return Err(TestCaseError::fail("only the reference takes the program"));
        };
        for rows in [input.as_slice(), &input[..input.len() / 2]] {
            let (mut expected, mut found) = (Outputs::new(), Outputs::new());
            reference.run(batch(rows, given), 77, &mut expected);
            let ours = batch(rows, given);
            let columns = given.shared.then(|| ours.columns.clone());
            let before = columns.as_ref().map(|columns| content(columns));
            native.run(ours, 77, &mut found);
            prop_assert_eq!(columns.as_ref().map(|columns| content(columns)), before);
            prop_assert_eq!(result(&found), result(&expected));
        }
        let counts = |executor: &Executor| -> Vec<String> {
            executor.counters().iter().map(|step| format!("{step:?}")).collect()
        };
        prop_assert_eq!(counts(&native), counts(&reference));
        for part in native.reports().iter().flat_map(|report| &report.parts) {
            PARTS[0].fetch_add(1, Ordering::Relaxed);
            PARTS[1].fetch_add(usize::from(part.native), Ordering::Relaxed);
        }
    }
}

#[test]
fn random_programs_give_the_same() {
    random_programs();
    let [parts, native] = [0, 1].map(|at: usize| PARTS[at].load(Ordering::Relaxed));
    println!("{native} of {parts} parts are machine code");
    assert!(native * 2 > parts, "only {native} of {parts} parts are machine code: nothing is shown");
}
