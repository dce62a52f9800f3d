//! Somebody without any right asks for everything: every API refuses with the code that belongs to what is refused, and
//! says nothing of what there is. Then the same requests by somebody with every right, so that the refusal is not one of
//! a malformed request.

use std::collections::BTreeSet;

use flow_broker::client::{Client, ClientConfig, FetchFrom, Login, LoginMechanism};
use flow_broker::{AuthorizerConfig, Broker, BrokerConfig, UserConfig};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Request, StrBytes};

const TOPIC: i16 = 29;
const GROUP: i16 = 30;
const CLUSTER: i16 = 31;
const TRANSACTIONAL_ID: i16 = 53;

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn topic() -> TopicName {
    TopicName(text("secret"))
}

fn group() -> GroupId {
    GroupId(text("team"))
}

fn transactional_id() -> TransactionalId {
    TransactionalId(text("payer"))
}

/// The keys that were asked for.
#[derive(Default)]
struct Asked(BTreeSet<i16>);

impl Asked {
    /// Sends a request and gives the error in its answer.
    async fn code<R: Request>(
        &mut self,
        client: &Client,
        request: R,
        code: impl Fn(&R::Response) -> i16,
    ) -> Option<i16> {
        // The APIs that the broker has, and no others.
        client.version::<R>().ok()?;
        self.0.insert(R::KEY);
        let answer = client.call(&request).await;
        Some(code(&answer.unwrap_or_else(|error| panic!("{}: {error}", R::KEY))))
    }
}

