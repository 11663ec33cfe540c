//! Ways out of a sandbox that namespaces don't close: Unix sockets by path, socket families, other system call interfaces,
//! and files that would later run with the engine user's rights.

use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use super::{fails, holds, log, repository, stage, tries, with_own_mounts, write_pipeline};
use crate::environment::{Ended, TestEnvironment, binary, text};

fn real_root(environment: &TestEnvironment) -> std::path::PathBuf {
    std::fs::canonicalize(environment.root()).expect("a folder")
}

/// Checks that a service of this machine got no connection.
#[track_caller]
fn is_untouched(listener: &UnixListener) {
    listener.set_nonblocking(true).expect("a socket");
    assert_eq!(listener.accept().expect_err("a connection").kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_service_in_a_granted_folder_is_not_granted_with_it() {
    let environment = repository();
    let bind = |path: &str| UnixListener::bind(environment.root().join(path)).expect("a socket");
    let services = [bind("src/a.sock"), bind("out/a.sock"), bind("../outside/a.sock")];
    let datagrams = UnixDatagram::bind(environment.root().join("src/log")).expect("a socket");
    symlink("../src/a.sock", environment.root().join("out/link")).expect("a link");
    std::fs::hard_link(environment.root().join("out/a.sock"), environment.root().join("out/twice")).expect("a link");
    let script = r#"
        may hostile own out/own.sock
        may hostile own "$PWD/out/own.sock"
        may hostile own /tmp/own.sock
        may hostile own "/proc/self/cwd/out/own.sock"
        may hostile own "$HOME/own.sock"
        may hostile pairs
        never hostile socket src/a.sock
        never hostile socket "$PWD/src/../src/a.sock"
        never hostile socket /proc/self/cwd/src/a.sock
        never hostile socket out/a.sock
        never hostile socket out/link
        never hostile socket out/twice
        ln -s "$PWD/src/a.sock" /tmp/door
        never hostile socket /tmp/door
        mv out/a.sock out/moved
        never hostile socket out/moved
        never hostile socket ../outside/a.sock
        never hostile seqpacket src/a.sock
        never hostile datagram src/log"#;
    tries(&environment, "", script);
    services.iter().for_each(is_untouched);
    datagrams.set_nonblocking(true).expect("a socket");
    assert!(datagrams.recv(&mut [0; 10]).is_err(), "a message came through");
}

#[test]
fn a_service_that_begins_to_listen_later_is_not_reached_either() {
    let environment = repository();
    let root = environment.root();
    let service = std::thread::spawn(move || {
        let ready = root.join("out/ready");
        while !ready.exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let services =
            ["src/late.sock", "out/late.sock"].map(|path| UnixListener::bind(root.join(path)).expect("a socket"));
        std::fs::write(root.join("out/go"), "").expect("a file");
        services
    });
    let script = r#"
        may hostile own out/late.sock
        put out/ready
        until test -e out/go; do sleep 0.02; done
        never hostile socket src/late.sock
        never hostile socket out/late.sock"#;
    tries(&environment, "", script);
    service.join().expect("a service").iter().for_each(is_untouched);
}

/// The path and the descriptor change while the engine checks them. It must connect to what it has checked.
#[test]
fn a_path_that_flips_between_sockets_never_reaches_the_service() {
    let environment = repository();
    let service = UnixListener::bind(environment.root().join("out/a.sock")).expect("a socket");
    let script = r#"
        (until test -e out/stop; do ln -sfn a.sock out/door; ln -sfn own.sock out/door; done) &
        hostile listen out/own.sock out/stop &
        until test -e out/own.sock; do sleep 0.02; done
        may hostile connects out/door 400
        put out/stop; wait
        never hostile socket out/a.sock"#;
    // A connection to the service would block, because the service doesn't accept it.
    write_pipeline(&environment, &[stage("attack", "timeout = \"1m\"", "", script)]);
    environment.run(&["run"]).exits(0);
    holds(&log(&environment, "attack"));
    is_untouched(&service);
}

#[test]
fn a_refused_connection_is_in_the_log_and_in_the_journal_with_its_remedy() {
    let environment = repository();
    let _service = UnixListener::bind(environment.root().join("src/a.sock")).expect("a socket");
    let pipeline = [stage("attack", "", "", "never hostile socket src/a.sock; never hostile socket src/a.sock")];
    write_pipeline(&environment, &pipeline);
    let (code, events) = environment.events(&["run"]);
    assert_eq!(code, 0, "{events:#?}");
    let path = real_root(&environment).join("src/a.sock");
    let found = events.iter().map(ToString::to_string).filter(|event| event.contains("permission-denied"));
    let found = found.collect::<Vec<_>>();
    assert_eq!(found.len(), 1, "{found:#?}");
    let denial = format!("the stage may not connect to the socket {}", path.display());
    assert!(found[0].contains(&denial) && found[0].contains("socket = ["), "{found:#?}");
    assert!(log(&environment, "attack").contains(&denial));
}

/// A stage that may write the folder of a granted socket could replace it by a link to another one.
#[test]
fn a_granted_socket_is_not_reached_through_a_link_of_the_workspace() {
    let environment = repository();
    let root = real_root(&environment);
    let outside = std::fs::canonicalize(root.join("../outside")).expect("a folder");
    let (granted, other) = (root.join("out/daemon.sock"), outside.join("other.sock"));
    let socket = |path: &Path| format!("socket = [\"{}\"]", path.display());
    let own = UnixListener::bind(&granted).expect("a socket");
    let service = UnixListener::bind(&other).expect("a socket");
    tries(
        &environment,
        &socket(&granted),
        "may hostile socket out/daemon.sock; never hostile socket ../outside/other.sock",
    );
    drop(own);
    std::fs::remove_file(&granted).expect("a file");
    let turn = format!(
        "ln -s {} out/daemon.sock; may test -L out/daemon.sock; never test -e out/daemon.sock",
        other.display()
    );
    tries(&environment, "", &turn);
    let failure = fails(&environment, "", &socket(&granted), "hostile socket out/daemon.sock");
    let message = text(&failure["message"]);
    assert!(message.contains("which a stage could have made") && message.contains("out/daemon.sock"), "{failure:#}");
    is_untouched(&service);
    let failure = fails(&environment, "", &socket(&outside.join("prize")), "true");
    assert!(text(&failure["message"]).contains("is not a socket"), "{failure:#}");
    // A link of the machine itself, which `/var/run/docker.sock` often is.
    symlink(&other, outside.join("link.sock")).expect("a link");
    let script = "may hostile socket ../outside/link.sock; never hostile socket out/daemon.sock/x";
    tries(&environment, &socket(&outside.join("link.sock")), script);
}

/// Inode numbers are unique only within a file system.
#[test]
fn a_socket_with_the_inode_of_a_granted_one_on_another_file_system_is_not_granted() {
    let environment = repository();
    let root = real_root(&environment);
    let outside = std::fs::canonicalize(root.join("../outside")).expect("a folder");
    let granted = format!("socket = [\"{}\"]", outside.join("one/a.sock").display());
    let script = "may hostile socket ../outside/one/a.sock; never hostile socket src/two/a.sock";
    write_pipeline(&environment, &[stage("attack", "", &granted, script)]);
    let mounts = "trap 'touch stop' EXIT
        for folder in ../outside/one src/two; do
          mkdir $folder; mount -t tmpfs tmpfs $folder
          tools/hostile listen $folder/a.sock stop > /dev/null 2>&1 &
          until test -S $folder/a.sock; do sleep 0.02; done
        done
        test $(stat -c %i ../outside/one/a.sock) = $(stat -c %i src/two/a.sock)
        $S run";
    with_own_mounts(&environment, mounts).exits(0);
    holds(&log(&environment, "attack"));
}

#[test]
fn families_that_no_network_namespace_covers_and_other_ways_to_call_the_kernel_are_closed() {
    let environment = repository();
    let script = r#"
        may hostile family 1 0
        may hostile family 2 0
        may hostile family 10 0
        may hostile netlink 0
        never hostile netlink 4
        never hostile netlink 15
        never hostile netlink 16
        never hostile ring
        never hostile old-abi"#;
    // Bluetooth, packets, CAN, TIPC, ALG, NFC, vsock, KCM, XDP.
    let families = [17, 29, 30, 31, 38, 39, 40, 41, 43, 44].map(|family| format!("never hostile family {family} 0"));
    tries(&environment, "", &[script.to_owned(), families.join("\n")].join("\n"));
    let said = log(&environment, "attack");
    assert_eq!(said.matches("(os error 97)").count(), families.len(), "AF_… isn't supported:\n{said}");
}

/// With root as the engine's user, it would run as root for every user of the machine.
#[test]
fn no_set_user_id_files_can_be_left() {
    let environment = repository();
    let script = r#"
        put out/tool
        may hostile set-id plain out/tool
        may chmod 755 out/tool
        for how in chmod chmod-group chmod-garbage fchmod fchmodat2 old-chmod; do never hostile set-id $how out/tool; done
        for how in open temporary openat2 mknod old-open old-creat old-mknod; do never hostile set-id $how out/$how; done
        never chmod 4755 out/tool
        never chmod u+s out/tool
        never chmod g+s out
        never mkdir -m 2755 out/folder
        never install -m 4755 out/tool out/installed
        never cp -p /usr/bin/su out/su"#;
    tries(&environment, "", script);
    let mut left = vec![environment.root().join("out")];
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
            let mode = entry.metadata().expect("metadata").permissions().mode();
            assert_eq!(mode & 0o6000, 0, "{} has mode {mode:o}", entry.path().display());
            if entry.path().is_dir() {
                left.push(entry.path());
            }
        }
    }
}

