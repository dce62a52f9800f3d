//! What the language offers, read from `extern` items: kinds with their settings and abilities, functions with
//! their signatures. The checker knows kinds and functions only through this value.

use std::collections::BTreeMap;

use flow_diag::{Diagnostic, Files};
use flow_plan::function::Functions;
use flow_syntax::ast::{self, ExternWord};

use crate::settings::SettingType;
use crate::types::Type;

/// What the language offers: declarations read from `extern` items, and the functions' implementations for
/// evaluating constants.
pub struct Library {
    /// The declarations, whole.
    pub externs: Vec<ast::Extern>,
    pub functions: Functions,
}

impl Library {
    /// Parses declaration files, given as (name, text). Their diagnostics speak of the returned files.
    pub fn from_declarations<'a>(
        texts: impl IntoIterator<Item = (&'a str, &'a str)>,
        functions: Functions,
    ) -> (Library, Files, Vec<Diagnostic>) {
        let mut files = Files::new();
        let texts: Vec<_> = texts.into_iter().map(|(name, text)| (files.add(name, text), text)).collect();
        let mut externs = Vec::new();
        let mut diagnostics = Vec::new();
        for parsed in flow_syntax::parse_files(&texts) {
            diagnostics.extend(parsed.diagnostics);
            externs.extend(parsed.value.items.into_iter().filter_map(|item| match item {
                ast::Item::Extern(declaration) => Some(declaration),
                _ => None,
            }));
        }
        (Library { externs, functions }, files, diagnostics)
    }

    /// The kinds of a sort by name; for functions all overloads in order of declaration.
    pub fn named<'l>(&'l self, word: ExternWord, name: &'l str) -> impl Iterator<Item = &'l ast::Extern> {
        self.externs.iter().filter(move |item| item.word == word && item.name.text == name)
    }
}

/// The library by name, its types resolved.
pub(crate) struct Index<'a> {
    pub kinds: BTreeMap<(ExternWord, &'a str), Kind<'a>>,
    pub functions: BTreeMap<&'a str, Vec<Signature<'a>>>,
}

/// A kind of source, sink, …
pub(crate) struct Kind<'a> {
    pub name: &'a str,
    /// Main arguments first, then the settings between braces.
    pub settings: Vec<SettingDecl<'a>>,
    /// How many of them are main arguments.
    pub arguments: usize,
    pub rest: Option<SettingType>,
    pub abilities: Vec<String>,
    /// Choices of settings that take an ability away.
    pub unless: &'a [ast::Unless],
    /// Headers that the kind sets.
    pub sets: Vec<&'a str>,
}

pub(crate) struct SettingDecl<'a> {
    pub name: &'a str,
    pub ty: SettingType,
    pub default: Option<&'a ast::Expr>,
    /// Declared, and not built in.
    pub absent: bool,
}

/// One overload of a library function.
pub(crate) struct Signature<'a> {
    pub name: &'a str,
    pub params: Vec<SignatureParam<'a>>,
    pub result: Type,
    pub can_fail: bool,
    pub absent: bool,
}

pub(crate) struct SignatureParam<'a> {
    pub name: &'a str,
    pub ty: Type,
    pub default: Option<&'a ast::Expr>,
}

impl Kind<'_> {
    pub fn can(&self, ability: &str) -> bool {
        self.abilities.iter().any(|own| own == ability)
    }

    pub fn setting(&self, name: &str) -> Option<&SettingDecl<'_>> {
        self.settings.iter().find(|setting| setting.name == name)
    }
}

impl Signature<'_> {
    /// `replace(value: string, what: regex) -> string`
    pub fn text(&self) -> String {
        let params =
            self.params.iter().map(|param| format!("{}: {}", param.name, param.ty)).collect::<Vec<_>>();
        format!("{}({}) -> {}", self.name, params.join(", "), self.result)
    }
}

