//! `search_replace`: regexes in the body or in a header.

use flow_plan::Settings;
use flow_plan::interceptor::{LowerContext, LowerError, Lowered};
use flow_plan::settings::RegexSetting;
use serde::Deserialize;

use super::build::{Place, call, code, decode, regex, text};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SearchReplace {
    pattern: RegexSetting,
    with: String,
    header: Option<String>,
    first: bool,
}

pub fn lower(settings: &Settings, context: &LowerContext<'_>) -> Result<Lowered, LowerError> {
    let replace: SearchReplace = decode(settings)?;
    let place = Place::of(replace.header.as_deref(), context)?;
    let function = if replace.first { "replace" } else { "replace_all" };
    let args = vec![place.value(), regex(replace.pattern), text(replace.with)];
    Ok(code(place.where_present(vec![place.set(call(function, args, context))])))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::interceptors::testing::{Run, regex};

    fn run(change: serde_json::Value) -> Run {
        let settings =
            json!({"pattern": regex(r"(\w)=(\w)"), "with": "$1:$2", "header": null, "first": false});
        Run::of("search_replace", settings, change)
    }

    #[test]
    fn the_body_or_a_header() {
        assert_eq!(run(json!({"with": "${2}=$1"})).event("a=b c=d").all(), ["b=a d=c @0"]);
        assert_eq!(run(json!({"first": true, "with": "*"})).event("a=b c=d").all(), ["* c=d @0"]);
        let run = run(json!({"header": "id", "with": "*"})).event("a=b").with("id", "a=b").event("c");
        assert_eq!(run.all(), ["a=b @0 id=*", "c @0"]);
    }
}
