#!/usr/bin/env bash
# Runs librdkafka's own test programs against a broker: librdkafka.sh SOURCE_DIR HOST:PORT [TEST…]
#
# SOURCE_DIR is a checkout of librdkafka (2.14.0 is what the list beside this file was made with); its test-runner is
# built there when it is missing: make, gcc, g++ and the headers of OpenSSL, zlib, zstd and curl are needed. Without
# tests named it runs those of librdkafka.txt. Each test is a process of its own with a limit of LIMIT seconds (180), or
# of LIMIT_LONG (1200) where it waits for longer than that by itself.
# The broker must make topics that are asked for by name, with four partitions, and have ACLs, as librdkafka's own
# cluster does: `cargo run -p flow-broker --example broker -- 19092 /tmp/data 4 User:ANONYMOUS`. That cluster has three
# brokers; so that topics can be made on one, the number of replicas is set to 1 in a line of the checkout's tests/test.c.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
if [ $# -lt 2 ]; then
  sed -n '2,4p' "$0" >&2
  exit 2
fi
source_dir="$(cd "$1" && pwd)"
broker="$2"
shift 2
limit_short="${LIMIT:-180}"
limit_long="${LIMIT_LONG:-1200}"

asked='rd_kafka_NewTopic_new(topicname, partition_cnt, replication_factor,'
if grep -qF "$asked" "$source_dir/tests/test.c"; then
  sed -i "s/$asked/rd_kafka_NewTopic_new(topicname, partition_cnt, 1,/" "$source_dir/tests/test.c"
  rm -f "$source_dir/tests/test-runner"
fi
if [ ! -x "$source_dir/tests/test-runner" ]; then
  (cd "$source_dir" && ./configure --disable-gssapi && make -j1 libs && make -j1 -C tests build) >"$source_dir/build.log" 2>&1 ||
    { tail -n 20 "$source_dir/build.log" >&2; exit 2; }
fi

list="$here/librdkafka.txt"
tests=("$@")
if [ $# = 0 ]; then
  mapfile -t tests < <(grep -v '^ *#' "$list" | awk '$2 == "pass" { print $1 }')
fi

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
printf 'metadata.broker.list=%s\ntest.topic.random=true\n' "$broker" >"$work/test.conf"
logs="${LOGS:-$work}"
mkdir -p "$logs"

passed=0
failed=0
skipped=0
for test in "${tests[@]}"; do
  log="$logs/$test.log"
  scenario=default
  limit="$limit_short"
  case "$test" in
    0107 | 0111) scenario=noautocreate ;;
    # Its parts wait one after another: eleven minutes in all.
    0113) limit="$limit_long" ;;
  esac
  start=$SECONDS
  status=0
  (
    cd "$source_dir/tests"
    # Plugins of the tests are found by this path.
    export LD_LIBRARY_PATH="../src:../src-cpp" RDKAFKA_TEST_CONF="$work/test.conf"
    export TESTS="$test" TEST_KAFKA_VERSION="${TEST_KAFKA_VERSION:-3.9.0}" TEST_SCENARIO="$scenario"
    exec timeout --kill-after=5 "$limit" ./test-runner -p1
  ) >"$log" 2>&1 || status=$?
  # The table at the end has a line for each.
  if grep -qE "^\| +$test[^|]*\|[^|]*FAILED" <(sed 's/\x1b\[[0-9;]*m//g' "$log") || [ "$status" != 0 ]; then
    failed=$((failed + 1))
    word="FAILED"
    [ "$status" = 124 ] && word="FAILED (no end after $limit s)"
  elif grep -qE "^\| +$test[^|]*\|[^|]*PASSED" <(sed 's/\x1b\[[0-9;]*m//g' "$log"); then
    passed=$((passed + 1))
    word="ok"
  else
    skipped=$((skipped + 1))
    word="skipped"
  fi
  echo "$test ... $word ($((SECONDS - start))s)"
  if [ "${word#FAILED}" != "$word" ]; then
    sed 's/\x1b\[[0-9;]*m//g' "$log" | grep -E "TEST FAILURE|Failed|FAILED|ERROR|rror:|assert" | head -n 4 | cut -c1-300 | sed 's/^/    /' || true
  fi
done
echo "librdkafka: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
