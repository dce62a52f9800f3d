//! A snapshot is of the moment it was begun, whatever happens until it is written; what is wrong with one is an error.

use proptest::prelude::*;

use super::model::an_op;
use super::support::*;
use crate::proto::{CreateOp, Request};
use crate::state::{Kind, Op, Origin, RestoreError, State};

/// The snapshot of a state that stands still.
pub fn whole(state: &mut State) -> Vec<u8> {
    let id = state.snapshot_begin();
    let mut out = Vec::new();
    while state.snapshot_chunk(id, 1000, &mut out) {}
    state.snapshot_end(id);
    out
}

fn restored(mut file: &[u8]) -> State {
    State::restore(&mut file).unwrap()
}

fn sorted_children(state: &State, path: &str) -> Vec<String> {
    let mut children = state.children(path).unwrap();
    children.sort();
    children
}

/// All that can be seen of two states is equal.
fn assert_same(a: &State, b: &State) {
    assert_eq!((a.digest(), a.node_count()), (b.digest(), b.node_count()));
    assert_eq!((a.data_bytes(), a.ephemeral_count()), (b.data_bytes(), b.ephemeral_count()));
    assert_eq!((a.last_zxid(), a.time_ms(), &a.origins), (b.last_zxid(), b.time_ms(), &b.origins));
    assert_eq!((a.secret, a.due.len(), &a.quotas), (b.secret, b.due.len(), &b.quotas));
    assert_eq!(a.acls.iter().count(), b.acls.iter().count());
    let sessions = |state: &State| {
        state.sessions().map(|(id, session)| (id, session.timeout_ms, session.owner)).collect::<Vec<_>>()
    };
    assert_eq!(sessions(a), sessions(b));
    for (id, _) in a.sessions() {
        assert_eq!(a.ephemerals(id), b.ephemerals(id));
    }
    let mut paths = vec!["/".to_string()];
    while let Some(path) = paths.pop() {
        assert_eq!(a.stat(&path), b.stat(&path), "{path}");
        assert_eq!(a.data(&path), b.data(&path), "{path}");
        assert_eq!(a.acl(&path), b.acl(&path), "{path}");
        let children = sorted_children(a, &path);
        assert_eq!(children, sorted_children(b, &path));
        paths.extend(children.iter().map(|name| format!("{}/{name}", path.trim_end_matches('/'))));
    }
}

fn furnished() -> Host {
    let mut host = Host::new();
    host.ids = vec![id("digest", "u:x")];
    host.apply(0, 0, Op::Membership { text: "server.1=a:1:2:participant;3".to_string() }).unwrap();
    for request in [
        create("/a", 0),
        create("/a/e", 1),
        create("/a/s", 2),
        Request::Create(create_as(CreateOp::Container, "/k", 4)),
        create("/gone", 0),
        create("/zookeeper/quota/a", 0),
        create("/zookeeper/quota/a/zookeeper_limits", 0),
        set("/a", &"x".repeat(300_000), -1),
        Request::SetAcl { path: "/k".to_string(), acl: vec![acl(31, "auth", "")], version: -1 },
        delete("/gone", -1),
    ] {
        host.write(request).unwrap();
    }
    host.write_of_bob(create("/b", 3)).unwrap();
    let mut entry = host.entry(ALICE, ALICE as u64, Op::Request(create("/o", 0)));
    (entry.origin, entry.first_serial) = (Origin { server: 4, incarnation: 9 }, 1);
    host.state.apply(TERM, &entry, &mut host.applied);
    host
}

#[test]
fn everything_comes_back() {
    let mut host = furnished();
    let file = whole(&mut host.state);
    let mut back = restored(&file);
    assert_same(&host.state, &back);
    assert_eq!(back.password(ALICE), host.state.password(ALICE));
    assert_eq!(back.origin_serial(4), Some((9, 1)));
    let container = back.nodes.find("/k").unwrap();
    assert_eq!(back.nodes.kind(container), Kind::Container);
    // A state that came back is written as the bytes it came from, but for numbers that were free.
    let again = restored(&whole(&mut back));
    assert_same(&again, &host.state);
    let mut other = Host { state: back, ..Host::bare() };
    other.write(delete("/a/e", -1)).unwrap();
    other.write(create("/a/s", 2)).unwrap();
    assert!(other.state.stat("/a/s0000000002").is_some());
}

#[test]
fn what_is_cut_off_is_refused_wherever_it_is_cut() {
    let mut host = Host::new();
    host.write(create("/a", 0)).unwrap();
    host.write(create("/a/b", 1)).unwrap();
    let file = whole(&mut host.state);
    for length in 0..file.len() {
        assert!(State::restore(&mut &file[..length]).is_err(), "cut to {length}");
    }
    assert!(State::restore(&mut &file[..]).is_ok());
}

