//! Changes that were undone, and what hides from the clock.

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

    /// What shows of a deed; all of it leaves every content, mode and modification time as it was.
    fn shows(&self, writes: &str, deed: impl FnOnce()) -> Option<String> {
        let found = self.found();
        let found = if wait_until_changes_show(&found, &ForeignFiles::of(&[], &nothing(), [])).unwrap() {
            self.found()
        } else {
            found
        };
        let writes = Globs::new(&[writes.parse().unwrap()]).unwrap();
        let witness = Witness::of(&found, Some(&["src".to_owned()]), &writes);
        let tree = self.workspace().read(&found).unwrap();
        deed();
        let after = self.found();
        assert_eq!(self.workspace().read(&after).unwrap(), tree, "the deed undoes itself");
        witness.first_changed(&after).map(str::to_owned)
    }
}

fn nothing() -> Globs {
    Globs::new(&[]).unwrap()
}

fn keep_times(path: &std::path::Path, deed: impl FnOnce()) {
    let modified = path.metadata().unwrap().modified().unwrap();
    deed();
    fs::File::options().append(true).open(path).unwrap().set_modified(modified).unwrap();
}

#[test]
fn what_was_changed_and_changed_back_shows() {
    let fixture = Fixture::new();
    let (a, spare) = (fixture.path("src/a"), fixture.path("spare"));
    let rewrite = || {
        keep_times(&a, || {
            fs::write(&a, "CONTENT").unwrap();
            fs::write(&a, "content").unwrap();
        });
    };
    assert_eq!(fixture.shows("out", rewrite), Some("src/a".into()));
    let replace = || {
        fs::rename(&a, &spare).unwrap();
        fs::write(&a, "CONTENT").unwrap();
        fs::rename(&spare, &a).unwrap();
    };
    assert!(fixture.shows("out", replace).is_some());
    let change_mode = || {
        fs::set_permissions(&a, fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(&a, fs::Permissions::from_mode(0o644)).unwrap();
    };
    fs::set_permissions(&a, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(fixture.shows("out", change_mode), Some("src/a".into()));
    assert_eq!(fixture.shows("out", || {}), None);
}

#[test]
fn a_folder_that_was_exchanged_or_held_something_for_a_moment_shows() {
    let fixture = Fixture::new();
    let (deep, spare) = (fixture.path("src/deep"), fixture.path("spare"));
    let exchange = || {
        fs::rename(&deep, &spare).unwrap();
        fs::create_dir(&deep).unwrap();
        fs::remove_dir(&deep).unwrap();
        fs::rename(&spare, &deep).unwrap();
    };
    assert!(fixture.shows("out", exchange).is_some());
    let momentary = |path: &str| {
        let path = fixture.path(path);
        fs::write(&path, "").unwrap();
        fs::remove_file(path).unwrap();
    };
    assert_eq!(fixture.shows("out", || momentary("src/deep/extra")), Some("src/deep".into()));
    assert_eq!(fixture.shows("out", || momentary("beside")), None, "it was given nothing there");
    // Its own files come and go where it writes.
    assert_eq!(fixture.shows("src/deep/made", || momentary("src/deep/made")), None);
    assert!(fixture.shows("src/deep/made", exchange).is_some(), "but the folder stays the same");
}

#[test]
fn a_file_that_can_be_written_to_unseen_is_named() {
    let fixture = Fixture::new();
    let found = fixture.found();
    assert_eq!(open_for_writing(fixture.folder.path(), &found), None);
    let open = fs::File::options().write(true).open(fixture.path("src/deep/b")).unwrap();
    assert_eq!(open_for_writing(fixture.folder.path(), &found), Some("src/deep/b"));
    drop(open);
    assert_eq!(open_for_writing(fixture.folder.path(), &found), None);
}

/// A store through a mapping on a tmpfs moves no time of the file at all; the index is as blind.
#[test]
fn what_no_time_tells_of_is_read_again() {
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
fn a_change_within_the_present_tick_is_waited_for() {
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
fn what_others_left_has_to_stay_as_it_is() {
    let fixture = Fixture::new();
    let others = || ForeignFiles::of(&fixture.found(), &nothing(), []);
    let before = others();
    wait_until_changes_show(&[], &before).unwrap();
    fs::write(fixture.path("src/deep/new"), "").unwrap();
    assert_eq!(before.first_changed(fixture.folder.path()), None, "that is the stage's own");
    let a = fixture.path("src/a");
    keep_times(&a, || fs::write(&a, "content").unwrap());
    assert_eq!(before.first_changed(fixture.folder.path()), Some("src/a"));
    let before = others();
    fs::remove_file(a).unwrap();
    assert_eq!(before.first_changed(fixture.folder.path()), Some("src/a"));
}
