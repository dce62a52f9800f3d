//! The same requests, in bytes, to one server of ours and one of ZooKeeper: all answers and events must be the same,
//! but for what is said to differ. Session ids and zxids are each server's own; they are paired as they appear, and
//! the pairs must stay, and be in order.

mod client;
mod generator;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use flow_coordinator::proto::{Code, Id, Request, Response, Stat};

use client::{Client, Packet};
use generator::Generator;

/// The first argument of the process that is this program.
pub const COMMAND: &str = "compare-coordinators";

/// Sequences, and requests of each. `FLOW_INTEROP_SEEDS` is another number of sequences.
const SEEDS: u64 = 12;
const STEPS: usize = 250;

/// Connections to each server.
const CLIENTS: usize = 3;

/// Steps that are told before the one that differs.
const STEPS_SHOWN: usize = 12;

/// With a number as its argument only the sequence of this seed.
pub fn run(arguments: &[String]) -> ExitCode {
    let part = arguments.first().map_or("", String::as_str);
    let count = std::env::var("FLOW_INTEROP_SEEDS").ok().and_then(|count| count.parse().ok());
    let seeds = match part.trim_start_matches("seed_").parse() {
        Ok(seed) => seed..seed + 1,
        Err(_) => 1..1 + count.unwrap_or(SEEDS),
    };
    let address = |name| std::env::var(name).unwrap_or_default();
    let servers = [address("FLOW_INTEROP_ZOOKEEPER"), address("FLOW_INTEROP_REFERENCE")];
    for seed in seeds {
        let begin = Instant::now();
        match compare(&servers, seed) {
            Ok(()) => println!("ok seed_{seed} {:.1}s", begin.elapsed().as_secs_f64()),
            Err(difference) => {
                eprintln!("seed {seed}:\n{difference}");
                println!("FAILED seed_{seed}: {}", difference.lines().last().unwrap_or_default());
            }
        }
    }
    println!("end");
    ExitCode::SUCCESS
}

fn compare(servers: &[String; 2], seed: u64) -> Result<(), String> {
    let mut sides = Vec::new();
    for server in servers {
        let clients: Result<Vec<Client>, _> = (0..CLIENTS).map(|_| Client::connect(server)).collect();
        sides.push(clients.map_err(|error| format!("{server}: {error}"))?);
    }
    let mut pairs = Pairs::default();
    for (ours, theirs) in sides[0].iter().zip(&sides[1]) {
        pairs.sessions.insert(theirs.session, ours.session);
    }
    let mut generator = Generator::new(seed);
    let mut steps: Vec<String> = Vec::new();
    for step in 0..STEPS {
        let (at, request) = generator.next(step, CLIENTS);
        let is_write = generator::is_write(&request);
        steps.push(format!("{step}: client {at}: {request:?}"));
        let mut told: Vec<Vec<Vec<Packet>>> = Vec::new();
        for clients in &mut sides {
            let mut all = vec![Vec::new(); CLIENTS];
            all[at] = clients[at].call(&request).map_err(|error| shown(&steps, &error.to_string()))?;
            // What the others hear of it is behind nothing of their own: a ping brings it.
            for other in (0..CLIENTS).filter(|&other| is_write && other != at) {
                all[other] =
                    clients[other].call(&Request::Ping).map_err(|error| shown(&steps, &error.to_string()))?;
            }
            told.push(all);
        }
        for (client, (ours, theirs)) in told[0].iter().zip(&told[1]).enumerate() {
            let what = if client == at { &request } else { &Request::Ping };
            pairs.same(what, ours, theirs).map_err(|difference| {
                shown(
                    &steps,
                    &format!("ours {ours:?}\ntheirs {theirs:?}\nclient {client}, step {step}: {difference}"),
                )
            })?;
        }
    }
    for client in sides.iter_mut().flatten() {
        client.call(&Request::CloseSession).map_err(|error| shown(&steps, &error.to_string()))?;
    }
    Ok(())
}

fn shown(steps: &[String], difference: &str) -> String {
    let first = steps.len().saturating_sub(STEPS_SHOWN);
    format!("{}\n{difference}", steps[first..].join("\n"))
}

/// What a number of theirs is here.
#[derive(Default)]
struct Pairs {
    zxids: BTreeMap<i64, i64>,
    sessions: BTreeMap<i64, i64>,
}

impl Pairs {
    fn same(&mut self, request: &Request, ours: &[Packet], theirs: &[Packet]) -> Result<(), String> {
        if ours.len() != theirs.len() {
            return Err(format!("{} packets, not {}", ours.len(), theirs.len()));
        }
        for (ours, theirs) in ours.iter().zip(theirs) {
            match (ours, theirs) {
                (Packet::Event(ours), Packet::Event(theirs)) if ours == theirs => {}
                (Packet::Reply(header, ours), Packet::Reply(their_header, theirs)) => {
                    if differs_on_purpose(request, header.err, their_header.err) {
                        continue;
                    }
                    if header.err != their_header.err {
                        return Err(format!("error {}, not {}", header.err, their_header.err));
                    }
                    // That of a read is whatever was applied last: sessions of others end when they like.
                    if generator::is_write(request) {
                        self.zxid(header.zxid, their_header.zxid)?;
                    }
                    match (ours, theirs) {
                        (None, None) => {}
                        (Some(ours), Some(theirs)) => self.response(ours, theirs)?,
                        _ => return Err("only one has a body".to_owned()),
                    }
                }
                _ => return Err("not the same packet".to_owned()),
            }
        }
        Ok(())
    }

