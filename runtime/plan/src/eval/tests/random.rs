//! Random IR must never panic.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::testing::code::{LOCALS, code, expr};

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn expressions_never_panic(expr in expr()) {
        let functions = with_slots();
        if let Ok(value) = eval_const(&expr, &functions, &[]) {
            let mut out = Vec::new();
            value_to_text(&value, &mut out);
            value_to_json(&value, &mut out);
        }
        if let Ok(prepared) = PreparedExpr::new(&expr, &functions) {
            let batch = event();
            let _ = prepared.eval(&batch, 1, i64::MAX);
        }
        if let Ok(mut template) = PreparedTemplate::new(&expr, &functions) {
            let _ = template.write(&event(), 0, 0, &mut Vec::new());
        }
    }

    #[test]
    fn functions_never_panic(code in code()) {
        let user = [Function { name: "f".into(), params: 0, locals: LOCALS, body: code.body }];
        let expr = Expr::CallUser { function: 0, args: vec![], origin: AT };
        let _ = eval_const(&expr, &with_slots(), &user);
    }

    #[test]
    fn json_reads_back_what_it_wrote(expr in expr()) {
        if let Ok(value) = eval_const(&expr, &functions(), &[]) {
            let mut first = Vec::new();
            value_to_json(&value, &mut first);
            let mut second = Vec::new();
            value_to_json(&value_from_json(&first).unwrap(), &mut second);
            prop_assert_eq!(first, second);
        }
    }

    #[test]
    fn json_never_panics(bytes in vec(prop_oneof![
        4 => prop::sample::select(b"{}[]\",:0123456789.eE+-\\utrfalsn ".to_vec()), 1 => any::<u8>()
    ], 0..40)) {
        let _ = value_from_json(&bytes);
    }
}
