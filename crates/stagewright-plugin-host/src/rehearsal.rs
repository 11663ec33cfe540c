//! Decides which effects of an attempt are real when its run is a rehearsal.
//!
//! The rules are the model's ([`WayOut::in_rehearsal`](stagewright_model::WayOut::in_rehearsal)). Each capability asks
//! here before it does anything beyond the stage. An effect that is withheld ends the attempt: a plugin that went on with
//! an invented result would rehearse something other than the deploy.

use std::fmt::Write as _;
use std::sync::Arc;

use stagewright_engine::RunId;
use stagewright_model::{NetRule, Origin, Permissions, ProcessRule, Reach, Reaches, RehearsalTerms, SocketUrl, WayOut};

use crate::error::CapabilityError;
use crate::log::AttemptLog;
use crate::packages::PackageHosts;
use crate::policy::Policy;
use crate::service::ServiceManager;
use crate::stop::{AttemptAborter, StopReason};

/// The most bytes of a withheld command line that are shown.
const SHOWN: usize = 2_000;

/// The rehearsal of an attempt, or none for a real run; cheap to clone.
#[derive(Clone)]
pub(crate) struct Rehearsal(Option<Arc<RehearsalState>>);

struct RehearsalState {
    run: RunId,
    terms: RehearsalTerms,
    /// The stage's environment and its grants in a real run, which determine what it could reach.
    environment: Option<String>,
    own: Permissions,
    /// The grants of `[stages.NAME.rehearse]`, which are real in a rehearsal too.
    real: Arc<Policy>,
    /// The package hosts that the stage may fetch from; none when the rehearsal is offline.
    packages: Policy,
    services: Arc<ServiceManager>,
    aborter: AttemptAborter,
    log: AttemptLog,
}

/// The parts of a [`Rehearsal`].
pub(crate) struct RehearsalParts<'a> {
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

/// What happens to a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RequestRoute {
    /// It is sent to its own origin.
    Real,
    /// It is sent to a service of this rehearsal, at this port instead of its own.
    StandIn(u16),
    /// It isn't sent.
    Withheld,
}

impl Rehearsal {
    /// For a real run.
    pub(crate) fn none() -> Rehearsal {
        Rehearsal(None)
    }

    pub(crate) fn new(of: RehearsalParts<'_>) -> Rehearsal {
        let RehearsalParts { run, terms, table, environment, own, package_hosts, services, aborter, log } = of;
        let words =
            own.net.iter().filter(|rule: &&NetRule| rule.packages().is_some() && !terms.offline).cloned().collect();
        let packages = Permissions { net: words, ..Permissions::default() };
        Rehearsal(Some(Arc::new(RehearsalState {
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

    /// Logs what would have been done, and ends the attempt. Never returns: the guest is dropped while it waits here.
    pub(crate) async fn withhold<T>(&self, what: String) -> T {
        if let Some(inner) = &self.0 {
            let what = inner.log.masker().text(&what);
            inner.log.engine(&format!("rehearsal: {what}")).await;
            inner.aborter.abort(StopReason::Rehearsed(what));
        }
        std::future::pending().await
    }

    /// If a program must not be started in the rehearsal: what would have been run, and what it could have reached.
    /// `is_confined`: whether it would run in a sandbox, which keeps it to its grants.
    pub(crate) fn withholds_program(&self, program: &str, args: &[String], is_confined: bool) -> Option<String> {
        let inner = self.0.as_ref()?;
        let reaches = inner.terms.blocking_reaches(inner.environment.as_deref(), &inner.own);
        let would = would_run(program, args);
        if !reaches.all.is_empty() {
            return Some(format!("{would}{}", reaching(&reaches)));
        }
        (!is_confined).then(|| format!("{would}: this machine can't deny it the network"))
    }

    /// Whether the stage gets the real value of a secret, and not a stand-in.
    pub(crate) fn is_real_secret(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|inner| inner.terms.is_real_secret(name))
    }

    /// Whether requests are signed with a credential, and not withheld.
    pub(crate) fn is_real_credential(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|inner| inner.real.credential(name).is_ok())
    }

    /// The policy for the use of real secrets in a rehearsal; none in a real run, where the stage's own policy decides.
    pub(crate) fn real(&self) -> Option<&Arc<Policy>> {
        self.0.as_ref().map(|inner| &inner.real)
    }

    /// Whether an image repository is the real one.
    pub(crate) fn is_real_image(&self, reference: &str) -> bool {
        self.0.as_ref().is_none_or(|inner| inner.real.image(reference).is_ok())
    }

    /// The origin that a grant must name to allow a request to `origin`. The two differ for a service of this rehearsal,
    /// which doesn't listen on the port that the pipeline declares.
    pub(crate) async fn granted_as(&self, origin: &Origin) -> Result<Origin, CapabilityError> {
        let Some(inner) = self.0.as_ref().filter(|_| origin.is_loopback()) else { return Ok(origin.clone()) };
        let moved = inner.services.moved_ports(&inner.run.0).await?;
        let asked = moved.iter().find(|moved| moved.actual == origin.port()).map(|moved| moved.declared);
        Ok(asked.map_or_else(|| origin.clone(), |port| origin.at_port(port)))
    }

    /// The port of the service of this rehearsal that stands in for the one that the pipeline declares at `port`.
    pub(crate) async fn moved(&self, port: u16) -> Result<Option<u16>, CapabilityError> {
        let Some(inner) = &self.0 else { return Ok(None) };
        let moved = inner.services.moved_ports(&inner.run.0).await?;
        Ok(moved.iter().find(|moved| moved.declared == port).map(|moved| moved.actual))
    }

    /// What happens to a request of the plugin. `is_fetch`: its method is a safe one, and it carries no secret.
    pub(crate) async fn request(&self, origin: &Origin, is_fetch: bool) -> Result<RequestRoute, CapabilityError> {
        let Some(inner) = &self.0 else { return Ok(RequestRoute::Real) };
        if origin.is_loopback() {
            let moved = inner.services.moved_ports(&inner.run.0).await?;
            if let Some(moved) = moved.iter().find(|moved| [moved.actual, moved.declared].contains(&origin.port())) {
                return Ok(RequestRoute::StandIn(moved.actual));
            }
        }
        let is_open = inner.real.origin(origin).is_ok() || (is_fetch && inner.packages.origin(origin).is_ok());
        Ok(if is_open { RequestRoute::Real } else { RequestRoute::Withheld })
    }

    /// What happens to a request of the plugin over a Unix socket.
    pub(crate) fn socket_request(&self, method: &str, url: &SocketUrl) -> RequestRoute {
        let is_open = self.0.as_ref().is_none_or(|inner| inner.real.socket_request(method, url).is_ok());
        if is_open { RequestRoute::Real } else { RequestRoute::Withheld }
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

/// As in ``, reaching `https://api.example.org`, with the secrets `token` ``.
fn reaching(reaches: &Reaches<'_>) -> String {
    let mut text = String::new();
    let of = |ways: &[WayOut]| {
        let found = reaches.all.iter().filter(|reach| ways.contains(&reach.way));
        let name = |Reach { way, entry }: &Reach<'_>| match way {
            // Without its use.
            WayOut::ProxiedCredential => entry.split(':').next().unwrap_or(entry).to_owned(),
            _ => (*entry).to_owned(),
        };
        found.map(|reach| format!("`{}`", name(reach))).collect::<Vec<_>>().join(", ")
    };
    for (words, ways) in [
        ("reaching", &[WayOut::Connection, WayOut::Socket][..]),
        ("signed with the credential", &[WayOut::ProxiedCredential]),
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
