# needs: confluent-kafka
"""confluent-kafka (librdkafka): records written and read in every form."""

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaError, TopicPartition

from support import COMPRESSIONS, LONG, PATIENCE, RECORDS, case, eventually, fails, fingerprint, holds, name
from support import number, numbered, run, same, sample
from support.confluent import consumer, keep_trying, producer, read, record, topic, values, write


@case
def many_records():
    of = topic("many", partitions=3)
    writer = producer(acks="all", queue_buffering_max_messages=200_000)
    sent = numbered(RECORDS)
    refused = []
    for value in sent:
        keep_trying(
            writer,
            lambda: writer.produce(of, value, value[:11], on_delivery=lambda e, _: e and refused.append(e)),
        )
        writer.poll(0)
    same(writer.flush(LONG), 0, "what was not confirmed")
    same(refused, [], "what was refused")
    got = read(of, range(3), RECORDS)
    same(len(got), RECORDS, "the number of records")
    same(fingerprint(values(got)), fingerprint(sent), "the sum of what was read")
    for part in range(3):
        mine = [message for message in got if message.partition() == part]
        same([message.offset() for message in mine], list(range(len(mine))), f"the offsets of partition {part}")
        numbers = [number(message.value()) for message in mine]
        same(numbers, sorted(numbers), f"the order of partition {part}")


@case
def every_compression():
    sent = sample(500)
    for compression in COMPRESSIONS:
        of = topic(compression)
        write(producer(compression_type=compression, linger_ms=50), of, sent)
        same([record(message) for message in read(of, [0], len(sent))], sent, compression)


@case
def compressed_by_the_topic():
    of = topic("recompressed", compression_type="zstd")
    sent = sample(200)
    write(producer(compression_type="gzip"), of, sent)
    same([record(message) for message in read(of, [0], len(sent))], sent)


@case
def nulls_keys_and_headers():
    of = topic("nulls")
    sent = sample(77)
    write(producer(), of, sent)
    same([record(message) for message in read(of, [0], len(sent))], sent)


@case
def big_records():
    of = topic("big", max_message_bytes=8_000_000)
    sent = numbered(5, size=3_000_000)
    writer = producer(message_max_bytes=8_000_000)
    for value in sent:
        writer.produce(of, value)
    same(writer.flush(PATIENCE), 0, "what was not confirmed")
    # The first batch comes whole, however little is asked for.
    same(values(read(of, [0], 5, fetch_message_max_bytes=1000)), sent)
    small = topic("small")
    refused = []
    writer.produce(small, sent[0], on_delivery=lambda error, _: refused.append(error))
    writer.flush(PATIENCE)
    same(refused[0] and refused[0].code(), KafkaError.MSG_SIZE_TOO_LARGE, "the error")


@case
def every_acks():
    of = topic("acks")
    for acks in ("0", "1", "all"):
        writer = producer(acks=acks)
        for i in range(100):
            writer.produce(of, b"%d" % i)
        same(writer.flush(PATIENCE), 0, "what was not confirmed")
    same(len(read(of, [0], 300)), 300, "the number of records")


@case
def idempotent_producer():
    of = topic("idempotent", partitions=2)
    writer = producer(enable_idempotence=True, max_in_flight=5, batch_num_messages=10)
    sent = numbered(2000)
    for i, value in enumerate(sent):
        writer.produce(of, value, partition=i % 2)
        writer.poll(0)
    same(writer.flush(PATIENCE), 0, "what was not confirmed")
    same(fingerprint(values(read(of, [0, 1], 2000))), fingerprint(sent), "the sum")


@case
def log_append_time():
    of = topic("appended", message_timestamp_type="LogAppendTime")
    write(producer(), of, sample(3))
    for message in read(of, [0], 3):
        kind, time_ms = message.timestamp()
        same(kind, TIMESTAMP_LOG_APPEND_TIME, "the kind of timestamp")
        holds(time_ms > 1_760_000_000_000, "the time is the broker's")


