//! The same graph of stages, as files of each tool.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::cargo::Result;

/// Stages side by side.
const WIDE: usize = 10;

/// What a stage does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Nothing, in a component; `/bin/true` for tools that only know processes.
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
    /// Names of each stage's needs, in an order in which they can run.
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

    /// A pipeline of our own.
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

    /// For `make`.
    pub(super) fn makefile(&self) -> String {
        let all = self.stages().map(|(stage, _)| stage).collect::<Vec<_>>().join(" ");
        let mut text = format!(".PHONY: all {all}\nall: {all}\n");
        for (stage, needs) in self.stages() {
            let _ = writeln!(text, "{stage}: {}\n\t@/bin/true", needs.join(" "));
        }
        text
    }

    /// For `ninja`: what is never made is always made anew.
    pub(super) fn ninja(&self) -> String {
        let mut text = "rule true\n  command = /bin/true\n".to_owned();
        for (stage, needs) in self.stages() {
            let _ = writeln!(text, "build {stage}: true {}", needs.join(" "));
        }
        text
    }

    /// For `just`.
    pub(super) fn justfile(&self) -> String {
        let all = self.stages().map(|(stage, _)| stage).collect::<Vec<_>>().join(" ");
        let mut text = format!("all: {all}\n");
        for (stage, needs) in self.stages() {
            let _ = writeln!(text, "{stage}: {}\n  @/bin/true", needs.join(" "));
        }
        text
    }

    /// Packages of an npm workspace, for `turbo`; the needs are dependencies between them.
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

    /// Projects of a workspace, for `moon`.
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

/// Letters first: some tools take a number for something else.
fn name(number: usize) -> String {
    format!("s{number}")
}

/// Writes a file, and makes its folder.
pub(super) fn write(folder: &Path, path: &str, text: &str) -> Result<()> {
    let path = folder.join(path);
    let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, text));
    made.map_err(|error| format!("can't write {}: {error}", path.display()))
}
