//! One function for one automaton: a block for each state, whose only parameter is the position, so that the
//! program counter is the state. What is kept in memory (registers, what was found) is laid out here as well.

use std::collections::HashMap;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I8X16, I32, I64};
use cranelift_codegen::ir::{
    Block, BlockArg, InstBuilder, MemFlagsData, StackSlot, StackSlotData, StackSlotKind, Type, Value,
};
use cranelift_frontend::FunctionBuilder;

use super::branch::{Cases, emit_branch};
use super::class::{emit_class, emit_equal};
use super::shape::{self, Element, Exits, Probe, is_plain, step};
use super::{Loops, MATCH, NO_MATCH, Options, QUITS};
use crate::automaton::{Automaton, ByteSet, DEAD, END, Kind, QUIT, Source};
use crate::code::{CodeError, Scope};
use crate::kernels::{Bitmaps, CLASSES_MAX};

/// Bytes that one test of a self-loop looks at.
const WINDOW: i64 = 16;
/// Bits that a load of a bitmap is sure to hold are 57 to 64: the next load begins at the byte behind it.
const BITMAP_STEP: i64 = 64;

/// What the function was given.
#[derive(Clone, Copy)]
pub(super) struct Args {
    pub base: Value,
    pub end: Value,
    pub slots: Value,
    pub bitmaps: Value,
}

/// Where a register lives.
#[derive(Clone, Copy)]
enum Home {
    /// In the slot of the result where it will be wanted.
    Slot(u16),
    /// In working memory.
    Work(u16),
}

pub(super) struct Emitter<'a> {
    automaton: &'a Automaton,
    options: &'a Options,
    classes: &'a mut Vec<ByteSet>,
    args: Args,
    states: Vec<Block>,
    /// Blocks of transitions that do something, by transition; their parameter is the position.
    edges: HashMap<u32, Block>,
    /// The same for the end of the text.
    ends: HashMap<u32, Block>,
    pending: Vec<(u32, bool, Block)>,
    homes: Vec<Home>,
    work: Option<StackSlot>,
    /// Whether anything was accepted, where that does not end the search.
    found: Option<StackSlot>,
    yes: Block,
    no: Block,
    quit: Block,
}

/// Loads and stores of text, slots and bitmaps: they cannot fault, and nothing is known of their alignment.
fn memory() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

/// Emits the whole function into `b`, which has no block yet.
pub(super) fn emit_function(
    b: &mut FunctionBuilder<'_>,
    scope: &mut Scope<'_>,
    automaton: &Automaton,
    options: &Options,
    classes: &mut Vec<ByteSet>,
) -> Result<(), CodeError> {
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    let params = b.block_params(entry).to_vec();
    let [base, start, end, slots, bitmaps] = params[..] else {
        return Err(CodeError::Refused("matcher".into(), "it has another signature".into()));
    };
    let args = Args { base, end, slots, bitmaps };
    let mut emitter = Emitter::new(b, automaton, options, classes, args);
    emitter.emit_entry(b, start);
    for state in 0..automaton.states.len() as u32 {
        emitter.emit_state(b, scope, state);
        if b.func.dfg.num_insts() > options.instructions_max {
            return Err(CodeError::TooLarge("instructions", options.instructions_max));
        }
    }
    while let Some((index, at_end, block)) = emitter.pending.pop() {
        b.switch_to_block(block);
        let position = b.block_params(block)[0];
        emitter.emit_transition(b, index, at_end, position);
    }
    emitter.emit_returns(b);
    Ok(())
}

