//! Sinks by URL: what a spec or a command line names a sink with.
//!
//! | URL | Sink |
//! |---|---|
//! | `file:///absolute/folder` | [`crate::object`] in a folder; options behind a `?`: see [`crate::object::place`] |
//! | `s3://bucket/prefix` | [`crate::object`] in a bucket, with the same options and some more |
//! | `postgres://user@host:port/database?table=records` | the `postgres` sink, with the options of its `PostgresConfig` |
//! | `http://host:port/path`, `https://…` | `http`, with the options `timeout=4s`, `bearerFile=/path`, `bearerEnv=NAME` and `caFile=/path` behind a `#`, separated by `&` |
//! | `blackhole:` | [`crate::blackhole`] |
//! | `stdout:` | [`crate::stdout`] |
//! | `delay:10MB/s` | [`crate::delay`] before `blackhole:` |
//! | `delay:10MB/s,file:///folder` | [`crate::delay`] before any other sink, with the options `acquire=500ms`, `write=50ms` and `jitter=20ms` behind a `?` as in `delay:10MB/s?write=50ms&jitter=20ms,file:///folder` |

use std::str::FromStr;
use std::sync::Arc;

use tidegate_runtime::ports::{Class, Clock, DeadLetters, Sink};
use tidegate_runtime::spec::shown;

use crate::blackhole::Blackhole;
use crate::dead_letters::ObjectDeadLetters;
use crate::delay::{Delay, Delays};
use crate::object::place::{self, Place};
use crate::object::store::StoreError;
use crate::object::{ObjectConfig, ObjectReader, ObjectSink};
#[cfg(feature = "postgres")]
use crate::postgres::{PostgresConfig, PostgresSink};
use crate::stdout::Lines;

/// The schemes that this build knows, for error texts.
const SUPPORTED: &str = "file:///folder, s3://bucket/prefix, postgres://user@host/database, \
                         http://host/path, https://host/path, blackhole:, stdout:, delay:RATE and delay:RATE,URL";

/// A sink that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No sink has this scheme.
    #[error("no sink is known for {url:?}: supported are {SUPPORTED}")]
    Scheme {
        /// What was asked for.
        url: String,
    },
    /// This build leaves that sink out.
    #[error("sink {url:?} needs a build of tidegate with the cargo feature {feature}")]
    Feature {
        /// What was asked for.
        url: String,
        /// The feature that brings it.
        feature: &'static str,
    },
    /// The part behind the scheme is not as that sink wants it.
    #[error("sink {url:?} is not valid: {reason}")]
    Url {
        /// What was asked for.
        url: String,
        /// What is wrong, and what is expected.
        reason: String,
    },
    /// Its place cannot be used.
    #[error("failed to open sink {url:?}")]
    Open {
        /// What was asked for.
        url: String,
        /// What the caller may do about it.
        class: Class,
        /// Why.
        #[source]
        source: Cause,
    },
    /// A place for a while cannot be made in it, or not be deleted.
    #[error("failed to make or to delete a place for a while in sink {url:?}")]
    Scratch {
        /// Where.
        url: String,
        /// What the caller may do about it.
        class: Class,
        /// Why.
        #[source]
        source: Cause,
    },
}

/// What went wrong in a library or on a disk.
pub(crate) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a sink could not be opened; the URL is added by whoever knows it.
#[derive(Debug)]
pub struct NotOpened {
    /// What the caller may do about it.
    pub class: Class,
    /// Why.
    pub source: Cause,
}

/// A sink, described.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SinkSpec {
    /// Drops everything.
    Blackhole,
    /// Lines on standard output.
    Stdout,
    /// Objects in a folder or a bucket.
    Object {
        /// Where.
        place: Place,
        /// Bounds.
        config: ObjectConfig,
    },
    /// Rows of a table.
    #[cfg(feature = "postgres")]
    Postgres(Box<PostgresConfig>),
    /// Requests to a receiver.
    #[cfg(feature = "http")]
    Http(Box<crate::http::HttpConfig>),
    /// Another sink behind a rate.
    Delay {
        /// How slow it is made.
        delays: Delays,
        /// The other sink.
        inner: Box<SinkSpec>,
    },
}

