//! Where a program's installation is, and which parts of it a sandbox takes.
//!
//! A folder that holds a program often holds more: `~/.fly/bin/flyctl` lies beside `~/.fly/config.yml`. So nothing is
//! taken as a whole, except for packages of Node. Of an installation, the parts that programs are made of; of a version
//! manager, the parts where it keeps programs; of anything else, the program.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::folders::is_system;
use super::{Tools, absolute};
use crate::which;

/// Parts of an installation: programs, libraries, and what goes with them. Neither `etc` nor `conf`, `var` nor `data`.
const PARTS: [&str; 13] = [
    "bin",
    "sbin",
    "lib",
    "lib32",
    "lib64",
    "libexec",
    "include",
    "share",
    "jre",
    "jmods",
    "legal",
    "release",
    "pyvenv.cfg",
];
/// Further parts of what has a layout of its own, which is known by what it holds.
const LAYOUTS: [(&str, &[&str]); 6] = [
    // The Go toolchain. A `GOPATH` looks like it, and has no version.
    ("VERSION", &["VERSION", "go.env", "pkg", "src"]),
    // A Java runtime since 9.
    ("conf/security/java.security", &["conf/security", "conf/net.properties", "conf/logging.properties"]),
    // Maven; not its settings, which have passwords.
    ("boot", &["boot", "conf/logging"]),
    (".install", &[".install", "VERSION", "platform"]),
    ("host/fxr", &["dotnet", "host", "packs", "sdk", "sdk-manifests", "shared", "templates"]),
    ("conda-meta", &["ssl/cacert.pem", "ssl/cert.pem", "ssl/openssl.cnf"]),
];
/// Version managers and installers below a home, and where they keep programs. `*` is any name; what ends with `/` is
/// an installation, of which only [`PARTS`] are taken.
const MANAGERS: [(&str, &[&str]); 29] = [
    (ASDF, &["asdf.sh", "bin", "defaults", "lib", "libexec", "plugins", "shims", "installs/*/*/"]),
    (".bun", &["bin", "install/global/node_modules"]),
    (".cabal", &["bin", "store"]),
    (".composer", &["vendor"]),
    (".config/composer", &["vendor"]),
    (".config/yarn/global", &["node_modules"]),
    (".deno", &["bin"]),
    (".dotnet", &["dotnet", "host", "packs", "sdk", "sdk-manifests", "shared", "templates", "tools"]),
    (".fnm", &["node-versions/*/installation/"]),
    (".gem", &["ruby"]),
    (".ghcup", &["bin", "ghc", "hls"]),
    (".goenv", &["bin", "libexec", "plugins", "shims", "version", "versions/*/"]),
    (".jenv", &["bin", "libexec", "shims", "version", "versions/*/"]),
    (".juliaup", &["bin"]),
    (".krew", &["bin", "store"]),
    (".local/share/fnm", &["node-versions/*/installation/"]),
    (".local/share/mise", &["shims", "installs/*/*/"]),
    (".local/share/pipx", &["shared/", "venvs/*/"]),
    (UV, &["python/*/", "tools/*/"]),
    (".nodenv", &["bin", "libexec", "plugins", "shims", "version", "versions/*/"]),
    (".nvm", &["alias", "nvm-exec", "nvm.sh", "versions/node/*/", "versions/io.js/*/"]),
    (".proto", &["bin", "shims", "tools/*/*/"]),
    (".pyenv", &["bin", "libexec", "plugins", "pyenv.d", "shims", "version", "versions/*/"]),
    (".rbenv", &["bin", "libexec", "plugins", "rbenv.d", "shims", "version", "versions/*/"]),
    (".rustup", &["settings.toml", "toolchains", "update-hashes"]),
    (".sdkman", &["candidates/*/current/"]),
    (".tfenv", &["bin", "lib", "libexec", "share", "version", "versions/*/"]),
    (".volta", &["bin", "tools/image/*/*/"]),
    (".yarn", &["bin", "releases"]),
];
/// Where asdf and uv keep programs. These two find them without `PATH`, so that granting the manager has to bring them.
pub(super) const ASDF: &str = ".asdf";
pub(super) const UV: &str = ".local/share/uv";
/// Paths that one pattern may come to. Each is a mount.
const PATHS: usize = 100;
/// Folders whose folders are homes.
const OF_HOMES: [&str; 4] = ["/home", "/Users", "/var/home", "/export/home"];

