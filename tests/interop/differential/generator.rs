//! Requests by a seed: few paths, so that they meet, and everything that a request can say, right and wrong.

use bytes::Bytes;
use flow_coordinator::proto::{Acl, Create, CreateOp, Id, Request, SetWatches};

/// Longer than any run: nothing ends by itself meanwhile.
const TTL_MS: i64 = 100_000_000;

pub struct Generator {
    state: u64,
    root: String,
}

pub fn is_write(request: &Request) -> bool {
    matches!(
        request,
        Request::Create(_)
            | Request::Delete { .. }
            | Request::SetData { .. }
            | Request::SetAcl { .. }
            | Request::Multi(_)
    )
}

impl Generator {
    pub fn new(seed: u64) -> Generator {
        Generator { state: seed.wrapping_mul(0xD1B5_4A32_D192_ED03), root: format!("/seed-{seed}/top") }
    }

    /// Who asks what. The first two requests make the root of all others, away from what each server has at its own.
    pub fn next(&mut self, step: usize, clients: usize) -> (usize, Request) {
        if step < 2 {
            let path = if step == 1 { self.root.clone() } else { self.root.replace("/top", "") };
            return (0, self.create_at(path, CreateOp::Create, 0, 0));
        }
        // ZooKeeper 3.8 mixes up the kinds of watches that one client has on one path: the last one has those that are
        // added, the others those that fire once.
        let client = self.below(clients as u64) as usize;
        let adds = client + 1 == clients;
        let watch = !adds && self.one_in(3);
        let path = self.path();
        let request = match self.below(100) {
            0..20 => self.create(),
            20..30 => Request::Delete { path, version: self.version() },
            30..42 => Request::SetData { path, data: self.data(), version: self.version() },
            42..50 => Request::Multi(self.several(5, Generator::write)),
            50..56 => Request::GetData { path, watch },
            56..61 => Request::Exists { path, watch },
            61..65 => Request::GetChildren { path, watch },
            65..70 => Request::GetChildren2 { path, watch },
            70..73 => Request::GetAcl { path },
            73..77 => Request::SetAcl { path: self.locked(), acl: self.acl(), version: self.version() },
            77..79 => Request::MultiRead(self.several(4, Generator::read)),
            79..81 => Request::GetAllChildrenNumber { path },
            81..83 => Request::GetEphemerals { prefix: path },
            83..84 => Request::WhoAmI,
            84..86 => Request::Sync { path },
            86..90 if adds => self.add_watch(),
            86..90 => Request::GetData { path, watch },
            90..93 => Request::RemoveWatches { path, kind: if adds { 3 } else { 1 + self.below(3) as i32 } },
            93..95 => Request::CheckWatches { path, kind: 1 + self.below(3) as i32 },
            95..97 => Request::Auth {
                kind: 0,
                scheme: "digest".to_owned(),
                auth: Bytes::from_static([&b"alice:secret"[..], b"bob:secret"][self.below(2) as usize]),
            },
            97..99 => self.set_watches(adds),
            _ => Request::Ping,
        };
        (client, request)
    }

    fn write(&mut self) -> Request {
        let path = self.path();
        match self.below(10) {
            0..4 => self.create(),
            4..6 => Request::Delete { path, version: self.version() },
            6..8 => Request::SetData { path, data: self.data(), version: self.version() },
            _ => Request::Check { path, version: self.version() },
        }
    }

    fn read(&mut self) -> Request {
        let path = self.path();
        if self.one_in(2) {
            Request::GetData { path, watch: false }
        } else {
            Request::GetChildren { path, watch: false }
        }
    }

    fn several(&mut self, most: u64, one: fn(&mut Generator) -> Request) -> Vec<Request> {
        (0..self.below(most)).map(|_| one(self)).collect()
    }

    /// Recursive ones at the top, others below: on one path there is one kind.
    fn add_watch(&mut self) -> Request {
        let (a, b) = (self.below(3), self.below(3));
        if self.one_in(2) {
            Request::AddWatch { path: format!("{}/a{a}", self.root), mode: 1 }
        } else {
            Request::AddWatch { path: format!("{}/a{a}/b{b}", self.root), mode: 0 }
        }
    }

