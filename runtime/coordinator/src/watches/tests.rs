//! Who is told of what, and how often.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::proto::{Acl, perms};
use crate::proto::{Create, CreateOp, Request};
use crate::state::{Applied, Entry, Op, Origin, Txn};

const ANN: WatcherId = WatcherId(1);
const BEN: WatcherId = WatcherId(2);

use EventType::{ChildrenChanged, Created, DataChanged, Deleted};

fn change(kind: ChangeKind, path: &str) -> Change {
    Change { zxid: 1, kind, path: path.into(), acl: Arc::from([]), parent_acl: None }
}

/// What a change tells, in its order.
fn told(watches: &mut Watches, kind: ChangeKind, path: &str) -> Vec<(u64, EventType, String)> {
    let mut out = Vec::new();
    watches.trigger(&change(kind, path), &mut out);
    out.into_iter().map(|(watcher, event, path)| (watcher.0, event, path.to_string())).collect()
}

fn event(watcher: u64, event: EventType, path: &str) -> (u64, EventType, String) {
    (watcher, event, path.to_string())
}

#[test]
fn standard_watches_are_told_once() {
    let mut watches = Watches::new();
    watches.add_data(ANN, "/a").unwrap();
    watches.add_data(ANN, "/a").unwrap();
    watches.add_exists(BEN, "/a").unwrap();
    watches.add_child(BEN, "/").unwrap();
    assert_eq!(watches.counts(), WatchCounts { watchers: 2, paths: 2, watches: 3 });
    let first = told(&mut watches, ChangeKind::Created, "/a");
    let both = [event(1, Created, "/a"), event(2, Created, "/a"), event(2, ChildrenChanged, "/")];
    assert_eq!(first, both);
    assert!(told(&mut watches, ChangeKind::Data, "/a").is_empty());
    assert_eq!(watches.counts(), WatchCounts::default());
}

#[test]
fn each_change_tells_what_the_protocol_says() {
    for (kind, data, child, above) in [
        (ChangeKind::Created, Some(Created), None, true),
        (ChangeKind::Data, Some(DataChanged), None, false),
        (ChangeKind::Deleted, Some(Deleted), Some(Deleted), true),
    ] {
        let mut watches = Watches::new();
        watches.add_data(ANN, "/p/a").unwrap();
        watches.add_child(BEN, "/p/a").unwrap();
        watches.add_child(WatcherId(3), "/p").unwrap();
        watches.add_data(WatcherId(4), "/p").unwrap();
        let mut expected: Vec<_> = data.map(|data| event(1, data, "/p/a")).into_iter().collect();
        expected.extend(child.map(|child| event(2, child, "/p/a")));
        expected.extend(above.then(|| event(3, ChildrenChanged, "/p")));
        assert_eq!(told(&mut watches, kind, "/p/a"), expected);
    }
}

#[test]
fn whoever_watched_data_and_children_hears_of_the_end_once() {
    let mut watches = Watches::new();
    watches.add_data(ANN, "/a").unwrap();
    watches.add_child(ANN, "/a").unwrap();
    assert_eq!(told(&mut watches, ChangeKind::Deleted, "/a"), [event(1, Deleted, "/a")]);
    assert_eq!(watches.counts(), WatchCounts::default());
}

#[test]
fn persistent_watches_stay_and_tell_of_children() {
    let mut watches = Watches::new();
    watches.add_mode(ANN, "/a", 0).unwrap();
    for _ in 0..2 {
        assert_eq!(told(&mut watches, ChangeKind::Data, "/a"), [event(1, DataChanged, "/a")]);
        assert_eq!(told(&mut watches, ChangeKind::Created, "/a/b"), [event(1, ChildrenChanged, "/a")]);
        assert_eq!(told(&mut watches, ChangeKind::Deleted, "/a"), [event(1, Deleted, "/a")]);
    }
    assert!(told(&mut watches, ChangeKind::Data, "/a/b").is_empty());
}

