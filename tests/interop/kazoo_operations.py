# needs: kazoo
# ensemble: 1 3
"""kazoo: every operation, its errors, transactions and rights."""

import time

from kazoo.exceptions import BadVersionError, NoNodeError, RolledBackError, RuntimeInconsistency
from kazoo.security import ACL, Id, make_acl, make_digest_acl

from support import PATIENCE, case, eventually, fails, holds, run, same
from support.zk import SERVERS, client, four_letters, place


@case
def what_a_node_says_of_itself():
    with client(place()) as one:
        before = time.time()
        same(one.create("/a", b"one"), "/a", "the path")
        data, stat = one.get("/a")
        same(data, b"one", "the data")
        same((stat.version, stat.cversion, stat.aversion), (0, 0, 0), "the versions")
        same(stat.czxid, stat.mzxid, "the zxid of its last change")
        same(stat.czxid, stat.pzxid, "the zxid of its children")
        same((stat.dataLength, stat.numChildren, stat.ephemeralOwner), (3, 0, 0), "the counts")
        holds(abs(stat.ctime / 1000 - before) < PATIENCE, "made now")
        changed = one.set("/a", b"longer", version=0)
        same((changed.version, changed.dataLength), (1, 6), "after a change")
        holds(changed.mzxid > stat.mzxid and changed.czxid == stat.czxid, "the zxids of a change")
        same(changed.pzxid, stat.pzxid, "a change of data is none of children")
        one.create("/a/b")
        one.create("/a/c")
        one.delete("/a/b")
        parent = one.exists("/a")
        same((parent.cversion, parent.numChildren, parent.version), (3, 1, 1), "after changes of children")
        holds(parent.pzxid > changed.mzxid and parent.mzxid == changed.mzxid, "the zxids of changes of children")
        same(one.get("/a/c")[1].czxid < parent.pzxid, True, "deleting came last")


@case
def nothing_and_empty_data_differ():
    with client(place()) as one:
        one.create("/empty", b"")
        one.create("/null", None)
        same(one.get("/empty")[0], b"", "empty")
        same(one.get("/null")[0], None, "null")
        same(one.get("/null")[1].dataLength, 0, "the length of nothing")
        one.set("/empty", None)
        same(one.get("/empty")[0], None, "after a change")


@case
def errors():
    with client(place()) as one:
        with fails("NoNodeError"):
            one.get("/none")
        with fails("NoNodeError"):
            one.set("/none", b"")
        with fails("NoNodeError"):
            one.delete("/none")
        with fails("NoNodeError"):
            one.create("/none/below")
        with fails("NoNodeError"):
            one.get_children("/none")
        with fails("NoNodeError"):
            one.get_acls("/none")
        same(one.exists("/none"), None, "what is not there")
        one.create("/a/b", makepath=True)
        with fails("NodeExistsError"):
            one.create("/a")
        with fails("NotEmptyError"):
            one.delete("/a")
        with fails("BadVersionError"):
            one.set("/a", b"", version=7)
        with fails("BadVersionError"):
            one.delete("/a/b", version=7)
        one.create("/ephemeral", ephemeral=True)
        with fails("NoChildrenForEphemeralsError"):
            one.create("/ephemeral/below")
        with fails("InvalidACLError"):
            one.create("/acl", acl=[ACL(31, Id("nobody", "knows"))])
        with fails("BadArgumentsError"):
            one.create("/bad\x01path")


@case
def sequential_names():
    with client(place()) as one:
        one.ensure_path("/q")
        first = one.create("/q/n-", sequence=True)
        same(first, "/q/n-0000000000", "the first")
        same(one.create("/q/other-", sequence=True), "/q/other-0000000001", "another word")
        one.create("/q/plain")
        same(one.create("/q/n-", sequence=True, ephemeral=True), "/q/n-0000000003", "after a plain one")
        one.delete("/q/n-0000000003")
        same(one.create("/q/n-", sequence=True), "/q/n-0000000004", "after one was deleted")
        same(one.create("/q/", sequence=True), "/q/0000000005", "without a word")
        same(len(one.get_children("/q")), 5, "the children")


@case
def ephemerals_end_with_their_session():
    with client(root := place()) as one:
        with client(root) as other:
            other.create("/mine", b"x", ephemeral=True)
            other.create("/mine-", ephemeral=True, sequence=True)
            other.create("/stays", b"x")
            one.sync("/")
            same(one.exists("/mine").ephemeralOwner, other.client_id[0], "the owner")
        one.sync("/")
        same(sorted(one.get_children("/")), ["stays"], "what is left")


