use super::*;
use crate::ir::{Arm, ExtractGroup, OnMiss};

#[test]
fn filters_keep_order() {
    let drop = Stmt::If { condition: body_matches("b"), then: vec![Stmt::Drop], otherwise: vec![] };
    let program = program(vec![step("filter", None, 0, vec![drop])], ir::End::Output(0), &[false], vec![]);
    assert_eq!(executor(&program).kernels(), 1);
    let outputs = run(&program, batch(&["a", "ab", "c"]));
    assert_eq!(bodies(&outputs.batches[0]), ["a", "c"]);
}

#[test]
fn extracted_headers_are_pieces_of_the_body() {
    let group = |group: &str, name: &str| ExtractGroup {
        group: group.into(),
        slot: slot(name),
        convert: None,
        value_local: 0,
    };
    for subject in [
        Expr::Body,
        Expr::If {
            condition: Box::new(Expr::Const(ir::Const::Bool(true))),
            then: Box::new(Expr::Body),
            otherwise: Box::new(Expr::Body),
        },
    ] {
        for on_miss in [OnMiss::Pass, OnMiss::Drop, OnMiss::Fail] {
            let extract = Stmt::Extract {
                subject: subject.clone(),
                regex: regex(r"^(?P<host>\S+) (?P<status>\d+)?"),
                groups: vec![group("host", "host"), group("status", "status")],
                on_miss,
                origin: OriginId(4),
            };
            let program =
                program(vec![step("extract", None, 1, vec![extract])], ir::End::Output(0), &[false], vec![]);
            let outputs = run(&program, batch(&["web1 200", "web2 x", "-"]));
            let out = &outputs.batches[0][0];
            assert_eq!(header(out, 0, "host").unwrap(), "web1");
            assert_eq!(header(out, 0, "status").unwrap(), "200");
            assert_eq!(header(out, 1, "status"), None);
            assert_eq!(out.columns.arena.len(), "web1 200web2 x-".len());
            assert_eq!(out.len(), if on_miss == OnMiss::Pass { 3 } else { 2 });
            assert_eq!(outputs.dead.len(), usize::from(on_miss == OnMiss::Fail));
        }
    }
}

#[test]
fn constants_are_stored_once() {
    let set = |name: &str, value: &str| Stmt::SetHeader { slot: slot(name), value: text(value) };
    let kernel = step("set", None, 0, vec![set("host", "h"), set("kind", "kkkk")]);
    let code =
        step("set", None, 0, vec![set("host", "h"), Stmt::Expr { value: int(1) }, set("kind", "kkkk")]);
    for step in [kernel, code] {
        let program = program(vec![step], ir::End::Output(0), &[false], vec![]);
        let outputs = run(&program, batch(&["1", "2", "3"]));
        let out = &outputs.batches[0][0];
        assert_eq!(header(out, 2, "kind").unwrap(), "kkkk");
        assert_eq!(out.columns.arena.len(), 3 + 1 + 4);
        assert_eq!(out.columns.arena.padded().len(), out.columns.arena.len() + crate::batch::ARENA_PADDING);
    }
}

