//! The operations of a client, each a request and the one answer that fits it.

use bytes::Bytes;

use super::{Client, ClientError};
use crate::proto::{Acl, Code, Create, CreateOp, Id, Request, Response, Stat, perms};

/// What kind of znode is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CreateKind {
    /// Gone with the session.
    pub ephemeral: bool,
    /// The parent's next number is put behind the name.
    pub sequential: bool,
    /// Gone some time after its last child.
    pub container: bool,
    /// Milliseconds without a change or a child after which it is gone.
    pub ttl_ms: Option<i64>,
}

/// A znode that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// With its number, when it is a sequential one.
    pub path: String,
    pub stat: Stat,
}

impl Client {
    /// The data of a znode; with `watch` the next change is told.
    pub async fn get(&self, path: &str, watch: bool) -> Result<(Bytes, Stat), ClientError> {
        match self.request(Request::GetData { path: self.full(path), watch }).await? {
            Response::Data { data, stat } => Ok((data.unwrap_or_default(), stat)),
            other => Err(unexpected(&other)),
        }
    }

    /// What a znode says of itself; `None` when there is none. With `watch` the next change is told in both cases.
    pub async fn exists(&self, path: &str, watch: bool) -> Result<Option<Stat>, ClientError> {
        match self.request(Request::Exists { path: self.full(path), watch }).await {
            Ok(Response::Stat(stat)) => Ok(Some(stat)),
            Ok(other) => Err(unexpected(&other)),
            Err(ClientError::Code(Code::NoNode)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Names of the children, sorted; with `watch` the next one that comes or goes is told.
    pub async fn children(&self, path: &str, watch: bool) -> Result<(Vec<String>, Stat), ClientError> {
        match self.request(Request::GetChildren2 { path: self.full(path), watch }).await? {
            Response::Children2 { mut children, stat } => {
                children.sort_unstable();
                Ok((children, stat))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Makes a znode that everybody may read and change, or one with an ACL.
    pub async fn create(
        &self,
        path: &str,
        data: &[u8],
        kind: CreateKind,
        acl: Option<Vec<Acl>>,
    ) -> Result<Created, ClientError> {
        let (op, flags) = match kind {
            CreateKind { ttl_ms: Some(_), sequential, .. } => (CreateOp::Ttl, 5 + i32::from(sequential)),
            CreateKind { container: true, .. } => (CreateOp::Container, 4),
            _ => (CreateOp::Create2, i32::from(kind.ephemeral) + 2 * i32::from(kind.sequential)),
        };
        let create = Create {
            op,
            path: self.full(path),
            data: Some(Bytes::copy_from_slice(data)),
            acl: acl.unwrap_or_else(open),
            flags,
            ttl: kind.ttl_ms.unwrap_or(0),
        };
        match self.request(Request::Create(create)).await? {
            Response::Created { path, stat } => Ok(Created { path: super::strip(&self.chroot, path), stat }),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes the znodes above a path that are not there.
    pub async fn create_parents(&self, path: &str) -> Result<(), ClientError> {
        let ends: Vec<usize> = path.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0).collect();
        for end in ends {
            match self.create(&path[..end], b"", CreateKind::default(), None).await {
                Ok(_) | Err(ClientError::Code(Code::NodeExists)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Deletes a znode without children; with a version, only that one.
    pub async fn delete(&self, path: &str, version: Option<i32>) -> Result<(), ClientError> {
        let request = Request::Delete { path: self.full(path), version: version.unwrap_or(-1) };
        self.request(request).await.map(drop)
    }

    /// Gives a znode new data; with a version, only that one.
    pub async fn set(&self, path: &str, data: &[u8], version: Option<i32>) -> Result<Stat, ClientError> {
        let data = Some(Bytes::copy_from_slice(data));
        let request = Request::SetData { path: self.full(path), data, version: version.unwrap_or(-1) };
        match self.request(request).await? {
            Response::Stat(stat) => Ok(stat),
            other => Err(unexpected(&other)),
        }
    }

    /// Who may do what with a znode.
    pub async fn acl(&self, path: &str) -> Result<(Vec<Acl>, Stat), ClientError> {
        match self.request(Request::GetAcl { path: self.full(path) }).await? {
            Response::Acl { acl, stat } => Ok((acl, stat)),
            other => Err(unexpected(&other)),
        }
    }

    /// What is read afterwards has all that was written anywhere before.
    pub async fn sync(&self, path: &str) -> Result<(), ClientError> {
        self.request(Request::Sync { path: self.full(path) }).await.map(drop)
    }

    /// Every change of a znode, and with `recursive` of all below it, is told until the connection ends.
    ///
    /// # Errors
    ///
    /// [`Code::Unimplemented`] from a server before 3.6, which also closes the connection.
    pub async fn add_watch(&self, path: &str, recursive: bool) -> Result<(), ClientError> {
        self.request(Request::AddWatch { path: self.full(path), mode: i32::from(recursive) }).await.map(drop)
    }

    fn full(&self, path: &str) -> String {
        match path {
            "/" if !self.chroot.is_empty() => self.chroot.to_string(),
            path => format!("{}{path}", self.chroot),
        }
    }
}

fn unexpected(response: &Response) -> ClientError {
    ClientError::Protocol(format!("{response:?}").chars().take(80).collect())
}

/// `world:anyone` may do everything.
fn open() -> Vec<Acl> {
    vec![Acl { perms: perms::ALL, id: Id { scheme: "world".to_owned(), id: "anyone".to_owned() } }]
}
