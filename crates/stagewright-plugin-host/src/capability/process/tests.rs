#![expect(clippy::disallowed_methods, reason = "tests read what they made themselves")]

use stagewright_model::{Permissions, RehearsalTerms};

use stagewright_process::ExitStatus;

use super::*;
use crate::capability::secrets::{Secret, SecretError, SecretSource, StageSecrets};
use crate::stop::{Cancel, StopReason};
use crate::testing::{TestAttempt, TestLog};

struct Fixture {
    _folder: tempfile::TempDir,
    log: TestLog,
    processes: Processes,
}

fn fixture(change: impl FnOnce(&mut Permissions)) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    let mut permissions = Permissions { process: vec!["sh".parse().unwrap()], ..Permissions::default() };
    change(&mut permissions);
    let table = |entries: &[(&str, &str)]| -> BTreeMap<String, String> {
        entries.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    };
    let inherited = table(&[("PATH", "/usr/bin:/bin"), ("HOME", "/home/x"), ("GRANTED", "g"), ("TOKEN", "t")]);
    let attempt = TestAttempt::new(folder.path(), permissions, |config, request| {
        config.environment = inherited;
        request.env = table(&[("STAGE", "s")]);
    });
    let processes = Processes::for_attempt(&attempt.context());
    Fixture { _folder: folder, log: attempt.log, processes }
}

fn shell(script: &str) -> CommandBuilder {
    CommandBuilder { program: "sh".into(), args: vec!["-c".into(), script.into()], ..CommandBuilder::default() }
}

async fn captured(child: &mut ChildHandle) -> Result<String, CapabilityError> {
    let mut all = Vec::new();
    while let Some((_, data)) = child.next_chunk().await? {
        all.extend(data);
    }
    Ok(String::from_utf8(all).unwrap())
}

#[tokio::test]
async fn output_is_logged_and_the_status_is_returned_to_the_guest() {
    let mut fixture = fixture(|_| {});
    let mut child = fixture.processes.spawn(shell("echo out; echo err >&2; exit 3")).await.unwrap();
    assert_eq!(child.wait().await.unwrap(), ExitStatus { code: Some(3), signal: None });
    let mut lines = fixture.log.lines();
    lines.sort();
    assert_eq!(lines, ["err", "out"]);
    assert_eq!(child.next_chunk().await.unwrap_err().code, ErrorCode::FailedPrecondition);
}

#[tokio::test]
async fn a_path_variable_of_the_guest_does_not_choose_the_program() {
    let mut fixture = fixture(|_| {});
    let forged = fixture._folder.path().join("sh");
    std::fs::copy("/bin/false", &forged).unwrap();
    let mut command = shell("echo $PATH");
    command.env("PATH".into(), fixture._folder.path().display().to_string());
    let mut child = fixture.processes.spawn(command).await.unwrap();
    assert_eq!(child.wait().await.unwrap(), ExitStatus { code: Some(0), signal: None });
    assert_eq!(fixture.log.lines(), [fixture._folder.path().display().to_string()]);
}

#[tokio::test]
async fn a_child_that_fails_during_cancellation_counts_as_stopped() {
    let mut fixture = fixture(|_| {});
    for (script, stopped) in [("kill -TERM $$", true), ("exit 101", true), ("exit 0", false)] {
        let mut child = fixture.processes.spawn(shell(script)).await.unwrap();
        let cancel = Cancel::default();
        cancel.set();
        match child.wait_unless_stopped(&cancel).await {
            Err(error) => assert!(stopped && error.code == ErrorCode::Cancelled, "{script}: {error:?}"),
            Ok(status) => assert!(!stopped && status.code == Some(0), "{script}: {status:?}"),
        }
    }
}

#[tokio::test]
async fn a_linked_program_is_only_granted_by_the_name_of_the_link() {
    let mut fixture = fixture(|permissions| permissions.process = vec!["./tool -c *".parse().unwrap()]);
    std::os::unix::fs::symlink("/bin/sh", fixture._folder.path().join("tool")).unwrap();
    let mut linked = shell("exit 4");
    linked.program = ".//tool".into();
    let mut child = fixture.processes.spawn(linked).await.unwrap();
    assert_eq!(child.wait().await.unwrap().code, Some(4));
    let denied = fixture.processes.spawn(shell("exit 4")).await.unwrap_err();
    assert_eq!(denied.code, ErrorCode::PermissionDenied);
}

