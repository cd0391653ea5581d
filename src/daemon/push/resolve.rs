//! Host names to addresses, without waiting for the answer.
//!
//! The system's own lookup (nsswitch, /etc/hosts, DNS) is a call that blocks, for long if
//! a name server is unreachable. So a child process makes it: getent(1), which is part of
//! the C library's package on every system, and whose output is a pipe in the poll set. A
//! forked copy of the daemon would keep all its descriptors open meanwhile, and the daemon
//! has one thread.
//!
//! Numeric addresses need none of this. Where getent is missing, as in most
//! chroots, only they can be used.
//!
//! Must not: leave a child behind; see [`Subprocess`].

use crate::sys::proc::subprocess::Subprocess;
use crate::sys::reason;
use crate::wire::parse_addresses;
use std::ffi::CString;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};

/// The most that is read of an answer; dozens of addresses.
const MAX_ANSWER_BYTES: usize = 4096;

/// The address that `host` is, if it is one; no server is asked.
pub(crate) fn numeric(host: &str, port: u16) -> Option<SocketAddr> {
    match host.parse::<IpAddr>() {
        Ok(ip) => Some(SocketAddr::new(ip, port)),
        // One of IPv6 with a zone; names have no colon. No server is asked.
        Err(_) if host.contains(':') => (host, port).to_socket_addrs().ok()?.next(),
        Err(_) => None,
    }
}

/// A lookup on its way.
#[derive(Debug)]
pub(crate) struct Lookup {
    answer: Subprocess,
    text: Vec<u8>,
}

impl Lookup {
    /// Asks for the addresses of `host`, a well-formed name.
    ///
    /// # Errors
    /// When getent cannot be run.
    pub(crate) fn start(host: &str) -> io::Result<Lookup> {
        let answer =
            Subprocess::of([c"getent", c"ahosts", &CString::new(host)?]).map_err(|error| {
                io::Error::new(error.kind(), format!("run getent: {}", reason(&error)))
            })?;
        let text = Vec::new();
        Ok(Lookup { answer, text })
    }

    /// Reads once, when there is something to read. Returns the addresses, maybe none, when
    /// that was all.
    pub(crate) fn read(&mut self) -> Option<Vec<IpAddr>> {
        let mut bytes = [0; MAX_ANSWER_BYTES];
        let room = MAX_ANSWER_BYTES - self.text.len();
        match self.answer.read(&mut bytes[..room]) {
            Ok(0) => {}
            Ok(count) => {
                self.text.extend_from_slice(&bytes[..count]);
                return None;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return None,
            Err(_) => {}
        }
        Some(parse_addresses(&self.text))
    }
}

impl AsFd for Lookup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.answer.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numeric_addresses_ask_no_server() {
        assert_eq!(numeric("::1", 7).unwrap().to_string(), "[::1]:7");
        assert_eq!(numeric("10.0.0.1", 7).unwrap().to_string(), "10.0.0.1:7");
        let zoned = numeric("fe80::1%1", 7).unwrap();
        assert!(matches!(zoned, SocketAddr::V6(address) if address.scope_id() == 1));
        assert_eq!(numeric("localhost", 7), None);
    }
}
