//! The subject of a certificate as text, in the manner of RFC 2253, which is what ZooKeeper names such an identity by:
//! `CN=alice,O=Example,C=DE`. The certificate was verified before; nothing else of it is read.

/// The subject of a certificate in DER; `None` if it has none that can be told.
pub(super) fn subject(certificate: &[u8]) -> Option<String> {
    let mut outer = Der(certificate);
    let mut signed = Der(Der(outer.take(SEQUENCE)?).take(SEQUENCE)?);
    // Version (explicitly tagged, not in version 1), serial number, algorithm, issuer, validity; then the subject.
    signed.take(VERSION);
    signed.take(INTEGER)?;
    for _ in 0..3 {
        signed.take(SEQUENCE)?;
    }
    let mut names = Der(signed.take(SEQUENCE)?);
    let mut parts = Vec::new();
    while let Some(set) = names.take(SET) {
        let mut set = Der(set);
        let mut together = Vec::new();
        while let Some(attribute) = set.take(SEQUENCE) {
            let mut attribute = Der(attribute);
            let kind = attribute.take(OBJECT_ID)?;
            let (tag, value) = attribute.next()?;
            together.push(format!("{}={}", name_of(kind), text(tag, value)?));
        }
        parts.push(together.join("+"));
    }
    // The last one stands first.
    parts.reverse();
    (!parts.is_empty()).then(|| parts.join(","))
}

const INTEGER: u8 = 0x02;
const OBJECT_ID: u8 = 0x06;
const UTF8: u8 = 0x0c;
const PRINTABLE: u8 = 0x13;
const IA5: u8 = 0x16;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;

/// Values one after the other: tag, length, content.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The content of the next value if it has this tag; else it stays.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        if *self.0.first()? != tag {
            return None;
        }
        self.next().map(|(_, content)| content)
    }

    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut length = usize::from(first);
        if first >= 0x80 {
            let (bytes, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
            if bytes.is_empty() || bytes.len() > 4 {
                return None;
            }
            length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            rest = after;
        }
        let (content, after) = rest.split_at_checked(length)?;
        self.0 = after;
        Some((tag, content))
    }
}

/// The keyword of RFC 2253, else the numbers.
fn name_of(kind: &[u8]) -> String {
    let known = match kind {
        [0x55, 4, 3] => "CN",
        [0x55, 4, 6] => "C",
        [0x55, 4, 7] => "L",
        [0x55, 4, 8] => "ST",
        [0x55, 4, 9] => "STREET",
        [0x55, 4, 10] => "O",
        [0x55, 4, 11] => "OU",
        [9, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1] => "UID",
        [9, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25] => "DC",
        _ => return numbers(kind),
    };
    known.to_owned()
}

fn numbers(kind: &[u8]) -> String {
    let mut parts: Vec<u64> = Vec::new();
    let mut value = 0u64;
    for byte in kind {
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if parts.is_empty() {
                let first = (value / 40).min(2);
                parts.push(first);
                value -= first * 40;
            }
            parts.push(value);
            value = 0;
        }
    }
    let parts: Vec<String> = parts.iter().map(u64::to_string).collect();
    parts.join(".")
}

fn text(tag: u8, value: &[u8]) -> Option<String> {
    let text = match tag {
        UTF8 | PRINTABLE | IA5 => std::str::from_utf8(value).ok()?,
        _ => return Some(value.iter().fold("#".to_owned(), |text, byte| format!("{text}{byte:02x}"))),
    };
    let mut escaped = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (at, sign) in text.chars().enumerate() {
        let special = ",+\"\\<>;".contains(sign)
            || at == 0 && (sign == '#' || sign == ' ')
            || at == last && sign == ' ';
        if special {
            escaped.push('\\');
        }
        escaped.push(sign);
    }
    Some(escaped)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn certificate() -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CountryName, "DE");
        params.distinguished_name.push(DnType::OrganizationName, " Example, \"Inc\" ");
        params.distinguished_name.push(DnType::CustomDnType(vec![1, 2, 840, 113549, 1, 9, 1]), "a@b");
        params.distinguished_name.push(DnType::CommonName, "#älice");
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn a_subject_is_written_as_rfc_2253_has_it() {
        let expected = r#"CN=\#älice,1.2.840.113549.1.9.1=a@b,O=\ Example\, \"Inc\"\ ,C=DE"#;
        assert_eq!(subject(&certificate()).as_deref(), Some(expected));
    }

    #[test]
    fn what_is_no_certificate_has_no_subject() {
        let whole = certificate();
        for length in 0..whole.len() / 4 {
            subject(&whole[..length]);
        }
        for at in 0..whole.len().min(300) {
            for byte in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut broken = whole.clone();
                broken[at] = byte;
                subject(&broken);
            }
        }
        assert_eq!(subject(&[]), None);
    }
}
