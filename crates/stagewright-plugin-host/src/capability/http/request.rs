//! The builder of requests.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Bytes;

use super::super::secrets::SecretHandle;
use super::quota::{Held, Quota};
use crate::error::{CapabilityError, ErrorCode};

/// The most redirects that are followed, unless the guest sets another number.
const REDIRECTS: u32 = 10;

/// What a secret in a body counts for, in bytes.
const LONGEST_SECRET: usize = 64 * 1024;

/// A request that a guest is building.
#[derive(Clone, Debug)]
pub struct RequestBuilder {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) secret_headers: Vec<SecretHeader>,
    pub(crate) body: Body,
    pub(crate) timeout: Option<Duration>,
    pub(crate) max_redirects: u32,
    /// The parts of the quota for everything but the body. Clones share them.
    pub(crate) held: Vec<Arc<Held>>,
    /// The part of the quota for the body.
    pub(crate) held_body: Option<Arc<Held>>,
    /// What is added to the path of the URL.
    pub(crate) url_secret: Option<SecretHandle>,
    /// The error of a builder method, none of which has a result of its own: sending returns it.
    pub(crate) fault: Option<CapabilityError>,
}

#[derive(Clone, Debug)]
pub(crate) struct SecretHeader {
    pub(crate) name: String,
    pub(crate) prefix: String,
    pub(crate) secret: SecretHandle,
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    None,
    Bytes(Bytes),
    /// Pieces, of which some are secrets.
    Pieces(Vec<Piece>),
    /// A file of the workspace.
    File(String),
}

/// A piece of a body.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    Bytes(Bytes),
    Secret(SecretHandle, Encoding),
}

/// How a secret's value is written into a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// As it is.
    Plain,
    /// As a JSON string has it between its quotes.
    Json,
    /// In base64.
    Base64,
}

impl Encoding {
    fn parse(name: &str) -> Result<Encoding, CapabilityError> {
        match name {
            "plain" => Ok(Encoding::Plain),
            "json" => Ok(Encoding::Json),
            "base64" => Ok(Encoding::Base64),
            _ => Err(CapabilityError::new(
                ErrorCode::InvalidArgument,
                format!("`{name}` isn't an encoding of a secret; there are `plain`, `json` and `base64`"),
            )),
        }
    }

    pub(crate) fn encode(self, value: &str) -> String {
        match self {
            Encoding::Plain => value.to_owned(),
            Encoding::Json => {
                let quoted = serde_json::Value::from(value).to_string();
                quoted[1..quoted.len() - 1].to_owned()
            }
            Encoding::Base64 => STANDARD.encode(value),
        }
    }
}

impl Body {
    /// The secrets in it.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &SecretHandle> {
        let pieces = if let Body::Pieces(pieces) = self { pieces.as_slice() } else { &[] };
        pieces.iter().filter_map(|piece| if let Piece::Secret(secret, _) = piece { Some(secret) } else { None })
    }
}

impl RequestBuilder {
    pub(crate) fn new(method: String, url: String) -> RequestBuilder {
        RequestBuilder {
            method,
            url,
            headers: Vec::new(),
            secret_headers: Vec::new(),
            body: Body::None,
            timeout: None,
            max_redirects: REDIRECTS,
            held: Vec::new(),
            held_body: None,
            url_secret: None,
            fault: None,
        }
    }

    /// Takes `bytes` more of the quota for everything but the body. False, with [`Self::fault`] set, if it is exhausted.
    pub(crate) fn hold(&mut self, quota: &Quota, bytes: usize) -> bool {
        match quota.data(bytes) {
            Ok(held) => self.held.push(Arc::new(held)),
            Err(fault) => self.fault = Some(fault),
        }
        self.fault.is_none()
    }

    pub(crate) fn header(&mut self, quota: &Quota, name: String, value: String) {
        if self.hold(quota, name.len() + value.len()) {
            self.headers.push((name, value));
        }
    }

    pub(crate) fn secret_header(&mut self, quota: &Quota, header: SecretHeader) {
        if self.hold(quota, header.name.len() + header.prefix.len()) {
            self.secret_headers.push(header);
        }
    }

    /// It counts as one of the longest, as in a body.
    pub(crate) fn url_secret(&mut self, quota: &Quota, secret: SecretHandle) {
        if self.hold(quota, LONGEST_SECRET) {
            self.url_secret = Some(secret);
        }
    }

    pub(crate) fn bytes(&mut self, quota: &Quota, data: Vec<u8>) {
        (self.body, self.held_body) = (Body::None, None);
        match quota.data(data.len()) {
            Ok(held) => (self.body, self.held_body) = (Body::Bytes(data.into()), Some(Arc::new(held))),
            Err(fault) => self.fault = Some(fault),
        }
    }

    pub(crate) fn append(&mut self, quota: &Quota, data: Vec<u8>) {
        if self.hold(quota, size_of::<Piece>() + data.len()) {
            self.append_piece(Piece::Bytes(data.into()));
        }
    }

    /// Each secret counts as one of the longest, so that the quota says nothing about its length.
    pub(crate) fn append_secret(&mut self, quota: &Quota, secret: SecretHandle, encoding: &str) {
        match Encoding::parse(encoding) {
            Ok(encoding) if self.hold(quota, LONGEST_SECRET) => self.append_piece(Piece::Secret(secret, encoding)),
            Ok(_) => {}
            Err(fault) => self.fault = Some(fault),
        }
    }

    fn append_piece(&mut self, piece: Piece) {
        let mut pieces = match std::mem::replace(&mut self.body, Body::None) {
            Body::Pieces(pieces) => pieces,
            Body::Bytes(data) => vec![Piece::Bytes(data)],
            Body::None | Body::File(_) => Vec::new(),
        };
        pieces.push(piece);
        self.body = Body::Pieces(pieces);
    }

    pub(crate) fn file(&mut self, quota: &Quota, path: String) {
        if self.hold(quota, path.len()) {
            (self.body, self.held_body) = (Body::File(path), None);
        }
    }
}
