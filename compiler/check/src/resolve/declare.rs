//! Declarations into scopes: files, agents, flows, templates and their instances.

use flow_diag::{Code, Diagnostic, Span};
use flow_plan::ir;
use flow_syntax::ast::{self, ComponentWord, Item};

use super::{
    EXPANSION_DEPTH_MAX, Entity, EntityId, EntityKind, INSTANCES_MAX, InterceptorDecl, Pending, Resolver,
    Scope, ScopeId, TypeDecl, params,
};
use crate::expr::{Frame, UserFn, constant_of};
use crate::model::{self, AgentId, Claim, Component, ComponentId, FlowId, InterceptorId, Word};
use crate::types::Type;

impl<'a> Resolver<'a> {
    /// Declares a loaded file; an imported one under its alias.
    pub(super) fn declare_file(&mut self, index: usize, alias: Option<&str>) -> ScopeId {
        if let Some(scope) = self.file_scopes[index] {
            return scope;
        }
        let scope = self.new_scope(Scope {
            parent: None,
            names: Default::default(),
            agent: AgentId(0),
            flow: None,
            prefix: alias.map_or_else(String::new, |alias| format!("{alias}.")),
            imported: alias.is_some(),
        });
        self.file_scopes[index] = Some(scope);
        let loaded = self.loaded;
        let mut imports = loaded[index].imports.iter();
        for item in &loaded[index].ast.items {
            if let Item::Import(import) = item {
                let target = imports.next().copied().flatten();
                self.declare_import(scope, import, target);
            }
        }
        self.declare_items(scope, &loaded[index].ast.items, 0);
        scope
    }

    fn declare_import(&mut self, scope: ScopeId, import: &'a ast::Import, target: Option<usize>) {
        let (name, span) = match &import.alias {
            Some(alias) => (alias.text.clone(), alias.span),
            None => {
                let stem = import.path.rsplit(['/', '\\']).next().unwrap_or(&import.path);
                let stem = stem.strip_suffix(".flow").unwrap_or(stem);
                (stem.replace('-', "_"), import.path_span)
            }
        };
        let kind = match target {
            Some(target) => {
                let full = format!("{}{name}", self.scope(scope).prefix);
                EntityKind::Import(self.declare_file(target, Some(&full)))
            }
            None => {
                self.model.incomplete = true;
                EntityKind::Poison
            }
        };
        self.declare(scope, &name, span, kind);
    }

    /// Declares a name; F0103 when it is taken.
    pub(super) fn declare(
        &mut self,
        scope: ScopeId,
        name: &str,
        span: Span,
        kind: EntityKind,
    ) -> Option<EntityId> {
        if let Some(first) = self.scope(scope).names.get(name).copied() {
            let first = self.entity_span(first);
            if first != span {
                self.report(
                    Diagnostic::new(Code::F0103, span, format!("`{name}` is declared twice"))
                        .label("again here")
                        .also(first, "first declared here")
                        .help("rename one of them"),
                );
            }
            return None;
        }
        if let Some(parent) = self.scope(scope).parent
            && let Some(outer) = self.lookup(parent, name)
        {
            let what = self.described(outer);
            let declared = self.entity_span(outer);
            if declared != span {
                self.report(
                    Diagnostic::new(
                        Code::F0107,
                        span,
                        format!("`{name}` hides the {what} `{name}` declared outside"),
                    )
                    .label("hides it from here on")
                    .also(declared, "declared outside")
                    .help("rename one of them"),
                );
            }
        }
        let id = EntityId(self.entities.len() as u32);
        self.entities.push(Entity { name: name.to_owned(), span, kind, scope, used: false });
        self.scopes[scope.0 as usize].names.insert(name.to_owned(), id);
        Some(id)
    }

