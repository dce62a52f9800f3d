# needs: kafka-python
"""kafka-python: records written and read in every form."""

from kafka import TopicPartition
from kafka.structs import OffsetAndMetadata

from support import COMPRESSIONS, LONG, PATIENCE, RECORDS, case, eventually, fails, fingerprint, holds, name, number
from support import numbered, run, same, sample
from support.kafka_python import consumer, producer, read, record, topic, values, write


@case
def many_records():
    of = topic("many", partitions=3)
    writer = producer(batch_size=65536)
    sent = numbered(RECORDS)
    for i, value in enumerate(sent):
        writer.send(of, value, value[:11], partition=i % 3)
    writer.flush(LONG)
    got = read(of, range(3), len(sent))
    same(len(got), len(sent), "the number of records")
    same(fingerprint(values(got)), fingerprint(sent), "the sum of what was read")
    for part in range(3):
        mine = [one for one in got if one.partition == part]
        same([one.offset for one in mine], list(range(len(mine))), f"the offsets of partition {part}")
        numbers = [number(one.value) for one in mine]
        same(numbers, sorted(numbers), f"the order of partition {part}")


@case
def every_compression():
    sent = sample(300, tame=True)
    for compression in COMPRESSIONS:
        of = topic(compression)
        writer = producer(compression_type=None if compression == "none" else compression, linger_ms=50)
        write(writer, of, sent)
        same([record(one) for one in read(of, [0], len(sent))], sent, compression)


@case
def big_records():
    of = topic("big", max_message_bytes=8_000_000)
    sent = numbered(2, size=1_500_000)
    writer = producer(max_request_size=8_000_000)
    for value in sent:
        writer.send(of, value).get(PATIENCE)
    same(values(read(of, [0], 2, max_partition_fetch_bytes=1000)), sent)
    with fails("MessageSizeTooLarge", "RecordTooLarge"):
        writer.send(topic("small"), sent[0]).get(PATIENCE)


@case
def every_acks():
    of = topic("acks")
    for acks in (0, 1, "all"):
        writer = producer(acks=acks, enable_idempotence=False)
        for i in range(50):
            writer.send(of, b"%d" % i)
        writer.flush(PATIENCE)
    eventually(lambda: len(read(of, [0], 150)) == 150, "all are there")


@case
def log_append_time():
    of = topic("appended", message_timestamp_type="LogAppendTime")
    write(producer(), of, sample(3, tame=True))
    for one in read(of, [0], 3):
        same(one.timestamp_type, 1, "the kind of timestamp")
        holds(one.timestamp > 1_760_000_000_000, "the time is the broker's")


@case
def seek_by_timestamp_and_marks():
    of = topic("times")
    write(producer(batch_size=500), of, sample(200, start_ms=1_000_000, tame=True))
    reader, part = consumer(group_id=name("group"), enable_auto_commit=False), TopicPartition(of, 0)
    reader.assign([part])
    found = reader.offsets_for_times({part: 1_000_123})[part]
    same((found.offset, found.timestamp), (123, 1_000_123), "the place of a time")
    same(reader.offsets_for_times({part: 2_000_000})[part], None, "the place of a time after all")
    same((reader.beginning_offsets([part])[part], reader.end_offsets([part])[part]), (0, 200), "the marks")
    reader.seek(part, 150)
    got = eventually(lambda: reader.poll(1000, max_records=10), "records come")[part]
    same(got[0].offset, 150, "the first offset")
    same(reader.highwater(part), 200, "the high watermark")
    reader.commit({part: OffsetAndMetadata(160, "here", -1)})
    same(reader.committed(part), 160, "what was committed")
    same(reader.end_offsets([part])[part] - reader.committed(part), 40, "the lag")
    reader.seek_to_beginning(part)
    same(eventually(lambda: reader.poll(1000, max_records=1), "records come")[part][0].offset, 0, "the start")
    reader.close()


@case
def consumers_of_a_group_with_manual_places():
    of, group = topic("manual"), name("group")
    write(producer(), of, sample(20, tame=True))
    for start in (0, 10):
        reader = consumer(group_id=group, enable_auto_commit=False, max_poll_records=10)
        reader.subscribe([of])
        got = eventually(lambda: reader.poll(1000), "records come")[TopicPartition(of, 0)]
        same([one.offset for one in got], list(range(start, start + 10)), "the offsets")
        reader.commit()
        reader.close()


run(together=2)
