//! Programs and rows that nobody writes on purpose: too many patterns, too large automata, too many steps, rows of
//! nothing and of a hundred megabytes. The answers are those of the reference, and what is compiled stays small.

use flow_jit::JitCompiler;
use flow_plan::batch::{Batch, Columns, Range, Slot};
use flow_plan::exec::{Executor, Natives, Outputs};
use flow_plan::interceptor::Interceptors;
use flow_plan::ir::{
    Arm, CompareOp, End, Expr, ExtractGroup, OnMiss, Program, Route, Step, Stmt, TemplatePart,
};
use flow_plan::native::{Compiler, SectionReport};
use flow_plan::plan::{self, OriginId};
use flow_plan::testing::programs::{self, Found, program, regex, result, slot, step};
use flow_plan::testing::{AT, functions, text};

/// Machine code of a program, in bytes: whatever is asked for.
const CODE_BYTES_MAX: usize = 4 << 20;

fn executor(program: &plan::Program, compiler: Option<&dyn Compiler>) -> Executor {
    some_executor(program, compiler).unwrap_or_else(|error| panic!("{error}"))
}

fn some_executor(program: &plan::Program, compiler: Option<&dyn Compiler>) -> Result<Executor, String> {
    let (functions, interceptors) = (functions(), Interceptors::new());
    let natives = Natives::new();
    let plan = programs::plan();
    Executor::with_natives(&plan, program, &functions, &interceptors, compiler, &natives, false)
        .map_err(|error| error.to_string())
}

/// What the two ways give for a batch, and what was compiled.
struct Both {
    found: Found,
    reports: Vec<SectionReport>,
}

impl Both {
    fn code_bytes(&self) -> usize {
        self.reports.iter().map(|report| report.code_bytes).sum()
    }

    fn native(&self) -> usize {
        self.reports.iter().flat_map(|report| &report.parts).filter(|part| part.native).count()
    }

    /// What is left to the reference.
    fn left(&self) -> usize {
        self.reports.iter().flat_map(|report| &report.parts).map(|part| part.reference.len()).sum()
    }

    fn out(&self, output: usize) -> usize {
        self.found.0[output].len()
    }
}

fn both(program: &plan::Program, batch: &dyn Fn() -> Batch) -> Both {
    let compiler = JitCompiler::new();
    let begin = std::time::Instant::now();
    let mut native = executor(program, Some(&compiler));
    let took = begin.elapsed();
    let (mut found, mut expected) = (Outputs::new(), Outputs::new());
    native.run(batch(), 77, &mut found);
    executor(program, None).run(batch(), 77, &mut expected);
    let found = result(&found);
    assert!(found == result(&expected), "native and reference differ");
    let both = Both { found, reports: native.reports().to_vec() };
    println!("{} native parts, {} bytes of code, {took:?}", both.native(), both.code_bytes());
    assert!(both.code_bytes() <= CODE_BYTES_MAX, "{} bytes of code", both.code_bytes());
    both
}

fn batch(bodies: &[&[u8]]) -> Batch {
    let mut columns = Columns { source: "web".into(), first_id: 5, ..Columns::default() };
    for body in bodies {
        columns.push(body, 1_790_000_000_000).unwrap();
    }
    Batch::new(columns)
}

fn matches(value: Expr, pattern: &str) -> Expr {
    Expr::Matches { value: Box::new(value), regex: regex(pattern) }
}

/// Drops what does not match.
fn filter(number: usize, pattern: &str) -> Step {
    let condition = Expr::Not(Box::new(matches(Expr::Body, pattern)));
    let body = vec![Stmt::If { condition, then: vec![Stmt::Drop], otherwise: vec![] }];
    step(&format!("filter{number}"), None, 1, body)
}

fn extract(subject: Expr, pattern: &str, groups: &[(&str, &str)]) -> Step {
    let group = |(group, header): &(&str, &str)| ExtractGroup {
        group: (*group).into(),
        slot: slot(header),
        convert: None,
        value_local: 0,
    };
    let groups = groups.iter().map(group).collect();
    let regex = regex(pattern);
    step(
        "extract",
        None,
        1,
        vec![Stmt::Extract { subject, regex, groups, on_miss: OnMiss::Pass, origin: AT }],
    )
}

fn set_header(header: &str, value: Expr) -> Step {
    step("set", None, 1, vec![Stmt::SetHeader { slot: slot(header), value }])
}

fn hole(value: Expr) -> TemplatePart {
    TemplatePart::Expr { value, format: None }
}

fn steps(steps: Vec<Step>) -> plan::Program {
    program(steps, End::Output(0), &[false], vec![])
}

