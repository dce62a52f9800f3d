//! The directories of partitions: opening them side by side, clearing away what deletions and crashes left.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use flow_log::LogError;
use uuid::Uuid;

use super::{Catalog, TopicError};
use crate::store::configs;
use crate::store::files::{read_file, replace_file};
use crate::store::meta::{self, TopicMeta};
use crate::store::names;
use crate::store::partition::{Opening, Partition};

/// Opening this many partitions is worth a thread more.
const PARTITIONS_PER_THREAD: usize = 16;

/// The most threads that open partitions.
const THREADS_MAX: usize = 8;

/// The file in a partition's directory that says whose it is.
const PARTITION_METADATA: &str = "partition.metadata";

impl Catalog {
    /// Opens partitions, several at a time when there are many, in the order asked for. `fresh` ones are new.
    pub(super) fn open_partitions(
        &self,
        jobs: &[(&TopicMeta, i32)],
        fresh: bool,
    ) -> Result<Vec<Arc<Partition>>, TopicError> {
        let settings = self.broker_settings();
        let open = |part: &[(&TopicMeta, i32)]| {
            let mut opened = Vec::with_capacity(part.len());
            let mut last: Option<(Uuid, Arc<configs::TopicSettings>, Arc<str>)> = None;
            for &(topic, index) in part {
                let (_, parsed, name) = match last.take().filter(|(id, ..)| *id == topic.id) {
                    Some(known) => last.insert(known),
                    None => last.insert((
                        topic.id,
                        Arc::new(settings.topic(&topic.configs)),
                        Arc::from(topic.name.as_str()),
                    )),
                };
                opened.push(self.open_partition(
                    Arc::clone(name),
                    topic.id,
                    index,
                    Arc::clone(parsed),
                    fresh,
                )?);
            }
            Ok(opened)
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from).saturating_mul(2);
        let threads = threads.min(THREADS_MAX).min(jobs.len().div_ceil(PARTITIONS_PER_THREAD));
        if threads <= 1 {
            return open(jobs);
        }
        let chunk = jobs.len().div_ceil(threads);
        let open = &open;
        let parts: Vec<Result<Vec<Arc<Partition>>, TopicError>> = std::thread::scope(|scope| {
            let running: Vec<_> = jobs.chunks(chunk).map(|part| scope.spawn(move || open(part))).collect();
            running
                .into_iter()
                .map(|thread| {
                    thread
                        .join()
                        .unwrap_or_else(|_| Err(TopicError::Disk("opening a partition failed".into())))
                })
                .collect()
        });
        let mut opened = Vec::with_capacity(jobs.len());
        for part in parts {
            opened.extend(part?);
        }
        Ok(opened)
    }

    fn open_partition(
        &self,
        topic: Arc<str>,
        topic_id: Uuid,
        index: i32,
        settings: Arc<configs::TopicSettings>,
        fresh: bool,
    ) -> Result<Arc<Partition>, TopicError> {
        let dir = self.dir.join(names::partition_dir(&topic, index));
        let failed = |error: &dyn std::fmt::Display| {
            TopicError::Disk(format!("cannot open partition {index} of topic `{topic}`: {error}"))
        };
        self.storage.create_dir(&dir).map_err(|error| failed(&error))?;
        let metadata = dir.join(PARTITION_METADATA);
        let text = meta::encode_partition_metadata(topic_id);
        let read = || read_file(&*self.storage, &metadata, meta::PARTITION_METADATA_BYTES_MAX);
        let known = read().map_err(|error| failed(&error))?;
        if known.as_deref() != Some(text.as_bytes()) {
            if fresh || known.is_some() {
                self.empty_dir(&dir, known.is_some()).map_err(|error| failed(&error))?;
            }
            replace_file(&*self.storage, &metadata, text.as_bytes()).map_err(|error| failed(&error))?;
        }
        let opening = Opening {
            topic: Arc::clone(&topic),
            index,
            dir,
            storage: Arc::clone(&self.storage),
            committer: Arc::clone(&self.committer),
            settings,
        };
        Partition::open(opening).map(Arc::new).map_err(|error| match &error {
            LogError::Newer { file, .. } => {
                TopicError::Newer { path: file.clone(), reason: error.to_string() }
            }
            error => failed(error),
        })
    }

