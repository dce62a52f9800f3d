//! What a run says on the terminal: what it is going to do, a live line, and what it did.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use flow_agent::host::End;
use flow_agent::status::{AgentStatus, ProgramStatus, Status};
use flow_plan::Plan;
use flow_plan::plan::OriginId;

use crate::output;
use crate::project::Project;

/// The live line on stderr, drawn over itself.
pub struct Line {
    on: bool,
    drawn: bool,
    /// Events in and the moment, at the last drawing.
    before: Option<(u64, Instant)>,
}

impl Line {
    pub fn new(on: bool) -> Line {
        Line { on, drawn: false, before: None }
    }

    pub fn draw(&mut self, status: &Status) {
        if !self.on {
            return;
        }
        let totals = Totals::of(status);
        let now = Instant::now();
        let rate = match self.before {
            Some((events, then)) => {
                let seconds = now.duration_since(then).as_secs_f64().max(0.001);
                (totals.events_in.saturating_sub(events) as f64 / seconds) as u64
            }
            None => 0,
        };
        self.before = Some((totals.events_in, now));
        let mut text = format!(
            "{} ev/s  in {}  out {}  fill {} %",
            number(rate),
            number(totals.events_in),
            number(totals.events_out),
            totals.fill_percent
        );
        if totals.oldest_ms > 1_000 {
            let _ = write!(text, "  oldest {} s", totals.oldest_ms / 1_000);
        }
        for (count, word) in [(totals.errors, "errors"), (totals.retries, "retries")] {
            if count > 0 {
                let _ = write!(text, "  {word} {}", number(count));
            }
        }
        let shown: String = text.chars().take(output::width().saturating_sub(1)).collect();
        output::block(&format!("\r\x1b[2K{shown}"));
        self.drawn = true;
    }

    /// Makes room for another line.
    pub fn clear(&mut self) {
        if self.drawn {
            output::block("\r\x1b[2K");
            self.drawn = false;
        }
    }
}

#[derive(Default)]
struct Totals {
    events_in: u64,
    events_out: u64,
    errors: u64,
    retries: u64,
    /// Of the fullest channel.
    fill_percent: u64,
    oldest_ms: u64,
}

impl Totals {
    fn of(status: &Status) -> Totals {
        let mut totals = Totals::default();
        for agent in &status.agents {
            for source in &agent.sources {
                totals.events_in += source.events;
                totals.errors += source.refused + source.program.errors;
            }
            for channel in &agent.channels {
                let fill = &channel.fill;
                let percent = |part: u64, whole: u64| (part * 100).checked_div(whole).unwrap_or(0);
                let fullest = percent(fill.events, fill.events_max).max(percent(fill.bytes, fill.bytes_max));
                totals.fill_percent = totals.fill_percent.max(fullest);
                totals.oldest_ms = totals.oldest_ms.max(fill.oldest_ms);
                totals.errors += channel.program.as_ref().map_or(0, |program| program.errors);
            }
            for sink in &agent.sinks {
                totals.events_out += sink.events;
                totals.errors += sink.refused;
                totals.retries += sink.retries;
            }
        }
        totals
    }
}

/// What the parts are called and where they are, from the text.
pub struct Summary {
    /// By agent and part: kind and main argument as written.
    wheres: BTreeMap<(String, String), String>,
    counts: String,
    begun: Instant,
}

impl Summary {
    pub fn new(project: &Project, plan: &Plan) -> Summary {
        let externs = &project.library.externs;
        let slice = |origin: OriginId| {
            let origin = plan.origins.get(origin.0 as usize)?;
            let file = project.files.ids().find(|id| project.files.name(*id) == origin.file)?;
            let text = project.files.text(file).get(origin.start as usize..origin.end as usize)?;
            Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
        };
        let where_is = |kind: &str, origins: &BTreeMap<String, OriginId>| {
            let main = externs.iter().filter(|one| one.name.text == kind).find_map(|one| {
                let param = one.params.first()?;
                slice(*origins.get(&param.name.text)?)
            });
            match main {
                Some(main) => format!("{kind} {main}"),
                None => kind.to_owned(),
            }
        };
        let mut wheres = BTreeMap::new();
        let (mut sources, mut channels, mut sinks) = (0, 0, 0);
        for agent in &plan.agents {
            for source in &agent.sources {
                let part = (agent.name.clone(), source.name.clone());
                wheres.insert(part, where_is(&source.kind, &source.setting_origins));
            }
            for sink in &agent.sinks {
                let part = (agent.name.clone(), sink.name.clone());
                wheres.insert(part, where_is(&sink.kind, &sink.setting_origins));
            }
            sources += agent.sources.len();
            channels += agent.channels.len();
            sinks += agent.sinks.len();
        }
        let plural = |count: usize, word: &str| match count {
            1 => format!("1 {word}"),
            count => format!("{count} {word}s"),
        };
        let counts =
            [plural(sources, "source"), plural(channels, "channel"), plural(sinks, "sink")].join(", ");
        Summary { wheres, counts, begun: Instant::now() }
    }

