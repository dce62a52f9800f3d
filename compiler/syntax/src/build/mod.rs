//! From grammar nodes to the syntax tree, one function per rule.
//!
//! Error productions are reported here. Nothing is unwrapped that depends on the text: a part that is missing
//! becomes a `Broken` node or an empty name, and the depth of the tree is bounded.

mod chains;
mod code;
mod exprs;
mod externs;
mod items;
mod literals;
mod numbers;
mod strings;
mod tests;
mod types;

pub(crate) use items::unknown_declaration;
pub(crate) use strings::{unclosed_regex, unclosed_string};

use std::collections::HashMap;

use flow_diag::{Code, Diagnostic, FileId, Span};

use crate::ast::{
    Arm, Expr, ExprKind, ExternSetting, Item, MatchArm, Name, Path, Setting, Stmt, TestStmt, TypeExpr,
};
use crate::grammar::{Node, Rule, children};
use crate::source::Source;

/// Deepest tree that is built, counting operators of one chain as levels: everything that walks a tree may
/// recurse.
pub(crate) const TREE_DEPTH_MAX: usize = 500;

/// What was read one by one from the inside of a block whose text as a whole could not be read.
pub(crate) enum Body {
    Items(Vec<Item>),
    Stmts(Vec<Stmt>),
    Arms(Vec<Arm>),
    MatchArms(Vec<MatchArm>),
    Tests(Vec<TestStmt>),
    Settings(Vec<Setting>),
    Extern(Vec<ExternSetting>, Option<Box<TypeExpr>>),
}

/// Builds trees for one text.
pub(crate) struct Builder<'a> {
    pub source: &'a Source<'a>,
    /// Where the text given to the grammar starts in the file.
    pub base: usize,
    pub diagnostics: Vec<Diagnostic>,
    /// Insides of blocks by the position of their opening bracket.
    pub bodies: HashMap<usize, Body>,
    depth: usize,
}

impl<'a> Builder<'a> {
    pub fn new(source: &'a Source<'a>) -> Builder<'a> {
        Builder { source, base: 0, diagnostics: Vec::new(), bodies: HashMap::new(), depth: 0 }
    }

    fn file(&self) -> FileId {
        self.source.file
    }

    /// Where a node stands, without the blanks that the grammar took along.
    pub fn span(&self, node: &Node<'_>) -> Span {
        let span = node.as_span();
        self.source.trimmed(self.base + span.start(), self.base + span.end())
    }

    /// The untrimmed range within a node, both positions relative to the node's start.
    fn part(&self, node: &Node<'_>, from: usize, to: usize) -> Span {
        let start = self.base + node.as_span().start();
        let max = self.source.text.len();
        let from = (start + from).min(max);
        Span::new(self.file(), from, (start + to).clamp(from, max))
    }

    fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Runs `build` with `levels` more of depth, or reports that the text nests too deep.
    fn deeper<T>(&mut self, levels: usize, span: Span, build: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.depth + levels > TREE_DEPTH_MAX {
            self.report(
                Diagnostic::new(Code::F0023, span, format!("nesting deeper than {TREE_DEPTH_MAX} levels"))
                    .help("name a part of it with `let` or `fn` and use the name"),
            );
            return None;
        }
        self.depth += levels;
        let value = build(self);
        self.depth -= levels;
        Some(value)
    }

    fn broken_expr(&self, span: Span) -> Expr {
        Expr { span, kind: ExprKind::Broken }
    }

    fn no_name(&self, at: Span) -> Name {
        Name { text: String::new(), span: at.at_start() }
    }

    /// `name`: reports `a-b` and reads it as `a_b`.
    fn name(&mut self, node: &Node<'_>) -> Name {
        let span = self.span(node);
        let mut text = node.as_str().trim_end().to_owned();
        if let Some(dash) = children(node).find(|child| child.as_rule() == Rule::x_dash_name) {
            text = text.replace('-', "_");
            self.dash(&dash, &text);
        }
        Name { text, span }
    }

    /// F0008 for the part of a name from the first `-`; `name` is how it is read.
    fn dash(&mut self, node: &Node<'_>, name: &str) {
        let at = self.span(node);
        self.report(
            Diagnostic::new(Code::F0008, at, "names cannot contain `-`")
                .help(format!("use `_`: `{name}`"))
                .help("a difference has blanks: `a - b`")
                .fix(at, node.as_str().replace('-', "_")),
        );
    }

    fn word(&self, node: &Node<'_>) -> Name {
        Name { text: node.as_str().trim_end().to_owned(), span: self.span(node) }
    }

    /// `path`: a name and words.
    fn path(&mut self, node: &Node<'_>) -> Path {
        let span = self.span(node);
        let mut names = Vec::new();
        for child in children(node) {
            match child.as_rule() {
                Rule::name => names.push(self.name(&child)),
                Rule::word => names.push(self.word(&child)),
                Rule::x_dash_name => {
                    let Some(mut last) = names.pop() else { continue };
                    last.text.push_str(&child.as_str().replace('-', "_"));
                    last.span = last.span.to(self.span(&child));
                    self.dash(&child, &last.text);
                    names.push(last);
                }
                _ => {}
            }
        }
        if names.is_empty() {
            names.push(self.no_name(span));
        }
        Path { names, span }
    }

    /// Takes the inside of the block that opens at the start of `node`, when it was read piece by piece.
    fn body(&mut self, node: &Node<'_>) -> Option<Body> {
        if self.bodies.is_empty() {
            return None;
        }
        self.bodies.remove(&(self.base + node.as_span().start()))
    }

    /// Warns of a `;`.
    pub fn semicolon(&mut self, node: &Node<'_>) {
        let diagnostic = crate::explain::semicolon(self.source, self.span(node));
        self.report(diagnostic);
    }
}
