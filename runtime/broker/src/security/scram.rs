//! SCRAM-SHA-256 and SCRAM-SHA-512 (RFC 5802, RFC 7677), both ends. It knows messages and keys; where credentials are
//! kept and what a session is, it does not.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256, Sha512};

/// Rounds of key derivation where nobody asks for others; also the least that is taken (as Kafka has it).
pub(crate) const ITERATIONS_MIN: u32 = 4096;
/// The most that is taken: each is work for whoever logs in.
pub(crate) const ITERATIONS_MAX: u32 = 16384;
/// Bytes of a message of the exchange.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize)]
pub(crate) enum Mechanism {
    #[serde(rename = "SCRAM-SHA-256")]
    Sha256,
    #[serde(rename = "SCRAM-SHA-512")]
    Sha512,
}

/// What proves a password without being it.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct Credential {
    pub mechanism: Mechanism,
    pub salt: Vec<u8>,
    pub iterations: u32,
    pub stored_key: Vec<u8>,
    pub server_key: Vec<u8>,
}

/// Why an exchange fails. What the other side is told is less.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum ScramError {
    #[error("malformed SCRAM message")]
    Malformed,
    #[error("channel binding is not supported")]
    ChannelBinding,
    #[error("the nonce is not the one that was given")]
    Nonce,
    #[error("wrong user or password")]
    Proof,
    #[error("the server does not know the password either")]
    Server,
    #[error("the server wants too much or too little work")]
    Iterations,
}

impl Mechanism {
    pub(crate) const ALL: [Mechanism; 2] = [Mechanism::Sha256, Mechanism::Sha512];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Mechanism::Sha256 => "SCRAM-SHA-256",
            Mechanism::Sha512 => "SCRAM-SHA-512",
        }
    }

    /// The number in Kafka's SCRAM credential APIs (KIP-554).
    pub(crate) fn code(self) -> i8 {
        match self {
            Mechanism::Sha256 => 1,
            Mechanism::Sha512 => 2,
        }
    }

    pub(crate) fn from_code(code: i8) -> Option<Mechanism> {
        Mechanism::ALL.into_iter().find(|mechanism| mechanism.code() == code)
    }

    pub(crate) fn from_name(name: &str) -> Option<Mechanism> {
        Mechanism::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }

    fn hash(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Mechanism::Sha256 => Sha256::digest(bytes).to_vec(),
            Mechanism::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }

    fn hmac(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        fn mac<M: Mac + hmac::digest::KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
            let mut mac = <M as Mac>::new_from_slice(key).expect("HMAC takes keys of any length");
            mac.update(message);
            mac.finalize().into_bytes().to_vec()
        }
        match self {
            Mechanism::Sha256 => mac::<Hmac<Sha256>>(key, message),
            Mechanism::Sha512 => mac::<Hmac<Sha512>>(key, message),
        }
    }

    /// `Hi` of RFC 5802: PBKDF2 with one block. Milliseconds of work.
    fn salted_password(self, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
        let mut key = vec![0; if self == Mechanism::Sha256 { 32 } else { 64 }];
        match self {
            Mechanism::Sha256 => pbkdf2::pbkdf2::<Hmac<Sha256>>(password, salt, iterations, &mut key),
            Mechanism::Sha512 => pbkdf2::pbkdf2::<Hmac<Sha512>>(password, salt, iterations, &mut key),
        }
        .expect("HMAC takes keys of any length");
        key
    }
}

impl Credential {
    /// Milliseconds of work: not for a thread that serves connections.
    pub(crate) fn from_password(
        mechanism: Mechanism,
        password: &str,
        salt: Vec<u8>,
        iterations: u32,
    ) -> Credential {
        let salted = mechanism.salted_password(password.as_bytes(), &salt, iterations);
        Credential::from_salted_password(mechanism, &salted, salt, iterations)
    }

