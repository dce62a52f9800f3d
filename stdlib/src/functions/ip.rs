//! IP addresses and networks.

use std::net::IpAddr;

use flow_plan::Value;
use flow_plan::function::{CallContext, EvalError, Functions};
use ipnet::IpNet;

use super::args::{Answer, fail, int, list, shown, take, text, unexpected};

pub fn add(functions: &mut Functions) {
    functions.add("is_ip", is_ip);
    functions.add("is_ipv4", is_ipv4);
    functions.add("is_ipv6", is_ipv6);
    functions.add("is_private_ip", is_private_ip);
    functions.add("ip_in_cidr", ip_in_cidr);
    functions.add("mask_ip", mask_ip);
}

pub fn parse(text: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

fn address(value: Value<'_>) -> Result<IpAddr, EvalError> {
    let text = text(value)?;
    parse(&text).ok_or_else(|| EvalError::new(format!("`{}` is not an IP address", shown(&text))))
}

fn is_ip<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    Ok(Value::Bool(parse(&text(value)?).is_some()))
}

fn is_ipv4<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    Ok(Value::Bool(parse(&text(value)?).is_some_and(|ip| ip.is_ipv4())))
}

fn is_ipv6<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    Ok(Value::Bool(parse(&text(value)?).is_some_and(|ip| ip.is_ipv6())))
}

fn is_private_ip<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [value] = take(args)?;
    Ok(Value::Bool(is_private(address(value)?)))
}

/// Whether an address is of a private, loopback or link-local network.
pub fn is_private(ip: IpAddr) -> bool {
    // An address of version 4 written as one of version 6 is judged as what it is.
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// A network; a single address is the network of itself.
pub fn parse_network(text: &[u8]) -> Option<IpNet> {
    let text = std::str::from_utf8(text).ok()?.trim();
    text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// The network of an address, of so many bits.
pub fn network_of(ip: IpAddr, bits: i64) -> Option<IpAddr> {
    let network = IpNet::new(ip, u8::try_from(bits).ok()?).ok()?;
    Some(network.network())
}

fn network(value: &Value<'_>) -> Result<IpNet, EvalError> {
    let Value::Text(text) = value else {
        return Err(unexpected("a network", value));
    };
    parse_network(text)
        .ok_or_else(|| EvalError::new(format!("`{}` is not a network like `10.0.0.0/8`", shown(text))))
}

fn ip_in_cidr<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [ip, networks] = take(args)?;
    let ip = address(ip)?.to_canonical();
    let networks = match networks {
        one @ Value::Text(_) => vec![one],
        many => list(many)?,
    };
    for item in &networks {
        if network(item)?.contains(&ip) {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn mask_ip<'a>(_: &mut dyn CallContext, args: Vec<Value<'a>>) -> Answer<'a> {
    let [ip, v4_bits, v6_bits] = take(args)?;
    let ip = address(ip)?;
    let (bits, bits_max) = if ip.is_ipv4() { (int(v4_bits)?, 32) } else { (int(v6_bits)?, 128) };
    match network_of(ip, bits) {
        Some(network) => Ok(Value::string(network.to_string())),
        None => fail(format!("the number of bits must be between 0 and {bits_max}, this is {bits}")),
    }
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{call, error, i, t, texts};

    #[test]
    fn addresses_are_told_apart() {
        let ask = |name, ip| call(name, vec![t(ip)]);
        assert_eq!(
            ["10.0.0.1", "::1", " 1.2.3.4 ", "1.2.3", "x"].map(|ip| ask("is_ip", ip)),
            ["true", "true", "true", "false", "false"]
        );
        assert_eq!((ask("is_ipv4", "::1"), ask("is_ipv6", "::1")), ("false".into(), "true".into()));
    }

    #[test]
    fn private_networks() {
        for ip in ["10.1.2.3", "127.0.0.1", "169.254.1.1", "::1", "fd00::1", "fe80::1", "::ffff:192.168.0.1"]
        {
            assert_eq!(call("is_private_ip", vec![t(ip)]), "true", "{ip}");
        }
        for ip in ["8.8.8.8", "172.32.0.1", "2001:db8::1"] {
            assert_eq!(call("is_private_ip", vec![t(ip)]), "false", "{ip}");
        }
        assert_eq!(error("is_private_ip", vec![t("x")]), "`x` is not an IP address");
    }

    #[test]
    fn membership_in_networks() {
        assert_eq!(call("ip_in_cidr", vec![t("10.1.2.3"), t("10.0.0.0/8")]), "true");
        assert_eq!(call("ip_in_cidr", vec![t("10.1.2.3"), texts(&["::/0", "10.1.2.3"])]), "true");
        assert_eq!(call("ip_in_cidr", vec![t("::ffff:10.0.0.1"), t("10.0.0.0/8")]), "true");
        assert_eq!(call("ip_in_cidr", vec![t("::1"), t("10.0.0.0/8")]), "false");
        error("ip_in_cidr", vec![t("10.1.2.3"), t("10.0.0.0/40")]);
        error("ip_in_cidr", vec![t("ten"), t("10.0.0.0/8")]);
    }

    #[test]
    fn masked_addresses() {
        assert_eq!(call("mask_ip", vec![t("10.1.2.3"), i(24), i(48)]), "\"10.1.2.0\"");
        assert_eq!(call("mask_ip", vec![t("2001:db8:1:2::3"), i(24), i(48)]), "\"2001:db8:1::\"");
        assert_eq!(
            error("mask_ip", vec![t("10.1.2.3"), i(33), i(48)]),
            "the number of bits must be between 0 and 32, this is 33"
        );
        error("mask_ip", vec![t("::1"), i(24), i(-1)]);
    }
}
