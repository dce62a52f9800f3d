//! A number that is equal for equal trees: the sum of a hash of each znode and each session, kept up with each change.
//! The hash is the same on every machine and in every version of the snapshot format; it is no defence against forgery.

use super::node::Kind;

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const A: u64 = 0xa076_1d64_78bd_642f;
const B: u64 = 0xe703_7ed1_a0b4_28db;
const C: u64 = 0x8ebc_6af0_9c88_c6e3;

fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    (wide as u64) ^ ((wide >> 64) as u64)
}

fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// The hash of bytes, their number in it.
pub(super) fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut state = SEED ^ fold(bytes.len() as u64 ^ A, B);
    let mut pieces = bytes.chunks_exact(16);
    for piece in &mut pieces {
        state = fold(word(&piece[..8]) ^ A, word(&piece[8..]) ^ state);
    }
    let rest = pieces.remainder();
    let (low, high) = rest.split_at(rest.len().min(8));
    fold(fold(word(low) ^ B, word(high) ^ state), C ^ state)
}

/// The hash of a list of numbers.
pub(super) fn hash_words(words: &[u64]) -> u64 {
    words.iter().fold(SEED, |state, &word| fold(word ^ A, state ^ B).wrapping_add(state.rotate_left(23)))
}

/// The hash of the path of the root.
pub(super) const ROOT_HASH: u64 = SEED;

/// The hash of the path of a child.
pub(super) fn child_hash(parent: u64, name: &[u8]) -> u64 {
    fold(hash_bytes(name) ^ A, parent ^ B).wrapping_add(parent.rotate_left(23))
}

/// The hash of a path: made of its names, so that a tree can be hashed without its paths.
pub(super) fn path_hash(path: &str) -> u64 {
    let names = path.as_bytes().split(|&byte| byte == b'/').filter(|name| !name.is_empty());
    names.fold(ROOT_HASH, child_hash)
}

/// What a znode says itself: its data, its access list, who made and changed it.
pub(super) struct OwnPart<'a> {
    pub data: Option<&'a [u8]>,
    pub czxid: i64,
    pub mzxid: i64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    pub aversion: i32,
    pub kind: Kind,
    /// Of the access list.
    pub acl: u64,
}

/// The share of a znode's own fields; `path` is the hash of its path.
pub(super) fn own_part(path: u64, part: &OwnPart<'_>) -> u64 {
    let (tag, owner) = part.kind.parts();
    hash_words(&[
        path,
        1,
        part.data.map_or(0, hash_bytes),
        part.czxid as u64,
        part.mzxid as u64,
        part.ctime as u64,
        part.mtime as u64,
        (part.version as u32 as u64) << 32 | u64::from(part.aversion as u32),
        u64::from(tag),
        owner as u64,
        part.acl,
    ])
}

/// The share of what children do to a znode.
pub(super) fn child_part(path: u64, pzxid: i64, cversion: i32) -> u64 {
    hash_words(&[path, 2, pzxid as u64, u64::from(cversion as u32)])
}

/// The share of a session.
pub(super) fn session_part(id: i64, timeout_ms: i32, owner: u64) -> u64 {
    hash_words(&[id as u64, 3, u64::from(timeout_ms as u32), owner])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_part_of_the_snapshot_format() {
        // A snapshot of one version is held against the digest of another.
        assert_eq!(hash_bytes(b""), 0x9996_1983_3e3b_abd7);
        assert_eq!(hash_bytes(b"/zookeeper/config"), 0x192f_0e18_811b_834e);
        assert_eq!(hash_words(&[1, 2]), 0xedc8_2308_139e_aa2a);
        assert_eq!(path_hash("/"), ROOT_HASH);
        assert_eq!(path_hash("/a/b"), child_hash(child_hash(ROOT_HASH, b"a"), b"b"));
        assert_ne!(path_hash("/a/b"), path_hash("/b/a"));
        assert_ne!(hash_bytes(b""), hash_bytes(b"\0"));
        assert_ne!(hash_bytes(&[0; 16]), hash_bytes(&[0; 17]));
        assert_ne!(hash_words(&[1, 2]), hash_words(&[2, 1]));
    }
}
