//! Routes: subject and arms, lowered to tests on the subject.

use flow_diag::{Code, Diagnostic};
use flow_plan::ir::{self, CompareOp, Const};
use flow_syntax::ast::{self, ArmTest, ExprKind, PatternKind};

use super::{Resolver, ScopeId};
use crate::expr::{Frame, State, describe_literal};
use crate::model::{ArmModel, Literal, Node, NodeKind, PatternKindModel, PatternModel, RouteModel};
use crate::regexes;
use crate::types::Type;

impl<'a> Resolver<'a> {
    pub(super) fn route(&mut self, scope: ScopeId, state: &mut State, route: &'a ast::Route) -> NodeKind {
        let mut frame = Frame::event(scope, state.clone());
        let subject_local = frame.local();
        let broken = self.error_count();
        let mut subject_ty = Type::Any;
        let mut subject_values = None;
        let mut subject = None;
        if let Some(expr) = &route.subject {
            let typed = self.expr(&mut frame, expr, None);
            subject_ty = typed.ty.clone();
            subject_values = match (&typed.ty, &typed.values) {
                (Type::Bool, _) => Some(vec![Literal::Bool(false), Literal::Bool(true)]),
                (ty, Some(values)) if ty.is_text() => {
                    Some(values.iter().cloned().map(Literal::String).collect())
                }
                _ => None,
            };
            let reads = std::mem::take(&mut frame.header_reads);
            match &expr.kind {
                ExprKind::Member { .. } if reads.len() == 1 && !reads[0].possible => {
                    self.warn_constant_subject(&reads[0].name, expr.span);
                }
                _ => self.check_reads(&reads, state),
            }
            subject = Some(typed.expr);
        }
        let mut arms = Vec::with_capacity(route.arms.len());
        let mut after: Option<State> = None;
        let narrowed = frame.narrowed.clone();
        for arm in &route.arms {
            let mut condition_text = None;
            let mut patterns_model = Vec::new();
            let mut guarded = false;
            let (test_span, when) = match &arm.test {
                ArmTest::Else { span } => (*span, None),
                ArmTest::When(condition) => {
                    let typed = self.condition(&mut frame, condition);
                    if let ExprKind::Binary { op: ast::BinaryOp::Matches, left, right, .. } = &condition.kind
                        && let ExprKind::Regex(regex) = &right.kind
                    {
                        condition_text = Some(self.files.slice(left.span).to_owned());
                        patterns_model.push(PatternModel {
                            span: regex.span,
                            kind: PatternKindModel::Regex {
                                pattern: regex.pattern.clone(),
                                flags: regex.flags.clone(),
                            },
                        });
                    }
                    let reads = std::mem::take(&mut frame.header_reads);
                    self.check_reads(&reads, state);
                    (condition.span, Some(typed.expr))
                }
                ArmTest::Patterns { patterns, guard } => {
                    guarded = guard.is_some();
                    let empty = ast::Expr { span: route.head, kind: ExprKind::Broken };
                    let shown = route.subject.as_ref().unwrap_or(&empty);
                    if route.subject.is_none() {
                        let span = patterns.first().map_or(arm.span, |pattern| pattern.span);
                        self.report(
                            Diagnostic::new(Code::F0506, span, "this case needs something to compare with")
                                .label("compared with what?")
                                .help("`route header.status { … }`, or `when …`"),
                        );
                    }
                    let ty = if route.subject.is_some() { subject_ty.clone() } else { Type::Poison };
                    let (test, models) =
                        self.patterns(&mut frame, subject_local, &ty, shown, patterns, guard.as_ref());
                    patterns_model = models;
                    let span = match (patterns.first(), patterns.last(), guard) {
                        (Some(first), _, Some(guard)) => first.span.to(guard.span),
                        (Some(first), Some(last), None) => first.span.to(last.span),
                        _ => arm.span,
                    };
                    let reads = std::mem::take(&mut frame.header_reads);
                    self.check_reads(&reads, state);
                    (span, Some(test))
                }
            };
            let mut known = state.clone();
            if let Some(test) = &when {
                frame.learn(test, true, &self.model.slots);
                for key in &frame.narrowed {
                    if let crate::expr::Key::Header(name) = key {
                        known.set(name, true, None);
                    }
                }
                frame.narrowed = narrowed.clone();
            }
            let nodes = self.steps(scope, &mut known, &arm.steps);
            match &mut after {
                None => after = Some(known),
                Some(after) => after.merge(&known),
            }
            arms.push(ArmModel {
                span: arm.span,
                test_span,
                when,
                patterns: patterns_model,
                guarded,
                condition_text,
                nodes,
            });
        }
        if let Some(after) = after {
            *state = after;
        }
        if (self.has_syntax_error(route.span) || state.broken) && arms.iter().all(|arm| arm.when.is_some()) {
            // the missing `else`, or what the subject can be, may be what could not be read
            let span = route.head;
            let nodes = vec![Node { span, arrow: span, kind: NodeKind::Poison }];
            self.model.incomplete = true;
            arms.push(ArmModel {
                span,
                test_span: span,
                when: None,
                patterns: Vec::new(),
                guarded: false,
                condition_text: None,
                nodes,
            });
        }
        if self.error_count() > broken {
            // the arms are resolved all the same; the shape is still worth checking
            self.model.incomplete = true;
        }
        NodeKind::Route(RouteModel {
            head: route.head,
            all: route.all,
            subject,
            subject_span: route.subject.as_ref().map(|subject| subject.span),
            subject_type: subject_ty.to_string(),
            subject_values,
            locals: frame.locals,
            broken: self.error_count() > broken || self.has_syntax_error(route.span),
            arms,
        })
    }

