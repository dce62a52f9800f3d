//! Declarations.

use flow_diag::{Code, Diagnostic, Span, suggest};

use super::{Body, Builder};
use crate::ast::{
    Agent, Block, Component, ComponentWord, Deliver, Flow, FnDecl, Import, Interceptor, InterceptorBody,
    Item, Name, Param, ParamDecl, Runtime, Secret, Settings, Template, Topic, TypeDecl,
};
use crate::grammar::{Node, Rule, children};
use crate::words::ITEM_WORDS;

impl Builder<'_> {
    /// `file`
    pub(crate) fn items_of_file(&mut self, node: &Node<'_>) -> Vec<Item> {
        let mut items = Vec::new();
        for child in children(node) {
            match child.as_rule() {
                Rule::item => items.extend(self.item(&child)),
                Rule::x_semicolon => self.semicolon(&child),
                _ => {}
            }
        }
        items
    }

    fn items(&mut self, node: &Node<'_>) -> Vec<Item> {
        if let Some(Body::Items(items)) = self.body(node) {
            return items;
        }
        let span = self.span(node);
        self.deeper(1, span, |this| this.items_of_file(node)).unwrap_or_default()
    }

    /// `item`; nothing for a misspelt declaration word that is like no word.
    pub(crate) fn item(&mut self, node: &Node<'_>) -> Option<Item> {
        let inner = children(node).next()?;
        let span = self.span(&inner);
        let doc = self.source.doc_above(span.start as usize);
        Some(match inner.as_rule() {
            Rule::import_decl => Item::Import(self.import_decl(&inner)),
            Rule::param_decl => Item::Param(self.param_decl(&inner, doc)),
            Rule::secret_decl => Item::Secret(self.secret_decl(&inner, doc)?),
            Rule::type_decl => Item::Type(self.type_decl(&inner, doc)),
            Rule::fn_decl => Item::Fn(self.fn_decl(&inner, doc)),
            Rule::interceptor_decl => Item::Interceptor(self.interceptor_decl(&inner, doc)),
            Rule::component_decl => Item::Component(self.component_decl(&inner, doc)?),
            Rule::topic_decl => Item::Topic(self.topic_decl(&inner, doc)),
            Rule::agent_decl => Item::Agent(self.agent_decl(&inner, doc)),
            Rule::flow_decl => Item::Flow(self.flow_decl(&inner, doc)),
            Rule::template_decl => Item::Template(self.template_decl(&inner, doc)),
            Rule::runtime_decl => {
                let mut settings = Settings { span: span.at_end(), entries: Vec::new() };
                for child in children(&inner).filter(|child| child.as_rule() == Rule::map) {
                    settings = self.settings(&child);
                }
                Item::Runtime(Runtime { span, settings })
            }
            Rule::deliver_decl => {
                let guarantee = children(&inner).find(|child| child.as_rule() == Rule::guarantee);
                let guarantee = guarantee.map_or_else(|| self.no_name(span), |word| self.word(&word));
                Item::Deliver(Deliver { span, guarantee })
            }
            Rule::test_decl => Item::Test(self.test_decl(&inner)),
            Rule::extern_decl => Item::Extern(self.extern_decl(&inner)),
            Rule::x_typo_decl => return self.typo_decl(&inner, doc),
            Rule::chain => Item::Chain(self.chain(&inner)),
            _ => return None,
        })
    }

    fn import_decl(&mut self, node: &Node<'_>) -> Import {
        let span = self.span(node);
        let mut import = Import { span, path: String::new(), path_span: span.at_end(), alias: None };
        for child in children(node) {
            match child.as_rule() {
                Rule::text_lit => {
                    (import.path, import.path_span) = self.plain_text(&child, "the path of an import")
                }
                Rule::name => import.alias = Some(self.name(&child)),
                _ => {}
            }
        }
        import
    }

    fn param_decl(&mut self, node: &Node<'_>, doc: Option<String>) -> Param {
        let span = self.span(node);
        let mut param = Param { span, doc, name: self.no_name(span), ty: None, default: None, check: None };
        for child in children(node) {
            match child.as_rule() {
                Rule::name => param.name = self.name(&child),
                Rule::type_expr => param.ty = Some(self.type_expr(&child)),
                Rule::expr => param.default = Some(self.expr(&child)),
                Rule::check => {
                    let test = children(&child).find(|part| part.as_rule() == Rule::expr);
                    param.check = test.map(|test| self.expr(&test));
                }
                _ => {}
            }
        }
        param
    }

    fn secret_decl(&mut self, node: &Node<'_>, doc: Option<String>) -> Option<Secret> {
        let span = self.span(node);
        let mut name = self.no_name(span);
        let mut from = None;
        for child in children(node) {
            match child.as_rule() {
                Rule::name => name = self.name(&child),
                Rule::ctor => from = Some(self.ctor(&child)),
                Rule::x_missing_eq => from = self.missing_eq(&child),
                _ => {}
            }
        }
        Some(Secret { span, doc, name, from: from? })
    }

    fn type_decl(&mut self, node: &Node<'_>, doc: Option<String>) -> TypeDecl {
        let span = self.span(node);
        let mut decl = TypeDecl { span, doc, name: self.no_name(span), ty: super::types::broken_type(span) };
        for child in children(node) {
            match child.as_rule() {
                Rule::name => decl.name = self.name(&child),
                Rule::type_expr => decl.ty = self.type_expr(&child),
                _ => {}
            }
        }
        decl
    }

    fn fn_decl(&mut self, node: &Node<'_>, doc: Option<String>) -> FnDecl {
        let span = self.span(node);
        let mut decl = FnDecl {
            span,
            doc,
            name: self.no_name(span),
            params: Vec::new(),
            result: None,
            body: Block { span: span.at_end(), stmts: Vec::new() },
        };
        for child in children(node) {
            match child.as_rule() {
                Rule::name => decl.name = self.name(&child),
                Rule::params => decl.params = self.params(&child),
                Rule::type_expr => decl.result = Some(self.type_expr(&child)),
                Rule::block => decl.body = self.block(&child),
                _ => {}
            }
        }
        decl
    }

    /// `( name: type = default, … )`
    pub(super) fn params(&mut self, node: &Node<'_>) -> Vec<ParamDecl> {
        let mut params = Vec::new();
        for child in children(node) {
            match child.as_rule() {
                Rule::par => params.push(self.par(&child)),
                Rule::x_semicolon => self.semicolon(&child),
                _ => {}
            }
        }
        params
    }

    fn par(&mut self, node: &Node<'_>) -> ParamDecl {
        let mut param = ParamDecl { name: self.no_name(self.span(node)), ty: None, default: None };
        for child in children(node) {
            match child.as_rule() {
                Rule::name => param.name = self.name(&child),
                Rule::type_expr => param.ty = Some(self.type_expr(&child)),
                Rule::type_range => {
                    let range = self.type_range(&child);
                    if let Some(ty) = &mut param.ty {
                        ty.range = range;
                    }
                }
                Rule::expr => param.default = Some(self.expr(&child)),
                _ => {}
            }
        }
        param
    }

    fn interceptor_decl(&mut self, node: &Node<'_>, doc: Option<String>) -> Interceptor {
        let span = self.span(node);
        let mut decl = Interceptor {
            span,
            doc,
            name: self.no_name(span),
            params: Vec::new(),
            body: InterceptorBody::Code(Block { span: span.at_end(), stmts: Vec::new() }),
        };
        for child in children(node) {
            match child.as_rule() {
                Rule::name => decl.name = self.name(&child),
                Rule::params => decl.params = self.params(&child),
                Rule::pipeline => decl.body = self.pipeline(&child),
                Rule::block => decl.body = InterceptorBody::Code(self.block(&child)),
                Rule::x_arrow_body => {
                    let arrow = self.part(&child, 0, "->".len());
                    self.report(
                        Diagnostic::new(Code::F0011, arrow, "missing `=` after the name")
                            .label("write `=`")
                            .help("a pipeline is declared `interceptor name = a -> b`")
                            .fix(arrow, "="),
                    );
                    if let Some(pipeline) = children(&child).find(|part| part.as_rule() == Rule::pipeline) {
                        decl.body = self.pipeline(&pipeline);
                    }
                }
                _ => {}
            }
        }
        decl
    }

    fn pipeline(&mut self, node: &Node<'_>) -> InterceptorBody {
        let row = self.steps(children(node));
        let steps = row.first.into_iter().chain(row.steps.into_iter().map(|next| next.step));
        InterceptorBody::Pipeline(steps.collect())
    }

    fn component_decl(&mut self, node: &Node<'_>, doc: Option<String>) -> Option<Component> {
        let span = self.span(node);
        let mut word = ComponentWord::Source;
        let mut name = self.no_name(span);
        let mut ctor = None;
        for child in children(node) {
            match child.as_rule() {
                Rule::component_kw => word = component_word(child.as_str().trim_end())?,
                Rule::name => name = self.name(&child),
                Rule::ctor | Rule::flow_ctor => ctor = Some(self.ctor(&child)),
                Rule::x_missing_eq => ctor = self.missing_eq(&child),
                _ => {}
            }
        }
        Some(Component { span, doc, word, name, ctor: ctor? })
    }

    /// The constructor of `source web tail "x"`.
    fn missing_eq(&mut self, node: &Node<'_>) -> Option<crate::ast::Ctor> {
        let ctor = self.ctor(&children(node).next()?);
        let kind = ctor.kind.span;
        self.report(
            Diagnostic::new(Code::F0011, kind, "missing `=` after the name")
                .label("expected `=` before this")
                .help("declarations are `source name = kind …`")
                .fix(kind.at_start(), "= "),
        );
        Some(ctor)
    }

    fn topic_decl(&mut self, node: &Node<'_>, doc: Option<String>) -> Topic {
        let span = self.span(node);
        let mut topic = Topic { span, doc, name: self.no_name(span), cluster: None, settings: None };
        for child in children(node) {
            match child.as_rule() {
                Rule::name => topic.name = self.name(&child),
                Rule::path => topic.cluster = Some(self.path(&child)),
                Rule::map => topic.settings = Some(self.settings(&child)),
                _ => {}
            }
        }
        topic
    }

    fn agent_decl(&mut self, node: &Node<'_>, doc: Option<String>) -> Agent {
        let span = self.span(node);
        let name = self.no_name(span);
        let mut agent = Agent { span, doc, name, params: Vec::new(), at: None, items: Vec::new() };
        for child in children(node) {
            match child.as_rule() {
                Rule::name => agent.name = self.name(&child),
                Rule::params => agent.params = self.params(&child),
                Rule::expr_nomap => agent.at = Some(self.expr(&child)),
                Rule::items => agent.items = self.items(&child),
                _ => {}
            }
        }
        agent
    }

    fn flow_decl(&mut self, node: &Node<'_>, doc: Option<String>) -> Flow {
        let span = self.span(node);
        let mut flow = Flow { span, doc, name: self.no_name(span), deliver: None, items: Vec::new() };
        for child in children(node) {
            match child.as_rule() {
                Rule::name => flow.name = self.name(&child),
                Rule::guarantee => flow.deliver = Some(self.word(&child)),
                Rule::items => flow.items = self.items(&child),
                _ => {}
            }
        }
        flow
    }

    fn template_decl(&mut self, node: &Node<'_>, doc: Option<String>) -> Template {
        let span = self.span(node);
        let mut decl =
            Template { span, doc, name: self.no_name(span), params: Vec::new(), items: Vec::new() };
        for child in children(node) {
            match child.as_rule() {
                Rule::name => decl.name = self.name(&child),
                Rule::params => decl.params = self.params(&child),
                Rule::items => decl.items = self.items(&child),
                _ => {}
            }
        }
        decl
    }

    /// `soruce web = tail "x"`: read as what was probably meant, so that `web` is known.
    fn typo_decl(&mut self, node: &Node<'_>, doc: Option<String>) -> Option<Item> {
        let span = self.span(node);
        let (mut word, mut name, mut ctor) = (self.no_name(span), self.no_name(span), None);
        for child in children(node) {
            match child.as_rule() {
                Rule::typo_word => word = self.word(&child),
                Rule::name => name = self.name(&child),
                Rule::ctor | Rule::flow_ctor => ctor = Some(self.ctor(&child)),
                _ => {}
            }
        }
        let meant = self.unknown_declaration(&word);
        let ctor = ctor?;
        let word = match meant {
            Some("secret") => return Some(Item::Secret(Secret { span, doc, name, from: ctor })),
            Some(meant) => component_word(meant),
            None => None,
        };
        Some(Item::Component(Component { span, doc, word: word?, name, ctor }))
    }

    /// Reports F0002 and gives the nearest declaration word.
    pub(crate) fn unknown_declaration(&mut self, word: &Name) -> Option<&'static str> {
        let meant = suggest(&word.text, ITEM_WORDS);
        let diagnostic = unknown_declaration(word.span, &word.text, meant);
        self.report(diagnostic);
        meant
    }
}

/// F0002 for a word at the start of a declaration.
pub(crate) fn unknown_declaration(span: Span, word: &str, meant: Option<&str>) -> Diagnostic {
    let diagnostic = Diagnostic::new(Code::F0002, span, format!("unknown declaration `{word}`"));
    match meant {
        Some(meant) => diagnostic.label(format!("did you mean `{meant}`?")).fix(span, meant),
        None => diagnostic
            .label("not a word that declares something")
            .help("declarations begin with `source`, `channel`, `sink`, `interceptor`, `topic`, …"),
    }
}

fn component_word(word: &str) -> Option<ComponentWord> {
    Some(match word {
        "source" => ComponentWord::Source,
        "channel" => ComponentWord::Channel,
        "sink" => ComponentWord::Sink,
        "group" => ComponentWord::Group,
        "consumer" => ComponentWord::Consumer,
        "cluster" => ComponentWord::Cluster,
        "ensemble" => ComponentWord::Ensemble,
        "use" => ComponentWord::Use,
        _ => return None,
    })
}
