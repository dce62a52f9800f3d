//! Calls: functions of the library with their overloads and type variables, and the user's own.

use flow_diag::{Code, Diagnostic, Span};
use flow_plan::ir;
use flow_syntax::ast::{self, ExprKind};

use super::{Frame, Typed};
use crate::library::{Signature, SignatureParam};
use crate::resolve::{EntityKind, Resolver};
use crate::settings::check_time_format;
use crate::types::{Bindings, Type, unify};

/// An argument while the overload is looked for.
enum Argument<'e> {
    Typed(Typed),
    /// Typed when the overload says what its parameter is.
    Lambda(&'e ast::Name, &'e ast::Expr),
}

impl<'a> Resolver<'a> {
    pub(super) fn call(
        &mut self,
        frame: &mut Frame,
        span: Span,
        function: &ast::Expr,
        args: &[ast::CallArg],
        args_span: Span,
        want: Option<&Type>,
    ) -> Typed {
        let name = match &function.kind {
            ExprKind::Name(name) => {
                if let Some(entity) = self.lookup(frame.scope, &name.text) {
                    return self.call_entity(frame, span, entity, name, args, args_span);
                }
                name
            }
            ExprKind::Member { object, name } => {
                if let ExprKind::Name(root) = &object.kind
                    && frame.var(&root.text).is_none()
                    && let Some(entity) = self.lookup(frame.scope, &root.text)
                    && self.has_members(entity)
                {
                    self.mark_used(entity);
                    return match self.member_entity(entity, name) {
                        Some(found) => self.call_entity(frame, span, found, name, args, args_span),
                        None => self.poisoned_call(frame, args),
                    };
                }
                self.report(
                    Diagnostic::new(
                        Code::F0101,
                        name.span,
                        format!("no function is named `{}` here", name.text),
                    )
                    .label("values have no functions of their own")
                    .help(format!(
                        "write `{}({}, …)`",
                        name.text,
                        self.files.slice(object.span)
                    )),
                );
                return self.poisoned_call(frame, args);
            }
            _ => {
                self.report(
                    Diagnostic::new(Code::F0201, function.span, "only functions can be called")
                        .label("not a function"),
                );
                return self.poisoned_call(frame, args);
            }
        };
        let library = self.library;
        let Some(overloads) = library.functions.get(name.text.as_str()) else {
            if !self.is_poisoned(&name.text) {
                let mut candidates =
                    library.functions.keys().map(|name| (*name).to_owned()).collect::<Vec<_>>();
                candidates.extend(self.function_names(frame.scope));
                let diagnostic = match flow_diag::suggest(&name.text, candidates.iter().map(String::as_str)) {
                    Some(near) => Diagnostic::new(
                        Code::F0101,
                        name.span,
                        format!("no function is named `{}`", name.text),
                    )
                    .label(format!("did you mean `{near}`?"))
                    .fix(name.span, near),
                    None => Diagnostic::new(
                        Code::F0101,
                        name.span,
                        format!("no function is named `{}`", name.text),
                    )
                    .label("not declared")
                    .help("`flowc list functions` shows those of the language; yours are declared with `fn`"),
                };
                self.report(diagnostic);
            }
            return self.poisoned_call(frame, args);
        };
        self.call_library(frame, span, name, overloads, args, args_span, want)
    }

    fn poisoned_call(&mut self, frame: &mut Frame, args: &[ast::CallArg]) -> Typed {
        for arg in args {
            if !matches!(arg.value.kind, ExprKind::Lambda { .. }) {
                self.expr(frame, &arg.value, None);
            }
        }
        Typed::poison()
    }

    fn call_entity(
        &mut self,
        frame: &mut Frame,
        span: Span,
        entity: crate::resolve::EntityId,
        name: &ast::Name,
        args: &[ast::CallArg],
        args_span: Span,
    ) -> Typed {
        self.mark_used(entity);
        match self.entity_kind(entity) {
            EntityKind::Fn(index) => self.call_user(frame, span, index, name, args, args_span),
            EntityKind::Poison => self.poisoned_call(frame, args),
            other => {
                let what = other.in_words();
                let declared = self.entity_span(entity);
                self.report(
                    Diagnostic::new(
                        Code::F0201,
                        name.span,
                        format!("`{}` is {what}, not a function", name.text),
                    )
                    .label("cannot be called")
                    .also(declared, "declared here"),
                );
                self.poisoned_call(frame, args)
            }
        }
    }

