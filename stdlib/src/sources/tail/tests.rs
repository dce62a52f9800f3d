//! Rotation, truncation, restarts and losses: every line at least once, none torn, in every order of events.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flow_agent::SourceError;
use flow_plan::Settings;
use serde_json::{Value, json};

use super::tail;
use crate::sources::testing::{Collector, Mode, Running, Seeded, context, settings};

const MS: u64 = 1_000_000;

fn with(path: impl AsRef<Path>, changes: Value) -> Settings {
    let path = path.as_ref().to_str().unwrap();
    let defaults = json!({
        "path": [path], "from": "saved", "exclude": [], "follow": true, "batch": 1000, "read": 512 << 10,
        "poll": MS, "refresh": 2 * MS, "line_max": 64 << 20, "idle": 120_000 * MS, "open_max": 256,
        "unconfirmed": 64, "save": MS, "file_header": "file", "offset_header": null,
    });
    settings(defaults, changes)
}

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn state(&self) -> PathBuf {
        self.path("state")
    }

    fn append(&self, name: &str, text: impl AsRef<[u8]>) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.path(name)).unwrap();
        file.write_all(text.as_ref()).unwrap();
    }

    /// How many of the files here this process has open.
    fn open_files(&self) -> usize {
        let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
        open.filter(|entry| fs::read_link(entry.path()).is_ok_and(|to| to.starts_with(self.directory.path())))
            .count()
    }

    async fn until_open_files(&self, count: usize) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while self.open_files() != count {
            assert!(std::time::Instant::now() < deadline, "{} files are open", self.open_files());
            tokio::task::yield_now().await;
        }
    }

    /// Whether the saved positions speak of this file.
    fn knows(&self, name: &str) -> bool {
        use std::os::unix::fs::MetadataExt;
        let inode = fs::metadata(self.path(name)).unwrap().ino();
        let saved = fs::read_to_string(self.state().join("positions.json")).unwrap_or_default();
        saved.contains(&format!("\"inode\":{inode},"))
    }

    fn run(&self, settings: &Settings, flow: &Arc<Collector>) -> Running {
        Running::of(tail, settings, &self.state(), flow)
    }

    /// Reads to the end of what is there.
    async fn run_to_end(&self, settings: &Settings) -> Vec<String> {
        let flow = Collector::new(Mode::Deliver);
        self.run(settings, &flow).ended().await.unwrap();
        let seen = flow.seen();
        seen.texts()
    }
}

fn lines(from: usize, to: usize) -> String {
    (from..to).map(|number| format!("line {number}\n")).collect()
}

