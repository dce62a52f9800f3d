//! The texts of a program and positions in them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// One text in [`Files`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileId(pub u32);

/// A half-open range of byte positions in one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    pub file: FileId,
    pub start: u32,
    pub end: u32,
}

impl Span {
    pub fn new(file: FileId, start: usize, end: usize) -> Span {
        debug_assert!(start <= end);
        Span { file, start: start as u32, end: end as u32 }
    }

    /// The smallest span that covers both; both must be in one file.
    pub fn to(self, other: Span) -> Span {
        debug_assert_eq!(self.file, other.file);
        Span { file: self.file, start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    pub fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The empty span at the start.
    pub fn at_start(self) -> Span {
        Span { end: self.start, ..self }
    }

    /// The empty span at the end.
    pub fn at_end(self) -> Span {
        Span { start: self.end, ..self }
    }
}

/// A position as people count: line and column from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Location {
    pub line: u32,
    pub column: u32,
}

/// All texts of one run of the compiler. Files are only added, so a [`FileId`] stays valid.
#[derive(Clone, Debug, Default)]
pub struct Files {
    files: Vec<OneFile>,
}

#[derive(Clone, Debug)]
struct OneFile {
    name: String,
    text: Arc<str>,
    line_starts: Vec<u32>,
}

impl Files {
    pub fn new() -> Files {
        Files::default()
    }

    /// Adds a text under the name that messages show (usually the path as the user gave it).
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> FileId {
        let text: String = text.into();
        let line_starts =
            std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at as u32 + 1)).collect();
        self.files.push(OneFile { name: name.into(), text: text.into(), line_starts });
        FileId(self.files.len() as u32 - 1)
    }

    pub fn name(&self, file: FileId) -> &str {
        &self.files[file.0 as usize].name
    }

    pub fn text(&self, file: FileId) -> &str {
        &self.files[file.0 as usize].text
    }

    /// The text to keep beside the files.
    pub fn shared_text(&self, file: FileId) -> Arc<str> {
        self.files[file.0 as usize].text.clone()
    }

    pub fn ids(&self) -> impl Iterator<Item = FileId> + '_ {
        (0..self.files.len() as u32).map(FileId)
    }

    /// The text under a span; empty when the span does not fit the file.
    pub fn slice(&self, span: Span) -> &str {
        self.text(span.file).get(span.range()).unwrap_or("")
    }

    /// Line and column of a byte position.
    pub fn location(&self, file: FileId, position: u32) -> Location {
        let one = &self.files[file.0 as usize];
        let line = one.line_starts.partition_point(|&start| start <= position) - 1;
        let start = one.line_starts[line] as usize;
        let end = (position as usize).min(one.text.len());
        let column = one.text.get(start..end).map_or(end - start, |before| before.chars().count());
        Location { line: line as u32 + 1, column: column as u32 + 1 }
    }
}
