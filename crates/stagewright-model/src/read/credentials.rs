//! Reads `[credentials]`, and checks each against the secrets that it uses and against the other ones of a stage.

use std::collections::{BTreeMap, HashSet};

use super::fields::{At, Fields, Value};
use super::stage::Draft;
use super::{list, undeclared};
use crate::credential::{
    CredentialDeclaration, CredentialKind, CredentialOrigin, KindKeys, OriginTarget, SshAddress, SshHost, SshHostKey,
};
use crate::diagnostic::{Problem, Report};
use crate::grants::{HostPattern, Origin};
use crate::secret::SecretDeclaration;

/// The declared credentials. Those with mistakes, which are reported here, are left out.
pub(super) fn read(file: Fields<'_>, report: &mut Report) -> BTreeMap<String, CredentialDeclaration> {
    let declared = file.table("credentials").entries().into_iter();
    let read = |(name, value): (At<&str>, &Value<'_>)| {
        Some((name.value.to_owned(), credential(name, Fields::of(value), report)?))
    };
    declared.filter_map(read).collect()
}

fn credential(name: At<&str>, fields: Fields<'_>, report: &mut Report) -> Option<CredentialDeclaration> {
    // An unknown type was reported by the check of the shape.
    let kind = fields.text("type")?;
    let keys = KindKeys::named(kind.value)?;
    for missing in keys.required.iter().filter(|key| !fields.has(key)) {
        report.error(|| {
            let message = format!("the credential `{}` has no `{missing}`", name.value);
            Problem::new("stagewright::missing-key", name.span, message).help(format!(
                "a credential with `type = \"{}\"` requires {}",
                keys.name,
                list(keys.required.iter().copied())
            ))
        });
    }
    let is_of_kind = |key: &str| key == "type" || keys.required.contains(&key) || keys.optional.contains(&key);
    for (key, _) in fields.entries().into_iter().filter(|(key, _)| !is_of_kind(key.value)) {
        report.error(|| {
            let message = format!("the credential `{}` has `{}`, which its type doesn't use", name.value, key.value);
            let all = keys.required.iter().chain(keys.optional).copied();
            Problem::new("stagewright::stray-key", key.span, message).help(format!(
                "remove it: the keys of `type = \"{}\"` are {}",
                keys.name,
                list(all)
            ))
        });
    }
    let declared = of_fields(fields)?;
    check_origins(name, &declared, fields, report);
    if matches!(declared.kind, CredentialKind::Ssh { .. }) {
        check_ssh(name, fields, report);
    }
    Some(declared)
}

/// Reports an `ssh` credential without one certain way to log in, or with hosts that could be any.
fn check_ssh(name: At<&str>, fields: Fields<'_>, report: &mut Report) {
    if fields.has("key") == fields.flag("agent").unwrap_or(false) {
        report.error(|| {
            let message = format!("the credential `{}` needs one of `key` and `agent`", name.value);
            Problem::new("stagewright::missing-key", name.span, message).help(
                "write `key` with the name of the secret that has the private key, or `agent = true` for the keys of the \
                 user's agent",
            )
        });
    }
    for (host, value) in fields.table("hosts").entries() {
        let keys = Fields::of(value);
        if keys.has("host-keys") && keys.items("host-keys").is_empty() {
            report.error(|| {
                let message = format!("`{}` of the credential `{}` has no host keys", host.value, name.value);
                Problem::new("stagewright::bad-host-key", host.span, message)
                    .help("write the public keys that the host may have: they are always checked")
            });
        }
    }
}

/// A credential in a pipeline or a lock file; none if a key that its type requires is missing.
pub(super) fn of_fields(fields: Fields<'_>) -> Option<CredentialDeclaration> {
    let origins = fields.texts("origins");
    let origins = origins.iter().filter_map(|origin| CredentialOrigin::parse(origin.value).ok()).collect();
    CredentialDeclaration::read(fields.text("type")?.value, origins, ssh_hosts(fields), |key| fields.string(key))
}

fn ssh_hosts(fields: Fields<'_>) -> BTreeMap<String, SshHost> {
    let host = |(name, value): (At<&str>, &Value<'_>)| {
        let keys = Fields::of(value);
        let address = SshAddress::parse(keys.text("address")?.value).ok()?;
        let host_keys = keys.texts("host-keys");
        let host_keys = host_keys.iter().filter_map(|key| SshHostKey::parse(key.value).ok()).collect();
        Some((name.value.to_owned(), SshHost { address, host_keys }))
    };
    fields.table("hosts").entries().into_iter().filter_map(host).collect()
}

