//! Reads `[teams]` and checks the approvers of environments.

use std::collections::BTreeMap;

use super::fields::{At, Fields};
use crate::diagnostic::{Problem, Report};
use crate::nearest::nearest;
use crate::person::{PersonName, PersonNameError};

/// The prefix of an approver that is a team.
const TEAM: &str = "team:";

/// The members of each team. Reports teams without members, which could never approve anything.
pub(super) fn read(file: Fields<'_>, report: &mut Report) -> BTreeMap<String, Vec<String>> {
    let teams = file.table("teams");
    let mut members = BTreeMap::new();
    for (name, value) in teams.entries() {
        if value.get_ref().as_array().is_some_and(|list| list.is_empty()) {
            report.error(|| {
                let message = format!("the team `{}` has no members, so it can't approve anything", name.value);
                Problem::new("stagewright::empty-team", value.span().into(), message)
                    .help(format!("add its members, as in `{} = [\"ada\", \"grace\"]`", name.value))
            });
        }
        check_people(&teams.texts(name.value), &format!("the team `{}`", name.value), report);
        members.insert(name.value.to_owned(), teams.strings(name.value));
    }
    members
}

/// Checks that the approvers of all environments are users or declared teams.
pub(super) fn check(file: Fields<'_>, teams: &BTreeMap<String, Vec<String>>, report: &mut Report) {
    for (name, environment) in file.table("environments").entries() {
        let approvers = Fields::of(environment).texts("approvers");
        let users = approvers.iter().filter(|approver| !approver.value.starts_with(TEAM));
        let people: Vec<At<&str>> = users.copied().collect();
        check_people(&people, &format!("the approvers of `{}`", name.value), report);
        for approver in approvers {
            match approver.value.strip_prefix(TEAM) {
                Some(team) if !team.is_empty() && !teams.contains_key(team) => {
                    report.error(|| unknown_team(approver, team, teams));
                }
                None if teams.contains_key(approver.value) => report.warning(user_named_like_team(approver)),
                _ => {}
            }
        }
    }
}

/// Reports invalid names, names of the same person, and names that look the same.
fn check_people(names: &[At<&str>], list: &str, report: &mut Report) {
    let mut earlier: Vec<(PersonName, At<&str>)> = Vec::new();
    // Empty names, and teams in a list of members, were reported by the check of the shape.
    for name in names.iter().filter(|name| !name.value.trim().is_empty() && !name.value.starts_with(TEAM)) {
        match PersonName::parse(name.value) {
            Err(error) => report.error(|| {
                Problem::new(
                    "stagewright::bad-person",
                    name.span,
                    format!("{list} can't include {:?}: {error}", name.value),
                )
                .help(PersonNameError::HELP)
            }),
            Ok(person) => {
                if let Some((known, at)) = earlier.iter().find(|(known, _)| known.looks_like(&person)) {
                    let (what, help) = match known.is_same_person(&person) {
                        true => ("the same person is listed twice in", "remove one of the two names"),
                        false => ("two names look the same in", "use another name for one of the two people"),
                    };
                    report.error(|| {
                        let message = format!("{what} {list}: `{known}` and `{person}`");
                        Problem::new("stagewright::duplicate-person", name.span, message)
                            .also(at.span, "the other name")
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
        None => format!("declare it in `[teams]`, as in `{team} = [\"ada\", \"grace\"]`"),
    };
    Problem::new("stagewright::unknown-team", approver.span, format!("the team `{team}` isn't declared"))
        .label("unknown team")
        .help(help)
}

fn user_named_like_team(approver: At<&str>) -> Problem {
    let name = approver.value;
    Problem::new("stagewright::doubtful-approver", approver.span, format!("`{name}` is read as a user, but is a team"))
        .label("read as a user")
        .help(format!("write `{TEAM}{name}` for the team"))
}
