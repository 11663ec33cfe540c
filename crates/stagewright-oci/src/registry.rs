//! Image registries, as stages see them: push, resolve, copy, pull.
//!
//! ```text
//! local/NAME          ── embedded root ──┐
//! HOST/REPOSITORY     ── distribution API ┼─> copy: manifests, then blobs that are missing, then manifests again
//! oci:PATH            ── the workspace ──┘
//! ```
//!
//! Every place is a tree of manifests over blobs, so each function here is a copy from one place to another. A blob is
//! hashed on the way, a manifest is passed on byte for byte, and a tag moves last.
//!
//! In rehearsal nothing but the rehearsal's own root is written: whatever a reference names, a push goes there. Reads look
//! there first, then at the embedded registry, and at no other: that would take credentials to another machine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::blocking::blocking;
use crate::content::{Descriptor, ManifestContent};
use crate::credentials::CredentialSource;
use crate::error::{OciError, OciErrorKind};
use crate::layout::Layout;
use crate::reference::{ImageLocation, ImageReference};
use crate::remote::Remote;
use crate::transfer::{self, ImageStore};

/// Where a [`Registry`] keeps things.
#[derive(Clone)]
pub struct RegistryConfig {
    /// Of `local/…`: one image layout a repository.
    pub embedded_root: PathBuf,
    /// Of everything in rehearsals, a folder each.
    pub rehearsal_root: PathBuf,
    /// For remote registries.
    pub credentials: Arc<dyn CredentialSource>,
}

/// On whose behalf a registry is used.
#[derive(Clone, Copy, Debug)]
pub struct RegistryAccess<'a> {
    /// `oci:PATH` is below it.
    pub workspace: &'a Path,
    /// The rehearsal whose stand-in is used in place of every registry; none for the real ones.
    pub rehearsal: Option<&'a str>,
    /// Whether registries are asked without credentials.
    pub anonymous: bool,
}

impl<'a> RegistryAccess<'a> {
    /// On the registries themselves, with credentials.
    pub fn real(workspace: &'a Path) -> RegistryAccess<'a> {
        RegistryAccess { workspace, rehearsal: None, anonymous: false }
    }

    /// On the stand-in of a rehearsal.
    pub fn rehearsed(workspace: &'a Path, run: &'a str) -> RegistryAccess<'a> {
        RegistryAccess { workspace, rehearsal: Some(run), anonymous: true }
    }
}

/// Has no credentials.
struct Anonymous;

impl CredentialSource for Anonymous {
    fn credentials(&self, _: &str) -> Option<(String, String)> {
        None
    }

    fn origin(&self) -> String {
        "a rehearsal, which uses none".to_owned()
    }
}

/// All image registries.
pub struct Registry {
    config: RegistryConfig,
}

impl Registry {
    /// Touches nothing yet.
    pub fn new(config: RegistryConfig) -> Registry {
        // An error means that the process has a provider already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Registry { config }
    }

    /// Pushes the image in `layout`, an image layout's folder, and answers what the registry confirms. When the layout
    /// holds several images, the one with the reference's tag.
    ///
    /// # Errors
    /// When the layout holds no such image, its content is damaged, or the registry can't be used.
    pub async fn push(
        &self,
        layout: &Path,
        reference: &ImageReference,
        access: RegistryAccess<'_>,
    ) -> Result<Descriptor, OciError> {
        let source = Layout::new(layout, format!("image layout `{}`", layout.display()));
        let preferred = reference.tag_or_default().to_owned();
        let content = blocking({
            let source = source.clone();
            move || source.only(&preferred)
        })
        .await??;
        self.deliver(&ImageStore::Layout(source), content, reference, access).await
    }

    /// What the reference names now.
    ///
    /// # Errors
    /// When there is no such image, or the registry can't be used;
    /// [`OciErrorKind::WithheldInRehearsal`] when a rehearsal would have to read another registry than its own.
    pub async fn resolve(
        &self,
        reference: &ImageReference,
        access: RegistryAccess<'_>,
    ) -> Result<Descriptor, OciError> {
        Ok(self.find(reference, access).await?.1.descriptor)
    }

    /// Copies an image with all that belongs to it, for every platform.
    ///
    /// # Errors
    /// As [`push`](Self::push) and [`resolve`](Self::resolve). What was copied until then stays, without a tag.
    pub async fn copy(
        &self,
        source: &ImageReference,
        from: RegistryAccess<'_>,
        destination: &ImageReference,
        to: RegistryAccess<'_>,
    ) -> Result<Descriptor, OciError> {
        let (place, content) = self.find(source, from).await?;
        self.deliver(&place, content, destination, to).await
    }

