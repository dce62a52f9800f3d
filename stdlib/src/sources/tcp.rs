//! `tcp`: lines from connections. The connections of `syslog` are read here, too.

use std::sync::Arc;
use std::time::Duration as StdDuration;

use async_trait::async_trait;
use flow_agent::{Context, Fault, Source, SourceError, SourceOutput, Stop, decode_settings};
use flow_plan::settings::{Duration, Settings};
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::budget::{Budget, Share};
use super::feed::{Chunk, Input, LineReader, Pump, QUEUE_CHUNKS};
use super::framing::FrameReader;
use super::lines::Cut;
use super::listen::{Held, bind_tcp, parse_address};
use super::rows::{HeaderTarget, Stamp, now_ms};

/// Bytes of unfinished lines of all connections together; who goes beyond is disconnected and counted.
pub const UNFINISHED_BYTES_MAX: usize = 256 << 20;

/// Bytes per read of a connection.
const READ_BYTES: usize = 64 << 10;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TcpSettings {
    listen: String,
    batch: usize,
    linger: Duration,
    line_max: usize,
    connections_max: usize,
    idle: Duration,
    peer_header: Option<String>,
}

struct Tcp {
    settings: TcpSettings,
    peer_header: Option<HeaderTarget>,
    stamp: Stamp,
    listener: Held<std::net::TcpListener>,
    unfinished_max: usize,
}

/// Makes the source.
pub fn tcp(settings: &Settings, context: &Context) -> Result<Box<dyn Source>, Fault> {
    Ok(Box::new(new(settings, context)?))
}

fn new(settings: &Settings, context: &Context) -> Result<Tcp, Fault> {
    let settings: TcpSettings = decode_settings(settings)?;
    let address = parse_address(&settings.listen, "listen")?;
    let peer_header = HeaderTarget::optional(&settings.peer_header, context);
    let listener = bind_tcp(&address, "listen")?;
    let unfinished_max = UNFINISHED_BYTES_MAX;
    Ok(Tcp { settings, peer_header, stamp: Stamp::new(context), listener, unfinished_max })
}

#[async_trait]
impl Source for Tcp {
    async fn run(&mut self, output: SourceOutput, mut stop: Stop) -> Result<(), SourceError> {
        let listener = self.listener.take()?;
        let settings = &self.settings;
        let cut = Cut {
            rows_max: settings.batch.max(1),
            line_max: settings.line_max.max(1),
            at_end: false,
            crlf: true,
        };
        let (sender, chunks) = mpsc::channel(QUEUE_CHUNKS);
        let accept = Connections {
            cut,
            counted_frames: false,
            connections_max: settings.connections_max,
            idle: settings.idle.std(),
            unfinished_max: self.unfinished_max,
        };
        let pump = Pump {
            rows_max: cut.rows_max,
            linger: settings.linger.std(),
            origin_header: self.peer_header.clone(),
            stamp: &self.stamp,
            finish: None,
        };
        let accepting = accept.run(listener, sender, output.clone(), stop.clone());
        let (accepted, pumped) = tokio::join!(accepting, pump.run(chunks, &output, &mut stop));
        accepted.and(pumped)
    }
}

/// How connections are read.
#[derive(Clone, Copy, Debug)]
pub struct Connections {
    pub cut: Cut,
    /// Frames may begin with their length (RFC 6587).
    pub counted_frames: bool,
    pub connections_max: usize,
    pub idle: StdDuration,
    /// Bytes of unfinished lines of all together.
    pub unfinished_max: usize,
}

