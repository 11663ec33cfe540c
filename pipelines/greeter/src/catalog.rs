//! The greetings, by language.

use std::collections::BTreeMap;

/// Loaded once, when the service starts.
#[derive(Debug)]
pub(crate) struct Catalog {
    greetings: BTreeMap<String, String>,
}

impl Catalog {
    /// The built-in greetings; `english`, if set, replaces that of `en`.
    pub(crate) fn load(english: Option<String>) -> Catalog {
        let mut greetings: BTreeMap<String, String> =
            serde_json::from_str(include_str!("greetings.json")).expect("valid JSON, which a test checks");
        if let Some(greeting) = english {
            greetings.insert("en".to_owned(), greeting);
        }
        Catalog { greetings }
    }

    /// The greeting in a language, by its two-letter code.
    pub(crate) fn greeting(&self, language: &str) -> Option<&str> {
        self.greetings.get(language).map(String::as_str)
    }

    /// The codes of all languages.
    pub(crate) fn languages(&self) -> impl Iterator<Item = &str> {
        self.greetings.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn english_can_be_replaced() {
        assert_eq!(Catalog::load(None).greeting("en"), Some("Hello"));
        let catalog = Catalog::load(Some("Ahoy".to_owned()));
        assert_eq!(catalog.greeting("en"), Some("Ahoy"));
        assert_eq!(catalog.greeting("fr"), Some("Bonjour"));
        assert_eq!(catalog.greeting("xx"), None);
    }
}
