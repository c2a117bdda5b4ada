//! How record lines are kept in an object: as they are, or compressed.
//!
//! Compression is in slices, with a pause after each, so that it never holds a thread of the runtime for long.

use std::io::{self, Read as _, Write as _};

use zstd::stream::{read, write};

/// Bytes worked on between two points at which other tasks of the thread may run: about a millisecond of work at the
/// usual level.
const SLICE: usize = 256 * 1024;

/// Most bytes that the lines of one object can have: the highest `maxObjectBytes`. What claims more is damaged.
pub(super) const MAX_LINES: u64 = 1 << 30;

/// What a writer does with record lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Lines are kept as they are.
    #[default]
    None,
    /// Lines are compressed with zstd.
    Zstd {
        /// From 1, fast, to 19, small. Levels above need a reader with much memory.
        level: i32,
    },
}

/// How the lines of an object are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As they are.
    Plain,
    /// In one frame of zstd.
    Zstd,
}

// === impl Compression ===

impl Compression {
    /// The level when none is named: zstd's own default, some 300 MB/s of lines on one core.
    pub const DEFAULT_LEVEL: i32 = 3;

    /// What is out of bounds, named; `None` when nothing is.
    pub fn fault(self) -> Option<String> {
        match self {
            Self::Zstd { level } if !(1..=19).contains(&level) => {
                Some(format!("compressionLevel {level} is not in 1..19"))
            }
            _ => None,
        }
    }

    /// The lines as they are kept.
    pub(super) async fn apply(self, lines: Vec<u8>) -> io::Result<(Encoding, Vec<u8>)> {
        let Self::Zstd { level } = self else { return Ok((Encoding::Plain, lines)) };
        let mut encoder = write::Encoder::new(Vec::with_capacity(lines.len() / 4), level)?;
        encoder.set_pledged_src_size(Some(lines.len() as u64))?;
        encoder.include_contentsize(true)?;
        for slice in lines.chunks(SLICE) {
            encoder.write_all(slice)?;
            tokio::task::yield_now().await;
        }
        Ok((Encoding::Zstd, encoder.finish()?))
    }
}

// === impl Encoding ===

impl Encoding {
    /// Its name in a header.
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Zstd => Some("zstd"),
        }
    }

    /// The encoding with this name in a header.
    pub(super) fn parse(name: Option<&str>) -> Option<Self> {
        match name {
            None => Some(Self::Plain),
            Some("zstd") => Some(Self::Zstd),
            Some(_) => None,
        }
    }
}

/// Takes a frame of zstd apart that holds so many bytes, never more.
pub(super) fn decompress(stored: &[u8], lines_bytes: u64) -> io::Result<Vec<u8>> {
    let mut lines = Vec::with_capacity(usize::try_from(lines_bytes).unwrap_or_default());
    let decoder = read::Decoder::with_buffer(stored)?;
    decoder.take(lines_bytes.saturating_add(1)).read_to_end(&mut lines)?;
    Ok(lines)
}
