//! `init` on repositories of several technologies, and the first run of what it writes.

use serde_json::Value as Json;

use crate::environment::{TestEnvironment, text};

/// A repository with these files and without a pipeline.
fn repository(files: &[(&str, &str)]) -> TestEnvironment {
    let environment = TestEnvironment::new();
    files.iter().for_each(|(path, content)| environment.write(path, content));
    environment
}

fn answer(environment: &TestEnvironment) -> Json {
    serde_json::from_str(&environment.run(&["init", "--json"]).exits(0).stdout).expect("JSON")
}

/// The table of a stage in the written file.
fn stage(environment: &TestEnvironment, name: &str) -> toml::Table {
    let file: toml::Table = environment.read("stagewright.toml").parse().expect("TOML");
    file["stages"][name].as_table().expect("a table").clone()
}

#[test]
fn a_crate_is_green_in_its_first_run() {
    let manifest = "[package]\nname = \"sum\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
    let code =
        "pub fn sum(a: u8, b: u8) -> u8 {\n    a + b\n}\n\n#[test]\nfn sums() {\n    assert_eq!(sum(1, 2), 3);\n}\n";
    let environment =
        repository(&[("Cargo.toml", manifest), ("src/lib.rs", code), ("rustfmt.toml", "max_width = 100\n")]);
    let shown = environment.run(&["init"]).exits(0).stdout;
    assert!(shown.contains("Found Rust (Cargo.toml).\nWrote stagewright.toml with 2 stages"), "{shown}");
    let shown = environment.run(&["run"]).exits(0).stdout;
    assert!(shown.contains("2 stages: 2 succeeded"), "{shown}");
    assert!(environment.run(&["init"]).exits(4).stderr.contains("stagewright.toml exists already"));
    let unnamed = environment.run(&["init", "--name", "a b", "--output", "other.toml"]).exits(2).stderr;
    assert!(unnamed.contains("a pipeline can't have this name"), "{unnamed}");
}

#[test]
fn scripts_of_a_package_are_stages() {
    let package = r#"{ "name": "sum", "scripts": { "test": "node --test", "build": "mkdir -p dist && echo > dist/x",
        "prepare": "exit 1", "lint": "node --check sum.test.js" } }"#;
    let code = "require('node:test')('sums', () => require('node:assert').equal(1 + 2, 3));\n";
    let environment =
        repository(&[("package.json", package), ("sum.test.js", code), (".gitignore", "/dist/\nlib/x\n")]);
    let found = answer(&environment);
    assert_eq!(text(&found["found"][0]), "Node (package.json)");
    assert_eq!(found["stages"].as_array().unwrap().len(), 3);
    assert_eq!(stage(&environment, "test")["needs"].as_array().unwrap().len(), 1, "the build");
    assert_eq!(stage(&environment, "build")["permissions"]["write"].as_array().unwrap()[0].as_str(), Some("dist"));
    environment.run(&["run"]).exits(0);
}

#[test]
fn tests_of_python_alone_need_no_environment() {
    let code = "import unittest\n\nclass Sums(unittest.TestCase):\n    def test_sums(self):\n        self.assertEqual(1 + 2, 3)\n";
    let environment = repository(&[("setup.cfg", ""), ("tests/__init__.py", ""), ("tests/test_sums.py", code)]);
    environment.run(&["init"]).exits(0);
    let shown = environment.run(&["run"]).exits(0).stdout;
    assert!(shown.contains("1 succeeded"), "{shown}");
}

#[test]
fn a_package_of_setuptools_is_installed_with_its_tests() {
    let project =
        "[project]\nname = \"sum-up\"\nversion = \"1\"\n[project.optional-dependencies]\ntest = [\"pytest-cov\"]\n";
    let environment = repository(&[("pyproject.toml", project), ("src/sum_up/__init__.py", "")]);
    environment.run(&["init"]).exits(0);
    let install = stage(&environment, "install");
    let script = install["with"]["run"].as_str().unwrap();
    assert_eq!(script, "python3 -m venv .venv\n.venv/bin/pip install --editable '.[test]'\n");
    assert_eq!(install["permissions"]["write"].as_array().unwrap()[0].as_str(), Some("src/sum_up.egg-info"));
    assert_eq!(stage(&environment, "test")["with"]["run"].as_str(), Some(".venv/bin/python -m pytest"));
}

