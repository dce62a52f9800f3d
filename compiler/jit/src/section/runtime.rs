//! What generated code calls: the reference evaluator, functions of the library, and work on texts. No call
//! unwinds into generated code: a panic is kept and goes on when the code has returned.

use std::any::Any;
use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use flow_plan::batch::{ARENA_PADDING, Arena, Columns};
use flow_plan::eval::{TEXT_BYTES_MAX, decode, value_to_text};
use flow_plan::function::{CallContext, EvalError, FunctionImpl, Plain, PlainAnswer, PlainForm};
use flow_plan::ir::Type;
use flow_plan::native::{Fate, Inputs, Reference};
use flow_plan::{Slot, Value};

mod json;
mod memory;

pub use json::{Path, Reader, json_member, json_open, json_value};
pub use memory::{Memory, Texts};

use super::frame::Frame;
use super::values::{BOOL, DURATION, FLOAT, INT, NULL, OTHER, SIZE, TEXT, TIME};

/// Status of a call: the answer is in the frame.
pub const DONE: u64 = 0;
/// The reference has to run the step.
pub const BAIL: u64 = 1;
/// The expression fails, whatever the rest of the step does.
pub const FAILS: u64 = 2;
/// Of a step that the reference ran: the row is gone.
pub const GONE: u64 = 1;
/// Something panicked: the code returns at once.
pub const STOP: u64 = 3;
/// Of a route that the reference ran: no arm takes the row.
pub const NOWHERE: u64 = u64::MAX;
/// No room in the arena.
pub const FULL: u64 = u64::MAX;

/// The safe side of a [`Frame`].
pub struct Running<'c, 'r> {
    pub columns: &'c mut Arc<Columns>,
    pub reference: &'c mut Reference<'r>,
    pub memory: &'c mut Memory,
    /// Arenas that were outgrown; texts may still point into them.
    pub retired: Vec<Arena>,
    pub now_ms: i64,
    pub panic: Option<Box<dyn Any + Send>>,
    pub route_all: bool,
}

/// A value as generated code hands it over.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Raw {
    pub tag: u64,
    pub a: u64,
    pub b: u64,
}

/// What an asked expression may read: `what` is one of `LOCAL`, `HEADER`, `BODY`, `TIME_MS`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct RawInput {
    pub what: u32,
    pub index: u32,
    pub value: Raw,
}

pub const LOCAL: u32 = 0;
pub const HEADER: u32 = 1;
pub const BODY: u32 = 2;
pub const TIME_MS: u32 = 3;

impl Raw {
    /// # Safety
    ///
    /// The words are those of a value that generated code holds, so texts and other values they point to live until
    /// the row is through.
    unsafe fn text(self) -> &'static [u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts(self.a as *const u8, self.b as usize) }
    }

    /// # Safety
    ///
    /// As [`Raw::text`].
    unsafe fn value(self) -> Value<'static> {
        match self.tag as u8 {
            BOOL => Value::Bool(self.a != 0),
            INT => Value::Int(self.a as i64),
            FLOAT => Value::Float(f64::from_bits(self.a)),
            // SAFETY: as above.
            TEXT => Value::Text(Cow::Borrowed(unsafe { self.text() })),
            TIME => Value::Time(self.a as i64),
            DURATION => Value::Duration(self.a as i64),
            SIZE => Value::Size(self.a),
            // SAFETY: as above: it points to one of `Memory::values`, or into one.
            OTHER => unsafe { (*(self.a as *const Value<'static>)).clone() },
            _ => Value::Null,
        }
    }

    /// # Safety
    ///
    /// As [`Raw::text`].
    unsafe fn plain(self) -> Option<Plain<'static>> {
        Some(match self.tag as u8 {
            NULL => Plain::Null,
            BOOL => Plain::Bool(self.a != 0),
            INT => Plain::Int(self.a as i64),
            FLOAT => Plain::Float(f64::from_bits(self.a)),
            // SAFETY: as above.
            TEXT => Plain::Text(unsafe { self.text() }),
            TIME => Plain::Time(self.a as i64),
            DURATION => Plain::Duration(self.a as i64),
            SIZE => Plain::Size(self.a),
            _ => return None,
        })
    }
}

