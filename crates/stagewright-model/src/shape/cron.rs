//! Cron lines of five fields.

use super::format::{Fault, fault};

/// The fields of a cron line: name, bounds, and the names that stand for numbers from the lower bound on.
const CRON_FIELDS: [(&str, u32, u32, &[&str]); 5] = [
    ("minute", 0, 59, &[]),
    ("hour", 0, 23, &[]),
    ("day of month", 1, 31, &[]),
    ("month", 1, 12, &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]),
    ("day of week", 0, 7, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
];

/// What is wrong with a line, if anything.
pub(super) fn cron_fault(text: &str) -> Option<Fault> {
    const CODE: &str = "stagewright::bad-schedule";
    const HELP: &str =
        "five fields: minute, hour, day of month, month, day of week, as in `0 2 * * 1-5`; times are UTC";
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    if fields.len() != CRON_FIELDS.len() {
        return fault(CODE, format!("is no cron line: it takes five fields, and has {}", fields.len()), HELP);
    }
    fields.iter().zip(CRON_FIELDS).find_map(|(field, (name, low, high, names))| {
        let is_good = field.split(',').all(|item| is_cron_item(item, low, high, names));
        if is_good {
            None
        } else {
            fault(CODE, format!("is no cron line: `{field}` is no {name} ({low} to {high})"), HELP)
        }
    })
}

/// `*`, `N`, `A-B`, each perhaps with a `/STEP`.
fn is_cron_item(item: &str, low: u32, high: u32, names: &[&str]) -> bool {
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
    let range_is_good = match range.split_once('-') {
        _ if range == "*" => true,
        Some((from, to)) => matches!((value(from), value(to)), (Some(from), Some(to)) if from <= to),
        // `5/10` is read in two ways by the programs that take it at all.
        None => step.is_none() && value(range).is_some(),
    };
    let step_is_good = |step: &str| step.parse::<u32>().is_ok_and(|step| (1..=high).contains(&step));
    range_is_good && step.is_none_or(step_is_good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cron_lines_have_five_fields_within_bounds() {
        for text in ["0 2 * * *", "*/15 0-6,22 1 jan-mar MON-fri", "0-30/5 * * * 7"] {
            assert_eq!(cron_fault(text), None, "{text}");
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
            assert!(cron_fault(text).is_some(), "{text}");
        }
    }
}
