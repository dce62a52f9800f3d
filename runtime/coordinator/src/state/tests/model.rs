//! A naive tree beside the real one: a map from path to znode, every rule written down as plainly as it can be, a
//! multi done on a copy. Random transactions must get the same answers, and leave the same tree, in both.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::support::*;
use crate::proto::{Acl, Code, Create, CreateOp, Id, Request, Response, SessionId, Stat, perms};
use crate::state::{Kind, Op, State};

#[derive(Clone, Debug)]
struct ModelNode {
    data: Option<Vec<u8>>,
    acl: Vec<Acl>,
    kind: Kind,
    stat: Stat,
    /// Children ever created.
    made: i32,
}

#[derive(Clone, Debug)]
pub struct Model {
    nodes: BTreeMap<String, ModelNode>,
    sessions: BTreeMap<SessionId, u64>,
    zxid: i64,
    now_ms: i64,
}

fn parent(path: &str) -> String {
    match path.rfind('/') {
        Some(0) | None => "/".to_string(),
        Some(at) => path[..at].to_string(),
    }
}

fn may(acl: &[Acl], right: i32, ids: &[Id]) -> bool {
    acl.iter().any(|acl| {
        let anyone = acl.id.scheme == "world";
        acl.perms & right != 0 && (anyone || ids.contains(&acl.id))
    })
}

