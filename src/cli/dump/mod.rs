//! `dump`: rows from servers or a saved dump, to standard output.
//!
//! | module | what it is |
//! |---|---|
//! | `output` | columns chosen, rows sorted, counted and printed |
//! | `saved` | a dump read from a file |
//! | `diff` | rows compared with those of a saved dump |
//!
//! All servers are asked before the first is read, so that their answers are of
//! about the same time; then they are read one after the other. One that fails
//! is reported on standard error, and the others are still listed.
//!
//! A row with more or fewer fields than the header loses the former and gets
//! empty ones for the latter. (doveadm lets such a row shift all that follow.)

mod diff;
mod output;
mod saved;

use super::args::filter::{self, OwnTerm};
use super::args::{DumpOptions, Source};
use super::server::{
    choose, export_request, foreign, is_ours, silence, Address, Connection, Event, ReplyParser,
    CONNECT_TIMEOUT, LEVEL_UNKNOWN, READ_TIMEOUT, SERVICE_UNKNOWN,
};
use crate::cli::warn;
use crate::config::Fatal;
use crate::store::Level;
use diff::Diff;
use output::Output;
use saved::Saved;
use std::io::{self, IsTerminal, Write};

/// What a terminal is cleared by, before a dump is repeated.
const CLEAR: &[u8] = b"\x1b[H\x1b[2J";

/// Prints what the options ask for, once or again and again.
pub(super) fn run(options: &DumpOptions) -> Result<(), Fatal> {
    let is_terminal = io::stdout().is_terminal();
    let servers = match &options.source {
        Source::Servers(level, filters) => {
            if let Some(why) = filter::warning(*level, filters) {
                warn(&why);
            }
            choose(&options.servers)?
        }
        Source::File(_) => Vec::new(),
    };
    let mut before: &[u8] = b"";
    if options.watch.is_some() && is_terminal {
        before = CLEAR;
    }
    loop {
        let result = round(options, &servers, is_terminal, before);
        let interval = match (options.watch, result) {
            // A server that is away may come back.
            (Some(interval), Ok(()) | Err(Fatal::Reported)) => interval,
            (_, result) => return result,
        };
        if !is_terminal {
            before = options.format.between();
        }
        std::thread::sleep(interval);
    }
}

/// Prints once, behind the bytes `before`.
fn round(
    options: &DumpOptions,
    servers: &[Address],
    is_terminal: bool,
    before: &[u8],
) -> Result<(), Fatal> {
    let mut stdout = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
    stdout.write_all(before).map_err(Fatal::output)?;
    let diff = match &options.since {
        Some(path) => Some(Diff::since(Saved::open(path)?)?),
        None => None,
    };
    let mut pipe = Pipe {
        names: Vec::new(),
        places: Vec::new(),
        term: None,
        diff,
        out: Output::new(options, stdout, is_terminal),
    };
    let all_came = match &options.source {
        Source::Servers(level, filters) => {
            pipe.term = OwnTerm::of(*level, filters);
            ask(servers, *level, filters, &mut pipe)?
        }
        Source::File(path) => {
            let mut saved = Saved::open(path)?;
            pipe.header(&saved.names)?;
            while let Some(fields) = saved.next()? {
                let fields: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
                if !pipe.row(&fields)? {
                    break;
                }
            }
            true
        }
    };
    // Of what a server that failed has, nothing is known to be gone.
    if let (Some(diff), true) = (&mut pipe.diff, all_came) {
        diff.finish(&mut pipe.out)?;
    }
    let had_header = pipe.out.end(all_came)?;
    if !had_header && all_came {
        warn("no statistics available");
    }
    match all_came {
        true => Ok(()),
        false => Err(Fatal::Reported),
    }
}

struct Pipe<'a> {
    /// The columns: those of the first header.
    names: Vec<String>,
    /// Where each is in the rows that come now.
    places: Vec<Option<usize>>,
    /// What rows must fit: Dovecot's own server lists them all.
    term: Option<OwnTerm>,
    /// What they are compared with.
    diff: Option<Diff>,
    out: Output<'a>,
}

