//! A look at records of a partition, without a group.

use flow_log::batch::{self, Records};

use super::{Admin, ClientError, FetchFrom, TopicInfo};

/// Bytes that the records of one batch may have when they are decompressed.
const BATCH_BYTES_MAX: usize = 64 << 20;

/// A record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeekedRecord {
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    /// `None`: a tombstone.
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Admin {
    /// At most `count` committed records of a partition from `from` on, of those before `end`. Waits for none.
    ///
    /// # Errors
    ///
    /// As [`Admin::fetch`]; batches that are damaged.
    pub async fn peek(
        &self,
        topic: &TopicInfo,
        partition: i32,
        from: i64,
        end: i64,
        count: usize,
    ) -> Result<Vec<PeekedRecord>, ClientError> {
        let damaged = |error: batch::BatchError| ClientError::Malformed(error.to_string());
        let mut found = Vec::new();
        let mut next = from;
        while found.len() < count && next < end {
            let from =
                FetchFrom { committed: true, max_wait_ms: 0, ..FetchFrom::new(&topic.name, partition, next) };
            let fetched = self.fetch(topic, &from).await?;
            // Batches of an aborted transaction are there, too; they end with its marker.
            let mut aborted = fetched.aborted;
            let before = next;
            for one in batch::batches(&fetched.records) {
                // The last one may be cut: it comes whole next time.
                let Ok((header, bytes)) = one else { break };
                next = next.max(header.next_offset());
                if header.is_control() {
                    aborted.retain(|(producer, first)| {
                        *producer != header.producer_id || *first > header.base_offset
                    });
                    continue;
                }
                let is_aborted = header.is_transactional()
                    && aborted.iter().any(|(producer, first)| {
                        *producer == header.producer_id && *first <= header.last_offset()
                    });
                if is_aborted {
                    continue;
                }
                let records = Records::read(bytes, BATCH_BYTES_MAX).map_err(damaged)?;
                for record in records.iter() {
                    let record = record.map_err(damaged)?;
                    if record.offset < before || found.len() == count {
                        continue;
                    }
                    let headers =
                        record.headers().map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec)));
                    found.push(PeekedRecord {
                        partition,
                        offset: record.offset,
                        timestamp: record.timestamp,
                        key: record.key.map(<[u8]>::to_vec),
                        value: record.value.map(<[u8]>::to_vec),
                        headers: headers.collect(),
                    });
                }
            }
            if next == before {
                // Nothing that can be seen now: an open transaction, or records that were deleted meanwhile.
                break;
            }
        }
        Ok(found)
    }
}
