//! ACLs and SCRAM credentials.
