//! Topics and their settings as administrators see them.

mod common;

use common::*;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource as IncrementalResource, AlterableConfig as IncrementalConfig,
};
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterPartitionReassignmentsRequest, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteRecordsRequest, DeleteTopicsRequest, DescribeConfigsRequest, DescribeLogDirsRequest,
    ElectLeadersRequest, IncrementalAlterConfigsRequest, ListPartitionReassignmentsRequest,
};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

fn topic(name: &str, partitions: i32, replicas: i16) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(replicas)
}

fn config(name: &str, value: Option<&str>) -> CreatableTopicConfig {
    CreatableTopicConfig::default().with_name(text(name)).with_value(value.map(text))
}

async fn create(client: &mut Client, topics: Vec<CreatableTopic>) -> Vec<CreatableTopicResult> {
    client.call(7, CreateTopicsRequest::default().with_topics(topics)).await.topics
}

#[tokio::test]
async fn topics_are_made_in_every_version_with_defaults_and_settings() {
    let mut fixture = Fixture::new().await;
    for version in 2..=7 {
        let name = format!("t{version}");
        let (partitions, replicas) = if version >= 4 { (-1, -1) } else { (3, 1) };
        let wanted = topic(&name, partitions, replicas).with_configs(vec![config("retention.ms", Some("5"))]);
        let response =
            fixture.client.call(version, CreateTopicsRequest::default().with_topics(vec![wanted])).await;
        let made = &response.topics[0];
        assert_eq!((made.error_code, made.name.as_str()), (0, name.as_str()), "version {version}");
        if version >= 5 {
            assert_eq!((made.num_partitions, made.replication_factor), (1, 1));
            let configs = made.configs.as_ref().unwrap();
            let retention = configs.iter().find(|config| &*config.name == "retention.ms").unwrap();
            assert_eq!((retention.value.as_deref(), retention.config_source), (Some("5"), 1));
        }
        assert_eq!(made.topic_id.is_nil(), version < 7);
    }
}

#[tokio::test]
async fn what_cannot_be_made_is_refused_topic_by_topic() {
    let mut fixture = Fixture::new().await;
    let client = &mut fixture.client;
    let assigned = |brokers: &[(i32, i32)]| {
        let assignments = brokers.iter().map(|&(partition, broker)| {
            CreatableReplicaAssignment::default()
                .with_partition_index(partition)
                .with_broker_ids(vec![broker.into()])
        });
        topic("x", -1, -1).with_assignments(assignments.collect())
    };
    let mut counted = assigned(&[(0, 1)]);
    counted.num_partitions = 1;
    let cases = [
        (topic("a b", 1, 1), ResponseError::InvalidTopicException),
        (topic("__consumer_offsets", 1, 1), ResponseError::InvalidTopicException),
        (topic("x", 0, 1), ResponseError::InvalidPartitions),
        (topic("x", 1, 0), ResponseError::InvalidReplicationFactor),
        (topic("x", 1, 3), ResponseError::InvalidReplicationFactor),
        (assigned(&[(0, 2)]), ResponseError::InvalidReplicaAssignment),
        (assigned(&[(0, 1), (2, 1)]), ResponseError::InvalidReplicaAssignment),
        (counted, ResponseError::InvalidRequest),
        (topic("x", 1, 1).with_configs(vec![config("retenton.ms", Some("1"))]), ResponseError::InvalidConfig),
        (topic("x", 1, 1).with_configs(vec![config("retention.ms", None)]), ResponseError::InvalidConfig),
        (
            topic("x", 1, 1).with_configs(vec![config("retention.ms", Some("x"))]),
            ResponseError::InvalidConfig,
        ),
    ];
    for (wanted, code) in cases {
        let results = create(client, vec![wanted, topic("good", 1, 1)]).await;
        assert_eq!(results[0].error_code, code.code(), "{code:?}");
        assert!(results[0].error_message.is_some());
        assert!([0, ResponseError::TopicAlreadyExists.code()].contains(&results[1].error_code));
    }
    let twice = create(client, vec![topic("twice", 1, 1), topic("twice", 1, 1)]).await;
    assert_eq!((twice.len(), twice[0].error_code), (1, ResponseError::InvalidRequest.code()));
    let checked = CreateTopicsRequest::default().with_topics(vec![topic("y", 2, 1)]).with_validate_only(true);
    for _ in 0..2 {
        let result = client.call(7, checked.clone()).await;
        assert_eq!((result.topics[0].error_code, result.topics[0].num_partitions), (0, 2));
    }
    assert_eq!(create(client, vec![assigned(&[(1, 1), (0, 1)])]).await[0].num_partitions, 2);
}

