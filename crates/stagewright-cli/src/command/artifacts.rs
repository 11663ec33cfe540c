//! `artifacts`: lists what the stages of a run have published, and saves one of them.

use stagewright_api as api;
use stagewright_engine::RunId;
use stagewright_plugin_host::NamedArtifact;
use stagewright_report::wire::ToWire as _;
use stagewright_report::{Printer, size, text};
use stagewright_session::{ArtifactList, ArtifactRequest, SavedArtifact, Session};

use crate::artifact_args::{ArtifactsArgs, ArtifactsCommand};
use crate::error::CommandError;
use crate::exit::Exit;

pub(crate) fn artifacts(session: &Session, args: &ArtifactsArgs, out: &mut Printer) -> Result<Exit, CommandError> {
    match &args.command {
        None | Some(ArtifactsCommand::List) => list(session, args, out),
        Some(ArtifactsCommand::Get { name, to, force }) => {
            let request = ArtifactRequest { run: args.run.clone(), name: name.clone(), to: to.clone(), force: *force };
            get(session, &request, args.json, out)
        }
    }
}

fn list(session: &Session, args: &ArtifactsArgs, out: &mut Printer) -> Result<Exit, CommandError> {
    let ArtifactList { run, artifacts } = session.artifacts(&args.run)?;
    if args.json {
        out.json(&artifacts.iter().map(|artifact| entry(&run, artifact)).collect::<Vec<_>>())?;
        return Ok(Exit::Success);
    }
    if artifacts.is_empty() {
        out.line(text!("Run {run} has no artifacts."))?;
    }
    let width = |of: fn(&NamedArtifact) -> &str| artifacts.iter().map(|one| of(one).chars().count()).max().unwrap_or(0);
    let (names, stages) = (width(|one| &one.published.name), width(|one| &one.stage));
    for artifact in &artifacts {
        let published = &artifact.published;
        let kind = if artifact.is_folder() { "folder" } else { published.media_type.as_str() };
        let line =
            text!("{:<names$}  {:<stages$}  {:>10}  {kind}", published.name, artifact.stage, size(published.size));
        out.line(line.trimmed())?;
    }
    Ok(Exit::Success)
}

fn get(session: &Session, request: &ArtifactRequest, json: bool, out: &mut Printer) -> Result<Exit, CommandError> {
    let SavedArtifact { run, artifact, path } = session.save_artifact(request)?;
    if json {
        out.json(&api::RunArtifactEntry { path: Some(path.display().to_string()), ..entry(&run, &artifact) })?;
    } else {
        let published = &artifact.published;
        out.line(text!("Saved {} of run {run} as {} ({})", published.name, path.display(), size(published.size)))?;
    }
    Ok(Exit::Success)
}

/// The JSON form of an artifact.
fn entry(run: &RunId, artifact: &NamedArtifact) -> api::RunArtifactEntry {
    let published = &artifact.published;
    api::RunArtifactEntry {
        run: run.to_wire(),
        name: published.name.clone(),
        stage: artifact.stage.clone(),
        digest: published.digest.clone(),
        media_type: published.media_type.clone(),
        size: published.size,
        folder: artifact.is_folder(),
        path: None,
    }
}