impl Model {
    pub fn of(state: &State) -> Model {
        let mut nodes = BTreeMap::new();
        for path in ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"] {
            let rights = if path == "/zookeeper/config" { perms::READ } else { perms::ALL };
            let stat = Stat { version: if rights == perms::READ { -1 } else { 0 }, ..Stat::default() };
            let acl = vec![acl(rights, "world", "anyone")];
            let node = ModelNode { data: Some(Vec::new()), acl, kind: Kind::Persistent, stat, made: 0 };
            nodes.insert(path.to_string(), node);
        }
        let sessions = state.sessions().map(|(id, session)| (id, session.owner)).collect();
        Model { nodes, sessions, zxid: state.last_zxid(), now_ms: 0 }
    }

    fn children(&self, path: &str) -> Vec<String> {
        let below = self.nodes.keys().filter(|other| *other != "/" && parent(other) == path);
        below.map(|other| other.rsplit('/').next().unwrap().to_string()).collect()
    }

    fn stat(&self, path: &str) -> Option<Stat> {
        let node = self.nodes.get(path)?;
        let children = self.children(path).len() as i32;
        let owner = if let Kind::Ephemeral(session) = node.kind { session } else { 0 };
        Some(Stat {
            cversion: 2 * node.made - children,
            num_children: children,
            data_length: node.data.as_ref().map_or(0, Vec::len) as i32,
            ephemeral_owner: owner,
            ..node.stat
        })
    }

    fn write(&mut self, session: SessionId, ids: &[Id], request: &Request) -> Result<Response, Code> {
        match request {
            Request::Create(create) => self.create(session, ids, create),
            Request::Delete { path, version } => {
                if path == "/" || path.starts_with("/zookeeper") && path.matches('/').count() < 3 {
                    return Err(Code::BadArguments);
                }
                let above = self.nodes.get(&parent(path)).ok_or(Code::NoNode)?;
                if !may(&above.acl, perms::DELETE, ids) {
                    return Err(Code::NoAuth);
                }
                let node = self.nodes.get(path).ok_or(Code::NoNode)?;
                if *version != -1 && *version != node.stat.version {
                    return Err(Code::BadVersion);
                }
                if !self.children(path).is_empty() {
                    return Err(Code::NotEmpty);
                }
                self.remove(path);
                Ok(Response::Empty)
            }
            Request::SetData { path, data, version } => {
                self.changeable(path, *version, perms::WRITE, ids, |stat| stat.version)?;
                let (zxid, now_ms) = (self.zxid, self.now_ms);
                let node = self.nodes.get_mut(path).unwrap();
                node.data = data.as_ref().map(|data| data.to_vec());
                node.stat.version += 1;
                (node.stat.mzxid, node.stat.mtime) = (zxid, now_ms);
                Ok(Response::Stat(self.stat(path).unwrap()))
            }
            Request::SetAcl { path, acl, version } => {
                if acl.is_empty() {
                    return Err(Code::InvalidAcl);
                }
                self.changeable(path, *version, perms::ADMIN, ids, |stat| stat.aversion)?;
                let node = self.nodes.get_mut(path).unwrap();
                node.acl = acl.clone();
                node.stat.aversion += 1;
                Ok(Response::Stat(self.stat(path).unwrap()))
            }
            Request::Check { path, version } => {
                self.changeable(path, *version, perms::READ, ids, |stat| stat.version)?;
                Ok(Response::Empty)
            }
            Request::Multi(requests) => {
                let mut copy = self.clone();
                let mut answers = Vec::new();
                for (at, request) in requests.iter().enumerate() {
                    match copy.write(session, ids, request) {
                        Ok(response) => answers.push((number(request), Ok(response))),
                        Err(code) => {
                            let before = (0..at).map(|_| (-1, Ok(Response::ErrorResponse(0))));
                            answers = before.collect();
                            answers.push((-1, Err(code)));
                            let behind = requests.len() - at - 1;
                            answers.extend((0..behind).map(|_| (-1, Err(Code::RuntimeInconsistency))));
                            return Ok(Response::Multi(answers));
                        }
                    }
                }
                *self = copy;
                Ok(Response::Multi(answers))
            }
            _ => unreachable!("the model is asked to write only"),
        }
    }

    fn changeable(
        &self,
        path: &str,
        version: i32,
        right: i32,
        ids: &[Id],
        of: impl Fn(&Stat) -> i32,
    ) -> Result<(), Code> {
        let node = self.nodes.get(path).ok_or(Code::NoNode)?;
        if !may(&node.acl, right, ids) {
            return Err(Code::NoAuth);
        }
        if version != -1 && version != of(&node.stat) { Err(Code::BadVersion) } else { Ok(()) }
    }

    fn create(&mut self, session: SessionId, ids: &[Id], create: &Create) -> Result<Response, Code> {
        let kind = match create.flags {
            0 | 2 => Kind::Persistent,
            1 | 3 => Kind::Ephemeral(session),
            4 => Kind::Container,
            _ => Kind::Ttl(create.ttl),
        };
        if create.acl.is_empty() {
            return Err(Code::InvalidAcl);
        }
        let above = self.nodes.get(&parent(&create.path)).ok_or(Code::NoNode)?;
        if !may(&above.acl, perms::CREATE, ids) {
            return Err(Code::NoAuth);
        }
        let mut path = create.path.clone();
        if matches!(create.flags, 2 | 3 | 6) {
            path = format!("{path}{:010}", above.made);
        }
        if self.nodes.contains_key(&path) {
            return Err(Code::NodeExists);
        }
        if matches!(above.kind, Kind::Ephemeral(_)) {
            return Err(Code::NoChildrenForEphemerals);
        }
        let (zxid, now) = (self.zxid, self.now_ms);
        let stat = Stat { czxid: zxid, mzxid: zxid, pzxid: zxid, ctime: now, mtime: now, ..Stat::default() };
        let data = create.data.as_ref().map(|data| data.to_vec());
        let node = ModelNode { data, acl: create.acl.clone(), kind, stat, made: 0 };
        self.nodes.insert(path.clone(), node);
        let above = self.nodes.get_mut(&parent(&path)).unwrap();
        above.made += 1;
        above.stat.pzxid = zxid;
        Ok(match create.op {
            CreateOp::Create => Response::Path(path),
            _ => Response::Created { stat: self.stat(&path).unwrap(), path },
        })
    }

    fn remove(&mut self, path: &str) {
        self.nodes.remove(path);
        self.nodes.get_mut(&parent(path)).unwrap().stat.pzxid = self.zxid;
    }

    fn apply(&mut self, session: SessionId, ids: &[Id], op: &Op, now_ms: i64) -> Result<Response, Code> {
        self.zxid += 1;
        self.now_ms = now_ms;
        if let Op::Expire { sessions } = op {
            for id in sessions {
                self.close(*id);
            }
            return Ok(Response::Empty);
        }
        if matches!(op, Op::CreateSession { .. }) {
            let new = self.sessions.insert(session, session as u64).is_none();
            return if new { Ok(Response::Empty) } else { Err(Code::RuntimeInconsistency) };
        }
        if !self.sessions.contains_key(&session) {
            return Err(Code::SessionExpired);
        }
        match op {
            Op::Request(request) => self.write(session, ids, request),
            _ => {
                self.close(session);
                Ok(Response::Empty)
            }
        }
    }

    fn close(&mut self, session: SessionId) {
        let owned = |node: &ModelNode| node.kind == Kind::Ephemeral(session);
        let paths = self.nodes.iter().filter(|(_, node)| owned(node)).map(|(path, _)| path.clone());
        for path in paths.collect::<Vec<_>>() {
            self.remove(&path);
        }
        self.sessions.remove(&session);
    }

    /// Everything that can be seen is equal.
    pub fn compare(&self, state: &State) {
        assert_eq!(state.node_count(), self.nodes.len());
        let (mut bytes, mut ephemerals) = (0, 0);
        for (path, node) in &self.nodes {
            assert_eq!(state.stat(path), self.stat(path), "{path}");
            assert_eq!(state.data(path), Some(node.data.as_deref()), "{path}");
            assert_eq!(state.acl(path).unwrap()[..], node.acl, "{path}");
            let mut children = state.children(path).unwrap();
            children.sort();
            let mut expected = self.children(path);
            expected.sort();
            assert_eq!(children, expected);
            bytes += path.len() + node.data.as_ref().map_or(0, Vec::len);
            ephemerals += usize::from(matches!(node.kind, Kind::Ephemeral(_)));
        }
        assert_eq!(state.data_bytes(), bytes as u64);
        assert_eq!(state.ephemeral_count(), ephemerals);
        assert_eq!(state.last_zxid(), self.zxid);
        assert_eq!(state.session_count(), self.sessions.len());
    }
}

