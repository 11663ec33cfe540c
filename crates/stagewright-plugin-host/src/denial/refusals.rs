//! Explains the failures of programs by what the sandbox refused them.
//!
//! ```text
//! output of a failed program ── complaints ──> names ── policy, mounts, the workspace ──> denials
//! ```
//!
//! The kernel refuses without a word, and observing every file that a program opens would cost more than most programs
//! take (docs/sandbox.md). So the last lines of a failed program's output are searched for its own complaints. What they
//! name is only reported if it exists, if the stage lacks its grant, and if a grant could give it: hostile output can make
//! the engine state that something isn't granted which isn't, and nothing else. Only the existence of paths in the
//! workspace and in the machine's `PATH` can become known that way, to the reader of the run and not to the program.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stagewright_model::WorkspacePath;
use stagewright_process::sandbox::Access;
use stagewright_process::which;

use super::complaints::{Complaint, Named, complaints, mentions_certificate, mentions_network};
use crate::capability::workspace::{FileKind, WorkspaceFiles};
use crate::confine::{SandboxView, TRUST_VARIABLES, searched};
use crate::error::CapabilityError;
use crate::policy::Policy;
use crate::strip::stripped;

/// The most denials that are found for one program.
const FOUND: usize = 8;
/// Folders that tools read, write or start as a whole: a grant of one file in them would only lead to the next denial.
const WHOLE_FOLDERS: [&str; 9] =
    ["node_modules", ".venv", "venv", "target", "dist", "build", "__pycache__", ".gradle", ".next"];

/// A program that failed, or that could not be started.
#[derive(Debug)]
pub(crate) struct FailedProgram {
    /// The end of its output.
    pub(crate) output: String,
    /// The absolute path of its working directory.
    pub(crate) folder: PathBuf,
    /// What it saw.
    pub(crate) view: Arc<SandboxView>,
}

/// What the output of failed programs shows.
#[derive(Debug, Default)]
pub(crate) struct FailureEvidence {
    /// The denials of files and programs.
    pub(crate) files: Vec<CapabilityError>,
    /// Whether a connection may be what failed. Otherwise a refused one, such as a client's search for its update, has
    /// nothing to do with the failure.
    pub(crate) mention_network: bool,
}

/// What a stage's programs may do, and where they look for others.
#[derive(Clone, Debug)]
pub(crate) struct RefusalSearch {
    pub(crate) policy: Arc<Policy>,
    /// The workspace's absolute path.
    pub(crate) root: PathBuf,
    /// Folders of `PATH` that the machine has, too.
    pub(crate) programs: Vec<PathBuf>,
    /// Variables by which the machine's programs trust further certificates, and which the stage's programs lack, with the
    /// files that they name.
    pub(crate) authorities: Vec<(&'static str, PathBuf)>,
}

impl RefusalSearch {
    /// `environment`: that of the programs. `machine`: the engine's own. Other folders of `PATH` than the machine's are
    /// chosen by the pipeline, and nothing is said about them.
    pub(crate) fn new(
        policy: Arc<Policy>,
        root: PathBuf,
        environment: &BTreeMap<String, String>,
        machine: &BTreeMap<String, String>,
    ) -> RefusalSearch {
        let is_set = |name: &str| environment.contains_key(name);
        let authorities = TRUST_VARIABLES.into_iter().filter(|name| !is_set(name));
        let authorities = authorities.filter_map(|name| Some((name, PathBuf::from(machine.get(name)?)))).collect();
        RefusalSearch { policy, root, programs: searched(environment, machine), authorities }
    }

    /// Why programs failed, as far as their output shows it. Reads the file system.
    pub(crate) fn refusals(&self, failed: &[FailedProgram], files: &WorkspaceFiles) -> FailureEvidence {
        FailureEvidence {
            files: failed.iter().flat_map(|failed| self.denials(failed, files)).collect(),
            mention_network: failed.iter().any(|failed| mentions_network(&failed.output)),
        }
    }