/// Asks for everything; name of the request, expected refusal, code of the answer.
async fn ask(client: &Client, asked: &mut Asked) -> Vec<(&'static str, i16, i16)> {
    let mut codes = Vec::new();
    macro_rules! ask {
        ($request:ident { $($set:ident($value:expr)),* $(,)? }, $expected:expr, |$answer:ident| $code:expr) => {
            let request = $request::default()$(.$set($value))*;
            let code = asked.code(client, request, |$answer| $code).await;
            codes.extend(code.map(|code| (stringify!($request), $expected, code)));
        };
    }
    asked.0.extend([0, 1]);
    let produced = async { client.produce("secret", 0, 1, bytes::Bytes::from_static(b"x")).await?.await };
    let refused = |error| match error {
        flow_broker::client::ClientError::Answer(code) => code,
        error => panic!("{error}"),
    };
    codes.push(("Produce", TOPIC, produced.await.map_or_else(refused, |_| 0)));
    let mut from = FetchFrom::new("secret", 0, 0);
    from.bytes_min = 0;
    codes.push(("Fetch", TOPIC, client.fetch(&from).await.map_or_else(refused, |_| 0)));

    use list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    let partition = ListOffsetsPartition::default().with_timestamp(-1).with_current_leader_epoch(-1);
    let asked_topic = ListOffsetsTopic::default().with_name(topic()).with_partitions(vec![partition]);
    ask!(ListOffsetsRequest { with_topics(vec![asked_topic]) }, TOPIC, |answer| answer.topics[0].partitions[0].error_code);
    use offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
    let asked_topic = OffsetForLeaderTopic::default()
        .with_topic(topic())
        .with_partitions(vec![OffsetForLeaderPartition::default().with_current_leader_epoch(-1)]);
    ask!(OffsetForLeaderEpochRequest { with_topics(vec![asked_topic]) }, TOPIC, |answer| answer.topics[0].partitions[0].error_code);
    let asked_topic = metadata_request::MetadataRequestTopic::default().with_name(Some(topic()));
    ask!(MetadataRequest { with_topics(Some(vec![asked_topic])) }, TOPIC, |answer| answer.topics[0].error_code);
    let asked_topic = describe_topic_partitions_request::TopicRequest::default().with_name(topic());
    ask!(DescribeTopicPartitionsRequest { with_topics(vec![asked_topic]), with_response_partition_limit(9), with_cursor(None) }, TOPIC, |answer| answer.topics[0].error_code);

    // Topics and settings.
    let new = create_topics_request::CreatableTopic::default()
        .with_name(TopicName(text("new")))
        .with_num_partitions(1)
        .with_replication_factor(1);
    ask!(CreateTopicsRequest { with_topics(vec![new]), with_validate_only(true) }, TOPIC, |answer| answer.topics[0].error_code);
    let more = create_partitions_request::CreatePartitionsTopic::default()
        .with_name(topic())
        .with_count(2)
        .with_assignments(None);
    ask!(CreatePartitionsRequest { with_topics(vec![more]), with_validate_only(true) }, TOPIC, |answer| answer.results[0].error_code);
    let records = delete_records_request::DeleteRecordsTopic::default()
        .with_name(topic())
        .with_partitions(vec![delete_records_request::DeleteRecordsPartition::default().with_offset(0)]);
    ask!(DeleteRecordsRequest { with_topics(vec![records]) }, TOPIC, |answer| answer.topics[0].partitions[0].error_code);
    for (kind, name, expected) in [(2, "secret", TOPIC), (4, "1", CLUSTER)] {
        let resource = describe_configs_request::DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configuration_keys(None);
        ask!(DescribeConfigsRequest { with_resources(vec![resource]) }, expected, |answer| answer.results[0].error_code);
        let resource = alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name));
        ask!(AlterConfigsRequest { with_resources(vec![resource]), with_validate_only(true) }, expected, |answer| answer.responses[0].error_code);
        let resource = incremental_alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name));
        ask!(IncrementalAlterConfigsRequest { with_resources(vec![resource]), with_validate_only(true) }, expected, |answer| answer.responses[0].error_code);
    }

    // The cluster.
    ask!(ElectLeadersRequest { with_topic_partitions(Some(Vec::new())) }, CLUSTER, |answer| answer.error_code);
    ask!(AlterPartitionReassignmentsRequest {}, CLUSTER, |answer| answer.error_code);
    ask!(ListPartitionReassignmentsRequest { with_topics(None) }, CLUSTER, |answer| answer.error_code);
    ask!(DescribeLogDirsRequest { with_topics(None) }, CLUSTER, |answer| answer.error_code);
    ask!(DescribeAclsRequest { with_resource_type_filter(1), with_pattern_type_filter(1), with_operation(1), with_permission_type(1) }, CLUSTER, |answer| answer.error_code);
    let acl = create_acls_request::AclCreation::default()
        .with_resource_type(2)
        .with_resource_name(text("x"))
        .with_principal(text("User:x"))
        .with_host(text("*"))
        .with_operation(3)
        .with_permission_type(3);
    ask!(CreateAclsRequest { with_creations(vec![acl]) }, CLUSTER, |answer| answer.results[0].error_code);
    let filter = delete_acls_request::DeleteAclsFilter::default()
        .with_resource_type_filter(2)
        .with_resource_name_filter(Some(text("x")))
        .with_pattern_type_filter(1)
        .with_operation(1)
        .with_permission_type(1);
    ask!(DeleteAclsRequest { with_filters(vec![filter]) }, CLUSTER, |answer| answer.filter_results[0].error_code);
    ask!(DescribeUserScramCredentialsRequest { with_users(None) }, CLUSTER, |answer| answer.error_code);
    let deletion = alter_user_scram_credentials_request::ScramCredentialDeletion::default()
        .with_name(text("x"))
        .with_mechanism(1);
    ask!(AlterUserScramCredentialsRequest { with_deletions(vec![deletion]) }, CLUSTER, |answer| answer.results[0].error_code);
    let marker = write_txn_markers_request::WritableTxnMarker::default()
        .with_producer_id(ProducerId(1))
        .with_topics(vec![
            write_txn_markers_request::WritableTxnMarkerTopic::default()
                .with_name(topic())
                .with_partition_indexes(vec![0]),
        ]);
    ask!(WriteTxnMarkersRequest { with_markers(vec![marker]) }, CLUSTER, |answer| answer.markers[0].topics[0].partitions[0].error_code);

    // Groups.
    ask!(FindCoordinatorRequest { with_coordinator_keys(vec![group().0]) }, GROUP, |answer| answer.coordinators[0].error_code);
    ask!(JoinGroupRequest { with_group_id(group()), with_session_timeout_ms(10_000), with_protocol_type(text("consumer")), with_protocols(vec![join_group_request::JoinGroupRequestProtocol::default().with_name(text("range"))]) }, GROUP, |answer| answer.error_code);
    ask!(SyncGroupRequest { with_group_id(group()), with_member_id(text("m")) }, GROUP, |answer| answer.error_code);
    ask!(HeartbeatRequest { with_group_id(group()), with_member_id(text("m")) }, GROUP, |answer| answer.error_code);
    ask!(LeaveGroupRequest { with_group_id(group()) }, GROUP, |answer| answer.error_code);
    ask!(DescribeGroupsRequest { with_groups(vec![group()]) }, GROUP, |answer| answer.groups[0].error_code);
    ask!(DeleteGroupsRequest { with_groups_names(vec![group()]) }, GROUP, |answer| answer.results[0].error_code);
    let offset = offset_commit_request::OffsetCommitRequestPartition::default().with_committed_offset(1);
    let offsets = offset_commit_request::OffsetCommitRequestTopic::default()
        .with_name(topic())
        .with_partitions(vec![offset]);
    ask!(OffsetCommitRequest { with_group_id(group()), with_generation_id_or_member_epoch(-1), with_topics(vec![offsets]) }, GROUP, |answer| answer.topics[0].partitions[0].error_code);
    let of =
        offset_fetch_request::OffsetFetchRequestGroup::default().with_group_id(group()).with_topics(None);
    ask!(OffsetFetchRequest { with_groups(vec![of]) }, GROUP, |answer| answer.groups[0].error_code);
    ask!(OffsetDeleteRequest { with_group_id(group()) }, GROUP, |answer| answer.error_code);
    ask!(ConsumerGroupHeartbeatRequest { with_group_id(GroupId(text("new team"))), with_member_id(text("m")), with_rebalance_timeout_ms(9_000), with_subscribed_topic_names(Some(vec![topic()])), with_topic_partitions(Some(Vec::new())) }, GROUP, |answer| answer.error_code);
    ask!(ConsumerGroupDescribeRequest { with_group_ids(vec![group()]) }, GROUP, |answer| answer.groups[0].error_code);

    // Transactions.
    ask!(InitProducerIdRequest { with_transactional_id(None) }, CLUSTER, |answer| answer.error_code);
    ask!(InitProducerIdRequest { with_transactional_id(Some(transactional_id())), with_transaction_timeout_ms(9_000) }, TRANSACTIONAL_ID, |answer| answer.error_code);
    let partitions = add_partitions_to_txn_request::AddPartitionsToTxnTopic::default()
        .with_name(topic())
        .with_partitions(vec![0]);
    // From version 4 on it is for brokers, who may act on the cluster.
    let request = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(transactional_id())
        .with_v3_and_below_topics(vec![partitions.clone()]);
    let answer = client.call_version(3, &request).await.unwrap();
    let code = answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code;
    codes.push(("AddPartitionsToTxn", TRANSACTIONAL_ID, code));
    let transaction = add_partitions_to_txn_request::AddPartitionsToTxnTransaction::default()
        .with_transactional_id(transactional_id())
        .with_topics(vec![partitions]);
    ask!(AddPartitionsToTxnRequest { with_transactions(vec![transaction]) }, CLUSTER, |answer| {
        answer.error_code
    });
    ask!(AddOffsetsToTxnRequest { with_transactional_id(transactional_id()), with_group_id(group()) }, TRANSACTIONAL_ID, |answer| answer.error_code);
    let offset = txn_offset_commit_request::TxnOffsetCommitRequestPartition::default();
    let offsets = txn_offset_commit_request::TxnOffsetCommitRequestTopic::default()
        .with_name(topic())
        .with_partitions(vec![offset]);
    ask!(TxnOffsetCommitRequest { with_transactional_id(transactional_id()), with_group_id(group()), with_topics(vec![offsets]) }, TRANSACTIONAL_ID, |answer| answer.topics[0].partitions[0].error_code);
    ask!(EndTxnRequest { with_transactional_id(transactional_id()) }, TRANSACTIONAL_ID, |answer| answer.error_code);
    ask!(DescribeTransactionsRequest { with_transactional_ids(vec![transactional_id()]) }, TRANSACTIONAL_ID, |answer| answer.transaction_states[0].error_code);
    let producers = describe_producers_request::TopicRequest::default()
        .with_name(topic())
        .with_partition_indexes(vec![0]);
    ask!(DescribeProducersRequest { with_topics(vec![producers]) }, TOPIC, |answer| answer.topics[0].partitions[0].error_code);
    // Last: for whoever may, it is gone.
    let names = delete_topics_request::DeleteTopicState::default().with_name(Some(topic()));
    ask!(DeleteTopicsRequest { with_topics(vec![names]) }, TOPIC, |answer| answer.responses[0].error_code);
    codes
}

