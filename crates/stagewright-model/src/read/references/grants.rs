//! Checks that the secrets and credentials which permissions name exist, and that they can be used there.

use std::collections::HashSet;

use super::KnownNames;
use crate::diagnostic::{Problem, Report};
use crate::grants::{CredentialRule, CredentialUse, HostPattern, NetTarget, SecretName, SecretRule, SecretUse};
use crate::read::fields::{At, Fields};
use crate::read::head::Head;
use crate::read::stage::Draft;
use crate::read::{credentials, list, undeclared};

impl<'t> KnownNames<'_, 't> {
    pub(super) fn check_credentials(&self, used_names: &mut HashSet<(&'static str, &'t str)>, report: &mut Report) {
        let Head { fields, credentials, secrets, .. } = self.head;
        credentials::check_secrets(*fields, credentials, secrets, &self.declared("secrets"), used_names, report);
    }

    pub(super) fn check_region_credentials(&self, report: &mut Report) {
        let declared = self.declared("credentials");
        for (_, environment) in self.head.fields.table("environments").entries() {
            for (_, region) in Fields::of(environment).table("regions").entries() {
                for name in Fields::of(region).texts("credentials") {
                    if !declared.iter().any(|known| known.value == name.value) {
                        let known = declared.iter().map(|known| known.value);
                        report.error(|| undeclared("credential", "credentials", name, known));
                    }
                }
            }
        }
    }

    pub(super) fn check_credential_names(
        &self,
        permissions: Fields<'t>,
        used_names: &mut HashSet<(&'static str, &'t str)>,
        report: &mut Report,
    ) {
        let declared = self.declared("credentials");
        for entry in permissions.texts("credentials").into_iter().filter(|entry| !entry.value.is_empty()) {
            let name = At { value: entry.value.split_once(':').map_or(entry.value, |(name, _)| name), ..entry };
            used_names.insert(("credentials", name.value));
            if !declared.iter().any(|known| known.value == name.value) {
                let known = declared.iter().map(|known| known.value);
                report.error(|| undeclared("credential", "credentials", name, known));
            }
            let is_for_programs =
                CredentialRule::parse(entry.value).is_ok_and(|rule| rule.usage() == CredentialUse::Programs);
            let Some(declared) = self.head.credentials.get(name.value).filter(|_| is_for_programs) else { continue };
            let name = name.value;
            if let Some((reason, help)) = declared.no_proxy(name) {
                report.error(|| {
                    let message = format!("the proxy can't sign with the credential `{name}`: {reason}");
                    Problem::new("stagewright::no-proxy", entry.span, message).help(help)
                });
            }
        }
    }

    /// Warns of credentials that the proxy would never use.
    pub(super) fn check_proxied_credentials(draft: &Draft<'t>, permissions: Fields<'t>, report: &mut Report) {
        if !draft.stage.permissions.unsandboxed {
            return;
        }
        for entry in permissions.texts("credentials") {
            let Ok(rule) = CredentialRule::parse(entry.value) else { continue };
            if rule.usage() == CredentialUse::Programs {
                let (name, stage) = (rule.name(), draft.name.value);
                let message =
                    format!("the proxy never signs with `{name}`: programs of `{stage}` run without a sandbox");
                let help = "remove `sandbox = \"off\"`, or pass a secret to the program that needs it";
                report.warning(Problem::new("stagewright::no-effect", entry.span, message).help(help));
            }
        }
    }

    pub(super) fn check_credential_conflicts(&self, draft: &Draft<'t>, report: &mut Report) {
        let own = if draft.fields.has("permissions") { draft.permissions()[0] } else { self.defaults };
        let tables = self.sets.tables(own).into_iter().chain(self.sets.tables(draft.permissions()[1]));
        let entries = tables.flat_map(|table| table.texts("credentials")).collect::<Vec<_>>();
        credentials::check_conflicts(draft, &entries, &self.head.credentials, report);
    }

    /// Warns of secrets that the proxy would never send. The hosts of a package manager aren't known here.
    pub(super) fn check_downloads(&self, draft: &Draft<'t>, permissions: Fields<'t>, report: &mut Report) {
        let rehearsed = draft.stage.rehearsal_grants().into_iter().flat_map(|granted| &granted.net);
        let net = draft.stage.permissions.net.iter().chain(rehearsed).collect::<Vec<_>>();
        for secret in self.sets.tables(permissions).into_iter().flat_map(|table| table.texts("secrets")) {
            let Ok(rule) = SecretRule::parse(secret.value) else { continue };
            let Some(declared) = self.head.secrets.get(rule.name()).filter(|_| rule.allows(SecretUse::Proxy)) else {
                continue;
            };
            let (name, stage) = (rule.name(), draft.name.value);
            let can_be_sent = net.iter().any(|entry| match entry.target() {
                NetTarget::Packages(_) => true,
                NetTarget::Socket(_) => false,
                NetTarget::Origin(origin) => declared.hosts.iter().any(|host| host.can_be_sent(origin)),
            });
            let (message, help) = if draft.stage.permissions.unsandboxed {
                (
                    format!("the proxy never sends the secret `{name}`: programs of `{stage}` run without a sandbox"),
                    "remove `sandbox = \"off\"`, or pass the secret to the program that needs it".to_owned(),
                )
            } else if declared.hosts.is_empty() {
                (
                    format!("the proxy never sends the secret `{name}`, which has no `hosts`"),
                    format!("add to `[secrets.{name}]` the hosts that `{stage}` downloads from: `hosts = [\"HOST\"]`"),
                )
            } else if !can_be_sent {
                let hosts = list(declared.hosts.iter().map(HostPattern::as_str));
                (
                    format!("the proxy never sends the secret `{name}`: `net` of `{stage}` has none of its hosts"),
                    format!("grant `https://HOST` in `net`, for a host of the secret: {hosts}"),
                )
            } else {
                continue;
            };
            report.warning(Problem::new("stagewright::no-effect", secret.span, message).help(help));
        }
    }

    pub(super) fn check_secrets(
        &self,
        permissions: Fields<'t>,
        used_names: &mut HashSet<(&'static str, &'t str)>,
        report: &mut Report,
    ) {
        let secrets: Vec<At<&str>> =
            self.sets.tables(permissions).into_iter().flat_map(|table| table.texts("secrets")).collect();
        for secret in &permissions.texts("secrets") {
            // Invalid entries were reported by the check of the shape.
            let Ok(grant) = SecretRule::parse(secret.value) else { continue };
            let name = &secret.value[..grant.name().len()];
            used_names.insert(("secrets", name));
            // Unlike `head.secrets`, `head.declared` includes secrets whose declaration is invalid.
            let declared = self.declared("secrets");
            if !declared.iter().any(|known| known.value == name) {
                let known = declared.iter().map(|known| known.value);
                report.error(|| undeclared("secret", "secrets", At { value: name, ..*secret }, known));
            }
        }
        for reveal in permissions.texts("reveal") {
            let Ok(name) = SecretName::parse(reveal.value) else { continue };
            let is_granted = |entry: &str| {
                SecretRule::parse(entry).is_ok_and(|rule| rule.name() == name.as_str() && rule.opens_handle())
            };
            if !secrets.iter().any(|secret| is_granted(secret.value)) {
                report.error(|| {
                    let message = format!("`reveal` names `{}`, which `secrets` doesn't grant", reveal.value);
                    Problem::new("stagewright::reveal-without-secret", reveal.span, message)
                        .help(format!("add `{}` to `permissions.secrets`, or remove it here", reveal.value))
                });
            }
        }
    }
}
