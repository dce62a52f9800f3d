//! The ensemble's servers as ZooKeeper writes them in `/zookeeper/config` and in requests to change them:
//! `server.N=host:port:port:participant;host:port` (see ZooKeeper's guide to dynamic reconfiguration).

use super::config::Member;

/// One line for each server that others can reach, in order of their numbers.
pub fn members_text(members: &[Member]) -> String {
    let mut sorted: Vec<&Member> = members.iter().filter(|member| !member.peer_address.is_empty()).collect();
    sorted.sort_by_key(|member| member.id);
    let mut text = String::new();
    for Member { id, peer_address, client_address, observer } in sorted {
        let port = peer_address.rsplit_once(':').map_or("0", |(_, port)| port);
        let role = if *observer { "observer" } else { "participant" };
        text.push_str(&format!("server.{id}={peer_address}:{port}:{role};{client_address}\n"));
    }
    text
}

/// Reads lines or a comma-separated list of servers, as [`members_text`] and ZooKeeper's clients write them.
///
/// # Errors
/// Says which part is not a server.
pub fn parse_members(text: &str) -> Result<Vec<Member>, String> {
    let parts = text.split(['\n', ',']).map(str::trim);
    let parts = parts.filter(|part| !part.is_empty() && !part.starts_with("version="));
    parts.map(|part| parse_member(part).ok_or_else(|| format!("`{part}` is not a server"))).collect()
}

fn parse_member(part: &str) -> Option<Member> {
    let (id, rest) = part.strip_prefix("server.")?.split_once('=')?;
    let (servers, client) = rest.split_once(';').unwrap_or((rest, ""));
    let (servers, observer) = match servers.rsplit_once(':')? {
        (servers, "observer") => (servers, true),
        (servers, "participant") => (servers, false),
        _ => (servers, false),
    };
    // The second port is for elections in ZooKeeper; here one does for both.
    let (server, _election_port) = servers.rsplit_once(':')?;
    let (host, port) = server.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    let client_port = client.rsplit_once(':').map_or(client, |(_, port)| port);
    let client_address = match client.rsplit_once(':') {
        _ if client.is_empty() => String::new(),
        None => {
            client_port.parse::<u16>().ok()?;
            format!("{host}:{client_port}")
        }
        Some(_) => {
            client_port.parse::<u16>().ok()?;
            client.to_owned()
        }
    };
    let id = id.parse().ok().filter(|id| *id > 0)?;
    (!host.is_empty()).then(|| Member { id, peer_address: server.to_owned(), client_address, observer })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_come_back_as_they_were_written() {
        let member = |id, observer| Member {
            id,
            peer_address: format!("h{id}:2888"),
            client_address: format!("h{id}:2181"),
            observer,
        };
        let text = members_text(&[member(2, true), member(1, false)]);
        assert_eq!(
            text,
            "server.1=h1:2888:2888:participant;h1:2181\nserver.2=h2:2888:2888:observer;h2:2181\n"
        );
        assert_eq!(parse_members(&text), Ok(vec![member(1, false), member(2, true)]));
    }

    #[test]
    fn what_zookeepers_clients_write_is_read() {
        let found = parse_members("server.5=[::1]:2888:3888;2181,server.6=b:1:2:observer").unwrap();
        assert_eq!(found[0].peer_address, "[::1]:2888");
        assert_eq!(found[0].client_address, "[::1]:2181");
        assert!(found[1].observer && found[1].client_address.is_empty());
        for wrong in
            ["x", "server.=a:1:2", "server.0=a:1:2", "server.1=a", "server.1=a:x:2;3", "server.1=a:1:2;x"]
        {
            assert!(parse_members(wrong).is_err(), "{wrong}");
        }
    }
}
