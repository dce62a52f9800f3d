//! Requests, replies and the records in them. The names are those of `zookeeper.jute`.

use bytes::Bytes;

/// A session; never 0.
pub type SessionId = i64;

/// Number of a change: the term of the leader that ordered it in the high half, a counter in the low half.
pub type Zxid = i64;

/// What went wrong, as ZooKeeper numbers it (`KeeperException.Code`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Code {
    SystemError = -1,
    RuntimeInconsistency = -2,
    DataInconsistency = -3,
    ConnectionLoss = -4,
    Marshalling = -5,
    Unimplemented = -6,
    OperationTimeout = -7,
    BadArguments = -8,
    UnknownSession = -12,
    NewConfigNoQuorum = -13,
    ReconfigInProgress = -14,
    ApiError = -100,
    NoNode = -101,
    NoAuth = -102,
    BadVersion = -103,
    NoChildrenForEphemerals = -108,
    NodeExists = -110,
    NotEmpty = -111,
    SessionExpired = -112,
    InvalidCallback = -113,
    InvalidAcl = -114,
    AuthFailed = -115,
    SessionMoved = -118,
    NotReadOnly = -119,
    EphemeralOnLocalSession = -120,
    NoWatcher = -121,
    RequestTimeout = -122,
    ReconfigDisabled = -123,
    SessionClosedRequireSasl = -124,
    QuotaExceeded = -125,
    Throttled = -127,
}

/// What a znode says of itself, 68 bytes on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    pub czxid: Zxid,
    pub mzxid: Zxid,
    /// Milliseconds since 1970 UTC.
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    pub cversion: i32,
    pub aversion: i32,
    /// The session of an ephemeral znode, else 0.
    pub ephemeral_owner: SessionId,
    pub data_length: i32,
    pub num_children: i32,
    pub pzxid: Zxid,
}

/// Bits of [`Acl::perms`].
pub mod perms {
    pub const READ: i32 = 1;
    pub const WRITE: i32 = 2;
    pub const CREATE: i32 = 4;
    pub const DELETE: i32 = 8;
    pub const ADMIN: i32 = 16;
    pub const ALL: i32 = 31;
}

/// Somebody, by a scheme: `world:anyone`, `digest:user:hash`, `ip:address`, `x509:name`, `super:…`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    pub scheme: String,
    pub id: String,
}

/// What somebody may do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Acl {
    pub perms: i32,
    pub id: Id,
}

/// Which of the four operations that create a znode was asked for: they differ in their answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateOp {
    Create,
    Create2,
    Container,
    Ttl,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    pub op: CreateOp,
    pub path: String,
    /// `None` is a null buffer, which is not the same as an empty one.
    pub data: Option<Bytes>,
    pub acl: Vec<Acl>,
    /// As on the wire: 0 persistent, 1 ephemeral, 2 sequential, 3 both, 4 container, 5 TTL, 6 sequential with TTL.
    pub flags: i32,
    /// Milliseconds; only of [`CreateOp::Ttl`].
    pub ttl: i64,
}

/// A request of a client, without its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Create(Create),
    Delete {
        path: String,
        version: i32,
    },
    SetData {
        path: String,
        data: Option<Bytes>,
        version: i32,
    },
    SetAcl {
        path: String,
        acl: Vec<Acl>,
        version: i32,
    },
    /// Only inside of a [`Request::Multi`].
    Check {
        path: String,
        version: i32,
    },
    Multi(Vec<Request>),
    Reconfig {
        joining: Option<String>,
        leaving: Option<String>,
        new_members: Option<String>,
        config_id: i64,
    },
    CloseSession,

    Exists {
        path: String,
        watch: bool,
    },
    GetData {
        path: String,
        watch: bool,
    },
    GetAcl {
        path: String,
    },
    GetChildren {
        path: String,
        watch: bool,
    },
    GetChildren2 {
        path: String,
        watch: bool,
    },
    GetAllChildrenNumber {
        path: String,
    },
    GetEphemerals {
        prefix: String,
    },
    MultiRead(Vec<Request>),
    WhoAmI,
    Sync {
        path: String,
    },
    Ping,
    SetWatches(SetWatches),
    AddWatch {
        path: String,
        mode: i32,
    },
    /// Both as in `WatcherType`: 1 children, 2 data, 3 any, 4 persistent, 5 persistent recursive.
    CheckWatches {
        path: String,
        kind: i32,
    },
    RemoveWatches {
        path: String,
        kind: i32,
    },
    Auth {
        kind: i32,
        scheme: String,
        auth: Bytes,
    },
    Sasl {
        token: Option<Bytes>,
    },
}

/// The watches that a client had before it connected here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetWatches {
    pub relative_zxid: Zxid,
    pub data: Vec<String>,
    pub exist: Vec<String>,
    pub child: Vec<String>,
    pub persistent: Vec<String>,
    pub persistent_recursive: Vec<String>,
}

/// The body of a reply without an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// Nothing: delete, check, ping, close, watches.
    Empty,
    /// `create`, `sync`.
    Path(String),
    /// `create2` and its like.
    Created {
        path: String,
        stat: Stat,
    },
    Stat(Stat),
    Data {
        data: Option<Bytes>,
        stat: Stat,
    },
    Children(Vec<String>),
    Children2 {
        children: Vec<String>,
        stat: Stat,
    },
    Acl {
        acl: Vec<Acl>,
        stat: Stat,
    },
    Count(i32),
    Ephemerals(Vec<String>),
    WhoAmI(Vec<Id>),
    /// `addWatch`.
    ErrorResponse(i32),
    Token(Option<Bytes>),
    /// Of `multi` and `multiRead`: one per operation, the operation's code number beside it.
    Multi(Vec<(i32, Result<Response, Code>)>),
}

/// The first packet of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectRequest {
    pub protocol_version: i32,
    pub last_zxid_seen: Zxid,
    pub timeout_ms: i32,
    pub session: SessionId,
    pub password: Vec<u8>,
    /// `None`: the client is older than the field, and the answer must not have it either.
    pub read_only: Option<bool>,
}

/// The answer to it. All zero: the session is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectResponse {
    pub protocol_version: i32,
    pub timeout_ms: i32,
    pub session: SessionId,
    pub password: Vec<u8>,
    pub read_only: Option<bool>,
}

/// What a watch tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum EventType {
    Created = 1,
    Deleted = 2,
    DataChanged = 3,
    ChildrenChanged = 4,
}
