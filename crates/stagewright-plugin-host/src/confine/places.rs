//! What of the machine's files a stage's programs see, place by place.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use stagewright_model::ProcessRule;
use stagewright_process::sandbox::{
    Access, GrantedSocket, Need, Place, Provision, Rule, SocketError, Source, Tools, needs, system, without_secrets,
};
use stagewright_process::which;

use super::kept::{KeptCaches, StageOwner};
use super::{SandboxConfig, docker_socket};
use crate::capability::workspace::Workspace;
use crate::error::{CapabilityError, ErrorCode};
use crate::path::WorkspacePath;
use crate::policy::Policy;

/// Paths that the patterns of one stage may come to. Each is a mount.
const PATHS: usize = 4096;
/// Where git keeps addresses, and credentials in them.
const GIT_CONFIG: &str = ".git/config";
/// Programs that `*` brings along, by the names under which their toolchains are known.
const WELL_KNOWN: [&str; 12] =
    ["cargo", "docker", "git", "go", "gradle", "mvn", "node", "npm", "pip", "python3", "rustc", "uv"];

/// Whose programs, and what they are granted.
pub(super) struct Layout {
    pub(super) config: SandboxConfig,
    pub(super) policy: Arc<Policy>,
    pub(super) root: PathBuf,
    /// The folder whose files are shown there.
    pub(super) files: PathBuf,
    pub(super) owner: Arc<StageOwner>,
    /// As in `stages.test`.
    pub(super) table: String,
    pub(super) environment: BTreeMap<String, String>,
}

/// What is mounted, and what has to be there until the sandbox ends.
pub(super) struct Laid {
    pub(super) scratch: PathBuf,
    /// Later places may lie within earlier ones.
    pub(super) places: Vec<Place>,
    pub(super) rules: Vec<Rule>,
    /// None when no program of the stage keeps any.
    pub(super) kept: Option<KeptCaches>,
}

impl Layout {
    /// Makes the scratch folder, and says what is mounted.
    pub(super) fn of(&self, files: &Workspace) -> Result<Laid, CapabilityError> {
        let scratch = self.scratch().map_err(|error| failed("make the scratch folder", &error))?;
        let (mut places, rules) = system(&scratch);
        let home = self.environment.get("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        // A home within the workspace is granted like the rest of it.
        let home = home.filter(|home| !home.starts_with(&self.root));
        if let Some(home) = &home {
            let source = Source::Host(scratch.join("home"));
            places.push(Place { path: home.clone(), source, access: Some(Access::Write) });
        }
        let needs = tools(self.policy.programs(), &self.environment, &self.root);
        let keeps = |need: &Need| matches!(need.how, Provision::Kept | Provision::KeptFile);
        let kept = needs.iter().any(keeps).then(|| KeptCaches::open(&self.config.kept, &self.owner, &self.table));
        let kept = kept.transpose().map_err(|error| failed("open the download caches", &error))?;
        for need in needs {
            let place = self.meet(&need, home.as_deref(), &scratch, kept.as_ref());
            places.extend(place.map_err(|error| failed(&format!("prepare {}", need.path.display()), &error))?);
        }
        places.push(Place { path: self.root.clone(), source: Source::Nothing, access: None });
        places.extend(self.granted(files)?);
        for path in self.policy.reserved() {
            let target = self.root.join(path.as_path());
            let above = |place: &&Place| place.path.starts_with(&self.root) && target.starts_with(&place.path);
            if !files.exists(path) && places.iter().filter(above).any(|place| place.access == Some(Access::Write)) {
                // Else a program would make it, for git to run its hooks outside of any sandbox. Empty it means nothing.
                files.make(path)?;
            }
            // What isn't there needs no hiding, and a place for it could not be made in a folder that is only read.
            if files.exists(path) {
                let hidden = self.reserved(path, &scratch);
                places.extend(hidden.map_err(|error| failed(&format!("cover {path}"), &error))?);
            }
        }
        places.extend(self.sockets()?);
        Ok(Laid { scratch, places, rules, kept })
    }

    fn scratch(&self) -> io::Result<PathBuf> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let scratch = self.config.scratch.join(name);
        for folder in ["tmp", "home"] {
            fs::create_dir_all(scratch.join(folder))?;
        }
        // Others of this machine have no business there, whatever the state folder's own mode is.
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(&scratch, private)?;
        fs::canonicalize(scratch)
    }

