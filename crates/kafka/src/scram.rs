//! SCRAM as a client (RFC 5802, RFC 7677): what to say, from what was heard. No IO; the nonce is an argument.
//!
//! ```text
//!  Scram::first ──n=user,r=nonce──► broker
//!  Scram::prove ◄─r=,s=,i=───────── broker      the nonce goes on ours; the work is within bounds
//!        Proof  ──c=,r=,p=────────► broker
//!  Proof::check ◄─v=─────────────── broker      the broker knows the password's verifier, too
//! ```
//!
//! User and password are sent as they are, in UTF-8: Kafka prepares neither with `SASLprep`, and a client that did would
//! be refused. There is no channel binding, because Kafka offers none.

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac, pbkdf2};

/// The least work that is accepted, as RFC 7677 has it: with less, who listens finds the password sooner.
const MIN_ITERATIONS: u32 = 4096;

/// The most. Kafka's own limit for new users is 16384; a number far beyond is an attempt to keep us busy, and one of a
/// million takes about a second.
const MAX_ITERATIONS: u32 = 1_000_000;

/// The header of a client without channel binding, and the same in base64.
const NO_BINDING: &str = "n,,";
const NO_BINDING_BASE64: &str = "biws";

/// The hash function of an exchange.
#[derive(Clone, Copy)]
pub(crate) struct Hash {
    hmac: hmac::Algorithm,
    pbkdf2: pbkdf2::Algorithm,
}

/// An exchange that has begun.
pub(crate) struct Scram {
    hash: Hash,
    password: String,
    nonce: String,
    first_bare: String,
}

/// The second half of an exchange.
pub(crate) struct Proof {
    message: String,
    server_key: hmac::Key,
    auth_message: String,
}

/// Why an exchange cannot go on. Nothing of what was said is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScramError {
    /// A message lacks a part, or a part has the wrong form.
    #[error("the broker's SCRAM message has no usable {0}")]
    Malformed(&'static str),
    /// The broker answers somebody else.
    #[error("the broker's SCRAM nonce does not go on the client's")]
    ForeignNonce,
    /// The work asked for is out of bounds.
    #[error(
        "the broker asks for {0} SCRAM iterations: from {MIN_ITERATIONS} to {MAX_ITERATIONS} are accepted"
    )]
    Iterations(u32),
    /// The broker says no.
    #[error("the broker ended the SCRAM exchange with an error")]
    Refused,
    /// The broker does not know the user's password either: it may be somebody else.
    #[error("the broker's SCRAM signature is wrong: it does not know the password's verifier")]
    WrongSignature,
}

// === impl Hash ===

impl Hash {
    /// Of SCRAM-SHA-256.
    pub(crate) fn sha256() -> Self {
        Self { hmac: hmac::HMAC_SHA256, pbkdf2: pbkdf2::PBKDF2_HMAC_SHA256 }
    }

    /// Of SCRAM-SHA-512.
    pub(crate) fn sha512() -> Self {
        Self { hmac: hmac::HMAC_SHA512, pbkdf2: pbkdf2::PBKDF2_HMAC_SHA512 }
    }

    fn keyed(self, secret: &[u8]) -> hmac::Key {
        hmac::Key::new(self.hmac, secret)
    }

    fn digest(self, data: &[u8]) -> digest::Digest {
        digest::digest(self.hmac.digest_algorithm(), data)
    }

    /// What RFC 5802 calls the salted password.
    fn salted(self, password: &str, salt: &[u8], iterations: NonZeroU32) -> Vec<u8> {
        let mut salted = vec![0; self.hmac.digest_algorithm().output_len()];
        pbkdf2::derive(self.pbkdf2, iterations, salt, password.as_bytes(), &mut salted);
        salted
    }
}

// === impl Scram ===

impl Scram {
    /// Begins an exchange. The nonce is unguessable, printable and without commas.
    pub(crate) fn new(hash: Hash, user: &str, password: String, nonce: String) -> Self {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let first_bare = format!("n={user},r={nonce}");
        Self { hash, password, nonce, first_bare }
    }

    /// The first message.
    pub(crate) fn first(&self) -> String {
        format!("{NO_BINDING}{}", self.first_bare)
    }

    /// Answers the broker's challenge. Takes milliseconds of work.
    pub(crate) fn prove(&self, challenge: &[u8]) -> Result<Proof, ScramError> {
        let challenge = text(challenge)?;
        let mut parts = challenge.split(',');
        let nonce = part(parts.next(), "r=", "nonce")?;
        let salt = part(parts.next(), "s=", "salt")?;
        let iterations = part(parts.next(), "i=", "number of iterations")?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(ScramError::ForeignNonce);
        }
        let salt = BASE64.decode(salt).map_err(|_| ScramError::Malformed("salt"))?;
        let salted = self.hash.salted(&self.password, &salt, bounded(iterations)?);

