"""A client in a process of its own, so that it can be killed: takes something, says `ready`, holds it."""

import sys

from support.zk import SHORT, start

what, root, *arguments = sys.argv[1:]
client = start(root, timeout=SHORT)


def held():
    print("ready", flush=True)
    # Whoever has started us is gone when this ends.
    sys.stdin.read()
    client.stop()


if what == "lock":
    client.Lock("/lock", "helper").acquire()
elif what == "read":
    client.ReadLock("/lock", "helper").acquire()
elif what == "write":
    client.WriteLock("/lock", "helper").acquire()
elif what == "semaphore":
    client.Semaphore("/semaphore", "helper", max_leases=int(arguments[0])).acquire()
elif what == "election":
    client.Election("/election", "helper").run(held)
elif what == "party":
    client.Party("/party", "helper").join()
elif what == "queue":
    client.LockingQueue("/queue").get()
elif what == "double":
    client.DoubleBarrier("/double", int(arguments[0]), "helper").enter()
elif what == "ephemeral":
    for path in arguments:
        client.create(path, b"helper", ephemeral=True)
else:
    print(f"nothing is known of {what}", flush=True)
    sys.exit(2)
held()
