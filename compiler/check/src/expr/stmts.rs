//! Statements of interceptors and functions.

use flow_diag::{Code, Diagnostic, Span};
use flow_plan::ir;
use flow_syntax::ast::{self, Access, ArmTest, AssignOp, StmtKind};

use super::narrow::Key;
use super::{Frame, State, Typed, VarKind};
use crate::resolve::Resolver;
use crate::types::Type;

impl Resolver<'_> {
    /// A block; gives whether it is always left (`drop`, `fail`, `return`, `pass`) before its end.
    pub(crate) fn block(&mut self, frame: &mut Frame, block: &ast::Block) -> (Vec<ir::Stmt>, bool) {
        let vars = frame.vars.len();
        let mut lowered = Vec::with_capacity(block.stmts.len());
        let mut left: Option<(&str, Span)> = None;
        let mut warned = false;
        for stmt in &block.stmts {
            if let Some((word, at)) = left
                && !warned
            {
                warned = true;
                let rest = block.stmts.last().map_or(stmt.span, |last| stmt.span.to(last.span));
                self.report(
                    Diagnostic::new(Code::F0217, rest, format!("code after `{word}` is never reached"))
                        .label("never reached")
                        .also(at, "left here"),
                );
            }
            if self.stmt(frame, stmt, &mut lowered) && left.is_none() {
                left = Some((leaving_word(&stmt.kind), stmt.span));
            }
        }
        frame.vars.truncate(vars);
        (lowered, left.is_some())
    }

    /// One statement; gives whether what follows is never reached.
    fn stmt(&mut self, frame: &mut Frame, stmt: &ast::Stmt, out: &mut Vec<ir::Stmt>) -> bool {
        match &stmt.kind {
            StmtKind::Let { name, ty, value } => self.let_stmt(frame, name, ty.as_ref(), value, out),
            StmtKind::Assign { target, op, value } => {
                self.assign(frame, stmt.span, target, *op, value, out);
            }
            StmtKind::If { condition, then, otherwise } => {
                return self.if_stmt(frame, condition, then, otherwise.as_ref(), out);
            }
            StmtKind::For { item, index, list, body } => {
                self.for_stmt(frame, stmt.span, item, index.as_ref(), list, body, out);
            }
            StmtKind::Match { subject, arms } => return self.match_stmt(frame, subject, arms, out),
            StmtKind::Drop => {
                self.need_event(frame, "drop", stmt.span);
                frame.drops = true;
                out.push(ir::Stmt::Drop);
                return true;
            }
            StmtKind::Pass => {
                self.need_event(frame, "pass", stmt.span);
                frame.exits.push(frame.state.clone());
                out.push(ir::Stmt::Pass);
                return true;
            }
            StmtKind::Fail(message) => {
                frame.fails = true;
                let message = match message {
                    Some(message) => self.expr_of(frame, message, &Type::String, "the reason").expr,
                    None => ir::Expr::Const(ir::Const::Text("failed".to_owned())),
                };
                out.push(ir::Stmt::Fail { message, origin: self.origin(stmt.span) });
                return true;
            }
            StmtKind::Emit(event) => {
                self.need_event(frame, "emit", stmt.span);
                frame.changes = true;
                let typed = self.expr(frame, event, None);
                frame.fails |= typed.fails;
                self.check_emitted(event, &typed);
                out.push(ir::Stmt::Emit { event: typed.expr, origin: self.origin(stmt.span) });
            }
            StmtKind::Return(value) => {
                if frame.sees_event() {
                    self.report(
                        Diagnostic::new(Code::F0005, stmt.span, "`return` cannot stand in an interceptor")
                            .label("interceptors give no value")
                            .help("`pass` leaves it with the event as it is now"),
                    );
                    return true;
                }
                let value = self.return_value(frame, value.as_ref(), stmt.span);
                out.push(ir::Stmt::Return { value });
                return true;
            }
            StmtKind::Remove(target) => self.remove(frame, target, out),
            StmtKind::Expr(value) => {
                let typed = self.expr(frame, value, None);
                frame.fails |= typed.fails;
                out.push(ir::Stmt::Expr { value: typed.expr });
            }
            StmtKind::Broken => self.model.incomplete = true,
        }
        false
    }

    fn let_stmt(
        &mut self,
        frame: &mut Frame,
        name: &ast::Name,
        ty: Option<&ast::TypeExpr>,
        value: &ast::Expr,
        out: &mut Vec<ir::Stmt>,
    ) {
        let (typed, ty) = match ty {
            Some(ty) => {
                let ty = self.user_type(frame.scope, ty);
                let typed = self.expr_of(frame, value, &ty, &format!("`{}`", name.text));
                (typed, ty)
            }
            None => {
                let typed = self.expr(frame, value, None);
                let ty = typed.ty.clone();
                (typed, ty)
            }
        };
        frame.fails |= typed.fails;
        self.warn_hidden(frame, name);
        let local = frame.declare(name, ty, false);
        if let Some(var) = frame.vars.last_mut() {
            var.values = typed.values;
        }
        frame.unlearn(&Key::Local(local));
        out.push(ir::Stmt::Set { local, value: typed.expr });
    }

    fn assign(
        &mut self,
        frame: &mut Frame,
        span: Span,
        target: &ast::LValue,
        op: AssignOp,
        value: &ast::Expr,
        out: &mut Vec<ir::Stmt>,
    ) {
        let Some(place) = self.assigned_place(frame, target) else {
            self.expr(frame, value, None);
            return;
        };
        let what = format!("`{}`", self.files.slice(target.span));
        let optional = matches!(place, Place::Header(_));
        let want = if optional { Type::String.optional() } else { place.ty() };
        let typed = match op {
            AssignOp::Set => {
                let mut widened = None;
                let typed = self.expr(frame, value, Some(&want));
                let typed = self.decoded(typed, &want, value.span);
                if let Place::Local { ty, local } = &place
                    && !typed.ty.fits(ty)
                    && (*ty == Type::Null || (typed.ty == Type::Null || typed.ty.present().fits(ty)))
                {
                    // `let x = null`, then a value; or a value, then perhaps null
                    widened = ty.join(&typed.ty).map(|ty| (*local, ty));
                }
                match widened {
                    Some((local, ty)) => widen(frame, local, ty),
                    None => {
                        self.expect_type(&typed, &want, value, &what);
                    }
                }
                typed
            }
            AssignOp::Add | AssignOp::Sub => {
                let left = ast::Expr { span: target.span, kind: lvalue_expr(target) };
                let binary = if op == AssignOp::Add { ast::BinaryOp::Add } else { ast::BinaryOp::Sub };
                let typed = self.binary(frame, span, binary, span, &left, value, None);
                let whole = ast::Expr { span, kind: ast::ExprKind::Broken };
                self.expect_type(&typed, &want, &whole, &what);
                typed
            }
        };
        frame.fails |= typed.fails;
        let may_be_null = typed.ty.may_be_null() || typed.ty == Type::Json;
        match place {
            Place::Local { local, .. } => {
                frame.unlearn(&Key::Local(local));
                if let Some(var) = frame
                    .vars
                    .iter_mut()
                    .rev()
                    .find(|var| matches!(var.what, VarKind::Local(own) if own == local))
                {
                    // another value in a loop or branch: only what is assigned everywhere is known
                    var.values = None;
                }
                if !may_be_null {
                    frame.narrowed.insert(Key::Local(local));
                }
                out.push(ir::Stmt::Set { local, value: typed.expr });
            }
            Place::Header(name) => {
                frame.changes = true;
                frame.unlearn(&Key::Header(name.clone()));
                if may_be_null {
                    frame.state.set_or_remove(&name);
                } else {
                    frame.state.set(&name, true, typed.values);
                }
                out.push(ir::Stmt::SetHeader { slot: self.slot(&name), value: typed.expr });
            }
            Place::Body => {
                frame.changes = true;
                out.push(ir::Stmt::SetBody { value: typed.expr });
            }
            Place::Time => {
                frame.changes = true;
                out.push(ir::Stmt::SetTime { value: typed.expr });
            }
            Place::Path { local, path, .. } => {
                frame.unlearn(&Key::Local(local));
                frame.fails = true;
                let origin = self.origin(target.span);
                out.push(ir::Stmt::SetPath { local, path, value: typed.expr, origin });
            }
        }
    }

    /// What an assignment changes.
    fn assigned_place(&mut self, frame: &mut Frame, target: &ast::LValue) -> Option<Place> {
        let root = &target.root;
        if let Some(var) = frame.var(&root.text).cloned() {
            if var.parameter {
                self.report(
                    Diagnostic::new(Code::F0214, target.span, "parameters cannot be assigned")
                        .label(format!("`{}` is a parameter", root.text))
                        .also(var.span, "declared here")
                        .help(format!("take a copy first: `let {0}_now = {0}`", root.text)),
                );
                return None;
            }
            let VarKind::Local(local) = var.what else { return None };
            if target.path.is_empty() {
                return Some(Place::Local { local, ty: var.ty });
            }
            return self.path_place(frame, local, var.ty, target);
        }
        match (root.text.as_str(), target.path.as_slice()) {
            ("body" | "time" | "header" | "event", _) if !frame.sees_event() => {
                self.need_event(frame, &root.text, root.span);
                None
            }
            ("body", []) => Some(Place::Body),
            ("time", []) => Some(Place::Time),
            ("header", [Access::Member(name)]) => Some(Place::Header(name.text.clone())),
            ("header", [Access::Index(index)]) => match &index.kind {
                ast::ExprKind::Literal(ast::Literal::String(name)) => Some(Place::Header(name.clone())),
                _ => {
                    self.report(
                        Diagnostic::new(
                            Code::F0201,
                            index.span,
                            "the name of a header that is set is written out",
                        )
                        .label("known only when the event is there")
                        .help("`header.name = …`"),
                    );
                    None
                }
            },
            ("event", _) => {
                self.report(
                    Diagnostic::new(Code::F0214, target.span, "`event` is read-only")
                        .label("cannot be assigned")
                        .help("`body`, `time` and `header.x` can be"),
                );
                None
            }
            ("header", _) => {
                self.report(
                    Diagnostic::new(Code::F0201, target.span, "headers are set one by one")
                        .label("not all at once")
                        .help("`header.name = …`"),
                );
                None
            }
            _ => {
                if let Some(entity) = self.lookup(frame.scope, &root.text) {
                    let declared = self.entity_span(entity);
                    let what = self.entity_kind(entity).in_words();
                    self.mark_used(entity);
                    self.report(
                        Diagnostic::new(Code::F0214, target.span, "parameters cannot be assigned")
                            .label(format!("`{}` is {what}", root.text))
                            .also(declared, "declared here")
                            .help(format!("take a copy first: `let {0}_now = {0}`", root.text)),
                    );
                } else if !self.is_poisoned(&root.text) {
                    let candidates = frame
                        .vars
                        .iter()
                        .map(|var| var.name.clone())
                        .chain(["body".to_owned(), "time".to_owned(), "header".to_owned()])
                        .collect::<Vec<_>>();
                    let diagnostic = self.unknown(root, &candidates);
                    self.report(diagnostic.help(format!("a new name is made with `let {} = …`", root.text)));
                }
                None
            }
        }
    }

    fn path_place(&mut self, frame: &mut Frame, local: u32, ty: Type, target: &ast::LValue) -> Option<Place> {
        let mut path = Vec::with_capacity(target.path.len());
        let mut ty = ty;
        for access in &target.path {
            match access {
                Access::Member(name) => {
                    let object = Typed::new(ir::Expr::Local(local), ty.present().clone());
                    let field = self.field(frame, object, name.span, name);
                    ty = match field.ty {
                        Type::Optional(inner) if matches!(ty.present(), Type::Map(_)) => *inner,
                        ty => ty,
                    };
                    path.push(ir::PathStep::Member(name.text.clone()));
                }
                Access::Index(index) => {
                    let (want, item) = match ty.present() {
                        Type::List(item) => (Type::Int, (**item).clone()),
                        Type::Map(item) => (Type::String, (**item).clone()),
                        _ => (Type::Any, Type::Json),
                    };
                    let index = self.expr_of(frame, index, &want, "the index");
                    path.push(ir::PathStep::Index(index.expr));
                    ty = item;
                }
            }
        }
        Some(Place::Path { local, path, ty })
    }

    fn remove(&mut self, frame: &mut Frame, target: &ast::LValue, out: &mut Vec<ir::Stmt>) {
        self.need_event(frame, "remove", target.span);
        let name = match (target.root.text.as_str(), target.path.as_slice()) {
            ("header", [Access::Member(name)]) => name.text.clone(),
            (
                "header",
                [
                    Access::Index(ast::Expr {
                        kind: ast::ExprKind::Literal(ast::Literal::String(name)), ..
                    }),
                ],
            ) => name.clone(),
            _ => {
                self.report(
                    Diagnostic::new(Code::F0201, target.span, "only headers can be removed")
                        .label("not a header")
                        .help("`remove header.name`"),
                );
                return;
            }
        };
        frame.changes = true;
        frame.state.remove(&name);
        frame.unlearn(&Key::Header(name.clone()));
        out.push(ir::Stmt::RemoveHeader { slot: self.slot(&name) });
    }

    fn if_stmt(
        &mut self,
        frame: &mut Frame,
        condition: &ast::Expr,
        then: &ast::Block,
        otherwise: Option<&ast::ElseBranch>,
        out: &mut Vec<ir::Stmt>,
    ) -> bool {
        let test = self.condition(frame, condition);
        frame.fails |= test.fails;
        let before = (frame.state.clone(), frame.narrowed.clone());
        frame.learn(&test.expr, true, &self.model.slots);
        let (then_stmts, then_left) = self.block(frame, then);
        let after_then = (frame.state.clone(), frame.narrowed.clone());
        (frame.state, frame.narrowed) = before;
        frame.learn(&test.expr, false, &self.model.slots);
        let mut else_stmts = Vec::new();
        let else_left = match otherwise {
            Some(ast::ElseBranch::Block(block)) => {
                let (stmts, left) = self.block(frame, block);
                else_stmts = stmts;
                left
            }
            Some(ast::ElseBranch::If(stmt)) => self.stmt(frame, stmt, &mut else_stmts),
            None => false,
        };
        match (then_left, else_left) {
            (false, true) => (frame.state, frame.narrowed) = after_then,
            (true, _) => {}
            (false, false) => {
                frame.state.merge(&after_then.0);
                frame.narrowed.retain(|key| after_then.1.contains(key));
            }
        }
        out.push(ir::Stmt::If { condition: test.expr, then: then_stmts, otherwise: else_stmts });
        then_left && else_left
    }

    #[allow(clippy::too_many_arguments)]
    fn for_stmt(
        &mut self,
        frame: &mut Frame,
        span: Span,
        item: &ast::Name,
        index: Option<&ast::Name>,
        list: &ast::Expr,
        body: &ast::Block,
        out: &mut Vec<ir::Stmt>,
    ) {
        let typed = self.expr(frame, list, None);
        frame.fails |= typed.fails;
        let item_ty = match &typed.ty {
            Type::List(item) => (**item).clone(),
            Type::Poison => Type::Poison,
            ty if ty.is_dynamic() => {
                frame.fails = true;
                Type::Json
            }
            ty if ty.may_be_null() && matches!(ty.present(), Type::List(_)) => {
                let want = ty.present().clone();
                self.report_null(&typed, list.span, &want);
                Type::Poison
            }
            ty => {
                let title = format!("`for` needs a list, this is {}", ty.with_article());
                let mut diagnostic = Diagnostic::new(Code::F0201, list.span, title).label(ty.to_string());
                if matches!(ty.present(), Type::Map(_) | Type::Record(_)) {
                    let text = self.files.slice(list.span);
                    diagnostic = diagnostic.help(format!("`keys({text})` or `values({text})`"));
                } else if ty.present().is_text() {
                    let text = self.files.slice(list.span);
                    diagnostic =
                        diagnostic.help(format!("`chars({text})`, `lines({text})` or `split({text}, …)`"));
                }
                self.report(diagnostic);
                Type::Poison
            }
        };
        let vars = frame.vars.len();
        self.warn_hidden(frame, item);
        let item_local = frame.declare(item, item_ty, false);
        let index_local = index.map(|name| frame.declare(name, Type::Int, false));
        // what is known before the loop must hold for every round
        let narrowed = frame.narrowed.clone();
        let sure_before = frame.state.clone();
        let mut targets = Vec::new();
        assigned_in(body, &mut targets);
        for target in targets {
            frame.forget_target(target);
        }
        let (stmts, left) = self.block(frame, body);
        if left {
            frame.state = sure_before;
        } else {
            frame.state.merge(&sure_before);
        }
        frame.narrowed.retain(|key| narrowed.contains(key));
        frame.vars.truncate(vars);
        let origin = self.origin(span);
        out.push(ir::Stmt::For {
            item: item_local,
            index: index_local,
            list: typed.expr,
            body: stmts,
            origin,
        });
    }

    fn match_stmt(
        &mut self,
        frame: &mut Frame,
        subject: &ast::Expr,
        arms: &[ast::MatchArm],
        out: &mut Vec<ir::Stmt>,
    ) -> bool {
        frame.null_tolerant += 1;
        let typed = self.expr(frame, subject, None);
        frame.null_tolerant -= 1;
        frame.fails |= typed.fails;
        let local = frame.local();
        out.push(ir::Stmt::Set { local, value: typed.expr.clone() });
        let mut lowered: Vec<(Option<ir::Expr>, Vec<ir::Stmt>)> = Vec::new();
        let before = (frame.state.clone(), frame.narrowed.clone());
        let mut after: Option<State> = None;
        let mut all_left = true;
        let mut has_else = false;
        for arm in arms {
            (frame.state, frame.narrowed) = before.clone();
            let test = match &arm.test {
                ArmTest::Else { .. } => {
                    has_else = true;
                    None
                }
                ArmTest::When(condition) => {
                    let condition = self.condition(frame, condition);
                    frame.fails |= condition.fails;
                    Some(condition.expr)
                }
                ArmTest::Patterns { patterns, guard } => {
                    Some(self.patterns(frame, local, &typed.ty, subject, patterns, guard.as_ref()).0)
                }
            };
            if let Some(test) = &test {
                frame.learn(test, true, &self.model.slots);
            }
            let (stmts, left) = self.block(frame, &arm.body);
            if !left {
                all_left = false;
                match &mut after {
                    None => after = Some(frame.state.clone()),
                    Some(after) => after.merge(&frame.state),
                }
            }
            lowered.push((test, stmts));
        }
        (frame.state, frame.narrowed) = before;
        if has_else {
            if let Some(after) = after {
                frame.state = after;
            }
        } else {
            all_left = false;
            if let Some(after) = after {
                frame.state.merge(&after);
            }
        }
        let mut otherwise = Vec::new();
        for (test, stmts) in lowered.into_iter().rev() {
            otherwise = match test {
                None => stmts,
                Some(condition) => vec![ir::Stmt::If { condition, then: stmts, otherwise }],
            };
        }
        out.extend(otherwise);
        all_left && has_else
    }

    /// `emit { body: …, header.x: … }`
    fn check_emitted(&mut self, event: &ast::Expr, typed: &Typed) {
        let ast::ExprKind::Map(map) = &event.kind else {
            if !matches!(typed.ty, Type::Map(_) | Type::Record(_)) && !typed.ty.is_dynamic() {
                self.report(
                    Diagnostic::new(
                        Code::F0201,
                        event.span,
                        format!("`emit` needs an event, this is {}", typed.ty.with_article()),
                    )
                    .label(typed.ty.to_string())
                    .help("`emit { body: …, header.x: … }`"),
                );
            }
            return;
        };
        let Type::Record(record) = &typed.ty else { return };
        for entry in &map.entries {
            let key = entry.key.text.as_str();
            let want = match key {
                "body" => Type::String,
                "time" => Type::Time,
                "header" => continue,
                _ => match key.strip_prefix("header.") {
                    Some(name) => {
                        self.slot(name);
                        Type::String.optional()
                    }
                    None => {
                        self.report(
                            Diagnostic::new(
                                Code::F0208,
                                entry.key.span,
                                format!("an event has no field `{key}`"),
                            )
                            .label("no such field")
                            .help("fields: body, time, header.NAME"),
                        );
                        continue;
                    }
                },
            };
            if let Some(ty) = record.field(key) {
                let value = Typed::new(ir::Expr::Const(ir::Const::Null), ty.clone());
                self.expect_type(&value, &want, &entry.value, &format!("`{key}`"));
            }
        }
    }
}

