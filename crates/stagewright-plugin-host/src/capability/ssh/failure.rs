//! Why a connection failed, read from what the client reports.

use super::place::RemotePlace;
use crate::error::{CapabilityError, ErrorCode};

/// The most bytes of a report that are kept.
pub(super) const REPORT: usize = 64 * 1024;

/// The error for a client that ended before it had logged in. `report`: its standard error, with details.
pub(super) fn connection_failure(to: &RemotePlace<'_>, report: &str) -> CapabilityError {
    let RemotePlace { credential, host, declared } = to;
    let address = &declared.address;
    let error = |code, message: String| CapabilityError::new(code, message);
    if report.contains("Host key verification failed") || report.contains("no matching host key type found") {
        let offered = report.lines().find_map(|line| line.split_once("Server host key: ")).map(|(_, key)| key.trim());
        let message = format!(
            "`{host}` of the credential `{credential}` ({address}) offered the host key {}, which isn't one of its \
             `host-keys`",
            offered.unwrap_or("of another type")
        );
        return error(ErrorCode::Unauthenticated, message).with_help(format!(
            "if the host was installed again, compare its key on the host itself (`ssh-keygen -lf \
             /etc/ssh/ssh_host_ed25519_key.pub`) and change `host-keys` in [credentials.{credential}.hosts.{host}]; \
             otherwise another host answers at its address"
        ));
    }
    if let Some(methods) = denied_methods(report) {
        let accepts_keys = methods.split(',').any(|method| method == "publickey");
        let what = match accepts_keys {
            true => "doesn't accept the key".to_owned(),
            false => format!("accepts no keys, only: {methods}"),
        };
        let message = format!("`{host}` of the credential `{credential}` ({address}) {what}");
        return error(ErrorCode::Unauthenticated, message).with_help(match accepts_keys {
            true => format!("add the public key to the file authorized_keys of `{}` on the host", address.user()),
            false => {
                "allow keys in the host's sshd_config (`PubkeyAuthentication yes`): passwords are never sent".to_owned()
            }
        });
    }
    let message = format!("could not connect to `{host}` of the credential `{credential}` ({address})");
    let causes = report.lines().filter(|line| !line.starts_with("debug")).map(|line| line.trim().to_owned());
    let causes = causes.filter(|line| !line.is_empty() && !line.starts_with("OpenSSH_")).collect::<Vec<_>>();
    let causes = causes[causes.len().saturating_sub(3)..].to_vec();
    CapabilityError { causes, ..error(ErrorCode::Unavailable, message) }
        .with_help(format!("check that the host runs and that {} reaches it", address.place()))
        .retryable()
}

/// The methods that a server accepts which refused all keys, as in `publickey,password`.
fn denied_methods(report: &str) -> Option<&str> {
    let (_, rest) =
        report.split_once("Permission denied (").or_else(|| report.split_once("authentication failures ("))?;
    rest.split_once(')').map(|(methods, _)| methods)
}

/// The error for a command whose connection ended.
pub(super) fn lost(shown: &str, report: &[u8]) -> CapabilityError {
    let message = format!("the connection to {shown} was lost while a command ran there, which may still run");
    let last = String::from_utf8_lossy(report).lines().rev().find(|line| !line.trim().is_empty()).map(str::to_owned);
    CapabilityError { causes: last.into_iter().collect(), ..CapabilityError::new(ErrorCode::Unavailable, message) }
        .retryable()
}
