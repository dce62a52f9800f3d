//! Why a producer's batch is refused, with the code that its client acts on.

use kafka_protocol::error::ResponseError;

/// Why a batch is not appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProducerError {
    #[error("control batches are written by coordinators alone")]
    ControlBatch,
    #[error("a transactional batch without a producer id")]
    NoProducerId,
    #[error("a batch of producer {producer_id} without an epoch")]
    NoProducerEpoch { producer_id: i64 },
    #[error("a batch of producer {producer_id} without a sequence number")]
    NoSequence { producer_id: i64 },
    #[error("producer {producer_id} comes with epoch {epoch}, but epoch {last} has been seen")]
    OldEpoch { producer_id: i64, epoch: i16, last: i16 },
    #[error("producer {producer_id} begins epoch {epoch} with sequence {sequence}, expected 0")]
    NewEpoch { producer_id: i64, epoch: i16, sequence: i32 },
    #[error("producer {producer_id} comes with sequence {sequence} after {last}")]
    OutOfOrder { producer_id: i64, sequence: i32, last: i32 },
    #[error("the partition was not added to a transaction of producer {producer_id} that is open")]
    NotVerified { producer_id: i64 },
    #[error("producer {producer_id} has a transaction open, but the batch is not transactional")]
    NotTransactional { producer_id: i64 },
    #[error(
        "a marker for producer {producer_id} of coordinator epoch {epoch}, but epoch {last} has been seen"
    )]
    OldCoordinator { producer_id: i64, epoch: i32, last: i32 },
}

impl ProducerError {
    /// The code on the wire, as Kafka 3.9 gives it.
    pub(crate) fn code(&self) -> ResponseError {
        match self {
            ProducerError::ControlBatch
            | ProducerError::NoProducerId
            | ProducerError::NoProducerEpoch { .. }
            | ProducerError::NoSequence { .. } => ResponseError::InvalidRecord,
            ProducerError::OldEpoch { .. } => ResponseError::InvalidProducerEpoch,
            ProducerError::NewEpoch { .. } | ProducerError::OutOfOrder { .. } => {
                ResponseError::OutOfOrderSequenceNumber
            }
            ProducerError::NotVerified { .. } | ProducerError::NotTransactional { .. } => {
                ResponseError::InvalidTxnState
            }
            ProducerError::OldCoordinator { .. } => ResponseError::TransactionCoordinatorFenced,
        }
    }
}
