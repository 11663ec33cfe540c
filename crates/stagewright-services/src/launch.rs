//! Unpacks and starts one release.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use stagewright_oci::{Layout, Owners};
use stagewright_process::supervisor::{Phase, ServiceSpec};

use crate::endpoint::{self, HOST};
use crate::error::{ServiceError, ServiceErrorKind};
use crate::image::RunConfig;
use crate::instance::{Behind, Displaced, Instance, Started};
use crate::proxy::RoutingTable;
use crate::release::{ProxySpec, ReleaseSpec, phase, stop};
use crate::replica::{self, Replica, ReplicaTemplate};
use crate::root::{self, ChosenRoot};
use crate::store::{Current, DeployLock, ServiceFolder, Unfinished};

/// Unpacks the image in `layout` to `root`, and reads its configuration.
pub(crate) fn unpack(layout: &Path, digest: &str, root: &Path, owners: Owners) -> Result<RunConfig, ServiceError> {
    let image = Layout::new(layout, "the pulled image").unpack(digest, root, owners)?;
    let config = RunConfig::parse(image.config())?;
    // Images often set a working folder that none of their layers contains.
    if !config.working_dir().as_os_str().is_empty() {
        image.create_folder(config.working_dir()).map_err(|error| {
            let message = format!("the image's working folder `{}` can't be created", config.working_dir().display());
            ServiceError::new(ServiceErrorKind::UnusableImage, message)
                .with_help("set `WorkingDir` to a folder in the image when building it")
                .caused_by(error)
        })?;
    }
    Ok(config)
}

/// A release that is unpacked, and not started yet.
pub(crate) struct Unpacked<'a> {
    pub(crate) release: ReleaseSpec,
    pub(crate) name: String,
    pub(crate) dir: &'a Path,
    pub(crate) config: RunConfig,
    pub(crate) folder: ServiceFolder,
    pub(crate) exe: PathBuf,
}

/// Starts a release. Other deploys of the service are prevented by `lock`, which the instance keeps.
pub(crate) fn launch(unpacked: Unpacked<'_>, lock: DeployLock) -> Result<Instance, ServiceError> {
    let Unpacked { release, dir, config, folder, .. } = &unpacked;
    let rootfs = dir.join("rootfs");
    let invocation = config.invocation(&rootfs, &release.args)?;
    let mut env = vec![("HOST".to_owned(), HOST.to_owned())];
    let (root, lacks) = match root::choose(release, config, &rootfs, &invocation, folder)? {
        ChosenRoot::Image(root) => {
            env.extend(RunConfig::default_env(&rootfs, root.image.user.as_ref()));
            (Some(root), None)
        }
        ChosenRoot::Host(lacks) => (None, lacks),
    };
    env.extend(config.env());
    env.extend(release.env.iter().cloned());
    let (program, current_dir) = match root {
        Some(_) => (invocation.inside, config.current_dir()),
        None => (invocation.program, rootfs.join(config.working_dir())),
    };
    let spec = ServiceSpec {
        program,
        args: invocation.args,
        current_dir,
        grace_ms: u64::try_from(release.stop_grace.as_millis()).unwrap_or(u64::MAX),
        // Each replica gets its port.
        own_network: release.rehearsal.is_some().then_some(0),
        listen: None,
        root,
    };
    let template = ReplicaTemplate::new(spec, env);
    stop_leftovers(folder, release)?;
    let started = match release.proxy.clone() {
        None => alone(unpacked, &template, lock),
        Some(proxy) => behind_proxy(unpacked, template, proxy, lock),
    }?;
    Ok(Instance::new(started, lacks))
}

/// Starts a release that gets its requests directly. If the deploy uses a fixed port, the current release is stopped first,
/// since it may use the same one; it is started again if the new release can't be started.
fn alone(unpacked: Unpacked<'_>, template: &ReplicaTemplate, lock: DeployLock) -> Result<Started, ServiceError> {
    let Unpacked { release, dir, folder, exe, .. } = &unpacked;
    let is_stand_in = release.rehearsal.is_some();
    let displaced = match (release.port, folder.current()?) {
        // A stand-in has its port in its own network, where it can't collide with another release.
        _ if is_stand_in => Vec::new(),
        (0, _) | (_, None) => Vec::new(),
        (_, Some(current)) => displace(&folder.release(&current.release))?,
    };
    let start = || {
        let port = (release.port != 0).then_some(release.port);
        if let Some(port) = port.filter(|_| !is_stand_in) {
            endpoint::require_free(endpoint::local(port))?;
        }
        template.start(exe, dir, 0, port)
    };
    let replica = start().inspect_err(|_| start_again(&displaced, exe))?;
    let declared = (is_stand_in && release.port != 0).then_some(release.port);
    let record = record(&unpacked, SocketAddr::from((Ipv4Addr::LOCALHOST, replica.port)), declared);
    let Unpacked { release, folder, exe, .. } = unpacked;
    let replicas = Mutex::new(vec![replica]);
    let keep = release.keep;
    Ok(Started { folder, record, replicas, keep, displaced, exe, behind: None, _lock: lock })
}

