//! Ensembles with the built program: a part of the tree as a source, `flowc zk`, and which of several processes works.

#[path = "support/process.rs"]
#[allow(dead_code, reason = "only a part of it is needed")]
mod process;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::signal::Signal;
use process::{Running, finish, flowc, wait_until};
use serde_json::Value;

/// A file with what runs it.
struct Site {
    home: tempfile::TempDir,
}

/// A port that is free once the listener is dropped; nobody else is given it that soon.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

impl Site {
    /// The flow says `HERE` where its files go.
    fn new(flow: &str) -> Site {
        let home = tempfile::tempdir().unwrap();
        let flow = flow.replace("HERE", &home.path().display().to_string());
        fs::write(home.path().join("x.flow"), flow).unwrap();
        Site { home }
    }

    /// Runs it; what it says on the terminal goes to `said`.
    fn run(&self) -> Running {
        let said = fs::File::create(self.path("said")).unwrap();
        let mut command = flowc(self.home.path());
        command.arg("run").arg(self.path("x.flow"));
        let child = command.stdout(Stdio::null()).stderr(said).spawn().expect("flowc starts");
        Running(child)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Exit code, standard output and standard error of `flowc zk COMMAND x.flow …`.
    fn zk(&self, command: &str, words: &[&str]) -> (i32, String, String) {
        zk(self.home.path(), command, &self.path("x.flow").display().to_string(), words)
    }

    fn fine(&self, command: &str, words: &[&str]) -> String {
        let (code, out, error) = self.zk(command, words);
        assert_eq!(code, 0, "{command} {words:?}: {error}\n{}", self.read("said"));
        out
    }
}

fn zk(home: &Path, command: &str, target: &str, words: &[&str]) -> (i32, String, String) {
    let output = finish(flowc(home).args(["zk", command, target]).args(words));
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// What the files sink has written under a name, finished or not.
fn written(path: &Path) -> String {
    let open = PathBuf::from(format!("{}.open", path.display()));
    fs::read_to_string(path).unwrap_or_default() + &fs::read_to_string(open).unwrap_or_default()
}

fn tree(ensemble: &str) -> String {
    format!(
        r#"
ensemble zk = {ensemble}
source nodes = znodes zk {{ path: "/services", watch: tree, session: 1s }}
interceptor line {{ body = "${{header.type ?? "?"}} ${{header.path ?? "?"}} ${{header.version ?? "?"}} ${{text(body)}}" }}
nodes -> line -> files "HERE/changes.log"
"#
    )
}

#[test]
fn changes_of_a_tree_are_events_and_the_command_line_makes_them() {
    let address = free_address();
    let site = Site::new(&tree(&format!(r#"embedded {{ servers: "{address}", tick: 200ms }}"#)));
    let running = site.run();
    site.fine("create", &["--parents", "/services/web", "one"]);
    let second = site.fine("create", &["--sequential", "/services/web/n-", "a\u{1b}[2Jb"]);
    assert_eq!(second, "/services/web/n-0000000000\n");
    wait_until("three znodes were seen", || written(&site.path("changes.log")).lines().count() == 3);
    site.fine("set", &["/services/web", "two"]);
    wait_until("the change was seen", || written(&site.path("changes.log")).lines().count() == 4);

    assert_eq!(site.fine("ls", &["/services"]), "web\n");
    assert_eq!(site.fine("ls", &["-r", "/services"]), "/services/web\n/services/web/n-0000000000\n");
    assert_eq!(site.fine("get", &["/services/web"]), "two\n");
    assert_eq!(site.fine("get", &["/services/web/n-0000000000"]), "a\\u{1b}[2Jb\n");
    assert_eq!(site.fine("get", &["--raw", "/services/web/n-0000000000"]), "a\u{1b}[2Jb");
    let got: Value = serde_json::from_str(&site.fine("get", &["--json", "/services/web"])).unwrap();
    assert_eq!((got["data"].as_str(), got["stat"]["version"].as_i64()), (Some("two"), Some(1)));
    let stat = site.fine("stat", &["/services/web"]);
    assert!(stat.contains("acl") && stat.contains("world:anyone cdrwa"), "{stat}");

    // What cannot be done says why, with the znode.
    for (command, words, why) in [
        ("set", &["/services/web", "x", "--version", "7"][..], "it has another version by now"),
        ("get", &["/nowhere"], "`/nowhere`: there is no such znode"),
        ("create", &["/services/web"], "there is such a znode already"),
        ("create", &["/no/parent"], "there is no such znode"),
        ("delete", &["/services/web"], "it has children"),
    ] {
        let (code, out, error) = site.zk(command, words);
        assert_eq!((code, out.as_str()), (3, ""), "{command}: {error}");
        assert!(error.contains(why), "{command}: {error}");
    }
    assert_eq!(site.zk("get", &["no/path"]).0, 2);
    assert_eq!(site.zk("delete", &["-r", "/services"]).0, 2, "nobody was asked");

    site.fine("delete", &["-r", "--yes", "/services/web"]);
    wait_until("the end of both was seen", || written(&site.path("changes.log")).lines().count() == 6);
    running.signal(Signal::SIGTERM);
    assert!(running.wait().success(), "{}", site.read("said"));
    let changes = written(&site.path("changes.log"));
    let lines: Vec<&str> = changes.lines().collect();
    assert_eq!(lines[0], "created /services 0 ");
    assert_eq!(lines[1], "created /services/web 0 one");
    assert_eq!(lines[3], "changed /services/web 1 two");
    assert_eq!(lines[4], "deleted /services/web/n-0000000000 0 ");
    assert_eq!(lines[5], "deleted /services/web 1 ");
    assert!(site.read("said").contains(&format!("ensemble zk on {address}")), "{}", site.read("said"));
}

/// What happened while the source could not reach the ensemble is told when it can again.
#[test]
fn no_change_is_missed_while_the_ensemble_is_away() {
    let address = free_address();
    let server = Site::new(&format!(
        "ensemble zk = embedded {{ servers: \"{address}\", tick: 200ms, data: \"HERE/zk\" }}\n\
         generate {{ count: 1 }} -> discard\n"
    ));
    let reader = Site::new(&tree(&format!(r#"zookeeper "{address}""#)));
    let running = server.run();
    for path in ["/services/kept", "/services/changed", "/services/deleted", "/services/again"] {
        server.fine("create", &["--parents", path, "old"]);
    }
    let reading = reader.run();
    wait_until("all were seen", || written(&reader.path("changes.log")).lines().count() == 5);
    running.kill();
    let running = server.run();
    server.fine("set", &["/services/changed", "new"]);
    server.fine("delete", &["/services/deleted"]);
    server.fine("delete", &["/services/again"]);
    server.fine("create", &["/services/again", "young"]);
    server.fine("create", &["/services/last", "seen"]);
    wait_until("the last state was told", || {
        let told = written(&reader.path("changes.log"));
        [
            "changed /services/changed 1 new",
            "created /services/again 0 young",
            "created /services/last 0 seen",
        ]
        .iter()
        .all(|line| told.contains(line))
    });
    reading.signal(Signal::SIGTERM);
    assert!(reading.wait().success(), "{}", reader.read("said"));
    let told = written(&reader.path("changes.log"));
    assert_eq!(told.matches("deleted /services/deleted").count(), 1, "{told}");
    assert_eq!(told.matches("/services/kept").count(), 1, "it has not changed: {told}");
    drop(running);
}

#[test]
fn three_servers_on_one_host_are_one_ensemble() {
    let servers: Vec<String> = (0..3).map(|_| free_address()).collect();
    let site = Site::new(&tree(&format!("embedded {{ servers: {servers:?}, tick: 200ms }}")));
    let running = site.run();
    site.fine("create", &["--parents", "/services/web", "one"]);
    wait_until("the change was seen", || {
        written(&site.path("changes.log")).contains("created /services/web 0 one")
    });
    // Each of them has it.
    for server in &servers {
        wait_until("every server has it", || {
            zk(site.home.path(), "get", server, &["/services/web"]) == (0, "one\n".to_owned(), String::new())
        });
    }
    running.signal(Signal::SIGTERM);
    assert!(running.wait().success(), "{}", site.read("said"));
}

/// An ensemble, and two processes of one file of which one works. All of it has to stay: a server whose directory is
/// gone serves nobody.
struct Pair {
    server: Site,
    ensemble: Running,
    workers: [Site; 2],
}

fn pair() -> Pair {
    let address = free_address();
    let server = Site::new(&format!(
        "ensemble zk = embedded {{ servers: \"{address}\", tick: 200ms }}\ngenerate {{ count: 1 }} -> discard\n"
    ));
    let ensemble = server.run();
    let worker = || {
        Site::new(&format!(
            "ensemble zk = zookeeper \"{address}\"\nruntime {{ active: 1, elect: zk, session: 1s }}\n\
             generate {{ shape: text(\"beat {{n}}\"), rate: 100, batch: 1 }} -> files \"HERE/beats.log\" {{ batch: 1 }}\n"
        ))
    };
    Pair { server, ensemble, workers: [worker(), worker()] }
}

fn beats(site: &Site) -> usize {
    written(&site.path("beats.log")).lines().count()
}

#[test]
fn one_of_two_works_and_the_other_takes_over_when_it_is_killed() {
    let Pair { server, ensemble, workers: [one, two] } = pair();
    let first = one.run();
    wait_until("the first works", || beats(&one) > 20);
    let second = two.run();
    wait_until("the second waits", || two.read("said").contains("waits: another process works"));
    let before = beats(&one);
    wait_until("the first goes on", || beats(&one) > before + 20);
    assert_eq!(beats(&two), 0, "{}", two.read("said"));
    let standing = server.fine("ls", &["/flow/x"]);
    assert_eq!(standing.lines().count(), 2, "{standing}");
    first.kill();
    wait_until("the second works", || beats(&two) > 20);
    assert!(two.read("said").contains("works: this process was elected"), "{}", two.read("said"));
    // It comes back as the one that waits, and gets the work at once when the other leaves it in good order.
    let first = one.run();
    wait_until("the first waits", || one.read("said").contains("waits: another process works"));
    let before = beats(&one);
    second.signal(Signal::SIGTERM);
    assert!(second.wait().success(), "{}", two.read("said"));
    wait_until("the first works again", || beats(&one) > before + 20);
    first.signal(Signal::SIGTERM);
    assert!(first.wait().success(), "{}", one.read("said"));
    drop(ensemble);
}

/// One that was stopped for longer than its session must not write when it wakes up.
#[test]
fn one_that_sleeps_through_its_session_writes_nothing_when_it_wakes() {
    let Pair { server: _server, ensemble, workers: [one, two] } = pair();
    let first = one.run();
    wait_until("the first works", || beats(&one) > 20);
    let second = two.run();
    wait_until("the second waits", || two.read("said").contains("waits: another process works"));
    first.signal(Signal::SIGSTOP);
    wait_until("the second works", || beats(&two) > 20);
    let before = beats(&one);
    first.signal(Signal::SIGCONT);
    wait_until("the first has seen it", || one.read("said").contains("stops"));
    wait_until("the first waits", || one.read("said").contains("waits: another process works"));
    // A write that had begun when it fell asleep may end.
    assert!(beats(&one) <= before + 1, "{} and then {}: {}", before, beats(&one), one.read("said"));
    let before = beats(&two);
    wait_until("the second goes on", || beats(&two) > before + 20);
    drop((first, second, ensemble));
}

/// Without the ensemble nobody may work: the one that does stops before its session can end.
#[test]
fn the_work_stops_while_the_ensemble_is_away() {
    let Pair { server: _server, ensemble, workers: [one, _] } = pair();
    let first = one.run();
    wait_until("the first works", || beats(&one) > 20);
    ensemble.kill();
    wait_until("it has stopped", || one.read("said").contains("stops, so that another process can work"));
    first.signal(Signal::SIGTERM);
    assert!(first.wait().success(), "{}", one.read("said"));
}
