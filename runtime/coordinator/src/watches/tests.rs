//! Who is told of what, and how often.

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
    assert_eq!(watches.check(ANN, "/a", 2), Err(Code::NoWatcher));
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
