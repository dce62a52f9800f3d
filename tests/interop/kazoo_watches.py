# needs: kazoo
# ensemble: 1 3
"""kazoo: watches that fire once, those that recipes keep, and what becomes of them when the connection is lost."""

from kazoo.protocol.states import EventType, KazooState

from support import case, eventually, holds, run, same
from support.zk import client, drop, events, place

CREATED, DELETED, CHANGED, CHILD = EventType.CREATED, EventType.DELETED, EventType.CHANGED, EventType.CHILD


@case
def each_fires_once():
    with client(root := place()) as one, client(root) as other:
        watch, next_event = events()
        same(one.exists("/a", watch=watch), None, "what is not there")
        other.create("/a", b"1")
        same(next_event(), (CREATED, "/a"), "the event")
        one.get("/a", watch=watch)
        other.set("/a", b"2")
        same(next_event(), (CHANGED, "/a"), "the event")
        other.set("/a", b"3")
        one.sync("/a")
        same(one.get("/a", watch=watch)[0], b"3", "what was changed without a watch")
        one.get_children("/a", watch=watch)
        other.create("/a/b")
        same(next_event(), (CHILD, "/a"), "the event")
        one.exists("/a", watch=watch)
        other.delete("/a", recursive=True)
        same(next_event(), (DELETED, "/a"), "the event")


@case
def a_reader_of_data_and_children_hears_of_the_end():
    with client(root := place()) as one, client(root) as other:
        one.create("/a", b"1")
        watch, next_event = events()
        one.get("/a", watch=watch)
        one.get_children("/a", watch=watch)
        one.get_children("/", watch=watch)
        other.delete("/a")
        # One event of the server for both watches of the node; kazoo tells each.
        same(sorted(next_event() for _ in range(3)), sorted([(DELETED, "/a")] * 2 + [(CHILD, "/")]), "the events")
        other.create("/a")
        watch, after = events()
        one.sync("/a")
        one.get("/a", watch=watch)
        other.set("/a", b"")
        same(after(), (CHANGED, "/a"), "only the new watch")


@case
def only_what_is_read_is_watched():
    with client(root := place()) as one, client(root) as other:
        one.create("/a/b", makepath=True)
        watch, next_event = events()
        one.get("/a", watch=watch)
        other.set("/a/b", b"below")
        other.create("/a/c")
        other.set("/a", b"here")
        same(next_event(), (CHANGED, "/a"), "the first event")


@case
def transactions_fire_each():
    with client(root := place()) as one, client(root) as other:
        one.create("/a", b"")
        watch, next_event = events()
        one.get("/a", watch=watch)
        one.exists("/b", watch=watch)
        one.get_children("/", watch=watch)
        work = other.transaction()
        work.set_data("/a", b"1")
        work.create("/b")
        work.delete("/a")
        holds(not any(isinstance(result, Exception) for result in work.commit()), "the transaction")
        same([next_event() for _ in range(3)], [(CHANGED, "/a"), (CREATED, "/b"), (CHILD, "/")], "the events")


@case
def a_lost_connection_is_told():
    with client(root := place()) as one, client(root) as other:
        one.create("/a", b"")
        watch, next_event = events()
        one.get("/a", watch=watch)
        drop(one)
        # kazoo does not carry them over: whoever wants to know reads again.
        same(next_event(), (EventType.NONE, None), "the event")
        one.get("/a", watch=watch)
        other.set("/a", b"1")
        same(next_event(), (CHANGED, "/a"), "the event")


@case
def what_happens_meanwhile_is_seen():
    with client(root := place()) as one, client(root) as other:
        for path in ("/data", "/children", "/gone"):
            one.create(path, b"")
        data, gone, later, children = [], [], [], []
        one.DataWatch("/data", lambda value, _: data.append(value))
        one.DataWatch("/gone", lambda value, _: gone.append(value))
        one.DataWatch("/later", lambda value, _: later.append(value))
        one.ChildrenWatch("/children", lambda names: children.append(names))

        def change(state):
            if state == KazooState.SUSPENDED:
                other.set("/data", b"1")
                other.create("/children/a")
                other.create("/later", b"new")
                other.delete("/gone")
                return True

        one.add_listener(change)
        drop(one)
        eventually(lambda: data[-1] == b"1" and children[-1] == ["a"], "what was changed")
        eventually(lambda: later[-1] == b"new" and gone[-1] is None, "what was made and deleted")


@case
def of_a_session_that_expires():
    with client(root := place()) as one, client(root) as other:
        other.create("/mine", b"x", ephemeral=True)
        watch, next_event = events()
        one.exists("/mine", watch=watch)
        other.stop()
        same(next_event(), (DELETED, "/mine"), "the event")


@case
def data_watch_sees_the_last():
    with client(root := place()) as one, client(root) as other:
        seen = []
        one.DataWatch("/a", lambda data, stat: seen.append(data))
        eventually(lambda: seen == [None], "it is not there yet")
        other.create("/a", b"0")
        for number in range(1, 30):
            other.set("/a", b"%d" % number)
        eventually(lambda: seen[-1] == b"29", "the last")
        numbers = [int(data) for data in seen[1:]]
        same(numbers, sorted(set(numbers)), "never back, never twice")
        drop(one)
        other.set("/a", b"30")
        eventually(lambda: seen[-1] == b"30", "after another connection")
        other.delete("/a")
        eventually(lambda: seen[-1] is None, "the end")


@case
def children_watch_sees_the_last():
    with client(root := place()) as one, client(root) as other:
        one.create("/a")
        seen = []
        one.ChildrenWatch("/a", lambda children: seen.append(sorted(children)))
        for number in range(20):
            other.create(f"/a/{number:02}")
        eventually(lambda: seen[-1] == [f"{number:02}" for number in range(20)], "all")
        same([len(some) for some in seen], sorted({len(some) for some in seen}), "ever more")
        other.delete("/a/07")
        eventually(lambda: "07" not in seen[-1], "one less")


@case
def many_watchers_hear_all():
    with client(root := place()) as one:
        one.create("/a", b"")
        heard = []
        others = []
        try:
            for _ in range(10):
                other = client(root)
                others.append(other)
                watcher = other.__enter__()
                for _ in range(3):
                    watcher.get("/a", watch=lambda event: heard.append(event.path))
            one.set("/a", b"1")
            eventually(lambda: len(heard) == 30, "everybody heard")
        finally:
            for other in others:
                other.__exit__(None, None, None)


run(together=4)
