//! One topic: its id, its own settings, its partitions.

use std::sync::{Arc, PoisonError, RwLock};

use uuid::Uuid;

use super::configs::{Overrides, TopicSettings};
use super::meta::TopicMeta;
use super::names;
use super::partition::Partition;

/// A topic. It stays usable by those who hold it after it was deleted; its partitions then refuse appends.
pub(crate) struct Topic {
    pub(crate) name: Arc<str>,
    pub(crate) id: Uuid,
    configs: RwLock<Arc<Overrides>>,
    partitions: RwLock<Arc<[Arc<Partition>]>>,
}

impl Topic {
    pub(super) fn new(meta: &TopicMeta, partitions: Vec<Arc<Partition>>) -> Topic {
        Topic {
            name: Arc::from(meta.name.as_str()),
            id: meta.id,
            configs: RwLock::new(Arc::new(meta.configs.clone())),
            partitions: RwLock::new(partitions.into()),
        }
    }

    /// Whether the broker keeps it for itself.
    pub(crate) fn is_internal(&self) -> bool {
        names::is_internal(&self.name)
    }

    /// Its partitions, by number.
    pub(crate) fn partitions(&self) -> Arc<[Arc<Partition>]> {
        Arc::clone(&self.partitions.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn partition(&self, index: i32) -> Option<Arc<Partition>> {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        partitions.get(usize::try_from(index).ok()?).cloned()
    }

    /// The settings that were given for it alone.
    pub(crate) fn configs(&self) -> Arc<Overrides> {
        Arc::clone(&self.configs.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_configs(&self, configs: Arc<Overrides>, settings: Arc<TopicSettings>) {
        *self.configs.write().unwrap_or_else(PoisonError::into_inner) = configs;
        for partition in self.partitions().iter() {
            partition.set_settings(Arc::clone(&settings));
        }
    }

    pub(super) fn add_partitions(&self, more: Vec<Arc<Partition>>) {
        let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        *partitions = partitions.iter().cloned().chain(more).collect();
    }
}
