//! What of a program is machine code: the compiler that programs are given, with a line of log for each section,
//! and the programs of a plan built as a run builds them, for `flowc plan`. It must not start anything.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flow_agent::Fault;
use flow_jit::JitCompiler;
use flow_plan::exec::{ExecError, Executor, Natives};
use flow_plan::function::Functions;
use flow_plan::native::{Compiled, Compiler, PartReport, Refusal, Section, SectionReport};
use flow_plan::plan::OriginId;
use flow_plan::{Plan, ir};
use serde_json::{Value, json};

/// A reason with a longer text in it (the regex of an automaton that was given up) is shortened for people.
const REASON_CHARS_MAX: usize = 160;

/// The compiler that runs use.
pub fn compiler() -> Arc<dyn Compiler> {
    Arc::new(Logged(JitCompiler::new()))
}

/// Tells the log (`RUST_LOG=flow_jit=debug`) what is compiled and what is not.
struct Logged<C>(C);

impl<C: Compiler> Compiler for Logged<C> {
    fn accepts(&self, code: &ir::Code, functions: &Functions) -> Result<(), String> {
        self.0.accepts(code, functions)
    }

    fn compile(&self, section: &Section<'_>) -> Result<Compiled, Refusal> {
        let begun = Instant::now();
        let compiled = self.0.compile(section);
        match &compiled {
            // A section that was compiled before comes sooner than it was made: it has its line already.
            Ok(Compiled { report, .. }) if begun.elapsed() >= report.compile_time => {
                tracing::debug!(target: "flow_jit", "compiled {}", section_line(report));
                for line in reference_lines([report]) {
                    tracing::debug!(target: "flow_jit", "by the reference: {line}");
                }
            }
            Ok(_) => {}
            Err(Refusal { why, .. }) => {
                let names: Vec<&str> = section.steps.iter().map(|step| step.name).collect();
                tracing::debug!(target: "flow_jit", "not compiled as one: {}: {why}", names.join(", "));
            }
        }
        compiled
    }
}

fn section_line(report: &SectionReport) -> String {
    let names: Vec<&str> = report.parts.iter().map(|part| part.name.as_str()).collect();
    format!("{}: {}", names.join(", "), figures_text(report.code_bytes, report.compile_time))
}

/// Every program of a plan, built.
pub struct Programs {
    /// By agent and program, as in the plan.
    built: Vec<Vec<Result<Vec<SectionReport>, ExecError>>>,
}

impl Programs {
    /// Builds them as a run does, each agent's with the state it has in common.
    pub fn build(plan: &Plan, compiler: &dyn Compiler) -> Programs {
        let registry = flow_stdlib::registry();
        let (functions, interceptors) = (&registry.functions, &registry.interceptors);
        let agents = plan.agents.iter().map(|agent| {
            let natives = Natives::new();
            let programs = agent.programs.iter().map(|program| {
                let compiler = Some(compiler);
                Executor::with_natives(plan, program, functions, interceptors, compiler, &natives, false)
                    .map(|executor| executor.reports().to_vec())
            });
            programs.collect()
        });
        Programs { built: agents.collect() }
    }

    /// Steps that cannot be built, as a start would tell them.
    pub fn faults(&self) -> impl Iterator<Item = (OriginId, &str, Fault)> {
        self.built.iter().flatten().filter_map(|built| built.as_ref().err()).map(|error| {
            let fault = Fault::new(error_text(error)).code("F1109");
            (error.origin, error.step.as_str(), fault)
        })
    }

    /// Lines about a program, for people; none when it does nothing. `figures`: with the size of the code and the
    /// time it took, which differ between machines and runs.
    pub fn lines(&self, agent: usize, program: usize, figures: bool) -> Vec<String> {
        match self.built.get(agent).and_then(|programs| programs.get(program)) {
            Some(Ok(reports)) => report_lines(reports, figures),
            Some(Err(error)) => {
                vec![format!("cannot be built: `{}`: {}", error.step, shortened(&error_text(error)))]
            }
            None => Vec::new(),
        }
    }