impl Tools<'_> {
    /// What has to be there so that this program can start: none when it always is, or lies in the workspace.
    pub(super) fn places_of(&self, program: &Path) -> Vec<PathBuf> {
        let mut places = Vec::new();
        let mut next = Some(program.to_owned());
        // A link, what it leads to, the interpreter of that, and what the interpreter's name leads to.
        for _ in 0..4 {
            let Some(program) = next.take() else { break };
            // A way that leads into the workspace ends there: what goes on from it is what a branch or an earlier stage
            // laid, as a link in `node_modules/.bin` to a key of the user, or a script with that key as its
            // interpreter.
            let Some(real) = resolve(&program, self.workspace) else { break };
            places.extend(self.places_of_file(&program));
            match real {
                real if real != program => next = Some(real),
                real if !is_system(&real) => next = interpreter(&real),
                _ => {}
            }
        }
        places
    }

    fn places_of_file(&self, program: &Path) -> Vec<PathBuf> {
        if is_system(program) || !program.is_file() {
            return Vec::new();
        }
        if let Some((home, manager)) = self.manager_of(program) {
            let mut places = managed(&home, manager);
            if !places.iter().any(|place| program.starts_with(place)) {
                places.push(program.to_owned());
            }
            return places;
        }
        if let Some(package) = node_package(program) {
            return vec![package];
        }
        let folder = program.parent().unwrap_or(program);
        let root = if folder.file_name().is_some_and(|name| name == "bin") { folder.parent() } else { Some(folder) };
        let installed = root.filter(|root| !self.is_shared(root)).map(installation).unwrap_or_default();
        match installed.iter().any(|place| program.starts_with(place)) {
            true => installed,
            false => vec![program.to_owned()],
        }
    }

    /// The version manager in whose folder a path lies, after the home that has the folder.
    fn manager_of(&self, path: &Path) -> Option<(PathBuf, &'static str)> {
        let home = self.home_of(path)?;
        let (manager, _) = MANAGERS.iter().find(|(folder, _)| path.starts_with(home.join(folder)))?;
        Some((home, manager))
    }

    /// The name of the program that a shim of a version manager starts to find out which version is meant; none if
    /// `program` isn't a shim.
    pub(super) fn shim_manager(&self, program: &Path) -> Option<&'static str> {
        program.parent().filter(|folder| folder.ends_with("shims"))?;
        let (_, manager) = self.manager_of(program)?;
        Some(Path::new(manager).file_name()?.to_str()?.trim_start_matches('.'))
    }

    /// The programs of a version manager in the user's home.
    pub(super) fn managed_by(&self, manager: &str) -> Vec<PathBuf> {
        self.own_home().map(|home| managed(home, manager)).unwrap_or_default()
    }

    /// What has to be there so that shims can start their manager, which may be installed elsewhere.
    pub(super) fn places_of_manager(&self, manager: &str) -> Vec<PathBuf> {
        let program = which(manager, self.machine.get("PATH").map_or("", String::as_str));
        program.map(|program| self.places_of(&program)).unwrap_or_default()
    }

    /// The innermost home that a path lies in, of this user or another. Not what a pipeline calls a home.
    fn home_of(&self, path: &Path) -> Option<PathBuf> {
        let own = self.own_home().map(Path::to_owned);
        let homes = homes().iter().cloned().chain(own).filter(|home| path.starts_with(home) && path != home);
        homes.max_by_key(|home| home.components().count())
    }

    /// Folders that hold other things than one installation: homes, what holds homes or the workspace, and what
    /// programs of many kinds share.
    fn is_shared(&self, root: &Path) -> bool {
        let above = |of: &Path| of.starts_with(root);
        let named = root.file_name().is_some_and(|name| name == ".cargo" || name == ".local");
        let own_cargo = absolute(self.machine, "CARGO_HOME");
        let cargo_home =
            self.folder("CARGO_HOME", ".cargo").is_some_and(|home| home == root) || own_cargo == Some(root);
        // As `/opt` and `/srv`: each folder there is something else.
        let is_top = root.components().count() <= 2;
        let is_home =
            homes().iter().any(|home| home == root) || OF_HOMES.iter().any(|of| root.parent() == Some(Path::new(of)));
        is_top
            || is_home
            || named
            || cargo_home
            || [self.home(), self.own_home()].into_iter().flatten().any(above)
            || above(self.workspace)
    }
}

