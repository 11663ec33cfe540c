//! Detects that a file changed without reading it.
//!
//! A program can set a file's modification time and size, and replace the file. It can't set the `ctime`, the time of the
//! inode's last change: the kernel sets that to the current time on every write, change of mode, link and rename. Two
//! gaps remain:
//!
//! - The kernel counts these times in ticks, so a second change within the same tick leaves the same time. A stamp
//!   detects all later changes once its tick is over: [`Stamp::shows_changes_after`].
//! - A store through a shared mapping updates the times when the page is first written, and not again until the page
//!   has been written back to the disk. On a file system in memory it never does. [`content::is_quiet`] finds out
//!   whether there is such a mapping; files on a file system in memory are read each time.
//!
//! Verified on ext4 and tmpfs (Linux 6.18).
//!
//! [`content::is_quiet`]: crate::content::is_quiet

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Twice the longest tick in which Linux counts the times of files, which is 10 ms.
pub(crate) const TICK: Duration = Duration::from_millis(20);

/// The identity, size and times of a file, folder or link at the moment of a `stat`.
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

    /// From the result of `fstat` or `statat`.
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

    /// Whether any change after `now` is certain to change the stamp. `now` is nanoseconds since the epoch, see [`now`].
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

    /// Whether the folder with this stamp was renamed or replaced since. Adding or removing an entry changes both of a
    /// folder's times; a rename changes the `ctime` alone.
    pub(crate) fn was_moved(&self, now: &Stamp) -> bool {
        !self.is_same_inode(now) || (self.changed != now.changed && self.modified == now.modified)
    }
}

/// The current time in nanoseconds since the Unix epoch.
pub(crate) fn now() -> i128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    i128::try_from(since).unwrap_or(i128::MAX)
}

/// The time at which the kernel's current tick began. A file that changes after this call has no earlier `ctime`.
pub(crate) fn ticked() -> i128 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: Linux always has this clock, and `time` is valid for writes.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &raw mut time) };
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}
