//! Supervised processes on the host's machine: the `process` target of an environment.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value as Json;

use crate::duration::millis;
use crate::secrets::Secret;
use crate::{Error, Result, host::service as host};

pub use crate::service_state::State;

/// A release that hasn't been started yet.
#[derive(Debug)]
pub struct Release(host::Release);

impl Release {
    /// `image` is `REFERENCE@DIGEST`.
    pub fn new(service: &str, image: &str) -> Release {
        Release(host::Release::new(service, image))
    }

    /// Adds arguments of its program.
    pub fn args<A: Into<String>>(&mut self, args: impl IntoIterator<Item = A>) -> &mut Release {
        let args: Vec<String> = args.into_iter().map(Into::into).collect();
        self.0.args(&args);
        self
    }

    /// Sets a variable of its environment.
    pub fn env(&mut self, name: &str, value: &str) -> &mut Release {
        self.0.env(name, value);
        self
    }

    /// Sets a variable to a secret, which the guest doesn't see.
    pub fn secret_env(&mut self, name: &str, value: &Secret) -> &mut Release {
        self.0.secret_env(name, &value.0);
        self
    }

    /// Sets the port, which the service gets as `PORT`. Default: 0, which picks a free port, so that the new release starts
    /// beside the old one. With a fixed port [`Release::start`] has to stop the old release first.
    pub fn port(&mut self, port: u16) -> &mut Release {
        self.0.port(port);
        self
    }

    /// Sets how many earlier releases to keep on disk. Default: 3.
    pub fn keep(&mut self, releases: u32) -> &mut Release {
        self.0.keep(releases);
        self
    }

    /// Sets the time between SIGTERM and SIGKILL when the release is stopped. Default: 10 s.
    pub fn stop_grace(&mut self, grace: Duration) -> &mut Release {
        self.0.stop_grace_ms(millis(grace));
        self
    }

    /// Puts the service's proxy in front of the release. The proxy accepts requests at this address, as in
    /// `127.0.0.1:8080`; it is started if it isn't running, and outlives releases. The release then has free ports, gets
    /// requests only after [`Instance::route`], and outlives the attempt: [`unfinished`] finds it again.
    ///
    /// Since version 0.2.3 of the contract: a plugin that calls it needs an engine that has it.
    pub fn proxy(&mut self, address: &str) -> &mut Release {
        self.0.proxy(address);
        self
    }

    /// With a proxy: sets how long requests in flight may take when a release gets no more of them. Default: 5 s.
    pub fn drain(&mut self, drain: Duration) -> &mut Release {
        self.0.drain_ms(millis(drain));
        self
    }

    /// With a proxy: sets how many replicas are started, each with a port of its own. Default: 1.
    pub fn replicas(&mut self, replicas: u32) -> &mut Release {
        self.0.replicas(replicas);
        self
    }

    /// With a proxy: stops the current release before this one starts. Requests are refused until [`Instance::route`].
    pub fn stop_first(&mut self) -> &mut Release {
        self.0.stop_first();
        self
    }

    /// Sets whose files the program has as its root. Default: those of its image, unless the image lacks the loader that its
    /// program is linked with.
    ///
    /// Since version 0.2.3 of the contract, as [`Release::volume`].
    pub fn root(&mut self, root: Root) -> &mut Release {
        self.0.root(match root {
            Root::Image => "image",
            Root::Host => "host",
        });
        self
    }

    /// Adds a named folder of the service, which outlives its releases, at this path of the image's root.
    pub fn volume(&mut self, name: &str, path: &str) -> &mut Release {
        self.0.volume(name, path);
        self
    }

    /// Starts it beside the current release.
    ///
    /// # Errors
    /// When the image can't be pulled, or the program can't be started.
    pub fn start(&mut self) -> Result<Instance> {
        Ok(Instance(self.0.start()?))
    }
}

/// Whose files the program of a release has as its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// Those of its image, as in a container.
    Image,
    /// Those of the host's machine.
    Host,
}

/// Conditions on the headers of requests. A request meets them if it meets one of them.
#[derive(Debug)]
pub struct HeaderMatches(host::HeaderMatches);

impl Default for HeaderMatches {
    fn default() -> HeaderMatches {
        HeaderMatches::new()
    }
}

impl HeaderMatches {
    /// None yet.
    pub fn new() -> HeaderMatches {
        HeaderMatches(host::HeaderMatches::new())
    }

    /// The header has this value.
    pub fn exact(&mut self, header: &str, value: &str) -> &mut HeaderMatches {
        self.0.exact(header, value);
        self
    }

