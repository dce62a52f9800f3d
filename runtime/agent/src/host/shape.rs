//! The shape of an agent: who feeds which channel, which drain owns which sink. A plan made by the checker always
//! passes; one that was written elsewhere is refused here instead of failing half-way.

use flow_plan::plan::{Agent, OriginId, Target};

use super::StartFault;
use crate::traits::Fault;

pub(super) struct Shape {
    /// By source: the channels its programs put into, each once.
    pub source_feeds: Vec<Vec<usize>>,
    /// By channel: the channels its drain and the error chains of its sinks put into, each once.
    pub drain_feeds: Vec<Vec<usize>>,
    /// By channel: the sinks of its drain, and whether some branch to the sink is required.
    pub drain_sinks: Vec<Vec<(u32, bool)>>,
    /// By channel: how many sources and drains feed it.
    pub feeders: Vec<usize>,
    /// By channel: whether some way to it has no optional branch. What is in the others holds nobody.
    pub needed: Vec<bool>,
}

pub(super) fn check_shape(agent: &Agent) -> Result<Shape, Vec<StartFault>> {
    let mut faults = Vec::new();
    check_indexes(agent, &mut faults);
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut source_feeds = Vec::new();
    for source in &agent.sources {
        let mut feeds = Vec::new();
        for program in [Some(source.program), source.errors].into_iter().flatten() {
            add_channels(agent, program, &mut feeds);
        }
        source_feeds.push(feeds);
    }
    let mut drain_feeds = Vec::new();
    let mut drain_sinks: Vec<Vec<(u32, bool)>> = Vec::new();
    let mut fed_by: Vec<Option<usize>> = vec![None; agent.sinks.len()];
    for (index, channel) in agent.channels.iter().enumerate() {
        let mut sinks: Vec<(u32, bool)> = Vec::new();
        let mut feeds = Vec::new();
        let outputs = channel.drain.map(|drain| {
            add_channels(agent, drain, &mut feeds);
            agent.programs[drain as usize].outputs.iter()
        });
        for output in outputs.into_iter().flatten() {
            let Target::Sink(sink) = output.to else { continue };
            match sinks.iter_mut().find(|(known, _)| *known == sink) {
                Some((_, required)) => *required |= !output.optional,
                None => sinks.push((sink, !output.optional)),
            }
        }
        for &(sink, _) in &sinks {
            let planned = &agent.sinks[sink as usize];
            if let Some(errors) = planned.errors {
                add_channels(agent, errors, &mut feeds);
            }
            match fed_by[sink as usize].replace(index) {
                Some(other) if other != index => {
                    let (first, second) = (&agent.channels[other].name, &channel.name);
                    let message = format!("sink `{}` is fed by `{first}` and by `{second}`", planned.name);
                    faults.push(start_fault(agent, &planned.name, message, "F0411", planned.origin));
                }
                _ => {}
            }
        }
        drain_feeds.push(feeds);
        drain_sinks.push(sinks);
    }
    let mut feeders = vec![0; agent.channels.len()];
    for &channel in source_feeds.iter().chain(&drain_feeds).flatten() {
        feeders[channel] += 1;
    }
    check_cycles(agent, &drain_feeds, &mut faults);
    if faults.is_empty() {
        let needed = needed_channels(agent);
        Ok(Shape { source_feeds, drain_feeds, drain_sinks, feeders, needed })
    } else {
        Err(faults)
    }
}

pub(super) fn target_name(agent: &Agent, target: Target) -> &str {
    match target {
        Target::Channel(index) => agent.channels.get(index as usize).map_or("?", |channel| &channel.name),
        Target::Sink(index) => agent.sinks.get(index as usize).map_or("?", |sink| &sink.name),
    }
}

fn add_channels(agent: &Agent, program: u32, feeds: &mut Vec<usize>) {
    for output in &agent.programs[program as usize].outputs {
        if let Target::Channel(channel) = output.to
            && !feeds.contains(&(channel as usize))
        {
            feeds.push(channel as usize);
        }
    }
}

fn needed_channels(agent: &Agent) -> Vec<bool> {
    let mut needed = vec![false; agent.channels.len()];
    let sources = agent.sources.iter().flat_map(|source| [Some(source.program), source.errors]);
    let mut programs: Vec<u32> = sources.flatten().collect();
    while let Some(program) = programs.pop() {
        for output in agent.programs[program as usize].outputs.iter().filter(|output| !output.optional) {
            match output.to {
                Target::Channel(channel) if !needed[channel as usize] => {
                    needed[channel as usize] = true;
                    programs.extend(agent.channels[channel as usize].drain);
                }
                Target::Channel(_) => {}
                Target::Sink(sink) => programs.extend(agent.sinks[sink as usize].errors),
            }
        }
    }
    needed
}

fn check_indexes(agent: &Agent, faults: &mut Vec<StartFault>) {
    let mut check_program = |program: Option<u32>, node: &str, origin, drains: bool| {
        let Some(program) = program else { return };
        let Some(planned) = agent.programs.get(program as usize) else {
            let message = format!("the plan has no program {program}");
            faults.push(start_fault(agent, node, message, "F1109", origin));
            return;
        };
        for output in &planned.outputs {
            let message = match output.to {
                Target::Channel(channel) if channel as usize >= agent.channels.len() => {
                    format!("the plan has no channel {channel}")
                }
                Target::Sink(sink) if sink as usize >= agent.sinks.len() => {
                    format!("the plan has no sink {sink}")
                }
                Target::Sink(_) if !drains => "only a channel leads to a sink".to_owned(),
                _ => continue,
            };
            faults.push(start_fault(agent, node, message, "F1109", output.origin));
        }
    };
    for source in &agent.sources {
        check_program(Some(source.program), &source.name, source.origin, false);
        check_program(source.errors, &source.name, source.origin, false);
    }
    for channel in &agent.channels {
        check_program(channel.drain, &channel.name, channel.origin, true);
    }
    for sink in &agent.sinks {
        check_program(sink.errors, &sink.name, sink.origin, false);
    }
}

/// A ring of channels would never become empty: channels without feeders are taken away until none is left.
fn check_cycles(agent: &Agent, drain_feeds: &[Vec<usize>], faults: &mut Vec<StartFault>) {
    let mut feeders = vec![0usize; drain_feeds.len()];
    for &channel in drain_feeds.iter().flatten() {
        feeders[channel] += 1;
    }
    let mut free: Vec<usize> = (0..feeders.len()).filter(|&channel| feeders[channel] == 0).collect();
    let mut taken = vec![false; feeders.len()];
    while let Some(channel) = free.pop() {
        taken[channel] = true;
        for &next in &drain_feeds[channel] {
            feeders[next] -= 1;
            if feeders[next] == 0 {
                free.push(next);
            }
        }
    }
    if let Some(channel) = taken.iter().position(|taken| !taken) {
        let channel = &agent.channels[channel];
        let message = format!("events would go round for ever through channel `{}`", channel.name);
        faults.push(start_fault(agent, &channel.name, message, "F0420", channel.origin));
    }
}

fn start_fault(
    agent: &Agent,
    node: &str,
    message: String,
    code: &'static str,
    origin: OriginId,
) -> StartFault {
    let fault = Fault::new(message).code(code);
    StartFault { agent: agent.name.clone(), node: node.to_owned(), fault, origin }
}
