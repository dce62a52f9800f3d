//! Components: their kind, their settings, what they stand on.

use std::collections::BTreeMap;

use flow_diag::{Code, Diagnostic, Span};
use flow_plan::settings::Settings;
use flow_syntax::ast::{self, ExprKind, ExternWord};

use super::{EntityKind, Pending, Resolver, ScopeId};
use crate::expr::State;
use crate::library::Kind;
use crate::model::{AgentId, Component, ComponentId, Election, Member, Word};
use crate::settings::{Given, Resolved, SettingContext};

/// Sorts of kinds, with the word that lists them.
const SORTS: &[(ExternWord, &str, &str)] = &[
    (ExternWord::Source, "source", "sources"),
    (ExternWord::Channel, "channel", "channels"),
    (ExternWord::Sink, "sink", "sinks"),
    (ExternWord::Group, "group", "groups"),
    (ExternWord::Interceptor, "interceptor", "interceptors"),
    (ExternWord::Cluster, "cluster", "clusters"),
    (ExternWord::Ensemble, "ensemble", "ensembles"),
    (ExternWord::Secret, "secret", "secrets"),
];

pub(super) fn sort_text(word: ExternWord) -> &'static str {
    SORTS.iter().find(|(own, ..)| *own == word).map_or("kind", |(_, text, _)| text)
}

fn sort_plural(word: ExternWord) -> &'static str {
    SORTS.iter().find(|(own, ..)| *own == word).map_or("kinds", |(.., text)| text)
}

pub(super) fn extern_word(word: Word) -> ExternWord {
    match word {
        Word::Source => ExternWord::Source,
        Word::Channel => ExternWord::Channel,
        Word::Sink => ExternWord::Sink,
        Word::Group => ExternWord::Group,
        Word::Topic => ExternWord::Topic,
        Word::Consumer => ExternWord::Consumer,
        Word::Cluster => ExternWord::Cluster,
        Word::Ensemble => ExternWord::Ensemble,
    }
}

impl<'a> Resolver<'a> {
    pub(super) fn resolve_components(&mut self) {
        self.resolve_hosts();
        for (id, scope, pending) in std::mem::take(&mut self.pending) {
            match pending {
                Pending::Topic(topic) => self.resolve_topic(id, scope, topic),
                Pending::Component(component) => match self.model.components[id.0 as usize].word {
                    Word::Group => self.resolve_group(id, scope, &component.ctor),
                    Word::Consumer => self.resolve_consumer(id, scope, component),
                    word => {
                        let sort = extern_word(word);
                        match self.kind_of(sort, &component.ctor.kind) {
                            Some(kind) => self.resolve_component(id, scope, kind, &component.ctor),
                            None => {
                                self.poison(id);
                                self.check_loose(scope, &component.ctor);
                            }
                        }
                    }
                },
            }
        }
    }

    pub(super) fn poison(&mut self, id: ComponentId) {
        self.model.components[id.0 as usize].poisoned = true;
    }

    /// The kind of a constructor; F0102 or F0111 when there is none of the sort.
    pub(super) fn kind_of(&mut self, sort: ExternWord, path: &ast::Path) -> Option<&'a Kind<'a>> {
        let name = path.text();
        let library = self.library;
        if let Some(kind) = library.kind(sort, &name) {
            return Some(kind);
        }
        if self.is_poisoned(&name) {
            return None;
        }
        let text = sort_text(sort);
        let others = SORTS
            .iter()
            .filter(|(word, ..)| *word != sort && library.kind(*word, &name).is_some())
            .map(|(_, text, _)| *text)
            .collect::<Vec<_>>();
        if let [other, ..] = others.as_slice() {
            let article = |word: &str| if word.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
            let title = format!(
                "`{name}` is {} {other} kind but {} {text} is declared",
                article(other),
                article(text)
            );
            self.report(
                Diagnostic::new(Code::F0111, path.span, title)
                    .label(format!("not {} {text}", article(text)))
                    .help(format!("did you mean `{other} … = {name} …`?")),
            );
            return None;
        }
        self.report_unknown_kind(sort, path);
        None
    }

