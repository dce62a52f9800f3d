//! The print-outs of a few programs, whole. `FLOW_UPDATE=1 cargo test -p flow-check --test print` writes them anew.

mod support;

use std::fs;
use std::path::PathBuf;

use flow_check::print;
use support::{KINDS, Made, library, make};

#[track_caller]
fn compare(name: &str, found: &str) {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/print")).join(name);
    if std::env::var_os("FLOW_UPDATE").is_some() {
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(&path, found).expect("written");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, expected, "{}", path.display());
}

/// All four print-outs.
fn print_all(name: &str, made: &Made) {
    assert_eq!(made.told(), "");
    compare(&format!("{name}.txt"), &print::graph_text(&made.model));
    compare(&format!("{name}.dot"), &print::graph_dot(&made.model));
    compare(&format!("{name}.mmd"), &print::graph_mermaid(&made.model));
    let plan = made.plan();
    compare(&format!("{name}.plan"), &print::plan_text_with(&plan, Some(&library(KINDS))));
}

#[test]
fn one_line() {
    print_all("one_line", &make("tail \"/var/log/nginx/access.log\" -> console"));
}

#[test]
fn routes_fans_and_failures() {
    let made = make(
        "source web = http \":8080\"\nchannel safe = file \"/flow/safe\"\nchannel fast = memory { capacity: 500, batch: 100 }\n\
         sink archive = files \"/data\" { batch: 1_000 }\nsink search = store \"x\" { batch: 100 }\n\
         interceptor parse {\n  header.status = \"200\"\n  if body ~ /x/ { fail \"no\" }\n}\n\
         deliver at_least_once\n\
         web -> timestamp -> parse -> route header.status {\n  \"200\" | \"204\" -> safe\n  /^4/ -> [safe, fast?]\n  else -> filter -> safe\n}\n\
         safe -> archive\nfast -> search\nparse.errors -> file \"/flow/err\" -> files \"/errors\"",
    );
    print_all("routes", &made);
}

#[test]
fn agents_groups_and_topics() {
    let made = make(
        "agent web at [\"w1\", \"w2\", \"w3\"] {\n  source log = tail \"/x\"\n  channel buf = memory\n  sink near = tcp \"a\"\n  sink far = store \"b\"\n  \
         group reach = failover [near, far]\n  log -> buf -> reach\n}\n\
         agent db at \"d\" {\n  source s = tail \"/z\"\n  s -> clicks\n  clicks as to_lake -> console\n  billing -> files \"/bill\"\n}\n\
         topic clicks { partitions: 2 }\nconsumer billing = clicks { workers: 2 }",
    );
    print_all("agents", &made);
}

/// Where the flow uses more than one core, and why it does not where it does not.
#[test]
fn cores() {
    let made = make(
        "interceptor once = dedupe\ninterceptor half = filter\nchannel buf = memory\n\
         http \":1\" -> half -> console\nhttp \":2\" -> half -> once -> console\n\
         http \":3\" -> buf\nbuf -> half -> console",
    );
    assert_eq!(made.told(), "");
    compare("cores.plan", &print::plan_text_with(&made.plan(), Some(&library(KINDS))));
}

#[test]
fn secrets_do_not_show() {
    let mut made = make("source web = tail \"x\"\nsink out = store \"u\" { batch: 5 }\nweb -> out");
    for part in &mut made.model.components {
        if part.name == "out" {
            part.settings.insert("batch".into(), serde_json::json!({ "literal": "hunter2" }));
        }
    }
    let text = print::plan_text(&made.plan());
    assert!(text.contains("‹secret›") && !text.contains("hunter2"), "{text}");
}
