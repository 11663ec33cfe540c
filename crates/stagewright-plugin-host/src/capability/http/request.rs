//! Requests as guests put them together.

use std::time::Duration;

use hyper::body::Bytes;

use super::super::secrets::SecretHandle;
use super::quota::{Held, Quota};
use crate::error::CapabilityError;

/// Redirects, when the guest sets no other number.
const REDIRECTS: u32 = 10;

/// A request to be.
#[derive(Debug)]
pub struct RequestBuilder {
    pub(super) method: String,
    pub(super) url: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) secret_headers: Vec<SecretHeader>,
    pub(super) body: Body,
    pub(super) timeout: Option<Duration>,
    pub(super) max_redirects: u32,
    /// For all but the body.
    pub(super) held: Option<Held>,
    pub(super) held_body: Option<Held>,
    /// Why it can't be sent: what puts it together can't fail.
    pub(super) fault: Option<CapabilityError>,
}

#[derive(Clone, Debug)]
pub(super) struct SecretHeader {
    pub(super) name: String,
    pub(super) prefix: String,
    pub(super) secret: SecretHandle,
}

#[derive(Clone, Debug)]
pub(super) enum Body {
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
            held: None,
            held_body: None,
            fault: None,
        }
    }

    /// Whether so many more bytes may be held for it beside its body.
    pub(super) fn hold(&mut self, quota: &Quota, bytes: usize) -> bool {
        match (quota.data(bytes), &mut self.held) {
            (Ok(more), Some(held)) => held.merge(more),
            (Ok(held), none) => *none = Some(held),
            (Err(fault), _) => self.fault = Some(fault),
        }
        self.fault.is_none()
    }

    pub(super) fn header(&mut self, quota: &Quota, name: String, value: String) {
        if self.hold(quota, name.len() + value.len()) {
            self.headers.push((name, value));
        }
    }

    pub(super) fn secret_header(&mut self, quota: &Quota, header: SecretHeader) {
        if self.hold(quota, header.name.len() + header.prefix.len()) {
            self.secret_headers.push(header);
        }
    }

    pub(super) fn bytes(&mut self, quota: &Quota, data: Vec<u8>) {
        (self.body, self.held_body) = (Body::None, None);
        match quota.data(data.len()) {
            Ok(held) => (self.body, self.held_body) = (Body::Bytes(data.into()), Some(held)),
            Err(fault) => self.fault = Some(fault),
        }
    }

    pub(super) fn file(&mut self, quota: &Quota, path: String) {
        if self.hold(quota, path.len()) {
            (self.body, self.held_body) = (Body::File(path), None);
        }
    }
}
