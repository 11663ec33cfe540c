//! Which files globs name, what their digest covers, and which paths a stage gets access to.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

struct Fixture {
    folder: tempfile::TempDir,
    index: FileIndex,
}

impl Fixture {
    fn new(files: &[(&str, &str)]) -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let index = FileIndex::new(folder.path().join(".stagewright/files"));
        let fixture = Fixture { folder, index };
        files.iter().for_each(|(path, text)| fixture.write(path, text));
        fixture
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.folder.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn mode(&self, path: &str, mode: u32) {
        std::fs::set_permissions(self.path(path), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn workspace(&self) -> WorkspaceScan<'_> {
        const RESERVED: &[String] = &[];
        WorkspaceScan { root: self.folder.path(), reserved: RESERVED, index: &self.index }
    }

    fn try_scan(&self, named: &[&str], without: &[&str]) -> io::Result<Tree> {
        let (named, without) = (globs(named), globs(without));
        let found = self.workspace().find(&named)?;
        self.workspace().read(&with_folders(found, |file| named.name(&file.path) && !without.matches(&file.path)))
    }

    fn scan(&self, named: &[&str], without: &[&str]) -> Tree {
        self.try_scan(named, without).unwrap()
    }

    fn cover(&self, named: &[&str]) -> Vec<String> {
        let mut cover = self.workspace().cover(&self.scan(named, &[]), 100).unwrap().unwrap();
        cover.sort();
        cover
    }
}

fn globs(globs: &[&str]) -> Globs {
    Globs::new(&globs.iter().map(|glob| glob.parse().unwrap()).collect::<Vec<_>>()).unwrap()
}

/// The paths of files and links.
fn paths(tree: &Tree) -> Vec<&str> {
    let files = tree.0.iter().filter(|(_, node)| node.digest().is_some());
    files.map(|(path, _)| path.as_str()).collect()
}

const FILES: [(&str, &str); 8] = [
    (".gitignore", "dist/\n*.log\n"),
    ("src/a.rs", "a"),
    ("src/deep/b.rs", "b"),
    ("src/deep/b.log", "noise"),
    ("src/deep/.gitignore", "made\n"),
    ("src/deep/made", "x"),
    ("dist/app", "app"),
    ("dist/old.log", "noise"),
];

#[test]
fn a_wildcard_skips_ignored_files_and_a_literal_name_does_not() {
    let fixture = Fixture::new(&FILES);
    let all = [".gitignore", "src/a.rs", "src/deep/.gitignore", "src/deep/b.rs"];
    assert_eq!(paths(&fixture.scan(&["**"], &[])), all);
    assert_eq!(paths(&fixture.scan(&["src"], &[])), all[1..]);
    assert_eq!(
        paths(&fixture.scan(&["**/*.rs", "dist/**"], &[])),
        ["dist/app", "dist/old.log", "src/a.rs", "src/deep/b.rs"]
    );
    assert_eq!(paths(&fixture.scan(&["dist/app", "nowhere/**", "**/*.log"], &[])), ["dist/app"]);
    assert_eq!(paths(&fixture.scan(&["src"], &["src/deep"])), ["src/a.rs"]);
    assert_eq!(paths(&fixture.scan(&[], &[])), [""; 0]);
}

#[test]
fn the_digest_covers_all_that_a_program_can_see_except_times() {
    let fixture = Fixture::new(&[("in/a", "1"), ("in/b", "2")]);
    let digest = || fixture.scan(&["in/**"], &[]).digest();
    let mut seen = vec![digest()];
    fixture.write("in/a", "1");
    assert_eq!(digest(), seen[0]);
    let mut changed = |what: &str| {
        let now = digest();
        assert!(!seen.contains(&now), "{what}");
        seen.push(now);
    };
    fixture.write("in/a", "2");
    changed("content");
    for mode in [0o755, 0o600, 0o640, 0o444] {
        fixture.mode("in/a", mode);
        changed("a mode");
    }
    fixture.mode("in", 0o700);
    changed("the mode of a folder");
    std::fs::create_dir(fixture.path("in/empty")).unwrap();
    changed("an empty folder");
    fixture.mode("in/empty", 0o700);
    changed("the mode of an empty folder");
    symlink("a", fixture.path("in/link")).unwrap();
    changed("a link");
    std::fs::remove_file(fixture.path("in/link")).unwrap();
    symlink("b", fixture.path("in/link")).unwrap();
    changed("the target of a link");
}

#[test]
fn pipes_sockets_and_names_that_are_not_utf_8_are_refused_by_name() {
    let fixture = Fixture::new(&[("in/a", "1"), (".gitignore", "ignored\n")]);
    let refused = || fixture.try_scan(&["in/**"], &[]).unwrap_err().to_string();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    for name in ["in/pipe", "in/ignored"] {
        rustix::fs::mknodat(rustix::fs::CWD, fixture.path(name), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    }
    assert_eq!(refused(), "`in/pipe` is a pipe");
    std::fs::remove_file(fixture.path("in/pipe")).unwrap();
    fixture.try_scan(&["in/**"], &[]).expect("ignored files aren't inputs");
    let socket = std::os::unix::net::UnixListener::bind(fixture.path("in/socket")).unwrap();
    assert_eq!(refused(), "`in/socket` is a socket");
    drop(socket);
    std::fs::remove_file(fixture.path("in/socket")).unwrap();
    std::fs::write(fixture.folder.path().join(std::ffi::OsStr::from_bytes(b"in/\xff")), "").unwrap();
    assert_eq!(refused(), "the name of `in/\u{fffd}` is not UTF-8");
}

#[test]
fn several_threads_return_digests_in_the_order_of_the_files() {
    let files: Vec<(String, String)> = (0..200).map(|n| (format!("f/{n:03}"), n.to_string())).collect();
    let fixture = Fixture::new(&files.iter().map(|(path, text)| (&**path, &**text)).collect::<Vec<_>>());
    let tree = fixture.scan(&["f"], &[]);
    assert_eq!(paths(&tree).len(), 200);
    assert!(files.iter().all(|(path, text)| tree.0[path].digest() == Some(Digest::of(text))));
}

#[test]
fn a_cover_names_whole_folders_and_nothing_outside_the_tree() {
    let fixture = Fixture::new(&FILES);
    assert_eq!(fixture.cover(&["**"]), [".gitignore", "src/a.rs", "src/deep/.gitignore", "src/deep/b.rs"]);
    std::fs::remove_file(fixture.path("src/deep/b.log")).unwrap();
    std::fs::remove_file(fixture.path("src/deep/made")).unwrap();
    assert_eq!(fixture.cover(&["src"]), ["src"]);
    assert_eq!(fixture.cover(&["src/**/*.rs"]), ["src/a.rs", "src/deep/b.rs"]);
    assert_eq!(fixture.cover(&["dist/app"]), ["dist/app"]);
    symlink("dist", fixture.path("way")).unwrap();
    let refused = fixture.try_scan(&["way/app"], &[]).unwrap_err().to_string();
    assert_eq!(refused, "`way` is a link: name what it leads to");
    std::fs::create_dir(fixture.path("src/empty")).unwrap();
    assert_eq!(fixture.cover(&["src"]), ["src"], "an empty folder is one of the inputs");
    assert_eq!(fixture.cover(&["src/deep/**", "src/*.rs"]), ["src/a.rs", "src/deep"]);
    // A folder with a name that isn't UTF-8 is never covered as a whole, even if its lossy form equals an input's name.
    fixture.write("src/\u{fffd}", "");
    let tree = fixture.scan(&["src"], &[]);
    std::fs::write(fixture.folder.path().join(std::ffi::OsStr::from_bytes(b"src/\xff")), "").unwrap();
    assert_eq!(fixture.workspace().cover(&tree, 1).unwrap(), None);
    assert!(!fixture.workspace().cover(&tree, 9).unwrap().unwrap().contains(&"src".to_owned()));
}
