//! `plugin upgrade`: replaces the copies of the SDK in guest crates by that of this program, and lists the code that must
//! change with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use stagewright_model::{count, list};
use stagewright_plugin_build::guest::{self, GuestCrate};
use stagewright_report::{Printer, text};

use crate::console;

use super::migration::{self, MigrationHint};
use super::sdk::{self, SdkDifference, SdkVersion};
use super::{PluginCommandError, UpgradeArgs, git};

/// Guests by the copy of the SDK that they share.
type GuestsByCopy = BTreeMap<PathBuf, Vec<GuestCrate>>;

/// A copy of the SDK that isn't up to date.
#[derive(Debug)]
struct OutdatedCopy {
    folder: PathBuf,
    guests: Vec<GuestCrate>,
    from: SdkVersion,
    difference: SdkDifference,
    hints: Vec<MigrationHint>,
}

pub(super) fn run(args: &UpgradeArgs, out: &mut Printer) -> Result<(), PluginCommandError> {
    let paths = if args.paths.is_empty() { guest::default_paths()? } else { args.paths.clone() };
    let mut outdated = Vec::new();
    for (folder, guests) in guests_by_copy(&paths, out)? {
        let names = names(&guests);
        if !args.check {
            finish(&folder)?;
        }
        match OutdatedCopy::find(folder, guests)? {
            Some(copy) => outdated.push(copy),
            None => out.line(text!("{names}: up to date, SDK {}", SdkVersion::embedded()))?,
        }
    }
    if !args.check {
        // All are checked before the first is replaced, so that a refused upgrade changes nothing.
        let backups = outdated.iter().map(|copy| copy.backup(args.allow_dirty)).collect::<Result<Vec<_>, _>>()?;
        for (copy, backup) in outdated.iter().zip(backups) {
            copy.replace(backup.as_deref(), out)?;
        }
    }
    for copy in &outdated {
        copy.show(out)?;
    }
    match outdated.len() {
        0 => Ok(()),
        copies if args.check => Err(PluginCommandError::Outdated { copies }),
        _ => show_next_steps(&outdated, out),
    }
}

/// The guests at the paths, with the others in their workspaces that use the same copy. Guests without a copy are only
/// named on `out`.
fn guests_by_copy(paths: &[PathBuf], out: &mut Printer) -> Result<GuestsByCopy, PluginCommandError> {
    let mut copies = GuestsByCopy::new();
    for guest in guest::find(paths)? {
        let Some(sdk) = guest::sdk(&guest)? else {
            out.line(text!("{}: unchanged, it has no copy of the SDK", guest.name))?;
            continue;
        };
        if !sdk.starts_with(&guest.workspace) || !sdk::is_copy(&sdk) {
            out.line(text!("{}: unchanged, it uses the SDK in {}, not a copy of its own", guest.name, shown(&sdk)))?;
            continue;
        }
        if copies.contains_key(&sdk) {
            continue;
        }
        let mut sharing = vec![guest.clone()];
        for other in guest::all_of(&guest.workspace)? {
            if other != guest && guest::sdk(&other)?.as_ref() == Some(&sdk) {
                sharing.push(other);
            }
        }
        sharing.sort();
        copies.insert(sdk, sharing);
    }
    Ok(copies)
}

impl OutdatedCopy {
    /// None if the copy equals the SDK of this program.
    fn find(folder: PathBuf, guests: Vec<GuestCrate>) -> Result<Option<OutdatedCopy>, PluginCommandError> {
        let (from, to) = (SdkVersion::of_copy(&folder)?, SdkVersion::embedded());
        if from.release > to.release {
            return Err(PluginCommandError::NewerSdk { path: folder, copy: from.to_string(), own: to.to_string() });
        }
        let difference = SdkDifference::of_copy(&folder)?;
        if difference == SdkDifference::default() {
            return Ok(None);
        }
        let hints = migration::hints(&from.contract, &guests, &folder)?;
        Ok(Some(OutdatedCopy { folder, guests, from, difference, hints }))
    }

