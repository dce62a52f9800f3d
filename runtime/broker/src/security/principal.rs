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

/// Numbers of Kafka's APIs as an enum: code and back.
macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $code:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize)]
        #[repr(i8)]
        pub(crate) enum $name { $($variant = $code,)* }

        impl $name {
            pub(crate) const ALL: &[$name] = &[$($name::$variant,)*];

            /// The number in Kafka's APIs.
            pub(crate) fn code(self) -> i8 {
                self as i8
            }

            pub(crate) fn from_code(code: i8) -> Option<$name> {
                Self::ALL.iter().copied().find(|it| it.code() == code)
            }
        }
    };
}

pub(super) use codes;

codes! {
    /// What a caller wants to do.
    Operation {
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
}

codes! {
    /// What there are rules for.
    ResourceType {
        Topic = 2,
        Group = 3,
        Cluster = 4,
        TransactionalId = 5,
    }
}

/// What a caller wants to do it on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Resource<'a> {
    Topic(&'a str),
    Group(&'a str),
    Cluster,
    TransactionalId(&'a str),
}

impl<'a> Resource<'a> {
    pub(crate) fn kind(self) -> ResourceType {
        match self {
            Resource::Topic(_) => ResourceType::Topic,
            Resource::Group(_) => ResourceType::Group,
            Resource::Cluster => ResourceType::Cluster,
            Resource::TransactionalId(_) => ResourceType::TransactionalId,
        }
    }

    pub(crate) fn name(self) -> &'a str {
        match self {
            Resource::Topic(name) | Resource::Group(name) | Resource::TransactionalId(name) => name,
            Resource::Cluster => CLUSTER_NAME,
        }
    }
}

/// What rules call the one cluster.
pub(crate) const CLUSTER_NAME: &str = "kafka-cluster";

impl Operation {
    /// What can be done on resources of a type, as clients that ask for their permissions are told.
    pub(crate) fn of(kind: ResourceType) -> &'static [Operation] {
        use Operation::{
            Alter, AlterConfigs, ClusterAction, Create, Delete, Describe, DescribeConfigs, IdempotentWrite,
            Read, Write,
        };
        match kind {
            ResourceType::Topic => {
                &[Read, Write, Create, Delete, Alter, Describe, DescribeConfigs, AlterConfigs]
            }
            ResourceType::Group => &[Read, Delete, Describe, DescribeConfigs, AlterConfigs],
            ResourceType::Cluster => {
                &[Create, Alter, Describe, ClusterAction, DescribeConfigs, AlterConfigs, IdempotentWrite]
            }
            ResourceType::TransactionalId => &[Write, Describe],
        }
    }
}
