"""A group member with aiokafka: GROUP TOPIC [strategy=…] [instance=…] [session=ms]."""

import asyncio
import select
import sys

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

from support import BROKER

STRATEGIES = {
    "range": RangePartitionAssignor,
    "roundrobin": RoundRobinPartitionAssignor,
    "sticky": StickyPartitionAssignor,
}


class Listener(ConsumerRebalanceListener):
    def on_partitions_assigned(self, assigned):
        print("assigned", ",".join(str(one.partition) for one in assigned), flush=True)

    def on_partitions_revoked(self, revoked):
        pass


async def main():
    group, topic, *rest = sys.argv[1:]
    options = dict(one.split("=", 1) for one in rest)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=BROKER,
        group_id=group,
        group_instance_id=options.get("instance"),
        auto_offset_reset="earliest",
        auto_commit_interval_ms=500,
        session_timeout_ms=int(options.get("session", 6000)),
        heartbeat_interval_ms=500,
        partition_assignment_strategy=[STRATEGIES[options.get("strategy", "range")]],
    )
    consumer.subscribe([topic], listener=Listener())
    await consumer.start()
    while not select.select([sys.stdin], [], [], 0)[0]:
        for records in (await consumer.getmany(timeout_ms=100)).values():
            for record in records:
                print("got", record.partition, record.offset)
        sys.stdout.flush()
    await consumer.stop()


asyncio.run(main())
