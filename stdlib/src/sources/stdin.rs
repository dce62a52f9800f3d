//! `stdin`: lines of standard input. A thread of its own reads, because a read of a terminal cannot be given up.

use std::io::Read;

use async_trait::async_trait;
use flow_agent::{Context, Fault, Source, SourceError, SourceOutput, Stop, decode_settings};
use flow_plan::Settings;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::feed::{Chunk, Pump, QUEUE_CHUNKS};
use super::lines::{Cut, cut_lines};
use super::positions::plain;
use super::rows::{Stamp, now_ms};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StdinSettings {
    batch: usize,
    read: usize,
    line_max: usize,
}

type Input = Box<dyn Read + Send>;

struct Stdin {
    settings: StdinSettings,
    stamp: Stamp,
    input: Option<Input>,
}

/// Makes the source.
pub fn stdin(settings: &Settings, context: &Context) -> Result<Box<dyn Source>, Fault> {
    with_input(settings, context, Box::new(std::io::stdin()))
}

fn with_input(settings: &Settings, context: &Context, input: Input) -> Result<Box<dyn Source>, Fault> {
    let settings = decode_settings(settings)?;
    Ok(Box::new(Stdin { settings, stamp: Stamp::new(context), input: Some(input) }))
}

#[async_trait]
impl Source for Stdin {
    async fn run(&mut self, output: SourceOutput, mut stop: Stop) -> Result<(), SourceError> {
        let Some(input) = self.input.take() else { return Ok(()) };
        let (sender, chunks) = mpsc::channel(QUEUE_CHUNKS);
        let (failed, failure) = tokio::sync::oneshot::channel();
        let settings = self.settings.clone();
        std::thread::spawn(move || {
            if let Err(error) = read_lines(input, &settings, &sender) {
                // Nobody listens any more when the source has been stopped.
                let _ = failed.send(error);
            }
        });
        let pump = Pump {
            rows_max: self.settings.batch.max(1),
            linger: std::time::Duration::ZERO,
            origin_header: None,
            stamp: &self.stamp,
            finish: None,
        };
        pump.run(chunks, &output, &mut stop).await?;
        if stop.is_stopped() {
            return Ok(());
        }
        match failure.await {
            Ok(error) => {
                let fault = Fault::new(format!("cannot read standard input: {}", plain(&error)));
                Err(SourceError::Fatal(fault.code("F0804")))
            }
            Err(_) => Ok(()),
        }
    }
}

fn read_lines(mut input: Input, settings: &StdinSettings, to: &mpsc::Sender<Chunk>) -> std::io::Result<()> {
    let mut cut = Cut {
        rows_max: settings.batch.max(1),
        line_max: settings.line_max.max(1),
        at_end: false,
        crlf: false,
    };
    let mut buffer: Vec<u8> = Vec::new();
    let mut looked_at = 0;
    let mut failure = None;
    loop {
        let worth = cut.at_end
            || buffer.len() > cut.line_max
            || memchr::memchr(b'\n', &buffer[looked_at..]).is_some();
        if worth {
            let mut lines = cut_lines(&buffer, cut);
            if !lines.bodies.is_empty() {
                let rest = buffer.split_off(lines.consumed);
                let bytes = std::mem::replace(&mut buffer, rest);
                looked_at = 0;
                let bodies = std::mem::take(&mut lines.bodies);
                let chunk = Chunk { bytes, bodies, time_ms: now_ms(), origin: None };
                if to.blocking_send(chunk).is_err() {
                    return Ok(());
                }
                continue;
            }
        }
        if cut.at_end {
            return failure.map_or(Ok(()), Err);
        }
        looked_at = buffer.len();
        buffer.resize(looked_at + settings.read.max(1), 0);
        let count = loop {
            match input.read(&mut buffer[looked_at..]) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        buffer.truncate(looked_at + *count.as_ref().unwrap_or(&0));
        // After a failure, too, what has come is delivered.
        cut.at_end = !matches!(count, Ok(count) if count > 0);
        failure = count.err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::testing::{Collector, Mode, Running, context, settings};
    use serde_json::json;
    use std::path::Path;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn reads_to_the_end_and_ends() {
        let settings = settings(json!({"batch": 2, "read": 7, "line_max": 1 << 20}), json!({}));
        let input = b"one\n\n\xff\xfe two\nthree".as_slice();
        let source = with_input(&settings, &context(Path::new("/nowhere")), Box::new(input)).unwrap();
        let flow = Collector::new(Mode::Deliver);
        Running::start(source, &flow).ended().await.unwrap();
        let seen = flow.seen();
        let bodies: Vec<&[u8]> = seen.rows.iter().map(|row| row.body.as_slice()).collect();
        assert_eq!(bodies, [&b"one"[..], b"", b"\xff\xfe two", b"three"]);
        assert!(seen.batch_rows_max <= 2);
    }

    /// Gives some bytes, then an end that is none.
    struct Failing(&'static [u8], std::io::ErrorKind);

    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if self.0.is_empty() { Err(self.1.into()) } else { self.0.read(buffer) }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_closed_pipe_is_the_end_and_a_failure_is_a_fault_after_what_was_read() {
        let all = settings(json!({"batch": 2, "read": 7, "line_max": 1 << 20}), json!({}));
        let place = context(Path::new("/nowhere"));
        let flow = Collector::new(Mode::Deliver);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(writer);
        let source = with_input(&all, &place, Box::new(reader)).unwrap();
        Running::start(source, &flow).ended().await.unwrap();
        assert!(flow.seen().rows.is_empty());
        let (reader, mut writer) = std::io::pipe().unwrap();
        let source = Running::start(with_input(&all, &place, Box::new(reader)).unwrap(), &flow);
        std::io::Write::write_all(&mut writer, b"one\ntw").unwrap();
        flow.until_rows(1).await;
        drop(writer);
        source.ended().await.unwrap();
        assert_eq!(flow.seen().texts(), ["one", "tw"]);
        let input = Failing(b"three\nfour", std::io::ErrorKind::PermissionDenied);
        let source = with_input(&all, &place, Box::new(input)).unwrap();
        let Err(SourceError::Fatal(fault)) = Running::start(source, &flow).ended().await else {
            panic!("no fault")
        };
        assert_eq!(
            (fault.code, fault.message.as_str()),
            (Some("F0804"), "cannot read standard input: permission denied")
        );
        assert_eq!(flow.seen().texts()[2..], ["three", "four"]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_stop_does_not_wait_for_a_terminal() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let settings = settings(json!({"batch": 2, "read": 7, "line_max": 1 << 20}), json!({}));
        let source = with_input(&settings, &context(Path::new("/nowhere")), Box::new(reader)).unwrap();
        let flow = Collector::new(Mode::Deliver);
        let source = Running::start(source, &flow);
        flow.until("waiting", |seen| seen.idle > 0).await;
        source.stop().await.unwrap();
    }
}