    /// Where to keep the copy; none if git can restore it. With `allow_dirty`, it is kept whenever git can't.
    fn backup(&self, allow_dirty: bool) -> Result<Option<PathBuf>, PluginCommandError> {
        let backup = beside(&self.folder, "", ".orig");
        // Why git can't tell doesn't matter if the copy is kept anyway.
        let mut progress = if allow_dirty { Printer::new(std::io::sink()) } else { console::err() };
        let state = git::uncommitted(&self.folder, &sdk::ENTRIES, &mut progress);
        match state {
            Ok(entries) if entries.is_empty() => Ok(None),
            _ if allow_dirty && backup.exists() => Err(PluginCommandError::BackupExists(backup)),
            _ if allow_dirty => Ok(Some(backup)),
            Ok(entries) => Err(PluginCommandError::Uncommitted { path: self.folder.clone(), backup, entries }),
            Err(error) => Err(error),
        }
    }

    fn replace(&self, backup: Option<&Path>, out: &mut Printer) -> Result<(), PluginCommandError> {
        let Some(backup) = backup else {
            sdk::replace(&self.folder, &draft(&self.folder))?;
            return finish(&self.folder);
        };
        sdk::replace(&self.folder, backup)?;
        out.line(text!("Kept {} as {}", shown(&self.folder), shown(backup)))?;
        Ok(())
    }

    fn show(&self, out: &mut Printer) -> Result<(), PluginCommandError> {
        let SdkDifference { changed, added, removed } = self.difference;
        let files = count(changed, "file");
        let (from, to) = (&self.from, SdkVersion::embedded());
        let names = names(&self.guests);
        out.line(text!("{names}: SDK {from} -> {to}, {files} changed, {added} added, {removed} removed"))?;
        for MigrationHint { file, line, was, instead } in &self.hints {
            out.line(text!("  {}:{line}: {was} -> {instead}", shown(file)))?;
        }
        Ok(())
    }
}

/// Where a copy's successor is written, and then the copy is until it is removed.
fn draft(folder: &Path) -> PathBuf {
    beside(folder, ".", ".upgrade")
}

/// Removes what a replaced copy has left behind, also that of an upgrade that was killed.
fn finish(folder: &Path) -> Result<(), PluginCommandError> {
    let draft = draft(folder);
    if !draft.exists() {
        return Ok(());
    }
    sdk::carry_over(&draft, folder)?;
    stagewright_files::remove_tree(&draft).map_err(|source| PluginCommandError::Write { path: draft, source })
}

fn show_next_steps(upgraded: &[OutdatedCopy], out: &mut Printer) -> Result<(), PluginCommandError> {
    out.line(text!("Next steps:"))?;
    if upgraded.iter().any(|copy| !copy.hints.is_empty()) {
        out.line(text!("  change the places above"))?;
    }
    for guest in upgraded.iter().flat_map(|copy| &copy.guests) {
        let folder = shown(&guest.folder);
        out.line(text!("  cargo test --manifest-path {folder}/Cargo.toml"))?;
        out.line(text!("  stagewright plugin build {folder}"))?;
        out.line(text!("  stagewright plugin check {folder}"))?;
    }
    Ok(())
}

fn names(guests: &[GuestCrate]) -> String {
    list(guests.iter().map(|guest| &guest.name))
}

/// A path in the same folder, with another name.
fn beside(folder: &Path, prefix: &str, suffix: &str) -> PathBuf {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    folder.with_file_name(format!("{prefix}{name}{suffix}"))
}

/// A path as it is shown: relative to the current folder if it is in there.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().and_then(|here| here.canonicalize()).unwrap_or_default();
    match path.strip_prefix(here) {
        Ok(below) if below.as_os_str().is_empty() => ".".to_owned(),
        Ok(below) => below.display().to_string(),
        Err(_) => path.display().to_string(),
    }
}
