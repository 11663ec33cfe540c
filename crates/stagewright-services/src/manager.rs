//! Starts, stops and lists services.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use stagewright_files::remove_tree;
use stagewright_oci::{ImageLocation, ImageReference, Owners, Registry, RegistryAccess};
use stagewright_process::supervisor::{self, Phase};

use crate::blocking::blocking;
use crate::error::{ServiceError, ServiceErrorKind};
use crate::instance::Instance;
use crate::launch::{Unpacked, attach, launch, unpack};
use crate::release::{ReleaseSpec, UnfinishedSpec, log_tail, phase, stop};
use crate::store::{Current, ServiceFolder};

/// The folder of a release with its image as it was pulled.
const IMAGE: &str = "image";

/// The folders and programs that a [`ServiceManager`] uses.
#[derive(Clone)]
pub struct ServiceConfig {
    /// The folder of the services of all environments.
    pub root: PathBuf,
    /// The folder of the stand-ins in rehearsals. It contains a folder for each run, with the folder `environments` in
    /// it.
    pub rehearsal_root: PathBuf,
    /// The program whose hidden subcommand [`supervisor::SUBCOMMAND`] runs a supervisor.
    pub exe: PathBuf,
    /// The folder that `oci:PATH` references are relative to.
    pub workspace: PathBuf,
    /// Fetches the images.
    pub registry: Arc<Registry>,
}

/// Starts, stops and queries services.
pub struct ServiceManager {
    config: ServiceConfig,
}

/// The folder of a release that hasn't started yet. It is removed on drop unless the release has started, because it
/// would otherwise count as one of the earlier releases to keep.
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

/// The state of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceStatus {
    /// A key of `[environments]`.
    pub environment: String,
    /// Its name in the environment.
    pub service: String,
    /// The current release; none if no release was promoted yet.
    pub current: Option<Current>,
    /// The run of the rehearsal, if this is a stand-in; none for the service itself.
    pub rehearsal: Option<String>,
    /// The phase of the current release's program.
    pub phase: Phase,
    /// How often the supervisor has restarted the program.
    pub restarts: u32,
    /// Why the program isn't running, if it wasn't stopped on request.
    pub failure: Option<String>,
    /// Whether the program would run if its supervisor hadn't been killed, or the machine restarted.
    pub is_lost: bool,
}

impl ServiceManager {
    /// Doesn't access any files.
    pub fn new(config: ServiceConfig) -> ServiceManager {
        ServiceManager { config }
    }

    /// Unpacks and starts a release. When this returns, the program has been started, and may have exited already; a
    /// health check determines whether it works.
    ///
    /// # Errors
    /// When a name or the image is invalid, another deploy is in progress, the fence is stale, the port is in use, or
    /// the image can't be fetched, unpacked or run. The folder of the release is removed then.
    pub async fn start(&self, release: ReleaseSpec) -> Result<Instance, ServiceError> {
        release.check_root()?;
        let image: ImageReference = release.image.parse()?;
        let Some(digest) = image.digest.clone() else {
            return Err(ServiceError::new(
                ServiceErrorKind::InvalidArgument,
                format!("`{}` doesn't specify the image by digest", release.image),
            )
            .with_help("deploy the reference that was pushed: image = \"${{ stages.push.outputs.reference }}\""));
        };
        let folder =
            ServiceFolder::new(&self.root(release.rehearsal.as_deref()), &release.environment, &release.service)?;
        // The fence is checked before the image is pulled and before anything is stopped: `launch` may stop the current
        // release to free its port, and a deploy with a stale fence must not interrupt a service.
        let lock = folder.lock()?;
        if let Some(fence) = release.fence {
            folder.raise_fence(fence)?;
        }
        let (name, dir) = folder.new_release(&digest)?;
        let unstarted = Unstarted(Some(dir.clone()));
        let layout = dir.join(IMAGE);
        let files = release.files.as_ref().unwrap_or(&self.config.workspace);
        let access = match &release.rehearsal {
            Some(run) => RegistryAccess::rehearsed(files, run),
            None => RegistryAccess::real(files),
        };
        let is_remote = matches!(image.location, ImageLocation::Remote { .. });
        if !is_remote || !self.has_copied(&folder, &digest, &layout).await? {
            self.config.registry.pull(&image, &layout, access).await?;
        }
        let exe = self.config.exe.clone();
        blocking(move || {
            let owners = if release.keeps_owners() { Owners::OfImage } else { Owners::Own };
            let config = unpack(&layout, &digest, &dir.join("rootfs"), owners)?;
            if !is_remote {
                remove_tree(&layout).map_err(|error| ServiceError::file(&layout, error))?;
            }
            let instance = launch(Unpacked { release, name, dir: &dir, config, folder, exe }, lock)?;
            unstarted.has_started();
            Ok(instance)
        })
        .await?
    }

