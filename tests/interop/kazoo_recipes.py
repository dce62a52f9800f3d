# needs: kazoo
# ensemble: 1 3
"""kazoo: the recipes that people rely on, each with several clients, and with one that is killed."""

import contextlib
import datetime
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from kazoo.recipe.cache import TreeCache

from support import PATIENCE, case, eventually, fails, holds, run, same
from support.zk import client, helper, place


@contextlib.contextmanager
def clients(count, root):
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(client(root)) for _ in range(count)]


def together(*functions):
    """Runs all at once; gives their results, raises the first error."""
    with ThreadPoolExecutor(len(functions)) as pool:
        return [done.result(PATIENCE) for done in [pool.submit(function) for function in functions]]


class Inside:
    """Counts who is inside at a time."""

    def __init__(self):
        self.lock = threading.Lock()
        self.now = self.most = self.entries = 0

    def __enter__(self):
        with self.lock:
            self.now += 1
            self.entries += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_):
        with self.lock:
            self.now -= 1


@case
def lock_lets_one_in():
    inside = Inside()
    with clients(4, place()) as some:
        def work(one):
            for _ in range(3):
                with one.Lock("/lock", "me"):
                    with inside:
                        time.sleep(0.01)

        together(*[lambda one=one: work(one) for one in some])
    same((inside.most, inside.entries), (1, 12), "most at a time, and entries")


@case
def lock_goes_in_order_and_can_be_given_up():
    with clients(3, place()) as (first, second, third):
        held = first.Lock("/lock", "first")
        held.acquire()
        with fails("LockTimeout"):
            second.Lock("/lock", "hurried").acquire(timeout=0.3)
        same(second.Lock("/lock", "polite").acquire(blocking=False), False, "without waiting")
        order = []

        def wait(one, word):
            lock = one.Lock("/lock", word)
            lock.acquire()
            order.append(word)
            lock.release()

        with ThreadPoolExecutor(2) as pool:
            waiting = pool.submit(wait, second, "second")
            eventually(lambda: held.contenders() == ["first", "second"], "the second waits")
            later = pool.submit(wait, third, "third")
            eventually(lambda: held.contenders() == ["first", "second", "third"], "the third waits")
            held.release()
            waiting.result(PATIENCE)
            later.result(PATIENCE)
        same(order, ["second", "third"], "the order")


@case
def lock_of_a_killed_client_is_free():
    with client(root := place()) as one:
        with helper("lock", root=root) as child:
            lock = one.Lock("/lock", "heir")
            same(lock.acquire(blocking=False), False, "while it is held")
            same(lock.contenders(), ["helper"], "who holds it")
            child.kill()
            same(lock.acquire(timeout=PATIENCE), True, "after the end")


@case
def readers_share_and_writers_do_not():
    with clients(4, place()) as (a, b, c, d):
        reads = [one.ReadLock("/lock", "reader") for one in (a, b)]
        together(*[lambda lock=lock: lock.acquire(timeout=PATIENCE) for lock in reads])
        write = c.WriteLock("/lock", "writer")
        same(write.acquire(blocking=False), False, "while there are readers")
        with ThreadPoolExecutor(2) as pool:
            waiting = pool.submit(write.acquire, timeout=PATIENCE)
            eventually(lambda: len(a.get_children("/lock")) == 3, "the writer waits")
            late = d.ReadLock("/lock", "late")
            same(late.acquire(blocking=False), False, "a reader behind a writer")
            for lock in reads:
                lock.release()
            same(waiting.result(PATIENCE), True, "the writer is in")
            behind = pool.submit(late.acquire, timeout=PATIENCE)
            eventually(lambda: len(a.get_children("/lock")) == 2, "the reader waits")
            same(behind.done(), False, "while the writer is in")
            write.release()
            same(behind.result(PATIENCE), True, "the reader is in")


@case
def locks_of_killed_readers_and_writers_are_free():
    with client(root := place()) as one:
        with helper("read", root=root) as child:
            write = one.WriteLock("/lock", "heir")
            same(write.acquire(blocking=False), False, "while it reads")
            child.kill()
            same(write.acquire(timeout=PATIENCE), True, "after the end")
    with client(root := place()) as one:
        with helper("write", root=root) as child:
            read = one.ReadLock("/lock", "heir")
            same(read.acquire(blocking=False), False, "while it writes")
            child.kill()
            same(read.acquire(timeout=PATIENCE), True, "after the end")


