//! What responses consist of. Written by `shapes.py` from Kafka's message descriptions.

use super::{Kind::*, MAX, Message, all, of, tag};

/// The shape of the response of an API.
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
        all(Array(&Struct(&[
            all(Text),
            all(Array(&Struct(&[
                all(Fixed(14)),
                of(2, MAX, Fixed(8)),
                of(5, MAX, Fixed(8)),
                of(8, MAX, Array(&Struct(&[of(8, MAX, Fixed(4)), of(8, MAX, Text)]))),
                of(8, MAX, Text),
                tag(0, 10, MAX, Struct(&[of(10, MAX, Fixed(8))])),
            ]))),
        ]))),
        of(1, MAX, Fixed(4)),
        tag(
            0,
            10,
            MAX,
            Array(&Struct(&[
                of(10, MAX, Fixed(4)),
                of(10, MAX, Text),
                of(10, MAX, Fixed(4)),
                of(10, MAX, Text),
            ])),
        ),
    ],
};
static FETCH: Message = Message {
    flexible: 12,
    fields: &[
        of(1, MAX, Fixed(4)),
        of(7, MAX, Fixed(6)),
        all(Array(&Struct(&[
            of(0, 12, Text),
            of(13, MAX, Fixed(16)),
            all(Array(&Struct(&[
                all(Fixed(14)),
                of(4, MAX, Fixed(8)),
                of(5, MAX, Fixed(8)),
                tag(0, 12, MAX, Struct(&[of(12, MAX, Fixed(12))])),
                tag(1, 12, MAX, Struct(&[of(12, MAX, Fixed(8))])),
                tag(2, 12, MAX, Struct(&[all(Fixed(12))])),
                of(4, MAX, Array(&Struct(&[of(4, MAX, Fixed(16))]))),
                of(11, MAX, Fixed(4)),
                all(Bytes),
            ]))),
        ]))),
        tag(
            0,
            16,
            MAX,
            Array(&Struct(&[
                of(16, MAX, Fixed(4)),
                of(16, MAX, Text),
                of(16, MAX, Fixed(4)),
                of(16, MAX, Text),
            ])),
        ),
    ],
};
static LIST_OFFSETS: Message = Message {
    flexible: 6,
    fields: &[
        of(2, MAX, Fixed(4)),
        all(Array(&Struct(&[
            all(Text),
            all(Array(&Struct(&[
                all(Fixed(6)),
                of(0, 0, Array(&Fixed(8))),
                of(1, MAX, Fixed(16)),
                of(4, MAX, Fixed(4)),
            ]))),
        ]))),
    ],
};
static METADATA: Message = Message {
    flexible: 9,
    fields: &[
        of(3, MAX, Fixed(4)),
        all(Array(&Struct(&[all(Fixed(4)), all(Text), all(Fixed(4)), of(1, MAX, Text)]))),
        of(2, MAX, Text),
        of(1, MAX, Fixed(4)),
        all(Array(&Struct(&[
            all(Fixed(2)),
            all(Text),
            of(10, MAX, Fixed(16)),
            of(1, MAX, Fixed(1)),
            all(Array(&Struct(&[
                all(Fixed(10)),
                of(7, MAX, Fixed(4)),
                all(Array(&Fixed(4))),
                all(Array(&Fixed(4))),
                of(5, MAX, Array(&Fixed(4))),
            ]))),
            of(8, MAX, Fixed(4)),
        ]))),
        of(8, 10, Fixed(4)),
    ],
};
static OFFSET_COMMIT: Message = Message {
    flexible: 8,
    fields: &[of(3, MAX, Fixed(4)), all(Array(&Struct(&[all(Text), all(Array(&Struct(&[all(Fixed(6))])))])))],
};
static OFFSET_FETCH: Message = Message {
    flexible: 6,
    fields: &[
        of(3, MAX, Fixed(4)),
        of(
            0,
            7,
            Array(&Struct(&[
                of(0, 7, Text),
                of(
                    0,
                    7,
                    Array(&Struct(&[
                        of(0, 7, Fixed(12)),
                        of(5, 7, Fixed(4)),
                        of(0, 7, Text),
                        of(0, 7, Fixed(2)),
                    ])),
                ),
            ])),
        ),
        of(2, 7, Fixed(2)),
        of(
            8,
            MAX,
            Array(&Struct(&[
                of(8, MAX, Text),
                of(
                    8,
                    MAX,
                    Array(&Struct(&[
                        of(8, MAX, Text),
                        of(
                            8,
                            MAX,
                            Array(&Struct(&[of(8, MAX, Fixed(16)), of(8, MAX, Text), of(8, MAX, Fixed(2))])),
                        ),
                    ])),
                ),
                of(8, MAX, Fixed(2)),
            ])),
        ),
    ],
};
static FIND_COORDINATOR: Message = Message {
    flexible: 3,
    fields: &[
        of(1, MAX, Fixed(4)),
        of(0, 3, Fixed(2)),
        of(1, 3, Text),
        of(0, 3, Fixed(4)),
        of(0, 3, Text),
        of(0, 3, Fixed(4)),
        of(
            4,
            MAX,
            Array(&Struct(&[
                of(4, MAX, Text),
                of(4, MAX, Fixed(4)),
                of(4, MAX, Text),
                of(4, MAX, Fixed(6)),
                of(4, MAX, Text),
            ])),
        ),
    ],
};
static JOIN_GROUP: Message = Message {
    flexible: 6,
    fields: &[
        of(2, MAX, Fixed(4)),
        all(Fixed(6)),
        of(7, MAX, Text),
        all(Text),
        all(Text),
        of(9, MAX, Fixed(1)),
        all(Text),
        all(Array(&Struct(&[all(Text), of(5, MAX, Text), all(Bytes)]))),
    ],
};
static HEARTBEAT: Message = Message { flexible: 4, fields: &[of(1, MAX, Fixed(4)), all(Fixed(2))] };
static LEAVE_GROUP: Message = Message {
    flexible: 4,
    fields: &[
        of(1, MAX, Fixed(4)),
        all(Fixed(2)),
        of(3, MAX, Array(&Struct(&[of(3, MAX, Text), of(3, MAX, Text), of(3, MAX, Fixed(2))]))),
    ],
};
static SYNC_GROUP: Message = Message {
    flexible: 4,
    fields: &[of(1, MAX, Fixed(4)), all(Fixed(2)), of(5, MAX, Text), of(5, MAX, Text), all(Bytes)],
};
static DESCRIBE_GROUPS: Message = Message {
    flexible: 5,
    fields: &[
        of(1, MAX, Fixed(4)),
        all(Array(&Struct(&[
            all(Fixed(2)),
            all(Text),
            all(Text),
            all(Text),
            all(Text),
            all(Array(&Struct(&[all(Text), of(4, MAX, Text), all(Text), all(Text), all(Bytes), all(Bytes)]))),
            of(3, MAX, Fixed(4)),
        ]))),
    ],
};
static LIST_GROUPS: Message = Message {
    flexible: 3,
    fields: &[
        of(1, MAX, Fixed(4)),
        all(Fixed(2)),
        all(Array(&Struct(&[all(Text), all(Text), of(4, MAX, Text), of(5, MAX, Text)]))),
    ],
};
static SASL_HANDSHAKE: Message = Message { flexible: MAX, fields: &[all(Fixed(2)), all(Array(&Text))] };
static API_VERSIONS: Message = Message {
    flexible: 3,
    fields: &[
        all(Fixed(2)),
        all(Array(&Struct(&[all(Fixed(6))]))),
        of(1, MAX, Fixed(4)),
        tag(0, 3, MAX, Array(&Struct(&[of(3, MAX, Text), of(3, MAX, Fixed(4))]))),
        tag(1, 3, MAX, Fixed(8)),
        tag(2, 3, MAX, Array(&Struct(&[of(3, MAX, Text), of(3, MAX, Fixed(4))]))),
        tag(3, 3, MAX, Fixed(1)),
    ],
};
static CREATE_TOPICS: Message = Message {
    flexible: 5,
    fields: &[
        of(2, MAX, Fixed(4)),
        all(Array(&Struct(&[
            all(Text),
            of(7, MAX, Fixed(16)),
            all(Fixed(2)),
            of(1, MAX, Text),
            tag(0, 5, MAX, Fixed(2)),
            of(5, MAX, Fixed(6)),
            of(5, MAX, Array(&Struct(&[of(5, MAX, Text), of(5, MAX, Text), of(5, MAX, Fixed(3))]))),
        ]))),
    ],
};
static DELETE_TOPICS: Message = Message {
    flexible: 4,
    fields: &[
        of(1, MAX, Fixed(4)),
        all(Array(&Struct(&[all(Text), of(6, MAX, Fixed(16)), all(Fixed(2)), of(5, MAX, Text)]))),
    ],
};
static DELETE_RECORDS: Message = Message {
    flexible: 2,
    fields: &[all(Fixed(4)), all(Array(&Struct(&[all(Text), all(Array(&Struct(&[all(Fixed(14))])))])))],
};
static INIT_PRODUCER_ID: Message = Message { flexible: 2, fields: &[all(Fixed(16))] };
static OFFSET_FOR_LEADER_EPOCH: Message = Message {
    flexible: 4,
    fields: &[
        of(2, MAX, Fixed(4)),
        all(Array(&Struct(&[
            all(Text),
            all(Array(&Struct(&[all(Fixed(6)), of(1, MAX, Fixed(4)), all(Fixed(8))]))),
        ]))),
    ],
};
static ADD_PARTITIONS_TO_TXN: Message = Message {
    flexible: 3,
    fields: &[
        all(Fixed(4)),
        of(4, MAX, Fixed(2)),
        of(
            4,
            MAX,
            Array(&Struct(&[
                of(4, MAX, Text),
                of(4, MAX, Array(&Struct(&[all(Text), all(Array(&Struct(&[all(Fixed(6))])))]))),
            ])),
        ),
        of(0, 3, Array(&Struct(&[all(Text), all(Array(&Struct(&[all(Fixed(6))])))]))),
    ],
};
static ADD_OFFSETS_TO_TXN: Message = Message { flexible: 3, fields: &[all(Fixed(6))] };
static END_TXN: Message = Message { flexible: 3, fields: &[all(Fixed(6)), of(5, MAX, Fixed(10))] };
static WRITE_TXN_MARKERS: Message = Message {
    flexible: 1,
    fields: &[all(Array(&Struct(&[
        all(Fixed(8)),
        all(Array(&Struct(&[all(Text), all(Array(&Struct(&[all(Fixed(6))])))]))),
    ])))],
};
static TXN_OFFSET_COMMIT: Message = Message {
    flexible: 3,
    fields: &[all(Fixed(4)), all(Array(&Struct(&[all(Text), all(Array(&Struct(&[all(Fixed(6))])))])))],
};
static DESCRIBE_ACLS: Message = Message {
    flexible: 2,
    fields: &[
        all(Fixed(6)),
        all(Text),
        all(Array(&Struct(&[
            all(Fixed(1)),
            all(Text),
            of(1, MAX, Fixed(1)),
            all(Array(&Struct(&[all(Text), all(Text), all(Fixed(2))]))),
        ]))),
    ],
};
static CREATE_ACLS: Message =
    Message { flexible: 2, fields: &[all(Fixed(4)), all(Array(&Struct(&[all(Fixed(2)), all(Text)])))] };
