//! Real programs in real sandboxes. They need a kernel with user namespaces and Landlock.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use stagewright_process::sandbox::{
    Access, Confinement, Exceeded, GrantedSocket, Maker, Place, Refusal, Sandbox, SandboxLimits, Source, StartError,
    system,
};
use stagewright_process::{Child, Command, ExitStatus, Source as Stream};
use tempfile::TempDir;

use crate::{sh, until};

const EXE: &str = env!("CARGO_BIN_EXE_stagewright-sandbox");

/// A workspace with a folder to read and a folder to write, and a place outside of it.
pub(crate) struct World {
    _keep: TempDir,
    pub(crate) work: PathBuf,
    outside: PathBuf,
    pub(crate) confinement: Confinement,
}

pub(crate) fn world() -> World {
    world_in(tempfile::tempdir().unwrap())
}

fn world_in(keep: TempDir) -> World {
    let root = fs::canonicalize(keep.path()).unwrap();
    let [work, outside, scratch] = ["work", "outside", "scratch"].map(|name| root.join(name));
    for folder in [work.join("src"), work.join("out"), outside.clone(), scratch.join("tmp")] {
        fs::create_dir_all(folder).unwrap();
    }
    fs::write(work.join("src/open"), "for all\n").unwrap();
    fs::write(work.join("closed"), "confidential\n").unwrap();
    fs::write(outside.join("secret"), "hunter2\n").unwrap();
    let (mut places, rules) = system(&scratch);
    places.push(Place { path: work.clone(), source: Source::Nothing, access: None });
    for (name, access) in [("src", Access::Read), ("out", Access::Write), ("absent", Access::Read)] {
        let source = Source::Below(work.clone(), name.into());
        places.push(Place { path: work.join(name), source, access: Some(access) });
    }
    let limits = SandboxLimits { processes: Some(200), ..SandboxLimits::default() };
    World {
        _keep: keep,
        work,
        outside,
        confinement: Confinement { scratch, places, rules, limits, ..Confinement::default() },
    }
}

impl World {
    /// A scratch folder serves one sandbox.
    fn renew(&self) {
        until("the scratch folder is gone", || !self.confinement.scratch.exists());
        fs::create_dir_all(self.confinement.scratch.join("tmp")).unwrap();
    }

    pub(crate) fn sandbox(&self) -> Sandbox {
        Maker::new(EXE).sandbox(&self.confinement).unwrap()
    }

    pub(crate) fn command(&self, script: &str) -> Command {
        Command { current_dir: self.work.clone(), ..sh(script) }
    }
}

/// Returns the output of both streams together, and the exit status.
pub(crate) async fn finish(mut child: Child) -> (String, ExitStatus) {
    let mut output = Vec::new();
    while let Some((_, data)) = child.next_chunk().await {
        output.extend(data);
    }
    (String::from_utf8_lossy(&output).into_owned(), child.wait().await.unwrap())
}

async fn says(world: &World, script: &str) -> (String, ExitStatus) {
    let sandbox = world.sandbox();
    let said = finish(sandbox.spawn(world.command(script)).unwrap()).await;
    sandbox.end().await;
    said
}

#[tokio::test]
async fn only_granted_access_is_allowed() {
    let world = world();
    let script = format!(
        "cat src/open; echo made > out/new; cat out/new
         cat closed; echo x > src/open; echo x > new; cat {}/secret; chmod 777 src/open; ls /root /home
         cat /etc/shadow; cat /etc/passwd > /dev/null && echo public; mktemp > /dev/null && echo scratch
         echo core > /proc/sys/kernel/core_pattern; mkdir /x; ls -d /etc",
        world.outside.display()
    );
    let (said, status) = says(&world, &script).await;
    assert!(status.success(), "{said}");
    for word in ["for all", "made", "public", "scratch"] {
        assert!(said.contains(word), "{word} is not in {said}");
    }
    for word in ["confidential", "hunter2", "root:"] {
        assert!(!said.contains(word), "{word} is in {said}");
    }
    assert_eq!(said.matches("Permission denied").count() + said.matches("Read-only").count(), 6, "{said}");
    assert_eq!(fs::read_to_string(world.work.join("src/open")).unwrap(), "for all\n");
    assert_eq!(fs::read_to_string(world.work.join("out/new")).unwrap(), "made\n");
    until("the scratch folder is gone", || !world.confinement.scratch.exists());
}

