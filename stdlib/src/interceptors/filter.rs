//! `filter`: which events go on.

use flow_plan::Settings;
use flow_plan::interceptor::{LowerContext, LowerError, Lowered};
use flow_plan::ir::{Expr, Stmt};
use flow_plan::settings::RegexSetting;
use serde::Deserialize;

use super::build::{code, decode};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    include: Vec<RegexSetting>,
    exclude: Vec<RegexSetting>,
    when: Option<Expr>,
    on: Expr,
}

pub fn lower(settings: &Settings, _: &LowerContext<'_>) -> Result<Lowered, LowerError> {
    let filter: Filter = decode(settings)?;
    let included = matches_one(filter.include, &filter.on);
    let excluded = matches_one(filter.exclude, &filter.on).map(|matches| Expr::Not(Box::new(matches)));
    let conditions = [included, excluded, filter.when].into_iter().flatten();
    let Some(keep) = conditions.reduce(|left, right| Expr::And(Box::new(left), Box::new(right))) else {
        return Err(LowerError {
            setting: None,
            message: "a filter needs `include`, `exclude` or `when`".into(),
        });
    };
    Ok(code(vec![Stmt::If { condition: keep, then: Vec::new(), otherwise: vec![Stmt::Drop] }]))
}

/// Whether one of the regexes matches; `None` without regexes.
fn matches_one(regexes: Vec<RegexSetting>, on: &Expr) -> Option<Expr> {
    let matches = regexes.into_iter().map(|regex| Expr::Matches { value: Box::new(on.clone()), regex });
    matches.reduce(|left, right| Expr::Or(Box::new(left), Box::new(right)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::interceptors::testing::{Run, header, regex};

    fn run(change: serde_json::Value) -> Run {
        Run::of("filter", json!({"include": [], "exclude": [], "when": null, "on": "body"}), change)
    }

    #[test]
    fn included_and_excluded() {
        let events = |run: Run| run.event("error a").event("info b").event("error health").all();
        assert_eq!(events(run(json!({"include": [regex("error")]}))), ["error a @0", "error health @0"]);
        assert_eq!(events(run(json!({"exclude": [regex("health")]}))), ["error a @0", "info b @0"]);
        let both =
            json!({"include": [regex("error"), regex("info")], "exclude": [regex("health"), regex("a$")]});
        assert_eq!(events(run(both)), ["info b @0"]);
    }

    #[test]
    fn null_matches_none() {
        let on = |include, exclude| {
            run(json!({"on": header("id"), "include": include, "exclude": exclude})).event("x").all()
        };
        assert_eq!(on(json!([regex("")]), json!([])), Vec::<String>::new());
        assert_eq!(on(json!([]), json!([regex("")])), ["x @0"]);
    }

    #[test]
    fn a_condition_joins_the_regexes() {
        let when = json!({"matches": {"value": header("id"), "regex": regex("^4")}});
        let run = run(json!({"when": when, "exclude": [regex("b")]}));
        let run = run.event("a").with("id", "42").event("b").with("id", "42").event("c").with("id", "7");
        assert_eq!(run.all(), ["a @0 id=42"]);
    }

    #[test]
    fn a_filter_without_conditions_is_refused() {
        assert_eq!(run(json!({})).error(), "a filter needs `include`, `exclude` or `when`");
    }
}
