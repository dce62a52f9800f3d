//! `sample`: a share of the events.

use flow_plan::Settings;
use flow_plan::interceptor::{LowerContext, LowerError, Lowered};
use flow_plan::ir::{CompareOp, Expr, Stmt};
use serde::Deserialize;

use super::build::{call, code, compare, decode, int};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    /// 0 to 1.
    rate: f64,
    by: Option<Expr>,
}

/// The finest share: one in so many.
const STEPS: i64 = 1_000_000_000;

pub fn lower(settings: &Settings, context: &LowerContext<'_>) -> Result<Lowered, LowerError> {
    let sample: Sample = decode(settings)?;
    let drawn = match sample.by {
        None => call("random_int", vec![int(0), int(STEPS - 1)], context),
        Some(by) => {
            // An event without a key is drawn for itself.
            let key = Expr::Coalesce(Box::new(by), Box::new(call("uuid", Vec::new(), context)));
            call("bucket", vec![call("text", vec![key], context), int(STEPS)], context)
        }
    };
    let share = int((sample.rate * STEPS as f64).round() as i64);
    let keep = compare(CompareOp::Lt, drawn, share);
    Ok(code(vec![Stmt::If { condition: keep, then: Vec::new(), otherwise: vec![Stmt::Drop] }]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::interceptors::testing::{Run, header};

    fn run(change: serde_json::Value) -> Run {
        Run::of("sample", json!({"rate": 0.5, "by": null}), change)
    }

    #[test]
    fn all_none_or_a_share() {
        let events = |rate: f64| {
            let run = (0..400).fold(run(json!({"rate": rate})), |run, at| run.event(&at.to_string()));
            run.all().len()
        };
        assert_eq!((events(0.0), events(1.0)), (0, 400));
        // Chance leaves this range once in 10^20 runs.
        assert!((100..300).contains(&events(0.5)));
    }

    #[test]
    fn events_of_one_key_stay_together() {
        let keyed = (0..200).fold(run(json!({"by": header("id")})), |run, at| {
            run.event("x").with("id", &(at % 20).to_string())
        });
        let mut counts = std::collections::BTreeMap::<String, usize>::new();
        for event in keyed.all() {
            *counts.entry(event).or_default() += 1;
        }
        assert!(counts.values().all(|count| *count == 10), "{counts:?}");
        assert!((1..20).contains(&counts.len()));
        let unkeyed = (0..400).fold(run(json!({"by": header("id")})), |run, _| run.event("x"));
        assert!((100..300).contains(&unkeyed.all().len()));
    }
}