    /// From what a client derived itself (KIP-554).
    pub(crate) fn from_salted_password(
        mechanism: Mechanism,
        salted: &[u8],
        salt: Vec<u8>,
        iterations: u32,
    ) -> Credential {
        let client_key = mechanism.hmac(salted, b"Client Key");
        Credential {
            mechanism,
            salt,
            iterations,
            stored_key: mechanism.hash(&client_key),
            server_key: mechanism.hmac(salted, b"Server Key"),
        }
    }

    /// Nobody's: its salt is the same every time that the same unknown user asks, and no password fits.
    pub(crate) fn of_nobody(mechanism: Mechanism, user: &str, secret: &[u8]) -> Credential {
        let salt = mechanism.hmac(secret, user.as_bytes())[..16].to_vec();
        Credential {
            mechanism,
            iterations: ITERATIONS_MIN,
            stored_key: mechanism.hmac(secret, &salt),
            server_key: mechanism.hmac(secret, b"nobody"),
            salt,
        }
    }
}

/// 128 random bits as text that SCRAM can carry.
pub(crate) fn nonce() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// The server's end after it has sent its first message.
pub(crate) struct Server {
    credential: Credential,
    /// Client's and server's, one after the other.
    nonce: String,
    channel_binding: String,
    /// The part of the signed text that is known.
    signed: String,
}

/// What a client asks for with its first message.
pub(crate) struct ClientFirst<'a> {
    pub user: String,
    header: &'a str,
    bare: &'a str,
    nonce: &'a str,
}

impl ClientFirst<'_> {
    pub(crate) fn parse(message: &[u8]) -> Result<ClientFirst<'_>, ScramError> {
        let message = text(message)?;
        // gs2-header: channel binding flag, authorization id; then the bare message.
        let (binding, rest) = message.split_once(',').ok_or(ScramError::Malformed)?;
        let (authorization, bare) = rest.split_once(',').ok_or(ScramError::Malformed)?;
        match binding {
            // "y": the client could, and thinks that we cannot. It is right.
            "n" | "y" => {}
            _ if binding.starts_with("p=") => return Err(ScramError::ChannelBinding),
            _ => return Err(ScramError::Malformed),
        }
        let mut parts = bare.split(',');
        let user = attribute(parts.next(), "n=").and_then(unescape)?;
        let nonce = attribute(parts.next(), "r=")?;
        if nonce.is_empty() || user.is_empty() {
            return Err(ScramError::Malformed);
        }
        // Acting for somebody else is not a thing here.
        if !authorization.is_empty() && attribute(Some(authorization), "a=").and_then(unescape)? != user {
            return Err(ScramError::Malformed);
        }
        let header = &message[..message.len() - bare.len()];
        Ok(ClientFirst { user, header, bare, nonce })
    }
}

impl Server {
    /// The server's first message, and what waits for the client's last.
    pub(crate) fn start(first: &ClientFirst<'_>, credential: Credential, nonce: &str) -> (Server, Vec<u8>) {
        let nonce = format!("{}{nonce}", first.nonce);
        let salt = BASE64.encode(&credential.salt);
        let message = format!("r={nonce},s={salt},i={}", credential.iterations);
        let server = Server {
            credential,
            nonce,
            channel_binding: BASE64.encode(first.header),
            signed: format!("{},{message}", first.bare),
        };
        (server, message.into_bytes())
    }

