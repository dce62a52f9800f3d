//! What must be so of every history, whatever broke while it was made. Each check gives the first violation in words.

mod ephemerals;
mod linearizable;
mod reads;
mod watches;
mod writes;

pub use ephemerals::check_ephemerals;
pub use linearizable::{Model, Operation, Register, RegisterCall, check_registers, linearizable};
pub use reads::{check_children, check_pairs, check_reads, check_sessions};
pub use watches::check_watches;
pub use writes::{check_sequential, check_writes};

use super::client::Notice;
use super::history::{History, Known};

/// What the checks must know of the workload.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// Paths that are only written together, by multis that give both the same value.
    pub pairs: Vec<(String, String)>,
    /// Paths whose reads behind a `sync` are checked together with their writes.
    pub registers: Vec<String>,
}

/// All checks.
///
/// # Errors
/// The first violation.
pub fn check_history(history: &History, expected: &Expected) -> Result<(), String> {
    for (index, line) in history.lines.iter().enumerate() {
        if let Notice::Violated { what } = &line.notice {
            return Err(format!("the server broke the protocol: {what}; {}", history.tell(index)));
        }
    }
    let known = Known::of(history)?;
    check_writes(history, &known)?;
    check_sequential(history)?;
    check_sessions(history)?;
    check_reads(history, &known)?;
    check_children(history, &known)?;
    check_pairs(history, &expected.pairs)?;
    check_watches(history, &known)?;
    check_ephemerals(history)?;
    check_registers(history, &expected.registers)
}

#[cfg(test)]
mod tests;