fn expected(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|number| format!("line {number}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_at_the_end_and_goes_on_where_it_stopped() {
    let place = Place::new();
    place.append("a.log", "one\ntwo\nthree");
    let settings = with(place.path("*.log"), json!({"follow": false}));
    assert_eq!(place.run_to_end(&settings).await, ["one", "two", "three"]);
    assert_eq!(place.run_to_end(&settings).await, [""; 0]);
    place.append("a.log", " and a half\nfour\n");
    assert_eq!(place.run_to_end(&settings).await, [" and a half", "four"]);
    let again = with(place.path("*.log"), json!({"follow": false, "from": "start"}));
    assert_eq!(place.run_to_end(&again).await, ["one", "two", "three and a half", "four"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_lines_go_through_unchanged() {
    let place = Place::new();
    let long: Vec<u8> = (0..10 << 20).map(|at: u32| b'a' + (at % 23) as u8).collect();
    let odd: Vec<Vec<u8>> =
        vec![b"\xff\xfe\x00\x80".to_vec(), Vec::new(), long, b"with cr\r".to_vec(), b"no end".to_vec()];
    place.append("a.log", odd.join(&b'\n'));
    let flow = Collector::new(Mode::Deliver);
    let settings = with(place.path("a.log"), json!({"follow": false}));
    place.run(&settings, &flow).ended().await.unwrap();
    let seen = flow.seen();
    assert_eq!(seen.rows.len(), odd.len());
    for (row, expected) in seen.rows.iter().zip(&odd) {
        assert!(row.body == *expected, "a line of {} bytes has changed", expected.len());
        assert_eq!(row.header("file"), place.path("a.log").to_str().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_over_the_bound_comes_in_pieces() {
    let place = Place::new();
    place.append("a.log", [vec![b'x'; 2500], b"\nshort\n".to_vec()].concat());
    let flow = Collector::new(Mode::Deliver);
    let settings = with(place.path("a.log"), json!({"follow": false, "line_max": 1024, "read": 4096}));
    place.run(&settings, &flow).ended().await.unwrap();
    let seen = flow.seen();
    assert_eq!(seen.rows.iter().map(|row| row.body.len()).collect::<Vec<_>>(), [1024, 1024, 452, 5]);
    assert_eq!(seen.counts["line_pieces"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_line_that_grows_is_delivered_once_whole() {
    let place = Place::new();
    let flow = Collector::new(Mode::Deliver);
    place.append("a.log", "begin\n");
    let source = place.run(&with(place.path("a.log"), json!({"read": 4096})), &flow);
    flow.until_rows(1).await;
    for _ in 0..10 {
        place.append("a.log", vec![b'y'; 3000]);
        let idle = flow.seen().idle;
        flow.until("another look", |seen| seen.idle > idle + 1).await;
    }
    assert_eq!(flow.seen().rows.len(), 1);
    place.append("a.log", "\nend\n");
    flow.until_rows(3).await;
    source.stop().await.unwrap();
    let seen = flow.seen();
    assert_eq!(seen.rows[1].body, vec![b'y'; 30_000]);
    assert_eq!(seen.rows[2].text(), "end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_end_skips_what_is_there_at_the_very_first_run_only() {
    let place = Place::new();
    place.append("a.log", "old\nhalf");
    let settings = with(place.path("*.log"), json!({"from": "end"}));
    let flow = Collector::new(Mode::Deliver);
    let source = place.run(&settings, &flow);
    flow.until("the first look", |seen| seen.idle > 0).await;
    place.append("a.log", " line\nnew\n");
    place.append("b.log", "from its start\n");
    flow.until_rows(3).await;
    source.stop().await.unwrap();
    let mut texts = flow.seen().texts();
    texts.sort();
    assert_eq!(texts, ["from its start", "half line", "new"]);
    place.append("a.log", "while away\n");
    place.append("c.log", "new file while away\n");
    let source = place.run(&settings, &flow);
    flow.until_rows(5).await;
    source.stop().await.unwrap();
    let mut texts = flow.seen().texts().split_off(3);
    texts.sort();
    assert_eq!(texts, ["new file while away", "while away"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotation_by_rename_reads_the_old_file_to_its_end() {
    for pattern in ["a.log", "a.log*"] {
        let place = Place::new();
        let flow = Collector::new(Mode::Deliver);
        place.append("a.log", lines(0, 10));
        let source = place.run(&with(place.path(pattern), json!({})), &flow);
        flow.until_rows(10).await;
        place.append("a.log", lines(10, 20));
        fs::rename(place.path("a.log"), place.path("a.log.1")).unwrap();
        place.append("a.log.1", lines(20, 30));
        place.append("a.log", lines(30, 40));
        flow.until_rows(40).await;
        // The writer has not been told yet and goes on in the old file.
        place.append("a.log.1", lines(40, 45));
        flow.until_rows(45).await;
        source.stop().await.unwrap();
        let mut texts = flow.seen().texts();
        texts.sort_by_key(|text| text[5..].parse::<usize>().unwrap());
        assert_eq!(texts, expected(0, 45), "{pattern}");
        let flow = Collector::new(Mode::Deliver);
        let again = with(place.path(pattern), json!({"follow": false}));
        place.run(&again, &flow).ended().await.unwrap();
        assert_eq!(flow.seen().texts(), [""; 0], "{pattern}: nothing is read twice");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_while_stopped_loses_nothing() {
    let place = Place::new();
    let settings = with(place.path("a.log"), json!({"follow": false}));
    place.append("a.log", lines(0, 10));
    assert_eq!(place.run_to_end(&settings).await, expected(0, 10));
    place.append("a.log", lines(10, 20));
    fs::rename(place.path("a.log"), place.path("a.log.1")).unwrap();
    place.append("a.log", lines(20, 30));
    let mut texts = place.run_to_end(&settings).await;
    texts.sort();
    assert_eq!(texts, expected(10, 30));
    assert_eq!(place.run_to_end(&settings).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_last_line_without_end_is_delivered_when_its_file_has_gone() {
    let place = Place::new();
    let flow = Collector::new(Mode::Deliver);
    place.append("a.log", "one\ntwo");
    let source = place.run(&with(place.path("a.log"), json!({"idle": 20 * MS})), &flow);
    flow.until_rows(1).await;
    fs::remove_file(place.path("a.log")).unwrap();
    flow.until_rows(2).await;
    place.append("a.log", "three\n");
    flow.until_rows(3).await;
    source.stop().await.unwrap();
    assert_eq!(flow.seen().texts(), ["one", "two", "three"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn truncation_starts_again() {
    let place = Place::new();
    let flow = Collector::new(Mode::Deliver);
    place.append("a.log", lines(0, 100));
    let source = place.run(&with(place.path("a.log"), json!({})), &flow);
    flow.until_rows(100).await;
    fs::write(place.path("a.log"), lines(100, 110)).unwrap();
    flow.until_rows(110).await;
    // Written anew and longer than before: only the first bytes tell.
    fs::write(place.path("a.log"), lines(110, 1000)).unwrap();
    flow.until_rows(1000).await;
    source.stop().await.unwrap();
    assert_eq!(flow.seen().texts(), expected(0, 1000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copytruncate_is_not_read_twice_and_the_rest_is_read_from_the_copy() {
    let place = Place::new();
    let settings = with(place.path("a.log*"), json!({"follow": false}));
    place.append("a.log", lines(0, 100));
    assert_eq!(place.run_to_end(&settings).await, expected(0, 100));
    place.append("a.log", lines(100, 110));
    fs::copy(place.path("a.log"), place.path("a.log.1")).unwrap();
    fs::write(place.path("a.log"), lines(110, 120)).unwrap();
    let mut texts = place.run_to_end(&settings).await;
    texts.sort();
    assert_eq!(texts, expected(100, 120));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copytruncate_while_running() {
    let place = Place::new();
    let flow = Collector::new(Mode::Deliver);
    place.append("a.log", lines(0, 100));
    let source = place.run(&with(place.path("a.log*"), json!({"poll": 5 * MS, "refresh": 10 * MS})), &flow);
    flow.until_rows(100).await;
    fs::copy(place.path("a.log"), place.path("a.log.1")).unwrap();
    fs::write(place.path("a.log"), lines(100, 110)).unwrap();
    flow.until("the new lines", |seen| seen.texts().contains(&"line 109".to_owned())).await;
    let idle = flow.seen().idle;
    flow.until("more looks", |seen| seen.idle > idle + 20).await;
    source.stop().await.unwrap();
    assert_eq!(flow.seen().texts(), expected(0, 110));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_batch_is_read_again() {
    let place = Place::new();
    let flow = Collector::new(Mode::Lose);
    place.append("a.log", lines(0, 5000));
    let source = place.run(&with(place.path("a.log"), json!({"batch": 100, "unconfirmed": 3})), &flow);
    flow.until("losses", |seen| seen.lost.len() > 500).await;
    flow.set_mode(Mode::Deliver);
    flow.until("all lines", |seen| seen.texts().contains(&"line 4999".to_owned())).await;
    source.stop().await.unwrap();
    let seen = flow.seen();
    assert!(seen.batch_rows_max <= 100);
    let texts: std::collections::BTreeSet<String> = seen.texts().into_iter().collect();
    assert_eq!(texts.len(), 5000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_committed_before_it_is_delivered() {
    let place = Place::new();
    place.append("a.log", lines(0, 1000));
    let settings = with(place.path("a.log"), json!({"batch": 10, "unconfirmed": 8}));
    let flow = Collector::new(Mode::Hold);
    let source = place.run(&settings, &flow);
    flow.until("all that may be on its way", |seen| seen.held.len() == 8).await;
    assert_eq!(flow.seen().rows.len(), 80, "reading waits for confirmations");
    // The second is delivered, the first is not: nothing may be skipped.
    let second = flow.seen().held.remove(1);
    second.done();
    flow.until("one more batch", |seen| seen.held.len() == 8).await;
    source.kill().await;
    let flow = Collector::new(Mode::Deliver);
    let again = with(place.path("a.log"), json!({"follow": false}));
    place.run(&again, &flow).ended().await.unwrap();
    assert_eq!(flow.seen().texts(), expected(0, 1000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_flow_holds_the_source_and_a_stop_waits_for_the_rest() {
    let place = Place::new();
    place.append("a.log", lines(0, 100));
    let flow = Collector::new(Mode::Hold);
    let settings = with(place.path("a.log"), json!({"batch": 1000}));
    let source = place.run(&settings, &flow);
    flow.until_rows(100).await;
    let held = std::mem::take(&mut flow.seen().held);
    let stopping = tokio::spawn(source.stop());
    held.into_iter().for_each(flow_plan::Ack::done);
    stopping.await.unwrap().unwrap();
    let again = with(place.path("a.log"), json!({"follow": false}));
    assert_eq!(place.run_to_end(&again).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreadable_file_is_reported_and_the_others_go_on() {
    let place = Place::new();
    place.append("good.log", "good\n");
    // A link that leads in a circle cannot be read by anybody, root included.
    std::os::unix::fs::symlink(place.path("loop.log"), place.path("loop.log")).unwrap();
    let flow = Collector::new(Mode::Deliver);
    let result = place.run(&with(place.path("*.log"), json!({"follow": false})), &flow).ended().await;
    assert_eq!(flow.seen().texts(), ["good"]);
    let Err(SourceError::Fatal(fault)) = result else { panic!("no fault at the end") };
    assert_eq!((fault.code, fault.setting), (Some("F0804"), Some("path")));
    assert!(fault.message.contains("loop.log`"), "{fault}");
    // One that follows goes on, and says it once.
    place.append("good.log", "more\n");
    let source = place.run(&with(place.path("*.log"), json!({})), &flow);
    flow.until("more lines and looks", |seen| seen.rows.len() == 2 && seen.idle > 10).await;
    source.stop().await.unwrap();
    assert_eq!(flow.seen().warned.len(), 2);
    // A directory in the place of a file is no file.
    let result =
        Running::of(tail, &with(place.path("nothing*.log"), json!({"follow": false})), &place.state(), &flow);
    let Err(SourceError::Fatal(fault)) = result.ended().await else { panic!("no fault") };
    assert_eq!((fault.code, fault.setting), (Some("F0805"), Some("path")));
    assert!(fault.message.contains("nothing*.log"), "{fault}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_may_vanish_and_come_back() {
    let place = Place::new();
    fs::create_dir(place.path("logs")).unwrap();
    place.append("logs/a.log", lines(0, 10));
    let flow = Collector::new(Mode::Deliver);
    let source = place.run(&with(place.path("logs/*.log"), json!({"idle": 10 * MS})), &flow);
    flow.until_rows(10).await;
    fs::rename(place.path("logs"), place.path("away")).unwrap();
    let idle = flow.seen().idle;
    flow.until("looks at nothing", |seen| seen.idle > idle + 30).await;
    place.append("away/a.log", lines(10, 20));
    fs::rename(place.path("away"), place.path("logs")).unwrap();
    flow.until_rows(20).await;
    source.stop().await.unwrap();
    assert_eq!(flow.seen().texts(), expected(0, 20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_may_be_deleted_and_made_anew() {
    let place = Place::new();
    let flow = Collector::new(Mode::Deliver);
    let source = place.run(&with(place.path("logs/*.log"), json!({"idle": 10 * MS})), &flow);
    for round in 0..3 {
        fs::create_dir(place.path("logs")).unwrap();
        place.append("logs/a.log", lines(round * 10, round * 10 + 10));
        flow.until_rows(round * 10 + 10).await;
        fs::remove_dir_all(place.path("logs")).unwrap();
        let idle = flow.seen().idle;
        flow.until("looks at nothing", |seen| seen.idle > idle + 5).await;
    }
    source.stop().await.unwrap();
    assert_eq!(flow.seen().texts(), expected(0, 30));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_that_come_late_into_a_rotated_file_are_read() {
    let place = Place::new();
    let flow = Collector::new(Mode::Deliver);
    let settings = with(place.path("a.log"), json!({"idle": 10 * MS}));
    place.append("a.log", lines(0, 10));
    let source = place.run(&settings, &flow);
    flow.until_rows(10).await;
    fs::rename(place.path("a.log"), place.path("a.log.1")).unwrap();
    // It was quiet for so long that it is closed.
    place.until_open_files(0).await;
    place.append("a.log.1", lines(10, 20));
    flow.until_rows(20).await;
    assert_eq!(flow.seen().rows[19].header("file"), place.path("a.log").to_str().unwrap());
    // Rotated once more, quiet once more, late once more, with a new file in its place.
    place.until_open_files(0).await;
    place.append("a.log", lines(20, 30));
    flow.until_rows(30).await;
    fs::rename(place.path("a.log.1"), place.path("a.log.2")).unwrap();
    fs::rename(place.path("a.log"), place.path("a.log.1")).unwrap();
    place.until_open_files(0).await;
    place.append("a.log.2", lines(30, 40));
    flow.until_rows(40).await;
    place.append("a.log.1", lines(40, 50));
    flow.until_rows(50).await;
    source.stop().await.unwrap();
    assert_eq!(flow.seen().texts(), expected(0, 50));
    // And what comes while nobody looks is read by the next run.
    place.append("a.log.2", lines(50, 60));
    let source = place.run(&settings, &flow);
    flow.until_rows(60).await;
    source.stop().await.unwrap();
    assert_eq!(flow.seen().texts(), expected(0, 60));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_that_come_late_into_a_deleted_file_are_read_and_then_it_is_closed() {
    let place = Place::new();
    let flow = Collector::new(Mode::Deliver);
    place.append("a.log", "one\ntwo");
    let mut writer = OpenOptions::new().append(true).open(place.path("a.log")).unwrap();
    let source = place.run(&with(place.path("a.log"), json!({"idle": 30 * MS})), &flow);
    flow.until_rows(1).await;
    fs::remove_file(place.path("a.log")).unwrap();
    // The unfinished line comes when the file has been quiet for long enough to count as finished.
    flow.until_rows(2).await;
    writer.write_all(b"three\n").unwrap();
    flow.until_rows(3).await;
    drop(writer);
    // Its space is given back in the end.
    place.until_open_files(0).await;
    source.stop().await.unwrap();
    assert_eq!(flow.seen().texts(), ["one", "two", "three"]);
}

#[test]
fn a_denied_file_names_the_user_and_the_remedy() {
    let denied = std::io::Error::from_raw_os_error(rustix::io::Errno::ACCESS.raw_os_error());
    let fault = super::unreadable(Path::new("/var/log/x"), &denied);
    assert_eq!((fault.code, fault.setting), (Some("F0804"), Some("path")));
    assert!(
        fault.message.starts_with("cannot read `/var/log/x`: permission denied for the user "),
        "{fault}"
    );
    assert!(fault.help.unwrap().contains("setfacl -m u:"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_files_with_few_open() {
    let place = Place::new();
    for file in 0..1000 {
        place.append(&format!("{file}.log"), format!("{file} a\n{file} b\n"));
    }
    let flow = Collector::new(Mode::Deliver);
    let source = place.run(&with(place.path("*.log"), json!({"open_max": 16})), &flow);
    flow.until_rows(2000).await;
    let open = place.open_files();
    assert!(open <= 17, "{open} files are open");
    for file in (0..1000).step_by(7) {
        place.append(&format!("{file}.log"), format!("{file} c\n"));
    }
    flow.until_rows(2000 + 143).await;
    source.stop().await.unwrap();
    let mut texts = flow.seen().texts();
    let count = texts.len();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), count, "nothing is read twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_directory_that_cannot_be_written_is_a_fault() {
    let place = Place::new();
    place.append("a.log", "one\n");
    place.append("state", "a file, no directory");
    let flow = Collector::new(Mode::Deliver);
    let source = place.run(&with(place.path("a.log"), json!({})), &flow);
    let Err(SourceError::Retry(fault) | SourceError::Fatal(fault)) = source.ended().await else {
        panic!("no fault")
    };
    assert_eq!(fault.code, Some("F0806"));
}

#[test]
fn a_bad_pattern_is_a_fault_of_its_setting() {
    let settings = with("/a/[", json!({}));
    let fault = tail(&settings, &context(Path::new("/nowhere"))).err().unwrap();
    assert_eq!(fault.setting, Some("path"));
}

/// Writes, rotates, truncates a copy, kills and restarts in an order that a seed decides; at the end every line
/// has arrived at least once and no line is torn. A failure names its seed; `FLOW_SEEDS=1000` tries so many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_every_line_arrives() {
    let seeds = std::env::var("FLOW_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(12u64);
    for seed in 1..=seeds {
        let mut random = Seeded(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let place = Place::new();
        let flow = Collector::new(Mode::Deliver);
        let pattern = if seed % 2 == 0 { "app.log" } else { "app.log*" };
        let settings = with(
            place.path(pattern),
            json!({"batch": 7, "read": 4096, "unconfirmed": 4, "idle": 3 * MS, "open_max": 2}),
        );
        let mut source = Some(place.run(&settings, &flow));
        let (mut written, mut rotations) = (0usize, 0);
        for _ in 0..120 {
            match random.below(11) {
                // A writer that did not notice the rotation.
                10 => {
                    let (name, count) = (format!("app.log.{rotations}"), random.below(5) as usize);
                    if rotations > 0 {
                        place.append(&name, lines(written, written + count));
                        written += count;
                    }
                }
                0..=4 => {
                    let count = random.below(40) as usize;
                    let mut text = lines(written, written + count);
                    written += count;
                    // Written in two parts, perhaps in the middle of a line.
                    let rest = text.split_off(random.below(text.len() as u64 + 1) as usize);
                    place.append("app.log", text);
                    tokio::task::yield_now().await;
                    place.append("app.log", rest);
                }
                5 => {
                    // A file that comes and goes between two looks is found by a pattern that names both of
                    // its names only; any other must be known before it goes.
                    if place.path("app.log").exists() && (seed % 2 == 1 || place.knows("app.log")) {
                        rotations += 1;
                        fs::rename(place.path("app.log"), place.path(&format!("app.log.{rotations}")))
                            .unwrap();
                    }
                }
                6 => {
                    if let Some(source) = source.take() {
                        source.kill().await;
                    }
                }
                7 => {
                    if let Some(source) = source.take() {
                        source.stop().await.unwrap();
                    }
                }
                8 => flow.set_mode(if random.below(2) == 0 { Mode::Lose } else { Mode::Deliver }),
                _ => {
                    if source.is_none() {
                        source = Some(place.run(&settings, &flow));
                    }
                    let idle = flow.seen().idle + random.below(3) as usize;
                    if flow.seen().mode == Mode::Deliver {
                        flow.until(&format!("a look with seed {seed}"), |seen| seen.idle >= idle).await;
                    }
                }
            }
        }
        flow.set_mode(Mode::Deliver);
        let source = source.unwrap_or_else(|| place.run(&settings, &flow));
        let all = expected(0, written);
        flow.until(&format!("all {written} lines with seed {seed}"), |seen| {
            let mut counts = BTreeMap::new();
            for row in &seen.rows {
                *counts.entry(row.text()).or_insert(0usize) += 1;
            }
            all.iter().all(|line| counts.contains_key(line))
        })
        .await;
        source.stop().await.unwrap();
        let known: std::collections::BTreeSet<&String> = all.iter().collect();
        for row in &flow.seen().rows {
            assert!(known.contains(&row.text()), "torn line `{}` with seed {seed}", row.text());
        }
    }
}
