//! The rules of the shape: one wrong and one right program for each, and the example plants, about which there is
//! nothing to say.

mod support;

use support::{library, make, make_with};

/// Exactly these codes, in order of place.
#[track_caller]
fn gives(text: &str, expected: &[&str]) {
    let made = make(text);
    assert_eq!(made.found(), expected, "{}", made.told());
}

#[track_caller]
fn silent(text: &str) {
    gives(text, &[]);
}

#[test]
fn a_source_that_flows_nowhere() {
    gives("source web = tail \"a\"\nsource app = tail \"b\"\nweb -> console", &["F0401 app"]);
    silent("source web = tail \"a\"\nsource app = tail \"b\"\nweb -> console\napp -> discard");
    silent("source _web = tail \"a\"");
}

#[test]
fn a_chain_that_ends_in_an_interceptor() {
    gives("source web = tail \"a\"\nweb -> host", &["F0401 host"]);
    gives(
        "source web = tail \"a\"\nweb -> route header.x { \"1\" -> timestamp, else -> discard }",
        &["F0401 timestamp"],
    );
}

#[test]
fn a_sink_that_nothing_reaches() {
    gives("sink kept = files \"x\"\ntail \"a\" -> console", &["F0402 kept"]);
    silent("sink kept = files \"x\"\ntail \"a\" -> [console, kept]");
    gives(
        "sink a = console\nsink b = console\ngroup g = failover [a, b]\ntail \"a\" -> console",
        &["F0402 g"],
    );
    silent("sink a = console\nsink b = console\ngroup g = failover [a, b]\ntail \"a\" -> g");
}

#[test]
fn a_misspelt_name_does_not_make_the_right_one_unused() {
    silent("source web = tail \"a\"\nsink out = console\nwbe -> otu");
    gives("source web = tail \"a\"\nsink spare = console\nweb -> otu", &["F0402 spare"]);
}

#[test]
fn channels_that_lead_nowhere_or_come_from_nowhere() {
    gives("channel buf = memory\ntail \"a\" -> buf", &["F0403 buf"]);
    gives("channel spare = memory\ntail \"a\" -> console", &["F0405 spare"]);
    gives("channel buf = memory\nbuf -> console\ntail \"a\" -> console", &["F0405 buf"]);
    silent("channel buf = memory\ntail \"a\" -> buf\nbuf -> console");
}

#[test]
fn nothing_flows_out_of_a_sink() {
    gives("sink out = console\ntail \"a\" -> out\nout -> files \"x\"", &["F0404 out"]);
    gives("sink out = console\ntail \"a\" -> out -> files \"x\"", &["F0404 out"]);
    silent("sink out = store \"x\"\ntail \"a\" -> out\nout.errors -> files \"x\"");
}

#[test]
fn nothing_flows_into_a_source() {
    gives("source a = tail \"a\"\nsource b = tail \"b\"\na -> b\nb -> console", &["F0404 b"]);
}

#[test]
fn a_topic_that_nobody_reads() {
    gives("topic clicks { partitions: 3 }\ntail \"a\" -> clicks", &["F0406 clicks"]);
    silent("topic clicks { external: true }\ntail \"a\" -> clicks");
    silent("topic clicks\ntail \"a\" -> clicks\nclicks as printer -> console");
    silent(
        "topic clicks { partitions: 2 }\nconsumer c = clicks { workers: 2 }\ntail \"a\" -> clicks\nc -> console",
    );
    gives(
        "topic clicks { partitions: 2 }\nconsumer c = clicks { workers: 2 }\ntail \"a\" -> clicks",
        &["F0401 c"],
    );
}

/// The topic answers for what a channel in memory holds, until it is delivered.
#[test]
fn memory_behind_a_reader_holds_a_claim_and_behind_a_file_it_does_not() {
    let head = "deliver at_least_once\ntopic clicks { partitions: 3 }\nchannel buf = memory\n\
                sink kept = files \"/d\"\ntail \"a\" -> clicks\nbuf -> kept\n";
    silent(&format!("{head}clicks as keeper -> buf\nclicks as looker -> store \"x\""));
    gives(&format!("{head}clicks as keeper -> buf\ntail \"b\" -> buf"), &["F0601 buf"]);
}

