//! Builds the sandbox of an attempt's programs from the stage's grants.
//!
//! ```text
//! policy, toolchains ── places ──> Confinement ──> Sandbox ── listeners ──> proxy, forwards ── egress (policy)
//! ```
//!
//! It is created when the first program is started, and all programs of the attempt run in it. A stage without `net` has a
//! proxy, too, which refuses every host and names the grant.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use stagewright_engine::{Level, Problem};
use stagewright_model::{CredentialUse, Limits, Origin};
use stagewright_process::sandbox::{self, Confinement, Exceeded, Refusal, Sandbox};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;

use crate::attempt::AttemptContext;
use crate::capability::credentials::StageCredentials;
use crate::capability::secrets::StageSecrets;
use crate::capability::workspace::{FileKind, WorkspaceFiles};
use crate::error::{CapabilityError, ErrorCode};
use crate::learner;
use crate::limits::DEFAULT_PROCESSES;
use crate::log::AttemptLog;
use crate::mask::Masker;
use crate::net::OwnOrigins;
use crate::net::background::Background;
use crate::net::client::SharedClient;
use crate::net::credentials::ProxyCredentials;
use crate::net::egress::{DenialReport, EgressGuard, WAIT};
use crate::net::forward::{AuthenticatedOrigin, ForwardTarget, forward};
use crate::net::{names, proxy};
use crate::policy::Policy;
use crate::rehearsal::Rehearsal;
use crate::reserved::{Placeholders, Reserved};
use crate::stop::{AttemptAborter, StopReason};

mod config;
mod copies;
mod git_view;
mod kept;
mod places;
mod ungranted;
mod view;
mod workspace;

pub use config::SandboxConfig;
use kept::KeptCaches;
pub use kept::{RemovedKept, StageOwner, remove_kept};
pub(crate) use places::{searched, tools};
pub(crate) use view::SandboxView;

/// The port of the proxy in a sandbox, unless it is granted for something else. It is always the same, because a program's
/// output may contain it and be cached, and none that programs listen on: these need a privilege for it.
const PROXY: u16 = 1023;
/// Before the first address inside that stands for a host by its name.
const NAMED_HOSTS: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 0);

/// The hosts that programs reach without the proxy: the sandbox's own loopback.
const DIRECT: &str = "localhost,127.0.0.1,::1,0.0.0.0,.localhost";

/// The variables that name a file of certificates, for OpenSSL, cargo, Node, npm (whose `cafile` replaces Node's), pip,
/// requests (Python), git and curl.
pub(crate) const TRUST_VARIABLES: [&str; 8] = [
    "SSL_CERT_FILE",
    "CARGO_HTTP_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "npm_config_cafile",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "CURL_CA_BUNDLE",
];

/// The code of the problems that report new repositories.
const NESTED: &str = "nested-repository";

/// Everything that is needed to build the sandbox of an attempt.
pub(crate) struct Blueprint {
    config: SandboxConfig,
    /// The engine's own environment, whose `PATH` limits which toolchains can be mounted.
    machine: Arc<BTreeMap<String, String>>,
    policy: Arc<Policy>,
    workspace: WorkspaceFiles,
    /// The workspace's absolute path, in the sandbox too.
    root: PathBuf,
    /// The folder whose files are mounted there: the workspace itself, or a capture of it.
    files: PathBuf,
    reserved: Reserved,
    /// The owner of the stage's download caches.
    owner: Arc<StageOwner>,
    /// The stage's table, as in `stages.test`.
    table: String,
    limits: Limits,
    /// Called for connections to sockets that aren't granted.
    report: DenialReport,
    /// None in a rehearsal that withholds the stage's network: the stage lacks no grant of what its programs then miss.
    egress: Option<Arc<EgressGuard>>,
    aborter: AttemptAborter,
    rehearsal: Rehearsal,
    /// Whether the uses of files are observed.
    observes: bool,
    /// The origins that the egress guard lets through beside the grants.
    own: OwnOrigins,
    secrets: StageSecrets,
    /// Those with which the proxy signs requests.
    credentials: StageCredentials,
    /// For requests to which the proxy adds a secret.
    client: SharedClient,
    /// Masks what the attempt writes.
    masker: Masker,
    /// The variables that the stage's own `env` sets.
    set: Vec<String>,
}

