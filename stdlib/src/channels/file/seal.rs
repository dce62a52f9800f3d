//! Encryption at rest: AES-256-GCM over each record batch, with a key derived from the secret by PBKDF2. The salt and
//! a known text in cipher stand in the directory's format file, so that a wrong secret is noticed before anything is
//! read or written.

use std::num::NonZeroU32;

use flow_agent::Fault;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::pbkdf2;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

/// Rounds of PBKDF2-HMAC-SHA-256: once for each start, so they may cost a tenth of a second.
const ROUNDS: NonZeroU32 = NonZeroU32::new(200_000).unwrap();

/// Known text whose cipher tells whether a secret is the right one.
const CHECK_TEXT: &[u8] = b"flow channel";

const SALT_BYTES: usize = 16;

/// A key in use. Nonces are random, 96 bits each: good for four billion batches under one key (NIST SP 800-38D).
pub struct Seal {
    key: LessSafeKey,
    random: SystemRandom,
}

/// What a directory says of its key.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct KeyCheck {
    /// Hexadecimal.
    salt: String,
    check: String,
}

impl Seal {
    /// A key for a new directory.
    pub fn make(secret: &str) -> Result<(Seal, KeyCheck), Fault> {
        let mut salt = [0; SALT_BYTES];
        SystemRandom::new().fill(&mut salt).map_err(|_| no_random())?;
        let seal = Seal::derive(secret, &salt)?;
        let check = seal.close(CHECK_TEXT.to_vec(), &salt)?;
        Ok((seal, KeyCheck { salt: hex::encode(salt), check: hex::encode(check) }))
    }

    /// The key of a directory; nothing when the secret is not the one it was made with.
    pub fn unlock(secret: &str, check: &KeyCheck) -> Result<Option<Seal>, Fault> {
        let (Ok(salt), Ok(cipher)) = (hex::decode(&check.salt), hex::decode(&check.check)) else {
            return Ok(None);
        };
        let seal = Seal::derive(secret, &salt)?;
        let right = seal.open(&cipher, &salt).is_some_and(|text| text == CHECK_TEXT);
        Ok(right.then_some(seal))
    }

    fn derive(secret: &str, salt: &[u8]) -> Result<Seal, Fault> {
        let mut bytes = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, salt, secret.as_bytes(), &mut bytes);
        let key = UnboundKey::new(&AES_256_GCM, &bytes)
            .map_err(|_| Fault::new("the key cannot be used").code("F1109").setting("key"))?;
        Ok(Seal { key: LessSafeKey::new(key), random: SystemRandom::new() })
    }

    /// A nonce, the cipher, its tag. `context` must be the same when it is opened.
    pub fn close(&self, mut text: Vec<u8>, context: &[u8]) -> Result<Vec<u8>, Fault> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| no_random())?;
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut text)
            .map_err(|_| Fault::new("a batch is too large to be encrypted"))?;
        text.splice(0..0, nonce);
        Ok(text)
    }

    /// The text; nothing when the key, the context or any bit is wrong.
    pub fn open(&self, cipher: &[u8], context: &[u8]) -> Option<Vec<u8>> {
        let (nonce, cipher) = cipher.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = cipher.to_vec();
        let length = self.key.open_in_place(nonce, Aad::from(context), &mut text).ok()?.len();
        text.truncate(length);
        Some(text)
    }
}

fn no_random() -> Fault {
    Fault::new("the system gives no random numbers for the key").setting("key")
}