impl Pipe<'_> {
    /// Takes the header of the rows that follow. Another server may have other
    /// columns than the first: they are put into its order.
    fn header(&mut self, names: &[String]) -> Result<(), Fatal> {
        if self.names.is_empty() && !names.is_empty() {
            self.names = names.to_vec();
            match &mut self.diff {
                Some(diff) => diff.header(names, &mut self.out)?,
                None => self.out.header(names)?,
            }
        }
        let place = |name| names.iter().position(|other| other == name);
        self.places = self.names.iter().map(place).collect();
        Ok(())
    }

    /// Takes a row; false when no more are wanted.
    fn row(&mut self, fields: &[&[u8]]) -> Result<bool, Fatal> {
        let field = |place: &Option<usize>| fields.get((*place)?).copied();
        let places = self.places.iter();
        let fields: Vec<&[u8]> = places.map(|place| field(place).unwrap_or(b"")).collect();
        if let Some(term) = &self.term {
            let at = self.names.iter().position(|name| name == term.column);
            if at.is_some_and(|at| !term.fits(fields[at])) {
                return Ok(true);
            }
        }
        match &mut self.diff {
            Some(diff) => diff.row(&fields, &mut self.out),
            None => self.out.row(&fields),
        }
    }
}

/// Asks all servers; false when one failed.
fn ask(
    servers: &[Address],
    level: Level,
    filters: &[Vec<u8>],
    pipe: &mut Pipe,
) -> Result<bool, Fatal> {
    let request = export_request(level, filters);
    let must_know = filter::must_know_service(level, filters);
    let connect = |address: &Address| {
        if must_know && !address.knows_service()? {
            return Err(io::Error::other(SERVICE_UNKNOWN));
        }
        let mut connection = address.connect(CONNECT_TIMEOUT)?;
        connection.set_timeout(READ_TIMEOUT)?;
        connection.send(&request)?;
        Ok(connection)
    };
    let connections: Vec<io::Result<Connection>> = servers.iter().map(connect).collect();
    let several = servers.len() > 1;
    let mut all_came = true;
    for (address, connection) in servers.iter().zip(connections) {
        let host = several.then(|| address.to_string());
        let result = match connection {
            Ok(connection) => read_reply(connection, level, host.as_deref(), pipe)?,
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            warn(&format!("{address}: {}", address.explain(&error)));
            all_came = false;
        }
    }
    Ok(all_came)
}

/// Reads one server's reply. The inner result is the server's failure, the
/// outer one ours.
fn read_reply(
    mut connection: Connection,
    level: Level,
    host: Option<&str>,
    pipe: &mut Pipe,
) -> Result<io::Result<()>, Fatal> {
    let mut parser = ReplyParser::default();
    let mut has_header = false;
    let cut = |text: String| Ok(Err(io::Error::other(text)));
    loop {
        match parser.next() {
            Ok(Some(Event::Header(names))) => {
                if let Some(why) = foreign(level, &names) {
                    return cut(why);
                }
                has_header = true;
                let own = host.map(|_| "host".to_owned());
                pipe.header(&own.into_iter().chain(names).collect::<Vec<_>>())?;
            }
            Ok(Some(Event::Row(row))) => {
                let own = host.map(str::as_bytes);
                let fields: Vec<&[u8]> = own.into_iter().chain(row.fields()).collect();
                if !pipe.row(&fields)? {
                    return Ok(Ok(()));
                }
            }
            Ok(Some(Event::End | Event::Nothing)) => return Ok(Ok(())),
            Ok(None) => match connection.fill(&mut parser) {
                Ok(0) if has_header => return cut("disconnected within its reply".to_owned()),
                Ok(0) if is_ours(level) => return cut(LEVEL_UNKNOWN.to_owned()),
                Ok(0) => return Ok(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(error) if has_header && error.kind() == io::ErrorKind::WouldBlock => {
                    return cut(silence(true));
                }
                Err(error) => return Ok(Err(error)),
            },
            Err(error) => return Ok(Err(error)),
        }
    }
}
