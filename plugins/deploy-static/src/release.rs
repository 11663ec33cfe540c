//! Releases in the bucket: their files below `releases/NAME/`, and the list of these in `releases/NAME.json`.

use std::collections::{BTreeMap, HashMap};

use aws::s3::{Bucket, Condition, Copy, Headers, Upload};
use serde::{Deserialize, Serialize};
use stagewright_sdk::text::count;
use stagewright_sdk::{Error, Result, context, log, workspace};

use crate::config::Config;
use crate::content::{cache_control, content_type};

/// The files of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct FileList {
    /// By digest.
    pub(crate) artifact: String,
    /// The run that has put the files into the bucket.
    pub(crate) run: String,
    /// Whether all of them are there.
    pub(crate) is_complete: bool,
    /// By path.
    pub(crate) files: BTreeMap<String, SiteFile>,
}

/// A file of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct SiteFile {
    /// As in `sha256:…`.
    pub(crate) digest: String,
    pub(crate) content_type: String,
    pub(crate) cache_control: String,
}

impl SiteFile {
    pub(crate) fn is_page(&self) -> bool {
        self.content_type.starts_with("text/html")
    }

    fn headers(&self) -> Headers<'_> {
        Headers { content_type: &self.content_type, cache_control: &self.cache_control }
    }
}

impl FileList {
    /// The list of a release; none if the bucket doesn't have it.
    pub(crate) fn read(bucket: &Bucket, config: &Config, release: &str) -> Result<Option<FileList>> {
        let key = key(config, release);
        let Some((body, _)) = bucket.get(&key)? else { return Ok(None) };
        let list = serde_json::from_slice(&body)
            .map_err(|error| Error::failed(format!("`{key}` in the bucket isn't the list of a release: {error}")))?;
        Ok(Some(list))
    }

    pub(crate) fn write(&self, bucket: &Bucket, config: &Config, release: &str) -> Result<()> {
        bucket.put(&key(config, release), &serde_json::to_vec(self)?, &Condition::None)?;
        Ok(())
    }

    /// Brings the release of `config` into the bucket, if it isn't there. Files that `base`, a release, has are copied within
    /// the bucket.
    pub(crate) fn provide(bucket: &Bucket, config: &Config, base: Option<&str>) -> Result<()> {
        let release = config.release();
        if FileList::read(bucket, config, &release)?.is_some_and(|list| list.is_complete) {
            log::info(format!("the bucket has release {release}"));
            return Ok(());
        }
        let folder = format!("{}/site", config.scratch);
        workspace::remove(&folder)?;
        config.site.fetch(&folder)?;
        let sent =
            FileList::of_folder(config, &folder).and_then(|list| list.send(bucket, config, &release, &folder, base));
        workspace::remove(&folder)?;
        sent
    }

    fn of_folder(config: &Config, folder: &str) -> Result<FileList> {
        let mut files = BTreeMap::new();
        for entry in workspace::glob(&format!("{folder}/**"))?.into_iter().filter(|entry| !entry.folder) {
            let path = entry.path[folder.len() + 1..].to_owned();
            let file = SiteFile {
                digest: workspace::digest(&entry.path)?,
                content_type: content_type(config, &path).to_owned(),
                cache_control: cache_control(config, &path).to_owned(),
            };
            files.insert(path, file);
        }
        if files.is_empty() {
            return Err(Error::failed(format!("the artifact `{}` has no files", config.site.name()))
                .help("publish the folder with the site, not a file"));
        }
        if let Some(path) = files.keys().find(|path| path.starts_with("releases/")) {
            let message = format!("the site has the file `{path}`, where releases are kept");
            return Err(Error::failed(message).help("choose another name for the site's folder `releases`"));
        }
        Ok(FileList { artifact: config.artifact().to_owned(), run: context::run_id(), is_complete: false, files })
    }

    /// Sends the files. The list is there first, so that an interrupted upload leaves nothing that no list knows.
    fn send(mut self, bucket: &Bucket, config: &Config, release: &str, folder: &str, base: Option<&str>) -> Result<()> {
        self.write(bucket, config, release)?;
        let list = match base {
            Some(base) => FileList::read(bucket, config, base)?.filter(|list| list.is_complete),
            None => None,
        };
        let known: HashMap<&str, String> = base
            .zip(list.as_ref())
            .into_iter()
            .flat_map(|(base, list)| list.files.iter().map(move |(path, file)| (base, path, file)))
            .map(|(base, path, file)| (file.digest.as_str(), file_key(config, base, path)))
            .collect();
        let (mut copies, mut uploads) = (Vec::new(), Vec::new());
        for (path, file) in &self.files {
            let to = file_key(config, release, path);
            match known.get(file.digest.as_str()) {
                Some(from) => copies.push(Copy { from: from.clone(), to, headers: file.headers() }),
                None => uploads.push(Upload { path: format!("{folder}/{path}"), to, headers: file.headers() }),
            }
        }
        let (sent, kept) = (count(uploads.len() as u64, "file"), count(copies.len() as u64, "file"));
        log::info(format!("sending {sent} of release {release}, and copying {kept} from the one before"));
        bucket.upload(&uploads)?;
        bucket.copy(&copies)?;
        self.is_complete = true;
        self.write(bucket, config, release)
    }

    /// Copies the files to the root, pages last: a page never refers to a file that isn't there. What `present` has in the same
    /// way is left out.
    pub(crate) fn copy_to_root(
        &self,
        bucket: &Bucket,
        config: &Config,
        release: &str,
        present: Option<&FileList>,
    ) -> Result<()> {
        let is_missing =
            |(path, file): &(&String, &SiteFile)| present.is_none_or(|present| present.files.get(*path) != Some(file));
        let (pages, others): (Vec<_>, Vec<_>) =
            self.files.iter().filter(is_missing).partition(|(_, file)| file.is_page());
        for group in [others, pages] {
            let mut copies = Vec::with_capacity(group.len());
            for (path, file) in group {
                copies.push(Copy {
                    from: file_key(config, release, path),
                    to: config.key(path),
                    headers: file.headers(),
                });
            }
            bucket.copy(&copies)?;
        }
        Ok(())
    }
}

/// The key of a release's list.
pub(crate) fn key(config: &Config, release: &str) -> String {
    config.key(&format!("releases/{release}.json"))
}

/// The key of a file of a release.
pub(crate) fn file_key(config: &Config, release: &str, path: &str) -> String {
    config.key(&format!("releases/{release}/{path}"))
}
