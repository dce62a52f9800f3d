//! Each check must pass what is right and catch what was made wrong.

use super::*;
use crate::proto::{Acl, Code, Create, CreateOp, EventType, Id, Request, Response, Stat, Zxid, perms};
use crate::testing::history::Line;

/// A history that is made up. Clients have the session of their own number.
#[derive(Default)]
struct Story {
    lines: Vec<Line>,
    calls: u64,
    at_ms: u64,
}

impl Story {
    fn new(clients: u32) -> Story {
        let mut story = Story::default();
        for client in 1..=clients {
            story.connected(client, i64::from(client), false);
        }
        story
    }

    fn note(&mut self, client: u32, notice: Notice) {
        self.at_ms += 1;
        self.lines.push(Line { at_ms: self.at_ms, client, notice });
    }

    fn connected(&mut self, client: u32, session: i64, resumed: bool) {
        let server = "s1:2181".to_owned();
        self.note(client, Notice::Connected { session, resumed, server, timeout_ms: 1_000 });
    }

    fn invoke(&mut self, client: u32, request: Request) -> u64 {
        self.calls += 1;
        self.note(client, Notice::Invoked { call: self.calls, request });
        self.calls
    }

    fn reply(&mut self, client: u32, call: u64, zxid: Zxid, result: Result<Response, Code>) {
        self.note(client, Notice::Replied { call, zxid, result });
    }

    fn call(&mut self, client: u32, request: Request, zxid: Zxid, result: Result<Response, Code>) {
        let call = self.invoke(client, request);
        self.reply(client, call, zxid, result);
    }

    fn event(&mut self, client: u32, zxid: Zxid, kind: EventType, path: &str) {
        self.note(client, Notice::Event { zxid, kind, path: path.to_owned() });
    }

    fn create(&mut self, client: u32, path: &str, data: &str, zxid: Zxid) {
        self.create_as(client, path, path, data, 0, zxid);
    }

    fn create_as(&mut self, client: u32, asked: &str, path: &str, data: &str, flags: i32, zxid: Zxid) {
        let owner = if flags & 1 == 1 { i64::from(client) } else { 0 };
        let stat = Stat { ephemeral_owner: owner, ..stat(zxid, zxid, 0) };
        let response = Response::Created { path: path.to_owned(), stat };
        self.call(client, create(asked, data, flags), zxid, Ok(response));
    }

    fn set(&mut self, client: u32, path: &str, data: &str, zxid: Zxid, version: i32) {
        self.call(client, set(path, data, -1), zxid, Ok(Response::Stat(stat(1, zxid, version))));
    }

    fn get(&mut self, client: u32, path: &str, zxid: Zxid, found: Option<(&str, Zxid, i32)>) {
        self.get_with(client, path, zxid, found, false);
    }

    fn get_with(
        &mut self,
        client: u32,
        path: &str,
        zxid: Zxid,
        found: Option<(&str, Zxid, i32)>,
        watch: bool,
    ) {
        let result = found.map_or(Err(Code::NoNode), |(text, mzxid, version)| {
            Ok(Response::Data { data: Some(data(text)), stat: stat(1, mzxid, version) })
        });
        self.call(client, Request::GetData { path: path.to_owned(), watch }, zxid, result);
    }

    fn list(&mut self, client: u32, path: &str, zxid: Zxid, names: &[&str]) {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let request = Request::GetChildren { path: path.to_owned(), watch: false };
        self.call(client, request, zxid, Ok(Response::Children(names)));
    }

    fn sync(&mut self, client: u32, zxid: Zxid) {
        let path = "/".to_owned();
        self.call(client, Request::Sync { path: path.clone() }, zxid, Ok(Response::Path(path)));
    }

    fn check(self) -> Result<(), String> {
        let expected =
            Expected { pairs: vec![("/a".to_owned(), "/b".to_owned())], registers: vec!["/r".to_owned()] };
        check_history(&History::new(self.lines), &expected)
    }

    #[track_caller]
    fn passes(self) {
        assert_eq!(self.check(), Ok(()));
    }

    #[track_caller]
    fn fails(self, with: &str) {
        let error = self.check().expect_err(with);
        assert!(error.contains(with), "{error}");
    }
}

fn data(text: &str) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(text.as_bytes())
}

fn stat(czxid: Zxid, mzxid: Zxid, version: i32) -> Stat {
    Stat { czxid, mzxid, version, ..Stat::default() }
}

