//! Freezes: times without deploys to an environment.
//!
//! Time zones come from the compiled-in database, so that a file means the same on every machine.

use std::ops::Range;

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan};

use crate::format_error::FormatError;
use crate::nearest::nearest;

const DAYS: [(&str, &str, Weekday); 7] = [
    ("Mon", "Monday", Weekday::Monday),
    ("Tue", "Tuesday", Weekday::Tuesday),
    ("Wed", "Wednesday", Weekday::Wednesday),
    ("Thu", "Thursday", Weekday::Thursday),
    ("Fri", "Friday", Weekday::Friday),
    ("Sat", "Saturday", Weekday::Saturday),
    ("Sun", "Sunday", Weekday::Sunday),
];

/// `[[environments.NAME.freeze]]`: a time without deploys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freeze {
    /// When the freeze is in force.
    pub window: FreezeWindow,
    /// `reason`: shown to users whose deploys have to wait.
    pub reason: String,
}

/// When a freeze is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FreezeWindow {
    /// `from` and `until`, in milliseconds since the Unix epoch.
    Once(Range<u64>),
    /// `weekly`.
    Weekly(WeeklyWindow),
}

/// A period of every week in the local time of one time zone.
///
/// The period is shorter or longer than usual in a week in which the clocks change. If the clocks skip or repeat the
/// local time of its start or end, the reading with the longer freeze applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeeklyWindow {
    from: WeekTime,
    until: WeekTime,
    zone: TimeZone,
}

/// A freeze in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// When deploys are possible again, in milliseconds since the Unix epoch.
    pub until: u64,
    /// The reason of the freeze in force that ends last.
    pub reason: String,
}

/// The freeze in force at `at` (milliseconds since the Unix epoch) that ends last. A freeze that begins before or when
/// another ends extends it.
pub(crate) fn in_force(freezes: &[Freeze], at: u64) -> Option<Frozen> {
    let last_to_end = |at: u64| {
        let in_force = freezes.iter().filter_map(|freeze| {
            let until = freeze.window.end_of(at)?;
            Some(Frozen { until, reason: freeze.reason.clone() })
        });
        in_force.max_by_key(|frozen| frozen.until)
    };
    let mut frozen = last_to_end(at)?;
    // Weekly windows that together cover the whole week would extend each other forever, so there is a limit on the
    // steps. One step for each freeze suffices to pass through all windows of a chain once.
    for _ in freezes {
        let Some(next) = last_to_end(frozen.until).filter(|next| next.until > frozen.until) else { break };
        frozen.until = next.until;
    }
    Some(frozen)
}

impl FreezeWindow {
    /// When the window that contains `at` ends; both in milliseconds since the Unix epoch. None outside of the window.
    fn end_of(&self, at: u64) -> Option<u64> {
        match self {
            FreezeWindow::Once(window) => window.contains(&at).then_some(window.end),
            FreezeWindow::Weekly(window) => {
                let at = Timestamp::from_millisecond(i64::try_from(at).ok()?).ok()?;
                u64::try_from(window.end_of(at)?.as_millisecond()).ok()
            }
        }
    }
}

impl WeeklyWindow {
    /// Parses a text such as `Fri 16:00 - Mon 08:00`.
    pub(crate) fn parse(text: &str, zone: TimeZone) -> Result<WeeklyWindow, FormatError> {
        let Some((from, until)) = text.split_once('-') else {
            return Err(bad_freeze("isn't a pair of weekdays and times"));
        };
        let (from, until) = (WeekTime::parse(from.trim())?, WeekTime::parse(until.trim())?);
        if from == until {
            let message = "begins and ends at the same time";
            let help = "for a freeze that never ends, set `from`, and `until` to a date in the far future".to_owned();
            return Err(FormatError { help, ..bad_freeze(message) });
        }
        Ok(WeeklyWindow { from, until, zone })
    }

    fn end_of(&self, at: Timestamp) -> Option<Timestamp> {
        let today = self.zone.to_datetime(at).date();
        let since_opening = today.weekday().since(self.from.day);
        // `today` follows the most recent nominal start by 0 to 6 days. That window is tried together with the one
        // before, which can last up to seven days, and with the one after. Where the clocks skip midnight, the earlier
        // reading of the start can be on the day before, and so before the nominal start.
        let weeks = [-7, 0, 7].into_iter().filter_map(|days| {
            let opening = today.checked_add((days - i64::from(since_opening)).days()).ok()?;
            let closing = opening.checked_add(self.days().days()).ok()?;
            let begin = self.ambiguous(opening, self.from.time).earlier().ok()?;
            let end = self.ambiguous(closing, self.until.time).later().ok()?;
            (begin <= at && at < end).then_some(end)
        });
        weeks.max()
    }

