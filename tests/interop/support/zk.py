"""kazoo in few words: clients with a place of their own, sessions that are lost on purpose, helpers that are killed."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import uuid

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException
from kazoo.protocol.connection import _CONNECTION_DROP
from kazoo.protocol.states import KazooState

import support
from support import PATIENCE, eventually, name

#: host:port of every server.
SERVERS = os.environ.get("FLOW_INTEROP_ZOOKEEPER", "127.0.0.1:2181").split(",")
#: What differs on purpose asks for this.
OURS = os.environ.get("FLOW_INTEROP_ENSEMBLE") == "ours"
#: Seconds of the shortest session that the servers give, of a usual one, of the longest.
SHORT, USUAL, LONGEST = 1.0, 5.0, 10.0


def place(word="case"):
    """A path that nobody used before, not yet made."""
    return f"/{name(word)}"


@contextlib.contextmanager
def client(root="", servers=None, timeout=USUAL, **settings):
    """A started client that sees only what is below `root`; closed at the end."""
    one = start(root, servers, timeout, **settings)
    try:
        yield one
    finally:
        close(one)


def start(root="", servers=None, timeout=USUAL, **settings):
    one = KazooClient(",".join(servers or SERVERS) + root, timeout=timeout, **settings)
    one.start(PATIENCE)
    if root:
        one.ensure_path("/")
    return one


def close(one):
    with contextlib.suppress(KazooException):
        one.stop()
    one.close()


def connected_to(one):
    """The number (from 0) of the server that the client is connected to."""
    peer = one._connection._socket.getpeername()
    return SERVERS.index(f"{peer[0]}:{peer[1]}")


def drop(one):
    """Ends the connection, not the session, and waits until there is another."""
    lost, back = threading.Event(), threading.Event()

    def listener(state):
        if state == KazooState.SUSPENDED:
            lost.set()
        elif state == KazooState.CONNECTED and lost.is_set():
            back.set()

    one.add_listener(listener)
    one._call(_CONNECTION_DROP, None)
    support.holds(back.wait(PATIENCE), "the client has another connection")
    one.remove_listener(listener)


def silence(one):
    """Ends the connection, and keeps the client from having another until the function that is given is called."""
    gate = threading.Event()
    connect = one._connection._connect
    one._connection._connect = lambda *arguments: (gate.wait(PATIENCE), connect(*arguments))[1]
    one._connection._socket.shutdown(socket.SHUT_RDWR)
    return gate.set


def four_letters(word, server=None):
    host, port = (server or SERVERS[0]).split(":")
    with socket.create_connection((host, int(port)), PATIENCE) as stream:
        stream.sendall(word.encode())
        answer = b""
        while part := stream.recv(65536):
            answer += part
    return answer.decode()


def mode(server):
    """`leader`, `follower`, `standalone`, or None while it serves nobody."""
    try:
        lines = four_letters("srvr", server).splitlines()
    except OSError:
        return None
    return next((line[6:] for line in lines if line.startswith("Mode: ")), None)


def leader():
    """The number (from 0) of the server that leads, once all others follow it."""

    def found():
        modes = [mode(server) for server in SERVERS]
        if modes.count("leader") == 1 and modes.count("follower") == len(modes) - 1:
            return [modes.index("leader")]
        return None

    return eventually(found, "one leader and followers")[0]


def ensemble(command, at):
    """`kill`, `stop`, `start`, `launch`, `pause` or `resume` of a server, counted from 0."""
    with support._broker:
        support.say(f"ensemble: {command} {at + 1}")
        answer = sys.stdin.readline().strip()
    if answer != "done":
        raise RuntimeError(f"the server did not {command}: {answer or 'no answer'}")


@contextlib.contextmanager
def helper(what, *arguments, root):
    """A process of its own (`member_zk.py`) that has told us that it has what it is there for; killed at the end."""
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "member_zk.py")
    child = subprocess.Popen(
        [sys.executable, "-u", program, what, root, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(program))},
    )
    try:
        said = child.stdout.readline().strip()
        if said != "ready":
            raise RuntimeError(f"the helper for `{what}` says `{said}`")
        yield child
    finally:
        child.kill()
        child.wait()


def events(seconds=PATIENCE):
    """A watch function and a function that gives the next event as (type, path)."""
    import queue

    got = queue.Queue()
    return got.put, lambda: (lambda event: (event.type, event.path))(got.get(timeout=seconds))


def unique():
    return uuid.uuid4().hex
