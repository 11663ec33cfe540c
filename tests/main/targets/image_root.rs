//! Releases of the target `process` in the root of their image.
//!
//! The image has `versioned` with its libraries, and with a loader at a path that this machine doesn't have: it can run in
//! its own root only.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value as Json;

use super::machine::Machine;
use crate::environment::{Ended, TestEnvironment, eventually};

/// MORE is replaced.
const PIPELINE: &str = r#"
schema = 1
[pipeline]
name = "contained"

[inputs.version]
[inputs.exit]
default = ""

[environments.production]
target = "process"

[stages.image]
uses = "build-image"
permissions = { read = ["rootfs"], write = ["image"] }
[stages.image.with]
files = [{ from = "rootfs", to = "/" }]
entrypoint = ["versioned"]
workdir = "/srv/work"
env = { PATH = "/opt/bin" }
user = "70:71"
layout = "image"
tags = ["x"]

[stages.push]
uses = "push-image"
needs = ["image"]
with = { layout = "image", image = "local/versioned", tags = ["v${{ inputs.version }}"] }
permissions = { read = ["image"], registry = ["local/versioned"] }

[stages.deploy]
uses = "deploy"
needs = ["push"]
environment = "production"
[stages.deploy.with]
service = "versioned"
image = "${{ stages.push.outputs.reference }}"
env = { VERSION = "${{ inputs.version }}", EXIT = "${{ inputs.exit }}" }
health = { deadline = "20s" }
MORE

[stages.use]
uses = "smoke-test"
needs = ["deploy"]
environment = "production"
with = { url = "${{ stages.deploy.outputs.url }}", checks = [{ path = "/append/uploads/log", status = 200, contains = "version" }], deadline = "5s" }
permissions = { net = ["http://127.0.0.1:*"] }
"#;

/// Behind a proxy, with a volume where the image has a file, and one where it has none.
const BEHIND: &str = "proxy = { port = 8000 }\nvolumes = { data = \"/data\", uploads = \"/uploads\" }\nkeep = 0\n";

/// Copies `versioned` to an image with its libraries. Its loader is elsewhere than on this machine.
pub(crate) fn make_image(rootfs: &Path) {
    let program = Path::new(env!("CARGO_BIN_EXE_versioned"));
    let listed = Command::new("ldd").arg(program).output().expect("ldd");
    let listed = String::from_utf8(listed.stdout).expect("UTF-8");
    let words = listed.split_whitespace().filter(|word| word.starts_with('/'));
    let (loaders, libraries): (Vec<&str>, Vec<&str>) = words.partition(|path| path.contains("/ld-"));
    let moved = loaders[0].replacen("/lib", "/img", 1);
    let place = |path: &str, bytes: Vec<u8>| {
        let to = rootfs.join(&path[1..]);
        fs::create_dir_all(to.parent().expect("a parent")).expect("a folder");
        fs::write(&to, bytes).expect("a file");
        fs::set_permissions(to, fs::Permissions::from_mode(0o755)).expect("permissions");
    };
    for (from, to) in libraries.iter().map(|path| (*path, *path)).chain([(loaders[0], moved.as_str())]) {
        place(to, fs::read(from).expect("a library"));
    }
    let mut bytes = fs::read(program).expect("a program");
    let at = bytes.windows(loaders[0].len()).position(|found| found == loaders[0].as_bytes()).expect("a loader");
    bytes[at..at + moved.len()].copy_from_slice(moved.as_bytes());
    place("/opt/bin/versioned", bytes);
    place("/etc/app.conf", b"of the image\n".to_vec());
    place("/data/log", b"seed\n".to_vec());
}

/// A machine whose public port is 8000, and a repository that deploys the image to it.
struct Contained {
    repository: TestEnvironment,
    machine: Machine,
}

impl Contained {
    fn with(more: &str) -> Contained {
        let machine = Machine::start();
        let repository = machine.repository("");
        make_image(&repository.root().join("rootfs"));
        let contained = Contained { repository, machine };
        contained.configure(more);
        contained
    }

    /// Changes the deploy.
    fn configure(&self, more: &str) {
        self.repository.write("stagewright.toml", &PIPELINE.replace("MORE", more));
        self.repository.run(&["grant", "--yes"]).exits(0);
    }

    #[track_caller]
    fn deploy(&self, version: &str, code: i32) -> Ended {
        self.repository.run(&["run", "--input", &format!("version={version}")]).exits(code)
    }

    fn get(&self, path: &str) -> Option<String> {
        self.machine.get(&format!("http://127.0.0.1:8000{path}"))
    }

    /// The file of the volume on this machine.
    fn log(&self) -> PathBuf {
        self.repository.root().join(".stagewright/environments/production/versioned/volumes/uploads/log")
    }

    /// How many programs of the image run: by inode, since their paths are those in the image.
    fn programs(&self) -> usize {
        let releases = self.repository.root().join(".stagewright/environments/production/versioned/releases");
        let program = |release: PathBuf| Some(release.join("rootfs/opt/bin/versioned").metadata().ok()?.ino());
        let entries = releases.read_dir().into_iter().flatten().flatten();
        let own: Vec<u64> = entries.filter_map(|entry| program(entry.path())).collect();
        let runs = |path: PathBuf| path.metadata().is_ok_and(|found| own.contains(&found.ino()));
        let processes = Path::new("/proc").read_dir().expect("/proc").flatten();
        processes.filter(|process| runs(process.path().join("exe"))).count()
    }

