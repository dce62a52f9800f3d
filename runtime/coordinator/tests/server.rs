//! What a client of one server sees: the exchanges that two real servers were recorded at, the order of answers and
//! events, sessions, limits, and what operators ask.

mod support;

use std::collections::HashMap;

use flow_coordinator::network::World;
use flow_coordinator::proto::*;
use flow_coordinator::replica::Member;
use flow_coordinator::server::{Coordinator, CoordinatorConfig};
use support::{Client, Packet, Running, create, read_packet, send_packet};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// The requests of the transcript of 3.9.5, sent to this server in the same order over the same connections. Answers
/// must be the same but for times, numbers of changes and sessions, and the order of names.
#[tokio::test(flavor = "multi_thread")]
async fn the_transcript_of_a_real_server_is_spoken_alike() {
    let server = Running::start(|_| {}).await;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/wire-zk39.jsonl");
    let text = std::fs::read_to_string(path).expect("transcript");
    let mut connections: HashMap<&str, TcpStream> = HashMap::new();
    let mut compared = 0;
    let mut second = false;
    for line in text.lines() {
        let exchange: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let name = exchange["name"].as_str().expect("name");
        let request = hex::decode(exchange["req"].as_str().expect("request")).expect("hex");
        let expected = exchange["rep"].as_array().expect("replies").iter();
        let expected: Vec<&str> = expected.filter_map(|reply| reply.as_str()).collect();
        // What ends sessions, or goes on with those of another server, stands in tests of its own.
        if name == "reconnect.ok" {
            break;
        }
        let alone =
            ["check(top level)", "unknown opcode", "sasl w/o config", "auth.badscheme", "truncated request"];
        second |= name == "exists.noauth";
        let which = if alone.contains(&name) {
            "alone"
        } else if second && name != "setData.priv" {
            "second"
        } else {
            "first"
        };
        if which == "alone" || !connections.contains_key(which) {
            let connection = server.client().await.stream;
            connections.insert(if which == "alone" { "alone" } else { which }, connection);
        }
        if name == "connect" {
            continue;
        }
        let stream = connections.get_mut(which).expect("a connection");
        send_packet(stream, &request).await;
        let code = decode_request_header(&mut Reader::new(&request)).expect("header").op;
        for expected in expected {
            match expected {
                "TIMEOUT" => continue,
                "CLOSED" => assert_eq!(read_packet(stream).await, None, "{name}"),
                packet => {
                    let packet = hex::decode(packet).expect("hex");
                    let found = read_packet(stream).await.unwrap_or_else(|| panic!("{name}: closed"));
                    // What `/zookeeper/config` holds is ours.
                    if name != "getConfig" {
                        assert_eq!(told(code, &found), told(code, &packet), "{name}");
                        compared += 1;
                    }
                }
            }
        }
    }
    assert!(compared > 70, "only {compared} packets compared");
}

/// A packet without what differs from run to run.
fn told(code: i32, packet: &[u8]) -> String {
    let header = decode_reply_header(&mut Reader::new(packet)).expect("header");
    if header.xid == XID_EVENT {
        return format!("{:?}", decode_event(&mut Reader::new(&packet[16..])));
    }
    let positive = header.zxid > 0;
    let body = (header.err == 0).then(|| {
        let mut response = decode_response(code, &packet[16..]).expect("response");
        level(&mut response);
        response
    });
    format!("xid {} err {} zxid {} {positive} {body:?}", header.xid, header.err, header.zxid.min(0))
}

