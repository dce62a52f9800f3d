//! All or nothing, and nothing means nothing: not a bit of the state differs after a multi that failed.

use super::support::*;
use crate::proto::{Code, CreateOp, Request, Response};
use crate::state::ChangeKind;

#[test]
fn operations_see_those_before_them_and_share_one_number() {
    let mut host = Host::new();
    let before = host.state.last_zxid();
    let answer = host.write(Request::Multi(vec![
        create("/m", 0),
        Request::Create(create_as(CreateOp::Create2, "/m/c", 0)),
        check("/m/c", 0),
        set("/m", "1", 0),
        delete("/m/c", -1),
    ]));
    let zxid = host.state.last_zxid();
    assert_eq!(zxid, before + 1);
    let Ok(Response::Multi(answers)) = answer else { panic!("{answer:?}") };
    assert_eq!(answers.iter().map(|answer| answer.0).collect::<Vec<_>>(), [1, 15, 13, 5, 2]);
    assert!(matches!(&answers[3].1, Ok(Response::Stat(stat)) if stat.version == 1 && stat.mzxid == zxid));
    assert!(host.applied.changes.iter().all(|change| change.zxid == zxid));
    let kinds: Vec<ChangeKind> = host.changes().into_iter().map(|change| change.1).collect();
    use ChangeKind::{Created, Data, Deleted};
    assert_eq!(kinds, [Created, Created, Data, Deleted]);
    assert_eq!(host.write(Request::Multi(Vec::new())), Ok(Response::Multi(Vec::new())));
}

#[test]
fn a_failed_multi_leaves_everything_as_it_was() {
    let mut host = Host::new();
    host.write(create("/a", 0)).unwrap();
    host.write(create("/a/b", 0)).unwrap();
    host.write(create("/e", 1)).unwrap();
    let digest = host.state.digest();
    let (count, bytes) = (host.state.node_count(), host.state.data_bytes());
    let mut container = create_as(CreateOp::Container, "/a/k", 4);
    container.acl.push(acl(5, "ip", "10.0.0.0/8"));
    let zxid = host.state.last_zxid();
    let answer = host.write(Request::Multi(vec![
        set("/a", "another text that is longer", -1),
        delete("/a/b", -1),
        create("/a/b", 1),
        Request::Create(container),
        create("/a/s", 2),
        delete("/e", -1),
        set("/a/k", "", 0),
        delete("/a/k", -1),
        check("/a", 7),
        create("/x", 0),
    ]));
    let Ok(Response::Multi(answers)) = answer else { panic!("{answer:?}") };
    assert_eq!(answers.len(), 10);
    assert!(answers[..8].iter().all(|answer| *answer == (-1, Ok(Response::ErrorResponse(0)))));
    assert_eq!(answers[8], (-1, Err(Code::BadVersion)));
    assert_eq!(answers[9], (-1, Err(Code::RuntimeInconsistency)));
    assert!(host.applied.changes.is_empty());
    assert_eq!(host.state.last_zxid(), zxid + 1);
    assert_eq!(host.state.digest(), digest);
    assert_eq!((host.state.node_count(), host.state.data_bytes()), (count, bytes));
    assert_eq!(host.state.ephemerals(ALICE), ["/e"]);
    assert_eq!(host.state.acls.iter().count(), 2);
    assert_eq!(host.state.due.len(), 0);
    assert_eq!(host.text("/a/b").as_deref(), Some("v"));
    // And what came back is whole: it can go as it would have before.
    host.write(delete("/a/b", 0)).unwrap();
    host.write(delete("/a", 0)).unwrap();
}

#[test]
fn access_lists_of_a_multi_that_went_well_are_given_up_once() {
    let mut host = Host::new();
    let mut with_list = create_as(CreateOp::Create, "/a", 0);
    with_list.acl = vec![acl(31, "ip", "10.0.0.0/8"), acl(31, "world", "anyone")];
    host.write(Request::Multi(vec![Request::Create(with_list.clone()), delete("/a", -1)])).unwrap();
    assert_eq!(host.state.acls.iter().count(), 2);
    host.write(Request::Create(with_list)).unwrap();
    assert_eq!(host.state.acls.iter().count(), 3);
    host.write(Request::Multi(vec![delete("/a", -1), check("/none", 0)])).unwrap();
    assert_eq!(host.state.acls.iter().count(), 3);
    host.write(delete("/a", -1)).unwrap();
    assert_eq!(host.state.acls.iter().count(), 2);
}

#[test]
fn what_does_not_belong_into_a_multi_fails_it() {
    let mut host = Host::new();
    for odd in [Request::Ping, Request::CloseSession, Request::Multi(vec![create("/y", 0)]), get("/")] {
        let answer = host.write(Request::Multi(vec![create("/x", 0), odd]));
        let Ok(Response::Multi(answers)) = answer else { panic!("{answer:?}") };
        assert_eq!(answers[1], (-1, Err(Code::BadArguments)));
        assert_eq!(host.state.stat("/x"), None);
    }
    assert!(host.state.session(ALICE).is_some());
}