/// Reports origins that can't be those of a credential of this type.
fn check_origins(name: At<&str>, declared: &CredentialDeclaration, fields: Fields<'_>, report: &mut Report) {
    let places = fields.texts("origins");
    let empty = fields.get("origins").filter(|_| places.is_empty());
    if let Some(empty) = empty {
        report.error(|| {
            Problem::new("stagewright::bad-origin", empty.span().into(), format!("`{}` has no origins", name.value))
                .help("write the origin whose requests it signs, as in `origins = [\"https://api.example.org\"]`")
        });
    }
    let is_for_sockets = matches!(declared.kind, CredentialKind::DockerRegistry { .. });
    let is_for_tls = declared.ca.is_some() || matches!(declared.kind, CredentialKind::ClientCertificate { .. });
    for place in places {
        let Ok(origin) = CredentialOrigin::parse(place.value) else { continue };
        let (wrong, help) = match origin.target() {
            OriginTarget::Host(_) if is_for_sockets => {
                ("isn't a Unix socket", "write the socket of Docker's API, as in `unix:///run/docker.sock`")
            }
            OriginTarget::Socket(_) if !is_for_sockets => {
                ("is a Unix socket", "only credentials with `type = \"docker-registry\"` are sent over sockets")
            }
            OriginTarget::Host(origin) if is_for_tls && !origin.is_https() => {
                ("doesn't use TLS", "write `https://HOST`: certificates are checked in TLS")
            }
            _ => continue,
        };
        report.error(|| {
            let message = format!("`{}`, an origin of the credential `{}`, {wrong}", place.value, name.value);
            Problem::new("stagewright::bad-origin", place.span, message).help(help)
        });
    }
}

/// Reports secrets that a credential would send, or sign with, to hosts that aren't among the secrets' own.
pub(super) fn check_secrets<'t>(
    file: Fields<'t>,
    declared: &BTreeMap<String, CredentialDeclaration>,
    secrets: &BTreeMap<String, SecretDeclaration>,
    known: &[At<&'t str>],
    used_names: &mut HashSet<(&'static str, &'t str)>,
    report: &mut Report,
) {
    for (name, value) in file.table("credentials").entries() {
        let (fields, Some(credential)) = (Fields::of(value), declared.get(name.value)) else { continue };
        for setting in credential.settings().into_iter().filter(|setting| setting.names_secret()) {
            let Some(place) = fields.text(setting.key) else { continue };
            used_names.insert(("secrets", place.value));
            if !known.iter().any(|known| known.value == place.value) {
                let known = known.iter().map(|known| known.value);
                report.error(|| undeclared("secret", "secrets", place, known));
            }
            // The certificate of an authority is public.
            let Some(secret) = secrets.get(place.value).filter(|_| setting.key != "ca") else { continue };
            let admits = |to: &Origin| secret.hosts.iter().any(|host| host.admits(to.host(), to.port()));
            let missing = credential.destinations().into_iter().filter(|to| !admits(to)).collect::<Vec<_>>();
            if !missing.is_empty() {
                report.error(|| beyond_hosts(place, name, &secret.hosts, &missing));
            }
        }
    }
}

fn beyond_hosts(secret: At<&str>, credential: At<&str>, hosts: &[HostPattern], missing: &[Origin]) -> Problem {
    let host = |origin: &Origin| match (origin.is_https(), origin.port()) {
        (true, 443) => origin.host().to_owned(),
        (_, port) => format!("{}:{port}", origin.host()),
    };
    let missing = missing.iter().map(host).collect::<Vec<_>>();
    let message = format!(
        "the credential `{}` sends the secret `{}`, or what is derived from it, to {}, which isn't among its `hosts`",
        credential.value,
        secret.value,
        list(missing.iter().map(String::as_str))
    );
    let all = hosts.iter().map(|host| host.as_str().to_owned()).chain(missing).collect::<Vec<_>>();
    Problem::new("stagewright::beyond-hosts", secret.span, message)
        .label("may not be sent there")
        .help(format!("change in [secrets.{}]: hosts = {all:?}", secret.value))
}

/// Reports credentials of a stage that sign requests to the same origin. `entries`: those that its tables name.
pub(super) fn check_conflicts(
    draft: &Draft<'_>,
    entries: &[At<&str>],
    declared: &BTreeMap<String, CredentialDeclaration>,
    report: &mut Report,
) {
    let rehearsed = draft.stage.rehearsal_grants().into_iter().flat_map(|granted| &granted.credentials);
    let granted = draft.stage.permissions.credentials.iter().chain(rehearsed);
    let mut rules = granted.collect::<Vec<_>>();
    let mut seen = HashSet::new();
    rules.retain(|rule| seen.insert(rule.as_str()));
    for (at, rule) in rules.iter().enumerate() {
        // Those of the plugin and those of its programs sign different requests.
        let other = rules[..at].iter().filter(|other| other.usage() == rule.usage()).find_map(|other| {
            let origin = declared.get(rule.name())?.conflict(declared.get(other.name())?)?;
            Some((other.name(), origin))
        });
        let Some((other, origin)) = other else { continue };
        let place =
            entries.iter().find(|entry| entry.value == rule.as_str()).map_or(draft.name.span, |entry| entry.span);
        report.error(|| {
            let (name, stage) = (rule.name(), draft.name.value);
            let message = format!("the credentials `{other}` and `{name}` of `{stage}` both sign requests to {origin}");
            Problem::new("stagewright::conflicting-credentials", place, message)
                .label("signs the same requests")
                .help(format!("grant only one of them, or remove {origin} from the `origins` of one"))
        });
    }
}
