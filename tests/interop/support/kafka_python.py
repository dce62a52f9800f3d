"""kafka-python in few words."""

import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

from support import BROKER, LONG, PATIENCE, Record, name


def admin():
    return KafkaAdminClient(bootstrap_servers=BROKER)


def topic(word="topic", partitions=1, **config):
    """Makes a topic; underscores in the names of settings stand for dots."""
    made = name(word)
    settings = {key.replace("_", "."): str(value) for key, value in config.items()}
    one = admin()
    one.create_topics({made: {"num_partitions": partitions, "replication_factor": 1, "configs": settings}})
    one.close()
    return made


def producer(**settings):
    return KafkaProducer(bootstrap_servers=BROKER, **{"linger_ms": 5, **settings})


def consumer(**settings):
    return KafkaConsumer(bootstrap_servers=BROKER, **{"auto_offset_reset": "earliest", **settings})


def write(one, to, records, partition=0):
    """Writes all and waits for each; gives (partition, offset) of them."""
    sent = [
        one.send(to, record.value, record.key, record.headers, partition, record.timestamp) for record in records
    ]
    one.flush(PATIENCE)
    return [(done.partition, done.offset) for done in (future.get(PATIENCE) for future in sent)]


def read(of, partitions, count, start=0, **settings):
    """The first `count` records of the partitions, or all when there are fewer."""
    reader = consumer(**settings)
    parts = [TopicPartition(of, part) for part in partitions]
    reader.assign(parts)
    for part in parts:
        reader.seek(part, start)
    ends = reader.end_offsets(parts)
    found, end = [], time.monotonic() + LONG
    while len(found) < count and any(reader.position(part) < ends[part] for part in parts):
        if time.monotonic() > end:
            raise AssertionError(f"{len(found)} of {count} records came")
        for records in reader.poll(1000, max_records=5000).values():
            found += records
    reader.close()
    return found


def record(found):
    return Record(found.key, found.value, list(found.headers), found.timestamp)


def values(found):
    return [record.value for record in found]
