//! Plans which files of the machine are mounted into a sandbox.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use stagewright_model::ProcessRule;
use stagewright_process::sandbox::{
    Access, CACHE_SETTINGS, GrantedSocket, MountMode, Place, Rule, SocketError, Source, ToolMount, Tools,
    client_configs, needs, system,
};
use stagewright_process::which;

use super::copies::{copied, instead};
use super::kept::{KeptCaches, StageOwner};
use super::ungranted::{refuse, ungranted};
use super::{SandboxConfig, SandboxView, docker_socket};
use crate::capability::workspace::WorkspaceFiles;
use crate::error::{CapabilityError, ErrorCode, unprepared};
use crate::net::authority::AttemptAuthority;
use crate::net::credentials::ProxyCredentials;
use crate::net::names::Known;
use crate::policy::Policy;
use crate::reserved::{Placeholders, Reserved};

/// Programs whose toolchains are mounted for the grant `*`.
const WELL_KNOWN: [&str; 12] =
    ["cargo", "docker", "git", "go", "gradle", "mvn", "node", "npm", "pip", "python3", "rustc", "uv"];

/// The file with the authorities that programs should trust, in the sandbox of a stage with a secret for the proxy.
pub(super) const AUTHORITIES: &str = "/run/stagewright/authorities.pem";

/// The inputs of the plan.
pub(super) struct MountPlanner {
    pub(super) config: SandboxConfig,
    pub(super) policy: Arc<Policy>,
    pub(super) root: PathBuf,
    /// The folder whose files are mounted at `root`: the workspace itself, or a capture of it.
    pub(super) files: PathBuf,
    pub(super) reserved: Reserved,
    pub(super) owner: Arc<StageOwner>,
    /// The stage's table, as in `stages.test`.
    pub(super) table: String,
    /// The environment of the stage's programs.
    pub(super) environment: BTreeMap<String, String>,
    /// The engine's own environment.
    pub(super) machine: Arc<BTreeMap<String, String>>,
    /// None for a stage without secrets for the proxy.
    pub(super) credentials: Option<Arc<ProxyCredentials>>,
    /// The addresses inside that stand for hosts.
    pub(super) hosts: Known,
}

/// The mounts, and what must exist until the sandbox ends.
pub(super) struct MountPlan {
    pub(super) scratch: PathBuf,
    /// In the order in which they are mounted: later places may lie within earlier ones.
    pub(super) places: Vec<Place>,
    pub(super) rules: Vec<Rule>,
    /// Where a refusal stands in for a program that isn't granted.
    pub(super) refused: BTreeSet<PathBuf>,
    /// None when the stage's programs have no download caches.
    pub(super) kept: Option<KeptCaches>,
    /// None when the files are a capture, or the host has no state folder.
    pub(super) placeholders: Option<Placeholders>,
}

