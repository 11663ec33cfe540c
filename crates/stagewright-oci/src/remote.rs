//! Repositories behind the distribution API.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _, stream};
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::errors::{DigestError, OciDistributionError, OciErrorCode};
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth;
use oci_client::{Reference, RegistryOperation};
use tempfile::NamedTempFile;

use super::content::{Check, Content, DOCKER_INDEX, DOCKER_MANIFEST, Descriptor, INDEX, MANIFEST};
use super::credentials::CredentialSource;
use super::layout::known_tags;
use crate::blocking::blocking;
use crate::error::{CapabilityError, ErrorCode};

const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// Without a single byte.
const READ_LIMIT: Duration = Duration::from_secs(120);
/// Bytes of a blob that is sent in one request. A larger one is sent in pieces, each of which has [`READ_LIMIT`] to itself.
const WHOLE: u64 = 32 << 20;
/// Bytes of a piece: the most that the client sends at a time.
const UPLOAD_CHUNK: usize = 4 << 20;

/// One repository of one registry.
pub(crate) struct Remote {
    client: Client,
    host: String,
    repository: String,
    auth: RegistryAuth,
    /// Where credentials come from.
    origin: String,
}

impl Remote {
    pub(crate) fn new(
        host: &str,
        repository: &str,
        credentials: &dyn CredentialSource,
    ) -> Result<Remote, CapabilityError> {
        let config = ClientConfig {
            protocol: if is_loopback(host) { ClientProtocol::Http } else { ClientProtocol::Https },
            connect_timeout: Some(CONNECT_LIMIT),
            read_timeout: Some(READ_LIMIT),
            use_monolithic_push: true,
            user_agent: concat!("stagewright/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let client = Client::try_from(config).map_err(|error| {
            CapabilityError::new(ErrorCode::Internal, "the registry client could not be made").caused_by(&error)
        })?;
        let auth = match credentials.credentials(host) {
            Some((user, password)) => RegistryAuth::Basic(user, password),
            None => RegistryAuth::Anonymous,
        };
        let (host, repository) = (host.to_owned(), repository.to_owned());
        Ok(Remote { client, host, repository, auth, origin: credentials.origin() })
    }

    /// To be called before anything else: the client swallows what goes wrong when it authenticates by itself.
    pub(crate) async fn authenticate(&self, push: bool) -> Result<(), CapabilityError> {
        let operation = if push { RegistryOperation::Push } else { RegistryOperation::Pull };
        let image = self.tagged("latest");
        self.client.auth(&image, &self.auth, operation).await.map(drop).map_err(|error| self.explain("use", &error))
    }

    pub(crate) async fn by_tag(&self, tag: &str) -> Result<Content, CapabilityError> {
        match self.manifest(&self.tagged(tag)).await {
            Err(error) if error.code == ErrorCode::NotFound => {
                let error = CapabilityError { message: format!("{} has no tag `{tag}`", self.name()), ..error };
                Err(match self.client.list_tags(&self.tagged(tag), &self.auth, None, None).await {
                    Ok(mut list) => {
                        list.tags.sort();
                        error.with_help(known_tags(&list.tags))
                    }
                    Err(_) => error.with_help("there is no such repository, or no image was ever pushed to it"),
                })
            }
            other => other,
        }
    }

    pub(crate) async fn by_digest(&self, digest: &str) -> Result<Content, CapabilityError> {
        self.manifest(&self.pinned(digest)).await
    }

    async fn manifest(&self, image: &Reference) -> Result<Content, CapabilityError> {
        let accepted = [MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX];
        let pulled = self.client.pull_manifest_raw(image, &self.auth, &accepted).await;
        let (bytes, _) = pulled.map_err(|error| self.explain("read an image of", &error))?;
        Content::new(bytes.to_vec(), image.digest())
    }

