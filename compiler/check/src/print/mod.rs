//! Print-outs for people: what will run, and the picture of a program. Nothing here decides anything, and nothing
//! here may show a secret.

mod dot;
mod drawing;
mod expr;
mod mermaid;
mod plan;
mod setting;
mod text;

pub use dot::graph_dot;
pub use mermaid::graph_mermaid;
pub use plan::{plan_text, plan_text_noted, plan_text_with};
pub use text::graph_text;
