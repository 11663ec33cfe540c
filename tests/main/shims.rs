//! Programs of version managers in a home: shims, links, and the folders where the managers keep what they installed.
//!
//! The programs are scripts that find their files as the real ones do.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use crate::environment::{Ended, TestEnvironment};

/// A machine with a home whose `bin` folders are in `PATH`, and a repository.
struct Machine {
    environment: TestEnvironment,
}

impl Machine {
    /// `programs`: paths below the home, with the text of each. `folders`: those of `PATH`, before the system's.
    fn new(programs: &[(&str, &str)], folders: &[&str]) -> Machine {
        let mut machine = Machine { environment: TestEnvironment::new() };
        machine.write("token", "hunter2\n");
        for (path, text) in programs {
            machine.write(path, text);
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(machine.home().join(path), mode).expect("a mode");
        }
        let own = folders.iter().map(|folder| machine.home().join(folder));
        let inherited = std::env::var_os("PATH").expect("a PATH");
        let path = std::env::join_paths(own.chain(std::env::split_paths(&inherited))).expect("a PATH");
        machine.environment.set("PATH", path.to_str().expect("UTF-8"));
        let home = machine.home().display().to_string();
        machine.environment.set("HOME", &home);
        machine
    }

    fn home(&self) -> PathBuf {
        self.environment.root().parent().expect("a folder").canonicalize().expect("a folder").join("home")
    }

    fn write(&self, path: &str, text: &str) {
        self.environment.write(&format!("../home/{path}"), text);
    }

    fn link(&self, path: &str, target: &str) {
        let path = self.home().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        symlink(target, path).expect("a link");
    }

    /// Runs a pipeline with these stages: their names, permissions and scripts, in which `never` precedes what must fail.
    fn run(&self, stages: &[(&str, &str, &str)]) -> Ended {
        let mut pipeline = "schema = 1\npipeline.name = \"shims\"\n".to_owned();
        let mut needs = String::new();
        for (name, permissions, script) in stages {
            pipeline.push_str(&format!(
                "[stages.{name}]\nuses = \"command\"\ncache = false\nneeds = [{needs}]\n\
                 with = {{ run = '''{NEVER}\n{script}''' }}\npermissions = {{ {permissions} }}\n"
            ));
            needs = format!("\"{name}\"");
        }
        self.environment.write("stagewright.toml", &pipeline);
        let ended = self.environment.run(&["run"]);
        assert!(!ended.stdout.contains("hunter2"), "{}", ended.stdout);
        ended
    }
}

const NEVER: &str = r#"never() { if "$@"; then echo "$* succeeded"; exit 9; fi; }"#;

/// corepack's `pnpm` is a link to a script that loads a file beside itself, which downloads pnpm into a cache.
const COREPACK: &str = r#"#!/bin/sh
. "$(dirname "$(readlink -f "$0")")/lib/corepack.sh"
"#;
const DOWNLOAD: &str = r#"cache="$HOME/.cache/node/corepack/v1/pnpm"
[ -e "$cache" ] && echo "from the cache" || echo "downloaded"
mkdir -p "$(dirname "$cache")" && touch "$cache"
"#;

