//! Plans which files of the workspace are mounted into a sandbox: the granted paths, and covers over the reserved ones.
//!
//! Granted paths are mounted first, in the order of their names, so that a folder is mounted before what lies in it. The
//! spots of [`Reservations`](crate::reserved::Reservations) are mounted over them: a reserved path is hidden or read-only,
//! and each folder or link that leads to it becomes a mount of its own. The kernel refuses to rename or remove a mount
//! point (EBUSY), or to move across one (EXDEV), so that a program can't put anything else where the engine, or git, will
//! look the next time.
//!
//! A read-only mount doesn't prevent writes to a named pipe, which has a reader outside. Landlock does, but a right that it
//! grants for a folder holds for everything below, and programs may write their home and `/tmp`. So in a workspace below
//! one of these, an empty file is mounted over each pipe that may only be read.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use stagewright_model::{PathPattern, ProcessRule, WorkspacePath, outermost};
use stagewright_process::sandbox::{Access, Place, Source};

use super::SandboxView;
use super::git_view::git_view;
use super::places::MountPlanner;
use crate::capability::workspace::{FileKind, GrantedPath, WorkspaceFiles};
use crate::error::{CapabilityError, ErrorCode, unprepared};
use crate::reserved::{Placeholders, Purpose, Spot};

mod programs;

/// The most paths that the patterns of one stage may match. Each is a mount.
pub(super) const PATHS: usize = 4096;
/// A git directory has at least one of these files; `commondir` is a linked worktree's.
const IN_A_REPOSITORY: [&str; 3] = ["config", "config.worktree", "commondir"];

/// The granted paths of one stage.
#[derive(Default)]
struct GrantedMounts(BTreeMap<WorkspacePath, GrantedMount>);

/// How a granted path appears in the sandbox.
enum GrantedMount {
    Folder(Access),
    File(Access),
    /// A named pipe that may only be read.
    Pipe,
    /// A link with this target.
    Link(PathBuf),
}

impl GrantedMount {
    fn new(kind: FileKind, access: Access) -> GrantedMount {
        match kind {
            FileKind::Folder => GrantedMount::Folder(access),
            FileKind::Pipe if access != Access::Write => GrantedMount::Pipe,
            FileKind::File | FileKind::Pipe => GrantedMount::File(access),
            FileKind::Link(target) => GrantedMount::Link(target),
        }
    }
}

impl GrantedMounts {
    /// Adds a path. If it is granted already, the wider access holds.
    fn add(&mut self, path: WorkspacePath, given: GrantedMount) {
        match (self.0.get_mut(&path), given) {
            (Some(GrantedMount::Folder(known)), GrantedMount::Folder(access))
            | (Some(GrantedMount::File(known)), GrantedMount::File(access)) => {
                *known = access.max(*known);
            }
            (_, given) => drop(self.0.insert(path, given)),
        }
    }

    /// The access to a path that follows from the folders that contain it. Within a writable folder everything is
    /// writable; otherwise the innermost folder decides.
    fn around(&self, path: &WorkspacePath) -> Option<Access> {
        let folders = self.0.iter().filter_map(|(folder, given)| match given {
            GrantedMount::Folder(access) if path.is_within(folder) && path != folder => Some(*access),
            _ => None,
        });
        // The map is sorted by path, so the last folder is the innermost.
        folders.reduce(|outer, inner| if outer == Access::Write { outer } else { inner })
    }

    /// The access to a path that follows from its own grant, if it is a folder, or from the folders that contain it.
    fn access(&self, path: &WorkspacePath) -> Option<Access> {
        let own = match self.0.get(path) {
            Some(GrantedMount::Folder(access)) => Some(*access),
            _ => None,
        };
        own.max(self.around(path))
    }

    fn is_writable(&self, path: &WorkspacePath) -> bool {
        self.around(path) == Some(Access::Write)
            || matches!(self.0.get(path), Some(GrantedMount::Folder(Access::Write)))
    }
}

