//! Sessions, their owners and passwords, what goes with them, and writes that come twice.

use super::support::*;
use crate::proto::{Code, Response};
use crate::state::{Applied, ChangeKind, Entry, Op, Origin, Txn};

#[test]
fn a_session_belongs_to_the_connection_that_proved_it() {
    let mut host = Host::new();
    let password = host.state.password(ALICE).to_vec();
    assert_ne!(password, host.state.password(BOB));
    let wrong = Op::Attach { password: host.state.password(BOB).to_vec(), connection: 99 };
    assert_eq!(host.apply(ALICE, 99, wrong), Err(Code::SessionExpired));
    let short = Op::Attach { password: password[..15].to_vec(), connection: 99 };
    assert_eq!(host.apply(ALICE, 99, short), Err(Code::SessionExpired));
    assert!(host.applied.attached.is_empty());
    assert_eq!(host.write(create("/a", 0)), Ok(Response::Path("/a".to_string())));

    host.apply(ALICE, 99, Op::Attach { password: password.clone(), connection: 99 }).unwrap();
    assert_eq!(host.applied.attached, [(ALICE, 99)]);
    assert_eq!(host.state.session(ALICE).unwrap().owner, 99);
    let zxid = host.state.last_zxid();
    assert_eq!(host.write(create("/b", 0)), Err(Code::SessionMoved));
    assert_eq!(host.state.last_zxid(), zxid + 1, "a write that failed has a number too");
    assert_eq!(host.apply(ALICE, ALICE as u64, Op::CloseSession), Err(Code::SessionMoved));
    host.apply(ALICE, 99, Op::CloseSession).unwrap();
    assert_eq!(host.apply(ALICE, 99, Op::Attach { password, connection: 99 }), Err(Code::SessionExpired));
}

#[test]
fn without_a_secret_no_password_is_right() {
    let mut host = Host::bare();
    host.apply(ALICE, 1, Op::CreateSession { timeout_ms: 1 }).unwrap();
    let password = host.state.password(ALICE).to_vec();
    let attach = Op::Attach { password, connection: 2 };
    assert_eq!(host.apply(ALICE, 2, attach), Err(Code::SessionExpired));
}

#[test]
fn only_the_first_secret_counts() {
    let mut host = Host::new();
    let password = host.state.password(ALICE);
    host.apply(0, 0, Op::Init { secret: [9; 32] }).unwrap();
    assert_eq!(host.state.password(ALICE), password);
}

#[test]
fn sessions_that_cannot_be_are_refused() {
    let mut host = Host::new();
    let new = |timeout_ms| Op::CreateSession { timeout_ms };
    assert_eq!(host.apply(0, 5, new(1)), Err(Code::BadArguments));
    assert_eq!(host.apply(i64::MIN, 5, new(1)), Err(Code::BadArguments));
    assert_eq!(host.apply(77, 5, new(0)), Err(Code::BadArguments));
    assert_eq!(host.apply(ALICE, 5, new(1)), Err(Code::RuntimeInconsistency));
    assert_eq!(host.apply(77, 5, Op::Request(create("/a", 0))), Err(Code::SessionExpired));
}

#[test]
fn ephemeral_znodes_go_with_their_session_under_one_number() {
    let mut host = Host::new();
    host.write(create("/p", 0)).unwrap();
    for name in ["/p/b", "/p/a", "/c"] {
        host.write(create(name, 1)).unwrap();
    }
    host.write_of_bob(create("/p/of-bob", 1)).unwrap();
    assert_eq!(host.state.ephemeral_count(), 4);
    let before = host.state.last_zxid();
    host.apply(ALICE, ALICE as u64, Op::CloseSession).unwrap();
    let zxid = host.state.last_zxid();
    assert_eq!(zxid, before + 1);
    let gone = |path: &str| (path.to_string(), ChangeKind::Deleted);
    assert_eq!(host.changes(), [gone("/c"), gone("/p/a"), gone("/p/b")]);
    assert!(host.applied.changes.iter().all(|change| change.zxid == zxid));
    assert_eq!(host.applied.closed, [ALICE]);
    assert_eq!(host.state.ephemeral_count(), 1);
    assert_eq!(host.state.stat("/p").unwrap().pzxid, zxid);
    assert_eq!(host.state.children("/p").unwrap(), ["of-bob"]);
    assert_eq!(host.write(create("/x", 0)), Err(Code::SessionExpired));
}

