//! Finds a Rust compiler for wasm.
//!
//! Three are tried, in this order: the active toolchain, if it has the target; the same after rustup has added the
//! target; Debian's own compiler, which builds the standard library from Debian's package of its source. Packages of the
//! system are never installed: where they are missing, the error names the command.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::PluginBuildError;
use crate::tool::{Progress, Tool, in_path};

/// What guests are compiled for: no WASI, so no ambient authority.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// Enough for a download; a server that doesn't answer is given up after this time.
const RUSTUP_LIMIT: Duration = Duration::from_secs(120);

const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_SOURCE: &str = "lib/rustlib/src/rust/library/std/Cargo.toml";
const APT_GET: &str = "/usr/bin/apt-get";
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// What the workspace needs, guests included.
const MINIMUM: &str = env!("CARGO_PKG_RUST_VERSION");

/// A way to compile guests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// The compiler has the target's standard library.
    Installed { cargo: PathBuf },
    /// The standard library is built along with the guest.
    FromSource { linker: PathBuf },
}

/// Names the compilers at hand: components are rebuilt when this changes.
pub(crate) fn identify(folder: &Path) -> Result<String, PluginBuildError> {
    let rustc = in_path("rustc").unwrap_or_else(|| PathBuf::from(DEBIAN_RUSTC));
    if !rustc.is_file() {
        return Ok("none".to_owned());
    }
    let (_, version) = Tool::new(rustc, folder).args(["-vV"]).run(&mut |_| Ok(()))?;
    Ok(String::from_utf8_lossy(&version).into_owned())
}

/// The first that works. Reports on `progress` when it has rustup add the target.
pub(crate) fn choose(folder: &Path, progress: &mut Progress<'_>) -> Result<Toolchain, PluginBuildError> {
    let mut tried = Vec::new();
    let cargo = in_path("cargo");
    let sysroot = sysroot(folder)?;
    if let (Some(cargo), Some(sysroot)) = (&cargo, &sysroot)
        && (has_target(sysroot) || add_with_rustup(folder, sysroot, &mut tried, progress)?)
    {
        return Ok(Toolchain::Installed { cargo: cargo.clone() });
    }
    if !debian_is_complete() {
        tried.push("Debian's compiler and the source of its standard library are not installed".to_owned());
        return Err(PluginBuildError::NoToolchain { tried, remedy: remedy() });
    }
    let release = debian_release(folder)?;
    if !is_recent(&release) {
        // Debian publishes newer ones for its browsers, in the packages of the remedy.
        tried.push(format!(
            "Debian's compiler is {release}, and plugins need {MINIMUM}: newer ones are among Debian's security updates \
             (`deb http://deb.debian.org/debian-security bookworm-security main` in /etc/apt/sources.list)"
        ));
        return Err(PluginBuildError::NoToolchain { tried, remedy: remedy() });
    }
    match linker(sysroot.as_deref()) {
        Some(linker) => Ok(Toolchain::FromSource { linker }),
        None => {
            tried.push("Debian's compiler is installed, but no linker for wasm".to_owned());
            let remedy = format!(
                "run: apt-get update && apt-get install -y --no-install-recommends {}",
                linker_package(folder)?
            );
            Err(PluginBuildError::NoToolchain { tried, remedy })
        }
    }
}

impl Toolchain {
    /// Cargo with arguments to build for wasm; the caller adds what to build.
    pub(crate) fn cargo(&self, folder: &Path) -> Tool {
        let build = ["build", "--target", TARGET, "--lib"];
        match self {
            Toolchain::Installed { cargo } => Tool::new(cargo.clone(), folder).args(build),
            Toolchain::FromSource { linker } => Tool::new(PathBuf::from(DEBIAN_CARGO), folder)
                .args(build)
                .args(["-Zbuild-std=std,panic_abort", "-Zbuild-std-features="])
                .env("RUSTC", DEBIAN_RUSTC)
                // `-Z` needs it; Debian has no nightly.
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker.display().to_string())
                // Wrappers of the other toolchain don't know this compiler.
                .without_env("RUSTUP_TOOLCHAIN")
                .without_env("RUSTDOC")
                .without_env("LD_LIBRARY_PATH"),
        }
    }

    /// The toolchain in words, for messages.
    pub(crate) fn describe(&self) -> &'static str {
        match self {
            Toolchain::Installed { .. } => "the active toolchain",
            Toolchain::FromSource { .. } => "Debian's compiler, with the standard library from source",
        }
    }
}

fn sysroot(folder: &Path) -> Result<Option<PathBuf>, PluginBuildError> {
    let Some(rustc) = in_path("rustc") else { return Ok(None) };
    let (status, stdout) = Tool::new(rustc, folder).args(["--print", "sysroot"]).run(&mut |_| Ok(()))?;
    let path = String::from_utf8_lossy(&stdout).trim().to_owned();
    Ok((status.success() && !path.is_empty()).then(|| PathBuf::from(path)))
}

