//! Expressions as values. What has no native form is given to the reference, one expression at a time; what turns
//! out to be out of the ordinary at run time leaves the step.

use cranelift_codegen::ir::InstBuilder;
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::types::{F64, I64};
use flow_plan::eval::eval_const;
use flow_plan::function::Plain;
use flow_plan::ir::{ArithOp, Const, Expr, Fallback, TemplatePart};

use super::emit::{EXPRESSIONS_MAX, Emit, Emitter, Exits, INLINE_DEPTH_MAX, Reads};
use super::frame;
use super::runtime;
use super::values::{BOOL, DURATION, FLOAT, Home, INT, Kinds, NULL, OTHER, SIZE, TEXT, TIME, Val};

impl Emitter<'_, '_, '_> {
    pub fn value(&mut self, expr: &Expr) -> Emit<Val> {
        self.enter()?;
        let value = self.value_inside(expr);
        self.depth -= 1;
        value
    }

    fn value_inside(&mut self, expr: &Expr) -> Emit<Val> {
        Ok(match expr {
            Expr::Const(value) => match self.constant(value) {
                Some(value) => value,
                None => return self.ask(expr, "it cannot be built"),
            },
            Expr::Local(local) => match self.local(*local) {
                Some(value) => value,
                None => return self.ask(expr, "there is no such local"),
            },
            Expr::Header(slot) => self.header(*slot),
            Expr::Body => self.body(),
            Expr::Time => {
                let time = self.time();
                self.plain(TIME, time)
            }
            Expr::EventSize => {
                let body = self.body();
                self.plain(SIZE, body.b)
            }
            Expr::Now => {
                let now = self.load(frame::NOW_MS);
                self.plain(TIME, now)
            }
            Expr::Not(_)
            | Expr::And(..)
            | Expr::Or(..)
            | Expr::Compare { .. }
            | Expr::Matches { .. }
            | Expr::MatchesDynamic { .. }
            | Expr::In { .. }
            | Expr::Between { .. } => self.truth(expr)?,
            Expr::Neg { value, .. } => self.negated(value)?,
            Expr::Coalesce(left, right) => self.coalesced(left, right)?,
            Expr::Arith { op, left, right, .. } => self.arithmetic(expr, *op, left, right)?,
            Expr::If { condition, then, otherwise } => self.chosen(condition, then, otherwise)?,
            Expr::Call { function, args, .. } => self.library_call(expr, function, args)?,
            Expr::CallUser { function, args, .. } => self.user_call(expr, *function, args)?,
            Expr::Member { object, name } => self.member(object, name)?,
            Expr::Index { object, index, .. } => self.element(object, index)?,
            Expr::Template(parts) => self.template(parts)?,
            Expr::Decode { value, ty, .. } => {
                let value = self.value(value)?;
                let held = Box::new(ty.clone());
                let address = &raw const *held as i64;
                self.held.types.push(held);
                let address = self.int(address);
                let tag = self.fb.ins().uextend(I64, value.tag);
                let args = [self.frame, address, tag, value.a, value.b];
                let status = self.call(runtime::decode_value as *const u8, &args);
                self.answer(status, Kinds::ALL)
            }
            Expr::Else { value, fallback } => self.otherwise(value, fallback)?,
            Expr::List(_) | Expr::Map(_) => {
                return self.constant_or_ask(expr, "its parts come from the event");
            }
            Expr::Headers | Expr::EventId | Expr::EventSource => {
                return self.ask(expr, "it has no native form");
            }
            Expr::Range { .. } | Expr::Lambda { .. } => {
                return self.constant_or_ask(expr, "it has no native form");
            }
        })
    }

    fn constant_or_ask(&mut self, expr: &Expr, why: &str) -> Emit<Val> {
        let mut reads = Reads::default();
        reads.expr(expr);
        if reads.nothing()
            && let Ok(value) = eval_const(expr, self.functions, self.functions.user())
        {
            return Ok(self.held_value(value));
        }
        self.ask(expr, why)
    }

    /// A condition as a value.
    fn truth(&mut self, expr: &Expr) -> Emit<Val> {
        let (yes, no, join) = (self.fb.create_block(), self.fb.create_block(), self.join_block());
        self.condition(expr, yes, no)?;
        for (block, value) in [(yes, 1), (no, 0)] {
            self.fb.switch_to_block(block);
            let a = self.int(value);
            let value = self.plain(BOOL, a);
            self.jump_with(join, value);
        }
        Ok(self.joined(join, Kinds::one(BOOL)))
    }

    fn negated(&mut self, value: &Expr) -> Emit<Val> {
        let value = self.value(value)?;
        if value.kinds.is(FLOAT) {
            let number = self.as_float(value);
            let number = self.fb.ins().fneg(number);
            return Ok(self.float(number));
        }
        let value = self.guard(value, Kinds::one(INT));
        let zero = self.int(0);
        let (number, overflow) = self.fb.ins().ssub_overflow(zero, value.a);
        self.leave_if(overflow, self.exits.fails);
        Ok(self.plain(INT, number))
    }

    pub fn as_float(&mut self, value: Val) -> cranelift_codegen::ir::Value {
        self.fb.ins().bitcast(F64, flags_for_bits(), value.a)
    }

    fn float(&mut self, number: cranelift_codegen::ir::Value) -> Val {
        let bits = self.fb.ins().bitcast(I64, flags_for_bits(), number);
        self.plain(FLOAT, bits)
    }

    fn coalesced(&mut self, left: &Expr, right: &Expr) -> Emit<Val> {
        let left = self.value(left)?;
        if !left.kinds.has(NULL) {
            return Ok(left);
        }
        let join = self.join_block();
        let (is_null, there) = (self.fb.create_block(), self.fb.create_block());
        let null = self.has_tag(left, NULL);
        self.fb.ins().brif(null, is_null, &[], there, &[]);
        self.fb.switch_to_block(there);
        self.jump_with(join, left);
        self.fb.switch_to_block(is_null);
        let right = self.value(right)?;
        self.jump_with(join, right);
        Ok(self.joined(join, left.kinds.or(right.kinds)))
    }

    fn chosen(&mut self, condition: &Expr, then: &Expr, otherwise: &Expr) -> Emit<Val> {
        let join = self.join_block();
        let mut kinds: Option<Kinds> = None;
        let mut add = |more: Kinds| kinds = Some(kinds.map_or(more, |kinds| kinds.or(more)));
        let (mut condition, mut then, mut otherwise) = (condition, then, otherwise);
        loop {
            let (yes, no) = (self.fb.create_block(), self.fb.create_block());
            self.condition(condition, yes, no)?;
            self.fb.switch_to_block(yes);
            let value = self.value(then)?;
            add(value.kinds);
            self.jump_with(join, value);
            self.fb.switch_to_block(no);
            // A chain of `else if` is as deep as it is long: no recursion for it.
            match otherwise {
                Expr::If { condition: c, then: t, otherwise: o } => {
                    self.spend()?;
                    (condition, then, otherwise) = (c, t, o);
                }
                last => {
                    let value = self.value(last)?;
                    add(value.kinds);
                    self.jump_with(join, value);
                    break;
                }
            }
        }
        Ok(self.joined(join, kinds.unwrap_or(Kinds::ALL)))
    }

    fn arithmetic(&mut self, expr: &Expr, op: ArithOp, left: &Expr, right: &Expr) -> Emit<Val> {
        let likely = likely_kind(left).or_else(|| likely_kind(right));
        match (likely_kind(left), likely_kind(right)) {
            (Some(FLOAT), Some(FLOAT | INT)) | (Some(INT), Some(FLOAT)) => {
                if matches!(op, ArithOp::Add | ArithOp::Sub | ArithOp::Mul | ArithOp::Div) {
                    return self.float_arithmetic(op, left, right);
                }
                return self.ask(expr, "the remainder of floats");
            }
            (None | Some(INT), None | Some(INT)) => {}
            (Some(TEXT) | None, Some(TEXT) | None) if op == ArithOp::Add && likely == Some(TEXT) => {
                let left = self.value(left)?;
                let left = self.guard(left, Kinds::one(TEXT));
                let right = self.value(right)?;
                let right = self.guard(right, Kinds::one(TEXT));
                return self.joined_texts(&[left, right]);
            }
            _ => return self.ask(expr, "only ints, floats and texts are computed natively"),
        }
        let left = self.value(left)?;
        let left = self.guard(left, Kinds::one(INT));
        let right = self.value(right)?;
        let right = self.guard(right, Kinds::one(INT));
        let (a, b) = (left.a, right.a);
        let number = match op {
            ArithOp::Add | ArithOp::Sub | ArithOp::Mul => {
                let (number, overflow) = match op {
                    ArithOp::Add => self.fb.ins().sadd_overflow(a, b),
                    ArithOp::Sub => self.fb.ins().ssub_overflow(a, b),
                    _ => self.fb.ins().smul_overflow(a, b),
                };
                self.leave_if(overflow, self.exits.fails);
                number
            }
            ArithOp::Div | ArithOp::Rem => {
                // Zero fails, and -1 overflows for the smallest number: both would trap.
                let shifted = self.fb.ins().iadd_imm_s(b, 1);
                let special = self.fb.ins().icmp_imm_s(IntCC::UnsignedLessThanOrEqual, shifted, 1);
                self.leave_if(special, self.exits.bail);
                if op == ArithOp::Div { self.fb.ins().sdiv(a, b) } else { self.fb.ins().srem(a, b) }
            }
        };
        Ok(self.plain(INT, number))
    }

    fn float_arithmetic(&mut self, op: ArithOp, left: &Expr, right: &Expr) -> Emit<Val> {
        let mut numbers = [None; 2];
        for (place, expr) in numbers.iter_mut().zip([left, right]) {
            let value = self.value(expr)?;
            let expected = if likely_kind(expr) == Some(INT) { INT } else { FLOAT };
            let value = self.guard(value, Kinds::one(expected));
            *place = Some(if expected == INT {
                self.fb.ins().fcvt_from_sint(F64, value.a)
            } else {
                self.as_float(value)
            });
        }
        let [Some(a), Some(b)] = numbers else { return Ok(self.null()) };
        let number = match op {
            ArithOp::Add => self.fb.ins().fadd(a, b),
            ArithOp::Sub => self.fb.ins().fsub(a, b),
            ArithOp::Mul => self.fb.ins().fmul(a, b),
            _ => {
                let zero = self.fb.ins().f64const(0.0);
                let by_zero = self.fb.ins().fcmp(FloatCC::Equal, b, zero);
                self.leave_if(by_zero, self.exits.fails);
                self.fb.ins().fdiv(a, b)
            }
        };
        Ok(self.float(number))
    }

    fn library_call(&mut self, expr: &Expr, name: &str, args: &[Expr]) -> Emit<Val> {
        let mut reads = Reads::default();
        args.iter().for_each(|arg| reads.expr(arg));
        if reads.lambda {
            return self.ask(expr, "it is given a function");
        }
        let Some(function) = self.functions.get(name) else {
            return self.ask(expr, "there is no such function");
        };
        let mut values = Vec::with_capacity(args.len());
        for arg in args {
            values.push(self.value(arg)?);
        }
        let address = self.raw_values(&values);
        let count = self.int(values.len() as i64);
        let constants: Vec<Option<Plain<'_>>> = args.iter().map(plain_constant).collect();
        let form = (values.len() <= runtime::PLAIN_ARGS_MAX)
            .then(|| self.functions.plain(name, &constants))
            .flatten();
        if let Some(form) = form {
            let held = Box::new(form);
            let form = self.int(&raw const *held as i64);
            self.held.forms.push(held);
            let call = self.call(runtime::call_plain as *const u8, &[self.frame, form, address, count]);
            return Ok(self.answer(call, Kinds::ALL));
        }
        let held = Box::new(function);
        let function = self.int(&raw const *held as i64);
        self.held.functions.push(held);
        let call = self.call(runtime::call as *const u8, &[self.frame, function, address, count]);
        Ok(self.answer(call, Kinds::ALL))
    }

    /// A user's function, put in the place of its call: functions are not recursive.
    fn user_call(&mut self, expr: &Expr, number: u32, args: &[Expr]) -> Emit<Val> {
        let functions = self.functions;
        let Some(function) = functions.user().get(number as usize) else {
            return self.ask(expr, "there is no such function");
        };
        if let Err(why) = super::steps::accepts_statements(&function.body, true) {
            return self.ask(expr, &why);
        }
        if self.inlined >= INLINE_DEPTH_MAX || function.locals > EXPRESSIONS_MAX {
            return self.ask(expr, "functions call each other too deeply");
        }
        let mut locals = Vec::with_capacity(function.locals as usize);
        for arg in args {
            locals.push(self.value(arg)?);
        }
        let null = self.null();
        locals.resize(function.locals.max(args.len() as u32) as usize, null);
        let outside = std::mem::replace(&mut self.state.locals, locals);
        let outside_views = std::mem::take(&mut self.state.views);
        let returns = self.join_block();
        let outer = self.returns.replace(returns);
        self.inlined += 1;
        let ended = self.statements(&function.body);
        self.inlined -= 1;
        self.returns = outer;
        self.state.locals = outside;
        self.state.views = outside_views;
        if !ended? {
            let null = self.null();
            self.jump_with(returns, null);
        }
        Ok(self.joined(returns, Kinds::ALL))
    }

    fn member(&mut self, object: &Expr, name: &str) -> Emit<Val> {
        if let Some(value) = self.json_member(object, name)? {
            return Ok(value);
        }
        let object = self.value(object)?;
        let address = self.address_of(name.as_bytes());
        let len = self.int(name.len() as i64);
        self.part(object, runtime::member as *const u8, &[address, len])
    }

    fn element(&mut self, object: &Expr, index: &Expr) -> Emit<Val> {
        let index = self.value(index)?;
        let object = self.value(object)?;
        let tag = self.fb.ins().uextend(I64, index.tag);
        self.part(object, runtime::index as *const u8, &[tag, index.a, index.b])
    }

    /// A part of an object; null has only null.
    fn part(&mut self, object: Val, function: *const u8, args: &[cranelift_codegen::ir::Value]) -> Emit<Val> {
        let object = self.guard(object, Kinds::one(OTHER).or(Kinds::one(NULL)));
        let join = self.join_block();
        let (absent, there) = (self.fb.create_block(), self.fb.create_block());
        let null = self.has_tag(object, NULL);
        self.fb.ins().brif(null, absent, &[], there, &[]);
        self.fb.switch_to_block(absent);
        let value = self.null();
        self.jump_with(join, value);
        self.fb.switch_to_block(there);
        let mut all = vec![self.frame, object.a];
        all.extend(args);
        let status = self.call(function, &all);
        let value = self.answer(status, Kinds::ALL);
        self.jump_with(join, value);
        Ok(self.joined(join, Kinds::ALL))
    }

    fn template(&mut self, parts: &[TemplatePart]) -> Emit<Val> {
        let mut pieces = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                TemplatePart::Text(text) => pieces.push(self.constant_piece(text.as_bytes())),
                TemplatePart::Expr { value, format: None } => pieces.push(self.value(value)?),
                TemplatePart::Expr { format: Some(_), .. } => {
                    let alone = Expr::Template(vec![part.clone()]);
                    pieces.push(self.ask(&alone, "its format is kept by the reference")?);
                }
            }
        }
        self.joined_texts(&pieces)
    }

    /// A constant that is only copied from.
    fn constant_piece(&mut self, text: &[u8]) -> Val {
        let start = self.address_of(text);
        let len = self.int(text.len() as i64);
        self.text(start, len, Home::Unknown)
    }

    fn joined_texts(&mut self, pieces: &[Val]) -> Emit<Val> {
        let address = self.raw_values(pieces);
        let count = self.int(pieces.len() as i64);
        let status = self.call(runtime::concat as *const u8, &[self.frame, address, count]);
        Ok(self.answer(status, Kinds::one(TEXT)))
    }

    /// `value else …`
    fn otherwise(&mut self, value: &Expr, fallback: &Fallback) -> Emit<Val> {
        let taken = self.fb.create_block();
        let exits = self.exits;
        self.exits = Exits { fails: taken, ..exits };
        let value = self.value(value);
        self.exits = exits;
        let value = value?;
        let join = self.join_block();
        let there = self.fb.create_block();
        let null = self.has_tag(value, NULL);
        self.fb.ins().brif(null, taken, &[], there, &[]);
        self.fb.switch_to_block(there);
        self.jump_with(join, value);
        self.fb.switch_to_block(taken);
        let mut kinds = value.kinds;
        match fallback {
            Fallback::Drop if self.returns.is_none() => {
                self.fb.ins().jump(self.exits.drop, &[]);
            }
            Fallback::Pass | Fallback::Fail { .. } | Fallback::Drop => {
                // Rare enough for the reference, which also has the message.
                self.fb.ins().jump(self.exits.bail, &[]);
            }
            Fallback::Value(other) => {
                let other = self.value(other)?;
                kinds = kinds.or(other.kinds);
                self.jump_with(join, other);
            }
        }
        Ok(self.joined(join, kinds))
    }

    /// A value as text, null left as it is.
    pub fn text_or_null(&mut self, value: Val) -> Val {
        let plain = [BOOL, INT, FLOAT, TIME, DURATION, SIZE, OTHER];
        if plain.iter().all(|tag| !value.kinds.has(*tag)) {
            return value;
        }
        let join = self.join_block();
        let (other, as_is) = (self.fb.create_block(), self.fb.create_block());
        let null = self.has_tag(value, NULL);
        let text = self.has_tag(value, TEXT);
        let either = self.fb.ins().bor(null, text);
        self.fb.ins().brif(either, as_is, &[], other, &[]);
        self.fb.switch_to_block(as_is);
        self.jump_with(join, value);
        self.fb.switch_to_block(other);
        let tag = self.fb.ins().uextend(I64, value.tag);
        let status = self.call(runtime::to_text as *const u8, &[self.frame, tag, value.a, value.b]);
        let written = self.answer(status, Kinds::one(TEXT));
        self.jump_with(join, written);
        let kinds = if value.kinds.has(NULL) { Kinds::TEXT_OR_NULL } else { Kinds::one(TEXT) };
        self.joined(join, kinds)
    }
}

