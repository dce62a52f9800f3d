//! `flowc plan`: what will run, where, with which bounds, and why the claims hold.

use std::collections::BTreeSet;
use std::time::Duration;

use flow_plan::ir::{self, Code, End, Expr, StepOp, Stmt};
use flow_plan::plan::{Agent, Channel, Plan, Program, ServiceWord, Target};
use flow_plan::settings::Settings;
use flow_syntax::ast::{ExternWord, TypeExpr};
use serde_json::Value;

use super::drawing::agent_title;
use super::expr::{expr_text, size_text};
use super::setting::setting_text;
use crate::Library;
use crate::graph::capacity::digits;

/// The plan as text.
pub fn plan_text(plan: &Plan) -> String {
    plan_text_with(plan, None)
}

/// The plan as text; with the library numbers get their units, and steps say which headers they set.
pub fn plan_text_with(plan: &Plan, library: Option<&Library>) -> String {
    plan_text_noted(plan, library, &|_, _| Vec::new())
}

/// The same, with further lines about each program: `notes` gets the index of the agent and of its program.
pub fn plan_text_noted(
    plan: &Plan,
    library: Option<&Library>,
    notes: &dyn Fn(usize, usize) -> Vec<String>,
) -> String {
    let mut page = Page { plan, library, notes, out: String::new() };
    page.head();
    page.services();
    for (index, agent) in plan.agents.iter().enumerate() {
        page.agent(index, agent);
    }
    page.rest();
    page.out
}

struct Page<'a> {
    plan: &'a Plan,
    library: Option<&'a Library>,
    notes: &'a dyn Fn(usize, usize) -> Vec<String>,
    out: String,
}