fn has_target(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib").join(TARGET).join("lib").is_dir()
}

fn add_with_rustup(
    folder: &Path,
    sysroot: &Path,
    tried: &mut Vec<String>,
    progress: &mut Progress<'_>,
) -> Result<bool, PluginBuildError> {
    let Some(rustup) = in_path("rustup") else {
        tried.push(format!("the active toolchain lacks `{TARGET}`, and rustup isn't installed"));
        return Ok(false);
    };
    progress(&format!("rustup target add {TARGET}\n"))?;
    let tool = Tool::new(rustup, folder).args(["target", "add", TARGET]).limit(RUSTUP_LIMIT);
    match tool.run(progress) {
        Ok((status, _)) if status.success() && has_target(sysroot) => return Ok(true),
        Ok((status, _)) => tried.push(format!("`rustup target add {TARGET}` ended with {status}")),
        Err(PluginBuildError::Tool { source, .. }) => tried.push(format!("`rustup target add {TARGET}`: {source}")),
        Err(error) => return Err(error),
    }
    Ok(false)
}

fn debian_is_complete() -> bool {
    let source = Path::new("/usr").join(DEBIAN_SOURCE);
    [Path::new(DEBIAN_CARGO), Path::new(DEBIAN_RUSTC), &source].iter().all(|path| path.is_file())
}

/// As in `1.96.0`.
fn debian_release(folder: &Path) -> Result<String, PluginBuildError> {
    debian_version_field(folder, "release: ")
}

/// The field `key` in the output of Debian's `rustc -vV`; empty if it isn't installed.
fn debian_version_field(folder: &Path, key: &str) -> Result<String, PluginBuildError> {
    let rustc = PathBuf::from(DEBIAN_RUSTC);
    if !rustc.is_file() {
        return Ok(String::new());
    }
    let (_, version) = Tool::new(rustc, folder).args(["-vV"]).run(&mut |_| Ok(()))?;
    let version = String::from_utf8_lossy(&version).into_owned();
    Ok(version.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().to_owned())
}

fn is_recent(release: &str) -> bool {
    let minor = |version: &str| version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
    release.starts_with("1.") && minor(release) >= minor(MINIMUM)
}

/// Debian's compiler comes without a linker for wasm: the active toolchain's is as good, and so is LLVM's.
fn linker(sysroot: Option<&Path>) -> Option<PathBuf> {
    let hosts = sysroot.and_then(|sysroot| sysroot.join("lib/rustlib").read_dir().ok());
    let mut bundled = hosts.into_iter().flatten().flatten().map(|host| host.path().join("bin/rust-lld"));
    bundled
        .find(|path| path.is_file())
        .or_else(|| in_path("wasm-ld"))
        .or_else(|| in_path("rust-lld"))
        .or_else(newest_llvm_linker)
}

/// An older linker doesn't read what a newer compiler writes.
fn newest_llvm_linker() -> Option<PathBuf> {
    let entries = Path::new("/usr/lib").read_dir().ok()?.flatten();
    let linkers = entries.filter_map(|entry| {
        let release: u32 = entry.file_name().to_str()?.strip_prefix("llvm-")?.parse().ok()?;
        Some((release, entry.path().join("bin/wasm-ld"))).filter(|(_, path)| path.is_file())
    });
    linkers.max().map(|(_, path)| path)
}

/// The linker of the LLVM release that Debian's compiler is built on.
fn linker_package(folder: &Path) -> Result<String, PluginBuildError> {
    let version = debian_version_field(folder, "LLVM version: ")?;
    Ok(match version.split('.').next() {
        Some(release) if !release.is_empty() => format!("lld-{release}"),
        _ => "lld".to_owned(),
    })
}

/// How to get a compiler: Debian's packages if there is apt-get, and the target once rustup can add it.
fn remedy() -> String {
    let apt = format!("apt-get update && apt-get install -y --no-install-recommends {} lld", DEBIAN_PACKAGES.join(" "));
    match (Path::new(APT_GET).is_file(), in_path("rustup").is_some()) {
        (true, true) => format!("run: {apt}; or, once rustup's server can be reached: rustup target add {TARGET}"),
        (true, false) => format!("run: {apt}"),
        (false, true) => format!("run: rustup target add {TARGET}"),
        (false, false) => format!("install Rust with rustup (https://rustup.rs), then run: rustup target add {TARGET}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_is_recent_from_the_workspace_s_minimum_on() {
        assert!(is_recent(MINIMUM) && is_recent(&format!("{MINIMUM}.1")) && is_recent("1.200.0"));
        assert!(!is_recent("1.85.0") && !is_recent("") && !is_recent("nonsense"));
    }
}