    fn denials(&self, failed: &FailedProgram, files: &WorkspaceFiles) -> Vec<CapabilityError> {
        let of = RefusalCheck { search: self, files, view: &failed.view, folder: self.in_workspace(&failed.folder) };
        let mut found: Vec<CapabilityError> = Vec::new();
        for named in complaints(&stripped(&failed.output)) {
            let denied = of.refused(&named);
            found.extend(denied.filter(|denied| found.iter().all(|known| known.message != denied.message)));
        }
        found.truncate(FOUND);
        if mentions_certificate(&failed.output) {
            let seen = self.authorities.iter().filter(|(_, file)| failed.view.has(file));
            found.extend(seen.map(|(name, _)| self.policy.deny_variable(name)));
        }
        found
    }

    /// The path in the workspace of an absolute path.
    fn in_workspace(&self, path: &Path) -> Option<WorkspacePath> {
        match path.strip_prefix(&self.root).ok()?.to_str()? {
            "" => Some(WorkspacePath::default()),
            below => WorkspacePath::default().leads_to(below),
        }
    }
}

/// One failed program, to judge its complaints.
struct RefusalCheck<'a> {
    search: &'a RefusalSearch,
    files: &'a WorkspaceFiles,
    view: &'a SandboxView,
    /// Its working directory; none if that isn't in the workspace.
    folder: Option<WorkspacePath>,
}

