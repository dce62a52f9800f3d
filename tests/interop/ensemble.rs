//! An ensemble of one or more servers, each a process of its own: ours (this test's program, run again) or ZooKeeper
//! as Debian packs it. Both get the same settings, so that what differs is the server.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::broker::free_port;
use crate::coordinator;

/// What Debian's package brings: its manifest names all other jars. Server and command line are both in it.
pub const JAR: &str = "/usr/share/java/zookeeper.jar";

/// Without them the server is silent about what goes wrong.
const LOGGING: [&str; 2] = ["/usr/share/java/slf4j-log4j12.jar", "/usr/share/java/log4j-1.2.jar"];

/// Milliseconds of a tick: sessions last two to twenty of them.
pub const TICK_MS: u64 = 500;

/// How often containers and nodes with a TTL are looked at, in milliseconds.
pub const CONTAINER_CHECK_MS: u64 = 500;

/// `super:test`: who may do everything.
pub const SUPER_DIGEST: &str = "super:D/InIHSb7yEEbrWz8b9l71RjZJU=";

/// A server that does not serve after this long never will.
const START_PATIENCE: Duration = Duration::from_secs(90);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whose {
    Ours,
    Debian,
}

pub struct Ensemble {
    whose: Whose,
    dir: PathBuf,
    servers: Vec<Server>,
}

/// Where one server listens, and its process when it runs.
pub struct Server {
    pub id: u32,
    pub client: u16,
    /// To other servers; ZooKeeper has a second one for elections.
    pub peers: [u16; 2],
    child: Option<Child>,
}

impl Ensemble {
    /// Gives it when every server serves; or an error, and what the servers wrote.
    pub fn start(whose: Whose, size: u32, dir: &Path) -> Result<Ensemble, (String, String)> {
        let dir = dir.join(format!("{whose:?}-{size}").to_lowercase());
        let server = |id| Server { id, client: free_port(), peers: [free_port(), free_port()], child: None };
        let mut ensemble = Ensemble { whose, dir, servers: (1..=size).map(server).collect() };
        match ensemble.start_all() {
            Ok(()) => Ok(ensemble),
            Err(error) => Err((format!("{whose:?}: {error}"), ensemble.log(60))),
        }
    }

    fn start_all(&mut self) -> Result<(), String> {
        fs::create_dir_all(&self.dir).map_err(|error| error.to_string())?;
        (0..self.servers.len()).try_for_each(|at| self.spawn(at))?;
        (0..self.servers.len()).try_for_each(|at| self.await_serving(at))
    }

    /// The addresses of all servers, as clients take them.
    pub fn hosts(&self) -> String {
        let hosts: Vec<String> =
            self.servers.iter().map(|server| format!("127.0.0.1:{}", server.client)).collect();
        hosts.join(",")
    }

    /// `kill 2`, `stop 2`, `start 2` (waits until it serves), `launch 2` (does not wait), `pause 2`, `resume 2`.
    pub fn command(&mut self, command: &str) -> Result<(), String> {
        let (word, id) = command.split_once(' ').ok_or("a word and a server")?;
        let at =
            self.servers.iter().position(|server| server.id.to_string() == id).ok_or("no such server")?;
        match word {
            "launch" => self.spawn(at),
            "start" => {
                self.spawn(at)?;
                self.await_serving(at)
            }
            "stop" => self.end_one(at),
            "kill" => {
                let mut child = self.servers[at].child.take().ok_or("it does not run")?;
                child.kill().and_then(|()| child.wait()).map(drop).map_err(|error| error.to_string())
            }
            "pause" => self.signal(at, Signal::SIGSTOP),
            "resume" => self.signal(at, Signal::SIGCONT),
            _ => Err(format!("nothing is known of `{word}`")),
        }
    }

    /// Stops all; an error when one had ended by itself or does not stop well.
    pub fn end(&mut self) -> Result<(), String> {
        // All are told before one is waited for: without the others the last has nobody to agree with.
        for server in &mut self.servers {
            if let Some(child) = &mut server.child {
                if let Ok(Some(status)) = child.try_wait() {
                    return Err(format!("server {} had ended: {status}", server.id));
                }
                self.whose.ask_to_stop(child);
            }
        }
        (0..self.servers.len()).try_for_each(|at| self.end_one(at))
    }

    /// The last lines that every server wrote.
    pub fn log(&self, lines: usize) -> String {
        let mut text = String::new();
        for server in &self.servers {
            let log = crate::program::tail(&self.log_path(server.id), lines);
            text.push_str(&format!("server {}:\n{log}\n", server.id));
        }
        text
    }

    fn log_path(&self, id: u32) -> PathBuf {
        self.dir.join(format!("server-{id}.log"))
    }

