//! The znodes in memory: a record of 64 bytes each, name and data in an arena, siblings as a ring, one table from parent
//! and name to number. It keeps the links right and saves what a running snapshot has not yet written; it knows no rule
//! of ZooKeeper.

use super::arena::{Arena, Place};
use super::index::Index;
use super::node::{Extra, FREE};
pub(super) use super::node::{Kind, Node, Saved};
use super::slab::Slab;
use super::snapshot::Walk;
use crate::proto::Stat;

pub(super) const ROOT: u32 = 0;
/// No znode, no record aside.
pub(super) const NONE: u32 = u32::MAX;
/// Bytes of a name.
pub(super) const NAME_BYTES_MAX: usize = u16::MAX as usize;
/// Before name and data lies the length of the data plus one, 0 for null.
const LENGTH_BYTES: usize = 4;

pub(super) struct Nodes {
    nodes: Slab<Node>,
    extras: Slab<Extra>,
    arena: Arena,
    index: Index,
    count: usize,
    /// The snapshots that are being written.
    pub walks: Vec<Walk>,
}

impl Nodes {
    /// Empty, without even a root.
    pub fn new() -> Nodes {
        Nodes {
            nodes: Slab::new(),
            extras: Slab::new(),
            arena: Arena::new(),
            index: Index::new(),
            count: 0,
            walks: Vec::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.count
    }

    /// One more than the highest number in use.
    pub fn numbers(&self) -> u32 {
        self.nodes.len()
    }

    pub fn at(&self, number: u32) -> &Node {
        self.nodes.at(number)
    }

    pub fn is_used(&self, number: u32) -> bool {
        self.nodes.at(number).parent != FREE
    }

    /// For changes to versions, times and the number of the access list.
    pub fn at_mut(&mut self, number: u32) -> &mut Node {
        self.save(number);
        self.nodes.at_mut(number)
    }

    pub fn extra(&self, number: u32) -> Option<&Extra> {
        let extra = self.nodes.at(number).extra;
        (extra != NONE).then(|| self.extras.at(extra))
    }

    /// The record aside, made if there was none.
    pub fn extra_mut(&mut self, number: u32) -> &mut Extra {
        self.save(number);
        self.extra_unsaved(number)
    }

    fn extra_unsaved(&mut self, number: u32) -> &mut Extra {
        let node = self.nodes.at_mut(number);
        if node.extra == NONE {
            node.extra = self.extras.add(Extra { pzxid: node.czxid, ..Extra::default() });
        }
        self.extras.at_mut(node.extra)
    }

    pub fn kind(&self, number: u32) -> Kind {
        self.extra(number).map_or(Kind::Persistent, |extra| extra.kind)
    }

    pub fn pzxid(&self, number: u32) -> i64 {
        self.extra(number).map_or(self.at(number).czxid, |extra| extra.pzxid)
    }

    pub fn cversion(&self, number: u32) -> i32 {
        self.extra(number).map_or(0, |extra| extra.cversion)
    }

    pub fn aversion(&self, number: u32) -> i32 {
        self.extra(number).map_or(0, |extra| extra.aversion)
    }

    pub fn child_count(&self, number: u32) -> u32 {
        self.extra(number).map_or(0, |extra| extra.children)
    }

    fn payload(&self, node: &Node) -> &[u8] {
        self.arena.at(node.place())
    }

    pub fn name(&self, number: u32) -> &[u8] {
        name_of(self.at(number), &self.arena)
    }

    pub fn data(&self, number: u32) -> Option<&[u8]> {
        let node = self.at(number);
        let payload = self.payload(node);
        let length = data_length(payload)?;
        let start = LENGTH_BYTES + usize::from(node.name_bytes);
        Some(&payload[start..start + length])
    }

    pub fn data_bytes(&self, number: u32) -> usize {
        data_length(self.payload(self.at(number))).unwrap_or(0)
    }

    /// The wire shows twice the children ever created less those there are, so that it moves when one is deleted too;
    /// and no owner for containers and the like.
    pub fn stat(&self, number: u32) -> Stat {
        let node = self.at(number);
        let mut stat = Stat {
            czxid: node.czxid,
            mzxid: node.mzxid,
            ctime: node.ctime,
            mtime: node.mtime,
            version: node.version,
            data_length: self.data_bytes(number) as i32,
            pzxid: node.czxid,
            ..Stat::default()
        };
        if let Some(extra) = self.extra(number) {
            stat.pzxid = extra.pzxid;
            stat.cversion = extra.cversion.wrapping_mul(2).wrapping_sub(extra.children as i32);
            stat.aversion = extra.aversion;
            stat.num_children = extra.children as i32;
            if let Kind::Ephemeral(session) = extra.kind {
                stat.ephemeral_owner = session;
            }
        }
        stat
    }

    /// The child of that name.
    pub fn child(&self, parent: u32, name: &[u8]) -> Option<u32> {
        self.index.find(self.index.hash(parent, name), |number| {
            let node = self.nodes.at(number);
            node.parent == parent && name_of(node, &self.arena) == name
        })
    }

    /// The znode at a path. What is no path has none.
    pub fn find(&self, path: &str) -> Option<u32> {
        let inner = path.strip_prefix('/')?;
        if inner.is_empty() {
            return (self.count > 0).then_some(ROOT);
        }
        let mut at = ROOT;
        for name in inner.as_bytes().split(|&byte| byte == b'/') {
            at = self.child(at, name)?;
        }
        Some(at)
    }

    /// The path of a znode.
    pub fn path(&self, number: u32) -> String {
        let (mut names, mut at) = (Vec::new(), number);
        while at != ROOT && at != NONE {
            names.push(at);
            at = self.at(at).parent;
        }
        if names.is_empty() {
            return "/".to_string();
        }
        let mut path = Vec::new();
        for &at in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(self.name(at));
        }
        String::from_utf8(path).unwrap_or_default()
    }