/// Creates mount points for covers over paths that don't exist yet.
#[derive(Clone, Copy)]
struct MountPointMaker<'a> {
    files: &'a WorkspaceFiles,
    placeholders: Option<&'a Placeholders>,
}

impl MountPointMaker<'_> {
    /// Creates an empty file or folder, recorded as a placeholder. `at`: the absolute path of `path`.
    fn make(self, path: &WorkspacePath, at: &Path, is_file: bool) -> io::Result<()> {
        let make = || if is_file { self.files.make_file(path) } else { self.files.make_folder(path) };
        match self.placeholders {
            Some(placeholders) => placeholders.made(at, make).map_err(io::Error::other)?,
            None => make().map_err(io::Error::other),
        }
    }
}

impl MountPlanner {
    /// The mounts of the workspace, over an empty folder at its path. `machine`: what programs see outside of it.
    pub(super) fn workspace(
        &self,
        files: &WorkspaceFiles,
        machine: &SandboxView,
        scratch: &Path,
        placeholders: Option<&Placeholders>,
    ) -> Result<Vec<Place>, CapabilityError> {
        let maker = MountPointMaker { files, placeholders };
        let granted = self.granted(files, machine)?;
        let reserved = self.policy.reserved();
        let spots: BTreeMap<_, _> = reserved.spots().iter().map(|spot| (spot.path.clone(), spot.clone())).collect();
        let mut places = vec![Place { path: self.root.clone(), source: Source::Nothing, access: None }];
        for (path, given) in &granted.0 {
            let around = granted.around(path);
            let (source, access) = match given {
                // Mounted with the writable folder that contains it.
                _ if around == Some(Access::Write) => continue,
                GrantedMount::Link(_) if around.is_some() => continue,
                // A git directory that is granted by its name: `git` below mounts it.
                _ if spots.get(path).is_some_and(|spot| spot.whole && spot.purpose == Purpose::Git) => continue,
                GrantedMount::Link(target) => (Source::Link(target.clone()), None),
                // Within a reserved path: hooks that are granted along with `.git`, or for reading.
                GrantedMount::Folder(access) | GrantedMount::File(access) if reserved.over(path).is_some() => {
                    (self.held(path), Some(*access))
                }
                GrantedMount::Folder(access) | GrantedMount::File(access) => (self.below(path), Some(*access)),
                GrantedMount::Pipe => (self.below(path), Some(Access::Read)),
            };
            places.push(Place { path: self.at(path), source, access });
        }
        places.extend(self.pipes(&granted, scratch)?);
        // Within a hidden folder nothing is mounted: its spots would be created in the empty folder that covers it, and
        // show programs the names of what is hidden.
        let hides = |spot: &Spot| spot.whole && spot.purpose.is_hidden();
        let hidden = spots.values().filter(|spot| hides(spot)).map(|spot| &spot.path).collect::<Vec<_>>();
        let is_hidden = |path: &WorkspacePath| hidden.iter().any(|folder| path.is_within(folder) && path != *folder);
        for spot in spots.values().filter(|spot| !is_hidden(&spot.path)) {
            let covers = self.reserve(spot, &granted, maker, scratch);
            places.extend(covers.map_err(|error| unprepared(&format!("cover {}", spot.path), &error))?);
        }
        places.extend(self.unnamed(&granted, scratch)?);
        Ok(places)
    }

