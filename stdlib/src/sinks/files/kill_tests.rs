//! A real process that writes files and is really killed.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::json;

use super::Files;
use super::storage::Disk;
use super::tests::{Place, batch, context, path_setting, roll, settings};

/// Set in the process that writes: the directory of its files and its state.
const DIRECTORY: &str = "FLOW_TEST_FILES_DIRECTORY";

/// Events of one write.
const EVENTS: usize = 50;

fn sink(directory: &Path, compress: &str) -> Files {
    let mut changes = roll(json!({"events": 170}));
    changes["compress"] = json!(compress);
    let path = path_setting(&directory.join("data/x.log").display().to_string());
    Files::new(&settings(path, changes), &context(&directory.join("state")), Box::new(Disk)).unwrap()
}

/// Writes numbered lines without end and says after each write how many are committed.
#[test]
fn write_until_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let compress = std::env::var("FLOW_TEST_FILES_COMPRESS").unwrap();
    let mut sink = sink(Path::new(&directory), &compress);
    // Should nobody kill it, it ends by itself.
    for round in 0..100_000 {
        let bodies: Vec<String> = (0..EVENTS).map(|line| format!("{:09}", round * EVENTS + line)).collect();
        let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
        sink.write_batches(&[batch(&bodies)], Instant::now()).unwrap();
        // The harness of the tests keeps what `println!` prints.
        writeln!(std::io::stdout(), "committed {}", (round + 1) * EVENTS).unwrap();
    }
}

#[test]
fn a_killed_process_leaves_what_it_committed_and_no_more() {
    for (compress, writes) in [("none", 1), ("none", 40), ("gzip", 23), ("zstd", 9), ("zstd", 60)] {
        let place = Place::new();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sinks::files::kill_tests::write_until_killed", "--nocapture"])
            .env(DIRECTORY, place.path())
            .env("FLOW_TEST_FILES_COMPRESS", compress)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let committed = |line: std::io::Result<String>| -> Option<usize> {
            line.ok()?.split_once("committed ")?.1.trim().parse().ok()
        };
        let mut last = lines.by_ref().filter_map(committed).nth(writes - 1).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it died counts, too.
        last = lines.filter_map(committed).last().unwrap_or(last);

        let mut sink = sink(place.path(), compress);
        sink.writer.close().unwrap();
        let found = place.lines();
        let wanted: Vec<String> = (0..found.len()).map(|line| format!("{line:09}")).collect();
        assert_eq!(found, wanted, "{compress}");
        // The kill may come between the commit and its report.
        assert!(found.len() == last || found.len() == last + EVENTS, "{compress}: {} {last}", found.len());
        // Killed between making a file and writing down that it is there, the process left an empty one for ever.
        let unfinished = place.content().into_iter().filter(|(name, _)| name.ends_with(".open"));
        assert_eq!(unfinished.count(), 0, "{compress}");
    }
}

/// A file that was made and not noted stayed for ever, empty; one that somebody else has filled is not ours.
#[test]
fn a_file_that_was_announced_is_taken_away_unless_it_holds_something() {
    use super::codec::Compressed;
    use super::journal::{ANNOUNCED, Committed, Entry, Journal, Record};
    let place = Place::new();
    let state = place.path().join("state");
    std::fs::create_dir_all(place.path().join("data")).unwrap();
    let mut journal = Journal::read(&Disk, &state).unwrap();
    for (id, name, text) in [(1, "empty.open", ""), (2, "filled.open", "mine\n"), (3, "absent.open", "")] {
        let path = place.path().join("data").join(name);
        if id != 3 {
            std::fs::write(&path, text).unwrap();
        }
        let entry = Entry {
            path: path.display().to_string(),
            final_path: None,
            compressed: Compressed::None,
            created: true,
            device: 0,
            inode: ANNOUNCED,
            state: Committed::default(),
        };
        journal.append(&Disk, vec![Record::Open(id, entry)], false).unwrap();
    }
    drop(journal);
    let mut sink = sink(place.path(), "none");
    sink.writer.prepare().unwrap();
    let names: Vec<String> = place.content().into_keys().collect();
    assert_eq!(names.iter().filter(|name| name.ends_with(".open")).collect::<Vec<_>>(), ["filled.open"]);
}
