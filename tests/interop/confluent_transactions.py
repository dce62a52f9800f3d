# needs: confluent-kafka
"""confluent-kafka: transactions."""

import subprocess
import sys
import time

from confluent_kafka import KafkaException, TopicPartition

from support import BROKER, LONG, PATIENCE, RECORDS, case, eventually, fails, holds, name, number, numbered, run, same
from support.confluent import consumer, producer, read, topic, values


def transactional(name_of=None, **settings):
    one = producer(transactional_id=name_of or name("txn"), **settings)
    one.init_transactions(PATIENCE)
    return one


def send(writer, of, sent, partition=0):
    for value in sent:
        writer.produce(of, value, partition=partition)
    same(writer.flush(PATIENCE), 0, "what was not confirmed")


@case
def committed_and_aborted():
    of = topic("txns", partitions=2)
    writer = transactional()
    kept, dropped = [], []
    for i in range(10):
        writer.begin_transaction()
        sent = [b"%d-%d" % (i, j) for j in range(20)]
        send(writer, of, sent[:10], 0)
        send(writer, of, sent[10:], 1)
        if i % 3 == 1:
            writer.abort_transaction(PATIENCE)
            dropped += sent
        else:
            writer.commit_transaction(PATIENCE)
            kept += sent
    same(sorted(values(read(of, [0, 1], 1000, isolation_level="read_committed"))), sorted(kept), "read_committed")
    everything = values(read(of, [0, 1], 1000, isolation_level="read_uncommitted"))
    same(sorted(everything), sorted(kept + dropped), "read_uncommitted")


@case
def open_transaction_holds_readers_back():
    of = topic("open")
    writer, other = transactional(), producer()
    send(other, of, [b"before"])
    writer.begin_transaction()
    send(writer, of, [b"open"])
    send(other, of, [b"behind"])
    part = TopicPartition(of, 0)
    for level, end in (("read_committed", 1), ("read_uncommitted", 3)):
        same(consumer(isolation_level=level).get_watermark_offsets(part, PATIENCE)[1] >= end, True, level)
    same(values(read(of, [0], 9, isolation_level="read_committed")), [b"before"], "while it is open")
    same(len(read(of, [0], 9, isolation_level="read_uncommitted")), 3, "the number of all")
    writer.commit_transaction(PATIENCE)
    same(values(read(of, [0], 9, isolation_level="read_committed")), [b"before", b"open", b"behind"], "after it")


@case
def empty_transactions():
    of = topic("empty")
    writer = transactional()
    for end in (writer.commit_transaction, writer.abort_transaction):
        writer.begin_transaction()
        end(PATIENCE)
    writer.begin_transaction()
    send(writer, of, [b"one"])
    writer.commit_transaction(PATIENCE)
    same(values(read(of, [0], 9)), [b"one"])


@case
def consume_transform_produce():
    """Every record is turned into another exactly once, though every third transaction is given up."""
    source, target, group = topic("in", partitions=2), topic("out"), name("group")
    count = min(RECORDS, 2000)
    feeder = producer()
    for i, value in enumerate(numbered(count)):
        feeder.produce(source, value, partition=i % 2)
    feeder.flush(PATIENCE)
    for run_of in range(2):
        # The second run takes over the place and the transactional id of the first, in the middle of its work.
        reader = consumer(group_id=group, isolation_level="read_committed")
        reader.subscribe([source])
        writer = transactional(f"{group}-txn")
        turn, done = 0, 0
        end = time.monotonic() + LONG
        while True:
            holds(time.monotonic() < end, f"run {run_of} ends: {done} of {count} done")
            batch = [message for message in reader.consume(100, 1) if message.error() is None]
            if not batch:
                # Not the positions: there is none where this run had nothing to read.
                places = reader.committed(reader.assignment(), PATIENCE)
                if sum(max(place.offset, 0) for place in places) == count:
                    break
                continue
            turn += 1
            writer.begin_transaction()
            for message in batch:
                writer.produce(target, b"%d" % number(message.value()))
            places = reader.position(reader.assignment())
            writer.send_offsets_to_transaction(
                [place for place in places if place.offset >= 0], reader.consumer_group_metadata(), PATIENCE
            )
            if turn % 3 == 2:
                writer.abort_transaction(PATIENCE)
                for place in reader.committed(reader.assignment(), PATIENCE):
                    reader.seek(TopicPartition(place.topic, place.partition, max(place.offset, 0)))
            else:
                writer.commit_transaction(PATIENCE)
                done += len(batch)
            if run_of == 0 and done > count // 2:
                break
        if run_of == 0:
            writer.begin_transaction()
            writer.produce(target, b"never seen")
            writer.flush(PATIENCE)
        reader.close()
    found = sorted(int(value) for value in values(read(target, [0], 10 * count, isolation_level="read_committed")))
    same(found, list(range(count)), "what came out")


