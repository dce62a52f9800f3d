//! Parameters and types: values from outside or defaults, their `where`; records.

use std::collections::BTreeMap;

use flow_diag::{Code, Diagnostic, FileId, Files, Span};
use flow_plan::ir::{self, Const};
use flow_plan::value::Value;
use flow_syntax::ast;

use super::{Resolver, ScopeId};
use crate::Options;
use crate::expr::{Frame, Typed, constant_of};
use crate::types::{Record, Type};

/// A value from outside, as a text of its own so that messages can point into it.
pub(crate) struct ParamText {
    file: FileId,
    text: String,
    expr: Option<ast::Expr>,
    /// `--set env=prod2`, `FLOW_ENV`
    origin: String,
}

/// Values from outside by parameter name.
#[derive(Default)]
pub(crate) struct ParamTexts {
    by_name: BTreeMap<String, ParamText>,
}

/// Reads the texts; `--set` wins over the environment.
pub(crate) fn read_param_texts(options: &Options, files: &mut Files) -> ParamTexts {
    let mut texts = ParamTexts::default();
    let from_env = options.env_params.iter().map(|(name, text)| (name, text, true));
    let from_set = options.params.iter().map(|(name, text)| (name, text, false));
    for (name, text, env) in from_env.chain(from_set) {
        let origin = if env { format!("FLOW_{}", name.to_uppercase()) } else { format!("--set {name}") };
        let file = files.add(origin.clone(), text.clone());
        let parsed = flow_syntax::parse_expr(file, text);
        let expr = if parsed.diagnostics.is_empty() { parsed.value } else { None };
        texts.by_name.insert(name.clone(), ParamText { file, text: text.clone(), expr, origin });
    }
    texts
}

/// A `param` and how far it has been evaluated.
pub(crate) struct Param<'a> {
    pub decl: &'a ast::Param,
    pub scope: ScopeId,
    /// `env`, `scrub.keep`: as `--set` names it.
    pub full_name: String,
    pub value: Progress,
}

#[derive(Clone)]
pub(crate) enum Progress {
    Waiting,
    Busy,
    Done(ir::Expr, Type),
}

impl<'a> Resolver<'a> {
    pub(super) fn resolve_params(&mut self) {
        for index in 0..self.params.len() {
            self.param_value(index);
        }
        let known = self.params.iter().map(|param| param.full_name.clone()).collect::<Vec<_>>();
        let texts = self.param_texts;
        for (name, text) in &texts.by_name {
            if known.contains(name) || !text.origin.starts_with("--set") {
                continue;
            }
            let span = Span::new(text.file, 0, text.text.len());
            let mut diagnostic =
                Diagnostic::new(Code::F0101, span, format!("no parameter is named `{name}`"));
            diagnostic = match flow_diag::suggest(name, known.iter().map(String::as_str)) {
                Some(near) => diagnostic.label(format!("did you mean `{near}`?")),
                None => diagnostic.label("not declared in this file"),
            };
            self.report(diagnostic);
        }
    }

    /// The value of a parameter, as a constant.
    pub(crate) fn param_value(&mut self, index: usize) -> Typed {
        match self.params[index].value.clone() {
            Progress::Done(value, ty) => return Typed::new(value, ty),
            Progress::Busy => {
                let name = &self.params[index].decl.name;
                let (span, text) = (name.span, name.text.clone());
                self.report(
                    Diagnostic::new(Code::F0215, span, format!("parameter `{text}` needs its own value"))
                        .label("a circle of defaults"),
                );
                return Typed::poison();
            }
            Progress::Waiting => {}
        }
        self.params[index].value = Progress::Busy;
        let (decl, scope) = (self.params[index].decl, self.params[index].scope);
        let declared = decl.ty.as_ref().map(|ty| self.user_type(scope, ty));
        let (value, ty) = match self.param_source(index, declared.as_ref()) {
            Some((value, ty)) => {
                self.check_param(index, &value, &ty);
                (constant_of(&value), ty)
            }
            None => (ir::Expr::Const(Const::Null), declared.filter(|_| false).unwrap_or(Type::Poison)),
        };
        self.params[index].value = Progress::Done(value.clone(), ty.clone());
        Typed::new(value, ty)
    }

