//! The record of a backup.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stagewright_sdk::text::count;
use stagewright_sdk::{Error, Result};

/// The version of the form of records.
const FORMAT: u32 = 1;

/// The time in names, which has no characters that file systems refuse.
pub(crate) const TIME: &str = "%Y%m%dT%H%M%S.%3fZ";

/// How many differences are named.
const SHOWN: usize = 10;

/// A backup, as the record beside its file has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Backup {
    /// The version of the record's form.
    pub format: u32,
    /// `DATABASE-TIME`, as in `shop-20260131T020000.123Z`. Names sort by time.
    pub name: String,
    /// As in `postgresql`.
    pub engine: String,
    /// The database's name.
    pub database: String,
    /// The moment whose data it has, in RFC 3339.
    pub moment: jiff::Timestamp,
    /// The run that made it.
    pub run: String,
    /// The stage that made it, with its matrix values.
    pub stage: String,
    /// The name of its file, beside the record.
    pub file: String,
    /// The digest of the file as it is stored, as `sha256:…`.
    pub digest: String,
    /// The bytes of the file as it is stored.
    pub size: u64,
    /// The public keys of age that it is encrypted to; none if it isn't.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub encrypted_to: Vec<String>,
    /// What the database had in it.
    pub contents: Contents,
    /// The last time that it was restored to see that it can be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verification>,
}

/// What a database had in it at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Contents {
    /// The version of the server.
    pub version: String,
    /// What a new database has to be created with, to hold the same data, by the server's own names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// The tables, by their names with schema.
    pub tables: BTreeMap<String, Table>,
}

/// What a table had in it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Table {
    /// Its number of rows.
    pub rows: u64,
    /// A digest of all rows, whatever their order.
    pub digest: String,
}

/// A restore of a backup, to see that it can be restored.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Verification {
    /// When, in RFC 3339.
    pub at: jiff::Timestamp,
    /// The run.
    pub run: String,
    /// How long it took until the data could be used, in milliseconds.
    pub recovery_time_ms: u64,
}

impl Backup {
    /// A record without what is only known once the file is stored.
    pub fn new(engine: &str, database: &str, moment: jiff::Timestamp, contents: Contents) -> Backup {
        let name = format!("{database}-{}", moment.strftime(TIME));
        Backup {
            format: FORMAT,
            file: format!("{name}.dump"),
            name,
            engine: engine.to_owned(),
            database: database.to_owned(),
            moment,
            run: stagewright_sdk::context::run_id(),
            stage: stagewright_sdk::context::stage_id(),
            digest: String::new(),
            size: 0,
            encrypted_to: Vec::new(),
            contents,
            verified: None,
        }
    }

    /// Reads a record.
    ///
    /// # Errors
    /// If it isn't one, or one of a later version.
    pub fn parse(text: &[u8], place: &str) -> Result<Backup> {
        let backup: Backup = serde_json::from_slice(text)
            .map_err(|error| Error::failed(format!("{place} isn't the record of a backup: {error}")))?;
        match backup.format == FORMAT {
            true => Ok(backup),
            false => Err(Error::failed(format!("{place} has the form {} of a later version", backup.format))
                .help("use a Stagewright that is at least as new as the one that made the backup")),
        }
    }

    /// The record's text.
    ///
    /// # Errors
    /// None that is known.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        Ok(serde_json::to_vec_pretty(self)?)
    }

    /// The number of rows of all tables.
    pub fn rows(&self) -> u64 {
        self.contents.tables.values().map(|table| table.rows).sum()
    }

    /// As in `3 tables, 1204 rows`.
    pub fn described(&self) -> String {
        let rows = usize::try_from(self.rows()).unwrap_or(usize::MAX);
        format!("{}, {}", count(self.contents.tables.len(), "table"), count(rows, "row"))
    }
}

/// In what a restored database differs from what it had: the tables that are missing, new or have other rows.
pub fn differences(had: &Contents, has: &Contents) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = had.tables.keys().chain(has.tables.keys()).collect();
    let mut found: Vec<String> = names
        .into_iter()
        .filter_map(|name| match (had.tables.get(name), has.tables.get(name)) {
            (Some(had), Some(has)) if had == has => None,
            (Some(had), Some(has)) if had.rows == has.rows => Some(format!("{name}: rows have other content")),
            (Some(had), Some(has)) => Some(format!("{name}: {} rows instead of {}", has.rows, had.rows)),
            (Some(_), None) => Some(format!("{name}: is missing")),
            (None, _) => Some(format!("{name}: isn't in the backup")),
        })
        .collect();
    if found.len() > SHOWN {
        let more = found.len() - SHOWN;
        found.truncate(SHOWN);
        found.push(format!("and {more} more"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(tables: &[(&str, u64, &str)]) -> Contents {
        let table = |(name, rows, digest): &(&str, u64, &str)| {
            ((*name).to_owned(), Table { rows: *rows, digest: (*digest).to_owned() })
        };
        Contents { tables: tables.iter().map(table).collect(), ..Contents::default() }
    }

    #[test]
    fn each_table_that_differs_is_named_with_how() {
        let had = contents(&[("a", 1, "x"), ("b", 2, "y"), ("c", 3, "z"), ("d", 4, "w")]);
        let has = contents(&[("a", 1, "x"), ("b", 2, "!"), ("c", 2, "z"), ("e", 0, "0")]);
        assert_eq!(
            differences(&had, &has),
            ["b: rows have other content", "c: 2 rows instead of 3", "d: is missing", "e: isn't in the backup",]
        );
        assert!(differences(&had, &had).is_empty());
    }

    #[test]
    fn no_more_than_ten_are_named() {
        let names: Vec<String> = (0..12).map(|number| format!("t{number:02}")).collect();
        let had = contents(&names.iter().map(|name| (name.as_str(), 1, "x")).collect::<Vec<_>>());
        let found = differences(&had, &Contents::default());
        assert_eq!((found.len(), found[10].as_str()), (11, "and 2 more"));
    }

    #[test]
    fn a_record_of_a_later_version_is_refused() {
        let text = br#"{"format":1,"name":"n","engine":"e","database":"d","moment":"2026-01-31T02:00:00Z","run":"r",
            "stage":"s","file":"f","digest":"g","size":1,"contents":{"version":"15","tables":{}}}"#;
        assert_eq!(Backup::parse(text, "x").map(|backup| backup.size), Ok(1));
        let later = String::from_utf8_lossy(text).replace("\"format\":1", "\"format\":2");
        assert!(Backup::parse(later.as_bytes(), "x").unwrap_err().message.contains("later version"));
        assert!(Backup::parse(b"{}", "a.json").unwrap_err().message.starts_with("a.json isn't the record"));
    }
}