/// Opens the sink that a URL names.
///
/// ```
/// use std::sync::Arc;
/// use tidegate_runtime::ports::BootClock;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let sink = tidegate_sinks::open("delay:10MB/s", Arc::new(BootClock)).await?;
/// assert_eq!(sink.guarantee(), tidegate_runtime::ports::Guarantee::AtLeastOnce);
///
/// let error = tidegate_sinks::open("ftp://host", Arc::new(BootClock)).await.unwrap_err();
/// assert!(error.to_string().contains("supported are file:///folder"));
/// # Ok::<(), tidegate_sinks::Error>(())
/// # }).unwrap();
/// ```
pub async fn open(url: &str, clock: Arc<dyn Clock>) -> Result<Arc<dyn Sink>, Error> {
    let spec: SinkSpec = url.parse()?;
    spec.open(clock).await.map_err(|error| error.of(url))
}

/// Opens a reader of what the `object` sink with this URL has written; a delay before it does not matter. The
/// folder must be there.
pub async fn open_reader(url: &str, clock: Arc<dyn Clock>) -> Result<ObjectReader, Error> {
    let mut spec: SinkSpec = url.parse()?;
    while let SinkSpec::Delay { inner, .. } = spec {
        spec = *inner;
    }
    let SinkSpec::Object { place, config } = spec else {
        let reason = "only what file:///folder or s3://bucket has written can be read back";
        return Err(invalid(url, reason));
    };
    let store = place.existing(&config, clock).await;
    let store = store.map_err(|error| NotOpened::from(error).of(url))?;
    Ok(ObjectReader::new(store, config))
}

/// Opens the place for rejected records that a URL names: one of those that the `object` sink knows.
pub async fn open_dead_letters(
    url: &str,
    clock: Arc<dyn Clock>,
) -> Result<Arc<dyn DeadLetters>, Error> {
    let SinkSpec::Object { place, config } = url.parse()? else {
        return Err(invalid(url, "dead letters are kept in places of the object sink only"));
    };
    let store = place.open(&config, clock).await;
    let store = store.map_err(|error| NotOpened::from(error).of(url))?;
    Ok(Arc::new(ObjectDeadLetters::new(store, shown(url))))
}

// === impl Error ===

impl Error {
    /// What the caller may do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Scheme { .. } | Self::Feature { .. } | Self::Url { .. } => Class::Permanent,
            Self::Open { class, .. } | Self::Scratch { class, .. } => *class,
        }
    }
}

// === impl NotOpened ===

impl NotOpened {
    pub(crate) fn of(self, url: &str) -> Error {
        Error::Open { url: shown(url), class: self.class, source: self.source }
    }
}

impl From<StoreError> for NotOpened {
    fn from(error: StoreError) -> Self {
        Self { class: error.class, source: error.into() }
    }
}

// === impl SinkSpec ===

