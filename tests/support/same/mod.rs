//! Two ways to run a program, held against each other: bytes become a program and a batch, which are run as machine
//! code and by the reference evaluator. Any difference is a panic that shows the program.

pub mod batches;
pub mod bytes;
pub mod exprs;
pub mod flows;
pub mod mutate;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::OnceLock;

use flow_agent::Registry;
use flow_check::{Imports, Library, Options};
use flow_diag::{Files, Format, Severity};
use flow_jit::JitCompiler;
use flow_plan::batch::ARENA_PADDING;
use flow_plan::exec::{Executor, Natives, Outputs};
use flow_plan::native::Compiler;
use flow_plan::plan::Program;
use flow_plan::{Batch, Plan};

use bytes::Bytes;

/// When programs run, in milliseconds since 1970 UTC.
pub const NOW_MS: i64 = 1_795_392_000_000;

/// What became of some bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The text was a program.
    pub checked: bool,
    /// Steps and routes, and how many of them were machine code.
    pub parts: usize,
    pub native: usize,
    /// Rows in, and rows that came out or failed.
    pub rows: usize,
    pub out: usize,
    pub failed: usize,
    /// Headers of the rows that came out.
    pub answers: Vec<Vec<(String, Vec<u8>)>>,
    /// What was met, in words: reasons of the compiler, failures.
    pub shapes: BTreeSet<String>,
}

/// Imports from beside the importing file.
struct Disk;

impl Imports for Disk {
    fn read(&mut self, from: &str, path: &str) -> Result<(String, String), String> {
        let full = Path::new(from).parent().unwrap_or(Path::new("")).join(path);
        let text =
            std::fs::read_to_string(&full).map_err(|error| format!("`{}`: {error}", full.display()))?;
        Ok((full.display().to_string(), text))
    }
}

/// The library of this build.
pub fn library() -> &'static (Library, Registry) {
    static LIBRARY: OnceLock<(Library, Registry)> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let registry = flow_stdlib::registry();
        let declarations = flow_stdlib::DECLARATIONS.iter().copied();
        let (library, files, diagnostics) =
            Library::from_declarations(declarations, registry.functions.clone());
        assert!(diagnostics.is_empty(), "{}", flow_diag::render(&files, &diagnostics, Format::Short));
        (library, registry)
    })
}

/// Text to plan; when it has errors, they are given.
pub fn plan(name: &str, text: &str) -> Result<Plan, String> {
    let mut files = Files::new();
    let root = files.add(name, text);
    let checked = flow_check::check(root, &mut files, &mut Disk, &library().0, &Options::default());
    let errors: Vec<_> =
        checked.diagnostics.into_iter().filter(|one| one.severity == Severity::Error).collect();
    match checked.plan {
        Some(plan) if errors.is_empty() => Ok(plan),
        _ => Err(flow_diag::render(&files, &errors, Format::Short)),
    }
}

/// A program, as machine code where the compiler can.
pub fn executor(plan: &Plan, program: &Program, compiler: Option<&dyn Compiler>) -> Result<Executor, String> {
    let Registry { functions, interceptors, .. } = &library().1;
    let natives = Natives::new();
    Executor::with_natives(plan, program, functions, interceptors, compiler, &natives, false)
        .map_err(|error| error.to_string())
}

/// Body, time, headers by name, and the number that the event had at its source.
pub type Event = (Vec<u8>, i64, Vec<(String, Vec<u8>)>, u64);

/// By output the events, and the dead letters with step, reason and place.
pub type Answer = (Vec<Vec<Event>>, Vec<(Event, String, String, String)>);

fn event(batch: &Batch, row: u32, plan: &Plan) -> Event {
    let headers = batch.headers(row, &plan.slots).map(|(name, value)| (name.to_owned(), value.to_vec()));
    let mut headers: Vec<_> = headers.collect();
    headers.sort();
    (batch.body(row).to_vec(), batch.time_ms(row), headers, batch.columns.event_id(row))
}

fn check_batch(batch: &Batch) {
    let columns = &*batch.columns;
    let rows = columns.bodies.len();
    assert!(batch.rows.is_sorted_by(|left, right| left < right), "rows are not in their order");
    assert!(batch.rows.iter().all(|row| (*row as usize) < rows), "a row that is not there");
    assert_eq!(columns.times.len(), rows);
    assert!(columns.headers.iter().all(|column| column.is_empty() || column.len() == rows));
    let padded = columns.arena.padded();
    assert_eq!(padded.len(), columns.arena.len() + ARENA_PADDING);
    assert!(padded[columns.arena.len()..].iter().all(|byte| *byte == 0), "the padding was written to");
}

/// What a run gave, without order between batches.
pub fn result(outputs: &Outputs, plan: &Plan) -> Answer {
    let mut batches = Vec::new();
    for output in &outputs.batches {
        output.iter().for_each(check_batch);
        let rows = output.iter().flat_map(|batch| batch.rows.iter().map(move |row| (batch, *row)));
        let mut events: Vec<Event> = rows.map(|(batch, row)| event(batch, row, plan)).collect();
        events.sort();
        batches.push(events);
    }
    let mut dead = Vec::new();
    for letter in &outputs.dead {
        check_batch(&letter.batch);
        for (row, reason) in letter.batch.rows.iter().zip(&letter.reasons) {
            let event = event(&letter.batch, *row, plan);
            dead.push((event, letter.step.to_string(), reason.message.clone(), reason.at.clone()));
        }
    }
    dead.sort();
    (batches, dead)
}

