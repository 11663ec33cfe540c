//! Supervised local services: the `process` target of an environment.
//!
//! In flow an image, by digest, and how it is to be run; what comes of it is a release: a folder with the unpacked
//! image, a supervisor that keeps its program running, and a log. A release starts beside the current one, and becomes
//! the current one by [`Instance::promote`].
//!
//! ```text
//! ROOT/ENVIRONMENT/SERVICE/lock             held while a deploy is under way
//!                          fence            the largest token of a deploy so far
//!                          current.json     which release is current
//!                          releases/DIGEST-N/rootfs, service.json, state.json, service.log
//! ```
//!
//! The program runs from the unpacked image with the user's own powers: there is no container and no changed root. An
//! image that needs its paths to begin at `/` wants another target.

mod endpoint;
mod image;
mod instance;
mod store;
mod unpack;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use stagewright_engine::RunId;
use stagewright_files::remove_tree;
use stagewright_process::supervisor::{self, Phase, ServiceSpec, SupervisorError};

use crate::blocking::blocking;
use crate::error::{CapabilityError, ErrorCode};
use crate::registry::{Access, Layout, MANIFEST_BYTES, Reference, Registry};
use crate::strip::stripped;
use endpoint::HOST;
use image::RunConfig;
use instance::Displaced;
use store::{DeployLock, ServiceFolder};
use unpack::Unpacker;

pub(crate) use endpoint::Endpoint;
pub use instance::Instance;
pub use store::Current;

/// Where services are kept.
#[derive(Clone)]
pub struct ServiceConfig {
    /// Of all environments.
    pub root: PathBuf,
    /// Of their stand-ins in rehearsals: a folder for each run, with `environments` in it.
    pub rehearsal_root: PathBuf,
    /// The program whose hidden subcommand [`supervisor::SUBCOMMAND`] is a supervisor.
    pub exe: PathBuf,
    /// `oci:PATH` references are relative to it.
    pub workspace: PathBuf,
    /// Images come from it.
    pub registry: Arc<Registry>,
}

/// Starts and stops services.
pub struct ServiceManager {
    config: ServiceConfig,
}

/// A release to be.
#[derive(Clone, PartialEq, Eq)]
pub struct ReleaseSpec {
    /// A key of `[environments]`.
    pub environment: String,
    /// Its name in the environment.
    pub service: String,
    /// `REFERENCE@DIGEST`.
    pub image: String,
    /// Where an image is that is a layout in the workspace, when another folder stands for the workspace.
    pub files: Option<PathBuf>,
    /// Instead of the image's own; empty to keep those.
    pub args: Vec<String>,
    /// Added to the image's; later entries win.
    pub env: Vec<(String, String)>,
    /// 0 for a free one.
    pub port: u16,
    /// Earlier releases that stay on disk.
    pub keep: usize,
    /// Between the request to stop and the kill.
    pub stop_grace: Duration,
    /// The rehearsal that it is a stand-in in: it has a network and a port of its own then.
    pub rehearsal: Option<RunId>,
    /// The environment's token that it is deployed under. One that is smaller than the largest so far is refused.
    pub fence: Option<u64>,
}

/// A release's folder that goes when the release doesn't come to start: it would count among those that are kept.
struct Unstarted(Option<PathBuf>);

impl Unstarted {
    fn has_started(mut self) {
        self.0 = None;
    }
}

impl Drop for Unstarted {
    fn drop(&mut self) {
        if let Some(dir) = &self.0 {
            let _ = remove_tree(dir);
        }
    }
}

/// How a service is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ServiceStatus {
    /// A key of `[environments]`.
    pub environment: String,
    /// Its name.
    pub service: String,
    /// The release that is current; none when none was promoted yet.
    pub current: Option<Current>,
    /// The run whose rehearsal it is a stand-in in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rehearsal: Option<String>,
    /// Of the current release.
    pub phase: Phase,
    /// How often its program was started again.
    pub restarts: u32,
    /// Why it is not running although it wasn't stopped.
    pub failure: Option<String>,
}

impl ServiceManager {
    /// Touches nothing yet.
    pub fn new(config: ServiceConfig) -> ServiceManager {
        ServiceManager { config }
    }

