//! Where a path leads, and by what it goes.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// As many links as the kernel follows.
const LINKS: usize = 40;

/// A path, followed.
#[derive(Debug, PartialEq, Eq)]
pub struct Followed {
    /// Without links and `..`. What of it isn't there yet is as it was spelled.
    pub real: PathBuf,
    /// The links that were followed, and the folders that were left again by `..`: real paths, of which each decides
    /// where the spelling leads.
    pub steps: Vec<PathBuf>,
}

impl Followed {
    /// Whether the path leads into the folder, or comes through it.
    pub fn meets(&self, folder: &Path) -> bool {
        self.real.starts_with(folder) || self.steps.iter().any(|step| step.starts_with(folder))
    }
}

/// Follows an absolute path from the root, as the kernel does. The kernel itself says where a path ends, and not by what
/// it goes.
///
/// # Errors
/// When there are too many links, and when a folder on the way can't be looked at.
pub fn follow(path: &Path) -> io::Result<Followed> {
    let mut ahead: VecDeque<Step> = steps(path).collect();
    let mut followed = Followed { real: PathBuf::from("/"), steps: Vec::new() };
    let mut links = 0;
    while let Some(step) = ahead.pop_front() {
        let name = match step {
            Step::Root => {
                followed.real = PathBuf::from("/");
                continue;
            }
            Step::Up => {
                followed.steps.push(followed.real.clone());
                followed.real.pop();
                continue;
            }
            Step::Down(name) => name,
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
            // Not a link, or not there.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => {
                followed.real = next;
            }
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => followed.real = next,
            Err(error) => return Err(error),
        }
    }
    Ok(followed)
}

enum Step {
    Root,
    Up,
    Down(OsString),
}

fn steps(path: &Path) -> impl DoubleEndedIterator<Item = Step> {
    path.components().filter_map(|component| match component {
        Component::RootDir | Component::Prefix(_) => Some(Step::Root),
        Component::ParentDir => Some(Step::Up),
        Component::Normal(name) => Some(Step::Down(name.to_owned())),
        Component::CurDir => None,
    })
}
