//! Plans of small programs: which programs, channels and outputs come out of which arrows.

mod support;

use flow_plan::ir::End;
use flow_plan::plan::{Agent, Target};
use support::make;

/// `web: Copy[out 0 -> channel buf …]`, one line per program.
fn shape(agent: &Agent) -> Vec<String> {
    fn end(agent: &Agent, program: &flow_plan::plan::Program, body: &flow_plan::ir::Program) -> String {
        let mut out: Vec<String> = body
            .steps
            .iter()
            .map(|step| match step.errors {
                Some(index) => format!("{}!{index}", step.name),
                None => step.name.clone(),
            })
            .collect();
        out.push(match &body.end {
            End::Output(index) => {
                let output = &program.outputs[*index as usize];
                let name = match output.to {
                    Target::Channel(id) => agent.channels[id as usize].name.clone(),
                    Target::Sink(id) => format!("sink {}", agent.sinks[id as usize].name),
                };
                format!("{name}{}", if output.optional { "?" } else { "" })
            }
            End::Discard => "discard".to_owned(),
            End::Copy(branches) => {
                let all: Vec<String> = branches.iter().map(|branch| end(agent, program, branch)).collect();
                format!("[{}]", all.join(", "))
            }
            End::Route(route) => {
                let all: Vec<String> = route.arms.iter().map(|arm| end(agent, program, &arm.then)).collect();
                format!("route{{{}}}", all.join(", "))
            }
        });
        out.join(" > ")
    }
    let mut lines: Vec<String> = agent
        .programs
        .iter()
        .map(|program| {
            let mut line = format!("{}: {}", program.name, end(agent, program, &program.body));
            for (index, errors) in program.errors.iter().enumerate() {
                line.push_str(&format!(" | !{index}: {}", end(agent, program, errors)));
            }
            line
        })
        .collect();
    lines.sort();
    lines
}

fn only(text: &str) -> Agent {
    let made = make(text);
    assert_eq!(made.told(), "");
    let plan = made.plan();
    assert_eq!(plan.agents.len(), 1);
    plan.agents[0].clone()
}

#[test]
fn a_channel_is_put_in_between_a_source_and_a_sink() {
    let agent = only("tail \"x\" -> console");
    assert_eq!(shape(&agent), ["line_1.channel: sink line_1.console", "line_1.tail: line_1.channel"]);
    assert!(agent.channels[0].implicit);
    assert_eq!(agent.channels[0].kind, "memory");
    assert_eq!(agent.channels[0].settings["capacity"], 10_000);
}

#[test]
fn a_channel_in_the_middle_of_a_chain_is_a_boundary() {
    let agent = only(
        "source web = tail \"x\"\nchannel buf = memory\nsink out = console\nweb -> host -> buf -> filter -> out",
    );
    assert_eq!(shape(&agent), ["buf: line_4.filter > sink out", "web: line_4.host > buf"]);
}

#[test]
fn chains_from_one_source_are_copies_in_one_program() {
    let agent = only(
        "source web = tail \"x\"\nchannel a = memory\nchannel b = memory\nweb -> a\nweb -> host -> b\na -> console\nb -> discard",
    );
    assert_eq!(shape(&agent), ["a: sink line_6.console", "b: discard", "web: [a, line_5.host > b]"],);
}

#[test]
fn a_fan_in_to_a_sink_goes_through_one_channel() {
    let agent = only(
        "source a = tail \"x\"\nsource b = http \":1\"\nsink out = console\n[a -> host, b] -> timestamp -> out",
    );
    assert_eq!(
        shape(&agent),
        [
            "a: line_4.host > line_4.timestamp > out.channel",
            "b: line_4.timestamp > out.channel",
            "out.channel: sink out"
        ],
    );
}

#[test]
fn fans_go_on_behind_their_list() {
    let agent = only(
        "source a = tail \"x\"\nsink out = console\nchannel c = memory\na -> [host, timestamp] -> c -> out",
    );
    assert_eq!(shape(&agent), ["a: [line_4.host > c, line_4.timestamp > c]", "c: sink out"]);
}

