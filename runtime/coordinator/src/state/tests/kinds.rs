//! Containers, TTL nodes, quotas, limits, and the znode of the members.

use super::support::*;
use crate::proto::{Code, CreateOp, Request, Response};
use crate::state::{ChangeKind, Limits, Op, State};

fn ttl(path: &str, ttl: i64, flags: i32) -> Request {
    let mut create = create_as(CreateOp::Ttl, path, flags);
    create.ttl = ttl;
    Request::Create(create)
}

fn container(path: &str) -> Request {
    Request::Create(create_as(CreateOp::Container, path, 4))
}

#[test]
fn a_ttl_is_positive_and_has_forty_bits() {
    let mut host = Host::new();
    for bad in [0, -1, 1 << 40, i64::MAX] {
        assert_eq!(host.write(ttl("/t", bad, 5)), Err(Code::BadArguments), "{bad}");
    }
    assert_eq!(host.write(create("/t", 5)), Err(Code::BadArguments));
    assert_eq!(host.write(ttl("/t", 5, 0)), Err(Code::BadArguments));
    assert!(matches!(host.write(ttl("/t", (1 << 40) - 1, 5)), Ok(Response::Created { .. })));
    assert!(
        matches!(host.write(ttl("/q", 5, 6)), Ok(Response::Created { path, .. }) if path == "/q0000000001")
    );
    assert_eq!(host.state.stat("/t").unwrap().ephemeral_owner, 0);
}

#[test]
fn ttl_nodes_are_due_when_nothing_touched_them() {
    let mut host = Host::new();
    host.write(ttl("/t", 100, 5)).unwrap();
    let start = host.now_ms;
    assert!(host.state.containers_due(start + 100, 9).is_empty());
    assert_eq!(host.state.containers_due(start + 101, 9), ["/t"]);
    host.now_ms += 90;
    host.write(set("/t", "", -1)).unwrap();
    assert!(host.state.containers_due(start + 101, 9).is_empty());
    host.write(create("/t/child", 0)).unwrap();
    assert!(host.state.containers_due(start + 1000, 9).is_empty());
    // The leader looked, then a child came: the deletion comes too late.
    host.now_ms = start + 1000;
    host.apply(0, 0, Op::DeleteContainers { paths: vec!["/t".to_string(), "/none".to_string()] }).unwrap();
    assert!(host.applied.changes.is_empty());
    host.write(delete("/t/child", -1)).unwrap();
    host.apply(0, 0, Op::DeleteContainers { paths: vec!["/t".to_string()] }).unwrap();
    assert_eq!(host.changes(), [("/t".to_string(), ChangeKind::Deleted)]);
    assert!(host.state.containers_due(i64::MAX, 9).is_empty());
}

#[test]
fn containers_are_due_once_they_had_children_or_were_never_used() {
    let mut host = Host::new();
    host.write(container("/k")).unwrap();
    host.write(container("/unused")).unwrap();
    assert!(host.state.containers_due(host.now_ms, 9).is_empty());
    host.write(create("/k/c", 0)).unwrap();
    assert!(host.state.containers_due(host.now_ms, 9).is_empty());
    host.write(delete("/k/c", -1)).unwrap();
    assert_eq!(host.state.containers_due(host.now_ms, 9), ["/k"]);
    let later = host.now_ms + host.state.limits().unused_container_ms + 1;
    assert_eq!(host.state.containers_due(later, 9), ["/k", "/unused"]);
    assert_eq!(host.state.containers_due(later, 1), ["/k"]);
    let not_a_container = Op::DeleteContainers { paths: vec!["/zookeeper/quota".to_string()] };
    host.apply(0, 0, not_a_container).unwrap();
    assert!(host.state.stat("/zookeeper/quota").is_some());
}

#[test]
fn what_a_failed_multi_touched_is_due_when_it_was() {
    let mut host = Host::new();
    host.write(ttl("/t", 100, 5)).unwrap();
    host.write(container("/k")).unwrap();
    host.write(create("/k/c", 0)).unwrap();
    let start = host.now_ms;
    host.now_ms += 50;
    let touches = || vec![set("/t", "x", -1), create("/t/c", 0), delete("/k/c", -1)];
    let mut failing = touches();
    failing.push(check("/none", 0));
    host.write(Request::Multi(failing)).unwrap();
    assert_eq!(host.state.containers_due(start + 101, 9), ["/t"]);
    host.write(Request::Multi(touches())).unwrap();
    assert_eq!(host.state.containers_due(start + 1000, 9), ["/k"]);
    host.write(delete("/t/c", -1)).unwrap();
    assert_eq!(host.state.containers_due(start + 150, 9), ["/k"]);
    assert_eq!(host.state.containers_due(start + 151, 9), ["/k", "/t"]);
}

