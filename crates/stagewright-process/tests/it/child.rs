//! [`stagewright_process::Child`] and the blocking conveniences.

use std::time::Duration;

use stagewright_process::{Child, Command, ExitStatus, RunError, Source, SpawnError, run_inherited, run_to_end};

use crate::{PATIENCE, alive, pid_in, sh, until};

const EXIT_0: ExitStatus = ExitStatus { code: Some(0), signal: None };
const KILLED: ExitStatus = ExitStatus { code: None, signal: Some(9) };

async fn collect(child: &mut Child) -> (String, String) {
    let (mut stdout, mut stderr) = (String::new(), String::new());
    while let Some((source, data)) = child.next_chunk().await {
        let stream = if source == Source::Stdout { &mut stdout } else { &mut stderr };
        stream.push_str(std::str::from_utf8(&data).unwrap());
    }
    (stdout, stderr)
}

#[tokio::test]
async fn both_streams_and_the_exit_code_are_returned() {
    let mut child = sh("echo out; echo err >&2; exit 3").spawn().unwrap();
    assert_eq!(collect(&mut child).await, ("out\n".to_owned(), "err\n".to_owned()));
    let status = child.wait().await.unwrap();
    assert_eq!(status, ExitStatus { code: Some(3), signal: None });
    assert_eq!(child.wait().await.unwrap(), status);
}

#[tokio::test]
async fn the_environment_is_exactly_the_given_one() {
    let command = Command { program: "/usr/bin/env".into(), ..sh("") };
    let mut child = Command { args: vec![], env: vec![("A".into(), "1".into())], ..command }.spawn().unwrap();
    assert_eq!(collect(&mut child).await.0, "A=1\n");
}

#[tokio::test]
async fn input_larger_than_a_pipe_passes_through() {
    let input = vec![b'x'; 1 << 20];
    let mut child = Command { stdin: Some(input.clone()), ..sh("cat") }.spawn().unwrap();
    assert_eq!(collect(&mut child).await.0.len(), input.len());
    assert_eq!(child.wait().await.unwrap(), EXIT_0);
}

#[tokio::test]
async fn a_child_may_ignore_its_input() {
    let mut child = Command { stdin: Some(vec![b'x'; 1 << 20]), ..sh("exec true") }.spawn().unwrap();
    assert_eq!(child.wait().await.unwrap(), EXIT_0);
}

#[tokio::test]
async fn a_loud_stream_does_not_starve_the_other() {
    let mut child = sh("(sleep 0.2; echo quiet >&2) & exec yes").spawn().unwrap();
    let heard = async { while child.next_chunk().await.is_some_and(|(source, _)| source == Source::Stdout) {} };
    tokio::time::timeout(PATIENCE, heard).await.expect("standard error is heard");
    child.kill();
    assert_eq!(child.wait().await.unwrap(), KILLED);
}

#[tokio::test]
async fn a_child_that_ignores_sigterm_is_killed() {
    let mut child = sh("trap '' TERM; echo ready; while :; do sleep 1; done").spawn().unwrap();
    assert!(child.next_chunk().await.is_some());
    child.interrupt();
    assert!(tokio::time::timeout(Duration::from_millis(300), child.wait()).await.is_err(), "SIGTERM is ignored");
    child.kill();
    assert_eq!(child.wait().await.unwrap(), KILLED);
}

#[tokio::test]
async fn sigterm_reaches_the_whole_group() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let mut child = sh(&format!("sleep 600 & echo $! > {}; wait", file.display())).spawn().unwrap();
    let grandchild = pid_in(&file);
    child.group().interrupt();
    assert_eq!(child.wait().await.unwrap(), ExitStatus { code: None, signal: Some(15) });
    until("the grandchild is gone", || !alive(&grandchild));
}

#[tokio::test]
async fn a_grandchild_that_holds_the_pipe_neither_hangs_the_reader_nor_lives_on() {
    let mut child = sh("sleep 600 & echo $!").spawn().unwrap();
    let (grandchild, _) = tokio::time::timeout(PATIENCE, collect(&mut child)).await.expect("the output ends");
    until("the grandchild is gone", || !alive(grandchild.trim()));
    assert_eq!(child.wait().await.unwrap(), EXIT_0);
}

#[tokio::test]
async fn what_a_child_leaves_in_the_background_ends_with_it() {
    let mut child = sh("sleep 600 >/dev/null 2>&1 & echo $!").spawn().unwrap();
    let (grandchild, _) = collect(&mut child).await;
    assert_eq!(child.wait().await.unwrap(), EXIT_0);
    until("the grandchild is gone", || !alive(grandchild.trim()));
}

