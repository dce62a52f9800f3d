//! Finding the files that patterns name, component by component, so that only directories that can match are
//! read.

use std::path::{Path, PathBuf};

use flow_agent::Fault;
use globset::{GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};

/// Files found in one look at most; more are reported and left.
pub const FILES_MAX: usize = 200_000;

/// Paths that could not be read and are told of one by one, at most.
const UNREADABLE_MAX: usize = 1_000;

/// Directories below each other that `**` goes down at most.
const DEPTH_MAX: usize = 64;

/// A list of patterns and a list of exceptions.
#[derive(Clone, Debug)]
pub struct Patterns {
    patterns: Vec<Pattern>,
    exclude_paths: GlobSet,
    exclude_names: GlobSet,
}

#[derive(Clone, Debug)]
struct Pattern {
    text: String,
    root: PathBuf,
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Literal(String),
    Matching(GlobMatcher),
    /// `**`: any number of directories.
    Deep,
}

/// The result of one look.
#[derive(Debug, Default)]
pub struct Found {
    pub files: Vec<PathBuf>,
    /// Files and directories that could not be read, with the reason; a missing one is not an error.
    pub unreadable: Vec<(PathBuf, std::io::Error)>,
    /// There were more than [`FILES_MAX`].
    pub more: bool,
}

impl Found {
    fn cannot_read(&mut self, path: &Path, error: std::io::Error) {
        use std::io::ErrorKind::{NotADirectory, NotFound};
        if !matches!(error.kind(), NotFound | NotADirectory) && self.unreadable.len() < UNREADABLE_MAX {
            self.unreadable.push((path.to_owned(), error));
        }
    }
}

impl Patterns {
    /// Compiles patterns; `setting` and `exclude_setting` name them in the fault.
    pub fn new(
        patterns: &[String],
        setting: &'static str,
        exclude: &[String],
        exclude_setting: &'static str,
    ) -> Result<Patterns, Fault> {
        let patterns =
            patterns.iter().map(|text| Pattern::new(text, setting)).collect::<Result<Vec<_>, Fault>>()?;
        let (paths, names): (Vec<_>, Vec<_>) = exclude.iter().partition(|text| text.contains('/'));
        Ok(Patterns {
            patterns,
            exclude_paths: glob_set(&paths, exclude_setting)?,
            exclude_names: glob_set(&names, exclude_setting)?,
        })
    }

    /// Looks at the disk. Blocks.
    pub fn find(&self) -> Found {
        let mut found = Found::default();
        for pattern in &self.patterns {
            self.descend(pattern.root.clone(), &pattern.parts, 0, &mut found);
        }
        found.files.sort();
        found.files.dedup();
        found
    }