impl RefusalCheck<'_> {
    fn refused(&self, named: &Named) -> Option<CapabilityError> {
        named.names.iter().find_map(|name| match named.complaint {
            Complaint::Missing => self.hidden(name).or_else(|| self.program(name)),
            Complaint::Denied => self.not_startable(name, true),
            Complaint::Unloadable => self.not_startable(name, false),
            Complaint::ReadOnly => self.not_writable(name),
        })
    }

    /// Where a name can be in the workspace: below the program's working directory, and below the root.
    fn paths(&self, name: &str) -> Vec<WorkspacePath> {
        if name.starts_with('/') {
            return self.search.in_workspace(Path::new(name)).into_iter().collect();
        }
        let folders = self.folder.iter().cloned().chain([WorkspacePath::default()]);
        let mut paths = folders.filter_map(|folder| folder.leads_to(name)).collect::<Vec<_>>();
        paths.dedup();
        // A granted or empty root always exists, so no complaint is about it.
        paths.retain(|path| !path.is_root());
        paths
    }

    /// The denial of a file that exists, and that the program didn't see.
    fn hidden(&self, name: &str) -> Option<CapabilityError> {
        let paths = self.paths(name);
        paths.iter().find_map(|path| {
            if self.search.policy.is_reserved(path) {
                return self.search.policy.history(path).err().filter(|_| self.exists(path));
            }
            match self.files.look(path) {
                Ok(None) => None,
                // What a link leads to must be granted beside the link.
                Ok(Some(FileKind::Link(_))) if self.sees(path) => self.unreadable(&self.files.led_to(path).ok()?),
                Ok(Some(FileKind::File)) if self.sees(path) => self.interpreter(path),
                Ok(Some(_)) => self.unreadable(path),
                Err(_) => self.unreadable(&self.files.led_to(path).ok()?),
            }
        })
    }

    fn unreadable(&self, path: &WorkspacePath) -> Option<CapabilityError> {
        let policy = &self.search.policy;
        if self.sees(path) || policy.is_reserved(path) || policy.read(path).is_ok() {
            return None;
        }
        let whole = whole_folder(path).filter(|whole| !policy.is_reserved(whole) && policy.read(whole).is_err());
        policy.read(whole.as_ref().unwrap_or(path)).err()
    }

    /// The denial of the interpreter that a script names in its first line, if the program sees the script alone.
    fn interpreter(&self, script: &WorkspacePath) -> Option<CapabilityError> {
        if self.view.access(&self.at(script)) < Some(Access::Execute) {
            return None;
        }
        let mut start = Vec::new();
        // The policy isn't asked: a program that `process` names may be started, and isn't readable for the plugin.
        let file = stagewright_files::open_unlinked(&self.at(script)).ok()?;
        file.take(256).read_to_end(&mut start).ok()?;
        let line = std::str::from_utf8(start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?).ok()?;
        let interpreter = line.split_whitespace().next()?;
        match self.search.in_workspace(Path::new(interpreter)) {
            Some(path) if self.exists(&path) && !self.search.policy.is_reserved(&path) => {
                self.search.policy.start(&path).err()
            }
            Some(_) => None,
            None => self.program(interpreter),
        }
    }

    /// The denial of a program of the machine. An absolute path counts if its folder is one in which programs are searched.
    fn program(&self, name: &str) -> Option<CapabilityError> {
        let RefusalCheck { search, view, .. } = self;
        let path = Path::new(name);
        let found = match path.is_absolute() {
            true => {
                search.programs.iter().any(|folder| path.parent() == Some(folder)).then(|| which(path, "")).flatten()?
            }
            false if name.contains('/') => return None,
            // The first one is the user's; a later one isn't started in its place.
            false => search.programs.iter().find_map(|folder| which(name, folder))?,
        };
        let is_of_workspace = found.canonicalize().is_ok_and(|real| real.starts_with(&search.root));
        if view.starts(&found) || is_of_workspace {
            return None;
        }
        search.policy.program(name, &[], std::iter::empty()).err()
    }

    /// The denial of a file that the program saw and couldn't start. `is_program`: whether it must be executable.
    fn not_startable(&self, name: &str, is_program: bool) -> Option<CapabilityError> {
        let policy = &self.search.policy;
        self.paths(name).iter().find_map(|path| {
            let path = match self.files.look(path).ok()? {
                Some(FileKind::Link(_)) => self.files.led_to(path).ok()?,
                Some(FileKind::File) => path.clone(),
                _ => return None,
            };
            let is_only_readable = self.view.access(&self.at(&path)) == Some(Access::Read);
            let is_fit = !is_program || self.files.executable(path.shown()).is_ok_and(|is_executable| is_executable);
            if !is_only_readable || !is_fit || policy.is_reserved(&path) {
                return None;
            }
            policy.start(whole_folder(&path).as_ref().unwrap_or(&path)).err()
        })
    }

    /// The denial of a write within the workspace. The path need not exist, but the folder that it begins in must.
    fn not_writable(&self, name: &str) -> Option<CapabilityError> {
        let policy = &self.search.policy;
        let path = self.paths(name).into_iter().next()?;
        // Of a path in folders that don't exist, the first of these is what the program makes.
        let above = path.as_path().ancestors().skip(1).filter_map(Path::to_str).filter(|above| !above.is_empty());
        let missing =
            above.filter_map(|above| WorkspacePath::parse(above).ok()).filter(|above| !self.exists(above)).last();
        let path = whole_folder(&path).or(missing).unwrap_or(path);
        let is_open = self.view.access(&self.at(&path)) == Some(Access::Write);
        if is_open || policy.reserved_at(&path).is_some() || self.files.look(&path).is_err() {
            return None;
        }
        policy.write(&path).err()
    }

    fn at(&self, path: &WorkspacePath) -> PathBuf {
        self.search.root.join(path.as_path())
    }

    fn sees(&self, path: &WorkspacePath) -> bool {
        self.view.access(&self.at(path)).is_some()
    }

    fn exists(&self, path: &WorkspacePath) -> bool {
        self.files.look(path).is_ok_and(|kind| kind.is_some())
    }
}

/// The outermost folder of a path that tools use as a whole.
fn whole_folder(path: &WorkspacePath) -> Option<WorkspacePath> {
    let mut folder = WorkspacePath::default();
    path.names().find_map(|name| {
        folder = folder.join(name);
        WHOLE_FOLDERS.contains(&name).then(|| folder.clone())
    })
}
