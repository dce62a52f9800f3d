//! What clients do that should not: wrong lengths, unknown APIs, huge claims, half requests, garbage, silence, answers
//! that nobody reads. Each ends its own connection at most, and a well-behaved client never notices.
//!
//! The clock is paused: it moves on when everybody waits, so that a limit of a minute is reached at once.

use std::sync::Arc;

use flow_broker::client::{Client, ClientConfig};
use flow_broker::{Broker, BrokerConfig, UserConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant};

const METADATA: i16 = 3;

/// A broker with one client that behaves.
struct Fixture {
    broker: Arc<Broker>,
    good: Client,
    _dir: TempDir,
}

impl Fixture {
    async fn new(change: impl FnOnce(&mut BrokerConfig)) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let mut config = BrokerConfig::new(dir.path());
        change(&mut config);
        let broker = Broker::start(config).await.unwrap();
        let good = Client::connect(ClientConfig::new(broker.address().to_string())).await.unwrap();
        Fixture { broker, good, _dir: dir }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.broker.address()).await.unwrap()
    }

    /// The good client is served as before.
    async fn check(&self) {
        let metadata = self.good.metadata(Some(&[]), false).await.unwrap();
        assert_eq!(metadata.brokers.len(), 1);
    }

    /// Sends bytes; the broker closes the connection without an answer.
    async fn is_closed(&self, bytes: &[u8]) {
        let mut stream = self.connect().await;
        // The broker may close before everything is written.
        let _ = stream.write_all(bytes).await;
        assert!(rest(&mut stream).await.is_empty(), "{bytes:02x?}");
        self.check().await;
    }
}

/// Everything until the broker closes; that it had more to read makes it a reset and not an end.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    rest
}

