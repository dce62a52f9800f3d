//! Access lists: who passes, what may be stored, what is shown.

use super::support::*;
use crate::proto::{Acl, Code, CreateOp, Id, Request, Response, perms};
use crate::state::{ChangeKind, allows};

fn create_with(path: &str, list: Vec<Acl>) -> Request {
    let mut create = create_as(CreateOp::Create, path, 0);
    create.acl = list;
    Request::Create(create)
}

fn get_acl(path: &str) -> Request {
    Request::GetAcl { path: path.to_string() }
}

#[test]
fn lists_that_are_not_well_formed_are_refused() {
    let mut host = Host::new();
    for bad in [
        acl(31, "nosuch", "x"),
        acl(31, "world", "someone"),
        acl(31, "digest", "user"),
        acl(31, "digest", "user:"),
        acl(31, "digest", "a:b:c"),
        acl(31, "ip", "300.0.0.1"),
        acl(31, "ip", "10.0.0.0/33"),
        acl(31, "ip", "10.0.0.0/-1"),
        acl(31, "ip", "::1/129"),
        acl(31, "x509", ""),
        acl(31, "super", ""),
        acl(31, "auth", ""),
    ] {
        let list = vec![acl(31, "world", "anyone"), bad.clone()];
        assert_eq!(host.write(create_with("/a", list)), Err(Code::InvalidAcl), "{bad:?}");
    }
    assert_eq!(host.write(create_with("/a", Vec::new())), Err(Code::InvalidAcl));
    let fine = vec![
        acl(1, "digest", "user:hash="),
        acl(1, "ip", "10.0.0.0/8"),
        acl(1, "ip", "::1"),
        acl(1, "x509", "CN=a"),
        acl(1, "sasl", "kafka/host@REALM"),
    ];
    host.write(create_with("/a", fine)).unwrap();
}

#[test]
fn auth_becomes_who_the_client_is_and_repeats_are_dropped() {
    let mut host = Host::new();
    host.ids = vec![id("ip", "127.0.0.1"), id("digest", "u:h"), id("x509", "CN=u"), id("super", "")];
    let list = vec![acl(31, "auth", ""), acl(1, "world", "anyone"), acl(1, "world", "anyone")];
    host.write(create_with("/a", list)).unwrap();
    let stored = [acl(31, "digest", "u:h"), acl(31, "x509", "CN=u"), acl(1, "world", "anyone")];
    assert_eq!(host.state.acl("/a").unwrap()[..], stored);
}

#[test]
fn an_address_matches_by_its_leading_bits() {
    let of = |text: &str| vec![id("ip", text)];
    let cases: [(&str, &str, bool); 9] = [
        ("10.1.2.3", "10.1.2.3", true),
        ("10.1.2.3", "10.1.2.4", false),
        ("10.1.2.0/24", "10.1.2.200", true),
        ("10.1.2.0/24", "10.1.3.1", false),
        ("0.0.0.0/0", "192.168.0.1", true),
        ("2001:db8::/32", "2001:db8:1::1", true),
        ("2001:db8::/32", "2001:db9::1", false),
        ("::/0", "::1", true),
        ("::/0", "127.0.0.1", false),
    ];
    for (wanted, address, passes) in cases {
        let list = [acl(perms::READ, "ip", wanted)];
        assert_eq!(allows(&list, perms::READ, &of(address)), passes, "{wanted} {address}");
        assert!(!allows(&list, perms::WRITE, &of(address)));
    }
}