#[test]
fn failures_need_a_place_only_where_each_event_counts() {
    let text = |claim: &str, more: &str| {
        format!(
            "deliver {claim}\nsource web = tail \"a\"\nsink out = store \"x\"\nchannel buf = file \"/b\"\n\
             interceptor parse {{ fail \"no\" }}\nweb -> parse -> buf -> out\n{more}"
        )
    };
    silent(&text("at_least_once", ""));
    gives(&text("effectively_once", ""), &["F0407 parse"]);
    silent(&text("effectively_once", "parse.errors -> discard"));
}

#[test]
fn a_channel_has_one_reader() {
    gives("channel buf = memory\ntail \"a\" -> buf\nbuf -> console\nbuf -> files \"x\"", &["F0408 buf"]);
    gives(
        "channel buf = memory\ntail \"a\" -> buf\nbuf -> [console, files \"x\"]",
        &["F0408 [console, files \"x\"]"],
    );
    silent(
        "channel one = memory\nchannel two = memory\ntail \"a\" -> [one, two]\none -> console\ntwo -> files \"x\"",
    );
    silent(
        "channel buf = memory\ntail \"a\" -> buf\nbuf -> route header.x { \"1\" -> console, else -> files \"x\" }",
    );
}

#[test]
fn a_channel_into_a_channel() {
    gives(
        "channel one = memory\nchannel two = memory\ntail \"a\" -> one\none -> two\ntwo -> console",
        &["F0409 ->"],
    );
    gives("channel one = memory\nchannel two = memory\ntail \"a\" -> one -> two -> console", &["F0409 ->"]);
}

#[test]
fn a_chain_without_names_that_keeps_its_place_and_its_files() {
    gives("tail \"a\" -> files \"x\"", &["F0410 tail"]);
    silent("tail \"a\" -> console");
    silent("source web = tail \"a\"\nweb -> files \"x\"");
}

#[test]
fn a_sink_is_fed_from_one_place() {
    let two = "source a = tail \"a\"\nsource b = tail \"b\"\nsink out = console\n";
    gives(&format!("{two}a -> out\nb -> out"), &["F0411 out"]);
    silent(&format!("{two}[a, b] -> out"));
    gives(
        &format!("{two}channel x = memory\nchannel y = memory\na -> x\nb -> y\n[x, y] -> out"),
        &["F0411 out"],
    );
    silent(
        "source a = tail \"a\"\nsink out = console\na -> route header.x { \"1\" -> host -> out, else -> out }",
    );
    gives(
        "source a = tail \"a\"\nsink out = console\nsink b = console\ngroup g = failover [out, b]\na -> [g, out]",
        &["F0411 out"],
    );
}

#[test]
fn groups() {
    let sinks = "sink a = console\nsink b = files \"b\"\nsink c = files \"c\"\n";
    let use_both = "channel x = memory\nchannel y = memory\ntail \"a\" -> [x, y]\nx -> one\ny -> two\n";
    gives(
        &format!("{sinks}group one = failover [a, b]\ngroup two = failover [a, c]\n{use_both}"),
        &["F0412 a"],
    );
    gives("sink a = console\ngroup one = failover [a]\ntail \"a\" -> one", &["F0413 a"]);
    let made = make(
        "sink a = console\ngroup near = failover [a, far]\ngroup far = failover [near, a]\ntail \"a\" -> near",
    );
    assert_eq!(made.found(), ["F0414 near"]);
    assert!(made.told().contains("group `near` contains itself: `near` → `far` → `near`"), "{}", made.told());
}

#[test]
fn an_interceptor_starts_no_chain() {
    gives("interceptor stamp = timestamp\nstamp -> console", &["F0415 stamp"]);
}

#[test]
fn an_arrow_that_is_written_twice() {
    gives(
        "source web = tail \"a\"\nchannel buf = memory\nweb -> buf\nweb -> buf\nbuf -> console",
        &["F0416 buf"],
    );
    gives("source web = tail \"a\"\nsink out = console\nweb -> [out, out]", &["F0416 out"]);
    gives("source web = tail \"a\"\nsink out = console\nweb -> out\nweb -> out", &["F0416 out"]);
    gives(
        "source web = tail \"a\"\nchannel buf = memory\nsink out = console\nweb -> buf\nbuf -> out\nbuf -> out",
        &["F0416 out"],
    );
}