impl<'a> Emitter<'a> {
    fn new(
        b: &mut FunctionBuilder<'_>,
        automaton: &'a Automaton,
        options: &'a Options,
        classes: &'a mut Vec<ByteSet>,
        args: Args,
    ) -> Emitter<'a> {
        let states = automaton.states.iter().map(|_| block_with(b, I64)).collect();
        let goes_on = goes_on_after_accept(automaton);
        let (homes, work) = place_registers(automaton, !goes_on);
        let room = |bytes: u32| StackSlotData::new(StackSlotKind::ExplicitSlot, bytes, 3);
        let work = (work > 0).then(|| b.create_sized_stack_slot(room(4 * u32::from(work))));
        let keeps_found = automaton.kind != Kind::Bool && goes_on;
        let found = keeps_found.then(|| b.create_sized_stack_slot(room(8)));
        let (yes, no, quit) = (b.create_block(), b.create_block(), b.create_block());
        Emitter {
            automaton,
            options,
            classes,
            args,
            states,
            edges: HashMap::new(),
            ends: HashMap::new(),
            pending: Vec::new(),
            homes,
            work,
            found,
            yes,
            no,
            quit,
        }
    }

    fn emit_entry(&mut self, b: &mut FunctionBuilder<'_>, start: Value) {
        let zero = b.ins().iconst(I32, 0);
        if self.automaton.kind == Kind::Set {
            for word in 0..self.automaton.patterns.div_ceil(32) {
                b.ins().store(memory(), zero, self.args.slots, 4 * word as i32);
            }
        }
        if let Some(found) = self.found {
            let no = b.ins().iconst(I64, NO_MATCH as i64);
            b.ins().stack_store(I64, no, found, 0);
        }
        let none = b.ins().iconst(I32, i64::from(u32::MAX));
        let unset = shape::registers_read_unset(self.automaton);
        for register in (0..).zip(unset).filter_map(|(register, read)| read.then_some(register)) {
            self.store_register(b, register, none);
        }
        b.ins().jump(self.states[self.automaton.start as usize], &[BlockArg::Value(start)]);
    }

    fn emit_returns(&mut self, b: &mut FunctionBuilder<'_>) {
        for (block, value) in [(self.yes, MATCH), (self.no, NO_MATCH), (self.quit, QUITS)] {
            b.switch_to_block(block);
            let value = match self.found {
                Some(found) if block == self.no => b.ins().stack_load(I64, I64, found, 0),
                _ => b.ins().iconst(I64, value as i64),
            };
            b.ins().return_(&[value]);
        }
        b.set_cold_block(self.quit);
    }

    fn emit_state(&mut self, b: &mut FunctionBuilder<'_>, scope: &mut Scope<'_>, state: u32) {
        let block = self.states[state as usize];
        b.switch_to_block(block);
        let mut position = b.block_params(block)[0];
        let mut possible = ByteSet::ALL;
        if self.options.loops != Loops::Bytewise
            && let Some(self_loop) = shape::self_loop(self.automaton, state, self.options.loop_bytes_min)
        {
            let exits = shape::exits(self.automaton, state, &self_loop);
            // Where the first byte was not tested, any byte can be there.
            if exits.literals.iter().all(|literal| literal.places[0].0 == 0) {
                possible = self_loop.bytes.complement();
            }
            let entered = position;
            position = self.emit_loop(b, position, &exits);
            if let Some(effect) = self_loop.effect {
                position = self.emit_loop_effect(b, effect, entered, position);
            }
        }
        let (at_end, inside) = (self.end_of(b, state), b.create_block());
        let over = b.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, position, self.args.end);
        b.ins().brif(over, at_end, &[BlockArg::Value(self.args.end)], inside, &[]);
        b.switch_to_block(inside);
        if possible.is_empty() {
            // It stays in itself on every byte, so there is none left; the end was reached above.
            b.ins().jump(at_end, &[BlockArg::Value(self.args.end)]);
            return;
        }
        if self.options.probes
            && let Some(probe) = shape::probe(self.automaton, state)
        {
            self.emit_probe(b, position, &probe);
        }
        let address = b.ins().iadd(self.args.base, position);
        let byte = b.ins().uload8(I32, memory(), address, 0);
        let automaton = self.automaton;
        let cases: [u32; 256] = std::array::from_fn(|byte| automaton.states[state as usize][byte]);
        let rare = |index: u32| {
            let transition = &automaton.transitions[index as usize];
            transition.target >= QUIT && transition.accept.is_none()
        };
        let cases = Cases { cases: &cases, possible, rare: &rare };
        emit_branch(b, scope, byte, &cases, &mut |b, index| self.destination(b, index, position));
    }

    /// Where a transition on the byte at `position` leads.
    fn destination(
        &mut self,
        b: &mut FunctionBuilder<'_>,
        index: u32,
        position: Value,
    ) -> (Block, Vec<BlockArg>) {
        let transition = &self.automaton.transitions[index as usize];
        if is_plain(transition) {
            let next = b.ins().iadd_imm_s(position, 1);
            return (self.states[transition.target as usize], vec![BlockArg::Value(next)]);
        }
        if transition.target == QUIT {
            return (self.quit, Vec::new());
        }
        if transition.target == DEAD && transition.accept.is_none() {
            return (self.no, Vec::new());
        }
        if self.automaton.kind == Kind::Bool && transition.accept.is_some() {
            return (self.yes, Vec::new());
        }
        let pending = &mut self.pending;
        let block = *self.edges.entry(index).or_insert_with(|| {
            let block = block_with(b, I64);
            pending.push((index, false, block));
            block
        });
        (block, vec![BlockArg::Value(position)])
    }

    /// The block for the end of the text in a state.
    fn end_of(&mut self, b: &mut FunctionBuilder<'_>, state: u32) -> Block {
        let index = step(self.automaton, state, END).0;
        let pending = &mut self.pending;
        *self.ends.entry(index).or_insert_with(|| {
            let block = block_with(b, I64);
            pending.push((index, true, block));
            block
        })
    }

    fn emit_transition(&mut self, b: &mut FunctionBuilder<'_>, index: u32, at_end: bool, position: Value) {
        let automaton = self.automaton;
        let transition = &automaton.transitions[index as usize];
        if transition.target == QUIT {
            b.ins().jump(self.quit, &[]);
            return;
        }
        let accepts = transition.accept.is_some();
        if automaton.kind == Kind::Bool && accepts {
            b.ins().jump(self.yes, &[]);
            return;
        }
        self.emit_accept(b, index, position);
        if at_end || transition.target == DEAD {
            b.ins().jump(if accepts { self.yes } else { self.no }, &[]);
            return;
        }
        self.emit_assign(b, index, position);
        let next = b.ins().iadd_imm_s(position, 1);
        b.ins().jump(self.states[transition.target as usize], &[BlockArg::Value(next)]);
    }

    fn emit_accept(&mut self, b: &mut FunctionBuilder<'_>, index: u32, position: Value) {
        let automaton = self.automaton;
        let Some(accept) = &automaton.transitions[index as usize].accept else { return };
        if let Some(found) = self.found {
            let yes = b.ins().iconst(I64, MATCH as i64);
            b.ins().stack_store(I64, yes, found, 0);
        }
        if automaton.kind == Kind::Set {
            for (word, bits) in words_of(&accept.patterns) {
                let before = b.ins().load(I32, memory(), self.args.slots, 4 * word);
                let bits = b.ins().iconst(I32, i64::from(bits));
                let after = b.ins().bor(before, bits);
                b.ins().store(memory(), after, self.args.slots, 4 * word);
            }
            return;
        }
        // All are read before any is written: registers may live in the slots.
        let mut writes = Vec::new();
        for (slot, source) in &accept.slots {
            let value = match source {
                Some(Source::Register(register)) => match self.homes[usize::from(*register)] {
                    Home::Slot(home) if home == *slot => continue,
                    _ => self.load_register(b, *register),
                },
                Some(Source::Position) => b.ins().ireduce(I32, position),
                None => b.ins().iconst(I32, i64::from(u32::MAX)),
            };
            writes.push((*slot, value));
        }
        for (slot, value) in writes {
            b.ins().store(memory(), value, self.args.slots, 4 * i32::from(slot));
        }
    }

    fn emit_assign(&mut self, b: &mut FunctionBuilder<'_>, index: u32, position: Value) {
        let mut writes = Vec::new();
        for (register, source) in &self.automaton.transitions[index as usize].assign {
            let value = match source {
                Source::Position => b.ins().ireduce(I32, position),
                Source::Register(source) => self.load_register(b, *source),
            };
            writes.push((*register, value));
        }
        for (register, value) in writes {
            self.store_register(b, register, value);
        }
    }

    fn load_register(&self, b: &mut FunctionBuilder<'_>, register: u16) -> Value {
        match (self.homes[usize::from(register)], self.work) {
            (Home::Work(place), Some(work)) => b.ins().stack_load(I64, I32, work, 4 * i32::from(place)),
            (Home::Work(slot) | Home::Slot(slot), _) => {
                b.ins().load(I32, memory(), self.args.slots, 4 * i32::from(slot))
            }
        }
    }

    fn store_register(&self, b: &mut FunctionBuilder<'_>, register: u16, value: Value) {
        match (self.homes[usize::from(register)], self.work) {
            (Home::Work(place), Some(work)) => {
                b.ins().stack_store(I64, value, work, 4 * i32::from(place));
            }
            (Home::Work(slot) | Home::Slot(slot), _) => {
                b.ins().store(memory(), value, self.args.slots, 4 * i32::from(slot));
            }
        }
    }

    /// Skips the bytes of a self-loop. The position it gives may lie behind the end, where the padding is read.
    fn emit_loop(&mut self, b: &mut FunctionBuilder<'_>, entered: Value, exits: &Exits) -> Value {
        let head = block_with(b, I64);
        let (more, left) = (b.create_block(), block_with(b, I64));
        b.ins().jump(head, &[BlockArg::Value(entered)]);
        b.switch_to_block(head);
        let position = b.block_params(head)[0];
        let bitmap = match self.options.loops {
            Loops::Bitmaps if exits.literals.is_empty() => self.class_number(exits.bytes),
            _ => None,
        };
        let (bits, next) = match bitmap {
            Some(class) => self.emit_bitmap_window(b, position, class),
            None => self.emit_window(b, position, exits),
        };
        let place = b.ins().ctz(bits);
        let place = if b.func.dfg.value_type(place) == I64 { place } else { b.ins().uextend(I64, place) };
        let exit = b.ins().iadd(position, place);
        b.ins().brif(bits, left, &[BlockArg::Value(exit)], more, &[]);
        b.switch_to_block(more);
        let next = next(b);
        let inside = b.ins().icmp(IntCC::UnsignedLessThan, next, self.args.end);
        b.ins().brif(inside, head, &[BlockArg::Value(next)], left, &[BlockArg::Value(self.args.end)]);
        b.switch_to_block(left);
        b.block_params(left)[0]
    }

    /// Bits of the exits among 16 bytes of text, and the position of the next window.
    fn emit_window(
        &mut self,
        b: &mut FunctionBuilder<'_>,
        position: Value,
        exits: &Exits,
    ) -> (Value, NextWindow) {
        let address = b.ins().iadd(self.args.base, position);
        let mut windows: HashMap<usize, Value> = HashMap::new();
        let mut literals = None;
        for literal in &exits.literals {
            let mut all = None;
            for (place, bytes) in &literal.places {
                let window = *windows
                    .entry(*place)
                    .or_insert_with(|| b.ins().load(I8X16, memory(), address, *place as i32));
                let equal = emit_equal(b, window, *bytes);
                all = Some(all.map_or(equal, |all| b.ins().band(all, equal)));
            }
            literals = match (literals, all) {
                (Some(literals), Some(all)) => Some(b.ins().bor(literals, all)),
                (literals, all) => literals.or(all),
            };
        }
        let mut class = |b: &mut FunctionBuilder<'_>| {
            let window = *windows.entry(0).or_insert_with(|| b.ins().load(I8X16, memory(), address, 0));
            emit_class(b, window, exits.bytes)
        };
        let bits = match literals {
            Some(literals) if exits.bytes.is_empty() => b.ins().vhigh_bits(I32, literals),
            Some(literals) => {
                let class = class(b);
                class.or(b, literals).bits(b)
            }
            None => class(b).bits(b),
        };
        (bits, Box::new(move |b| b.ins().iadd_imm_s(position, WINDOW)))
    }

    /// The same from the bitmap of a class: at least the next 57 bytes.
    fn emit_bitmap_window(
        &mut self,
        b: &mut FunctionBuilder<'_>,
        position: Value,
        class: usize,
    ) -> (Value, NextWindow) {
        let offset = Bitmaps::offset_of_class(class) as i32;
        // Nobody changes the address during a search.
        let bitmap = b.ins().load(I64, memory().with_readonly(), self.args.bitmaps, offset);
        let byte = b.ins().ushr_imm_u(position, 3);
        let address = b.ins().iadd(bitmap, byte);
        let word = b.ins().load(I64, memory(), address, 0);
        let shift = b.ins().band_imm_s(position, 7);
        let bits = b.ins().ushr(word, shift);
        let next = move |b: &mut FunctionBuilder<'_>| {
            let first = b.ins().band_imm_s(position, !7);
            b.ins().iadd_imm_s(first, BITMAP_STEP)
        };
        (bits, Box::new(next))
    }

    /// The number of the bitmap of a class, if there is room for one more.
    fn class_number(&mut self, class: ByteSet) -> Option<usize> {
        if let Some(number) = self.classes.iter().position(|other| *other == class) {
            return Some(number);
        }
        if self.classes.len() == CLASSES_MAX {
            return None;
        }
        self.classes.push(class);
        Some(self.classes.len() - 1)
    }

    /// What the loop does for its last byte, if it took any; gives the position, not behind the end any more.
    fn emit_loop_effect(
        &mut self,
        b: &mut FunctionBuilder<'_>,
        effect: u32,
        entered: Value,
        position: Value,
    ) -> Value {
        let position = b.ins().umin(position, self.args.end);
        let (moved, next) = (b.create_block(), b.create_block());
        let some = b.ins().icmp(IntCC::NotEqual, position, entered);
        b.ins().brif(some, moved, &[], next, &[]);
        b.switch_to_block(moved);
        let last = b.ins().iadd_imm_s(position, -1);
        self.emit_accept(b, effect, last);
        self.emit_assign(b, effect, last);
        b.ins().jump(next, &[]);
        b.switch_to_block(next);
        position
    }

    /// Compares the next bytes as one word and, if they are all as expected, goes on behind them.
    fn emit_probe(&mut self, b: &mut FunctionBuilder<'_>, position: Value, probe: &Probe) {
        let ty = if probe.elements.len() <= 4 { I32 } else { I64 };
        let address = b.ins().iadd(self.args.base, position);
        let word = b.ins().load(ty, memory(), address, 0);
        let next = b.ins().iadd_imm_s(position, probe.elements.len() as i64);
        let fits = b.ins().icmp(IntCC::UnsignedLessThanOrEqual, next, self.args.end);
        let matches = emit_expected(b, ty, word, &probe.elements);
        let both = b.ins().band(fits, matches);
        let (hit, miss) = (b.create_block(), b.create_block());
        b.ins().brif(both, hit, &[], miss, &[]);
        b.switch_to_block(hit);
        for (place, register) in &probe.assign {
            let value = b.ins().iadd_imm_s(position, *place as i64);
            let value = b.ins().ireduce(I32, value);
            self.store_register(b, *register, value);
        }
        b.ins().jump(self.states[probe.target as usize], &[BlockArg::Value(next)]);
        b.switch_to_block(miss);
    }
}

