//! Where objects are kept, as a URL says it: a folder, or a prefix of a bucket; and how, which its options say.
//!
//! ```text
//! file:///absolute/folder?OPTION&OPTION
//! s3://bucket/prefix?region=eu-west-1&endpoint=http://127.0.0.1:9000&OPTION
//! ```
//!
//! | Option | |
//! |---|---|
//! | `maxObjectBytes=256MiB`, `parallelWrites=16`, `compression=zstd`, `compressionLevel=3` | [`ObjectConfig`] |
//! | `region`, `endpoint`, `requestTimeout=30s` | of a bucket |

use std::path::PathBuf;
use std::sync::Arc;

use tidegate_runtime::ports::Clock;
use tidegate_runtime::spec::Size;

use super::file::FileStore;
use super::probe;
#[cfg(feature = "s3")]
use super::s3::{Bucket, Environment, S3Store};
use super::store::{Store, StoreError};
use super::{Compression, ObjectConfig};

/// A place for objects.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// A folder, absolute; made when it is absent.
    Folder(PathBuf),
    /// A prefix of a bucket.
    #[cfg(feature = "s3")]
    Bucket(Bucket),
}

/// The options behind a URL that concern any place, as they are read one by one.
#[derive(Default)]
struct Options {
    config: ObjectConfig,
    compression_level: Option<i32>,
}

// === impl Place ===