#[tokio::test]
async fn a_program_that_can_reach_beyond_the_stage_is_announced_before_it_starts() {
    let started = async |change: fn(&mut Permissions)| {
        let mut fixture = fixture(change);
        let refused = Err(stagewright_engine::EffectRefused::Unrecorded);
        let (effects, announced) = fixture.log.effects_with_verdict(stagewright_engine::Call::Run, refused);
        fixture.processes.effects = effects;
        let started = fixture.processes.spawn(shell("touch started")).await;
        let announced = announced.lock().unwrap().clone();
        (started.is_ok(), announced)
    };
    assert_eq!(started(|_| {}).await, (true, vec![]));
    assert_eq!(started(|permissions| permissions.net.push("cargo".parse().unwrap())).await, (true, vec![]));
    let announced = vec!["run sh".to_owned()];
    assert_eq!(
        started(|permissions| permissions.net.push("a.example".parse().unwrap())).await,
        (false, announced.clone())
    );
    assert_eq!(started(|permissions| permissions.secrets.push("token".parse().unwrap())).await, (false, announced));
}

#[tokio::test]
async fn only_granted_programs_are_started() {
    let mut fixture = fixture(|permissions| permissions.process.push("no-such-program".parse().unwrap()));
    let command = |program: &str| CommandBuilder { program: program.into(), ..CommandBuilder::default() };
    assert_eq!(fixture.processes.spawn(command("true")).await.unwrap_err().code, ErrorCode::PermissionDenied);
    assert_eq!(fixture.processes.spawn(command("/bin/sh")).await.unwrap_err().code, ErrorCode::PermissionDenied);
    assert_eq!(fixture.processes.spawn(command("no-such-program")).await.unwrap_err().code, ErrorCode::NotFound);
    std::fs::write(fixture._folder.path().join("no-such-program"), "").unwrap();
    let help = fixture.processes.spawn(command("no-such-program")).await.unwrap_err().help.unwrap();
    assert!(help.contains("write `./no-such-program`"), "{help}");
    assert_eq!(
        fixture.processes.spawn(command("./no-such-program")).await.unwrap_err().code,
        ErrorCode::PermissionDenied
    );
    let outside = CommandBuilder { current_dir: Some("../".into()), ..shell("pwd") };
    assert_eq!(fixture.processes.spawn(outside).await.unwrap_err().code, ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn a_program_gets_the_granted_environment_only() {
    let mut fixture = fixture(|permissions| permissions.env = vec!["GRANTED".parse().unwrap()]);
    let mut command = CommandBuilder { capture: Some(10_000), quiet: true, ..shell("env; pwd") };
    command.env.insert("OWN".into(), "o".into());
    command.current_dir = Some("sub".into());
    let mut child = fixture.processes.spawn(command).await.unwrap();
    let text = captured(&mut child).await.unwrap();
    for line in ["PATH=/usr/bin:/bin", "HOME=/home/x", "GRANTED=g", "STAGE=s", "OWN=o", "CI=true"] {
        assert!(text.lines().any(|have| have == line), "{line} in {text}");
    }
    assert!(!text.contains("TOKEN") && text.trim_end().ends_with("/sub"), "{text}");
    assert_eq!(fixture.log.lines(), [""; 0], "quiet");
}

#[tokio::test]
async fn output_beyond_the_capture_limit_is_an_error_for_the_guest_and_still_logged() {
    let mut fixture = fixture(|_| {});
    let command = CommandBuilder { capture: Some(5), ..shell("printf 123456789") };
    let mut child = fixture.processes.spawn(command).await.unwrap();
    assert_eq!(child.next_chunk().await.unwrap().unwrap().1, b"12345");
    assert_eq!(child.next_chunk().await.unwrap_err().code, ErrorCode::ResourceExhausted);
    assert_eq!(child.wait().await.unwrap().code, Some(0));
    assert_eq!(fixture.log.lines(), ["123456789"]);
    let nowhere = CommandBuilder { quiet: true, ..shell("true") };
    assert_eq!(fixture.processes.spawn(nowhere).await.unwrap_err().code, ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn a_child_that_takes_too_long_is_killed() {
    let mut fixture = fixture(|_| {});
    let command = CommandBuilder { timeout: Some(Duration::from_millis(50)), ..shell("echo begun; sleep 600") };
    let mut child = fixture.processes.spawn(command).await.unwrap();
    assert_eq!(child.wait().await.unwrap_err().code, ErrorCode::DeadlineExceeded);
}

#[tokio::test]
async fn the_number_of_programs_at_a_time_is_limited() {
    let mut fixture = fixture(|_| {});
    let mut children = Vec::new();
    for _ in 0..CHILDREN {
        children.push(fixture.processes.spawn(shell("exec sleep 600")).await.unwrap());
    }
    let error = fixture.processes.spawn(shell("exit 0")).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::ResourceExhausted);
    children[0].group.kill();
    children[0].wait().await.unwrap();
    fixture.processes.spawn(shell("exit 0")).await.unwrap();
    fixture.processes.finish().await;
}

#[tokio::test]
async fn no_process_survives_the_end_of_the_attempt() {
    let mut fixture = fixture(|_| {});
    // Ignores SIGTERM, and has a child of its own in the background.
    let script = "trap '' TERM; sleep 600 & echo $! $$; wait; sleep 600";
    let command = CommandBuilder { capture: Some(100), ..shell(script) };
    let mut child = fixture.processes.spawn(command).await.unwrap();
    let ids = String::from_utf8(child.next_chunk().await.unwrap().unwrap().1).unwrap();
    fixture.processes.groups().interrupt();
    fixture.processes.finish().await;
    let is_dead = |id: &str| {
        // A dead grandchild is a zombie until init, or a subreaper, reaps it.
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let state = stat.rsplit(')').next().unwrap_or_default().trim_start().chars().next();
        matches!(state, None | Some('Z' | 'X'))
    };
    let begun = Instant::now();
    for id in ids.split_whitespace() {
        // On a busy machine, a process that was killed still takes a moment to die.
        while !is_dead(id) {
            assert!(begun.elapsed() < Duration::from_secs(30), "{id} lives on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    assert_eq!(child.wait().await.unwrap().signal, Some(9));
}

#[tokio::test]
async fn a_secret_reaches_the_program_but_neither_the_log_nor_the_guest() {
    struct Token;
    impl SecretSource for Token {
        fn secret(&self, _name: &str) -> Result<Option<Secret>, SecretError> {
            Ok(Some(Secret {
                value: "hunter2hunter2".into(),
                hosts: vec![],
                programs: vec!["sh".into()],
                scheme: Default::default(),
            }))
        }

        fn stand_in(&self, _name: &str) -> Option<Secret> {
            None
        }
    }
    let mut fixture = fixture(|permissions| permissions.secrets = vec!["token".parse().unwrap()]);
    let secrets = StageSecrets {
        source: Arc::new(Token),
        policy: fixture.processes.policy.clone(),
        masker: fixture.log.log.masker().clone(),
        rehearsal: Rehearsal::none(),
    };
    let handle = secrets.get("token").await.unwrap();
    let mut command =
        CommandBuilder { capture: Some(1000), ..shell(r#"echo "is $T, ${#T} long"; printf '%s' "$T" | base64"#) };
    command.secret_env("T".into(), &handle);
    let mut child = fixture.processes.spawn(command).await.unwrap();
    let text = captured(&mut child).await.unwrap();
    assert_eq!(text, "is ***, 14 long\n***=\n", "only the program has it");
    assert_eq!(fixture.log.lines(), ["is ***, 14 long", "***="]);

    let mut other = CommandBuilder { program: "env".into(), ..CommandBuilder::default() };
    other.secret_env("T".into(), &handle);
    assert_eq!(other.refused.unwrap().code, ErrorCode::PermissionDenied);

    let mut command = CommandBuilder {
        capture: Some(1000),
        ..shell(r#"read -r line; echo "${#line}: $line"; cat /proc/$$/cmdline"#)
    };
    command.append_stdin(b"<");
    command.append_stdin_secret(&handle, "quoted");
    command.append_stdin(b">\n");
    let mut child = fixture.processes.spawn(command).await.unwrap();
    let text = captured(&mut child).await.unwrap();
    assert!(text.starts_with("16: <***>\n"), "{text}");
    assert!(!text["16: <***>\n".len()..].contains("***"), "the command line doesn't have it: {text}");

    let mut other = CommandBuilder { program: "env".into(), ..CommandBuilder::default() };
    other.append_stdin_secret(&handle, "plain");
    assert_eq!(other.refused.unwrap().code, ErrorCode::PermissionDenied);
    let mut unknown = shell("true");
    unknown.append_stdin_secret(&handle, "hex");
    assert_eq!(unknown.refused.unwrap().code, ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn a_program_with_unread_output_blocks_until_the_guest_waits_for_its_end() {
    let mut fixture = fixture(|_| {});
    let much = 4 * UNREAD as usize;
    let command =
        CommandBuilder { capture: Some(u64::MAX), quiet: true, ..shell(&format!("head -c {much} /dev/zero")) };
    let mut taken = fixture.processes.spawn(command.clone()).await.unwrap();
    let mut left = fixture.processes.spawn(command).await.unwrap();
    // Less than what is read from the pipe at a time.
    while left.room.available_permits() > 64 * 1024 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(left.end.borrow().is_none());
    assert_eq!(captured(&mut taken).await.unwrap().len(), much);
    assert!(taken.wait().await.unwrap().success());
    assert!(left.wait().await.unwrap().success());
    assert_eq!(captured(&mut left).await.unwrap().len(), much);
}

#[test]
fn passwords_are_removed_from_proxy_variables() {
    let names = ["HTTPS_PROXY", "all_proxy", "NO_PROXY", "OTHER"];
    let values = ["http://me:p@ss@proxy.test:3128", "proxy.test:1", "localhost,127.0.0.1", "http://me:p@x"];
    let mut environment = names.into_iter().zip(values).map(|(name, value)| (name.into(), value.into())).collect();
    without_proxy_credentials(&mut environment);
    let after = names.map(|name| environment[name].as_str());
    assert_eq!(after, ["http://proxy.test:3128", "proxy.test:1", "localhost,127.0.0.1", "http://me:p@x"]);
}

#[tokio::test]
async fn a_program_that_can_reach_beyond_the_stage_is_not_started_in_a_rehearsal() {
    let mut fixture = fixture(|permissions| permissions.net = vec!["http://127.0.0.1:9".parse().unwrap()]);
    let own = Permissions {
        process: vec!["sh".parse().unwrap()],
        net: vec!["http://127.0.0.1:9".parse().unwrap()],
        ..Permissions::default()
    };
    let terms = RehearsalTerms::default();
    let (rehearsal, aborter) = crate::testing::rehearsal(fixture._folder.path(), &own, &terms, &fixture.log);
    fixture.processes.rehearsal = rehearsal;
    let stopped = tokio::select! {
        child = fixture.processes.spawn(shell("touch made")) => panic!("started: {}", child.is_ok()),
        stopped = aborter.wait() => stopped,
    };
    let would = "would run `sh -c 'touch made'`, reaching `http://127.0.0.1:9`";
    assert_eq!(stopped, StopReason::Rehearsed(would.into()));
    assert!(!fixture._folder.path().join("made").exists());
    let refused = fixture.processes.spawn(CommandBuilder::new("git".into())).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::PermissionDenied, "denied as in a real run");
}

/// Without a sandbox, the program would have the machine's network.
#[tokio::test]
async fn without_a_sandbox_no_program_is_started_in_a_rehearsal() {
    let fixture = fixture(|_| {});
    let own = Permissions { process: vec!["sh".parse().unwrap()], ..Permissions::default() };
    let terms = RehearsalTerms::default();
    let (rehearsal, _aborter) = crate::testing::rehearsal(fixture._folder.path(), &own, &terms, &fixture.log);
    let withheld = |is_confined| rehearsal.withholds_program("sh", &[], is_confined);
    assert_eq!(withheld(true), None);
    assert_eq!(withheld(false).unwrap(), "would run `sh`: this machine can't deny it the network");
}
