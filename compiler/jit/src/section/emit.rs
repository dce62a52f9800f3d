//! The emitter: what all expressions and statements of a section share while their code is generated. Blocks of the
//! way out, guards on types, calls of the run time, constants.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I8, I64};
use cranelift_codegen::ir::{
    AbiParam, Block, BlockArg, InstBuilder, MemFlagsData, SigRef, Signature, StackSlot, StackSlotData,
    StackSlotKind, Type as ClType, Value,
};
use cranelift_frontend::FunctionBuilder;
use flow_plan::batch::ARENA_PADDING;
use flow_plan::function::{FunctionImpl, Functions, PlainForm};
use flow_plan::ir::{Const, Expr, Type};
use flow_plan::native::Ask;
use flow_plan::{Slot, Value as PlanValue};

use super::frame;
use super::json::View;
use super::regexes::Regexes;
use super::runtime;
use super::values::{BOOL, DURATION, FLOAT, Home, INT, Kinds, NULL, OTHER, SIZE, TEXT, TIME, Val};
use crate::code::{CodeError, Scope};

/// Data that generated code points to.
#[derive(Default)]
#[allow(clippy::vec_box, reason = "what is pointed to must not move when the list grows")]
pub struct Held {
    pub functions: Vec<Box<FunctionImpl>>,
    pub forms: Vec<Box<PlainForm>>,
    pub types: Vec<Box<Type>>,
    pub texts: Vec<Box<Vec<Vec<u8>>>>,
    pub values: Vec<Box<PlanValue<'static>>>,
    pub readers: Vec<Box<runtime::Reader>>,
    pub paths: Vec<Box<runtime::Path>>,
    /// Constants that the section writes into the arena, by number.
    pub written: Vec<Vec<u8>>,
}

/// What is known of an event while the code of a step is generated.
#[derive(Clone, Default)]
pub struct State {
    pub locals: Vec<Val>,
    /// Locals whose value is still a text that was read as JSON.
    pub views: BTreeMap<u32, View>,
    /// Headers the step has set and not written yet: text or null.
    pub headers: BTreeMap<u32, Val>,
    pub body: Option<Val>,
    /// Milliseconds.
    pub time: Option<Value>,
}

/// Where code goes on when it cannot go straight on.
#[derive(Clone, Copy)]
pub struct Exits {
    /// The reference has to run the step.
    pub bail: Block,
    /// The expression fails for sure: the same, unless somebody waits for it.
    pub fails: Block,
    pub drop: Block,
}

/// The code of a section while it is generated.
pub struct Emitter<'e, 'f, 's> {
    pub fb: &'e mut FunctionBuilder<'f>,
    pub scope: &'e mut Scope<'s>,
    pub functions: &'e Functions,
    pub regexes: &'e Regexes,
    pub held: &'e mut Held,
    pub asks: &'e mut Vec<Ask>,
    /// What is left to the reference in the part at hand.
    pub left: Vec<String>,
    pub template: Signature,
    pub frame: Value,
    pub row: Value,
    /// The position of the row in the selection.
    pub at: Value,
    pub base: Value,
    pub state: State,
    pub exits: Exits,
    /// Where a row goes that has come through the step.
    pub next: Block,
    /// Inside of a user's function: where `return` goes.
    pub returns: Option<Block>,
    pub depth: u32,
    /// User functions around the code at hand.
    pub inlined: u32,
    /// Expressions that may still be emitted.
    pub budget: u32,
    /// No step of the section has changed the body so far.
    pub body_untouched: bool,
    /// In a route over the body, whose local 0 is the body.
    pub subject_is_body: bool,
    /// By set of patterns of the route: where its words are.
    pub sets: Vec<Option<StackSlot>>,
    signatures: HashMap<usize, SigRef>,
    arguments: Option<StackSlot>,
    stack_bytes: usize,
    zero: Option<(Block, Value)>,
}

/// Expressions of one section, those of inlined functions among them.
pub const EXPRESSIONS_MAX: u32 = 20_000;

/// Expressions inside each other; the reference refuses what is deeper than its own, smaller bound.
const DEPTH_MAX: u32 = 200;

/// Memory on the stack for the code of a section, in bytes: far from what a thread has.
const STACK_BYTES_MAX: usize = 128 << 10;

/// Memory that calls share for what they are given, in bytes; a call with more has its own.
const ARGUMENT_BYTES: usize = 1 << 10;

/// Functions of the user inlined into each other.
pub const INLINE_DEPTH_MAX: u32 = 8;

pub type Emit<T> = Result<T, CodeError>;

