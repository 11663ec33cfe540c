//! Hosts of credentials with `type = "ssh"`.

use crate::entry::entry;
use crate::format_error::{FormatError, refuse};
use crate::grants::Origin;

/// The port of SSH (RFC 4253, section 4.1).
const USUAL_PORT: u16 = 22;

/// `credentials.NAME.hosts.HOST`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshHost {
    /// `address`.
    pub address: SshAddress,
    /// `host-keys`: the host has to have one of them.
    pub host_keys: Vec<SshHostKey>,
}

/// `address` of a host: `USER@HOST` or `USER@HOST:PORT`.
#[derive(Clone, Debug)]
pub struct SshAddress {
    text: String,
    user: String,
    place: Origin,
}

/// An entry of `host-keys`: a public key as `known_hosts` has it, without the host.
#[derive(Clone, Debug)]
pub struct SshHostKey {
    text: String,
}

entry!(SshAddress, FormatError);
entry!(SshHostKey, FormatError);

impl SshAddress {
    /// Parses an address.
    pub fn parse(text: &str) -> Result<SshAddress, FormatError> {
        const CODE: &str = "stagewright::bad-address";
        const HELP: &str = "write `USER@HOST` or `USER@HOST:PORT`, as in `deploy@10.0.0.5`";
        let Some((user, rest)) = text.split_once('@') else { return refuse(CODE, "doesn't name a user", HELP) };
        // Neither can be taken for an option.
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
        if user.is_empty() || user.starts_with('-') || !user.chars().all(is_name) {
            return refuse(CODE, "doesn't name a user", HELP);
        }
        let after_address = rest.rsplit(']').next().unwrap_or(rest);
        let with_port = if after_address.contains(':') { rest.to_owned() } else { format!("{rest}:{USUAL_PORT}") };
        match Origin::of_connection(&with_port) {
            Some(place) if !rest.starts_with('-') => {
                Ok(SshAddress { text: text.to_owned(), user: user.to_owned(), place })
            }
            _ => refuse(CODE, "isn't the address of one host", HELP),
        }
    }

    /// The address as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The user to log in as.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Host and port, with the scheme `tcp`.
    pub fn place(&self) -> &Origin {
        &self.place
    }
}

/// The types of keys that OpenSSH's servers have.
const KEY_TYPES: [&str; 7] = [
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "sk-ssh-ed25519@openssh.com",
    "ssh-ed25519",
    "ssh-rsa",
];

impl SshHostKey {
    /// Parses a key. A comment after it is refused, because nothing would check it.
    pub fn parse(text: &str) -> Result<SshHostKey, FormatError> {
        const CODE: &str = "stagewright::bad-host-key";
        const HELP: &str = "write type and key alone, as `ssh-keyscan HOST` prints them after the host, and compare them \
                            with those on the host itself (`cat /etc/ssh/ssh_host_*_key.pub`)";
        let is_base64 = |key: &str| {
            let digits = key.trim_end_matches('=');
            let fits = digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte));
            fits && key.starts_with("AAAA") && key.len().is_multiple_of(4) && key.len() - digits.len() <= 2
        };
        match text.split_once(' ') {
            Some((kind, key)) if KEY_TYPES.contains(&kind) && is_base64(key) => {
                Ok(SshHostKey { text: text.to_owned() })
            }
            Some((kind, _)) if !KEY_TYPES.contains(&kind) => {
                refuse(CODE, format!("has the unknown type `{kind}`"), HELP)
            }
            _ => refuse(CODE, "isn't a public key", HELP),
        }
    }

    /// Type and key, as in `ssh-ed25519 AAAA…`.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_user_and_one_host() {
        for (text, user, place) in [
            ("deploy@10.0.0.5", "deploy", "tcp://10.0.0.5:22"),
            ("root@Web.example.org:2222", "root", "tcp://web.example.org:2222"),
            ("a.b-c_d@[::1]", "a.b-c_d", "tcp://[::1]:22"),
            ("a@[::1]:2200", "a", "tcp://[::1]:2200"),
        ] {
            let address = SshAddress::parse(text).unwrap();
            assert_eq!((address.user(), address.place().to_string()), (user, place.to_owned()), "{text}");
        }
        for text in [
            "",
            "10.0.0.5",
            "@10.0.0.5",
            "-oProxyCommand=x@host",
            "a b@host",
            "a@-oProxyCommand=x",
            "a@host/",
            "a@host:22/",
            "a@host:0x16",
            "a@*.example.org",
            "a@b@host",
            "a@host:*",
            "a@",
        ] {
            assert!(SshAddress::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_host_key_is_one_public_key() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGMfYqPMEBcLOAP/lDp+2hKV0j7Vf1FoVvgcVxH8Yfrf";
        assert_eq!(SshHostKey::parse(key).unwrap().as_str(), key);
        for text in [
            "",
            "ssh-ed25519",
            "AAAAC3Nz",
            "ssh-dss AAAAB3Nz",
            "ssh-ed25519 SHA256:abcd",
            &format!("{key} comment"),
            &format!("{key}\n* {key}"),
            &format!("@cert-authority {key}"),
        ] {
            assert!(SshHostKey::parse(text).is_err(), "{text}");
        }
    }
}
