#!/usr/bin/env bash
# Runs kazoo's own test suite against the coordinator: kazoo_suite.sh COORDINATOR [pytest arguments…]
#
# COORDINATOR is the program `cargo build --release -p flow-coordinator --example coordinator`. The suite starts its
# servers itself, as `java … QuorumPeerMain zoo.cfg`; it is given a `java` that reads that configuration and starts
# ours with it, so that not a line of the suite is changed. With REAL=1 it has the machine's java, and so ZooKeeper.
# SERVERS is how many servers there are (3). What does not pass, and why, stands in kazoo_suite.txt.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
if [ $# -lt 1 ]; then
  sed -n '2,4p' "$0" >&2
  exit 2
fi
coordinator="$(realpath "$1")"
shift
target="${CARGO_TARGET_DIR:-$here/../../target}"
venv="$target/interop/kazoo"
version="$(sed -n 's/^kazoo==//p' "$here/requirements.txt")"
mark="$venv/version.txt"
if [ "$(cat "$mark" 2>/dev/null)" != "$version" ]; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  # pyopenssl from 25 on no longer makes the extensions that the suite asks it for.
  "$venv/bin/pip" install -q --disable-pip-version-check "kazoo[test,sasl]==$version" "pyopenssl<25"
  echo "$version" >"$mark"
fi

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
if [ -z "${REAL:-}" ]; then
  ln -s "$here/support/java_of_kazoo.py" "$work/java"
  export PATH="$work:$PATH" FLOW_COORDINATOR="$coordinator"
fi
export ZOOKEEPER_VERSION=3.8.0 ZOOKEEPER_CLASSPATH=/usr/share/java/zookeeper.jar
export ZOOKEEPER_CLUSTER_SIZE="${SERVERS:-3}" ZOOKEEPER_PORT_OFFSET="${PORT:-24000}"
cd "$work"
exec "$venv/bin/python" -m pytest -q --timeout="${LIMIT:-120}" -p no:cacheprovider --pyargs kazoo.tests "$@"
