//! What comes from outside the text: parameters and imported files.

mod common;

use std::collections::BTreeMap;

use common::check_with;
use flow_check::{Checked, Imports, Options};
use flow_diag::Code;

const PARAMS: &str = r#"
param env: string = "dev" where env in ["dev", "prod"]
param count: int = 1
param span: duration = 1s
param must: string
tail "/x" { batch: count, poll: span } -> tag { env: env, must: must } -> console
"#;

struct Texts(BTreeMap<&'static str, &'static str>);

impl Imports for Texts {
    fn read(&mut self, _: &str, path: &str) -> Result<(String, String), String> {
        self.0
            .get(path)
            .map(|text| (path.to_owned(), (*text).to_owned()))
            .ok_or_else(|| format!("looked for `{path}`"))
    }
}

fn checked(
    text: &str,
    params: &[(&str, &str)],
    env: &[(&str, &str)],
    files: &[(&'static str, &'static str)],
) -> Checked {
    let owned = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect::<BTreeMap<_, _>>()
    };
    let options = Options { params: owned(params), env_params: owned(env), ..Options::default() };
    let mut imports = Texts(files.iter().copied().collect());
    check_with("main.flow", text, &mut imports, &options).0
}

fn codes(checked: &Checked) -> Vec<Code> {
    checked.diagnostics.iter().map(|one| one.code).collect()
}

#[test]
fn a_value_from_outside_wins_over_the_default() {
    let checked =
        checked(PARAMS, &[("must", "a b"), ("count", "7")], &[("count", "5"), ("span", "250ms")], &[]);
    assert_eq!(codes(&checked), []);
    let plan = checked.plan.expect("nothing was wrong");
    let source = &plan.agents[0].sources[0];
    assert_eq!(source.settings["batch"], 7);
    assert_eq!(source.settings["poll"], 250_000_000);
}

#[test]
fn a_parameter_without_value_is_asked_for() {
    assert_eq!(codes(&checked(PARAMS, &[], &[], &[])), [Code::F0221]);
}

#[test]
fn where_refuses_a_value() {
    let checked = checked(PARAMS, &[("env", "prod2"), ("must", "x")], &[], &[]);
    assert_eq!(codes(&checked), [Code::F0220]);
    assert_eq!(checked.diagnostics[0].title, "`where` refuses `prod2` for parameter `env`");
}

#[test]
fn a_value_of_another_type_is_refused() {
    let checked = checked(PARAMS, &[("count", "many"), ("span", "5"), ("must", "x")], &[], &[]);
    let mut codes = codes(&checked);
    codes.sort();
    assert_eq!(codes, [Code::F0101, Code::F0205]);
}

#[test]
fn an_unknown_parameter_is_an_error() {
    let checked = checked(PARAMS, &[("cuont", "1"), ("must", "x")], &[], &[]);
    assert_eq!(codes(&checked), [Code::F0101]);
    assert_eq!(checked.diagnostics[0].primary.text, "did you mean `count`?");
}

const LIBRARY: &str = r#"
param keep: int = 4
fn twice(n: int) -> int { return n * 2 }
type Order = { id: string }
interceptor tidy = timestamp -> host
interceptor code(extra: int) {
  let o: Order = json(body)
  header.id = "${o.id} ${twice(extra)} ${keep}"
}
sink shared = discard
"#;

#[test]
fn names_of_an_imported_file_are_reached_with_its_alias() {
    let text = r#"
import "lib.flow" as lib
interceptor own { header.x = text(lib.twice(lib.keep)) }
tail "/x" -> lib.tidy -> lib.code { extra: 1 } -> own -> lib.shared
"#;
    let checked = checked(text, &[("lib.keep", "5")], &[], &[("lib.flow", LIBRARY)]);
    assert_eq!(codes(&checked), [], "{:?}", checked.diagnostics);
    assert!(checked.plan.is_some());
}