    /// F0508
    fn warn_constant_subject(&mut self, name: &str, span: flow_diag::Span) {
        if self.model.incomplete || self.is_poisoned(name) {
            return;
        }
        self.report(
            Diagnostic::new(
                Code::F0508,
                span,
                format!("header `{name}` is set by nothing upstream: only `else` can match"),
            )
            .label("always null"),
        );
    }

    /// The test of a case: any of the patterns, and the guard.
    pub(crate) fn patterns(
        &mut self,
        frame: &mut Frame,
        subject: u32,
        ty: &Type,
        shown: &ast::Expr,
        patterns: &[ast::Pattern],
        guard: Option<&ast::Expr>,
    ) -> (ir::Expr, Vec<PatternModel>) {
        let mut models = Vec::with_capacity(patterns.len());
        let mut test: Option<ir::Expr> = None;
        for pattern in patterns {
            let Some((one, kind)) = self.pattern(subject, ty, shown, pattern) else { continue };
            models.push(PatternModel { span: pattern.span, kind });
            test = Some(match test {
                None => one,
                Some(before) => ir::Expr::Or(Box::new(before), Box::new(one)),
            });
        }
        let mut test = test.unwrap_or(ir::Expr::Const(Const::Bool(false)));
        if let Some(guard) = guard {
            let guard = self.condition(frame, guard);
            test = ir::Expr::And(Box::new(test), Box::new(guard.expr));
        }
        (test, models)
    }

    fn pattern(
        &mut self,
        subject: u32,
        ty: &Type,
        shown: &ast::Expr,
        pattern: &ast::Pattern,
    ) -> Option<(ir::Expr, PatternKindModel)> {
        let local = || Box::new(ir::Expr::Local(subject));
        let fits = |pattern: &Type| {
            let ty = ty.present();
            ty.is_dynamic()
                || *ty == Type::Null
                || ty == pattern
                || (ty.is_text() && pattern.is_text())
                || (ty.is_number() && pattern.is_number())
        };
        match &pattern.kind {
            PatternKind::Null => {
                let test = ir::Expr::Compare {
                    op: CompareOp::Eq,
                    left: local(),
                    right: Box::new(ir::Expr::Const(Const::Null)),
                };
                Some((test, PatternKindModel::Null))
            }
            PatternKind::Literal(literal) => {
                let (words, pattern_ty) = describe_literal(literal);
                if pattern_ty != Type::Null && !fits(&pattern_ty) {
                    self.report_pattern(ty, shown, pattern, words, &pattern_ty);
                    return None;
                }
                let test = ir::Expr::Compare {
                    op: CompareOp::Eq,
                    left: local(),
                    right: Box::new(ir::Expr::Const(constant(literal))),
                };
                Some((test, PatternKindModel::Literal(literal.clone())))
            }
            PatternKind::Range(low, high) => {
                let (words, pattern_ty) = describe_literal(low);
                let (_, high_ty) = describe_literal(high);
                if high_ty != pattern_ty && !(high_ty.is_number() && pattern_ty.is_number()) {
                    self.report(
                        Diagnostic::new(
                            Code::F0506,
                            pattern.span,
                            format!("the ends of a range have one type: {pattern_ty} and {high_ty}"),
                        )
                        .label("two types"),
                    );
                    return None;
                }
                if !fits(&pattern_ty) {
                    self.report_pattern(ty, shown, pattern, words, &pattern_ty);
                    return None;
                }
                let test = ir::Expr::Between {
                    value: local(),
                    low: Box::new(ir::Expr::Const(constant(low))),
                    high: Box::new(ir::Expr::Const(constant(high))),
                };
                Some((test, PatternKindModel::Range(low.clone(), high.clone())))
            }
            PatternKind::Regex(regex) => {
                let compiled = regexes::compile_regex(regex, &mut self.diagnostics)?;
                if !fits(&Type::String) {
                    self.report_pattern(ty, shown, pattern, "a regex", &Type::Regex);
                    return None;
                }
                self.warn_unanchored(shown, regex);
                let test = ir::Expr::Matches { value: local(), regex: compiled.setting };
                let kind =
                    PatternKindModel::Regex { pattern: regex.pattern.clone(), flags: regex.flags.clone() };
                Some((test, kind))
            }
        }
    }

