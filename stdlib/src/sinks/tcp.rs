//! The `tcp` sink: events as lines over a connection that is made anew when it breaks. The other side confirms
//! nothing, so what was under way when it broke may be lost, and what is written again may arrive twice.

use std::time::Duration;

use async_trait::async_trait;
use flow_agent::{Context, Fault, Sink, SinkError, decode_settings};
use flow_plan::settings;
use flow_plan::{Batch, Settings};
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::encode::{Encoder, Format};
use super::fault::io_text;

/// Bytes gathered before they are written.
const BUFFER_BYTES_MAX: usize = 256 << 10;

/// Makes a `tcp` sink; it connects with the first write.
pub fn tcp(settings: &Settings, context: &Context) -> Result<Box<dyn Sink>, Fault> {
    let settings: TcpSettings = decode_settings(settings)?;
    let address = match settings.address.strip_prefix(':') {
        Some(port) => format!("127.0.0.1:{port}"),
        None => settings.address,
    };
    Ok(Box::new(Tcp {
        address,
        connect: settings.connect.std(),
        timeout: settings.timeout.std(),
        batch: settings.batch,
        encoder: Encoder::new(settings.format, context.slots.clone()),
        stream: None,
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TcpSettings {
    address: String,
    format: Format,
    connect: settings::Duration,
    timeout: settings::Duration,
    batch: usize,
}

struct Tcp {
    address: String,
    connect: Duration,
    timeout: Duration,
    batch: usize,
    encoder: Encoder,
    stream: Option<TcpStream>,
}

impl Tcp {
    fn retry(&self, what: &str) -> SinkError {
        SinkError::Retry(Fault::new(format!("{what} `{}`", self.address)).setting("address"))
    }

    /// The connection, if the other side has not closed it meanwhile; else a new one.
    async fn stream(&mut self) -> Result<TcpStream, SinkError> {
        if let Some(stream) = self.stream.take()
            && is_open(&stream)
        {
            return Ok(stream);
        }
        match timeout(self.connect, TcpStream::connect(&self.address)).await {
            Ok(Ok(stream)) => {
                // Batches are large already; waiting for more would only delay their last piece.
                let _ = stream.set_nodelay(true);
                Ok(stream)
            }
            Ok(Err(error)) => Err(self.retry(&format!("{}: cannot connect to", io_text(&error)))),
            Err(_) => Err(self.retry(&format!("no connection within {:?} to", self.connect))),
        }
    }
}

/// Whether the other side still listens; what it says is of no interest.
fn is_open(stream: &TcpStream) -> bool {
    let mut ignored = [0; 4096];
    // A peer that talks without end is not read to the end.
    for _ in 0..16 {
        match stream.try_read(&mut ignored) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
    true
}

#[async_trait]
impl Sink for Tcp {
    async fn write(&mut self, batches: &[Batch]) -> Result<(), SinkError> {
        let mut stream = self.stream().await?;
        let mut text = Vec::new();
        let written = timeout(self.timeout, async {
            for batch in batches {
                for &row in &batch.rows {
                    self.encoder.encode(batch, row, &mut text);
                    text.push(b'\n');
                    if text.len() >= BUFFER_BYTES_MAX {
                        stream.write_all(&text).await?;
                        text.clear();
                    }
                }
            }
            stream.write_all(&text).await?;
            stream.flush().await
        })
        .await;
        match written {
            Ok(Ok(())) => {
                self.stream = Some(stream);
                Ok(())
            }
            // The connection is dropped: a line may be cut in it.
            Ok(Err(error)) => Err(self.retry(&format!("{}: the connection broke to", io_text(&error)))),
            Err(_) => Err(self.retry(&format!("nothing taken within {:?} by", self.timeout))),
        }
    }

    async fn close(&mut self) -> Result<(), SinkError> {
        if let Some(mut stream) = self.stream.take() {
            // The peer may be gone already.
            let _ = timeout(self.timeout, stream.shutdown()).await;
        }
        Ok(())
    }

    fn batch_events_max(&self) -> usize {
        self.batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::files::tests::{batch, context};
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
    use tokio::net::TcpListener;

    fn sink(address: &str, timeout_ms: u64) -> Box<dyn Sink> {
        let settings = serde_json::json!({
            "address": address, "format": "text", "connect": 1_000_000_000_u64,
            "timeout": timeout_ms * 1_000_000, "batch": 10,
        });
        tcp(settings.as_object().unwrap(), &context(std::path::Path::new("/nowhere"))).unwrap()
    }

    #[tokio::test]
    async fn a_broken_connection_is_made_anew() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut sink = sink(&listener.local_addr().unwrap().to_string(), 5_000);
        sink.write(&[batch(&["one", "two"])]).await.unwrap();
        let (first, _) = listener.accept().await.unwrap();
        let mut first = BufReader::new(first);
        let mut line = String::new();
        first.read_line(&mut line).await.unwrap();
        first.read_line(&mut line).await.unwrap();
        assert_eq!(line, "one\ntwo\n");
        drop(first);
        // The closing arrives in its own time: until then the peer seems to listen.
        let second = loop {
            match sink.write(&[batch(&["three"])]).await {
                Ok(()) | Err(SinkError::Retry(_)) => {}
                Err(error) => panic!("{error}"),
            }
            tokio::select! {
                biased;
                accepted = listener.accept() => break accepted.unwrap().0,
                () = tokio::task::yield_now() => {}
            }
        };
        sink.close().await.unwrap();
        let mut text = String::new();
        BufReader::new(second).read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with("three\n"), "{text}");
    }

    #[tokio::test]
    async fn nobody_there_is_tried_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let error = sink(&address, 1_000).write(&[batch(&["one"])]).await.unwrap_err();
        assert!(matches!(&error, SinkError::Retry(fault) if fault.setting == Some("address")), "{error:?}");
        assert!(error.to_string().contains("connection refused"), "{error}");
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut sink = sink(&listener.local_addr().unwrap().to_string(), 50);
        let large = "x".repeat(64 << 20);
        let error = sink.write(&[batch(&[&large])]).await.unwrap_err();
        assert!(error.to_string().starts_with("nothing taken within"), "{error}");
    }
}
