//! `secrets`: handles that a guest can pass to allowed hosts and programs without seeing the values.

use std::sync::Arc;

use stagewright_model::{Origin, SecretUse};

use crate::attempt::AttemptContext;
use crate::blocking::blocking;
use crate::error::{CapabilityError, ErrorCode};
use crate::mask::Masker;
use crate::net::credentials::ProxySecret;
use crate::policy::Policy;
use crate::rehearsal::Rehearsal;

mod input;
mod source;

pub(crate) use input::{InputEncoding, LONGEST_SECRET};
pub use source::{Secret, SecretError, SecretSource};

/// A guest's handle of a secret.
#[derive(Clone, Debug)]
pub struct SecretHandle {
    name: String,
    secret: Arc<Secret>,
    policy: Arc<Policy>,
}

impl SecretHandle {
    /// The secret's key in `[secrets]`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The value, if it may be sent to `origin`.
    pub(crate) fn for_origin(&self, origin: &Origin) -> Result<&str, CapabilityError> {
        let value = self.for_ssh(origin)?;
        if !origin.is_https() && !origin.is_loopback() {
            let message = format!("the secret `{}` may not be sent to {origin} in plain text", self.name);
            return Err(CapabilityError::new(ErrorCode::PermissionDenied, message).with_help("use https"));
        }
        Ok(value)
    }

    /// The value, if it may be sent to a host over SSH, which encrypts it.
    pub(crate) fn for_ssh(&self, origin: &Origin) -> Result<&str, CapabilityError> {
        let name = &self.name;
        self.policy.secret_use(name, SecretUse::Header)?;
        let hosts = &self.secret.hosts;
        if !hosts.iter().any(|pattern| pattern.admits(origin.host(), origin.port())) {
            let mut hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
            hosts.push(origin.host().to_owned());
            let message = format!("the secret `{name}` may not be sent to {}", origin.host());
            return Err(CapabilityError::new(ErrorCode::PermissionDenied, message)
                .with_help(format!("change in [secrets.{name}]: hosts = {hosts:?}")));
        }
        Ok(self.secret.value.expose())
    }

    /// The value, if it may be sent over the Unix socket at this path.
    pub(crate) fn for_socket(&self, path: &str) -> Result<&str, CapabilityError> {
        let name = &self.name;
        self.policy.secret_use(name, SecretUse::Header)?;
        let hosts = &self.secret.hosts;
        if !hosts.iter().any(|pattern| pattern.admits_socket(path)) {
            let mut hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
            hosts.push(format!("unix://{path}"));
            let message = format!("the secret `{name}` may not be sent to the socket {path}");
            return Err(CapabilityError::new(ErrorCode::PermissionDenied, message)
                .with_help(format!("change in [secrets.{name}]: hosts = {hosts:?}")));
        }
        Ok(self.secret.value.expose())
    }

    /// The value, if it may be in the environment of `program`.
    pub(crate) fn for_program(&self, program: &str) -> Result<&str, CapabilityError> {
        self.policy.secret_use(&self.name, SecretUse::Env)?;
        let programs = &self.secret.programs;
        if programs.is_empty() || programs.iter().any(|entry| entry == program) {
            return Ok(self.secret.value.expose());
        }
        let name = &self.name;
        let mut programs = programs.clone();
        programs.push(program.to_owned());
        let message = format!("the secret `{name}` may not be given to `{program}`");
        Err(CapabilityError::new(ErrorCode::PermissionDenied, message)
            .with_help(format!("change in [secrets.{name}]: programs = {programs:?}")))
    }
}

/// The secrets of one attempt.
#[derive(Clone)]
pub(crate) struct StageSecrets {
    pub(crate) source: Arc<dyn SecretSource>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) masker: Masker,
    pub(crate) rehearsal: Rehearsal,
}

