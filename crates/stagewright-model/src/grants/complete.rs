//! Serialises [`Permissions`] including `credential_files`: for `#[serde(with = "complete_permissions")]`.
//!
//! The derived implementation only has what the pipeline grants, for plans and lock files. An attempt that runs on
//! another machine also needs the credential files that were found for the grants: without them, a rehearsal there
//! would let programs call the hosts that the credentials are for.

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
/// If the serializer fails.
pub fn serialize<S: Serializer>(permissions: &Permissions, serializer: S) -> Result<S::Ok, S::Error> {
    Complete { granted: permissions, credential_files: permissions.credential_files.clone() }.serialize(serializer)
}

/// # Errors
/// If an entry is invalid.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Permissions, D::Error> {
    let Complete::<Permissions> { granted, credential_files } = Complete::deserialize(deserializer)?;
    Ok(Permissions { credential_files, ..granted })
}
