//! Credentials in pipeline files: how the host signs requests of stages, and to which origins.

use std::collections::BTreeMap;

use crate::grants::Origin;

mod origin;
mod ssh;

pub use origin::{CredentialOrigin, OriginTarget};
pub use ssh::{SshAddress, SshHost, SshHostKey};

/// `[credentials.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialDeclaration {
    /// `type`, with the keys of that type.
    pub kind: CredentialKind,
    /// `origins`: where requests are signed. Empty for a kubeconfig, which names its server, and for `ssh`, which signs none.
    pub origins: Vec<CredentialOrigin>,
    /// `ca`: the secret with the certificates, as PEM, that the server's is checked against; none for those that the
    /// machine trusts.
    pub ca: Option<String>,
}

/// `credentials.NAME.type`. Fields are named as their keys; those that name a secret say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// `bearer`: `Authorization: Bearer VALUE` (RFC 6750).
    Bearer {
        /// The secret with the token.
        token: String,
    },
    /// `basic`: `Authorization: Basic BASE64` (RFC 7617).
    Basic {
        /// The user's name.
        username: String,
        /// The secret with the password.
        password: String,
    },
    /// `client-certificate`: the client authenticates by TLS.
    ClientCertificate {
        /// The secret with the certificate and its intermediates, as PEM.
        certificate: String,
        /// The secret with the private key, as PEM.
        key: String,
    },
    /// `certificate-authority`: nothing is signed, but servers are checked against `ca`.
    CertificateAuthority,
    /// `aws-sigv4`: AWS Signature Version 4.
    AwsSigV4 {
        /// The secret with the ID of the access key.
        access_key_id: String,
        /// The secret with the access key.
        secret_access_key: String,
        /// The secret with the token of temporary credentials.
        session_token: Option<String>,
        /// The region in the signature's scope.
        region: String,
        /// The service in the signature's scope, as in `s3`.
        service: String,
    },
    /// `kubeconfig`: the server of a context, with its authority and its user's credentials.
    Kubeconfig {
        /// The secret with the text of the file.
        file: String,
        /// The context; none for the current one.
        context: Option<String>,
    },
    /// `docker-registry`: the login for a registry, in requests to Docker's API that pull from it.
    DockerRegistry {
        /// The registry as image names have it, as in `ghcr.io`; `docker.io` for names without one.
        registry: String,
        /// The user's name.
        username: String,
        /// The secret with the password.
        password: String,
    },
    /// `google`: access tokens of a service account.
    Google {
        /// The secret with the account's key, as JSON.
        key: String,
        /// The scopes, separated by spaces.
        scope: String,
        /// Where tokens are requested.
        authority: Origin,
    },
    /// `azure`: access tokens of an application, by the client credentials flow of OAuth 2.0.
    Azure {
        /// The tenant's ID or domain.
        tenant: String,
        /// The application's ID.
        client_id: String,
        /// The secret with the client secret.
        client_secret: String,
        /// The scope, as in `https://management.azure.com/.default`.
        scope: String,
        /// Where tokens are requested.
        authority: Origin,
    },
    /// `ssh`: commands on hosts.
    Ssh {
        /// By the names that plugins know them by.
        hosts: BTreeMap<String, SshHost>,
        /// The secret with the private key; none for those of the engine's agent.
        key: Option<String>,
    },
}

/// The keys of one type, beside `type`.
pub(crate) struct KindKeys {
    /// The value of `type`.
    pub(crate) name: &'static str,
    pub(crate) required: &'static [&'static str],
    pub(crate) optional: &'static [&'static str],
}

/// The header of Docker's API for the login of a registry, in lower case.
pub const REGISTRY_AUTH: &str = "x-registry-auth";

