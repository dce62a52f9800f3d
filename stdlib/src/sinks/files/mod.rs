//! The `files` sink: events to files whose names may depend on the event, rolled and compressed.
//!
//! An event is committed when its complete line is with the operating system and the journal in the state
//! directory says so. After a crash, and after a write that failed, files are cut back to what is committed:
//! only complete lines remain, none of them twice in a file. Writing may block: the host runs sinks so that other
//! parts move on meanwhile.

mod codec;
#[cfg(test)]
mod fault_tests;
mod journal;
#[cfg(test)]
mod kill_tests;
mod path;
mod settle;
mod storage;
#[cfg(test)]
pub(super) mod tests;
mod writer;

use std::time::{Instant, SystemTime};

use async_trait::async_trait;
use flow_agent::{Context, Fault, Sink, SinkError, decode_settings};
use flow_plan::ir::Expr;
use flow_plan::settings::{Duration, Limits};
use flow_plan::{Batch, Settings};
use serde::Deserialize;

use self::codec::Compressed;
use self::path::PathTemplate;
use self::storage::{Disk, Storage};
use self::writer::{Options, WriteError, Writer};
use super::encode::{Encoder, Format};

/// Makes a `files` sink. Files that a crash left are put in order with the first write or tick.
pub fn files(settings: &Settings, context: &Context) -> Result<Box<dyn Sink>, Fault> {
    Ok(Box::new(Files::new(settings, context, Box::new(Disk))?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FilesSettings {
    path: Expr,
    roll: Option<Limits>,
    idle: Duration,
    compress: Compressed,
    level: Option<u32>,
    format: Format,
    in_use: String,
    sync: Sync,
    max_open: usize,
    mode: String,
    create_dirs: bool,
    append: bool,
    batch: usize,
}

/// The `sync` setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::sinks) enum Sync {
    Roll,
    Batch,
    Never,
}

struct Files {
    path: PathTemplate,
    writer: Writer,
    batch: usize,
    /// Rows by path of one batch; kept for its memory.
    groups: Groups,
}

impl Files {
    fn new(settings: &Settings, context: &Context, storage: Box<dyn Storage>) -> Result<Files, Fault> {
        let settings: FilesSettings = decode_settings(settings)?;
        let mode =
            u32::from_str_radix(&settings.mode, 8).ok().filter(|mode| *mode <= 0o7777).ok_or_else(|| {
                Fault::new(format!("`{}` is no octal file mode", settings.mode))
                    .help("write it like \"0640\"")
                    .setting("mode")
            })?;
        if settings.in_use.contains(['/', '\0']) {
            return Err(Fault::new("`in_use` is the end of a name and cannot have a `/`").setting("in_use"));
        }
        let path = PathTemplate::new(&settings.path, context)?;
        let options = Options {
            roll: settings.roll.unwrap_or_default(),
            rolled: settings.roll.is_some() || settings.compress != Compressed::None,
            idle: settings.idle.std(),
            compress: settings.compress,
            level: settings.level,
            in_use: settings.in_use,
            sync: settings.sync,
            max_open: settings.max_open.max(1),
            mode,
            create_dirs: settings.create_dirs,
            append: settings.append,
            names_from_events: !path.is_constant(),
        };
        let encoder = Encoder::new(settings.format, context.slots.clone());
        let writer = Writer::new(options, encoder, storage, context.state_dir.clone());
        Ok(Files { path, writer, batch: settings.batch, groups: Groups::default() })
    }

    fn write_batches(&mut self, batches: &[Batch], now: Instant) -> Result<(), WriteError> {
        self.writer.prepare()?;
        for batch in batches {
            // What is in the files already, when it comes again under `deliver effectively_once`.
            let fresh = self.writer.places.fresh(batch);
            let batch = fresh.as_ref().unwrap_or(batch);
            self.groups.sort(&mut self.path, batch).inspect_err(|_| self.writer.roll_back())?;
            for (path, rows) in self.groups.iter(batch) {
                self.writer
                    .write_rows(path, batch, rows, now, SystemTime::now())
                    .inspect_err(|_| self.writer.roll_back())?;
            }
        }
        self.writer.commit().inspect_err(|_| self.writer.roll_back())
    }
}

#[async_trait]
impl Sink for Files {
    async fn write(&mut self, batches: &[Batch]) -> Result<(), SinkError> {
        let now = Instant::now();
        self.write_batches(batches, now).map_err(WriteError::into_sink_error)
    }

    async fn tick(&mut self) -> Result<(), SinkError> {
        let now = Instant::now();
        self.writer.tick(now).map_err(WriteError::into_sink_error)
    }

    async fn close(&mut self) -> Result<(), SinkError> {
        self.writer.close().map_err(WriteError::into_sink_error)
    }

    fn batch_events_max(&self) -> usize {
        self.batch
    }
}

/// The rows of a batch by the file they go to, in the order in which the files come up.
#[derive(Default)]
struct Groups {
    /// All rows have one path: it stands first in `paths`, and `rows` is not used.
    one: bool,
    paths: Vec<String>,
    rows: Vec<Vec<u32>>,
    by_path: std::collections::HashMap<String, usize>,
    path: String,
}

impl Groups {
    fn sort(&mut self, template: &mut PathTemplate, batch: &Batch) -> Result<(), WriteError> {
        self.paths.clear();
        self.by_path.clear();
        self.one = true;
        let refuse = |message| WriteError::Refused(Fault::new(message).setting("path"));
        let Some(&first) = batch.rows.first() else { return Ok(()) };
        template.render(batch, first, &mut self.path).map_err(refuse)?;
        self.paths.push(self.path.clone());
        if template.is_constant() {
            return Ok(());
        }
        let mut current = 0;
        for (index, &row) in batch.rows.iter().enumerate() {
            if template.render(batch, row, &mut self.path).map_err(refuse)?
                && self.path != self.paths[current]
            {
                if self.one {
                    // The second path of the batch: from here on rows are kept apart.
                    self.one = false;
                    self.by_path.insert(self.paths[0].clone(), 0);
                    self.rows_of(0).extend_from_slice(&batch.rows[..index]);
                }
                current = match self.by_path.get(&self.path) {
                    Some(&known) => known,
                    None => {
                        let new = self.paths.len();
                        self.paths.push(self.path.clone());
                        self.by_path.insert(self.path.clone(), new);
                        self.rows_of(new);
                        new
                    }
                };
            }
            if !self.one {
                self.rows[current].push(row);
            }
        }
        Ok(())
    }

    /// The emptied list of a group.
    fn rows_of(&mut self, group: usize) -> &mut Vec<u32> {
        if self.rows.len() <= group {
            self.rows.resize_with(group + 1, Vec::new);
        }
        self.rows[group].clear();
        &mut self.rows[group]
    }

    fn iter<'a>(&'a self, batch: &'a Batch) -> impl Iterator<Item = (&'a str, &'a [u32])> + 'a {
        self.paths.iter().enumerate().map(|(index, path)| {
            (path.as_str(), if self.one { batch.rows.as_slice() } else { self.rows[index].as_slice() })
        })
    }
}
