//! The checks, one by one, on a database and lock files made for them.

mod checks;
mod stage;
