//! What of an attempt is real when its run is a rehearsal.
//!
//! The rules are the model's ([`WayOut::in_rehearsal`](stagewright_model::WayOut::in_rehearsal)); here the capabilities
//! ask, each before it does anything beyond the stage. What isn't done ends the attempt: a plugin that continued with an
//! invented answer would rehearse something else than what it does.

use std::fmt::Write as _;
use std::sync::Arc;

use stagewright_engine::RunId;
use stagewright_model::{NetRule, Origin, Permissions, ProcessRule, Reach, Reaches, RehearsalTerms, WayOut};

use crate::error::CapabilityError;
use crate::log::AttemptLog;
use crate::packages::PackageHosts;
use crate::policy::Policy;
use crate::service::ServiceManager;
use crate::stop::{AttemptAborter, Stopped};

/// What would have been run is shown up to so many bytes.
const SHOWN: usize = 2_000;

/// How an attempt is rehearsed; cheap to clone. Of a real run, everything is real.
#[derive(Clone)]
pub(crate) struct Rehearsal(Option<Arc<Inner>>);

struct Inner {
    run: RunId,
    terms: RehearsalTerms,
    /// The stage's environment and grants, which say what it could reach.
    environment: Option<String>,
    own: Permissions,
    /// What is granted for real.
    real: Arc<Policy>,
    /// The package hosts, as far as they are within reach.
    packages: Policy,
    services: Arc<ServiceManager>,
    aborter: AttemptAborter,
    log: AttemptLog,
}

/// What a rehearsal is made of.
pub(crate) struct Rehearsed<'a> {
    pub(crate) run: &'a RunId,
    pub(crate) terms: &'a RehearsalTerms,
    pub(crate) table: &'a str,
    pub(crate) environment: Option<&'a str>,
    pub(crate) own: &'a Permissions,
    pub(crate) package_hosts: &'a PackageHosts,
    pub(crate) services: Arc<ServiceManager>,
    pub(crate) aborter: AttemptAborter,
    pub(crate) log: AttemptLog,
}

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Passage {
    /// Where it says.
    Real,
    /// To a service of this rehearsal, which has this port in place of the one that the request names.
    StandIn(u16),
    /// Nowhere.
    Withheld,
}

impl Rehearsal {
    /// Of a real run.
    pub(crate) fn none() -> Rehearsal {
        Rehearsal(None)
    }

    pub(crate) fn new(of: Rehearsed<'_>) -> Rehearsal {
        let Rehearsed { run, terms, table, environment, own, package_hosts, services, aborter, log } = of;
        let words =
            own.net.iter().filter(|rule: &&NetRule| rule.packages().is_some() && !terms.offline).cloned().collect();
        let packages = Permissions { net: words, ..Permissions::default() };
        Rehearsal(Some(Arc::new(Inner {
            run: run.clone(),
            real: Arc::new(Policy::new(&format!("{table}.rehearse"), &terms.real, package_hosts, Arc::default())),
            packages: Policy::new(table, &packages, package_hosts, Arc::default()),
            terms: terms.clone(),
            environment: environment.map(str::to_owned),
            own: own.clone(),
            services,
            aborter,
            log,
        })))
    }

    /// The run whose stand-ins are used; none in a real run.
    pub(crate) fn run(&self) -> Option<&RunId> {
        self.0.as_ref().map(|inner| &inner.run)
    }

    /// Says what would have been done, and ends the attempt: its guest isn't asked again. Never ready.
    pub(crate) async fn withhold<T>(&self, what: String) -> T {
        if let Some(inner) = &self.0 {
            let what = inner.log.masker().text(&what);
            inner.log.engine(&format!("rehearsal: {what}")).await;
            inner.aborter.abort(Stopped::Rehearsed(what));
        }
        std::future::pending().await
    }

