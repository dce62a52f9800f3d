//! Addresses to listen on, and what can be wrong with them. Sockets are bound when a source is made, before anything
//! of the flow runs, so that a port in use is told at the start; the runtime gets them later.

use std::io;
use std::net::{TcpListener as StdTcpListener, UdpSocket as StdUdpSocket};

use flow_agent::{Fault, SourceError};
use tokio::net::{TcpListener, UdpSocket};

use super::owner::{Transport, port_owner};
use super::positions::plain;

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 1024;

/// A parsed address: where to listen, and what stood after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `tcp`, `udp`, if one was written.
    pub scheme: Option<String>,
    /// `host:port`; without a host the loopback address.
    pub host_port: String,
    pub port: u16,
    /// From the `/` on.
    pub path: Option<String>,
}

/// Reads `[scheme://][host]:port[/path]`.
pub fn parse_address(text: &str, setting: &'static str) -> Result<Address, Fault> {
    let fault = |why: &str| {
        Fault::new(format!("`{text}` is not an address: {why}"))
            .setting(setting)
            .help("write `:8080`, `0.0.0.0:8080` or `[::1]:8080`")
    };
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
        None => (None, text),
    };
    let (place, path) = match rest.find('/') {
        Some(at) => (&rest[..at], Some(rest[at..].to_owned())),
        None => (rest, None),
    };
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) => (host, port),
        None => ("", place),
    };
    let port: u16 = port.parse().map_err(|_| fault("it ends in no port of 0 to 65535"))?;
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    if host.contains(':') && !host.starts_with('[') {
        return Err(fault("an IPv6 address stands in brackets"));
    }
    Ok(Address { scheme, host_port: format!("{host}:{port}"), port, path })
}

/// A socket that is bound and not used yet. It can be taken once: a source runs once.
#[derive(Debug)]
pub struct Held<S>(Option<S>);

