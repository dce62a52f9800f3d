//! Members that come and go.
