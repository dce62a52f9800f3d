"""A group member with kafka-python: GROUP TOPIC [strategy=…] [instance=…] [session=ms]."""

import select
import sys

from kafka import ConsumerRebalanceListener, KafkaConsumer
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from support import BROKER

STRATEGIES = {
    "range": RangePartitionAssignor,
    "roundrobin": RoundRobinPartitionAssignor,
    "cooperative-sticky": CooperativeStickyAssignor,
}

group, topic, *rest = sys.argv[1:]
options = dict(one.split("=", 1) for one in rest)
consumer = KafkaConsumer(
    bootstrap_servers=BROKER,
    group_id=group,
    group_instance_id=options.get("instance"),
    auto_offset_reset="earliest",
    auto_commit_interval_ms=500,
    session_timeout_ms=int(options.get("session", 6000)),
    heartbeat_interval_ms=500,
    partition_assignment_strategy=[STRATEGIES[options.get("strategy", "range")]],
)


told = set()


def tell():
    global told
    told = consumer.assignment()
    print("assigned", ",".join(str(one.partition) for one in told), flush=True)


class Listener(ConsumerRebalanceListener):
    def on_partitions_assigned(self, assigned):
        tell()

    def on_partitions_revoked(self, revoked):
        pass


consumer.subscribe([topic], listener=Listener())
while not select.select([sys.stdin], [], [], 0)[0]:
    for records in consumer.poll(100).values():
        for record in records:
            print("got", record.partition, record.offset)
    # Nobody is assigned anything when partitions are only taken away.
    if consumer.assignment() != told:
        tell()
    sys.stdout.flush()
consumer.close()
