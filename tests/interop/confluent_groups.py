# needs: confluent-kafka
"""confluent-kafka: groups of three of which one is killed, in both protocols and with every assignor."""

from support import case, eventually, holds, name, run, same, sample
from support.confluent import admin, consumer, producer, topic, write
from support.members import Member, balanced, member_killed, read, static_member


def life(of_group, **options):
    of = topic("shared", partitions=6)
    writer = producer()

    def produce(count):
        places = set()
        for part in range(6):
            places |= set(write(writer, of, sample(count // 6), partition=part))
        return places

    of_group("confluent", of, name("group"), produce, **options)


@case
def member_killed_range():
    life(member_killed, strategy="range")


@case
def member_killed_roundrobin():
    life(member_killed, strategy="roundrobin")


@case
def member_killed_cooperative_sticky():
    life(member_killed, strategy="cooperative-sticky")


@case
def static_member_comes_back():
    life(static_member, strategy="range", session=20_000)


@case
def member_killed_consumer_protocol():
    life(member_killed, protocol="consumer")


@case
def member_killed_consumer_protocol_range():
    life(member_killed, protocol="consumer", assignor="range")


@case
def static_member_comes_back_consumer_protocol():
    # Not killed: until its session is over, nobody else may have the name of a static member in this protocol.
    life(static_member, protocol="consumer", end=Member.leave)


@case
def regex_subscription():
    word = name("logs")
    of = topic(f"{word}-a")
    topic(name("other"))
    for protocol in ("classic", "consumer"):
        # The consumer protocol leaves the regex to the broker.
        reader = consumer(group_protocol=protocol)
        reader.subscribe([f"^{word}.*"])
        eventually(lambda: reader.consume(1, 0.2) or reader.assignment(), "an assignment")
        same([part.topic for part in reader.assignment()], [of], f"the topics of the {protocol} group")
        reader.close()


@case
def from_classic_to_consumer_and_back():
    """A group without members takes the other protocol, and keeps its place."""
    of, group = topic("moved", partitions=4), name("group")
    for round, protocol in enumerate(("classic", "consumer", "classic")):
        places = set(write(producer(), of, sample(10), partition=round))
        member = Member("confluent", group, of, protocol=protocol)
        balanced([member], 4, f"a group of the {protocol} protocol")
        read([member], places, "it reads")
        same(set(member.got), places, "what it reads: nothing of those before")
        member.leave()


@case
def offsets_are_kept():
    for protocol in ("classic", "consumer"):
        of, group = topic("kept"), name("group")
        write(producer(), of, sample(20))
        for start in (0, 10):
            reader = consumer(group_id=group, group_protocol=protocol)
            reader.subscribe([of])
            got = []
            eventually(lambda: got.extend(reader.consume(10 - len(got), 1)) or len(got) == 10, "ten records")
            same([message.offset() for message in got], list(range(start, start + 10)), "the offsets")
            reader.commit(message=got[-1], asynchronous=False)
            reader.close()


@case
def partitions_added_to_a_group_in_use():
    from confluent_kafka.admin import NewPartitions

    of = topic("growing", partitions=1)
    reader = consumer(topic_metadata_refresh_interval_ms=500)
    reader.subscribe([of])
    eventually(lambda: reader.consume(1, 0.2) or len(reader.assignment()) == 1, "one partition")
    for future in admin().create_partitions([NewPartitions(of, 3)]).values():
        future.result(30)
    eventually(lambda: reader.consume(1, 0.2) or len(reader.assignment()) == 3, "three partitions")
    write(producer(), of, sample(5), partition=2)
    got = []
    eventually(lambda: got.extend(reader.consume(5, 1)) or len(got) == 5, "the records of a new one")
    holds(all(message.error() is None for message in got), "no errors")
    reader.close()


run(together=5)
