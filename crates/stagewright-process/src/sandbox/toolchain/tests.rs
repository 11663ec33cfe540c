use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn program(path: &Path) -> PathBuf {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "#!/bin/sh\n").unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_owned()
}

fn file(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "").unwrap();
}

fn found(programs: &[PathBuf], home: &Path) -> Vec<(String, MountMode)> {
    let env = BTreeMap::from([("HOME".to_owned(), home.display().to_string())]);
    let tools = Tools { env: &env, machine: &env, workspace: &home.join("project") };
    let needs = needs(programs, tools).into_iter();
    needs.map(|need| (need.path.strip_prefix(home).unwrap_or(&need.path).display().to_string(), need.how)).collect()
}

/// What may be started of the home.
fn executes(programs: &[PathBuf], home: &Path) -> Vec<String> {
    let found = found(programs, home).into_iter().filter(|(_, how)| *how == MountMode::Execute);
    found.map(|(path, _)| path).collect()
}

#[test]
fn what_the_system_has_is_no_need() {
    let home = tempfile::tempdir().unwrap();
    assert_eq!(found(&["/bin/sh".into(), "/usr/bin/env".into()], home.path()), []);
}

#[test]
fn cargo_gets_its_toolchains_and_caches_and_no_credentials() {
    let home = tempfile::tempdir().unwrap();
    let cargo = program(&home.path().join(".cargo/bin/cargo"));
    fs::create_dir_all(home.path().join(".rustup/toolchains")).unwrap();
    for name in [".cargo/config.toml", ".cargo/credentials.toml", ".rustup/settings.toml", ".rustup/secret"] {
        file(&home.path().join(name));
    }
    let expected = [
        (".cargo/.package-cache", MountMode::KeptFile),
        (".cargo/.package-cache-mutate", MountMode::KeptFile),
        (".cargo/bin", MountMode::Execute),
        (".cargo/config.toml", MountMode::Copy(ConfigFormat::Cargo)),
        (".cargo/git", MountMode::Kept),
        (".cargo/registry", MountMode::Kept),
        (".rustup/settings.toml", MountMode::Execute),
        (".rustup/toolchains", MountMode::Execute),
    ];
    assert_eq!(found(&[cargo], home.path()), expected.map(|(path, how)| (path.to_owned(), how)));
}

#[test]
fn a_home_of_cargo_elsewhere_is_no_toolchain_either() {
    let home = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let cargo = program(&elsewhere.path().join("rust/bin/cargo"));
    let env = BTreeMap::from([
        ("HOME".to_owned(), home.path().display().to_string()),
        ("CARGO_HOME".to_owned(), elsewhere.path().join("rust").display().to_string()),
    ]);
    let found = needs(&[cargo], Tools { env: &env, machine: &env, workspace: Path::new("/work") });
    let executable = found.iter().filter(|need| need.how == MountMode::Execute).map(|need| need.path.as_path());
    assert_eq!(executable.collect::<Vec<_>>(), [elsewhere.path().join("rust/bin")]);
}

#[test]
fn of_the_folder_of_a_tool_its_programs_are_taken_and_not_what_lies_beside_them() {
    let home = tempfile::tempdir().unwrap();
    let at = |path: &str| home.path().join(path);
    for beside in [
        ".fly/config.yml",
        ".fly/etc/secret",
        ".pyenv/secret",
        ".pyenv/versions/3.12/pip.conf",
        ".nvm/versions/node/v22/etc/npmrc",
        ".local/share/keyrings/login",
        "opt/maven/conf/settings.xml",
        "opt/jdk/conf/management/jmxremote.password",
        "go/src/private/main.go",
    ] {
        file(&at(beside));
    }
    for part in [
        ".pyenv/libexec/pyenv",
        ".pyenv/versions/3.12/bin/python",
        ".pyenv/versions/3.12/lib/os.py",
        ".nvm/versions/node/v22/lib/npm",
        "opt/maven/boot/plexus.jar",
        "opt/maven/conf/logging/simple.properties",
        "opt/jdk/lib/modules",
        "opt/jdk/conf/security/java.security",
    ] {
        file(&at(part));
    }
    for (path, places) in [
        (".fly/bin/flyctl", &[".fly/bin"][..]),
        (
            ".pyenv/shims/tool",
            &[".pyenv/libexec", ".pyenv/shims", ".pyenv/versions/3.12/bin", ".pyenv/versions/3.12/lib"],
        ),
        (".nvm/versions/node/v22/bin/node", &[".nvm/versions/node/v22/bin", ".nvm/versions/node/v22/lib"]),
        (".local/bin/tool", &[".local/bin/tool"]),
        ("bin/tool", &["bin/tool"]),
        (".ssh/tool", &[".ssh/tool"]),
        ("opt/jdk/bin/java", &["opt/jdk/bin", "opt/jdk/conf/security", "opt/jdk/lib"]),
        ("opt/maven/bin/mvnx", &["opt/maven/bin", "opt/maven/boot", "opt/maven/conf/logging"]),
        ("go/bin/lint", &["go/bin"]),
    ] {
        let tool = program(&at(path));
        assert_eq!(executes(&[tool], home.path()), places, "{path}");
    }
    let own = program(&at("project/bin/tool"));
    assert_eq!(executes(&[own], home.path()), [""; 0]);
}

