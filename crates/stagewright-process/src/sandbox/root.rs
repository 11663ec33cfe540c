//! The file system of a sandbox: an empty root with the mounts of its places, and its own `/proc` and `/dev`.
//!
//! All sources are opened before the old root is unmounted, and all targets are made afterwards, so that a link inside
//! can't lead to a file outside.

pub(super) mod image;

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount, mount_change, move_mount, open_tree,
    unmount,
};

use super::{Access, Confinement, Place, Source};

/// The devices that exist inside. None of them has state or controls hardware.
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];
const LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
];
/// The size of `/dev/shm` in bytes.
const SHARED_MEMORY: u64 = 256 * 1024 * 1024;
const TREE: OpenTreeFlags = OpenTreeFlags::OPEN_TREE_CLONE.union(OpenTreeFlags::OPEN_TREE_CLOEXEC);

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {source}")]
pub(super) struct RootError {
    pub(super) step: String,
    pub(super) source: io::Error,
}

trait Step<T> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T, RootError>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T, RootError> {
        self.map_err(|source| RootError { step: step(), source: source.into() })
    }
}

/// A detached mount, and the path to attach it at.
struct DetachedMount {
    fd: OwnedFd,
    path: PathBuf,
    folder: bool,
}

/// Replaces the root of this process by the sandbox's. Must be called in a new mount namespace, by the init of a new
/// pid namespace. Returns the empty folders that hide the machine's files, for [`protect`].
pub(super) fn enter(confinement: &Confinement) -> Result<Vec<OwnedFd>, RootError> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .step(|| "keep mounts apart".into())?;
    let trees = confinement
        .places
        .iter()
        .filter_map(|place| open_source(place, &confinement.closed).transpose())
        .collect::<Result<Vec<_>, _>>()?;
    let base = confinement.image.as_ref().map(|it| image::overlay(it, &confinement.scratch)).transpose()?;
    // Of a terminal of its own, which a program of an image may open.
    let tty = confinement.image.is_some().then_some(&"tty");
    let devices = DEVICES.iter().chain(tty).map(|name| {
        let path = Path::new("/dev").join(name);
        detach(&path, false).map(|fd| DetachedMount { fd, path, folder: false })
    });
    let devices = devices.collect::<Result<Vec<_>, _>>()?;
    let proc = file_system("proc", &[], MountAttrFlags::empty())?;
    let terminals = file_system("devpts", &[("newinstance", ""), ("ptmxmode", "0666")], MountAttrFlags::empty()).ok();
    // From here on the machine's files can only be reached through the mounts that were opened above.
    change_root(&confinement.scratch, base.as_ref())?;
    let kernels = KernelMounts { proc, devices, terminals };
    if base.is_some() {
        // No path of the image leads through `/proc`, which has links to files that this process has open.
        attach_places(confinement, trees)?;
        image::temporary()?;
        for path in ["/proc", "/dev"] {
            image::remove_link(Path::new(path));
        }
        let dev = file_system("tmpfs", &[("mode", "0755"), ("size", "1m")], MountAttrFlags::empty())?;
        attach(&DetachedMount { fd: dev, path: "/dev".into(), folder: true })?;
        kernels.attach()?;
        return Ok(Vec::new());
    }
    kernels.attach()?;
    attach_places(confinement, trees)
}

/// What every root has of the kernel.
struct KernelMounts {
    proc: OwnedFd,
    devices: Vec<DetachedMount>,
    terminals: Option<OwnedFd>,
}

impl KernelMounts {
    fn attach(self) -> Result<(), RootError> {
        attach(&DetachedMount { fd: self.proc, path: "/proc".into(), folder: true })?;
        for tree in &self.devices {
            attach(tree)?;
        }
        for (link, target) in LINKS {
            symlink(target, link).step(|| format!("link {link}"))?;
        }
        if let Some(fd) = self.terminals {
            attach(&DetachedMount { fd, path: "/dev/pts".into(), folder: true })?;
        }
        memory(Path::new("/dev/shm"), SHARED_MEMORY)
    }
}

/// Attaches what was opened, and makes what is only inside. Returns the empty folders that hide files.
fn attach_places(confinement: &Confinement, mut trees: Vec<DetachedMount>) -> Result<Vec<OwnedFd>, RootError> {
    if confinement.image.is_some() {
        // The path of a place may lead through links of the image.
        for tree in &mut trees {
            tree.path = image::mount_point(&tree.path);
            attach(tree)?;
        }
        return Ok(Vec::new());
    }
    let mut trees = trees.iter().peekable();
    let mut hiding = Vec::new();
    for place in &confinement.places {
        match &place.source {
            Source::Host(_) | Source::HostIfThere(_) | Source::Socket(_) | Source::Below(..) | Source::Held(..) => {
                if let Some(tree) = trees.next_if(|tree| tree.path == place.path) {
                    attach(tree)?;
                }
            }
            Source::Nothing => hiding.extend(hide(&place.path)?),
            Source::Memory(bytes) => memory(&place.path, *bytes)?,
            Source::Link(target) => {
                folders(place.path.parent().unwrap_or(Path::new("/")))?;
                symlink(target, &place.path).step(|| format!("link {}", place.path.display()))?;
            }
        }
    }
    Ok(hiding)
}

