//! The whole ensemble in one thread: its servers, their network, disks and clocks, and clients that do a bit of
//! everything, all from one seed. Whatever breaks meanwhile, what the clients saw must fit together, all servers must end
//! with the same state, and the ensemble must serve again when nothing is broken any more.
//!
//! `FLOW_SIM_SEEDS=1000` runs so many seeds, `FLOW_SIM_SEED=7` that one only; with `FLOW_SIM_LINES=9999` a
//! failure shows so much of what the clients heard.

mod cluster;
mod nemesis;
mod regressions;

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use flow_coordinator::testing::Rng;
use flow_coordinator::testing::checks::check_history;
use flow_coordinator::testing::history::Recorder;
use flow_coordinator::testing::workload::{self, Workload};
use tokio::sync::watch;

use self::cluster::{Cluster, Shape};
use self::nemesis::{CLIENTS, Nemesis};

/// Seeds of the short form.
const SEEDS: u64 = 16;
/// Seeds that are run twice.
const REPEATED: usize = 3;
/// Time that a healed ensemble has to serve again, and clients to come to an end, in milliseconds of the simulation.
const PATIENCE_MS: u64 = 30_000;
/// Of what the clients heard, shown with a failure.
const LAST_LINES: usize = 20;
/// Writes after which it counts as serving.
const SERVES_WRITES: u64 = 20;

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// A task that panics would be gone without a word.
fn note_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.with_borrow_mut(|panics| panics.push(info.to_string()));
            before(info);
        }));
    });
}

#[derive(Debug, Default, PartialEq)]
struct Report {
    calls: usize,
    acknowledged: u64,
    faults: usize,
    /// From the healing to the next acknowledged write.
    recovered_ms: u64,
    virtual_ms: u64,
    trace: u64,
    history: u64,
    lines: Vec<String>,
}

/// One run, in a thread of its own, for random numbers of the consensus are a thread's.
fn run(seed: u64, lines: bool) -> Result<Report, String> {
    note_panics();
    let thread = std::thread::Builder::new().name(format!("seed {seed}"));
    let run = thread.spawn(move || simulate(seed, lines)).map_err(|error| error.to_string())?;
    run.join().unwrap_or_else(|_| Err("the simulation panicked".to_owned()))
}

fn shape(rng: &mut Rng) -> Shape {
    let (servers, observers) = match rng.below(10) {
        0 => (1, 0),
        1 => (5, 0),
        2 => (3, 1),
        _ => (3, 0),
    };
    let snapshot_every = [50, 300, 100_000][rng.below(3) as usize];
    Shape { servers, observers, tick_ms: 500 + rng.below(3) * 250, snapshot_every }
}

fn simulate(seed: u64, lines: bool) -> Result<Report, String> {
    let mut rng = Rng::new(seed);
    let mut cluster = Cluster::new(rng.next_u64(), shape(&mut rng));
    cluster.simulation.set_step_ms([1, 2, 5, 5][rng.below(4) as usize]);
    let mut nemesis = Nemesis { rng: Rng::new(rng.next_u64()), log: vec![format!("{:?}", cluster.shape)] };
    let now = cluster.simulation.network().clone();
    let recorder = Recorder::new(move || now.now_ms());
    let result = faults(&mut cluster, &mut nemesis, &mut rng, &recorder, lines);
    let panics = PANICS.take();
    let result = match panics.first() {
        Some(panic) => Err(format!("a task panicked: {panic}")),
        None => result,
    };
    result.map_err(|what| {
        let history = recorder.history();
        let last = history.lines.len().saturating_sub(number("FLOW_SIM_LINES").unwrap_or(LAST_LINES));
        let last: Vec<String> = (last..history.lines.len()).map(|index| history.tell(index)).collect();
        let states: Vec<String> = cluster.ids().into_iter().map(|id| cluster.tell(id)).collect();
        let waiting = cluster.simulation.network().waiting();
        format!("{what}\n{}\n{}\n{waiting:?}\n{}", nemesis.log.join("\n"), states.join("\n"), last.join("\n"))
    })
}

