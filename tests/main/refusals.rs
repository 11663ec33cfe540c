//! What a program was refused is explained: the failure names the line of the pipeline that grants it.
//!
//! Programs of this machine are refused files, programs and hosts, and complain in their own words.

use std::net::UdpSocket;

use serde_json::Value as Json;

use crate::environment::{TestEnvironment, failure, text};

/// A repository with files that no stage is granted by default, and a folder of programs in the machine's `PATH`.
fn repository() -> TestEnvironment {
    let mut environment = TestEnvironment::new();
    for (path, content) in [
        ("src/words.txt", "words\n"),
        ("a name.txt", "words\n"),
        ("Makefile", "all:\n"),
        ("Cargo.toml", "[package]\nname = \"app\"\n"),
        ("tool.sh", "#!/bin/sh\necho tool\n"),
        ("script.py", "print(open('src/words.txt').read())\n"),
        ("script.js", "require('fs').readFileSync('src/words.txt')\n"),
        ("lib/helper.js", "\n"),
        ("node_modules/tool/index.js", "\n"),
        ("uses-linter", "#!../programs/linter\n"),
        ("../programs/linter", "#!/bin/sh\necho linted\n"),
        (".git/HEAD", "ref: refs/heads/main\n"),
        (".git/config", "[core]\n\trepositoryformatversion = 0\n"),
        (".git/objects/keep", ""),
        (".git/refs/keep", ""),
    ] {
        environment.write(path, content);
    }
    for program in ["tool.sh", "uses-linter", "../programs/linter"] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(environment.root().join(program), mode).expect("a mode");
    }
    let programs = environment.root().join("../programs").canonicalize().expect("a folder");
    environment.write("uses-linter", &format!("#!{}\n", programs.join("linter").display()));
    let path = std::env::var("PATH").expect("a PATH");
    environment.set("PATH", &format!("{}:{path}", programs.display()));
    environment
}

/// The events of a stage that runs a script and fails.
#[track_caller]
fn fails(environment: &TestEnvironment, permissions: &str, script: &str) -> Vec<Json> {
    let pipeline = format!(
        "schema = 1\npipeline.name = \"refusals\"\n[stages.try]\nuses = \"command\"\ncache = false\n\
         with = {{ shell = [\"sh\", \"-c\"], run = '''{script}''' }}\n[stages.try.permissions]\n{permissions}\n"
    );
    environment.write("stagewright.toml", &pipeline);
    let (code, events) = environment.events(&["run"]);
    assert_eq!(code, 1, "{script}: {events:#?}");
    events
}

/// The help of the failure. Each grant in it is recorded as well.
#[track_caller]
fn help(events: &[Json]) -> String {
    let help = text(&failure(events, "try")["help"]);
    let grants = events
        .iter()
        .filter(|event| event["problem"]["code"] == "permission-denied")
        .map(|event| &event["problem"]["grant"]);
    let is_recorded = |key: &str| grants.clone().any(|grant| grant["permission"] == key);
    for key in ["read", "write", "exec", "process", "net", "env"] {
        let named = help.contains(&format!("{key} = ["));
        assert!(!named || is_recorded(key), "{key} of {help} isn't recorded: {events:#?}");
    }
    help
}

/// Runs scripts that fail, and checks the help of each.
#[track_caller]
fn explains(cases: &[(&str, &str, &str)]) {
    let environment = repository();
    for (permissions, script, line) in cases {
        let events = fails(&environment, permissions, script);
        assert_eq!(help(&events), format!("add to [stages.try.permissions]: {line}"), "{script}: {events:#?}");
    }
}

/// Runs scripts that fail for reasons of their own.
#[track_caller]
fn says_nothing(cases: &[(&str, &str)]) {
    let environment = repository();
    for (permissions, script) in cases {
        let events = fails(&environment, permissions, script);
        assert_eq!(help(&events), "", "{script}: {events:#?}");
        assert!(events.iter().all(|event| event["problem"]["code"] != "permission-denied"), "{script}: {events:#?}");
    }
}