/// What an assignment changes.
enum Place {
    Local { local: u32, ty: Type },
    Header(String),
    Body,
    Time,
    Path { local: u32, path: Vec<ir::PathStep>, ty: Type },
}

impl Place {
    fn ty(&self) -> Type {
        match self {
            Place::Local { ty, .. } | Place::Path { ty, .. } => ty.clone(),
            Place::Header(_) => Type::String,
            Place::Body => Type::Bytes,
            Place::Time => Type::Time,
        }
    }
}

fn widen(frame: &mut Frame, local: u32, ty: Type) {
    for var in &mut frame.vars {
        if matches!(var.what, VarKind::Local(own) if own == local) {
            var.ty = ty.clone();
        }
    }
}

fn lvalue_expr(target: &ast::LValue) -> ast::ExprKind {
    let mut kind = ast::ExprKind::Name(target.root.clone());
    for access in &target.path {
        let object = Box::new(ast::Expr { span: target.span, kind });
        kind = match access {
            Access::Member(name) => ast::ExprKind::Member { object, name: name.clone() },
            Access::Index(index) => ast::ExprKind::Index { object, index: Box::new(index.clone()) },
        };
    }
    kind
}

fn leaving_word(kind: &StmtKind) -> &'static str {
    match kind {
        StmtKind::Drop => "drop",
        StmtKind::Pass => "pass",
        StmtKind::Fail(_) => "fail",
        StmtKind::Return(_) => "return",
        StmtKind::Match { .. } => "match",
        _ => "if",
    }
}

