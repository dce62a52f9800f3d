# needs: kcat
"""kcat: what people type."""

import json
import subprocess

from support import BROKER, COMPRESSIONS, LONG, RECORDS, case, fails, fingerprint, holds, name, numbered, run, same


def kcat(*arguments, input=None, check=True):
    done = subprocess.run(
        ["kcat", "-b", BROKER, *arguments], input=input, capture_output=True, timeout=LONG, check=False
    )
    if check and done.returncode != 0:
        raise RuntimeError(f"kcat {' '.join(arguments)}: {done.stderr.decode()}")
    return done.stdout


def read(of, *more):
    return kcat("-q", "-C", "-t", of, "-e", "-o", "beginning", *more)


@case
def many_records():
    of = name("many")
    sent = numbered(RECORDS)
    kcat("-P", "-t", of, "-X", "acks=all", input=b"\n".join(sent))
    got = read(of).splitlines()
    same(len(got), RECORDS, "the number of records")
    same(got, sent, "what was read")


@case
def every_compression():
    sent = numbered(1000)
    for compression in COMPRESSIONS:
        of = name(compression)
        kcat("-P", "-t", of, "-z", compression, input=b"\n".join(sent))
        same(read(of).splitlines(), sent, compression)


@case
def keys_headers_and_nulls():
    of = name("keys")
    kcat("-P", "-t", of, "-K:", "-H", "a=1", "-H", "b=two", "-Z", input=b"k1:v1\n:v2\nk3:\n")
    lines = [json.loads(line) for line in read(of, "-J").splitlines()]
    same([(line["key"], line["payload"]) for line in lines], [("k1", "v1"), (None, "v2"), ("k3", None)], "the records")
    same(lines[0]["headers"], ["a", "1", "b", "two"], "the headers")


@case
def metadata_as_json():
    of = name("meta")
    kcat("-P", "-t", of, input=b"x\n")
    found = json.loads(kcat("-L", "-J"))
    holds(of in [one["topic"] for one in found["topics"]], "the topic is listed")
    same(len(found["brokers"]), 1, "the number of brokers")
    same(found["brokers"][0]["name"], BROKER, "where the broker is")


@case
def offsets_by_time():
    of = name("times")
    kcat("-P", "-t", of, input=b"a\nb\nc\n")
    holds(b"offset 0" in kcat("-Q", "-t", f"{of}:0:1"), "the first is found")
    same(kcat("-q", "-C", "-t", of, "-e", "-o", "1", "-c", "1"), b"b\n", "from an offset")
    same(kcat("-q", "-C", "-t", of, "-e", "-o", "-1"), b"c\n", "from the end")
    same(kcat("-q", "-C", "-t", of, "-e", "-o", "s@1"), b"a\nb\nc\n", "from a time")


@case
def balanced_consumer():
    of, group = name("group"), name("group")
    kcat("-P", "-t", of, input=b"a\nb\nc\n")
    read_by_group = lambda: kcat("-q", "-e", "-G", group, "-X", "auto.offset.reset=earliest", of)
    same(sorted(read_by_group().split()), [b"a", b"b", b"c"], "the first time")
    kcat("-P", "-t", of, input=b"d\n")
    same(read_by_group().split(), [b"d"], "the second time")


@case
def transaction():
    of = name("txn")
    kcat("-P", "-t", of, "-X", f"transactional.id={name('txn')}", input=b"a\nb\n")
    same(read(of, "-X", "isolation.level=read_committed").split(), [b"a", b"b"], "what is committed")


@case
def idempotent_with_acks_of_every_kind():
    of = name("acks")
    for settings in (["acks=0"], ["acks=1"], ["acks=all"], ["enable.idempotence=true"]):
        kcat("-P", "-t", of, *(part for one in settings for part in ("-X", one)), input=b"x\n" * 50)
    same(fingerprint(read(of).split()[:199]), fingerprint([b"x"] * 199), "what is read")
    same(len(read(of).split()), 200, "the number of records")


@case
def unknown_partition():
    of = name("parts")
    kcat("-P", "-t", of, input=b"x\n")
    with fails("does not exist", "nknown partition"):
        kcat("-C", "-t", of, "-p", "7", "-e")


run(together=2)
