//! The state of the network and what moves it: deliveries in the order of their time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::ops::RangeInclusive;
use std::task::{Poll, Waker};

use bytes::{Buf, Bytes};
use tokio::io::ReadBuf;
use tokio::sync::oneshot;

use super::Rng;

/// Bytes of one direction that may be under way or unread before the writer waits.
const WINDOW_BYTES: usize = 256 * 1024;
/// How long somebody waits for an acknowledgement before the connection is given up. Linux waits minutes; the shapes
/// of what goes wrong are the same.
const GIVE_UP_MS: RangeInclusive<u64> = 1_000..=8_000;
/// After how long a dial is given up.
const DIAL_MS: u64 = 3_000;
/// How long a piece takes more that was lost and sent again.
const RETRANSMIT_MS: RangeInclusive<u64> = 200..=400;
/// How long after the healing of a link its held pieces arrive.
pub(super) const RESUME_MS: RangeInclusive<u64> = 1..=300;
/// Connections that wait to be accepted at one port; further ones are refused.
const BACKLOG: usize = 1024;

pub(super) struct Net {
    pub rng: Rng,
    pub now_ms: u64,
    pub delays: BTreeMap<(String, String), RangeInclusive<u64>>,
    pub default_delay: RangeInclusive<u64>,
    pub loss_once_in: u64,
    /// Links that carry nothing, by from and to.
    pub blocked: BTreeSet<(String, String)>,
    pub refusing: BTreeSet<String>,
    pub ports: BTreeMap<String, OpenPort>,
    pub connections: BTreeMap<u64, Pair>,
    pub trace: Trace,
    /// How often each host was killed.
    pub lives: BTreeMap<String, u64>,
    /// By the time they are due and a number.
    pub due: BTreeMap<(u64, u64), (u64, Delivery)>,
    numbers: u64,
    wakes: Vec<Waker>,
}

pub(super) struct OpenPort {
    pub life: u64,
    pub waiting: VecDeque<(u64, String)>,
    pub waker: Option<Waker>,
}

/// Both ends of a connection. An end that was dropped stays until the other is dropped too.
pub(super) struct Pair {
    pub hosts: [String; 2],
    address: String,
    pub ends: [End; 2],
    /// Of a dial that was not answered yet.
    answer: Option<oneshot::Sender<Result<(), io::ErrorKind>>>,
    pub stalled: bool,
}

/// What one side sees: bytes that came, and how the other's end came.
#[derive(Default)]
pub(super) struct End {
    inbox: VecDeque<Bytes>,
    /// Bytes on their way here and in the inbox.
    window: usize,
    ended: bool,
    error: Option<io::ErrorKind>,
    /// Nobody holds this end.
    pub gone: bool,
    /// This side said that it sends no more.
    pub shut: bool,
    reader: Option<Waker>,
    /// The other side's writer, waiting for room in the window.
    writer: Option<Waker>,
    /// When the last piece to here is due: pieces of one direction keep their order.
    pub last_due: u64,
    /// Arrived over a blocked link.
    pub held: VecDeque<Delivery>,
}

pub(super) enum Delivery {
    Open,
    Opened,
    Refused {
        kind: io::ErrorKind,
    },
    /// The rest say to which side.
    Data {
        to: usize,
        bytes: Bytes,
    },
    End {
        to: usize,
    },
    Reset {
        to: usize,
    },
    /// The side that waits for an acknowledgement has waited long enough.
    GiveUp {
        to: usize,
    },
}

/// What happened, as a hash (FNV-1a) and, if wanted, in words.
pub(super) struct Trace {
    pub hash: u64,
    pub lines: Option<Vec<String>>,
}

impl Trace {
    fn note(&mut self, now_ms: u64, connection: u64, delivery: &Delivery) {
        let mut add = |byte: u8| self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        now_ms.to_le_bytes().into_iter().for_each(&mut add);
        connection.to_le_bytes().into_iter().for_each(&mut add);
        delivery.name().bytes().for_each(&mut add);
        let (to, bytes): (usize, &[u8]) = match delivery {
            Delivery::Data { to, bytes } => (*to, bytes),
            Delivery::End { to } | Delivery::Reset { to } | Delivery::GiveUp { to } => (*to, &[]),
            _ => (0, &[]),
        };
        add(to as u8);
        bytes.iter().copied().for_each(&mut add);
        if let Some(lines) = &mut self.lines {
            let name = delivery.name();
            lines.push(format!("{now_ms} ms, connection {connection} to {to}: {name} {bytes:02x?}"));
        }
    }
}

