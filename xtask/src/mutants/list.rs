//! The list of mutants. A name describes the fault. All of them are faults that would be noticed late, and in production.

mod compensation;
mod gates;
mod places;
mod recovery;
mod starts;
mod waits;

use super::Mutant;

/// All mutants.
pub(super) fn all() -> Vec<Mutant> {
    [starts::MUTANTS, recovery::MUTANTS, gates::MUTANTS, places::MUTANTS, compensation::MUTANTS, waits::MUTANTS]
        .concat()
}
