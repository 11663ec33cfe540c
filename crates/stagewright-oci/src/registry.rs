//! Image registries as stages use them: push, resolve, copy, pull.
//!
//! ```text
//! local/NAME          ── embedded root ──┐
//! HOST/REPOSITORY     ── distribution API ┼─> copy: manifests, then blobs that are missing, then manifests again
//! oci:PATH            ── the workspace ──┘
//! ```
//!
//! Each of them stores manifests that refer to blobs, so push and pull are copies from one to another. A blob is hashed
//! while it is copied, a manifest is copied byte for byte, and the tag is set last.
//!
//! In a rehearsal, pushes to any registry go to its own root; only image layouts in the workspace are used as they are.
//! It reads from its own root first, and then from the embedded registry. It doesn't read from other registries, because
//! that would send credentials to another machine.

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

/// The folders and credentials of a [`Registry`].
#[derive(Clone)]
pub struct RegistryConfig {
    /// The embedded registry, with an image layout for each repository `local/…`.
    pub embedded_root: PathBuf,
    /// The registries of rehearsals, with a folder for each run.
    pub rehearsal_root: PathBuf,
    /// Credentials for remote registries.
    pub credentials: Arc<dyn CredentialSource>,
}

/// The terms on which registries are used.
#[derive(Clone, Copy, Debug)]
pub struct RegistryAccess<'a> {
    /// The folder to which `oci:PATH` is relative.
    pub workspace: &'a Path,
    /// The run id of a rehearsal, whose stand-in replaces every registry; none for the real registries.
    pub rehearsal: Option<&'a str>,
    /// Whether requests are sent without credentials.
    pub anonymous: bool,
}

impl<'a> RegistryAccess<'a> {
    /// Access to the real registries, with credentials.
    pub fn real(workspace: &'a Path) -> RegistryAccess<'a> {
        RegistryAccess { workspace, rehearsal: None, anonymous: false }
    }

    /// Access to the stand-in of a rehearsal.
    pub fn rehearsed(workspace: &'a Path, run: &'a str) -> RegistryAccess<'a> {
        RegistryAccess { workspace, rehearsal: Some(run), anonymous: true }
    }
}

/// A source without credentials.
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
    /// Creates a registry. No folder or server is accessed yet.
    pub fn new(config: RegistryConfig) -> Registry {
        // Fails if the process has installed a provider already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Registry { config }
    }

    /// Pushes the image in the image layout `layout`, and returns the descriptor that the registry confirmed. If the layout
    /// contains several images, the one with the reference's tag is pushed.
    ///
    /// # Errors
    /// When the layout doesn't contain the image, its content is damaged, or the registry can't be used.
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

    /// The image that the reference names at present.
    ///
    /// # Errors
    /// When the image does not exist, or the registry can't be used;
    /// [`OciErrorKind::WithheldInRehearsal`] when a rehearsal would have to read from a remote registry.
    pub async fn resolve(
        &self,
        reference: &ImageReference,
        access: RegistryAccess<'_>,
    ) -> Result<Descriptor, OciError> {
        Ok(self.find(reference, access).await?.1.descriptor)
    }

    /// Copies an image completely, for all platforms.
    ///
    /// # Errors
    /// As for [`push`](Self::push) and [`resolve`](Self::resolve). Content that was already copied remains, without a tag.
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

    /// Copies an image to the image layout `layout`, which is created if it does not exist.
    ///
    /// # Errors
    /// As for [`copy`](Self::copy).
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
            let message =
                format!("`{reference}` has another digest than the image, which is {}", content.descriptor.digest);
            return Err(OciError::new(OciErrorKind::InvalidReference, message)
                .with_help("omit the digest: it is determined by the image"));
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

    /// The manifest that the reference names, and the store that contains it.
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

/// The absolute form of `path`, which must be relative and in the workspace. Links are refused, because permissions are
/// checked against the path as written, and a link would lead to a folder that was not granted.
///
/// # Errors
/// [`OciErrorKind::Denied`] when the path leads out of the workspace, or through a link.
pub fn inside(workspace: &Path, path: &str) -> Result<PathBuf, OciError> {
    let relative = Path::new(path);
    if !relative.components().all(|part| matches!(part, std::path::Component::Normal(_) | std::path::Component::CurDir))
    {
        let message = format!("image layout `{path}` is outside of the workspace");
        return Err(
            OciError::new(OciErrorKind::Denied, message).with_help("use a path relative to the workspace's root")
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
