//! `compensate`: whose effect a stage takes back when it fails.

use std::collections::HashSet;

use super::fields::At;
use super::order::{Names, Naming, Order};
use super::stage::Draft;
use crate::diagnostic::{Problem, Report};
use crate::nearest::nearest;
use crate::plan::StageKind;

/// The positions of the stages that each draft names, without those that can't be.
pub(super) fn resolve(drafts: &[Draft<'_>], names: &Names<'_>, order: &Order, report: &mut Report) -> Vec<Vec<usize>> {
    let mut naming = Naming::new();
    let mut resolved = vec![Vec::new(); drafts.len()];
    for (position, draft) in drafts.iter().enumerate() {
        if let (StageKind::Finally, Some(key)) = (draft.kind, draft.fields.get("compensate")) {
            report.error(|| {
                let message = format!("`{}` is a finally stage, and can't take anything back", draft.name.value);
                Problem::new("stagewright::bad-compensate", key.span().into(), message)
                    .help("finally stages run once everything was taken back: name these stages in a main stage")
            });
            continue;
        }
        let mut seen = HashSet::new();
        for &target in &draft.compensate {
            match names.get(target.value) {
                _ if !seen.insert(target.value) => report.error(|| twice(draft, target)),
                None => report.error(|| unknown(draft, target, names)),
                Some(&found) if found == position => report.error(|| itself(draft, target)),
                Some(&found) if drafts[found].kind == StageKind::Finally => report.error(|| runs_last(draft, target)),
                Some(&found) => {
                    resolved[position].push(found);
                    naming.entry(found).or_default().push((position, target.span));
                }
            }
        }
    }
    for (position, target, span) in order.not_after(&naming) {
        report.error(|| {
            let (name, target) = (drafts[position].name.value, drafts[target].name.value);
            let message = format!("`{name}` takes back `{target}`, and doesn't come after it");
            Problem::new("stagewright::not-upstream", span, message)
                .label("may not have ended by then")
                .help(format!("add `{target}` to the `needs` of `{name}`, or of a stage that it needs"))
        });
    }
    resolved
}

fn unknown(draft: &Draft<'_>, target: At<&str>, names: &Names<'_>) -> Problem {
    let message = format!("`{}` takes back `{}`, and there is no such stage", draft.name.value, target.value);
    let problem = Problem::new("stagewright::unknown-stage", target.span, message).label("no stage has this name");
    match nearest(target.value, names.keys().copied()) {
        Some(name) => problem.help(format!("did you mean `{name}`?")),
        None => problem.help("name a stage that this one needs"),
    }
}

fn itself(draft: &Draft<'_>, target: At<&str>) -> Problem {
    let message = format!("`{}` takes back itself", draft.name.value);
    Problem::new("stagewright::bad-compensate", target.span, message)
        .help("a stage that fails cleans up after itself: name stages that it needs")
}

fn runs_last(draft: &Draft<'_>, target: At<&str>) -> Problem {
    let message = format!("`{}` can't take back the finally stage `{}`", draft.name.value, target.value);
    Problem::new("stagewright::bad-compensate", target.span, message)
        .help("finally stages run once all others ended: name a stage that this one needs")
}

fn twice(draft: &Draft<'_>, target: At<&str>) -> Problem {
    let message = format!("`{}` takes back `{}` twice", draft.name.value, target.value);
    Problem::new("stagewright::bad-compensate", target.span, message).help("remove one of the two")
}
