//! `age:`: reads a file that is encrypted with age, and decrypts it with a key of this machine.

use std::io::Read as _;

use age::armor::ArmoredReader;
use age::{DecryptError, Decryptor, Identity, IdentityFile};
use zeroize::Zeroizing;

use crate::error::Fault;
use crate::local;
use crate::text::{into_text, without_last_newline};
use crate::{LARGEST, SourceContext};

/// The variable that contains the key itself, as `AGE-SECRET-KEY-1…`.
const KEY: &str = "STAGEWRIGHT_AGE_IDENTITY";
/// The variable that contains the path of a file of keys, in the format of age-keygen.
const KEY_FILE: &str = "STAGEWRIGHT_AGE_IDENTITY_FILE";
/// The file of keys that is used if neither variable is set, below the home folder.
const DEFAULT_KEY_FILE: &str = ".config/stagewright/age.txt";
/// The largest encrypted file, and the largest content, in bytes. Larger than [`LARGEST`], because a file can contain
/// many secrets, and its armour adds a third.
const MAX_FILE_BYTES: usize = 1024 * 1024;

/// Decrypts the file at `path`. Returns its whole text, or with `key`, the value of that key of its TOML.
pub(crate) fn decrypt(path: &str, key: Option<&str>, context: &SourceContext) -> Result<Zeroizing<String>, Fault> {
    let encrypted = local::read_bytes(path, MAX_FILE_BYTES, context)?;
    let (identities, origin) = identities(context)?;
    let failed = |error: &DecryptError| {
        let fault = Fault::new(format!("can't be decrypted from {path}: {error}"));
        match error {
            DecryptError::NoMatchingKeys => {
                fault.help(format!("encrypt the file to the recipient of {origin}, or set {KEY_FILE} to the right key"))
            }
            _ => fault.help(format!("encrypt it again: `age -r RECIPIENT -o {path}`")),
        }
    };
    let decryptor =
        Decryptor::new_buffered(ArmoredReader::new(encrypted.as_slice())).map_err(|error| failed(&error))?;
    if decryptor.is_scrypt() {
        return Err(Fault::new(format!(
            "can't be decrypted from {path}: it is encrypted with a passphrase, which isn't supported"
        ))
        .help(format!("encrypt it to a key: `age -r RECIPIENT -o {path}`")));
    }
    let mut plain = Zeroizing::new(Vec::new());
    decryptor
        .decrypt(identities.iter().map(|identity| &**identity as &dyn Identity))
        .map_err(|error| failed(&error))?
        .take(MAX_FILE_BYTES as u64)
        .read_to_end(&mut plain)
        .map_err(|error| failed(&DecryptError::Io(error)))?;
    // Two more bytes than the limit: a newline, or a carriage return and a newline, at the end is removed below and
    // doesn't count.
    if key.is_none() && plain.len() > LARGEST + 2 {
        return Err(Fault::new(format!("has more than {LARGEST} bytes, in {path}"))
            .help(format!("select one key of the TOML in it: `age:{path}#KEY`")));
    }
    let text = into_text(plain.to_vec(), &format!("the content of {path}"))?;
    match key {
        None => Ok(without_last_newline(text)),
        Some(key) => toml_value(&text, path, key),
    }
}

fn toml_value(document: &str, path: &str, key: &str) -> Result<Zeroizing<String>, Fault> {
    // The parser's error is dropped: it quotes the invalid line, which can contain the secret.
    let table: toml::Table = document.parse().map_err(|_| {
        Fault::new(format!("can't be read from {path}: its content is invalid TOML"))
            .help("encrypt lines such as `token = \"value\"`, or remove `#KEY`")
    })?;
    match table.get(key) {
        Some(toml::Value::String(value)) => Ok(Zeroizing::new(value.clone())),
        Some(other) => Err(Fault::new(format!(
            "can't be read from {path}: `{key}` has the type {}; expected a string",
            other.type_str()
        ))
        .help("put the value in double quotes")),
        None => Err(Fault::new(format!("is not in {path}: the key `{key}` does not exist"))
            .help(format!("add `{key} = \"value\"` to it, or correct `#{key}` in [secrets.*]"))),
    }
}

type Identities = Vec<Box<dyn Identity + Send + Sync>>;

