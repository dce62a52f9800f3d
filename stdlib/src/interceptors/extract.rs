//! `extract`: groups of a regex as headers.

use std::collections::BTreeMap;

use flow_plan::Settings;
use flow_plan::eval::build_regex;
use flow_plan::interceptor::{LowerContext, LowerError, Lowered};
use flow_plan::ir::{Code, Expr, ExtractGroup, OnMiss, Stmt};
use flow_plan::settings::RegexSetting;
use serde::Deserialize;

use super::build::{SETTING_LOCALS, call, decode, refuse, text};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Extract {
    pattern: RegexSetting,
    on: Expr,
    types: BTreeMap<String, Serializer>,
    on_miss: OnMiss,
}

/// What becomes of the text of a group.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Serializer {
    Int,
    Float,
    Bool,
    Lower,
    Upper,
    Trim,
    UrlDecode,
    /// A strftime format; milliseconds since 1970 are written.
    Time(String),
}

impl Serializer {
    fn convert(&self, value: Expr, context: &LowerContext<'_>) -> Expr {
        let checked = |function| call("text", vec![call(function, vec![value.clone()], context)], context);
        match self {
            Serializer::Int => checked("int"),
            Serializer::Float => checked("float"),
            Serializer::Bool => checked("bool"),
            Serializer::Lower => call("lower", vec![value], context),
            Serializer::Upper => call("upper", vec![value], context),
            Serializer::Trim => call("trim", vec![value], context),
            Serializer::UrlDecode => call("url_decode", vec![value], context),
            Serializer::Time(format) => {
                let time = call("parse_time", vec![value, text(format), text("UTC")], context);
                call("text", vec![call("unix_ms", vec![time], context)], context)
            }
        }
    }
}

pub fn lower(settings: &Settings, context: &LowerContext<'_>) -> Result<Lowered, LowerError> {
    let extract: Extract = decode(settings)?;
    let regex = match build_regex(&extract.pattern) {
        Ok(regex) => regex,
        Err(error) => return refuse("pattern", error.message),
    };
    // Behind what the expression in `on` may use.
    let value_local = SETTING_LOCALS;
    let mut groups = Vec::new();
    for group in regex.capture_names().flatten() {
        let serializer = extract.types.get(group);
        groups.push(ExtractGroup {
            group: group.to_owned(),
            slot: context.slot(group)?,
            convert: serializer.map(|serializer| serializer.convert(Expr::Local(value_local), context)),
            value_local,
        });
    }
    if groups.is_empty() {
        return refuse(
            "pattern",
            "the regex has no named group like `(?<status>\\d+)`, so nothing is extracted",
        );
    }
    if let Some(unknown) = extract.types.keys().find(|name| groups.iter().all(|group| group.group != **name))
    {
        return refuse("types", format!("the regex has no group `{unknown}`"));
    }
    let body = vec![Stmt::Extract {
        subject: extract.on,
        regex: extract.pattern,
        groups,
        on_miss: extract.on_miss,
        origin: context.origin,
    }];
    Ok(Lowered::Code(Code { locals: value_local + 1, body }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::interceptors::testing::{Run, header, regex};

    fn run(pattern: &str, change: serde_json::Value) -> Run {
        let settings = json!({"pattern": regex(pattern), "on": "body", "types": {}, "on_miss": "fail"});
        Run::of("extract", settings, change)
    }

    #[test]
    fn groups_become_headers() {
        let run = run(r"^(?<id>\w+)(?: (?<level>\w+))?$", json!({}));
        let run = run.event("a warn").event("b").with("level", "kept").event("?");
        assert_eq!(
            run.all(),
            [
                "a warn @0 id=a level=warn",
                "b @0 id=b level=kept",
                "? failed: the text does not match `^(?<id>\\w+)(?: (?<level>\\w+))?$`"
            ]
        );
    }

    #[test]
    fn a_miss_may_pass_or_drop() {
        assert_eq!(run("(?<id>x)", json!({"on_miss": "pass"})).event("y").all(), ["y @0"]);
        assert_eq!(run("(?<id>x)", json!({"on_miss": "drop"})).event("y").all(), Vec::<String>::new());
    }

    #[test]
    fn another_text_is_searched() {
        let run = run("(?<id>[0-9]+)", json!({"on": header("host")}));
        let run = run.event("1").with("host", "web07").event("2");
        assert_eq!(run.all(), ["1 @0 host=web07 id=07", "2 failed: the text does not match `(?<id>[0-9]+)`"]);
    }

    #[test]
    fn groups_are_checked_and_converted() {
        let convert = |serializer: serde_json::Value, text: &str| {
            run("(?<id>.*)", json!({"types": {"id": serializer}})).event(text).all().remove(0)
        };
        assert_eq!(convert(json!("int"), "007"), "007 @0 id=7");
        assert_eq!(convert(json!("float"), "1e3"), "1e3 @0 id=1000.0");
        assert_eq!(convert(json!("bool"), "Yes"), "Yes @0 id=true");
        assert_eq!(convert(json!("lower"), "ABC"), "ABC @0 id=abc");
        assert_eq!(convert(json!("upper"), "abc"), "abc @0 id=ABC");
        assert_eq!(convert(json!("trim"), " a "), " a  @0 id=a");
        assert_eq!(convert(json!("url_decode"), "a%20b"), "a%20b @0 id=a b");
        assert_eq!(convert(json!({"time": "%F"}), "2026-11-23"), "2026-11-23 @0 id=1795392000000");
        assert_eq!(convert(json!("int"), "x"), "x failed: `x` is not a whole number");
    }

    #[test]
    fn patterns_that_extract_nothing_are_refused() {
        assert!(run("(x)", json!({})).error().starts_with("pattern: the regex has no named group"));
        assert!(run("(?<id>", json!({})).error().starts_with("pattern: "));
        let types = json!({"types": {"status": "int"}});
        assert_eq!(run("(?<id>x)", types).error(), "types: the regex has no group `status`");
        assert_eq!(run("(?<new>x)", json!({})).error(), "the plan has no slot for header `new`");
    }
}
