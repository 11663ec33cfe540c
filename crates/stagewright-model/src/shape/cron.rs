//! Cron lines of five fields.

use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::date;
use jiff::tz::TimeZone;

use crate::format_error::{FormatError, refuse};

/// The fields of a cron line, with what each can be.
const FIELDS: [(&str, &str); 5] = [
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day of month", "1 to 31"),
    ("month", "1 to 12, or jan to dec"),
    ("day of week", "0 to 7, or sun to sat"),
];

pub(super) fn check_cron(text: &str) -> Result<(), FormatError> {
    const CODE: &str = "stagewright::bad-schedule";
    const HELP: &str =
        "five fields: minute, hour, day of month, month, day of week, as in `0 2 * * 1-5`; times are UTC";
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    // The parser also takes nicknames such as `@daily`. The format, and its JSON Schema, have five fields only.
    if fields.len() != FIELDS.len() {
        return refuse(CODE, format!("isn't a cron line: it takes five fields, and has {}", fields.len()), HELP);
    }
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    // Of the parser's extensions, `?` only repeats `*`, and `+` changes how the two fields for days combine: a line with
    // them would mean something else to other programs.
    let is_foreign = |field: &&str| field.contains(['?', '+']);
    let Some(cron) = parser.parse(text).ok().filter(|_| !fields.iter().any(is_foreign)) else {
        // The parser's error doesn't name the field, so each field is tried on its own.
        let is_invalid = |index: &usize| {
            let mut alone = ["*"; FIELDS.len()];
            alone[*index] = fields[*index];
            is_foreign(&fields[*index]) || parser.parse(&alone.join(" ")).is_err()
        };
        let problem = (0..FIELDS.len()).find(is_invalid).map_or_else(String::new, |index| {
            let (name, range) = FIELDS[index];
            format!(": the {name} can't be `{}` ({range})", fields[index])
        });
        return refuse(CODE, format!("isn't a cron line{problem}"), HELP);
    };
    // Weekdays and leap years repeat every 28 years, so a line that is due at all is due within that time. The search
    // ends with the year 5000: begun 30 years earlier, it takes a hundredth of the time that it takes from today.
    let is_due =
        date(4970, 1, 1).to_zoned(TimeZone::UTC).is_ok_and(|start| cron.find_next_occurrence(&start, true).is_ok());
    if !is_due {
        let message = format!("is never due: no such month has a day {}", fields[2]);
        return refuse(CODE, message, "write a day that the month has; `28` is the last that every month has");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cron_lines_have_five_fields_within_bounds() {
        for text in [
            "0 2 * * *",
            "*/15 0-6,22 1 jan-mar MON-fri",
            "0-30/5 * * * 7",
            "0 2 * * 5#2",
            "0 2 L * *",
            "0 2 15W * *",
            "0 2 * 2 1#5",
        ] {
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
            "0 2 ? * *",
            "0 2 1 * +mon",
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
