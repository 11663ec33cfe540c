#![expect(clippy::disallowed_methods, reason = "tests read what they made themselves")]

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use cap_std::ambient_authority;
use stagewright_model::Permissions;

use super::*;
use crate::reserved::{Claim, Purpose, Reservations, Reserved};

struct Fixture {
    folder: tempfile::TempDir,
    workspace: WorkspaceFiles,
}

fn fixture(read: &[&str], write: &[&str]) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let list = |paths: &[&str]| paths.iter().map(|path| path.parse().unwrap()).collect();
    let permissions = Permissions { read: list(read), write: list(write), ..Permissions::default() };
    let policy =
        Policy::new("stages.test", &permissions, &Default::default(), Arc::new(Reservations::of(&[".stagewright"])));
    let root = Dir::open_ambient_dir(folder.path(), ambient_authority()).unwrap();
    Fixture { workspace: WorkspaceFiles::new(Arc::new(root), Arc::new(policy), 1000), folder }
}

impl Fixture {
    fn put(&self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.folder.path().join(path)).unwrap()
    }
}

#[test]
fn granted_files_can_be_read_and_written() {
    let fixture = fixture(&["src"], &["out"]);
    fixture.put("src/a.txt", "hello");
    let files = &fixture.workspace;
    assert_eq!(files.read("src/a.txt").unwrap(), b"hello");
    assert_eq!(files.read_at("src/a.txt", 3, 10).unwrap(), b"lo");
    assert_eq!(files.read_at("src/a.txt", 30, 10).unwrap(), b"");
    files.write("out/deep/b.txt", b"one").unwrap();
    files.append("out/deep/b.txt", b" two").unwrap();
    assert_eq!(fixture.text("out/deep/b.txt"), "one two");
    files.remove("out/deep").unwrap();
    files.remove("out/deep").unwrap();
    assert_eq!(files.read("out/deep/b.txt").unwrap_err().code, ErrorCode::NotFound);
    assert_eq!(
        files.digest("src/a.txt").unwrap(),
        "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    );
}

#[test]
fn a_compressed_file_can_be_read_and_is_reproducible() {
    let fixture = fixture(&["src"], &["out"]);
    let content: String = (0..200_000_u32).map(|number| format!("{}\n", number.wrapping_mul(2_654_435_761))).collect();
    fixture.put("src/a.txt", &content);
    for to in ["out/a.gz", "out/b.gz"] {
        fixture.workspace.gzip("src/a.txt", to).unwrap();
    }
    let [one, other] = ["a", "b"].map(|name| fs::read(fixture.folder.path().join(format!("out/{name}.gz"))).unwrap());
    assert_eq!(one, other);
    // RFC 1952: no flags, no time, an unknown system.
    assert_eq!((one[3], &one[4..8], one[9]), (0, [0; 4].as_slice(), 255));
    let mut back = String::new();
    flate2::bufread::GzDecoder::new(&*one).read_to_string(&mut back).unwrap();
    assert!(back == content && one.len() < content.len());
}

#[test]
fn locate_lists_everything_readable_with_links_as_links() {
    let fixture = fixture(&["app"], &[]);
    fixture.put("app/lib/so.1", "so");
    fixture.put("private/key", "k");
    let at = |path: &str| fixture.folder.path().join(path);
    fs::create_dir(at("app/empty")).unwrap();
    for (target, link) in [("so.1", "lib/so"), ("lib", "lib64"), ("nowhere", "dangling"), ("../private", "out")] {
        symlink(target, at(&format!("app/{link}"))).unwrap();
    }
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, at("app/pipe"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let shown = |pattern: &str| -> Vec<String> {
        let found = fixture.workspace.locate(pattern).unwrap().into_iter();
        found
            .map(|found| match found.node {
                NodeKind::File => format!("{} {}", found.path, found.size),
                NodeKind::Folder => format!("{}/", found.path),
                NodeKind::Link(target) => format!("{} -> {target}", found.path),
                NodeKind::Special(kind) => format!("{} {kind}", found.path),
            })
            .collect()
    };
    let all = [
        "app/dangling -> nowhere",
        "app/empty/",
        "app/lib/",
        "app/lib/so -> so.1",
        "app/lib/so.1 2",
        "app/lib64 -> lib",
        "app/out -> ../private",
        "app/pipe a named pipe",
    ];
    assert_eq!(shown("app/**"), all);
    assert_eq!(shown("**").len(), all.len() + 1, "the rest isn't granted");
    // Through a link, nothing is listed that isn't granted by its real path.
    assert_eq!(shown("app/out/*"), [""; 0]);

    fs::write(at("app").join(std::ffi::OsStr::from_bytes(b"x\xff")), "").unwrap();
    let error = fixture.workspace.locate("app/**").unwrap_err();
    assert!(error.message.contains("app/x") && error.message.contains("not UTF-8"), "{error:?}");
    assert_eq!(shown("app/lib/*").len(), 2);
}

#[test]
fn access_to_files_that_are_not_granted_is_denied() {
    let fixture = fixture(&["src"], &["out"]);
    fixture.put("src/a.txt", "hello");
    fixture.put("private/key", "k");
    let files = &fixture.workspace;
    let denied = [
        files.read("private/key").map(drop),
        files.write("src/a.txt", b"x"),
        files.append("src/a.txt", b"x"),
        files.remove("src"),
        files.digest("private/key").map(drop),
        files.gzip("private/key", "out/key.gz"),
        files.gzip("src/a.txt", "src/a.gz"),
    ];
    for result in denied {
        assert_eq!(result.unwrap_err().code, ErrorCode::PermissionDenied);
    }
    assert!(files.read("../etc/passwd").is_err() && files.read("/etc/passwd").is_err());
    assert_eq!(fixture.text("src/a.txt"), "hello");
}

#[test]
fn links_neither_leave_the_workspace_nor_widen_a_grant() {
    let fixture = fixture(&["src"], &["out"]);
    fixture.put("private/key", "k");
    fixture.put("src/a.txt", "hello");
    fixture.put("out/.keep", "");
    let root = fixture.folder.path();
    symlink("/etc/passwd", root.join("src/absolute")).unwrap();
    symlink("../../etc/passwd", root.join("src/upwards")).unwrap();
    symlink("../private/key", root.join("src/inside")).unwrap();
    symlink("../private", root.join("out/folder")).unwrap();
    symlink("../private/key", root.join("out/file")).unwrap();
    symlink("a.txt", root.join("src/fine")).unwrap();
    let files = &fixture.workspace;
    for path in ["src/absolute", "src/upwards", "src/inside"] {
        assert!(files.read(path).is_err(), "{path}");
    }
    assert_eq!(files.read("src/fine").unwrap(), b"hello");
    assert!(files.write("out/folder/new", b"x").is_err());
    assert!(files.append("out/file", b"x").is_err());
    assert!(files.remove("out/folder/key").is_err());
    // Replacing a link replaces the link.
    files.write("out/file", b"mine").unwrap();
    assert_eq!((fixture.text("out/file"), fixture.text("private/key")), ("mine".into(), "k".into()));
}

/// A mount can make it appear under any path, and a user can move it while a stage runs.
#[test]
fn a_reserved_folder_stays_closed_under_another_name() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    fs::create_dir(root.join("state")).unwrap();
    fs::write(root.join("state/journal"), "kept").unwrap();
    fs::write(root.join("own"), "granted").unwrap();
    let claim = Claim { purpose: Purpose::State, path: root.join("state") };
    let reserved = Reserved::new(&root, vec![claim], None).now().unwrap();
    let all = vec![".".parse().unwrap()];
    let permissions = Permissions { read: all.clone(), write: all, ..Permissions::default() };
    let policy = Policy::new("stages.test", &permissions, &Default::default(), Arc::new(reserved));
    let dir = Dir::open_ambient_dir(&root, ambient_authority()).unwrap();
    let files = WorkspaceFiles::new(Arc::new(dir), Arc::new(policy), 1000);
    fs::rename(root.join("state"), root.join("elsewhere")).unwrap();
    assert_eq!(files.read("own").unwrap(), b"granted");
    assert!(files.read("elsewhere/journal").is_err() && files.glob("elsewhere/*").is_err());
    assert!(files.write("elsewhere/journal", b"x").is_err() && files.append("elsewhere/journal", b"x").is_err());
    assert!(files.remove("elsewhere/journal").is_err());
    assert_eq!(fs::read_to_string(root.join("elsewhere/journal")).unwrap(), "kept");
}

#[test]
fn a_leading_dot_of_a_path_is_kept() {
    let fixture = fixture(&[], &["."]);
    fixture.workspace.write(".config/tool.toml", b"x").unwrap();
    assert_eq!(fixture.text(".config/tool.toml"), "x");
    assert!(fixture.workspace.write(".stagewright/journal", b"x").is_err());
}

#[test]
fn a_failed_write_leaves_the_file_and_no_draft() {
    let fixture = fixture(&[], &["out"]);
    fixture.put("out/a", "before");
    let failed = fixture.workspace.replace("out/a", |file| {
        file.write_all(b"half")?;
        Err::<(), _>(FillError::Io(io::ErrorKind::ConnectionReset.into()))
    });
    assert!(failed.is_err());
    assert_eq!(fixture.text("out/a"), "before");
    assert_eq!(fs::read_dir(fixture.folder.path().join("out")).unwrap().count(), 1);
}

#[test]
fn a_script_that_is_rewritten_stays_executable() {
    let fixture = fixture(&[], &["run.sh"]);
    fixture.put("run.sh", "#!/bin/sh\n");
    fs::set_permissions(fixture.folder.path().join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    fixture.workspace.write("run.sh", b"#!/bin/sh\ntrue\n").unwrap();
    assert!(fixture.workspace.executable("run.sh").unwrap());
}

#[test]
fn a_glob_lists_readable_files_in_order() {
    let fixture = fixture(&["crates", "*.toml"], &[]);
    for path in ["crates/b/Cargo.toml", "crates/a/Cargo.toml", "crates/a/src/x.toml", "Cargo.toml", "docs/d.toml"] {
        fixture.put(path, "12");
    }
    let paths = |pattern: &str| -> Vec<String> {
        fixture.workspace.glob(pattern).unwrap().into_iter().map(|entry| entry.path).collect()
    };
    assert_eq!(paths("crates/*/Cargo.toml"), ["crates/a/Cargo.toml", "crates/b/Cargo.toml"]);
    assert_eq!(paths("**/*.toml"), ["Cargo.toml", "crates/a/Cargo.toml", "crates/a/src/x.toml", "crates/b/Cargo.toml"]);
    assert_eq!(paths("Cargo.toml"), ["Cargo.toml"]);
    assert_eq!(paths("docs/*"), [""; 0]);
    assert_eq!(paths("nothing/here/*"), [""; 0]);
    let folder = &fixture.workspace.glob("crates/a").unwrap()[0];
    assert!(folder.directory && folder.size == 0);
}

#[test]
fn a_file_that_exceeds_the_memory_limit_can_only_be_read_in_parts() {
    let fixture = fixture(&["big"], &[]);
    fixture.put("big", &"x".repeat(1001));
    assert_eq!(fixture.workspace.read("big").unwrap_err().code, ErrorCode::ResourceExhausted);
    assert_eq!(fixture.workspace.read_at("big", 900, 500).unwrap().len(), 101);
    assert_eq!(fixture.workspace.read_at("big", 0, u32::MAX).unwrap().len(), 1000);
}
