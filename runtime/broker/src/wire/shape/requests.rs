//! What requests consist of. Written by `shapes.py` from Kafka's message descriptions.

use super::{Kind::*, MAX, Message, all, of, tag};

/// The shape of the request of an API.
pub(super) fn shape(key: i16) -> Option<&'static Message> {
    Some(match key {
        0 => &PRODUCE,
        1 => &FETCH,
        2 => &LIST_OFFSETS,
        3 => &METADATA,
        8 => &OFFSET_COMMIT,
        9 => &OFFSET_FETCH,
        10 => &FIND_COORDINATOR,
        11 => &JOIN_GROUP,
        12 => &HEARTBEAT,
        13 => &LEAVE_GROUP,
        14 => &SYNC_GROUP,
        15 => &DESCRIBE_GROUPS,
        16 => &LIST_GROUPS,
        17 => &SASL_HANDSHAKE,
        18 => &API_VERSIONS,
        19 => &CREATE_TOPICS,
        20 => &DELETE_TOPICS,
        21 => &DELETE_RECORDS,
        22 => &INIT_PRODUCER_ID,
        23 => &OFFSET_FOR_LEADER_EPOCH,
        24 => &ADD_PARTITIONS_TO_TXN,
        25 => &ADD_OFFSETS_TO_TXN,
        26 => &END_TXN,
        27 => &WRITE_TXN_MARKERS,
        28 => &TXN_OFFSET_COMMIT,
        29 => &DESCRIBE_ACLS,
        30 => &CREATE_ACLS,
        31 => &DELETE_ACLS,
        32 => &DESCRIBE_CONFIGS,
        33 => &ALTER_CONFIGS,
        34 => &ALTER_REPLICA_LOG_DIRS,
        35 => &DESCRIBE_LOG_DIRS,
        36 => &SASL_AUTHENTICATE,
        37 => &CREATE_PARTITIONS,
        42 => &DELETE_GROUPS,
        43 => &ELECT_LEADERS,
        44 => &INCREMENTAL_ALTER_CONFIGS,
        45 => &ALTER_PARTITION_REASSIGNMENTS,
        46 => &LIST_PARTITION_REASSIGNMENTS,
        47 => &OFFSET_DELETE,
        48 => &DESCRIBE_CLIENT_QUOTAS,
        49 => &ALTER_CLIENT_QUOTAS,
        50 => &DESCRIBE_USER_SCRAM_CREDENTIALS,
        51 => &ALTER_USER_SCRAM_CREDENTIALS,
        60 => &DESCRIBE_CLUSTER,
        61 => &DESCRIBE_PRODUCERS,
        65 => &DESCRIBE_TRANSACTIONS,
        66 => &LIST_TRANSACTIONS,
        68 => &CONSUMER_GROUP_HEARTBEAT,
        69 => &CONSUMER_GROUP_DESCRIBE,
        75 => &DESCRIBE_TOPIC_PARTITIONS,
        _ => return None,
    })
}