    /// Unpacks and starts a release. It is running, or has exited already, once this returns; whether it serves is for
    /// a health check to say.
    pub async fn start(&self, release: ReleaseSpec) -> Result<Instance, CapabilityError> {
        let image: Reference = release.image.parse()?;
        let Some(digest) = image.digest.clone() else {
            return Err(CapabilityError::new(
                ErrorCode::InvalidArgument,
                format!("`{}` doesn't name the image by digest", release.image),
            )
            .with_help("deploy what was pushed: image = \"${{ stages.push.outputs.reference }}\""));
        };
        let folder =
            ServiceFolder::new(&self.root(release.rehearsal.as_ref()), &release.environment, &release.service)?;
        let lock = folder.lock()?;
        if let Some(fence) = release.fence {
            folder.raise_fence(fence)?;
        }
        let (name, dir) = folder.new_release(&digest)?;
        let unstarted = Unstarted(Some(dir.clone()));
        let layout = dir.join("image");
        let files = release.files.as_ref().unwrap_or(&self.config.workspace);
        let access = match &release.rehearsal {
            Some(run) => Access::rehearsed(files, &run.0),
            None => Access::real(files),
        };
        self.config.registry.pull(&image, &layout, access).await?;
        let exe = self.config.exe.clone();
        blocking(move || {
            let config = unpack(&layout, &digest, &dir.join("rootfs"))?;
            remove_tree(&layout).map_err(|error| file_error(&layout, &error))?;
            let instance = launch(release, name, &dir, &config, folder, exe, lock)?;
            unstarted.has_started();
            Ok(instance)
        })
        .await?
    }

    /// The release that is current; none when there is none.
    pub async fn current(
        &self,
        environment: &str,
        service: &str,
        rehearsal: Option<&RunId>,
    ) -> Result<Option<Current>, CapabilityError> {
        let folder = ServiceFolder::new(&self.root(rehearsal), environment, service)?;
        blocking(move || folder.current()).await?
    }

    /// Whether the program of a release of the service runs.
    pub(crate) async fn phase(
        &self,
        environment: &str,
        service: &str,
        release: &Current,
        rehearsal: Option<&RunId>,
    ) -> Result<Phase, CapabilityError> {
        let folder = ServiceFolder::new(&self.root(rehearsal), environment, service)?;
        let dir = folder.release(&release.release);
        blocking(move || phase(&dir)).await?
    }

    /// The ports that the services of a rehearsal have in place of those that the pipeline says.
    pub(crate) async fn moved_ports(&self, run: &RunId) -> Result<Vec<MovedPort>, CapabilityError> {
        let root = self.root(Some(run));
        blocking(move || {
            let current =
                ServiceFolder::all(&root)?.iter().map(ServiceFolder::current).collect::<Result<Vec<_>, _>>()?;
            let moved = current.into_iter().flatten();
            Ok(moved
                .map(|current| MovedPort { declared: current.declared.unwrap_or(current.port), actual: current.port })
                .collect())
        })
        .await?
    }

    /// Every service that was ever deployed, by environment and name; of rehearsals, oldest first.
    pub async fn status(&self, rehearsal: bool) -> Result<Vec<ServiceStatus>, CapabilityError> {
        let roots = self.roots(rehearsal);
        blocking(move || {
            let mut all = Vec::new();
            for (run, root) in roots {
                for folder in ServiceFolder::all(&root)? {
                    all.push(ServiceStatus { rehearsal: run.clone(), ..status_of(&folder)? });
                }
            }
            Ok(all)
        })
        .await?
    }

    /// Stops whatever runs of a service and keeps its releases; in every rehearsal that has it.
    pub async fn stop(&self, environment: &str, service: &str, rehearsal: bool) -> Result<(), CapabilityError> {
        let folders = self.folders(environment, service, rehearsal)?;
        blocking(move || folders.iter().try_for_each(stop_releases)).await?
    }

    /// Stops all services; of rehearsals, those of every one.
    pub async fn stop_all(&self, rehearsal: bool) -> Result<(), CapabilityError> {
        let roots = self.roots(rehearsal);
        blocking(move || roots.iter().try_for_each(|(_, root)| stop_below(root))).await?
    }

    /// Stops the services of one rehearsal, and of no other.
    pub async fn stop_rehearsal(&self, run: &RunId) -> Result<(), CapabilityError> {
        let root = self.root(Some(run));
        blocking(move || stop_below(&root)).await?
    }

    /// The end of the log of the current release; of rehearsals, the newest.
    pub async fn log_tail(
        &self,
        environment: &str,
        service: &str,
        lines: usize,
        rehearsal: bool,
    ) -> Result<String, CapabilityError> {
        let folders = self.folders(environment, service, rehearsal)?;
        blocking(move || {
            let newest = folders.iter().rev().find_map(|folder| folder.current().transpose().map(|of| (folder, of)));
            let Some((folder, current)) = newest else {
                return Err(CapabilityError::new(ErrorCode::NotFound, "no release of this service is current")
                    .with_help("`stagewright service status` lists the services"));
            };
            // For a person, as the log of a stage.
            log_tail(&folder.release(&current?.release), lines).map(|text| stripped(&text).into_owned())
        })
        .await?
    }