    /// Number of days from the date on which the window begins to the date on which it ends.
    fn days(&self) -> i64 {
        match i64::from(self.until.day.since(self.from.day)) {
            0 if self.until.time <= self.from.time => 7,
            days => days,
        }
    }

    fn ambiguous(&self, date: Date, time: Time) -> jiff::tz::AmbiguousTimestamp {
        self.zone.to_ambiguous_timestamp(date.to_datetime(time))
    }
}

/// The time zone with an IANA name such as `Europe/Berlin`.
pub(crate) fn zone(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok()
}

/// The zone whose name or city is most similar to `name`.
pub(crate) fn nearest_zone(name: &str) -> Option<String> {
    let known: Vec<String> = TimeZoneDatabase::bundled().available().map(|name| name.to_string()).collect();
    // Users often write the city alone, as in `Berlin`.
    let by_city = known.iter().find(|zone| zone.rsplit('/').next().is_some_and(|city| city.eq_ignore_ascii_case(name)));
    by_city.map(String::as_str).or_else(|| nearest(name, known.iter().map(String::as_str))).map(str::to_owned)
}

/// A local time on a day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct WeekTime {
    day: Weekday,
    time: Time,
}

fn bad_freeze(message: impl Into<String>) -> FormatError {
    FormatError {
        code: "stagewright::bad-freeze",
        message: message.into(),
        help: "write two days with times, from 00:00 to 23:59, as in `Fri 16:00 - Mon 08:00`".to_owned(),
    }
}

impl WeekTime {
    fn parse(text: &str) -> Result<WeekTime, FormatError> {
        let Some((day, time)) = text.split_once(char::is_whitespace) else {
            return Err(bad_freeze("isn't a pair of weekdays and times"));
        };
        Ok(WeekTime { day: parse_day(day)?, time: parse_time(time.trim())? })
    }
}

fn parse_day(text: &str) -> Result<Weekday, FormatError> {
    let is_meant =
        |(short, long, _): &&(&str, &str, Weekday)| text.eq_ignore_ascii_case(short) || text.eq_ignore_ascii_case(long);
    if let Some((_, _, day)) = DAYS.iter().find(is_meant) {
        return Ok(*day);
    }
    let mut error = bad_freeze(format!("has an unknown day, `{text}`"));
    if let Some(name) = nearest(text, DAYS.iter().flat_map(|(short, long, _)| [*short, *long])) {
        error.help = format!("did you mean `{name}`?");
    }
    Err(error)
}

