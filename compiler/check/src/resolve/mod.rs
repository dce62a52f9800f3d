//! Names to things: scopes, templates expanded, components with their settings, chains with their steps. Writes
//! the [`Model`]; says nothing about whether events flow anywhere.

mod chains;
mod components;
mod declare;
mod names;
mod params;
mod places;
mod routes;
mod steps;
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use flow_diag::{Code, Diagnostic, FileId, Files, Span};
use flow_plan::batch::Slot;
use flow_plan::function::Functions;
use flow_plan::ir;
use flow_plan::plan::OriginId;
use flow_plan::value::Value;
use flow_syntax::ast;

use crate::expr::{Frame, HeaderRead, State, UserFn};
use crate::imports::Loaded;
use crate::library::Index;
use crate::model::{AgentId, ComponentId, FlowId, InterceptorId, Model};
use crate::types::Type;

pub(crate) use names::EntityKind;
pub(crate) use params::{ParamTexts, read_param_texts};

/// Templates inside of templates.
const EXPANSION_DEPTH_MAX: usize = 32;
/// Instances of templates in one program.
const INSTANCES_MAX: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ScopeId(u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EntityId(u32);

/// A place where names are declared.
pub(crate) struct Scope {
    parent: Option<ScopeId>,
    names: BTreeMap<String, EntityId>,
    agent: AgentId,
    flow: Option<FlowId>,
    /// Put before the names of components: `paris.`
    prefix: String,
    /// Reached through an import.
    imported: bool,
}

/// Something that was declared.
pub(crate) struct Entity {
    name: String,
    span: Span,
    kind: EntityKind,
    scope: ScopeId,
    used: bool,
}

/// A declared interceptor in one scope.
pub(crate) struct InterceptorDecl<'a> {
    decl: &'a ast::Interceptor,
    scope: ScopeId,
    id: InterceptorId,
    used: bool,
}

pub(crate) struct TypeDecl<'a> {
    decl: &'a ast::TypeDecl,
    scope: ScopeId,
    /// `None` while it is being resolved.
    ty: Option<Type>,
    busy: bool,
}

/// What has still to be resolved of a component.
pub(crate) enum Pending<'a> {
    Component(&'a ast::Component),
    Topic(&'a ast::Topic),
}

/// Resolves a program. `loaded[0]` is the root; `syntax` is what was wrong with the texts.
pub(crate) fn resolve<'a>(
    loaded: &'a [Loaded],
    files: &'a Files,
    library: &'a Index<'a>,
    functions: &'a Functions,
    params: &'a ParamTexts,
    strict: bool,
    syntax: &[Diagnostic],
) -> (Model, Vec<Diagnostic>) {
    let mut resolver = Resolver::new(loaded, files, library, functions, params);
    resolver.strict = strict;
    resolver.syntax_errors = syntax
        .iter()
        .filter(|one| one.severity == flow_diag::Severity::Error)
        .map(|one| (one.code, one.primary.span))
        .collect();
    resolver.run();
    let unused = resolver.unused_templates();
    if !unused.is_empty() {
        // a template that nobody uses is checked as if somebody did, beside the program
        let mut beside = Resolver::new(loaded, files, library, functions, params);
        beside.strict = strict;
        beside.syntax_errors = resolver.syntax_errors.clone();
        beside.with_unused_templates = true;
        beside.run();
        let inside = |span: Span| {
            unused.iter().any(|one| one.file == span.file && one.start <= span.start && span.end <= one.end)
        };
        // what a value would have to be is not known
        let unknowable = [Code::F0206, Code::F0207, Code::F0216, Code::F0220];
        let found = beside
            .diagnostics
            .into_iter()
            .filter(|one| inside(one.primary.span) && !unknowable.contains(&one.code));
        resolver.diagnostics.extend(found);
    }
    (resolver.model, resolver.diagnostics)
}

/// Resolves every default of the library.
pub(crate) fn check_library<'a>(
    library: &'a Index<'a>,
    functions: &'a Functions,
    files: &'a Files,
) -> Vec<Diagnostic> {
    let params = ParamTexts::default();
    let mut resolver = Resolver::new(&[], files, library, functions, &params);
    resolver.keep_library_problems = true;
    for kind in library.kinds.values() {
        resolver.check_defaults(kind);
    }
    resolver.diagnostics
}

