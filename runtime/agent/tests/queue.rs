//! The memory queue: bounds, order, transactions and what becomes of acknowledgements.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use flow_agent::{Channel, ChannelError, MemoryQueue, QueueLimits, Receipt, Transaction, receipt};
use flow_plan::batch::Columns;
use flow_plan::{Batch, Outcome};

fn batch(bodies: &[&str]) -> Batch {
    let mut columns = Columns::default();
    for body in bodies {
        columns.push(body.as_bytes(), 0).unwrap();
    }
    Batch::new(columns)
}

fn with_receipt(mut batch: Batch) -> (Batch, Receipt) {
    let (ack, receipt) = receipt();
    batch.ack = ack;
    (batch, receipt)
}

fn queue(events_max: u64) -> MemoryQueue {
    MemoryQueue::new(QueueLimits { events_max, ..QueueLimits::default() })
}

fn bodies(batches: &[Batch]) -> Vec<String> {
    batches
        .iter()
        .flat_map(|batch| batch.rows.iter().map(|&row| String::from_utf8_lossy(batch.body(row)).into_owned()))
        .collect()
}

async fn take(queue: &MemoryQueue, events_max: usize) -> Box<dyn Transaction> {
    queue.take(events_max).await.unwrap().expect("the queue has ended")
}

/// Polls once: is the future still waiting?
async fn is_pending<F: Future + Unpin>(future: &mut F) -> bool {
    tokio::select! {
        biased;
        _ = future => false,
        () = std::future::ready(()) => true,
    }
}

#[tokio::test]
async fn small_batches_are_taken_together_and_a_large_one_in_pieces() {
    let queue = queue(100);
    queue.put(batch(&["a", "b"])).await.unwrap();
    queue.put(batch(&["c", "d", "e"])).await.unwrap();
    let first = take(&queue, 4).await;
    assert_eq!(bodies(first.batches()), ["a", "b", "c", "d"]);
    let second = take(&queue, 4).await;
    assert_eq!(bodies(second.batches()), ["e"]);
    first.commit().await.unwrap();
    assert_eq!(queue.status().events, 1);
    second.commit().await.unwrap();
    assert_eq!((queue.status().events, queue.status().bytes), (0, 0));
}

#[tokio::test]
async fn a_receipt_resolves_with_the_last_piece() {
    let queue = queue(100);
    let (batch, mut receipt) = with_receipt(batch(&["a", "b", "c"]));
    queue.put(batch).await.unwrap();
    take(&queue, 2).await.commit().await.unwrap();
    assert!(receipt.try_recv().is_err());
    take(&queue, 2).await.commit().await.unwrap();
    assert_eq!(receipt.try_recv().unwrap(), Outcome::Delivered);
}

#[tokio::test]
async fn dropping_a_transaction_gives_the_events_back_in_order() {
    let queue = queue(100);
    let (first_batch, mut receipt) = with_receipt(batch(&["a", "b", "c"]));
    queue.put(first_batch).await.unwrap();
    queue.put(batch(&["d"])).await.unwrap();
    // Two open ones, given back in either order.
    let one = take(&queue, 2).await;
    let two = take(&queue, 1).await;
    drop(one);
    drop(two);
    let all = take(&queue, 10).await;
    assert_eq!(bodies(all.batches()), ["a", "b", "c", "d"]);
    assert!(receipt.try_recv().is_err());
    all.commit().await.unwrap();
    assert_eq!(receipt.try_recv().unwrap(), Outcome::Delivered);
    assert_eq!(queue.status().events, 0);
}

#[tokio::test]
async fn a_full_queue_makes_puts_wait_until_a_commit() {
    let queue = queue(2);
    queue.put(batch(&["a", "b"])).await.unwrap();
    assert!(!queue.try_put(batch(&["x"])).unwrap_err().closed);
    let mut third = queue.put(batch(&["c"]));
    assert!(is_pending(&mut third).await);
    let transaction = take(&queue, 1).await;
    assert!(is_pending(&mut third).await, "taken is not yet forgotten");
    transaction.commit().await.unwrap();
    third.await.unwrap();
    assert_eq!(bodies(take(&queue, 9).await.batches()), ["b", "c"]);
}

