//! Serde for [`Permissions`] with all that belongs to them: for `#[serde(with = "complete_permissions")]`.
//!
//! By themselves, permissions are serialised as they are granted, for plans and lock files. An attempt that is run
//! elsewhere has to be given what was found about them as well: without the credential files, a rehearsal there would
//! let programs reach the hosts that the credentials are for.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Permissions;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Complete<P> {
    #[serde(flatten)]
    granted: P,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    credential_files: Vec<String>,
}

/// # Errors
/// The serializer's.
pub fn serialize<S: Serializer>(permissions: &Permissions, serializer: S) -> Result<S::Ok, S::Error> {
    Complete { granted: permissions, credential_files: permissions.credential_files.clone() }.serialize(serializer)
}

/// # Errors
/// When an entry is invalid.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Permissions, D::Error> {
    let Complete::<Permissions> { granted, credential_files } = Complete::deserialize(deserializer)?;
    Ok(Permissions { credential_files, ..granted })
}