#[test]
fn recursive_watches_tell_of_all_below_but_not_of_children() {
    let mut watches = Watches::new();
    watches.add_mode(ANN, "/a", 1).unwrap();
    watches.add_mode(BEN, "/", 1).unwrap();
    for _ in 0..2 {
        let created = told(&mut watches, ChangeKind::Created, "/a/b/c");
        assert_eq!(created, [event(1, Created, "/a/b/c"), event(2, Created, "/a/b/c")]);
        assert_eq!(told(&mut watches, ChangeKind::Data, "/ab"), [event(2, DataChanged, "/ab")]);
    }
    assert_eq!(watches.add_mode(ANN, "/a", 2), Err(Code::BadArguments));
}

#[test]
fn modes_on_one_path_tell_once_and_go_apart() {
    let mut watches = Watches::new();
    watches.add_data(ANN, "/a").unwrap();
    watches.add_mode(ANN, "/a", 0).unwrap();
    watches.add_mode(ANN, "/a", 1).unwrap();
    watches.add_mode(ANN, "/", 1).unwrap();
    assert_eq!(told(&mut watches, ChangeKind::Data, "/a"), [event(1, DataChanged, "/a")]);
    assert_eq!(watches.check(ANN, "/a", 2), Ok(()), "older clients mean the persistent ones");
    assert_eq!(watches.check(ANN, "/", 1), Err(Code::NoWatcher));
    assert_eq!(watches.check(ANN, "/a", 3), Ok(()));
    assert_eq!(watches.remove(ANN, "/a", 4), Ok(()));
    assert_eq!(watches.remove(ANN, "/a", 4), Err(Code::NoWatcher));
    assert_eq!(watches.check(ANN, "/a", 5), Ok(()));
    assert_eq!(watches.remove(ANN, "/a", 3), Ok(()));
    assert_eq!(watches.remove(ANN, "/a", 3), Err(Code::NoWatcher));
    assert_eq!(watches.remove(ANN, "/", 9), Err(Code::BadArguments));
    assert_eq!(told(&mut watches, ChangeKind::Data, "/a"), [event(1, DataChanged, "/a")]);
    watches.drop_watcher(ANN);
    assert!(told(&mut watches, ChangeKind::Data, "/a").is_empty());
    assert_eq!((watches.recursive, watches.counts()), (0, WatchCounts::default()));
}

/// Whoever watched everything below two parents of a path, and not the path itself, was told twice.
#[test]
fn watches_of_two_parents_tell_once() {
    let mut watches = Watches::new();
    watches.add_mode(ANN, "/", 1).unwrap();
    watches.add_mode(ANN, "/a", 1).unwrap();
    assert_eq!(told(&mut watches, ChangeKind::Data, "/a/b"), [event(1, DataChanged, "/a/b")]);
}

#[test]
fn clients_without_kinds_for_persistent_watches_can_take_them_away() {
    let mut watches = Watches::new();
    for (mode, kind) in [(0, 1), (0, 2), (1, 2)] {
        watches.add_mode(ANN, "/a", mode).unwrap();
        watches.add_data(ANN, "/a").unwrap();
        watches.add_child(ANN, "/a").unwrap();
        assert_eq!(watches.remove(ANN, "/a", kind), Ok(()));
        assert_eq!(watches.check(ANN, "/a", 4 + mode), Ok(()));
        assert_eq!(watches.remove(ANN, "/a", kind), Ok(()));
        assert_eq!(watches.check(ANN, "/a", 4 + mode), Err(Code::NoWatcher));
        assert_eq!(watches.remove(ANN, "/a", kind), Err(Code::NoWatcher));
        watches.drop_watcher(ANN);
    }
    watches.add_mode(ANN, "/a", 1).unwrap();
    assert_eq!(watches.remove(ANN, "/a", 1), Err(Code::NoWatcher));
}