#[tokio::test]
async fn waiting_puts_are_served_first_come_first_served() {
    let queue = queue(4);
    queue.put(batch(&["a", "b", "c"])).await.unwrap();
    let mut large = queue.put(batch(&["l", "m", "n", "o"]));
    assert!(is_pending(&mut large).await);
    let mut small = queue.put(batch(&["s"]));
    assert!(is_pending(&mut small).await, "a small one passed a large one");
    assert!(queue.try_put(batch(&["t"])).is_err(), "try_put passed the waiting line");
    take(&queue, 3).await.commit().await.unwrap();
    large.await.unwrap();
    assert!(is_pending(&mut small).await);
    take(&queue, 4).await.commit().await.unwrap();
    small.await.unwrap();
    assert_eq!(bodies(take(&queue, 9).await.batches()), ["s"]);
}

#[tokio::test]
async fn a_put_that_is_given_up_leaves_the_line_and_its_events_are_lost() {
    let queue = queue(2);
    queue.put(batch(&["a"])).await.unwrap();
    let (large, mut receipt) = with_receipt(batch(&["l", "m"]));
    let mut large = queue.put(large);
    assert!(is_pending(&mut large).await);
    let mut small = queue.put(batch(&["s"]));
    assert!(is_pending(&mut small).await);
    drop(large);
    assert_eq!(receipt.try_recv().unwrap(), Outcome::Lost);
    small.await.unwrap();
    assert_eq!(bodies(take(&queue, 9).await.batches()), ["a", "s"]);
}

#[tokio::test]
async fn a_batch_larger_than_the_queue_is_taken_when_it_is_empty() {
    let queue = queue(2);
    queue.put(batch(&["a"])).await.unwrap();
    let mut large = queue.put(batch(&["1", "2", "3"]));
    assert!(is_pending(&mut large).await);
    take(&queue, 1).await.commit().await.unwrap();
    large.await.unwrap();
    assert_eq!(queue.status().events, 3);
    assert_eq!(bodies(take(&queue, 9).await.batches()), ["1", "2", "3"]);
}

#[tokio::test]
async fn bytes_are_a_bound_too_and_one_event_is_given_whatever_its_size() {
    let limits = QueueLimits { bytes_max: 10, take_bytes_max: 4, ..QueueLimits::default() };
    let queue = MemoryQueue::new(limits);
    queue.put(batch(&["123456"])).await.unwrap();
    assert!(queue.try_put(batch(&["12345"])).is_err());
    queue.put(batch(&["12", "34"])).await.unwrap();
    let first = take(&queue, 9).await;
    assert_eq!(bodies(first.batches()), ["123456"]);
    let second = take(&queue, 9).await;
    assert_eq!(bodies(second.batches()), ["12", "34"]);
}

#[tokio::test]
async fn a_filtered_batch_counts_with_the_memory_that_it_holds() {
    let queue = queue(100);
    let all = batch(&["0123456789", "0123456789"]);
    let one = Batch { columns: all.columns.clone(), rows: vec![1], ack: flow_plan::Ack::none() };
    drop(all);
    queue.put(one).await.unwrap();
    assert_eq!(queue.status().bytes, 20);
}

#[tokio::test]
async fn after_close_the_rest_is_given_and_then_none() {
    let queue = queue(1);
    queue.put(batch(&["a"])).await.unwrap();
    let (waiting, mut receipt) = with_receipt(batch(&["b"]));
    let mut waiting = queue.put(waiting);
    assert!(is_pending(&mut waiting).await);
    queue.close();
    assert!(matches!(waiting.await, Err(ChannelError::Closed)));
    assert_eq!(receipt.try_recv().unwrap(), Outcome::Lost);
    assert!(queue.try_put(batch(&["c"])).unwrap_err().closed);
    let transaction = take(&queue, 1).await;
    let mut end = queue.take(1);
    assert!(is_pending(&mut end).await, "an open transaction may come back");
    drop(transaction);
    let again = end.await.unwrap().expect("given back after close");
    again.commit().await.unwrap();
    assert!(queue.take(1).await.unwrap().is_none());
    assert!(queue.take(1).await.unwrap().is_none());
}

#[tokio::test]
async fn take_wakes_up_for_a_put_and_for_the_end() {
    let queue = queue(10);
    let mut waiting = queue.take(1);
    assert!(is_pending(&mut waiting).await);
    queue.put(batch(&["a"])).await.unwrap();
    waiting.await.unwrap().unwrap().commit().await.unwrap();
    let (one, two) = (queue.clone(), queue.clone());
    let one = tokio::spawn(async move { one.take(1).await.unwrap().is_none() });
    let two = tokio::spawn(async move { two.take(1).await.unwrap().is_none() });
    tokio::task::yield_now().await;
    queue.close();
    assert!(one.await.unwrap() && two.await.unwrap());
}

