# needs: confluent-kafka kafka-python aiokafka
"""The broker is stopped and killed under its clients: what was acknowledged is there afterwards, once."""

import asyncio
import threading
import time

from confluent_kafka import TopicPartition

from support import PATIENCE, broker, case, eventually, holds, name, run, same
from support import aio, confluent, kafka_python



def bounce(how):
    broker(how)
    broker("start")


class Writer(threading.Thread):
    """Writes numbers until it is told to end; `acknowledged` are those that were confirmed."""

    def __init__(self, of, **settings):
        super().__init__()
        self.of = of
        self.acknowledged = []
        self.sent = 0
        self.stopped = False
        self.one = confluent.producer(message_timeout_ms=60_000, acks="all", **settings)

    def run(self):
        while not self.stopped:
            value = b"%d" % self.sent
            self.sent += 1
            done = lambda error, message: error or self.acknowledged.append(int(message.value()))
            confluent.keep_trying(self.one, lambda: self.one.produce(self.of, value, on_delivery=done))
            self.one.poll(0)
            if self.sent % 100 == 0:
                time.sleep(0.01)
        self.one.flush(PATIENCE)


def written_through(how, **settings):
    of = confluent.topic("through", partitions=2)
    writer = Writer(of, **settings)
    writer.start()
    for _ in range(2):
        before = len(writer.acknowledged)
        eventually(lambda: len(writer.acknowledged) > before + 500, "records are confirmed")
        bounce(how)
    before = len(writer.acknowledged)
    eventually(lambda: len(writer.acknowledged) > before + 500, "records are confirmed after it is back")
    writer.stopped = True
    writer.join()
    found = [int(value) for value in confluent.values(confluent.read(of, [0, 1], 10_000_000))]
    lost = set(writer.acknowledged) - set(found)
    holds(not lost, f"{len(lost)} of {len(writer.acknowledged)} acknowledged records are lost: {sorted(lost)[:5]}")
    return writer, found


@case
def producer_through_clean_restarts():
    written_through("stop")


@case
def producer_through_kills():
    written_through("kill")


@case
def idempotent_producer_through_kills():
    writer, found = written_through("kill", enable_idempotence=True)
    same(len(found) - len(set(found)), 0, "the number of duplicates")
    same(sorted(found), list(range(writer.sent)), "what was written")


@case
def kafka_python_through_a_kill():
    of = kafka_python.topic("through")
    writer = kafka_python.producer(retry_backoff_ms=50, reconnect_backoff_max_ms=500)
    first = [writer.send(of, b"%d" % i) for i in range(200)]
    bounce("kill")
    second = [writer.send(of, b"%d" % i) for i in range(200, 400)]
    places = [future.get(PATIENCE) for future in first + second]
    same(len(places), 400, "the number of confirmed")
    found = [int(value) for value in kafka_python.values(kafka_python.read(of, [0], 10_000))]
    same(sorted(set(found)), list(range(400)), "what is there")
    same(len(found), 400, "how many")


@case
def aiokafka_through_a_kill():
    async def through():
        of = await aio.topic("through")
        async with aio.producer(enable_idempotence=True, retry_backoff_ms=50) as writer:
            first = [await writer.send(of, b"%d" % i) for i in range(200)]
            await asyncio.to_thread(bounce, "kill")
            second = [await writer.send(of, b"%d" % i) for i in range(200, 400)]
            await asyncio.gather(*first, *second)
        found = [int(value) for value in aio.values(await aio.read(of, [0], 10_000))]
        same(sorted(set(found)), list(range(400)), "what is there")
        same(len(found), 400, "how many")

    asyncio.run(through())


