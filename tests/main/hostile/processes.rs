//! Processes: the engine and those of other stages, daemons, limits, and the terminal.

use std::os::unix::net::UnixListener;
use std::process::{Child, Stdio};

use super::{fails, holds, log, repository, stage, tries, write_pipeline};
use crate::environment::{Ended, TestEnvironment, binary, eventually, text};

/// A process of the machine, as a target of attacks.
struct Victim(Child);

impl Victim {
    fn new(environment: &TestEnvironment) -> Victim {
        Victim(environment.program("/bin/sleep").arg("600").spawn().expect("a process"))
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().expect("a state").is_none()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The number of processes of the machine with this word in their arguments.
fn running(word: &str) -> usize {
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).split('\0').any(|argument| argument == word)).count()
}

#[test]
fn the_engines_environment_is_not_inherited() {
    let mut environment = repository();
    environment.set("DEPLOY_TOKEN", "hunter2");
    environment.set("GRANTED", "for all");
    let script = r#"
        may grep -q GRANTED=for /proc/self/environ
        never grep -q hunter2 /proc/self/environ
        never sh -c 'cat /proc/[0-9]*/environ | grep -q hunter2'
        never grep . /proc/1/environ
        never test -n "${DEPLOY_TOKEN-}""#;
    tries(&environment, r#"env = ["GRANTED"]"#, script);
}

#[test]
fn processes_of_the_machine_are_neither_seen_nor_reached() {
    let environment = repository();
    let mut victim = Victim::new(&environment);
    let (test, sleeper) = (std::process::id(), victim.0.id());
    let script = format!(
        "sleep 500 & mine=$!
        may kill -0 $mine
        may kill -9 $mine
        never kill -0 {sleeper}
        never kill -9 {sleeper}
        never cat /proc/{test}/cmdline
        never ls /proc/{test}/fd
        never ls /proc/{test}/root
        never cat /proc/{sleeper}/environ
        never tools/hostile trace {sleeper}
        never sh -c 'cat /proc/[0-9]*/cmdline | grep -q [h]ostile::'"
    );
    tries(&environment, "", &script);
    assert!(victim.lives());
}

#[test]
fn a_program_that_kills_all_processes_reaches_none_of_the_machine() {
    let environment = repository();
    let mut victim = Victim::new(&environment);
    // Without a process namespace it would kill processes of the machine.
    let failure = fails(
        &environment,
        "",
        "",
        "grep -q stagewright /proc/1/comm || exit 3; sleep 500 & kill -9 -1; kill -9 1; kill -9 $$",
    );
    assert!(text(&failure["message"]).contains("signal 9"), "{failure:#}");
    assert!(victim.lives());
}

/// A program that could trace it could make it start programs without the restrictions.
#[test]
fn the_process_that_starts_the_programs_cannot_be_looked_into() {
    let environment = repository();
    let script = "
        sleep 500 & mine=$!
        may tools/hostile trace $mine
        may readlink /proc/$mine/fd/0
        never tools/hostile trace 1
        never readlink /proc/1/fd/0
        never cat /proc/1/environ
        never ls /proc/1/root
        never cat /proc/1/maps
        never opens /proc/1/mem
        kill -9 $mine";
    tries(&environment, "", script);
}

#[test]
fn a_secret_of_one_stage_is_in_no_process_list_of_another() {
    let mut environment = repository();
    environment.set("TOKEN", "hunter2-hunter2");
    let holder = r#"
        sh -c 'sleep 500; :' "$TOKEN" & mine=$!
        put out/holding
        may sh -c 'grep -q hunter2-hunter2 /proc/self/environ'
        may sh -c "grep -q hunter2-hunter2 /proc/$mine/cmdline"
        until test -e out/looked; do sleep 0.05; done
        kill -9 $mine; never test -e /tmp/theirs"#;
    let looker = r#"
        until test -e out/holding; do sleep 0.05; done
        may sh -c 'cat /proc/[0-9]*/cmdline > out/all; test -s out/all'
        never sh -c 'cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | grep -q hunter2-[h]unter2'
        put out/looked"#;
    let with = "timeout = \"1m\"";
    let holder = stage("holder", with, "secrets = [\"token\"]", holder).replacen(
        "with = {",
        "with = { secret-env = { TOKEN = \"token\" },",
        1,
    );
    let secret = "[secrets.token]\nfrom = \"env:TOKEN\"\n".to_owned();
    write_pipeline(&environment, &[secret, holder, stage("looker", with, "", looker)]);
    environment.run(&["run", "--jobs", "2"]).exits(0);
    holds(&log(&environment, "holder"));
    holds(&log(&environment, "looker"));
}

#[test]
fn sockets_of_the_machine_are_reached_when_granted_and_not_otherwise() {
    use std::os::linux::net::SocketAddrExt as _;
    let environment = repository();
    let path = environment.root().join("../outside/daemon.sock");
    let path = std::fs::canonicalize(path.parent().expect("a folder")).expect("a folder").join("daemon.sock");
    let _listener = UnixListener::bind(&path).expect("a socket");
    let name = format!("stagewright-hostile-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("a name");
    let _abstract = UnixListener::bind_addr(&address).expect("a socket");
    let path = path.display();
    let script = format!(
        "may test -x tools/hostile
        never tools/hostile socket {path}
        never tools/hostile abstract {name}
        never ls /run/docker.sock
        never ls /var/run/docker.sock
        never ls /run/dbus"
    );
    tries(&environment, "", &script);
    let granted = format!("may tools/hostile socket {path}; never tools/hostile abstract {name}");
    tries(&environment, &format!("socket = [\"{path}\"]"), &granted);
}

#[test]
fn shared_memory_of_the_machine_is_not_there() {
    let environment = repository();
    let made = environment.program("/usr/bin/ipcmk").args(["-M", "4096"]).output().expect("ipcmk");
    let made = String::from_utf8(made.stdout).expect("UTF-8");
    let id = made.trim().rsplit(' ').next().expect("an id").to_owned();
    let table = std::fs::read_to_string("/proc/sysvipc/shm").expect("a table");
    let row = table.lines().find(|line| line.split_whitespace().nth(1) == Some(&id)).expect("the segment");
    let key = row.split_whitespace().next().expect("a key").to_owned();
    let script = format!(
        "may ipcmk -M 4096
        never tools/hostile memory {key}
        never sh -c 'ipcs -m | grep {id}$'"
    );
    let outside = environment.program(env!("CARGO_BIN_EXE_hostile")).args(["memory", &key]).status();
    tries(&environment, "", &script);
    environment.program("/usr/bin/ipcrm").args(["-m", &id]).status().expect("ipcrm");
    assert!(outside.expect("a program").success(), "the segment exists outside the sandbox");
}

/// Session keys are inherited by child processes, regardless of namespaces.
#[test]
fn the_users_kernel_keys_are_not_visible() {
    let environment = repository();
    let program = env!("CARGO_BIN_EXE_hostile");
    write_pipeline(&environment, &[stage("attack", "", "", "may test -x tools/hostile; never tools/hostile key")]);
    let outside = environment.program(program).args(["with-key", program, "key"]).output().expect("a program");
    assert!(outside.status.success(), "the key exists outside the sandbox: {outside:?}");
    let mut run = environment.program(program);
    let run = run.arg("with-key").arg(binary()).arg("run").output().expect("the binary");
    Ended::of(&run).exits(0);
    holds(&log(&environment, "attack"));
}

#[test]
fn only_harmless_devices_exist() {
    let environment = repository();
    // As root this makes a real device in a granted folder.
    let made = environment.program("/usr/bin/mknod").args(["src/zero", "c", "1", "5"]).output().expect("mknod");
    let script = "
        may head -c 1 /dev/urandom
        may put /dev/null
        never mknod out/disk b 8 0
        never mknod out/memory c 1 1
        never ls /dev/mem
        never ls /dev/kmsg
        never sh -c 'ls /dev | grep -E \"^(sd|vd|nvme|loop|kvm|fuse|net|mapper|dri)\"'";
    let device = if made.status.success() { "\nnever head -c 1 src/zero" } else { "" };
    tries(&environment, "", &format!("{script}{device}"));
}

#[test]
fn the_sandbox_cannot_be_taken_apart_from_within() {
    let environment = repository();
    let script = "
        mkdir -p out/here
        may ls /etc/passwd
        never mount -t tmpfs none out/here
        never mount --bind / out/here
        never mount -o remount,rw src
        never mount -t proc none out/here
        never umount src
        never umount -l /
        never umount .git
        never unshare -U true
        never unshare -Ur true
        never unshare -m true
        never unshare -n true
        never unshare -p -f true
        never nsenter -t 1 -m true
        never chroot out true
        never hostname changed";
    tries(&environment, "", script);
}

#[test]
fn no_program_gains_privileges_from_its_file() {
    let environment = repository();
    let script = r#"
        status() { grep -q "^$1:[[:space:]]*$2\$" /proc/self/status; }
        may status NoNewPrivs 1
        # Bits 0, 1, 3, 4, 5, 6, 7 and 10 at most: files, signals, users, low ports.
        bounded() { set -- $(grep "^$1:" /proc/self/status); test $((0x$2 & ~0x4fb)) -eq 0; }
        may bounded CapEff
        may bounded CapPrm
        may bounded CapBnd
        may bounded CapInh
        may bounded CapAmb
        mounts() { while read -r _ _ _ _ place options _; do echo "$place $options"; done < /proc/self/mountinfo; }
        # A single device is no program.
        without_nosuid() { mounts | grep -v -e nosuid -e '^/dev/[a-z]* ' | grep .; }
        may sh -c 'grep -q nosuid /proc/self/mountinfo'
        never without_nosuid"#;
    tries(&environment, "", script);
}

#[test]
fn kernel_settings_cannot_be_written() {
    let environment = repository();
    let script = "
        may cat /proc/sys/kernel/osrelease
        never opens /proc/sys/kernel/core_pattern
        never opens /proc/sys/kernel/hostname
        never opens /proc/sys/vm/drop_caches
        never opens /proc/sys/user/max_user_namespaces
        never opens /proc/sysrq-trigger
        never opens /sys/fs/cgroup/cgroup.procs
        never mkdir /sys/fs/cgroup/mine
        never opens /sys/kernel/mm/transparent_hugepage/enabled
        never renice -n -5 $$";
    let before = std::fs::read_to_string("/proc/sys/kernel/core_pattern").expect("a setting");
    tries(&environment, "", script);
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/core_pattern").expect("a setting"), before);
}

/// Process ids are reused, except that the kernel leaves out those below 300 after a wraparound.
#[test]
fn the_process_limit_counts_concurrent_processes_only() {
    let environment = repository();
    let script = "n=0; while [ $n -lt 700 ]; do n=$((n + 1)); /bin/true & /bin/true & wait; done; echo ran $n";
    let limits = "limits = { processes = 40 }\ntimeout = \"1m\"";
    write_pipeline(&environment, &[stage("attack", limits, "", script)]);
    environment.run(&["run"]).exits(0);
    assert!(log(&environment, "attack").contains("ran 700"));
}

#[test]
fn a_fork_bomb_ends_with_its_stage_and_the_machine_lives() {
    let environment = repository();
    let word = format!("bomb-{}", std::process::id());
    environment.write("src/bomb", "sh src/bomb \"$1\" & sh src/bomb \"$1\" & sleep 600\n");
    let limits = "limits = { processes = 40 }\ntimeout = \"1m\"";
    let failure = fails(&environment, limits, "", &format!("sh src/bomb {word}"));
    // For users other than root the kernel has a limit as well, which the shells may reach first.
    let stopped = failure["kind"] == "limit" && text(&failure["message"]).contains("40 processes");
    assert!(stopped || log(&environment, "attack").contains("annot fork"), "{failure:#}");
    eventually("the bomb is gone", || (running(&word) == 0).then_some(()));
    write_pipeline(&environment, &[stage("attack", limits, "", "for i in 1 2 3; do sleep 0.1 & done; wait")]);
    environment.run(&["run"]).exits(0);
}

#[test]
fn a_daemon_ends_with_its_stage() {
    let environment = repository();
    let word = format!("daemon-{}", std::process::id());
    let script = format!(
        "setsid sh -c 'trap \"\" TERM HUP INT; put() {{ echo up > out/up; }}; put; while :; do sleep 1; done' {word} \
         < /dev/null > /dev/null 2>&1 &
         until test -e out/up; do sleep 0.05; done"
    );
    write_pipeline(&environment, &[stage("attack", "", "", &script)]);
    environment.run(&["run"]).exits(0);
    assert_eq!(environment.read("out/up"), "up\n");
    eventually("the daemon is gone", || (running(&word) == 0).then_some(()));
}

#[test]
fn a_program_that_ignores_signals_ends_with_its_timeout() {
    let environment = repository();
    let word = format!("deaf-{}", std::process::id());
    let script = format!("sh -c 'trap \"\" TERM HUP INT; while :; do sleep 1; done' {word}");
    let failure = fails(&environment, "timeout = \"1s\"", "", &script);
    assert_eq!(failure["kind"], "timeout", "{failure:#}");
    eventually("the program is gone", || (running(&word) == 0).then_some(()));
}

#[test]
fn processes_beyond_a_limit_are_stopped() {
    let environment = repository();
    for spin in ["(while :; do :; done) & (while :; do :; done) & wait", "while :; do :; done"] {
        let failure = fails(&environment, "limits = { cpu = \"2s\" }\ntimeout = \"2m\"", "", spin);
        assert_eq!(failure["kind"], "limit", "{failure:#}");
        assert!(text(&failure["message"]).contains("CPU"), "{failure:#}");
    }

    let eat = "limits = { process-memory = \"256MiB\", workspace = \"1MiB\", processes = 500, cpu = \"1m\" }";
    // The kernel's own limits may apply first. Core dumps are limited as well, because they contain the program's memory.
    let script = "
        may grep -q 'Max core file size  *0  *0 ' /proc/self/limits
        may grep -q 'Max processes  *500  *500 ' /proc/self/limits
        may grep -q 'Max cpu time  *62  *62 ' /proc/self/limits
        may sh -c 'head -c 1000000 /dev/zero | tail -c 1000000 > /dev/null'
        never sh -c 'head -c 1000000000 /dev/zero | tail -c 1000000000 > /dev/null'
        may sh -c 'head -c 1000000 /dev/zero > out/small'
        never sh -c 'head -c 10000000 /dev/zero > out/large'";
    write_pipeline(&environment, &[stage("attack", eat, "", script)]);
    environment.run(&["run"]).exits(0);
    holds(&log(&environment, "attack"));
    assert!(environment.root().join("out/large").metadata().expect("a file").len() <= 1024 * 1024);
}

#[test]
fn endless_logs_are_truncated() {
    let environment = repository();
    let bound = "log-limit = \"64KiB\"\ntimeout = \"1m\"";
    for script in ["yes", "cat /dev/zero | tr '\\000' x", "yes >&2"] {
        let failure = fails(&environment, bound, "", script);
        assert_eq!(failure["kind"], "log-limit", "{script}: {failure:#}");
        assert!(text(&failure["message"]).contains("64KiB"), "{failure:#}");
    }
    write_pipeline(&environment, &[stage("attack", bound, "", "seq 1000")]);
    environment.run(&["run"]).exits(0);
    assert!(log(&environment, "attack").contains("1000\n"));
}

/// Output of programs is shown on terminals, which execute control sequences.
#[test]
fn a_programs_output_cannot_command_the_terminal() {
    let environment = repository();
    let script = r#"
        printf '\033]0;title\007one\n'
        printf '\033]52;c;aHVudGVyMg==\007two\n'
        printf '\033[2J\033[Hthree\n'
        printf '\033[1A\033[2Kfour\n'
        printf 'all is lost\rfive\n'
        printf '\302\2332Jsix\n'
        printf '\033P$q\033\\seven\n' >&2
        printf 'eight\b\b\b\b\bnine\n'
        printf '\342\200\256ten\n'
        printf '\033]8;;https://attacker.test\033\\eleven\033]8;;\033\\\n'"#;
    write_pipeline(&environment, &[stage("attack", "", "", script)]);
    let ended = environment.run(&["run"]).exits(0);
    let plain = ended.stdout + &ended.stderr;
    let kept = log(&environment, "attack");
    for shown in [plain, kept] {
        for word in ["one", "two", "three", "four", "five", "six", "seven", "nine", "ten", "eleven"] {
            assert!(shown.contains(word), "{word} is missing: {shown:?}");
        }
        let controls = |letter: &char| letter.is_control() && !"\n\t".contains(*letter);
        let found = shown.chars().filter(|letter| controls(letter) || *letter == '\u{202e}').collect::<String>();
        assert_eq!(found, "", "{shown:?}");
    }
}

#[test]
fn a_program_cannot_inject_input_into_the_terminal() {
    let environment = repository();
    let script = "
        may sh -c 'exec 3> /dev/pts/ptmx'
        never sh -c 'exec 3<> /dev/tty'
        never tools/hostile type
        # The seventh field is the terminal that the session belongs to.
        may sh -c 'set -- $(cat /proc/self/stat); test $7 -eq 0'
        never test -t 0
        never test -t 1
        never sh -c 'ls /dev/pts | grep [0-9]'";
    write_pipeline(&environment, &[stage("attack", "", "", script)]);
    // The run has its own terminal.
    let mut run = environment.program("/usr/bin/script");
    let command = format!("{} run", binary().display());
    let run = run.args(["-qec", &command, "/dev/null"]).stdout(Stdio::piped()).output().expect("a terminal");
    Ended::of(&run).exits(0);
    holds(&log(&environment, "attack"));
}

#[test]
fn a_program_inherits_no_descriptors_of_the_engine() {
    let environment = repository();
    write_pipeline(&environment, &[stage("attack", "", "", "exec tools/hostile descriptors")]);
    // Descriptors that the engine inherited aren't open either.
    let mut run = environment.program("/bin/sh");
    run.args(["-c", "exec 7< ../outside/prize; exec \"$0\" run"]).arg(binary());
    Ended::of(&run.output().expect("a shell")).exits(0);
    let said = log(&environment, "attack");
    assert!(said.starts_with("3 open: ") && said.matches("pipe:").count() == 2, "{said}");
}
