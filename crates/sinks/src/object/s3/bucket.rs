//! A prefix of a bucket as a URL names it, and what was found wrong with one.

use std::fmt;
use std::time::Duration;

use object_store::path::Path;
use tidegate_runtime::ports::Class;
use tidegate_runtime::spec::{Span, shown};

use super::transport::{Refusal, is_distrust, root};

/// Time for a request when the URL does not say it: far above what a batch takes on a slow line, so that a hung server
/// does not hold a partition for ever.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A prefix of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The bucket.
    pub name: String,
    /// What the keys begin with, without a slash at either end; may be empty.
    pub prefix: String,
    /// The region; when absent that of `AWS_REGION`, and `us-east-1` without it.
    pub region: Option<String>,
    /// Another server than AWS's, with its scheme.
    pub endpoint: Option<String>,
    /// How long a request may take.
    pub request_timeout: Duration,
}

/// How long credentials are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// They are in the environment, which does not change.
    OfProcess,
    /// A service of the platform renews them.
    Renewed,
}

/// What to do about an error, as a sentence before it.
#[derive(Debug, thiserror::Error)]
#[error("{advice}")]
pub(super) struct Advice {
    advice: String,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

// === impl Bucket ===

impl Bucket {
    /// Names of its options in a URL.
    pub const OPTIONS: [&'static str; 3] = ["region", "endpoint", "requestTimeout"];

    /// A bucket of AWS in the region that the environment names.
    pub fn new(name: &str, prefix: &str) -> Result<Self, String> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if !(3..=63).contains(&name.len()) || !name.bytes().all(legal) {
            return Err(format!("{name:?} cannot be a bucket: s3://bucket/prefix is expected"));
        }
        let path =
            Path::parse(prefix).map_err(|error| format!("the prefix is not valid: {error}"))?;
        Ok(Self {
            name: name.to_owned(),
            prefix: path.as_ref().to_owned(),
            region: None,
            endpoint: None,
            request_timeout: REQUEST_TIMEOUT,
        })
    }

    /// Takes an option of its URL; false when it is not one of these.
    pub(crate) fn take(&mut self, name: &str, value: &str) -> Result<bool, String> {
        match name {
            "region" => self.region = Some(value.to_owned()),
            "endpoint" => {
                let rest = value.strip_prefix("http://").or_else(|| value.strip_prefix("https://"));
                if rest.is_none_or(|rest| rest.is_empty() || rest.contains(['@', '?', '#'])) {
                    let value = shown(value);
                    return Err(format!(
                        "endpoint {value:?} is not like https://host:port or http://host:port"
                    ));
                }
                self.endpoint = Some(value.trim_end_matches('/').to_owned());
            }
            "requestTimeout" => {
                self.request_timeout = Span::parse(value)?;
                if self.request_timeout.is_zero() {
                    return Err("requestTimeout must be above 0".to_owned());
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// True when the user named an endpoint without TLS.
    pub(super) fn is_plain(&self) -> bool {
        self.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"))
    }

    /// What the caller may do about an error of the client, and the error with what a person may do. Whether it is of a
    /// store with credentials of `lifetime` decides what becomes of expired ones.
    pub(super) fn judge(&self, error: &object_store::Error, lifetime: Lifetime) -> (Class, Advice) {
        if let Some(refusal) = Refusal::among(error) {
            let (class, advice) = self.judge_refusal(refusal, lifetime);
            return (class, Advice { advice, source: refusal.clone().into() });
        }
        let (class, advice) = if is_distrust(error) {
            (
                Class::Permanent,
                format!(
                    "{self} is not trusted in TLS: name the file of its authority in SSL_CERT_FILE, or correct the \
                     endpoint"
                ),
            )
        } else {
            (Class::Transient, format!("{self} did not answer as it should"))
        };
        (class, Advice { advice, source: root(error).into() })
    }

    fn judge_refusal(&self, refusal: &Refusal, lifetime: Lifetime) -> (Class, String) {
        let wrong_region = format!("{self} is in another region: set region=… in the URL");
        match (refusal.status, refusal.code.as_str()) {
            (_, "NoSuchBucket") => {
                (Class::Permanent, format!("{self} does not exist: create it, or correct the URL"))
            }
            (
                _,
                "InvalidAccessKeyId"
                | "SignatureDoesNotMatch"
                | "InvalidToken"
                | "XAdminUserNotFound",
            )
            | (401, _) => (
                Class::Permanent,
                format!(
                    "{self} does not accept the credentials: correct AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and \
                     AWS_SESSION_TOKEN, or the role of this machine"
                ),
            ),
            (_, "ExpiredToken") => match lifetime {
                Lifetime::OfProcess => (
                    Class::Permanent,
                    format!(
                        "{self} says that the session token has expired: renew AWS_SESSION_TOKEN and restart the \
                         consumer"
                    ),
                ),
                Lifetime::Renewed => {
                    (Class::Transient, format!("{self} says that the session token has expired"))
                }
            },
            // A body that arrived too slowly or not whole, which S3 does not tell by its status.
            (400, "RequestTimeout" | "IncompleteBody") => {
                (Class::Transient, format!("{self} did not get the whole request"))
            }
            (_, "RequestTimeTooSkewed") => {
                (Class::Permanent, "set this machine's clock: it is minutes off".to_owned())
            }
            (_, "AuthorizationHeaderMalformed" | "PermanentRedirect") | (300..=399, _) => {
                (Class::Permanent, wrong_region)
            }
            (403, _) => (
                Class::Permanent,
                format!(
                    "{self} denies access: allow s3:PutObject, s3:GetObject and s3:ListBucket for the prefix, and \
                     s3:DeleteObject for {}.tidegate-probe-*",
                    self.key_prefix()
                ),
            ),
            // Two conditional puts of one name at the same moment: which of them won is not known yet.
            (409, _) => {
                (Class::Transient, format!("{self} had another request for it at the moment"))
            }
            _ => (Class::Permanent, format!("{self} refuses it")),
        }
    }

    fn key_prefix(&self) -> String {
        if self.prefix.is_empty() { String::new() } else { format!("{}/", self.prefix) }
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bucket {}", self.name)?;
        self.endpoint.iter().try_for_each(|endpoint| write!(f, " at {endpoint}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(status: u16, code: &str, lifetime: Lifetime) -> Class {
        let refusal = Refusal { status, code: code.to_owned(), message: String::new() };
        Bucket::new("lake", "").unwrap().judge_refusal(&refusal, lifetime).0
    }

    #[test]
    fn a_token_that_nobody_renews_stays_expired() {
        assert_eq!(class(400, "ExpiredToken", Lifetime::OfProcess), Class::Permanent);
        assert_eq!(class(400, "ExpiredToken", Lifetime::Renewed), Class::Transient);
    }

    #[test]
    fn a_body_that_was_cut_short_may_arrive_later() {
        for code in ["RequestTimeout", "IncompleteBody"] {
            assert_eq!(class(400, code, Lifetime::OfProcess), Class::Transient, "{code}");
        }
        assert_eq!(class(400, "InvalidArgument", Lifetime::OfProcess), Class::Permanent);
    }
}
