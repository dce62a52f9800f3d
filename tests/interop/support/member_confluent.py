"""A group member with confluent-kafka: GROUP TOPIC [strategy=…] [protocol=…] [instance=…] [session=ms]."""

import select
import sys

from confluent_kafka import Consumer, KafkaError

from support import BROKER

group, topic, *rest = sys.argv[1:]
options = dict(one.split("=", 1) for one in rest)
settings = {
    "bootstrap.servers": BROKER,
    "group.id": group,
    "auto.offset.reset": "earliest",
    "auto.commit.interval.ms": 500,
}
if options.get("protocol") == "consumer":
    settings["group.protocol"] = "consumer"
    if "assignor" in options:
        settings["group.remote.assignor"] = options["assignor"]
else:
    settings["partition.assignment.strategy"] = options.get("strategy", "range")
    settings["session.timeout.ms"] = int(options.get("session", 6000))
    settings["heartbeat.interval.ms"] = 500
if "instance" in options:
    settings["group.instance.id"] = options["instance"]

owned = set()


def told():
    print("assigned", ",".join(str(part) for part in sorted(owned)), flush=True)


def assigned(_, partitions):
    owned.update(one.partition for one in partitions)
    told()


def revoked(_, partitions):
    owned.difference_update(one.partition for one in partitions)
    if options.get("strategy") == "cooperative-sticky" or options.get("protocol") == "consumer":
        told()


def lost(_, partitions):
    owned.difference_update(one.partition for one in partitions)


consumer = Consumer(settings)
consumer.subscribe([topic], on_assign=assigned, on_revoke=revoked, on_lost=lost)
while not select.select([sys.stdin], [], [], 0)[0]:
    for message in consumer.consume(100, 0.1):
        if message.error() is None:
            print("got", message.partition(), message.offset())
        elif message.error().code() == KafkaError._FATAL:
            sys.exit(str(message.error()))
    sys.stdout.flush()
consumer.close()
