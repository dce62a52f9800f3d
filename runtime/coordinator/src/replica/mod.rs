//! This server's copy of the state, kept by consensus.
