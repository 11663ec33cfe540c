//! Which backups are kept.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Deserialize;
use stagewright_sdk::{DurationText, JsonSchema, Problem, schemars};

use crate::{Backup, since_epoch};

/// Which backups of a store are kept: all that one of the rules keeps. Days, weeks and so on are those of UTC, and count if
/// there is a backup in them. The newest backup, and the newest that was verified, are always kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Retention {
    /// How many of the last ones.
    pub last: usize,
    /// All that are at most this old, as in `7d`.
    pub within: Option<DurationText>,
    /// For how many days the last one of each.
    pub daily: usize,
    /// For how many weeks the last one of each.
    pub weekly: usize,
    /// For how many months the last one of each.
    pub monthly: usize,
    /// For how many years the last one of each.
    pub yearly: usize,
}

impl Retention {
    /// Mistakes of a key.
    pub fn problems(&self, key: &str) -> Vec<Problem> {
        let keeps_some = *self != Retention::default();
        let problem = || {
            Problem::at(key, "keeps nothing but the newest backup").help(
                "set how many to keep, as in { daily = 7, weekly = 4, monthly = 12 }, or leave it out to keep all",
            )
        };
        (!keeps_some).then(problem).into_iter().collect()
    }
}

/// The day, week, month or year of a date.
type PeriodOf = fn(Date) -> (i16, i16);

/// The backups that no rule keeps.
pub fn surplus<'b>(backups: &'b [Backup], keep: &Retention, now: Duration) -> Vec<&'b Backup> {
    let mut newest: Vec<&Backup> = backups.iter().collect();
    newest.sort_by_key(|backup| std::cmp::Reverse(backup.moment));
    let mut kept: HashSet<&str> = HashSet::new();
    kept.extend(newest.iter().take(keep.last.max(1)).map(|backup| backup.name.as_str()));
    kept.extend(newest.iter().find(|backup| backup.verified.is_some()).map(|backup| backup.name.as_str()));
    if let Some(within) = keep.within {
        let is_young = |backup: &&&Backup| now.saturating_sub(since_epoch(backup)) <= within.0;
        kept.extend(newest.iter().filter(is_young).map(|backup| backup.name.as_str()));
    }
    let periods: [(usize, PeriodOf); 4] = [
        (keep.daily, |date| (date.year(), date.day_of_year())),
        (keep.weekly, |date| (date.iso_week_date().year(), i16::from(date.iso_week_date().week()))),
        (keep.monthly, |date| (date.year(), i16::from(date.month()))),
        (keep.yearly, |date| (date.year(), 0)),
    ];
    for (number, period) in periods {
        let mut seen = BTreeSet::new();
        for backup in &newest {
            let of = period(backup.moment.to_zoned(TimeZone::UTC).date());
            if seen.len() < number && seen.insert(of) {
                kept.insert(&backup.name);
            }
        }
    }
    newest.into_iter().filter(|backup| !kept.contains(backup.name.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Contents, Verification};

    fn backup(moment: &str) -> Backup {
        let moment = moment.parse().unwrap();
        Backup {
            format: 1,
            name: format!("shop-{moment}"),
            engine: "postgresql".to_owned(),
            database: "shop".to_owned(),
            moment,
            run: String::new(),
            stage: String::new(),
            file: String::new(),
            digest: String::new(),
            size: 0,
            encrypted_to: Vec::new(),
            contents: Contents::default(),
            verified: None,
        }
    }

    /// The days of January and later that are kept, at noon of 31 January plus `days`.
    fn kept(moments: &[String], keep: Retention) -> Vec<String> {
        let backups: Vec<Backup> = moments.iter().map(|moment| backup(moment)).collect();
        let now = since_epoch(&backup("2026-03-31T12:00:00Z"));
        let gone: HashSet<String> = surplus(&backups, &keep, now).into_iter().map(|gone| gone.name.clone()).collect();
        let left = backups.iter().filter(|backup| !gone.contains(&backup.name));
        left.map(|backup| backup.moment.to_string()[..13].to_owned()).collect()
    }

    #[test]
    fn the_last_one_of_each_period_is_kept() {
        let moments: Vec<String> = ["2026-03-29", "2026-03-30", "2026-03-31"]
            .iter()
            .flat_map(|day| [2, 8].map(|hour| format!("{day}T{hour:02}:00:00Z")))
            .collect();
        let keep = Retention { daily: 2, ..Retention::default() };
        assert_eq!(kept(&moments, keep), ["2026-03-30T08", "2026-03-31T08"]);
        // Monday, 30 March, begins a week.
        let keep = Retention { weekly: 2, ..Retention::default() };
        assert_eq!(kept(&moments, keep), ["2026-03-29T08", "2026-03-31T08"]);
        let keep = Retention { last: 1, within: DurationText::parse("1d4h"), ..Retention::default() };
        assert_eq!(kept(&moments, keep), ["2026-03-30T08", "2026-03-31T02", "2026-03-31T08"]);
    }

    #[test]
    fn seven_days_four_weeks_and_twelve_months() {
        let first: jiff::Timestamp = "2025-01-01T02:00:00Z".parse().unwrap();
        let day = |number: i64| first.checked_add(jiff::SignedDuration::from_hours(24 * number)).unwrap().to_string();
        let moments: Vec<String> = (0..455).map(day).collect();
        assert!(moments.last().unwrap().starts_with("2026-03-31"));
        let keep = Retention { daily: 7, weekly: 4, monthly: 12, ..Retention::default() };
        let kept = kept(&moments, keep);
        // The days from 25 March; the Sundays 22 and 15 of March, as 29 March is among the days and 31 March is the fourth
        // week; and the last days of eleven months.
        assert_eq!(kept.len(), 7 + 2 + 11, "{kept:?}");
        assert_eq!(kept[0], "2025-04-30T02");
    }

    #[test]
    fn the_newest_and_the_newest_verified_one_are_kept_whatever_the_rules_say() {
        let mut backups = ["2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z", "2020-01-03T00:00:00Z"].map(backup);
        backups[0].verified =
            Some(Verification { at: jiff::Timestamp::UNIX_EPOCH, run: String::new(), recovery_time_ms: 1 });
        let keep = Retention { within: DurationText::parse("1d"), ..Retention::default() };
        let gone = surplus(&backups, &keep, since_epoch(&backup("2026-03-31T12:00:00Z")));
        assert_eq!(gone.iter().map(|gone| gone.moment).collect::<Vec<_>>(), [backups[1].moment]);
    }
}