static DELETE_ACLS: Message = Message {
    flexible: 2,
    fields: &[
        all(Fixed(4)),
        all(Array(&Struct(&[
            all(Fixed(2)),
            all(Text),
            all(Array(&Struct(&[
                all(Fixed(2)),
                all(Text),
                all(Fixed(1)),
                all(Text),
                of(1, MAX, Fixed(1)),
                all(Text),
                all(Text),
                all(Fixed(2)),
            ]))),
        ]))),
    ],
};
static DESCRIBE_CONFIGS: Message = Message {
    flexible: 4,
    fields: &[
        all(Fixed(4)),
        all(Array(&Struct(&[
            all(Fixed(2)),
            all(Text),
            all(Fixed(1)),
            all(Text),
            all(Array(&Struct(&[
                all(Text),
                all(Text),
                all(Fixed(1)),
                of(0, 0, Fixed(1)),
                of(1, MAX, Fixed(1)),
                all(Fixed(1)),
                of(1, MAX, Array(&Struct(&[of(1, MAX, Text), of(1, MAX, Text), of(1, MAX, Fixed(1))]))),
                of(3, MAX, Fixed(1)),
                of(3, MAX, Text),
            ]))),
        ]))),
    ],
};
static ALTER_CONFIGS: Message = Message {
    flexible: 2,
    fields: &[all(Fixed(4)), all(Array(&Struct(&[all(Fixed(2)), all(Text), all(Fixed(1)), all(Text)])))],
};
static ALTER_REPLICA_LOG_DIRS: Message = Message {
    flexible: 2,
    fields: &[all(Fixed(4)), all(Array(&Struct(&[all(Text), all(Array(&Struct(&[all(Fixed(6))])))])))],
};
static DESCRIBE_LOG_DIRS: Message = Message {
    flexible: 2,
    fields: &[
        all(Fixed(4)),
        of(3, MAX, Fixed(2)),
        all(Array(&Struct(&[
            all(Fixed(2)),
            all(Text),
            all(Array(&Struct(&[all(Text), all(Array(&Struct(&[all(Fixed(21))])))]))),
            of(4, MAX, Fixed(16)),
        ]))),
    ],
};
static SASL_AUTHENTICATE: Message =
    Message { flexible: 2, fields: &[all(Fixed(2)), all(Text), all(Bytes), of(1, MAX, Fixed(8))] };
