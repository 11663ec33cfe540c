//! What programs need of the machine beyond what a stage is granted: the system's own files, and those of toolchains
//! that live in a home folder.
//!
//! Only files that exist are returned, so that a plan can list them.
//!
//! Two kinds of text have no say in what of the machine is opened: files of the workspace, which branches and earlier
//! stages make, and variables that the pipeline sets. What lies in the workspace is there by grants alone, so no search
//! leads through it, whether by a folder of `PATH`, a link or the first line of a script; and where programs are looked
//! for is what the engine's own environment says.

mod configs;
mod folders;
mod install;
mod system;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub use configs::client_configs;
pub use folders::system_folders;
pub use install::real_program;
use install::{ASDF, UV, resolve};
pub use system::{machine_configs, system};

/// Something of the machine that a program needs, and that its sandbox gets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ToolMount {
    /// The path, which is the same inside of the sandbox and outside.
    pub path: PathBuf,
    /// In which form.
    pub how: MountMode,
    /// The program that it is for.
    pub program: String,
}

/// In which form a sandbox gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MountMode {
    /// The machine's own, to be read and started.
    Execute,
    /// A copy of a configuration file, of which only known keys without credentials are left.
    Copy(ConfigFormat),
    /// A folder that starts empty and is kept for the stage's next attempt: a download cache.
    Kept,
    /// The same, a file.
    KeptFile,
}

/// Whose configuration a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigFormat {
    /// asdf's `.asdfrc`.
    Asdf,
    /// Cargo's `config.toml`.
    Cargo,
    /// git's.
    Git,
    /// `.npmrc`.
    Npm,
    /// `php.ini`, or a folder of such.
    Php,
    /// `pip.conf`.
    Pip,
    /// `.tool-versions`, which names the version of each program.
    ToolVersions,
    /// Any other, of which nothing is known to be harmless: this text stands in its place.
    Other(&'static str),
}

/// A setting in the home of programs that leads a client to its kept cache.
#[derive(Clone, Copy, Debug)]
pub struct CacheSetting {
    /// The cache, relative to the home.
    pub cache: &'static str,
    /// The file with the setting, relative to the home.
    pub file: &'static str,
    /// What precedes the path in the file.
    pub key: &'static str,
    /// The folder that is set, relative to the cache.
    pub folder: &'static str,
}

/// For clients that otherwise look for a place of their own. pnpm links a file of the repository's root to the home, to find
/// out whether its store can be there, and fails where a stage may not write to that root. It reads `rc` before version 11.
pub const CACHE_SETTINGS: [CacheSetting; 2] = [
    CacheSetting { cache: PNPM, file: ".config/pnpm/rc", key: "store-dir=", folder: "store" },
    CacheSetting { cache: PNPM, file: ".config/pnpm/config.yaml", key: "storeDir: ", folder: "store" },
];
/// Where pnpm keeps its store, and versions of itself.
const PNPM: &str = ".local/share/pnpm";

/// Who asks, and what it sees.
#[derive(Clone, Copy, Debug)]
pub struct Tools<'a> {
    /// The environment of the programs: where they look for what is kept for them.
    pub env: &'a BTreeMap<String, String>,
    /// The engine's own environment: what it names can be opened, and nothing else that `env` does.
    pub machine: &'a BTreeMap<String, String>,
    /// Grants say what of it may be used; nothing of it is a toolchain's.
    pub workspace: &'a Path,
}

/// What these programs need; each an absolute path, as it was found.
pub fn needs(programs: &[PathBuf], tools: Tools<'_>) -> Vec<ToolMount> {
    let real = std::fs::canonicalize(tools.workspace);
    let tools = Tools { workspace: real.as_deref().unwrap_or(tools.workspace), ..tools };
    let mut found: BTreeSet<ToolMount> = BTreeSet::new();
    for program in programs {
        let name = program.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let mut add = |path: PathBuf, how| {
            // What two programs want is there once.
            if !found.iter().any(|need| need.path == path && need.how == how) {
                found.insert(ToolMount { path, how, program: name.clone() });
            }
        };
        tools.places_of(program).into_iter().for_each(|place| add(place, MountMode::Execute));
        tools.profile(&name, &mut add);
        if let Some(manager) = tools.shim_manager(program) {
            tools.places_of_manager(manager).into_iter().for_each(|place| add(place, MountMode::Execute));
            tools.profile(manager, &mut add);
        }
    }
    // A folder that a variable of the machine names, or a part of an installation, may itself lead into the workspace.
    // What is kept begins empty, and shows nothing.
    let is_kept = |need: &ToolMount| matches!(need.how, MountMode::Kept | MountMode::KeptFile);
    found.retain(|need| is_kept(need) || resolve(&need.path, tools.workspace).is_some());
    // A file below a folder that is there anyway is no need of its own.
    let folders = found.iter().filter(|need| need.how == MountMode::Execute).map(|need| need.path.clone());
    let folders = folders.collect::<BTreeSet<_>>();
    let covered = |path: &Path| path.ancestors().skip(1).any(|folder| folders.contains(folder));
    found.into_iter().filter(|need| need.how != MountMode::Execute || !covered(&need.path)).collect()
}