@case
def election_has_one_leader_at_a_time():
    inside = Inside()
    led = []
    with clients(3, place()) as some:
        def lead(number):
            with inside:
                led.append(number)
                time.sleep(0.02)

        together(*[lambda n=n, one=one: one.Election("/election", f"c{n}").run(lead, n) for n, one in enumerate(some)])
    same((sorted(led), inside.most), ([0, 1, 2], 1), "who led, and how many at a time")


@case
def a_killed_leader_is_followed():
    with client(root := place()) as one:
        with helper("election", root=root) as child, ThreadPoolExecutor(1) as pool:
            led = threading.Event()
            election = one.Election("/election", "heir")
            running = pool.submit(election.run, led.set)
            eventually(lambda: election.contenders() == ["helper", "heir"], "it waits")
            same(led.is_set(), False, "while the other leads")
            child.kill()
            holds(led.wait(PATIENCE), "it leads")
            running.result(PATIENCE)


@case
def barrier():
    with clients(3, place()) as (keeper, *others):
        gate = keeper.Barrier("/barrier")
        gate.create()
        with ThreadPoolExecutor(2) as pool:
            for one in others:
                one.sync("/")
            waiting = [pool.submit(one.Barrier("/barrier").wait, PATIENCE) for one in others]
            same(others[0].Barrier("/barrier").wait(0.2), False, "while it is closed")
            same([one.done() for one in waiting], [False, False], "who waits")
            gate.remove()
            same([one.result(PATIENCE) for one in waiting], [True, True], "who is through")
        same(keeper.Barrier("/barrier").wait(0), True, "an open one")


@case
def double_barrier():
    with clients(3, place()) as some:
        barriers = [one.DoubleBarrier("/double", 3, f"c{n}") for n, one in enumerate(some)]
        entered, left = [], []

        def work(number):
            barriers[number].enter()
            entered.append(number)
            barriers[number].leave()
            left.append(number)

        with ThreadPoolExecutor(3) as pool:
            early = [pool.submit(work, 0), pool.submit(work, 1)]
            eventually(lambda: len(some[0].get_children("/double")) == 2 if some[0].exists("/double") else False, "two are there")
            same(entered, [], "nobody enters before all are there")
            for done in [*early, pool.submit(work, 2)]:
                done.result(PATIENCE)
        same((sorted(entered), sorted(left)), ([0, 1, 2], [0, 1, 2]), "who entered and left")


@case
def a_double_barrier_is_left_by_killed_clients():
    with client(root := place()) as one, ThreadPoolExecutor(1) as pool:
        gate = one.DoubleBarrier("/double", 2, "me")
        entering = pool.submit(gate.enter)
        with helper("double", 2, root=root) as child:
            entering.result(PATIENCE)
            leaving = pool.submit(gate.leave)
            same(leaving.done(), False, "while the other is inside")
            child.kill()
            leaving.result(PATIENCE)


@case
def queue():
    with clients(3, place()) as (writer, *readers):
        source = writer.Queue("/queue")
        for number in range(30):
            source.put(b"%d" % number)
        source.put(b"urgent", priority=1)
        same(len(source), 31, "the length")
        same(source.get(), b"urgent", "what is urgent comes first")
        for one in readers:
            one.sync("/queue")

        def take(one):
            got = []
            mine = one.Queue("/queue")
            while (item := mine.get()) is not None:
                got.append(int(item))
            return got

        parts = together(*[lambda one=one: take(one) for one in readers])
        for part in parts:
            same(part, sorted(part), "in order")
        same(sorted(number for part in parts for number in part), list(range(30)), "each once")


@case
def locking_queue_gives_again_what_was_not_consumed():
    root = place()
    with client(root) as one:
        mine = one.LockingQueue("/queue")
        mine.put_all([b"a", b"b"])
        with helper("queue", root=root) as child:
            same(mine.get(PATIENCE), b"b", "the other has the first")
            same(mine.consume(), True, "it is done")
            same(mine.get(0.2), None, "while the other has it")
            child.kill()
            same(mine.get(PATIENCE), b"a", "what the killed one had")
            same(mine.holds_lock(), True, "it is mine")
            same(mine.consume(), True, "it is done")
            same(len(mine), 0, "what is left")


