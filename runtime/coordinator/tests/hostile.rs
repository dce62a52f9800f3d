//! Bytes that nobody should send: no panic, no other client harmed, no memory taken for what was only announced.

mod support;

use flow_coordinator::proto::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use support::{Client, Packet, Running, create, read_packet, send_packet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Memory is measured of the whole process, so the tests of this file go one after the other.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A client that does nothing wrong, and must not notice what others do.
struct Witness {
    client: Client<TcpStream>,
    version: i32,
}

impl Witness {
    async fn new(server: &Running) -> Witness {
        let mut client = server.client().await;
        assert!(client.call(&create("/witness", 0)).await.is_ok());
        Witness { client, version: 0 }
    }

    async fn look(&mut self) {
        assert!(self.client.set("/witness", b"here").await.is_ok());
        self.version += 1;
        let Ok(Response::Data { stat, .. }) = self.client.get("/witness", false).await else {
            panic!("no data")
        };
        assert_eq!(stat.version, self.version);
    }
}

/// Resident memory of this process, in bytes.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("statm");
    let pages: u64 = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("pages");
    pages * 4096
}

/// A request as packet.
fn packed(code: i32, body: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    encode_request_header(RequestHeader { xid: 1, op: code }, &mut packet);
    packet.extend_from_slice(body);
    packet
}