impl MountPlanner {
    /// Creates the scratch folder, and plans the mounts.
    pub(super) fn plan(&self, files: &WorkspaceFiles) -> Result<MountPlan, CapabilityError> {
        let scratch = self.scratch().map_err(|error| unprepared("make the scratch folder", &error))?;
        let (mut places, rules) = system(&scratch);
        places.extend_from_slice(&self.config.copies.places(&self.config.scratch)?);
        places.extend(own_name_server(&scratch).map_err(|error| unprepared("name the name server", &error))?);
        if !self.hosts.is_empty() {
            let own = own_hosts(&self.hosts, &scratch).map_err(|error| unprepared("name the hosts", &error))?;
            places.extend(own);
        }
        if let Some(credentials) = &self.credentials {
            let authorities = authorities(&credentials.authority, &scratch);
            places.push(authorities.map_err(|error| unprepared("write the certificates", &error))?);
        }
        let home = self.environment.get("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        // A `HOME` within the workspace isn't mounted here: if the stage set it, it is granted like the rest of the
        // workspace; if it is the user's own, it is among the reserved paths.
        let home = home.filter(|home| !home.starts_with(&self.root));
        if let Some(home) = &home {
            let source = Source::Host(scratch.join("home"));
            places.push(Place { path: home.clone(), source, access: Some(Access::Write) });
        }
        let needs = tools(self.policy.programs(), &self.environment, &self.machine, &self.root);
        let keeps = |need: &ToolMount| matches!(need.how, MountMode::Kept | MountMode::KeptFile);
        let kept = needs.iter().any(keeps).then(|| KeptCaches::open(&self.config.kept, &self.owner, &self.table));
        let kept = kept.transpose().map_err(|error| unprepared("open the download caches", &error))?;
        if let Some(home) = &home {
            set_caches(home, &needs, &scratch.join("home")).map_err(|error| unprepared("set caches", &error))?;
        }
        for need in needs {
            let place = self.meet(&need, home.as_deref(), &scratch, kept.as_ref());
            let place = place.map_err(|error| unprepared(&format!("prepare {}", need.path.display()), &error))?;
            if let Some(Place { path, source: Source::Host(real), access: Some(Access::Execute) }) = &place {
                places.extend(place.clone());
                for (file, format) in client_configs(real).iter() {
                    let at = file.strip_prefix(real).map_or_else(|_| file.clone(), |below| path.join(below));
                    places.extend(instead(file, at, *format, &scratch)?);
                }
            } else {
                places.extend(place);
            }
        }
        let placeholders = (self.files == self.root).then(|| self.reserved.placeholders());
        let placeholders =
            placeholders.transpose().map_err(|error| unprepared("open the record of placeholders", &error))?.flatten();
        let machine = SandboxView::new(places.clone());
        places.extend(self.workspace(files, &machine, &scratch, placeholders.as_ref())?);
        places.extend(self.engine_elsewhere(&places));
        places.extend(self.sockets()?);
        let paths = ungranted(&searched(&self.environment, &self.machine), &machine, &self.root);
        let refusals = refuse(paths, &machine, &scratch);
        let (refusals, refused) = refusals.map_err(|error| unprepared("refuse programs", &error))?;
        places.extend(refusals);
        Ok(MountPlan { scratch, places, rules, refused, kept, placeholders })
    }

    fn scratch(&self) -> io::Result<PathBuf> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let scratch = self.config.scratch.join(name);
        for folder in ["tmp", "home"] {
            fs::create_dir_all(scratch.join(folder))?;
        }
        // Other users have no access, whatever the mode of the state folder is.
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(&scratch, private)?;
        fs::canonicalize(scratch)
    }

    fn meet(
        &self,
        need: &ToolMount,
        home: Option<&Path>,
        scratch: &Path,
        kept: Option<&KeptCaches>,
    ) -> io::Result<Option<Place>> {
        let place = |source, access| Some(Place { path: need.path.clone(), source, access: Some(access) });
        match need.how {
            MountMode::Execute => {
                let real = fs::canonicalize(&need.path)?;
                let is_link = real.is_file() && need.path.symlink_metadata()?.is_symlink();
                let source = if is_link { held_link(&real, scratch)? } else { Source::Host(real) };
                Ok(place(source, Access::Execute))
            }
            MountMode::Copy(format) => {
                let copy = copied(&need.path, format, &scratch.join("copies"))?;
                let Some(below) = home.and_then(|home| need.path.strip_prefix(home).ok()) else {
                    return Ok(place(Source::Host(copy), Access::Read));
                };
                // A copy in the home folder isn't mounted: it is placed in the attempt's own home, where programs may
                // change it.
                let own = scratch.join("home").join(below);
                fs::create_dir_all(own.parent().unwrap_or(scratch))?;
                fs::rename(copy, own)?;
                Ok(None)
            }
            MountMode::Kept | MountMode::KeptFile => {
                let is_file = need.how == MountMode::KeptFile;
                let kept = kept.map(|kept| kept.place(&need.path, is_file)).transpose()?;
                Ok(kept.and_then(|kept| place(Source::Host(kept), Access::Write)))
            }
        }
    }

