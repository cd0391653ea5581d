//! The global totals cleared, on every server given.

use super::server::{choose, foreign, Address, Event, ReplyParser, CONNECT_TIMEOUT};
use crate::cli::warn;
use crate::config::Fatal;
use crate::store::Level;
use std::io;

/// Why a server closes the connection in place of an answer.
const REFUSED: &str = "RESET refused: the listener there has reset = no, \
                       as an inet_listener has by default; see dovestatd.conf(5)";

/// Clears the totals of all servers; one that fails does not spare the others.
pub(super) fn run(servers: &[Address]) -> Result<(), Fatal> {
    let mut failed = false;
    for address in &choose(servers)? {
        if let Err(error) = reset(address) {
            warn(&format!("{address}: {}", address.explain(&error)));
            failed = true;
        }
    }
    match failed {
        true => Err(Fatal::Reported),
        false => {
            warn("stats reset");
            Ok(())
        }
    }
}

/// Clears the totals of one server.
fn reset(address: &Address) -> io::Result<()> {
    let mut connection = address.connect(CONNECT_TIMEOUT)?;
    connection.ask(b"RESET\n")?;
    let mut parser = ReplyParser::default();
    loop {
        match parser.next()? {
            Some(Event::Header(names)) if names == ["OK"] => return Ok(()),
            Some(Event::Header(names)) => {
                let why = foreign(Level::Global, &names);
                let why = why.unwrap_or_else(|| "statistics in answer to RESET".to_owned());
                return Err(io::Error::other(why));
            }
            Some(_) => return Err(io::Error::other("an empty line in answer to RESET")),
            None => match connection.fill(&mut parser) {
                Ok(0) => return Err(io::Error::other(REFUSED)),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(io::Error::other(REFUSED));
                }
                Ok(_) => {}
                Err(error) => return Err(error),
            },
        }
    }
}