#[test]
fn a_hard_link_by_a_descriptor_does_not_lead_out_of_a_granted_folder() {
    let environment = repository();
    let script = r#"
        may hostile link out/mine out/again
        may cmp out/mine out/again
        never hostile link src/open out/open
        never hostile link /etc/passwd out/passwd
        never hostile link /proc/self/exe out/exe"#;
    tries(&environment, "", script);
}

/// In a container that allows namespaces, and on a machine that forbids them.
#[test]
fn a_surrounding_user_namespace_suffices_and_a_machine_without_them_is_refused() {
    let environment = repository();
    write_pipeline(&environment, &[stage("attack", "", "", "may hostile own out/own.sock; never hostile ring")]);
    let within = |before: &str| {
        let script = format!("{before} exec {} run", binary().display());
        let args = ["--user", "--map-root-user", "--mount", "sh", "-c", &script];
        Ended::of(&environment.program("unshare").args(args).output().expect("unshare starts"))
    };
    within("").exits(0);
    holds(&log(&environment, "attack"));
    let refused = within("echo 0 > /proc/sys/user/max_user_namespaces &&");
    assert_ne!(refused.code, 0);
    for words in ["can't make a user namespace", "sysctl user.max_user_namespaces", "sandbox = \"preferred\""] {
        assert!(refused.stderr.contains(words), "{}", refused.stderr);
    }
}