#[test]
fn failures_go_to_the_innermost_owner_that_has_a_chain() {
    let agent = only(
        "source a = tail \"x\"\ninterceptor inner { fail \"x\" }\ninterceptor outer = inner -> host\n\
         a -> outer -> discard\nouter.errors -> files \"/e\"\ninner.errors -> filter -> discard",
    );
    assert_eq!(
        shape(&agent),
        [
            "a: inner!0 > host!1 > discard | !0: line_6.filter > discard | !1: line_5.channel",
            "line_5.channel: sink line_5.files"
        ],
    );
    assert_eq!(agent.error_chains, ["inner", "outer"]);
}

#[test]
fn sinks_and_sources_have_programs_for_their_errors() {
    let agent = only(
        "source a = tail \"x\"\nsink out = console\na -> out\nout.errors -> files \"/e\"\na.errors -> discard",
    );
    assert_eq!(
        shape(&agent),
        [
            "a.channel: sink out",
            "a.errors: discard",
            "a: a.channel",
            "line_4.channel: sink line_4.files",
            "out.errors: line_4.channel"
        ],
    );
    let out = agent.sinks.iter().find(|sink| sink.name == "out").expect("out");
    assert!(out.errors.is_some());
}

#[test]
fn routes_reach_sinks_through_a_channel_each() {
    let agent = only(
        "source a = tail \"x\"\nsink one = console\nsink two = files \"/t\"\n\
         a -> route header.x { \"1\" -> one, \"2\" -> [one_b, two?], else -> discard }\nchannel one_b = memory\none_b -> discard",
    );
    assert_eq!(
        shape(&agent),
        [
            "a: route{one.channel, [one_b, two.channel?], discard}",
            "one.channel: sink one",
            "one_b: discard",
            "two.channel: sink two"
        ],
    );
}

#[test]
fn parts_of_agents_are_theirs() {
    let made = make(
        "agent web at [\"w1\", \"w2\"] {\n  source log = tail \"/x\"\n  log -> files \"/y\"\n}\nagent db at \"d\" {\n  source s = tail \"/z\"\n  s -> console\n}",
    );
    assert_eq!(made.told(), "");
    let plan = made.plan();
    let names: Vec<&str> = plan.agents.iter().map(|agent| agent.name.as_str()).collect();
    assert_eq!(names, ["web", "db"]);
    assert_eq!(plan.agents[0].hosts, ["w1", "w2"]);
}

#[test]
fn an_interceptor_of_the_file_takes_its_failures_into_every_agent() {
    let made = make(
        "interceptor parse { fail \"no\" }\nparse.errors -> files \"/e\"\n\
         agent a at \"h1\" {\n  source s = tail \"/x\"\n  s -> parse -> console\n}\n\
         agent b at \"h2\" {\n  source s = tail \"/x\"\n  s -> parse -> console\n}",
    );
    assert_eq!(made.told(), "");
    let plan = made.plan();
    assert_eq!(plan.agents.len(), 2);
    for agent in &plan.agents {
        assert_eq!(agent.sinks.len(), 2, "{}", agent.name);
        assert_eq!(agent.error_chains, ["parse"]);
    }
}

#[test]
fn a_channel_under_a_claim_is_one_that_keeps() {
    let agent = only("deliver at_least_once\nsource web = tail \"x\"\nweb -> console");
    assert_eq!(agent.channels[0].kind, "file");
    assert_eq!(agent.channels[0].settings["dirs"], serde_json::json!([]));
    let agent = only("deliver at_most_once\nsource web = tail \"x\"\nweb -> console");
    assert_eq!(agent.channels[0].kind, "memory");
}

#[test]
fn runtime_says_what_is_put_in() {
    let agent = only(
        "runtime { default_channel: { kind: \"memory\", capacity: 7 } }\nsource web = tail \"x\"\nweb -> console",
    );
    assert_eq!(agent.channels[0].settings["capacity"], 7);
}
