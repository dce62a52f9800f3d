# needs: kazoo
# ensemble: 3
"""kazoo on three servers: what is written, owned, watched and held lives through the loss of a server."""

import contextlib
import functools
import time

from kazoo.exceptions import KazooException

import support
from support import PATIENCE, eventually, fails, holds, run, same
from support.zk import (
    LONGEST,
    SERVERS,
    client,
    connected_to,
    ensemble,
    events,
    four_letters,
    helper,
    leader,
    mode,
    place,
)


def others(at):
    return [number for number in range(len(SERVERS)) if number != at]


def everybody_serves():
    eventually(lambda: all(mode(server) for server in SERVERS), "all servers serve")


def case(function):
    """A case that has all servers, whatever became of them in the one before."""

    @support.case
    @functools.wraps(function)
    def body():
        for at in range(len(SERVERS)):
            # Those that run and are not asleep say so.
            for command in ("launch", "resume"):
                with contextlib.suppress(RuntimeError):
                    ensemble(command, at)
        everybody_serves()
        function()


@case
def one_leads_and_two_follow():
    same(sorted(mode(server) for server in SERVERS), ["follower", "follower", "leader"], "the modes")
    mntr = four_letters("mntr", SERVERS[leader()])
    eventually(lambda: "zk_synced_followers\t2" in four_letters("mntr", SERVERS[leader()]), f"both are in step: {mntr}")


@case
def what_one_writes_all_read():
    root = place()
    with client(root, [SERVERS[0]]) as a, client(root, [SERVERS[1]]) as b, client(root, [SERVERS[2]]) as c:
        for number, writer in enumerate((a, b, c)):
            path = f"/{number}"
            writer.create(path, b"%d" % number)
            for reader in (a, b, c):
                reader.sync("/")
                same(reader.get(path)[0], b"%d" % number, f"what {path} is")
        numbers = [one.create("/s-", sequence=True) for _ in range(5) for one in (a, b, c)]
        same(numbers, sorted(set(numbers)), "the names that all servers give")
        stats = {one.exists("/0")._replace() for one in (a, b, c)}
        same(len(stats), 1, "what they say of a node")


@case
def watches_fire_on_every_server():
    root = place()
    with client(root, [SERVERS[0]]) as a, client(root, [SERVERS[1]]) as b, client(root, [SERVERS[2]]) as c:
        a.create("/n", b"")
        heard = []
        for one in (a, b, c):
            watch, next_event = events()
            one.sync("/")
            one.get("/n", watch=watch)
            heard.append(next_event)
        b.set("/n", b"1")
        same([next_event() for next_event in heard], [("CHANGED", "/n")] * 3, "the events")


@case
def session_lives_through_the_loss_of_its_server():
    root = place()
    with client(root) as watcher, client(root, timeout=LONGEST) as one:
        one.create("/mine", b"x", ephemeral=True)
        session = one.client_id
        at = connected_to(one)
        ensemble("kill", at)
        eventually(lambda: one.connected and connected_to(one) != at, "it is connected elsewhere")
        same(one.client_id, session, "the session")
        same(one.retry(one.set, "/mine", b"y").ephemeralOwner, session[0], "the owner")
        ensemble("start", at)
        everybody_serves()
        eventually(lambda: watcher.connected, "the other client is connected")
        watcher.retry(watcher.sync, "/")
        same(watcher.retry(watcher.get, "/mine")[0], b"y", "what is there")
    with client(root) as one:
        one.sync("/")
        same(one.exists("/mine"), None, "it ended with its session")


@case
def nothing_acknowledged_is_lost_with_the_leader():
    root = place()
    with client(root, timeout=LONGEST) as one:
        done = []
        for number in range(30):
            if number == 15:
                at = leader()
                began = time.monotonic()
                ensemble("kill", at)
            try:
                one.create(f"/n{number:02}", b"")
                done.append(f"n{number:02}")
            except KazooException:
                # Perhaps it was done.
                eventually(lambda: one.connected, "the client is connected again")
            if number == 15:
                holds(time.monotonic() - began < PATIENCE, "writes go on soon")
        holds(len(done) >= 20, f"{len(done)} were acknowledged")
        ensemble("start", at)
        everybody_serves()
        for server in SERVERS:
            with client(root, [server]) as reader:
                reader.sync("/")
                missing = set(done) - set(reader.get_children("/"))
                same(missing, set(), f"what {server} lacks")


