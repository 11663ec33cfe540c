//! `env`: shows the releases of environments, and freezes and unfreezes them.

use stagewright_api as api;
use stagewright_engine::{Drift, Timestamp};
use stagewright_model::{duration, list as listed, range};
use stagewright_report::wire::ToWire as _;
use stagewright_report::{Printer, duration as shown_duration, text};
use stagewright_session::{Session, SystemClock};
use stagewright_store::{EnvironmentFreeze, EnvironmentRow, ReleaseRow, Store};

use crate::environment_args::EnvCommand;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::time::readable;

/// `env`.
pub(crate) async fn environment(
    session: &Session,
    command: &EnvCommand,
    out: &mut Printer,
) -> Result<Exit, CommandError> {
    let read = || session.read_only_store();
    match command {
        EnvCommand::List { rehearsal, json } => list(&read()?, *rehearsal, *json, out)?,
        EnvCommand::Status { environment, rehearsal, live, json } => {
            let row = find(&read()?, environment, *rehearsal)?;
            let differences = if *live { Some(session.compare_live(environment).await?) } else { None };
            if *json {
                let differences = differences.as_ref().map(|found| found.iter().map(drift_entry).collect());
                out.json(&api::EnvironmentEntry { differences, ..answer(&row) })?;
            } else {
                write_status(out, &row)?;
                differences.iter().try_for_each(|found| write_differences(out, found))?;
            }
            if differences.is_some_and(|found| !found.is_empty()) {
                return Ok(Exit::Drifted);
            }
        }
        EnvCommand::History { environment, rehearsal, limit, json } => {
            let rows = read()?.releases(environment, *rehearsal, *limit)?;
            if *json {
                out.json(&rows.iter().map(release_entry).collect::<Vec<_>>())?;
            } else {
                write_history(out, environment, &rows)?;
            }
        }
        EnvCommand::Freeze { environment, reason, duration, by } => {
            let by = by.clone().unwrap_or_else(|| session.user_name());
            let until = duration.as_deref().map(end_of_freeze).transpose()?;
            let freeze = EnvironmentFreeze { from: SystemClock::timestamp(), until, reason: reason.clone(), by };
            session.store()?.lock().freeze(environment, &freeze)?;
            let end = until.map_or_else(|| "`stagewright env unfreeze`".to_owned(), readable);
            out.line(text!("{environment} is frozen until {end}. Runs wait before they deploy to it."))?;
        }
        EnvCommand::Unfreeze { environment } => {
            if session.store()?.lock().unfreeze(environment)? {
                out.line(text!(
                    "{environment} is no longer frozen. To list waiting runs: `stagewright runs --waiting`"
                ))?;
            } else {
                out.line(text!("{environment} was not frozen."))?;
            }
        }
    }
    Ok(Exit::Success)
}

fn list(store: &Store, rehearsal: bool, json: bool, out: &mut Printer) -> Result<(), CommandError> {
    let rows = store.environments(rehearsal, SystemClock::timestamp())?;
    if json {
        out.json(&rows.iter().map(answer).collect::<Vec<_>>())?;
        return Ok(());
    }
    if rows.is_empty() {
        out.line(text!("No environment has a release yet."))?;
        return Ok(());
    }
    let (mut lines, now) = (vec![HEADING.map(ToOwned::to_owned)], SystemClock::timestamp());
    lines.extend(rows.iter().map(|row| table_line(row, now)));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..HEADING.len()).map(width).collect();
    for line in &lines {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        out.line(text!("{}", cells.join("  ").trim_end()))?;
    }
    Ok(())
}

/// The columns of `env list`.
const HEADING: [&str; 6] = ["ENVIRONMENT", "RELEASE", "ARTIFACT", "COMMIT", "SINCE", "STATE"];

fn table_line(row: &EnvironmentRow, now: Timestamp) -> [String; HEADING.len()] {
    let none = || "-".to_owned();
    let mut states = Vec::new();
    let [release, artifact, commit, since] = match &row.current {
        None => [none(), none(), none(), none()],
        Some(current) => {
            states.push(verdict(current).to_owned());
            [
                current.number.to_string(),
                short_digest(&current.release.artifact),
                current.release.commit.get(..12).map_or_else(none, ToOwned::to_owned),
                format!("{} ago", shown_duration(now.0.saturating_sub(current.at.0))),
            ]
        }
    };
    states.extend(row.holder.as_ref().map(|run| format!("run {run} is deploying")));
    states.extend(row.freeze.as_ref().map(|_| "frozen".to_owned()));
    [row.name.clone(), release, artifact, commit, since, states.join(", ")]
}

/// An artifact with as much of its digest as tells releases apart.
pub(crate) fn short_digest(artifact: &str) -> String {
    match artifact.split_once("sha256:") {
        Some((name, digest)) => format!("{name}sha256:{}", digest.get(..12).unwrap_or(digest)),
        None => artifact.to_owned(),
    }
}

fn find(store: &Store, name: &str, rehearsal: bool) -> Result<EnvironmentRow, CommandError> {
    let rows = store.environments(rehearsal, SystemClock::timestamp())?;
    let known = listed(rows.iter().map(|row| &row.name));
    rows.into_iter().find(|row| row.name == name).ok_or_else(|| {
        let hint = match known.is_empty() {
            true => "no run has deployed to any environment yet".to_owned(),
            false => format!("known environments: {known}"),
        };
        CommandError::usage(format!("no run has deployed to an environment `{name}`")).hint(hint)
    })
}