static CREATE_PARTITIONS: Message = Message {
    flexible: 2,
    fields: &[all(Fixed(4)), all(Array(&Struct(&[all(Text), all(Fixed(2)), all(Text)])))],
};
static DELETE_GROUPS: Message =
    Message { flexible: 2, fields: &[all(Fixed(4)), all(Array(&Struct(&[all(Text), all(Fixed(2))])))] };
static ELECT_LEADERS: Message = Message {
    flexible: 2,
    fields: &[
        all(Fixed(4)),
        of(1, MAX, Fixed(2)),
        all(Array(&Struct(&[all(Text), all(Array(&Struct(&[all(Fixed(6)), all(Text)])))]))),
    ],
};
static INCREMENTAL_ALTER_CONFIGS: Message = Message {
    flexible: 1,
    fields: &[all(Fixed(4)), all(Array(&Struct(&[all(Fixed(2)), all(Text), all(Fixed(1)), all(Text)])))],
};
static ALTER_PARTITION_REASSIGNMENTS: Message = Message {
    flexible: 0,
    fields: &[
        all(Fixed(6)),
        all(Text),
        all(Array(&Struct(&[all(Text), all(Array(&Struct(&[all(Fixed(6)), all(Text)])))]))),
    ],
};
static LIST_PARTITION_REASSIGNMENTS: Message = Message {
    flexible: 0,
    fields: &[
        all(Fixed(6)),
        all(Text),
        all(Array(&Struct(&[
            all(Text),
            all(Array(&Struct(&[
                all(Fixed(4)),
                all(Array(&Fixed(4))),
                all(Array(&Fixed(4))),
                all(Array(&Fixed(4))),
            ]))),
        ]))),
    ],
};
static OFFSET_DELETE: Message = Message {
    flexible: MAX,
    fields: &[all(Fixed(6)), all(Array(&Struct(&[all(Text), all(Array(&Struct(&[all(Fixed(6))])))])))],
};
static DESCRIBE_CLIENT_QUOTAS: Message = Message {
    flexible: 1,
    fields: &[
        all(Fixed(6)),
        all(Text),
        all(Array(&Struct(&[
            all(Array(&Struct(&[all(Text), all(Text)]))),
            all(Array(&Struct(&[all(Text), all(Fixed(8))]))),
        ]))),
    ],
};
static ALTER_CLIENT_QUOTAS: Message = Message {
    flexible: 1,
    fields: &[
        all(Fixed(4)),
        all(Array(&Struct(&[all(Fixed(2)), all(Text), all(Array(&Struct(&[all(Text), all(Text)])))]))),
    ],
};
static DESCRIBE_USER_SCRAM_CREDENTIALS: Message = Message {
    flexible: 0,
    fields: &[
        all(Fixed(6)),
        all(Text),
        all(Array(&Struct(&[all(Text), all(Fixed(2)), all(Text), all(Array(&Struct(&[all(Fixed(5))])))]))),
    ],
};
static ALTER_USER_SCRAM_CREDENTIALS: Message = Message {
    flexible: 0,
    fields: &[all(Fixed(4)), all(Array(&Struct(&[all(Text), all(Fixed(2)), all(Text)])))],
};
static DESCRIBE_CLUSTER: Message = Message {
    flexible: 0,
    fields: &[
        all(Fixed(6)),
        all(Text),
        of(1, MAX, Fixed(1)),
        all(Text),
        all(Fixed(4)),
        all(Array(&Struct(&[all(Fixed(4)), all(Text), all(Fixed(4)), all(Text)]))),
        all(Fixed(4)),
    ],
};
static DESCRIBE_PRODUCERS: Message = Message {
    flexible: 0,
    fields: &[
        all(Fixed(4)),
        all(Array(&Struct(&[
            all(Text),
            all(Array(&Struct(&[all(Fixed(6)), all(Text), all(Array(&Struct(&[all(Fixed(36))])))]))),
        ]))),
    ],
};
static DESCRIBE_TRANSACTIONS: Message = Message {
    flexible: 0,
    fields: &[
        all(Fixed(4)),
        all(Array(&Struct(&[
            all(Fixed(2)),
            all(Text),
            all(Text),
            all(Fixed(22)),
            all(Array(&Struct(&[all(Text), all(Array(&Fixed(4)))]))),
        ]))),
    ],
};
static LIST_TRANSACTIONS: Message = Message {
    flexible: 0,
    fields: &[all(Fixed(6)), all(Array(&Text)), all(Array(&Struct(&[all(Text), all(Fixed(8)), all(Text)])))],
};
static CONSUMER_GROUP_HEARTBEAT: Message = Message {
    flexible: 0,
    fields: &[
        all(Fixed(6)),
        all(Text),
        all(Text),
        all(Fixed(8)),
        all(Optional(&[all(Array(&Struct(&[all(Fixed(16)), all(Array(&Fixed(4)))])))])),
    ],
};
static CONSUMER_GROUP_DESCRIBE: Message = Message {
    flexible: 0,
    fields: &[
        all(Fixed(4)),
        all(Array(&Struct(&[
            all(Fixed(2)),
            all(Text),
            all(Text),
            all(Text),
            all(Fixed(8)),
            all(Text),
            all(Array(&Struct(&[
                all(Text),
                all(Text),
                all(Text),
                all(Fixed(4)),
                all(Text),
                all(Text),
                all(Array(&Text)),
                all(Text),
                all(Struct(&[all(Array(&Struct(&[all(Fixed(16)), all(Text), all(Array(&Fixed(4)))])))])),
                all(Struct(&[all(Array(&Struct(&[all(Fixed(16)), all(Text), all(Array(&Fixed(4)))])))])),
                of(1, MAX, Fixed(1)),
            ]))),
            all(Fixed(4)),
        ]))),
    ],
};
static DESCRIBE_TOPIC_PARTITIONS: Message = Message {
    flexible: 0,
    fields: &[
        all(Fixed(4)),
        all(Array(&Struct(&[
            all(Fixed(2)),
            all(Text),
            all(Fixed(17)),
            all(Array(&Struct(&[
                all(Fixed(14)),
                all(Array(&Fixed(4))),
                all(Array(&Fixed(4))),
                all(Array(&Fixed(4))),
                all(Array(&Fixed(4))),
                all(Array(&Fixed(4))),
            ]))),
            all(Fixed(4)),
        ]))),
        all(Optional(&[all(Text), all(Fixed(4))])),
    ],
};