    /// Empty files over named pipes that may only be read. The pipes were found by the search for nested repositories.
    fn pipes(&self, granted: &GrantedMounts, scratch: &Path) -> Result<Vec<Place>, CapabilityError> {
        let home = self.environment.get("HOME").map_or(Path::new("/tmp"), Path::new);
        if ![home, Path::new("/tmp"), Path::new("/var/tmp")].iter().any(|writable| self.root.starts_with(writable)) {
            return Ok(Vec::new());
        }
        let nested = self.reserved.nested.lock().unwrap_or_else(PoisonError::into_inner);
        let folders = outermost(self.policy.reads().iter().chain(self.policy.writes()));
        let mut pipes = nested.pipes(&self.files, &folders).map_err(|error| {
            CapabilityError::new(ErrorCode::FailedPrecondition, error.to_string())
                .with_help("grant a narrower folder, or remove named pipes that aren't needed")
        })?;
        pipes.extend(
            granted.0.iter().filter(|(_, given)| matches!(given, GrantedMount::Pipe)).map(|(path, _)| path.clone()),
        );
        pipes.retain(|path| granted.around(path) != Some(Access::Write) && self.is_pipe(path));
        if pipes.is_empty() {
            return Ok(Vec::new());
        }
        let empty = scratch.join("pipe");
        fs::write(&empty, "").map_err(|error| unprepared("make an empty file", &error))?;
        let place = |path| Place { path, source: Source::Host(empty.clone()), access: Some(Access::Read) };
        Ok(pipes.iter().map(|path| place(self.at(path))).collect())
    }

    /// Whether the pipe still exists; otherwise there is nothing to mount over.
    fn is_pipe(&self, path: &WorkspacePath) -> bool {
        let found = self.files.join(path.as_path()).symlink_metadata();
        found.is_ok_and(|found| found.file_type().is_fifo())
    }

    /// The covers over reserved paths whose names aren't UTF-8, and the mounts that keep the folders above them in place.
    fn unnamed(&self, granted: &GrantedMounts, scratch: &Path) -> Result<Vec<Place>, CapabilityError> {
        let mut places = Vec::new();
        for spot in self.policy.reserved().unnamed() {
            let above = spot.path.ancestors().filter_map(Path::to_str).find_map(|path| {
                if path.is_empty() { Some(WorkspacePath::default()) } else { WorkspacePath::parse(path).ok() }
            });
            let above = above.unwrap_or_default();
            let seen = granted.access(&above);
            let is_there = self.files.join(&spot.path).symlink_metadata().is_ok();
            let place = |source, access| Place { path: self.root.join(&spot.path), source, access };
            match (seen, spot.whole) {
                (None, _) => {}
                (Some(_), true) if is_there => {
                    let hidden = self.hidden(&spot.path, scratch);
                    places.push(hidden.map_err(|error| unprepared(&format!("cover {}", spot.path.display()), &error))?);
                }
                (Some(Access::Write), true) => {
                    let message =
                        format!("the reserved path `{}` can't be covered: it isn't UTF-8", spot.path.display());
                    return Err(CapabilityError::new(ErrorCode::FailedPrecondition, message)
                        .with_help("rename its folders to names in UTF-8, or grant a narrower folder"));
                }
                (Some(Access::Write), false) if is_there => {
                    let source = Source::Held(self.files.clone(), spot.path.clone());
                    places.push(place(source, Some(Access::Write)));
                }
                (Some(_), _) => {}
            }
        }
        Ok(places)
    }

    /// A read-only empty folder or file over an existing one.
    fn hidden(&self, path: &Path, scratch: &Path) -> io::Result<Place> {
        let place = |source, access| Place { path: self.root.join(path), source, access };
        // Not following links: a link is covered by an empty file, since the kernel would mount over its target.
        if self.files.join(path).symlink_metadata().is_ok_and(|found| found.is_dir()) {
            return Ok(place(Source::Nothing, None));
        }
        let empty = scratch.join("empty");
        fs::write(&empty, "")?;
        Ok(place(Source::Host(empty), Some(Access::Read)))
    }

