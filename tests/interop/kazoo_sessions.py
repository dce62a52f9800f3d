# needs: kazoo
# ensemble: 1 3
"""kazoo: sessions that move, last, are taken up again and expire."""

import socket
import struct
import time

from kazoo.client import KazooClient
from kazoo.protocol.states import KazooState

from support import PATIENCE, case, eventually, holds, run, same
from support.zk import LONGEST, SERVERS, SHORT, USUAL, client, close, drop, events, helper, place, silence, start


def handshake(session=0, password=b"\0" * 16, timeout_ms=5000, last_zxid=0, read_only=True):
    """What a server answers to a client that connects: (time-out in ms, session, password), or None when it hangs up."""
    host, port = SERVERS[0].split(":")
    stream = socket.create_connection((host, int(port)), PATIENCE)
    stream.settimeout(PATIENCE)
    body = struct.pack(">iqiqi", 0, last_zxid, timeout_ms, session, len(password)) + password
    if read_only:
        body += b"\0"
    stream.sendall(struct.pack(">i", len(body)) + body)
    answer = b""
    while len(answer) < 4 or len(answer) < 4 + struct.unpack(">i", answer[:4])[0]:
        part = stream.recv(4096)
        if not part:
            stream.close()
            return None, None
        answer += part
    _, timeout, session, length = struct.unpack(">iiqi", answer[4:24])
    same(len(answer) - 24 - length, 1 if read_only else 0, "what follows the password")
    return stream, (timeout, session, answer[24 : 24 + length])


@case
def the_time_out_is_agreed_on_with_older_clients_too():
    for read_only in (True, False):
        for asked, given in ((1, SHORT), (5000, USUAL), (600_000, LONGEST)):
            stream, (timeout, session, password) = handshake(timeout_ms=asked, read_only=read_only)
            same((timeout, len(password), session != 0), (given * 1000, 16, True), "the answer")
            stream.close()


@case
def taken_up_again_on_another_connection():
    first, (_, session, password) = handshake()
    second, again = handshake(session, password)
    same(again, (5000, session, password), "the answer")
    # The first connection of the session is closed.
    same(first.recv(100), b"", "what the first hears")
    second.close()


@case
def wrong_password():
    first, (_, session, password) = handshake()
    stream, answer = handshake(session, b"x" * 16)
    same(answer, (0, 0, b"\0" * 16), "the answer")
    same(stream.recv(100), b"", "what follows")
    stream.close()
    first.close()
    stream, answer = handshake(session, password)
    same(answer, (5000, session, password), "the right one is good still")
    stream.close()


@case
def unknown_session():
    stream, answer = handshake(0x123456789, b"x" * 16)
    same(answer, (0, 0, b"\0" * 16), "the answer")
    stream.close()


@case
def a_client_that_has_seen_more_is_sent_away():
    stream, answer = handshake(last_zxid=0x7FFFFFFF00000000)
    same((stream, answer), (None, None), "the answer")


@case
def a_lost_connection_loses_nothing():
    with client(root := place()) as one, client(root) as other:
        one.create("/mine", b"x", ephemeral=True)
        session = one.client_id
        for _ in range(3):
            drop(one)
        same(one.client_id, session, "the session")
        other.sync("/")
        same(other.exists("/mine").ephemeralOwner, session[0], "the owner")
        one.set("/mine", b"y")


@case
def taken_up_by_another_client():
    root = place()
    with client(root) as one, client(root) as other:
        taken = start(root, timeout=LONGEST)
        taken.create("/mine", b"x", ephemeral=True)
        session = taken.client_id
        # Else it would take it back.
        speak = silence(taken)
        heir = KazooClient(",".join(SERVERS) + root, timeout=LONGEST, client_id=session)
        heir.start(PATIENCE)
        same(heir.client_id[0], session[0], "the session")
        same(heir.get("/mine")[0], b"x", "what it has")
        close(heir)
        one.sync("/")
        same(one.exists("/mine"), None, "it ends with the session")
        speak()
        close(taken)


@case
def expires_when_nothing_is_heard():
    root = place()
    with client(root) as one:
        watch, next_event = events()
        one.exists("/mine", watch=watch)
        with helper("ephemeral", "/mine", "/more", root=root) as child:
            same(next_event()[1], "/mine", "made")
            one.exists("/mine", watch=watch)
            began = time.monotonic()
            child.kill()
            same(next_event(), ("DELETED", "/mine"), "the event")
            took = time.monotonic() - began
            one.sync("/")
            same(one.exists("/more"), None, "all of it goes")
            holds(took > SHORT * 0.5, f"not before its time ({took:.1f} s)")


@case
def does_not_expire_while_it_is_heard_of():
    with client(root := place(), timeout=SHORT) as one:
        one.create("/mine", b"x", ephemeral=True)
        session = one.client_id
        # Three times as long as it would last: pings alone keep it.
        time.sleep(SHORT * 3)
        same(one.client_id, session, "the session")
        holds(one.exists("/mine"), "the node is there")


@case
def a_client_that_was_away_too_long_has_another_session():
    with client(root := place(), timeout=SHORT) as one, client(root) as other:
        one.create("/mine", b"x", ephemeral=True)
        first = one.client_id[0]
        watch, next_event = events()
        other.sync("/")
        other.exists("/mine", watch=watch)
        states = []
        one.add_listener(states.append)
        # It hears nothing and says nothing until its session has expired.
        speak = silence(one)
        same(next_event(), ("DELETED", "/mine"), "the event")
        speak()
        eventually(lambda: KazooState.LOST in states and states[-1] == KazooState.CONNECTED, "lost and found")
        holds(one.client_id[0] != first, "another session")
        one.create("/mine", b"again", ephemeral=True)


@case
def closing_ends_at_once():
    root = place()
    with client(root) as one:
        other = start(root, timeout=LONGEST)
        other.create("/mine", b"x", ephemeral=True)
        watch, next_event = events()
        one.sync("/")
        one.exists("/mine", watch=watch)
        began = time.monotonic()
        close(other)
        same(next_event(), ("DELETED", "/mine"), "the event")
        holds(time.monotonic() - began < LONGEST, "long before it expires")


@case
def ids_are_never_given_twice():
    seen = set()
    for _ in range(20):
        stream, (_, session, password) = handshake()
        holds((session, password) not in seen, "a new one")
        seen.add((session, password))
        stream.close()
    same(len({session for session, _ in seen}), 20, "the ids")
    same(len({password for _, password in seen}), 20, "the passwords")


run(together=6)
