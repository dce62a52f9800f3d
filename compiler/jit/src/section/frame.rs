//! What generated code and its run time share during one batch. The layout is part of the code: offsets are taken
//! with `offset_of!`.

use std::mem::offset_of;

use flow_plan::Range;

use super::runtime::Running;
use crate::kernels::Bitmaps;

/// One batch, as generated code sees it. Pointers are valid while the code runs; those into the batch are renewed
/// by whatever moves it.
#[repr(C)]
pub struct Frame {
    /// The arena of the batch and its length without padding.
    pub base: *const u8,
    pub arena_len: u64,
    /// The rows to process; those that come through are written back to its front.
    pub rows: *mut u32,
    pub row_count: u64,
    pub kept: u64,
    pub bodies: *mut Range,
    pub times: *mut i64,
    /// By slot; for a column that is absent: a column of absent values.
    pub columns: *const *mut Range,
    /// Constants that the section writes, by number.
    pub constants: *const Range,
    /// By prefilter: one bit per position in `rows`, set when the row may match.
    pub hits: *const *const u64,
    /// By position in `rows`: one bit for each pattern of the route that the row may match.
    pub joint: *const u64,
    /// Bytes of bodies that searches want marked.
    pub bitmaps: *const Bitmaps,
    /// By kept row: the arm of the route, or with `route all` its arms as bits.
    pub taken: *mut u64,
    /// By step and for the route: rows dropped on purpose.
    pub dropped: *mut u64,
    pub now_ms: i64,
    /// Set by the code at the beginning of each row: what was made for the one before can be forgotten.
    pub row_is_new: u64,
    /// What a call of the run time answers.
    pub tag: u64,
    pub a: u64,
    pub b: u64,
    /// Where the run time finds everything else.
    pub running: *mut Running<'static, 'static>,
}

macro_rules! offsets {
    ($($name:ident = $field:ident),* $(,)?) => {
        $(pub const $name: i32 = offset_of!(Frame, $field) as i32;)*
    };
}

offsets! {
    BASE = base,
    ARENA_LEN = arena_len,
    ROWS = rows,
    ROW_COUNT = row_count,
    KEPT = kept,
    BODIES = bodies,
    TIMES = times,
    COLUMNS = columns,
    CONSTANTS = constants,
    HITS = hits,
    JOINT = joint,
    BITMAPS = bitmaps,
    TAKEN = taken,
    DROPPED = dropped,
    NOW_MS = now_ms,
    ROW_IS_NEW = row_is_new,
    ANSWER_TAG = tag,
    ANSWER_A = a,
    ANSWER_B = b,
}