/// Reads the keys of this machine. Also returns the variable or the file that they come from, for messages.
fn identities(context: &SourceContext) -> Result<(Identities, String), Fault> {
    let (content, origin) = if let Some(key) = context.variable(KEY) {
        (Zeroizing::new(key.to_owned()), KEY.to_owned())
    } else {
        let file = match context.variable(KEY_FILE) {
            Some(file) => context.root.join(file),
            None => context.at_home(DEFAULT_KEY_FILE).ok_or_else(|| {
                Fault::new("can't be decrypted: no age key is set")
                    .help(format!("set {KEY_FILE} to a file with age keys"))
            })?,
        };
        let content = stagewright_files::read_text(&file, stagewright_files::CONFIGURATION).map_err(|error| {
            Fault::new(format!("can't be decrypted: no age key could be read from {}: {error}", file.display()))
                .help(format!("create a key with `age-keygen -o {}`, or set {KEY_FILE} or {KEY}", file.display()))
        })?;
        (Zeroizing::new(content), file.display().to_string())
    };
    let parsed = IdentityFile::from_buffer(content.as_bytes())
        .map_err(|error| error.to_string())
        .and_then(|file| file.into_identities().map_err(|error| error.to_string()));
    match parsed {
        Ok(identities) if !identities.is_empty() => Ok((identities, origin)),
        Ok(_) => Err(Fault::new(format!("can't be decrypted: {origin} contains no age key"))
            .help("add a line that begins with `AGE-SECRET-KEY-1`")),
        Err(why) => Err(Fault::new(format!("can't be decrypted: {origin} contains an invalid age key: {why}"))
            .help("use keys that begin with `AGE-SECRET-KEY-1`; SSH keys and age plugins are not supported")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use age::secrecy::ExposeSecret as _;
    use age::x25519;

    use super::*;

    fn context_with_key(folder: &Path, identity: &x25519::Identity) -> SourceContext {
        let variables = [(KEY.to_owned(), identity.to_string().expose_secret().to_owned())].into();
        SourceContext { variables, root: folder.to_owned(), ..SourceContext::default() }
    }

    fn read(from: &str, context: &SourceContext) -> Result<String, String> {
        let (path, key) = from.split_once('#').map_or((from, None), |(path, key)| (path, Some(key)));
        decrypt(path, key, context).map(|value| value.to_string()).map_err(|fault| fault.for_secret("x").message)
    }

    #[test]
    fn binary_and_armored_files_are_read_as_a_whole_and_by_key() {
        let (folder, identity) = (tempfile::tempdir().unwrap(), x25519::Identity::generate());
        let (recipient, context) = (identity.to_public(), context_with_key(folder.path(), &identity));
        let document = b"token = \"hunter22\"\nport = 1\n";
        std::fs::write(folder.path().join("a.age"), age::encrypt(&recipient, document).unwrap()).unwrap();
        let armored = age::encrypt_and_armor(&recipient, b"hunter23\n").unwrap();
        std::fs::write(folder.path().join("b.age"), armored).unwrap();
        assert_eq!(read("a.age#token", &context).unwrap(), "hunter22");
        assert_eq!(read("b.age", &context).unwrap(), "hunter23");
        assert!(read("a.age#other", &context).unwrap_err().contains("the key `other` does not exist"));
        assert!(read("a.age#port", &context).unwrap_err().contains("has the type integer"));
        let invalid = read("b.age#token", &context).unwrap_err();
        assert!(invalid.contains("is invalid TOML") && !invalid.contains("hunter23"), "{invalid}");
    }

    #[test]
    fn keys_are_read_from_the_default_file_and_from_variables() {
        let (folder, identity) = (tempfile::tempdir().unwrap(), x25519::Identity::generate());
        let sealed = age::encrypt(&identity.to_public(), b"hunter22").unwrap();
        std::fs::write(folder.path().join("a.age"), sealed).unwrap();
        let home = folder.path().join("home");
        let mut context = SourceContext { root: folder.path().to_owned(), home, ..SourceContext::default() };
        assert!(read("a.age", &context).unwrap_err().contains("home/.config/stagewright/age.txt"));
        let keys = format!("# created by hand\n{}\n", identity.to_string().expose_secret());
        std::fs::create_dir_all(context.home.join(".config/stagewright")).unwrap();
        std::fs::write(context.home.join(DEFAULT_KEY_FILE), &keys).unwrap();
        assert_eq!(read("a.age", &context).unwrap(), "hunter22");
        std::fs::write(folder.path().join("wrong.txt"), x25519::Identity::generate().to_string().expose_secret())
            .unwrap();
        context.variables.insert(KEY_FILE.to_owned(), "wrong.txt".to_owned());
        assert!(read("a.age", &context).unwrap_err().contains("No matching keys"));
        std::fs::write(folder.path().join("wrong.txt"), "hunter24").unwrap();
        let error = read("a.age", &context).unwrap_err();
        assert!(error.contains("contains an invalid age key") && !error.contains("hunter24"), "{error}");
    }

    #[test]
    fn damaged_and_unencrypted_files_are_refused() {
        let (folder, identity) = (tempfile::tempdir().unwrap(), x25519::Identity::generate());
        let mut sealed = age::encrypt(&identity.to_public(), b"hunter22").unwrap();
        *sealed.last_mut().unwrap() ^= 1;
        std::fs::write(folder.path().join("a.age"), sealed).unwrap();
        std::fs::write(folder.path().join("plain.age"), "hunter22").unwrap();
        let context = context_with_key(folder.path(), &identity);
        assert!(read("a.age", &context).unwrap_err().contains("can't be decrypted from a.age"));
        let error = read("plain.age", &context).unwrap_err();
        assert!(error.contains("can't be decrypted") && !error.contains("hunter22"), "{error}");
    }
}
