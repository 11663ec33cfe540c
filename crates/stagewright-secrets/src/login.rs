//! Logins by the header `Authorization`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;
use zeroize::Zeroizing;

/// The value of `Authorization`. `Debug` shows nothing of it.
pub(crate) enum Login {
    Bearer(Zeroizing<String>),
    Basic { username: String, password: Zeroizing<String> },
}

impl Login {
    /// The header's value.
    pub(crate) fn authorization(&self) -> Zeroizing<String> {
        Zeroizing::new(match self {
            Login::Bearer(token) => format!("Bearer {}", token.as_str()),
            Login::Basic { username, password } => {
                let pair = Zeroizing::new(format!("{username}:{}", password.as_str()));
                format!("Basic {}", STANDARD.encode(pair.as_bytes()))
            }
        })
    }

    /// The time `exp` of a JSON Web Token (RFC 7519); none for other tokens, and for passwords.
    pub(crate) fn expires(&self) -> Option<SystemTime> {
        #[derive(Deserialize)]
        struct Claims {
            exp: f64,
        }
        let Login::Bearer(token) = self else { return None };
        let [_, claims, _] = token.split('.').collect::<Vec<_>>()[..] else { return None };
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(claims.exp).ok()?)
    }

    /// The token or the password.
    #[cfg(feature = "kubernetes")]
    pub(crate) fn secret(&self) -> &str {
        match self {
            Login::Bearer(token) => token,
            Login::Basic { password, .. } => password,
        }
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expires(token: &str) -> Option<u64> {
        let time = Login::Bearer(Zeroizing::new(token.to_owned())).expires()?;
        Some(time.duration_since(UNIX_EPOCH).unwrap().as_secs())
    }

    #[test]
    fn a_token_says_when_it_expires_if_it_is_one_with_claims() {
        let token = |claims: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        assert_eq!(expires(&token(r#"{"exp":1764565200}"#)), Some(1_764_565_200));
        assert_eq!(expires(&token(r#"{"exp":1764565200.5,"sub":"deployer"}"#)), Some(1_764_565_200));
        for other in ["opaque", "a.b.c", "", &token("{}"), &token(r#"{"exp":-1}"#), &token(r#"{"exp":1e300}"#)] {
            assert_eq!(expires(other), None, "{other}");
        }
    }
}
