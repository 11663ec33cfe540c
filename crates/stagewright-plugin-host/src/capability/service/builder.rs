//! A release that a guest is building.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::capability::secrets::SecretHandle;
use crate::error::{CapabilityError, ErrorCode};
use crate::service::RootFolder;

/// How a release that a guest is building runs behind a proxy.
#[derive(Clone, Debug)]
pub(crate) struct ProxyBuilder {
    pub(super) listen: Option<SocketAddr>,
    pub(crate) drain: Duration,
    pub(crate) replicas: u32,
    pub(crate) stops_first: bool,
}

impl Default for ProxyBuilder {
    fn default() -> ProxyBuilder {
        ProxyBuilder { listen: None, drain: Duration::from_secs(5), replicas: 1, stops_first: false }
    }
}

/// A release that a guest is building.
#[derive(Clone, Debug)]
pub struct ReleaseBuilder {
    pub(crate) service: String,
    pub(super) image: String,
    pub(crate) args: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) port: u16,
    pub(crate) keep: u32,
    pub(crate) stop_grace: Duration,
    pub(crate) proxy: Option<ProxyBuilder>,
    pub(super) root: Option<RootFolder>,
    pub(crate) volumes: BTreeMap<String, String>,
    /// The error of a builder method, none of which has a result of its own: `start` returns it.
    pub(super) refused: Option<CapabilityError>,
}

impl ReleaseBuilder {
    pub(crate) fn new(service: String, image: String) -> ReleaseBuilder {
        ReleaseBuilder {
            service,
            image,
            args: Vec::new(),
            env: BTreeMap::new(),
            port: 0,
            keep: 3,
            stop_grace: Duration::from_secs(10),
            proxy: None,
            root: None,
            volumes: BTreeMap::new(),
            refused: None,
        }
    }

    /// Puts a proxy in front of the release, at an address as in `127.0.0.1:8080`.
    pub(crate) fn proxy(&mut self, address: &str) {
        match address.parse() {
            Ok(listen) => self.behind().listen = Some(listen),
            Err(_) => {
                let message = format!("`{address}` isn't an address with a port, as in `127.0.0.1:8080`");
                self.refused.get_or_insert(CapabilityError::new(ErrorCode::InvalidArgument, message));
            }
        }
    }

    /// Sets whose files the program has: `image` or `host`.
    pub(crate) fn root(&mut self, root: &str) {
        match root {
            "image" => self.root = Some(RootFolder::Image),
            "host" => self.root = Some(RootFolder::Host),
            _ => {
                let message = format!("`{root}` isn't a root of a release; the roots are `image` and `host`");
                self.refused.get_or_insert(CapabilityError::new(ErrorCode::InvalidArgument, message));
            }
        }
    }

    /// How the release runs behind its proxy.
    pub(crate) fn behind(&mut self) -> &mut ProxyBuilder {
        self.proxy.get_or_insert_default()
    }

    /// Adds a secret, which must be allowed for a program with the service's name.
    pub(crate) fn secret_env(&mut self, name: String, secret: &SecretHandle) {
        match secret.for_program(&self.service) {
            Ok(value) => {
                self.env.insert(name, value.to_owned());
            }
            Err(error) => {
                self.refused.get_or_insert(error);
            }
        }
    }
}