    /// The server's last message, if the client knows the password.
    pub(crate) fn finish(self, message: &[u8]) -> Result<Vec<u8>, ScramError> {
        let message = text(message)?;
        let (unproved, proof) = message.rsplit_once(",p=").ok_or(ScramError::Malformed)?;
        let mut parts = unproved.split(',');
        if attribute(parts.next(), "c=")? != self.channel_binding {
            return Err(ScramError::ChannelBinding);
        }
        // Not `==`: librdkafka before 2.6.1 says its own nonce twice, and Kafka lets it in for that. Ours
        // is in it whole, so that nothing can be replayed.
        if !attribute(parts.next(), "r=")?.ends_with(&self.nonce) {
            return Err(ScramError::Nonce);
        }
        let proof = BASE64.decode(proof).map_err(|_| ScramError::Malformed)?;
        let signed = format!("{},{unproved}", self.signed);
        let Credential { mechanism, stored_key, server_key, .. } = &self.credential;
        let signature = mechanism.hmac(stored_key, signed.as_bytes());
        if proof.len() != signature.len() {
            return Err(ScramError::Malformed);
        }
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        if !same(&mechanism.hash(&client_key), stored_key) {
            return Err(ScramError::Proof);
        }
        let signature = mechanism.hmac(server_key, signed.as_bytes());
        Ok(format!("v={}", BASE64.encode(signature)).into_bytes())
    }
}

/// The client's end.
pub(crate) struct Client {
    mechanism: Mechanism,
    password: String,
    nonce: String,
    bare: String,
    server_signature: Vec<u8>,
}

impl Client {
    /// The client's first message.
    pub(crate) fn start(mechanism: Mechanism, user: &str, password: &str, nonce: &str) -> (Client, Vec<u8>) {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let bare = format!("n={user},r={nonce}");
        let message = format!("n,,{bare}").into_bytes();
        let (password, nonce) = (password.to_owned(), nonce.to_owned());
        (Client { mechanism, password, nonce, bare, server_signature: Vec::new() }, message)
    }

    /// The client's last message. Milliseconds of work.
    pub(crate) fn prove(&mut self, message: &[u8]) -> Result<Vec<u8>, ScramError> {
        let message = text(message)?;
        let mut parts = message.split(',');
        let nonce = attribute(parts.next(), "r=")?;
        let salt = attribute(parts.next(), "s=")?;
        let iterations = attribute(parts.next(), "i=")?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(ScramError::Nonce);
        }
        let salt = BASE64.decode(salt).map_err(|_| ScramError::Malformed)?;
        let iterations: u32 = iterations.parse().map_err(|_| ScramError::Malformed)?;
        if !(ITERATIONS_MIN..=ITERATIONS_MAX * 64).contains(&iterations) {
            return Err(ScramError::Iterations);
        }
        let unproved = format!("c={},r={nonce}", BASE64.encode("n,,"));
        let signed = format!("{},{message},{unproved}", self.bare);
        let salted = self.mechanism.salted_password(self.password.as_bytes(), &salt, iterations);
        let client_key = self.mechanism.hmac(&salted, b"Client Key");
        let stored_key = self.mechanism.hash(&client_key);
        let signature = self.mechanism.hmac(&stored_key, signed.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        let server_key = self.mechanism.hmac(&salted, b"Server Key");
        self.server_signature = self.mechanism.hmac(&server_key, signed.as_bytes());
        Ok(format!("{unproved},p={}", BASE64.encode(proof)).into_bytes())
    }

    /// Whether the server knows the password too.
    pub(crate) fn check(&self, message: &[u8]) -> Result<(), ScramError> {
        let signature = attribute(Some(text(message)?), "v=")?;
        let signature = BASE64.decode(signature).map_err(|_| ScramError::Malformed)?;
        if same(&signature, &self.server_signature) { Ok(()) } else { Err(ScramError::Server) }
    }
}

/// Compares in a time that does not tell where the difference is.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    let differences = a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b));
    a.len() == b.len() && std::hint::black_box(differences) == 0
}

fn text(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(ScramError::Malformed);
    }
    std::str::from_utf8(message).map_err(|_| ScramError::Malformed)
}

fn attribute<'a>(part: Option<&'a str>, name: &str) -> Result<&'a str, ScramError> {
    part.and_then(|part| part.strip_prefix(name)).ok_or(ScramError::Malformed)
}