impl SinkSpec {
    /// Opens the sink: whatever can be found wrong with its place is found now.
    pub async fn open(&self, clock: Arc<dyn Clock>) -> Result<Arc<dyn Sink>, NotOpened> {
        Ok(match self {
            Self::Blackhole => Arc::new(Blackhole::default()),
            Self::Stdout => Arc::new(Lines::stdout()),
            Self::Object { place, config } => {
                let store = place.open(config, Arc::clone(&clock)).await?;
                Arc::new(ObjectSink::new(store, *config, clock))
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(config) => Arc::new(PostgresSink::open((**config).clone()).await?),
            #[cfg(feature = "http")]
            Self::Http(config) => {
                Arc::new(crate::http::HttpSink::open(config.as_ref().clone(), clock).await?)
            }
            Self::Delay { delays, inner } => {
                let inner = Box::pin(inner.open(Arc::clone(&clock))).await?;
                Arc::new(Delay::new(inner, *delays, clock))
            }
        })
    }
}

impl FromStr for SinkSpec {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self, Error> {
        let unknown = || Error::Scheme { url: shown(url) };
        let (scheme, rest) = url.split_once(':').ok_or_else(unknown)?;
        match scheme {
            "blackhole" | "stdout" if !rest.is_empty() => {
                Err(invalid(url, "nothing is expected behind the colon"))
            }
            "blackhole" => Ok(Self::Blackhole),
            "stdout" => Ok(Self::Stdout),
            "postgres" | "postgresql" => postgres(url, rest),
            "file" => object(url, place::parse_file(rest)),
            #[cfg(feature = "s3")]
            "s3" => object(url, place::parse_s3(rest)),
            #[cfg(not(feature = "s3"))]
            "s3" => Err(Error::Feature { url: scheme.to_owned(), feature: "s3" }),
            #[cfg(feature = "http")]
            "http" | "https" => {
                let config = crate::http::HttpConfig::parse(url);
                Ok(Self::Http(Box::new(config.map_err(|reason| invalid(url, reason))?)))
            }
            #[cfg(not(feature = "http"))]
            "http" | "https" => Err(Error::Feature { url: scheme.to_owned(), feature: "http" }),
            "delay" => {
                let (rate, inner) = rest.split_once(',').unwrap_or((rest, "blackhole:"));
                let delays = Delays::parse(rate).map_err(|reason| invalid(url, reason))?;
                Ok(Self::Delay { delays, inner: Box::new(inner.parse()?) })
            }
            _ => Err(unknown()),
        }
    }
}

fn invalid(url: &str, reason: impl Into<String>) -> Error {
    Error::Url { url: shown(url), reason: reason.into() }
}

#[cfg(feature = "postgres")]
fn postgres(url: &str, rest: &str) -> Result<SinkSpec, Error> {
    let config = PostgresConfig::parse(rest);
    let config = config.map_err(|reason| invalid(url, reason))?;
    Ok(SinkSpec::Postgres(Box::new(config)))
}

#[cfg(not(feature = "postgres"))]
fn postgres(url: &str, _: &str) -> Result<SinkSpec, Error> {
    // The options may hold a password.
    let url = url.split_once(':').map_or(url, |(scheme, _)| scheme).to_owned();
    Err(Error::Feature { url, feature: "postgres" })
}

pub(crate) fn percent_decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

fn object(url: &str, parsed: Result<(Place, ObjectConfig), String>) -> Result<SinkSpec, Error> {
    let parsed = parsed.map_err(|reason| invalid(url, reason));
    parsed.map(|(place, config)| SinkSpec::Object { place, config })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(url: &str) -> String {
        url.parse::<SinkSpec>().unwrap_err().to_string()
    }

    #[test]
    fn urls_name_sinks() {
        let config = ObjectConfig::default();
        let object =
            |root: &str, config| SinkSpec::Object { place: Place::Folder(root.into()), config };
        assert_eq!("blackhole:".parse::<SinkSpec>().unwrap(), SinkSpec::Blackhole);
        assert_eq!("stdout:".parse::<SinkSpec>().unwrap(), SinkSpec::Stdout);
        assert_eq!("file:///a/b%20c".parse::<SinkSpec>().unwrap(), object("/a/b c", config));
        let url = "delay:2MB/s,file:///a?maxObjectBytes=1MiB&parallelWrites=4";
        let config = ObjectConfig { max_object_bytes: 1 << 20, parallel_writes: 4, ..config };
        let inner = Box::new(object("/a", config));
        let delays = Delays::of_rate(2_000_000.try_into().unwrap());
        let delayed = SinkSpec::Delay { delays, inner };
        assert_eq!(url.parse::<SinkSpec>().unwrap(), delayed);
        let slow = "delay:2MB/s?acquire=500ms&write=2s&jitter=20ms,blackhole:";
        let span = std::time::Duration::from_millis;
        let delays = Delays { acquire: span(500), write: span(2000), jitter: span(20), ..delays };
        let delayed = SinkSpec::Delay { delays, inner: Box::new(SinkSpec::Blackhole) };
        assert_eq!(slow.parse::<SinkSpec>().unwrap(), delayed);
    }

    #[test]
    fn faults_say_what_is_wrong_and_what_is_expected() {
        assert_eq!(
            fault("ftp://host"),
            format!("no sink is known for \"ftp://host\": supported are {SUPPORTED}")
        );
        assert!(fault("file://host/a").contains("an absolute path is expected"));
        assert!(fault("file:///a?sync=no").contains("option \"sync\" is not one of"));
        assert!(fault("file:///a?parallelWrites=0").contains("not in 1..256"));
        assert!(fault("file:///a%2").contains("% escape"));
        assert!(fault("delay:fast").contains("expected a rate such as 10MB/s"));
        assert!(fault("delay:1MB/s?write=soon").contains("expected a duration such as 30s"));
        assert!(fault("delay:1MB/s?close=1s").contains("is not one of acquire, write, jitter"));
        assert!(fault("delay:1MB/s,ftp:").contains("no sink is known for \"ftp:\""));
        assert!(fault("delay:1MB/s,http://u:hunter2@host/").contains("credentials"));
        assert!(!fault("delay:1MB/s,http://u:hunter2@host/").contains("hunter2"));
        assert!(fault("stdout:x").contains("nothing is expected"));
        assert!(fault("orders").contains("supported are"));
    }

    #[test]
    fn no_error_about_a_url_repeats_what_may_be_secret() {
        for url in [
            "ftp://u:hunter2@h/",
            "u:hunter2@h",
            "file:///a?sync=hunter2",
            "s3://lake/a?secret=hunter2",
            "s3://me:hunter2@lake/a",
            "s3://lake/a?endpoint=http://h?hunter2",
            "https://h/?key=hunter2#timeout=1h",
            "https://h/#password=hunter2",
            "https://u:hunter2@h/",
            "postgres://u:hunter2?x@h/d",
            "postgres://u@h/d?pass=hunter2",
        ] {
            for url in [
                url.to_owned(),
                format!("delay:1MB/s,{url}"),
                format!("delay:bad,{url}"),
                format!("delay:1MB/s?write=1s&x=hunter2,{url}"),
                format!("delay:{url}"),
            ] {
                let fault = fault(&url);
                assert!(!fault.contains("hunter2"), "{url}: {fault}");
            }
        }
        let source = NotOpened { class: Class::Permanent, source: "why".into() };
        let error = source.of("https://u:hunter2@h/a?key=hunter2#bearerFile=/hunter2");
        assert_eq!(error.to_string(), "failed to open sink \"https://…@h/a?…\"");
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn a_password_in_a_url_is_refused_and_not_repeated() {
        for url in ["postgres://u:hunter2@h/d", "postgresql://u@h/d?password=hunter2"] {
            for url in [url.to_owned(), format!("delay:1MB/s,{url}")] {
                let fault = fault(&url);
                assert!(fault.contains("passwordFile") && !fault.contains("hunter2"), "{fault}");
            }
        }
        assert!(matches!("postgres://u@h/d".parse(), Ok(SinkSpec::Postgres(_))));
    }

    #[cfg(not(feature = "postgres"))]
    #[test]
    fn a_sink_that_was_left_out_of_the_build_names_its_feature() {
        let fault = fault("postgres://u:hunter2@h/d");
        assert!(fault.contains("the cargo feature postgres"), "{fault}");
        assert!(!fault.contains("hunter2"), "{fault}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_delayed_sink_conforms_as_the_one_behind_it() {
        let root = tempfile::TempDir::new().unwrap();
        let url = format!("delay:1GB/s,file://{}", root.path().display());
        let clock: Arc<dyn Clock> = Arc::new(tidegate_runtime::ports::BootClock);
        let open = async || open(&url, Arc::clone(&clock)).await.unwrap();
        tidegate_runtime::sink::conformance(open).await.assert_passed();
        let reader = open_reader(&url, Arc::clone(&clock)).await.unwrap();
        for partition in reader.partitions().await.unwrap() {
            assert!(reader.verify(&partition).await.unwrap().is_whole());
        }
    }

    #[tokio::test]
    async fn a_file_where_the_folder_should_be_is_found_at_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let url = format!("file://{}", file.path().display());
        let clock = Arc::new(tidegate_runtime::ports::BootClock);
        let error = open(&url, clock).await.unwrap_err();
        assert_eq!(error.to_string(), format!("failed to open sink {url:?}"));
        assert_eq!(error.class(), Class::Permanent);
        assert!(matches!(error, Error::Open { .. }));
    }
}
