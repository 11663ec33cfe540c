//! Reads `[[environments.NAME.freeze]]`.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use toml::de::DeValue;

use super::fields::{Fields, Value};
use crate::diagnostic::{Problem, Report};
use crate::freeze::{Freeze, FreezeWindow, WeeklyWindow, zone};
use crate::span::SourceSpan;

/// The freezes of one environment's table.
pub(super) fn read(environment: Fields<'_>, report: &mut Report) -> Vec<Freeze> {
    let tables = environment.items("freeze").iter().filter(|value| value.get_ref().is_table());
    tables.filter_map(|value| freeze(value, report)).collect()
}

fn freeze(value: &Value<'_>, report: &mut Report) -> Option<Freeze> {
    let fields = Fields::of(value);
    let window = match (fields.get("weekly"), fields.get("from"), fields.get("until")) {
        (Some(_), None, None) => weekly(fields),
        (None, Some(from), Some(until)) => {
            if let Some(zone) = fields.get("time-zone") {
                report.error(|| stray_zone(zone));
            }
            once(from, until, report)
        }
        (Some(_), from, until) => {
            for stray in from.into_iter().chain(until) {
                report.error(|| {
                    Problem::new("stagewright::bad-freeze", stray.span().into(), "a weekly freeze can't have dates")
                        .help("keep `weekly`, or `from` and `until`; for both, write two `freeze` tables")
                });
            }
            None
        }
        (None, from, until) => {
            let place = from.or(until).map_or(value.span(), toml::Spanned::span);
            report.error(|| unbounded(place.into(), from.is_some(), until.is_some()));
            None
        }
    };
    Some(Freeze { window: window?, reason: fields.string("reason")? })
}

fn weekly(fields: Fields<'_>) -> Option<FreezeWindow> {
    let zone = match fields.text("time-zone") {
        Some(name) => zone(name.value)?,
        None => TimeZone::UTC,
    };
    WeeklyWindow::parse(fields.text("weekly")?.value, zone).ok().map(FreezeWindow::Weekly)
}

fn once(from: &Value<'_>, until: &Value<'_>, report: &mut Report) -> Option<FreezeWindow> {
    let (begin, end) = (moment(from, report)?, moment(until, report)?);
    if begin >= end {
        report.error(|| {
            Problem::new("stagewright::bad-freeze", until.span().into(), "the freeze ends before it begins")
                .label("the end")
                .also(from.span().into(), "the beginning")
                .help("swap `from` and `until`, or correct the year")
        });
        return None;
    }
    Some(FreezeWindow::Once(begin..end))
}

/// Milliseconds since the Unix epoch, 0 for earlier times. A time without an offset was reported already.
fn moment(value: &Value<'_>, report: &mut Report) -> Option<u64> {
    let DeValue::Datetime(moment) = value.get_ref() else { return None };
    moment.offset?;
    match moment.to_string().parse::<Timestamp>() {
        Ok(moment) => Some(u64::try_from(moment.as_millisecond()).unwrap_or(0)),
        Err(_) => {
            report.error(|| {
                Problem::new("stagewright::bad-moment", value.span().into(), "this time is out of range")
                    .help("write a date in the years 1970 to 9998")
            });
            None
        }
    }
}

fn unbounded(place: SourceSpan, has_from: bool, has_until: bool) -> Problem {
    let (message, help) = match (has_from, has_until) {
        (true, _) => ("the freeze has no end", "add `until`, as in `until = 2027-01-04T08:00:00Z`"),
        (_, true) => ("the freeze has no beginning", "add `from`, as in `from = 2026-12-18T16:00:00Z`"),
        _ => ("the freeze has no time", "add `from` and `until`, or `weekly = \"Fri 16:00 - Mon 08:00\"`"),
    };
    Problem::new("stagewright::bad-freeze", place, message).help(help)
}

fn stray_zone(zone: &Value<'_>) -> Problem {
    Problem::new("stagewright::bad-freeze", zone.span().into(), "`time-zone` doesn't apply to `from` and `until`")
        .label("has no effect")
        .help("remove `time-zone`: `from` and `until` contain their own offsets, and only `weekly` needs a zone")
}
