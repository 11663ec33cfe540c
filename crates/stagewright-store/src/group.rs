//! Concurrency groups: one run has a group, others wait for it in the order in which they were created.
//!
//! A run asks only older ones to end, also when it was interrupted and joins again after newer ones: then it is the
//! one that is replaced, or that waits. A run that died has no place in a group; one that is suspended without having
//! left keeps the group until it goes on, unless a newer run has asked it to end.

use std::path::Path;

use rusqlite::{Transaction, params};
use stagewright_engine::{GroupAnswer, GroupRequest, RunId};
use stagewright_model::Queue;

use crate::asker::Asker;
use crate::row::{integer, json};
use crate::run_lock;
use crate::store::run_directory;

/// A row of `group_members`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    number: u64,
    run: RunId,
    /// It has the group.
    active: bool,
    /// It was asked to end. If it waits, its turn never comes.
    asked: bool,
    /// Runs that were asked to end because of it, and that it hasn't been told of.
    replaced: Vec<RunId>,
}

/// A run that is to be asked to end.
struct Replaced {
    run: RunId,
    by: RunId,
}

impl Member {
    fn may_come(&self) -> bool {
        !self.active && !self.asked
    }
}

pub(crate) fn join(
    transaction: &Transaction<'_>,
    directory: &Path,
    asker: &Asker,
    join: &GroupRequest,
) -> rusqlite::Result<GroupAnswer> {
    let before = read(transaction, asker.rehearsal, &join.group)?;
    let mut members = living(transaction, directory, &before, &asker.run)?;
    let (joined, asked) = take_place(&mut members, asker, join);
    for Replaced { run, by } in asked {
        let reason = format!("run {by} is newer and comes first in the concurrency group `{}`", join.group);
        transaction.execute("INSERT INTO cancels (run, reason) VALUES (?1, ?2)", (&run.0, reason))?;
    }
    write(transaction, asker.rehearsal, &join.group, &before, &members)?;
    Ok(joined)
}

pub(crate) fn leave(
    transaction: &Transaction<'_>,
    directory: &Path,
    asker: &Asker,
    group: &str,
) -> rusqlite::Result<()> {
    let before = read(transaction, asker.rehearsal, group)?;
    let mut members = living(transaction, directory, &before, &asker.run)?;
    members.retain(|member| member.run != asker.run);
    promote(&mut members);
    write(transaction, asker.rehearsal, group, &before, &members)
}

/// Puts the asker in its place. Also gives the runs that are to be asked to end.
fn take_place(members: &mut Vec<Member>, asker: &Asker, join: &GroupRequest) -> (GroupAnswer, Vec<Replaced>) {
    // Whoever waited when the group came free has its turn before one that only comes now.
    promote(members);
    let place = members.partition_point(|member| member.number < asker.number);
    if members.get(place).is_none_or(|member| member.number != asker.number) {
        let run = asker.run.clone();
        members.insert(place, Member { number: asker.number, run, active: false, asked: false, replaced: Vec::new() });
        promote(members);
    }
    if members[place].active {
        return (GroupAnswer::Granted { replaced: std::mem::take(&mut members[place].replaced) }, Vec::new());
    }
    let mut asked = Vec::new();
    if !members[place].asked {
        let (older, rest) = members.split_at_mut(place);
        if let [me, newer @ ..] = rest {
            for member in older.iter_mut().filter(|member| !member.asked) {
                let ends = if member.active { join.cancel_in_progress } else { join.queue == Queue::Single };
                if ends {
                    asked.push(replace(member, me));
                }
            }
            if join.queue == Queue::Single
                && let Some(waiting) = newer.iter_mut().find(|member| member.may_come())
            {
                asked.push(replace(me, waiting));
            }
        }
    }
    let holder = members.iter().find(|member| member.active).map_or_else(|| asker.run.clone(), |one| one.run.clone());
    (GroupAnswer::Waiting { holder }, asked)
}

/// For one whose turn never comes, the newer one also answers for those that were asked to end because of it.
fn replace(older: &mut Member, newer: &mut Member) -> Replaced {
    older.asked = true;
    if !older.active {
        newer.replaced.append(&mut older.replaced);
    }
    newer.replaced.push(older.run.clone());
    Replaced { run: older.run.clone(), by: newer.run.clone() }
}

/// Gives the group to the first run that waits, if it is free.
fn promote(members: &mut [Member]) {
    if members.iter().all(|member| !member.active)
        && let Some(next) = members.iter_mut().find(|member| member.may_come())
    {
        next.active = true;
    }
}

/// Those whose place hasn't ended with their process.
fn living(
    transaction: &Transaction<'_>,
    directory: &Path,
    members: &[Member],
    asker: &RunId,
) -> rusqlite::Result<Vec<Member>> {
    let mut living = Vec::new();
    for member in members {
        let lives = member.run == *asker
            || run_lock::is_held(&run_directory(directory, &member.run))
            || (member.active && !member.asked && is_suspended(transaction, &member.run)?);
        if lives {
            living.push(member.clone());
        }
    }
    Ok(living)
}

fn is_suspended(transaction: &Transaction<'_>, run: &RunId) -> rusqlite::Result<bool> {
    transaction.prepare_cached("SELECT suspended FROM runs WHERE id = ?1")?.query_row([&run.0], |row| row.get(0))
}

/// The members, older runs first.
fn read(transaction: &Transaction<'_>, rehearsal: bool, group: &str) -> rusqlite::Result<Vec<Member>> {
    let mut statement = transaction.prepare_cached(
        "SELECT number, run, active, asked, replaced FROM group_members WHERE name = ?1 AND rehearsal = ?2
         ORDER BY number",
    )?;
    statement
        .query_map((group, rehearsal), |row| {
            Ok(Member {
                number: row.get::<_, i64>(0)?.cast_unsigned(),
                run: RunId(row.get(1)?),
                active: row.get(2)?,
                asked: row.get(3)?,
                replaced: json(row, 4)?,
            })
        })?
        .collect()
}

/// Writes what has changed: a run that only goes on waiting costs no write.
fn write(
    transaction: &Transaction<'_>,
    rehearsal: bool,
    group: &str,
    before: &[Member],
    after: &[Member],
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
        change.execute(params![group, rehearsal, number, run, member.active, member.asked, replaced])?;
    }
    Ok(())
}
