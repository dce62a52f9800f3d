#!/usr/bin/env python3
"""Writes the tables of `src/wire/shape` from Kafka's message descriptions.

    shapes.py KAFKA/clients/src/main/resources/common/message src/wire/shape

Only facts are taken: order, types, versions and tags of the fields."""

import json
import re
import sys
from pathlib import Path

# The APIs that a broker answers or that the client asks for.
APIS = """Produce Fetch ListOffsets Metadata OffsetCommit OffsetFetch FindCoordinator JoinGroup Heartbeat LeaveGroup
SyncGroup DescribeGroups ListGroups SaslHandshake ApiVersions CreateTopics DeleteTopics DeleteRecords InitProducerId
OffsetForLeaderEpoch AddPartitionsToTxn AddOffsetsToTxn EndTxn WriteTxnMarkers TxnOffsetCommit DescribeAcls CreateAcls
DeleteAcls DescribeConfigs AlterConfigs AlterReplicaLogDirs DescribeLogDirs SaslAuthenticate CreatePartitions
DeleteGroups ElectLeaders IncrementalAlterConfigs AlterPartitionReassignments ListPartitionReassignments OffsetDelete
DescribeClientQuotas AlterClientQuotas DescribeUserScramCredentials AlterUserScramCredentials DescribeCluster
DescribeProducers DescribeTransactions ListTransactions ConsumerGroupHeartbeat ConsumerGroupDescribe
DescribeTopicPartitions""".split()
FIXED = {"bool": 1, "int8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8, "float64": 8, "uuid": 16}
MAX = 32767


def versions(text):
    if text == "none":
        return MAX, -1
    low, _, high = text.rstrip("+").partition("-")
    return int(low), MAX if text.endswith("+") else int(high or low)


def kind(field, structs):
    name = field["type"]
    if name.startswith("[]"):
        return f"Array(&{kind(dict(field, type=name[2:], nullableVersions='none'), structs)})"
    if name in FIXED:
        return f"Fixed({FIXED[name]})"
    if name == "string":
        return "Text"
    if name in ("bytes", "records"):
        return "Bytes"
    body = table(field.get("fields") or structs[name], structs)
    return f"{'Optional' if field.get('nullableVersions', 'none') != 'none' else 'Struct'}(&{body})"


def table(fields, structs):
    entries = []
    for field in fields:
        low, high = versions(field["versions"])
        what = kind(field, structs)
        if "tag" in field:
            low, high = versions(field["taggedVersions"])
            entries.append((low, high, field["tag"], what))
        elif entries and entries[-1][:3] == (low, high, None) and "Fixed" in what[:5] and "Fixed" in entries[-1][3][:5]:
            # Neighbours of fixed size are one.
            size = sum(int(text[6:-1]) for text in (what, entries[-1][3]))
            entries[-1] = (low, high, None, f"Fixed({size})")
        else:
            entries.append((low, high, None, what))
    return "[" + ", ".join(map(entry, entries)) + "]"


def entry(of):
    low, high, tag, what = of
    low_high = f"{low}, {'MAX' if high == MAX else high}"
    if tag is not None:
        return f"tag({tag}, {low_high}, {what})"
    return f"all({what})" if (low, high) == (0, MAX) else f"of({low_high}, {what})"


def main(source, target):
    for side in ("Request", "Response"):
        lines = [
            f"//! What {side.lower()}s consist of. Written by `shapes.py` from Kafka's message descriptions.",
            "",
            "use super::{Kind::*, MAX, Message, all, of, tag};",
            "",
            f"/// The shape of the {side.lower()} of an API.",
            "pub(super) fn shape(key: i16) -> Option<&'static Message> {",
            "    Some(match key {",
        ]
        tables = []
        for api in APIS:
            text = (Path(source) / f"{api}{side}.json").read_text()
            message = json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.M))
            structs = {common["name"]: common["fields"] for common in message.get("commonStructs", [])}
            flexible = versions(message["flexibleVersions"])[0]
            name = re.sub(r"(?<!^)(?=[A-Z])", "_", api).upper()
            lines.append(f"        {message['apiKey']} => &{name},")
            tables.append(
                f"static {name}: Message = Message {{ flexible: {'MAX' if flexible == MAX else flexible}, "
                f"fields: &{table(message['fields'], structs)} }};"
            )
        lines += ["        _ => return None,", "    })", "}", "", *tables]
        (Path(target) / f"{side.lower()}s.rs").write_text("\n".join(lines) + "\n")


main(*sys.argv[1:])
