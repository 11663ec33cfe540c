//! The same graph of stages in the configuration format of each tool.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::cargo::Result;

/// The number of stages in a layer.
const WIDE: usize = 10;

/// What a stage does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Nothing, in a component. Tools that only run processes start `/bin/true`.
    Nothing,
    /// `/bin/true`.
    Process,
    /// `/bin/true`, with a result that the next run takes from the cache.
    Cached,
}

/// Layers of stages, each of which needs up to three of the layer before.
pub(super) struct StageGraph {
    pub(super) stages: usize,
}

impl StageGraph {
    /// The name of each stage and the names of its needs, in topological order.
    fn stages(&self) -> impl Iterator<Item = (String, Vec<String>)> {
        (0..self.stages).map(|number| {
            let (layer, place) = (number / WIDE, number % WIDE);
            let mut needs: Vec<usize> = match layer {
                0 => Vec::new(),
                _ => [place, place * 3 + 1, place * 7 + layer].map(|need| (layer - 1) * WIDE + need % WIDE).to_vec(),
            };
            needs.sort_unstable();
            needs.dedup();
            (name(number), needs.into_iter().map(name).collect())
        })
    }

    /// A pipeline file for `stagewright`.
    pub(super) fn pipeline(&self, work: Work) -> String {
        let mut text = "schema = 1\n[pipeline]\nname = \"bench\"\nsandbox = \"preferred\"\n".to_owned();
        for (stage, needs) in self.stages() {
            let needs = needs.iter().map(|need| format!("\"{need}\"")).collect::<Vec<_>>().join(", ");
            let _ = writeln!(text, "[stages.{stage}]\nneeds = [{needs}]");
            text.push_str(match work {
                Work::Nothing => "uses = \"noop\"\n",
                Work::Process => {
                    "uses = \"command\"\nwith = { argv = [\"true\"] }\npermissions = { process = [\"true\"] }\n"
                }
                Work::Cached => "uses = \"noop\"\ncache = true\n",
            });
        }
        text
    }

    /// A makefile for `make`.
    pub(super) fn makefile(&self) -> String {
        let all = self.stages().map(|(stage, _)| stage).collect::<Vec<_>>().join(" ");
        let mut text = format!(".PHONY: all {all}\nall: {all}\n");
        for (stage, needs) in self.stages() {
            let _ = writeln!(text, "{stage}: {}\n\t@/bin/true", needs.join(" "));
        }
        text
    }

    /// A build file for `ninja`. The targets are never created, so ninja builds all of them each time.
    pub(super) fn ninja(&self) -> String {
        let mut text = "rule true\n  command = /bin/true\n".to_owned();
        for (stage, needs) in self.stages() {
            let _ = writeln!(text, "build {stage}: true {}", needs.join(" "));
        }
        text
    }

    /// A justfile for `just`.
    pub(super) fn justfile(&self) -> String {
        let all = self.stages().map(|(stage, _)| stage).collect::<Vec<_>>().join(" ");
        let mut text = format!("all: {all}\n");
        for (stage, needs) in self.stages() {
            let _ = writeln!(text, "{stage}: {}\n  @/bin/true", needs.join(" "));
        }
        text
    }

    /// An npm workspace for `turbo`: a package for each stage, which depends on the packages of its needs.
    pub(super) fn turbo(&self, folder: &Path) -> Result<()> {
        write(
            folder,
            "package.json",
            r#"{"name":"bench","private":true,"packageManager":"npm@10.0.0","workspaces":["packages/*"]}"#,
        )?;
        write(
            folder,
            "package-lock.json",
            r#"{"name":"bench","lockfileVersion":3,"requires":true,"packages":{"":{"name":"bench","workspaces":["packages/*"]}}}"#,
        )?;
        write(folder, "turbo.json", r#"{"tasks":{"build":{"dependsOn":["^build"]}}}"#)?;
        for (stage, needs) in self.stages() {
            let needs = needs.iter().map(|need| format!("\"{need}\":\"*\"")).collect::<Vec<_>>().join(",");
            let text = format!(
                r#"{{"name":"{stage}","version":"1.0.0","scripts":{{"build":"/bin/true"}},"dependencies":{{{needs}}}}}"#
            );
            write(folder, &format!("packages/{stage}/package.json"), &text)?;
        }
        Ok(())
    }

    /// A workspace for `moon`: a project for each stage.
    pub(super) fn moon(&self, folder: &Path) -> Result<()> {
        write(folder, ".moon/workspace.yml", "projects: ['packages/*']\ntelemetry: false\n")?;
        for (stage, needs) in self.stages() {
            let needs = needs.iter().map(|need| format!("'{need}'")).collect::<Vec<_>>().join(", ");
            let text = format!(
                "language: 'bash'\ndependsOn: [{needs}]\ntasks:\n  build:\n    command: '/bin/true'\n    deps: ['^:build']\n    \
                 inputs: ['*.txt']\n    outputs: []\n"
            );
            write(folder, &format!("packages/{stage}/moon.yml"), &text)?;
        }
        Ok(())
    }
}

/// The name of a stage. It starts with a letter, since some tools treat numbers differently.
fn name(number: usize) -> String {
    format!("s{number}")
}

/// Writes a file, and creates its folder.
pub(super) fn write(folder: &Path, path: &str, text: &str) -> Result<()> {
    let path = folder.join(path);
    let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, text));
    made.map_err(|error| format!("can't write {}: {error}", path.display()))
}
