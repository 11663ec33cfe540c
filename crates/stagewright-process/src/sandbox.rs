//! The sandbox: the programs of one attempt can access only the files, sockets and ports listed in its confinement.
//!
//! ```text
//! engine ── maker (one for all sandboxes; forks keepers)
//!        ──  socket  ── keeper (user, pid, network and IPC namespaces; waits, then removes the scratch folder)
//!            │             └─ init (pid 1; mount namespace, Landlock, seccomp, no new privileges)
//!            └── spawn, signal ──>  ├─ program   its pipes are the engine's
//!              <── started, ended ──├─ program
//!                                   └─ broker (threads of init: connect for programs)
//! ```
//!
//! Maker, keeper and init are this binary again, with a hidden subcommand whose body is [`run`]. One sandbox serves one
//! attempt, so that its programs see each other and share loopback, and none sees those of another attempt. When init
//! ends, which it does when the engine lets go of the socket or dies, the kernel kills whatever is left, daemons with
//! sessions of their own included.
//!
//! Two layers hold. The mounts of the [`Confinement`] are all the files that there are, read-only and not to be started
//! where nothing else was asked for. [Landlock](https://docs.kernel.org/userspace-api/landlock.html) then grants the
//! same once more, path by path. What it grants for a folder holds for all below, across mounts, and no rule takes any
//! of it back, so that mounts alone hold in a workspace below the home folder or `/tmp`, which are the sandbox's own to
//! write. The network namespace has a loopback of its own and nothing besides; [`Sandbox::listeners`] are sockets
//! within it that the engine accepts from, some at addresses of other hosts, which the loopback then has.
//!
//! What neither covers is filtered at the call: `seccomp` says what programs don't have, and `broker` makes connections
//! for them, so that no Unix socket is reached but those that were granted and those of the sandbox's own programs.
//! `observe` can note which files programs use; it allows and denies nothing.
//!
//! For the services of images there is another kind, with less: [`Confinement::image`].
//!
//! Capabilities that could change any of this are dropped; new user namespaces can't be made inside. Programs that run
//! for root keep what root may do with files, below the paths that were granted.
//!
//! Architecture invariant: this module knows paths, ports and numbers only. What a stage may reach is decided
//! elsewhere.

mod broker;
mod call;
mod confine;
mod connection;
mod handle;
mod init;
mod loopback;
mod maker;
mod monitor;
mod observe;
mod refusal;
mod root;
mod seccomp;
mod socket;
mod toolchain;
mod wire;

use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use confine::drop_capabilities;
pub(crate) use connection::ProgramHandle;
pub use handle::{Sandbox, StartError};
pub use init::run;
pub(crate) use loopback::up as raise_loopback;
pub use maker::Maker;
pub use observe::{FileObservation, FileUse, Observe};
pub use refusal::Refusal;
pub use root::image::{ImageRoot, ProgramUser, is_privileged};
pub(crate) use seccomp::internet_alone;
pub use socket::{GrantedSocket, SocketError};
pub use toolchain::{
    CACHE_SETTINGS, CacheSetting, ConfigFormat, MountMode, ToolMount, Tools, client_configs, machine_configs, needs,
    real_program, system, system_folders,
};
pub use wire::Exceeded;

/// How long a sandbox may take to be set up, and to start a program.
const PATIENCE: Duration = Duration::from_secs(30);

/// The hidden subcommand.
pub const SUBCOMMAND: &str = "__sandbox";

/// All that exists for the programs of one attempt. Every path is absolute.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Confinement {
    /// A folder of this attempt alone, which is removed with all in it when the sandbox ends. Inside, the new root is
    /// mounted on it.
    pub scratch: PathBuf,
    /// What is mounted, in this order.
    pub places: Vec<Place>,
    /// Files and folders, by device and inode, that no [`Source::Below`] shows, or what is in them: whatever path leads
    /// there.
    pub closed: Vec<(u64, u64)>,
    /// Access in addition to that of the places, by paths inside the sandbox.
    pub rules: Vec<Rule>,
    /// Where the engine accepts connections inside; port 0 for any free one. The loopback has each of these addresses, also
    /// those of other hosts.
    pub listeners: Vec<SocketAddrV4>,
    /// Whether the engine answers lookups of names, at port 53 of the loopback inside.
    pub name_server: bool,
    /// Whether uses of files are observed, and of which; none if they aren't. The programs are slower then.
    pub observe: Option<Observe>,
    /// Resource limits.
    pub limits: SandboxLimits,
    /// The files of an image as the root, for a service that runs as it would in a container; none for a root with nothing
    /// but the places. Programs then have the network of this process, and are kept to the root, to their processes and to
    /// the capabilities of a sandbox alone: there are no rules for files and system calls, no limits and no observation.
    /// All sources of places are [`Source::Host`] or [`Source::HostIfThere`], and their paths are followed in the image.
    pub image: Option<ImageRoot>,
}

/// Something at a path inside the sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The path inside the sandbox.
    #[serde(with = "wire::path")]
    pub path: PathBuf,
    /// What is mounted there.
    pub source: Source,
    /// What may be done there, and below; none for what is only there so that something below it can be granted by a
    /// rule.
    pub access: Option<Access>,
}

/// What is mounted at a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// A file or folder of the machine. The sandbox doesn't start without it.
    Host(#[serde(with = "wire::path")] PathBuf),
    /// The same, but its absence is fine.
    HostIfThere(#[serde(with = "wire::path")] PathBuf),
    /// A socket of the machine that programs may connect to. No other one can be, wherever it lies.
    Socket(GrantedSocket),
    /// A file or folder below a folder, as a relative path without links, and not in anything that is
    /// [closed](Confinement::closed). Its absence is fine.
    Below(#[serde(with = "wire::path")] PathBuf, #[serde(with = "wire::path")] PathBuf),
    /// The same, and what is closed as well: what has to stay where it is, because it is reserved or on the way to what
    /// is. A link is taken as the link that it is.
    Held(#[serde(with = "wire::path")] PathBuf, #[serde(with = "wire::path")] PathBuf),
    /// A folder that holds other places and nothing else: it hides what would be there, and can't be written.
    Nothing,
    /// A symbolic link.
    Link(#[serde(with = "wire::path")] PathBuf),
    /// A folder in memory, limited to this many bytes.
    Memory(u64),
}

/// Grants an access below a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rule {
    /// A file, or a folder with all below.
    pub path: PathBuf,
    /// What may be done.
    pub access: Access,
}

/// What programs may do with files; each includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Read files and list folders.
    Read,
    /// Start programs.
    Execute,
    /// Write, make and remove.
    Write,
}

/// Resource limits of one sandbox; without one the system's limit applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxLimits {
    /// Processes at a time.
    pub processes: Option<u32>,
    /// CPU time of all processes together.
    pub cpu: Option<Duration>,
    /// Bytes of address space of each process.
    pub memory: Option<u64>,
    /// Bytes of the largest file.
    pub file_size: Option<u64>,
}

/// A feature that sandboxes need and this machine lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The failed step, with the system's error.
    pub what: String,
    /// What to do about it.
    pub help: String,
}
