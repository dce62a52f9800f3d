//! What may follow what: every part has something before and after it, and every arrow is one that can carry
//! events (F0401 to F0416 of the catalogue).

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use flow_diag::{Code, Diagnostic};

use super::claim::has;
use super::context::{Context, shown};
use super::segment::{Branch, End, Head, Leaf, Segment};
use crate::model::{Component, ComponentId, InterceptorId, Word};

pub(crate) fn check(
    context: &Context<'_>,
    on_cycle: &BTreeSet<(usize, ComponentId)>,
    out: &mut Vec<Diagnostic>,
) {
    check_unused(context, out);
    for segment in &context.segments.list {
        check_head(context, segment, out);
        check_ends(context, segment, out);
    }
    check_idle_failures(context, out);
    let twice = check_twice(context, out);
    check_readers(context, &twice, out);
    check_copies(context, on_cycle, out);
    check_feeders(context, &twice, out);
    check_unnamed_state(context, out);
    for span in &context.segments.too_large {
        out.push(
            Diagnostic::new(Code::F0023, *span, "this chain branches too often to be drawn")
                .label("each list that goes on doubles what follows it")
                .help("end the lists in channels, and go on from those"),
        );
    }
}

/// F0401, F0402, F0403, F0405, F0406: parts that nothing leads to or away from.
fn check_unused(context: &Context<'_>, out: &mut Vec<Diagnostic>) {
    for (id, part) in context.parts() {
        // What is written in place is in a chain, whatever is wrong with that.
        if part.in_place || context.quiet(part) {
            continue;
        }
        let name = shown(part);
        let filled = !context.into(id).is_empty();
        let drained = !context.out_of(id).is_empty();
        match part.word {
            Word::Source if !drained => out.push(
                Diagnostic::new(Code::F0401, part.span, format!("source `{name}` flows nowhere"))
                    .label("its events would pile up and be lost")
                    .help(format!("add `{name} -> …`, or `{name} -> discard`, or remove it")),
            ),
            Word::Consumer if !drained => out.push(
                Diagnostic::new(Code::F0401, part.span, format!("consumer `{name}` flows nowhere"))
                    .label("it would read events that nobody takes")
                    .help(format!("add `{name} -> …`, or remove it")),
            ),
            Word::Sink | Word::Group
                if !filled && !context.in_used_group(id) && !in_unused_group(context, id) =>
            {
                out.push(
                    Diagnostic::new(
                        Code::F0402,
                        part.span,
                        format!("nothing reaches {} `{name}`", part.word.text()),
                    )
                    .label("no chain ends here")
                    .help("remove it, or let a chain end in it"),
                );
            }
            Word::Channel if !filled && !drained => out.push(
                Diagnostic::new(Code::F0405, part.span, format!("channel `{name}` is not used"))
                    .label("no arrow leads to it or away from it")
                    .help("remove it, or prefix the name with `_`"),
            ),
            Word::Channel if !filled => out.push(
                Diagnostic::new(Code::F0405, part.span, format!("nothing fills channel `{name}`"))
                    .label("it is read, but no arrow leads to it")
                    .help(format!("add `… -> {name}`, or remove it")),
            ),
            Word::Channel if !drained => {
                let mut diagnostic = Diagnostic::new(
                    Code::F0403,
                    part.span,
                    format!("channel `{name}` is filled but never drained"),
                )
                .label("it fills up, and then its sources stop")
                .help(format!("add `{name} -> …`"));
                for arrival in context.into(id).iter().take(3) {
                    diagnostic = diagnostic.also(arrival.leaf.span, "filled here");
                }
                out.push(diagnostic);
            }
            Word::Topic if !filled && !read(context, id) => out.push(
                Diagnostic::new(Code::F0405, part.span, format!("topic `{name}` is not used"))
                    .label("no arrow leads to it or away from it")
                    .help("remove it, or prefix the name with `_`"),
            ),
            Word::Topic if filled && !read(context, id) && !is_true(part, "external") => out.push(
                Diagnostic::new(
                    Code::F0406,
                    part.span,
                    format!("topic `{name}` is written but nobody reads it here"),
                )
                .label("its events go when their retention ends")
                .help(format!("add `{name} as reader -> …`, or say `external: true` when others read it")),
            ),
            _ => {}
        }
    }
}