impl Place {
    /// Opens the place to write to, after a look whether it keeps what the sink relies on.
    pub async fn open(
        &self,
        config: &ObjectConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<dyn Store>, StoreError> {
        let (store, name): (Arc<dyn Store>, String) = match self {
            Self::Folder(root) => {
                let store = FileStore::open(root, config.parallel_writes, clock).await?;
                (Arc::new(store), format!("folder {}", root.display()))
            }
            #[cfg(feature = "s3")]
            Self::Bucket(bucket) => {
                let environment = Environment::of_process();
                let store = S3Store::open(bucket, &environment, config.parallel_writes).await?;
                (Arc::new(store), bucket.to_string())
            }
        };
        probe::create_only(&*store, &name).await?;
        Ok(store)
    }

    /// A place of this name in it.
    pub(crate) fn below(self, name: &str) -> Self {
        match self {
            Self::Folder(root) => Self::Folder(root.join(name)),
            #[cfg(feature = "s3")]
            Self::Bucket(bucket) => {
                let prefix = match bucket.prefix.as_str() {
                    "" => name.to_owned(),
                    prefix => format!("{prefix}/{name}"),
                };
                Self::Bucket(Bucket { prefix, ..bucket })
            }
        }
    }

    /// Opens the place to read from: it must be there, and nothing in it changes.
    pub async fn existing(
        &self,
        config: &ObjectConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<dyn Store>, StoreError> {
        Ok(match self {
            Self::Folder(root) => {
                Arc::new(FileStore::existing(root, config.parallel_writes, clock).await?)
            }
            #[cfg(feature = "s3")]
            Self::Bucket(bucket) => {
                let environment = Environment::of_process();
                let store = S3Store::open(bucket, &environment, config.parallel_writes).await?;
                store.folders("").await?;
                Arc::new(store)
            }
        })
    }
}

/// Reads what follows `file:`.
pub fn parse_file(rest: &str) -> Result<(Place, ObjectConfig), String> {
    let (path, options) = rest.split_once('?').unwrap_or((rest, ""));
    let path = path.strip_prefix("//").unwrap_or(path);
    let path = path.strip_prefix("localhost").unwrap_or(path);
    if !path.starts_with('/') {
        return Err("an absolute path is expected, as in file:///var/lib/records".to_owned());
    }
    let root = crate::spec::percent_decoded(path).ok_or("the path has a bad % escape")?;
    let mut common = Options::default();
    for (name, value) in split(options)? {
        if !common.take(&name, &value)? {
            return Err(unknown(&name, &Options::NAMES));
        }
    }
    Ok((Place::Folder(root.into()), common.finish()?))
}

/// Reads what follows `s3:`.
#[cfg(feature = "s3")]
pub fn parse_s3(rest: &str) -> Result<(Place, ObjectConfig), String> {
    let (path, options) = rest.split_once('?').unwrap_or((rest, ""));
    let path = path.strip_prefix("//").unwrap_or_default();
    let (name, prefix) = path.split_once('/').unwrap_or((path, ""));
    if name.contains('@') {
        return Err(NO_SECRETS.to_owned());
    }
    let prefix = crate::spec::percent_decoded(prefix).ok_or("the prefix has a bad % escape")?;
    let mut bucket = Bucket::new(name, &prefix)?;
    let mut common = Options::default();
    for (name, value) in split(options)? {
        if name == "endpoint" && value.contains('@') {
            return Err(NO_SECRETS.to_owned());
        }
        if common.take(&name, &value)? || bucket.take(&name, &value)? {
            continue;
        }
        let lower = name.to_ascii_lowercase();
        if ["key", "secret", "token", "password"].iter().any(|word| lower.contains(word)) {
            return Err(NO_SECRETS.to_owned());
        }
        return Err(unknown(&name, &[Options::NAMES.as_slice(), &Bucket::OPTIONS].concat()));
    }
    Ok((Place::Bucket(bucket), common.finish()?))
}

/// What is said of credentials in a URL.
#[cfg(feature = "s3")]
const NO_SECRETS: &str = "credentials do not belong in a URL, which is logged and shown: put AWS_ACCESS_KEY_ID and \
     AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN) in the environment of the consumers, or give their machine or pod a \
     role";

// === impl Options ===

impl Options {
    const NAMES: [&'static str; 4] =
        ["maxObjectBytes", "parallelWrites", "compression", "compressionLevel"];

    /// Takes an option; false when it is not one of these.
    fn take(&mut self, name: &str, value: &str) -> Result<bool, String> {
        match name {
            "maxObjectBytes" => self.config.max_object_bytes = Size::parse(value)?,
            "parallelWrites" => self.config.parallel_writes = number(name, value)?,
            "compression" => {
                self.config.compression = match value {
                    "none" => Compression::None,
                    "zstd" => Compression::Zstd { level: Compression::DEFAULT_LEVEL },
                    _ => return Err(format!("compression {value:?} is not one of none, zstd")),
                }
            }
            "compressionLevel" => self.compression_level = Some(number(name, value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn finish(mut self) -> Result<ObjectConfig, String> {
        match (&mut self.config.compression, self.compression_level) {
            (_, None) => {}
            (Compression::Zstd { level }, Some(wanted)) => *level = wanted,
            (Compression::None, Some(_)) => {
                return Err("compressionLevel goes with compression=zstd".to_owned());
            }
        }
        match self.config.fault() {
            Some(fault) => Err(fault),
            None => Ok(self.config),
        }
    }
}

/// Names and values of options, `%` escapes resolved.
fn split(options: &str) -> Result<Vec<(String, String)>, String> {
    let options = options.split('&').filter(|option| !option.is_empty());
    let pairs = options.map(|option| {
        let (name, value) = option
            .split_once('=')
            .ok_or_else(|| format!("option {option:?} has no value: name=value is expected"))?;
        let value = crate::spec::percent_decoded(value)
            .ok_or_else(|| format!("the value of option {name} has a bad % escape"))?;
        Ok((name.to_owned(), value))
    });
    pairs.collect()
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name} {value:?} is no number"))
}

fn unknown(name: &str, known: &[&str]) -> String {
    format!("option {name:?} is not one of {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_say_how_objects_are_kept() {
        let (place, config) =
            parse_file("///a/b%20c?maxObjectBytes=1MiB&compression=zstd&compressionLevel=9")
                .unwrap();
        assert_eq!(place, Place::Folder("/a/b c".into()));
        let compression = Compression::Zstd { level: 9 };
        let wanted =
            ObjectConfig { max_object_bytes: 1 << 20, compression, ..ObjectConfig::default() };
        assert_eq!(config, wanted);
        let compression = |options: &str| parse_file(options).unwrap().1.compression;
        assert_eq!(compression("/a?compression=none"), Compression::None);
        assert_eq!(compression("/a?compression=zstd"), Compression::Zstd { level: 3 });
    }

    #[test]
    fn faults_of_options_are_named() {
        for (options, wanted) in [
            ("compression=lz4", "compression \"lz4\" is not one of none, zstd"),
            ("compression=zstd&compressionLevel=20", "compressionLevel 20 is not in 1..19"),
            ("compressionLevel=3", "compressionLevel goes with compression=zstd"),
            ("region=x", "option \"region\" is not one of maxObjectBytes, parallelWrites"),
            ("compression", "has no value: name=value is expected"),
        ] {
            let fault = parse_file(&format!("///a?{options}")).unwrap_err();
            assert!(fault.contains(wanted), "{fault}");
        }
    }

    #[cfg(feature = "s3")]
    #[test]
    fn buckets_are_named_with_their_region_and_server() {
        let url =
            "//lake/raw/orders?region=eu-west-1&endpoint=http://127.0.0.1:9000/&requestTimeout=5s";
        let Place::Bucket(bucket) = parse_s3(url).unwrap().0 else { panic!("a bucket") };
        let Bucket { name, prefix, region, endpoint, request_timeout } = bucket;
        assert_eq!((name.as_str(), prefix.as_str()), ("lake", "raw/orders"));
        assert_eq!(region.as_deref(), Some("eu-west-1"));
        assert_eq!(endpoint.as_deref(), Some("http://127.0.0.1:9000"));
        assert_eq!(request_timeout.as_secs(), 5);
        let Place::Bucket(bucket) = parse_s3("//lake/").unwrap().0 else { panic!("a bucket") };
        assert_eq!((bucket.prefix.as_str(), bucket.region), ("", None));
    }

    #[cfg(feature = "s3")]
    #[test]
    fn what_cannot_be_a_bucket_is_refused_and_secrets_are_not_repeated() {
        for (url, wanted) in [
            ("//", "\"\" cannot be a bucket: s3://bucket/prefix is expected"),
            ("lake/prefix", "cannot be a bucket"),
            ("//lake/a//b", "the prefix is not valid"),
            ("//lake?endpoint=127.0.0.1:9000", "is not like https://host:port"),
            ("//lake?sync=no", "option \"sync\" is not one of maxObjectBytes"),
        ] {
            let fault = parse_s3(url).unwrap_err();
            assert!(fault.contains(wanted), "{fault}");
        }
        for url in [
            "//me:hush@lake/a",
            "//lake?accessKeyId=me",
            "//lake?AWS_SECRET_ACCESS_KEY=hush",
            "//lake?endpoint=http://me:hush@host",
        ] {
            let fault = parse_s3(url).unwrap_err();
            assert!(fault.contains("put AWS_ACCESS_KEY_ID"), "{fault}");
            assert!(!fault.contains("hush"), "{fault}");
        }
    }
}
