//! The form of single strings.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::cron::cron_fault;
use super::fault::{Fault, fault};
use super::name::{name_fault, variable_fault};
use crate::expression::MARKER;
use crate::freeze::{WeeklyWindow, nearest_zone, zone};
use crate::grants::{HostPattern, NetRule, PathRule, ProcessRule, RepositoryRule, SocketRule};
use crate::range::{Bytes, Range};
use crate::secret::{SOURCES, SecretFrom};

/// What a string stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Any text.
    Plain,
    /// Text with `${{ }}`; its expressions are checked where it is read.
    Template,
    /// A CEL expression; checked where it is read.
    Condition,
    /// Letters, digits, `_` and `-`.
    Name,
    /// A stage's name; whether there is such a stage is checked where it is read.
    StageName,
    /// An environment variable's name.
    Variable,
    Duration(Range<std::time::Duration>),
    Size(Bytes),
    Cron,
    Digest,
    /// `uses`.
    Plugin,
    Glob,
    /// A glob below the workspace's root.
    WorkspacePath,
    Program,
    /// `permissions.net`.
    Origin,
    Host,
    /// `permissions.socket`.
    Socket,
    /// An image's repository.
    Repository,
    /// `secrets.NAME.from`.
    SecretSource,
    /// A user, or `team:NAME`.
    Approver,
    /// A user in a team.
    Member,
    /// A stretch of the week.
    Weekly,
    TimeZone,
    Choice(&'static [&'static str]),
}

impl Format {
    /// What is wrong with `text`, if anything.
    pub(crate) fn fault(self, text: &str) -> Option<Fault> {
        if !matches!(self, Format::Plain | Format::Template | Format::Condition) && text.contains(MARKER) {
            let message = "can't hold an expression: it is shown and locked before a run starts";
            return fault("stagewright::no-expression-here", message, "write the value itself");
        }
        match self {
            Format::Plain | Format::Template | Format::Condition | Format::StageName => None,
            Format::Name => name_fault(text),
            Format::Variable => variable_fault(text),
            Format::Duration(range) => duration_fault(text, range),
            Format::Size(range) => size_fault(text, range),
            Format::Cron => cron_fault(text),
            Format::Digest => digest_fault(text),
            Format::Plugin => plugin_fault(text),
            Format::Glob => glob_fault(text),
            Format::WorkspacePath => path_fault(text),
            Format::Program => program_fault(text),
            Format::Origin => origin_fault(text),
            Format::Host => host_fault(text),
            Format::Socket => socket_fault(text),
            Format::Repository => repository_fault(text),
            Format::SecretSource => secret_source_fault(text),
            Format::Approver => user_fault(text.strip_prefix("team:").unwrap_or(text)),
            Format::Member => member_fault(text),
            Format::Weekly => weekly_fault(text),
            Format::TimeZone => zone_fault(text),
            Format::Choice(options) => choice_fault(text, options),
        }
    }

    /// Keywords of the JSON Schema beside `type`.
    pub(crate) fn schema(self) -> Json {
        match self {
            Format::Plain | Format::Template | Format::Condition | Format::Glob | Format::WorkspacePath => json!({}),
            Format::Program | Format::Origin | Format::Host | Format::Repository => json!({ "minLength": 1 }),
            Format::Socket => json!({ "pattern": "^(docker|/.+)$", "examples": ["/run/postgresql/.s.PGSQL.5432"] }),
            Format::Name => json!({ "pattern": "^[A-Za-z_][A-Za-z0-9_-]*$" }),
            Format::StageName => json!({ "pattern": "^[a-z0-9][a-z0-9_-]*$" }),
            Format::Variable => json!({ "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" }),
            Format::Duration(_) => json!({ "pattern": "^([0-9]+(ms|s|m|h|d))+$", "examples": ["20m", "1h30m"] }),
            Format::Size(_) => json!({ "pattern": "^[0-9]+(B|kB|KB|MB|GB|KiB|MiB|GiB)$", "examples": ["256MiB"] }),
            Format::Cron => json!({ "pattern": "^\\S+( +\\S+){4}$", "examples": ["0 2 * * *"] }),
            Format::Digest => json!({ "pattern": "^sha256:[0-9a-f]{64}$" }),
            Format::Plugin => json!({ "examples": ["cargo-test", "path:plugins/mine"] }),
            Format::SecretSource => json!({ "pattern": format!("^({}):.+$", SOURCES.join("|")) }),
            Format::Approver => json!({ "minLength": 1, "examples": ["ada", "team:release"] }),
            Format::Member => json!({ "minLength": 1, "not": { "pattern": "^team:" } }),
            Format::Weekly => json!({
                "pattern": "^[A-Za-z]+ +[0-9]{1,2}:[0-9]{2} *- *[A-Za-z]+ +[0-9]{1,2}:[0-9]{2}$",
                "examples": ["Fri 16:00 - Mon 08:00"],
            }),
            Format::TimeZone => json!({ "minLength": 1, "examples": ["Europe/Berlin"] }),
            Format::Choice(options) => json!({ "enum": options }),
        }
    }
}