pub(crate) struct Resolver<'a> {
    pub files: &'a Files,
    pub library: &'a Index<'a>,
    pub functions: &'a Functions,
    pub model: Model,
    pub diagnostics: Vec<Diagnostic>,
    syntax_errors: Vec<(Code, Span)>,
    /// Mistakes in the library's own defaults are reported: for tests of the library.
    pub keep_library_problems: bool,
    /// F0213 is wanted.
    pub strict: bool,
    loaded: &'a [Loaded],
    param_texts: &'a ParamTexts,
    scopes: Vec<Scope>,
    entities: Vec<Entity>,
    pub fns: Vec<UserFn<'a>>,
    /// Functions being lowered, for circles.
    pub fn_stack: Vec<usize>,
    params: Vec<params::Param<'a>>,
    types: Vec<TypeDecl<'a>>,
    templates: Vec<(&'a ast::Template, ScopeId)>,
    interceptors: Vec<InterceptorDecl<'a>>,
    /// Where the chain stands that is being resolved.
    pub chain_scope: Option<ScopeId>,
    /// Pipelines being flattened, for circles.
    pipeline_stack: Vec<usize>,
    pending: Vec<(ComponentId, ScopeId, Pending<'a>)>,
    uses: Vec<(ScopeId, &'a ast::Component, usize)>,
    chains: Vec<(ScopeId, &'a ast::Chain)>,
    slots: BTreeMap<String, u32>,
    origins: BTreeMap<Span, OriginId>,
    /// Scopes of the loaded files.
    file_scopes: Vec<Option<ScopeId>>,
    /// Names for parts written in place, to keep them apart.
    place_names: BTreeSet<(AgentId, String)>,
    /// Components that a setting names.
    pub referenced: BTreeSet<ComponentId>,
    /// What is known of the events that reach a component.
    arriving: BTreeMap<ComponentId, State>,
    /// Blocks with a bracket that is never closed: what they hold is not known.
    unclosed_scopes: BTreeSet<ScopeId>,
    unclosed_agents: BTreeSet<AgentId>,
    /// Headers that the settings of a component read.
    component_reads: Vec<(ComponentId, Vec<HeaderRead>)>,
    /// Chains that have still to be resolved and lead to a component.
    feeders_left: BTreeMap<ComponentId, usize>,
    library_scope: ScopeId,
    instances: usize,
    used_templates: BTreeSet<usize>,
    with_unused_templates: bool,
    agent_hosts: Vec<(AgentId, ScopeId, &'a ast::Expr)>,
    runtimes: Vec<(ScopeId, &'a ast::Runtime)>,
    tests: Vec<(ScopeId, &'a ast::Test)>,
}

impl<'a> Resolver<'a> {
    pub fn new(
        loaded: &'a [Loaded],
        files: &'a Files,
        library: &'a Index<'a>,
        functions: &'a Functions,
        param_texts: &'a ParamTexts,
    ) -> Resolver<'a> {
        let whole = match loaded.first() {
            Some(file) => Span::new(file.id, 0, files.text(file.id).len()),
            None => Span::new(FileId(0), 0, 0),
        };
        let mut model = Model { origins: vec![whole], ..Model::default() };
        model.agents.push(crate::model::Agent { name: "main".to_owned(), span: whole, hosts: Vec::new() });
        for file in loaded {
            model.poisoned.extend(file.ast.poisoned.iter().cloned());
            model.incomplete |= !file.ast.poisoned.is_empty();
        }
        let library_scope = Scope {
            parent: None,
            names: BTreeMap::new(),
            agent: AgentId(0),
            flow: None,
            prefix: String::new(),
            imported: false,
        };
        Resolver {
            files,
            library,
            functions,
            model,
            diagnostics: Vec::new(),
            syntax_errors: Vec::new(),
            keep_library_problems: false,
            strict: false,
            loaded,
            param_texts,
            scopes: vec![library_scope],
            entities: Vec::new(),
            fns: Vec::new(),
            fn_stack: Vec::new(),
            params: Vec::new(),
            types: Vec::new(),
            templates: Vec::new(),
            interceptors: Vec::new(),
            chain_scope: None,
            pipeline_stack: Vec::new(),
            pending: Vec::new(),
            uses: Vec::new(),
            chains: Vec::new(),
            slots: BTreeMap::new(),
            origins: BTreeMap::from([(whole, OriginId(0))]),
            file_scopes: loaded.iter().map(|_| None).collect(),
            place_names: BTreeSet::new(),
            referenced: BTreeSet::new(),
            arriving: BTreeMap::new(),
            unclosed_scopes: BTreeSet::new(),
            unclosed_agents: BTreeSet::new(),
            component_reads: Vec::new(),
            feeders_left: BTreeMap::new(),
            library_scope: ScopeId(0),
            instances: 0,
            used_templates: BTreeSet::new(),
            with_unused_templates: false,
            agent_hosts: Vec::new(),
            runtimes: Vec::new(),
            tests: Vec::new(),
        }
    }

    fn run(&mut self) {
        if self.loaded.is_empty() {
            return;
        }
        let root = self.declare_file(0, None);
        self.expand_uses();
        self.resolve_types();
        self.resolve_params();
        self.resolve_components();
        self.resolve_runtime(root);
        self.resolve_chains();
        self.check_unused_interceptors();
        self.lower_uncalled_fns();
        self.check_component_reads();
        self.check_tests();
        self.warn_unused(root);
        self.excuse_unclosed();
        self.drop_consequences();
        self.model.slots = self.slots_in_order();
    }

    pub fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Where templates stand that nothing uses.
    fn unused_templates(&self) -> Vec<Span> {
        let unused =
            self.templates.iter().enumerate().filter(|(index, _)| !self.used_templates.contains(index));
        unused.map(|(_, (template, _))| template.span).collect()
    }

    /// A bracket that is never closed hides what comes after it: nobody knows what uses the parts before.
    fn excuse_unclosed(&mut self) {
        for (code, span) in &self.syntax_errors {
            if *code == Code::F0003 {
                for component in &mut self.model.components {
                    component.unused_ok |= component.span.file == span.file;
                }
            }
        }
    }

    /// A value that could not be read has no type worth a message.
    fn drop_consequences(&mut self) {
        let errors = std::mem::take(&mut self.syntax_errors);
        self.diagnostics.retain(|one| {
            let about_values = (Code::F0201..=Code::F0221).contains(&one.code);
            !about_values || !errors.iter().any(|(_, span)| overlap(*span, one.primary.span))
        });
        self.syntax_errors = errors;
    }

    /// Whether a block has a bracket in it that is never closed.
    fn is_unclosed(&self, block: Span) -> bool {
        self.syntax_errors.iter().any(|(code, span)| *code == Code::F0003 && overlap(*span, block))
    }

    /// Whether a step goes on with an arrow that points at nothing; the arrow has its own message.
    fn has_dangling_arrow(&self, step: Span) -> bool {
        self.syntax_errors.iter().any(|(code, arrow)| {
            // what could not be read may count to the step before it
            let between = Span { start: step.end, end: arrow.start, ..step };
            *code == Code::F0004
                && arrow.file == step.file
                && (overlap(*arrow, step)
                    || step.end <= arrow.start && self.files.slice(between).trim().is_empty())
        })
    }

    /// Whether something in a place could not be read.
    fn has_syntax_error(&self, place: Span) -> bool {
        self.syntax_errors.iter().any(|(_, span)| overlap(*span, place))
    }

    /// The origin of a place.
    pub fn origin(&mut self, span: Span) -> OriginId {
        if let Some(origin) = self.origins.get(&span) {
            return *origin;
        }
        let origin = OriginId(self.model.origins.len() as u32);
        self.model.origins.push(span);
        self.origins.insert(span, origin);
        origin
    }

    /// The slot of a header.
    pub fn slot(&mut self, name: &str) -> Slot {
        if let Some(slot) = self.slots.get(name) {
            return Slot(*slot);
        }
        let slot = self.slots.len() as u32;
        self.slots.insert(name.to_owned(), slot);
        self.model.slots.push(name.to_owned());
        Slot(slot)
    }

    fn slots_in_order(&self) -> Vec<String> {
        let mut slots = self.slots.iter().collect::<Vec<_>>();
        slots.sort_by_key(|(_, slot)| **slot);
        slots.into_iter().map(|(name, _)| name.clone()).collect()
    }

    /// A scope without the user's names, for defaults of the library.
    pub fn library_scope(&self) -> ScopeId {
        self.library_scope
    }

    /// Evaluates lowered code that depends on no event.
    pub fn evaluate(&mut self, expr: &ir::Expr, what: &str, span: Span) -> Option<Value<'static>> {
        match flow_plan::eval::eval_const(expr, self.functions, &self.model.functions) {
            Ok(value) => Some(value),
            Err(error) => {
                let message = error.message.trim_end_matches('.').to_owned();
                self.report(
                    Diagnostic::new(Code::F0201, span, format!("{what} cannot be computed: {message}"))
                        .label("fails"),
                );
                None
            }
        }
    }

    /// A constant of a type.
    pub fn constant(
        &mut self,
        scope: ScopeId,
        expr: &ast::Expr,
        want: &Type,
        what: &str,
    ) -> Option<Value<'static>> {
        let mut frame = Frame::constant(scope, what);
        let before = self.diagnostics.len();
        let typed = self.expr_of(&mut frame, expr, want, what);
        if typed.ty == Type::Poison
            || self.diagnostics[before..].iter().any(|one| one.severity == flow_diag::Severity::Error)
        {
            return None;
        }
        self.evaluate(&typed.expr, what, expr.span)
    }

    fn scope(&self, scope: ScopeId) -> &Scope {
        &self.scopes[scope.0 as usize]
    }

    fn new_scope(&mut self, scope: Scope) -> ScopeId {
        self.scopes.push(scope);
        ScopeId(self.scopes.len() as u32 - 1)
    }

    /// Hosts of the agent that a scope belongs to.
    pub fn hosts_of(&self, scope: ScopeId) -> Vec<String> {
        let agent = self.scope(scope).agent;
        self.model.agents.get(agent.0 as usize).map(|agent| agent.hosts.clone()).unwrap_or_default()
    }

    /// A name that stands in text that could not be read.
    pub fn is_poisoned(&self, name: &str) -> bool {
        self.model.poisoned.contains(name)
    }
}

fn overlap(a: Span, b: Span) -> bool {
    a.file == b.file && a.start < b.end && b.start < a.end
}
