//! What a receiver's answer means: a table from status, headers and body to what the sink does next.
//!
//! Nothing here waits or sends. Texts of receivers are quoted only in part, with what is not printable escaped, and not
//! at all when they repeat the token that they were sent.

use std::collections::BTreeSet;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use hyper::header::{LOCATION, RETRY_AFTER};
use hyper::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;
use tidegate_core::ids::Position;
use tidegate_runtime::ports::Rejection;

use super::config::shown;

/// Position after what is durable, in answers to `acquire`.
const NEXT: &str = "tidegate-next";

/// Longest wait that a receiver is believed: who asks for more is away, and one that comes back is noticed in time.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// Shortest wait: a receiver that says 0 is not asked again without a pause.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);

/// Characters of a body that an error quotes.
const QUOTED: usize = 200;

/// Characters of a reason that is kept with a rejected record.
const REASON: usize = 500;

/// An answer, whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// What an answer to a write means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The batch is durable.
    Durable,
    /// Another owner has written, or the receiver stands elsewhere.
    Fenced,
    /// It may work later.
    Away,
    /// The body is larger than the receiver takes.
    TooLarge,
    /// It will never take these records, and has taken none.
    Rejected(Vec<Rejection>),
    /// It will not work until a person changes something; the text says what.
    Refused(&'static str),
}

/// What an answer to `acquire` means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Acquired {
    /// It is ours, and the receiver stands here; `None` when it keeps no position, or has none yet.
    At(Option<Position>),
    /// Anything else.
    Not(Verdict),
}

#[derive(Deserialize)]
struct Refusals {
    rejected: Vec<RefusedRecord>,
}

#[derive(Deserialize)]
struct RefusedRecord {
    offset: u64,
    #[serde(default)]
    reason: String,
}

impl Answer {
    /// What it means for a write of records with these offsets.
    pub(super) fn to_write(&self, offsets: &[u64]) -> Verdict {
        match self.status.as_u16() {
            200..=299 => Verdict::Durable,
            409 | 412 => Verdict::Fenced,
            413 => Verdict::TooLarge,
            422 => match self.rejected(offsets) {
                Some(records) => Verdict::Rejected(records),
                None => Verdict::Refused(
                    "a body with the rejected offsets of this batch was expected, as in \
                     {\"rejected\":[{\"offset\":1,\"reason\":\"…\"}]}",
                ),
            },
            _ => self.otherwise(),
        }
    }

    /// What it means for `acquire`. A receiver that has not heard of it takes whatever comes.
    pub(super) fn to_acquire(&self) -> Acquired {
        let refused = |advice| Acquired::Not(Verdict::Refused(advice));
        match self.status.as_u16() {
            200..=299 => {
                match self.headers.get(NEXT).map(|next| next.to_str().ok()?.parse().ok()) {
                    None => Acquired::At(None),
                    Some(Some(next)) => Acquired::At(Some(Position(next))),
                    Some(None) => refused("its header Tidegate-Next is no position"),
                }
            }
            404 | 405 | 501 => Acquired::At(None),
            409 | 412 => Acquired::Not(Verdict::Fenced),
            413 | 422 => refused("the request to acquire a partition has no body"),
            400 => refused(
                "a receiver that keeps no positions answers 501 to `Tidegate-Action: acquire`",
            ),
            _ => Acquired::Not(self.otherwise()),
        }
    }

    fn otherwise(&self) -> Verdict {
        match self.status.as_u16() {
            300..=399 => {
                Verdict::Refused("redirects are not followed: set the URL to where it points")
            }
            401 | 403 => {
                Verdict::Refused("check bearerFile or bearerEnv, and what the token allows")
            }
            404 | 405 => Verdict::Refused("check the path of the URL"),
            408 | 425 | 429 | 500..=599 => Verdict::Away,
            _ => Verdict::Refused("see the receiver's log"),
        }
    }

    /// How long a busy receiver wants to be left alone before it is asked again, where it tells: seconds, or a date of
    /// HTTP.
    pub(super) fn retry_after(&self, now_ms: u64) -> Option<Duration> {
        let text =
            self.headers.get(RETRY_AFTER).filter(|_| matches!(self.status.as_u16(), 429 | 503));
        let text = text?.to_str().ok()?.trim();
        let wait = if let Ok(seconds) = text.parse() {
            Duration::from_secs(seconds)
        } else {
            let until = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
            until.saturating_sub(Duration::from_millis(now_ms))
        };
        Some(wait.clamp(SHORTEST_WAIT, LONGEST_WAIT))
    }

    /// The rejected records, if there are some and all are of the batch.
    fn rejected(&self, offsets: &[u64]) -> Option<Vec<Rejection>> {
        let refusals: Refusals = serde_json::from_slice(&self.body).ok()?;
        let mut seen = BTreeSet::new();
        let mut records: Vec<_> = refusals.rejected.into_iter().collect();
        records.retain(|record| seen.insert(record.offset));
        records.sort_unstable_by_key(|record| record.offset);
        let known = records.iter().all(|record| offsets.binary_search(&record.offset).is_ok());
        (known && !records.is_empty()).then(|| {
            let rejection = |RefusedRecord { offset, reason }| Rejection {
                offset,
                reason: if reason.is_empty() {
                    "the receiver gave no reason".to_owned()
                } else {
                    reason.chars().take(REASON).collect()
                },
            };
            records.into_iter().map(rejection).collect()
        })
    }