/// The frame and its safe side, and what was made for earlier rows forgotten.
///
/// # Safety
///
/// Called only by generated code, with the frame of its run; nothing else refers to either meanwhile.
unsafe fn open<'f>(frame: *mut Frame) -> (&'f mut Frame, &'f mut Running<'static, 'static>) {
    // SAFETY: as above.
    let frame = unsafe { &mut *frame };
    // SAFETY: `running` is set for the whole run.
    let running = unsafe { &mut *frame.running };
    if frame.row_is_new != 0 {
        frame.row_is_new = 0;
        running.memory.next_row();
    }
    (frame, running)
}

/// Runs what may panic.
fn guarded(running: *mut Running<'static, 'static>, otherwise: u64, run: impl FnOnce() -> u64) -> u64 {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| {
        // SAFETY: what ran has given its borrow of it back by unwinding.
        unsafe { (*running).panic = Some(payload) };
        otherwise
    })
}

impl Frame {
    fn answer(&mut self, tag: u8, a: u64, b: u64) {
        (self.tag, self.a, self.b) = (u64::from(tag), a, b);
    }

    fn answer_text(&mut self, texts: &mut Texts, text: &[u8]) {
        let address = text.as_ptr() as u64;
        let inside =
            address >= self.base as u64 && address + text.len() as u64 <= self.base as u64 + self.arena_len;
        let (start, len) = if inside { (text.as_ptr(), text.len()) } else { texts.keep(text) };
        self.answer(TEXT, start as u64, len as u64);
    }

    /// Answers with a value without parts; others are left to the reference.
    fn answer_scalar(&mut self, texts: &mut Texts, value: &Value<'_>) -> u64 {
        match value {
            Value::Null => self.answer(NULL, 0, 0),
            Value::Bool(value) => self.answer(BOOL, u64::from(*value), 0),
            Value::Int(value) => self.answer(INT, *value as u64, 0),
            Value::Float(value) => self.answer(FLOAT, value.to_bits(), 0),
            Value::Text(text) => self.answer_text(texts, text),
            Value::Time(value) => self.answer(TIME, *value as u64, 0),
            Value::Duration(value) => self.answer(DURATION, *value as u64, 0),
            Value::Size(value) => self.answer(SIZE, *value, 0),
            Value::List(_) | Value::Map(_) | Value::Regex(_) | Value::Lambda(_) => return BAIL,
        }
        DONE
    }

    /// Answers with a value that borrows from nothing that ends before the row is through.
    fn answer_value(&mut self, memory: &mut Memory, value: Value<'static>) {
        if self.answer_scalar(&mut memory.texts, &value) == BAIL {
            let boxed = Box::new(value);
            self.answer(OTHER, &raw const *boxed as u64, 0);
            memory.values.push(boxed);
        }
    }

    /// Answers with a part of a value of the row.
    fn answer_part(&mut self, memory: &mut Memory, value: &Value<'static>) {
        if self.answer_scalar(&mut memory.texts, value) == BAIL {
            self.answer(OTHER, std::ptr::from_ref(value) as u64, 0);
        }
    }

    /// Renews the pointers into the arena.
    pub fn renew(&mut self, columns: &Columns) {
        self.base = columns.arena.padded().as_ptr();
        self.arena_len = columns.arena.len() as u64;
    }
}

/// The reference runs a whole step for a row.
pub unsafe extern "C" fn bail_step(frame: *mut Frame, step: u64, row: u64) -> u64 {
    // SAFETY: called by generated code with its frame.
    let (frame, running) = unsafe { open(frame) };
    guarded(running, STOP, || {
        let fate = running.reference.step(step as usize, running.columns, row as u32);
        frame.renew(running.columns);
        match fate {
            Fate::Kept => DONE,
            Fate::Failed => GONE,
            Fate::Dropped => {
                // SAFETY: there is one counter for each step of the section.
                unsafe { *frame.dropped.add(step as usize) += 1 };
                GONE
            }
        }
    })
}

/// The reference decides where a row goes: an arm, or the arms as bits, or [`NOWHERE`].
pub unsafe extern "C" fn bail_route(frame: *mut Frame, route: u64, row: u64) -> u64 {
    // SAFETY: called by generated code with its frame.
    let (frame, running) = unsafe { open(frame) };
    guarded(running, NOWHERE, || {
        let arms = &mut running.memory.arms;
        match running.reference.route(running.columns, row as u32, arms) {
            Fate::Kept if running.route_all => arms.iter().fold(0, |bits, arm| bits | 1 << arm),
            Fate::Kept => u64::from(arms[0]),
            Fate::Failed => NOWHERE,
            Fate::Dropped => {
                // SAFETY: the counter of the route stands behind those of the steps.
                unsafe { *frame.dropped.add(route as usize) += 1 };
                NOWHERE
            }
        }
    })
}

