//! Histories of groups, driven by hand and by chance.
