//! Compresses the components of the built-in plugins, and lists them for `src/lib.rs`.
//!
//! They are taken from the folder that `STAGEWRIGHT_BUILTIN_PLUGINS` names. Without the variable, a release builds those
//! that are out of date with `stagewright-plugin-build`, and any other build embeds none. A nested cargo does that instead
//! of a build dependency: else every build, clippy's included, would first compile what only a release uses.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a build script reads, starts and prints what cargo has it do"
)]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::{Compression, GzBuilder};
use sha2::{Digest as _, Sha256};

/// The folder of prebuilt components, as `NAME.wasm`.
const PREBUILT: &str = "STAGEWRIGHT_BUILTIN_PLUGINS";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={PREBUILT}");
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let listed = match std::env::var_os(PREBUILT).map(PathBuf::from) {
        Some(folder) => {
            // Not the folder that this script builds itself: it would look changed the next time.
            println!("cargo::rerun-if-changed={}", folder.display());
            embed(&folder)
        }
        None if is_release => build().and_then(|folder| embed(&folder)),
        None => Ok("&[]".to_owned()),
    };
    let written = listed.and_then(|listed| {
        fs::write(output_folder().join("components.rs"), listed).map_err(|error| format!("can't write: {error}"))
    });
    if let Err(message) = written {
        println!("cargo::error={message}");
    }
}

/// Compresses the components in a folder, and returns the Rust expression that lists them.
fn embed(folder: &Path) -> Result<String, String> {
    let unreadable = |error| format!("can't read the plugins in {} ({PREBUILT}): {error}", folder.display());
    let entries = folder.read_dir().map_err(unreadable)?;
    let mut files =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "wasm"));
    files.sort();
    if files.is_empty() {
        return Err(format!(
            "{} ({PREBUILT}) contains no components: build them with `cargo xtask plugins`",
            folder.display()
        ));
    }
    let components = files.iter().map(|file| {
        let content = fs::read(file).map_err(unreadable)?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let compressed = output_folder().join(format!("{name}.wasm.gz"));
        fs::write(&compressed, gzip(&content)).map_err(unreadable)?;
        let digest: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(format!(
            "Component {{ name: {name:?}, digest: \"sha256:{digest}\", gzip: include_bytes!({compressed:?}) }},"
        ))
    });
    Ok(format!("&[\n{}\n]", components.collect::<Result<Vec<_>, String>>()?.join("\n")))
}

/// Without a name and a time, so that the same component results in the same bytes.
fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzBuilder::new().write(Vec::new(), Compression::best());
    let written = encoder.write_all(content).and_then(|()| encoder.finish());
    written.unwrap_or_else(|error| unreachable!("a vector takes everything: {error}"))
}

/// Builds the components that are out of date, in the folder where `cargo xtask plugins` has them.
fn build() -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for sources in ["Cargo.lock", "Cargo.toml", "plugins", "crates/stagewright-plugin-build", "crates/stagewright-sdk"]
    {
        println!("cargo::rerun-if-changed={}", root.join(sources).display());
    }
    let target = target_folder();
    let components = target.join("stagewright/plugins");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo says about this build script isn't meant for the nested build, whose packages and target are others.
    let of_this_build = ["CARGO_CFG_", "CARGO_FEATURE_", "CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_ENCODED_RUSTFLAGS"];
    for (name, _) in std::env::vars_os() {
        let is_of_this_build = |prefix: &&str| name.as_encoded_bytes().starts_with(prefix.as_bytes());
        if of_this_build.iter().any(is_of_this_build) || name == "CARGO_BUILD_TARGET" {
            cargo.env_remove(name);
        }
    }
    cargo.current_dir(&root).args([
        "run",
        "--quiet",
        "--package",
        "stagewright-plugin-build",
        "--example",
        "build_plugins",
    ]);
    // A target folder of its own: the outer cargo keeps the other one locked until this script ends.
    cargo.arg("--target-dir").arg(target.join("guests/builder")).env("CARGO_TARGET_DIR", &target);
    cargo.args(["--", "plugins"]).arg(&components);
    let output = cargo.output().map_err(|error| format!("can't start cargo: {error}"))?;
    if output.status.success() {
        return Ok(components);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    Err(format!(
        "can't build the built-in plugins: {}; or name a folder of prebuilt ones with {PREBUILT}",
        lines[lines.len().saturating_sub(20)..].join("\ncargo::error=")
    ))
}

fn output_folder() -> PathBuf {
    std::env::var_os("OUT_DIR").map_or_else(PathBuf::new, PathBuf::from)
}

/// The folder with all of cargo's output, which it marks as a cache when it creates it; else the output folder of this
/// script, which doesn't share the components with `cargo xtask plugins`.
fn target_folder() -> PathBuf {
    let out = output_folder();
    out.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file()).unwrap_or(&out).to_owned()
}
