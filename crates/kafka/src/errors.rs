//! What the answers of brokers and of librdkafka mean for a caller: a class, and a sentence with what to do.
//!
//! The tables are here and nowhere else. An error's text says what was being done and with which object; the broker's
//! own words are its cause.

use kafka_protocol::ResponseError;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;
use tidegate_runtime::errors::Code as Page;
use tidegate_runtime::ports::{Class, Error};

/// What a broker said instead of a result.
#[derive(Debug, thiserror::Error)]
#[error("the broker answered {code:?}: {}", message.as_deref().unwrap_or("no details"))]
pub(crate) struct Answer {
    pub(crate) code: ResponseError,
    pub(crate) message: Option<String>,
}

/// The right that a request needs, for the sentence that names what is missing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Right<'a> {
    /// Kafka's name of the operation.
    pub(crate) operation: &'static str,
    /// The kind of object, as in `topic`.
    pub(crate) kind: &'static str,
    /// Its name.
    pub(crate) name: &'a str,
}

impl<'a> Right<'a> {
    pub(crate) const fn topic(operation: &'static str, name: &'a str) -> Self {
        Self { operation, kind: "topic", name }
    }

    pub(crate) const fn group(operation: &'static str, name: &'a str) -> Self {
        Self { operation, kind: "group", name }
    }

    pub(crate) const fn cluster(operation: &'static str) -> Self {
        Self { operation, kind: "cluster", name: "kafka-cluster" }
    }

    /// The error for a user who lacks it.
    fn missing(self, class: Class) -> Error {
        let Self { operation, kind, name } = self;
        let text =
            format!("missing {operation} on {kind} {name}: allow it for this user in Kafka's ACLs");
        Error::new(class, text).coded(Page::RightMissing)
    }
}

/// The error for a request that a broker refused. `doing` is used unless the answer has a sentence of its own.
pub(crate) fn refused(
    doing: impl Into<String>,
    right: Right<'_>,
    code: ResponseError,
    message: Option<&str>,
) -> Error {
    let cause = Answer { code, message: message.map(ToOwned::to_owned) };
    let class = class_of(code);
    let error = match code {
        ResponseError::TopicAuthorizationFailed
        | ResponseError::GroupAuthorizationFailed
        | ResponseError::ClusterAuthorizationFailed => right.missing(class),
        ResponseError::SaslAuthenticationFailed => credentials_refused(class),
        ResponseError::UnknownTopicOrPartition if right.kind == "topic" => {
            Error::new(class, missing(right.name))
        }
        _ => Error::new(class, doing),
    };
    error.because(cause)
}

/// The same error for somebody else, without its cause.
pub(crate) fn again(error: &Error) -> Error {
    Error::new(error.class(), error.to_string()).coded(error.code())
}

/// True for the error of a topic or partition that does not exist.
pub(crate) fn is_missing(error: &Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<Answer>());
    cause.is_some_and(|answer| answer.code == ResponseError::UnknownTopicOrPartition)
}

/// The error for a topic that does not exist.
pub(crate) fn topic_missing(topic: &str) -> Error {
    let code = ResponseError::UnknownTopicOrPartition;
    Error::new(Class::Permanent, missing(topic)).because(Answer { code, message: None })
}

fn missing(topic: &str) -> String {
    format!(
        "topic {topic} or the partition asked for does not exist: create it, or correct its name"
    )
}

/// The class of a protocol error code. Kafka's own division into retriable and not is followed, but for the codes
/// that wait for a person (a missing topic) and those that heal while a cluster starts.
pub(crate) fn class_of(code: ResponseError) -> Class {
    use ResponseError as E;
    match code {
        E::UnknownTopicOrPartition | E::UnknownTopicId => Class::Permanent,
        E::StaleControllerEpoch
        | E::UnknownServerError
        | E::StaleBrokerEpoch
        | E::NotController => Class::Transient,
        other if other.is_retriable() => Class::Transient,
        _ => Class::Permanent,
    }
}

/// True for answers which say that the sender's picture of the cluster is old.
pub(crate) fn is_stale_metadata(code: ResponseError) -> bool {
    use ResponseError as E;
    matches!(
        code,
        E::UnknownTopicOrPartition
            | E::UnknownTopicId
            | E::InconsistentTopicId
            | E::NotLeaderOrFollower
            | E::LeaderNotAvailable
            | E::FencedLeaderEpoch
            | E::UnknownLeaderEpoch
            | E::ReplicaNotAvailable
            | E::KafkaStorageError
    )
}

/// librdkafka's code inside an error of its Rust binding, where it has one.
pub(crate) fn code_of(error: &KafkaError) -> Option<Code> {
    error.rdkafka_error_code()
}

