//! Expressions as conditions: they branch instead of making a value.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::types::{I8, I16, I32, I64};
use cranelift_codegen::ir::{Block, InstBuilder, Value};
use flow_plan::ir::{CompareOp, Const, Expr};
use flow_plan::settings::RegexSetting;

use super::emit::{Emit, Emitter, flags};
use super::expr::likely_kind;
use super::frame;
use super::regexes::Use;
use super::runtime;
use super::values::{BOOL, DURATION, FLOAT, INT, Kinds, NULL, OTHER, SIZE, TEXT, TIME, Val};

/// Texts of a list that are compared one by one; longer lists are searched.
const TEXTS_COMPARED_MAX: usize = 16;

/// A constant text up to this length, in bytes, is compared by words in place.
const WORDS_COMPARED_MAX: usize = 32;

impl Emitter<'_, '_, '_> {
    /// Goes on in one of the two blocks.
    pub fn condition(&mut self, expr: &Expr, yes: Block, no: Block) -> Emit<()> {
        self.enter()?;
        let done = self.condition_inside(expr, yes, no);
        self.depth -= 1;
        done
    }

    fn condition_inside(&mut self, expr: &Expr, yes: Block, no: Block) -> Emit<()> {
        match expr {
            Expr::Const(Const::Bool(value)) => {
                self.fb.ins().jump(if *value { yes } else { no }, &[]);
                Ok(())
            }
            Expr::Not(inner) => self.condition(inner, no, yes),
            Expr::And(..) | Expr::Or(..) => self.chain(expr, yes, no),
            Expr::Compare { op, left, right } => self.compare(expr, *op, left, right, yes, no),
            Expr::Matches { value, regex } => self.matches(expr, value, regex, yes, no),
            Expr::MatchesDynamic { value, regex, .. } => match &**regex {
                Expr::Const(Const::Regex(regex)) => self.matches(expr, value, regex, yes, no),
                _ => self.asked_condition(expr, "its regex is known at run time only", yes, no),
            },
            Expr::In { value, list } => self.contained(expr, value, list, yes, no),
            Expr::Between { value, low, high } => self.between(expr, value, low, high, yes, no),
            other => {
                let value = self.value(other)?;
                self.branch_on(value, yes, no);
                Ok(())
            }
        }
    }

    fn branch_on(&mut self, value: Val, yes: Block, no: Block) {
        let value = self.guard(value, Kinds::one(BOOL));
        self.fb.ins().brif(value.a, yes, &[], no, &[]);
    }

    fn asked_condition(&mut self, expr: &Expr, why: &str, yes: Block, no: Block) -> Emit<()> {
        let value = self.ask(expr, why)?;
        self.branch_on(value, yes, no);
        Ok(())
    }

    /// `a and b and c`, however it is nested.
    fn chain(&mut self, expr: &Expr, yes: Block, no: Block) -> Emit<()> {
        let all = matches!(expr, Expr::And(..));
        let mut links = Vec::new();
        let mut waiting = vec![expr];
        while let Some(expr) = waiting.pop() {
            match (expr, all) {
                (Expr::And(left, right), true) | (Expr::Or(left, right), false) => {
                    waiting.extend([&**right, &**left]);
                }
                _ => links.push(expr),
            }
        }
        let last = links.len() - 1;
        for (index, link) in links.into_iter().enumerate() {
            if index == last {
                return self.condition(link, yes, no);
            }
            let next = self.fb.create_block();
            if all {
                self.condition(link, next, no)?;
            } else {
                self.condition(link, yes, next)?;
            }
            self.fb.switch_to_block(next);
        }
        Ok(())
    }

    fn compare(
        &mut self,
        expr: &Expr,
        op: CompareOp,
        left: &Expr,
        right: &Expr,
        yes: Block,
        no: Block,
    ) -> Emit<()> {
        if let CompareOp::Eq | CompareOp::Ne = op {
            let (yes, no) = if op == CompareOp::Eq { (yes, no) } else { (no, yes) };
            if let (other, Expr::Const(Const::Text(text))) | (Expr::Const(Const::Text(text)), other) =
                (left, right)
            {
                let value = self.value(other)?;
                self.equals_constant(value, text.as_bytes(), yes, no);
                return Ok(());
            }
            let left = self.value(left)?;
            let right = self.value(right)?;
            self.equals(left, right, yes, no);
            return Ok(());
        }
        let expected = likely_kind(right).filter(|kind| *kind != TEXT || likely_kind(left) == Some(TEXT));
        let expected = expected.or_else(|| likely_kind(left)).unwrap_or(INT);
        if matches!(expected, BOOL | OTHER | NULL) {
            return self.asked_condition(expr, "only numbers, times and texts are ordered natively", yes, no);
        }
        let left = self.value(left)?;
        let left = self.guard(left, Kinds::one(expected));
        let right = self.value(right)?;
        let right = self.guard(right, Kinds::one(expected));
        let hit = match expected {
            FLOAT => {
                let (a, b) = (self.as_float(left), self.as_float(right));
                let code = match op {
                    CompareOp::Lt => FloatCC::LessThan,
                    CompareOp::Le => FloatCC::LessThanOrEqual,
                    CompareOp::Gt => FloatCC::GreaterThan,
                    _ => FloatCC::GreaterThanOrEqual,
                };
                self.fb.ins().fcmp(code, a, b)
            }
            TEXT => {
                let args = [left.a, left.b, right.a, right.b];
                let order = self.call(runtime::compare_texts as *const u8, &args);
                self.fb.ins().icmp_imm_s(signed(op), order, 0)
            }
            SIZE => self.fb.ins().icmp(signed(op).unsigned(), left.a, right.a),
            INT | TIME | DURATION => self.fb.ins().icmp(signed(op), left.a, right.a),
            _ => return self.asked_condition(expr, "it has no native form", yes, no),
        };
        self.fb.ins().brif(hit, yes, &[], no, &[]);
        Ok(())
    }

    fn equals(&mut self, left: Val, right: Val, yes: Block, no: Block) {
        if let (Some(a), Some(b)) = (left.kinds.single(), right.kinds.single())
            && a == b
            && matches!(a, BOOL | INT | TIME | DURATION | SIZE)
        {
            let hit = self.fb.ins().icmp(IntCC::Equal, left.a, right.a);
            self.fb.ins().brif(hit, yes, &[], no, &[]);
            return;
        }
        if right.kinds.is(NULL) || left.kinds.is(NULL) {
            let other = if right.kinds.is(NULL) { left } else { right };
            let hit = self.has_tag(other, NULL);
            self.fb.ins().brif(hit, yes, &[], no, &[]);
            return;
        }
        let words = [left, right].map(|value| {
            let tag = self.fb.ins().uextend(I64, value.tag);
            [tag, value.a, value.b]
        });
        let args = words.concat();
        let hit = self.call(runtime::equal_values as *const u8, &args);
        self.fb.ins().brif(hit, yes, &[], no, &[]);
    }

    /// Whether a value is this text.
    fn equals_constant(&mut self, value: Val, text: &[u8], yes: Block, no: Block) {
        let is_text = self.has_tag(value, TEXT);
        let on = self.fb.create_block();
        self.fb.ins().brif(is_text, on, &[], no, &[]);
        self.fb.switch_to_block(on);
        let hit = self.fb.ins().icmp_imm_s(IntCC::Equal, value.b, text.len() as i64);
        let same_len = self.fb.create_block();
        self.fb.ins().brif(hit, same_len, &[], no, &[]);
        self.fb.switch_to_block(same_len);
        let hit = self.same_bytes(value.a, text);
        self.fb.ins().brif(hit, yes, &[], no, &[]);
    }

    /// Whether the bytes at an address are these. More than these can be read there.
    fn same_bytes(&mut self, address: Value, text: &[u8]) -> Value {
        if text.is_empty() {
            return self.fb.ins().iconst(I8, 1);
        }
        if text.len() > WORDS_COMPARED_MAX {
            let known = self.address_of(text);
            let len = self.int(text.len() as i64);
            return self.call(runtime::equal_bytes as *const u8, &[address, known, len]);
        }
        let mut difference: Option<Value> = None;
        let mut at = 0;
        while at < text.len() {
            let left = text.len() - at;
            let (ty, width) = match left {
                8.. => (I64, 8),
                4..=7 => (I32, 4),
                2..=3 => (I16, 2),
                _ => (I8, 1),
            };
            let mut word = [0; 8];
            word[..width].copy_from_slice(&text[at..at + width]);
            let found = self.fb.ins().load(ty, flags(), address, at as i32);
            let found = if ty == I64 { found } else { self.fb.ins().uextend(I64, found) };
            let expected = self.int(i64::from_le_bytes(word));
            let differs = self.fb.ins().bxor(found, expected);
            difference = Some(match difference {
                None => differs,
                Some(before) => self.fb.ins().bor(before, differs),
            });
            at += width;
        }
        match difference {
            Some(difference) => self.fb.ins().icmp_imm_s(IntCC::Equal, difference, 0),
            None => self.fb.ins().iconst(I8, 1),
        }
    }

    fn contained(&mut self, expr: &Expr, value: &Expr, list: &Expr, yes: Block, no: Block) -> Emit<()> {
        match list {
            Expr::List(items) if !items.is_empty() => {
                let texts: Option<Vec<&str>> = items
                    .iter()
                    .map(|item| if let Expr::Const(Const::Text(text)) = item { Some(&**text) } else { None })
                    .collect();
                if let Some(texts) = texts {
                    return self.one_of_texts(value, &texts, yes, no);
                }
                let ints: Option<Vec<i64>> = items
                    .iter()
                    .map(|item| if let Expr::Const(Const::Int(int)) = item { Some(*int) } else { None })
                    .collect();
                match ints {
                    Some(ints) if ints.len() <= TEXTS_COMPARED_MAX * 4 => {
                        let value = self.value(value)?;
                        let number = self.int_or(value, no);
                        for int in ints {
                            let hit = self.fb.ins().icmp_imm_s(IntCC::Equal, number, int);
                            self.leave_if(hit, yes);
                        }
                        self.fb.ins().jump(no, &[]);
                        Ok(())
                    }
                    _ => self.asked_condition(expr, "its list is not of texts or ints alone", yes, no),
                }
            }
            Expr::Range { low, high, .. } => match (&**low, &**high) {
                (Expr::Const(Const::Int(low)), Expr::Const(Const::Int(high))) => {
                    let value = self.value(value)?;
                    let number = self.int_or(value, no);
                    self.within(number, *low, *high, yes, no);
                    Ok(())
                }
                _ => self.asked_condition(expr, "its range is not constant", yes, no),
            },
            _ => self.asked_condition(expr, "its list comes from the event", yes, no),
        }
    }

    /// The number of an int; other types go to `no`, and floats to the reference, since one may equal an int.
    fn int_or(&mut self, value: Val, no: Block) -> Value {
        let float = self.has_tag(value, FLOAT);
        if value.kinds.has(FLOAT) {
            self.leave_if(float, self.exits.bail);
        }
        let int = self.has_tag(value, INT);
        let on = self.fb.create_block();
        self.fb.ins().brif(int, on, &[], no, &[]);
        self.fb.switch_to_block(on);
        value.a
    }

    fn within(&mut self, number: Value, low: i64, high: i64, yes: Block, no: Block) {
        if low > high {
            self.fb.ins().jump(no, &[]);
            return;
        }
        // One unsigned comparison for both ends.
        let low_value = self.int(low);
        let offset = self.fb.ins().isub(number, low_value);
        let width = self.int(high.wrapping_sub(low));
        let hit = self.fb.ins().icmp(IntCC::UnsignedLessThanOrEqual, offset, width);
        self.fb.ins().brif(hit, yes, &[], no, &[]);
    }

    fn one_of_texts(&mut self, value: &Expr, texts: &[&str], yes: Block, no: Block) -> Emit<()> {
        let value = self.value(value)?;
        let mut sorted: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
        sorted.sort();
        sorted.dedup();
        if sorted.len() <= TEXTS_COMPARED_MAX {
            for text in &sorted {
                let next = self.fb.create_block();
                self.equals_constant(value, text, yes, next);
                self.fb.switch_to_block(next);
            }
            self.fb.ins().jump(no, &[]);
            return Ok(());
        }
        let is_text = self.has_tag(value, TEXT);
        let on = self.fb.create_block();
        self.fb.ins().brif(is_text, on, &[], no, &[]);
        self.fb.switch_to_block(on);
        let held = Box::new(sorted);
        let list = self.int(&raw const *held as i64);
        self.held.texts.push(held);
        let hit = self.call(runtime::in_texts as *const u8, &[list, value.a, value.b]);
        self.fb.ins().brif(hit, yes, &[], no, &[]);
        Ok(())
    }

    fn between(
        &mut self,
        expr: &Expr,
        value: &Expr,
        low: &Expr,
        high: &Expr,
        yes: Block,
        no: Block,
    ) -> Emit<()> {
        match (low, high) {
            (Expr::Const(Const::Int(low)), Expr::Const(Const::Int(high))) => {
                let value = self.value(value)?;
                let number = self.int_or(value, no);
                self.within(number, *low, *high, yes, no);
                Ok(())
            }
            _ => self.asked_condition(expr, "its ends are not constant ints", yes, no),
        }
    }

    fn matches(
        &mut self,
        expr: &Expr,
        value: &Expr,
        regex: &RegexSetting,
        yes: Block,
        no: Block,
    ) -> Emit<()> {
        let value_is_body = *value == Expr::Body || self.subject_is_body && *value == Expr::Local(0);
        let subject = if value_is_body { &Expr::Body } else { value };
        if let Some((set, bit)) = self.regexes.set_of(subject, regex)
            && let Some(Some(words)) = self.sets.get(set)
        {
            let words = *words;
            let word = self.fb.ins().stack_load(I64, I32, words, (bit / 32 * 4) as i32);
            let hit = self.fb.ins().band_imm_s(word, 1 << (bit % 32));
            self.fb.ins().brif(hit, yes, &[], no, &[]);
            return Ok(());
        }
        let regexes = self.regexes;
        let known = match regexes.find(regex, &Use::Match, value) {
            Ok(known) => known,
            Err(why) => return self.asked_condition(expr, why, yes, no),
        };
        let value = self.value(value)?;
        let value = self.guard(value, Kinds::TEXT_OR_NULL);
        if value.kinds.has(NULL) {
            let null = self.has_tag(value, NULL);
            self.leave_if(null, no);
        }
        let mark = match (known.prefilter, known.joint_bit) {
            (Some(prefilter), _) => Some(Mark::Own(prefilter)),
            (None, Some(bit)) => Some(Mark::Joint(bit)),
            (None, None) => None,
        };
        if value_is_body
            && self.body_untouched
            && self.state.body.is_none()
            && let Some(mark) = mark
        {
            let hit = self.marked(mark);
            if known.exact {
                self.fb.ins().brif(hit, yes, &[], no, &[]);
                return Ok(());
            }
            let candidate = self.fb.create_block();
            self.fb.ins().brif(hit, candidate, &[], no, &[]);
            self.fb.switch_to_block(candidate);
        }
        let Some(matcher) = known.matcher else {
            return self.asked_condition(expr, "it was made for bodies as they came", yes, no);
        };
        let slots = self.int(0);
        let status = self.search(matcher, value, slots);
        self.fb.ins().brif(status, yes, &[], no, &[]);
        Ok(())
    }

    /// Whether a search of the batch has marked the row.
    fn marked(&mut self, mark: Mark) -> Value {
        let prefilter = match mark {
            Mark::Own(prefilter) => prefilter,
            Mark::Joint(bit) => return self.joint_mark(bit),
        };
        let hits = self.load(frame::HITS);
        let bits = self.fb.ins().load(I64, flags(), hits, prefilter as i32 * 8);
        let word = self.fb.ins().ushr_imm_s(self.at, 6);
        let offset = self.fb.ins().ishl_imm_s(word, 3);
        let address = self.fb.ins().iadd(bits, offset);
        let word = self.fb.ins().load(I64, flags(), address, 0);
        let shift = self.fb.ins().band_imm_s(self.at, 63);
        let word = self.fb.ins().ushr(word, shift);
        self.fb.ins().band_imm_s(word, 1)
    }

    fn joint_mark(&mut self, bit: usize) -> Value {
        let words = self.load(frame::JOINT);
        let offset = self.fb.ins().ishl_imm_s(self.at, 3);
        let address = self.fb.ins().iadd(words, offset);
        let word = self.fb.ins().load(I64, flags(), address, 0);
        let bit = self.int(1 << bit);
        self.fb.ins().band(word, bit)
    }

    /// Searches a text with an automaton: 0 or 1; the reference where the automaton cannot tell. Positions are
    /// offsets from the base of the arena for texts in the arena, and from the text otherwise.
    pub fn search(&mut self, matcher: cranelift_module::FuncId, text: Val, slots: Value) -> Value {
        let function = self.scope.function(self.fb, matcher);
        let zero = self.int(0);
        let (base, start, end) = match text.range {
            Some(range) => {
                let start = self.fb.ins().band_imm_u(range, 0xffff_ffff);
                let end = self.fb.ins().iadd(start, text.b);
                (self.base, start, end)
            }
            None => (text.a, zero, text.b),
        };
        let bitmaps = self.load(frame::BITMAPS);
        let call = self.fb.ins().call(function, &[base, start, end, slots, bitmaps]);
        let status = self.fb.inst_results(call)[0];
        let quit = self.fb.ins().icmp_imm_s(IntCC::Equal, status, 2);
        self.leave_if(quit, self.exits.bail);
        status
    }
}

/// Where a search of the whole batch has marked the rows.
#[derive(Clone, Copy)]
enum Mark {
    /// One of the searches for a pattern each.
    Own(usize),
    /// A bit of the search for all patterns of the route.
    Joint(usize),
}

fn signed(op: CompareOp) -> IntCC {
    match op {
        CompareOp::Eq => IntCC::Equal,
        CompareOp::Ne => IntCC::NotEqual,
        CompareOp::Lt => IntCC::SignedLessThan,
        CompareOp::Le => IntCC::SignedLessThanOrEqual,
        CompareOp::Gt => IntCC::SignedGreaterThan,
        CompareOp::Ge => IntCC::SignedGreaterThanOrEqual,
    }
}
