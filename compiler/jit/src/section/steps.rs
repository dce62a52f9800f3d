//! Statements and steps. What a step writes waits in [`super::emit::State`] and goes into the columns at its end,
//! so that a row can leave the step at any point and be what it was.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I8, I32, I64};
use cranelift_codegen::ir::{Block, BlockArg, InstBuilder, Value};
use flow_plan::ir::{Expr, ExtractGroup, OnMiss, Stmt};
use flow_plan::settings::RegexSetting;

use super::emit::{Emit, Emitter, State, flags};
use super::frame;
use super::regexes::Use;
use super::runtime;
use super::values::{Home, Kinds, NULL, TEXT, TIME, Val};
use crate::code::CodeError;

/// Whether statements have a native form; if not, why. `function`: those of a user's function.
pub fn accepts_statements(statements: &[Stmt], function: bool) -> Result<(), String> {
    let mut waiting: Vec<&Stmt> = statements.iter().collect();
    while let Some(statement) = waiting.pop() {
        match statement {
            Stmt::For { .. } => return Err("`for` loops are run by the reference".into()),
            Stmt::SetPath { .. } => {
                return Err("stores into lists and maps are done by the reference".into());
            }
            Stmt::RemoveHeaders { .. } => {
                return Err("headers are removed by name or pattern by the reference".into());
            }
            Stmt::Emit { .. } => return Err("further events are made by the reference".into()),
            Stmt::If { then, otherwise, .. } => waiting.extend(then.iter().chain(otherwise)),
            Stmt::SetHeader { .. }
            | Stmt::RemoveHeader { .. }
            | Stmt::SetBody { .. }
            | Stmt::SetTime { .. }
            | Stmt::Extract { .. }
            | Stmt::Pass
                if function =>
            {
                return Err("the function changes the event".into());
            }
            _ => {}
        }
    }
    Ok(())
}

/// What statements may assign.
#[derive(Default)]
struct Assigned {
    locals: Vec<u32>,
    headers: Vec<u32>,
    body: bool,
    time: bool,
}

impl Assigned {
    fn by(branches: &[&[Stmt]]) -> Assigned {
        let mut assigned = Assigned::default();
        let mut waiting: Vec<&Stmt> = branches.iter().copied().flatten().collect();
        while let Some(statement) = waiting.pop() {
            match statement {
                Stmt::Set { local, .. } => assigned.locals.push(*local),
                Stmt::SetHeader { slot, .. } | Stmt::RemoveHeader { slot } => assigned.headers.push(slot.0),
                Stmt::SetBody { .. } => assigned.body = true,
                Stmt::SetTime { .. } => assigned.time = true,
                Stmt::If { then, otherwise, .. } => waiting.extend(then.iter().chain(otherwise)),
                Stmt::Extract { groups, .. } => {
                    assigned.headers.extend(groups.iter().map(|group| group.slot.0));
                    assigned.locals.extend(groups.iter().map(|group| group.value_local));
                }
                _ => {}
            }
        }
        assigned.locals.sort_unstable();
        assigned.locals.dedup();
        assigned.headers.sort_unstable();
        assigned.headers.dedup();
        assigned
    }
}

