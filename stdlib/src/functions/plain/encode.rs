//! Digests, encodings and addresses.

use std::io::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use flow_plan::function::{Functions, Plain, PlainAnswer, PlainImpl, PreparedPlain};
use ipnet::IpNet;
use md5::Md5;
use percent_encoding::percent_decode;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

use super::super::encode::{
    write_base64, write_base64_decoded, write_hex, write_hex_decoded, write_url_encoded,
};
use super::super::hashes::{bucket_of, checksum, write_digest, write_hmac_sha256};
use super::super::ip::{is_private, network_of, parse, parse_network};
use super::{bool, int, or_fails, text};

pub fn add(functions: &mut Functions) {
    let digests: [(_, PlainImpl); 4] = [
        ("md5", digest::<Md5>),
        ("sha1", digest::<Sha1>),
        ("sha256", digest::<Sha256>),
        ("sha512", digest::<Sha512>),
    ];
    for (name, call) in digests {
        functions.add_plain(name, call);
    }
    functions.add_plain("hmac_sha256", hmac_sha256);
    functions.add_plain("crc32", crc32);
    functions.add_plain("bucket", bucket);
    functions.add_plain("base64", base64);
    functions.add_plain("base64_decode", base64_decode);
    functions.add_plain("hex", hex);
    functions.add_plain("hex_decode", hex_decode);
    functions.add_plain("url_encode", url_encode);
    functions.add_plain("url_decode", url_decode);
    functions.add_plain("is_ip", is_ip);
    functions.add_plain("is_ipv4", is_ipv4);
    functions.add_plain("is_ipv6", is_ipv6);
    functions.add_plain("is_private_ip", is_private_ip);
    functions.add_prepared("ip_in_cidr", ip_in_cidr);
    functions.add_plain("mask_ip", mask_ip);
}

fn digest<'a, D: Digest>(args: &[Plain<'a>], buffer: &mut Vec<u8>) -> PlainAnswer<'a> {
    written(args, buffer, write_digest::<D>)
}

/// A function of one text that always writes.
fn written<'a>(
    args: &[Plain<'a>],
    buffer: &mut Vec<u8>,
    write: impl FnOnce(&[u8], &mut Vec<u8>),
) -> PlainAnswer<'a> {
    let [Plain::Text(value)] = args else { return PlainAnswer::Unsure };
    write(value, buffer);
    PlainAnswer::Written
}

fn hmac_sha256<'a>(args: &[Plain<'a>], buffer: &mut Vec<u8>) -> PlainAnswer<'a> {
    let [Plain::Text(value), Plain::Text(key)] = args else { return PlainAnswer::Unsure };
    write_hmac_sha256(value, key, buffer);
    PlainAnswer::Written
}

fn crc32<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    let [Plain::Text(value)] = args else { return PlainAnswer::Unsure };
    int(i64::from(checksum(value)))
}

fn bucket<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    match args {
        [Plain::Text(value), Plain::Int(count @ 1..)] => int(bucket_of(value, *count)),
        [_, Plain::Int(_)] => PlainAnswer::Fails,
        _ => PlainAnswer::Unsure,
    }
}

fn base64<'a>(args: &[Plain<'a>], buffer: &mut Vec<u8>) -> PlainAnswer<'a> {
    written(args, buffer, write_base64)
}

fn base64_decode<'a>(args: &[Plain<'a>], buffer: &mut Vec<u8>) -> PlainAnswer<'a> {
    let [Plain::Text(digits)] = args else { return PlainAnswer::Unsure };
    or_fails(write_base64_decoded(digits, buffer).ok(), |()| PlainAnswer::Written)
}

fn hex<'a>(args: &[Plain<'a>], buffer: &mut Vec<u8>) -> PlainAnswer<'a> {
    written(args, buffer, write_hex)
}

fn hex_decode<'a>(args: &[Plain<'a>], buffer: &mut Vec<u8>) -> PlainAnswer<'a> {
    let [Plain::Text(digits)] = args else { return PlainAnswer::Unsure };
    if write_hex_decoded(digits, buffer) { PlainAnswer::Written } else { PlainAnswer::Fails }
}

fn url_encode<'a>(args: &[Plain<'a>], buffer: &mut Vec<u8>) -> PlainAnswer<'a> {
    written(args, buffer, write_url_encoded)
}

fn url_decode<'a>(args: &[Plain<'a>], buffer: &mut Vec<u8>) -> PlainAnswer<'a> {
    let [Plain::Text(value)] = args else { return PlainAnswer::Unsure };
    if memchr::memchr(b'%', value).is_none() {
        return text(value);
    }
    buffer.extend(percent_decode(value));
    PlainAnswer::Written
}

fn is_ip<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    let [Plain::Text(value)] = args else { return PlainAnswer::Unsure };
    bool(parse(value).is_some())
}

fn is_ipv4<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    let [Plain::Text(value)] = args else { return PlainAnswer::Unsure };
    bool(parse(value).is_some_and(|ip| ip.is_ipv4()))
}

fn is_ipv6<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    let [Plain::Text(value)] = args else { return PlainAnswer::Unsure };
    bool(parse(value).is_some_and(|ip| ip.is_ipv6()))
}

fn is_private_ip<'a>(args: &[Plain<'a>], _: &mut Vec<u8>) -> PlainAnswer<'a> {
    let [Plain::Text(value)] = args else { return PlainAnswer::Unsure };
    or_fails(parse(value), |ip| bool(is_private(ip)))
}

/// A constant network is read once.
fn ip_in_cidr(constants: &[Option<Plain<'_>>]) -> Option<PreparedPlain> {
    let lies_in = |ip: IpAddr, network: IpNet| bool(network.contains(&ip.to_canonical()));
    let form: PreparedPlain = match constants {
        [_, Some(Plain::Text(network))] => {
            let network = parse_network(network)?;
            Arc::new(move |args, _| match args {
                [Plain::Text(ip), _] => or_fails(parse(ip), |ip| lies_in(ip, network)),
                _ => PlainAnswer::Unsure,
            })
        }
        _ => Arc::new(move |args, _| match args {
            [Plain::Text(ip), Plain::Text(network)] => {
                or_fails(parse(ip).zip(parse_network(network)), |(ip, network)| lies_in(ip, network))
            }
            _ => PlainAnswer::Unsure,
        }),
    };
    Some(form)
}

fn mask_ip<'a>(args: &[Plain<'a>], buffer: &mut Vec<u8>) -> PlainAnswer<'a> {
    let [Plain::Text(ip), Plain::Int(v4_bits), Plain::Int(v6_bits)] = args else {
        return PlainAnswer::Unsure;
    };
    let masked = parse(ip).and_then(|ip| network_of(ip, if ip.is_ipv4() { *v4_bits } else { *v6_bits }));
    or_fails(masked, |ip| {
        // Writing to a vector cannot fail.
        let _ = write!(buffer, "{ip}");
        PlainAnswer::Written
    })
}
