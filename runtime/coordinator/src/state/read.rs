//! What is answered from this server's copy alone, without the log: as values, or straight as the bytes of the wire,
//! so that data is copied once.

use super::acl::mask;
use super::{SessionId, State};
use crate::proto::{
    Code, Id, Request, Response, encode_multi_end, encode_multi_failure, encode_multi_header,
    encode_response, encode_stat, op, perms, put_buffer,
};

/// Bytes of a [`Stat`](crate::proto::Stat) on the wire.
const STAT_BYTES: usize = 68;
/// Bytes of data and names in the answer to one multiRead: a short request can name a large znode many times.
const MULTI_READ_BYTES_MAX: usize = 64 << 20;

impl State {
    /// Answers a request that only reads the tree. Watches are the caller's, and so are `sync`, `ping`, `whoAmI`.
    ///
    /// # Errors
    /// The code that the client gets; [`Code::Unimplemented`] for what is not such a request.
    pub fn read(&self, session: SessionId, ids: &[Id], request: &Request) -> Result<Response, Code> {
        Ok(match request {
            Request::Exists { path, .. } => Response::Stat(self.nodes.stat(self.readable(path, ids)?)),
            Request::GetData { path, .. } => {
                let number = self.readable(path, ids)?;
                let data = self.nodes.data(number).map(|data| data.to_vec().into());
                Response::Data { data, stat: self.nodes.stat(number) }
            }
            Request::GetAcl { path } => {
                let number = self.nodes.find(path).ok_or(Code::NoNode)?;
                let acl = self.nodes.at(number).acl;
                if !self.acls.allows(acl, perms::READ | perms::ADMIN, ids) {
                    return Err(Code::NoAuth);
                }
                let list = self.acls.list(acl);
                let whole = self.acls.allows(acl, perms::ADMIN, ids);
                let acl = if whole { list.to_vec() } else { mask(&list) };
                Response::Acl { acl, stat: self.nodes.stat(number) }
            }
            Request::GetChildren { path, .. } => {
                Response::Children(self.child_names(self.readable(path, ids)?))
            }
            Request::GetChildren2 { path, .. } => {
                let number = self.readable(path, ids)?;
                Response::Children2 { children: self.child_names(number), stat: self.nodes.stat(number) }
            }
            Request::GetAllChildrenNumber { path } => {
                Response::Count(self.descendants(self.readable(path, ids)?))
            }
            Request::GetEphemerals { prefix } => {
                let mut paths = self.ephemerals(session);
                paths.retain(|path| path.starts_with(prefix.as_str()));
                Response::Ephemerals(paths)
            }
            Request::MultiRead(requests) => {
                let (mut answers, mut bytes) = (Vec::with_capacity(requests.len()), 0);
                for request in requests {
                    let code = multi_read_code(request);
                    let answer = code.and_then(|code| Ok((code, self.read(session, ids, request)?)));
                    answers.push(match answer {
                        Ok((code, response)) => {
                            bytes += response_bytes(&response);
                            (code, Ok(response))
                        }
                        Err(error) => (op::ERROR, Err(error)),
                    });
                    if bytes > MULTI_READ_BYTES_MAX {
                        return Err(Code::BadArguments);
                    }
                }
                Response::Multi(answers)
            }
            _ => return Err(Code::Unimplemented),
        })
    }

    /// The same, appending the body of the reply as it goes over the wire. On an error nothing is appended.
    ///
    /// # Errors
    /// As of [`State::read`].
    pub fn read_into(
        &self,
        session: SessionId,
        ids: &[Id],
        request: &Request,
        out: &mut Vec<u8>,
    ) -> Result<(), Code> {
        match request {
            Request::Exists { path, .. } => encode_stat(&self.nodes.stat(self.readable(path, ids)?), out),
            Request::GetData { path, .. } => {
                let number = self.readable(path, ids)?;
                let data = self.nodes.data(number);
                out.reserve(4 + data.map_or(0, <[u8]>::len) + STAT_BYTES);
                put_buffer(out, data);
                encode_stat(&self.nodes.stat(number), out);
            }
            Request::GetChildren { path, .. } => self.put_children_of(self.readable(path, ids)?, out),
            Request::GetChildren2 { path, .. } => {
                let number = self.readable(path, ids)?;
                self.put_children_of(number, out);
                encode_stat(&self.nodes.stat(number), out);
            }
            Request::MultiRead(requests) => {
                let start = out.len();
                for request in requests {
                    let before = out.len();
                    let result = multi_read_code(request).and_then(|code| {
                        encode_multi_header(code, out);
                        self.read_into(session, ids, request, out)
                    });
                    if let Err(code) = result {
                        out.truncate(before);
                        encode_multi_failure(code as i32, out);
                    }
                    if out.len() - start > MULTI_READ_BYTES_MAX {
                        out.truncate(start);
                        return Err(Code::BadArguments);
                    }
                }
                encode_multi_end(out);
            }
            request => encode_response(&self.read(session, ids, request)?, out),
        }
        Ok(())
    }

    fn readable(&self, path: &str, ids: &[Id]) -> Result<u32, Code> {
        let number = self.nodes.find(path).ok_or(Code::NoNode)?;
        let allowed = self.acls.allows(self.nodes.at(number).acl, perms::READ, ids);
        if allowed { Ok(number) } else { Err(Code::NoAuth) }
    }

    pub(super) fn child_names(&self, number: u32) -> Vec<String> {
        let children = self.nodes.children(number);
        children.map(|child| String::from_utf8_lossy(self.nodes.name(child)).into_owned()).collect()
    }

    fn put_children_of(&self, number: u32, out: &mut Vec<u8>) {
        let children = self.nodes.children(number);
        out.extend_from_slice(&(children.len() as i32).to_be_bytes());
        children.for_each(|child| put_buffer(out, Some(self.nodes.name(child))));
    }

    /// All below a znode, without itself.
    fn descendants(&self, top: u32) -> i32 {
        if top == super::ROOT {
            return (self.nodes.len() - 1) as i32;
        }
        let (mut count, mut at) = (0, self.nodes.walk_next(top, top));
        while let Some(number) = at {
            count += 1;
            at = self.nodes.walk_next(top, number);
        }
        count
    }
}

fn multi_read_code(request: &Request) -> Result<i32, Code> {
    match request {
        Request::GetData { .. } => Ok(op::GET_DATA),
        Request::GetChildren { .. } => Ok(op::GET_CHILDREN),
        _ => Err(Code::BadArguments),
    }
}

fn response_bytes(response: &Response) -> usize {
    match response {
        Response::Data { data, .. } => data.as_ref().map_or(0, |data| data.len()),
        Response::Children(names) => names.iter().map(|name| name.len() + size_of::<String>()).sum(),
        _ => 0,
    }
}
