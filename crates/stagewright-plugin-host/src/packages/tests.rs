use super::*;

/// A repository and a home beside it.
struct Machine {
    folder: tempfile::TempDir,
    variables: BTreeMap<String, String>,
}

impl Machine {
    fn new() -> Machine {
        let folder = tempfile::tempdir().unwrap();
        for name in ["repo", "home"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let home = folder.path().join("home").display().to_string();
        Machine { folder, variables: BTreeMap::from([("HOME".to_owned(), home)]) }
    }

    fn write(&self, path: &str, text: &str) -> &Machine {
        let path = self.folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    fn hosts(&self) -> PackageHosts {
        PackageHosts::read(&self.folder.path().join("repo"), &self.variables)
    }

    /// The open origins of a word: who names each, where, and the origin.
    fn named(&self, manager: PackageManager) -> Vec<(NamedBy, String, String)> {
        let hosts = self.hosts();
        let named = hosts.open().iter().filter(|named| named.manager == manager);
        let folder = self.folder.path().display().to_string();
        named.map(|named| (named.by, named.place.replace(&folder, ""), named.origin.to_string())).collect()
    }
}

fn by(by: NamedBy, place: &str, origin: &str) -> (NamedBy, String, String) {
    (by, place.to_owned(), origin.to_owned())
}

#[test]
fn cargo_reads_the_repository_the_folders_above_it_and_the_home() {
    let mut machine = Machine::new();
    machine
        .write("repo/.cargo/config.toml", "[registries.acme]\nindex = 'https://git.acme.test/index'\ntoken = 't'\n")
        .write(".cargo/config.toml", "[source.above]\nregistry = 'https://above.test/'\n")
        .write("home/.cargo/config.toml", "[source.m]\nregistry = 'sparse+https://u:p@m.test:8443/i/'\n");
    machine.variables.insert("CARGO_REGISTRIES_OTHER_INDEX".into(), "sparse+https://other.test/".into());
    let expected = [
        by(NamedBy::Machine, "/.cargo/config.toml:2", "https://above.test"),
        by(NamedBy::Repository, ".cargo/config.toml:2", "https://git.acme.test"),
        by(NamedBy::Machine, "/home/.cargo/config.toml:2", "https://m.test:8443"),
        by(NamedBy::Machine, "$CARGO_REGISTRIES_OTHER_INDEX", "https://other.test"),
    ];
    assert_eq!(machine.named(PackageManager::Cargo), expected);
    assert!(machine.hosts().origins(PackageManager::Cargo).len() == 3 + expected.len());
}

#[test]
fn npm_reads_the_repository_and_the_home() {
    let mut machine = Machine::new();
    machine
        .write("repo/.npmrc", "@acme:registry=https://acme.test/npm/\n; registry=https://off.test\nregistry=https://registry.npmjs.org/\n")
        .write("home/.npmrc", "# mine\nregistry = \"https://npm.test:4873/\"\n//npm.test/:_authToken=x\n");
    machine.variables.insert("NPM_CONFIG_REGISTRY".into(), "https://acme.test/".into());
    let expected = [
        // An origin that both name counts as the repository's.
        by(NamedBy::Repository, ".npmrc:1", "https://acme.test"),
        by(NamedBy::Machine, "/home/.npmrc:2", "https://npm.test:4873"),
    ];
    assert_eq!(machine.named(PackageManager::Npm), expected);
}

#[test]
fn pip_reads_the_home_and_variables() {
    let mut machine = Machine::new();
    let config = "[global]\ntimeout = 60\nextra_index_url =\n    https://one.test/simple\n    https://two.test/simple\n\
                  [install]\nproxy = http://proxy.test:1\n  https://no.test\n";
    machine.write("home/.config/pip/pip.conf", config);
    machine.variables.insert("PIP_INDEX_URL".into(), "https://u:p@mirror.test/simple".into());
    let expected = [
        by(NamedBy::Machine, "$PIP_INDEX_URL", "https://mirror.test"),
        by(NamedBy::Machine, "/home/.config/pip/pip.conf:3", "https://one.test"),
        by(NamedBy::Machine, "/home/.config/pip/pip.conf:3", "https://two.test"),
    ];
    assert_eq!(machine.named(PackageManager::Pip), expected);
}

/// A stage may write files of the repository.
#[test]
fn a_file_in_the_repository_is_the_repositorys_however_it_is_reached() {
    let mut machine = Machine::new();
    let repo = machine.folder.path().join("repo");
    machine
        .write("repo/venv/pip.conf", "[global]\nindex-url = https://venv.test/\n")
        .write("repo/ci/npmrc", "registry = https://ci.test/\n")
        .write("repo/shared.toml", "[registries.x]\nindex = 'https://linked.test/'\n");
    machine.variables.insert("VIRTUAL_ENV".into(), repo.join("venv").display().to_string());
    machine.variables.insert("npm_config_userconfig".into(), "ci/npmrc".into());
    std::fs::create_dir_all(machine.folder.path().join("home/.cargo")).unwrap();
    std::os::unix::fs::symlink(repo.join("shared.toml"), machine.folder.path().join("home/.cargo/config.toml"))
        .unwrap();
    for manager in PackageManager::ALL {
        let named = machine.named(manager);
        assert!(named.len() == 1 && named[0].0 == NamedBy::Repository, "{named:?}");
    }
}

#[test]
fn refused_origins_are_listed_as_closed() {
    let mut machine = Machine::new();
    machine
        .write("repo/.npmrc", "registry=http://127.0.0.1:4873/\n@a:registry=http://[::ffff:169.254.169.254]/\n")
        .write("home/.npmrc", "registry=http://localhost:4873/\n")
        .write("repo/.cargo/config.toml", "[registries.x]\nindex = 'sparse+http://metadata.google.internal/'\n");
    machine.variables.insert("PIP_INDEX_URL".into(), "http://0x7f.1:3141/simple http://2852039166/".into());
    let hosts = machine.hosts();
    assert_eq!(hosts.open(), []);
    assert_eq!(hosts.closed().len(), 6, "{:?}", hosts.closed());
    for manager in PackageManager::ALL {
        assert_eq!(hosts.origins(manager), PackageHosts::usual(manager).collect());
    }
}

#[test]
fn a_configuration_that_is_not_a_plain_file_is_unreadable() {
    let mut machine = Machine::new();
    let pipe = machine.folder.path().join("repo/.npmrc");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    std::fs::create_dir_all(machine.folder.path().join("home/.cargo")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", machine.folder.path().join("home/.cargo/config.toml")).unwrap();
    machine.variables.insert("PIP_CONFIG_FILE".into(), "/dev/null".into());
    let hosts = machine.hosts();
    assert_eq!(hosts.open(), []);
    assert_eq!(hosts.unreadable().len(), 2, "{:?}", hosts.unreadable());
}

#[test]
fn only_http_urls_with_a_plain_host_have_an_origin() {
    for url in [
        "ssh://git@example.test/index",
        "/srv/mirror",
        "https://",
        "https://${HOST}/npm",
        "git+https://x",
        "https://x.test./",
    ] {
        assert_eq!(origin_of(url), None, "{url}");
    }
}
