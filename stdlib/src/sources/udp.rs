//! `udp`: datagrams. A peer cannot be slowed down, so what finds the queue full is dropped and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration as StdDuration;

use async_trait::async_trait;
use flow_agent::{Context, Fault, Source, SourceError, SourceOutput, Stop, decode_settings};
use flow_plan::batch::Columns;
use flow_plan::settings::{Duration, Settings};
use flow_plan::{Batch, Range};
use serde::Deserialize;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::feed::full;
use super::lines::{Cut, cut_lines};
use super::listen::{Held, bind_udp, parse_address};
use super::owner::dropped_datagrams;
use super::rows::{HeaderTarget, Stamp, now_ms};

/// The largest datagram, in bytes.
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// What a waiting datagram costs besides its bytes.
const DATAGRAM_OVERHEAD: usize = 128;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UdpSettings {
    listen: String,
    batch: usize,
    linger: Duration,
    queue: usize,
    buffer: Option<usize>,
    split: bool,
    peer_header: Option<String>,
}

struct Udp {
    settings: UdpSettings,
    peer_header: Option<HeaderTarget>,
    stamp: Stamp,
    socket: Held<std::net::UdpSocket>,
}

/// Makes the source.
pub fn udp(settings: &Settings, context: &Context) -> Result<Box<dyn Source>, Fault> {
    Ok(Box::new(new(settings, context)?))
}

fn new(settings: &Settings, context: &Context) -> Result<Udp, Fault> {
    let settings: UdpSettings = decode_settings(settings)?;
    let address = parse_address(&settings.listen, "listen")?;
    let peer_header = HeaderTarget::optional(&settings.peer_header, context);
    let socket = bind_udp(&address, "listen", settings.buffer)?;
    Ok(Udp { settings, peer_header, stamp: Stamp::new(context), socket })
}

#[async_trait]
impl Source for Udp {
    async fn run(&mut self, output: SourceOutput, stop: Stop) -> Result<(), SourceError> {
        let socket = self.socket.take()?;
        let datagrams = Datagrams {
            rows_max: self.settings.batch.max(1),
            linger: self.settings.linger.std(),
            queue_bytes: self.settings.queue,
            split: self.settings.split,
            peer_header: self.peer_header.clone(),
            stamp: &self.stamp,
            finish: None,
        };
        datagrams.run(socket, &output, stop).await
    }
}

/// How datagrams become batches; `syslog` uses it, too.
pub struct Datagrams<'a> {
    pub rows_max: usize,
    pub linger: StdDuration,
    pub queue_bytes: usize,
    pub split: bool,
    pub peer_header: Option<HeaderTarget>,
    pub stamp: &'a Stamp,
    pub finish: Option<&'a (dyn Fn(Columns) -> Columns + Send + Sync)>,
}

/// How often the kernel is asked what it dropped.
const DROPS_EVERY: StdDuration = StdDuration::from_secs(1);

/// Counts what the kernel drops because nobody takes it out of the buffer of the socket in time.
struct KernelDrops {
    inode: u64,
    known: u64,
}

impl KernelDrops {
    fn new(socket: &UdpSocket) -> KernelDrops {
        // No socket has the inode 0.
        KernelDrops { inode: rustix::fs::fstat(socket).map_or(0, |stat| stat.st_ino), known: 0 }
    }

    async fn watch(&mut self, output: &SourceOutput) -> std::convert::Infallible {
        loop {
            self.count(output).await;
            tokio::time::sleep(DROPS_EVERY).await;
        }
    }

    async fn count(&mut self, output: &SourceOutput) {
        let inode = self.inode;
        // Making the table takes the kernel a while when there are many sockets.
        let dropped = tokio::task::spawn_blocking(move || dropped_datagrams(inode)).await;
        let Ok(Some(dropped)) = dropped else { return };
        if dropped > self.known {
            output.count("kernel_dropped_datagrams", dropped - self.known);
            self.known = dropped;
        }
    }
}

