//! `azure`: tokens of an application, by the client credentials flow of the Microsoft identity platform.

use std::time::SystemTime;

use reqwest::Url;
use stagewright_model::{Origin, SecretValue};
use zeroize::Zeroizing;

use super::token::TokenIssuer;
use crate::error::Fault;

/// An application that requests tokens.
#[derive(Debug)]
pub(super) struct Application {
    url: Url,
    client_id: String,
    client_secret: SecretValue,
    scope: String,
}

impl Application {
    pub(super) fn new(
        tenant: &str,
        client_id: &str,
        client_secret: SecretValue,
        scope: &str,
        authority: &Origin,
    ) -> Result<Application, Fault> {
        let url = format!("{authority}/{tenant}/oauth2/v2.0/token");
        let url = Url::parse(&url).map_err(|_| Fault::new("can't be used: its tenant isn't a part of a URL"))?;
        Ok(Application { url, client_id: client_id.to_owned(), client_secret, scope: scope.to_owned() })
    }
}

impl TokenIssuer for Application {
    fn service(&self) -> &'static str {
        "Microsoft Entra"
    }

    fn url(&self) -> &Url {
        &self.url
    }

    fn form(&self, _now: SystemTime) -> Result<Vec<(&'static str, Zeroizing<String>)>, Fault> {
        let text = |text: &str| Zeroizing::new(text.to_owned());
        Ok(vec![
            ("grant_type", text("client_credentials")),
            ("client_id", text(&self.client_id)),
            ("client_secret", text(self.client_secret.expose())),
            ("scope", text(&self.scope)),
        ])
    }

    fn confidential(&self) -> Vec<SecretValue> {
        vec![self.client_secret.clone()]
    }
}
