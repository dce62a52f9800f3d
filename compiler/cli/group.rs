//! `flowc group`: who reads, how far they are, and moving those who do not read now.

use std::collections::{BTreeMap, BTreeSet};

use clap::Subcommand;
use flow_broker::client::{Admin, Place};
use serde_json::json;

use crate::Exit;
use crate::cluster::{Access, Failure, parse_place, with_cluster};
use crate::output::OutputFormat;
use crate::table::{harmless, table};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    access: Access,
    #[arg(long, value_enum, default_value_t = OutputFormat::Text, global = true)]
    format: OutputFormat,
}

#[derive(Subcommand)]
enum Command {
    /// All groups with what they have not read yet
    List,
    /// One group: its members, and its place in each partition
    Show { group: String },
    /// Move a group that nobody reads as
    Seek {
        group: String,
        topic: String,
        /// `earliest`, `latest`, an offset, or a time (`2026-11-23T10:00:00Z`)
        #[arg(long, value_parser = parse_place)]
        to: Place,
        /// Only this partition
        #[arg(long)]
        partition: Option<i32>,
    },
}

pub fn run(arguments: &Arguments) -> Exit {
    let json = arguments.format == OutputFormat::Json;
    with_cluster(&arguments.access, |admin| async move {
        match &arguments.command {
            Command::List => list(&admin, json).await,
            Command::Show { group } => show(&admin, group, json).await,
            Command::Seek { group, topic, to, partition } => {
                seek(&admin, group, topic, *to, *partition, json).await
            }
        }
    })
}

/// A group's place in a partition.
struct Lag {
    topic: String,
    partition: i32,
    committed: i64,
    /// `None`: the topic is gone.
    end: Option<i64>,
}

impl Lag {
    fn events(&self) -> Option<i64> {
        self.end.map(|end| (end - self.committed).max(0))
    }
}

async fn lags(admin: &Admin, group: &str) -> Result<Vec<Lag>, Failure> {
    let committed = admin.committed(group).await?;
    let topics: BTreeSet<&str> = committed.keys().map(|(topic, _)| topic.as_str()).collect();
    let mut ends: BTreeMap<String, BTreeMap<i32, i64>> = BTreeMap::new();
    for topic in topics {
        // A topic may have been deleted since: its places are shown without an end.
        if let Ok(info) = admin.topic(topic).await {
            ends.insert(topic.to_owned(), admin.offsets(&info, Place::Latest).await?);
        }
    }
    let lag = |((topic, partition), committed): ((String, i32), i64)| {
        let end = ends.get(&topic).and_then(|ends| ends.get(&partition)).copied();
        Lag { topic, partition, committed, end }
    };
    Ok(committed.into_iter().map(lag).collect())
}

async fn list(admin: &Admin, json: bool) -> Result<String, Failure> {
    let mut rows = Vec::new();
    let mut values = Vec::new();
    for (name, state) in admin.groups().await? {
        let group = admin.group(&name).await?;
        let lags = lags(admin, &name).await?;
        let lag: i64 = lags.iter().filter_map(Lag::events).sum();
        let topics: BTreeSet<&str> = lags.iter().map(|lag| lag.topic.as_str()).collect();
        values.push(json!({
            "group": name,
            "state": state,
            "members": group.members.len(),
            "topics": topics,
            "lag": lag,
        }));
        rows.push(vec![
            harmless(name.as_bytes()),
            state,
            group.members.len().to_string(),
            lag.to_string(),
            topics.into_iter().map(|topic| harmless(topic.as_bytes())).collect::<Vec<_>>().join(", "),
        ]);
    }
    Ok(match json {
        true => format!("{:#}\n", serde_json::Value::Array(values)),
        false if rows.is_empty() => "no groups\n".to_owned(),
        false => table(&["group", "state", "members", "lag", "topics"], &rows),
    })
}

async fn show(admin: &Admin, name: &str, json: bool) -> Result<String, Failure> {
    let group = admin.group(name).await?;
    let lags = lags(admin, name).await?;
    if group.state == "Dead" && lags.is_empty() {
        return Err(Failure(Exit::Failure, format!("there is no group `{name}`")));
    }
    if json {
        let members: Vec<_> = group
            .members
            .iter()
            .map(|(id, client, host)| json!({ "id": id, "client": client, "host": host }))
            .collect();
        let places: Vec<_> = lags
            .iter()
            .map(|lag| {
                json!({
                    "topic": lag.topic,
                    "partition": lag.partition,
                    "committed": lag.committed,
                    "end": lag.end,
                    "lag": lag.events(),
                })
            })
            .collect();
        let value = json!({ "group": name, "state": group.state, "assignor": group.assignor, "members": members, "places": places });
        return Ok(format!("{value:#}\n"));
    }
    let mut text = format!("{} is {}", harmless(name.as_bytes()), group.state);
    if !group.assignor.is_empty() {
        text.push_str(&format!(", shared out by {}", harmless(group.assignor.as_bytes())));
    }
    text.push('\n');
    let rows: Vec<Vec<String>> = group
        .members
        .iter()
        .map(|(id, client, host)| [client, host, id].map(|cell| harmless(cell.as_bytes())).to_vec())
        .collect();
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(&table(&["member", "host", "id"], &rows));
    }
    let or_dash = |number: Option<i64>| number.map_or("-".to_owned(), |number| number.to_string());
    let rows: Vec<Vec<String>> = lags
        .iter()
        .map(|lag| {
            vec![
                harmless(lag.topic.as_bytes()),
                lag.partition.to_string(),
                lag.committed.to_string(),
                or_dash(lag.end),
                or_dash(lag.events()),
            ]
        })
        .collect();
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(&table(&["topic", "partition", "committed", "end", "lag"], &rows));
    }
    Ok(text)
}

async fn seek(
    admin: &Admin,
    group: &str,
    topic: &str,
    to: Place,
    partition: Option<i32>,
    json: bool,
) -> Result<String, Failure> {
    let state = admin.group(group).await?;
    if !state.members.is_empty() {
        let message = format!(
            "`{group}` has {} members: a group can only be moved while nobody reads as it",
            state.members.len()
        );
        return Err(Failure(Exit::Failure, message));
    }
    let mut info = admin.topic(topic).await?;
    if let Some(partition) = partition {
        info.partitions.retain(|one| one.index == partition);
        if info.partitions.is_empty() {
            return Err(Failure(Exit::Usage, format!("`{topic}` has no partition {partition}")));
        }
    }
    let starts = admin.offsets(&info, Place::Earliest).await?;
    let ends = admin.offsets(&info, Place::Latest).await?;
    let mut wanted = admin.offsets(&info, to).await?;
    for (partition, offset) in &mut wanted {
        let start = starts.get(partition).copied().unwrap_or(0);
        let end = ends.get(partition).copied().unwrap_or(*offset).max(start);
        *offset = (*offset).clamp(start, end);
    }
    admin.seek(group, topic, &wanted).await?;
    if json {
        let places: Vec<_> = wanted
            .iter()
            .map(|(partition, offset)| json!({ "partition": partition, "offset": offset }))
            .collect();
        return Ok(format!("{:#}\n", json!({ "group": group, "topic": topic, "places": places })));
    }
    let rows: Vec<Vec<String>> =
        wanted.iter().map(|(partition, offset)| vec![partition.to_string(), offset.to_string()]).collect();
    Ok(table(&["partition", "offset"], &rows))
}