@case
def children_and_their_stat():
    with client(place()) as one:
        for number in range(100):
            one.create_async(f"/many/{number}" if number else "/many", b"")
        one.sync("/")
        eventually(lambda: len(one.get_children("/many")) == 99, "all are there")
        names, stat = one.get_children("/many", include_data=True)
        same((len(names), stat.numChildren, stat.cversion), (99, 99, 99), "the children")
        one.delete("/many", recursive=True)
        same(one.exists("/many"), None, "after all were deleted")


@case
def names_of_every_script():
    with client(place()) as one:
        for word in ("größe", "ключ", "鍵", "a b", "%2F", "a.b..c", "..."):
            path = one.create(f"/{word}", word.encode())
            same(one.get(path)[0], word.encode(), path)
        same(len(one.get_children("/")), 7, "the children")


@case
def answers_come_in_order():
    with client(place()) as one:
        one.create("/n", b"")
        results = []
        for number in range(300):
            results.append(("set", number, one.set_async("/n", b"%d" % number)))
            results.append(("get", number, one.get_async("/n")))
        for what, number, result in results:
            value = result.get(timeout=PATIENCE)
            if what == "set":
                same(value.version, number + 1, "the version")
            else:
                same(value[0], b"%d" % number, "a read behind a write of its own session")


@case
def large_data():
    with client(place()) as one:
        large = b"x" * 1_000_000
        one.create("/large", large)
        same(one.get("/large")[0], large, "what is read")
        one.set("/large", large[::-1])
        # One that is over `jute.maxbuffer` is refused, and what was there stays.
        with fails("ConnectionLoss", "ConnectionClosed", "BadArguments", "SessionExpired", "MarshallingError"):
            one.set("/large", b"x" * 1_100_000)
        eventually(lambda: one.connected, "the client is connected again")
        same(one.retry(one.get, "/large")[1].version, 1, "the version")


@case
def create_with_stat():
    with client(place()) as one:
        path, stat = one.create("/a", b"xyz", include_data=True)
        same((path, stat.dataLength, stat.version), ("/a", 3, 0), "the answer")
        path, stat = one.create("/a/s-", b"", include_data=True, ephemeral=True, sequence=True)
        same((path, stat.ephemeralOwner), ("/a/s-0000000000", one.client_id[0]), "the answer")


@case
def transaction():
    with client(place()) as one:
        one.create("/a", b"1")
        work = one.transaction()
        work.check("/a", 0)
        work.create("/b", b"2")
        work.create("/b/s-", b"", sequence=True, ephemeral=True)
        work.set_data("/b", b"3", version=0)
        work.delete("/a", version=0)
        result = work.commit()
        same((result[0], result[1], result[2], result[3].version, result[4]), (True, "/b", "/b/s-0000000000", 1, True), "the results")
        same(one.exists("/a"), None, "what was deleted")
        data, stat = one.get("/b")
        same(data, b"3", "what was set")
        same(stat.czxid, stat.mzxid, "all of it is one change")
        same(stat.czxid, one.get("/b/s-0000000000")[1].czxid, "all of it is one change")


@case
def transaction_that_fails_does_nothing():
    with client(place()) as one:
        one.create("/a", b"1")
        work = one.transaction()
        work.create("/b")
        work.set_data("/a", b"2")
        work.check("/a", 7)
        work.delete("/a")
        kinds = [type(result) for result in work.commit()]
        same(kinds, [RolledBackError, RolledBackError, BadVersionError, RuntimeInconsistency], "the results")
        same(one.exists("/b"), None, "what was not made")
        same(one.get("/a")[0], b"1", "what was not changed")
        work = one.transaction()
        work.delete("/none")
        same([type(result) for result in work.commit()], [NoNodeError], "the result of one")


@case
def rights():
    with client(root := place()) as one, client(root) as other:
        one.add_auth("digest", "alice:secret")
        mine = make_digest_acl("alice", "secret", all=True)
        look = ACL(1, Id("world", "anyone"))
        one.create("/private", b"p", acl=[mine])
        one.create("/shared", b"s", acl=[mine, look])
        other.sync("/")
        for attempt in (
            lambda: other.get("/private"),
            lambda: other.get_children("/private"),
            lambda: other.set("/shared", b""),
            lambda: other.create("/shared/below"),
            lambda: other.get_acls("/private"),
            lambda: other.set_acls("/shared", [look]),
        ):
            with fails("NoAuthError"):
                attempt()
        same(other.get("/shared")[0], b"s", "what everyone may read")
        one.create("/shared/below")
        other.sync("/")
        with fails("NoAuthError"):
            other.delete("/shared/below")
        other.add_auth("digest", "alice:secret")
        same(other.get("/private")[0], b"p", "with the right password")
        other.delete("/shared/below")


