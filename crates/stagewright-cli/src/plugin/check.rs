//! `plugin check`: shows the imports of built plugins with the permission that each import requires, their exports, and
//! their manifests.

use std::path::{Path, PathBuf};

use stagewright_model::list;
use stagewright_plugin_build::{fingerprint, guest};
use stagewright_plugin_host::{DeclaredOutputs, PluginManifest};
use stagewright_report::{Printer, text};

use super::component::Interfaces;
use super::describe::describe;
use super::{CheckArgs, PluginCommandError};

pub(super) fn run(args: &CheckArgs, out: &mut Printer) -> Result<(), PluginCommandError> {
    let paths = if args.paths.is_empty() { guest::default_paths()? } else { args.paths.clone() };
    let mut components = Vec::new();
    for path in &paths {
        components.extend(components_at(path)?);
    }
    let mut failed = 0;
    for component in &components {
        if !check(component, out)? {
            failed += 1;
        }
    }
    if failed > 0 {
        return Err(PluginCommandError::Unusable { failed, checked: components.len() });
    }
    Ok(())
}

fn components_at(path: &Path) -> Result<Vec<PathBuf>, PluginCommandError> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let guests = guest::find(&[path.to_owned()])?;
    Ok(guests.into_iter().map(|guest| guest.folder.join("plugin.wasm")).collect())
}

/// Shows a component. Returns whether it is usable.
fn check(path: &Path, out: &mut Printer) -> Result<bool, PluginCommandError> {
    out.line(text!("{}", path.display()))?;
    let problems = match stagewright_files::read(path, stagewright_files::RECORD) {
        Ok(content) => show(path, &content, out)?,
        Err(error) => vec![format!("can't read it: {error}")],
    };
    for problem in &problems {
        out.line(text!("  error       {problem}"))?;
    }
    Ok(problems.is_empty())
}

/// Shows the content of a component. Returns the problems that make it unusable.
fn show(path: &Path, content: &[u8], out: &mut Printer) -> Result<Vec<String>, PluginCommandError> {
    let interfaces = match Interfaces::of(content) {
        Ok(interfaces) => interfaces,
        Err(reason) => return Ok(vec![reason]),
    };
    out.line(text!("  digest      {}, {} KiB", fingerprint::digest(content), content.len().div_ceil(1024)))?;
    out.line(text!("  imports     {}", list(interfaces.imports.interfaces())))?;
    out.line(text!("  exports     {}", list(&interfaces.exports)))?;
    out.line(text!("  reach       {}", interfaces.reach()))?;
    for (interface, permission) in interfaces.permissions() {
        out.line(text!("  permission  {permission} (for {interface})"))?;
    }
    let problems: Vec<String> = interfaces.problems().into_iter().map(|problem| format!("it {problem}")).collect();
    if !problems.is_empty() {
        return Ok(problems);
    }
    match describe(path) {
        Ok(manifest) => {
            show_manifest(&manifest, out)?;
            Ok(Vec::new())
        }
        Err(reasons) => Ok(reasons),
    }
}

fn show_manifest(manifest: &PluginManifest, out: &mut Printer) -> Result<(), PluginCommandError> {
    let PluginManifest { name, version, description, config, outputs: DeclaredOutputs { properties, open } } = manifest;
    out.line(text!("  manifest    {name} {version}: {description}"))?;
    if let Some(keys) = config.get("properties").and_then(|properties| properties.as_object()) {
        out.line(text!("  with        {}", list(keys.keys())))?;
    }
    if !properties.is_empty() {
        let others = if *open { " and others" } else { "" };
        out.line(text!("  outputs     {}{others}", list(properties.keys())))?;
    }
    Ok(())
}
