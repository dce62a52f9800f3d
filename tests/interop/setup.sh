#!/usr/bin/env bash
# Installs the clients of Kafka and ZooKeeper that tests/interop drives: kcat and ZooKeeper (server and command line)
# from Debian (as root), and those of requirements.txt from PyPI in an environment of their own below the target
# directory. Does nothing when all of it is there. Without a network the tests are skipped, not failed, unless
# FLOW_INTEROP=require.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
target="${CARGO_TARGET_DIR:-$here/../../target}"
venv="$target/interop/venv"
mark="$venv/installed.txt"

skip() {
  echo "skipped: $1" >&2
  if [ "${FLOW_INTEROP:-}" = require ]; then exit 1; fi
  missing=1
}

if [ "${FLOW_INTEROP:-}" = off ]; then
  echo "interop: off, nothing is installed"
  exit 0
fi
missing=0
log="$(mktemp)"
trap 'rm -f "$log"' EXIT

apt_install() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || return 1
  echo "interop: installing $* with apt-get"
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -y -qq --no-install-recommends "$@" >"$log" 2>&1 && return 0
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"; } >"$log" 2>&1 && return 0
  tail -n 3 "$log" >&2
  return 1
}

if ! command -v kcat >/dev/null 2>&1; then
  apt_install kcat || skip "kcat is not installed, and apt-get does not install it here"
fi

# The package `zookeeper` adds two scripts to this one, and brings a Java with windows and sound.
if [ ! -e /usr/share/java/zookeeper.jar ]; then
  apt_install libzookeeper-java || skip "Debian's ZooKeeper is not installed, and apt-get does not install it here"
fi
if ! command -v java >/dev/null 2>&1; then
  apt_install default-jre-headless || skip "there is no java for ZooKeeper, and apt-get does not install it here"
fi

if ! command -v python3 >/dev/null 2>&1 && ! apt_install python3 python3-venv; then
  skip "there is no python3"
elif ! cmp -s "$here/requirements.txt" "$mark"; then
  echo "interop: installing $(grep -v '^#' "$here/requirements.txt" | tr '\n' ' ')from PyPI into $venv"
  rm -rf "$venv"
  mkdir -p "$(dirname "$venv")"
  if ! python3 -m venv "$venv" >"$log" 2>&1; then
    rm -rf "$venv"
    # Debian keeps this module in a package of its own.
    { apt_install python3-venv && python3 -m venv "$venv" >"$log" 2>&1; } || skip "python3 makes no environment: $(tail -n 1 "$log")"
  fi
  if [ -x "$venv/bin/pip" ]; then
    if "$venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: -r "$here/requirements.txt" >"$log" 2>&1; then
      cp "$here/requirements.txt" "$mark"
    else
      tail -n 3 "$log" >&2
      rm -rf "$venv"
      skip "the Python clients cannot be installed"
    fi
  fi
fi

if [ "$missing" = 0 ]; then
  echo "interop: $(kcat -V 2>&1 | sed -n 's/^Version \([^ ]*\).*/kcat \1/p'), $(grep -v '^#' "$here/requirements.txt" | head -4 | tr '\n' ' ')ZooKeeper $(dpkg-query -W -f '${Version}' libzookeeper-java 2>/dev/null || true) ready"
fi