    fn spawn(&mut self, at: usize) -> Result<(), String> {
        if self.servers[at].child.is_some() {
            return Err("it runs already".to_owned());
        }
        let id = self.servers[at].id;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path(id))
            .map_err(|error| error.to_string())?;
        let data = self.dir.join(format!("data-{id}"));
        let mut command = match self.whose {
            Whose::Ours => coordinator::command(id, &self.servers, &data),
            Whose::Debian => debian(id, &self.servers, &data).map_err(|error| error.to_string())?,
        };
        let child = command
            .stdin(Stdio::piped())
            .stdout(log.try_clone().map_err(|error| error.to_string())?)
            .stderr(log)
            .spawn()
            .map_err(|error| error.to_string())?;
        self.servers[at].child = Some(child);
        Ok(())
    }

    fn await_serving(&mut self, at: usize) -> Result<(), String> {
        let end = Instant::now() + START_PATIENCE;
        let server = &mut self.servers[at];
        loop {
            let ended = server.child.as_mut().map(Child::try_wait);
            if let Some(Ok(Some(status))) = ended {
                return Err(format!("server {} has ended: {status}", server.id));
            }
            if four_letters(server.client, "srvr").is_ok_and(|answer| answer.contains("Mode: ")) {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(format!("server {} does not serve", server.id));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn end_one(&mut self, at: usize) -> Result<(), String> {
        let server = &mut self.servers[at];
        let Some(mut child) = server.child.take() else { return Ok(()) };
        self.whose.ask_to_stop(&mut child);
        let status = child.wait().map_err(|error| error.to_string())?;
        // A Java that is asked to stop says 143.
        let well = status.success() || (self.whose == Whose::Debian && status.code() == Some(143));
        if well { Ok(()) } else { Err(format!("server {} did not stop well: {status}", server.id)) }
    }

    fn signal(&self, at: usize, signal: Signal) -> Result<(), String> {
        let child = self.servers[at].child.as_ref().ok_or("it does not run")?;
        kill(Pid::from_raw(child.id() as i32), signal).map_err(|error| error.to_string())
    }
}

impl Whose {
    fn ask_to_stop(self, child: &mut Child) {
        match self {
            Whose::Ours => drop(child.stdin.take()),
            Whose::Debian => drop(kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM)),
        }
    }
}

impl Drop for Ensemble {
    fn drop(&mut self) {
        for server in &mut self.servers {
            if let Some(mut child) = server.child.take() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

/// Asks for one of the four-letter words.
fn four_letters(port: u16, word: &str) -> std::io::Result<String> {
    let patience = Duration::from_secs(1);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(word.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Debian's server, with its configuration written beside the data.
fn debian(id: u32, servers: &[Server], data: &Path) -> std::io::Result<Command> {
    fs::create_dir_all(data)?;
    fs::write(data.join("myid"), id.to_string())?;
    let config = data.with_extension("cfg");
    let mut text = format!(
        "tickTime={TICK_MS}\ninitLimit=40\nsyncLimit=20\ndataDir={}\nmaxClientCnxns=0\nadmin.enableServer=false\n\
         4lw.commands.whitelist=*\nreconfigEnabled=true\n",
        data.display()
    );
    // A file with members is an ensemble of its own kind, even with one of them.
    match servers {
        [one] => text.push_str(&format!("clientPortAddress=127.0.0.1\nclientPort={}\n", one.client)),
        _ => {
            for Server { id, client, peers: [peers, election], .. } in servers {
                text.push_str(&format!(
                    "server.{id}=127.0.0.1:{peers}:{election}:participant;127.0.0.1:{client}\n"
                ));
            }
        }
    }
    // Reconfiguration rewrites it, and moves the members to a file of their own.
    if !config.exists() {
        fs::write(&config, text)?;
    }
    let logging = data.with_extension("log4j");
    fs::write(
        &logging,
        "log4j.rootLogger=WARN, OUT\nlog4j.appender.OUT=org.apache.log4j.ConsoleAppender\n\
         log4j.appender.OUT.layout=org.apache.log4j.PatternLayout\n\
         log4j.appender.OUT.layout.ConversionPattern=%d{ISO8601} %-5p %c{1} %m%n\n",
    )?;
    let mut jars = JAR.to_owned();
    if LOGGING.iter().all(|jar| Path::new(jar).exists()) {
        jars = format!("{jars}:{}", LOGGING.join(":"));
    }
    let mut command = Command::new("java");
    command
        .args(["-Xms32m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
        .arg(jars)
        .arg(format!("-Dlog4j.configuration=file:{}", logging.display()))
        .arg("-Dfile.encoding=UTF-8")
        .arg("-Dzookeeper.extendedTypesEnabled=true")
        .arg("-Dzookeeper.enforceQuota=true")
        .arg(format!("-Dznode.container.checkIntervalMs={CONTAINER_CHECK_MS}"))
        .arg(format!("-Dzookeeper.DigestAuthenticationProvider.superDigest={SUPER_DIGEST}"))
        .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
        .arg(config);
    Ok(command)
}
