//! The shape of a resolved program: does everything flow somewhere, do the routes take every event, can the
//! delivery claims hold; and the plan of what will run. Reads the [`Model`] alone: it knows no syntax tree and no
//! component by name. It says nothing about parts that an earlier error has made unclear.

pub(crate) mod capacity;
mod circle;
mod claim;
mod context;
mod domain;
mod ensembles;
mod group;
mod implicit;
pub(crate) mod memory;
mod optional;
pub(crate) mod overlap;
mod plan;
mod proof;
mod route;
pub(crate) mod segment;
mod services;
mod shape;
mod topics;
mod validate;

use flow_diag::{Diagnostic, Files};

use crate::model::Model;

pub use implicit::prepare;
pub use plan::plan;
pub use validate::validate;

/// Everything the shape of a program can be wrong in. Diagnostics are added in no particular order.
pub fn check(model: &Model, files: &Files, diagnostics: &mut Vec<Diagnostic>) {
    let context = context::Context::new(model, files);
    let on_circle = circle::check(&context, diagnostics);
    shape::check(&context, &on_circle, diagnostics);
    group::check(&context, diagnostics);
    optional::check(&context, diagnostics);
    claim::check(&context, diagnostics);
    capacity::check(&context, diagnostics);
    topics::check(&context, diagnostics);
    ensembles::check(&context, diagnostics);
    route::check(&context, diagnostics);
}