    /// The first lines: what runs, where the state is, how to stop.
    pub fn beginning(&self, file: &Path, data: &Path) -> String {
        format!("▶ {}: {}; state in {}; Ctrl-C stops\n", file.display(), self.counts, data.display())
    }

    /// The last lines: where the events went.
    pub fn end(&self, status: &Status, end: &End) -> String {
        let totals = Totals::of(status);
        let mut text = format!(
            "■ {} after {:.1} s: {} events in, {} out\n",
            match end {
                End { failed: false, .. } => "done",
                End { faults, .. } if faults.is_empty() => "stopped before everything was delivered",
                End { .. } => "ended with faults",
            },
            self.begun.elapsed().as_secs_f64(),
            number(totals.events_in),
            number(totals.events_out)
        );
        let mut rows: Vec<[String; 4]> = Vec::new();
        // Two agents may call their parts alike.
        let several = status.agents.len() > 1;
        for agent in &status.agents {
            let where_is = |name: &str| {
                self.wheres.get(&(agent.name.clone(), name.to_owned())).cloned().unwrap_or_default()
            };
            let full = |name: &str| if several { format!("{}.{name}", agent.name) } else { name.to_owned() };
            for source in &agent.sources {
                rows.push(["from".into(), full(&source.name), number(source.events), where_is(&source.name)]);
            }
            // What a source could not take or had to cut: datagrams for which there was no room, files it may not read.
            for source in &agent.sources {
                for (what, count) in source.counts.iter().filter(|(_, count)| **count > 0) {
                    rows.push(["noted".into(), full(&source.name), number(*count), what.replace('_', " ")]);
                }
            }
            for (to, count) in left_out(agent) {
                let why = "optional, and it was full or away".into();
                rows.push(["skipped".into(), full(&to), number(count), why]);
            }
            for (step, count) in dropped(agent) {
                rows.push(["dropped".into(), full(&step), number(count), String::new()]);
            }
            for sink in &agent.sinks {
                rows.push(["to".into(), full(&sink.name), number(sink.events), where_is(&sink.name)]);
            }
            for dead in &agent.dead {
                if dead.events > 0 {
                    let path = dead.file.display().to_string();
                    rows.push(["failed".into(), full(&dead.step), number(dead.events), path]);
                }
            }
        }
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let (words, names, counts) = (width(0), width(1), width(2));
        for [word, name, count, place] in &rows {
            let line = format!("  {word:words$}  {name:names$}  {count:>counts$}  {place}");
            text.push_str(line.trim_end());
            text.push('\n');
        }
        if end.events_left > 0 {
            let events = if end.events_left == 1 { "event was" } else { "events were" };
            let _ = writeln!(text, "  {} {events} not delivered", number(end.events_left));
        }
        text
    }
}

/// Rows that an optional branch did not take, by what it leads to.
fn left_out(agent: &AgentStatus) -> BTreeMap<String, u64> {
    let sources = agent.sources.iter().map(|source| &source.program);
    let channels = agent.channels.iter().filter_map(|channel| channel.program.as_ref());
    let outputs = sources.chain(channels).flat_map(|program| &program.outputs);
    let full = outputs.map(|output| (&output.to, output.dropped));
    let away = agent.sinks.iter().map(|sink| (&sink.name, sink.skipped));
    let mut all = BTreeMap::new();
    for (to, count) in full.chain(away).filter(|(_, count)| *count > 0) {
        *all.entry(to.clone()).or_insert(0) += count;
    }
    all
}

/// Rows that were dropped on purpose, by step.
fn dropped(agent: &AgentStatus) -> BTreeMap<String, u64> {
    let programs = agent
        .sources
        .iter()
        .map(|source| &source.program)
        .chain(agent.channels.iter().filter_map(|channel| channel.program.as_ref()));
    let mut all = BTreeMap::new();
    for program in programs {
        add_dropped(program, &mut all);
    }
    all
}

fn add_dropped(program: &ProgramStatus, all: &mut BTreeMap<String, u64>) {
    for step in program.steps.iter().filter(|step| step.dropped > 0) {
        *all.entry(step.name.clone()).or_insert(0) += step.dropped;
    }
}

/// `1234567` as `1_234_567`, as the language writes numbers.
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push('_');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_are_grouped_as_in_the_language() {
        for (value, text) in [(0, "0"), (999, "999"), (1_000, "1_000"), (1_234_567, "1_234_567")] {
            assert_eq!(number(value), text);
        }
    }
}