/// The class of an error of librdkafka.
pub(crate) fn class_of_code(code: Code) -> Class {
    use Code as C;
    match code {
        C::Authentication
        | C::SaslAuthenticationFailed
        | C::UnsupportedSASLMechanism
        | C::TopicAuthorizationFailed
        | C::GroupAuthorizationFailed
        | C::ClusterAuthorizationFailed
        | C::TransactionalIdAuthorizationFailed
        | C::UnknownTopic
        | C::UnknownPartition
        | C::UnknownTopicOrPartition
        | C::UnknownTopicId
        | C::InvalidTopic
        | C::InvalidArgument
        | C::InvalidRecord
        | C::InvalidTimestamp
        | C::InvalidRequest
        | C::InvalidRequiredAcks
        | C::MessageSizeTooLarge
        | C::MessageBatchTooLarge
        | C::UnsupportedFeature
        | C::UnsupportedVersion
        | C::UnsupportedCompressionType
        | C::PolicyViolation
        | C::SecurityDisabled
        | C::NotConfigured
        | C::NotImplemented
        | C::Fatal => Class::Permanent,
        _ => Class::Transient,
    }
}

/// The error for a call to librdkafka about a topic.
pub(crate) fn library(doing: impl Into<String>, right: Right<'_>, error: KafkaError) -> Error {
    let Some(code) = code_of(&error) else {
        return Error::new(Class::Permanent, doing).because(error);
    };
    let class = class_of_code(code);
    let told = match code {
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => right.missing(class),
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
            Error::new(class, missing(right.name))
        }
        Code::Authentication | Code::SaslAuthenticationFailed => credentials_refused(class),
        Code::SSL => Error::new(class, doing).coded(Page::AuthenticationRefused),
        _ => Error::new(class, doing),
    };
    told.because(error)
}

/// The error for refused credentials.
pub(crate) fn credentials_refused(class: Class) -> Error {
    Error::new(class, AUTHENTICATION).coded(Page::AuthenticationRefused)
}

/// The sentence for refused credentials.
const AUTHENTICATION: &str =
    "the broker refused the credentials: check security.sasl and the user on the cluster";

/// True when a failed delivery report proves that the record is not in the log and never will be.
///
/// Only answers that do not depend on how often the client had tried count: a record that is too large or malformed
/// is so each time, and a topic that does not exist holds no record. A missing right counts as well; a right that is
/// withdrawn between a lost acknowledgement and the retry would be the one exception.
pub(crate) fn surely_not_appended(code: Code) -> bool {
    use Code as C;
    matches!(
        code,
        C::QueueFull
            | C::UnknownTopic
            | C::UnknownPartition
            | C::InvalidTopic
            | C::InvalidArgument
            | C::InvalidRecord
            | C::InvalidTimestamp
            | C::MessageSizeTooLarge
            | C::MessageBatchTooLarge
            | C::TopicAuthorizationFailed
            | C::ClusterAuthorizationFailed
            | C::PolicyViolation
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_right_names_the_operation_and_the_object() {
        let right = Right::topic("Describe", "orders");
        let error =
            refused("failed to describe", right, ResponseError::TopicAuthorizationFailed, None);
        assert!(error.to_string().starts_with("missing Describe on topic orders"));
        assert_eq!((error.class(), error.code()), (Class::Permanent, Some(Page::RightMissing)));
    }

    #[test]
    fn refused_credentials_are_one_sentence_with_one_code_from_both_clients() {
        let thin = refused(
            "failed to describe",
            Right::topic("Describe", "orders"),
            ResponseError::SaslAuthenticationFailed,
            None,
        );
        let failed = KafkaError::MessageConsumption(Code::Authentication);
        let thick = library("failed to read", Right::topic("Read", "orders"), failed);
        for error in [thin, thick] {
            assert_eq!(error.to_string(), AUTHENTICATION);
            assert_eq!(error.class(), Class::Permanent);
            assert_eq!(error.code(), Some(Page::AuthenticationRefused));
        }
    }

    #[test]
    fn a_moved_leader_heals_and_a_refused_config_does_not() {
        assert_eq!(class_of(ResponseError::NotLeaderOrFollower), Class::Transient);
        assert_eq!(class_of(ResponseError::InvalidConfig), Class::Permanent);
        assert!(is_stale_metadata(ResponseError::NotLeaderOrFollower));
    }

    #[test]
    fn a_timed_out_record_may_be_in_the_log() {
        assert!(!surely_not_appended(Code::MessageTimedOut));
        assert!(!surely_not_appended(Code::NotEnoughReplicasAfterAppend));
        assert!(surely_not_appended(Code::MessageSizeTooLarge));
    }
}
