//! The fake host refuses commands on hosts that the real one refuses, with the same error.

use std::time::Duration;

use stagewright_sdk::fake::{FakeHost, SshScript};
use stagewright_sdk::{ErrorCode, Manifest, Observation, Outcome, Permission, Reconcile, Result, Stage, ssh};

/// The error of a call.
#[track_caller]
fn refused<T: std::fmt::Debug>(host: &FakeHost, call: impl FnOnce() -> Result<T>) -> (ErrorCode, String) {
    let error = host.clone().with(call).0.expect_err("it is refused");
    (error.code, error.message)
}

#[test]
fn commands_on_hosts_take_their_credential_and_are_effects() {
    let host = FakeHost::new().ssh(SshScript::new("web1", "true").takes(Duration::from_secs(9)));
    let command = |program: &str| ssh::Command::new("web", "web1", program);
    let denied = host.clone().deny(Permission::Credentials, "web");
    assert_eq!(refused(&denied, || command("true").run()).1, "the stage may not use the credential `web`");
    assert_eq!(refused(&host, || command("a\0b").run()).0, ErrorCode::InvalidArgument);
    assert_eq!(refused(&host, || ssh::Command::new("web", "web2", "true").run()).0, ErrorCode::Unavailable);
    assert_eq!(refused(&host, || command("true").input_artifact("app").run()).0, ErrorCode::NotFound);
    let late = refused(&host, || command("true").timeout(Duration::from_secs(1)).run());
    assert_eq!(
        late,
        (ErrorCode::DeadlineExceeded, "the command on `web1` took longer than 1s, and may still run".to_owned())
    );
    let (ended, report) = host.clone().with(|| command("true").input(b"a").input_file("x").input(b"b").run());
    assert_eq!(ended.map(|output| output.exit_code), Ok(0));
    assert_eq!(report.remote_commands[0].input, b"b", "what is appended replaces a file");

    struct Asks;
    impl Stage for Asks {
        type Config = serde_json::Value;
        fn manifest() -> Manifest {
            stagewright_sdk::manifest!()
        }
        fn run(_config: serde_json::Value) -> Result<Outcome> {
            Ok(Outcome::Succeeded)
        }
    }
    impl Reconcile for Asks {
        fn observe(_config: serde_json::Value) -> Result<Observation> {
            ssh::Command::new("web", "web1", "true").read_only().run()?;
            ssh::Command::new("web", "web1", "true").run()?;
            Ok(Observation::NotStarted)
        }
        fn undo(_config: serde_json::Value) -> Result<()> {
            Ok(())
        }
    }
    let report = host.observe::<Asks>();
    assert_eq!(report.result.unwrap_err().message, "`observe` may not have effects: run true on web1");
    assert_eq!(report.remote_commands.len(), 1);
}
