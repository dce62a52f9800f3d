//! Tests of 16 bytes at once: which of them are in a set. Knows vectors; must not know automata.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I8X16, I16X8, I32};
use cranelift_codegen::ir::{ConstantData, Endianness, InstBuilder, MemFlagsData, Value};
use cranelift_frontend::FunctionBuilder;

use crate::automaton::ByteSet;

/// Instructions from which two table look-ups (of 6 instructions) are shorter than comparisons.
const COMPARISONS_MAX: usize = 6;

/// 16 bytes of which the highest bit says whether the byte is in a set, or is not.
#[derive(Clone, Copy)]
pub(super) struct Marks {
    pub value: Value,
    pub inverted: bool,
}

impl Marks {
    /// One bit for each byte, as I32.
    pub fn bits(self, b: &mut FunctionBuilder<'_>) -> Value {
        let bits = b.ins().vhigh_bits(I32, self.value);
        if self.inverted { b.ins().bxor_imm_u(bits, 0xffff) } else { bits }
    }

    pub fn or(self, b: &mut FunctionBuilder<'_>, other: Value) -> Marks {
        let value = if self.inverted { b.ins().bnot(self.value) } else { self.value };
        Marks { value: b.ins().bor(value, other), inverted: false }
    }
}

/// Marks the bytes of `vector` (I8X16) that are in `set`.
pub(super) fn emit_class(b: &mut FunctionBuilder<'_>, vector: Value, set: ByteSet) -> Marks {
    let (plan, other) = (Ranges::of(set), Ranges::of(set.complement()));
    if plan.cost().min(other.cost()) > COMPARISONS_MAX && (plan.high || other.high) {
        return emit_nibbles(b, vector, set, plan.high);
    }
    if other.cost() < plan.cost() {
        Marks { value: emit_ranges(b, vector, &other), inverted: true }
    } else {
        Marks { value: emit_ranges(b, vector, &plan), inverted: false }
    }
}

/// 0xff where a byte equals one of `set`, which has one or two bytes.
pub(super) fn emit_equal(b: &mut FunctionBuilder<'_>, vector: Value, set: ByteSet) -> Value {
    emit_ranges(b, vector, &Ranges { ranges: set.iter().map(|byte| (byte, byte)).collect(), high: false })
}

/// A set as ranges, all bytes beyond ASCII apart: their highest bit is the mark already.
struct Ranges {
    ranges: Vec<(u8, u8)>,
    high: bool,
}

impl Ranges {
    fn of(set: ByteSet) -> Ranges {
        let beyond = ByteSet::range(0x80, 0xff);
        let high = set.intersection(beyond) == beyond;
        let low = if high { set.intersection(beyond.complement()) } else { set };
        Ranges { ranges: low.ranges(), high }
    }

    fn cost(&self) -> usize {
        let range = |(first, last): &(u8, u8)| if first == last || *first == 0 { 2 } else { 3 };
        self.ranges.iter().map(range).sum::<usize>() + usize::from(self.high)
    }
}

fn emit_ranges(b: &mut FunctionBuilder<'_>, vector: Value, set: &Ranges) -> Value {
    let mut marks = set.high.then_some(vector);
    for (first, last) in &set.ranges {
        let marked = if first == last {
            let byte = splat(b, *first);
            b.ins().icmp(IntCC::Equal, vector, byte)
        } else {
            let offset = match first {
                0 => vector,
                _ => {
                    let first = splat(b, *first);
                    b.ins().isub(vector, first)
                }
            };
            let width = splat(b, last - first);
            b.ins().icmp(IntCC::UnsignedLessThanOrEqual, offset, width)
        };
        marks = Some(match marks {
            Some(marks) => b.ins().bor(marks, marked),
            None => marked,
        });
    }
    marks.unwrap_or_else(|| splat(b, 0))
}

/// Two tables of 16 entries, by the low and the high half of the byte (Langdale and Lemire 2019, section 3.1.2):
/// bit `h` of `low[l]` says whether byte `16 h + l` is in the set. For sets that hold all bytes beyond ASCII or,
/// when not `high`, whose complement does.
fn emit_nibbles(b: &mut FunctionBuilder<'_>, vector: Value, set: ByteSet, high: bool) -> Marks {
    let (mut low, mut bits) = ([0u8; 16], [0u8; 16]);
    for byte in set.iter().filter(u8::is_ascii) {
        low[usize::from(byte & 15)] |= 1 << (byte >> 4);
        bits[usize::from(byte >> 4)] = 1 << (byte >> 4);
    }
    let (low, bits) = (vector_constant(b, low), vector_constant(b, bits));
    // Bytes beyond ASCII find nothing in the first table.
    let by_low = emit_look_up(b, low, vector);
    let little = MemFlagsData::new().with_endianness(Endianness::Little);
    let words = b.ins().bitcast(I16X8, little, vector);
    let shifted = b.ins().ushr_imm_u(words, 4);
    let shifted = b.ins().bitcast(I8X16, little, shifted);
    let half = splat(b, 15);
    let upper = b.ins().band(shifted, half);
    let by_high = emit_look_up(b, bits, upper);
    let common = b.ins().band(by_low, by_high);
    let zero = splat(b, 0);
    let outside = b.ins().icmp(IntCC::Equal, common, zero);
    let outside = if high { b.ins().band_not(outside, vector) } else { outside };
    Marks { value: outside, inverted: true }
}

/// `table[index & 15]`, 0 for an index beyond 127.
fn emit_look_up(b: &mut FunctionBuilder<'_>, table: Value, index: Value) -> Value {
    if cfg!(target_arch = "x86_64") {
        return b.ins().x86_pshufb(table, index);
    }
    let mask = splat(b, 0x8f);
    let index = b.ins().band(index, mask);
    b.ins().swizzle(table, index)
}

fn splat(b: &mut FunctionBuilder<'_>, byte: u8) -> Value {
    vector_constant(b, [byte; 16])
}

fn vector_constant(b: &mut FunctionBuilder<'_>, bytes: [u8; 16]) -> Value {
    let constant = b.func.dfg.constants.insert(ConstantData::from(&bytes[..]));
    b.ins().vconst(I8X16, constant)
}