#[tokio::test]
async fn programs_see_only_processes_of_their_sandbox() {
    let world = world();
    let sandbox = world.sandbox();
    let mut daemon = sandbox.spawn(world.command("echo up; exec sleep 600")).unwrap();
    assert_eq!(daemon.next_chunk().await.unwrap(), (Stream::Stdout, b"up\n".to_vec()));
    let script = format!(
        "ps() {{ for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done; }}
         ps; cat /proc/1/environ; ls /proc/{}/fd; kill -9 1; echo still here",
        std::process::id()
    );
    let (said, status) = finish(sandbox.spawn(world.command(&script)).unwrap()).await;
    assert!(status.success() && said.contains("sleep 600") && said.contains("still here"), "{said}");
    assert!(!said.contains("nextest") && !said.contains("PATH="), "{said}");
    daemon.interrupt();
    assert_eq!(daemon.wait().await.unwrap().signal, Some(15));
}

#[tokio::test]
async fn lookups_reach_the_engine_and_addresses_without_a_route_are_reported() {
    let mut world = world();
    world.confinement.name_server = true;
    let mut sandbox = world.sandbox();
    let (names, mut refusals) = (sandbox.name_server().unwrap(), sandbox.refusals().unwrap());
    names.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let script = "printf lookup > /dev/udp/127.0.0.1/53; (exec 3<>/dev/tcp/192.0.2.7/5432) 2>&1
        (exec 3<>/dev/tcp/127.0.0.1/5432) 2>&1; (exec 3<>/dev/tcp/2001:db8::7/80) 2>&1; :";
    let command = Command { program: "/bin/bash".into(), args: vec!["-c".into(), script.into()], ..world.command("") };
    let (said, _) = finish(sandbox.spawn(command).unwrap()).await;
    let mut query = [0; 16];
    let length = names.recv(&mut query).unwrap();
    assert_eq!(&query[..length], b"lookup", "{said}");
    for address in ["192.0.2.7:5432", "[2001:db8::7]:80"] {
        assert_eq!(refusals.recv().await, Some(Refusal::Address(address.parse().unwrap())), "{said}");
    }
    sandbox.end().await;
}

#[tokio::test]
async fn there_is_no_network_but_the_listeners_of_the_engine() {
    let mut world = world();
    let host = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    world.confinement.listeners = vec!["127.0.0.1:0".parse().unwrap()];
    let mut sandbox = world.sandbox();
    let [inside] = <[_; 1]>::try_from(sandbox.listeners()).unwrap();
    let script = format!(
        "try() {{ (exec 3<>/dev/tcp/$1/$2 && echo open $3) 2>&1; }}
         try 127.0.0.1 {} host; try 127.0.0.1 {} engine; try 169.254.169.254 80 metadata
         (echo x > /dev/udp/10.255.255.53/53 && echo open dns) 2>&1; cat /proc/net/dev",
        host.local_addr().unwrap().port(),
        inside.local_addr().unwrap().port()
    );
    let command = Command {
        program: "/bin/bash".into(),
        args: vec!["-c".into(), script],
        current_dir: world.work.clone(),
        ..Command::default()
    };
    let (said, _) = finish(sandbox.spawn(command).unwrap()).await;
    assert!(said.contains("open engine"), "{said}");
    assert!(!said.contains("open host") && !said.contains("open metadata") && !said.contains("open dns"), "{said}");
    assert_eq!(
        said.lines().filter(|line| line.contains(": ")).filter(|line| line.contains("lo:")).count(),
        1,
        "{said}"
    );
    assert!(inside.accept().is_ok());
}