impl Page<'_> {
    fn line(&mut self, indent: usize, text: &str) {
        self.out.push_str(&" ".repeat(indent));
        self.out.push_str(text.trim_end());
        self.out.push('\n');
    }

    fn head(&mut self) {
        let agents = &self.plan.agents;
        let sum = |count: &dyn Fn(&Agent) -> usize| agents.iter().map(count).sum::<usize>();
        let put_in = sum(&|agent| agent.channels.iter().filter(|channel| channel.implicit).count());
        let mut parts = vec![
            plural(sum(&|agent| agent.sources.len()), "source"),
            match put_in {
                0 => plural(sum(&|agent| agent.channels.len()), "channel"),
                _ => format!("{} ({put_in} put in)", plural(sum(&|agent| agent.channels.len()), "channel")),
            },
            plural(sum(&|agent| agent.sinks.len()), "sink"),
        ];
        for word in [ServiceWord::Cluster, ServiceWord::Ensemble] {
            let count = self.plan.services.iter().filter(|service| service.word == word).count();
            if count > 0 {
                parts.insert(0, plural(count, word.text()));
            }
        }
        if agents.len() > 1 {
            parts.insert(0, plural(agents.len(), "agent"));
        }
        let title =
            if self.plan.file.is_empty() { "plan".to_owned() } else { format!("plan of {}", self.plan.file) };
        self.line(0, &format!("{title}: {}", parts.join(", ")));
    }

    fn services(&mut self) {
        let plan = self.plan;
        for service in &plan.services {
            self.out.push('\n');
            let mut notes = Vec::new();
            if service.implicit {
                notes.push("put in".to_owned());
            }
            let word = match service.word {
                ServiceWord::Cluster => ExternWord::Cluster,
                ServiceWord::Ensemble => ExternWord::Ensemble,
            };
            notes.push(self.written(word, &service.kind, &service.settings, service.setting_origins.keys()));
            self.line(0, &format!("{} {}  {}", service.word.text(), service.name, join(notes)));
            let topics = service
                .topics
                .iter()
                .map(|topic| {
                    let (word, keys) = (ExternWord::Topic, topic.setting_origins.keys());
                    [topic.name.clone(), String::new(), self.written(word, "topic", &topic.settings, keys)]
                })
                .collect();
            self.table("topics", topics);
            if service.settings.get("data").is_none_or(Value::is_null) && !can(&service.abilities, "external")
            {
                self.line(2, &format!("on disk  ‹state›/services/{}", service.name));
            }
        }
    }

    fn agent(&mut self, index: usize, agent: &Agent) {
        self.out.push('\n');
        self.line(0, &format!("agent {}", agent_title(&agent.name, &agent.hosts)));
        if let Some(election) = self.plan.elections.iter().find(|one| one.agents.contains(&agent.name)) {
            let session = Duration::from_nanos(election.session_ns);
            self.line(
                2,
                &format!(
                    "works in {} of the processes that run the file, as {} decides under /flow/{} (session {session:?})",
                    digits(u64::from(election.active)),
                    election.ensemble,
                    election.name
                ),
            );
        }
        let sources = agent
            .sources
            .iter()
            .map(|one| {
                let mut notes = Vec::new();
                if let Some(flow) = &one.flow {
                    notes.push(format!("flow {flow}"));
                }
                let text = |key: &str| one.settings.get(key).and_then(Value::as_str);
                let word = match (text("topic"), text("group")) {
                    (Some(topic), Some(group)) if one.settings.contains_key("cluster") => {
                        notes.push(format!("reads {topic} as group {group}"));
                        if one.settings.get("transactional") == Some(&Value::Bool(true)) {
                            notes.push("in transactions".to_owned());
                        }
                        ExternWord::Consumer
                    }
                    _ => ExternWord::Source,
                };
                notes.push(self.written(word, &one.kind, &one.settings, one.setting_origins.keys()));
                [one.name.clone(), one.kind.clone(), join(notes)]
            })
            .collect();
        self.table("sources", sources);
        let channels = agent
            .channels
            .iter()
            .map(|one| [one.name.clone(), one.kind.clone(), self.channel_notes(one)])
            .collect();
        self.table("channels", channels);
        let sinks = agent
            .sinks
            .iter()
            .map(|one| {
                let notes =
                    self.written(ExternWord::Sink, &one.kind, &one.settings, one.setting_origins.keys());
                [one.name.clone(), one.kind.clone(), notes]
            })
            .collect();
        self.table("sinks", sinks);
        self.line(2, "programs");
        for (number, program) in agent.programs.iter().enumerate() {
            self.program(agent, program);
            for note in (self.notes)(index, number) {
                self.line(6, &note);
            }
        }
        self.bounds(agent);
    }

    fn table(&mut self, title: &str, rows: Vec<[String; 3]>) {
        if rows.is_empty() {
            return;
        }
        self.line(2, title);
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let (first, second) = (width(0), width(1));
        for [name, kind, notes] in &rows {
            let pad =
                |text: &str, width: usize| format!("{text}{}", " ".repeat(width - text.chars().count()));
            self.line(4, &format!("{}  {}  {notes}", pad(name, first), pad(kind, second)));
        }
    }

    /// Settings that the file gives; the main ones without their names.
    fn written<'s>(
        &self,
        word: ExternWord,
        kind: &str,
        settings: &Settings,
        keys: impl Iterator<Item = &'s String>,
    ) -> String {
        let keys: BTreeSet<&String> = keys.collect();
        let declared = self.extern_of(word, kind);
        let mut main = Vec::new();
        let mut rest = Vec::new();
        for (key, value) in settings {
            if !keys.contains(key) {
                continue;
            }
            let param = declared.and_then(|item| item.params.iter().find(|param| param.name.text == *key));
            let text = setting_text(value, self.type_of(word, kind, key), &self.plan.slots);
            match param {
                Some(_) => main.push(text),
                None => rest.push(format!("{key}: {text}")),
            }
        }
        main.extend(rest);
        join(main)
    }

    fn extern_of(&self, word: ExternWord, kind: &str) -> Option<&flow_syntax::ast::Extern> {
        self.library?.externs.iter().find(|item| item.word == word && item.name.text == kind)
    }

    fn type_of(&self, word: ExternWord, kind: &str, key: &str) -> Option<&TypeExpr> {
        let item = self.extern_of(word, kind)?;
        let param =
            item.params.iter().find(|param| param.name.text == key).and_then(|param| param.ty.as_ref());
        param.or_else(|| item.settings.iter().find(|one| one.name.text == key).map(|one| &one.ty))
    }

    fn channel_notes(&self, channel: &Channel) -> String {
        let mut notes = Vec::new();
        if channel.drain.is_none() {
            // Its settings stand with the cluster.
            let cluster = channel.settings.get("cluster").and_then(Value::as_str).unwrap_or("?");
            return format!("on {cluster}");
        }
        if channel.implicit {
            notes.push("put in".to_owned());
        }
        for (key, value) in &channel.settings {
            let bound = matches!(key.as_str(), "capacity" | "bytes" | "batch");
            let shown =
                bound || channel.setting_origins.contains_key(key) || (channel.implicit && value.is_array());
            if !shown {
                continue;
            }
            if value.is_null() {
                continue;
            }
            let ty = self.type_of(ExternWord::Channel, &channel.kind, key);
            let text = match (key.as_str(), value.as_u64()) {
                ("bytes", Some(bytes)) => size_text(bytes),
                _ => setting_text(value, ty, &self.plan.slots),
            };
            notes.push(match key.as_str() {
                "capacity" => format!("{text} events"),
                "bytes" => text,
                _ if bound || !is_param(self.extern_of(ExternWord::Channel, &channel.kind), key) => {
                    format!("{key}: {text}")
                }
                _ => text,
            });
        }
        join(notes)
    }

    fn program(&mut self, agent: &Agent, program: &Program) {
        self.line(4, &program.name);
        self.body(agent, program, &program.body, 6);
        for (index, errors) in program.errors.iter().enumerate() {
            self.line(6, &format!("failures {}", index + 1));
            self.body(agent, program, errors, 8);
        }
        let cost = Cost::of(program);
        if cost.steps > 0 || cost.regexes > 0 {
            let mut parts = vec![plural(cost.steps, "step"), plural_of(cost.regexes, "regex", "regexes")];
            parts.push(format!("at most {} operations an event", digits(cost.operations as u64)));
            if cost.loops > 0 {
                parts.push(format!("times what {} over lists need", plural(cost.loops, "loop")));
            }
            self.line(6, &format!("cost: {}", parts.join(", ")));
        }
        if let Some(cores) = self.cores(agent, program) {
            self.line(6, &format!("cores: {cores}"));
        }
    }

    /// How many cores a program uses, and why; the same on every machine. Nothing when it has nothing to do, or
    /// when the kinds are not known.
    fn cores(&self, agent: &Agent, program: &Program) -> Option<String> {
        let mut stateful = Vec::new();
        let mut works = false;
        let mut bodies: Vec<&ir::Program> = program.errors.iter().chain([&program.body]).collect();
        let mut library = self.library.is_some();
        while let Some(body) = bodies.pop() {
            works |= !body.steps.is_empty();
            for step in &body.steps {
                let StepOp::Kind { kind, .. } = &step.op else { continue };
                match self.extern_of(ExternWord::Interceptor, kind) {
                    Some(item) if item.abilities.iter().any(|one| one.text == "stateful") => {
                        stateful.push(format!("`{}`", step.name));
                    }
                    Some(_) => {}
                    None => library = false,
                }
            }
            match &body.end {
                End::Output(_) | End::Discard => {}
                // The first branch is the next to be read: steps are named in the order of the text.
                End::Copy(branches) => bodies.extend(branches.iter().rev()),
                End::Route(route) => {
                    works = true;
                    bodies.extend(route.arms.iter().rev().map(|arm| &arm.then));
                }
            }
        }
        if !works || !library {
            return None;
        }
        let index = agent.programs.iter().position(|one| std::ptr::eq(one, program))? as u32;
        stateful.dedup();
        Some(if !agent.sources.iter().any(|source| source.program == index) {
            "one, a transaction at a time".to_owned()
        } else if stateful.is_empty() {
            "all, as soon as the source is faster than one; the order is kept".to_owned()
        } else {
            let keep = if stateful.len() == 1 { "keeps" } else { "keep" };
            format!("one, {} {keep} state", stateful.join(" and "))
        })
    }

    fn body(&mut self, agent: &Agent, program: &Program, body: &ir::Program, indent: usize) {
        for step in &body.steps {
            let mut notes = self.step_notes(&step.op);
            if let Some(index) = step.errors {
                notes.push(format!("failures → {}", index + 1));
            }
            self.line(indent, &format!("{}  {}", step.name, join(notes)));
        }
        match &body.end {
            End::Output(index) => {
                let Some(output) = program.outputs.get(*index as usize) else { return };
                let name = match output.to {
                    Target::Channel(id) => agent.channels.get(id as usize).map(|one| one.name.as_str()),
                    Target::Sink(id) => agent.sinks.get(id as usize).map(|one| one.name.as_str()),
                };
                let optional = if output.optional { "?  (optional)" } else { "" };
                self.line(indent, &format!("→ {}{optional}", name.unwrap_or("?")));
            }
            End::Discard => self.line(indent, "→ discard"),
            End::Copy(branches) => {
                self.line(indent, "copies");
                for branch in branches {
                    self.body(agent, program, branch, indent + 2);
                }
            }
            End::Route(route) => {
                let subject = route.subject.as_ref().map(|subject| expr_text(subject, &self.plan.slots));
                let all = if route.all { " all" } else { "" };
                self.line(indent, &format!("route{all} {}", subject.unwrap_or_default()));
                for arm in &route.arms {
                    let case = match &arm.when {
                        Some(when) => expr_text(when, &self.plan.slots),
                        None => "else".to_owned(),
                    };
                    self.line(indent + 2, &case);
                    self.body(agent, program, &arm.then, indent + 4);
                }
            }
        }
    }

    fn step_notes(&self, op: &StepOp) -> Vec<String> {
        let mut notes = Vec::new();
        match op {
            StepOp::Kind { kind, .. } => {
                let sets = self.extern_of(ExternWord::Interceptor, kind).map(|item| {
                    item.sets.iter().map(|name| format!("header.{}", name.text)).collect::<Vec<_>>()
                });
                match sets {
                    Some(sets) if !sets.is_empty() => notes.push(format!("{kind}, sets {}", sets.join(", "))),
                    _ => notes.push(kind.clone()),
                }
            }
            StepOp::Code(code) => {
                let mut does = Does::default();
                does.read(&code.body);
                let name = |slot: &u32| match self.plan.slots.get(*slot as usize) {
                    Some(name) => format!("header.{name}"),
                    None => "header.…".to_owned(),
                };
                let mut sets: Vec<String> = does.sets.iter().map(name).collect();
                sets.extend(does.parts.iter().map(|part| (*part).to_owned()));
                if !sets.is_empty() {
                    notes.push(format!("sets {}", sets.join(", ")));
                }
                if !does.removes.is_empty() {
                    let removes: Vec<String> = does.removes.iter().map(name).collect();
                    notes.push(format!("removes {}", removes.join(", ")));
                }
                for (may, what) in
                    [(does.drops, "may drop"), (does.emits, "may emit"), (does.fails, "may fail")]
                {
                    if may {
                        notes.push(what.to_owned());
                    }
                }
            }
        }
        notes
    }

    /// What the agent holds at most, and what it keeps on disk.
    fn bounds(&mut self, agent: &Agent) {
        let volatile = agent.channels.iter().filter(|channel| !can(&channel.abilities, "durable"));
        let (mut events, mut bytes, mut known) = (0u64, 0u64, true);
        for channel in volatile {
            // One that has both keeps the rest on disk.
            let either = |first, second| {
                number(&channel.settings, first).or_else(|| number(&channel.settings, second))
            };
            events = events.saturating_add(either("memory", "capacity").unwrap_or(0));
            match either("memory_bytes", "bytes") {
                Some(limit) => bytes = bytes.saturating_add(limit),
                None => known = false,
            }
        }
        if events > 0 {
            let bytes = if known { format!(", {}", size_text(bytes)) } else { String::new() };
            self.line(2, &format!("in memory  at most {} events{bytes}", digits(events)));
        }
        let mut kept: Vec<&str> = Vec::new();
        kept.extend(
            agent.sources.iter().filter(|one| can(&one.abilities, "stateful")).map(|one| one.name.as_str()),
        );
        kept.extend(
            agent
                .channels
                .iter()
                .filter(|one| one.drain.is_some() && can(&one.abilities, "durable"))
                .filter(|one| places(&one.settings).is_empty())
                .map(|one| one.name.as_str()),
        );
        kept.extend(
            agent.sinks.iter().filter(|one| can(&one.abilities, "stateful")).map(|one| one.name.as_str()),
        );
        if !kept.is_empty() {
            self.line(2, &format!("on disk    ‹state›/{}/{{{}}}", agent.name, kept.join(", ")));
        }
        for place in agent.channels.iter().flat_map(|channel| places(&channel.settings)) {
            self.line(2, &format!("on disk    {place}"));
        }
        let failures = match agent.error_chains.as_slice() {
            [] => "to the dead-letter store".to_owned(),
            chains => format!("of {} as written, others to the dead-letter store", chains.join(", ")),
        };
        self.line(2, &format!("failures   {failures}"));
    }

    fn rest(&mut self) {
        if let Some(data) = self.plan.runtime.get("data").and_then(Value::as_str) {
            self.out.push('\n');
            self.line(0, &format!("‹state› is {data}"));
        }
        if !self.plan.secrets.is_empty() {
            self.out.push('\n');
            let names: Vec<String> = self
                .plan
                .secrets
                .iter()
                .map(|one| format!("‹secret {}› from {}", one.name, one.kind))
                .collect();
            self.line(0, &format!("secrets: {}", names.join(", ")));
        }
        for claim in &self.plan.claims {
            self.out.push('\n');
            self.line(0, &format!("deliver {} holds for {}", claim.guarantee, claim.scope));
            for line in &claim.proof {
                self.line(2, line);
            }
        }
    }
}

