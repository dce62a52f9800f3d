//! The broker as a process of its own, so that it can be killed: this test's program, run again.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use flow_broker::{AuthorizerConfig, Broker as Running, BrokerConfig, ListenerConfig, TlsConfig, UserConfig};

/// The first argument of the process that is the broker.
pub const COMMAND: &str = "be-a-broker";

/// Ports are taken below the range that systems take for outgoing connections: there a client that connects again and
/// again to a broker that is down can end up connected to itself.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    /// One listener, everybody may do everything.
    Plain,
    /// A listener with SASL and one with SASL over TLS, users, an authorizer.
    Secure,
}

pub struct Broker {
    kind: Kind,
    dir: PathBuf,
    ports: [u16; 2],
    child: Option<Child>,
}

impl Broker {
    pub fn start(kind: Kind, dir: &Path) -> Result<Broker, String> {
        let mut broker = Broker { kind, dir: dir.to_owned(), ports: [free_port(), free_port()], child: None };
        broker.spawn()?;
        Ok(broker)
    }

    pub fn environment(&self) -> [(&'static str, String); 2] {
        [
            ("FLOW_INTEROP_BROKER", format!("127.0.0.1:{}", self.ports[0])),
            ("FLOW_INTEROP_TLS", format!("127.0.0.1:{}", self.ports[1])),
        ]
    }

    /// `stop`, `kill` or `start`.
    pub fn command(&mut self, command: &str) -> Result<(), String> {
        match command {
            "start" => self.spawn(),
            "stop" => self.end(),
            "kill" => {
                let mut child = self.child.take().ok_or("it does not run")?;
                child.kill().and_then(|()| child.wait()).map(drop).map_err(|error| error.to_string())
            }
            _ => Err(format!("nothing is known of `{command}`")),
        }
    }

    fn spawn(&mut self) -> Result<(), String> {
        if self.child.is_some() {
            return Err("it runs already".to_owned());
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join("broker.log"))
            .map_err(|error| error.to_string())?;
        let mut child = Command::new(std::env::current_exe().map_err(|error| error.to_string())?)
            .args([COMMAND, if self.kind == Kind::Secure { "secure" } else { "plain" }])
            .arg(self.dir.join("data"))
            .args(self.ports.map(|port| port.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut line = String::new();
        let read = BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line);
        if read.is_err() || line.trim() != "ready" {
            let _ = child.kill();
            let _ = child.wait();
            return Err("the broker does not start".to_owned());
        }
        self.child = Some(child);
        Ok(())
    }

    /// Stops it cleanly; an error when it had ended by itself or says that something went wrong.
    pub fn end(&mut self) -> Result<(), String> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("the broker had ended: {status}"));
        }
        drop(child.stdin.take());
        match child.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("the broker did not stop well: {status}")),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A certificate for `localhost` and 127.0.0.1, its key and who signed it.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("stdlib/src/sinks/http/fixtures").join(name)
}

pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let width = PORTS.end - PORTS.start;
    let first = (std::process::id() % u32::from(width)) as u16;
    for _ in 0..width {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + (first + step % width) % width;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free in {PORTS:?}");
}

/// The process that is the broker: runs until its standard input ends, then stops cleanly.
pub fn serve(arguments: &[String]) -> ExitCode {
    let [kind, data, ports @ ..] = arguments else { panic!("kind, directory and ports are missing") };
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let ports: Vec<u16> = ports.iter().map(|port| port.parse().expect("a port")).collect();
    let config = config(kind == "secure", Path::new(data), &ports);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let broker = match Running::start(config).await {
            Ok(broker) => broker,
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        };
        println!("ready");
        let wait = || std::io::stdin().read_to_end(&mut Vec::new());
        let _ = tokio::task::spawn_blocking(wait).await;
        broker.shutdown().await;
        ExitCode::SUCCESS
    })
}

fn config(secure: bool, data: &Path, ports: &[u16]) -> BrokerConfig {
    let listener = |port: u16| ListenerConfig::new(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let mut config = BrokerConfig::new(data);
    config.listeners = vec![listener(ports[0])];
    if secure {
        let tls = TlsConfig {
            certificate: fixture("localhost.pem"),
            private_key: fixture("localhost.key.pem"),
            client_ca: None,
        };
        config.listeners.push(ListenerConfig {
            name: "tls".to_owned(),
            tls: Some(tls),
            ..listener(ports[1])
        });
        let user = |name: &str| UserConfig { name: name.to_owned(), password: format!("{name}-secret") };
        config.users = vec![user("admin"), user("alice")];
        config.authorizer = Some(AuthorizerConfig {
            super_users: vec!["User:admin".to_owned()],
            allow_everyone_without_acl: false,
        });
    }
    config
}
