//! Credentials: the host signs requests of a guest, and of the programs that it starts, to their origins. Neither ever has
//! one, nor a handle of one.

use std::collections::BTreeMap;
use std::sync::Arc;

use reqwest::Client;
use reqwest::header::HeaderMap;
use stagewright_model::{CredentialDeclaration, CredentialUse, Origin, OriginTarget, RequestToSign};
use tokio::sync::Mutex;

use crate::attempt::AttemptContext;
use crate::blocking::blocking;
use crate::error::{CapabilityError, ErrorCode, causes_of};
use crate::mask::Masker;
use crate::net::client::SharedClient;
use crate::net::credentials::ProxySigner;
use crate::net::signing::{Signing, failed};
use crate::policy::Policy;
use crate::rehearsal::Rehearsal;

mod source;

pub use source::SignerSource;

/// The credentials of one attempt; cheap to clone.
#[derive(Clone)]
pub(crate) struct StageCredentials {
    source: Arc<dyn SignerSource>,
    /// The names that the stage is granted.
    granted: Vec<String>,
    policy: Arc<Policy>,
    rehearsal: Rehearsal,
    masker: Masker,
    client: SharedClient,
    /// Those that were used.
    prepared: Arc<Mutex<BTreeMap<String, Signing>>>,
}

/// A credential of the stage that applies to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApplicableCredential {
    /// Its key in `[credentials]`.
    pub(crate) name: String,
    /// Whether it is used, and not withheld by a rehearsal.
    pub(crate) is_real: bool,
    /// The headers that only the host may set.
    headers: &'static [&'static str],
    /// The header that names the operation of a request, if the service has one.
    operation_header: Option<&'static str>,
}

impl StageCredentials {
    /// Those of the plugin.
    pub(crate) fn for_attempt(attempt: &AttemptContext<'_>) -> StageCredentials {
        StageCredentials::with_policy(attempt, attempt.policy.clone())
    }

    /// Those of its programs.
    pub(crate) fn for_programs(attempt: &AttemptContext<'_>) -> StageCredentials {
        let policy = &attempt.program_policy;
        let granted = policy.credentials(CredentialUse::Programs).map(ToOwned::to_owned).collect();
        StageCredentials { granted, ..StageCredentials::with_policy(attempt, policy.clone()) }
    }

    fn with_policy(attempt: &AttemptContext<'_>, policy: Arc<Policy>) -> StageCredentials {
        StageCredentials::new(
            attempt.config().credentials.clone(),
            policy,
            attempt.rehearsal.clone(),
            attempt.log.masker().clone(),
            attempt.host.outbound.client.clone(),
        )
    }

    pub(crate) fn new(
        source: Arc<dyn SignerSource>,
        policy: Arc<Policy>,
        rehearsal: Rehearsal,
        masker: Masker,
        client: SharedClient,
    ) -> StageCredentials {
        let granted = policy.credentials(CredentialUse::Plugin).map(ToOwned::to_owned).collect();
        StageCredentials { source, granted, policy, rehearsal, masker, client, prepared: Arc::default() }
    }

    /// The credential that signs requests to `origin`.
    ///
    /// # Errors
    /// If there are several, which can only be known here where a kubeconfig names the server; or if the server can't be
    /// determined.
    pub(crate) async fn for_origin(&self, origin: &Origin) -> Result<Option<ApplicableCredential>, CapabilityError> {
        let mut found = Vec::new();
        for (name, declared) in self.granted() {
            let is_real = self.rehearsal.is_real_credential(name);
            let is_for_origin = match declared.has_unknown_origin() {
                false => declared.hosts().any(|own| own == origin),
                true if is_real => {
                    self.prepare(name).await?.signer.origins().contains(&OriginTarget::Host(origin.clone()))
                }
                true => stand_in(name) == origin.to_string(),
            };
            if is_for_origin {
                found.push(ApplicableCredential::new(name, declared, is_real));
            }
        }
        if let [one, other, ..] = &found[..] {
            let message = format!("the credentials `{}` and `{}` both sign requests to {origin}", one.name, other.name);
            return Err(CapabilityError::new(ErrorCode::FailedPrecondition, message)
                .with_help(format!("grant only one of them in [{}.permissions]", self.policy.table())));
        }
        Ok(found.pop())
    }

    /// The credentials for requests over a Unix socket, at most one of which adds something to a request. They are not
    /// used in a rehearsal that doesn't grant them.
    pub(crate) fn for_socket(&self, socket: &str) -> Vec<ApplicableCredential> {
        let is_for_socket = |declared: &CredentialDeclaration| {
            declared.origins.iter().any(|own| matches!(own.target(), OriginTarget::Socket(own) if own == socket))
        };
        let found = self
            .granted()
            .filter(|(name, declared)| is_for_socket(declared) && self.rehearsal.is_real_credential(name));
        found.map(|(name, declared)| ApplicableCredential::new(name, declared, true)).collect()
    }

    /// Whether the signature of a request covers its headers and its body.
    pub(crate) async fn covers_content(&self, name: &str) -> Result<bool, CapabilityError> {
        Ok(self.prepare(name).await?.signer.covers_content())
    }