const KINDS: [KindKeys; 10] = [
    KindKeys { name: "bearer", required: &["token", "origins"], optional: &["ca"] },
    KindKeys { name: "basic", required: &["username", "password", "origins"], optional: &["ca"] },
    KindKeys { name: "client-certificate", required: &["certificate", "key", "origins"], optional: &["ca"] },
    KindKeys { name: "certificate-authority", required: &["ca", "origins"], optional: &[] },
    KindKeys {
        name: "aws-sigv4",
        required: &["access-key-id", "secret-access-key", "region", "service", "origins"],
        optional: &["session-token", "ca"],
    },
    KindKeys { name: "kubeconfig", required: &["file"], optional: &["context", "origins"] },
    KindKeys { name: "docker-registry", required: &["registry", "username", "password", "origins"], optional: &[] },
    KindKeys { name: "google", required: &["key", "scope", "origins"], optional: &["authority", "ca"] },
    KindKeys {
        name: "azure",
        required: &["tenant", "client-id", "client-secret", "scope", "origins"],
        optional: &["authority", "ca"],
    },
    KindKeys { name: "ssh", required: &["hosts"], optional: &["key", "agent"] },
];

/// Services of AWS that receive every operation as POST to `/`, and find it in `X-Amz-Target`, as in
/// `AmazonEC2ContainerServiceV20141113.DescribeServices`.
const JSON_SERVICES: [&str; 6] = ["dynamodb", "ecr", "ecs", "logs", "secretsmanager", "ssm"];

/// The values of `type`, in display order.
pub(crate) const KIND_NAMES: [&str; KINDS.len()] = {
    let mut names = [""; KINDS.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = KINDS[at].name;
        at += 1;
    }
    names
};

/// The keys whose values name secrets, whatever the type.
const SECRET_KEYS: [&str; 10] = [
    "access-key-id",
    "ca",
    "certificate",
    "client-secret",
    "file",
    "key",
    "password",
    "secret-access-key",
    "session-token",
    "token",
];

/// Where Google and Microsoft issue tokens.
const GOOGLE: &str = "https://oauth2.googleapis.com";
const MICROSOFT: &str = "https://login.microsoftonline.com";

impl KindKeys {
    /// The keys of the type with this name.
    pub(crate) fn named(name: &str) -> Option<&'static KindKeys> {
        KINDS.iter().find(|keys| keys.name == name)
    }
}

/// A key of a credential, beside `type` and `origins`, and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialSetting {
    /// The key in TOML.
    pub key: &'static str,
    /// The value; for some keys, the name of a secret.
    pub value: String,
}

impl CredentialSetting {
    /// Whether the value is the name of a secret.
    pub fn names_secret(&self) -> bool {
        SECRET_KEYS.contains(&self.key)
    }
}

impl CredentialDeclaration {
    /// Reads a credential from the values of its keys. None if a key that its type requires is missing or invalid.
    pub(crate) fn read(
        kind: &str,
        origins: Vec<CredentialOrigin>,
        hosts: BTreeMap<String, SshHost>,
        value: impl Fn(&str) -> Option<String>,
    ) -> Option<CredentialDeclaration> {
        let authority = |usual: &str| Origin::parse(&value("authority").unwrap_or_else(|| usual.to_owned()));
        let kind = match kind {
            "bearer" => CredentialKind::Bearer { token: value("token")? },
            "basic" => CredentialKind::Basic { username: value("username")?, password: value("password")? },
            "client-certificate" => {
                CredentialKind::ClientCertificate { certificate: value("certificate")?, key: value("key")? }
            }
            "certificate-authority" => CredentialKind::CertificateAuthority,
            "aws-sigv4" => CredentialKind::AwsSigV4 {
                access_key_id: value("access-key-id")?,
                secret_access_key: value("secret-access-key")?,
                session_token: value("session-token"),
                region: value("region")?,
                service: value("service")?,
            },
            "kubeconfig" => CredentialKind::Kubeconfig { file: value("file")?, context: value("context") },
            "docker-registry" => CredentialKind::DockerRegistry {
                registry: value("registry")?,
                username: value("username")?,
                password: value("password")?,
            },
            "google" => {
                CredentialKind::Google { key: value("key")?, scope: value("scope")?, authority: authority(GOOGLE)? }
            }
            "azure" => CredentialKind::Azure {
                tenant: value("tenant")?,
                client_id: value("client-id")?,
                client_secret: value("client-secret")?,
                scope: value("scope")?,
                authority: authority(MICROSOFT)?,
            },
            "ssh" if !hosts.is_empty() => CredentialKind::Ssh { hosts, key: value("key") },
            _ => return None,
        };
        Some(CredentialDeclaration { kind, origins, ca: value("ca") })
    }

