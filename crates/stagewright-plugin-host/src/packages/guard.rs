//! Origins that no word opens, whichever file names them.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::unistd::gethostname;
use stagewright_model::{Origin, PackageOrigin, is_localhost};

use crate::net::{AddressKind, check_address};

/// Names by which containers and machines reach this machine. The addresses that they resolve to are refused as well, but
/// not where a proxy resolves names for the engine.
const OF_THIS_MACHINE: [&str; 9] = [
    "gateway.docker.internal",
    "host.containers.internal",
    "host.docker.internal",
    "ip6-localhost",
    "ip6-loopback",
    "kubernetes.docker.internal",
    "localhost.localdomain",
    "localhost4",
    "localhost6",
];
/// Names of clouds' metadata services.
const OF_METADATA: [&str; 6] = [
    "instance-data",
    "instance-data.ec2.internal",
    "metadata",
    "metadata.goog",
    "metadata.google.internal",
    "metadata.platformequinix.com",
];

/// An origin that a configuration names but no word opens. It has to be granted by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClosedOrigin {
    /// The origin, and where it is named.
    pub named: PackageOrigin,
    /// Why no word opens it.
    pub why: Closed,
}

/// Why no word opens an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Closed {
    /// This machine, by name or by address.
    ThisMachine,
    /// A cloud's metadata service, which serves the credentials of its machines.
    Metadata,
    /// A link-local, multicast or broadcast address.
    NoHost,
}

/// Completes a sentence after "which is".
impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Closed::ThisMachine => "this machine",
            Closed::Metadata => "a cloud's metadata service",
            Closed::NoHost => "not the address of a registry",
        })
    }
}

/// The name and the addresses of this machine, which also lead to services that listen on all addresses.
#[derive(Clone, Debug, Default)]
pub(super) struct MachineAddresses {
    /// In lower case.
    pub(super) name: String,
    pub(super) addresses: BTreeSet<IpAddr>,
}

impl MachineAddresses {
    /// Reads them from the system. Those that can't be read are left out; the loopback and its names are refused anyway.
    pub(super) fn read() -> MachineAddresses {
        let name = gethostname().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let interfaces = getifaddrs().into_iter().flatten().filter_map(|interface| interface.address);
        let addresses = interfaces.filter_map(|address| {
            let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
        });
        MachineAddresses { name, addresses: addresses.collect() }
    }

    /// Whether `name` is this machine's, with or without its domain.
    fn is_named(&self, name: &str) -> bool {
        !self.name.is_empty() && (name == self.name || self.name.split('.').next() == Some(name))
    }
}

pub(super) fn check(origin: &Origin, machine: &MachineAddresses) -> Result<(), Closed> {
    let name = origin.host().strip_suffix('.').unwrap_or(origin.host());
    if is_localhost(name) || OF_THIS_MACHINE.contains(&name) || machine.is_named(name) {
        return Err(Closed::ThisMachine);
    }
    if origin.address().is_some_and(|address| machine.addresses.contains(&address.to_canonical())) {
        return Err(Closed::ThisMachine);
    }
    if OF_METADATA.contains(&name) {
        return Err(Closed::Metadata);
    }
    if let Some(address) = origin.address()
        && let Err(refused) = check_address("", address)
    {
        return Err(match refused.kind {
            AddressKind::Loopback | AddressKind::NotLoopback | AddressKind::Unspecified => Closed::ThisMachine,
            AddressKind::Metadata => Closed::Metadata,
            AddressKind::LinkLocal | AddressKind::Multicast | AddressKind::Broadcast => Closed::NoHost,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_this_machine_and_of_metadata_services_is_refused() {
        use Closed::{Metadata, NoHost, ThisMachine};
        let addresses = ["192.0.2.7", "fd12::7"].map(|address| address.parse().unwrap()).into();
        let machine = super::MachineAddresses { name: "builder.example.org".to_owned(), addresses };
        for (url, why) in [
            ("http://localhost:4873/", ThisMachine),
            ("http://LOCALHOST./", ThisMachine),
            ("https://npm.localhost", ThisMachine),
            ("http://127.0.0.1", ThisMachine),
            ("http://127.1:80/", ThisMachine),
            ("http://2130706433/", ThisMachine),
            ("http://0x7f000001/", ThisMachine),
            ("http://0177.0.0.1/", ThisMachine),
            ("http://0/", ThisMachine),
            ("http://[::1]/", ThisMachine),
            ("http://[::]/", ThisMachine),
            ("http://[::ffff:127.0.0.1]/", ThisMachine),
            ("http://[::ffff:7f00:1]/", ThisMachine),
            ("http://[64:ff9b::7f00:1]/", ThisMachine),
            ("http://host.docker.internal/", ThisMachine),
            ("http://192.0.2.7:8080/", ThisMachine),
            ("http://0xc0.0.2.7/", ThisMachine),
            ("http://[::ffff:192.0.2.7]/", ThisMachine),
            ("http://[fd12::7]/", ThisMachine),
            ("http://Builder.example.org./", ThisMachine),
            ("http://builder/", ThisMachine),
            ("http://169.254.169.254/latest/", Metadata),
            ("http://2852039166/", Metadata),
            ("http://0xa9.254.0251.254/", Metadata),
            ("http://[fd00:ec2::254]/", Metadata),
            ("http://[::ffff:169.254.169.254]/", Metadata),
            ("http://metadata.google.internal/", Metadata),
            ("http://Metadata.Google.Internal./", Metadata),
            ("http://100.100.100.200/", Metadata),
            ("http://169.254.1.1/", NoHost),
            ("http://[fe80::1]/", NoHost),
            ("http://224.0.0.1/", NoHost),
        ] {
            assert_eq!(check(&Origin::of_url(url).unwrap(), &machine), Err(why), "{url}");
        }
        for url in ["https://registry.example.org:8443/x", "http://10.0.0.7:4873", "https://[fd12::1]/", "http://nexus"]
        {
            assert_eq!(check(&Origin::of_url(url).unwrap(), &machine), Ok(()), "{url}");
        }
    }
}
