//! Looks at built plugins: what they import and the permission that each import takes, what they export, what they say
//! of themselves.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::component::Interfaces;
use super::{CheckArgs, PluginError, fingerprint, guest};

pub(super) fn run(args: &CheckArgs, out: &mut dyn Write) -> Result<(), PluginError> {
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
        return Err(PluginError::Unusable { failed, checked: components.len() });
    }
    Ok(())
}

fn components_at(path: &Path) -> Result<Vec<PathBuf>, PluginError> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let guests = guest::find(&[path.to_owned()])?;
    Ok(guests.into_iter().map(|guest| guest.folder.join("plugin.wasm")).collect())
}

/// Whether it can be used.
fn check(path: &Path, out: &mut dyn Write) -> Result<bool, PluginError> {
    writeln!(out, "{}", path.display())?;
    let content = match fs::read(path) {
        Ok(content) => content,
        Err(error) => {
            writeln!(out, "  error       it can't be read: {error}")?;
            return Ok(false);
        }
    };
    let interfaces = match Interfaces::of(&content) {
        Ok(interfaces) => interfaces,
        Err(reason) => {
            writeln!(out, "  error       {reason}")?;
            return Ok(false);
        }
    };
    writeln!(out, "  digest      {}, {} KiB", fingerprint::digest(&content), content.len().div_ceil(1024))?;
    writeln!(out, "  imports     {}", interfaces.imports.join(", "))?;
    writeln!(out, "  exports     {}", interfaces.exports.join(", "))?;
    writeln!(out, "  reach       {}", interfaces.reach())?;
    for (interface, permission) in interfaces.permissions() {
        writeln!(out, "  permission  {permission} (for {interface})")?;
    }
    let problems = interfaces.problems();
    for problem in &problems {
        writeln!(out, "  error       it {problem}")?;
    }
    Ok(problems.is_empty())
}
