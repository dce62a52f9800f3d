//! Records go in over the wire and come out again, in every version, with the codes that clients act on.

mod common;

use bytes::Bytes;
use common::*;
use flow_log::batch::{BuilderOptions, Compression};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{
    FetchRequest, ListOffsetsRequest, OffsetForLeaderEpochRequest, ProduceRequest,
};
use uuid::Uuid;

async fn topic_id(fixture: &mut Fixture, name: &str) -> Uuid {
    use kafka_protocol::messages::CreateTopicsRequest;
    use kafka_protocol::messages::create_topics_request::CreatableTopic;
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(2)
        .with_replication_factor(1);
    let response = fixture.client.call(7, CreateTopicsRequest::default().with_topics(vec![topic])).await;
    response.topics[0].topic_id
}

#[tokio::test]
async fn batches_go_in_and_come_out_in_every_version() {
    let mut fixture = Fixture::new().await;
    let id = topic_id(&mut fixture, "a").await;
    let client = &mut fixture.client;
    for (offset, version) in (3..=11).enumerate() {
        let response = client.call(version, produce_request("a", 0, -1, batch(&["v"]))).await;
        let answer = &response.responses[0].partition_responses[0];
        assert_eq!((answer.error_code, answer.base_offset), (0, offset as i64), "version {version}");
        assert_eq!(answer.log_append_time_ms, -1);
    }
    client.produce("a", 1, batch(&["w"])).await;
    for version in 4..=16 {
        let mut request = fetch_request("a", &[(0, 7), (1, 0), (2, 0)]);
        if version >= 13 {
            request.topics[0].topic_id = id;
            request.topics[0].topic = topic_name("");
        }
        let response = client.call(version, request).await;
        assert_eq!((response.error_code, response.responses.len()), (0, 1), "version {version}");
        let topic = &response.responses[0];
        if version >= 13 {
            assert_eq!(topic.topic_id, id)
        } else {
            assert_eq!(&*topic.topic, "a")
        }
        let [first, second, missing] = &topic.partitions[..] else { panic!("{:?}", topic.partitions) };
        assert_eq!(
            (values(&first.records), values(&second.records)),
            (vec!["v".into(); 2], vec!["w".into()])
        );
        assert_eq!((first.high_watermark, first.last_stable_offset), (9, 9));
        assert_eq!(first.log_start_offset, if version >= 5 { 0 } else { -1 });
        assert_eq!(first.aborted_transactions, None);
        assert_eq!(missing.error_code, ResponseError::UnknownTopicOrPartition.code());
    }
}

#[tokio::test]
async fn records_and_topics_stay_over_a_restart() {
    let mut fixture = Fixture::new().await;
    fixture.client.create_topic("a", 1, &[]).await;
    fixture.client.produce("a", 0, batch(&["x", "y"])).await;
    fixture.restart().await;
    let response = fixture.client.call(12, fetch_request("a", &[(0, 0)])).await;
    assert_eq!(values(&response.responses[0].partitions[0].records), ["x", "y"]);
    assert_eq!(fixture.client.produce("a", 0, batch(&["z"])).await.base_offset, 2);
}

