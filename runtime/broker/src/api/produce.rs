//! `Produce`.
