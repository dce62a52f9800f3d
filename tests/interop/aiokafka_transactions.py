# needs: aiokafka
"""aiokafka: transactions."""

from aiokafka import TopicPartition

from support import fails, name, number, numbered, run, same
from support.aio import async_case, consumer, producer, read, topic, values


async def send(writer, of, sent, partition=0):
    for value in sent:
        await writer.send_and_wait(of, value, partition=partition)


@async_case
async def committed_and_aborted():
    of = await topic("txns", partitions=2)
    kept, dropped = [], []
    async with producer(transactional_id=name("txn")) as writer:
        for i in range(6):
            sent = [b"%d-%d" % (i, j) for j in range(6)]
            await writer.begin_transaction()
            await send(writer, of, sent[:3], 0)
            await send(writer, of, sent[3:], 1)
            if i % 3 == 1:
                await writer.abort_transaction()
                dropped += sent
            else:
                await writer.commit_transaction()
                kept += sent
    got = sorted(values(await read(of, [0, 1], 1000, isolation_level="read_committed")))
    same(got, sorted(kept), "read_committed")
    got = sorted(values(await read(of, [0, 1], 1000, isolation_level="read_uncommitted")))
    same(got, sorted(kept + dropped), "read_uncommitted")


@async_case
async def consume_transform_produce():
    source, target, group = await topic("in"), await topic("out"), name("group")
    async with producer() as feeder:
        for value in numbered(300):
            await feeder.send(source, value)
    part = TopicPartition(source, 0)
    reader = consumer(source, group_id=group, enable_auto_commit=False, isolation_level="read_committed")
    await reader.start()
    turn, next_offset = 0, 0
    async with producer(transactional_id=name("txn")) as writer:
        while next_offset < 300:
            batch = await reader.getmany(timeout_ms=1000, max_records=60)
            if not batch:
                continue
            turn += 1
            await writer.begin_transaction()
            for one in batch[part]:
                await writer.send(target, b"%d" % number(one.value))
            after = batch[part][-1].offset + 1
            await writer.send_offsets_to_transaction({part: after}, group)
            if turn % 3 == 2:
                await writer.abort_transaction()
                reader.seek(part, next_offset)
            else:
                await writer.commit_transaction()
                next_offset = after
            same(await reader.committed(part), next_offset, "the place")
    await reader.stop()
    found = sorted(int(value) for value in values(await read(target, [0], 5000, isolation_level="read_committed")))
    same(found, list(range(300)), "what came out")


@async_case
async def old_producer_is_fenced():
    of, id = await topic("fenced"), name("txn")
    old = producer(transactional_id=id)
    await old.start()
    await old.begin_transaction()
    await send(old, of, [b"old"])
    async with producer(transactional_id=id) as new:
        with fails("Fenced", "InvalidProducerEpoch"):
            await send(old, of, [b"older"])
            await old.commit_transaction()
        await new.begin_transaction()
        await send(new, of, [b"new"])
        await new.commit_transaction()
    same(values(await read(of, [0], 9, isolation_level="read_committed")), [b"new"])


run(together=1)