fn is_true(part: &Component, setting: &str) -> bool {
    part.settings.get(setting).is_some_and(|value| value == &serde_json::Value::Bool(true))
}

/// A topic is read by a chain or through a consumer.
fn read(context: &Context<'_>, id: ComponentId) -> bool {
    !context.out_of(id).is_empty()
        || context.parts().any(|(_, part)| part.word == Word::Consumer && part.on == Some(id))
}

/// The group is what is reported then, not its members.
fn in_unused_group(context: &Context<'_>, id: ComponentId) -> bool {
    context
        .parts()
        .any(|(other, part)| other != id && part.members.iter().any(|member| member.component == id))
}

/// F0402 for `x.errors -> …` when `x` stands in no chain: nothing will ever fail there.
fn check_idle_failures(context: &Context<'_>, out: &mut Vec<Diagnostic>) {
    if context.model.incomplete {
        return;
    }
    let used: BTreeSet<InterceptorId> = context
        .segments
        .list
        .iter()
        .flat_map(|segment| segment.steps())
        .flat_map(|step| step.owners.iter().copied())
        .collect();
    for segment in &context.segments.list {
        let Head::InterceptorErrors(id) = segment.head else { continue };
        let Some(interceptor) = context.model.interceptors.get(id.0 as usize) else { continue };
        let name = &interceptor.name;
        if used.contains(&id) || interceptor.imported || context.model.poisoned.contains(name) {
            continue;
        }
        out.push(
            Diagnostic::new(
                Code::F0402,
                segment.head_span,
                format!("nothing comes out of `{name}.errors`: `{name}` is in no chain"),
            )
            .label("no event can fail there")
            .also(interceptor.span, "declared here")
            .help(format!("put `-> {name} ->` into a chain, or remove this one")),
        );
    }
}

/// F0404 and F0415: what cannot stand at the head of a chain.
fn check_head(context: &Context<'_>, segment: &Segment<'_>, out: &mut Vec<Diagnostic>) {
    match segment.head {
        Head::Interceptor(_) => {
            let name = context.head_name(segment.head);
            out.push(
                Diagnostic::new(
                    Code::F0415,
                    segment.head_span,
                    format!("`{name}` is an interceptor and cannot start a chain"),
                )
                .label("no events come from here")
                .help(format!(
                    "start with a source, channel, topic or `x.errors`; for the failures of `{name}` write `{name}.errors -> …`"
                )),
            );
        }
        Head::Component(id) => {
            let Some(part) = context.part(id) else { return };
            if part.poisoned
                || part.declared_twice
                || matches!(part.word, Word::Source | Word::Channel | Word::Topic | Word::Consumer)
            {
                return;
            }
            let name = shown(part);
            let mut diagnostic = Diagnostic::new(
                Code::F0404,
                segment.head_span,
                format!("`{name}` is a {}: nothing can flow out of it", part.word.text()),
            )
            .label("an arrow leads away from here");
            if !part.in_place {
                diagnostic = diagnostic.also(part.span, format!("declared as a {} here", part.word.text()));
            }
            if part.word == Word::Sink {
                diagnostic = diagnostic.help(format!("for the events it refuses write `{name}.errors -> …`"));
            }
            out.push(diagnostic);
        }
        Head::ComponentErrors(_) | Head::InterceptorErrors(_) | Head::Poison => {}
    }
}

/// Ends of branches: F0401 for a chain that ends in an interceptor, F0404 for what nothing can flow into or out
/// of.
fn check_ends(context: &Context<'_>, segment: &Segment<'_>, out: &mut Vec<Diagnostic>) {
    segment.body.each(&mut |branch| match &branch.end {
        End::Open => {
            // An arrow into nothing is the syntax's to report; an arm or a list without anything, too.
            if let Some(step) = branch.steps.last() {
                out.push(
                    Diagnostic::new(
                        Code::F0401,
                        step.span,
                        format!("events flow nowhere behind `{}`", short(context, step.span)),
                    )
                    .label("the chain ends in an interceptor")
                    .help("go on with `-> …` to a channel, topic or sink, or with `-> discard`"),
                );
            }
        }
        End::Place(leaf) => check_leaf(context, segment, leaf, out),
        End::Fan(..) | End::Route(..) | End::Poison => {}
    });
}