    /// The value of `type`.
    pub fn type_name(&self) -> &'static str {
        match &self.kind {
            CredentialKind::Bearer { .. } => "bearer",
            CredentialKind::Basic { .. } => "basic",
            CredentialKind::ClientCertificate { .. } => "client-certificate",
            CredentialKind::CertificateAuthority => "certificate-authority",
            CredentialKind::AwsSigV4 { .. } => "aws-sigv4",
            CredentialKind::Kubeconfig { .. } => "kubeconfig",
            CredentialKind::DockerRegistry { .. } => "docker-registry",
            CredentialKind::Google { .. } => "google",
            CredentialKind::Azure { .. } => "azure",
            CredentialKind::Ssh { .. } => "ssh",
        }
    }

    /// All keys beside `type`, `origins` and `hosts` that are set, and those with a default.
    pub fn settings(&self) -> Vec<CredentialSetting> {
        let text = |text: &String| Some(text.clone());
        let mut settings = match &self.kind {
            CredentialKind::Bearer { token } => vec![("token", text(token))],
            CredentialKind::Basic { username, password } => {
                vec![("username", text(username)), ("password", text(password))]
            }
            CredentialKind::ClientCertificate { certificate, key } => {
                vec![("certificate", text(certificate)), ("key", text(key))]
            }
            CredentialKind::CertificateAuthority => Vec::new(),
            CredentialKind::AwsSigV4 { access_key_id, secret_access_key, session_token, region, service } => vec![
                ("access-key-id", text(access_key_id)),
                ("secret-access-key", text(secret_access_key)),
                ("session-token", session_token.clone()),
                ("region", text(region)),
                ("service", text(service)),
            ],
            CredentialKind::Kubeconfig { file, context } => vec![("file", text(file)), ("context", context.clone())],
            CredentialKind::DockerRegistry { registry, username, password } => {
                vec![("registry", text(registry)), ("username", text(username)), ("password", text(password))]
            }
            CredentialKind::Google { key, scope, authority } => {
                vec![("key", text(key)), ("scope", text(scope)), ("authority", Some(authority.to_string()))]
            }
            CredentialKind::Azure { tenant, client_id, client_secret, scope, authority } => vec![
                ("tenant", text(tenant)),
                ("client-id", text(client_id)),
                ("client-secret", text(client_secret)),
                ("scope", text(scope)),
                ("authority", Some(authority.to_string())),
            ],
            CredentialKind::Ssh { key, .. } => vec![("key", key.clone())],
        };
        settings.push(("ca", self.ca.clone()));
        settings.into_iter().filter_map(|(key, value)| Some(CredentialSetting { key, value: value? })).collect()
    }

    /// The names of the secrets that it uses.
    pub fn secrets(&self) -> Vec<String> {
        let named = self.settings().into_iter().filter(CredentialSetting::names_secret);
        named.map(|setting| setting.value).collect()
    }

    /// The origins of hosts at which requests are signed.
    pub fn hosts(&self) -> impl Iterator<Item = &Origin> {
        self.origins.iter().filter_map(|origin| match origin.target() {
            OriginTarget::Host(origin) => Some(origin),
            OriginTarget::Socket(_) => None,
        })
    }

    /// The hosts on which it allows commands, by name.
    pub fn ssh_hosts(&self) -> impl Iterator<Item = (&String, &SshHost)> {
        let hosts = if let CredentialKind::Ssh { hosts, .. } = &self.kind { Some(hosts) } else { None };
        hosts.into_iter().flatten()
    }

    /// Where tokens are requested in exchange for its secret.
    pub fn authority(&self) -> Option<&Origin> {
        match &self.kind {
            CredentialKind::Google { authority, .. } | CredentialKind::Azure { authority, .. } => Some(authority),
            _ => None,
        }
    }

    /// Why the proxy can't sign requests of programs with it, as the rest of a sentence, and what to do instead; none if
    /// it can.
    pub(crate) fn no_proxy(&self, name: &str) -> Option<(&'static str, String)> {
        match &self.kind {
            CredentialKind::AwsSigV4 { access_key_id, secret_access_key, .. } => Some((
                "its signature covers the body, which a program sends as it goes",
                format!(
                    "let the program sign: grant it `{access_key_id}:env` and `{secret_access_key}:env` in `secrets`"
                ),
            )),
            CredentialKind::Ssh { .. } => {
                Some(("it is for commands on hosts", format!("grant `{name}` to a plugin that runs commands on them")))
            }
            _ if self.hosts().next().is_none() && !self.has_unknown_origin() => {
                Some(("the proxy isn't on the way to a Unix socket", format!("grant `{name}` to the plugin")))
            }
            _ => None,
        }
    }

    /// The headers that only the host may set in requests to its origins.
    pub fn headers(&self) -> &'static [&'static str] {
        match &self.kind {
            CredentialKind::CertificateAuthority | CredentialKind::Ssh { .. } => &[],
            CredentialKind::DockerRegistry { .. } => &[REGISTRY_AUTH],
            CredentialKind::AwsSigV4 { .. } => {
                &["authorization", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"]
            }
            // A client that has a certificate and sends a token as well would leave it to the server which one counts.
            CredentialKind::Bearer { .. }
            | CredentialKind::Basic { .. }
            | CredentialKind::ClientCertificate { .. }
            | CredentialKind::Kubeconfig { .. }
            | CredentialKind::Google { .. }
            | CredentialKind::Azure { .. } => &["authorization"],
        }
    }

    /// The header that names the operation of a POST, by which reads are told from changes. AWS's services with a JSON
    /// protocol receive all operations as POST. Others ignore the header, so that it would say nothing there.
    pub fn operation_header(&self) -> Option<&'static str> {
        let CredentialKind::AwsSigV4 { service, .. } = &self.kind else { return None };
        JSON_SERVICES.contains(&service.as_str()).then_some("x-amz-target")
    }

    /// Every origin that gets its secrets, or what is derived from them, as far as the pipeline says: those of `origins`,
    /// the one that issues tokens, a registry, and those of `hosts`.
    pub fn destinations(&self) -> Vec<Origin> {
        let registry = match &self.kind {
            CredentialKind::DockerRegistry { registry, .. } => Origin::parse(registry),
            _ => None,
        };
        let of_ssh = self.ssh_hosts().map(|(_, host)| host.address.place());
        self.hosts().chain(self.authority()).chain(of_ssh).cloned().chain(registry).collect()
    }

    /// Whether the server of this credential isn't known before its secret is.
    pub fn has_unknown_origin(&self) -> bool {
        self.origins.is_empty() && matches!(self.kind, CredentialKind::Kubeconfig { .. })
    }

    /// The origin that both credentials sign requests to, if a stage can't have both.
    pub fn conflict<'a>(&'a self, other: &CredentialDeclaration) -> Option<&'a CredentialOrigin> {
        let of_registries = match (&self.kind, &other.kind) {
            (
                CredentialKind::DockerRegistry { registry: own, .. },
                CredentialKind::DockerRegistry { registry: other, .. },
            ) => own != other,
            _ => false,
        };
        self.origins.iter().find(|origin| !of_registries && other.origins.iter().any(|other| other.is_same(origin)))
    }

    /// What the credential does, as a verb phrase after "it", for reviewers.
    pub(crate) fn phrase(&self) -> String {
        let origins = match self.origins.is_empty() {
            true => "the server of its kubeconfig".to_owned(),
            false => self.origins.iter().map(CredentialOrigin::as_str).collect::<Vec<_>>().join(", "),
        };
        match &self.kind {
            CredentialKind::CertificateAuthority => {
                format!("allows requests to {origins}, and checks the server against an authority of its own")
            }
            CredentialKind::DockerRegistry { registry, .. } => {
                format!("adds the login for {registry} to requests over {origins} that pull from there")
            }
            CredentialKind::Ssh { hosts, key } => {
                let hosts = hosts.values().map(|host| host.address.as_str()).collect::<Vec<_>>().join(", ");
                let by = if key.is_some() { "" } else { ", with the keys of the user's agent" };
                format!("allows all that its user may do on {hosts}{by}")
            }
            _ => {
                let tokens = self.authority().map(|authority| format!(", with tokens of {authority}"));
                format!("allows and signs requests to {origins}{}", tokens.unwrap_or_default())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(kind: &str, origins: &[&str], values: &[(&str, &str)]) -> CredentialDeclaration {
        let origins = origins.iter().map(|origin| origin.parse().unwrap()).collect();
        let value = |key: &str| values.iter().find(|(own, _)| *own == key).map(|(_, value)| (*value).to_owned());
        CredentialDeclaration::read(kind, origins, hosts(), value).unwrap()
    }

    fn hosts() -> BTreeMap<String, SshHost> {
        let host_keys = vec!["ssh-ed25519 AAAAC3Nz".parse().unwrap()];
        [("web1".to_owned(), SshHost { address: "deploy@10.0.0.5".parse().unwrap(), host_keys })].into()
    }

    #[test]
    fn every_type_reads_the_keys_that_it_lists_and_writes_them_again() {
        for KindKeys { name, required, optional } in &KINDS {
            let is_text = |key: &&&str| !matches!(**key, "origins" | "hosts" | "agent");
            let keys = required.iter().chain(*optional).filter(is_text);
            let value = |key: &str| if key == "authority" { "https://a.test".to_owned() } else { format!("the-{key}") };
            let values = keys.map(|key| (*key, value(key))).collect::<Vec<_>>();
            let values = values.iter().map(|(key, value)| (*key, value.as_str())).collect::<Vec<_>>();
            let declared = declared(name, &["https://b.test"], &values);
            assert_eq!(declared.type_name(), *name);
            let mut written = declared.settings();
            written.sort_by_key(|setting| values.iter().position(|(key, _)| *key == setting.key));
            let written = written.iter().map(|setting| (setting.key, setting.value.as_str())).collect::<Vec<_>>();
            assert_eq!(written, values, "{name}");
            for missing in required.iter().filter(|key| is_text(key) && **key != "ca") {
                let value = |key: &str| values.iter().find(|(own, _)| *own == key).filter(|_| key != *missing);
                let value = |key: &str| value(key).map(|(_, value)| (*value).to_owned());
                let read = CredentialDeclaration::read(name, Vec::new(), hosts(), value);
                assert_eq!(read, None, "{name} without {missing}");
            }
        }
        assert_eq!(CredentialDeclaration::read("ssh", Vec::new(), BTreeMap::new(), |_| None), None);
    }

    #[test]
    fn two_credentials_conflict_at_one_origin_and_two_registries_do_not() {
        let bearer = |origins: &[&str]| declared("bearer", origins, &[("token", "t")]);
        let api = bearer(&["https://a.test", "https://b.test"]);
        assert_eq!(api.conflict(&bearer(&["b.test:443"])).unwrap().as_str(), "https://b.test");
        assert_eq!(api.conflict(&bearer(&["https://c.test"])), None);
        let registry = |name: &str| {
            let values = [("registry", name), ("username", "u"), ("password", "p")];
            declared("docker-registry", &["unix:///run/docker.sock"], &values)
        };
        assert!(registry("ghcr.io").conflict(&registry("ghcr.io")).is_some());
        assert_eq!(registry("ghcr.io").conflict(&registry("docker.io")), None);
    }

    #[test]
    fn tokens_come_from_the_usual_authority_unless_another_one_is_named() {
        let google = |values: &[(&str, &str)]| {
            declared("google", &["https://run.googleapis.com"], &[&[("key", "k"), ("scope", "s")], values].concat())
        };
        let shown = |declared: CredentialDeclaration| {
            declared.destinations().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(shown(google(&[])), ["https://run.googleapis.com", "https://oauth2.googleapis.com"]);
        assert_eq!(shown(google(&[("authority", "http://[::1]:8")]))[1], "http://[::1]:8");
    }
}