/// Runs batches both ways. `batch` makes the same batch each time, and says whether others share its columns.
///
/// # Panics
///
/// When the answers differ.
pub fn compare(
    plan: &Plan,
    program: &Program,
    batches: usize,
    mut batch: impl FnMut(usize) -> (Batch, bool),
    shown: &str,
) -> Seen {
    static COMPILER: OnceLock<JitCompiler> = OnceLock::new();
    let compiler = COMPILER.get_or_init(JitCompiler::new);
    let mut seen = Seen { checked: true, ..Seen::default() };
    let reference = executor(plan, program, None);
    let native = executor(plan, program, Some(compiler));
    let (mut reference, mut native) = match (reference, native) {
        (Ok(reference), Ok(native)) => (reference, native),
        (Err(one), Err(other)) => {
            assert_eq!(one, other, "{shown}");
            return seen;
        }
        (reference, native) => {
            panic!("only one way takes the program: {:?} {:?}\n{shown}", reference.err(), native.err())
        }
    };
    for part in native.reports().iter().flat_map(|report| &report.parts) {
        seen.parts += 1;
        seen.native += usize::from(part.native);
        seen.shapes.extend(part.reference.iter().map(|why| outline(why)));
    }
    for number in 0..batches {
        let (mut expected, mut found) = (Outputs::new(), Outputs::new());
        let (one, shared) = batch(number);
        let kept = shared.then(|| one.columns.clone());
        let before = kept.as_ref().map(|_| result_of(&one, plan));
        seen.rows += one.len();
        native.run(one, NOW_MS, &mut found);
        if let (Some(columns), Some(before)) = (kept, before) {
            let rows = (0..columns.bodies.len() as u32).collect();
            let shared = Batch { columns, rows, ack: Default::default() };
            assert_eq!(result_of(&shared, plan), before, "shared columns were written to\n{shown}");
        }
        reference.run(batch(number).0, NOW_MS, &mut expected);
        let (expected, found) = (result(&expected, plan), result(&found, plan));
        if expected != found {
            differ(&expected, &found, shown);
        }
        seen.answers.extend(found.0.iter().flatten().map(|(_, _, headers, _)| headers.clone()));
        seen.out += found.0.iter().map(Vec::len).sum::<usize>();
        seen.failed += found.1.len();
        seen.shapes.extend(found.1.iter().map(|(_, _, why, _)| format!("failed: {}", outline(why))));
    }
    let counts = |executor: &Executor| -> Vec<String> {
        executor.counters().iter().map(|step| format!("{step:?}")).collect()
    };
    assert_eq!(counts(&native), counts(&reference), "counters\n{shown}");
    seen
}

/// All rows of the columns of a batch.
fn result_of(batch: &Batch, plan: &Plan) -> Vec<Event> {
    (0..batch.columns.bodies.len() as u32).map(|row| event(batch, row, plan)).collect()
}

fn differ(expected: &Answer, found: &Answer, shown: &str) -> ! {
    let mut text = String::from("native and reference differ\n");
    for (output, (expected, found)) in expected.0.iter().zip(&found.0).enumerate() {
        for event in expected.iter().filter(|event| !found.contains(event)).take(3) {
            text += &format!("output {output}, only the reference: {event:?}\n");
        }
        for event in found.iter().filter(|event| !expected.contains(event)).take(3) {
            text += &format!("output {output}, only native: {event:?}\n");
        }
    }
    for letter in expected.1.iter().filter(|letter| !found.1.contains(letter)).take(3) {
        text += &format!("failed, only the reference: {letter:?}\n");
    }
    for letter in found.1.iter().filter(|letter| !expected.1.contains(letter)).take(3) {
        text += &format!("failed, only native: {letter:?}\n");
    }
    panic!("{text}{shown}");
}

/// A message without what is special to one case.
fn outline(message: &str) -> String {
    let outside = message.split('`').step_by(2).collect::<Vec<_>>().join("_");
    outside.chars().filter(|char| !char.is_ascii_digit()).take(80).collect()
}

/// Bytes to program and batches, run both ways.
///
/// # Panics
///
/// When the answers differ.
pub fn check(data: &[u8]) -> Seen {
    let (program, rows) = data.split_at(data.len() / 2);
    let text = flows::program(&mut Bytes::new(program));
    let Ok(plan) = plan("same.flow", &text) else { return Seen::default() };
    let program = &plan.agents[0].programs[plan.agents[0].sources[0].program as usize];
    let slots = plan.slots.len();
    let batch = |number: usize| {
        let mut bytes = Bytes::new(rows);
        let mut made = batches::batch(&mut bytes, slots);
        for _ in 0..number {
            made = batches::batch(&mut bytes, slots);
        }
        made
    };
    let mut seen = compare(&plan, program, 2, batch, &text);
    let ending = match (seen.out, seen.failed) {
        (0, 0) => "nothing comes out",
        (0, _) => "all fail",
        (_, 0) => "none fails",
        _ => "some fail",
    };
    let words = WORDS.iter().filter(|word| text.contains(**word));
    seen.shapes.extend(words.map(|word| format!("{word}: {ending}")));
    seen
}

/// What tells programs apart, as their text has it.
const WORDS: [&str; 27] = [
    "route all",
    "route body",
    "route int",
    "route header",
    "when ",
    "return",
    "match ",
    "emit ",
    "for _i",
    "json(",
    "parse_time",
    "format_time",
    "replace_all",
    "search_replace",
    "dedupe",
    "extract",
    "types:",
    "on_miss: pass",
    "timestamp",
    "truncate",
    "remove",
    "rename",
    "float(",
    "case30",
    ".errors",
    "base64",
    "[c0, c1]",
];