    fn sockets(&self) -> Result<Vec<Place>, CapabilityError> {
        let mut places = Vec::new();
        for socket in self.policy.sockets() {
            let path = if socket.is_docker() {
                docker_socket(&self.environment, &self.machine)
            } else {
                PathBuf::from(socket.as_str())
            };
            // The folders in which stages can create sockets of their own.
            let writable = [self.root.clone(), self.config.scratch.clone(), self.config.kept.clone()];
            let found = GrantedSocket::find(&path, &writable).map_err(|error| not_granted(&error))?;
            let mut paths = BTreeSet::from([found.path().to_owned()]);
            // `/var/run` is a link to `/run` in the sandbox too.
            if !path.starts_with("/var/run") {
                paths.insert(path);
            }
            places.extend(paths.into_iter().map(|path| Place {
                path,
                source: Source::Socket(found.clone()),
                access: Some(Access::Write),
            }));
        }
        Ok(places)
    }
}

/// Leads programs to the name server on the sandbox's loopback, instead of one of the machine's network. Without this
/// file, resolvers use the loopback anyway.
fn own_name_server(scratch: &Path) -> io::Result<Option<Place>> {
    // It may be a link to a folder that the sandbox doesn't have.
    let Ok(path) = fs::canonicalize("/etc/resolv.conf") else { return Ok(None) };
    let own = scratch.join("resolv.conf");
    // Without `search`, a resolver would also try each name in the domain of this machine.
    fs::write(&own, "nameserver 127.0.0.1\nsearch .\n")?;
    Ok(Some(Place { path, source: Source::Host(own), access: Some(Access::Read) }))
}

/// Gives the hosts whose ports are forwarded their addresses inside. This machine may have others for them in this file, which
/// resolvers read before they ask a name server.
fn own_hosts(known: &Known, scratch: &Path) -> io::Result<Option<Place>> {
    let Ok(path) = fs::canonicalize("/etc/hosts") else { return Ok(None) };
    let machine = stagewright_files::read_text(&path, stagewright_files::CONFIGURATION).unwrap_or_default();
    let own = scratch.join("hosts");
    fs::write(&own, hosts(&machine, known))?;
    Ok(Some(Place { path, source: Source::Host(own), access: Some(Access::Read) }))
}

/// The machine's file (hosts(5)), with these addresses instead of its own.
fn hosts(machine: &str, known: &Known) -> String {
    let lines = machine.lines().filter_map(|line| {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let address = words.next()?;
        let names: Vec<&str> = words.filter(|name| !known.contains_key(&name.to_ascii_lowercase())).collect();
        (!names.is_empty()).then(|| format!("{address} {}\n", names.join(" ")))
    });
    lines.chain(known.iter().map(|(name, address)| format!("{address} {name}\n"))).collect()
}

/// Writes the settings of clients that don't find their kept caches themselves. `own`: the folder that is mounted at `home`.
fn set_caches(home: &Path, needs: &[ToolMount], own: &Path) -> io::Result<()> {
    let is_kept = |cache: &Path| needs.iter().any(|need| need.path == cache && need.how == MountMode::Kept);
    for setting in CACHE_SETTINGS {
        let (cache, file) = (home.join(setting.cache), own.join(setting.file));
        if is_kept(&cache) {
            fs::create_dir_all(file.parent().unwrap_or(own))?;
            fs::write(file, format!("{}{}\n", setting.key, cache.join(setting.folder).display()))?;
        }
    }
    Ok(())
}

