//! What the programs of a sandbox see of the machine's files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use stagewright_process::sandbox::{Access, Place, Source};

/// The most links that are followed, as in the kernel.
const LINKS: usize = 40;

/// The mounts of a sandbox, which outlives it: what a program couldn't do is explained after it has ended.
#[derive(Debug)]
pub(crate) struct SandboxView {
    places: Vec<Place>,
    /// The paths of programs that a refusal stands in for.
    refused: BTreeSet<PathBuf>,
}

impl SandboxView {
    /// `places`: in the order in which they are mounted.
    pub(crate) fn new(places: Vec<Place>) -> SandboxView {
        SandboxView { places, refused: BTreeSet::new() }
    }

    /// Adds paths at which programs see a refusal instead of the machine's program.
    pub(super) fn refusing(self, refused: BTreeSet<PathBuf>) -> SandboxView {
        SandboxView { refused, ..self }
    }

    /// The access of programs to an existing file of the machine, whose links are not followed; none if programs don't see
    /// it, or see another file at its path.
    pub(crate) fn access(&self, path: &Path) -> Option<Access> {
        self.found(path, LINKS).flatten().filter(|_| !self.refused.contains(path))
    }

    /// Whether a file is at the path, whatever programs may do with it.
    pub(crate) fn has(&self, path: &Path) -> bool {
        self.found(path, LINKS).is_some()
    }

    /// The last mount at the path or around it, which covers earlier ones.
    pub(super) fn around(&self, path: &Path) -> Option<&Place> {
        self.places.iter().rev().find(|place| path.starts_with(&place.path))
    }

    /// The access that the mount of an existing file gives. `links`: how many mounted links may still be followed.
    fn found(&self, path: &Path, links: usize) -> Option<Option<Access>> {
        let place = self.around(path)?;
        let below = path.strip_prefix(&place.path).ok()?;
        let seen = match &place.source {
            Source::Host(source) | Source::HostIfThere(source) => within(source, below),
            Source::Below(folder, source) | Source::Held(folder, source) => within(&folder.join(source), below),
            Source::Link(_) if below.as_os_str().is_empty() => return Some(Some(Access::Read)),
            // As `/bin`, a link to `usr/bin`.
            Source::Link(target) => {
                let led = place.path.parent()?.join(target).join(below);
                return self.found(&led, links.checked_sub(1)?);
            }
            Source::Socket(_) | Source::Nothing | Source::Memory(_) => return None,
        };
        seen.symlink_metadata().is_ok().then_some(place.access)
    }

    /// Whether programs can start a file of the machine, and see all that its links lead to.
    pub(crate) fn starts(&self, program: &Path) -> bool {
        let may_start = |path: &Path| self.access(path) >= Some(Access::Execute);
        may_start(program) && program.canonicalize().is_ok_and(|real| may_start(&real))
    }
}

/// `join` adds a slash for an empty path, and a file isn't found with one.
fn within(source: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() { source.to_owned() } else { source.join(below) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str, source: Source, access: Option<Access>) -> Place {
        Place { path: path.into(), source, access }
    }

    #[test]
    fn the_last_mount_over_a_path_decides() {
        let machine = tempfile::tempdir().unwrap();
        let folder = machine.path().canonicalize().unwrap();
        std::fs::create_dir_all(folder.join("w/src")).unwrap();
        std::fs::write(folder.join("w/src/a"), "").unwrap();
        std::fs::write(folder.join("w/b"), "").unwrap();
        let [root, src] = ["w", "w/src"].map(|name| folder.join(name).display().to_string());
        let view = SandboxView::new(vec![
            place(&root, Source::Host(folder.join("w")), Some(Access::Write)),
            place(&root, Source::Nothing, None),
            place(&src, Source::Below(folder.join("w"), "src".into()), Some(Access::Read)),
        ]);
        assert_eq!(view.access(&folder.join("w/src/a")), Some(Access::Read));
        assert_eq!(view.access(&folder.join("w/src/none")), None);
        assert_eq!(view.access(&folder.join("w/b")), None, "the folder that hides it was mounted later");
        assert_eq!(view.access(&folder.join("elsewhere")), None);
        let links = SandboxView::new(vec![
            place("/usr", Source::Host("/usr".into()), Some(Access::Execute)),
            place("/bin", Source::Link("usr/bin".into()), None),
            place("/loop", Source::Link("loop".into()), None),
        ]);
        assert_eq!(links.access(Path::new("/bin/env")), Some(Access::Execute));
        assert_eq!(links.access(Path::new("/loop/env")), None);
    }

    #[test]
    fn a_path_at_which_programs_see_another_file_is_not_seen() {
        let machine = tempfile::tempdir().unwrap();
        let folder = machine.path().canonicalize().unwrap();
        for name in ["home/bin", "own"] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
        }
        std::fs::copy("/bin/true", folder.join("home/bin/tool")).unwrap();
        let home = folder.join("home").display().to_string();
        let view = SandboxView::new(vec![place(&home, Source::Host(folder.join("own")), Some(Access::Write))]);
        assert!(!view.starts(&folder.join("home/bin/tool")));
        let view = SandboxView::new(vec![place(&home, Source::Host(folder.join("home")), Some(Access::Execute))]);
        assert!(view.starts(&folder.join("home/bin/tool")));
    }
}
