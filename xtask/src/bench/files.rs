//! Many files, none of which have changed.

use std::fmt::Write as _;
use std::process::Command;

use super::contest::{Contender, contest};
use super::graph::write;
use super::peers::{Bench, Measured, RUNS, commit};
use crate::cargo::{Result, is_installed};

const FOLDERS: usize = 500;
const FILES: usize = 100;

const PIPELINE: &str = r#"schema = 1
[pipeline]
name = "files"
[stages.hash]
uses = "noop"
cache = true
inputs = ["packages/all/**"]
permissions = { read = ["packages"] }
"#;

impl Bench {
    /// All tools use the same tree, which contains the configuration files of each.
    pub(super) fn files(&self) -> Result<Measured> {
        let folder = self.folder.join("files");
        for (path, text) in [
            ("stagewright.toml", PIPELINE),
            (".gitignore", ".stagewright\n.turbo\n.moon/cache\n"),
            (
                "package.json",
                r#"{"name":"bench","private":true,"packageManager":"npm@10.0.0","workspaces":["packages/*"]}"#,
            ),
            ("package-lock.json", r#"{"name":"bench","lockfileVersion":3,"requires":true,"packages":{}}"#),
            ("turbo.json", r#"{"tasks":{"build":{}}}"#),
            ("packages/all/package.json", r#"{"name":"all","version":"1.0.0","scripts":{"build":"/bin/true"}}"#),
            (".moon/workspace.yml", "projects: ['packages/*']\ntelemetry: false\n"),
            (
                "packages/all/moon.yml",
                "language: 'bash'\ntasks:\n  build:\n    command: '/bin/true'\n    inputs: ['**/*']\n    outputs: []\n",
            ),
        ] {
            write(&folder, path, text)?;
        }
        for number in 0..FOLDERS * FILES {
            let mut text = String::new();
            for line in 0..10 + number % 30 {
                let _ = writeln!(text, "line {line} of file {number}");
            }
            let path = format!("packages/all/src/part{}/file{number}.txt", number / FILES);
            write(&folder, &path, &text)?;
        }
        commit(&folder)?;
        let mut contenders = vec![self.ours("stagewright", &["run"])];
        if is_installed("turbo") {
            contenders.push(Contender::new("turbo", &["turbo", "run", "build", "--output-logs", "none"]));
        }
        if is_installed("moon") {
            contenders.push(Contender::new("moon", &["moon", "run", "all:build"]));
        }
        let times = contest(&folder, &self.environment, RUNS, &contenders)?;
        // A tool that ignored its cache and ran the task again would have been timed doing something else.
        for Contender { name, command, .. } in &contenders {
            let ran =
                Command::new(&command[0]).args(&command[1..]).current_dir(&folder).envs(&self.environment).output();
            let output = ran.map_err(|error| format!("can't start {name}: {error}"))?.stdout;
            if !String::from_utf8_lossy(&output).contains("cached") {
                return Err(format!("{name} didn't use its cache"));
            }
        }
        Ok(Measured { title: "50,000 files, none of them changed", times, notes: Vec::new() })
    }
}
