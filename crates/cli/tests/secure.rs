//! What the program says of a secured Apache Kafka that does not let it in.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod support;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tempfile::TempDir;
use tidegate_testing::{KafkaOptions, KafkaVersion, RealKafka, SecureListener};

use support::{run, stderr, stdout};

/// The cluster of this file. Its watcher wipes it when the tests have ended.
fn kafka() -> &'static RealKafka {
    static KAFKA: OnceLock<RealKafka> = OnceLock::new();
    let options = KafkaOptions { secure: true, ..KafkaOptions::new(KafkaVersion::V4, 1) };
    KAFKA.get_or_init(|| RealKafka::start_own(&options))
}

/// A specification for one listener, with security as it is written here.
struct Spec {
    _folder: TempDir,
    file: PathBuf,
}

impl Spec {
    fn new(servers: &str, tls: Option<&Path>, user: Option<(&str, &str)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (file, password) = (folder.path().join("group.yaml"), folder.path().join("password"));
        let mut security = String::new();
        if let Some(ca) = tls {
            write!(security, "tls: {{caFile: '{}'}}, ", ca.display()).unwrap();
        }
        if let Some((name, secret)) = user {
            std::fs::write(&password, secret).unwrap();
            write!(
                security,
                "sasl: {{mechanism: SCRAM-SHA-512, username: {name}, password: {{file: '{}'}}}}",
                password.display()
            )
            .unwrap();
        }
        let text = format!(
            "group: secure\nmode: own\n\
             cluster: {{bootstrapServers: '{servers}', security: {{{security}}}}}\n\
             topics: [{{name: 'orders', sink: 'blackhole:'}}]\n\
             controlTopics: {{monitor: secure-m, controller: secure-c, service: secure-s}}\n"
        );
        std::fs::write(&file, text).unwrap();
        Self { _folder: folder, file }
    }

    fn over_tls(user: &str, password: &str) -> Self {
        let kafka = kafka();
        let ca = kafka.tls_directory().join("ca.pem");
        let servers = kafka.secure_bootstrap(SecureListener::SaslSsl);
        Self::new(&servers, Some(&ca), Some((user, password)))
    }

    /// What a command says that fails.
    fn refusal(&self, command: &[&str]) -> String {
        let file = self.file.to_str().unwrap();
        let output = run(&[command, &["--spec", file]].concat());
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}{}", stdout(&output));
        text
    }
}

/// The last two lines: the error, and where to read on.
fn assert_told(text: &str, sentence: &str, code: &str) {
    assert!(text.contains(sentence), "{sentence:?}: {text}");
    let last = text.lines().last().unwrap_or_default();
    assert!(last.starts_with(&format!("({code}: see docs/errors.md")), "{code}: {text}");
}

#[test]
fn a_wrong_password_is_tg003_from_every_command() {
    let spec = Spec::over_tls("admin", "wrong-and-secret");
    let sentence = "the broker refused the credentials: check security.sasl";
    for command in
        [&["topics", "describe"][..], &["topics", "create"], &["monitor"], &["controller"]]
    {
        let text = spec.refusal(command);
        assert_told(&text, sentence, "TG003");
        assert!(!text.contains("wrong-and-secret"), "{text}");
    }
}

#[test]
fn an_unknown_authority_is_tg003() {
    let kafka = kafka();
    let servers = kafka.secure_bootstrap(SecureListener::SaslSsl);
    let not_an_authority = kafka.tls_directory().join("stranger.crt");
    let spec = Spec::new(&servers, Some(&not_an_authority), Some(("admin", "admin-secret")));
    let text = spec.refusal(&["topics", "describe"]);
    assert_told(&text, "set security.tls.caFile", "TG003");
}

#[test]
fn a_listener_of_another_kind_is_tg003_and_not_a_broker_that_is_down() {
    let kafka = kafka();
    let with_tls = kafka.secure_bootstrap(SecureListener::SaslSsl);
    let spec = Spec::new(&with_tls, None, Some(("admin", "admin-secret")));
    assert_told(&spec.refusal(&["topics", "describe"]), "security.tls", "TG003");
    let ca = kafka.tls_directory().join("ca.pem");
    let spec = Spec::new(kafka.bootstrap(), Some(&ca), None);
    let text = spec.refusal(&["topics", "describe"]);
    assert_told(&text, "its listener does not speak TLS", "TG003");
}

#[test]
fn a_user_without_rights_is_tg005_with_the_right_that_is_missing() {
    let spec = Spec::over_tls("stranger", "stranger-secret");
    let text = spec.refusal(&["topics", "describe"]);
    assert_told(&text, "missing Describe on topic secure-", "TG005");
    let text = spec.refusal(&["monitor"]);
    assert_told(&text, "missing Describe on topic secure-", "TG005");
}

#[test]
fn a_user_with_all_rights_is_served() {
    let spec = Spec::over_tls("admin", "admin-secret");
    let file = spec.file.to_str().unwrap();
    let output = run(&["topics", "create", "--spec", file]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let described = run(&["topics", "describe", "--spec", file]);
    assert!(stdout(&described).contains("secure-c: "), "{}", stdout(&described));
}
