//! A model straight from a syntax tree, without types: enough to ask the graph rules about any flow text. Names
//! that mean nothing become poison, as the resolver does it.

#![allow(dead_code)]

use std::collections::BTreeMap;

use flow_check::graph;
use flow_check::model::*;
use flow_check::{Library, model};
use flow_diag::{Diagnostic, Files, Span};
use flow_plan::batch::Slot;
use flow_plan::ir;
use flow_plan::plan::OriginId;
use flow_plan::settings::Settings;
use flow_syntax::ast;
use serde_json::{Value, json};

/// What a test needs: kinds with every ability that the rules ask for.
pub const KINDS: &str = include_str!("../../../../tests/graph/lib/kinds.flow");

pub struct Made {
    pub files: Files,
    pub model: Model,
    pub diagnostics: Vec<Diagnostic>,
}

impl Made {
    /// `F0401 web`: code and the text under the primary label, in order of place.
    pub fn found(&self) -> Vec<String> {
        let mut sorted: Vec<&Diagnostic> = self.diagnostics.iter().collect();
        sorted.sort_by_key(|one| (one.primary.span.file, one.primary.span.start, one.code));
        sorted.iter().map(|one| format!("{} {}", one.code, self.files.slice(one.primary.span))).collect()
    }

    pub fn codes(&self) -> Vec<String> {
        self.found().iter().map(|line| line[..5].to_owned()).collect()
    }

    /// Everything a diagnostic says, for tests of the words.
    pub fn told(&self) -> String {
        let mut out = String::new();
        for one in &self.diagnostics {
            out.push_str(&format!("{} {}\n", one.code, one.title));
            out.push_str(&format!("  {}: {}\n", self.files.slice(one.primary.span), one.primary.text));
            for label in &one.secondary {
                out.push_str(&format!("  {}: {}\n", self.files.slice(label.span), label.text));
            }
            for help in &one.help {
                out.push_str(&format!("  help: {help}\n"));
            }
        }
        out
    }

    pub fn plan(&self) -> flow_plan::Plan {
        let plan = graph::plan(&self.model, &self.files);
        assert_eq!(graph::validate(&plan), Vec::<String>::new());
        plan
    }
}

pub fn library(text: &str) -> Library {
    let mut files = Files::new();
    let id = files.add("library.flow", text);
    let parsed = flow_syntax::parse_file(id, text);
    assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
    let externs = parsed
        .value
        .items
        .into_iter()
        .filter_map(|item| match item {
            ast::Item::Extern(item) => Some(item),
            _ => None,
        })
        .collect();
    Library { externs, functions: Default::default() }
}

/// The text against [`KINDS`].
pub fn make(text: &str) -> Made {
    make_with(text, &library(KINDS))
}

pub fn make_with(text: &str, library: &Library) -> Made {
    let mut files = Files::new();
    let id = files.add("test.flow", text);
    let parsed = flow_syntax::parse_file(id, text);
    assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
    let mut lower = Lower {
        files: &files,
        library,
        model: Model::default(),
        places: BTreeMap::new(),
        codes: BTreeMap::new(),
    };
    lower.model.origins.push(Span::new(id, 0, text.len()));
    lower.model.agents.push(model::Agent { name: "main".into(), span: Span::new(id, 0, 0), hosts: vec![] });
    let main = Scope { agent: AgentId(0), flow: None, prefix: String::new() };
    lower.declare(&parsed.value.items, &main, &parsed.value.items);
    lower.members();
    lower.chains(&parsed.value.items, &main, &parsed.value.items);
    let mut model = lower.model;
    graph::prepare(&mut model, library);
    let mut diagnostics = Vec::new();
    graph::check(&model, &files, &mut diagnostics);
    Made { files, model, diagnostics }
}

#[derive(Clone)]
struct Scope {
    agent: AgentId,
    flow: Option<FlowId>,
    prefix: String,
}

struct Lower<'a> {
    files: &'a Files,
    library: &'a Library,
    model: Model,
    /// By full name: `web.buf`, `paris.buf`, `buf`.
    places: BTreeMap<String, ComponentId>,
    codes: BTreeMap<String, (InterceptorId, ast::Interceptor)>,
}

