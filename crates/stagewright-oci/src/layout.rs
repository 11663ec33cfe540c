//! OCI image layouts: folders with `oci-layout`, `index.json` and `blobs/sha256/`. All functions block on file operations.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use stagewright_files::replace_durably;

use crate::content::{Descriptor, INDEX, MANIFEST_BYTES, ManifestContent, copy_verified, readable};
use crate::error::{OciError, OciErrorKind};

/// The files and folders of a layout, apart from the blobs themselves.
const PARTS: [&str; 5] = ["oci-layout", "index.json", LOCK, "blobs", "blobs/sha256"];

/// Locked while `index.json` is changed.
const LOCK: &str = ".lock";

/// The annotation with the tag of an entry of `index.json`; see the image-spec, annotations.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// An image layout.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
    /// The name that error messages use.
    name: String,
}

/// The content of `index.json`. Unknown fields are preserved.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayoutIndex {
    schema_version: u32,
    #[serde(default)]
    manifests: Vec<IndexEntry>,
    #[serde(flatten)]
    rest: Map<String, Json>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct IndexEntry {
    #[serde(flatten)]
    descriptor: Descriptor,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    #[serde(flatten)]
    rest: Map<String, Json>,
}

impl IndexEntry {
    fn tag(&self) -> Option<&str> {
        self.annotations.get(REF_NAME).map(String::as_str)
    }
}

impl Layout {
    /// The layout in the folder `root`, which is not accessed yet. `name` is its name in error messages.
    pub fn new(root: impl Into<PathBuf>, name: impl Into<String>) -> Layout {
        Layout { root: root.into(), name: name.into() }
    }

