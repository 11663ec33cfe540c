//! `validate`: every mistake of every pipeline file, and of every stage's configuration.

use serde_json::{Value as Json, json};
use stagewright_model::{Diagnostic, Plan};
use stagewright_report::{Printer, text};

use crate::args::{Global, ValidateArgs};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::host::{Host, Misconfigured};
use crate::repository::{PipelineFile, Repository};
use crate::{admission, console, diagnostics, load, packages, policy};

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
    let wrong = host.misconfigured(&plan)?;
    if wrong.is_empty() && !open.is_empty() {
        return Ok((false, format!("{} inside code", count(open.len(), "expression"))));
    }
    if wrong.is_empty() {
        return Ok((true, format!("valid, {} stages", plan.stages.len())));
    }
    for misconfigured in &wrong {
        match json {
            true => found.push(as_json(file, &plan, misconfigured)),
            false => console::show(&misconfigured.render(file, &plan)),
        }
    }
    Ok((false, format!("{} of its stages are not configured as their plugins want", wrong.len())))
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
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

fn as_json(file: &PipelineFile, plan: &Plan, misconfigured: &Misconfigured) -> Json {
    let stage = plan.stage(misconfigured.stage);
    json!({
        "file": file.name,
        "line": stage.line,
        "column": 1,
        "code": format!("stagewright::{}", misconfigured.problem.code),
        "severity": "error",
        "stage": stage.id,
        "path": misconfigured.problem.path,
        "message": misconfigured.problem.message,
        "help": misconfigured.problem.help,
    })
}