impl Lower<'_> {
    fn extern_of(&self, word: ast::ExternWord, kind: &str) -> Option<&ast::Extern> {
        self.library.externs.iter().find(|item| item.word == word && item.name.text == kind)
    }

    fn line(&self, span: Span) -> u32 {
        self.files.location(span.file, span.start).line
    }

    fn declare(&mut self, items: &[ast::Item], scope: &Scope, root: &[ast::Item]) {
        for item in items {
            match item {
                ast::Item::Component(item) if item.word == ast::ComponentWord::Use => {
                    let template = root.iter().find_map(|other| match other {
                        ast::Item::Template(one) if one.name.text == item.ctor.kind.text() => Some(one),
                        _ => None,
                    });
                    let inner = Scope { prefix: format!("{}.", item.name.text), ..scope.clone() };
                    if let Some(template) = template {
                        self.declare(&template.items, &inner, root);
                    }
                }
                ast::Item::Component(item) => {
                    let (word, ext) = words(item.word);
                    let name = format!("{}{}", scope.prefix, item.name.text);
                    self.component(word, ext, name, &item.ctor, item.name.span, false, scope);
                }
                ast::Item::Topic(item) => {
                    let ctor = ast::Ctor {
                        span: item.span,
                        kind: ast::Path {
                            names: vec![ast::Name { text: "topic".into(), span: item.name.span }],
                            span: item.name.span,
                        },
                        as_name: None,
                        args: vec![],
                        settings: item.settings.clone(),
                    };
                    let name = format!("{}{}", scope.prefix, item.name.text);
                    let id = self.component(
                        Word::Topic,
                        ast::ExternWord::Topic,
                        name,
                        &ctor,
                        item.name.span,
                        false,
                        scope,
                    );
                    let on = item.cluster.as_ref().and_then(|path| self.places.get(&path.text()).copied());
                    self.model.components[id.0 as usize].on = on;
                }
                ast::Item::Interceptor(item) => {
                    let id = InterceptorId(self.model.interceptors.len() as u32);
                    self.model.interceptors.push(model::Interceptor {
                        name: item.name.text.clone(),
                        span: item.name.span,
                        imported: false,
                    });
                    self.codes.insert(item.name.text.clone(), (id, item.clone()));
                }
                ast::Item::Agent(item) => {
                    let id = AgentId(self.model.agents.len() as u32);
                    let hosts = item.at.as_ref().map(|at| self.hosts(at)).unwrap_or_default();
                    self.model.agents.push(model::Agent {
                        name: item.name.text.clone(),
                        span: item.name.span,
                        hosts,
                    });
                    let inner = Scope { agent: id, flow: None, prefix: format!("{}.", item.name.text) };
                    self.declare(&item.items, &inner, root);
                    for one in &item.items {
                        if let ast::Item::Deliver(one) = one {
                            self.claim(&one.guarantee, model::Scope::Agent(id));
                        }
                    }
                }
                ast::Item::Flow(item) => {
                    let id = FlowId(self.model.flows.len() as u32);
                    self.model.flows.push(model::Flow {
                        name: item.name.text.clone(),
                        span: item.name.span,
                        agent: scope.agent,
                    });
                    if let Some(guarantee) = &item.deliver {
                        self.claim(guarantee, model::Scope::Flow(id));
                    }
                    let inner = Scope { flow: Some(id), ..scope.clone() };
                    self.declare(&item.items, &inner, root);
                }
                ast::Item::Deliver(item) if scope.agent == AgentId(0) => {
                    self.claim(&item.guarantee, model::Scope::File);
                }
                ast::Item::Runtime(item) => {
                    self.model.runtime = self.settings_of(&item.settings);
                    self.model.runtime_span = Some(item.span);
                }
                _ => {}
            }
        }
    }

    fn claim(&mut self, guarantee: &ast::Name, scope: model::Scope) {
        self.model.claims.push(Claim { guarantee: guarantee.text.clone(), span: guarantee.span, scope });
    }

    fn hosts(&self, at: &ast::Expr) -> Vec<String> {
        match &at.kind {
            ast::ExprKind::Literal(ast::Literal::String(one)) => vec![one.clone()],
            ast::ExprKind::List(list) => list.iter().flat_map(|one| self.hosts(one)).collect(),
            // A parameter or `hosts("…")`: more than one; enough here.
            _ => vec!["one.example".into(), "two.example".into()],
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn component(
        &mut self,
        word: Word,
        ext: ast::ExternWord,
        name: String,
        ctor: &ast::Ctor,
        span: Span,
        in_place: bool,
        scope: &Scope,
    ) -> ComponentId {
        let kind = match word {
            Word::Consumer => "consumer".to_owned(),
            _ => ctor.kind.text(),
        };
        let mut settings = Settings::new();
        let mut setting_spans = BTreeMap::new();
        let mut abilities = Vec::new();
        match self.extern_of(ext, &kind) {
            None => abilities.push("absent".to_owned()),
            Some(item) => {
                abilities.extend(item.abilities.iter().map(|one| one.text.clone()));
                for (index, param) in item.params.iter().enumerate() {
                    let value = match ctor.args.get(index) {
                        Some(arg) => {
                            setting_spans.insert(param.name.text.clone(), arg.span);
                            value_of(arg)
                        }
                        None => param.default.as_ref().map_or(Value::Null, value_of),
                    };
                    let list = param.ty.as_ref().is_some_and(
                        |ty| matches!(&ty.kind, ast::TypeKind::Generic(word, _) if word == "list"),
                    );
                    let value = if list && !value.is_array() { json!([value]) } else { value };
                    settings.insert(param.name.text.clone(), value);
                }
                for setting in &item.settings {
                    let value = setting.default.as_ref().map_or(Value::Null, value_of);
                    settings.insert(setting.name.text.clone(), value);
                }
            }
        }
        if let Some(written) = &ctor.settings {
            for entry in &written.entries {
                settings.insert(entry.key.text.clone(), value_of(&entry.value));
                setting_spans.insert(entry.key.text.clone(), entry.value.span);
            }
        }
        let on = match word {
            Word::Consumer => self.find(&ctor.kind.text(), scope),
            _ => None,
        };
        let id = ComponentId(self.model.components.len() as u32);
        self.model.components.push(model::Component {
            word,
            name: name.clone(),
            kind,
            agent: scope.agent,
            flow: scope.flow,
            span,
            kind_span: ctor.kind.span,
            settings,
            setting_spans,
            abilities,
            in_place,
            imported: false,
            unused_ok: name.starts_with('_'),
            poisoned: false,
            declared_twice: false,
            members: vec![],
            on,
        });
        if word == Word::Group {
            let list: Vec<&ast::Expr> = match ctor.args.first().map(|arg| &arg.kind) {
                Some(ast::ExprKind::List(list)) => list.iter().collect(),
                Some(_) => ctor.args.iter().collect(),
                None => vec![],
            };
            let names = list.iter().map(|one| (self.files.slice(one.span).to_owned(), one.span)).collect();
            self.pending_members().push((id, scope.clone(), names));
        }
        self.places.insert(name, id);
        id
    }

    fn pending_members(&mut self) -> Members<'_> {
        Members { lower_model: &mut self.model, places: &self.places }
    }

    fn members(&mut self) {
        for index in 0..self.model.components.len() {
            let prefix = match self.model.components[index].agent {
                AgentId(0) => String::new(),
                AgentId(id) => format!("{}.", self.model.agents[id as usize].name),
            };
            let stale = std::mem::take(&mut self.model.components[index].members);
            let members = stale
                .into_iter()
                .filter_map(|member| {
                    let text = self.files.slice(member.span);
                    let id = self.places.get(&format!("{prefix}{text}")).or_else(|| self.places.get(text))?;
                    Some(Member { component: *id, span: member.span })
                })
                .collect();
            self.model.components[index].members = members;
        }
    }

    fn find(&self, name: &str, scope: &Scope) -> Option<ComponentId> {
        let agent = format!("{}.", self.model.agents[scope.agent.0 as usize].name);
        [format!("{}{name}", scope.prefix), format!("{agent}{name}"), name.to_owned()]
            .iter()
            .find_map(|full| self.places.get(full).copied())
    }

    fn chains(&mut self, items: &[ast::Item], scope: &Scope, root: &[ast::Item]) {
        let mut agent = 0;
        let mut flow = 0;
        for item in items {
            match item {
                ast::Item::Chain(chain) => self.chain(chain, scope),
                ast::Item::Agent(item) => {
                    agent += 1;
                    let prefix = format!("{}.", item.name.text);
                    self.chains(&item.items, &Scope { agent: AgentId(agent), flow: None, prefix }, root);
                }
                ast::Item::Flow(item) => {
                    let id =
                        self.model.flows.iter().position(|one| one.span == item.name.span).unwrap_or(flow);
                    flow += 1;
                    self.chains(&item.items, &Scope { flow: Some(FlowId(id as u32)), ..scope.clone() }, root);
                }
                ast::Item::Component(item) if item.word == ast::ComponentWord::Use => {
                    let template = root.iter().find_map(|other| match other {
                        ast::Item::Template(one) if one.name.text == item.ctor.kind.text() => Some(one),
                        _ => None,
                    });
                    let inner = Scope { prefix: format!("{}.", item.name.text), ..scope.clone() };
                    if let Some(template) = template {
                        self.chains(&template.items, &inner, root);
                    }
                }
                _ => {}
            }
        }
    }

    fn chain(&mut self, chain: &ast::Chain, scope: &Scope) {
        let from = match &chain.from {
            ast::Step::Fan(fan) => fan
                .branches
                .iter()
                .map(|branch| {
                    let nodes = branch.steps.iter().flat_map(|step| self.node(step, scope)).collect();
                    self.start(&branch.first, nodes, scope)
                })
                .collect(),
            ast::Step::Place(place) => vec![self.start(place, vec![], scope)],
            ast::Step::Route(route) => {
                vec![Start { span: route.span, kind: StartKind::Poison, nodes: vec![] }]
            }
        };
        let nodes = chain.steps.iter().flat_map(|step| self.node(step, scope)).collect();
        self.model.chains.push(Chain { agent: scope.agent, flow: scope.flow, span: chain.span, from, nodes });
    }

    fn start(&mut self, place: &ast::Place, nodes: Vec<Node>, scope: &Scope) -> Start {
        let text = place.ctor.kind.text();
        let as_group = place.ctor.as_name.as_ref().map(|name| name.text.clone());
        let kind = if let Some(of) = text.strip_suffix(".errors") {
            match (self.codes.get(of), self.find(of, scope)) {
                (Some((id, _)), _) => StartKind::InterceptorErrors(*id),
                (None, Some(id)) => StartKind::ComponentErrors(id),
                (None, None) => StartKind::Poison,
            }
        } else if let Some((id, _)) = self.codes.get(&text) {
            StartKind::Interceptor(*id)
        } else {
            match self.place(&place.ctor, scope, ast::ExternWord::Source) {
                Some(id) => StartKind::Component { id, as_group },
                None => StartKind::Poison,
            }
        };
        Start { span: place.span, kind, nodes }
    }

    fn place(&mut self, ctor: &ast::Ctor, scope: &Scope, first: ast::ExternWord) -> Option<ComponentId> {
        let text = ctor.kind.text();
        if ctor.args.is_empty()
            && let Some(id) = self.find(&text, scope)
        {
            return Some(id);
        }
        let words = [first, ast::ExternWord::Channel, ast::ExternWord::Sink, ast::ExternWord::Group];
        for ext in words {
            if self.extern_of(ext, &text).is_none() {
                continue;
            }
            let word = match ext {
                ast::ExternWord::Source => Word::Source,
                ast::ExternWord::Channel => Word::Channel,
                ast::ExternWord::Sink => Word::Sink,
                _ => Word::Group,
            };
            let name = format!("line_{}.{text}", self.line(ctor.span));
            let id = self.component(word, ext, name, ctor, ctor.kind.span, true, scope);
            self.members();
            return Some(id);
        }
        None
    }

    fn node(&mut self, step: &ast::ArrowStep, scope: &Scope) -> Option<Node> {
        let span = step.step.span();
        let kind = match &step.step {
            ast::Step::Place(place) => {
                let text = place.ctor.kind.text();
                let steps = self.steps(&place.ctor, &[]);
                if !steps.is_empty() {
                    NodeKind::Steps(steps)
                } else {
                    match self.place(&place.ctor, scope, ast::ExternWord::Sink) {
                        Some(id) => NodeKind::Place {
                            id,
                            optional: place.optional,
                            as_group: place.ctor.as_name.as_ref().map(|name| name.text.clone()),
                        },
                        // Imports are not read here; their interceptors are steps.
                        None if text.contains('.') => NodeKind::Steps(vec![plain_step(&text, span)]),
                        None => NodeKind::Poison,
                    }
                }
            }
            ast::Step::Fan(fan) => {
                let branches = fan
                    .branches
                    .iter()
                    .map(|branch| {
                        let first = ast::ArrowStep {
                            arrow: branch.span.at_start(),
                            step: ast::Step::Place(branch.first.clone()),
                        };
                        let mut nodes: Vec<Node> = self.node(&first, scope).into_iter().collect();
                        nodes.extend(branch.steps.iter().flat_map(|step| self.node(step, scope)));
                        nodes
                    })
                    .collect();
                NodeKind::Fan(branches)
            }
            ast::Step::Route(route) => NodeKind::Route(self.route(route, scope)),
        };
        Some(Node { span, arrow: step.arrow, kind })
    }

    fn steps(&mut self, ctor: &ast::Ctor, owners: &[InterceptorId]) -> Vec<StepModel> {
        let text = ctor.kind.text();
        if let Some((id, code)) = self.codes.get(&text).cloned() {
            let mut owners = owners.to_vec();
            owners.insert(0, id);
            return match &code.body {
                ast::InterceptorBody::Pipeline(steps) => steps
                    .iter()
                    .flat_map(|step| match step {
                        ast::Step::Place(place) => self.steps(&place.ctor, &owners),
                        _ => vec![],
                    })
                    .collect(),
                ast::InterceptorBody::Code(block) => vec![self.code(&text, ctor.span, block, owners)],
            };
        }
        let Some(item) = self.extern_of(ast::ExternWord::Interceptor, &text) else { return vec![] };
        let drops = item.abilities.iter().any(|one| one.text == "drops");
        let mut step = plain_step(&text, ctor.span);
        step.drops = drops;
        step.changes = text != "filter";
        step.owners = owners.to_vec();
        if owners.is_empty() {
            step.step.name = format!("line_{}.{text}", self.line(ctor.span));
        }
        vec![step]
    }

    fn code(&mut self, name: &str, span: Span, block: &ast::Block, owners: Vec<InterceptorId>) -> StepModel {
        let mut step = plain_step(name, span);
        let text = self.files.slice(block.span).to_owned();
        let has = |word: &str| text.split(|c: char| !c.is_alphanumeric()).any(|one| one == word);
        let mut body = Vec::new();
        for stmt in &block.stmts {
            if let ast::StmtKind::Assign { target, value, .. } = &stmt.kind
                && target.root.text == "header"
                && let [ast::Access::Member(header)] = target.path.as_slice()
            {
                let slot = self.slot(&header.text);
                body.push(ir::Stmt::SetHeader { slot, value: expr_of(value) });
            }
        }
        step.step.op = ir::StepOp::Code(ir::Code { locals: 0, body });
        step.drops = has("drop");
        step.fails = has("fail");
        step.changes = has("header") || has("body");
        step.owners = owners;
        step
    }

    fn slot(&mut self, name: &str) -> Slot {
        let index = self.model.slots.iter().position(|slot| slot == name).unwrap_or_else(|| {
            self.model.slots.push(name.to_owned());
            self.model.slots.len() - 1
        });
        Slot(index as u32)
    }

    fn route(&mut self, route: &ast::Route, scope: &Scope) -> RouteModel {
        let text =
            route.subject.as_ref().map(|one| self.files.slice(one.span).to_owned()).unwrap_or_default();
        let subject = route.subject.as_ref().map(|_| match text.strip_prefix("header.") {
            Some(name) => ir::Expr::Header(self.slot(name)),
            None => ir::Expr::Body,
        });
        let values =
            text.starts_with("bool").then(|| vec![ast::Literal::Bool(true), ast::Literal::Bool(false)]);
        let arms = route
            .arms
            .iter()
            .map(|arm| {
                let (when, patterns, guarded, condition_text, test_span) = match &arm.test {
                    ast::ArmTest::Else { span } => (None, vec![], false, None, *span),
                    ast::ArmTest::When(condition) => {
                        let (patterns, text) = match &condition.kind {
                            ast::ExprKind::Binary { op: ast::BinaryOp::Matches, left, right, .. } => {
                                match &right.kind {
                                    ast::ExprKind::Regex(regex) => (
                                        vec![PatternModel {
                                            span: regex.span,
                                            kind: PatternKindModel::Regex {
                                                pattern: regex.pattern.clone(),
                                                flags: regex.flags.clone(),
                                            },
                                        }],
                                        Some(self.files.slice(left.span).to_owned()),
                                    ),
                                    _ => (vec![], None),
                                }
                            }
                            _ => (vec![], None),
                        };
                        (Some(ir::Expr::Const(ir::Const::Bool(true))), patterns, false, text, condition.span)
                    }
                    ast::ArmTest::Patterns { patterns, guard } => {
                        let span = patterns[0].span.to(patterns[patterns.len() - 1].span);
                        let patterns = patterns
                            .iter()
                            .map(|one| PatternModel {
                                span: one.span,
                                kind: match &one.kind {
                                    ast::PatternKind::Literal(value) => {
                                        PatternKindModel::Literal(value.clone())
                                    }
                                    ast::PatternKind::Range(low, high) => {
                                        PatternKindModel::Range(low.clone(), high.clone())
                                    }
                                    ast::PatternKind::Regex(regex) => PatternKindModel::Regex {
                                        pattern: regex.pattern.clone(),
                                        flags: regex.flags.clone(),
                                    },
                                    ast::PatternKind::Null => PatternKindModel::Null,
                                },
                            })
                            .collect();
                        (Some(ir::Expr::Const(ir::Const::Bool(true))), patterns, guard.is_some(), None, span)
                    }
                };
                ArmModel {
                    span: arm.span,
                    test_span,
                    when,
                    patterns,
                    guarded,
                    condition_text,
                    nodes: arm.steps.iter().flat_map(|step| self.node(step, scope)).collect(),
                }
            })
            .collect();
        RouteModel {
            head: route.head,
            all: route.all,
            subject,
            subject_span: route.subject.as_ref().map(|one| one.span),
            subject_type: if text.starts_with("int") { "int" } else { "string" }.into(),
            subject_values: values,
            broken: false,
            locals: 1,
            arms,
        }
    }
}

