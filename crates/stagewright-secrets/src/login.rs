//! Logins by the header `Authorization`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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
