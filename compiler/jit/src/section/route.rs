//! The route behind the steps of a section: which arm takes a row.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{Block, BlockArg, InstBuilder};
use flow_plan::ir::Route;

use super::emit::{Emit, Emitter, Exits, State};
use super::frame;
use super::runtime;
use super::values::{Kinds, NULL};

/// Arms of a `route all`: their bits stand in one word.
pub const ALL_ARMS_MAX: usize = 63;

impl Emitter<'_, '_, '_> {
    /// On to `taken` with the number of the arm (or the arms as bits), or to `gone`.
    pub fn route(&mut self, part: usize, route: &Route, taken: Block, gone: Block) -> Emit<()> {
        self.base = self.load(frame::BASE);
        let null = self.null();
        self.state = State { locals: vec![null; route.locals.max(1) as usize], ..State::default() };
        let (bail, nowhere) = (self.fb.create_block(), self.fb.create_block());
        self.exits = Exits { bail, fails: bail, drop: nowhere };
        if let Some(subject) = &route.subject {
            self.state.locals[0] = self.value(subject)?;
        }
        self.subject_is_body = route.subject == Some(flow_plan::ir::Expr::Body);
        self.run_sets()?;
        if route.all {
            self.all_arms(route, taken, nowhere)?;
        } else {
            self.first_arm(route, taken, nowhere)?;
        }
        self.sets.clear();
        self.subject_is_body = false;
        self.fb.switch_to_block(nowhere);
        self.count_dropped(part);
        self.fb.ins().jump(gone, &[]);
        self.fb.set_cold_block(bail);
        self.fb.switch_to_block(bail);
        let number = self.int(part as i64);
        let arm = self.call(runtime::bail_route as *const u8, &[self.frame, number, self.row]);
        let none = self.fb.ins().icmp_imm_s(IntCC::Equal, arm, runtime::NOWHERE as i64);
        self.fb.ins().brif(none, gone, &[], taken, &[BlockArg::Value(arm)]);
        Ok(())
    }

    /// Every set of patterns once; a text that is absent matches none.
    fn run_sets(&mut self) -> Emit<()> {
        let regexes = self.regexes;
        for set in &regexes.sets {
            let words = set.patterns.len().div_ceil(32);
            let slot = self.stack(words * 4);
            let subject = self.value(&set.subject)?;
            let subject = self.guard(subject, Kinds::TEXT_OR_NULL);
            let done = self.fb.create_block();
            if subject.kinds.has(NULL) {
                let (absent, there) = (self.fb.create_block(), self.fb.create_block());
                let null = self.has_tag(subject, NULL);
                self.fb.ins().brif(null, absent, &[], there, &[]);
                self.fb.switch_to_block(absent);
                let zero = self.fb.ins().iconst(cranelift_codegen::ir::types::I32, 0);
                for word in 0..words {
                    self.fb.ins().stack_store(I64, zero, slot, (word * 4) as i32);
                }
                self.fb.ins().jump(done, &[]);
                self.fb.switch_to_block(there);
            }
            let address = self.fb.ins().stack_addr(I64, slot, 0);
            self.search(set.matcher, subject, address);
            self.fb.ins().jump(done, &[]);
            self.fb.switch_to_block(done);
            self.sets.push(Some(slot));
        }
        Ok(())
    }

    fn first_arm(&mut self, route: &Route, taken: Block, nowhere: Block) -> Emit<()> {
        for (number, arm) in route.arms.iter().enumerate() {
            let hit = self.fb.create_block();
            let next = self.fb.create_block();
            match &arm.when {
                Some(condition) => self.condition(condition, hit, next)?,
                None => {
                    self.fb.ins().jump(hit, &[]);
                }
            }
            self.fb.switch_to_block(hit);
            let number = self.int(number as i64);
            self.fb.ins().jump(taken, &[BlockArg::Value(number)]);
            self.fb.switch_to_block(next);
            if arm.when.is_none() {
                break;
            }
        }
        self.fb.ins().jump(nowhere, &[]);
        Ok(())
    }

    fn all_arms(&mut self, route: &Route, taken: Block, nowhere: Block) -> Emit<()> {
        let mut bits = self.int(0);
        for (number, arm) in route.arms.iter().enumerate() {
            let (hit, next) = (self.fb.create_block(), self.fb.create_block());
            let miss = self.fb.create_block();
            self.fb.append_block_param(next, I64);
            match &arm.when {
                Some(condition) => self.condition(condition, hit, miss)?,
                None => {
                    self.fb.ins().brif(bits, miss, &[], hit, &[]);
                }
            }
            self.fb.switch_to_block(miss);
            self.fb.ins().jump(next, &[BlockArg::Value(bits)]);
            self.fb.switch_to_block(hit);
            let bit = self.int(1 << number);
            let more = self.fb.ins().bor(bits, bit);
            self.fb.ins().jump(next, &[BlockArg::Value(more)]);
            self.fb.switch_to_block(next);
            bits = self.fb.block_params(next)[0];
        }
        self.fb.ins().brif(bits, taken, &[BlockArg::Value(bits)], nowhere, &[]);
        Ok(())
    }
}
