//! `generate`: events for trying and measuring. Event n of a seed is always the same, so a lost batch can be made
//! again.

use std::io::Write;
use std::time::{Duration as StdDuration, Instant};

use async_trait::async_trait;
use flow_agent::{Context, Fault, Source, SourceError, SourceOutput, Stop, decode_settings};
use flow_plan::batch::Columns;
use flow_plan::{Batch, Outcome, Settings};
use serde::Deserialize;

use super::feed::full;
use super::ledger::Ledger;
use super::rows::{Stamp, now_ms};

/// Batches on their way, at most.
const UNCONFIRMED: usize = 64;

/// Time of event 0 in the lines: 2026-01-01 00:00 UTC, in seconds. The clock would make every run different.
const BEGIN_S: u64 = 1_767_225_600;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GenerateSettings {
    shape: Shape,
    count: Option<u64>,
    rate: Option<u64>,
    batch: u64,
    seed: i64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Shape {
    AccessLog,
    Json,
    Syslog,
    Text(String),
    Bytes(u64),
}

struct Generate {
    settings: GenerateSettings,
    stamp: Stamp,
}

/// Makes the source.
pub fn generate(settings: &Settings, context: &Context) -> Result<Box<dyn Source>, Fault> {
    let settings: GenerateSettings = decode_settings(settings)?;
    if settings.rate == Some(0) {
        return Err(Fault::new("`rate` must be at least 1").code("F0206").setting("rate"));
    }
    if let Shape::Bytes(size) = settings.shape
        && size > 1 << 30
    {
        return Err(Fault::new("an event of more than 1 GiB").code("F0206").setting("shape"));
    }
    Ok(Box::new(Generate { settings, stamp: Stamp::new(context) }))
}

#[async_trait]
impl Source for Generate {
    async fn run(&mut self, output: SourceOutput, mut stop: Stop) -> Result<(), SourceError> {
        let settings = &self.settings;
        let count = settings.count.unwrap_or(u64::MAX);
        let mut ledger: Ledger<(u64, u64)> = Ledger::new(UNCONFIRMED);
        let mut again: Vec<(u64, u64)> = Vec::new();
        let began = Instant::now();
        let mut next = 0;
        loop {
            while let Some((_, range, outcome)) = ledger.try_next() {
                if outcome == Outcome::Lost {
                    again.push(range);
                }
            }
            if stop.is_stopped() {
                return Ok(());
            }
            let mut due = count;
            if let Some(rate) = settings.rate {
                // What should have been sent by now, and at least one event.
                let by_now = (began.elapsed().as_nanos() * u128::from(rate) / 1_000_000_000) as u64;
                due = due.min(by_now.saturating_add(1));
            }
            let range = match again.pop() {
                Some(range) if ledger.room() > 0 => Some(range),
                Some(range) => {
                    again.push(range);
                    None
                }
                None if next < due && ledger.room() > 0 => {
                    let end = due.min(next + self.rows_max());
                    let range = (next, end);
                    next = end;
                    Some(range)
                }
                None => None,
            };
            if let Some((from, to)) = range {
                let mut columns = make(settings, from, to).map_err(|_| full())?;
                self.stamp.apply(&mut columns);
                let mut batch = Batch::new(columns);
                batch.ack = ledger.open((from, to)).1;
                output.send_ahead(batch).await?;
                continue;
            }
            if next >= count && again.is_empty() && ledger.is_empty() {
                return Ok(());
            }
            let wake = match settings.rate {
                Some(rate) if next < count && ledger.room() > 0 => {
                    let at = u128::from(next) * 1_000_000_000 / u128::from(rate);
                    Some(began + StdDuration::from_nanos(at.min(u128::from(u64::MAX)) as u64))
                }
                _ => None,
            };
            output.idle();
            tokio::select! {
                (_, range, outcome) = ledger.next() => if outcome == Outcome::Lost {
                    again.push(range);
                    tokio::time::sleep(StdDuration::from_millis(20)).await;
                },
                () = sleep_until(wake) => {}
                () = stop.stopped() => return Ok(()),
            }
        }
    }
}

impl Generate {
    /// Large events make small batches: at most 16 MiB unless one event is larger.
    fn rows_max(&self) -> u64 {
        let size = match &self.settings.shape {
            Shape::Bytes(size) => *size,
            Shape::Text(text) => text.len() as u64,
            _ => 512,
        };
        self.settings.batch.min((16 << 20) / size.max(1)).max(1)
    }
}

async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}

fn make(settings: &GenerateSettings, from: u64, to: u64) -> Result<Columns, flow_plan::batch::ArenaFull> {
    let mut columns = Columns::default();
    let now = now_ms();
    let mut line = Vec::with_capacity(512);
    for number in from..to {
        line.clear();
        write_event(&mut line, &settings.shape, settings.seed, number);
        columns.push(&line, now)?;
    }
    Ok(columns)
}

/// Numbers that depend on the seed and the number of the event alone (splitmix64).
struct Dice(u64);