    /// The beginning of the body and where a redirect points, for an error.
    pub(super) fn quoted(&self, secret: Option<&str>) -> String {
        let location = self.headers.get(LOCATION).filter(|_| self.status.is_redirection());
        let location = location.and_then(|to| to.to_str().ok()?.parse::<Uri>().ok());
        let mut text = String::new();
        if let Some(to) = location {
            text.push_str(", it points to ");
            // Writing to a string does not fail.
            let _whole = shown(&to, &mut text);
        }
        let body = String::from_utf8_lossy(&self.body);
        let repeats = secret.is_some_and(|secret| body.contains(secret) || text.contains(secret));
        if repeats {
            return ", with a text that repeats the token".to_owned();
        }
        let begin: String = body.trim().chars().take(QUOTED).collect();
        if !begin.is_empty() {
            text.push_str(": ");
            text.extend(begin.escape_debug());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Answer {
        let headers = headers.iter().map(|(name, value)| {
            (hyper::header::HeaderName::from_static(name), value.parse().unwrap())
        });
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: headers.collect(),
            body: Bytes::from(body.to_owned()),
        }
    }

    #[test]
    fn each_status_has_one_meaning_for_a_write() {
        for (statuses, verdict) in [
            (&[200, 201, 202, 204][..], Verdict::Durable),
            (&[409, 412], Verdict::Fenced),
            (&[413], Verdict::TooLarge),
            (&[408, 425, 429, 500, 502, 503, 504, 599], Verdict::Away),
        ] {
            for status in statuses {
                assert_eq!(answer(*status, &[], "").to_write(&[1]), verdict, "{status}");
            }
        }
        for status in [301, 307, 308, 400, 401, 403, 404, 405, 411, 415, 422, 431] {
            let verdict = answer(status, &[], "").to_write(&[1]);
            assert!(matches!(verdict, Verdict::Refused(_)), "{status}: {verdict:?}");
        }
    }

    #[test]
    fn a_receiver_that_has_not_heard_of_acquire_has_no_position() {
        for status in [404, 405, 501, 200, 204] {
            assert_eq!(answer(status, &[], "").to_acquire(), Acquired::At(None), "{status}");
        }
        let told = answer(200, &[(NEXT, "17")], "").to_acquire();
        assert_eq!(told, Acquired::At(Some(Position(17))));
        let Acquired::Not(Verdict::Refused(_)) = answer(200, &[(NEXT, "-1")], "").to_acquire()
        else {
            panic!("a position below 0 was believed");
        };
        assert_eq!(answer(412, &[], "").to_acquire(), Acquired::Not(Verdict::Fenced));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_has_a_limit() {
        let wait = |status, text| {
            answer(status, &[("retry-after", text)], "").retry_after(784_111_777_000)
        };
        assert_eq!(wait(503, "3"), Some(Duration::from_secs(3)));
        let date = "Sun, 06 Nov 1994 08:49:40 GMT";
        assert_eq!(wait(429, date), Some(Duration::from_secs(3)));
        assert_eq!(wait(429, "Sun, 06 Nov 1994 08:49:00 GMT"), Some(SHORTEST_WAIT));
        assert_eq!(wait(503, "86400"), Some(LONGEST_WAIT));
        assert_eq!((wait(503, "soon"), wait(500, "3"), wait(200, "3")), (None, None, None));
    }

    #[test]
    fn rejected_records_must_be_of_the_batch() {
        let body = r#"{"rejected":[{"offset":7,"reason":"b"},{"offset":3},{"offset":7}]}"#;
        let rejection = |offset, reason: &str| Rejection { offset, reason: reason.to_owned() };
        assert_eq!(
            answer(422, &[], body).to_write(&[1, 3, 7]),
            Verdict::Rejected(vec![rejection(3, "the receiver gave no reason"), rejection(7, "b")])
        );
        for body in [body, "{}", r#"{"rejected":[]}"#, "not json"] {
            let verdict = answer(422, &[], body).to_write(&[1, 7]);
            assert!(matches!(verdict, Verdict::Refused(_)), "{body}: {verdict:?}");
        }
    }

    #[test]
    fn an_error_quotes_little_and_no_secret() {
        let long = answer(400, &[], &"ä\n".repeat(5000));
        assert!(long.quoted(None).len() < 1000);
        assert!(!long.quoted(None).contains('\n'));
        let echo = answer(401, &[], "bad token hunter2");
        assert!(!echo.quoted(Some("hunter2")).contains("hunter2"));
        let moved = answer(308, &[("location", "https://u:hunter2@new.test/x?k=hunter2")], "");
        assert_eq!(moved.quoted(None), ", it points to https://new.test/x?…");
    }
}
