//! Names in expressions: locals, the event, parameters, and what can be reached with a dot or an index.

use flow_diag::{Code, Diagnostic, Span};
use flow_plan::ir::{self, Const};
use flow_syntax::ast::{self, ExprKind};

use super::narrow::Key;
use super::{Frame, HeaderRead, Mode, Typed, VarKind};
use crate::resolve::{EntityKind, Resolver};
use crate::types::Type;

/// The words of the event.
const EVENT_WORDS: &[&str] = &["header", "body", "time", "event"];

/// What other languages call the words for nothing, yes and no.
const ALIASES: &[(&str, &str)] = &[
    ("nil", "null"),
    ("None", "null"),
    ("none", "null"),
    ("NULL", "null"),
    ("undefined", "null"),
    ("True", "true"),
    ("TRUE", "true"),
    ("yes", "true"),
    ("False", "false"),
    ("FALSE", "false"),
    ("no", "false"),
];

impl Resolver<'_> {
    pub(super) fn name(&mut self, frame: &mut Frame, name: &ast::Name) -> Typed {
        if let Some(var) = frame.var(&name.text).cloned() {
            frame.used.insert(name.text.clone());
            return match &var.what {
                VarKind::Local(local) => {
                    let key = Key::Local(*local);
                    let mut ty = var.ty.clone();
                    if frame.narrowed.contains(&key) {
                        ty = ty.present().clone();
                    }
                    Typed {
                        expr: ir::Expr::Local(*local),
                        ty,
                        fails: false,
                        values: var.values.clone(),
                        key: Some(key),
                    }
                }
                VarKind::Constant(value) => Typed::new(value.clone(), var.ty.clone()),
            };
        }
        if let Some(entity) = self.lookup(frame.scope, &name.text) {
            return self.entity_value(entity, name);
        }
        if EVENT_WORDS.contains(&name.text.as_str()) {
            return self.event_word(frame, name);
        }
        if self.is_poisoned(&name.text) {
            return Typed::poison();
        }
        let mut candidates = frame.vars.iter().map(|var| var.name.clone()).collect::<Vec<_>>();
        candidates.extend(self.value_names(frame.scope));
        if frame.sees_event() {
            candidates.extend(EVENT_WORDS.iter().map(|word| (*word).to_owned()));
        }
        if let Some((_, meant)) = ALIASES.iter().find(|(alias, _)| *alias == name.text) {
            self.report(
                Diagnostic::new(Code::F0101, name.span, format!("`{}` is written `{meant}`", name.text))
                    .label(format!("did you mean `{meant}`?"))
                    .fix(name.span, *meant),
            );
            return Typed::poison();
        }
        let mut diagnostic = self.unknown(name, &candidates);
        if diagnostic.fix.is_empty() && matches!(frame.mode, Mode::Constant(_)) {
            diagnostic = diagnostic.help(format!("text is quoted: `\"{}\"`", name.text));
        }
        if self.library.functions.contains_key(name.text.as_str()) {
            diagnostic = diagnostic.help(format!("`{}` is a function: call it with `( )`", name.text));
        }
        self.report(diagnostic);
        Typed::poison()
    }

    fn event_word(&mut self, frame: &mut Frame, name: &ast::Name) -> Typed {
        if !self.event_here(frame, &name.text, name.span) {
            return Typed::poison();
        }
        match name.text.as_str() {
            "body" => Typed::new(ir::Expr::Body, Type::Bytes),
            "time" => Typed::new(ir::Expr::Time, Type::Time),
            "header" => Typed::new(ir::Expr::Headers, Type::map(Type::String)),
            _ => {
                self.report(
                    Diagnostic::new(Code::F0201, name.span, "the event is not a value")
                        .label("name a part of it")
                        .help("`body`, `time`, `header.x`, `event.id`, `event.source`, `event.size`"),
                );
                Typed::poison()
            }
        }
    }

    /// Reports when there is no event to ask.
    fn event_here(&mut self, frame: &Frame, what: &str, span: Span) -> bool {
        match &frame.mode {
            Mode::Event => true,
            Mode::Function => {
                self.report(
                    Diagnostic::new(Code::F0101, span, format!("a function has no `{what}`"))
                        .label("functions see only their arguments")
                        .help(format!(
                            "give it as an argument: `fn f({what}: string)`",
                            what = plain_word(what)
                        )),
                );
                false
            }
            Mode::Constant(place) => {
                let title =
                    format!("{place} is fixed when the flow starts, `{what}` changes with every event");
                self.report(Diagnostic::new(Code::F0201, span, title).label("there is no event here"));
                false
            }
        }
    }

    /// The value of something declared.
    pub(super) fn entity_value(&mut self, entity: crate::resolve::EntityId, name: &ast::Name) -> Typed {
        self.mark_used(entity);
        match self.entity_kind(entity) {
            EntityKind::Param(param) => self.param_value(param),
            EntityKind::Constant(value, ty) => Typed::new(value, ty),
            EntityKind::Secret(_) => {
                let declared = self.entity_span(entity);
                self.report(
                    Diagnostic::new(
                        Code::F0218,
                        name.span,
                        format!("`{}` is secret and would be readable here", name.text),
                    )
                    .label("not a secret setting")
                    .also(declared, "declared secret here")
                    .help(
                        "secrets may only go into settings that are marked secret (`password`, `token`, …)",
                    ),
                );
                Typed::poison()
            }
            EntityKind::Poison => Typed::poison(),
            other => {
                let what = other.in_words();
                let declared = self.entity_span(entity);
                self.report(
                    Diagnostic::new(
                        Code::F0201,
                        name.span,
                        format!("`{}` is {what} and has no value", name.text),
                    )
                    .label("a value is expected here")
                    .also(declared, "declared here"),
                );
                Typed::poison()
            }
        }
    }

    /// `object.name`
    pub(super) fn member(
        &mut self,
        frame: &mut Frame,
        whole: &ast::Expr,
        object: &ast::Expr,
        name: &ast::Name,
    ) -> Typed {
        if let ExprKind::Name(root) = &object.kind
            && frame.var(&root.text).is_none()
        {
            if let Some(entity) = self.lookup(frame.scope, &root.text) {
                if self.has_members(entity) {
                    self.mark_used(entity);
                    return match self.member_entity(entity, name) {
                        Some(found) => self.entity_value(found, name),
                        None => Typed::poison(),
                    };
                }
            } else if root.text == "header" {
                if !self.event_here(frame, &format!("header.{}", name.text), whole.span) {
                    return Typed::poison();
                }
                return self.header(frame, &name.text, whole.span);
            } else if root.text == "event" {
                return self.event_part(frame, name, whole.span);
            } else if root.text == "agent" {
                return self.agent_part(frame, name, whole.span);
            }
        }
        let value = self.expr(frame, object, None);
        self.field(frame, value, object.span, name)
    }

    fn event_part(&mut self, frame: &mut Frame, name: &ast::Name, span: Span) -> Typed {
        if !self.event_here(frame, &format!("event.{}", name.text), span) {
            return Typed::poison();
        }
        match name.text.as_str() {
            "id" => Typed::new(ir::Expr::EventId, Type::String),
            "source" => Typed::new(ir::Expr::EventSource, Type::String),
            "size" => Typed::new(ir::Expr::EventSize, Type::Size),
            "body" => Typed::new(ir::Expr::Body, Type::Bytes),
            "time" => Typed::new(ir::Expr::Time, Type::Time),
            _ => {
                self.report_field("the event", name, &["id", "source", "size", "body", "time"]);
                Typed::poison()
            }
        }
    }

    fn agent_part(&mut self, frame: &mut Frame, name: &ast::Name, span: Span) -> Typed {
        if frame.mode == Mode::Function {
            self.event_here(frame, &format!("agent.{}", name.text), span);
            return Typed::poison();
        }
        // an interceptor belongs to whoever uses it
        let hosts = self.hosts_of(self.chain_scope.unwrap_or(frame.scope));
        match (name.text.as_str(), hosts.as_slice()) {
            ("host", []) if self.library.functions.contains_key("hostname") => {
                let function = "hostname".to_owned();
                let origin = self.origin(span);
                Typed::new(ir::Expr::Call { function, args: Vec::new(), origin }, Type::String)
            }
            ("host", [host]) => Typed::constant(Const::Text(host.clone()), Type::String),
            ("index", [] | [_]) => Typed::constant(Const::Int(0), Type::Int),
            ("host" | "index", _) => {
                self.report(
                    Diagnostic::new(
                        Code::F0116,
                        span,
                        format!("this build has no `agent.{}` for an agent on several hosts", name.text),
                    )
                    .label("known only when the agent starts")
                    .help("`hostname()` gives the name of the host"),
                );
                Typed::poison()
            }
            _ => {
                self.report_field("the agent", name, &["host", "index"]);
                Typed::poison()
            }
        }
    }

    /// `header.x`
    pub(crate) fn header(&mut self, frame: &mut Frame, name: &str, span: Span) -> Typed {
        let key = Key::Header(name.to_owned());
        let sure = frame.state.is_sure(name) || frame.narrowed.contains(&key);
        let possible = frame.state.is_possible(name) || sure;
        let tolerant = frame.null_tolerant > 0;
        frame.header_reads.push(HeaderRead { name: name.to_owned(), span, tolerant, possible });
        let values = match frame.state.headers.get(name) {
            Some(info) if sure => info.values.clone(),
            _ => None,
        };
        let ty = if sure { Type::String } else { Type::String.optional() };
        Typed { expr: ir::Expr::Header(self.slot(name)), ty, fails: false, values, key: Some(key) }
    }

    /// A field of a value.
    pub(super) fn field(&mut self, frame: &Frame, value: Typed, span: Span, name: &ast::Name) -> Typed {
        if value.ty.may_be_null() {
            let ty = value.ty.present().clone();
            self.report_null(&value, span, &ty);
            return Typed::poison();
        }
        let key = value.key.map(|key| Key::Member(Box::new(key), name.text.clone()));
        let ty = match &value.ty {
            Type::Poison => return Typed::poison(),
            Type::Json | Type::Any | Type::Variable(_) => Type::Json,
            Type::Map(item) => (**item).clone().optional(),
            Type::Record(record) => match record.field(&name.text) {
                Some(ty) => ty.clone(),
                None => {
                    let fields = record.fields.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>();
                    self.report_field(&format!("`{}`", value.ty), name, &fields);
                    return Typed::poison();
                }
            },
            other => {
                let title = format!("{} has no field `{}`", other.with_article(), name.text);
                self.report(Diagnostic::new(Code::F0208, name.span, title).label("no such field"));
                return Typed::poison();
            }
        };
        let ty = match &key {
            Some(key) if frame.narrowed.contains(key) => ty.present().clone(),
            _ => ty,
        };
        let expr = ir::Expr::Member { object: Box::new(value.expr), name: name.text.clone() };
        Typed { expr, ty, fails: value.fails, values: None, key }
    }

    fn report_field(&mut self, of: &str, name: &ast::Name, fields: &[&str]) {
        let mut diagnostic =
            Diagnostic::new(Code::F0208, name.span, format!("{of} has no field `{}`", name.text));
        diagnostic = match flow_diag::suggest(&name.text, fields.iter().copied()) {
            Some(near) => diagnostic.label(format!("did you mean `{near}`?")).fix(name.span, near),
            None => diagnostic.label("no such field"),
        };
        if !fields.is_empty() {
            diagnostic = diagnostic.help(format!("fields: {}", fields.join(", ")));
        }
        self.report(diagnostic);
    }

    /// `object[index]`
    pub(super) fn index(
        &mut self,
        frame: &mut Frame,
        object: &ast::Expr,
        index: &ast::Expr,
        span: Span,
    ) -> Typed {
        if let (ExprKind::Name(root), ExprKind::Literal(ast::Literal::String(name))) =
            (&object.kind, &index.kind)
            && root.text == "header"
            && frame.var("header").is_none()
            && self.lookup(frame.scope, "header").is_none()
            && frame.sees_event()
        {
            return self.header(frame, name, span);
        }
        let value = self.expr(frame, object, None);
        if value.ty.may_be_null() {
            let ty = value.ty.present().clone();
            self.report_null(&value, object.span, &ty);
            self.expr(frame, index, None);
            return Typed::poison();
        }
        let (want, ty, fails) = match &value.ty {
            Type::List(item) => (Type::Int, (**item).clone(), true),
            Type::Map(item) => (Type::String, (**item).clone().optional(), false),
            Type::Record(_) => (Type::String, Type::Json, false),
            ty if ty.is_dynamic() => {
                let result = if *ty == Type::Poison { Type::Poison } else { Type::Json };
                (Type::Any, result, true)
            }
            other => {
                let title = format!("{} has no elements", other.with_article());
                self.report(Diagnostic::new(Code::F0201, object.span, title).label(other.to_string()));
                self.expr(frame, index, None);
                return Typed::poison();
            }
        };
        let index = self.expr_of(frame, index, &want, "the index");
        if fails {
            self.advise_failure(frame, span);
        }
        let origin = self.origin(span);
        let fails = fails || value.fails || index.fails;
        let expr = ir::Expr::Index { object: Box::new(value.expr), index: Box::new(index.expr), origin };
        Typed::new(expr, ty).fails(fails)
    }
}

fn plain_word(what: &str) -> &str {
    what.rsplit('.').next().unwrap_or(what)
}
