//! `validate`: every mistake of every pipeline file, and of every stage's configuration.

use serde_json::Value as Json;
use stagewright_model::{Mistake, MistakePlace, Plan, count};
use stagewright_report::{Printer, text};
use stagewright_session::{Findings, PipelineFile, Session, Validity};

use crate::args::ValidateArgs;
use crate::diagnostics;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::global::Global;

pub(crate) async fn validate(
    global: &Global,
    session: &Session,
    args: &ValidateArgs,
    out: &mut Printer,
) -> Result<Exit, CommandError> {
    let names = match args.pipelines.is_empty() {
        true => session.repository().all_pipelines()?,
        false => args.pipelines.clone(),
    };
    let mut listed: Vec<Json> = Vec::new();
    let mut is_valid = true;
    for name in names {
        let file = session.pipeline(Some(&name))?;
        let mut take = |found: Findings<'_>| match args.json {
            true => listed.extend(as_json(&file, found)),
            false => show(global, &file, found),
        };
        let validity = session.validate(&file, &mut take).await?;
        is_valid &= matches!(validity, Validity::Valid { .. });
        if !args.json {
            out.line(text!("{}: {}", file.name, in_words(&validity)))?;
        }
    }
    if args.json {
        out.json_pretty(&listed)?;
    }
    Ok(if is_valid { Exit::Success } else { Exit::InvalidPipeline })
}

fn in_words(validity: &Validity) -> String {
    match validity {
        Validity::Valid { stages } => format!("valid, {}", count(*stages, "stage")),
        Validity::Mistakes(mistakes) => count(*mistakes, "mistake"),
        Validity::BeyondPolicy => "asks for more than the policy allows".to_owned(),
        Validity::Misconfigured(stages) => stages.clone(),
        Validity::OpenCode(expressions) => format!("{} inside code", count(*expressions, "expression")),
        Validity::ForeignTargets(deploys) => format!("{} to a target that doesn't work yet", count(*deploys, "deploy")),
    }
}

fn show(global: &Global, file: &PipelineFile, found: Findings<'_>) {
    match found {
        Findings::Diagnostics(found) => diagnostics::show(global.color, found),
        Findings::Mistakes(plan, mistakes) => {
            diagnostics::show(global.color, &plan.locate_mistakes(&file.name, &file.text, mistakes));
        }
    }
}

fn as_json(file: &PipelineFile, found: Findings<'_>) -> Vec<Json> {
    match found {
        Findings::Diagnostics(found) => found.iter().map(diagnostics::as_json).collect(),
        Findings::Mistakes(plan, mistakes) => mistakes.iter().map(|one| mistake_as_json(file, plan, one)).collect(),
    }
}

fn mistake_as_json(file: &PipelineFile, plan: &Plan, mistake: &Mistake) -> Json {
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