/// Puts a text into the arena of the batch: its range in one word, or [`FULL`].
pub unsafe extern "C" fn append(frame: *mut Frame, start: *const u8, len: u64) -> u64 {
    // SAFETY: called by generated code with its frame.
    let (frame, running) = unsafe { open(frame) };
    guarded(running, FULL, || {
        // SAFETY: a text of generated code.
        let text = unsafe { std::slice::from_raw_parts(start, len as usize) };
        let Some(columns) = Arc::get_mut(running.columns) else { return FULL };
        if let Some(old) = columns.arena.make_room(text.len() + ARENA_PADDING) {
            running.retired.push(old);
        }
        let Ok(range) = columns.arena.push(text) else { return FULL };
        frame.renew(columns);
        u64::from(range.start) | u64::from(range.len) << 32
    })
}

/// The value of an expression by the reference: [`DONE`] or [`BAIL`].
pub unsafe extern "C" fn ask(
    frame: *mut Frame,
    ask: u64,
    row: u64,
    inputs: *const RawInput,
    count: u64,
) -> u64 {
    // SAFETY: called by generated code with its frame.
    let (frame, running) = unsafe { open(frame) };
    guarded(running, BAIL, || {
        // SAFETY: the code has filled in this many of them.
        let raw = unsafe { std::slice::from_raw_parts(inputs, count as usize) };
        let mut inputs = Inputs::default();
        for input in raw {
            // SAFETY: values of generated code.
            let value = unsafe { input.value.value() };
            match input.what {
                LOCAL => inputs.locals.push((input.index, value)),
                HEADER => {
                    // SAFETY: as above.
                    let text = (input.value.tag as u8 == TEXT).then(|| unsafe { input.value.text() });
                    inputs.headers.push((Slot(input.index), text));
                }
                // SAFETY: as above.
                BODY => inputs.body = Some(unsafe { input.value.text() }),
                _ => inputs.time_ms = Some(input.value.a as i64),
            }
        }
        let memory = &mut *running.memory;
        running.reference.ask(ask as usize, running.columns, row as u32, &inputs, |value| match value {
            Some(Value::Text(text)) => {
                frame.answer_text(&mut memory.texts, text);
                DONE
            }
            Some(value) => {
                frame.answer_value(memory, value.clone().into_owned());
                DONE
            }
            None => BAIL,
        })
    })
}

/// What a function of the library is called with.
struct Context {
    now_ms: i64,
}

impl CallContext for Context {
    fn call_lambda<'a>(&mut self, _: &Value<'a>, _: Value<'a>) -> Result<Value<'a>, EvalError> {
        Err(EvalError::new("a function was called without its frame"))
    }

    fn now_ms(&self) -> i64 {
        self.now_ms
    }
}

/// Calls a function of the library: [`DONE`] or [`FAILS`].
pub unsafe extern "C" fn call(
    frame: *mut Frame,
    function: *const FunctionImpl,
    args: *const Raw,
    count: u64,
) -> u64 {
    // SAFETY: called by generated code with its frame.
    let (frame, running) = unsafe { open(frame) };
    guarded(running, BAIL, || {
        // SAFETY: the code has filled in this many of them, and holds the function.
        let (args, function) = unsafe { (std::slice::from_raw_parts(args, count as usize), *function) };
        // SAFETY: values of generated code.
        let args = args.iter().map(|arg| unsafe { arg.value() }).collect();
        match function(&mut Context { now_ms: running.now_ms }, args) {
            Ok(value) => {
                frame.answer_value(running.memory, value);
                DONE
            }
            Err(_) => FAILS,
        }
    })
}

