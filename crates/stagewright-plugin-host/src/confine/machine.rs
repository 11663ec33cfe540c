//! What stands for the machine's own configuration of clients in every sandbox, made once for all of a host.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use stagewright_process::sandbox::{Place, machine_configs};

use super::places::{failed, instead};
use crate::error::CapabilityError;

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
        let folder = prepared.map_err(|error| failed("make the folder of copies", &error))?;
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
