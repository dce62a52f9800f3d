//! From a path on the disk to a checked program: reads the file and its imports, and knows the library.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use flow_check::{Checked, Imports, Library, Options};
use flow_diag::{Code, Diagnostic, FileId, Files, Severity, Span};

use crate::{Exit, output};

/// The largest text that is read, in bytes: a `.flow` file is written by people.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A checked program with its texts.
pub struct Project {
    pub files: Files,
    pub checked: Checked,
    /// What it was checked against: reading it takes longer than most checks, so it is read once.
    pub library: Library,
}

impl Project {
    pub fn has_errors(&self) -> bool {
        self.checked.diagnostics.iter().any(|one| one.severity == Severity::Error)
    }
}

/// Flags shared by the commands that check a file.
#[derive(clap::Args)]
pub struct Params {
    /// Give a parameter of the file a value
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parse_set)]
    pub set: Vec<(String, String)>,
}

fn parse_set(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

impl Params {
    fn options(&self, strict: bool) -> Options {
        let env_params = std::env::vars()
            .filter_map(|(name, value)| Some((name.strip_prefix("FLOW_")?.to_ascii_lowercase(), value)))
            .collect();
        Options {
            params: self.set.iter().cloned().collect::<BTreeMap<_, _>>(),
            env_params,
            strict,
            memory_bytes: memory_bytes(),
        }
    }
}

/// What the machine has, where the system tells it.
fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The library of this build, with the texts of its declarations.
pub fn library() -> (Library, Files) {
    let functions = flow_stdlib::registry().functions;
    let declarations = flow_stdlib::DECLARATIONS.iter().copied();
    let (library, files, diagnostics) = Library::from_declarations(declarations, functions);
    debug_assert!(diagnostics.is_empty(), "{diagnostics:?}");
    (library, files)
}

/// Reads and checks a file. `Err` when it cannot be read; the reason has been told.
pub fn open(path: &Path, params: &Params) -> Result<Project, Exit> {
    open_with(path, params, false)
}

/// The same; `strict` asks for advice about whatever can fail.
pub fn open_with(path: &Path, params: &Params, strict: bool) -> Result<Project, Exit> {
    let (library, _) = library();
    let mut files = Files::new();
    let name = path.display().to_string();
    let text = match read_text(path) {
        Ok(text) => text,
        Err(Unreadable::World(why)) => {
            output::note(&format!("cannot read `{name}`: {why}"));
            return Err(Exit::Usage);
        }
        Err(Unreadable::NotUtf8 { text, position }) => {
            let file = files.add(name, text);
            let diagnostics = vec![not_utf8(file, position)];
            let checked = Checked { diagnostics, plan: None, model: flow_check::model::Model::default() };
            return Ok(Project { files, checked, library });
        }
    };
    let root = files.add(name, text);
    let checked = flow_check::check(root, &mut files, &mut Disk, &library, &params.options(strict));
    Ok(Project { files, checked, library })
}

fn not_utf8(file: FileId, position: usize) -> Diagnostic {
    Diagnostic::new(Code::F0024, Span::new(file, position, position), "this file is not UTF-8")
        .label(format!("byte {position} cannot be read"))
        .help("convert it: iconv -f latin1 -t utf8")
}

enum Unreadable {
    World(String),
    NotUtf8 { text: String, position: usize },
}

fn read_text(path: &Path) -> Result<String, Unreadable> {
    let world = |error: std::io::Error| Unreadable::World(error.to_string());
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().lock().take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(world)?;
    } else {
        let file = std::fs::File::open(path).map_err(world)?;
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(world)?;
    }
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Unreadable::World(format!("it is larger than {} MiB", FILE_BYTES_MAX >> 20)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let position = error.utf8_error().valid_up_to();
        Unreadable::NotUtf8 { text: String::from_utf8_lossy(error.as_bytes()).into_owned(), position }
    })
}

/// Imports from the disk, relative to the importing file.
struct Disk;

impl Imports for Disk {
    fn read(&mut self, from: &str, path: &str) -> Result<(String, String), String> {
        let base = Path::new(from).parent().unwrap_or(Path::new(""));
        let full: PathBuf = base.join(path);
        match read_text(&full) {
            Ok(text) => Ok((full.display().to_string(), text)),
            Err(Unreadable::World(why)) => Err(format!("looked in `{}`: {why}", full.display())),
            Err(Unreadable::NotUtf8 { position, .. }) => {
                Err(format!("`{}` is not UTF-8 (byte {position})", full.display()))
            }
        }
    }
}