    fn call_user(
        &mut self,
        frame: &mut Frame,
        span: Span,
        index: usize,
        name: &ast::Name,
        args: &[ast::CallArg],
        args_span: Span,
    ) -> Typed {
        let Some(signature) = self.user_signature(index, name.span) else {
            return self.poisoned_call(frame, args);
        };
        let params = signature.params.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>();
        let shown = signature.shown.clone();
        let Some(order) = self.match_arguments(name, &params, args, args_span, &shown) else {
            return self.poisoned_call(frame, args);
        };
        let mut lowered = Vec::with_capacity(order.len());
        let mut fails = signature.fails;
        for (slot, (param, ty, default)) in order.iter().zip(&signature.params) {
            match slot {
                Some(position) => {
                    let what = format!("`{param}` of `{}`", name.text);
                    let typed = self.expr_of(frame, &args[*position].value, ty, &what);
                    fails |= typed.fails;
                    lowered.push(typed.expr);
                }
                None => match default {
                    Some(value) => lowered.push(value.clone()),
                    None => {
                        self.report(
                            Diagnostic::new(
                                Code::F0210,
                                args_span,
                                format!("`{}` needs an argument for `{param}`", name.text),
                            )
                            .label("missing here")
                            .help(shown.clone()),
                        );
                        lowered.push(ir::Expr::Const(ir::Const::Null));
                    }
                },
            }
        }
        if signature.fails {
            self.advise_failure(frame, span);
        }
        let origin = self.origin(span);
        let Some(function) = signature.index else { return Typed::poison() };
        Typed::new(ir::Expr::CallUser { function, args: lowered, origin }, signature.result.clone())
            .fails(fails)
    }

    /// Which argument each parameter gets; F0210 when they do not fit together.
    fn match_arguments(
        &mut self,
        name: &ast::Name,
        params: &[&str],
        args: &[ast::CallArg],
        args_span: Span,
        shown: &str,
    ) -> Option<Vec<Option<usize>>> {
        let mut order = vec![None; params.len()];
        let mut next = 0;
        for (position, arg) in args.iter().enumerate() {
            let at = match &arg.name {
                Some(given) => match params.iter().position(|param| *param == given.text) {
                    Some(at) => at,
                    None => {
                        let mut diagnostic = Diagnostic::new(
                            Code::F0210,
                            given.span,
                            format!("`{}` has no parameter `{}`", name.text, given.text),
                        )
                        .help(shown.to_owned());
                        if let Some(near) = flow_diag::suggest(&given.text, params.iter().copied()) {
                            diagnostic =
                                diagnostic.label(format!("did you mean `{near}`?")).fix(given.span, near);
                        }
                        self.report(diagnostic);
                        return None;
                    }
                },
                None => {
                    next += 1;
                    next - 1
                }
            };
            if at >= params.len() {
                self.report(
                    Diagnostic::new(
                        Code::F0210,
                        arg.value.span,
                        format!("`{}` takes {}, {} given", name.text, count(params.len()), args.len()),
                    )
                    .label("one too many")
                    .help(shown.to_owned()),
                );
                return None;
            }
            if order[at].is_some() {
                self.report_given_twice(params[at], args_span, arg.value.span);
                return None;
            }
            order[at] = Some(position);
        }
        Some(order)
    }