    fn root(&self, rehearsal: Option<&RunId>) -> PathBuf {
        match rehearsal {
            Some(run) => self.config.rehearsal_root.join(&run.0).join("environments"),
            None => self.config.root.clone(),
        }
    }

    /// Where services are, each with the run whose rehearsal they belong to.
    fn roots(&self, rehearsal: bool) -> Vec<(Option<String>, PathBuf)> {
        if !rehearsal {
            return vec![(None, self.config.root.clone())];
        }
        let entries = self.config.rehearsal_root.read_dir().into_iter().flatten().flatten();
        let mut runs: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        runs.sort();
        // Before version 0.2 all rehearsals shared one folder beside this one.
        let shared = self.config.rehearsal_root.parent().map(|parent| (None, parent.join("environments")));
        let own = runs.into_iter().map(|run| (Some(run.clone()), self.root(Some(&RunId(run)))));
        shared.into_iter().chain(own).collect()
    }

    fn folders(
        &self,
        environment: &str,
        service: &str,
        rehearsal: bool,
    ) -> Result<Vec<ServiceFolder>, CapabilityError> {
        let folders =
            self.roots(rehearsal).into_iter().map(|(_, root)| ServiceFolder::new(&root, environment, service));
        let mut folders = folders.collect::<Result<Vec<_>, _>>()?;
        folders.retain(ServiceFolder::exists);
        match folders.is_empty() {
            true => {
                Err(CapabilityError::new(ErrorCode::NotFound, format!("`{environment}` has no service `{service}`"))
                    .with_help("`stagewright service status` lists them"))
            }
            false => Ok(folders),
        }
    }
}

/// Where a service of a rehearsal answers, and where it would in a real run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MovedPort {
    /// The port that the deploy asks for; the actual one when it asks for none.
    pub(crate) declared: u16,
    /// Of this machine's loopback.
    pub(crate) actual: u16,
}

/// All layers of the image in `layout`, below `root`.
fn unpack(layout: &Path, digest: &str, root: &Path) -> Result<RunConfig, CapabilityError> {
    let layout = Layout::new(layout, "the pulled image");
    let manifest = layout.by_digest(digest)?;
    let Some(config) = &manifest.parsed.config else {
        return Err(CapabilityError::new(
            ErrorCode::FailedPrecondition,
            format!("{digest} is an index of several images"),
        )
        .with_help("deploy the digest of the image for this machine's platform"));
    };
    std::fs::create_dir_all(root).map_err(|error| file_error(root, &error))?;
    let folder = Dir::open_ambient_dir(root, ambient_authority()).map_err(|error| file_error(root, &error))?;
    let mut unpacker = Unpacker::new(&folder);
    for layer in &manifest.parsed.layers {
        unpacker.layer(&layout.blob(layer)?, &layer.digest)?;
    }
    let path = layout.blob(config)?;
    let config = stagewright_files::read_unlinked(&path, MANIFEST_BYTES).map_err(|error| file_error(&path, &error))?;
    let config = RunConfig::parse(&config)?;
    // Images often name a working folder that none of their layers has.
    if !config.working_dir().as_os_str().is_empty() {
        folder.create_dir_all(config.working_dir()).map_err(|error| {
            let words = format!("the image's working folder `{}` can't be made", config.working_dir().display());
            CapabilityError::new(ErrorCode::FailedPrecondition, words)
                .with_help("set `WorkingDir` to a folder of the image where the image is built")
                .caused_by(&error)
        })?;
    }
    Ok(config)
}