static PRODUCE: Message = Message {
    flexible: 9,
    fields: &[
        of(3, MAX, Text),
        all(Fixed(6)),
        all(Array(&Struct(&[all(Text), all(Array(&Struct(&[all(Fixed(4)), all(Bytes)])))]))),
    ],
};
static FETCH: Message = Message {
    flexible: 12,
    fields: &[
        tag(0, 12, MAX, Text),
        of(0, 14, Fixed(4)),
        tag(1, 15, MAX, Struct(&[of(15, MAX, Fixed(12))])),
        all(Fixed(8)),
        of(3, MAX, Fixed(4)),
        of(4, MAX, Fixed(1)),
        of(7, MAX, Fixed(8)),
        all(Array(&Struct(&[
            of(0, 12, Text),
            of(13, MAX, Fixed(16)),
            all(Array(&Struct(&[
                all(Fixed(4)),
                of(9, MAX, Fixed(4)),
                all(Fixed(8)),
                of(12, MAX, Fixed(4)),
                of(5, MAX, Fixed(8)),
                all(Fixed(4)),
                tag(0, 17, MAX, Fixed(16)),
            ]))),
        ]))),
        of(7, MAX, Array(&Struct(&[of(7, 12, Text), of(13, MAX, Fixed(16)), of(7, MAX, Array(&Fixed(4)))]))),
        of(11, MAX, Text),
    ],
};
static LIST_OFFSETS: Message = Message {
    flexible: 6,
    fields: &[
        all(Fixed(4)),
        of(2, MAX, Fixed(1)),
        all(Array(&Struct(&[
            all(Text),
            all(Array(&Struct(&[all(Fixed(4)), of(4, MAX, Fixed(4)), all(Fixed(8)), of(0, 0, Fixed(4))]))),
        ]))),
        of(10, MAX, Fixed(4)),
    ],
};
static METADATA: Message = Message {
    flexible: 9,
    fields: &[
        all(Array(&Struct(&[of(10, MAX, Fixed(16)), all(Text)]))),
        of(4, MAX, Fixed(1)),
        of(8, 10, Fixed(1)),
        of(8, MAX, Fixed(1)),
    ],
};
static OFFSET_COMMIT: Message = Message {
    flexible: 8,
    fields: &[
        all(Text),
        of(1, MAX, Fixed(4)),
        of(1, MAX, Text),
        of(7, MAX, Text),
        of(2, 4, Fixed(8)),
        all(Array(&Struct(&[
            all(Text),
            all(Array(&Struct(&[all(Fixed(12)), of(6, MAX, Fixed(4)), of(1, 1, Fixed(8)), all(Text)]))),
        ]))),
    ],
};
static OFFSET_FETCH: Message = Message {
    flexible: 6,
    fields: &[
        of(0, 7, Text),
        of(0, 7, Array(&Struct(&[of(0, 7, Text), of(0, 7, Array(&Fixed(4)))]))),
        of(
            8,
            MAX,
            Array(&Struct(&[
                of(8, MAX, Text),
                of(9, MAX, Text),
                of(9, MAX, Fixed(4)),
                of(8, MAX, Array(&Struct(&[of(8, MAX, Text), of(8, MAX, Array(&Fixed(4)))]))),
            ])),
        ),
        of(7, MAX, Fixed(1)),
    ],
};
static FIND_COORDINATOR: Message =
    Message { flexible: 3, fields: &[of(0, 3, Text), of(1, MAX, Fixed(1)), of(4, MAX, Array(&Text))] };
static JOIN_GROUP: Message = Message {
    flexible: 6,
    fields: &[
        all(Text),
        all(Fixed(4)),
        of(1, MAX, Fixed(4)),
        all(Text),
        of(5, MAX, Text),
        all(Text),
        all(Array(&Struct(&[all(Text), all(Bytes)]))),
        of(8, MAX, Text),
    ],
};
static HEARTBEAT: Message =
    Message { flexible: 4, fields: &[all(Text), all(Fixed(4)), all(Text), of(3, MAX, Text)] };
static LEAVE_GROUP: Message = Message {
    flexible: 4,
    fields: &[
        all(Text),
        of(0, 2, Text),
        of(3, MAX, Array(&Struct(&[of(3, MAX, Text), of(3, MAX, Text), of(5, MAX, Text)]))),
    ],
};
static SYNC_GROUP: Message = Message {
    flexible: 4,
    fields: &[
        all(Text),
        all(Fixed(4)),
        all(Text),
        of(3, MAX, Text),
        of(5, MAX, Text),
        of(5, MAX, Text),
        all(Array(&Struct(&[all(Text), all(Bytes)]))),
    ],
};
static DESCRIBE_GROUPS: Message = Message { flexible: 5, fields: &[all(Array(&Text)), of(3, MAX, Fixed(1))] };
static LIST_GROUPS: Message =
    Message { flexible: 3, fields: &[of(4, MAX, Array(&Text)), of(5, MAX, Array(&Text))] };
static SASL_HANDSHAKE: Message = Message { flexible: MAX, fields: &[all(Text)] };
static API_VERSIONS: Message = Message { flexible: 3, fields: &[of(3, MAX, Text), of(3, MAX, Text)] };
static CREATE_TOPICS: Message = Message {
    flexible: 5,
    fields: &[
        all(Array(&Struct(&[
            all(Text),
            all(Fixed(6)),
            all(Array(&Struct(&[all(Fixed(4)), all(Array(&Fixed(4)))]))),
            all(Array(&Struct(&[all(Text), all(Text)]))),
        ]))),
        all(Fixed(4)),
        of(1, MAX, Fixed(1)),
    ],
};
static DELETE_TOPICS: Message = Message {
    flexible: 4,
    fields: &[
        of(6, MAX, Array(&Struct(&[of(6, MAX, Text), of(6, MAX, Fixed(16))]))),
        of(0, 5, Array(&Text)),
        all(Fixed(4)),
    ],
};
static DELETE_RECORDS: Message = Message {
    flexible: 2,
    fields: &[all(Array(&Struct(&[all(Text), all(Array(&Struct(&[all(Fixed(12))])))]))), all(Fixed(4))],
};
static INIT_PRODUCER_ID: Message =
    Message { flexible: 2, fields: &[all(Text), all(Fixed(4)), of(3, MAX, Fixed(10))] };