impl Emitter<'_, '_, '_> {
    /// Whether the statements end on every path, so that nothing after them is reached.
    pub fn statements(&mut self, statements: &[Stmt]) -> Emit<bool> {
        for statement in statements {
            if self.statement(statement)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn statement(&mut self, statement: &Stmt) -> Emit<bool> {
        self.enter()?;
        let ended = self.statement_inside(statement);
        self.depth -= 1;
        ended
    }

    fn statement_inside(&mut self, statement: &Stmt) -> Emit<bool> {
        match statement {
            Stmt::Set { local, value } => {
                if let Some(view) = self.read_json(value)? {
                    self.state.views.insert(*local, view);
                    return Ok(false);
                }
                let value = self.value(value)?;
                self.state.views.remove(local);
                match self.state.locals.get_mut(*local as usize) {
                    Some(place) => *place = value,
                    None => return Err(CodeError::TooLarge("locals", self.state.locals.len())),
                }
            }
            Stmt::SetHeader { slot, value } => {
                let value = self.value(value)?;
                let text = self.text_or_null(value);
                self.state.headers.insert(slot.0, text);
            }
            Stmt::RemoveHeader { slot } => {
                let null = self.null();
                self.state.headers.insert(slot.0, null);
            }
            Stmt::SetBody { value } => {
                let value = self.value(value)?;
                let text = self.text_or_null(value);
                // The body cannot be null: the reference says so.
                self.state.body = Some(self.guard(text, Kinds::one(TEXT)));
            }
            Stmt::SetTime { value } => {
                let value = self.value(value)?;
                self.state.time = Some(self.guard(value, Kinds::one(TIME)).a);
            }
            Stmt::If { condition, then, otherwise } => return self.branch(condition, then, otherwise),
            Stmt::Extract { subject, regex, groups, on_miss, .. } => {
                self.extract(subject, regex, groups, *on_miss)?;
            }
            Stmt::Drop => {
                let exit = if self.returns.is_some() { self.exits.bail } else { self.exits.drop };
                self.fb.ins().jump(exit, &[]);
                return Ok(true);
            }
            Stmt::Pass => {
                self.finish_step()?;
                return Ok(true);
            }
            Stmt::Fail { .. } => {
                // The reference has the message.
                self.fb.ins().jump(self.exits.bail, &[]);
                return Ok(true);
            }
            Stmt::Return { value } => {
                match self.returns {
                    Some(returns) => {
                        let value = match value {
                            Some(value) => self.value(value)?,
                            None => self.null(),
                        };
                        self.jump_with(returns, value);
                    }
                    None => {
                        if let Some(value) = value {
                            self.value(value)?;
                        }
                        self.finish_step()?;
                    }
                }
                return Ok(true);
            }
            Stmt::Expr { value } => {
                self.value(value)?;
            }
            Stmt::For { .. } | Stmt::SetPath { .. } | Stmt::RemoveHeaders { .. } | Stmt::Emit { .. } => {
                return Err(CodeError::Refused("a step".into(), "a statement without native form".into()));
            }
        }
        Ok(false)
    }

    fn branch(&mut self, condition: &Expr, then: &[Stmt], otherwise: &[Stmt]) -> Emit<bool> {
        let (yes, no) = (self.fb.create_block(), self.fb.create_block());
        let assigned = Assigned::by(&[then, otherwise]);
        // What only one branch may set has its value on the other one too.
        for slot in &assigned.headers {
            let value = self.header(flow_plan::Slot(*slot));
            self.state.headers.insert(*slot, value);
        }
        if assigned.body {
            self.state.body = Some(self.body());
        }
        if assigned.time {
            self.state.time = Some(self.time());
        }
        self.condition(condition, yes, no)?;
        let before = self.state.clone();
        let join = self.fb.create_block();
        for _ in 0..assigned.locals.len() + assigned.headers.len() + usize::from(assigned.body) {
            for ty in [I8, I64, I64] {
                self.fb.append_block_param(join, ty);
            }
        }
        if assigned.time {
            self.fb.append_block_param(join, I64);
        }
        let mut kinds: Option<Vec<Kinds>> = None;
        for (block, statements) in [(yes, then), (no, otherwise)] {
            self.fb.switch_to_block(block);
            self.state = before.clone();
            if self.statements(statements)? {
                continue;
            }
            let values = self.assigned_values(&assigned);
            let mut args = Vec::new();
            for value in &values {
                args.extend([value.tag, value.a, value.b].map(BlockArg::Value));
            }
            if let (true, Some(time)) = (assigned.time, self.state.time) {
                args.push(BlockArg::Value(time));
            }
            self.fb.ins().jump(join, &args);
            kinds = Some(match kinds {
                None => values.iter().map(|value| value.kinds).collect(),
                Some(kinds) => {
                    kinds.iter().zip(&values).map(|(kinds, value)| kinds.or(value.kinds)).collect()
                }
            });
        }
        self.state = before;
        let Some(kinds) = kinds else { return Ok(true) };
        self.fb.switch_to_block(join);
        let params = self.fb.block_params(join).to_vec();
        let mut joined = kinds.iter().zip(params.chunks(3)).map(|(kinds, words)| Val {
            kinds: *kinds,
            tag: words[0],
            a: words[1],
            b: words[2],
            home: Home::Unknown,
            range: None,
        });
        let State { locals, views, headers, body, time } = &mut self.state;
        for local in &assigned.locals {
            views.remove(local);
            if let (Some(place), Some(value)) = (locals.get_mut(*local as usize), joined.next()) {
                *place = value;
            }
        }
        for slot in &assigned.headers {
            if let Some(value) = joined.next() {
                headers.insert(*slot, value);
            }
        }
        if assigned.body {
            *body = joined.next();
        }
        if assigned.time {
            *time = params.last().copied();
        }
        Ok(false)
    }

    /// In the order of `branch`.
    fn assigned_values(&mut self, assigned: &Assigned) -> Vec<Val> {
        let null = self.null();
        let mut locals = Vec::with_capacity(assigned.locals.len());
        for local in &assigned.locals {
            locals.push(self.local(*local).unwrap_or(null));
        }
        let state = &self.state;
        let headers = assigned.headers.iter().map(|slot| state.headers.get(slot).copied().unwrap_or(null));
        let body = assigned.body.then(|| state.body.unwrap_or(null));
        locals.into_iter().chain(headers).chain(body).collect()
    }

    fn extract(
        &mut self,
        subject: &Expr,
        regex: &RegexSetting,
        groups: &[ExtractGroup],
        on_miss: OnMiss,
    ) -> Emit<()> {
        let regexes = self.regexes;
        let known = match regexes.find(regex, &Use::of(groups), subject) {
            Ok(known) => known,
            Err(why) => return Err(CodeError::Refused(format!("/{}/", regex.pattern), why.to_owned())),
        };
        let Some(matcher) = known.matcher else {
            return Err(CodeError::Refused(format!("/{}/", regex.pattern), "it has no automaton".into()));
        };
        let subject = self.value(subject)?;
        let subject = self.guard(subject, Kinds::TEXT_OR_NULL);
        let missed = self.fb.create_block();
        if subject.kinds.has(NULL) {
            let null = self.has_tag(subject, NULL);
            self.leave_if(null, missed);
        }
        let places = self.stack(known.slots * 4);
        let address = self.fb.ins().stack_addr(I64, places, 0);
        let status = self.search(matcher, subject, address);
        let found = self.fb.create_block();
        self.fb.ins().brif(status, found, &[], missed, &[]);
        self.fb.switch_to_block(missed);
        match on_miss {
            OnMiss::Drop => {
                self.fb.ins().jump(self.exits.drop, &[]);
            }
            OnMiss::Fail => {
                self.fb.ins().jump(self.exits.bail, &[]);
            }
            OnMiss::Pass => {
                let before = self.state.clone();
                self.finish_step()?;
                self.state = before;
            }
        }
        self.fb.switch_to_block(found);
        for group in groups {
            let Some(place) = known.groups.iter().find(|place| place.name == group.group) else { continue };
            let offset = place.number as i32 * 8;
            if place.always && group.convert.is_none() {
                let text = self.group(places, offset, subject);
                self.state.headers.insert(group.slot.0, text);
                continue;
            }
            let before = self.header(group.slot);
            let start = self.fb.ins().stack_load(I64, I32, places, offset);
            let absent = self.fb.ins().icmp_imm_s(IntCC::Equal, start, i64::from(-1i32));
            let (there, join) = (self.fb.create_block(), self.join_block());
            let kept = [before.tag, before.a, before.b].map(BlockArg::Value);
            self.fb.ins().brif(absent, join, &kept, there, &[]);
            self.fb.switch_to_block(there);
            let mut value = self.group(places, offset, subject);
            if let Some(convert) = &group.convert {
                self.state.views.remove(&group.value_local);
                if let Some(local) = self.state.locals.get_mut(group.value_local as usize) {
                    *local = value;
                }
                let converted = self.value(convert)?;
                value = self.text_or_null(converted);
            }
            let kinds = before.kinds.or(value.kinds);
            self.jump_with(join, value);
            let joined = self.joined(join, kinds);
            self.state.headers.insert(group.slot.0, joined);
        }
        // What it holds is gone on the paths where the group took no part.
        let null = self.null();
        for group in groups.iter().filter(|group| group.convert.is_some()) {
            if let Some(local) = self.state.locals.get_mut(group.value_local as usize) {
                *local = null;
            }
        }
        Ok(())
    }

    /// The text of a group that took part, from where the automaton has put its ends.
    fn group(&mut self, places: cranelift_codegen::ir::StackSlot, offset: i32, subject: Val) -> Val {
        let start = self.fb.ins().stack_load(I64, I32, places, offset);
        let end = self.fb.ins().stack_load(I64, I32, places, offset + 4);
        let len = self.fb.ins().isub(end, start);
        let (start, len) = (self.fb.ins().uextend(I64, start), self.fb.ins().uextend(I64, len));
        match subject.range {
            Some(_) => {
                let high = self.fb.ins().ishl_imm_s(len, 32);
                let range = self.fb.ins().bor(start, high);
                let address = self.fb.ins().iadd(self.base, start);
                let mut text = self.text(address, len, Home::Arena);
                text.range = Some(range);
                text
            }
            None => {
                let address = self.fb.ins().iadd(subject.a, start);
                self.text(address, len, Home::Unknown)
            }
        }
    }

    /// Writes what the step has set, and goes on to the next one.
    pub fn finish_step(&mut self) -> Emit<()> {
        let headers: Vec<(u32, Val)> =
            self.state.headers.iter().map(|(slot, value)| (*slot, *value)).collect();
        let mut stores: Vec<(Value, Value)> = Vec::new();
        let mut ranges = Vec::with_capacity(headers.len());
        for (_, value) in &headers {
            ranges.push(self.stored_range(*value));
        }
        let body = self.state.body.map(|body| self.stored_range(body));
        for ((slot, _), range) in headers.iter().zip(ranges) {
            let column = self.header_column(*slot);
            stores.push((column, range));
        }
        if let Some(range) = body {
            let bodies = self.load(frame::BODIES);
            stores.push((bodies, range));
        }
        if let Some(time) = self.state.time {
            let times = self.load(frame::TIMES);
            stores.push((times, time));
        }
        for (column, word) in stores {
            self.set_range_at(column, word);
        }
        let next = self.next;
        self.fb.ins().jump(next, &[]);
        Ok(())
    }

    /// Where a text or null is, or is put, in the arena: a range in one word.
    fn stored_range(&mut self, value: Val) -> Value {
        let absent = self.int(0xffff_ffff);
        if value.kinds.is(NULL) {
            return absent;
        }
        if let (Some(range), true) = (value.range, value.kinds.is(TEXT)) {
            return range;
        }
        if let (Home::Constant(number), true) = (value.home, value.kinds.is(TEXT)) {
            let constants = self.load(frame::CONSTANTS);
            return self.fb.ins().load(I64, flags(), constants, number as i32 * 8);
        }
        let join = self.fb.create_block();
        self.fb.append_block_param(join, I64);
        if value.kinds.has(NULL) {
            let null = self.has_tag(value, NULL);
            let text = self.fb.create_block();
            self.fb.ins().brif(null, join, &[BlockArg::Value(absent)], text, &[]);
            self.fb.switch_to_block(text);
        }
        // A piece of the arena stays where it is. An empty text may be anywhere.
        let base = self.load(frame::BASE);
        let arena_len = self.load(frame::ARENA_LEN);
        let offset = self.fb.ins().isub(value.a, base);
        let after = self.fb.ins().iadd(offset, value.b);
        let starts = self.fb.ins().icmp(IntCC::UnsignedLessThanOrEqual, offset, arena_len);
        let ends = self.fb.ins().icmp(IntCC::UnsignedLessThanOrEqual, after, arena_len);
        let inside = self.fb.ins().band(starts, ends);
        let high = self.fb.ins().ishl_imm_s(value.b, 32);
        let range = self.fb.ins().bor(offset, high);
        let outside = self.fb.create_block();
        self.fb.ins().brif(inside, join, &[BlockArg::Value(range)], outside, &[]);
        self.fb.switch_to_block(outside);
        let range = self.call(runtime::append as *const u8, &[self.frame, value.a, value.b]);
        let full = self.fb.ins().icmp_imm_s(IntCC::Equal, range, runtime::FULL as i64);
        self.leave_if(full, self.exits.bail);
        self.fb.ins().jump(join, &[BlockArg::Value(range)]);
        self.fb.switch_to_block(join);
        self.fb.block_params(join)[0]
    }

    /// A step: on to `next` with its writes done, or to `gone` when the row is dropped or fails.
    pub fn step(
        &mut self,
        number: usize,
        locals: u32,
        body: &[Stmt],
        next: Block,
        gone: Block,
        stop: Block,
    ) -> Emit<()> {
        self.base = self.load(frame::BASE);
        let null = self.null();
        self.state = State { locals: vec![null; locals as usize], ..State::default() };
        let (bail, drop) = (self.fb.create_block(), self.fb.create_block());
        self.exits = super::emit::Exits { bail, fails: bail, drop };
        self.next = next;
        if !self.statements(body)? {
            self.finish_step()?;
        }
        self.fb.switch_to_block(drop);
        self.count_dropped(number);
        self.fb.ins().jump(gone, &[]);
        self.fb.set_cold_block(bail);
        self.fb.switch_to_block(bail);
        let step = self.int(number as i64);
        let fate = self.call(runtime::bail_step as *const u8, &[self.frame, step, self.row]);
        let left = self.fb.create_block();
        self.fb.ins().brif(fate, left, &[], next, &[]);
        self.fb.switch_to_block(left);
        let stopped = self.fb.ins().icmp_imm_s(IntCC::Equal, fate, runtime::STOP as i64);
        self.fb.ins().brif(stopped, stop, &[], gone, &[]);
        Ok(())
    }

    pub fn count_dropped(&mut self, part: usize) {
        let counters = self.load(frame::DROPPED);
        let count = self.fb.ins().load(I64, flags(), counters, part as i32 * 8);
        let count = self.fb.ins().iadd_imm_s(count, 1);
        self.fb.ins().store(flags(), count, counters, part as i32 * 8);
    }
}
