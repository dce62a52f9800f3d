//! `flowc topic` and `flowc group` against a running flow: what they show, what they change, and what they refuse.

#[path = "support/process.rs"]
#[allow(dead_code, reason = "only a part of it is needed")]
mod process;

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use nix::sys::signal::Signal;
use process::{Running, finish, flowc, wait_until};
use serde_json::Value;

/// A flow with its broker, told from outside by the port.
struct Site {
    home: tempfile::TempDir,
    broker: String,
}

impl Site {
    /// The flow says `BROKER` where the address goes, and `HERE` where its files do.
    fn new(flow: &str) -> Site {
        let home = tempfile::tempdir().unwrap();
        // The port is free once the listener is dropped; nobody else is given it that soon.
        let broker = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let flow = flow.replace("BROKER", &broker).replace("HERE", &home.path().display().to_string());
        fs::write(home.path().join("x.flow"), flow).unwrap();
        Site { home, broker }
    }

    fn run(&self) -> Running {
        Running::start(flowc(self.home.path()).arg("run").arg(self.file()))
    }

    fn file(&self) -> std::path::PathBuf {
        self.home.path().join("x.flow")
    }

    /// Exit code, standard output and standard error of a command.
    fn ask(&self, words: &[&str]) -> (i32, String, String) {
        let output = finish(flowc(self.home.path()).args(words).env("FLOW_BROKER", &self.broker));
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    fn json(&self, words: &[&str]) -> Value {
        let words: Vec<&str> = words.iter().copied().chain(["--format", "json"]).collect();
        let (code, out, error) = self.ask(&words);
        assert_eq!(code, 0, "{words:?}: {error}");
        serde_json::from_str(&out).unwrap_or_else(|_| panic!("{words:?}: {out}"))
    }
}

const FLOW: &str = r#"
cluster events = embedded { brokers: ["BROKER"], data: "HERE/events" }
topic orders on events { partitions: 2, key: header.id }
source made = tail "HERE/in.log" { from: start }
interceptor number = extract /^(?<id>\d+) /
made -> number -> orders
orders as billing -> files "HERE/out.log"
"#;

fn write_lines(home: &Path, lines: u32) {
    let text: String = (0..lines).map(|line| format!("{line} order\u{1b}[31m {line}\n")).collect();
    fs::write(home.join("in.log"), text).unwrap();
}

#[test]
fn topics_and_groups_of_a_running_flow_are_shown_and_changed() {
    let site = Site::new(FLOW);
    write_lines(site.home.path(), 40);
    let running = site.run();
    wait_until("the group has read everything", || {
        let (code, out, _) = site.ask(&["group", "show", "billing", "--format", "json"]);
        let Ok(shown) = serde_json::from_str::<Value>(&out) else { return false };
        let places = shown["places"].as_array().cloned().unwrap_or_default();
        let read: i64 = places.iter().filter_map(|place| place["committed"].as_i64()).sum();
        code == 0 && read == 40
    });

    let topics = site.json(&["topic", "list"]);
    assert_eq!(topics[0]["topic"], "orders");
    assert_eq!((topics[0]["partitions"].as_i64(), topics[0]["offsets"].as_i64()), (Some(2), Some(40)));
    let (_, table, _) = site.ask(&["topic", "list"]);
    assert!(table.starts_with("topic ") && table.contains("orders"), "{table}");

    let (code, peeked, _) = site.ask(&["topic", "peek", "orders", "--from", "earliest", "-n", "1000"]);
    assert_eq!((code, peeked.lines().count()), (0, 40));
    assert!(peeked.contains(" key=17 id=17 ") && peeked.contains(" | 17 order\\u{1b}[31m 17\n"), "{peeked}");
    assert!(!peeked.contains('\u{1b}'), "nothing that a terminal would obey");
    let (_, last, _) = site.ask(&["topic", "peek", "orders", "-n", "1", "--partition", "1"]);
    assert_eq!(last.lines().count(), 1);

    let group = site.json(&["group", "show", "billing"]);
    assert_eq!(group["members"].as_array().map(Vec::len), Some(1), "{group}");
    let (code, _, error) = site.ask(&["group", "seek", "billing", "orders", "--to", "earliest"]);
    assert_eq!(code, 3);
    assert!(error.contains("while nobody reads as it"), "{error}");

    assert_eq!(
        site.ask(&["topic", "create", "more", "--partitions", "3", "--set", "retention.ms=60000"]).0,
        0
    );
    let shown = site.json(&["topic", "show", "more"]);
    assert_eq!(shown["partitions"].as_array().map(Vec::len), Some(3));
    assert_eq!(shown["configs"]["retention.ms"], "60000");
    let (code, _, error) = site.ask(&["topic", "create", "more"]);
    assert!(code == 3 && error.contains("exists"), "{error}");
    let (code, _, error) = site.ask(&["topic", "create", "x", "--set", "no.such=1"]);
    assert!(code == 3 && error.contains("no.such"), "{error}");
    assert_eq!(site.ask(&["topic", "delete", "more"]).0, 2, "nobody said yes");
    assert_eq!(site.ask(&["topic", "delete", "more", "--yes"]).0, 0);
    assert_eq!(site.ask(&["topic", "show", "more"]).0, 3);

    running.signal(Signal::SIGTERM);
    assert!(running.wait().success());
}

#[test]
fn a_group_that_nobody_reads_as_is_moved_and_reads_again() {
    let site = Site::new(FLOW);
    write_lines(site.home.path(), 10);
    let out = site.home.path().join("out.log");
    let lines = || fs::read_to_string(&out).unwrap_or_default().lines().count();
    let running = site.run();
    wait_until("ten lines are there", || lines() == 10);
    running.signal(Signal::SIGTERM);
    assert!(running.wait().success());

    // The same cluster without the reader.
    let reader = fs::read_to_string(site.file()).unwrap();
    fs::write(site.file(), reader.replace("orders as billing", "# orders as billing")).unwrap();
    let running = site.run();
    wait_until("the broker answers", || site.ask(&["group", "list"]).0 == 0);
    let (code, moved, error) = site.ask(&["group", "seek", "billing", "orders", "--to", "earliest"]);
    assert_eq!(code, 0, "{error}");
    assert_eq!(moved.lines().count(), 3, "a title and two partitions: {moved}");
    running.signal(Signal::SIGTERM);
    assert!(running.wait().success());

    fs::write(site.file(), reader).unwrap();
    let running = site.run();
    // `from: start` reads the file at each of the three starts.
    wait_until("what was read has come again, with the news", || lines() == 40);
    running.signal(Signal::SIGTERM);
    assert!(running.wait().success());
}

#[test]
fn a_cluster_with_users_lets_in_those_who_know_the_password() {
    let site = Site::new(
        r#"
secret pw = env "EVENTS_PASSWORD"
cluster events = embedded { brokers: ["BROKER"], data: "HERE/events", users: { ada: pw }, super_users: ["ada"] }
topic orders on events {}
generate { count: 5 } -> orders
"#,
    );
    let running =
        Running::start(flowc(site.home.path()).arg("run").arg(site.file()).env("EVENTS_PASSWORD", "s3cret"));
    let ask = |words: &[&str], variables: &[(&str, &str)]| {
        let output = finish(flowc(site.home.path()).args(words).envs(variables.iter().copied()));
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let known = [("FLOW_BROKER", site.broker.as_str()), ("FLOW_BROKER_PASSWORD", "s3cret")];
    wait_until("the broker lets ada in", || ask(&["topic", "list", "--user", "ada"], &known).0 == 0);
    let wrong = [("FLOW_BROKER", site.broker.as_str()), ("FLOW_BROKER_PASSWORD", "guess")];
    assert_eq!(ask(&["topic", "list", "--user", "ada"], &wrong).0, 3);
    assert_eq!(ask(&["topic", "list"], &known[..1]).0, 3, "nobody is let in without a name");
    // The file knows address and password.
    let file = site.file();
    let by_file = ["topic", "list", "--file", file.to_str().unwrap()];
    let (code, table) = ask(&by_file, &[("EVENTS_PASSWORD", "s3cret")]);
    assert!(code == 0 && table.contains("orders"), "{table}");
    running.signal(Signal::SIGTERM);
    assert!(running.wait().success());
}

#[test]
fn a_broker_that_is_not_there_is_told() {
    let site = Site::new("generate -> discard\n");
    let (code, _, error) = site.ask(&["topic", "list"]);
    assert_eq!(code, 3);
    assert!(error.contains("cannot connect to"), "{error}");
    assert_eq!(site.ask(&["group", "seek", "a", "b", "--to", "yesterday"]).0, 2);
}
