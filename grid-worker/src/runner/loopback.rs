//! The loopback device of a new network namespace: commands may talk to themselves.
//!
//! It is down when the namespace is made, and one message of rtnetlink(7) brings it up. Neighbour: `enclose`.

use std::io;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, sendto, socket};

const RTM_NEWLINK: u16 = 16;
const REQUEST_WITH_ANSWER: u16 = 1 | 4;
const NLMSG_ERROR: u16 = 2;
/// The loopback device is the first of its namespace.
const LOOPBACK: u32 = 1;
const IFF_UP: u32 = 1;

/// Brings it up, by netlink's protocol 0; needs `CAP_NET_ADMIN` in the namespace.
pub(super) fn bring_up() -> io::Result<()> {
    let link = socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    sendto(&link, &request(), SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0; 1024];
    let (count, _) = recv(&link, &mut answer, RecvFlags::empty())?;
    match error_of(&answer[..count]) {
        Some(0) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(-error)),
        None => Err(io::Error::other("the kernel's answer about the loopback device can't be read")),
    }
}

/// `struct nlmsghdr` and `struct ifinfomsg`.
fn request() -> Vec<u8> {
    let mut message = Vec::with_capacity(32);
    message.extend_from_slice(&32_u32.to_ne_bytes());
    message.extend_from_slice(&RTM_NEWLINK.to_ne_bytes());
    message.extend_from_slice(&REQUEST_WITH_ANSWER.to_ne_bytes());
    for word in [1, 0, 0, LOOPBACK, IFF_UP, IFF_UP] {
        message.extend_from_slice(&u32::to_ne_bytes(word));
    }
    message
}

/// The error number of an answer, 0 for none; negative as the kernel counts.
fn error_of(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let error = i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?);
    (kind == NLMSG_ERROR).then_some(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_as_the_kernel_lays_them_out() {
        assert_eq!(request().len(), 32);
        let mut answer = vec![0; 20];
        assert_eq!(error_of(&answer), None);
        answer[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        answer[16..20].copy_from_slice(&(-1_i32).to_ne_bytes());
        assert_eq!(error_of(&answer), Some(-1));
        assert_eq!(error_of(&answer[..10]), None);
    }
}
