# needs: kafka-python
"""kafka-python: what administrators ask of a broker."""

from kafka import TopicPartition
from kafka.admin import ACLFilter, ACLOperation, ACLPermissionType, ACLResourcePatternType, ResourcePatternFilter
from kafka.admin import AlterConfigOp, ConfigResource, MemberToRemove, OffsetSpec, ResourceType
from kafka.structs import OffsetAndMetadata

from support import case, eventually, fails, holds, name, run, same, sample
from support.kafka_python import admin, consumer, producer, read, topic, write


def configs(of):
    found = admin().describe_configs([ConfigResource("TOPIC", of)], config_filter="all", include_synonyms=True)
    (by_kind,) = found.values()
    return by_kind[of]


@case
def topics_made_deleted_and_made_again():
    one, of = admin(), topic("again", partitions=2)
    write(producer(), of, sample(5, tame=True))
    with fails("TopicAlreadyExists"):
        one.create_topics({of: {"num_partitions": 1, "replication_factor": 1}})
    first = one.describe_topics([of])[0]["topic_id"]
    one.delete_topics([of])
    one.create_topics({of: {}}, wait_for_metadata=True)
    second = one.describe_topics([of])[0]
    holds(second["topic_id"] != first, "the id is another")
    same(len(second["partitions"]), 1, "the number of partitions")
    same(one.list_partition_offsets({TopicPartition(of, 0): OffsetSpec.LATEST})[TopicPartition(of, 0)].offset, 0, "the end")
    one.delete_topics([of])
    holds(of not in one.list_topics(), "it is gone")
    with fails("UnknownTopicOrPartition"):
        one.delete_topics([of])


@case
def partitions_added_and_described():
    one, of = admin(), topic("wider")
    one.create_partitions({of: 3})
    found = one.describe_topic_partitions([of])
    same(len(found["topics"][0]["partitions"]), 3, f"the number of partitions of {found}")
    with fails("InvalidPartitions"):
        one.create_partitions({of: 2})


@case
def configs_of_topics():
    one, of = admin(), topic("configured", retention_ms=1000)
    same(configs(of)["retention.ms"]["value"], "1000", "retention.ms")
    one.alter_configs([ConfigResource("TOPIC", of, {"retention.ms": "2000", "cleanup.policy": (AlterConfigOp.APPEND, "compact")})])
    same(configs(of)["retention.ms"]["value"], "2000", "retention.ms")
    same(sorted(configs(of)["cleanup.policy"]["value"].split(",")), ["compact", "delete"], "cleanup.policy")
    one.reset_configs([ConfigResource("TOPIC", of, ["retention.ms"])])
    same(configs(of)["retention.ms"]["value"], "604800000", "retention.ms")


@case
def groups_and_their_offsets():
    one, of, group = admin(), topic("grouped", partitions=2), name("group")
    write(producer(), of, sample(5, tame=True))
    reader = consumer(group_id=group, enable_auto_commit=False)
    reader.subscribe([of])
    eventually(lambda: reader.poll(500), "records come")
    reader.commit()
    described = one.describe_groups([group])[group]
    same(described["group_state"].lower(), "stable", "the state")
    same(len(described["members"]), 1, "the members")
    listed = [found for found in one.list_groups() if found["group_id"] == group]
    same(len(listed), 1, "how often it is listed")
    places = one.list_group_offsets({group: None})[group]
    same(places[TopicPartition(of, 0)].offset, 5, "the place")
    member = described["members"][0]["member_id"]
    one.remove_group_members(group, [MemberToRemove(member_id=member)])
    eventually(lambda: one.describe_groups([group])[group]["group_state"] == "Empty", "it is empty")
    one.alter_group_offsets(group, {TopicPartition(of, 0): OffsetAndMetadata(2, "two", -1)})
    place = one.list_group_offsets({group: [TopicPartition(of, 0)]})[group][TopicPartition(of, 0)]
    same((place.offset, place.metadata), (2, "two"), "the place")
    one.reset_group_offsets(group, {TopicPartition(of, 0): OffsetSpec.EARLIEST})
    same(one.list_group_offsets({group: None})[group][TopicPartition(of, 0)].offset, 0, "the place")
    one.delete_group_offsets(group, [TopicPartition(of, 0)])
    holds(TopicPartition(of, 0) not in one.list_group_offsets({group: None})[group], "the place is gone")
    same(one.delete_groups([group])[group], "OK", "the deletion")
    same(one.describe_groups([group])[group]["group_state"], "Dead", "the state of a group that is gone")
    reader.close()


@case
def records_deleted():
    one, of = admin(), topic("shortened")
    write(producer(), of, sample(10, tame=True))
    one.delete_records({TopicPartition(of, 0): 4})
    same([found.offset for found in read(of, [0], 10, start=4)], list(range(4, 10)), "what is left")


@case
def cluster_and_log_dirs():
    one, of = admin(), topic("weighed")
    write(producer(), of, sample(100, tame=True))
    cluster = one.describe_cluster()
    same(len(cluster["brokers"]), 1, "the number of nodes")
    found = one.describe_log_dirs()
    holds(of in str(found), "the topic has a directory")
    features = one.describe_features()
    holds(features is not None, "features are told")
    same(one.list_partition_reassignments(), {}, "what moves")


@case
def acls_without_an_authorizer():
    pattern = ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY)
    with fails("SecurityDisabled"):
        admin().describe_acls(ACLFilter(None, None, ACLOperation.ANY, ACLPermissionType.ANY, pattern))


run(together=3)