/// Of a bitcast between words of one size: no order of bytes plays a part.
fn flags_for_bits() -> cranelift_codegen::ir::MemFlagsData {
    cranelift_codegen::ir::MemFlagsData::new()
}

fn plain_constant(expr: &Expr) -> Option<Plain<'_>> {
    Some(match expr {
        Expr::Const(Const::Null) => Plain::Null,
        Expr::Const(Const::Bool(value)) => Plain::Bool(*value),
        Expr::Const(Const::Int(value)) => Plain::Int(*value),
        Expr::Const(Const::Float(value)) => Plain::Float(*value),
        Expr::Const(Const::Text(text)) => Plain::Text(text.as_bytes()),
        Expr::Const(Const::Time(ms)) => Plain::Time(*ms),
        Expr::Const(Const::Duration(ns)) => Plain::Duration(*ns),
        Expr::Const(Const::Size(bytes)) => Plain::Size(*bytes),
        _ => return None,
    })
}

/// The type a value probably has: code is made for that one, and guarded.
pub fn likely_kind(expr: &Expr) -> Option<u8> {
    Some(match expr {
        Expr::Const(Const::Bool(_)) => BOOL,
        Expr::Const(Const::Int(_)) => INT,
        Expr::Const(Const::Float(_)) => FLOAT,
        Expr::Const(Const::Text(_)) | Expr::Header(_) | Expr::Body | Expr::Template(_) => TEXT,
        Expr::Const(Const::Time(_)) | Expr::Time | Expr::Now => TIME,
        Expr::Const(Const::Duration(_)) => DURATION,
        Expr::Const(Const::Size(_)) | Expr::EventSize => SIZE,
        Expr::Neg { value, .. } => return likely_kind(value),
        Expr::Arith { left, .. } => return likely_kind(left),
        Expr::Else { value, .. } | Expr::Coalesce(value, _) => return likely_kind(value),
        Expr::If { then, .. } => return likely_kind(then),
        Expr::Call { function, args, .. } => match function.as_str() {
            "int" | "len" | "byte_len" | "unix_ms" | "unix" | "year" | "month" | "day" | "hour"
            | "minute" | "second" | "bucket" | "floor" | "ceil" | "index_of" | "milliseconds" => INT,
            "float" | "seconds" => FLOAT,
            "text" | "lower" | "upper" | "trim" | "replace" | "replace_all" | "format_time" | "slice"
            | "truncate" | "url_decode" | "base64" | "hex" | "sha256" | "md5" => TEXT,
            "parse_time" | "now" | "from_unix" | "from_unix_ms" | "truncate_time" => TIME,
            "abs" | "min" | "max" | "clamp" => return args.first().and_then(likely_kind),
            _ => return None,
        },
        _ => return None,
    })
}
