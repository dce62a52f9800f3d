//! What was last seen of a part of the tree, and what a new look at it changes. No IO: whoever looks says what it
//! found.

use std::collections::BTreeMap;
use std::ops::Bound;

use flow_coordinator::proto::Stat;

/// What happened to a znode since it was last seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Created,
    Changed,
    Deleted,
}

impl ChangeKind {
    /// As `header.type` has it.
    pub fn text(self) -> &'static str {
        match self {
            ChangeKind::Created => "created",
            ChangeKind::Changed => "changed",
            ChangeKind::Deleted => "deleted",
        }
    }
}

/// A change, for one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub kind: ChangeKind,
    pub path: String,
    /// Of the data; of a znode that is gone the last one seen.
    pub version: i32,
}

/// Znodes that were told of, by path.
#[derive(Debug, Default)]
pub struct View {
    seen: BTreeMap<String, Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    czxid: i64,
    mzxid: i64,
    version: i32,
}

impl View {
    /// A znode was looked at. Changes in order: one that was deleted and made again is both.
    pub fn found(&mut self, path: &str, stat: &Stat) -> Vec<Change> {
        let change = |kind, version| Change { kind, path: path.to_owned(), version };
        let now = Seen { czxid: stat.czxid, mzxid: stat.mzxid, version: stat.version };
        match self.seen.insert(path.to_owned(), now) {
            None => vec![change(ChangeKind::Created, now.version)],
            Some(before) if before.czxid != now.czxid => {
                let mut changes = self.below(path);
                changes.push(change(ChangeKind::Deleted, before.version));
                changes.push(change(ChangeKind::Created, now.version));
                changes
            }
            // A slower server may show what was there before; that is no change back.
            Some(before) if before.mzxid > now.mzxid => {
                self.seen.insert(path.to_owned(), before);
                Vec::new()
            }
            Some(before) if before.mzxid != now.mzxid => vec![change(ChangeKind::Changed, now.version)],
            Some(_) => Vec::new(),
        }
    }

    /// A znode is not there, and so nothing below it is: the lowest ones went first.
    pub fn gone(&mut self, path: &str) -> Vec<Change> {
        let mut changes = self.below(path);
        if let Some(seen) = self.seen.remove(path) {
            let path = path.to_owned();
            changes.push(Change { kind: ChangeKind::Deleted, path, version: seen.version });
        }
        changes
    }

    /// All children of a znode: those that were seen and are none of them are gone. `names` are sorted.
    pub fn children(&mut self, path: &str, names: &[String]) -> Vec<Change> {
        let prefix = prefix_of(path);
        let lost: Vec<String> = self
            .range(&prefix)
            .filter(|seen| {
                let name = seen[prefix.len()..].split('/').next().unwrap_or_default();
                names.binary_search_by(|other| other.as_str().cmp(name)).is_err()
            })
            .map(str::to_owned)
            .collect();
        // From the lowest on: a longer path stands behind its beginning.
        lost.iter().rev().flat_map(|path| self.gone(path)).collect()
    }

    pub fn knows(&self, path: &str) -> bool {
        self.seen.contains_key(path)
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    fn below(&mut self, path: &str) -> Vec<Change> {
        let paths: Vec<String> = self.range(&prefix_of(path)).map(str::to_owned).collect();
        let mut changes = Vec::with_capacity(paths.len());
        for path in paths.into_iter().rev() {
            if let Some(seen) = self.seen.remove(&path) {
                changes.push(Change { kind: ChangeKind::Deleted, path, version: seen.version });
            }
        }
        changes
    }

    fn range<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        let from = (Bound::Included(prefix.to_owned()), Bound::Unbounded);
        self.seen
            .range(from)
            .map(|(path, _)| path.as_str())
            .take_while(move |path| path.starts_with(prefix))
            // The root is no child of itself.
            .filter(move |path| path.len() > prefix.len())
    }
}

fn prefix_of(path: &str) -> String {
    if path == "/" { "/".to_owned() } else { format!("{path}/") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(czxid: i64, mzxid: i64, version: i32) -> Stat {
        Stat { czxid, mzxid, version, ..Stat::default() }
    }

    fn shown(changes: &[Change]) -> Vec<String> {
        changes.iter().map(|one| format!("{} {} {}", one.kind.text(), one.path, one.version)).collect()
    }

    #[test]
    fn a_look_tells_what_is_new_since_the_last_one() {
        let mut view = View::default();
        assert_eq!(shown(&view.found("/a", &stat(1, 1, 0))), ["created /a 0"]);
        assert!(view.found("/a", &stat(1, 1, 0)).is_empty());
        assert_eq!(shown(&view.found("/a", &stat(1, 5, 3))), ["changed /a 3"]);
        // A server that is behind shows an older state.
        assert!(view.found("/a", &stat(1, 4, 2)).is_empty());
        assert!(view.found("/a", &stat(1, 5, 3)).is_empty());
        assert_eq!(shown(&view.gone("/a")), ["deleted /a 3"]);
        assert!(view.gone("/a").is_empty() && view.len() == 0);
    }

    #[test]
    fn one_that_was_made_again_was_deleted_with_all_below_it() {
        let mut view = View::default();
        for (path, zxid) in [("/a", 1), ("/a/b", 2), ("/a/b/c", 3), ("/ab", 4)] {
            view.found(path, &stat(zxid, zxid, 0));
        }
        let changes = view.found("/a", &stat(9, 9, 0));
        assert_eq!(shown(&changes), ["deleted /a/b/c 0", "deleted /a/b 0", "deleted /a 0", "created /a 0"]);
        assert_eq!(view.len(), 2);
    }

    #[test]
    fn children_that_are_none_any_more_are_gone_from_the_lowest_on() {
        let mut view = View::default();
        for path in ["/", "/s", "/s/a", "/s/a/x", "/s/a/x/y", "/s/b", "/s-b", "/s/c"] {
            view.found(path, &stat(1, 1, 0));
        }
        let names = ["b".to_owned(), "d".to_owned()];
        let changes = view.children("/s", &names);
        assert_eq!(
            shown(&changes),
            ["deleted /s/c 0", "deleted /s/a/x/y 0", "deleted /s/a/x 0", "deleted /s/a 0"]
        );
        assert_eq!(view.len(), 4);
        assert_eq!(view.children("/", &["s".to_owned()]).len(), 1, "only `/s-b`");
        assert_eq!(view.len(), 3);
    }
}