    fn reserve(
        &self,
        spot: &Spot,
        granted: &GrantedMounts,
        maker: MountPointMaker<'_>,
        scratch: &Path,
    ) -> io::Result<Vec<Place>> {
        let path = &spot.path;
        let place = |source, access| vec![Place { path: self.at(path), source, access: Some(access) }];
        let held = |access| place(self.held(path), access);
        let writable = granted.is_writable(path);
        let visible = writable || granted.around(path).is_some();
        let exists = self.files.join(path.as_path()).symlink_metadata().is_ok();
        match spot.purpose {
            // A mount of its own already, or within a read-only folder, where it can't be moved.
            _ if !spot.whole && (!writable || granted.0.contains_key(path)) => Ok(Vec::new()),
            _ if !spot.whole => Ok(held(Access::Write)),
            Purpose::Home => Ok(place(Source::Host(scratch.join("home")), Access::Write)),
            Purpose::Git => self.git(path, visible, writable, maker, scratch),
            Purpose::Policy if !writable || !exists => Ok(Vec::new()),
            // The stage may change hooks, so they need no cover.
            purpose if purpose.is_of_git() && self.policy.writes_by_name(&git()) => Ok(Vec::new()),
            // A read-only path, or one that doesn't exist in a read-only folder, needs no cover. One that doesn't exist in a
            // writable folder does, since a program could create it.
            Purpose::Hooks | Purpose::Program | Purpose::Config if !writable => Ok(Vec::new()),
            _ if !visible || !(exists || writable) => Ok(Vec::new()),
            purpose => {
                if !exists {
                    maker.make(path, &self.at(path), purpose.is_file())?;
                }
                match purpose {
                    purpose if !purpose.is_closed() => Ok(held(Access::Execute)),
                    _ => Ok(vec![self.hidden(path.as_path(), scratch)?]),
                }
            }
        }
    }

    /// The mounts of a git directory. Programs that may read the whole workspace may read its history, without the
    /// credentials in its configuration. Writing takes a grant of its own, because git would run a hook that a stage wrote
    /// outside of any sandbox.
    fn git(
        &self,
        path: &WorkspacePath,
        visible: bool,
        writable: bool,
        maker: MountPointMaker<'_>,
        scratch: &Path,
    ) -> io::Result<Vec<Place>> {
        let place = |below: &Path, source, access| Place { path: self.root.join(below), source, access };
        let found = self.at(path).symlink_metadata().ok();
        let folder = found.as_ref().is_none_or(fs::Metadata::is_dir);
        if folder && self.policy.writes_by_name(path) {
            if found.is_none() {
                maker.files.make_folder(path).map_err(io::Error::other)?;
            }
            // Always the repository itself, even if the rest of the files is a capture: changes must not be lost.
            let own = Source::Held(self.root.clone(), path.as_path().to_owned());
            return Ok(vec![place(path.as_path(), own, Some(Access::Write))]);
        }
        let read = self.policy.reads_history(path);
        let parts = self.declared_parts(path);
        if !visible && !read && parts.is_empty() {
            return Ok(Vec::new());
        }
        if found.is_none() {
            if !writable {
                return Ok(Vec::new());
            }
            // Otherwise a program could create a repository here, whose hooks git would run outside of any sandbox. An empty
            // file in its place has no effect on git.
            maker.make(path, &self.at(path), false)?;
        }
        // A folder without any of these files isn't a repository. `.git` may also be a file that names the repository; it is
        // mounted read-only, so that a program can't make it name another one.
        let is_repository = IN_A_REPOSITORY.iter().any(|name| self.at(path).join(name).is_file());
        let shown = read && found.is_some() && (!folder || is_repository);
        if shown && !folder {
            return Ok(vec![place(path.as_path(), self.own(path), Some(Access::Read))]);
        }
        let view = match is_repository {
            true => git_view(&self.root, path.as_path(), &scratch.join("git").join(path.as_path()))?,
            false => Vec::new(),
        };
        if !shown {
            let hidden = self.hidden(path.as_path(), scratch)?;
            return Ok([hidden].into_iter().chain(self.parts(&view, &parts)).collect());
        }
        Ok(if self.files == self.root { view } else { self.captured(view) })
    }