#[tokio::test]
async fn produce_answers_with_the_code_that_clients_act_on() {
    let mut fixture = Fixture::new().await;
    let client = &mut fixture.client;
    client.create_topic("a", 1, &[("max.message.bytes", "1000"), ("cleanup.policy", "compact")]).await;
    let mut corrupt = batch(&["x"]);
    *corrupt.last_mut().unwrap() ^= 1;
    let long = "x".repeat(2000);
    let codes = [
        (0, corrupt, ResponseError::CorruptMessage),
        (1, batch(&["x"]), ResponseError::UnknownTopicOrPartition),
        (-1, batch(&["x"]), ResponseError::UnknownTopicOrPartition),
        (0, batch(&[&long]), ResponseError::MessageTooLarge),
        (0, Vec::new(), ResponseError::InvalidRecord),
        (0, [batch(&["x"]), batch(&["y"])].concat(), ResponseError::InvalidRecord),
    ];
    for (partition, batch, code) in codes {
        let answer = client.produce("a", partition, batch).await;
        assert_eq!(answer.error_code, code.code(), "{code:?}");
        assert_eq!(answer.base_offset, -1);
        assert!(answer.error_message.is_some() || code == ResponseError::UnknownTopicOrPartition);
    }
    assert_eq!(
        client.produce("none", 0, batch(&["x"])).await.error_code,
        ResponseError::UnknownTopicOrPartition.code()
    );
    assert_eq!(
        client.produce("__consumer_offsets", 0, batch(&["x"])).await.error_code,
        ResponseError::InvalidTopicException.code()
    );
    let strange = client.call(9, produce_request("a", 0, 5, batch(&["x"]))).await;
    let strange = &strange.responses[0].partition_responses[0];
    assert_eq!(strange.error_code, ResponseError::InvalidRequiredAcks.code());
    let options = || BuilderOptions { compression: Compression::Zstd, ..BuilderOptions::default() };
    for (version, code) in [(6, ResponseError::UnsupportedCompressionType.code()), (7, 0)] {
        let request = produce_request("a", 0, -1, batch_with(options(), &["x"]));
        let response = client.call(version, request).await;
        assert_eq!(response.responses[0].partition_responses[0].error_code, code);
    }
    let mut keyless = flow_log::batch::Builder::new(BuilderOptions::default());
    keyless.push(0, None, Some(b"x"), std::iter::empty::<(&[u8], Option<&[u8]>)>());
    let answer = client.produce("a", 0, keyless.finish()).await;
    assert_eq!(answer.error_code, ResponseError::InvalidRecord.code());
    assert_eq!(answer.record_errors.len(), 1);
}