#[tokio::test]
async fn topics_are_deleted_by_name_and_by_id_and_made_again_at_once() {
    let mut fixture = Fixture::new().await;
    let client = &mut fixture.client;
    for version in 1..=6 {
        let id = create(client, vec![topic("a", 1, 1)]).await[0].topic_id;
        client.produce("a", 0, batch(&["x"])).await;
        let request = if version >= 6 {
            let by_id = DeleteTopicState::default().with_name(None).with_topic_id(id);
            DeleteTopicsRequest::default().with_topics(vec![by_id])
        } else {
            DeleteTopicsRequest::default().with_topic_names(vec![topic_name("a")])
        };
        let response = client.call(version, request.clone()).await;
        assert_eq!(response.responses[0].error_code, 0, "version {version}");
        let again = client.call(version, request).await;
        let code =
            if version >= 6 { ResponseError::UnknownTopicId } else { ResponseError::UnknownTopicOrPartition };
        assert_eq!(again.responses[0].error_code, code.code());
    }
    create(client, vec![topic("a", 1, 1)]).await;
    assert_eq!(client.produce("a", 0, batch(&["x"])).await.base_offset, 0);
    let internal = DeleteTopicsRequest::default().with_topic_names(vec![topic_name("__transaction_state")]);
    let response = client.call(5, internal).await;
    assert_eq!(response.responses[0].error_code, ResponseError::InvalidTopicException.code());
}

#[tokio::test]
async fn partitions_are_added_and_never_taken_away() {
    let mut fixture = Fixture::new().await;
    let client = &mut fixture.client;
    client.create_topic("a", 2, &[]).await;
    let grow = |name: &str, count: i32| {
        CreatePartitionsTopic::default().with_name(topic_name(name)).with_count(count).with_assignments(None)
    };
    let on = |broker: i32| vec![CreatePartitionsAssignment::default().with_broker_ids(vec![broker.into()])];
    for (wanted, code) in [
        (grow("a", 2), ResponseError::InvalidPartitions.code()),
        (grow("a", 1), ResponseError::InvalidPartitions.code()),
        (grow("b", 4), ResponseError::UnknownTopicOrPartition.code()),
        (grow("a", 4).with_assignments(Some(on(1))), ResponseError::InvalidReplicaAssignment.code()),
        (grow("a", 3).with_assignments(Some(on(7))), ResponseError::InvalidReplicaAssignment.code()),
        (grow("a", 3).with_assignments(Some(on(1))), 0),
    ] {
        let request = CreatePartitionsRequest::default().with_topics(vec![wanted]);
        let checked = client.call(3, request.clone().with_validate_only(true)).await;
        assert_eq!(checked.results[0].error_code, code);
        assert_eq!(client.call(3, request).await.results[0].error_code, code);
    }
    assert_eq!(client.produce("a", 2, batch(&["x"])).await.error_code, 0);
    for (version, count) in (0..=3).zip(4..) {
        let request = CreatePartitionsRequest::default().with_topics(vec![grow("a", count)]);
        assert_eq!(client.call(version, request).await.results[0].error_code, 0);
    }
}

async fn describe(client: &mut Client, version: i16, kind: i8, name: &str) -> DescribeConfigsResult {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default()
        .with_resources(vec![resource])
        .with_include_synonyms(true)
        .with_include_documentation(version >= 3);
    client.call(version, request).await.results.remove(0)
}

fn find<'r>(result: &'r DescribeConfigsResult, name: &str) -> &'r DescribeConfigsResourceResult {
    result.configs.iter().find(|config| &*config.name == name).unwrap()
}

#[tokio::test]
async fn settings_are_described_with_where_they_come_from() {
    let mut fixture = Fixture::new().await;
    let client = &mut fixture.client;
    client.create_topic("a", 1, &[("cleanup.policy", "compact")]).await;
    for version in 1..=4 {
        let topic = describe(client, version, TOPIC, "a").await;
        assert_eq!(topic.error_code, 0);
        let cleanup = find(&topic, "cleanup.policy");
        assert_eq!((cleanup.value.as_deref(), cleanup.config_source), (Some("compact"), 1));
        let synonyms: Vec<_> =
            cleanup.synonyms.iter().map(|one| (&*one.name, one.value.as_deref(), one.source)).collect();
        assert_eq!(
            synonyms,
            [("cleanup.policy", Some("compact"), 1), ("log.cleanup.policy", Some("delete"), 5)]
        );
        if version >= 3 {
            assert_eq!(cleanup.config_type, 7);
            let idle = find(&topic, "preallocate").documentation.clone().unwrap();
            assert!(idle.contains("no effect here"), "{}", &*idle);
        }
        let broker = describe(client, version, BROKER, "1").await;
        assert!(find(&broker, "node.id").read_only);
        assert!(!find(&broker, "message.max.bytes").read_only);
        let secret = find(&broker, "ssl.key.password");
        assert_eq!((secret.is_sensitive, &secret.value), (true, &None));
    }
    let codes = [
        (TOPIC, "none", ResponseError::UnknownTopicOrPartition),
        (BROKER, "2", ResponseError::InvalidRequest),
        (77, "a", ResponseError::InvalidRequest),
    ];
    for (kind, name, code) in codes {
        assert_eq!(describe(client, 4, kind, name).await.error_code, code.code());
    }
    let resource = DescribeConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text("a"))
        .with_configuration_keys(Some(vec![text("segment.ms"), text("nothing")]));
    let some = client.call(4, DescribeConfigsRequest::default().with_resources(vec![resource])).await;
    assert_eq!(some.results[0].configs.len(), 1);
}

