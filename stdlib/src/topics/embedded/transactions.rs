//! Transactions of the embedded broker behind the seam: a task owns the transactional id and the transaction that is
//! open, whose handle may be shared by all that write in it.

use std::sync::Arc;

use async_trait::async_trait;
use flow_agent::Fault;
use flow_broker::{Broker, GroupOffsets, LocalTransaction, LocalTransactions, TransactionError};
use tokio::sync::{mpsc, oneshot};

use crate::topics::cluster::{Identity, Transaction, Transactions};

/// Calls on their way to the task; beyond it the caller waits.
const CALLS_MAX: usize = 64;

type Answer = oneshot::Sender<Result<(), Fault>>;

enum Call {
    /// Begins transaction number so-and-so; one that is open is aborted.
    Begin(u64, Answer),
    Append {
        number: u64,
        topic: String,
        partition: i32,
        batch: Vec<u8>,
        answer: Answer,
    },
    Offsets(u64, GroupOffsets, Answer),
    Commit(u64, Answer),
    Abort(u64, Answer),
}

/// Takes a transactional id. The task ends with the last handle.
pub async fn open(broker: &Arc<Broker>, name: &str) -> Result<Arc<dyn Transactions>, Fault> {
    let owner = LocalTransactions::open(broker, name).await.map_err(fault)?;
    let (calls, receiver) = mpsc::channel(CALLS_MAX);
    tokio::spawn(serve(owner, receiver));
    Ok(Arc::new(Handle { calls, next: std::sync::atomic::AtomicU64::new(0) }))
}

async fn serve(owner: LocalTransactions, mut calls: mpsc::Receiver<Call>) {
    let mut next = calls.recv().await;
    while let Some(call) = next.take() {
        let Call::Begin(number, answer) = call else {
            // Its transaction is over.
            let (Call::Append { answer, .. }
            | Call::Offsets(_, _, answer)
            | Call::Commit(_, answer)
            | Call::Abort(_, answer)
            | Call::Begin(_, answer)) = call;
            let _ = answer.send(Err(Fault::new("the transaction has ended")));
            next = calls.recv().await;
            continue;
        };
        match owner.begin().await {
            Ok(transaction) => {
                let _ = answer.send(Ok(()));
                next = within(transaction, number, &mut calls).await;
            }
            Err(error) => {
                let _ = answer.send(Err(fault(error)));
                next = calls.recv().await;
            }
        }
    }
}

/// Serves one transaction until it ends; gives the call that is not its own.
async fn within(
    mut transaction: LocalTransaction,
    number: u64,
    calls: &mut mpsc::Receiver<Call>,
) -> Option<Call> {
    loop {
        // Nobody is left: dropping it aborts it.
        let call = calls.recv().await?;
        match call {
            Call::Append { number: of, topic, partition, batch, answer } if of == number => {
                let appended = transaction.append(&topic, partition, batch);
                let _ = answer.send(appended.map(drop).map_err(fault));
            }
            Call::Offsets(of, offsets, answer) if of == number => {
                let _ = answer.send(transaction.add_offsets(offsets).map_err(fault));
            }
            Call::Commit(of, answer) if of == number => {
                let _ = answer.send(transaction.commit().await.map_err(fault));
                return calls.recv().await;
            }
            Call::Abort(of, answer) if of == number => {
                let _ = answer.send(transaction.abort().await.map_err(fault));
                return calls.recv().await;
            }
            Call::Begin(..) => return Some(call),
            Call::Append { answer, .. }
            | Call::Offsets(_, _, answer)
            | Call::Commit(_, answer)
            | Call::Abort(_, answer) => {
                let _ = answer.send(Err(Fault::new("the transaction has ended")));
            }
        }
    }
}

fn fault(error: TransactionError) -> Fault {
    let fault = Fault::new(error.to_string());
    if matches!(error, TransactionError::Full(_)) { fault.code("F0806") } else { fault }
}

struct Handle {
    calls: mpsc::Sender<Call>,
    next: std::sync::atomic::AtomicU64,
}

#[async_trait]
impl Transactions for Handle {
    async fn begin(&self) -> Result<Arc<dyn Transaction>, Fault> {
        let number = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        ask(&self.calls, |answer| Call::Begin(number, answer)).await?;
        Ok(Arc::new(One { calls: self.calls.clone(), number }))
    }
}

struct One {
    calls: mpsc::Sender<Call>,
    number: u64,
}

#[async_trait]
impl Transaction for One {
    async fn append(&self, topic: &str, partition: i32, batch: Vec<u8>) -> Result<(), Fault> {
        let (number, topic) = (self.number, topic.to_owned());
        ask(&self.calls, |answer| Call::Append { number, topic, partition, batch, answer }).await
    }

    async fn offsets(&self, who: &Identity, topic: &str, positions: &[(i32, i64)]) -> Result<(), Fault> {
        if positions.is_empty() {
            return Ok(());
        }
        let mut offsets = GroupOffsets::new(&who.group);
        offsets.generation = who.generation;
        offsets.member_id.clone_from(&who.member);
        let position = |&(partition, position): &(i32, i64)| ((topic.to_owned(), partition), position);
        offsets.offsets = positions.iter().map(position).collect();
        ask(&self.calls, |answer| Call::Offsets(self.number, offsets, answer)).await
    }

    async fn commit(&self) -> Result<(), Fault> {
        ask(&self.calls, |answer| Call::Commit(self.number, answer)).await
    }

    async fn abort(&self) -> Result<(), Fault> {
        ask(&self.calls, |answer| Call::Abort(self.number, answer)).await
    }
}

async fn ask(calls: &mpsc::Sender<Call>, call: impl FnOnce(Answer) -> Call) -> Result<(), Fault> {
    let gone = || Fault::new("the broker has stopped");
    let (answer, answered) = oneshot::channel();
    calls.send(call(answer)).await.map_err(|_| gone())?;
    answered.await.map_err(|_| gone())?
}
