//! `[teams]`, and the approvers that name them.

use std::collections::BTreeMap;

use super::fields::{At, Fields};
use crate::diagnostic::{Problem, Report};
use crate::nearest::nearest;

/// What an approver that is a team begins with.
const TEAM: &str = "team:";

/// The members of each team. Reports teams without any: nobody could approve for them.
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
        members.insert(name.value.to_owned(), teams.strings(name.value));
    }
    members
}

/// Checks that the approvers of all environments are users, or teams that are declared.
pub(super) fn check(file: Fields<'_>, teams: &BTreeMap<String, Vec<String>>, report: &mut Report) {
    for (_, environment) in file.table("environments").entries() {
        for approver in Fields::of(environment).texts("approvers") {
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
