//! Copies images between layouts and registries.

use std::collections::BTreeSet;
use std::path::PathBuf;

use tempfile::NamedTempFile;

use crate::blocking::blocking;
use crate::content::{Descriptor, ManifestContent, copy_verified};
use crate::error::{OciError, OciErrorKind};
use crate::layout::Layout;
use crate::reference::ImageReference;
use crate::remote::Remote;

/// The most manifests of one image: an index, and one manifest for each platform.
const MOST_MANIFESTS: usize = 256;

/// A layout or a repository, from or to which images are copied.
pub(crate) enum ImageStore {
    Layout(Layout),
    Remote(Remote),
}

/// A blob that is being copied.
enum Blob {
    InPlace(PathBuf),
    Fetched(NamedTempFile),
}

impl ImageStore {
    pub(crate) async fn authenticate(&self, push: bool) -> Result<(), OciError> {
        match self {
            ImageStore::Layout(_) => Ok(()),
            ImageStore::Remote(remote) => remote.authenticate(push).await,
        }
    }

    pub(crate) async fn manifest(&self, reference: &ImageReference) -> Result<ManifestContent, OciError> {
        match self {
            ImageStore::Layout(layout) => {
                let (layout, reference) = (layout.clone(), reference.clone());
                let find = move || match (&reference.digest, &reference.tag) {
                    (Some(digest), _) => layout.by_digest(digest),
                    (None, Some(tag)) => layout.by_tag(tag),
                    // If a layout has only one image, that one is meant.
                    (None, None) => layout.only(reference.tag_or_default()),
                };
                blocking(find).await?
            }
            ImageStore::Remote(remote) => match &reference.digest {
                Some(digest) => remote.by_digest(digest).await,
                None => remote.by_tag(reference.tag_or_default()).await,
            },
        }
    }

    async fn by_digest(&self, digest: &str) -> Result<ManifestContent, OciError> {
        match self {
            ImageStore::Layout(layout) => {
                let (layout, digest) = (layout.clone(), digest.to_owned());
                blocking(move || layout.by_digest(&digest)).await?
            }
            ImageStore::Remote(remote) => remote.by_digest(digest).await,
        }
    }

    async fn blob(&self, descriptor: &Descriptor) -> Result<Blob, OciError> {
        match self {
            ImageStore::Layout(layout) => layout.blob(descriptor).map(Blob::InPlace),
            ImageStore::Remote(remote) => remote.fetch_blob(descriptor).await.map(Blob::Fetched),
        }
    }

    async fn has_blob(&self, descriptor: &Descriptor) -> Result<bool, OciError> {
        match self {
            ImageStore::Layout(layout) => Ok(layout.has_blob(descriptor)),
            ImageStore::Remote(remote) => remote.has_blob(descriptor).await,
        }
    }

    async fn put_blob(&self, descriptor: &Descriptor, blob: Blob) -> Result<(), OciError> {
        // `blob` owns the temporary file, which exists until the end of this function.
        let path = match &blob {
            Blob::InPlace(path) => path.clone(),
            Blob::Fetched(file) => file.path().to_owned(),
        };
        match self {
            ImageStore::Layout(layout) => {
                let (layout, descriptor) = (layout.clone(), descriptor.clone());
                blocking(move || layout.put_blob(&descriptor, &path)).await?
            }
            ImageStore::Remote(remote) => {
                if matches!(blob, Blob::InPlace(_)) {
                    verify(descriptor, path.clone()).await?;
                }
                remote.put_blob(descriptor, path).await
            }
        }
    }

    async fn put_manifest(&self, content: &ManifestContent, listed: bool, tag: Option<&str>) -> Result<(), OciError> {
        match self {
            ImageStore::Layout(layout) => {
                let (layout, content, tag) = (layout.clone(), content.clone(), tag.map(str::to_owned));
                blocking(move || layout.put_manifest(&content, listed, tag.as_deref())).await?
            }
            ImageStore::Remote(remote) => remote.put_manifest(content, tag).await,
        }
    }
}

/// Copies the image with the root manifest `root`. If it fails, blobs that were already copied remain, and the next try
/// does not copy them again. The tag is set last, so it never points to an incomplete image.
pub(crate) async fn copy(
    source: &ImageStore,
    target: &ImageStore,
    root: ManifestContent,
    tag: Option<&str>,
) -> Result<Descriptor, OciError> {
    if let ImageStore::Layout(layout) = target {
        let layout = layout.clone();
        blocking(move || layout.create()).await??;
    }
    let manifests = manifests_below(source, root).await?;
    // In reverse order, because a registry accepts an index only if it has the manifests that the index names.
    for (position, content) in manifests.iter().enumerate().rev() {
        for descriptor in content.parsed.blobs() {
            if !target.has_blob(descriptor).await? {
                target.put_blob(descriptor, source.blob(descriptor).await?).await?;
            }
        }
        let is_root = position == 0;
        target.put_manifest(content, is_root, tag.filter(|_| is_root)).await?;
    }
    Ok(manifests.into_iter().next().map(|root| root.descriptor).unwrap_or_else(|| unreachable!("the root is first")))
}

/// The root and all manifests below it. The root is first, and every index precedes the manifests that it names.
async fn manifests_below(source: &ImageStore, root: ManifestContent) -> Result<Vec<ManifestContent>, OciError> {
    let mut seen = BTreeSet::from([root.descriptor.digest.clone()]);
    let mut found = vec![root];
    let mut next = 0;
    while let Some(content) = found.get(next) {
        let children: Vec<String> = content.parsed.manifests.iter().map(|child| child.digest.clone()).collect();
        for digest in children {
            if !seen.insert(digest.clone()) {
                continue;
            }
            if found.len() == MOST_MANIFESTS {
                let words = format!("image {} has more than {MOST_MANIFESTS} manifests", found[0].descriptor.digest);
                return Err(OciError::new(OciErrorKind::TooLarge, words));
            }
            found.push(source.by_digest(&digest).await?);
        }
        next += 1;
    }
    Ok(found)
}

/// Verifies a local blob before it is uploaded: the registry would detect a mismatch only at the end.
async fn verify(descriptor: &Descriptor, path: PathBuf) -> Result<(), OciError> {
    let descriptor = descriptor.clone();
    blocking(move || {
        let mut file = stagewright_files::open(&path).map_err(|error| {
            OciError::new(OciErrorKind::Disk, format!("`{}` can't be read", path.display())).caused_by(error)
        })?;
        copy_verified(&mut file, &mut std::io::sink(), &descriptor)
    })
    .await?
}
