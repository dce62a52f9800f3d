# needs: zookeeper
# ensemble: 1 3
"""ZooKeeper's own command line, as `zkCli.sh` starts it: what people type."""

import os
import re
import subprocess

from support import PATIENCE, case, holds, name, run

SERVERS = os.environ.get("FLOW_INTEROP_ZOOKEEPER", "127.0.0.1:2181")
JARS = "/usr/share/java/zookeeper.jar"


def typed(*commands):
    """What a session with these commands prints, line by line, without what it says of itself."""
    done = subprocess.run(
        ["java", "-Xmx64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", JARS,
         "org.apache.zookeeper.ZooKeeperMain", "-timeout", "10000", "-server", SERVERS],
        # Answers and errors in one stream: some answers are told as errors.
        input="\n".join([*commands, "quit", ""]), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=PATIENCE * 4, check=False,
    )
    return [line for line in done.stdout.splitlines() if not line.startswith("SLF4J")]


def shows(lines, *patterns):
    """Each pattern is found, behind the one before it."""
    at = 0
    for pattern in patterns:
        found = next((n for n in range(at, len(lines)) if re.search(pattern, lines[n])), None)
        holds(found is not None, f"`{pattern}` is behind line {at} of {lines}")
        at = found + 1


@case
def nodes():
    top = f"/{name('cli')}"
    lines = typed(
        f"create {top} hello",
        f"create {top}/a one",
        f"create {top}/a/b two",
        f"create -s {top}/s- x",
        f"ls {top}",
        f"ls -R {top}",
        f"ls -s {top}",
        f"get {top}",
        f"get -s {top}/a",
        f"set -v 0 {top} changed",
        f"get {top}",
        f"stat {top}",
        f"getAllChildrenNumber {top}",
        f"sync {top}",
        f"delete {top}/a/b",
        f"deleteall {top}",
        f"ls {top}",
        "version",
    )
    shows(
        lines,
        f"^Created {top}$",
        f"^Created {top}/a$",
        f"^Created {top}/a/b$",
        f"^Created {top}/s-0000000001$",
        r"^\[a, s-0000000001\]$",
        f"^{top}$",
        f"^{top}/a$",
        f"^{top}/s-0000000001$",
        f"^{top}/a/b$",
        r"^\[a, s-0000000001\]",
        "^cZxid = 0x",
        "^numChildren = 2$",
        "^hello$",
        "^one$",
        "^cversion = 1$",
        "^dataLength = 3$",
        "^changed$",
        "^dataVersion = 1$",
        "^3$",
        "^Sync is OK$",
        f"^Node does not exist: {top}$",
    )


@case
def what_goes_wrong():
    top = f"/{name('cli')}"
    lines = typed(
        f"get {top}",
        f"create {top} x",
        f"create {top} x",
        f"set -v 7 {top} y",
        f"create {top}/a x",
        f"delete {top}",
        f"delete -v 7 {top}/a",
        f"create -e {top}/e x",
        f"create {top}/e/below x",
        f"create {top}/none/below x",
        f"removewatches {top}",
    )
    shows(
        lines,
        f"^Node does not exist: {top}$",
        f"^Node already exists: {top}$",
        f"^version No is not valid : {top}$",
        f"^Node not empty: {top}$",
        f"^version No is not valid : {top}/a$",
        f"^Ephemerals cannot have children: {top}/e/below$",
        f"^Node does not exist: {top}/none/below$",
    )


@case
def rights_kinds_and_quotas():
    top = f"/{name('cli')}"
    lines = typed(
        f"create {top} x",
        f"getAcl {top}",
        "addauth digest a:b",
        f"create {top}/mine x auth::cdrwa",
        f"getAcl -s {top}/mine",
        f"setAcl {top}/mine world:anyone:r",
        f"set {top}/mine y",
        "whoami",
        f"create -e {top}/e x",
        f"create -e -s {top}/e- x",
        f"getEphemerals {top}",
        f"create -c {top}/container x",
        f"create -t 600000 {top}/ttl x",
        f"create -s -t 600000 {top}/ttl- x",
        f"setquota -n 10 {top}",
        f"listquota {top}",
        f"setquota -N 12 {top}",
        f"listquota {top}",
        f"delquota {top}",
        f"listquota {top}",
    )
    shows(
        lines,
        f"^Created {top}$",
        "^'world,'anyone$",
        "^: cdrwa$",
        f"^Created {top}/mine$",
        "^'digest,'a:",
        "^aclVersion = 0$",
        "digest: a$",
        f"^Created {top}/e$",
        f"^Created {top}/e-",
        f"{top}/e",
        f"^Created {top}/container$",
        f"^Created {top}/ttl$",
        f"^Created {top}/ttl-",
        f"^Output quota for {top} count=10,bytes=-1",
        f"^Output stat for {top} count=7,bytes=7$",
        f"^Output quota for {top} count=10,bytes=-1.*countHardLimit=12",
    )
    shows(lines, f"^Insufficient permission : {top}/mine$")
    shows(lines, f"^quota for {top} does not exist.$")


@case
def hard_quota():
    top = f"/{name('cli')}"
    lines = typed(f"create {top} x", f"setquota -N 2 {top}", f"create {top}/a x", f"create {top}/b x", f"ls {top}")
    shows(lines, f"^Created {top}/a$", r"^\[a\]$")
    shows(lines, f"^Quota has exceeded : {top}")


@case
def watches_and_configuration():
    top = f"/{name('cli')}"
    lines = typed(
        f"create {top} x",
        f"get -w {top}",
        f"ls -w {top}",
        f"set {top} y",
        f"create {top}/a x",
        f"addWatch -m PERSISTENT_RECURSIVE {top}",
        f"set {top}/a y",
        f"sync {top}",
        "config",
    )
    shows(lines, f"type:NodeDataChanged path:{top}$")
    shows(lines, f"type:NodeChildrenChanged path:{top}$")
    shows(lines, f"type:NodeDataChanged path:{top}/a$")
    # A server of its own has no members to tell of.
    if "," in SERVERS:
        shows(lines, "^server.1=", "^server.3=", "^version=")


run(together=2)
