//! Access lists: kept once however many znodes have them; who passes; what a client may set. The schemes are those of
//! ZooKeeper: `world`, `auth`, `digest`, `ip`, `x509`, `sasl`, and `super`, which passes everything.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::digest::{hash_bytes, hash_words};
use crate::proto::{Acl, Code, Id, perms};

/// The number of `world:anyone` with all rights.
pub(super) const OPEN: u32 = 0;
/// The number of `world:anyone` who may read.
pub(super) const READABLE: u32 = 1;

struct Entry {
    list: Arc<[Acl]>,
    /// Znodes that have it, and undo records.
    uses: u32,
    hash: u64,
}

/// The lists in use, by number.
pub(super) struct AclTable {
    entries: Vec<Option<Entry>>,
    numbers: HashMap<Arc<[Acl]>, u32>,
    free: Vec<u32>,
}

fn world(perms: i32) -> Arc<[Acl]> {
    Arc::from([Acl { perms, id: Id { scheme: "world".to_string(), id: "anyone".to_string() } }])
}

impl AclTable {
    pub fn new() -> AclTable {
        let mut table = AclTable { entries: Vec::new(), numbers: HashMap::new(), free: Vec::new() };
        let (open, readable) = (table.take(&world(perms::ALL)), table.take(&world(perms::READ)));
        debug_assert_eq!((open, readable), (OPEN, READABLE));
        table
    }

    /// The number of a list; one more use of it.
    pub fn take(&mut self, list: &[Acl]) -> u32 {
        if let Some(Some(open)) = self.entries.first_mut()
            && *open.list == *list
        {
            open.uses += 1;
            return OPEN;
        }
        if let Some(&number) = self.numbers.get(list) {
            self.keep(number);
            return number;
        }
        let list: Arc<[Acl]> = Arc::from(list);
        let entry = Some(Entry { hash: hash_list(&list), list: list.clone(), uses: 1 });
        let number = match self.free.pop() {
            Some(number) => {
                self.entries[number as usize] = entry;
                number
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        };
        self.numbers.insert(list, number);
        number
    }

    /// One more use.
    pub fn keep(&mut self, number: u32) {
        if let Some(entry) = &mut self.entries[number as usize] {
            entry.uses += 1;
        }
    }

    /// One use less; without any the list goes.
    pub fn give(&mut self, number: u32) {
        let Some(entry) = &mut self.entries[number as usize] else { return };
        entry.uses -= 1;
        if entry.uses == 0
            && let Some(entry) = self.entries[number as usize].take()
        {
            self.numbers.remove(&entry.list);
            self.free.push(number);
        }
    }

    pub fn list(&self, number: u32) -> Arc<[Acl]> {
        self.entries[number as usize].as_ref().map_or_else(|| Arc::from([]), |entry| entry.list.clone())
    }

    pub fn hash(&self, number: u32) -> u64 {
        self.entries[number as usize].as_ref().map_or(0, |entry| entry.hash)
    }

    /// Whether somebody with these identities has one of the rights.
    pub fn allows(&self, number: u32, rights: i32, ids: &[Id]) -> bool {
        // Nearly every znode is open to all.
        number == OPEN && rights & perms::ALL != 0
            || self.entries[number as usize].as_ref().is_none_or(|entry| allows(&entry.list, rights, ids))
    }

    /// All lists with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Arc<[Acl]>)> {
        let entries = self.entries.iter().enumerate();
        entries.filter_map(|(number, entry)| Some((number as u32, &entry.as_ref()?.list)))
    }
}

fn hash_list(list: &[Acl]) -> u64 {
    let mut words = Vec::with_capacity(list.len() * 3);
    for acl in list {
        words.extend([
            acl.perms as u32 as u64,
            hash_bytes(acl.id.scheme.as_bytes()),
            hash_bytes(acl.id.id.as_bytes()),
        ]);
    }
    hash_words(&words)
}

/// Whether a list gives one of the rights to somebody with these identities. An empty list is open.
pub fn allows(list: &[Acl], rights: i32, ids: &[Id]) -> bool {
    if list.is_empty() || ids.iter().any(|id| id.scheme == "super") {
        return true;
    }
    list.iter().any(|acl| {
        acl.perms & rights != 0
            && (acl.id.scheme == "world" && acl.id.id == "anyone"
                || ids.iter().any(|id| id.scheme == acl.id.scheme && matches(&acl.id, &id.id)))
    })
}

fn matches(wanted: &Id, id: &str) -> bool {
    match wanted.scheme.as_str() {
        "ip" => ip_matches(&wanted.id, id),
        "digest" | "x509" | "sasl" => wanted.id == id,
        _ => false,
    }
}

/// The address and the number of leading bits that count.
fn parse_ip(text: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse::<u32>().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(most);
    (bits <= most).then_some((address, bits))
}

fn ip_matches(wanted: &str, id: &str) -> bool {
    let (Some((wanted, bits)), Ok(id)) = (parse_ip(wanted), id.parse::<IpAddr>()) else { return false };
    match (wanted, id) {
        (IpAddr::V4(wanted), IpAddr::V4(id)) => {
            bits == 0 || (wanted.to_bits() ^ id.to_bits()) >> (32 - bits) == 0
        }
        (IpAddr::V6(wanted), IpAddr::V6(id)) => {
            bits == 0 || (wanted.to_bits() ^ id.to_bits()) >> (128 - bits) == 0
        }
        _ => false,
    }
}

/// `user:hash`, as the Java server splits it: exactly one colon, and empty pieces at the end count for nothing.
fn is_digest(id: &str) -> bool {
    id.trim_end_matches(':').matches(':').count() == 1
}

/// What a client asked for as it is stored: without repeats, `auth` replaced by who the client is. Every entry must
/// be of a known scheme and well formed, and at least one must remain.
pub(super) fn resolve_acl<'a>(asked: &'a [Acl], ids: &[Id]) -> Result<Cow<'a, [Acl]>, Code> {
    if let [only] = asked
        && only.id.scheme == "world"
        && only.id.id == "anyone"
    {
        return Ok(Cow::Borrowed(asked));
    }
    let mut list: Vec<Acl> = Vec::with_capacity(asked.len());
    let mut seen = HashSet::new();
    for acl in asked {
        if asked.len() > 1 && !seen.insert(acl) {
            continue;
        }
        let valid = match acl.id.scheme.as_str() {
            "auth" => {
                let proven = ids.iter().filter(|id| matches!(id.scheme.as_str(), "digest" | "x509" | "sasl"));
                let before = list.len();
                list.extend(proven.map(|id| Acl { perms: acl.perms, id: id.clone() }));
                if list.len() == before {
                    return Err(Code::InvalidAcl);
                }
                continue;
            }
            "world" => acl.id.id == "anyone",
            "digest" => is_digest(&acl.id.id),
            "ip" => parse_ip(&acl.id.id).is_some(),
            "x509" | "sasl" => !acl.id.id.is_empty(),
            _ => false,
        };
        if !valid {
            return Err(Code::InvalidAcl);
        }
        list.push(acl.clone());
    }
    if list.is_empty() { Err(Code::InvalidAcl) } else { Ok(Cow::Owned(list)) }
}

/// What `getACL` shows to those who may not administer: the users without the hashes of their passwords.
pub(super) fn mask(list: &[Acl]) -> Vec<Acl> {
    let mut list = list.to_vec();
    for acl in &mut list {
        if acl.id.scheme == "digest" {
            let user = acl.id.id.split(':').next().unwrap_or_default();
            acl.id.id = format!("{user}:x");
        }
    }
    list
}