/// The outputs 0 and 1 in turn, by condition.
fn route(conditions: impl IntoIterator<Item = Expr>, all: bool) -> plan::Program {
    let to = |number: usize| Program { steps: vec![], end: End::Output(number as u32 % 2) };
    let arms = conditions.into_iter().enumerate();
    let mut arms: Vec<Arm> =
        arms.map(|(number, when)| Arm { when: Some(when), then: to(number), origin: OriginId(1) }).collect();
    arms.push(Arm { when: None, then: Program { steps: vec![], end: End::Output(2) }, origin: OriginId(1) });
    let name = "route".into();
    let route = Route { all, subject: None, locals: 1, arms, errors: None, origin: OriginId(2), name };
    program(vec![], End::Route(route), &[false, false, false], vec![])
}

#[test]
fn automata_without_bound_are_left_to_the_reference() {
    let long = "ab".repeat(5_000);
    let patterns = [
        r"(\w{100}){100}",
        r"(?:a?){300}a{300}",
        r"[ab]*a[ab]{30}",
        r"(\pL{1,50}\d){1,40}x",
        r"((a|b)?){100}c",
        r"(?i)(?:\w+\s+){50}end",
    ];
    let mut taken = 0;
    for pattern in patterns {
        if let Err(why) = some_executor(&steps(vec![filter(0, pattern)]), None) {
            let compiler = JitCompiler::new();
            let native = some_executor(&steps(vec![filter(0, pattern)]), Some(&compiler));
            assert_eq!(native.err(), Some(why), "{pattern}");
            continue;
        }
        let rows = || batch(&[b"", b"a", long.as_bytes(), b"word 1x", "é1x".as_bytes(), b"\xff"]);
        both(&steps(vec![filter(0, pattern)]), &rows);
        taken += 1;
        let groups = format!("(?P<g>{pattern})(?P<h>.?)");
        both(&steps(vec![extract(Expr::Body, &groups, &[("g", "host"), ("h", "kind")])]), &rows);
    }
    assert!(taken >= 3, "the reference takes {taken}");
}

#[test]
fn many_steps_that_cannot_be_compiled() {
    let bad = |number: usize| {
        extract(Expr::Body, &format!(r"(?P<g>[ab]*a[ab]{{{}}})", 40 + number), &[("g", "host")])
    };
    let program = steps((0..12).map(bad).collect());
    let both = both(&program, &|| batch(&[b"abab", b"", &b"ab".repeat(100)]));
    assert_eq!(both.left(), 12);
}

#[test]
fn a_thousand_regexes_in_a_route() {
    let conditions = || (0..1_000).map(|number| matches(Expr::Body, &format!(r"^case{number:03}[a-f]?\b")));
    let rows = || {
        batch(&[
            b"case000",
            b"case031 x",
            b"case255a",
            b"case256 y",
            b"case999",
            b"case1000",
            b"",
            b"\xffcase001",
        ])
    };
    let both = both(&route(conditions(), false), &rows);
    assert_eq!((both.out(0), both.out(1), both.out(2)), (2, 3, 3));
}

#[test]
fn a_thousand_texts_in_a_route_and_in_a_list() {
    let equal = |number: usize| Expr::Compare {
        op: CompareOp::Eq,
        left: Box::new(Expr::Body),
        right: Box::new(text(&format!("case-{number}"))),
    };
    let rows = || batch(&[b"case-0", b"case-7", b"case-999", b"case-1000", b"", b"case-99\0"]);
    let found = both(&route((0..1_000).map(equal), false), &rows);
    assert_eq!((found.out(0), found.out(1), found.out(2)), (1, 2, 3));
    let list = Expr::List((0..1_000).map(|number| text(&format!("case-{number}"))).collect());
    let inside = Expr::In { value: Box::new(Expr::Body), list: Box::new(list) };
    let found = both(&route([inside], false), &rows);
    assert_eq!((found.out(0), found.out(2)), (3, 3));
    assert_eq!(found.native(), 1);
}

#[test]
fn a_copy_to_every_one_of_many_arms() {
    for arms in [62, 63, 200] {
        let conditions = (0..arms).map(|number| matches(Expr::Body, if number % 3 == 0 { "a" } else { "b" }));
        let both = both(&route(conditions, true), &|| batch(&[b"a", b"b", b"ab", b"", b"c"]));
        assert_eq!(both.native(), usize::from(arms < 63));
    }
}

#[test]
fn three_hundred_steps() {
    let steps_of = |count: usize| {
        let number = |number: usize| match number % 3 {
            0 => filter(number, &format!("a|x{number}")),
            1 => set_header(
                "host",
                Expr::Template(vec![hole(Expr::Header(slot("host"))), TemplatePart::Text("a".into())]),
            ),
            _ => extract(Expr::Body, r"(?P<g>\w)\b", &[("g", "kind")]),
        };
        steps((0..count).map(number).collect())
    };
    let found = both(&steps_of(300), &|| batch(&[b"a", b"", b"b a", "é a".as_bytes()]));
    assert_eq!(found.out(0), 3);
    // One step more than a section takes left all of them to the reference.
    assert!(found.native() >= 298, "{} steps are machine code", found.native());
}

