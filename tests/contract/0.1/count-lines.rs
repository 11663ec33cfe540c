//! Fails when a file has too many lines.

use serde::Deserialize;
use stagewright_sdk::{Capability, Diagnostic, Error, JsonSchema, Manifest, Outcome, Result, Stage, log, outputs, workspace};

/// The stage's `with` table.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "stagewright_sdk::schemars")]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Glob of the files to check, as in `src/**/*.rs`.
    pub files: String,
    /// The most lines that a file may have.
    #[serde(default = "default_max_lines")]
    pub max_lines: usize,
}

fn default_max_lines() -> usize {
    500
}

/// The plugin.
#[derive(Debug)]
pub struct CountLines;

impl Stage for CountLines {
    type Config = Config;

    fn manifest() -> Manifest {
        Manifest::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .description("Fails when a file has too many lines")
            .output("files", "Number of files that were checked")
            .output("longest", "Number of lines of the longest file")
            .capability(Capability::Workspace)
    }

    fn validate(config: &Config) -> Vec<Diagnostic> {
        if config.max_lines > 0 {
            return Vec::new();
        }
        vec![Diagnostic::error("max-lines", "`max-lines` must not be 0").at("max-lines").help("use 1 or more")]
    }

    fn run(config: Config) -> Result<Outcome> {
        let files = workspace::glob(&config.files)?;
        let (mut longest, mut too_long) = (0, 0);
        for file in files.iter().filter(|entry| !entry.directory) {
            let lines = workspace::read_text(&file.path)?.lines().count();
            log::debug(format!("{}: {lines} lines", file.path));
            longest = longest.max(lines);
            if lines > config.max_lines {
                too_long += 1;
                let message = format!("{} has {lines} lines, {} are allowed", file.path, config.max_lines);
                outputs::report(Diagnostic::error("too-long", message).at(&file.path));
            }
        }
        outputs::set("files", &files.len())?;
        outputs::set("longest", &longest)?;
        if too_long > 0 {
            let files = if too_long == 1 { "file is" } else { "files are" };
            return Err(Error::failed(format!("{too_long} {files} too long"))
                .help("split them, or raise `max-lines` in the stage's `with` table"));
        }
        Ok(Outcome::Succeeded)
    }
}

stagewright_sdk::export_stage!(CountLines);

#[cfg(test)]
mod tests {
    use serde_json::json;
    use stagewright_sdk::fake::FakeHost;

    use super::*;

    fn host(max_lines: usize) -> FakeHost {
        let with = json!({ "files": "src/**/*.rs", "max-lines": max_lines });
        FakeHost::new().config(with).file("src/a.rs", "1\n2\n3\n").file("src/b/c.rs", "1\n").file("README.md", "")
    }

    #[test]
    fn short_files_pass() {
        let report = host(3).run::<CountLines>();
        assert_eq!(report.result, Ok(Outcome::Succeeded));
        assert_eq!(report.outputs["files"], 2);
        assert_eq!(report.outputs["longest"], 3);
    }

    #[test]
    fn a_long_file_is_reported() {
        let report = host(2).run::<CountLines>();
        assert_eq!(report.result.unwrap_err().message, "1 file is too long");
        assert_eq!(report.problems[0].path.as_deref(), Some("src/a.rs"));
    }

    #[test]
    fn files_that_are_not_granted_cannot_be_read() {
        let report = host(3).deny("workspace", "src/a.rs").run::<CountLines>();
        assert!(report.result.unwrap_err().is_denied());
    }
}