fn write_status(out: &mut Printer, row: &EnvironmentRow) -> std::io::Result<()> {
    out.line(text!("{}", row.name))?;
    match &row.current {
        Some(current) => write_release(out, "runs", current)?,
        None => out.line(text!("  runs         no release"))?,
    }
    if let Some(good) = &row.last_known_good {
        out.line(text!("  rollback to  release {}: {}, run {}", good.number, good.release.artifact, good.run))?;
    }
    if let Some(run) = &row.holder {
        out.line(text!("  deploying    run {run}"))?;
    }
    if let Some(freeze) = &row.freeze {
        let until = freeze.until.map_or_else(|| "it is lifted".to_owned(), readable);
        out.line(text!("  frozen       until {until}, by {}: {}", freeze.by, freeze.reason))?;
    }
    out.line(text!("  last token   {}", row.fence))
}

fn write_differences(out: &mut Printer, differences: &[Drift]) -> std::io::Result<()> {
    if differences.is_empty() {
        return out.line(text!("  in place     as it was deployed"));
    }
    for (index, Drift { what, expected, found }) in differences.iter().enumerate() {
        let label = if index == 0 { "in place" } else { "" };
        let found = found.as_deref().unwrap_or("missing");
        let was = expected.as_ref().map(|expected| format!(", was deployed as {expected}")).unwrap_or_default();
        out.line(text!("  {label:<12} {what}: {found}{was}"))?;
    }
    Ok(())
}

fn write_release(out: &mut Printer, label: &str, row: &ReleaseRow) -> std::io::Result<()> {
    let release = &row.release;
    out.line(text!("  {label:<12} {}", release.artifact))?;
    if let Some(url) = &release.url {
        out.line(text!("  at           {url}"))?;
    }
    out.line(text!("  since        {} (release {}, {})", readable(row.at), row.number, verdict(row)))?;
    let commit = match release.commit.get(..12) {
        Some(commit) => format!(", commit {commit}"),
        None => String::new(),
    };
    out.line(text!("  from         run {}, stage {}{commit}", row.run, row.stage_id))?;
    if !release.by.is_empty() {
        out.line(text!("  by           {} ({})", release.by, release.origin.as_str()))?;
    }
    Ok(())
}

fn write_history(out: &mut Printer, name: &str, rows: &[ReleaseRow]) -> std::io::Result<()> {
    if rows.is_empty() {
        return out.line(text!("{name} has no releases."));
    }
    for row in rows {
        let commit = row.release.commit.get(..12).unwrap_or("-");
        out.line(text!(
            "{:>4}  {}  {:<8} {:<11} {:<12} {:<12} {}",
            row.number,
            readable(row.at),
            row.release.origin.as_str(),
            verdict(row),
            commit,
            row.release.by,
            row.run,
        ))?;
        out.line(text!("      {}", row.release.artifact))?;
    }
    Ok(())
}

fn verdict(row: &ReleaseRow) -> &'static str {
    match (row.undone, row.confirmed) {
        (true, _) => "undone",
        (false, true) => "good",
        (false, false) => "unconfirmed",
    }
}

/// The JSON form of an environment.
fn answer(row: &EnvironmentRow) -> api::EnvironmentEntry {
    let EnvironmentRow { name, current, last_known_good, rollout, holder, fence, freeze } = row;
    api::EnvironmentEntry {
        environment: name.clone(),
        current: current.as_ref().map(release_entry),
        last_known_good: last_known_good.as_ref().map(release_entry),
        rollout: rollout.as_ref().map(|row| row.rollout.to_wire()),
        holder: holder.to_wire(),
        fence: *fence,
        freeze: freeze.as_ref().map(freeze_entry),
        differences: None,
    }
}

fn drift_entry(difference: &Drift) -> api::DriftEntry {
    let Drift { what, expected, found } = difference.clone();
    api::DriftEntry { what, expected, found }
}

fn freeze_entry(freeze: &EnvironmentFreeze) -> api::FreezeEntry {
    let EnvironmentFreeze { from: _, until, reason, by } = freeze;
    api::FreezeEntry { until: until.to_wire(), reason: reason.clone(), by: by.clone() }
}

fn release_entry(row: &ReleaseRow) -> api::ReleaseEntry {
    let ReleaseRow { number, run, stage: _, stage_id, attempt, at, release, confirmed, undone } = row;
    api::ReleaseEntry {
        number: *number,
        run: run.to_wire(),
        stage: stage_id.clone(),
        attempt: *attempt,
        at: at.to_wire(),
        good: *confirmed,
        undone: *undone,
        release: release.to_wire(),
    }
}

/// The end of a freeze that starts now and has the length `text`.
fn end_of_freeze(text: &str) -> Result<Timestamp, CommandError> {
    let length = duration(text).ok_or_else(|| {
        CommandError::usage(format!("`--for {text}` isn't a duration")).hint("write it as in `90m`, `12h` or `3d`")
    })?;
    if !range::WAIT.contains(length) {
        let refused = CommandError::usage(format!("`--for {text}` is out of range"));
        return Err(refused.hint(format!("a freeze lasts {}; it can be set again", range::WAIT)));
    }
    let millis = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    Ok(Timestamp(SystemClock::timestamp().0.saturating_add(millis)))
}
