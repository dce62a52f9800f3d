//! `flowc topic`: what a cluster holds, and a look into it.

use clap::Subcommand;
use flow_broker::client::{Admin, PeekedRecord, Place, TopicInfo};
use serde_json::json;

use crate::Exit;
use crate::cluster::{Access, Failure, parse_place, time_text, with_cluster};
use crate::confirm::confirmed;
use crate::output::OutputFormat;
use crate::table::{harmless, table};

/// Characters of a value that `peek` shows to people; `--format json` shows all.
const SHOWN_CHARS: usize = 200;

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
    /// All topics
    List {
        /// Also those that brokers keep for themselves
        #[arg(long)]
        internal: bool,
    },
    /// One topic: its partitions, and what was set on it
    Show { topic: String },
    /// Make a topic
    Create {
        topic: String,
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=100_000))]
        partitions: i32,
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i16).range(1..=32))]
        replication: i16,
        /// A config by Kafka's name: `retention.ms=3600000`
        #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parse_config)]
        configs: Vec<(String, String)>,
    },
    /// Delete a topic with everything in it
    Delete {
        topic: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Show records without reading as a group
    Peek {
        topic: String,
        /// Only this partition
        #[arg(long)]
        partition: Option<i32>,
        /// `earliest`, `latest`, an offset, or a time; without it the last ones
        #[arg(long, value_parser = parse_place)]
        from: Option<Place>,
        /// How many records of each partition
        #[arg(long, short = 'n', default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        count: u32,
    },
}

