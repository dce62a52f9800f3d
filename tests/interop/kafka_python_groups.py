# needs: kafka-python
"""kafka-python: groups of three of which one is killed."""

from support import case, name, run, sample
from support.kafka_python import producer, topic, write
from support.members import member_killed, static_member


def life(of_group, **options):
    of = topic("shared", partitions=6)
    writer = producer()

    def produce(count):
        places = set()
        for part in range(6):
            places |= set(write(writer, of, sample(count // 6, tame=True), partition=part))
        return places

    of_group("kafka_python", of, name("group"), produce, **options)


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


run(together=4)