    /// The children, oldest first; those of a restored snapshot come in another order.
    pub fn children(&self, number: u32) -> Children<'_> {
        let (next, left) = self.extra(number).map_or((NONE, 0), |extra| (extra.first, extra.children));
        Children { nodes: self, next, left }
    }

    /// The next of `number` on a walk through everything below `top`, parents first.
    pub fn walk_next(&self, top: u32, number: u32) -> Option<u32> {
        if let Some(extra) = self.extra(number)
            && extra.children > 0
        {
            return Some(extra.first);
        }
        let mut at = number;
        while at != top {
            let node = self.at(at);
            let first = self.extra(node.parent).map_or(NONE, |extra| extra.first);
            if node.next != first {
                return Some(node.next);
            }
            at = node.parent;
        }
        None
    }

    /// Puts a znode in. The caller has seen that the parent exists and has no child of that name. Of the parent only
    /// the ring of children changes.
    pub fn insert(&mut self, parent: u32, name: &[u8], data: Option<&[u8]>, saved: &Saved) -> u32 {
        debug_assert!(name.len() <= NAME_BYTES_MAX);
        let number = self.nodes.next();
        self.save(number);
        let place = self.write(name, data);
        let mut node = Node {
            parent,
            page: place.page,
            unit: place.unit,
            name_bytes: name.len() as u16,
            acl: saved.acl,
            next: number,
            prev: number,
            extra: NONE,
            version: saved.version,
            czxid: saved.czxid,
            mzxid: saved.mzxid,
            ctime: saved.ctime,
            mtime: saved.mtime,
        };
        if saved.pzxid != saved.czxid
            || saved.cversion != 0
            || saved.aversion != 0
            || saved.kind != Kind::Persistent
        {
            node.extra = self.extras.add(Extra {
                pzxid: saved.pzxid,
                cversion: saved.cversion,
                aversion: saved.aversion,
                kind: saved.kind,
                ..Extra::default()
            });
        }
        self.nodes.add(node);
        self.count += 1;
        if parent != NONE {
            self.link(number);
            self.index.insert(self.index.hash(parent, name), number);
        }
        number
    }

    /// Makes a znode that lies unlinked known to its parent; false if there is one of that name.
    pub fn adopt(&mut self, number: u32, parent: u32) -> bool {
        let hash = self.index.hash(parent, self.name(number));
        let (nodes, arena) = (&self.nodes, &self.arena);
        let name = name_of(nodes.at(number), arena);
        let is_new = self.index.insert_new(hash, number, |other| {
            let other = nodes.at(other);
            other.parent == parent && name_of(other, arena) == name
        });
        if is_new {
            self.nodes.at_mut(number).parent = parent;
            self.link(number);
        }
        is_new
    }

    fn link(&mut self, number: u32) {
        let parent = self.nodes.at(number).parent;
        let extra = self.extra_unsaved(parent);
        extra.children += 1;
        let first = extra.first;
        if first == NONE {
            extra.first = number;
        } else {
            let last = self.nodes.at(first).prev;
            self.nodes.at_mut(last).next = number;
            self.nodes.at_mut(first).prev = number;
            let node = self.nodes.at_mut(number);
            (node.next, node.prev) = (first, last);
        }
    }

    /// Before so many are adopted.
    pub fn reserve(&mut self, count: usize) {
        self.index.reserve(count);
    }

    /// Takes a znode without children out.
    pub fn remove(&mut self, number: u32) {
        self.save(number);
        let hash = self.index.hash(self.nodes.at(number).parent, self.name(number));
        self.index.remove(hash, number);
        let node = self.nodes.remove(number);
        self.arena.give(node.place());
        if node.extra != NONE {
            self.extras.remove(node.extra);
        }
        self.count -= 1;
        let alone = node.next == number;
        if !alone {
            self.nodes.at_mut(node.prev).next = node.next;
            self.nodes.at_mut(node.next).prev = node.prev;
        }
        let extra = self.extra_unsaved(node.parent);
        extra.children -= 1;
        if extra.first == number {
            extra.first = if alone { NONE } else { node.next };
        }
    }

    /// Replaces the data alone.
    pub fn set_data(&mut self, number: u32, data: Option<&[u8]>) {
        self.save(number);
        let node = self.nodes.at(number);
        let (place, name_bytes) = (node.place(), usize::from(node.name_bytes));
        let head = LENGTH_BYTES + name_bytes;
        let old = head + data_length(self.arena.at(place)).unwrap_or(0);
        let new = head + data.map_or(0, <[u8]>::len);
        if Arena::same_room(old, new) {
            let payload = self.arena.at_mut(place);
            payload[..LENGTH_BYTES].copy_from_slice(&length_bytes(data));
            payload[head..new].copy_from_slice(data.unwrap_or_default());
            return;
        }
        let name = self.name(number).to_vec();
        self.arena.give(place);
        let place = self.write(&name, data);
        let node = self.nodes.at_mut(number);
        (node.page, node.unit) = (place.page, place.unit);
    }

    /// Everything of a znode but its data, for putting it back.
    pub fn saved(&self, number: u32) -> Saved {
        let node = self.at(number);
        Saved {
            acl: node.acl,
            kind: self.kind(number),
            czxid: node.czxid,
            mzxid: node.mzxid,
            pzxid: self.pzxid(number),
            ctime: node.ctime,
            mtime: node.mtime,
            version: node.version,
            cversion: self.cversion(number),
            aversion: self.aversion(number),
        }
    }

    fn write(&mut self, name: &[u8], data: Option<&[u8]>) -> Place {
        let head = LENGTH_BYTES + name.len();
        let end = head + data.map_or(0, <[u8]>::len);
        let place = self.arena.take(end);
        let payload = self.arena.at_mut(place);
        payload[..LENGTH_BYTES].copy_from_slice(&length_bytes(data));
        payload[LENGTH_BYTES..head].copy_from_slice(name);
        payload[head..end].copy_from_slice(data.unwrap_or_default());
        place
    }

    /// Before a znode changes: what a running snapshot has yet to write of it.
    fn save(&mut self, number: u32) {
        if !self.walks.iter().any(|walk| walk.wants(number)) {
            return;
        }
        let image = (number < self.nodes.len() && self.is_used(number)).then(|| {
            let mut record = Vec::new();
            self.encode_node(number, &mut record);
            record
        });
        for walk in self.walks.iter_mut().filter(|walk| walk.wants(number)) {
            walk.keep(number, image.clone());
        }
    }
}

fn name_of<'a>(node: &Node, arena: &'a Arena) -> &'a [u8] {
    &arena.at(node.place())[LENGTH_BYTES..LENGTH_BYTES + usize::from(node.name_bytes)]
}

fn data_length(payload: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes([payload[0], payload[1], payload[2], payload[3]]);
    (length as usize).checked_sub(1)
}

fn length_bytes(data: Option<&[u8]>) -> [u8; LENGTH_BYTES] {
    data.map_or(0, |data| data.len() as u32 + 1).to_le_bytes()
}

/// The numbers of the children of a znode.
pub(super) struct Children<'a> {
    nodes: &'a Nodes,
    next: u32,
    left: u32,
}

impl Iterator for Children<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.left = self.left.checked_sub(1)?;
        let number = self.next;
        self.next = self.nodes.at(number).next;
        Some(number)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Children<'_> {}