pub(super) fn draw(rng: &mut Rng, range: &RangeInclusive<u64>) -> u64 {
    range.start() + rng.below(range.end().saturating_sub(*range.start()) + 1)
}

pub(super) fn host_of(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

impl Net {
    pub fn new(rng: Rng) -> Net {
        Net {
            rng,
            now_ms: 0,
            delays: BTreeMap::new(),
            default_delay: 1..=5,
            loss_once_in: 0,
            blocked: BTreeSet::new(),
            refusing: BTreeSet::new(),
            ports: BTreeMap::new(),
            connections: BTreeMap::new(),
            trace: Trace { hash: 0xcbf2_9ce4_8422_2325, lines: None },
            lives: BTreeMap::new(),
            due: BTreeMap::new(),
            numbers: 0,
            wakes: Vec::new(),
        }
    }

    pub fn take_wakes(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.wakes)
    }

    pub fn life(&self, host: &str) -> u64 {
        self.lives.get(host).copied().unwrap_or(0)
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub fn schedule(&mut self, at_ms: u64, connection: u64, delivery: Delivery) {
        let number = self.number();
        self.due.insert((at_ms.max(self.now_ms + 1), number), (connection, delivery));
    }

    fn is_blocked(&self, from: &str, to: &str) -> bool {
        !self.blocked.is_empty() && self.blocked.contains(&(from.to_owned(), to.to_owned()))
    }

    /// When something that is sent now from one side arrives at the other.
    fn arrival(&mut self, connection: u64, to: usize) -> Option<u64> {
        let pair = self.connections.get_mut(&connection)?;
        let key = (pair.hosts[1 - to].clone(), pair.hosts[to].clone());
        let range = self.delays.get(&key).unwrap_or(&self.default_delay);
        let mut delay = draw(&mut self.rng, range).max(1);
        if self.loss_once_in > 0 && self.rng.once_in(self.loss_once_in) {
            delay += draw(&mut self.rng, &RETRANSMIT_MS);
        }
        let end = &mut pair.ends[to];
        end.last_due = end.last_due.max(self.now_ms + delay);
        Some(end.last_due)
    }

    pub fn send(&mut self, connection: u64, to: usize, delivery: Delivery) {
        if let Some(at) = self.arrival(connection, to) {
            self.schedule(at, connection, delivery);
        }
    }

    pub fn advance_to(&mut self, now_ms: u64) {
        while let Some(entry) = self.due.first_entry() {
            let at = entry.key().0;
            if at > now_ms {
                break;
            }
            let (connection, delivery) = entry.remove();
            self.now_ms = self.now_ms.max(at);
            self.trace.note(self.now_ms, connection, &delivery);
            self.deliver(connection, delivery);
        }
        self.now_ms = self.now_ms.max(now_ms);
    }

    fn deliver(&mut self, id: u64, delivery: Delivery) {
        let Some(pair) = self.connections.get(&id) else { return };
        let to = match &delivery {
            Delivery::Open => 1,
            Delivery::Opened | Delivery::Refused { .. } => 0,
            Delivery::Data { to, .. } | Delivery::End { to } | Delivery::Reset { to } => *to,
            Delivery::GiveUp { to } => {
                let to = *to;
                let (here, there) = (pair.hosts[to].clone(), pair.hosts[1 - to].clone());
                let stuck = self.is_blocked(&here, &there) || self.is_blocked(&there, &here);
                if stuck || self.connections.get(&id).is_some_and(|pair| pair.stalled) {
                    self.fail_end(id, to, io::ErrorKind::TimedOut);
                    self.send(id, 1 - to, Delivery::Reset { to: 1 - to });
                }
                return;
            }
        };
        let (from_host, to_host) = (pair.hosts[1 - to].clone(), pair.hosts[to].clone());
        if pair.stalled || self.is_blocked(&from_host, &to_host) {
            let after = draw(&mut self.rng, &GIVE_UP_MS);
            self.schedule(self.now_ms + after, id, Delivery::GiveUp { to: 1 - to });
            if let Some(pair) = self.connections.get_mut(&id) {
                pair.ends[to].held.push_back(delivery);
            }
            return;
        }
        if self.is_blocked(&to_host, &from_host) && matches!(delivery, Delivery::Data { .. }) {
            // It arrives, but its acknowledgement does not.
            let after = draw(&mut self.rng, &GIVE_UP_MS);
            self.schedule(self.now_ms + after, id, Delivery::GiveUp { to: 1 - to });
        }
        self.arrive(id, delivery);
    }

    fn arrive(&mut self, id: u64, delivery: Delivery) {
        let Some(pair) = self.connections.get_mut(&id) else { return };
        match delivery {
            Delivery::Open => self.open(id),
            Delivery::Opened => {
                let told = pair.answer.take().is_some_and(|answer| answer.send(Ok(())).is_ok());
                if !told {
                    // Whoever dialled has stopped waiting, or died.
                    self.drop_end(id, 0);
                }
            }
            Delivery::Refused { kind } => {
                if let Some(answer) = pair.answer.take() {
                    let _ = answer.send(Err(kind));
                }
                self.connections.remove(&id);
            }
            Delivery::Data { to, bytes } => {
                let end = &mut pair.ends[to];
                if end.gone || end.error.is_some() {
                    end.window = end.window.saturating_sub(bytes.len());
                    return self.send(id, 1 - to, Delivery::Reset { to: 1 - to });
                }
                end.inbox.push_back(bytes);
                self.wakes.extend(end.reader.take());
            }
            Delivery::End { to } => {
                pair.ends[to].ended = true;
                self.wakes.extend(pair.ends[to].reader.take());
            }
            Delivery::Reset { to } => self.fail_end(id, to, io::ErrorKind::ConnectionReset),
            Delivery::GiveUp { .. } => {}
        }
    }

    fn open(&mut self, id: u64) {
        let Some(pair) = self.connections.get(&id) else { return };
        let (address, from) = (pair.address.clone(), format!("{}:{}", pair.hosts[0], 40_000 + id % 20_000));
        let refused = self.refusing.contains(host_of(&address));
        let port = self.ports.get_mut(&address).filter(|port| !refused && port.waiting.len() < BACKLOG);
        match port {
            Some(port) => {
                port.waiting.push_back((id, from));
                self.wakes.extend(port.waker.take());
                self.send(id, 0, Delivery::Opened);
            }
            None => self.send(id, 0, Delivery::Refused { kind: io::ErrorKind::ConnectionRefused }),
        }
    }

    pub fn fail_end(&mut self, id: u64, side: usize, kind: io::ErrorKind) {
        let Some(pair) = self.connections.get_mut(&id) else { return };
        if let Some(answer) = pair.answer.take() {
            let _ = answer.send(Err(kind));
        }
        let end = &mut pair.ends[side];
        end.error.get_or_insert(kind);
        end.inbox.clear();
        self.wakes.extend(end.reader.take());
        self.wakes.extend(pair.ends[1 - side].writer.take());
        self.forget_if_gone(id);
    }

    fn forget_if_gone(&mut self, id: u64) {
        let gone = self.connections.get(&id).is_some_and(|pair| pair.ends.iter().all(|end| end.gone));
        if gone && let Some(pair) = self.connections.remove(&id) {
            // Wakers are dropped outside of the lock.
            self.wakes.extend(pair.ends.into_iter().flat_map(|end| [end.reader, end.writer]).flatten());
        }
    }

    pub fn listen(&mut self, host: &str, life: u64, address: &str) -> io::Result<String> {
        if host_of(address) != host || life != self.life(host) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let address = match address.rsplit_once(':') {
            Some((name, "0")) => format!("{name}:{}", 20_000 + self.number()),
            _ => address.to_owned(),
        };
        if self.ports.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let port = OpenPort { life, waiting: VecDeque::new(), waker: None };
        self.ports.insert(address.clone(), port);
        Ok(address)
    }

    pub fn close_port(&mut self, address: &str, life: u64) {
        if self.ports.get(address).is_none_or(|port| port.life != life) {
            return;
        }
        let Some(port) = self.ports.remove(address) else { return };
        self.wakes.extend(port.waker);
        for (id, _) in port.waiting {
            self.drop_end(id, 1);
        }
    }

    pub fn dial(
        &mut self,
        host: &str,
        life: u64,
        address: &str,
        answer: oneshot::Sender<Result<(), io::ErrorKind>>,
    ) -> io::Result<u64> {
        if life != self.life(host) {
            return Err(io::ErrorKind::NetworkDown.into());
        }
        let id = self.number();
        let pair = Pair {
            hosts: [host.to_owned(), host_of(address).to_owned()],
            address: address.to_owned(),
            ends: [End::default(), End::default()],
            answer: Some(answer),
            stalled: false,
        };
        self.connections.insert(id, pair);
        self.send(id, 1, Delivery::Open);
        // Not through the link: it is the dialler's own patience.
        self.schedule(self.now_ms + DIAL_MS, id, Delivery::GiveUp { to: 0 });
        Ok(id)
    }

    pub fn read(
        &mut self,
        id: u64,
        side: usize,
        waker: &Waker,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(pair) = self.connections.get_mut(&id) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let end = &mut pair.ends[side];
        if let Some(kind) = end.error {
            return Poll::Ready(Err(kind.into()));
        }
        let before = buffer.remaining();
        while let Some(piece) = end.inbox.front_mut() {
            let count = piece.len().min(buffer.remaining());
            if count == 0 {
                break;
            }
            buffer.put_slice(&piece[..count]);
            piece.advance(count);
            if piece.is_empty() {
                end.inbox.pop_front();
            }
        }
        let count = before - buffer.remaining();
        if count > 0 || before == 0 {
            end.window = end.window.saturating_sub(count);
            self.wakes.extend(end.writer.take());
            return Poll::Ready(Ok(()));
        }
        if end.ended {
            return Poll::Ready(Ok(()));
        }
        end.reader = Some(waker.clone());
        Poll::Pending
    }

    pub fn write(&mut self, id: u64, side: usize, waker: &Waker, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Some(pair) = self.connections.get_mut(&id) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        if let Some(kind) = pair.ends[side].error {
            return Poll::Ready(Err(kind.into()));
        }
        if pair.ends[side].shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let other = &mut pair.ends[1 - side];
        let room = WINDOW_BYTES.saturating_sub(other.window);
        if room == 0 {
            other.writer = Some(waker.clone());
            return Poll::Pending;
        }
        let count = bytes.len().min(room);
        other.window += count;
        // Now and then what was written as one arrives as two.
        let cut = if count > 1 && self.rng.once_in(8) {
            1 + self.rng.below(count as u64 - 1) as usize
        } else {
            count
        };
        for piece in [&bytes[..cut], &bytes[cut..count]] {
            if !piece.is_empty() {
                let bytes = Bytes::copy_from_slice(piece);
                self.send(id, 1 - side, Delivery::Data { to: 1 - side, bytes });
            }
        }
        Poll::Ready(Ok(count))
    }

    pub fn shutdown(&mut self, id: u64, side: usize) -> io::Result<()> {
        let Some(pair) = self.connections.get_mut(&id) else { return Ok(()) };
        if pair.ends[side].error.is_none() && !std::mem::replace(&mut pair.ends[side].shut, true) {
            self.send(id, 1 - side, Delivery::End { to: 1 - side });
        }
        Ok(())
    }

    pub fn drop_end(&mut self, id: u64, side: usize) {
        let unread = self.connections.get(&id).is_some_and(|pair| !pair.ends[side].inbox.is_empty());
        if unread {
            self.send(id, 1 - side, Delivery::Reset { to: 1 - side });
        } else {
            let _ = self.shutdown(id, side);
        }
        let Some(pair) = self.connections.get_mut(&id) else { return };
        let end = &mut pair.ends[side];
        end.gone = true;
        end.inbox.clear();
        self.wakes.extend(end.reader.take());
        self.forget_if_gone(id);
    }
}