/// Members are known by their spans until everything is declared.
struct Members<'a> {
    lower_model: &'a mut Model,
    places: &'a BTreeMap<String, ComponentId>,
}

impl Members<'_> {
    fn push(&mut self, (id, _, names): (ComponentId, Scope, Vec<(String, Span)>)) {
        self.lower_model.components[id.0 as usize].members =
            names.into_iter().map(|(_, span)| Member { component: id, span }).collect();
        let _ = self.places;
    }
}

fn plain_step(name: &str, span: Span) -> StepModel {
    StepModel {
        step: ir::Step {
            name: name.to_owned(),
            op: ir::StepOp::Kind { kind: name.to_owned(), settings: Settings::new() },
            origin: OriginId(0),
            errors: None,
        },
        owners: vec![],
        span,
        drops: false,
        fails: false,
        changes: true,
    }
}

fn expr_of(expr: &ast::Expr) -> ir::Expr {
    match &expr.kind {
        ast::ExprKind::Literal(ast::Literal::String(text)) => ir::Expr::Const(ir::Const::Text(text.clone())),
        ast::ExprKind::If { then, otherwise: Some(otherwise), .. } => ir::Expr::If {
            condition: Box::new(ir::Expr::Body),
            then: Box::new(expr_of(then)),
            otherwise: Box::new(expr_of(otherwise)),
        },
        _ => ir::Expr::Body,
    }
}