    /// The state of the supervisor of a file, such as `releases/NAME/state.json`.
    fn states(&self) -> Vec<Json> {
        let root = self.repository.root().join(".stagewright/environments");
        let found = Command::new("find").arg(root).args(["-name", "state.json"]).output().expect("find");
        let found = String::from_utf8(found.stdout).expect("UTF-8");
        let read = |path: &str| serde_json::from_str(&fs::read_to_string(path).expect("a state")).expect("JSON");
        found.lines().map(read).filter(|state: &Json| state["phase"] != "exited").collect()
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        self.repository.run(&["service", "stop", "production", "versioned"]);
    }
}

#[test]
fn a_release_has_the_files_of_its_image_and_volumes_outlive_it() {
    let contained = Contained::with(BEHIND);
    let secret = contained.machine.write("secret", "of the machine\n");
    let program = contained.repository.root().join("rootfs/opt/bin/versioned");
    assert!(Command::new(program).arg("check").status().is_err(), "it runs outside of its image");
    contained.deploy("1", 0);
    assert_eq!(contained.get("/read/etc/app.conf").as_deref(), Some("of the image\n"));
    assert_eq!(contained.get(&format!("/read{}", secret.display())), None);
    assert_eq!(contained.get("/read/proc/self/root/etc/app.conf").as_deref(), Some("of the image\n"));
    let status = contained.get("/read/proc/self/status").expect("a status");
    assert!(status.contains("Uid:\t70\t70\t70\t70") && status.contains("Gid:\t71\t71\t71\t71"), "{status}");
    assert_eq!(contained.get("/append/tmp/own").as_deref(), Some("version 1\n"));
    assert_eq!(contained.get("/append/etc/own"), None, "/etc belongs to root");
    // Of the volumes, one begins with the files of the image, and the other belongs to its user. Each deploy appends to it.
    assert_eq!(contained.get("/read/data/log").as_deref(), Some("seed\n"));
    let log = || fs::read_to_string(contained.log()).expect("a log");
    assert_eq!(log(), "version 1\n");

    contained.configure(&format!("{BEHIND}replicas = 2\nstrategy = {{ rolling = {{}} }}\n"));
    contained.deploy("2", 0);
    assert_eq!(contained.programs(), 2);
    assert_eq!(contained.get("/read/tmp/own"), None, "it belonged to the release before");
    assert_eq!(log(), "version 1\nversion 2\n");
    contained.repository.run(&["rollback", "production"]).exits(0);
    assert_eq!(contained.get("/").as_deref(), Some("version 1"));
    assert_eq!(contained.get("/append/uploads/log"), Some("version 1\nversion 2\nversion 1\n".into()));

    // A stand-in has the root of the image, too, and volumes of its own.
    let before = log();
    contained.repository.run(&["run", "--rehearse", "--input", "version=9"]).exits(0);
    assert_eq!(log(), before);
    contained.repository.run(&["gc", "--days", "0"]).exits(0);
    assert_eq!(log(), before);
    contained.repository.run(&["service", "stop", "production", "versioned"]).exits(0);
    assert_eq!((contained.programs(), contained.states()), (0, Vec::new()));
}

#[test]
fn a_release_is_back_with_its_root_after_its_processes_were_killed() {
    let contained = Contained::with(BEHIND);
    contained.deploy("1", 0);
    let release = |states: &[Json]| {
        let program = states.iter().find(|state| state["port"].is_null()).expect("a release").clone();
        (program["child"]["pid"].to_string(), program["supervisor"]["pid"].to_string())
    };
    let (program, _) = release(&contained.states());
    contained.machine.run("kill", &["-9", &program]);
    let again = || contained.get("/read/etc/app.conf").filter(|_| release(&contained.states()).0 != program);
    assert_eq!(eventually("the program is started again", again), "of the image\n");

    for state in contained.states() {
        contained.machine.run("kill", &["-9", &state["supervisor"]["pid"].to_string()]);
    }
    eventually("the end of the programs", || (contained.programs() == 0).then_some(()));
    contained.repository.run(&["service", "restore"]).exits(0);
    let log = contained.get("/append/uploads/log");
    assert_eq!(log.as_deref(), Some("version 1\nversion 1\n"));
    assert_eq!(contained.programs(), 1);
}

#[test]
fn an_image_without_the_loader_of_its_program_has_the_root_of_the_machine() {
    let contained = Contained::with("proxy = { port = 8000 }\n");
    let rootfs = contained.repository.root().join("rootfs");
    fs::copy(env!("CARGO_BIN_EXE_versioned"), rootfs.join("opt/bin/versioned")).expect("a copy");
    // What the stage that uses the release appends to.
    let text = contained.repository.read("stagewright.toml").replace("/append/uploads/log", "/");
    contained.repository.write("stagewright.toml", &text);
    let secret = contained.machine.write("secret", "of the machine\n");
    let deployed = contained.deploy("1", 0);
    assert!(deployed.stdout.contains("so that its program has the files of this machine"), "{}", deployed.stdout);
    assert_eq!(contained.get(&format!("/read{}", secret.display())).as_deref(), Some("of the machine\n"));

    contained.repository.write("stagewright.toml", &text.replace("health =", "root = \"image\"\nhealth ="));
    let refused = contained.deploy("2", 1);
    assert!(refused.stdout.contains("`/opt/bin/versioned` needs `/lib"), "{}", refused.stdout);
    assert!(refused.stdout.contains("root = \"host\""), "{}", refused.stdout);
    assert_eq!(contained.get("/").as_deref(), Some("version 1"));

    let volumes = "root = \"host\"\nvolumes = { data = \"/data\" }\nhealth =";
    contained.repository.write("stagewright.toml", &text.replace("health =", volumes));
    let refused = contained.repository.run(&["validate"]);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("a program with this machine's root"), "{}", refused.stderr);
}
