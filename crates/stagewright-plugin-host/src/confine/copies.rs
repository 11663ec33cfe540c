//! Copies of configuration files from which unknown keys are removed, and empty files in place of those of unknown
//! clients. The copies of the machine's own configuration are made once and shared by all sandboxes of a host.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use stagewright_process::sandbox::{Access, ConfigFormat, Place, Source, machine_configs};

use crate::client_config;
use crate::error::{CapabilityError, unprepared};

/// The copies that sandboxes share. Later changes to the originals take effect in the next run.
#[derive(Debug, Default)]
pub(super) struct MachineCopies(Mutex<Option<SharedCopies>>);

#[derive(Debug)]
struct SharedCopies {
    folder: PathBuf,
    places: Arc<[Place]>,
}

impl MachineCopies {
    /// `scratch`: the folder of all scratch folders.
    pub(super) fn places(&self, scratch: &Path) -> Result<Arc<[Place]>, CapabilityError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = &*made {
            return Ok(Arc::clone(&made.places));
        }
        // Named like the folders of attempts, which begin with the process's id, so that the same cleanup removes what a
        // killed engine leaves behind.
        let name = format!("{}-machine-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = scratch.join(name);
        let prepared = fs::create_dir_all(scratch).and_then(|()| {
            stagewright_files::private_folder(&folder)?;
            fs::canonicalize(&folder)
        });
        let folder = prepared.map_err(|error| unprepared("make the folder of copies", &error))?;
        let places = machine_configs()
            .into_iter()
            .filter_map(|(path, format)| instead(&path, path.clone(), format, &folder).transpose())
            .collect::<Result<Arc<[Place]>, CapabilityError>>()?;
        *made = Some(SharedCopies { folder, places: Arc::clone(&places) });
        Ok(places)
    }
}

impl Drop for MachineCopies {
    fn drop(&mut self) {
        let made = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(SharedCopies { folder, .. }) = made.take() {
            let _ = stagewright_files::remove_tree(&folder);
        }
    }
}

/// What programs see at `at` in place of the configuration file `file`. None when the file doesn't exist any more, as
/// when its package is updated at this moment: then there is nothing to mount over.
pub(super) fn instead(
    file: &Path,
    at: PathBuf,
    format: ConfigFormat,
    scratch: &Path,
) -> Result<Option<Place>, CapabilityError> {
    if !file.exists() {
        return Ok(None);
    }
    if format == ConfigFormat::Other("") {
        return Ok(Some(Place { path: at, source: Source::Nothing, access: None }));
    }
    let copy = copied(file, format, &scratch.join("copies"));
    let copy = copy.map_err(|error| unprepared(&format!("prepare {}", file.display()), &error))?;
    Ok(Some(Place { path: at, source: Source::Host(copy), access: Some(Access::Read) }))
}

/// Copies a configuration file without its unknown keys.
pub(super) fn copied(path: &Path, format: ConfigFormat, copies: &Path) -> io::Result<PathBuf> {
    let copy = copies.join(name_of(path));
    fs::create_dir_all(copies)?;
    client_config::copy(format, path, &copy)?;
    Ok(copy)
}

/// Converts a path to a file name: without separators, and never `.` or `..`.
fn name_of(path: &Path) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || "-_".contains(letter);
    let text = path.to_string_lossy();
    let kept = |at: usize, letter: char| plain(letter) || (letter == '.' && at > 0);
    text.chars().enumerate().map(|(at, letter)| if kept(at, letter) { letter } else { '%' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_for_a_path_stays_in_its_folder() {
        for (path, name) in [("/root/.cargo/git", "%root%.cargo%git"), ("..", "%."), (".", "%"), ("a b", "a%b")] {
            assert_eq!(name_of(Path::new(path)), name);
        }
    }
}