#[tokio::test]
async fn without_acks_there_is_no_answer_and_the_records_are_there() {
    let mut fixture = Fixture::new().await;
    let client = &mut fixture.client;
    client.create_topic("a", 1, &[]).await;
    client.send(9, &produce_request("a", 0, 0, batch(&["quiet"]))).await;
    // The next answer on the connection is that of the next request.
    let answer = client.produce("a", 0, batch(&["loud"])).await;
    assert_eq!(answer.base_offset, 1);
    // There is no other way to tell that a request failed.
    client.send(9, &produce_request("none", 0, 0, batch(&["lost"]))).await;
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn pipelined_batches_keep_their_order() {
    let mut fixture = Fixture::new().await;
    let client = &mut fixture.client;
    client.create_topic("a", 1, &[]).await;
    for sequence in 0..20 {
        let options = BuilderOptions {
            producer_id: 5,
            producer_epoch: 0,
            base_sequence: sequence,
            ..BuilderOptions::default()
        };
        client.send(9, &produce_request("a", 0, -1, batch_with(options, &["x"]))).await;
    }
    for sequence in 0..20 {
        // The creation of the topic was the first.
        let response = client.receive_of::<ProduceRequest>(9, sequence + 2).await;
        let answer = &response.responses[0].partition_responses[0];
        assert_eq!((answer.error_code, answer.base_offset), (0, i64::from(sequence)));
    }
}

#[tokio::test]
async fn a_long_poll_is_woken_by_an_append() {
    let mut fixture = Fixture::new().await;
    fixture.client.create_topic("a", 2, &[]).await;
    let mut reader = Client::connect(&fixture.broker).await;
    let request = fetch_request("a", &[(0, 0), (1, 0)]).with_max_wait_ms(600_000);
    reader.send(12, &request).await;
    fixture.client.produce("a", 1, batch(&["news"])).await;
    let response = reader.receive::<FetchRequest>(12).await;
    assert_eq!(values(&response.responses[0].partitions[1].records), ["news"]);
    // More bytes than one append brings: the second one completes the answer.
    let one = batch(&["x"]).len() as i32;
    let request = fetch_request("a", &[(0, 0), (1, 1)]).with_max_wait_ms(600_000).with_min_bytes(2 * one);
    reader.send(12, &request).await;
    fixture.client.produce("a", 0, batch(&["x"])).await;
    fixture.client.produce("a", 1, batch(&["y"])).await;
    let response = reader.receive::<FetchRequest>(12).await;
    let partitions = &response.responses[0].partitions;
    assert_eq!(
        (values(&partitions[0].records), values(&partitions[1].records)),
        (vec!["x".into()], vec!["y".into()])
    );
}

#[tokio::test]
async fn a_long_poll_ends_when_its_topic_is_deleted() {
    use kafka_protocol::messages::DeleteTopicsRequest;
    let mut fixture = Fixture::new().await;
    fixture.client.create_topic("a", 1, &[]).await;
    let mut reader = Client::connect(&fixture.broker).await;
    reader.send(12, &fetch_request("a", &[(0, 0)]).with_max_wait_ms(600_000)).await;
    let delete = DeleteTopicsRequest::default().with_topic_names(vec![topic_name("a")]);
    assert_eq!(fixture.client.call(5, delete).await.responses[0].error_code, 0);
    let response = reader.receive::<FetchRequest>(12).await;
    let code = response.responses[0].partitions[0].error_code;
    assert_eq!(code, ResponseError::UnknownTopicOrPartition.code());
}

#[tokio::test]
async fn the_first_batch_comes_whole_and_the_rest_only_if_it_fits() {
    let mut fixture = Fixture::new().await;
    let client = &mut fixture.client;
    client.create_topic("a", 2, &[]).await;
    let long = "x".repeat(1000);
    for partition in 0..2 {
        client.produce("a", partition, batch(&[&long])).await;
    }
    let mut request = fetch_request("a", &[(0, 0), (1, 0)]).with_max_bytes(10);
    let response = client.call(12, request.clone()).await;
    let partitions = &response.responses[0].partitions;
    assert_eq!((values(&partitions[0].records).len(), values(&partitions[1].records).len()), (1, 0));
    request.max_bytes = 1 << 20;
    request.topics[0].partitions.iter_mut().for_each(|partition| partition.partition_max_bytes = 10);
    let response = client.call(12, request).await;
    let partitions = &response.responses[0].partitions;
    assert_eq!((values(&partitions[0].records).len(), values(&partitions[1].records).len()), (1, 0));
}

#[tokio::test]
async fn fetch_answers_with_the_code_that_clients_act_on() {
    let mut fixture = Fixture::new().await;
    let client = &mut fixture.client;
    client.create_topic("a", 1, &[]).await;
    client.produce("a", 0, batch(&["x"])).await;
    for (offset, epoch, code) in [
        (2, -1, ResponseError::OffsetOutOfRange),
        (-1, -1, ResponseError::OffsetOutOfRange),
        (0, 7, ResponseError::UnknownLeaderEpoch),
    ] {
        let mut request = fetch_request("a", &[(0, offset)]).with_max_wait_ms(600_000);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        let response = client.call(12, request).await;
        assert_eq!(response.responses[0].partitions[0].error_code, code.code(), "{code:?}");
    }
    let mut request = fetch_request("", &[(0, 0)]).with_max_wait_ms(600_000);
    request.topics[0].topic_id = Uuid::from_u128(9);
    let response = client.call(13, request).await;
    assert_eq!(response.responses[0].partitions[0].error_code, ResponseError::UnknownTopicId.code());
    let mut request = fetch_request("a", &[(0, 1)]);
    request.topics[0].partitions[0].last_fetched_epoch = 5;
    let response = client.call(12, request.clone()).await;
    assert_eq!(response.responses[0].partitions[0].error_code, ResponseError::OffsetOutOfRange.code());
    let partition = &mut request.topics[0].partitions[0];
    (partition.last_fetched_epoch, partition.fetch_offset) = (0, 5);
    let response = client.call(12, request).await;
    let diverging = &response.responses[0].partitions[0].diverging_epoch;
    assert_eq!((diverging.epoch, diverging.end_offset), (0, 1));
}

#[tokio::test]
async fn a_session_tells_only_what_is_new() {
    let mut fixture = Fixture::new().await;
    let client = &mut fixture.client;
    client.create_topic("a", 3, &[]).await;
    let open = fetch_request("a", &[(0, 0), (1, 0), (2, 0)]).with_session_epoch(0);
    let response = client.call(12, open).await;
    let id = response.session_id;
    assert!(id > 0);
    assert_eq!(response.responses[0].partitions.len(), 3);
    let next = |epoch: i32| {
        fetch_request("a", &[]).with_topics(Vec::new()).with_session_id(id).with_session_epoch(epoch)
    };
    assert_eq!(client.call(12, next(1)).await.responses, []);
    client.produce("a", 1, batch(&["x"])).await;
    let response = client.call(12, next(2)).await;
    let partition = &response.responses[0].partitions[0];
    assert_eq!((partition.partition_index, values(&partition.records)), (1, vec!["x".to_owned()]));
    // The consumer goes on after the record, and gives up partition 2.
    let mut moved = fetch_request("a", &[(1, 1)]).with_session_id(id).with_session_epoch(3);
    moved.forgotten_topics_data = vec![
        kafka_protocol::messages::fetch_request::ForgottenTopic::default()
            .with_topic(topic_name("a"))
            .with_partitions(vec![2]),
    ];
    assert_eq!(client.call(12, moved).await.responses, []);
    client.produce("a", 2, batch(&["unseen"])).await;
    assert_eq!(client.call(12, next(4)).await.responses, []);
    for (id, epoch, code) in
        [(id, 4, ResponseError::InvalidFetchSessionEpoch), (id ^ 1, 5, ResponseError::FetchSessionIdNotFound)]
    {
        let response = client.call(12, next(epoch).with_session_id(id)).await;
        assert_eq!((response.error_code, response.responses.len()), (code.code(), 0));
    }
    assert_eq!(client.call(12, next(-1)).await.session_id, 0);
    let response = client.call(12, next(5)).await;
    assert_eq!(response.error_code, ResponseError::FetchSessionIdNotFound.code());
}

fn list(timestamp: i64) -> ListOffsetsRequest {
    let partition = ListOffsetsPartition::default()
        .with_partition_index(0)
        .with_current_leader_epoch(-1)
        .with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default().with_name(topic_name("a")).with_partitions(vec![partition]);
    ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic])
}

