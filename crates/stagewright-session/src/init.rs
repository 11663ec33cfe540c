//! Proposes a pipeline for a repository that has none, from the files that its own tools use.
//!
//! A stage is only proposed if the repository shows that its check is in use: a script in `package.json`, a configured
//! formatter, a command of its CI. A check that the repository never had would fail in the first run.

mod docker;
mod draft;
mod go;
mod node;
mod project;
mod python;
mod rust;

use std::path::PathBuf;

use stagewright_model::Plan;

use self::draft::ProjectDraft;
use self::project::Project;
use crate::error::SessionError;
use crate::load;
use crate::repository::PipelineFile;
use crate::session::Session;

/// The most folders directly below the root that are searched for projects.
const MOST_FOLDERS: usize = 32;

/// A pipeline to propose.
#[derive(Clone, Debug)]
pub struct PipelineRequest {
    /// The file to write, relative to the current folder; none for `stagewright.toml` at the repository's root.
    pub file: Option<PathBuf>,
    /// `[pipeline] name`.
    pub name: String,
}

/// A proposed pipeline.
#[derive(Debug)]
pub struct PipelineProposal {
    /// The file to write.
    path: PathBuf,
    /// The file, relative to the repository's root if it is inside of the repository.
    pub file: String,
    /// Its text.
    pub text: String,
    /// Its plan.
    pub plan: Plan,
    /// What was found, as in "Rust (Cargo.toml)".
    pub found: Vec<String>,
    /// What was found and has no stage, and why.
    pub left_out: Vec<String>,
}

impl Session {
    /// Proposes a pipeline. Nothing is written.
    ///
    /// # Errors
    /// If the file exists, or nothing is found that a stage could be made of.
    pub fn propose_pipeline(&self, request: &PipelineRequest) -> Result<PipelineProposal, SessionError> {
        let repository = &self.repository;
        let path = match &request.file {
            Some(file) => repository.current.join(file),
            None => repository.root.join("stagewright.toml"),
        };
        let file = path.strip_prefix(&repository.root).unwrap_or(&path).display().to_string();
        if path.symlink_metadata().is_ok() {
            return Err(SessionError::not_ready(format!("{file} exists already"))
                .hint("choose another file with `--output`, or look at what init would write with `--dry-run`"));
        }
        let projects = projects(&Project::at_root(repository));
        if projects.iter().all(|project| project.stages.is_empty()) {
            return Err(nothing_found(&projects));
        }
        let text = draft::pipeline(&request.name, &projects);
        load::require_plugins(repository)?;
        let (plan, diagnostics) = load::parse(repository, &PipelineFile { name: file.clone(), text: text.clone() });
        let plan = plan.ok_or_else(|| {
            self.notices.diagnostics(&diagnostics.iter().collect::<Vec<_>>());
            // Everything else in it is ours.
            SessionError::invalid_request("a pipeline can't have this name; nothing was written")
                .hint("choose another one: `--name NAME`")
        })?;
        let found = projects.iter().map(|project| project.found.clone()).collect();
        let left_out = projects.into_iter().flat_map(|project| project.left_out).collect();
        Ok(PipelineProposal { path, file, text, plan, found, left_out })
    }
}

impl PipelineProposal {
    /// Writes the file.
    ///
    /// # Errors
    /// If it was created meanwhile, or can't be written.
    pub fn write(&self) -> Result<(), SessionError> {
        let failed = |error| SessionError::not_ready(format!("can't write {}", self.file)).caused_by(error);
        let mut file = std::fs::File::create_new(&self.path).map_err(failed)?;
        std::io::Write::write_all(&mut file, self.text.as_bytes()).map_err(failed)
    }
}

/// The projects at the root, or else those in the folders directly below it.
fn projects(root: &Project<'_>) -> Vec<ProjectDraft> {
    let at_root = of_folder(root);
    if !at_root.is_empty() {
        return at_root;
    }
    root.folders().iter().take(MOST_FOLDERS).flat_map(|folder| of_folder(&root.below(folder))).collect()
}

fn of_folder(project: &Project<'_>) -> Vec<ProjectDraft> {
    let mut found: Vec<ProjectDraft> =
        [rust::draft, node::draft, python::draft, go::draft].into_iter().filter_map(|draft| draft(project)).collect();
    found.extend(docker::draft(project, &found));
    found
}

fn nothing_found(projects: &[ProjectDraft]) -> SessionError {
    let error = SessionError::not_ready("found nothing to make a stage of");
    let left_out = projects.iter().flat_map(|project| &project.left_out);
    let error = left_out.fold(error, |error, left_out| error.hint(left_out.clone()));
    error.hint(
        "init knows Rust (Cargo.toml), Node (package.json), Python (pyproject.toml, setup.py, setup.cfg, requirements.txt), \
         Go (go.mod) and Dockerfile, at the root or in the folders directly below it; for others, write a \
         `stagewright.toml` whose stages use `command`: `stagewright plugin show command` has one to copy",
    )
}
