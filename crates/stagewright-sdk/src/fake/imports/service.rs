//! Scripted services.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Duration;

use super::secrets::Secret;
use super::types;
use crate::duration::millis;
use crate::fake::report;
use crate::fake::rules;
use crate::fake::script::ServiceScript;
use crate::fake::state::{Interface, State as Host, on};
use crate::{Error, ErrorCode, Permission, Requirement, Result};

type Answer<T> = std::result::Result<T, types::Error>;

#[derive(Debug)]
pub(crate) struct Release(RefCell<report::Release>);

impl Release {
    pub(crate) fn new(service: &str, image: &str) -> Release {
        let (service, image) = (service.to_owned(), image.to_owned());
        Release(RefCell::new(report::Release { service, image, ..report::Release::default() }))
    }

    pub(crate) fn args(&self, args: &[String]) {
        self.0.borrow_mut().args.extend_from_slice(args);
    }

    pub(crate) fn env(&self, name: &str, value: &str) {
        self.0.borrow_mut().env.insert(name.to_owned(), value.to_owned());
    }

    pub(crate) fn secret_env(&self, name: &str, value: &Secret) {
        self.0.borrow_mut().secret_env.insert(name.to_owned(), value.name.clone());
    }

    pub(crate) fn port(&self, port: u16) {
        self.0.borrow_mut().port = port;
    }

    pub(crate) fn keep(&self, releases: u32) {
        self.0.borrow_mut().keep = Some(releases);
    }

    pub(crate) fn stop_grace_ms(&self, grace: u64) {
        self.0.borrow_mut().stop_grace = Some(Duration::from_millis(grace));
    }

    pub(crate) fn proxy(&self, address: &str) {
        self.0.borrow_mut().proxy = Some(address.to_owned());
    }

    pub(crate) fn drain_ms(&self, drain: u64) {
        self.0.borrow_mut().drain = Some(Duration::from_millis(drain));
    }

    pub(crate) fn replicas(&self, replicas: u32) {
        self.0.borrow_mut().replicas = Some(replicas);
    }

    pub(crate) fn stop_first(&self) {
        self.0.borrow_mut().stop_first = true;
    }

    pub(crate) fn root(&self, root: &str) {
        self.0.borrow_mut().root = Some(root.to_owned());
    }

    pub(crate) fn volume(&self, name: &str, path: &str) {
        self.0.borrow_mut().volumes.insert(name.to_owned(), path.to_owned());
    }

    pub(crate) fn start(&self) -> Answer<Instance> {
        let release = self.0.borrow().clone();
        on(|host| Ok(start(host, release)?))
    }
}

/// Each as `HEADER = VALUE`, `HEADER ^= VALUE` or `HEADER ~ EXPRESSION`.
#[derive(Debug, Default)]
pub(crate) struct HeaderMatches(RefCell<Vec<String>>);

impl HeaderMatches {
    pub(crate) fn new() -> HeaderMatches {
        HeaderMatches::default()
    }

    pub(crate) fn exact(&self, header: &str, value: &str) {
        self.0.borrow_mut().push(format!("{header} = {value}"));
    }

    pub(crate) fn prefix(&self, header: &str, value: &str) {
        self.0.borrow_mut().push(format!("{header} ^= {value}"));
    }

    pub(crate) fn regex(&self, header: &str, expression: &str) {
        self.0.borrow_mut().push(format!("{header} ~ {expression}"));
    }
}

fn check(host: &Host, service: &str) -> Result<()> {
    host.grant(Permission::Service, &[service], &format!("run the service `{service}`"))?;
    host.fault(Interface::Service, service)
}

fn environment(host: &Host) -> Result<String> {
    host.environment.clone().ok_or_else(|| {
        Error::failed("the stage has no environment to deploy to").help("add to the stage: environment = \"staging\"")
    })
}

fn start(host: &mut Host, release: report::Release) -> Result<Instance> {
    let service = release.service.clone();
    check(host, &service)?;
    rules::image(&release.image)?;
    behind_proxy(host, &release)?;
    if release.root.as_deref() == Some("host") && !release.volumes.is_empty() {
        return Err(Error::invalid("volumes need the image's root"));
    }
    let environment = environment(host)?;
    host.announce(&format!("start a release of {service} in {environment}"))?;
    if !release.image.split_once('@').is_some_and(|(_, digest)| rules::is_digest(digest)) {
        return Err(Error::invalid(format!("`{}` doesn't specify the image by digest", release.image)));
    }
    let missing = || Error::new(ErrorCode::NotFound, format!("the fake host has no script for service `{service}`"));
    let fits = |script: &ServiceScript| script.service == service && script.unfinished.is_none();
    let script = host.services.next(fits).ok_or_else(missing)?;
    if let Some(error) = script.error {
        return Err(error);
    }
    host.releases.push(release);
    Ok(Instance { index: host.releases.len() - 1, script: RefCell::new(script) })
}

/// Checks what a release has that is only for one behind a proxy.
fn behind_proxy(host: &Host, release: &report::Release) -> Result<()> {
    let Some(address) = &release.proxy else {
        return match release.drain.is_some() || release.replicas.is_some() || release.stop_first {
            true => Err(Error::invalid("`drain-ms`, `replicas` and `stop-first` need a `proxy`")),
            false => Ok(()),
        };
    };
    let listen: SocketAddr = address
        .parse()
        .map_err(|_| Error::invalid(format!("`{address}` isn't an address with a port, as in `127.0.0.1:8080`")))?;
    if release.port != 0 {
        return Err(Error::invalid("a release behind a proxy can't have a fixed port of its own"));
    }
    let replicas = release.replicas.unwrap_or(1);
    if !(1..=rules::MOST_REPLICAS).contains(&replicas) {
        let message = format!("a release has 1 to {} replicas, not {replicas}", rules::MOST_REPLICAS);
        return Err(Error::invalid(message));
    }
    let entry = Requirement::service_at(&release.service, listen).entry;
    let doing = format!("accept requests for the service `{}` at {listen}", release.service);
    host.grant(Permission::Service, &[&entry], &doing)
}