fn create(path: &str, text: &str, flags: i32) -> Request {
    let anyone = Id { scheme: "world".to_owned(), id: "anyone".to_owned() };
    Request::Create(Create {
        op: CreateOp::Create2,
        path: path.to_owned(),
        data: Some(data(text)),
        acl: vec![Acl { perms: perms::ALL, id: anyone }],
        flags,
        ttl: 0,
    })
}

fn set(path: &str, text: &str, version: i32) -> Request {
    Request::SetData { path: path.to_owned(), data: Some(data(text)), version }
}

fn delete(path: &str) -> Request {
    Request::Delete { path: path.to_owned(), version: -1 }
}

/// Client 1 has created `/r` at 1 and set it at 2.
fn register() -> Story {
    let mut story = Story::new(3);
    story.create(1, "/r", "v0", 1);
    story.set(1, "/r", "v1", 2, 1);
    story
}

#[test]
fn a_history_without_faults_passes() {
    let mut story = register();
    story.get_with(2, "/r", 1, Some(("v0", 1, 0)), true);
    story.event(2, 2, EventType::DataChanged, "/r");
    story.get(2, "/r", 2, Some(("v1", 2, 1)));
    // Nobody knows what became of this one; it was done.
    let lost = story.invoke(2, set("/r", "v2", 1));
    story.reply(2, lost, 0, Err(Code::ConnectionLoss));
    story.sync(3, 3);
    story.get(3, "/r", 3, Some(("v2", 3, 2)));
    story.call(3, set("/r", "v3", 1), 4, Err(Code::BadVersion));
    story.call(3, delete("/r"), 5, Ok(Response::Empty));
    story.get(3, "/r", 5, None);
    story.passes();
}

#[test]
fn writes_out_of_the_order_of_time_are_caught() {
    let mut story = register();
    story.create(2, "/x", "v9", 1);
    story.fails("two writes have zxid");
    let mut story = register();
    story.set(2, "/r", "v2", 5, 2);
    story.create(3, "/x", "v9", 4);
    story.fails("was acknowledged before one began at less");
}

#[test]
fn a_write_that_was_done_twice_is_caught() {
    let mut story = register();
    story.get(2, "/r", 3, Some(("v1", 3, 2)));
    story.fails("was written twice");
    // Seen only by the hole in the versions.
    let mut story = register();
    story.set(2, "/r", "v2", 7, 3);
    story.fails("1 versions come from nowhere");
}

#[test]
fn a_refused_write_that_was_done_is_caught() {
    let mut story = register();
    story.call(2, set("/r", "v2", 7), 3, Err(Code::BadVersion));
    story.get(3, "/r", 4, Some(("v2", 3, 2)));
    story.fails("was refused, and is there");
    let mut story = register();
    story.get(3, "/r", 4, Some(("v77", 3, 2)));
    story.fails("was never written");
}

#[test]
fn versions_that_do_not_count_are_caught() {
    let mut story = register();
    story.set(2, "/r", "v2", 3, 1);
    story.fails("not more than 1");
    let mut story = register();
    story.call(2, set("/r", "v2", 1), 3, Ok(Response::Stat(stat(1, 3, 3))));
    story.fails("over version 1 gave");
}

#[test]
fn two_states_at_one_zxid_are_caught() {
    let mut story = register();
    story.get(2, "/r", 2, Some(("v5", 2, 1)));
    story.fails("was two things at zxid 0x2");
}

#[test]
fn a_lost_write_is_caught() {
    let mut story = register();
    story.get(2, "/r", 3, Some(("v0", 1, 0)));
    story.fails("that was not read");
    let mut story = register();
    story.get(2, "/r", 3, None);
    story.fails("was not found");
    let mut story = Story::new(2);
    story.create(1, "/q/a", "", 1);
    story.list(2, "/q", 0, &[]);
    story.list(2, "/q", 1, &[]);
    story.fails("is not listed");
    let mut story = Story::new(2);
    story.create(1, "/q/a", "", 1);
    story.call(1, delete("/q/a"), 2, Ok(Response::Empty));
    story.list(2, "/q", 2, &["a"]);
    story.fails("is deleted since 0x2, and is listed");
}

#[test]
fn a_reply_from_the_future_is_caught() {
    let mut story = register();
    story.get(2, "/r", 1, Some(("v1", 2, 1)));
    story.fails("what its zxid does not have yet");
}

