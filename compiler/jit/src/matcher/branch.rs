//! Branches on the value of a byte: comparisons in the order of how often they decide, or a table. Must not know
//! what the destinations are.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I32, I64};
use cranelift_codegen::ir::{Block, BlockArg, InstBuilder, JumpTableData, MemFlagsData, Value};
use cranelift_frontend::FunctionBuilder;

use super::weights::weight;
use crate::automaton::ByteSet;
use crate::code::Scope;

/// More comparisons in a row are replaced by a table.
const TESTS_MAX: usize = 7;
/// More destinations behind a table are reached by a jump table.
const LADDER_MAX: usize = 4;

/// Where a byte leads: a block and its arguments.
pub(super) type Destination = (Block, Vec<BlockArg>);

/// What is known about the byte.
pub(super) struct Cases<'a> {
    /// By byte: which case it is; any numbers.
    pub cases: &'a [u32; 256],
    /// Bytes that can be there at all. Not empty.
    pub possible: ByteSet,
    /// Cases that end everything: rarely taken.
    pub rare: &'a dyn Fn(u32) -> bool,
}

/// A test and the case that it decides.
struct Test {
    first: u8,
    last: u8,
    /// Whether all possible bytes from `first` on, or up to `last`, are meant.
    open: Open,
    case: u32,
}

#[derive(PartialEq)]
enum Open {
    No,
    Below,
    Above,
}

/// Ends the current block with a branch on `byte` (I32).
pub(super) fn emit_branch(
    b: &mut FunctionBuilder<'_>,
    scope: &mut Scope<'_>,
    byte: Value,
    cases: &Cases<'_>,
    destination: &mut dyn FnMut(&mut FunctionBuilder<'_>, u32) -> Destination,
) {
    let (tests, last) = plan_tests(cases);
    if tests.len() > TESTS_MAX {
        return emit_table(b, scope, byte, cases, destination);
    }
    for test in tests {
        let holds = emit_test(b, byte, &test);
        let (block, args) = destination(b, test.case);
        let next = b.create_block();
        b.ins().brif(holds, block, &args, next, &[]);
        b.switch_to_block(next);
    }
    let (block, args) = destination(b, last);
    b.ins().jump(block, &args);
}

fn emit_test(b: &mut FunctionBuilder<'_>, byte: Value, test: &Test) -> Value {
    let (first, last) = (i64::from(test.first), i64::from(test.last));
    match test.open {
        _ if first == last => b.ins().icmp_imm_u(IntCC::Equal, byte, first),
        Open::Below => b.ins().icmp_imm_u(IntCC::UnsignedLessThanOrEqual, byte, last),
        Open::Above => b.ins().icmp_imm_u(IntCC::UnsignedGreaterThanOrEqual, byte, first),
        Open::No => {
            let offset = b.ins().iadd_imm_s(byte, -first);
            b.ins().icmp_imm_u(IntCC::UnsignedLessThanOrEqual, offset, last - first)
        }
    }
}

/// The tests in order, and the case when all fail. Greedy: always the range that decides most for its price; what
/// was tested is as good as impossible, so that its neighbours grow together.
fn plan_tests(cases: &Cases<'_>) -> (Vec<Test>, u32) {
    let mut ranges: Vec<(u8, u8, u32)> = Vec::new();
    for byte in cases.possible.iter() {
        let case = cases.cases[usize::from(byte)];
        match ranges.last_mut() {
            Some((_, last, other)) if *other == case => *last = byte,
            _ => ranges.push((byte, byte, case)),
        }
    }
    let mass = |(first, last, case): &(u8, u8, u32)| {
        let bytes = cases.possible.intersection(ByteSet::range(*first, *last));
        let weight: u32 =
            bytes.iter().filter(|byte| cases.cases[usize::from(*byte)] == *case).map(weight).sum();
        if (cases.rare)(*case) { weight } else { 64 * weight }
    };
    let mut tests = Vec::new();
    while ranges.iter().any(|range| range.2 != ranges[0].2) {
        let end = ranges.len() - 1;
        let price = |at: usize| if at == 0 || at == end || ranges[at].0 == ranges[at].1 { 5 } else { 7 };
        let best =
            (0..=end).max_by_key(|at| 35 * u64::from(mass(&ranges[*at]) + 1) / price(*at)).unwrap_or(0);
        let (first, last, case) = ranges.remove(best);
        let open = match best {
            0 => Open::Below,
            _ if best == end => Open::Above,
            _ => Open::No,
        };
        tests.push(Test { first, last, open, case });
        if best > 0 && best < ranges.len() && ranges[best - 1].2 == ranges[best].2 {
            ranges[best - 1].1 = ranges[best].1;
            ranges.remove(best);
        }
        if tests.len() > TESTS_MAX {
            break;
        }
    }
    (tests, ranges.first().map_or(0, |range| range.2))
}

/// Looks the case up: a byte of a table numbers the destinations, the most frequent first.
fn emit_table(
    b: &mut FunctionBuilder<'_>,
    scope: &mut Scope<'_>,
    byte: Value,
    cases: &Cases<'_>,
    destination: &mut dyn FnMut(&mut FunctionBuilder<'_>, u32) -> Destination,
) {
    let mut order: Vec<(u32, u32)> = Vec::new();
    for byte in cases.possible.iter() {
        let case = cases.cases[usize::from(byte)];
        let mass = if (cases.rare)(case) { 0 } else { weight(byte) };
        match order.iter_mut().find(|(other, _)| *other == case) {
            Some((_, sum)) => *sum += mass,
            None => order.push((case, mass)),
        }
    }
    order.sort_by_key(|(case, mass)| (std::cmp::Reverse(*mass), *case));
    let number = |byte: usize| order.iter().position(|(case, _)| *case == cases.cases[byte]).unwrap_or(0);
    // Fewer than 257 cases: each has a byte of its own.
    let table: Vec<u8> = (0..256).map(|byte| number(byte) as u8).collect();
    let base = scope.constant(b, &table);
    let wide = b.ins().uextend(I64, byte);
    let address = b.ins().iadd(base, wide);
    let number = b.ins().uload8(I32, MemFlagsData::new().with_notrap(), address, 0);
    if order.len() > LADDER_MAX {
        // A handle of a call can stand in one place only, so the default gets its own.
        let calls: Vec<_> = std::iter::once(&order[0])
            .chain(&order)
            .map(|(case, _)| {
                let (block, args) = destination(b, *case);
                b.func.dfg.block_call(block, &args)
            })
            .collect();
        let jumps = b.create_jump_table(JumpTableData::new(calls[0], &calls[1..]));
        b.ins().br_table(number, jumps);
        return;
    }
    for (at, (case, _)) in order.iter().enumerate() {
        let (block, args) = destination(b, *case);
        if at + 1 == order.len() {
            b.ins().jump(block, &args);
        } else {
            let holds = b.ins().icmp_imm_u(IntCC::Equal, number, at as i64);
            let next = b.create_block();
            b.ins().brif(holds, block, &args, next, &[]);
            b.switch_to_block(next);
        }
    }
}
