"""Members of groups, each a process of its own, so that one can be killed like a machine that loses its power.

A member is a program of `support/member_*.py`; it prints `assigned P,P,…` with all it owns after every rebalance,
and `got PARTITION OFFSET` for each record.
"""

import os
import subprocess
import sys
import threading

from support import eventually


class Member:
    """A member that runs; `owned` are its partitions, `got` the records it has read as (partition, offset)."""

    def __init__(self, client, group, topic, **options):
        self.owned = None
        self.rebalances = 0
        self.got = []
        program = os.path.join(os.path.dirname(__file__), f"member_{client}.py")
        arguments = [f"{key}={value}" for key, value in options.items()]
        self.process = subprocess.Popen(
            [sys.executable, "-u", program, group, topic, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(__file__))},
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            word, *rest = line.split()
            if word == "assigned":
                self.owned = {int(part) for part in rest[0].split(",")} if rest else set()
                self.rebalances += 1
            elif word == "got":
                self.got.append((int(rest[0]), int(rest[1])))

    def kill(self):
        """Ends it without a word to the broker."""
        self.process.kill()
        self.process.wait()
        self.reader.join()

    def leave(self):
        """Lets it close its consumer."""
        if self.process.poll() is None:
            self.process.stdin.close()
            self.process.wait(60)
        self.reader.join()


def balanced(members, partitions, what):
    """Waits until each of the partitions is owned by one of the members, and none has two more than another."""

    def fair():
        owned = [member.owned for member in members]
        if any(one is None for one in owned):
            return False
        counts = [len(one) for one in owned]
        return (
            sum(counts) == partitions
            and set().union(*owned) == set(range(partitions))
            and max(counts) - min(counts) <= 1
        )

    for member in members:
        member.process.poll()
    try:
        eventually(fair, what, 90)
    except AssertionError as error:
        raise AssertionError(f"{error}: {[(one.owned, one.process.poll()) for one in members]}") from None


def read(members, expected, what):
    """Waits until the members have, together, every record of `expected`: (partition, offset)."""
    got = lambda: set().union(*(list(member.got) for member in members))
    try:
        eventually(lambda: got() >= expected, what, 90)
    except AssertionError as error:
        raise AssertionError(f"{error}: {len(expected - got())} of {len(expected)} are missing") from None


def member_killed(client, topic, group, produce, partitions=6, **options):
    """The life of a group of three: all read, one is killed, its partitions go to the others, nothing is left out."""
    members = [Member(client, group, topic, **options) for _ in range(3)]
    try:
        balanced(members, partitions, "three members share the partitions")
        first = produce(300)
        read(members, first, "three members read all")
        victim = members.pop(1)
        victim.kill()
        second = produce(300)
        balanced(members, partitions, "the two that live share the partitions")
        read(members, second, "the two that live read what came after")
        read([*members, victim], first | second, "everything was read by somebody")
        members.append(Member(client, group, topic, **options))
        balanced(members, partitions, "a new third member gets its share")
        third = produce(300)
        read(members, third, "three members read all again")
    finally:
        for member in members:
            member.leave()


def static_member(client, topic, group, produce, partitions=6, end=Member.kill, **options):
    """A static member that ends and comes back in time has its partitions again, and nobody else notices."""
    names = ["a", "b", "c"]
    members = [Member(client, group, topic, instance=one, **options) for one in names]
    try:
        balanced(members, partitions, "three static members share the partitions")
        first = produce(300)
        read(members, first, "three members read all")
        before, rebalances = members[1].owned, [members[0].rebalances, members[2].rebalances]
        end(members[1])
        ended = members[1]
        members[1] = Member(client, group, topic, instance="b", **options)
        balanced(members, partitions, "the member that came back has its share")
        second = produce(300)
        read([*members, ended], first | second, "everything was read")
        if members[1].owned != before:
            raise AssertionError(f"it owns {members[1].owned}, and {before} before its end")
        if [members[0].rebalances, members[2].rebalances] != rebalances:
            raise AssertionError("the others were rebalanced")
    finally:
        for member in members:
            member.leave()
