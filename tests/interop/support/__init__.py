"""What the programs share: cases and how they are told, the broker's address, topics and records.

A program is a list of functions marked with `@case`; `run()` at its end runs them and prints a line for each:
`ok NAME`, `skipped NAME: reason` or `FAILED NAME: reason`, then `end`.
"""

import contextlib
import hashlib
import os
import sys
import threading
import time
import traceback
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

#: host:port of the broker's first listener.
BROKER = os.environ.get("FLOW_INTEROP_BROKER", "127.0.0.1:9092")
#: Records of the long cases.
RECORDS = int(os.environ.get("FLOW_INTEROP_RECORDS", "50000"))
#: Every compression that record batches know.
COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")
#: Seconds that something may take that the broker owes at once; loaded machines are slow.
PATIENCE = 30
#: Seconds that the long cases may take: pure Python writes and reads a few thousand records in one.
LONG = PATIENCE * 3 + RECORDS // 1000

#: A record as it is written and must be read: bytes or None; headers a list of pairs; timestamp in ms.
Record = namedtuple("Record", "key value headers timestamp")

_cases = []
_print = threading.Lock()
_broker = threading.Lock()


class Skip(Exception):
    """Raised by a case that cannot be tried with this client."""


def case(function):
    _cases.append(function)
    return function


def say(line):
    with _print:
        print(line, flush=True)


def run(together=1):
    """Runs the cases, `together` of them at a time; those whose name contains the first argument, if there is one."""
    part = sys.argv[1] if len(sys.argv) > 1 else ""

    def one(function):
        start = time.monotonic()
        try:
            function()
        except Skip as reason:
            say(f"skipped {function.__name__}: {reason}")
        except Exception as error:  # whatever a client throws is a failed case, not the end of the program
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            say(f"FAILED {function.__name__}: {reason[:500]}")
            traceback.print_exc()
        else:
            say(f"ok {function.__name__} {time.monotonic() - start:.1f}s")

    chosen = [function for function in _cases if part in function.__name__]
    with ThreadPoolExecutor(together) as pool:
        list(pool.map(one, chosen))
    say("end")
    sys.stderr.flush()
    # Clients leave threads behind that nothing waits for.
    os._exit(0)


def name(word):
    """A name that nobody used before."""
    return f"{word}-{os.urandom(4).hex()}"


def broker(command):
    """Lets the harness `stop` (cleanly), `kill` (with SIGKILL) or `start` the broker, and waits until that is done."""
    with _broker:
        say(f"broker: {command}")
        answer = sys.stdin.readline().strip()
    if answer != "done":
        raise RuntimeError(f"the broker did not {command}: {answer or 'no answer'}")


def same(found, expected, what="it"):
    if found != expected:
        raise AssertionError(f"{what} is {_short(found)}, expected {_short(expected)}")


def holds(condition, what):
    if not condition:
        raise AssertionError(what)


@contextlib.contextmanager
def fails(*words):
    """The block must raise an error that names one of the words."""
    try:
        yield
    except Exception as error:
        text = f"{type(error).__name__}: {error!r} {error}"
        if not any(word in text for word in words):
            raise AssertionError(f"the error is `{text}`, expected {' or '.join(words)}") from error
    else:
        raise AssertionError(f"nothing failed, expected {' or '.join(words)}")


def eventually(condition, what, seconds=PATIENCE):
    """Gives what `condition` gives once that is true."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not after {seconds} s: {what}")
        time.sleep(0.05)


def _short(value):
    text = repr(value)
    return text if len(text) < 300 else f"{text[:300]}…"


def sample(count, start_ms=1_700_000_000_000, tame=False):
    """Records with every shape of key, value and headers, some of them large enough to be compressed.

    `tame` leaves out what some clients refuse to write: records with neither key nor value, headers without value.
    """
    records = []
    for i in range(count):
        key = None if i % 7 == 3 else b"" if i % 7 == 4 else b"key-%d" % i
        value = None if i % 11 == 5 else b"" if i % 11 == 6 else b"value-%d " % i * (1 + i % 50)
        headers = [("trace", b"%d" % i), ("empty", b""), ("null", None), ("trace", b"again")][: i % 5]
        if tame:
            key = b"some" if key is None and value is None else key
            headers = [header for header in headers if header[1] is not None]
        records.append(Record(key, value, headers, start_ms + i))
    return records


def fingerprint(values):
    """One number for a set of values, whatever their order."""
    total = 0
    for value in values:
        total ^= int.from_bytes(hashlib.blake2b(value, digest_size=8).digest(), "big")
    return total


def numbered(count, size=100):
    """`count` values of `size` bytes that begin with their number."""
    tail = (b"abcdefghijklmnopqrstuvwxyz0123456789 " * (size // 36 + 1))[: size - 12]
    return [b"%011d " % i + tail for i in range(count)]


def number(value):
    return int(value[:11])
