//! What programs need of the machine beyond what a stage is granted: the system's own files, and those of toolchains
//! that live in a home folder.
//!
//! The answers are looked up, not guessed: a need that isn't there is none. Whoever shows a plan can list them.

mod install;
mod system;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use system::{machine_configs, system};

/// What a program needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// Where, inside as well as outside.
    pub path: PathBuf,
    /// How it gets there.
    pub how: Provision,
    /// The program that it is for.
    pub program: String,
}

/// How a need is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "&'static str")]
pub enum Provision {
    /// The machine's own, to be read and started.
    Execute,
    /// A copy of a configuration file, of which only known keys without credentials are left.
    Copy(ConfigFormat),
    /// A folder that starts empty and is kept for the stage's next attempt: a download cache.
    Kept,
    /// The same, a file.
    KeptFile,
}

impl From<Provision> for &'static str {
    fn from(how: Provision) -> &'static str {
        match how {
            Provision::Execute => "execute",
            Provision::Copy(_) => "copy",
            Provision::Kept => "kept",
            Provision::KeptFile => "kept-file",
        }
    }
}

/// Whose configuration a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigFormat {
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
}

/// Who asks, and what it sees.
#[derive(Clone, Copy, Debug)]
pub struct Tools<'a> {
    /// The environment of the programs.
    pub env: &'a BTreeMap<String, String>,
    /// Grants say what of it may be used; nothing of it is a toolchain's.
    pub workspace: &'a Path,
}

/// What these programs need; each an absolute path, as it was found.
pub fn needs(programs: &[PathBuf], tools: Tools<'_>) -> Vec<Need> {
    let mut found: BTreeSet<Need> = BTreeSet::new();
    for program in programs {
        let name = program.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let mut add = |path: PathBuf, how| {
            // What two programs want is there once.
            if !found.iter().any(|need| need.path == path && need.how == how) {
                found.insert(Need { path, how, program: name.clone() });
            }
        };
        tools.places_of(program).into_iter().for_each(|place| add(place, Provision::Execute));
        tools.profile(&name, &mut add);
    }
    // A file below a folder that is there anyway is no need of its own.
    let folders = found.iter().filter(|need| need.how == Provision::Execute).map(|need| need.path.clone());
    let folders = folders.collect::<BTreeSet<_>>();
    let covered = |path: &Path| path.ancestors().skip(1).any(|folder| folders.contains(folder));
    found.into_iter().filter(|need| need.how != Provision::Execute || !covered(&need.path)).collect()
}

impl Tools<'_> {
    fn home(&self) -> Option<&Path> {
        self.env.get("HOME").map(Path::new).filter(|home| home.is_absolute())
    }

    /// A folder that a variable names, or else one below the home.
    fn folder(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        let named = self.env.get(variable).map(PathBuf::from).filter(|path| path.is_absolute());
        named.or_else(|| Some(self.home()?.join(below_home)))
    }

    /// What well-known programs want beside themselves.
    fn profile(&self, name: &str, add: &mut dyn FnMut(PathBuf, Provision)) {
        let mut below_home = |path: &str, how| {
            if let Some(home) = self.home() {
                let path = home.join(path);
                if matches!(how, Provision::Kept | Provision::KeptFile) || path.exists() {
                    add(path, how);
                }
            }
        };
        let stem = name.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
        match stem {
            "cargo" | "rustc" | "rustup" | "rustfmt" | "rustdoc" | "clippy-driver" => self.rust(add),
            "node" | "npm" | "npx" | "yarn" | "pnpm" | "corepack" => {
                below_home(".npmrc", Provision::Copy(ConfigFormat::Npm));
                for cache in [".npm", ".cache/yarn", ".cache/node", ".local/share/pnpm"] {
                    below_home(cache, Provision::Kept);
                }
            }
            "python" | "pip" | "uv" | "poetry" | "pipx" => {
                below_home(".config/pip/pip.conf", Provision::Copy(ConfigFormat::Pip));
                below_home(".pip/pip.conf", Provision::Copy(ConfigFormat::Pip));
                for cache in [".cache/pip", ".cache/uv", ".cache/pypoetry"] {
                    below_home(cache, Provision::Kept);
                }
            }
            "git" => {
                below_home(".gitconfig", Provision::Copy(ConfigFormat::Git));
                below_home(".config/git/config", Provision::Copy(ConfigFormat::Git));
            }
            "go" => {
                below_home("go/pkg", Provision::Kept);
                below_home(".cache/go-build", Provision::Kept);
            }
            "mvn" | "gradle" | "sbt" => {
                match stem {
                    "mvn" => below_home(".m2/repository", Provision::Kept),
                    "gradle" => below_home(".gradle/caches", Provision::Kept),
                    _ => {}
                }
                let java = self.env.get("JAVA_HOME").map(|home| Path::new(home).join("bin/java"));
                let places = java.map(|java| self.places_of(&java)).unwrap_or_default();
                places.into_iter().for_each(|place| add(place, Provision::Execute));
            }
            "docker" => below_home(".docker/cli-plugins", Provision::Execute),
            _ => {}
        }
    }

    fn rust(&self, add: &mut dyn FnMut(PathBuf, Provision)) {
        // The variable may be the pipeline's, and grants none of the machine's other folders.
        if let Some(rustup) = self.folder("RUSTUP_HOME", ".rustup").filter(|folder| folder.join("toolchains").is_dir())
        {
            let parts = ["toolchains", "settings.toml", "update-hashes"].map(|part| rustup.join(part));
            parts.into_iter().filter(|part| part.exists()).for_each(|part| add(part, Provision::Execute));
        }
        let Some(cargo) = self.folder("CARGO_HOME", ".cargo") else { return };
        if cargo.join("bin").is_dir() {
            add(cargo.join("bin"), Provision::Execute);
        }
        for config in ["config.toml", "config"] {
            if cargo.join(config).is_file() {
                add(cargo.join(config), Provision::Copy(ConfigFormat::Cargo));
            }
        }
        for cache in ["registry", "git"] {
            add(cargo.join(cache), Provision::Kept);
        }
        // Cargo's locks over what is kept: stages of a matrix share it.
        for lock in [".package-cache", ".package-cache-mutate"] {
            add(cargo.join(lock), Provision::KeptFile);
        }
    }
}

#[cfg(test)]
mod tests;
