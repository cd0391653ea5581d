//! Whom processes are connected to: the sockets among their open files, and the addresses
//! at the other ends of these.
//!
//! With TLS a mail process has one end of a socketpair only: nothing is found.
//!
//! Must not: fail. A process may end at any moment, and its files with it.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The addresses at the other ends of TCP sockets that these processes have open. The
/// processes of Dovecot have one network: the tables of one of them serve for all.
pub(super) fn peers(pids: &[u32]) -> Vec<(u32, SocketAddr)> {
    let mut owners: HashMap<Vec<u8>, u32> = HashMap::new();
    for &pid in pids {
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            continue;
        };
        for file in files.flatten() {
            let link = fs::read_link(file.path()).unwrap_or_default();
            let link = link.to_str().unwrap_or_default();
            let inode = link.strip_prefix("socket:[");
            if let Some(inode) = inode.and_then(|inode| inode.strip_suffix(']')) {
                owners.insert(inode.into(), pid);
            }
        }
    }
    let mut found = Vec::new();
    for name in ["tcp", "tcp6"] {
        let read = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/net/{name}")).ok();
        let table = pids.iter().find_map(read).unwrap_or_default();
        for (peer, inode) in table.lines().filter_map(peer) {
            if let Some(&pid) = owners.get(inode.as_bytes()) {
                found.push((pid, peer));
            }
        }
    }
    found
}

/// A row of /proc/PID/net/tcp or tcp6: the other end's address, and the socket's inode.
/// Source: proc_net_tcp in the documentation of Linux. Of an address each 32-bit word is
/// written as this machine reads it: little-endian ones backwards.
fn peer(row: &str) -> Option<(SocketAddr, &str)> {
    let mut fields = row.split_ascii_whitespace();
    let (digits, port) = fields.nth(2)?.split_once(':')?;
    let inode = fields.nth(6)?;
    let port = u16::from_str_radix(port, 16).ok();
    let mut bytes = [0; 16];
    for (bytes, at) in bytes.chunks_exact_mut(4).zip((0..digits.len()).step_by(8)) {
        let word = u32::from_str_radix(digits.get(at..at + 8)?, 16).ok()?;
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    let ip = match digits.len() {
        8 => IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]]),
        32 => Ipv6Addr::from(bytes).to_canonical(),
        _ => return None,
    };
    // A socket that listens has no other end.
    let port = port.filter(|&port| port != 0)?;
    Some((SocketAddr::new(ip, port), inode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    #[cfg(target_endian = "little")]
    fn rows_of_the_tables_are_taken_apart() {
        let rest = "00000000:00000000 00:00000000 00000000     0        0";
        let row = |remote: &str, state: &str| {
            let local = "0100007F:567F";
            let row = format!("   1: {local} {remote} {state} {rest} 98765 1 0 20 4 30 10 -1");
            peer(&row).map(|(peer, inode)| format!("{peer} {inode}"))
        };
        let v4 = row("0102000A:ED4A", "01");
        assert_eq!(v4.as_deref(), Some("10.0.2.1:60746 98765"));
        let v6 = row("B80D0120000000000000000001000000:0001", "01");
        assert_eq!(v6.as_deref(), Some("[2001:db8::1]:1 98765"));
        let mapped = row("0000000000000000FFFF00000102000A:FFFF", "01");
        assert_eq!(mapped.as_deref(), Some("10.0.2.1:65535 98765"));
        for none in [
            "00000000:0000",
            "0102000A",
            "0102000:ED4A",
            "0102000A0102000A:ED4A",
            "0102000X:ED4A",
            "0102000A:1ED4A",
            "B80D012000000000000000000100000\u{e9}:0001",
            "",
        ] {
            assert_eq!(row(none, "0A"), None, "{none}");
        }
        assert_eq!(peer("  sl  local_address rem_address   st tx_queue"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_is_found_to_have_its_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_server, address) = listener.accept().unwrap();
        assert_eq!(address, client.local_addr().unwrap());
        // A process that is gone has no tables.
        let pid = std::process::id();
        let found = peers(&[u32::MAX, pid]);
        assert!(found.contains(&(pid, address)), "{found:?}");
    }
}
