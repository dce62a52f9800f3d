//! One answer, two ways: random programs over hostile events, as machine code and by the reference evaluator.

use flow_jit::JitCompiler;
use flow_plan::exec::{Executor, Natives, Outputs};
use flow_plan::interceptor::Interceptors;
use flow_plan::native::Compiler;
use flow_plan::plan;
use flow_plan::testing::functions;
use flow_plan::testing::programs::{batch_of, input, plan as empty_plan, result, some_program};
use proptest::prelude::*;

fn executor(program: &plan::Program, compiler: Option<&dyn Compiler>) -> Option<Executor> {
    let natives = Natives::new();
    let (functions, interceptors) = (functions(), Interceptors::new());
    Executor::with_natives(&empty_plan(), program, &functions, &interceptors, compiler, &natives, false).ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn random_programs_give_the_same(program in some_program(), input in input()) {
        let compiler = JitCompiler::new();
        let (Some(mut reference), native) =
            (executor(&program, None), executor(&program, Some(&compiler))) else { return Ok(()) };
        let Some(mut native) = native else {
            return Err(TestCaseError::fail("only the reference takes the program"));
        };
        for rows in [input.as_slice(), &input[..input.len() / 2]] {
            let (mut expected, mut found) = (Outputs::new(), Outputs::new());
            reference.run(batch_of(rows), 77, &mut expected);
            native.run(batch_of(rows), 77, &mut found);
            prop_assert_eq!(result(&found), result(&expected));
        }
        let counts = |executor: &Executor| -> Vec<String> {
            executor.counters().iter().map(|step| format!("{step:?}")).collect()
        };
        prop_assert_eq!(counts(&native), counts(&reference));
    }
}