    /// F0306: a number is looked for in a header, and would be found inside of a longer one.
    fn warn_unanchored(&mut self, shown: &ast::Expr, regex: &ast::Regex) {
        let header = matches!(&shown.kind, ExprKind::Member { object, .. }
            if matches!(&object.kind, ExprKind::Name(root) if root.text == "header"));
        let number = regex.pattern.replace("\\d", "0");
        let number = !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
            && number.bytes().any(|byte| byte.is_ascii_digit());
        if !header || !number {
            return;
        }
        let pattern = &regex.pattern;
        let title = format!("`/{pattern}/` also matches inside of a longer value");
        let mut diagnostic = Diagnostic::new(Code::F0306, regex.span, title).label("not anchored");
        diagnostic = if pattern.bytes().all(|byte| byte.is_ascii_digit()) {
            diagnostic
                .help(format!("`\"{pattern}\"` for this value alone, `/^{pattern}/` for what begins so"))
        } else {
            diagnostic.help(format!("`/^{pattern}$/`"))
        };
        self.report(diagnostic);
    }

    /// F0506
    fn report_pattern(
        &mut self,
        ty: &Type,
        shown: &ast::Expr,
        pattern: &ast::Pattern,
        words: &str,
        pattern_ty: &Type,
    ) {
        let text = self.files.slice(shown.span).to_owned();
        let is = match ty.present() {
            ty if ty.is_text() => "text".to_owned(),
            ty if ty.is_number() => "a number".to_owned(),
            ty => ty.with_article(),
        };
        let mut diagnostic =
            Diagnostic::new(Code::F0506, pattern.span, format!("`{text}` is {is}, the case is {words}"))
                .label(words.to_owned())
                .also(shown.span, ty.to_string());
        if ty.present().is_text() && pattern_ty.is_number() {
            diagnostic = diagnostic
                .help(format!("`int({text})`, or quote the case: `\"{}\"`", self.files.slice(pattern.span)));
        } else if ty.present().is_number() && pattern_ty.is_text() {
            let bare = self.files.slice(pattern.span).trim_matches('"').to_owned();
            diagnostic = diagnostic.help(format!("write `{bare}`"));
        } else if *pattern_ty == Type::Regex {
            diagnostic = diagnostic.help(format!("`text({text})`"));
        }
        self.report(diagnostic);
    }
}

fn constant(literal: &ast::Literal) -> Const {
    match literal {
        ast::Literal::Null => Const::Null,
        ast::Literal::Bool(value) => Const::Bool(*value),
        ast::Literal::Int(value) => Const::Int(*value),
        ast::Literal::Float(value) => Const::Float(*value),
        ast::Literal::Duration(value) => Const::Duration(*value),
        ast::Literal::Size(value) => Const::Size(*value),
        ast::Literal::Time(value) => Const::Time(*value),
        ast::Literal::String(value) => Const::Text(value.clone()),
    }
}
