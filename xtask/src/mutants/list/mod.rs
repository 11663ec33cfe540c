//! The faults. A name says what would be wrong with the engine; what they have in common is that people would notice them
//! late, and in production.

mod compensation;
mod gates;
mod places;
mod recovery;
mod starts;

use super::Mutant;

/// All of them.
pub(super) fn all() -> Vec<Mutant> {
    [starts::MUTANTS, recovery::MUTANTS, gates::MUTANTS, places::MUTANTS, compensation::MUTANTS].concat()
}
