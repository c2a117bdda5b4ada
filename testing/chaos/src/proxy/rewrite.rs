//! Keeps a client behind its proxy: brokers tell their own addresses, and a client that learns them goes around it.
//!
//! Three kinds of answers are changed, in whatever version they were asked for. `Metadata` and `FindCoordinator` name
//! brokers; their addresses are replaced by the proxy's. `ApiVersions` is lowered for Produce and Fetch to the last
//! versions whose answers name no leader's address (KIP-951), so that the bulk of the traffic need not be looked into.
//! An answer that cannot be read is passed on as it came.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, FindCoordinatorResponse, MetadataResponse, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};

/// The host of every listener here.
const HOST: &str = "127.0.0.1";

/// Highest versions without leader addresses in their answers.
const HIGHEST: [(ApiKey, i16); 2] = [(ApiKey::Produce, 9), (ApiKey::Fetch, 15)];

/// A request whose answer is to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    api: ApiKey,
    version: i16,
}

/// For each broker, by host and port, the port of the proxy's listener.
pub(super) type Addresses = BTreeMap<(String, u16), u16>;

/// What a request asks for, with its correlation id, if the answer is to be changed.
pub(super) fn asked(request: &[u8]) -> Option<(i32, Asked)> {
    let (api, rest) = request.split_first_chunk::<2>()?;
    let (version, rest) = rest.split_first_chunk::<2>()?;
    let correlation = rest.first_chunk::<4>()?;
    let api = ApiKey::try_from(i16::from_be_bytes(*api)).ok()?;
    let changed = matches!(api, ApiKey::Metadata | ApiKey::FindCoordinator | ApiKey::ApiVersions);
    let asked = Asked { api, version: i16::from_be_bytes(*version) };
    changed.then_some((i32::from_be_bytes(*correlation), asked))
}

/// The correlation id of an answer.
pub(super) fn correlation(answer: &[u8]) -> Option<i32> {
    answer.first_chunk::<4>().map(|bytes| i32::from_be_bytes(*bytes))
}

/// The answer for the client.
pub(super) fn changed(answer: &Bytes, asked: Asked, addresses: &Addresses) -> Bytes {
    let version = asked.version;
    let changed = match asked.api {
        ApiKey::Metadata => edit(answer, version, |response: &mut MetadataResponse| {
            for broker in &mut response.brokers {
                replace(&mut broker.host, &mut broker.port, addresses);
            }
        }),
        ApiKey::FindCoordinator => {
            edit(answer, version, |response: &mut FindCoordinatorResponse| {
                replace(&mut response.host, &mut response.port, addresses);
                for coordinator in &mut response.coordinators {
                    replace(&mut coordinator.host, &mut coordinator.port, addresses);
                }
            })
        }
        ApiKey::ApiVersions => edit(answer, version, lower),
        _ => None,
    };
    changed.unwrap_or_else(|| answer.clone())
}

fn edit<R: Decodable + Encodable + HeaderVersion>(
    answer: &Bytes,
    version: i16,
    change: impl FnOnce(&mut R),
) -> Option<Bytes> {
    let mut rest = answer.clone();
    let header_version = R::header_version(version);
    let header = ResponseHeader::decode(&mut rest, header_version).ok()?;
    let mut response = R::decode(&mut rest, version).ok()?;
    change(&mut response);
    let mut frame = BytesMut::with_capacity(answer.len());
    header.encode(&mut frame, header_version).ok()?;
    response.encode(&mut frame, version).ok()?;
    Some(frame.freeze())
}

fn replace(host: &mut StrBytes, port: &mut i32, addresses: &Addresses) {
    let known = u16::try_from(*port).ok().map(|port| (host.to_string(), port));
    if let Some(ours) = known.and_then(|address| addresses.get(&address)) {
        *host = StrBytes::from_static_str(HOST);
        *port = i32::from(*ours);
    }
}

