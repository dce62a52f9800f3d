//! Addresses to listen on, and what can be wrong with them.

use std::io;
use std::net::SocketAddr;

use flow_agent::{Fault, SourceError};
use tokio::net::{TcpListener, UdpSocket};

/// A parsed address: where to listen, and what stood after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `tcp`, `udp`, if one was written.
    pub scheme: Option<String>,
    /// `host:port`; without a host the loopback address.
    pub host_port: String,
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
    Ok(Address { scheme, host_port: format!("{host}:{port}"), path })
}

pub async fn bind_tcp(address: &Address, setting: &'static str) -> Result<TcpListener, SourceError> {
    TcpListener::bind(&address.host_port).await.map_err(|error| fault(&error, address, setting))
}

pub async fn bind_udp(address: &Address, setting: &'static str) -> Result<UdpSocket, SourceError> {
    UdpSocket::bind(&address.host_port).await.map_err(|error| fault(&error, address, setting))
}

/// Why an address cannot be listened on. A port that is taken may become free.
fn fault(error: &io::Error, address: &Address, setting: &'static str) -> SourceError {
    let place = &address.host_port;
    let fault = match error.kind() {
        io::ErrorKind::AddrInUse => Fault::new(format!("`{place}` is taken by another process"))
            .code("F0802")
            .help("choose another port"),
        io::ErrorKind::PermissionDenied => {
            Fault::new(format!("no permission for `{place}`: ports below 1024 need a capability"))
                .code("F0803")
                .help("`setcap cap_net_bind_service=+ep flowc`, or a port above 1023")
        }
        _ => Fault::new(format!("cannot listen on `{place}`: {}", super::positions::plain(error))),
    };
    SourceError::Retry(fault.setting(setting))
}

/// Tells tests which port was given for port 0.
pub type Bound = Option<tokio::sync::oneshot::Sender<SocketAddr>>;

/// Says that a listener is there.
pub fn announce(bound: &mut Bound, address: io::Result<SocketAddr>) {
    if let Ok(address) = address {
        tracing::info!("listening on {address}");
        if let Some(bound) = bound.take() {
            let _ = bound.send(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_all_forms() {
        let read = |text| {
            let address = parse_address(text, "listen").unwrap();
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

    #[tokio::test]
    async fn a_taken_port_is_a_fault_of_its_setting() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = parse_address(&taken.local_addr().unwrap().to_string(), "listen").unwrap();
        let Err(SourceError::Retry(fault)) = bind_tcp(&address, "listen").await else { panic!("no fault") };
        assert_eq!((fault.code, fault.setting), (Some("F0802"), Some("listen")));
    }
}
