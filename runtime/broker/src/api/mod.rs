//! The table of Kafka's APIs: key, versions, handler. What `ApiVersions` advertises is computed from it, so that what is
//! advertised is what exists.
//!
//! A handler is `async fn(&Arc<Broker>, &Call, Request) -> Response`, or `-> Reply` where the answer is special. Its
//! part up to the first suspension runs in order of arrival on its connection. Bytes and strings of a request are parts of
//! the buffer that it was read into: whoever keeps one copies it. A handler must not know the wire.

mod acls;
mod configs;
mod consumer_groups;
mod credentials;
pub(crate) mod fetch;
mod groups;
mod log_dirs;
mod metadata;
mod offsets;
mod offsets_of_groups;
mod produce;
mod records;
mod sasl;
mod topics;
mod transactions;
mod versions;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use flow_log::Slice;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Encodable, HeaderVersion, Request, StrBytes, VersionRange};

use crate::broker::Broker;
use crate::security::{Operation, Principal, Resource};
use crate::wire::{Listener, Session, shape};

pub(crate) use sasl::bare_token;
pub(crate) use versions::unsupported_version;

/// `Name(Request): versions, order => handler`.
macro_rules! apis {
    ($($name:ident($request:ident): $min:literal..=$max:literal $(, $order:ident)? => $module:ident::$handler:ident,)*) => {
        /// Every API that exists here.
        pub(crate) static APIS: &[Api] = &[$(Api {
            key: <$request as Request>::KEY,
            name: stringify!($name),
            versions: VersionRange { min: $min, max: $max },
            order: apis!(@order $($order)?),
            request_header: <$request as HeaderVersion>::header_version,
            response_header: <<$request as Request>::Response as HeaderVersion>::header_version,
            check: |version, body| decode::<$request>(version, body).map(drop),
            start: |broker, call, body| {
                let request = decode::<$request>(call.version, body)?;
                Ok(Box::pin(async move { $module::$handler(&broker, &call, request).await.into() }))
            },
        },)*];
    };
    (@order) => { Order::Ordered };
    (@order beside) => { Order::Beside };
    (@order append) => { Order::Append };
}

apis! {
    // versions
    ApiVersions(ApiVersionsRequest): 0..=4, beside => versions::api_versions,
    // metadata
    Metadata(MetadataRequest): 0..=12, beside => metadata::metadata,
    DescribeCluster(DescribeClusterRequest): 0..=1, beside => metadata::describe_cluster,
    DescribeTopicPartitions(DescribeTopicPartitionsRequest): 0..=0, beside => metadata::describe_topic_partitions,
    // sasl
    SaslHandshake(SaslHandshakeRequest): 0..=1 => sasl::sasl_handshake,
    SaslAuthenticate(SaslAuthenticateRequest): 0..=2 => sasl::sasl_authenticate,
    // acls
    DescribeAcls(DescribeAclsRequest): 1..=3, beside => acls::describe_acls,
    CreateAcls(CreateAclsRequest): 1..=3 => acls::create_acls,
    DeleteAcls(DeleteAclsRequest): 1..=3 => acls::delete_acls,
    // credentials
    DescribeUserScramCredentials(DescribeUserScramCredentialsRequest): 0..=0, beside => credentials::describe_user_scram_credentials,
    AlterUserScramCredentials(AlterUserScramCredentialsRequest): 0..=0 => credentials::alter_user_scram_credentials,
    // produce
    Produce(ProduceRequest): 3..=11, append => produce::produce,
    // fetch
    Fetch(FetchRequest): 4..=16, beside => fetch::fetch,
    // offsets
    ListOffsets(ListOffsetsRequest): 1..=9, beside => offsets::list_offsets,
    OffsetForLeaderEpoch(OffsetForLeaderEpochRequest): 2..=4, beside => offsets::offset_for_leader_epoch,
    // topics
    CreateTopics(CreateTopicsRequest): 2..=7 => topics::create_topics,
    DeleteTopics(DeleteTopicsRequest): 1..=6 => topics::delete_topics,
    CreatePartitions(CreatePartitionsRequest): 0..=3 => topics::create_partitions,
    ElectLeaders(ElectLeadersRequest): 0..=2 => topics::elect_leaders,
    AlterPartitionReassignments(AlterPartitionReassignmentsRequest): 0..=0 => topics::alter_partition_reassignments,
    ListPartitionReassignments(ListPartitionReassignmentsRequest): 0..=0 => topics::list_partition_reassignments,
    // configs
    DescribeConfigs(DescribeConfigsRequest): 1..=4 => configs::describe_configs,
    AlterConfigs(AlterConfigsRequest): 0..=2 => configs::alter_configs,
    IncrementalAlterConfigs(IncrementalAlterConfigsRequest): 0..=1 => configs::incremental_alter_configs,
    // records
    DeleteRecords(DeleteRecordsRequest): 0..=2 => records::delete_records,
    // log_dirs
    DescribeLogDirs(DescribeLogDirsRequest): 1..=4 => log_dirs::describe_log_dirs,
    // groups
    FindCoordinator(FindCoordinatorRequest): 0..=5, beside => groups::find_coordinator,
    JoinGroup(JoinGroupRequest): 0..=9 => groups::join_group,
    SyncGroup(SyncGroupRequest): 0..=5 => groups::sync_group,
    Heartbeat(HeartbeatRequest): 0..=4 => groups::heartbeat,
    LeaveGroup(LeaveGroupRequest): 0..=5 => groups::leave_group,
    DescribeGroups(DescribeGroupsRequest): 0..=5 => groups::describe_groups,
    ListGroups(ListGroupsRequest): 0..=5 => groups::list_groups,
    DeleteGroups(DeleteGroupsRequest): 0..=2 => groups::delete_groups,
    // offsets_of_groups
    OffsetCommit(OffsetCommitRequest): 2..=9 => offsets_of_groups::offset_commit,
    OffsetFetch(OffsetFetchRequest): 1..=9 => offsets_of_groups::offset_fetch,
    OffsetDelete(OffsetDeleteRequest): 0..=0 => offsets_of_groups::offset_delete,
    // consumer_groups
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeatRequest): 0..=1 => consumer_groups::consumer_group_heartbeat,
    ConsumerGroupDescribe(ConsumerGroupDescribeRequest): 0..=1 => consumer_groups::consumer_group_describe,
    // transactions
    InitProducerId(InitProducerIdRequest): 0..=5 => transactions::init_producer_id,
    AddPartitionsToTxn(AddPartitionsToTxnRequest): 0..=4 => transactions::add_partitions_to_txn,
    AddOffsetsToTxn(AddOffsetsToTxnRequest): 0..=4 => transactions::add_offsets_to_txn,
    EndTxn(EndTxnRequest): 0..=4 => transactions::end_txn,
    TxnOffsetCommit(TxnOffsetCommitRequest): 0..=4 => transactions::txn_offset_commit,
    WriteTxnMarkers(WriteTxnMarkersRequest): 1..=1 => transactions::write_txn_markers,
    DescribeTransactions(DescribeTransactionsRequest): 0..=0, beside => transactions::describe_transactions,
    ListTransactions(ListTransactionsRequest): 0..=1, beside => transactions::list_transactions,
    DescribeProducers(DescribeProducersRequest): 0..=0, beside => transactions::describe_producers,
}

