//! What programs need of the machine beyond what a stage is granted: the system's own files, and those of toolchains
//! that live in a home folder.
//!
//! The answers are looked up, not guessed: a need that isn't there is none. Whoever shows a plan can list them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Access, Place, Rule, Source};

/// Where every program may look: the system's programs and libraries, and the public parts of its configuration.
const SYSTEM: [&str; 3] = ["/usr", "/nix/store", "/gnu/store"];
/// Links into `/usr` on a current system, folders on an older one.
const MERGED: [&str; 6] = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
/// What runtimes ask to know how many threads to start.
const HARDWARE: [&str; 3] = ["/sys/devices/system/cpu", "/sys/fs/cgroup", "/sys/kernel/mm/transparent_hugepage"];
/// Of `/etc`, what tells no secret.
const PUBLIC: [&str; 46] = [
    "alternatives",
    "bash.bashrc",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "debian_version",
    "fonts",
    "gai.conf",
    "gitconfig",
    "group",
    "gss",
    "host.conf",
    "hostname",
    "hosts",
    "inputrc",
    "krb5.conf",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "locale.conf",
    "localtime",
    "login.defs",
    "lsb-release",
    "magic",
    "maven",
    "mime.types",
    "networks",
    "nsswitch.conf",
    "npmrc",
    "os-release",
    "passwd",
    "pip.conf",
    "pki",
    "profile",
    "profile.d",
    "protocols",
    "resolv.conf",
    "services",
    "shells",
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "timezone",
    "xdg",
];
/// The same, by how the names begin: runtimes with their version in it.
const PUBLIC_RUNTIMES: [&str; 6] = ["java", "node", "perl", "php", "python", "ruby"];
/// Folders of a home that hold keys and passwords beside programs, if they hold programs at all.
const PRIVATE: [&str; 8] = [".aws", ".azure", ".config", ".docker", ".gnupg", ".kube", ".local", ".ssh"];
/// A line that has one of these, in a file that is copied, is left out.
const SECRETS: [&str; 6] = ["auth", "password", "token", "secret", "credential", "private"];

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
#[serde(rename_all = "kebab-case")]
pub enum Provision {
    /// The machine's own, to be read and started.
    Execute,
    /// A copy of a configuration file without the lines that hold secrets.
    Copy,
    /// A folder that starts empty and is kept for the stage's next attempt: a download cache.
    Kept,
    /// The same, a file.
    KeptFile,
}

/// Who asks, and what it sees.
#[derive(Clone, Copy, Debug)]
pub struct Tools<'a> {
    /// The environment of the programs.
    pub env: &'a BTreeMap<String, String>,
    /// Grants say what of it may be used; nothing of it is a toolchain's.
    pub workspace: &'a Path,
}