/// A running sandbox. Dropping it kills the processes in it.
pub(crate) struct Confined {
    pub(crate) sandbox: Sandbox,
    pub(crate) network: Network,
    pub(crate) view: Arc<SandboxView>,
    pub(crate) limit_watcher: LimitWatcher,
    placeholders: Option<Placeholders>,
    /// Locks the download caches against removal.
    _kept: Option<KeptCaches>,
    _watching: [Background; 2],
}

/// Aborts the attempt when its programs exceed a limit of the sandbox; cheap to clone.
#[derive(Clone)]
pub(crate) struct LimitWatcher {
    exceeded: watch::Receiver<Option<Exceeded>>,
    aborter: AttemptAborter,
}

/// The network of a sandbox; empty where nothing of it is explained.
#[derive(Default)]
pub(crate) struct Network {
    /// Environment variables that lead programs to the proxy.
    pub(crate) variables: Vec<(String, String)>,
    /// Environment variables by which programs trust the proxy where it answers for a host, and the machine's own
    /// authorities. Programs may set others.
    pub(crate) trust: Vec<(String, String)>,
    #[expect(dead_code, reason = "the tasks end when they are dropped")]
    serving: Vec<Background>,
}

impl Blueprint {
    /// None when programs run without a sandbox.
    pub(crate) fn for_attempt(attempt: &AttemptContext<'_>) -> Option<Blueprint> {
        let config = attempt.config();
        let sandbox = attempt.sandbox()?;
        let policy = &attempt.program_policy;
        let report = attempt.denials.reporter(&attempt.log);
        let is_signed = policy.credentials(CredentialUse::Programs).next().is_some();
        let explains = is_signed
            || policy.has_network()
            || attempt.request.permissions.net.iter().all(|rule| rule.socket().is_some());
        let egress = explains.then(|| {
            let (own, dialer) = (attempt.own_origins.clone(), attempt.host.outbound.dialer.clone());
            Arc::new(EgressGuard::new(policy.clone(), own, dialer, report.clone(), attempt.bounds.requests, WAIT))
        });
        Some(Blueprint {
            config: sandbox.clone(),
            machine: Arc::new(config.environment.clone()),
            policy: policy.clone(),
            workspace: attempt.workspace.clone(),
            root: config.workspace.clone(),
            files: attempt.files.clone(),
            reserved: config.reserved.clone(),
            owner: Arc::clone(attempt.host.owner),
            table: attempt.request.table.clone(),
            limits: attempt.request.limits,
            report,
            egress,
            aborter: attempt.aborter.clone(),
            rehearsal: attempt.rehearsal.clone(),
            observes: attempt.learner.is_some(),
            own: attempt.own_origins.clone(),
            secrets: StageSecrets::for_attempt(attempt),
            credentials: StageCredentials::for_programs(attempt),
            masker: attempt.log.masker().clone(),
            client: attempt.host.outbound.client.clone(),
            set: attempt.request.env.keys().cloned().collect(),
        })
    }

