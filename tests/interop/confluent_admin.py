# needs: confluent-kafka
"""confluent-kafka: what administrators ask of a broker."""

from confluent_kafka import ConsumerGroupState, ConsumerGroupTopicPartitions, ConsumerGroupType
from confluent_kafka import ElectionType, IsolationLevel, KafkaError, TopicCollection, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ConfigSource, NewPartitions
from confluent_kafka.admin import NewTopic, OffsetSpec, ResourceType

from support import PATIENCE, case, eventually, fails, holds, name, run, same, sample
from support.confluent import admin, consumer, producer, read, topic, write


def only(futures):
    """The result of the one future."""
    (future,) = futures.values()
    return future.result(PATIENCE)


def configs(of, kind=ResourceType.TOPIC):
    return only(admin().describe_configs([ConfigResource(kind, of)]))


def offset(of, spec, part=0, **more):
    return only(admin().list_offsets({TopicPartition(of, part): spec}, **more))


@case
def topics_made_deleted_and_made_again():
    of = topic("again", partitions=3)
    write(producer(), of, sample(10))
    with fails("TOPIC_ALREADY_EXISTS"):
        only(admin().create_topics([NewTopic(of, 1, 1)]))
    first = only(admin().describe_topics(TopicCollection([of]))).topic_id
    only(admin().delete_topics([of]))
    only(admin().create_topics([NewTopic(of, 2, 1)]))
    second = only(admin().describe_topics(TopicCollection([of])))
    same(len(second.partitions), 2, "the number of partitions")
    holds(str(second.topic_id) != str(first), "the id is another")
    write(producer(), of, sample(4))
    same(len(read(of, [0], 4)), 4, "the records")
    same(offset(of, OffsetSpec.latest()).offset, 4, "the end")
    only(admin().delete_topics([of]))
    with fails("UNKNOWN_TOPIC_OR_PART"):
        only(admin().delete_topics([of]))
    with fails("UNKNOWN_TOPIC_OR_PART"):
        only(admin().describe_topics(TopicCollection([of])))


@case
def topics_that_cannot_be():
    for wrong, error in (
        (NewTopic("a/b", 1, 1), "TOPIC_EXCEPTION"),
        (NewTopic("..", 1, 1), "TOPIC_EXCEPTION"),
        (NewTopic("x" * 250, 1, 1), "TOPIC_EXCEPTION"),
        (NewTopic(name("t"), 0, 1), "INVALID_PARTITIONS"),
        (NewTopic(name("t"), 1, 3), "INVALID_REPLICATION_FACTOR"),
        (NewTopic(name("t"), 1, 1, config={"no.such.setting": "1"}), "INVALID_CONFIG"),
        (NewTopic(name("t"), 1, 1, config={"retention.ms": "soon"}), "INVALID_CONFIG"),
        (NewTopic(name("t"), 1, 1, config={"cleanup.policy": "burn"}), "INVALID_CONFIG"),
        (NewTopic(name("t"), 1, replica_assignment=[[99]]), "INVALID_REPLICA_ASSIGNMENT"),
    ):
        with fails(error):
            only(admin().create_topics([wrong]))
    tried = name("tried")
    only(admin().create_topics([NewTopic(tried, 1, 1)], validate_only=True))
    holds(tried not in admin().list_topics(timeout=PATIENCE).topics, "it was only tried")
    assigned = name("assigned")
    only(admin().create_topics([NewTopic(assigned, 2, replica_assignment=[[1], [1]])]))
    same(len(admin().list_topics(assigned, PATIENCE).topics[assigned].partitions), 2, "partitions by hand")


@case
def partitions_added():
    of = topic("wider")
    only(admin().create_partitions([NewPartitions(of, 4)]))
    same(len(admin().list_topics(of, PATIENCE).topics[of].partitions), 4, "the number of partitions")
    write(producer(), of, sample(3), partition=3)
    with fails("INVALID_PARTITIONS"):
        only(admin().create_partitions([NewPartitions(of, 2)]))
    with fails("UNKNOWN_TOPIC_OR_PART"):
        only(admin().create_partitions([NewPartitions(name("none"), 2)]))


