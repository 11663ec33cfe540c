//! What tells a file from a changed one, without reading it.
//!
//! A program can set a file's modification time and its size, and put another file in its place. It can't set the time
//! of the last change of the inode, `ctime`: that moves with every write, change of mode, link and rename, to the
//! kernel's present. Two things are left, and each has its answer:
//!
//! - The kernel counts these times in ticks, so that a second change within one tick doesn't show. A stamp tells of
//!   later changes once its tick is over: [`Stamp::is_settled`].
//! - A store through a shared mapping shows when the page is first written to, and not again before the page went to
//!   the disk; on a file system in memory it never shows. Whether there is such a mapping can be asked:
//!   [`content::is_quiet`]. In memory, a file is read again each time.
//!
//! Tried on ext4 and tmpfs (Linux 6.18).
//!
//! [`content::is_quiet`]: crate::content::is_quiet

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Kernels count the times of files in ticks of up to 10 ms.
pub(crate) const TICK: Duration = Duration::from_millis(20);

/// A file, folder or link as it was when it was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Nanoseconds since the Unix epoch.
    modified: i128,
    changed: i128,
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Stamp {
        let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Of what the kernel says of an open file, or of a name in an open folder.
    pub(crate) fn of_stat(stat: &rustix::fs::Stat) -> Stamp {
        let nanoseconds = |seconds: i64, rest: u64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Stamp {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            modified: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
            changed: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Whether a change after `now` would surely show. `now`: see [`now`].
    pub(crate) fn shows_changes_after(&self, now: i128) -> bool {
        self.changed + TICK.as_nanos().cast_signed() < now
    }

    /// Whether the last change was at `start` or after it.
    pub(crate) fn is_since(&self, start: i128) -> bool {
        self.changed >= start
    }

    pub(crate) fn is_same_inode(&self, other: &Stamp) -> bool {
        self.device == other.device && self.inode == other.inode
    }

    /// Whether the folder that had this stamp was renamed, or is another one by now. That it got or lost an entry shows
    /// in both of its times, a rename in one of them alone.
    pub(crate) fn was_moved(&self, now: &Stamp) -> bool {
        !self.is_same_inode(now) || (self.changed != now.changed && self.modified == now.modified)
    }
}

/// Nanoseconds since the Unix epoch.
pub(crate) fn now() -> i128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    i128::try_from(since).unwrap_or(i128::MAX)
}

/// The same, as of the beginning of the kernel's present tick: a file that changes from now on has no earlier time.
pub(crate) fn ticked() -> i128 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a clock that Linux always has, and a place for its answer.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &raw mut time) };
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}