#[tokio::test]
async fn a_wait_for_more_ends_when_there_is_enough_or_no_more_can_come() {
    let queue = queue(5);
    let mut enough = Box::pin(queue.filled(3));
    queue.put(batch(&["a", "b"])).await.unwrap();
    assert!(is_pending(&mut enough).await);
    queue.put(batch(&["c"])).await.unwrap();
    enough.await;
    queue.filled(3).await;
    // Somebody waits for room.
    let mut full = Box::pin(queue.filled(1_000));
    assert!(is_pending(&mut full).await);
    let mut put = Box::pin(queue.put(batch(&["d", "e", "f"])));
    assert!(is_pending(&mut put).await);
    full.await;
    drop(put);
    let mut closed = Box::pin(queue.filled(1_000));
    assert!(is_pending(&mut closed).await);
    queue.close();
    closed.await;
}

#[tokio::test]
async fn abandoning_loses_what_is_there_and_what_comes_back() {
    let queue = queue(10);
    let (first, mut first_receipt) = with_receipt(batch(&["a"]));
    let (second, mut second_receipt) = with_receipt(batch(&["b"]));
    queue.put(first).await.unwrap();
    let open = take(&queue, 1).await;
    queue.put(second).await.unwrap();
    queue.abandon();
    assert_eq!(second_receipt.try_recv().unwrap(), Outcome::Lost);
    drop(open);
    assert_eq!(first_receipt.try_recv().unwrap(), Outcome::Lost);
    assert!(queue.take(1).await.unwrap().is_none());
    assert_eq!((queue.status().events, queue.status().bytes), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_oldest_event_has_an_age_also_while_it_is_taken() {
    let queue = queue(10);
    queue.put(batch(&["a"])).await.unwrap();
    tokio::time::advance(Duration::from_millis(1500)).await;
    queue.put(batch(&["b"])).await.unwrap();
    assert_eq!(queue.status().oldest_ms, 1500);
    let transaction = take(&queue, 1).await;
    assert_eq!(queue.status().oldest_ms, 1500);
    transaction.commit().await.unwrap();
    assert_eq!(queue.status().oldest_ms, 0);
}

#[tokio::test]
async fn an_empty_batch_is_done_at_once() {
    let queue = queue(10);
    let (empty, mut receipt) = with_receipt(batch(&[]));
    queue.put(empty).await.unwrap();
    assert_eq!(receipt.try_recv().unwrap(), Outcome::Delivered);
    assert_eq!(queue.status().events, 0);
}

/// Four producers, one reader that now and then gives back: everything arrives once, each producer's in order,
/// and the bounds hold at every look.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn producers_keep_their_order_under_contention() {
    const EVENTS: usize = 2_000;
    let queue = queue(64);
    let receipts = Arc::new(Mutex::new(Vec::new()));
    let mut producers = Vec::new();
    for producer in 0..4 {
        let (queue, receipts) = (queue.clone(), receipts.clone());
        producers.push(tokio::spawn(async move {
            let mut next = 0;
            while next < EVENTS {
                let size = (next % 7 + 1).min(EVENTS - next);
                let texts: Vec<String> = (next..next + size).map(|n| format!("{producer}:{n}")).collect();
                let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                let (batch, receipt) = with_receipt(batch(&texts));
                receipts.lock().unwrap().push(receipt);
                queue.put(batch).await.unwrap();
                next += size;
            }
        }));
    }
    let reader = {
        let queue = queue.clone();
        tokio::spawn(async move {
            let mut next = [0usize; 4];
            let mut turn = 0u32;
            while next.iter().sum::<usize>() < 4 * EVENTS {
                let transaction = take(&queue, 10).await;
                assert!(queue.status().events <= 64);
                turn += 1;
                if turn.is_multiple_of(3) {
                    continue;
                }
                for body in bodies(transaction.batches()) {
                    let (producer, number) = body.split_once(':').unwrap();
                    let expected = &mut next[producer.parse::<usize>().unwrap()];
                    assert_eq!(number.parse::<usize>().unwrap(), *expected);
                    *expected += 1;
                }
                transaction.commit().await.unwrap();
            }
        })
    };
    for producer in producers {
        producer.await.unwrap();
    }
    reader.await.unwrap();
    let receipts = std::mem::take(&mut *receipts.lock().unwrap());
    for receipt in receipts {
        assert_eq!(receipt.await.unwrap(), Outcome::Delivered);
    }
}
