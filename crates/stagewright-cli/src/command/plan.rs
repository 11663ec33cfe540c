//! `plan`: the stages in order, what each may touch, and what isn't sandboxed.

use std::io::Write;

use serde_json::{Value as Json, json};
use stagewright_model::{Permissions, Plan, Stage, StageKind, Trust};
use stagewright_plugin_host::Description;

use crate::args::{Global, PlanArgs};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::host::Host;
use crate::load;
use crate::repository::Repository;

pub(crate) fn plan(
    global: &Global,
    repository: &Repository,
    args: &PlanArgs,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let file = repository.pipeline(args.pipeline.pipeline.as_deref())?;
    let plan = load::plan(global, repository, &file)?;
    let inputs = load::inputs(&plan, &args.pipeline.inputs)?;
    let host = Host::open(repository, &plan)?;
    let described = host.describe_all(&plan)?;
    let stages = plan.stages.iter().zip(&described);
    if args.json {
        let stages = stages.map(|(stage, description)| as_json(&plan, stage, description)).collect::<Vec<_>>();
        let document = json!({ "pipeline": plan.name, "file": file.name, "inputs": inputs, "stages": stages });
        writeln!(out, "{document:#}")?;
        return Ok(Exit::Success);
    }
    writeln!(out, "{}  {}", plan.name, file.name)?;
    if let Some(description) = &plan.description {
        writeln!(out, "{description}")?;
    }
    for (name, value) in &inputs {
        writeln!(out, "  input {name} = {value}")?;
    }
    if let Some(concurrency) = &plan.concurrency {
        writeln!(out, "  one run at a time of the group {}", concurrency.group.source())?;
    }
    let mut unsandboxed = 0;
    for (position, (stage, description)) in stages.enumerate() {
        writeln!(out)?;
        write_stage(out, &plan, position + 1, stage, description)?;
        unsandboxed += usize::from(!powers(stage).is_empty());
    }
    writeln!(out)?;
    let count = plan.stages.len();
    match unsandboxed {
        0 => writeln!(out, "{}, nothing of them unsandboxed.", stages_of(count))?,
        _ => writeln!(
            out,
            "{}, {unsandboxed} with something unsandboxed: it has the files and the network of the user who runs the \
             pipeline. Everything else has what is listed and nothing more.",
            stages_of(count)
        )?,
    }
    Ok(Exit::Success)
}

fn stages_of(count: usize) -> String {
    format!("{count} stage{}", if count == 1 { "" } else { "s" })
}

fn write_stage(
    out: &mut dyn Write,
    plan: &Plan,
    position: usize,
    stage: &Stage,
    description: &Description,
) -> std::io::Result<()> {
    let finally = if stage.kind == StageKind::Finally { "finally " } else { "" };
    let version = &description.manifest.version;
    let effect = effect(description, &stage.permissions);
    writeln!(out, "{position:>3}. {finally}{}  ({} {version}, {effect})", stage.id, stage.uses)?;
    let mut line = |key: &str, text: String| match text.is_empty() {
        true => Ok(()),
        false => writeln!(out, "       {key:<12} {text}"),
    };
    line("needs", stage.needs.iter().map(|&need| plan.stage(need).id.as_str()).collect::<Vec<_>>().join(", "))?;
    line("if", stage.condition.as_ref().map(|condition| condition.source().to_owned()).unwrap_or_default())?;
    line("environment", environment(plan, stage))?;
    line("takes back", stage.compensate.iter().map(|&one| plan.stage(one).id.as_str()).collect::<Vec<_>>().join(", "))?;
    for (key, values) in granted(&stage.permissions) {
        line(key, values.join(", "))?;
    }
    line("unsandboxed", powers(stage))
}

/// The environment that the stage acts on, and what stands before that.
fn environment(plan: &Plan, stage: &Stage) -> String {
    let Some(name) = stage.environment.as_ref().map(|environment| &environment.name) else { return String::new() };
    let declared = plan.environments.get(name);
    let approvers = declared.map(|declared| declared.approvers.join(", ")).filter(|approvers| !approvers.is_empty());
    match approvers {
        Some(approvers) => format!("{name}, after an approval by {approvers}"),
        None => name.clone(),
    }
}

/// What of a stage runs outside of the sandbox; empty when nothing does.
fn powers(stage: &Stage) -> String {
    let programs = stage.permissions.process.join(", ");
    match (&stage.trust, programs.is_empty()) {
        (Trust::Native { .. }, _) => "the plugin itself: a native library with the powers of the engine".to_owned(),
        (Trust::Component, false) => format!("programs it starts ({programs})"),
        (Trust::Component, true) => String::new(),
    }
}

fn granted(permissions: &Permissions) -> [(&'static str, &[String]); 10] {
    [
        ("process", &permissions.process),
        ("read", &permissions.read),
        ("write", &permissions.write),
        ("net", &permissions.net),
        ("secrets", &permissions.secrets),
        ("reveal", &permissions.reveal),
        ("registry", &permissions.registry),
        ("service", &permissions.service),
        ("socket", &permissions.socket),
        ("env", &permissions.env),
    ]
}

fn effect(description: &Description, permissions: &Permissions) -> String {
    let class = serde_json::to_value(description.effect_class(permissions));
    class.ok().and_then(|class| class.as_str().map(str::to_owned)).unwrap_or_default()
}

fn as_json(plan: &Plan, stage: &Stage, description: &Description) -> Json {
    json!({
        "id": stage.id,
        "kind": stage.kind,
        "uses": stage.uses.to_string(),
        "version": description.manifest.version,
        "digest": description.digest,
        "imports": description.interfaces,
        "effect": effect(description, &stage.permissions),
        "needs": stage.needs.iter().map(|&need| plan.stage(need).id.as_str()).collect::<Vec<_>>(),
        "if": stage.condition.as_ref().map(|condition| condition.source()),
        "environment": stage.environment.as_ref().map(|environment| environment.name.as_str()),
        "compensate": stage.compensate.iter().map(|&one| plan.stage(one).id.as_str()).collect::<Vec<_>>(),
        "permissions": stage.permissions,
        "unsandboxed": !powers(stage).is_empty(),
    })
}