#[test]
fn what_an_imported_file_lacks_is_said() {
    let text = "import \"lib.flow\" as lib\ntail \"/x\" -> lib.tdiy -> console\n";
    let checked = checked(text, &[], &[], &[("lib.flow", LIBRARY)]);
    assert_eq!(codes(&checked), [Code::F0104]);
    assert_eq!(checked.diagnostics[0].primary.text, "did you mean `tidy`?");
}

#[test]
fn imports_in_a_circle_are_refused_once() {
    let files = [
        ("a.flow", "import \"b.flow\" as b\ninterceptor x = b.y\n"),
        ("b.flow", "import \"a.flow\" as a\ninterceptor y = host\n"),
    ];
    let checked = checked("import \"a.flow\" as a\ntail \"/x\" -> a.x -> console\n", &[], &[], &files);
    assert_eq!(codes(&checked), [Code::F0106]);
}

#[test]
fn a_file_that_is_not_there_gives_one_error() {
    let checked = checked("import \"no.flow\" as no\ntail \"/x\" -> no.x -> console\n", &[], &[], &[]);
    assert_eq!(codes(&checked), [Code::F0105]);
}

#[test]
fn a_file_imported_twice_is_one() {
    let text = "import \"lib.flow\" as a\nimport \"lib.flow\" as b\ntail \"/x\" -> a.tidy -> b.shared\n";
    let checked = checked(text, &[], &[], &[("lib.flow", LIBRARY)]);
    assert_eq!(codes(&checked), []);
}

#[test]
fn fifty_diagnostics_of_a_file_are_enough() {
    let text = (0..80).map(|number| format!("stdin -> nothing_{number}\n")).collect::<String>();
    let checked = checked(&text, &[], &[], &[]);
    assert_eq!(checked.diagnostics.len(), 51);
    assert!(checked.diagnostics[50].title.starts_with("… and 30 more"));
}

#[test]
fn long_chains_of_operators_are_refused_not_survived_by_luck() {
    let sum = vec!["1"; 20_000].join(" + ");
    let text = format!("interceptor look {{ header.a = text({sum}) }}\nstdin -> look -> console\n");
    let checked = checked(&text, &[], &[], &[]);
    assert!(codes(&checked).contains(&Code::F0023), "{:?}", checked.diagnostics.first());
}

#[test]
fn deep_nesting_is_checked_or_refused() {
    for (open, close) in
        [("[", "]"), ("(1 + ", ")"), ("text(", ")"), ("if true { ", " } else { 1 }"), ("{ a: ", " }")]
    {
        let deep = format!("{}1{}", open.repeat(150), close.repeat(150));
        let text = format!("interceptor look {{ let x = {deep} }}\nstdin -> look -> console\n");
        checked(&text, &[], &[], &[]);
    }
    let blocks = format!("{}{}", "if header.a == \"x\" { ".repeat(150), "}".repeat(150));
    checked(&format!("interceptor look {{ {blocks} }}\nstdin -> look -> console\n"), &[], &[], &[]);
    let fans = format!("stdin -> {}console{}\n", "[".repeat(150), "]".repeat(150));
    checked(&fans, &[], &[], &[]);
}

/// Readers of headers find them by slot; a header without one costs its bytes for each event.
#[test]
fn every_header_that_is_set_has_a_slot() {
    let text = "param where: string = \"place\"\n\
                tail \"/x\" -> host -> timestamp { header: stamp } -> uuid { header: where } -> console\n\
                syslog \"127.0.0.1:0\" -> rename_header severity { to: level } -> console\n\
                tail \"/y\" -> extract /(?<user>\\S+)/ -> tag { site: \"a\" } -> console\n";
    let plan = checked(text, &[], &[], &[]).plan.expect("nothing is wrong");
    let wanted = ["file", "host", "stamp", "place", "facility", "severity", "level", "user", "site"];
    let missing =
        wanted.iter().filter(|name| !plan.slots.iter().any(|slot| slot == *name)).collect::<Vec<_>>();
    assert!(missing.is_empty(), "{missing:?} of {:?}", plan.slots);
}
