//! With an authorizer and without an ACL nobody reads, writes or changes anything, and every answer says so.

mod common;

use common::*;
use flow_broker::AuthorizerConfig;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
    DescribeConfigsRequest, DescribeLogDirsRequest, IncrementalAlterConfigsRequest, ListOffsetsRequest,
    ListPartitionReassignmentsRequest,
};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

#[tokio::test]
async fn without_an_acl_everything_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with(dir.path(), |config| config.authorizer = Some(AuthorizerConfig::default())).await;
    let client = &mut Client::connect(&broker).await;
    let topic_refused = ResponseError::TopicAuthorizationFailed.code();
    let cluster_refused = ResponseError::ClusterAuthorizationFailed.code();

    assert_eq!(client.produce("a", 0, batch(&["x"])).await.error_code, topic_refused);
    let fetched = client.call(12, fetch_request("a", &[(0, 0)])).await;
    assert_eq!(fetched.responses[0].partitions[0].error_code, topic_refused);
    let partition = ListOffsetsPartition::default().with_timestamp(-1);
    let topic = ListOffsetsTopic::default().with_name(topic_name("a")).with_partitions(vec![partition]);
    let listed = client.call(7, ListOffsetsRequest::default().with_topics(vec![topic])).await;
    assert_eq!(listed.topics[0].partitions[0].error_code, topic_refused);

    let topic = CreatableTopic::default()
        .with_name(topic_name("a"))
        .with_num_partitions(1)
        .with_replication_factor(1);
    let created = client.call(7, CreateTopicsRequest::default().with_topics(vec![topic])).await;
    assert_eq!(created.topics[0].error_code, topic_refused);
    let delete = DeleteTopicsRequest::default().with_topic_names(vec![topic_name("a")]);
    assert_eq!(client.call(5, delete).await.responses[0].error_code, topic_refused);
    let topic =
        CreatePartitionsTopic::default().with_name(topic_name("a")).with_count(2).with_assignments(None);
    let grown = client.call(3, CreatePartitionsRequest::default().with_topics(vec![topic])).await;
    assert_eq!(grown.results[0].error_code, topic_refused);
    let topic = DeleteRecordsTopic::default()
        .with_name(topic_name("a"))
        .with_partitions(vec![DeleteRecordsPartition::default()]);
    let deleted = client.call(2, DeleteRecordsRequest::default().with_topics(vec![topic])).await;
    assert_eq!(deleted.topics[0].partitions[0].error_code, topic_refused);

    for (kind, name, refused) in [(TOPIC, "a", topic_refused), (BROKER, "1", cluster_refused)] {
        let resource =
            DescribeConfigsResource::default().with_resource_type(kind).with_resource_name(text(name));
        let described =
            client.call(4, DescribeConfigsRequest::default().with_resources(vec![resource])).await;
        assert_eq!((described.results[0].error_code, described.results[0].configs.len()), (refused, 0));
        let resource =
            AlterConfigsResource::default().with_resource_type(kind).with_resource_name(text(name));
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        assert_eq!(client.call(1, request).await.responses[0].error_code, refused);
    }
    let dirs = client.call(4, DescribeLogDirsRequest::default().with_topics(None)).await;
    assert_eq!((dirs.error_code, dirs.results.len()), (cluster_refused, 0));
    let moves = client.call(0, ListPartitionReassignmentsRequest::default().with_topics(None)).await;
    assert_eq!(moves.error_code, cluster_refused);
}
