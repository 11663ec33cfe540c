//! Who takes whose results.

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Hashing};

/// Names the trusted tier.
const TRUSTED: &str = "trusted";

/// As in the longest name of a branch that there may sensibly be.
const LONGEST: usize = 200;

/// Runs that take each other's results. Who may run in which is for the machine's operator to say, never for a
/// repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tier {
    /// Protected branches: all take their results, and they take no others.
    #[default]
    Trusted,
    /// As a pull request: it takes trusted results and its own, and only it takes its own.
    Own(String),
}

/// A name that no tier can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` can't name a tier of the cache: it is empty, longer than {LONGEST} bytes, or has a character that can't be seen"
)]
pub struct BadTier(String);

impl Tier {
    /// `trusted`, or the name of another.
    ///
    /// # Errors
    /// When it can't be a name.
    pub fn named(name: &str) -> Result<Tier, BadTier> {
        match name {
            TRUSTED => Ok(Tier::Trusted),
            _ if name.trim().is_empty() || name.len() > LONGEST || name.chars().any(char::is_control) => {
                Err(BadTier(name.escape_debug().to_string()))
            }
            _ => Ok(Tier::Own(name.to_owned())),
        }
    }

    /// As it is given on the command line.
    pub fn name(&self) -> &str {
        match self {
            Tier::Trusted => TRUSTED,
            Tier::Own(name) => name,
        }
    }

    /// Those whose results it takes, the better ones first.
    pub(crate) fn sources(&self) -> Vec<Tier> {
        match self {
            Tier::Trusted => vec![Tier::Trusted],
            own @ Tier::Own(_) => vec![Tier::Trusted, own.clone()],
        }
    }

    /// The key of a result in this tier.
    pub(crate) fn key(&self, base_key: &Digest) -> Digest {
        match self {
            Tier::Trusted => *base_key,
            Tier::Own(name) => {
                let mut hashing = Hashing::default();
                [b"tier", name.as_bytes(), base_key.bytes().as_slice()].iter().for_each(|field| hashing.field(field));
                hashing.finish()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_from_a_tier_beside_it() {
        let tiers = ["trusted", "pr-1", "pr-2", "Trusted"].map(|name| Tier::named(name).unwrap());
        let key = Digest::of("key");
        for (tier, trusts) in tiers.iter().zip([&[0][..], &[0, 1], &[0, 2], &[0, 3]]) {
            let sources: Vec<Digest> = tier.sources().iter().map(|source| source.key(&key)).collect();
            let wanted: Vec<Digest> = trusts.iter().map(|&index: &usize| tiers[index].key(&key)).collect();
            assert_eq!(sources, wanted, "{tier:?}");
        }
        let mut keys: Vec<Digest> = tiers.iter().map(|tier| tier.key(&key)).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), tiers.len());
    }

    #[test]
    fn a_name_that_would_deceive_is_refused() {
        for bad in ["", "  ", "a\nb", "\u{1b}[2J", &"x".repeat(201)] {
            assert!(Tier::named(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Tier::named("feature/x").unwrap().name(), "feature/x");
    }
}
