//! The running program as its operator meets it: what was confirmed is there after `kill -9`, faults are told with
//! their place, several agents run in one process, and the end says what became of the events.

#[path = "support/process.rs"]
#[allow(dead_code, reason = "only a part of it is needed")]
mod process;

use std::collections::HashSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use process::{Running, finish, flowc, wait_until};

/// A directory with `x.flow`.
fn project(flow: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("x.flow"), flow).unwrap();
    home
}

fn command(home: &Path) -> Command {
    let mut command = flowc(home);
    command.current_dir(home).args(["run", "x.flow"]);
    command
}

/// Runs with what it says on stderr in `said`.
fn start(home: &Path) -> Running {
    let said = fs::File::create(home.join("said")).unwrap();
    Running(command(home).stdout(std::process::Stdio::null()).stderr(said).spawn().unwrap())
}

fn said(home: &Path) -> String {
    fs::read_to_string(home.join("said")).unwrap_or_default()
}

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Posts a body and gives the status; `None` when there is nobody or the answer does not come.
fn post(port: u16, body: &str) -> Option<u16> {
    let mut stream =
        TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), patience()).ok()?;
    stream.set_read_timeout(Some(patience())).ok()?;
    let length = body.len();
    let head = format!("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all((head + body).as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

fn patience() -> Duration {
    Duration::from_secs(20)
}

/// An HTTP server that takes bodies when it is told to, and answers 503 otherwise.
struct Destination {
    port: u16,
    open: Arc<AtomicBool>,
    taken: Arc<std::sync::Mutex<Vec<String>>>,
}

impl Destination {
    fn start() -> Destination {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (open, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(std::sync::Mutex::new(Vec::new())));
        let (is_open, into) = (open.clone(), taken.clone());
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = answer(stream, &is_open, &into);
            }
        });
        Destination { port, open, taken }
    }

    fn lines(&self) -> Vec<String> {
        self.taken.lock().unwrap().clone()
    }
}

/// One request of a connection.
fn answer(
    mut stream: TcpStream,
    open: &AtomicBool,
    taken: &std::sync::Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    let body = loop {
        let count = stream.read(&mut buffer)?;
        request.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_lowercase();
            let length = length.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                break body.to_owned();
            }
        }
        if count == 0 {
            return Ok(());
        }
    };
    let status = if open.load(Ordering::SeqCst) {
        taken.lock().unwrap().extend(body.lines().map(str::to_owned));
        "200 OK"
    } else {
        "503 Service Unavailable"
    };
    stream
        .write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes())
}

#[test]
fn what_was_answered_with_200_is_in_the_file_after_a_kill() {
    let port = free_port();
    let flow = format!(
        "source h = http \":{port}\" {{ format: lines }}\nsink o = files \"o.log\" {{ roll: 7 }}\nh -> o\n"
    );
    let home = project(&flow);
    let mut confirmed = HashSet::new();
    for round in 0..4 {
        let running = start(home.path());
        wait_until("it listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        let posting = std::thread::spawn(move || {
            let ids = (0..10_000).map(|id| format!("{round}-{id}"));
            let confirmed = ids.take_while(|id| post(port, &format!("{id}\n")) == Some(200));
            confirmed.collect::<Vec<_>>()
        });
        let names = || fs::read_dir(home.path()).unwrap().flatten().count();
        let before = names();
        wait_until("some files are there", || names() > before + 3);
        running.kill();
        confirmed.extend(posting.join().unwrap());
    }
    assert!(confirmed.len() > 40, "{}", confirmed.len());
    let running = start(home.path());
    wait_until("it listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    running.signal(Signal::SIGTERM);
    assert!(running.wait().success(), "{}", said(home.path()));
    let mut kept = HashSet::new();
    for entry in fs::read_dir(home.path()).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("o.") {
            assert!(!name.ends_with(".open"), "{name} is left");
            kept.extend(lines(&entry.path()));
        }
    }
    let lost: Vec<_> = confirmed.difference(&kept).collect();
    assert!(lost.is_empty(), "{} were confirmed and are lost: {lost:?}", lost.len());
}

