//! Facts about sockets from `/proc`: which process has a port, how many datagrams the kernel dropped. All of it is
//! best effort: where `/proc` does not tell, there is no answer.

use std::fs;
use std::io::Read;
use std::path::Path;

/// Bytes read of a table at most: far more sockets than a host has.
const TABLE_BYTES_MAX: u64 = 16 << 20;

/// Processes looked at to find an owner, and descriptors of all of them together.
const PROCESSES_MAX: usize = 20_000;
const DESCRIPTORS_MAX: usize = 200_000;

/// States of `/proc/net`: listening TCP sockets, unconnected UDP sockets.
const LISTENING: &str = "0A";
const UNCONNECTED: &str = "07";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Udp,
}

/// A process that holds a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub pid: u32,
    pub name: String,
}

/// The process that listens on a port, if this process may see it.
pub fn port_owner(transport: Transport, port: u16) -> Option<Owner> {
    let (tables, state) = match transport {
        Transport::Tcp => (["tcp", "tcp6"], LISTENING),
        Transport::Udp => (["udp", "udp6"], UNCONNECTED),
    };
    let mut inodes: Vec<u64> = Vec::new();
    for table in tables {
        let rows = table_text(table);
        let here = rows.lines().filter_map(parse_row).filter(|row| row.port == port && row.state == state);
        inodes.extend(here.map(|row| row.inode).filter(|inode| *inode != 0));
    }
    find_holder(Path::new("/proc"), &inodes)
}

/// Datagrams that the kernel dropped because the buffer of a socket was full, since the socket was made.
pub fn dropped_datagrams(inode: u64) -> Option<u64> {
    ["udp", "udp6"].into_iter().find_map(|table| {
        table_text(table)
            .lines()
            .filter_map(parse_row)
            .find(|row| row.inode == inode)
            .and_then(|row| row.drops)
    })
}

/// A row of `/proc/net/{tcp,udp}{,6}`.
#[derive(Debug, PartialEq, Eq)]
struct Row<'a> {
    port: u16,
    state: &'a str,
    inode: u64,
    /// The last column of the UDP tables.
    drops: Option<u64>,
}

fn parse_row(line: &str) -> Option<Row<'_>> {
    let mut words = line.split_ascii_whitespace();
    let local = words.nth(1)?;
    let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
    let state = words.nth(1)?;
    let inode = words.nth(5)?.parse().ok()?;
    let drops = words.nth(2).and_then(|word| word.parse().ok());
    Some(Row { port, state, inode, drops })
}

fn table_text(table: &str) -> String {
    let mut text = String::new();
    if let Ok(file) = fs::File::open(Path::new("/proc/net").join(table)) {
        // A part of the table is better than none.
        let _ = file.take(TABLE_BYTES_MAX).read_to_string(&mut text);
    }
    text
}

fn find_holder(proc: &Path, inodes: &[u64]) -> Option<Owner> {
    if inodes.is_empty() {
        return None;
    }
    let wanted: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let mut descriptors = 0;
    let processes = fs::read_dir(proc).ok()?.flatten().filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        Some((pid, entry.path()))
    });
    for (pid, directory) in processes.take(PROCESSES_MAX) {
        // The processes of others show their descriptors to nobody but root.
        let Ok(open) = fs::read_dir(directory.join("fd")) else { continue };
        for descriptor in open.flatten() {
            descriptors += 1;
            if descriptors > DESCRIPTORS_MAX {
                return None;
            }
            let Ok(target) = fs::read_link(descriptor.path()) else { continue };
            if wanted.iter().any(|wanted| target.as_os_str() == wanted.as_str()) {
                let name = fs::read_to_string(directory.join("comm")).unwrap_or_default();
                return Some(Owner { pid, name: name.trim().to_owned() });
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_tables() {
        let tcp = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 635 1 0000000074ca1270 100 0 0 10 0";
        let row = parse_row(tcp).unwrap();
        assert_eq!((row.port, row.state, row.inode), (8080, "0A", 635));
        let udp = "  12: 00000000:0202 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 17";
        let row = parse_row(udp).unwrap();
        assert_eq!(row, Row { port: 514, state: "07", inode: 4711, drops: Some(17) });
        assert_eq!(parse_row("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when"), None);
        assert_eq!(parse_row(""), None);
    }

    #[test]
    fn the_holder_of_a_socket_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let owner = port_owner(Transport::Tcp, listener.local_addr().unwrap().port()).unwrap();
        assert_eq!(owner.pid, std::process::id());
        assert!(!owner.name.is_empty());
        assert_eq!(find_holder(Path::new("/nowhere"), &[1]), None);
    }
}
