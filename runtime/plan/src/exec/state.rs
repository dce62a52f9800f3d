//! Whether a program keeps something between batches: then its batches must go through one executor, in order. It
//! knows only how programs are built up, not what a step remembers.

use super::{End, Executor, Op, Part, Program};

impl Executor {
    /// A step keeps state between batches (`dedupe`, `throttle`). Programs without such a step may be built several
    /// times and run at once, each over other batches.
    pub fn keeps_state(&self) -> bool {
        self.body.keeps_state() || self.errors.iter().flatten().any(Program::keeps_state)
    }
}

impl Program {
    fn keeps_state(&self) -> bool {
        let native = |part: &Part| matches!(part, Part::Step(step) if matches!(step.op, Op::Native(_)));
        self.parts.iter().any(native)
            || match &self.end {
                End::Output(_) | End::Discard => false,
                End::Copy(branches) => branches.iter().any(Program::keeps_state),
                End::Route(route) => route.arms.iter().any(|(_, then)| then.keeps_state()),
            }
    }
}