fn faults(
    cluster: &mut Cluster,
    nemesis: &mut Nemesis,
    rng: &mut Rng,
    recorder: &Recorder,
    lines: bool,
) -> Result<Report, String> {
    let network = cluster.simulation.network().clone();
    if lines {
        network.keep_trace_lines();
    }
    for server in cluster.ids() {
        cluster.start(server);
    }
    let (stop, stopped) = watch::channel(false);
    let acknowledged = Arc::new(AtomicU64::new(0));
    let workload = Workload {
        servers: cluster.addresses(),
        timeout_ms: (cluster.shape.tick_ms * (2 + rng.below(6))) as i32,
        pause_ms: 20 + rng.below(200),
        recorder: recorder.clone(),
        stop: stopped,
        acknowledged: acknowledged.clone(),
    };
    let done = Arc::new(AtomicUsize::new(0));
    let workers = 2 + rng.below(5) as usize;
    let seeds: Vec<u64> = (0..workers).map(|_| rng.next_u64()).collect();
    let (counts, work) = (done.clone(), workload.clone());
    cluster.simulation.start(CLIENTS, |network| async move {
        workload::prepare(network.clone(), &work, 900).await;
        counts.fetch_add(1, Ordering::Relaxed);
        for (number, seed) in (1..).zip(seeds) {
            let (network, work, counts) = (network.clone(), work.clone(), counts.clone());
            tokio::spawn(async move {
                workload::work(network, work, number, seed).await;
                counts.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
    if !cluster.simulation.run_until(PATIENCE_MS, || done.load(Ordering::Relaxed) == 1) {
        return Err(format!("the ensemble does not begin to serve; {:?}", cluster.failure(1)));
    }

    let rounds = 3 + rng.below(8);
    for _ in 0..rounds {
        nemesis.strike(cluster);
        cluster.simulation.run_ms(rng.below(2_500));
        if rng.once_in(2) {
            nemesis.relent(cluster);
            cluster.simulation.run_ms(rng.below(1_500));
        }
    }
    nemesis.heal(cluster);
    let healed_ms = cluster.simulation.now_ms();
    let before = acknowledged.load(Ordering::Relaxed);
    let acked = || acknowledged.load(Ordering::Relaxed);
    if !cluster.simulation.run_until(PATIENCE_MS, || acked() > before) {
        return Err("the ensemble does not serve again".to_owned());
    }
    let recovered_ms = cluster.simulation.now_ms() - healed_ms;
    if !cluster.simulation.run_until(PATIENCE_MS, || acked() > before + SERVES_WRITES) {
        return Err("the ensemble hardly serves again".to_owned());
    }
    stop.send_replace(true);
    if !cluster.simulation.run_until(PATIENCE_MS, || done.load(Ordering::Relaxed) == 1 + workers) {
        return Err("a client does not come to its end".to_owned());
    }

    let (counts, work) = (done.clone(), workload.clone());
    cluster.simulation.start("a", |network| async move {
        for (number, server) in (800..).zip(work.servers.clone()) {
            workload::audit(network.clone(), &work, &server, number).await;
        }
        counts.fetch_add(1, Ordering::Relaxed);
    });
    if !cluster.simulation.run_until(PATIENCE_MS, || done.load(Ordering::Relaxed) == 2 + workers) {
        return Err("a server does not serve again".to_owned());
    }
    let mut ends = false;
    for _ in 0..PATIENCE_MS / 100 {
        cluster.simulation.run_ms(100);
        let states = cluster.states();
        let same = states.iter().all(Option::is_some) && states.windows(2).all(|pair| pair[0] == pair[1]);
        let empty = states.iter().flatten().all(|state| state.ephemerals + state.sessions == 0);
        ends = same && empty;
        if ends {
            break;
        }
    }
    if !ends {
        return Err(format!("servers differ, or sessions do not end: {:?}", cluster.states()));
    }
    let history = recorder.history();
    let report = Report {
        calls: history.calls.len(),
        acknowledged: acked(),
        faults: nemesis.log.len(),
        recovered_ms,
        virtual_ms: cluster.simulation.now_ms(),
        trace: network.trace(),
        history: history.hash(),
        lines: network.trace_lines(),
    };
    check_history(&history, &workload::expected())?;
    Ok(report)
}

fn number<N: std::str::FromStr>(name: &str) -> Option<N> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn seeds() -> Vec<u64> {
    match (number("FLOW_SIM_SEED"), number::<u64>("FLOW_SIM_SEEDS")) {
        (Some(seed), _) => vec![seed],
        (None, Some(count)) => {
            // From another beginning each time, or the same as told.
            let first = number("FLOW_SIM_FIRST").unwrap_or(0);
            (first..first + count).collect()
        }
        (None, None) => (0..SEEDS).collect(),
    }
}

#[test]
fn whatever_breaks_the_ensemble_keeps_its_promises() {
    let mut failures = Vec::new();
    let (mut count, mut calls, mut acknowledged, mut faults, mut virtual_ms) = (0, 0, 0, 0, 0);
    let mut recovered: Vec<u64> = Vec::new();
    for seed in seeds() {
        count += 1;
        match run(seed, false) {
            Ok(report) => {
                calls += report.calls;
                acknowledged += report.acknowledged;
                faults += report.faults;
                virtual_ms += report.virtual_ms;
                recovered.push(report.recovered_ms);
            }
            Err(what) => {
                println!(
                    "seed {seed} fails: {what}\nagain: FLOW_SIM_SEED={seed} cargo test -p flow-coordinator --test \
                     simulation whatever_breaks"
                );
                failures.push(seed);
            }
        }
    }
    recovered.sort_unstable();
    println!(
        "{count} seeds, {} s simulated, {faults} faults and mendings, {calls} calls, {acknowledged} acknowledged \
         writes; healed to the next write: median {:?} ms, most {:?} ms",
        virtual_ms / 1_000,
        recovered.get(recovered.len() / 2),
        recovered.last()
    );
    assert!(failures.is_empty(), "seeds that fail: {failures:?}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in seeds().into_iter().take(REPEATED) {
        let (one, other) = (run(seed, true), run(seed, true));
        let (Ok(one), Ok(other)) = (&one, &other) else {
            // The other test tells why.
            continue;
        };
        let differ = one.lines.iter().zip(&other.lines).position(|(a, b)| a != b);
        if let Some(at) = differ {
            let from = at.saturating_sub(3);
            panic!("seed {seed}: {:#?}\nand {:#?}", &one.lines[from..=at], &other.lines[from..=at]);
        }
        assert_eq!((one.trace, one.history), (other.trace, other.history), "seed {seed}");
    }
}
