//! `flowc run`: check, start, show what happens, stop when asked.
//!
//! The first Ctrl-C (or SIGTERM) drains: sources stop, channels empty, sinks finish their files. The second stops at
//! once; what was not delivered comes again at the next start, from sources that can repeat.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use flow_agent::Status;
use flow_agent::host::{
    Agents, Elected, End, Host, HostOptions, Level, Notice, Running, RunningServices, StartFault,
};
use flow_diag::{Code, Diagnostic, Files, Severity, Span, render};
use flow_plan::Plan;
use flow_plan::plan::OriginId;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::project::{self, Params, Project};
use crate::status::{Line, Summary};
use crate::{Exit, machine_code, output, secrets, state};

/// What `flowc run --help` adds to its flags.
const VARIABLES: &str = "\
Environment:
  RUST_LOG         What is logged: `debug`, or by part; `flow_jit=debug` says
                   what became machine code, its size and the time it took
  FLOW_JIT_VERIFY  `1`: check machine code before it is used
  FLOW_<NAME>      The value of the parameter `<name>` of the file";

#[derive(clap::Args)]
#[command(after_long_help = VARIABLES)]
pub struct Arguments {
    /// The file; `-` is standard input
    file: PathBuf,
    #[command(flatten)]
    params: Params,
    /// Where state is kept, in place of what the file says
    #[arg(long, value_name = "DIRECTORY", env = "FLOW_DATA")]
    data: Option<PathBuf>,
    /// Run interceptors by the reference evaluator, without machine code
    #[arg(long)]
    no_jit: bool,
    /// Say nothing but faults
    #[arg(long, short)]
    quiet: bool,
    /// How the end is reported
    #[arg(long, value_enum, default_value_t = RunFormat::Text)]
    format: RunFormat,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RunFormat {
    /// For people, on stderr
    Text,
    /// The last status as JSON, on stderr
    Json,
}

/// How often the status line is drawn.
const LINE_EVERY: Duration = Duration::from_millis(250);

pub fn run(arguments: &Arguments) -> Exit {
    start_logging();
    raise_open_limit();
    let project = match project::open(&arguments.file, &arguments.params) {
        Ok(project) => project,
        Err(exit) => return exit,
    };
    output::block(&render(&project.files, &project.checked.diagnostics, output::graphical()));
    let Some(plan) = project.checked.plan.clone() else {
        output::note(&format!(
            "{}: {}; nothing was started",
            arguments.file.display(),
            flow_diag::count_line(&project.checked.diagnostics)
        ));
        return Exit::Errors;
    };
    match prepare(&plan, arguments) {
        Ok((options, state)) => {
            let exit = run_plan(&project, &plan, options, arguments);
            drop(state);
            exit
        }
        Err(fault) => {
            let diagnostic = diagnostic_of(&project.files, &plan, fault.0, &fault.1, "");
            output::block(&render(&project.files, &[diagnostic], output::graphical()));
            Exit::Failure
        }
    }
}

/// `RUST_LOG` shows the program's own log; without it what a part warns of (a command's stderr, a file that was taken
/// away) and what went wrong inside.
fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error,flow_stdlib=warn,flow_agent=warn"));
    // A second subscriber is refused; the first one goes on.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(output::colour())
        .with_target(false)
        .with_writer(output::log_writer)
        .try_init();
}

/// Shells give few open files by default and allow many: files and connections are what a run needs.
fn raise_open_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // When it is refused the run goes on with what there is; a part that needs more says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

type PlacedFault = (OriginId, flow_agent::Fault);

/// Fetches the secrets and takes the state directory.
fn prepare(plan: &Plan, arguments: &Arguments) -> Result<(HostOptions, state::State), PlacedFault> {
    let secrets = secrets::fetch(plan)?;
    let directory = data_dir(plan, &arguments.file, arguments.data.as_deref());
    let state = state::State::open(&directory).map_err(|fault| (OriginId(0), fault))?;
    let mut options = HostOptions::new(directory);
    options.secrets = secrets;
    options.host = state::host_name();
    if let Some(drain) = plan.runtime.get("drain").and_then(serde_json::Value::as_u64) {
        options.drain_max = Duration::from_nanos(drain);
    }
    if let Some(linger) = plan.runtime.get("linger").and_then(serde_json::Value::as_u64) {
        options.linger = Duration::from_nanos(linger);
    }
    Ok((options, state))
}

