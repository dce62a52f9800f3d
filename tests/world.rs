//! When the world does not play along: full disks, taken directories, hostile programs. A clear error with code and
//! place, nothing lost, no panic.

#[path = "support/process.rs"]
#[allow(dead_code, reason = "only a part of it is needed")]
mod process;

use std::fs;
use std::process::{Command, Stdio};

use process::{Running, finish, flowc, wait_until};

const FLOW: &str = "source web = tail \"in.log\"\nsink kept = files \"out.log\"\nweb -> kept\n";

fn project(flow: &str, input: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("x.flow"), flow).unwrap();
    fs::write(home.path().join("in.log"), input).unwrap();
    home
}

fn numbered(lines: u64) -> String {
    (0..lines).map(|line| format!("line {line} with some text to make it longer\n")).collect()
}

/// A limit on the size of files stands for a full disk: the write fails half-way. What was written until then is
/// whole lines, and when there is room again the rest arrives.
#[test]
fn a_full_disk_is_told_and_loses_nothing() {
    let input = numbered(20_000);
    let home = project(FLOW, &input);
    let said = home.path().join("said.txt");
    // 200 blocks of 512 or 1,024 bytes, far less than the input; without the signal the write gives an error.
    let script = format!("trap '' XFSZ; ulimit -f 200; exec {} run x.flow", env!("CARGO_BIN_EXE_flowc"));
    let mut command = Command::new("/bin/sh");
    command.env("HOME", home.path()).current_dir(home.path()).args(["-c", &script]).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(fs::File::create(&said).unwrap());
    let running = Running(command.spawn().unwrap());
    wait_until("the full disk is told", || fs::read_to_string(&said).unwrap().contains("F0806"));
    let told = fs::read_to_string(&said).unwrap();
    assert!(told.contains("x.flow:2:"), "{told}");
    running.kill();
    let half = fs::read_to_string(home.path().join("out.log")).unwrap_or_default();
    assert!(half.len() < input.len(), "the limit was not felt");

    let running = Running::start(flowc(home.path()).current_dir(home.path()).args(["run", "x.flow"]));
    let out = home.path().join("out.log");
    wait_until("the rest arrives", || {
        let text = fs::read_to_string(&out).unwrap_or_default();
        text.contains("line 19999 with some text to make it longer\n")
    });
    running.kill();
    let text = fs::read_to_string(&out).unwrap();
    let kept: std::collections::HashSet<&str> = text.lines().collect();
    assert!(input.lines().all(|line| kept.contains(line)), "lines were lost");
    let known: std::collections::HashSet<&str> = input.lines().collect();
    assert!(kept.iter().all(|line| known.contains(line)), "a torn line is in the output");
}

#[test]
fn a_second_process_is_kept_out() {
    let home = project(FLOW, "one\n");
    let running = Running::start(flowc(home.path()).current_dir(home.path()).args(["run", "x.flow"]));
    let out = home.path().join("out.log");
    wait_until("the first one runs", || fs::read_to_string(&out).is_ok_and(|text| text == "one\n"));
    let second = finish(flowc(home.path()).current_dir(home.path()).args(["run", "x.flow"]));
    assert_eq!(second.status.code(), Some(3));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("F0811") && said.contains(&format!("pid {}", running.0.id())), "{said}");
    running.signal(nix::sys::signal::Signal::SIGINT);
    assert!(running.wait().success());
}

/// State of a newer program is not touched.
#[test]
fn newer_state_is_refused() {
    let home = project(FLOW, "one\n");
    let state = home.path().join("state");
    fs::create_dir_all(&state).unwrap();
    fs::write(state.join("version"), "999\n").unwrap();
    let mut command = flowc(home.path());
    let output = finish(command.current_dir(home.path()).args(["run", "--data", "state", "x.flow"]));
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("F0813"));
    assert!(!home.path().join("out.log").exists());
}

/// Texts that were made to hurt a compiler end with a message.
#[test]
fn hostile_programs_end_with_a_message() {
    let deep =
        |open: &str, close: &str| format!("param a = {}1{}\n", open.repeat(200_000), close.repeat(200_000));
    let many: String = (0..5_000).map(|index| format!("source s{index} = tial \"x\"\n")).collect();
    let programs = [
        ("parentheses", deep("(", ")")),
        ("lists", deep("[", "]")),
        ("unclosed", format!("param a = {}", "{a: ".repeat(200_000))),
        ("blocks", format!("interceptor a {{\n{}{}}}\n", "if true {\n".repeat(50_000), "}\n".repeat(50_000))),
        (
            "regex",
            "interceptor a = filter /((a{1,300}){1,300}){1,300}/\ntail \"x\" -> a -> console\n".to_owned(),
        ),
        ("mistakes", many),
        ("line", format!("tail \"{}\" -> consle\n", "x".repeat(4 << 20))),
        ("operators", format!("param a = 1{}\n", " + 1".repeat(200_000))),
        ("dots", format!("interceptor a {{ header.x = header{} }}\n", ".a".repeat(200_000))),
        ("nots", format!("param a = {}true\n", "not ".repeat(200_000))),
        ("minus", format!("param a = {}1\n", "-".repeat(200_000))),
        (
            "elses",
            format!(
                "interceptor a {{\n{} {{ drop }}\n}}\n",
                "if true { pass } else ".repeat(100_000) + "if true"
            ),
        ),
        ("question marks", format!("param a = 1{}\n", " ?? 1".repeat(100_000))),
    ];
    for (what, text) in programs {
        let home = project(&text, "");
        let output = finish(flowc(home.path()).current_dir(home.path()).args(["check", "--short", "x.flow"]));
        let said = String::from_utf8_lossy(&output.stdout);
        let code = output.status.code();
        assert!(code == Some(1) || code == Some(0), "{what}: {:?} {said}", output.status);
        assert!(said.len() < 100_000, "{what}: {} bytes of messages", said.len());
    }
}