fn words(word: ast::ComponentWord) -> (Word, ast::ExternWord) {
    match word {
        ast::ComponentWord::Source => (Word::Source, ast::ExternWord::Source),
        ast::ComponentWord::Channel => (Word::Channel, ast::ExternWord::Channel),
        ast::ComponentWord::Sink => (Word::Sink, ast::ExternWord::Sink),
        ast::ComponentWord::Group => (Word::Group, ast::ExternWord::Group),
        ast::ComponentWord::Consumer => (Word::Consumer, ast::ExternWord::Consumer),
        ast::ComponentWord::Cluster => (Word::Cluster, ast::ExternWord::Cluster),
        ast::ComponentWord::Ensemble | ast::ComponentWord::Use => (Word::Ensemble, ast::ExternWord::Ensemble),
    }
}

impl Lower<'_> {
    fn settings_of(&self, settings: &ast::Settings) -> Settings {
        settings.entries.iter().map(|entry| (entry.key.text.clone(), value_of(&entry.value))).collect()
    }
}

fn value_of(expr: &ast::Expr) -> Value {
    match &expr.kind {
        ast::ExprKind::Literal(literal) => match literal {
            ast::Literal::Null => Value::Null,
            ast::Literal::Bool(value) => json!(value),
            ast::Literal::Int(value) => json!(value),
            ast::Literal::Float(value) => json!(value),
            ast::Literal::Duration(value) => json!(value),
            ast::Literal::Size(value) => json!(value),
            ast::Literal::Time(value) => json!(value),
            ast::Literal::String(value) => json!(value),
        },
        ast::ExprKind::Name(name) => json!(name.text),
        ast::ExprKind::List(list) => Value::Array(list.iter().map(value_of).collect()),
        ast::ExprKind::Map(map) => Value::Object(
            map.entries.iter().map(|entry| (entry.key.text.clone(), value_of(&entry.value))).collect(),
        ),
        _ => json!("…"),
    }
}
