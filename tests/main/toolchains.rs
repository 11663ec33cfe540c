//! Real toolchains in the sandbox: their files are found, downloads go through the proxy, and caches belong to their stage.
//! They fetch small packages from the sources that the machine's own clients are configured with.

use crate::environment::TestEnvironment;

/// An environment with the home of the user who runs the tests, where toolchains and their configuration are.
fn environment(pipeline: &str) -> TestEnvironment {
    let mut environment = TestEnvironment::with_pipeline(pipeline);
    let home = std::env::home_dir().expect("a home");
    environment.set("HOME", &home.display().to_string());
    environment
}

#[test]
fn cargo_tests_with_a_cold_registry() {
    let environment = environment(
        r#"
        schema = 1
        [pipeline]
        name = "cargo"
        [stages.test]
        uses = "cargo-test"
        with = { manifest-path = "app/Cargo.toml" }
        [stages.test.permissions]
        process = ["cargo"]
        read = ["app"]
        write = ["app/target", "app/Cargo.lock"]
        net = ["cargo"]
        env = ["CARGO_HOME", "RUSTUP_HOME"]
        "#,
    );
    let manifest = "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[dependencies]\nitoa = \"1\"\n";
    environment.write("app/Cargo.toml", manifest);
    environment.write(
        "app/src/main.rs",
        "fn main() {}\n#[test]\nfn digits() { assert_eq!(itoa::Buffer::new().format(7), \"7\") }\n",
    );
    let ended = environment.run(&["run"]).exits(0);
    assert!(ended.stdout.contains("Downloaded itoa") && ended.stdout.contains("1 passed"), "{}", ended.stdout);
    // The downloads are kept for this stage only.
    let kept = environment.root().join(".stagewright/kept/2");
    let folders = kept.read_dir().expect("a folder").map(|entry| entry.expect("an entry").path());
    let [of_the_stage] = &folders.collect::<Vec<_>>()[..] else { panic!("{} holds other than one", kept.display()) };
    let owner = std::fs::read_to_string(of_the_stage.join("owner")).expect("a file");
    assert!(owner.contains("stages.test"), "{owner}");
    assert!(of_the_stage.read_dir().is_ok_and(|entries| entries.count() > 1), "{}", of_the_stage.display());
}

#[test]
fn npm_installs_from_its_lock_file() {
    let environment = environment(
        r#"
        schema = 1
        [pipeline]
        name = "npm"
        [stages.install]
        uses = "command"
        with = { argv = ["npm", "ci"], cwd = "web" }
        [stages.install.permissions]
        process = ["npm"]
        read = ["web"]
        write = ["web/node_modules"]
        net = ["npm"]
        "#,
    );
    environment.write("web/package.json", r#"{ "name": "web", "dependencies": { "is-number": "7.0.0" } }"#);
    let integrity = "sha512-41Cifkg6e8TylSpdtTpeLVMqvSBEVzTttHvERD741+pnZ8ANv0004MRL43QKPDlK9cGvNp6NZWZUBlbGXYxxng==";
    let lock = serde_json::json!({
        "name": "web", "lockfileVersion": 3, "requires": true,
        "packages": {
            "": { "name": "web", "dependencies": { "is-number": "7.0.0" } },
            "node_modules/is-number": { "version": "7.0.0", "integrity": integrity },
        },
    });
    environment.write("web/package-lock.json", &lock.to_string());
    let ended = environment.run(&["run"]).exits(0);
    assert!(ended.stdout.contains("added 1 package"), "{}", ended.stdout);
    assert!(environment.root().join("web/node_modules/is-number/index.js").is_file());
}

#[test]
fn pip_installs_into_a_virtual_environment() {
    let environment = environment(
        r#"
        schema = 1
        [pipeline]
        name = "pip"
        [stages.install]
        uses = "command"
        [stages.install.with]
        run = """
        python3 -m venv py/venv && py/venv/bin/pip install six==1.16.0
        py/venv/bin/python -c 'import six; print("six", six.__version__)'
        """
        [stages.install.permissions]
        process = ["sh", "python3", "pip"]
        write = ["py"]
        net = ["pip"]
        "#,
    );
    let ended = environment.run(&["run"]).exits(0);
    assert!(ended.stdout.contains("six 1.16.0"), "{}", ended.stdout);
}

#[test]
fn git_reads_history_without_credentials_and_writes_none_of_it() {
    let environment = environment(
        r#"
        schema = 1
        [pipeline]
        name = "git"
        [stages.look]
        uses = "command"
        [stages.look.with]
        run = """
        git log --format=%s
        git config --get remote.origin.url
        git config --get http.extraheader || echo no header
        touch .git/hooks/pre-commit || echo no hook
        """
        [stages.look.permissions]
        process = ["sh", "git"]
        write = ["."]
        "#,
    );
    for arguments in [
        &["init", "--quiet"][..],
        &["config", "user.name", "Ada"],
        &["config", "user.email", "ada@example.org"],
        &["config", "remote.origin.url", "https://ada:hunter2@example.org/app"],
        &["config", "http.extraheader", "Authorization: Bearer hunter2"],
        &["commit", "--quiet", "--allow-empty", "--message", "The first of all"],
    ] {
        assert!(environment.program("git").args(arguments).status().unwrap().success(), "{arguments:?}");
    }
    let ended = environment.run(&["run"]).exits(0);
    for words in ["The first of all", "https://example.org/app", "no header", "no hook"] {
        assert!(ended.stdout.contains(words), "{words} is missing in {}", ended.stdout);
    }
    assert!(!ended.stdout.contains("hunter2"), "{}", ended.stdout);
    assert!(!environment.root().join(".git/hooks/pre-commit").exists());
}
