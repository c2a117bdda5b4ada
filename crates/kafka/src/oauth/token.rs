//! A bearer token, and until when it holds. It is not verified here: brokers do that, and this side only has to know when
//! to come with another one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// For how long a token is used that does not say how long it holds. Shorter than what issuers give, so that a token is
/// replaced too early rather than too late.
pub(super) const DEFAULT_LIFETIME_MS: u64 = 5 * 60 * 1000;

/// A token that may be sent.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token {
    value: String,
    subject: String,
    received_ms: u64,
    expires_ms: u64,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("expires_ms", &self.expires_ms).finish_non_exhaustive()
    }
}

/// A text that is no bearer token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is empty, or has characters that no bearer token has")]
pub(super) struct NoToken;

impl Token {
    /// A token as it came at a time. `lifetime_ms` is what its giver said; else its own `exp` counts.
    pub(super) fn new(text: &str, lifetime_ms: Option<u64>, now_ms: u64) -> Result<Self, NoToken> {
        let value = text.trim();
        // RFC 6750. What else there is would change the meaning of the message that carries it.
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        if value.is_empty() || !value.bytes().all(fits) {
            return Err(NoToken);
        }
        let claims = claims(value);
        let claim = |name| claims.as_ref().and_then(|claims| claims.get(name));
        let expires_ms = lifetime_ms
            .map(|lifetime| now_ms.saturating_add(lifetime))
            .or_else(|| claim("exp").and_then(milliseconds))
            .unwrap_or_else(|| now_ms.saturating_add(DEFAULT_LIFETIME_MS));
        let subject = claim("sub").and_then(Value::as_str).unwrap_or_default();
        // librdkafka takes it as a text of C.
        let subject = subject.replace('\0', "");
        Ok(Self { value: value.to_owned(), subject, received_ms: now_ms, expires_ms })
    }

    /// The token itself: a secret.
    pub(crate) fn value(&self) -> &str {
        &self.value
    }

    /// Whom it is for, where it says so.
    pub(crate) fn subject(&self) -> &str {
        &self.subject
    }

    /// When it ends, in milliseconds since the Unix epoch.
    pub(crate) fn expires_ms(&self) -> u64 {
        self.expires_ms
    }

    /// True while it may be sent.
    pub(super) fn holds(&self, now_ms: u64) -> bool {
        now_ms < self.expires_ms
    }

    /// True while no other one is wanted: for three quarters of its time. librdkafka asks after four fifths, and thus
    /// always gets one that is new.
    pub(super) fn is_fresh(&self, now_ms: u64) -> bool {
        let lifetime = self.expires_ms.saturating_sub(self.received_ms);
        now_ms < self.received_ms.saturating_add(lifetime / 4 * 3)
    }
}

/// What a JWT says of itself; `None` for a token of another kind.
fn claims(token: &str) -> Option<Value> {
    let mut parts = token.split('.');
    let (_header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&payload).ok()
}

/// A `NumericDate`: seconds, which may have a fraction.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a conversion to an integer stops at its bounds, which is what is wanted of a time"
)]
fn milliseconds(value: &Value) -> Option<u64> {
    value.as_f64().filter(|seconds| *seconds >= 0.0).map(|seconds| (seconds * 1000.0) as u64)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A token with these claims, signed by nobody.
    pub(in crate::oauth) fn jwt(claims: &str) -> String {
        format!("{}.{}.sig", URL_SAFE_NO_PAD.encode("{}"), URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn the_end_is_what_was_said_of_the_token_else_what_it_says_else_in_five_minutes() {
        let text = jwt(r#"{"sub":"me","exp":1700000000.5}"#);
        let token = Token::new(&format!(" {text}\n"), None, 1_000).unwrap();
        assert_eq!((token.value(), token.subject()), (text.as_str(), "me"));
        assert_eq!(token.expires_ms(), 1_700_000_000_500);
        assert_eq!(Token::new(&text, Some(60_000), 1_000).unwrap().expires_ms(), 61_000);
        for opaque in ["abc", "a.b.c", &jwt("{}"), &jwt("[]"), &jwt(r#"{"exp":"soon"}"#), &jwt("x")]
        {
            let token = Token::new(opaque, None, 1_000).unwrap();
            assert_eq!(token.expires_ms(), 1_000 + DEFAULT_LIFETIME_MS, "{opaque}");
        }
    }

    #[test]
    fn a_token_is_fresh_for_three_quarters_of_its_time_and_holds_to_the_end() {
        let token = Token::new("opaque", Some(1_000), 5_000).unwrap();
        let at = |now| (token.is_fresh(now), token.holds(now));
        assert_eq!([at(5_749), at(5_750), at(5_999)], [(true, true), (false, true), (false, true)]);
        assert_eq!(at(6_000), (false, false));
    }

    #[test]
    fn what_is_no_token_is_refused_and_no_token_is_shown() {
        for text in ["", " \n", "two words", "a\u{1}b", "tökén"] {
            assert_eq!(Token::new(text, None, 0), Err(NoToken), "{text:?}");
        }
        let shown = format!("{:?}", Token::new("hunter2", None, 0).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