fn launch(
    release: ReleaseSpec,
    name: String,
    dir: &Path,
    config: &RunConfig,
    folder: ServiceFolder,
    exe: PathBuf,
    lock: DeployLock,
) -> Result<Instance, CapabilityError> {
    let invocation = config.invocation(&dir.join("rootfs"), &release.args)?;
    stop_strays(&folder)?;
    let is_stand_in = release.rehearsal.is_some();
    let displaced = match (release.port, folder.current()?) {
        // A stand-in's port is its network's own: there is nothing to make room for.
        _ if is_stand_in => None,
        (0, _) | (_, None) => None,
        (_, Some(current)) => displace(&folder.release(&current.release))?,
    };
    let port = match release.port {
        0 => free_port()?,
        port => port,
    };
    if !is_stand_in && let Err(error) = endpoint::require_free(port) {
        if let Some(displaced) = &displaced {
            displaced.start_again(&exe)?;
        }
        return Err(error);
    }
    let mut env = vec![("HOST".to_owned(), HOST.to_owned())];
    env.extend(config.env());
    env.extend(release.env);
    env.push(("PORT".to_owned(), port.to_string()));
    let spec = ServiceSpec {
        program: invocation.program,
        args: invocation.args,
        current_dir: invocation.current_dir,
        grace_ms: u64::try_from(release.stop_grace.as_millis()).unwrap_or(u64::MAX),
        own_network: is_stand_in.then_some(port),
    };
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut instance = Instance {
        record: Current {
            release: name,
            image: release.image,
            address: format!("http://{HOST}:{port}"),
            port,
            declared: (is_stand_in && release.port != 0).then_some(release.port),
            fence: release.fence,
            since: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        },
        folder,
        own_port: port,
        keep: release.keep,
        displaced,
        exe,
        _lock: lock,
    };
    match supervisor::start(&instance.exe, dir, &spec, &env) {
        Ok(status) => {
            if let Some(port) = status.port {
                (instance.record.port, instance.record.address) = (port, format!("http://{HOST}:{port}"));
            }
            Ok(instance)
        }
        Err(error) => {
            if let Some(displaced) = &instance.displaced {
                let _ = displaced.start_again(&instance.exe);
            }
            Err(supervisor_error(&error))
        }
    }
}

/// Stops what an earlier deploy was killed before it could promote or stop: nobody is going to, and it may hold the
/// port.
fn stop_strays(folder: &ServiceFolder) -> Result<(), CapabilityError> {
    let current = folder.current()?.map(|current| folder.release(&current.release));
    folder.releases()?.iter().filter(|&dir| Some(dir) != current.as_ref()).try_for_each(|dir| stop(dir))
}

/// Stops a running release and remembers how to start it again.
fn displace(dir: &Path) -> Result<Option<Displaced>, CapabilityError> {
    let Some(env) = supervisor::running_environment(dir).map_err(|error| supervisor_error(&error))? else {
        return Ok(None);
    };
    let spec = supervisor::read_spec(dir).map_err(|error| supervisor_error(&error))?;
    stop(dir)?;
    Ok(Some(Displaced { dir: dir.to_owned(), spec, env }))
}

/// A port that was free a moment ago. A program that takes it before the release does is found by [`Endpoint::check`].
fn free_port() -> Result<u16, CapabilityError> {
    let port = TcpListener::bind((HOST, 0)).and_then(|listener| listener.local_addr());
    port.map(|address| address.port()).map_err(|error| {
        CapabilityError::new(ErrorCode::ResourceExhausted, "there is no free port on 127.0.0.1").caused_by(&error)
    })
}

fn status_of(folder: &ServiceFolder) -> Result<ServiceStatus, CapabilityError> {
    let current = folder.current()?;
    let status = match &current {
        Some(current) => {
            supervisor::status(&folder.release(&current.release)).map_err(|error| supervisor_error(&error))?
        }
        None => None,
    };
    Ok(ServiceStatus {
        environment: folder.environment.clone(),
        service: folder.service.clone(),
        current,
        phase: status.as_ref().map_or(Phase::Exited, |status| status.phase),
        rehearsal: None,
        restarts: status.as_ref().map_or(0, |status| status.restarts),
        failure: status.and_then(|status| status.failure),
    })
}

fn stop_below(root: &Path) -> Result<(), CapabilityError> {
    ServiceFolder::all(root)?.iter().try_for_each(stop_releases)
}

fn stop_releases(folder: &ServiceFolder) -> Result<(), CapabilityError> {
    folder.releases()?.iter().try_for_each(|dir| stop(dir))
}

fn stop(dir: &Path) -> Result<(), CapabilityError> {
    supervisor::stop(dir).map_err(|error| supervisor_error(&error))
}

fn phase(dir: &Path) -> Result<Phase, CapabilityError> {
    let status = supervisor::status(dir).map_err(|error| supervisor_error(&error))?;
    Ok(status.map_or(Phase::Exited, |status| status.phase))
}

fn log_tail(dir: &Path, lines: usize) -> Result<String, CapabilityError> {
    supervisor::log_tail(dir, lines).map_err(|error| file_error(&dir.join("service.log"), &error))
}

fn supervisor_error(error: &SupervisorError) -> CapabilityError {
    CapabilityError::new(ErrorCode::Internal, "the service's supervisor failed").caused_by(error)
}

fn file_error(path: &Path, error: &std::io::Error) -> CapabilityError {
    CapabilityError::new(ErrorCode::Internal, format!("`{}` can't be used", path.display())).caused_by(error)
}
