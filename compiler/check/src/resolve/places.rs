//! A step that is a name or a kind written in place.

use flow_diag::{Code, Diagnostic};
use flow_syntax::ast::{self, ExternWord};

use super::components::extern_word;
use super::{EntityKind, Resolver, ScopeId};
use crate::expr::State;
use crate::library::Kind;
use crate::model::{Component, ComponentId, NodeKind, Word};
use crate::settings::{Given, SettingContext};

impl<'a> Resolver<'a> {
    pub(super) fn place(
        &mut self,
        scope: ScopeId,
        state: &mut State,
        place: &'a ast::Place,
        last: bool,
    ) -> NodeKind {
        let ctor = &place.ctor;
        let as_group = ctor.as_name.as_ref().map(|name| name.text.clone());
        let optional = place.optional;
        let (entity, errors) = self.path_with_errors(scope, &ctor.kind);
        if let Some(entity) = entity {
            self.mark_used(entity);
            return match self.entity_kind(entity) {
                EntityKind::Component(id) if !errors => {
                    if !self.reachable(scope, entity, id, ctor.kind.span, true) {
                        return NodeKind::Poison;
                    }
                    self.check_place_settings(scope, id, ctor, state);
                    self.check_reader(id, ctor, !last);
                    self.arrive(id, state);
                    *state = self.state_from_here(id);
                    NodeKind::Place { id, optional, as_group }
                }
                EntityKind::Interceptor(index) if !errors => self.interceptor_node(scope, state, index, ctor),
                EntityKind::Poison => {
                    self.model.incomplete = true;
                    NodeKind::Poison
                }
                other => {
                    if errors {
                        let title = "events cannot flow into `errors`";
                        self.report(
                            Diagnostic::new(Code::F0201, ctor.kind.span, title)
                                .label("a place to start from")
                                .help(format!("`{} -> …`", ctor.kind.text())),
                        );
                        self.model.incomplete = true;
                    } else {
                        self.report_no_place(entity, &other, ctor.kind.span);
                    }
                    NodeKind::Poison
                }
            };
        }
        let library = self.library;
        let name = ctor.kind.text();
        let kind = |word: ExternWord| library.kind(word, &name);
        if let Some(kind) = kind(ExternWord::Interceptor) {
            return self.interceptor_kind_node(scope, state, kind, ctor);
        }
        let order: &[Word] = if last { &[Word::Sink, Word::Channel] } else { &[Word::Channel, Word::Sink] };
        for word in order.iter().chain(&[Word::Group]) {
            if let Some(kind) = kind(extern_word(*word)) {
                let id = self.place_component(scope, *word, kind, ctor);
                self.arrive(id, state);
                if *word != Word::Channel {
                    *state = State::unknown();
                }
                return NodeKind::Place { id, optional, as_group };
            }
        }
        self.model.incomplete = true;
        if let Some(kind) = kind(ExternWord::Source) {
            let title = format!("`{}` is a source: events cannot flow into it", kind.name);
            self.report(
                Diagnostic::new(Code::F0404, ctor.kind.span, title)
                    .label("events come out of it")
                    .help("write it at the head of a chain"),
            );
            return NodeKind::Poison;
        }
        self.report_unknown_place(scope, ctor, false);
        self.check_loose(scope, ctor);
        state.broken = true;
        if !last && let Some(id) = self.meant(scope, ctor) {
            // as if it were written rightly, so that what leads there and on is not reported as unused
            self.arrive(id, state);
            return NodeKind::Place { id, optional, as_group };
        }
        // in the middle it was an interceptor, most likely: what stands after it is reached
        if last { NodeKind::Poison } else { NodeKind::Steps(Vec::new()) }
    }

    /// After a step that holds events: a channel with one feeder keeps what was known.
    fn state_from_here(&self, id: ComponentId) -> State {
        match self.model.components[id.0 as usize].word {
            Word::Channel => {
                let known = self.state_from(id);
                if self.feeders_left.get(&id).copied().unwrap_or(0) == 0 { known } else { State::unknown() }
            }
            Word::Source | Word::Sink | Word::Group => State::unknown(),
            Word::Topic | Word::Consumer => self.state_of_topics(),
            Word::Cluster | Word::Ensemble => State::unknown(),
        }
    }

