//! `exec`: the lines that a command prints. The command has a process group of its own, so that what it started
//! ends with it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration as StdDuration;

use async_trait::async_trait;
use flow_agent::{Context, Fault, Source, SourceError, SourceOutput, Stop, decode_settings};
use flow_plan::settings::{Duration, Settings};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::io::AsyncRead;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::feed::{Chunk, Input, LineReader, Pump, QUEUE_CHUNKS};
use super::lines::Cut;
use super::positions::plain;
use super::rows::{HeaderTarget, Stamp, now_ms};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExecSettings {
    command: String,
    shell: Vec<String>,
    restart: Restart,
    throttle: Duration,
    stderr: Stderr,
    directory: Option<PathBuf>,
    environment: std::collections::BTreeMap<String, String>,
    kill_after: Duration,
    batch: usize,
    read: usize,
    line_max: usize,
    stream_header: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Restart {
    Never,
    OnFailure,
    OnExit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stderr {
    Log,
    Events,
    Ignore,
}

struct Exec {
    settings: ExecSettings,
    stream_header: Option<HeaderTarget>,
    stamp: Stamp,
}

/// Makes the source.
pub fn exec(settings: &Settings, context: &Context) -> Result<Box<dyn Source>, Fault> {
    let settings: ExecSettings = decode_settings(settings)?;
    if settings.command.trim().is_empty() {
        return Err(Fault::new("the command is empty").setting("command"));
    }
    check_program(&settings)?;
    let stream_header = HeaderTarget::optional(&settings.stream_header, context);
    Ok(Box::new(Exec { settings, stream_header, stamp: Stamp::new(context) }))
}

/// Finds out before anything runs whether the program and the directory are there. What a shell is to run is known
/// to the shell alone.
fn check_program(settings: &ExecSettings) -> Result<(), Fault> {
    if let Some(directory) = &settings.directory
        && !directory.is_dir()
    {
        let place = directory.display();
        let fault = Fault::new(format!("cannot run `{}`: there is no directory `{place}`", settings.command));
        return Err(fault.code("F0804").setting("directory").help(format!("mkdir -p {place}")));
    }
    let (program, setting) = match settings.shell.first() {
        Some(shell) => (shell.as_str(), "shell"),
        None => (settings.command.split_whitespace().next().unwrap_or_default(), "command"),
    };
    let path = match settings.environment.get("PATH") {
        Some(path) => path.into(),
        None => std::env::var_os("PATH").unwrap_or_default(),
    };
    let found = if program.contains('/') {
        // A relative path begins where the command runs.
        is_program(&settings.directory.clone().unwrap_or_default().join(program))
    } else {
        std::env::split_paths(&path).any(|directory| is_program(&directory.join(program)))
    };
    if found {
        return Ok(());
    }
    let why = if program.contains('/') { "it is no program" } else { "no directory of `PATH` has it" };
    let fault = Fault::new(format!("cannot run `{program}`: {why}")).code("F0804").setting(setting);
    Err(fault.help("install it, or write its whole path"))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Ends the whole process group when it goes out of scope, however that happens.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // The group may have ended by itself.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

#[async_trait]
impl Source for Exec {
    async fn run(&mut self, output: SourceOutput, mut stop: Stop) -> Result<(), SourceError> {
        loop {
            let began = Instant::now();
            let status = self.run_once(&output, &mut stop).await?;
            let Some(status) = status else { return Ok(()) };
            let again = match self.settings.restart {
                Restart::Never => false,
                Restart::OnFailure => !status.success(),
                Restart::OnExit => true,
            };
            if !again {
                if !status.success() {
                    let command = &self.settings.command;
                    let fault = Fault::new(format!("`{command}` ended with {status}")).setting("command");
                    return Err(SourceError::Fatal(match status.code() {
                        Some(127) => fault.help("the shell has not found a program: try the command there"),
                        Some(126) => fault.help("a program of the command may not be run: `chmod +x`"),
                        _ => fault,
                    }));
                }
                return Ok(());
            }
            output.count("restarts", 1);
            tracing::info!("`{}` ended with {status} and is started again", self.settings.command);
            let pause = self.settings.throttle.std().saturating_sub(began.elapsed());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.stopped() => return Ok(()),
            }
        }
    }
}

impl Exec {
    fn command(&self) -> Command {
        let settings = &self.settings;
        let mut command = match settings.shell.split_first() {
            Some((program, args)) => {
                let mut command = Command::new(program);
                command.args(args).arg(&settings.command);
                command
            }
            None => {
                let mut words = settings.command.split_whitespace();
                let mut command = Command::new(words.next().unwrap_or_default());
                command.args(words);
                command
            }
        };
        if let Some(directory) = &settings.directory {
            command.current_dir(directory);
        }
        let stderr = if settings.stderr == Stderr::Ignore { Stdio::null() } else { Stdio::piped() };
        command.envs(&settings.environment).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        command
    }

    /// Runs the command to its end. `None`: it was stopped.
    async fn run_once(
        &self,
        output: &SourceOutput,
        stop: &mut Stop,
    ) -> Result<Option<std::process::ExitStatus>, SourceError> {
        let settings = &self.settings;
        let mut child = self.command().spawn().map_err(|error| {
            let fault = format!("cannot run `{}`: {}", settings.command, plain(&error));
            SourceError::Retry(Fault::new(fault).code("F0804").setting("command"))
        })?;
        let pid = child.id().and_then(|id| Pid::from_raw(id as i32));
        let group = Group(pid);
        let cut = Cut {
            rows_max: settings.batch.max(1),
            line_max: settings.line_max.max(1),
            at_end: false,
            crlf: false,
        };
        let (sender, chunks) = mpsc::channel(QUEUE_CHUNKS);
        let stdout = child.stdout.take();
        let stderr = child.stderr.take();
        let (to_out, to_err) = (sender.clone(), sender);
        let reading = async move {
            let out = async {
                if let Some(stdout) = stdout {
                    forward(LineReader::new(Input::new(stdout, settings.read, None), cut), "stdout", to_out)
                        .await;
                }
            };
            let err = async {
                match stderr {
                    Some(stderr) if settings.stderr == Stderr::Events => {
                        let reader = LineReader::new(Input::new(stderr, settings.read, None), cut);
                        forward(reader, "stderr", to_err).await;
                    }
                    Some(stderr) => {
                        let cut = Cut { line_max: 4096, ..cut };
                        log(LineReader::new(Input::new(stderr, 4096, None), cut), &settings.command).await;
                    }
                    None => {}
                }
            };
            tokio::join!(out, err);
        };
        // The readers keep the senders; when both pipes are closed the pump has the last lines and ends.
        let pump = Pump {
            rows_max: cut.rows_max,
            linger: StdDuration::ZERO,
            origin_header: self.stream_header.clone(),
            stamp: &self.stamp,
            finish: None,
        };
        let mut stopping = stop.clone();
        let mut watch = stop.clone();
        let feeding = async {
            tokio::select! {
                () = reading => {}
                () = watch.stopped() => {}
            }
        };
        let (_, pumped) = tokio::join!(feeding, pump.run(chunks, output, &mut stopping));
        pumped?;
        if stop.is_stopped() {
            self.end(&mut child, &group).await;
            return Ok(None);
        }
        // The pipes are closed; the command itself may still be at work.
        tokio::select! {
            status = child.wait() => Ok(Some(status.map_err(|error| {
                SourceError::Retry(Fault::new(format!("cannot wait for the command: {}", plain(&error))))
            })?)),
            () = stop.stopped() => {
                self.end(&mut child, &group).await;
                Ok(None)
            }
        }
    }

    /// Asks the group to end, and ends it when it does not.
    async fn end(&self, child: &mut Child, group: &Group) {
        group.signal(Signal::TERM);
        if tokio::time::timeout(self.settings.kill_after.std(), child.wait()).await.is_err() {
            group.signal(Signal::KILL);
        }
    }
}

async fn forward<R: AsyncRead + Unpin>(mut reader: LineReader<R>, stream: &str, to: mpsc::Sender<Chunk>) {
    let stream: Arc<str> = Arc::from(stream);
    loop {
        let (bytes, mut lines) = match reader.next().await {
            Ok(Some(next)) => next,
            Ok(None) => return,
            // What has come is delivered all the same.
            Err(_) => {
                reader.end();
                continue;
            }
        };
        let bodies = std::mem::take(&mut lines.bodies);
        let chunk = Chunk { bytes, bodies, time_ms: now_ms(), origin: Some(stream.clone()) };
        if to.send(chunk).await.is_err() {
            return;
        }
    }
}

async fn log<R: AsyncRead + Unpin>(mut reader: LineReader<R>, command: &str) {
    while let Ok(Some((bytes, lines))) = reader.next().await {
        for range in &lines.bodies {
            tracing::warn!("`{command}` says: {}", String::from_utf8_lossy(&bytes[range.range()]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::testing::{Collector, Mode, Running, context, settings};
    use serde_json::{Value, json};

    fn defaults() -> Value {
        json!({"command": "true", "shell": ["/bin/sh", "-c"], "restart": "never", "throttle": 0,
            "stderr": "log", "directory": null, "environment": {}, "kill_after": 5_000_000_000u64, "batch": 1000,
            "read": 65536, "line_max": 1 << 20, "stream_header": null})
    }

    fn start(flow: &Arc<Collector>, changes: Value) -> Running {
        Running::of(exec, &settings(defaults(), changes), Path::new("/nowhere"), flow)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn lines_of_both_streams() {
        let flow = Collector::new(Mode::Deliver);
        let changes = json!({"command": "echo one; printf \"$WORD\" >&2; printf no-end", "stderr": "events",
            "environment": {"WORD": "two"}, "stream_header": "stream"});
        start(&flow, changes).ended().await.unwrap();
        let seen = flow.seen();
        let mut rows: Vec<_> = seen.rows.iter().map(|row| (row.text(), row.header("stream"))).collect();
        rows.sort();
        assert_eq!(
            rows,
            [("no-end".to_owned(), "stdout"), ("one".to_owned(), "stdout"), ("two".to_owned(), "stderr")]
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_failure_is_a_fault_and_a_restart_runs_again() {
        let flow = Collector::new(Mode::Deliver);
        let failed = start(&flow, json!({"command": "exit 3"})).ended().await;
        assert!(matches!(failed, Err(SourceError::Fatal(fault)) if fault.message.contains('3')));
        let source = start(&flow, json!({"command": "echo tick", "restart": "on_exit"}));
        flow.until_rows(3).await;
        source.stop().await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_cannot_run_is_told_before_anything_runs() {
        let make =
            |changes| exec(&settings(defaults(), changes), &context(Path::new("/nowhere"))).err().unwrap();
        for (changes, setting, message) in [
            (
                json!({"command": "/nowhere/program -x", "shell": []}),
                "command",
                "cannot run `/nowhere/program`",
            ),
            (
                json!({"command": "no_such_program_here -x", "shell": []}),
                "command",
                "no directory of `PATH` has it",
            ),
            (json!({"command": "sh", "shell": [], "environment": {"PATH": "/nowhere"}}), "command", "`PATH`"),
            (json!({"command": "/etc/passwd", "shell": []}), "command", "it is no program"),
            (json!({"shell": ["/nowhere/sh", "-c"]}), "shell", "cannot run `/nowhere/sh`"),
            (json!({"directory": "/nowhere"}), "directory", "there is no directory `/nowhere`"),
        ] {
            let fault = make(changes);
            assert_eq!((fault.code, fault.setting), (Some("F0804"), Some(setting)), "{fault}");
            assert!(fault.message.contains(message) && fault.help.is_some(), "{fault}");
        }
        assert_eq!(make(json!({"command": "  "})).setting, Some("command"));
        // A shell finds out by itself.
        let flow = Collector::new(Mode::Deliver);
        let ended = start(&flow, json!({"command": "no_such_program_here"})).ended().await;
        let Err(SourceError::Fatal(fault)) = ended else { panic!("no fault") };
        assert!(fault.message.contains("127") && fault.help.is_some(), "{fault}");
    }

    /// When each batch came.
    #[derive(Default)]
    struct Times(std::sync::Mutex<Vec<Instant>>, tokio::sync::Notify);

    #[async_trait]
    impl flow_agent::Accept for Times {
        async fn accept(&self, _batch: flow_plan::Batch) -> Result<(), SourceError> {
            self.0.lock().unwrap().push(Instant::now());
            self.1.notify_one();
            Ok(())
        }

        async fn refuse(&self, _batch: flow_plan::Batch, _reason: &str) -> Result<(), SourceError> {
            Ok(())
        }

        fn count(&self, _what: &'static str, _events: u64) {}

        fn idle(&self) {}
    }

    /// The clock stands still while the command runs and jumps when everything waits for it.
    #[tokio::test(start_paused = true)]
    async fn restarts_are_as_far_apart_as_the_throttle_says() {
        for (throttle, changes) in [
            (10, json!({"command": "echo tick", "restart": "on_exit"})),
            (3600, json!({"command": "echo tick; exit 1", "restart": "on_failure"})),
            (0, json!({"command": "echo tick", "restart": "on_exit"})),
        ] {
            let mut all = settings(defaults(), changes);
            all.insert("throttle".to_owned(), json!(throttle * 1_000_000_000u64));
            let mut source = exec(&all, &context(Path::new("/nowhere"))).unwrap();
            let times = Arc::new(Times::default());
            let (_stop, stopped) = tokio::sync::watch::channel(false);
            let output = SourceOutput::new(times.clone());
            let enough = async {
                while times.0.lock().unwrap().len() < 4 {
                    times.1.notified().await;
                }
            };
            tokio::select! {
                ended = source.run(output, Stop::new(stopped)) => panic!("it ends: {ended:?}"),
                () = enough => {}
            }
            let times = times.0.lock().unwrap();
            for pair in times.windows(2) {
                let apart = pair[1] - pair[0];
                assert_eq!(apart.as_secs(), throttle, "{apart:?}");
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_stop_ends_the_whole_group() {
        let flow = Collector::new(Mode::Deliver);
        let command = "sleep 1000 & echo $!; trap '' TERM; wait; sleep 1000";
        let source = start(&flow, json!({"command": command, "kill_after": 50_000_000}));
        flow.until_rows(1).await;
        source.stop().await.unwrap();
        let pid: i32 = flow.seen().texts()[0].parse().unwrap();
        let deadline = Instant::now() + StdDuration::from_secs(30);
        while rustix::process::test_kill_process(Pid::from_raw(pid).unwrap()).is_ok() {
            // Ended but not yet collected by its parent is ended, too.
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if stat.contains(") Z ") || stat.is_empty() {
                break;
            }
            assert!(Instant::now() < deadline, "process {pid} is alive");
            tokio::task::yield_now().await;
        }
    }
}