@case
def old_producer_is_fenced():
    of, id = topic("fenced"), name("txn")
    old = transactional(id)
    old.begin_transaction()
    send(old, of, [b"old"])
    new = transactional(id)
    with fails("_FENCED", "PRODUCER_FENCED", "INVALID_PRODUCER_EPOCH"):
        old.commit_transaction(PATIENCE)
    new.begin_transaction()
    send(new, of, [b"new"])
    new.commit_transaction(PATIENCE)
    same(values(read(of, [0], 9, isolation_level="read_committed")), [b"new"])


@case
def transaction_times_out():
    of = topic("slow")
    writer = transactional(transaction_timeout_ms=1000, message_timeout_ms=900)
    writer.begin_transaction()
    send(writer, of, [b"late"])
    other = producer()
    send(other, of, [b"after"])
    visible = lambda: values(read(of, [0], 9, isolation_level="read_committed"))
    eventually(lambda: visible() == [b"after"], "the broker gives the transaction up")
    with fails("FENCED", "INVALID_PRODUCER_EPOCH", "INVALID_TXN_STATE", "_STATE", "TIMED_OUT", "INVALID_PRODUCER_ID_MAPPING"):
        writer.commit_transaction(PATIENCE)


@case
def time_out_beyond_the_bound():
    with fails("INVALID_TRANSACTION_TIMEOUT"):
        transactional(transaction_timeout_ms=2_000_000_000)


@case
def crashed_producer():
    """A producer that dies in a transaction is ended by the next one of its name."""
    of, id = topic("crashed"), name("txn")
    code = f"""
import os
from confluent_kafka import Producer
p = Producer({{"bootstrap.servers": "{BROKER}", "transactional.id": "{id}"}})
p.init_transactions(30)
p.begin_transaction()
p.produce("{of}", b"lost", partition=0)
p.flush(30)
os.kill(os.getpid(), 9)
"""
    same(subprocess.run([sys.executable, "-c", code]).returncode, -9, "its end")
    same(len(read(of, [0], 9, isolation_level="read_uncommitted")), 1, "the records of the dead one")
    writer = transactional(id)
    writer.begin_transaction()
    send(writer, of, [b"next"])
    writer.commit_transaction(PATIENCE)
    same(values(read(of, [0], 9, isolation_level="read_committed")), [b"next"])


@case
def offsets_of_an_open_transaction():
    """Offsets sent in a transaction are not there before its commit, and never after its abort."""
    of, group = topic("offsets"), name("group")
    send(producer(), of, [b"x"] * 10)
    reader = consumer(group_id=group)
    reader.subscribe([of])
    eventually(lambda: reader.consume(1, 0.5), "a record")
    writer = transactional()
    part = TopicPartition(of, 0)
    for end, expected in ((writer.abort_transaction, -1001), (writer.commit_transaction, 7)):
        writer.begin_transaction()
        writer.send_offsets_to_transaction([TopicPartition(of, 0, 7)], reader.consumer_group_metadata(), PATIENCE)
        end(PATIENCE)
        same(reader.committed([part], PATIENCE)[0].offset, expected, "the offset")
    reader.close()


@case
def zombie_of_a_group():
    """The offsets of a member that is no longer in its group are refused (KIP-447)."""
    of, group = topic("zombies"), name("group")
    send(producer(), of, [b"x"])
    reader = consumer(group_id=group)
    reader.subscribe([of])
    eventually(lambda: reader.consume(1, 0.5), "a record")
    metadata = reader.consumer_group_metadata()
    reader.close()
    writer = transactional()
    writer.begin_transaction()
    try:
        writer.send_offsets_to_transaction([TopicPartition(of, 0, 1)], metadata, PATIENCE)
    except KafkaException as error:
        holds(error.args[0].txn_requires_abort(), f"the error asks for an abort: {error}")
        writer.abort_transaction(PATIENCE)
    else:
        raise AssertionError("the offsets were taken")


run(together=4)