/// What a block assigns or removes, also in the blocks inside of it.
fn assigned_in<'b>(body: &'b ast::Block, out: &mut Vec<&'b ast::LValue>) {
    for stmt in &body.stmts {
        assigned_by(stmt, out);
    }
}

fn assigned_by<'b>(stmt: &'b ast::Stmt, out: &mut Vec<&'b ast::LValue>) {
    match &stmt.kind {
        StmtKind::Assign { target, .. } | StmtKind::Remove(target) => out.push(target),
        StmtKind::If { then, otherwise, .. } => {
            assigned_in(then, out);
            match otherwise {
                Some(ast::ElseBranch::Block(block)) => assigned_in(block, out),
                Some(ast::ElseBranch::If(stmt)) => assigned_by(stmt, out),
                None => {}
            }
        }
        StmtKind::For { body, .. } => assigned_in(body, out),
        StmtKind::Match { arms, .. } => arms.iter().for_each(|arm| assigned_in(&arm.body, out)),
        _ => {}
    }
}

impl Frame {
    /// Before a loop: what its body changes is not known at its start.
    fn forget_target(&mut self, target: &ast::LValue) {
        let local = self.var(&target.root.text).and_then(|var| match var.what {
            VarKind::Local(local) => Some(local),
            VarKind::Constant(_) => None,
        });
        if let Some(local) = local {
            self.unlearn(&Key::Local(local));
            return;
        }
        if let [Access::Member(name)] = target.path.as_slice() {
            self.unlearn(&Key::Header(name.text.clone()));
            if let Some(info) = self.state.headers.get_mut(&name.text) {
                info.sure = false;
                info.values = None;
            }
        }
    }
}
