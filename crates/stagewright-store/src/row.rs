//! Conversion between values of the engine and columns.

use rusqlite::Row;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use stagewright_engine::Timestamp;

/// The id of stage `?2` of run `?1`, from the run's first event.
pub(crate) const STAGE_ID: &str = "coalesce((SELECT kind ->> ('$.stages[' || ?2 || '].id') FROM events
     WHERE run = ?1 AND seq = 0), 'stage ' || ?2)";

/// SQLite's integers are signed; sequence numbers and times are far below their limit.
pub(crate) fn integer(value: u64) -> i64 {
    value.cast_signed()
}

pub(crate) fn timestamp(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    Ok(Timestamp(row.get::<_, i64>(column)?.cast_unsigned()))
}

pub(crate) fn json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| not_json(column, error))
}

pub(crate) fn parse<T: DeserializeOwned>(column: usize, value: Json) -> rusqlite::Result<T> {
    serde_json::from_value(value).map_err(|error| not_json(column, error))
}

fn not_json(column: usize, error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}