fn parse_config(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub fn run(arguments: &Arguments) -> Exit {
    let json = arguments.format == OutputFormat::Json;
    if let Command::Delete { topic, yes: false } = &arguments.command
        && !confirmed(&format!("delete `{topic}` and everything in it?"))
    {
        return Exit::Usage;
    }
    with_cluster(&arguments.access, |admin| async move {
        match &arguments.command {
            Command::List { internal } => list(&admin, *internal, json).await,
            Command::Show { topic } => show(&admin, topic, json).await,
            Command::Create { topic, partitions, replication, configs } => {
                admin.create_topic(topic, *partitions, *replication, configs).await?;
                Ok(if json { format!("{:#}\n", json!({ "created": topic })) } else { String::new() })
            }
            Command::Delete { topic, .. } => {
                admin.delete_topic(topic).await?;
                Ok(if json { format!("{:#}\n", json!({ "deleted": topic })) } else { String::new() })
            }
            Command::Peek { topic, partition, from, count } => {
                peek(&admin, topic, *partition, *from, *count as usize, json).await
            }
        }
    })
}

async fn list(admin: &Admin, internal: bool, json: bool) -> Result<String, Failure> {
    let mut topics = admin.topics(None).await?;
    topics.retain(|topic| internal || !topic.internal);
    let mut rows = Vec::new();
    let mut values = Vec::new();
    for topic in &topics {
        let starts = admin.offsets(topic, Place::Earliest).await?;
        let ends = admin.offsets(topic, Place::Latest).await?;
        let records = ends.values().sum::<i64>() - starts.values().sum::<i64>();
        let replication =
            topic.partitions.iter().map(|partition| partition.replicas.len()).min().unwrap_or(0);
        values.push(json!({
            "topic": topic.name,
            "partitions": topic.partitions.len(),
            "replication": replication,
            "offsets": records,
            "internal": topic.internal,
        }));
        rows.push(vec![
            harmless(topic.name.as_bytes()),
            topic.partitions.len().to_string(),
            replication.to_string(),
            records.to_string(),
        ]);
    }
    Ok(match json {
        true => format!("{:#}\n", serde_json::Value::Array(values)),
        false if rows.is_empty() => "no topics\n".to_owned(),
        false => table(&["topic", "partitions", "replication", "offsets"], &rows),
    })
}

async fn show(admin: &Admin, name: &str, json: bool) -> Result<String, Failure> {
    let topic = admin.topic(name).await?;
    let starts = admin.offsets(&topic, Place::Earliest).await?;
    let ends = admin.offsets(&topic, Place::Latest).await?;
    let configs = admin.configs(name).await?;
    let of =
        |offsets: &std::collections::BTreeMap<i32, i64>, index| offsets.get(&index).copied().unwrap_or(-1);
    if json {
        let partitions: Vec<_> = topic
            .partitions
            .iter()
            .map(|partition| {
                json!({
                    "partition": partition.index,
                    "leader": partition.leader,
                    "replicas": partition.replicas,
                    "start": of(&starts, partition.index),
                    "end": of(&ends, partition.index),
                })
            })
            .collect();
        return Ok(format!("{:#}\n", json!({ "topic": name, "partitions": partitions, "configs": configs })));
    }
    let rows: Vec<Vec<String>> = topic
        .partitions
        .iter()
        .map(|partition| {
            let replicas: Vec<String> = partition.replicas.iter().map(i32::to_string).collect();
            vec![
                partition.index.to_string(),
                partition.leader.to_string(),
                of(&starts, partition.index).to_string(),
                of(&ends, partition.index).to_string(),
                replicas.join(","),
            ]
        })
        .collect();
    let mut text = table(&["partition", "leader", "start", "end", "replicas"], &rows);
    if !configs.is_empty() {
        let rows: Vec<Vec<String>> = configs
            .iter()
            .map(|(name, value)| vec![harmless(name.as_bytes()), harmless(value.as_bytes())])
            .collect();
        text.push('\n');
        text.push_str(&table(&["config", "value"], &rows));
    }
    Ok(text)
}

async fn peek(
    admin: &Admin,
    name: &str,
    partition: Option<i32>,
    from: Option<Place>,
    count: usize,
    json: bool,
) -> Result<String, Failure> {
    let mut topic = admin.topic(name).await?;
    if let Some(partition) = partition {
        topic.partitions.retain(|one| one.index == partition);
        if topic.partitions.is_empty() {
            return Err(Failure(Exit::Usage, format!("`{name}` has no partition {partition}")));
        }
    }
    let starts = admin.offsets(&topic, Place::Earliest).await?;
    let ends = admin.offsets(&topic, Place::Latest).await?;
    let begins = match from {
        Some(place) => Some(admin.offsets(&topic, place).await?),
        None => None,
    };
    let mut text = String::new();
    for partition in &topic.partitions {
        let index = partition.index;
        let (start, end) = (starts.get(&index).copied().unwrap_or(0), ends.get(&index).copied().unwrap_or(0));
        let begin = match &begins {
            Some(begins) => begins.get(&index).copied().unwrap_or(start),
            None => end - count as i64,
        };
        for record in admin.peek(&topic, index, begin.clamp(start, end.max(start)), end, count).await? {
            text.push_str(&if json { json_line(&topic, &record) } else { text_line(&record) });
        }
    }
    Ok(text)
}

fn text_line(record: &PeekedRecord) -> String {
    let key = record.key.as_deref().map(|key| format!(" key={}", harmless(key))).unwrap_or_default();
    let headers: String = record
        .headers
        .iter()
        .map(|(name, value)| format!(" {}={}", harmless(name), harmless(value.as_deref().unwrap_or(b"null"))))
        .collect();
    let value = match &record.value {
        Some(value) => {
            let value = harmless(value);
            let mut shown: String = value.chars().take(SHOWN_CHARS).collect();
            if shown.len() < value.len() {
                shown.push('…');
            }
            shown
        }
        None => "(deleted)".to_owned(),
    };
    let (partition, offset, time) = (record.partition, record.offset, time_text(record.timestamp));
    format!("{partition}:{offset} {time}{key}{headers} | {value}\n")
}

/// One object per line; what is no UTF-8 is shown as in text.
fn json_line(topic: &TopicInfo, record: &PeekedRecord) -> String {
    let shown = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => harmless(bytes),
    };
    let headers: serde_json::Map<String, serde_json::Value> = record
        .headers
        .iter()
        .map(|(name, value)| (shown(name), json!(value.as_deref().map(shown))))
        .collect();
    let value = json!({
        "topic": topic.name,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": record.key.as_deref().map(shown),
        "headers": headers,
        "value": record.value.as_deref().map(shown),
    });
    format!("{value}\n")
}