fn short<'a>(context: &Context<'a>, span: flow_diag::Span) -> &'a str {
    let text = if context.files.ids().any(|id| id == span.file) { context.files.slice(span) } else { "" };
    text.split(['{', '\n']).next().unwrap_or("").trim()
}

fn check_leaf(context: &Context<'_>, segment: &Segment<'_>, leaf: &Leaf, out: &mut Vec<Diagnostic>) {
    let Some(part) = context.part(leaf.id) else { return };
    if part.poisoned || part.declared_twice {
        return;
    }
    let name = shown(part);
    match part.word {
        Word::Sink | Word::Group => {
            if let Some(arrow) = leaf.followed {
                let mut diagnostic = Diagnostic::new(
                    Code::F0404,
                    leaf.span,
                    format!("`{name}` is a {}: nothing can flow out of it", part.word.text()),
                )
                .label("the chain goes on behind it")
                .also(arrow, "this arrow leads away from it");
                if !part.in_place {
                    diagnostic =
                        diagnostic.also(part.span, format!("declared as a {} here", part.word.text()));
                }
                diagnostic = diagnostic.help(format!("for both write `-> [{name}, …]`"));
                out.push(diagnostic);
            }
        }
        Word::Source if part.agent != segment.agent => check_remote(context, part, leaf, out),
        Word::Source | Word::Consumer | Word::Cluster | Word::Ensemble => {
            let word = part.word.text();
            let article = if part.word == Word::Ensemble { "an" } else { "a" };
            let mut diagnostic = Diagnostic::new(
                Code::F0404,
                leaf.span,
                format!("`{name}` is {article} {word}: nothing can flow into it"),
            )
            .label("an arrow leads here");
            if !part.in_place {
                diagnostic = diagnostic.also(part.span, format!("declared as {article} {word} here"));
            }
            diagnostic = match part.word {
                Word::Consumer => diagnostic.help("write to its topic"),
                Word::Cluster => diagnostic.help(format!("declare a topic: `topic x on {name} {{ … }}`")),
                _ => diagnostic.help("a chain leads from a source to a channel, topic or sink"),
            };
            out.push(diagnostic);
        }
        Word::Channel | Word::Topic => {}
    }
}

/// An arrow to the inbox of another agent: F0404 when its kind cannot be one, F0704 when it does not say which host.
fn check_remote(context: &Context<'_>, part: &Component, leaf: &Leaf, out: &mut Vec<Diagnostic>) {
    let name = shown(part);
    if !has(part, "remote") {
        if !has(part, "absent") {
            out.push(
                Diagnostic::new(
                    Code::F0404,
                    leaf.span,
                    format!("`{name}` is a `{}` source: no other agent can send to it", part.kind),
                )
                .label("an arrow between agents ends here")
                .also(part.kind_span, "this kind has no sending end")
                .help("make it an inbox: `avro`, `thrift` or `flow`"),
            );
        }
        return;
    }
    let Some(agent) = context.model.agents.get(part.agent.0 as usize) else { return };
    if agent.hosts.len() > 1 {
        out.push(
            Diagnostic::new(
                Code::F0704,
                leaf.span,
                format!("`{}` runs on {} hosts: which one?", agent.name, agent.hosts.len()),
            )
            .label("a bare arrow does not say")
            .also(agent.span, format!("on {}", some(&agent.hosts)))
            .help(format!(
                "`load_balance {}` shares events out, `failover` prefers the first",
                short(context, leaf.span)
            )),
        );
    }
}

fn some(hosts: &[String]) -> String {
    match hosts {
        [first, second] => format!("`{first}` and `{second}`"),
        [first, .., last] => format!("`{first}` … `{last}`"),
        _ => hosts.join(", "),
    }
}

/// An unconditional way: head, reader's name, place, and names of the steps. In-place steps are named after their
/// line, so two of those are not known to be the same.
type Way<'a> = (Head, Option<&'a str>, ComponentId, Vec<&'a str>);

