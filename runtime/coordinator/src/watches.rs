//! The watches of the clients of one server: who waits for what, and who is to be told of a change. No IO; it knows
//! connections as numbers and forgets them with the connection.
