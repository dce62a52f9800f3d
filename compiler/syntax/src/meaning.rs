//! Whether two trees mean the same: equal but for the places.

use std::fmt::{self, Write as _};

use flow_diag::FileId;

use crate::ast::File;

/// Whether two files are equal when spans are not looked at. Documentation counts, poisoned names do too.
pub fn same_meaning(left: &File, right: &File) -> bool {
    without_places(left) == without_places(right)
}

/// The tree as text without spans.
fn without_places(file: &File) -> String {
    let file = File { id: FileId(0), ..file.clone() };
    let mut out = Places { out: String::new(), skip: Skip::No };
    // writing to a string cannot fail
    let _ = write!(out, "{file:?}");
    out.out
}

/// Drops every `Span { … }` from what is written.
struct Places {
    out: String,
    skip: Skip,
}

enum Skip {
    No,
    /// Inside the braces of a span, this deep.
    Braces(usize),
}

impl fmt::Write for Places {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match (&mut self.skip, c) {
                (Skip::No, '{') if self.out.ends_with("Span ") => self.skip = Skip::Braces(1),
                (Skip::No, _) => self.out.push(c),
                (Skip::Braces(depth), '{') => *depth += 1,
                (Skip::Braces(1), '}') => self.skip = Skip::No,
                (Skip::Braces(depth), '}') => *depth -= 1,
                (Skip::Braces(_), _) => {}
            }
        }
        Ok(())
    }
}
