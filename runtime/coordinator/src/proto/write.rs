//! Puts records together, at the end of a buffer that the caller keeps.

use super::{Acl, Id};

pub(super) fn put_boolean(out: &mut Vec<u8>, value: bool) {
    out.push(u8::from(value));
}

pub(super) fn put_int(out: &mut Vec<u8>, value: i32) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(super) fn put_long(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// A length as the wire has it. What is longer than it can say is never made: packets end far below.
pub(super) fn put_length(out: &mut Vec<u8>, length: usize) {
    put_int(out, i32::try_from(length).unwrap_or(i32::MAX));
}

/// A buffer; `None` is null.
pub fn put_buffer(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        None => put_int(out, -1),
        Some(bytes) => {
            put_length(out, bytes.len());
            out.extend_from_slice(bytes);
        }
    }
}

/// A string.
pub fn put_string(out: &mut Vec<u8>, value: &str) {
    put_buffer(out, Some(value.as_bytes()));
}

pub(super) fn put_strings<S: AsRef<str>>(out: &mut Vec<u8>, values: &[S]) {
    put_length(out, values.len());
    for value in values {
        put_string(out, value.as_ref());
    }
}

pub(super) fn put_id(out: &mut Vec<u8>, id: &Id) {
    put_string(out, &id.scheme);
    put_string(out, &id.id);
}

pub(super) fn put_acl(out: &mut Vec<u8>, acl: &[Acl]) {
    put_length(out, acl.len());
    for entry in acl {
        put_int(out, entry.perms);
        put_id(out, &entry.id);
    }
}
