use stagewright_model::{CredentialDeclaration, Permissions, RehearsalTerms, RequestSigner, SecretValue, SigningError};

use super::failure::connection_failure;
use super::place::RemotePlace;
use super::*;
use crate::testing::{TestAttempt, TestLog};

/// One credential for SSH with the host `web1`, and one for requests.
struct Declared(Vec<(&'static str, CredentialDeclaration)>);

impl Declared {
    fn new() -> Declared {
        let web = CredentialKind::Ssh { hosts: [("web1".to_owned(), web1())].into(), key: None };
        let api = CredentialKind::Bearer { token: "token".to_owned() };
        let of = |kind| CredentialDeclaration { kind, origins: Vec::new(), ca: None };
        Declared(vec![("web", of(web)), ("api", of(api))])
    }
}

impl SignerSource for Declared {
    fn declared(&self, name: &str) -> Option<&CredentialDeclaration> {
        self.0.iter().find(|(own, _)| *own == name).map(|(_, declared)| declared)
    }

    fn signer(&self, _name: &str) -> Result<Arc<dyn RequestSigner>, SigningError> {
        unreachable!("commands aren't signed")
    }

    fn private_key(&self, _name: &str) -> Result<Option<SecretValue>, SigningError> {
        Ok(None)
    }
}

fn web1() -> SshHost {
    let host_keys = vec!["ssh-ed25519 AAAAC3Nz".parse().unwrap()];
    SshHost { address: "deploy@10.0.0.5".parse().unwrap(), host_keys }
}

struct Fixture {
    folder: tempfile::TempDir,
    log: TestLog,
    hosts: RemoteHosts,
}

/// An attempt with these credentials. `tools` says whether the programs of the client are in `PATH`.
fn fixture(credentials: &[&str], tools: bool) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let permissions = Permissions {
        credentials: credentials.iter().map(|name| name.parse().unwrap()).collect(),
        ..Permissions::default()
    };
    let attempt = TestAttempt::new(folder.path(), permissions, |config, _| {
        config.credentials = Arc::new(Declared::new());
        if tools {
            config.environment.insert("PATH".to_owned(), "/usr/bin:/bin".to_owned());
        }
    });
    let hosts = RemoteHosts::for_attempt(&attempt.context());
    Fixture { folder, log: attempt.log, hosts }
}

fn command(credential: &str, host: &str) -> RemoteCommand {
    RemoteCommand::new(credential.to_owned(), host.to_owned(), "true".to_owned())
}

async fn refused(fixture: &mut Fixture, command: RemoteCommand) -> CapabilityError {
    fixture.hosts.run(&command).await.unwrap_err()
}

#[tokio::test]
async fn only_hosts_of_granted_credentials_are_reached() {
    let mut without = fixture(&[], true);
    let denied = refused(&mut without, command("web", "web1")).await;
    assert_eq!(denied.code, ErrorCode::PermissionDenied);
    assert_eq!(denied.help.as_deref(), Some("add to [stages.test.permissions]: credentials = [\"web\"]"));
    let mut granted = fixture(&["web", "api", "other"], true);
    let messages = [("web", "web2"), ("api", "web1"), ("other", "web1")];
    let expected = [
        "the credential `web` has no host `web2`; it has web1",
        "the credential `api` has the type `bearer`, not `ssh`",
        "unknown credential `other`",
    ];
    for ((credential, host), expected) in messages.into_iter().zip(expected) {
        assert_eq!(refused(&mut granted, command(credential, host)).await.message, expected);
    }
    let keyless = refused(&mut granted, command("web", "web1")).await;
    assert_eq!(keyless.message, "the credential `web` uses the keys of an agent, but SSH_AUTH_SOCK isn't set");
    let mut zero = command("web", "web1");
    zero.args = vec!["a\0b".to_owned()];
    assert_eq!(refused(&mut granted, zero).await.code, ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn the_client_is_not_looked_for_in_the_workspace() {
    let mut fixture = fixture(&["web"], false);
    let own = fixture.folder.path().join("ssh");
    std::fs::copy("/bin/true", own).unwrap();
    fixture.hosts.environment.insert("PATH".to_owned(), fixture.folder.path().display().to_string());
    let missing = refused(&mut fixture, command("web", "web1")).await;
    assert!(missing.message.starts_with("program `ssh` not found"), "{}", missing.message);
}

#[tokio::test]
async fn nothing_is_announced_before_the_connection_and_nothing_is_sent_in_a_rehearsal() {
    let mut fixture = fixture(&["web"], true);
    let (effects, announced) = fixture.log.effects_with_verdict(stagewright_engine::Call::Run, Ok(()));
    fixture.hosts.effects = effects;
    refused(&mut fixture, command("web", "web1")).await;
    assert!(announced.lock().unwrap().is_empty(), "it could not connect");
    let own = Permissions { credentials: vec!["web".parse().unwrap()], ..Permissions::default() };
    let terms = RehearsalTerms::default();
    let (rehearsal, aborter) = crate::testing::rehearsal(fixture.folder.path(), &own, &terms, &fixture.log);
    fixture.hosts.rehearsal = rehearsal;
    let command = command("web", "web1");
    let stopped = tokio::select! {
        ended = fixture.hosts.run(&command) => panic!("ran: {ended:?}"),
        stopped = aborter.wait() => stopped,
    };
    let would = "would run `true` on `web1`, with the credential `web`";
    assert_eq!(stopped, crate::stop::StopReason::Rehearsed(would.into()));
}

#[test]
fn a_failed_connection_says_what_the_host_offered_or_wanted() {
    let declared = web1();
    let place = RemotePlace { credential: "web", host: "web1", declared: &declared };
    let failure = |report: &str| connection_failure(&place, report);
    let other = failure("debug1: Server host key: ssh-ed25519 SHA256:abc\nHost key verification failed.\n");
    assert!(other.message.contains("(deploy@10.0.0.5) offered the host key ssh-ed25519 SHA256:abc, which isn't one"));
    assert_eq!((other.code, other.retryable), (ErrorCode::Unauthenticated, None));
    let removed = failure("deploy@10.0.0.5: Permission denied (publickey,password).\n");
    assert!(removed.message.ends_with("doesn't accept the key"), "{}", removed.message);
    let passwords = failure("deploy@10.0.0.5: Permission denied (password,keyboard-interactive).\n");
    assert!(passwords.message.ends_with("accepts no keys, only: password,keyboard-interactive"));
    let down =
        failure("OpenSSH_9.2p1\ndebug1: Connecting\nssh: connect to host 10.0.0.5 port 22: Connection refused\n");
    assert_eq!(down.causes, ["ssh: connect to host 10.0.0.5 port 22: Connection refused"]);
    assert_eq!((down.code, down.retryable), (ErrorCode::Unavailable, Some(true)));
}
