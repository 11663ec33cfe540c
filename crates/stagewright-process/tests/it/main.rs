//! Real processes: small shell scripts, and supervisors of them.

#![expect(clippy::disallowed_methods, reason = "tests read what they made themselves")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on should say where")]

mod child;
mod image;
mod observe;
mod sandbox;
mod supervisor;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use stagewright_process::Command;

/// A timeout that is long enough on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn sh(script: &str) -> Command {
    Command {
        program: PathBuf::from("/bin/sh"),
        args: vec!["-c".to_owned(), script.to_owned()],
        env: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
        current_dir: PathBuf::from("/"),
        stdin: None,
    }
}

/// A zombie is not alive.
fn alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The process id that a script wrote to a file.
fn pid_in(path: &Path) -> String {
    let mut text = String::new();
    until(&format!("{} holds a number", path.display()), || {
        text = std::fs::read_to_string(path).unwrap_or_default();
        text.ends_with('\n')
    });
    text.trim().to_owned()
}
