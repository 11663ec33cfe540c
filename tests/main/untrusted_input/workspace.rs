//! Files: links, pipes and concurrent changes don't give a stage access beyond its grants.

use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{DENIED, attack, pipeline, repository, run};
use crate::environment::TestEnvironment;

/// A repository with links in a folder that a stage may read and write.
fn with_links() -> TestEnvironment {
    let environment = repository();
    environment.write("../outside/file", "outside");
    environment.write("own/file", "own");
    let link = |target: &str, path: &str| symlink(target, environment.root().join(path)).expect("a link");
    link("../closed/file", "own/to-closed");
    link("../closed", "own/to-folder");
    link("../closed/new", "own/dangling");
    link("../../outside/file", "own/to-outside");
    link("/etc/hostname", "own/to-etc");
    link("file", "own/to-own");
    link("loop", "own/loop");
    environment
}

const OWN: &str = "read = [\"own\"]\nwrite = [\"own\"]";

#[test]
fn links_lead_only_to_granted_files() {
    let environment = with_links();
    let links = ["to-closed", "to-folder/file", "to-outside", "to-etc", "loop", "dangling"];
    let mut actions: Vec<String> = Vec::new();
    for link in links {
        actions.push(format!(r#"do = "read", path = "own/{link}""#));
        actions.push(format!(r#"do = "digest", path = "own/{link}""#));
        actions.push(format!(r#"do = "publish", name = "a", path = "own/{link}""#));
        actions.push(format!(r#"do = "append", path = "own/{link}", text = "x""#));
    }
    actions.push(r#"do = "write", path = "own/to-folder/new", text = "x""#.to_owned());
    actions.push(r#"do = "remove", path = "own/to-folder/file""#.to_owned());
    let actions: Vec<&str> = actions.iter().map(String::as_str).collect();
    let answers = attack(&environment, &actions, OWN).answers();
    assert!(answers.iter().all(|answer| answer.starts_with("ErrorCode::")), "{answers:#?}");
    assert_eq!(
        (environment.read("closed/file"), environment.read("../outside/file")),
        ("not granted".into(), "outside".into())
    );
    assert!(!environment.root().join("closed/new").exists(), "created through a dangling link");
    let granted = attack(&environment, &[r#"do = "read", path = "own/to-own""#], OWN).answers();
    assert_eq!(granted, ["own"]);
    // The link itself is replaced.
    attack(&environment, &[r#"do = "write", path = "own/to-closed", text = "x""#], OWN);
    assert_eq!(
        (environment.read("closed/file"), environment.read("own/to-closed")),
        ("not granted".into(), "x".into())
    );
}

#[test]
fn listings_do_not_follow_links() {
    let globs = ["own/to-folder/*", "own/to-folder/**", "own/**", "**"];
    let actions = globs.map(|pattern| format!(r#"do = "glob", pattern = "{pattern}""#));
    let answers = attack(&with_links(), &actions.each_ref().map(String::as_str), OWN).answers();
    assert!(answers[..2].iter().all(|answer| !answer.contains("file")), "{answers:#?}");
    assert!(answers[2].contains("own/file") && answers[2].contains("own/to-own"), "{answers:#?}");
    assert!(answers.iter().all(|answer| !answer.contains("to-folder/file") && !answer.contains("to-closed")));
    // Nor a link that isn't granted but leads to a granted file.
    let listed = attack(&with_links(), &[r#"do = "glob", pattern = "own/*""#], r#"read = ["own/file"]"#).answers();
    assert_eq!(listed, ["own/file"]);
}

/// The limit applies to all files together, however they are written.
#[test]
fn what_is_written_and_published_has_a_bound() {
    let environment = repository();
    environment.write("open/long", &"x".repeat(600));
    let text = "y".repeat(600);
    let actions = [
        format!(r#"do = "write", path = "out/a", text = "{text}""#),
        r#"do = "publish", name = "a", path = "open/long""#.to_owned(),
        format!(r#"do = "write", path = "out/b", text = "{text}""#),
        format!(r#"do = "append", path = "out/a", text = "{text}""#),
        r#"do = "fetch", name = "a", path = "out/c""#.to_owned(),
        r#"do = "publish", name = "b", path = "open/long""#.to_owned(),
    ];
    let limits = r#"limits = { workspace = "1KiB", artifacts = "1KiB" }"#;
    let grants = "read = [\"open\"]\nwrite = [\"out\"]";
    environment.write("stagewright.toml", &pipeline(&actions.each_ref().map(String::as_str), limits, grants));
    let answers = run(&environment).answers();
    assert!(answers[0] == "done" && answers[1].starts_with("sha256:"), "{answers:#?}");
    assert!(answers[2..].iter().all(|answer| answer == "ErrorCode::ResourceExhausted"), "{answers:#?}");
    assert_eq!(environment.read("out/a"), text);
}

/// Reading a pipe without a writer would block forever.
#[test]
fn reading_a_pipe_does_not_block() {
    let environment = with_links();
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    let pipe = environment.root().join("own/pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).expect("a pipe");
    let actions = [
        r#"do = "read", path = "own/pipe""#,
        r#"do = "read-at", path = "own/pipe""#,
        r#"do = "digest", path = "own/pipe""#,
        r#"do = "append", path = "own/pipe", text = "x""#,
        r#"do = "publish", name = "a", path = "own/pipe""#,
        r#"do = "write", path = "own/pipe", text = "x""#,
        r#"do = "read", path = "own/pipe""#,
    ];
    let answers = attack(&environment, &actions, OWN).answers();
    assert!(answers[..5].iter().all(|answer| answer == "ErrorCode::InvalidArgument"), "{answers:#?}");
    assert_eq!(answers[5..], ["done", "x"], "replaced by a file");
}

/// A program of the stage replaces a file or a folder by a link while the guest reads and writes.
#[test]
fn an_exchange_between_check_and_use_gains_nothing() {
    let environment = with_links();
    let root = environment.root();
    environment.write("own/a/file", "own");
    let stop = Arc::new(AtomicBool::new(false));
    let flipping = {
        let (stop, root) = (stop.clone(), root.clone());
        std::thread::spawn(move || {
            let own = root.join("own");
            std::fs::create_dir(own.join("b")).expect("a folder");
            std::fs::write(own.join("b/file"), "own").expect("a file");
            symlink("../closed", own.join("link")).expect("a link");
            let exchange = |left: &str, right: &str| {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                let _ =
                    rustix::fs::renameat_with(rustix::fs::CWD, own.join(left), rustix::fs::CWD, own.join(right), flags);
            };
            while !stop.load(Ordering::Relaxed) {
                exchange("b", "link");
            }
        })
    };
    let race = r#"do = "race", path = "own/b/file", but = "own", times = 20000"#;
    let write = vec![r#"do = "write", path = "own/b/new", text = "x""#; 2000];
    let append = vec![r#"do = "append", path = "own/b/file", text = """#; 500];
    let answers = attack(&environment, &[&[race], &write[..], &append[..]].concat(), OWN).answers();
    stop.store(true, Ordering::Relaxed);
    flipping.join().unwrap();
    assert_eq!(answers[0], "never", "read through the link");
    assert!(answers.iter().any(|answer| answer == DENIED) && answers.iter().any(|answer| answer == "done"), "no race");
    assert!(!root.join("closed/new").exists(), "written through the link");
}

#[test]
fn a_git_directory_is_closed_wherever_it_lies() {
    let environment = repository();
    environment.write("own/x/.git/config", "url = https://ada:hunter2@git.test/a");
    let actions = [
        r#"do = "read", path = "own/x/.git/config""#,
        r#"do = "append", path = "own/x/.git/config", text = "x""#,
        r#"do = "write", path = "own/x/.git/hooks/pre-push", text = "x""#,
        r#"do = "write", path = "own/new/.git", text = "gitdir: ../x""#,
        r#"do = "write", path = "own/new/.GIT/config", text = "x""#,
        r#"do = "remove", path = "own/x/.git""#,
        r#"do = "glob", pattern = "own/**""#,
        r#"do = "write", path = "own/x/file", text = "x""#,
    ];
    let answers = attack(&environment, &actions, OWN).answers();
    assert!(answers[..6].iter().all(|answer| answer == DENIED), "{answers:#?}");
    assert!(!answers[6].contains(".git") && answers[7] == "done", "{answers:#?}");
    assert!(environment.root().join("own/x/.git/config").exists());
}

/// Git finds the directory through a file, so it can have any name.
#[test]
fn a_git_directory_of_another_name_and_its_common_directory_are_closed() {
    let environment = repository();
    environment.write(".git", "gitdir: own/git/worktrees/this\n");
    environment.write("own/git/worktrees/this/commondir", "../..\n");
    environment.write("own/git/config", "[remote \"origin\"]\n\turl = https://ada:hunter2@git.test/a\n");
    for directory in ["own/git", "own/git/worktrees/this"] {
        environment.write(&format!("{directory}/HEAD"), "ref: refs/heads/main\n");
    }
    for folder in ["objects", "refs"] {
        environment.write(&format!("own/git/{folder}/.keep"), "");
    }
    let actions = [
        r#"do = "read", path = "own/git/config""#,
        r#"do = "append", path = "own/git/config", text = "x""#,
        r#"do = "write", path = "own/git/hooks/pre-push", text = "x""#,
        r#"do = "write", path = "own/git/worktrees/this/config.worktree", text = "x""#,
        r#"do = "remove", path = "own/git""#,
        r#"do = "write", path = "own/file", text = "x""#,
    ];
    let answers = attack(&environment, &actions, OWN).answers();
    assert!(answers[..5].iter().all(|answer| answer == DENIED) && answers[5] == "done", "{answers:#?}");
    assert!(environment.root().join("own/git/config").exists());
}

/// An image layout in a folder that the stage's programs can change.
#[test]
fn a_layout_with_links_in_it_is_neither_read_nor_written() {
    let environment = repository();
    environment.write("../outside/file", "outside");
    let good = [r#"do = "write", path = "own/layout/oci-layout", text = '{"imageLayoutVersion":"1.0.0"}'"#];
    attack(&environment, &good, OWN);
    let layout = environment.root().join("own/layout");
    std::fs::create_dir_all(layout.join("blobs")).expect("a folder");
    for (part, target) in [
        ("blobs/sha256", "../../../../outside"),
        (".lock", "../../../outside/file"),
        ("index.json", "../../../outside/file"),
    ] {
        symlink(target, layout.join(part)).expect("a link");
        let actions = [
            r#"do = "push", layout = "own/layout", reference = "local/app:1""#,
            r#"do = "pull", reference = "local/other:1", layout = "own/layout""#,
        ];
        let answers = attack(&environment, &actions, &format!("{OWN}\nregistry = [\"local/*\"]")).answers();
        assert!(answers.iter().all(|answer| answer.starts_with("ErrorCode::")), "{part}: {answers:?}");
        assert_eq!(answers[0], "ErrorCode::FailedPrecondition", "{part}");
        std::fs::remove_file(layout.join(part)).expect("a link");
    }
    assert_eq!(environment.read("../outside/file"), "outside");
    assert_eq!(std::fs::read_dir(environment.root().join("../outside")).expect("a folder").count(), 1);
}
