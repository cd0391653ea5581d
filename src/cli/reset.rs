//! The global totals cleared, on every server given.

use super::fatal::{warn, Fatal};
use super::server::{Address, CONNECT_TIMEOUT};
use std::io;

/// What answers RESET.
const DONE: &[u8] = b"OK\n";

/// Clears the totals of all servers; one that fails does not spare the others.
pub fn run(servers: &[Address]) -> Result<(), Fatal> {
    let mut failed = false;
    for address in servers {
        if let Err(error) = reset(address) {
            warn(&format!("{address}: {error}"));
            failed = true;
        }
    }
    match failed {
        true => Err(Fatal::Told),
        false => {
            warn("stats reset");
            Ok(())
        }
    }
}

/// Clears the totals of one server.
fn reset(address: &Address) -> io::Result<()> {
    let mut connection = address.connect(CONNECT_TIMEOUT)?;
    connection.send(b"RESET\n")?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\n") && answer.len() < DONE.len() {
        if connection.read(&mut answer)? == 0 {
            return Err(io::Error::other("reset refused, or disconnected"));
        }
    }
    match answer == DONE {
        true => Ok(()),
        false => Err(io::Error::other("unexpected answer to RESET")),
    }
}
