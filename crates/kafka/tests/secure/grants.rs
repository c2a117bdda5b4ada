//! Users and rights, given over the listener that may do everything. Kafka's own tools do the same, each in seconds.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::num::NonZeroU32;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use kafka_protocol::messages::alter_user_scram_credentials_request::ScramCredentialUpsertion;
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::{
    AlterUserScramCredentialsRequest, CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest,
    RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{
    Decodable as _, Encodable as _, HeaderVersion as _, Request, StrBytes,
};
use ring::pbkdf2;

/// A right of a user on one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) user: String,
    pub(crate) operation: Operation,
    pub(crate) object: Object,
}

/// What a right is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Object {
    Topic(String),
    Group(String),
    Cluster,
}

/// Kafka's operations, by their numbers in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub(crate) enum Operation {
    Read = 3,
    Write = 4,
    Create = 5,
    Delete = 6,
    Alter = 7,
    Describe = 8,
    DescribeConfigs = 10,
}

impl Operation {
    pub(crate) fn parse(name: &str) -> Self {
        match name {
            "Read" => Self::Read,
            "Write" => Self::Write,
            "Create" => Self::Create,
            "Delete" => Self::Delete,
            "Alter" => Self::Alter,
            "Describe" => Self::Describe,
            "DescribeConfigs" => Self::DescribeConfigs,
            other => panic!("{other} is no operation that anybody needs"),
        }
    }
}

/// Kafka's numbers: a name taken literally, and a right that is given.
const LITERAL: i8 = 3;
const ALLOW: i8 = 3;

/// Gives rights, and returns when the broker goes by them.
pub(crate) fn grant(bootstrap: &str, grants: &[Grant]) {
    let creation = |grant: &Grant| {
        let (kind, name) = resource(&grant.object);
        AclCreation::default()
            .with_resource_type(kind)
            .with_resource_name(name)
            .with_resource_pattern_type(LITERAL)
            .with_principal(principal(grant))
            .with_host(StrBytes::from_static_str("*"))
            .with_operation(grant.operation as i8)
            .with_permission_type(ALLOW)
    };
    let request =
        CreateAclsRequest::default().with_creations(grants.iter().map(creation).collect());
    for result in ask(bootstrap, &request, 3).results {
        assert_eq!(result.error_code, 0, "{:?}", result.error_message);
    }
    for grant in grants {
        assert!(shows(|| is_known(bootstrap, grant)), "{grant:?} shows");
    }
}

/// Takes a right away, and returns when the broker goes by that.
pub(crate) fn revoke(bootstrap: &str, grant: &Grant) {
    let (kind, name) = resource(&grant.object);
    let filter = DeleteAclsFilter::default()
        .with_resource_type_filter(kind)
        .with_resource_name_filter(Some(name))
        .with_pattern_type_filter(LITERAL)
        .with_principal_filter(Some(principal(grant)))
        .with_host_filter(None)
        .with_operation(grant.operation as i8)
        .with_permission_type(ALLOW);
    let request = DeleteAclsRequest::default().with_filters(vec![filter]);
    for result in ask(bootstrap, &request, 3).filter_results {
        assert_eq!((result.error_code, result.matching_acls.len()), (0, 1), "{grant:?}");
    }
    assert!(shows(|| !is_known(bootstrap, grant)), "that {grant:?} is gone shows");
}

/// Waits until something is so; false if it is not in time.
fn shows(is_so: impl Fn() -> bool) -> bool {
    (0..600).any(|_| {
        let shows = is_so();
        if !shows {
            std::thread::park_timeout(Duration::from_millis(100));
        }
        shows
    })
}

fn principal(grant: &Grant) -> StrBytes {
    StrBytes::from_string(format!("User:{}", grant.user))
}

/// Kafka's numbers and name of an object.
fn resource(object: &Object) -> (i8, StrBytes) {
    let (kind, name) = match object {
        Object::Topic(name) => (2, name.as_str()),
        Object::Group(name) => (3, name.as_str()),
        Object::Cluster => (4, "kafka-cluster"),
    };
    (kind, StrBytes::from_string(name.to_owned()))
}

fn is_known(bootstrap: &str, grant: &Grant) -> bool {
    let (kind, name) = resource(&grant.object);
    let request = DescribeAclsRequest::default()
        .with_resource_type_filter(kind)
        .with_resource_name_filter(Some(name))
        .with_pattern_type_filter(LITERAL)
        .with_principal_filter(Some(principal(grant)))
        .with_host_filter(None)
        .with_operation(grant.operation as i8)
        .with_permission_type(ALLOW);
    let answer = ask(bootstrap, &request, 3);
    assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    !answer.resources.is_empty()
}

/// A mechanism that a user may have a password for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scram {
    Sha256,
    Sha512,
}

/// Makes a user, or changes the password. The broker may take a moment to know it.
pub(crate) fn add_user(bootstrap: &str, user: &str, password: &str, scram: Scram) {
    const ITERATIONS: u32 = 4096;
    const SALT: &[u8] = b"salt of the tests";
    let (number, algorithm, length) = match scram {
        Scram::Sha256 => (1, pbkdf2::PBKDF2_HMAC_SHA256, 32),
        Scram::Sha512 => (2, pbkdf2::PBKDF2_HMAC_SHA512, 64),
    };
    let mut salted = vec![0; length];
    let iterations = NonZeroU32::new(ITERATIONS).unwrap();
    pbkdf2::derive(algorithm, iterations, SALT, password.as_bytes(), &mut salted);
    let credential = ScramCredentialUpsertion::default()
        .with_name(StrBytes::from_string(user.to_owned()))
        .with_mechanism(number)
        .with_iterations(i32::try_from(ITERATIONS).unwrap())
        .with_salt(Bytes::from_static(SALT))
        .with_salted_password(Bytes::from(salted));
    let request = AlterUserScramCredentialsRequest::default().with_upsertions(vec![credential]);
    for result in ask(bootstrap, &request, 0).results {
        assert_eq!(result.error_code, 0, "{:?}", result.error_message);
    }
}

/// One request on one connection.
fn ask<R: Request>(bootstrap: &str, request: &R, version: i16) -> R::Response {
    let header_version = R::header_version(version);
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_client_id(Some(StrBytes::from_static_str("tests")));
    let mut body = BytesMut::new();
    header.encode(&mut body, header_version).unwrap();
    request.encode(&mut body, version).unwrap();
    let mut frame = BytesMut::new();
    frame.put_u32(u32::try_from(body.len()).unwrap());
    frame.extend_from_slice(&body);

    let mut stream = TcpStream::connect(bootstrap).unwrap();
    stream.set_read_timeout(Some(crate::suite::PATIENCE)).unwrap();
    stream.write_all(&frame).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
    stream.read_exact(&mut answer).unwrap();
    let mut answer = Bytes::from(answer);
    ResponseHeader::decode(&mut answer, R::Response::header_version(version)).unwrap();
    R::Response::decode(&mut answer, version).unwrap()
}