/// The places and rules that every sandbox has. `scratch` as in [`Confinement`](super::Confinement).
pub fn system(scratch: &Path) -> (Vec<Place>, Vec<Rule>) {
    let mut places = Vec::new();
    let mut host = |path: &str, access| {
        let path = PathBuf::from(path);
        places.push(Place { source: Source::HostIfThere(path.clone()), path, access });
    };
    SYSTEM.iter().for_each(|path| host(path, Some(Access::Execute)));
    HARDWARE.iter().for_each(|path| host(path, Some(Access::Read)));
    host("/etc", None);
    for path in MERGED {
        match fs::read_link(path) {
            Ok(target) => places.push(Place { path: path.into(), source: Source::Link(target), access: None }),
            Err(_) => places.push(Place {
                path: path.into(),
                source: Source::HostIfThere(path.into()),
                access: Some(Access::Execute),
            }),
        }
    }
    for path in ["/tmp", "/var/tmp"] {
        let source = Source::Host(scratch.join("tmp"));
        places.push(Place { path: path.into(), source, access: Some(Access::Write) });
    }
    places.push(Place { path: "/var/run".into(), source: Source::Link("/run".into()), access: None });
    let named = PUBLIC.iter().map(|&name| name.to_owned());
    let etc = fs::read_dir("/etc").into_iter().flatten().flatten();
    let etc = etc.filter_map(|entry| entry.file_name().into_string().ok());
    let runtimes = etc.filter(|name| PUBLIC_RUNTIMES.iter().any(|start| name.starts_with(start)));
    let rules = named.chain(runtimes).map(|name| Rule { path: Path::new("/etc").join(name), access: Access::Read });
    (places, rules.collect())
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
        let real = fs::canonicalize(program).unwrap_or_else(|_| program.clone());
        for path in [program, &real] {
            if let Some(place) = tools.place_of(path) {
                add(place, Provision::Execute);
            }
        }
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

    /// What has to be there so that this program can start; none when it always is.
    fn place_of(&self, program: &Path) -> Option<PathBuf> {
        let system = SYSTEM.iter().chain(&MERGED).any(|folder| program.starts_with(folder));
        if system || program.starts_with(self.workspace) || !program.is_file() {
            return None;
        }
        let file = || Some(program.to_owned());
        if let Some(below) = self.home().and_then(|home| program.strip_prefix(home).ok()) {
            // Version managers keep shims, interpreters and libraries in one folder of the home.
            let first = below.components().next().map(|first| first.as_os_str().to_string_lossy().into_owned());
            let first = first.unwrap_or_default();
            let managed = first.starts_with('.') && first != ".cargo" && !PRIVATE.contains(&first.as_str());
            if managed && below.components().count() > 1 {
                return self.home().map(|home| home.join(first));
            }
        }
        match prefix(program) {
            Some(prefix) if !self.is_shared(prefix) => Some(prefix.to_owned()),
            _ => file(),
        }
    }

    /// Folders that hold other things than one toolchain: credentials, or what other programs keep.
    fn is_shared(&self, prefix: &Path) -> bool {
        let above = |of: &Path| of.starts_with(prefix);
        let named = prefix.file_name().is_some_and(|name| name == ".cargo" || name == ".local");
        let cargo_home = self.folder("CARGO_HOME", ".cargo").is_some_and(|home| home == prefix);
        let root = prefix.parent().is_none();
        root || named || cargo_home || self.home().is_some_and(above) || above(self.workspace)
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
                below_home(".npmrc", Provision::Copy);
                for cache in [".npm", ".cache/yarn", ".cache/node", ".local/share/pnpm"] {
                    below_home(cache, Provision::Kept);
                }
            }
            "python" | "pip" | "uv" | "poetry" | "pipx" => {
                below_home(".config/pip/pip.conf", Provision::Copy);
                below_home(".pip/pip.conf", Provision::Copy);
                for cache in [".cache/pip", ".cache/uv", ".cache/pypoetry"] {
                    below_home(cache, Provision::Kept);
                }
            }
            "git" => {
                below_home(".gitconfig", Provision::Copy);
                below_home(".config/git/config", Provision::Copy);
            }
            "go" => {
                below_home("go/pkg", Provision::Kept);
                below_home(".cache/go-build", Provision::Kept);
            }
            "mvn" => below_home(".m2/repository", Provision::Kept),
            "gradle" => below_home(".gradle/caches", Provision::Kept),
            "docker" => below_home(".docker/cli-plugins", Provision::Execute),
            _ => {}
        }
    }

    fn rust(&self, add: &mut dyn FnMut(PathBuf, Provision)) {
        // The variable may be the pipeline's, and grants none of the machine's other folders.
        if let Some(rustup) = self.folder("RUSTUP_HOME", ".rustup").filter(|folder| folder.join("toolchains").is_dir())
        {
            add(rustup, Provision::Execute);
        }
        let Some(cargo) = self.folder("CARGO_HOME", ".cargo") else { return };
        if cargo.join("bin").is_dir() {
            add(cargo.join("bin"), Provision::Execute);
        }
        for config in ["config.toml", "config"] {
            if cargo.join(config).is_file() {
                add(cargo.join(config), Provision::Copy);
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

/// `P` of `P/bin/NAME`.
fn prefix(program: &Path) -> Option<&Path> {
    let folder = program.parent()?;
    (folder.file_name()? == "bin").then(|| folder.parent()).flatten()
}

/// The text of a configuration file as a stage may see it: without the lines and sections that hold secrets, and
/// without user and password in addresses.
pub fn without_secrets(text: &str) -> String {
    let secret = |line: &str| {
        let line = line.to_ascii_lowercase();
        SECRETS.iter().any(|word| line.contains(word))
    };
    let mut hidden = false;
    let mut kept = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with('[') {
            hidden = secret(line);
        }
        if hidden || secret(line) {
            continue;
        }
        kept.push_str(&without_user(line));
        kept.push('\n');
    }
    kept
}

/// `scheme://user:password@host` as `scheme://host`.
fn without_user(line: &str) -> String {
    let mut rest = line;
    let mut kept = String::new();
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        kept.push_str(head);
        let end =
            tail.find(|letter: char| letter == '/' || letter.is_whitespace() || letter == '"').unwrap_or(tail.len());
        rest = match tail[..end].rfind('@') {
            Some(user) => &tail[user + 1..],
            None => tail,
        };
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn program(path: &Path) -> PathBuf {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_owned()
    }

    fn found(programs: &[PathBuf], home: &Path) -> Vec<(String, Provision)> {
        let env = BTreeMap::from([("HOME".to_owned(), home.display().to_string())]);
        let tools = Tools { env: &env, workspace: &home.join("project") };
        let needs = needs(programs, tools).into_iter();
        needs.map(|need| (need.path.strip_prefix(home).unwrap_or(&need.path).display().to_string(), need.how)).collect()
    }

    #[test]
    fn what_the_system_has_is_no_need() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(found(&["/bin/sh".into(), "/usr/bin/env".into()], home.path()), []);
    }

    #[test]
    fn cargo_gets_its_toolchains_and_caches_and_no_credentials() {
        let home = tempfile::tempdir().unwrap();
        let cargo = program(&home.path().join(".cargo/bin/cargo"));
        fs::create_dir_all(home.path().join(".rustup/toolchains")).unwrap();
        for file in ["config.toml", "credentials.toml"] {
            fs::write(home.path().join(".cargo").join(file), "").unwrap();
        }
        let expected = [
            (".cargo/.package-cache", Provision::KeptFile),
            (".cargo/.package-cache-mutate", Provision::KeptFile),
            (".cargo/bin", Provision::Execute),
            (".cargo/config.toml", Provision::Copy),
            (".cargo/git", Provision::Kept),
            (".cargo/registry", Provision::Kept),
            (".rustup", Provision::Execute),
        ];
        assert_eq!(found(&[cargo], home.path()), expected.map(|(path, how)| (path.to_owned(), how)));
    }

    #[test]
    fn a_home_of_cargo_elsewhere_is_no_toolchain_either() {
        let home = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let cargo = program(&elsewhere.path().join("rust/bin/cargo"));
        let env = BTreeMap::from([
            ("HOME".to_owned(), home.path().display().to_string()),
            ("CARGO_HOME".to_owned(), elsewhere.path().join("rust").display().to_string()),
        ]);
        let found = needs(&[cargo], Tools { env: &env, workspace: Path::new("/work") });
        let executable = found.iter().filter(|need| need.how == Provision::Execute).map(|need| need.path.as_path());
        assert_eq!(executable.collect::<Vec<_>>(), [elsewhere.path().join("rust/bin")]);
    }

    #[test]
    fn a_version_manager_is_one_folder_and_a_home_is_never_one() {
        let home = tempfile::tempdir().unwrap();
        let shim = program(&home.path().join(".pyenv/shims/tool"));
        assert_eq!(found(&[shim], home.path()), [(".pyenv".to_owned(), Provision::Execute)]);
        for (path, place) in [
            (".local/bin/tool", ".local/bin/tool"),
            ("bin/tool", "bin/tool"),
            (".ssh/tool", ".ssh/tool"),
            ("opt/jdk/bin/java", "opt/jdk"),
        ] {
            let tool = program(&home.path().join(path));
            assert_eq!(found(&[tool], home.path()), [(place.to_owned(), Provision::Execute)], "{path}");
        }
        let own = program(&home.path().join("project/bin/tool"));
        assert_eq!(found(&[own], home.path()), []);
    }

    #[test]
    fn configuration_is_copied_without_secrets() {
        let npmrc = "registry=https://ada:hunter2@npm.test/a\n//npm.test/:_authToken=hunter2\nsave-exact=true\n";
        assert_eq!(without_secrets(npmrc), "registry=https://npm.test/a\nsave-exact=true\n");
        let git =
            "[user]\n\tname = Ada\n[credential]\n\thelper = store --file hunter2\n[init]\n\tdefaultBranch = main\n";
        assert_eq!(without_secrets(git), "[user]\n\tname = Ada\n[init]\n\tdefaultBranch = main\n");
    }
}
