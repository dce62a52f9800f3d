//! Checking texts in tests, with the library of this build and imports from a map or the disk.

use std::collections::BTreeMap;
use std::path::Path;

use flow_check::{Checked, Imports, Library, Options};
use flow_diag::{Files, Severity};

/// The library as the program has it.
pub fn library() -> Library {
    let functions = flow_stdlib::registry().functions;
    let declarations = flow_stdlib::DECLARATIONS.iter().copied();
    let (library, files, diagnostics) = Library::from_declarations(declarations, functions);
    let shown = flow_diag::render(&files, &diagnostics, flow_diag::Format::Short);
    assert!(shown.is_empty(), "the library does not parse:\n{shown}");
    library
}

/// Imports by name; what is not in the map is looked for on the disk beside the importing file.
#[derive(Default)]
pub struct Texts(pub BTreeMap<String, String>);

impl Imports for Texts {
    fn read(&mut self, from: &str, path: &str) -> Result<(String, String), String> {
        if let Some(text) = self.0.get(path) {
            return Ok((path.to_owned(), text.clone()));
        }
        let full = Path::new(from).parent().unwrap_or(Path::new("")).join(path);
        match std::fs::read_to_string(&full) {
            Ok(text) => Ok((full.display().to_string(), text)),
            Err(error) => Err(format!("looked in `{}`: {error}", full.display())),
        }
    }
}

/// A checked text.
pub struct Found {
    pub files: Files,
    pub checked: Checked,
}

impl Found {
    /// The codes in order.
    pub fn codes(&self) -> Vec<String> {
        self.checked.diagnostics.iter().map(|one| one.code.to_string()).collect()
    }

    pub fn errors(&self) -> Vec<String> {
        let errors = self.checked.diagnostics.iter().filter(|one| one.severity == Severity::Error);
        errors.map(|one| one.code.to_string()).collect()
    }

    /// One line each, for the message of a failing test.
    pub fn shown(&self) -> String {
        flow_diag::render(&self.files, &self.checked.diagnostics, flow_diag::Format::Short)
    }
}

/// Checks a text under a file name.
pub fn check(library: &Library, name: &str, text: &str, imports: Texts) -> Found {
    check_with(library, name, text, imports, &Options::default())
}

pub fn check_with(library: &Library, name: &str, text: &str, mut imports: Texts, options: &Options) -> Found {
    let mut files = Files::new();
    let root = files.add(name, text);
    let checked = flow_check::check(root, &mut files, &mut imports, library, options);
    Found { files, checked }
}
