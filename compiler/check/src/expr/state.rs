//! What is known of an event's headers at one place of a chain: which ones are surely set, which ones can be, and
//! which values they can have.

use std::collections::{BTreeMap, BTreeSet};

/// Knowledge of the headers at one place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct State {
    pub headers: BTreeMap<String, HeaderInfo>,
    /// Headers that nothing here mentions can be there, too.
    pub others: bool,
    /// Something before this place could not be resolved.
    pub broken: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HeaderInfo {
    /// It is there for every event.
    pub sure: bool,
    /// All values it can have; `None` when they are not known.
    pub values: Option<BTreeSet<String>>,
}

impl State {
    /// Nothing is known.
    pub fn unknown() -> State {
        State { headers: BTreeMap::new(), others: true, broken: false }
    }

    /// No header is there.
    pub fn empty() -> State {
        State { headers: BTreeMap::new(), others: false, broken: false }
    }

    pub fn is_sure(&self, name: &str) -> bool {
        self.headers.get(name).is_some_and(|info| info.sure)
    }

    pub fn is_possible(&self, name: &str) -> bool {
        self.others || self.headers.contains_key(name)
    }

    pub fn set(&mut self, name: &str, sure: bool, values: Option<BTreeSet<String>>) {
        let sure = sure || self.is_sure(name);
        self.headers.insert(name.to_owned(), HeaderInfo { sure, values });
    }

    /// The header may be set now, or be as it was.
    pub fn may_set(&mut self, name: &str) {
        let sure = self.is_sure(name);
        self.headers.insert(name.to_owned(), HeaderInfo { sure, values: None });
    }

    /// A value that is null takes the header away.
    pub fn set_or_remove(&mut self, name: &str) {
        self.headers.insert(name.to_owned(), HeaderInfo { sure: false, values: None });
    }

    pub fn remove(&mut self, name: &str) {
        self.headers.remove(name);
    }

    /// Any header may have gone or changed.
    pub fn forget(&mut self) {
        for info in self.headers.values_mut() {
            info.sure = false;
            info.values = None;
        }
    }

    /// What is known when events come from here or from `other`.
    pub fn merge(&mut self, other: &State) {
        self.others |= other.others;
        self.broken |= other.broken;
        for (name, info) in &mut self.headers {
            match other.headers.get(name) {
                Some(theirs) => {
                    info.sure &= theirs.sure;
                    info.values = match (info.values.take(), &theirs.values) {
                        (Some(mut ours), Some(theirs)) => {
                            ours.extend(theirs.iter().cloned());
                            Some(ours)
                        }
                        _ => None,
                    };
                }
                None => {
                    info.sure = false;
                    info.values = None;
                }
            }
        }
        for name in other.headers.keys() {
            self.headers.entry(name.clone()).or_insert(HeaderInfo { sure: false, values: None });
        }
    }
}
