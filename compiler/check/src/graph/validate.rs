//! What holds for every plan of a program without errors; tests ask it of each plan they make.

use std::collections::BTreeSet;

use flow_plan::ir;
use flow_plan::plan::{Agent, Plan, Program, Target};
use flow_plan::settings::Settings;
use serde_json::Value;

/// The rules a plan breaks, in words; empty for a good one.
pub fn validate(plan: &Plan) -> Vec<String> {
    let mut found = Vec::new();
    check_services(plan, &mut found);
    for agent in &plan.agents {
        check_agent(agent, &mut |what| found.push(format!("agent {}: {what}", agent.name)));
        for (what, origin) in origins_of(agent) {
            if origin as usize >= plan.origins.len() {
                found.push(format!("agent {}: {what} has no origin {origin}", agent.name));
            }
        }
    }
    found
}

/// What a part says of a cluster and its topic is there.
fn check_services(plan: &Plan, found: &mut Vec<String>) {
    let mut names = BTreeSet::new();
    for service in &plan.services {
        if !names.insert(&service.name) {
            found.push(format!("two services are called {}", service.name));
        }
    }
    for election in &plan.elections {
        let is = |service: &&flow_plan::plan::Service| {
            service.word == flow_plan::plan::ServiceWord::Ensemble && service.name == election.ensemble
        };
        if plan.services.iter().find(is).is_none() {
            found.push(format!("election {} has no ensemble {}", election.name, election.ensemble));
        }
        for agent in &election.agents {
            let of = plan.elections.iter().filter(|other| other.agents.contains(agent)).count();
            if of != 1 || !plan.agents.iter().any(|known| known.name == *agent) {
                found.push(format!("agent {agent} is in {of} elections, or is none"));
            }
        }
    }
    let text = |settings: &Settings, key: &str| settings.get(key).and_then(Value::as_str).map(str::to_owned);
    let mut asks = |part: &str, settings: &Settings, topic: &str| {
        let Some(cluster) = text(settings, "cluster") else { return };
        let service = plan.services.iter().find(|service| service.name == cluster);
        if !service.is_some_and(|service| service.topics.iter().any(|known| known.name == topic)) {
            found.push(format!("{part} needs topic {topic} on service {cluster}"));
        }
    };
    for agent in &plan.agents {
        for channel in agent.channels.iter().filter(|channel| channel.drain.is_none()) {
            asks(&channel.name, &channel.settings, &channel.name);
        }
        for source in &agent.sources {
            if let Some(topic) = text(&source.settings, "topic") {
                asks(&source.name, &source.settings, &topic);
            }
        }
    }
}

fn check_agent(agent: &Agent, wrong: &mut impl FnMut(String)) {
    let mut used = vec![0u32; agent.programs.len()];
    let mut user =
        |what: String, program: u32, wrong: &mut dyn FnMut(String)| match used.get_mut(program as usize) {
            Some(count) => *count += 1,
            None => wrong(format!("{what} has no program {program}")),
        };
    for source in &agent.sources {
        user(format!("source {}", source.name), source.program, wrong);
        if let Some(errors) = source.errors {
            user(format!("source {}.errors", source.name), errors, wrong);
        }
    }
    for channel in &agent.channels {
        if let Some(drain) = channel.drain {
            user(format!("channel {}", channel.name), drain, wrong);
        }
    }
    for sink in &agent.sinks {
        if let Some(errors) = sink.errors {
            user(format!("sink {}.errors", sink.name), errors, wrong);
        }
    }
    for (program, count) in agent.programs.iter().zip(&used) {
        if *count != 1 {
            wrong(format!("program {} is used {count} times", program.name));
        }
    }
    let mut filled = vec![false; agent.channels.len()];
    let mut fed = vec![false; agent.sinks.len()];
    for (index, program) in agent.programs.iter().enumerate() {
        let drains = agent.channels.iter().any(|channel| channel.drain == Some(index as u32));
        check_program(program, wrong);
        for output in &program.outputs {
            match output.to {
                Target::Channel(channel) => match filled.get_mut(channel as usize) {
                    Some(filled) => *filled = true,
                    None => wrong(format!("program {} writes to no channel {channel}", program.name)),
                },
                Target::Sink(_) if !drains => {
                    wrong(format!("program {} writes to a sink without a channel", program.name));
                }
                Target::Sink(sink) => match fed.get_mut(sink as usize) {
                    Some(fed) => *fed = true,
                    None => wrong(format!("program {} writes to no sink {sink}", program.name)),
                },
            }
        }
    }
    for (sink, fed) in agent.sinks.iter().zip(&fed) {
        if !fed {
            wrong(format!("nothing reaches sink {}", sink.name));
        }
    }
    for (channel, filled) in agent.channels.iter().zip(&filled) {
        if channel.implicit && !filled {
            wrong(format!("nothing fills the channel {}", channel.name));
        }
    }
}

fn check_program(program: &Program, wrong: &mut impl FnMut(String)) {
    let mut outputs = vec![0u32; program.outputs.len()];
    let mut errors = vec![false; program.errors.len()];
    let mut bodies: Vec<&ir::Program> = vec![&program.body];
    bodies.extend(&program.errors);
    while let Some(body) = bodies.pop() {
        let used = body.steps.iter().filter_map(|step| step.errors);
        let route = match &body.end {
            ir::End::Route(route) => route.errors,
            _ => None,
        };
        for index in used.chain(route) {
            match errors.get_mut(index as usize) {
                Some(used) => *used = true,
                None => wrong(format!("program {} has no errors {index}", program.name)),
            }
        }
        match &body.end {
            ir::End::Output(index) => match outputs.get_mut(*index as usize) {
                Some(count) => *count += 1,
                None => wrong(format!("program {} has no output {index}", program.name)),
            },
            ir::End::Discard => {}
            ir::End::Copy(copies) => {
                if copies.len() < 2 {
                    wrong(format!("program {} copies to {} branches", program.name, copies.len()));
                }
                bodies.extend(copies);
            }
            ir::End::Route(route) => bodies.extend(route.arms.iter().map(|arm| &arm.then)),
        }
    }
    for (index, count) in outputs.iter().enumerate() {
        if *count != 1 {
            wrong(format!("output {index} of program {} is used {count} times", program.name));
        }
    }
    if let Some(index) = errors.iter().position(|used| !used) {
        wrong(format!("errors {index} of program {} is never used", program.name));
    }
}

fn origins_of(agent: &Agent) -> Vec<(String, u32)> {
    let mut out = Vec::new();
    let mut part = |name: &str, origin: u32, settings: Vec<u32>| {
        out.push((name.to_owned(), origin));
        out.extend(settings.into_iter().map(|origin| (name.to_owned(), origin)));
    };
    for item in &agent.sources {
        part(&item.name, item.origin.0, item.setting_origins.values().map(|id| id.0).collect());
    }
    for item in &agent.channels {
        part(&item.name, item.origin.0, item.setting_origins.values().map(|id| id.0).collect());
    }
    for item in &agent.sinks {
        part(&item.name, item.origin.0, item.setting_origins.values().map(|id| id.0).collect());
    }
    for item in &agent.programs {
        part(&item.name, 0, item.outputs.iter().map(|output| output.origin.0).collect());
    }
    out
}