/// Makes the root, the empty folders `hiding` and the kernel's settings read-only. Must be called inside, once
/// everything is set up.
pub(super) fn protect(confinement: &Confinement, hiding: &[OwnedFd]) -> Result<(), RootError> {
    // Some of these files only check that the user id is 0, in whatever user namespace. If the engine runs as root, its
    // programs have that id, and could change settings of the whole machine.
    for path in ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs"] {
        let path = Path::new(path);
        if path.exists() {
            let fd = detach(path, true)?;
            set_attributes(fd.as_fd(), libc::MOUNT_ATTR_RDONLY).step(|| format!("protect {}", path.display()))?;
            attach(&DetachedMount { fd, path: path.to_owned(), folder: path.is_dir() })?;
        }
    }
    // Programs of an image may write to its root.
    if confinement.image.is_some() {
        return Ok(());
    }
    // The mounts are changed by descriptor: at their paths a granted folder may be mounted on top by now.
    let root = open_tree(CWD, "/", OpenTreeFlags::OPEN_TREE_CLOEXEC).step(|| "look at the root".into())?;
    for mount in hiding.iter().chain([&root]) {
        mount_setattr(mount.as_fd(), libc::MOUNT_ATTR_RDONLY, libc::AT_EMPTY_PATH)
            .step(|| "protect what hides the machine's files".into())?;
    }
    Ok(())
}

/// Opens the source of a place. None if it isn't a file of the machine, or is optional and doesn't exist.
fn open_source(place: &Place, closed: &[(u64, u64)]) -> Result<Option<DetachedMount>, RootError> {
    let fd = match &place.source {
        Source::Host(source) => detach(source, true)?,
        Source::HostIfThere(source) if source.exists() => detach(source, true)?,
        Source::Socket(socket) => socket
            .open()
            .and_then(|found| Ok(open_tree(&found, "", TREE | OpenTreeFlags::AT_EMPTY_PATH)?))
            .step(|| format!("take {}", socket.path().display()))?,
        Source::Below(folder, path) => match open_below(folder, path, Some(closed))? {
            Some(fd) => fd,
            None => return Ok(None),
        },
        Source::Held(folder, path) => match open_below(folder, path, None)? {
            Some(fd) => fd,
            None => return Ok(None),
        },
        Source::HostIfThere(_) | Source::Nothing | Source::Link(_) | Source::Memory(_) => return Ok(None),
    };
    let denied = match place.access {
        Some(Access::Write) => 0,
        Some(Access::Execute) => libc::MOUNT_ATTR_RDONLY,
        Some(Access::Read) | None => libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOEXEC,
    };
    set_attributes(fd.as_fd(), denied | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV)
        .step(|| format!("protect {}", place.path.display()))?;
    let stat = rustix::fs::fstat(&fd).step(|| format!("look at {}", place.path.display()))?;
    let folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    Ok(Some(DetachedMount { fd, path: place.path.clone(), folder }))
}

/// Opens `path` below `folder` without following links, because the content of a repository isn't trusted: each name is
/// opened relative to the folder opened before it, and a link that was put there since the grant was checked is an
/// error. None if the path doesn't exist. `closed` are files that must not be shown; none for [`Source::Held`], where
/// the path itself may be a link.
fn open_below(folder: &Path, path: &Path, closed: Option<&[(u64, u64)]>) -> Result<Option<OwnedFd>, RootError> {
    let refused = |why: &str| Err(io::Error::other(why.to_owned())).step(|| format!("take {}", path.display()));
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let mut at = openat2(CWD, folder, flags | OFlags::DIRECTORY, Mode::empty(), ResolveFlags::empty())
        .step(|| format!("take {}", folder.display()))?;
    let mut names = path.components().filter(|name| *name != Component::CurDir).peekable();
    while let Some(name) = names.next() {
        let Component::Normal(name) = name else { return refused("it leads out of the workspace") };
        let only = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        at = match openat2(&at, name, flags | OFlags::NOFOLLOW, Mode::empty(), only) {
            Ok(found) => found,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(error).step(|| format!("take {}", path.display())),
        };
        let found = rustix::fs::fstat(&at).step(|| format!("look at {}", path.display()))?;
        let may_be_link = names.peek().is_none() && closed.is_none();
        if FileType::from_raw_mode(found.st_mode) == FileType::Symlink && !may_be_link {
            return refused("it has been replaced by a link");
        }
        if closed.is_some_and(|closed| closed.contains(&(found.st_dev, found.st_ino))) {
            return refused("it is reserved, under another name");
        }
    }
    let flags = TREE | OpenTreeFlags::AT_EMPTY_PATH | OpenTreeFlags::AT_RECURSIVE;
    open_tree(&at, "", flags).step(|| format!("take {}", path.display())).map(Some)
}

