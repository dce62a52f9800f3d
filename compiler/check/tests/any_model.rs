//! Nothing panics, whatever the model: numbers that point nowhere, parts of other sorts, circles of every kind.

mod support;

use flow_check::model::*;
use flow_check::{graph, print};
use support::make;

/// splitmix64, Steele et al. 2014.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound.max(1)
    }
}

const TEXT: &str = "deliver effectively_once
source a = tail \"x\" { batch: 5_000 }
source b = udp \"y\"
channel one = memory
channel two = file \"/d\"
sink out = console
sink far = store \"z\"
group reach = failover [out, far]
topic t
consumer c = t { workers: 2 }
interceptor fix { header.x = \"1\" }
flow inner deliver at_least_once {
  source s = http \"q\"
  s -> t
}
[a -> host, b] -> fix -> route header.x {
  \"1\" -> one
  2..9 | /^4/ -> [one, two?]
  else -> [fix, filter] -> two
}
one -> out
two -> reach
c -> files \"/f\"
fix.errors -> t
out.errors -> one";

fn nodes(list: &mut [Node], random: &mut Random, parts: u64) {
    for node in list {
        match &mut node.kind {
            NodeKind::Place { id, .. } => {
                if random.below(4) == 0 {
                    *id = ComponentId(random.below(parts + 2) as u32);
                }
            }
            NodeKind::Fan(branches) => {
                branches.iter_mut().for_each(|branch| nodes(branch, random, parts));
                if random.below(20) == 0 {
                    branches.clear();
                }
            }
            NodeKind::Route(route) => {
                route.arms.iter_mut().for_each(|arm| nodes(&mut arm.nodes, random, parts));
                if random.below(20) == 0 {
                    route.arms.clear();
                }
            }
            NodeKind::Steps(steps) => {
                if random.below(10) == 0 {
                    steps.iter_mut().for_each(|step| step.owners.push(InterceptorId(random.below(4) as u32)));
                }
            }
            NodeKind::Poison => {}
        }
        if random.below(30) == 0 {
            node.kind = NodeKind::Poison;
        }
    }
}

#[test]
fn no_model_panics() {
    let made = make(TEXT);
    for seed in 0..100 {
        let mut random = Random(seed);
        let mut model = made.model.clone();
        let parts = model.components.len() as u64;
        let some = |random: &mut Random| ComponentId(random.below(parts + 2) as u32);
        for part in &mut model.components {
            if random.below(8) == 0 {
                part.word = [
                    Word::Source,
                    Word::Channel,
                    Word::Sink,
                    Word::Group,
                    Word::Topic,
                    Word::Consumer,
                    Word::Cluster,
                ][random.below(7) as usize];
            }
            if random.below(8) == 0 {
                part.agent = AgentId(random.below(3) as u32);
            }
            if random.below(8) == 0 {
                part.on = Some(some(&mut random));
            }
            for member in &mut part.members {
                if random.below(3) == 0 {
                    member.component = some(&mut random);
                }
            }
            part.poisoned |= random.below(20) == 0;
        }
        for chain in &mut model.chains {
            for start in &mut chain.from {
                match random.below(8) {
                    0 => start.kind = StartKind::Component { id: some(&mut random), as_group: None },
                    1 => start.kind = StartKind::ComponentErrors(some(&mut random)),
                    2 => start.kind = StartKind::InterceptorErrors(InterceptorId(random.below(3) as u32)),
                    3 => start.kind = StartKind::Interceptor(InterceptorId(random.below(3) as u32)),
                    4 => start.kind = StartKind::Poison,
                    _ => {}
                }
                nodes(&mut start.nodes, &mut random, parts);
            }
            nodes(&mut chain.nodes, &mut random, parts);
            chain.flow = (random.below(4) == 0).then(|| FlowId(random.below(3) as u32));
            chain.agent = AgentId(if random.below(10) == 0 { 7 } else { 0 });
        }
        let mut diagnostics = Vec::new();
        graph::check(&model, &made.files, &mut diagnostics);
        let plan = graph::plan(&model, &made.files);
        for text in [
            print::plan_text(&plan),
            print::graph_text(&model),
            print::graph_dot(&model),
            print::graph_mermaid(&model),
        ] {
            assert!(text.len() < 100_000, "seed {seed}");
        }
    }
}

#[test]
fn a_chain_that_doubles_is_cut_off() {
    let fans = vec!["[host, timestamp]"; 40].join(" -> ");
    let made = make(&format!("source a = tail \"x\"\na -> {fans} -> console"));
    assert!(made.codes().contains(&"F0023".to_owned()), "{}", made.told());
}

#[test]
fn an_empty_model_is_a_model() {
    let files = flow_diag::Files::new();
    let model = Model::default();
    let mut diagnostics = Vec::new();
    graph::check(&model, &files, &mut diagnostics);
    let plan = graph::plan(&model, &files);
    assert!(diagnostics.is_empty() && plan.agents.is_empty());
    print::plan_text(&plan);
    print::graph_text(&model);
    print::graph_dot(&model);
    print::graph_mermaid(&model);
}
