//! The user's `fn`s: lowered when first called, so that a call knows the result and a circle is found.

use flow_diag::{Code, Diagnostic, Span};
use flow_plan::ir;
use flow_syntax::ast;

use super::{Frame, Typed};
use crate::resolve::{Resolver, ScopeId};
use crate::types::Type;

/// A `fn` and how far it has been lowered.
pub(crate) struct UserFn<'a> {
    pub decl: &'a ast::FnDecl,
    pub scope: ScopeId,
    /// The name that runs show: `luhn`, `scrub.luhn`.
    pub name: String,
    pub progress: Progress,
    /// The place of the call that is being followed, for the chain of F0215.
    called_at: Option<Span>,
}

#[derive(Clone)]
pub(crate) enum Progress {
    Waiting,
    Busy,
    Done(std::rc::Rc<UserSignature>),
}

/// What a call needs to know.
pub(crate) struct UserSignature {
    pub params: Vec<(String, Type, Option<ir::Expr>)>,
    pub result: Type,
    pub fails: bool,
    /// Its place in the plan.
    pub index: Option<u32>,
    pub shown: String,
}

impl<'a> UserFn<'a> {
    pub fn new(decl: &'a ast::FnDecl, scope: ScopeId, name: String) -> UserFn<'a> {
        UserFn { decl, scope, name, progress: Progress::Waiting, called_at: None }
    }
}

impl<'a> Resolver<'a> {
    /// The signature, lowering the body if that has not been done; `None` in a circle of calls.
    pub(super) fn user_signature(&mut self, index: usize, call: Span) -> Option<std::rc::Rc<UserSignature>> {
        match self.fns[index].progress.clone() {
            Progress::Done(signature) => Some(signature),
            Progress::Busy => {
                self.report_recursion(index, call);
                None
            }
            Progress::Waiting => {
                self.fns[index].called_at = Some(call);
                self.fn_stack.push(index);
                let signature = self.lower_fn(index);
                self.fn_stack.pop();
                Some(signature)
            }
        }
    }

    /// Lowers a function nobody calls.
    pub(crate) fn lower_uncalled(&mut self, index: usize) {
        let span = self.fns[index].decl.name.span;
        self.user_signature(index, span);
    }

    fn report_recursion(&mut self, index: usize, call: Span) {
        let start = self.fn_stack.iter().position(|&busy| busy == index).unwrap_or(0);
        let circle = self.fn_stack[start..].to_vec();
        let mut names = circle.iter().map(|&busy| self.fns[busy].decl.name.text.clone()).collect::<Vec<_>>();
        names.push(self.fns[index].decl.name.text.clone());
        let title = "functions may not call themselves".to_owned();
        let mut diagnostic = Diagnostic::new(Code::F0215, call, title).label(names.join(" → "));
        for &busy in circle.iter().skip(1) {
            if let Some(at) = self.fns[busy].called_at
                && at != call
            {
                diagnostic =
                    diagnostic.also(at, format!("`{}` is called here", self.fns[busy].decl.name.text));
            }
        }
        self.report(diagnostic.help("use `for` over a list"));
    }

    fn lower_fn(&mut self, index: usize) -> std::rc::Rc<UserSignature> {
        self.fns[index].progress = Progress::Busy;
        let (decl, scope) = (self.fns[index].decl, self.fns[index].scope);
        let mut frame = Frame::function(scope);
        let mut params = Vec::with_capacity(decl.params.len());
        for param in &decl.params {
            let ty = match &param.ty {
                Some(ty) => self.user_type(scope, ty),
                None => Type::Json,
            };
            let default = param.default.as_ref().map(|default| {
                let what = format!("`{}`", param.name.text);
                match self.constant(scope, default, &ty, &what) {
                    Some(value) => super::constant_of(&value),
                    None => ir::Expr::Const(ir::Const::Null),
                }
            });
            self.declare_param(&mut frame, &param.name, ty.clone());
            params.push((param.name.text.clone(), ty, default));
        }
        let declared = decl.result.as_ref().map(|ty| self.user_type(scope, ty));
        frame.result = declared.clone();
        let (body, leaves) = self.block(&mut frame, &decl.body);
        let result = match (&declared, frame.returned.clone()) {
            (Some(ty), returned) => {
                if !leaves && *ty != Type::Poison && !ty.may_be_null() {
                    let given =
                        if returned.is_some() { "may end without `return`" } else { "returns nothing" };
                    self.report(
                        Diagnostic::new(
                            Code::F0212,
                            decl.name.span,
                            format!("`{}` {given}, it says {ty}", decl.name.text),
                        )
                        .label("needs a `return` at its end")
                        .also(decl.result.as_ref().map_or(decl.name.span, |ty| ty.span), "said here"),
                    );
                }
                ty.clone()
            }
            (None, Some(ty)) if leaves => ty,
            (None, Some(ty)) => ty.optional(),
            (None, None) => Type::Null,
        };
        self.report_unused_params(&decl.params, &frame);
        let shown = {
            let params = params.iter().map(|(name, ty, _)| format!("{name}: {ty}")).collect::<Vec<_>>();
            format!("{}({}) -> {result}", decl.name.text, params.join(", "))
        };
        let position = self.model.functions.len() as u32;
        self.model.functions.push(ir::Function {
            name: self.fns[index].name.clone(),
            params: decl.params.len() as u32,
            locals: frame.locals,
            body,
        });
        let signature = std::rc::Rc::new(UserSignature {
            params,
            result,
            fails: frame.fails,
            index: Some(position),
            shown,
        });
        self.fns[index].progress = Progress::Done(signature.clone());
        signature
    }

    /// `return value`
    pub(super) fn return_value(
        &mut self,
        frame: &mut Frame,
        value: Option<&ast::Expr>,
        span: Span,
    ) -> Option<ir::Expr> {
        let Some(value) = value else {
            let null = Typed::constant(ir::Const::Null, Type::Null);
            self.returned(frame, &null, span);
            return None;
        };
        let want = frame.result.clone();
        let typed = self.expr(frame, value, want.as_ref());
        let typed = match &want {
            Some(want) => self.decoded(typed, want, value.span),
            None => typed,
        };
        frame.fails |= typed.fails;
        self.returned(frame, &typed, value.span);
        Some(typed.expr)
    }

    fn returned(&mut self, frame: &mut Frame, typed: &Typed, span: Span) {
        frame.returned = Some(match frame.returned.take() {
            None => typed.ty.clone(),
            Some(before) => before.join(&typed.ty).unwrap_or(Type::Json),
        });
        let Some(want) = frame.result.clone() else { return };
        if typed.ty.fits(&want) {
            return;
        }
        if typed.ty.may_be_null() && typed.ty.present().fits(&want) && typed.ty != Type::Null {
            self.report_null(typed, span, &want);
            return;
        }
        self.report(
            Diagnostic::new(
                Code::F0212,
                span,
                format!("`return` gives {}, the function says {want}", typed.ty),
            )
            .label(typed.ty.to_string()),
        );
    }
}