static OFFSET_FOR_LEADER_EPOCH: Message = Message {
    flexible: 4,
    fields: &[
        of(3, MAX, Fixed(4)),
        all(Array(&Struct(&[
            all(Text),
            all(Array(&Struct(&[all(Fixed(4)), of(2, MAX, Fixed(4)), all(Fixed(4))]))),
        ]))),
    ],
};
static ADD_PARTITIONS_TO_TXN: Message = Message {
    flexible: 3,
    fields: &[
        of(
            4,
            MAX,
            Array(&Struct(&[
                of(4, MAX, Text),
                of(4, MAX, Fixed(11)),
                of(4, MAX, Array(&Struct(&[all(Text), all(Array(&Fixed(4)))]))),
            ])),
        ),
        of(0, 3, Text),
        of(0, 3, Fixed(10)),
        of(0, 3, Array(&Struct(&[all(Text), all(Array(&Fixed(4)))]))),
    ],
};
static ADD_OFFSETS_TO_TXN: Message = Message { flexible: 3, fields: &[all(Text), all(Fixed(10)), all(Text)] };
static END_TXN: Message = Message { flexible: 3, fields: &[all(Text), all(Fixed(11))] };
static WRITE_TXN_MARKERS: Message = Message {
    flexible: 1,
    fields: &[all(Array(&Struct(&[
        all(Fixed(11)),
        all(Array(&Struct(&[all(Text), all(Array(&Fixed(4)))]))),
        all(Fixed(4)),
    ])))],
};
static TXN_OFFSET_COMMIT: Message = Message {
    flexible: 3,
    fields: &[
        all(Text),
        all(Text),
        all(Fixed(10)),
        of(3, MAX, Fixed(4)),
        of(3, MAX, Text),
        of(3, MAX, Text),
        all(Array(&Struct(&[
            all(Text),
            all(Array(&Struct(&[all(Fixed(12)), of(2, MAX, Fixed(4)), all(Text)]))),
        ]))),
    ],
};
static DESCRIBE_ACLS: Message = Message {
    flexible: 2,
    fields: &[all(Fixed(1)), all(Text), of(1, MAX, Fixed(1)), all(Text), all(Text), all(Fixed(2))],
};
static CREATE_ACLS: Message = Message {
    flexible: 2,
    fields: &[all(Array(&Struct(&[
        all(Fixed(1)),
        all(Text),
        of(1, MAX, Fixed(1)),
        all(Text),
        all(Text),
        all(Fixed(2)),
    ])))],
};
static DELETE_ACLS: Message = Message {
    flexible: 2,
    fields: &[all(Array(&Struct(&[
        all(Fixed(1)),
        all(Text),
        of(1, MAX, Fixed(1)),
        all(Text),
        all(Text),
        all(Fixed(2)),
    ])))],
};
static DESCRIBE_CONFIGS: Message = Message {
    flexible: 4,
    fields: &[
        all(Array(&Struct(&[all(Fixed(1)), all(Text), all(Array(&Text))]))),
        of(1, MAX, Fixed(1)),
        of(3, MAX, Fixed(1)),
    ],
};
static ALTER_CONFIGS: Message = Message {
    flexible: 2,
    fields: &[
        all(Array(&Struct(&[all(Fixed(1)), all(Text), all(Array(&Struct(&[all(Text), all(Text)])))]))),
        all(Fixed(1)),
    ],
};
static ALTER_REPLICA_LOG_DIRS: Message = Message {
    flexible: 2,
    fields: &[all(Array(&Struct(&[all(Text), all(Array(&Struct(&[all(Text), all(Array(&Fixed(4)))])))])))],
};
static DESCRIBE_LOG_DIRS: Message =
    Message { flexible: 2, fields: &[all(Array(&Struct(&[all(Text), all(Array(&Fixed(4)))])))] };
