//! Running the code of a section over a batch: the frame is filled, searches of the whole batch are made, and what
//! the code has found is given back.

use std::panic::resume_unwind;
use std::sync::Arc;

use flow_plan::Range;
use flow_plan::batch::Columns;
use flow_plan::native::{Call, Fate, NativeCode, NativeInstance};

use super::Touched;
use super::emit::Held;
use super::frame::Frame;
use super::runtime::{Memory, Running};
use crate::code::Code;
use crate::kernels::{Bitmaps, Classifier, Isa, Prefilter, RowBits};

/// A section's function.
pub type Entry = unsafe extern "C" fn(*mut Frame);

/// The machine code of a section, and what it points to.
pub struct SectionCode {
    pub(super) run: Entry,
    pub(super) steps: usize,
    /// How many arms the route has, and whether it is `route all`.
    pub(super) arms: Option<(usize, bool)>,
    pub(super) touched: Touched,
    pub(super) prefilters: Vec<Prefilter>,
    pub(super) joint: Option<Prefilter>,
    pub(super) classifier: Option<Classifier>,
    pub(super) held: Held,
    pub(super) _code: Code,
}

impl NativeCode for SectionCode {
    fn instance(self: Arc<Self>) -> Box<dyn NativeInstance> {
        let hits = self.prefilters.iter().map(|_| RowBits::default()).collect();
        Box::new(Instance { code: self, memory: Memory::default(), hits, bitmaps: Bitmaps::default() })
    }
}

/// After an arena of more bytes the bitmaps, which are up to as large, are not kept.
const KEPT_ARENA_MAX: usize = 8 << 20;

struct Instance {
    code: Arc<SectionCode>,
    memory: Memory,
    hits: Vec<RowBits>,
    bitmaps: Bitmaps,
}

impl NativeInstance for Instance {
    fn run(&mut self, mut call: Call<'_, '_>) {
        if call.rows.is_empty() {
            return;
        }
        if self.code.touched.changes {
            self.open_columns(Arc::make_mut(call.columns));
        }
        if !self.code.is_safe(call.columns, call.rows) || !self.write_constants(&mut call) {
            self.run_by_reference(call);
            return;
        }
        self.run_native(call);
    }
}

impl SectionCode {
    /// Whether all ranges that the code follows lie in the arena.
    fn is_safe(&self, columns: &Columns, rows: &[u32]) -> bool {
        let len = columns.arena.len() as u64;
        let inside = |range: &Range| u64::from(range.start) + u64::from(range.len) <= len;
        let bodies = rows.iter().all(|row| columns.bodies.get(*row as usize).is_some_and(inside));
        let mut slots = self.touched.reads.iter().chain(&self.touched.writes);
        bodies
            && rows.iter().all(|row| (*row as usize) < columns.times.len())
            && slots.all(|slot| match columns.headers.get(*slot as usize) {
                Some(column) if !column.is_empty() => rows.iter().all(|row| {
                    column.get(*row as usize).is_some_and(|range| range.is_absent() || inside(range))
                }),
                _ => true,
            })
    }
}

impl Instance {
    /// Makes the columns that the code writes.
    fn open_columns(&self, columns: &mut Columns) {
        for slot in &self.code.touched.writes {
            columns.column_mut(flow_plan::Slot(*slot));
        }
    }

    /// Puts the constants that the code writes into the arena. False: there is no room.
    fn write_constants(&mut self, call: &mut Call<'_, '_>) -> bool {
        self.memory.constants.clear();
        if !self.code.touched.changes || self.code.held.written.is_empty() {
            return true;
        }
        let columns = Arc::make_mut(call.columns);
        for text in &self.code.held.written {
            match columns.arena.push(text) {
                Ok(range) => self.memory.constants.push(range),
                Err(_) => return false,
            }
        }
        true
    }