/// A detached copy of the mount at a path.
fn detach(source: &Path, recursive: bool) -> Result<OwnedFd, RootError> {
    let flags = if recursive { TREE | OpenTreeFlags::AT_RECURSIVE } else { TREE };
    open_tree(CWD, source, flags).step(|| format!("take {}", source.display()))
}

fn attach(mount: &DetachedMount) -> Result<(), RootError> {
    let DetachedMount { fd, path, folder } = mount;
    let parent = path.parent().unwrap_or(Path::new("/"));
    if *folder {
        folders(path)?;
    } else {
        folders(parent)?;
        if fs::symlink_metadata(path).is_err() {
            let made = OpenOptions::new().write(true).create_new(true).open(path);
            made.step(|| format!("make {}", path.display()))?;
        }
    }
    move_mount(fd, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).step(|| format!("mount {}", path.display()))
}

fn folders(path: &Path) -> Result<(), RootError> {
    if path.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path).step(|| format!("make {}", path.display()))
}

/// Mounts a root on `base`, an empty one if there is none, and changes to it. Until this returns, paths are those of the
/// machine.
fn change_root(base: &Path, root: Option<&OwnedFd>) -> Result<(), RootError> {
    match root {
        Some(root) => move_mount(root, "", CWD, base, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH),
        None => mount("tmpfs", base, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(c"mode=755,size=16m")),
    }
    .step(|| "mount a root".into())?;
    std::env::set_current_dir(base).step(|| "go to the new root".into())?;
    // With the same folder for both arguments, `pivot_root` mounts the old root on top of the new one, as described in
    // pivot_root(2). So no folder for it is needed in the new root, and the lazy unmount of `.` removes it together
    // with all mounts below it.
    rustix::process::pivot_root(".", ".").step(|| "change the root".into())?;
    unmount(".", UnmountFlags::DETACH).step(|| "leave the old root".into())?;
    std::env::set_current_dir("/").step(|| "go to the root".into())
}

fn file_system(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> Result<OwnedFd, RootError> {
    let made = (|| {
        let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (key, value) in options {
            match *value {
                "" => rustix::mount::fsconfig_set_flag(&fs, *key)?,
                value => fsconfig_set_string(&fs, *key, value)?,
            }
        }
        fsconfig_create(&fs)?;
        let safe = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes | safe)
    })();
    made.step(|| format!("make a {kind} file system"))
}

/// Mounts an empty folder that hides a path, and returns it. It stays writable until [`protect`], because mount points
/// for places below it are still made in it. None if the path is a file, which an empty file hides.
fn hide(path: &Path) -> Result<Option<OwnedFd>, RootError> {
    if path.is_file() {
        // A folder can't be mounted on a file.
        let null = detach(Path::new("/dev/null"), false)?;
        set_attributes(null.as_fd(), libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC)
            .step(|| format!("protect {}", path.display()))?;
        return attach(&DetachedMount { fd: null, path: path.to_owned(), folder: false }).map(|()| None);
    }
    let fd = file_system("tmpfs", &[("mode", "0755"), ("size", "16m")], MountAttrFlags::empty())?;
    let tree = DetachedMount { fd, path: path.to_owned(), folder: true };
    attach(&tree)?;
    Ok(Some(tree.fd))
}

fn memory(path: &Path, bytes: u64) -> Result<(), RootError> {
    let size = bytes.to_string();
    let attributes = MountAttrFlags::MOUNT_ATTR_NODEV;
    let fd = file_system("tmpfs", &[("mode", "1777"), ("size", &size)], attributes)?;
    attach(&DetachedMount { fd, path: path.to_owned(), folder: true })
}

fn set_attributes(tree: BorrowedFd<'_>, attributes: u64) -> io::Result<()> {
    mount_setattr(tree, attributes, libc::AT_EMPTY_PATH | libc::AT_RECURSIVE)
}

fn mount_setattr(tree: BorrowedFd<'_>, attributes: u64, flags: i32) -> io::Result<()> {
    let change = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the path is a terminated string and the structure has the given size; both live for the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(&change),
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
