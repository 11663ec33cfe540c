//! Reads a repository with the `git` program, if libgit2 can't read it.
//!
//! `git status` runs programs that the repository's configuration names (filters, a file system monitor). It is
//! therefore started in a sandbox without network, with an empty environment, and with write access only to `/tmp`. The
//! monitor and hooks are turned off. Filters are kept, because they decide whether a file has changed; they come from
//! the configuration, which no stage can write.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stagewright_plugin_host::{Commit, git_directories};
use stagewright_process::sandbox::{
    Access, Confinement, Maker, MountMode, Place, Sandbox, Source, Tools, needs, system,
};
use stagewright_process::{Command, run_in_sandbox, which_outside};

use super::{Differences, GitReader, RepositoryState, Unanswered, content, digest};
use crate::repository::Repository;

/// How long one command may take. If it takes longer, git is most likely blocked by something in the repository.
const LIMIT: Duration = Duration::from_secs(120);
/// Object stores that a repository may borrow from.
const MOST_ALTERNATES: usize = 20;
/// Settings of the user and the machine that affect how files are compared. Others aren't passed on, because they
/// can name programs or contain credentials.
const COMPARING: [&str; 15] = [
    "core.attributesfile",
    "core.autocrlf",
    "core.bigfilethreshold",
    "core.eol",
    "core.excludesfile",
    "core.filemode",
    "core.ignorecase",
    "core.ignorestat",
    "core.longpaths",
    "core.precomposeunicode",
    "core.preloadindex",
    "core.safecrlf",
    "core.symlinks",
    "diff.ignoresubmodules",
    "index.threads",
];
/// Settings that override those of the repository.
const FIXED: [(&str, &str); 7] = [
    ("core.fsmonitor", "false"),
    ("core.hooksPath", "/dev/null"),
    ("core.trustctime", "true"),
    ("core.checkStat", "default"),
    ("core.quotePath", "false"),
    ("status.renames", "false"),
    // Where Git LFS stores the content that it has filtered.
    ("lfs.storage", "/tmp/lfs"),
];
/// The most paths in one command line.
const BATCH: usize = 500;

/// A sandbox that contains the repository and the `git` program.
pub(super) struct GitProgram {
    sandbox: Sandbox,
    git: PathBuf,
    env: Vec<(String, String)>,
    root: PathBuf,
}

impl GitProgram {
    /// Creates the sandbox, which ends when this value is dropped.
    pub(super) fn open(repository: &Repository) -> Result<GitProgram, Unanswered> {
        let unreadable = |what: &str| Unanswered::Unreadable(what.to_owned());
        let path = repository.environment.get("PATH").map_or("", String::as_str);
        let root = &repository.root;
        let git = which_outside("git", path, root).ok_or_else(|| unreadable("not installed"))?;
        let scratch = scratch(repository)
            .map_err(|error| unreadable(&format!("can't make a folder in {}: {error}", repository.state.display())))?;
        let settings = GitSettings::read(&repository.environment);
        let (mut places, rules) = system(&scratch);
        let tools = Tools { env: &repository.environment, machine: &repository.environment, workspace: root };
        let tools = needs(std::slice::from_ref(&git), tools);
        let tools = tools.into_iter().filter(|need| need.how == MountMode::Execute);
        places.extend(tools.map(|need| place(&need.path, Access::Execute)));
        places.extend(settings.files.iter().map(|file| place(file, Access::Read)));
        places.push(place(root, Access::Execute));
        places.extend(directories(root).iter().map(|directory| place(directory, Access::Read)));
        let confinement = Confinement { scratch: scratch.clone(), places, rules, ..Confinement::default() };
        let sandbox = Maker::new(repository.program.clone()).sandbox(&confinement).map_err(|error| {
            // The sandbox, which would have removed the folder, wasn't created.
            let _ = stagewright_files::remove_tree(&scratch);
            unreadable(&format!("{error}; {}", error.help()))
        })?;
        Ok(GitProgram { sandbox, git, env: environment(path, &settings), root: root.clone() })
    }