#[test]
fn a_circle_is_drawn_with_all_its_arrows() {
    let made = make(
        "channel a = memory\nchannel b = memory\nsource web = tail \"a\"\nweb -> a\n\
         a -> route {\n  when body ~ /x/ -> b\n  else -> discard\n}\nb -> a",
    );
    assert_eq!(
        made.told(),
        "F0420 events would go round for ever: a → b → a\n  -> b: 1\n  -> a: 2\n  \
         help: take one of these arrows away, end it in `discard`, or put a topic in between\n",
    );
}

#[test]
fn failures_that_fail_again_go_round() {
    gives(
        "source web = tail \"a\"\ninterceptor parse { fail \"no\" }\nweb -> parse -> discard\nparse.errors -> parse -> discard",
        &["F0420 parse"],
    );
    gives(
        "source web = tail \"a\"\nchannel buf = memory\nsink out = console\nweb -> buf -> out\nout.errors -> buf",
        &["F0420 -> out"],
    );
}

#[test]
fn a_loop_through_a_topic_needs_an_end() {
    gives("topic retry\nsource web = tail \"a\"\nweb -> retry\nretry as again -> retry", &["F0421 -> retry"]);
    silent(
        "topic retry\nsource web = tail \"a\"\nweb -> retry\n\
         retry as again -> route { when header.tries == \"1\" -> retry, else -> discard }",
    );
}

#[test]
fn optional_all_the_way() {
    gives("source web = tail \"a\"\nchannel buf = memory\nweb -> [buf?]\nbuf -> console", &["F0422 ?"]);
    silent(
        "source web = tail \"a\"\nchannel buf = memory\nchannel extra = memory\nweb -> [buf, extra?]\n\
         buf -> console\nextra -> files \"x\"",
    );
}

#[test]
fn the_only_copy_in_an_optional_branch() {
    gives(
        "source web = tail \"a\"\nchannel buf = memory\nchannel x = memory\nbuf -> console\nx -> discard\n\
         web -> route header.x { \"1\" -> x?, else -> buf }",
        &["F0611 x?"],
    );
}

#[test]
fn a_claim_needs_parts_that_keep_it() {
    let parts = "source web = tail \"a\"\nsource sys = udp \":1\"\nchannel mem = memory\nchannel buf = file \"/b\"\n\
                 sink kept = files \"x\"\nsink far = tcp \"x\"\nsink once = store \"x\"\n";
    let unused = |text: &str| {
        let made = make(&format!("{parts}{text}"));
        made.found().into_iter().filter(|line| !line.starts_with("F04")).collect::<Vec<_>>()
    };
    assert_eq!(unused("deliver at_least_once\nweb -> mem -> kept"), ["F0601 mem"]);
    assert_eq!(unused("deliver at_least_once\nsys -> buf -> kept"), ["F0602 sys"]);
    assert_eq!(unused("deliver at_least_once\nweb -> buf -> far"), ["F0603 far"]);
    assert_eq!(unused("deliver effectively_once\nweb -> buf -> kept"), ["F0604 kept"]);
    assert_eq!(unused("deliver effectively_once\nweb -> buf -> once"), Vec::<String>::new());
    assert_eq!(unused("deliver at_most_once\nsys -> mem -> far"), Vec::<String>::new());
    assert_eq!(unused("deliver at_least_once\nweb -> kept"), Vec::<String>::new());
    assert_eq!(
        unused("deliver at_least_once\nweb -> [buf, mem?]\nbuf -> kept\nmem -> far"),
        Vec::<String>::new()
    );
}

#[test]
fn an_inner_claim_counts() {
    silent(
        "deliver at_least_once\nflow loose deliver at_most_once {\n  source sys = udp \":1\"\n  sys -> console\n}\n\
         source web = tail \"a\"\nweb -> file \"/b\" -> console",
    );
}

#[test]
fn a_memory_channel_that_is_put_in_breaks_a_claim() {
    let kinds = support::KINDS.replace("can durable, stateful", "can durable, absent");
    let made = make_with("deliver at_least_once\nsource web = tail \"a\"\nweb -> console", &library(&kinds));
    assert_eq!(made.found(), ["F0601 ->"]);
    assert!(made.told().contains("loses its events when the process stops"), "{}", made.told());
}