/// A link to a program of the machine, which is mounted at its own path: a program such as corepack's `pnpm` finds its
/// other files beside itself, and does so by following its link. It leads straight to the program, because the links
/// between the two needn't be in the sandbox. As a mount, it can't be replaced by programs, even in their own home.
fn held_link(program: &Path, scratch: &Path) -> io::Result<Source> {
    let links = scratch.join("links");
    fs::create_dir_all(&links)?;
    let name = links.read_dir()?.count().to_string();
    std::os::unix::fs::symlink(program, links.join(&name))?;
    Ok(Source::Held(links, name.into()))
}

/// The authorities that programs should trust.
fn authorities(authority: &AttemptAuthority, scratch: &Path) -> io::Result<Place> {
    let file = scratch.join("authorities.pem");
    fs::write(&file, authority.bundle())?;
    Ok(Place { path: AUTHORITIES.into(), source: Source::Host(file), access: Some(Access::Read) })
}

fn not_granted(error: &SocketError) -> CapabilityError {
    let (code, help) = match error {
        SocketError::Unreadable { .. } => (
            ErrorCode::NotFound,
            "start the program that listens there, or correct `socket` in the stage's permissions",
        ),
        SocketError::Other { .. } => {
            (ErrorCode::FailedPrecondition, "name the socket itself in `socket` of the stage's permissions")
        }
        SocketError::Linked { .. } => {
            (ErrorCode::PermissionDenied, "if the link's target is meant, name the target in `socket`")
        }
    };
    CapabilityError::new(code, error.to_string()).with_help(help)
}

/// The folders in which programs are searched for. `environment`: that of the programs. `machine`: the engine's own. Only
/// folders that both have in `PATH` count: the lock file doesn't cover a stage's `env`, so a `PATH` that is set there
/// decides which program is started, but must not decide what is mounted.
pub(crate) fn searched(environment: &BTreeMap<String, String>, machine: &BTreeMap<String, String>) -> Vec<PathBuf> {
    let folders = |of: &BTreeMap<String, String>| {
        std::env::split_paths(of.get("PATH").map_or("", String::as_str)).collect::<Vec<_>>()
    };
    let own = folders(machine).into_iter().collect::<BTreeSet<_>>();
    folders(environment).into_iter().filter(|folder| folder.is_absolute() && own.contains(folder)).collect()
}

/// The toolchains of the granted programs. `environment`: that of the programs. `machine`: the engine's own.
pub(crate) fn tools(
    rules: &[ProcessRule],
    environment: &BTreeMap<String, String>,
    machine: &BTreeMap<String, String>,
    workspace: &Path,
) -> Vec<ToolMount> {
    let searched = searched(environment, machine);
    // This can't fail: the folders come from splitting a `PATH`, so they contain no separator.
    let path = std::env::join_paths(&searched).unwrap_or_default();
    let mut found = BTreeSet::new();
    for rule in rules {
        match rule.program() {
            Some(name) if name.contains('/') && !name.starts_with('/') => {}
            Some(name) => found.extend(which(name, &path)),
            None => {
                found.extend(WELL_KNOWN.iter().filter_map(|name| which(name, &path)));
                let entries = searched.iter().filter_map(|folder| folder.read_dir().ok()).flatten().flatten();
                // Only executables; a folder in `PATH` may contain other files too.
                found.extend(entries.filter_map(|entry| which(entry.path(), "")));
            }
        }
    }
    let programs = found.into_iter().collect::<Vec<_>>();
    needs(&programs, Tools { env: environment, machine, workspace })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn hosts_whose_ports_are_forwarded_have_no_address_of_the_machines_file() {
        let machine = "# a comment\n127.0.0.1\tlocalhost\n10.0.0.5 DB.example.org db # the database\n10.0.0.6 db.example.org\n::1 ip6\n";
        let known = Known::from([("db.example.org".to_owned(), Ipv4Addr::new(127, 1, 0, 1))]);
        assert_eq!(hosts(machine, &known), "127.0.0.1 localhost\n10.0.0.5 db\n::1 ip6\n127.1.0.1 db.example.org\n");
    }
}
