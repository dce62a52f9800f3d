//! `Fetch`: long polls, sessions.
