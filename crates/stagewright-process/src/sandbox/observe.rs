//! Observes which files the programs of a sandbox use.
//!
//! The filter reports calls that name a file, the broker reads the name from the program's memory, and the kernel then
//! carries the call out unchanged. This confines nothing: another thread of the program can replace the name after it was
//! read, and then only the observation is wrong. A file that is opened relative to a descriptor is named by the path of
//! that descriptor at this moment.
//!
//! The alternatives were rejected. Tracing stops a program at every call, and programs that trace others don't work under
//! it. An overlay sees no reads, and moving a folder across it fails. Access times of the files don't tell stages that run
//! at the same time apart.

use std::collections::HashSet;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use libc::c_long;
use serde::{Deserialize, Serialize};

use super::call::BrokeredCall;

/// The most observations of one sandbox that are kept.
pub(super) const MAX_OBSERVATIONS: usize = 200_000;
/// The most bytes of all paths together.
const MAX_BYTES: usize = 64 << 20;
/// The longest path that a call can name, which a program may exceed by its working directory.
const LONGEST_PATH: usize = libc::PATH_MAX as usize;
/// The longest path of a system call, with its terminator.
const PATH_MAX: usize = 4096;
/// A read from a program's memory mustn't cross into a page that may not exist.
const PAGE: u64 = 4096;

/// Which files' uses are observed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observe {
    /// Folders whose files aren't reported.
    pub except: Vec<PathBuf>,
    /// A folder whose files are reported, even if it lies in one of those.
    pub within: PathBuf,
}

/// How a program uses a path. Whether it succeeds isn't known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FileUse {
    /// It looks whether the path exists, and at its attributes.
    Look,
    /// It opens a file or folder for reading.
    Read,
    /// It lists a folder.
    List,
    /// It starts a program, or maps code.
    Start,
    /// It changes a file.
    Write,
    /// It opens a file for writing, and makes it if it doesn't exist.
    Create,
    /// It makes a folder.
    MakeFolder,
    /// It makes a name for another file: by a link or by renaming.
    Name,
    /// It removes a name, or gives the file another one.
    Remove,
}

/// The first use of a path in one way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileObservation {
    /// The absolute path as the program wrote it: links aren't followed, and `..` isn't resolved.
    #[serde(with = "super::wire::path")]
    pub path: PathBuf,
    /// The use.
    pub of: FileUse,
    /// Whether anything existed there before the call.
    pub existed: bool,
}

/// Collects observations.
pub(super) struct CallObserver {
    observe: Observe,
    seen: Mutex<SeenFiles>,
}

#[derive(Default)]
struct SeenFiles {
    known: HashSet<(FileUse, PathBuf)>,
    /// Of all paths in `known`.
    bytes: usize,
    new: Vec<FileObservation>,
}

impl CallObserver {
    pub(super) fn new(observe: Observe) -> CallObserver {
        CallObserver { observe, seen: Mutex::default() }
    }

    /// Takes the observations since the last time.
    pub(super) fn take(&self) -> Vec<FileObservation> {
        std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner).new)
    }

    /// Notes the files that a call names. Never blocks: init itself waits for calls of the programs that it starts.
    pub(super) fn observe(&self, call: &BrokeredCall<'_>) {
        // Init is under the filter, too.
        if call.caller() == 1 {
            return;
        }
        for named in named_files(call.number(), call.arguments()).into_iter().flatten() {
            if let Some(path) = named.path(call) {
                self.add(path, named.of, call);
            }
        }
    }

    fn add(&self, path: PathBuf, of: FileUse, call: &BrokeredCall<'_>) {
        let Observe { except, within } = &self.observe;
        if !path.starts_with(within) && except.iter().any(|folder| path.starts_with(folder)) {
            return;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let size = path.as_os_str().len();
        let is_full = seen.known.len() >= MAX_OBSERVATIONS || seen.bytes + size > MAX_BYTES;
        if is_full || size > LONGEST_PATH || seen.known.contains(&(of, path.clone())) {
            return;
        }
        let existed = fs::symlink_metadata(&path).is_ok();
        let makes = matches!(of, FileUse::Create | FileUse::MakeFolder | FileUse::Name);
        // Nothing is made in a folder that doesn't exist.
        if makes && !path.parent().is_some_and(Path::is_dir) {
            return;
        }
        // If the program has ended, its number may have been another's when the path was read.
        if call.is_waiting().is_ok() {
            seen.bytes += size;
            seen.known.insert((of, path.clone()));
            seen.new.push(FileObservation { path, of, existed });
        }
    }
}