    fn report_unknown_kind(&mut self, sort: ExternWord, path: &ast::Path) {
        let text = sort_text(sort);
        let title = format!("there is no {text} kind `{}`", path.text());
        let diagnostic = Diagnostic::new(Code::F0102, path.span, title);
        let diagnostic = match flow_diag::suggest(&path.text(), self.library.kind_names(sort)) {
            Some(near) => diagnostic.label(format!("did you mean `{near}`?")).fix(path.span, near),
            None => diagnostic.label("no such kind"),
        };
        self.report(diagnostic.help(format!("`flowc list {}` shows them", sort_plural(sort))));
    }

    /// F0116, once per declaration.
    pub(super) fn check_absent(&mut self, kind: &Kind<'a>, sort: &str, plural: &str, span: Span) {
        if kind.can("absent") {
            let title = match sort {
                "" => format!("this build has no `{}`", kind.name),
                _ => format!("this build has no `{}` kind", kind.name),
            };
            let mut diagnostic =
                Diagnostic::new(Code::F0116, span, title).label("declared, but not built in");
            if !plural.is_empty() {
                diagnostic = diagnostic.help(format!("`flowc list {plural}` shows what it has"));
            }
            self.report(diagnostic);
        }
    }

    pub(super) fn resolve_component(
        &mut self,
        id: ComponentId,
        scope: ScopeId,
        kind: &'a Kind<'a>,
        ctor: &ast::Ctor,
    ) {
        let word = self.model.components[id.0 as usize].word;
        let sort = extern_word(word);
        self.check_absent(kind, sort_text(sort), sort_plural(sort), ctor.kind.span);
        let context =
            SettingContext { scope, sort: format!("{} kind", word.text()), state: State::unknown() };
        let given = Given { args: &ctor.args, settings: ctor.settings.as_ref(), kind_span: ctor.kind.span };
        let resolved = self.settings(&context, kind, given);
        if word == Word::Sink
            && let Some(main) = kind.settings.first().filter(|_| kind.arguments > 0)
            && matches!(main.ty.bare(), crate::settings::SettingType::Template)
            && let Some(path) = ctor.args.first()
        {
            self.warn_fine_path(path);
        }
        self.settle(id, kind, resolved);
        if word == Word::Cluster && !kind.can("absent") {
            self.check_brokers(id);
        }
    }

    /// Several brokers need each other; this build has one per process and no ensemble.
    fn check_brokers(&mut self, id: ComponentId) {
        let part = &self.model.components[id.0 as usize];
        let Some(serde_json::Value::Array(brokers)) = part.settings.get("brokers") else { return };
        let span = part.setting_spans.get("brokers").copied().unwrap_or(part.span);
        let diagnostic = match brokers.len() {
            1 => return,
            0 => Diagnostic::new(Code::F0206, span, format!("cluster `{}` names no broker", part.name))
                .label("empty")
                .help("write one, `brokers: [\"127.0.0.1:9092\"]`, or leave the setting away"),
            count => Diagnostic::new(Code::F0116, span, "this build has no clusters of several brokers")
                .label(format!("{count} brokers"))
                .help("name one broker; several of one cluster need an ensemble, and that comes later"),
        };
        self.report(diagnostic);
    }

    /// F0308
    fn warn_fine_path(&mut self, path: &ast::Expr) {
        let ExprKind::Template(parts) = &path.kind else { return };
        for part in parts {
            if let ast::TemplatePart::Expr { format: Some(format), .. } = part
                && crate::settings::finer_than_a_minute(&format.text)
            {
                self.report(
                    Diagnostic::new(
                        Code::F0308,
                        format.span,
                        "the path changes every second: 86,400 files a day",
                    )
                    .label("has seconds")
                    .help("use a coarser form such as `%Y-%m-%d-%H`; `roll:` decides how large files get"),
                );
                return;
            }
        }
    }

    fn settle(&mut self, id: ComponentId, kind: &Kind<'a>, resolved: Resolved) {
        let component = &mut self.model.components[id.0 as usize];
        component.settings = resolved.settings;
        component.setting_spans = resolved.spans;
        let lost = |ability: &String| {
            kind.unless.iter().any(|one| {
                one.ability.text == *ability
                    && component.settings.get(&one.setting.text).and_then(serde_json::Value::as_str)
                        == Some(&one.choice.text)
            })
        };
        let abilities = kind.abilities.iter().filter(|ability| !lost(ability)).cloned().collect();
        component.abilities = abilities;
        component.poisoned |= resolved.poisoned;
        self.component_reads.push((id, resolved.reads));
        if matches!(self.model.components[id.0 as usize].word, Word::Source) {
            let state = source_state(kind, &resolved.headers);
            self.arriving.insert(id, state);
        }
    }

