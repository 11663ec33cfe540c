//! The programs that tests need, from Debian packages: a real registry, independent clients, a tracer that kills the
//! engine at a system call, a fake clock, filters for git, and tools to set up networks.

use std::process::{Command, Stdio};

use crate::cargo::{Result, is_installed, run as run_command};

/// Programs, and the packages that contain them.
const NEEDED: [(&str, &str); 7] = [
    ("curl", "curl"),
    ("docker-registry", "docker-registry"),
    ("faketime", "faketime"),
    ("git-lfs", "git-lfs"),
    ("ip", "iproute2"),
    ("skopeo", "skopeo"),
    ("strace", "strace"),
];

/// Installs missing packages if this is a Debian system and the user is root. Otherwise the error names the command that
/// installs them.
pub(crate) fn require() -> Result<()> {
    let missing = NEEDED.into_iter().filter(|(program, _)| !is_installed(program)).map(|(_, package)| package);
    let missing = missing.collect::<Vec<_>>();
    if missing.is_empty() {
        return Ok(());
    }
    if !(is_installed("apt-get") && is_root()) {
        return Err(format!(
            "the tests need {}\n  help: as root: apt-get install --no-install-recommends {}",
            missing.join(", "),
            missing.join(" ")
        ));
    }
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
        command
    };
    eprintln!("==> installing {}", missing.join(", "));
    run_command(apt().args(["update", "--quiet", "--quiet"]))?;
    run_command(apt().args(["install", "--quiet", "--quiet", "--yes", "--no-install-recommends"]).args(missing))
}

fn is_root() -> bool {
    let answer = Command::new("id").arg("-u").output();
    answer.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
