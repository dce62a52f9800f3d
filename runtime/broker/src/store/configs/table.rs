//! Every setting of a topic and of the broker by Kafka's name: type, default, bounds, meaning. The only list of them;
//! checking, describing and altering all read it.

use super::{Check, Def, Effect, Kind, Scope};

const fn topic(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    check: Check,
    doc: &'static str,
) -> Def {
    Def {
        name,
        kind,
        default: Some(default),
        check,
        synonyms: &[],
        effect: Effect::Works,
        scope: Scope::Altered,
        sensitive: false,
        doc,
    }
}

const fn broker(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    check: Check,
    doc: &'static str,
) -> Def {
    let mut def = topic(name, kind, default, check, doc);
    def.scope = Scope::ReadOnly;
    def
}

impl Def {
    /// The broker's settings that this one falls back to, each with what its number is multiplied by.
    const fn or(mut self, synonyms: &'static [(&'static str, i64)]) -> Def {
        self.synonyms = synonyms;
        self
    }

    /// Known and accepted, but nothing here acts on it.
    const fn idle(mut self) -> Def {
        self.effect = Effect::None;
        self
    }

    const fn without_default(mut self) -> Def {
        self.default = None;
        self
    }

    const fn secret(mut self) -> Def {
        self.sensitive = true;
        self
    }

    const fn altered(mut self) -> Def {
        self.scope = Scope::Altered;
        self
    }
}

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 3_600_000;
const LONG_MAX: &str = "9223372036854775807";
const ANY: Check = Check::Any;
const NOT_NEGATIVE: Check = Check::Range(0.0, f64::INFINITY);
const FROM_ONE: Check = Check::Range(1.0, f64::INFINITY);
const FROM_MINUS_ONE: Check = Check::Range(-1.0, f64::INFINITY);
const PART: Check = Check::Range(0.0, 1.0);
const CODECS: Check = Check::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]);
const CLEANUPS: Check = Check::ListOf(&["compact", "delete"]);
const TIMESTAMPS: Check = Check::OneOf(&["CreateTime", "LogAppendTime"]);

