//! `plugin build`: compiles guest crates to components.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Deserialize;
use stagewright_model::count;
use stagewright_report::{Printer, text};
use wit_component::ComponentEncoder;

use crate::console;

use super::component::Interfaces;
use super::guest::{self, GuestCrate};
use super::{BuildArgs, PluginCommandError, fingerprint, toolchain};

/// A plugin with an up-to-date component.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Built {
    name: String,
    component: PathBuf,
    bytes: u64,
    /// Whether it was out of date and has been rebuilt.
    rebuilt: bool,
}

pub(super) fn run(args: &BuildArgs, out: &mut Printer) -> Result<(), PluginCommandError> {
    let paths = if args.paths.is_empty() { guest::default_paths()? } else { args.paths.clone() };
    for built in build(&paths, args.out.as_deref(), &args.release_profile, &mut console::err())? {
        let state = if built.rebuilt { "built" } else { "up to date" };
        let kib = built.bytes.div_ceil(1024);
        out.line(text!("{:<14} {kib:>5} KiB  {state:<10}  {}", built.name, built.component.display()))?;
    }
    Ok(())
}

/// Brings the components of the plugins at `paths` up to date.
fn build(
    paths: &[PathBuf],
    folder: Option<&Path>,
    profile: &str,
    progress: &mut Printer,
) -> Result<Vec<Built>, PluginCommandError> {
    let mut by_workspace: BTreeMap<PathBuf, Vec<GuestCrate>> = BTreeMap::new();
    for guest in guest::find(paths)? {
        by_workspace.entry(guest.workspace.clone()).or_default().push(guest);
    }
    let mut built = Vec::new();
    for (workspace, requested) in by_workspace {
        let workspace = GuestWorkspace::open(workspace, profile)?;
        built.extend(workspace.bring_up_to_date(&requested, folder, progress)?);
    }
    Ok(built)
}

/// A workspace with guests, which Cargo builds in one call.
struct GuestWorkspace<'a> {
    root: PathBuf,
    guests: Vec<GuestCrate>,
    profile: &'a str,
    fingerprint: String,
}

