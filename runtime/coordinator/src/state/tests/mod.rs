//! The rules one by one, the state against a naive model, snapshots, and what a real server answered.

mod multi;
mod rules;
mod sessions;
mod support;