    #[allow(clippy::too_many_arguments)]
    fn call_library(
        &mut self,
        frame: &mut Frame,
        span: Span,
        name: &ast::Name,
        overloads: &'a [Signature<'a>],
        args: &[ast::CallArg],
        args_span: Span,
        want: Option<&Type>,
    ) -> Typed {
        if overloads.iter().all(|overload| overload.absent) {
            self.report(
                Diagnostic::new(
                    Code::F0116,
                    name.span,
                    format!("this build has no `{}` function", name.text),
                )
                .label("declared, but not built in")
                .help("`flowc list functions` shows what it has"),
            );
        }
        // the most promising overload tells the arguments what is wanted of them
        let fitting = overloads.iter().filter(|overload| accepts_count(overload, args)).collect::<Vec<_>>();
        let hint = match fitting.as_slice() {
            [only] => Some(*only),
            _ => None,
        };
        let arguments = args
            .iter()
            .enumerate()
            .map(|(position, arg)| match &arg.value.kind {
                ExprKind::Lambda { param, body } => Argument::Lambda(param, body),
                _ => {
                    let hint = hint.and_then(|hint| parameter_of(hint, position, arg)).map(|param| &param.ty);
                    let hint = hint.filter(|ty| !ty.is_dynamic());
                    Argument::Typed(self.expr(frame, &arg.value, hint.or(want.filter(|_| false))))
                }
            })
            .collect::<Vec<_>>();
        if arguments.iter().any(|arg| matches!(arg, Argument::Typed(typed) if typed.ty == Type::Poison)) {
            // one overload still says what the result is
            let result = fitting.first().map(|overload| overload.result.clone());
            let same = fitting.iter().all(|overload| Some(&overload.result) == result.as_ref());
            let mut poison = Typed::poison();
            poison.ty = match result {
                Some(ty) if same && !matches!(ty, Type::Variable(_) | Type::List(_) | Type::Map(_)) => ty,
                _ => Type::Poison,
            };
            poison.fails = true;
            return poison;
        }
        if fitting.is_empty() {
            self.report_count(name, overloads, args, args_span);
            return Typed::poison();
        }
        for dynamic in [false, true] {
            for overload in &fitting {
                if let Some((bindings, order)) = bind(overload, args, &arguments, dynamic) {
                    return self.apply_overload(frame, span, overload, bindings, &order, args, arguments);
                }
            }
        }
        self.report_arguments(name, &fitting, args, &arguments);
        let mut poison = Typed::poison();
        poison.fails = true;
        poison
    }

    #[allow(clippy::too_many_arguments)]
    fn apply_overload(
        &mut self,
        frame: &mut Frame,
        span: Span,
        overload: &Signature<'a>,
        mut bindings: Bindings,
        order: &[Option<usize>],
        args: &[ast::CallArg],
        arguments: Vec<Argument<'_>>,
    ) -> Typed {
        let mut fails = overload.can_fail;
        if overload.can_fail {
            self.advise_failure(frame, span);
        }
        let mut arguments = arguments.into_iter().map(Some).collect::<Vec<_>>();
        let mut lowered = Vec::with_capacity(order.len());
        for (param, position) in overload.params.iter().zip(order) {
            let Some(position) = position else {
                let default = match param.default {
                    Some(default) => self.library_constant(default, &param.ty),
                    None => ir::Expr::Const(ir::Const::Null),
                };
                lowered.push(default);
                continue;
            };
            match arguments[*position].take() {
                Some(Argument::Typed(typed)) => {
                    fails |= typed.fails;
                    let value = &args[*position].value;
                    if param.name == "format"
                        && let ExprKind::Literal(ast::Literal::String(format)) = &value.kind
                    {
                        let inner = Span {
                            start: value.span.start + 1,
                            end: value.span.end.saturating_sub(1),
                            ..value.span
                        };
                        check_time_format(format, inner, &mut self.diagnostics);
                    }
                    let mut expr = typed.expr;
                    if *param.ty.present() == Type::Float
                        && let ir::Expr::Const(ir::Const::Int(int)) = expr
                    {
                        expr = ir::Expr::Const(ir::Const::Float(int as f64));
                    }
                    lowered.push(expr);
                }
                Some(Argument::Lambda(name, body)) => {
                    let (input, output) = match &param.ty {
                        Type::Function(inputs, output) => (
                            inputs.first().map_or(Type::Json, |input| bindings.apply(input)),
                            (**output).clone(),
                        ),
                        _ => (Type::Json, Type::Any),
                    };
                    let (typed, result) = self.lambda(frame, name, body, &input);
                    fails |= typed.fails;
                    if !unify(&output, &result, &mut bindings, true) {
                        let what = format!("what `{}` gives", self.files.slice(args[*position].value.span));
                        let given = Typed::new(typed.expr.clone(), result);
                        self.expect_type(&given, &bindings.apply(&output), body, &what);
                    }
                    lowered.push(typed.expr);
                }
                None => lowered.push(ir::Expr::Const(ir::Const::Null)),
            }
        }
        let origin = self.origin(span);
        let ty = match bindings.apply(&overload.result) {
            Type::Any => Type::Json,
            ty => ty,
        };
        let function = overload.name.to_owned();
        Typed::new(ir::Expr::Call { function, args: lowered, origin }, ty).fails(fails)
    }

    fn report_count(
        &mut self,
        name: &ast::Name,
        overloads: &[Signature<'_>],
        args: &[ast::CallArg],
        args_span: Span,
    ) {
        // a wrong parameter name is a mistake of its own
        for arg in args {
            if let Some(given) = &arg.name
                && !overloads.iter().any(|one| one.params.iter().any(|param| param.name == given.text))
            {
                let names = overloads.iter().flat_map(|one| one.params.iter().map(|param| param.name));
                let mut diagnostic = Diagnostic::new(
                    Code::F0210,
                    given.span,
                    format!("`{}` has no parameter `{}`", name.text, given.text),
                );
                if let Some(near) = flow_diag::suggest(&given.text, names) {
                    diagnostic = diagnostic.label(format!("did you mean `{near}`?")).fix(given.span, near);
                }
                for overload in overloads {
                    diagnostic = diagnostic.help(overload.text());
                }
                self.report(diagnostic);
                return;
            }
        }
        let most = overloads.iter().map(|one| one.params.len()).max().unwrap_or(0);
        let least = overloads
            .iter()
            .map(|one| one.params.iter().filter(|param| param.default.is_none()).count())
            .min()
            .unwrap_or(0);
        let takes = if args.len() > most { most } else { least };
        let at = match args.get(most) {
            Some(extra) if args.len() > most => extra.value.span,
            _ => args_span,
        };
        let mut diagnostic = Diagnostic::new(
            Code::F0210,
            at,
            format!("`{}` takes {}, {} given", name.text, count(takes), args.len()),
        )
        .label(if args.len() > most { "one too many" } else { "not enough" });
        for overload in overloads {
            diagnostic = diagnostic.help(overload.text());
        }
        self.report(diagnostic);
    }

    fn report_arguments(
        &mut self,
        name: &ast::Name,
        overloads: &[&Signature<'_>],
        args: &[ast::CallArg],
        arguments: &[Argument<'_>],
    ) {
        // only null in the way
        for overload in overloads {
            let mut bindings = Bindings::default();
            let mut nulls = Vec::new();
            let fits = args.iter().zip(arguments).enumerate().all(|(position, (arg, argument))| {
                let (Some(param), Argument::Typed(typed)) = (parameter_of(overload, position, arg), argument)
                else {
                    return true;
                };
                if unify(&param.ty, &typed.ty, &mut bindings, true) {
                    return true;
                }
                nulls.push((position, param));
                typed.ty != Type::Null && unify(&param.ty, typed.ty.present(), &mut bindings, true)
            });
            if fits && let Some((position, param)) = nulls.first() {
                if let Argument::Typed(typed) = &arguments[*position] {
                    let want = param.ty.clone();
                    let typed = typed.clone();
                    self.report_null(&typed, args[*position].value.span, &want);
                }
                return;
            }
        }
        // the overload that goes along furthest
        let mut best: Option<(usize, usize, &Signature<'_>)> = None;
        for overload in overloads {
            let mut bindings = Bindings::default();
            let wrong =
                args.iter().zip(arguments).enumerate().position(|(position, (arg, argument))| {
                    match (parameter_of(overload, position, arg), argument) {
                        (Some(param), Argument::Typed(typed)) => {
                            !unify(&param.ty, &typed.ty, &mut bindings, true)
                        }
                        (Some(param), Argument::Lambda(..)) => !matches!(param.ty, Type::Function(..)),
                        (None, _) => true,
                    }
                });
            if let Some(wrong) = wrong
                && best.is_none_or(|(at, ..)| wrong > at)
            {
                best = Some((wrong, wrong, overload));
            }
        }
        let Some((wrong, _, overload)) = best else { return };
        let Some(param) = parameter_of(overload, wrong, &args[wrong]) else { return };
        // a type variable is called what the arguments before made of it
        let bound = |overload: &Signature<'_>, ty: &Type| {
            let mut bindings = Bindings::default();
            for (position, (arg, argument)) in args.iter().zip(arguments).enumerate().take(wrong) {
                if let (Some(param), Argument::Typed(typed)) =
                    (parameter_of(overload, position, arg), argument)
                {
                    unify(&param.ty, &typed.ty, &mut bindings, true);
                }
            }
            bindings.apply(ty)
        };
        let wanted = overloads
            .iter()
            .filter_map(|one| parameter_of(one, wrong, &args[wrong]).map(|param| bound(one, &param.ty)))
            .map(|ty| ty.present().with_article())
            .fold(Vec::new(), |mut all: Vec<String>, ty| {
                if !all.contains(&ty) {
                    all.push(ty);
                }
                all
            });
        match &arguments[wrong] {
            Argument::Typed(typed) if wanted.len() == 1 => {
                let want = bound(overload, &param.ty);
                let what = format!("`{}` of `{}`", param.name, name.text);
                let typed = typed.clone();
                self.expect_type(&typed, &want, &args[wrong].value, &what);
            }
            argument => {
                let (given, shown) = match argument {
                    Argument::Typed(typed) => (typed.ty.with_article(), typed.ty.to_string()),
                    Argument::Lambda(..) => ("a function".to_owned(), "a function".to_owned()),
                };
                let mut diagnostic = Diagnostic::new(
                    Code::F0201,
                    args[wrong].value.span,
                    format!(
                        "`{}` of `{}` is {}, this is {given}",
                        param.name,
                        name.text,
                        wanted.join(" or ")
                    ),
                )
                .label(shown);
                for overload in overloads.iter().take(3) {
                    diagnostic = diagnostic.help(overload.text());
                }
                self.report(diagnostic);
            }
        }
    }
}

fn accepts_count(overload: &Signature<'_>, args: &[ast::CallArg]) -> bool {
    if args.len() > overload.params.len() {
        return false;
    }
    let mut given = vec![false; overload.params.len()];
    for (position, arg) in args.iter().enumerate() {
        match &arg.name {
            Some(name) => match overload.params.iter().position(|param| param.name == name.text) {
                Some(at) if !given[at] => given[at] = true,
                _ => return false,
            },
            None if given[position] => return false,
            None => given[position] = true,
        }
    }
    overload.params.iter().zip(given).all(|(param, given)| given || param.default.is_some())
}

fn parameter_of<'s, 'l>(
    overload: &'s Signature<'l>,
    position: usize,
    arg: &ast::CallArg,
) -> Option<&'s SignatureParam<'l>> {
    match &arg.name {
        Some(name) => overload.params.iter().find(|param| param.name == name.text),
        None => overload.params.get(position),
    }
}

fn bind(
    overload: &Signature<'_>,
    args: &[ast::CallArg],
    arguments: &[Argument<'_>],
    dynamic: bool,
) -> Option<(Bindings, Vec<Option<usize>>)> {
    let mut bindings = Bindings::default();
    let mut order = vec![None; overload.params.len()];
    for (position, (arg, argument)) in args.iter().zip(arguments).enumerate() {
        let at = match &arg.name {
            Some(name) => overload.params.iter().position(|param| param.name == name.text)?,
            None => position,
        };
        let param = overload.params.get(at)?;
        let fits = match argument {
            Argument::Lambda(..) => matches!(param.ty, Type::Function(..)),
            Argument::Typed(typed) => {
                unify(&param.ty, &typed.ty, &mut bindings, dynamic)
                    || (param.ty == Type::Float
                        && matches!(typed.expr, ir::Expr::Const(ir::Const::Int(_)))
                        && dynamic)
            }
        };
        if !fits {
            return None;
        }
        order[at] = Some(position);
    }
    Some((bindings, order))
}

pub(crate) fn count(number: usize) -> String {
    match number {
        0 => "no arguments".to_owned(),
        1 => "1 argument".to_owned(),
        more => format!("{more} arguments"),
    }
}
