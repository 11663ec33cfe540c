//! `validate`: every mistake of every pipeline file, and of every stage's configuration.

use serde_json::Value as Json;
use stagewright_model::count;
use stagewright_model::{Diagnostic, Mistake, MistakePlace, Plan};
use stagewright_report::{Printer, text};

use crate::args::{Global, ValidateArgs};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::host::{Host, foreign_targets, invalid_configuration};
use crate::repository::{PipelineFile, Repository};
use crate::{admission, diagnostics, load, packages, policy, unmatched};

pub(crate) fn validate(
    global: &Global,
    repository: &Repository,
    args: &ValidateArgs,
    out: &mut Printer,
) -> Result<Exit, CommandError> {
    let wanted = match args.pipelines.is_empty() {
        true => repository.pipelines().iter().map(|path| path.display().to_string()).collect(),
        false => args.pipelines.clone(),
    };
    if wanted.is_empty() {
        return Err(CommandError::not_ready(format!("{} has no pipeline", repository.root.display()))
            .hint("write a `stagewright.toml` at its root, or a file in `pipelines/`"));
    }
    let mut found = Vec::new();
    let mut valid = true;
    for name in wanted {
        let file = repository.pipeline(Some(&name))?;
        let (checked, text) = check(global, repository, &file, args.json, &mut found)?;
        valid &= checked;
        if !args.json {
            out.line(text!("{}: {text}", file.name))?;
        }
    }
    if args.json {
        out.json_pretty(&found)?;
    }
    Ok(if valid { Exit::Success } else { Exit::InvalidPipeline })
}

/// Whether the file is valid, and a word on it.
fn check(
    global: &Global,
    repository: &Repository,
    file: &PipelineFile,
    json: bool,
    found: &mut Vec<Json>,
) -> Result<(bool, String), CommandError> {
    let (plan, remarks) = load::parse(repository, file);
    if json {
        found.extend(remarks.iter().map(diagnostics::as_json));
    } else {
        diagnostics::show(global, &remarks);
    }
    let Some(plan) = plan else {
        let mistakes = remarks.iter().filter(|diagnostic| !diagnostic.is_warning()).count();
        return Ok((false, count(mistakes, "mistake")));
    };
    let host = Host::inquiring(repository, &plan)?;
    let open = admission::open_code(file, &plan, &host.describe_all(&plan)?);
    match json {
        true => found.extend(open.iter().map(diagnostics::as_json)),
        false => diagnostics::show(global, &open),
    }
    let beyond = beyond(global, repository, file, &plan, &host)?;
    match json {
        true => found.extend(beyond.iter().map(diagnostics::as_json)),
        false => diagnostics::show(global, &beyond),
    }
    if !beyond.is_empty() {
        return Ok((false, "asks for more than the policy allows".to_owned()));
    }
    let unmatched = unmatched::grants(repository, &plan);
    let unmatched = plan.locate_warnings(&file.name, &file.text, &unmatched);
    match json {
        true => found.extend(unmatched.iter().map(diagnostics::as_json)),
        false => diagnostics::show(global, &unmatched),
    }
    let (wrong, foreign) = (host.misconfigured(&plan)?, foreign_targets(&plan));
    let mistakes = [wrong.as_slice(), &foreign].concat();
    match json {
        true => found.extend(mistakes.iter().map(|mistake| as_json(file, &plan, mistake))),
        false => diagnostics::show(global, &plan.locate_mistakes(&file.name, &file.text, &mistakes)),
    }
    Ok(match (wrong.is_empty(), open.is_empty(), foreign.is_empty()) {
        (false, ..) => (false, invalid_configuration(&wrong)),
        (true, false, _) => (false, format!("{} inside code", count(open.len(), "expression"))),
        (true, true, false) => (false, format!("{} to a target that doesn't work yet", count(foreign.len(), "deploy"))),
        (true, true, true) => (true, format!("valid, {}", count(plan.stages.len(), "stage"))),
    })
}

/// What the pipeline has beyond the operator's policy.
fn beyond(
    global: &Global,
    repository: &Repository,
    file: &PipelineFile,
    plan: &Plan,
    host: &Host,
) -> Result<Vec<Diagnostic>, CommandError> {
    let Some(policy) = policy::read(global, repository)? else { return Ok(Vec::new()) };
    Ok(packages::beyond(&policy, plan, file, &host.describe_all(plan)?, host.packages()))
}

fn as_json(file: &PipelineFile, plan: &Plan, mistake: &Mistake) -> Json {
    let located = plan.locate_mistakes(&file.name, &file.text, std::slice::from_ref(mistake));
    let mut shown = located.first().map(diagnostics::as_json).unwrap_or_default();
    if let Json::Object(fields) = &mut shown {
        fields.insert("stage".to_owned(), plan.stage(mistake.stage).id.clone().into());
        if let MistakePlace::Configuration { path, .. } = &mistake.place {
            fields.insert("path".to_owned(), path.clone().into());
        }
    }
    shown
}
