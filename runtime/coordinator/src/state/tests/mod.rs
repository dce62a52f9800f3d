//! The rules one by one, the state against a naive model, snapshots, and what a real server answered.

mod access;
mod entries;
mod golden;
mod hostile;
mod kinds;
mod model;
mod multi;
mod rules;
mod sessions;
mod snapshots;
mod support;