/// Of every access: it never traps. Texts and ranges are not aligned.
pub fn flags() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

impl<'e, 'f, 's> Emitter<'e, 'f, 's> {
    #[allow(clippy::too_many_arguments, reason = "called once, with what the section has")]
    pub fn new(
        fb: &'e mut FunctionBuilder<'f>,
        scope: &'e mut Scope<'s>,
        functions: &'e Functions,
        regexes: &'e Regexes,
        held: &'e mut Held,
        asks: &'e mut Vec<Ask>,
        template: Signature,
        frame: Value,
    ) -> Emitter<'e, 'f, 's> {
        let never = Block::from_u32(0);
        Emitter {
            fb,
            scope,
            functions,
            regexes,
            held,
            asks,
            left: Vec::new(),
            template,
            frame,
            row: frame,
            at: frame,
            base: frame,
            state: State::default(),
            exits: Exits { bail: never, fails: never, drop: never },
            next: never,
            returns: None,
            depth: 0,
            inlined: 0,
            budget: EXPRESSIONS_MAX,
            body_untouched: true,
            subject_is_body: false,
            sets: Vec::new(),
            signatures: HashMap::new(),
            arguments: None,
            stack_bytes: 0,
            zero: None,
        }
    }

    pub fn int(&mut self, value: i64) -> Value {
        self.fb.ins().iconst(I64, value)
    }

    fn zero(&mut self) -> Value {
        let block = self.fb.current_block();
        match (self.zero, block) {
            (Some((known, value)), Some(block)) if known == block => value,
            (_, block) => {
                let value = self.int(0);
                self.zero = block.map(|block| (block, value));
                value
            }
        }
    }

    pub fn tag(&mut self, tag: u8) -> Value {
        self.fb.ins().iconst(I8, i64::from(tag))
    }

    pub fn load(&mut self, offset: i32) -> Value {
        self.fb.ins().load(I64, flags(), self.frame, offset)
    }

    /// A value of one type in one word.
    pub fn plain(&mut self, tag: u8, a: Value) -> Val {
        let b = self.zero();
        Val { kinds: Kinds::one(tag), tag: self.tag(tag), a, b, home: Home::Unknown, range: None }
    }

    pub fn null(&mut self) -> Val {
        let a = self.zero();
        self.plain(NULL, a)
    }

    pub fn text(&mut self, start: Value, len: Value, home: Home) -> Val {
        Val { kinds: Kinds::one(TEXT), tag: self.tag(TEXT), a: start, b: len, home, range: None }
    }

    /// A text that is a constant.
    pub fn constant_text(&mut self, text: &[u8]) -> Val {
        let known = self.held.written.iter().position(|known| known == text);
        let number = known.unwrap_or_else(|| {
            self.held.written.push(text.to_vec());
            self.held.written.len() - 1
        });
        let start = self.address_of(text);
        let len = self.int(text.len() as i64);
        self.text(start, len, Home::Constant(number as u32))
    }

    /// The address of a copy of the bytes with padding behind them.
    pub fn address_of(&mut self, bytes: &[u8]) -> Value {
        let mut padded = bytes.to_vec();
        padded.resize(bytes.len() + ARENA_PADDING, 0);
        self.scope.constant(self.fb, &padded)
    }

    pub fn constant(&mut self, value: &Const) -> Option<Val> {
        Some(match value {
            Const::Null => self.null(),
            Const::Bool(value) => {
                let a = self.int(i64::from(*value));
                self.plain(BOOL, a)
            }
            Const::Int(value) => self.number(INT, *value),
            Const::Float(value) => self.number(FLOAT, value.to_bits() as i64),
            Const::Text(text) => self.constant_text(text.as_bytes()),
            Const::Time(ms) => self.number(TIME, *ms),
            Const::Duration(ns) => self.number(DURATION, *ns),
            Const::Size(bytes) => self.number(SIZE, *bytes as i64),
            Const::Regex(setting) => {
                let regex = flow_plan::eval::build_regex(setting).ok()?;
                self.held_value(PlanValue::Regex(Arc::new(regex)))
            }
        })
    }

    fn number(&mut self, tag: u8, value: i64) -> Val {
        let a = self.int(value);
        self.plain(tag, a)
    }

    /// A constant value of the plan.
    pub fn held_value(&mut self, value: PlanValue<'static>) -> Val {
        match value {
            PlanValue::Null => self.null(),
            PlanValue::Bool(value) => self.number(BOOL, i64::from(value)),
            PlanValue::Int(value) => self.number(INT, value),
            PlanValue::Float(value) => self.number(FLOAT, value.to_bits() as i64),
            PlanValue::Text(text) => self.constant_text(&text),
            PlanValue::Time(ms) => self.number(TIME, ms),
            PlanValue::Duration(ns) => self.number(DURATION, ns),
            PlanValue::Size(bytes) => self.number(SIZE, bytes as i64),
            other => {
                let held = Box::new(other);
                let address = &raw const *held as i64;
                self.held.values.push(held);
                self.number(OTHER, address)
            }
        }
    }

    /// A condition of 8 bits: whether a value has this type.
    pub fn has_tag(&mut self, value: Val, tag: u8) -> Value {
        if !value.kinds.has(tag) {
            return self.fb.ins().iconst(I8, 0);
        }
        if value.kinds.is(tag) {
            return self.fb.ins().iconst(I8, 1);
        }
        self.fb.ins().icmp_imm_s(IntCC::Equal, value.tag, i64::from(tag))
    }

    /// Goes on only when the value has one of these types; otherwise the reference decides.
    pub fn guard(&mut self, value: Val, allowed: Kinds) -> Val {
        let extra = (0..=OTHER).filter(|tag| value.kinds.has(*tag) && !allowed.has(*tag)).count();
        if extra == 0 {
            return value;
        }
        let within: Vec<u8> = (0..=OTHER).filter(|tag| value.kinds.has(*tag) && allowed.has(*tag)).collect();
        let mut fits = None;
        for tag in &within {
            let is = self.fb.ins().icmp_imm_s(IntCC::Equal, value.tag, i64::from(*tag));
            fits = Some(match fits {
                None => is,
                Some(before) => self.fb.ins().bor(before, is),
            });
        }
        let on = self.fb.create_block();
        match fits {
            Some(fits) => {
                self.fb.ins().brif(fits, on, &[], self.exits.bail, &[]);
            }
            None => {
                // Never right; what follows is never reached.
                self.fb.ins().jump(self.exits.bail, &[]);
            }
        }
        self.fb.switch_to_block(on);
        let kinds = within.iter().fold(None, |kinds: Option<Kinds>, tag| {
            Some(kinds.map_or(Kinds::one(*tag), |kinds| kinds.or(Kinds::one(*tag))))
        });
        let kinds = kinds.unwrap_or(allowed);
        let tag = match kinds.single() {
            Some(tag) => self.tag(tag),
            None => value.tag,
        };
        Val { kinds, tag, ..value }
    }

    /// Leaves for `block` when the condition is true.
    pub fn leave_if(&mut self, condition: Value, block: Block) {
        let on = self.fb.create_block();
        self.fb.ins().brif(condition, block, &[], on, &[]);
        self.fb.switch_to_block(on);
    }

    /// Calls a function of the run time with words; gives its answer.
    pub fn call(&mut self, function: *const u8, args: &[Value]) -> Value {
        let signature = self.signature(args.len());
        let address = self.int(function as i64);
        let call = self.fb.ins().call_indirect(signature, address, args);
        self.fb.inst_results(call)[0]
    }

    fn signature(&mut self, params: usize) -> SigRef {
        if let Some(known) = self.signatures.get(&params) {
            return *known;
        }
        let mut signature = self.template.clone();
        signature.params = vec![AbiParam::new(I64); params];
        signature.returns = vec![AbiParam::new(I64)];
        let signature = self.fb.import_signature(signature);
        self.signatures.insert(params, signature);
        signature
    }

    /// After a call that answers with a status and, when it is done, a value in the frame.
    pub fn answer(&mut self, status: Value, kinds: Kinds) -> Val {
        self.check_status(status);
        let tag = self.fb.ins().load(I8, flags(), self.frame, frame::ANSWER_TAG);
        let a = self.load(frame::ANSWER_A);
        let b = self.load(frame::ANSWER_B);
        Val { kinds, tag, a, b, home: Home::Unknown, range: None }
    }

    /// Leaves unless the status of a call is [`runtime::DONE`].
    pub fn check_status(&mut self, status: Value) {
        if self.exits.fails == self.exits.bail {
            self.leave_if(status, self.exits.bail);
        } else {
            let fails = self.fb.ins().icmp_imm_s(IntCC::Equal, status, runtime::FAILS as i64);
            self.leave_if(fails, self.exits.fails);
            self.leave_if(status, self.exits.bail);
        }
    }

    /// Values in memory, for a call: their address.
    pub fn raw_values(&mut self, values: &[Val]) -> Value {
        let slot = self.arguments(values.len() * size_of::<runtime::Raw>());
        for (index, value) in values.iter().enumerate() {
            let offset = (index * size_of::<runtime::Raw>()) as i32;
            let tag = self.fb.ins().uextend(I64, value.tag);
            self.fb.ins().stack_store(I64, tag, slot, offset);
            self.fb.ins().stack_store(I64, value.a, slot, offset + 8);
            self.fb.ins().stack_store(I64, value.b, slot, offset + 16);
        }
        self.fb.ins().stack_addr(I64, slot, 0)
    }

    /// Memory for what one call is given: calls take turns with it.
    fn arguments(&mut self, bytes: usize) -> StackSlot {
        if bytes > ARGUMENT_BYTES {
            return self.stack(bytes);
        }
        match self.arguments {
            Some(slot) => slot,
            None => {
                let slot = self.stack(ARGUMENT_BYTES);
                self.arguments = Some(slot);
                slot
            }
        }
    }

    pub fn stack(&mut self, bytes: usize) -> StackSlot {
        self.stack_bytes += bytes;
        self.fb.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, bytes as u32, 3))
    }

    pub fn jump_with(&mut self, block: Block, value: Val) {
        let args = [BlockArg::Value(value.tag), BlockArg::Value(value.a), BlockArg::Value(value.b)];
        self.fb.ins().jump(block, &args);
    }

    /// A block that takes a value.
    pub fn join_block(&mut self) -> Block {
        let block = self.fb.create_block();
        for ty in [I8, I64, I64] {
            self.fb.append_block_param(block, ty as ClType);
        }
        block
    }

    pub fn joined(&mut self, block: Block, kinds: Kinds) -> Val {
        self.fb.switch_to_block(block);
        let params = self.fb.block_params(block).to_vec();
        Val { kinds, tag: params[0], a: params[1], b: params[2], home: Home::Unknown, range: None }
    }

    /// Gives an expression to the reference, with what it reads of the step so far.
    pub fn ask(&mut self, expr: &Expr, why: &str) -> Emit<Val> {
        let what = describe(expr);
        let line = format!("{what}: {why}");
        if !self.left.contains(&line) {
            self.left.push(line);
        }
        let mut reads = Reads::default();
        reads.expr(expr);
        let mut inputs: Vec<(u32, u32, Val)> = Vec::new();
        for local in reads.locals {
            if let Some(value) = self.local(local) {
                inputs.push((runtime::LOCAL, local, value));
            }
        }
        for (slot, value) in &self.state.headers {
            if reads.all_headers || reads.headers.contains(slot) {
                inputs.push((runtime::HEADER, *slot, *value));
            }
        }
        if let Some(body) = self.state.body {
            inputs.push((runtime::BODY, 0, body));
        }
        if let Some(time) = self.state.time {
            let time = self.plain(TIME, time);
            inputs.push((runtime::TIME_MS, 0, time));
        }
        let size = size_of::<runtime::RawInput>();
        let slot = self.arguments(inputs.len() * size);
        for (at, (what, index, value)) in inputs.iter().enumerate() {
            let offset = (at * size) as i32;
            let head = self.int(i64::from(*what) | i64::from(*index) << 32);
            let tag = self.fb.ins().uextend(I64, value.tag);
            for (offset, word) in [(0, head), (8, tag), (16, value.a), (24, value.b)]
                .map(|(inside, word)| (offset + inside, word))
            {
                self.fb.ins().stack_store(I64, word, slot, offset);
            }
        }
        let address = self.fb.ins().stack_addr(I64, slot, 0);
        let number = self.asks.len();
        self.asks.push(Ask { expr: expr.clone(), locals: self.state.locals.len() as u32 });
        let (number, count) = (self.int(number as i64), self.int(inputs.len() as i64));
        let status = self.call(runtime::ask as *const u8, &[self.frame, number, self.row, address, count]);
        Ok(self.answer(status, Kinds::ALL))
    }

    /// Counts an expression, and one more level of nesting until the caller takes it back.
    pub fn enter(&mut self) -> Emit<()> {
        self.spend()?;
        if self.stack_bytes > STACK_BYTES_MAX {
            return Err(CodeError::TooLarge("bytes of stack", STACK_BYTES_MAX));
        }
        if self.depth >= DEPTH_MAX {
            return Err(CodeError::TooLarge("nested expressions", DEPTH_MAX as usize));
        }
        self.depth += 1;
        Ok(())
    }

    /// Counts an expression.
    pub fn spend(&mut self) -> Emit<()> {
        if self.budget == 0 {
            return Err(CodeError::TooLarge("expressions", EXPRESSIONS_MAX as usize));
        }
        self.budget -= 1;
        Ok(())
    }

    pub fn header_column(&mut self, slot: u32) -> Value {
        let columns = self.load(frame::COLUMNS);
        self.fb.ins().load(I64, flags(), columns, slot as i32 * 8)
    }

    /// The range of the row in a column of ranges, in one word.
    pub fn range_at(&mut self, column: Value) -> Value {
        let offset = self.fb.ins().ishl_imm_s(self.row, 3);
        let address = self.fb.ins().iadd(column, offset);
        self.fb.ins().load(I64, flags(), address, 0)
    }

    pub fn set_range_at(&mut self, column: Value, range: Value) {
        let offset = self.fb.ins().ishl_imm_s(self.row, 3);
        let address = self.fb.ins().iadd(column, offset);
        self.fb.ins().store(flags(), range, address, 0);
    }

    /// The text of a range that is not absent.
    pub fn text_of_range(&mut self, range: Value) -> Val {
        let start = self.fb.ins().band_imm_u(range, 0xffff_ffff);
        let len = self.fb.ins().ushr_imm_s(range, 32);
        let address = self.fb.ins().iadd(self.base, start);
        let mut text = self.text(address, len, Home::Arena);
        text.range = Some(range);
        text
    }

    pub fn header(&mut self, slot: Slot) -> Val {
        if let Some(value) = self.state.headers.get(&slot.0) {
            return *value;
        }
        let column = self.header_column(slot.0);
        let range = self.range_at(column);
        let text = self.text_of_range(range);
        let start = self.fb.ins().ireduce(cranelift_codegen::ir::types::I32, range);
        let absent = self.fb.ins().icmp_imm_s(IntCC::Equal, start, i64::from(-1i32));
        let (null, is_text) = (self.tag(NULL), self.tag(TEXT));
        let tag = self.fb.ins().select(absent, null, is_text);
        Val { kinds: Kinds::TEXT_OR_NULL, tag, ..text }
    }

    pub fn body(&mut self) -> Val {
        if let Some(body) = self.state.body {
            return body;
        }
        let bodies = self.load(frame::BODIES);
        let range = self.range_at(bodies);
        self.text_of_range(range)
    }

    /// Milliseconds.
    pub fn time(&mut self) -> Value {
        if let Some(time) = self.state.time {
            return time;
        }
        let times = self.load(frame::TIMES);
        self.range_at(times)
    }
}