/// A file that a call names.
#[derive(Clone, Copy)]
struct NamedFile {
    name: Name,
    of: FileUse,
}

#[derive(Clone, Copy)]
enum Name {
    /// By a pointer to a path that is relative to the working directory.
    Path(u64),
    /// By a pointer to a path that is relative to the descriptor of a folder.
    PathAt(u64, u64),
    /// By its descriptor.
    Descriptor(u64),
}

impl NamedFile {
    fn path(self, call: &BrokeredCall<'_>) -> Option<PathBuf> {
        let process = PathBuf::from(format!("/proc/{}", call.caller()));
        let of_descriptor = |number: u64| {
            // The kernel ignores the upper half as well.
            #[expect(clippy::cast_possible_truncation, reason = "a descriptor is an int")]
            let link = match number as i32 {
                libc::AT_FDCWD => process.join("cwd"),
                number => process.join("fd").join(number.to_string()),
            };
            // Pipes and deleted files aren't named by a path that exists.
            fs::read_link(link).ok().filter(|path| path.is_absolute())
        };
        let (folder, pointer) = match self.name {
            Name::Descriptor(number) => return of_descriptor(number),
            Name::Path(pointer) => (u64::from(libc::AT_FDCWD.cast_unsigned()), pointer),
            Name::PathAt(folder, pointer) => (folder, pointer),
        };
        let path = path_at(call, pointer)?;
        if path.is_absolute() { Some(path) } else { Some(of_descriptor(folder)?.join(path)) }
    }
}

/// Reads a path from the program's memory; none for an empty one.
fn path_at(call: &BrokeredCall<'_>, from: u64) -> Option<PathBuf> {
    let mut path = Vec::new();
    while from != 0 && path.len() < PATH_MAX {
        let at = from.checked_add(u64::try_from(path.len()).ok()?)?;
        let length = (PAGE - at % PAGE).min(256);
        let part = call.memory(at, usize::try_from(length).ok()?).ok()?;
        if let Some(end) = part.iter().position(|&byte| byte == 0) {
            path.extend_from_slice(&part[..end]);
            let path = PathBuf::from(std::ffi::OsString::from_vec(path));
            return (!path.as_os_str().as_bytes().is_empty()).then_some(path);
        }
        path.extend(part);
    }
    None
}

