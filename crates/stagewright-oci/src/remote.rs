//! Repositories that are accessed through the distribution API.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _, stream};
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::errors::{DigestError, OciDistributionError, OciErrorCode as RegistryErrorCode};
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth;
use oci_client::{Reference, RegistryOperation};
use tempfile::NamedTempFile;

use crate::blocking::blocking;
use crate::content::{BlobVerifier, DOCKER_INDEX, DOCKER_MANIFEST, Descriptor, INDEX, MANIFEST, ManifestContent};
use crate::credentials::CredentialSource;
use crate::error::{OciError, OciErrorKind};
use crate::layout::known_tags;

const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// The longest time without a single byte.
const READ_LIMIT: Duration = Duration::from_secs(120);
/// The largest blob, in bytes, that is sent in one request. A larger one is sent in chunks; [`READ_LIMIT`] applies to each.
const WHOLE: u64 = 32 << 20;
/// The size of a chunk in bytes: the most that the client sends at a time.
const UPLOAD_CHUNK: usize = 4 << 20;

/// A repository of a registry.
pub(crate) struct Remote {
    client: Client,
    host: String,
    repository: String,
    auth: RegistryAuth,
    /// The source of the credentials, for the help of an error.
    origin: String,
}

impl Remote {
    pub(crate) fn new(host: &str, repository: &str, credentials: &dyn CredentialSource) -> Result<Remote, OciError> {
        let config = ClientConfig {
            protocol: if is_loopback(host) { ClientProtocol::Http } else { ClientProtocol::Https },
            connect_timeout: Some(CONNECT_LIMIT),
            read_timeout: Some(READ_LIMIT),
            use_monolithic_push: true,
            user_agent: concat!("stagewright/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let client = Client::try_from(config).map_err(|error| {
            OciError::new(OciErrorKind::Internal, "could not create the registry client").caused_by(error)
        })?;
        let auth = match credentials.credentials(host) {
            Some((user, password)) => RegistryAuth::Basic(user, password),
            None => RegistryAuth::Anonymous,
        };
        let (host, repository) = (host.to_owned(), repository.to_owned());
        Ok(Remote { client, host, repository, auth, origin: credentials.origin() })
    }

    /// Must be called first: if the client has to authenticate by itself during a request, it ignores errors of the
    /// authentication, and the request then fails without the reason.
    pub(crate) async fn authenticate(&self, push: bool) -> Result<(), OciError> {
        let operation = if push { RegistryOperation::Push } else { RegistryOperation::Pull };
        let image = self.tagged("latest");
        self.client.auth(&image, &self.auth, operation).await.map(drop).map_err(|error| self.explain("use", error))
    }

    pub(crate) async fn by_tag(&self, tag: &str) -> Result<ManifestContent, OciError> {
        match self.manifest(&self.tagged(tag)).await {
            Err(error) if error.kind == OciErrorKind::NotFound => {
                let error = OciError { message: format!("{} has no tag `{tag}`", self.name()), ..error };
                Err(match self.client.list_tags(&self.tagged(tag), &self.auth, None, None).await {
                    Ok(mut list) => {
                        list.tags.sort();
                        error.with_help(known_tags(&list.tags))
                    }
                    Err(_) => error.with_help("the repository does not exist, or no image was ever pushed to it"),
                })
            }
            other => other,
        }
    }

    pub(crate) async fn by_digest(&self, digest: &str) -> Result<ManifestContent, OciError> {
        self.manifest(&self.pinned(digest)).await
    }

    async fn manifest(&self, image: &Reference) -> Result<ManifestContent, OciError> {
        let accepted = [MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX];
        let pulled = self.client.pull_manifest_raw(image, &self.auth, &accepted).await;
        let (bytes, _) = pulled.map_err(|error| self.explain("read an image of", error))?;
        ManifestContent::new(bytes.to_vec(), image.digest())
    }

