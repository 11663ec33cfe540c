//! The guard: decides which addresses a granted name may resolve to.
//!
//! The owner of a name decides what it resolves to. A grant of `https://example.org` must not open this machine's loopback
//! (DNS rebinding), or the fixed addresses at which clouds serve credentials. Addresses in URLs aren't checked here: they
//! are granted literally or not at all.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use stagewright_model::is_localhost;

/// Metadata services of clouds outside of the link-local ranges: Alibaba, Azure, AWS (instances, pods), Google.
const METADATA: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];
/// Metadata services at link-local addresses (AWS instances and tasks), for a more precise message.
const METADATA_LINK_LOCAL: [Ipv4Addr; 2] = [Ipv4Addr::new(169, 254, 169, 254), Ipv4Addr::new(169, 254, 170, 2)];

/// The kinds of addresses that a name must not resolve to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddressKind {
    LinkLocal,
    Metadata,
    Unspecified,
    Multicast,
    Broadcast,
    Loopback,
    /// Another address than the loopback, for a name below `localhost`.
    NotLoopback,
}

/// A granted name resolved to an address that it must not resolve to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` resolves to {address}, which is {kind}")]
pub(crate) struct AddressRefused {
    pub(crate) name: String,
    pub(crate) address: IpAddr,
    pub(crate) kind: AddressKind,
}

impl fmt::Display for AddressKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AddressKind::LinkLocal => "a link-local address",
            AddressKind::Metadata => "a cloud's metadata service",
            AddressKind::Unspecified => "not the address of a host",
            AddressKind::Multicast => "a multicast address",
            AddressKind::Broadcast => "the broadcast address",
            AddressKind::Loopback => "this machine's loopback",
            AddressKind::NotLoopback => "not this machine",
        })
    }
}

/// Checks that `name`, in lower case, may resolve to `address`.
pub(crate) fn check(name: &str, address: IpAddr) -> Result<(), AddressRefused> {
    let refused = |kind| Err(AddressRefused { name: name.to_owned(), address, kind });
    if is_localhost(name) {
        return if address.to_canonical().is_loopback() { Ok(()) } else { refused(AddressKind::NotLoopback) };
    }
    let found = match address {
        IpAddr::V4(address) => kind_v4(address),
        IpAddr::V6(address) => kind_v6(address).or_else(|| embedded(address).into_iter().flatten().find_map(kind_v4)),
    };
    found.map_or(Ok(()), refused)
}

fn kind_v4(address: Ipv4Addr) -> Option<AddressKind> {
    if METADATA_LINK_LOCAL.contains(&address) || METADATA.contains(&IpAddr::V4(address)) {
        Some(AddressKind::Metadata)
    } else if address.octets()[0] == 0 {
        Some(AddressKind::Unspecified)
    } else if address.is_loopback() {
        Some(AddressKind::Loopback)
    } else if address.is_link_local() {
        Some(AddressKind::LinkLocal)
    } else if address.is_multicast() {
        Some(AddressKind::Multicast)
    } else if address.is_broadcast() {
        Some(AddressKind::Broadcast)
    } else {
        None
    }
}

fn kind_v6(address: Ipv6Addr) -> Option<AddressKind> {
    if METADATA.contains(&IpAddr::V6(address)) {
        Some(AddressKind::Metadata)
    } else if address.is_unspecified() {
        Some(AddressKind::Unspecified)
    } else if address.is_loopback() {
        Some(AddressKind::Loopback)
    } else if address.is_unicast_link_local() {
        Some(AddressKind::LinkLocal)
    } else if address.is_multicast() {
        Some(AddressKind::Multicast)
    } else {
        None
    }
}