    /// `source`, `interceptor`: without an article.
    pub(super) fn described(&self, entity: EntityId) -> String {
        match &self.entities[entity.0 as usize].kind {
            EntityKind::Component(id) => self.model.components[id.0 as usize].word.text().to_owned(),
            other => {
                let words = other.in_words();
                words.strip_prefix("a ").or_else(|| words.strip_prefix("an ")).unwrap_or(words).to_owned()
            }
        }
    }

    pub(super) fn declare_items(&mut self, scope: ScopeId, items: &'a [Item], depth: usize) {
        for item in items {
            self.declare_item(scope, item, depth);
        }
    }

    fn declare_item(&mut self, scope: ScopeId, item: &'a Item, depth: usize) {
        match item {
            Item::Import(_) | Item::Extern(_) => {}
            Item::Param(param) => {
                let index = self.params.len();
                let full_name = format!("{}{}", self.scope(scope).prefix, param.name.text);
                self.params.push(params::Param {
                    decl: param,
                    scope,
                    full_name,
                    value: params::Progress::Waiting,
                });
                self.declare(scope, &param.name.text, param.name.span, EntityKind::Param(index));
            }
            Item::Secret(secret) => {
                let index = self.model.secrets.len();
                self.model.secrets.push(model::Secret {
                    name: self.full_name(scope, &secret.name.text),
                    kind: secret.from.kind.text(),
                    settings: Default::default(),
                    span: secret.name.span,
                });
                self.declare(scope, &secret.name.text, secret.name.span, EntityKind::Secret(index));
                self.resolve_secret(scope, index, secret);
            }
            Item::Type(decl) => {
                let index = self.types.len();
                self.types.push(TypeDecl { decl, scope, ty: None, busy: false });
                if crate::settings::is_builtin_type(&decl.name.text) {
                    self.report(
                        Diagnostic::new(
                            Code::F0103,
                            decl.name.span,
                            format!("`{}` is a type of the language", decl.name.text),
                        )
                        .label("taken")
                        .help("types of your own are written like `Order`"),
                    );
                }
                self.declare(scope, &decl.name.text, decl.name.span, EntityKind::Type(index));
            }
            Item::Fn(decl) => {
                let index = self.fns.len();
                let name = self.full_name(scope, &decl.name.text);
                self.fns.push(UserFn::new(decl, scope, name));
                self.declare(scope, &decl.name.text, decl.name.span, EntityKind::Fn(index));
            }
            Item::Interceptor(decl) => {
                let index = self.interceptors.len();
                let id = InterceptorId(self.model.interceptors.len() as u32);
                self.model.interceptors.push(model::Interceptor {
                    name: self.full_name(scope, &decl.name.text),
                    span: decl.name.span,
                    imported: self.scope(scope).imported,
                });
                self.interceptors.push(InterceptorDecl { decl, scope, id, used: false });
                self.declare(scope, &decl.name.text, decl.name.span, EntityKind::Interceptor(index));
            }
            Item::Component(component) if component.word == ComponentWord::Use => {
                self.uses.push((scope, component, depth));
            }
            Item::Component(component) => {
                if let Some(word) = word_of(component.word) {
                    let kind = component.ctor.kind.text();
                    let id =
                        self.add_component(scope, word, &component.name, &kind, component.ctor.kind.span);
                    self.pending.push((id, scope, Pending::Component(component)));
                }
            }
            Item::Topic(topic) => {
                let id = self.add_component(scope, Word::Topic, &topic.name, "topic", topic.name.span);
                self.pending.push((id, scope, Pending::Topic(topic)));
            }
            Item::Agent(agent) => self.declare_agent(scope, agent, depth),
            Item::Flow(flow) => self.declare_flow(scope, flow, depth),
            Item::Template(template) => {
                let index = self.templates.len();
                self.templates.push((template, scope));
                self.declare(scope, &template.name.text, template.name.span, EntityKind::Template(index));
            }
            Item::Runtime(runtime) => self.runtimes.push((scope, runtime)),
            Item::Deliver(deliver) => {
                let owner = self.scope(scope);
                let claimed = match (owner.flow, owner.agent) {
                    (Some(flow), _) => model::Scope::Flow(flow),
                    (None, AgentId(0)) => model::Scope::File,
                    (None, agent) => model::Scope::Agent(agent),
                };
                self.claim(&deliver.guarantee, deliver.span, claimed);
            }
            Item::Test(test) => self.tests.push((scope, test)),
            Item::Chain(chain) => self.chains.push((scope, chain)),
        }
    }