    /// Values of a constructor whose kind is not known: names in them count as used, and are looked up.
    pub(super) fn check_loose(&mut self, scope: ScopeId, ctor: &ast::Ctor) {
        let before = self.diagnostics.len();
        let values = ctor.args.iter().chain(
            ctor.settings.iter().flat_map(|settings| settings.entries.iter().map(|entry| &entry.value)),
        );
        for value in values {
            let mut frame = crate::expr::Frame::event(scope, State::unknown());
            self.expr(&mut frame, value, None);
            if let Some(entity) = self.entity_of(scope, value) {
                self.mark_used(entity);
            }
        }
        self.diagnostics.truncate(before);
    }

    fn resolve_topic(&mut self, id: ComponentId, scope: ScopeId, topic: &'a ast::Topic) {
        let library = self.library;
        if let Some(path) = &topic.cluster {
            match self.component_at(scope, path, &["cluster"]) {
                Some(cluster) => self.model.components[id.0 as usize].on = Some(cluster),
                None => self.poison(id),
            }
        }
        let Some(kind) =
            library.kinds.iter().find(|((word, _), _)| *word == ExternWord::Topic).map(|(_, kind)| kind)
        else {
            self.report(
                Diagnostic::new(Code::F0116, topic.name.span, "this build has no topics").label("not known"),
            );
            self.poison(id);
            return;
        };
        self.check_absent(kind, "", "", topic.name.span);
        let context = SettingContext { scope, sort: "the".to_owned(), state: State::unknown() };
        let given = Given { args: &[], settings: topic.settings.as_ref(), kind_span: topic.name.span };
        let resolved = self.settings(&context, kind, given);
        self.settle(id, kind, resolved);
    }

    fn resolve_consumer(&mut self, id: ComponentId, scope: ScopeId, component: &'a ast::Component) {
        let library = self.library;
        self.model.components[id.0 as usize].kind = "consumer".to_owned();
        match self.component_at(scope, &component.ctor.kind, &["topic"]) {
            Some(topic) => {
                self.model.components[id.0 as usize].on = Some(topic);
                self.referenced.insert(topic);
            }
            None => self.poison(id),
        }
        let Some(kind) =
            library.kinds.iter().find(|((word, _), _)| *word == ExternWord::Consumer).map(|(_, kind)| kind)
        else {
            self.report(
                Diagnostic::new(Code::F0116, component.name.span, "this build has no consumers")
                    .label("not known"),
            );
            self.poison(id);
            return;
        };
        self.check_absent(kind, "", "", component.ctor.kind.span);
        let context = SettingContext { scope, sort: "the".to_owned(), state: State::unknown() };
        let given = Given {
            args: &component.ctor.args,
            settings: component.ctor.settings.as_ref(),
            kind_span: component.ctor.kind.span,
        };
        let resolved = self.settings(&context, kind, given);
        self.settle(id, kind, resolved);
    }

    pub(super) fn resolve_group(&mut self, id: ComponentId, scope: ScopeId, ctor: &ast::Ctor) {
        let Some(kind) = self.kind_of(ExternWord::Group, &ctor.kind) else {
            self.poison(id);
            return;
        };
        self.check_absent(kind, "group", "groups", ctor.kind.span);
        let values = ctor.args.iter().flat_map(|arg| match &arg.kind {
            ExprKind::List(items) => items.iter().collect::<Vec<_>>(),
            _ => vec![arg],
        });
        let mut members = Vec::new();
        for value in values.collect::<Vec<_>>() {
            match self.path_of(value) {
                Some(path) => match self.component_at(scope, &path, &["sink", "group", "source"]) {
                    Some(member) => members.push(Member { component: member, span: value.span }),
                    None => self.poison(id),
                },
                None => {
                    self.poison(id);
                    self.report(
                        Diagnostic::new(
                            Code::F0201,
                            value.span,
                            "members of a group are names of sinks, groups or inboxes",
                        )
                        .label("not a name"),
                    );
                }
            }
        }
        let names = members
            .iter()
            .map(|member| self.model.components[member.component.0 as usize].name.clone().into())
            .collect::<Vec<serde_json::Value>>();
        self.model.components[id.0 as usize].members = members;
        let context = SettingContext { scope, sort: "group kind".to_owned(), state: State::unknown() };
        // the members are names, not values: what is declared for them gets their names
        let first = kind.settings.first().filter(|_| kind.arguments > 0).map(|setting| setting.name);
        let rest = Kind {
            name: kind.name,
            settings: kind
                .settings
                .iter()
                .filter(|setting| Some(setting.name) != first)
                .map(|setting| crate::library::SettingDecl {
                    name: setting.name,
                    ty: setting.ty.clone(),
                    default: setting.default,
                    absent: setting.absent,
                })
                .collect(),
            arguments: 0,
            rest: None,
            abilities: kind.abilities.clone(),
            unless: &[],
            sets: Vec::new(),
        };
        let given = Given { args: &[], settings: ctor.settings.as_ref(), kind_span: ctor.kind.span };
        let mut resolved = self.settings(&context, &rest, given);
        let mut settings = Settings::new();
        if let Some(first) = first {
            settings.insert(first.to_owned(), serde_json::Value::Array(names));
        }
        settings.append(&mut resolved.settings);
        resolved.settings = settings;
        self.settle(id, kind, resolved);
    }

