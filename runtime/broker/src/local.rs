//! The broker used from inside of the process: no sockets, the same append path.