#[tokio::test]
async fn offsets_are_found_by_place_and_by_time() {
    let mut fixture = Fixture::new().await;
    let client = &mut fixture.client;
    client.create_topic("a", 1, &[]).await;
    for time in [100, 300, 200] {
        let mut builder = flow_log::batch::Builder::new(BuilderOptions::default());
        builder.push(time, None, Some(b"x"), std::iter::empty::<(&[u8], Option<&[u8]>)>());
        client.produce("a", 0, builder.finish()).await;
    }
    for version in 1..=9 {
        for (timestamp, from, expected) in [
            (-1, 1, (3, -1)),
            (-2, 1, (0, -1)),
            (-3, 7, (1, 300)),
            (-4, 8, (0, -1)),
            (-5, 9, (-1, -1)),
            (0, 1, (0, 100)),
            (101, 1, (1, 300)),
            (301, 1, (-1, -1)),
        ] {
            let response = client.call(version, list(timestamp)).await;
            let found = &response.topics[0].partitions[0];
            if version >= from {
                assert_eq!((found.offset, found.timestamp), expected, "{timestamp} in version {version}");
                assert_eq!(found.error_code, 0);
            } else {
                assert_eq!(found.error_code, ResponseError::UnsupportedVersion.code());
            }
        }
    }
}

#[tokio::test]
async fn the_end_of_a_leaders_epoch_is_found() {
    let mut fixture = Fixture::new().await;
    let client = &mut fixture.client;
    client.create_topic("a", 1, &[]).await;
    let ask = |current: i32, epoch: i32| {
        let partition = OffsetForLeaderPartition::default()
            .with_partition(0)
            .with_current_leader_epoch(current)
            .with_leader_epoch(epoch);
        let topic =
            OffsetForLeaderTopic::default().with_topic(topic_name("a")).with_partitions(vec![partition]);
        OffsetForLeaderEpochRequest::default().with_replica_id((-2).into()).with_topics(vec![topic])
    };
    let before = client.call(4, ask(0, 0)).await;
    assert_eq!(before.topics[0].partitions[0].end_offset, 0);
    client.produce("a", 0, batch(&["x", "y"])).await;
    for version in 2..=4 {
        let answer = client.call(version, ask(-1, 0)).await;
        let end = &answer.topics[0].partitions[0];
        assert_eq!((end.error_code, end.leader_epoch, end.end_offset), (0, 0, 2));
    }
    let fenced = client.call(4, ask(3, 0)).await;
    assert_eq!(fenced.topics[0].partitions[0].error_code, ResponseError::UnknownLeaderEpoch.code());
}

