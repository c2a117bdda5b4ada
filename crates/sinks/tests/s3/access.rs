//! Buckets that are not there, and credentials that do not fit: found when the sink is opened, with what to do.

use tidegate_runtime::ports::Class;
use tidegate_sinks::object::probe;
use tidegate_sinks::object::s3::{Bucket, S3Store};
use tidegate_testing::RealS3;

use crate::proxy::Proxy;
use crate::world::{bucket, chain, environment, on_server, open, store};

/// What opening a sink says of a bucket with this key and secret.
async fn refusal(bucket: &Bucket, key: &str, secret: &str) -> (Class, String) {
    let variables = [("AWS_ACCESS_KEY_ID", key), ("AWS_SECRET_ACCESS_KEY", secret)];
    let store = S3Store::open(bucket, &environment(&variables), 1).await.unwrap();
    let error = probe::create_only(&store, "it").await.unwrap_err();
    (error.class, chain(&error))
}

#[test]
fn a_bucket_that_does_not_exist_is_named() {
    on_server(async |server| {
        let mut nowhere = Bucket::new("no-such-bucket", "").unwrap();
        nowhere.endpoint = Some(server.endpoint().to_owned());
        let (class, text) = refusal(&nowhere, RealS3::ACCESS_KEY, RealS3::SECRET_KEY).await;
        assert_eq!(class, Class::Permanent, "{text}");
        let wanted = format!(
            "bucket no-such-bucket at {} does not exist: create it, or correct the URL",
            server.endpoint()
        );
        assert!(text.contains(&wanted), "{text}");
    });
}

#[test]
fn credentials_that_are_not_accepted_are_told_from_rights_that_are_missing() {
    on_server(async |server| {
        let bucket = bucket(server.endpoint());
        for (key, secret) in [(RealS3::ACCESS_KEY, "wrong"), ("stranger", RealS3::SECRET_KEY)] {
            let (class, text) = refusal(&bucket, key, secret).await;
            assert_eq!(class, Class::Permanent, "{text}");
            assert!(text.contains("does not accept the credentials"), "{text}");
        }
        let proxy = Proxy::before(server.endpoint()).await;
        let denied = store(proxy.endpoint()).await;
        proxy.refuse_all(403, "AccessDenied");
        let error = probe::create_only(&denied, "it").await.unwrap_err();
        assert_eq!(error.class, Class::Permanent, "{}", chain(&error));
        let text = chain(&error);
        assert!(text.contains("allow s3:PutObject, s3:GetObject and s3:ListBucket"), "{text}");
        assert!(text.contains("records/of a test/.tidegate-probe-*"), "{text}");
    });
}

#[test]
fn other_refusals_say_what_to_change() {
    on_server(async |server| {
        let proxy = Proxy::before(server.endpoint()).await;
        let store = store(proxy.endpoint()).await;
        for (status, code, class, wanted) in [
            (301, "PermanentRedirect", Class::Permanent, "set region=… in the URL"),
            (400, "AuthorizationHeaderMalformed", Class::Permanent, "set region=… in the URL"),
            (400, "ExpiredToken", Class::Permanent, "renew AWS_SESSION_TOKEN and restart"),
            (400, "IncompleteBody", Class::Transient, "did not get the whole request"),
            (403, "RequestTimeTooSkewed", Class::Permanent, "set this machine's clock"),
            (501, "NotImplemented", Class::Permanent, "status 501, NotImplemented"),
        ] {
            proxy.refuse_all(status, code);
            let error = probe::create_only(&store, "it").await.unwrap_err();
            assert_eq!(error.class, class, "{code}");
            let text = chain(&error);
            assert!(text.contains(wanted), "{text}");
        }
    });
}

#[test]
fn a_server_that_does_not_speak_tls_is_not_talked_to_without() {
    on_server(async |server| {
        let endpoint = server.endpoint().replace("http://", "https://");
        let store = open(&bucket(&endpoint)).await.unwrap();
        let error = probe::create_only(&store, "it").await.unwrap_err();
        assert_eq!(error.class, Class::Permanent, "{}", chain(&error));
        assert!(chain(&error).contains("is not trusted in TLS"), "{}", chain(&error));
    });
}
