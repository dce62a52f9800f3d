//! The wire of ZooKeeper: what clients ask and what they are answered, as values and as bytes. It knows no tree and
//! no connection.

mod frame;
mod path;
mod read;
mod request;
mod response;
mod types;
mod write;

pub use frame::{
    ReplyHeader, RequestHeader, WatcherEvent, XID_AUTH, XID_EVENT, XID_PING, XID_SET_WATCHES, begin_frame,
    decode_connect, decode_connect_reply, decode_event, decode_reply_header, decode_request_header,
    encode_connect, encode_connect_reply, encode_event, encode_reply_header, encode_request_header,
    end_frame,
};
pub use path::{check_path, parent_of};
pub use read::{DecodeError, Reader};
pub use request::{decode_request, encode_request, op, op_code};
pub use response::{
    decode_response, encode_multi_end, encode_multi_failure, encode_multi_header, encode_response,
    encode_stat, encode_strings,
};
pub use types::*;
pub use write::{put_buffer, put_string};
