//! `validate`: reports every mistake in pipeline files and in the configuration of their stages.

use stagewright_api::DiagnosticEntry;
use stagewright_model::{Mistake, MistakePlace, Plan, count};
use stagewright_report::{Printer, text};
use stagewright_session::{PipelineFile, Session, ValidationFindings, Validity};

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
    let mut listed: Vec<DiagnosticEntry> = Vec::new();
    let mut is_valid = true;
    for name in names {
        let file = session.pipeline(Some(&name))?;
        let mut on_findings = |found: ValidationFindings<'_>| match args.json {
            true => listed.extend(entries(&file, found)),
            false => show(global, &file, found),
        };
        let validity = session.validate(&file, &mut on_findings).await?;
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
        Validity::BeyondPolicy => "requests more than the policy allows".to_owned(),
        Validity::Misconfigured(stages) | Validity::MissingGrants(stages) => stages.clone(),
        Validity::UnknownOutputs(outputs) => format!("{} that no stage sets", count(*outputs, "output")),
        Validity::OpenCode(expressions) => format!("{} inside of code", count(*expressions, "expression")),
    }
}

fn show(global: &Global, file: &PipelineFile, found: ValidationFindings<'_>) {
    match found {
        ValidationFindings::Diagnostics(found) => diagnostics::show(global.color, found),
        ValidationFindings::Mistakes(plan, mistakes) => {
            diagnostics::show(global.color, &plan.locate_mistakes(&file.name, &file.text, mistakes));
        }
    }
}

/// The JSON form of findings.
fn entries(file: &PipelineFile, found: ValidationFindings<'_>) -> Vec<DiagnosticEntry> {
    match found {
        ValidationFindings::Diagnostics(found) => found.iter().map(diagnostics::entry).collect(),
        ValidationFindings::Mistakes(plan, mistakes) => {
            mistakes.iter().flat_map(|mistake| mistake_entry(file, plan, mistake)).collect()
        }
    }
}

fn mistake_entry(file: &PipelineFile, plan: &Plan, mistake: &Mistake) -> Option<DiagnosticEntry> {
    let located = plan.locate_mistakes(&file.name, &file.text, std::slice::from_ref(mistake));
    let path = match &mistake.place {
        MistakePlace::Configuration { path, .. } => path.clone(),
        MistakePlace::Key(_) | MistakePlace::Grant { .. } => None,
    };
    let stage = Some(plan.stage(mistake.stage).id.clone());
    located.first().map(|first| DiagnosticEntry { stage, path, ..diagnostics::entry(first) })
}