/// F0416: the same steps from the same head to the same place. Gives the segments and places that are repeated.
fn check_twice(context: &Context<'_>, out: &mut Vec<Diagnostic>) -> BTreeSet<(usize, ComponentId)> {
    let mut twice = BTreeSet::new();
    let mut seen: HashMap<Way<'_>, flow_diag::Span> = HashMap::new();
    for (index, segment) in context.segments.list.iter().enumerate() {
        if matches!(segment.head, Head::Poison | Head::Interceptor(_)) {
            continue;
        }
        for path in segment.paths().into_iter().filter(|path| !path.conditional) {
            let part = context.part(path.leaf.id);
            if part.is_none_or(|part| has(part, "discard") || part.in_place) {
                continue;
            }
            let steps = path.steps.iter().map(|step| step.step.name.as_str()).collect();
            let way = (segment.head, segment.as_group, path.leaf.id, steps);
            let first = match seen.entry(way) {
                Entry::Vacant(entry) => {
                    entry.insert(path.leaf.span);
                    continue;
                }
                Entry::Occupied(entry) => *entry.get(),
            };
            // One arrow that is reached on two ways (`[a, a] -> b`) is told by its list.
            if !twice.insert((index, path.leaf.id)) || first == path.leaf.span {
                continue;
            }
            out.push(
                Diagnostic::new(
                    Code::F0416,
                    path.leaf.span,
                    format!(
                        "`{} -> {}` is written twice: every event would arrive twice",
                        context.head_name(segment.head),
                        context.name(path.leaf.id)
                    ),
                )
                .label("again here")
                .also(first, "the first time")
                .help("remove one of them"),
            );
        }
    }
    twice
}

/// F0408: a channel gives each event to one reader.
fn check_readers(context: &Context<'_>, twice: &BTreeSet<(usize, ComponentId)>, out: &mut Vec<Diagnostic>) {
    for (id, part) in context.parts() {
        if part.word != Word::Channel || part.poisoned {
            continue;
        }
        let readers: Vec<usize> = context
            .out_of(id)
            .iter()
            .copied()
            .filter(|&index| !twice.iter().any(|(other, _)| *other == index))
            .collect();
        let title = |count: &str| {
            format!("a {} channel gives each event to one reader, {count} are listed", part.kind)
        };
        let help = "`load_balance [..]` shares the events out; for copies fan out before the channel, or use a topic";
        if let [first, second, ..] = readers[..] {
            let count = count_word(readers.len());
            let first = &context.segments.list[first];
            let second = &context.segments.list[second];
            let mut diagnostic = Diagnostic::new(Code::F0408, second.head_span, title(&count))
                .label(format!("`{}` is read here again", shown(part)))
                .also(first.head_span, "the first reader");
            if !part.in_place {
                diagnostic = diagnostic.also(part.span, "declared here");
            }
            out.push(diagnostic.help(help));
            continue;
        }
        for index in readers {
            context.segments.list[index].body.each(&mut |branch| {
                let End::Fan(span, branches) = &branch.end else { return };
                if branches.len() < 2 || copies_are_reported(branches) {
                    return;
                }
                let mut diagnostic = Diagnostic::new(Code::F0408, *span, title(&count_word(branches.len())))
                    .label(format!("each of these wants every event of `{}`", shown(part)));
                if !part.in_place {
                    diagnostic = diagnostic.also(part.span, "declared here");
                }
                out.push(diagnostic.help(help));
            });
        }
    }
}

