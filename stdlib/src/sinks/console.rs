//! The `console` sink: events on standard output or standard error, one a line.
//!
//! Writing may block: the host runs sinks so that other parts move on meanwhile. A terminal never gets bytes that it
//! would obey; a pipe or file gets the bodies as they are. A reader that goes away is [`SinkError::Closed`]: the
//! flow ends there, and that is no failure.

use std::io::{ErrorKind, IsTerminal, Write};

use async_trait::async_trait;
use flow_agent::{Context, Fault, Sink, SinkError, decode_settings};
use flow_plan::{Batch, Settings};
use serde::Deserialize;

use super::encode::{Encoder, Format};
use super::fault::io_text;

/// Bytes gathered before they are written.
const BUFFER_BYTES_MAX: usize = 64 << 10;

/// Makes a `console` sink.
pub fn console(settings: &Settings, context: &Context) -> Result<Box<dyn Sink>, Fault> {
    let settings: ConsoleSettings = decode_settings(settings)?;
    let (output, terminal): (Box<dyn Write + Send>, bool) = match settings.target {
        Target::Stdout => (Box::new(std::io::stdout()), std::io::stdout().is_terminal()),
        Target::Stderr => (Box::new(std::io::stderr()), std::io::stderr().is_terminal()),
    };
    Ok(Box::new(Console {
        lines: Lines {
            encoder: Encoder::new(settings.format, context.slots.clone()),
            cut: settings.limit.filter(|_| settings.format != Format::Json),
            terminal,
        },
        output,
        batch: settings.batch,
        buffer: Vec::new(),
        row: Vec::new(),
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConsoleSettings {
    format: Format,
    target: Target,
    limit: Option<u64>,
    batch: usize,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Target {
    Stdout,
    Stderr,
}

struct Console {
    lines: Lines,
    output: Box<dyn Write + Send>,
    batch: usize,
    buffer: Vec<u8>,
    row: Vec<u8>,
}

impl Console {
    fn write_batches(&mut self, batches: &[Batch]) -> Result<(), std::io::Error> {
        self.buffer.clear();
        for batch in batches {
            for &row in &batch.rows {
                self.lines.push(batch, row, &mut self.row, &mut self.buffer);
                if self.buffer.len() >= BUFFER_BYTES_MAX {
                    self.output.write_all(&self.buffer)?;
                    self.buffer.clear();
                }
            }
        }
        self.output.write_all(&self.buffer)?;
        self.output.flush()
    }
}

#[async_trait]
impl Sink for Console {
    async fn write(&mut self, batches: &[Batch]) -> Result<(), SinkError> {
        self.write_batches(batches).map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => SinkError::Closed(Fault::new("the reader of the output has gone away")),
            _ => SinkError::Retry(
                Fault::new(format!("cannot write to the terminal: {}", io_text(&error))).setting("target"),
            ),
        })
    }

    fn batch_events_max(&self) -> usize {
        self.batch
    }
}

/// How events are shown.
struct Lines {
    encoder: Encoder,
    /// Bytes of the longest line shown.
    cut: Option<u64>,
    terminal: bool,
}

impl Lines {
    /// Appends an event as a line.
    fn push(&self, batch: &Batch, row: u32, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
        scratch.clear();
        self.encoder.encode(batch, row, scratch);
        let mut line = scratch.as_slice();
        let mut cut = false;
        if let Some(bytes_max) = self.cut
            && line.len() as u64 > bytes_max
        {
            let mut end = bytes_max as usize;
            // Not through the middle of a character: at most three bytes back.
            while end > 0 && bytes_max as usize - end < 3 && (line[end] & 0xc0) == 0x80 {
                end -= 1;
            }
            line = &line[..end];
            cut = true;
        }
        if self.terminal {
            escape(line, out);
        } else {
            out.extend_from_slice(line);
        }
        if cut {
            out.extend_from_slice("…".as_bytes());
        }
        out.push(b'\n');
    }
}

/// Writes what a terminal would obey, and what is no UTF-8, as `\x1b` or `\u{202e}`.
fn escape(line: &[u8], out: &mut Vec<u8>) {
    for chunk in line.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '\t' | ' '..='~' => out.push(char as u8),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                char if char.is_control() && char.is_ascii() => {
                    out.extend_from_slice(format!("\\x{:02x}", char as u32).as_bytes());
                }
                // Control characters beyond ASCII, and those that turn the direction of writing.
                char if char.is_control()
                    || matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
                {
                    out.extend_from_slice(format!("\\u{{{:x}}}", char as u32).as_bytes());
                }
                char => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for byte in chunk.invalid() {
            out.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow_plan::batch::Columns;
    use std::sync::Arc;

    fn shown(body: &[u8], cut: Option<u64>, terminal: bool) -> String {
        let mut columns = Columns::default();
        columns.push(body, 0).unwrap();
        let lines = Lines { encoder: Encoder::new(Format::Text, Arc::default()), cut, terminal };
        let (mut row, mut out) = (Vec::new(), Vec::new());
        lines.push(&Batch::new(columns), 0, &mut row, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn a_terminal_gets_nothing_that_it_would_obey() {
        let hostile = b"\x1b]0;owned\x07 a\r\n\xff\xc2\x9b2J \xe2\x80\xae caf\xc3\xa9\tx\x7f";
        assert_eq!(
            shown(hostile, None, true),
            "\\x1b]0;owned\\x07 a\\r\\n\\xff\\u{9b}2J \\u{202e} café\tx\\x7f\n"
        );
    }

    #[test]
    fn a_pipe_gets_the_bytes_as_they_are() {
        let mut columns = Columns::default();
        columns.push(b"\x1b\xff", 0).unwrap();
        let lines = Lines { encoder: Encoder::new(Format::Text, Arc::default()), cut: None, terminal: false };
        let (mut row, mut out) = (Vec::new(), Vec::new());
        lines.push(&Batch::new(columns), 0, &mut row, &mut out);
        assert_eq!(out, b"\x1b\xff\n");
    }

    #[test]
    fn a_long_body_is_cut_between_characters() {
        assert_eq!(shown("abcdé".as_bytes(), Some(5), true), "abcd…\n");
        assert_eq!(shown(b"abcde", Some(5), true), "abcde\n");
        assert_eq!(shown(b"abcdef", Some(0), true), "…\n");
    }

    /// Takes some bytes and then is closed.
    struct Closed(usize);

    impl Write for Closed {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.0 == 0 {
                return Err(ErrorKind::BrokenPipe.into());
            }
            self.0 -= 1;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_reader_that_goes_away_is_fatal_without_a_code() {
        let mut columns = Columns::default();
        columns.push(b"x", 0).unwrap();
        let batches = [Batch::new(columns)];
        let lines = Lines { encoder: Encoder::new(Format::Text, Arc::default()), cut: None, terminal: false };
        let mut console =
            Console { lines, output: Box::new(Closed(1)), batch: 10, buffer: Vec::new(), row: Vec::new() };
        console.write(&batches).await.unwrap();
        let error = console.write(&batches).await.unwrap_err();
        assert!(matches!(&error, SinkError::Closed(_)), "{error:?}");
    }
}