fn is_param(item: Option<&flow_syntax::ast::Extern>, key: &str) -> bool {
    item.is_some_and(|item| item.params.iter().any(|param| param.name.text == key))
}

fn can(abilities: &[String], ability: &str) -> bool {
    abilities.iter().any(|have| have == ability)
}

/// Where a channel was told to keep its events.
fn places(settings: &Settings) -> Vec<&str> {
    match (settings.get("dirs"), settings.get("path")) {
        (Some(Value::Array(dirs)), _) => dirs.iter().filter_map(Value::as_str).collect(),
        (_, Some(Value::String(path))) => vec![path.as_str()],
        _ => Vec::new(),
    }
}

fn number(settings: &Settings, key: &str) -> Option<u64> {
    settings.get(key).and_then(Value::as_u64)
}

fn join(parts: Vec<String>) -> String {
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ")
}

fn plural(count: usize, word: &str) -> String {
    plural_of(count, word, &format!("{word}s"))
}

fn plural_of(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// What code does to an event.
#[derive(Default)]
struct Does {
    sets: BTreeSet<u32>,
    removes: BTreeSet<u32>,
    parts: BTreeSet<&'static str>,
    drops: bool,
    emits: bool,
    fails: bool,
}

impl Does {
    fn read(&mut self, body: &[Stmt]) {
        for stmt in body {
            match stmt {
                Stmt::SetHeader { slot, value } => {
                    self.sets.insert(slot.0);
                    self.value(value);
                }
                Stmt::RemoveHeader { slot } => {
                    self.removes.insert(slot.0);
                }
                Stmt::SetBody { value } => {
                    self.parts.insert("body");
                    self.value(value);
                }
                Stmt::SetTime { value } => {
                    self.parts.insert("time");
                    self.value(value);
                }
                Stmt::If { condition, then, otherwise } => {
                    self.value(condition);
                    self.read(then);
                    self.read(otherwise);
                }
                Stmt::For { body, .. } => self.read(body),
                Stmt::Extract { groups, .. } => {
                    self.sets.extend(groups.iter().map(|group| group.slot.0));
                }
                Stmt::Drop => self.drops = true,
                Stmt::Fail { .. } => self.fails = true,
                Stmt::Emit { .. } => self.emits = true,
                Stmt::Set { value, .. } | Stmt::Expr { value } => self.value(value),
                Stmt::RemoveHeaders { .. } | Stmt::SetPath { .. } | Stmt::Pass | Stmt::Return { .. } => {}
            }
        }
    }

    fn value(&mut self, value: &Expr) {
        if let Expr::Else { fallback, .. } = value {
            match fallback {
                ir::Fallback::Drop => self.drops = true,
                ir::Fallback::Fail { .. } => self.fails = true,
                ir::Fallback::Pass | ir::Fallback::Value(_) => {}
            }
        }
    }
}

/// What one event costs at most, counted in the plain-data form of the program, which reaches every corner of it.
#[derive(Default)]
struct Cost {
    steps: usize,
    regexes: usize,
    operations: usize,
    loops: usize,
}

impl Cost {
    fn of(program: &Program) -> Cost {
        let mut cost = Cost::default();
        let mut bodies: Vec<&ir::Program> = vec![&program.body];
        bodies.extend(&program.errors);
        while let Some(body) = bodies.pop() {
            for step in &body.steps {
                cost.steps += 1;
                match &step.op {
                    StepOp::Code(Code { body, .. }) => cost.count(serde_json::to_value(body).ok()),
                    StepOp::Kind { settings, .. } => {
                        cost.operations += 1;
                        let regexes = Cost::regexes(&Value::Object(settings.clone()));
                        cost.regexes += regexes;
                    }
                }
            }
            match &body.end {
                End::Output(_) | End::Discard => {}
                End::Copy(branches) => bodies.extend(branches),
                End::Route(route) => {
                    cost.count(serde_json::to_value(&route.subject).ok());
                    for arm in &route.arms {
                        cost.count(serde_json::to_value(&arm.when).ok());
                        bodies.push(&arm.then);
                    }
                }
            }
        }
        cost
    }

    fn count(&mut self, value: Option<Value>) {
        let Some(value) = value else { return };
        self.regexes += Cost::regexes(&value);
        let mut todo = vec![&value];
        while let Some(value) = todo.pop() {
            match value {
                Value::Array(list) => todo.extend(list),
                Value::Object(map) => {
                    // A node of the IR is an object with its name as the only key.
                    if map.len() == 1 {
                        self.operations += 1;
                        self.loops += usize::from(map.contains_key("for"));
                    }
                    todo.extend(map.values());
                }
                Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Null => {}
            }
        }
    }

    fn regexes(value: &Value) -> usize {
        let mut found = 0;
        let mut todo = vec![value];
        while let Some(value) = todo.pop() {
            match value {
                Value::Array(list) => todo.extend(list),
                Value::Object(map)
                    if map.len() == 2 && map.contains_key("pattern") && map.contains_key("flags") =>
                {
                    found += 1;
                }
                Value::Object(map) => todo.extend(map.values()),
                _ => {}
            }
        }
        found
    }
}
