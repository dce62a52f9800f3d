# needs: confluent-kafka kafka-python aiokafka
"""What one client writes, in every compression, the others read."""

import asyncio

from support import COMPRESSIONS, case, run, same, sample
from support import aio, confluent, kafka_python

SENT = sample(120)
TAME = sample(120, tame=True)


def write_confluent(of, compression):
    confluent.write(confluent.producer(compression_type=compression), of, SENT)


def write_kafka_python(of, compression):
    kafka_python.write(kafka_python.producer(compression_type=compression if compression != "none" else None), of, TAME)


def write_aiokafka(of, compression):
    async def write():
        async with aio.producer(compression_type=compression if compression != "none" else None) as writer:
            await aio.write(writer, of, TAME)

    asyncio.run(write())


READERS = {
    "confluent-kafka": lambda of: [confluent.record(one) for one in confluent.read(of, [0], len(SENT))],
    "kafka-python": lambda of: [kafka_python.record(one) for one in kafka_python.read(of, [0], len(SENT))],
    "aiokafka": lambda of: [aio.record(one) for one in asyncio.run(aio.read(of, [0], len(SENT)))],
}


def crossed(write, sent):
    for compression in COMPRESSIONS:
        of = confluent.topic(compression)
        write(of, compression)
        for reader, read in READERS.items():
            same(read(of), sent, f"{compression} read by {reader}")


@case
def written_by_confluent_kafka():
    crossed(write_confluent, SENT)


@case
def written_by_kafka_python():
    crossed(write_kafka_python, TAME)


@case
def written_by_aiokafka():
    crossed(write_aiokafka, TAME)


run(together=1)
