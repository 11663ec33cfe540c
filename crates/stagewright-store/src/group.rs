//! Concurrency groups: one run holds a group, and others wait for it in the order in which they were created.
//!
//! A run replaces only older runs. If it was interrupted and enters the group again after newer ones, it is itself
//! replaced, or waits. A run whose process died loses its place. One that was suspended without leaving keeps the group
//! until it is resumed, unless a newer run replaced it.

use std::path::Path;

use rusqlite::{Transaction, params};
use stagewright_engine::{GroupAnswer, GroupRequest, RunId};
use stagewright_model::Queue;

use crate::requesting_run::RequestingRun;
use crate::row::{integer, json};
use crate::run_lock;
use crate::store::run_directory;

/// A row of `group_members`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct GroupMember {
    number: u64,
    run: RunId,
    /// It holds the group.
    active: bool,
    /// A newer run replaced it. If it is waiting, it never gets the group.
    cancelled: bool,
    /// The runs that it replaced and that haven't been reported to it yet.
    replaced: Vec<RunId>,
}

/// A cancel request for a run that was replaced.
struct CancelRequest {
    run: RunId,
    by: RunId,
}

impl GroupMember {
    fn is_waiting(&self) -> bool {
        !self.active && !self.cancelled
    }
}

pub(crate) fn enter(
    transaction: &Transaction<'_>,
    directory: &Path,
    requester: &RequestingRun,
    request: &GroupRequest,
) -> rusqlite::Result<GroupAnswer> {
    let before = read(transaction, requester.rehearsal, &request.group)?;
    let mut members = live_members(transaction, directory, &before, &requester.run)?;
    let (answer, cancels) = insert_and_replace(&mut members, requester, request);
    for CancelRequest { run, by } in cancels {
        let reason = format!("newer run {by} replaces it in the concurrency group `{}`", request.group);
        transaction.execute("INSERT INTO cancels (run, reason) VALUES (?1, ?2)", (&run.0, reason))?;
    }
    write(transaction, requester.rehearsal, &request.group, &before, &members)?;
    Ok(answer)
}

pub(crate) fn leave(
    transaction: &Transaction<'_>,
    directory: &Path,
    requester: &RequestingRun,
    group: &str,
) -> rusqlite::Result<()> {
    let before = read(transaction, requester.rehearsal, group)?;
    let mut members = live_members(transaction, directory, &before, &requester.run)?;
    members.retain(|member| member.run != requester.run);
    promote(&mut members);
    write(transaction, requester.rehearsal, group, &before, &members)
}

/// Inserts the requesting run, if it is new, and replaces runs according to the request. Returns the answer and the
/// cancel requests for replaced runs.
fn insert_and_replace(
    members: &mut Vec<GroupMember>,
    requester: &RequestingRun,
    request: &GroupRequest,
) -> (GroupAnswer, Vec<CancelRequest>) {
    // The holder's process may have died since the last request, which makes the group free without any call. A run
    // that was already waiting then gets it before the requester is inserted. Otherwise an older run that enters again
    // would be sorted to the front and overtake runs that have waited longer.
    promote(members);
    let place = members.partition_point(|member| member.number < requester.number);
    if members.get(place).is_none_or(|member| member.number != requester.number) {
        let run = requester.run.clone();
        members.insert(
            place,
            GroupMember { number: requester.number, run, active: false, cancelled: false, replaced: Vec::new() },
        );
        promote(members);
    }
    if members[place].active {
        return (GroupAnswer::Granted { replaced: std::mem::take(&mut members[place].replaced) }, Vec::new());
    }
    let mut cancels = Vec::new();
    if !members[place].cancelled {
        let (older, rest) = members.split_at_mut(place);
        if let [me, newer @ ..] = rest {
            for member in older.iter_mut().filter(|member| !member.cancelled) {
                let ends = if member.active { request.cancel_in_progress } else { request.queue == Queue::Single };
                if ends {
                    cancels.push(replace(member, me));
                }
            }
            if request.queue == Queue::Single
                && let Some(waiting) = newer.iter_mut().find(|member| member.is_waiting())
            {
                cancels.push(replace(me, waiting));
            }
        }
    }
    let holder =
        members.iter().find(|member| member.active).map_or_else(|| requester.run.clone(), |member| member.run.clone());
    (GroupAnswer::Waiting { holder }, cancels)
}

