//! A migration, as its file has it.

use sha2::{Digest as _, Sha256};
use stagewright_sdk::{Error, Position, Result, WorkspacePath, workspace};

/// How a marker begins, which is a comment before the first statement.
const MARKER: &str = "-- stagewright:";

/// A file of SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Migration {
    /// The file's name, by which the database knows it.
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) text: String,
    /// `sha256:…` of the text.
    pub(crate) digest: String,
    /// Whether the release before it can go on with the new schema.
    pub(crate) compatible: bool,
    /// Whether it is one transaction.
    pub(crate) transaction: bool,
}

impl Migration {
    pub(crate) fn parse(path: &str, text: String) -> Result<Migration> {
        let name = path.rsplit('/').next().unwrap_or(path).to_owned();
        let digest: String = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
        let mut migration = Migration {
            name,
            path: path.to_owned(),
            digest: format!("sha256:{digest}"),
            compatible: false,
            transaction: true,
            text: String::new(),
        };
        for (line, content) in (1..).zip(text.lines()) {
            let content = content.trim();
            if let Some(marker) = content.strip_prefix(MARKER) {
                migration.mark(marker.trim(), line)?;
            } else if content.starts_with('\\') && content != "\\." {
                let message = format!("`{path}` has a command of psql: `{content}`");
                return Err(Error::failed(message)
                    .file(path, Some(Position::line(line)))
                    .help("write SQL alone")
                    .never_retry());
            }
        }
        Ok(Migration { text, ..migration })
    }

    fn mark(&mut self, marker: &str, line: u32) -> Result<()> {
        match marker {
            "compatible" => self.compatible = true,
            "no-transaction" => self.transaction = false,
            _ => {
                let message = format!("`{}` has the unknown marker `{marker}`", self.path);
                return Err(Error::failed(message)
                    .file(&self.path, Some(Position::line(line)))
                    .help(format!("write `{MARKER} compatible` or `{MARKER} no-transaction`"))
                    .never_retry());
            }
        }
        Ok(())
    }

    /// The number at the beginning of its name.
    pub(crate) fn number(&self) -> Option<u64> {
        let digits = self.name.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.name.len());
        self.name[..digits].parse().ok()
    }
}

/// The files that match, by their numbers.
pub(crate) fn numbered(files: &WorkspacePath) -> Result<Vec<Migration>> {
    let mut found = read(files)?;
    for migration in &found {
        if migration.number().is_none() {
            let message = format!("the name of `{}` doesn't begin with a number", migration.path);
            return Err(Error::failed(message)
                .file(&migration.path, None)
                .help("name migrations as in `0001_orders.sql`, in the order in which they are carried out")
                .never_retry());
        }
    }
    found.sort_by_key(Migration::number);
    for pair in found.windows(2) {
        if pair[0].number() == pair[1].number() {
            let message = format!("`{}` and `{}` have the same number", pair[0].path, pair[1].path);
            return Err(Error::failed(message).help("give the newer one the next number").never_retry());
        }
    }
    Ok(found)
}

/// The files that match, by their paths.
pub(crate) fn read(files: &WorkspacePath) -> Result<Vec<Migration>> {
    let entries = workspace::glob(files)?.into_iter().filter(|entry| !entry.folder);
    let found: Vec<Migration> = entries
        .map(|entry| Migration::parse(&entry.path, workspace::read_text(&entry.path)?))
        .collect::<Result<_>>()?;
    match found.is_empty() {
        true => {
            Err(Error::failed(format!("no file matches `{files}`")).help("check the path, and that it is committed"))
        }
        false => Ok(found),
    }
}
