//! Starts, stops and lists services.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use stagewright_files::remove_tree;
use stagewright_oci::{ImageReference, Registry, RegistryAccess};
use stagewright_process::supervisor::{self, Phase};

use crate::blocking::blocking;
use crate::error::{ServiceError, ServiceErrorKind};
use crate::instance::Instance;
use crate::launch::{launch, unpack};
use crate::release::{ReleaseSpec, log_tail, phase, stop};
use crate::store::{Current, ServiceFolder};

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

/// The folder of a release that hasn't started yet. Removed unless it starts: it would count as one of the earlier
/// releases that are kept.
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
    /// Its name.
    pub service: String,
    /// The release that is current; none when none was promoted yet.
    pub current: Option<Current>,
    /// The rehearsal that it is a stand-in in; none for the service itself.
    pub rehearsal: Option<String>,
    /// Of the current release.
    pub phase: Phase,
    /// How often its program was restarted.
    pub restarts: u32,
    /// Why it isn't running although it wasn't stopped.
    pub failure: Option<String>,
}

impl ServiceManager {
    /// Touches nothing yet.
    pub fn new(config: ServiceConfig) -> ServiceManager {
        ServiceManager { config }
    }

    /// Unpacks and starts a release. It is running, or has exited already, once this returns; whether it serves is for
    /// a health check to say.
    ///
    /// # Errors
    /// When a name or the image is invalid, another deploy is in progress, the fence is stale, the port is taken, or the image
    /// can't be fetched, unpacked or run. Nothing of the release stays then.
    pub async fn start(&self, release: ReleaseSpec) -> Result<Instance, ServiceError> {
        let image: ImageReference = release.image.parse()?;
        let Some(digest) = image.digest.clone() else {
            return Err(ServiceError::new(
                ServiceErrorKind::InvalidArgument,
                format!("`{}` doesn't name the image by digest", release.image),
            )
            .with_help("deploy what was pushed: image = \"${{ stages.push.outputs.reference }}\""));
        };
        let folder =
            ServiceFolder::new(&self.root(release.rehearsal.as_deref()), &release.environment, &release.service)?;
        let lock = folder.lock()?;
        if let Some(fence) = release.fence {
            folder.raise_fence(fence)?;
        }
        let (name, dir) = folder.new_release(&digest)?;
        let unstarted = Unstarted(Some(dir.clone()));
        let layout = dir.join("image");
        let files = release.files.as_ref().unwrap_or(&self.config.workspace);
        let access = match &release.rehearsal {
            Some(run) => RegistryAccess::rehearsed(files, run),
            None => RegistryAccess::real(files),
        };
        self.config.registry.pull(&image, &layout, access).await?;
        let exe = self.config.exe.clone();
        blocking(move || {
            let config = unpack(&layout, &digest, &dir.join("rootfs"))?;
            remove_tree(&layout).map_err(|error| ServiceError::file(&layout, error))?;
            let instance = launch(release, name, &dir, &config, folder, exe, lock)?;
            unstarted.has_started();
            Ok(instance)
        })
        .await?
    }

    /// The release that is current; none when there is none.
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

    /// Whether the program of a release of the service runs.
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

    /// The ports that the services of a rehearsal have in place of those that the pipeline says.
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

    /// Every service that was deployed, by environment and name; of rehearsals, oldest first.
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

    /// Stops whatever runs of a service and keeps its releases; in every rehearsal that has it.
    ///
    /// # Errors
    /// [`ServiceErrorKind::NotFound`] when there is no such service; else when a supervisor doesn't stop.
    pub async fn stop(&self, environment: &str, service: &str, rehearsal: bool) -> Result<(), ServiceError> {
        let folders = self.folders(environment, service, rehearsal)?;
        blocking(move || folders.iter().try_for_each(stop_releases)).await?
    }

    /// Stops all services; of rehearsals, those of every one.
    ///
    /// # Errors
    /// When a supervisor doesn't stop; those after it are left running.
    pub async fn stop_all(&self, rehearsal: bool) -> Result<(), ServiceError> {
        let roots = self.roots(rehearsal);
        blocking(move || roots.iter().try_for_each(|(_, root)| stop_below(root))).await?
    }

    /// Stops the services of one rehearsal, and of no other.
    ///
    /// # Errors
    /// As [`stop_all`](Self::stop_all).
    pub async fn stop_rehearsal(&self, run: &str) -> Result<(), ServiceError> {
        let root = self.root(Some(run));
        blocking(move || stop_below(&root)).await?
    }

    /// The end of the log of the current release, as the program wrote it; of rehearsals, the newest.
    ///
    /// # Errors
    /// [`ServiceErrorKind::NotFound`] when there is no such service or no current release; else when its log can't be read.
    pub async fn log_tail(
        &self,
        environment: &str,
        service: &str,
        lines: usize,
        rehearsal: bool,
    ) -> Result<String, ServiceError> {
        let folders = self.folders(environment, service, rehearsal)?;
        blocking(move || {
            let newest = folders.iter().rev().find_map(|folder| folder.current().transpose().map(|of| (folder, of)));
            let Some((folder, current)) = newest else {
                return Err(ServiceError::new(ServiceErrorKind::NotFound, "no release of this service is current")
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
        let own = runs.into_iter().map(|run| {
            let root = self.root(Some(&run));
            (Some(run), root)
        });
        shared.into_iter().chain(own).collect()
    }

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
            .with_help("`stagewright service status` lists them")),
            false => Ok(folders),
        }
    }
}

/// Where a service of a rehearsal answers, and where it would in a real run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MovedPort {
    /// The port that the deploy asks for; the actual one when it asks for none.
    pub declared: u16,
    /// Of this machine's loopback.
    pub actual: u16,
}

fn status_of(folder: &ServiceFolder) -> Result<ServiceStatus, ServiceError> {
    let current = folder.current()?;
    let status = match &current {
        Some(current) => supervisor::status(&folder.release(&current.release)).map_err(ServiceError::supervisor)?,
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

fn stop_below(root: &Path) -> Result<(), ServiceError> {
    ServiceFolder::all(root)?.iter().try_for_each(stop_releases)
}

fn stop_releases(folder: &ServiceFolder) -> Result<(), ServiceError> {
    folder.releases()?.iter().try_for_each(|dir| stop(dir))
}