    /// Downloads a blob to a temporary file, and verifies it.
    pub(crate) async fn fetch_blob(&self, descriptor: &Descriptor) -> Result<NamedTempFile, OciError> {
        let requested = OciDescriptor {
            media_type: descriptor.media_type.clone(),
            digest: descriptor.digest.clone(),
            size: i64::try_from(descriptor.size).unwrap_or(i64::MAX),
            ..OciDescriptor::default()
        };
        let what = "read a blob of";
        let image = self.pinned(&descriptor.digest);
        let mut chunks =
            self.client.pull_blob_stream(&image, &requested).await.map_err(|error| self.explain(what, error))?;
        let failed = |error: std::io::Error| {
            OciError::new(OciErrorKind::Disk, format!("could not store blob {}", descriptor.digest)).caused_by(error)
        };
        let mut file = NamedTempFile::new().map_err(failed)?;
        let (mut check, mut left) = (BlobVerifier::default(), descriptor.size);
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| self.explain(what, OciDistributionError::IoError(error)))?;
            check.update(&chunk);
            // Stop at the size that the manifest states, so that a registry which sends more can't fill the disk.
            let Some(rest) = left.checked_sub(chunk.len() as u64) else { break };
            left = rest;
            file = blocking(move || file.write_all(&chunk).map(|()| file)).await?.map_err(failed)?;
        }
        check.finish(descriptor)?;
        Ok(file)
    }

    pub(crate) async fn has_blob(&self, descriptor: &Descriptor) -> Result<bool, OciError> {
        let image = self.pinned(&descriptor.digest);
        let answer = self.client.blob_exists(&image, &descriptor.digest).await;
        answer.map_err(|error| self.explain("look for a blob in", error))
    }

    pub(crate) async fn put_blob(&self, descriptor: &Descriptor, path: PathBuf) -> Result<(), OciError> {
        let (image, size) = (self.pinned(&descriptor.digest), descriptor.size);
        let pushed = if size <= WHOLE {
            self.client.push_blob_stream(&image, chunks_of(path), &descriptor.digest, Some(size)).await.map(drop)
        } else {
            self.client.push_blob_stream_chunked(&image, chunks_of(path)).await.map(drop)
        };
        pushed.map_err(|error| self.explain("push a blob to", error))
    }

    /// Pushes a manifest, and then requests its digest from the registry. Success of the push alone doesn't prove that the
    /// registry stored these bytes: some registries rewrite manifests, and another push may have replaced the tag.
    pub(crate) async fn put_manifest(&self, content: &ManifestContent, tag: Option<&str>) -> Result<(), OciError> {
        let image = tag.map_or_else(|| self.pinned(&content.descriptor.digest), |tag| self.tagged(tag));
        let media_type = content.descriptor.media_type.parse().map_err(|_| {
            let words = format!("manifest {} has no usable media type", content.descriptor.digest);
            OciError::new(OciErrorKind::InvalidManifest, words)
        })?;
        let pushed = self.client.push_manifest_raw(&image, content.bytes.clone(), media_type).await;
        pushed.map_err(|error| self.explain("push an image to", error))?;
        let confirmed = self.client.fetch_manifest_digest(&image, &self.auth).await;
        let confirmed = confirmed.map_err(|error| self.explain("confirm the image just pushed to", error))?;
        if confirmed == content.descriptor.digest {
            return Ok(());
        }
        let message =
            format!("{} returns {confirmed} after the push of image {}", self.name(), content.descriptor.digest);
        Err(OciError::new(OciErrorKind::Rejected, message)
            .with_help("another push replaced the same tag at the same time, or the registry rewrites manifests"))
    }

    fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    fn tagged(&self, tag: &str) -> Reference {
        Reference::with_tag(self.host.clone(), self.repository.clone(), tag.to_owned())
    }

    /// A reference by digest. The client builds URLs from the digest and not from the tag. But if a registry responds to
    /// a push without a `Location` header, the client panics unless the URL ends with the tag, so the tag is set to the
    /// digest's digits.
    fn pinned(&self, digest: &str) -> Reference {
        let hex = digest.trim_start_matches("sha256:").to_owned();
        Reference::with_tag_and_digest(self.host.clone(), self.repository.clone(), hex, digest.to_owned())
    }

    fn explain(&self, doing: &str, error: OciDistributionError) -> OciError {
        let FailureReason { kind, why } = FailureReason::of(&error);
        let words = format!("could not {doing} `{}`: {why}", self.name());
        let explained = OciError::new(kind, words).caused_by(error);
        match explained.kind {
            OciErrorKind::Unauthenticated | OciErrorKind::Denied => {
                let found = match &self.auth {
                    RegistryAuth::Anonymous => format!("it has none for `{}`", self.host),
                    _ => format!("those for `{}` were not accepted", self.host),
                };
                let advice = format!("credentials come from {}: {found}; log in to the registry", self.origin);
                explained.with_help(advice)
            }
            OciErrorKind::Unavailable => {
                explained.with_help(format!("check that the registry is running at `{}`", self.host))
            }
            _ => explained,
        }
    }
}

const WRONG_CONTENT: &str = "the registry sent content with another digest than requested";

/// The meaning of an error of the client.
struct FailureReason {
    kind: OciErrorKind,
    why: String,
}