impl Connections {
    /// Accepts until the stop; then closes all connections.
    pub async fn run(
        self,
        listener: TcpListener,
        to: mpsc::Sender<Chunk>,
        output: SourceOutput,
        mut stop: Stop,
    ) -> Result<(), SourceError> {
        let places = Arc::new(Semaphore::new(self.connections_max));
        let unfinished = Budget::new(self.unfinished_max, self.connections_max);
        // Dropping the set ends its tasks.
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => match places.clone().try_acquire_owned() {
                        Ok(place) => {
                            let (to, output, unfinished) = (to.clone(), output.clone(), unfinished.share());
                            let peer: Arc<str> = Arc::from(peer.to_string());
                            tasks.spawn(async move {
                                self.read(stream, peer, to, &output, unfinished).await;
                                drop(place);
                            });
                        }
                        Err(_) => output.count("refused_connections", 1),
                    },
                    // Out of descriptors, or the peer is gone already: the listener itself stays well.
                    Err(error) => {
                        tracing::warn!("cannot accept a connection: {error}");
                        tokio::time::sleep(StdDuration::from_millis(100)).await;
                    }
                },
                Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
                () = stop.stopped() => return Ok(()),
                () = to.closed() => return Ok(()),
            }
        }
    }

    async fn read(
        &self,
        stream: TcpStream,
        peer: Arc<str>,
        to: mpsc::Sender<Chunk>,
        output: &SourceOutput,
        unfinished: Share,
    ) {
        let mut reader = Reader::new(stream, self, unfinished);
        loop {
            let next = match tokio::time::timeout(self.idle, reader.next()).await {
                Ok(Ok(Some(next))) => next,
                Ok(Ok(None)) => return,
                Ok(Err(error)) => {
                    tracing::debug!("connection of {peer} failed: {error}");
                    let refused = error.kind() == std::io::ErrorKind::OutOfMemory;
                    output.count(if refused { "refused_connections" } else { "failed_connections" }, 1);
                    // What has come is delivered all the same.
                    reader.end();
                    continue;
                }
                Err(_) => {
                    output.count("idle_connections", 1);
                    reader.end();
                    continue;
                }
            };
            let (bytes, mut lines) = next;
            if lines.pieces > 0 {
                output.count("line_pieces", lines.pieces);
            }
            let bodies = std::mem::take(&mut lines.bodies);
            let chunk = Chunk { bytes, bodies, time_ms: now_ms(), origin: Some(peer.clone()) };
            if !chunk.bodies.is_empty() && to.send(chunk).await.is_err() {
                return;
            }
        }
    }
}

enum Reader {
    Lines(LineReader<TcpStream>),
    Frames(FrameReader<TcpStream>),
}

impl Reader {
    fn new(stream: TcpStream, how: &Connections, share: Share) -> Reader {
        let input = Input::new(stream, READ_BYTES, Some(share));
        if how.counted_frames {
            Reader::Frames(FrameReader::new(input, how.cut))
        } else {
            Reader::Lines(LineReader::new(input, how.cut))
        }
    }

    async fn next(&mut self) -> std::io::Result<Option<(Vec<u8>, super::lines::Lines)>> {
        match self {
            Reader::Lines(reader) => reader.next().await,
            Reader::Frames(reader) => reader.next().await,
        }
    }

