//! Learning: what a stage used, while it had more than its grants, becomes the grants that it needs.
//!
//! ```text
//! plugin ── policy ──────────> HostUses ──┐
//! programs ── proxy, policy ─> HostUses ──┼── resolve (links) ── fold (folders, patterns) ──> problems with grants
//!          ── sandbox ── observations ┘
//! ```
//!
//! The stage works on a copy of the workspace, which its programs see at the workspace's own path. The grants that it has
//! meanwhile, and what it can't reach, are the caller's decision: this module observes, and allows nothing.
//!
//! Each attempt reports its grants as problems with the code [`LEARNED`], from which they are written into the pipeline
//! file like those that a run was denied.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use stagewright_engine::{Level, Problem};
use stagewright_model::{Grant, MissingGrant, Permission, Permissions, ProcessRule, WorkspacePath};
use stagewright_process::sandbox::{FileObservation, FileUse};
use stagewright_process::which;

use crate::attempt::Attempt;
use crate::blocking::blocking;
use crate::confine::tools;
use crate::error::CapabilityError;
use crate::learner::{Evidence, Learner, everywhere};
use crate::report::masked_problem;

mod fold;
mod resolve;

use fold::{Checkout, FilesUsed, fold};
use resolve::{Resolved, resolve};

/// The code of the problems that report what a stage used.
pub const LEARNED: &str = "learned";
/// The code of the problems that report what a stage looked for and can't be granted by learning.
pub const NOT_LEARNED: &str = "not-learned";

/// The most files outside of the workspace that are listed for one attempt.
const LISTED: usize = 20;

/// What was learned from one attempt.
#[derive(Debug, Default)]
struct Lesson {
    grants: BTreeSet<(Permission, String)>,
    /// Files outside of the workspace that exist, and that programs looked for without seeing them.
    outside: BTreeSet<PathBuf>,
    /// Programs outside of `PATH`, which no grant by name includes.
    unnamed: BTreeSet<PathBuf>,
    /// Variables of the engine's environment that a failed program named and didn't have.
    variables: BTreeSet<String>,
}

impl Attempt {
    /// Reports what the attempt used, if it learns, and what it was refused and won't be granted by that.
    pub(crate) async fn report_uses(&mut self) {
        let Some(learner) = self.learner.clone() else { return };
        let evidence = self.processes.evidence();
        let hosts = self.processes.policy().used_origins(learner.uses().origins.values());
        let lesson = match blocking(move || learner.lesson(&evidence)).await {
            Ok(lesson) => lesson,
            // Without it the stage has learned nothing, and the next run says what it lacks.
            Err(error) => {
                return self.log.engine(&format!("could not determine what the stage used: {}", error.message)).await;
            }
        };
        let grants = lesson.grants.into_iter().chain(hosts.into_iter().map(|entry| (Permission::Net, entry)));
        let lesson = Lesson { grants: grants.collect(), ..lesson };
        let mut problems = lesson.problems(self.processes.policy().table());
        problems.extend(self.denials.take_connections().iter().map(refused));
        for problem in problems {
            self.log.output().problem(masked_problem(problem, self.log.masker())).await;
        }
    }
}

/// A connection that was refused. It isn't proposed: a program that was led astray would then choose its own grants.
fn refused(denied: &CapabilityError) -> Problem {
    let help = denied.grant.as_ref().map(|grant| match grant.permission {
        Permission::Net => format!("if it needs this host, learn again with `--allow-host {}`", grant.entry),
        _ => "if it needs this socket, grant it by hand: it may give full control of the machine".to_owned(),
    });
    Problem { help, ..Problem::new(Level::Warning, NOT_LEARNED, denied.message.clone()) }
}