/// The engine's memory has secrets, and so would a core dump.
#[test]
fn the_engine_writes_no_core_dump() {
    let environment = repository();
    write_pipeline(&environment, &[stage("waits", "", "", "put out/ready; sleep 600")]);
    let mut engine = environment.start(&["run"]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !environment.root().join("out/ready").exists() {
        assert!(Instant::now() < deadline, "the stage didn't start");
        std::thread::sleep(Duration::from_millis(20));
    }
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", engine.id())).expect("limits");
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).expect("a limit");
    assert_eq!(limit.split_whitespace().next(), Some("0"), "{limits}");
    // The limit isn't the only protection.
    let process = i32::try_from(engine.id()).ok().and_then(Pid::from_raw).expect("a process");
    let _ = prlimit(Some(process), Resource::Core, Rlimit { current: None, maximum: None });
    kill_process(process, Signal::ABORT).expect("a signal");
    let status = engine.wait().expect("the engine ends");
    assert_eq!((status.signal(), status.core_dumped()), (Some(libc::SIGABRT), false));
}

/// Writing to the granted folder would also change the file outside, so `plan` warns.
#[test]
fn plan_warns_of_a_hard_link_to_the_outside() {
    let environment = repository();
    let root = environment.root();
    std::fs::hard_link(root.join("out/mine"), root.join("out/again")).expect("a link");
    write_pipeline(&environment, &[stage("attack", "", "", "true")]);
    assert!(!environment.run(&["plan"]).exits(0).stdout.contains("hard link"), "a file with two names within");
    std::fs::hard_link(root.join("closed"), root.join("out/door")).expect("a link");
    let shown = environment.run(&["plan"]).exits(0).stdout;
    assert!(shown.contains("`out/door` is a hard link to a file outside of what the stage may write"), "{shown}");
    assert!(environment.run(&["plan", "--json"]).exits(0).stdout.contains("`out/door` is a hard link"));
}

/// A tree that is deeper than the longest path, and folders without permissions for their owner.
#[test]
fn scratch_folders_are_removed_whatever_they_contain() {
    let environment = repository();
    let script = r#"
        may mkdir -p /tmp/closed/below "$HOME/closed/below"
        chmod 000 /tmp/closed "$HOME/closed"
        may hostile deep /tmp/deep 3000
        never test -e out/deep"#;
    write_pipeline(&environment, &[stage("attack", "", "", script)]);
    // Fewer descriptors than levels.
    let run = format!("ulimit -n 512 && exec {} run", binary().display());
    Ended::of(&environment.program("sh").args(["-c", &run]).output().expect("sh starts")).exits(0);
    holds(&log(&environment, "attack"));
    // The engine doesn't wait for the process that removes it.
    let left = || std::fs::read_dir(environment.root().join(".stagewright/scratch")).into_iter().flatten().count();
    let deadline = Instant::now() + Duration::from_secs(60);
    while left() > 0 {
        assert!(Instant::now() < deadline, "a scratch folder is left");
        std::thread::sleep(Duration::from_millis(20));
    }
}
