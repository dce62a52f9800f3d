//! Looking names up, and saying what was meant when there is no such name.

use flow_diag::{Code, Diagnostic, Span};
use flow_plan::ir;
use flow_syntax::ast::{self, ExprKind};

use super::{EntityId, Resolver, ScopeId};
use crate::model::ComponentId;
use crate::types::Type;

/// What a name stands for.
#[derive(Clone, Debug)]
pub(crate) enum EntityKind {
    Component(ComponentId),
    /// An index into the declared interceptors.
    Interceptor(usize),
    Fn(usize),
    Type(usize),
    Param(usize),
    /// A parameter of a template or an agent, with its value.
    Constant(ir::Expr, Type),
    /// An index into [`crate::model::Model::secrets`].
    Secret(usize),
    Template(usize),
    Agent(ScopeId),
    Flow(ScopeId),
    Use(ScopeId),
    Import(ScopeId),
    /// Its declaration had an error.
    Poison,
}

impl EntityKind {
    /// With an article, for messages.
    pub fn in_words(&self) -> &'static str {
        match self {
            EntityKind::Component(_) => "a component",
            EntityKind::Interceptor(_) => "an interceptor",
            EntityKind::Fn(_) => "a function",
            EntityKind::Type(_) => "a type",
            EntityKind::Param(_) | EntityKind::Constant(..) => "a parameter",
            EntityKind::Secret(_) => "a secret",
            EntityKind::Template(_) => "a template",
            EntityKind::Agent(_) => "an agent",
            EntityKind::Flow(_) => "a flow",
            EntityKind::Use(_) => "an instance of a template",
            EntityKind::Import(_) => "an imported file",
            EntityKind::Poison => "broken",
        }
    }
}

impl<'a> Resolver<'a> {
    /// The thing a name stands for, from the innermost scope outwards.
    pub(crate) fn lookup(&self, scope: ScopeId, name: &str) -> Option<EntityId> {
        let mut scope = Some(scope);
        while let Some(id) = scope {
            let one = self.scope(id);
            if let Some(entity) = one.names.get(name) {
                return Some(*entity);
            }
            scope = one.parent;
        }
        None
    }

    pub(crate) fn entity_kind(&self, entity: EntityId) -> EntityKind {
        self.entities[entity.0 as usize].kind.clone()
    }

    pub(crate) fn entity_span(&self, entity: EntityId) -> Span {
        self.entities[entity.0 as usize].span
    }

    pub(crate) fn mark_used(&mut self, entity: EntityId) {
        self.entities[entity.0 as usize].used = true;
    }

    pub(super) fn entity_name(&self, entity: EntityId) -> &str {
        &self.entities[entity.0 as usize].name
    }

    /// Whether `entity.name` can be asked.
    pub(crate) fn has_members(&self, entity: EntityId) -> bool {
        matches!(
            self.entities[entity.0 as usize].kind,
            EntityKind::Agent(_) | EntityKind::Flow(_) | EntityKind::Use(_) | EntityKind::Import(_)
        )
    }

    pub(super) fn members(&self, entity: EntityId) -> Option<ScopeId> {
        match self.entities[entity.0 as usize].kind {
            EntityKind::Agent(scope)
            | EntityKind::Flow(scope)
            | EntityKind::Use(scope)
            | EntityKind::Import(scope) => Some(scope),
            _ => None,
        }
    }

