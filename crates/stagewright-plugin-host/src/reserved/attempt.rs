//! Determines the reserved paths for one attempt.

use std::path::Path;
use std::sync::Arc;

use stagewright_model::{Permissions, outermost};

use super::{Reservations, Reserved, ReservedError};
use crate::error::{CapabilityError, ErrorCode};

impl Reserved {
    /// The paths that the attempt must not access. The first attempt of a run that is granted a folder searches all of it.
    /// `files`: the folder whose files the attempt works on.
    pub(crate) async fn for_attempt(
        &self,
        permissions: &Permissions,
        files: &Path,
    ) -> Result<Arc<Reservations>, CapabilityError> {
        // A stage without files and programs can't access any path.
        if !permissions.has_files() && permissions.process.is_empty() {
            return Ok(Arc::default());
        }
        let (folders, files, reserved) = (
            outermost([permissions.read_only(), permissions.writable()].concat().iter()),
            files.to_owned(),
            self.clone(),
        );
        let looked = tokio::task::spawn_blocking(move || reserved.of(&files, &folders)).await;
        let looked = looked.map_err(|error| CapabilityError::new(ErrorCode::Internal, error.to_string()))?;
        looked.map(Arc::new).map_err(|error| match error {
            ReservedError::Claims(_) => CapabilityError::new(ErrorCode::Internal, error.to_string()),
            ReservedError::Nested(_) => CapabilityError::new(ErrorCode::FailedPrecondition, error.to_string())
                .with_help(
                    "grant a narrower folder, or remove folders, repositories and named pipes that aren't needed",
                ),
        })
    }
}