#[tokio::test(flavor = "multi_thread")]
async fn no_api_serves_somebody_without_rights() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = BrokerConfig::new(dir.path());
    for name in ["root", "nobody"] {
        config.users.push(UserConfig { name: name.to_owned(), password: "secret".to_owned() });
    }
    let super_users = vec!["User:root".to_owned()];
    config.authorizer = Some(AuthorizerConfig { super_users, allow_everyone_without_acl: false });
    let broker = Broker::start(config).await.unwrap();
    let connect = |user: &str| {
        let mut config = ClientConfig::new(broker.address().to_string());
        let (user, password) = (user.to_owned(), "secret".to_owned());
        config.login = Some(Login { mechanism: LoginMechanism::Plain, user, password });
        Client::connect(config)
    };
    let (root, nobody) = (connect("root").await.unwrap(), connect("nobody").await.unwrap());
    root.metadata(Some(&["secret"]), true).await.unwrap();

    let mut asked = Asked::default();
    let wrong: Vec<_> =
        ask(&nobody, &mut asked).await.into_iter().filter(|(_, expected, code)| expected != code).collect();
    assert!(wrong.is_empty(), "request, expected, got: {wrong:?}");
    // What lists, lists nothing.
    let metadata = nobody.metadata(None, false).await.unwrap();
    assert!(metadata.topics.is_empty());
    let groups = nobody.call(&ListGroupsRequest::default()).await.unwrap();
    assert!(groups.groups.is_empty());
    let transactions = nobody.call(&ListTransactionsRequest::default()).await.unwrap();
    assert!(transactions.transaction_states.is_empty());
    asked.0.extend([ListGroupsRequest::KEY, ListTransactionsRequest::KEY]);

    // Nobody is refused for want of rights who has them all.
    for (request, _, code) in ask(&root, &mut asked).await {
        assert!(![TOPIC, GROUP, CLUSTER, TRANSACTIONAL_ID].contains(&code), "{request}: {code}");
    }
    // An API that is added must be asked for here. These are open to everybody: versions, SASL, the cluster's address.
    let open = [
        ApiVersionsRequest::KEY,
        SaslHandshakeRequest::KEY,
        SaslAuthenticateRequest::KEY,
        DescribeClusterRequest::KEY,
    ];
    let versions = nobody
        .call(
            &ApiVersionsRequest::default()
                .with_client_software_name(text("t"))
                .with_client_software_version(text("1")),
        )
        .await
        .unwrap();
    let forgotten: Vec<i16> = versions
        .api_keys
        .iter()
        .map(|api| api.api_key)
        .filter(|key| !open.contains(key) && !asked.0.contains(key))
        .collect();
    assert!(forgotten.is_empty(), "keys {forgotten:?}");
    broker.shutdown().await;
}
