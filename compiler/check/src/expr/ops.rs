//! Operators.

use flow_diag::{Code, Diagnostic, Span};
use flow_plan::ir::{self, ArithOp, CompareOp, Const};
use flow_syntax::ast::{self, BinaryOp, UnaryOp};

use super::{Frame, Typed};
use crate::resolve::Resolver;
use crate::types::Type;

impl Resolver<'_> {
    pub(super) fn unary(
        &mut self,
        frame: &mut Frame,
        op: UnaryOp,
        op_span: Span,
        value: &ast::Expr,
    ) -> Typed {
        match op {
            UnaryOp::Not => {
                let typed = self.expr_of(frame, value, &Type::Bool, "what stands after `not`");
                let fails = typed.fails;
                Typed::new(ir::Expr::Not(Box::new(typed.expr)), Type::Bool).fails(fails)
            }
            UnaryOp::Neg => {
                if let Some(negative) = crate::settings::literal(value) {
                    let constant = match negative {
                        ast::Literal::Int(value) => value.checked_neg().map(|v| (Const::Int(v), Type::Int)),
                        ast::Literal::Float(value) => Some((Const::Float(-value), Type::Float)),
                        ast::Literal::Duration(value) => {
                            value.checked_neg().map(|v| (Const::Duration(v), Type::Duration))
                        }
                        _ => None,
                    };
                    if let Some((constant, ty)) = constant {
                        return Typed::constant(constant, ty);
                    }
                }
                let typed = self.expr(frame, value, None);
                let ty = typed.ty.clone();
                if ty.may_be_null() {
                    let want = ty.present().clone();
                    self.report_null(&typed, value.span, &want);
                    return Typed::poison();
                }
                if !(ty.is_number() || ty == Type::Duration || ty.is_dynamic()) {
                    let title = format!("cannot negate {}", ty.with_article());
                    self.report(
                        Diagnostic::new(Code::F0202, op_span, title).also(value.span, ty.to_string()),
                    );
                    return Typed::poison();
                }
                let origin = self.origin(op_span);
                Typed::new(ir::Expr::Neg { value: Box::new(typed.expr), origin }, ty).fails(true)
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn binary(
        &mut self,
        frame: &mut Frame,
        span: Span,
        op: BinaryOp,
        op_span: Span,
        left: &ast::Expr,
        right: &ast::Expr,
        want: Option<&Type>,
    ) -> Typed {
        match op {
            BinaryOp::And | BinaryOp::Or => self.logic(frame, op, left, right),
            BinaryOp::Coalesce => self.coalesce(frame, left, right, want),
            BinaryOp::Eq | BinaryOp::Ne | BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge => {
                self.compare(frame, op, op_span, left, right)
            }
            BinaryOp::Matches | BinaryOp::NotMatches => self.matches(frame, op, op_span, left, right),
            BinaryOp::In => self.contained(frame, op_span, left, right),
            BinaryOp::Range => {
                let low = self.expr_of(frame, left, &Type::Int, "the start of a range");
                let high = self.expr_of(frame, right, &Type::Int, "the end of a range");
                let origin = self.origin(span);
                Typed::new(
                    ir::Expr::Range { low: Box::new(low.expr), high: Box::new(high.expr), origin },
                    Type::list(Type::Int),
                )
                .fails(true)
            }
            BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div | BinaryOp::Rem => {
                self.arithmetic(frame, span, op, op_span, left, right, want)
            }
        }
    }

    fn logic(&mut self, frame: &mut Frame, op: BinaryOp, left: &ast::Expr, right: &ast::Expr) -> Typed {
        let word = if op == BinaryOp::And { "`and`" } else { "`or`" };
        let what = format!("each side of {word}");
        let a = self.expr_of(frame, left, &Type::Bool, &what);
        // the right side is asked only when the left one was true (`and`) or false (`or`)
        let known = frame.narrowed.clone();
        frame.learn(&a.expr, op == BinaryOp::And, &self.model.slots);
        let b = self.expr_of(frame, right, &Type::Bool, &what);
        frame.narrowed = known;
        let fails = a.fails || b.fails;
        let (a, b) = (Box::new(a.expr), Box::new(b.expr));
        let expr = if op == BinaryOp::And { ir::Expr::And(a, b) } else { ir::Expr::Or(a, b) };
        Typed::new(expr, Type::Bool).fails(fails)
    }

    fn coalesce(
        &mut self,
        frame: &mut Frame,
        left: &ast::Expr,
        right: &ast::Expr,
        want: Option<&Type>,
    ) -> Typed {
        frame.null_tolerant += 1;
        let wanted = want.map(|want| want.clone().optional());
        let a = self.expr(frame, left, wanted.as_ref());
        frame.null_tolerant -= 1;
        let inner = a.ty.present().clone();
        let hint = if inner == Type::Null { want.cloned() } else { Some(inner.clone()) };
        let b = self.expr(frame, right, hint.as_ref());
        let ty = match (&a.ty, inner.join(&b.ty)) {
            (Type::Null, _) => b.ty.clone(),
            (_, Some(ty)) => ty,
            (_, None) => {
                self.expect_type(&b, &inner, right, "the value before `??`");
                Type::Poison
            }
        };
        let values = match (a.values, b.values) {
            (Some(mut a), Some(b)) => {
                a.extend(b);
                Some(a)
            }
            _ => None,
        };
        let expr = ir::Expr::Coalesce(Box::new(a.expr), Box::new(b.expr));
        Typed { expr, ty, fails: a.fails || b.fails, values, key: None }
    }

    /// Both sides, an int literal taken as float beside a float.
    fn both_sides(&mut self, frame: &mut Frame, left: &ast::Expr, right: &ast::Expr) -> (Typed, Typed) {
        let mut a = self.expr(frame, left, None);
        let mut b = self.expr(frame, right, None);
        adapt(&mut a, &b.ty);
        adapt(&mut b, &a.ty);
        (a, b)
    }

    fn compare(
        &mut self,
        frame: &mut Frame,
        op: BinaryOp,
        op_span: Span,
        left: &ast::Expr,
        right: &ast::Expr,
    ) -> Typed {
        // a test for null expects it; with any other value an absent header is a mistake
        let for_null =
            [left, right].iter().any(|side| matches!(side.kind, ast::ExprKind::Literal(ast::Literal::Null)));
        frame.null_tolerant += u32::from(for_null);
        let (a, b) = self.both_sides(frame, left, right);
        frame.null_tolerant -= u32::from(for_null);
        let ordering = !matches!(op, BinaryOp::Eq | BinaryOp::Ne);
        if !comparable(&a.ty, &b.ty, ordering) {
            self.report_sides("compare", "with", op_span, (left, &a.ty), (right, &b.ty));
            return Typed::new(ir::Expr::Const(Const::Bool(false)), Type::Bool);
        }
        let op = match op {
            BinaryOp::Eq => CompareOp::Eq,
            BinaryOp::Ne => CompareOp::Ne,
            BinaryOp::Lt => CompareOp::Lt,
            BinaryOp::Le => CompareOp::Le,
            BinaryOp::Gt => CompareOp::Gt,
            _ => CompareOp::Ge,
        };
        let dynamic = a.ty.is_dynamic() || b.ty.is_dynamic() || a.ty.may_be_null() || b.ty.may_be_null();
        let fails = a.fails || b.fails || (ordering && dynamic);
        let expr = ir::Expr::Compare { op, left: Box::new(a.expr), right: Box::new(b.expr) };
        Typed::new(expr, Type::Bool).fails(fails)
    }

    /// F0202, or F0205 where a number lacks its unit.
    fn report_sides(
        &mut self,
        verb: &str,
        joint: &str,
        op_span: Span,
        (left, a): (&ast::Expr, &Type),
        (right, b): (&ast::Expr, &Type),
    ) {
        for (expr, ty, other) in [(left, a, b), (right, b, a)] {
            if *ty == Type::Int
                && matches!(other.present(), Type::Duration | Type::Size)
                && crate::settings::literal(expr).is_some()
            {
                self.report_unit(expr.span, other.present());
                return;
            }
        }
        let mut diagnostic = Diagnostic::new(
            Code::F0202,
            op_span,
            format!("cannot {verb} {} {joint} {}", a.present().with_article(), b.present().with_article()),
        )
        .also(left.span, a.to_string())
        .also(right.span, b.to_string());
        let (left_text, right_text) = (self.files.slice(left.span), self.files.slice(right.span));
        let help = match (a.present(), b.present()) {
            (Type::String | Type::Bytes, Type::Int) if verb == "compare" => {
                Some(format!("`int({left_text})`"))
            }
            (Type::Int, Type::String | Type::Bytes) if verb == "compare" => {
                Some(format!("`int({right_text})`"))
            }
            (Type::String | Type::Bytes, Type::Float) if verb == "compare" => {
                Some(format!("`float({left_text})`"))
            }
            (Type::Float, Type::String | Type::Bytes) if verb == "compare" => {
                Some(format!("`float({right_text})`"))
            }
            (Type::String | Type::Bytes, other) if !other.is_text() => Some(format!("`text({right_text})`")),
            (other, Type::String | Type::Bytes) if !other.is_text() => Some(format!("`text({left_text})`")),
            (Type::Int, Type::Float) => Some(format!("`float({left_text})`")),
            (Type::Float, Type::Int) => Some(format!("`float({right_text})`")),
            _ => None,
        };
        if let Some(help) = help {
            diagnostic = diagnostic.help(help);
        }
        self.report(diagnostic);
    }

    fn matches(
        &mut self,
        frame: &mut Frame,
        op: BinaryOp,
        op_span: Span,
        left: &ast::Expr,
        right: &ast::Expr,
    ) -> Typed {
        let value = self.expr(frame, left, None);
        let regex = self.expr(frame, right, Some(&Type::Regex));
        let ty = value.ty.present();
        if !(ty.is_text() || ty.is_dynamic() || *ty == Type::Null) {
            let title = format!("cannot match {} with a regex", ty.with_article());
            let text = self.files.slice(left.span);
            self.report(
                Diagnostic::new(Code::F0202, op_span, title)
                    .also(left.span, ty.to_string())
                    .help(format!("`text({text})`")),
            );
            return Typed::new(ir::Expr::Const(Const::Bool(false)), Type::Bool);
        }
        let fails = value.fails || regex.fails;
        let expr = match regex.expr {
            ir::Expr::Const(Const::Regex(regex)) => ir::Expr::Matches { value: Box::new(value.expr), regex },
            other => {
                if !(regex.ty == Type::Regex || regex.ty.is_dynamic()) {
                    let mut diagnostic = Diagnostic::new(
                        Code::F0202,
                        right.span,
                        format!("`~` needs a regex, this is {}", regex.ty.with_article()),
                    )
                    .label(regex.ty.to_string());
                    if matches!(right.kind, ast::ExprKind::Literal(ast::Literal::String(_))) {
                        diagnostic = diagnostic.help("regexes stand between slashes: `/…/`");
                    }
                    self.report(diagnostic);
                }
                let origin = self.origin(right.span);
                ir::Expr::MatchesDynamic { value: Box::new(value.expr), regex: Box::new(other), origin }
            }
        };
        let expr = if op == BinaryOp::NotMatches { ir::Expr::Not(Box::new(expr)) } else { expr };
        Typed::new(expr, Type::Bool).fails(fails)
    }

    fn contained(&mut self, frame: &mut Frame, op_span: Span, left: &ast::Expr, right: &ast::Expr) -> Typed {
        let mut value = self.expr(frame, left, None);
        // `x in 1..5`
        if let ast::ExprKind::Binary { op: BinaryOp::Range, left: low, right: high, .. } = &right.kind {
            let low_typed = self.expr(frame, low, Some(value.ty.present()));
            let high_typed = self.expr(frame, high, Some(value.ty.present()));
            adapt(&mut value, &low_typed.ty);
            for (bound, typed) in [(low, &low_typed), (high, &high_typed)] {
                if !comparable(&value.ty, &typed.ty, true) {
                    self.report_sides("compare", "with", op_span, (left, &value.ty), (bound, &typed.ty));
                    return Typed::new(ir::Expr::Const(Const::Bool(false)), Type::Bool);
                }
            }
            let fails = value.fails || low_typed.fails || high_typed.fails;
            let expr = ir::Expr::Between {
                value: Box::new(value.expr),
                low: Box::new(low_typed.expr),
                high: Box::new(high_typed.expr),
            };
            return Typed::new(expr, Type::Bool).fails(fails);
        }
        let list = self.expr(frame, right, None);
        let item = match &list.ty {
            Type::List(item) => (**item).clone(),
            Type::Map(_) | Type::Record(_) => Type::String,
            ty if ty.is_dynamic() => Type::Json,
            ty => {
                let title = format!("`in` needs a list, this is {}", ty.with_article());
                let mut diagnostic = Diagnostic::new(Code::F0202, right.span, title).label(ty.to_string());
                if ty.present().is_text() {
                    let (left, right) = (self.files.slice(left.span), self.files.slice(right.span));
                    diagnostic =
                        diagnostic.help(format!("for a part of a text: `contains({right}, {left})`"));
                }
                self.report(diagnostic);
                return Typed::new(ir::Expr::Const(Const::Bool(false)), Type::Bool);
            }
        };
        if !comparable(&value.ty, &item, false) {
            self.report_sides("look for", "in", op_span, (left, &value.ty), (right, &list.ty));
        }
        let fails = value.fails || list.fails;
        let expr = ir::Expr::In { value: Box::new(value.expr), list: Box::new(list.expr) };
        Typed::new(expr, Type::Bool).fails(fails)
    }

    #[allow(clippy::too_many_arguments)]
    fn arithmetic(
        &mut self,
        frame: &mut Frame,
        span: Span,
        op: BinaryOp,
        op_span: Span,
        left: &ast::Expr,
        right: &ast::Expr,
        want: Option<&Type>,
    ) -> Typed {
        let hint = want.filter(|want| *want.present() == Type::Float);
        let mut a = self.expr(frame, left, hint);
        let mut b = self.expr(frame, right, hint);
        adapt(&mut a, &b.ty);
        adapt(&mut b, &a.ty);
        for (typed, expr) in [(&a, left), (&b, right)] {
            if typed.ty.may_be_null() {
                let want = typed.ty.present().clone();
                self.report_null(typed, expr.span, &want);
                return Typed::poison();
            }
        }
        let Some(ty) = arithmetic_result(op, &a.ty, &b.ty) else {
            let (verb, joint) = match op {
                BinaryOp::Add if a.ty.is_text() || b.ty.is_text() => ("join", "and"),
                BinaryOp::Add => ("add", "and"),
                BinaryOp::Sub => ("subtract", "and"),
                BinaryOp::Mul => ("multiply", "and"),
                _ => ("divide", "by"),
            };
            self.report_sides(verb, joint, op_span, (left, &a.ty), (right, &b.ty));
            return Typed::poison();
        };
        let op = match op {
            BinaryOp::Add => ArithOp::Add,
            BinaryOp::Sub => ArithOp::Sub,
            BinaryOp::Mul => ArithOp::Mul,
            BinaryOp::Div => ArithOp::Div,
            _ => ArithOp::Rem,
        };
        let origin = self.origin(span);
        let joins = op == ArithOp::Add && matches!(ty, Type::String | Type::List(_));
        let fails = a.fails || b.fails || !joins;
        let expr = ir::Expr::Arith { op, left: Box::new(a.expr), right: Box::new(b.expr), origin };
        Typed::new(expr, ty).fails(fails)
    }
}

/// An int literal beside a float is a float.
fn adapt(typed: &mut Typed, other: &Type) {
    if *other.present() == Type::Float
        && let ir::Expr::Const(Const::Int(value)) = typed.expr
    {
        typed.expr = ir::Expr::Const(Const::Float(value as f64));
        typed.ty = Type::Float;
    }
}

fn comparable(a: &Type, b: &Type, ordering: bool) -> bool {
    let (a, b) = (a.present(), b.present());
    if a.is_dynamic() || b.is_dynamic() {
        return *a != Type::Secret && *b != Type::Secret;
    }
    if *a == Type::Null || *b == Type::Null {
        return !ordering;
    }
    if ordering {
        let ordered = |ty: &Type| {
            ty.is_text() || ty.is_number() || matches!(ty, Type::Time | Type::Duration | Type::Size)
        };
        return ordered(a) && ordered(b) && (a == b || (a.is_text() && b.is_text()));
    }
    a.fits(b) || b.fits(a)
}

fn arithmetic_result(op: BinaryOp, a: &Type, b: &Type) -> Option<Type> {
    use Type::{Duration, Float, Int, Size, Time};
    if *a == Type::Poison || *b == Type::Poison {
        return Some(Type::Poison);
    }
    if *a == Type::Secret || *b == Type::Secret {
        return None;
    }
    if a.is_dynamic() || b.is_dynamic() {
        return Some(Type::Json);
    }
    Some(match (op, a, b) {
        (_, Int, Int) => Int,
        (_, Float, Float) => Float,
        (BinaryOp::Add, a, b) if a.is_text() && b.is_text() => Type::String,
        (BinaryOp::Add, Type::List(a), Type::List(b)) => Type::list(a.join(b).unwrap_or(Type::Json)),
        (BinaryOp::Add | BinaryOp::Sub, Duration, Duration) => Duration,
        (BinaryOp::Add | BinaryOp::Sub, Size, Size) => Size,
        (BinaryOp::Add | BinaryOp::Sub, Time, Duration) => Time,
        (BinaryOp::Add, Duration, Time) => Time,
        (BinaryOp::Sub, Time, Time) => Duration,
        (BinaryOp::Mul | BinaryOp::Div, Duration, Int) | (BinaryOp::Mul, Int, Duration) => Duration,
        (BinaryOp::Mul | BinaryOp::Div, Size, Int) | (BinaryOp::Mul, Int, Size) => Size,
        (BinaryOp::Mul | BinaryOp::Div, Duration, Float) | (BinaryOp::Mul, Float, Duration) => Duration,
        (BinaryOp::Mul | BinaryOp::Div, Size, Float) | (BinaryOp::Mul, Float, Size) => Size,
        (BinaryOp::Div, Duration, Duration) | (BinaryOp::Div, Size, Size) => Float,
        (BinaryOp::Rem, Duration, Duration) => Duration,
        _ => return None,
    })
}