/// The settings of topics, by name.
pub const TOPIC: &[Def] = &[
    topic("cleanup.policy", Kind::List, "delete", CLEANUPS, "What happens to old segments: `delete` drops them by age and size, `compact` keeps the last record of each key; both may be given.")
        .or(&[("log.cleanup.policy", 1)]),
    topic("compression.gzip.level", Kind::Int, "-1", Check::Range(-1.0, 9.0), "The level used when the broker itself compresses with gzip, 1 to 9; -1 is the library's own.")
        .or(&[("compression.gzip.level", 1)]),
    topic("compression.lz4.level", Kind::Int, "9", Check::Range(1.0, 17.0), "The level used when the broker itself compresses with lz4.")
        .or(&[("compression.lz4.level", 1)])
        .idle(),
    topic("compression.type", Kind::Text, "producer", CODECS, "The codec in which batches are kept; `producer` keeps what the producer chose, byte for byte.")
        .or(&[("compression.type", 1)]),
    topic("compression.zstd.level", Kind::Int, "3", Check::Range(-131_072.0, 22.0), "The level used when the broker itself compresses with zstd.")
        .or(&[("compression.zstd.level", 1)]),
    topic("delete.retention.ms", Kind::Long, "86400000", NOT_NEGATIVE, "How long the marks of deleted keys stay in a compacted topic, in milliseconds.")
        .or(&[("log.cleaner.delete.retention.ms", 1)]),
    topic("file.delete.delay.ms", Kind::Long, "60000", NOT_NEGATIVE, "How long a file stays on disk after it was dropped, in milliseconds. Readers here keep a dropped file open, so it goes at once.")
        .or(&[("log.segment.delete.delay.ms", 1)])
        .idle(),
    topic("flush.messages", Kind::Long, LONG_MAX, FROM_ONE, "After how many unsynced records the log is synced to disk; `acks=all` waits for the disk in any case.")
        .or(&[("log.flush.interval.messages", 1)]),
    topic("flush.ms", Kind::Long, LONG_MAX, NOT_NEGATIVE, "After how many milliseconds unsynced records are synced to disk.")
        .or(&[("log.flush.interval.ms", 1)]),
    topic("follower.replication.throttled.replicas", Kind::List, "", ANY, "Replicas whose copying is slowed down on the follower's side.")
        .idle(),
    topic("index.interval.bytes", Kind::Int, "4096", NOT_NEGATIVE, "How many bytes lie between two entries of the offset index.")
        .or(&[("log.index.interval.bytes", 1)]),
    topic("leader.replication.throttled.replicas", Kind::List, "", ANY, "Replicas whose copying is slowed down on the leader's side.")
        .idle(),
    topic("local.retention.bytes", Kind::Long, "-2", Check::Range(-2.0, f64::INFINITY), "How many bytes of a tiered log stay on this machine.")
        .or(&[("log.local.retention.bytes", 1)])
        .idle(),
    topic("local.retention.ms", Kind::Long, "-2", Check::Range(-2.0, f64::INFINITY), "How long a tiered log stays on this machine, in milliseconds.")
        .or(&[("log.local.retention.ms", 1)])
        .idle(),
    topic("max.compaction.lag.ms", Kind::Long, LONG_MAX, FROM_ONE, "After how many milliseconds a record is compacted, however little there is to gain.")
        .or(&[("log.cleaner.max.compaction.lag.ms", 1)]),
    topic("max.message.bytes", Kind::Int, "1048588", NOT_NEGATIVE, "The largest batch that is taken, in bytes as sent, compressed or not.")
        .or(&[("message.max.bytes", 1)]),
    topic("message.downconversion.enable", Kind::Bool, "true", ANY, "Whether old readers get their old format. Only the format v2 is written and read.")
        .or(&[("log.message.downconversion.enable", 1)])
        .idle(),
    topic("message.format.version", Kind::Text, "3.0-IV1", ANY, "The format of batches on disk; always v2.")
        .or(&[("log.message.format.version", 1)])
        .idle(),
    topic("message.timestamp.after.max.ms", Kind::Long, LONG_MAX, NOT_NEGATIVE, "By how many milliseconds a record's time may lie after the broker's.")
        .or(&[("log.message.timestamp.after.max.ms", 1)]),
    topic("message.timestamp.before.max.ms", Kind::Long, LONG_MAX, NOT_NEGATIVE, "By how many milliseconds a record's time may lie before the broker's.")
        .or(&[("log.message.timestamp.before.max.ms", 1)]),
    topic("message.timestamp.difference.max.ms", Kind::Long, LONG_MAX, NOT_NEGATIVE, "By how many milliseconds a record's time may differ from the broker's, either way; the older name of the two others.")
        .or(&[("log.message.timestamp.difference.max.ms", 1)]),
    topic("message.timestamp.type", Kind::Text, "CreateTime", TIMESTAMPS, "Whether a record's time is the producer's or that of the append.")
        .or(&[("log.message.timestamp.type", 1)]),
    topic("min.cleanable.dirty.ratio", Kind::Double, "0.5", PART, "Which part of the log must be uncompacted before it is compacted again.")
        .or(&[("log.cleaner.min.cleanable.ratio", 1)]),
    topic("min.compaction.lag.ms", Kind::Long, "0", NOT_NEGATIVE, "How many milliseconds a record is safe from compaction.")
        .or(&[("log.cleaner.min.compaction.lag.ms", 1)]),
    topic("min.insync.replicas", Kind::Int, "1", FROM_ONE, "How many replicas must have a record before `acks=all` is answered.")
        .or(&[("min.insync.replicas", 1)]),
    topic("preallocate", Kind::Bool, "false", ANY, "Whether the space of a segment is taken when it begins.")
        .or(&[("log.preallocate", 1)])
        .idle(),
    topic("remote.log.copy.disable", Kind::Bool, "false", ANY, "Whether copying to tiered storage is off.").idle(),
    topic("remote.log.delete.on.disable", Kind::Bool, "false", ANY, "Whether tiered data goes when tiering is turned off.").idle(),
    topic("remote.storage.enable", Kind::Bool, "false", Check::OneOf(&["false"]), "Whether the log is tiered; only `false` is possible.").idle(),
    topic("retention.bytes", Kind::Long, "-1", ANY, "How many bytes of a partition are kept; -1 is no bound.")
        .or(&[("log.retention.bytes", 1)]),
    topic("retention.ms", Kind::Long, "604800000", FROM_MINUS_ONE, "How long records are kept, in milliseconds; -1 is for ever.")
        .or(&[("log.retention.ms", 1), ("log.retention.minutes", MINUTE_MS), ("log.retention.hours", HOUR_MS)]),
    topic("segment.bytes", Kind::Int, "1073741824", Check::Range(14.0, f64::INFINITY), "The size at which a segment ends, in bytes; retention and compaction work on whole segments.")
        .or(&[("log.segment.bytes", 1)]),
    topic("segment.index.bytes", Kind::Int, "10485760", Check::Range(4.0, f64::INFINITY), "The size at which an index ends its segment; indexes here grow with their segment.")
        .or(&[("log.index.size.max.bytes", 1)])
        .idle(),
    topic("segment.jitter.ms", Kind::Long, "0", NOT_NEGATIVE, "How much earlier than `segment.ms` a segment may end, at random, in milliseconds.")
        .or(&[("log.roll.jitter.ms", 1), ("log.roll.jitter.hours", HOUR_MS)])
        .idle(),
    topic("segment.ms", Kind::Long, "604800000", FROM_ONE, "The age at which a segment ends, in milliseconds.")
        .or(&[("log.roll.ms", 1), ("log.roll.hours", HOUR_MS)]),
    topic("unclean.leader.election.enable", Kind::Bool, "false", ANY, "Whether a replica that lags may become leader.")
        .or(&[("unclean.leader.election.enable", 1)])
        .idle(),
];