    fn param_source(&mut self, index: usize, declared: Option<&Type>) -> Option<(Value<'static>, Type)> {
        let (decl, scope) = (self.params[index].decl, self.params[index].scope);
        let what = format!("`{}`", decl.name.text);
        let texts = self.param_texts;
        if let Some(text) = texts.by_name.get(&self.params[index].full_name) {
            let ty = match declared {
                Some(ty) => ty.clone(),
                None => match &decl.default {
                    Some(default) => {
                        let mut frame = Frame::constant(scope, &what);
                        self.expr(&mut frame, default, None).ty
                    }
                    None => Type::String,
                },
            };
            let value = self.outside_value(scope, text, &ty, &what)?;
            return Some((value, ty));
        }
        match (&decl.default, declared) {
            (Some(default), Some(ty)) => {
                let value = self.constant(scope, default, ty, &what)?;
                Some((value, ty.clone()))
            }
            (Some(default), None) => {
                let mut frame = Frame::constant(scope, &what);
                let typed = self.expr(&mut frame, default, None);
                if typed.ty == Type::Poison {
                    return None;
                }
                let value = self.evaluate(&typed.expr, &what, default.span)?;
                Some((value, typed.ty))
            }
            (None, Some(ty)) if ty.may_be_null() => Some((Value::Null, ty.clone())),
            (None, _) => {
                let name = &self.params[index].full_name;
                let env = format!("FLOW_{}", decl.name.text.to_uppercase());
                let diagnostic = Diagnostic::new(
                    Code::F0221,
                    decl.name.span,
                    format!("parameter `{}` has no value", decl.name.text),
                )
                .label("neither given nor with a default")
                .help(format!("`--set {name}=…`, `{env}=…` in the environment, or a default: `= …`"));
                self.report(diagnostic);
                None
            }
        }
    }