@case
def groups_survive_kills():
    """A consumer that stays goes on where it was, with the offsets it had committed, in both protocols."""
    for protocol in ("classic", "consumer"):
        of, group = confluent.topic("kept"), name("group")
        write = lambda count: confluent.write(confluent.producer(), of, [confluent.Record(None, b"x", [], None)] * count)
        write(10)
        reader = confluent.consumer(group_id=group, group_protocol=protocol)
        reader.subscribe([of])
        got = []
        more = lambda: got.extend(one for one in reader.consume(100, 0.5) if one.error() is None)
        eventually(lambda: more() or len(got) == 10, "ten records come")
        reader.commit(message=got[-1], asynchronous=False)
        bounce("kill")
        write(10)
        eventually(lambda: more() or len(got) == 20, "ten more come")
        same([one.offset() for one in got], list(range(20)), "the offsets")
        part = TopicPartition(of, 0)
        same(reader.committed([part], PATIENCE)[0].offset, 10, "the committed offset")

        def committed():
            try:
                return reader.commit(message=got[-1], asynchronous=False)
            except confluent.KafkaException as error:
                # The member is new to a coordinator that has just started; the next poll joins again.
                more()
                holds(error.args[0].name() in ("UNKNOWN_MEMBER_ID", "ILLEGAL_GENERATION", "REBALANCE_IN_PROGRESS", "STALE_MEMBER_EPOCH", "NOT_COORDINATOR"), str(error))

        eventually(committed, "a commit after the kill")
        reader.close()


@case
def topics_and_configs_survive_kills():
    from confluent_kafka.admin import ConfigResource, ResourceType

    of = confluent.topic("lasting", partitions=3, retention_ms=123456)
    gone = confluent.topic("gone")
    for future in confluent.admin().delete_topics([gone]).values():
        future.result(PATIENCE)
    ids = lambda: str(described().topic_id)

    def described():
        from confluent_kafka import TopicCollection

        return list(confluent.admin().describe_topics(TopicCollection([of])).values())[0].result(PATIENCE)

    before = ids()
    bounce("kill")
    same(ids(), before, "the id")
    same(len(described().partitions), 3, "the number of partitions")
    (found,) = confluent.admin().describe_configs([ConfigResource(ResourceType.TOPIC, of)]).values()
    same(found.result(PATIENCE)["retention.ms"].value, "123456", "retention.ms")
    holds(gone not in confluent.admin().list_topics(timeout=PATIENCE).topics, "what was deleted is gone")


@case
def transactions_survive_kills():
    """An open transaction outlives the broker: its producer commits it afterwards, whole."""
    of = confluent.topic("txn", partitions=2)
    writer = confluent.producer(transactional_id=name("txn"), transaction_timeout_ms=60_000)
    writer.init_transactions(PATIENCE)
    kept = []
    for turn in range(4):
        writer.begin_transaction()
        for i in range(50):
            writer.produce(of, b"%d-%d" % (turn, i), partition=i % 2)
        writer.flush(PATIENCE)
        bounce("kill" if turn % 2 == 0 else "stop")
        for i in range(50, 100):
            writer.produce(of, b"%d-%d" % (turn, i), partition=i % 2)
        if turn == 1:
            writer.abort_transaction(PATIENCE)
        else:
            writer.commit_transaction(PATIENCE)
            kept += [b"%d-%d" % (turn, i) for i in range(100)]
    found = confluent.values(confluent.read(of, [0, 1], 10_000, isolation_level="read_committed"))
    same(sorted(found), sorted(kept), "what is committed")


@case
def transaction_is_given_up_after_a_kill():
    """A transaction whose producer never comes back times out on the broker that was started again."""
    of = confluent.topic("orphan")
    writer = confluent.producer(transactional_id=name("txn"), transaction_timeout_ms=2000, message_timeout_ms=1900)
    writer.init_transactions(PATIENCE)
    writer.begin_transaction()
    writer.produce(of, b"orphan")
    writer.flush(PATIENCE)
    bounce("kill")
    confluent.write(confluent.producer(), of, [confluent.Record(None, b"after", [], None)])
    visible = lambda: confluent.values(confluent.read(of, [0], 9, isolation_level="read_committed"))
    eventually(lambda: visible() == [b"after"], "the transaction is given up")


run()