async fn alter(
    client: &mut Client,
    kind: i8,
    name: &str,
    changes: &[(&str, i8, Option<&str>)],
    check: bool,
) -> i16 {
    let configs = changes.iter().map(|&(name, operation, value)| {
        IncrementalConfig::default()
            .with_name(text(name))
            .with_config_operation(operation)
            .with_value(value.map(text))
    });
    let resource = IncrementalResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(configs.collect());
    let request =
        IncrementalAlterConfigsRequest::default().with_resources(vec![resource]).with_validate_only(check);
    client.call(1, request).await.responses[0].error_code
}

#[tokio::test]
async fn settings_are_changed_one_by_one_and_stay() {
    let mut fixture = Fixture::new().await;
    let client = &mut fixture.client;
    client.create_topic("a", 1, &[("retention.ms", "5")]).await;
    let value = async |client: &mut Client, name: &str| {
        find(&describe(client, 4, TOPIC, "a").await, name).value.clone()
    };
    let (set, delete, append, subtract) = (0, 1, 2, 3);
    assert_eq!(alter(client, TOPIC, "a", &[("max.message.bytes", set, Some("100"))], true).await, 0);
    assert_eq!(value(client, "max.message.bytes").await.as_deref(), Some("1048588"));
    let changes = [
        ("max.message.bytes", set, Some("100")),
        ("retention.ms", delete, None),
        ("cleanup.policy", append, Some("compact")),
    ];
    assert_eq!(alter(client, TOPIC, "a", &changes, false).await, 0);
    assert_eq!(value(client, "max.message.bytes").await.as_deref(), Some("100"));
    assert_eq!(value(client, "retention.ms").await.as_deref(), Some("604800000"));
    assert_eq!(value(client, "cleanup.policy").await.as_deref(), Some("delete,compact"));
    assert_eq!(alter(client, TOPIC, "a", &[("cleanup.policy", subtract, Some("delete"))], false).await, 0);
    assert_eq!(value(client, "cleanup.policy").await.as_deref(), Some("compact"));
    let long = "x".repeat(200);
    let refused = client.produce("a", 0, batch(&[&long])).await;
    assert_eq!(refused.error_code, ResponseError::MessageTooLarge.code());
    for (kind, name, changes, code) in [
        (TOPIC, "a", &[("nothing", set, Some("1"))][..], ResponseError::InvalidConfig),
        (TOPIC, "a", &[("nothing", delete, None)], ResponseError::InvalidConfig),
        (TOPIC, "a", &[("retention.ms", append, Some("1"))], ResponseError::InvalidConfig),
        (TOPIC, "a", &[("retention.ms", set, None)], ResponseError::InvalidConfig),
        (TOPIC, "a", &[("retention.ms", 9, Some("1"))], ResponseError::InvalidConfig),
        (
            TOPIC,
            "a",
            &[("retention.ms", set, Some("1")), ("retention.ms", delete, None)],
            ResponseError::InvalidRequest,
        ),
        (TOPIC, "b", &[("retention.ms", set, Some("1"))], ResponseError::UnknownTopicOrPartition),
        (BROKER, "1", &[("node.id", set, Some("7"))], ResponseError::InvalidConfig),
    ] {
        assert_eq!(alter(client, kind, name, changes, false).await, code.code(), "{changes:?}");
    }
    assert_eq!(alter(client, BROKER, "", &[("log.retention.ms", set, Some("77"))], false).await, 0);
    assert_eq!(value(client, "retention.ms").await.as_deref(), Some("77"));
    let all = describe(client, 4, BROKER, "").await;
    assert_eq!((all.configs.len(), all.configs[0].config_source), (1, 3));
    fixture.restart().await;
    let client = &mut fixture.client;
    assert_eq!(value(client, "retention.ms").await.as_deref(), Some("77"));
    // The older way replaces all that was set.
    let config = AlterableConfig::default().with_name(text("segment.ms")).with_value(Some(text("9000")));
    let resource = AlterConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text("a"))
        .with_configs(vec![config]);
    for version in 0..=2 {
        let request = AlterConfigsRequest::default().with_resources(vec![resource.clone()]);
        assert_eq!(client.call(version, request).await.responses[0].error_code, 0);
    }
    assert_eq!(value(client, "segment.ms").await.as_deref(), Some("9000"));
    assert_eq!(value(client, "max.message.bytes").await.as_deref(), Some("1048588"));
}

