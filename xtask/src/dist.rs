//! `cargo xtask dist`: packs releases.
//!
//! The input is this tree; the output is, for each target, an archive that needs nothing but a kernel (and glibc, unless it
//! is linked for musl), its SBOM, and a line of `SHA256SUMS`. The same commit, compiler and folder result in the same
//! bytes: [`archive`] leaves out what depends on the time and the user, and paths of this machine are replaced in the
//! program.

mod archive;
mod crates;
mod documents;
mod licenses;
mod sbom;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use sha2::{Digest as _, Sha256};

use crate::cargo::{Result, capture, cargo, host_platform, is_installed, metadata, root, run as run_command};
use crate::packages::has_target;
use crate::pipeline;
use archive::{Archive, ArchiveFile};
use crates::ShippedCrate;

/// The target whose programs need no glibc.
const MUSL: &str = "x86_64-unknown-linux-musl";

/// The profile of a developer's builds, which shares what these have built.
const DEVELOPMENT: &str = "dev";

/// The folder of the completions of each shell, where it looks for them below `/usr/local` or `/usr`.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "share/bash-completion/completions/stagewright"),
    ("zsh", "share/zsh/site-functions/_stagewright"),
    ("fish", "share/fish/vendor_completions.d/stagewright.fish"),
];

/// Files of the repository, and where they are in the archive.
const FILES: [(&str, &str); 5] = [
    ("xtask/src/dist/README.md", "README.md"),
    ("LICENSE", "LICENSE"),
    ("LICENSE-APACHE", "LICENSE-APACHE"),
    ("LICENSE-MIT", "LICENSE-MIT"),
    ("docs/stagewright.schema.json", "share/stagewright/stagewright.schema.json"),
];

#[derive(Args)]
pub(crate) struct DistOptions {
    /// The folder for the archives
    #[arg(long, value_name = "DIR", default_value = "target/archives")]
    output: PathBuf,
    /// Pack for this machine's own target only
    #[arg(long)]
    host_only: bool,
    /// The profile of Cargo.toml to build with; `dev` is built sooner, to try out what is packed
    #[arg(long, value_name = "PROFILE", default_value = "dist")]
    profile: String,
}

/// Builds and packs a release for each target that this machine can build for.
pub(crate) fn run(options: &DistOptions) -> Result<()> {
    let (program, plugins) = pipeline::build(pipeline::FULL, Stdio::null())?;
    let lock = String::from_utf8_lossy(&read(&root().join("Cargo.lock"))?).into_owned();
    let crates = crates::shipped(&metadata(&root().join("Cargo.toml"))?, &lock)?;
    let product = crates.first().ok_or("`cargo metadata` names no product")?;
    let common = common_files(&program, &crates)?;
    let output = root().join(&options.output);
    std::fs::create_dir_all(&output).map_err(|error| format!("can't create {}: {error}", output.display()))?;
    let (seconds, date) = (commit_time("%ct")?, commit_time("%cI")?);
    let time = seconds.parse().map_err(|error| format!("git printed the time `{seconds}`: {error}"))?;
    let mut sums = String::new();
    for target in targets(options)? {
        let name = format!("stagewright-{}-{target}", product.version);
        eprintln!("==> {name}");
        let sbom = sbom::of(&crates, &target, &date)?;
        let mut files = common.clone();
        files.push(ArchiveFile::program("bin/stagewright", read(&build(&target, &options.profile, &plugins)?)?));
        files.push(ArchiveFile::new("sbom.cdx.json", sbom.clone()));
        let packed = Archive { folder: name.clone(), time, files }.pack()?;
        for (file, content) in [(format!("{name}.tar.gz"), packed), (format!("{name}.cdx.json"), sbom)] {
            sums.push_str(&format!("{}  {file}\n", sha256(&content)));
            write(&output.join(file), &content)?;
        }
    }
    write(&output.join("SHA256SUMS"), sums.as_bytes())?;
    eprintln!("==> wrote {}", output.display());
    Ok(())
}