impl Learner {
    fn lesson(&self, evidence: &Evidence) -> Lesson {
        let uses = self.uses();
        let mut lesson = Lesson::default();
        let mut files = FilesUsed::default();
        let mut programs = uses.programs.clone();
        for path in &uses.read {
            let is_folder = self.learning.files.join(path.as_path()).is_dir();
            files.add(path.clone(), if is_folder { FileUse::Look } else { FileUse::Read }, is_folder);
        }
        uses.written.iter().for_each(|path| files.add(path.clone(), FileUse::Create, false));
        let mut elsewhere = Vec::new();
        for seen in &evidence.observations {
            match seen.path.strip_prefix(&evidence.root) {
                Ok(below) => elsewhere.extend(self.in_workspace(below, seen, &evidence.root, &mut files)),
                Err(_) if !seen.existed && is_of_machine(seen) => drop(lesson.outside.insert(seen.path.clone())),
                Err(_) if seen.existed && seen.of == FileUse::Start => elsewhere.push(seen.path.clone()),
                Err(_) => {}
            }
        }
        lesson.variables = missing_variables(evidence);
        lesson.unnamed = name_programs(&elsewhere, &mut programs, evidence);
        // A program that `process` names by its path can be started without `exec`.
        let own = programs.iter().filter(|name| name.contains('/')).filter_map(|name| WorkspacePath::parse(name).ok());
        own.for_each(|path| files.forget_start(&path));
        let checkout = Checkout::new(&self.learning);
        lesson.grants.extend(fold(&files, &checkout));
        lesson.grants.extend(programs.iter().map(|name| (Permission::Process, ProcessRule::exactly(name, &[]))));
        lesson
    }

    /// Adds a use of a path below the workspace. Returns the program of the machine that it started by a link.
    fn in_workspace(
        &self,
        below: &Path,
        seen: &FileObservation,
        root: &Path,
        files: &mut FilesUsed,
    ) -> Option<PathBuf> {
        if !seen.existed && !matches!(seen.of, FileUse::Create | FileUse::MakeFolder | FileUse::Name) {
            return None;
        }
        let follows = !matches!(seen.of, FileUse::Remove | FileUse::Name | FileUse::MakeFolder);
        let Resolved { links, path, outside } = resolve(&self.learning.files, root, below, follows);
        for link in links {
            let target = resolve(&self.learning.files, root, link.as_path(), true).path;
            files.add_link(link, target);
        }
        let Some(path) = path else { return outside.filter(|_| seen.of == FileUse::Start) };
        let is_folder = self.learning.files.join(path.as_path()).is_dir();
        // A tool that makes a folder if it is missing only looks at one that exists.
        let of = if seen.existed && seen.of == FileUse::MakeFolder { FileUse::Look } else { seen.of };
        files.add(path, of, is_folder);
        None
    }
}

/// The variables that the output of a failed program names. No call shows which ones a program reads.
fn missing_variables(evidence: &Evidence) -> BTreeSet<String> {
    let is_part_of_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = evidence.complaints.iter().flat_map(|output| output.split(|letter| !is_part_of_name(letter)));
    let words = words.filter(|word| evidence.machine.contains_key(*word) && !evidence.environment.contains_key(*word));
    words.map(str::to_owned).collect()
}

/// Whether the machine has a file that a program didn't see.
fn is_of_machine(seen: &FileObservation) -> bool {
    matches!(seen.of, FileUse::Look | FileUse::Read | FileUse::List | FileUse::Start)
        && seen.path.symlink_metadata().is_ok()
}

