//! Interceptors of the library: most are lowered to IR, a few keep state and are native.

use std::collections::BTreeMap;

use crate::batch::Batch;
use crate::ir::Code;
use crate::settings::Settings;

/// What a kind's factory gives for resolved settings.
pub enum Lowered {
    /// The meaning in the IR; evaluator and JIT run it.
    Code(Code),
    /// State that the IR cannot express.
    Native(Box<dyn Interceptor>),
}

/// An interceptor with state. It may change columns, and shrink `batch.rows`; rows it fails are removed from
/// the batch and given back with their reason.
pub trait Interceptor: Send {
    fn apply(&mut self, batch: &mut Batch, now_ms: i64) -> Vec<Failed>;

    /// Whether it drops a row because it has let the same through before. Then that row counts as delivered only
    /// with the earlier one.
    fn remembers(&self) -> bool {
        false
    }

    /// The next `apply` has this number, and what it learns there may have to be forgotten again.
    fn begin(&mut self, _pass: u64) {}

    /// What was let through in that pass was lost and comes again: it must not be taken for a repetition.
    fn forget(&mut self, _pass: u64) {}
}

/// A row that an interceptor could not process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub row: u32,
    pub message: String,
}

/// What a factory may ask.
pub struct LowerContext<'a> {
    /// Header names by slot.
    pub slots: &'a [String],
    /// Name of the step.
    pub name: &'a str,
    /// For failures inside the lowered code.
    pub origin: crate::plan::OriginId,
    /// What expressions in settings may call, for [`crate::eval::PreparedExpr`].
    pub functions: &'a crate::function::Functions,
}

impl LowerContext<'_> {
    /// The slot of a header that a setting names. The checker gives every such header a slot.
    pub fn slot(&self, header: &str) -> Result<crate::batch::Slot, LowerError> {
        match self.slots.iter().position(|slot| slot == header) {
            Some(slot) => Ok(crate::batch::Slot(slot as u32)),
            None => Err(LowerError {
                setting: None,
                message: format!("the plan has no slot for header `{header}`"),
            }),
        }
    }
}

/// Settings that decode but cannot be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LowerError {
    /// The setting at fault, when there is one.
    pub setting: Option<String>,
    pub message: String,
}

pub type InterceptorFactory = fn(&Settings, &LowerContext<'_>) -> Result<Lowered, LowerError>;

/// Interceptor kinds by name.
#[derive(Clone, Default)]
pub struct Interceptors {
    by_name: BTreeMap<&'static str, InterceptorFactory>,
}

impl Interceptors {
    pub fn new() -> Interceptors {
        Interceptors::default()
    }

    pub fn add(&mut self, name: &'static str, factory: InterceptorFactory) {
        let before = self.by_name.insert(name, factory);
        assert!(before.is_none(), "interceptor `{name}` is registered twice");
    }

    pub fn get(&self, name: &str) -> Option<InterceptorFactory> {
        self.by_name.get(name).copied()
    }

    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.by_name.keys().copied()
    }
}
