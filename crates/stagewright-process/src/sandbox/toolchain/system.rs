//! What every program sees of the machine.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::{Access, Place, Rule, Source};
use super::folders::{MERGED, SYSTEM, is_system};
use super::{ConfigFormat, client_configs};

/// What runtimes ask to know how many threads to start.
const HARDWARE: [&str; 3] = ["/sys/devices/system/cpu", "/sys/fs/cgroup", "/sys/kernel/mm/transparent_hugepage"];
/// Of `/etc`, what programs need and what has no place for a secret: neither the shells' profiles, which export
/// variables, nor the configuration of services and clients.
const PUBLIC: [&str; 43] = [
    "alternatives",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "debian_version",
    "fonts",
    "gai.conf",
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
    "maven/logging",
    "maven/m2.conf",
    "mime.types",
    "networks",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "perl",
    "pki/ca-trust",
    "pki/java",
    "pki/tls/cert.pem",
    "pki/tls/certs",
    "pki/tls/openssl.cnf",
    "protocols",
    "resolv.conf",
    "services",
    "shells",
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/openssl.cnf",
];
const PUBLIC_TOO: [&str; 2] = ["terminfo", "timezone"];
/// What a login shell complains of when it can't read it. It exports variables, so that it is empty.
const PROFILE: &str = "/etc/profile";
/// Folders like `/etc` below `/usr`, of which the same parts are public and nothing else is.
const ETC_TOO: [&str; 2] = ["/usr/etc", "/usr/local/etc"];
/// Configuration of clients in `/etc` and folders like it, of which programs see a copy; see [`client_configs`] for
/// what lies elsewhere.
const CONFIGS: [(&str, ConfigFormat); 12] = [
    ("/etc/gitconfig", ConfigFormat::Git),
    ("/usr/etc/gitconfig", ConfigFormat::Git),
    ("/usr/local/etc/gitconfig", ConfigFormat::Git),
    ("/etc/npmrc", ConfigFormat::Npm),
    ("/usr/etc/npmrc", ConfigFormat::Npm),
    ("/usr/local/etc/npmrc", ConfigFormat::Npm),
    ("/etc/php", ConfigFormat::Php),
    ("/etc/php.d", ConfigFormat::Php),
    ("/etc/php.ini", ConfigFormat::Php),
    ("/usr/local/etc/php", ConfigFormat::Php),
    ("/etc/pip.conf", ConfigFormat::Pip),
    ("/etc/xdg/pip/pip.conf", ConfigFormat::Pip),
];

/// The places and rules that every sandbox has. `scratch` as in [`Confinement`](crate::sandbox::Confinement).
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
    ETC_TOO.iter().for_each(|etc| places.extend(public_parts(Path::new(etc))));
    for path in ["/tmp", "/var/tmp"] {
        let source = Source::Host(scratch.join("tmp"));
        places.push(Place { path: path.into(), source, access: Some(Access::Write) });
    }
    places.push(Place { path: "/var/run".into(), source: Source::Link("/run".into()), access: None });
    if Path::new(PROFILE).is_file() {
        places.push(Place { path: PROFILE.into(), source: Source::Nothing, access: Some(Access::Read) });
    }
    let rules = public(Path::new("/etc")).map(|path| Rule { path, access: Access::Read });
    (places, rules.collect())
}

/// What of a folder like `/etc` everybody may read, there or not.
fn public(etc: &Path) -> impl Iterator<Item = PathBuf> {
    let named = PUBLIC.iter().chain(&PUBLIC_TOO).map(|&name| name.to_owned());
    named.chain(runtimes(etc)).map(|name| etc.join(name))
}

/// The same as mounts over an empty folder: it lies below one that rules open with all that is in it.
fn public_parts(etc: &Path) -> Vec<Place> {
    // A link into `/etc` shows what is public there.
    let etc = fs::canonicalize(etc).ok().filter(|etc| is_system(etc));
    etc.map(|etc| parts(&etc)).unwrap_or_default()
}

fn parts(etc: &Path) -> Vec<Place> {
    // Most hold nothing, or nothing but what is covered by itself: then a mount, which each sandbox would pay for,
    // hides nothing.
    let is_covered = |path: &Path| CONFIGS.iter().any(|(config, _)| Path::new(config) == path);
    let is_public = |path: &Path| public(etc).any(|known| known == path);
    let mut entries = etc.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    if entries.all(|path| is_covered(&path) || is_public(&path)) {
        return Vec::new();
    }
    let parts = public(etc).filter(|path| path.exists()).map(|path| Place {
        source: Source::HostIfThere(path.clone()),
        path,
        access: Some(Access::Read),
    });
    [Place { path: etc.to_owned(), source: Source::Nothing, access: None }].into_iter().chain(parts).collect()
}