    /// The same for tools, whole.
    pub fn json(&self, plan: &Plan, figures: bool) -> Value {
        let mut all = Vec::new();
        for (agent, built) in plan.agents.iter().zip(&self.built) {
            for (program, built) in agent.programs.iter().zip(built) {
                all.push(match built {
                    Ok(reports) => {
                        let sections: Vec<Value> =
                            reports.iter().map(|report| section_json(report, figures)).collect();
                        json!({ "agent": agent.name, "program": program.name, "sections": sections })
                    }
                    Err(error) => json!({
                        "agent": agent.name,
                        "program": program.name,
                        "fault": { "step": error.step, "message": error_text(error) },
                    }),
                });
            }
        }
        Value::Array(all)
    }
}

fn error_text(error: &ExecError) -> String {
    match &error.error.setting {
        Some(setting) => format!("`{setting}`: {}", error.error.message),
        None => error.error.message.clone(),
    }
}

fn section_json(report: &SectionReport, figures: bool) -> Value {
    let part =
        |part: &PartReport| json!({ "name": part.name, "native": part.native, "reference": part.reference });
    let parts: Vec<Value> = report.parts.iter().map(part).collect();
    if !figures {
        return json!({ "parts": parts });
    }
    let compile_us = u64::try_from(report.compile_time.as_micros()).unwrap_or(u64::MAX);
    json!({ "parts": parts, "code_bytes": report.code_bytes, "compile_us": compile_us })
}

fn report_lines(reports: &[SectionReport], figures: bool) -> Vec<String> {
    let parts = reports.iter().flat_map(|report| &report.parts);
    let native: Vec<&str> = parts.filter(|part| part.native).map(|part| part.name.as_str()).collect();
    let mut lines = Vec::new();
    if !native.is_empty() {
        let mut line = format!("native: {}", native.join(", "));
        if figures {
            let code_bytes = reports.iter().map(|report| report.code_bytes).sum();
            let compile_time = reports.iter().map(|report| report.compile_time).sum();
            line.push_str(&format!("  ({})", figures_text(code_bytes, compile_time)));
        }
        lines.push(line);
    }
    lines.extend(reference_lines(reports).into_iter().map(|line| format!("by the reference: {line}")));
    lines
}

/// What is left to the reference, and why: whole parts, those with one reason together, and expressions of native
/// ones.
fn reference_lines<'r>(reports: impl IntoIterator<Item = &'r SectionReport>) -> Vec<String> {
    let mut found: Vec<(Vec<String>, &str)> = Vec::new();
    for part in reports.into_iter().flat_map(|report| &report.parts) {
        for why in &part.reference {
            let what = if part.native { format!("in {}", part.name) } else { part.name.clone() };
            match found.last_mut() {
                Some((parts, known)) if known == why && !part.native => parts.push(what),
                _ => found.push((vec![what], why)),
            }
        }
    }
    found.into_iter().map(|(parts, why)| format!("{} ({})", parts.join(", "), shortened(why))).collect()
}

/// `7.9 KiB of machine code, 6 ms`
fn figures_text(code_bytes: usize, compile_time: Duration) -> String {
    let size = match code_bytes {
        bytes if bytes < 1024 => format!("{bytes} bytes"),
        bytes => format!("{:.1} KiB", bytes as f64 / 1024.0),
    };
    let time = match compile_time.as_secs_f64() * 1e3 {
        ms if ms < 1.0 => "under 1 ms".to_owned(),
        ms => format!("{ms:.0} ms"),
    };
    format!("{size} of machine code, {time}")
}

