//! Ensembles of ours and of Debian's ZooKeeper, as child processes with data on the disk of the build.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use flow_coordinator::network::World;
use flow_coordinator::replica::Member;
use flow_coordinator::server::{Coordinator, CoordinatorConfig};

/// The first argument of the process that is one of our servers.
pub const COMMAND: &str = "be-a-coordinator";

const JAR: &str = "/usr/share/java/zookeeper.jar";

/// Milliseconds of a tick, for both.
const TICK_MS: u64 = 2000;

/// A server that does not serve after this long never will: a million znodes are read in half a minute.
const START_PATIENCE: Duration = Duration::from_secs(180);

#[derive(Clone, Copy, PartialEq)]
pub enum Whose {
    Ours,
    Debian,
}

impl Whose {
    pub fn name(self) -> &'static str {
        match self {
            Whose::Ours => "flowc",
            Whose::Debian => "ZooKeeper",
        }
    }
}

/// Why there is nothing to compare with, if there is not.
pub fn reference_is_missing() -> Option<String> {
    if !Path::new(JAR).exists() {
        return Some(format!("there is no {JAR} (tests/interop/setup.sh installs it)"));
    }
    let java = Command::new("java").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    (!java.is_ok_and(|status| status.success())).then(|| "there is no java".to_owned())
}

pub struct Ensemble {
    whose: Whose,
    dir: tempfile::TempDir,
    servers: Vec<Server>,
    ports: Vec<u16>,
}

struct Server {
    id: u32,
    client: u16,
    peers: [u16; 2],
    child: Option<Child>,
}

impl Ensemble {
    pub fn start(whose: Whose, size: u32) -> Result<Ensemble, String> {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).map_err(|error| error.to_string())?;
        let ports = free_ports(3 * size as usize).map_err(|error| error.to_string())?;
        let server = |(id, ports): (u32, &[u16])| Server {
            id,
            client: ports[0],
            peers: [ports[1], ports[2]],
            child: None,
        };
        let servers: Vec<Server> = (1..=size).zip(ports.chunks(3)).map(server).collect();
        let ports = servers.iter().map(|server| server.client).collect();
        let mut ensemble = Ensemble { whose, dir, servers, ports };
        for at in 0..ensemble.servers.len() {
            ensemble.launch(at)?;
        }
        ensemble.await_serving()?;
        Ok(ensemble)
    }

    pub fn whose(&self) -> Whose {
        self.whose
    }

    /// Of the clients.
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    pub fn launch(&mut self, at: usize) -> Result<(), String> {
        let Server { id, .. } = self.servers[at];
        let log = self.dir.path().join(format!("server-{id}.log"));
        let log = File::options().create(true).append(true).open(log).map_err(|error| error.to_string())?;
        let data = self.dir.path().join(format!("data-{id}"));
        let command = match self.whose {
            Whose::Ours => self.ours(id, &data),
            Whose::Debian => self.debian(id, &data),
        };
        let child = command
            .and_then(|mut command| {
                command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log).spawn()
            })
            .map_err(|error| error.to_string())?;
        self.servers[at].child = Some(child);
        Ok(())
    }

    /// `kill -9`.
    pub fn kill(&mut self, at: usize) -> Result<(), String> {
        let mut child = self.servers[at].child.take().ok_or("it does not run")?;
        child.kill().and_then(|()| child.wait()).map(drop).map_err(|error| error.to_string())
    }

    /// Waits until every server serves.
    pub fn await_serving(&self) -> Result<(), String> {
        let end = Instant::now() + START_PATIENCE;
        for server in &self.servers {
            while mode(server.client).is_none() {
                if Instant::now() > end {
                    let log = self.dir.path().join(format!("server-{}.log", server.id));
                    let log = fs::read_to_string(log).unwrap_or_default();
                    return Err(format!(
                        "server {} of {} does not serve:\n{log}",
                        server.id,
                        self.whose.name()
                    ));
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }

    /// Which server leads.
    pub fn leader(&self) -> Option<usize> {
        self.ports.iter().position(|&port| mode(port).as_deref() == Some("leader"))
    }

    /// Processor time that all servers have used since they started, in microseconds.
    pub fn cpu_us(&self) -> u64 {
        // What the kernel counts in; 100 Hz on every Linux that one meets.
        const TICK_US: u64 = 10_000;
        let ticks = self.each("stat", |text| {
            // The name, in brackets, may have blanks.
            let fields: Vec<&str> = text.rsplit(')').next()?.split_whitespace().collect();
            Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
        });
        ticks * TICK_US
    }

    /// The most memory that one server has had, in megabytes.
    pub fn peak_mb(&self) -> f64 {
        self.each("status", |text| kilobytes(text, "VmHWM:")) as f64 / 1024.0 / self.servers.len() as f64
    }

    pub fn resident_mb(&self) -> f64 {
        self.each("status", |text| kilobytes(text, "VmRSS:")) as f64 / 1024.0 / self.servers.len() as f64
    }

    fn each(&self, file: &str, value: impl Fn(&str) -> Option<u64>) -> u64 {
        let ids = self.servers.iter().filter_map(|server| server.child.as_ref()).map(Child::id);
        let texts = ids.filter_map(|id| fs::read_to_string(format!("/proc/{id}/{file}")).ok());
        texts.filter_map(|text| value(&text)).sum()
    }

    fn ours(&self, id: u32, data: &Path) -> io::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(COMMAND).arg(id.to_string()).arg(data);
        command.args(self.servers.iter().map(|one| format!("{}={},{}", one.id, one.peers[0], one.client)));
        Ok(command)
    }

    fn debian(&self, id: u32, data: &Path) -> io::Result<Command> {
        fs::create_dir_all(data)?;
        fs::write(data.join("myid"), id.to_string())?;
        let config: PathBuf = data.with_extension("cfg");
        let own = self.servers.iter().find(|one| one.id == id).expect("one of ours").client;
        let mut text = format!(
            "tickTime={TICK_MS}\ninitLimit=60\nsyncLimit=10\ndataDir={}\nmaxClientCnxns=0\nadmin.enableServer=false\n\
             4lw.commands.whitelist=*\nclientPortAddress=127.0.0.1\nclientPort={own}\n",
            data.display()
        );
        if self.servers.len() > 1 {
            for Server { id, peers: [peers, election], .. } in &self.servers {
                text.push_str(&format!("server.{id}=127.0.0.1:{peers}:{election}\n"));
            }
        }
        fs::write(&config, text)?;
        let mut command = Command::new("java");
        command.args(["-Xmx3g", "-cp", JAR, "org.apache.zookeeper.server.quorum.QuorumPeerMain"]).arg(config);
        Ok(command)
    }
}

impl Drop for Ensemble {
    fn drop(&mut self) {
        for at in 0..self.servers.len() {
            let _ = self.kill(at);
        }
    }
}

fn kilobytes(text: &str, field: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(field))?.split_whitespace().next()?.parse().ok()
}