    /// Empties a directory that another topic of the same name left because it could not be moved away, or a creation that
    /// a crash ended. Its metadata goes last, so that whose it is stays known until then.
    fn empty_dir(&self, dir: &Path, has_metadata: bool) -> io::Result<()> {
        let mut names = self.storage.list(dir)?;
        names.retain(|name| name != PARTITION_METADATA);
        for name in names.iter().filter(|name| name.ends_with(".log") && !has_metadata) {
            if !self.storage.open(&dir.join(name))?.is_empty()? {
                let reason = "it holds records and says of no topic that they are its own";
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    format!("`{}`: {reason}", dir.display()),
                ));
            }
        }
        for name in &names {
            self.storage.remove(&dir.join(name))?;
        }
        // Before anything new is in it: what was removed must not come back beside it.
        if names.is_empty() { Ok(()) } else { self.storage.sync_dir(dir) }
    }

    /// [`Catalog::doom`] of a directory that says it belongs to this very topic.
    pub(super) fn doom_own(&self, topic: &str, id: Uuid, index: i32) {
        if self.owner_of(&self.dir.join(names::partition_dir(topic, index))) == Some(id) {
            self.doom(topic, index);
        }
    }

    /// The topic that a partition's directory says it belongs to.
    fn owner_of(&self, dir: &Path) -> Option<Uuid> {
        let path = dir.join(PARTITION_METADATA);
        let text = read_file(&*self.storage, &path, meta::PARTITION_METADATA_BYTES_MAX).ok()??;
        meta::decode_partition_metadata(&String::from_utf8_lossy(&text))
    }

    /// Gives a partition's directory a name that nothing looks for, and marks it for removal.
    pub(super) fn doom(&self, topic: &str, index: i32) {
        let dir = self.dir.join(names::partition_dir(topic, index));
        let doomed = self.dir.join(names::deleted_dir(topic, index));
        match self.storage.rename(&dir, &doomed) {
            Ok(()) => self.doomed.lock().unwrap_or_else(PoisonError::into_inner).push(doomed),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!("cannot rename `{}`: {error}", dir.display()),
        }
    }

    /// Directories that were being removed when the program ended, and such of topics that were never or are no longer
    /// listed: nothing in them was promised to anybody.
    pub(super) fn set_aside_leftovers(&self) -> Result<(), TopicError> {
        let names = self
            .storage
            .list_dirs(&self.dir)
            .map_err(|error| TopicError::Disk(format!("cannot list `{}`: {error}", self.dir.display())))?;
        let meta = self.meta();
        let listed: HashMap<&str, &TopicMeta> =
            meta.topics.iter().map(|topic| (topic.name.as_str(), topic)).collect();
        for name in names {
            let dir = self.dir.join(&name);
            if names::is_deleted_dir(&name) {
                self.doomed.lock().unwrap_or_else(PoisonError::into_inner).push(dir);
                continue;
            }
            let Some((topic, index)) = names::parse_partition_dir(&name) else { continue };
            let id = self.owner_of(&dir);
            let known = listed.get(topic);
            match (id, known) {
                (Some(id), Some(known)) if id == known.id && index < known.partitions => {}
                (None, Some(known)) if index < known.partitions => {}
                (Some(_), _) => self.doom(topic, index),
                (None, _) => tracing::warn!("`{}` belongs to no topic and is left alone", dir.display()),
            }
        }
        Ok(())
    }
    /// Removes the files of what was deleted. Blocks on the disk; gives how many directories went.
    pub(crate) fn remove_doomed(&self) -> usize {
        let doomed = std::mem::take(&mut *self.doomed.lock().unwrap_or_else(PoisonError::into_inner));
        let mut count = 0;
        for dir in doomed {
            match self.storage.remove_dir(&dir) {
                Ok(()) => count += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!("cannot remove `{}`: {error}", dir.display()),
            }
        }
        count
    }
}