#[test]
fn a_link_brings_what_it_leads_to_and_a_script_its_interpreter() {
    let home = tempfile::tempdir().unwrap();
    let at = |path: &str| home.path().join(path);
    let script = program(&at(".local/share/pipx/venvs/tool/bin/tool"));
    let python = program(&at(".pyenv/versions/3.12/bin/python"));
    file(&at(".pyenv/versions/3.12/lib/os.py"));
    file(&at(".local/share/pipx/venvs/tool/pyvenv.cfg"));
    std::os::unix::fs::symlink(&python, at(".local/share/pipx/venvs/tool/bin/python")).unwrap();
    fs::write(&script, format!("#!{}\n", at(".local/share/pipx/venvs/tool/bin/python").display())).unwrap();
    fs::create_dir_all(at(".local/bin")).unwrap();
    std::os::unix::fs::symlink(&script, at(".local/bin/tool")).unwrap();
    let expected = [
        ".local/bin/tool",
        ".local/share/pipx/venvs/tool/bin",
        ".local/share/pipx/venvs/tool/pyvenv.cfg",
        ".pyenv/versions/3.12/bin",
        ".pyenv/versions/3.12/lib",
    ];
    assert_eq!(executes(&[at(".local/bin/tool")], home.path()), expected);
}

#[test]
fn nothing_of_a_folder_that_many_share_comes_along() {
    let home = tempfile::tempdir().unwrap();
    let own = home.path().join("own");
    fs::create_dir_all(&own).unwrap();
    // A home above the own one stands for any that the machine knows.
    file(&home.path().join("lib/secret"));
    let tool = program(&home.path().join("bin/tool"));
    assert_eq!(executes(std::slice::from_ref(&tool), &own), [tool.display().to_string()]);
}

