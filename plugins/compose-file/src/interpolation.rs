//! Variables in the values of a file: `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME:?message}`, `${NAME:+replacement}`, each
//! also without the colon, and `$$` for a dollar.

/// What is known of a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Variable {
    /// Its value.
    Value(String),
    /// Its value is a secret, and is filled in where the release is applied.
    Secret,
    /// It has no value.
    Unset,
}

/// Why a text has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A variable without a value and without a default. The message is the file's own.
    Unset { name: String, message: Option<String> },
    /// A dollar that begins no variable.
    Invalid,
}

/// Fills in the variables. The result is a value of a Compose file again, in which secrets are variables: `$$` is a dollar.
pub(crate) fn interpolate(text: &str, lookup: &dyn Fn(&str) -> Variable) -> Result<String, Fault> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        filled.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            filled.push_str("$$");
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let end = closing_brace(after).ok_or(Fault::Invalid)?;
            filled.push_str(&braced(&after[..end], lookup)?);
            rest = &after[end + 1..];
        } else {
            let name = name_of(rest).ok_or(Fault::Invalid)?;
            filled.push_str(&required(name, None, lookup)?);
            rest = &rest[name.len()..];
        }
    }
    filled.push_str(rest);
    Ok(filled)
}

/// A value as it is written in a Compose file.
pub(crate) fn escaped(value: &str) -> String {
    value.replace('$', "$$")
}

/// Whether a filled in text has a secret in it.
pub(crate) fn has_secret(filled: &str) -> bool {
    filled.replace("$$", "").contains("${")
}

/// The text between the braces.
fn braced(text: &str, lookup: &dyn Fn(&str) -> Variable) -> Result<String, Fault> {
    let name = name_of(text).ok_or(Fault::Invalid)?;
    let rest = &text[name.len()..];
    let (operator, operand) = match rest.as_bytes() {
        [] => return required(name, None, lookup),
        [b':', b'-' | b'?' | b'+', ..] => rest.split_at(2),
        [b'-' | b'?' | b'+', ..] => rest.split_at(1),
        _ => return Err(Fault::Invalid),
    };
    let is_set = match lookup(name) {
        Variable::Value(value) => !(value.is_empty() && operator.starts_with(':')),
        Variable::Secret => true,
        Variable::Unset => false,
    };
    match (operator.ends_with('-'), operator.ends_with('+'), is_set) {
        (true, _, false) | (_, true, true) => interpolate(operand, lookup),
        (_, true, false) => Ok(String::new()),
        (true, _, true) => required(name, None, lookup),
        // An empty value isn't set for `:?`.
        _ if !is_set => Err(Fault::Unset { name: name.to_owned(), message: Some(operand.to_owned()) }),
        _ => required(name, Some(operand), lookup),
    }
}

fn required(name: &str, message: Option<&str>, lookup: &dyn Fn(&str) -> Variable) -> Result<String, Fault> {
    match lookup(name) {
        Variable::Value(value) => Ok(escaped(&value)),
        Variable::Secret => Ok(format!("${{{name}}}")),
        Variable::Unset => Err(Fault::Unset { name: name.to_owned(), message: message.map(str::to_owned) }),
    }
}

/// Where the brace that was opened before the text closes.
fn closing_brace(text: &str) -> Option<usize> {
    let mut open = 0_usize;
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => open += 1,
            '}' if open == 0 => return Some(at),
            '}' => open -= 1,
            _ => {}
        }
    }
    None
}

/// The name at the start of the text.
fn name_of(text: &str) -> Option<&str> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    (!text.starts_with(|c: char| c.is_ascii_digit()) && end > 0).then(|| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<String, Fault> {
        interpolate(text, &|name| match name {
            "A" => Variable::Value("a".to_owned()),
            "EMPTY" => Variable::Value(String::new()),
            "DOLLAR" => Variable::Value("$A".to_owned()),
            "KEY" => Variable::Secret,
            _ => Variable::Unset,
        })
    }

    #[test]
    fn variables_are_filled_in() {
        for (text, expected) in [
            ("plain", "plain"),
            ("$A-${A}-$$A", "a-a-$$A"),
            ("${B:-x}${B-y}${A:-x}${EMPTY:-z}${EMPTY-z}", "xyaz"),
            ("${A:+r}${B:+r}${EMPTY:+r}${EMPTY+r}", "rr"),
            ("${B:-${C:-deep}}", "deep"),
            ("${A:?needed}", "a"),
            ("$DOLLAR", "$$A"),
            ("${KEY}-${KEY:-x}", "${KEY}-${KEY}"),
        ] {
            assert_eq!(filled(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_has_no_value_is_not_empty() {
        let unset =
            |message: Option<&str>| Err(Fault::Unset { name: "B".to_owned(), message: message.map(str::to_owned) });
        assert_eq!(filled("x$B"), unset(None));
        assert_eq!(filled("${B}"), unset(None));
        assert_eq!(filled("${B:?set B}"), unset(Some("set B")));
        let empty = Err(Fault::Unset { name: "EMPTY".to_owned(), message: Some("m".to_owned()) });
        assert_eq!(filled("${EMPTY:?m}"), empty);
        for text in ["$", "$5", "${", "${}", "${A", "${A!b}"] {
            assert_eq!(filled(text), Err(Fault::Invalid), "{text}");
        }
    }

    #[test]
    fn only_variables_that_are_left_are_secrets() {
        assert!(has_secret(&filled("a${KEY}").unwrap()));
        assert!(!has_secret(&filled("$${KEY}").unwrap()));
    }
}