static SASL_AUTHENTICATE: Message = Message { flexible: 2, fields: &[all(Bytes)] };
static CREATE_PARTITIONS: Message = Message {
    flexible: 2,
    fields: &[
        all(Array(&Struct(&[all(Text), all(Fixed(4)), all(Array(&Struct(&[all(Array(&Fixed(4)))])))]))),
        all(Fixed(5)),
    ],
};
static DELETE_GROUPS: Message = Message { flexible: 2, fields: &[all(Array(&Text))] };
static ELECT_LEADERS: Message = Message {
    flexible: 2,
    fields: &[of(1, MAX, Fixed(1)), all(Array(&Struct(&[all(Text), all(Array(&Fixed(4)))]))), all(Fixed(4))],
};
static INCREMENTAL_ALTER_CONFIGS: Message = Message {
    flexible: 1,
    fields: &[
        all(Array(&Struct(&[
            all(Fixed(1)),
            all(Text),
            all(Array(&Struct(&[all(Text), all(Fixed(1)), all(Text)]))),
        ]))),
        all(Fixed(1)),
    ],
};
static ALTER_PARTITION_REASSIGNMENTS: Message = Message {
    flexible: 0,
    fields: &[
        all(Fixed(4)),
        all(Array(&Struct(&[all(Text), all(Array(&Struct(&[all(Fixed(4)), all(Array(&Fixed(4)))])))]))),
    ],
};
static LIST_PARTITION_REASSIGNMENTS: Message = Message {
    flexible: 0,
    fields: &[all(Fixed(4)), all(Array(&Struct(&[all(Text), all(Array(&Fixed(4)))])))],
};
static OFFSET_DELETE: Message = Message {
    flexible: MAX,
    fields: &[all(Text), all(Array(&Struct(&[all(Text), all(Array(&Struct(&[all(Fixed(4))])))])))],
};
static DESCRIBE_CLIENT_QUOTAS: Message = Message {
    flexible: 1,
    fields: &[all(Array(&Struct(&[all(Text), all(Fixed(1)), all(Text)]))), all(Fixed(1))],
};
static ALTER_CLIENT_QUOTAS: Message = Message {
    flexible: 1,
    fields: &[
        all(Array(&Struct(&[
            all(Array(&Struct(&[all(Text), all(Text)]))),
            all(Array(&Struct(&[all(Text), all(Fixed(9))]))),
        ]))),
        all(Fixed(1)),
    ],
};
static DESCRIBE_USER_SCRAM_CREDENTIALS: Message =
    Message { flexible: 0, fields: &[all(Array(&Struct(&[all(Text)])))] };
static ALTER_USER_SCRAM_CREDENTIALS: Message = Message {
    flexible: 0,
    fields: &[
        all(Array(&Struct(&[all(Text), all(Fixed(1))]))),
        all(Array(&Struct(&[all(Text), all(Fixed(5)), all(Bytes), all(Bytes)]))),
    ],
};
static DESCRIBE_CLUSTER: Message = Message { flexible: 0, fields: &[all(Fixed(1)), of(1, MAX, Fixed(1))] };
static DESCRIBE_PRODUCERS: Message =
    Message { flexible: 0, fields: &[all(Array(&Struct(&[all(Text), all(Array(&Fixed(4)))])))] };
static DESCRIBE_TRANSACTIONS: Message = Message { flexible: 0, fields: &[all(Array(&Text))] };
static LIST_TRANSACTIONS: Message =
    Message { flexible: 0, fields: &[all(Array(&Text)), all(Array(&Fixed(8))), of(1, MAX, Fixed(8))] };
static CONSUMER_GROUP_HEARTBEAT: Message = Message {
    flexible: 0,
    fields: &[
        all(Text),
        all(Text),
        all(Fixed(4)),
        all(Text),
        all(Text),
        all(Fixed(4)),
        all(Array(&Text)),
        of(1, MAX, Text),
        all(Text),
        all(Array(&Struct(&[all(Fixed(16)), all(Array(&Fixed(4)))]))),
    ],
};
static CONSUMER_GROUP_DESCRIBE: Message =
    Message { flexible: 0, fields: &[all(Array(&Text)), all(Fixed(1))] };
static DESCRIBE_TOPIC_PARTITIONS: Message = Message {
    flexible: 0,
    fields: &[all(Array(&Struct(&[all(Text)]))), all(Fixed(4)), all(Optional(&[all(Text), all(Fixed(4))]))],
};