impl Tools<'_> {
    /// Of the programs.
    fn home(&self) -> Option<&Path> {
        absolute(self.env, "HOME")
    }

    /// Of the user who runs the engine.
    fn own_home(&self) -> Option<&Path> {
        absolute(self.machine, "HOME")
    }

    /// Where programs look: a folder that a variable names, or else one below the home.
    fn folder(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        absolute(self.env, variable).map(Path::to_owned).or_else(|| Some(self.home()?.join(below_home)))
    }

    /// The same, if it is one that the machine has for this, and not one that a pipeline calls so.
    fn own_folder(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        let own =
            [absolute(self.machine, variable).map(Path::to_owned), self.own_home().map(|home| home.join(below_home))];
        self.folder(variable, below_home).filter(|folder| own.iter().flatten().any(|own| own == folder))
    }

    /// What well-known programs want beside themselves.
    fn profile(&self, name: &str, add: &mut dyn FnMut(PathBuf, MountMode)) {
        let mut below_home = |path: &str, how| {
            if let Some(home) = self.home() {
                let is_kept = matches!(how, MountMode::Kept | MountMode::KeptFile);
                let path = home.join(path);
                if is_kept || (self.own_home() == Some(home) && path.exists()) {
                    add(path, how);
                }
            }
        };
        let stem = name.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
        match stem {
            "cargo" | "rustc" | "rustup" | "rustfmt" | "rustdoc" | "clippy-driver" => self.rust(add),
            "node" | "npm" | "npx" | "yarn" | "pnpm" | "corepack" => {
                below_home(".npmrc", MountMode::Copy(ConfigFormat::Npm));
                for cache in [".npm", ".cache/yarn", ".yarn/berry", ".cache/node", ".cache/pnpm", PNPM] {
                    below_home(cache, MountMode::Kept);
                }
            }
            "asdf" => {
                below_home(".asdfrc", MountMode::Copy(ConfigFormat::Asdf));
                below_home(".tool-versions", MountMode::Copy(ConfigFormat::ToolVersions));
                self.managed_by(ASDF).into_iter().for_each(|place| add(place, MountMode::Execute));
            }
            "python" | "pip" | "uv" | "poetry" | "pipx" => {
                below_home(".config/pip/pip.conf", MountMode::Copy(ConfigFormat::Pip));
                below_home(".pip/pip.conf", MountMode::Copy(ConfigFormat::Pip));
                for cache in [".cache/pip", ".cache/uv", ".cache/pypoetry"] {
                    below_home(cache, MountMode::Kept);
                }
                if stem == "uv" {
                    self.managed_by(UV).into_iter().for_each(|place| add(place, MountMode::Execute));
                }
            }
            "git" => {
                below_home(".gitconfig", MountMode::Copy(ConfigFormat::Git));
                below_home(".config/git/config", MountMode::Copy(ConfigFormat::Git));
            }
            "go" => {
                below_home("go/pkg", MountMode::Kept);
                below_home(".cache/go-build", MountMode::Kept);
            }
            "mvn" | "gradle" | "sbt" => {
                match stem {
                    "mvn" => below_home(".m2/repository", MountMode::Kept),
                    "gradle" => below_home(".gradle/caches", MountMode::Kept),
                    _ => {}
                }
                let own = |home: &&String| self.machine.get("JAVA_HOME") == Some(*home);
                let java = self.env.get("JAVA_HOME").filter(own).map(|home| Path::new(home).join("bin/java"));
                let places = java.map(|java| self.places_of(&java)).unwrap_or_default();
                places.into_iter().for_each(|place| add(place, MountMode::Execute));
            }
            "docker" => below_home(".docker/cli-plugins", MountMode::Execute),
            _ => {}
        }
    }

    fn rust(&self, add: &mut dyn FnMut(PathBuf, MountMode)) {
        let rustup = self.own_folder("RUSTUP_HOME", ".rustup");
        if let Some(rustup) = rustup.filter(|folder| folder.join("toolchains").is_dir()) {
            let parts = ["toolchains", "settings.toml", "update-hashes"].map(|part| rustup.join(part));
            parts.into_iter().filter(|part| part.exists()).for_each(|part| add(part, MountMode::Execute));
        }
        if let Some(cargo) = self.own_folder("CARGO_HOME", ".cargo") {
            if cargo.join("bin").is_dir() {
                add(cargo.join("bin"), MountMode::Execute);
            }
            for config in ["config.toml", "config"] {
                if cargo.join(config).is_file() {
                    add(cargo.join(config), MountMode::Copy(ConfigFormat::Cargo));
                }
            }
        }
        let Some(cargo) = self.folder("CARGO_HOME", ".cargo") else { return };
        for cache in ["registry", "git"] {
            add(cargo.join(cache), MountMode::Kept);
        }
        // Cargo's locks over what is kept: stages of a matrix share it.
        for lock in [".package-cache", ".package-cache-mutate"] {
            add(cargo.join(lock), MountMode::KeptFile);
        }
    }
}

/// A variable that is an absolute path.
fn absolute<'a>(environment: &'a BTreeMap<String, String>, variable: &str) -> Option<&'a Path> {
    environment.get(variable).map(Path::new).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests;
