//! Running the built program in tests: with a limit on how long anything may take, and cleaned up afterwards.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Nothing in the tests takes this long unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// `flowc` with arguments, a home of its own and no colours.
pub fn flowc(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowc"));
    command.env_clear().env("HOME", home).env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs to the end and gives what it said; one that hangs is killed after [`PATIENCE`] and fails the test.
pub fn finish(command: &mut Command) -> Output {
    let child = command.spawn().expect("flowc starts");
    let id = nix::unistd::Pid::from_raw(child.id() as i32);
    let (ended, watch) = std::sync::mpsc::channel();
    let watchdog = std::thread::spawn(move || {
        let hangs = watch.recv_timeout(PATIENCE).is_err();
        if hangs {
            // It may just have ended; then there is nobody to kill.
            let _ = nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGKILL);
        }
        hangs
    });
    let output = child.wait_with_output().expect("its output can be read");
    let _ = ended.send(());
    assert!(!watchdog.join().expect("the watchdog ends"), "flowc did not end within {PATIENCE:?}");
    output
}

/// A running process that is killed when the test ends.
pub struct Running(pub Child);

impl Running {
    pub fn start(command: &mut Command) -> Running {
        Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("flowc starts"))
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let id = nix::unistd::Pid::from_raw(self.0.id() as i32);
        nix::sys::signal::kill(id, signal).expect("the process is there");
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(mut self) {
        self.0.kill().expect("the process is there");
        self.0.wait().expect("the process ends");
    }

    /// Waits for the end.
    pub fn wait(mut self) -> std::process::ExitStatus {
        let mut status = None;
        wait_until("the process ends", || {
            status = self.0.try_wait().expect("the process can be asked");
            status.is_some()
        });
        status.expect("it ended")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Polls until it is true; fails the test after [`PATIENCE`].
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}