/// Where the state of a program is: what was asked for, what the file says, or a directory of its own under the
/// user's state directory.
pub fn data_dir(plan: &Plan, file: &Path, asked: Option<&Path>) -> PathBuf {
    if let Some(asked) = asked {
        return asked.to_owned();
    }
    if let Some(data) = plan.runtime.get("data").and_then(serde_json::Value::as_str) {
        return PathBuf::from(data);
    }
    state::default_directory(file)
}

fn run_plan(project: &Project, plan: &Plan, options: HostOptions, arguments: &Arguments) -> Exit {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::note(&format!("cannot start: {error}"));
            return Exit::Failure;
        }
    };
    let summary = Summary::new(project, plan);
    if !arguments.quiet && arguments.format == RunFormat::Text {
        output::block(&summary.beginning(&arguments.file, &options.data_dir));
    }
    let mut registry = flow_stdlib::registry();
    if !arguments.no_jit {
        registry.compiler = Some(machine_code::compiler());
    }
    let end = runtime.block_on(async {
        // Before anything runs: who sees an open port may already ask for a stop.
        let signals = Signals::listen();
        let services = RunningServices::start(plan, &registry, &options).await?;
        if !arguments.quiet && arguments.format == RunFormat::Text {
            for service in services.status() {
                let put_in = if service.implicit { " (put in)" } else { "" };
                let at = match &service.condition {
                    Some(condition) if condition == "external" => format!("at {}", service.address),
                    Some(condition) => format!("on {} ({condition})", service.address),
                    None => format!("on {}", service.address),
                };
                output::note(&format!("{} {}{put_in} {at}", service.word.text(), service.name));
            }
        }
        let options = HostOptions { services: services.clone(), ..options };
        let running = match start_agents(plan, &registry, options) {
            Ok(running) => running,
            Err(faults) => {
                services.shutdown().await;
                return Err(faults);
            }
        };
        Ok(attend(plan, running, signals, arguments, &summary).await)
    });
    // Blocking reads (of a terminal, say) must not hold the process.
    runtime.shutdown_background();
    match end {
        Err(faults) => {
            output::block(&render(
                &project.files,
                &start_diagnostics(project, plan, faults),
                output::graphical(),
            ));
            output::note("nothing was started");
            Exit::Failure
        }
        Ok(end) if end.failed => Exit::Failure,
        Ok(_) => Exit::Fine,
    }
}

fn start_diagnostics(project: &Project, plan: &Plan, faults: Vec<StartFault>) -> Vec<Diagnostic> {
    let all = faults.iter();
    all.map(|fault| diagnostic_of(&project.files, plan, fault.origin, &fault.fault, &fault.node)).collect()
}

/// The agents at work: always, or while they are elected.
enum Run {
    Always(Running),
    Elected(Elected),
}

fn start_agents(
    plan: &Plan,
    registry: &flow_agent::Registry,
    options: HostOptions,
) -> Result<Run, Vec<StartFault>> {
    match plan.elections.is_empty() {
        true => Host::start(plan, &Agents::All, registry, options).map(Run::Always),
        false => Elected::start(plan, registry, options).map(Run::Elected),
    }
}

impl Run {
    async fn wait(&self) -> End {
        match self {
            Run::Always(running) => running.wait().await,
            Run::Elected(running) => running.wait().await,
        }
    }

    fn stop(&self) {
        match self {
            Run::Always(running) => running.stop(),
            Run::Elected(running) => running.stop(),
        }
    }

    fn stop_now(&self) {
        match self {
            Run::Always(running) => running.stop_now(),
            Run::Elected(running) => running.stop_now(),
        }
    }

    fn status(&self) -> Status {
        match self {
            Run::Always(running) => running.status(),
            Run::Elected(running) => running.status(),
        }
    }

    fn notices(&self) -> tokio::sync::broadcast::Receiver<Notice> {
        match self {
            Run::Always(running) => running.notices(),
            Run::Elected(running) => running.notices(),
        }
    }

    /// Resolves when the process has to end because a part of it does not stop in time.
    async fn overrun(&self) {
        match self {
            Run::Always(_) => std::future::pending().await,
            Run::Elected(running) => running.overrun().await,
        }
    }
}

