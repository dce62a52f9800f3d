//! Interceptors in chains: kinds of the library, code and pipelines of the user's.

use flow_diag::{Code, Diagnostic, Span};
use flow_plan::ir;
use flow_syntax::ast::{self, ExternWord, InterceptorBody};

use super::components::apply_sets;
use super::{Resolver, ScopeId};
use crate::expr::{Frame, HeaderRead, State, Var, VarKind};
use crate::library::Kind;
use crate::model::{InterceptorId, NodeKind, StepModel};
use crate::settings::{Given, SettingContext};
use crate::types::Type;

impl<'a> Resolver<'a> {
    /// A declared interceptor as a step of a chain.
    pub(super) fn interceptor_node(
        &mut self,
        scope: ScopeId,
        state: &mut State,
        index: usize,
        ctor: &'a ast::Ctor,
    ) -> NodeKind {
        let steps = self.expand_interceptor(scope, state, index, ctor, &[]);
        match steps {
            Some(steps) => NodeKind::Steps(steps),
            None => {
                // the events go on all the same, as far as the shape is concerned
                self.model.incomplete = true;
                state.broken = true;
                NodeKind::Steps(Vec::new())
            }
        }
    }

    /// A kind written in place as a step of a chain.
    pub(super) fn interceptor_kind_node(
        &mut self,
        scope: ScopeId,
        state: &mut State,
        kind: &'a Kind<'a>,
        ctor: &ast::Ctor,
    ) -> NodeKind {
        let name = self.in_place_name(scope, ctor);
        match self.kind_step(scope, state, kind, ctor, name, Vec::new(), true) {
            Some(step) => NodeKind::Steps(vec![step]),
            None => {
                state.broken = true;
                NodeKind::Steps(Vec::new())
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn kind_step(
        &mut self,
        scope: ScopeId,
        state: &mut State,
        kind: &'a Kind<'a>,
        ctor: &ast::Ctor,
        name: String,
        owners: Vec<InterceptorId>,
        in_chain: bool,
    ) -> Option<StepModel> {
        self.check_absent(kind, "interceptor", "interceptors", ctor.kind.span);
        let context = SettingContext { scope, sort: "interceptor".to_owned(), state: state.clone() };
        let given = Given { args: &ctor.args, settings: ctor.settings.as_ref(), kind_span: ctor.kind.span };
        let resolved = self.settings(&context, kind, given);
        if in_chain {
            self.check_reads(&resolved.reads, state);
        }
        let passes_misses = resolved.choices.iter().any(|choice| choice == "pass");
        let can_fail =
            resolved.fails || kind.can("fail") || resolved.choices.iter().any(|choice| choice == "fail");
        let effects = !kind.sets.is_empty()
            || kind.can("sets_groups")
            || kind.can("sets_keys")
            || !resolved.headers.is_empty();
        let drops = kind.can("drops");
        apply_sets(kind, &resolved.headers, state);
        if kind.can("sets_groups") {
            for (group, sure) in &resolved.groups {
                if *sure && !passes_misses {
                    state.set(group, true, None);
                } else {
                    state.may_set(group);
                }
            }
        }
        if kind.can("sets_keys") {
            for (key, sure, values) in &resolved.keys {
                let known = kind.setting(key).is_none();
                if known && *sure {
                    let before = state.headers.get(key).is_some_and(|info| info.sure);
                    state.set(key, true, if before { None } else { values.clone() });
                } else if known {
                    state.may_set(key);
                }
            }
        } else if kind.sets.is_empty() && !kind.can("sets_groups") && !drops {
            // it may take headers away
            state.forget();
        }
        if resolved.poisoned {
            self.model.incomplete = true;
            return None;
        }
        let origin = self.origin(ctor.kind.span);
        Some(StepModel {
            step: ir::Step {
                name,
                op: ir::StepOp::Kind { kind: kind.name.to_owned(), settings: resolved.settings },
                origin,
                errors: None,
            },
            owners,
            span: ctor.kind.span,
            drops,
            fails: can_fail,
            changes: effects || !drops,
        })
    }

    /// The steps of a declared interceptor with its parameters bound.
    fn expand_interceptor(
        &mut self,
        scope: ScopeId,
        state: &mut State,
        index: usize,
        ctor: &ast::Ctor,
        owners: &[InterceptorId],
    ) -> Option<Vec<StepModel>> {
        let (decl, home, id) = {
            let one = &mut self.interceptors[index];
            one.used = true;
            (one.decl, one.scope, one.id)
        };
        let values = self.bind_params(scope, ctor, "interceptor", &decl.name.text, &decl.params, home);
        let owners = std::iter::once(id).chain(owners.iter().copied()).collect::<Vec<_>>();
        self.expand_with(state, index, home, values, owners, ctor.kind.span)
    }

    fn expand_with(
        &mut self,
        state: &mut State,
        index: usize,
        home: ScopeId,
        values: Vec<Option<(ir::Expr, Type)>>,
        owners: Vec<InterceptorId>,
        used_at: Span,
    ) -> Option<Vec<StepModel>> {
        let decl = self.interceptors[index].decl;
        if self.pipeline_stack.contains(&index) || self.pipeline_stack.len() > 64 {
            let names = self
                .pipeline_stack
                .iter()
                .chain([&index])
                .map(|busy| self.interceptors[*busy].decl.name.text.clone())
                .collect::<Vec<_>>();
            self.report(
                Diagnostic::new(Code::F0215, used_at, "interceptors may not contain themselves")
                    .label(names.join(" → ")),
            );
            return None;
        }
        let name = self.model.interceptors[self.interceptors[index].id.0 as usize].name.clone();
        match &decl.body {
            InterceptorBody::Code(block) => {
                let mut frame = Frame::event(home, state.clone());
                self.bind_vars(&mut frame, &decl.params, values);
                let errors = self.error_count();
                let (body, left) = self.block(&mut frame, block);
                self.report_unused_params(&decl.params, &frame);
                if left {
                    // only `pass` leaves with the event
                    let mut exits = std::mem::take(&mut frame.exits).into_iter();
                    if let Some(first) = exits.next() {
                        *state = first;
                    }
                    for exit in exits {
                        state.merge(&exit);
                    }
                } else {
                    *state = frame.state.clone();
                    for exit in &frame.exits {
                        state.merge(exit);
                    }
                }
                if self.error_count() > errors {
                    self.model.incomplete = true;
                    return None;
                }
                let origin = self.origin(decl.name.span);
                Some(vec![StepModel {
                    step: ir::Step {
                        name,
                        op: ir::StepOp::Code(ir::Code { locals: frame.locals, body }),
                        origin,
                        errors: None,
                    },
                    owners,
                    span: used_at,
                    drops: frame.drops,
                    fails: frame.fails,
                    changes: frame.changes,
                }])
            }
            InterceptorBody::Pipeline(steps) => {
                // parameters of a pipeline are names for its settings
                let inner = self.pipeline_scope(home, decl, values);
                self.pipeline_stack.push(index);
                let mut all = Some(Vec::new());
                for step in steps {
                    let own = match step {
                        ast::Step::Place(place) => {
                            self.pipeline_step(inner, state, place, &name, &owners, steps.len() == 1)
                        }
                        ast::Step::Fan(_) | ast::Step::Route(_) => {
                            self.report(
                                Diagnostic::new(Code::F0201, step.span(), "a pipeline has interceptors only")
                                    .label("not an interceptor")
                                    .help("lists and routes stand in chains"),
                            );
                            None
                        }
                    };
                    match (&mut all, own) {
                        (Some(all), Some(own)) => all.extend(own),
                        _ => all = None,
                    }
                }
                self.pipeline_stack.pop();
                all
            }
        }
    }

    fn pipeline_scope(
        &mut self,
        home: ScopeId,
        decl: &'a ast::Interceptor,
        values: Vec<Option<(ir::Expr, Type)>>,
    ) -> ScopeId {
        if decl.params.is_empty() {
            return home;
        }
        let own = self.scope(home);
        let inner = super::Scope {
            parent: Some(home),
            names: Default::default(),
            agent: own.agent,
            flow: own.flow,
            prefix: own.prefix.clone(),
            imported: own.imported,
        };
        let inner = self.new_scope(inner);
        for (param, value) in decl.params.iter().zip(values) {
            let kind = match value {
                Some((value, ty)) => super::EntityKind::Constant(value, ty),
                None => super::EntityKind::Poison,
            };
            self.declare(inner, &param.name.text, param.name.span, kind);
        }
        inner
    }

    fn pipeline_step(
        &mut self,
        scope: ScopeId,
        state: &mut State,
        place: &'a ast::Place,
        pipeline: &str,
        owners: &[InterceptorId],
        only: bool,
    ) -> Option<Vec<StepModel>> {
        let ctor = &place.ctor;
        let (entity, errors) = self.path_with_errors(scope, &ctor.kind);
        if let Some(entity) = entity {
            self.mark_used(entity);
            return match self.entity_kind(entity) {
                super::EntityKind::Interceptor(index) if !errors => {
                    self.expand_interceptor(scope, state, index, ctor, owners)
                }
                super::EntityKind::Poison => None,
                other => {
                    let what = match other {
                        super::EntityKind::Component(_) => format!("a {}", self.described(entity)),
                        other => other.in_words().to_owned(),
                    };
                    let declared = self.entity_span(entity);
                    let title = format!("`{}` is {what}: a pipeline has interceptors only", ctor.kind.text());
                    self.report(
                        Diagnostic::new(Code::F0201, ctor.kind.span, title)
                            .label("not an interceptor")
                            .also(declared, "declared here"),
                    );
                    None
                }
            };
        }
        let library = self.library;
        let name = ctor.kind.text();
        let Some(kind) = library.kind(ExternWord::Interceptor, &name) else {
            if !self.is_poisoned(&name) {
                let mut names = self.visible(scope, |kind| matches!(kind, super::EntityKind::Interceptor(_)));
                names.extend(library.kind_names(ExternWord::Interceptor).map(str::to_owned));
                if ctor.args.is_empty() && ctor.settings.is_none() {
                    let diagnostic = self.unknown(ctor.kind.first(), &names);
                    self.report(diagnostic);
                } else {
                    self.kind_of(ExternWord::Interceptor, &ctor.kind);
                }
            }
            self.check_loose(scope, ctor);
            return None;
        };
        let step_name = if only { pipeline.to_owned() } else { format!("{pipeline}.{name}") };
        self.kind_step(scope, state, kind, ctor, step_name, owners.to_vec(), false).map(|step| vec![step])
    }

    /// Parameters of code: their values are constants.
    fn bind_vars(
        &mut self,
        frame: &mut Frame,
        params: &[ast::ParamDecl],
        values: Vec<Option<(ir::Expr, Type)>>,
    ) {
        for (param, value) in params.iter().zip(values) {
            let (value, ty) = value.unwrap_or((ir::Expr::Const(ir::Const::Null), Type::Poison));
            self.warn_hidden(frame, &param.name);
            frame.vars.push(Var {
                name: param.name.text.clone(),
                span: param.name.span,
                ty,
                what: VarKind::Constant(value),
                parameter: true,
                values: None,
            });
        }
    }

    /// Headers read at a place of a chain that nothing before it sets.
    pub(super) fn check_reads(&mut self, reads: &[HeaderRead], state: &State) {
        for read in reads {
            if !read.tolerant && !read.possible {
                self.report_never_set(&read.name, read.span, state);
            }
        }
    }

    /// Interceptors that no chain uses are checked on their own.
    pub(super) fn check_unused_interceptors(&mut self) {
        let mut index = 0;
        while index < self.interceptors.len() {
            if !self.interceptors[index].used {
                self.interceptors[index].used = true;
                let (decl, home) = (self.interceptors[index].decl, self.interceptors[index].scope);
                let mut values = Vec::new();
                for param in &decl.params {
                    let ty = param.ty.as_ref().map_or(Type::Any, |ty| self.user_type(home, ty));
                    let value = param.default.as_ref().and_then(|default| {
                        self.constant(home, default, &ty, &format!("`{}`", param.name.text))
                    });
                    let value = match (value, &param.default) {
                        (Some(value), _) => Some((crate::expr::constant_of(&value), ty)),
                        // nobody gives a value; any of the type will do
                        (None, None) => Some((stand_in(&ty), ty)),
                        (None, Some(_)) => None,
                    };
                    values.push(value);
                }
                let mut state = State::unknown();
                let incomplete = self.model.incomplete;
                let errors = self.error_count();
                self.expand_with(&mut state, index, home, values, Vec::new(), decl.name.span);
                if self.error_count() == errors {
                    self.model.incomplete = incomplete;
                }
            }
            index += 1;
        }
    }

    pub(super) fn lower_uncalled_fns(&mut self) {
        for index in 0..self.fns.len() {
            self.lower_uncalled(index);
        }
    }

    /// F0107 for a local or parameter that hides something declared outside.
    pub(crate) fn warn_hidden(&mut self, frame: &Frame, name: &ast::Name) {
        if let Some(var) = frame.var(&name.text) {
            if var.span == name.span {
                return;
            }
            let what = if var.parameter { "parameter" } else { "variable" };
            let title = format!("`{0}` hides the {what} `{0}` declared outside", name.text);
            self.report(
                Diagnostic::new(Code::F0107, name.span, title)
                    .label("hides it from here on")
                    .also(var.span, "declared outside")
                    .help("rename one of them, or assign without `let`"),
            );
        }
    }

    /// F0112 for parameters of functions and interceptors that nothing reads.
    pub(crate) fn report_unused_params(&mut self, params: &[ast::ParamDecl], frame: &Frame) {
        for param in params {
            let text = &param.name.text;
            if text.starts_with('_')
                || frame.was_used(text)
                || self.model.incomplete
                || self.is_poisoned(text)
            {
                continue;
            }
            self.report(
                Diagnostic::new(Code::F0112, param.name.span, format!("parameter `{text}` is never used"))
                    .label("not used")
                    .help(format!("remove it, or call it `_{text}`")),
            );
        }
    }

    /// A parameter of a `fn`.
    pub(crate) fn declare_param(&mut self, frame: &mut Frame, name: &ast::Name, ty: Type) {
        self.warn_hidden(frame, name);
        frame.declare(name, ty, true);
    }
}

/// A constant of a type, for code that nobody gives values.
pub(super) fn stand_in(ty: &Type) -> ir::Expr {
    use ir::Const;
    ir::Expr::Const(match ty {
        Type::Bool => Const::Bool(false),
        Type::Int => Const::Int(1),
        Type::Float => Const::Float(1.0),
        Type::String | Type::Bytes => Const::Text("x".to_owned()),
        Type::Time => Const::Time(0),
        Type::Duration => Const::Duration(1_000_000_000),
        Type::Size => Const::Size(1),
        Type::List(_) => return ir::Expr::List(Vec::new()),
        Type::Map(_) | Type::Record(_) => return ir::Expr::Map(Vec::new()),
        _ => Const::Null,
    })
}