    /// `writer.inbox { compress: zstd }`: settings of the sending end.
    fn check_place_settings(&mut self, scope: ScopeId, id: ComponentId, ctor: &ast::Ctor, state: &State) {
        if ctor.settings.is_none() && ctor.args.is_empty() {
            return;
        }
        let component = &self.model.components[id.0 as usize];
        let (word, kind_name, name) = (component.word, component.kind.clone(), component.name.clone());
        let library = self.library;
        if word == Word::Source
            && let Some(kind) = library.kind(ExternWord::Sink, &kind_name)
        {
            let context =
                SettingContext { scope, sort: "the sending end of".to_owned(), state: state.clone() };
            // the address is that of the inbox
            let sending = Kind {
                name: kind.name,
                settings: kind
                    .settings
                    .iter()
                    .skip(kind.arguments)
                    .map(|setting| crate::library::SettingDecl {
                        name: setting.name,
                        ty: setting.ty.clone(),
                        default: setting.default,
                        absent: setting.absent,
                    })
                    .collect(),
                arguments: 0,
                rest: None,
                abilities: Vec::new(),
                unless: &[],
                sets: Vec::new(),
            };
            let given =
                Given { args: &ctor.args, settings: ctor.settings.as_ref(), kind_span: ctor.kind.span };
            self.settings(&context, &sending, given);
            return;
        }
        let span = ctor.settings.as_ref().map_or(ctor.span, |settings| settings.span);
        self.report(
            Diagnostic::new(
                Code::F0113,
                span,
                format!("`{name}` is declared elsewhere and takes no settings here"),
            )
            .label("settings of another declaration")
            .also(self.model.components[id.0 as usize].span, "its settings stand here")
            .help("write them at the declaration"),
        );
        self.check_loose(scope, ctor);
    }

    /// A component written in a chain.
    pub(super) fn place_component(
        &mut self,
        scope: ScopeId,
        word: Word,
        kind: &'a Kind<'a>,
        ctor: &ast::Ctor,
    ) -> ComponentId {
        let own = self.scope(scope);
        let (agent, flow, imported) = (own.agent, own.flow, own.imported);
        let name = self.in_place_name(scope, ctor);
        let id = ComponentId(self.model.components.len() as u32);
        self.model.components.push(Component {
            word,
            name,
            kind: kind.name.to_owned(),
            agent,
            flow,
            span: ctor.kind.span,
            kind_span: ctor.kind.span,
            settings: Default::default(),
            setting_spans: Default::default(),
            abilities: Vec::new(),
            in_place: true,
            imported,
            unused_ok: true,
            poisoned: false,
            declared_twice: false,
            members: Vec::new(),
            on: None,
        });
        if word == Word::Group {
            self.resolve_group(id, scope, ctor);
        } else {
            self.resolve_component(id, scope, kind, ctor);
        }
        id
    }

    /// `line_12.tail`, `line_12.tail_2`
    pub(super) fn in_place_name(&mut self, scope: ScopeId, ctor: &ast::Ctor) -> String {
        let own = self.scope(scope);
        let agent = own.agent;
        let line = self.files.location(ctor.span.file, ctor.span.start).line;
        let base = format!("{}line_{line}.{}", own.prefix, ctor.kind.text());
        let mut name = base.clone();
        let mut number = 1;
        while !self.place_names.insert((agent, name.clone())) {
            number += 1;
            name = format!("{base}_{number}");
        }
        name
    }

