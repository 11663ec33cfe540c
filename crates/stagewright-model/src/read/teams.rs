//! `[teams]`, and the approvers that name them.

use std::collections::BTreeMap;

use super::fields::{At, Fields};
use crate::diagnostic::{Problem, Report};
use crate::nearest::nearest;
use crate::person::{PersonName, PersonNameError};

/// What an approver that is a team begins with.
const TEAM: &str = "team:";

/// The members of each team. Reports teams without any: they could never approve.
pub(super) fn read(file: Fields<'_>, report: &mut Report) -> BTreeMap<String, Vec<String>> {
    let teams = file.table("teams");
    let mut members = BTreeMap::new();
    for (name, value) in teams.entries() {
        if value.get_ref().as_array().is_some_and(|list| list.is_empty()) {
            report.error(|| {
                let message = format!("the team `{}` has no members, so nobody can approve for it", name.value);
                Problem::new("stagewright::empty-team", value.span().into(), message)
                    .help(format!("name them: `{} = [\"ada\", \"grace\"]`", name.value))
            });
        }
        check_people(&teams.texts(name.value), &format!("the team `{}`", name.value), report);
        members.insert(name.value.to_owned(), teams.strings(name.value));
    }
    members
}

/// Checks that the approvers of all environments are users, or teams that are declared.
pub(super) fn check(file: Fields<'_>, teams: &BTreeMap<String, Vec<String>>, report: &mut Report) {
    for (name, environment) in file.table("environments").entries() {
        let approvers = Fields::of(environment).texts("approvers");
        let people: Vec<At<&str>> = approvers.iter().filter(|one| !one.value.starts_with(TEAM)).copied().collect();
        check_people(&people, &format!("the approvers of `{}`", name.value), report);
        for approver in approvers {
            match approver.value.strip_prefix(TEAM) {
                Some(team) if !team.is_empty() && !teams.contains_key(team) => {
                    report.error(|| unknown_team(approver, team, teams));
                }
                None if teams.contains_key(approver.value) => report.warning(taken_for_user(approver)),
                _ => {}
            }
        }
    }
}

/// Reports what can't be a name, and names of one person or of people whom nobody can tell apart.
fn check_people(names: &[At<&str>], list: &str, report: &mut Report) {
    let mut earlier: Vec<(PersonName, At<&str>)> = Vec::new();
    // What is no text of a name at all was reported with its form.
    for name in names.iter().filter(|name| !name.value.trim().is_empty() && !name.value.starts_with(TEAM)) {
        match PersonName::parse(name.value) {
            Err(error) => report.error(|| {
                Problem::new(
                    "stagewright::bad-person",
                    name.span,
                    format!("{list} can't name {:?}: {error}", name.value),
                )
                .help(PersonNameError::HELP)
            }),
            Ok(person) => {
                if let Some((known, at)) = earlier.iter().find(|(known, _)| known.looks_like(&person)) {
                    let (what, help) = match known.is(&person) {
                        true => ("name the same person twice", "remove one of the two"),
                        false => ("have two names that look the same", "give one of the two people another name"),
                    };
                    report.error(|| {
                        let message = format!("{list} {what}: `{known}` and `{person}`");
                        Problem::new("stagewright::duplicate-person", name.span, message)
                            .also(at.span, "the other one")
                            .help(help)
                    });
                }
                earlier.push((person, *name));
            }
        }
    }
}

fn unknown_team(approver: At<&str>, team: &str, teams: &BTreeMap<String, Vec<String>>) -> Problem {
    let help = match nearest(team, teams.keys().map(String::as_str)) {
        Some(known) => format!("did you mean `{TEAM}{known}`?"),
        None => format!("say who is in it: `[teams]` with `{team} = [\"ada\", \"grace\"]`"),
    };
    Problem::new("stagewright::unknown-team", approver.span, format!("the team `{team}` isn't declared"))
        .label("unknown team")
        .help(help)
}

fn taken_for_user(approver: At<&str>) -> Problem {
    let name = approver.value;
    Problem::new("stagewright::doubtful-approver", approver.span, format!("`{name}` is a team, and here a user's name"))
        .label("a user")
        .help(format!("for the team write `{TEAM}{name}`"))
}
