//! The values of a chart, as arguments of Helm.

use std::collections::BTreeMap;

use stagewright_sdk::Problem;

/// The arguments for files with values, of which later ones override earlier ones, and for single values by their paths.
pub fn value_arguments<'a>(files: impl Iterator<Item = &'a str>, set: &BTreeMap<String, String>) -> Vec<String> {
    let files = files.flat_map(|file| ["--values".to_owned(), file.to_owned()]);
    let set = set.iter().flat_map(|(path, value)| ["--set-string".to_owned(), format!("{path}={}", escaped(value))]);
    files.chain(set).collect()
}

/// Helm takes a comma for the end of the value, and braces for a list.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for letter in value.chars() {
        if matches!(letter, '\\' | ',' | '{' | '}') {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}

/// Paths that would set something else, at this key of `with`.
pub fn path_problems(key: &str, set: &BTreeMap<String, String>) -> Vec<Problem> {
    let wrong = set.keys().filter(|path| path.is_empty() || path.contains([',', '=']));
    let problem = |path: &String| {
        let message = "it isn't the path of a single value, as in \"web.replicas\"";
        Problem::at(format!("{key}.{path}"), message)
            .help("write each value by its own path, or put it into a file of `values`")
    };
    wrong.map(problem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_a_single_text_whatever_it_contains() {
        let set = BTreeMap::from([("web.args".to_owned(), "{a,b=c}\\".to_owned())]);
        let arguments = value_arguments(["values.yaml"].into_iter(), &set);
        assert_eq!(arguments, ["--values", "values.yaml", "--set-string", r"web.args=\{a\,b=c\}\\"]);
        assert!(path_problems("set", &set).is_empty());
        let wrong = BTreeMap::from([("a=1,b".to_owned(), String::new())]);
        assert_eq!(path_problems("set", &wrong)[0].key.as_deref(), Some("set.a=1,b"));
    }
}