#[test]
fn numbers_that_do_not_fit() {
    gives(
        "source web = tail \"a\" { batch: 5_000 }\nchannel buf = memory { capacity: 1_000 }\nweb -> buf\nbuf -> console",
        &["F0605 5_000"],
    );
    gives(
        "source web = tail \"a\"\nchannel buf = memory { capacity: 1_000, batch: 2_000 }\nweb -> buf\nbuf -> console",
        &["F0605 2_000"],
    );
    gives(
        "source web = tail \"a\"\nchannel buf = memory { batch: 1_000 }\nsink kept = files \"x\" { batch: 50_000 }\nweb -> buf\nbuf -> kept",
        &["F0606 50_000"],
    );
    gives(
        "source web = http \"a\" { rate: 1_000 }\nchannel buf = memory { capacity: 4_000 }\nsink kept = files \"x\"\nweb -> buf\nbuf -> kept",
        &["F0607 4_000"],
    );
}

#[test]
fn work_behind_a_channel_is_done_again() {
    gives(
        "source web = tail \"a\"\nchannel buf = memory\nweb -> buf\nbuf -> timestamp -> console",
        &["F0609 timestamp"],
    );
    silent(
        "source web = tail \"a\"\nchannel buf = memory\nweb -> timestamp -> buf\nbuf -> filter -> console",
    );
}

#[test]
fn two_channels_in_one_directory() {
    let text = |dir: &str| {
        format!(
            "source a = tail \"a\"\nchannel x = file \"/flow/buf\"\nchannel y = file \"{dir}\"\na -> [x, y]\n\
             x -> console\ny -> console"
        )
    };
    gives(&text("/flow/buf/"), &["F0612 \"/flow/buf/\""]);
    silent(&text("/flow/other"));
}

#[test]
fn an_arrow_to_one_of_several_hosts() {
    let text = |to: &str| {
        format!(
            "agent web {{\n  source log = tail \"a\"\n  log -> {to}\n}}\n\
             agent collector at [\"a.example\", \"b.example\"] {{\n  source inbox = avro \":4141\"\n  inbox -> console\n}}"
        )
    };
    gives(&text("collector.inbox"), &["F0704 collector.inbox"]);
    silent(&text("load_balance collector.inbox"));
}

#[test]
fn topics_say_their_key_and_cluster() {
    gives("topic t { compact: true }\ntail \"a\" -> t\nt as x -> console", &["F0705 t"]);
    gives(
        "cluster one = embedded\ncluster two = embedded\ntopic t\ntail \"a\" -> t\nt as x -> console",
        &["F0707 t"],
    );
}

#[test]
fn proofs_name_every_path() {
    let made = make(
        "deliver at_least_once\nsource web = tail \"a\"\nchannel buf = file \"/b\"\nsink days = files \"x\"\n\
         web -> host -> [buf, discard]\nbuf -> days\nsource app = tail \"b\"\napp -> console?",
    );
    let plan = made.plan();
    assert_eq!(
        plan.claims[0].proof,
        [
            "web -> buf: tail can repeat, file keeps; buf -> days: files confirms",
            "web -> line_5.discard: thrown away on purpose",
            "app -> line_8.console?: optional, outside the claim",
        ],
    );
}

#[test]
fn the_example_plants_are_silent() {
    let mut tested = 0;
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../");
    let text = |path: &std::path::Path| std::fs::read_to_string(path).expect("readable");
    let kinds: String = std::fs::read_dir(format!("{root}stdlib"))
        .expect("stdlib")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "flow"))
        .map(|path| text(&path))
        .collect();
    let library = library(&kinds);
    for entry in std::fs::read_dir(format!("{root}tests/flows")).expect("flows").flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|end| end == "flow") {
            let made = make_with(&text(&path), &library);
            assert_eq!(made.told(), "", "{}", path.display());
            tested += 1;
        }
    }
    assert!(tested >= 15, "{tested}");
}

/// A route over `subject` from a source, each target in place.
fn route(subject: &str, arms: &str) -> String {
    format!("source web = http \"a\"\nweb -> route {subject} {{\n{arms}\n}}")
}