    /// Into a temporary file.
    pub(crate) async fn fetch_blob(&self, descriptor: &Descriptor) -> Result<NamedTempFile, CapabilityError> {
        let wanted = OciDescriptor {
            media_type: descriptor.media_type.clone(),
            digest: descriptor.digest.clone(),
            size: i64::try_from(descriptor.size).unwrap_or(i64::MAX),
            ..OciDescriptor::default()
        };
        let what = "read a blob of";
        let image = self.pinned(&descriptor.digest);
        let mut chunks =
            self.client.pull_blob_stream(&image, &wanted).await.map_err(|error| self.explain(what, &error))?;
        let internal = |error: &std::io::Error| {
            CapabilityError::new(ErrorCode::Internal, format!("blob {} can't be kept", descriptor.digest))
                .caused_by(error)
        };
        let mut file = NamedTempFile::new().map_err(|error| internal(&error))?;
        let (mut check, mut left) = (Check::default(), descriptor.size);
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| self.explain(what, &OciDistributionError::IoError(error)))?;
            check.update(&chunk);
            // A registry that sends more than the manifest says must not fill the disk.
            let Some(rest) = left.checked_sub(chunk.len() as u64) else { break };
            left = rest;
            file = blocking(move || file.write_all(&chunk).map(|()| file)).await?.map_err(|error| internal(&error))?;
        }
        check.finish(descriptor)?;
        Ok(file)
    }

    pub(crate) async fn has_blob(&self, descriptor: &Descriptor) -> Result<bool, CapabilityError> {
        let image = self.pinned(&descriptor.digest);
        let answer = self.client.blob_exists(&image, &descriptor.digest).await;
        answer.map_err(|error| self.explain("look for a blob in", &error))
    }

    pub(crate) async fn put_blob(&self, descriptor: &Descriptor, path: PathBuf) -> Result<(), CapabilityError> {
        let (image, size) = (self.pinned(&descriptor.digest), descriptor.size);
        let pushed = if size <= WHOLE {
            self.client.push_blob_stream(&image, chunks_of(path), &descriptor.digest, Some(size)).await.map(drop)
        } else {
            self.client.push_blob_stream_chunked(&image, chunks_of(path)).await.map(drop)
        };
        pushed.map_err(|error| self.explain("push a blob to", &error))
    }

    /// Pushes, then asks the registry what it has: its answer is the only proof.
    pub(crate) async fn put_manifest(&self, content: &Content, tag: Option<&str>) -> Result<(), CapabilityError> {
        let image = tag.map_or_else(|| self.pinned(&content.descriptor.digest), |tag| self.tagged(tag));
        let media_type = content.descriptor.media_type.parse().map_err(|_| {
            let words = format!("manifest {} has no usable media type", content.descriptor.digest);
            CapabilityError::new(ErrorCode::InvalidArgument, words)
        })?;
        let pushed = self.client.push_manifest_raw(&image, content.bytes.clone(), media_type).await;
        pushed.map_err(|error| self.explain("push an image to", &error))?;
        let confirmed = self.client.fetch_manifest_digest(&image, &self.auth).await;
        let confirmed = confirmed.map_err(|error| self.explain("confirm the image just pushed to", &error))?;
        if confirmed == content.descriptor.digest {
            return Ok(());
        }
        let words =
            format!("{} answers {confirmed} for the image {} just pushed", self.name(), content.descriptor.digest);
        Err(CapabilityError::new(ErrorCode::FailedPrecondition, words)
            .with_help("somebody else pushed the same tag at the same moment, or the registry rewrites manifests"))
    }

    fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    fn tagged(&self, tag: &str) -> Reference {
        Reference::with_tag(self.host.clone(), self.repository.clone(), tag.to_owned())
    }

    /// The digest goes into the URL. The tag doesn't, but when a registry answers a push without a `Location`, the
    /// client panics unless the URL ends with the tag.
    fn pinned(&self, digest: &str) -> Reference {
        let hex = digest.trim_start_matches("sha256:").to_owned();
        Reference::with_tag_and_digest(self.host.clone(), self.repository.clone(), hex, digest.to_owned())
    }

    fn explain(&self, doing: &str, error: &OciDistributionError) -> CapabilityError {
        let Fault { code, why, retryable } = Fault::of(error);
        let words = format!("could not {doing} `{}`: {why}", self.name());
        let mut explained = CapabilityError::new(code, words).caused_by(error);
        explained.retryable = retryable;
        match explained.code {
            ErrorCode::Unauthenticated | ErrorCode::PermissionDenied => {
                let found = match &self.auth {
                    RegistryAuth::Anonymous => format!("there are none for `{}`", self.host),
                    _ => format!("those for `{}` are not accepted", self.host),
                };
                let advice = format!("credentials come from {}: {found}; log in to the registry there", self.origin);
                explained.with_help(advice)
            }
            ErrorCode::Unavailable => explained.with_help(format!("check that the registry runs at `{}`", self.host)),
            _ => explained,
        }
    }
}

const SOMETHING_ELSE: &str = "the registry sent something else than it was asked for";

/// What an error of the client means.
struct Fault {
    code: ErrorCode,
    why: String,
    retryable: bool,
}