    /// Sets the headers that sign a request. What is derived from the credential for it is masked from now on. Returns the
    /// client that has to send it.
    pub(crate) async fn sign(
        &self,
        name: &str,
        request: RequestToSign,
        headers: &mut HeaderMap,
    ) -> Result<Client, CapabilityError> {
        let signing = self.prepare(name).await?;
        signing.sign(request, headers, |value| self.masker.add(value, false)).await?;
        Ok(signing.client)
    }

    /// Why a server may not have accepted a credential that was used: since when it has expired, if its value says so.
    pub(crate) async fn expiry_notice(&self, name: &str) -> Option<String> {
        self.prepared.lock().await.get(name)?.expiry_notice()
    }

    /// The credentials with which the proxy signs requests of programs. In a rehearsal, only those that it grants.
    pub(crate) async fn for_proxy(&self) -> Result<Vec<ProxySigner>, CapabilityError> {
        let mut found = Vec::new();
        for (name, declared) in self.granted() {
            let signing = self.prepare(name).await?;
            let origins = signing.signer.origins().iter().filter_map(|origin| match origin {
                OriginTarget::Host(origin) => Some(origin.clone()),
                OriginTarget::Socket(_) => None,
            });
            found.push(ProxySigner { origins: origins.collect(), headers: declared.headers(), signing });
        }
        Ok(found)
    }

    /// The URL of the only server of a credential.
    pub(crate) async fn endpoint(&self, name: &str) -> Result<String, CapabilityError> {
        self.policy.credential(name)?;
        let declared = self.source.declared(name).ok_or_else(|| {
            CapabilityError::new(ErrorCode::NotFound, format!("unknown credential `{name}`"))
                .with_help(format!("add a table [credentials.{name}]"))
        })?;
        let is_real = self.rehearsal.is_real_credential(name);
        let endpoint = match &declared.origins[..] {
            [] if !is_real => Some(stand_in(name)),
            [one] if !is_real => Some(one.target().to_string()),
            [] | [_] => self.prepare(name).await?.signer.endpoint(),
            _ => None,
        };
        endpoint.ok_or_else(|| {
            let message = format!("the credential `{name}` has several origins");
            CapabilityError::new(ErrorCode::FailedPrecondition, message)
                .with_help(format!("write one credential for each origin, or use the origins of [credentials.{name}]"))
        })
    }

    fn granted(&self) -> impl Iterator<Item = (&String, &CredentialDeclaration)> {
        self.granted.iter().filter_map(|name| Some((name, self.source.declared(name)?)))
    }

    /// From now on, the values of the credential are masked in everything that the attempt reads and writes.
    async fn prepare(&self, name: &str) -> Result<Signing, CapabilityError> {
        let mut prepared = self.prepared.lock().await;
        if let Some(known) = prepared.get(name) {
            return Ok(known.clone());
        }
        let (source, key) = (self.source.clone(), name.to_owned());
        let signer = blocking(move || source.signer(&key)).await?.map_err(failed)?;
        signer.confidential().into_iter().for_each(|value| self.masker.add(value, false));
        let client = self.client.with_tls(signer.tls()).map_err(|error| {
            // A certificate that can't be used: its text isn't shown.
            let message =
                format!("the credential `{name}` can't be used: its certificates or its key aren't valid PEM");
            CapabilityError {
                causes: causes_of(&error),
                ..CapabilityError::new(ErrorCode::FailedPrecondition, message)
            }
        })?;
        let made = Signing { name: name.to_owned(), signer, client };
        prepared.insert(name.to_owned(), made.clone());
        Ok(made)
    }
}

/// How the names of operations begin that only read, in AWS's APIs.
const READS: [&str; 4] = ["BatchGet", "Describe", "Get", "List"];

impl ApplicableCredential {
    fn new(name: &str, declared: &CredentialDeclaration, is_real: bool) -> ApplicableCredential {
        let (headers, operation_header) = (declared.headers(), declared.operation_header());
        ApplicableCredential { name: name.to_owned(), is_real, headers, operation_header }
    }

    /// Whether the headers of a POST name an operation that only reads.
    pub(crate) fn is_read(&self, headers: &HeaderMap) -> bool {
        let Some(name) = self.operation_header else { return false };
        let mut targets = headers.get_all(name).iter();
        // Of several, the server may carry out any.
        let (Some(target), None) = (targets.next(), targets.next()) else { return false };
        let operation = target.to_str().ok().and_then(|target| Some(target.rsplit_once('.')?.1)).unwrap_or_default();
        READS.iter().any(|verb| {
            operation
                .strip_prefix(verb)
                .is_some_and(|noun| noun.starts_with(|letter: char| letter.is_ascii_uppercase()))
        })
    }

    /// Refuses a header of the guest that this credential sets.
    pub(crate) fn refuse_header(&self, name: &str, shown: &str) -> Result<(), CapabilityError> {
        if !self.headers.iter().any(|own| own.eq_ignore_ascii_case(name)) {
            return Ok(());
        }
        let message = format!(
            "the plugin sets the header `{name}` in a request to {shown}, which the credential `{}` signs",
            self.name
        );
        Err(CapabilityError::new(ErrorCode::InvalidArgument, message)
            .with_help("leave the header to the host, or remove the grant of the credential"))
    }
}

/// The URL of a server that is only known from a secret, in a rehearsal that doesn't fetch it. RFC 2606 reserves `.invalid`.
fn stand_in(name: &str) -> String {
    format!("https://{}.invalid", name.to_lowercase().replace('_', "-"))
}