#[test]
fn a_session_that_goes_back_is_caught() {
    let mut story = register();
    story.connected(1, 1, true);
    story.get(1, "/r", 1, Some(("v0", 1, 0)));
    story.fails("session 0x1 went back");
}

#[test]
fn a_sync_that_shows_too_little_is_caught() {
    let mut story = register();
    story.sync(2, 1);
    story.fails("a sync shows 0x1, and 0x2 was acknowledged");
}

#[test]
fn half_of_a_multi_is_caught() {
    let mut story = Story::new(1);
    let read = |path: &str| Request::GetData { path: path.to_owned(), watch: false };
    let found = |text: &str, mzxid, version| {
        (4, Ok(Response::Data { data: Some(data(text)), stat: stat(1, mzxid, version) }))
    };
    let request = Request::MultiRead(vec![read("/a"), read("/b")]);
    let whole = Response::Multi(vec![found("v1", 3, 1), found("v1", 3, 1)]);
    story.call(1, request.clone(), 3, Ok(whole));
    let half = Response::Multi(vec![found("v2", 4, 2), found("v1", 3, 1)]);
    story.call(1, request, 4, Ok(half));
    let history = History::new(story.lines);
    let pairs = [("/a".to_owned(), "/b".to_owned())];
    assert!(check_pairs(&history, &pairs).unwrap_err().contains("differ"));
}

#[test]
fn sequential_names_out_of_order_are_caught() {
    let mut story = Story::new(2);
    story.create_as(1, "/q/n-", "/q/n-0000000000", "", 2, 3);
    story.create_as(2, "/q/n-", "/q/n-0000000001", "", 2, 4);
    story.create_as(2, "/q/n-", "/q/n-0000000001", "", 2, 5);
    story.fails("came behind");
}

/// Client 2 watches `/r` as of 1, and client 1 changes it at 2.
fn watched() -> Story {
    let mut story = Story::new(3);
    story.create(1, "/r", "v0", 1);
    story.get_with(2, "/r", 1, Some(("v0", 1, 0)), true);
    story.set(1, "/r", "v1", 2, 1);
    story
}

#[test]
fn a_missed_watch_is_caught() {
    let mut story = watched();
    story.get(2, "/other", 2, None);
    story.fails("has not told of 0x2");
    // It is set again after a reconnect, and tells then.
    let mut story = watched();
    story.note(2, Notice::Disconnected);
    story.connected(2, 2, true);
    story.event(2, 2, EventType::DataChanged, "/r");
    story.note(2, Notice::Rewatched { zxid: 2 });
    story.get(2, "/other", 2, None);
    story.passes();
    let mut story = watched();
    story.connected(2, 2, true);
    story.note(2, Notice::Rewatched { zxid: 2 });
    story.get(2, "/other", 2, None);
    story.fails("has not told of 0x2");
}

#[test]
fn an_event_after_its_data_is_caught() {
    let mut story = watched();
    story.get(2, "/r", 1, Some(("v0", 1, 0)));
    story.event(2, 2, EventType::DataChanged, "/r");
    story.get(2, "/r", 2, Some(("v1", 2, 1)));
    story.passes();
    let mut story = Story::new(2);
    story.get_with(2, "/r", 5, Some(("v0", 1, 0)), true);
    story.event(2, 4, EventType::DataChanged, "/r");
    story.fails("an event after a reply that shows its change");
}

#[test]
fn an_event_that_nobody_asked_for_is_caught() {
    let mut story = watched();
    story.event(2, 2, EventType::DataChanged, "/r");
    story.event(2, 3, EventType::DataChanged, "/r");
    story.fails("nobody watches for");
    let mut story = watched();
    story.event(2, 2, EventType::Created, "/r");
    story.fails("the path was Present");
}

#[test]
fn persistent_watches_tell_of_every_change() {
    let watch = |path: &str, mode| Request::AddWatch { path: path.to_owned(), mode };
    let story = || {
        let mut story = Story::new(2);
        story.create(1, "/p", "", 1);
        story.call(2, watch("/p", 1), 1, Ok(Response::ErrorResponse(0)));
        story.create(1, "/p/a", "v1", 2);
        story.create(1, "/p/b", "v1", 3);
        story.event(2, 2, EventType::Created, "/p/a");
        story
    };
    let mut good = story();
    good.event(2, 3, EventType::Created, "/p/b");
    good.list(2, "/p", 3, &["a", "b"]);
    good.passes();
    let mut bad = story();
    bad.list(2, "/p", 3, &["a", "b"]);
    bad.fails("the Recursive watch on `/p` has not told of 0x3");
}

