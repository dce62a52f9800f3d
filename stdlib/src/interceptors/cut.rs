//! `truncate`: bodies and headers of a bounded size.

use flow_plan::Settings;
use flow_plan::interceptor::{LowerContext, LowerError, Lowered};
use flow_plan::ir::{CompareOp, Const, Expr, Stmt};
use serde::Deserialize;

use super::build::{Place, call, code, compare, decode, int, join, refuse, text, when};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Truncate {
    /// Bytes.
    max: u64,
    header: Option<String>,
    suffix: String,
    mark: Option<String>,
}

pub fn lower(settings: &Settings, context: &LowerContext<'_>) -> Result<Lowered, LowerError> {
    let truncate: Truncate = decode(settings)?;
    let suffix_bytes = truncate.suffix.len() as u64;
    let Some(kept) = truncate.max.checked_sub(suffix_bytes) else {
        return refuse(
            "suffix",
            format!("the suffix alone has {suffix_bytes} bytes, more than {}", truncate.max),
        );
    };
    let place = Place::of(truncate.header.as_deref(), context)?;
    let mut cut = call("truncate_bytes", vec![place.value(), Expr::Const(Const::Size(kept))], context);
    if suffix_bytes > 0 {
        cut = join(cut, text(truncate.suffix), context);
    }
    let mut then = vec![place.set(cut)];
    if let Some(mark) = &truncate.mark {
        then.push(Stmt::SetHeader { slot: context.slot(mark)?, value: text("true") });
    }
    // A size beyond an int is beyond every text.
    let max = int(i64::try_from(truncate.max).unwrap_or(i64::MAX));
    let longer = compare(CompareOp::Gt, call("byte_len", vec![place.value()], context), max);
    Ok(code(place.where_present(vec![when(longer, then)])))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::interceptors::testing::Run;

    fn run(change: serde_json::Value) -> Run {
        Run::of("truncate", json!({"max": 4, "header": null, "suffix": "", "mark": null}), change)
    }

    #[test]
    fn long_bodies_are_cut_between_characters() {
        assert_eq!(
            run(json!({})).event("abcd").event("abcdef").event("abcñ").all(),
            ["abcd @0", "abcd @0", "abc @0"]
        );
        let marked = run(json!({"suffix": "..", "mark": "id"})).event("abcdef").event("a").all();
        assert_eq!(marked, ["ab.. @0 id=true", "a @0"]);
    }

    #[test]
    fn headers_are_cut() {
        let run = run(json!({"header": "id", "max": 2})).event("abc").with("id", "123").event("abc");
        assert_eq!(run.all(), ["abc @0 id=12", "abc @0"]);
    }

    #[test]
    fn a_suffix_that_does_not_fit_is_refused() {
        let error = run(json!({"suffix": "....."})).error();
        assert_eq!(error, "suffix: the suffix alone has 5 bytes, more than 4");
        assert_eq!(run(json!({"max": u64::MAX})).event("abc").all(), ["abc @0"]);
    }
}
