//! What the API server refuses, as errors of the port: with the right that is missing, or the field that is wrong.

use std::time::Duration;

use kube::runtime::watcher;
use tidegate_runtime::ports::{Class, Error};

/// Something that is done to a kind of object: what a Role has to allow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Right {
    pub(crate) verb: &'static str,
    /// In the plural, as in a Role.
    pub(crate) resource: &'static str,
}

/// How long a request may take where somebody waits for it.
const REQUEST: Duration = Duration::from_secs(10);

/// Waits for a request, but not for a server that does not answer.
pub(crate) async fn in_time<T>(
    right: Right,
    object: &str,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(REQUEST, request).await {
        Ok(answer) => answer.map_err(|error| refused(right, object, error)),
        Err(late) => {
            let Right { verb, resource } = right;
            let text =
                format!("failed to {verb} {resource} {object}: the API server does not answer");
            Err(Error::new(Class::Transient, text).because(late))
        }
    }
}

/// An error of the port. The server's own words are its cause.
pub(crate) fn refused(right: Right, object: &str, error: kube::Error) -> Error {
    let Right { verb, resource } = right;
    let missing = missing(right, &error);
    let class = class_of(&error, missing.is_some());
    let text = missing.unwrap_or_else(|| format!("failed to {verb} {resource} {object}"));
    Error::new(class, text).because(error)
}

/// Why a watch is broken, for people, and whether it is forbidden.
pub(crate) fn of_watch(resource: &'static str, error: &watcher::Error) -> (String, bool) {
    let (verb, cause) = match error {
        watcher::Error::InitialListFailed(cause) => ("list", Some(cause)),
        watcher::Error::WatchStartFailed(cause) => ("watch", Some(cause)),
        _ => ("watch", None),
    };
    match cause.and_then(|cause| missing(Right { verb, resource }, cause)) {
        Some(text) => (text, true),
        None => (format!("failed to {verb} {resource}: {error}"), false),
    }
}

/// Says which right is missing, if one is. The server says `User "..." cannot VERB resource "..."` then: to apply what is not there yet needs
/// the right to create it as well. What a quota or an admission controller forbids is forbidden in other words.
fn missing(right: Right, error: &kube::Error) -> Option<String> {
    let kube::Error::Api(status) = error else { return None };
    let (_, told) = status.message.split_once(" cannot ").filter(|_| status.code == 403)?;
    let (verb, _) = told.split_once(' ').unwrap_or((right.verb, ""));
    let resource = right.resource;
    Some(format!(
        "the right to {verb} {resource} is missing: add it to the Role of the controller's service account"
    ))
}

/// True where nobody has answered a request: the server is away, or something between drops what it is sent.
pub(crate) fn is_no_answer(error: &Error) -> bool {
    let cause = std::error::Error::source(error);
    cause.is_some_and(|cause| match cause.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(_)) => false,
        Some(_) => true,
        None => cause.is::<tokio::time::error::Elapsed>(),
    })
}

/// True if there is no such object.
pub(crate) fn is_missing(error: &kube::Error) -> bool {
    code(error) == Some(404)
}

/// True if somebody else has changed or made the object in between.
pub(crate) fn is_conflict(error: &kube::Error) -> bool {
    code(error) == Some(409)
}

fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// Right after its start an API server refuses what it will allow once it has read the rules: only what is wrong with the object
/// itself stays wrong, and what something else than a right forbids.
fn class_of(error: &kube::Error, lacks_right: bool) -> Class {
    match code(error) {
        Some(400 | 405 | 422) => Class::Permanent,
        Some(403) if !lacks_right => Class::Permanent,
        _ => Class::Transient,
    }
}