#[test]
fn expiry_ends_many_sessions_at_once_and_passes_over_those_that_are_gone() {
    let mut host = Host::new();
    host.write(create("/a", 1)).unwrap();
    host.write_of_bob(create("/b", 1)).unwrap();
    host.apply(0, 0, Op::Expire { sessions: vec![BOB, 12345, ALICE] }).unwrap();
    assert_eq!(host.applied.closed, [BOB, ALICE]);
    assert_eq!(host.state.node_count(), 4);
    assert_eq!(host.state.session_count(), 0);
}

#[test]
fn an_ephemeral_znode_deleted_by_another_leaves_its_session() {
    let mut host = Host::new();
    host.write(create("/a", 1)).unwrap();
    host.write_of_bob(delete("/a", -1)).unwrap();
    host.write_of_bob(create("/a", 0)).unwrap();
    host.apply(ALICE, ALICE as u64, Op::CloseSession).unwrap();
    assert!(host.state.stat("/a").is_some());
}

fn creates(host: &Host, origin: Origin, first_serial: u64, paths: &[&str]) -> Entry {
    let txn = |path: &&str| Txn {
        session: ALICE,
        connection: ALICE as u64,
        ids: host.ids.clone().into(),
        op: Op::Request(create(path, 0)),
    };
    Entry { time_ms: 1, origin, first_serial, txns: paths.iter().map(txn).collect() }
}

#[test]
fn a_write_that_comes_again_is_done_once_and_one_that_comes_too_early_not_at_all() {
    let mut host = Host::new();
    let mut applied = Applied::default();
    let first = Origin { server: 2, incarnation: 10 };
    assert_eq!(host.state.origin_serial(2), None);
    host.state.apply(TERM, &creates(&host, first, 1, &["/1", "/2"]), &mut applied);
    assert_eq!(applied.outcomes.iter().map(|outcome| outcome.serial).collect::<Vec<_>>(), [1, 2]);
    let zxid = host.state.last_zxid();
    host.state.apply(TERM + 1, &creates(&host, first, 2, &["/2", "/3"]), &mut applied);
    assert_eq!((applied.repeats, applied.outcomes.len(), applied.outcomes[0].serial), (1, 1, 3));
    assert_eq!(applied.outcomes[0].zxid, ((TERM + 1) << 32) as i64 | 1);
    assert!(applied.outcomes[0].zxid > zxid);
    host.state.apply(TERM + 1, &creates(&host, first, 5, &["/5"]), &mut applied);
    assert_eq!((applied.repeats, host.state.stat("/5")), (1, None));
    assert_eq!(host.state.origin_serial(2), Some((10, 3)));

    // A server that was started again begins anew; what it sent before it stopped no longer counts.
    let second = Origin { server: 2, incarnation: 11 };
    host.state.apply(TERM + 1, &creates(&host, second, 1, &["/4"]), &mut applied);
    assert_eq!(applied.outcomes.len(), 1);
    host.state.apply(TERM + 1, &creates(&host, first, 4, &["/5"]), &mut applied);
    assert_eq!((applied.repeats, host.state.stat("/5")), (1, None));
    let other = Origin { server: 3, incarnation: 1 };
    host.state.apply(TERM + 1, &creates(&host, other, 1, &["/5"]), &mut applied);
    assert!(host.state.stat("/5").is_some());
}

#[test]
fn neither_time_nor_numbers_go_back() {
    let mut host = Host::new();
    host.now_ms = 9_000_000;
    host.write(create("/a", 0)).unwrap();
    host.now_ms = 8_000_000;
    let entry = host.entry(ALICE, ALICE as u64, Op::Request(create("/b", 0)));
    let before = host.state.last_zxid();
    let mut applied = Applied::default();
    host.state.apply(TERM - 1, &entry, &mut applied);
    assert_eq!(host.state.stat("/b").unwrap().ctime, 9_000_000);
    assert_eq!(host.state.last_zxid(), before + 1);
}
