//! Who a client is: by its address, by what it says (`auth` packets), by its certificate.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha1::{Digest, Sha1};

use crate::proto::{Code, Id};

/// Identities of one connection.
const IDS_MAX: usize = 64;

/// The identities of a connection that has said nothing yet. `peer` is `host:port`.
pub(super) fn first_ids(peer: &str, certificate: Option<String>) -> Arc<[Id]> {
    let mut ids = vec![id("ip", host(peer))];
    ids.extend(certificate.map(|subject| id("x509", &subject)));
    ids.into()
}

/// The identities with what an `auth` packet proves. What it names comes first, as ZooKeeper lists them.
///
/// # Errors
/// [`Code::AuthFailed`] for a scheme that is not known, and when the client is not who it says.
pub(super) fn add_auth(
    ids: &[Id],
    scheme: &str,
    auth: &[u8],
    super_digest: Option<&str>,
) -> Result<Arc<[Id]>, Code> {
    let mut proven = Vec::new();
    match scheme {
        "digest" => {
            let text = std::str::from_utf8(auth).map_err(|_| Code::AuthFailed)?;
            let digest = digest(text);
            if super_digest == Some(digest.as_str()) {
                proven.push(id("super", ""));
            }
            proven.push(id("digest", &digest));
        }
        // The address is known without a word of the client, and so is its certificate.
        "ip" => {}
        "x509" if ids.iter().any(|id| id.scheme == "x509") => {}
        _ => return Err(Code::AuthFailed),
    }
    proven.retain(|id| !ids.contains(id));
    if ids.len() + proven.len() > IDS_MAX {
        return Err(Code::AuthFailed);
    }
    proven.extend_from_slice(ids);
    Ok(proven.into())
}

/// `user:base64(sha1(user:password))` of `user:password`.
pub fn digest(user_and_password: &str) -> String {
    let user = user_and_password.split(':').next().unwrap_or_default();
    format!("{user}:{}", BASE64_STANDARD.encode(Sha1::digest(user_and_password.as_bytes())))
}

/// What `whoAmI` tells: users without the hashes of their passwords.
pub(super) fn shown(ids: &[Id]) -> Vec<Id> {
    let shown = ids.iter().map(|one| match one.scheme.as_str() {
        "digest" => id("digest", one.id.split(':').next().unwrap_or_default()),
        _ => one.clone(),
    });
    shown.collect()
}

/// The host of `host:port`, without what IPv6 puts around and before it.
pub(super) fn host(peer: &str) -> &str {
    let host = peer.rsplit_once(':').map_or(peer, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.strip_prefix("::ffff:").filter(|v4| v4.contains('.')).unwrap_or(host)
}

fn id(scheme: &str, id: &str) -> Id {
    Id { scheme: scheme.to_owned(), id: id.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_zookeeper() {
        assert_eq!(digest("super:test"), "super:D/InIHSb7yEEbrWz8b9l71RjZJU=");
        assert_eq!(digest("user:pw:d").split(':').count(), 2);
    }

    #[test]
    fn who_gives_the_right_password_is_super() {
        let ids = first_ids("127.0.0.1:9", None);
        let known = Some("super:D/InIHSb7yEEbrWz8b9l71RjZJU=");
        let more = add_auth(&ids, "digest", b"super:test", known).expect("accepted");
        assert!(more.iter().any(|id| id.scheme == "super"));
        let more = add_auth(&ids, "digest", b"super:tost", known).expect("accepted");
        assert!(more.iter().all(|id| id.scheme != "super"));
        assert_eq!(shown(&more)[0], id("digest", "super"));
        assert_eq!(add_auth(&ids, "x509", b"", None), Err(Code::AuthFailed));
        assert_eq!(add_auth(&ids, "world", b"anyone", None), Err(Code::AuthFailed));
    }

    #[test]
    fn saying_the_same_often_takes_no_room_and_saying_much_has_an_end() {
        let mut ids = first_ids("127.0.0.1:9", None);
        for _ in 0..1000 {
            ids = add_auth(&ids, "digest", b"a:b", None).expect("accepted");
        }
        assert_eq!(ids.len(), 2);
        let last = (0..1000).find(|number| {
            match add_auth(&ids, "digest", format!("u{number}:p").as_bytes(), None) {
                Ok(more) => ids = more,
                Err(code) => {
                    assert_eq!(code, Code::AuthFailed);
                    return true;
                }
            }
            false
        });
        assert_eq!(last, Some(IDS_MAX - 2));
    }

    #[test]
    fn hosts_of_addresses() {
        assert_eq!(host("127.0.0.1:2181"), "127.0.0.1");
        assert_eq!(host("[::1]:2181"), "::1");
        assert_eq!(host("[::ffff:10.0.0.1]:2181"), "10.0.0.1");
        assert_eq!(host("client1:1"), "client1");
    }
}