fn level(response: &mut Response) {
    let level_stat = |stat: &mut Stat| {
        let changed = stat.mzxid > stat.czxid;
        *stat = Stat {
            czxid: 0,
            mzxid: i64::from(changed),
            pzxid: i64::from(stat.pzxid > stat.czxid),
            ctime: 0,
            mtime: 0,
            ephemeral_owner: i64::from(stat.ephemeral_owner != 0),
            ..*stat
        };
    };
    match response {
        Response::Created { stat, .. } | Response::Stat(stat) | Response::Acl { stat, .. } => {
            level_stat(stat)
        }
        Response::Data { stat, .. } => level_stat(stat),
        Response::Children2 { children, stat } => {
            children.sort();
            level_stat(stat);
        }
        Response::Children(names) | Response::Ephemerals(names) => names.sort(),
        Response::WhoAmI(ids) => ids.sort(),
        Response::Multi(results) => {
            for (_, result) in results {
                if let Ok(response) = result {
                    level(response);
                }
            }
        }
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_in_the_order_of_the_requests() {
    let server = Running::start(|_| {}).await;
    let mut client = server.client().await;
    assert!(client.call(&create("/a", 0)).await.is_ok());
    let text = |number: i32| bytes::Bytes::from(number.to_string());
    let set = |number: i32| Request::SetData { path: "/a".into(), data: Some(text(number)), version: -1 };
    let get = Request::GetData { path: "/a".into(), watch: false };
    let first = client.xid;
    for number in 0..200 {
        client.send(&set(number)).await;
        client.send(&get).await;
        if number % 10 == 0 {
            client.send(&Request::Sync { path: "/a".into() }).await;
            client.send(&Request::Sync { path: "/a".into() }).await;
        }
    }
    let mut xid = first;
    let mut last = 0;
    for number in 0..200 {
        let mut next = async |code| {
            xid += 1;
            let (header, result) = client.reply(code).await;
            assert_eq!(header.xid, xid);
            assert!(header.zxid >= last);
            last = header.zxid;
            result.expect("done")
        };
        next(op::SET_DATA).await;
        // Its own write and no later one.
        let Response::Data { data, stat } = next(op::GET_DATA).await else { panic!("no data") };
        assert_eq!((data, stat.version), (Some(text(number)), number + 1));
        if number % 10 == 0 {
            assert_eq!(next(op::SYNC).await, Response::Path("/a".into()));
            assert_eq!(next(op::SYNC).await, Response::Path("/a".into()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_comes_before_any_answer_that_shows_its_change() {
    let server = Running::start(|_| {}).await;
    let (mut writer, mut watcher) = (server.client().await, server.client().await);
    assert!(writer.call(&create("/a", 0)).await.is_ok());
    let mut version = 0;
    for _ in 0..100 {
        assert!(watcher.get("/a", true).await.is_ok());
        writer.send(&Request::SetData { path: "/a".into(), data: None, version: -1 }).await;
        loop {
            let Ok(Response::Data { stat, .. }) = watcher.get("/a", false).await else { panic!("no data") };
            if stat.version > version {
                assert_eq!(watcher.events.len(), 1, "the event was not there when the new data was");
                let (zxid, event) = watcher.events.remove(0);
                assert_eq!((zxid, event.kind), (stat.mzxid, EventType::DataChanged));
                version = stat.version;
                break;
            }
            assert!(watcher.events.is_empty());
        }
        assert!(writer.reply(op::SET_DATA).await.1.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_on_at_another_connection() {
    let server = Running::start(|_| {}).await;
    let mut first = server.client().await;
    assert!(first.call(&create("/e", 1)).await.is_ok());
    let session = first.session.clone();
    // Whoever does not know the password does the session no harm.
    let mut wrong = Client::resume(server.raw().await, 10_000, session.session, vec![7; 16]).await;
    assert_eq!((wrong.session.session, wrong.session.timeout_ms), (0, 0));
    assert_eq!(wrong.packet().await, Packet::Closed);
    assert!(first.get("/e", false).await.is_ok());
    let again = Client::resume(server.raw().await, 10_000, session.session, session.password.clone()).await;
    assert_eq!(again.session, session);
    first.closed().await;
    let mut again = again;
    let Ok(Response::Data { stat, .. }) = again.get("/e", false).await else { panic!("the znode is gone") };
    assert_eq!(stat.ephemeral_owner, session.session);
    assert_eq!(again.call(&Request::CloseSession).await, Ok(Response::Empty));
    again.closed().await;
    let gone = Client::resume(server.raw().await, 10_000, session.session, session.password).await;
    assert_eq!(gone.session.timeout_ms, 0);
    assert_eq!(server.client().await.get("/e", false).await, Err(Code::NoNode));
}

#[tokio::test(flavor = "multi_thread")]
async fn time_outs_are_agreed_and_old_clients_are_answered_in_their_form() {
    let server = Running::start(|_| {}).await;
    for (asked, agreed) in [(1, 1000), (-5, 1000), (3000, 3000), (100_000_000, 10_000)] {
        let client = Client::resume(server.raw().await, asked, 0, vec![0; 16]).await;
        assert_eq!(client.session.timeout_ms, agreed);
        assert_eq!(client.session.password.len(), 16);
    }
    let mut bytes = Vec::new();
    encode_connect(
        &ConnectRequest { timeout_ms: 3000, password: vec![0; 16], ..Default::default() },
        &mut bytes,
    );
    let mut stream = server.raw().await;
    send_packet(&mut stream, &bytes).await;
    assert_eq!(read_packet(&mut stream).await.expect("an answer").len(), 36);
    // A server that knows less than the client is not for it.
    bytes.clear();
    let ahead = ConnectRequest { last_zxid_seen: i64::MAX, timeout_ms: 3000, ..Default::default() };
    encode_connect(&ahead, &mut bytes);
    let mut stream = server.raw().await;
    send_packet(&mut stream, &bytes).await;
    assert_eq!(read_packet(&mut stream).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_and_the_connection_lives() {
    let server = Running::start(|config| config.packet_bytes_max = 10_000).await;
    let mut client = server.client().await;
    assert!(client.call(&create("/a", 0)).await.is_ok());
    let large = bytes::Bytes::from(vec![b'x'; 3 << 20]);
    let set = Request::SetData { path: "/a".into(), data: Some(large), version: -1 };
    for _ in 0..3 {
        // Not before its turn, and the one behind it is found where it begins.
        client.send(&Request::SetData { path: "/a".into(), data: None, version: -1 }).await;
        client.send(&set).await;
        client.send(&Request::GetData { path: "/a".into(), watch: false }).await;
        assert!(client.reply(op::SET_DATA).await.1.is_ok());
        assert_eq!(client.reply(op::SET_DATA).await.1, Err(Code::BadArguments));
        assert!(client.reply(op::GET_DATA).await.1.is_ok());
    }
    // A client that comes back says all it watches, however much that is.
    let data = (0..100_000).map(|number| format!("/watched/znode-{number}")).collect();
    let watches = SetWatches { relative_zxid: i64::MAX, exist: data, ..SetWatches::default() };
    assert_eq!(client.call(&Request::SetWatches(watches)).await, Ok(Response::Empty));
    assert!(server.word("wchs").await.contains("Total watches:100000"));
    // Beyond all measure it is no packet.
    client.stream.write_all(&i32::MAX.to_be_bytes()).await.expect("sent");
    client.stream.write_all(&[0; 8]).await.expect("sent");
    client.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_ask_in_four_letters() {
    let server = Running::start(|_| {}).await;
    let mut client = server.client().await;
    assert!(client.call(&create("/a", 1)).await.is_ok());
    assert!(client.get("/a", true).await.is_ok());
    assert_eq!(server.word("ruok").await, "imok");
    assert_eq!(server.word("isro").await, "rw");
    let srvr = server.word("srvr").await;
    for line in [
        "Zookeeper version: 3.",
        "Latency min/avg/max: ",
        "Mode: standalone\n",
        "Node count: 5\n",
        "Zxid: 0x",
    ] {
        assert!(srvr.contains(line), "{line} in {srvr}");
    }
    let mntr = server.word("mntr").await;
    for line in [
        "zk_server_state\tstandalone\n",
        "zk_znode_count\t5\n",
        "zk_ephemerals_count\t1\n",
        "zk_watch_count\t1\n",
        "zk_num_alive_connections\t1\n",
    ] {
        assert!(mntr.contains(line), "{line} in {mntr}");
    }
    let session = format!("sid=0x{:x}", client.session.session);
    assert!(server.word("cons").await.contains(&session));
    assert!(server.word("stat").await.contains("Clients:\n /127.0.0.1:"));
    assert!(server.word("conf").await.contains("tickTime=500\n"));
    assert!(server.word("envi").await.contains("zookeeper.version=3."));
    assert_eq!(server.word("wchs").await, "1 connections watching 1 paths\nTotal watches:1\n");
    assert_eq!(server.word("dump").await, "dump is not executed because it is not in the whitelist.\n");
    let all = Running::start(|config| config.words = vec!["*".to_owned()]).await;
    let mut client = all.client().await;
    assert!(client.call(&create("/a", 1)).await.is_ok());
    assert!(client.get("/a", true).await.is_ok());
    let session = format!("0x{:x}", client.session.session);
    assert!(all.word("dump").await.contains(&format!("{session}:\n\t/a\n")));
    assert_eq!(all.word("wchc").await, format!("{session}\n\t/a\n\n"));
    assert_eq!(all.word("wchp").await, format!("/a\n\t{session}\n\n"));
    assert_eq!(all.word("srst").await, "Server stats reset.\n");
    assert_eq!(all.word("crst").await, "Connection stats reset.\n");
    assert_eq!(all.word("hash").await.trim().len(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_is_there_after_a_restart_and_sessions_go_on() {
    let server = Running::start(|_| {}).await;
    let mut client = server.client().await;
    assert!(client.call(&create("/kept", 0)).await.is_ok());
    assert!(client.call(&create("/ephemeral", 1)).await.is_ok());
    let session = client.session.clone();
    server.coordinator.shutdown().await;
    // In order: what was answered went out before.
    assert_eq!(client.packet().await, Packet::Closed);
    let Running { directory, coordinator } = server;
    drop(coordinator);
    let server = Running::start_in(directory, |_| {}).await;
    let mut client =
        Client::resume(server.raw().await, 10_000, session.session, session.password.clone()).await;
    assert_eq!(client.session, session);
    assert!(client.get("/kept", false).await.is_ok());
    assert!(client.get("/ephemeral", false).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_session_ends_and_its_connection_with_it() {
    let server = Running::start(|config| config.session_max_ms = Some(60_000)).await;
    let mut watcher = Client::resume(server.raw().await, 60_000, 0, vec![0; 16]).await;
    let mut silent = Client::resume(server.raw().await, 1000, 0, vec![0; 16]).await;
    assert_eq!(silent.session.timeout_ms, 1000);
    assert!(silent.call(&create("/e", 1)).await.is_ok());
    let session = silent.session.clone();
    // What another does keeps its own session alone.
    assert!(watcher.call(&Request::Exists { path: "/e".into(), watch: true }).await.is_ok());
    while watcher.events.is_empty() {
        assert_eq!(watcher.call(&Request::Ping).await, Ok(Response::Empty));
    }
    assert_eq!(watcher.events[0].1.kind, EventType::Deleted);
    silent.closed().await;
    let gone = Client::resume(server.raw().await, 1000, session.session, session.password).await;
    assert_eq!(gone.session.timeout_ms, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_leader_serves_reads_to_who_accepts_that() {
    let directory = tempfile::tempdir().expect("a directory");
    let member = |id| Member {
        id,
        // Nobody is there: the others are never heard of.
        peer_address: if id == 1 { "127.0.0.1:0".to_owned() } else { format!("127.0.0.1:{id}") },
        client_address: "127.0.0.1:0".to_owned(),
        observer: false,
    };
    let mut config =
        CoordinatorConfig::new(1, vec![member(1), member(2), member(3)], directory.path().into());
    config.replica.tick_ms = 200;
    config.read_only_enabled = true;
    config.admin = Some("127.0.0.1:0".to_owned());
    let coordinator = Coordinator::start(config, World::real()).await.expect("a server");
    let server = Running { coordinator, directory };
    let connect = |read_only| ConnectRequest {
        timeout_ms: 1000,
        password: vec![0; 16],
        read_only: Some(read_only),
        ..ConnectRequest::default()
    };
    let mut client = Client::connect(server.raw().await, connect(true)).await;
    assert_eq!(client.session.read_only, Some(true));
    assert!(client.get("/zookeeper", true).await.is_ok());
    assert_eq!(client.call(&create("/a", 0)).await, Err(Code::NotReadOnly));
    assert_eq!(client.call(&Request::Ping).await, Ok(Response::Empty));
    assert_eq!(server.word("isro").await, "ro");
    assert!(server.word("srvr").await.contains("Mode: read-only\n"));
    assert_eq!(client.call(&Request::CloseSession).await, Ok(Response::Empty));
    client.closed().await;
    let mut refused = server.raw().await;
    let mut bytes = Vec::new();
    encode_connect(&connect(false), &mut bytes);
    send_packet(&mut refused, &bytes).await;
    assert_eq!(read_packet(&mut refused).await, None);
}
