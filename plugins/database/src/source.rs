//! A backup on its way into a database.

use serde::Deserialize;
use stagewright_sdk::{Error, JsonSchema, Problem, Requirement, Result, schemars};

use crate::{Backup, Scratch, Store, decrypt, identity_requirements};

/// The file to restore, in the scratch folder.
const DUMP: &str = "dump";
/// The encrypted file.
const ENCRYPTED: &str = "dump.age";

/// Which backup is restored.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BackupSource {
    /// The place with the backups.
    pub store: Store,
    /// The backup's name. Default: the newest one.
    pub backup: Option<String>,
    /// For an encrypted backup: the secret with a private key of age, `AGE-SECRET-KEY-1…`.
    pub identity: Option<String>,
}

impl BackupSource {
    /// Mistakes of a key.
    pub fn problems(&self, key: &str) -> Vec<Problem> {
        let mut found = self.store.problems(&format!("{key}.store"));
        if self.store.keep.is_some() {
            let message = "applies only where backups are made";
            found.push(Problem::at(format!("{key}.store.keep"), message).help("remove it"));
        }
        found
    }

    /// The path of the file to restore.
    pub fn file(&self, scratch: &str) -> String {
        format!("{}/{DUMP}", scratch.trim_end_matches('/'))
    }

    /// What a stage is granted to get the file; the place itself isn't among it.
    pub fn requirements(&self, scratch: &str) -> Vec<Requirement> {
        let encrypted = format!("{}/{ENCRYPTED}", scratch.trim_end_matches('/'));
        let identity = self.identity.as_deref();
        let identity = identity.map(|secret| identity_requirements(secret, &encrypted, &self.file(scratch)));
        [Scratch::requirement(scratch)].into_iter().chain(identity.into_iter().flatten()).collect()
    }

    /// The backup, of a database.
    ///
    /// # Errors
    /// If there is none.
    pub fn find(&self, database: &str) -> Result<Backup> {
        self.store.find(database, self.backup.as_deref())
    }

    /// Writes the file of a backup to the scratch folder, decrypted.
    ///
    /// # Errors
    /// If it isn't there, is damaged, or can't be decrypted.
    pub fn fetch(&self, backup: &Backup, scratch: &Scratch) -> Result<String> {
        let (dump, encrypted) = (scratch.file(DUMP), scratch.file(ENCRYPTED));
        if backup.encrypted_to.is_empty() {
            self.store.fetch(backup, &dump)?;
            return Ok(dump);
        }
        let Some(identity) = &self.identity else {
            let message = format!("the backup `{}` is encrypted", backup.name);
            return Err(Error::failed(message)
                .help("set `from.identity` to the secret with the private key of age")
                .never_retry());
        };
        self.store.fetch(backup, &encrypted)?;
        decrypt(identity, &encrypted, &dump)?;
        Ok(dump)
    }
}
