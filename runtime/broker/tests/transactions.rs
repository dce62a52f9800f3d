//! Transactions over the wire, through restarts of the broker: what a producer, an operator and readers see.

mod common;

use common::{Fixture, batch_with, fetch_request, produce_request, transactional};
use flow_log::batch::BuilderOptions;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

const ID: &str = "payments";

fn id() -> TransactionalId {
    TransactionalId(StrBytes::from_static_str(ID))
}

fn topic() -> TopicName {
    TopicName(StrBytes::from_static_str("t"))
}

/// A producer of the transactional id, and what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    id: ProducerId,
    epoch: i16,
}

async fn init(fixture: &mut Fixture, version: i16) -> Owner {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(id()))
        .with_transaction_timeout_ms(60_000);
    // Told to come again while the abort of its predecessor is under way.
    for _ in 0..100 {
        let response = fixture.client.call(version, request.clone()).await;
        if response.error_code != ResponseError::ConcurrentTransactions.code() {
            assert_eq!(response.error_code, 0);
            return Owner { id: response.producer_id, epoch: response.producer_epoch };
        }
    }
    panic!("the predecessor is never through")
}

async fn add(fixture: &mut Fixture, version: i16, owner: Owner, partitions: Vec<i32>) -> i16 {
    let request = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(id())
        .with_v3_and_below_producer_id(owner.id)
        .with_v3_and_below_producer_epoch(owner.epoch)
        .with_v3_and_below_topics(vec![
            AddPartitionsToTxnTopic::default().with_name(topic()).with_partitions(partitions),
        ]);
    let response = fixture.client.call(version, request).await;
    response.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
}

async fn produce(fixture: &mut Fixture, owner: Owner, partition: i32, sequence: i32, value: &str) -> i16 {
    let options = BuilderOptions {
        producer_id: owner.id.0,
        producer_epoch: owner.epoch,
        base_sequence: sequence,
        transactional: true,
        ..BuilderOptions::default()
    };
    let request = transactional(produce_request("t", partition, -1, batch_with(options, &[value])), ID);
    let response = fixture.client.call(9, request).await;
    response.responses[0].partition_responses[0].error_code
}

async fn end(fixture: &mut Fixture, version: i16, owner: Owner, committed: bool) -> i16 {
    let request = EndTxnRequest::default()
        .with_transactional_id(id())
        .with_producer_id(owner.id)
        .with_producer_epoch(owner.epoch)
        .with_committed(committed);
    fixture.client.call(version, request).await.error_code
}

/// Last stable offset, high watermark, and producers of aborted transactions, of partition 0.
async fn look(fixture: &mut Fixture) -> (i64, i64, Vec<i64>) {
    let request = fetch_request("t", &[(0, 0)]).with_isolation_level(1).with_max_wait_ms(0).with_min_bytes(0);
    let response = fixture.client.call(11, request).await;
    let partition = &response.responses[0].partitions[0];
    let aborted = partition.aborted_transactions.iter().flatten().map(|aborted| aborted.producer_id.0);
    (partition.last_stable_offset, partition.high_watermark, aborted.collect())
}

async fn state(fixture: &mut Fixture) -> String {
    let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![id()]);
    let response = fixture.client.call(0, request).await;
    response.transaction_states[0].transaction_state.to_string()
}

async fn fixture() -> Fixture {
    let mut fixture = Fixture::new().await;
    fixture.client.create_topic("t", 2, &[]).await;
    fixture
}

#[tokio::test]
async fn a_transaction_is_committed_and_another_aborted() {
    let mut fixture = fixture().await;
    let owner = init(&mut fixture, 4).await;
    // Not added yet: nobody would end it.
    let refused = produce(&mut fixture, owner, 0, 0, "a").await;
    assert_eq!(refused, ResponseError::InvalidTxnState.code());
    assert_eq!(add(&mut fixture, 3, owner, vec![0, 1]).await, 0);
    assert_eq!(produce(&mut fixture, owner, 0, 0, "a").await, 0);
    assert_eq!(look(&mut fixture).await, (0, 1, vec![]));
    assert_eq!(state(&mut fixture).await, "Ongoing");
    assert_eq!(end(&mut fixture, 3, owner, true).await, 0);
    assert_eq!(end(&mut fixture, 3, owner, false).await, ResponseError::InvalidTxnState.code());
    // Waits until the markers are on the disk.
    assert_eq!(add(&mut fixture, 3, owner, vec![0]).await, 0);
    assert_eq!(look(&mut fixture).await, (2, 2, vec![]));
    assert_eq!(produce(&mut fixture, owner, 0, 1, "b").await, 0);
    assert_eq!(end(&mut fixture, 3, owner, false).await, 0);
    assert_eq!(add(&mut fixture, 3, owner, vec![1]).await, 0);
    assert_eq!(look(&mut fixture).await, (4, 4, vec![owner.id.0]));
    // One unknown partition: nothing of the request is done.
    assert_eq!(add(&mut fixture, 3, owner, vec![0, 9]).await, ResponseError::OperationNotAttempted.code());
}

