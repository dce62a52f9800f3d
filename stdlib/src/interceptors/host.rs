//! `host`: the name or address of this host.

use std::net::UdpSocket;

use flow_plan::Settings;
use flow_plan::interceptor::{LowerContext, LowerError, Lowered};
use serde::Deserialize;

use super::build::{code, decode, refuse, set_header, text};
use crate::functions::host_name;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Host {
    header: String,
    use_ip: bool,
    keep: bool,
}

pub fn lower(settings: &Settings, context: &LowerContext<'_>) -> Result<Lowered, LowerError> {
    let host: Host = decode(settings)?;
    let value = match host.use_ip {
        false => host_name().to_owned(),
        true => match address() {
            Ok(address) => address,
            Err(error) => return refuse("use_ip", format!("this host has no address: {error}")),
        },
    };
    Ok(code(vec![set_header(context.slot(&host.header)?, text(value), host.keep)]))
}

/// The address that this host sends from: what the system would choose for a destination in the documentation
/// network (RFC 5737). Connecting a datagram socket sends nothing.
fn address() -> std::io::Result<String> {
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    let connected = socket.connect(("192.0.2.1", 9)).and_then(|()| socket.local_addr());
    match connected {
        Ok(address) => Ok(address.ip().to_string()),
        // A host without a route still has its loopback.
        Err(error) if error.kind() == std::io::ErrorKind::NetworkUnreachable => Ok("127.0.0.1".into()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use serde_json::json;

    use crate::functions::host_name;
    use crate::interceptors::testing::Run;

    fn run(change: serde_json::Value) -> Run {
        Run::of("host", json!({"header": "host", "use_ip": false, "keep": false}), change)
    }

    #[test]
    fn the_name_of_this_host() {
        let named = format!("x @0 host={}", host_name());
        assert_eq!(run(json!({})).event("x").with("host", "old").all(), [named]);
        assert_eq!(run(json!({"keep": true})).event("x").with("host", "old").all(), ["x @0 host=old"]);
        assert_eq!(
            run(json!({"header": "elsewhere"})).error(),
            "the plan has no slot for header `elsewhere`"
        );
    }

    #[test]
    fn the_address_of_this_host() {
        let shown = run(json!({"use_ip": true})).event("x").all();
        let address = shown[0].strip_prefix("x @0 host=").map(str::parse::<IpAddr>);
        assert!(matches!(address, Some(Ok(_))), "{shown:?}");
    }
}
