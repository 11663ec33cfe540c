//! The engine as an unprivileged user, as on most machines: sandboxes, services, and everything that the kernel permits
//! only root without further setup.

use std::os::unix::process::CommandExt as _;
use std::path::Path;

use crate::environment::{Ended, TestEnvironment, binary, outcomes, plugins};
use crate::targets::image_root::make_image;

/// The user id 65534, which owns no files.
const PLAIN: u32 = 65534;

const PIPELINE: &str = r#"
schema = 1
[pipeline]
name = "plain"
[environments.staging]
target = "process"

[stages.program]
uses = "command"
with = { run = "cat in.txt > out/made; ! cat beside.txt; ! touch in.txt" }
permissions = { process = ["sh", "cat", "touch"], read = ["in.txt"], write = ["out"] }

[stages.image]
uses = "build-image"
with = { files = [{ from = "rootfs", to = "/" }], entrypoint = ["/opt/bin/versioned"], layout = "image", tags = ["x"] }
permissions = { read = ["rootfs"], write = ["image"] }

[stages.push]
uses = "push-image"
needs = ["image"]
with = { layout = "image", image = "local/versioned", tags = ["1"] }
permissions = { read = ["image"], registry = ["local/versioned"] }

[stages.deploy]
uses = "deploy"
needs = ["push"]
environment = "staging"
permissions = { registry = ["local/versioned"], service = ["versioned"] }
[stages.deploy.with]
service = "versioned"
image = "${{ stages.push.outputs.reference }}"
env = { VERSION = "1" }
root = "image"
volumes = { uploads = "/uploads" }

[stages.smoke]
uses = "smoke-test"
needs = ["deploy"]
environment = "staging"
permissions = { net = ["http://127.0.0.1:*"] }
[stages.smoke.with]
url = "${{ stages.deploy.outputs.url }}"
deadline = "5s"
checks = [
    { path = "/", status = 200, contains = "version 1" },
    { path = "/append/uploads/log", status = 200, contains = "version 1" },
    { path = "/read/etc/app.conf", status = 200, contains = "of the image" },
    # The user of the image, as which the program sees itself.
    { path = "/read/proc/self/status", status = 200, contains = "65532" },
]
"#;

/// A repository and the programs under test, in a folder that the unprivileged user can access.
struct Plain {
    environment: TestEnvironment,
    is_root: bool,
}

impl Plain {
    fn new() -> Plain {
        let mut environment = TestEnvironment::with_pipeline(PIPELINE);
        environment.write("in.txt", "granted\n");
        environment.write("beside.txt", "not granted\n");
        make_image(&environment.root().join("rootfs"));
        let folder = environment.root().parent().expect("a folder").to_owned();
        std::fs::create_dir_all(folder.join("home")).expect("a folder");
        std::fs::create_dir(folder.join("plugins")).expect("a folder");
        std::fs::copy(binary(), folder.join("stagewright")).expect("a copy");
        for built in std::env::split_paths(&plugins()).flat_map(|folder| folder.read_dir().expect("a folder")) {
            let built = built.expect("an entry");
            std::fs::copy(built.path(), folder.join("plugins").join(built.file_name())).expect("a copy");
        }
        for (name, below) in [("STAGEWRIGHT_PLUGINS", "plugins"), ("XDG_CACHE_HOME", "cache")] {
            environment.set(name, &folder.join(below).display().to_string());
        }
        let is_root = rustix::process::getuid().is_root();
        if is_root {
            hand_over(&folder);
        }
        Plain { environment, is_root }
    }

    fn run(&self, args: &[&str]) -> Ended {
        let program = self.environment.root().with_file_name("stagewright");
        let mut command = self.environment.program(&program.display().to_string());
        command.args(args);
        if self.is_root {
            command.uid(PLAIN).gid(PLAIN);
        }
        Ended::of(&command.output().expect("the binary starts"))
    }
}

/// Changes the owner of a folder and its content to the unprivileged user.
fn hand_over(path: &Path) {
    std::os::unix::fs::chown(path, Some(PLAIN), Some(PLAIN)).expect("an owner");
    if path.is_dir() {
        path.read_dir().expect("a folder").for_each(|entry| hand_over(&entry.expect("an entry").path()));
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.run(&["service", "stop", "staging", "versioned"]);
    }
}

#[test]
fn a_user_without_privileges_has_sandboxes_and_services() {
    let plain = Plain::new();
    let stages = ["deploy", "image", "program", "push", "smoke"];
    for mode in [&["run", "--format", "json", "--rehearse"][..], &["run", "--format", "json"]] {
        let ended = plain.run(mode);
        let events: Vec<_> = ended.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let expected = stages.map(|stage| (stage.to_owned(), "succeeded".to_owned()));
        assert_eq!(outcomes(&events), expected.into_iter().collect(), "{mode:?}: {}{}", ended.stdout, ended.stderr);
        assert_eq!(plain.environment.read("out/made"), "granted\n");
    }
}
