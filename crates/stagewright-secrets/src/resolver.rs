//! Fetches the value of each secret once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use stagewright_model::{SecretFrom, SecretLocation, SecretValue};
use zeroize::Zeroizing;

#[cfg(feature = "age")]
use crate::age_file;
#[cfg(feature = "aws")]
use crate::aws;
use crate::error::{Fault, SourceError};
#[cfg(feature = "kubernetes")]
use crate::kubernetes;
use crate::{LARGEST, SourceContext, command, dotenv, local, vault};

/// How many values are fetched at the same time.
const PARALLEL_FETCHES: usize = 8;

/// Fetches values and keeps them in memory. Threads may share it.
#[derive(Debug)]
pub struct Resolver {
    context: SourceContext,
    /// By the name of the secret. The lock is held only to find a slot, so that other secrets can be fetched meanwhile.
    slots: Mutex<BTreeMap<String, Arc<Slot>>>,
}

/// A value, once it has been fetched.
#[derive(Debug, Default)]
struct Slot {
    value: OnceLock<SecretValue>,
    /// Held while the value is fetched, so that a second thread waits for the value of the first and starts no command
    /// again.
    fetching: Mutex<()>,
}

impl Resolver {
    /// A resolver that hasn't fetched any value yet.
    pub fn new(context: SourceContext) -> Resolver {
        Resolver { context, slots: Mutex::default() }
    }

    /// The value of the secret `name`, which is fetched from `from` on the first call. Blocks meanwhile. After an
    /// error, the next call fetches it again.
    ///
    /// # Errors
    /// When the source can't be read, and when its value is empty, isn't UTF-8, or is larger than [`LARGEST`].
    pub fn value(&self, name: &str, from: &SecretFrom) -> Result<SecretValue, SourceError> {
        let slot =
            self.slots.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_owned()).or_default().clone();
        let _fetching = slot.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = slot.value.get() {
            return Ok(value.clone());
        }
        let value = SecretValue::from(self.fetch(from).map_err(|fault| fault.for_secret(name))?);
        Ok(slot.value.get_or_init(|| value).clone())
    }

    /// All values that have been fetched so far, for masking. Doesn't wait for those that are being fetched: they haven't
    /// been returned to any caller, so no output can contain them.
    pub fn known(&self) -> Vec<SecretValue> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.values().filter_map(|slot| slot.value.get().cloned()).collect()
    }

    /// Fetches the values of several secrets, given by name and source, up to eight at the same time. Returns the
    /// errors of all that failed, in the order of `secrets`.
    pub fn fetch_all(&self, secrets: &[(&str, &SecretFrom)]) -> Vec<SourceError> {
        let mut failures = Vec::new();
        for chunk in secrets.chunks(PARALLEL_FETCHES) {
            std::thread::scope(|scope| {
                let fetches = chunk.iter().map(|(name, from)| (name, scope.spawn(|| self.value(name, from))));
                // The iterator is lazy: without `collect`, each thread would only be started after the one before it
                // has ended.
                for (name, fetch) in fetches.collect::<Vec<_>>() {
                    let result = fetch.join().unwrap_or_else(|_| {
                        Err(Fault::new("can't be fetched: its source panicked, which is a bug").for_secret(name))
                    });
                    failures.extend(result.err());
                }
            });
        }
        failures
    }

    fn fetch(&self, from: &SecretFrom) -> Result<Zeroizing<String>, Fault> {
        let context = &self.context;
        let value = match from.location() {
            SecretLocation::Env(variable) => local::read_variable(variable, context)?,
            SecretLocation::File(path) => local::read_file(path, context)?,
            SecretLocation::Dotenv { path, key } => dotenv::read(path, key, context)?,
            SecretLocation::Command(words) => command::output(words, context)?,
            #[cfg(feature = "age")]
            SecretLocation::Age { path, key } => age_file::decrypt(path, key.as_deref(), context)?,
            #[cfg(not(feature = "age"))]
            SecretLocation::Age { .. } => return Err(Fault::not_built_in("age:", "age")),
            SecretLocation::Vault { mount, path, field } => vault::fetch(mount, path, field, context)?,
            #[cfg(feature = "aws")]
            SecretLocation::AwsSecretsManager { name, key } => aws::fetch(name, key.as_deref(), context)?,
            #[cfg(not(feature = "aws"))]
            SecretLocation::AwsSecretsManager { .. } => return Err(Fault::not_built_in("aws-sm:", "aws")),
            #[cfg(feature = "kubernetes")]
            SecretLocation::Kubernetes { namespace, name, key } => kubernetes::fetch(namespace, name, key, context)?,
            #[cfg(not(feature = "kubernetes"))]
            SecretLocation::Kubernetes { .. } => return Err(Fault::not_built_in("kubernetes:", "kubernetes")),
        };
        match value.len() {
            0 => Err(Fault::new(format!("is empty: `{from}` has no value")).help("store a value there")),
            size if size > LARGEST => Err(Fault::new(format!("has {size} bytes, more than the limit of {LARGEST}"))
                .help("store only the confidential part as a secret, and keep the rest in a file")),
            _ => Ok(value),
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests read only files that they have created")]
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
        for (source, expected) in [
            ("env:MISSING", "the secret `x` is not set: the environment variable MISSING does not exist"),
            ("env:EMPTY", "the secret `x` is empty: the environment variable EMPTY has no value"),
            ("file:empty", "the secret `x` is empty"),
            ("file:nowhere", "the secret `x` can't be read from"),
            ("file:binary", "the secret `x` is not text"),
            ("file:large", "the secret `x` has 65537 bytes"),
        ] {
            let error = resolver.value("x", &from(source)).unwrap_err();
            assert!(error.message.starts_with(expected), "{error}");
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
        let secrets = [("a", a), ("b", counting), ("c", c), ("b", counting)];
        let failures = resolver.fetch_all(&secrets);
        let prefixes = failures.iter().map(|error| error.message.chars().take(14).collect::<String>());
        assert_eq!(prefixes.collect::<Vec<_>>(), ["the secret `a`", "the secret `c`"]);
        assert_eq!(resolver.value("b", counting).unwrap().expose(), "value");
        assert_eq!(std::fs::read_to_string(folder.path().join("count")).unwrap(), "x\n");
        assert!(!format!("{resolver:?}").contains("value\""));
    }

    #[test]
    fn a_fetched_value_is_known_while_another_thread_asks_for_it() {
        let resolver = resolver(&[("A", "value of a")], std::path::Path::new("/nonexistent"));
        assert!(resolver.known().is_empty());
        resolver.value("a", &from("env:A")).unwrap();
        let slot = resolver.slots.lock().unwrap()["a"].clone();
        let _fetching = slot.fetching.lock().unwrap();
        assert_eq!(resolver.known().iter().map(SecretValue::expose).collect::<Vec<_>>(), ["value of a"]);
    }
}