#[test]
fn a_connection_cannot_watch_without_end() {
    let mut watches = Watches { bytes_max: 1 << 20, ..Watches::new() };
    let long = "x".repeat(1 << 12);
    let mut added = 0;
    while watches.add_data(ANN, &format!("/{added}{long}")).is_ok() {
        added += 1;
    }
    assert_eq!(added, 243);
    assert_eq!(watches.add_child(ANN, &format!("/0{long}")), Ok(()));
    watches.add_data(BEN, "/a").unwrap();
    watches.remove(ANN, &format!("/1{long}"), 3).unwrap();
    assert_eq!(watches.add_data(ANN, "/a"), Ok(()));
    watches.drop_watcher(ANN);
    assert_eq!(watches.counts(), WatchCounts { watchers: 1, paths: 1, watches: 1 });
}

#[test]
fn a_connection_that_ends_leaves_nothing() {
    let mut watches = Watches::new();
    for path in ["/a", "/b", "/c"] {
        watches.add_data(ANN, path).unwrap();
        watches.add_child(BEN, path).unwrap();
    }
    watches.add_persistent(ANN, "/a", false).unwrap();
    assert_eq!(watches.counts(), WatchCounts { watchers: 2, paths: 3, watches: 8 });
    assert_eq!(watches.by_watcher()[0], (ANN, vec!["/a", "/b", "/c"]));
    assert_eq!(watches.by_path()[2], ("/c", vec![ANN, BEN]));
    watches.drop_watcher(ANN);
    assert_eq!(watches.counts(), WatchCounts { watchers: 1, paths: 3, watches: 3 });
    assert_eq!(told(&mut watches, ChangeKind::Created, "/a/x"), [event(2, ChildrenChanged, "/a")]);
}

#[test]
fn watches_of_another_server_are_compared_with_the_state() {
    let mut state = State::new();
    let mut applied = Applied::default();
    let mut write = |state: &mut State, request: Request| {
        let txn = Txn { session: 0, connection: 0, ids: Arc::from([]), op: Op::Request(request) };
        let origin = Origin::default();
        state.apply(1, &Entry { time_ms: 1, origin, first_serial: 0, txns: vec![txn] }, &mut applied);
        assert!(applied.outcomes[0].result.is_ok());
        state.last_zxid()
    };
    let create = |path: &str, rights: i32| {
        let id = Id { scheme: "world".to_string(), id: "anyone".to_string() };
        let acl = vec![Acl { perms: rights, id }];
        let (op, path) = (CreateOp::Create, path.to_string());
        Request::Create(Create { op, path, data: None, acl, flags: 0, ttl: -1 })
    };
    let set = |path: &str| Request::SetData { path: path.to_string(), data: None, version: -1 };
    write(&mut state, create("/old", 31));
    write(&mut state, create("/new", 31));
    write(&mut state, create("/secret", perms::WRITE));
    let seen = write(&mut state, create("/parent", 31));
    write(&mut state, set("/new"));
    write(&mut state, set("/secret"));
    write(&mut state, create("/parent/child", 31));

    let texts = |paths: &[&str]| paths.iter().map(|path| path.to_string()).collect::<Vec<_>>();
    let mut watches = Watches::new();
    let request = SetWatches {
        relative_zxid: seen,
        data: texts(&["/old", "/new", "/gone", "/secret"]),
        exist: texts(&["/old", "/none"]),
        child: texts(&["/parent", "/old", "/gone"]),
        persistent: texts(&["/p"]),
        persistent_recursive: texts(&["/r"]),
    };
    let events = watches.set_watches(ANN, &request, &state, &[]).unwrap();
    let events: Vec<(EventType, &str)> = events.iter().map(|(event, path)| (*event, &**path)).collect();
    let expected = [
        (DataChanged, "/new"),
        (Deleted, "/gone"),
        (Created, "/old"),
        (ChildrenChanged, "/parent"),
        (Deleted, "/gone"),
    ];
    assert_eq!(events, expected);
    assert_eq!(watches.by_watcher(), [(ANN, vec!["/none", "/old", "/p", "/r"])]);
    assert_eq!(watches.check(ANN, "/old", 1), Ok(()));
    assert_eq!(watches.check(ANN, "/old", 2), Ok(()));
    assert_eq!(watches.check(ANN, "/p", 4), Ok(()));
    assert_eq!(watches.check(ANN, "/r", 5), Ok(()));
}