    /// The value of the header begins with this one.
    pub fn prefix(&mut self, header: &str, value: &str) -> &mut HeaderMatches {
        self.0.prefix(header, value);
        self
    }

    /// This regular expression, in the syntax of RE2, matches the value of the header as a whole.
    pub fn regex(&mut self, header: &str, expression: &str) -> &mut HeaderMatches {
        self.0.regex(header, expression);
        self
    }
}

/// A release that was started.
#[derive(Debug)]
pub struct Instance(host::Instance);

impl Instance {
    /// The release's name.
    pub fn release(&self) -> String {
        self.0.release()
    }

    /// The address, as in `http://127.0.0.1:41873`. The stage may call it without a `net` permission.
    pub fn address(&self) -> String {
        self.0.address()
    }

    /// The address of each of its replicas, which the stage may call like [`Instance::address`].
    pub fn addresses(&self) -> Vec<String> {
        self.0.addresses()
    }

    /// With a proxy: gives it this percentage of the requests, and the current release the rest. It gets all of them if no
    /// other release runs.
    ///
    /// # Errors
    /// When the release has no proxy, or a deploy with a newer token has come first.
    pub fn route(&self, weight: u32) -> Result<()> {
        Ok(self.0.route(weight)?)
    }

    /// Like [`Instance::route`], but it also gets all requests that meet one of these conditions. They don't count towards its
    /// percentage. The next call of this function or of [`Instance::route`] replaces the conditions.
    ///
    /// Since version 0.2.3 of the contract: a plugin that calls it needs an engine that has it.
    ///
    /// # Errors
    /// As [`Instance::route`], and for an invalid header or expression.
    pub fn route_matching(&self, weight: u32, matches: &HeaderMatches) -> Result<()> {
        Ok(self.0.route_matching(weight, &matches.0)?)
    }

    /// With a proxy: starts replicas of it until there are so many, and first stops replicas of the current release until
    /// there are only `current`, but at least one. New replicas get requests with the next [`Instance::route`].
    /// [`Instance::discard`] starts those of the current release again.
    ///
    /// # Errors
    /// When the release has no proxy, a replica can't be started, or a deploy with a newer token has come first.
    pub fn scale(&self, replicas: u32, current: u32) -> Result<()> {
        Ok(self.0.scale(replicas, current)?)
    }

    /// Its state now.
    ///
    /// # Errors
    /// When the supervisor doesn't answer.
    pub fn state(&self) -> Result<State> {
        Ok(State::named(&self.0.state()?))
    }

    /// The last lines of its log.
    ///
    /// # Errors
    /// When the log can't be read.
    pub fn log_tail(&self, lines: u32) -> Result<String> {
        Ok(self.0.log_tail(lines)?)
    }

    /// Makes it the current release, then stops the one before it. With a proxy, it gets all requests before that, and those
    /// in flight end where they began.
    ///
    /// # Errors
    /// When it has exited.
    pub fn promote(&self) -> Result<()> {
        Ok(self.0.promote()?)
    }

    /// Stops it. Restarts the old release if [`Release::start`] had to stop it.
    ///
    /// # Errors
    /// When it can't be stopped.
    pub fn discard(&self) -> Result<()> {
        Ok(self.0.discard()?)
    }
}

/// The current release of a service.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Current {
    /// The release's name.
    pub release: String,
    /// `REFERENCE@DIGEST`.
    pub image: String,
    /// The address, as in `http://127.0.0.1:41873`.
    pub address: String,
    /// When it was promoted, in the host's format.
    #[serde(default)]
    pub since: Json,
    /// The state of its program; none if the host doesn't know it.
    #[serde(default, deserialize_with = "state")]
    pub state: Option<State>,
    /// The environment's fencing token that it was started under; see [`crate::environment::fence`].
    #[serde(default)]
    pub fence: Option<u64>,
}

fn state<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<State>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.as_deref().map(State::named))
}

/// The current release of a service; none before the first deploy.
///
/// # Errors
/// When the service isn't granted.
pub fn current(service: &str) -> Result<Option<Current>> {
    let Some(json) = host::current(service)? else { return Ok(None) };
    serde_json::from_str(&json)
        .map(Some)
        .map_err(|error| Error::from(error).context(format!("can't use the record of service `{service}`")))
}

/// The release with a proxy that an earlier attempt of this run has started from this image, and that was neither promoted
/// nor discarded.
///
/// # Errors
/// When the service isn't granted, or another deploy of it is in progress.
pub fn unfinished(service: &str, image: &str) -> Result<Option<Instance>> {
    Ok(host::unfinished(service, image)?.map(Instance))
}
