//! Tests of the checks and of the whole stage, against a small advisory database.

mod checks;
mod stage;
