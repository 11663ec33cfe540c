//! Signs requests with the stage's credentials, just before they are sent.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::time::SystemTime;

use hyper::body::Bytes;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Url};
use sha2::{Digest as _, Sha256};
use stagewright_model::{BodyDigest, RequestToSign};

use super::Http;
use super::hop::{Destination, Hop};
use super::request::{Body, Piece};
use crate::blocking::blocking;
use crate::capability::credentials::ApplicableCredential;
use crate::error::{CapabilityError, ErrorCode};

/// How much of a file is digested at a time, in bytes.
const PIECE: usize = 64 * 1024;

/// A body that is about to be sent.
pub(super) enum OutgoingBody {
    None,
    Bytes(Bytes),
    /// A file, at its beginning.
    File(File),
}

impl Http {
    /// The credentials that apply to a request.
    ///
    /// # Errors
    /// If the guest sets a header that is one of theirs.
    pub(super) async fn credentials_for(&self, hop: &Hop) -> Result<Vec<ApplicableCredential>, CapabilityError> {
        let found = match &hop.to {
            _ if !hop.may_be_signed => Vec::new(),
            // A service that the attempt itself has started is the stage's own code, even at the origin of a credential.
            Destination::Host(_, origin) if self.own.contains(origin) => Vec::new(),
            Destination::Host(_, origin) => self.credentials.for_origin(origin).await?.into_iter().collect(),
            Destination::Socket(url) => self.credentials.for_socket(&url.socket),
        };
        let of_secrets = hop.secrets.iter().map(|header| header.name.to_ascii_lowercase()).collect::<Vec<_>>();
        for name in hop.headers.keys().map(HeaderName::as_str).chain(of_secrets.iter().map(String::as_str)) {
            found.iter().try_for_each(|credential| credential.refuse_header(name, &hop.to.shown()))?;
        }
        Ok(found)
    }

    pub(super) async fn open_body(&self, hop: &Hop) -> Result<OutgoingBody, CapabilityError> {
        Ok(match &hop.body {
            Body::None => OutgoingBody::None,
            Body::Bytes(data) => OutgoingBody::Bytes(data.clone()),
            Body::Pieces(pieces) => {
                let mut data = Vec::new();
                for piece in pieces {
                    match piece {
                        Piece::Bytes(bytes) => data.extend_from_slice(bytes),
                        Piece::Secret(secret, encoding) => {
                            data.extend_from_slice(encoding.encode(hop.to.value_of(secret)?).as_bytes());
                        }
                    }
                }
                OutgoingBody::Bytes(data.into())
            }
            Body::File(path) => {
                let path = path.clone();
                OutgoingBody::File(self.workspace.off_thread(move |files| files.open(&path)).await?.into_std())
            }
        })
    }

    /// Adds the headers of the credentials to those of the request. Returns the client that has to send it; none for the
    /// usual one.
    pub(super) async fn sign(
        &self,
        hop: &Hop,
        credentials: &[ApplicableCredential],
        headers: &mut HeaderMap,
        body: &mut OutgoingBody,
    ) -> Result<Option<Client>, CapabilityError> {
        let mut sender = None;
        for ApplicableCredential { name, .. } in credentials {
            let covers_content = self.credentials.covers_content(name).await?;
            let request = RequestToSign {
                method: hop.method.to_string(),
                url: hop.url()?,
                headers: if covers_content { texts(headers)? } else { Vec::new() },
                body: if covers_content { body.digest().await? } else { BodyDigest::Uncovered },
                now: SystemTime::now(),
            };
            sender = Some(self.credentials.sign(name, request, headers).await?);
        }
        Ok(sender)
    }
}

impl Destination {
    /// The URL that the request is sent with.
    pub(super) fn url(&self) -> Result<Url, CapabilityError> {
        match self {
            Destination::Host(url, _) => Ok(url.clone()),
            Destination::Socket(url) => {
                let text = format!("http://localhost{}{}", url.path, url.query);
                let invalid =
                    |_| CapabilityError::new(ErrorCode::InvalidArgument, format!("`{}` isn't a URL", url.shown()));
                text.parse().map_err(invalid)
            }
        }
    }
}

/// The headers as they are sent and signed.
fn texts(headers: &HeaderMap) -> Result<Vec<(String, String)>, CapabilityError> {
    let text = |(name, value): (&HeaderName, &HeaderValue)| {
        let value = value.to_str().map_err(|_| {
            let message = format!("the header `{name}` can't be signed: its value isn't ASCII");
            CapabilityError::new(ErrorCode::InvalidArgument, message)
        })?;
        Ok((name.as_str().to_owned(), value.to_owned()))
    };
    headers.iter().map(text).collect()
}

impl OutgoingBody {
    async fn digest(&mut self) -> Result<BodyDigest, CapabilityError> {
        Ok(match self {
            OutgoingBody::None => BodyDigest::Empty,
            OutgoingBody::Bytes(data) => BodyDigest::Sha256(Sha256::digest(data).into()),
            OutgoingBody::File(file) => {
                let failed = |error: io::Error| {
                    CapabilityError::new(ErrorCode::Unavailable, "could not read the body's file").caused_by(&error)
                };
                // The clone has the same position, so that the file is sent from its beginning.
                let mut own = file.try_clone().map_err(failed)?;
                let digested = blocking(move || {
                    let (mut digest, mut piece) = (Sha256::new(), vec![0; PIECE]);
                    loop {
                        match own.read(&mut piece)? {
                            0 => break,
                            length => digest.update(&piece[..length]),
                        }
                    }
                    own.rewind()?;
                    Ok(digest.finalize().into())
                });
                BodyDigest::Sha256(digested.await?.map_err(failed)?)
            }
        })
    }
}
