//! `znodes`: changes of a part of the tree of an ensemble. A watch only says where to look; what is told is the
//! difference between what is found there and what was found the last time, so nothing that the last state shows is
//! missed, whatever happened to connections, sessions and watches in between.

mod view;

use std::collections::BTreeSet;
use std::time::Duration as StdDuration;

use async_trait::async_trait;
use bytes::Bytes;
use flow_agent::{Context, Fault, Source, SourceError, SourceOutput, Stop, decode_settings};
use flow_coordinator::client::{Client, ClientError, Event, Events};
use flow_coordinator::proto::{Code, EventType, Stat, check_path};
use flow_plan::batch::Columns;
use flow_plan::settings::Duration;
use flow_plan::{Batch, Settings};
use serde::Deserialize;
use tokio::task::JoinSet;

use self::view::{Change, ChangeKind, View};
use super::feed::full;
use super::rows::{HeaderTarget, Stamp, now_ms};
use crate::ensembles::EnsembleHandle;

/// Bytes of data that make a batch, whatever the number of events.
const BATCH_BYTES: usize = 4 << 20;

/// Znodes that are asked for at the same time.
const ASKED_MAX: usize = 64;

/// After a fault that no event will end.
const AGAIN: StdDuration = StdDuration::from_secs(1);

/// Znodes that may not be read and were told of, at most; more are left out in silence.
const REFUSED_MAX: usize = 1_000;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ZnodesSettings {
    coordinators: String,
    path: String,
    watch: Watch,
    initial: bool,
    session: Duration,
    batch: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Watch {
    Data,
    Children,
    Tree,
}

/// Makes the source.
pub fn znodes(settings: &Settings, context: &Context) -> Result<Box<dyn Source>, Fault> {
    let settings: ZnodesSettings = decode_settings(settings)?;
    check_path(&settings.path, false).map_err(|_| {
        Fault::new(format!("`{}` is no path of a znode", settings.path))
            .code("F0206")
            .setting("path")
            .help("paths begin with `/` and do not end with it: `/services`")
    })?;
    let ensemble = context.service::<EnsembleHandle>(&settings.coordinators)?;
    let (client, events) = ensemble.client(settings.session.std());
    let header = |name: &str| HeaderTarget::new(name, context);
    let writer = Writer {
        headers: [header("path"), header("type"), header("version")],
        stamp: Stamp::new(context),
        rows_max: settings.batch.max(1),
        rows: Vec::new(),
        bytes: 0,
        silent: false,
    };
    let look = Look {
        client,
        settings,
        view: View::default(),
        // Until a server has refused it.
        has_persistent: true,
        begun: false,
        whole: false,
        refused: BTreeSet::new(),
        waits: false,
    };
    Ok(Box::new(Znodes { look, events, writer }))
}

struct Znodes {
    look: Look,
    events: Events,
    writer: Writer,
}

#[async_trait]
impl Source for Znodes {
    async fn run(&mut self, output: SourceOutput, mut stop: Stop) -> Result<(), SourceError> {
        let ended = tokio::select! {
            ended = self.watch(&output) => ended,
            () = stop.stopped() => Ok(()),
        };
        // Best effort: without it the session ends by its time-out.
        let _ = tokio::time::timeout(AGAIN, self.look.client.close()).await;
        ended
    }
}

impl Znodes {
    /// Looks, tells, and waits for the next reason to look.
    async fn watch(&mut self, output: &SourceOutput) -> Result<(), SourceError> {
        let mut todo = Todo::Wait;
        let mut told_away = false;
        loop {
            let looked = match &todo {
                Todo::Wait => Ok(()),
                Todo::All => self.look.all(&mut self.writer, output).await,
                Todo::One(path) => self.look.one(path.clone(), &mut self.writer, output).await,
            };
            match looked {
                Ok(()) => {}
                Err(Failed::Stopped(error)) => return Err(error),
                Err(Failed::Client(ClientError::Ended(why))) => return Err(retry(why)),
                // The next connection begins with a look at everything.
                Err(Failed::Client(error)) if error.is_temporary() => {}
                Err(Failed::Client(error)) => {
                    output.warn(&Fault::new(error.to_string()).setting("path"));
                    tokio::time::sleep(AGAIN).await;
                    todo = Todo::All;
                    continue;
                }
            }
            let event = match self.events.try_next() {
                Some(event) => event,
                None => {
                    self.writer.flush(output).await.map_err(|failed| failed.into_error())?;
                    output.idle();
                    let limit = self.look.settings.session.std();
                    match tokio::time::timeout(limit, self.events.next()).await {
                        Ok(event) => event,
                        Err(_) if self.look.client.state().connected => {
                            todo = Todo::Wait;
                            continue;
                        }
                        Err(_) => {
                            if !told_away {
                                told_away = true;
                                let why = self.look.client.state().fault.unwrap_or_default();
                                output.warn(
                                    &Fault::new(format!("the ensemble cannot be reached: {why}"))
                                        .setting("coordinators"),
                                );
                            }
                            todo = Todo::Wait;
                            continue;
                        }
                    }
                }
            };
            todo = match event {
                Event::Connected { .. } => {
                    told_away = false;
                    Todo::All
                }
                Event::Missed => Todo::All,
                Event::Changed { kind, path } => match kind {
                    // Of the persistent watch in a tree, or one that is armed again by the look.
                    EventType::Created
                    | EventType::Deleted
                    | EventType::DataChanged
                    | EventType::ChildrenChanged => Todo::One(path),
                },
                Event::Disconnected | Event::Expired => Todo::Wait,
                Event::Ended(why) => return Err(retry(why)),
            };
        }
    }
}

fn retry(why: String) -> SourceError {
    SourceError::Retry(Fault::new(why).setting("coordinators"))
}

enum Todo {
    Wait,
    All,
    One(String),
}

/// Why a look was given up.
enum Failed {
    Client(ClientError),
    Stopped(SourceError),
}

impl Failed {
    fn into_error(self) -> SourceError {
        match self {
            Failed::Client(error) => retry(error.to_string()),
            Failed::Stopped(error) => error,
        }
    }
}

struct Look {
    client: Client,
    settings: ZnodesSettings,
    view: View,
    has_persistent: bool,
    /// Everything has been looked at once.
    begun: bool,
    /// Everything is looked at, known or not.
    whole: bool,
    /// Znodes that may not be read, told of already.
    refused: BTreeSet<String>,
    /// Told that the path is not there.
    waits: bool,
}

impl Look {
    /// One watch covers the tree; otherwise each znode has its own, armed by each look.
    fn arms(&self) -> bool {
        self.settings.watch != Watch::Tree || !self.has_persistent
    }

    /// After a connection was made: sets the watches and compares everything.
    async fn all(&mut self, writer: &mut Writer, output: &SourceOutput) -> Result<(), Failed> {
        if !self.arms() {
            match self.client.add_watch(&self.settings.path, true).await {
                Ok(()) => {}
                Err(ClientError::Code(Code::Unimplemented)) => {
                    self.has_persistent = false;
                    // The server closes the connection, too; the next one brings us here again.
                    return Err(Failed::Client(ClientError::Lost));
                }
                Err(error) => return Err(Failed::Client(error)),
            }
        }
        let silent = !self.begun && !self.settings.initial;
        writer.silent = silent;
        self.whole = true;
        let root = self.settings.path.clone();
        let looked = self.from(root, writer, output).await;
        (writer.silent, self.whole) = (false, false);
        looked?;
        self.begun = true;
        Ok(())
    }

    /// A watch has told of a path.
    async fn one(&mut self, path: String, writer: &mut Writer, output: &SourceOutput) -> Result<(), Failed> {
        if !self.covers(&path) {
            return Ok(());
        }
        self.from(path, writer, output).await
    }

    /// Whether changes of a path are to be told, or lead to such.
    fn covers(&self, path: &str) -> bool {
        let root = self.settings.path.as_str();
        let below = match path.strip_prefix(root) {
            Some("") => return true,
            Some(rest) if root == "/" => Some(rest),
            Some(rest) => rest.strip_prefix('/'),
            None => None,
        };
        match (self.settings.watch, below) {
            (_, None) | (Watch::Data, _) => false,
            (Watch::Children, Some(name)) => !name.contains('/'),
            // What a server keeps for itself is none of the user's.
            (Watch::Tree, Some(_)) => {
                !(path == "/zookeeper" || path.starts_with("/zookeeper/")) || root.starts_with("/zookeeper")
            }
        }
    }

    /// Looks at a znode, and at those below that are wanted, compares, and tells.
    async fn from(&mut self, path: String, writer: &mut Writer, output: &SourceOutput) -> Result<(), Failed> {
        let mut todo = vec![path];
        while !todo.is_empty() {
            let some: Vec<String> = todo.split_off(todo.len().saturating_sub(ASKED_MAX));
            for (path, found) in self.ask(some).await? {
                match found {
                    Found::Node { data, stat, children } => {
                        if path == self.settings.path {
                            self.waits = false;
                        }
                        self.refused.remove(&path);
                        if let Some((data, stat)) = data.zip(stat) {
                            let changes = self.view.found(&path, &stat);
                            writer.put(changes, Some(&data), output).await?;
                        }
                        if let Some(names) = children {
                            let changes = self.view.children(&path, &names);
                            writer.put(changes, None, output).await?;
                            let base = if path == "/" { "" } else { path.as_str() };
                            let below = names.iter().map(|name| format!("{base}/{name}"));
                            // The last is taken first.
                            // Those known have watches of their own, unless a new connection has none yet.
                            let new = |path: &String| self.whole || !self.view.knows(path);
                            todo.extend(below.rev().filter(|path| self.covers(path) && new(path)));
                        }
                    }
                    Found::Nothing => {
                        let changes = self.view.gone(&path);
                        writer.put(changes, None, output).await?;
                        if path == self.settings.path && !self.waits {
                            self.waits = true;
                            let message = format!("`{path}` is not there yet: waits for it");
                            output.warn(&Fault::new(message).setting("path"));
                        }
                    }
                    Found::Refused => {
                        if self.refused.len() < REFUSED_MAX && self.refused.insert(path.clone()) {
                            let message = format!("`{path}` may not be read: its ACL does not allow it");
                            output.warn(&Fault::new(message).setting("path"));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Several znodes at once, answered in their order.
    async fn ask(&self, paths: Vec<String>) -> Result<Vec<(String, Found)>, Failed> {
        let mut asked = JoinSet::new();
        let count = paths.len();
        for (at, path) in paths.into_iter().enumerate() {
            let (client, arms) = (self.client.clone(), self.arms());
            let root = path == self.settings.path;
            let data = !(root && self.settings.watch == Watch::Children);
            let children = match self.settings.watch {
                Watch::Data => false,
                Watch::Children => root,
                // One watch over all tells of each that comes by itself.
                Watch::Tree => self.whole || arms,
            };
            asked.spawn(async move {
                let found = ask_one(&client, &path, data, children, arms).await;
                (at, path, found)
            });
        }
        let mut found: Vec<Option<(String, Found)>> = (0..count).map(|_| None).collect();
        while let Some(one) = asked.join_next().await {
            let Ok((at, path, one)) = one else {
                return Err(Failed::Client(ClientError::Lost));
            };
            found[at] = Some((path, one.map_err(Failed::Client)?));
        }
        Ok(found.into_iter().flatten().collect())
    }
}

enum Found {
    Node { data: Option<Bytes>, stat: Option<Stat>, children: Option<Vec<String>> },
    Nothing,
    Refused,
}

async fn ask_one(
    client: &Client,
    path: &str,
    data: bool,
    children: bool,
    arms: bool,
) -> Result<Found, ClientError> {
    loop {
        let looked = async {
            let content = if data { Some(client.get(path, arms).await?) } else { None };
            let names = if children { Some(client.children(path, arms).await?.0) } else { None };
            Ok::<_, ClientError>((content, names))
        };
        match looked.await {
            Ok((content, children)) => {
                let (data, stat) = content.unzip();
                return Ok(Found::Node { data, stat, children });
            }
            Err(ClientError::Code(Code::NoAuth)) => return Ok(Found::Refused),
            Err(ClientError::Code(Code::NoNode)) if !arms => return Ok(Found::Nothing),
            Err(ClientError::Code(Code::NoNode)) => {
                // Told when it comes, unless it has come since.
                if client.exists(path, true).await?.is_none() {
                    return Ok(Found::Nothing);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Makes batches of changes.
struct Writer {
    headers: [HeaderTarget; 3],
    stamp: Stamp,
    rows_max: usize,
    rows: Vec<(Change, Bytes)>,
    bytes: usize,
    /// What is seen is not told.
    silent: bool,
}

impl Writer {
    /// Changes of one look; the data is that of the last of them.
    async fn put(
        &mut self,
        changes: Vec<Change>,
        data: Option<&Bytes>,
        output: &SourceOutput,
    ) -> Result<(), Failed> {
        if self.silent {
            return Ok(());
        }
        for change in changes {
            let data = data.filter(|_| change.kind != ChangeKind::Deleted).cloned().unwrap_or_default();
            self.bytes += data.len() + change.path.len();
            self.rows.push((change, data));
            if self.rows.len() >= self.rows_max || self.bytes >= BATCH_BYTES {
                self.flush(output).await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self, output: &SourceOutput) -> Result<(), Failed> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let columns = self.columns(&rows).map_err(|_| Failed::Stopped(full()))?;
        output.send_ahead(Batch::new(columns)).await.map_err(Failed::Stopped)
    }

    fn columns(&self, rows: &[(Change, Bytes)]) -> Result<Columns, flow_plan::batch::ArenaFull> {
        let now = now_ms();
        let mut columns = Columns::default();
        for (_, data) in rows {
            columns.push(data, now)?;
        }
        for (row, (change, _)) in rows.iter().enumerate() {
            let version = change.version.to_string();
            let values = [change.path.as_str(), change.kind.text(), version.as_str()];
            for (header, value) in self.headers.iter().zip(values) {
                let value = columns.arena.push(value.as_bytes())?;
                header.set(&mut columns, row as u32, value);
            }
        }
        self.stamp.apply(&mut columns);
        Ok(columns)
    }
}
