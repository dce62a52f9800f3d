//! Texts read as JSON for generated code: judged, and looked into for one member at a time.

use std::borrow::Cow;

use flow_plan::Value;
use flow_plan::eval::{Found, Reading, decode, value_from_json};
use flow_plan::function::Plain;
use flow_plan::ir::Type;

use super::super::frame::Frame;
use super::super::values::{NULL, OTHER};
use super::{BAIL, DONE, FAILS, guarded, open};

/// What a text that is read as JSON may hold: its members by name, and the type that it has to have.
pub struct Reader {
    /// A record of plain fields; none takes anything.
    pub ty: Option<Type>,
}

/// Member names on the way to a value, and the type it has to have.
pub struct Path {
    pub names: Vec<String>,
    pub ty: Option<Type>,
}

/// Reads a text as JSON, without making values of it: [`DONE`] for an object of the type, [`FAILS`] when it is no
/// JSON or of another type, [`BAIL`] otherwise.
pub unsafe extern "C" fn json_open(
    frame: *mut Frame,
    reader: *const Reader,
    tape: u64,
    start: *const u8,
    len: u64,
) -> u64 {
    // SAFETY: called by generated code with its frame.
    let (_, running) = unsafe { open(frame) };
    guarded(running, BAIL, || {
        // SAFETY: a text of generated code, a reader that the code holds.
        let (text, reader) = unsafe { (std::slice::from_raw_parts(start, len as usize), &*reader) };
        running.memory.tape(tape as usize);
        let memory = &mut *running.memory;
        let tape = &mut memory.tapes[tape as usize];
        match tape.parse(text) {
            Reading::Read => {}
            Reading::Refused => return FAILS,
            Reading::Unsure => return BAIL,
        }
        memory.scratch.clear();
        let Found::Map(root) = tape.root(text, &mut memory.scratch) else { return BAIL };
        let Some(Type::Record { fields, .. }) = &reader.ty else { return DONE };
        for (name, ty) in fields {
            memory.scratch.clear();
            let found = tape.member(text, root, name, &mut memory.scratch);
            let value = match scalar(found, &memory.scratch) {
                // A field that is missing is not one that is null.
                Some(_) if found == Found::Absent => {
                    if matches!(ty, Type::Optional(_)) {
                        continue;
                    }
                    return FAILS;
                }
                Some(value) => value,
                None => return BAIL,
            };
            if decode(value, ty).is_err() {
                return FAILS;
            }
        }
        DONE
    })
}

/// A value inside of a text that was read as JSON: [`DONE`] or [`BAIL`].
pub unsafe extern "C" fn json_member(
    frame: *mut Frame,
    path: *const Path,
    tape: u64,
    start: *const u8,
    len: u64,
) -> u64 {
    // SAFETY: called by generated code with its frame.
    let (frame, running) = unsafe { open(frame) };
    guarded(running, BAIL, || {
        // SAFETY: a text of generated code, which lives until the row is through; a path that the code holds.
        let (text, path): (&'static [u8], _) =
            unsafe { (std::slice::from_raw_parts(start, len as usize), &*path) };
        let mut scratch = std::mem::take(&mut running.memory.scratch);
        scratch.clear();
        let mut found = running.memory.tape(tape as usize).root(text, &mut scratch);
        for name in &path.names {
            found = match found {
                Found::Map(node) => {
                    scratch.clear();
                    running.memory.tape(tape as usize).member(text, node, name, &mut scratch)
                }
                Found::Absent | Found::Null => Found::Null,
                _ => {
                    running.memory.scratch = scratch;
                    return BAIL;
                }
            };
        }
        let status = match (scalar(found, &scratch), &path.ty) {
            (Some(value), None) => frame.answer_scalar(&mut running.memory.texts, &value),
            (Some(Value::Null), Some(Type::Optional(_))) => frame.done(NULL, 0),
            (Some(value), Some(ty)) => match decode(value, ty) {
                Ok(value) => frame.answer_scalar(&mut running.memory.texts, &value),
                Err(_) => BAIL,
            },
            (None, Some(_)) => BAIL,
            // A map or list: the whole has to be made for it.
            (None, None) => match value_from_json(text) {
                Ok(whole) => {
                    let whole = Box::new(whole);
                    let mut part: &Value<'static> = &whole;
                    for name in &path.names {
                        let Value::Map(entries) = part else { break };
                        let Some((_, inside)) = entries.iter().find(|(key, _)| *key == name.as_str()) else {
                            break;
                        };
                        part = inside;
                    }
                    frame.answer(OTHER, std::ptr::from_ref(part) as u64, 0);
                    running.memory.values.push(whole);
                    DONE
                }
                Err(_) => BAIL,
            },
        };
        running.memory.scratch = scratch;
        status
    })
}

/// The whole of a text that was read as JSON, as a value: [`DONE`] or [`BAIL`].
pub unsafe extern "C" fn json_value(
    frame: *mut Frame,
    reader: *const Reader,
    start: *const u8,
    len: u64,
) -> u64 {
    // SAFETY: called by generated code with its frame.
    let (frame, running) = unsafe { open(frame) };
    guarded(running, BAIL, || {
        // SAFETY: a text of generated code, which lives until the row is through; a reader that the code holds.
        let (text, reader): (&'static [u8], _) =
            unsafe { (std::slice::from_raw_parts(start, len as usize), &*reader) };
        let value = value_from_json(text).and_then(|value| match &reader.ty {
            Some(ty) => decode(value, ty),
            None => Ok(value),
        });
        match value {
            Ok(value) => {
                frame.answer_value(running.memory, value);
                DONE
            }
            Err(_) => BAIL,
        }
    })
}

/// What was found as a value; `None` for maps and lists. A text with escapes is in `written`.
fn scalar<'v>(found: Found<'v>, written: &'v [u8]) -> Option<Value<'v>> {
    Some(match found {
        Found::Absent | Found::Null | Found::Plain(Plain::Null) => Value::Null,
        Found::Plain(Plain::Bool(value)) => Value::Bool(value),
        Found::Plain(Plain::Int(value)) => Value::Int(value),
        Found::Plain(Plain::Float(value)) => Value::Float(value),
        Found::Plain(Plain::Text(text)) => Value::Text(Cow::Borrowed(text)),
        Found::Plain(Plain::Time(value)) => Value::Time(value),
        Found::Plain(Plain::Duration(value)) => Value::Duration(value),
        Found::Plain(Plain::Size(value)) => Value::Size(value),
        Found::Written => Value::Text(Cow::Borrowed(written)),
        Found::Map(_) | Found::List(_) => return None,
    })
}
