//! The `memory` channel: the settings of a [`MemoryQueue`].

use std::sync::Arc;

use flow_agent::{Channel, Context, Fault, MemoryQueue, QueueLimits, decode_settings};
use flow_plan::Settings;
use serde::Deserialize;

/// Makes a `memory` channel.
pub fn memory(settings: &Settings, _: &Context) -> Result<Arc<dyn Channel>, Fault> {
    let settings: MemorySettings = decode_settings(settings)?;
    Ok(Arc::new(MemoryQueue::new(limits(&settings))))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MemorySettings {
    capacity: u64,
    bytes: u64,
    batch: Option<u64>,
}

/// What is taken counts until it is committed: a transaction of all that the channel holds would make source and
/// sink take turns. It gets half of the events and a quarter of the bytes at most.
fn limits(settings: &MemorySettings) -> QueueLimits {
    QueueLimits {
        events_max: settings.capacity,
        bytes_max: settings.bytes,
        take_events_max: settings.batch.unwrap_or((settings.capacity / 2).max(1)),
        take_bytes_max: (settings.bytes / 4).min(QueueLimits::default().take_bytes_max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_become_bounds() {
        let one = super::limits(&MemorySettings { capacity: 1, bytes: 1, batch: None });
        assert_eq!((one.events_max, one.take_events_max), (1, 1));
        let limits = limits(&MemorySettings { capacity: 100, bytes: 1 << 20, batch: None });
        assert_eq!((limits.events_max, limits.take_events_max), (100, 50));
        assert_eq!((limits.bytes_max, limits.take_bytes_max), (1 << 20, 1 << 18));
    }
}