    /// The mounts for single files of a repository that isn't visible otherwise: those that the `inputs` of a cached stage
    /// name, and that are part of the view.
    fn parts(&self, view: &[Place], declared: &[WorkspacePath]) -> Vec<Place> {
        let parts = declared.iter().filter_map(|path| {
            let part = self.at(path);
            let shown = view.iter().find(|place| place.access.is_some() && part.starts_with(&place.path))?;
            let source = match &shown.source {
                Source::Held(..) => self.own(path),
                copy if part == shown.path => copy.clone(),
                _ => return None,
            };
            Some(Place { path: part, source, access: Some(Access::Read) })
        });
        parts.collect()
    }

    /// The view with the history as it was when the files were captured. Everything that can change comes from the capture;
    /// objects never change, so they come from the repository itself.
    fn captured(&self, view: Vec<Place>) -> Vec<Place> {
        let captured = view.into_iter().filter_map(|place| match &place.source {
            Source::Held(_, below) if below.iter().any(|name| name == "objects") => Some(place),
            Source::Held(_, below) if self.files.join(below).exists() => {
                Some(Place { source: Source::Held(self.files.clone(), below.clone()), ..place })
            }
            Source::Held(..) => None,
            _ => Some(place),
        });
        captured.collect()
    }

    /// A path of the workspace itself, even if the rest of the files is a capture.
    fn own(&self, path: &WorkspacePath) -> Source {
        Source::Held(self.root.clone(), path.as_path().to_owned())
    }

    fn declared_parts(&self, git: &WorkspacePath) -> Vec<WorkspacePath> {
        let declared = self.policy.declared().unwrap_or_default().iter();
        let literal = declared.filter(|pattern| pattern.is_literal()).map(PathPattern::base);
        literal.filter(|path| path.is_within(git)).cloned().collect()
    }

    /// The paths of the workspace that the stage may read, write or start. Writable paths can also be read and started.
    fn granted(&self, files: &WorkspaceFiles, machine: &SandboxView) -> Result<GrantedMounts, CapabilityError> {
        let policy = &self.policy;
        files.check_links(policy.reads(), |real| policy.grants_read(real))?;
        files.check_links(policy.writes(), |real| policy.grants_write(real))?;
        let mut granted = GrantedMounts::default();
        for grant in self.readable(files)? {
            let access = if policy.may_start(&grant.path) { Access::Execute } else { Access::Read };
            granted.add(grant.path, GrantedMount::new(grant.kind, access));
        }
        // Folders from which programs may be started, within ones that may be read.
        for grant in files.granted(policy.starts(), PATHS)?.into_iter().filter(|grant| policy.may_read(&grant.path)) {
            granted.add(grant.path, GrantedMount::new(grant.kind, Access::Execute));
        }
        // Another stage can create a path at any time. It is listed after the missing ones were created, so that it doesn't
        // count as missing there and as existing here, or the other way round.
        self.make_missing(files)?;
        let writable = files.granted(policy.writes(), PATHS)?;
        let is_listed = |pattern: &&PathPattern| writable.iter().any(|grant| grant.path == *pattern.base());
        // Reserved paths that don't exist, which are covered like those that do.
        let literal = policy.writes().iter().filter(|pattern| pattern.is_literal());
        let unlisted: Vec<WorkspacePath> =
            literal.filter(|pattern| !is_listed(pattern)).map(|pattern| pattern.base().clone()).collect();
        for grant in writable {
            self.may_hold(&grant.path)?;
            granted.add(grant.path, GrantedMount::new(grant.kind, Access::Write));
        }
        for path in unlisted {
            self.may_hold(&path)?;
            let kind = files.look(&path)?.unwrap_or(FileKind::Folder);
            granted.add(path, GrantedMount::new(kind, Access::Write));
        }
        for rule in policy.programs().iter().filter_map(ProcessRule::program) {
            let own = if Path::new(rule).is_absolute() { Path::new(rule).strip_prefix(&self.root).ok() } else { None };
            let own =
                own.and_then(Path::to_str).or_else(|| (rule.contains('/') && !rule.starts_with('/')).then_some(rule));
            if let Some(path) = own.and_then(|own| WorkspacePath::parse(own).ok()) {
                self.program(path, files, machine, &mut granted)?;
            }
        }
        Ok(granted)
    }

