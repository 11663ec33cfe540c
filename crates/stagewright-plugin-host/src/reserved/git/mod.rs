//! What git runs and believes in a repository: its directories, its configuration, its hooks, and all that these lead to.
//!
//! Git isn't asked: its own answers would go through the configuration that is being protected, and it refuses to open a
//! repository of another user. Where git decides by a condition (`includeIf`, a variable, the branch), every answer that it
//! may give counts.

mod directory;
mod settings;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use self::directory::{directories_below, links};
use self::settings::{Settings, expanded};
use self::words::{missing_program, named_files, template};
use super::{Claim, Purpose};

/// Bytes of a file that leads to a git directory: a path and a word.
const POINTER: u64 = 8 * 1024;
/// Claims of one repository. Each of them that lies in the workspace is a mount of its own for programs.
const CLAIMS: usize = 1024;
/// Where git may look for the machine's configuration.
const SYSTEM: [&str; 3] = ["/etc/gitconfig", "/usr/local/etc/gitconfig", "/opt/homebrew/etc/gitconfig"];
/// Variables with command lines that git prefers to its configuration.
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

/// The user's and the machine's configuration of git, which holds in every repository.
#[derive(Clone, Debug, Default)]
pub struct UserGit {
    home: Option<PathBuf>,
    claims: Vec<Claim>,
    settings: Settings,
}

impl UserGit {
    /// Reads what `environment` leads to.
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
        // With ignored files, attributes and stored credentials.
        let folders = folder("XDG_CONFIG_HOME").into_iter().chain(home.iter().map(|home| home.join(".config")));
        let folders: Vec<_> = folders.map(|folder| folder.join("git")).collect();
        let read = files.iter().cloned().chain(folders.iter().map(|folder| folder.join("config")));
        let mut settings = Settings::read(read.collect(), home.as_deref())?;
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

    /// The configuration itself.
    pub fn claims(&self) -> &[Claim] {
        &self.claims
    }

    /// Of the repository that `pointer` stands for, with its submodules and linked working trees: a `.git`, whatever it is,
    /// or a repository without a working tree. Of files, only those in `workspace` are named.
    ///
    /// # Errors
    /// When a configuration file is too large, or there is more of anything than can be kept from stages.
    pub fn repository(&self, workspace: &Path, pointer: &Path) -> io::Result<Vec<Claim>> {
        let has_name = pointer.file_name().is_some_and(|name| name.eq_ignore_ascii_case(".git"));
        let top = if has_name { pointer.parent().unwrap_or(pointer) } else { pointer };
        let [directory, common] = git_directories(pointer);
        let git = [pointer, &directory, &common].map(|path| (Purpose::Git, path.to_owned()));
        let mut found = Found { git: self, workspace, claims: BTreeSet::from(git) };
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

/// What was found of one repository.
struct Found<'a> {
    git: &'a UserGit,
    workspace: &'a Path,
    claims: BTreeSet<(Purpose, PathBuf)>,
}

impl Found<'_> {
    /// Of a git directory, with those of its submodules. Gives its own settings.
    fn directory(&mut self, directory: &Path, top: Option<&Path>, shared: Option<&Settings>) -> io::Result<Settings> {
        let files = ["config", "config.worktree"].map(|name| directory.join(name));
        let own = Settings::read(files.to_vec(), self.git.home.as_deref())?;
        self.claims.extend(own.included.iter().map(|path| (Purpose::Config, path.clone())));
        // Git says where the working tree of a submodule is in the submodule's own configuration.
        let named = own.last("core.worktree").map(|path| directory.join(path));
        let trees: BTreeSet<&Path> = top.into_iter().chain(named.as_deref()).filter(|tree| tree.is_dir()).collect();
        for tree in trees.iter().copied().chain([directory]) {
            for settings in [Some(&own), shared, Some(&self.git.settings)].into_iter().flatten() {
                self.configured(settings, tree, tree != directory || top == Some(directory));
            }
        }
        for below in directories_below(&directory.join("modules"))? {
            let tree = Settings::read(vec![below.join("config")], self.git.home.as_deref())?;
            let pointer = tree.last("core.worktree").map(|path| below.join(path).join(".git"));
            self.working_tree(&below, pointer, &Settings::default())?;
        }
        Ok(own)
    }

    /// Of a git directory that a file in a working tree leads to. Without that file, git doesn't go there; the file itself is
    /// looked for in what is granted, as a stage may have made it.
    fn working_tree(&mut self, directory: &Path, pointer: Option<PathBuf>, shared: &Settings) -> io::Result<()> {
        let Some(pointer) = pointer.filter(|pointer| pointer.symlink_metadata().is_ok()) else { return Ok(()) };
        self.directory(directory, pointer.parent(), Some(shared)).map(drop)
    }

    /// What settings name, seen from a folder in which git runs programs. `is_tree`: hooks run there.
    fn configured(&mut self, settings: &Settings, folder: &Path, is_tree: bool) {
        let home = self.git.home.as_deref();
        // Names of branches, of which a repository can have thousands.
        let values = settings.values.iter().filter(|(key, _)| !key.starts_with("branch."));
        for (key, value) in values {
            if key == "core.hookspath" {
                // An empty one is none.
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
                // A command line that names files is one of a program that is there.
                let missing = missing.filter(|_| is_tree && files.is_empty());
                self.claims.extend(files.into_iter().chain(missing).map(|path| (Purpose::Program, path)));
            }
        }
    }
}

/// The git directory that a `.git` stands for, and the one that it shares with other working trees, which may be the same.
pub fn git_directories(pointer: &Path) -> [PathBuf; 2] {
    let directory = led_by(pointer).unwrap_or_else(|| pointer.to_owned());
    let common = shared_by(&directory).unwrap_or_else(|| directory.clone());
    [directory, common]
}

/// The folder that a file named `.git` leads to; none when it is a folder itself.
fn led_by(pointer: &Path) -> Option<PathBuf> {
    let text = line(pointer)?.into_os_string().into_vec();
    let path = text.strip_prefix(b"gitdir:")?.trim_ascii();
    Some(pointer.parent()?.join(OsString::from_vec(path.to_owned())))
}

/// The git directory of the repository that a working tree was added to.
fn shared_by(directory: &Path) -> Option<PathBuf> {
    Some(directory.join(line(&directory.join("commondir"))?))
}

/// A file of one line, as the path that it is.
fn line(file: &Path) -> Option<PathBuf> {
    let text = stagewright_files::read(file, POINTER).ok()?;
    Some(PathBuf::from(OsString::from_vec(text.trim_ascii().to_owned())))
}

#[cfg(test)]
mod tests;