    pub(super) fn resolve_secret(&mut self, scope: ScopeId, index: usize, secret: &'a ast::Secret) {
        let Some(kind) = self.kind_of(ExternWord::Secret, &secret.from.kind) else { return };
        self.check_absent(kind, "secret", "secrets", secret.from.kind.span);
        let context = SettingContext { scope, sort: "secret kind".to_owned(), state: State::empty() };
        let given = Given {
            args: &secret.from.args,
            settings: secret.from.settings.as_ref(),
            kind_span: secret.from.kind.span,
        };
        let resolved = self.settings(&context, kind, given);
        self.model.secrets[index].settings = resolved.settings;
    }

    pub(super) fn resolve_runtime(&mut self, root: ScopeId) {
        let library = self.library;
        let Some(kind) =
            library.kinds.iter().find(|((word, _), _)| *word == ExternWord::Runtime).map(|(_, kind)| kind)
        else {
            return;
        };
        let mut first: BTreeMap<AgentId, Span> = BTreeMap::new();
        for (scope, runtime) in std::mem::take(&mut self.runtimes) {
            let agent = self.scope(scope).agent;
            let of_agent = agent != self.scope(root).agent;
            if of_agent {
                self.report_shared_settings(&runtime.settings);
            }
            let context = SettingContext { scope, sort: "the".to_owned(), state: State::empty() };
            let given = Given { args: &[], settings: Some(&runtime.settings), kind_span: runtime.span };
            let resolved = self.settings(&context, kind, given);
            if scope != root && !of_agent {
                continue;
            }
            if let Some(&first) = first.get(&agent) {
                self.report(
                    Diagnostic::new(Code::F0103, runtime.span, "`runtime` is declared twice")
                        .label("again here")
                        .also(first, "first declared here")
                        .help("put the settings into one"),
                );
                continue;
            }
            first.insert(agent, runtime.span);
            self.resolve_election(agent, runtime.span, &resolved);
            if of_agent {
                continue;
            }
            self.model.runtime = resolved.settings;
            self.model.runtime_span = Some(runtime.span);
            if let Some(span) = resolved.spans.get("default_channel") {
                self.check_default_channel(*span);
            }
        }
        if self.model.runtime_span.is_none() {
            let context = SettingContext { scope: root, sort: "the".to_owned(), state: State::empty() };
            let given = Given { args: &[], settings: None, kind_span: self.model.origins[0] };
            let resolved = self.settings(&context, kind, given);
            self.model.runtime = resolved.settings;
        }
    }

    /// F0116: what the agents of a process share is no setting of one of them.
    fn report_shared_settings(&mut self, settings: &ast::Settings) {
        const OF_AGENTS: &[&str] = &["active", "elect", "session"];
        for entry in settings.entries.iter().filter(|entry| !OF_AGENTS.contains(&entry.key.text.as_str())) {
            let title = format!("this build has no `{}` for one agent alone", entry.key.text);
            self.report(
                Diagnostic::new(Code::F0116, entry.key.span, title)
                    .label("declared, but not built in")
                    .help("the agents of a file share one process: write it outside of the agents"),
            );
        }
    }