@case
def semaphore_lets_so_many_in():
    inside = Inside()
    with clients(5, place()) as some:
        def work(one):
            for _ in range(2):
                with one.Semaphore("/semaphore", "me", max_leases=2):
                    with inside:
                        time.sleep(0.02)

        together(*[lambda one=one: work(one) for one in some])
    holds(inside.most <= 2 and inside.entries == 10, f"{inside.most} at a time, {inside.entries} entries")


@case
def a_lease_of_a_killed_client_is_free():
    with client(root := place()) as one:
        with helper("semaphore", 1, root=root) as child:
            mine = one.Semaphore("/semaphore", "heir", max_leases=1)
            same(mine.acquire(blocking=False), False, "while it is taken")
            same(mine.lease_holders(), ["helper"], "who has it")
            child.kill()
            same(mine.acquire(timeout=PATIENCE), True, "after the end")


@case
def counter_loses_nothing():
    with clients(4, place()) as some:
        some[0].Counter("/counter")

        def work(one):
            counter = one.Counter("/counter")
            for _ in range(10):
                counter += 1
            counter -= 3

        # Whoever loses a race tries again as often as it takes.
        for one in some:
            one.retry.max_tries = -1
        together(*[lambda one=one: work(one) for one in some])
        some[0].sync("/counter")
        same(some[0].Counter("/counter").value, 4 * 7, "the sum")


@case
def party_knows_who_is_there():
    with clients(2, root := place()) as (one, other):
        party = one.Party("/party", "one")
        party.join()
        other.Party("/party", "other").join()
        eventually(lambda: sorted(party) == ["one", "other"], "both")
        same(len(party), 2, "how many")
        with helper("party", root=root) as child:
            eventually(lambda: sorted(party) == ["helper", "one", "other"], "all three")
            child.kill()
            eventually(lambda: sorted(party) == ["one", "other"], "without the killed one")
        party.leave()
        eventually(lambda: sorted(party) == ["other"], "without the one that left")


@case
def set_is_divided_among_who_is_there():
    items = {f"item-{number}" for number in range(6)}
    with client(root := place()) as one:
        mine = one.SetPartitioner("/partition", items, identifier="me", time_boundary=0.5)

        def settle(expected):
            def look():
                if mine.release:
                    mine.release_set()
                elif mine.allocating:
                    mine.wait_for_acquire(1)
                return mine.acquired and len(list(mine)) == expected

            return look

        eventually(settle(6), "all is mine")
        with another_partitioner(root, items) as leave:
            eventually(settle(3), "half is mine")
            leave()
            eventually(settle(6), "all is mine again")
        mine.finish()


@contextlib.contextmanager
def another_partitioner(root, items):
    """Another client that takes its part of the items; gives a function that ends it."""
    with client(root) as other:
        theirs = other.SetPartitioner("/partition", items, identifier="other", time_boundary=0.5)
        stop = threading.Event()

        def work():
            while not stop.is_set():
                if theirs.release:
                    theirs.release_set()
                elif theirs.allocating:
                    theirs.wait_for_acquire(1)
                elif theirs.failed:
                    return
                stop.wait(0.05)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()

        def leave():
            stop.set()
            thread.join(PATIENCE)
            other.stop()

        yield leave


@case
def tree_cache_sees_what_is_below():
    with clients(2, place()) as (one, other):
        one.ensure_path("/tree/a")
        cache = TreeCache(one, "/tree")
        cache.start()
        data = lambda path: (lambda found: found and found.data)(cache.get_data(path))
        eventually(lambda: cache.get_children("/tree") == {"a"}, "what was there")
        other.create("/tree/a/b", b"1")
        eventually(lambda: data("/tree/a/b") == b"1", "what was made")
        other.set("/tree/a/b", b"2")
        eventually(lambda: data("/tree/a/b") == b"2", "what was changed")
        other.delete("/tree/a", recursive=True)
        eventually(lambda: cache.get_children("/tree") == set() and data("/tree/a/b") is None, "what was deleted")
        cache.close()


@case
def lease_is_for_one():
    with clients(2, place()) as (one, other):
        hour = datetime.timedelta(hours=1)
        same(bool(one.NonBlockingLease("/lease", hour, identifier="one")), True, "the first")
        other.sync("/")
        same(bool(other.NonBlockingLease("/lease", hour, identifier="other")), False, "the second")
        same(bool(one.NonBlockingLease("/lease", hour, identifier="one")), True, "the first again")


run(together=6)