        let bare = format!("c={NO_BINDING_BASE64},r={nonce}");
        let auth_message = format!("{},{challenge},{bare}", self.first_bare);
        let salted = self.hash.keyed(&salted);
        let client_key = hmac::sign(&salted, b"Client Key");
        let stored_key = self.hash.digest(client_key.as_ref());
        let signature = hmac::sign(&self.hash.keyed(stored_key.as_ref()), auth_message.as_bytes());
        let proof: Vec<u8> = std::iter::zip(client_key.as_ref(), signature.as_ref())
            .map(|(key, signature)| key ^ signature)
            .collect();
        let server_key = self.hash.keyed(hmac::sign(&salted, b"Server Key").as_ref());
        let message = format!("{bare},p={}", BASE64.encode(proof));
        Ok(Proof { message, server_key, auth_message })
    }
}

// === impl Proof ===

impl Proof {
    /// The second and last message.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Makes sure that the broker knows the user. The comparison takes the same time whatever differs.
    pub(crate) fn check(&self, outcome: &[u8]) -> Result<(), ScramError> {
        let outcome = text(outcome)?;
        if outcome.starts_with("e=") {
            return Err(ScramError::Refused);
        }
        let signature = part(outcome.split(',').next(), "v=", "signature")?;
        let signature = BASE64.decode(signature).map_err(|_| ScramError::Malformed("signature"))?;
        hmac::verify(&self.server_key, self.auth_message.as_bytes(), &signature)
            .map_err(|_| ScramError::WrongSignature)
    }
}

fn text(message: &[u8]) -> Result<&str, ScramError> {
    std::str::from_utf8(message).map_err(|_| ScramError::Malformed("text"))
}

fn part<'a>(part: Option<&'a str>, key: &str, name: &'static str) -> Result<&'a str, ScramError> {
    part.and_then(|part| part.strip_prefix(key)).ok_or(ScramError::Malformed(name))
}