@case
def acls_have_versions():
    with client(place()) as one:
        one.create("/a")
        acls, stat = one.get_acls("/a")
        same([(acl.perms, acl.id.scheme, acl.id.id) for acl in acls], [(31, "world", "anyone")], "the first")
        same(stat.aversion, 0, "the version")
        after = one.set_acls("/a", [make_acl("world", "anyone", read=True, admin=True)], version=0)
        same((after.aversion, after.version, after.mzxid), (1, 0, stat.mzxid), "what changed")
        with fails("BadVersionError"):
            one.set_acls("/a", [make_acl("world", "anyone", all=True)], version=0)
        with fails("NoAuthError"):
            one.set("/a", b"")
        one.add_auth("digest", "bob:secret")
        one.set_acls("/a", [ACL(31, Id("auth", ""))])
        same(one.get_acls("/a")[0][0].id.scheme, "digest", "`auth` is who asks")
        with fails("InvalidACLError"):
            one.set_acls("/a", [])


@case
def by_address():
    with client(place()) as one:
        one.create("/here", b"x", acl=[ACL(31, Id("ip", "127.0.0.1"))])
        one.create("/net", b"x", acl=[ACL(31, Id("ip", "127.0.0.0/8"))])
        one.create("/elsewhere", b"x", acl=[ACL(31, Id("ip", "10.0.0.0/8"))])
        same(one.get("/here")[0], b"x", "from this address")
        same(one.get("/net")[0], b"x", "from this net")
        with fails("NoAuthError"):
            one.get("/elsewhere")


@case
def the_super_user_may_do_everything():
    with client(root := place()) as one, client(root) as other:
        one.add_auth("digest", "alice:secret")
        one.create("/private", b"p", acl=[make_digest_acl("alice", "secret", all=True)])
        other.sync("/")
        with fails("NoAuthError"):
            other.get("/private")
        other.add_auth("digest", "super:test")
        same(other.get("/private")[0], b"p", "what is read")


@case
def unknown_schemes_fail():
    with client(place()) as one:
        with fails("AuthFailedError"):
            one.add_auth("nobody", "knows:this")


@case
def chroot():
    with client(root := place()) as whole:
        whole.ensure_path("/deep/down")
        with client(f"{root}/deep/down") as one:
            one.create("/a", b"x")
            whole.sync("/")
            same(whole.get("/deep/down/a")[0], b"x", "the whole path")
            same(one.get_children("/"), ["a"], "what it sees")
            same(one.create("/s-", sequence=True), "/s-0000000001", "the path of an answer")


@case
def paths_beyond_the_rules():
    with client() as one:
        for path in ("/zookeeper", "/zookeeper/quota"):
            holds(one.exists(path), path)
            with fails("BadArgumentsError", "NoAuthError", "NotEmptyError"):
                one.delete(path)
        holds("zookeeper" in one.get_children("/"), "the root has it")


@case
def four_letter_words():
    with client(place()) as one:
        same(one.command(b"ruok"), "imok", "ruok")
        holds(one.server_version() >= (3, 8), "the version is one that clients know")
        for server in SERVERS:
            srvr = four_letters("srvr", server)
            for line in ("Zookeeper version: ", "Latency min/avg/max: ", "Received: ", "Sent: ", "Connections: ", "Outstanding: ", "Zxid: 0x", "Mode: ", "Node count: "):
                holds(line in srvr, f"`srvr` has `{line}`")
        stat = four_letters("stat")
        holds("Clients:\n" in stat and "Mode: " in stat, "stat")
        mntr = dict(line.split("\t", 1) for line in four_letters("mntr").splitlines() if "\t" in line)
        for key in ("zk_version", "zk_server_state", "zk_avg_latency", "zk_num_alive_connections", "zk_outstanding_requests",
                    "zk_znode_count", "zk_watch_count", "zk_ephemerals_count", "zk_approximate_data_size",
                    "zk_packets_received", "zk_packets_sent", "zk_open_file_descriptor_count", "zk_max_file_descriptor_count"):
            holds(key in mntr, f"`mntr` has `{key}`")
        same(four_letters("isro").strip(), "rw", "isro")
        for word, part in (("conf", "clientPort="), ("conf", "tickTime="), ("envi", "Environment:"), ("wchs", "Total watches:"), ("cons", "sid=0x")):
            found = "".join(four_letters(word, server) for server in SERVERS)
            holds(part in found, f"`{word}` has `{part}`")
        # Words that nobody knows are taken for a length that is too large.
        same(four_letters("abcd"), "", "an unknown word")


run(together=4)