#[tokio::test(flavor = "multi_thread")]
async fn impossible_lengths_end_their_connection_alone() {
    let _alone = ALONE.lock().await;
    let server = Running::start(|_| {}).await;
    let mut witness = Witness::new(&server).await;
    for length in [i32::MIN, -1, 0, 7, 100 << 20, i32::MAX] {
        // As the first thing, and after a session began.
        let mut raw = server.raw().await;
        raw.write_all(&length.to_be_bytes()).await.expect("sent");
        raw.write_all(&[0; 16]).await.expect("sent");
        assert_eq!(read_packet(&mut raw).await, None, "first {length}");
        let mut client = server.client().await;
        client.stream.write_all(&length.to_be_bytes()).await.expect("sent");
        client.stream.write_all(&[0; 16]).await.expect("sent");
        client.closed().await;
        witness.look().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_operations_are_answered_and_end_the_connection() {
    let _alone = ALONE.lock().await;
    let server = Running::start(|_| {}).await;
    let mut witness = Witness::new(&server).await;
    for code in [0, -1, -10, 10, 13, 20, 23, 99, 108, 1000, i32::MIN, i32::MAX] {
        let mut client = server.client().await;
        send_packet(&mut client.stream, &packed(code, b"\0\0\0\x01/\0\0\0\0")).await;
        let Packet::Reply(header, _) = client.packet().await else { panic!("no answer to {code}") };
        assert_eq!(header, ReplyHeader { xid: 1, zxid: -1, err: Code::Unimplemented as i32 });
        client.closed().await;
        witness.look().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_records_are_answered_and_the_connection_lives() {
    let _alone = ALONE.lock().await;
    let server = Running::start(|_| {}).await;
    let mut witness = Witness::new(&server).await;
    let mut client = server.client().await;
    let codes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 14, 15, 16, 17, 18, 19, 21, 22, 101, 103, 104, 105, 106];
    let bodies: [&[u8]; 5] =
        [b"", b"\x7f\xff\xff\xff/a", b"\xff\xff\xff\xfe", b"\0\0\0\x02\xff\xfe\0", b"\0\0\0\x09/a"];
    for code in codes {
        for body in bodies {
            send_packet(&mut client.stream, &packed(code, body)).await;
            let Packet::Reply(header, _) = client.packet().await else { panic!("no answer to {code}") };
            assert_eq!((header.xid, header.err), (1, Code::Marshalling as i32), "{code} {body:?}");
        }
    }
    // Behind writes that are still on their way it is answered in its turn.
    client.send(&create("/before", 0)).await;
    send_packet(&mut client.stream, &packed(op::SET_DATA, b"\0\0\0\x09/a")).await;
    client.send(&Request::Exists { path: "/before".into(), watch: false }).await;
    assert!(client.reply(op::CREATE).await.1.is_ok());
    assert_eq!(client.reply(op::SET_DATA).await.1, Err(Code::Marshalling));
    assert!(client.reply(op::EXISTS).await.1.is_ok());
    witness.look().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn giant_paths_and_multis_are_answered() {
    let _alone = ALONE.lock().await;
    let server = Running::start(|_| {}).await;
    let mut witness = Witness::new(&server).await;
    let mut client = server.client().await;
    let long = format!("/{}", "x".repeat(900_000));
    assert!(client.get(&long, true).await.is_err());
    assert!(client.call(&Request::Exists { path: long.clone(), watch: true }).await.is_err());
    let deep = "/x".repeat(400_000);
    assert_eq!(client.get(&deep, false).await, Err(Code::NoNode));
    assert_eq!(client.call(&create(&deep, 0)).await, Err(Code::NoNode));
    let many: Vec<Request> =
        (0..40_000).map(|_| Request::Check { path: "/witness".into(), version: -1 }).collect();
    let Ok(Response::Multi(results)) = client.call(&Request::Multi(many)).await else { panic!("no results") };
    assert_eq!(results.len(), 40_000);
    let many: Vec<Request> =
        (0..40_000).map(|_| Request::GetData { path: "/witness".into(), watch: false }).collect();
    let Ok(Response::Multi(results)) = client.call(&Request::MultiRead(many)).await else {
        panic!("no results")
    };
    assert_eq!(results.len(), 40_000);
    witness.look().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_request_holds_nobody_up_and_little_memory() {
    let _alone = ALONE.lock().await;
    let server = Running::start(|_| {}).await;
    let mut witness = Witness::new(&server).await;
    let before = resident_bytes();
    let mut silent = Vec::new();
    for _ in 0..200 {
        // A megabyte is announced and does not come.
        let mut client = server.client().await;
        client.stream.write_all(&1_000_000i32.to_be_bytes()).await.expect("sent");
        client.stream.write_all(&packed(op::SET_DATA, b"\0\0\0\x02/a")).await.expect("sent");
        silent.push(client);
        if silent.len() % 20 == 0 {
            witness.look().await;
        }
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 50 << 20, "{grown} bytes for what was only announced");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_connections_that_say_nothing_leave_room_for_one_that_works() {
    let _alone = ALONE.lock().await;
    let server = Running::start(|_| {}).await;
    let mut witness = Witness::new(&server).await;
    let before = resident_bytes();
    let mut silent = Vec::new();
    for number in 0..1000usize {
        let mut raw = server.raw().await;
        // Nothing, a part of a length, a part of a packet.
        raw.write_all(&[0, 0, 0, 45, 0, 0][..number % 7]).await.expect("sent");
        silent.push(raw);
        if number % 100 == 0 {
            witness.look().await;
        }
    }
    let mut other = server.client().await;
    assert!(other.get("/witness", false).await.is_ok());
    witness.look().await;
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 40 << 20, "{grown} bytes for a thousand connections");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_connections_has_a_bound() {
    let _alone = ALONE.lock().await;
    let server = Running::start(|config| config.connections_per_address_max = Some(5)).await;
    let mut kept = Vec::new();
    for _ in 0..5 {
        kept.push(server.client().await);
    }
    let mut refused = server.raw().await;
    let mut rest = Vec::new();
    let _ = refused.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
    // Who goes makes room.
    let mut gone = kept.pop().expect("a client");
    assert_eq!(gone.call(&Request::CloseSession).await, Ok(Response::Empty));
    gone.closed().await;
    loop {
        let mut raw = server.raw().await;
        raw.write_all(b"ruok").await.expect("sent");
        let mut answer = Vec::new();
        let _ = raw.read_to_end(&mut answer).await;
        if answer == b"imok" {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_is_not_answered_without_end() {
    let _alone = ALONE.lock().await;
    let server = Running::start(|_| {}).await;
    let mut witness = Witness::new(&server).await;
    let mut setup = server.client().await;
    let data = Some(bytes::Bytes::from(vec![b'x'; 900_000]));
    assert!(setup.call(&create("/large", 0)).await.is_ok());
    assert!(setup.call(&Request::SetData { path: "/large".into(), data, version: -1 }).await.is_ok());
    let before = resident_bytes();
    let mut deaf = server.client().await;
    let mut body = Vec::new();
    encode_request(&Request::GetData { path: "/large".into(), watch: false }, &mut body);
    let packet = packed(op::GET_DATA, &body);
    // Two thousand times 900 kB would be more than a gigabyte.
    for _ in 0..2000 {
        send_packet(&mut deaf.stream, &packet).await;
    }
    for _ in 0..20 {
        witness.look().await;
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 100 << 20, "{grown} bytes for a client that does not read");
    // When it reads, everything comes.
    for _ in 0..2000 {
        assert!(matches!(deaf.packet().await, Packet::Reply(header, _) if header.err == 0));
    }
}

/// A request of a few kilobytes asked for gigabytes, and they were put together in memory.
#[tokio::test(flavor = "multi_thread")]
async fn what_asks_for_much_at_once_is_refused() {
    let _alone = ALONE.lock().await;
    let server = Running::start(|_| {}).await;
    let mut witness = Witness::new(&server).await;
    let mut client = server.client().await;
    let data = Some(bytes::Bytes::from(vec![b'x'; 900_000]));
    assert!(client.call(&create("/large", 0)).await.is_ok());
    assert!(client.call(&Request::SetData { path: "/large".into(), data, version: -1 }).await.is_ok());
    let before = resident_bytes();
    let get = Request::GetData { path: "/large".into(), watch: false };
    assert_eq!(client.call(&Request::MultiRead(vec![get.clone(); 5000])).await, Err(Code::BadArguments));
    let Ok(Response::Multi(results)) = client.call(&Request::MultiRead(vec![get; 20])).await else {
        panic!("no results")
    };
    assert_eq!(results.len(), 20);
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 300 << 20, "{grown} bytes");
    witness.look().await;
}

/// Requests of the transcripts with some bytes changed, thousands of them, over connections that are made anew when the
/// server has closed one.
#[tokio::test(flavor = "multi_thread")]
async fn changed_requests_harm_nobody() {
    let _alone = ALONE.lock().await;
    let server = Running::start(|_| {}).await;
    let mut witness = Witness::new(&server).await;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/wire-zk39.jsonl");
    let text = std::fs::read_to_string(path).expect("transcript");
    let requests: Vec<Vec<u8>> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .map(|exchange| hex::decode(exchange["req"].as_str().expect("request")).expect("hex"))
        .collect();
    let mut random = StdRng::seed_from_u64(5);
    let (mut sent, mut made) = (0, 0);
    while sent < 5000 {
        let first = random.random_range(0..10) == 0;
        let mut stream = if first { server.raw().await } else { server.client().await.stream };
        made += 1;
        let mut bytes = Vec::new();
        for _ in 0..random.random_range(1..60) {
            let mut request = requests[random.random_range(0..requests.len())].clone();
            for _ in 0..random.random_range(0..4) {
                let at = random.random_range(0..request.len());
                request[at] = random.random();
            }
            if random.random_range(0..8) == 0 {
                request.truncate(random.random_range(0..request.len()));
            }
            bytes.extend_from_slice(&(request.len() as i32).to_be_bytes());
            bytes.extend_from_slice(&request);
            sent += 1;
        }
        // A length that is wrong makes the rest one large packet: the connection ends before that came.
        if stream.write_all(&bytes).await.is_err() || stream.shutdown().await.is_err() {
            continue;
        }
        let mut answers = Vec::new();
        let _ =
            tokio::time::timeout(support::PATIENCE, stream.read_to_end(&mut answers)).await.expect("an end");
        if made % 20 == 0 {
            witness.look().await;
        }
    }
    witness.look().await;
}