@case
def configs_of_topics():
    of = topic("configured", retention_ms=1000000, segment_bytes=1048576)
    found = configs(of)
    same(found["retention.ms"].value, "1000000", "retention.ms")
    same(found["retention.ms"].source, ConfigSource.DYNAMIC_TOPIC_CONFIG.value, "its source")
    same(found["cleanup.policy"].value, "delete", "cleanup.policy")
    same(found["cleanup.policy"].is_default, True, "whether it is the default")
    change = lambda *entries: only(
        admin().incremental_alter_configs([ConfigResource(ResourceType.TOPIC, of, incremental_configs=list(entries))])
    )
    entry = lambda key, value, op: ConfigEntry(key, value, incremental_operation=op)
    change(
        entry("retention.ms", "5000", AlterConfigOpType.SET),
        entry("cleanup.policy", "compact", AlterConfigOpType.APPEND),
        entry("segment.bytes", None, AlterConfigOpType.DELETE),
    )
    found = configs(of)
    same(found["retention.ms"].value, "5000", "retention.ms")
    same(sorted(found["cleanup.policy"].value.split(",")), ["compact", "delete"], "cleanup.policy")
    same(found["segment.bytes"].value, "1073741824", "segment.bytes")
    change(entry("cleanup.policy", "compact", AlterConfigOpType.SUBTRACT))
    same(configs(of)["cleanup.policy"].value, "delete", "cleanup.policy")
    with fails("INVALID_CONFIG"):
        change(entry("no.such.setting", "1", AlterConfigOpType.SET))
    with fails("INVALID_CONFIG"):
        change(entry("retention.ms", "soon", AlterConfigOpType.SET))
    with fails("UNKNOWN_TOPIC_OR_PART"):
        configs(name("none"))
    only(admin().alter_configs([ConfigResource(ResourceType.TOPIC, of, set_config={"retention.ms": "7000"})]))
    same(configs(of)["retention.ms"].value, "7000", "retention.ms")


@case
def configs_of_the_broker():
    node = str(next(iter(admin().list_topics(timeout=PATIENCE).brokers)))
    found = configs(node, ResourceType.BROKER)
    holds(len(found) > 10, f"there are settings: {list(found)}")
    same(found["message.max.bytes"].is_sensitive, False, "whether a size is a secret")
    same(found["auto.create.topics.enable"].value, "true", "auto.create.topics.enable")


@case
def groups_listed_described_and_deleted():
    for protocol in ("classic", "consumer"):
        of, group = topic("grouped"), name("group")
        write(producer(), of, sample(5))
        reader = consumer(group_id=group, group_protocol=protocol, client_id="the-reader")
        reader.subscribe([of])
        message = eventually(lambda: reader.consume(1, 0.5), "a record")[0]
        reader.commit(message=message, asynchronous=False)
        described = only(admin().describe_consumer_groups([group]))
        same(described.state, ConsumerGroupState.STABLE, "the state")
        same(described.type.name.lower(), protocol, "the type")
        same(described.members[0].client_id, "the-reader", "the client")
        same([part.topic for part in described.members[0].assignment.topic_partitions], [of], "its topics")
        holds(described.partition_assignor in ("range", "uniform"), f"the assignor {described.partition_assignor}")
        listed = admin().list_consumer_groups().result(PATIENCE)
        found = [one for one in listed.valid if one.group_id == group][0]
        same(found.state, ConsumerGroupState.STABLE, "the state in the list")
        kind = ConsumerGroupType.CONSUMER if protocol == "consumer" else ConsumerGroupType.CLASSIC
        named = lambda **filters: [
            one.group_id for one in admin().list_consumer_groups(**filters).result(PATIENCE).valid
        ]
        holds(group in named(types={kind}), "it is listed by its type")
        holds(group not in named(states={ConsumerGroupState.EMPTY}), "it is not listed among the empty ones")
        with fails("NON_EMPTY_GROUP"):
            only(admin().delete_consumer_groups([group]))
        reader.close()
        eventually(
            lambda: only(admin().describe_consumer_groups([group])).state == ConsumerGroupState.EMPTY, "it is empty"
        )
        only(admin().delete_consumer_groups([group]))
        with fails("GROUP_ID_NOT_FOUND"):
            only(admin().delete_consumer_groups([group]))
        holds(group not in named(), "it is gone")