/// What a call names: one or two files.
fn named_files(call: c_long, arguments: [u64; 6]) -> [Option<NamedFile>; 2] {
    use FileUse::{Create, List, Look, MakeFolder, Name as Named, Read, Remove, Start, Write};
    let [first, second, third, fourth, fifth, _] = arguments;
    let path = |name, of| Some(NamedFile { name: Name::Path(name), of });
    let at = |folder, name, of| Some(NamedFile { name: Name::PathAt(folder, name), of });
    let descriptor = |number, of| Some(NamedFile { name: Name::Descriptor(number), of });
    match call {
        libc::SYS_openat => [at(first, second, use_of_open(third)), None],
        libc::SYS_newfstatat | libc::SYS_statx | libc::SYS_faccessat | libc::SYS_faccessat2 | libc::SYS_readlinkat => {
            [at(first, second, Look), None]
        }
        libc::SYS_chdir => [path(first, Look), None],
        libc::SYS_getdents64 => [descriptor(first, List), None],
        libc::SYS_execve => [path(first, Start), None],
        libc::SYS_execveat => [at(first, second, Start), None],
        libc::SYS_mmap => [descriptor(fifth, Start), None],
        libc::SYS_mkdirat => [at(first, second, MakeFolder), None],
        libc::SYS_mknodat => [at(first, second, Named), None],
        libc::SYS_symlinkat => [at(second, third, Named), None],
        libc::SYS_linkat => [at(first, second, Read), at(third, fourth, Named)],
        #[cfg(not(target_arch = "riscv64"))]
        libc::SYS_renameat => [at(first, second, Remove), at(third, fourth, Named)],
        libc::SYS_renameat2 => [at(first, second, Remove), at(third, fourth, Named)],
        libc::SYS_unlinkat => [at(first, second, Remove), None],
        libc::SYS_truncate => [path(first, Write), None],
        libc::SYS_fchmodat | libc::SYS_fchownat | libc::SYS_utimensat => [at(first, second, Write), None],
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open => [path(first, use_of_open(second)), None],
        #[cfg(target_arch = "x86_64")]
        libc::SYS_stat | libc::SYS_lstat | libc::SYS_access | libc::SYS_readlink => [path(first, Look), None],
        #[cfg(target_arch = "x86_64")]
        libc::SYS_creat => [path(first, Create), None],
        #[cfg(target_arch = "x86_64")]
        libc::SYS_mkdir => [path(first, MakeFolder), None],
        #[cfg(target_arch = "x86_64")]
        libc::SYS_mknod => [path(first, Named), None],
        #[cfg(target_arch = "x86_64")]
        libc::SYS_symlink => [path(second, Named), None],
        #[cfg(target_arch = "x86_64")]
        libc::SYS_link => [path(first, Read), path(second, Named)],
        #[cfg(target_arch = "x86_64")]
        libc::SYS_rename => [path(first, Remove), path(second, Named)],
        #[cfg(target_arch = "x86_64")]
        libc::SYS_unlink | libc::SYS_rmdir => [path(first, Remove), None],
        #[cfg(target_arch = "x86_64")]
        libc::SYS_chmod | libc::SYS_chown | libc::SYS_lchown | libc::SYS_utime | libc::SYS_utimes => {
            [path(first, Write), None]
        }
        _ => [None, None],
    }
}

fn use_of_open(flags: u64) -> FileUse {
    #[expect(clippy::cast_possible_truncation, reason = "flags are an int")]
    let flags = flags as i32;
    let has = |flag: i32| flags & flag == flag;
    match () {
        () if has(libc::O_PATH) => FileUse::Look,
        // The path is that of a folder in which a file without a name is made.
        () if has(libc::O_TMPFILE) => FileUse::Write,
        () if has(libc::O_CREAT) => FileUse::Create,
        () if flags & libc::O_ACCMODE != libc::O_RDONLY || has(libc::O_TRUNC) => FileUse::Write,
        () if has(libc::O_DIRECTORY) => FileUse::Look,
        () => FileUse::Read,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_say_how_a_file_is_opened() {
        let of = |flags: i32| use_of_open(u64::from(flags.cast_unsigned()));
        assert_eq!(of(libc::O_RDONLY | libc::O_CLOEXEC), FileUse::Read);
        assert_eq!(of(libc::O_RDONLY | libc::O_DIRECTORY), FileUse::Look);
        assert_eq!(of(libc::O_RDWR), FileUse::Write);
        assert_eq!(of(libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC), FileUse::Create);
        assert_eq!(of(libc::O_RDWR | libc::O_TMPFILE), FileUse::Write);
        assert_eq!(of(libc::O_PATH | libc::O_NOFOLLOW), FileUse::Look);
    }

    #[test]
    fn calls_name_one_file_or_two() {
        let uses = |call| named_files(call, [1, 2, 3, 4, 5, 6]).map(|named| named.map(|named| named.of));
        assert_eq!(uses(libc::SYS_renameat2), [Some(FileUse::Remove), Some(FileUse::Name)]);
        assert_eq!(uses(libc::SYS_symlinkat), [Some(FileUse::Name), None]);
        assert_eq!(uses(libc::SYS_getpid), [None, None]);
    }
}
