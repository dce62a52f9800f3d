//! `throttle`: so many events in a time, for each key.

use std::collections::HashMap;

use flow_plan::interceptor::{Failed, Interceptor, LowerContext, LowerError, Lowered};
use flow_plan::ir::Expr;
use flow_plan::settings::Duration;
use flow_plan::{Batch, Settings};
use serde::Deserialize;

use super::build::{decode, refuse};
use super::keys::{Key, KeyOf};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Throttle {
    events: u32,
    per: Duration,
    by: Option<Expr>,
    over: Over,
    capacity: usize,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Over {
    Drop,
    Fail,
}

pub fn lower(settings: &Settings, context: &LowerContext<'_>) -> Result<Lowered, LowerError> {
    let throttle: Throttle = decode(settings)?;
    if throttle.per.0 == 0 {
        return refuse("per", "the time must be longer than nothing");
    }
    Ok(Lowered::Native(Box::new(Rates {
        key_of: throttle.by.as_ref().map(|by| KeyOf::new("by", by, context)).transpose()?,
        events: i128::from(throttle.events),
        per_ns: i128::from(throttle.per.0),
        over: throttle.over,
        keys_max: throttle.capacity,
        full_at: HashMap::new(),
    })))
}

/// The generic cell rate algorithm (ITU-T I.371): for each key one number, the time at which its allowance is
/// whole again. Times are in nanoseconds times `events`, so that every rate divides exactly.
struct Rates {
    key_of: Option<KeyOf>,
    events: i128,
    per_ns: i128,
    over: Over,
    keys_max: usize,
    full_at: HashMap<Option<Key>, i128>,
}

impl Rates {
    /// Whether one more event of the key may go on; it is counted if so.
    fn admit(&mut self, key: Option<Key>, now: i128) -> bool {
        if self.full_at.len() >= self.keys_max && !self.full_at.contains_key(&key) {
            self.forget(now);
        }
        let full_at = self.full_at.entry(key).or_insert(now);
        let after = (*full_at).max(now) + self.per_ns;
        if after - now > self.per_ns * self.events {
            return false;
        }
        *full_at = after;
        true
    }

    /// Keys with a whole allowance are forgotten without loss; if there are none, the quarter that is nearest to it.
    fn forget(&mut self, now: i128) {
        self.full_at.retain(|_, full_at| *full_at > now);
        if self.full_at.len() >= self.keys_max {
            let mut times: Vec<i128> = self.full_at.values().copied().collect();
            let nearest = times.len() / 4;
            let (_, limit, _) = times.select_nth_unstable(nearest);
            let limit = *limit;
            self.full_at.retain(|_, full_at| *full_at > limit);
        }
    }
}

impl Interceptor for Rates {
    fn apply(&mut self, batch: &mut Batch, now_ms: i64) -> Vec<Failed> {
        let now = i128::from(now_ms) * 1_000_000 * self.events;
        let mut failed = Vec::new();
        let mut rows = std::mem::take(&mut batch.rows);
        rows.retain(|&row| {
            let key = match self.key_of.as_ref().map(|key_of| key_of.key(batch, row, now_ms)) {
                None => None,
                Some(Ok(key)) => key,
                Some(Err(error)) => {
                    failed.push(Failed { row, message: error.message });
                    return false;
                }
            };
            let admitted = self.admit(key, now);
            if !admitted && self.over == Over::Fail {
                let message = format!("more than {} events in {} ms", self.events, self.per_ns / 1_000_000);
                failed.push(Failed { row, message });
            }
            admitted
        });
        batch.rows = rows;
        failed
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::interceptors::testing::{NOW_MS, Run};

    fn run(change: serde_json::Value) -> Run {
        let settings =
            json!({"events": 2, "per": 1_000_000_000u64, "by": null, "over": "drop", "capacity": 100});
        Run::of("throttle", settings, change)
    }

    #[test]
    fn the_allowance_comes_back_with_time() {
        let mut run = run(json!({}));
        assert_eq!(run.batch(NOW_MS, &["a", "b", "c"]), ["a @0", "b @0"]);
        assert_eq!(run.batch(NOW_MS + 499, &["d"]), Vec::<String>::new());
        assert_eq!(run.batch(NOW_MS + 500, &["e", "f"]), ["e @0"]);
        assert_eq!(run.batch(NOW_MS + 60_000, &["g", "h", "i"]), ["g @0", "h @0"]);
    }

    #[test]
    fn keys_are_counted_apart() {
        let mut run = run(json!({"by": "body"}));
        assert_eq!(run.batch(NOW_MS, &["a", "a", "a", "b", "b", "b"]), ["a @0", "a @0", "b @0", "b @0"]);
    }

    #[test]
    fn the_rest_may_fail() {
        let mut run = run(json!({"over": "fail"}));
        assert_eq!(run.batch(NOW_MS, &["a", "b", "c"])[2], "c failed: more than 2 events in 1000 ms");
    }

    #[test]
    fn keys_beyond_the_capacity_push_out_others() {
        let mut run = run(json!({"by": "body", "events": 1, "capacity": 4}));
        let keys: Vec<String> = (0..100).map(|key| key.to_string()).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        assert_eq!(run.batch(NOW_MS, &keys).len(), 100);
        assert_eq!(run.batch(NOW_MS, &["99"]), Vec::<String>::new());
        let mut small = Run::of(
            "throttle",
            json!({"events": 1, "per": 1_000_000_000u64, "by": "body", "over": "drop", "capacity": 1}),
            json!({}),
        );
        assert_eq!(small.batch(NOW_MS, &["a", "b", "b"]).len(), 2);
    }

    #[test]
    fn a_rate_without_time_is_refused() {
        assert!(run(json!({"per": 0})).error().starts_with("per: "));
    }
}