    /// `active` and `elect` go together; `session` is theirs.
    fn resolve_election(&mut self, agent: AgentId, span: Span, resolved: &Resolved) {
        let at = |key: &str| resolved.spans.get(key).copied();
        let needs = |given: &str, span: Span, missing: &str, help: &str| {
            Diagnostic::new(Code::F0115, span, format!("`{given}` needs `{missing}`"))
                .label(format!("says nothing without `{missing}`"))
                .help(help.to_owned())
        };
        let (active, elect, session) = (at("active"), at("elect"), at("session"));
        let (Some(_), Some(elect)) = (active, elect) else {
            let help = "`elect: zk`, and `ensemble zk = embedded` where there is none";
            let diagnostic = match (active, elect, session) {
                (Some(active), None, _) => needs("active", active, "elect", help),
                (None, Some(elect), _) => needs("elect", elect, "active", "`active: 1`"),
                (None, None, Some(session)) => needs("session", session, "elect", "`active: 1, elect: zk`"),
                _ => return,
            };
            self.report(diagnostic);
            return;
        };
        let number = |key: &str| resolved.settings.get(key).and_then(serde_json::Value::as_u64);
        let name = resolved.settings.get("elect").and_then(serde_json::Value::as_str);
        let ensemble = name.and_then(|name| {
            let is = |part: &Component| part.word == Word::Ensemble && part.name == name;
            self.model.components.iter().position(is)
        });
        // What could not be read has been told.
        let (Some(active), Some(session_ns), Some(ensemble)) =
            (number("active"), number("session"), ensemble)
        else {
            return;
        };
        self.model.elections.push(Election {
            agent,
            ensemble: ComponentId(ensemble as u32),
            active: u32::try_from(active).unwrap_or(u32::MAX),
            session_ns,
            session_span: session.unwrap_or(elect),
            span,
        });
    }