const SH: &str = r#"process = ["sh"]"#;

#[test]
fn a_program_that_names_a_host_is_told_the_line_that_grants_it() {
    let curl = r#"process = ["sh", "curl"]"#;
    let python = r#"process = ["sh", "/usr/bin/python3"]"#;
    explains(&[
        (curl, "curl -sS https://api.example.org/", r#"net = ["https://api.example.org"]"#),
        (curl, "curl -sSf http://api.example.org:8080/", r#"net = ["http://api.example.org:8080"]"#),
        (curl, "curl -sS https://index.crates.io/config.json", r#"net = ["cargo"]"#),
        (curl, "curl -sS https://registry.npmjs.org/", r#"net = ["npm"]"#),
        (curl, "curl -sS https://pypi.org/simple/", r#"net = ["pip"]"#),
        // Without the proxy, by the name that is looked up, and by the address.
        (curl, "curl -sS --noproxy '*' https://api.example.org/", r#"net = ["https://api.example.org"]"#),
        (
            python,
            "/usr/bin/python3 -c 'import socket; socket.create_connection((\"db.example.org\", 443))'",
            r#"net = ["https://db.example.org"]"#,
        ),
        (
            python,
            "/usr/bin/python3 -c 'import socket; socket.create_connection((\"192.0.2.7\", 5432))'",
            r#"net = ["tcp://192.0.2.7:5432"]"#,
        ),
        (
            SH,
            "node -e 'fetch(\"https://api.example.org\").catch(e => { console.error(e); process.exit(1) })'",
            r#"net = ["https://api.example.org"]"#,
        ),
    ]);
}

/// The user's programs trust an authority of their company, which those of the stage don't know.
#[test]
fn a_variable_with_certificates_that_the_stage_lacks_is_named() {
    let mut environment = repository();
    environment.write("../outside/own.pem", "");
    let hidden = environment.root().join("../outside/own.pem").canonicalize().expect("a file");
    environment.set("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt");
    environment.set("NODE_EXTRA_CA_CERTS", &hidden.display().to_string());
    let script = "echo \"$SSL_CERT_FILE\"; echo 'error: invalid peer certificate: UnknownIssuer' >&2; exit 1";
    let events = fails(&environment, SH, script);
    assert_eq!(help(&events), r#"add to [stages.try.permissions]: env = ["SSL_CERT_FILE"]"#, "{events:#?}");
    let granted = "process = [\"sh\"]\nenv = [\"SSL_CERT_FILE\"]";
    let events = fails(&environment, granted, script);
    assert_eq!(help(&events), "", "{events:#?}");
    assert!(format!("{events:?}").contains("/etc/ssl/certs/ca-certificates.crt"), "{events:#?}");
    assert_eq!(help(&fails(&environment, SH, "echo other >&2; exit 1")), "");
}

/// A refused connection that has nothing to do with the failure, as of a client that looks for its update.
#[test]
fn a_host_that_the_failure_is_not_about_is_recorded_alone() {
    let environment = repository();
    let permissions = r#"process = ["sh", "curl"]"#;
    let script = "curl -s https://telemetry.example.org/ || echo '1 test failed'; exit 3";
    let events = fails(&environment, permissions, script);
    assert_eq!(help(&events), "");
    assert!(
        events.iter().any(|event| event["problem"]["grant"]["entry"] == "https://telemetry.example.org"),
        "{events:#?}"
    );
}

#[test]
fn no_lookup_leaves_the_sandbox() {
    let environment = repository();
    let outside = UdpSocket::bind("127.0.0.1:0").expect("a port");
    outside.set_nonblocking(true).expect("a socket");
    let script = "getent hosts example.org && echo resolved; grep -c '^nameserver 127.0.0.1$' /etc/resolv.conf; exit 1";
    let events = fails(&environment, SH, script);
    let said = environment.run(&["logs", "latest", "try"]).exits(0).stdout;
    assert!(said.contains('1') && !said.contains("resolved"), "{said} {events:#?}");
}

#[test]
fn a_file_that_exists_and_was_not_granted_is_named() {
    explains(&[
        (SH, "cat src/words.txt", r#"read = ["src/words.txt"]"#),
        (SH, "cat 'a name.txt'", r#"read = ["a name.txt"]"#),
        (SH, "cat $PWD/src/words.txt", r#"read = ["src/words.txt"]"#),
        (SH, "cd src && cat words.txt", r#"read = ["src"]"#),
        (SH, "read line < src/words.txt", r#"read = ["src/words.txt"]"#),
        (r#"process = ["bash", "sh"]"#, "bash -c 'read line < src/words.txt'", r#"read = ["src/words.txt"]"#),
        (SH, "sh tool.sh", r#"read = ["tool.sh"]"#),
        (SH, "/usr/bin/python3 script.py", r#"read = ["script.py"]"#),
    ]);
}

#[test]
fn each_language_is_understood() {
    let with = |path: &str| format!("process = [\"sh\"]\nread = [\"{path}\"]");
    let changed = |environment: &TestEnvironment, path: &str, script: &str, line: &str| {
        let events = fails(environment, &with(path), script);
        assert_eq!(help(&events), format!("change in [stages.try.permissions]: {line}"), "{script}: {events:#?}");
    };
    let environment = repository();
    changed(&environment, "script.py", "/usr/bin/python3 script.py", r#"read = ["script.py", "src/words.txt"]"#);
    changed(&environment, "script.js", "node script.js", r#"read = ["script.js", "src/words.txt"]"#);
    environment.write("main.js", "require('./lib/helper')\n");
    changed(&environment, "main.js", "node main.js", r#"read = ["lib/helper.js", "main.js"]"#);
    environment.write("main.js", "require('tool')\n");
    changed(&environment, "main.js", "node main.js", r#"read = ["main.js", "node_modules"]"#);
    environment.write("main.py", "import helpers\n");
    environment.write("helpers.py", "");
    changed(&environment, "main.py", "/usr/bin/python3 main.py", r#"read = ["helpers.py", "main.py"]"#);
    let perl = "perl -e 'open(my $f, \"<\", \"src/words.txt\") or die \"src/words.txt: $!\"'";
    changed(&environment, "main.py", perl, r#"read = ["main.py", "src/words.txt"]"#);
    changed(&environment, "main.py", "make", r#"read = ["Makefile", "main.py"]"#);
    changed(&environment, "src", "/usr/bin/cargo metadata --offline", r#"read = ["Cargo.toml", "src"]"#);
    changed(&environment, "src", "git log", r#"read = [".git", "src"]"#);
}

#[test]
fn a_write_in_the_workspace_is_named() {
    let all = "process = [\"sh\"]\nread = [\".\"]";
    explains(&[
        (all, "touch out.txt", r#"write = ["out.txt"]"#),
        (all, "echo x > out", r#"write = ["out"]"#),
        (all, "echo x > src/words.txt", r#"write = ["src/words.txt"]"#),
        (all, "rm src/words.txt", r#"write = ["src/words.txt"]"#),
        (all, "mkdir -p reports/today", r#"write = ["reports"]"#),
        (all, "cp tool.sh dist-tool", r#"write = ["dist-tool"]"#),
        (SH, "touch out.txt", r#"write = ["out.txt"]"#),
        (all, "/usr/bin/python3 -c 'open(\"out.txt\", \"w\")'", r#"write = ["out.txt"]"#),
        (all, "node -e 'require(\"fs\").mkdirSync(\"dist/js\", { recursive: true })'", r#"write = ["dist"]"#),
        (all, "node -e 'require(\"fs\").mkdirSync(\"dist\")'", r#"write = ["dist"]"#),
        (all, "bash -c 'echo x > out.txt'", r#"write = ["out.txt"]"#),
        (all, "tar -cf src.tar src", r#"write = ["src.tar"]"#),
    ]);
}

#[test]
fn a_file_that_may_only_be_read_and_is_started_is_named() {
    let all = "process = [\"sh\"]\nread = [\".\"]";
    explains(&[
        (all, "./tool.sh", r#"exec = ["tool.sh"]"#),
        (all, "bash -c ./tool.sh", r#"exec = ["tool.sh"]"#),
        (all, "/usr/bin/python3 -c 'import subprocess; subprocess.run([\"./tool.sh\"])'", r#"exec = ["tool.sh"]"#),
        (all, "node -e 'require(\"child_process\").spawn(\"./tool.sh\")'", r#"exec = ["tool.sh"]"#),
    ]);
}

/// `cat` is a program of the user here, in a folder of `PATH` before the system's.
#[test]
fn a_program_that_was_not_granted_is_refused_and_no_other_one_takes_its_place() {
    let mut environment = repository();
    let programs = environment.root().join("../programs").canonicalize().expect("a folder");
    environment.write("../programs/cat", "#!/bin/sh\necho the users cat\n");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(programs.join("cat"), executable).expect("a mode");
    let events = fails(&environment, r#"process = ["sh"]"#, "cat /etc/hostname && echo the systems cat was started");
    assert_eq!(help(&events), r#"change in [stages.try.permissions]: process = ["cat", "sh"]"#, "{events:#?}");
    assert!(!format!("{events:?}").contains("\"the systems cat was started"), "{events:#?}");
    let named = format!("the stage is not granted {}", programs.join("cat").display());
    assert!(format!("{events:?}").contains(&named), "{events:#?}");
    // By its path it is still the system's, and by its name it is the granted one.
    for (permissions, script, printed) in [
        (r#"process = ["sh"]"#, "/usr/bin/printf 'the system%s' s; /bin/cat /dev/null", "the systems"),
        (r#"process = ["sh", "cat"]"#, "cat", "the users cat"),
    ] {
        let events = fails(&environment, permissions, &format!("{script}; exit 3"));
        assert!(format!("{events:?}").contains(printed), "{script}: {events:#?}");
        assert_eq!(help(&events), "", "{events:#?}");
    }
    environment.set("PATH", &std::env::var("PATH").expect("a PATH"));
    let events = fails(&environment, r#"process = ["sh"]"#, "cat /dev/null && exit 3");
    assert!(!format!("{events:?}").contains("is not granted"), "{events:#?}");
}

#[test]
fn a_program_in_path_that_was_not_granted_is_named() {
    let changed = r#"process = ["linter", "sh"]"#;
    let environment = repository();
    let interpreter = environment.root().join("../programs/linter").canonicalize().expect("a program");
    for (permissions, script, line) in [
        (SH, "linter --all", changed.to_owned()),
        (SH, "bash -c linter", changed.to_owned()),
        (SH, "env linter", changed.to_owned()),
        (SH, "/usr/bin/python3 -c 'import subprocess; subprocess.run([\"linter\"])'", changed.to_owned()),
        (SH, "node -e 'require(\"child_process\").spawn(\"linter\")'", changed.to_owned()),
        (
            r#"process = ["sh", "./uses-linter"]"#,
            "./uses-linter",
            format!(r#"process = ["./uses-linter", "{}", "sh"]"#, interpreter.display()),
        ),
    ] {
        let events = fails(&environment, permissions, script);
        assert_eq!(help(&events), format!("change in [stages.try.permissions]: {line}"), "{script}: {events:#?}");
    }
}

#[test]
fn other_failures_are_not_explained_by_grants() {
    let all = "process = [\"sh\"]\nread = [\".\"]";
    says_nothing(&[
        (all, "cat none.txt"),
        (all, "no-such-program"),
        (all, "cat ../outside"),
        (all, "chmod -x /dev/null 2>/dev/null; ./src/words.txt"),
        (all, "touch /usr/out.txt"),
        ("process = [\"sh\"]\nwrite = [\".\"]", "cat none.txt; exit 1"),
        (SH, "exit 3"),
        (SH, "cat /etc/shadow"),
        (SH, "cat ../../etc/passwd-"),
    ]);
}

/// Output that only looks like a complaint: reserved places, files outside, and more lines than are examined.
#[test]
fn hostile_output_reveals_nothing_and_suggests_no_grant_that_would_be_refused() {
    let environment = repository();
    environment.write("../outside/prize", "hunter2\n");
    let outside = environment.root().join("../outside").canonicalize().expect("a folder");
    let all = "process = [\"sh\"]\nread = [\"src\"]";
    let script = format!(
        "cat >&2 <<'END'
cat: {0}/prize: No such file or directory
touch: cannot touch '{0}/prize': Read-only file system
touch: cannot touch '.git/hooks/pre-commit': Read-only file system
touch: cannot touch '.stagewright/journal.db': Read-only file system
cat: .stagewright: No such file or directory
sh: 1: {0}/prize: Permission denied
cat: ../outside/prize: No such file or directory
cat: .: No such file or directory
sh: 1: ../outside/prize: not found
END
exit 1",
        outside.display()
    );
    let events = fails(&environment, all, &script);
    assert_eq!(help(&events), "", "{events:#?}");
    let script = "i=0; while [ $i -lt 3000 ]; do echo \"touch: cannot touch 'f$i': Read-only file system\"; i=$((i+1)); done; exit 1";
    let events = fails(&environment, all, script);
    let denials = events.iter().filter(|event| event["problem"]["code"] == "permission-denied").count();
    assert!((1..=8).contains(&denials), "{denials}");
}

/// A program that fails without consequence says nothing about the stage.
#[test]
fn a_stage_that_succeeds_is_not_explained() {
    let environment = repository();
    let pipeline = "schema = 1\npipeline.name = \"refusals\"\n[stages.try]\nuses = \"command\"\n\
                    with = { run = 'cat src/words.txt || exit 3', exit-codes = [3] }\n\
                    permissions = { process = [\"sh\"] }\n";
    environment.write("stagewright.toml", pipeline);
    let (code, events) = environment.events(&["run"]);
    assert_eq!(code, 0, "{events:#?}");
    assert!(events.iter().all(|event| event["problem"]["code"] != "permission-denied"), "{events:#?}");
}

/// A link of the workspace stays a link, so that its program finds the files beside its target. It makes nothing visible.
#[test]
fn a_granted_link_of_the_workspace_stays_a_link() {
    let environment = repository();
    environment.write("node_modules/pkg/cli.js", "#!/usr/bin/env node\nconsole.log(require('./words.json'))\n");
    environment.write("node_modules/pkg/words.json", "\"found\"\n");
    environment.write("../outside/program", "#!/bin/sh\necho hunter2\n");
    environment.write(".venv/pyvenv.cfg", "home = /usr/bin\n");
    let root = environment.root();
    let outside = root.join("../outside/program").canonicalize().expect("a program");
    let linter = root.join("../programs/linter").canonicalize().expect("a program");
    for program in [root.join("node_modules/pkg/cli.js"), outside.clone()] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(program, mode).expect("a mode");
    }
    for folder in ["node_modules/.bin", ".venv/bin", "bin"] {
        std::fs::create_dir_all(root.join(folder)).expect("a folder");
    }
    let links = [
        ("node_modules/.bin/cli", "../pkg/cli.js".into()),
        (".venv/bin/python3", "/usr/bin/python3".into()),
        (".venv/bin/python", "python3".into()),
        ("bin/linter", linter.clone()),
        ("bin/outside", outside),
        ("bin/shadow", "/etc/shadow".into()),
        ("bin/loop", "loop".into()),
        ("bin/up", "../../outside/program".into()),
        ("bin/hook", "../.git/config".into()),
    ];
    for (link, target) in links {
        std::os::unix::fs::symlink::<std::path::PathBuf, _>(target, root.join(link)).expect("a link");
    }
    let run = |program: &str, permissions: &str, args: &str| {
        let pipeline = format!(
            "schema = 1\npipeline.name = \"links\"\n[stages.try]\nuses = \"command\"\n\
             with = {{ argv = [\"{program}\"{args}] }}\npermissions = {{ {permissions} }}\n"
        );
        environment.write("stagewright.toml", &pipeline);
        environment.run(&["run"])
    };
    let cli = r#"process = ["node_modules/.bin/cli"], read = ["node_modules/pkg"]"#;
    let found = run("node_modules/.bin/cli", cli, "").exits(0);
    assert!(found.stdout.contains("found"), "{}", found.stdout);
    for python in ["python3", "python"] {
        let granted = format!("process = [\".venv/bin/{python}\"], exec = [\".venv\"]");
        let ran = run(&format!(".venv/bin/{python}"), &granted, r#", "-c", "import sys; print(sys.prefix)""#).exits(0);
        assert!(ran.stdout.contains("/.venv"), "{}", ran.stdout);
    }
    let both = format!(r#"process = ["bin/linter", "{}"]"#, linter.display());
    assert!(run("bin/linter", &both, "").exits(0).stdout.contains("linted"));
    // What a link leads to is granted by its own path alone.
    for link in ["linter", "outside", "shadow", "loop", "up", "hook"] {
        let refused = run(&format!("bin/{link}"), &format!("process = [\"bin/{link}\"], read = [\"bin\"]"), "");
        assert_eq!(refused.code, 1, "{link}: {}", refused.stdout);
        assert!(!refused.stdout.contains("hunter2") && !refused.stdout.contains("linted"), "{}", refused.stdout);
    }
    let named = run("bin/linter", r#"process = ["bin/linter"]"#, "").exits(1).stdout;
    assert!(named.contains(&format!(r#"process = ["{}", "bin/linter"]"#, linter.display())), "{named}");
}

#[test]
fn why_shows_what_a_stage_was_granted_and_refused() {
    let mut environment = repository();
    environment.set("TOKEN", "hunter2-hunter2");
    let pipeline = r#"
        schema = 1
        pipeline.name = "why"
        [secrets.token]
        from = "env:TOKEN"
        hosts = ["ghcr.io"]
        [stages.try]
        uses = "command"
        retry = { max = 1 }
        with = { run = "cat src/words.txt", secret-env = { TOKEN = "token" } }
        permissions = { process = ["sh"], read = ["lib"], secrets = ["token"] }
        [stages.after]
        uses = "noop"
        needs = ["try"]
    "#;
    environment.write("stagewright.toml", pipeline);
    environment.run(&["run"]).exits(1);
    let page = environment.run(&["why", "try"]).exits(0).stdout;
    for line in [
        "try ran in ",
        "  result    failed after 2 attempts: `sh` ended with exit code 1",
        "  process   sh",
        "  read      lib",
        "  secret    token: to ghcr.io, and to any granted program",
        "  effect    run sh",
        "  refused   the stage may not read `src/words.txt`; change in [stages.try.permissions]: read = [\"lib\", \"src/words.txt\"]",
        "  help      change in [stages.try.permissions]: read = [\"lib\", \"src/words.txt\"]",
    ] {
        assert!(page.contains(line), "{line} isn't in:\n{page}");
    }
    let read: Json = serde_json::from_str(&environment.run(&["why", "try", "--json"]).exits(0).stdout).expect("JSON");
    let stage = &read[0];
    assert_eq!((&stage["outcome"], &stage["attempts"]), (&Json::from("failed"), &Json::from(2)), "{stage:#}");
    assert_eq!(stage["refused"][0]["grant"]["entry"], "src/words.txt", "{stage:#}");
    assert_eq!(stage["secrets"][0]["hosts"][0], "ghcr.io", "{stage:#}");
    let skipped = environment.run(&["why", "after"]).exits(0).stdout;
    assert!(skipped.contains("after did not run in ") && skipped.contains("  result    skipped: "), "{skipped}");
}
