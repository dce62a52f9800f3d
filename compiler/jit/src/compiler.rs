//! The compiler that programs are given: sections to machine code, each once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use flow_plan::function::Functions;
use flow_plan::ir;
use flow_plan::native::{self, Ask, Compiled, NativeCode, Refusal, Section, SectionReport};

use crate::section;

/// Compiles sections for this machine, and keeps what it has compiled: the programs of several workers, or of a
/// flow that starts again, share their code.
#[derive(Default)]
pub struct JitCompiler {
    known: Mutex<HashMap<String, Result<Compiled, Refusal>>>,
}

/// Sections that are kept; when there are more, those that nobody uses are forgotten.
const KNOWN_MAX: usize = 1_024;

impl JitCompiler {
    pub fn new() -> JitCompiler {
        JitCompiler::default()
    }
}

impl native::Compiler for JitCompiler {
    fn accepts(&self, code: &ir::Code, _: &Functions) -> Result<(), String> {
        section::accepts(&code.body)
    }

    fn compile(&self, section: &Section<'_>) -> Result<Compiled, Refusal> {
        let key = key(section);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(compiled) = known.get(&key) {
            return compiled.clone();
        }
        let compiled = match section::compile(section) {
            Ok(made) => {
                let (asks, report): (Vec<Ask>, SectionReport) = (made.asks, made.report);
                Ok(Compiled { code: Arc::new(made.code) as Arc<dyn NativeCode>, asks, report })
            }
            Err(refusal) => Err(refusal),
        };
        if known.len() >= KNOWN_MAX {
            known.retain(|_, compiled| {
                compiled.as_ref().is_ok_and(|compiled| Arc::strong_count(&compiled.code) > 1)
            });
        }
        known.insert(key, compiled.clone());
        compiled
    }
}

/// Everything that decides what code is made, as text.
fn key(section: &Section<'_>) -> String {
    let steps: Vec<(&str, &ir::Code)> = section.steps.iter().map(|step| (step.name, &step.code)).collect();
    let conditions = section.route.map(|route| {
        let conditions: Vec<_> = route.arms.iter().map(|arm| &arm.when).collect();
        (&route.name, route.all, &route.subject, route.locals, conditions)
    });
    format!("{steps:?}\n{conditions:?}\n{:?}\n{:?}", section.functions.user(), section.functions.slots())
}
