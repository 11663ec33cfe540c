//! The root of programs that have the files of an image, as in a container: an overlay, in which what they write lies above
//! the image and is discarded with the sandbox.
//!
//! The image isn't trusted. All paths in it are followed after the root has been changed, before `/proc` exists there, so
//! that no link leads out of it.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};
use rustix::process::{getgid, getuid};
use rustix::thread::{CapabilitySet, capabilities, set_thread_gid, set_thread_groups, set_thread_uid};
use serde::{Deserialize, Serialize};

use super::{RootError, Step as _};

/// The files of an image, as the root of programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImageRoot {
    /// The folder that the image was unpacked to. It isn't changed.
    pub folder: PathBuf,
    /// The user of the programs; none for the one of this process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<ProgramUser>,
}

/// The user and the groups of a program, by the numbers inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramUser {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Further groups, which only a privileged process can give.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<u32>,
}

impl ProgramUser {
    /// Gives this process the user and the groups. To be called between fork and exec: it makes system calls only.
    pub(in super::super) fn become_it(&self, groups: &[rustix::process::Gid]) -> io::Result<()> {
        let (uid, gid) = (rustix::process::Uid::from_raw(self.uid), rustix::process::Gid::from_raw(self.gid));
        // So it is in a user namespace, which has this user and this group alone.
        if (getuid(), getgid()) == (uid, gid) {
            return Ok(());
        }
        set_thread_groups(groups)?;
        set_thread_gid(gid)?;
        Ok(set_thread_uid(uid)?)
    }
}

/// Whether this process can give programs a root and any user without a user namespace, in which it would be only one
/// user, and which can't use the machine's ports below 1024.
pub fn is_privileged() -> bool {
    let needed = CapabilitySet::SYS_ADMIN | CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::CHOWN;
    capabilities(None).is_ok_and(|sets| sets.effective.contains(needed))
}

/// Makes the overlay, whose upper layer is in `scratch`.
pub(super) fn overlay(image: &ImageRoot, scratch: &Path) -> Result<OwnedFd, RootError> {
    let [upper, work] = ["upper", "work"].map(|name| scratch.join(name));
    let made = (|| {
        let lower = image.folder.metadata()?;
        for folder in [&upper, &work] {
            fs::DirBuilder::new().mode(0o700).create(folder)?;
        }
        // The root of an overlay has the properties of its upper layer.
        fs::set_permissions(&upper, fs::Permissions::from_mode(lower.mode() & 0o7777))?;
        if is_privileged() {
            std::os::unix::fs::chown(&upper, Some(lower.uid()), Some(lower.gid()))?;
        }
        Ok::<(), io::Error>(())
    })();
    made.step(|| format!("make {}", upper.display()))?;
    let folders = [("lowerdir", &image.folder), ("upperdir", &upper), ("workdir", &work)].map(|(key, path)| {
        let how = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, path, how, Mode::empty()).map(|fd| (key, fd)).step(|| format!("take {}", path.display()))
    });
    let mounted = (|| {
        let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let mut opened = Vec::new();
        for folder in folders {
            let (key, fd) = folder.map_err(|error| error.source)?;
            // By descriptor, because how a colon in a path is to be written depends on the version of the kernel.
            fsconfig_set_string(&overlay, key, format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
            opened.push(fd);
        }
        // Without it, the layers need attributes that a user namespace can't set.
        fsconfig_set_flag(&overlay, "userxattr")?;
        // What is discarded needn't be on the disk.
        fsconfig_set_flag(&overlay, "volatile")?;
        fsconfig_create(&overlay)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        Ok::<OwnedFd, io::Error>(fsmount(&overlay, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
    })();
    mounted.step(|| "lay a writable layer over an image (overlayfs)".into())
}

/// The path at which something is to be mounted, with the links of the image followed. To be called in the new root. A
/// link that leads nowhere is removed.
pub(super) fn mount_point(path: &Path) -> PathBuf {
    match path.canonicalize() {
        Ok(found) => found,
        Err(_) => {
            remove_link(path);
            path.to_owned()
        }
    }
}

/// Removes what is at the path, if it is a link, from the upper layer.
pub(super) fn remove_link(path: &Path) {
    if path.is_symlink() {
        // What is mounted there next reports that it can't.
        let _ = fs::remove_file(path);
    }
}

/// Makes a folder `/tmp` that everyone can write to, unless the image has one.
pub(super) fn temporary() -> Result<(), RootError> {
    let path = Path::new("/tmp");
    if path.exists() {
        return Ok(());
    }
    remove_link(path);
    fs::create_dir(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o1777)))
        .step(|| "make /tmp".into())
}
