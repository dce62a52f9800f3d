//! Types.

use super::Builder;
use crate::ast::{Choice, Expr, ExprKind, Field, TypeExpr, TypeKind};
use crate::grammar::{Node, Rule, children};

impl Builder<'_> {
    /// `type_expr`
    pub(super) fn type_expr(&mut self, node: &Node<'_>) -> TypeExpr {
        let span = self.span(node);
        let kind = self.deeper(1, span, |this| {
            let mut optional = false;
            let mut kind = TypeKind::Broken;
            for child in children(node) {
                match child.as_rule() {
                    Rule::opt_mark => optional = true,
                    _ => kind = this.type_kind(&child),
                }
            }
            (kind, optional)
        });
        let (kind, optional) = kind.unwrap_or((TypeKind::Broken, false));
        TypeExpr { span, kind, optional, range: None }
    }

    fn type_kind(&mut self, node: &Node<'_>) -> TypeKind {
        match node.as_rule() {
            Rule::type_word => TypeKind::Name(node.as_str().trim_end().to_owned()),
            Rule::record_type => {
                let fields =
                    children(node).filter(|child| child.as_rule() == Rule::field).collect::<Vec<_>>();
                TypeKind::Record(fields.iter().map(|field| self.field(field)).collect())
            }
            Rule::one_of_type => {
                let choices =
                    children(node).filter(|child| child.as_rule() == Rule::choice).collect::<Vec<_>>();
                TypeKind::OneOf(choices.iter().map(|choice| self.choice(choice)).collect())
            }
            Rule::generic_type => {
                let mut name = String::new();
                let mut args = Vec::new();
                for child in children(node) {
                    match child.as_rule() {
                        Rule::type_word => name = child.as_str().trim_end().to_owned(),
                        Rule::type_expr => args.push(self.type_expr(&child)),
                        _ => {}
                    }
                }
                TypeKind::Generic(name, args)
            }
            Rule::fn_type => {
                let parts =
                    children(node).filter(|child| child.as_rule() == Rule::type_expr).collect::<Vec<_>>();
                let mut types: Vec<TypeExpr> = parts.iter().map(|part| self.type_expr(part)).collect();
                match types.pop() {
                    Some(result) => TypeKind::Function(types, Box::new(result)),
                    None => TypeKind::Broken,
                }
            }
            _ => TypeKind::Broken,
        }
    }

    fn field(&mut self, node: &Node<'_>) -> Field {
        let span = self.span(node);
        let mut field = Field { name: self.no_name(span), ty: broken_type(span) };
        for child in children(node) {
            match child.as_rule() {
                Rule::word => field.name = self.word(&child),
                Rule::type_expr => field.ty = self.type_expr(&child),
                _ => {}
            }
        }
        field
    }

    fn choice(&mut self, node: &Node<'_>) -> Choice {
        let span = self.span(node);
        let mut choice = Choice { name: self.no_name(span), value: None };
        for child in children(node) {
            match child.as_rule() {
                Rule::word => choice.name = self.word(&child),
                Rule::type_expr => choice.value = Some(self.type_expr(&child)),
                _ => {}
            }
        }
        choice
    }

    /// `1..100` after a type.
    pub(super) fn type_range(&mut self, node: &Node<'_>) -> Option<(Expr, Expr)> {
        let mut ends = Vec::new();
        for bound in children(node).filter(|child| child.as_rule() == Rule::bound) {
            let span = self.span(&bound);
            ends.push(Expr { span, kind: ExprKind::Literal(self.bound(&bound)) });
        }
        let mut ends = ends.into_iter();
        ends.next().zip(ends.next())
    }
}

pub(super) fn broken_type(span: flow_diag::Span) -> TypeExpr {
    TypeExpr { span, kind: TypeKind::Broken, optional: false, range: None }
}