#[tokio::test]
async fn daemons_inside_end_with_the_sandbox() {
    let world = world();
    let sandbox = world.sandbox();
    // A daemon as they come: another session, no parent, no pipes.
    let script = "setsid sh -c 'trap \"\" TERM HUP INT; echo $$ > out/inside; exec sleep 600' \
                  < /dev/null > /dev/null 2>&1 & while ! test -s out/inside; do sleep 0.01; done";
    let (_, status) = finish(sandbox.spawn(world.command(script)).unwrap()).await;
    assert!(status.success());
    let sleepers = || {
        let all = fs::read_dir("/proc").unwrap().flatten();
        let lines = all.filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok());
        lines.filter(|line| line == "sleep\x00600\x00").count()
    };
    let before = sleepers();
    assert!(before > 0);
    sandbox.end().await;
    until("the daemon is dead", || sleepers() < before);
}

/// The sandbox goes on for the stage's next program.
#[tokio::test]
async fn what_a_program_leaves_in_its_group_ends_with_it() {
    let world = world();
    let sandbox = world.sandbox();
    let leave = "sleep 600 < /dev/null > /dev/null 2>&1 & echo $! > out/left";
    assert!(finish(sandbox.spawn(world.command(leave)).unwrap()).await.1.success());
    let look = "for i in $(seq 100); do kill -0 $(cat out/left) 2> /dev/null || exit 0; sleep 0.05; done; exit 1";
    assert!(finish(sandbox.spawn(world.command(look)).unwrap()).await.1.success(), "it lives on");
}

#[tokio::test]
async fn a_killed_maker_is_replaced_and_its_sandboxes_keep_running() {
    let (one, other) = (world(), world());
    let maker = Maker::new(EXE);
    let sandbox = maker.sandbox(&one.confinement).unwrap();
    let first = parts_below(std::process::id());
    kill_process(first[0], Signal::KILL);
    until("it is gone", || parts_below(std::process::id()).is_empty());
    let (said, _) = finish(maker.sandbox(&other.confinement).unwrap().spawn(other.command("echo up")).unwrap()).await;
    assert_eq!(said, "up\n");
    drop(maker);
    until("the makers are gone", || parts_below(std::process::id()).is_empty());
    let (said, status) = finish(sandbox.spawn(one.command("echo still up")).unwrap()).await;
    assert!(status.success() && said == "still up\n", "{said}");
}

/// Processes of sandboxes that a process has started: a maker, or its keepers.
fn parts_below(parent: u32) -> Vec<u32> {
    let numbers = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_part = |number: &u32| {
        let status = fs::read_to_string(format!("/proc/{number}/status")).unwrap_or_default();
        status.starts_with("Name:\tstagewright-san\n")
            && status.contains(&format!("PPid:\t{parent}\n"))
            && !status.contains("State:\tZ")
    };
    numbers.filter(is_part).collect()
}

fn kill_process(number: u32, signal: Signal) {
    rustix::process::kill_process(Pid::from_raw(number.cast_signed()).unwrap(), signal).unwrap();
}

/// The keeper removes the scratch folder, so the sandbox must not outlive it.
#[tokio::test]
async fn all_processes_inside_end_with_the_keeper() {
    let world = world();
    let maker = Maker::new(EXE);
    let sandbox = maker.sandbox(&world.confinement).unwrap();
    let mut child = sandbox.spawn(world.command("echo up; exec sleep 600")).unwrap();
    assert_eq!(child.next_chunk().await.unwrap(), (Stream::Stdout, b"up\n".to_vec()));
    let keeper = parts_below(parts_below(std::process::id())[0])[0];
    kill_process(keeper, Signal::KILL);
    let ended = tokio::time::timeout(Duration::from_secs(10), child.wait()).await;
    assert!(ended.expect("it ends").is_err(), "it ended with its sandbox");
}