fn number(request: &Request) -> i32 {
    match request {
        Request::Create(create) if create.op == CreateOp::Create => 1,
        Request::Create(_) => 15,
        Request::Delete { .. } => 2,
        Request::SetData { .. } => 5,
        Request::Check { .. } => 13,
        _ => -1,
    }
}

/// Few names, so that transactions meet.
fn a_path() -> impl Strategy<Value = String> {
    let name = || prop::sample::select(vec!["a", "b", "c"]);
    prop_oneof![
        4 => name().prop_map(|a| format!("/{a}")),
        4 => (name(), name()).prop_map(|(a, b)| format!("/{a}/{b}")),
        2 => (name(), name(), name()).prop_map(|(a, b, c)| format!("/{a}/{b}/{c}")),
    ]
}

fn some_data() -> impl Strategy<Value = Option<bytes::Bytes>> {
    prop_oneof![
        1 => Just(None),
        8 => prop::collection::vec(any::<u8>(), 0..40).prop_map(|data| Some(data.into())),
        1 => (200usize..40_000).prop_map(|length| Some(vec![7; length].into())),
    ]
}

fn some_acl() -> impl Strategy<Value = Vec<Acl>> {
    prop_oneof![
        6 => Just(open()),
        1 => (1..32).prop_map(|rights| vec![acl(rights, "digest", "u:x"), acl(17, "world", "anyone")]),
        1 => Just(vec![acl(perms::ALL, "digest", "u:x")]),
        1 => Just(Vec::new()),
    ]
}

fn a_version() -> impl Strategy<Value = i32> {
    prop_oneof![3 => Just(-1), 2 => 0..3]
}

fn a_write() -> impl Strategy<Value = Request> {
    let create = (a_path(), some_data(), some_acl(), 0..7).prop_map(|(path, data, acl, flags)| {
        let (op, ttl) = match flags {
            4 => (CreateOp::Container, -1),
            5 | 6 => (CreateOp::Ttl, 1000),
            flags if flags % 2 == 0 => (CreateOp::Create, -1),
            _ => (CreateOp::Create2, -1),
        };
        Request::Create(Create { op, path, data, acl, flags, ttl })
    });
    prop_oneof![
        6 => create,
        3 => (a_path(), a_version()).prop_map(|(path, version)| Request::Delete { path, version }),
        3 => (a_path(), some_data(), a_version())
            .prop_map(|(path, data, version)| Request::SetData { path, data, version }),
        1 => (a_path(), a_version()).prop_map(|(path, version)| Request::Check { path, version }),
    ]
}

pub fn a_request() -> impl Strategy<Value = Request> {
    prop_oneof![
        8 => a_write().prop_filter("alone it is no request", |write| !matches!(write, Request::Check { .. })),
        1 => (a_path(), some_acl(), a_version())
            .prop_map(|(path, acl, version)| Request::SetAcl { path, acl, version }),
        3 => prop::collection::vec(a_write(), 0..6).prop_map(Request::Multi),
    ]
}

pub fn an_op() -> impl Strategy<Value = (SessionId, bool, Op)> {
    let session = || prop::sample::select(vec![ALICE, BOB, 33]);
    prop_oneof![
        30 => (session(), any::<bool>(), a_request()).prop_map(|(id, known, op)| (id, known, Op::Request(op))),
        2 => session().prop_map(|id| (id, false, Op::CreateSession { timeout_ms: 5 })),
        1 => session().prop_map(|id| (id, false, Op::CloseSession)),
        1 => prop::collection::vec(session(), 0..3).prop_map(|ids| (0, false, Op::Expire { sessions: ids })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn random_transactions_do_what_they_do_in_the_model(
        ops in prop::collection::vec((an_op(), 0i64..3), 1..60),
    ) {
        let mut host = Host::new();
        let mut twin = Host::new();
        let mut model = Model::of(&host.state);
        for ((session, known, op), passed) in ops {
            host.now_ms += passed;
            host.ids = if known { vec![id("digest", "u:x")] } else { Vec::new() };
            let ids = host.ids.clone();
            let connection = if session == 0 { 0 } else { session as u64 };
            let expected = model.apply(session, &ids, &op, host.now_ms);
            let digest = host.state.digest();
            let answer = host.apply(session, connection, op.clone());
            prop_assert_eq!(&answer, &expected, "{:?}", op);
            let failed = match &answer {
                Ok(Response::Multi(answers)) => answers.iter().any(|answer| answer.1.is_err()),
                answer => answer.is_err(),
            };
            if failed {
                prop_assert_eq!(host.state.digest(), digest, "{:?}", op);
                prop_assert!(host.applied.changes.is_empty());
            }
            (twin.now_ms, twin.ids) = (host.now_ms, ids);
            prop_assert_eq!(twin.apply(session, connection, op), answer);
        }
        model.compare(&host.state);
        prop_assert_eq!(host.state.digest(), twin.state.digest());
        let (mine, other) = (super::snapshots::whole(&mut host.state), super::snapshots::whole(&mut twin.state));
        prop_assert_eq!(mine, other);
    }
}
