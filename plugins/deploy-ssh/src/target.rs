//! Hosts behind SSH as a target.
//!
//! Applying a release brings its files to all hosts, where nothing uses them yet. Shifting the requests switches the links of
//! as many hosts as the weight says, in their order, starts the service there, and waits until each is healthy: a host that
//! isn't gets its earlier release back.

use rollout::{Described, Progress, Serving, Target, wait_until_ready};
use stagewright_sdk::environment::Release;
use stagewright_sdk::{Error, ErrorCode, LiveDifference, Manifest, Requirement, Result, context, log};

use crate::config::Config;
use crate::host::{Host, Retreat, hosts};
use crate::release;
use crate::state::{Entry, HostState};

/// The hosts of a service.
pub(crate) struct Hosts {
    config: Config,
    /// The name of the release.
    release: String,
}

/// A release on some of the hosts.
pub(crate) struct Placed {
    /// Their names.
    hosts: Vec<String>,
}

impl Target for Hosts {
    type Config = Config;
    type Version = Placed;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!()
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        let connects =
            Requirement::credential(&config.credential).because("runs the commands of the deploy on its hosts");
        let secrets = config.secrets.values().map(|name| {
            Requirement::secret_header(name).because("is written into a file on the hosts, beside the release")
        });
        let checks = config.addresses.values().filter_map(|url| Requirement::url(url));
        let checks = checks.map(|checks| checks.because("checks a host"));
        std::iter::once(connects).chain(secrets).chain(checks).collect()
    }

    fn open(config: &Config, _restored: Option<&Release>) -> Result<Hosts> {
        Ok(Hosts { config: config.clone(), release: release::name(config) })
    }

    fn artifact(&self) -> &str {
        self.config.artifact.as_str()
    }

    fn serving(&self) -> Result<Option<Serving>> {
        let states = self.states()?;
        let serving = |state: &HostState| state.serving.clone().map(|entry| (entry, state.unit.clone()));
        let all: Vec<(Entry, Option<String>)> = states.iter().filter_map(serving).collect();
        // Until the last host has finished, the release before serves.
        let is_finished = all.len() == states.len() && all.iter().all(|(entry, _)| self.is_own(entry));
        let found = all.iter().find(|(entry, _)| is_finished || !self.is_own(entry));
        Ok(found.map(|(entry, _)| {
            let has_failed = all.iter().any(|(other, unit)| other == entry && unit.as_deref() == Some("failed"));
            Serving {
                version: entry.release.clone(),
                artifact: entry.artifact.clone(),
                address: self.config.url.clone(),
                fence: entry.fence,
                run: Some(entry.run.clone()),
                is_running: !has_failed,
                has_failed,
            }
        }))
    }

    fn unfinished(&self) -> Result<Option<Placed>> {
        let states = self.states()?;
        let has = |entry: &Option<Entry>| entry.as_ref().is_some_and(|entry| self.is_own(entry));
        let is_placed = |state: &HostState| state.is_complete && (has(&state.candidate) || has(&state.serving));
        let is_begun = states.iter().any(|state| has(&state.candidate));
        Ok((is_begun && states.iter().all(is_placed)).then(|| self.everywhere()))
    }

    fn apply(&self) -> Result<Placed> {
        // On all hosts before anything is sent, so that a host that can't be reached stops the deploy before it has begun.
        self.each().try_for_each(|host| host.claim())?;
        let mut lacking = Vec::new();
        for host in self.each() {
            if !host.state()?.is_complete {
                lacking.push(host);
            }
        }
        if !lacking.is_empty() {
            let kind = release::kind_of(&self.config.artifact)?;
            lacking.iter().try_for_each(|host| host.receive(&kind))?;
        }
        self.each().try_for_each(|host| host.write_secrets())?;
        Ok(self.everywhere())
    }

    fn describe(&self, placed: &Placed) -> Described {
        let address = match &placed.hosts[..] {
            [host] => self.config.addresses.get(host).cloned(),
            _ => None,
        };
        let advice = self.each().next().map(|host| host.advice()).unwrap_or_default();
        Described { name: self.release.clone(), address, advice }
    }

    fn observe(&self, placed: &Placed) -> Result<Progress> {
        let mut starting = None;
        for host in placed.hosts.iter().map(|name| self.host(name)) {
            let state = host.state()?;
            let name = host.name;
            if !state.candidate.iter().chain(&state.serving).any(|entry| self.is_own(entry)) {
                return Ok(Progress::Failed(format!("isn't deployed any more: another deploy has taken `{name}`")));
            }
            if !state.has_switched_to(&self.release) {
                continue;
            }
            match state.unit.as_deref() {
                None | Some("active" | "reloading") => {}
                Some("activating") => starting = Some(format!("the unit on `{name}` is activating")),
                Some(other) => {
                    return Ok(Progress::Failed(format!(
                        "doesn't run on `{name}`: the state of its unit is `{other}`"
                    )));
                }
            }
            starting = match starting {
                None => host.failed_check()?,
                waits => waits,
            };
        }
        Ok(starting.map_or(Progress::Running, Progress::Starting))
    }

    fn log_tail(&self, placed: &Placed, lines: u32) -> Result<String> {
        match (&self.config.unit, &placed.hosts[..]) {
            (Some(unit), [host]) => self.host(host).log_tail(unit, lines),
            _ => Err(Error::new(ErrorCode::Unimplemented, "only a unit keeps a log")),
        }
    }

    fn shift(&self, _placed: &Placed, weight: u32) -> Result<()> {
        let number = self.config.hosts.len() * weight.min(100) as usize / 100;
        let mut wave = Vec::new();
        for host in self.each().take(number) {
            if !host.state()?.has_switched_to(&self.release) {
                wave.push(host);
            }
        }
        let names = wave.iter().map(|host| format!("`{}`", host.name)).collect::<Vec<_>>().join(", ");
        if !wave.is_empty() {
            log::info(format!("switching {} to release {}: {names}", hosts(wave.len()), self.release));
        }
        for (at, host) in wave.iter().enumerate() {
            host.switch().map_err(|error| go_back(&wave[..=at], error))?;
        }
        for (at, host) in wave.iter().enumerate() {
            let placed = Placed { hosts: vec![host.name.to_owned()] };
            wait_until_ready(self, &self.config.checks_of(host.name), &placed)
                .map_err(|error| go_back(&wave[at..], error.context(format!("`{}` isn't healthy", host.name))))?;
        }
        Ok(())
    }

    fn finish(&self, _placed: &Placed) -> Result<()> {
        self.each().try_for_each(|host| host.finish())
    }

    fn drift(&self, serving: &Serving) -> Result<Vec<LiveDifference>> {
        let states = self.states()?;
        // An interrupted deploy may have switched some hosts.
        if states.iter().any(|state| state.candidate.is_some()) {
            return Ok(Vec::new());
        }
        let hosts = self.config.hosts.iter().zip(states);
        let changed = hosts.filter(|(_, state)| state.current.as_deref() != Some(serving.version.as_str()));
        Ok(changed
            .map(|(host, state)| LiveDifference {
                what: format!("the link `current` on `{host}`"),
                expected: Some(serving.version.clone()),
                found: state.current,
            })
            .collect())
    }

    fn undo(&self, _placed: &Placed) -> Result<()> {
        // A host that can't be reached must not keep the others from going back.
        let failed = self.each().filter_map(|host| host.back(Retreat::Remove).err()).collect::<Vec<_>>();
        let mut failed = failed.into_iter();
        let Some(first) = failed.next() else { return Ok(()) };
        Err(failed.fold(first, |error, other| error.cause(other.to_string())))
    }
}

/// Gives hosts that were switched, and aren't healthy, their earlier release back.
fn go_back(switched: &[Host<'_>], error: Error) -> Error {
    let failures = switched.iter().filter_map(|host| host.back(Retreat::Leave).err());
    failures.fold(error, |error, failure| error.cause(failure.to_string()))
}

impl Hosts {
    fn host<'a>(&'a self, name: &'a str) -> Host<'a> {
        Host { name, config: &self.config, release: &self.release }
    }

    fn each(&self) -> impl Iterator<Item = Host<'_>> {
        self.config.hosts.iter().map(|name| self.host(name))
    }

    fn everywhere(&self) -> Placed {
        Placed { hosts: self.config.hosts.clone() }
    }

    fn states(&self) -> Result<Vec<HostState>> {
        self.each().map(|host| host.state()).collect()
    }

    /// Whether this run has deployed it.
    fn is_own(&self, entry: &Entry) -> bool {
        entry.run == context::run_id() && entry.release == self.release
    }
}