    fn response(&mut self, ours: &Response, theirs: &Response) -> Result<(), String> {
        use Response::{Acl, Children, Children2, Created, Data, Ephemerals, Multi, WhoAmI};
        let sorted = |names: &[String]| {
            let mut names = names.to_vec();
            names.sort();
            names
        };
        let equal = match (ours, theirs) {
            (Response::Stat(ours), Response::Stat(theirs)) => return self.stat(ours, theirs),
            (Created { path, stat }, Created { path: their_path, stat: theirs }) => {
                self.stat(stat, theirs)?;
                path == their_path
            }
            (Data { data, stat }, Data { data: their_data, stat: theirs }) => {
                self.stat(stat, theirs)?;
                data == their_data
            }
            (Acl { acl, stat }, Acl { acl: their_acl, stat: theirs }) => {
                self.stat(stat, theirs)?;
                acl == their_acl
            }
            (Children2 { children, stat }, Children2 { children: theirs, stat: their_stat }) => {
                self.stat(stat, their_stat)?;
                sorted(children) == sorted(theirs)
            }
            (Children(ours), Children(theirs)) | (Ephemerals(ours), Ephemerals(theirs)) => {
                sorted(ours) == sorted(theirs)
            }
            (Multi(ours), Multi(theirs)) => {
                for ((op, ours), (their_op, theirs)) in ours.iter().zip(theirs) {
                    match (ours, theirs) {
                        // As since 3.9: `create2` has a stat there too.
                        (Ok(Created { path, .. }), Ok(Response::Path(theirs))) if path == theirs => {}
                        (Ok(ours), Ok(theirs)) if op == their_op => self.response(ours, theirs)?,
                        (Err(ours), Err(theirs)) if ours == theirs => {}
                        _ => return Err(format!("{ours:?}, not {theirs:?}")),
                    }
                }
                ours.len() == theirs.len()
            }
            // A set, in no order.
            (WhoAmI(ours), WhoAmI(theirs)) => {
                let sorted = |ids: &[Id]| {
                    let mut ids = ids.to_vec();
                    ids.sort();
                    ids
                };
                sorted(ours) == sorted(theirs)
            }
            _ => ours == theirs,
        };
        if equal { Ok(()) } else { Err(format!("{ours:?}, not {theirs:?}")) }
    }

    fn stat(&mut self, ours: &Stat, theirs: &Stat) -> Result<(), String> {
        self.zxid(ours.czxid, theirs.czxid)?;
        self.zxid(ours.mzxid, theirs.mzxid)?;
        self.zxid(ours.pzxid, theirs.pzxid)?;
        let owner = self.sessions.get(&theirs.ephemeral_owner).copied().unwrap_or(theirs.ephemeral_owner);
        let rest = |stat: &Stat, ephemeral_owner| Stat {
            czxid: 0,
            mzxid: 0,
            pzxid: 0,
            ctime: 0,
            mtime: i64::from(stat.mtime != stat.ctime && stat.mzxid == stat.czxid),
            ephemeral_owner,
            ..*stat
        };
        let (ours, theirs) = (rest(ours, ours.ephemeral_owner), rest(theirs, owner));
        if ours == theirs { Ok(()) } else { Err(format!("{ours:?}, not {theirs:?}")) }
    }

    fn zxid(&mut self, ours: i64, theirs: i64) -> Result<(), String> {
        let known = *self.zxids.entry(theirs).or_insert(ours);
        let below = self.zxids.range(..theirs).next_back();
        let above = self.zxids.range(theirs + 1..).next();
        if known != ours
            || below.is_some_and(|(_, &one)| one >= ours)
            || above.is_some_and(|(_, &one)| one <= ours)
        {
            return Err(format!(
                "zxid {ours:#x} for {theirs:#x}, which was {known:#x}, between {below:?} and {above:?}"
            ));
        }
        Ok(())
    }
}

/// What ours does otherwise: `exists` needs the right to read, as since 3.9; a watch needs a path that can be; and who
/// has no watch is told so, whoever else has one, and whether the path can be or not.
fn differs_on_purpose(request: &Request, ours: i32, theirs: i32) -> bool {
    let ours = Code::from_number(ours);
    match request {
        Request::Exists { .. } => ours == Some(Code::NoAuth) && theirs == 0,
        Request::AddWatch { .. } => ours == Some(Code::BadArguments) && theirs == 0,
        Request::CheckWatches { .. } | Request::RemoveWatches { .. } => ours == Some(Code::NoWatcher),
        _ => false,
    }
}
