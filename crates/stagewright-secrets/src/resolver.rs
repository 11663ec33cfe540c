//! From a source to a value, once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use stagewright_model::{SecretFrom, SecretLocation, SecretValue};
use zeroize::Zeroizing;

#[cfg(feature = "age")]
use crate::age_file;
#[cfg(feature = "aws")]
use crate::aws;
use crate::error::{Fault, SourceError};
#[cfg(feature = "kubernetes")]
use crate::kubernetes;
use crate::{LARGEST, SourceContext, command, local, vault};

/// Sources that are asked at a time.
const AT_ONCE: usize = 8;

/// Fetches values, and keeps what it fetched.
#[derive(Debug)]
pub struct Resolver {
    context: SourceContext,
    /// By name. A second caller waits for the first.
    known: Mutex<BTreeMap<String, Arc<Mutex<Option<SecretValue>>>>>,
}

impl Resolver {
    /// Fetches nothing yet.
    pub fn new(context: SourceContext) -> Resolver {
        Resolver { context, known: Mutex::default() }
    }

    /// The value of the secret `name`, which comes from `from`. Blocks while it is fetched; a failure isn't kept.
    ///
    /// # Errors
    /// When the source can't be read, or what it holds is empty, no text, or larger than [`LARGEST`].
    pub fn value(&self, name: &str, from: &SecretFrom) -> Result<SecretValue, SourceError> {
        let slot =
            self.known.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_owned()).or_default().clone();
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = &*slot {
            return Ok(value.clone());
        }
        let value = SecretValue::from(self.fetch(from).map_err(|fault| fault.of(name))?);
        Ok(slot.insert(value).clone())
    }

    /// Everything that was fetched so far.
    pub fn known(&self) -> Vec<SecretValue> {
        let slots = self.known.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect::<Vec<_>>();
        // Who is still fetching has nothing that anybody could have seen.
        slots.iter().filter_map(|slot| slot.try_lock().ok()?.clone()).collect()
    }

    /// Fetches the values of several secrets (name, `from`), some at a time; gives every failure, in their order.
    pub fn missing(&self, wanted: &[(&str, &SecretFrom)]) -> Vec<SourceError> {
        let mut missing = Vec::new();
        for some in wanted.chunks(AT_ONCE) {
            std::thread::scope(|scope| {
                let asked = some.iter().map(|(name, from)| (name, scope.spawn(|| self.value(name, from))));
                // All are under way before the first is waited for.
                for (name, asked) in asked.collect::<Vec<_>>() {
                    let answer = asked.join().unwrap_or_else(|_| Err(Fault::new("can't be fetched: a bug").of(name)));
                    missing.extend(answer.err());
                }
            });
        }
        missing
    }

    fn fetch(&self, from: &SecretFrom) -> Result<Zeroizing<String>, Fault> {
        let around = &self.context;
        let value = match from.location() {
            SecretLocation::Env(variable) => local::variable(variable, around)?,
            SecretLocation::File(path) => local::file(path, around)?,
            SecretLocation::Command(words) => command::output(words, around)?,
            #[cfg(feature = "age")]
            SecretLocation::Age { path, key } => age_file::decrypted(path, key.as_deref(), around)?,
            #[cfg(not(feature = "age"))]
            SecretLocation::Age { .. } => return Err(Fault::not_built_in("age:", "age")),
            SecretLocation::Vault { mount, path, field } => vault::field(mount, path, field, around)?,
            #[cfg(feature = "aws")]
            SecretLocation::AwsSecretsManager { name, key } => aws::secret(name, key.as_deref(), around)?,
            #[cfg(not(feature = "aws"))]
            SecretLocation::AwsSecretsManager { .. } => return Err(Fault::not_built_in("aws-sm:", "aws")),
            #[cfg(feature = "kubernetes")]
            SecretLocation::Kubernetes { namespace, name, key } => kubernetes::key(namespace, name, key, around)?,
            #[cfg(not(feature = "kubernetes"))]
            SecretLocation::Kubernetes { .. } => return Err(Fault::not_built_in("kubernetes:", "kubernetes")),
        };
        match value.len() {
            0 => Err(Fault::new(format!("is empty: so is what `{from}` holds")).help("store a value there")),
            size if size > LARGEST => Err(Fault::new(format!("has {size} bytes, and {LARGEST} are the most"))
                .help("keep the document as a file, and make its one confidential part the secret")),
            _ => Ok(value),
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests read what they made themselves")]
mod tests {
    use super::*;

    fn resolver(variables: &[(&str, &str)], root: &std::path::Path) -> Resolver {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Resolver::new(SourceContext { variables, root: root.to_owned(), ..SourceContext::default() })
    }

    fn from(text: &str) -> SecretFrom {
        SecretFrom::parse(text).unwrap()
    }

    #[test]
    fn variables_and_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "from a file\r\n").unwrap();
        std::fs::write(folder.path().join("empty"), "\n").unwrap();
        std::fs::write(folder.path().join("binary"), [0xFF, 0xFE]).unwrap();
        std::fs::write(folder.path().join("large"), "x".repeat(LARGEST + 1)).unwrap();
        let resolver = resolver(&[("TOKEN", "from env"), ("EMPTY", "")], folder.path());
        assert_eq!(resolver.value("a", &from("env:TOKEN")).unwrap().expose(), "from env");
        assert_eq!(resolver.value("b", &from("file:token")).unwrap().expose(), "from a file");
        for (source, said) in [
            ("env:MISSING", "the secret `x` is not set: there is no environment variable MISSING"),
            ("env:EMPTY", "the secret `x` is empty: so is the environment variable EMPTY"),
            ("file:empty", "the secret `x` is empty"),
            ("file:nowhere", "the secret `x` can't be read from"),
            ("file:binary", "the secret `x` is no text"),
            ("file:large", "the secret `x` has 65537 bytes"),
        ] {
            let error = resolver.value("x", &from(source)).unwrap_err();
            assert!(error.message.starts_with(said), "{error}");
            assert!(!error.help.is_empty());
        }
    }

    #[cfg(not(all(feature = "age", feature = "aws", feature = "kubernetes")))]
    #[test]
    fn a_source_without_its_feature_is_refused_with_the_command_that_builds_it() {
        let resolver = resolver(&[], std::path::Path::new("/nonexistent"));
        for (source, prefix, feature, is_built_in) in [
            ("age:secrets.age", "age:", "age", cfg!(feature = "age")),
            ("aws-sm:production/token", "aws-sm:", "aws", cfg!(feature = "aws")),
            ("kubernetes:web/token#value", "kubernetes:", "kubernetes", cfg!(feature = "kubernetes")),
        ] {
            let error = resolver.value("x", &from(source)).unwrap_err();
            let refusal =
                format!("the secret `x` can't be fetched: this build of stagewright doesn't support `{prefix}`");
            assert_eq!(error.message == refusal, !is_built_in, "{error}");
            let command = format!("cargo build --package stagewright-cli --features {feature}");
            assert_eq!(error.help.contains(&command), !is_built_in, "{}", error.help);
        }
    }

    #[test]
    fn every_failure_is_reported_and_a_value_is_fetched_once() {
        let folder = tempfile::tempdir().unwrap();
        let resolver = resolver(&[("PATH", "/usr/bin:/bin")], folder.path());
        let counting = &from("command:sh -c 'echo x >> \"$0\"; echo value' ./count");
        let (a, c) = (&from("env:A"), &from("file:c"));
        let wanted = [("a", a), ("b", counting), ("c", c), ("b", counting)];
        let missing = resolver.missing(&wanted);
        let refusal = missing.iter().map(|error| error.message.chars().take(14).collect::<String>());
        assert_eq!(refusal.collect::<Vec<_>>(), ["the secret `a`", "the secret `c`"]);
        assert_eq!(resolver.value("b", counting).unwrap().expose(), "value");
        assert_eq!(std::fs::read_to_string(folder.path().join("count")).unwrap(), "x\n");
        assert!(!format!("{resolver:?}").contains("value\""));
    }
}
