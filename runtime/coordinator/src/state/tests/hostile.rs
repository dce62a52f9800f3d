//! Whatever a client sends, or the log holds: an answer, no panic, and a state that is whole.

use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::prelude::*;

use super::snapshots::whole;
use super::support::*;
use crate::proto::{Acl, Create, CreateOp, Request, encode_response};
use crate::state::{Op, State};

/// Text that is a path, nearly one, or nothing of the kind.
fn any_path() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "b",
        "",
        ".",
        "..",
        "zookeeper",
        "quota",
        "config",
        "zookeeper_limits",
        "zookeeper_stats",
        "\0",
        "\u{7f}",
        "\u{e000}",
        "\u{1f600}",
        "é",
        "-2147483648",
        "a b",
    ]);
    let pieces = prop::collection::vec(piece, 0..6);
    (pieces, any::<bool>()).prop_map(|(pieces, rooted)| {
        let path = pieces.join("/");
        if rooted { format!("/{path}") } else { path }
    })
}

fn any_acl() -> impl Strategy<Value = Vec<Acl>> {
    let scheme = prop::sample::select(vec!["world", "auth", "digest", "ip", "x509", "sasl", "super", ""]);
    let of = prop::sample::select(vec!["anyone", "", ":", "a:b", "a:b:", "10.0.0.1/8", "::/0", "1.2.3.4/99"]);
    let entry = (any::<i32>(), scheme, of).prop_map(|(perms, scheme, of)| acl(perms, scheme, of));
    prop_oneof![3 => Just(open()), 1 => prop::collection::vec(entry, 0..4)]
}

fn any_data() -> impl Strategy<Value = Option<Bytes>> {
    let text =
        prop::sample::select(vec!["", "count=1,bytes=2;countHardLimit=3", "count=-9223372036854775808", "x"]);
    prop_oneof![1 => Just(None), 4 => text.prop_map(data)]
}

fn any_request() -> impl Strategy<Value = Request> {
    let ops = vec![CreateOp::Create, CreateOp::Create2, CreateOp::Container, CreateOp::Ttl];
    let ttl = prop_oneof![Just(-1i64), Just(1), any::<i64>()];
    let create = (prop::sample::select(ops), any_path(), any_data(), any_acl(), -1..8i32, ttl);
    let create = create.prop_map(|(op, path, data, acl, flags, ttl)| {
        Request::Create(Create { op, path, data, acl, flags, ttl })
    });
    let version = || prop_oneof![3 => Just(-1), 1 => any::<i32>()];
    prop_oneof![
        6 => create,
        2 => (any_path(), version()).prop_map(|(path, version)| Request::Delete { path, version }),
        2 => (any_path(), any_data(), version())
            .prop_map(|(path, data, version)| Request::SetData { path, data, version }),
        1 => (any_path(), any_acl(), version())
            .prop_map(|(path, acl, version)| Request::SetAcl { path, acl, version }),
        1 => (any_path(), version()).prop_map(|(path, version)| Request::Check { path, version }),
        1 => Just(Request::Ping),
    ]
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => any_request().prop_map(Op::Request),
        4 => prop::collection::vec(any_request(), 0..5).prop_map(|ops| Op::Request(Request::Multi(ops))),
        1 => prop::collection::vec(any_path(), 0..4).prop_map(|paths| Op::DeleteContainers { paths }),
        1 => any_path().prop_map(|text| Op::Membership { text }),
        1 => any::<i32>().prop_map(|timeout_ms| Op::CreateSession { timeout_ms }),
    ]
}

fn reads(path: &str) -> Vec<Request> {
    let path = || path.to_string();
    vec![
        get(&path()),
        Request::Exists { path: path(), watch: false },
        Request::GetAcl { path: path() },
        Request::GetChildren { path: path(), watch: false },
        Request::GetChildren2 { path: path(), watch: false },
        Request::GetAllChildrenNumber { path: path() },
        Request::GetEphemerals { prefix: path() },
        Request::MultiRead(vec![get(&path()), Request::GetChildren { path: path(), watch: true }, get("/")]),
    ]
}

proptest! {
    #[test]
    fn nothing_that_is_sent_does_harm(
        ops in prop::collection::vec((any_op(), 0i64..400_000), 0..40),
        paths in prop::collection::vec(any_path(), 0..10),
    ) {
        let mut host = Host::new();
        host.ids = vec![id("digest", "a:b"), id("ip", "10.0.0.7")];
        for (op, passed) in ops {
            host.now_ms += passed;
            let _ = host.apply(ALICE, ALICE as u64, op);
        }
        let due = host.state.containers_due(host.now_ms, 100);
        host.apply(0, 0, Op::DeleteContainers { paths: due.clone() }).unwrap();
        prop_assert!(host.applied.changes.len() >= due.len());
        for path in &paths {
            for read in reads(path) {
                let mut bytes = Vec::new();
                let written = host.state.read_into(ALICE, &host.ids, &read, &mut bytes);
                match host.read(read) {
                    Ok(response) => {
                        let mut expected = Vec::new();
                        encode_response(&response, &mut expected);
                        prop_assert_eq!((written, bytes), (Ok(()), expected));
                    }
                    Err(code) => prop_assert_eq!((written, bytes), (Err(code), Vec::new())),
                }
            }
        }
        for path in due {
            // Deleting one may make its parent due, so all that can be said is that these are gone.
            prop_assert_eq!(host.state.stat(&path), None);
        }
        let mut back = State::restore(&mut whole(&mut host.state).as_slice()).unwrap();
        let later = host.now_ms + 1_000_000;
        let due = |state: &State| state.containers_due(later, 1000).into_iter().collect::<BTreeSet<_>>();
        prop_assert_eq!(due(&back), due(&host.state));
        let (mut one, mut other) = (host, Host::bare());
        one.apply(ALICE, ALICE as u64, Op::CloseSession).unwrap();
        std::mem::swap(&mut other.state, &mut back);
        other.now_ms = one.now_ms;
        other.apply(ALICE, ALICE as u64, Op::CloseSession).unwrap();
        prop_assert_eq!(one.state.digest(), other.state.digest());
        prop_assert_eq!(one.changes(), other.changes());
        prop_assert_eq!(one.state.ephemerals(ALICE).len(), 0);
    }
}

#[test]
fn the_ring_of_a_large_directory_stays_whole() {
    let mut host = Host::new();
    host.write(create("/d", 0)).unwrap();
    let mut names = BTreeSet::new();
    let mut seed = 1u64;
    for at in 0..6000 {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let name = format!("n{}", (seed >> 33) % 1500);
        let path = format!("/d/{name}");
        let result = if at % 3 < 2 { host.write(create(&path, 0)) } else { host.write(delete(&path, -1)) };
        let changed = if at % 3 < 2 { names.insert(name) } else { names.remove(&name) };
        assert_eq!(result.is_ok(), changed);
    }
    let children = host.state.children("/d").unwrap();
    assert_eq!(children.len(), names.len());
    assert_eq!(children.into_iter().collect::<BTreeSet<_>>(), names);
    let deep: Vec<String> = (1..1500).map(|depth| "/x".repeat(depth)).collect();
    for path in &deep {
        host.write(create(path, 0)).unwrap();
    }
    let below = host.read(Request::GetAllChildrenNumber { path: "/x".to_string() });
    assert_eq!(below, Ok(crate::proto::Response::Count(deep.len() as i32 - 1)));
    assert!(State::restore(&mut whole(&mut host.state).as_slice()).is_ok());
}