#[test]
fn each_operation_asks_for_its_right() {
    type Case = (i32, fn(&str) -> Request, &'static str);
    let all: [Case; 4] = [
        (perms::CREATE, |path| create(&format!("{path}/new"), 0), "create"),
        (perms::DELETE, |path| delete(&format!("{path}/child"), -1), "delete"),
        (perms::WRITE, |path| set(path, "x", -1), "set"),
        (
            perms::ADMIN,
            |path| Request::SetAcl { path: path.to_string(), acl: open(), version: -1 },
            "set the list",
        ),
    ];
    for (right, request, name) in all {
        for given in [right, perms::ALL & !right] {
            let mut host = Host::new();
            host.write(create("/a", 0)).unwrap();
            host.write(create("/a/child", 0)).unwrap();
            let list = vec![acl(given, "world", "anyone")];
            let restrict = Request::SetAcl { path: "/a".to_string(), acl: list, version: -1 };
            host.write(restrict).unwrap();
            let expected = if given == right { None } else { Some(Code::NoAuth) };
            assert_eq!(host.write(request("/a")).err(), expected, "{name}");
            host.ids = vec![id("super", "")];
            host.write(request("/a")).err();
            assert!(host.read(get("/a")).is_ok());
        }
    }
}

#[test]
fn what_one_may_not_read_one_may_not_see() {
    let mut host = Host::new();
    host.write(create_with("/a", vec![acl(perms::ALL & !perms::READ, "world", "anyone")])).unwrap();
    let path = || "/a".to_string();
    for read in [
        get("/a"),
        Request::Exists { path: path(), watch: false },
        Request::GetChildren { path: path(), watch: false },
        Request::GetChildren2 { path: path(), watch: false },
        Request::GetAllChildrenNumber { path: path() },
    ] {
        assert_eq!(host.read(read), Err(Code::NoAuth));
    }
    let answer = host.write(Request::Multi(vec![check("/a", -1)]));
    assert_eq!(answer, Ok(Response::Multi(vec![(-1, Err(Code::NoAuth))])));
}

#[test]
fn hashes_of_passwords_are_shown_only_to_those_who_may_administer() {
    let mut host = Host::new();
    let list = vec![acl(31, "digest", "u:hash"), acl(1, "world", "anyone"), acl(31, "sasl", "s")];
    host.write(create_with("/a", list.clone())).unwrap();
    let shown = |host: &Host| match host.read(get_acl("/a")) {
        Ok(Response::Acl { acl, .. }) => acl,
        other => panic!("{other:?}"),
    };
    assert_eq!(shown(&host)[0], acl(31, "digest", "u:x"));
    assert_eq!(shown(&host)[1..], list[1..]);
    host.ids = vec![id("digest", "u:hash")];
    assert_eq!(shown(&host), list);
    host.ids.clear();
    host.write(create_with("/b", vec![acl(2, "world", "anyone")])).unwrap();
    assert_eq!(host.read(get_acl("/b")), Err(Code::NoAuth));
    host.write(create_with("/c", vec![acl(16, "world", "anyone")])).unwrap();
    assert!(host.read(get_acl("/c")).is_ok());
}

#[test]
fn the_version_of_a_list_is_its_own() {
    let mut host = Host::new();
    host.write(create("/a", 0)).unwrap();
    let before = host.state.stat("/a").unwrap();
    let set_acl = |version| Request::SetAcl { path: "/a".to_string(), acl: open(), version };
    assert_eq!(host.write(set_acl(1)), Err(Code::BadVersion));
    host.write(set_acl(0)).unwrap();
    let stat = host.state.stat("/a").unwrap();
    assert_eq!(stat.aversion, 1);
    assert_eq!((stat.version, stat.mzxid, stat.mtime), (before.version, before.mzxid, before.mtime));
    assert!(host.applied.changes.is_empty());
}

#[test]
fn events_of_what_one_may_not_read_are_not_told() {
    use crate::proto::EventType::{ChildrenChanged, Deleted};
    let mut host = Host::new();
    host.ids = vec![id("digest", "u:h")];
    host.write(create("/p", 0)).unwrap();
    host.write(create_with("/p/secret", vec![acl(31, "auth", "")])).unwrap();
    host.write(delete("/p/secret", -1)).unwrap();
    let change = &host.applied.changes[0];
    assert_eq!(change.kind, ChangeKind::Deleted);
    let nobody: &[Id] = &[];
    assert!(!change.may_tell(Deleted, nobody));
    assert!(change.may_tell(Deleted, &host.ids));
    assert!(change.may_tell(ChildrenChanged, nobody));
}

/// The list may be a megabyte of entries: dropping repeats must not take the square of that.
#[test]
fn a_long_list_is_stored_once() {
    let mut host = Host::new();
    let list: Vec<Acl> = (0..20_000).map(|at| acl(1, "x509", &format!("CN={}", at % 10_000))).collect();
    host.write(create_with("/a", list.clone())).unwrap();
    host.write(create_with("/b", list)).unwrap();
    assert_eq!(host.state.acl("/a").unwrap().len(), 10_000);
    assert_eq!(host.state.acls.iter().count(), 3);
}
