//! Compiles guest crates to components.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Deserialize;
use wit_component::ComponentEncoder;

use crate::error::PluginBuildError;
use crate::guest::{self, GuestCrate};
use crate::tool::Progress;
use crate::{fingerprint, toolchain};

/// A plugin with an up-to-date component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltPlugin {
    /// The name of its package.
    pub name: String,
    /// The component's file.
    pub component: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Whether it was out of date and has been rebuilt.
    pub rebuilt: bool,
}

/// How plugins are built.
pub struct BuildOptions<'a> {
    /// Where components are written, as `NAME.wasm`; else to `plugin.wasm` in the plugin's folder.
    pub out: Option<&'a Path>,
    /// The profile that cargo builds with.
    pub profile: &'a str,
    /// Says why a component can't be a stage.
    pub check: &'a dyn Fn(&[u8]) -> Result<(), String>,
}

/// Brings the components of the plugins at `paths` up to date. Each path is the folder of a plugin, or of several.
///
/// # Errors
/// If a path has no plugin, no compiler for wasm is found, or a plugin doesn't compile to a component that passes the check.
pub fn build(
    paths: &[PathBuf],
    options: &BuildOptions<'_>,
    progress: &mut Progress<'_>,
) -> Result<Vec<BuiltPlugin>, PluginBuildError> {
    let mut by_workspace: BTreeMap<PathBuf, Vec<GuestCrate>> = BTreeMap::new();
    for guest in guest::find(paths)? {
        by_workspace.entry(guest.workspace.clone()).or_default().push(guest);
    }
    let mut built = Vec::new();
    for (workspace, requested) in by_workspace {
        let workspace = GuestWorkspace::open(workspace, options)?;
        built.extend(workspace.bring_up_to_date(&requested, progress)?);
    }
    Ok(built)
}

/// A workspace with guests, which Cargo builds in one call.
struct GuestWorkspace<'a> {
    root: PathBuf,
    guests: Vec<GuestCrate>,
    options: &'a BuildOptions<'a>,
    fingerprint: String,
}

impl GuestWorkspace<'_> {
    fn open<'a>(root: PathBuf, options: &'a BuildOptions<'a>) -> Result<GuestWorkspace<'a>, PluginBuildError> {
        let guests = guest::all_of(&root)?;
        let mut workspace = GuestWorkspace { root, guests, options, fingerprint: String::new() };
        workspace.fingerprint = workspace.compute_fingerprint()?;
        Ok(workspace)
    }

    fn compute_fingerprint(&self) -> Result<String, PluginBuildError> {
        let folders = guest::source_folders(&self.root, &self.guests)?;
        fingerprint::of_sources(&self.root, &folders, self.options.profile, &toolchain::identify(&self.root)?)
    }

    fn bring_up_to_date(
        mut self,
        requested: &[GuestCrate],
        progress: &mut Progress<'_>,
    ) -> Result<Vec<BuiltPlugin>, PluginBuildError> {
        let out = self.options.out;
        let component = |guest: &GuestCrate| match out {
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
                fs::metadata(&path).map_err(|source| PluginBuildError::Read { path: path.clone(), source })?.len();
            Ok(BuiltPlugin { name: guest.name.clone(), component: path, bytes, rebuilt: stale.contains(guest) })
        };
        requested.iter().map(describe).collect()
    }

    /// Compiles all guests, and returns their core modules by the guests' folders. Fails only if a requested guest fails.
    fn compile(
        &self,
        requested: &BTreeSet<&GuestCrate>,
        progress: &mut Progress<'_>,
    ) -> Result<BTreeMap<PathBuf, PathBuf>, PluginBuildError> {
        let chosen = toolchain::choose(&self.root, progress)?;
        let plugins = match self.guests.len() {
            1 => "1 plugin".to_owned(),
            number => format!("{number} plugins"),
        };
        progress(&format!("building {plugins} with {}\n", chosen.describe()))?;
        let start = Instant::now();
        let mut cargo = chosen
            .cargo(&self.root)
            .args(["--profile", self.options.profile, "--keep-going", "--message-format", "json-render-diagnostics"])
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
            return Err(PluginBuildError::Cargo { plugins: missing, status });
        }
        progress(&format!("built in {:.1} s\n", start.elapsed().as_secs_f32()))?;
        Ok(modules)
    }

    fn componentize(&self, guest: &GuestCrate, module: &Path, path: &Path) -> Result<(), PluginBuildError> {
        let core = stagewright_files::read(module, stagewright_files::RECORD)
            .map_err(|source| PluginBuildError::Read { path: module.to_owned(), source })?;
        let unfit = |reason| PluginBuildError::Componentize { plugin: guest.name.clone(), reason };
        let component = encode(&core).map_err(unfit)?;
        (self.options.check)(&component).map_err(unfit)?;
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