impl<'a> Index<'a> {
    pub fn new(library: &'a Library) -> Index<'a> {
        let mut index = Index { kinds: BTreeMap::new(), functions: BTreeMap::new() };
        for item in &library.externs {
            let has = |word: &str| item.abilities.iter().any(|ability| ability.text == word);
            if item.word == ExternWord::Fn {
                index.functions.entry(&item.name.text).or_default().push(Signature {
                    name: &item.name.text,
                    params: item
                        .params
                        .iter()
                        .map(|param| SignatureParam {
                            name: &param.name.text,
                            ty: param.ty.as_ref().map_or(Type::Any, library_type),
                            default: param.default.as_ref(),
                        })
                        .collect(),
                    result: item.result.as_ref().map_or(Type::Any, library_type),
                    can_fail: has("fail"),
                    absent: has("absent"),
                });
                continue;
            }
            let arguments = item.params.iter().map(|param| SettingDecl {
                name: &param.name.text,
                ty: param.ty.as_ref().map_or(SettingType::Any, SettingType::of),
                default: param.default.as_ref(),
                absent: false,
            });
            let settings = item.settings.iter().map(|setting| SettingDecl {
                name: &setting.name.text,
                ty: SettingType::of(&setting.ty),
                default: setting.default.as_ref(),
                absent: setting.absent,
            });
            let kind = Kind {
                name: &item.name.text,
                settings: arguments.chain(settings).collect(),
                arguments: item.params.len(),
                rest: item.rest.as_ref().map(SettingType::of),
                abilities: item.abilities.iter().map(|ability| ability.text.clone()).collect(),
                unless: &item.unless,
                sets: item.sets.iter().map(|name| name.text.as_str()).collect(),
            };
            index.kinds.insert((item.word, &item.name.text), kind);
        }
        index
    }

    pub fn kind(&self, word: ExternWord, name: &str) -> Option<&Kind<'a>> {
        self.kinds
            .range((word, "")..)
            .take_while(|((of, _), _)| *of == word)
            .find(|((_, own), _)| *own == name)
            .map(|(_, kind)| kind)
    }

    pub fn kind_names(&self, word: ExternWord) -> impl Iterator<Item = &'a str> + '_ {
        self.kinds.keys().filter(move |(of, _)| *of == word).map(|(_, name)| *name)
    }
}

/// A type in a declaration: no names of the user's, single capitals are variables.
pub(crate) fn library_type(ty: &ast::TypeExpr) -> Type {
    let base = match &ty.kind {
        ast::TypeKind::Name(name) => match builtin_type(name) {
            Some(ty) => ty,
            None if name.len() == 1 && name.chars().all(|c| c.is_ascii_uppercase()) => {
                Type::Variable(name.clone())
            }
            None => Type::Any,
        },
        ast::TypeKind::Generic(word, args) => match (word.as_str(), args.as_slice()) {
            ("list", [item]) => Type::list(library_type(item)),
            ("map", [item]) => Type::map(library_type(item)),
            ("secret", _) => Type::Secret,
            _ => Type::Any,
        },
        ast::TypeKind::Record(fields) => Type::Record(std::rc::Rc::new(crate::types::Record {
            name: None,
            fields: fields.iter().map(|field| (field.name.text.clone(), library_type(&field.ty))).collect(),
        })),
        ast::TypeKind::Function(args, result) => {
            Type::Function(args.iter().map(library_type).collect(), Box::new(library_type(result)))
        }
        ast::TypeKind::OneOf(_) => Type::String,
        ast::TypeKind::Broken => Type::Poison,
    };
    match (ty.optional, base) {
        (true, Type::Any) => Type::Optional(Box::new(Type::Any)),
        (true, base) => base.optional(),
        (false, base) => base,
    }
}

/// The types that need no declaration. `path`, `url` and the like are text at run time.
pub(crate) fn builtin_type(name: &str) -> Option<Type> {
    Some(match name {
        "string" | "glob" | "path" | "address" | "url" | "template" | "header" => Type::String,
        "bytes" => Type::Bytes,
        "int" => Type::Int,
        "float" => Type::Float,
        "bool" => Type::Bool,
        "time" => Type::Time,
        "duration" => Type::Duration,
        "size" => Type::Size,
        "regex" => Type::Regex,
        "json" => Type::Json,
        "any" => Type::Any,
        "secret" => Type::Secret,
        _ => return None,
    })
}

/// The types a user can name, for suggestions.
pub(crate) const USER_TYPES: &[&str] =
    &["string", "bytes", "int", "float", "bool", "time", "duration", "size", "regex", "json", "list", "map"];