/// The client's next try was dropped as a duplicate of the first, which had never got into the channel: it was
/// answered with 200, and the event was nowhere.
#[test]
fn a_try_after_503_is_not_taken_for_a_duplicate() {
    let (port, destination) = (free_port(), Destination::start());
    let home = project(&format!(
        "source h = http \":{port}\" {{ format: lines, timeout: 200ms }}\n\
         channel c = memory {{ capacity: 2 }}\n\
         sink s = http \"http://127.0.0.1:{}/\"\n\
         h -> dedupe {{ by: body }} -> c -> s\n",
        destination.port
    ));
    let running = start(home.path());
    wait_until("it listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let ids: Vec<String> = (0..5).map(|id| format!("e{id}")).collect();
    for id in &ids {
        assert_eq!(post(port, &format!("{id}\n")), Some(503));
    }
    destination.open.store(true, Ordering::SeqCst);
    for id in &ids {
        wait_until("it is taken", || post(port, &format!("{id}\n")) == Some(200));
    }
    assert_eq!(destination.lines().into_iter().collect::<HashSet<_>>(), ids.into_iter().collect());
    running.signal(Signal::SIGTERM);
    assert!(running.wait().success(), "{}", said(home.path()));
}

/// Sources had a memory each.
#[test]
fn sources_on_one_chain_share_its_dedupe() {
    let home = project(
        "source a = tail \"a.log\" { follow: false }\nsource b = tail \"b.log\" { follow: false }\n\
         sink o = files \"o.log\"\n[a, b] -> dedupe { by: body } -> o\n",
    );
    for name in ["a.log", "b.log"] {
        fs::write(home.path().join(name), format!("same\n{name}\nsame\n")).unwrap();
    }
    let output = finish(&mut command(home.path()));
    assert_eq!(output.status.code(), Some(0));
    let mut kept = lines(&home.path().join("o.log"));
    kept.sort();
    assert_eq!(kept, ["a.log", "b.log", "same"]);
}

/// It stood in a log that nobody sees.
#[test]
fn a_file_that_is_not_there_is_told_with_its_place() {
    let home = project("source a = tail \"no.log\" { refresh: 20ms }\nsink o = files \"o.log\"\na -> o\n");
    let running = start(home.path());
    wait_until("it is told", || said(home.path()).contains("F0805"));
    assert!(said(home.path()).contains("x.flow:1:17: warning: F0805 `a`"), "{}", said(home.path()));
    fs::write(home.path().join("no.log"), "late\n").unwrap();
    wait_until("it is read", || lines(&home.path().join("o.log")) == ["late"]);
    running.signal(Signal::SIGINT);
    assert!(running.wait().success());
}

/// The sink of one agent was shown with the path of the other's.
#[test]
fn agents_run_in_one_process_and_are_told_apart() {
    let agent = |name: &str, count: u32| {
        format!(
            "agent {name} {{\n  source g = generate {{ count: {count} }}\n  sink o = files \"{name}.log\"\n  g -> o\n}}\n"
        )
    };
    let home = project(&(agent("one", 5) + &agent("two", 7)));
    let output = finish(&mut command(home.path()));
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(lines(&home.path().join("one.log")).len(), 5);
    assert_eq!(lines(&home.path().join("two.log")).len(), 7);
    let said = String::from_utf8_lossy(&output.stderr);
    for row in ["one.o  5  files \"one.log\"", "two.o  7  files \"two.log\""] {
        assert!(said.contains(row), "{said}");
    }
}

/// The source was blamed for not stopping and cost ten more seconds, although it waited for its events only.
#[test]
fn a_destination_that_stays_away_ends_the_drain_at_its_limit() {
    let home = project(
        "runtime { drain: 300ms }\nsource a = tail \"in.log\"\nsink o = files \"no/o.log\" { create_dirs: false }\n\
         a -> o\n",
    );
    fs::write(home.path().join("in.log"), "one\n").unwrap();
    let running = start(home.path());
    wait_until("the fault is told", || said(home.path()).contains("F0806"));
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait().code(), Some(3));
    let told = said(home.path());
    assert!(told.contains("1 event was not delivered") && !told.contains("did not stop"), "{told}");

    fs::create_dir(home.path().join("no")).unwrap();
    let running = start(home.path());
    wait_until("it comes again", || lines(&home.path().join("no/o.log")) == ["one"]);
    running.signal(Signal::SIGTERM);
    assert!(running.wait().success());
}

/// What an optional branch did not take, and what a source refused, stood nowhere at the end.
#[test]
fn the_end_says_what_was_skipped_and_refused() {
    let port = free_port();
    let home = project(&format!(
        "runtime {{ drain: 100ms }}\n\
         source g = generate {{ count: 50, batch: 1 }}\nsource h = http \":{port}\"\n\
         channel side = memory {{ capacity: 10 }}\nsink o = files \"o.log\"\n\
         sink away = files \"no/x.log\" {{ create_dirs: false }}\n\
         [g, h] -> [o, side?]\nside -> away\n"
    ));
    let running = start(home.path());
    wait_until("all are written", || lines(&home.path().join("o.log")).len() == 50);
    wait_until("it answers", || post(port, "no json") == Some(400));
    running.signal(Signal::SIGTERM);
    assert!(running.wait().success(), "{}", said(home.path()));
    let told = said(home.path());
    let row =
        |word: &str, name: &str| told.lines().any(|line| line.split_whitespace().take(2).eq([word, name]));
    assert!(row("skipped", "side") && row("noted", "h"), "{told}");
    assert!(told.contains("refused requests"), "{told}");
}

/// With fewer open files allowed than `max_open` the sink tried the same file for ever.
#[test]
fn a_low_limit_of_open_files_is_lived_with() {
    let home = project(
        "source g = generate { count: 200, shape: text(\"n{n}\") }\n\
         sink o = files \"o/${body}.log\" { sync: never }\ng -> o\n",
    );
    let script = format!("ulimit -n 40; exec {} run x.flow", env!("CARGO_BIN_EXE_flowc"));
    let mut command = Command::new("/bin/sh");
    command.env("HOME", home.path()).current_dir(home.path()).args(["-c", &script]);
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    let running =
        Running(command.stderr(fs::File::create(home.path().join("said")).unwrap()).spawn().unwrap());
    assert!(running.wait().success(), "{}", said(home.path()));
    let events: usize =
        fs::read_dir(home.path().join("o")).unwrap().flatten().map(|entry| lines(&entry.path()).len()).sum();
    assert_eq!(events, 200, "{}", said(home.path()));
}