/// `[out, out]` is F0416.
fn copies_are_reported(branches: &[Branch<'_>]) -> bool {
    let mut ids = BTreeSet::new();
    branches.iter().all(|branch| match &branch.end {
        End::Place(leaf) if branch.steps.is_empty() => {
            ids.insert(leaf.id);
            ids.len() == 1
        }
        _ => false,
    })
}

fn count_word(count: usize) -> String {
    match count {
        2 => "two".to_owned(),
        3 => "three".to_owned(),
        more => more.to_string(),
    }
}

/// F0409: a channel straight into a channel. Where it closes a circle, that is what is said.
fn check_copies(context: &Context<'_>, on_cycle: &BTreeSet<(usize, ComponentId)>, out: &mut Vec<Diagnostic>) {
    for (index, segment) in context.segments.list.iter().enumerate() {
        let Head::Component(from) = segment.head else { continue };
        let (End::Place(leaf), []) = (&segment.body.end, segment.body.steps.as_slice()) else { continue };
        let channel = |id| context.part(id).is_some_and(|part| part.word == Word::Channel && !part.poisoned);
        if channel(from) && channel(leaf.id) && !on_cycle.contains(&(index, leaf.id)) {
            out.push(
                Diagnostic::new(Code::F0409, leaf.arrow, "channel into channel only copies")
                    .label(format!(
                        "from channel `{}` to channel `{}`",
                        context.name(from),
                        context.name(leaf.id)
                    ))
                    .help("remove one of the two"),
            );
        }
    }
}

/// F0411: a sink is fed from one place.
fn check_feeders(context: &Context<'_>, twice: &BTreeSet<(usize, ComponentId)>, out: &mut Vec<Diagnostic>) {
    for (id, part) in context.parts() {
        if !matches!(part.word, Word::Sink | Word::Group) || part.poisoned || has(part, "discard") {
            continue;
        }
        let mut feeders: Vec<(Feeder, &super::context::Arrival)> = Vec::new();
        for arrival in context.into(id) {
            if twice.contains(&(arrival.segment, id)) {
                continue;
            }
            let feeder = feeder(context, &context.segments.list[arrival.segment]);
            if feeder != Feeder::Nobody && !feeders.iter().any(|(known, _)| *known == feeder) {
                feeders.push((feeder, arrival));
            }
        }
        let [(_, first), (_, second), ..] = feeders[..] else { continue };
        let name = |arrival: &super::context::Arrival| {
            context.head_name(context.segments.list[arrival.segment].head)
        };
        let mut diagnostic = Diagnostic::new(
            Code::F0411,
            second.leaf.span,
            format!(
                "{} `{}` is fed by `{}` and by `{}`",
                part.word.text(),
                shown(part),
                name(first),
                name(second)
            ),
        )
        .label(format!("from `{}`", name(second)))
        .also(first.leaf.span, format!("from `{}`", name(first)));
        for (_, more) in feeders.iter().skip(2).take(4) {
            diagnostic = diagnostic.also(more.leaf.span, format!("from `{}`", name(more)));
        }
        out.push(diagnostic.help(format!(
            "let both flow into one channel before `{}`, or write `[a, b] -> {0}`",
            shown(part)
        )));
    }
}

/// What feeds a sink: a channel by itself, everything else as the chain it stands in (`[a, b] -> sink` is one).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Feeder {
    Channel(ComponentId),
    Chain(usize),
    Nobody,
}

fn feeder(context: &Context<'_>, segment: &Segment<'_>) -> Feeder {
    match segment.head {
        Head::Component(id) => match context.part(id).map(|part| part.word) {
            Some(Word::Channel) => Feeder::Channel(id),
            Some(Word::Source | Word::Topic | Word::Consumer) => Feeder::Chain(segment.chain),
            _ => Feeder::Nobody,
        },
        Head::InterceptorErrors(_) | Head::ComponentErrors(_) => Feeder::Chain(segment.chain),
        Head::Interceptor(_) | Head::Poison => Feeder::Nobody,
    }
}

/// F0410: a chain without names at both ends, where the source keeps its place and the sink keeps files. Repeating
/// into something that only shows events harms nobody, and a sink alone finds its files by their path.
fn check_unnamed_state(context: &Context<'_>, out: &mut Vec<Diagnostic>) {
    for segment in &context.segments.list {
        let Head::Component(id) = segment.head else { continue };
        let Some(source) = context.part(id) else { continue };
        if !source.in_place || source.word != Word::Source || !has(source, "stateful") || source.imported {
            continue;
        }
        let keeps = segment.paths().into_iter().find_map(|path| {
            context.part(path.leaf.id).filter(|part| part.in_place && has(part, "stateful"))
        });
        if let Some(kept) = keeps {
            out.push(
                Diagnostic::new(Code::F0410, source.kind_span, "this unnamed part keeps state on disk")
                    .label("its place in the input is kept under the number of this line")
                    .also(kept.kind_span, "so events would be written here again when the line moves")
                    .help(format!("give it a name: `source web = {} …`", source.kind)),
            );
        }
    }
}