/// Configuration of clients that every program would see, files and folders, each at its true place: what is to be seen
/// instead is for who makes the sandbox.
pub fn machine_configs() -> Vec<(PathBuf, ConfigFormat)> {
    let there = CONFIGS.into_iter().filter_map(|(path, format)| Some((fs::canonicalize(path).ok()?, format)));
    // Elsewhere it can't be seen.
    let there = there.filter(|(path, _)| is_system(path) || path.starts_with("/etc"));
    // Stores of packages are immutable, read by all users, and too large to be looked through.
    let folders = [SYSTEM[0]].into_iter().chain(MERGED).map(Path::new);
    let folders = folders.filter(|folder| folder.symlink_metadata().is_ok_and(|found| found.is_dir()));
    let found = folders.flat_map(|folder| client_configs(folder).to_vec());
    let etc = ETC_TOO.iter().filter_map(|etc| fs::canonicalize(etc).ok()).collect::<Vec<_>>();
    let found = found.filter(|(path, _)| !etc.iter().any(|etc| path.starts_with(etc)));
    there.chain(found).collect()
}

/// Parts of the folders of runtimes with their version in the name: the runtime's own, and nothing that only begins
/// like one, as `/etc/phpmyadmin` or `/etc/node_exporter`.
fn runtimes(etc: &Path) -> Vec<String> {
    let entries = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect::<Vec<_>>()
    };
    let mut found = Vec::new();
    for name in entries(etc) {
        let version = |stem: &str| name.strip_prefix(stem).map(|rest| rest.trim_start_matches(['-', '.']));
        let is_number = |text: &str| text.chars().all(|letter| letter.is_ascii_digit() || letter == '.');
        if version("python").is_some_and(is_number) {
            found.push(name);
        } else if version("java")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(|one: char| one.is_ascii_digit()))
        {
            // Not `management`, where passwords are.
            let is_plain = |part: &String| {
                matches!(part.as_str(), "security" | "jfr") || part.ends_with(".cfg") || part.ends_with(".properties")
            };
            let parts = entries(&etc.join(&name)).into_iter().filter(is_plain);
            found.extend(parts.map(|part| format!("{name}/{part}")));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_runtimes_only_their_own_parts_are_public() {
        let etc = tempfile::tempdir().unwrap();
        for path in [
            "java-17-openjdk/security/java.security",
            "java-17-openjdk/management/jmxremote.password",
            "java-17-openjdk/net.properties",
            "javaws-secrets/token.properties",
            "python3.11/sitecustomize.py",
            "python-app/config",
            "phpmyadmin/config-db.php",
            "node_exporter/web.yml",
        ] {
            fs::create_dir_all(etc.path().join(path).parent().unwrap()).unwrap();
            fs::write(etc.path().join(path), "").unwrap();
        }
        let mut found = runtimes(etc.path());
        found.sort();
        assert_eq!(found, ["java-17-openjdk/net.properties", "java-17-openjdk/security", "python3.11"]);
    }

    #[test]
    fn no_profile_and_no_client_of_the_machine_is_public() {
        let (_, rules) = system(Path::new("/scratch"));
        for name in ["npmrc", "pip.conf", "gitconfig", "maven", "profile", "profile.d", "xdg", "pki", "ssl", "php"] {
            let path = Path::new("/etc").join(name);
            assert!(!rules.iter().any(|rule| rule.path == path || path.starts_with(&rule.path)), "{name}");
        }
    }

    /// `/usr` is mounted as a whole, and its folders like `/etc` are there only with what `/etc` has.
    #[test]
    fn of_other_folders_like_etc_the_same_is_public() {
        let etc = tempfile::tempdir().unwrap();
        let etc = etc.path();
        assert_eq!(parts(etc), []);
        fs::write(etc.join("hosts"), "").unwrap();
        assert_eq!(parts(etc), [], "there is nothing to hide");
        fs::write(etc.join("wgetrc"), "password=x").unwrap();
        let [folder, hosts] = &parts(etc)[..] else { panic!("{:?}", parts(etc)) };
        assert_eq!((&*folder.path, &folder.source), (etc, &Source::Nothing));
        assert_eq!((&*hosts.path, hosts.access), (&*etc.join("hosts"), Some(Access::Read)));
    }
}