/// Calls the plain form of a function: [`DONE`], [`FAILS`], or [`BAIL`] when only the function itself can tell.
pub unsafe extern "C" fn call_plain(
    frame: *mut Frame,
    form: *const PlainForm,
    args: *const Raw,
    count: u64,
) -> u64 {
    // SAFETY: called by generated code with its frame.
    let (frame, running) = unsafe { open(frame) };
    guarded(running, BAIL, || {
        // SAFETY: the code has filled in this many of them, and holds the form.
        let (args, form) = unsafe { (std::slice::from_raw_parts(args, count as usize), &*form) };
        let mut plain = [Plain::Null; PLAIN_ARGS_MAX];
        for (place, arg) in plain.iter_mut().zip(args) {
            // SAFETY: values of generated code.
            let Some(value) = (unsafe { arg.plain() }) else { return BAIL };
            *place = value;
        }
        let mut scratch = std::mem::take(&mut running.memory.scratch);
        scratch.clear();
        let status = match form.call(&plain[..args.len()], &mut scratch) {
            PlainAnswer::Value(Plain::Null) => frame.done(NULL, 0),
            PlainAnswer::Value(Plain::Bool(value)) => frame.done(BOOL, u64::from(value)),
            PlainAnswer::Value(Plain::Int(value)) => frame.done(INT, value as u64),
            PlainAnswer::Value(Plain::Float(value)) => frame.done(FLOAT, value.to_bits()),
            PlainAnswer::Value(Plain::Time(value)) => frame.done(TIME, value as u64),
            PlainAnswer::Value(Plain::Duration(value)) => frame.done(DURATION, value as u64),
            PlainAnswer::Value(Plain::Size(value)) => frame.done(SIZE, value),
            PlainAnswer::Value(Plain::Text(text)) => {
                // A piece of an argument stays where it is.
                let within = |arg: &Plain<'_>| match arg {
                    Plain::Text(whole) => {
                        let (whole, part) = (whole.as_ptr_range(), text.as_ptr_range());
                        whole.start <= part.start && part.end <= whole.end
                    }
                    _ => false,
                };
                if plain[..args.len()].iter().any(within) {
                    frame.answer(TEXT, text.as_ptr() as u64, text.len() as u64);
                } else {
                    frame.answer_text(&mut running.memory.texts, text);
                }
                DONE
            }
            PlainAnswer::Written if scratch.len() > TEXT_BYTES_MAX => BAIL,
            PlainAnswer::Written => {
                let (start, len) = running.memory.texts.keep(&scratch);
                frame.answer(TEXT, start as u64, len as u64);
                DONE
            }
            PlainAnswer::Fails => FAILS,
            PlainAnswer::Unsure => BAIL,
        };
        running.memory.scratch = scratch;
        status
    })
}

/// Arguments of a plain form.
pub const PLAIN_ARGS_MAX: usize = 8;

impl Frame {
    fn done(&mut self, tag: u8, a: u64) -> u64 {
        self.answer(tag, a, 0);
        DONE
    }
}

/// The text of a value.
pub unsafe extern "C" fn to_text(frame: *mut Frame, tag: u64, a: u64, b: u64) -> u64 {
    // SAFETY: called by generated code with its frame.
    let (frame, running) = unsafe { open(frame) };
    guarded(running, BAIL, || {
        // SAFETY: a value of generated code.
        let value = unsafe { Raw { tag, a, b }.value() };
        let mut scratch = std::mem::take(&mut running.memory.scratch);
        scratch.clear();
        value_to_text(&value, &mut scratch);
        let (start, len) = running.memory.texts.keep(&scratch);
        running.memory.scratch = scratch;
        frame.done_text(start, len)
    })
}

impl Frame {
    fn done_text(&mut self, start: *const u8, len: usize) -> u64 {
        self.answer(TEXT, start as u64, len as u64);
        DONE
    }
}

/// The texts of some values one after the other; null gives nothing.
pub unsafe extern "C" fn concat(frame: *mut Frame, pieces: *const Raw, count: u64) -> u64 {
    // SAFETY: called by generated code with its frame.
    let (frame, running) = unsafe { open(frame) };
    guarded(running, BAIL, || {
        // SAFETY: the code has filled in this many of them.
        let pieces = unsafe { std::slice::from_raw_parts(pieces, count as usize) };
        let mut scratch = std::mem::take(&mut running.memory.scratch);
        scratch.clear();
        for piece in pieces {
            match piece.tag as u8 {
                NULL => {}
                // SAFETY: a value of generated code.
                TEXT => scratch.extend_from_slice(unsafe { piece.text() }),
                // SAFETY: as above.
                _ => value_to_text(&unsafe { piece.value() }, &mut scratch),
            }
            if scratch.len() > TEXT_BYTES_MAX {
                break;
            }
        }
        let status = if scratch.len() > TEXT_BYTES_MAX {
            BAIL
        } else {
            let (start, len) = running.memory.texts.keep(&scratch);
            frame.done_text(start, len)
        };
        running.memory.scratch = scratch;
        status
    })
}