    /// Whether a program of the stage isn't started, and what it could reach by which that is so. `is_confined`: whether
    /// it would have nothing but what it is granted.
    pub(crate) fn withholds_program(&self, program: &str, args: &[String], is_confined: bool) -> Option<String> {
        let inner = self.0.as_ref()?;
        let reaches = inner.terms.blocking_reaches(inner.environment.as_deref(), &inner.own);
        let would = would_run(program, args);
        if !reaches.all.is_empty() {
            return Some(format!("{would}{}", reaching(&reaches)));
        }
        (!is_confined).then(|| format!("{would}: this machine can't keep it from reaching the network"))
    }

    /// Whether the stage gets the value of a secret. Otherwise it gets a stand-in.
    pub(crate) fn is_real_secret(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|inner| inner.terms.is_real_secret(name))
    }

    /// What bounds the use of a real secret, where that isn't what the stage is granted in a real run.
    pub(crate) fn real(&self) -> Option<&Arc<Policy>> {
        self.0.as_ref().map(|inner| &inner.real)
    }

    /// Whether an image repository is the real one.
    pub(crate) fn is_real_image(&self, reference: &str) -> bool {
        self.0.as_ref().is_none_or(|inner| inner.real.image(reference).is_ok())
    }

    /// The origin that a grant has to name for a request to `origin` to be granted: a service of this rehearsal has
    /// another port than the pipeline says.
    pub(crate) async fn granted_as(&self, origin: &Origin) -> Result<Origin, CapabilityError> {
        let Some(inner) = self.0.as_ref().filter(|_| origin.is_loopback()) else { return Ok(origin.clone()) };
        let moved = inner.services.moved_ports(&inner.run.0).await?;
        let asked = moved.iter().find(|moved| moved.actual == origin.port()).map(|moved| moved.declared);
        Ok(asked.map_or_else(|| origin.clone(), |port| origin.at_port(port)))
    }

    /// Where a service of this rehearsal is, that the pipeline knows at a port of this machine.
    pub(crate) async fn moved(&self, port: u16) -> Result<Option<u16>, CapabilityError> {
        let Some(inner) = &self.0 else { return Ok(None) };
        let moved = inner.services.moved_ports(&inner.run.0).await?;
        Ok(moved.iter().find(|moved| moved.declared == port).map(|moved| moved.actual))
    }

    /// Where a request of the plugin's goes. `is_fetch`: it changes nothing by its method, and carries no secret.
    pub(crate) async fn request(&self, origin: &Origin, is_fetch: bool) -> Result<Passage, CapabilityError> {
        let Some(inner) = &self.0 else { return Ok(Passage::Real) };
        if origin.is_loopback() {
            let moved = inner.services.moved_ports(&inner.run.0).await?;
            if let Some(moved) = moved.iter().find(|one| [one.actual, one.declared].contains(&origin.port())) {
                return Ok(Passage::StandIn(moved.actual));
            }
        }
        let is_open = inner.real.origin(origin).is_ok() || (is_fetch && inner.packages.origin(origin).is_ok());
        Ok(if is_open { Passage::Real } else { Passage::Withheld })
    }
}

fn would_run(program: &str, args: &[String]) -> String {
    let mut line = ProcessRule::exactly(program, args);
    if line.len() > SHOWN {
        line.truncate((0..=SHOWN).rev().find(|&at| line.is_char_boundary(at)).unwrap_or(0));
        line.push('…');
    }
    format!("would run `{}`", line.replace('\n', "\\n"))
}

/// As in `, reaching https://api.example.org, with the secret token`.
fn reaching(reaches: &Reaches<'_>) -> String {
    let mut text = String::new();
    let of = |ways: &[WayOut]| {
        let found = reaches.all.iter().filter(|reach| ways.contains(&reach.way));
        found.map(|Reach { entry, .. }| format!("`{entry}`")).collect::<Vec<_>>().join(", ")
    };
    for (words, ways) in [
        ("reaching", &[WayOut::Connection, WayOut::Socket][..]),
        ("with the secrets", &[WayOut::Secret]),
        ("inheriting", &[WayOut::Variable]),
        ("with the credentials in", &[WayOut::CredentialFile]),
        ("on the environment", &[WayOut::Environment]),
    ] {
        let entries = of(ways);
        if !entries.is_empty() {
            let _ = write!(text, ", {words} {entries}");
        }
    }
    text
}
