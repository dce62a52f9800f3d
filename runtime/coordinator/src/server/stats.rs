//! Numbers for operators: counted by connections as they go, read by the four-letter words and the admin page.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Of the whole server, since it began or since they were reset.
#[derive(Default)]
pub(super) struct ServerStats {
    pub received: AtomicU64,
    pub sent: AtomicU64,
    pub bytes_received: AtomicU64,
    pub bytes_sent: AtomicU64,
    /// From the arrival of a request to its answer; reads and writes also apart.
    pub latency: Latency,
    pub read_latency: Latency,
    pub write_latency: Latency,
    /// Writes that are not answered yet.
    pub outstanding: AtomicU64,
    /// Their bytes.
    pub outstanding_bytes: AtomicU64,
    pub auth_failed: AtomicU64,
    pub connections_rejected: AtomicU64,
    pub connections_dropped: AtomicU64,
    pub connection_requests: AtomicU64,
    pub large_requests_rejected: AtomicU64,
    /// Connections that ended before their first packet was whole.
    pub unsuccessful_handshakes: AtomicU64,
    pub watch_events: AtomicU64,
    /// Bytes that connections hold beyond the buffer that each of them has anyway.
    pub large_input_bytes: AtomicU64,
}

impl ServerStats {
    /// What `srst` and `crst` set back.
    pub fn reset(&self) {
        self.received.store(0, Relaxed);
        self.sent.store(0, Relaxed);
        for latency in [&self.latency, &self.read_latency, &self.write_latency] {
            latency.reset();
        }
    }
}

/// How long things took.
pub(super) struct Latency {
    count: AtomicU64,
    sum_us: AtomicU64,
    /// `u64::MAX` before the first.
    min_us: AtomicU64,
    max_us: AtomicU64,
    last_us: AtomicU64,
}

impl Default for Latency {
    fn default() -> Latency {
        Latency {
            count: AtomicU64::new(0),
            sum_us: AtomicU64::new(0),
            min_us: AtomicU64::new(u64::MAX),
            max_us: AtomicU64::new(0),
            last_us: AtomicU64::new(0),
        }
    }
}

impl Latency {
    /// `count` things, each of which took `each`.
    pub fn add(&self, count: u64, each: Duration) {
        if count == 0 {
            return;
        }
        let each = u64::try_from(each.as_micros()).unwrap_or(u64::MAX);
        self.count.fetch_add(count, Relaxed);
        self.sum_us.fetch_add(each.saturating_mul(count), Relaxed);
        self.last_us.store(each, Relaxed);
        if each < self.min_us.load(Relaxed) {
            self.min_us.fetch_min(each, Relaxed);
        }
        if each > self.max_us.load(Relaxed) {
            self.max_us.fetch_max(each, Relaxed);
        }
    }

    pub fn reset(&self) {
        self.count.store(0, Relaxed);
        self.sum_us.store(0, Relaxed);
        self.min_us.store(u64::MAX, Relaxed);
        self.max_us.store(0, Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    pub fn sum_ms(&self) -> u64 {
        self.sum_us.load(Relaxed) / 1000
    }

    pub fn average_ms(&self) -> f64 {
        let count = self.count();
        if count == 0 { 0.0 } else { self.sum_us.load(Relaxed) as f64 / count as f64 / 1000.0 }
    }

    pub fn min_ms(&self) -> u64 {
        if self.count() == 0 { 0 } else { self.min_us.load(Relaxed) / 1000 }
    }

    pub fn max_ms(&self) -> u64 {
        self.max_us.load(Relaxed) / 1000
    }

    pub fn last_ms(&self) -> u64 {
        self.last_us.load(Relaxed) / 1000
    }

    /// Seconds, for Prometheus.
    pub fn sum_seconds(&self) -> f64 {
        self.sum_us.load(Relaxed) as f64 / 1e6
    }
}

/// Of one connection.
#[derive(Default)]
pub(super) struct ConnectionStats {
    pub received: AtomicU64,
    pub sent: AtomicU64,
    pub latency: Latency,
    /// Of the last request.
    pub last_op: AtomicI64,
    pub last_xid: AtomicI64,
    pub last_zxid: AtomicI64,
    /// When it was answered, milliseconds since 1970 UTC.
    pub last_answered_ms: AtomicI64,
}
