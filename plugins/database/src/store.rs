//! Where backups are kept: a folder of the workspace, or a bucket.

use std::collections::HashSet;
use std::time::Duration;

use aws::Service;
use aws::s3::{Bucket, Condition, Headers, Upload};
use serde::Deserialize;
use stagewright_sdk::{
    Error, JsonSchema, Problem, Requirement, Result, WorkspacePath, clock, log, schemars, workspace,
};

use crate::backup::TIME;
use crate::{Backup, Retention, surplus};

/// The most bytes of an object that S3 takes at once.
const LARGEST: u64 = 5 << 30;
/// How many bytes are copied at a time.
const CHUNK: u32 = 1 << 20;
/// After how long a file without a record isn't one on its way any more.
const ABANDONED: Duration = Duration::from_secs(2 * 24 * 60 * 60);

/// A folder or a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Store {
    /// A folder of the workspace. Another machine has none of its backups.
    pub folder: Option<WorkspacePath>,
    /// A bucket of S3, instead of a folder.
    pub bucket: Option<String>,
    /// With `bucket`: a folder in it, as in `backups/`.
    #[serde(default)]
    pub prefix: String,
    /// With `bucket`: the name of the credential that signs requests. Its only origin is where they go.
    pub credential: Option<String>,
    /// Which backups are kept. Default: all of them.
    pub keep: Option<Retention>,
}

impl Store {
    /// Mistakes of a key.
    pub fn problems(&self, key: &str) -> Vec<Problem> {
        let mut found = Vec::new();
        match (&self.folder, &self.bucket) {
            (None, None) => found.push(Problem::at(key, "names no place").help("set `folder` or `bucket`")),
            (Some(_), Some(_)) => {
                found.push(Problem::at(key, "has both `folder` and `bucket`").help("make two places of it"));
            }
            (None, Some(_)) if self.credential.is_none() => {
                found.push(Problem::at(format!("{key}.credential"), "is missing for a bucket"));
            }
            (Some(_), None) if self.credential.is_some() || !self.prefix.is_empty() => {
                found.push(Problem::at(key, "`credential` and `prefix` are only for a bucket").help("remove them"));
            }
            _ => {}
        }
        if self.prefix.starts_with('/') || (!self.prefix.is_empty() && !self.prefix.ends_with('/')) {
            let help = "write it without `/` at the start and with one at the end, as in `backups/`";
            found.push(Problem::at(format!("{key}.prefix"), "isn't a folder of a bucket").help(help));
        }
        found.extend(self.keep.iter().flat_map(|keep| keep.problems(&format!("{key}.keep"))));
        found
    }

    /// What a stage is granted that reads backups from it.
    pub fn requirement_to_read(&self) -> Option<Requirement> {
        self.of_bucket().or_else(|| Some(Requirement::read(self.folder()?).because("has the backups")))
    }

    /// What a stage is granted that writes backups to it.
    pub fn requirement_to_write(&self) -> Option<Requirement> {
        self.of_bucket().or_else(|| Some(Requirement::write(self.folder()?).because("gets the backups")))
    }

    fn of_bucket(&self) -> Option<Requirement> {
        Some(Requirement::credential(self.credential.as_deref()?).because("signs requests to the bucket of backups"))
    }

    fn folder(&self) -> Option<String> {
        self.folder.as_ref().map(|folder| format!("{}/", folder.trim_end_matches('/')))
    }

    /// Its name in messages.
    pub fn place(&self) -> String {
        match (&self.bucket, &self.folder) {
            (Some(bucket), _) => format!("s3://{bucket}/{}", self.prefix),
            (None, folder) => folder.as_ref().map_or_else(String::new, |folder| format!("`{folder}`")),
        }
    }

    fn opened(&self) -> Result<Opened> {
        match (&self.bucket, &self.credential, self.folder()) {
            (Some(bucket), Some(credential), _) => {
                Ok(Opened::Bucket(Bucket::new(Service::of_credential(credential)?, bucket), self.prefix.clone()))
            }
            (_, _, Some(folder)) => Ok(Opened::Folder(folder)),
            _ => Err(Error::invalid("the place of the backups has neither `folder` nor `bucket`")),
        }
    }

