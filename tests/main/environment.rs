//! A repository for each test, in which the binary runs with a cleared environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use tempfile::TempDir;

use crate::wire;

/// A repository, and the environment that `stagewright` runs in.
pub(crate) struct TestEnvironment {
    folder: TempDir,
    variables: BTreeMap<String, String>,
    /// The command that starts programs in another network; empty for the network of the tests.
    network: Vec<String>,
}

/// The result of a command.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The folder of the binary under test. The test binary is in `deps` below it.
fn target() -> PathBuf {
    let this = std::env::current_exe().expect("a test binary");
    this.parent().and_then(Path::parent).expect("…/debug/deps/main").to_owned()
}

/// The binary under test, which `cargo xtask test` builds together with the guests.
pub(crate) fn binary() -> PathBuf {
    let binary = target().join("stagewright");
    assert!(binary.is_file(), "{} isn't built: run `cargo xtask test`", binary.display());
    binary
}

/// The folders of the built-in guests, and of those that only tests use.
pub(crate) fn plugins() -> String {
    let folder = target().parent().expect("the target folder").join("stagewright");
    let folders = [folder.join("plugins"), folder.join("test-plugins")];
    for (folder, guest) in folders.iter().zip(["noop", "misbehave"]) {
        let guest = folder.join(guest).with_extension("wasm");
        assert!(guest.is_file(), "{} isn't built: run `cargo xtask test`", guest.display());
    }
    std::env::join_paths(folders).expect("a list of folders").into_string().expect("UTF-8")
}

impl TestEnvironment {
    pub(crate) fn new() -> TestEnvironment {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(folder.path().join("repo")).expect("a folder");
        let inherited = ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"];
        let mut variables = inherited
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
            .collect::<BTreeMap<_, _>>();
        // Keep the user's Cargo folders, and hide everything else of the user's.
        if let Some(home) = variables.insert("HOME".to_owned(), folder.path().join("home").display().to_string()) {
            for (name, usual) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
                variables.entry(name.to_owned()).or_insert_with(|| format!("{home}/{usual}"));
            }
        }
        variables.insert("STAGEWRIGHT_PLUGINS".to_owned(), plugins());
        // All tests share the compiled guests, because compiling them takes long.
        let cache = target().join("test-cache");
        variables.insert("XDG_CACHE_HOME".to_owned(), cache.display().to_string());
        variables.insert("GIT_CONFIG_GLOBAL".to_owned(), "/dev/null".to_owned());
        variables.insert("USER".to_owned(), "tester".to_owned());
        TestEnvironment { folder, variables, network: Vec::new() }
    }

    /// An environment with a pipeline at the repository's root.
    pub(crate) fn with_pipeline(text: &str) -> TestEnvironment {
        let environment = TestEnvironment::new();
        environment.write("stagewright.toml", text);
        environment
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("repo")
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }

    pub(crate) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.root().join(path)).expect("a file")
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    /// Starts programs by this command from now on, which puts them in another network.
    pub(crate) fn enter_network(&mut self, command: &[String]) {
        self.network = command.to_vec();
    }

    pub(crate) fn unset(&mut self, name: &str) {
        self.variables.remove(name);
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.program(&binary().display().to_string());
        command.args(args);
        command
    }

    /// Another program, to be started like the binary.
    pub(crate) fn program(&self, name: &str) -> Command {
        let mut words = self.network.iter().map(String::as_str).chain([name]);
        let mut command = Command::new(words.next().unwrap_or(name));
        command.args(words);
        command.current_dir(self.root()).env_clear().envs(&self.variables).stdin(Stdio::null());
        command
    }

    /// Runs the binary. Checks that its output has no raw control characters, and that JSON matches the api's types.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        let ended = Ended::of(&self.command(args).output().expect("the binary starts"));
        for shown in [&ended.stdout, &ended.stderr] {
            let raw: Vec<&str> = shown.lines().filter(|line| line.contains(is_raw)).collect();
            assert!(raw.is_empty(), "{args:?} printed raw: {raw:?}");
        }
        wire::check(args, &ended.stdout);
        ended
    }

    /// Runs git on the repository, with an author for commits.
    #[track_caller]
    pub(crate) fn git(&self, args: &[&str]) {
        let author = ["-c", "user.name=tester", "-c", "user.email=tester@example.org"];
        let output = self.program("git").args(author).args(args).output().expect("git starts");
        assert!(output.status.success(), "git {args:?}: {output:?}");
    }

    /// Commits all files that git doesn't ignore.
    #[track_caller]
    pub(crate) fn commit(&self) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", "a change"]);
    }

    /// Starts the binary in the background.
    pub(crate) fn start(&self, args: &[&str]) -> Child {
        let mut command = self.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts")
    }

    /// Runs with `--format json`. Returns the exit code and the events.
    pub(crate) fn events(&self, args: &[&str]) -> (i32, Vec<Json>) {
        let args = [args, &["--format", "json"]].concat();
        let ended = self.run(&args);
        let events = ended.stdout.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect();
        assert!(!ended.stdout.is_empty(), "no events: {}", ended.stderr);
        (ended.code, events)
    }
}

/// Whether a character commands a terminal or is invisible: controls, bidirectional controls, joiners, tags. It lists the
/// most important code points, independently of the code under test.
fn is_raw(character: char) -> bool {
    matches!(
        u32::from(character),
        0..=0x1f | 0x7f..=0x9f | 0xad | 0x61c | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff
            | 0xe0000..=0xe007f
    )
}

impl Ended {
    pub(crate) fn of(output: &Output) -> Ended {
        Ended {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Checks the exit code, and shows the whole output when it differs.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Ended {
        assert_eq!(self.code, code, "\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }
}

/// The outcome of each stage, by its name.
pub(crate) fn outcomes(events: &[Json]) -> BTreeMap<String, String> {
    let ended = events.iter().filter(|event| event["type"] == "stage-ended");
    ended.map(|event| (text(&event["stage-id"]), text(&event["outcome"]))).collect()
}

/// The failure of a stage's last attempt.
pub(crate) fn failure(events: &[Json], stage: &str) -> Json {
    let of_stage = |event: &&Json| event["type"] == "attempt-ended" && event["stage-id"] == stage;
    let attempt = events.iter().rev().find(of_stage).unwrap_or_else(|| panic!("`{stage}` never ended: {events:#?}"));
    attempt["failure"].clone()
}

pub(crate) fn text(value: &Json) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The first characters after `before`.
#[track_caller]
pub(crate) fn after(text: &str, before: &str, length: usize) -> String {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("no `{before}` in {text}"));
    rest.chars().take(length).collect()
}

/// Polls for up to a minute.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "never happened: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