/// Replaces the older run by the newer one. If the older one was waiting, it never starts and so never reports the runs
/// that it replaced itself: the newer one reports them, too.
fn replace(older: &mut GroupMember, newer: &mut GroupMember) -> CancelRequest {
    older.cancelled = true;
    if !older.active {
        newer.replaced.append(&mut older.replaced);
    }
    newer.replaced.push(older.run.clone());
    CancelRequest { run: older.run.clone(), by: newer.run.clone() }
}

/// Grants the group to the first waiting run, if it is free.
fn promote(members: &mut [GroupMember]) {
    if members.iter().all(|member| !member.active)
        && let Some(next) = members.iter_mut().find(|member| member.is_waiting())
    {
        next.active = true;
    }
}

/// The members that haven't lost their place because their process ended.
fn live_members(
    transaction: &Transaction<'_>,
    directory: &Path,
    members: &[GroupMember],
    requester: &RunId,
) -> rusqlite::Result<Vec<GroupMember>> {
    let mut live = Vec::new();
    for member in members {
        let is_live = member.run == *requester
            || run_lock::is_held(&run_directory(directory, &member.run))
            || (member.active && !member.cancelled && is_suspended(transaction, &member.run)?);
        if is_live {
            live.push(member.clone());
        }
    }
    Ok(live)
}

fn is_suspended(transaction: &Transaction<'_>, run: &RunId) -> rusqlite::Result<bool> {
    transaction.prepare_cached("SELECT suspended FROM runs WHERE id = ?1")?.query_row([&run.0], |row| row.get(0))
}

/// The members, older runs first.
fn read(transaction: &Transaction<'_>, rehearsal: bool, group: &str) -> rusqlite::Result<Vec<GroupMember>> {
    let mut statement = transaction.prepare_cached(
        "SELECT number, run, active, asked, replaced FROM group_members WHERE name = ?1 AND rehearsal = ?2
         ORDER BY number",
    )?;
    statement
        .query_map((group, rehearsal), |row| {
            Ok(GroupMember {
                number: row.get::<_, i64>(0)?.cast_unsigned(),
                run: RunId(row.get(1)?),
                active: row.get(2)?,
                cancelled: row.get(3)?,
                replaced: json(row, 4)?,
            })
        })?
        .collect()
}

/// Writes only the rows that changed, so that a waiting run that requests the group again causes no write.
fn write(
    transaction: &Transaction<'_>,
    rehearsal: bool,
    group: &str,
    before: &[GroupMember],
    after: &[GroupMember],
) -> rusqlite::Result<()> {
    let mut delete =
        transaction.prepare_cached("DELETE FROM group_members WHERE name = ?1 AND rehearsal = ?2 AND number = ?3")?;
    for member in before.iter().filter(|member| after.iter().all(|kept| kept.number != member.number)) {
        delete.execute((group, rehearsal, integer(member.number)))?;
    }
    let mut change = transaction.prepare_cached(
        "INSERT INTO group_members (name, rehearsal, number, run, active, asked, replaced)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (name, rehearsal, number) DO UPDATE SET active = ?5, asked = ?6, replaced = ?7",
    )?;
    for member in after.iter().filter(|member| !before.contains(member)) {
        let replaced = serde_json::to_string(&member.replaced)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        let (number, run) = (integer(member.number), &member.run.0);
        change.execute(params![group, rehearsal, number, run, member.active, member.cancelled, replaced])?;
    }
    Ok(())
}
