//! What an `http` sink is told by its URL.
//!
//! Everything before the `#` is the receiver's, its query included, and is sent as it is. What follows the `#` is never
//! sent: there are the options, `name=value` separated by `&`. Secrets are references; no error quotes the query or what
//! may be a user's name.

use std::fmt;
use std::time::Duration;

use hyper::Uri;
use tidegate_runtime::security::Secret;
use tidegate_runtime::spec::Span;

use crate::spec::percent_decoded;

/// Longest time for a batch, with its repetitions. A second below the default of `ownership.writeTimeout`, so that the
/// error tells what happened instead of that time is over.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Names of the options, for error texts.
const OPTIONS: &str = "timeout, bearerFile, bearerEnv, caFile";

/// How a receiver is reached. It is printed without options and query.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// Where batches are posted to: `http` or `https`, with a host.
    pub(super) uri: Uri,
    /// Longest time for a batch.
    pub(super) timeout: Duration,
    /// The bearer token, read for each request.
    pub(super) bearer: Option<Secret>,
    /// Certificates of the authorities to trust; the system's when left out.
    pub(super) ca_file: Option<String>,
}

impl HttpConfig {
    /// Reads a URL with its options; the error does not repeat it.
    pub fn parse(url: &str) -> Result<Self, String> {
        let (target, options) = url.split_once('#').unwrap_or((url, ""));
        let form = "a URL of the form https://HOST[:PORT]/PATH is expected";
        let uri: Uri = target.parse().map_err(|_| form.to_owned())?;
        let authority = uri.authority().ok_or(form)?.as_str();
        if authority.contains('@') {
            let advice = "credentials in the URL are not taken: set #bearerFile= or #bearerEnv=";
            return Err(advice.to_owned());
        }
        if !matches!(uri.scheme_str(), Some("http" | "https")) || authority.starts_with(':') {
            return Err(form.to_owned());
        }
        let mut config = Self { uri, timeout: TIMEOUT, bearer: None, ca_file: None };
        for option in options.split('&').filter(|option| !option.is_empty()) {
            config.set(option)?;
        }
        config.fault().map_or(Ok(config), Err)
    }

    fn set(&mut self, option: &str) -> Result<(), String> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        // The value could be a secret.
        let unknown = || format!("option {name:?} is not one of {OPTIONS}");
        let value = percent_decoded(value).ok_or("an option has a bad % escape")?;
        let bearer = match name {
            "timeout" => {
                self.timeout = Span::parse(&value)?;
                return Ok(());
            }
            "caFile" => {
                self.ca_file = Some(value);
                return Ok(());
            }
            "bearerFile" => Secret::File(value),
            "bearerEnv" => Secret::Env(value),
            _ => return Err(unknown()),
        };
        if self.bearer.replace(bearer).is_some() {
            return Err("bearerFile and bearerEnv are two places for one token".to_owned());
        }
        Ok(())
    }

    fn fault(&self) -> Option<String> {
        if !(Duration::from_millis(100)..=Duration::from_secs(300)).contains(&self.timeout) {
            let found = Span::print(self.timeout);
            return Some(format!("timeout {found} is not in 100ms..5m"));
        }
        let clear = !self.is_tls();
        if clear && self.ca_file.is_some() {
            return Some("caFile is for https://".to_owned());
        }
        if clear && self.bearer.is_some() && !self.is_loopback() {
            let text = "a bearer token is sent to https:// only, and to this machine";
            return Some(text.to_owned());
        }
        None
    }

    pub(super) fn is_tls(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    fn is_loopback(&self) -> bool {
        let host = self.uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let address: Option<std::net::IpAddr> = host.parse().ok();
        host == "localhost" || address.is_some_and(|address| address.is_loopback())
    }
}

/// The URL as errors name it: without options, and without what a query may hold.
impl fmt::Display for HttpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown(&self.uri, f)
    }
}

impl fmt::Debug for HttpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpConfig({self})")
    }
}

/// Writes a URL without its query.
pub(super) fn shown(uri: &Uri, f: &mut impl fmt::Write) -> fmt::Result {
    if let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) {
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        write!(f, "{scheme}://{host}")?;
    }
    f.write_str(uri.path())?;
    if uri.query().is_some() { f.write_str("?…") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(url: &str) -> String {
        HttpConfig::parse(url).unwrap_err()
    }

    #[test]
    fn options_follow_the_hash_and_the_rest_is_the_receivers() {
        let url =
            "https://in.test/lines?timeout=9&key=k#timeout=2s&bearerFile=/run/a%26b&caFile=/ca.pem";
        let config = HttpConfig::parse(url).unwrap();
        assert_eq!(config.uri, "https://in.test/lines?timeout=9&key=k");
        assert_eq!(config.timeout, Duration::from_secs(2));
        assert_eq!(config.bearer, Some(Secret::File("/run/a&b".to_owned())));
        assert_eq!(config.ca_file.as_deref(), Some("/ca.pem"));
        assert_eq!(config.to_string(), "https://in.test/lines?…");
        let config = HttpConfig::parse("http://127.0.0.1:8080#bearerEnv=TOKEN").unwrap();
        assert_eq!(config.to_string(), "http://127.0.0.1:8080/");
        assert_eq!(config.bearer, Some(Secret::Env("TOKEN".to_owned())));
    }

    #[test]
    fn faults_say_what_is_wrong_and_quote_no_secret() {
        for (url, words) in [
            ("https:///lines", "https://HOST"),
            ("https:host", "https://HOST"),
            ("http://u:hunter2@host/", "#bearerFile="),
            ("http://hunter2@host/", "credentials in the URL"),
            ("https://host/#retries=3", "is not one of timeout, bearerFile"),
            ("https://host/#timeout", "expected"),
            ("https://host/#timeout=1h", "not in 100ms..5m"),
            ("https://host/#timeout=soon", "expected"),
            ("https://host/#bearerFile=/a%2", "% escape"),
            ("https://host/#bearerFile=/a&bearerEnv=B", "two places"),
            ("http://host/#caFile=/ca.pem", "https://"),
            ("http://host/#bearerEnv=B", "to https:// only"),
        ] {
            let text = fault(url);
            assert!(text.contains(words), "{url}: {text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
