//! Goes through a checklist before something that matters: for each item it collects evidence, or asks a person.
//!
//! Input: the items. Output: what was found or answered for each, which the journal keeps. If evidence says that an item isn't so,
//! the stage fails before anybody is asked. The form then has the items that only people know, and shows the evidence of the
//! others.

mod config;
mod evidence;
mod machine;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use stagewright_sdk::gate::{self, Approval, Decision, FieldKind};
use stagewright_sdk::text::count;
use stagewright_sdk::{
    Error, ErrorCode, Finding, Manifest, Outcome, Problem, Requirement, Result, Stage, log, outputs,
};

use crate::config::{Config, Item};

/// The plugin.
#[derive(Debug)]
pub struct Checklist;

impl Stage for Checklist {
    type Config = Config;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!()
            .output::<BTreeMap<String, String>>("items", "What was found or answered for each item, by its name")
            .output::<Option<String>>("answered-by", "Who has answered; null if nothing had to be asked")
    }

    fn validate(config: &Config) -> Vec<Problem> {
        config.problems()
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        config.requirements()
    }

    fn run(config: Config) -> Result<Outcome> {
        // Evidence can change while people are waited for, so that it is collected again.
        let found = collect(&config)?;
        let asked: Vec<&Item> = config.items.iter().filter(|item| item.is_asked()).collect();
        match gate::decision()? {
            None if !asked.is_empty() => Ok(Outcome::Suspended(form(&config, &asked, &found)?)),
            None => finish(&config, &found, None),
            Some(decision) => answered(&config, &asked, found, decision),
        }
    }
}

stagewright_sdk::export_stage!(Checklist);

/// What is found for each item with evidence, by name. Fails if it says otherwise.
fn collect(config: &Config) -> Result<BTreeMap<String, String>> {
    let (mut found, mut wrong) = (BTreeMap::new(), Vec::new());
    for item in config.items.iter().filter(|item| !item.is_asked()) {
        match evidence::of(item)? {
            Ok(evidence) => {
                log::info(format!("yes  {}: {evidence}", item.text));
                found.insert(item.name.clone(), evidence);
            }
            Err(evidence) => {
                log::error(format!("no   {}: {evidence}", item.text));
                Finding::error("checklist", format!("{}: {evidence}", item.text)).fingerprint(&item.name).report();
                wrong.push(format!("{}: {evidence}", item.text));
            }
        }
    }
    match wrong.is_empty() {
        true => Ok(found),
        false => {
            let message = format!("{} of {} isn't so", count(wrong.len(), "item"), config.items.len());
            Err(Error::new(ErrorCode::FailedPrecondition, message).causes(wrong))
        }
    }
}

fn form(config: &Config, asked: &[&Item], found: &BTreeMap<String, String>) -> Result<stagewright_sdk::Suspension> {
    let evidence = config.items.iter().filter_map(|item| Some(format!("{}: {}", item.text, found.get(&item.name)?)));
    let evidence: Vec<String> = evidence.collect();
    let mut message = format!("{} to confirm", count(asked.len(), "item"));
    if !evidence.is_empty() {
        message.push_str(&format!("; found: {}", evidence.join("; ")));
    }
    let mut approval = Approval::new(&message);
    for approver in &config.approvers {
        approval.approver(approver);
    }
    for item in asked {
        approval.field(&item.name, FieldKind::Boolean, &item.text, true);
    }
    if let Some(expires) = config.expires {
        approval.expires(expires.0);
    }
    approval.open()
}

fn answered(
    config: &Config,
    asked: &[&Item],
    mut found: BTreeMap<String, String>,
    decision: Decision,
) -> Result<Outcome> {
    let Decision { approved, by, reason, fields, rehearsed, .. } = decision;
    if !approved {
        let because = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        return Err(Error::new(ErrorCode::PermissionDenied, format!("{by} rejected the checklist{because}")));
    }
    // A rehearsal has no answers.
    let is_yes = |item: &&&Item| rehearsed || fields.get(&item.name).is_some_and(|answer| *answer == true);
    let denied: Vec<String> = asked.iter().filter(|item| !is_yes(item)).map(|item| item.text.clone()).collect();
    if !denied.is_empty() {
        let message = format!("{by} says no to {}", count(denied.len(), "item"));
        return Err(Error::new(ErrorCode::FailedPrecondition, message).causes(denied));
    }
    let answer = if rehearsed { "not asked in a rehearsal".to_owned() } else { format!("yes, says {by}") };
    found.extend(asked.iter().map(|item| (item.name.clone(), answer.clone())));
    finish(config, &found, (!rehearsed).then_some(by.as_str()))
}

fn finish(config: &Config, found: &BTreeMap<String, String>, by: Option<&str>) -> Result<Outcome> {
    let line = |item: &Item| Some(format!("- {}: {}\n", item.text, found.get(&item.name)?));
    outputs::summary(config.items.iter().filter_map(line).collect::<String>());
    outputs::set("items", found)?;
    outputs::set("answered-by", &by)?;
    Ok(Outcome::Succeeded)
}
