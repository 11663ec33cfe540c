//! Starts and stops the program of one release.

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

/// Unpacks the image in `layout` below `root`, and reads how it is to be run.
pub(crate) fn unpack(layout: &Path, digest: &str, root: &Path) -> Result<RunConfig, ServiceError> {
    let image = Layout::new(layout, "the pulled image").unpack(digest, root)?;
    let config = RunConfig::parse(image.config())?;
    // Images often name a working folder that none of their layers has.
    if !config.working_dir().as_os_str().is_empty() {
        image.create_folder(config.working_dir()).map_err(|error| {
            let words = format!("the image's working folder `{}` can't be made", config.working_dir().display());
            ServiceError::new(ServiceErrorKind::UnusableImage, words)
                .with_help("set `WorkingDir` to a folder of the image where the image is built")
                .caused_by(error)
        })?;
    }
    Ok(config)
}

/// Starts the unpacked release in `dir`, and makes room for it where the deploy asks for a fixed port.
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
            Err(ServiceError::supervisor(error))
        }
    }
}

/// Stops what an earlier deploy was killed before it could promote or stop. It would run for ever, and may hold the
/// port.
fn stop_strays(folder: &ServiceFolder) -> Result<(), ServiceError> {
    let current = folder.current()?.map(|current| folder.release(&current.release));
    folder.releases()?.iter().filter(|&dir| Some(dir) != current.as_ref()).try_for_each(|dir| stop(dir))
}

/// Stops a running release and remembers how to start it again.
fn displace(dir: &Path) -> Result<Option<Displaced>, ServiceError> {
    let Some(env) = supervisor::running_environment(dir).map_err(ServiceError::supervisor)? else {
        return Ok(None);
    };
    let spec = supervisor::read_spec(dir).map_err(ServiceError::supervisor)?;
    stop(dir)?;
    Ok(Some(Displaced { dir: dir.to_owned(), spec, env }))
}

/// A port that is free at the moment. If another program takes it before the release does,
/// [`Endpoint::check`](crate::endpoint::Endpoint::check) finds out.
fn free_port() -> Result<u16, ServiceError> {
    let port = TcpListener::bind((HOST, 0)).and_then(|listener| listener.local_addr());
    port.map(|address| address.port()).map_err(|error| {
        ServiceError::new(ServiceErrorKind::NoFreePort, "there is no free port on 127.0.0.1").caused_by(error)
    })
}
