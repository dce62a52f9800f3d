//! Interceptors that only touch headers: `tag`, `static`, `uuid`, `remove_header`, `rename_header`.

use flow_plan::Settings;
use flow_plan::interceptor::{LowerContext, LowerError, Lowered};
use flow_plan::ir::{Expr, Stmt, TemplatePart};
use flow_plan::settings::RegexSetting;
use serde::Deserialize;

use super::build::{call, code, decode, present, refuse, set_header, when};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tag {
    keep: bool,
    /// Kept as JSON for its order: a later header may use an earlier one.
    #[serde(rename = "...")]
    headers: Settings,
}

pub fn lower_tag(settings: &Settings, context: &LowerContext<'_>) -> Result<Lowered, LowerError> {
    let tag: Tag = decode(settings)?;
    let mut body = Vec::new();
    for (header, value) in tag.headers {
        let value: Expr = match serde_json::from_value(value) {
            Ok(value) => value,
            Err(error) => return refuse(&header, format!("settings do not fit the declaration: {error}")),
        };
        body.push(set_header(context.slot(&header)?, value, tag.keep));
    }
    if body.is_empty() {
        return Err(LowerError {
            setting: None,
            message: "no header is given, like `site: \"paris\"`".into(),
        });
    }
    Ok(code(body))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Uuid {
    header: String,
    keep: bool,
    prefix: String,
    version: Version,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Version {
    V4,
    V7,
}

pub fn lower_uuid(settings: &Settings, context: &LowerContext<'_>) -> Result<Lowered, LowerError> {
    let uuid: Uuid = decode(settings)?;
    let function = match uuid.version {
        Version::V4 => "uuid",
        Version::V7 => "uuid_v7",
    };
    let mut value = call(function, Vec::new(), context);
    if !uuid.prefix.is_empty() {
        let id = TemplatePart::Expr { value, format: None };
        value = Expr::Template(vec![TemplatePart::Text(uuid.prefix), id]);
    }
    Ok(code(vec![set_header(context.slot(&uuid.header)?, value, uuid.keep)]))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RemoveHeader {
    names: Vec<String>,
    matching: Option<RegexSetting>,
}

pub fn lower_remove(settings: &Settings, _: &LowerContext<'_>) -> Result<Lowered, LowerError> {
    let remove: RemoveHeader = decode(settings)?;
    if remove.names.is_empty() && remove.matching.is_none() {
        return Err(LowerError {
            setting: None,
            message: "no header is given: a name, a list of names or `matching`".into(),
        });
    }
    Ok(code(vec![Stmt::RemoveHeaders { names: remove.names, matching: remove.matching }]))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RenameHeader {
    from: String,
    to: String,
    keep: bool,
}

pub fn lower_rename(settings: &Settings, context: &LowerContext<'_>) -> Result<Lowered, LowerError> {
    let rename: RenameHeader = decode(settings)?;
    if rename.from == rename.to {
        return refuse("to", format!("the header is called `{}` already", rename.from));
    }
    let (from, to) = (context.slot(&rename.from)?, context.slot(&rename.to)?);
    let set = set_header(to, Expr::Header(from), rename.keep);
    Ok(code(vec![when(present(from), vec![set, Stmt::RemoveHeader { slot: from }])]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::interceptors::testing::{Run, header, regex};

    #[test]
    fn tags_are_set_in_their_order() {
        let headers = json!({"level": {"const": {"text": "high"}}, "id": header("level")});
        let tag = |change| Run::of("tag", json!({"keep": false, "...": headers}), change);
        assert_eq!(tag(json!({})).event("x").with("level", "low").all(), ["x @0 id=high level=high"]);
        assert_eq!(
            tag(json!({"keep": true})).event("x").with("level", "low").all(),
            ["x @0 id=low level=low"]
        );
        let absent = json!({"...": {"id": {"const": "null"}}});
        assert_eq!(tag(absent).event("x").with("id", "1").all(), ["x @0"]);
        assert!(tag(json!({"...": {}})).error().starts_with("no header is given"));
        assert!(tag(json!({"...": {"id": 5}})).error().starts_with("id: "));
    }

    #[test]
    fn uuids_are_new_for_each_event() {
        let uuid = |change| {
            Run::of("uuid", json!({"header": "id", "keep": true, "prefix": "", "version": "v4"}), change)
        };
        let shown = uuid(json!({})).event("a").event("b").event("c").with("id", "kept").all();
        assert_ne!(shown[0][1..], shown[1][1..]);
        assert_eq!((shown[0].len(), shown[2].as_str()), ("a @0 id=".len() + 36, "c @0 id=kept"));
        let prefixed = uuid(json!({"prefix": "web-", "version": "v7", "keep": false})).event("a").all();
        assert!(
            prefixed[0].starts_with("a @0 id=web-") && prefixed[0].as_bytes()[26] == b'7',
            "{prefixed:?}"
        );
    }

    #[test]
    fn headers_are_removed_by_name_and_by_pattern() {
        let remove = |names, matching| {
            let settings = json!({"names": names, "matching": matching});
            let run = Run::of("remove_header", settings, json!({}));
            run.event("x").with("id", "1").with("level", "2").with("x_side", "3").all()
        };
        assert_eq!(remove(json!(["id", "x_side"]), json!(null)), ["x @0 level=2"]);
        assert_eq!(remove(json!([]), regex("^(x_|l)")), ["x @0 id=1"]);
        let nothing = Run::of("remove_header", json!({"names": [], "matching": null}), json!({}));
        assert!(nothing.error().starts_with("no header is given"));
    }

    #[test]
    fn headers_are_renamed() {
        let rename = |change| {
            let settings = json!({"from": "level", "to": "id", "keep": false});
            Run::of("rename_header", settings, change)
        };
        let run =
            rename(json!({})).event("a").with("level", "1").with("id", "old").event("b").with("id", "2");
        assert_eq!(run.all(), ["a @0 id=1", "b @0 id=2"]);
        let kept = rename(json!({"keep": true})).event("a").with("level", "1").with("id", "old").all();
        assert_eq!(kept, ["a @0 id=old"]);
        assert_eq!(rename(json!({"to": "level"})).error(), "to: the header is called `level` already");
    }
}
