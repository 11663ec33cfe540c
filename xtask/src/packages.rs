//! Programs that this repository needs, from Debian packages: for the tests a real registry, independent clients, a tracer
//! that kills the engine at a system call, a fake clock, filters for git, and tools to set up networks; for plugins a
//! compiler.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::cargo::{Result, capture, is_installed, run as run_command};

/// Programs that the tests run, and the packages that contain them.
const FOR_TESTS: [(&str, &str); 7] = [
    ("curl", "curl"),
    ("docker-registry", "docker-registry"),
    ("faketime", "faketime"),
    ("git-lfs", "git-lfs"),
    ("ip", "iproute2"),
    ("skopeo", "skopeo"),
    ("strace", "strace"),
];

/// The release of Rust that the workspace needs, plugins included.
const MINIMUM: &str = env!("CARGO_PKG_RUST_VERSION");

/// What plugins are compiled for.
const WASM_TARGET: &str = "wasm32-unknown-unknown";

/// Seconds. A download takes less; a server that can't be reached may never answer.
const RUSTUP_LIMIT: &str = "120";

/// Debian's compiler, and the packages that bring it with the source of the standard library.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_COMPILER: [&str; 3] = [DEBIAN_RUSTC, "/usr/bin/cargo", "/usr/lib/rustlib/src/rust/library/std/Cargo.toml"];
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// Installs missing packages if this is a Debian system and the user is root. Otherwise the error names the command that
/// installs them.
pub(crate) fn require_for_tests() -> Result<()> {
    let missing = FOR_TESTS.into_iter().filter(|(program, _)| !is_installed(program)).map(|(_, package)| package);
    let missing = missing.collect::<Vec<_>>();
    if missing.is_empty() {
        return Ok(());
    }
    if !can_install() {
        return Err(format!(
            "the tests need {}\n  help: as root: apt-get install --no-install-recommends {}",
            missing.join(", "),
            missing.join(" ")
        ));
    }
    install(&missing)
}

/// Brings a compiler for plugins where none is installed and it can be installed without asking: by rustup, or else from
/// Debian's packages. Elsewhere `stagewright plugin build` says what is missing, and how to install it.
pub(crate) fn install_wasm_compiler() -> Result<()> {
    let sysroot = sysroot();
    if has_target(sysroot.as_deref())
        || has_debian_compiler(MINIMUM) && has_linker(sysroot.as_deref())
        || !can_install()
    {
        return Ok(());
    }
    if is_installed("rustup") {
        eprintln!("==> rustup target add {WASM_TARGET}");
        // Without a network this fails, and Debian's mirror may still be reachable.
        let added = run_command(Command::new("timeout").args([RUSTUP_LIMIT, "rustup", "target", "add", WASM_TARGET]));
        if added.is_ok() && has_target(sysroot.as_deref()) {
            return Ok(());
        }
    }
    if !has_debian_compiler(MINIMUM) {
        install(&DEBIAN_PACKAGES)?;
    }
    if has_linker(sysroot.as_deref()) { Ok(()) } else { install(&[&linker_package()]) }
}

/// Whether it is complete and at least of the release `minimum`. Debian 12 was released with an older one, which its
/// packages for browsers replace.
fn has_debian_compiler(minimum: &str) -> bool {
    let minor = |version: &str| version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
    let is_complete = DEBIAN_COMPILER.iter().all(|path| Path::new(path).is_file());
    is_complete && debian_rustc("release: ").is_some_and(|release| minor(&release) >= minor(minimum))
}

/// What Debian's compiler says of itself behind `key`.
fn debian_rustc(key: &str) -> Option<String> {
    let text = capture(Command::new(DEBIAN_RUSTC).arg("-vV")).ok()?;
    String::from_utf8_lossy(&text).lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned)
}

/// Of the active toolchain.
fn sysroot() -> Option<String> {
    let text = capture(Command::new("rustc").args(["--print", "sysroot"])).ok()?;
    Some(String::from_utf8_lossy(&text).trim().to_owned()).filter(|path| !path.is_empty())
}

fn has_target(sysroot: Option<&str>) -> bool {
    sysroot.is_some_and(|sysroot| Path::new(sysroot).join("lib/rustlib").join(WASM_TARGET).join("lib").is_dir())
}

/// Debian's compiler comes without a linker for wasm; rustup's toolchains have one.
fn has_linker(sysroot: Option<&str>) -> bool {
    let hosts = sysroot.and_then(|sysroot| Path::new(sysroot).join("lib/rustlib").read_dir().ok());
    let is_bundled = hosts.into_iter().flatten().flatten().any(|host| host.path().join("bin/rust-lld").is_file());
    is_bundled || is_installed("wasm-ld") || is_installed("rust-lld") || has_llvm_linker()
}

fn has_llvm_linker() -> bool {
    let entries = Path::new("/usr/lib").read_dir().into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"llvm-")).any(|entry| {
        // Debian's packages of LLVM put the linker there, and no link into `PATH`.
        entry.path().join("bin/wasm-ld").is_file()
    })
}

/// The linker of the LLVM release that Debian's compiler is built on: an older one doesn't read what it writes.
fn linker_package() -> String {
    let release = debian_rustc("LLVM version: ");
    let release = release.as_deref().and_then(|release| release.split('.').next());
    release.map_or_else(|| "lld".to_owned(), |release| format!("lld-{release}"))
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

fn is_root() -> bool {
    let answer = Command::new("id").arg("-u").output();
    answer.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