/// Binds a listener. A name is looked up here, which may take as long as the resolver does.
pub fn bind_tcp(address: &Address, setting: &'static str) -> Result<Held<StdTcpListener>, Fault> {
    // The standard library allows a port whose last connections still linger (`SO_REUSEADDR`).
    let bind = || -> io::Result<StdTcpListener> {
        let listener = StdTcpListener::bind(&address.host_port)?;
        rustix::net::listen(&listener, BACKLOG)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bind()
        .map(|listener| Held(Some(listener)))
        .map_err(|error| fault(&error, address, Transport::Tcp, setting))
}

/// Binds a socket; `buffer`: bytes that the kernel may keep for it, instead of the default of the system.
pub fn bind_udp(
    address: &Address,
    setting: &'static str,
    buffer: Option<usize>,
) -> Result<Held<StdUdpSocket>, Fault> {
    let bind = || -> io::Result<StdUdpSocket> {
        let socket = StdUdpSocket::bind(&address.host_port)?;
        socket.set_nonblocking(true)?;
        if let Some(bytes) = buffer {
            rustix::net::sockopt::set_socket_recv_buffer_size(&socket, bytes)?;
            // The kernel doubles what it grants, and grants no more than its bound.
            let granted = rustix::net::sockopt::socket_recv_buffer_size(&socket)? / 2;
            if granted < bytes {
                tracing::warn!(
                    "the kernel grants `{}` a buffer of {granted} bytes instead of {bytes}: \
                     `sysctl -w net.core.rmem_max={bytes}` allows it",
                    address.host_port
                );
            }
        }
        Ok(socket)
    };
    bind().map(|socket| Held(Some(socket))).map_err(|error| fault(&error, address, Transport::Udp, setting))
}

impl Held<StdTcpListener> {
    /// Hands the listener to the runtime.
    pub fn take(&mut self) -> Result<TcpListener, SourceError> {
        let listener = self.0.take().ok_or_else(taken)?;
        let listener = TcpListener::from_std(listener).map_err(|error| unusable(&error))?;
        announce(listener.local_addr());
        Ok(listener)
    }
}

impl Held<StdUdpSocket> {
    /// Hands the socket to the runtime.
    pub fn take(&mut self) -> Result<UdpSocket, SourceError> {
        let socket = self.0.take().ok_or_else(taken)?;
        let socket = UdpSocket::from_std(socket).map_err(|error| unusable(&error))?;
        announce(socket.local_addr());
        Ok(socket)
    }
}

#[cfg(test)]
impl Held<StdTcpListener> {
    pub fn address(&self) -> std::net::SocketAddr {
        self.0.as_ref().unwrap().local_addr().unwrap()
    }
}

#[cfg(test)]
impl Held<StdUdpSocket> {
    pub fn address(&self) -> std::net::SocketAddr {
        self.0.as_ref().unwrap().local_addr().unwrap()
    }
}

fn taken() -> SourceError {
    SourceError::Retry(Fault::new("the socket was given away already"))
}

fn unusable(error: &io::Error) -> SourceError {
    SourceError::Retry(Fault::new(format!("cannot use the socket: {}", plain(error))))
}

fn announce(address: io::Result<std::net::SocketAddr>) {
    if let Ok(address) = address {
        tracing::info!("listening on {address}");
    }
}

/// Why an address cannot be listened on.
fn fault(error: &io::Error, address: &Address, transport: Transport, setting: &'static str) -> Fault {
    let place = &address.host_port;
    let fault = match error.kind() {
        io::ErrorKind::AddrInUse => {
            let by = match port_owner(transport, address.port) {
                Some(owner) if owner.pid == std::process::id() => "this process".to_owned(),
                Some(owner) => format!("process {} (`{}`)", owner.pid, owner.name),
                None => "another process".to_owned(),
            };
            Fault::new(format!("`{place}` is taken by {by}")).code("F0802").help("choose another port")
        }
        io::ErrorKind::PermissionDenied if (1..1024).contains(&address.port) => {
            Fault::new(format!("no permission for `{place}`: ports below 1024 need a capability"))
                .code("F0803")
                .help("`sudo setcap cap_net_bind_service=+ep $(command -v flowc)`, or a port above 1023")
        }
        io::ErrorKind::PermissionDenied => Fault::new(format!("no permission to listen on `{place}`")),
        io::ErrorKind::AddrNotAvailable => Fault::new(format!("`{place}` is no address of this host"))
            .help(format!("`:{0}` for this host alone, `0.0.0.0:{0}` for every address", address.port)),
        _ => Fault::new(format!("cannot listen on `{place}`: {}", plain(error))),
    };
    fault.setting(setting)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        parse_address(text, "listen").unwrap()
    }

    #[test]
    fn addresses_in_all_forms() {
        let read = |text| {
            let address = address(text);
            (address.scheme, address.host_port, address.path)
        };
        assert_eq!(read(":8080"), (None, "127.0.0.1:8080".into(), None));
        assert_eq!(read("8080"), (None, "127.0.0.1:8080".into(), None));
        assert_eq!(read(":8080/orders"), (None, "127.0.0.1:8080".into(), Some("/orders".into())));
        assert_eq!(read("udp://:514"), (Some("udp".into()), "127.0.0.1:514".into(), None));
        assert_eq!(read("tcp://[::1]:1514"), (Some("tcp".into()), "[::1]:1514".into(), None));
        for text in ["", "host", "host:", ":99999", "::1:80", ":x"] {
            assert!(parse_address(text, "listen").is_err(), "{text}");
        }
    }

    #[test]
    fn a_taken_port_is_a_fault_that_names_its_process() {
        let taken = StdTcpListener::bind("127.0.0.1:0").unwrap();
        let fault = bind_tcp(&address(&taken.local_addr().unwrap().to_string()), "listen").unwrap_err();
        assert_eq!((fault.code, fault.setting), (Some("F0802"), Some("listen")));
        assert!(fault.message.ends_with("is taken by this process"), "{fault}");
        let taken = StdUdpSocket::bind("127.0.0.1:0").unwrap();
        let fault = bind_udp(&address(&taken.local_addr().unwrap().to_string()), "listen", None).unwrap_err();
        assert_eq!((fault.code, fault.setting), (Some("F0802"), Some("listen")));
        assert!(fault.message.ends_with("is taken by this process"), "{fault}");
    }

    #[test]
    fn what_the_kernel_refuses_has_its_code_and_its_help() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let privileged = fault(&denied, &address(":514"), Transport::Udp, "listen");
        assert_eq!((privileged.code, privileged.setting), (Some("F0803"), Some("listen")));
        assert!(privileged.help.unwrap().contains("setcap cap_net_bind_service=+ep"));
        let high = fault(&denied, &address(":5140"), Transport::Udp, "listen");
        assert_eq!((high.code, high.help), (None, None), "another reason than the number of the port");
        // 192.0.2.0/24 is for documentation: no host has it.
        let foreign = bind_tcp(&address("192.0.2.1:8080"), "listen").unwrap_err();
        assert!(foreign.message.contains("no address of this host"), "{foreign}");
        assert!(foreign.help.unwrap().contains("0.0.0.0:8080"));
    }

    #[tokio::test]
    async fn a_socket_is_given_away_once() {
        let mut held = bind_tcp(&address(":0"), "listen").unwrap();
        assert!(held.take().is_ok());
        assert!(matches!(held.take(), Err(SourceError::Retry(_))));
    }
}
