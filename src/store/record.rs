//! What a mail process reports, once read and found sound: the store's input.

use crate::stats::Report;
use std::net::IpAddr;
use std::num::NonZeroU32;

/// One record. Texts are the bytes the writer meant, without escapes. It refers
/// to the line it was parsed from, so that it is cheap to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    Connect {
        session: &'a [u8],
        user: &'a [u8],
        /// The kind of server: `imap`, `pop3`, `lmtp`...
        service: &'a [u8],
        pid: u32,
        ip: Option<IpAddr>,
    },
    /// A session's totals so far.
    UpdateSession {
        session: &'a [u8],
        report: &'a Report,
    },
    /// A command's totals so far.
    UpdateCommand {
        /// The id of its session.
        session: &'a [u8],
        /// The command, and its totals.
        update: CommandUpdate<'a>,
    },
    /// Something to add to a user.
    AddUser {
        user: &'a [u8],
        /// The kind of server that the user logged in to.
        service: &'a [u8],
        /// The client's address, if the writer knows it.
        ip: Option<IpAddr>,
        /// The difference.
        report: &'a Report,
    },
    Disconnect {
        session: &'a [u8],
    },
}

impl<'a> Record<'a> {
    /// The id of the session it is about, or the user's name.
    pub fn subject(&self) -> &'a [u8] {
        match *self {
            Record::Connect { session, .. }
            | Record::UpdateSession { session, .. }
            | Record::UpdateCommand { session, .. }
            | Record::Disconnect { session } => session,
            Record::AddUser { user, .. } => user,
        }
    }

    pub fn ip(&self) -> Option<IpAddr> {
        match *self {
            Record::Connect { ip, .. } | Record::AddUser { ip, .. } => ip,
            _ => None,
        }
    }

    /// Length of the longest texts that an entry would keep of it.
    pub fn text_bytes(&self) -> usize {
        match *self {
            Record::Connect {
                session,
                user,
                service,
                ..
            } => user.len().max(session.len() + service.len()),
            Record::UpdateCommand { session, update } => {
                let (name, args) = update.begins.unwrap_or_default();
                session.len().max(name.len() + args.len())
            }
            Record::UpdateSession { session, .. } | Record::Disconnect { session } => session.len(),
            Record::AddUser { user, .. } => user.len(),
        }
    }
}

/// A command's totals so far, and how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandUpdate<'a> {
    /// Its number within the session.
    pub number: NonZeroU32,
    /// Name and arguments when this is the command's first record.
    pub begins: Option<(&'a [u8], &'a [u8])>,
    /// Whether it is the last.
    pub done: bool,
    pub report: &'a Report,
}

/// What was remarkable about a record. All but the last
/// five mean that the record changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// A CONNECT with the id of a session that is connected.
    DuplicateSession,
    /// A text is longer than [`MAX_TEXT_BYTES`](super::MAX_TEXT_BYTES).
    TooLong,
    /// A command begins with the number of one that is not over.
    DuplicateCommand,
    /// An UPDATE or DISCONNECT of a session that is disconnected.
    Disconnected,
    /// A DISCONNECT of a session that is not known.
    UnknownSession,
    /// There is no room for the session that an UPDATE is about. A command that begins is
    /// counted, at user and address if they are remembered; totals cannot be.
    Untracked,
    /// A command goes on that is not known (any more); its session is refreshed.
    UnknownCommand,
    /// A total shrank and is the base of what follows.
    Shrank,
    /// An UPDATE of a session that is not known: a placeholder was made.
    Placeholder,
    /// No room for a new entry or a larger number, and nothing to free: the
    /// levels above were counted, or will be with a later total. Where room was made by
    /// freeing a session, a user, domain or ip may lack what that one counted.
    NoRoom,
}