    /// The paths that may be read, without those that may be written. If the stage declares inputs, these are the declared
    /// paths as far as they are granted.
    fn readable(&self, files: &WorkspaceFiles) -> Result<Vec<GrantedPath>, CapabilityError> {
        let policy = &self.policy;
        let named = files.granted(policy.declared().unwrap_or(policy.reads()), PATHS)?;
        let (mut readable, rest): (Vec<GrantedPath>, Vec<GrantedPath>) =
            named.into_iter().partition(|grant| policy.may_read(&grant.path));
        // Of a declared folder, only a part may be granted, as by `dist/**`.
        let partly = rest.iter().filter(|grant| grant.kind == FileKind::Folder && policy.may_list(&grant.path));
        let partly = partly.map(|grant| &grant.path).collect::<Vec<_>>();
        let reaches = |pattern: &&PathPattern| partly.iter().any(|folder| pattern.reaches_into(folder));
        let patterns = policy.reads().iter().filter(reaches).cloned().collect::<Vec<_>>();
        readable.extend(files.granted(&patterns, PATHS)?.into_iter().filter(|grant| policy.may_read(&grant.path)));
        Ok(readable)
    }

    /// Creates writable paths that don't exist, because only an existing path can be mounted.
    fn make_missing(&self, files: &WorkspaceFiles) -> Result<(), CapabilityError> {
        for pattern in self.policy.writes().iter().filter(|pattern| pattern.is_literal()) {
            let path = pattern.base();
            if files.look(path)?.is_none() {
                self.may_hold(path)?;
                if !self.policy.is_reserved(path) {
                    files.make(pattern)?;
                }
            }
        }
        Ok(())
    }

    /// Refuses to open a reserved path. Exceptions: a git directory that is granted by name, and hooks if `.git` is.
    fn may_hold(&self, path: &WorkspacePath) -> Result<(), CapabilityError> {
        let opened = match self.policy.reserved().over(path) {
            None => self.policy.writes_by_name(path),
            Some(Spot { purpose: Purpose::Git, path: directory, .. }) => self.policy.writes_by_name(directory),
            Some(spot) => spot.purpose.is_of_git() && self.policy.writes_by_name(&git()),
        };
        match self.policy.write(path) {
            Err(_) if opened => Ok(()),
            written => written,
        }
    }

    fn at(&self, path: &WorkspacePath) -> PathBuf {
        if path.is_root() { self.root.clone() } else { self.root.join(path.as_path()) }
    }

    fn below(&self, path: &WorkspacePath) -> Source {
        Source::Below(self.files.clone(), path.as_path().to_owned())
    }

    fn held(&self, path: &WorkspacePath) -> Source {
        Source::Held(self.files.clone(), path.as_path().to_owned())
    }

    /// Covers over the engine's own folders, where they would be visible through the mount of a toolchain.
    pub(super) fn engine_elsewhere(&self, places: &[Place]) -> Vec<Place> {
        let own = self.reserved.engine_folders();
        let mut hidden = Vec::new();
        for place in places {
            let (Source::Host(source) | Source::HostIfThere(source)) = &place.source else { continue };
            let below = own.iter().filter_map(|own| own.strip_prefix(source).ok());
            hidden.extend(below.map(|below| place.path.join(below)));
        }
        hidden.into_iter().map(|path| Place { path, source: Source::Nothing, access: None }).collect()
    }
}

fn git() -> WorkspacePath {
    WorkspacePath::default().join(".git")
}