@case
def lock_is_held_through_the_loss_of_the_leader():
    root = place()
    with client(root, timeout=LONGEST) as holder, client(root, timeout=LONGEST) as other:
        lock = holder.Lock("/lock", "holder")
        lock.acquire()
        at = leader()
        ensemble("kill", at)
        eventually(lambda: holder.connected and other.connected, "both are connected")
        same(other.retry(lambda: other.Lock("/lock", "other").acquire(blocking=False)), False, "it is held still")
        eventually(lambda: holder.connected, "the holder is connected")
        holder.retry(lock.release)
        same(other.Lock("/lock", "other").acquire(timeout=PATIENCE), True, "it is free")
        ensemble("start", at)
        everybody_serves()


@case
def sessions_expire_under_another_leader():
    root = place()
    with client(root, timeout=LONGEST) as one:
        with helper("ephemeral", "/mine", root=root) as child:
            eventually(lambda: one.exists("/mine"), "it is made")
            at = leader()
            ensemble("kill", at)
            child.kill()
            eventually(lambda: one.retry(one.exists, "/mine") is None, "it has expired")
        ensemble("start", at)
        everybody_serves()


@case
def a_minority_writes_nothing():
    root = place()
    with client(root, timeout=LONGEST) as one:
        one.create("/n", b"0")
        keep = leader()
        away = others(keep)
        for at in away:
            ensemble("kill", at)
        with fails("ConnectionLoss", "ConnectionClosed", "SessionExpired", "Timeout", "TimeoutError", "NotReadOnly", "LoopException"):
            one.set_async("/n", b"1").get(timeout=3)
        for at in away:
            ensemble("launch", at)
        everybody_serves()
        eventually(lambda: one.connected, "the client is connected again")
        holds(one.retry(one.get, "/n")[0] in (b"0", b"1"), "what is there")
        one.retry(one.set, "/n", b"2")


@case
def all_is_there_after_all_were_killed():
    root = place()
    with client(root, timeout=LONGEST) as one:
        for number in range(20):
            one.create(f"/n{number}", b"x" * number)
        one.create("/mine", b"", ephemeral=True)
        session = one.client_id
        for at in range(len(SERVERS)):
            ensemble("kill", at)
        for at in range(len(SERVERS)):
            ensemble("launch", at)
        everybody_serves()
        eventually(lambda: one.connected, "the client is connected again")
        for number in range(20):
            same(one.retry(one.get, f"/n{number}")[0], b"x" * number, f"/n{number}")
        if one.client_id == session:
            holds(one.retry(one.exists, "/mine"), "what the session owns is there")
        one.retry(one.set, "/n0", b"more")


@case
def a_paused_leader_is_followed():
    root = place()
    at = leader()
    with client(root, [SERVERS[other] for other in others(at)], timeout=LONGEST) as one:
        one.create("/n", b"0")
        ensemble("pause", at)
        try:
            def write():
                try:
                    return one.set("/n", b"1")
                except KazooException:
                    return None

            eventually(write, "a write under another leader")
        finally:
            ensemble("resume", at)
        everybody_serves()
        with client(root, [SERVERS[at]]) as late:
            late.sync("/")
            same(late.get("/n")[0], b"1", "what the one that slept reads")


@case
def members_change():
    # Of the servers that stay: the one that leaves may be gone before it has answered.
    with client(servers=[SERVERS[0], SERVERS[1]], timeout=LONGEST) as one:
        data, stat = one.get("/zookeeper/config")
        lines = data.decode().splitlines()
        same(len([line for line in lines if line.startswith("server.")]), 3, f"the members: {lines}")
        holds(lines[-1].startswith("version="), "the version")
        with fails("NoAuth"):
            one.reconfig(joining=None, leaving="3", new_members=None)
        one.add_auth("digest", "super:test")
        with fails("BadVersion"):
            one.reconfig(joining=None, leaving="3", new_members=None, from_config=0x7FFFFFFF)
        gone = next(line for line in lines if line.startswith("server.3="))
        watch, next_event = events()
        one.get("/zookeeper/config", watch=watch)
        after, _ = one.reconfig(joining=None, leaving="3", new_members=None)
        same(len([line for line in after.decode().splitlines() if line.startswith("server.")]), 2, "two are left")
        same(next_event(), ("CHANGED", "/zookeeper/config"), "the event")
        eventually(lambda: one.connected, "the client is connected")
        one.retry(one.ensure_path, "/after")
        after, _ = one.retry(one.reconfig, joining=gone, leaving=None, new_members=None)
        same(len([line for line in after.decode().splitlines() if line.startswith("server.")]), 3, "three again")
        everybody_serves()
    with client(servers=[SERVERS[2]]) as late:
        late.sync("/")
        holds(late.exists("/after"), "the one that came back has it")


run()
