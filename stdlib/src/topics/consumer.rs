//! A reader of a topic, as a source: `workers` members of its group, each with its share of the partitions.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use flow_agent::{Context, Fault, Source, SourceError, SourceOutput, Stop, decode_settings};
use flow_plan::Settings;
use flow_plan::settings::Duration as DurationSetting;
use serde::Deserialize;
use tokio::task::JoinSet;

use super::cluster::{Assign, Cluster, ClusterHandle, Join, Place};
use super::decode::Decoder;
use super::reader::{Reader, ReaderOptions};

/// Makes a `consumer` source.
pub fn consumer(settings: &Settings, context: &Context) -> Result<Box<dyn Source>, Fault> {
    let settings: ConsumerSettings = decode_settings(settings)?;
    let cluster = context.service::<ClusterHandle>(&settings.cluster)?.0.clone();
    Ok(Box::new(Consumer { cluster, settings, context: context.clone() }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConsumerSettings {
    cluster: String,
    topic: String,
    group: String,
    /// Under `deliver effectively_once`.
    once: bool,
    /// What is read is written to topics in one transaction with the position.
    transactional: bool,
    from: From,
    workers: usize,
    commit: DurationSetting,
    session: DurationSetting,
    assign: Assign,
    isolation: Isolation,
    batch: usize,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum From {
    Saved,
    Earliest,
    Latest,
    /// Milliseconds since 1970.
    At(i64),
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Isolation {
    ReadCommitted,
    ReadUncommitted,
}

struct Consumer {
    cluster: Arc<dyn Cluster>,
    settings: ConsumerSettings,
    context: Context,
}

impl Consumer {
    fn reader(&self, worker: usize) -> Reader {
        let settings = &self.settings;
        let number = if settings.workers > 1 { format!("-{}", worker + 1) } else { String::new() };
        let options = ReaderOptions {
            join: Join {
                group: settings.group.clone(),
                topic: settings.topic.clone(),
                member: format!("{}.{}{number}", self.context.agent, self.context.name),
                session_ms: settings.session.std().as_millis() as u64,
                assign: settings.assign,
            },
            from: match settings.from {
                From::Saved | From::Earliest => Place::Earliest,
                From::Latest => Place::Latest,
                From::At(time_ms) => Place::At(time_ms),
            },
            commit_every: settings.commit.std().max(Duration::from_millis(1)),
            committed_only: settings.transactional || settings.isolation == Isolation::ReadCommitted,
            batch_events: settings.batch,
            alone: settings.workers == 1,
            // Of the group, the agent and the worker: whoever takes over a partition reads behind what was committed.
            once: settings.once || settings.transactional,
            transactions: settings
                .transactional
                .then(|| format!("{}.{}.{}.{worker}", settings.group, settings.topic, self.context.agent)),
        };
        let decoder = Decoder::new(self.context.slots.clone(), &self.context.name, &settings.topic);
        Reader::new(self.cluster.clone(), options, decoder)
    }
}

#[async_trait]
impl Source for Consumer {
    async fn run(&mut self, output: SourceOutput, stop: Stop) -> Result<(), SourceError> {
        if self.settings.workers == 1 {
            return self.reader(0).run(output, stop).await;
        }
        // Dropped with this future, so a worker never outlives its source.
        let mut workers = JoinSet::new();
        for worker in 0..self.settings.workers {
            workers.spawn(self.reader(worker).run(output.clone(), stop.clone()));
        }
        while let Some(ended) = workers.join_next().await {
            match ended {
                Ok(Ok(())) | Ok(Err(SourceError::Stopped)) => {}
                // The others begin again with it: what they have on its way is delivered meanwhile, or repeated.
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(SourceError::Retry(Fault::new("a worker has panicked").code("F1109"))),
            }
        }
        Ok(())
    }
}
