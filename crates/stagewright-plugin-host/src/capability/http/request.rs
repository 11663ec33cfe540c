//! The builder of requests.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;

use super::super::secrets::SecretHandle;
use super::quota::{Held, Quota};
use crate::error::CapabilityError;

/// The most redirects that are followed, unless the guest sets another number.
const REDIRECTS: u32 = 10;

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
    /// A file of the workspace.
    File(String),
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

    pub(crate) fn bytes(&mut self, quota: &Quota, data: Vec<u8>) {
        (self.body, self.held_body) = (Body::None, None);
        match quota.data(data.len()) {
            Ok(held) => (self.body, self.held_body) = (Body::Bytes(data.into()), Some(Arc::new(held))),
            Err(fault) => self.fault = Some(fault),
        }
    }

    pub(crate) fn file(&mut self, quota: &Quota, path: String) {
        if self.hold(quota, path.len()) {
            (self.body, self.held_body) = (Body::File(path), None);
        }
    }
}
