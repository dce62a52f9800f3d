//! What sources that read files wait for: steps that block on the disk, and moments. It must not know what is read.

use std::time::Instant;

use flow_agent::{Fault, SourceError};

/// Runs a step that blocks on the disk.
pub async fn blocking<T: Send + 'static>(
    step: impl FnOnce() -> T + Send + 'static,
) -> Result<T, SourceError> {
    tokio::task::spawn_blocking(step).await.map_err(|error| {
        SourceError::Retry(Fault::new(format!("a step of the source failed: {error}")).code("F1109"))
    })
}

/// Sleeps until a moment; for ever without one.
pub async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}
