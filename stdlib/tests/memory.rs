//! Memory that sources take for hostile input. Alone in its process, so that the peak belongs to it.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use flow_agent::{Accept, Context, SourceError, SourceOutput, Stop};
use flow_plan::{Batch, Settings};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

/// A flow that delivers at once and remembers only how much there was.
#[derive(Default)]
struct Count {
    bytes: AtomicU64,
    rows: AtomicU64,
    row_bytes_max: AtomicU64,
}

#[async_trait]
impl Accept for Count {
    async fn accept(&self, mut batch: Batch) -> Result<(), SourceError> {
        for &row in &batch.rows {
            let len = batch.body(row).len() as u64;
            self.bytes.fetch_add(len, Ordering::Relaxed);
            self.rows.fetch_add(1, Ordering::Relaxed);
            self.row_bytes_max.fetch_max(len, Ordering::Relaxed);
        }
        std::mem::take(&mut batch.ack).done();
        Ok(())
    }

    async fn refuse(&self, _batch: Batch, _reason: &str) -> Result<(), SourceError> {
        Ok(())
    }

    fn count(&self, _what: &'static str, _events: u64) {}

    fn idle(&self) {}
}

/// The most memory that this process ever had, in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_without_end_takes_a_small_multiple_of_its_bound() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("a.log");
    let mut file = fs::File::create(&path).unwrap();
    for _ in 0..200 {
        file.write_all(&vec![b'x'; MIB as usize]).unwrap();
    }
    drop(file);
    let Value::Object(settings) = json!({
        "path": [path], "from": "saved", "exclude": [], "follow": false, "batch": 1000, "read": 512 << 10,
        "poll": 1_000_000, "refresh": 2_000_000, "line_max": 64 * MIB, "idle": 120_000_000_000u64,
        "open_max": 256, "unconfirmed": 64, "save": 1_000_000_000, "file_header": "file", "offset_header": null,
    }) else {
        panic!("settings are an object")
    };
    let mut source = build(&settings, place.path());
    let count = Arc::new(Count::default());
    let before = peak();
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    source.run(SourceOutput::new(count.clone()), Stop::new(stopped)).await.unwrap();
    let taken = (peak() - before) / MIB;
    assert_eq!(count.bytes.load(Ordering::Relaxed), 200 * MIB);
    assert_eq!(count.rows.load(Ordering::Relaxed), 4);
    assert_eq!(count.row_bytes_max.load(Ordering::Relaxed), 64 * MIB);
    assert!(taken <= 3 * 64, "{taken} MiB were taken for pieces of 64 MiB");
}

fn build(settings: &Settings, state_dir: &Path) -> Box<dyn flow_agent::Source> {
    let context = Context {
        name: "web".to_owned(),
        agent: "main".to_owned(),
        state_dir: state_dir.join("state"),
        slots: Arc::default(),
        functions: flow_plan::function::Functions::new(),
        secrets: Arc::default(),
        host: "here".to_owned(),
        services: Default::default(),
    };
    flow_stdlib::registry().sources["tail"](settings, &context).unwrap()
}