/// Where a path leads. None when it leads nowhere, or lies in the workspace or comes through it.
pub(super) fn resolve(path: &Path, workspace: &Path) -> Option<PathBuf> {
    let led = stagewright_files::follow(path).ok()?;
    (!led.meets(workspace) && led.real.exists()).then_some(led.real)
}

/// The file that a path stands for, as far as a sandbox goes along with it: one of the workspace, one that every
/// program sees, or one that no link of the workspace leads to.
pub fn real_program(path: &Path, workspace: &Path) -> Option<PathBuf> {
    let seen_anyway = || fs::canonicalize(path).ok().filter(|real| real.starts_with(workspace) || is_system(real));
    resolve(path, workspace).or_else(seen_anyway)
}

/// The parts of an installation that are there.
fn installation(root: &Path) -> Vec<PathBuf> {
    let special = LAYOUTS.iter().filter(|(mark, _)| root.join(mark).exists()).flat_map(|(_, parts)| parts.iter());
    let parts = PARTS.iter().chain(special).map(|part| root.join(part));
    parts.filter(|part| part.exists()).collect()
}

/// The package of Node that a program belongs to, which contains what was published and nothing of the user. Packages
/// that it depends on are below it.
fn node_package(program: &Path) -> Option<PathBuf> {
    let mut names = program.iter();
    let mut package: PathBuf = names.by_ref().take_while(|name| *name != "node_modules").collect();
    package.push("node_modules");
    // Links to programs, of which each leads to its own package.
    let name = names.next().filter(|name| *name != ".bin")?;
    package.push(name);
    if name.to_str().is_some_and(|name| name.starts_with('@')) {
        package.push(names.next()?);
    }
    package.is_dir().then_some(package)
}

/// Where a version manager keeps programs below a home.
fn managed(home: &Path, manager: &str) -> Vec<PathBuf> {
    let parts = MANAGERS.iter().filter(|(folder, _)| *folder == manager).flat_map(|(_, parts)| parts.iter());
    parts.flat_map(|part| expand(&home.join(manager), part)).collect()
}

/// The paths that a pattern of [`MANAGERS`] stands for.
fn expand(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let mut paths = vec![folder.to_owned()];
    for name in pattern.split('/').filter(|name| !name.is_empty()) {
        let next = paths.iter().flat_map(|path| match name {
            "*" => {
                let entries = path.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
                entries.filter(|path| path.is_dir()).collect::<Vec<_>>()
            }
            name => vec![path.join(name)],
        });
        paths = next.take(PATHS).collect();
    }
    match pattern.ends_with('/') {
        true => paths.iter().flat_map(|root| installation(root)).take(PATHS).collect(),
        false => paths.into_iter().filter(|path| path.exists()).collect(),
    }
}

/// The program that a script names in its first line, unless the system has it.
fn interpreter(script: &Path) -> Option<PathBuf> {
    let mut start = [0; 256];
    let read = stagewright_files::open(script).and_then(|mut file| file.read(&mut start)).ok()?;
    let line = std::str::from_utf8(start[..read].strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?).ok()?;
    let program = Path::new(line.split_whitespace().next()?);
    (program.is_absolute() && !is_system(program)).then(|| program.to_owned())
}

/// The homes of this machine's users.
fn homes() -> &'static [PathBuf] {
    static HOMES: OnceLock<Vec<PathBuf>> = OnceLock::new();
    HOMES.get_or_init(|| {
        let users = stagewright_files::read_text(Path::new("/etc/passwd"), stagewright_files::CONFIGURATION);
        let users = users.unwrap_or_default();
        let named = users.lines().filter_map(|line| line.split(':').nth(5)).map(PathBuf::from);
        // Many that are no people have `/`, or a folder of the system's.
        let named = named.filter(|home| home.is_absolute() && home.parent().is_some() && !is_system(home));
        let present = OF_HOMES.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
        let mut homes = named.chain(present.map(|entry| entry.path())).collect::<Vec<_>>();
        homes.sort();
        homes.dedup();
        homes
    })
}