/// Starts a release that gets its requests from the proxy, which is started if it isn't running.
fn behind_proxy(
    unpacked: Unpacked<'_>,
    template: ReplicaTemplate,
    spec: ProxySpec,
    lock: DeployLock,
) -> Result<Started, ServiceError> {
    let Unpacked { release, folder, exe, .. } = &unpacked;
    let is_stand_in = release.rehearsal.is_some();
    let listen = if is_stand_in { endpoint::local(0) } else { spec.listen };
    let behind = Behind { proxy: folder.proxy(), listen, drain: spec.drain, run: spec.run, template: Some(template) };
    let table = RoutingTable::all_to(release.fence, folder.serving()?);
    let address = behind.ensure_proxy(folder, exe, &table)?;
    let displaced = match folder.current()?.filter(|_| spec.stops_first) {
        Some(current) => {
            behind.proxy.direct(&RoutingTable::all_to(release.fence, None))?;
            behind.proxy.drain(behind.drain);
            displace(&folder.release(&current.release))?
        }
        None => Vec::new(),
    };
    let declared = is_stand_in.then_some(spec.listen.port());
    let record = record(&unpacked, address, declared);
    let Unpacked { release, folder, exe, .. } = unpacked;
    let (keep, behind) = (release.keep, Some(behind));
    let started = Started { folder, record, replicas: Mutex::default(), keep, displaced, exe, behind, _lock: lock };
    match started.grow(spec.replicas.max(1)) {
        Ok(()) => Ok(started),
        Err(error) => {
            // The error of the start is the one to report.
            let _ = started.discard();
            Err(error)
        }
    }
}

/// Continues a release that an earlier attempt has started.
pub(crate) fn attach(
    found: Unfinished,
    fence: Option<u64>,
    folder: ServiceFolder,
    exe: PathBuf,
    lock: DeployLock,
) -> Result<Instance, ServiceError> {
    let Unfinished { run, record, listen, keep, drain_ms } = found;
    let replicas = Replica::started(&folder.release(&record.release), &record.ports)?;
    let drain = Duration::from_millis(drain_ms);
    let behind = Some(Behind { proxy: folder.proxy(), listen, drain, run, template: None });
    let record = Current { fence, ..record };
    let (replicas, displaced) = (Mutex::new(replicas), Vec::new());
    let started = Started { folder, record, replicas, keep, displaced, exe, behind, _lock: lock };
    Ok(Instance::new(started, None))
}

/// What a promotion of the release writes.
fn record(unpacked: &Unpacked<'_>, address: SocketAddr, declared: Option<u16>) -> Current {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let reachable = match address.ip() {
        ip if ip.is_unspecified() => endpoint::local(address.port()),
        _ => address,
    };
    Current {
        release: unpacked.name.clone(),
        image: unpacked.release.image.clone(),
        address: format!("http://{reachable}"),
        port: address.port(),
        ports: Vec::new(),
        declared,
        fence: unpacked.release.fence,
        since: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
    }
}

/// Stops all releases except the current one. They are left over if an engine was killed during a deploy, or if a rollout
/// was given up. They would otherwise run forever, and may use the port. The deploy lock is held, so none of them belongs
/// to a running deploy.
fn stop_leftovers(folder: &ServiceFolder, release: &ReleaseSpec) -> Result<(), ServiceError> {
    let current = folder.current()?.map(|current| folder.release(&current.release));
    let mut leftovers = folder.releases()?;
    leftovers.retain(|dir| Some(dir) != current.as_ref() && !phase(dir).is_ok_and(|phase| phase == Phase::Exited));
    let proxy = folder.proxy();
    if !leftovers.is_empty() && proxy.address()?.is_some() {
        proxy.direct(&RoutingTable::all_to(release.fence, folder.serving()?))?;
        proxy.drain(release.proxy.as_ref().map_or(Duration::ZERO, |proxy| proxy.drain));
    }
    for dir in leftovers {
        stop(&dir)?;
        ServiceFolder::set_finished(&dir)?;
    }
    Ok(())
}

/// Stops a release. Returns what is needed to start it again; empty if it wasn't running.
fn displace(dir: &Path) -> Result<Vec<Displaced>, ServiceError> {
    let mut displaced = Vec::new();
    for folder in replica::folders(dir) {
        displaced.extend(ReplicaTemplate::of_running(&folder)?.map(|template| Displaced { folder, template }));
    }
    stop(dir)?;
    Ok(displaced)
}

fn start_again(displaced: &[Displaced], exe: &Path) {
    for displaced in displaced {
        // The error because of which it is started again is the one to report.
        let _ = displaced.start_again(exe);
    }
}
