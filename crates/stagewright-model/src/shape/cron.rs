//! Cron lines of five fields.

use crate::format_error::{FormatError, refuse};

/// The fields of a cron line: name, bounds, and the names that stand for numbers from the lower bound on.
const CRON_FIELDS: [(&str, u32, u32, &[&str]); 5] = [
    ("minute", 0, 59, &[]),
    ("hour", 0, 23, &[]),
    ("day of month", 1, 31, &[]),
    ("month", 1, 12, &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]),
    ("day of week", 0, 7, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
];

pub(super) fn check_cron(text: &str) -> Result<(), FormatError> {
    const CODE: &str = "stagewright::bad-schedule";
    const HELP: &str =
        "five fields: minute, hour, day of month, month, day of week, as in `0 2 * * 1-5`; times are UTC";
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    if fields.len() != CRON_FIELDS.len() {
        return refuse(CODE, format!("isn't a cron line: it takes five fields, and has {}", fields.len()), HELP);
    }
    let mut sets = Vec::new();
    for (field, (name, low, high, names)) in fields.iter().zip(CRON_FIELDS) {
        let items: Option<Vec<Vec<u32>>> = field.split(',').map(|item| values(item, low, high, names)).collect();
        match items {
            Some(items) => sets.push(items.concat()),
            None => {
                let message = format!("isn't a cron line: the {name} can't be `{field}` ({low} to {high})");
                return refuse(CODE, message, HELP);
            }
        }
    }
    if !is_ever_due(&sets[2], &sets[3], fields[4]) {
        let message = format!("is never due: no such month has a day {}", fields[2]);
        return refuse(CODE, message, "write a day that the month has; `28` is the last that every month has");
    }
    Ok(())
}

/// A line that names days of the week as well is due on these, whatever the day of the month.
fn is_ever_due(days: &[u32], months: &[u32], weekdays: &str) -> bool {
    let first = days.iter().min().copied().unwrap_or_default();
    let length = |month: &u32| match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    weekdays != "*" || months.iter().any(|month| first <= length(month))
}

/// The numbers of `*`, `N`, `A-B`, each perhaps with a `/STEP`; none when it is something else.
fn values(item: &str, low: u32, high: u32, names: &[&str]) -> Option<Vec<u32>> {
    let value = |text: &str| {
        let named = names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let number = match named {
            Some(position) => low + u32::try_from(position).ok()?,
            None if text.bytes().all(|digit| digit.is_ascii_digit()) => text.parse().ok()?,
            None => return None,
        };
        (low..=high).contains(&number).then_some(number)
    };
    let (range, step) = match item.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (item, None),
    };
    let (from, to) = match range.split_once('-') {
        _ if range == "*" => (low, high),
        Some((from, to)) => (value(from)?, value(to)?),
        // `5/10` is read in two ways by the programs that take it at all.
        None if step.is_none() => (value(range)?, value(range)?),
        None => return None,
    };
    let step: u32 = step.map_or(Some(1), |step| step.parse().ok())?;
    let is_good = from <= to && (1..=high).contains(&step);
    is_good.then(|| (from..=to).step_by(step as usize).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cron_lines_have_five_fields_within_bounds() {
        for text in ["0 2 * * *", "*/15 0-6,22 1 jan-mar MON-fri", "0-30/5 * * * 7"] {
            assert_eq!(check_cron(text), Ok(()), "{text}");
        }
        for text in [
            "",
            "0 2 * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "5-1 * * * *",
            "*/0 * * * *",
            "1/2 * * * *",
            "+1 * * * *",
            "@daily",
        ] {
            assert!(check_cron(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_line_that_is_never_due_is_refused() {
        for text in ["0 0 29 2 *", "0 0 30,31 feb,mar *", "0 0 31 2 mon", "0 0 28-31 2 *", "0 0 */30 2 *", "0 0 30 4 *"]
        {
            assert_eq!(check_cron(text), Ok(()), "{text}");
        }
        for text in ["0 0 30 2 *", "0 0 30,31 feb *", "0 0 31 4,6,9,nov *", "0 0 30-31/1 2 *"] {
            assert!(check_cron(text).is_err_and(|error| error.message.starts_with("is never due")), "{text}");
        }
    }
}
