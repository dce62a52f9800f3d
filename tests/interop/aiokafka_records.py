# needs: aiokafka
"""aiokafka: records written and read in every form."""

from aiokafka import TopicPartition

from support import COMPRESSIONS, RECORDS, fails, fingerprint, holds, name, number, numbered, run, same, sample
from support.aio import async_case, consumer, producer, read, record, topic, values, write


@async_case
async def many_records():
    of = await topic("many", partitions=3)
    sent = numbered(RECORDS)
    async with producer(max_batch_size=65536) as writer:
        waiting = [await writer.send(of, value, partition=i % 3) for i, value in enumerate(sent)]
        for one in waiting:
            await one
    got = await read(of, range(3), len(sent))
    same(len(got), len(sent), "the number of records")
    same(fingerprint(values(got)), fingerprint(sent), "the sum of what was read")
    for part in range(3):
        mine = [one for one in got if one.partition == part]
        same([one.offset for one in mine], list(range(len(mine))), f"the offsets of partition {part}")
        numbers = [number(one.value) for one in mine]
        same(numbers, sorted(numbers), f"the order of partition {part}")


@async_case
async def every_compression():
    sent = sample(300, tame=True)
    for compression in COMPRESSIONS:
        of = await topic(compression)
        async with producer(compression_type=None if compression == "none" else compression) as writer:
            await write(writer, of, sent)
        same([record(one) for one in await read(of, [0], len(sent))], sent, compression)


@async_case
async def big_records():
    of, small = await topic("big", max_message_bytes=8_000_000), await topic("small")
    sent = numbered(3, size=3_000_000)
    async with producer(max_request_size=8_000_000) as writer:
        for value in sent:
            await writer.send_and_wait(of, value)
        with fails("MessageSizeTooLarge"):
            await writer.send_and_wait(small, sent[0])
    same(values(await read(of, [0], 3, max_partition_fetch_bytes=1000)), sent)


@async_case
async def every_acks():
    of = await topic("acks")
    for acks in (0, 1, "all"):
        async with producer(acks=acks) as writer:
            for i in range(50):
                await writer.send(of, b"%d" % i)
    async with producer(enable_idempotence=True) as writer:
        for i in range(50):
            await writer.send(of, b"%d" % i)
    same(len(await read(of, [0], 200)), 200, "the number of records")


@async_case
async def log_append_time():
    of = await topic("appended", message_timestamp_type="LogAppendTime")
    async with producer() as writer:
        await write(writer, of, sample(3, tame=True))
    for one in await read(of, [0], 3):
        same(one.timestamp_type, 1, "the kind of timestamp")
        holds(one.timestamp > 1_760_000_000_000, "the time is the broker's")


@async_case
async def seek_by_timestamp_and_marks():
    of = await topic("times")
    async with producer() as writer:
        for start in range(0, 200, 20):
            await write(writer, of, sample(200, start_ms=1_000_000, tame=True)[start : start + 20])
    part = TopicPartition(of, 0)
    reader = consumer(group_id=name("group"), enable_auto_commit=False)
    await reader.start()
    reader.assign([part])
    found = (await reader.offsets_for_times({part: 1_000_123}))[part]
    same((found.offset, found.timestamp), (123, 1_000_123), "the place of a time")
    same((await reader.offsets_for_times({part: 2_000_000}))[part], None, "the place of a time after all")
    marks = (await reader.beginning_offsets([part]))[part], (await reader.end_offsets([part]))[part]
    same(marks, (0, 200), "the marks")
    reader.seek(part, 150)
    same((await reader.getone()).offset, 150, "the offset after a seek")
    same(reader.highwater(part), 200, "the high watermark")
    await reader.commit({part: (160, "here")})
    same(await reader.committed(part), 160, "what was committed")
    await reader.seek_to_committed(part)
    same((await reader.getone()).offset, 160, "the committed offset")
    await reader.stop()


run(together=1)