#[tokio::test]
async fn a_grandchild_in_a_session_of_its_own_does_not_hang_the_reader() {
    let mut child = sh("setsid sh -c 'echo $$; exec sleep 600' & sleep 0.2").spawn().unwrap();
    let (escaped, _) = tokio::time::timeout(PATIENCE, collect(&mut child)).await.expect("the output ends");
    assert_eq!(child.wait().await.unwrap(), EXIT_0);
    let escaped = escaped.trim();
    assert!(alive(escaped), "the documented escape");
    let mut kill = sh(&format!("kill -9 {escaped}")).spawn().unwrap();
    kill.wait().await.unwrap();
}

#[tokio::test]
async fn output_of_a_dead_child_is_not_lost_on_a_slow_reader() {
    let dir = tempfile::tempdir().unwrap();
    let (go, gone) = (dir.path().join("go"), dir.path().join("gone"));
    let wait = format!("until test -e {}; do sleep 0.05; done", go.display());
    let script = format!("({wait}; echo late; echo late >&2; echo >{}; exec sleep 600) &", gone.display());
    let mut child = sh(&script).spawn().unwrap();
    until("the child is dead", || !alive(&child.id().unwrap().to_string()));
    // The reader learns of the death, and then is busy elsewhere for longer than is left.
    assert!(tokio::time::timeout(Duration::from_millis(50), child.next_chunk()).await.is_err());
    std::fs::write(&go, "").unwrap();
    until("all is written", || gone.exists());
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(collect(&mut child).await, ("late\n".to_owned(), "late\n".to_owned()));
}

#[tokio::test]
async fn dropping_a_child_kills_its_group() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let child = sh(&format!("sleep 600 & echo $! > {}; wait", file.display())).spawn().unwrap();
    let (leader, grandchild) = (child.id().unwrap().to_string(), pid_in(&file));
    drop(child);
    until("both are gone", || !alive(&leader) && !alive(&grandchild));
}

#[tokio::test]
async fn children_outlive_the_thread_that_started_them() {
    let runtime = tokio::runtime::Handle::current();
    let asker = std::thread::spawn(move || {
        let _inside = runtime.enter();
        sh("sleep 0.5; echo alive").spawn().unwrap()
    });
    let mut child = asker.join().unwrap();
    assert_eq!(collect(&mut child).await.0, "alive\n");
}

#[tokio::test]
async fn the_error_explains_why_a_program_could_not_be_started() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script");
    std::fs::write(&script, "#!/nonexistent/interpreter\n").unwrap();
    let start = |program: &str| Command { program: program.into(), ..sh("") }.spawn().unwrap_err();

    assert!(matches!(start("sh"), SpawnError::NotAbsolute { .. }));
    assert!(matches!(start("/proc/nonexistent"), SpawnError::NotFound { .. }));
    assert!(matches!(start(script.to_str().unwrap()), SpawnError::NotExecutable { .. }));
    let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
    std::fs::set_permissions(&script, mode).unwrap();
    assert!(matches!(start(script.to_str().unwrap()), SpawnError::NoInterpreter { .. }));
    std::fs::write(&script, "#!/bin/sh\r\necho hi\r\n").unwrap();
    assert!(matches!(start(script.to_str().unwrap()), SpawnError::CarriageReturn { .. }));
    let long = Command { env: vec![("LONG".to_owned(), "x".repeat(131_067))], ..sh("true") };
    let error = long.spawn().unwrap_err().to_string();
    assert!(error.contains("the variable LONG has 131072 bytes, and Linux takes 131071"), "{error}");
    let error = sh(&"#".repeat(200_000)).spawn().unwrap_err().to_string();
    assert!(error.contains("argument 2 has 200000 bytes"), "{error}");
    let error = Command { current_dir: "/proc/nonexistent".into(), ..sh("") }.spawn().unwrap_err();
    assert!(matches!(error, SpawnError::NoDirectory { .. }), "{error}");
    assert_eq!(error.to_string(), "program `/bin/sh` can't start in `/proc/nonexistent`: no such folder");
}

#[test]
fn run_to_end_collects() {
    let output = run_to_end(sh("echo out; echo err >&2; exit 4"), PATIENCE).unwrap();
    assert_eq!((output.status.code, &*output.stdout, &*output.stderr), (Some(4), &b"out\n"[..], &b"err\n"[..]));
}

#[test]
fn run_to_end_and_run_inherited_stop_at_the_limit() {
    let limit = Duration::from_millis(100);
    let hang = sh("exec sleep 600");
    assert!(matches!(run_inherited(&hang, limit), Err(RunError::Timeout { .. })));
    let error = run_to_end(hang, limit).unwrap_err();
    assert_eq!(error.to_string(), "`/bin/sh` was stopped: it took longer than 0.1 s");
}

#[test]
fn run_inherited_returns_the_status() {
    assert_eq!(run_inherited(&sh("exit 5"), PATIENCE).unwrap().code, Some(5));
}
