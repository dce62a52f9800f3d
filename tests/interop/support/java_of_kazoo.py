#!/usr/bin/env python3
"""Stands where kazoo's test suite looks for `java`: starts our coordinator with the `zoo.cfg` that it is given."""

import os
import sys

configuration = sys.argv[-1]
settings, members = {}, {}
with open(configuration) as lines:
    for line in lines:
        name, separator, value = line.strip().partition("=")
        if name.startswith("server."):
            members[int(name[len("server."):])] = value.split(":")
        elif separator:
            settings[name] = value
data = settings["dataDir"]
with open(os.path.join(data, "myid")) as text:
    server = int(text.read())

arguments = ["--data", os.path.join(data, "flow"), "--tick", settings["tickTime"], "--words", "*", "--reconfig"]
for word in sys.argv:
    if word.startswith("-Dzookeeper.DigestAuthenticationProvider.superDigest="):
        arguments += ["--super", word.partition("=")[2]]
    if word == "-Dreadonlymode.enabled=true":
        arguments.append("--read-only")
if members:
    # The suite gives its servers ports in steps of ten, the clients' first.
    own = int(settings["clientPort"])
    arguments += ["--server", str(server)]
    for member, (host, peers, _, kind) in sorted(members.items()):
        client = own + 10 * (member - server)
        observer = ",observer" if kind == "observer" else ""
        arguments += ["--member", f"{member}=127.0.0.1:{peers},127.0.0.1:{client}{observer}"]
else:
    arguments += ["--listen", f"127.0.0.1:{settings['clientPort']}"]
os.execv(os.environ["FLOW_COORDINATOR"], [os.environ["FLOW_COORDINATOR"], *arguments])