/// Without the middle of what is too long for a line.
fn shortened(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= REASON_CHARS_MAX {
        return text.to_owned();
    }
    let half = REASON_CHARS_MAX / 2;
    let (head, tail) = (&chars[..half], &chars[chars.len() - half..]);
    head.iter().chain(&['…']).chain(tail).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, native: bool, reference: &[&str]) -> PartReport {
        PartReport {
            name: name.into(),
            native,
            reference: reference.iter().map(|why| (*why).into()).collect(),
        }
    }

    fn section(parts: Vec<PartReport>) -> SectionReport {
        SectionReport { parts, code_bytes: 2_560, compile_time: Duration::from_micros(2_400) }
    }

    #[test]
    fn sections_are_told_as_one_program() {
        let reports = [
            section(vec![part("parse", true, &[]), part("mask", true, &["`sha256`: it has no native form"])]),
            section(vec![part("once", false, &["it keeps state"])]),
            section(vec![part("route at line 9", true, &[])]),
        ];
        assert_eq!(
            report_lines(&reports[..], true),
            [
                "native: parse, mask, route at line 9  (7.5 KiB of machine code, 7 ms)",
                "by the reference: in mask (`sha256`: it has no native form)",
                "by the reference: once (it keeps state)",
            ]
        );
        assert_eq!(report_lines(&reports[2..], false), ["native: route at line 9"]);
        assert!(report_lines(&[], true).is_empty());
    }

    #[test]
    fn one_reason_is_told_once() {
        let why = "no code can be generated for this machine";
        let reports = [section(vec![part("a", false, &[why])]), section(vec![part("b", false, &[why])])];
        assert_eq!(report_lines(&reports, false), [format!("by the reference: a, b ({why})")]);
    }

    #[test]
    fn a_long_reason_keeps_both_ends() {
        let why = format!("`/{}é/`: it has too many states", "x".repeat(10_000));
        let short = shortened(&why);
        assert!(short.starts_with("`/xxx") && short.ends_with("it has too many states"), "{short}");
        assert_eq!(short.chars().count(), REASON_CHARS_MAX + 1);
    }

    /// A machine that no code can be generated for: everything runs by the reference, and the plan says why.
    #[test]
    fn an_unknown_machine_is_told() {
        struct Nowhere;
        impl Compiler for Nowhere {
            fn accepts(&self, _: &ir::Code, _: &Functions) -> Result<(), String> {
                Ok(())
            }
            fn compile(&self, _: &Section<'_>) -> Result<Compiled, Refusal> {
                Err(Refusal { part: None, why: "no code can be generated for this machine".into() })
            }
        }
        let plan = plan("stdin -> filter /b/ -> timestamp -> console\n");
        let programs = Programs::build(&plan, &Logged(Nowhere));
        assert_eq!(programs.faults().count(), 0);
        let lines = programs.lines(0, 0, false);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].starts_with("by the reference: line_1.filter, line_1.timestamp (no code"),
            "{lines:?}"
        );
    }

    /// The checker finds nearly all of what cannot be built; what is left is told with its step.
    #[test]
    fn a_program_that_cannot_be_built_is_told() {
        let mut plan = plan("stdin -> filter /b/ -> console\n");
        for step in &mut plan.agents[0].programs[0].body.steps {
            step.op = ir::StepOp::Kind { kind: "missing".into(), settings: Default::default() };
        }
        let programs = Programs::build(&plan, &*compiler());
        let told = "cannot be built: `line_1.filter`: there is no interceptor `missing`";
        assert_eq!(programs.lines(0, 0, true), [told]);
        let (_, step, fault) = programs.faults().next().unwrap();
        assert_eq!((step, fault.message.as_str()), ("line_1.filter", "there is no interceptor `missing`"));
        assert_eq!(programs.json(&plan, true)[0]["fault"]["step"], "line_1.filter");
    }

    fn plan(text: &str) -> Plan {
        struct Nothing;
        impl flow_check::Imports for Nothing {
            fn read(&mut self, _: &str, _: &str) -> Result<(String, String), String> {
                Err("there is none".into())
            }
        }
        let (library, _) = crate::project::library();
        let mut files = flow_diag::Files::new();
        let root = files.add("x.flow", text);
        let options = flow_check::Options::default();
        flow_check::check(root, &mut files, &mut Nothing, &library, &options).plan.unwrap()
    }
}
