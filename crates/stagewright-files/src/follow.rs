//! Resolves a path and records the links and folders that determined where it leads.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// The most links that are followed; the kernel has the same limit.
const LINKS: usize = 40;

/// A resolved path.
#[derive(Debug, PartialEq, Eq)]
pub struct Followed {
    /// The path without links and `..`. Names that do not exist are unchanged.
    pub real: PathBuf,
    /// The links that were followed and the folders that were left by `..`, as real paths. Replacing any of them can
    /// change where the original path leads.
    pub steps: Vec<PathBuf>,
}

impl Followed {
    /// Whether the path leads into the folder, or leads through it.
    pub fn meets(&self, folder: &Path) -> bool {
        self.real.starts_with(folder) || self.steps.iter().any(|step| step.starts_with(folder))
    }
}

/// Resolves an absolute path from the root as the kernel does. The kernel only reports where a path ends, and not which
/// links it followed.
///
/// # Errors
/// When there are too many links, and when a folder in the path can't be read.
pub fn follow(path: &Path) -> io::Result<Followed> {
    let mut ahead: VecDeque<PathStep> = steps(path).collect();
    let mut followed = Followed { real: PathBuf::from("/"), steps: Vec::new() };
    let mut links = 0;
    while let Some(step) = ahead.pop_front() {
        let name = match step {
            PathStep::Root => {
                followed.real = PathBuf::from("/");
                continue;
            }
            PathStep::Up => {
                followed.steps.push(followed.real.clone());
                followed.real.pop();
                continue;
            }
            PathStep::Down(name) => name,
        };
        let next = followed.real.join(name);
        match fs::read_link(&next) {
            Ok(target) => {
                links += 1;
                if links > LINKS {
                    return Err(io::Error::other(format!("`{}` goes through too many links", path.display())));
                }
                followed.steps.push(next);
                steps(&target).rev().for_each(|step| ahead.push_front(step));
            }
            // Not a link, or it does not exist.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => {
                followed.real = next;
            }
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => followed.real = next,
            Err(error) => return Err(error),
        }
    }
    Ok(followed)
}

enum PathStep {
    Root,
    Up,
    Down(OsString),
}

fn steps(path: &Path) -> impl DoubleEndedIterator<Item = PathStep> {
    path.components().filter_map(|component| match component {
        Component::RootDir | Component::Prefix(_) => Some(PathStep::Root),
        Component::ParentDir => Some(PathStep::Up),
        Component::Normal(name) => Some(PathStep::Down(name.to_owned())),
        Component::CurDir => None,
    })
}

/// The path without `.` and `..`, resolved by its text alone: `secrets/../x` means the `x` beside `secrets`.
pub fn without_dots(path: &Path) -> PathBuf {
    let mut normalized = PathBuf::new();
    for step in path.components() {
        match step {
            Component::CurDir => {}
            Component::ParentDir => {
                normalized.pop();
            }
            step => normalized.push(step),
        }
    }
    normalized
}