impl Fault {
    fn of(error: &OciDistributionError) -> Fault {
        let fault = |code, why: &str| Fault { code, why: why.to_owned(), retryable: false };
        match error {
            OciDistributionError::AuthenticationFailure(_) | OciDistributionError::UnauthorizedError { .. } => {
                fault(ErrorCode::Unauthenticated, "the registry wants other credentials")
            }
            OciDistributionError::ImageManifestNotFoundError(_) => fault(ErrorCode::NotFound, "there is no such image"),
            OciDistributionError::RegistryError { envelope, .. } => match envelope.errors.first() {
                Some(first) => Fault::of_registry(&first.code, &first.message),
                None => fault(ErrorCode::Internal, "the registry refused without a reason"),
            },
            OciDistributionError::ServerError { code, .. } => Fault::of_status(*code),
            OciDistributionError::RequestError(error) => match error.status() {
                Some(status) => Fault::of_status(status.as_u16()),
                None if error.is_connect() => Fault { retryable: true, ..fault(ErrorCode::Unavailable, &root(error)) },
                None if error.is_timeout() => {
                    Fault { retryable: true, ..fault(ErrorCode::DeadlineExceeded, "the registry took too long") }
                }
                None => Fault { retryable: true, ..fault(ErrorCode::Unavailable, &root(error)) },
            },
            // The client checks a blob while it streams it, where all that can go wrong is input and output.
            OciDistributionError::IoError(error) if error.get_ref().is_some_and(|inner| inner.is::<DigestError>()) => {
                fault(ErrorCode::FailedPrecondition, SOMETHING_ELSE)
            }
            OciDistributionError::IoError(error) => {
                Fault { retryable: true, ..fault(ErrorCode::Unavailable, &root(error)) }
            }
            OciDistributionError::DigestError(_) => fault(ErrorCode::FailedPrecondition, SOMETHING_ELSE),
            other => fault(ErrorCode::Internal, &other.to_string()),
        }
    }

    fn of_registry(code: &OciErrorCode, message: &str) -> Fault {
        let (code, retryable) = match code {
            OciErrorCode::Unauthorized => (ErrorCode::Unauthenticated, false),
            OciErrorCode::Denied => (ErrorCode::PermissionDenied, false),
            OciErrorCode::ManifestUnknown
            | OciErrorCode::NameUnknown
            | OciErrorCode::BlobUnknown
            | OciErrorCode::NotFound => (ErrorCode::NotFound, false),
            OciErrorCode::Toomanyrequests => (ErrorCode::ResourceExhausted, true),
            _ => (ErrorCode::FailedPrecondition, false),
        };
        Fault { code, why: format!("the registry says: {message}"), retryable }
    }

    fn of_status(status: u16) -> Fault {
        let (code, retryable) = match status {
            401 => (ErrorCode::Unauthenticated, false),
            403 => (ErrorCode::PermissionDenied, false),
            404 => (ErrorCode::NotFound, false),
            429 => (ErrorCode::ResourceExhausted, true),
            500.. => (ErrorCode::Unavailable, true),
            _ => (ErrorCode::FailedPrecondition, false),
        };
        Fault { code, why: format!("the registry answers with HTTP status {status}"), retryable }
    }
}

/// The innermost cause says what the others only wrap: "Connection refused".
fn root(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// The item's type is the client's own, which needn't be named here but for what it is made from.
fn chunks_of<B: From<Vec<u8>> + Send + 'static>(
    path: PathBuf,
) -> impl Stream<Item = Result<B, OciDistributionError>> + Send + 'static {
    enum State {
        Closed(PathBuf),
        Open(File),
        Failed,
    }
    let next = |state: State| {
        let mut file = match state {
            State::Closed(path) => stagewright_files::open(&path)?,
            State::Open(file) => file,
            State::Failed => return Ok(None),
        };
        let mut chunk = Vec::with_capacity(UPLOAD_CHUNK);
        std::io::Read::by_ref(&mut file).take(UPLOAD_CHUNK as u64).read_to_end(&mut chunk)?;
        Ok((!chunk.is_empty()).then_some((chunk, State::Open(file))))
    };
    stream::unfold(State::Closed(path), move |state| async move {
        match blocking(move || next(state)).await {
            Ok(Ok(found)) => found.map(|(chunk, state)| (Ok(B::from(chunk)), state)),
            Ok(Err(error)) => Some((Err(OciDistributionError::IoError(error)), State::Failed)),
            Err(error) => Some((Err(OciDistributionError::GenericError(Some(error.message))), State::Failed)),
        }
    })
}

/// Loopback needs no TLS, and has no certificate.
fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || name.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_goes_without_tls() {
        for host in ["localhost", "localhost:5000", "127.0.0.1", "127.1.2.3:80"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["ghcr.io", "127.0.0.1.example.org", "10.0.0.1:5000", "localhost.example.org"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