/// Client 1 has an ephemeral since 2.
fn ephemeral() -> Story {
    let mut story = Story::new(2);
    story.create(1, "/e", "", 1);
    story.create_as(1, "/e/x", "/e/x", "", 1, 2);
    story
}

#[test]
fn ephemerals_that_go_early_or_late_are_caught() {
    let mut story = ephemeral();
    story.list(2, "/e", 2, &["x"]);
    story.note(1, Notice::Closed { session: 1, zxid: 3 });
    story.list(2, "/e", 3, &[]);
    story.passes();
    let mut story = ephemeral();
    story.list(2, "/e", 3, &[]);
    story.get(1, "/other", 4, None);
    story.sync(1, 4);
    story.fails("was gone at 0x3");
    let mut story = ephemeral();
    story.note(1, Notice::Closed { session: 1, zxid: 3 });
    story.list(2, "/e", 3, &["x"]);
    story.fails("outlived its session");
}

#[test]
fn a_session_that_expires_early_is_caught() {
    let mut story = ephemeral();
    story.at_ms += 500;
    story.note(1, Notice::Expired { session: 1 });
    story.fails("expired too early");
    let mut story = ephemeral();
    story.at_ms += 1_000;
    story.note(1, Notice::Expired { session: 1 });
    story.passes();
}

#[test]
fn registers_that_are_not_linearizable_are_caught() {
    let write =
        |text: &str, version| RegisterCall::Set { data: data(text), expected: -1, became: Some(version) };
    let read = |text: &str, version| RegisterCall::Read { data: data(text), version };
    let operation = |call, began, ended| Operation { call, began, ended };
    let mut operations = vec![
        operation(RegisterCall::Create { data: data("0") }, 0, Some(1)),
        operation(write("1", 1), 2, Some(5)),
        operation(read("0", 0), 3, Some(4)),
        operation(read("1", 1), 6, Some(7)),
    ];
    assert_eq!(linearizable(&Register, &operations), Some(true));
    // The write was acknowledged before this read began.
    operations[3] = operation(read("0", 0), 6, Some(7));
    assert_eq!(linearizable(&Register, &operations), Some(false));
    // One that was never acknowledged may come at any time, once.
    operations[1] = operation(write("1", 1), 2, None);
    assert_eq!(linearizable(&Register, &operations), Some(true));
    operations.push(operation(read("1", 1), 8, Some(9)));
    assert_eq!(linearizable(&Register, &operations), Some(true));
    operations.push(operation(read("0", 0), 10, Some(11)));
    assert_eq!(linearizable(&Register, &operations), Some(false));
    operations[5] = operation(RegisterCall::Refused { expected: 1 }, 10, Some(11));
    assert_eq!(linearizable(&Register, &operations), Some(false));
}

#[test]
fn synced_reads_are_checked_as_part_of_the_register() {
    // The read shows the state of its zxid, but a sync has gone before it.
    let story = |shown: &str, mzxid: Zxid, version| {
        let mut story = register();
        let call = story.invoke(2, set("/r", "v2", 1));
        story.reply(2, call, 0, Err(Code::ConnectionLoss));
        story.sync(3, 2);
        story.get(3, "/r", mzxid.max(2), Some((shown, mzxid, version)));
        story
    };
    story("v1", 2, 1).passes();
    story("v2", 3, 2).passes();
    // A write over a version that was not there cannot have been done.
    let mut story = register();
    let call = story.invoke(2, set("/r", "v2", 0));
    story.reply(2, call, 0, Err(Code::ConnectionLoss));
    story.sync(3, 3);
    story.get(3, "/r", 3, Some(("v2", 3, 2)));
    story.fails("`/r` is not linearizable");
}

#[test]
fn wide_histories_are_searched_in_time() {
    // A hundred writers at once, whose versions tell their order.
    let mut operations =
        vec![Operation { call: RegisterCall::Create { data: data("0") }, began: 0, ended: Some(1) }];
    for number in 1..=100_i32 {
        let call = RegisterCall::Set { data: data(&number.to_string()), expected: -1, became: Some(number) };
        operations.push(Operation { call, began: 2, ended: Some(1_000) });
    }
    assert_eq!(linearizable(&Register, &operations), Some(true));
}