/// The tables written down plainly: a set of watcher, path and mode.
#[derive(Default)]
struct Naive(BTreeSet<(u64, String, u8)>);

impl Naive {
    fn take(&mut self, path: &str, bits: u8, stays: u8) -> BTreeSet<u64> {
        let hit = |watch: &(u64, String, u8)| watch.1 == path && watch.2 & (bits | stays) != 0;
        let told = self.0.iter().filter(|watch| hit(watch)).map(|watch| watch.0).collect();
        self.0.retain(|watch| watch.1 != path || watch.2 & bits == 0);
        told
    }

    fn trigger(&mut self, kind: ChangeKind, path: &str) -> Vec<(u64, EventType, String)> {
        let (told_as, once) = match kind {
            ChangeKind::Created => (Created, bit::DATA),
            ChangeKind::Data => (DataChanged, bit::DATA),
            ChangeKind::Deleted => (Deleted, bit::DATA | bit::CHILD),
        };
        let below = |watched: &str| watched == "/" || path.starts_with(&format!("{watched}/"));
        let recursive = self.0.iter().filter(|watch| watch.2 == bit::RECURSIVE && below(&watch.1));
        let mut told: BTreeSet<u64> = recursive.map(|watch| watch.0).collect();
        told.extend(self.take(path, once, bit::PERSISTENT | bit::RECURSIVE));
        let mut events: Vec<_> = told.into_iter().map(|watcher| event(watcher, told_as, path)).collect();
        if kind != ChangeKind::Data {
            let parent = parent_of(path).unwrap();
            let told = self.take(parent, bit::CHILD, bit::PERSISTENT);
            events.extend(told.into_iter().map(|watcher| event(watcher, ChildrenChanged, parent)));
        }
        events
    }
}

proptest! {
    #[test]
    fn random_watches_tell_what_they_tell_in_the_plain_tables(
        steps in prop::collection::vec((0u8..12, 0u64..4, 0usize..6, 0u8..4), 1..80),
    ) {
        let paths = ["/", "/a", "/a/b", "/a/b/c", "/ab", "/a/d"];
        let (mut watches, mut naive) = (Watches::new(), Naive::default());
        for (step, watcher, path, mode) in steps {
            let (path, mode) = (paths[path], 1 << mode);
            let id = WatcherId(watcher);
            match step {
                0..6 => {
                    watches.add(id, path, mode).unwrap();
                    naive.0.insert((watcher, path.to_string(), mode));
                }
                6 => {
                    let kind = [0, 2, 1, 0, 4, 0, 0, 0, 5][usize::from(mode)];
                    let mut removed = naive.0.remove(&(watcher, path.to_string(), mode));
                    let instead: &[u8] = match mode {
                        bit::DATA => &[bit::PERSISTENT, bit::RECURSIVE],
                        bit::CHILD => &[bit::PERSISTENT],
                        _ => &[],
                    };
                    if !removed {
                        for &mode in instead {
                            removed |= naive.0.remove(&(watcher, path.to_string(), mode));
                        }
                    }
                    prop_assert_eq!(watches.remove(id, path, kind).is_ok(), removed);
                }
                7 => {
                    watches.drop_watcher(id);
                    naive.0.retain(|watch| watch.0 != watcher);
                }
                _ if path == "/" => {}
                _ => {
                    let kinds = [ChangeKind::Created, ChangeKind::Deleted, ChangeKind::Data];
                    let kind = kinds[usize::from(step) % 3];
                    prop_assert_eq!(told(&mut watches, kind, path), naive.trigger(kind, path));
                }
            }
            let weight = |watch: &(u64, String, u8)| weight(watch.2);
            prop_assert_eq!(watches.counts().watches, naive.0.iter().map(weight).sum::<usize>());
            let watchers: BTreeSet<u64> = naive.0.iter().map(|watch| watch.0).collect();
            prop_assert_eq!(watches.counts().watchers, watchers.len());
        }
    }
}
