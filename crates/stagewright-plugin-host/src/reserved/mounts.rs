//! Finds other paths of the same folders, as created by `mount --bind`.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// proc(5), `/proc/PID/mountinfo`.
const TABLE: &str = "/proc/self/mountinfo";

/// One line of the table.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// Major and minor number, as text.
    device: String,
    /// The folder of the file system that is mounted.
    root: PathBuf,
    /// The mount point.
    point: PathBuf,
}

/// All mounts, in the order in which they were mounted.
#[derive(Debug, Default)]
pub(super) struct Mounts(Vec<Mount>);

impl Mounts {
    #[expect(clippy::disallowed_methods, reason = "the kernel's own table: no file can take its place")]
    pub(super) fn read() -> io::Result<Mounts> {
        match fs::read_to_string(TABLE) {
            Ok(text) => Ok(Mounts::parse(&text)),
            // A system without the table has no bind mounts either.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Mounts::default()),
            Err(error) => Err(error),
        }
    }

    fn parse(text: &str) -> Mounts {
        let mounts = text.lines().filter_map(|line| {
            let mut fields = line.split(' ').skip(2);
            let device = fields.next()?.to_owned();
            Some(Mount { device, root: unescaped(fields.next()?), point: unescaped(fields.next()?) })
        });
        Mounts(mounts.collect())
    }

    /// Other paths of `place`, which must be a real path, that are in `workspace` or the workspace itself.
    pub(super) fn aliases(&self, place: &Path, workspace: &Path) -> Vec<PathBuf> {
        let Some(own) = self.holding(place) else { return Vec::new() };
        let Ok(below) = place.strip_prefix(&own.point) else { return Vec::new() };
        let in_file_system = if below == Path::new("") { own.root.clone() } else { own.root.join(below) };
        let near = self.0.iter().filter(|mount| {
            *mount != own
                && mount.device == own.device
                && (mount.point.starts_with(workspace) || workspace.starts_with(&mount.point))
        });
        let others = near.filter_map(|mount| Some(mount.point.join(in_file_system.strip_prefix(&mount.root).ok()?)));
        // Without the paths that are hidden by another mount.
        others
            .filter(|other| {
                other.starts_with(workspace) && self.holding(other).is_some_and(|at| at.device == own.device)
            })
            .collect()
    }

    /// The mount that is visible at a path: the innermost one, and the last of several at the same point.
    fn holding(&self, path: &Path) -> Option<&Mount> {
        let above = self.0.iter().filter(|mount| path.starts_with(&mount.point));
        above.max_by_key(|mount| mount.point.components().count())
    }
}

/// Resolves the octal escapes of the table, such as `\040` for a space.
fn unescaped(field: &str) -> PathBuf {
    let bytes = field.as_bytes();
    let (mut plain, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let code = field.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\');
        match code.and_then(|code| u8::from_str_radix(code, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                at += 4;
            }
            None => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "25 1 254:0 / / rw - ext4 /dev/vda rw\n";

    fn aliases(table: &str, place: &str) -> Vec<PathBuf> {
        Mounts::parse(table).aliases(Path::new(place), Path::new("/src/w"))
    }

    #[test]
    fn every_mount_of_a_folder_in_the_workspace_is_found() {
        let bound = format!("{PLAIN}30 25 254:0 /src/w/.stagewright /src/w/x\\040y rw - ext4 /dev/vda rw\n");
        assert_eq!(aliases(&bound, "/src/w/.stagewright"), [PathBuf::from("/src/w/x y/")]);
        assert_eq!(aliases(&bound, "/src/w/.stagewright/kept"), [PathBuf::from("/src/w/x y/kept")]);
        assert_eq!(aliases(&bound, "/src/w/other"), Vec::<PathBuf>::new());
        let parent = format!("{PLAIN}30 25 254:0 /src /src/w/mirror rw - ext4 /dev/vda rw\n");
        assert_eq!(aliases(&parent, "/src/w/.git"), [PathBuf::from("/src/w/mirror/w/.git")]);
        let elsewhere = format!("{PLAIN}30 25 254:0 /srv/state /src/w/st rw - ext4 /dev/vda rw\n");
        assert_eq!(aliases(&elsewhere, "/srv/state"), [PathBuf::from("/src/w/st/")]);
    }

    #[test]
    fn a_mount_of_another_file_system_is_not_an_alias() {
        let other = format!("{PLAIN}30 25 0:42 / /src/w/x rw - tmpfs none rw\n");
        assert_eq!(aliases(&other, "/src/w/.git"), Vec::<PathBuf>::new());
        assert_eq!(aliases(PLAIN, "/src/w/.git"), Vec::<PathBuf>::new());
    }
}