    /// Copies the image from an earlier release that is kept and has it, so that going back to it needs no registry. Its
    /// content is compared with the digest.
    async fn has_copied(&self, folder: &ServiceFolder, digest: &str, layout: &Path) -> Result<bool, ServiceError> {
        let location = ImageLocation::Layout { path: IMAGE.to_owned() };
        let image = ImageReference { location, tag: None, digest: Some(digest.to_owned()) };
        for dir in folder.releases()?.into_iter().rev().filter(|dir| dir.join(IMAGE).is_dir()) {
            // Most of them have another image.
            if self.config.registry.pull(&image, layout, RegistryAccess::real(&dir)).await.is_ok() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The release behind a proxy that an earlier attempt of a run has started, and that was neither promoted nor
    /// discarded. With `fence`, the token of the present attempt, it can then be promoted or discarded.
    ///
    /// # Errors
    /// When a name is invalid, another deploy is in progress, the fence is stale, or a record can't be read.
    pub async fn unfinished(&self, of: UnfinishedSpec) -> Result<Option<Instance>, ServiceError> {
        let folder = ServiceFolder::new(&self.root(of.rehearsal.as_deref()), &of.environment, &of.service)?;
        let exe = self.config.exe.clone();
        blocking(move || {
            if !folder.exists() {
                return Ok(None);
            }
            let lock = folder.lock()?;
            let current = folder.current()?.map(|current| current.release);
            for dir in folder.releases()?.into_iter().rev() {
                let found = ServiceFolder::unfinished(&dir)?.filter(|found| found.run == of.run);
                let Some(found) = found.filter(|found| found.record.image == of.image) else { continue };
                // A promotion that was interrupted at its very end.
                if Some(&found.record.release) == current.as_ref() {
                    continue;
                }
                if let Some(fence) = of.fence {
                    folder.raise_fence(fence)?;
                }
                return attach(found, of.fence, folder, exe, lock).map(Some);
            }
            Ok(None)
        })
        .await?
    }

    /// The current release of a service; none if no release was promoted.
    ///
    /// # Errors
    /// When a name is invalid or the record can't be read.
    pub async fn current(
        &self,
        environment: &str,
        service: &str,
        rehearsal: Option<&str>,
    ) -> Result<Option<Current>, ServiceError> {
        let folder = ServiceFolder::new(&self.root(rehearsal), environment, service)?;
        blocking(move || folder.current()).await?
    }

    /// The phase of a release's program.
    ///
    /// # Errors
    /// When a name is invalid or the supervisor's state can't be read.
    pub async fn phase(
        &self,
        environment: &str,
        service: &str,
        release: &Current,
        rehearsal: Option<&str>,
    ) -> Result<Phase, ServiceError> {
        let folder = ServiceFolder::new(&self.root(rehearsal), environment, service)?;
        let dir = folder.release(&release.release);
        blocking(move || phase(&dir)).await?
    }

    /// The ports of the services of a rehearsal, which replace those in the pipeline.
    ///
    /// # Errors
    /// When a record can't be read.
    pub async fn moved_ports(&self, run: &str) -> Result<Vec<MovedPort>, ServiceError> {
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

    /// All deployed services, sorted by environment and name. With `rehearsal`, those of all rehearsals, oldest first.
    ///
    /// # Errors
    /// When a record or a supervisor's state can't be read.
    pub async fn status(&self, rehearsal: bool) -> Result<Vec<ServiceStatus>, ServiceError> {
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

    /// Stops all releases of a service, and keeps their files. With `rehearsal`, in all rehearsals that contain the
    /// service.
    ///
    /// # Errors
    /// [`ServiceErrorKind::NotFound`] if the service does not exist, and when a supervisor can't be stopped.
    pub async fn stop(&self, environment: &str, service: &str, rehearsal: bool) -> Result<(), ServiceError> {
        let folders = self.folders(environment, service, rehearsal)?;
        blocking(move || folders.iter().try_for_each(stop_releases)).await?
    }

    /// Stops all services. With `rehearsal`, those of all rehearsals.
    ///
    /// # Errors
    /// When a supervisor can't be stopped. The services after it keep running.
    pub async fn stop_all(&self, rehearsal: bool) -> Result<(), ServiceError> {
        let roots = self.roots(rehearsal);
        blocking(move || roots.iter().try_for_each(|(_, root)| stop_below(root))).await?
    }

    /// Stops the services of the rehearsal of one run.
    ///
    /// # Errors
    /// As for [`stop_all`](Self::stop_all).
    pub async fn stop_rehearsal(&self, run: &str) -> Result<(), ServiceError> {
        let root = self.root(Some(run));
        blocking(move || stop_below(&root)).await?
    }

    /// The last `lines` lines of the current release's log, as the program wrote them: secrets aren't masked. With
    /// `rehearsal`, those of the newest rehearsal in which the service has a current release.
    ///
    /// # Errors
    /// [`ServiceErrorKind::NotFound`] if the service does not exist or has no current release, and when its log can't
    /// be read.
    pub async fn log_tail(
        &self,
        environment: &str,
        service: &str,
        lines: usize,
        rehearsal: bool,
    ) -> Result<String, ServiceError> {
        let folders = self.folders(environment, service, rehearsal)?;
        blocking(move || {
            let newest =
                folders.iter().rev().find_map(|folder| folder.current().transpose().map(|current| (folder, current)));
            let Some((folder, current)) = newest else {
                return Err(ServiceError::new(ServiceErrorKind::NotFound, "this service has no current release")
                    .with_help("`stagewright service status` lists the services"));
            };
            log_tail(&folder.release(&current?.release), lines)
        })
        .await?
    }

    fn root(&self, rehearsal: Option<&str>) -> PathBuf {
        match rehearsal {
            Some(run) => self.config.rehearsal_root.join(run).join("environments"),
            None => self.config.root.clone(),
        }
    }

    /// The folders of services, each with the run whose rehearsal it belongs to.
    fn roots(&self, rehearsal: bool) -> Vec<(Option<String>, PathBuf)> {
        if !rehearsal {
            return vec![(None, self.config.root.clone())];
        }
        let entries = self.config.rehearsal_root.read_dir().into_iter().flatten().flatten();
        let mut runs: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        runs.sort();
        // Before version 0.2, all rehearsals shared one folder beside this one. Its services may still be running.
        let shared = self.config.rehearsal_root.parent().map(|parent| (None, parent.join("environments")));
        let own = runs.into_iter().map(|run| {
            let root = self.root(Some(&run));
            (Some(run), root)
        });
        shared.into_iter().chain(own).collect()
    }

    /// The folders of a service: one, or with `rehearsal`, one for each rehearsal that contains it, oldest first.
    fn folders(&self, environment: &str, service: &str, rehearsal: bool) -> Result<Vec<ServiceFolder>, ServiceError> {
        let folders =
            self.roots(rehearsal).into_iter().map(|(_, root)| ServiceFolder::new(&root, environment, service));
        let mut folders = folders.collect::<Result<Vec<_>, _>>()?;
        folders.retain(ServiceFolder::exists);
        match folders.is_empty() {
            true => Err(ServiceError::new(
                ServiceErrorKind::NotFound,
                format!("`{environment}` has no service `{service}`"),
            )
            .with_help("`stagewright service status` lists the services")),
            false => Ok(folders),
        }
    }
}

/// The port of a service in a rehearsal, and the port that it would have in a real run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MovedPort {
    /// The port in the deploy; the actual one if the deploy sets none.
    pub declared: u16,
    /// The port of this machine's loopback.
    pub actual: u16,
}

fn status_of(folder: &ServiceFolder) -> Result<ServiceStatus, ServiceError> {
    let current = folder.current()?;
    let status = match &current {
        Some(current) => supervisor::status(&folder.release(&current.release)).map_err(ServiceError::supervisor)?,
        None => None,
    };
    let is_lost = match &current {
        Some(current) => supervisor::is_lost(&folder.release(&current.release)).map_err(ServiceError::supervisor)?,
        None => false,
    };
    let has_proxy = current.as_ref().is_some_and(|current| !current.ports.is_empty());
    let without_proxy = has_proxy && folder.proxy().address()?.is_none();
    let unreachable = || without_proxy.then(|| "its proxy isn't running".to_owned());
    Ok(ServiceStatus {
        environment: folder.environment.clone(),
        service: folder.service.clone(),
        current,
        phase: status.as_ref().map_or(Phase::Exited, |status| status.phase),
        rehearsal: None,
        restarts: status.as_ref().map_or(0, |status| status.restarts),
        failure: status.and_then(|status| status.failure).or_else(unreachable),
        is_lost,
    })
}

/// Stops all services below the folder `root`.
fn stop_below(root: &Path) -> Result<(), ServiceError> {
    ServiceFolder::all(root)?.iter().try_for_each(stop_releases)
}

fn stop_releases(folder: &ServiceFolder) -> Result<(), ServiceError> {
    folder.proxy().stop()?;
    folder.releases()?.iter().try_for_each(|dir| stop(dir))
}
