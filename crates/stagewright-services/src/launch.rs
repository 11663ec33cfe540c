//! Unpacks and starts one release.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use stagewright_oci::Layout;
use stagewright_process::supervisor::{self, ServiceSpec};

use crate::endpoint::{self, HOST};
use crate::error::{ServiceError, ServiceErrorKind};
use crate::image::RunConfig;
use crate::instance::{Displaced, Instance};
use crate::release::{ReleaseSpec, stop};
use crate::store::{Current, DeployLock, ServiceFolder};

/// Unpacks the image in `layout` to `root`, and reads its configuration.
pub(crate) fn unpack(layout: &Path, digest: &str, root: &Path) -> Result<RunConfig, ServiceError> {
    let image = Layout::new(layout, "the pulled image").unpack(digest, root)?;
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

/// Starts the release that is unpacked in `dir`. If the deploy uses a fixed port, the current release is stopped first,
/// since it may use the same one; it is started again if the new release can't be started.
pub(crate) fn launch(
    release: ReleaseSpec,
    name: String,
    dir: &Path,
    config: &RunConfig,
    folder: ServiceFolder,
    exe: PathBuf,
    lock: DeployLock,
) -> Result<Instance, ServiceError> {
    let invocation = config.invocation(&dir.join("rootfs"), &release.args)?;
    stop_leftovers(&folder)?;
    let is_stand_in = release.rehearsal.is_some();
    let displaced = match (release.port, folder.current()?) {
        // A stand-in has its port in its own network, where it can't collide with another release.
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
            Err(ServiceError::supervisor(error))
        }
    }
}

/// Stops all releases except the current one. They are left over if an engine was killed during a deploy, would
/// otherwise run forever, and may use the port. The deploy lock is held, so none of them belongs to a running deploy.
fn stop_leftovers(folder: &ServiceFolder) -> Result<(), ServiceError> {
    let current = folder.current()?.map(|current| folder.release(&current.release));
    folder.releases()?.iter().filter(|&dir| Some(dir) != current.as_ref()).try_for_each(|dir| stop(dir))
}

/// Stops a release. Returns what is needed to start it again; none if it wasn't running.
fn displace(dir: &Path) -> Result<Option<Displaced>, ServiceError> {
    // The environment is only in the memory of the running program, because it may contain secrets and is never written
    // to disk. It must be read before the program is stopped.
    let Some(env) = supervisor::running_environment(dir).map_err(ServiceError::supervisor)? else {
        return Ok(None);
    };
    let spec = supervisor::read_spec(dir).map_err(ServiceError::supervisor)?;
    stop(dir)?;
    Ok(Some(Displaced { dir: dir.to_owned(), spec, env }))
}

/// A port that is free at the moment. The listener that reserved it is closed here, so another program can take the
/// port before the release does; [`Endpoint::check`](crate::endpoint::Endpoint::check) detects that.
fn free_port() -> Result<u16, ServiceError> {
    let port = TcpListener::bind((HOST, 0)).and_then(|listener| listener.local_addr());
    port.map(|address| address.port())
        .map_err(|error| ServiceError::new(ServiceErrorKind::NoFreePort, "127.0.0.1 has no free port").caused_by(error))
}
