//! Digests of the programs and toolchains that a stage can start.
//!
//! A program is identified by its whole content. A toolchain is identified by the programs in its `bin` folders and by the
//! small files beside them that select a version, such as rustup's `settings.toml`. Its libraries are not read: they
//! change together with the programs.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use stagewright_engine::AttemptRequest;
use stagewright_model::ProcessRule;

use crate::config::MachineContext;
use crate::index::FileIndex;
use crate::scan::ScannedEntry;

/// How many folders deep a `bin` is searched below a version manager's folder, as in `versions/node/v24.1.0/bin`.
const DEPTH: usize = 4;
/// The most folders of a toolchain that are searched for a `bin`.
const FOLDERS: usize = 2000;
/// The largest file beside a `bin` that is taken to select a version, in bytes.
const SMALL: u64 = 64 << 10;

/// Digests by path.
pub(crate) type Digests = Vec<(String, String)>;
/// What determines the programs that are found: the granted names, and the stage's variables.
type FoundBy = (Vec<ProcessRule>, BTreeMap<String, String>);

/// Remembers the tools that were looked up before. Tools outside the workspace are digested once, since stages can't
/// change them.
#[derive(Debug, Default)]
pub(crate) struct ToolDigests(Mutex<HashMap<FoundBy, Arc<LookedUpTools>>>);

/// The programs that a stage can start.
#[derive(Debug, Default)]
pub(crate) struct StartablePrograms {
    pub(crate) digests: Digests,
    /// Programs in the workspace, which other stages may change.
    pub(crate) own: Vec<ScannedEntry>,
}

#[derive(Debug)]
struct LookedUpTools {
    digests: Digests,
    /// Programs in the workspace. They are digested for every stage, because an earlier stage may have changed them.
    own: Vec<PathBuf>,
}

impl ToolDigests {
    pub(crate) fn of(
        &self,
        request: &AttemptRequest,
        machine: &dyn MachineContext,
        index: &FileIndex,
        workspace: &Path,
    ) -> io::Result<StartablePrograms> {
        let granted = &request.permissions.process;
        if granted.is_empty() {
            return Ok(StartablePrograms::default());
        }
        let found_by = (granted.clone(), request.env.clone());
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&found_by).map(Arc::clone);
        let looked = match known {
            Some(known) => known,
            None => {
                let looked = Arc::new(look_up(request, machine, index, workspace)?);
                self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(found_by, Arc::clone(&looked));
                looked
            }
        };
        let mut started = StartablePrograms { digests: looked.digests.clone(), own: Vec::new() };
        for program in looked.own.iter().filter(|program| program.is_file()) {
            let name = program.strip_prefix(workspace).unwrap_or(program).display().to_string();
            started.own.push(ScannedEntry::new(name.clone(), &program.symlink_metadata()?));
            started.digests.push((name, index.digest(program)?.to_string()));
        }
        started.digests.sort();
        started.digests.dedup();
        Ok(started)
    }
}

fn look_up(
    request: &AttemptRequest,
    machine: &dyn MachineContext,
    index: &FileIndex,
    workspace: &Path,
) -> io::Result<LookedUpTools> {
    let (mut digests, mut own) = (Vec::new(), Vec::new());
    for tool in machine.tools(&request.permissions, &request.env) {
        if tool.starts_with(workspace) {
            own.push(tool);
            continue;
        }
        let programs = if tool.is_dir() { programs_of(&tool) } else { vec![tool] };
        for program in programs.into_iter().filter(|program| program.is_file()) {
            digests.push((program.display().to_string(), index.digest(&program)?.to_string()));
        }
    }
    Ok(LookedUpTools { digests, own })
}

/// The files in the `bin` folders of a toolchain, and the small files in the folders above these.
fn programs_of(toolchain: &Path) -> Vec<PathBuf> {
    let (mut programs, mut open, mut seen) = (Vec::new(), vec![(toolchain.to_owned(), 0)], 0);
    while let Some((folder, depth)) = open.pop() {
        seen += 1;
        let entries = folder.read_dir().into_iter().flatten().flatten();
        let mut below = Vec::new();
        let mut has_programs = folder.file_name().is_some_and(|name| name == "bin");
        let mut files = Vec::new();
        for entry in entries {
            match entry.file_type() {
                // A linked folder is not entered: either it is searched at its own place, or it belongs to another
                // toolchain.
                Ok(kind) if kind.is_dir() => below.push(entry.path()),
                Ok(_) => files.push(entry.path()),
                Err(_) => {}
            }
        }
        if has_programs {
            programs.append(&mut files);
            continue;
        }
        has_programs = below.iter().any(|folder| folder.ends_with("bin"));
        let is_small = |file: &PathBuf| file.metadata().is_ok_and(|metadata| metadata.len() <= SMALL);
        if depth <= 1 {
            programs.extend(files.into_iter().filter(is_small));
        }
        // The other folders beside a `bin` hold libraries.
        below.retain(|folder| !has_programs || folder.ends_with("bin"));
        if depth < DEPTH && seen < FOLDERS {
            open.extend(below.into_iter().map(|folder| (folder, depth + 1)));
        }
    }
    programs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_a_toolchain_are_found_in_nested_bin_folders() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, bytes: usize| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, vec![b'x'; bytes]).unwrap();
        };
        for (path, bytes) in [
            ("settings.toml", 10),
            ("huge", 1 << 20),
            ("toolchains/stable/bin/rustc", 1 << 20),
            ("toolchains/stable/lib/librustc.so", 10),
            ("toolchains/stable/lib/x/bin/other", 10),
            ("versions/node/v24/bin/node", 10),
        ] {
            write(path, bytes);
        }
        let mut found: Vec<String> = programs_of(folder.path())
            .iter()
            .map(|path| path.strip_prefix(folder.path()).unwrap().display().to_string())
            .collect();
        found.sort();
        assert_eq!(found, ["settings.toml", "toolchains/stable/bin/rustc", "versions/node/v24/bin/node"]);
    }
}