/// The settings of the broker, by name. Those that a topic's setting falls back to can be altered while it runs.
pub const BROKER: &[Def] = &[
    broker("advertised.listeners", Kind::Text, "", ANY, "The addresses that clients are told to use.")
        .without_default(),
    broker(
        "auto.create.topics.enable",
        Kind::Bool,
        "true",
        ANY,
        "Whether a topic is made when a client asks for one that is not there.",
    ),
    broker("broker.id", Kind::Int, "1", ANY, "The number of this broker; the older name of `node.id`."),
    broker("broker.rack", Kind::Text, "", ANY, "Where this broker stands.").without_default().idle(),
    broker("cluster.id", Kind::Text, "", ANY, "The name of the cluster, made when the data directory is.")
        .without_default(),
    broker(
        "compression.gzip.level",
        Kind::Int,
        "-1",
        Check::Range(-1.0, 9.0),
        "See `compression.gzip.level` of a topic.",
    )
    .altered(),
    broker(
        "compression.lz4.level",
        Kind::Int,
        "9",
        Check::Range(1.0, 17.0),
        "See `compression.lz4.level` of a topic.",
    )
    .altered()
    .idle(),
    broker("compression.type", Kind::Text, "producer", CODECS, "See `compression.type` of a topic.")
        .altered(),
    broker(
        "compression.zstd.level",
        Kind::Int,
        "3",
        Check::Range(-131_072.0, 22.0),
        "See `compression.zstd.level` of a topic.",
    )
    .altered(),
    broker(
        "connections.max.idle.ms",
        Kind::Long,
        "600000",
        ANY,
        "After how many idle milliseconds a connection is closed.",
    ),
    broker(
        "default.replication.factor",
        Kind::Int,
        "1",
        FROM_ONE,
        "The number of replicas of a topic made without one.",
    ),
    broker("delete.topic.enable", Kind::Bool, "true", ANY, "Whether topics can be deleted."),
    broker(
        "fetch.max.bytes",
        Kind::Int,
        "57671680",
        Check::Range(1024.0, f64::INFINITY),
        "The most that one fetch is answered with, in bytes.",
    ),
    broker(
        "group.consumer.heartbeat.interval.ms",
        Kind::Int,
        "5000",
        FROM_ONE,
        "How often members of groups of the newer protocol report, in milliseconds.",
    ),
    broker(
        "group.consumer.session.timeout.ms",
        Kind::Int,
        "45000",
        FROM_ONE,
        "How long a silent member of a group of the newer protocol is waited for, in milliseconds.",
    ),
    broker(
        "group.initial.rebalance.delay.ms",
        Kind::Int,
        "3000",
        NOT_NEGATIVE,
        "How long an empty group waits for more members before its first rebalance, in milliseconds.",
    ),
    broker(
        "group.max.session.timeout.ms",
        Kind::Int,
        "1800000",
        FROM_ONE,
        "The longest session time-out a group member may ask for, in milliseconds.",
    ),
    broker("group.max.size", Kind::Int, "2147483647", FROM_ONE, "The most members that a group may have."),
    broker(
        "group.min.session.timeout.ms",
        Kind::Int,
        "6000",
        FROM_ONE,
        "The shortest session time-out a group member may ask for, in milliseconds.",
    ),
    broker("listeners", Kind::Text, "", ANY, "The addresses this broker listens on.").without_default(),
    broker(
        "log.cleaner.backoff.ms",
        Kind::Long,
        "15000",
        NOT_NEGATIVE,
        "How long the compaction rests when there is nothing to compact, in milliseconds.",
    ),
    broker(
        "log.cleaner.delete.retention.ms",
        Kind::Long,
        "86400000",
        NOT_NEGATIVE,
        "See `delete.retention.ms` of a topic.",
    )
    .altered(),
    broker("log.cleaner.enable", Kind::Bool, "true", ANY, "Whether compacted topics are compacted."),
    broker(
        "log.cleaner.max.compaction.lag.ms",
        Kind::Long,
        LONG_MAX,
        FROM_ONE,
        "See `max.compaction.lag.ms` of a topic.",
    )
    .altered(),
    broker(
        "log.cleaner.min.cleanable.ratio",
        Kind::Double,
        "0.5",
        PART,
        "See `min.cleanable.dirty.ratio` of a topic.",
    )
    .altered(),
    broker(
        "log.cleaner.min.compaction.lag.ms",
        Kind::Long,
        "0",
        NOT_NEGATIVE,
        "See `min.compaction.lag.ms` of a topic.",
    )
    .altered(),
    broker("log.cleanup.policy", Kind::List, "delete", CLEANUPS, "See `cleanup.policy` of a topic.")
        .altered(),
    broker("log.dirs", Kind::Text, "", ANY, "Where the data is kept.").without_default(),
    broker("log.flush.interval.messages", Kind::Long, LONG_MAX, FROM_ONE, "See `flush.messages` of a topic.")
        .altered(),
    broker("log.flush.interval.ms", Kind::Long, "", NOT_NEGATIVE, "See `flush.ms` of a topic.")
        .altered()
        .without_default(),
    broker(
        "log.flush.offset.checkpoint.interval.ms",
        Kind::Int,
        "60000",
        NOT_NEGATIVE,
        "How often the point is noted from which a start after a crash has to check, in milliseconds; much data makes it come sooner.",
    ),
    broker(
        "log.index.interval.bytes",
        Kind::Int,
        "4096",
        NOT_NEGATIVE,
        "See `index.interval.bytes` of a topic.",
    )
    .altered(),
    broker(
        "log.index.size.max.bytes",
        Kind::Int,
        "10485760",
        Check::Range(4.0, f64::INFINITY),
        "See `segment.index.bytes` of a topic.",
    )
    .altered()
    .idle(),
    broker(
        "log.local.retention.bytes",
        Kind::Long,
        "-2",
        Check::Range(-2.0, f64::INFINITY),
        "See `local.retention.bytes` of a topic.",
    )
    .altered()
    .idle(),
    broker(
        "log.local.retention.ms",
        Kind::Long,
        "-2",
        Check::Range(-2.0, f64::INFINITY),
        "See `local.retention.ms` of a topic.",
    )
    .altered()
    .idle(),
    broker(
        "log.message.downconversion.enable",
        Kind::Bool,
        "true",
        ANY,
        "See `message.downconversion.enable` of a topic.",
    )
    .altered()
    .idle(),
    broker(
        "log.message.format.version",
        Kind::Text,
        "3.0-IV1",
        ANY,
        "See `message.format.version` of a topic.",
    )
    .idle(),
    broker(
        "log.message.timestamp.after.max.ms",
        Kind::Long,
        LONG_MAX,
        NOT_NEGATIVE,
        "See `message.timestamp.after.max.ms` of a topic.",
    )
    .altered(),
    broker(
        "log.message.timestamp.before.max.ms",
        Kind::Long,
        LONG_MAX,
        NOT_NEGATIVE,
        "See `message.timestamp.before.max.ms` of a topic.",
    )
    .altered(),
    broker(
        "log.message.timestamp.difference.max.ms",
        Kind::Long,
        LONG_MAX,
        NOT_NEGATIVE,
        "See `message.timestamp.difference.max.ms` of a topic.",
    )
    .altered(),
    broker(
        "log.message.timestamp.type",
        Kind::Text,
        "CreateTime",
        TIMESTAMPS,
        "See `message.timestamp.type` of a topic.",
    )
    .altered(),
    broker("log.preallocate", Kind::Bool, "false", ANY, "See `preallocate` of a topic.").altered().idle(),
    broker("log.retention.bytes", Kind::Long, "-1", ANY, "See `retention.bytes` of a topic.").altered(),
    broker(
        "log.retention.check.interval.ms",
        Kind::Long,
        "300000",
        FROM_ONE,
        "How often old segments are looked for, in milliseconds.",
    ),
    broker("log.retention.hours", Kind::Int, "168", ANY, "See `retention.ms` of a topic; in hours."),
    broker("log.retention.minutes", Kind::Int, "", ANY, "See `retention.ms` of a topic; in minutes.")
        .without_default(),
    broker("log.retention.ms", Kind::Long, "", FROM_MINUS_ONE, "See `retention.ms` of a topic.")
        .altered()
        .without_default(),
    broker("log.roll.hours", Kind::Int, "168", FROM_ONE, "See `segment.ms` of a topic; in hours."),
    broker(
        "log.roll.jitter.hours",
        Kind::Int,
        "0",
        NOT_NEGATIVE,
        "See `segment.jitter.ms` of a topic; in hours.",
    )
    .idle(),
    broker("log.roll.jitter.ms", Kind::Long, "", NOT_NEGATIVE, "See `segment.jitter.ms` of a topic.")
        .altered()
        .without_default()
        .idle(),
    broker("log.roll.ms", Kind::Long, "", FROM_ONE, "See `segment.ms` of a topic.")
        .altered()
        .without_default(),
    broker(
        "log.segment.bytes",
        Kind::Int,
        "1073741824",
        Check::Range(14.0, f64::INFINITY),
        "See `segment.bytes` of a topic.",
    )
    .altered(),
    broker(
        "log.segment.delete.delay.ms",
        Kind::Long,
        "60000",
        NOT_NEGATIVE,
        "See `file.delete.delay.ms` of a topic.",
    )
    .altered()
    .idle(),
    broker("max.connections", Kind::Int, "2147483647", NOT_NEGATIVE, "The most connections at one time."),
    broker(
        "max.incremental.fetch.session.cache.slots",
        Kind::Int,
        "1000",
        NOT_NEGATIVE,
        "The most fetch sessions that are kept.",
    ),
    broker("message.max.bytes", Kind::Int, "1048588", NOT_NEGATIVE, "See `max.message.bytes` of a topic.")
        .altered(),
    broker("min.insync.replicas", Kind::Int, "1", FROM_ONE, "See `min.insync.replicas` of a topic.")
        .altered(),
    broker("node.id", Kind::Int, "1", ANY, "The number of this broker."),
    broker(
        "num.partitions",
        Kind::Int,
        "1",
        FROM_ONE,
        "The number of partitions of a topic made without one.",
    ),
    broker(
        "offset.metadata.max.bytes",
        Kind::Int,
        "4096",
        NOT_NEGATIVE,
        "The longest text that may be kept with a committed position, in bytes.",
    ),
    broker(
        "offsets.retention.check.interval.ms",
        Kind::Long,
        "600000",
        FROM_ONE,
        "How often committed positions that have grown old are looked for, in milliseconds.",
    ),
    broker(
        "offsets.retention.minutes",
        Kind::Int,
        "10080",
        FROM_ONE,
        "How long the committed positions of a group without members are kept, in minutes.",
    ),
    broker(
        "offsets.topic.num.partitions",
        Kind::Int,
        "50",
        FROM_ONE,
        "The number of partitions of the topic of committed positions.",
    ),
    broker(
        "offsets.topic.replication.factor",
        Kind::Short,
        "1",
        FROM_ONE,
        "The number of replicas of the topic of committed positions.",
    ),
    broker(
        "offsets.topic.segment.bytes",
        Kind::Int,
        "104857600",
        FROM_ONE,
        "The size of a segment of the topic of committed positions, in bytes.",
    ),
    broker("process.roles", Kind::List, "broker", ANY, "What this process is.").idle(),
    broker(
        "producer.id.expiration.ms",
        Kind::Int,
        "86400000",
        FROM_ONE,
        "After how many milliseconds the state of a silent idempotent producer is forgotten.",
    ),
    broker("sasl.enabled.mechanisms", Kind::List, "", ANY, "The ways to log in that are offered."),
    broker(
        "security.inter.broker.protocol",
        Kind::Text,
        "PLAINTEXT",
        ANY,
        "How brokers speak with each other.",
    )
    .idle(),
    broker(
        "socket.request.max.bytes",
        Kind::Int,
        "104857600",
        FROM_ONE,
        "The largest request that is taken, in bytes.",
    ),
    broker("ssl.key.password", Kind::Password, "", ANY, "The password of the broker's private key.")
        .without_default()
        .secret()
        .idle(),
    broker(
        "transaction.max.timeout.ms",
        Kind::Int,
        "900000",
        FROM_ONE,
        "The longest time-out a transactional producer may ask for, in milliseconds.",
    ),
    broker(
        "transaction.state.log.num.partitions",
        Kind::Int,
        "50",
        FROM_ONE,
        "The number of partitions of the topic of transaction states.",
    ),
    broker(
        "transaction.state.log.replication.factor",
        Kind::Short,
        "1",
        FROM_ONE,
        "The number of replicas of the topic of transaction states.",
    ),
    broker(
        "transactional.id.expiration.ms",
        Kind::Int,
        "604800000",
        FROM_ONE,
        "After how many milliseconds a silent transactional id is forgotten.",
    ),
    broker(
        "unclean.leader.election.enable",
        Kind::Bool,
        "false",
        ANY,
        "See `unclean.leader.election.enable` of a topic.",
    )
    .idle(),
];
