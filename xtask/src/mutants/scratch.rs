//! The copy of the workspace in which faults are planted, built and tested.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value as Json;

use super::LIMIT;
use crate::cargo::{Result, capture, cargo, describe};

/// The simulator's test that tries worlds.
pub(super) const WORLDS: &str = "no_world_violates_the_oracle";

/// What detected the planted fault.
pub(super) struct MutantVerdict {
    pub(super) simulator: bool,
    pub(super) tests: Option<bool>,
}

/// The copy of the workspace.
pub(super) struct Scratch {
    folder: PathBuf,
    target: PathBuf,
    seeds: u64,
    with_tests: bool,
}

impl Scratch {
    /// Copies all files that git tracks or doesn't ignore. Files that haven't changed since the last copy are not written
    /// again: cargo would recompile them because of their new modification time.
    pub(super) fn new(root: &Path, seeds: u64, with_tests: bool) -> Result<Scratch> {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let place = root.join(target).join("mutants");
        let scratch = Scratch { folder: place.join("tree"), target: place.join("target"), seeds, with_tests };
        let mut list = Command::new("git");
        list.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let names =
            String::from_utf8(capture(&mut list)?).map_err(|_| "git named a file that isn't UTF-8".to_owned())?;
        let is_present = |name: &&str| root.join(name).symlink_metadata().is_ok();
        let names: BTreeSet<&str> = names.split_terminator('\0').filter(is_present).collect();
        for name in &names {
            let path = root.join(name);
            if path.is_symlink() {
                scratch.link(name, &path)?;
            } else {
                let bytes = std::fs::read(path).map_err(|error| format!("can't read {name}: {error}"))?;
                scratch.put(name, &bytes)?;
            }
        }
        scratch.remove_others(&scratch.folder, &names)?;
        Ok(scratch)
    }

    /// Removes files of an earlier copy that no longer exist in the tree. Cargo discovers crates and tests by their paths,
    /// and would build a test that was removed.
    fn remove_others(&self, folder: &Path, names: &BTreeSet<&str>) -> Result<()> {
        let failed = |error| format!("can't clean up {}: {error}", folder.display());
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(failed)?);
            let name = path.strip_prefix(&self.folder).unwrap_or(&path).to_string_lossy();
            if kind.is_dir() {
                self.remove_others(&path, names)?;
            } else if !names.contains(&*name) && name != "Cargo.lock" {
                std::fs::remove_file(&path).map_err(failed)?;
            }
        }
        Ok(())
    }

    pub(super) fn read(&self, name: &str) -> Result<String> {
        let path = self.folder.join(name);
        std::fs::read_to_string(&path).map_err(|error| format!("can't read {}: {error}", path.display()))
    }

    pub(super) fn write(&self, name: &str, text: &str) -> Result<()> {
        self.put(name, text.as_bytes())
    }

    /// Copies a symbolic link, such as that of the SDK to its contract.
    fn link(&self, name: &str, original: &Path) -> Result<()> {
        let copy = self.folder.join(name);
        let linked = std::fs::read_link(original).and_then(|target| {
            if std::fs::read_link(&copy).is_ok_and(|present| present == target) {
                return Ok(());
            }
            std::fs::create_dir_all(copy.parent().unwrap_or(&self.folder))?;
            std::os::unix::fs::symlink(target, &copy)
        });
        linked.map_err(|error| format!("can't copy the link {name}: {error}"))
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.folder.join(name);
        if std::fs::read(&path).is_ok_and(|present| present == bytes) {
            return Ok(());
        }
        let folder = path.parent().unwrap_or(&self.folder);
        let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, bytes));
        written.map_err(|error| format!("can't write {}: {error}", path.display()))
    }

    /// Checks that everything passes without a fault: a test that always fails detects nothing.
    pub(super) fn expect_sound(&self) -> Result<()> {
        match self.judge()? {
            MutantVerdict { simulator: true, .. } => Err("the simulator fails without any mutant".to_owned()),
            MutantVerdict { tests: Some(true), .. } => Err("the engine's tests fail without any mutant".to_owned()),
            _ => Ok(()),
        }
    }

    /// Builds and tests the copy in its present state. An error if it can't be built.
    pub(super) fn judge(&self) -> Result<MutantVerdict> {
        let simulator = self.build(&["--package", "stagewright-tests", "--test", "simulator"])?;
        let simulator = self.fails(&simulator, &["--exact", WORLDS])?;
        if !self.with_tests {
            return Ok(MutantVerdict { simulator, tests: None });
        }
        let tests = self.build(&["--package", "stagewright-engine", "--lib", "--tests"])?;
        Ok(MutantVerdict { simulator, tests: Some(self.fails(&tests, &[])?) })
    }

    /// Builds test programs, and returns their paths.
    fn build(&self, which: &[&str]) -> Result<Vec<PathBuf>> {
        let mut command = cargo();
        command.current_dir(&self.folder).env("CARGO_TARGET_DIR", &self.target);
        command.args(["test", "--quiet", "--no-run", "--message-format", "json"]).args(which);
        let messages = capture(&mut command).map_err(|error| format!("{error}; a mutant has to compile"))?;
        let messages =
            messages.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice::<Json>(line).ok());
        // The messages also contain ordinary programs, which are built because a test starts them.
        let tests = messages.filter(|message| message["profile"]["test"] == true);
        let programs: Vec<_> =
            tests.filter_map(|message| Some(PathBuf::from(message["executable"].as_str()?))).collect();
        if programs.is_empty() { Err(format!("`{}` built nothing", describe(&command))) } else { Ok(programs) }
    }

    /// Whether one of the programs fails or exceeds the time limit.
    fn fails(&self, programs: &[PathBuf], arguments: &[&str]) -> Result<bool> {
        for program in programs {
            let mut command = Command::new(program);
            command.args(arguments).current_dir(self.folder.join("crates/stagewright-engine"));
            command.env("STAGEWRIGHT_SIM_RUNS", self.seeds.to_string()).env("INSTA_UPDATE", "no");
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            if !succeeds_in_time(&mut command)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn succeeds_in_time(command: &mut Command) -> Result<bool> {
    let line = describe(command);
    let failed = |error| format!("can't run `{line}`: {error}");
    let mut child = command.spawn().map_err(&failed)?;
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(&failed)? {
            return Ok(status.success());
        }
        if begun.elapsed() > LIMIT {
            let _ = child.kill();
            let _ = child.wait();
            return Ok(false);
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
