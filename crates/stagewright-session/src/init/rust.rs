//! Stages for a Cargo package or workspace.

use super::draft::{ProjectDraft, StageDraft, StageWork};
use super::project::Project;

pub(super) fn draft(project: &Project<'_>) -> Option<ProjectDraft> {
    let manifest = project.toml("Cargo.toml")?;
    let is_locked = project.has_file("Cargo.lock");
    let mut arguments = Vec::new();
    arguments.extend(manifest.contains_key("workspace").then_some("--workspace"));
    arguments.extend(is_locked.then_some("--locked"));
    let mut stages = Vec::new();
    let formats = ["rustfmt.toml", ".rustfmt.toml"].iter().any(|file| project.has_file(file))
        || ["cargo fmt", "rustfmt"].iter().any(|text| project.checks_mention(text));
    if formats {
        stages.push(StageDraft::program("format", &["cargo", "fmt", "--all", "--check"]));
    }
    let lints =
        ["clippy.toml", ".clippy.toml"].iter().any(|file| project.has_file(file)) || project.checks_mention("clippy");
    if lints {
        let words = ["cargo", "clippy", "--all-targets"];
        stages.push(StageDraft::program("lint", &[&words, &arguments[..]].concat()));
    }
    let arguments = arguments.into_iter().map(str::to_owned).collect();
    stages.push(StageDraft::new("test", StageWork::CargoTest(arguments)));
    if !is_locked {
        // Without one, Cargo writes it in whatever stage is first.
        let builds = |stage: &&mut StageDraft| stage.name != "format";
        stages.iter_mut().filter(builds).for_each(|stage| stage.write.push("Cargo.lock".to_owned()));
    }
    let mut draft = ProjectDraft::new(project, "rust", format!("Rust ({})", project.path("Cargo.toml")));
    draft.stages = stages;
    Some(draft)
}