impl Dice {
    fn new(seed: i64, number: u64) -> Dice {
        Dice((seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number.wrapping_mul(0xd134_2543_de82_ef95))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }
}

const PATHS: &[&str] = &[
    "/",
    "/index.html",
    "/health",
    "/api/orders",
    "/api/orders/17",
    "/api/users",
    "/login",
    "/admin/jobs",
    "/static/app.js",
    "/static/app.css",
    "/images/logo.png",
    "/search?q=flow",
    "/cart?item=3&count=2",
];
const AGENTS: &[&str] = &[
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36",
    "curl/8.8.0",
    "kube-probe/1.30",
    "Googlebot/2.1 (+http://www.google.com/bot.html)",
];
const STATUSES: &[&str] = &[
    "200", "200", "200", "200", "200", "200", "204", "301", "304", "400", "401", "404", "404", "500", "503",
];
const VERBS: &[&str] = &["GET", "GET", "GET", "GET", "POST", "PUT", "DELETE", "HEAD"];
const USERS: &[&str] = &["-", "-", "-", "ann", "bob", "eve"];
const APPS: &[&str] = &["sshd", "cron", "nginx", "kernel", "postgres", "systemd"];
const MESSAGES: &[&str] = &[
    "session opened for user deploy",
    "connection from 203.0.113.9 port 51234 refused",
    "checkpoint complete: wrote 812 buffers",
    "worker 3 exited with code 0",
    "disk usage at 81 percent on /var",
];

/// Appends event `number`.
fn write_event(line: &mut Vec<u8>, shape: &Shape, seed: i64, number: u64) {
    let mut dice = Dice::new(seed, number);
    let at = jiff::Timestamp::from_second((BEGIN_S + (number / 50) % 315_360_000) as i64).unwrap_or_default();
    // Writing into a vector cannot fail.
    let _ = match shape {
        Shape::AccessLog => {
            let ip = [dice.below(223) + 1, dice.below(256), dice.below(256), dice.below(254) + 1];
            let (user, verb, path) = (dice.one(USERS), dice.one(VERBS), dice.one(PATHS));
            let (status, size) = (dice.one(STATUSES), dice.below(60_000));
            let referer = dice.one(&["-", "https://shop.example/", "https://search.example/?q=a+b"]);
            let agent = dice.one(AGENTS);
            let time = at.strftime("%d/%b/%Y:%H:%M:%S +0000");
            write!(
                line,
                "{}.{}.{}.{} - {user} [{time}] \"{verb} {path} HTTP/1.1\" {status} {size} \"{referer}\" \"{agent}\"",
                ip[0], ip[1], ip[2], ip[3]
            )
        }
        Shape::Json => {
            let (total, count) = (dice.below(500_000), dice.below(9) + 1);
            let (region, level) =
                (dice.one(&["eu", "us", "ap"]), dice.one(&["info", "info", "info", "warn", "error"]));
            let sku = dice.below(1_000);
            write!(
                line,
                "{{\"id\":\"o-{number}\",\"placed\":\"{at}\",\"level\":\"{level}\",\"region\":\"{region}\",\"total\":{}.{:02},\"items\":[{{\"sku\":\"s-{sku}\",\"count\":{count}}}]}}",
                total / 100,
                total % 100
            )
        }
        Shape::Syslog => {
            let priority = dice.below(24) * 8 + dice.below(8);
            let (host, app, pid) = (dice.below(20), dice.one(APPS), dice.below(30_000) + 1);
            write!(line, "<{priority}>1 {at} host{host:02} {app} {pid} - - {}", dice.one(MESSAGES))
        }
        Shape::Text(text) => {
            line.extend_from_slice(text.replace("{n}", &number.to_string()).as_bytes());
            Ok(())
        }
        Shape::Bytes(size) => {
            line.resize(*size as usize, 0);
            for bytes in line.chunks_mut(8) {
                let random = dice.next().to_le_bytes();
                bytes.copy_from_slice(&random[..bytes.len()]);
            }
            Ok(())
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::testing::{Collector, Mode, Running, settings};
    use serde_json::{Value, json};
    use std::path::Path;

    async fn rows(changes: Value) -> Vec<String> {
        let defaults = json!({"shape": "access_log", "count": 10, "rate": null, "batch": 1000, "seed": 1});
        let flow = Collector::new(Mode::Deliver);
        let settings = settings(defaults, changes);
        Running::of(generate, &settings, Path::new("/nowhere"), &flow).ended().await.unwrap();
        let seen = flow.seen();
        seen.texts()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_seed_repeats_and_another_differs() {
        assert_eq!(rows(json!({"batch": 3})).await, rows(json!({})).await);
        assert_ne!(rows(json!({"seed": 2})).await, rows(json!({})).await);
        assert_eq!(rows(json!({"shape": {"text": "n{n}!"}, "count": 3})).await, ["n0!", "n1!", "n2!"]);
        for line in rows(json!({"shape": "json", "count": 100})).await {
            serde_json::from_str::<Value>(&line).unwrap();
        }
        for line in rows(json!({"shape": "syslog", "count": 100, "rate": 100_000})).await {
            crate::functions::syslog::parse(line.as_bytes(), 0).unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn lost_batches_come_again() {
        let flow = Collector::new(Mode::Lose);
        let settings = settings(
            json!({"shape": {"text": "{n}"}, "count": 50, "rate": null, "batch": 10, "seed": 1}),
            json!({}),
        );
        let source = Running::of(generate, &settings, Path::new("/nowhere"), &flow);
        flow.until("losses", |seen| seen.lost.len() >= 60).await;
        flow.set_mode(Mode::Deliver);
        source.ended().await.unwrap();
        let mut numbers: Vec<usize> = flow.seen().texts().iter().map(|text| text.parse().unwrap()).collect();
        numbers.sort();
        assert_eq!(numbers, (0..50).collect::<Vec<_>>());
    }
}