    /// The patterns as written, for messages.
    pub fn text(&self) -> String {
        self.patterns.iter().map(|pattern| pattern.text.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Whether a look at the disk would find this path, if it is a file.
    pub fn matches(&self, path: &Path) -> bool {
        !self.is_excluded(path) && self.patterns.iter().any(|pattern| pattern.matches(path))
    }

    pub fn is_excluded(&self, path: &Path) -> bool {
        self.exclude_paths.is_match(path)
            || path.file_name().is_some_and(|name| self.exclude_names.is_match(Path::new(name)))
    }

    fn descend(&self, at: PathBuf, parts: &[Part], depth: usize, found: &mut Found) {
        let Some((part, rest)) = parts.split_first() else {
            if found.files.len() >= FILES_MAX {
                found.more = true;
            } else if !self.is_excluded(&at) && kind_of(&at, found).is_some_and(|kind| kind.is_file()) {
                found.files.push(at);
            }
            return;
        };
        match part {
            Part::Literal(name) => {
                let next = at.join(name);
                // The last part is looked at as a file above; a missing directory ends here quietly.
                if rest.is_empty() || kind_of(&next, found).is_some_and(|kind| kind.is_dir()) {
                    self.descend(next, rest, depth, found);
                }
            }
            Part::Matching(matcher) => {
                for (path, is_dir) in entries(&at, found) {
                    let matches = path.file_name().is_some_and(|name| matcher.is_match(Path::new(name)));
                    if matches && (rest.is_empty() || is_dir || path.is_dir()) {
                        self.descend(path, rest, depth, found);
                    }
                }
            }
            Part::Deep => {
                self.descend(at.clone(), rest, depth, found);
                if depth < DEPTH_MAX {
                    // Links to directories are not followed here: they could lead in a circle.
                    for (path, is_dir) in entries(&at, found) {
                        if is_dir {
                            self.descend(path, parts, depth + 1, found);
                        }
                    }
                }
            }
        }
    }
}

/// What a path leads to; `None` when there is nothing. What cannot be looked at is kept for a report.
fn kind_of(path: &Path, found: &mut Found) -> Option<std::fs::FileType> {
    match std::fs::metadata(path) {
        Ok(meta) => Some(meta.file_type()),
        Err(error) => {
            found.cannot_read(path, error);
            None
        }
    }
}

/// The entries of a directory, with whether each is a directory itself (not a link to one).
fn entries(directory: &Path, found: &mut Found) -> Vec<(PathBuf, bool)> {
    let place = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let read = match std::fs::read_dir(place) {
        Ok(read) => read,
        Err(error) => {
            found.cannot_read(directory, error);
            return Vec::new();
        }
    };
    read.flatten()
        .map(|entry| {
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            (directory.join(entry.file_name()), is_dir)
        })
        .collect()
}

impl Pattern {
    fn matches(&self, path: &Path) -> bool {
        let Ok(relative) = path.strip_prefix(&self.root) else { return false };
        let names: Vec<&std::ffi::OsStr> = relative.iter().collect();
        fn all(parts: &[Part], names: &[&std::ffi::OsStr]) -> bool {
            match parts.split_first() {
                None => names.is_empty(),
                Some((Part::Deep, rest)) => (0..=names.len()).any(|skip| all(rest, &names[skip..])),
                Some((part, rest)) => names.split_first().is_some_and(|(name, names)| {
                    let one = match part {
                        Part::Literal(text) => name.as_encoded_bytes() == text.as_bytes(),
                        Part::Matching(matcher) => matcher.is_match(Path::new(name)),
                        Part::Deep => false,
                    };
                    one && all(rest, names)
                }),
            }
        }
        all(&self.parts, &names)
    }

    fn new(text: &str, setting: &'static str) -> Result<Pattern, Fault> {
        let fault =
            |what: String| Fault::new(format!("the pattern `{text}` {what}")).code("F0804").setting(setting);
        if text.is_empty() {
            return Err(fault("is empty".to_owned()));
        }
        // Braces may not reach over a `/`: parts are matched one by one.
        let mut open = 0usize;
        for character in text.chars() {
            match character {
                '{' => open += 1,
                '}' => open = open.saturating_sub(1),
                '/' if open > 0 => {
                    return Err(fault("has a `/` between braces".to_owned())
                        .help("write a list of patterns: `[\"/a/*.log\", \"/b/*.log\"]`"));
                }
                _ => {}
            }
        }
        let (root, relative) = match text.strip_prefix('/') {
            Some(relative) => (PathBuf::from("/"), relative),
            None => (PathBuf::new(), text),
        };
        let mut parts = Vec::new();
        for part in relative.split('/').filter(|part| !part.is_empty()) {
            if part == "**" {
                parts.push(Part::Deep);
            } else if part.contains(['*', '?', '[', '{', '\\']) {
                let glob = GlobBuilder::new(part)
                    .literal_separator(true)
                    .build()
                    .map_err(|error| fault(format!("cannot be read: {}", error.kind())))?;
                parts.push(Part::Matching(glob.compile_matcher()));
            } else {
                parts.push(Part::Literal(part.to_owned()));
            }
        }
        if let Some(Part::Deep) = parts.last() {
            let any = GlobBuilder::new("*").build().map_err(|error| fault(error.to_string()))?;
            parts.push(Part::Matching(any.compile_matcher()));
        }
        Ok(Pattern { text: text.to_owned(), root, parts })
    }
}

/// A set of patterns for whole paths or names.
pub fn glob_set<T: AsRef<str>>(patterns: &[T], setting: &'static str) -> Result<GlobSet, Fault> {
    let fault = |text: &str, error: globset::Error| {
        Fault::new(format!("the pattern `{text}` cannot be read: {}", error.kind()))
            .code("F0804")
            .setting(setting)
    };
    let mut set = GlobSetBuilder::new();
    for text in patterns {
        let text = text.as_ref();
        set.add(GlobBuilder::new(text).literal_separator(true).build().map_err(|error| fault(text, error))?);
    }
    set.build().map_err(|error| fault("", error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn find(root: &Path, pattern: &str, exclude: &[&str]) -> Vec<String> {
        let exclude: Vec<String> = exclude.iter().map(|text| text.to_string()).collect();
        let text = format!("{}/{pattern}", root.display());
        let patterns = Patterns::new(&[text], "path", &exclude, "exclude").unwrap();
        let files = patterns.find().files;
        files.iter().map(|path| path.strip_prefix(root).unwrap().display().to_string()).collect()
    }

    #[test]
    fn patterns_find_files_in_every_part() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for name in ["a.log", "b.log", "b.log.gz", "x/a.log", "x/y/a.log", "z/a.log", "z/b.txt"] {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), "").unwrap();
        }
        assert_eq!(find(root, "*.log", &[]), ["a.log", "b.log"]);
        assert_eq!(find(root, "a.log", &[]), ["a.log"]);
        assert_eq!(find(root, "*/a.log", &[]), ["x/a.log", "z/a.log"]);
        assert_eq!(find(root, "{x,z}/*.{log,txt}", &[]), ["x/a.log", "z/a.log", "z/b.txt"]);
        assert_eq!(find(root, "**/a.log", &[]), ["a.log", "x/a.log", "x/y/a.log", "z/a.log"]);
        assert_eq!(find(root, "x/**", &[]), ["x/a.log", "x/y/a.log"]);
        assert_eq!(find(root, "b*", &["*.gz"]), ["b.log"]);
        assert_eq!(find(root, "**/*.log", &["**/y/*"]).len(), 4);
        assert_eq!(find(root, "missing/*.log", &[]), [""; 0]);
        for (pattern, name, expected) in
            [("**/a.log", "x/y/a.log", true), ("*/a.log", "x/y/a.log", false), ("x/**", "x/gone", true)]
        {
            let text = format!("{}/{pattern}", root.display());
            let patterns = Patterns::new(&[text], "path", &[], "exclude").unwrap();
            assert_eq!(patterns.matches(&root.join(name)), expected, "{pattern}");
        }
    }

    #[test]
    fn a_pattern_that_cannot_be_read_is_a_fault() {
        for text in ["/a/[", "/a/{b/c,d}", ""] {
            let fault = Patterns::new(&[text.to_owned()], "path", &[], "exclude").unwrap_err();
            assert_eq!(fault.setting, Some("path"), "{text}");
        }
    }
}