/// What branches and earlier stages make says nothing of what is mounted of the machine.
#[test]
fn no_way_leads_through_the_workspace() {
    let home = tempfile::tempdir().unwrap();
    let at = |path: &str| home.path().join(path);
    let link = |target: &str, link: &str| {
        fs::create_dir_all(at(link).parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(at(target), at(link)).unwrap();
    };
    let key = program(&at("private/key"));
    // Folders of `PATH`: one of the workspace, a link to it, and a link to a link in it.
    link("private/key", "project/bin/link");
    fs::write(program(&at("project/bin/script")), format!("#!{}\n", key.display())).unwrap();
    link("project/bin", "again");
    link("private", "project/moved");
    link("project/moved", "through");
    // Programs of the machine that the user linked from the workspace, or that are run by one of it.
    link("project/bin/link", ".local/bin/linked");
    link("private/key", "project/venv/bin/python");
    fs::write(program(&at(".local/bin/run")), format!("#!{}\n", at("project/venv/bin/python").display())).unwrap();
    for path in
        ["project/bin/link", "project/bin/script", "again/link", "again/script", "through/key", ".local/bin/linked"]
    {
        assert_eq!(executes(&[at(path)], home.path()), [""; 0], "{path}");
    }
    assert_eq!(executes(&[at(".local/bin/run")], home.path()), [".local/bin/run"]);
    let (key, workspace) = (key.canonicalize().unwrap(), at("project").canonicalize().unwrap());
    assert_eq!(real_program(&at("again/link"), &workspace), None);
    assert_eq!(real_program(&key, &workspace), Some(key.clone()));
    let own = workspace.join("bin/script");
    assert_eq!(real_program(&at("again/script"), &workspace), Some(own));
    // A part of an installation, and what variables of the machine name.
    link("private", "project/lib");
    let tool = program(&at("opt/tool/bin/tool"));
    link("project/lib", "opt/tool/lib");
    assert_eq!(executes(&[tool], home.path()), ["opt/tool/bin"]);
    link("private", "project/cargo/bin");
    let env = BTreeMap::from([
        ("HOME".to_owned(), home.path().display().to_string()),
        ("CARGO_HOME".to_owned(), at("project/cargo").display().to_string()),
    ]);
    let found = needs(&["/usr/bin/cargo".into()], Tools { env: &env, machine: &env, workspace: &at("project") });
    assert!(found.iter().all(|need| need.how != MountMode::Execute), "{found:?}");
}

#[test]
fn what_only_the_programs_variables_name_is_not_opened() {
    let (home, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for place in [home.path(), other.path()] {
        for path in ["bin/tool", "toolchains/x", ".cargo/bin/x", ".rustup/toolchains/x", "bin/java"] {
            program(&place.join(path));
        }
        for path in [".npmrc", "config.toml"] {
            file(&place.join(path));
        }
    }
    let machine = BTreeMap::from([("HOME".to_owned(), home.path().display().to_string())]);
    let programs = ["cargo", "npm", "mvn", "docker"].map(|name| Path::new("/usr/bin").join(name));
    let with = |name: &str| {
        let mut env = machine.clone();
        env.insert(name.to_owned(), other.path().display().to_string());
        env
    };
    let found = |env: &BTreeMap<String, String>| {
        let tools = Tools { env, machine: &machine, workspace: Path::new("/work") };
        let opened = needs(&programs, tools).into_iter();
        let opened = opened.filter(|need| !matches!(need.how, MountMode::Kept | MountMode::KeptFile));
        opened.map(|need| need.path).collect::<Vec<_>>()
    };
    let own = [".cargo/bin", ".npmrc", ".rustup/toolchains"].map(|path| home.path().join(path));
    assert_eq!(found(&machine), own);
    for name in ["HOME", "CARGO_HOME", "RUSTUP_HOME", "JAVA_HOME"] {
        let paths = found(&with(name));
        assert!(paths.iter().all(|path| own.contains(path)), "{name}: {paths:?}");
    }
}

#[test]
fn a_program_of_a_node_package_brings_the_package() {
    let home = tempfile::tempdir().unwrap();
    let at = |path: &str| home.path().join(path);
    for (package, link) in [("plain", "plain"), ("@scope/cli", "scoped")] {
        program(&at(&format!(".local/lib/node_modules/{package}/cli.js")));
        file(&at(&format!(".local/lib/node_modules/{package}/dist/rest.js")));
        fs::create_dir_all(at(".local/bin")).unwrap();
        let target = format!("../lib/node_modules/{package}/cli.js");
        std::os::unix::fs::symlink(target, at(".local/bin").join(link)).unwrap();
        let expected = [format!(".local/bin/{link}"), format!(".local/lib/node_modules/{package}")];
        assert_eq!(executes(&[at(".local/bin").join(link)], home.path()), expected);
    }
}

#[test]
fn a_shim_brings_its_manager_and_what_the_manager_reads() {
    let home = tempfile::tempdir().unwrap();
    let at = |path: &str| home.path().join(path);
    let shim = program(&at(".asdf/shims/tool"));
    program(&at("tools/asdf"));
    for path in [".tool-versions", ".asdfrc", "tools/secret"] {
        file(&at(path));
    }
    let home_variable = ("HOME".to_owned(), home.path().display().to_string());
    let machine = BTreeMap::from([home_variable, ("PATH".to_owned(), at("tools").display().to_string())]);
    let tools = Tools { env: &machine, machine: &machine, workspace: &at("project") };
    let copied = |path: &str, format| (at(path), MountMode::Copy(format));
    let expected = [
        copied(".asdfrc", ConfigFormat::Asdf),
        (at(".asdf/shims"), MountMode::Execute),
        copied(".tool-versions", ConfigFormat::ToolVersions),
        (at("tools/asdf"), MountMode::Execute),
    ];
    for granted in [shim, at("tools/asdf")] {
        let found = needs(&[granted], tools).into_iter().map(|need| (need.path, need.how)).collect::<BTreeSet<_>>();
        assert_eq!(found, BTreeSet::from(expected.clone()));
    }
}