#[tokio::test]
async fn exceeding_a_limit_ends_the_sandbox() {
    let mut bounded = world();
    bounded.confinement.limits =
        SandboxLimits { processes: Some(20), file_size: Some(4096), ..SandboxLimits::default() };
    let sandbox = bounded.sandbox();
    let child = sandbox.spawn(bounded.command("for i in $(seq 100); do sleep 600 & done; sleep 600")).unwrap();
    let mut exceeded = sandbox.exceeded();
    assert_eq!(*exceeded.wait_for(Option::is_some).await.unwrap(), Some(Exceeded::Processes(20)));
    let mut child = child;
    assert!(child.wait().await.is_err(), "it ended with its sandbox");

    bounded.renew();
    let (said, status) = says(&bounded, "head -c 8192 /dev/zero > out/large; stat -c %s out/large").await;
    assert!(said.contains("4096"), "{said} {status}");

    // Several programs, a single one, and one whose name the kernel shows as bytes that are no text.
    let named = "cp /bin/sh out/$(printf 's\\377'); exec out/$(printf 's\\377') -c 'while :; do :; done'";
    for spin in ["for i in 1 2 3; do (while :; do :; done) & done; wait", "while :; do :; done", named] {
        let mut world = world();
        world.confinement.limits = SandboxLimits { cpu: Some(Duration::from_millis(1500)), ..SandboxLimits::default() };
        let sandbox = world.sandbox();
        let _child = sandbox.spawn(world.command(spin)).unwrap();
        let mut exceeded = sandbox.exceeded();
        let exceeded = tokio::time::timeout(Duration::from_secs(20), exceeded.wait_for(Option::is_some)).await;
        assert_eq!(*exceeded.expect("it is stopped").unwrap(), Some(Exceeded::Cpu(1500)), "{spin}");
    }
}

/// The periodic check may miss short-lived processes.
#[tokio::test]
async fn the_time_of_processes_that_have_ended_counts() {
    let turns = "sh -c 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done'";
    // They are collected by a program that lives on, or by init.
    for script in [format!("while :; do {turns}; done"), format!("while :; do (setsid {turns} &); sleep 0.03; done")] {
        let mut world = world();
        world.confinement.limits = SandboxLimits { cpu: Some(Duration::from_secs(1)), ..SandboxLimits::default() };
        let sandbox = world.sandbox();
        let _child = sandbox.spawn(world.command(&script)).unwrap();
        let mut exceeded = sandbox.exceeded();
        let exceeded = tokio::time::timeout(Duration::from_secs(20), exceeded.wait_for(Option::is_some)).await;
        assert_eq!(*exceeded.expect("it is stopped").unwrap(), Some(Exceeded::Cpu(1000)), "{script}");
    }
}

#[tokio::test]
async fn what_the_engine_keeps_to_itself_can_be_hidden() {
    let mut world = world();
    fs::create_dir(world.work.join("out/state")).unwrap();
    fs::write(world.work.join("out/state/journal"), "journal\n").unwrap();
    world.confinement.places.push(Place { path: world.work.join("out/state"), source: Source::Nothing, access: None });
    let (said, _) =
        says(&world, "cat out/state/journal; ls out/state; touch out/state/x; umount out/state; rm -r out/state").await;
    assert!(!said.contains("journal\n") || said.contains("No such file"), "{said}");
    assert_eq!(fs::read_to_string(world.work.join("out/state/journal")).unwrap(), "journal\n");
    assert!(!world.work.join("out/state/x").exists());
}

#[tokio::test]
async fn sockets_are_there_when_they_were_granted() {
    let world = world();
    let path = world.outside.join("daemon.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let connect = Command {
        program: "/usr/bin/perl".into(),
        args: vec![
            "-MIO::Socket::UNIX".into(),
            "-e".into(),
            format!("print IO::Socket::UNIX->new(Peer => '{}') ? 'connected' : 'refused'", path.display()),
        ],
        current_dir: world.work.clone(),
        ..Command::default()
    };
    let sandbox = world.sandbox();
    assert_eq!(finish(sandbox.spawn(connect.clone()).unwrap()).await.0, "refused");
    sandbox.end().await;
    world.renew();
    let mut granted = world;
    let socket = GrantedSocket::find(&path, &[]).unwrap();
    granted.confinement.places.push(Place { path, source: Source::Socket(socket), access: Some(Access::Write) });
    let sandbox = granted.sandbox();
    assert_eq!(finish(sandbox.spawn(connect).unwrap()).await.0, "connected");
}