struct Datagram {
    bytes: Box<[u8]>,
    peer: Option<Arc<str>>,
    time_ms: i64,
}

impl Datagrams<'_> {
    pub async fn run(
        &self,
        socket: UdpSocket,
        output: &SourceOutput,
        mut stop: Stop,
    ) -> Result<(), SourceError> {
        // Bounded by `queue_bytes`.
        let (sender, receiver) = mpsc::unbounded_channel();
        let waiting = AtomicUsize::new(0);
        let mut drops = KernelDrops::new(&socket);
        let receiving = async {
            let received = tokio::select! {
                received = self.receive(&socket, sender, &waiting, output, &mut stop) => received,
                never = drops.watch(output) => match never {},
            };
            drops.count(output).await;
            received
        };
        let (received, sent) = tokio::join!(receiving, self.send(receiver, &waiting, output));
        received.and(sent)
    }

    async fn receive(
        &self,
        socket: &UdpSocket,
        to: mpsc::UnboundedSender<Datagram>,
        waiting: &AtomicUsize,
        output: &SourceOutput,
        stop: &mut Stop,
    ) -> Result<(), SourceError> {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        let mut known: Option<(std::net::SocketAddr, Arc<str>)> = None;
        loop {
            let (len, peer) = tokio::select! {
                received = socket.recv_from(&mut buffer) => match received {
                    Ok(received) => received,
                    // An answer of the network to something sent earlier; the socket is well.
                    Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => continue,
                    Err(error) => {
                        let why = super::positions::plain(&error);
                        return Err(SourceError::Retry(Fault::new(format!("cannot receive: {why}"))));
                    }
                },
                () = stop.stopped() => return Ok(()),
                () = to.closed() => return Ok(()),
            };
            let cost = len + DATAGRAM_OVERHEAD;
            if waiting.load(Ordering::Relaxed) + cost > self.queue_bytes {
                output.count("dropped_datagrams", 1);
                continue;
            }
            let peer = self.peer_header.is_some().then(|| match &known {
                Some((address, text)) if *address == peer => text.clone(),
                _ => {
                    let text: Arc<str> = Arc::from(peer.to_string());
                    known = Some((peer, text.clone()));
                    text
                }
            });
            waiting.fetch_add(cost, Ordering::Relaxed);
            let datagram = Datagram { bytes: buffer[..len].into(), peer, time_ms: now_ms() };
            if to.send(datagram).is_err() {
                return Ok(());
            }
        }
    }

    async fn send(
        &self,
        mut from: mpsc::UnboundedReceiver<Datagram>,
        waiting: &AtomicUsize,
        output: &SourceOutput,
    ) -> Result<(), SourceError> {
        let mut gathered = Vec::new();
        loop {
            if from.is_empty() {
                output.idle();
            }
            if from.recv_many(&mut gathered, self.rows_max).await == 0 {
                return Ok(());
            }
            let until = tokio::time::Instant::now() + self.linger;
            while gathered.len() < self.rows_max {
                let room = self.rows_max - gathered.len();
                match tokio::time::timeout_at(until, from.recv_many(&mut gathered, room)).await {
                    Ok(count) if count > 0 => {}
                    _ => break,
                }
            }
            let cost: usize = gathered.iter().map(|datagram| datagram.bytes.len() + DATAGRAM_OVERHEAD).sum();
            let columns = self.columns(&gathered).map_err(|_| full())?;
            gathered.clear();
            // Counted as waiting until the flow has them would count them twice: they are in the batch now.
            waiting.fetch_sub(cost, Ordering::Relaxed);
            for columns in columns {
                let mut columns = match self.finish {
                    Some(finish) => finish(columns),
                    None => columns,
                };
                self.stamp.apply(&mut columns);
                output.send_ahead(Batch::new(columns)).await?;
            }
        }
    }

    fn columns(&self, datagrams: &[Datagram]) -> Result<Vec<Columns>, flow_plan::batch::ArenaFull> {
        let mut all = Vec::new();
        let mut columns = Columns::default();
        let mut last_peer: Option<(Arc<str>, Range)> = None;
        for datagram in datagrams {
            let whole = [Range::new(0, datagram.bytes.len())];
            let cut = Cut { rows_max: usize::MAX, line_max: usize::MAX, at_end: true, crlf: true };
            let lines = if self.split { cut_lines(&datagram.bytes, cut).bodies } else { whole.to_vec() };
            for line in lines {
                if columns.bodies.len() == self.rows_max {
                    all.push(std::mem::take(&mut columns));
                    last_peer = None;
                }
                let row = columns.push(&datagram.bytes[line.range()], datagram.time_ms)?;
                let (Some(header), Some(peer)) = (&self.peer_header, &datagram.peer) else { continue };
                let value = match &last_peer {
                    Some((known, value)) if known == peer => *value,
                    _ => columns.arena.push(peer.as_bytes())?,
                };
                last_peer = Some((peer.clone(), value));
                header.set(&mut columns, row, value);
            }
        }
        if !columns.bodies.is_empty() {
            all.push(columns);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::testing::{Collector, Mode, Running, context, settings};
    use serde_json::{Value, json};
    use std::path::Path;

    async fn start(flow: &Arc<Collector>, changes: Value) -> (Running, UdpSocket) {
        let (source, client) = bound(changes).await;
        (Running::start(Box::new(source), flow), client)
    }

    async fn bound(changes: Value) -> (Udp, UdpSocket) {
        let defaults = json!({"listen": ":0", "batch": 1000, "linger": 0, "queue": 1 << 20, "buffer": null,
            "split": false, "peer_header": "peer"});
        let source = new(&settings(defaults, changes), &context(Path::new("/nowhere"))).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.connect(source.socket.address()).await.unwrap();
        (source, client)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn datagrams_are_events() {
        let flow = Collector::new(Mode::Deliver);
        let (source, client) = start(&flow, json!({})).await;
        for datagram in [&b"one\ntwo"[..], b"", b"\xff\x00"] {
            client.send(datagram).await.unwrap();
        }
        flow.until_rows(3).await;
        source.stop().await.unwrap();
        let seen = flow.seen();
        assert_eq!(seen.rows[0].body, b"one\ntwo");
        assert_eq!(seen.rows[1].body, b"");
        assert_eq!(seen.rows[2].body, b"\xff\x00");
        assert_eq!(seen.rows[2].header("peer"), client.local_addr().unwrap().to_string());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_finds_no_room_is_counted() {
        let flow = Collector::new(Mode::Full);
        let (source, client) = start(&flow, json!({"queue": 2000, "split": true})).await;
        let mut sent = 0;
        while flow.seen().counts.get("dropped_datagrams").copied().unwrap_or(0) == 0 {
            client.send(b"a line\nand another").await.unwrap();
            sent += 1;
            assert!(sent < 1_000_000, "nothing was dropped");
            tokio::task::yield_now().await;
        }
        flow.set_mode(Mode::Deliver);
        flow.until("lines", |seen| seen.rows.len() >= 4).await;
        source.stop().await.unwrap();
        assert_eq!(flow.seen().texts()[..2], ["a line", "and another"]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_the_kernel_drops_is_counted() {
        let (source, client) = bound(json!({"buffer": 4096})).await;
        // Nobody reads yet, so most of it finds the buffer full.
        const SENT: usize = 200;
        for _ in 0..SENT {
            client.send(&[b'x'; 1000]).await.unwrap();
        }
        let flow = Collector::new(Mode::Deliver);
        let running = Running::start(Box::new(source), &flow);
        flow.until("everything is accounted for", |seen| {
            let dropped = seen.counts.get("kernel_dropped_datagrams").copied().unwrap_or(0) as usize;
            dropped > 0 && dropped + seen.rows.len() == SENT
        })
        .await;
        running.stop().await.unwrap();
    }
}