    fn claim(&mut self, guarantee: &ast::Name, span: Span, scope: model::Scope) {
        const GUARANTEES: &[&str] = &["at_most_once", "at_least_once", "effectively_once"];
        if !GUARANTEES.contains(&guarantee.text.as_str()) {
            let title = format!(
                "`deliver {}`: not one of `at_most_once`, `at_least_once`, `effectively_once`",
                guarantee.text
            );
            let mut diagnostic = Diagnostic::new(Code::F0207, guarantee.span, title);
            diagnostic = match flow_diag::suggest(&guarantee.text, GUARANTEES.iter().copied()) {
                Some(near) => diagnostic.label(format!("did you mean `{near}`?")).fix(guarantee.span, near),
                None if guarantee.text == "exactly_once" => diagnostic
                    .label("no system can promise that")
                    .help("`effectively_once`: repeats leave no trace"),
                None => diagnostic.label("no such guarantee"),
            };
            self.report(diagnostic);
            return;
        }
        self.model.claims.push(Claim { guarantee: guarantee.text.clone(), span, scope });
    }

    fn declare_agent(&mut self, scope: ScopeId, agent: &'a ast::Agent, depth: usize) {
        let id = AgentId(self.model.agents.len() as u32);
        let name = self.full_name(scope, &agent.name.text);
        self.model.agents.push(model::Agent { name, span: agent.name.span, hosts: Vec::new() });
        let inner = self.new_scope(Scope {
            parent: Some(scope),
            names: Default::default(),
            agent: id,
            flow: None,
            // names are apart by agent already
            prefix: String::new(),
            imported: self.scope(scope).imported,
        });
        self.declare(scope, &agent.name.text, agent.name.span, EntityKind::Agent(inner));
        if self.is_unclosed(agent.span) {
            self.unclosed_scopes.insert(inner);
            self.unclosed_agents.insert(id);
        }
        for param in &agent.params {
            let ty = param.ty.as_ref().map(|ty| self.user_type(scope, ty)).unwrap_or(Type::Poison);
            let value = match &param.default {
                Some(default) => self.constant(scope, default, &ty, &format!("`{}`", param.name.text)),
                None => {
                    self.report(
                        Diagnostic::new(
                            Code::F0221,
                            param.name.span,
                            format!("parameter `{}` has no value", param.name.text),
                        )
                        .label("without a default")
                        .help("give it a default: `= …`"),
                    );
                    None
                }
            };
            let kind = match value {
                Some(value) => EntityKind::Constant(constant_of(&value), ty),
                None => EntityKind::Poison,
            };
            self.declare(inner, &param.name.text, param.name.span, kind);
        }
        self.declare_items(inner, &agent.items, depth);
        if let Some(at) = &agent.at {
            self.agent_hosts.push((id, scope, at));
        }
    }