#[test]
fn a_route_takes_every_event() {
    gives(&route("header.level", "\"error\" -> console\n\"warn\" -> console"), &["F0501 route"]);
    silent(&route("header.level", "\"error\" -> console\n\"warn\" -> console\nelse -> discard"));
    silent(&route("bool(header.x)", "true -> console\nfalse -> discard"));
    gives(&route("bool(header.x)", "true -> console\nfalse when body ~ /x/ -> discard"), &["F0501 route"]);
    silent(
        "source web = http \"a\"\ninterceptor rate { header.value = if body ~ /x/ { \"high\" } else { \"low\" } }\n\
         web -> rate -> filter -> route header.value {\n  \"high\" -> console\n  \"low\" -> discard\n}",
    );
    gives(
        "source web = http \"a\"\ninterceptor rate { header.value = if body ~ /x/ { \"high\" } else { \"low\" } }\n\
         web -> rate -> route header.value {\n  \"high\" -> console\n  \"lo\" -> discard\n}",
        &["F0501 route"],
    );
}

#[test]
fn else_is_last() {
    gives(&route("header.level", "else -> discard\n\"error\" -> console"), &["F0505 else"]);
}

#[test]
fn cases_that_appear_twice() {
    gives(
        &route("header.level", "\"error\" -> console\n\"error\" -> discard\nelse -> discard"),
        &["F0502 \"error\""],
    );
    gives(
        &route("header.level", "\"a\" | \"b\" | \"a\" -> console\n\"c\" -> discard\nelse -> discard"),
        &["F0502 \"a\""],
    );
    silent(&route("header.level", "\"a\" when body ~ /x/ -> console\n\"a\" -> discard\nelse -> discard"));
    silent(&route("all header.level", "\"a\" -> console\n\"a\" -> discard\nelse -> discard"));
    gives(
        &route("", "when header.x == \"1\" -> console\nwhen header.x  == \"1\" -> discard\nelse -> discard"),
        &["F0502 header.x  == \"1\""],
    );
}

#[test]
fn cases_that_are_never_reached() {
    gives(
        &route("int(header.status)", "400..599 -> console\n404 -> console\nelse -> discard"),
        &["F0503 404"],
    );
    silent(&route("int(header.status)", "404 -> console\n400..599 -> console\nelse -> discard"));
    silent(&route(
        "int(header.status)",
        "400..599 when body ~ /x/ -> console\n404 -> console\nelse -> discard",
    ));
    gives(
        &route("int(header.status)", "0..4 -> console\n5..9 -> console\n3..7 -> console\nelse -> discard"),
        &["F0503 3..7"],
    );
    gives(
        &route("header.path", "/^\\/api/ -> console\n/^\\/api\\/v1/ -> console\nelse -> discard"),
        &["F0503 /^\\/api\\/v1/"],
    );
    gives(
        &route(
            "",
            "when header.path ~ /^a/ -> console\nwhen header.path ~ /^ab/ -> console\nelse -> discard",
        ),
        &["F0503 header.path ~ /^ab/"],
    );
}

#[test]
fn cases_that_overlap() {
    gives(
        &route("int(header.status)", "200..450 -> console\n400..599 -> console\nelse -> discard"),
        &["F0504 400..599"],
    );
    let made = make(&route("header.path", "/^\\/api/ -> console\n/json$/ -> console\nelse -> discard"));
    assert_eq!(made.found(), ["F0504 /json$/"]);
    assert!(made.told().contains("`/apijson` is in both"), "{}", made.told());
    silent(&route("all int(header.status)", "200..450 -> console\n400..599 -> console\nelse -> discard"));
    silent(&route("", "when header.a ~ /^a/ -> console\nwhen header.b ~ /b$/ -> console\nelse -> discard"));
}

#[test]
fn a_route_that_is_a_filter() {
    gives(&route("", "when header.level == \"error\" -> console\nelse -> discard"), &["F0507 route"]);
    silent(&route("", "when header.level == \"error\" -> timestamp -> console\nelse -> discard"));
    silent(&route("", "when header.level == \"error\" -> console\nelse -> console"));
}

#[test]
fn a_range_that_holds_nothing() {
    gives(
        &route("int(header.status)", "599..500 -> console\n200..299 -> console\nelse -> discard"),
        &["F0509 599..500"],
    );
}
