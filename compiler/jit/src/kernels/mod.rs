//! What SIMD does best over a whole batch at once: bitmaps of byte classes and the search for literals. Called once
//! per batch, before the rows are visited. It must not know programs or generated code, only bytes and rows.

mod bitmaps;
mod isa;
mod prefilter;
mod rows;

pub use bitmaps::{Bitmaps, CLASSES_MAX, Classifier};
pub use isa::Isa;
pub use prefilter::{PATTERNS_MAX, Prefilter};
pub use rows::RowBits;
