"""confluent-kafka in few words: a topic made, records written and read."""

import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from support import BROKER, LONG, PATIENCE, Record, name


#: One for all: what one that is dropped was asked is given up.
_admin = AdminClient({"bootstrap.servers": BROKER})


def admin():
    return _admin


def topic(word="topic", partitions=1, **config):
    """Makes a topic; underscores in the names of settings stand for dots."""
    made = name(word)
    settings = {key.replace("_", "."): str(value) for key, value in config.items()}
    for future in admin().create_topics([NewTopic(made, partitions, 1, config=settings)]).values():
        future.result(PATIENCE)
    return made


def producer(**settings):
    return Producer({"bootstrap.servers": BROKER, "linger.ms": 5, **dotted(settings)})


def consumer(**settings):
    return Consumer(
        {
            "bootstrap.servers": BROKER,
            "group.id": name("group"),
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            **dotted(settings),
        }
    )


def dotted(settings):
    return {key.replace("_", "."): value for key, value in settings.items()}


def write(one, to, records, partition=0):
    """Writes all and waits for each; gives (partition, offset) of them."""
    places, failed = [], []

    def done(error, message):
        if error is None:
            places.append((message.partition(), message.offset()))
        else:
            failed.append(error)

    for record in records:
        more = {"timestamp": record.timestamp} if record.timestamp else {}
        keep_trying(
            one,
            lambda: one.produce(
                to, record.value, record.key, partition=partition, headers=record.headers, on_delivery=done, **more
            ),
        )
    one.flush(PATIENCE)
    if failed:
        raise KafkaException(failed[0])
    if len(places) != len(records):
        raise AssertionError(f"{len(places)} of {len(records)} records were confirmed")
    return places


def keep_trying(one, send):
    """A full local queue is waited for."""
    while True:
        try:
            return send()
        except BufferError:
            one.poll(0.05)


def read(of, partitions, count, start=0, **settings):
    """The first `count` messages of the partitions; fewer when nothing more comes for a while at their end."""
    reader = consumer(enable_partition_eof=True, **settings)
    reader.assign([TopicPartition(of, part, start) for part in partitions])
    found, ends = [], set()
    end = time.monotonic() + LONG
    while len(found) < count and len(ends) < len(partitions):
        if time.monotonic() > end:
            raise AssertionError(f"{len(found)} of {count} records came")
        for message in reader.consume(1000, 1):
            if message.error() is None:
                found.append(message)
            elif message.error().name() == "_PARTITION_EOF":
                ends.add(message.partition())
            else:
                raise KafkaException(message.error())
    reader.close()
    return found


def record(message):
    return Record(message.key(), message.value(), message.headers() or [], message.timestamp()[1])


def values(messages):
    return [message.value() for message in messages]