    /// Creates the sandbox. `environment`: that of the programs, which determines where their toolchains are.
    pub(crate) async fn build(&self, environment: &BTreeMap<String, String>) -> Result<Confined, CapabilityError> {
        let credentials = self.credentials().await?;
        let mut ports = self.egress.as_ref().map(|_| self.policy.loopback_ports()).unwrap_or_default();
        ports.extend(credentials.iter().flat_map(|known| known.signed_origins()).filter_map(Origin::on_loopback));
        // The sandbox has one loopback for IPv4 and IPv6, so a port can only be forwarded to one of them.
        let mut ports = ports.into_iter().map(|address| (address.port(), address)).collect::<BTreeMap<_, _>>();
        for address in ports.values_mut() {
            // In a rehearsal, a service of the pipeline is replaced by a stand-in on another port.
            if let Some(actual) = self.rehearsal.moved(address.port()).await? {
                address.set_port(actual);
                self.own.add(&format!("http://{address}"));
            }
        }
        let hosts = self.egress.as_ref().map(|_| OtherHosts::new(self.policy.connections())).unwrap_or_default();
        let (mut confinement, refused, kept, placeholders) =
            self.confinement(environment, credentials.clone(), hosts.names.clone()).await?;
        // The first listener is the proxy's; each of the others has the port of the service that it forwards to, so that
        // programs find the service where the pipeline says. `network` relies on this order.
        if self.egress.is_some() {
            let proxy = if ports.contains_key(&PROXY) { 0 } else { PROXY };
            let of_loopback = [proxy].into_iter().chain(ports.keys().copied());
            let of_loopback = of_loopback.map(|port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
            confinement.listeners = of_loopback.chain(hosts.forwards.iter().map(|(inside, _)| *inside)).collect();
            confinement.name_server = true;
        }
        let view = Arc::new(SandboxView::new(confinement.places.clone()).refusing(refused));
        let maker = self.config.maker.clone();
        let started = tokio::task::spawn_blocking(move || maker.sandbox(&confinement)).await;
        let mut sandbox = started.map_err(|error| internal(&error))?.map_err(|error| {
            CapabilityError::new(ErrorCode::FailedPrecondition, error.to_string()).with_help(error.help())
        })?;
        let network = self.network(&mut sandbox, &ports, hosts, credentials.as_ref())?;
        let limit_watcher = LimitWatcher { exceeded: sandbox.exceeded(), aborter: self.aborter.clone() };
        let mut watched = limit_watcher.clone();
        let watching = Background::spawn(async move {
            // Fails when the sandbox has ended without exceeding a limit.
            if watched.exceeded.wait_for(Option::is_some).await.is_ok() {
                watched.judge();
            }
        });
        let refusals = self.report_refusals(&mut sandbox);
        Ok(Confined {
            sandbox,
            network,
            view,
            limit_watcher,
            placeholders,
            _kept: kept,
            _watching: [watching, refusals],
        })
    }

    /// The engine's own environment.
    pub(crate) fn machine(&self) -> Arc<BTreeMap<String, String>> {
        Arc::clone(&self.machine)
    }

    /// What the proxy adds to requests; none if the stage has neither a secret nor a credential for it.
    async fn credentials(&self) -> Result<Option<Arc<ProxyCredentials>>, CapabilityError> {
        let Some(egress) = &self.egress else { return Ok(None) };
        let (secrets, signers) = (self.secrets.for_proxy().await?, self.credentials.for_proxy().await?);
        if secrets.is_empty() && signers.is_empty() {
            return Ok(None);
        }
        let made = ProxyCredentials::new(secrets, signers, self.client.clone(), self.masker.clone())?;
        egress.admit_signed(made.signed_origins());
        Ok(Some(Arc::new(made)))
    }

    fn report_refusals(&self, sandbox: &mut Sandbox) -> Background {
        let (refusals, policy, report) = (sandbox.refusals(), self.policy.clone(), self.report.clone());
        let egress = self.egress.clone();
        Background::spawn(async move {
            let Some(mut refusals) = refusals else { return };
            while let Some(refusal) = refusals.recv().await {
                match (refusal, &egress) {
                    (Refusal::Socket(socket), _) => report(&policy.deny_socket(&socket.to_string_lossy())),
                    (Refusal::Address(address), Some(egress)) => egress.unreachable(address),
                    (Refusal::Address(_), None) => {}
                }
            }
        })
    }

    /// Reports the git repositories that programs left in folders that they may write. They are a danger to the user:
    /// calling git in one of them runs its hooks outside of any sandbox.
    pub(crate) async fn report_repositories(&self, log: &AttemptLog) {
        let (reserved, root, policy) = (self.reserved.clone(), self.files.clone(), self.policy.clone());
        let found = self.workspace.off_thread(move |files| {
            let granted = files.granted(policy.writes(), workspace::PATHS)?;
            let folders = granted.into_iter().filter(|grant| grant.kind == FileKind::Folder).map(|grant| grant.path);
            let mut nested = reserved.nested.lock().unwrap_or_else(PoisonError::into_inner);
            nested.after(&root, &folders.collect::<Vec<_>>(), policy.reserved()).map_err(|error| internal(&error))
        });
        let problem = |message: String, help: &str| Problem {
            help: Some(help.to_owned()),
            ..Problem::new(Level::Warning, NESTED, message)
        };
        match found.await {
            Ok(found) => {
                for path in found {
                    let message = format!("the git repository `{path}` was created while this stage ran");
                    let help = "remove it, or check its configuration and hooks before you call git there: git runs them \
                                outside of any sandbox";
                    log.output().problem(problem(message, help)).await;
                }
            }
            Err(error) => {
                let message = format!("could not check for new git repositories: {}", error.message);
                log.output().problem(problem(message, "grant a narrower folder")).await;
            }
        }
    }

    async fn confinement(
        &self,
        environment: &BTreeMap<String, String>,
        credentials: Option<Arc<ProxyCredentials>>,
        hosts: names::Known,
    ) -> Result<(Confinement, BTreeSet<PathBuf>, Option<KeptCaches>, Option<Placeholders>), CapabilityError> {
        let Limits { cpu, process_memory, processes, workspace, .. } = self.limits;
        let limits = sandbox::SandboxLimits {
            processes: Some(processes.unwrap_or(DEFAULT_PROCESSES)),
            cpu,
            memory: process_memory,
            file_size: workspace,
        };
        let planner = places::MountPlanner {
            config: self.config.clone(),
            policy: self.policy.clone(),
            root: self.root.clone(),
            files: self.files.clone(),
            reserved: self.reserved.clone(),
            owner: Arc::clone(&self.owner),
            table: self.table.clone(),
            environment: environment.clone(),
            machine: Arc::clone(&self.machine),
            credentials,
            hosts,
        };
        let places::MountPlan { scratch, places, rules, refused, kept, placeholders } =
            self.workspace.off_thread(move |files| planner.plan(files)).await?;
        let closed = self.policy.reserved().identities().collect();
        let observe = self.observes.then(|| learner::observe(&self.root));
        let confinement = Confinement { scratch, places, closed, rules, limits, observe, ..Confinement::default() };
        Ok((confinement, refused, kept, placeholders))
    }

    /// Serves the proxy on the first listener, and a forward to its port on each of the others.
    fn network(
        &self,
        sandbox: &mut Sandbox,
        ports: &BTreeMap<u16, SocketAddr>,
        hosts: OtherHosts,
        credentials: Option<&Arc<ProxyCredentials>>,
    ) -> Result<Network, CapabilityError> {
        let Some(egress) = &self.egress else { return Ok(Network::default()) };
        let listeners = sandbox.listeners().into_iter().map(|listener| {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        });
        let listeners = listeners.collect::<std::io::Result<Vec<_>>>().map_err(|error| internal(&error))?;
        let mut listeners = listeners.into_iter();
        let Some(first) = listeners.next() else { return Ok(Network::default()) };
        let address = first.local_addr().map_err(|error| internal(&error))?;
        let mut serving = vec![proxy::serve(first, egress.clone(), credentials.cloned(), proxy::IDLE)];
        // In this order, so that the end of the ports takes no listener.
        for ((&port, &address), listener) in ports.iter().zip(listeners.by_ref()) {
            let authenticated = credentials.and_then(|credentials| {
                // A service of a rehearsal, which listens on another port, isn't the host of a secret.
                let granted = self.policy.origins_on_loopback(address).chain(egress.signed_on_loopback(address));
                let mut origins = granted.filter(|_| address.port() == port);
                let origin = origins.find(|origin| credentials.has_for(origin))?;
                Some(AuthenticatedOrigin { origin, credentials: credentials.clone() })
            });
            let to = authenticated
                .map_or(ForwardTarget::Loopback(address), |with| ForwardTarget::Authenticated(address, with));
            serving.push(forward(listener, to, egress.clone())?);
        }
        for (listener, (_, origin)) in listeners.zip(hosts.forwards) {
            serving.push(forward(listener, ForwardTarget::Host(origin), egress.clone())?);
        }
        if let Some(socket) = sandbox.name_server() {
            let socket = socket.set_nonblocking(true).and_then(|()| UdpSocket::from_std(socket));
            serving.push(names::serve(socket.map_err(|error| internal(&error))?, egress.clone(), hosts.names));
        }
        let proxy = format!("http://{address}");
        let mut variables = Vec::new();
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            // Some programs read only the upper-case name, some only the lower-case one.
            variables.extend([name.to_owned(), name.to_lowercase()].map(|name| (name, proxy.clone())));
        }
        // Yarn 2 and later read no others.
        variables.extend(["YARN_HTTP_PROXY", "YARN_HTTPS_PROXY"].map(|name| (name.to_owned(), proxy.clone())));
        if self.policy.has_network() || credentials.is_some() {
            variables.push(("NODE_USE_ENV_PROXY".to_owned(), "1".to_owned()));
        }
        // Granted loopback ports have forwards, so programs connect to them directly. A grant of every loopback port can't
        // have forwards; then connections to the loopback go through the proxy too.
        let direct = if self.policy.grants_any_loopback_port() { "" } else { DIRECT };
        variables.extend(["NO_PROXY", "no_proxy"].map(|name| (name.to_owned(), direct.to_owned())));
        let is_set = |name: &&str| self.set.iter().any(|set| set == name);
        let trust = TRUST_VARIABLES.into_iter().filter(|name| credentials.is_some() && !is_set(name));
        let trust = trust.map(|name| (name.to_owned(), places::AUTHORITIES.to_owned())).collect();
        Ok(Network { variables, trust, serving })
    }
}