/// Each directory of a channel, and each database, belongs to one process.
#[test]
fn a_second_process_is_kept_out_of_a_channel() {
    for channel in ["file \"buf\" { min_free: 1MiB }", "database \"buf.db\""] {
        let flow = |out: &str| {
            format!(
                "source web = tail \"in.log\"\nchannel buf = {channel}\nsink kept = files \"{out}\"\n\
                 web -> buf\nbuf -> kept\n"
            )
        };
        let home = project(&flow("out.log"), "one\n");
        fs::write(home.path().join("y.flow"), flow("other.log")).unwrap();
        let running = Running::start(flowc(home.path()).current_dir(home.path()).args(["run", "x.flow"]));
        let out = home.path().join("out.log");
        wait_until("the first one runs", || fs::read_to_string(&out).is_ok_and(|text| text == "one\n"));
        let second = finish(flowc(home.path()).current_dir(home.path()).args(["run", "y.flow"]));
        assert_eq!(second.status.code(), Some(3));
        let said = String::from_utf8_lossy(&second.stderr);
        assert!(said.contains("F0811") && said.contains(&format!("pid {}", running.0.id())), "{said}");
        assert!(said.contains("y.flow:2:"), "it says where: {said}");
        running.signal(nix::sys::signal::Signal::SIGINT);
        assert!(running.wait().success());
    }
}

#[test]
fn a_second_process_is_kept_out_of_the_database_of_a_sink() {
    let flow = "source web = tail \"in.log\"\nsink rows = database \"rows.db\"\nweb -> rows\n";
    let home = project(flow, "one\n");
    fs::write(home.path().join("y.flow"), flow).unwrap();
    let running = Running::start(flowc(home.path()).current_dir(home.path()).args(["run", "x.flow"]));
    wait_until("the first one runs", || home.path().join("rows.db").exists());
    let second = finish(flowc(home.path()).current_dir(home.path()).args(["run", "y.flow"]));
    assert_eq!(second.status.code(), Some(3));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("F0811") && said.contains(&format!("pid {}", running.0.id())), "{said}");
    assert!(said.contains("y.flow:2:"), "it says where: {said}");
    running.signal(nix::sys::signal::Signal::SIGINT);
    assert!(running.wait().success());
}

/// What a channel on disk has taken is delivered although its destination was away until the end of the process and
/// its source is gone afterwards.
#[test]
fn an_outage_is_caught_up_after_a_restart() {
    for channel in
        ["file \"buf\" { min_free: 1MiB }", "file [\"a\", \"b\"] { min_free: 1MiB }", "database \"buf.db\""]
    {
        let flow = format!(
            "deliver at_least_once\nruntime {{ data: \"state\", drain: 200ms }}\n\
             source web = tail \"in.log\" {{ from: start, follow: false }}\nchannel buf = {channel}\n\
             sink kept = files \"away/out.log\" {{ create_dirs: false }}\nweb -> buf\nbuf -> kept\n"
        );
        let input = numbered(5_000);
        let home = project(&flow, &input);
        let running = Running::start(flowc(home.path()).current_dir(home.path()).args(["run", "x.flow"]));
        let positions = home.path().join("state/main/web/positions.json");
        let all = format!("\"position\":{},", input.len());
        wait_until("the channel has everything", || {
            fs::read_to_string(&positions).is_ok_and(|text| text.replace(' ', "").contains(&all))
        });
        running.signal(nix::sys::signal::Signal::SIGTERM);
        running.wait();
        assert!(!home.path().join("away").exists());
        fs::create_dir(home.path().join("away")).unwrap();
        fs::write(home.path().join("in.log"), "").unwrap();
        let again = finish(flowc(home.path()).current_dir(home.path()).args(["run", "x.flow"]));
        assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
        assert_eq!(fs::read_to_string(home.path().join("away/out.log")).unwrap(), input, "{channel}");
    }
}

#[test]
fn a_channel_of_a_newer_program_is_not_touched() {
    let flow = "source web = tail \"in.log\"\nchannel buf = file \"buf\"\nsink kept = files \"out.log\"\n\
                web -> buf\nbuf -> kept\n";
    let home = project(flow, "one\n");
    fs::create_dir(home.path().join("buf")).unwrap();
    fs::write(home.path().join("buf/channel.json"), "{\"version\":999}").unwrap();
    let output = finish(flowc(home.path()).current_dir(home.path()).args(["run", "x.flow"]));
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("F0813") && said.contains("x.flow:2:"), "{said}");
    assert!(!home.path().join("buf/log").exists());
}