    /// The backups of a database, the newest first.
    ///
    /// # Errors
    /// When it can't be read, or has a file in the place of a record that isn't one.
    pub fn list(&self, database: &str) -> Result<Vec<Backup>> {
        let opened = self.opened()?;
        let mut found = Vec::new();
        for name in opened.names()?.iter().filter(|name| name.ends_with(".json")) {
            // One that another run has just deleted isn't there any more.
            let Some(record) = opened.read(name)? else { continue };
            let backup = Backup::parse(&record, &format!("`{name}` in {}", self.place()))?;
            if backup.database == database {
                found.push(backup);
            }
        }
        found.sort_by(|a, b| b.moment.cmp(&a.moment).then_with(|| b.name.cmp(&a.name)));
        Ok(found)
    }

    /// The backup of this name, or the newest one.
    ///
    /// # Errors
    /// As [`Store::list`], and if there is none.
    pub fn find(&self, database: &str, name: Option<&str>) -> Result<Backup> {
        let all = self.list(database)?;
        let newest = all.first().map(|backup| backup.name.clone());
        let found = all.into_iter().find(|backup| name.is_none_or(|name| backup.name == name));
        found.ok_or_else(|| match (name, newest) {
            (Some(name), Some(newest)) => {
                Error::failed(format!("{} has no backup `{name}` of `{database}`", self.place()))
                    .help(format!("the newest one is `{newest}`; leave `backup` out to use it"))
            }
            _ => Error::failed(format!("{} has no backup of `{database}`", self.place()))
                .help("run a stage `db-backup` first, with the same place"),
        })
    }

    /// Stores a file, and its record after it.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn put(&self, backup: &Backup, file: &str) -> Result<()> {
        if self.bucket.is_some() && backup.size > LARGEST {
            let message = format!("the backup has {} bytes, and S3 takes at most {LARGEST} at once", backup.size);
            return Err(Error::failed(message)
                .help("back up parts of the database, or use the server's own tools")
                .never_retry());
        }
        let opened = self.opened()?;
        opened.put_file(&backup.file, file)?;
        opened.write(&record_of(backup), &backup.to_json()?)?;
        log::info(format!("stored `{}` in {}", backup.name, self.place()));
        Ok(())
    }

    /// Replaces the record of a backup.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn update(&self, backup: &Backup) -> Result<()> {
        self.opened()?.write(&record_of(backup), &backup.to_json()?)
    }

    /// Writes the file of a backup to a path of the workspace.
    ///
    /// # Errors
    /// If it isn't there, or its content isn't what was stored.
    pub fn fetch(&self, backup: &Backup, to: &str) -> Result<()> {
        if !self.opened()?.get_file(&backup.file, to)? {
            let message = format!("{} has no file `{}`, but its record", self.place(), backup.file);
            return Err(Error::failed(message).help("use an earlier backup").never_retry());
        }
        let digest = workspace::digest(to)?;
        if digest != backup.digest {
            let message = format!("the file of the backup `{}` is damaged in {}", backup.name, self.place());
            return Err(Error::failed(message)
                .cause(format!("it has the digest {digest} instead of {}", backup.digest))
                .help("use another backup, or the same one from another place")
                .never_retry());
        }
        Ok(())
    }

    /// Deletes what [`Retention`] doesn't keep, and files of backups that were never completed. Returns the names of the
    /// backups.
    ///
    /// # Errors
    /// When it can't be deleted.
    pub fn clean(&self, database: &str) -> Result<Vec<String>> {
        let Some(keep) = &self.keep else { return Ok(Vec::new()) };
        let (opened, backups, now) = (self.opened()?, self.list(database)?, clock::now());
        let gone = surplus(&backups, keep, now);
        for backup in &gone {
            opened.remove(&record_of(backup))?;
            opened.remove(&backup.file)?;
            log::info(format!("deleted `{}` from {}", backup.name, self.place()));
        }
        let known: HashSet<&str> = backups.iter().map(|backup| backup.file.as_str()).collect();
        for name in opened.names()?.iter().filter(|name| !known.contains(name.as_str())) {
            if started(name, database).is_some_and(|at| now.saturating_sub(at) > ABANDONED) {
                opened.remove(name)?;
                log::info(format!("deleted `{name}` from {}, a backup that wasn't completed", self.place()));
            }
        }
        Ok(gone.into_iter().map(|backup| backup.name.clone()).collect())
    }
}