    /// `at …`, once parameters can be asked.
    pub(super) fn resolve_hosts(&mut self) {
        for (id, scope, at) in std::mem::take(&mut self.agent_hosts) {
            let mut frame = Frame::constant(scope, "`at`");
            let typed = self.expr(&mut frame, at, None);
            let hosts = match &typed.ty {
                Type::Poison => continue,
                ty if ty.is_text() || ty.fits(&Type::list(Type::String)) => {
                    match self.evaluate(&typed.expr, "`at`", at.span) {
                        Some(flow_plan::Value::List(items)) => items
                            .iter()
                            .filter_map(|item| match item {
                                flow_plan::Value::Text(text) => {
                                    Some(String::from_utf8_lossy(text).into_owned())
                                }
                                _ => None,
                            })
                            .collect(),
                        Some(flow_plan::Value::Text(text)) => {
                            vec![String::from_utf8_lossy(&text).into_owned()]
                        }
                        _ => continue,
                    }
                }
                ty => {
                    let title =
                        format!("`at` is a host name or a list of them, this is {}", ty.with_article());
                    self.report(Diagnostic::new(Code::F0201, at.span, title).label(ty.to_string()));
                    continue;
                }
            };
            self.model.agents[id.0 as usize].hosts = hosts;
        }
    }

    fn declare_flow(&mut self, scope: ScopeId, flow: &'a ast::Flow, depth: usize) {
        let agent = self.scope(scope).agent;
        let id = FlowId(self.model.flows.len() as u32);
        let name = self.full_name(scope, &flow.name.text);
        self.model.flows.push(model::Flow { name, span: flow.name.span, agent });
        let prefix = format!("{}{}.", self.scope(scope).prefix, flow.name.text);
        let inner = self.new_scope(Scope {
            parent: Some(scope),
            names: Default::default(),
            agent,
            flow: Some(id),
            prefix,
            imported: self.scope(scope).imported,
        });
        self.declare(scope, &flow.name.text, flow.name.span, EntityKind::Flow(inner));
        if let Some(guarantee) = &flow.deliver {
            self.claim(guarantee, guarantee.span, model::Scope::Flow(id));
        }
        self.declare_items(inner, &flow.items, depth);
    }

    /// `use paris = site { … }`, also those inside of templates.
    pub(super) fn expand_uses(&mut self) {
        let mut next = 0;
        while next < self.uses.len() {
            let (scope, component, depth) = self.uses[next];
            next += 1;
            self.expand_use(scope, component, depth);
        }
        if !self.with_unused_templates {
            return;
        }
        self.with_unused_templates = false;
        for index in 0..self.templates.len() {
            if !self.used_templates.contains(&index) {
                self.expand_unused(index);
            }
        }
        for (scope, component, depth) in self.uses.split_off(next) {
            self.expand_use(scope, component, depth);
        }
    }

    /// A template that nobody uses, with any values of the right types.
    fn expand_unused(&mut self, index: usize) {
        let (decl, home) = self.templates[index];
        let own = self.scope(home);
        let inner = Scope {
            parent: Some(home),
            names: Default::default(),
            agent: own.agent,
            flow: own.flow,
            prefix: format!("{}{}.", own.prefix, decl.name.text),
            imported: own.imported,
        };
        let inner = self.new_scope(inner);
        for param in &decl.params {
            let ty = param.ty.as_ref().map_or(Type::Any, |ty| self.user_type(home, ty));
            let kind = EntityKind::Constant(super::steps::stand_in(&ty), ty);
            self.declare(inner, &param.name.text, param.name.span, kind);
        }
        self.declare_items(inner, &decl.items, 1);
    }

