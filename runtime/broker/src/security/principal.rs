//! The words of Kafka's access control: who, what, on what.

use std::fmt;
use std::sync::Arc;

/// Who calls, as Kafka writes it: `User:alice`, or `User:ANONYMOUS` where nobody needs to authenticate.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Principal(Arc<str>);

impl Principal {
    pub(crate) fn user(name: &str) -> Principal {
        Principal(format!("User:{name}").into())
    }

    pub(crate) fn anonymous() -> Principal {
        Principal::user("ANONYMOUS")
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a caller wants to do; the numbers are Kafka's.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(i8)]
pub(crate) enum Operation {
    All = 2,
    Read = 3,
    Write = 4,
    Create = 5,
    Delete = 6,
    Alter = 7,
    Describe = 8,
    ClusterAction = 9,
    DescribeConfigs = 10,
    AlterConfigs = 11,
    IdempotentWrite = 12,
}

/// What a caller wants to do it on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Resource<'a> {
    Topic(&'a str),
    Group(&'a str),
    Cluster,
    TransactionalId(&'a str),
}