/// `leader`, `follower`, `standalone`; nothing while it does not serve.
fn mode(port: u16) -> Option<String> {
    let patience = Duration::from_secs(2);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, patience).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    stream.write_all(b"srvr").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.lines().find_map(|line| line.strip_prefix("Mode: ")).map(str::to_owned)
}

/// All are held until all are known, so that none comes twice.
fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let held: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<io::Result<_>>()?;
    held.iter().map(|one| one.local_addr().map(|address| address.port())).collect()
}

/// The process that is one of our servers: runs until it is killed.
pub fn serve(arguments: &[String]) -> ExitCode {
    let [id, data, members @ ..] = arguments else { panic!("number, directory and members are missing") };
    let members: Vec<Member> = members.iter().map(|text| member(text).expect("a member")).collect();
    let mut config = match &members[..] {
        [one] => CoordinatorConfig::standalone(one.client_address.clone(), data.into()),
        _ => CoordinatorConfig::new(id.parse().expect("a number"), members, data.into()),
    };
    config.replica.tick_ms = TICK_MS;
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        match Coordinator::start(config, World::real()).await {
            Ok(_coordinator) => std::future::pending().await,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        }
    })
}

/// `ID=PEERS,CLIENTS`, two ports.
fn member(text: &str) -> Option<Member> {
    let (id, ports) = text.split_once('=')?;
    let (peers, clients) = ports.split_once(',')?;
    let address = |port: &str| format!("127.0.0.1:{port}");
    Some(Member {
        id: id.parse().ok()?,
        peer_address: address(peers),
        client_address: address(clients),
        observer: false,
    })
}
