//! Entries and messages as bytes, for the log and for peers: big endian, every length checked against the bytes that are
//! there. It must not know files or connections.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};

use super::config::Member;
use super::types::{
    Data, LogId, Membership, Payload, RaftEntry, SnapshotMeta, StoredMembership, Types, Vote, log_id,
};

pub(crate) type AppendRequest = AppendEntriesRequest<Types>;
pub(crate) type AppendResult = Result<Option<LogId>, StreamAppendError<Types>>;

/// Bytes that are not what they should be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("malformed {0}")]
pub struct Malformed(pub(crate) &'static str);

const BLANK: u8 = 0;
const NORMAL: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// A membership as the log and snapshots have it: configs of voters (two while one replaces the other), and everyone.
#[derive(Serialize, Deserialize)]
struct MembershipText {
    voters: Vec<BTreeSet<u64>>,
    members: BTreeMap<u64, Member>,
}

fn membership_text(membership: &Membership) -> MembershipText {
    MembershipText {
        voters: membership.get_joint_config().clone(),
        members: membership.nodes().map(|(id, member)| (*id, member.clone())).collect(),
    }
}

fn membership_of(text: MembershipText) -> Result<Membership, Malformed> {
    Membership::new(text.voters, text.members).map_err(|_| Malformed("membership"))
}

pub(crate) fn encode_payload(payload: &Payload, out: &mut Vec<u8>) -> std::io::Result<()> {
    match payload {
        EntryPayload::Blank => out.push(BLANK),
        EntryPayload::Normal(data) => {
            out.reserve(1 + data.bytes.len());
            out.push(NORMAL);
            out.extend_from_slice(&data.bytes);
        }
        EntryPayload::Membership(membership) => {
            out.push(MEMBERSHIP);
            serde_json::to_writer(out, &membership_text(membership))?;
        }
    }
    Ok(())
}

pub(crate) fn decode_payload(bytes: &[u8]) -> Result<Payload, Malformed> {
    decode_payload_with(bytes, Bytes::copy_from_slice)
}

fn decode_payload_with(bytes: &[u8], take: impl FnOnce(&[u8]) -> Bytes) -> Result<Payload, Malformed> {
    match bytes.split_first() {
        Some((&BLANK, [])) => Ok(EntryPayload::Blank),
        Some((&NORMAL, data)) => Ok(EntryPayload::Normal(Data { bytes: take(data), entry: None })),
        Some((&MEMBERSHIP, text)) => {
            let text = serde_json::from_slice(text).map_err(|_| Malformed("membership"))?;
            membership_of(text).map(EntryPayload::Membership)
        }
        _ => Err(Malformed("entry")),
    }
}

/// What a snapshot's meta data looks like in its file and to peers.
#[derive(Serialize, Deserialize)]
struct MetaText {
    last: Option<(u64, u64)>,
    membership_at: Option<(u64, u64)>,
    membership: MembershipText,
}

pub(crate) fn encode_meta(meta: &SnapshotMeta) -> Vec<u8> {
    let parts = |id: &LogId| (id.committed_leader_id().term, id.index);
    let text = MetaText {
        last: meta.last_log_id.as_ref().map(parts),
        membership_at: meta.last_membership.log_id().as_ref().map(parts),
        membership: membership_text(meta.last_membership.membership()),
    };
    serde_json::to_vec(&text).unwrap_or_default()
}

pub(crate) fn decode_meta(bytes: &[u8]) -> Result<SnapshotMeta, Malformed> {
    let text: MetaText = serde_json::from_slice(bytes).map_err(|_| Malformed("snapshot"))?;
    let id = |parts: Option<(u64, u64)>| parts.map(|(term, index)| log_id(term, index));
    let membership = if text.membership.voters.is_empty() {
        Membership::default()
    } else {
        membership_of(text.membership)?
    };
    Ok(SnapshotMeta {
        last_log_id: id(text.last),
        last_membership: StoredMembership::new(id(text.membership_at), membership),
    })
}

/// Reads the pieces of a message one after the other.
pub(crate) struct Reader {
    bytes: Bytes,
}

impl Reader {
    pub(crate) fn new(bytes: Bytes) -> Reader {
        Reader { bytes }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let found = *self.bytes.first_chunk::<N>().ok_or(Malformed("message: it is too short"))?;
        bytes::Buf::advance(&mut self.bytes, N);
        Ok(found)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn bytes(&mut self) -> Result<Bytes, Malformed> {
        let length = self.u32()? as usize;
        if length > self.bytes.len() {
            return Err(Malformed("message: it is too short"));
        }
        Ok(self.bytes.split_to(length))
    }

    pub(crate) fn rest(self) -> Bytes {
        self.bytes
    }

    fn flag(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("message: neither yes nor no")),
        }
    }

    pub(crate) fn vote(&mut self) -> Result<Vote, Malformed> {
        let (term, server) = (self.u64()?, self.u64()?);
        Ok(if self.flag()? { Vote::new_committed(term, server) } else { Vote::new(term, server) })
    }

    pub(crate) fn log_id(&mut self) -> Result<Option<LogId>, Malformed> {
        Ok(if self.flag()? { Some(log_id(self.u64()?, self.u64()?)) } else { None })
    }
}

