//! What operators see: transactions by id, lists of them, and whether somebody knows of one that is open in a partition.

use super::*;

/// A transactional id as `DescribeTransactions` and `ListTransactions` show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) transactional_id: Arc<str>,
    pub(crate) producer: Producer,
    pub(crate) state: State,
    pub(crate) timeout_ms: i32,
    /// -1 when none was begun.
    pub(crate) start_ms: i64,
    pub(crate) partitions: Vec<TopicPartition>,
}

/// Which transactions are wanted; what is empty or `None` wants all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) producer_ids: Vec<i64>,
    pub(crate) states: Vec<State>,
    /// Open for longer than this, in milliseconds.
    pub(crate) longer_than_ms: Option<i64>,
}

impl Coordinator {
    pub(crate) fn describe(&self, transactional_id: &str) -> Option<View> {
        let (id, slot) = self.slots.get_key_value(transactional_id)?;
        (slot.now.producer.epoch >= 0).then(|| slot.view(id))
    }

    /// In the order of the ids.
    pub(crate) fn list(&self, filter: &Filter, now_ms: i64) -> Vec<View> {
        let wanted = |view: &View| {
            (filter.producer_ids.is_empty() || filter.producer_ids.contains(&view.producer.id))
                && (filter.states.is_empty() || filter.states.contains(&view.state))
                && filter.longer_than_ms.is_none_or(|longer| {
                    view.state == State::Ongoing && now_ms.saturating_sub(view.start_ms) > longer
                })
        };
        let known = self.slots.iter().filter(|(_, slot)| slot.now.producer.epoch >= 0);
        let mut views: Vec<View> = known.map(|(id, slot)| slot.view(id)).filter(wanted).collect();
        views.sort_unstable_by(|a, b| a.transactional_id.cmp(&b.transactional_id));
        views
    }

    /// Producers that may have something open, with their partitions: what is open elsewhere hangs.
    pub(crate) fn open(&self) -> HashMap<Producer, BTreeSet<TopicPartition>> {
        let mut open: HashMap<Producer, BTreeSet<TopicPartition>> = HashMap::new();
        for slot in self.slots.values() {
            if let Some(local) = &slot.local {
                open.entry(local.producer).or_default().extend(local.unfinished().cloned());
            }
            let transactions = [Some(&slot.now), slot.pending.as_ref().map(|pending| &pending.next)];
            for transaction in transactions.into_iter().flatten() {
                let partitions = open.entry(transaction.producer).or_default();
                partitions.extend(transaction.partitions.iter().cloned());
            }
        }
        open
    }

    /// The epoch that a marker of this coordinator for `transactional_id` carries, and for one that nobody owns.
    pub(crate) fn epoch_max(&self) -> i32 {
        self.epochs.iter().copied().max().unwrap_or(0)
    }
}

impl Slot {
    fn view(&self, id: &Arc<str>) -> View {
        let now = &self.now;
        if let Some(local) = self.local.as_ref().filter(|local| !local.partitions.is_empty()) {
            return View {
                transactional_id: id.clone(),
                producer: local.producer,
                state: State::Ongoing,
                timeout_ms: now.timeout_ms,
                start_ms: local.start_ms(),
                partitions: local.partitions.iter().cloned().collect(),
            };
        }
        View {
            transactional_id: id.clone(),
            producer: now.producer,
            state: now.state,
            timeout_ms: now.timeout_ms,
            start_ms: now.start_ms,
            partitions: now.partitions.iter().cloned().collect(),
        }
    }
}
