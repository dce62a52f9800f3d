//! What the consensus library is told of us: which types stand for a server, a term, an entry.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use openraft::impls::leader_id_std;
use openraft::raft::responder::Responder;
use openraft::vote::RaftLeaderId;
use openraft::{OptionalSend, RaftTypeConfig};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::config::Member;
use super::runtime::Runtime;
use crate::state;

/// A term has one leader (as in the Raft paper), so term and index together name an entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Types;

impl RaftTypeConfig for Types {
    type D = Data;
    type R = ();
    type NodeId = u64;
    type Node = Member;
    type Term = u64;
    type LeaderId = leader_id_std::LeaderId<u64, u64>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Data, u64, Member>;
    type Entry = openraft::Entry<<Self::LeaderId as RaftLeaderId>::Committed, Self::Payload>;
    type AsyncRuntime = Runtime;
    type Responder<T>
        = CallBack<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

/// Is called with what came of a proposal.
pub struct CallBack<T>(pub Box<dyn FnOnce(T) + Send>);

impl<T: OptionalSend + 'static> Responder<Types, T> for CallBack<T> {
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}

/// What came of a proposed entry.
pub(crate) type Proposed = openraft::raft::ClientWriteResult<Types>;

pub(crate) type LogId = openraft::type_config::alias::LogIdOf<Types>;
pub(crate) type Vote = openraft::type_config::alias::VoteOf<Types>;
pub(crate) type RaftEntry = openraft::type_config::alias::EntryOf<Types>;
pub(crate) type Payload = openraft::type_config::alias::EntryPayloadOf<Types>;
pub(crate) type Membership = openraft::Membership<u64, Member>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<Types>;

/// Names the entry at `index` of `term`.
pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(term.into(), index)
}

/// Transactions of one origin as the log holds them: the leader's wall clock (8 bytes, big endian, milliseconds since
/// 1970), then the [`state::Entry`] as it encodes itself.
#[derive(Clone, Default)]
pub struct Data {
    pub bytes: Bytes,
    /// The same, decoded, where it came from this process: saves decoding it again.
    pub entry: Option<Arc<state::Entry>>,
}

/// Bytes before the entry.
const TIME_BYTES: usize = 8;

impl Data {
    /// Puts the time before an entry that is encoded already.
    pub(crate) fn new(time_ms: i64, encoded: &[u8], entry: Option<Arc<state::Entry>>) -> Data {
        let mut bytes = Vec::with_capacity(TIME_BYTES + encoded.len());
        bytes.extend_from_slice(&time_ms.to_be_bytes());
        bytes.extend_from_slice(encoded);
        Data { bytes: bytes.into(), entry }
    }

    /// The time, and the encoded entry; `None` if it is shorter than a time.
    pub(crate) fn parts(&self) -> Option<(i64, Bytes)> {
        let time_ms = i64::from_be_bytes(*self.bytes.first_chunk()?);
        Some((time_ms, self.bytes.slice(TIME_BYTES..)))
    }
}

impl PartialEq for Data {
    fn eq(&self, other: &Data) -> bool {
        self.bytes == other.bytes
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} bytes", self.bytes.len())
    }
}

impl fmt::Display for Data {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} bytes", self.bytes.len())
    }
}

// The library asks for these; what goes to disk and wire is encoded in `codec`.
impl Serialize for Data {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_bytes(&self.bytes)
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Data, D::Error> {
        Ok(Data { bytes: Vec::<u8>::deserialize(from)?.into(), entry: None })
    }
}