    /// F0101 for a name, F0102 for what looks like a kind.
    pub(super) fn report_unknown_place(&mut self, scope: ScopeId, ctor: &ast::Ctor, head: bool) {
        let path = &ctor.kind;
        let first = path.first();
        self.model.incomplete = true;
        if path.names.iter().any(|name| self.is_poisoned(&name.text)) {
            return;
        }
        let sorts: &[ExternWord] = if head {
            &[ExternWord::Source]
        } else {
            &[ExternWord::Interceptor, ExternWord::Channel, ExternWord::Sink, ExternWord::Group]
        };
        let kinds = sorts
            .iter()
            .flat_map(|sort| self.library.kind_names(*sort))
            .map(str::to_owned)
            .collect::<Vec<_>>();
        if path.names.len() > 1 {
            let names = self.visible(scope, |kind| {
                matches!(
                    kind,
                    EntityKind::Agent(_)
                        | EntityKind::Flow(_)
                        | EntityKind::Use(_)
                        | EntityKind::Import(_)
                        | EntityKind::Interceptor(_)
                        | EntityKind::Component(_)
                )
            });
            let diagnostic = self.unknown(first, &names);
            self.report(diagnostic);
            return;
        }
        let mut names = self.visible(scope, |kind| match kind {
            EntityKind::Component(id) => {
                let word = self.model.components[id.0 as usize].word;
                if head {
                    matches!(word, Word::Source | Word::Channel | Word::Topic | Word::Consumer)
                } else {
                    matches!(word, Word::Channel | Word::Sink | Word::Group | Word::Topic)
                }
            }
            EntityKind::Interceptor(_) => !head,
            _ => false,
        });
        let constructed = !ctor.args.is_empty() || ctor.settings.is_some();
        if constructed {
            let title = if head {
                format!("there is no source kind `{}`", first.text)
            } else {
                format!("there is no kind `{}`", first.text)
            };
            let diagnostic = Diagnostic::new(Code::F0102, first.span, title);
            names.extend(kinds);
            let diagnostic = match flow_diag::suggest(&first.text, names.iter().map(String::as_str)) {
                Some(near) => diagnostic.label(format!("did you mean `{near}`?")).fix(first.span, near),
                None => diagnostic.label("no such kind").help(if head {
                    "`flowc list sources` shows them"
                } else {
                    "`flowc list` shows them all"
                }),
            };
            self.report(diagnostic);
            return;
        }
        // names of the file before kinds of the library
        let near = flow_diag::suggest(&first.text, names.iter().map(String::as_str)).map(str::to_owned);
        let mut diagnostic = match near {
            Some(_) => self.unknown(first, &names),
            None => self.unknown(first, &kinds),
        };
        if diagnostic.fix.is_empty()
            && let Some(owner) = self.owner_of(scope, &first.text)
        {
            diagnostic =
                diagnostic.help(format!("there is a `{owner}.{0}`: write `{owner}.{0}`", first.text));
        }
        self.report(diagnostic);
    }

    /// The component that a misspelt name in the middle of a chain stands for.
    fn meant(&self, scope: ScopeId, ctor: &ast::Ctor) -> Option<ComponentId> {
        let [name] = ctor.kind.names.as_slice() else { return None };
        let here = self.scope(scope).agent;
        let passes = |id: ComponentId| {
            let component = &self.model.components[id.0 as usize];
            component.agent == here && matches!(component.word, Word::Channel | Word::Topic)
        };
        let names = self.visible(scope, |kind| matches!(kind, EntityKind::Component(id) if passes(*id)));
        let near = flow_diag::suggest(&name.text, names.iter().map(String::as_str))?;
        match self.entity_kind(self.lookup(scope, near)?) {
            EntityKind::Component(id) if passes(id) => Some(id),
            _ => None,
        }
    }

    /// A flow, instance or import that has something of this name.
    fn owner_of(&self, scope: ScopeId, name: &str) -> Option<String> {
        let mut current = Some(scope);
        while let Some(id) = current {
            let one = self.scope(id);
            for (owner, entity) in &one.names {
                if let Some(members) = self.members(*entity)
                    && self.scope(members).names.contains_key(name)
                {
                    return Some(owner.clone());
                }
            }
            current = one.parent;
        }
        None
    }
}
