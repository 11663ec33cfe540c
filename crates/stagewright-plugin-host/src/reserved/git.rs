//! Finds everything that git executes or trusts in a repository: its directories, its configuration, its hooks, and
//! everything that these refer to.
//!
//! Git itself isn't called: its answers would depend on the configuration that is being protected, and it refuses to open a
//! repository of another user. Where git decides by a condition (`includeIf`, a variable, the branch), every possible result
//! is included.

mod directory;
mod settings;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use self::directory::{directories_below, links};
use self::settings::{GitSettings, expanded};
use self::words::{missing_program, named_files, template};
use super::{Claim, Purpose};

/// The most bytes of a file that leads to a git directory, which contains a keyword and a path.
const POINTER: u64 = 8 * 1024;
/// The most claims of one repository. Each one in the workspace takes a mount in a sandbox.
const CLAIMS: usize = 1024;
/// The paths at which git may expect the machine's configuration.
const SYSTEM: [&str; 3] = ["/etc/gitconfig", "/usr/local/etc/gitconfig", "/opt/homebrew/etc/gitconfig"];
/// Variables with command lines that override git's configuration.
const COMMANDS: [&str; 11] = [
    "EDITOR",
    "GIT_ASKPASS",
    "GIT_EDITOR",
    "GIT_EXTERNAL_DIFF",
    "GIT_PAGER",
    "GIT_PROXY_COMMAND",
    "GIT_SEQUENCE_EDITOR",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "PAGER",
    "VISUAL",
];

/// The user's and the machine's configuration of git, which applies to every repository.
#[derive(Clone, Debug, Default)]
pub struct UserGit {
    home: Option<PathBuf>,
    claims: Vec<Claim>,
    settings: GitSettings,
}

impl UserGit {
    /// Reads the configuration that git would read with `environment`.
    ///
    /// # Errors
    /// When a configuration file is too large, or they include too many.
    pub fn read(environment: &BTreeMap<String, String>) -> io::Result<UserGit> {
        let variable = |name: &str| environment.get(name).filter(|value| !value.is_empty());
        let folder = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = folder("HOME");
        let named = ["GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"].into_iter().filter_map(folder);
        let own = home.iter().map(|home| home.join(".gitconfig"));
        let files: Vec<_> = named.chain(own).chain(SYSTEM.map(PathBuf::from)).collect();
        // These folders also contain ignore patterns, attributes and stored credentials.
        let folders = folder("XDG_CONFIG_HOME").into_iter().chain(home.iter().map(|home| home.join(".config")));
        let folders: Vec<_> = folders.map(|folder| folder.join("git")).collect();
        let read = files.iter().cloned().chain(folders.iter().map(|folder| folder.join("config")));
        let mut settings = GitSettings::read(read.collect(), home.as_deref())?;
        for (name, value) in environment {
            if let Some(number) = name.strip_prefix("GIT_CONFIG_KEY_") {
                let set = environment.get(&format!("GIT_CONFIG_VALUE_{number}"));
                settings.add(value, set.map_or("", String::as_str));
            } else if COMMANDS.contains(&name.as_str()) || name == "SSH_ASKPASS" {
                settings.add("environment.command", value);
            } else if name == "GIT_TEMPLATE_DIR" {
                settings.add("init.templatedir", value);
            }
        }
        let of = |purpose, paths: Vec<PathBuf>| paths.into_iter().map(move |path| Claim { purpose, path });
        let included = settings.included.iter().cloned().collect();
        let claims = of(Purpose::Settings, files).chain(of(Purpose::Private, folders));
        let claims = claims.chain(of(Purpose::Config, included)).collect();
        Ok(UserGit { home, claims, settings })
    }

    /// The claims of the configuration files themselves.
    pub fn claims(&self) -> &[Claim] {
        &self.claims
    }

    /// The claims of a repository, with its submodules and linked worktrees. `pointer`: its `.git`, which may be a folder, a
    /// file or a link, or a bare repository. Only files in `workspace` are claimed.
    ///
    /// # Errors
    /// When a configuration file is too large, or a limit on files, directories or claims is exceeded.
    pub fn repository(&self, workspace: &Path, pointer: &Path) -> io::Result<Vec<Claim>> {
        let has_name = pointer.file_name().is_some_and(|name| name.eq_ignore_ascii_case(".git"));
        let top = if has_name { pointer.parent().unwrap_or(pointer) } else { pointer };
        let [directory, common] = git_directories(pointer);
        let git = [pointer, &directory, &common].map(|path| (Purpose::Git, path.to_owned()));
        let mut found = RepositoryClaims { git: self, workspace, claims: BTreeSet::from(git) };
        let shared = found.directory(&common, None, None)?;
        found.directory(&directory, Some(top), Some(&shared))?;
        for tree in directories_below(&common.join("worktrees"))? {
            let pointer = line(&tree.join("gitdir")).map(|path| tree.join(path));
            found.working_tree(&tree, pointer, &shared)?;
        }
        links(&common, workspace, &mut found.claims)?;
        if directory != common {
            links(&directory, workspace, &mut found.claims)?;
        }
        if found.claims.len() > CLAIMS {
            let many =
                format!("git runs or reads more than {CLAIMS} files of the workspace for `{}`", pointer.display());
            return Err(io::Error::other(many));
        }
        Ok(found.claims.into_iter().map(|(purpose, path)| Claim { purpose, path }).collect())
    }
}

