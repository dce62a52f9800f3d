# needs: aiokafka
"""aiokafka: what administrators ask of a broker."""

from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from support import holds, name, run, same, sample
from support.aio import admin, async_case, consumer, producer, read, topic, write


@async_case
async def topics_made_deleted_and_made_again():
    of = name("again")
    one = admin()
    await one.start()
    code = lambda answer: answer.topic_errors[0][1]
    same(code(await one.create_topics([NewTopic(of, 2, 1)])), 0, "the error of the first")
    same(code(await one.create_topics([NewTopic(of, 2, 1)])), 36, "the error of the second")
    same((await one.delete_topics([of])).topic_error_codes[0][1], 0, "the error of the deletion")
    same(code(await one.create_topics([NewTopic(of, 1, 1)])), 0, "the error of the third")
    described = await one.describe_topics([of])
    same(len(described[0]["partitions"]), 1, "the number of partitions")
    await one.create_partitions({of: NewPartitions(total_count=3)})
    same(len((await one.describe_topics([of]))[0]["partitions"]), 3, "the number of partitions")
    holds(of in await one.list_topics(), "it is listed")
    await one.delete_topics([of])
    holds(of not in await one.list_topics(), "it is gone")
    await one.close()


@async_case
async def configs_of_topics():
    of, one = await topic("configured", retention_ms=1000), admin()
    await one.start()

    async def retention():
        (answer,) = await one.describe_configs([ConfigResource(ConfigResourceType.TOPIC, of, {"retention.ms": None})])
        return answer.resources[0][4][0][:2]

    same(await retention(), ("retention.ms", "1000"), "the setting")
    await one.alter_configs([ConfigResource(ConfigResourceType.TOPIC, of, {"retention.ms": "2000"})])
    same(await retention(), ("retention.ms", "2000"), "the setting")
    await one.close()


@async_case
async def groups_and_their_offsets():
    of, group, one = await topic("grouped"), name("group"), admin()
    await one.start()
    async with producer() as writer:
        await write(writer, of, sample(5, tame=True))
    reader = consumer(of, group_id=group, enable_auto_commit=False)
    await reader.start()
    await reader.getone()
    await reader.commit()
    (answer,) = await one.describe_consumer_groups([group])
    same(answer.groups[0][2], "Stable", "the state")
    holds((group, "consumer") in [found[:2] for found in await one.list_consumer_groups()], "it is listed")
    same((await one.list_consumer_group_offsets(group))[TopicPartition(of, 0)].offset, 1, "the place")
    await reader.stop()
    await one.close()


@async_case
async def records_deleted():
    of, one = await topic("shortened"), admin()
    await one.start()
    async with producer() as writer:
        await write(writer, of, sample(10, tame=True))
    part = TopicPartition(of, 0)
    same(await one.delete_records({part: RecordsToDelete(before_offset=4)}), {part: 4}, "the low watermark")
    same([found.offset for found in await read(of, [0], 10, start=4)], list(range(4, 10)), "what is left")
    await one.close()


@async_case
async def cluster_described():
    one = admin()
    await one.start()
    cluster = await one.describe_cluster()
    same(len(cluster["brokers"]), 1, "the number of nodes")
    holds(cluster["cluster_id"], "it has an id")
    await one.close()


run(together=1)
