//! One test per rule of the operations.

use super::support::*;
use crate::proto::{Code, CreateOp, Request, Response, perms};
use crate::state::ChangeKind;

#[test]
fn a_new_tree_has_the_special_znodes_as_a_real_server_shows_them() {
    let host = Host::bare();
    assert_eq!(host.state.node_count(), 4);
    let root = host.state.stat("/").unwrap();
    assert_eq!((root.cversion, root.num_children), (-1, 1));
    let system = host.state.stat("/zookeeper").unwrap();
    assert_eq!((system.cversion, system.num_children), (-2, 2));
    assert_eq!(host.state.stat("/zookeeper/config").unwrap().version, -1);
    assert_eq!(host.state.acl("/zookeeper/config").unwrap()[..], [acl(perms::READ, "world", "anyone")]);
}

#[test]
fn create_sets_the_stat_of_the_znode_and_of_its_parent() {
    let mut host = Host::new();
    host.now_ms = 5_000_000;
    assert_eq!(host.write(create("/a", 0)), Ok(Response::Path("/a".to_string())));
    let zxid = host.state.last_zxid();
    assert_eq!(zxid >> 32, TERM as i64);
    let stat = host.state.stat("/a").unwrap();
    assert_eq!((stat.czxid, stat.mzxid, stat.pzxid), (zxid, zxid, zxid));
    assert_eq!((stat.ctime, stat.mtime), (5_000_000, 5_000_000));
    assert_eq!((stat.version, stat.cversion, stat.aversion), (0, 0, 0));
    assert_eq!((stat.data_length, stat.num_children, stat.ephemeral_owner), (1, 0, 0));
    assert_eq!(host.changes(), [("/a".to_string(), ChangeKind::Created)]);

    host.write(create("/a/b", 0)).unwrap();
    let stat = host.state.stat("/a").unwrap();
    assert_eq!((stat.cversion, stat.num_children, stat.pzxid), (1, 1, host.state.last_zxid()));
    host.write(delete("/a/b", -1)).unwrap();
    let stat = host.state.stat("/a").unwrap();
    assert_eq!((stat.cversion, stat.num_children, stat.pzxid), (2, 0, host.state.last_zxid()));
    assert_eq!((stat.mzxid, stat.version), (zxid, 0));
}

#[test]
fn create2_answers_with_the_stat() {
    let mut host = Host::new();
    let answer = host.write(Request::Create(create_as(CreateOp::Create2, "/a", 0))).unwrap();
    let stat = host.state.stat("/a").unwrap();
    assert_eq!(answer, Response::Created { path: "/a".to_string(), stat });
}

#[test]
fn create_checks_in_the_order_of_the_real_server() {
    let mut host = Host::new();
    host.write(create("/a", 0)).unwrap();
    host.write(create("/e", 1)).unwrap();
    let mut closed = create_as(CreateOp::Create, "/closed", 0);
    closed.acl = vec![acl(perms::READ, "world", "anyone")];
    host.write(Request::Create(closed)).unwrap();

    let mut without_acl = create_as(CreateOp::Create, "noslash", 0);
    without_acl.acl.clear();
    assert_eq!(host.write(Request::Create(without_acl.clone())), Err(Code::BadArguments));
    without_acl.path = "/none/x".to_string();
    assert_eq!(host.write(Request::Create(without_acl)), Err(Code::InvalidAcl));
    assert_eq!(host.write(create("/none/", 0)), Err(Code::NoNode));
    assert_eq!(host.write(create("/closed/", 0)), Err(Code::NoAuth));
    assert_eq!(host.write(create("/a/", 0)), Err(Code::BadArguments));
    assert_eq!(host.write(create("/a/.", 0)), Err(Code::BadArguments));
    assert_eq!(host.write(create("/a", 0)), Err(Code::NodeExists));
    assert_eq!(host.write(create("/", 0)), Err(Code::NodeExists));
    assert_eq!(host.write(create("/e/c", 0)), Err(Code::NoChildrenForEphemerals));
    assert_eq!(host.write(create("/b", 9)), Err(Code::BadArguments));
}

