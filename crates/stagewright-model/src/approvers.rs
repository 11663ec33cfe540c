//! Who may answer for an environment.

use crate::person::same_person;
use crate::plan::Plan;

impl Plan {
    /// The people that approvers stand for: `team:NAME` or a user. Each of them once, sorted.
    pub fn members_of(&self, approvers: &[String]) -> Vec<String> {
        let people = |approver: &String| match approver.strip_prefix("team:") {
            Some(team) => self.teams.get(team).cloned().unwrap_or_default(),
            None => vec![approver.clone()],
        };
        let mut members: Vec<String> = Vec::new();
        for name in approvers.iter().flat_map(people) {
            if !members.iter().any(|member| same_person(member, &name)) {
                members.push(name);
            }
        }
        members.sort_unstable();
        members
    }
}