    fn expand_use(&mut self, scope: ScopeId, component: &'a ast::Component, depth: usize) {
        let path = &component.ctor.kind;
        let found = self.path_entity(scope, path);
        let template = match found.map(|entity| (entity, self.entity_kind(entity))) {
            Some((entity, EntityKind::Template(index))) => {
                self.mark_used(entity);
                self.used_templates.insert(index);
                Some(index)
            }
            Some((_, EntityKind::Poison)) => None,
            Some((entity, other)) => {
                let declared = self.entity_span(entity);
                let title = format!("`{}` is {}, not a template", path.text(), other.in_words());
                self.report(
                    Diagnostic::new(Code::F0102, path.span, title)
                        .label("not a template")
                        .also(declared, "declared here"),
                );
                None
            }
            None => {
                if path.names.len() == 1 && !self.is_poisoned(&path.first().text) {
                    let candidates = self.visible(scope, |kind| matches!(kind, EntityKind::Template(_)));
                    let diagnostic = self.unknown(path.first(), &candidates);
                    self.report(diagnostic);
                }
                None
            }
        };
        let Some(template) = template else {
            self.model.incomplete = true;
            self.declare(scope, &component.name.text, component.name.span, EntityKind::Poison);
            return;
        };
        if depth >= EXPANSION_DEPTH_MAX || self.instances >= INSTANCES_MAX {
            self.model.incomplete = true;
            self.report(
                Diagnostic::new(Code::F0215, component.name.span, "templates may not contain themselves")
                    .label(format!("expanded {depth} deep"))
                    .help("a template must not `use` itself"),
            );
            self.declare(scope, &component.name.text, component.name.span, EntityKind::Poison);
            return;
        }
        self.instances += 1;
        let (decl, home) = self.templates[template];
        let own = self.scope(scope);
        let inner = Scope {
            // names inside of a template are those where it was written
            parent: Some(home),
            names: Default::default(),
            agent: own.agent,
            flow: own.flow,
            prefix: format!("{}{}.", own.prefix, component.name.text),
            imported: own.imported,
        };
        let inner = self.new_scope(inner);
        self.declare(scope, &component.name.text, component.name.span, EntityKind::Use(inner));
        let values =
            self.bind_params(scope, &component.ctor, "template", &decl.name.text, &decl.params, home);
        for (param, value) in decl.params.iter().zip(values) {
            let kind = match value {
                Some((value, ty)) => EntityKind::Constant(value, ty),
                None => EntityKind::Poison,
            };
            self.declare(inner, &param.name.text, param.name.span, kind);
        }
        self.declare_items(inner, &decl.items, depth + 1);
    }

    /// The values that a constructor gives to declared parameters; `None` after an error.
    pub(super) fn bind_params(
        &mut self,
        scope: ScopeId,
        ctor: &ast::Ctor,
        sort: &str,
        name: &str,
        params: &[ast::ParamDecl],
        home: ScopeId,
    ) -> Vec<Option<(ir::Expr, Type)>> {
        let mut given: Vec<Option<&ast::Expr>> = vec![None; params.len()];
        if let Some(extra) = ctor.args.get(params.len()) {
            let title = format!(
                "`{name}` takes {}, {} given",
                crate::expr::count_arguments(params.len()),
                ctor.args.len()
            );
            self.report(
                Diagnostic::new(Code::F0210, extra.span, title)
                    .label("one too many")
                    .help(signature(name, params)),
            );
        }
        for (slot, arg) in given.iter_mut().zip(&ctor.args) {
            *slot = Some(arg);
        }
        for entry in ctor.settings.iter().flat_map(|settings| &settings.entries) {
            match params.iter().position(|param| param.name.text == entry.key.text) {
                Some(at) => match given[at] {
                    Some(first) => {
                        let first = first.span;
                        self.report_given_twice(&entry.key.text, first, entry.key.span);
                    }
                    None => given[at] = Some(&entry.value),
                },
                None if self.is_poisoned(&entry.key.text) => {}
                None => {
                    let title = format!("unknown parameter `{}` of {sort} `{name}`", entry.key.text);
                    let mut diagnostic = Diagnostic::new(Code::F0113, entry.key.span, title);
                    let names = params.iter().map(|param| param.name.text.as_str());
                    diagnostic = match flow_diag::suggest(&entry.key.text, names) {
                        Some(near) => {
                            diagnostic.label(format!("did you mean `{near}`?")).fix(entry.key.span, near)
                        }
                        None => diagnostic.label("no such parameter"),
                    };
                    self.report(diagnostic.help(signature(name, params)));
                }
            }
        }
        let mut values = Vec::with_capacity(params.len());
        for (param, given) in params.iter().zip(given) {
            let declared = param.ty.as_ref().map(|ty| self.user_type(home, ty));
            let what = format!("`{}`", param.name.text);
            let (expr, at) = match (given, &param.default) {
                (Some(expr), _) => (expr, scope),
                (None, Some(default)) => (default, home),
                (None, None) => {
                    self.report(
                        Diagnostic::new(
                            Code::F0210,
                            ctor.kind.span,
                            format!("`{name}` needs a value for `{}`", param.name.text),
                        )
                        .label("missing")
                        .also(param.name.span, "this parameter has no default")
                        .help(signature(name, params)),
                    );
                    values.push(None);
                    continue;
                }
            };
            let want = declared.clone().unwrap_or(Type::Any);
            let mut frame = Frame::constant(at, &what);
            let before = self.error_count();
            let typed = self.expr_of(&mut frame, expr, &want, &what);
            if self.error_count() > before || typed.ty == Type::Poison {
                values.push(None);
                continue;
            }
            let ty = declared.unwrap_or_else(|| typed.ty.clone());
            values.push(self.evaluate(&typed.expr, &what, expr.span).map(|value| (constant_of(&value), ty)));
        }
        values
    }