/// `=2C` is a comma, `=3D` an equals sign, and nothing else is escaped.
fn unescape(name: &str) -> Result<String, ScramError> {
    let mut parts = name.split('=');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (sign, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return Err(ScramError::Malformed),
        };
        text.push(sign);
        text.push_str(rest);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_7677_is_spoken_by_both_ends() {
        let (mut client, first) = Client::start(Mechanism::Sha256, "user", "pencil", "rOprNGfwEbeRWgbNEkqO");
        assert_eq!(first, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let credential = Credential::from_password(Mechanism::Sha256, "pencil", salt, 4096);
        let first = ClientFirst::parse(&first).unwrap();
        let (server, answer) = Server::start(&first, credential, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0");
        let expected: &[u8] =
            b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        assert_eq!(answer, expected);
        let proof = client.prove(&answer).unwrap();
        assert!(proof.ends_with(b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="));
        let last = server.finish(&proof).unwrap();
        assert_eq!(last, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        client.check(&last).unwrap();
    }

    /// kcat of Debian 12 (librdkafka 2.0.2) puts its nonce once more before the one that the server sent, and was not
    /// let in. Bytes captured from it.
    #[test]
    fn a_client_that_says_its_nonce_twice_is_let_in() {
        let salt = BASE64.decode("ZGNiMzdhMWJkZDI0NGIxYzk1MzhmZDUyMWM1ZGU5MzU=").unwrap();
        let credential = Credential::from_password(Mechanism::Sha256, "admin-secret", salt, 4096);
        let first = ClientFirst::parse(br"n,,n=admin,r=ci_7L_Q`dziNGWB\zixr@ZaRr?J7`J:1").unwrap();
        let server = || Server::start(&first, credential.clone(), "b04d3e6745e44dacae1dfa2352bec9c4").0;
        let last = r"c=biws,r=ci_7L_Q`dziNGWB\zixr@ZaRr?J7`J:1ci_7L_Q`dziNGWB\zixr@ZaRr?J7`J:1b04d3e6745e44dacae1dfa2352bec9c4,p=oVlFAMCEwH3xSjeGXdIRsbWPs3lxf6l6PXgTcWtr0Vs=";
        assert!(server().finish(last.as_bytes()).is_ok());
        let old = last.replace("b04d", "b14d");
        assert_eq!(server().finish(old.as_bytes()), Err(ScramError::Nonce));
    }

    #[test]
    fn a_wrong_password_and_an_unknown_user_look_the_same() {
        let known = Credential::from_password(Mechanism::Sha512, "right", vec![7; 16], 4096);
        for credential in [known, Credential::of_nobody(Mechanism::Sha512, "a=,b", b"secret")] {
            let (mut client, first) = Client::start(Mechanism::Sha512, "a=,b", "wrong", "abc");
            let first = ClientFirst::parse(&first).unwrap();
            assert_eq!(first.user, "a=,b");
            let (server, answer) = Server::start(&first, credential, "def");
            let proof = client.prove(&answer).unwrap();
            assert_eq!(server.finish(&proof), Err(ScramError::Proof));
        }
    }

    #[test]
    fn what_is_not_scram_is_refused() {
        for message in
            ["", "n", "n,,", "n,,n=,r=a", "n,,n=a=2,r=b", "n,a=c,n=a,r=b", "x,,n=a,r=b", "n,,r=b,n=a"]
        {
            assert!(
                matches!(ClientFirst::parse(message.as_bytes()), Err(ScramError::Malformed)),
                "{message}"
            );
        }
        let binding = ClientFirst::parse(b"p=tls-unique,,n=a,r=b");
        assert!(matches!(binding, Err(ScramError::ChannelBinding)));
        let (mut client, _) = Client::start(Mechanism::Sha256, "a", "b", "abc");
        // A server that makes the client work for a day, or gives its own nonce.
        assert_eq!(client.prove(b"r=abcd,s=AAAA,i=4000000000"), Err(ScramError::Iterations));
        assert_eq!(client.prove(b"r=xyz,s=AAAA,i=4096"), Err(ScramError::Nonce));
    }
}