impl StageSecrets {
    pub(crate) fn for_attempt(attempt: &AttemptContext<'_>) -> StageSecrets {
        StageSecrets {
            source: attempt.config().secrets.clone(),
            policy: attempt.policy.clone(),
            masker: attempt.log.masker().clone(),
            rehearsal: attempt.rehearsal.clone(),
        }
    }

    /// A handle of the secret. From now on its value is masked in everything that the attempt writes.
    pub(crate) async fn get(&self, name: &str) -> Result<SecretHandle, CapabilityError> {
        self.policy.secret(name)?;
        let is_real = self.rehearsal.is_real_secret(name);
        let secret = if is_real { self.real(name).await? } else { self.source.stand_in(name) };
        let secret = secret.ok_or_else(|| unknown(name))?;
        // In a rehearsal, the grants of `[stages.NAME.rehearse]` decide how a real secret may be used. The stage's own are
        // wider: they would let a plugin send it to the production host that the rehearsal is meant to spare.
        let policy = self.rehearsal.real().filter(|_| is_real).unwrap_or(&self.policy).clone();
        self.masker.add(secret.value.clone(), policy.reveal(name).is_ok());
        Ok(SecretHandle { name: name.to_owned(), secret: Arc::new(secret), policy })
    }

    /// The secrets that the proxy adds to downloads of programs, in the order of the grants. From now on their values are
    /// masked in everything that the attempt writes. In a rehearsal, only those that `[stages.NAME.rehearse]` grants.
    pub(crate) async fn for_proxy(&self) -> Result<Vec<ProxySecret>, CapabilityError> {
        let policy = self.rehearsal.real().unwrap_or(&self.policy);
        let mut found = Vec::new();
        for name in policy.proxy_secrets() {
            let Secret { value, hosts, scheme, .. } = self.real(name).await?.ok_or_else(|| unknown(name))?;
            self.masker.add(value.clone(), false);
            found.push(ProxySecret { name: name.to_owned(), value, hosts, scheme });
        }
        Ok(found)
    }

    /// Fetches a secret from its source; none if the pipeline doesn't declare it.
    async fn real(&self, name: &str) -> Result<Option<Secret>, CapabilityError> {
        let (source, key) = (self.source.clone(), name.to_owned());
        let fetched = blocking(move || source.secret(&key)).await?;
        fetched.map_err(|SecretError { message, help }| CapabilityError {
            help,
            ..CapabilityError::new(ErrorCode::FailedPrecondition, message)
        })
    }

    /// The plain text, if the guest may read it.
    pub(crate) fn reveal(&self, handle: &SecretHandle) -> Result<String, CapabilityError> {
        handle.policy.reveal(&handle.name)?;
        Ok(handle.secret.value.expose().to_owned())
    }
}

fn unknown(name: &str) -> CapabilityError {
    CapabilityError::new(ErrorCode::NotFound, format!("unknown secret `{name}`"))
        .with_help(format!("add a table [secrets.{name}] with `from`"))
}

#[cfg(test)]
mod tests {
    use stagewright_model::{Permissions, RehearsalTerms, SecretScheme};

    use super::*;
    use crate::testing::TestLog;

    struct One(Secret);

    impl SecretSource for One {
        fn secret(&self, name: &str) -> Result<Option<Secret>, SecretError> {
            Ok((name == "token").then(|| self.0.clone()))
        }

        fn stand_in(&self, _name: &str) -> Option<Secret> {
            None
        }
    }

    fn secrets(permissions: &Permissions) -> StageSecrets {
        let secret = Secret {
            value: "hunter22".into(),
            hosts: vec!["api.example.org".parse().unwrap(), "localhost:8080".parse().unwrap()],
            programs: vec!["gh".into()],
            scheme: SecretScheme::Bearer,
        };
        let policy = Policy::new("stages.test", permissions, &Default::default(), Arc::default());
        StageSecrets {
            source: Arc::new(One(secret)),
            policy: Arc::new(policy),
            masker: Masker::default(),
            rehearsal: Rehearsal::none(),
        }
    }