    /// Errors so far; what the build lacks leaves everything else about a program clear.
    pub(super) fn error_count(&self) -> usize {
        let counts =
            |one: &&Diagnostic| one.severity == flow_diag::Severity::Error && one.code != Code::F0116;
        self.diagnostics.iter().filter(counts).count()
    }

    /// `paris.buf`
    pub(super) fn full_name(&self, scope: ScopeId, name: &str) -> String {
        format!("{}{name}", self.scope(scope).prefix)
    }

    fn add_component(
        &mut self,
        scope: ScopeId,
        word: Word,
        name: &ast::Name,
        kind: &str,
        kind_span: Span,
    ) -> ComponentId {
        let id = ComponentId(self.model.components.len() as u32);
        let own = self.scope(scope);
        let (agent, flow, imported) = (own.agent, own.flow, own.imported);
        self.model.components.push(Component {
            word,
            name: self.full_name(scope, &name.text),
            kind: kind.to_owned(),
            agent,
            flow,
            span: name.span,
            kind_span,
            settings: Default::default(),
            setting_spans: Default::default(),
            abilities: Vec::new(),
            in_place: false,
            imported,
            unused_ok: name.text.starts_with('_') || self.is_poisoned(&name.text),
            poisoned: false,
            declared_twice: false,
            members: Vec::new(),
            on: None,
        });
        if self.declare(scope, &name.text, name.span, EntityKind::Component(id)).is_none() {
            // declared twice: nobody can reach the second one
            let component = &mut self.model.components[id.0 as usize];
            component.unused_ok = true;
            component.poisoned = true;
            if let Some(first) = self.scope(scope).names.get(&name.text).copied()
                && let EntityKind::Component(first) = self.entity_kind(first)
            {
                self.model.components[first.0 as usize].declared_twice = true;
            }
        }
        id
    }
}

fn signature(name: &str, params: &[ast::ParamDecl]) -> String {
    if params.is_empty() {
        return format!("`{name}` has no parameters");
    }
    let params = params.iter().map(|param| format!("{}: …", param.name.text)).collect::<Vec<_>>();
    format!("`{name} {{ {} }}`", params.join(", "))
}

pub(super) fn word_of(word: ComponentWord) -> Option<Word> {
    Some(match word {
        ComponentWord::Source => Word::Source,
        ComponentWord::Channel => Word::Channel,
        ComponentWord::Sink => Word::Sink,
        ComponentWord::Group => Word::Group,
        ComponentWord::Consumer => Word::Consumer,
        ComponentWord::Cluster => Word::Cluster,
        ComponentWord::Ensemble => Word::Ensemble,
        ComponentWord::Use => return None,
    })
}
