//! What the tests of the checker share: the declarations of the library as text, files from disk.

#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};

use flow_check::{Checked, Imports, Library, Options, check};
use flow_diag::{Diagnostic, Files};
use flow_plan::function::{EvalError, Functions};
use flow_plan::value::Value;

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The declarations of the standard library; of the functions only those that constants need.
pub fn library() -> (Library, Files, Vec<Diagnostic>) {
    let mut texts = Vec::new();
    const FILES: [&str; 9] = [
        "functions",
        "interceptors",
        "sources",
        "channels",
        "sinks",
        "topics",
        "ensembles",
        "absent",
        "runtime",
    ];
    for name in FILES {
        let path = repository().join(format!("stdlib/{name}.flow"));
        let text = fs::read_to_string(&path).expect("the declarations can be read");
        texts.push((format!("stdlib/{name}.flow"), text));
    }
    let mut functions = Functions::new();
    functions.add("hosts", |_, args| match args.first() {
        // enough for a list of several: the real one is tested where it is written
        Some(Value::Text(text)) => {
            let pattern = String::from_utf8_lossy(text).into_owned();
            let hosts = ["1", "2"].map(|number| Value::string(format!("{number}.{pattern}")));
            Ok(Value::List(hosts.into_iter().collect()))
        }
        _ => Err(EvalError::new("no pattern")),
    });
    functions.add("len", |_, args| match args.first() {
        Some(Value::Text(text)) => Ok(Value::Int(text.len() as i64)),
        Some(Value::List(items)) => Ok(Value::Int(items.len() as i64)),
        _ => Err(EvalError::new("nothing to count")),
    });
    Library::from_declarations(texts.iter().map(|(name, text)| (name.as_str(), text.as_str())), functions)
}

/// Imports from disk, relative to the importing file.
pub struct Disk;

impl Imports for Disk {
    fn read(&mut self, from: &str, path: &str) -> Result<(String, String), String> {
        let folder = Path::new(from).parent().unwrap_or(Path::new(""));
        let full = folder.join(path);
        match fs::read_to_string(&full) {
            Ok(text) => Ok((full.to_string_lossy().into_owned(), text)),
            Err(error) => Err(format!("{}: {error}", full.display())),
        }
    }
}

pub fn check_file(path: &Path) -> (Checked, Files) {
    let text = fs::read_to_string(path).expect("the file can be read");
    check_text(&path.to_string_lossy(), &text, &mut Disk)
}

pub fn check_text(name: &str, text: &str, imports: &mut dyn Imports) -> (Checked, Files) {
    check_with(name, text, imports, &Options::default())
}

/// What a case asks for from outside, in lines such as `#? strict`, `#? memory_bytes 1_000`, `#? set env=prod`.
pub fn options_of(text: &str) -> Options {
    let mut options = Options::default();
    for wish in text.lines().filter_map(|line| line.strip_prefix("#? ")) {
        match wish.split_once(' ').unwrap_or((wish, "")) {
            ("strict", _) => options.strict = true,
            ("memory_bytes", bytes) => {
                options.memory_bytes = Some(bytes.replace('_', "").parse().expect("a number of bytes"));
            }
            ("set", value) => {
                let (name, value) = value.split_once('=').expect("name=value");
                options.params.insert(name.trim().to_owned(), value.to_owned());
            }
            _ => panic!("no such wish: {wish}"),
        }
    }
    options
}

pub fn check_with(name: &str, text: &str, imports: &mut dyn Imports, options: &Options) -> (Checked, Files) {
    thread_local! {
        static LIBRARY: Library = library().0;
    }
    let mut files = Files::new();
    let root = files.add(name, text);
    let checked = LIBRARY.with(|library| check(root, &mut files, imports, library, options));
    (checked, files)
}

/// The `.flow` files of a folder in order; folders below hold what others import.
pub fn flow_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = fs::read_dir(folder)
        .map(|entries| entries.filter_map(Result::ok).map(|entry| entry.path()).collect::<Vec<_>>())
        .unwrap_or_default();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "flow"));
    files.sort();
    files
}

/// The examples in the docs of kinds, by the kind's name: a block of lines indented by four blanks.
pub fn library_docs() -> Vec<(String, String)> {
    let (library, ..) = library();
    let mut examples = Vec::new();
    for item in &library.externs {
        if item.word == flow_syntax::ast::ExternWord::Fn {
            continue;
        }
        let mut block = String::new();
        for line in item.doc.as_deref().unwrap_or_default().lines().chain([""]) {
            match line.strip_prefix("    ") {
                Some(code) => {
                    block += code;
                    block += "\n";
                }
                None if line.trim().is_empty() && block.is_empty() => {}
                None => {
                    if !block.is_empty() {
                        examples.push((item.name.text.clone(), std::mem::take(&mut block)));
                    }
                }
            }
        }
    }
    examples
}