    fn origin(url: &str) -> Origin {
        Origin::of(&reqwest::Url::parse(url).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_handle_and_its_value_need_separate_grants() {
        let granted =
            Permissions { secrets: vec!["token".parse().unwrap(), "other".parse().unwrap()], ..Permissions::default() };
        assert_eq!(secrets(&Permissions::default()).get("token").await.unwrap_err().code, ErrorCode::PermissionDenied);
        assert_eq!(secrets(&granted).get("other").await.unwrap_err().code, ErrorCode::NotFound);

        let closed = secrets(&granted);
        let handle = closed.get("token").await.unwrap();
        assert_eq!(closed.reveal(&handle).unwrap_err().code, ErrorCode::PermissionDenied);
        assert_eq!(closed.masker.text("is hunter22"), "is ***");

        let open = secrets(&Permissions { reveal: vec!["token".parse().unwrap()], ..granted });
        let handle = open.get("token").await.unwrap();
        assert_eq!(open.reveal(&handle).unwrap(), "hunter22");
    }

    #[tokio::test]
    async fn the_grants_of_a_rehearsal_decide_about_its_real_secrets() {
        let all = Permissions {
            secrets: vec!["token".parse().unwrap()],
            reveal: vec!["token".parse().unwrap()],
            ..Permissions::default()
        };
        let real = Permissions { secrets: vec!["token:header".parse().unwrap()], ..Permissions::default() };
        let terms = RehearsalTerms { real, is_configured: true, offline: false };
        let (folder, log) = (tempfile::tempdir().unwrap(), TestLog::new());
        let (rehearsal, _aborter) = crate::testing::rehearsal(folder.path(), &all, &terms, &log);
        let rehearsed = StageSecrets { rehearsal, ..secrets(&all) };
        let handle = rehearsed.get("token").await.unwrap();
        assert_eq!(handle.for_origin(&origin("https://api.example.org/x")), Ok("hunter22"));
        assert!(handle.for_program("gh").is_err() && rehearsed.reveal(&handle).is_err());
    }

    #[tokio::test]
    async fn a_secret_is_only_given_to_allowed_hosts_and_programs() {
        let granted = Permissions { secrets: vec!["token".parse().unwrap()], ..Permissions::default() };
        let handle = secrets(&granted).get("token").await.unwrap();
        assert!(handle.for_origin(&origin("https://api.example.org/x")).is_ok());
        assert!(handle.for_origin(&origin("http://localhost:8080/x")).is_ok(), "on this machine, TLS isn't required");
        assert!(handle.for_origin(&origin("http://localhost:8081/x")).is_err());
        assert!(handle.for_origin(&origin("http://api.example.org/x")).is_err(), "not in plain text");
        let error = handle.for_origin(&origin("https://evil.example.org")).unwrap_err();
        assert_eq!(
            error.help.as_deref(),
            Some(r#"change in [secrets.token]: hosts = ["api.example.org", "localhost:8080", "evil.example.org"]"#)
        );
        assert!(handle.for_program("gh").is_ok() && handle.for_program("sh").is_err());
        let sent = Permissions { secrets: vec!["token:header".parse().unwrap()], ..Permissions::default() };
        let handle_of = |permissions| async move { secrets(&permissions).get("token").await.unwrap() };
        let sent = handle_of(sent).await;
        assert!(sent.for_origin(&origin("https://api.example.org/x")).is_ok());
        let help = sent.for_program("gh").unwrap_err().help.unwrap();
        assert_eq!(help, r#"change in [stages.test.permissions]: secrets = ["token:env", "token:header"]"#);
        let handed =
            handle_of(Permissions { secrets: vec!["token:env".parse().unwrap()], ..Permissions::default() }).await;
        assert!(handed.for_program("gh").is_ok());
        assert!(handed.for_origin(&origin("https://api.example.org/x")).is_err());
        assert!(!format!("{handle:?}").contains("hunter22"));
    }
}
