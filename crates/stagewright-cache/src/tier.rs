//! Trust tiers: which runs use the results of which others.

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Hashing};

/// The name of the trusted tier.
const TRUSTED: &str = "trusted";

/// Bytes of a tier's name: enough for any sensible branch name.
const LONGEST: usize = 200;

/// A group of runs that use each other's results. The machine's operator decides which tier a run belongs to; a
/// repository can't.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tier {
    /// Protected branches. Runs of every tier use their results; they themselves use trusted results only.
    #[default]
    Trusted,
    /// Typically a pull request. Its runs use trusted results and their own, and no other tier uses theirs.
    Own(String),
}

/// An invalid name of a tier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` isn't a valid name of a cache tier: it is empty, longer than {LONGEST} bytes, or contains a control character"
)]
pub struct BadTier(String);

impl Tier {
    /// The trusted tier for `trusted`, otherwise the tier with that name.
    ///
    /// # Errors
    /// When the name is blank, longer than 200 bytes, or contains control characters.
    pub fn named(name: &str) -> Result<Tier, BadTier> {
        match name {
            TRUSTED => Ok(Tier::Trusted),
            _ if name.trim().is_empty() || name.len() > LONGEST || name.chars().any(char::is_control) => {
                Err(BadTier(name.escape_debug().to_string()))
            }
            _ => Ok(Tier::Own(name.to_owned())),
        }
    }

    /// The name as it is given on the command line.
    pub fn name(&self) -> &str {
        match self {
            Tier::Trusted => TRUSTED,
            Tier::Own(name) => name,
        }
    }

    /// The tiers whose results this one uses, in order of preference.
    pub(crate) fn sources(&self) -> Vec<Tier> {
        match self {
            Tier::Trusted => vec![Tier::Trusted],
            own @ Tier::Own(_) => vec![Tier::Trusted, own.clone()],
        }
    }

    /// The key of a result in this tier. `base_key` is the same in every tier.
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
    fn an_untrusted_tier_uses_trusted_results_and_its_own_only() {
        let tiers = ["trusted", "pr-1", "pr-2", "Trusted"].map(|name| Tier::named(name).unwrap());
        let key = Digest::of("key");
        for (tier, trusts) in tiers.iter().zip([&[0][..], &[0, 1], &[0, 2], &[0, 3]]) {
            let sources: Vec<Digest> = tier.sources().iter().map(|source| source.key(&key)).collect();
            let expected: Vec<Digest> = trusts.iter().map(|&index: &usize| tiers[index].key(&key)).collect();
            assert_eq!(sources, expected, "{tier:?}");
        }
        let mut keys: Vec<Digest> = tiers.iter().map(|tier| tier.key(&key)).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), tiers.len());
    }

    #[test]
    fn blank_overlong_and_control_character_names_are_refused() {
        for bad in ["", "  ", "a\nb", "\u{1b}[2J", &"x".repeat(201)] {
            assert!(Tier::named(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Tier::named("feature/x").unwrap().name(), "feature/x");
    }
}
