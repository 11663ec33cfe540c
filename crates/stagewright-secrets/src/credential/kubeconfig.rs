//! `kubeconfig`.

use std::sync::Arc;

use reqwest::Url;
use stagewright_model::{Origin, OriginTarget, RequestSigner, SecretValue, TlsSettings};
use zeroize::Zeroizing;

use super::{HeaderSigner, SignerParts, one_line};
use crate::error::Fault;
use crate::kubeconfig;
use crate::login::Login;

/// The signer for the server of a context in `file`, the text of a kubeconfig.
pub(super) fn signer(parts: SignerParts, file: &str, context: Option<&str>) -> Result<Arc<dyn RequestSigner>, Fault> {
    let cluster = kubeconfig::in_text(file, context)?;
    let (server, origin) = server(&cluster.server)?;
    let target = OriginTarget::Host(origin);
    if !parts.origins.is_empty() && !parts.origins.contains(&target) {
        let message =
            format!("can't be used: the server of its kubeconfig is {target}, which isn't among its `origins`");
        return Err(Fault::new(message).help("add the server to `origins`, or select another `context`"));
    }
    let text = |pem: Vec<u8>| {
        let text = String::from_utf8(pem)
            .map_err(|_| Fault::new("can't be used: its kubeconfig has a certificate that isn't PEM"))?;
        Ok(SecretValue::from(Zeroizing::new(text)))
    };
    let identity = cluster.identity.map(|pem| text(pem.to_vec())).transpose()?;
    let login = cluster.login.as_ref();
    let secret = login.map(|login| SecretValue::from(login.secret()));
    secret.iter().try_for_each(|secret| one_line(secret, "token or password").map(drop))?;
    let confidential = secret.into_iter().chain(identity.as_ref().and_then(private_key)).collect();
    let tls = TlsSettings { authorities: cluster.authorities.map(text).transpose()?, identity };
    Ok(Arc::new(HeaderSigner {
        parts: SignerParts { origins: vec![target], tls, ..parts },
        endpoint: Some(server),
        authorization: login.map(|login| login.authorization().into()),
        confidential,
        expires: login.and_then(Login::expires),
    }))
}

/// The server's URL, without a slash at its end, and its origin.
fn server(text: &str) -> Result<(String, Origin), Fault> {
    let refused = |what: &str| Fault::new(format!("can't be used: the server of its kubeconfig {what}"));
    let url: Url = text.parse().map_err(|_| refused("isn't a URL"))?;
    let has_more =
        url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some();
    match Origin::of(&url).filter(|_| !has_more) {
        None => Err(refused("isn't the URL of a host")),
        Some(origin) if !origin.is_https() && !origin.is_loopback() => {
            Err(refused("doesn't use TLS").help("use a server whose URL begins with `https://`"))
        }
        Some(origin) => Ok((format!("{origin}{}", url.path().trim_end_matches('/')), origin)),
    }
}

/// The key in PEM, without the certificates, which are public.
fn private_key(identity: &SecretValue) -> Option<SecretValue> {
    let text = identity.expose();
    let ends = text.match_indices("PRIVATE KEY-----").collect::<Vec<_>>();
    let [(first, _), .., (last, end)] = ends[..] else { return None };
    let start = text[..first].rfind("-----BEGIN")?;
    Some(SecretValue::from(&text[start..last + end.len()]))
}