fn set_quota(host: &mut Host, path: &str, limits: &str) {
    let mut at = "/zookeeper/quota".to_string();
    for name in path.split('/').skip(1) {
        at = format!("{at}/{name}");
        let _ = host.write(create(&at, 0));
    }
    for (name, text) in [("zookeeper_limits", limits), ("zookeeper_stats", "count=0,bytes=0")] {
        let mut create = create_as(CreateOp::Create, &format!("{at}/{name}"), 0);
        create.data = data(text);
        host.write(Request::Create(create)).unwrap();
    }
}

#[test]
fn a_quota_counts_what_there_is_and_what_comes_and_goes() {
    let mut host = Host::new();
    host.write(create("/q", 0)).unwrap();
    host.write(create("/q/a", 0)).unwrap();
    host.write(create("/qq", 0)).unwrap();
    set_quota(&mut host, "/q", "count=100,bytes=-1");
    let stats = "/zookeeper/quota/q/zookeeper_stats";
    assert_eq!(host.text(stats).as_deref(), Some("count=2,bytes=2"));
    let before = host.state.stat(stats).unwrap();
    host.write(create("/q/b", 1)).unwrap();
    host.write(create("/q/b2", 0)).unwrap();
    host.write(create("/qq/c", 0)).unwrap();
    host.write(set("/q/a", "12345", -1)).unwrap();
    assert_eq!(host.text(stats).as_deref(), Some("count=4,bytes=8"));
    host.write(delete("/q/b2", -1)).unwrap();
    host.write(Request::Multi(vec![create("/q/m", 0), set("/q", "long", -1), check("/none", 0)])).unwrap();
    assert_eq!(host.text(stats).as_deref(), Some("count=3,bytes=7"));
    host.apply(ALICE, ALICE as u64, Op::CloseSession).unwrap();
    assert_eq!(host.text(stats).as_deref(), Some("count=2,bytes=6"));
    let after = host.state.stat(stats).unwrap();
    assert_eq!((after.version, after.mzxid), (before.version, before.mzxid));
}

#[test]
fn hard_limits_refuse_and_soft_ones_do_not() {
    let mut host = Host::new();
    host.write(create("/q", 0)).unwrap();
    set_quota(&mut host, "/q", "count=1,bytes=1=;byteHardLimit=10;countHardLimit=3");
    host.write(create("/q/a", 0)).unwrap();
    host.write(create("/q/a/b", 0)).unwrap();
    assert_eq!(host.write(create("/q/c", 0)), Err(Code::QuotaExceeded));
    assert_eq!(host.write(set("/q/a", "123456789", -1)), Err(Code::QuotaExceeded));
    host.write(set("/q/a", "12345678", -1)).unwrap();
    assert_eq!(host.write(set("/q", "12", -1)), Err(Code::QuotaExceeded));
    // What makes it smaller is always allowed.
    host.write(set("/q/a", "", -1)).unwrap();
    host.write(delete("/q/a/b", -1)).unwrap();
    host.write(create("/q/c", 0)).unwrap();
    // Without the limits there is no quota any more.
    host.write(delete("/zookeeper/quota/q/zookeeper_limits", -1)).unwrap();
    host.write(create("/q/d", 0)).unwrap();
    assert_eq!(host.text("/zookeeper/quota/q/zookeeper_stats").as_deref(), Some("count=3,bytes=2"));
}

#[test]
fn the_closest_quota_counts() {
    let mut host = Host::new();
    host.write(create("/q", 0)).unwrap();
    host.write(create("/q/inner", 0)).unwrap();
    set_quota(&mut host, "/q", "count=-1,bytes=-1;countHardLimit=2");
    set_quota(&mut host, "/q/inner", "count=-1,bytes=-1;countHardLimit=2");
    assert_eq!(host.write(create("/q/x", 0)), Err(Code::QuotaExceeded));
    host.write(create("/q/inner/x", 0)).unwrap();
    assert_eq!(host.write(create("/q/inner/y", 0)), Err(Code::QuotaExceeded));
}

