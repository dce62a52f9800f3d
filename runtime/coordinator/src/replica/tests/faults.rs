//! Many faults.