/// Computes the position of the next window in the block where it is needed.
type NextWindow = Box<dyn FnOnce(&mut FunctionBuilder<'_>) -> Value>;

/// Whether the bytes of `word` are as expected. A byte is a digit if its upper half is 3 and remains so when 6 is
/// added; a sum cannot carry into the next byte unless the first of these is false already.
fn emit_expected(b: &mut FunctionBuilder<'_>, ty: Type, word: Value, elements: &[Element]) -> Value {
    let (mut expected, mut mask, mut digits) = (0u64, 0u64, 0u64);
    for (place, element) in elements.iter().enumerate() {
        let shift = 8 * place;
        match element {
            Element::Byte(byte) => {
                expected |= u64::from(*byte) << shift;
                mask |= 0xff << shift;
            }
            Element::Digit => {
                expected |= 0x30 << shift;
                mask |= 0xf0 << shift;
                digits |= 0xff << shift;
            }
        }
    }
    let constant = |b: &mut FunctionBuilder<'_>, value: u64| b.ins().iconst(ty, value as i64);
    let full = if ty == I32 { u64::from(u32::MAX) } else { u64::MAX };
    let masked = if mask == full {
        word
    } else {
        let mask = constant(b, mask);
        b.ins().band(word, mask)
    };
    let wanted = constant(b, expected);
    let matches = b.ins().icmp(IntCC::Equal, masked, wanted);
    if digits == 0 {
        return matches;
    }
    let six = constant(b, digits & 0x0606_0606_0606_0606);
    let sum = b.ins().iadd(word, six);
    let upper = constant(b, digits & 0xf0f0_f0f0_f0f0_f0f0);
    let sum = b.ins().band(sum, upper);
    let three = constant(b, digits & 0x3030_3030_3030_3030);
    let in_range = b.ins().icmp(IntCC::Equal, sum, three);
    b.ins().band(matches, in_range)
}

fn block_with(b: &mut FunctionBuilder<'_>, ty: Type) -> Block {
    let block = b.create_block();
    b.append_block_param(block, ty);
    block
}

/// Whether a search can go on after it accepted something.
fn goes_on_after_accept(automaton: &Automaton) -> bool {
    automaton.transitions.iter().any(|transition| transition.accept.is_some() && transition.target < QUIT)
}

/// Gives every register a home and says how many need working memory. When an accept ends the search (`shared`), a
/// register lives in the slot to which accepts copy it most often, so that most copies are none.
fn place_registers(automaton: &Automaton, shared: bool) -> (Vec<Home>, u16) {
    let mut homes = vec![None; automaton.registers];
    if shared && automaton.kind == Kind::Captures {
        let mut votes: HashMap<(u16, u16), usize> = HashMap::new();
        for accept in automaton.transitions.iter().filter_map(|transition| transition.accept.as_ref()) {
            for (slot, source) in &accept.slots {
                if let Some(Source::Register(register)) = source {
                    *votes.entry((*register, *slot)).or_default() += 1;
                }
            }
        }
        let mut votes: Vec<_> = votes.into_iter().collect();
        votes.sort_by_key(|(pair, count)| (std::cmp::Reverse(*count), *pair));
        let mut taken = vec![false; automaton.slots];
        for ((register, slot), _) in votes {
            let (home, taken) = (&mut homes[usize::from(register)], &mut taken[usize::from(slot)]);
            if home.is_none() && !*taken {
                *home = Some(Home::Slot(slot));
                *taken = true;
            }
        }
    }
    let mut work = 0;
    let homes = homes.into_iter().map(|home| {
        home.unwrap_or_else(|| {
            work += 1;
            Home::Work(work - 1)
        })
    });
    (homes.collect(), work)
}

/// The bits of patterns by word.
fn words_of(patterns: &[u32]) -> Vec<(i32, u32)> {
    let mut words: Vec<(i32, u32)> = Vec::new();
    for pattern in patterns {
        let (word, bit) = ((pattern / 32) as i32, 1 << (pattern % 32));
        match words.last_mut() {
            Some((last, bits)) if *last == word => *bits |= bit,
            _ => words.push((word, bit)),
        }
    }
    words
}