/// One API of the table.
pub(crate) struct Api {
    pub key: i16,
    pub name: &'static str,
    pub versions: VersionRange,
    pub order: Order,
    /// Version of the request's header, by version of the request.
    pub request_header: fn(i16) -> i16,
    /// Version of the response's header, by version of the request.
    pub response_header: fn(i16) -> i16,
    /// Whether a body is what its version says.
    pub check: fn(i16, Bytes) -> Result<(), Malformed>,
    /// Decodes the request's body and gives what answers it.
    pub start: fn(Arc<Broker>, Call, Bytes) -> Result<Handling, Malformed>,
}

/// How the requests of one connection may overlap. Answers keep the order of the requests in any case.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Order {
    /// Starts when every earlier request is answered, and later ones wait for it. What the table has if it says nothing.
    Ordered,
    /// Starts at once: changes nothing that another request of the connection could see.
    Beside,
    /// Starts at once behind requests of the same kind: takes its effect before its first suspension.
    Append,
}

/// A request that is being answered.
pub(crate) type Handling = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// Where a request comes from, and how it is to be answered.
#[derive(Clone)]
pub(crate) struct Call {
    pub version: i16,
    pub client_id: Option<StrBytes>,
    pub principal: Principal,
    pub peer: SocketAddr,
    pub listener: Arc<Listener>,
    /// What is known of the connection: SASL's state.
    pub session: Arc<Session>,
}

impl Call {
    /// Whether the caller may do `operation` on `resource`. Cheap when no authorizer is configured.
    pub(crate) fn allows(&self, broker: &Broker, operation: Operation, resource: Resource<'_>) -> bool {
        broker.security.allows(&self.principal, self.peer.ip(), operation, resource)
    }

    /// The bits of what the caller may do on `resource` (KIP-430), for answers that report them.
    pub(crate) fn authorized_operations(&self, broker: &Broker, resource: Resource<'_>) -> i32 {
        broker.security.authorized_operations(&self.principal, self.peer.ip(), resource)
    }
}

/// The answer to a request.
pub(crate) enum Reply {
    Message(Box<dyn Message>),
    /// The encoded body, without the header, in pieces.
    Pieces(Vec<Piece>),
    /// No answer at all: a produce request with acks=0.
    None,
    /// The connection ends: it is the only way to say that such a request failed. With the reason.
    Close(String),
}

/// A part of an encoded answer.
pub(crate) enum Piece {
    Bytes(Bytes),
    /// Sent from the page cache without being copied, where the connection can.
    Slice(Slice),
}

impl Piece {
    pub(crate) fn len(&self) -> usize {
        match self {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::Slice(slice) => slice.len(),
        }
    }
}

/// A response that can be encoded, whatever it is.
pub(crate) trait Message: Send {
    fn encode(&self, buffer: &mut BytesMut, version: i16) -> Result<(), EncodeError>;
}

/// The values of a response do not fit its version.
#[derive(Debug, thiserror::Error)]
#[error("the response cannot be encoded: {0}")]
pub(crate) struct EncodeError(String);

impl<T: Encodable + Send> Message for T {
    fn encode(&self, buffer: &mut BytesMut, version: i16) -> Result<(), EncodeError> {
        Encodable::encode(self, buffer, version).map_err(|error| EncodeError(error.to_string()))
    }
}

impl<T: Encodable + Send + 'static> From<T> for Reply {
    fn from(message: T) -> Reply {
        Reply::Message(Box::new(message))
    }
}

/// A request whose bytes are not what its version says.
#[derive(Debug, thiserror::Error)]
#[error("malformed request: {0}")]
pub(crate) struct Malformed(pub String);

/// The table's entry for an API key.
pub(crate) fn api(key: i16) -> Option<&'static Api> {
    APIS.iter().find(|api| api.key == key)
}

fn decode<R: Request>(version: i16, mut body: Bytes) -> Result<R, Malformed> {
    // Before the decoder, which believes what it reads.
    shape::check_request(R::KEY, version, &body).map_err(|error| Malformed(error.to_string()))?;
    R::decode(&mut body, version).map_err(|error| Malformed(error.to_string()))
}