/// Records are sent as they are stored: what a consumer gets is what the producer sent, but for offset and epoch.
#[tokio::test]
async fn compressed_payloads_are_kept_byte_for_byte() {
    let mut fixture = Fixture::new().await;
    fixture.client.create_topic("a", 1, &[]).await;
    for (offset, compression) in
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]
            .into_iter()
            .enumerate()
    {
        let sent = batch_with(BuilderOptions { compression, ..BuilderOptions::default() }, &["x", "y"]);
        fixture.client.produce("a", 0, sent.clone()).await;
        let response = fixture.client.call(12, fetch_request("a", &[(0, 2 * offset as i64)])).await;
        let got: Bytes = response.responses[0].partitions[0].records.clone().unwrap();
        assert_eq!(got[16..], sent[16..], "{compression:?}");
        assert_eq!(got[..8], (2 * offset as i64).to_be_bytes());
    }
}

/// A reader of committed records sleeps while a transaction is open, wakes when it is decided, and is told in every
/// version which of the records it gets were aborted.
#[tokio::test]
async fn aborted_transactions_are_told_in_every_version() {
    use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
    use kafka_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
    use kafka_protocol::messages::{
        AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest, TransactionalId,
    };
    let mut fixture = Fixture::new().await;
    let id = topic_id(&mut fixture, "a").await;
    let client = &mut fixture.client;
    let transaction = || TransactionalId(text("t"));
    let find = FindCoordinatorRequest::default().with_key_type(1).with_coordinator_keys(vec![text("t")]);
    assert_eq!(client.call(4, find).await.coordinators[0].error_code, 0);
    let init = InitProducerIdRequest::default()
        .with_transactional_id(Some(transaction()))
        .with_transaction_timeout_ms(60_000);
    let producer = client.call(4, init).await;
    assert_eq!(producer.error_code, 0);
    let topic = AddPartitionsToTxnTopic::default().with_name(topic_name("a")).with_partitions(vec![0]);
    let add = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(transaction())
        .with_v3_and_below_producer_id(producer.producer_id)
        .with_v3_and_below_producer_epoch(producer.producer_epoch)
        .with_v3_and_below_topics(vec![topic]);
    let added = client.call(3, add).await;
    assert_eq!(added.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code, 0);
    let options = BuilderOptions {
        producer_id: producer.producer_id.0,
        producer_epoch: producer.producer_epoch,
        base_sequence: 0,
        transactional: true,
        ..BuilderOptions::default()
    };
    let produce = transactional(produce_request("a", 0, -1, batch_with(options, &["x", "y"])), "t");
    let produced = client.call(9, produce).await;
    assert_eq!(produced.responses[0].partition_responses[0].error_code, 0);

    let committed = |offset: i64| fetch_request("a", &[(0, offset)]).with_isolation_level(1);
    let open = client.call(12, committed(0)).await;
    let open = &open.responses[0].partitions[0];
    assert_eq!((open.high_watermark, open.last_stable_offset, values(&open.records).len()), (2, 0, 0));
    assert_eq!(open.aborted_transactions, Some(Vec::new()));
    let mut reader = Client::connect(&fixture.broker).await;
    reader.send(12, &committed(0).with_max_wait_ms(600_000).with_min_bytes(100)).await;
    let end = EndTxnRequest::default()
        .with_transactional_id(transaction())
        .with_producer_id(producer.producer_id)
        .with_producer_epoch(producer.producer_epoch)
        .with_committed(false);
    assert_eq!(fixture.client.call(3, end).await.error_code, 0);
    let woken = reader.receive::<FetchRequest>(12).await;
    assert_eq!(woken.responses[0].partitions[0].last_stable_offset, 3);

    for version in 4..=16 {
        let mut request = committed(0);
        if version >= 13 {
            request.topics[0].topic_id = id;
            request.topics[0].topic = topic_name("");
        }
        let response = fixture.client.call(version, request).await;
        let partition = &response.responses[0].partitions[0];
        let aborted = partition.aborted_transactions.as_ref().unwrap();
        let aborted: Vec<_> = aborted.iter().map(|one| (one.producer_id, one.first_offset)).collect();
        assert_eq!(aborted, [(producer.producer_id, 0)], "version {version}");
        assert_eq!(
            partition.records.as_ref().unwrap().len(),
            woken.responses[0].partitions[0].records.as_ref().unwrap().len()
        );
    }
}
