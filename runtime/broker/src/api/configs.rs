//! `DescribeConfigs`, `AlterConfigs`, `IncrementalAlterConfigs`: settings of topics and of the broker.

use std::collections::HashSet;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse as IncrementalResponse;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::Call;
use super::topics::{Refusal, on_disk};
use crate::broker::Broker;
use crate::security::{Operation, Resource};
use crate::store::configs::{self, Def, Kind, Layer, Overrides, Scope, Source};

/// Kafka's numbers for what has settings.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// Kafka's numbers for what is done with one setting.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// What a request is about.
enum Target {
    Topic(String),
    /// This broker, or with an empty name all brokers.
    Broker {
        all: bool,
    },
}

/// The value as it may be seen.
pub(super) fn shown_value(def: &Def, value: Option<String>) -> Option<StrBytes> {
    if def.sensitive { None } else { value.map(StrBytes::from_string) }
}

fn find_target(
    broker: &Broker,
    call: &Call,
    kind: i8,
    name: &str,
    topic_operation: Operation,
) -> Result<Target, Refusal> {
    match kind {
        TOPIC => {
            if !call.allows(broker, topic_operation, Resource::Topic(name)) {
                return Err(Refusal::new(
                    ResponseError::TopicAuthorizationFailed,
                    "not allowed on this topic",
                ));
            }
            match broker.store.topic(name) {
                Some(_) => Ok(Target::Topic(name.to_owned())),
                None => Err(Refusal::new(
                    ResponseError::UnknownTopicOrPartition,
                    format!("there is no topic `{}`", name.escape_debug()),
                )),
            }
        }
        BROKER => {
            if !call.allows(broker, topic_operation, Resource::Cluster) {
                return Err(Refusal::new(
                    ResponseError::ClusterAuthorizationFailed,
                    "not allowed on this cluster",
                ));
            }
            if name.is_empty() || name == broker.config.node_id.to_string() {
                return Ok(Target::Broker { all: name.is_empty() });
            }
            let reason = format!("this is broker {}, not `{}`", broker.config.node_id, name.escape_debug());
            Err(Refusal::new(ResponseError::InvalidRequest, reason))
        }
        other => {
            let reason = format!("resources of type {other} have no settings here");
            Err(Refusal::new(ResponseError::InvalidRequest, reason))
        }
    }
}

pub(crate) async fn describe_configs(
    broker: &Arc<Broker>,
    call: &Call,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let shown = Shown { synonyms: request.include_synonyms, documentation: request.include_documentation };
    let results = request.resources.into_iter().map(|resource| {
        let described = describe(broker, call, &resource, &shown);
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name);
        match described {
            Ok(configs) => result.with_configs(configs),
            Err(refusal) => result.with_error_code(refusal.code.code()).with_error_message(refusal.message()),
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

struct Shown {
    synonyms: bool,
    documentation: bool,
}

fn describe(
    broker: &Broker,
    call: &Call,
    resource: &DescribeConfigsResource,
    shown: &Shown,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    let name = resource.resource_name.as_str();
    let target = find_target(broker, call, resource.resource_type, name, Operation::DescribeConfigs)?;
    // Not to name any is to ask for all, as with Kafka.
    let keys = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty());
    let wanted: Option<HashSet<&str>> = keys.map(|keys| keys.iter().map(StrBytes::as_str).collect());
    let wanted = |def: &&'static Def| wanted.as_ref().is_none_or(|wanted| wanted.contains(def.name));
    let settings = broker.store.broker_settings();
    Ok(match target {
        Target::Topic(name) => {
            let overrides = broker.store.topic(&name).map(|topic| topic.configs()).unwrap_or_default();
            let defs = configs::topic_defs().iter().filter(wanted);
            defs.map(|def| show(def, settings.topic_layers(def, &overrides), false, shown)).collect()
        }
        Target::Broker { all: false } => {
            let defs = configs::broker_defs().iter().filter(wanted);
            defs.map(|def| show(def, settings.broker_layers(def), def.scope == Scope::ReadOnly, shown))
                .collect()
        }
        // Of all brokers together only what was set for them is told.
        Target::Broker { all: true } => {
            let set = |def: &&'static Def| settings.dynamic.contains_key(def.name);
            let defs = configs::broker_defs().iter().filter(wanted).filter(set);
            defs.map(|def| {
                let value = settings.dynamic.get(def.name).cloned();
                show(def, vec![Layer { name: def.name, value, source: Source::BrokerDefault }], false, shown)
            })
            .collect()
        }
    })
}

fn show(
    def: &'static Def,
    layers: Vec<Layer>,
    read_only: bool,
    shown: &Shown,
) -> DescribeConfigsResourceResult {
    let (value, source) =
        layers.first().map_or((None, Source::Default), |layer| (layer.value.clone(), layer.source));
    let mut result = DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_static_str(def.name))
        .with_value(shown_value(def, value))
        .with_read_only(read_only)
        .with_config_source(source as i8)
        .with_is_sensitive(def.sensitive)
        .with_config_type(def.kind as i8);
    if shown.synonyms {
        let synonyms = layers.into_iter().map(|layer| {
            DescribeConfigsSynonym::default()
                .with_name(StrBytes::from_static_str(layer.name))
                .with_value(shown_value(def, layer.value))
                .with_source(layer.source as i8)
        });
        result = result.with_synonyms(synonyms.collect());
    }
    if shown.documentation {
        result = result.with_documentation(Some(StrBytes::from_string(def.documentation())));
    }
    result
}

/// One change of one setting.
struct Change {
    name: String,
    operation: i8,
    value: Option<String>,
}

pub(crate) async fn alter_configs(
    broker: &Arc<Broker>,
    call: &Call,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let changes = resource.configs.iter().map(|config| Change {
            name: config.name.to_string(),
            // No value is the way to say that the default is to hold again.
            operation: if config.value.is_some() { SET } else { DELETE },
            value: config.value.as_ref().map(StrBytes::to_string),
        });
        let (kind, name) = (resource.resource_type, resource.resource_name.as_str());
        let altered = alter(broker, call, kind, name, changes.collect(), true, request.validate_only).await;
        let response = AlterConfigsResourceResponse::default().with_resource_type(kind);
        let response = match altered {
            Ok(()) => response,
            Err(refusal) => {
                response.with_error_code(refusal.code.code()).with_error_message(refusal.message())
            }
        };
        responses.push(response.with_resource_name(resource.resource_name));
    }
    AlterConfigsResponse::default().with_responses(responses)
}