    /// With a zxid that is either before all or behind all.
    fn set_watches(&mut self, adds: bool) -> Request {
        let relative_zxid = if self.one_in(2) { 0 } else { i64::MAX };
        let mut watches = SetWatches { relative_zxid, ..SetWatches::default() };
        if adds {
            let (a, b) = (self.below(3), self.below(3));
            watches.persistent = vec![format!("{}/a{a}/b0", self.root)];
            watches.persistent_recursive = vec![format!("{}/a{b}", self.root)];
        } else {
            let top = self.root.clone();
            let mut paths = |top: &str| -> Vec<String> {
                (0..self.below(3)).map(|_| format!("{top}/a{}", self.below(3))).collect()
            };
            (watches.data, watches.exist, watches.child) =
                (paths(&top), paths(&top), paths(&format!("{top}/a0")));
        }
        Request::SetWatches(watches)
    }

    fn create(&mut self) -> Request {
        let path = self.path();
        let pick = self.below(3) as usize;
        match self.below(20) {
            // Containers and nodes with a TTL have no children here: when they end is each server's own.
            0 => self.create_at(format!("{}/container", self.root), CreateOp::Container, 4, 0),
            1 => self.create_at(format!("{}/ttl", self.root), CreateOp::Ttl, 5, TTL_MS),
            2 => self.create_at(format!("{}/ttl-", self.root), CreateOp::Ttl, 6, TTL_MS),
            3 => self.create_at(path, CreateOp::Ttl, 5, [0, -1, i64::MAX][pick]),
            4 => self.create_at(path, CreateOp::Create, [7, -1, 100][pick], 0),
            5..8 => self.create_at(path, CreateOp::Create, 1, 0),
            8..10 => self.create_at(format!("{path}-"), CreateOp::Create2, 2 + (pick % 2) as i32, 0),
            10 => self.create_at(format!("{path}/"), CreateOp::Create, 2, 0),
            11..15 => self.create_at(path, CreateOp::Create2, 0, 0),
            15 => {
                let acl = self.acl();
                let path = self.locked();
                match self.create_at(path, CreateOp::Create, 0, 0) {
                    Request::Create(create) => Request::Create(Create { acl, ..create }),
                    other => other,
                }
            }
            _ => self.create_at(path, CreateOp::Create, 0, 0),
        }
    }

    fn create_at(&mut self, path: String, op: CreateOp, flags: i32, ttl: i64) -> Request {
        let acl = vec![Acl { perms: 31, id: id("world", "anyone") }];
        Request::Create(Create { op, path, data: self.data(), acl, flags, ttl })
    }

    fn path(&mut self) -> String {
        let root = self.root.clone();
        let (a, b, c) = (self.below(3), self.below(3), self.below(2));
        match self.below(40) {
            0..14 => format!("{root}/a{a}"),
            14..26 => format!("{root}/a{a}/b{b}"),
            26..32 => format!("{root}/a{a}/b{b}/c{c}"),
            32..35 => root,
            35..37 => self.locked(),
            _ => {
                // An empty one is the root of all for ZooKeeper, which other sequences change.
                const WRONG: [&str; 7] = ["a", "/a0/", "//a0", "/a0/../b", "/a0/.", "/a\u{1}", "/\u{fff0}"];
                let wrong = WRONG[self.below(7) as usize];
                if wrong.starts_with('/') { format!("{root}{wrong}") } else { wrong.to_owned() }
            }
        }
    }

    /// Of the few nodes that not everybody may touch.
    fn locked(&mut self) -> String {
        let number = self.below(2);
        format!("{}/locked{number}", self.root)
    }

    fn acl(&mut self) -> Vec<Acl> {
        let perms = [31, 1, 3, 16, 0, 17][self.below(6) as usize];
        let one = |scheme: &str, who: &str| Acl { perms, id: id(scheme, who) };
        match self.below(8) {
            0 => vec![],
            1 => vec![one("auth", "")],
            2 => vec![one("digest", "alice:t4MkEFSuZmNtc2tVDfpPdqRlCQw=")],
            3 => vec![one("ip", "127.0.0.1")],
            4 => vec![one("ip", "10.0.0.0/8"), one("world", "anyone")],
            5 => vec![one("nobody", "knows")],
            6 => vec![one("world", "somebody")],
            _ => vec![one("world", "anyone"), one("world", "anyone")],
        }
    }

    fn data(&mut self) -> Option<Bytes> {
        match self.below(6) {
            0 => None,
            1 => Some(Bytes::new()),
            length => Some(vec![b'x'; 10 * length as usize].into()),
        }
    }

    fn version(&mut self) -> i32 {
        [-1, -1, -1, 0, 1, 2, -2][self.below(7) as usize]
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// splitmix64 (Steele, Lea, Flood 2014).
    fn below(&mut self, count: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % count
    }
}

fn id(scheme: &str, id: &str) -> Id {
    Id { scheme: scheme.to_owned(), id: id.to_owned() }
}