#[test]
fn a_link_of_corepack_finds_what_lies_beside_its_target() {
    let machine = Machine::new(&[("lib/node_modules/corepack/dist/pnpm.js", COREPACK)], &[".local/bin"]);
    machine.write("lib/node_modules/corepack/dist/lib/corepack.sh", DOWNLOAD);
    machine.link(".local/bin/pnpm", "../../lib/node_modules/corepack/dist/pnpm.js");
    let script = "never ln -sf /bin/true ~/.local/bin/pnpm; never rm ~/.local/bin/pnpm; never cat ~/token; \
                  never touch ~/lib/node_modules/corepack/own; pnpm; ls -l ~/.local/bin/pnpm";
    let stages = [("install", r#"process = ["pnpm", "sh"]"#, script)];
    let first = machine.run(&stages).exits(0).stdout;
    assert!(first.contains("downloaded"), "{first}");
    let target = format!("pnpm -> {}", machine.home().join("lib/node_modules/corepack/dist/pnpm.js").display());
    assert!(first.contains(&target), "{first}");
    let second = machine.run(&stages).exits(0).stdout;
    assert!(second.contains("from the cache"), "{second}");
    assert!(!machine.home().join(".cache").exists(), "the user's own cache was written");
}

/// The store of pnpm is where its cache is kept, so that it doesn't look for a place of its own in the repository.
#[test]
fn pnpm_is_led_to_its_kept_store() {
    let machine = Machine::new(
        &[(".local/bin/pnpm", "#!/bin/sh\ncat ~/.config/pnpm/rc ~/.config/pnpm/config.yaml\n")],
        &[".local/bin"],
    );
    let shown = machine.run(&[("install", r#"process = ["pnpm", "sh"]"#, "pnpm")]).exits(0).stdout;
    let store = machine.home().join(".local/share/pnpm/store");
    for setting in ["store-dir=", "storeDir: "] {
        assert!(shown.contains(&format!("{setting}{}", store.display())), "{shown}");
    }
    let shown = machine.run(&[("other", r#"process = ["sh"]"#, "ls -A ~")]).exits(0).stdout;
    assert!(!shown.contains(".config"), "{shown}");
}

/// asdf's program since 0.16 may be anywhere in `PATH`; its shims start it, and it reads the user's `.tool-versions`.
#[test]
fn a_shim_of_asdf_finds_its_manager_and_the_users_version() {
    let manager = r#"#!/bin/sh
version=$(sed -n 's/^nodejs //p' ~/.tool-versions)
shift; program=$1; shift
exec ~/.asdf/installs/nodejs/$version/bin/$program "$@"
"#;
    let programs = [
        (".asdf/shims/node", "#!/usr/bin/env bash\n# asdf-plugin: nodejs 20.1.0\nexec asdf exec \"node\" \"$@\"\n"),
        (".asdf/installs/nodejs/20.1.0/bin/node", "#!/bin/sh\necho \"node 20.1.0 $1\"\n"),
        (".asdf/installs/nodejs/18.0.0/bin/node", "#!/bin/sh\necho \"node 18.0.0 $1\"\n"),
        ("tools/bin/asdf", manager),
    ];
    let machine = Machine::new(&programs, &[".asdf/shims", "tools/bin"]);
    machine.write(".tool-versions", "nodejs 20.1.0\n");
    machine.write(".asdfrc", "legacy_version_file = yes\npost_asdf_exec = hunter2\n");
    let script = "never touch ~/.asdf/shims/own; never cat ~/token; cat ~/.asdfrc; node test";
    let shown = machine.run(&[("test", r#"process = ["node", "sh"]"#, script)]).exits(0).stdout;
    assert!(shown.contains("node 20.1.0 test") && shown.contains("legacy_version_file = yes"), "{shown}");
}

/// After `nvm use`, the folder of one version is in `PATH`, and its `npm` is a link to a script of a package.
#[test]
fn a_version_of_nvm_has_its_packages() {
    let version = ".nvm/versions/node/v20.1.0";
    let npm = "#!/bin/sh\n. \"$(dirname \"$(readlink -f \"$0\")\")/../lib/cli.sh\"\n";
    let node = format!("{version}/bin/node");
    let cli = format!("{version}/lib/node_modules/npm/bin/npm-cli.js");
    let bin = format!("{version}/bin");
    let machine = Machine::new(&[(&node, "#!/bin/sh\necho node 20.1.0\n"), (&cli, npm)], &[&bin]);
    machine.write(&format!("{version}/lib/node_modules/npm/lib/cli.sh"), "echo npm with $(node)\n");
    machine.write(&format!("{version}/etc/npmrc"), "_password=hunter2\n");
    machine.link(&format!("{version}/bin/npm"), "../lib/node_modules/npm/bin/npm-cli.js");
    let script = format!("never touch ~/{version}/lib/own; never cat ~/{version}/etc/npmrc; never cat ~/token; npm");
    let shown = machine.run(&[("test", r#"process = ["npm", "sh"]"#, &script)]).exits(0).stdout;
    assert!(shown.contains("npm with node 20.1.0"), "{shown}");
}

/// uv makes an environment from an interpreter that it has downloaded, which isn't in `PATH`.
#[test]
fn an_interpreter_of_uv_is_there_for_uv_and_the_environments_that_it_makes() {
    let uv = r#"#!/bin/sh
mkdir -p .venv/bin ~/.cache/uv
ln -sf ~/.local/share/uv/python/cpython-3.13*/bin/python3.13 .venv/bin/python
touch ~/.cache/uv/wheel
"#;
    let python = ".local/share/uv/python/cpython-3.13.1-linux-x86_64-gnu";
    let interpreter = format!("{python}/bin/python3.13");
    let interpreter =
        (interpreter.as_str(), "#!/bin/sh\ncat \"$(dirname \"$(readlink -f \"$0\")\")/../lib/version\"\n");
    let machine = Machine::new(&[(".local/bin/uv", uv), interpreter], &[".local/bin"]);
    machine.write(&format!("{python}/lib/version"), "CPython 3.13.1\n");
    machine.write(".local/share/uv/credentials/token", "hunter2\n");
    let permissions = r#"process = ["sh", "uv"], write = [".venv"]"#;
    let script =
        format!("never touch ~/{python}/lib/own; never cat ~/.local/share/uv/credentials/token; never cat ~/token; uv");
    let stages = [("install", permissions, script.as_str()), ("test", permissions, ".venv/bin/python")];
    let shown = machine.run(&stages).exits(0).stdout;
    assert!(shown.contains("CPython 3.13.1"), "{shown}");
    assert!(!machine.home().join(".cache").exists(), "the user's own cache was written");
}
