//! `compensate`: the stages to compensate if a stage fails.

use std::collections::HashSet;

use super::fields::At;
use super::order::{Names, Order, Referrers};
use super::stage::Draft;
use crate::diagnostic::{Problem, Report};
use crate::nearest::nearest;
use crate::plan::StageKind;

/// The positions of the stages that each draft compensates, without the invalid ones, which are reported.
pub(super) fn resolve(drafts: &[Draft<'_>], names: &Names<'_>, order: &Order, report: &mut Report) -> Vec<Vec<usize>> {
    let mut referrers = Referrers::new();
    let mut resolved = vec![Vec::new(); drafts.len()];
    for (position, draft) in drafts.iter().enumerate() {
        if let (StageKind::Finally, Some(key)) = (draft.kind, draft.fields.get("compensate")) {
            report.error(|| {
                let message = format!("`{}` is a finally stage and can't compensate others", draft.name.value);
                Problem::new("stagewright::bad-compensate", key.span().into(), message)
                    .help("finally stages run after all compensation: move `compensate` to a stage in `[stages]`")
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
                    referrers.entry(found).or_default().push((position, target.span));
                }
            }
        }
    }
    for (position, target, span) in order.not_after(&referrers) {
        report.error(|| {
            let (name, target) = (drafts[position].name.value, drafts[target].name.value);
            let message = format!("`{name}` compensates `{target}`, but doesn't run after it");
            Problem::new("stagewright::not-upstream", span, message)
                .label("may not have ended by then")
                .help(format!("add `{target}` to the `needs` of `{name}`, or to those of a stage that it needs"))
        });
    }
    resolved
}

fn unknown(draft: &Draft<'_>, target: At<&str>, names: &Names<'_>) -> Problem {
    let message = format!("`{}` compensates `{}`, which does not exist", draft.name.value, target.value);
    let problem = Problem::new("stagewright::unknown-stage", target.span, message).label("unknown stage");
    match nearest(target.value, names.keys().copied()) {
        Some(name) => problem.help(format!("did you mean `{name}`?")),
        None => problem.help("name a stage that this one needs"),
    }
}

fn itself(draft: &Draft<'_>, target: At<&str>) -> Problem {
    let message = format!("`{}` compensates itself", draft.name.value);
    Problem::new("stagewright::bad-compensate", target.span, message)
        .help("a stage that fails has to clean up after itself: name stages that it needs")
}

fn runs_last(draft: &Draft<'_>, target: At<&str>) -> Problem {
    let message = format!("`{}` can't compensate the finally stage `{}`", draft.name.value, target.value);
    Problem::new("stagewright::bad-compensate", target.span, message)
        .help("finally stages run after all others: name a stage that this one needs")
}

fn twice(draft: &Draft<'_>, target: At<&str>) -> Problem {
    let message = format!("`{}` compensates `{}` twice", draft.name.value, target.value);
    Problem::new("stagewright::bad-compensate", target.span, message).help("remove one of the two")
}
