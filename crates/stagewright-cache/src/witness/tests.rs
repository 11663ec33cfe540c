//! Changes that were undone, and changes that a file's times don't show.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::index::FileIndex;
use crate::scan::with_folders;

struct Fixture {
    folder: tempfile::TempDir,
    index: FileIndex,
    inputs: Globs,
}

impl Fixture {
    /// `src/a`, `src/deep/b`, and `other` beside them.
    fn new() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("src/deep")).unwrap();
        for path in ["src/a", "src/deep/b", "other"] {
            fs::write(folder.path().join(path), "content").unwrap();
        }
        let index = FileIndex::new(folder.path().join("index"));
        Fixture { folder, index, inputs: Globs::new(&["src/**".parse().unwrap()]).unwrap() }
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.folder.path().join(path)
    }

    fn workspace(&self) -> WorkspaceScan<'_> {
        WorkspaceScan { root: self.folder.path(), reserved: &[], index: &self.index }
    }

    fn found(&self) -> Vec<ScannedEntry> {
        with_folders(self.workspace().find(&self.inputs).unwrap(), |file| self.inputs.name(&file.path))
    }

    /// The path at which the witness detects `change`. The change must leave all contents, modes and modification times
    /// as they were.
    fn detected(&self, writes: &str, change: impl FnOnce()) -> Option<String> {
        let found = self.found();
        let found = if wait_until_changes_show(&found, &ForeignFiles::of(&[], &nothing(), [])).unwrap() {
            self.found()
        } else {
            found
        };
        let writes = Globs::new(&[writes.parse().unwrap()]).unwrap();
        let witness = Witness::of(&found, Some(&["src".to_owned()]), &writes);
        let tree = self.workspace().read(&found).unwrap();
        change();
        let after = self.found();
        assert_eq!(self.workspace().read(&after).unwrap(), tree, "the change undoes itself");
        witness.first_changed(&after).map(str::to_owned)
    }
}

fn nothing() -> Globs {
    Globs::new(&[]).unwrap()
}

fn keep_times(path: &std::path::Path, change: impl FnOnce()) {
    let modified = path.metadata().unwrap().modified().unwrap();
    change();
    fs::File::options().append(true).open(path).unwrap().set_modified(modified).unwrap();
}

#[test]
fn a_change_that_was_undone_is_detected() {
    let fixture = Fixture::new();
    let (a, spare) = (fixture.path("src/a"), fixture.path("spare"));
    let rewrite = || {
        keep_times(&a, || {
            fs::write(&a, "CONTENT").unwrap();
            fs::write(&a, "content").unwrap();
        });
    };
    assert_eq!(fixture.detected("out", rewrite), Some("src/a".into()));
    let replace = || {
        fs::rename(&a, &spare).unwrap();
        fs::write(&a, "CONTENT").unwrap();
        fs::rename(&spare, &a).unwrap();
    };
    assert!(fixture.detected("out", replace).is_some());
    let change_mode = || {
        fs::set_permissions(&a, fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(&a, fs::Permissions::from_mode(0o644)).unwrap();
    };
    fs::set_permissions(&a, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(fixture.detected("out", change_mode), Some("src/a".into()));
    assert_eq!(fixture.detected("out", || {}), None);
}

#[test]
fn a_replaced_folder_and_a_temporary_file_in_a_folder_are_detected() {
    let fixture = Fixture::new();
    let (deep, spare) = (fixture.path("src/deep"), fixture.path("spare"));
    let exchange = || {
        fs::rename(&deep, &spare).unwrap();
        fs::create_dir(&deep).unwrap();
        fs::remove_dir(&deep).unwrap();
        fs::rename(&spare, &deep).unwrap();
    };
    assert!(fixture.detected("out", exchange).is_some());
    let momentary = |path: &str| {
        let path = fixture.path(path);
        fs::write(&path, "").unwrap();
        fs::remove_file(path).unwrap();
    };
    assert_eq!(fixture.detected("out", || momentary("src/deep/extra")), Some("src/deep".into()));
    assert_eq!(fixture.detected("out", || momentary("beside")), None, "the stage can't read that path");
    // The stage may create and remove files where it writes.
    assert_eq!(fixture.detected("src/deep/made", || momentary("src/deep/made")), None);
    assert!(fixture.detected("src/deep/made", exchange).is_some(), "but the folder stays the same");
}

#[test]
fn a_file_that_is_open_for_writing_is_named() {
    let fixture = Fixture::new();
    let found = fixture.found();
    assert_eq!(open_for_writing(fixture.folder.path(), &found), None);
    let open = fs::File::options().write(true).open(fixture.path("src/deep/b")).unwrap();
    assert_eq!(open_for_writing(fixture.folder.path(), &found), Some("src/deep/b"));
    drop(open);
    assert_eq!(open_for_writing(fixture.folder.path(), &found), None);
}

/// A store through a mapping on a tmpfs doesn't update the file's times, so the index doesn't detect it either.
#[test]
fn rereading_detects_a_change_that_no_time_shows() {
    let fixture = Fixture::new();
    let found = fixture.found();
    wait_until_changes_show(&found, &ForeignFiles::of(&[], &nothing(), [])).unwrap();
    let tree = fixture.workspace().read(&found).unwrap();
    assert!(is_unchanged_when_reread(&fixture.workspace(), &found, &tree).unwrap());
    let mut other = tree.clone();
    other.0.insert(
        "src/a".into(),
        crate::tree::TreeNode::File { mode: 0o644, digest: crate::digest::Digest::of("other") },
    );
    assert!(!is_unchanged_when_reread(&fixture.workspace(), &found, &other).unwrap());
}

#[test]
fn files_changed_within_the_current_tick_are_waited_for() {
    let fixture = Fixture::new();
    let before = crate::stamp::now();
    fs::write(fixture.path("src/a"), "content").unwrap();
    let found = fixture.found();
    let is_settled = |now: i128| found.iter().all(|file| file.stamp.shows_changes_after(now));
    assert!(!is_settled(before));
    wait_until_changes_show(&found, &ForeignFiles::of(&[], &nothing(), [])).unwrap();
    assert!(
        is_settled(crate::stamp::now())
            && !wait_until_changes_show(&found, &ForeignFiles::of(&[], &nothing(), [])).unwrap()
    );
}

#[test]
fn changes_of_files_that_others_left_are_detected() {
    let fixture = Fixture::new();
    let others = || ForeignFiles::of(&fixture.found(), &nothing(), []);
    let before = others();
    wait_until_changes_show(&[], &before).unwrap();
    fs::write(fixture.path("src/deep/new"), "").unwrap();
    assert_eq!(before.first_changed(fixture.folder.path()), None, "a new file is the stage's own");
    let a = fixture.path("src/a");
    keep_times(&a, || fs::write(&a, "content").unwrap());
    assert_eq!(before.first_changed(fixture.folder.path()), Some("src/a"));
    let before = others();
    fs::remove_file(a).unwrap();
    assert_eq!(before.first_changed(fixture.folder.path()), Some("src/a"));
}
