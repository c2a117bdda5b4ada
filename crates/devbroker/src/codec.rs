//! Frames to requests and responses to frames. No sockets.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Encodable, HeaderVersion, decode_request_header_from_buffer};

/// Bytes of API key, version and correlation id, which every request starts with.
const LEAST_HEADER: usize = 8;

/// A request whose header is decoded and whose body is not.
#[derive(Debug, Clone)]
pub(crate) struct RawRequest {
    /// What is asked for.
    pub(crate) api: ApiKey,
    /// In which version.
    pub(crate) version: i16,
    /// The number the client matches the answer by.
    pub(crate) correlation_id: i32,
    /// The client's name for itself, empty if it has none.
    pub(crate) client_id: String,
    /// The rest of the frame.
    pub(crate) body: Bytes,
}

/// A frame that cannot be answered; the connection closes, as on a real broker.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodecError {
    /// Too short, or the header makes no sense.
    #[error("failed to decode a request header")]
    Header(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An API this broker does not have.
    #[error("request of unsupported api {api} version {version}")]
    Unsupported {
        /// The API's key.
        api: i16,
        /// The version asked for.
        version: i16,
    },
    /// A body that does not match its header.
    #[error("failed to decode a {api:?} request of version {version}")]
    Decode {
        /// The API.
        api: ApiKey,
        /// The version asked for.
        version: i16,
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An answer that the version asked for cannot carry.
    #[error("failed to encode a response to {api:?} version {version}")]
    Encode {
        /// The API.
        api: ApiKey,
        /// The version asked for.
        version: i16,
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Decodes a frame's header.
pub(crate) fn parse(mut frame: Bytes) -> Result<RawRequest, CodecError> {
    if frame.len() < LEAST_HEADER {
        return Err(CodecError::Header("frame is too short".into()));
    }
    let header = decode_request_header_from_buffer(&mut frame);
    let header: RequestHeader = header.map_err(|source| CodecError::Header(source.into()))?;
    let api = ApiKey::try_from(header.request_api_key).map_err(|()| CodecError::Unsupported {
        api: header.request_api_key,
        version: header.request_api_version,
    })?;
    Ok(RawRequest {
        api,
        version: header.request_api_version,
        correlation_id: header.correlation_id,
        client_id: header.client_id.map_or_else(String::new, |id| id.to_string()),
        body: frame,
    })
}

/// A framed answer in the request's version.
pub(crate) fn encode<R: Encodable + HeaderVersion>(
    raw: &RawRequest,
    response: &R,
) -> Result<Bytes, CodecError> {
    encode_as(raw, raw.version, response)
}

/// A framed answer in another version than the request's.
pub(crate) fn encode_as<R: Encodable + HeaderVersion>(
    raw: &RawRequest,
    version: i16,
    response: &R,
) -> Result<Bytes, CodecError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| CodecError::Encode {
        api: raw.api,
        version,
        source,
    };
    let header = ResponseHeader::default().with_correlation_id(raw.correlation_id);
    let header_version = R::header_version(version);
    let size = header
        .compute_size(header_version)
        .and_then(|header| Ok(header + response.compute_size(version)?))
        .map_err(|source| failed(source.into()))?;
    let length = i32::try_from(size).map_err(|source| failed(source.into()))?;
    let mut frame = BytesMut::with_capacity(size + 4);
    frame.put_i32(length);
    header
        .encode(&mut frame, header_version)
        .and_then(|()| response.encode(&mut frame, version))
        .map_err(|source| failed(source.into()))?;
    debug_assert_eq!(frame.len(), size + 4, "{:?} v{version}", raw.api);
    Ok(frame.freeze())
}
