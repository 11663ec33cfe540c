//! The grants that a stage will use.

use std::net::{Ipv4Addr, SocketAddr};

use crate::url::Url;

/// A key of the stage's `permissions` table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "named as the keys")]
pub enum Permission {
    Process,
    Read,
    Write,
    Exec,
    Net,
    Secrets,
    Reveal,
    Credentials,
    Registry,
    Service,
    Socket,
    Env,
}

impl Permission {
    /// The key in TOML.
    pub fn key(self) -> &'static str {
        match self {
            Permission::Process => "process",
            Permission::Read => "read",
            Permission::Write => "write",
            Permission::Exec => "exec",
            Permission::Net => "net",
            Permission::Secrets => "secrets",
            Permission::Reveal => "reveal",
            Permission::Credentials => "credentials",
            Permission::Registry => "registry",
            Permission::Service => "service",
            Permission::Socket => "socket",
            Permission::Env => "env",
        }
    }
}

/// A grant that the stage will use, which [`crate::Stage::requirements`] returns. The host compares all of them with the
/// stage's `permissions` before it starts, so that the author of a pipeline learns of every missing grant at once.
///
/// ```
/// use stagewright_sdk::Requirement;
///
/// let requirement = Requirement::read("Cargo.toml").because("names the packages");
/// assert_eq!((requirement.permission.key(), requirement.entry.as_str()), ("read", "Cargo.toml"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The key of `permissions`.
    pub permission: Permission,
    /// An entry of that key.
    pub entry: String,
    /// What the stage uses it for; may be empty.
    pub reason: String,
    /// Whether the stage also works without it.
    pub optional: bool,
}

impl Requirement {
    fn new(permission: Permission, entry: impl Into<String>) -> Requirement {
        Requirement { permission, entry: entry.into(), reason: String::new(), optional: false }
    }

    /// A program with any arguments, by its name in `PATH` or its path.
    pub fn process(program: impl Into<String>) -> Requirement {
        Requirement::new(Permission::Process, program)
    }

    /// A program with exactly these arguments. A grant of the program with any arguments includes it.
    pub fn command(program: &str, args: impl IntoIterator<Item = impl AsRef<str>>) -> Requirement {
        let args = args.into_iter().map(|arg| quoted(arg.as_ref()));
        Requirement::process(std::iter::once(quoted(program)).chain(args).collect::<Vec<_>>().join(" "))
    }

    /// A file, a folder with its content, or a glob.
    pub fn read(path: impl Into<String>) -> Requirement {
        Requirement::new(Permission::Read, path)
    }

    /// A file, a folder with its content, or a glob, for reading and writing.
    pub fn write(path: impl Into<String>) -> Requirement {
        Requirement::new(Permission::Write, path)
    }

    /// A file or folder of the workspace whose programs are started.
    pub fn exec(path: impl Into<String>) -> Requirement {
        Requirement::new(Permission::Exec, path)
    }

    /// The hosts of a package manager, as in `cargo`, or an origin, as in `tcp://db.example.org:5432`.
    pub fn net(entry: impl Into<String>) -> Requirement {
        Requirement::new(Permission::Net, entry)
    }

    /// The origin of an `http` or `https` URL; none if it isn't one.
    pub fn url(url: &str) -> Option<Requirement> {
        Some(Requirement::net(Url::parse(url).ok()?.origin()?))
    }

    /// A secret for the environment of programs.
    pub fn secret_env(name: &str) -> Requirement {
        Requirement::new(Permission::Secrets, format!("{name}:env"))
    }

    /// A secret for requests, or for the input of commands on hosts.
    pub fn secret_header(name: &str) -> Requirement {
        Requirement::new(Permission::Secrets, format!("{name}:header"))
    }

    /// The value of a secret, which also takes a grant of the secret itself.
    pub fn reveal(name: &str) -> [Requirement; 2] {
        [Requirement::new(Permission::Secrets, name), Requirement::new(Permission::Reveal, name)]
    }

