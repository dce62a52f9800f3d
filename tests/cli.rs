//! The command line as a user meets it: what is said, where, and with which exit code.

#[path = "support/process.rs"]
#[allow(dead_code, reason = "only a part of it is needed")]
mod process;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use process::{finish, flowc};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs `flowc` on a file with this text, in a directory of its own.
fn on(flow: &str, arguments: &[&str]) -> (Output, tempfile::TempDir) {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("x.flow"), flow).unwrap();
    let output = finish(flowc(home.path()).current_dir(home.path()).args(arguments));
    (output, home)
}

#[test]
fn a_right_file_is_fine() {
    let (output, _home) = on("tail \"a.log\" -> console\n", &["check", "x.flow"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("x.flow: fine"), "{}", text(&output.stderr));
}

#[test]
fn a_wrong_file_ends_with_one_and_shows_the_place() {
    let (output, _home) = on("tail \"a.log\" -> consle\n", &["check", "--format", "short", "x.flow"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stdout);
    assert!(
        said.starts_with("x.flow:1:17: F0101 nothing is named `consle`; did you mean `console`?"),
        "{said}"
    );
}

#[test]
fn json_is_json() {
    let (output, _home) = on("tail \"a.log\" -> consle\n", &["check", "--format", "json", "x.flow"]);
    let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(all[0]["code"], "F0101");
    assert_eq!(all[0]["at"]["start"]["line"], 1);
    assert_eq!(all[0]["at"]["start"]["column"], 17);
}

#[test]
fn fixes_are_applied() {
    let (output, home) = on("source web = tail \"a.log\";\nweb => console\n", &["check", "--fix", "x.flow"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let fixed = fs::read_to_string(home.path().join("x.flow")).unwrap();
    assert_eq!(fixed, "source web = tail \"a.log\"\nweb -> console\n");
}

#[test]
fn warnings_can_be_denied() {
    let flow = "channel spare = memory\ntail \"a.log\" -> console\n";
    let (output, _home) = on(flow, &["check", "x.flow"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let (output, _home) = on(flow, &["check", "--deny", "warnings", "x.flow"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn wrong_usage_and_missing_files_end_with_two() {
    for arguments in
        [&["chekc"][..], &["check", "missing.flow"], &["explain", "F9999"], &["show", "sink", "fils"]]
    {
        let (output, _home) = on("", arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn a_file_that_is_not_utf8_is_named_with_the_byte() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("x.flow"), b"# caf\xe9\ntail \"a\" -> console\n").unwrap();
    let output = finish(flowc(home.path()).current_dir(home.path()).args(["check", "--short", "x.flow"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("x.flow:1:6: F0024"), "{}", text(&output.stdout));
}

#[test]
fn a_closed_pipe_is_not_a_failure() {
    let home = tempfile::tempdir().unwrap();
    let mut child = flowc(home.path()).args(["explain"]).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn list_and_show_know_the_library() {
    let (output, _home) = on("", &["list", "sinks"]);
    assert!(text(&output.stdout).contains("  files "), "{}", text(&output.stdout));
    let (output, _home) = on("", &["show", "sink", "files"]);
    let page = text(&output.stdout);
    assert!(page.contains("roll") && page.contains("compress"), "{page}");
}

#[test]
fn a_declaration_can_be_read_by_tools() {
    let (output, _home) = on("", &["show", "--format", "json", "source", "tail"]);
    let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(all[0]["params"][0]["type"], "list<glob>");
    let settings = all[0]["settings"].as_array().unwrap();
    let batch = settings.iter().find(|setting| setting["name"] == "batch").unwrap();
    assert!(batch["type"].as_str().unwrap().starts_with("int 1.."), "{batch}");
    let (output, _home) = on("", &["explain", "--format", "json", "f0101"]);
    let page: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(page["severity"], "error");
}

#[test]
fn the_plan_says_what_is_put_in() {
    let flow = "source web = tail \"a.log\"\nsink kept = files \"out.log\"\nweb -> kept\n";
    let (output, _home) = on(flow, &["plan", "x.flow"]);
    let plan = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(plan.contains("memory") && plan.contains("10_000"), "{plan}");
    let (output, _home) = on(flow, &["plan", "--format", "json", "x.flow"]);
    let plan: flow_plan::Plan = serde_json::from_slice(&output.stdout).unwrap();
    assert!(plan.agents[0].channels[0].implicit);
}

/// A flow of which each kind of answer is true of some part.
const PARTLY_NATIVE: &str = "\
source log = tail \"in.log\" { from: start, follow: false }
interceptor wanted = filter /^[a-z]+ \\d+/
interceptor once   = dedupe { by: body }
interceptor words {
  for word in split(body, \" \") { header.last = word }
}
interceptor mask { header.digest = sha256(body) }
sink out = files \"out.log\"
log -> wanted -> once -> words -> mask -> route header.last {
  \"7\"  -> out
  else -> discard
}
";

#[test]
fn the_plan_says_what_is_machine_code_and_why_not() {
    let (output, home) = on(PARTLY_NATIVE, &["plan", "x.flow"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let plan = text(&output.stdout);
    for line in [
        "      native: wanted, mask, route at line 9\n",
        "      by the reference: once (it keeps state)\n",
        "      by the reference: words (`for` loops are run by the reference)\n",
    ] {
        assert!(plan.contains(line), "no {line:?} in\n{plan}");
    }
    // Nothing in it changes from run to run.
    let again = finish(flowc(home.path()).current_dir(home.path()).args(["plan", "x.flow"]));
    assert_eq!(text(&again.stdout), plan);
    let (output, _home) = on(PARTLY_NATIVE, &["plan", "--timings", "x.flow"]);
    assert!(text(&output.stdout).contains("KiB of machine code, "), "{}", text(&output.stdout));
    let (output, _home) = on(PARTLY_NATIVE, &["plan", "--no-jit", "x.flow"]);
    let plan = text(&output.stdout);
    assert!(plan.contains("machine code: none") && !plan.contains("native: "), "{plan}");
}

/// The parts of a program as `plan --format json` gives them: (name, native, what is left to the reference).
fn parts_of(plan: &serde_json::Value, program: &str) -> Vec<(String, bool, Vec<String>)> {
    let programs = plan["machine_code"].as_array().unwrap();
    let program = programs.iter().find(|one| one["program"] == program).unwrap();
    let sections = program["sections"].as_array().unwrap().iter();
    let parts = sections.flat_map(|section| section["parts"].as_array().unwrap());
    parts
        .map(|part| {
            let left =
                part["reference"].as_array().unwrap().iter().map(|why| why.as_str().unwrap().to_owned());
            (part["name"].as_str().unwrap().to_owned(), part["native"].as_bool().unwrap(), left.collect())
        })
        .collect()
}

#[test]
fn the_plan_says_the_same_to_tools() {
    let (output, _home) = on(PARTLY_NATIVE, &["plan", "--format", "json", "x.flow"]);
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let parts = parts_of(&plan, "log");
    let names: Vec<(&str, bool)> = parts.iter().map(|(name, native, _)| (name.as_str(), *native)).collect();
    let expected =
        [("wanted", true), ("once", false), ("words", false), ("mask", true), ("route at line 9", true)];
    assert_eq!(names, expected);
    assert_eq!(parts[1].2, ["it keeps state"]);
    assert!(plan["machine_code"][0]["sections"][0].get("compile_us").is_none());

    let (output, _home) = on(PARTLY_NATIVE, &["plan", "--format", "json", "--timings", "x.flow"]);
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let section = &plan["machine_code"][0]["sections"][0];
    assert!(section["code_bytes"].as_u64() > Some(0) && section["compile_us"].is_u64(), "{section}");

    let (output, _home) = on(PARTLY_NATIVE, &["plan", "--format", "json", "--no-jit", "x.flow"]);
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(plan["machine_code"].is_null());
}

/// Nobody has to ask for machine code, and the first flow that anybody runs is nothing else.
#[test]
fn the_quickstart_is_machine_code_in_all_parts() {
    let home = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let plan = ["plan", "--format", "json", "examples/quickstart.flow"];
    let output = finish(flowc(home.path()).current_dir(root).args(plan));
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let parts = parts_of(&plan, "log");
    assert_eq!(parts.len(), 5, "{parts:?}");
    assert!(parts.iter().all(|(_, native, left)| *native && left.is_empty()), "{parts:?}");
}

#[test]
fn machine_code_writes_what_the_reference_writes() {
    let lines: String = (0..5_000)
        .map(|line| match line % 5 {
            0 => format!("line {line} 7\n"),
            1 => format!("LINE {line} 7\n"),
            2 => format!("line {} 7\n", line / 100),
            3 => format!("caf\u{e9} {line} 7\n"),
            _ => format!("line {line} 8\n"),
        })
        .collect();
    let written = |arguments: &[&str]| {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("in.log"), &lines).unwrap();
        fs::write(home.path().join("x.flow"), PARTLY_NATIVE).unwrap();
        let output = finish(flowc(home.path()).current_dir(home.path()).args(arguments));
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        fs::read_to_string(home.path().join("out.log")).unwrap()
    };
    let native = written(&["run", "x.flow"]);
    // Each of the second sort once, without the ten that the first has, too.
    assert_eq!(native.lines().count(), 1_000 + 50 - 10);
    assert!(native == written(&["run", "--no-jit", "x.flow"]), "the outputs differ");
}

/// `RUST_LOG=flow_jit=debug` tells what was compiled; without it a run says nothing of it.
#[test]
fn a_run_tells_what_was_compiled_when_asked() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("in.log"), "a 7\n").unwrap();
    fs::write(home.path().join("x.flow"), PARTLY_NATIVE).unwrap();
    let run = |log: Option<&str>| {
        let mut command = flowc(home.path());
        command.current_dir(home.path()).args(["run", "x.flow"]);
        log.map(|log| command.env("RUST_LOG", log));
        text(&finish(&mut command).stderr)
    };
    let said = run(Some("flow_jit=debug"));
    assert!(said.contains("compiled mask, route at line 9: ") && said.contains("of machine code"), "{said}");
    assert!(!run(None).contains("of machine code"));
}

/// Runs a flow to its end and gives what it wrote to standard output.
fn run_to_end(flow: &str, input: &[u8]) -> Output {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("x.flow"), flow).unwrap();
    let mut command = flowc(home.path());
    command.current_dir(home.path()).args(["run", "x.flow"]).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut standard_input = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || standard_input.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    output
}

#[test]
fn stdin_to_console_ends_with_its_input() {
    let output = run_to_end("stdin -> filter /b/ -> console\n", b"abc\nxyz\nb\n");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "abc\nb\n");
}

/// `flowc run x.flow | head -1`: the reader has seen enough, and that is fine.
#[test]
fn a_reader_of_the_console_that_goes_away_ends_the_flow() {
    let home = tempfile::tempdir().unwrap();
    let lines: String = (0..200_000).map(|line| format!("line {line}\n")).collect();
    fs::write(home.path().join("in.log"), lines).unwrap();
    fs::write(home.path().join("x.flow"), "source web = tail \"in.log\"\nweb -> console\n").unwrap();
    let mut child = flowc(home.path()).current_dir(home.path()).args(["run", "x.flow"]).spawn().unwrap();
    let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    std::io::BufRead::read_line(&mut output, &mut first).unwrap();
    drop(output);
    assert_eq!(first, "line 0\n");
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", text(&ended.stderr));
}

/// A line that is not UTF-8, one of 10 MiB, an empty one and a last one without a newline go through unchanged.
#[test]
fn odd_lines_go_through_unchanged() {
    let home = tempfile::tempdir().unwrap();
    let long = vec![b'y'; 10 << 20];
    let lines: [&[u8]; 5] = [b"caf\xe9 \xff\x00 raw", &long, b"", b"plain", b"no newline at the end"];
    let mut input = lines.join(&b'\n');
    fs::write(home.path().join("in.log"), &input).unwrap();
    let flow = "source web = tail \"in.log\" { from: start, follow: false }\nsink kept = files \"out.log\"\n\
                web -> timestamp -> host -> kept\n";
    fs::write(home.path().join("x.flow"), flow).unwrap();
    let output = finish(flowc(home.path()).current_dir(home.path()).args(["x.flow"]));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    input.push(b'\n');
    assert!(fs::read(home.path().join("out.log")).unwrap() == input, "the lines were changed");
}

#[test]
fn a_port_in_use_is_told_with_its_place() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let flow = format!("source web = http \"127.0.0.1:{port}\"\nweb -> console\n");
    let (output, _home) = on(&flow, &["run", "x.flow"]);
    assert_eq!(output.status.code(), Some(3));
    let said = text(&output.stderr);
    assert!(said.contains("F0802") && said.contains("x.flow:1:"), "{said}");
}

/// The first thing that anybody runs.
#[test]
fn the_quickstart_writes_three_files_and_ends() {
    let home = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let copied = Command::new("cp").arg("-r").arg(root.join("examples")).arg(home.path()).status().unwrap();
    assert!(copied.success());
    let _ = fs::remove_dir_all(home.path().join("examples/out"));
    let output =
        finish(flowc(home.path()).current_dir(home.path()).args(["run", "examples/quickstart.flow"]));
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("examples/out/served.log"), "it says where the output is: {said}");
    let log = fs::read_to_string(root.join("examples/data/access.log")).unwrap();
    let wanted = |status: char| {
        let of_status = log.lines().filter(|line| {
            let probe = line.contains("kube-probe") || line.contains("GET /health");
            let code = line.split("\" ").nth(1).unwrap();
            !probe && code.starts_with(status)
        });
        of_status.count()
    };
    let got =
        |name: &str| fs::read_to_string(home.path().join("examples/out").join(name)).unwrap().lines().count();
    assert_eq!(got("served.log"), wanted('2') + wanted('3'));
    assert_eq!(got("refused.log"), wanted('4'));
    assert_eq!(got("failed.log"), wanted('5'));
}
