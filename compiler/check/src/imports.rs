//! Reading a file and everything it imports: each file once, circles refused.

use flow_diag::{Code, Diagnostic, FileId, Files, Span};
use flow_syntax::ast;

use crate::Imports;

/// Files of one program at most.
const FILES_MAX: usize = 1_000;

/// A parsed file with its imports resolved to other loaded files.
pub(crate) struct Loaded {
    pub id: FileId,
    pub ast: ast::File,
    /// By position among the file's `import` items: the index of the loaded file, if it could be read.
    pub imports: Vec<Option<usize>>,
}

/// Loads the root (index 0) and its imports.
pub(crate) fn load(
    root: FileId,
    files: &mut Files,
    imports: &mut dyn Imports,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Loaded> {
    let mut loader = Loader { files, imports, diagnostics, loaded: Vec::new(), stack: Vec::new() };
    loader.parse(root);
    loader.follow(0);
    loader.loaded
}

struct Loader<'l> {
    files: &'l mut Files,
    imports: &'l mut dyn Imports,
    diagnostics: &'l mut Vec<Diagnostic>,
    loaded: Vec<Loaded>,
    /// Files whose imports are being followed, with the import that led on.
    stack: Vec<(usize, Span)>,
}

impl Loader<'_> {
    fn parse(&mut self, id: FileId) -> usize {
        let parsed = flow_syntax::parse_file(id, self.files.text(id));
        self.diagnostics.extend(parsed.diagnostics);
        self.loaded.push(Loaded { id, ast: parsed.value, imports: Vec::new() });
        self.loaded.len() - 1
    }

    fn follow(&mut self, index: usize) {
        let wanted = self.loaded[index]
            .ast
            .items
            .iter()
            .filter_map(|item| match item {
                ast::Item::Import(import) => Some((import.path.clone(), import.path_span)),
                _ => None,
            })
            .collect::<Vec<_>>();
        for (path, span) in wanted {
            let found = self.import(index, &path, span);
            self.loaded[index].imports.push(found);
        }
    }

    fn import(&mut self, from: usize, path: &str, span: Span) -> Option<usize> {
        let from_name = self.files.name(self.loaded[from].id).to_owned();
        let (name, text) = match self.imports.read(&from_name, path) {
            Ok((name, text)) => (plain(&name), text),
            Err(why) => {
                let why = why.trim_end_matches('.');
                let mut diagnostic = Diagnostic::new(Code::F0105, span, format!("cannot find `{path}`"));
                diagnostic = diagnostic.label("not found");
                if !why.is_empty() {
                    diagnostic = diagnostic.help(why.to_owned());
                }
                self.diagnostics.push(diagnostic);
                return None;
            }
        };
        let loaded = self.loaded.iter().position(|one| plain(self.files.name(one.id)) == name);
        if let Some(index) = loaded {
            let circle = self.stack.iter().position(|(busy, _)| *busy == index);
            if index == from || circle.is_some() {
                let mut diagnostic =
                    Diagnostic::new(Code::F0106, span, "files import each other in a circle")
                        .label(format!("`{name}` is being read already"))
                        .help("move the shared part to a third file");
                for (_, import) in &self.stack[circle.unwrap_or(self.stack.len())..] {
                    diagnostic = diagnostic.also(*import, "imported here");
                }
                self.diagnostics.push(diagnostic);
                return None;
            }
            return Some(index);
        }
        if self.loaded.len() >= FILES_MAX || self.stack.len() >= 100 {
            self.diagnostics.push(
                Diagnostic::new(Code::F0105, span, format!("cannot read `{path}`: too many files"))
                    .label(format!("a program has at most {FILES_MAX}")),
            );
            return None;
        }
        let id = self.files.add(name, text);
        let index = self.parse(id);
        self.stack.push((from, span));
        self.follow(index);
        self.stack.pop();
        Some(index)
    }
}

/// The path without detours (`lib/../a.flow` is `a.flow`), so that a file is known again whichever way it is named.
fn plain(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "." => {}
            ".." if parts.last().is_some_and(|last| !matches!(*last, "" | "..")) => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn detours_are_left_out() {
        for (path, wanted) in [
            ("lib/../a.flow", "a.flow"),
            ("./a.flow", "a.flow"),
            ("/x/./y/../../a.flow", "/a.flow"),
            ("../../a.flow", "../../a.flow"),
            ("a/b/../../../c.flow", "../c.flow"),
        ] {
            assert_eq!(plain(path), wanted);
        }
    }
}
