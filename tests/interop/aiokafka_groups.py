# needs: aiokafka
"""aiokafka: groups of three of which one is killed."""

import asyncio

from support import case, name, run, sample
from support.aio import producer, topic, write
from support.members import member_killed, static_member


def life(of_group, **options):
    of = asyncio.run(topic("shared", partitions=6))

    async def all_parts(count):
        async with producer() as writer:
            places = set()
            for part in range(6):
                places |= set(await write(writer, of, sample(count // 6, tame=True), partition=part))
            return places

    of_group("aiokafka", of, name("group"), lambda count: asyncio.run(all_parts(count)), **options)


@case
def member_killed_range():
    life(member_killed, strategy="range")


@case
def member_killed_roundrobin():
    life(member_killed, strategy="roundrobin")


@case
def member_killed_sticky():
    life(member_killed, strategy="sticky")


@case
def static_member_comes_back():
    life(static_member, strategy="range", session=20_000)


run(together=4)
