//! Texts read as JSON: a local that holds one is not made a value; its members are found in the text when they are
//! asked for, and only a use of the whole makes it.

use cranelift_codegen::ir::Value;
use flow_plan::ir::{Expr, Fallback, Type};

use super::emit::{Emit, Emitter, Exits};
use super::runtime::{self, Path, Reader};
use super::values::{Kinds, TEXT, Val};

/// What a local holds that was read from a text.
#[derive(Clone, Copy)]
pub struct View {
    /// The address of its [`Reader`].
    reader: Value,
    /// The number of the reader among those the section holds: whose type it has.
    number: usize,
    tape: Value,
    text: Val,
}

/// `json(text)`, checked against a type or not, and what is done when it fails.
struct Read<'e> {
    text: &'e Expr,
    ty: Option<&'e Type>,
    fallback: Option<&'e Fallback>,
}

impl<'e> Read<'e> {
    fn new(expr: &'e Expr, is_reader: impl Fn(&str) -> bool) -> Option<Read<'e>> {
        let (expr, fallback) = match expr {
            Expr::Else { fallback: Fallback::Value(_), .. } => return None,
            Expr::Else { value, fallback } => (&**value, Some(fallback)),
            other => (other, None),
        };
        let (expr, ty) = match expr {
            Expr::Decode { value, ty, .. } => (&**value, Some(ty)),
            other => (other, None),
        };
        let Expr::Call { function, args, .. } = expr else { return None };
        let [text] = args.as_slice() else { return None };
        let fits = is_reader(function) && ty.is_none_or(is_plain_record);
        fits.then_some(Read { text, ty, fallback })
    }
}

/// A record whose fields have no parts.
fn is_plain_record(ty: &Type) -> bool {
    let plain = |ty: &Type| {
        matches!(
            ty,
            Type::Bool | Type::Int | Type::Float | Type::Text | Type::Time | Type::Duration | Type::Size
        )
    };
    let Type::Record { fields, .. } = ty else { return false };
    fields.iter().all(|(_, ty)| match ty {
        Type::Optional(inner) => plain(inner),
        other => plain(other),
    })
}

impl Emitter<'_, '_, '_> {
    /// Reads a text as JSON when that is what the expression does.
    pub fn read_json(&mut self, expr: &Expr) -> Emit<Option<View>> {
        let functions = self.functions;
        let Some(read) = Read::new(expr, |name| functions.reads_json(name)) else { return Ok(None) };
        let exits = self.exits;
        let text = self.value(read.text)?;
        let text = self.guard(text, Kinds::one(TEXT));
        let number = self.held.readers.len();
        let held = Box::new(Reader { ty: read.ty.cloned() });
        let reader = self.int(&raw const *held as i64);
        self.held.readers.push(held);
        let tape = self.int(number as i64);
        if let (Some(Fallback::Drop), None) = (read.fallback, self.returns) {
            self.exits = Exits { fails: exits.drop, ..exits };
        } else if read.fallback.is_some() {
            self.exits = Exits { fails: exits.bail, ..exits };
        }
        let args = [self.frame, reader, tape, text.a, text.b];
        let status = self.call(runtime::json_open as *const u8, &args);
        self.check_status(status);
        self.exits = exits;
        Ok(Some(View { reader, number, tape, text }))
    }

    /// A member of a local that was read, when the expression is one.
    pub fn json_member(&mut self, object: &Expr, name: &str) -> Emit<Option<Val>> {
        let mut names = vec![name.to_owned()];
        let mut object = object;
        while let Expr::Member { object: inner, name } = object {
            names.push(name.clone());
            object = inner;
        }
        names.reverse();
        let Expr::Local(local) = object else { return Ok(None) };
        let Some(view) = self.state.views.get(local).copied() else { return Ok(None) };
        let mut ty = None;
        if let Some(Type::Record { fields, .. }) = &self.held.readers[view.number].ty {
            // The fields have no members, and what is no field is not there.
            let field = fields.iter().find(|(known, _)| *known == names[0]);
            match (field, names.len()) {
                (Some((_, field)), 1) => ty = Some(field.clone()),
                _ => return Ok(None),
            }
        }
        let held = Box::new(Path { names, ty });
        let path = self.int(&raw const *held as i64);
        self.held.paths.push(held);
        let args = [self.frame, path, view.tape, view.text.a, view.text.b];
        let status = self.call(runtime::json_member as *const u8, &args);
        Ok(Some(self.answer(status, Kinds::ALL)))
    }

    /// The value of a local, made now when it was only read so far.
    pub fn local(&mut self, local: u32) -> Option<Val> {
        let Some(view) = self.state.views.get(&local).copied() else {
            return self.state.locals.get(local as usize).copied();
        };
        let args = [self.frame, view.reader, view.text.a, view.text.b];
        let status = self.call(runtime::json_value as *const u8, &args);
        Some(self.answer(status, Kinds::ALL))
    }
}
