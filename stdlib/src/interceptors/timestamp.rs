//! `timestamp`: the time of the event.

use flow_plan::Settings;
use flow_plan::interceptor::{LowerContext, LowerError, Lowered};
use flow_plan::ir::{Expr, Fallback, OnMiss, Stmt};
use serde::Deserialize;

use super::build::{call, code, decode, present, refuse, text, when};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Timestamp {
    from: Option<Expr>,
    format: Option<String>,
    zone: String,
    header: Option<String>,
    header_format: Option<String>,
    keep: bool,
    on_miss: OnMiss,
}

const UTC: &str = "UTC";

pub fn lower(settings: &Settings, context: &LowerContext<'_>) -> Result<Lowered, LowerError> {
    let timestamp: Timestamp = decode(settings)?;
    if timestamp.from.is_none() && timestamp.format.is_some() {
        return refuse("format", "`format` says how `from` is read, and `from` is not given");
    }
    if timestamp.format.is_none() && timestamp.zone != UTC {
        return refuse("zone", "`zone` is for times of a `format`, and `format` is not given");
    }
    let header = timestamp.header.as_deref().map(|header| context.slot(header)).transpose()?;
    let mut body = Vec::new();
    match (timestamp.keep, header) {
        (true, Some(slot)) => body.push(when(present(slot), vec![Stmt::Pass])),
        (true, None) => return refuse("keep", "`keep` looks at `header`, and `header` is not given"),
        (false, _) => {}
    }
    let value = match timestamp.from {
        None => Expr::Now,
        Some(from) => read(from, timestamp.format, timestamp.zone, timestamp.on_miss, context),
    };
    body.push(Stmt::SetTime { value });
    match (header, timestamp.header_format) {
        (Some(slot), Some(format)) => {
            let value = call("format_time", vec![Expr::Time, text(format), text(UTC)], context);
            body.push(Stmt::SetHeader { slot, value });
        }
        (Some(slot), None) => {
            let value = call("text", vec![call("unix_ms", vec![Expr::Time], context)], context);
            body.push(Stmt::SetHeader { slot, value });
        }
        (None, Some(_)) => {
            return refuse("header_format", "`header_format` is for `header`, and `header` is not given");
        }
        (None, None) => {}
    }
    Ok(code(body))
}

/// The time that a text holds.
fn read(
    from: Expr,
    format: Option<String>,
    zone: String,
    on_miss: OnMiss,
    context: &LowerContext<'_>,
) -> Expr {
    let value = match format {
        None => call("parse_time", vec![from], context),
        Some(format) => call("parse_time", vec![from, text(format), text(zone)], context),
    };
    let fallback = match on_miss {
        OnMiss::Fail => return value,
        OnMiss::Pass => Fallback::Pass,
        OnMiss::Drop => Fallback::Drop,
    };
    Expr::Else { value: Box::new(value), fallback }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::interceptors::testing::{Run, header};

    const LINE: &str = "24/Nov/2026:09:00:00 +0100";

    fn run(change: serde_json::Value) -> Run {
        Run::of(
            "timestamp",
            json!({"from": null, "format": null, "zone": "UTC", "header": null, "header_format": null,
                   "keep": false, "on_miss": "fail"}),
            change,
        )
    }

    #[test]
    fn the_clock_by_default() {
        assert_eq!(run(json!({})).event("x").all(), ["x @now"]);
    }

    #[test]
    fn a_header_gets_the_time_too() {
        assert_eq!(run(json!({"header": "seen"})).event("x").all(), ["x @now seen=1795428000000"]);
        let formatted = run(json!({"header": "seen", "header_format": "%FT%TZ"})).event("x").all();
        assert_eq!(formatted, ["x @now seen=2026-11-23T10:00:00Z"]);
        assert_eq!(
            run(json!({"header": "seen", "keep": true})).event("x").with("seen", "1").event("y").all(),
            ["x @0 seen=1", "y @now seen=1795428000000"]
        );
    }

    #[test]
    fn the_time_of_a_text() {
        let from = json!({"from": header("id"), "format": "%d/%b/%Y:%H:%M:%S %z"});
        let run = run(from).event("a").with("id", LINE).event("b").with("id", "x").event("c");
        assert_eq!(
            run.all(),
            [
                "a @1795507200000 id=24/Nov/2026:09:00:00 +0100",
                "b failed: `x` does not fit the format `%d/%b/%Y:%H:%M:%S %z`: strptime parsing failed: %d failed: \
                 failed to parse day number: invalid number, no digits found",
                "c failed: expected a string, found null",
            ]
        );
    }

    #[test]
    fn a_miss_may_pass_or_drop() {
        let missing = |on_miss: &str| run(json!({"from": "body", "on_miss": on_miss})).event("x").all();
        assert_eq!(missing("pass"), ["x @0"]);
        assert_eq!(missing("drop"), Vec::<String>::new());
        let rfc = run(json!({"from": "body"})).event("2026-11-24T08:00:00Z").all();
        assert_eq!(rfc, ["2026-11-24T08:00:00Z @1795507200000"]);
    }

    #[test]
    fn settings_that_need_others_are_refused() {
        assert!(run(json!({"format": "%s"})).error().starts_with("format: "));
        assert!(run(json!({"from": "body", "zone": "Europe/Paris"})).error().starts_with("zone: "));
        assert!(run(json!({"keep": true})).error().starts_with("keep: "));
        assert!(run(json!({"header_format": "%s"})).error().starts_with("header_format: "));
    }
}