    fn meet(
        &self,
        need: &Need,
        home: Option<&Path>,
        scratch: &Path,
        kept: Option<&KeptCaches>,
    ) -> io::Result<Option<Place>> {
        let place = |source, access| Some(Place { path: need.path.clone(), source, access: Some(access) });
        match need.how {
            Provision::Execute => Ok(place(Source::Host(fs::canonicalize(&need.path)?), Access::Execute)),
            Provision::Copy => {
                let text = without_secrets(&String::from_utf8_lossy(&stagewright_files::read(
                    &need.path,
                    stagewright_files::CONFIGURATION,
                )?));
                let below_home = home.and_then(|home| need.path.strip_prefix(home).ok());
                let copy = match below_home {
                    Some(below) => scratch.join("home").join(below),
                    None => scratch.join("copies").join(name_of(&need.path)),
                };
                fs::create_dir_all(copy.parent().unwrap_or(scratch))?;
                fs::write(&copy, text)?;
                Ok(below_home.is_none().then(|| place(Source::Host(copy), Access::Read)).flatten())
            }
            Provision::Kept | Provision::KeptFile => {
                let is_file = need.how == Provision::KeptFile;
                let kept = kept.map(|kept| kept.place(&need.path, is_file)).transpose()?;
                Ok(kept.and_then(|kept| place(Source::Host(kept), Access::Write)))
            }
        }
    }

    /// What the stage may read, write and start of the workspace. Whatever it may write it may read and start, too.
    fn granted(&self, files: &Workspace) -> Result<Vec<Place>, CapabilityError> {
        let mut granted: BTreeMap<WorkspacePath, Access> = BTreeMap::new();
        let mut grant = |path: WorkspacePath, access: Access| {
            let known = granted.entry(path).or_insert(access);
            *known = access.max(*known);
        };
        // What is declared is given file by file, or by folders of which all was; what of it isn't granted is left out.
        let reads = self.policy.declared().unwrap_or(self.policy.reads());
        for path in files.granted(reads, PATHS)?.into_iter().filter(|path| self.policy.may_read(path)) {
            grant(path, Access::Read);
        }
        for path in files.granted(self.policy.writes(), PATHS)? {
            grant(path, Access::Write);
        }
        for rule in self.policy.writes() {
            // A place that isn't there can't be mounted, so it is made as what its name looks like.
            if let Ok(path) = WorkspacePath::parse(rule)
                && !rule.contains(['*', '?', '[', '{', '\\'])
                && !files.exists(&path)
            {
                files.make(&path)?;
                grant(path, Access::Write);
            }
        }
        for rule in self.policy.programs().iter().filter_map(ProcessRule::program) {
            let own = if Path::new(rule).is_absolute() { Path::new(rule).strip_prefix(&self.root).ok() } else { None };
            let own =
                own.and_then(Path::to_str).or_else(|| (rule.contains('/') && !rule.starts_with('/')).then_some(rule));
            if let Some(path) = own.and_then(|own| WorkspacePath::parse(own).ok()) {
                grant(path, Access::Execute);
            }
        }
        let writable = granted.iter().filter(|(_, access)| **access == Access::Write).map(|(path, _)| path.clone());
        let writable = writable.collect::<Vec<_>>();
        let covered = |path: &WorkspacePath| writable.iter().any(|folder| folder != path && path.is_within(folder));
        let mut places = Vec::new();
        // In the order of their names, a folder comes before what lies in it.
        for (path, access) in granted.iter().filter(|(path, _)| !covered(path)) {
            places.push(Place {
                path: if path.is_root() { self.root.clone() } else { self.root.join(path.as_path()) },
                source: Source::Below(self.files.clone(), path.as_path().to_owned()),
                access: Some(*access),
            });
        }
        Ok(places)
    }

    /// What is the engine's is hidden. The history of the repository can be read by programs that may read all of it,
    /// without the credentials in its configuration; a hook that a stage wrote would run outside of any sandbox, so that
    /// it takes a grant of its own to write there.
    fn reserved(&self, path: &WorkspacePath, scratch: &Path) -> io::Result<Vec<Place>> {
        let place = |below: &Path, source, access| Place { path: self.root.join(below), source, access };
        let git = path.shown() == ".git";
        let history = git && self.root.join(".git/config").is_file();
        let granted = |rules: &[String], names: &[&str]| rules.iter().any(|rule| names.contains(&rule.as_str()));
        // A stage that may write the repository is given the repository.
        let below = || Source::Below(self.root.clone(), path.as_path().to_owned());
        if git && self.root.join(".git").is_dir() && granted(self.policy.writes(), &[".git"]) {
            return Ok(vec![place(path.as_path(), below(), Some(Access::Write))]);
        }
        let all = [".", "./", ".git"];
        // A cached stage sees of the repository's history what its `inputs` name, as of every other file.
        let sees_all = match self.policy.declared() {
            Some(declared) => granted(declared, &[".git"]),
            None => granted(self.policy.reads(), &all) || granted(self.policy.writes(), &all),
        };
        if !history || !sees_all {
            let hidden = place(path.as_path(), Source::Nothing, None);
            let parts = if history { self.parts_of_git(scratch)? } else { Vec::new() };
            return Ok([hidden].into_iter().chain(parts).collect());
        }
        if self.files != self.root {
            return self.captured_history(path, scratch);
        }
        let history = place(path.as_path(), below(), Some(Access::Read));
        Ok(vec![history, self.git_config(scratch)?])
    }

