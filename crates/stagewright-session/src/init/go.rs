//! Stages for a Go module.

use super::draft::{ProjectDraft, StageDraft};
use super::project::Project;

pub(super) fn draft(project: &Project<'_>) -> Option<ProjectDraft> {
    project.text("go.mod")?;
    let mut draft = ProjectDraft::new(project, "go", format!("Go ({})", project.path("go.mod")));
    draft.stages = vec![
        StageDraft::program("vet", &["go", "vet", "./..."]),
        StageDraft::program("test", &["go", "test", "./..."]),
    ];
    Some(draft)
}