#[test]
fn emitted_events_follow_their_parent_and_begin_as_it_was() {
    let emit = Stmt::Emit {
        event: Expr::Map(vec![
            (
                "body".into(),
                Expr::Template(vec![
                    ir::TemplatePart::Expr { value: Expr::Body, format: None },
                    ir::TemplatePart::Text("'".into()),
                ]),
            ),
            ("header.kind".into(), text("child")),
            ("header.side".into(), text("s")),
        ]),
        origin: OriginId(3),
    };
    let set = Stmt::SetHeader { slot: slot("host"), value: text("after") };
    let fail = Stmt::If {
        condition: body_matches("bad"),
        then: vec![Stmt::Fail { message: text("no"), origin: OriginId(5) }],
        otherwise: vec![],
    };
    let drop = Stmt::If { condition: body_matches("gone"), then: vec![Stmt::Drop], otherwise: vec![] };
    let program = program(
        vec![step("split", None, 0, vec![emit.clone(), set, emit, fail, drop])],
        ir::End::Output(0),
        &[false],
        vec![],
    );
    let mut executor = executor(&program);
    let mut outputs = Outputs::new();
    executor.run(batch(&["a", "bad", "gone", "b"]), 0, &mut outputs);
    assert_eq!(bodies(&outputs.batches[0]), ["a", "a'", "a'", "gone'", "gone'", "b", "b'", "b'"]);
    let out = &outputs.batches[0][0];
    assert!(out.rows.is_sorted());
    assert_eq!(header(out, out.rows[0], "host").unwrap(), "after");
    assert_eq!(header(out, out.rows[1], "host"), None);
    assert_eq!(header(out, out.rows[2], "host").unwrap(), "after");
    assert_eq!(header(out, out.rows[1], "kind").unwrap(), "child");
    assert_eq!(header(out, out.rows[1], "side").unwrap(), "s");
    assert_eq!(header(out, out.rows[0], "side"), None);
    let ids: Vec<u64> = out.rows.iter().map(|&row| out.columns.event_id(row)).collect();
    assert_eq!(ids, [100, 100, 100, 102, 102, 103, 103, 103]);
    let dead = &outputs.dead[0];
    assert_eq!(dead.batch.body(dead.batch.rows[0]), b"bad");
    assert_eq!(dead.batch.columns.event_id(0), 101);
    assert_eq!(header(&dead.batch, 0, "host"), None, "a failed row is as it came");
    assert_eq!(dead.reasons[0].message, "no");
    assert_eq!(dead.reasons[0].at, "web.flow:6:3");
    let counters = &executor.counters()[0];
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    assert_eq!(read(&counters.events_in), 4);
    assert_eq!(read(&counters.dropped), 1);
    assert_eq!(read(&counters.failed), 1);
    assert_eq!(read(&counters.emitted), 6);
}

#[test]
fn failures_go_to_the_errors_program_with_their_reason() {
    let parse = Stmt::SetHeader { slot: slot("status"), value: call("int", Expr::Body) };
    // The errors program fails again for one row: that one is a dead letter.
    let again = Stmt::If {
        condition: body_matches("worse"),
        then: vec![Stmt::Fail { message: text("again"), origin: OriginId(7) }],
        otherwise: vec![],
    };
    let errors = ir::Program { steps: vec![step("retry", Some(0), 0, vec![again])], end: ir::End::Output(1) };
    let program = program(
        vec![step("parse", Some(0), 0, vec![parse])],
        ir::End::Output(0),
        &[false, false],
        vec![errors],
    );
    let outputs = run(&program, batch(&["1", "x", "worse"]));
    assert_eq!(bodies(&outputs.batches[0]), ["1"]);
    assert_eq!(bodies(&outputs.batches[1]), ["x"]);
    let failed = &outputs.batches[1][0];
    let row = failed.rows[0];
    assert_eq!(header(failed, row, "error").unwrap(), "not an int");
    assert_eq!(header(failed, row, "error_step").unwrap(), "parse");
    assert_eq!(header(failed, row, "error_at").unwrap(), "web.flow:3:3");
    assert_eq!(outputs.dead.len(), 1);
    assert_eq!(outputs.dead[0].step.as_ref(), "retry");
}

pub(in super::super) fn route(all: bool) -> ir::End {
    let between = |low, high| Expr::Between {
        value: Box::new(Expr::Local(0)),
        low: Box::new(int(low)),
        high: Box::new(int(high)),
    };
    let arm = |when, output| Arm { when, then: to(output), origin: OriginId(0) };
    ir::End::Route(ir::Route {
        all,
        subject: Some(call("int", Expr::Body)),
        locals: 1,
        arms: vec![arm(Some(between(200, 299)), 0), arm(Some(between(250, 499)), 1), arm(None, 2)],
        errors: None,
        origin: OriginId(8),
        name: "route at line 9".into(),
    })
}

