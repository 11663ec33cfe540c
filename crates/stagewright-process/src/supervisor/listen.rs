//! Which program accepts connections at a port: a service, or one that has nothing to do with it.
//!
//! A health check that asks an address learns what the program there answers, and not which program it is. Linux keeps
//! the listening sockets of a network namespace in `/proc/PID/net/tcp`, each with an inode, and the descriptors of a
//! process, with the same inodes, in `/proc/PID/fd`.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::state::{Phase, ProcessId};
use super::{SupervisorError, read_spec, status};
use crate::kernel;

/// The state of a listening socket in `/proc/net/tcp`: `TCP_LISTEN` of the kernel's `tcp_states.h`.
const LISTEN: &str = "0A";

/// Which program accepts connections to `127.0.0.1` at a service's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listening {
    /// A process of the service.
    Service,
    /// A process that isn't part of the service; none when its files can't be read.
    Other(Option<Holder>),
    /// None does. `elsewhere`: where processes of the service listen instead, sorted.
    Nothing {
        #[expect(missing_docs, reason = "the variant says it")]
        elsewhere: Vec<SocketAddr>,
    },
}

/// A process that holds a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// Its name, at most 15 bytes: `/proc/PID/comm`.
    pub name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` (process {})", self.name, self.pid)
    }
}

/// Which program listens at `port` in the network of the service in `dir`. A service that isn't running listens
/// nowhere.
pub fn listening(dir: &Path, port: u16) -> Result<Listening, SupervisorError> {
    let nothing = Listening::Nothing { elsewhere: Vec::new() };
    let Some(status) = status(dir)?.filter(|status| status.phase != Phase::Exited) else { return Ok(nothing) };
    // A service with a network of its own has its port in there, whatever this machine calls it.
    let port = read_spec(dir)?.own_network.unwrap_or(port);
    let processes = of_service(status.supervisor);
    let sockets = match status.child {
        Some(child) => Socket::all(child.pid),
        None => Socket::all(status.supervisor.pid),
    };
    let (mut inodes, mut opaque) = (HashSet::new(), HashSet::new());
    for &pid in processes.iter().filter(|&&pid| pid != status.supervisor.pid) {
        match inodes_of(pid) {
            Some(found) => inodes.extend(found),
            None => opaque.extend(owner(pid)),
        }
    }
    // A process may hide its descriptors, as one that handles keys does. A socket of the same user that no readable
    // process holds is taken for one of such a process.
    let is_own = |socket: &Socket| {
        inodes.contains(&socket.inode) || opaque.contains(&socket.user) && holder_of(socket.inode).is_none()
    };
    let answering = answering(&sockets, port);
    if let Some(other) = answering.iter().find(|socket| !is_own(socket)) {
        return Ok(Listening::Other(holder_of(other.inode)));
    }
    if !answering.is_empty() {
        return Ok(Listening::Service);
    }
    let mut elsewhere: Vec<_> = sockets.iter().filter(|socket| is_own(socket)).map(|socket| socket.address).collect();
    elsewhere.sort();
    elsewhere.dedup();
    Ok(Listening::Nothing { elsewhere })
}

/// The process that accepts connections to `127.0.0.1` at `port` of this machine; none when there is none, or when it
/// belongs to another user.
pub fn port_holder(port: u16) -> Option<Holder> {
    let sockets = Socket::all(std::process::id());
    answering(&sockets, port).iter().find_map(|socket| holder_of(socket.inode))
}

/// A listening socket.
struct Socket {
    address: SocketAddr,
    user: u32,
    inode: u64,
}

impl Socket {
    /// Of the network that the process `pid` is in.
    fn all(pid: u32) -> Vec<Socket> {
        let read = |name: &str| kernel::read_text(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
        let (four, six) = (read("tcp"), read("tcp6"));
        four.lines().chain(six.lines()).filter_map(Socket::parse).collect()
    }

    /// proc_pid_net(5): `sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode …`.
    fn parse(line: &str) -> Option<Socket> {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, local, _, LISTEN, _, _, _, user, _, inode, ..] = fields.as_slice() else { return None };
        let (address, port) = local.split_once(':')?;
        let address = SocketAddr::new(parse_address(address)?, u16::from_str_radix(port, 16).ok()?);
        Some(Socket { address, user: user.parse().ok()?, inode: inode.parse().ok()? })
    }
}

/// The kernel prints each 32 bits of an address as a number, whose bytes in memory are in the order of the network.
fn parse_address(text: &str) -> Option<IpAddr> {
    let word = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::to_ne_bytes);
    match text.len() {
        8 => word(text).map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes))),
        32 => {
            let mut bytes = [0; 16];
            for (place, at) in bytes.chunks_exact_mut(4).zip([0, 8, 16, 24]) {
                place.copy_from_slice(&word(text.get(at..at + 8)?)?);
            }
            Some(IpAddr::V6(Ipv6Addr::from(bytes)))
        }
        _ => None,
    }
}

/// The sockets that a connection to `127.0.0.1` at `port` may reach.
///
/// The kernel takes the most specific address first, and among wildcards IPv4 before IPv6. Several sockets of the same
/// rank share the connections (`SO_REUSEPORT`), so that each of them counts.
fn answering(sockets: &[Socket], port: u16) -> Vec<&Socket> {
    let rank = |socket: &Socket| match socket.address.ip() {
        _ if socket.address.port() != port => None,
        IpAddr::V4(Ipv4Addr::LOCALHOST) => Some(0),
        IpAddr::V6(address) if address.to_ipv4_mapped() == Some(Ipv4Addr::LOCALHOST) => Some(1),
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Some(2),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Some(3),
        _ => None,
    };
    let best = sockets.iter().filter_map(rank).min();
    sockets.iter().filter(|socket| best.is_some() && rank(socket) == best).collect()
}

/// The supervisor and what it started, directly or not: its session, and its descendants.
fn of_service(supervisor: ProcessId) -> HashSet<u32> {
    let all = processes();
    let mut found = HashSet::from([supervisor.pid]);
    loop {
        let before = found.len();
        let is_part = |process: &Process| process.session == supervisor.pid || found.contains(&process.parent);
        let more: Vec<u32> = all.iter().filter(|(_, process)| is_part(process)).map(|(&pid, _)| pid).collect();
        found.extend(more);
        if found.len() == before {
            return found;
        }
    }
}

struct Process {
    parent: u32,
    session: u32,
}

fn processes() -> HashMap<u32, Process> {
    let parse = |pid: u32| {
        let text = kernel::read_lossy(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the program's name in parentheses, and may hold anything, parentheses too.
        let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace().skip(1);
        // proc_pid_stat(5): ppid, pgrp, session are fields 4 to 6.
        let parent = fields.next()?.parse().ok()?;
        Some((pid, Process { parent, session: fields.nth(1)?.parse().ok()? }))
    };
    pids().into_iter().filter_map(parse).collect()
}

fn pids() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The inodes of a process's sockets; none when its descriptors can't be read. One that is gone has none.
fn inodes_of(pid: u32) -> Option<HashSet<u64>> {
    let entries = match std::fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return None,
        Err(_) => return Some(HashSet::new()),
    };
    let inode = |target: &Path| target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
    Some(entries.flatten().filter_map(|entry| inode(&std::fs::read_link(entry.path()).ok()?)).collect())
}

/// The real user of a process.
fn owner(pid: u32) -> Option<u32> {
    let text = kernel::read_lossy(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn holder_of(inode: u64) -> Option<Holder> {
    let pid = pids().into_iter().find(|&pid| inodes_of(pid).is_some_and(|inodes| inodes.contains(&inode)))?;
    let name = kernel::read_lossy(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(Holder { pid, name: name.trim_end().to_owned() })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn socket(address: &str) -> Socket {
        Socket { address: address.parse().unwrap(), user: 0, inode: 0 }
    }

    fn answer(sockets: &[&str]) -> Vec<String> {
        let sockets: Vec<Socket> = sockets.iter().map(|address| socket(address)).collect();
        answering(&sockets, 80).iter().map(|socket| socket.address.to_string()).collect()
    }

    #[test]
    fn lines_of_the_kernel_are_read() {
        let line =
            "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 100";
        let found = Socket::parse(line).unwrap();
        assert_eq!((found.address.to_string().as_str(), found.user, found.inode), ("127.0.0.1:8080", 1000, 4711));
        let six = line.replace("0100007F", "00000000000000000000000001000000");
        assert_eq!(Socket::parse(&six).unwrap().address.to_string(), "[::1]:8080");
        assert!(Socket::parse(&line.replace(" 0A ", " 01 ")).is_none(), "a connection doesn't listen");
        assert!(Socket::parse("  sl  local_address rem_address   st").is_none());
    }

    #[test]
    fn the_most_specific_address_answers() {
        assert_eq!(answer(&["0.0.0.0:80", "127.0.0.1:80", "127.0.0.1:81"]), ["127.0.0.1:80"]);
        assert_eq!(answer(&["[::]:80", "0.0.0.0:80", "0.0.0.0:80"]), ["0.0.0.0:80"; 2]);
        assert_eq!(answer(&["[::]:80", "[::1]:80"]), ["[::]:80"]);
        assert_eq!(answer(&["[::1]:80", "10.0.0.1:80", "0.0.0.0:8080"]), [""; 0]);
    }

    #[test]
    fn the_holder_of_a_port_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(port_holder(port).map(|holder| holder.pid), Some(std::process::id()));
        drop(listener);
    }
}