#[test]
fn a_locked_project_of_uv_is_installed_by_uv() {
    let project = "[project]\nname = \"sum\"\nversion = \"1\"\n[dependency-groups]\ntests = [\"pytest\"]\n";
    let mut environment = repository(&[("pyproject.toml", project), ("uv.lock", "version = 1\n"), ("../bin/uv", "")]);
    let uv = environment.root().join("../bin/uv");
    std::fs::set_permissions(&uv, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
    environment.set("PATH", &uv.with_file_name("").display().to_string());
    environment.run(&["init"]).exits(0);
    assert_eq!(stage(&environment, "install")["with"]["run"].as_str(), Some("uv sync --locked --group tests"));
    assert_eq!(stage(&environment, "test")["with"]["run"].as_str(), Some(".venv/bin/python -m pytest"));
    environment.set("PATH", "/usr/bin");
    environment.run(&["init", "--output", "without.toml"]).exits(0);
    assert!(!environment.read("without.toml").contains("uv sync"), "a machine without uv");
}

#[test]
fn packages_of_yarn_stay_in_the_repository_for_the_other_stages() {
    let package = r#"{ "packageManager": "yarn@4.5.3", "scripts": { "test": "t" }, "dependencies": { "x": "1" } }"#;
    for (file, written) in [("package.json", "."), ("web/package.json", "web")] {
        let environment = repository(&[(file, package)]);
        environment.run(&["init"]).exits(0);
        let install = stage(&environment, "install");
        assert_eq!(install["env"]["YARN_ENABLE_GLOBAL_CACHE"].as_str(), Some("false"));
        assert_eq!(install["permissions"]["write"].as_array().unwrap().last().unwrap().as_str(), Some(written));
        environment.run(&["validate"]).exits(0);
    }
    let environment = repository(&[("package.json", package), (".yarnrc.yml", "nodeLinker: node-modules\n")]);
    environment.run(&["init"]).exits(0);
    let install = stage(&environment, "install");
    assert_eq!(install["permissions"]["write"].as_array().unwrap()[0].as_str(), Some(".yarn"));
    assert!(install.get("env").is_none());
}

#[test]
fn several_projects_in_folders_have_stages_of_their_own() {
    let environment = repository(&[
        ("api/go.mod", "module api\n"),
        ("web/package.json", r#"{ "scripts": { "test": "node --test" }, "dependencies": { "x": "1" } }"#),
        ("web/Dockerfile", "FROM scratch\n"),
        ("docs/index.md", ""),
    ]);
    let found = answer(&environment);
    let names: Vec<String> = found["stages"].as_array().unwrap().iter().map(|stage| text(&stage["id"])).collect();
    assert_eq!(names[..4], ["vet", "api-go-test", "install", "web-node-test"]);
    let install = stage(&environment, "install");
    assert_eq!(install["with"]["cwd"].as_str(), Some("web"));
    assert_eq!(install["permissions"]["write"].as_array().unwrap()[0].as_str(), Some("web/node_modules"));
    environment.run(&["validate"]).exits(0);
}

#[test]
fn a_repository_without_anything_known_gets_no_file() {
    let environment = repository(&[("README.md", "")]);
    assert!(environment.run(&["init"]).exits(4).stderr.contains("found nothing to make a stage of"));
    let environment =
        repository(&[("package.json", "{ \"scripts\": { \"test\": \"echo no test specified; exit 1\" } }")]);
    assert!(environment.run(&["init"]).exits(4).stderr.contains("has no script that init knows"));
    assert!(!environment.root().join("stagewright.toml").exists());
}