    fn run_native(&mut self, call: Call<'_, '_>) {
        let code = &*self.code;
        let memory = &mut self.memory;
        let rows = call.columns.bodies.len();
        for (prefilter, hits) in code.prefilters.iter().zip(&mut self.hits) {
            prefilter.candidates(call.columns.arena.padded(), &call.columns.bodies, call.rows, hits);
        }
        if let Some(joint) = &code.joint {
            joint.patterns(call.columns.arena.padded(), &call.columns.bodies, call.rows, &mut memory.joint);
        }
        if let Some(classifier) = &code.classifier {
            let bodies = call.rows.iter().map(|row| call.columns.bodies[*row as usize].range());
            let (start, end) =
                bodies.fold((usize::MAX, 0), |(start, end), body| (start.min(body.start), end.max(body.end)));
            let padded = call.columns.arena.padded();
            classifier.classify(padded, start.min(end)..end, Isa::detect(), &mut self.bitmaps);
        }
        memory.hit_pointers.clear();
        memory.hit_pointers.extend(self.hits.iter().map(|hits| hits.words().as_ptr()));
        memory.dropped.clear();
        memory.dropped.resize(code.steps + 1, 0);
        if code.arms.is_some() && memory.taken.len() < call.rows.len() {
            memory.taken.resize(call.rows.len(), 0);
        }
        // The code writes only to columns that were made, and only when the batch is its own.
        let absent = Range::ABSENT;
        if memory.absent.len() < rows {
            memory.absent.resize(rows, absent);
        }
        let slots = code.touched.reads.iter().chain(&code.touched.writes).max().map_or(0, |slot| slot + 1);
        memory.columns.clear();
        let (mut bodies, mut times) =
            (call.columns.bodies.as_ptr().cast_mut(), call.columns.times.as_ptr().cast_mut());
        if code.touched.changes {
            let columns = Arc::make_mut(call.columns);
            (bodies, times) = (columns.bodies.as_mut_ptr(), columns.times.as_mut_ptr());
            for slot in 0..slots as usize {
                let column = columns.headers.get_mut(slot).filter(|column| !column.is_empty());
                memory.columns.push(column.map_or(memory.absent.as_mut_ptr(), |column| column.as_mut_ptr()));
            }
        } else {
            for slot in 0..slots as usize {
                let column = call.columns.headers.get(slot).filter(|column| !column.is_empty());
                memory
                    .columns
                    .push(column.map_or(memory.absent.as_mut_ptr(), |column| column.as_ptr().cast_mut()));
            }
        }
        let mut frame = Frame {
            base: call.columns.arena.padded().as_ptr(),
            arena_len: call.columns.arena.len() as u64,
            rows: call.rows.as_mut_ptr(),
            row_count: call.rows.len() as u64,
            kept: 0,
            bodies,
            times,
            columns: memory.columns.as_ptr(),
            constants: memory.constants.as_ptr(),
            hits: memory.hit_pointers.as_ptr(),
            joint: memory.joint.as_ptr(),
            bitmaps: &raw const self.bitmaps,
            taken: memory.taken.as_mut_ptr(),
            dropped: memory.dropped.as_mut_ptr(),
            now_ms: call.now_ms,
            row_is_new: 1,
            tag: 0,
            a: 0,
            b: 0,
            running: std::ptr::null_mut(),
        };
        let mut running = Running {
            columns: call.columns,
            reference: call.reference,
            memory,
            retired: Vec::new(),
            now_ms: call.now_ms,
            panic: None,
            route_all: code.arms.is_some_and(|(_, all)| all),
        };
        frame.running = (&raw mut running).cast();
        // SAFETY: the frame describes the batch, whose ranges were checked; columns and buffers are as long as the
        // code takes them to be; everything lives until the call has returned.
        unsafe { (code.run)(&raw mut frame) };
        if let Some(panic) = running.panic.take() {
            resume_unwind(panic);
        }
        let large = running.columns.arena.len() > KEPT_ARENA_MAX;
        drop(running);
        if large {
            self.bitmaps = Bitmaps::default();
        }
        let kept = frame.kept as usize;
        for (total, dropped) in call.dropped.iter_mut().zip(&self.memory.dropped) {
            *total += *dropped as usize;
        }
        let Some((_, all)) = code.arms else {
            call.rows.truncate(kept);
            return;
        };
        deal(&call.rows[..kept], &self.memory.taken[..kept], all, call.arms);
        call.rows.clear();
    }

    /// The whole section without machine code, for a batch that it cannot be trusted with.
    fn run_by_reference(&mut self, call: Call<'_, '_>) {
        let rows = std::mem::take(call.rows);
        let mut arms = Vec::new();
        'rows: for row in rows {
            for step in 0..self.code.steps {
                match call.reference.step(step, call.columns, row) {
                    Fate::Kept => {}
                    Fate::Dropped => {
                        call.dropped[step] += 1;
                        continue 'rows;
                    }
                    Fate::Failed => continue 'rows,
                }
            }
            if self.code.arms.is_none() {
                call.rows.push(row);
                continue;
            }
            match call.reference.route(call.columns, row, &mut arms) {
                Fate::Kept => arms.iter().for_each(|arm| call.arms[*arm as usize].push(row)),
                Fate::Dropped => call.dropped[self.code.steps] += 1,
                Fate::Failed => {}
            }
        }
    }
}

/// Gives each arm its rows.
fn deal(rows: &[u32], taken: &[u64], all: bool, arms: &mut [Vec<u32>]) {
    if !all {
        let mut counts = vec![0usize; arms.len()];
        for arm in taken {
            counts[*arm as usize] += 1;
        }
        for (arm, count) in arms.iter_mut().zip(counts) {
            arm.reserve_exact(count);
        }
    }
    for (row, taken) in rows.iter().zip(taken) {
        if !all {
            arms[*taken as usize].push(*row);
            continue;
        }
        let mut bits = *taken;
        while bits != 0 {
            arms[bits.trailing_zeros() as usize].push(*row);
            bits &= bits - 1;
        }
    }
}