fn bounded(iterations: &str) -> Result<NonZeroU32, ScramError> {
    let iterations: u32 =
        iterations.parse().map_err(|_| ScramError::Malformed("number of iterations"))?;
    NonZeroU32::new(iterations)
        .filter(|_| (MIN_ITERATIONS..=MAX_ITERATIONS).contains(&iterations))
        .ok_or(ScramError::Iterations(iterations))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const CHALLENGE: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                             s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    /// The client of the example in RFC 7677.
    fn user(hash: Hash) -> Scram {
        Scram::new(hash, "user", "pencil".to_owned(), "rOprNGfwEbeRWgbNEkqO".to_owned())
    }

    fn refusal(challenge: &str) -> ScramError {
        user(Hash::sha256()).prove(challenge.as_bytes()).err().unwrap()
    }

    #[test]
    fn the_example_of_rfc_7677_is_repeated_word_for_word() {
        let scram = user(Hash::sha256());
        assert_eq!(scram.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let proof = scram.prove(CHALLENGE.as_bytes()).unwrap();
        assert_eq!(
            proof.message(),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        let outcome = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(proof.check(outcome), Ok(()));
    }

    #[test]
    fn the_example_of_rfc_5802_is_repeated_with_sha_1() {
        let hash =
            Hash { hmac: hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, pbkdf2: pbkdf2::PBKDF2_HMAC_SHA1 };
        let nonce = "fyko+d2lbbFgONRv9qkxdawL".to_owned();
        let scram = Scram::new(hash, "user", "pencil".to_owned(), nonce);
        let challenge = b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096";
        let proof = scram.prove(challenge).unwrap();
        assert!(proof.message().ends_with(",p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="));
        assert_eq!(proof.check(b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ="), Ok(()));
    }

    #[test]
    fn the_same_exchange_with_sha_512_is_as_another_implementation_has_it() {
        let proof = user(Hash::sha512()).prove(CHALLENGE.as_bytes()).unwrap();
        assert!(proof.message().ends_with(SHA512_PROOF), "{}", proof.message());
        assert_eq!(proof.check(SHA512_OUTCOME.as_bytes()), Ok(()));
    }

    /// Computed with hashlib and hmac of Python.
    const SHA512_PROOF: &str = ",p=gMGXRcevScNtxZ6/8lQYpGtnsNAc3mGcmNomv+xnoOMw+3R2xNJdMNnzMlTN8PPC6wdp6dybEmDYXYTxwnYPJQ==";
    const SHA512_OUTCOME: &str = "v=ZQnYEgWQMFmmsM8aQMF0nDDCy/AgCzkwk8CmMZYcMg0vSVlKDanekLtifDSeVGT4+5ZxXnJq199RVG2rR7N7Zw==";

    #[test]
    fn signs_of_the_protocol_in_a_user_name_are_escaped() {
        let scram = Scram::new(Hash::sha256(), "a,b=c", String::new(), "x".to_owned());
        assert_eq!(scram.first(), "n,,n=a=2Cb=3Dc,r=x");
    }

    #[test]
    fn a_broker_that_cannot_prove_itself_is_refused() {
        let proof = user(Hash::sha256()).prove(CHALLENGE.as_bytes()).unwrap();
        let wrong = b"v=AAriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(proof.check(wrong), Err(ScramError::WrongSignature));
        assert_eq!(proof.check(b"v="), Err(ScramError::WrongSignature));
        assert_eq!(proof.check(b"v=!"), Err(ScramError::Malformed("signature")));
        assert_eq!(proof.check(b""), Err(ScramError::Malformed("signature")));
        assert_eq!(proof.check(b"e=invalid-proof"), Err(ScramError::Refused));
    }

    #[test]
    fn a_challenge_for_somebody_else_is_refused() {
        let foreign = CHALLENGE.replace("r=rOpr", "r=xOpr");
        assert_eq!(refusal(&foreign), ScramError::ForeignNonce);
        let not_longer = "r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        assert_eq!(refusal(not_longer), ScramError::ForeignNonce);
    }

    #[test]
    fn too_little_and_too_much_work_is_refused() {
        let with = |count: &str| refusal(&CHALLENGE.replace("4096", count));
        assert_eq!(with("4095"), ScramError::Iterations(4095));
        assert_eq!(with("1000001"), ScramError::Iterations(1_000_001));
        assert_eq!(with("0"), ScramError::Iterations(0));
        assert_eq!(with("many"), ScramError::Malformed("number of iterations"));
        assert_eq!(with("99999999999"), ScramError::Malformed("number of iterations"));
    }

    #[test]
    fn a_challenge_that_is_none_is_refused() {
        assert_eq!(refusal(""), ScramError::Malformed("nonce"));
        assert_eq!(refusal("m=extension,r=x"), ScramError::Malformed("nonce"));
        assert_eq!(refusal("r=rOprNGfwEbeRWgbNEkqOx,i=4096"), ScramError::Malformed("salt"));
        let salt = CHALLENGE.replace("s=W22Z", "s=*");
        assert_eq!(refusal(&salt), ScramError::Malformed("salt"));
    }

    /// What the last line of defence is for: bytes that look like the messages, cut, changed and made longer.
    fn damaged(message: &'static str) -> impl Strategy<Value = Vec<u8>> {
        let at = || any::<prop::sample::Index>();
        let byte = prop_oneof![prop::sample::select(b"rsivec=,+/0\0\xff".to_vec()), any::<u8>()];
        vec((at(), at(), byte), 1..4).prop_map(|changes| {
            let mut bytes = message.as_bytes().to_vec();
            for (from, to, byte) in changes {
                let (from, to) = (from.index(bytes.len() + 1), to.index(bytes.len() + 1));
                bytes
                    .splice(from.min(to)..bytes.len().min(from.min(to) + from.max(to) % 3), [byte]);
            }
            bytes
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn a_damaged_challenge_is_refused_or_answered_for_the_nonce_in_it(
            challenge in damaged(CHALLENGE),
        ) {
            // A larger number is allowed, and takes a debug build its time.
            let is_quick = !String::from_utf8_lossy(&challenge).contains("i=4096")
                || challenge.ends_with(b"i=4096");
            prop_assume!(is_quick);
            if let Ok(proof) = user(Hash::sha256()).prove(&challenge) {
                prop_assert!(proof.message().starts_with("c=biws,r=rOprNGfwEbeRWgbNEkqO"));
                prop_assert!(proof.check(b"v=").is_err());
            }
        }

        #[test]
        fn any_bytes_are_no_challenge(challenge in vec(any::<u8>(), 0..120)) {
            prop_assert!(user(Hash::sha256()).prove(&challenge).is_err());
        }

        #[test]
        fn no_damaged_signature_is_believed(outcome in damaged(OUTCOME)) {
            let proof = proof();
            // Whatever stands behind the signature is an extension.
            if outcome != OUTCOME.as_bytes() && !outcome.starts_with(OUTCOME_PART.as_bytes()) {
                prop_assert!(proof.check(&outcome).is_err());
            }
        }
    }

    const OUTCOME: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
    const OUTCOME_PART: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=,";

    /// The proof for [`CHALLENGE`], computed once.
    fn proof() -> &'static Proof {
        static PROOF: std::sync::OnceLock<Proof> = std::sync::OnceLock::new();
        PROOF.get_or_init(|| user(Hash::sha256()).prove(CHALLENGE.as_bytes()).unwrap())
    }
}
