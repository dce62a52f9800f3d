//! Compiles the programs of a plan to machine code over batches. The meaning is that of `flow_plan::eval`: what
//! cannot be compiled, and every row that leaves the fast path, is handed back to it. Knows Cranelift; must not
//! know sources, channels or sinks.

pub mod automaton;
pub mod code;
mod compiler;
pub mod kernels;
pub mod matcher;
mod section;

pub use compiler::JitCompiler;

#[cfg(test)]
pub(crate) mod guard;
#[cfg(test)]
mod testing;