impl GuestWorkspace<'_> {
    fn open(root: PathBuf, profile: &str) -> Result<GuestWorkspace<'_>, PluginCommandError> {
        let guests = guest::all_of(&root)?;
        let mut workspace = GuestWorkspace { root, guests, profile, fingerprint: String::new() };
        workspace.fingerprint = workspace.compute_fingerprint()?;
        Ok(workspace)
    }

    fn compute_fingerprint(&self) -> Result<String, PluginCommandError> {
        let folders = guest::source_folders(&self.root, &self.guests)?;
        fingerprint::of_sources(&self.root, &folders, self.profile, &toolchain::identify(&self.root)?)
    }

    fn bring_up_to_date(
        mut self,
        requested: &[GuestCrate],
        folder: Option<&Path>,
        progress: &mut Printer,
    ) -> Result<Vec<Built>, PluginCommandError> {
        let component = |guest: &GuestCrate| match folder {
            Some(folder) => folder.join(format!("{}.wasm", guest.name)),
            None => guest.folder.join("plugin.wasm"),
        };
        let stale: BTreeSet<&GuestCrate> =
            requested.iter().filter(|guest| !fingerprint::is_current(&component(guest), &self.fingerprint)).collect();
        if !stale.is_empty() {
            let modules = self.compile(&stale, progress)?;
            // The build may have created or updated the lock file, which is part of the fingerprint. With the old
            // fingerprint the component would count as out of date the next time.
            self.fingerprint = self.compute_fingerprint()?;
            for guest in &stale {
                self.componentize(guest, &modules[&guest.folder], &component(guest))?;
            }
        }
        let describe = |guest: &GuestCrate| {
            let path = component(guest);
            let bytes =
                fs::metadata(&path).map_err(|source| PluginCommandError::Read { path: path.clone(), source })?.len();
            Ok(Built { name: guest.name.clone(), component: path, bytes, rebuilt: stale.contains(guest) })
        };
        requested.iter().map(describe).collect()
    }

    /// Compiles all guests, and returns their core modules by the guests' folders. Fails only if a requested guest fails.
    fn compile(
        &self,
        requested: &BTreeSet<&GuestCrate>,
        progress: &mut Printer,
    ) -> Result<BTreeMap<PathBuf, PathBuf>, PluginCommandError> {
        let chosen = toolchain::choose(&self.root, progress)?;
        progress.line(text!("building {} with {}", count(self.guests.len(), "plugin"), chosen.describe()))?;
        let start = Instant::now();
        let mut cargo = chosen
            .cargo(&self.root)
            .args(["--profile", self.profile, "--keep-going", "--message-format", "json-render-diagnostics"])
            .args(["--target-dir".to_owned(), self.target_folder().display().to_string()])
            .env("CARGO_ENCODED_RUSTFLAGS", self.rustflags())
            .without_env("RUSTFLAGS");
        for guest in &self.guests {
            cargo = cargo.args(["-p", &guest.name]);
        }
        let (status, messages) = cargo.run(progress)?;
        let modules = modules(&messages);
        let missing = requested.iter().filter(|guest| !modules.contains_key(&guest.folder));
        let missing: Vec<String> = missing.map(|guest| guest.name.clone()).collect();
        if !missing.is_empty() {
            return Err(PluginCommandError::Cargo { plugins: missing, status });
        }
        progress.line(text!("built in {:.1} s", start.elapsed().as_secs_f32()))?;
        Ok(modules)
    }

    fn componentize(&self, guest: &GuestCrate, module: &Path, path: &Path) -> Result<(), PluginCommandError> {
        let core = stagewright_files::read(module, stagewright_files::RECORD)
            .map_err(|source| PluginCommandError::Read { path: module.to_owned(), source })?;
        let unfit = |reason| PluginCommandError::Componentize { plugin: guest.name.clone(), reason };
        let component = encode(&core).map_err(unfit)?;
        let problems = Interfaces::of(&component).map_err(unfit)?.problems();
        if !problems.is_empty() {
            return Err(unfit(format!("it {}", problems.join(", and it "))));
        }
        fingerprint::write_whole(path, &component)?;
        fingerprint::stamp(path, &component, &self.fingerprint)
    }

    /// A target folder of its own. Cargo locks a target folder while it builds, so in the host's folder a guest could not be
    /// built from within a running build, as tests do.
    fn target_folder(&self) -> PathBuf {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
        self.root.join(target).join("guests")
    }

    /// Remaps the paths of sources. They are part of panic messages, and the same sources must compile to the same bytes,
    /// and thus the same digest, wherever the checkout is.
    fn rustflags(&self) -> String {
        let home = std::env::var_os("HOME").map_or_else(PathBuf::new, PathBuf::from);
        let cargo_home = std::env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
        let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
        [remap(&cargo_home, "/cargo"), remap(&self.root, "/source")].join("\u{1f}")
    }
}

/// Encodes a core module as a component. The error names what the module lacks.
fn encode(module: &[u8]) -> Result<Vec<u8>, String> {
    let encoded = ComponentEncoder::default().validate(true).module(module).and_then(|mut encoder| encoder.encode());
    encoded.map_err(|error| format!("{error:#}"))
}

/// The wasm modules in Cargo's messages (one JSON object per line), by the folder of their package.
fn modules(messages: &[u8]) -> BTreeMap<PathBuf, PathBuf> {
    #[derive(Deserialize)]
    struct Message {
        reason: String,
        manifest_path: Option<PathBuf>,
        #[serde(default)]
        filenames: Vec<PathBuf>,
    }
    let messages =
        messages.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice::<Message>(line).ok());
    let artifacts = messages.filter(|message| message.reason == "compiler-artifact");
    artifacts
        .filter_map(|artifact| {
            let module =
                artifact.filenames.into_iter().find(|file| file.extension().is_some_and(|kind| kind == "wasm"))?;
            Some((artifact.manifest_path?.parent()?.to_owned(), module))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_found_among_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","manifest_path":"/w/dep/Cargo.toml","filenames":["/t/libdep.rlib"]}"#,
            "\n",
            r#"{"reason":"compiler-artifact","manifest_path":"/w/one/Cargo.toml","filenames":["/t/libone.rlib","/t/one.wasm"]}"#,
            "\n",
            r#"{"reason":"compiler-message","manifest_path":"/w/two/Cargo.toml","message":{}}"#,
            "\n",
            r#"{"reason":"build-finished","success":false}"#,
            "\n",
        );
        let found = modules(messages.as_bytes());
        assert_eq!(found, BTreeMap::from([(PathBuf::from("/w/one"), PathBuf::from("/t/one.wasm"))]));
    }
}