async fn delete_records(client: &mut Client, version: i16, topic: &str, offset: i64) -> (i16, i64) {
    let partition = DeleteRecordsPartition::default().with_partition_index(0).with_offset(offset);
    let topic = DeleteRecordsTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    let response = client.call(version, DeleteRecordsRequest::default().with_topics(vec![topic])).await;
    let result = &response.topics[0].partitions[0];
    (result.error_code, result.low_watermark)
}

#[tokio::test]
async fn records_are_deleted_up_to_an_offset() {
    let mut fixture = Fixture::new().await;
    let client = &mut fixture.client;
    client.create_topic("a", 1, &[]).await;
    client.create_topic("kept", 1, &[("cleanup.policy", "compact")]).await;
    for _ in 0..3 {
        client.produce("a", 0, batch(&["x"])).await;
    }
    assert_eq!(delete_records(client, 0, "a", 1).await, (0, 1));
    assert_eq!(delete_records(client, 1, "a", 9).await, (ResponseError::OffsetOutOfRange.code(), -1));
    assert_eq!(delete_records(client, 2, "a", -1).await, (0, 3));
    assert_eq!(delete_records(client, 2, "b", 0).await, (ResponseError::UnknownTopicOrPartition.code(), -1));
    assert_eq!(delete_records(client, 2, "kept", 0).await, (ResponseError::PolicyViolation.code(), -1));
    let response = client.call(12, fetch_request("a", &[(0, 2)])).await;
    let partition = &response.responses[0].partitions[0];
    assert_eq!(partition.error_code, ResponseError::OffsetOutOfRange.code());
}

#[tokio::test]
async fn sizes_are_told_by_partition() {
    let mut fixture = Fixture::new().await;
    let client = &mut fixture.client;
    client.create_topic("a", 2, &[]).await;
    client.produce("a", 1, batch(&["x"])).await;
    let asked = DescribableLogDirTopic::default().with_topic(topic_name("a")).with_partitions(vec![1, 7]);
    for version in 1..=4 {
        for topics in [None, Some(vec![asked.clone()])] {
            let some = topics.is_some();
            let response = client.call(version, DescribeLogDirsRequest::default().with_topics(topics)).await;
            let result = &response.results[0];
            let topic = &result.topics[0];
            assert_eq!(topic.partitions.len(), if some { 1 } else { 2 });
            let size = topic.partitions.last().unwrap().partition_size;
            assert_eq!(size, batch(&["x"]).len() as i64);
            assert!(version < 4 || result.total_bytes > result.usable_bytes && result.usable_bytes > 0);
        }
    }
}

#[tokio::test]
async fn with_one_broker_there_is_nothing_to_elect_or_to_move() {
    use kafka_protocol::messages::alter_partition_reassignments_request::{
        ReassignablePartition, ReassignableTopic,
    };
    use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
    let mut fixture = Fixture::new().await;
    let client = &mut fixture.client;
    client.create_topic("a", 1, &[]).await;
    let asked = TopicPartitions::default().with_topic(topic_name("a")).with_partitions(vec![0, 1]);
    for version in 0..=2 {
        let request = ElectLeadersRequest::default().with_topic_partitions(Some(vec![asked.clone()]));
        let response = client.call(version, request).await;
        let results = &response.replica_election_results[0].partition_result;
        let codes: Vec<i16> = results.iter().map(|result| result.error_code).collect();
        let expected = [ResponseError::ElectionNotNeeded, ResponseError::UnknownTopicOrPartition];
        assert_eq!(codes, expected.map(|code| code.code()));
    }
    let list = client.call(0, ListPartitionReassignmentsRequest::default().with_topics(None)).await;
    assert_eq!((list.error_code, list.topics.len()), (0, 0));
    for (replicas, code) in [
        (Some(vec![1]), 0),
        (Some(vec![2]), ResponseError::InvalidReplicaAssignment.code()),
        (None, ResponseError::NoReassignmentInProgress.code()),
    ] {
        let replicas = replicas.map(|ids: Vec<i32>| ids.into_iter().map(Into::into).collect());
        let partition = ReassignablePartition::default().with_partition_index(0).with_replicas(replicas);
        let topic = ReassignableTopic::default().with_name(topic_name("a")).with_partitions(vec![partition]);
        let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]);
        let response = client.call(0, request).await;
        assert_eq!(response.responses[0].partitions[0].error_code, code);
    }
}