#[test]
fn every_bit_counts() {
    let mut host = Host::new();
    host.write(create("/a", 0)).unwrap();
    let file = whole(&mut host.state);
    for at in 0..file.len() * 8 {
        let mut damaged = file.clone();
        damaged[at / 8] ^= 1 << (at % 8);
        let error = State::restore(&mut damaged.as_slice()).err();
        match error {
            Some(RestoreError::NoSnapshot | RestoreError::Version { .. }) => assert!(at / 8 < 12),
            Some(RestoreError::Corrupt { at: place, .. }) => assert!(place <= file.len() as u64),
            other => panic!("bit {at}: {other:?}"),
        }
    }
}

/// Frames with right checksums and wrong content, as a bug or somebody malicious would write them.
#[test]
fn wrong_content_under_right_checksums_is_refused() {
    let mut host = Host::new();
    for path in ["/a", "/a/b", "/c"] {
        host.write(create(path, 0)).unwrap();
    }
    let file = whole(&mut host.state);
    for at in 12..file.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff, file[at].wrapping_add(1)] {
            let mut damaged = file.clone();
            damaged[at] = value;
            let mut start = 12;
            while start + 8 <= damaged.len() {
                let length = u32::from_le_bytes(damaged[start..start + 4].try_into().unwrap()) as usize;
                let end = (start + 8).saturating_add(length);
                if end > damaged.len() {
                    break;
                }
                let sum = crc32c::crc32c(&damaged[start + 8..end]);
                damaged[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
                start = end;
            }
            // What the digest does not cover is zxid, time, secret and the like; tree and sessions are covered.
            if let Ok(taken) = State::restore(&mut damaged.as_slice()) {
                assert_eq!(
                    (taken.digest(), taken.node_count()),
                    (host.state.digest(), host.state.node_count())
                );
                let sessions = |state: &State| state.sessions().map(|session| session.0).collect::<Vec<_>>();
                assert_eq!(sessions(&taken), sessions(&host.state));
            }
        }
    }
}

/// A second begin ended the first snapshot, whose writer took the silence for the end of the file.
#[test]
fn several_snapshots_are_each_of_their_own_moment() {
    let mut host = furnished();
    let first = host.state.snapshot_begin();
    let first_state = restored(&whole(&mut host.state));
    let (mut one, mut two) = (Vec::new(), Vec::new());
    host.write(set("/a", "other", -1)).unwrap();
    host.write(create("/new", 0)).unwrap();
    assert!(host.state.snapshot_chunk(first, 100, &mut one));
    let second = host.state.snapshot_begin();
    let second_state = restored(&whole(&mut host.state));
    host.write(delete("/new", -1)).unwrap();
    host.apply(ALICE, ALICE as u64, Op::CloseSession).unwrap();
    while host.state.snapshot_chunk(second, 100, &mut two) {}
    host.state.snapshot_end(second);
    while host.state.snapshot_chunk(first, 100, &mut one) {}
    assert_same(&restored(&one), &first_state);
    assert_same(&restored(&two), &second_state);
    let length = two.len();
    assert!(!host.state.snapshot_chunk(second, 100, &mut two));
    assert_eq!(two.len(), length);
    host.state.snapshot_end(first);
    assert!(host.state.nodes.walks.is_empty());
}

#[test]
fn chunks_are_about_as_large_as_was_asked() {
    let mut host = Host::new();
    for number in 0..2000 {
        host.write(create(&format!("/n{number}"), 0)).unwrap();
    }
    let id = host.state.snapshot_begin();
    let (mut out, mut chunks) = (Vec::new(), 0);
    loop {
        let before = out.len();
        let more = host.state.snapshot_chunk(id, 1000, &mut out);
        assert!(out.len() - before < 1200);
        chunks += 1;
        if !more {
            break;
        }
    }
    assert!(chunks > 20);
    assert_same(&restored(&out), &host.state);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_snapshot_is_of_the_moment_it_was_begun(
        before in prop::collection::vec(an_op(), 0..40),
        during in prop::collection::vec((an_op(), 1usize..400), 0..60),
    ) {
        let mut host = Host::new();
        for (session, _, op) in before {
            let _ = host.apply(session, session as u64, op);
        }
        let then = restored(&whole(&mut host.state));
        assert_same(&then, &host.state);
        let id = host.state.snapshot_begin();
        let (mut out, mut more) = (Vec::new(), true);
        for ((session, _, op), bytes) in during {
            more = more && host.state.snapshot_chunk(id, bytes, &mut out);
            let _ = host.apply(session, session as u64, op);
        }
        while more {
            more = host.state.snapshot_chunk(id, 5000, &mut out);
        }
        assert_same(&restored(&out), &then);
        host.state.snapshot_end(id);
        prop_assert!(host.state.nodes.walks.is_empty());
    }

    #[test]
    fn random_bytes_are_no_snapshot_and_no_entry(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(State::restore(&mut bytes.as_slice()).is_err());
        let mut file = b"flowtree\x01\0\0\0".to_vec();
        file.extend_from_slice(&bytes);
        prop_assert!(State::restore(&mut file.as_slice()).is_err());
    }
}