/// A length of time as pipeline files have it: `1h30m` or `1h 30m`, numbers with units, the sum of which counts. None
/// when it isn't one. The SDK, which is built without this crate, reads the same (`tests/properties`).
pub fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, after) = leading_number(rest)?;
        let letters = after.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(after.len());
        let milliseconds: u64 = match &after[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(number.checked_mul(milliseconds)?))?;
        rest = after[letters..].trim_start();
    }
    Some(total)
}

/// Bytes.
pub(crate) fn size(text: &str) -> Option<u64> {
    let (number, unit) = leading_number(text)?;
    let bytes: u64 = match unit.trim_start() {
        "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(bytes)
}

fn leading_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..digits].parse().ok()?, &text[digits..]))
}

fn duration_fault(text: &str, range: Range<Duration>) -> Option<Fault> {
    match duration(text) {
        None => fault(
            "stagewright::bad-duration",
            "is no duration",
            "write numbers with units, as in `500ms`, `20s`, `1h30m`, `2d`",
        ),
        Some(length) if range.contains(length) => None,
        Some(_) => fault("stagewright::out-of-range", "is out of range", format!("write a duration of {range}")),
    }
}

fn size_fault(text: &str, range: Bytes) -> Option<Fault> {
    match size(text) {
        None => fault(
            "stagewright::bad-size",
            "is no size",
            "write a whole number with its unit, as in `64KiB`, `256MiB`, `1GiB`, `10MB`",
        ),
        Some(bytes) if range.0.contains(bytes) => None,
        Some(_) => fault("stagewright::out-of-range", "is out of range", format!("write a size of {range}")),
    }
}

fn is_sha256(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|digits| {
        digits.len() == 64 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    })
}

fn digest_fault(text: &str) -> Option<Fault> {
    if is_sha256(text) {
        return None;
    }
    fault("stagewright::bad-digest", "is no digest", "write `sha256:` and 64 lower-case hexadecimal digits")
}

fn plugin_fault(text: &str) -> Option<Fault> {
    const CODE: &str = "stagewright::bad-plugin";
    match text.split_once(':') {
        None if text.is_empty() => {
            fault(CODE, "names no plugin", "name a built-in plugin, or write `path:plugins/mine`")
        }
        None => None,
        Some(("path", "")) => {
            fault(CODE, "names no path", "name the plugin's folder or file, as in `path:plugins/mine`")
        }
        Some(("path", _)) => None,
        Some(("oci", reference)) => match reference.split_once('@') {
            Some((repository, digest)) if !repository.is_empty() && is_sha256(digest) => None,
            _ => fault(
                CODE,
                "isn't pinned by digest",
                "tags can be moved to other code: write `oci:HOST/NAME@sha256:` and 64 hexadecimal digits",
            ),
        },
        Some((scheme, _)) => {
            let help = "a plugin is a built-in's name, `path:PATH` or `oci:REFERENCE@sha256:DIGEST`";
            fault(CODE, format!("has the unknown scheme `{scheme}:`"), help)
        }
    }
}

fn glob_fault(text: &str) -> Option<Fault> {
    let error = globset::Glob::new(text).err()?;
    let help = "`*` stays within a folder, `**` crosses folders, `[ab]` and `{a,b}` choose; `\\` takes the next \
                character literally";
    fault("stagewright::bad-pattern", format!("is no pattern: {}", error.kind()), help)
}

fn path_fault(text: &str) -> Option<Fault> {
    let bad = PathRule::parse(text).err()?;
    // The two codes are documented apart.
    let code =
        if bad.message.starts_with("is no pattern") { "stagewright::bad-pattern" } else { "stagewright::bad-path" };
    fault(code, bad.message, bad.help)
}

fn program_fault(text: &str) -> Option<Fault> {
    let error = ProcessRule::parse(text).err()?;
    fault("stagewright::bad-program", error.message, error.help)
}

fn origin_fault(text: &str) -> Option<Fault> {
    let bad = NetRule::parse(text).err()?;
    fault("stagewright::bad-origin", bad.message, bad.help)
}

fn host_fault(text: &str) -> Option<Fault> {
    let bad = HostPattern::parse(text).err()?;
    fault("stagewright::bad-host", bad.message, bad.help)
}

fn socket_fault(text: &str) -> Option<Fault> {
    let bad = SocketRule::parse(text).err()?;
    fault("stagewright::bad-socket", bad.message, bad.help)
}

