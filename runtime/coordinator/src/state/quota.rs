//! Quotas: how many znodes and bytes there may be at and below a path. The limits are text in
//! `/zookeeper/quota/<path>/zookeeper_limits`, written by clients; what is used is kept beside it in
//! `zookeeper_stats`. Only hard limits refuse. Without any quota all this costs one look at an empty set.

use super::change::split;
use super::{QUOTA_PATH, SYSTEM_PATH, State};
use crate::proto::Code;

const LIMITS: &str = "zookeeper_limits";
const STATS: &str = "zookeeper_stats";

/// `count=5,bytes=-1;byteHardLimit=-1;countHardLimit=10`. -1 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Numbers {
    count: i64,
    bytes: i64,
    count_hard: i64,
    bytes_hard: i64,
}

impl Numbers {
    /// What is not understood counts as not written.
    fn parse(text: &[u8]) -> Numbers {
        let mut numbers = Numbers { count: -1, bytes: -1, count_hard: -1, bytes_hard: -1 };
        for piece in String::from_utf8_lossy(text).split([',', ';']) {
            let mut halves = piece.split('=');
            let (Some(key), Some(value)) = (halves.next(), halves.next()) else { continue };
            let Ok(value) = value.trim().parse() else { continue };
            match key.trim() {
                "count" => numbers.count = value,
                "bytes" => numbers.bytes = value,
                "countHardLimit" => numbers.count_hard = value,
                "byteHardLimit" => numbers.bytes_hard = value,
                _ => {}
            }
        }
        numbers
    }
}

/// The path that a znode below [`QUOTA_PATH`] speaks of, if it has this name.
fn quota_of<'a>(path: &'a str, name: &str) -> Option<&'a str> {
    let of = path.strip_prefix(QUOTA_PATH)?.strip_suffix(name)?.strip_suffix('/')?;
    of.starts_with('/').then_some(of)
}

impl State {
    /// The closest path at or above `path` that has limits.
    fn closest_quota<'a>(&self, path: &'a str) -> Option<&'a str> {
        if self.quotas.is_empty() || is_system(path) {
            return None;
        }
        let mut at = path;
        while at.len() > 1 {
            if self.quotas.contains(at) {
                return Some(at);
            }
            at = split(at).0;
        }
        None
    }

    fn numbers(&self, path: &str, name: &str) -> Option<Numbers> {
        let number = self.nodes.find(&format!("{QUOTA_PATH}{path}/{name}"))?;
        Some(Numbers::parse(self.nodes.data(number).unwrap_or_default()))
    }

    /// Whether so many more znodes and bytes are allowed at `path`.
    pub(super) fn check_quota(&self, path: &str, count: i64, bytes: i64) -> Result<(), Code> {
        if !self.limits.enforce_quotas {
            return Ok(());
        }
        let Some(quota) = self.closest_quota(path) else { return Ok(()) };
        let (Some(limits), Some(used)) = (self.numbers(quota, LIMITS), self.numbers(quota, STATS)) else {
            return Ok(());
        };
        let over = |hard: i64, used: i64, more: i64| hard > -1 && used.saturating_add(more) > hard;
        let count_over = count > 0 && over(limits.count_hard, used.count, count);
        let bytes_over = bytes > 0 && over(limits.bytes_hard, used.bytes, bytes);
        if count_over || bytes_over { Err(Code::QuotaExceeded) } else { Ok(()) }
    }

    /// Adds to what is used. The znode that says so keeps its version and times, as in ZooKeeper.
    pub(super) fn count_quota(&mut self, path: &str, count: i64, bytes: i64) {
        let Some(quota) = self.closest_quota(path) else { return };
        let Some(used) = self.numbers(quota, STATS) else { return };
        self.put_stats(quota, used.count.saturating_add(count), used.bytes.saturating_add(bytes));
    }

    fn put_stats(&mut self, quota: &str, count: i64, bytes: i64) {
        let path = format!("{QUOTA_PATH}{quota}/{STATS}");
        if let Some(number) = self.nodes.find(&path) {
            let text = format!("count={count},bytes={bytes}");
            let node = self.nodes.at(number);
            let (mzxid, mtime, version) = (node.mzxid, node.mtime, node.version);
            self.put_data(number, &path, Some(text.as_bytes()), mzxid, mtime, version);
        }
    }

    /// Whether a znode has the name of those with limits.
    pub(super) fn is_limits(&self, number: u32) -> bool {
        self.nodes.name(number) == LIMITS.as_bytes()
    }

    /// A znode was put in: perhaps it makes a quota.
    pub(super) fn quota_node_added(&mut self, path: &str) {
        if let Some(quota) = quota_of(path, LIMITS) {
            self.quotas.insert(quota.into());
        }
    }

    pub(super) fn quota_node_dropped(&mut self, path: &str) {
        if let Some(quota) = quota_of(path, LIMITS) {
            self.quotas.remove(quota);
        }
    }

    /// A client created the znode that says what is used: count once what there is.
    pub(super) fn begin_quota(&mut self, path: &str) {
        let Some(quota) = quota_of(path, STATS).filter(|quota| !is_system(quota)) else { return };
        let (mut count, mut bytes) = (0, 0);
        if let Some(top) = self.nodes.find(quota) {
            let mut at = Some(top);
            while let Some(number) = at {
                count += 1;
                bytes += self.nodes.data_bytes(number) as i64;
                at = self.nodes.walk_next(top, number);
            }
        }
        self.put_stats(quota, count, bytes);
    }
}

fn is_system(path: &str) -> bool {
    path.strip_prefix(SYSTEM_PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