    /// Of git's own files, those that a cached stage's `inputs` name one by one.
    fn parts_of_git(&self, scratch: &Path) -> io::Result<Vec<Place>> {
        let declared = self.policy.declared().unwrap_or_default().iter();
        let parts = declared.filter(|path| path.starts_with(".git/"));
        let places = parts.map(|path| match path.as_str() {
            GIT_CONFIG => self.git_config(scratch),
            path => Ok(Place {
                path: self.root.join(path),
                source: Source::Below(self.root.clone(), PathBuf::from(path)),
                access: Some(Access::Read),
            }),
        });
        places.collect()
    }

    /// A copy without credentials.
    fn git_config(&self, scratch: &Path) -> io::Result<Place> {
        let (config, copy) = (self.root.join(GIT_CONFIG), scratch.join("git-config"));
        let text = stagewright_files::read_text(&config, stagewright_files::CONFIGURATION).unwrap_or_default();
        fs::write(&copy, without_secrets(&text))?;
        Ok(Place { path: config, source: Source::Host(copy), access: Some(Access::Read) })
    }

    /// The history as it was when the files were captured: what can change is of the capture. Objects never change, and
    /// are the repository's own.
    fn captured_history(&self, path: &WorkspacePath, scratch: &Path) -> io::Result<Vec<Place>> {
        let place = |below: &Path, source, access| Place { path: self.root.join(below), source, access };
        let mut places = vec![place(path.as_path(), Source::Nothing, None)];
        for entry in self.files.join(path.as_path()).read_dir()? {
            let below = path.as_path().join(entry?.file_name());
            places.push(place(&below, Source::Below(self.files.clone(), below.clone()), Some(Access::Read)));
        }
        let objects = path.as_path().join("objects");
        places.push(place(&objects, Source::Below(self.root.clone(), objects.clone()), Some(Access::Read)));
        places.push(self.git_config(scratch)?);
        Ok(places)
    }

    fn sockets(&self) -> Result<Vec<Place>, CapabilityError> {
        let mut places = Vec::new();
        for socket in self.policy.sockets() {
            let path = if socket == "docker" { docker_socket(&self.environment) } else { PathBuf::from(socket) };
            // All that stages can have made lies in these.
            let writable = [self.root.clone(), self.config.scratch.clone(), self.config.kept.clone()];
            let found = GrantedSocket::find(&path, &writable).map_err(|error| not_granted(&error))?;
            let mut paths = BTreeSet::from([found.path().to_owned()]);
            // `/var/run` is a link inside, too.
            if !path.starts_with("/var/run") {
                paths.insert(path);
            }
            places.extend(paths.into_iter().map(|path| Place {
                path,
                source: Source::Socket(found.clone()),
                access: Some(Access::Write),
            }));
        }
        Ok(places)
    }
}

fn not_granted(error: &SocketError) -> CapabilityError {
    let (code, help) = match error {
        SocketError::Unreadable { .. } => {
            (ErrorCode::NotFound, "start what listens there, or correct `socket` in the stage's permissions")
        }
        SocketError::Other { .. } => {
            (ErrorCode::FailedPrecondition, "name the socket itself in `socket` of the stage's permissions")
        }
        SocketError::Linked { .. } => {
            (ErrorCode::PermissionDenied, "name in `socket` what the link leads to, if that is what is meant")
        }
    };
    CapabilityError::new(code, error.to_string()).with_help(help)
}

/// What the programs that are granted need of the machine. `environment`: theirs.
pub(crate) fn tools(rules: &[ProcessRule], environment: &BTreeMap<String, String>, workspace: &Path) -> Vec<Need> {
    let path = environment.get("PATH").map_or("", String::as_str);
    let mut found = BTreeSet::new();
    for rule in rules {
        match rule.program() {
            Some(name) if name.contains('/') && !name.starts_with('/') => {}
            Some(name) => found.extend(which(name, path)),
            None => {
                found.extend(WELL_KNOWN.iter().filter_map(|name| which(name, path)));
                let folders = std::env::split_paths(path).filter(|folder| folder.is_absolute());
                let entries = folders.filter_map(|folder| folder.read_dir().ok()).flatten().flatten();
                found.extend(entries.map(|entry| entry.path()));
            }
        }
    }
    let programs = found.into_iter().collect::<Vec<_>>();
    needs(&programs, Tools { env: environment, workspace })
}

/// A path, or any text, as one name that leads nowhere else.
fn name_of(path: &Path) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || "-_".contains(letter);
    let text = path.to_string_lossy();
    let kept = |at: usize, letter: char| plain(letter) || (letter == '.' && at > 0);
    text.chars().enumerate().map(|(at, letter)| if kept(at, letter) { letter } else { '%' }).collect()
}

fn failed(doing: &str, error: &io::Error) -> CapabilityError {
    CapabilityError::new(ErrorCode::Internal, format!("the sandbox can't be set up: could not {doing}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_a_path_leads_nowhere_else() {
        for (path, name) in [("/root/.cargo/git", "%root%.cargo%git"), ("..", "%."), (".", "%"), ("a b", "a%b")] {
            assert_eq!(name_of(Path::new(path)), name);
        }
    }
}