pub(crate) fn put_vote(out: &mut Vec<u8>, vote: &Vote) {
    out.extend_from_slice(&vote.leader_id.term.to_be_bytes());
    out.extend_from_slice(&vote.leader_id.voted_for.to_be_bytes());
    out.push(u8::from(vote.committed));
}

pub(crate) fn put_log_id(out: &mut Vec<u8>, id: Option<&LogId>) {
    out.push(u8::from(id.is_some()));
    if let Some(id) = id {
        out.extend_from_slice(&id.committed_leader_id().term.to_be_bytes());
        out.extend_from_slice(&id.index.to_be_bytes());
    }
}

pub(crate) fn encode_vote_request(request: &VoteRequest<Types>, out: &mut Vec<u8>) {
    put_vote(out, &request.vote);
    put_log_id(out, request.last_log_id.as_ref());
    out.push(u8::from(request.leadership_transfer));
}

pub(crate) fn decode_vote_request(bytes: Bytes) -> Result<VoteRequest<Types>, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut request = VoteRequest::new(reader.vote()?, reader.log_id()?);
    request.leadership_transfer = reader.flag()?;
    Ok(request)
}

pub(crate) fn encode_vote_response(response: &VoteResponse<Types>, out: &mut Vec<u8>) {
    put_vote(out, &response.vote);
    put_log_id(out, response.last_log_id.as_ref());
    out.push(u8::from(response.vote_granted));
}

pub(crate) fn decode_vote_response(bytes: Bytes) -> Result<VoteResponse<Types>, Malformed> {
    let mut reader = Reader::new(bytes);
    let (vote, last) = (reader.vote()?, reader.log_id()?);
    Ok(VoteResponse::new(vote, last, reader.flag()?))
}

pub(crate) fn encode_transfer(request: &TransferLeaderRequest<Types>, out: &mut Vec<u8>) {
    put_vote(out, request.from_leader());
    out.extend_from_slice(&request.to_node_id().to_be_bytes());
    put_log_id(out, request.last_log_id());
}

pub(crate) fn decode_transfer(bytes: Bytes) -> Result<TransferLeaderRequest<Types>, Malformed> {
    let mut reader = Reader::new(bytes);
    let (vote, to) = (reader.vote()?, reader.u64()?);
    Ok(TransferLeaderRequest::new(vote, to, reader.log_id()?))
}