/// A frame of a request with correlation id `id` and no client id.
fn request(key: i16, version: i16, id: i32, body: &[u8]) -> Vec<u8> {
    let mut frame = ((10 + body.len()) as i32).to_be_bytes().to_vec();
    frame.extend(key.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(id.to_be_bytes());
    frame.extend((-1i16).to_be_bytes());
    frame.extend(body);
    frame
}

/// Metadata version 1 of no topic.
fn metadata(id: i32) -> Vec<u8> {
    request(METADATA, 1, id, &0i32.to_be_bytes())
}

/// The correlation id of the next answer.
async fn answer(stream: &mut TcpStream) -> i32 {
    let length = stream.read_i32().await.unwrap();
    let mut frame = vec![0; length as usize];
    stream.read_exact(&mut frame).await.unwrap();
    i32::from_be_bytes(frame[..4].try_into().unwrap())
}

#[tokio::test(start_paused = true)]
async fn wrong_lengths_end_the_connection() {
    let fixture = Fixture::new(|_| ()).await;
    for length in [i32::MIN, -1, 0, 1, 7, (100 << 20) + 1, i32::MAX] {
        let mut frame = length.to_be_bytes().to_vec();
        frame.extend([0; 64]);
        fixture.is_closed(&frame).await;
    }
}

#[tokio::test(start_paused = true)]
async fn unknown_apis_and_versions_end_the_connection() {
    let fixture = Fixture::new(|_| ()).await;
    for (key, version) in [(-1, 0), (4, 0), (7777, 0), (METADATA, -1), (METADATA, 99), (0, 0), (1, 3)] {
        fixture.is_closed(&request(key, version, 1, &[0; 32])).await;
    }
}

#[tokio::test(start_paused = true)]
async fn lengths_inside_of_a_request_that_promise_too_much_end_the_connection() {
    let fixture = Fixture::new(|_| ()).await;
    // Two billion topics; a topic's name of 32 KiB; minus two topics.
    for topics in [&i32::MAX.to_be_bytes()[..], b"\0\0\0\x01\x7f\xff", &(-2i32).to_be_bytes()] {
        fixture.is_closed(&request(METADATA, 1, 1, topics)).await;
    }
    // Flexible: an array of four billion, a varint without an end, a tagged field of four billion bytes.
    for body in [
        &[0, 0xff, 0xff, 0xff, 0xff, 0x0f][..],
        &[0, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0, 1, 0, 0, 0, 1, 9, 0xff, 0xff, 0xff, 0xff, 0x0f],
    ] {
        fixture.is_closed(&request(METADATA, 9, 1, body)).await;
    }
    // A client's name that is longer than the request.
    let mut frame = metadata(1);
    frame[12..14].copy_from_slice(&i16::MAX.to_be_bytes());
    fixture.is_closed(&frame).await;
}

#[tokio::test(start_paused = true)]
async fn half_a_request_and_then_silence_has_its_time() {
    let fixture = Fixture::new(|config| config.limits.request_timeout_ms = 5_000).await;
    let frame = metadata(1);
    for part in [1, 4, 10, frame.len() - 1] {
        let mut stream = fixture.connect().await;
        stream.write_all(&frame[..part]).await.unwrap();
        let start = Instant::now();
        assert!(rest(&mut stream).await.is_empty());
        let waited = start.elapsed();
        assert!((Duration::from_secs(5)..Duration::from_secs(6)).contains(&waited), "{part}: {waited:?}");
    }
    // A byte a second is no progress either, and neither is a request between.
    let mut stream = fixture.connect().await;
    stream.write_all(&metadata(1)).await.unwrap();
    assert_eq!(answer(&mut stream).await, 1);
    let start = Instant::now();
    for byte in &frame {
        if stream.write_all(std::slice::from_ref(byte)).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(rest(&mut stream).await.is_empty());
    assert!(start.elapsed() < Duration::from_secs(frame.len() as u64), "{:?}", start.elapsed());
    fixture.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_may_come_byte_by_byte() {
    let fixture = Fixture::new(|_| ()).await;
    let mut stream = fixture.connect().await;
    for byte in metadata(7) {
        stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(answer(&mut stream).await, 7);
}

#[tokio::test(start_paused = true)]
async fn silence_has_its_time_and_less_before_login() {
    let fixture = Fixture::new(|config| config.limits.idle_timeout_ms = 60_000).await;
    let start = Instant::now();
    assert!(rest(&mut fixture.connect().await).await.is_empty());
    assert_eq!(start.elapsed().as_secs(), 60);
    let dir = tempfile::tempdir().unwrap();
    let mut config = BrokerConfig::new(dir.path());
    config.users.push(UserConfig { name: "alice".to_owned(), password: "secret".to_owned() });
    config.limits.authentication_timeout_ms = 3_000;
    let broker = Broker::start(config).await.unwrap();
    let mut stream = TcpStream::connect(broker.address()).await.unwrap();
    let start = Instant::now();
    // Asking for versions again and again is no login.
    for id in 0.. {
        stream.write_all(&request(18, 0, id, &[])).await.unwrap();
        if stream.read_i32().await.is_err() {
            break;
        }
        let mut frame = vec![0; 4];
        stream.read_exact(&mut frame).await.unwrap();
        assert_eq!(frame, id.to_be_bytes());
        tokio::time::sleep(Duration::from_millis(500)).await;
        stream = match drain(stream).await {
            Some(stream) => stream,
            None => break,
        };
    }
    assert_eq!(start.elapsed().as_secs(), 3);
    // A stranger may not send much.
    let mut stream = TcpStream::connect(broker.address()).await.unwrap();
    stream.write_all(&(65 * 1024i32).to_be_bytes()).await.unwrap();
    let start = Instant::now();
    assert!(rest(&mut stream).await.is_empty());
    assert_eq!(start.elapsed().as_secs(), 0);
}

/// Reads what is there; `None` when the broker closed.
async fn drain(stream: TcpStream) -> Option<TcpStream> {
    let mut buffer = [0; 4096];
    loop {
        match stream.try_read(&mut buffer) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Some(stream),
            Err(_) => return None,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn garbage_harms_nobody() {
    let fixture = Fixture::new(|config| config.limits.request_timeout_ms = 1_000).await;
    // xorshift: the same bytes in every run.
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..300 {
        let mut bytes: Vec<u8> = (0..random() % 400).map(|_| random() as u8).collect();
        // Half of it looks like a request at the start: small lengths, keys that exist.
        if round % 2 == 0 && bytes.len() >= 12 {
            let length = (bytes.len() - 4) as i32;
            bytes[..4].copy_from_slice(&length.to_be_bytes());
            bytes[4..6].copy_from_slice(&((random() % 76) as i16).to_be_bytes());
            bytes[6..8].copy_from_slice(&((random() % 10) as i16).to_be_bytes());
        }
        let mut stream = fixture.connect().await;
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        rest(&mut stream).await;
    }
    fixture.check().await;
}

#[tokio::test(start_paused = true)]
async fn many_requests_at_once_are_answered_in_order() {
    let fixture = Fixture::new(|config| config.limits.requests_in_flight_max = 8).await;
    let mut stream = fixture.connect().await;
    let requests: Vec<u8> = (0..2000).flat_map(metadata).collect();
    let (mut read, mut write) = stream.split();
    let send = async { write.write_all(&requests).await.unwrap() };
    let receive = async {
        for id in 0..2000 {
            let length = read.read_i32().await.unwrap();
            let mut frame = vec![0; length as usize];
            read.read_exact(&mut frame).await.unwrap();
            assert_eq!(frame[..4], i32::to_be_bytes(id));
        }
    };
    tokio::join!(send, receive);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_ends_its_side_still_gets_what_it_changed_done() {
    let fixture = Fixture::new(|_| ()).await;
    let mut stream = fixture.connect().await;
    // CreateTopics version 2: `made` with one partition, and the end of the client's side right behind.
    let mut body = b"\0\0\0\x01\0\x04made\0\0\0\x01\0\x01\0\0\0\0\0\0\0\0".to_vec();
    body.extend(b"\0\0\x27\x10\0");
    stream.write_all(&request(19, 2, 1, &body)).await.unwrap();
    stream.shutdown().await.unwrap();
    rest(&mut stream).await;
    let metadata = fixture.good.metadata(Some(&["made"]), false).await.unwrap();
    assert_eq!(metadata.topics[0].error_code, 0);
}

#[tokio::test(start_paused = true)]
async fn who_reads_no_answers_is_not_read_either_and_then_closed() {
    let fixture = Fixture::new(|_| ()).await;
    let mut stream = fixture.connect().await;
    let requests: Vec<u8> = (0..1000).flat_map(metadata).collect();
    let mut sent = 0usize;
    // Without a bound this would go on until the memory is full; a gigabyte is far beyond all buffers.
    while sent < 1 << 30 {
        match stream.write(&requests).await {
            Ok(bytes) => sent += bytes,
            Err(_) => break,
        }
    }
    assert!(sent < 1 << 28, "{sent} bytes were taken");
    fixture.check().await;
}

#[tokio::test(start_paused = true)]
async fn beyond_the_bound_the_newest_connection_is_closed() {
    // One of them is the good client's.
    let fixture = Fixture::new(|config| config.limits.connections_max = 3).await;
    let mut served = Vec::new();
    for id in 0..2 {
        let mut stream = fixture.connect().await;
        stream.write_all(&metadata(id)).await.unwrap();
        assert_eq!(answer(&mut stream).await, id);
        served.push(stream);
    }
    for _ in 0..5 {
        assert!(rest(&mut fixture.connect().await).await.is_empty());
    }
    fixture.check().await;
    // When one goes there is room again.
    served.pop();
    loop {
        let mut stream = fixture.connect().await;
        if stream.write_all(&metadata(9)).await.is_ok() && stream.read_i32().await.is_ok() {
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn large_requests_wait_for_memory_and_get_it() {
    let fixture = Fixture::new(|config| {
        config.limits.request_bytes_max = 1 << 20;
        config.limits.memory_max = 1 << 20;
    })
    .await;
    // Metadata version 1 of many topics that do not exist: most of a megabyte.
    let mut body = 100_000i32.to_be_bytes().to_vec();
    (0..100_000).for_each(|_| body.extend(b"\0\x05a b c"));
    let large = request(METADATA, 1, 5, &body);
    let mut streams = Vec::new();
    for _ in 0..4 {
        let mut stream = fixture.connect().await;
        let large = large.clone();
        streams.push(tokio::spawn(async move {
            stream.write_all(&large).await.unwrap();
            answer(&mut stream).await
        }));
    }
    for stream in streams {
        assert_eq!(stream.await.unwrap(), 5);
    }
    fixture.check().await;
}
