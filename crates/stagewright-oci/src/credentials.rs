//! Credentials for registries. Only the host reads them; guests never see them.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;

/// A source of credentials for registries.
pub trait CredentialSource: Send + Sync {
    /// User and password for a host, with its port if it has one; none for anonymous access.
    fn credentials(&self, host: &str) -> Option<(String, String)>;

    /// A description of the source for the help of an error: "`auths` of `/home/me/.docker/config.json`".
    fn origin(&self) -> String;
}

/// The `auths` table of a `config.json`, as `docker login` and `skopeo login` write it. Credential helpers are not
/// supported: they are programs, and no pipeline grants them.
#[derive(Clone, Debug)]
pub struct DockerConfig {
    path: PathBuf,
}

impl DockerConfig {
    /// The file is read for each request, so a login takes effect immediately. It does not have to exist.
    pub fn new(path: impl Into<PathBuf>) -> DockerConfig {
        DockerConfig { path: path.into() }
    }
}

impl CredentialSource for DockerConfig {
    fn credentials(&self, host: &str) -> Option<(String, String)> {
        let config: Json =
            serde_json::from_slice(&stagewright_files::read(&self.path, stagewright_files::CONFIGURATION).ok()?)
                .ok()?;
        let auths = config.get("auths")?.as_object()?;
        // In this file Docker uses another name for its hub.
        let hub = matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io");
        let entry = auths.iter().find_map(|(key, entry)| {
            let name = key.trim_start_matches("https://").trim_start_matches("http://");
            let name = name.split('/').next()?;
            (name == host || hub && matches!(name, "docker.io" | "index.docker.io")).then_some(entry)
        })?;
        let decoded = STANDARD.decode(entry.get("auth")?.as_str()?).ok()?;
        let (user, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
        Some((user.to_owned(), password.trim_end_matches('\0').to_owned()))
    }

    fn origin(&self) -> String {
        format!("`auths` of `{}`", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_found_by_host() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        let auth = |text: &str| STANDARD.encode(text);
        let (hub, ghcr) = (auth("me:hub"), auth("me:a:b"));
        let text = format!(
            r#"{{"auths": {{"https://index.docker.io/v1/": {{"auth": "{hub}"}}, "ghcr.io": {{"auth": "{ghcr}"}},
                "empty.io": {{}}}}, "credsStore": "desktop"}}"#
        );
        std::fs::write(&path, text).unwrap();
        let source = DockerConfig::new(&path);
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(source.credentials("docker.io"), pair("me", "hub"));
        assert_eq!(source.credentials("ghcr.io"), pair("me", "a:b"));
        assert_eq!(source.credentials("empty.io"), None);
        assert_eq!(source.credentials("ghcr.io:5000"), None);
        assert_eq!(DockerConfig::new("/nonexistent").credentials("ghcr.io"), None);
    }
}
