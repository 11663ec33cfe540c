//! A service with the files of an image as its root.
//!
//! ```text
//! supervisor ── maker ── keeper ── init (process 1 of the service)
//!                                    └─ the program, and all that it starts
//! ```
//!
//! Each start of the program gets a new root, and all of its processes end with it. See [`crate::sandbox`].

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::child::Child;
use crate::command::Command;
use crate::sandbox::{Access, Confinement, ImageRoot, Maker, Place, Sandbox, Source, StartError};

/// The files that tell a program about the network, which is the machine's.
const NETWORK: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname"];
/// What the program writes, in the folder of the service.
const CHANGES: &str = "changes";

/// What to do where roots can't be made.
const UNAVAILABLE: &str = "allow unprivileged user namespaces (`sysctl user.max_user_namespaces`; on Ubuntu also `sysctl \
                           kernel.apparmor_restrict_unprivileged_userns`), keep the state folder on a disk of this machine, \
                           or give the release the machine's root: root = \"host\"";

/// The root of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ServiceRoot {
    /// The files of the image.
    #[serde(flatten)]
    pub image: ImageRoot,
    /// Folders of this machine that the program can write to, and which outlive it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
}

/// A folder of this machine in the root of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// The folder. It must exist.
    pub folder: PathBuf,
    /// Its path inside.
    pub path: PathBuf,
}

/// Starts the program of a service in roots of its own.
pub(super) struct RootMaker {
    maker: Maker,
    /// A folder with one for each start. That of an earlier start is removed by the processes of that start, when they
    /// have ended.
    changes: PathBuf,
    starts: u64,
}

impl RootMaker {
    /// For the service in `dir`, whose supervisor this process is.
    pub(super) fn new(dir: &Path) -> RootMaker {
        let changes = dir.join(CHANGES);
        // What is left of a supervisor that was killed with all of its processes. An error is ignored: processes of it may be
        // removing the same.
        let _ = stagewright_files::remove_tree(&changes);
        // The file of this program may be replaced while it runs.
        RootMaker { maker: Maker::new("/proc/self/exe"), changes, starts: 0 }
    }

    /// Starts the program in a new root. The error is a sentence with its remedy.
    pub(super) fn start(&mut self, root: &ServiceRoot, command: Command) -> Result<Contained, String> {
        self.starts += 1;
        let scratch = self.changes.join(format!("{}-{}", std::process::id(), self.starts));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&scratch)
            .map_err(|error| format!("`{}` can't be made: {error}; check its folder", scratch.display()))?;
        let sandbox = self.maker.sandbox(&confinement(root, scratch)).map_err(|error| match error {
            StartError::Unavailable { step, source } => format!("this system can't {step}: {source}; {UNAVAILABLE}"),
            StartError::Failed { step, source } => {
                format!(
                    "the image's root can't be made: {step}: {source}; check that the paths of volumes lead to folders"
                )
            }
        })?;
        let child = sandbox.spawn(command).map_err(|error| format!("{error}; {}", error.help()))?;
        Ok(Contained { child, sandbox })
    }
}

/// A program that was started, and what keeps its root.
pub(super) struct Contained {
    pub(super) child: Child,
    sandbox: Sandbox,
}

impl Contained {
    /// Ends all that is left of the program's processes, and waits until it is gone.
    pub(super) async fn end(self) {
        drop(self.child);
        self.sandbox.end().await;
    }
}

fn confinement(root: &ServiceRoot, scratch: PathBuf) -> Confinement {
    let shown = NETWORK.iter().chain(&["/sys"]).map(|path| Place {
        path: path.into(),
        source: Source::HostIfThere(path.into()),
        access: Some(Access::Read),
    });
    let volumes = root.volumes.iter().map(|volume| Place {
        path: volume.path.clone(),
        source: Source::Host(volume.folder.clone()),
        access: Some(Access::Write),
    });
    let (places, image) = (shown.chain(volumes).collect(), Some(root.image.clone()));
    Confinement { scratch, places, image, ..Confinement::default() }
}