impl FailureReason {
    fn of(error: &OciDistributionError) -> FailureReason {
        let fault = |kind, why: &str| FailureReason { kind, why: why.to_owned() };
        match error {
            OciDistributionError::AuthenticationFailure(_) | OciDistributionError::UnauthorizedError { .. } => {
                fault(OciErrorKind::Unauthenticated, "the registry requires other credentials")
            }
            OciDistributionError::ImageManifestNotFoundError(_) => {
                fault(OciErrorKind::NotFound, "the image does not exist")
            }
            OciDistributionError::RegistryError { envelope, .. } => match envelope.errors.first() {
                Some(first) => FailureReason::of_registry(&first.code, &first.message),
                None => fault(OciErrorKind::Internal, "the registry refused the request without a reason"),
            },
            OciDistributionError::ServerError { code, .. } => FailureReason::of_status(*code),
            OciDistributionError::RequestError(error) => match error.status() {
                Some(status) => FailureReason::of_status(status.as_u16()),
                None if error.is_connect() => fault(OciErrorKind::Unavailable, &root(error)),
                None if error.is_timeout() => fault(OciErrorKind::TimedOut, "the registry did not respond in time"),
                None => fault(OciErrorKind::Unavailable, &root(error)),
            },
            // The client verifies a blob while it streams it, and wraps a mismatch in an I/O error.
            OciDistributionError::IoError(error) if error.get_ref().is_some_and(|inner| inner.is::<DigestError>()) => {
                fault(OciErrorKind::DigestMismatch, WRONG_CONTENT)
            }
            OciDistributionError::IoError(error) => fault(OciErrorKind::Unavailable, &root(error)),
            OciDistributionError::DigestError(_) => fault(OciErrorKind::DigestMismatch, WRONG_CONTENT),
            other => fault(OciErrorKind::Internal, &other.to_string()),
        }
    }

    fn of_registry(code: &RegistryErrorCode, message: &str) -> FailureReason {
        let kind = match code {
            RegistryErrorCode::Unauthorized => OciErrorKind::Unauthenticated,
            RegistryErrorCode::Denied => OciErrorKind::Denied,
            RegistryErrorCode::ManifestUnknown
            | RegistryErrorCode::NameUnknown
            | RegistryErrorCode::BlobUnknown
            | RegistryErrorCode::NotFound => OciErrorKind::NotFound,
            RegistryErrorCode::Toomanyrequests => OciErrorKind::RateLimited,
            _ => OciErrorKind::Rejected,
        };
        FailureReason { kind, why: format!("the registry says: {message}") }
    }

    fn of_status(status: u16) -> FailureReason {
        let kind = match status {
            401 => OciErrorKind::Unauthenticated,
            403 => OciErrorKind::Denied,
            404 => OciErrorKind::NotFound,
            429 => OciErrorKind::RateLimited,
            500.. => OciErrorKind::Unavailable,
            _ => OciErrorKind::Rejected,
        };
        FailureReason { kind, why: format!("the registry responded with HTTP status {status}") }
    }
}

/// The innermost cause, which has the specific reason, such as "Connection refused".
fn root(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Streams a file in chunks. `B` is the client's own type for a chunk, which this crate doesn't name.
fn chunks_of<B: From<Vec<u8>> + Send + 'static>(
    path: PathBuf,
) -> impl Stream<Item = Result<B, OciDistributionError>> + Send + 'static {
    enum ChunkReader {
        Closed(PathBuf),
        Open(File),
        Failed,
    }
    let next = |state: ChunkReader| {
        let mut file = match state {
            ChunkReader::Closed(path) => stagewright_files::open(&path)?,
            ChunkReader::Open(file) => file,
            ChunkReader::Failed => return Ok(None),
        };
        let mut chunk = Vec::with_capacity(UPLOAD_CHUNK);
        std::io::Read::by_ref(&mut file).take(UPLOAD_CHUNK as u64).read_to_end(&mut chunk)?;
        Ok((!chunk.is_empty()).then_some((chunk, ChunkReader::Open(file))))
    };
    stream::unfold(ChunkReader::Closed(path), move |state| async move {
        match blocking(move || next(state)).await {
            Ok(Ok(found)) => found.map(|(chunk, state)| (Ok(B::from(chunk)), state)),
            Ok(Err(error)) => Some((Err(OciDistributionError::IoError(error)), ChunkReader::Failed)),
            Err(error) => Some((Err(OciDistributionError::GenericError(Some(error.message))), ChunkReader::Failed)),
        }
    })
}

/// Whether the host is a loopback address. Loopback connections don't need TLS, and such hosts have no certificate.
fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || name.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_hosts_are_contacted_without_tls() {
        for host in ["localhost", "localhost:5000", "127.0.0.1", "127.1.2.3:80"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["ghcr.io", "127.0.0.1.example.org", "10.0.0.1:5000", "localhost.example.org"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