@case
def offsets_of_groups():
    of, group = topic("placed", partitions=2), name("group")
    parts = [TopicPartition(of, 0, 3), TopicPartition(of, 1, 4)]
    done = only(admin().alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, parts)]))
    same([part.error for part in done.topic_partitions], [None, None], "the errors")
    for asked in (None, [TopicPartition(of, 0), TopicPartition(of, 1)]):
        found = only(admin().list_consumer_group_offsets([ConsumerGroupTopicPartitions(group, asked)]))
        same(sorted(part.offset for part in found.topic_partitions), [3, 4], "the offsets")
    reader = consumer(group_id=group)
    reader.subscribe([of])
    eventually(lambda: reader.consume(1, 0.2) or len(reader.assignment()) == 2, "an assignment")
    done = only(admin().alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, parts)]))
    same({part.error.code() for part in done.topic_partitions}, {KafkaError.UNKNOWN_MEMBER_ID}, "the errors in use")
    reader.close()


@case
def offsets_of_partitions():
    of = topic("ends")
    same(offset(of, OffsetSpec.latest()).offset, 0, "the end of an empty one")
    same(offset(of, OffsetSpec.max_timestamp()).offset, -1, "the newest of an empty one")
    # The newest time stands in the middle.
    write(producer(batch_num_messages=1), of, [sample(9, 1_000_000)[i] for i in (0, 8, 3)])
    same(offset(of, OffsetSpec.earliest()).offset, 0, "the start")
    same(offset(of, OffsetSpec.latest()).offset, 3, "the end")
    found = offset(of, OffsetSpec.max_timestamp())
    same((found.offset, found.timestamp), (1, 1_000_008), "the newest")
    found = offset(of, OffsetSpec.for_timestamp(1_000_003))
    same((found.offset, found.timestamp), (1, 1_000_008), "the first not before a time")
    level = IsolationLevel.READ_COMMITTED
    same(offset(of, OffsetSpec.latest(), isolation_level=level).offset, 3, "the end of what is committed")


@case
def records_deleted():
    of = topic("shortened")
    write(producer(), of, sample(10))
    done = only(admin().delete_records([TopicPartition(of, 0, 6)]))
    same(done.low_watermark, 6, "the low watermark")
    same(offset(of, OffsetSpec.earliest()).offset, 6, "the start")
    same([message.offset() for message in read(of, [0], 10)], [6, 7, 8, 9], "what is left")
    same(only(admin().delete_records([TopicPartition(of, 0, -1)])).low_watermark, 10, "the low watermark")
    with fails("OFFSET_OUT_OF_RANGE"):
        only(admin().delete_records([TopicPartition(of, 0, 99)]))


@case
def cluster_described():
    cluster = admin().describe_cluster(include_authorized_operations=True).result(PATIENCE)
    same(len(cluster.nodes), 1, "the number of nodes")
    same(cluster.controller.id, cluster.nodes[0].id, "the controller")
    holds(cluster.cluster_id, "it has an id")
    same(admin().list_topics(timeout=PATIENCE).cluster_id, cluster.cluster_id, "the id in the metadata")


@case
def acls_without_an_authorizer():
    from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, ResourcePatternType

    # Not describe_acls: librdkafka reads the error of that answer and forgets it.
    made = AclBinding(
        ResourceType.TOPIC, "t", ResourcePatternType.LITERAL, "User:a", "*", AclOperation.READ, AclPermissionType.ALLOW
    )
    with fails("SECURITY_DISABLED"):
        only(admin().create_acls([made]))


@case
def leaders_elected():
    of = topic("elected")
    found = admin().elect_leaders(ElectionType.PREFERRED, [TopicPartition(of, 0)])
    result = found.result(PATIENCE)
    (error,) = result.values()
    same(error and error.name(), "ELECTION_NOT_NEEDED", "the answer")


run(together=4)
