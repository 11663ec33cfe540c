//! Copies of configuration files, of which what isn't known is left out, and empty files for those of other clients.
//! What stands for the machine's own in every sandbox is made once for all of a host.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use stagewright_process::sandbox::{Access, ConfigFormat, Place, Source, machine_configs};

use crate::client_config;
use crate::error::{CapabilityError, unprepared};

/// Copies that sandboxes share. What the machine changes meanwhile counts for the next run.
#[derive(Debug, Default)]
pub(super) struct MachineCopies(Mutex<Option<Made>>);

#[derive(Debug)]
struct Made {
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
        // Begins as the folders of attempts do, so that what a killed engine left is known for what it is.
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
        *made = Some(Made { folder, places: Arc::clone(&places) });
        Ok(places)
    }
}

impl Drop for MachineCopies {
    fn drop(&mut self) {
        let made = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(Made { folder, .. }) = made.take() {
            let _ = stagewright_files::remove_tree(&folder);
        }
    }
}

/// What programs see at `at` in the place of a configuration file of the machine. None when it has gone since it was
/// found, as when a package is updated meanwhile: there is nothing to mount on.
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

/// A copy of a configuration, of which what isn't known is left out.
pub(super) fn copied(path: &Path, format: ConfigFormat, copies: &Path) -> io::Result<PathBuf> {
    let copy = copies.join(name_of(path));
    fs::create_dir_all(copies)?;
    client_config::copy(format, path, &copy)?;
    Ok(copy)
}

/// A path, or any text, as one name that leads nowhere else.
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
    fn a_name_of_a_path_leads_nowhere_else() {
        for (path, name) in [("/root/.cargo/git", "%root%.cargo%git"), ("..", "%."), (".", "%"), ("a b", "a%b")] {
            assert_eq!(name_of(Path::new(path)), name);
        }
    }
}
