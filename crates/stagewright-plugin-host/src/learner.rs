//! Notes what an attempt uses through the host, while its run learns.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use stagewright_model::{Origin, WorkspacePath};
use stagewright_process::sandbox::{FileObservation, Observe, system_folders};

/// Folders that each sandbox has, and whose content isn't the machine's or is public.
const OF_SANDBOX: [&str; 6] = ["/dev", "/etc", "/proc", "/sys", "/tmp", "/var/tmp"];

/// The most different uses of one kind that are noted.
const MAX_USES: usize = 100_000;

/// Folders that every program sees: the system's, and the sandbox's own.
pub(crate) fn everywhere() -> impl Iterator<Item = &'static str> {
    system_folders().chain(OF_SANDBOX)
}

/// The files that the stages of a learning run work on.
#[derive(Clone, Debug, Default)]
pub struct Learning {
    /// A copy of the workspace.
    pub files: PathBuf,
    /// The files that a new clone of the repository has, relative to the workspace, together with those that could be
    /// committed.
    pub checkout: BTreeSet<PathBuf>,
}

/// What one attempt used through the host; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Learner {
    pub(crate) learning: Arc<Learning>,
    uses: Arc<Mutex<HostUses>>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct HostUses {
    /// As the plugin named them.
    pub(crate) programs: BTreeSet<String>,
    pub(crate) read: BTreeSet<WorkspacePath>,
    pub(crate) written: BTreeSet<WorkspacePath>,
    /// By their text.
    pub(crate) origins: BTreeMap<String, Origin>,
}

impl Learner {
    pub(crate) fn new(learning: Arc<Learning>) -> Learner {
        Learner { learning, uses: Arc::default() }
    }

    pub(crate) fn started(&self, program: &str) {
        self.note(|uses| uses.programs.insert(program.to_owned()));
    }

    pub(crate) fn read(&self, path: &WorkspacePath) {
        self.note(|uses| uses.read.insert(path.clone()));
    }

    pub(crate) fn written(&self, path: &WorkspacePath) {
        self.note(|uses| uses.written.insert(path.clone()));
    }

    pub(crate) fn called(&self, origin: &Origin) {
        self.note(|uses| uses.origins.insert(origin.to_string(), origin.clone()).is_none());
    }

    pub(crate) fn uses(&self) -> HostUses {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, add: impl FnOnce(&mut HostUses) -> bool) {
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        if uses.programs.len().max(uses.read.len()).max(uses.written.len()).max(uses.origins.len()) < MAX_USES {
            add(&mut uses);
        }
    }
}

/// Which uses of files a sandbox reports. `root`: the workspace's path.
pub(crate) fn observe(root: &Path) -> Observe {
    Observe { except: everywhere().map(PathBuf::from).collect(), within: root.to_owned() }
}

/// What an attempt used, and how its programs found it.
pub(crate) struct Evidence {
    pub(crate) observations: Vec<FileObservation>,
    /// The workspace's absolute path.
    pub(crate) root: PathBuf,
    /// The environment of the programs.
    pub(crate) environment: BTreeMap<String, String>,
    /// The engine's own environment.
    pub(crate) machine: Arc<BTreeMap<String, String>>,
    /// The ends of the outputs of programs that failed.
    pub(crate) complaints: Vec<String>,
}
