//! `syslog`: messages by UDP or TCP, taken apart into headers. A message that makes no sense goes through as it
//! came.

use async_trait::async_trait;
use flow_agent::{Context, Fault, Source, SourceError, SourceOutput, Stop, decode_settings};
use flow_plan::batch::Columns;
use flow_plan::settings::{Duration, Settings};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::feed::{Pump, QUEUE_CHUNKS};
use super::lines::Cut;
use super::listen::{Held, bind_tcp, bind_udp, parse_address};
use super::rows::{HeaderTarget, Stamp};
use super::tcp::{Connections, UNFINISHED_BYTES_MAX};
use super::udp::Datagrams;
use crate::functions::syslog::{Message, parse};

/// Structured data that become headers, at most; the others stay in the body when it is `raw`.
const PARAMS_MAX: usize = 64;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SyslogSettings {
    listen: String,
    format: Format,
    body: Body,
    time: Time,
    zone: Option<String>,
    structured: bool,
    batch: usize,
    linger: Duration,
    line_max: usize,
    queue: usize,
    buffer: Option<usize>,
    connections_max: usize,
    idle: Duration,
    peer_header: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Format {
    Auto,
    Rfc3164,
    Rfc5424,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Body {
    Message,
    Raw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Time {
    Message,
    Arrival,
}

struct Syslog {
    settings: SyslogSettings,
    socket: Socket,
    reader: MessageReader,
    peer_header: Option<HeaderTarget>,
    stamp: Stamp,
}

enum Socket {
    Tcp(Held<std::net::TcpListener>),
    Udp(Held<std::net::UdpSocket>),
}

/// Makes the source.
pub fn syslog(settings: &Settings, context: &Context) -> Result<Box<dyn Source>, Fault> {
    Ok(Box::new(new(settings, context)?))
}

fn new(settings: &Settings, context: &Context) -> Result<Syslog, Fault> {
    let settings: SyslogSettings = decode_settings(settings)?;
    let address = parse_address(&settings.listen, "listen")?;
    let tcp = match address.scheme.as_deref() {
        None | Some("udp") => false,
        Some("tcp") => true,
        Some(other) => {
            return Err(Fault::new(format!("`{other}` is no transport of syslog"))
                .setting("listen")
                .help("write `udp://:5514` or `tcp://:5514`"));
        }
    };
    let zone = match &settings.zone {
        None => TimeZone::system(),
        Some(name) => TimeZone::get(name).map_err(|_| {
            Fault::new(format!("there is no time zone `{name}`"))
                .setting("zone")
                .help("`Europe/Paris`, `UTC`")
        })?,
    };
    let header = |name| HeaderTarget::new(name, context);
    let reader = MessageReader {
        format: settings.format,
        body: settings.body,
        time: settings.time,
        zone,
        structured: settings.structured,
        context: context.clone(),
        facility: header("facility"),
        severity: header("severity"),
        host: header("host"),
        app: header("app"),
        pid: header("pid"),
        msg_id: header("msg_id"),
        error: header("syslog_error"),
    };
    let peer_header = HeaderTarget::optional(&settings.peer_header, context);
    let socket = if tcp {
        Socket::Tcp(bind_tcp(&address, "listen")?)
    } else {
        Socket::Udp(bind_udp(&address, "listen", settings.buffer)?)
    };
    Ok(Syslog { settings, socket, reader, peer_header, stamp: Stamp::new(context) })
}

#[async_trait]
impl Source for Syslog {
    async fn run(&mut self, output: SourceOutput, mut stop: Stop) -> Result<(), SourceError> {
        let settings = &self.settings;
        let reader = &self.reader;
        let finish = |columns| reader.apply(columns);
        let rows_max = settings.batch.max(1);
        let listener = match &mut self.socket {
            Socket::Tcp(listener) => listener.take()?,
            Socket::Udp(socket) => {
                let socket = socket.take()?;
                let datagrams = Datagrams {
                    rows_max,
                    linger: settings.linger.std(),
                    queue_bytes: settings.queue,
                    split: false,
                    peer_header: self.peer_header.clone(),
                    stamp: &self.stamp,
                    finish: Some(&finish),
                };
                return datagrams.run(socket, &output, stop).await;
            }
        };
        let connections = Connections {
            cut: Cut { rows_max, line_max: settings.line_max.max(1), at_end: false, crlf: true },
            counted_frames: true,
            connections_max: settings.connections_max,
            idle: settings.idle.std(),
            unfinished_max: UNFINISHED_BYTES_MAX,
        };
        let (sender, chunks) = mpsc::channel(QUEUE_CHUNKS);
        let pump = Pump {
            rows_max,
            linger: settings.linger.std(),
            origin_header: self.peer_header.clone(),
            stamp: &self.stamp,
            finish: Some(&finish),
        };
        let accepting = connections.run(listener, sender, output.clone(), stop.clone());
        let (accepted, pumped) = tokio::join!(accepting, pump.run(chunks, &output, &mut stop));
        accepted.and(pumped)
    }
}

/// Takes the bodies of a batch apart.
struct MessageReader {
    format: Format,
    body: Body,
    time: Time,
    zone: TimeZone,
    structured: bool,
    context: Context,
    facility: HeaderTarget,
    severity: HeaderTarget,
    host: HeaderTarget,
    app: HeaderTarget,
    pid: HeaderTarget,
    msg_id: HeaderTarget,
    error: HeaderTarget,
}

/// Headers of a message before they are in the arena.
type Found = Vec<(HeaderTarget, Vec<u8>)>;

impl MessageReader {
    fn apply(&self, mut columns: Columns) -> Columns {
        for row in 0..columns.bodies.len() as u32 {
            let range = columns.bodies[row as usize];
            let arrived_ms = columns.times[row as usize];
            let bytes = columns.arena.get(range).unwrap_or_default();
            let mut found = Found::new();
            match self.read(bytes, arrived_ms) {
                Ok(message) => {
                    self.headers(&message, &mut found);
                    if self.time == Time::Message
                        && let Some(time_ms) = self.time_ms(&message, bytes)
                    {
                        columns.times[row as usize] = time_ms;
                    }
                    if self.body == Body::Message {
                        // The message is a part of the line, so its place is, too.
                        let start = (message.message.as_ptr() as usize).wrapping_sub(bytes.as_ptr() as usize);
                        let len = message.message.len();
                        if start.checked_add(len).is_some_and(|end| end <= bytes.len()) {
                            columns.bodies[row as usize] =
                                flow_plan::Range::new(range.start as usize + start, len);
                        }
                    }
                }
                Err(error) => found.push((self.error.clone(), error.into_bytes())),
            }
            for (header, value) in found {
                // A full arena takes no more headers; the message itself is there.
                if let Ok(value) = columns.arena.push(&value) {
                    header.set(&mut columns, row, value);
                }
            }
        }
        columns
    }

    fn read<'a>(&self, bytes: &'a [u8], now_ms: i64) -> Result<Message<'a>, String> {
        // The reason leaves the line itself out: it is the body.
        let message = parse(bytes, now_ms).map_err(|error| {
            error
                .message
                .rsplit_once("is not syslog: ")
                .map_or(error.message.as_str(), |(_, why)| why)
                .to_owned()
        })?;
        match (self.format, message.version) {
            (Format::Rfc3164, Some(_)) => Err("it is of RFC 5424".to_owned()),
            (Format::Rfc5424, None) => Err("it is not of RFC 5424".to_owned()),
            _ => Ok(message),
        }
    }

    /// The time of a message. One without a zone was read as UTC and is moved to the zone of the setting.
    fn time_ms(&self, message: &Message<'_>, bytes: &[u8]) -> Option<i64> {
        let time_ms = message.time_ms?;
        let after_priority = match bytes.strip_prefix(b"<") {
            Some(rest) => rest.iter().position(|byte| *byte == b'>').map_or(rest, |end| &rest[end + 1..]),
            None => bytes,
        };
        if message.version.is_some() || !after_priority.first().is_some_and(u8::is_ascii_alphabetic) {
            return Some(time_ms);
        }
        let civil = TimeZone::UTC.to_datetime(Timestamp::from_millisecond(time_ms).ok()?);
        Some(self.zone.to_timestamp(civil).ok()?.as_millisecond())
    }

    fn headers(&self, message: &Message<'_>, found: &mut Found) {
        let known = [
            (&self.facility, message.facility().map(str::as_bytes)),
            (&self.severity, message.severity().map(str::as_bytes)),
            (&self.host, message.host),
            (&self.app, message.app),
            (&self.pid, message.pid),
            (&self.msg_id, message.msg_id),
        ];
        let known = known.into_iter().filter_map(|(header, value)| Some((header.clone(), value?.to_vec())));
        found.extend(known);
        if self.structured {
            let params =
                message.data.iter().flat_map(|(id, params)| params.iter().map(move |param| (id, param)));
            for (id, (name, value)) in params.take(PARAMS_MAX) {
                let name = format!("{}.{}", String::from_utf8_lossy(id), String::from_utf8_lossy(name));
                found.push((HeaderTarget::new(&name, &self.context), value.to_vec()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::testing::{Collector, Mode, Running, context, settings};
    use serde_json::{Value, json};
    use std::path::Path;
    use std::sync::Arc;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpStream, UdpSocket};

    async fn start(flow: &Arc<Collector>, changes: Value) -> (Running, std::net::SocketAddr) {
        let defaults = json!({"listen": ":0", "format": "auto", "body": "message", "time": "message",
            "zone": "Europe/Paris", "structured": true, "batch": 1000, "linger": 0, "line_max": 1 << 20,
            "queue": 1 << 20, "buffer": null, "connections_max": 10, "idle": 60_000_000_000u64, "peer_header": null});
        let source = new(&settings(defaults, changes), &context(Path::new("/nowhere"))).unwrap();
        let address = match &source.socket {
            Socket::Tcp(listener) => listener.address(),
            Socket::Udp(socket) => socket.address(),
        };
        (Running::start(Box::new(source), flow), address)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn messages_by_udp() {
        let flow = Collector::new(Mode::Deliver);
        let (source, address) = start(&flow, json!({})).await;
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let messages: [&[u8]; 4] = [
            b"<165>1 2026-03-01T10:00:00.003Z web01 shop 17 ID47 [ex@1 a=\"1\" b=\"x\\\"y\"] hello",
            b"<34>Oct 11 22:14:15 mymachine su[230]: failed for lonvick",
            b"\xff\xfe not syslog",
            b"<999>1 what",
        ];
        for message in messages {
            client.send_to(message, address).await.unwrap();
        }
        flow.until_rows(4).await;
        source.stop().await.unwrap();
        let seen = flow.seen();
        let row = &seen.rows[0];
        assert_eq!(row.text(), "hello");
        assert_eq!(row.time_ms, 1_772_359_200_003);
        for (name, value) in [
            ("facility", "local4"),
            ("severity", "notice"),
            ("host", "web01"),
            ("app", "shop"),
            ("pid", "17"),
            ("msg_id", "ID47"),
            ("ex@1.a", "1"),
            ("ex@1.b", "x\"y"),
        ] {
            assert_eq!(row.header(name), value, "{name}");
        }
        let row = &seen.rows[1];
        assert_eq!((row.text().as_str(), row.header("host")), ("failed for lonvick", "mymachine"));
        // 22:14:15 in Paris in October is 20:14:15 UTC.
        assert_eq!(row.time_ms / 1000 % 86_400, 20 * 3600 + 14 * 60 + 15);
        for (row, message) in seen.rows[2..].iter().zip(&messages[2..]) {
            assert_eq!(row.body, *message, "goes through unchanged");
            assert!(!row.header("syslog_error").is_empty());
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn messages_by_tcp_in_both_framings() {
        let flow = Collector::new(Mode::Deliver);
        let changes = json!({"listen": "tcp://127.0.0.1:0", "body": "raw", "time": "arrival"});
        let (source, address) = start(&flow, changes).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"<13>first\n10 <13>a\nline<13>la").await.unwrap();
        client.write_all(b"st\n").await.unwrap();
        flow.until_rows(3).await;
        source.stop().await.unwrap();
        assert_eq!(flow.seen().texts(), ["<13>first", "<13>a\nline", "<13>last"]);
        assert_eq!(flow.seen().rows[1].header("severity"), "notice");
    }

    #[test]
    fn a_wrong_transport_or_zone_is_a_fault_of_its_setting() {
        let all = json!({"listen": "http://:1", "format": "auto", "body": "message", "time": "message",
            "zone": null, "structured": true, "batch": 1000, "linger": 0, "line_max": 1 << 20,
            "queue": 1 << 20, "buffer": null, "connections_max": 10, "idle": 1, "peer_header": null});
        let make = |changes| new(&settings(all.clone(), changes), &context(Path::new("/nowhere")));
        assert_eq!(make(json!({})).err().unwrap().setting, Some("listen"));
        let zone = json!({"listen": ":1", "zone": "Nowhere/Land"});
        assert_eq!(make(zone).err().unwrap().setting, Some("zone"));
    }
}
