//! Scripted services.

use std::cell::RefCell;
use std::time::Duration;

use super::secrets::Secret;
use super::types;
use crate::duration::millis;
use crate::fake::report;
use crate::fake::rules;
use crate::fake::script::ServiceScript;
use crate::fake::state::{Interface, State as Host, on};
use crate::{Error, ErrorCode, Permission, Result};

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

    pub(crate) fn start(&self) -> Answer<Instance> {
        let release = self.0.borrow().clone();
        on(|host| Ok(start(host, release)?))
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
    let environment = environment(host)?;
    host.announce(&format!("start a release of {service} in {environment}"))?;
    if !release.image.split_once('@').is_some_and(|(_, digest)| rules::is_digest(digest)) {
        return Err(Error::invalid(format!("`{}` doesn't specify the image by digest", release.image)));
    }
    let missing = || Error::new(ErrorCode::NotFound, format!("the fake host has no script for service `{service}`"));
    let script = host.services.next(|script| script.service == service).ok_or_else(missing)?;
    if let Some(error) = script.error {
        return Err(error);
    }
    host.releases.push(release);
    Ok(Instance { index: host.releases.len() - 1, script: RefCell::new(script) })
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
                "address": self.address(),
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