#[test]
fn rows_of_nothing_of_all_bytes_and_of_a_hundred_megabytes() {
    let all: Vec<u8> = (0..=255).collect();
    let mut large = vec![b'x'; 100 << 20];
    large[50 << 20] = 0;
    let end = large.len();
    large[end - 6..].copy_from_slice(b"needle");
    let program = steps(vec![
        extract(Expr::Body, r"^(?P<g>[^y]?)(?-u:(?P<h>.))?", &[("g", "host"), ("h", "kind")]),
        set_header("status", Expr::Header(slot("kind"))),
        filter(0, "needle|^$|\\x00|^[ab]"),
    ]);
    let found = both(&program, &|| batch(&[b"", b"\0", &all, &large, b"a", b"\0\0\0\0", b"zzz"]));
    assert_eq!(found.out(0), 6);
    assert_eq!(found.native(), 3);
}

#[test]
fn headers_of_a_megabyte() {
    let rows = || {
        let mut columns = Columns { source: "web".into(), ..Columns::default() };
        for (number, byte) in [b'a', b'\0', 0xc3, b' '].into_iter().enumerate() {
            let row = columns.push(b"body", number as i64).unwrap();
            let mut value = vec![byte; 1 << 20];
            value.extend_from_slice(b"end");
            let range = columns.arena.push(&value).unwrap();
            columns.set_header(row, slot("host"), range);
        }
        let row = columns.push(b"without", 9).unwrap();
        columns.set_header(row, slot("host"), Range::ABSENT);
        Batch::new(columns)
    };
    let host = || Expr::Header(slot("host"));
    let twice = Expr::Template(vec![hole(host()), TemplatePart::Text("|".into()), hole(host())]);
    let program = steps(vec![
        extract(host(), r"(?P<g>a+|\x00+)?(?P<h>e?n.)$", &[("g", "kind"), ("h", "status")]),
        set_header("error", twice),
        step(
            "body",
            None,
            1,
            vec![Stmt::SetBody { value: Expr::Coalesce(Box::new(host()), Box::new(Expr::Body)) }],
        ),
        filter(0, "end|without"),
    ]);
    let found = both(&program, &rows);
    assert_eq!(found.out(0), 5);
    assert_eq!(found.native(), 4);
}

#[test]
fn a_text_that_outgrows_its_bound_fails_as_in_the_reference() {
    // 32 KiB doubled twelve times is more than a text may have.
    let double = || Expr::Template(vec![hole(Expr::Body), hole(Expr::Body)]);
    let mut all = Vec::new();
    all.extend(
        (0..12).map(|number| step(&format!("s{number}"), None, 1, vec![Stmt::SetBody { value: double() }])),
    );
    let body = vec![b'x'; 32 << 10];
    let found = both(&steps(all), &|| batch(&[b"", &body]));
    assert_eq!((found.out(0), found.found.1.len()), (1, 1));
}

#[test]
fn ranges_that_lie_where_nothing_is() {
    let lies = [
        Range { start: 4, len: u32::MAX },
        Range { start: u32::MAX - 1, len: 1 },
        Range { start: 1 << 30, len: 10 },
        Range { start: 0, len: 1 << 20 },
        Range { start: u32::MAX, len: 7 },
        Range::ABSENT,
    ];
    let program = steps(vec![
        extract(Expr::Header(Slot(0)), "(?P<g>.+)", &[("g", "kind")]),
        set_header("status", Expr::Body),
        filter(0, "a|^$"),
    ]);
    for lie in lies {
        for in_body in [true, false] {
            let rows = || {
                let mut columns = Columns { source: "web".into(), ..Columns::default() };
                for body in [&b"a1"[..], b"a2", b"b"] {
                    let row = columns.push(body, 0).unwrap();
                    let body = columns.bodies[row as usize];
                    columns.set_header(row, Slot(0), body);
                }
                match in_body {
                    true => columns.bodies[1] = lie,
                    false => columns.set_header(1, Slot(0), lie),
                }
                Batch::new(columns)
            };
            // `result` looks at every range, also of what came in so.
            let compiler = JitCompiler::new();
            let [found, expected] = [Some(&compiler as &dyn Compiler), None].map(|compiler| {
                let mut outputs = Outputs::new();
                executor(&program, compiler).run(rows(), 77, &mut outputs);
                let rows = |batch: &Batch| -> Vec<Vec<Option<Vec<u8>>>> {
                    let value = |row, slot| batch.header(row, Slot(slot)).map(<[u8]>::to_vec);
                    let row = |row| {
                        (0..6).map(move |slot| value(row, slot)).chain([Some(batch.body(row).to_vec())])
                    };
                    batch.rows.iter().map(|number| row(*number).collect()).collect()
                };
                outputs.batches[0].iter().flat_map(rows).collect::<Vec<_>>()
            });
            assert_eq!(found, expected, "{lie:?}");
        }
    }
}