    /// `default_channel: "memory"` or `{ kind: "memory", capacity: 10_000 }`: the kind is there and has the settings.
    fn check_default_channel(&mut self, span: Span) {
        let Some(value) = self.model.runtime.get_mut("default_channel").filter(|value| !value.is_null())
        else {
            return;
        };
        if value.is_string() {
            *value = serde_json::json!({ "kind": value.take() });
        }
        let kind_name = value.get("kind").and_then(serde_json::Value::as_str).map(str::to_owned);
        let keys = value.as_object().map(|map| map.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
        let Some(kind_name) = kind_name else {
            self.report(
                Diagnostic::new(Code::F0201, span, "`default_channel` is a channel kind and its settings")
                    .label("names no kind")
                    .help("`default_channel: { kind: \"memory\", capacity: 10_000 }`"),
            );
            return;
        };
        let library = self.library;
        let Some(kind) = library.kind(ExternWord::Channel, &kind_name) else {
            let title = format!("there is no channel kind `{kind_name}`");
            let mut diagnostic = Diagnostic::new(Code::F0102, span, title);
            if let Some(near) = flow_diag::suggest(&kind_name, library.kind_names(ExternWord::Channel)) {
                diagnostic = diagnostic.label(format!("did you mean `{near}`?"));
            }
            self.report(diagnostic.help("`flowc list channels` shows them"));
            return;
        };
        self.check_absent(kind, "channel", "channels", span);
        for key in keys.iter().filter(|key| *key != "kind" && kind.setting(key).is_none()) {
            let title = format!("unknown setting `{key}` of channel kind `{kind_name}`");
            let mut diagnostic = Diagnostic::new(Code::F0113, span, title);
            if let Some(near) = flow_diag::suggest(key, kind.settings.iter().map(|one| one.name)) {
                diagnostic = diagnostic.label(format!("did you mean `{near}`?"));
            }
            self.report(diagnostic);
        }
    }

    /// Headers that settings of sinks, topics and groups read but that nothing sets: F0309.
    pub(super) fn check_component_reads(&mut self) {
        for (id, reads) in std::mem::take(&mut self.component_reads) {
            let Some(state) = self.arriving.get(&id).cloned() else { continue };
            if self.model.components[id.0 as usize].word == Word::Source {
                continue;
            }
            for read in reads {
                if !read.tolerant && !state.is_possible(&read.name) {
                    self.report_never_set(&read.name, read.span, &state);
                } else if !read.tolerant && !state.is_sure(&read.name) && !state.broken {
                    self.warn_key(id, &read.name, read.span);
                }
            }
        }
    }

    /// F0706: the header of a topic's key may be missing.
    fn warn_key(&mut self, id: ComponentId, header: &str, span: Span) {
        let part = &self.model.components[id.0 as usize];
        let in_key = |key: &Span| key.file == span.file && key.start <= span.start && span.end <= key.end;
        if part.word != Word::Topic || !part.setting_spans.get("key").is_some_and(in_key) {
            return;
        }
        let title = format!("key `header.{header}` may be null: those events share one partition");
        self.report(
            Diagnostic::new(Code::F0706, span, title)
                .label("not every event that is written here has it")
                .help(format!("set it on every way to `{0}`, or say what counts without it: `header.{header} ?? \"none\"`", part.name)),
        );
    }

    /// F0309
    pub(super) fn report_never_set(&mut self, name: &str, span: Span, state: &State) {
        if self.model.incomplete || self.is_poisoned(name) {
            return;
        }
        let mut diagnostic =
            Diagnostic::new(Code::F0309, span, format!("`header.{name}` is never set before this point"));
        diagnostic = match flow_diag::suggest(name, state.headers.keys().map(String::as_str)) {
            Some(near) => diagnostic.label(format!("did you mean `header.{near}`?")),
            None => diagnostic.label("always null"),
        };
        let known = state.headers.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>();
        diagnostic = diagnostic.help(if known.is_empty() {
            "nothing sets a header here".to_owned()
        } else {
            format!("headers here: {}", known.join(", "))
        });
        self.report(diagnostic);
    }

    /// `EntityKind::Component` of one of the words.
    pub(super) fn component_at(
        &mut self,
        scope: ScopeId,
        path: &ast::Path,
        words: &[&str],
    ) -> Option<ComponentId> {
        let Some(entity) = self.path_entity(scope, path) else {
            if path.names.len() == 1 && !self.is_poisoned(&path.first().text) {
                let wanted = words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
                let candidates = self.component_names(scope, &wanted);
                let diagnostic = self.unknown(path.first(), &candidates);
                self.report(diagnostic);
            }
            self.model.incomplete = true;
            return None;
        };
        match self.entity_kind(entity) {
            EntityKind::Component(id) => {
                let word = self.model.components[id.0 as usize].word.text();
                if words.contains(&word) {
                    return Some(id);
                }
                let declared = self.entity_span(entity);
                let title = format!("`{}` is a {word}, a {} is needed", path.text(), words.join(" or a "));
                self.report(
                    Diagnostic::new(Code::F0201, path.span, title)
                        .label(word)
                        .also(declared, "declared here"),
                );
                None
            }
            EntityKind::Poison => None,
            other => {
                let title = format!(
                    "`{}` is {}, a {} is needed",
                    path.text(),
                    other.in_words(),
                    words.join(" or a ")
                );
                self.report(Diagnostic::new(Code::F0201, path.span, title));
                None
            }
        }
    }

    /// A dotted path written as an expression.
    fn path_of(&self, value: &ast::Expr) -> Option<ast::Path> {
        match &value.kind {
            ExprKind::Name(name) => Some(ast::Path { names: vec![name.clone()], span: value.span }),
            ExprKind::Member { object, name } => {
                let mut path = self.path_of(object)?;
                path.names.push(name.clone());
                path.span = value.span;
                Some(path)
            }
            _ => None,
        }
    }
}

/// What is known of the events of a source.
pub(super) fn source_state(kind: &Kind<'_>, headers: &[crate::settings::NamedHeader]) -> State {
    let any = kind.sets.is_empty() || kind.can("sets_any");
    let mut state = if any { State::unknown() } else { State::empty() };
    apply_sets(kind, headers, &mut state);
    state
}

/// The headers that a kind says it sets, under the names that its settings give them.
pub(super) fn apply_sets(kind: &Kind<'_>, headers: &[crate::settings::NamedHeader], state: &mut State) {
    for name in &kind.sets {
        match headers.iter().find(|header| header.default.as_deref() == Some(*name)) {
            Some(header) => {
                if let Some(value) = &header.value {
                    state.set(value, !kind.can("sets_any"), None);
                }
            }
            None => state.set(name, !kind.can("sets_any"), None),
        }
    }
    for header in headers {
        if let Some(value) = &header.value
            && !state.headers.contains_key(value)
        {
            state.may_set(value);
        }
    }
}