/// The claims of one repository so far.
struct RepositoryClaims<'a> {
    git: &'a UserGit,
    workspace: &'a Path,
    claims: BTreeSet<(Purpose, PathBuf)>,
}

impl RepositoryClaims<'_> {
    /// Adds the claims of a git directory and its submodules. Returns the directory's own settings.
    fn directory(
        &mut self,
        directory: &Path,
        top: Option<&Path>,
        shared: Option<&GitSettings>,
    ) -> io::Result<GitSettings> {
        let files = ["config", "config.worktree"].map(|name| directory.join(name));
        let own = GitSettings::read(files.to_vec(), self.git.home.as_deref())?;
        self.claims.extend(own.included.iter().map(|path| (Purpose::Config, path.clone())));
        // The configuration of a submodule names its working tree.
        let named = own.last("core.worktree").map(|path| directory.join(path));
        let trees: BTreeSet<&Path> = top.into_iter().chain(named.as_deref()).filter(|tree| tree.is_dir()).collect();
        for tree in trees.iter().copied().chain([directory]) {
            for settings in [Some(&own), shared, Some(&self.git.settings)].into_iter().flatten() {
                self.configured(settings, tree, tree != directory || top == Some(directory));
            }
        }
        for below in directories_below(&directory.join("modules"))? {
            let tree = GitSettings::read(vec![below.join("config")], self.git.home.as_deref())?;
            let pointer = tree.last("core.worktree").map(|path| below.join(path).join(".git"));
            self.working_tree(&below, pointer, &GitSettings::default())?;
        }
        Ok(own)
    }

    /// Adds the claims of a git directory with a working tree elsewhere, whose file `pointer` leads to it. Without that file,
    /// git doesn't use the directory. The file itself isn't claimed here, because a stage may have created it: the search for
    /// nested repositories decides about it.
    fn working_tree(&mut self, directory: &Path, pointer: Option<PathBuf>, shared: &GitSettings) -> io::Result<()> {
        let Some(pointer) = pointer.filter(|pointer| pointer.symlink_metadata().is_ok()) else { return Ok(()) };
        self.directory(directory, pointer.parent(), Some(shared)).map(drop)
    }

    /// Adds the claims of files that settings name, relative to a folder in which git runs programs. `is_tree`: whether
    /// hooks run there.
    fn configured(&mut self, settings: &GitSettings, folder: &Path, is_tree: bool) {
        let home = self.git.home.as_deref();
        // Settings of branches name no files, and a repository can have thousands.
        let values = settings.values.iter().filter(|(key, _)| !key.starts_with("branch."));
        for (key, value) in values {
            if key == "core.hookspath" {
                // With an empty value, git looks for hooks in `/`.
                if is_tree && !value.is_empty() {
                    self.claims.insert((Purpose::Hooks, folder.join(expanded(value, home))));
                }
            } else if let Some(template) = template(key, value, home) {
                let template = folder.join(template);
                if template.is_dir() {
                    self.claims.insert((Purpose::Hooks, template));
                }
            } else {
                let files = named_files(key, value, home, folder, self.workspace);
                let missing = missing_program(key, value, home, folder, self.workspace);
                // If the command line names existing files, its program isn't a missing file.
                let missing = missing.filter(|_| is_tree && files.is_empty());
                self.claims.extend(files.into_iter().chain(missing).map(|path| (Purpose::Program, path)));
            }
        }
    }
}

/// The git directory that a `.git` leads to, and the one that it shares with other worktrees, which may be the same.
pub fn git_directories(pointer: &Path) -> [PathBuf; 2] {
    let directory = led_by(pointer).unwrap_or_else(|| pointer.to_owned());
    let common = shared_by(&directory).unwrap_or_else(|| directory.clone());
    [directory, common]
}

/// The folder that a file named `.git` leads to; none when `.git` is a folder itself.
fn led_by(pointer: &Path) -> Option<PathBuf> {
    let text = line(pointer)?.into_os_string().into_vec();
    let path = text.strip_prefix(b"gitdir:")?.trim_ascii();
    Some(pointer.parent()?.join(OsString::from_vec(path.to_owned())))
}

/// The git directory of the repository to which a linked worktree belongs.
fn shared_by(directory: &Path) -> Option<PathBuf> {
    Some(directory.join(line(&directory.join("commondir"))?))
}

/// Reads a file that contains one path.
fn line(file: &Path) -> Option<PathBuf> {
    let text = stagewright_files::read(file, POINTER).ok()?;
    Some(PathBuf::from(OsString::from_vec(text.trim_ascii().to_owned())))
}

#[cfg(test)]
mod tests;