    /// Returns the output of a command; `folder` is relative to the root.
    fn run(&self, folder: &Path, args: &[&str], stdin: Option<Vec<u8>>) -> Result<Vec<u8>, Unanswered> {
        let (code, stdout, stderr) = self.attempt(folder, args, stdin)?;
        match code {
            Some(0) => Ok(stdout),
            _ => Err(Unanswered::Unreadable(format!("`git {}`: {}", args[0], stderr.trim()))),
        }
    }

    /// Returns the output of a command; none if it exits with 1, which means "not found".
    fn find(&self, args: &[&str]) -> Result<Option<String>, Unanswered> {
        match self.attempt(Path::new(""), args, None)? {
            (Some(0), stdout, _) => Ok(Some(String::from_utf8_lossy(&stdout).trim().to_owned())),
            (Some(1 | 128), ..) => Ok(None),
            (_, _, stderr) => Err(Unanswered::Unreadable(format!("`git {}`: {}", args[0], stderr.trim()))),
        }
    }

    fn attempt(&self, folder: &Path, args: &[&str], stdin: Option<Vec<u8>>) -> Result<Ended, Unanswered> {
        let command = Command {
            program: self.git.clone(),
            args: args.iter().map(ToString::to_string).collect(),
            env: self.env.clone(),
            current_dir: self.root.join(folder),
            stdin,
        };
        let output =
            run_in_sandbox(&self.sandbox, command, LIMIT).map_err(|error| Unanswered::Unreadable(error.to_string()))?;
        Ok((output.status.code, output.stdout, String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    /// The state of the repository, or of a submodule.
    fn state_of(&self, folder: &Path) -> Result<Option<RepositoryState>, Unanswered> {
        let listed = self.run(folder, &status("normal"), None)?;
        let status = StatusOutput::parse(&listed);
        let Some(commit) = status.commit else { return Ok(None) };
        let tag = self.attempt(folder, &["describe", "--tags", "--exact-match", "HEAD"], None)?;
        let tag = (tag.0 == Some(0)).then(|| String::from_utf8_lossy(&tag.1).trim().to_owned());
        let mut changed = BTreeMap::new();
        let mut has_untracked = !status.untracked.is_empty();
        for (path, kind) in status.tracked {
            let place = folder.join(&path);
            match kind {
                EntryKind::Submodule { is_only_untracked: true } => has_untracked = true,
                EntryKind::Submodule { .. } => drop(changed.insert(path, self.submodule(&place)?)),
                EntryKind::File => drop(changed.insert(path, content(&self.root.join(place)))),
            }
        }
        self.add_unwatched(folder, &mut changed)?;
        Ok(Some(RepositoryState { commit, branch: status.branch, tag, has_untracked, changed, is_exact: true }))
    }

    /// Identifies the checked-out commit of a submodule that differs.
    fn submodule(&self, folder: &Path) -> Result<String, Unanswered> {
        if self.root.join(folder).join(".git").symlink_metadata().is_err() {
            return Ok("gone".to_owned());
        }
        let state = self.state_of(folder)?;
        state.map_or_else(|| Ok("empty".to_owned()), |state| Ok(state.commit + &digest(&state.changed)?))
    }

    /// Adds files that differ from the index although git was configured to ignore their changes.
    fn add_unwatched(&self, folder: &Path, changed: &mut BTreeMap<PathBuf, String>) -> Result<(), Unanswered> {
        let listed = self.run(folder, &["ls-files", "-v", "-z", "--stage"], None)?;
        let unwatched = listed.split(|byte| *byte == 0).filter_map(Unwatched::parse);
        let there = |one: &Unwatched| self.root.join(folder).join(&one.path).symlink_metadata().is_ok();
        let unwatched = unwatched.filter(there).collect::<Vec<_>>();
        for batch in unwatched.chunks(BATCH) {
            let paths = batch.iter().map(|one| one.path.to_string_lossy().into_owned()).collect::<Vec<_>>();
            let args = ["hash-object", "--"].into_iter().chain(paths.iter().map(String::as_str)).collect::<Vec<_>>();
            let ids = self.run(folder, &args, None)?;
            let ids = String::from_utf8_lossy(&ids);
            for (one, id) in batch.iter().zip(ids.lines()).filter(|(one, id)| one.id != **id) {
                tracing::debug!(path = %one.path.display(), id, "an unwatched file differs from the index");
                changed.insert(one.path.clone(), content(&self.root.join(folder).join(&one.path)));
            }
        }
        Ok(())
    }
}

/// Id, parents, author, time and message of a commit, separated by NUL, which none of them can contain.
const FORMAT: &str = "--format=tformat:%H%x00%P%x00%an%x00%ct%x00%B";

fn parse_log(output: &[u8]) -> Result<Vec<Commit>, Unanswered> {
    let text = String::from_utf8_lossy(output);
    let fields = text.split('\0').collect::<Vec<_>>();
    let commits = fields.chunks_exact(5).map(|fields| {
        let seconds = fields[3].parse::<u64>().ok()?;
        Some(Commit {
            id: fields[0].to_owned(),
            parents: fields[1].split_whitespace().map(str::to_owned).collect(),
            author: fields[2].to_owned(),
            time_ms: seconds.saturating_mul(1000),
            message: fields[4].to_owned(),
        })
    });
    let unreadable = || Unanswered::Unreadable("`git log` has an unexpected format".to_owned());
    commits.collect::<Option<Vec<_>>>().ok_or_else(unreadable)
}

/// Exit code, output and errors.
type Ended = (Option<i32>, Vec<u8>, String);

impl GitReader for GitProgram {
    fn state(&self) -> Result<Option<RepositoryState>, Unanswered> {
        self.state_of(Path::new(""))
    }

    fn commit(&self, revision: &str) -> Result<Option<String>, Unanswered> {
        self.find(&["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{revision}^{{commit}}")])
    }

    fn reference(&self, name: &str) -> Result<Option<String>, Unanswered> {
        let named =
            self.find(&["rev-parse", "--symbolic-full-name", "--verify", "--quiet", "--end-of-options", name])?;
        // Nothing is printed for a commit that is named by its id.
        Ok(named.filter(|name| !name.is_empty()))
    }

    fn merge_base(&self, one: &str, other: &str) -> Result<Option<String>, Unanswered> {
        self.find(&["merge-base", one, other])
    }

    fn files(&self) -> Result<BTreeSet<PathBuf>, Unanswered> {
        let listed =
            self.run(Path::new(""), &["ls-files", "-z", "--cached", "--others", "--exclude-standard"], None)?;
        let names = listed.split(|&byte| byte == 0).filter(|name| !name.is_empty());
        Ok(names.map(|name| PathBuf::from(OsStr::from_bytes(name))).collect())
    }

    fn differences(&self, commit: &str) -> Result<Differences, Unanswered> {
        let args = ["diff", "--cached", "--raw", "--no-renames", "--ignore-submodules=none", "-z", commit];
        let raw = self.run(Path::new(""), &args, None)?;
        let mut found = Differences::none();
        let mut fields = raw.split(|byte| *byte == 0);
        // `:100644 100644 ID ID M`, and a path.
        while let (Some(modes), Some(path)) = (fields.next().filter(|modes| !modes.is_empty()), fields.next()) {
            let path = PathBuf::from(OsStr::from_bytes(path));
            if modes.split(|byte| *byte == b' ').take(2).any(|mode| mode.ends_with(b"160000")) {
                found.folders.insert(path.clone());
            }
            found.paths.insert(path);
        }
        let status = StatusOutput::parse(&self.run(Path::new(""), &status("all"), None)?);
        for (path, kind) in status.tracked {
            if matches!(kind, EntryKind::Submodule { .. }) {
                found.folders.insert(path.clone());
            }
            found.paths.insert(path);
        }
        found.paths.extend(status.untracked);
        let mut unwatched = BTreeMap::new();
        self.add_unwatched(Path::new(""), &mut unwatched)?;
        found.paths.extend(unwatched.into_keys());
        Ok(found)
    }

    fn log(&self, head: &str, since: Option<&str>, most: usize) -> Result<Vec<Commit>, Unanswered> {
        let (most, hidden) = (format!("--max-count={most}"), since.map(|since| format!("^{since}")));
        let fixed = ["log", "-z", "--date-order", "--no-show-signature", "--encoding=UTF-8", FORMAT, &most, head];
        let args = fixed.into_iter().chain(hidden.as_deref()).collect::<Vec<_>>();
        parse_log(&self.run(Path::new(""), &args, None)?)
    }

    fn is_shallow(&self) -> Result<bool, Unanswered> {
        Ok(self.run(Path::new(""), &["rev-parse", "--is-shallow-repository"], None)?.starts_with(b"true"))
    }

    fn remote(&self) -> Result<Option<String>, Unanswered> {
        self.find(&["config", "--get", "remote.origin.url"])
    }
}

fn status(untracked: &str) -> [&str; 6] {
    let untracked = if untracked == "all" { "--untracked-files=all" } else { "--untracked-files=normal" };
    ["status", "--porcelain=v2", "--branch", untracked, "--ignore-submodules=none", "-z"]
}

/// The output of `git status --porcelain=v2 --branch -z`; see git-status(1).
#[derive(Debug, Default, PartialEq)]
struct StatusOutput {
    commit: Option<String>,
    branch: Option<String>,
    untracked: Vec<PathBuf>,
    tracked: Vec<(PathBuf, EntryKind)>,
}

#[derive(Debug, PartialEq)]
enum EntryKind {
    File,
    Submodule { is_only_untracked: bool },
}

impl StatusOutput {
    fn parse(output: &[u8]) -> StatusOutput {
        let mut status = StatusOutput::default();
        let mut entries = output.split(|byte| *byte == 0);
        while let Some(entry) = entries.next() {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let path = |field: usize| {
                entry.splitn(field + 1, |byte| *byte == b' ').nth(field).map(|path| OsStr::from_bytes(path).into())
            };
            let kind = || match entry.split(|byte| *byte == b' ').nth(2) {
                Some(submodule @ [b'S', ..]) => {
                    let is_staged = entry.get(2) != Some(&b'.');
                    EntryKind::Submodule { is_only_untracked: !is_staged && submodule == b"S..U" }
                }
                _ => EntryKind::File,
            };
            match entry.first() {
                Some(b'#') => {
                    if let Some(commit) = entry.strip_prefix(b"# branch.oid ").filter(|id| *id != b"(initial)") {
                        status.commit = Some(text(commit));
                    } else if let Some(name) =
                        entry.strip_prefix(b"# branch.head ").filter(|name| *name != b"(detached)")
                    {
                        status.branch = Some(text(name));
                    }
                }
                Some(b'1') => status.tracked.extend(path(8).map(|path| (path, kind()))),
                Some(b'2') => {
                    status.tracked.extend(path(9).map(|path| (path, kind())));
                    status.tracked.extend(entries.next().map(|from| (OsStr::from_bytes(from).into(), EntryKind::File)));
                }
                Some(b'u') => status.tracked.extend(path(10).map(|path| (path, EntryKind::File))),
                Some(b'?') => status.untracked.extend(path(1)),
                _ => {}
            }
        }
        status
    }
}

/// An entry of `git ls-files -v --stage` whose changes git ignores.
struct Unwatched {
    id: String,
    path: PathBuf,
}

impl Unwatched {
    /// `S 100644 ID 0<TAB>PATH`. A lowercase letter is for `--assume-unchanged`, `S` for `--skip-worktree`. Links and
    /// submodules aren't hashed by their content.
    fn parse(entry: &[u8]) -> Option<Unwatched> {
        let tab = entry.iter().position(|byte| *byte == b'\t')?;
        let head = std::str::from_utf8(&entry[..tab]).ok()?;
        let mut fields = head.split(' ');
        let (tag, mode, id) = (fields.next()?, fields.next()?, fields.next()?);
        let is_unwatched = tag.eq_ignore_ascii_case("s") || tag.chars().all(char::is_lowercase);
        (is_unwatched && mode.starts_with("100"))
            .then(|| Unwatched { id: id.to_owned(), path: OsStr::from_bytes(&entry[tab + 1..]).into() })
    }
}

/// Creates a temporary folder, which the sandbox removes when it ends.
fn scratch(repository: &Repository) -> std::io::Result<PathBuf> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = format!("{}-git-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let folder = repository.state.join("scratch");
    fs::create_dir_all(&folder)?;
    let scratch = fs::canonicalize(folder)?.join(name);
    stagewright_files::private_folder(&scratch)?;
    fs::create_dir(scratch.join("tmp"))?;
    Ok(scratch)
}

fn place(path: &Path, access: Access) -> Place {
    Place { path: path.to_owned(), source: Source::HostIfThere(path.to_owned()), access: Some(access) }
}

/// The folders that git reads outside the working tree: those of a linked worktree, and alternate object stores.
fn directories(root: &Path) -> Vec<PathBuf> {
    let [directory, common] = git_directories(&root.join(".git"));
    let mut found = vec![directory, common.clone()];
    let mut stores = vec![common.join("objects")];
    while let Some(store) = stores.pop() {
        let text = stagewright_files::read_text(&store.join("info/alternates"), stagewright_files::CONFIGURATION);
        for line in text.unwrap_or_default().lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let borrowed = store.join(line);
            if found.len() < MOST_ALTERNATES && !found.contains(&borrowed) {
                stores.push(borrowed.clone());
                found.push(borrowed);
            }
        }
    }
    let mut real = found.iter().filter_map(|path| path.canonicalize().ok()).collect::<Vec<_>>();
    // Folders inside the working tree are already mounted.
    real.retain(|path| !path.starts_with(root));
    real
}

/// The settings of the user and the machine that are passed to the program, and the files that they name.
#[derive(Default)]
struct GitSettings {
    values: Vec<(String, String)>,
    files: Vec<PathBuf>,
}

impl GitSettings {
    fn read(environment: &BTreeMap<String, String>) -> GitSettings {
        let mut settings = GitSettings::default();
        let Ok(config) = user_config(environment).and_then(|mut config| config.snapshot()) else { return settings };
        if let Ok(entries) = config.entries(None) {
            // An entry that isn't UTF-8 can't be passed on.
            let _ = entries.for_each(|entry| {
                let (Ok(name), Ok(value)) = (entry.name(), entry.value()) else { return };
                if COMPARING.contains(&name) || name.starts_with("filter.") {
                    settings.values.push((name.to_owned(), value.to_owned()));
                }
            });
        }
        for (key, file) in [("core.excludesfile", "ignore"), ("core.attributesfile", "attributes")] {
            let of_user = git2::Config::find_xdg().ok().and_then(|config| Some(config.parent()?.join(file)));
            if let Some(path) = config.get_path(key).ok().or(of_user) {
                settings.values.push((key.to_owned(), path.display().to_string()));
                settings.files.push(path);
            }
        }
        settings
    }
}

/// The configuration of the machine and the user, from the files that git would read; see git-config(1).
fn user_config(environment: &BTreeMap<String, String>) -> Result<git2::Config, git2::Error> {
    use git2::ConfigLevel::{Global, System, XDG};
    let named = |name: &str| environment.get(name).map(PathBuf::from);
    let system = named("GIT_CONFIG_SYSTEM").or_else(|| git2::Config::find_system().ok());
    let system = system.filter(|_| !environment.contains_key("GIT_CONFIG_NOSYSTEM"));
    let (xdg, global) = match named("GIT_CONFIG_GLOBAL") {
        Some(file) => (None, Some(file)),
        None => (git2::Config::find_xdg().ok(), git2::Config::find_global().ok()),
    };
    let mut config = git2::Config::new()?;
    for (file, level) in [(system, System), (xdg, XDG), (global, Global)] {
        // Reading a pipe would block.
        if let Some(file) = file.filter(|file| file.is_file()) {
            config.add_file(&file, level, false)?;
        }
    }
    Ok(config)
}

/// The complete environment of the program.
fn environment(path: &str, settings: &GitSettings) -> Vec<(String, String)> {
    let own = [
        ("PATH", path),
        ("HOME", "/tmp"),
        ("LC_ALL", "C"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_NO_LAZY_FETCH", "1"),
        ("GIT_OPTIONAL_LOCKS", "0"),
        ("GIT_TERMINAL_PROMPT", "0"),
    ];
    let mut environment = own.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    // Allow repositories of other users: programs that their configuration names run in the sandbox, too.
    let fixed = FIXED.iter().chain(&[("safe.directory", "*")]);
    let fixed = fixed.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let all = settings.values.iter().cloned().chain(fixed).collect::<Vec<_>>();
    environment.push(("GIT_CONFIG_COUNT".to_owned(), all.len().to_string()));
    for (at, (name, value)) in all.into_iter().enumerate() {
        environment.push((format!("GIT_CONFIG_KEY_{at}"), name));
        environment.push((format!("GIT_CONFIG_VALUE_{at}"), value));
    }
    environment
}