/// The IPv4 addresses that a network may translate `address` to.
fn embedded(address: Ipv6Addr) -> [Option<Ipv4Addr>; 4] {
    let bytes = address.octets();
    let at = |places: [usize; 4]| Some(Ipv4Addr::from(places.map(|place| bytes[place])));
    let last = at([12, 13, 14, 15]);
    match address.segments() {
        // IPv4-mapped and IPv4-compatible (RFC 4291, section 2.5.5), and IPv4-translated (RFC 2765).
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => [last, None, None, None],
        // NAT64, well-known prefix (RFC 6052).
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => [last, None, None, None],
        // NAT64 with a network's own prefix (RFC 8215), which has 48, 56, 64 or 96 bits; the ninth byte isn't used. The
        // length isn't known here, so all four positions count, except for those that hold 0.0.0.0/8.
        [0x64, 0xff9b, 1, ..] => [at([6, 7, 9, 10]), at([7, 9, 10, 11]), at([9, 10, 11, 12]), last]
            .map(|address| address.filter(|address| address.octets()[0] != 0)),
        // 6to4 (RFC 3056).
        [0x2002, ..] => [at([2, 3, 4, 5]), None, None, None],
        // Teredo (RFC 4380): the client's address, inverted.
        [0x2001, 0, ..] => [last.map(|inverted| Ipv4Addr::from(!u32::from(inverted))), None, None, None],
        _ => [None; 4],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(name: &str, address: &str) -> Option<AddressKind> {
        check(name, address.parse().unwrap()).err().map(|refused| refused.kind)
    }

    #[test]
    fn a_name_may_only_resolve_to_ordinary_addresses() {
        let table = [
            ("93.184.215.14", None),
            ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", None),
            // Private addresses are allowed, because the name was granted.
            ("10.1.2.3", None),
            ("172.16.0.1", None),
            ("192.168.0.1", None),
            ("100.64.0.1", None),
            ("fd12:3456::1", None),
            ("169.253.255.255", None),
            ("127.0.0.1", Some(AddressKind::Loopback)),
            ("127.255.255.254", Some(AddressKind::Loopback)),
            ("::1", Some(AddressKind::Loopback)),
            ("169.254.0.1", Some(AddressKind::LinkLocal)),
            ("169.254.255.255", Some(AddressKind::LinkLocal)),
            ("fe80::1", Some(AddressKind::LinkLocal)),
            ("febf::1", Some(AddressKind::LinkLocal)),
            ("169.254.169.254", Some(AddressKind::Metadata)),
            ("169.254.170.2", Some(AddressKind::Metadata)),
            ("100.100.100.200", Some(AddressKind::Metadata)),
            ("168.63.129.16", Some(AddressKind::Metadata)),
            ("fd00:ec2::254", Some(AddressKind::Metadata)),
            ("fd00:ec2::23", Some(AddressKind::Metadata)),
            ("fd20:ce::254", Some(AddressKind::Metadata)),
            ("0.0.0.0", Some(AddressKind::Unspecified)),
            ("0.1.2.3", Some(AddressKind::Unspecified)),
            ("::", Some(AddressKind::Unspecified)),
            ("224.0.0.1", Some(AddressKind::Multicast)),
            ("239.255.255.255", Some(AddressKind::Multicast)),
            ("ff02::1", Some(AddressKind::Multicast)),
            ("255.255.255.255", Some(AddressKind::Broadcast)),
        ];
        for (address, expected) in table {
            assert_eq!(kind("example.org", address), expected, "{address}");
        }
    }

    #[test]
    fn an_ipv4_address_embedded_in_an_ipv6_address_is_checked() {
        let table = [
            ("::ffff:127.0.0.1", Some(AddressKind::Loopback)),
            ("::ffff:169.254.169.254", Some(AddressKind::Metadata)),
            ("::ffff:0.0.0.0", Some(AddressKind::Unspecified)),
            ("::169.254.1.1", Some(AddressKind::LinkLocal)),
            ("::127.0.0.1", Some(AddressKind::Loopback)),
            ("::ffff:0:169.254.169.254", Some(AddressKind::Metadata)),
            ("64:ff9b::169.254.169.254", Some(AddressKind::Metadata)),
            ("64:ff9b::127.0.0.1", Some(AddressKind::Loopback)),
            ("64:ff9b:1::169.254.169.254", Some(AddressKind::Metadata)),
            // 169.254.169.254 behind prefixes of 48, 56 and 64 bits.
            ("64:ff9b:1:a9fe:a9:fe00::", Some(AddressKind::Metadata)),
            ("64:ff9b:1::93.184.215.14", None),
            ("64:ff9b:1:aaa9:fe:a9fe::", Some(AddressKind::Metadata)),
            ("64:ff9b:1:aabb:a9:fea9:fe00:0", Some(AddressKind::Metadata)),
            ("2002:a9fe:a9fe::1", Some(AddressKind::Metadata)),
            ("2002:7f00:1::", Some(AddressKind::Loopback)),
            ("2001:0:0:0:0:0:5601:5601", Some(AddressKind::Metadata)),
            ("::ffff:93.184.215.14", None),
            ("64:ff9b::93.184.215.14", None),
            ("2002:5db8:d70e::1", None),
            ("2001:db8::169.254.169.254", None),
        ];
        for (address, expected) in table {
            assert_eq!(kind("example.org", address), expected, "{address}");
        }
    }

    #[test]
    fn localhost_may_only_resolve_to_the_loopback() {
        for name in ["localhost", "api.localhost"] {
            for address in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
                assert_eq!(kind(name, address), None, "{name} {address}");
            }
            assert_eq!(kind(name, "93.184.215.14"), Some(AddressKind::NotLoopback));
            assert_eq!(kind(name, "169.254.169.254"), Some(AddressKind::NotLoopback));
        }
        assert_eq!(kind("localhost.example.org", "127.0.0.1"), Some(AddressKind::Loopback));
        assert_eq!(kind("notlocalhost", "127.0.0.1"), Some(AddressKind::Loopback));
    }
}