fn lower(response: &mut ApiVersionsResponse) {
    for range in &mut response.api_keys {
        let limit = HIGHEST.iter().find(|(api, _)| *api as i16 == range.api_key);
        if let Some((_, highest)) = limit {
            range.max_version = range.max_version.min(*highest);
        }
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::api_versions_response::ApiVersion;
    use kafka_protocol::messages::find_coordinator_response::Coordinator;
    use kafka_protocol::messages::metadata_response::MetadataResponseBroker;
    use kafka_protocol::protocol::Message;

    use super::*;

    fn addresses() -> Addresses {
        [((HOST.to_owned(), 9092), 5001), ((HOST.to_owned(), 9093), 5002)].into()
    }

    fn answer<R: Encodable + HeaderVersion>(response: &R, version: i16) -> Bytes {
        let mut frame = BytesMut::new();
        let header = ResponseHeader::default().with_correlation_id(77);
        header.encode(&mut frame, R::header_version(version)).unwrap();
        response.encode(&mut frame, version).unwrap();
        frame.freeze()
    }

    fn body<R: Decodable + HeaderVersion>(mut frame: Bytes, version: i16) -> R {
        ResponseHeader::decode(&mut frame, R::header_version(version)).unwrap();
        R::decode(&mut frame, version).unwrap()
    }

    fn change(frame: &Bytes, api: ApiKey, version: i16) -> Bytes {
        let changed = changed(frame, Asked { api, version }, &addresses());
        assert_eq!(correlation(&changed), Some(77));
        changed
    }

    #[test]
    fn metadata_names_the_proxy_in_every_version() {
        let host = StrBytes::from_static_str(HOST);
        let broker =
            |port| MetadataResponseBroker::default().with_host(host.clone()).with_port(port);
        let response = MetadataResponse::default().with_brokers(vec![broker(9093), broker(7)]);
        for version in MetadataResponse::VERSIONS.min..=MetadataResponse::VERSIONS.max {
            let frame = answer(&response, version);
            let found: MetadataResponse = body(change(&frame, ApiKey::Metadata, version), version);
            let ports: Vec<_> = found.brokers.iter().map(|broker| broker.port).collect();
            assert_eq!(ports, [5002, 7], "version {version}, and unknown brokers stay");
        }
    }

    #[test]
    fn coordinators_are_named_alone_or_in_a_list() {
        let host = StrBytes::from_static_str(HOST);
        let old = FindCoordinatorResponse::default().with_host(host.clone()).with_port(9092);
        let found: FindCoordinatorResponse =
            body(change(&answer(&old, 2), ApiKey::FindCoordinator, 2), 2);
        assert_eq!(found.port, 5001);
        let coordinator = Coordinator::default().with_host(host).with_port(9092);
        let new = FindCoordinatorResponse::default().with_coordinators(vec![coordinator]);
        let found: FindCoordinatorResponse =
            body(change(&answer(&new, 4), ApiKey::FindCoordinator, 4), 4);
        assert_eq!(found.coordinators[0].port, 5001);
    }

    #[test]
    fn versions_whose_answers_name_leaders_are_not_offered() {
        let range =
            |api: ApiKey, max| ApiVersion::default().with_api_key(api as i16).with_max_version(max);
        let keys =
            vec![range(ApiKey::Fetch, 17), range(ApiKey::Produce, 8), range(ApiKey::Metadata, 13)];
        let response = ApiVersionsResponse::default().with_api_keys(keys);
        let found: ApiVersionsResponse =
            body(change(&answer(&response, 3), ApiKey::ApiVersions, 3), 3);
        let highest: Vec<_> = found.api_keys.iter().map(|range| range.max_version).collect();
        assert_eq!(highest, [15, 8, 13]);
    }

    #[test]
    fn an_answer_that_cannot_be_read_is_passed_on() {
        let frame = Bytes::from_static(&[0, 0, 0, 77, 255]);
        assert_eq!(change(&frame, ApiKey::Metadata, 12), frame);
    }

    #[test]
    fn only_requests_for_addresses_and_versions_are_noted() {
        let request = |api: ApiKey| {
            let mut frame = BytesMut::new();
            frame.extend_from_slice(&(api as i16).to_be_bytes());
            frame.extend_from_slice(&9_i16.to_be_bytes());
            frame.extend_from_slice(&5_i32.to_be_bytes());
            frame
        };
        let api = ApiKey::Metadata;
        assert_eq!(asked(&request(api)), Some((5, Asked { api, version: 9 })));
        assert_eq!(asked(&request(ApiKey::Fetch)), None);
        assert_eq!(asked(&[0, 3]), None, "too short");
    }
}
