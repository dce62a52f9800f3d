//! Producer ids and transactions.
