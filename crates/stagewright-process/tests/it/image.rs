//! Services with the files of an image as their root. The image has a shell, with a loader of its own at a path that this
//! machine doesn't have.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use stagewright_process::sandbox::{ImageRoot, ProgramUser, is_privileged};
use stagewright_process::supervisor::{
    Phase, ServiceRoot, ServiceSpec, Status, Volume, log_tail, running_environment, start, status, stop,
};
use tempfile::TempDir;

use crate::{PATIENCE, alive, until};

/// A folder with an image in `rootfs`, a service in `service`, and files of the machine.
struct Place {
    folder: TempDir,
    rootfs: PathBuf,
    grace: Duration,
    volumes: Vec<Volume>,
    user: Option<ProgramUser>,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let rootfs = folder.path().join("rootfs");
        fs::create_dir(&rootfs).unwrap();
        for program in ["dash", "sleep", "cat", "setsid"] {
            let path = Path::new("/usr/bin").join(program);
            add_program(&rootfs, &path);
        }
        fs::create_dir(rootfs.join("etc")).unwrap();
        fs::write(rootfs.join("etc/app.conf"), "of the image\n").unwrap();
        fs::write(folder.path().join("secret"), "of the machine\n").unwrap();
        Place { folder, rootfs, grace: PATIENCE, volumes: Vec::new(), user: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn service(&self) -> PathBuf {
        self.path("service")
    }

    fn volume(mut self, path: &str) -> Place {
        let folder = self.path(&format!("volume-{}", self.volumes.len()));
        fs::create_dir(&folder).unwrap();
        self.volumes.push(Volume { folder, path: path.into() });
        self
    }

    fn start(&self, script: &str) -> Status {
        let image = ImageRoot { folder: self.rootfs.clone(), user: self.user.clone() };
        let spec = ServiceSpec {
            program: "/usr/bin/dash".into(),
            args: vec!["-c".to_owned(), script.to_owned()],
            current_dir: "/etc".into(),
            own_network: None,
            listen: None,
            root: Some(ServiceRoot { image, volumes: self.volumes.clone() }),
            grace_ms: self.grace.as_millis().try_into().unwrap(),
        };
        let env = [("PATH", "/usr/bin"), ("TOKEN", "hunter2")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        start(&std::env::current_exe().unwrap(), &self.service(), &spec, &env).unwrap()
    }

    /// What a script prints.
    fn says(&self, script: &str) -> String {
        // Through one pipe, so that lines aren't split by one another.
        let begun = self.start(&format!("exec 2>&1\n{script}\necho \"that's all\"; exec sleep 600"));
        assert_eq!((begun.phase, &begun.failure), (Phase::Running, &None));
        let log = || log_tail(&self.service(), 100).unwrap();
        until("it has said all", || log().contains("that's all\n"));
        stop(&self.service()).unwrap();
        let said = log().replace("that's all\n", "");
        fs::remove_file(self.service().join("service.log")).unwrap();
        said
    }

    fn status(&self) -> Status {
        status(&self.service()).unwrap().unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = stop(&self.service());
    }
}

/// Copies a program to the same path in an image, with its libraries. Its loader is elsewhere, so that it can't run on this
/// machine.
pub(crate) fn add_program(rootfs: &Path, program: &Path) {
    let listed = Command::new("ldd").arg(program).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let words = listed.split_whitespace().filter(|word| word.starts_with('/'));
    let (loaders, libraries): (Vec<&str>, Vec<&str>) = words.partition(|path| path.contains("/ld-"));
    let moved = loaders[0].replacen("/lib", "/img", 1);
    for (from, to) in libraries.iter().map(|path| (*path, *path)).chain([(loaders[0], moved.as_str())]) {
        let to = rootfs.join(&to[1..]);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    }
    let mut bytes = fs::read(program).unwrap();
    let at = bytes.windows(loaders[0].len()).position(|found| found == loaders[0].as_bytes()).unwrap();
    bytes[at..at + moved.len()].copy_from_slice(moved.as_bytes());
    let to = rootfs.join(program.strip_prefix("/").unwrap());
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::write(&to, bytes).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The names below a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_program_has_the_files_of_its_image_and_none_of_the_machine() {
    let place = Place::new();
    assert!(Command::new(place.path("rootfs/usr/bin/dash")).args(["-c", ":"]).status().is_err(), "it runs outside");
    let secret = place.path("secret");
    let script = format!(
        "cat /etc/app.conf app.conf; cat {}; for name in /*; do echo $name; done; read line < /proc/1/cmdline; \
         echo $line; echo in > /dev/null; echo $PWD",
        secret.display()
    );
    let said = place.says(&script);
    assert!(said.starts_with("of the image\nof the image\n"), "{said}");
    assert!(said.contains(&format!("cat: {}: No such file or directory", secret.display())), "{said}");
    let root: Vec<&str> = said.lines().filter(|line| line.starts_with('/') && line.matches('/').count() == 1).collect();
    let own = names(&place.path("rootfs")).into_iter().map(|name| format!("/{name}"));
    let mut expected: Vec<String> = own.chain(["/dev", "/proc", "/sys", "/tmp"].map(str::to_owned)).collect();
    expected.sort();
    expected.push("/etc".to_owned());
    assert_eq!(root, expected, "{said}");
}

#[test]
fn the_network_and_its_names_are_those_of_the_machine() {
    let place = Place::new();
    let said =
        place.says("cat /etc/hosts /etc/resolv.conf; cat /proc/net/tcp | { read head; read first; echo $first; }");
    assert!(said.starts_with(&fs::read_to_string("/etc/hosts").unwrap()), "{said}");
    let _listener = TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(place.says("cat /proc/net/tcp").lines().count() > 1);
    assert!(place.says("echo x > /etc/hosts").contains("Read-only file system"));
}

#[test]
fn what_the_program_writes_is_discarded_except_in_volumes() {
    let place = Place::new().volume("/var/lib/app");
    let before = names(&place.path("rootfs"));
    let script = "cat /made /tmp/made /etc/app.conf /var/lib/app/made; \
                  for file in /made /tmp/made /etc/app.conf /var/lib/app/made; do echo written > $file; done";
    let first = place.says(script);
    assert_eq!((first.matches("No such file").count(), first.matches("of the image").count()), (3, 1), "{first}");
    let second = place.says(script);
    assert_eq!((second.matches("No such file").count(), second.matches("written").count()), (2, 1), "{second}");
    assert_eq!(fs::read_to_string(place.path("volume-0/made")).unwrap(), "written\n");
    assert_eq!(names(&place.path("rootfs")), before);
    assert_eq!(fs::read_to_string(place.path("rootfs/etc/app.conf")).unwrap(), "of the image\n");
    until("the changes are gone", || names(&place.service().join("changes")) == [""; 0]);
}

#[test]
fn a_program_that_is_started_again_finds_the_image_as_it_was() {
    let place = Place::new().volume("/data");
    place.start(
        "[ -e /made ] && echo found; echo > /made; echo run >> /data/runs; [ $(cat /data/runs | { n=0; while read x; \
                 do n=$((n+1)); done; echo $n; }) = 3 ] && exec sleep 600; setsid sleep 601 & sleep 0.2; exit 7",
    );
    until("it has been started twice again", || place.status().restarts == 2);
    assert_eq!(place.status().last_exit.unwrap().code, Some(7));
    until("what the earlier ones started is gone", || programs(&place.path("rootfs")) == 1);
    assert!(!log_tail(&place.service(), 100).unwrap().contains("found"));
}

#[test]
fn all_processes_end_with_the_service() {
    let place = Place::new();
    let is_left = || programs(&place.path("rootfs")) > 0;
    let script = "setsid sleep 601 & trap 'echo asked; exit 0' TERM; echo begun; while :; do sleep 1; done";
    let begun = place.start(script);
    until("it has begun", || log_tail(&place.service(), 9).unwrap().contains("begun"));
    let env = running_environment(&place.service()).unwrap().unwrap();
    assert!(env.contains(&("TOKEN".to_owned(), "hunter2".to_owned())), "{env:?}");
    until("the daemon runs", || programs(&place.path("rootfs")) >= 2);
    stop(&place.service()).unwrap();
    assert!(!is_left() && !begun.child.unwrap().is_alive());
    assert_eq!(place.status().last_exit.unwrap().code, Some(0));
    assert!(log_tail(&place.service(), 9).unwrap().contains("asked"));

    let begun = place.start(script);
    until("the daemon runs", || programs(&place.path("rootfs")) >= 2);
    let killed = crate::sh(&format!("kill -9 {}", begun.supervisor.pid));
    assert!(stagewright_process::run_to_end(killed, PATIENCE).unwrap().status.success());
    until("all are gone", || !is_left() && !alive(&begun.child.unwrap().pid.to_string()));
    until("the changes are gone", || names(&place.service().join("changes")) == [""; 0]);
}

/// How many processes run a program of an image: by device and inode, since their paths are those inside.
fn programs(rootfs: &Path) -> usize {
    let ids = |folder: PathBuf| folder.read_dir().unwrap().map(|entry| entry.unwrap().metadata().unwrap().ino());
    let programs: Vec<u64> = ids(rootfs.join("usr/bin")).collect();
    let processes = Path::new("/proc").read_dir().unwrap().flatten();
    let runs = |path: PathBuf| path.metadata().is_ok_and(|found| programs.contains(&found.ino()));
    processes.filter(|process| runs(process.path().join("exe"))).count()
}

#[test]
fn the_program_has_the_user_of_the_image() {
    let mut place = Place::new().volume("/data");
    place.user = Some(ProgramUser { uid: 70, gid: 71, groups: vec![72] });
    if is_privileged() {
        std::os::unix::fs::chown(&place.volumes[0].folder, Some(70), Some(71)).unwrap();
    }
    let said =
        place.says("echo > /data/own; echo to > /dev/stdout; cat /proc/self/status; echo > /tmp/x; echo > /etc/x");
    let field = |name: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert!(said.contains("to\n"), "{said}");
    assert_eq!((field("Uid:"), field("Gid:")), ("70 70 70 70".to_owned(), "71 71 71 71".to_owned()));
    if is_privileged() {
        assert_eq!((field("Groups:").as_str(), field("CapEff:").as_str()), ("72", "0000000000000000"));
        assert_eq!(fs::metadata(place.path("volume-0/own")).unwrap().uid(), 70);
        assert!(said.contains("/etc/x: Permission denied"), "{said}");
        assert!(!said.contains("/tmp/x"), "{said}");
    }
}

#[test]
fn links_of_an_image_lead_to_no_file_of_the_machine() {
    let place = Place::new().volume("/out/data").volume("/loop").volume("/direct");
    let (rootfs, machine) = (place.path("rootfs"), place.path("machine"));
    for folder in [&machine, &rootfs.join("srv/other")] {
        fs::create_dir_all(folder).unwrap();
    }
    let far = "../".repeat(20);
    for (link, target) in [
        ("out", format!("{far}srv")),
        ("loop", "loop".to_owned()),
        ("direct", "/srv/other".to_owned()),
        ("etc/resolv.conf", format!("{far}{}/secret", place.folder.path().display())),
        ("proc", machine.display().to_string()),
        ("dev", "/etc".to_owned()),
        ("sys", machine.display().to_string()),
    ] {
        symlink(target, rootfs.join(link)).unwrap();
    }
    let said = place.says(
        "for volume in /srv/data /loop /srv/other; do echo own > $volume/made; done; cat /proc/self/comm; echo > /dev/null && \
         echo null",
    );
    assert_eq!(said, "cat\nnull\n");
    assert_eq!(fs::read_to_string(place.path("secret")).unwrap(), "of the machine\n");
    for volume in ["volume-0", "volume-1", "volume-2"] {
        assert_eq!(names(&place.path(volume)), ["made"], "{volume}");
    }
    assert_eq!(names(&rootfs.join("etc")), ["app.conf", "resolv.conf"]);

    // Inside, these lead nowhere; outside, to files of this machine, and to what the processes of the service have open.
    for (link, target) in [("away", machine.display().to_string()), ("open", "/proc/self/fd".to_owned())] {
        symlink(target, rootfs.join(link)).unwrap();
        let mut place = Place::new().volume(&format!("/{link}/9"));
        place.rootfs = rootfs.clone();
        let failure = place.start("").failure.unwrap();
        assert!(failure.contains(&format!("make /{link}/9: File exists")), "{failure}");
    }
    assert_eq!(names(&machine), [""; 0]);
}

#[test]
fn a_root_that_cannot_be_made_is_reported_at_once() {
    let place = Place::new();
    fs::remove_file(place.path("rootfs/usr/bin/dash")).unwrap();
    let failure = place.start("").failure.unwrap();
    assert!(failure.starts_with("program `/usr/bin/dash` names an interpreter that does not exist"), "{failure}");
    let mut place = Place::new();
    place.volumes = vec![Volume { folder: place.path("nowhere"), path: "/data".into() }];
    let status = place.start("");
    let failure = status.failure.unwrap();
    assert!(failure.contains("nowhere") && failure.contains("check that the paths of volumes"), "{failure}");
    assert_eq!(status.phase, Phase::Exited);
}

#[test]
fn a_program_that_does_not_end_is_killed_after_the_grace() {
    let mut place = Place::new();
    place.grace = Duration::from_millis(100);
    let begun = place.start("trap '' TERM; echo begun; while :; do sleep 1; done");
    until("it has begun", || log_tail(&place.service(), 9).unwrap().contains("begun"));
    stop(&place.service()).unwrap();
    assert!(!begun.child.unwrap().is_alive());
    assert_eq!(place.status().last_exit.unwrap().signal, Some(9));
}