/// The ports of other hosts that are forwarded into a sandbox, and where its programs find them.
#[derive(Default)]
struct OtherHosts {
    forwards: Vec<(SocketAddrV4, Origin)>,
    /// The addresses inside that stand for names.
    names: names::Known,
}

/// Whether an address is that of a host, which the sandbox's loopback can have.
fn is_of_host(address: Ipv4Addr) -> bool {
    !address.is_unspecified() && !address.is_multicast() && !address.is_broadcast()
}

impl OtherHosts {
    /// A host that is named by an IPv4 address keeps it, and one that is named by an IPv6 address isn't forwarded. All
    /// others get addresses of the loopback: 127.1.0.1 and the ones that follow.
    fn new(places: BTreeSet<Origin>) -> OtherHosts {
        let mut hosts = OtherHosts::default();
        for origin in places {
            let inside = match origin.address() {
                Some(IpAddr::V4(address)) if is_of_host(address) => address,
                Some(_) => continue,
                None => {
                    let next = u32::try_from(hosts.names.len() + 1).unwrap_or(u32::MAX);
                    let next = Ipv4Addr::from_bits(NAMED_HOSTS.to_bits().saturating_add(next));
                    *hosts.names.entry(origin.host().to_owned()).or_insert(next)
                }
            };
            hosts.forwards.push((SocketAddrV4::new(inside, origin.port()), origin));
        }
        hosts
    }
}

