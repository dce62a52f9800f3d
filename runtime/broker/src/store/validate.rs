//! Whether a batch that somebody sends may be appended, and in which form: what Kafka's brokers check of a batch before
//! its offsets are set.
//!
//! It must not know partitions: everything it needs comes in as settings.

use std::borrow::Cow;

use flow_log::LogError;
use flow_log::batch::{self, BatchError, Builder, BuilderOptions, Compression, Header, Records};
use kafka_protocol::error::ResponseError;

use super::configs::TopicSettings;
use super::producers::{Origin, ProducerError};

/// What the records of one batch may come to when decompressed, as a multiple of the largest batch that is taken; a
/// batch of nothing but repetition beyond it is a bomb.
const DECOMPRESSED_FACTOR: usize = 128;

/// What the records of one batch may come to in any case, in bytes.
const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;

/// The most records that are named one by one when a batch is refused.
const RECORD_ERRORS_MAX: usize = 100;

/// Why a batch was not appended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppendError {
    #[error("the batch is corrupt: {0}")]
    Corrupt(BatchError),
    #[error("{0}")]
    Invalid(String),
    /// Some of its records are at fault: their places in the batch and what is wrong with each.
    #[error("{reason}")]
    Records { reason: String, records: Vec<(i32, String)> },
    #[error("{bytes} bytes are more than the {bytes_max} that `max.message.bytes` allows")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error("a record of time {timestamp} lies too far from the broker's time {now_ms}")]
    Timestamp { timestamp: i64, now_ms: i64, records: Vec<(i32, String)> },
    #[error("record format {0} is not supported, only 2 is")]
    Format(i8),
    #[error("the compression codec is unknown")]
    Codec,
    #[error(transparent)]
    Producer(#[from] ProducerError),
    #[error("the partition is being deleted")]
    Gone,
    #[error(transparent)]
    Log(LogError),
}

impl AppendError {
    /// The code on the wire.
    pub(crate) fn code(&self) -> ResponseError {
        match self {
            AppendError::Corrupt(_) => ResponseError::CorruptMessage,
            AppendError::Invalid(_) | AppendError::Records { .. } => ResponseError::InvalidRecord,
            AppendError::TooLarge { .. } => ResponseError::MessageTooLarge,
            AppendError::Timestamp { .. } => ResponseError::InvalidTimestamp,
            AppendError::Format(_) => ResponseError::UnsupportedForMessageFormat,
            AppendError::Codec => ResponseError::UnsupportedCompressionType,
            AppendError::Producer(error) => error.code(),
            AppendError::Gone => ResponseError::UnknownTopicOrPartition,
            AppendError::Log(LogError::Batch(_)) => ResponseError::CorruptMessage,
            AppendError::Log(LogError::TooLarge { .. }) => ResponseError::RecordListTooLarge,
            AppendError::Log(_) => ResponseError::KafkaStorageError,
        }
    }

    /// The records at fault, where they are known.
    pub(crate) fn records(&self) -> &[(i32, String)] {
        match self {
            AppendError::Records { records, .. } | AppendError::Timestamp { records, .. } => records,
            _ => &[],
        }
    }
}

impl From<LogError> for AppendError {
    fn from(error: LogError) -> AppendError {
        AppendError::Log(error)
    }
}

/// The one batch that a client may send for a partition.
///
/// # Errors
///
/// Nothing, several batches, an older format, a wrong checksum, lengths or counts that do not fit.
pub(crate) fn check_single(bytes: &[u8]) -> Result<Header, AppendError> {
    if bytes.is_empty() {
        return Err(AppendError::Invalid("there is no batch for the partition".into()));
    }
    match batch::check(bytes) {
        Ok(header) => Ok(header),
        Err(BatchError::Magic(magic)) => Err(AppendError::Format(magic)),
        Err(BatchError::Codec(_)) => Err(AppendError::Codec),
        Err(BatchError::Trailing(_)) => {
            Err(AppendError::Invalid("more than one batch for the partition: exactly one is allowed".into()))
        }
        Err(BatchError::Count { count, last_offset_delta }) => Err(AppendError::Invalid(format!(
            "{count} records do not fit a last offset delta of {last_offset_delta}"
        ))),
        Err(error) => Err(AppendError::Corrupt(error)),
    }
}

