"""aiokafka in few words."""

import asyncio
import functools

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from support import BROKER, LONG, Record, case, name


def async_case(function):
    """A case that is a coroutine, in an event loop of its own."""

    @case
    @functools.wraps(function)
    def body():
        asyncio.run(asyncio.wait_for(function(), LONG))

    return body


def admin():
    return AIOKafkaAdminClient(bootstrap_servers=BROKER)


async def topic(word="topic", partitions=1, **config):
    made = name(word)
    settings = {key.replace("_", "."): str(value) for key, value in config.items()}
    one = admin()
    await one.start()
    answer = await one.create_topics([NewTopic(made, partitions, 1, topic_configs=settings)])
    await one.close()
    errors = [error for _, error, *_ in answer.topic_errors if error]
    if errors:
        raise AssertionError(f"`{made}` was not made: {answer}")
    return made


def producer(**settings):
    return AIOKafkaProducer(bootstrap_servers=BROKER, **{"linger_ms": 5, **settings})


def consumer(*topics, **settings):
    return AIOKafkaConsumer(*topics, bootstrap_servers=BROKER, **{"auto_offset_reset": "earliest", **settings})


async def write(one, to, records, partition=0):
    """Writes all and waits for each; gives (partition, offset) of them."""
    sent = [
        await one.send(to, r.value, r.key, partition=partition, timestamp_ms=r.timestamp, headers=r.headers)
        for r in records
    ]
    return [(done.partition, done.offset) for done in await asyncio.gather(*sent)]


async def read(of, partitions, count, start=0, **settings):
    """The first `count` records of the partitions, or all when there are fewer."""
    reader = consumer(**settings)
    await reader.start()
    parts = [TopicPartition(of, part) for part in partitions]
    reader.assign(parts)
    for part in parts:
        reader.seek(part, start)
    ends = await reader.end_offsets(parts)
    found = []
    while len(found) < count:
        if all([await reader.position(part) >= ends[part] for part in parts]):
            break
        for records in (await reader.getmany(timeout_ms=500)).values():
            found += records
    await reader.stop()
    return found


def record(found):
    return Record(found.key, found.value, list(found.headers), found.timestamp)


def values(found):
    return [record.value for record in found]
