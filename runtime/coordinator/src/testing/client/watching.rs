//! Which watches a client believes to have.

use std::collections::BTreeSet;

use crate::proto::{Code, EventType, Request, Response, SetWatches, Zxid};

#[derive(Default)]
pub(super) struct Watching {
    data: BTreeSet<String>,
    exist: BTreeSet<String>,
    child: BTreeSet<String>,
    persistent: BTreeSet<String>,
    recursive: BTreeSet<String>,
}

impl Watching {
    pub fn replied(&mut self, request: &Request, result: &Result<Response, Code>) {
        match (request, result) {
            (Request::GetData { path, watch: true }, Ok(_))
            | (Request::Exists { path, watch: true }, Ok(_)) => self.data.insert(path.clone()),
            (Request::Exists { path, watch: true }, Err(Code::NoNode)) => self.exist.insert(path.clone()),
            (
                Request::GetChildren { path, watch: true } | Request::GetChildren2 { path, watch: true },
                Ok(_),
            ) => self.child.insert(path.clone()),
            (Request::AddWatch { path, mode: 0 }, Ok(_)) => self.persistent.insert(path.clone()),
            (Request::AddWatch { path, mode: 1 }, Ok(_)) => self.recursive.insert(path.clone()),
            (Request::RemoveWatches { path, .. }, Ok(_)) => {
                self.forget(path);
                true
            }
            _ => false,
        };
    }

    pub fn happened(&mut self, kind: EventType, path: &str) {
        if kind != EventType::ChildrenChanged {
            self.data.remove(path);
            self.exist.remove(path);
        }
        if matches!(kind, EventType::ChildrenChanged | EventType::Deleted) {
            self.child.remove(path);
        }
    }

    fn forget(&mut self, path: &str) {
        let Watching { data, exist, child, persistent, recursive } = self;
        for set in [data, exist, child, persistent, recursive] {
            set.remove(path);
        }
    }

    pub fn is_empty(&self) -> bool {
        [&self.data, &self.exist, &self.child, &self.persistent, &self.recursive]
            .iter()
            .all(|set| set.is_empty())
    }

    pub fn again(&self, relative_zxid: Zxid) -> SetWatches {
        let list = |set: &BTreeSet<String>| set.iter().cloned().collect();
        SetWatches {
            relative_zxid,
            data: list(&self.data),
            exist: list(&self.exist),
            child: list(&self.child),
            persistent: list(&self.persistent),
            persistent_recursive: list(&self.recursive),
        }
    }
}