#[test]
fn routes_take_the_first_case_or_all() {
    let events = ["200", "260", "404", "503", "x"];
    let first = run(&program(vec![], route(false), &[false; 3], vec![]), batch(&events));
    assert_eq!(bodies(&first.batches[0]), ["200", "260"]);
    assert_eq!(bodies(&first.batches[1]), ["404"]);
    assert_eq!(bodies(&first.batches[2]), ["503"]);
    assert_eq!(first.dead[0].reasons[0].at, "web.flow:3:3");
    let all = run(&program(vec![], route(true), &[false; 3], vec![]), batch(&events));
    assert_eq!(bodies(&all.batches[0]), ["200", "260"]);
    assert_eq!(bodies(&all.batches[1]), ["260", "404"]);
    assert_eq!(bodies(&all.batches[2]), ["503"]);
}

#[test]
fn branches_do_not_see_each_others_writes() {
    let branch = |value: &str, output| ir::Program {
        steps: vec![step("set", None, 0, vec![Stmt::SetHeader { slot: slot("kind"), value: text(value) }])],
        end: ir::End::Output(output),
    };
    let end = ir::End::Copy(vec![branch("left", 0), branch("right", 1), to(2)]);
    let outputs = run(&program(vec![], end, &[false; 3], vec![]), batch(&["a"]));
    assert_eq!(header(&outputs.batches[0][0], 0, "kind").unwrap(), "left");
    assert_eq!(header(&outputs.batches[1][0], 0, "kind").unwrap(), "right");
    assert_eq!(header(&outputs.batches[2][0], 0, "kind"), None);
}

#[test]
fn a_program_that_cannot_run_is_refused_with_its_step() {
    let wrong = |body| program(vec![step("wrong", None, 0, body)], ir::End::Output(0), &[false], vec![]);
    let refused = |program: &plan::Program| {
        Executor::new(&plan(), program, &functions(), &Interceptors::new())
            .err()
            .map(|error| error.to_string())
    };
    let unknown = refused(&wrong(vec![Stmt::Expr { value: call("nope", int(1)) }]));
    assert_eq!(unknown.unwrap(), "`wrong`: there is no function `nope`");
    assert!(refused(&wrong(vec![Stmt::Expr { value: body_matches("(") }])).unwrap().contains("regex"));
    assert!(refused(&program(vec![], ir::End::Output(3), &[false], vec![])).is_some());
    assert!(refused(&program(vec![step("a", Some(1), 0, vec![])], ir::End::Discard, &[], vec![])).is_some());
}

#[test]
fn rows_that_meet_again_keep_their_order() {
    let arm = |when, output| Arm { when, then: to(output), origin: OriginId(0) };
    let route = |all| {
        ir::End::Route(ir::Route {
            all,
            subject: None,
            locals: 0,
            arms: vec![
                arm(Some(body_matches("b")), 0),
                arm(Some(body_matches("c")), 1),
                arm(Some(body_matches(".")), 0),
            ],
            errors: None,
            origin: OriginId(8),
            name: "route".into(),
        })
    };
    let first = program(vec![], route(false), &[false, false], vec![]);
    let mut executor = executor(&first);
    let mut outputs = Outputs::new();
    let input = batch(&["a", "b", "c", "d"]);
    executor.run(input.select(vec![0, 1, 2, 3]), 0, &mut outputs);
    executor.run(input.select(vec![0, 1, 2, 3]), 0, &mut outputs);
    assert_eq!(outputs.batches[0].len(), 2, "one for each run, as each has its acknowledgement");
    assert_eq!(bodies(&outputs.batches[0][..1]), ["a", "b", "d"]);
    // Copies of one event stay two events.
    let all = run(&program(vec![], route(true), &[false, false], vec![]), batch(&["a", "b"]));
    assert_eq!(bodies(&all.batches[0]), ["b", "a", "b"]);
}
