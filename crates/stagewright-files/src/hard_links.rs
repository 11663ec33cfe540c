//! Finds files with hard links outside of some folders: writing to one name changes the file under all of its names.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The result of [`hard_links`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HardLinks {
    /// Files with a name that was not found below the roots, each by the first of its names that was; sorted.
    pub leading_outside: Vec<PathBuf>,
    /// Whether all entries were examined. If not, `leading_outside` is empty.
    pub complete: bool,
}

/// Searches `roots`, without entering `except`, for files that have more names than were found among the paths for which
/// `counts` is true. Symbolic links are not followed, and entries that can't be read are skipped. Gives up after `most`
/// entries.
pub fn hard_links(roots: &[PathBuf], except: &[PathBuf], counts: impl Fn(&Path) -> bool, most: usize) -> HardLinks {
    let mut found: HashMap<(u64, u64), (u64, u64, PathBuf)> = HashMap::new();
    let mut left = roots.to_vec();
    let mut examined = 0;
    while let Some(path) = left.pop() {
        let Some(metadata) = path.symlink_metadata().ok().filter(|_| !except.contains(&path)) else { continue };
        examined += 1;
        if examined > most {
            return HardLinks::default();
        }
        if metadata.is_dir() {
            left.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        } else if metadata.is_file() && metadata.nlink() > 1 && counts(&path) {
            let key = (metadata.dev(), metadata.ino());
            let (names, _, first) = found.entry(key).or_insert((0, metadata.nlink(), path.clone()));
            *names += 1;
            if path < *first {
                *first = path;
            }
        }
    }
    let outside = found.into_values().filter(|(names, links, _)| names < links).map(|(.., first)| first);
    let mut leading_outside = outside.collect::<Vec<_>>();
    leading_outside.sort();
    HardLinks { leading_outside, complete: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_with_names_outside_the_roots_are_found() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        fs::create_dir_all(path("out/deep")).unwrap();
        for name in ["elsewhere", "out/alone", "out/twice"] {
            fs::write(path(name), name).unwrap();
        }
        fs::hard_link(path("out/twice"), path("out/deep/again")).unwrap();
        fs::hard_link(path("elsewhere"), path("out/deep/door")).unwrap();
        fs::hard_link(path("elsewhere"), path("out/door")).unwrap();
        std::os::unix::fs::symlink(path("elsewhere"), path("out/link")).unwrap();
        let found = hard_links(&[path("out")], &[], |_| true, 100);
        assert_eq!(found, HardLinks { leading_outside: vec![path("out/deep/door")], complete: true });
        let partly = hard_links(&[path("out")], &[], |path| !path.ends_with("again"), 100);
        assert_eq!(partly.leading_outside, [path("out/deep/door"), path("out/twice")]);
        let partly = hard_links(&[path("out")], &[path("out/door")], |_| true, 100);
        assert_eq!(partly.leading_outside, [path("out/deep/door")]);
        assert_eq!(hard_links(&[path("out")], &[], |_| true, 3), HardLinks::default());
        assert!(hard_links(&[path("none")], &[], |_| true, 100).complete);
    }
}