/// Watches a run until its end: signals, faults, the status line.
async fn attend(
    plan: &Plan,
    running: Run,
    mut signals: Signals,
    arguments: &Arguments,
    summary: &Summary,
) -> End {
    let text = arguments.format == RunFormat::Text;
    let mut line = Line::new(text && !arguments.quiet && output::live());
    let mut notices = running.notices();
    let mut tick = tokio::time::interval(LINE_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut asked = 0;
    let mut end = std::pin::pin!(running.wait());
    let mut overrun = std::pin::pin!(running.overrun());
    let end = loop {
        tokio::select! {
            end = &mut end => break end,
            () = &mut overrun => {
                line.clear();
                output::note("something did not stop, and another process may be at work by now: ends at once");
                std::process::exit(i32::from(Exit::Failure.code()));
            }
            _ = tick.tick() => line.draw(&running.status()),
            notice = notices.recv() => {
                // A reader that is behind has missed some; the status counts them all.
                if let Ok(notice) = notice {
                    line.clear();
                    output::note(&notice_line(plan, &notice));
                }
            }
            () = signals.next() => stop(&running, &mut asked, &mut line, arguments.quiet),
        }
    };
    line.clear();
    while let Ok(notice) = notices.try_recv() {
        output::note(&notice_line(plan, &notice));
    }
    let status = running.status();
    match arguments.format {
        RunFormat::Json => {
            let json = serde_json::json!({ "end": end, "status": status });
            output::block(&format!("{json:#}\n"));
        }
        RunFormat::Text if !arguments.quiet => output::block(&summary.end(&status, &end)),
        RunFormat::Text => {}
    }
    end
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupts: Option<Signal>,
    terminations: Option<Signal>,
}

impl Signals {
    fn listen() -> Signals {
        Signals {
            interrupts: signal(SignalKind::interrupt()).ok(),
            terminations: signal(SignalKind::terminate()).ok(),
        }
    }

    async fn next(&mut self) {
        async fn one(signal: &mut Option<Signal>) {
            match signal {
                Some(signal) => {
                    signal.recv().await;
                }
                None => std::future::pending().await,
            }
        }
        tokio::select! {
            () = one(&mut self.interrupts) => {}
            () = one(&mut self.terminations) => {}
        }
    }
}

fn stop(running: &Run, asked: &mut u32, line: &mut Line, quiet: bool) {
    *asked += 1;
    line.clear();
    let say = |text: &str| {
        if !quiet {
            output::note(text);
        }
    };
    if *asked == 1 {
        say("stopping: sources stop, channels empty; once more stops at once");
        running.stop();
    } else {
        say("stopping at once: what was not delivered comes again at the next start");
        running.stop_now();
    }
}

/// A fault as one line: place, part, what, what to do.
fn notice_line(plan: &Plan, notice: &Notice) -> String {
    let word = match notice.level {
        Level::Note => "note",
        Level::Warning => "warning",
        Level::Error => "error",
    };
    let place = plan
        .origins
        .get(notice.origin.0 as usize)
        .filter(|_| notice.origin.0 != 0)
        .map(|origin| format!("{}:{}:{}: ", origin.file, origin.line, origin.column))
        .unwrap_or_default();
    let code = notice.fault.code.map(|code| format!("{code} ")).unwrap_or_default();
    let help = notice.fault.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
    format!("{place}{word}: {code}`{}`: {}{help}", notice.node, notice.fault.message)
}

/// A fault of the world as a diagnostic at its place in the text.
pub fn diagnostic_of(
    files: &Files,
    plan: &Plan,
    origin: OriginId,
    fault: &flow_agent::Fault,
    node: &str,
) -> Diagnostic {
    let code = fault.code.and_then(Code::parse).unwrap_or(Code::F0800);
    let span = plan
        .origins
        .get(origin.0 as usize)
        .and_then(|origin| {
            let file = files.ids().find(|id| files.name(*id) == origin.file)?;
            Some(Span { file, start: origin.start, end: origin.end })
        })
        .unwrap_or(Span::new(flow_diag::FileId(0), 0, 0));
    let title = match node {
        "" => fault.message.clone(),
        node => format!("`{node}` cannot start: {}", fault.message),
    };
    let mut diagnostic = Diagnostic::new(code, span, title);
    diagnostic.severity = Severity::Error;
    if let Some(help) = &fault.help {
        diagnostic = diagnostic.help(help);
    }
    diagnostic
}