#[tokio::test]
async fn a_fenced_producer_is_told_so_in_the_words_of_its_version() {
    let mut fixture = fixture().await;
    let old = init(&mut fixture, 4).await;
    assert_eq!(add(&mut fixture, 3, old, vec![0]).await, 0);
    assert_eq!(produce(&mut fixture, old, 0, 0, "old").await, 0);
    let new = init(&mut fixture, 4).await;
    assert!(new.id == old.id && new.epoch > old.epoch);
    let (fenced, epoch) = (ResponseError::ProducerFenced.code(), ResponseError::InvalidProducerEpoch.code());
    assert_eq!(end(&mut fixture, 3, old, true).await, fenced);
    assert_eq!(end(&mut fixture, 1, old, true).await, epoch);
    assert_eq!(add(&mut fixture, 3, old, vec![0]).await, fenced);
    assert_eq!(add(&mut fixture, 1, old, vec![0]).await, epoch);
    assert_eq!(produce(&mut fixture, old, 0, 1, "late").await, epoch);
    let expected = InitProducerIdRequest::default()
        .with_transactional_id(Some(id()))
        .with_transaction_timeout_ms(60_000)
        .with_producer_id(old.id)
        .with_producer_epoch(old.epoch);
    assert_eq!(fixture.client.call(4, expected.clone()).await.error_code, fenced);
    assert_eq!(fixture.client.call(3, expected).await.error_code, epoch);
    let (stable, end, aborted) = look(&mut fixture).await;
    assert_eq!((stable, aborted), (end, vec![old.id.0]));
}

#[tokio::test]
async fn a_transaction_goes_on_over_a_restart() {
    let mut fixture = fixture().await;
    let owner = init(&mut fixture, 5).await;
    assert_eq!(add(&mut fixture, 3, owner, vec![0]).await, 0);
    assert_eq!(produce(&mut fixture, owner, 0, 0, "a").await, 0);
    fixture.restart().await;
    assert_eq!(state(&mut fixture).await, "Ongoing");
    assert_eq!(look(&mut fixture).await, (0, 1, vec![]));
    assert_eq!(produce(&mut fixture, owner, 0, 0, "a").await, 0, "a repeat is known");
    assert_eq!(produce(&mut fixture, owner, 0, 1, "b").await, 0);
    assert_eq!(end(&mut fixture, 4, owner, true).await, 0);
    fixture.restart().await;
    assert_eq!(add(&mut fixture, 3, owner, vec![0]).await, 0);
    // The marker may be there twice: the start writes it again if it does not know that it is on the disk.
    let (stable, end, aborted) = look(&mut fixture).await;
    assert!(stable == end && end >= 3 && aborted.is_empty());
    // Ids are not given twice.
    let other = fixture.client.call(4, InitProducerIdRequest::default().with_transactional_id(None)).await;
    assert!(other.error_code == 0 && other.producer_id.0 > owner.id.0);
}

#[tokio::test]
async fn an_operator_finds_an_open_transaction_and_ends_it_in_a_partition() {
    let mut fixture = fixture().await;
    let owner = init(&mut fixture, 4).await;
    assert_eq!(add(&mut fixture, 3, owner, vec![0]).await, 0);
    assert_eq!(produce(&mut fixture, owner, 0, 0, "a").await, 0);
    let listed = fixture.client.call(1, ListTransactionsRequest::default().with_duration_filter(-1)).await;
    assert_eq!(listed.transaction_states[0].transactional_id, id());
    let unknown = ListTransactionsRequest::default()
        .with_duration_filter(-1)
        .with_state_filters(vec![StrBytes::from_static_str("Asleep")]);
    let listed = fixture.client.call(1, unknown).await;
    assert_eq!((listed.unknown_state_filters.len(), listed.transaction_states.len()), (1, 0));
    let topics = vec![TopicRequest::default().with_name(topic()).with_partition_indexes(vec![0, 7])];
    let described = fixture.client.call(0, DescribeProducersRequest::default().with_topics(topics)).await;
    let partitions = &described.topics[0].partitions;
    assert_eq!(partitions[1].error_code, ResponseError::UnknownTopicOrPartition.code());
    let producer = &partitions[0].active_producers[0];
    assert_eq!((producer.producer_id, producer.current_txn_start_offset), (owner.id, 0));
    let marker = WritableTxnMarker::default()
        .with_producer_id(owner.id)
        .with_producer_epoch(owner.epoch)
        .with_transaction_result(false)
        .with_topics(vec![
            WritableTxnMarkerTopic::default().with_name(topic()).with_partition_indexes(vec![0, 7]),
        ]);
    let written = fixture.client.call(1, WriteTxnMarkersRequest::default().with_markers(vec![marker])).await;
    let codes: Vec<i16> =
        written.markers[0].topics[0].partitions.iter().map(|partition| partition.error_code).collect();
    assert_eq!(codes, [0, ResponseError::UnknownTopicOrPartition.code()]);
    assert_eq!(look(&mut fixture).await, (2, 2, vec![owner.id.0]));
}