#[derive(Debug)]
pub(crate) struct Instance {
    index: usize,
    script: RefCell<ServiceScript>,
}

impl Instance {
    pub(crate) fn release(&self) -> String {
        format!("release-{}", self.index + 1)
    }

    pub(crate) fn address(&self) -> String {
        self.script.borrow().address.clone()
    }

    /// Fails once it was promoted or discarded.
    fn unsettled<'a>(&self, host: &'a mut Host) -> Result<&'a mut report::Release> {
        let release = &mut host.releases[self.index];
        if release.promoted || release.discarded {
            let message = format!("release {} was already promoted or discarded", self.release());
            return Err(Error::failed(message));
        }
        Ok(release)
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        let replicas = on(|host| {
            let release = &host.releases[self.index];
            let scaled = release.scaled.last().map(|(replicas, _)| *replicas);
            scaled.or(release.replicas).unwrap_or(1)
        });
        // The fake host has one script for all replicas.
        vec![self.address(); replicas as usize]
    }

    /// Fails for a release without a proxy.
    fn behind_proxy<'a>(&self, host: &'a mut Host) -> Result<&'a mut report::Release> {
        let name = self.release();
        let release = self.unsettled(host)?;
        match release.proxy.is_some() {
            true => Ok(release),
            false => Err(Error::invalid(format!("release {name} was started without a proxy"))),
        }
    }

    pub(crate) fn route(&self, weight: u32) -> Answer<()> {
        on(|host| {
            if weight > 100 {
                return Err(Error::invalid(format!("a weight is 0 to 100 percent, not {weight}")).into());
            }
            self.unsettled(host)?;
            host.announce(&format!("give release {} {weight}% of the requests", self.release()))?;
            let release = self.behind_proxy(host)?;
            release.weights.push(weight);
            release.header_matches.clear();
            Ok(())
        })
    }

    /// The fake host doesn't compile regular expressions.
    pub(crate) fn route_matching(&self, weight: u32, matches: &HeaderMatches) -> Answer<()> {
        self.route(weight)?;
        on(|host| {
            self.behind_proxy(host)?.header_matches.clone_from(&matches.0.borrow());
            Ok(())
        })
    }

    pub(crate) fn scale(&self, replicas: u32, current: u32) -> Answer<()> {
        on(|host| {
            if replicas > rules::MOST_REPLICAS {
                let most = rules::MOST_REPLICAS;
                return Err(Error::invalid(format!("a release has at most {most} replicas, not {replicas}")).into());
            }
            self.unsettled(host)?;
            host.announce(&format!("run {replicas} replicas of release {}", self.release()))?;
            self.behind_proxy(host)?.scaled.push((replicas, current));
            Ok(())
        })
    }

    pub(crate) fn state(&self) -> Answer<String> {
        on(|host| self.unsettled(host).map(drop))?;
        let states = &mut self.script.borrow_mut().states;
        let next = if states.len() > 1 { states.pop_front() } else { states.front().copied() };
        next.map(|state| state.name().to_owned())
            .ok_or_else(|| Error::internal("the service's script has no state").into())
    }

    pub(crate) fn log_tail(&self, lines: u32) -> Answer<String> {
        on(|host| self.unsettled(host).map(drop))?;
        let log = &self.script.borrow().log;
        let all: Vec<&str> = log.lines().collect();
        Ok(all[all.len().saturating_sub(lines as usize)..].join("\n"))
    }

    pub(crate) fn promote(&self) -> Answer<()> {
        on(|host| {
            self.unsettled(host)?;
            host.announce(&format!("promote release {}", self.release()))?;
            let (since, fence) = (millis(host.now + host.elapsed), host.fence);
            let release = self.unsettled(host)?;
            release.promoted = true;
            let current = serde_json::json!({
                "release": self.release(),
                "image": release.image,
                "address": release.proxy.as_ref().map_or_else(|| self.address(), |proxy| format!("http://{proxy}")),
                "since": since,
                "fence": fence,
                "state": "running",
            });
            let service = release.service.clone();
            host.current.insert(service, current);
            Ok(())
        })
    }

    pub(crate) fn discard(&self) -> Answer<()> {
        on(|host| {
            self.unsettled(host)?.discarded = true;
            Ok(())
        })
    }
}

pub(crate) fn current(service: &str) -> Answer<Option<String>> {
    on(|host| {
        check(host, service)?;
        environment(host)?;
        Ok(host.current.get(service).map(ToString::to_string))
    })
}

pub(crate) fn unfinished(service: &str, image: &str) -> Answer<Option<Instance>> {
    on(|host| {
        check(host, service)?;
        environment(host)?;
        let fits = |script: &ServiceScript| script.service == service && script.unfinished.as_deref() == Some(image);
        let Some(script) = host.services.next(fits) else { return Ok(None) };
        let (service, image, proxy) = (service.to_owned(), image.to_owned(), Some(rules::PROXY.to_owned()));
        host.releases.push(report::Release { service, image, proxy, ..report::Release::default() });
        Ok(Some(Instance { index: host.releases.len() - 1, script: RefCell::new(script) }))
    })
}
