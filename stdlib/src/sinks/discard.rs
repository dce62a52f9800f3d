//! The `discard` sink: events end here on purpose.

use async_trait::async_trait;
use flow_agent::{Context, Fault, Sink, SinkError, decode_settings};
use flow_plan::{Batch, Settings};
use serde::Deserialize;

/// Makes a `discard` sink.
pub fn discard(settings: &Settings, _: &Context) -> Result<Box<dyn Sink>, Fault> {
    let settings: DiscardSettings = decode_settings(settings)?;
    Ok(Box::new(Discard { batch: settings.batch }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DiscardSettings {
    batch: usize,
}

struct Discard {
    batch: usize,
}

#[async_trait]
impl Sink for Discard {
    async fn write(&mut self, _: &[Batch]) -> Result<(), SinkError> {
        Ok(())
    }

    fn batch_events_max(&self) -> usize {
        self.batch
    }
}