fn parse_time(text: &str) -> Result<Time, FormatError> {
    let number = |digits: &str| {
        let is_number = (1..=2).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
        is_number.then(|| digits.parse::<i8>().ok()).flatten()
    };
    let time = text.split_once(':').and_then(|(hour, minute)| {
        let minute = number(minute).filter(|_| minute.len() == 2)?;
        Time::new(number(hour)?, minute, 0, 0).ok()
    });
    time.ok_or_else(|| bad_freeze(format!("has an unknown time, `{text}`")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan::Environment;

    const MINUTE: u64 = 60_000;
    const WEEK: u64 = 7 * 24 * 60 * MINUTE;

    fn weekly(text: &str, name: &str) -> FreezeWindow {
        FreezeWindow::Weekly(WeeklyWindow::parse(text, zone(name).unwrap()).unwrap())
    }

    fn at(text: &str) -> u64 {
        text.parse::<Timestamp>().unwrap().as_millisecond().try_into().unwrap()
    }

    #[track_caller]
    fn check(window: &FreezeWindow, time: &str, end: Option<&str>) {
        let found = window.end_of(at(time)).map(|end| Timestamp::from_millisecond(end as i64).unwrap().to_string());
        assert_eq!(found.as_deref(), end, "at {time}");
    }

    #[test]
    fn adjacent_freezes_are_combined() {
        let freeze = |window: FreezeWindow, reason: &str| Freeze { window, reason: reason.to_owned() };
        let environment = |freeze: Vec<Freeze>| Environment { freeze, ..Environment::default() };
        let touching = environment(vec![
            freeze(FreezeWindow::Once(30..40), "third"),
            freeze(FreezeWindow::Once(10..20), "first"),
            freeze(FreezeWindow::Once(20..30), "second"),
            freeze(FreezeWindow::Once(50..60), "later"),
        ]);
        let frozen = touching.frozen(12).unwrap();
        assert_eq!((frozen.until, frozen.reason.as_str()), (40, "first"));
        assert_eq!(touching.frozen(40), None);
        let always = environment(vec![
            freeze(weekly("Mon 00:00 - Thu 00:00", "UTC"), "one half"),
            freeze(weekly("Thu 00:00 - Mon 00:00", "UTC"), "the other"),
        ]);
        assert!(always.frozen(at("2026-11-20T12:00:00Z")).is_some(), "the search terminates");
    }

    #[test]
    fn window_includes_its_start_and_excludes_its_end() {
        let window = FreezeWindow::Once(10..20);
        assert_eq!([9, 10, 19, 20].map(|at| window.end_of(at)), [None, Some(20), Some(20), None]);
        let window = weekly("Fri 16:00 - Mon 08:00", "UTC");
        // 2026-11-20 is a Friday.
        check(&window, "2026-11-20T15:59:59.999Z", None);
        check(&window, "2026-11-20T16:00:00Z", Some("2026-11-23T08:00:00Z"));
        check(&window, "2026-11-22T23:59:59Z", Some("2026-11-23T08:00:00Z"));
        check(&window, "2026-11-23T07:59:59.999Z", Some("2026-11-23T08:00:00Z"));
        check(&window, "2026-11-23T08:00:00Z", None);
    }

    #[test]
    fn window_can_start_and_end_on_the_same_weekday() {
        let night = weekly("wednesday 12:00 - Wed 13:30", "UTC");
        check(&night, "2026-11-18T12:30:00Z", Some("2026-11-18T13:30:00Z"));
        check(&night, "2026-11-18T14:00:00Z", None);
        let all_but_an_hour = weekly("Wed 13:00 - Wed 12:00", "UTC");
        check(&all_but_an_hour, "2026-11-18T11:00:00Z", Some("2026-11-18T12:00:00Z"));
        check(&all_but_an_hour, "2026-11-18T12:30:00Z", None);
        check(&all_but_an_hour, "2026-11-18T13:00:00Z", Some("2026-11-25T12:00:00Z"));
    }

    #[test]
    fn window_follows_local_time_across_clock_changes() {
        let window = weekly("Fri 16:00 - Mon 08:00", "Europe/Berlin");
        check(&window, "2026-11-20T15:00:00Z", Some("2026-11-23T07:00:00Z"));
        check(&window, "2026-07-17T14:00:00Z", Some("2026-07-20T06:00:00Z"));
        // Across the start and the end of summer time.
        check(&window, "2026-03-27T15:00:00Z", Some("2026-03-30T06:00:00Z"));
        check(&window, "2026-10-23T14:00:00Z", Some("2026-10-26T07:00:00Z"));
        // Monday in Tokyo, still Sunday in UTC.
        check(&weekly("Mon 00:00 - Mon 02:00", "Asia/Tokyo"), "2026-11-22T15:00:00Z", Some("2026-11-22T17:00:00Z"));
    }

    #[test]
    fn skipped_or_repeated_start_or_end_gives_the_longer_freeze() {
        // On 2026-10-25 the hour from 02:00 is repeated: it begins at 00:00Z and at 01:00Z.
        let night = weekly("Sun 02:30 - Sun 02:45", "Europe/Berlin");
        check(&night, "2026-10-25T00:29:00Z", None);
        check(&night, "2026-10-25T00:30:00Z", Some("2026-10-25T01:45:00Z"));
        check(&night, "2026-10-25T01:44:00Z", Some("2026-10-25T01:45:00Z"));
        // On 2026-03-29 it is skipped, at 01:00Z.
        check(&night, "2026-03-29T00:30:00Z", Some("2026-03-29T01:45:00Z"));
        // If the clocks skip midnight, the window begins on the day before.
        let midnight = weekly("Sun 00:30 - Sun 06:00", "America/Santiago");
        check(&midnight, "2026-09-06T03:45:00Z", Some("2026-09-06T09:00:00Z"));
    }

    #[test]
    fn nearest_zone_is_found_by_city_or_similar_name() {
        assert_eq!(nearest_zone("Berlin").as_deref(), Some("Europe/Berlin"));
        assert_eq!(nearest_zone("Europe/Berlni").as_deref(), Some("Europe/Berlin"));
        assert_eq!(nearest_zone("nowhere at all"), None);
    }

    proptest! {
        /// In UTC all weeks have the same length, so that the result can be computed modulo a week.
        #[test]
        fn weekly_window_repeats_modulo_a_week(from in 0..WEEK / MINUTE, until in 0..WEEK / MINUTE, now in 0..WEEK * 60) {
            prop_assume!(from != until);
            let shown = |minute: u64| {
                let (day, _, _) = DAYS[usize::try_from(minute / (24 * 60)).unwrap()];
                format!("{day} {:02}:{:02}", minute / 60 % 24, minute % 60)
            };
            let window = weekly(&format!("{} - {}", shown(from), shown(until)), "UTC");
            // The epoch was a Thursday.
            let in_week = (now + 3 * 24 * 60 * MINUTE) % WEEK;
            let since = (in_week + WEEK - from * MINUTE) % WEEK;
            let length = (until * MINUTE + WEEK - from * MINUTE) % WEEK;
            let expected = (since < length).then(|| now + length - since);
            prop_assert_eq!(window.end_of(now), expected);
        }
    }
}