#[test]
fn quotas_with_odd_text_or_at_odd_places_do_no_harm() {
    let mut host = Host::new();
    host.write(create("/q", 0)).unwrap();
    set_quota(&mut host, "/q", "=,;count;bytes=many;countHardLimit=99999999999999999999");
    host.write(set("/zookeeper/quota/q/zookeeper_stats", "count=9223372036854775807,bytes=x", -1)).unwrap();
    host.write(create("/q/a", 0)).unwrap();
    host.write(create("/zookeeper/quota/zookeeper_limits", 0)).unwrap();
    host.write(create("/zookeeper/quota/zookeeper_stats", 0)).unwrap();
    set_quota(&mut host, "/zookeeper/quota", "countHardLimit=0");
    host.write(create("/zookeeper/quota/free", 0)).unwrap();
    host.write(create("/a", 0)).unwrap();
}

#[test]
fn data_and_ephemerals_have_bounds() {
    let limits = Limits { node_bytes_max: 10, ephemerals_max: 2, ..Limits::default() };
    let mut host = Host { state: State::with_limits(limits), ..Host::bare() };
    host.apply(ALICE, ALICE as u64, Op::CreateSession { timeout_ms: 1 }).unwrap();
    host.write(create("/a", 1)).unwrap();
    host.write(create("/b", 1)).unwrap();
    assert_eq!(host.write(create("/c", 1)), Err(Code::QuotaExceeded));
    assert_eq!(host.write(set("/a", "12345678901", -1)), Err(Code::BadArguments));
    host.write(set("/a", "1234567890", -1)).unwrap();
    let long = format!("/{}", "n".repeat(70_000));
    assert_eq!(host.write(create(&long, 0)), Err(Code::BadArguments));
    assert_eq!(host.state.stat(&long), None);
}

#[test]
fn the_members_are_a_znode_that_all_may_read() {
    let mut host = Host::new();
    let text = "server.1=a:1:2:participant;3\n".to_string();
    let answer = host.apply(0, 0, Op::Membership { text }).unwrap();
    let zxid = host.state.last_zxid();
    let expected = format!("server.1=a:1:2:participant;3\nversion={zxid:x}");
    let stat = host.state.stat("/zookeeper/config").unwrap();
    assert_eq!((stat.version, stat.mzxid), (-1, zxid));
    assert_eq!(answer, Response::Data { data: data(&expected), stat });
    assert_eq!(host.changes(), [("/zookeeper/config".to_string(), ChangeKind::Data)]);
    assert_eq!(host.write(set("/zookeeper/config", "", -1)), Err(Code::NoAuth));
}

#[test]
fn what_only_reads_or_is_not_for_the_tree_is_no_write() {
    let mut host = Host::new();
    for request in [get("/"), Request::Ping, check("/", -1)] {
        assert_eq!(host.write(request), Err(Code::Unimplemented));
    }
    let reconfig = Request::Reconfig { joining: None, leaving: None, new_members: None, config_id: -1 };
    let entry = host.entry(ALICE, ALICE as u64, Op::Request(reconfig));
    host.state.apply(TERM, &entry, &mut host.applied);
    assert_eq!(host.applied.outcomes[0].result, Err(Code::ReconfigDisabled));
    assert_eq!(host.read(create("/a", 0)), Err(Code::Unimplemented));
}

#[test]
fn a_short_request_cannot_ask_for_an_endless_answer() {
    let mut host = Host::new();
    host.write(set("/", &"x".repeat(1_000_000), -1)).unwrap();
    let reads = Request::MultiRead((0..100).map(|_| get("/")).collect());
    assert_eq!(host.read(reads.clone()), Err(Code::BadArguments));
    let mut out = vec![1];
    let answer = host.state.read_into(ALICE, &[], &reads, &mut out);
    assert_eq!((answer, out), (Err(Code::BadArguments), vec![1]));
}

#[test]
fn counts_below_and_ephemerals_by_prefix() {
    let mut host = Host::new();
    for path in ["/a", "/a/b", "/a/b/c", "/a/d", "/e"] {
        host.write(create(path, 0)).unwrap();
    }
    for path in ["/a/b/x", "/e/y"] {
        host.write(create(path, 1)).unwrap();
    }
    let count = |path: &str| host.read(Request::GetAllChildrenNumber { path: path.to_string() });
    assert_eq!(count("/a"), Ok(Response::Count(4)));
    assert_eq!(count("/a/d"), Ok(Response::Count(0)));
    assert_eq!(count("/"), Ok(Response::Count(10)));
    let own = |prefix: &str| host.read(Request::GetEphemerals { prefix: prefix.to_string() });
    assert_eq!(own("/"), Ok(Response::Ephemerals(vec!["/a/b/x".to_string(), "/e/y".to_string()])));
    assert_eq!(own("/a/b/"), Ok(Response::Ephemerals(vec!["/a/b/x".to_string()])));
}