    /// `entity.name`; reports F0104 when there is nothing of the name.
    pub(crate) fn member_entity(&mut self, entity: EntityId, name: &ast::Name) -> Option<EntityId> {
        let scope = self.members(entity)?;
        if let Some(found) = self.scope(scope).names.get(&name.text) {
            return Some(*found);
        }
        if self.is_poisoned(&name.text) || self.unclosed_scopes.contains(&scope) {
            return None;
        }
        let of = self.entity_name(entity).to_owned();
        let declared = self.entity_span(entity);
        let what = self.entity_kind(entity).in_words();
        let mut diagnostic =
            Diagnostic::new(Code::F0104, name.span, format!("`{of}` has nothing named `{}`", name.text))
                .also(declared, format!("`{of}` is {what}"));
        let names = self.scope(scope).names.keys().map(String::as_str).collect::<Vec<_>>();
        diagnostic = match flow_diag::suggest(&name.text, names.iter().copied()) {
            Some(near) => diagnostic.label(format!("did you mean `{near}`?")).fix(name.span, near),
            None => {
                let diagnostic = diagnostic.label("no such name");
                if names.is_empty() || names.len() > 12 {
                    diagnostic
                } else {
                    diagnostic.help(format!("it has: {}", names.join(", ")))
                }
            }
        };
        self.report(diagnostic);
        None
    }

    /// The thing that a bare name or a dotted path in an expression stands for; silent when there is none.
    pub(crate) fn entity_of(&mut self, scope: ScopeId, value: &ast::Expr) -> Option<EntityId> {
        match &value.kind {
            ExprKind::Name(name) => self.lookup(scope, &name.text),
            ExprKind::Member { object, name } => {
                let object = self.entity_of(scope, object)?;
                let members = self.members(object)?;
                self.mark_used(object);
                self.scope(members).names.get(&name.text).copied()
            }
            _ => None,
        }
    }

    /// A name that exactly one agent, flow or instance has.
    pub(super) fn only_inside(&self, scope: ScopeId, name: &str) -> Option<EntityId> {
        let mut found = None;
        for entity in self.scope(scope).names.values() {
            let Some(members) = self.members(*entity) else { continue };
            if matches!(self.entity_kind(*entity), EntityKind::Import(_)) {
                continue;
            }
            if let Some(inner) = self.scope(members).names.get(name)
                && found.replace(*inner).is_some()
            {
                return None;
            }
        }
        found
    }

    /// F0101 with the nearest of the candidates.
    pub(crate) fn unknown(&self, name: &ast::Name, candidates: &[String]) -> Diagnostic {
        let diagnostic = Diagnostic::new(Code::F0101, name.span, format!("nothing is named `{}`", name.text));
        match flow_diag::suggest(&name.text, candidates.iter().map(String::as_str)) {
            Some(near) => diagnostic.label(format!("did you mean `{near}`?")).fix(name.span, near),
            None => diagnostic.label("not declared"),
        }
    }

    /// Names visible from a scope for which `wanted` holds.
    pub(super) fn visible(&self, scope: ScopeId, wanted: impl Fn(&EntityKind) -> bool) -> Vec<String> {
        let mut names = Vec::new();
        let mut scope = Some(scope);
        while let Some(id) = scope {
            let one = self.scope(id);
            for (name, entity) in &one.names {
                if wanted(&self.entities[entity.0 as usize].kind) {
                    names.push(name.clone());
                }
            }
            scope = one.parent;
        }
        names
    }

    /// Names that have a value.
    pub(crate) fn value_names(&self, scope: ScopeId) -> Vec<String> {
        self.visible(scope, |kind| matches!(kind, EntityKind::Param(_) | EntityKind::Constant(..)))
    }

    pub(crate) fn function_names(&self, scope: ScopeId) -> Vec<String> {
        self.visible(scope, |kind| matches!(kind, EntityKind::Fn(_)))
    }

    pub(crate) fn type_names(&self, scope: ScopeId) -> Vec<String> {
        self.visible(scope, |kind| matches!(kind, EntityKind::Type(_)))
    }

    /// Components of certain words.
    pub(crate) fn component_names(&self, scope: ScopeId, words: &[String]) -> Vec<String> {
        self.visible(scope, |kind| match kind {
            EntityKind::Component(id) => {
                let word = self.model.components[id.0 as usize].word.text();
                words.is_empty() || words.iter().any(|wanted| wanted == word)
            }
            _ => false,
        })
    }
}