@case
def seek_by_timestamp():
    of = topic("times", partitions=2)
    for part in (0, 1):
        # Small batches, so that the place lies in the middle of the partition.
        write(producer(batch_num_messages=7), of, sample(200, start_ms=1_000_000), partition=part)
    reader = consumer()
    ask = lambda time_ms: [
        one.offset for one in reader.offsets_for_times([TopicPartition(of, 0, time_ms), TopicPartition(of, 1, time_ms)], PATIENCE)
    ]
    same(ask(1_000_000), [0, 0], "the offsets of the first time")
    same(ask(1_000_123), [123, 123], "the offsets of a time between")
    same(ask(5), [0, 0], "the offsets of a time before all")
    same(ask(2_000_000), [-1, -1], "the offsets of a time after all")
    same(values(read(of, [0], 1, start=123))[0], sample(200)[123].value, "the record there")


@case
def watermarks_positions_and_lag():
    of = topic("marks")
    write(producer(), of, sample(100))
    reader = consumer()
    part = TopicPartition(of, 0, 40)
    same(reader.get_watermark_offsets(part, PATIENCE), (0, 100), "the watermarks")
    reader.assign([part])
    got = []
    eventually(lambda: got.extend(reader.consume(60, 1)) or len(got) >= 60, "sixty records come")
    same(got[0].offset(), 40, "the first offset")
    same(reader.position([part])[0].offset, 100, "the position")
    reader.commit(offsets=[TopicPartition(of, 0, 70, metadata="seventy")], asynchronous=False)
    committed = reader.committed([part], PATIENCE)[0]
    same((committed.offset, committed.metadata), (70, "seventy"), "what was committed")
    high = reader.get_watermark_offsets(part, PATIENCE)[1]
    same(high - committed.offset, 30, "the lag")
    reader.seek(TopicPartition(of, 0, 10))
    same(eventually(lambda: reader.consume(1, 1), "a record comes")[0].offset(), 10, "the offset after a seek")
    reader.pause([part])
    reader.consume(1000, 0.5)
    write(producer(), of, sample(1))
    same(reader.consume(1, 0.5), [], "what a paused partition gives")
    reader.resume([part])
    eventually(lambda: reader.consume(1, 1), "records come again")
    reader.close()


@case
def offset_resets():
    of = topic("resets")
    write(producer(), of, sample(10))
    for reset, first in (("earliest", 0), ("latest", 10)):
        reader = consumer(auto_offset_reset=reset)
        reader.assign([TopicPartition(of, 0, 5000)])
        reader.consume(1, 0.3) if reset == "latest" else None
        if reset == "latest":
            eventually(lambda: reader.position([TopicPartition(of, 0)]) and reader.get_watermark_offsets(TopicPartition(of, 0), 5)[1] >= 10, "marks")
            write(producer(), of, sample(1))
        message = eventually(lambda: reader.consume(1, 1), "a record comes")[0]
        holds(message.offset() >= first and (reset == "latest" or message.offset() == 0), f"{reset}: {message.offset()}")
        reader.close()
    reader = consumer(auto_offset_reset="error")
    reader.assign([TopicPartition(of, 0, 5000)])
    message = eventually(lambda: reader.consume(1, 1), "an error comes")[0]
    same(message.error().code(), KafkaError._AUTO_OFFSET_RESET, "the error")
    reader.close()


@case
def unknown_topics():
    made = name("auto")
    write(producer(), made, sample(3))
    same(len(read(made, [0], 3)), 3, "the records of a topic that was made on the way")
    reader = consumer(**{"allow.auto.create.topics": False})
    reader.subscribe([name("nowhere")])
    message = eventually(lambda: reader.consume(1, 1), "an error comes")[0]
    same(message.error().code(), KafkaError.UNKNOWN_TOPIC_OR_PART, "the error")
    reader.close()
    with fails("TOPIC_EXCEPTION", "_UNKNOWN_TOPIC", "UNKNOWN_TOPIC"):
        write(producer(message_timeout_ms=3000), "no/such name", sample(1))


@case
def compacted_topics_want_keys():
    of = topic("compacted", cleanup_policy="compact")
    with fails("INVALID_RECORD"):
        write(producer(), of, [sample(4)[3]])
    write(producer(), of, [sample(4)[1]])


run(together=3)