pub(crate) fn encode_append(request: &AppendRequest, out: &mut Vec<u8>) -> std::io::Result<()> {
    put_vote(out, &request.vote);
    put_log_id(out, request.prev_log_id.as_ref());
    put_log_id(out, request.leader_commit.as_ref());
    out.extend_from_slice(&(request.entries.len() as u32).to_be_bytes());
    for entry in &request.entries {
        out.extend_from_slice(&entry.log_id.committed_leader_id().term.to_be_bytes());
        out.extend_from_slice(&entry.log_id.index.to_be_bytes());
        let at = out.len();
        out.extend_from_slice(&[0; 4]);
        encode_payload(&entry.payload, out)?;
        let length = (out.len() - at - 4) as u32;
        out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

pub(crate) fn decode_append(bytes: Bytes) -> Result<AppendRequest, Malformed> {
    let mut reader = Reader::new(bytes);
    let (vote, prev_log_id, leader_commit) = (reader.vote()?, reader.log_id()?, reader.log_id()?);
    let mut entries = Vec::new();
    for _ in 0..reader.u32()? {
        let log_id = log_id(reader.u64()?, reader.u64()?);
        let bytes = reader.bytes()?;
        let payload = decode_payload_with(&bytes, |data| bytes.slice_ref(data))?;
        // The follower's rules count on entries that follow one another.
        if let Some(RaftEntry { log_id: last, .. }) = entries.last()
            && last.index + 1 != log_id.index
        {
            return Err(Malformed("message: entries with a gap"));
        }
        entries.push(RaftEntry { log_id, payload });
    }
    let first = entries.first().map(|entry| entry.log_id.index);
    let expected = prev_log_id.map_or(0, |previous| previous.index.saturating_add(1));
    if first.is_some_and(|first| first != expected) {
        return Err(Malformed("message: entries with a gap"));
    }
    Ok(AppendRequest { vote, prev_log_id, entries, leader_commit })
}

pub(crate) fn encode_append_result(result: &AppendResult, out: &mut Vec<u8>) {
    match result {
        Ok(matching) => {
            out.push(0);
            put_log_id(out, matching.as_ref());
        }
        Err(StreamAppendError::Conflict(id)) => {
            out.push(1);
            put_log_id(out, Some(id));
        }
        Err(StreamAppendError::HigherVote(vote)) => {
            out.push(2);
            put_vote(out, vote);
        }
    }
}

pub(crate) fn decode_append_result(bytes: Bytes) -> Result<AppendResult, Malformed> {
    let mut reader = Reader::new(bytes);
    Ok(match reader.u8()? {
        0 => Ok(reader.log_id()?),
        1 => Err(StreamAppendError::Conflict(reader.log_id()?.ok_or(Malformed("message: conflict"))?)),
        2 => Err(StreamAppendError::HigherVote(reader.vote()?)),
        _ => return Err(Malformed("message: result")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> AppendRequest {
        let membership =
            Membership::new_with_defaults(vec![BTreeSet::from([1, 2]), BTreeSet::from([2])], [3]);
        let payloads = [
            EntryPayload::Blank,
            EntryPayload::Normal(Data::new(5, b"abc", None)),
            EntryPayload::Membership(membership),
        ];
        let entry = |(at, payload)| RaftEntry { log_id: log_id(3, 8 + at as u64), payload };
        AppendRequest {
            vote: Vote::new_committed(3, 2),
            prev_log_id: Some(log_id(2, 7)),
            entries: payloads.into_iter().enumerate().map(entry).collect(),
            leader_commit: None,
        }
    }

    #[test]
    fn messages_come_back_and_pieces_of_them_are_refused() {
        let sent = request();
        let mut out = Vec::new();
        encode_append(&sent, &mut out).unwrap();
        let got = decode_append(out.clone().into()).unwrap();
        assert_eq!(format!("{got:?}"), format!("{sent:?}"));
        assert_eq!(got.entries, sent.entries);
        for length in 0..out.len() {
            assert!(decode_append(Bytes::copy_from_slice(&out[..length])).is_err(), "{length}");
        }
        for result in [
            Ok(None),
            Ok(Some(log_id(1, 2))),
            Err(StreamAppendError::Conflict(log_id(1, 2))),
            Err(StreamAppendError::HigherVote(Vote::new(4, 1))),
        ] {
            let mut out = Vec::new();
            encode_append_result(&result, &mut out);
            assert_eq!(decode_append_result(out.into()), Ok(result));
        }
    }

    #[test]
    fn entries_with_a_gap_are_refused() {
        let mut sent = request();
        sent.entries.remove(1);
        let mut out = Vec::new();
        encode_append(&sent, &mut out).unwrap();
        assert!(decode_append(out.into()).is_err());
        let mut sent = request();
        sent.prev_log_id = None;
        let mut out = Vec::new();
        encode_append(&sent, &mut out).unwrap();
        assert!(decode_append(out.into()).is_err());
    }

    #[test]
    fn no_bytes_from_outside_panic() {
        let mut out = Vec::new();
        encode_append(&request(), &mut out).unwrap();
        for at in 0..out.len() {
            for byte in [0, 1, 2, 0x7f, 0xff] {
                let mut broken = out.clone();
                broken[at] = byte;
                let _ = decode_append(broken.clone().into());
                let _ = decode_vote_request(broken.clone().into());
                let _ = decode_vote_response(broken.clone().into());
                let _ = decode_transfer(broken.clone().into());
                let _ = decode_meta(&broken);
                let _ = decode_append_result(broken.into());
            }
        }
    }
}
