# needs: kafka-python
"""kafka-python: transactions."""

from kafka import TopicPartition
from kafka.structs import OffsetAndMetadata

from support import PATIENCE, case, eventually, fails, holds, name, number, numbered, run, same
from support.kafka_python import admin, consumer, producer, read, topic, values


def transactional(id=None, **settings):
    one = producer(transactional_id=id or name("txn"), **settings)
    one.init_transactions()
    return one


def send(writer, of, sent, partition=0):
    for future in [writer.send(of, value, partition=partition) for value in sent]:
        future.get(PATIENCE)


@case
def committed_and_aborted():
    of = topic("txns", partitions=2)
    writer = transactional()
    kept, dropped = [], []
    for i in range(6):
        writer.begin_transaction()
        sent = [b"%d-%d" % (i, j) for j in range(20)]
        send(writer, of, sent[:10], 0)
        send(writer, of, sent[10:], 1)
        if i % 3 == 1:
            writer.abort_transaction()
            dropped += sent
        else:
            writer.commit_transaction()
            kept += sent
    got = lambda level: sorted(values(read(of, [0, 1], 1000, isolation_level=level)))
    same(got("read_committed"), sorted(kept), "read_committed")
    same(got("read_uncommitted"), sorted(kept + dropped), "read_uncommitted")


@case
def consume_transform_produce():
    source, target, group = topic("in"), topic("out"), name("group")
    feeder = producer()
    for value in numbered(500):
        feeder.send(source, value)
    feeder.flush(PATIENCE)
    part = TopicPartition(source, 0)
    reader = consumer(group_id=group, enable_auto_commit=False, max_poll_records=100, isolation_level="read_committed")
    reader.subscribe([source])
    writer = transactional()
    turn, next_offset = 0, 0
    while next_offset < 500:
        records = eventually(lambda: reader.poll(1000), "records come")[part]
        turn += 1
        writer.begin_transaction()
        for one in records:
            writer.send(target, b"%d" % number(one.value))
        after = records[-1].offset + 1
        writer.send_offsets_to_transaction({part: OffsetAndMetadata(after, "", -1)}, reader.group_metadata())
        if turn % 3 == 2:
            writer.abort_transaction()
            same(reader.committed(part), next_offset, "the place after an abort")
            reader.seek(part, next_offset)
        else:
            writer.commit_transaction()
            next_offset = after
            same(reader.committed(part), next_offset, "the place after a commit")
    reader.close()
    found = sorted(int(value) for value in values(read(target, [0], 5000, isolation_level="read_committed")))
    same(found, list(range(500)), "what came out")


@case
def old_producer_is_fenced():
    of, id = topic("fenced"), name("txn")
    old = transactional(id)
    old.begin_transaction()
    send(old, of, [b"old"])
    new = transactional(id)
    with fails("Fenced", "InvalidProducerEpoch"):
        old.send(of, b"older").get(PATIENCE)
        old.commit_transaction()
    new.begin_transaction()
    send(new, of, [b"new"])
    new.commit_transaction()
    same(values(read(of, [0], 9, isolation_level="read_committed")), [b"new"])


@case
def transactions_listed_and_described():
    of, id = topic("listed"), name("txn")
    writer, one = transactional(id), admin()
    writer.begin_transaction()
    send(writer, of, [b"x"])
    listed = {found.transactional_id: found for of_node in one.list_transactions().values() for found in of_node}
    same(listed[id].state.value, "Ongoing", "the state in the list")
    described = one.describe_transactions([id])
    found = described[id]
    same(found.state.value, "Ongoing", "the state")
    holds(TopicPartition(of, 0) in found.topic_partitions, f"its partition: {found}")
    states = one.describe_producers([TopicPartition(of, 0)])[TopicPartition(of, 0)]
    (state,) = states.active_producers
    same(state.producer_id, found.producer_id, "the producer of the partition")
    holds(state.current_transaction_start_offset == 0, f"where its transaction starts: {state}")
    writer.commit_transaction()
    eventually(lambda: one.describe_transactions([id])[id].state.value == "CompleteCommit", "it is complete")


run(together=2)