/// Checks a batch, whose header and checksum are right, against the settings of its topic, and gives it in the form in
/// which it is kept: as it came, unless the topic asks for another codec.
pub(crate) fn check_batch<'b>(
    header: &Header,
    bytes: &'b [u8],
    origin: Origin,
    settings: &TopicSettings,
    now_ms: i64,
) -> Result<Cow<'b, [u8]>, AppendError> {
    if origin != Origin::Coordinator {
        if header.base_offset != 0 {
            return Err(AppendError::Invalid(format!(
                "the base offset of a produced batch is 0, found {}",
                header.base_offset
            )));
        }
        if header.is_control() {
            return Err(ProducerError::ControlBatch.into());
        }
        if header.is_log_append_time() {
            return Err(AppendError::Timestamp {
                timestamp: header.max_timestamp,
                now_ms,
                records: Vec::new(),
            });
        }
    }
    if bytes.len() > settings.max_message_bytes && origin != Origin::Coordinator {
        return Err(AppendError::TooLarge { bytes: bytes.len(), bytes_max: settings.max_message_bytes });
    }
    let plain_bytes_max = settings
        .max_message_bytes
        .saturating_mul(DECOMPRESSED_FACTOR)
        .clamp(bytes.len(), DECOMPRESSED_BYTES_MAX);
    if header.is_control() || origin == Origin::Coordinator {
        return Ok(Cow::Borrowed(bytes));
    }
    check_times(bytes, settings, now_ms, plain_bytes_max)?;
    if settings.cleanup.compact {
        check_keys(bytes, plain_bytes_max)?;
    }
    match settings.compression {
        Some(codec) if header.compression() != Some(codec) => {
            let kept = recompress(header, bytes, codec, settings, plain_bytes_max)?;
            if kept.len() > settings.max_message_bytes {
                return Err(AppendError::TooLarge {
                    bytes: kept.len(),
                    bytes_max: settings.max_message_bytes,
                });
            }
            Ok(Cow::Owned(kept))
        }
        _ => Ok(Cow::Borrowed(bytes)),
    }
}

fn check_times(
    bytes: &[u8],
    settings: &TopicSettings,
    now_ms: i64,
    plain_bytes_max: usize,
) -> Result<(), AppendError> {
    let bounded = settings.timestamp_before_max_ms != i64::MAX || settings.timestamp_after_max_ms != i64::MAX;
    if settings.log_append_time || !bounded {
        return Ok(());
    }
    let early = now_ms.saturating_sub(settings.timestamp_before_max_ms);
    let late = now_ms.saturating_add(settings.timestamp_after_max_ms);
    // The header has the time of the first record and the greatest one; only the records themselves have the least.
    let records = Records::read(bytes, plain_bytes_max).map_err(corrupt_records)?;
    let mut outside = Vec::new();
    let mut first = None;
    for (index, record) in records.iter().enumerate() {
        let timestamp = record.map_err(corrupt_records)?.timestamp;
        if timestamp < early || timestamp > late {
            first.get_or_insert(timestamp);
            if outside.len() < RECORD_ERRORS_MAX {
                outside.push((index as i32, format!("time {timestamp} is not between {early} and {late}")));
            }
        }
    }
    match first {
        None => Ok(()),
        Some(timestamp) => Err(AppendError::Timestamp { timestamp, now_ms, records: outside }),
    }
}

fn check_keys(bytes: &[u8], plain_bytes_max: usize) -> Result<(), AppendError> {
    let summary = batch::check_records(bytes, plain_bytes_max).map_err(corrupt_records)?;
    if summary.without_key == 0 {
        return Ok(());
    }
    let records = Records::read(bytes, plain_bytes_max).map_err(corrupt_records)?;
    let without_key = records.iter().enumerate().filter_map(|(index, record)| {
        record
            .ok()?
            .key
            .is_none()
            .then(|| (index as i32, "a compacted topic takes no record without a key".to_owned()))
    });
    Err(AppendError::Records {
        reason: "one or more records have been rejected: a compacted topic takes no record without a key"
            .into(),
        records: without_key.take(RECORD_ERRORS_MAX).collect(),
    })
}

fn recompress(
    header: &Header,
    bytes: &[u8],
    codec: Compression,
    settings: &TopicSettings,
    plain_bytes_max: usize,
) -> Result<Vec<u8>, AppendError> {
    let level = match codec {
        Compression::Gzip if settings.compression_gzip_level >= 1 => Some(settings.compression_gzip_level),
        Compression::Zstd => Some(settings.compression_zstd_level),
        _ => None,
    };
    let mut builder = Builder::new(BuilderOptions {
        compression: codec,
        level,
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        transactional: header.is_transactional(),
        ..BuilderOptions::default()
    });
    let records = Records::read(bytes, plain_bytes_max).map_err(corrupt_records)?;
    let mut headers = Vec::new();
    let mut count = 0;
    for record in records.iter() {
        let record = record.map_err(corrupt_records)?;
        headers.clear();
        headers.extend(record.headers());
        builder.push(record.timestamp, record.key, record.value, headers.iter().copied());
        count += 1;
    }
    if count != header.records_count {
        return Err(AppendError::Invalid(format!(
            "the batch says {} records and has {count}",
            header.records_count
        )));
    }
    Ok(builder.finish())
}

/// A batch whose checksum is right and whose records are not was made so by its producer.
fn corrupt_records(error: BatchError) -> AppendError {
    match error {
        BatchError::TooLarge { bytes_max } => {
            AppendError::Invalid(format!("its records are larger than {bytes_max} bytes when decompressed"))
        }
        error => AppendError::Corrupt(error),
    }
}