    fn end(&mut self) {
        match self {
            Reader::Lines(reader) => reader.end(),
            Reader::Frames(reader) => reader.end(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::testing::{Collector, Mode, Running, allow_many_files, context, settings};
    use serde_json::{Value, json};
    use std::net::SocketAddr;
    use std::path::Path;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn start(flow: &Arc<Collector>, changes: Value) -> (Running, SocketAddr) {
        let defaults = json!({"listen": ":0", "batch": 1000, "linger": 0, "line_max": 16 << 20,
            "connections_max": 10, "idle": 60_000_000_000u64, "peer_header": "peer"});
        let source = new(&settings(defaults, changes), &context(Path::new("/nowhere"))).unwrap();
        let address = source.listener.address();
        (Running::start(Box::new(source), flow), address)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn lines_of_many_connections() {
        let flow = Collector::new(Mode::Deliver);
        let (source, address) = start(&flow, json!({})).await;
        let mut connections = Vec::new();
        for _ in 0..5 {
            connections.push(TcpStream::connect(address).await.unwrap());
        }
        for (number, connection) in connections.iter_mut().enumerate() {
            connection.write_all(format!("a {number}\r\nb {number}\nhal").as_bytes()).await.unwrap();
        }
        flow.until_rows(10).await;
        for connection in &mut connections {
            connection.write_all(b"f \xff").await.unwrap();
        }
        let peer = connections[0].local_addr().unwrap().to_string();
        drop(connections);
        flow.until_rows(15).await;
        source.stop().await.unwrap();
        let seen = flow.seen();
        let rows: Vec<_> = seen.rows.iter().filter(|row| row.header("peer") == peer).collect();
        assert_eq!(
            rows.iter().map(|row| row.body.clone()).collect::<Vec<_>>(),
            [b"a 0".to_vec(), b"b 0".to_vec(), b"half \xff".to_vec()]
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn bounds_on_lines_connections_and_silence() {
        let flow = Collector::new(Mode::Deliver);
        let changes = json!({"line_max": 100, "connections_max": 1, "idle": 30_000_000});
        let (source, address) = start(&flow, changes).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        first.write_all(&vec![b'x'; 250]).await.unwrap();
        first.write_all(b"\n").await.unwrap();
        flow.until_rows(3).await;
        let mut silent = Vec::new();
        // Silent for too long: it is closed, and its place is free again.
        first.read_to_end(&mut silent).await.unwrap();
        flow.until("it was counted", |seen| seen.counts.contains_key("idle_connections")).await;
        source.stop().await.unwrap();
        let lens: Vec<usize> = flow.seen().rows.iter().map(|row| row.body.len()).collect();
        assert_eq!(lens, [100, 100, 50]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_full_flow_does_not_stop_the_stop() {
        let flow = Collector::new(Mode::Deliver);
        let (source, address) = start(&flow, json!({})).await;
        let mut connection = TcpStream::connect(address).await.unwrap();
        connection.write_all(b"one\n").await.unwrap();
        flow.until_rows(1).await;
        source.stop().await.unwrap();
        assert!(TcpStream::connect(address).await.is_err(), "the port is free again");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn unfinished_lines_of_all_together_are_bounded() {
        let defaults = json!({"listen": ":0", "batch": 1000, "linger": 0, "line_max": 16 << 20,
            "connections_max": 100, "idle": 60_000_000_000u64, "peer_header": "peer"});
        let mut source = new(&settings(defaults, json!({})), &context(Path::new("/nowhere"))).unwrap();
        source.unfinished_max = 1 << 20;
        let address = source.listener.address();
        let flow = Collector::new(Mode::Deliver);
        let running = Running::start(Box::new(source), &flow);
        let mut greedy = Vec::new();
        for _ in 0..4 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // The source may hang up in the middle of it.
            let _ = stream.write_all(&vec![b'x'; 700 << 10]).await;
            greedy.push(stream);
        }
        // There is room for one of them.
        flow.until("three are refused", |seen| seen.count("refused_connections") == 3).await;
        // Everybody else is sure of a part.
        let mut honest = TcpStream::connect(address).await.unwrap();
        honest.write_all(b"half a ").await.unwrap();
        honest.write_all(b"line\n").await.unwrap();
        flow.until("the honest line", |seen| seen.texts().contains(&"half a line".to_owned())).await;
        running.stop().await.unwrap();
        assert_eq!(flow.seen().count("refused_connections"), 3);
        assert!(flow.seen().rows.iter().all(|row| row.body.len() <= 1 << 20));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_thousand_silent_peers_and_one_that_sends_byte_by_byte() {
        allow_many_files();
        let flow = Collector::new(Mode::Deliver);
        let (source, address) = start(&flow, json!({"connections_max": 1100})).await;
        let mut silent = Vec::new();
        for number in 0..1000 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            if number % 2 == 0 {
                stream.write_all(b"\xff\0half").await.unwrap();
            }
            silent.push(stream);
        }
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.set_nodelay(true).unwrap();
        for byte in b"\0\xff\r\r\n\n\xc3\x28\n" {
            slow.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        flow.until_rows(3).await;
        source.stop().await.unwrap();
        let bodies: Vec<Vec<u8>> = flow.seen().rows.iter().map(|row| row.body.clone()).collect();
        assert_eq!(bodies, [b"\0\xff\r".to_vec(), b"".to_vec(), b"\xc3\x28".to_vec()]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_a_silent_peer_has_sent_is_not_thrown_away() {
        let flow = Collector::new(Mode::Deliver);
        let (source, address) = start(&flow, json!({"idle": 30_000_000})).await;
        let mut peer = TcpStream::connect(address).await.unwrap();
        peer.write_all(b"one\nno end").await.unwrap();
        flow.until_rows(2).await;
        source.stop().await.unwrap();
        assert_eq!(flow.seen().texts(), ["one", "no end"]);
    }
}