/// What an expression reads.
#[derive(Default)]
pub struct Reads {
    pub locals: std::collections::BTreeSet<u32>,
    pub headers: std::collections::BTreeSet<u32>,
    pub all_headers: bool,
    pub event: bool,
    pub lambda: bool,
}

impl Reads {
    pub fn expr(&mut self, expr: &Expr) {
        flow_plan::eval::visit(expr, &mut |expr| match expr {
            Expr::Local(local) => {
                self.locals.insert(*local);
            }
            Expr::Header(slot) => {
                self.headers.insert(slot.0);
            }
            Expr::Headers => self.all_headers = true,
            Expr::Lambda { .. } => self.lambda = true,
            Expr::Body | Expr::Time | Expr::EventId | Expr::EventSource | Expr::EventSize | Expr::Now => {
                self.event = true
            }
            _ => {}
        });
    }

    /// Nothing of an event: the value is the same for all.
    pub fn nothing(&self) -> bool {
        self.locals.is_empty() && self.headers.is_empty() && !self.all_headers && !self.event && !self.lambda
    }
}

/// What `flowc plan` calls an expression.
fn describe(expr: &Expr) -> String {
    match expr {
        Expr::Call { function, .. } => format!("`{function}`"),
        Expr::CallUser { .. } => "a function call".into(),
        Expr::Matches { regex, .. } => format!("`/{}/`", regex.pattern),
        Expr::MatchesDynamic { .. } => "a regex known at run time only".into(),
        Expr::List(_) | Expr::Range { .. } => "a list".into(),
        Expr::Map(_) => "a map".into(),
        Expr::Headers => "all headers as a map".into(),
        Expr::EventId => "`event.id`".into(),
        Expr::EventSource => "`event.source`".into(),
        Expr::In { .. } => "`in`".into(),
        Expr::Between { .. } => "a range of values".into(),
        Expr::Arith { .. } => "arithmetic".into(),
        Expr::Template(_) => "a formatted time".into(),
        _ => "an expression".into(),
    }
}