pub(crate) async fn incremental_alter_configs(
    broker: &Arc<Broker>,
    call: &Call,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let changes = resource.configs.iter().map(|config| Change {
            name: config.name.to_string(),
            operation: config.config_operation,
            value: config.value.as_ref().map(StrBytes::to_string),
        });
        let (kind, name) = (resource.resource_type, resource.resource_name.as_str());
        let altered = alter(broker, call, kind, name, changes.collect(), false, request.validate_only).await;
        let response = IncrementalResponse::default().with_resource_type(kind);
        let response = match altered {
            Ok(()) => response,
            Err(refusal) => {
                response.with_error_code(refusal.code.code()).with_error_message(refusal.message())
            }
        };
        responses.push(response.with_resource_name(resource.resource_name));
    }
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

async fn alter(
    broker: &Arc<Broker>,
    call: &Call,
    kind: i8,
    name: &str,
    changes: Vec<Change>,
    replace: bool,
    validate_only: bool,
) -> Result<(), Refusal> {
    let target = find_target(broker, call, kind, name, Operation::AlterConfigs)?;
    let mut names = HashSet::new();
    if let Some(twice) = changes.iter().find(|change| !names.insert(change.name.as_str())) {
        let reason = format!("`{}` is changed twice", twice.name.escape_debug());
        return Err(Refusal::new(ResponseError::InvalidRequest, reason));
    }
    on_disk(broker, move |broker| {
        let settings = broker.store.broker_settings();
        match target {
            Target::Topic(name) => broker.store.alter_topic(&name, validate_only, |overrides| {
                apply(overrides, &changes, replace, |name, overrides| {
                    let def = configs::topic_def(name)?;
                    let value = settings.topic_layers(def, overrides).into_iter().next()?.value;
                    Some((def, value))
                })
            }),
            Target::Broker { .. } => broker.store.alter_broker(validate_only, |overrides| {
                apply(overrides, &changes, replace, |name, overrides| {
                    let def = configs::broker_def(name)?;
                    let own = overrides.get(name).cloned();
                    Some((def, own.or_else(|| settings.broker_value(name))))
                })
            }),
        }
    })
    .await
}

/// Makes the changes; `find` gives a setting and the value that holds before them.
fn apply(
    overrides: &mut Overrides,
    changes: &[Change],
    replace: bool,
    find: impl Fn(&str, &Overrides) -> Option<(&'static Def, Option<String>)>,
) -> Result<(), String> {
    let before = overrides.clone();
    if replace {
        overrides.clear();
    }
    for Change { name, operation, value } in changes {
        let needed = || value.clone().ok_or_else(|| format!("`{name}` is given no value"));
        match *operation {
            SET => {
                overrides.insert(name.clone(), needed()?);
            }
            DELETE if find(name, &before).is_none() => {
                return Err(format!("unknown setting `{}`", name.escape_debug()));
            }
            DELETE => {
                overrides.remove(name);
            }
            APPEND | SUBTRACT => {
                let value = needed()?;
                let Some((def, held)) = find(name, &before) else {
                    // The check of the whole says it, with the nearest name.
                    overrides.insert(name.clone(), value);
                    continue;
                };
                if def.kind != Kind::List {
                    return Err(format!(
                        "`{name}` is no list, so nothing can be added to it or taken from it"
                    ));
                }
                let held = held.unwrap_or_default();
                let mut names: Vec<&str> = configs::list(&held).collect();
                let changed: Vec<&str> = configs::list(&value).collect();
                names.retain(|name| !changed.contains(name));
                if *operation == APPEND {
                    names.extend(changed);
                }
                overrides.insert(name.clone(), names.join(","));
            }
            other => return Err(format!("there is no operation {other} on settings")),
        }
    }
    Ok(())
}
