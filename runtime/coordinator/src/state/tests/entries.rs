//! Entries as bytes: what is written is read, and nothing else is.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::model::an_op;
use super::support::*;
use crate::state::{Entry, Op, Origin, Txn};

fn encoded(entry: &Entry) -> Bytes {
    let mut out = Vec::new();
    entry.encode(&mut out);
    out.into()
}

fn entry_of(ops: Vec<Op>) -> Entry {
    let ids: Arc<[_]> = Arc::from([id("digest", "u:h"), id("ip", "::1")]);
    let txns = ops.into_iter().enumerate().map(|(at, op)| Txn {
        session: -5 - at as i64,
        connection: u64::MAX - at as u64,
        ids: if at % 2 == 0 { ids.clone() } else { Arc::from([]) },
        op,
    });
    let origin = Origin { server: 7, incarnation: u64::MAX };
    Entry { time_ms: -1, origin, first_serial: u64::MAX, txns: txns.collect() }
}

fn every_op() -> Vec<Op> {
    vec![
        Op::CreateSession { timeout_ms: i32::MAX },
        Op::Attach { password: vec![1; 16], connection: 3 },
        Op::CloseSession,
        Op::Expire { sessions: vec![i64::MIN, 0, -1, ALICE] },
        Op::DeleteContainers { paths: vec!["/a".to_string(), "/é".to_string()] },
        Op::Init { secret: [3; 32] },
        Op::Membership { text: "server.1=…".to_string() },
        Op::Request(crate::proto::Request::CloseSession),
    ]
}

#[test]
fn every_operation_of_the_servers_comes_back() {
    let entry = entry_of(every_op());
    assert_eq!(Entry::decode(&encoded(&entry)), Ok(entry));
    assert!(Entry::decode(&Bytes::new()).is_err());
}

#[test]
fn identities_are_written_once() {
    let ops = || (0..50).map(|_| Op::CloseSession).collect::<Vec<_>>();
    let mut entry = entry_of(ops());
    let many = encoded(&entry).len();
    entry.txns.truncate(2);
    assert!(many < encoded(&entry).len() + 48 * 24);
    let back = Entry::decode(&encoded(&entry_of(ops()))).unwrap();
    assert!(Arc::ptr_eq(&back.txns[0].ids, &back.txns[2].ids));
}

#[test]
fn an_unknown_version_and_bytes_behind_are_refused() {
    let good = encoded(&entry_of(every_op())).to_vec();
    let mut newer = good.clone();
    newer[0] += 1;
    assert!(Entry::decode(&newer.into()).is_err());
    let mut longer = good;
    longer.push(0);
    let error = Entry::decode(&longer.clone().into()).unwrap_err();
    assert_eq!(error.at, longer.len() - 1);
}

#[test]
fn data_is_shared_with_the_bytes_of_the_log() {
    let entry = entry_of(vec![Op::Request(set("/a", &"x".repeat(5000), 1))]);
    let bytes = encoded(&entry);
    let back = Entry::decode(&bytes).unwrap();
    let Op::Request(crate::proto::Request::SetData { data: Some(data), .. }) = &back.txns[0].op else {
        panic!("{back:?}")
    };
    assert!(bytes.as_ptr_range().contains(&data.as_ptr()));
}

proptest! {
    #[test]
    fn what_is_written_is_read(ops in prop::collection::vec(an_op(), 0..20)) {
        let entry = entry_of(ops.into_iter().map(|(_, _, op)| op).collect());
        let bytes = encoded(&entry);
        prop_assert_eq!(Entry::decode(&bytes), Ok(entry));
    }

    #[test]
    fn damaged_entries_are_errors_or_other_entries(
        ops in prop::collection::vec(an_op(), 1..4),
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let mut bytes = encoded(&entry_of(ops.into_iter().map(|(_, _, op)| op).collect())).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = value;
        let _ = Entry::decode(&Bytes::copy_from_slice(&bytes));
        prop_assert!(Entry::decode(&Bytes::copy_from_slice(&bytes[..at])).is_err());
    }
}
