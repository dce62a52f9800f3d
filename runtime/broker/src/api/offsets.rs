//! `ListOffsets` and `OffsetForLeaderEpoch`.