#[test]
fn numbers_of_sequential_znodes_count_all_children_ever_created() {
    let mut host = Host::new();
    host.write(create("/q", 0)).unwrap();
    host.write(create("/q/x", 0)).unwrap();
    assert_eq!(host.write(create("/q/n-", 2)), Ok(Response::Path("/q/n-0000000001".to_string())));
    host.write(delete("/q/n-0000000001", -1)).unwrap();
    assert_eq!(host.write(create("/q/", 3)), Ok(Response::Path("/q/0000000002".to_string())));
    assert_eq!(host.state.stat("/q/0000000002").unwrap().ephemeral_owner, ALICE);
}

#[test]
fn the_number_of_a_sequential_znode_wraps() {
    let mut host = Host::new();
    host.write(create("/q", 0)).unwrap();
    let number = host.state.nodes.find("/q").unwrap();
    host.state.put_children(number, "/q", 1, i32::MAX);
    host.write(create("/q/n", 2)).unwrap();
    assert_eq!(host.write(create("/q/n", 2)), Ok(Response::Path("/q/n-2147483648".to_string())));
    assert_eq!(host.write(create("/q/n", 2)), Ok(Response::Path("/q/n-2147483647".to_string())));
}

#[test]
fn set_data_moves_version_and_times_alone() {
    let mut host = Host::new();
    host.write(create("/a", 0)).unwrap();
    let before = host.state.stat("/a").unwrap();
    host.now_ms += 10;
    assert_eq!(host.write(set("/a", "long text", 1)), Err(Code::BadVersion));
    assert_eq!(host.write(set("/b", "", -1)), Err(Code::NoNode));
    assert_eq!(host.write(set("/a/", "", -1)), Err(Code::BadArguments));
    let answer = host.write(set("/a", "long text", 0)).unwrap();
    let stat = host.state.stat("/a").unwrap();
    assert_eq!(answer, Response::Stat(stat));
    assert_eq!((stat.version, stat.mzxid, stat.mtime), (1, host.state.last_zxid(), host.now_ms));
    assert_eq!((stat.czxid, stat.ctime, stat.pzxid), (before.czxid, before.ctime, before.pzxid));
    assert_eq!(host.text("/a").as_deref(), Some("long text"));
    assert_eq!(host.changes(), [("/a".to_string(), ChangeKind::Data)]);
}

#[test]
fn a_version_passes_over_minus_one() {
    let mut host = Host::new();
    host.write(create("/a", 0)).unwrap();
    let number = host.state.nodes.find("/a").unwrap();
    host.state.put_data(number, "/a", None, 1, 1, i32::MAX);
    host.write(set("/a", "x", i32::MAX)).unwrap();
    assert_eq!(host.state.stat("/a").unwrap().version, i32::MIN);
    host.state.put_data(number, "/a", None, 1, 1, -2);
    host.write(set("/a", "x", -2)).unwrap();
    assert_eq!(host.state.stat("/a").unwrap().version, 0);
}

#[test]
fn null_data_is_not_empty_data() {
    let mut host = Host::new();
    let mut null = create_as(CreateOp::Create, "/null", 0);
    null.data = None;
    host.write(Request::Create(null)).unwrap();
    host.write(create("/a", 0)).unwrap();
    host.write(set("/a", "", -1)).unwrap();
    assert_eq!(host.state.data("/null"), Some(None));
    assert_eq!(host.state.data("/a"), Some(Some(b"".as_slice())));
    assert!(matches!(host.read(get("/null")), Ok(Response::Data { data: None, .. })));
}

#[test]
fn delete_checks_in_the_order_of_the_real_server() {
    let mut host = Host::new();
    host.write(create("/a", 0)).unwrap();
    host.write(create("/a/b", 0)).unwrap();
    for special in ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config", "noslash"] {
        assert_eq!(host.write(delete(special, -1)), Err(Code::BadArguments), "{special}");
    }
    assert_eq!(host.write(delete("/none/x", -1)), Err(Code::NoNode));
    assert_eq!(host.write(delete("/none", 7)), Err(Code::NoNode));
    assert_eq!(host.write(delete("/a", 7)), Err(Code::BadVersion));
    assert_eq!(host.write(delete("/a", 0)), Err(Code::NotEmpty));
    assert_eq!(host.write(delete("/a/b", 0)), Ok(Response::Empty));
    assert_eq!(host.write(delete("/a", 0)), Ok(Response::Empty));
}