fn repository_fault(text: &str) -> Option<Fault> {
    let bad = RepositoryRule::parse(text).err()?;
    fault("stagewright::bad-repository", bad.message, bad.help)
}

fn secret_source_fault(text: &str) -> Option<Fault> {
    const CODE: &str = "stagewright::bad-secret-source";
    let bad = SecretFrom::parse(text).err()?;
    fault(CODE, bad.message, bad.help)
}

fn user_fault(text: &str) -> Option<Fault> {
    if !text.trim().is_empty() {
        return None;
    }
    fault("stagewright::bad-approver", "names nobody", "name a user, as in `ada`, or a team, as in `team:release`")
}

fn member_fault(text: &str) -> Option<Fault> {
    if text.starts_with("team:") {
        let help = "write the names of its users here: a team has no teams in it";
        return fault("stagewright::bad-approver", "is a team, and no user", help);
    }
    user_fault(text)
}

fn weekly_fault(text: &str) -> Option<Fault> {
    let unreadable = WeeklyWindow::parse(text, jiff::tz::TimeZone::UTC).err()?;
    fault("stagewright::bad-freeze", unreadable.message, unreadable.help)
}

fn zone_fault(text: &str) -> Option<Fault> {
    if zone(text).is_some() {
        return None;
    }
    let help = match nearest_zone(text) {
        Some(name) => format!("did you mean `{name}`?"),
        None => "write a name of the IANA database, as in `Europe/Berlin` or `UTC`".to_owned(),
    };
    fault("stagewright::unknown-time-zone", "is no time zone", help)
}

fn choice_fault(text: &str, options: &[&str]) -> Option<Fault> {
    if options.contains(&text) {
        return None;
    }
    let help = match crate::nearest::nearest(text, options.iter().copied()) {
        Some(option) => format!("did you mean `{option}`?"),
        None => format!(
            "choose one of {}",
            options.iter().map(|option| format!("`{option}`")).collect::<Vec<_>>().join(", ")
        ),
    };
    fault("stagewright::bad-choice", "is not one of the values that this key takes", help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_sums_of_numbers_with_units() {
        assert_eq!(duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("2d"), Some(Duration::from_secs(172_800)));
        assert_eq!(duration(" 1h 30m "), Some(Duration::from_secs(5400)));
        for text in ["", "20", "m", "20 m", "-1s", "1.5h", "1w", "99999999999999999999d", "20min", "é"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_whole_numbers_with_a_unit() {
        assert_eq!(size("256MiB"), Some(256 << 20));
        assert_eq!(size("10 MB"), Some(10_000_000));
        for text in ["", "256", "MiB", "1.5GiB", "18446744073709551615GiB", "-1B"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn permissions_have_their_forms() {
        #[track_caller]
        fn check(format: Format, good: &[&str], bad: &[&str]) {
            for text in good {
                assert_eq!(format.fault(text), None, "{text}");
            }
            for text in bad {
                assert!(format.fault(text).is_some(), "{text}");
            }
        }
        check(
            Format::WorkspacePath,
            &[".", "target", "crates/**/*.rs", "a..b"],
            &["/", "/etc", "../x", "a/../../b", "~/x", "", "C:\\x", "a[", "${{ inputs.a }}"],
        );
        check(
            Format::Origin,
            &[
                "cargo",
                "ghcr.io",
                "https://a.example:8443",
                "http://127.0.0.1:*",
                "https://[::1]:80",
                "*.example.org",
                "localhost:5000",
                "tcp://db.example:5432",
                "tcp://db.example:*",
            ],
            &[
                "",
                "tcp://db.example",
                "tcp://a:1/b",
                "https://a/b",
                "ftp://a",
                "a b",
                "https://u@h",
                "a:0",
                "a:99999",
                "https://:80",
                "https://host//",
                "https://999.1.1.1",
                "http://0x7f.1",
                "https://bücher.example",
            ],
        );
        check(
            Format::Socket,
            &["docker", "/run/a.sock"],
            &["", "run/a.sock", "/", "/run/../a", "/run//a", "/run/a/", "~/a", "podman", "/run/a\0"],
        );
        check(
            Format::Repository,
            &["local/app", "ghcr.io/acme/*", "localhost:5000/app"],
            &["app", "local/app:1", "local/app@sha256:0", "https://a/b", "a//b", ""],
        );
        check(
            Format::SecretSource,
            &["env:TOKEN", "file:/run/secrets/token"],
            &["TOKEN", "env:", "file:", "vault:x", "env:A-B"],
        );
        check(
            Format::Plugin,
            &["noop", "path:plugins/mine"],
            &["", "path:", "oci:ghcr.io/a/b:1", "oci:a@sha256:12", "docker:x"],
        );
        check(Format::Program, &["cargo", "*", "'/opt/My Tools/x' *", "cargo test **"], &["", "* test", "ca*"]);
    }
}