    fn outside_value(
        &mut self,
        scope: ScopeId,
        text: &ParamText,
        ty: &Type,
        what: &str,
    ) -> Option<Value<'static>> {
        if ty.present().is_text() {
            // bare text is taken as it is; a quoted one is a string of the language
            let quoted = text.text.starts_with(['"', '\'']);
            return match &text.expr {
                Some(expr) if quoted => self.constant(scope, expr, ty, what),
                _ => Some(Value::Text(text.text.clone().into_bytes().into())),
            };
        }
        match &text.expr {
            Some(expr) => self.constant(scope, expr, ty, what),
            None => {
                let span = Span::new(text.file, 0, text.text.len());
                self.report(
                    Diagnostic::new(
                        Code::F0201,
                        span,
                        format!("{what} is {}, `{}` is not", ty.with_article(), text.text),
                    )
                    .label(format!("given by `{}`", text.origin)),
                );
                None
            }
        }
    }

    /// `where`: F0220.
    fn check_param(&mut self, index: usize, value: &Value<'static>, ty: &Type) {
        let (decl, scope) = (self.params[index].decl, self.params[index].scope);
        let Some(check) = &decl.check else { return };
        self.params[index].value = Progress::Done(constant_of(value), ty.clone());
        let Some(result) = self.constant(scope, check, &Type::Bool, "a `where`") else { return };
        if !matches!(result, Value::Bool(false)) {
            return;
        }
        let texts = self.param_texts;
        let (span, given) = match texts.by_name.get(&self.params[index].full_name) {
            Some(text) => (Span::new(text.file, 0, text.text.len()), text.text.clone()),
            None => match &decl.default {
                Some(default) => (default.span, self.files.slice(default.span).to_owned()),
                None => (decl.name.span, String::new()),
            },
        };
        let given = given.trim_matches('"').to_owned();
        self.report(
            Diagnostic::new(
                Code::F0220,
                span,
                format!("`where` refuses `{given}` for parameter `{}`", decl.name.text),
            )
            .label("this value")
            .also(check.span, "the condition"),
        );
    }

    pub(super) fn resolve_types(&mut self) {
        for index in 0..self.types.len() {
            self.declared_type(index);
        }
    }

    /// A `type`.
    pub(crate) fn declared_type(&mut self, index: usize) -> Type {
        if let Some(ty) = &self.types[index].ty {
            return ty.clone();
        }
        let (decl, scope) = (self.types[index].decl, self.types[index].scope);
        if self.types[index].busy {
            self.report(
                Diagnostic::new(
                    Code::F0215,
                    decl.name.span,
                    format!("type `{}` contains itself", decl.name.text),
                )
                .label("would never end")
                .help("use `json` for the inner part"),
            );
            return Type::Poison;
        }
        self.types[index].busy = true;
        let ty = match self.user_type(scope, &decl.ty) {
            Type::Record(record) => {
                let fields = record.fields.clone();
                Type::Record(std::rc::Rc::new(Record { name: Some(decl.name.text.clone()), fields }))
            }
            other => other,
        };
        self.types[index].ty = Some(ty.clone());
        ty
    }

    /// A type that the user wrote.
    pub(crate) fn user_type(&mut self, scope: ScopeId, ty: &ast::TypeExpr) -> Type {
        let base = match &ty.kind {
            ast::TypeKind::Name(name) => self.named_type(scope, name, ty.span),
            ast::TypeKind::Generic(word, args) => match (word.as_str(), args.as_slice()) {
                ("list", [item]) => Type::list(self.user_type(scope, item)),
                ("map", [item]) => Type::map(self.user_type(scope, item)),
                ("map", [key, item]) => {
                    self.user_type(scope, key);
                    Type::map(self.user_type(scope, item))
                }
                ("secret", [_]) => Type::Secret,
                ("list" | "map" | "secret", _) => {
                    let title = format!("`{word}` takes 1 argument, {} given", args.len());
                    self.report(
                        Diagnostic::new(Code::F0210, ty.span, title).help(format!("`{word}<string>`")),
                    );
                    Type::Poison
                }
                _ => {
                    self.unknown_type(scope, word, ty.span);
                    Type::Poison
                }
            },
            ast::TypeKind::Record(fields) => {
                let mut resolved: Vec<(String, Type)> = Vec::with_capacity(fields.len());
                for field in fields {
                    let field_ty = self.user_type(scope, &field.ty);
                    if let Some(first) = fields
                        .iter()
                        .find(|other| other.name.text == field.name.text)
                        .filter(|first| first.name.span != field.name.span)
                    {
                        self.report(
                            Diagnostic::new(
                                Code::F0103,
                                field.name.span,
                                format!("`{}` is declared twice", field.name.text),
                            )
                            .label("again here")
                            .also(first.name.span, "first declared here"),
                        );
                        continue;
                    }
                    resolved.push((field.name.text.clone(), field_ty));
                }
                Type::Record(std::rc::Rc::new(Record { name: None, fields: resolved }))
            }
            ast::TypeKind::OneOf(_) => Type::String,
            ast::TypeKind::Function(args, result) => {
                let args = args.iter().map(|arg| self.user_type(scope, arg)).collect();
                Type::Function(args, Box::new(self.user_type(scope, result)))
            }
            ast::TypeKind::Broken => {
                self.model.incomplete = true;
                Type::Poison
            }
        };
        if ty.optional { base.optional() } else { base }
    }

    fn named_type(&mut self, scope: ScopeId, name: &str, span: Span) -> Type {
        let mut parts = name.split('.');
        let first = parts.next().unwrap_or(name);
        if let Some(mut entity) = self.lookup(scope, first) {
            self.mark_used(entity);
            for part in parts {
                let found = self.members(entity).and_then(|scope| self.scope(scope).names.get(part).copied());
                match found {
                    Some(found) => entity = found,
                    None => {
                        self.unknown_type(scope, name, span);
                        return Type::Poison;
                    }
                }
            }
            self.mark_used(entity);
            match self.entity_kind(entity) {
                super::EntityKind::Type(index) => return self.declared_type(index),
                super::EntityKind::Poison => return Type::Poison,
                _ => {}
            }
        }
        match crate::library::builtin_type(name) {
            Some(ty) if crate::library::USER_TYPES.contains(&name) || name == "any" || name == "secret" => ty,
            Some(ty) => ty,
            None => {
                self.unknown_type(scope, name, span);
                Type::Poison
            }
        }
    }

    fn unknown_type(&mut self, scope: ScopeId, name: &str, span: Span) {
        if self.is_poisoned(name) {
            return;
        }
        let mut candidates = self.type_names(scope);
        if let Some((owner, last)) = name.rsplit_once('.') {
            let members = self.lookup(scope, owner).and_then(|owner| self.members(owner));
            let inside = members.map(|members| self.type_names(members)).unwrap_or_default();
            candidates.extend(inside.iter().map(|one| format!("{owner}.{one}")));
            if self.is_poisoned(owner) || self.is_poisoned(last) {
                return;
            }
        }
        candidates.extend(crate::library::USER_TYPES.iter().map(|name| (*name).to_owned()));
        let diagnostic = Diagnostic::new(Code::F0101, span, format!("no type is named `{name}`"));
        let diagnostic = match flow_diag::suggest(name, candidates.iter().map(String::as_str)) {
            Some(near) => diagnostic.label(format!("did you mean `{near}`?")).fix(span, near),
            None => diagnostic.label("not declared").help(format!(
                "types: {}; yours are declared with `type`",
                crate::library::USER_TYPES.join(", ")
            )),
        };
        self.report(diagnostic);
    }
}
