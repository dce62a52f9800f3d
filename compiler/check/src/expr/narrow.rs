//! What a test for null teaches: after `if header.x != null` the header is there.

use flow_plan::ir::{self, CompareOp};
use flow_syntax::ast::{self, BinaryOp, ExprKind, UnaryOp};

use super::Frame;

/// Something that can be tested for null and read again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Header(String),
    Local(u32),
    Member(Box<Key>, String),
}

impl Key {
    /// Whether an assignment to `self` changes what is known of `other`.
    pub fn covers(&self, other: &Key) -> bool {
        self == other
            || match other {
                Key::Member(object, _) => self.covers(object),
                Key::Header(_) | Key::Local(_) => false,
            }
    }
}

impl Frame {
    /// What is surely there when `condition` was `truth`.
    pub(crate) fn learn(&mut self, condition: &ir::Expr, truth: bool, slots: &[String]) {
        match condition {
            ir::Expr::Not(inner) => self.learn(inner, !truth, slots),
            ir::Expr::And(a, b) if truth => {
                self.learn(a, true, slots);
                self.learn(b, true, slots);
            }
            ir::Expr::Or(a, b) if !truth => {
                self.learn(a, false, slots);
                self.learn(b, false, slots);
            }
            ir::Expr::Compare { op, left, right } => {
                let null = |expr: &ir::Expr| matches!(expr, ir::Expr::Const(ir::Const::Null));
                match (op, truth) {
                    (CompareOp::Ne, true) | (CompareOp::Eq, false) => {
                        if null(right) {
                            self.learn_present(left, slots);
                        } else if null(left) {
                            self.learn_present(right, slots);
                        }
                    }
                    (CompareOp::Eq, true) => {
                        // equal to something that is not null
                        if is_present(right) {
                            self.learn_present(left, slots);
                        }
                        if is_present(left) {
                            self.learn_present(right, slots);
                        }
                    }
                    (CompareOp::Lt | CompareOp::Le | CompareOp::Gt | CompareOp::Ge, true) => {
                        self.learn_present(left, slots);
                        self.learn_present(right, slots);
                    }
                    _ => {}
                }
            }
            ir::Expr::Matches { value, .. } | ir::Expr::MatchesDynamic { value, .. } if truth => {
                self.learn_present(value, slots);
            }
            ir::Expr::In { value, list } if truth => {
                if let ir::Expr::List(items) = list.as_ref()
                    && items.iter().all(is_present)
                {
                    self.learn_present(value, slots);
                }
            }
            ir::Expr::Between { value, .. } if truth => self.learn_present(value, slots),
            _ => {}
        }
    }

    fn learn_present(&mut self, expr: &ir::Expr, slots: &[String]) {
        if let Some(key) = key_of(expr, slots) {
            self.narrowed.insert(key);
        }
    }

    /// An assignment ends what was learnt.
    pub(super) fn unlearn(&mut self, key: &Key) {
        self.narrowed.retain(|known| !key.covers(known));
    }
}

fn is_present(expr: &ir::Expr) -> bool {
    match expr {
        ir::Expr::Const(constant) => *constant != ir::Const::Null,
        ir::Expr::Template(_) | ir::Expr::List(_) | ir::Expr::Map(_) => true,
        _ => false,
    }
}

fn key_of(expr: &ir::Expr, slots: &[String]) -> Option<Key> {
    match expr {
        ir::Expr::Header(slot) => slots.get(slot.0 as usize).map(|name| Key::Header(name.clone())),
        ir::Expr::Local(local) => Some(Key::Local(*local)),
        ir::Expr::Member { object, name } => {
            key_of(object, slots).map(|object| Key::Member(Box::new(object), name.clone()))
        }
        // `int(header.x) > 5` was only true with a header
        ir::Expr::Call { args, .. } if args.len() == 1 => key_of(&args[0], slots),
        _ => None,
    }
}

/// Whether the truth of a condition can be told from its text alone.
pub(super) fn constant_condition(condition: &ast::Expr) -> Option<bool> {
    match &condition.kind {
        ExprKind::Literal(ast::Literal::Bool(value)) => Some(*value),
        ExprKind::Unary { op: UnaryOp::Not, value, .. } => constant_condition(value).map(|value| !value),
        ExprKind::Binary { op, left, right, .. } => match op {
            BinaryOp::And => match (constant_condition(left), constant_condition(right)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            BinaryOp::Or => match (constant_condition(left), constant_condition(right)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            BinaryOp::Eq | BinaryOp::Ne => {
                let (ExprKind::Literal(a), ExprKind::Literal(b)) = (&left.kind, &right.kind) else {
                    return None;
                };
                Some((a == b) == (*op == BinaryOp::Eq))
            }
            BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge => {
                let (ExprKind::Literal(ast::Literal::Int(a)), ExprKind::Literal(ast::Literal::Int(b))) =
                    (&left.kind, &right.kind)
                else {
                    return None;
                };
                Some(match op {
                    BinaryOp::Lt => a < b,
                    BinaryOp::Le => a <= b,
                    BinaryOp::Gt => a > b,
                    _ => a >= b,
                })
            }
            _ => None,
        },
        _ => None,
    }
}