/// This machine's own target, and musl's where it can be built for.
fn targets(options: &DistOptions) -> Result<Vec<String>> {
    let host = host_platform()?;
    let mut targets = vec![host.clone()];
    if options.host_only || host == MUSL || !host.starts_with("x86_64") {
        return Ok(targets);
    }
    match (has_target(MUSL), is_installed("musl-gcc")) {
        (true, true) => targets.push(MUSL.to_owned()),
        (false, _) => eprintln!("==> not for {MUSL}: rustup target add {MUSL}"),
        (true, false) => eprintln!("==> not for {MUSL}: `musl-gcc` isn't installed: apt-get install musl-tools"),
    }
    Ok(targets)
}

/// Builds the program with the plugins in it, and returns its path.
fn build(target: &str, profile: &str, plugins: &Path) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--package", "stagewright-cli", "--features", pipeline::FULL]);
    command.args(["--locked", "--profile", profile]);
    command.env("STAGEWRIGHT_BUILTIN_PLUGINS", plugins);
    if profile != DEVELOPMENT {
        make_portable(&mut command);
    }
    if target == MUSL {
        command.args(["--target", target]).env("CC_x86_64_unknown_linux_musl", "musl-gcc");
    }
    pipeline::build_executable(&mut command)
}

/// Keeps what only this machine has out of the program: the paths of sources, which messages of panics and assertions name,
/// and a zlib of the system.
fn make_portable(command: &mut Command) {
    let mappings = [(cargo_home(), "/cargo"), (root(), "/source")];
    let with = |option: &str| {
        mappings.iter().map(|(from, to)| format!("{option}={}={to}", from.display())).collect::<Vec<_>>()
    };
    command.env("CARGO_ENCODED_RUSTFLAGS", with("--remap-path-prefix").join("\u{1f}"));
    command.env("CFLAGS", with("-ffile-prefix-map").join(" "));
    command.env("LIBZ_SYS_STATIC", "1");
}

fn cargo_home() -> PathBuf {
    let usual = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo");
    std::env::var_os("CARGO_HOME").map_or_else(usual, PathBuf::from)
}

/// The files that are the same for every target. `program` is a build of the same sources.
fn common_files(program: &Path, crates: &[ShippedCrate]) -> Result<Vec<ArchiveFile>> {
    let mut files = Vec::new();
    for (from, to) in FILES {
        files.push(ArchiveFile::new(to, read(&root().join(from))?));
    }
    for document in documents::list()? {
        files.push(ArchiveFile::new(documents::packed_path(&document), read(&root().join(&document))?));
    }
    for (shell, path) in COMPLETIONS {
        files.push(ArchiveFile::new(path, capture(Command::new(program).args(["completions", shell]))?));
    }
    let pages = tempfile::tempdir().map_err(|error| format!("can't create a folder: {error}"))?;
    run_command(Command::new(program).arg("man").arg(pages.path()).stdout(Stdio::null()))?;
    let list = pages.path().read_dir().map_err(|error| format!("can't list the manual pages: {error}"))?;
    for page in list.flatten() {
        let path = format!("share/man/man1/{}", page.file_name().to_string_lossy());
        files.push(ArchiveFile::new(path, read(&page.path())?));
    }
    files.push(ArchiveFile::new("THIRD-PARTY-LICENSES.txt", licenses::text(crates)?));
    Ok(files)
}

/// A time of the commit in a format of `git log`.
fn commit_time(format: &str) -> Result<String> {
    let mut git = Command::new("git");
    let text = capture(git.current_dir(root()).args(["log", "-1", &format!("--format={format}")]))?;
    Ok(String::from_utf8_lossy(&text).trim().to_owned())
}

fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| format!("can't read {}: {error}", path.display()))
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    std::fs::write(path, content).map_err(|error| format!("can't write {}: {error}", path.display()))
}
