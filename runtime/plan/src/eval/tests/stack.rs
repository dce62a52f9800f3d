//! The deepest code that is allowed fits the stack of a worker thread, also in a build without optimisation.

use super::*;

/// What threads get when nobody asks for more.
const STACK_BYTES: usize = 2 << 20;

fn on_a_small_stack(run: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(STACK_BYTES).spawn(run).unwrap().join().unwrap();
}

#[test]
fn nesting_is_refused_before_the_stack_ends() {
    on_a_small_stack(|| {
        let nest = |depth, wrap: &dyn Fn(Expr) -> Expr| (0..depth).fold(int(1), |inner, _| wrap(inner));
        let wraps: [&dyn Fn(Expr) -> Expr; 6] = [
            &|inner| Expr::List(vec![inner]),
            &|inner| Expr::Map(vec![("a".into(), inner)]),
            &|inner| Expr::Neg { value: boxed(inner), origin: AT },
            &|inner| or_else(inner, Fallback::Drop),
            &|inner| call("first", vec![inner]),
            &|inner| Expr::Template(vec![TemplatePart::Expr { value: inner, format: None }]),
        ];
        for wrap in wraps {
            let deepest = constant(nest(DEPTH_MAX - 1, wrap));
            assert!(!deepest.starts_with("fails"), "{deepest}");
            assert!(constant(nest(DEPTH_MAX, wrap)).contains("nested more than"));
            let expr = nest(2_000, wrap);
            assert!(constant(expr).contains("nested more than"));
        }
    });
}

#[test]
fn calls_are_refused_before_the_stack_ends() {
    on_a_small_stack(|| {
        // Each call sits as deep in its function as it can.
        let mut value = Expr::CallUser { function: 0, args: vec![], origin: AT };
        for _ in 0..DEPTH_MAX - 3 {
            value = call("first", vec![value]);
        }
        let body = vec![Stmt::Return { value: Some(value) }];
        let user = [Function { name: "f".into(), params: 0, locals: 0, body }];
        let expr = Expr::CallUser { function: 0, args: vec![], origin: AT };
        let result = show(eval_const(&expr, &functions(), &user));
        assert_eq!(result, "fails: functions call each other too deeply");
    });
}

#[test]
fn a_lambda_in_a_lambda_is_bounded_too() {
    on_a_small_stack(|| {
        let mut body = Expr::Local(0);
        for _ in 0..2 * CALL_DEPTH_MAX {
            let lambda = Expr::Lambda { param: 0, body: boxed(body) };
            body = call("map", vec![Expr::List(vec![int(1)]), lambda]);
        }
        let result = constant(body);
        assert!(result.starts_with("fails"), "{result}");
    });
}

#[test]
fn a_value_that_wraps_itself_is_refused() {
    on_a_small_stack(|| {
        let wrap = |value| {
            vec![
                Stmt::Set { local: 1, value: Expr::List(vec![]) },
                Stmt::For {
                    item: 0,
                    index: None,
                    list: Expr::Range { low: boxed(int(1)), high: boxed(int(1_000_000)), origin: AT },
                    body: vec![Stmt::Set { local: 1, value }],
                    origin: AT,
                },
            ]
        };
        let lambda = Expr::Lambda { param: 2, body: boxed(Expr::List(vec![Expr::Local(2)])) };
        let values = [
            Expr::List(vec![Expr::Local(1)]),
            Expr::Map(vec![("a".into(), Expr::Local(1))]),
            call("map", vec![Expr::List(vec![Expr::Local(1)]), lambda]),
        ];
        for value in values {
            let user = [Function { name: "f".into(), params: 0, locals: 3, body: wrap(value) }];
            let expr = Expr::CallUser { function: 0, args: vec![], origin: AT };
            let result = show(eval_const(&expr, &functions(), &user));
            assert_eq!(result, "fails: the value is nested more than 200 deep");
        }
    });
}
