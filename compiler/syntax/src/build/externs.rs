//! `extern` declarations of the library.

use super::{Body, Builder};
use crate::ast::{Extern, ExternSetting, ExternWord, TypeExpr, Unless};
use crate::grammar::{Node, Rule, children};

impl Builder<'_> {
    pub(super) fn extern_decl(&mut self, node: &Node<'_>) -> Extern {
        let span = self.span(node);
        let mut decl = Extern {
            span,
            doc: self.source.doc_above(span.start as usize),
            word: ExternWord::Fn,
            name: self.no_name(span),
            params: Vec::new(),
            result: None,
            settings: Vec::new(),
            rest: None,
            abilities: Vec::new(),
            unless: Vec::new(),
            sets: Vec::new(),
        };
        for child in children(node) {
            match child.as_rule() {
                Rule::extern_word => decl.word = extern_word(&child),
                Rule::extern_name => {
                    decl.name = self.name(&child);
                }
                Rule::params => decl.params = self.params(&child),
                Rule::type_expr => decl.result = Some(self.type_expr(&child)),
                Rule::extern_body => (decl.settings, decl.rest) = self.extern_body(&child),
                Rule::extern_clause => self.extern_clause(&child, &mut decl),
                _ => {}
            }
        }
        decl
    }

    fn extern_body(&mut self, node: &Node<'_>) -> (Vec<ExternSetting>, Option<TypeExpr>) {
        if let Some(Body::Extern(settings, rest)) = self.body(node) {
            return (settings, rest.map(|rest| *rest));
        }
        let mut settings = Vec::new();
        let mut rest = None;
        for child in children(node) {
            match child.as_rule() {
                Rule::extern_entry => self.extern_entry(&child, &mut settings, &mut rest),
                Rule::x_semicolon => self.semicolon(&child),
                _ => {}
            }
        }
        (settings, rest)
    }

    /// One line of an `extern` body.
    pub(crate) fn extern_entry(
        &mut self,
        node: &Node<'_>,
        settings: &mut Vec<ExternSetting>,
        rest: &mut Option<TypeExpr>,
    ) {
        for child in children(node) {
            match child.as_rule() {
                Rule::extern_setting => settings.push(self.extern_setting(&child)),
                Rule::extern_rest => {
                    let ty = children(&child).find(|part| part.as_rule() == Rule::type_expr);
                    *rest = ty.map(|ty| self.type_expr(&ty));
                }
                _ => {}
            }
        }
    }

    fn extern_setting(&mut self, node: &Node<'_>) -> ExternSetting {
        let span = self.span(node);
        let (start, end) = (span.start as usize, span.end as usize);
        let mut setting = ExternSetting {
            name: self.no_name(span),
            ty: super::types::broken_type(span),
            default: None,
            absent: false,
            doc: self.source.doc_after(end).or_else(|| self.source.doc_above(start)),
        };
        for child in children(node) {
            match child.as_rule() {
                Rule::word => setting.name = self.word(&child),
                Rule::type_expr => setting.ty = self.type_expr(&child),
                Rule::type_range => setting.ty.range = self.type_range(&child),
                Rule::expr => setting.default = Some(self.expr(&child)),
                Rule::choice_word => setting.default = Some(self.choice_word(&child)),
                Rule::absent_mark => setting.absent = true,
                _ => {}
            }
        }
        setting
    }

    fn extern_clause(&mut self, node: &Node<'_>, decl: &mut Extern) {
        for clause in children(node) {
            match clause.as_rule() {
                Rule::can_clause => {
                    for ability in children(&clause).filter(|part| part.as_rule() == Rule::ability) {
                        self.ability(&ability, decl);
                    }
                }
                Rule::sets_clause => {
                    for path in children(&clause).filter(|path| path.as_rule() == Rule::path) {
                        let path = self.path(&path);
                        // `header.file` and `file` both name the header `file`
                        let skip = usize::from(path.names.len() > 1 && path.first().text == "header");
                        let names = &path.names[skip..];
                        let text = names.iter().map(|name| name.text.as_str()).collect::<Vec<_>>().join(".");
                        decl.sets.push(crate::ast::Name { text, span: path.span });
                    }
                }
                _ => {}
            }
        }
    }

    /// `confirm`, `confirm unless confirm: none`
    fn ability(&mut self, node: &Node<'_>, decl: &mut Extern) {
        let mut parts = children(node);
        let Some(ability) = parts.next().map(|word| self.word(&word)) else { return };
        if let Some(unless) = parts.find(|part| part.as_rule() == Rule::unless) {
            let words = children(&unless)
                .filter(|word| word.as_rule() == Rule::word)
                .map(|word| self.word(&word))
                .collect::<Vec<_>>();
            if let [setting, choice] = &words[..] {
                let (setting, choice) = (setting.clone(), choice.clone());
                decl.unless.push(Unless { ability: ability.clone(), setting, choice });
            }
        }
        decl.abilities.push(ability);
    }
}

fn extern_word(node: &Node<'_>) -> ExternWord {
    match children(node).next().map(|word| word.as_rule()) {
        Some(Rule::kw_source) => ExternWord::Source,
        Some(Rule::kw_channel) => ExternWord::Channel,
        Some(Rule::kw_sink) => ExternWord::Sink,
        Some(Rule::kw_group) => ExternWord::Group,
        Some(Rule::kw_interceptor) => ExternWord::Interceptor,
        Some(Rule::kw_cluster) => ExternWord::Cluster,
        Some(Rule::kw_ensemble) => ExternWord::Ensemble,
        Some(Rule::kw_topic) => ExternWord::Topic,
        Some(Rule::kw_consumer) => ExternWord::Consumer,
        Some(Rule::kw_secret) => ExternWord::Secret,
        Some(Rule::kw_runtime) => ExternWord::Runtime,
        _ => ExternWord::Fn,
    }
}
