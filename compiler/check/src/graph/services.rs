//! Clusters and their topics as services of the plan; the cluster that is put in for a file that declares none.

use std::collections::BTreeMap;

use flow_plan::plan;

use super::claim::{cluster_of, has};
use super::plan::Origins;
use super::segment::{Segments, component};
use crate::model::{Component, ComponentId, Model, Word};

/// Where a topic lives.
pub(super) struct Cluster<'m> {
    pub name: &'m str,
}

impl<'m> Cluster<'m> {
    pub fn of(model: &'m Model, topic: ComponentId) -> Cluster<'m> {
        let declared = cluster_of(model, topic).and_then(|id| component(model, id));
        let name = match declared {
            Some(cluster) => &cluster.name,
            None => model.own_cluster.as_ref().map_or("", |own| own.kind.as_str()),
        };
        Cluster { name }
    }
}

/// All clusters that this process is: those that are declared, in order of the text, else the one for the topics.
pub(super) fn services(
    model: &Model,
    segments: &Segments<'_>,
    origins: &mut Origins<'_>,
) -> Vec<plan::Service> {
    let parts = || model.components.iter().enumerate().map(|(index, part)| (ComponentId(index as u32), part));
    let topics: Vec<(ComponentId, &Component)> =
        parts().filter(|(_, part)| part.word == Word::Topic).collect();
    let mut out: Vec<plan::Service> = Vec::new();
    for (id, cluster) in parts().filter(|(_, part)| part.word == Word::Cluster && !has(part, "absent")) {
        let here = topics.iter().filter(|(topic, _)| cluster_of(model, *topic) == Some(id));
        out.push(plan::Service {
            name: cluster.name.clone(),
            kind: cluster.kind.clone(),
            settings: cluster.settings.clone(),
            abilities: cluster.abilities.clone(),
            origin: origins.of(cluster.span),
            setting_origins: origins.of_settings(cluster),
            implicit: false,
            topics: here.map(|(_, topic)| plan_topic(topic, origins)).collect(),
        });
    }
    let used = |id: ComponentId| {
        let reads = |part: &Component| part.word == Word::Consumer && part.on == Some(id);
        segments.list.iter().any(|segment| {
            segment.head == super::segment::Head::Component(id)
                || segment.paths().iter().any(|path| path.leaf.id == id)
        }) || model.components.iter().any(reads)
    };
    let own: Vec<&Component> = topics
        .iter()
        .filter(|(id, _)| cluster_of(model, *id).is_none() && used(*id))
        .map(|(_, topic)| *topic)
        .collect();
    if let (Some(first), Some(cluster)) = (own.first(), &model.own_cluster) {
        out.push(plan::Service {
            name: cluster.kind.clone(),
            kind: cluster.kind.clone(),
            settings: cluster.settings.clone(),
            abilities: cluster.abilities.clone(),
            origin: origins.of(first.span),
            setting_origins: BTreeMap::new(),
            implicit: true,
            topics: own.iter().map(|topic| plan_topic(topic, origins)).collect(),
        });
    }
    out
}

fn plan_topic(topic: &Component, origins: &mut Origins<'_>) -> plan::Topic {
    plan::Topic {
        name: topic.name.clone(),
        settings: topic.settings.clone(),
        origin: origins.of(topic.span),
        setting_origins: origins.of_settings(topic),
    }
}
