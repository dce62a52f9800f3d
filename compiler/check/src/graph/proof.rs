//! Why a claim holds, in words: one line per path from where events come in to where they leave.

use super::claim::{asks, claim_of, has, implicit_base, implicit_channel};
use super::context::Context;
use super::segment::{Head, Leaf, Segment};
use crate::model::{Claim, Component, Word};

/// Lines of one claim; what is beyond is counted.
const LINES_MAX: usize = 200;

/// Channels on one path; a circle of channels is an error, but text in that state is printed, too.
const HOPS_MAX: usize = 16;

/// One line per path: why the claim with this number holds.
pub(crate) fn proof(context: &Context<'_>, number: usize) -> Vec<String> {
    let Some(claim) = context.model.claims.get(number) else { return Vec::new() };
    if !asks(claim) {
        return vec![
            "asks nothing: no event is delivered twice on purpose, and a crash may lose some".to_owned(),
        ];
    }
    let mut proof = Proof { context, claim, lines: Vec::new(), more: 0 };
    for segment in &context.segments.list {
        let covered = claim_of(context.model, segment).is_some_and(|(index, _)| index == number);
        let on_the_way = match segment.head {
            Head::Component(id) => context.part(id).is_some_and(|part| part.word == Word::Channel),
            Head::Interceptor(_) | Head::Poison => true,
            Head::InterceptorErrors(_) | Head::ComponentErrors(_) => false,
        };
        if covered && !on_the_way {
            proof.segment(segment, "", 0);
        }
    }
    if proof.more > 0 {
        proof.lines.push(format!("… and {} more paths", proof.more));
    }
    proof.lines
}

struct Proof<'a, 'm> {
    context: &'a Context<'m>,
    claim: &'a Claim,
    lines: Vec<String>,
    more: usize,
}

impl Proof<'_, '_> {
    fn segment(&mut self, segment: &Segment<'_>, before: &str, hops: usize) {
        let context = self.context;
        for path in segment.paths() {
            let Some(to) = context.part(path.leaf.id) else { continue };
            if self.lines.len() >= LINES_MAX {
                self.more += 1;
                continue;
            }
            let so_far = self.hop(segment, path.leaf, to);
            let line = if before.is_empty() { so_far } else { format!("{before}; {so_far}") };
            let readers = context.out_of(path.leaf.id);
            let goes_on = to.word == Word::Channel && path.leaf.optional.is_none() && hops < HOPS_MAX;
            if !goes_on || readers.is_empty() {
                if !self.lines.contains(&line) {
                    self.lines.push(line);
                }
                continue;
            }
            for &index in readers {
                self.segment(&context.segments.list[index], &line, hops + 1);
            }
        }
    }

    /// From one boundary to the next.
    fn hop(&self, segment: &Segment<'_>, leaf: &Leaf, to: &Component) -> String {
        let context = self.context;
        let name = match segment.head {
            // As metrics and the plan call it, also when it is written in place.
            Head::Component(id) => context.part(id).map_or("?", |part| &part.name).to_owned(),
            head => context.head_name(head),
        };
        let head = match (name, segment.as_group) {
            (name, Some(group)) => format!("{name} as {group}"),
            (name, None) => name,
        };
        if leaf.optional.is_some() {
            return format!("{head} -> {}?: optional, outside the claim", to.name);
        }
        if has(to, "discard") {
            return format!("{head} -> {}: thrown away on purpose", to.name);
        }
        let mut why = Vec::new();
        let from = match segment.head {
            Head::Component(id) => context.part(id),
            _ => None,
        };
        let of_topic = from.is_some_and(|part| matches!(part.word, Word::Topic | Word::Consumer));
        let carried = context.segments.carried.contains(&segment.head);
        let inside_transaction = from.is_some_and(|part| part.word == Word::Channel);
        match from {
            Some(part) if part.word == Word::Source => why.push(format!("{} can repeat", part.kind)),
            Some(part) if matches!(part.word, Word::Topic | Word::Consumer) => {
                why.push("the topic can repeat".to_owned());
            }
            _ => {}
        }
        match to.word {
            Word::Channel if context.segments.carried.contains(&Head::Component(leaf.id)) => {
                why.push(format!("{} carries the acknowledgement", to.kind));
            }
            Word::Channel => why.push(format!("{} keeps", to.kind)),
            Word::Topic if of_topic && self.claim.guarantee == "effectively_once" => {
                why.push("events and position in one transaction".to_owned());
            }
            Word::Topic if of_topic => {
                why.push("the topic keeps, and then the position is written down".to_owned())
            }
            Word::Topic => why.push("the topic keeps".to_owned()),
            _ if !inside_transaction => {
                let kind = implicit_channel(context.model, &context.segments, leaf.id);
                let base = implicit_base(context.model, &context.segments, leaf, segment);
                let holds = if carried && !kind.abilities.iter().any(|ability| ability == "durable") {
                    "carries the acknowledgement"
                } else {
                    "keeps"
                };
                why.push(format!("{} {holds}", kind.kind));
                return format!(
                    "{head} -> {base}.channel: {}; {base}.channel -> {}: {}{}",
                    why.join(", "),
                    to.name,
                    self.end(to),
                    self.position(carried, to)
                );
            }
            _ => why.push(self.end(to) + self.position(carried, to)),
        }
        format!("{head} -> {}: {}", to.name, why.join(", "))
    }

    /// Behind a topic's reader.
    fn position(&self, carried: bool, to: &Component) -> &'static str {
        let kept_there = self.claim.guarantee == "effectively_once" && has(to, "transactional");
        if carried && !kept_there { ", and then the position is written down" } else { "" }
    }

    fn end(&self, to: &Component) -> String {
        if to.word == Word::Source {
            return format!("{} acknowledges", to.kind);
        }
        if to.word == Word::Group {
            return "its members confirm".to_owned();
        }
        if self.claim.guarantee != "effectively_once" {
            return format!("{} confirms", to.kind);
        }
        match (has(to, "transactional"), has(to, "idempotent")) {
            (true, _) => format!("{} keeps the position in its transaction", to.kind),
            (_, true) => format!("{} confirms and recognises repeats", to.kind),
            _ => format!("{} confirms", to.kind),
        }
    }
}
