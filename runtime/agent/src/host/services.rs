//! Starts the services of a plan: before anything else, in their order, each with its topics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flow_plan::Plan;
use flow_plan::plan::{self, OriginId, ServiceWord};
use tokio::time::timeout;

use super::guard::guarded;
use super::view::ServiceView;
use super::{HostOptions, StartFault};
use crate::status::ServiceStatus;
use crate::traits::{Context, Elector, Fault, Registry, Services};

/// Where services keep their state, under the data directory: beside the agents.
const SERVICES_DIR: &str = "services";

/// How long one service may take to shut down.
const SHUTDOWN_MAX: Duration = Duration::from_secs(10);

/// The services of a run. Those who start them hand them to the host, which shuts them down at the end of the run;
/// when the host does not start, that is left to the caller.
#[derive(Clone, Default)]
pub struct RunningServices {
    pub(super) views: Arc<Vec<ServiceView>>,
    pub(super) handles: Arc<Services>,
}

impl RunningServices {
    /// Starts the services of a plan, each with its topics. When one has a fault, the others are shut down again.
    pub async fn start(
        plan: &Plan,
        registry: &Registry,
        options: &HostOptions,
    ) -> Result<RunningServices, Vec<StartFault>> {
        let mut starting = Starting { plan, registry, options, views: Vec::new(), faults: Vec::new() };
        for planned in &plan.services {
            starting.start(planned).await;
        }
        let handles = handles(&starting.views);
        let services = RunningServices { views: Arc::new(starting.views), handles: Arc::new(handles) };
        if starting.faults.is_empty() {
            return Ok(services);
        }
        services.shutdown().await;
        Err(starting.faults)
    }

    /// How each is, in the order of the plan.
    pub fn status(&self) -> Vec<ServiceStatus> {
        self.views.iter().map(ServiceView::status).collect()
    }

    /// Somebody wrote one into the file that serves others, too, until the run is stopped.
    pub(super) fn serve(&self) -> bool {
        self.views.iter().any(|view| !view.implicit && view.service.serves())
    }

    /// What the parts of a run ask for, without being the one that shuts it down.
    pub(super) fn lent(&self) -> RunningServices {
        RunningServices { views: Arc::default(), handles: self.handles.clone() }
    }

    /// The ensemble of that name, when it elects.
    pub(super) fn elector(&self, name: &str) -> Option<Arc<dyn Elector>> {
        let is = |view: &&ServiceView| view.word == ServiceWord::Ensemble && view.name == name;
        self.views.iter().find(is)?.service.elector()
    }

    /// Shuts all down, the last one first.
    pub async fn shutdown(&self) {
        for view in self.views.iter().rev() {
            if timeout(SHUTDOWN_MAX, guarded(view.service.shutdown())).await.is_err() {
                tracing::warn!(service = view.name, "did not shut down in time");
            }
        }
    }
}

fn handles(views: &[ServiceView]) -> Services {
    views.iter().map(|view| (view.name.clone(), view.service.handle())).collect()
}

struct Starting<'a> {
    plan: &'a Plan,
    registry: &'a Registry,
    options: &'a HostOptions,
    views: Vec<ServiceView>,
    faults: Vec<StartFault>,
}

impl Starting<'_> {
    async fn start(&mut self, planned: &plan::Service) {
        let context = Context {
            name: planned.name.clone(),
            agent: String::new(),
            state_dir: self.options.data_dir.join(SERVICES_DIR).join(&planned.name),
            slots: Arc::new(self.plan.slots.clone()),
            functions: self.registry.functions.clone(),
            secrets: Arc::new(self.options.secrets.clone()),
            host: self.options.host.clone(),
            // What was started before: a cluster may need an ensemble.
            services: Arc::new(handles(&self.views)),
        };
        let factories = match planned.word {
            ServiceWord::Cluster => &self.registry.services,
            ServiceWord::Ensemble => &self.registry.ensembles,
        };
        let built = match factories.get(planned.kind.as_str()) {
            Some(factory) => {
                guarded(factory(planned.settings.clone(), context)).await.and_then(|built| built)
            }
            None => {
                let word = planned.word.text();
                Err(Fault::new(format!("this build has no {word} kind `{}`", planned.kind)).code("F0116"))
            }
        };
        let service = match built {
            Ok(service) => service,
            Err(fault) => {
                self.fault(&planned.name, fault, planned.origin, &planned.setting_origins);
                return;
            }
        };
        for topic in &planned.topics {
            let opened = guarded(service.open_topic(topic)).await.and_then(|opened| opened);
            if let Err(fault) = opened {
                self.fault(&topic.name, fault, topic.origin, &topic.setting_origins);
            }
        }
        let plan::Service { word, name, kind, implicit, origin, .. } = planned.clone();
        self.views.push(ServiceView { word, name, kind, implicit, origin, service });
    }

    fn fault(&mut self, node: &str, fault: Fault, origin: OriginId, settings: &BTreeMap<String, OriginId>) {
        let origin = fault.setting.and_then(|setting| settings.get(setting)).copied().unwrap_or(origin);
        self.faults.push(StartFault { agent: String::new(), node: node.to_owned(), fault, origin });
    }
}