/// Access to a folder doesn't allow connections to the sockets in it, whenever they were created.
#[tokio::test]
async fn a_socket_in_a_granted_folder_is_not_granted_with_it() {
    let world = world();
    let mut sandbox = world.sandbox();
    let mut refusals = sandbox.refusals().unwrap();
    let connect = |path: &str| Command {
        program: "/usr/bin/perl".into(),
        args: vec![
            "-MIO::Socket::UNIX".into(),
            "-e".into(),
            format!("print IO::Socket::UNIX->new(Peer => '{path}') ? 'connected' : $!"),
        ],
        current_dir: world.work.clone(),
        ..Command::default()
    };
    for (path, through) in [("src/a.sock", "src/a.sock"), ("out/a.sock", "out/../out/a.sock")] {
        let _listener = UnixListener::bind(world.work.join(path)).unwrap();
        assert_eq!(finish(sandbox.spawn(connect(through)).unwrap()).await.0, "Permission denied");
        assert_eq!(refusals.recv().await, Some(Refusal::Socket(world.work.join(path))));
    }
    let own = "my $s = IO::Socket::UNIX->new(Local => 'out/own.sock', Listen => 1) or die;
        if (fork) { my $c = $s->accept; print $c->getline; wait }
        else { IO::Socket::UNIX->new(Peer => \"$ENV{PWD}/out/own.sock\")->print(\"its own\\n\") }";
    let args = vec!["-MIO::Socket::UNIX".into(), "-e".into(), own.into()];
    let env = vec![("PWD".to_owned(), world.work.display().to_string())];
    let own = Command { args, env, ..connect("") };
    assert_eq!(finish(sandbox.spawn(own).unwrap()).await.0, "its own\n");
}

#[tokio::test]
async fn input_reaches_a_program_and_what_is_missing_is_named() {
    let world = world();
    let sandbox = world.sandbox();
    let cat = Command { stdin: Some(b"words".to_vec()), ..world.command("cat; exit 3") };
    assert_eq!(
        finish(sandbox.spawn(cat).unwrap()).await,
        ("words".to_owned(), ExitStatus { code: Some(3), signal: None })
    );
    let hidden = world.outside.join("tool");
    fs::copy("/bin/true", &hidden).unwrap();
    let error = sandbox.spawn(Command { program: hidden, ..world.command("") }).unwrap_err();
    assert!(error.to_string().contains("not within the sandbox"), "{error}");
    for (name, text, words) in
        [("plain.sh", "#!/bin/sh\n", "may not be executed"), ("crlf.sh", "#!/bin/sh\r\n", "carriage return")]
    {
        let script = world.work.join(name);
        fs::write(&script, text).unwrap();
        let mode = if name == "crlf.sh" { 0o755 } else { 0o644 };
        fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        let error = sandbox.spawn(Command { program: script, ..world.command("") }).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    let error = sandbox.spawn(Command { program: "/no/such".into(), ..world.command("") }).unwrap_err();
    assert!(error.to_string().contains("does not exist"), "{error}");
    let mut confinement = world.confinement.clone();
    confinement.places.push(Place { path: "/x".into(), source: Source::Host("/no/such".into()), access: None });
    assert!(matches!(Maker::new(EXE).sandbox(&confinement), Err(StartError::Failed { .. })));
}

/// What a repository holds is not trusted: neither are its links.
#[test]
fn a_link_in_the_workspace_leads_nowhere_else() {
    for (name, access) in [("src", Access::Read), ("out", Access::Write)] {
        let world = world();
        let link = world.work.join(name);
        stagewright_files::remove_tree(&link).unwrap();
        std::os::unix::fs::symlink(&world.outside, &link).unwrap();
        let error = Maker::new(EXE).sandbox(&world.confinement).unwrap_err();
        assert!(error.to_string().contains("has been replaced by a link"), "{access:?}: {error}");
    }
}

/// By device and inode: a second mount has another path.
#[test]
fn closed_files_are_hidden_under_every_path() {
    use std::os::unix::fs::MetadataExt as _;
    let mut world = world();
    let found = fs::metadata(world.work.join("src")).unwrap();
    world.confinement.closed = vec![(found.dev(), found.ino())];
    let error = Maker::new(EXE).sandbox(&world.confinement).unwrap_err();
    assert!(error.to_string().contains("reserved, under another name"), "{error}");
}

#[tokio::test]
async fn a_workspace_can_be_granted_as_a_whole() {
    let mut world = world();
    let source = Source::Below(world.work.clone(), ".".into());
    world.confinement.places.push(Place { path: world.work.clone(), source, access: Some(Access::Write) });
    let (said, status) = says(&world, "cat closed && echo new > new").await;
    assert!(status.success() && said.contains("confidential"), "{said}");
    assert!(world.work.join("new").exists());
}

#[tokio::test]
async fn read_access_does_not_allow_execution() {
    let world = world();
    for folder in ["src", "out"] {
        fs::copy("/bin/true", world.work.join(folder).join("tool")).unwrap();
    }
    let (said, _) = says(&world, "src/tool && echo started src; out/tool && echo started out").await;
    assert!(said.contains("started out") && !said.contains("started src"), "{said}");
}

#[test]
fn this_machine_supports_sandboxes() {
    let scratch = tempfile::tempdir().unwrap();
    assert_eq!(Maker::new(EXE).missing(&scratch.path().join("probe")), Ok(()));
}

/// A mount that is read-only lets writes to a pipe through; the second layer doesn't, where nothing above may be
/// written.
#[tokio::test]
async fn a_readable_pipe_cannot_be_written() {
    let world = world_in(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
    for folder in ["src", "out"] {
        let pipe = world.work.join(folder).join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    }
    // For reading and writing it opens at once.
    let script = "for f in src out; do (exec 3<> $f/pipe) && echo wrote $f; done
                  (sleep 0.2; echo through > out/pipe) & head -1 out/pipe
                  (exec 3<> src/pipe) || echo kept; exec 4< src/pipe && read -r line <&4; echo read $line";
    let (mut engine, sandbox) = (world.work.join("src/pipe"), world.sandbox());
    let child = sandbox.spawn(world.command(script)).unwrap();
    let feeding = tokio::task::spawn_blocking(move || fs::write(std::mem::take(&mut engine), "from outside\n"));
    let (said, _) = finish(child).await;
    feeding.await.unwrap().unwrap();
    assert!(said.contains("wrote out") && said.contains("through") && said.contains("read from outside"), "{said}");
    assert!(!said.contains("wrote src") && said.contains("kept"), "{said}");
}

/// These values are not part of the cache key.
#[tokio::test]
async fn umask_limits_and_groups_of_the_caller_are_not_inherited() {
    let world = world();
    let wrapper = world.outside.join("maker");
    let text = format!("#!/bin/bash\numask 077; ulimit -S -n 300; ulimit -S -s 4096; exec {EXE} \"$@\"\n");
    fs::write(&wrapper, text).unwrap();
    fs::set_permissions(&wrapper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let sandbox = Maker::new(&wrapper).sandbox(&world.confinement).unwrap();
    let child = sandbox
        .spawn(world.command("umask; ulimit -n; ulimit -s; id -G; grep -E 'nice|realtime p' /proc/self/limits"))
        .unwrap();
    let (said, status) = finish(child).await;
    let allowed = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let files = allowed.map_or(65_536, |allowed| allowed.min(65_536));
    assert!(status.success() && said.starts_with(&format!("0022\n{files}\n8192\n")), "{said}");
    let bounds =
        said.lines().filter(|line| line.starts_with("Max ")).flat_map(|line| line.split_whitespace().rev().take(2));
    assert_eq!(bounds.collect::<Vec<_>>(), ["0"; 4], "{said}");
    if rustix::process::geteuid().is_root() {
        assert!(said.contains(&format!("8192\n{}\n", rustix::process::getegid().as_raw())), "{said}");
    }
}