/// A member of a map: [`DONE`], or [`BAIL`] for other values.
pub unsafe extern "C" fn member(frame: *mut Frame, object: u64, name: *const u8, len: u64) -> u64 {
    // SAFETY: called by generated code with its frame.
    let (frame, running) = unsafe { open(frame) };
    guarded(running, BAIL, || {
        // SAFETY: the object is a value of the row, the name a constant of the code.
        let (object, name) =
            unsafe { (&*(object as *const Value<'static>), std::slice::from_raw_parts(name, len as usize)) };
        let Value::Map(entries) = object else { return BAIL };
        match entries.iter().find(|(key, _)| key.as_bytes() == name) {
            Some((_, value)) => frame.answer_part(running.memory, value),
            None => frame.answer(NULL, 0, 0),
        }
        DONE
    })
}

/// An element of a list by number, or of a map by text: [`DONE`] or [`BAIL`].
pub unsafe extern "C" fn index(frame: *mut Frame, object: u64, tag: u64, a: u64, b: u64) -> u64 {
    // SAFETY: called by generated code with its frame.
    let (frame, running) = unsafe { open(frame) };
    guarded(running, BAIL, || {
        // SAFETY: values of generated code.
        let object = unsafe { &*(object as *const Value<'static>) };
        let found = match (object, tag as u8) {
            (Value::List(items), INT) => usize::try_from(a as i64).ok().and_then(|at| items.get(at)),
            (Value::Map(entries), TEXT) => {
                // SAFETY: as above.
                let name = unsafe { Raw { tag, a, b }.text() };
                match entries.iter().find(|(key, _)| key.as_bytes() == name) {
                    Some((_, value)) => Some(value),
                    None => return frame.done(NULL, 0),
                }
            }
            _ => None,
        };
        let Some(value) = found else { return BAIL };
        frame.answer_part(running.memory, value);
        DONE
    })
}

/// A value against a type: [`DONE`] or [`FAILS`].
pub unsafe extern "C" fn decode_value(frame: *mut Frame, ty: *const Type, tag: u64, a: u64, b: u64) -> u64 {
    // SAFETY: called by generated code with its frame.
    let (frame, running) = unsafe { open(frame) };
    guarded(running, BAIL, || {
        // SAFETY: a value of generated code, a type that the code holds.
        let (value, ty) = unsafe { (Raw { tag, a, b }.value(), &*ty) };
        match decode(value, ty) {
            Ok(value) => {
                frame.answer_value(running.memory, value);
                DONE
            }
            Err(_) => FAILS,
        }
    })
}

/// The order of two texts: negative, 0 or positive.
pub unsafe extern "C" fn compare_texts(a: *const u8, a_len: u64, b: *const u8, b_len: u64) -> i64 {
    // SAFETY: texts of generated code.
    let (a, b) = unsafe {
        (std::slice::from_raw_parts(a, a_len as usize), std::slice::from_raw_parts(b, b_len as usize))
    };
    a.cmp(b) as i64
}

/// Whether two values are equal.
pub unsafe extern "C" fn equal_values(tag: u64, a: u64, b: u64, tag2: u64, a2: u64, b2: u64) -> u64 {
    // SAFETY: values of generated code.
    let (left, right) = unsafe { (Raw { tag, a, b }.value(), Raw { tag: tag2, a: a2, b: b2 }.value()) };
    u64::from(flow_plan::eval::values_equal(&left, &right))
}

/// Whether two texts of the same length are equal.
pub unsafe extern "C" fn equal_bytes(a: *const u8, b: *const u8, len: u64) -> u64 {
    // SAFETY: texts of generated code.
    let (a, b) =
        unsafe { (std::slice::from_raw_parts(a, len as usize), std::slice::from_raw_parts(b, len as usize)) };
    u64::from(a == b)
}

/// Whether a text is one of a sorted list.
pub unsafe extern "C" fn in_texts(texts: *const Vec<Vec<u8>>, text: *const u8, len: u64) -> u64 {
    // SAFETY: a list that the code holds, a text of generated code.
    let (texts, text) = unsafe { (&*texts, std::slice::from_raw_parts(text, len as usize)) };
    u64::from(texts.binary_search_by(|known| known.as_slice().cmp(text)).is_ok())
}