    /// A credential with which the host signs requests, or runs commands over SSH; it includes those to its origins.
    pub fn credential(name: &str) -> Requirement {
        Requirement::new(Permission::Credentials, name)
    }

    /// A credential with which the proxy signs requests of programs; it includes those to its origins.
    pub fn credential_of_programs(name: &str) -> Requirement {
        Requirement::new(Permission::Credentials, format!("{name}:proxy"))
    }

    /// An image repository, without a tag and a digest.
    pub fn registry(repository: impl Into<String>) -> Requirement {
        Requirement::new(Permission::Registry, repository)
    }

    /// What an image reference takes: its repository, or for `oci:PATH` the folder of the layout.
    pub fn image(reference: &str) -> Requirement {
        let name = reference.split_once('@').map_or(reference, |(name, _)| name);
        let start_of_last =
            name.rfind('/').map_or_else(|| if name.starts_with("oci:") { 4 } else { 0 }, |slash| slash + 1);
        let name = name[start_of_last..].find(':').map_or(name, |colon| &name[..start_of_last + colon]);
        name.strip_prefix("oci:").map_or_else(|| Requirement::registry(name), Requirement::read)
    }

    /// A service.
    pub fn service(name: impl Into<String>) -> Requirement {
        Requirement::new(Permission::Service, name)
    }

    /// A service, and that its proxy accepts requests at an address.
    pub fn service_at(name: &str, address: SocketAddr) -> Requirement {
        Requirement::service(match address.ip() {
            ip if ip == Ipv4Addr::LOCALHOST => format!("{name}:{}", address.port()),
            _ => format!("{name}:{address}"),
        })
    }

    /// A socket of this machine: an absolute path, or `docker`.
    pub fn socket(entry: impl Into<String>) -> Requirement {
        Requirement::new(Permission::Socket, entry)
    }

    /// A variable of the engine's environment that programs inherit.
    pub fn env(name: impl Into<String>) -> Requirement {
        Requirement::new(Permission::Env, name)
    }

    /// Sets what the stage uses it for, as in `names the packages`.
    #[must_use]
    pub fn because(self, reason: impl Into<String>) -> Requirement {
        Requirement { reason: reason.into(), ..self }
    }

    /// Marks it as one that the stage also works without.
    #[must_use]
    pub fn optional(self) -> Requirement {
        Requirement { optional: true, ..self }
    }
}

/// The word of a `process` entry that matches `text` alone.
fn quoted(text: &str) -> String {
    let is_special = |letter: char| letter.is_whitespace() || matches!(letter, '*' | '?' | '[' | '\\' | '\'');
    match text.is_empty() || text.contains(is_special) {
        true => format!("'{}'", text.replace('\'', "'\\''")),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_quoted_so_that_it_matches_itself_alone() {
        let entry = Requirement::command("git", ["commit", "-m", "a *", "", "it's"]).entry;
        assert_eq!(entry, r"git commit -m 'a *' '' 'it'\''s'");
    }

    #[test]
    fn an_image_needs_its_repository_or_its_folder() {
        let digest = format!("@sha256:{}", "0".repeat(64));
        for (reference, key, entry) in [
            ("ghcr.io/acme/app:1.0", "registry", "ghcr.io/acme/app"),
            (&format!("localhost:5000/app{digest}"), "registry", "localhost:5000/app"),
            (&format!("local/app:1{digest}"), "registry", "local/app"),
            ("oci:target/image:1.0", "read", "target/image"),
            ("oci:image", "read", "image"),
        ] {
            let required = Requirement::image(reference);
            assert_eq!((required.permission.key(), required.entry.as_str()), (key, entry), "{reference}");
        }
    }

    #[test]
    fn a_url_needs_its_origin_alone() {
        let entry = |url| Requirement::url(url).map(|requirement| requirement.entry);
        assert_eq!(entry("https://Example.org:443/a?b#c").as_deref(), Some("https://example.org"));
        assert_eq!(entry("http://127.0.0.1:8080").as_deref(), Some("http://127.0.0.1:8080"));
        assert_eq!((entry("ftp://example.org"), entry("example.org")), (None, None));
    }
}
