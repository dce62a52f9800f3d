//! Ensembles, and clusters with their topics, as services of the plan; the cluster that is put in for a file that
//! declares none; who elects.

use std::collections::BTreeMap;

use flow_plan::plan::{self, ServiceWord};

use super::claim::{cluster_of, has};
use super::plan::Origins;
use super::segment::{Segments, component};
use crate::model::{AgentId, Component, ComponentId, Model, Word};

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

/// The ensembles, and all clusters that this process is: those that are declared, in order of the text, else the one
/// for the topics. Clusters may need an ensemble, so ensembles come first.
pub(super) fn services(
    model: &Model,
    segments: &Segments<'_>,
    origins: &mut Origins<'_>,
) -> Vec<plan::Service> {
    let parts = || model.components.iter().enumerate().map(|(index, part)| (ComponentId(index as u32), part));
    let topics: Vec<(ComponentId, &Component)> =
        parts().filter(|(_, part)| part.word == Word::Topic).collect();
    let mut out: Vec<plan::Service> = Vec::new();
    for (_, ensemble) in parts().filter(|(_, part)| part.word == Word::Ensemble && !has(part, "absent")) {
        out.push(plan::Service {
            word: ServiceWord::Ensemble,
            name: ensemble.name.clone(),
            kind: ensemble.kind.clone(),
            settings: ensemble.settings.clone(),
            abilities: ensemble.abilities.clone(),
            origin: origins.of(ensemble.span),
            setting_origins: origins.of_settings(ensemble),
            implicit: false,
            topics: Vec::new(),
        });
    }
    for (id, cluster) in parts().filter(|(_, part)| part.word == Word::Cluster && !has(part, "absent")) {
        let here = topics.iter().filter(|(topic, _)| cluster_of(model, *topic) == Some(id));
        out.push(plan::Service {
            word: ServiceWord::Cluster,
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
            word: ServiceWord::Cluster,
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

/// Who elects whom: each agent with an election of its own, and all others under that of the file.
pub(super) fn elections(
    model: &Model,
    agents: &[plan::Agent],
    origins: &mut Origins<'_>,
) -> Vec<plan::Election> {
    let name_of = |id: AgentId| model.agents.get(id.0 as usize).map_or("main", |agent| agent.name.as_str());
    let own: Vec<&str> = model
        .elections
        .iter()
        .filter(|election| election.agent != AgentId(0))
        .map(|election| name_of(election.agent))
        .collect();
    let mut out = Vec::new();
    for election in &model.elections {
        let Some(ensemble) = component(model, election.ensemble) else { continue };
        let name = name_of(election.agent);
        let (suffix, members): (String, Vec<String>) = match election.agent {
            AgentId(0) => {
                let others = agents.iter().filter(|agent| !own.contains(&agent.name.as_str()));
                (String::new(), others.map(|agent| agent.name.clone()).collect())
            }
            _ => {
                let one = agents.iter().filter(|agent| agent.name == name);
                (format!(".{name}"), one.map(|agent| agent.name.clone()).collect())
            }
        };
        if members.is_empty() {
            continue;
        }
        out.push(plan::Election {
            name: format!("{}{suffix}", origins.stem()),
            ensemble: ensemble.name.clone(),
            active: election.active,
            session_ns: election.session_ns,
            agents: members,
            origin: origins.of(election.span),
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
