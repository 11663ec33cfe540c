//! The loopback interface of a new network namespace, which is down at first and has the addresses of this machine alone.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// The requests that set the flags, the address and the netmask of an interface; see netdevice(7).
const SET_FLAGS: libc::Ioctl = request_number(libc::SIOCSIFFLAGS);
const SET_ADDRESS: libc::Ioctl = request_number(libc::SIOCSIFADDR);
const SET_NETMASK: libc::Ioctl = request_number(libc::SIOCSIFNETMASK);

/// glibc and musl declare requests with different types.
#[allow(clippy::unnecessary_cast, clippy::cast_possible_truncation, reason = "the type depends on the C library")]
const fn request_number(number: libc::c_ulong) -> libc::Ioctl {
    number as libc::Ioctl
}

/// Brings the loopback interface up, so that 127.0.0.1 and ::1 are reachable.
pub(crate) fn up() -> io::Result<()> {
    let mut request = request("lo");
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).map_err(io::Error::other)?;
    send(SET_FLAGS, &request)
}

/// Gives the interface one more address, that of another host. `number` tells the addresses apart.
pub(crate) fn add(number: usize, address: Ipv4Addr) -> io::Result<()> {
    let mut request = request(&format!("lo:{number}"));
    request.ifr_ifru.ifru_addr = socket_address(address);
    send(SET_ADDRESS, &request)?;
    // The netmask would be that of the address's class, and the interface would have the whole network.
    request.ifr_ifru.ifru_netmask = socket_address(Ipv4Addr::BROADCAST);
    send(SET_NETMASK, &request)
}

fn request(interface: &str) -> libc::ifreq {
    // SAFETY: all zeros is a valid value of this structure of integers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    request
}

fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let [one, two, three, four] = address.octets().map(u8::cast_signed);
    let mut data = [0; 14];
    // Behind the port.
    data[2..6].copy_from_slice(&[one, two, three, four].map(|byte| byte as libc::c_char));
    libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data: data }
}

fn send(number: libc::Ioctl, request: &libc::ifreq) -> io::Result<()> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: these requests take such a structure, which lives for the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), number, &raw const *request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