    /// Creates the layout if it does not exist.
    pub(crate) fn create(&self) -> Result<(), OciError> {
        self.without_links()?;
        let make = || {
            fs::create_dir_all(self.blobs())?;
            if !self.root.join("oci-layout").exists() {
                replace_durably(&self.root.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
            }
            Ok(())
        };
        make().map_err(|error| self.broken("can't be written", error))
    }

    /// Whether the layout exists.
    pub(crate) fn exists(&self) -> bool {
        self.root.join("oci-layout").is_file()
    }

    /// All tags, sorted.
    pub(crate) fn tags(&self) -> Result<Vec<String>, OciError> {
        let mut tags: Vec<String> =
            self.index()?.manifests.iter().filter_map(|entry| entry.tag().map(str::to_owned)).collect();
        tags.sort();
        tags.dedup();
        Ok(tags)
    }

    /// The manifest with this digest, whether or not a tag points to it.
    pub(crate) fn by_digest(&self, digest: &str) -> Result<ManifestContent, OciError> {
        self.without_links()?;
        match self.read_manifest(digest) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(OciError::new(OciErrorKind::NotFound, format!("{} has no image {digest}", self.name))
                    .with_help("push it first, or correct the digest"))
            }
            Err(error) => Err(self.broken("can't be read", error)),
            Ok(bytes) => ManifestContent::new(bytes, Some(digest)),
        }
    }

    /// The manifest that the tag points to.
    pub(crate) fn by_tag(&self, tag: &str) -> Result<ManifestContent, OciError> {
        let index = self.index()?;
        match index.manifests.iter().rev().find(|entry| entry.tag() == Some(tag)) {
            Some(entry) => self.by_digest(&entry.descriptor.digest),
            None => Err(self.no_tag(tag)?),
        }
    }

    /// The only image of the layout. If there are several, the one with the tag `preferred`.
    pub(crate) fn only(&self, preferred: &str) -> Result<ManifestContent, OciError> {
        let mut digests: Vec<String> =
            self.index()?.manifests.into_iter().map(|entry| entry.descriptor.digest).collect();
        digests.sort();
        digests.dedup();
        match &digests[..] {
            [only] => self.by_digest(only),
            [] => Err(OciError::new(OciErrorKind::NotFound, format!("{} holds no image", self.name))
                .with_help("run the stage that builds the image first")),
            _ => self.by_tag(preferred),
        }
    }

    /// The file of a blob.
    pub(crate) fn blob(&self, descriptor: &Descriptor) -> Result<PathBuf, OciError> {
        self.without_links()?;
        let path = self.blob_path(&descriptor.digest);
        if fs::symlink_metadata(&path).is_ok_and(|found| found.is_file()) {
            return Ok(path);
        }
        Err(OciError::new(OciErrorKind::NotFound, format!("{} lacks blob {}", self.name, descriptor.digest))
            .with_help("the image is incomplete: build it or push it again"))
    }

    /// Whether the blob exists with its full size.
    pub(crate) fn has_blob(&self, descriptor: &Descriptor) -> bool {
        fs::metadata(self.blob_path(&descriptor.digest)).is_ok_and(|meta| meta.len() == descriptor.size)
    }

    /// Copies a blob into the layout.
    pub(crate) fn put_blob(&self, descriptor: &Descriptor, source: &Path) -> Result<(), OciError> {
        self.without_links()?;
        let open = || {
            let target = tempfile::Builder::new().permissions(readable()).tempfile_in(self.blobs())?;
            Ok((stagewright_files::open(source)?, target))
        };
        let (mut source, mut target) = open().map_err(|error| self.broken("can't be written", error))?;
        copy_verified(&mut source, &mut target, descriptor)?;
        let keep = || {
            target.as_file().sync_all()?;
            target.persist(self.blob_path(&descriptor.digest)).map(drop).map_err(|error| error.error)
        };
        keep().map_err(|error| self.broken("can't be written", error))
    }

    /// Writes a manifest. If `listed`, it is added to the index with the tag, if there is one. An image that had this tag
    /// before remains in the index without a tag.
    pub(crate) fn put_manifest(
        &self,
        content: &ManifestContent,
        listed: bool,
        tag: Option<&str>,
    ) -> Result<(), OciError> {
        self.without_links()?;
        replace_durably(&self.blob_path(&content.descriptor.digest), &content.bytes)
            .map_err(|error| self.broken("can't be written", error))?;
        if !listed {
            return Ok(());
        }
        let _lock = self.lock().map_err(|error| self.broken("can't be locked", error))?;
        let mut index = self.index()?;
        enter(&mut index.manifests, &content.descriptor, tag);
        let text = serde_json::to_vec_pretty(&index).map_err(|error| self.broken("can't be written", error.into()))?;
        replace_durably(&self.index_path(), &text).map_err(|error| self.broken("can't be written", error))
    }

    /// Locks the layout until the file is dropped. `NOFOLLOW`, because a stage may replace the lock file with a link, and
    /// this process would then create or lock a file elsewhere.
    fn lock(&self) -> io::Result<File> {
        let mut options = File::options();
        options.create(true).append(true).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        let lock = options.open(self.root.join(LOCK))?;
        lock.lock()?;
        Ok(lock)
    }

    /// Fails if a part of the layout is a link. A layout in the workspace can be changed by the stage's programs, which
    /// could create links that lead out of it.
    fn without_links(&self) -> Result<(), OciError> {
        let is_link = |part: &&str| fs::symlink_metadata(self.root.join(part)).is_ok_and(|found| found.is_symlink());
        let Some(part) = PARTS.iter().find(|part| is_link(part)) else { return Ok(()) };
        let message = format!("{} contains a link, `{part}`, which isn't followed", self.name);
        Err(OciError::new(OciErrorKind::UnusableContent, message)
            .with_help("remove the link: an image layout consists of plain files and folders"))
    }

    fn no_tag(&self, tag: &str) -> Result<OciError, OciError> {
        let error = OciError::new(OciErrorKind::NotFound, format!("{} has no tag `{tag}`", self.name));
        Ok(error.with_help(known_tags(&self.tags()?)))
    }

    fn index(&self) -> Result<LayoutIndex, OciError> {
        self.without_links()?;
        let text = match stagewright_files::read_unlinked(&self.index_path(), MANIFEST_BYTES) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.exists() => {
                let rest = Map::from_iter([("mediaType".to_owned(), INDEX.into())]);
                return Ok(LayoutIndex { schema_version: 2, manifests: Vec::new(), rest });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let message = format!("{} does not exist", self.name);
                return Err(OciError::new(OciErrorKind::NotFound, message)
                    .with_help("push or build an image of that name first, or correct the name"));
            }
            Err(error) => return Err(self.broken("can't be read", error)),
        };
        serde_json::from_slice(&text).map_err(|error| self.broken("has a malformed index.json", error.into()))
    }

    fn read_manifest(&self, digest: &str) -> io::Result<Vec<u8>> {
        stagewright_files::read_unlinked(&self.blob_path(digest), MANIFEST_BYTES)
    }

    fn broken(&self, what: &str, error: io::Error) -> OciError {
        let words = format!("{} {what}, in `{}`", self.name, self.root.display());
        OciError::new(OciErrorKind::Disk, words).caused_by(error)
    }

    fn index_path(&self) -> PathBuf {
        self.root.join("index.json")
    }

    fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    /// The path of a blob. `digest` was validated when it was parsed, so it consists of hexadecimal digits.
    fn blob_path(&self, digest: &str) -> PathBuf {
        self.blobs().join(digest.trim_start_matches("sha256:"))
    }
}

fn enter(entries: &mut Vec<IndexEntry>, descriptor: &Descriptor, tag: Option<&str>) {
    if let Some(tag) = tag {
        for entry in entries.iter_mut().filter(|entry| entry.tag() == Some(tag)) {
            entry.annotations.remove(REF_NAME);
        }
    }
    // An image needs an entry without a tag only if no other entry lists it.
    entries.retain(|entry| entry.tag().is_some() || entry.descriptor.digest != descriptor.digest);
    if tag.is_some() || !entries.iter().any(|entry| entry.descriptor.digest == descriptor.digest) {
        let annotations = tag.map(|tag| (REF_NAME.to_owned(), tag.to_owned())).into_iter().collect();
        entries.push(IndexEntry { descriptor: descriptor.clone(), annotations, rest: Map::new() });
    }
}

/// Lists the existing tags for the help of an error.
pub(crate) fn known_tags(tags: &[String]) -> String {
    const SHOWN: usize = 20;
    match tags {
        [] => "it has no tags".to_owned(),
        tags if tags.len() > SHOWN => {
            format!("it has: {} and {} more", tags[tags.len() - SHOWN..].join(", "), tags.len() - SHOWN)
        }
        tags => format!("it has: {}", tags.join(", ")),
    }
}
