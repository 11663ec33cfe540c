//! A stage for a Dockerfile.

use super::draft::{ProjectDraft, StageDraft};
use super::project::Project;

/// `others` are the other projects of the folder, whose stages come before the image.
pub(super) fn draft(project: &Project<'_>, others: &[ProjectDraft]) -> Option<ProjectDraft> {
    project.text("Dockerfile")?;
    let dockerfile = project.path("Dockerfile");
    let mut draft = ProjectDraft::new(project, "docker", format!("Docker ({dockerfile})"));
    if project.has_program("docker") {
        let mut stage = StageDraft::program("image", &["docker", "build", "--tag", "local/app", "."]);
        stage.needs = others.iter().flat_map(ProjectDraft::stage_names).collect();
        stage.comment = Some("Docker's socket gives full control of this machine.".to_owned());
        draft.stages.push(stage);
    } else {
        draft.left_out.push(format!("{dockerfile} has no stage, since `docker` isn't in PATH"));
    }
    Some(draft)
}
