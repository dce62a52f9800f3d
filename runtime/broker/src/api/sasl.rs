//! `SaslHandshake` and `SaslAuthenticate`.