/// Adds the programs whose toolchains contain what was started outside of the workspace. Returns what no program in `PATH`
/// stands for. `started`: in this order, because the first one is what a person calls: `python3` of a version manager starts
/// the manager, and both are in the same installation.
fn name_programs(started: &[PathBuf], programs: &mut BTreeSet<String>, evidence: &Evidence) -> BTreeSet<PathBuf> {
    let Evidence { environment, machine, root, .. } = evidence;
    let path_variable = environment.get("PATH").map_or("", String::as_str);
    let mounted = |programs: &BTreeSet<String>| {
        let rules = programs.iter().filter_map(|name| ProcessRule::exactly(name, &[]).parse().ok());
        tools(&rules.collect::<Vec<_>>(), environment, machine, root)
    };
    let called = programs.clone();
    let mut tool_mounts = mounted(programs);
    let mut unnamed = BTreeSet::new();
    for path in started {
        // A version manager mounts the installation, and a link to it leads to the file itself.
        let real = path.canonicalize().unwrap_or_else(|_| path.clone());
        if is_everywhere(&real) || tool_mounts.iter().any(|mount| real.starts_with(&mount.path)) {
            continue;
        }
        let is_in = |name: &&str| {
            let alone = BTreeSet::from([(*name).to_owned()]);
            which(name, path_variable).is_some() && mounted(&alone).iter().any(|mount| real.starts_with(&mount.path))
        };
        match names_of(path).find(is_in) {
            Some(name) => {
                programs.insert(name.to_owned());
                tool_mounts = mounted(programs);
            }
            None => drop(unnamed.insert(path.clone())),
        }
    }
    // A program that comes later in the order may have been the one that includes it.
    unnamed.retain(|path| !tool_mounts.iter().any(|mount| path.starts_with(&mount.path)));
    // pip asks it for its version, to tell the index, and works without it.
    let has_pip = OF_PIP.iter().any(|name| programs.contains(*name));
    if has_pip && !programs.contains("cargo") && !called.contains("rustc") {
        programs.remove("rustc");
    }
    unnamed
}

/// Programs that run pip.
const OF_PIP: [&str; 5] = ["pip", "pip3", "python", "python3", "uv"];

/// The names under which `process` can grant a program: its own, and those without its version, as `python3` and `python`
/// for `python3.11`.
fn names_of(path: &Path) -> impl Iterator<Item = &str> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let without_minor = name.rsplit_once('.').map(|(name, _)| name);
    let bare = name.trim_end_matches(|letter: char| letter == '.' || letter.is_ascii_digit());
    [Some(name), without_minor, Some(bare)].into_iter().flatten().filter(|name| !name.is_empty())
}

fn is_everywhere(path: &Path) -> bool {
    everywhere().any(|folder| path.starts_with(folder))
}

/// As in ``it has to read `src` ``.
fn used(permission: Permission, entry: &str) -> String {
    let mut one = Permissions::default();
    let phrase = one.insert(permission, entry).ok().and_then(|()| one.entries().next().map(Grant::phrase));
    format!("it has to {}", phrase.unwrap_or_else(|| format!("have {} `{entry}`", permission.key())))
}

impl Lesson {
    fn problems(self, table: &str) -> Vec<Problem> {
        let learned = self.grants.into_iter().map(|(permission, entry)| {
            let message = used(permission, &entry);
            let grant = MissingGrant { table: format!("{table}.permissions"), permission, entry };
            Problem { grant: Some(Box::new(grant)), ..Problem::new(Level::Info, LEARNED, message) }
        });
        let outside = self.outside.iter().take(LISTED).map(|path| {
            let message = format!("it looked for `{}`, which programs don't see", path.display());
            let help = "no permission opens files outside of the workspace: if the stage needs it, copy it there";
            Problem { help: Some(help.to_owned()), ..Problem::new(Level::Info, NOT_LEARNED, message) }
        });
        let unnamed = self.unnamed.iter().take(LISTED).map(|path| {
            let message = format!("it used the program or library `{}`, which isn't in PATH", path.display());
            let help = "grant it by its absolute path in `process`, or add its folder to the engine's PATH";
            Problem { help: Some(help.to_owned()), ..Problem::new(Level::Warning, NOT_LEARNED, message) }
        });
        let variables = self.variables.iter().take(LISTED).map(|name| {
            let message = format!("a program that failed named the variable `{name}`, which it doesn't have");
            let help = "if it needs the variable, add its name to `env` in the stage's permissions";
            Problem { help: Some(help.to_owned()), ..Problem::new(Level::Info, NOT_LEARNED, message) }
        });
        learned.chain(outside).chain(unnamed).chain(variables).collect()
    }
}