impl Confined {
    /// Kills the processes in the sandbox. Once none is left, removes the placeholders that were created in the workspace.
    /// They stay if a process can't be killed in time, because it could create the reserved files that they cover.
    pub(crate) async fn end(mut self, wait: std::time::Duration) {
        if tokio::time::timeout(wait, self.sandbox.end()).await.is_err() {
            return;
        }
        let Some(placeholders) = self.placeholders.take() else { return };
        let released = tokio::task::spawn_blocking(|| placeholders.release()).await;
        if let Ok(Err(error)) = released {
            tracing::warn!(%error, "could not remove all placeholder files from the workspace");
        }
    }
}

impl LimitWatcher {
    /// Aborts the attempt if its programs have exceeded a limit. The sandbox then kills its programs, so the end of a
    /// program and the exceeded limit are noticed by different tasks, in any order. A task that notices the end of a
    /// program calls this first, so that the attempt ends with the limit and not with a program that was lost.
    pub(crate) fn judge(&self) {
        match *self.exceeded.borrow() {
            Some(Exceeded::Processes(limit)) => self.aborter.abort(StopReason::Processes(limit)),
            Some(Exceeded::Cpu(milliseconds)) => {
                self.aborter.abort(StopReason::CpuTime(std::time::Duration::from_millis(milliseconds)));
            }
            None => {}
        }
    }
}

fn internal(error: &dyn std::fmt::Display) -> CapabilityError {
    CapabilityError::new(ErrorCode::Internal, format!("the sandbox can't be set up: {error}"))
}

/// The socket of docker's daemon. `DOCKER_HOST` is only followed when the machine's own environment has the same value:
/// the word `docker` doesn't grant a socket that the pipeline chooses.
pub(crate) fn docker_socket(environment: &BTreeMap<String, String>, machine: &BTreeMap<String, String>) -> PathBuf {
    let own = |host: &&String| machine.get("DOCKER_HOST") == Some(*host);
    let named = environment.get("DOCKER_HOST").filter(own).and_then(|host| host.strip_prefix("unix://"));
    named.map_or_else(|| Path::new("/var/run/docker.sock").to_owned(), PathBuf::from)
}