    /// Copies an image into `layout`, an image layout's folder, which is made if it isn't there.
    ///
    /// # Errors
    /// As [`copy`](Self::copy).
    pub async fn pull(
        &self,
        reference: &ImageReference,
        layout: &Path,
        access: RegistryAccess<'_>,
    ) -> Result<Descriptor, OciError> {
        let (place, content) = self.find(reference, access).await?;
        let target = ImageStore::Layout(Layout::new(layout, format!("image layout `{}`", layout.display())));
        transfer::copy(&place, &target, content, reference.tag.as_deref()).await
    }

    async fn deliver(
        &self,
        source: &ImageStore,
        content: ManifestContent,
        reference: &ImageReference,
        access: RegistryAccess<'_>,
    ) -> Result<Descriptor, OciError> {
        if let Some(digest) = &reference.digest
            && *digest != content.descriptor.digest
        {
            let words = format!("`{reference}` can't be written with image {}", content.descriptor.digest);
            return Err(OciError::new(OciErrorKind::InvalidReference, words)
                .with_help("leave the digest out: it follows from the image"));
        }
        let tag = match (&reference.tag, &reference.digest) {
            (None, Some(_)) => None,
            _ => Some(reference.tag_or_default()),
        };
        let target = match access.rehearsal {
            Some(run) if !matches!(reference.location, ImageLocation::Layout { .. }) => {
                ImageStore::Layout(self.rehearsal(run, reference))
            }
            _ => self.real(&reference.location, access)?,
        };
        target.authenticate(true).await?;
        transfer::copy(source, &target, content, tag).await
    }

    /// The manifest that the reference names, and where it is.
    async fn find(
        &self,
        reference: &ImageReference,
        access: RegistryAccess<'_>,
    ) -> Result<(ImageStore, ManifestContent), OciError> {
        if let Some(run) = access.rehearsal.filter(|_| !matches!(reference.location, ImageLocation::Layout { .. })) {
            let rehearsed = ImageStore::Layout(self.rehearsal(run, reference));
            match rehearsed.manifest(reference).await {
                Ok(content) => return Ok((rehearsed, content)),
                Err(error) if error.kind == OciErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            if let ImageLocation::Remote { .. } = reference.location {
                return Err(OciError::new(
                    OciErrorKind::WithheldInRehearsal,
                    format!("would read the image `{reference}`"),
                ));
            }
        }
        let place = self.real(&reference.location, access)?;
        place.authenticate(false).await?;
        let content = place.manifest(reference).await?;
        Ok((place, content))
    }

    fn real(&self, place: &ImageLocation, access: RegistryAccess<'_>) -> Result<ImageStore, OciError> {
        Ok(match place {
            ImageLocation::Embedded { name } => ImageStore::Layout(Layout::new(
                self.config.embedded_root.join(name),
                format!("repository `local/{name}`"),
            )),
            ImageLocation::Remote { host, repository } => {
                let credentials = if access.anonymous { &Anonymous } else { self.config.credentials.as_ref() };
                ImageStore::Remote(Remote::new(host, repository, credentials)?)
            }
            ImageLocation::Layout { path } => {
                let name = format!("image layout `{path}`");
                ImageStore::Layout(Layout::new(inside(access.workspace, path)?, name))
            }
        })
    }

    fn rehearsal(&self, run: &str, reference: &ImageReference) -> Layout {
        let repository = reference.repository();
        let root = self.config.rehearsal_root.join(run).join("registry").join(&repository);
        Layout::new(root, format!("repository `{repository}` of the rehearsal"))
    }
}

/// The folder `path`, relative, below the workspace. Links in it are refused: the layout would be granted by the link's name
/// and be in another place.
///
/// # Errors
/// [`OciErrorKind::Denied`] when the path leads out of the workspace, or through a link.
pub fn inside(workspace: &Path, path: &str) -> Result<PathBuf, OciError> {
    let relative = Path::new(path);
    if !relative.components().all(|part| matches!(part, std::path::Component::Normal(_) | std::path::Component::CurDir))
    {
        let message = format!("image layout `{path}` is outside of the workspace");
        return Err(
            OciError::new(OciErrorKind::Denied, message).with_help("give a path relative to the workspace's root")
        );
    }
    let full = workspace.join(relative);
    let below = full.ancestors().take_while(|folder| *folder != workspace);
    if let Some(link) = below.into_iter().find(|folder| folder.is_symlink()) {
        let message = format!("image layout `{path}` goes through the link `{}`", link.display());
        return Err(
            OciError::new(OciErrorKind::Denied, message).with_help("name and grant the folder that it leads to")
        );
    }
    Ok(full)
}