fn record_of(backup: &Backup) -> String {
    format!("{}.json", backup.name)
}

/// When the backup of a database began whose file has this name, as time since the epoch.
fn started(file: &str, database: &str) -> Option<Duration> {
    let rest = file.strip_prefix(database)?.strip_prefix('-')?;
    let (time, _) = rest.split_once(".dump")?;
    let time = jiff::civil::DateTime::strptime(TIME, time).ok()?;
    let moment = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    Some(Duration::from_millis(u64::try_from(moment.as_millisecond()).ok()?))
}

/// A place that can be used.
enum Opened {
    /// With a slash at its end.
    Folder(String),
    /// With the prefix.
    Bucket(Bucket, String),
}

impl Opened {
    /// The names of all files.
    fn names(&self) -> Result<Vec<String>> {
        match self {
            Opened::Folder(folder) => {
                let entries = workspace::glob(&format!("{folder}*"))?;
                let names = entries.into_iter().filter(|entry| !entry.folder);
                Ok(names.filter_map(|entry| Some(entry.path.rsplit('/').next()?.to_owned())).collect())
            }
            Opened::Bucket(bucket, prefix) => {
                let keys = bucket.list(prefix)?.into_iter();
                Ok(keys.filter_map(|listed| Some(listed.key.strip_prefix(prefix.as_str())?.to_owned())).collect())
            }
        }
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match self {
            Opened::Folder(folder) => match workspace::read(&format!("{folder}{name}")) {
                Err(error) if error.is_not_found() => Ok(None),
                content => content.map(Some),
            },
            Opened::Bucket(bucket, prefix) => Ok(bucket.get(&format!("{prefix}{name}"))?.map(|(content, _)| content)),
        }
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        match self {
            Opened::Folder(folder) => workspace::write(&format!("{folder}{name}"), content),
            Opened::Bucket(bucket, prefix) => {
                bucket.put(&format!("{prefix}{name}"), content, &Condition::None)?;
                Ok(())
            }
        }
    }

    fn put_file(&self, name: &str, from: &str) -> Result<()> {
        match self {
            Opened::Folder(folder) => copy(from, &format!("{folder}{name}")),
            Opened::Bucket(bucket, prefix) => {
                let headers = Headers { content_type: "application/octet-stream", cache_control: "no-store" };
                bucket.upload(&[Upload { path: from.to_owned(), to: format!("{prefix}{name}"), headers }])
            }
        }
    }

    /// Whether there is such a file.
    fn get_file(&self, name: &str, to: &str) -> Result<bool> {
        match self {
            Opened::Folder(folder) => match copy(&format!("{folder}{name}"), to) {
                Err(error) if error.is_not_found() => Ok(false),
                copied => copied.map(|()| true),
            },
            Opened::Bucket(bucket, prefix) => Ok(bucket.download(&format!("{prefix}{name}"), to)?.is_some()),
        }
    }

    fn remove(&self, name: &str) -> Result<()> {
        match self {
            Opened::Folder(folder) => workspace::remove(&format!("{folder}{name}")),
            Opened::Bucket(bucket, prefix) => bucket.delete(&[format!("{prefix}{name}")]),
        }
    }
}

fn copy(from: &str, to: &str) -> Result<()> {
    let mut part = workspace::read_at(from, 0, CHUNK)?;
    let mut offset = part.len() as u64;
    workspace::write(to, &part)?;
    while part.len() == CHUNK as usize {
        part = workspace::read_at(from, offset, CHUNK)?;
        offset += part.len() as u64;
        workspace::append(to, &part)?;
    }
    Ok(())
}
