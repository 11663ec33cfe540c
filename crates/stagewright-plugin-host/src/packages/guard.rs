//! Origins that no word stands for, whichever file names them.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::unistd::gethostname;
use stagewright_model::{Origin, PackageOrigin, is_localhost};

use crate::net::{Kind, check_address};

/// Names by which machines, containers and clouds reach what is theirs alone. What they lead to is also refused by
/// address, unless a proxy resolves names for the engine.
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
const OF_METADATA: [&str; 6] = [
    "instance-data",
    "instance-data.ec2.internal",
    "metadata",
    "metadata.goog",
    "metadata.google.internal",
    "metadata.platformequinix.com",
];

/// An origin that a configuration names, and that has to be granted by itself if it is meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClosedOrigin {
    /// What is named, and where.
    pub named: PackageOrigin,
    /// Why no word stands for it.
    pub why: Closed,
}

/// Why no word stands for an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Closed {
    /// By name or by address.
    ThisMachine,
    /// Where a cloud serves the credentials of its machines.
    Metadata,
    /// Link-local, multicast, broadcast, or no address at all.
    NoHost,
}

/// As it goes on after "which is".
impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Closed::ThisMachine => "this machine",
            Closed::Metadata => "where a cloud serves the credentials of its machines",
            Closed::NoHost => "no address of a registry",
        })
    }
}

/// How this machine is reached from elsewhere: services that listen on all of its addresses are reached so, too.
#[derive(Clone, Debug, Default)]
pub(super) struct ThisMachine {
    /// In lower case.
    pub(super) name: String,
    pub(super) addresses: BTreeSet<IpAddr>,
}

impl ThisMachine {
    /// What can't be asked is empty: the loopback and its names are refused in any case.
    pub(super) fn read() -> ThisMachine {
        let name = gethostname().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let interfaces = getifaddrs().into_iter().flatten().filter_map(|interface| interface.address);
        let addresses = interfaces.filter_map(|address| {
            let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
        });
        ThisMachine { name, addresses: addresses.collect() }
    }

    /// By a name without its domain, too.
    fn is_named(&self, name: &str) -> bool {
        !self.name.is_empty() && (name == self.name || self.name.split('.').next() == Some(name))
    }
}

pub(super) fn check(origin: &Origin, machine: &ThisMachine) -> Result<(), Closed> {
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
            Kind::Loopback | Kind::NotLoopback | Kind::Unspecified => Closed::ThisMachine,
            Kind::Metadata => Closed::Metadata,
            Kind::LinkLocal | Kind::Multicast | Kind::Broadcast => Closed::NoHost,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_of_this_machine_or_of_metadata_gets_through() {
        use Closed::{Metadata, NoHost, ThisMachine};
        let addresses = ["192.0.2.7", "fd12::7"].map(|address| address.parse().unwrap()).into();
        let machine = super::ThisMachine { name: "builder.example.org".to_owned(), addresses };
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
